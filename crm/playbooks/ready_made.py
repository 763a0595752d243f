"""Playbooks that are ready-made: definitions to begin with, which whoever makes one of them may change at will. Pure.

What customers read is worded in Indonesian and English, and goes in their language; what staff read is in the language
in which the playbook is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Language: TypeAlias = Literal["id", "en"]
Key: TypeAlias = Literal[
    "welcome", "birthday", "points_expiring", "tier_reached", "win_back", "detractor_follow_up", "promoter_referral",
    "nth_visit",
]  # fmt: skip

CHANNELS: Final = ("whatsapp", "email")
DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Words:
    """What staff see of it, in one language."""

    name: str
    description: str


@dataclass(slots=True)
class PlaybookTemplate:
    """A ready-made playbook: `definition` is what one that is made of it begins with, in this language."""

    key: Key
    language: Language
    name: str
    description: str
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Ready:
    words: Mapping[Language, Words]
    definition: Callable[[Language], dict[str, Any]]


def template(key: Key, language: Language) -> PlaybookTemplate:
    """One of them."""
    ready = _ALL[key]
    words = ready.words[language]
    return PlaybookTemplate(key, language, words.name, words.description, ready.definition(language))


def all_in(language: Language) -> list[PlaybookTemplate]:
    """All of them, in the order of a customer's life."""
    return [template(key, language) for key in _ALL]


def _message(indonesian: str, english: str, *, purpose: str = "marketing") -> dict[str, Any]:
    subjects = {"id": "Kabar untuk {{ contact.greeting }}", "en": "News for you, {{ contact.given_name }}"}
    return {
        "kind": "message", "channels": list(CHANNELS), "purpose": purpose, "texts": {"id": indonesian, "en": english},
        "subjects": subjects,
    }  # fmt: skip


def _welcome(_: Language) -> dict[str, Any]:
    # Whoever was imported has been a customer before.
    new = {"field": "data.import_id", "op": "exists", "value": False}
    return {
        "trigger": {"kind": "interaction", "interaction": "contact.created", "where": new},
        "cap": {"runs_max": 1, "days": 3650},
        "steps": [
            _message(
                "Halo {{ contact.greeting }}, selamat datang! Senang berkenalan. Balas pesan ini bila perlu bantuan.",
                "Hello {{ contact.given_name }}, and welcome! It is good to meet you. Answer this message whenever "
                "we can help.",
            )
        ],
    }  # fmt: skip


def _birthday(language: Language) -> dict[str, Any]:
    return {
        "trigger": {"kind": "date", "date": "birthday"},
        "cap": {"runs_max": 1, "days": 300},
        "steps": [
            {"kind": "points", "points": 50, "reason": {"id": "ulang tahun", "en": "birthday"}[language]},
            _message(
                "Selamat ulang tahun, {{ contact.greeting }}! Ada 50 poin hadiah dari kami, poin Kakak sekarang {{ "
                "loyalty.points }}.",
                "Happy birthday, {{ contact.given_name }}! We have given you 50 points: you have {{ loyalty.points "
                "}} now.",
            ),
        ],
    }


def _points_expiring(_: Language) -> dict[str, Any]:
    return {
        "trigger": {"kind": "points_expiring", "days": 14, "points_min": 1},
        "cap": {"runs_max": 1, "days": 7},
        "steps": [
            _message(
                "{{ contact.greeting }}, {{ expiring_points }} poin Kakak akan hangus pada {{ expires_on }}. Yuk, "
                "tukarkan dulu!",
                "{{ contact.given_name }}, {{ expiring_points }} of your points end on {{ expires_on }}. Spend them "
                "while they last!",
                purpose="service",
            )
        ],
    }


def _tier_reached(_: Language) -> dict[str, Any]:
    return {
        "trigger": {"kind": "tier", "change": "reached"},
        "cap": {"runs_max": 1, "days": 30},
        "steps": [
            _message(
                "Selamat, {{ contact.greeting }}! Kakak sekarang anggota {{ loyalty.tier }}. Terima kasih sudah "
                "setia bersama kami.",
                "Congratulations, {{ contact.given_name }}! You are {{ loyalty.tier }} now. Thank you for staying "
                "with us.",
            )
        ],
    }


def _win_back(language: Language) -> dict[str, Any]:
    return {
        "trigger": {"kind": "inactivity", "days": 60, "interactions": ["purchase"]},
        "cap": {"runs_max": 1, "days": 90},
        "stop": {"interactions": ["purchase"]},
        "steps": [
            _message(
                "{{ contact.greeting }}, lama tidak bertemu! Ada yang bisa kami bantu?",
                "{{ contact.given_name }}, we have not seen you for a while! Is there anything we can do for you?",
            ),
            {"kind": "wait", "seconds": 7 * DAY},
            {"kind": "points", "points": 25, "reason": {"id": "kami rindu", "en": "we miss you"}[language]},
            _message(
                "Kami rindu {{ contact.greeting }}: ada 25 poin untuk kunjungan berikutnya. Sampai jumpa!",
                "We miss you, {{ contact.given_name }}: here are 25 points for your next visit. See you soon!",
            ),
        ],
    }  # fmt: skip


