"""Whether every figure in a text is one that was looked up. Pure.

A model may write what it likes: what it says in figures must have come from a tool. What it says somebody has must have
come from their own record, and not from an article; and a number in words must stand in an article as it is.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from crm.care import wording

_FIGURE: Final = re.compile(r"\d+(?:[.,'\u2019 \u00a0]\d+)*")
_GROUPED: Final = re.compile(r"\d{1,3}(?:[.,'\u2019 \u00a0]\d{3})+")
_TIMES: Final[Mapping[str, int]] = {
    "k": 1_000, "rb": 1_000, "ribu": 1_000, "thousand": 1_000, "jt": 1_000_000, "juta": 1_000_000, "m": 1_000_000,
    "mn": 1_000_000, "million": 1_000_000, "miliar": 1_000_000_000, "milyar": 1_000_000_000, "billion": 1_000_000_000,
}  # fmt: skip
_TIMES_AFTER: Final = re.compile(rf"\s?({'|'.join(sorted(_TIMES, key=len, reverse=True))})\b", re.IGNORECASE)
_NUMBERS: Final = """
    zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million millions
    billion billions dozen dozens double triple nol dua tiga empat lima enam tujuh delapan sembilan sepuluh sebelas
    belas puluh seratus ratus ratusan seribu ribu ribuan sejuta juta jutaan miliar milyar
"""
_IN_WORDS: Final = frozenset(_NUMBERS.split())
_MONTH: Final = (
    r"(?:jan(?:uar[iy])?|feb(?:ruar[iy])?|mar(?:ch|et)?|apr(?:il)?|may|mei|jun[ei]?|jul[yi]?|aug(?:ust)?|agu(?:stus)?|"
    r"sep(?:tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cs](?:ember)?)"
)
_DATE: Final = re.compile(
    r"\b\d{4}-\d{2}-\d{2}(?:t[\d:.]+z?)?"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}\b\.?(?:,? \d{{4}}\b)?"
    rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?"
    r"|\b\d{1,2}/\d{1,2}/\d{2,4}\b|\b\d{1,2}:\d{2}\b",
    re.IGNORECASE,
)
_UNIT: Final = re.compile(r"poin|point|rp\b|idr|rupiah|\$|saldo|balance", re.IGNORECASE)
"""What no name may have that is let through with its figures."""
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_STEP: Final = re.compile(r"^\s*(\d{1,2})[.)]\s", re.MULTILINE)
_HAS: Final = re.compile(
    r"\b(?:you (?:now |currently |still |also )*(?:have|own|hold|got|possess)|you ve|your|yours|balance|saldo\w*|"
    r"(?:poin|akun|hadiah) (?:anda|kamu|kakak|kak|mu)|poinmu|anda (?:\w+ )?(?:punya|memiliki|mempunyai)|"
    r"(?:kamu|kakak|kak) (?:\w+ )?(?:punya|memiliki|mempunyai)|milik(?:mu| anda| kamu)|credited|added|granted|awarded|"
    r"ditambahkan|dikreditkan|diberikan|tersisa|remaining|left)\b"
)
_POINTS: Final = re.compile(r"\W*(?:\w+\W+)?(?:poin|points?|pts)\b", re.IGNORECASE)
_BALANCE: Final = re.compile(r"\b(?:saldo|balance)", re.IGNORECASE)
"""Where money would be taken for points."""
_AFTER: Final = 30
_ORDER_BEFORE: Final = r"(?:#|\b(?:order|pesanan|nomor|number|no\.?|ref\w*)\s*:?\s*)"


@dataclass(slots=True)
class Known:
    """What was looked up: numbers and money on record, figures of articles, days, and names with figures in them."""

    recorded: set[Decimal] = field(default_factory=set)
    money: set[Decimal] = field(default_factory=set)
    written: set[Decimal] = field(default_factory=set)
    dates: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)

    def add_record(self, data: Any) -> None:
        """What a tool told of the person."""
        for value in _values(data):
            if isinstance(value, bool):
                continue
            if isinstance(value, int):
                self.recorded.add(Decimal(value))
            elif _DATE.fullmatch(value):
                self.dates |= {int(part) for part in re.findall(r"\d+", value)}
            elif re.fullmatch(r"\d+\.\d+", value):
                self.money.add(Decimal(value))
            elif not _UNIT.search(value):
                self.names.add(_plain(value))

    def add_article(self, text: str) -> None:
        """What an article says."""
        said = _plain(text)
        for _, values, _ in _figures(said):
            self.written |= values
        self.dates |= {int(part) for part in re.findall(r"\d+", said) if len(part) <= len("2026")}
        self.words |= set(wording.words(text)) & _IN_WORDS


def unknown(text: str, known: Known) -> str | None:
    """The first figure in a text that nothing tells of; None where there is none."""
    said = _without_steps(_plain(text))
    for name in sorted(known.names, key=len, reverse=True):
        if name.isdigit():
            said = re.sub(rf"{_ORDER_BEFORE}{name}\b", " ", said, flags=re.IGNORECASE)
        elif len(name) > 1:
            said = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", said, flags=re.IGNORECASE)
    for sentence in _SENTENCE.split(said):
        for dated in _DATE.finditer(sentence):
            date = dated[0]
            if not {int(part) for part in re.findall(r"\d+", date)} <= known.dates:
                return date
        rest = _DATE.sub(" ", sentence)
        has = _HAS.search(wording.folded(rest).replace("'", " "))
        allowed = known.recorded if has else known.recorded | known.written
        for figure, values, after in _figures(rest):
            if not values & (allowed if _POINTS.match(after) or _BALANCE.search(rest) else allowed | known.money):
                return figure
        # What multiplies a figure was counted with it.
        alone = wording.words(_FIGURE.sub(" ", re.sub(rf"({_FIGURE.pattern}){_TIMES_AFTER.pattern}", " ", rest)))
        for word in alone:
            if word in _IN_WORDS and (has or word not in known.words):
                return word
    return None


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\u00ad", "").replace("\u200b", "").replace("*", "")


def _without_steps(text: str) -> str:
    """Without the numbers of a list's steps, where they count from one."""
    steps = _STEP.findall(text)
    if [int(step) for step in steps] != list(range(1, len(steps) + 1)):
        return text
    return _STEP.sub(" ", text)


