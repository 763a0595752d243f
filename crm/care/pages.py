"""The page on which somebody answers a survey, on a phone, without signing in; it works without a script."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crm.care.invitations import COMMENT_LENGTH_MAX, LOCALE, Asked

_TEMPLATE: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
).get_template("survey.html")  # fmt: skip
_WIDE_FROM: Final = 8

_WORDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "en": {
        "csat": ("Not at all satisfied", "Very satisfied"), "ces": ("Strongly disagree", "Strongly agree"),
        "nps": ("Not at all likely", "Extremely likely"), "rating": ("Poor", "Excellent"),
        "comment": "Would you like to tell us why?", "send": "Send", "change": "Change my answer",
        "thanks": "Thank you. Your answer was noted; you can still change it.",
        "choose": "Please choose one of the numbers.", "until": "You can answer until",
        "gone": "There is nothing to answer here",
        "expired": "This survey has ended. Thank you all the same.",
        "unknown": "This link leads nowhere. Is it complete?",
    },
    "id": {
        "csat": ("Sangat tidak puas", "Sangat puas"), "ces": ("Sangat tidak setuju", "Sangat setuju"),
        "nps": ("Sangat tidak mungkin", "Sangat mungkin"), "rating": ("Kurang", "Sangat baik"),
        "comment": "Mau ceritakan alasannya?", "send": "Kirim", "change": "Ubah jawaban saya",
        "thanks": "Terima kasih. Jawaban Anda sudah kami catat dan masih bisa diubah.",
        "choose": "Silakan pilih salah satu angka.", "until": "Anda bisa menjawab sampai",
        "gone": "Tidak ada yang perlu dijawab di sini",
        "expired": "Survei ini sudah berakhir. Terima kasih.",
        "unknown": "Tautan ini tidak menuju ke mana pun. Apakah sudah lengkap?",
    },
}  # fmt: skip


def question(asked: Asked, *, thanked: bool = False, wrong: bool = False) -> str:
    """The question, with the answer that was given before if there is one."""
    invitation = asked.invitation
    count = asked.high - asked.low + 1
    return _TEMPLATE.render(
        language=invitation.locale, say=_words(invitation.locale), question=asked.question, kind=invitation.kind,
        low=asked.low, high=asked.high, score=invitation.score, comment=invitation.comment, thanked=thanked,
        wrong=wrong, until=f"{invitation.expires_at:%Y-%m-%d}", comment_max=COMMENT_LENGTH_MAX,
        columns=count if count < _WIDE_FROM else (count + 1) // 2,
    )  # fmt: skip


def gone(reason: str, *, locale: str = LOCALE) -> str:
    """Instead of a question: why there is none, `expired` or `unknown`."""
    say = _words(locale)
    return _TEMPLATE.render(language=locale, say=say, question=None, gone=say[reason], columns=1)


def _words(locale: str) -> Mapping[str, Any]:
    return _WORDS.get(locale, _WORDS["en"])
