"""Words of questions and texts: without case and accents, and which of them say nothing. Pure."""

import re
import unicodedata
from typing import Final

ASKED_MAX: Final = 8
"""How many words of a question are looked for."""
TERMS_MAX: Final = 3_000
_TERM_LENGTHS: Final = range(3, 31)
_WORD: Final = re.compile(r"\w+")
_FOLDED: Final = str.maketrans("đøłς", "dol\u03c3")

_INDONESIAN: Final = """
    ada adalah adanya agar aja akan aku anda apa apakah atau bagaimana bagi bahwa banget bila bisa biar boleh buat
    bukan cara dalam dan dapat dari deh dengan di dong dgn gak gimana gmn ga hal hanya harus hai halo ini itu jadi
    jika juga kah kak kalau kalo kami kamu kan kapan karena ke kenapa kita ko kok ku lagi lah lalu loh maka mana
    mau melakukan mengapa min minta mohon nggak nih nya oleh pada para per pernah pun punya saja sama sangat saya
    secara sedang seperti serta siapa sih si sudah supaya tapi tak tanpa tanya tentang tersebut tetapi tidak tolong
    udah untuk utk ya yaitu yang yg
"""
_ENGLISH: Final = """
    a about am an and any are as at be been but by can could d did do does don for from get got had has have hello
    hey hi how i if in into is it its just let like ll m many may me might much my no not of on or our please re s
    shall should so some t tell than that the their them then there these they this to us ve was we were what when
    where which who why will with would you your
"""
_EMPTY: Final = {"id": frozenset(_INDONESIAN.split()), "en": frozenset(_ENGLISH.split())}
"""Words that questions in these languages are full of, and that say nothing of what they are about."""
_NOTHING: Final = frozenset().union(*_EMPTY.values())


def folded(text: str) -> str:
    """Without case and accents, as `folded` in the database does it."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(each for each in apart if not "\u0300" <= each <= "\u036f").lower().translate(_FOLDED)


def words(text: str) -> list[str]:
    """Its words in order, folded."""
    return _WORD.findall(folded(text).replace("_", " "))


def asked(text: str) -> list[str]:
    """The first few different words of a question that say what it is about; none where it has no such words."""
    found = list(dict.fromkeys(word[: _TERM_LENGTHS.stop] for word in words(text)))
    return [word for word in found if word not in _NOTHING and len(word) > 1][:ASKED_MAX]


def terms(text: str) -> list[str]:
    """The different words of a text that somebody may misspell."""
    found = dict.fromkeys(word for word in words(text) if len(word) in _TERM_LENGTHS and not word.isdigit())
    return list(found)[:TERMS_MAX]


def language(text: str) -> str | None:
    """`id` or `en`, by the words that say nothing else; None where they don't tell."""
    said = words(text)
    counts = {code: sum(word in known for word in said) for code, known in _EMPTY.items()}
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] > min(counts.values()) else None