def _of_nps(feeling: str) -> dict[str, Any]:
    where = {
        "all": [
            {"field": "data.kind", "op": "eq", "value": "nps"},
            {"field": "data.feeling", "op": "eq", "value": feeling},
        ]
    }  # fmt: skip
    return {"kind": "interaction", "interaction": "survey.answered", "where": where}


def _detractor(language: Language) -> dict[str, Any]:
    titles = {"id": "Hubungi pelanggan yang kecewa", "en": "Call a customer who is disappointed"}
    notes = {
        "id": "Nilai NPS 0 sampai 6. Dengarkan dulu, lalu tawarkan jalan keluar; jawabannya ada di linimasa.",
        "en": "An NPS of 0 to 6. Listen first, then offer a way out; what was said stands on the timeline.",
    }
    return {
        "trigger": _of_nps("bad"),
        "steps": [{"kind": "task", "title": titles[language], "note": notes[language], "due_days": 1}],
    }


def _promoter(_: Language) -> dict[str, Any]:
    return {
        "trigger": _of_nps("good"),
        "cap": {"runs_max": 1, "days": 180},
        "steps": [
            _message(
                "Terima kasih, {{ contact.greeting }}! Ajak teman dengan kode {{ referral_code }}: kalian berdua "
                "dapat poin.",
                "Thank you, {{ contact.given_name }}! Bring a friend with the code {{ referral_code }}: points for "
                "both of you.",
            )
        ],
    }


def _nth_visit(language: Language) -> dict[str, Any]:
    return {
        "trigger": {"kind": "interaction", "interaction": "purchase"},
        "condition": {"did": "purchase", "count": {"eq": 5}},
        "cap": {"runs_max": 1, "days": 3650},
        "steps": [
            {"kind": "points", "points": 20, "reason": {"id": "kunjungan ke-5", "en": "fifth visit"}[language]},
            _message(
                "Ini kunjungan kelima {{ contact.greeting }}. Terima kasih! Ada 20 poin tambahan dari kami.",
                "That was your fifth visit, {{ contact.given_name }}. Thank you! Here are 20 points more.",
            ),
        ],
    }


_ALL: Final[Mapping[Key, _Ready]] = {
    "welcome": _Ready(
        {
            "id": Words("Selamat datang", "Menyapa pelanggan baru."),
            "en": Words("Welcome", "Greets a new customer."),
        },
        _welcome,
    ),
    "birthday": _Ready(
        {
            "id": Words("Ulang tahun", "Poin dan ucapan pada hari ulang tahun."),
            "en": Words("Birthday", "Points and a greeting on the day."),
        },
        _birthday,
    ),
    "points_expiring": _Ready(
        {
            "id": Words("Poin akan hangus", "Mengingatkan dua minggu sebelum poin hangus."),
            "en": Words("Points that end", "Reminds two weeks before points end."),
        },
        _points_expiring,
    ),
    "tier_reached": _Ready(
        {
            "id": Words("Naik tingkat", "Mengucapkan selamat atas tingkat baru."),
            "en": Words("Tier reached", "Congratulates on a new tier."),
        },
        _tier_reached,
    ),
    "win_back": _Ready(
        {
            "id": Words("Ajak kembali", "Menyapa setelah 60 hari tanpa belanja, lalu memberi poin."),
            "en": Words("Win back", "Asks after 60 days without a purchase, and gives points a week later."),
        },
        _win_back,
    ),
    "detractor_follow_up": _Ready(
        {
            "id": Words("Tindak lanjut pelanggan kecewa", "Tugas untuk menghubungi setelah nilai NPS rendah."),
            "en": Words("Detractor follow-up", "A task to call whoever gave a low NPS."),
        },
        _detractor,
    ),
    "promoter_referral": _Ready(
        {
            "id": Words("Ajak teman", "Mengirim kode referral setelah nilai NPS tinggi."),
            "en": Words("Promoter referral", "Sends a referral code after a high NPS."),
        },
        _promoter,
    ),
    "nth_visit": _Ready(
        {
            "id": Words("Kunjungan kelima", "Berterima kasih setelah kunjungan kelima."),
            "en": Words("Fifth visit", "Says thank you after the fifth visit."),
        },
        _nth_visit,
    ),
}