def _figures(text: str) -> Iterator[tuple[str, set[Decimal], str]]:
    """Each figure, with what it may mean, as 1.250 is two numbers in two languages, and with what comes after it."""
    for found in _FIGURE.finditer(text):
        values = set(_meanings(found[0]))
        times = _TIMES_AFTER.match(text, found.end())
        if times:
            factor = _TIMES[times[1].lower()]
            values = {value * factor for value in values}
        end = times.end() if times else found.end()
        yield text[found.start() : end], values, text[end : end + _AFTER]


def _meanings(figure: str) -> Iterator[Decimal]:
    digits = re.sub(r"\D", "", figure)
    if _GROUPED.fullmatch(figure):
        yield Decimal(digits)
    marks = re.findall(r"\D", figure)
    if not marks:
        yield Decimal(digits)
    elif marks[-1] in ".," and marks.count(marks[-1]) == 1:
        whole, _, part = figure.rpartition(marks[-1])
        if not marks[:-1] or _GROUPED.fullmatch(whole):
            try:
                yield Decimal(f"{re.sub(r'[^0-9]', '', whole)}.{part}")
            except InvalidOperation:
                return


def _values(data: Any) -> Iterator[int | str]:
    if isinstance(data, Mapping):
        for value in data.values():
            yield from _values(value)
    elif isinstance(data, str | int):
        yield data
    elif isinstance(data, Collection):
        for value in data:
            yield from _values(value)
