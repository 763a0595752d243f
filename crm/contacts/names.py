"""Names as people spell them: without titles, by how they sound, in whatever order their parts stand. Pure.

Made for the names of Indonesia: the spellings of before 1972 (Soerjadi, Djoko, Tjahjono), Arabic names in Latin letters
(Muhammad, Moch., Rachmat), doubled letters and silent h, a first name that is all there is.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from rapidfuzz.distance import OSA

from crm.contacts.search import folded

BITS_MAX: Final = 12.0
"""More than this no name weighs: whole families share names of four parts."""
BITS_MIN: Final = -4.0
"""Nor less: people are written down by a nickname, and marry."""

_RARE: Final = 5.5
_COMMON: Final = 3.5
_BY_SOUND: Final = 0.5
"""What a part that only sounds the same weighs less."""
_NEARLY: Final = 0.65
"""What is left of a part's weight where a letter differs."""
_INITIAL: Final = 1.0
_MISSING: Final = 0.5
_CONTRADICTED: Final = 4.0
_JOINED: Final = 7.0
_SHORT: Final = 4
"""Shorter words are others where a letter differs."""
_LONG: Final = 8

_WORD: Final = re.compile(r"[^\W_]+")
_LETTER: Final = re.compile(r"[^\W\d_]")
_BRACKETS: Final = re.compile(r"\([^)]*\)")
_MARKS: Final = re.compile(r"['\u2018\u2019\u02bc`]")
_DOUBLED: Final = re.compile(r"(.)\1+")
_MUHAMMAD: Final = re.compile(r"m[ou](?:c?h|kh)am+[aeo]d\Z")
_MUHAMMAD_SHORT: Final = frozenset({"moh", "muh", "mohd", "muhd", "mhd", "moch", "much", "mochd"})
_PARTICLES: Final = frozenset({"bin", "binti", "al", "el", "van", "de"})
_TITLES: Final = frozenset({
    "h", "hj", "haji", "hajjah", "hajah", "kh", "ustad", "ustadz", "bapak", "bpk", "pak", "ibu", "bu", "sdr", "sdri",
    "saudara", "saudari", "tn", "tuan", "ny", "nyonya", "nn", "nona", "kak", "mas", "mbak", "mba", "bang", "dr", "drg",
    "drh", "drs", "dra", "ir", "prof", "mr", "mrs", "ms", "miss",
})  # fmt: skip
_DEGREES: Final = frozenset({
    "amd", "ak", "ba", "bsc", "ca", "cpa", "ma", "mba", "md", "mkom", "mm", "mpd", "msc", "msi", "mt", "phd", "se",
    "sh", "skm", "skom", "sos", "sp", "spd", "spsi", "ssi", "ssos", "st", "sth", "stp",
})  # fmt: skip
_DEGREE_LENGTH_MAX: Final = 4
# In this order: what comes from an older or foreign spelling is first brought to today's.
_SOUNDS: Final = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        ("oe", "u"), ("ie", "i"), ("dj", "j"), ("tj", "c"), ("nj", "ny"), ("s[jyh]", "s"), ("chr", "kr"),
        ("[kc]h", "h"), ("ph", "f"), ("([bdgt])h", r"\1"), ("ck|q", "k"), ("x", "ks"), ("v", "f"), ("z", "s"),
        ("(?<!^)y", "i"),
    )
)  # fmt: skip


class Part(NamedTuple):
    """One part of a name, as it is written, and as it sounds."""

    written: str
    sound: str


class Name(NamedTuple):
    """The parts of a name, in the order in which they were written; none where nothing is known of it."""

    parts: tuple[Part, ...]

    @property
    def key(self) -> str:
        """The same for names that sound the same, whatever their order."""
        return " ".join(sorted(part.sound for part in self.parts))


class Evidence(NamedTuple):
    """Something that speaks for two records being one person's, or, with `bits` below zero, against it."""

    bits: float
    code: str
    text: str


def sound(word: str) -> str:
    """How a folded word sounds, so that spellings of one name are one text."""
    if word in _MUHAMMAD_SHORT or _MUHAMMAD.match(word):
        return "muhamad"
    for pattern, becomes in _SOUNDS:
        word = pattern.sub(becomes, word)
    word = _DOUBLED.sub(r"\1", word)
    return word[:-1] if word.endswith("h") and len(word) > len("ah_") else word


_FREQUENT_NAMES: Final = (
    "muhammad ahmad abdul nur siti sri dewi sari putri putra ayu agus budi adi eko dwi tri wahyu indah fitri lestari "
    "wati setiawan santoso wijaya hidayat nugroho saputra pratama kurniawan maria made wayan nyoman ketut komang kadek "
    "putu gede rizky dian ika rina yuni andi hendra dedi joko bambang slamet rahmat yanti ratna "
    "anna john mary james robert michael william david thomas lee kim nguyen singh chen wang tan lim"
)
_FREQUENT: Final = frozenset(map(sound, _FREQUENT_NAMES.split()))
"""Of each of these more than one in two hundred people has it somewhere in the name."""


@lru_cache(maxsize=20_000)
def parsed(text: str) -> Name:
    """The name in a text; a number or an e-mail address, as whoever writes first is called by, is none."""
    if "@" in text or not _LETTER.search(text):
        return Name(())
    plain = _MARKS.sub("", folded(_BRACKETS.sub(" ", text)))
    first, *others = plain.split(",")
    words = [word for segment in (first, *(s for s in others if not _is_degree(s))) for word in _WORD.findall(segment)]
    while len(words) > 1 and words[0] in _TITLES:
        del words[0]
    names = [word for word in words if word not in _PARTICLES] or words
    return Name(tuple(Part(word, _heard(word)) for word in names))


def fullest(texts: Iterable[str]) -> Name:
    """The name with the most parts among several of one person, the first of those."""
    return max((parsed(text) for text in texts), key=lambda name: len(name.parts), default=Name(()))


def compared(one: Name, other: Name) -> Evidence | None:
    """How alike two names are, the same either way round; None where one of them is not known."""
    if not one.parts or not other.parts:
        return None
    if sorted(one.parts) == sorted(other.parts):
        text = "The names are the same" + ("" if one.parts == other.parts else ", with their parts in another order")
        return Evidence(weight(one), "same_name", text)
    matched = _matched(one.parts, other.parts)
    shorter, longer = sorted((len(one.parts), len(other.parts)))
    contradicted = shorter - len(matched)
    if contradicted and "".join(p.sound for p in one.parts) == "".join(p.sound for p in other.parts):
        return Evidence(_JOINED, "same_sounding_name", "The names differ in a space only")
    bits = sum(matched) - _CONTRADICTED * contradicted - _MISSING * (longer - shorter)
    bits = max(min(bits, BITS_MAX), BITS_MIN)
    if contradicted:
        if bits > 0:
            return Evidence(bits, "shared_name_part", "The names have a part in common")
        return Evidence(bits, "other_name", "The names differ")
    if one.key == other.key:
        return Evidence(bits, "same_sounding_name", "The names sound the same")
    return Evidence(bits, "similar_name", "The names are nearly the same, or one is a part of the other")


def weight(name: Name) -> float:
    """The bits that a name has which is the same."""
    return min(sum(map(_weight, name.parts)), BITS_MAX)


def is_made_of(text: str, name: Name) -> bool:
    """Whether a text has nothing in it but the parts of a name, and an initial perhaps."""
    if not name.parts:
        return False
    for word in sorted({part.written for part in name.parts}, key=len, reverse=True):
        text = text.replace(word, "", 1)
    return len(text) <= 1


@lru_cache(maxsize=50_000)
def _heard(word: str) -> str:
    return sound(word)


def _is_degree(segment: str) -> bool:
    words = _WORD.findall(segment)
    return all(word in _DEGREES or ("." in segment and len(word) <= _DEGREE_LENGTH_MAX) for word in words)


def _weight(part: Part) -> float:
    if len(part.sound) == 1:
        return _INITIAL
    return _COMMON if part.sound in _FREQUENT else _RARE


def _matched(ones: Iterable[Part], others: Iterable[Part]) -> list[float]:
    """The weights of the parts that belong together, each part once, those that weigh most first."""
    offers: list[tuple[float, list[Part], int, int]] = sorted(
        (-weight, sorted((one, other)), i, j)
        for i, one in enumerate(sorted(ones))
        for j, other in enumerate(sorted(others))
        if (weight := _alike(one, other))
    )
    taken: set[int] = set()
    given: set[int] = set()
    weights = []
    for negative, _, i, j in offers:
        if i not in taken and j not in given:
            taken.add(i)
            given.add(j)
            weights.append(-negative)
    return weights


def _alike(one: Part, other: Part) -> float:
    if one == other:
        return _weight(one)
    if one.sound == other.sound:
        return _weight(one) - _BY_SOUND
    shorter, longer = sorted((one.sound, other.sound), key=len)
    if shorter.isdigit() or longer.isdigit():
        return 0.0
    if len(shorter) == 1:
        return _INITIAL if longer.startswith(shorter) else 0.0
    if _nearly(one.sound, other.sound) or _nearly(one.written, other.written):
        return _NEARLY * min(_weight(one), _weight(other))
    return 0.0


def _nearly(one: str, other: str) -> bool:
    """Whether two words differ by a slip: a letter too few, too many, wrong, or before its time; two in a long one."""
    length = min(len(one), len(other))
    slips = 2 if length >= _LONG else 1
    return length >= _SHORT and OSA.distance(one, other, score_cutoff=slips) <= slips
