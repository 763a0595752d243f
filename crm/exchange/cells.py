"""What a cell of a table means: days and moments as people and spreadsheets write them, text, lists. Pure.

A cell that means nothing raises BadCell, with a stable code.
"""

import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from crm.contacts.attribute_types import Kind
from crm.contacts.attributes import Attribute

DateOrder: TypeAlias = Literal["ymd", "dmy", "mdy"]

NOON: Final = time(12)
YEAR_MIN, YEAR_MAX = 1900, 2199

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_ERRORS: Final = frozenset({"#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#SPILL!", "#CALC!"})
_ROUNDED: Final = re.compile(r"\d(?:[.,]\d+)?[eE]\+?\d{1,3}\Z", re.ASCII)
_PARTS: Final = re.compile(r"(\d{1,4})[-/.](\d{1,2})[-/.](\d{1,4})\Z", re.ASCII)
_SERIAL: Final = re.compile(r"[1-9]\d{4}\Z", re.ASCII)
_SERIAL_ZERO: Final = date(1899, 12, 30)
"""Day 0 of spreadsheets. Numbers of four digits are left alone: they could be years."""
_CLOCK: Final = re.compile(r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?\Z", re.ASCII)
_AMOUNT: Final = re.compile(r"\d{1,15}(?:\.\d{1,6})?\Z", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,6})?\Z", re.ASCII)
_TRUTHS: Final = {
    **dict.fromkeys(("1", "true", "yes", "y", "ya"), True),
    **dict.fromkeys(("0", "false", "no", "n", "tidak"), False),
}
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z", re.ASCII)
_LIST: Final = re.compile(r"[,;|\n]")
_ITEMS: Final = re.compile(r"\s*(?:;\s|\n)\s*")
_OBJECT: Final = dict[str, str | bool | int | float | list[str] | None]


class BadCell(Exception):
    """A cell does not mean what its column says. Carries a code and what to do about it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def guarded(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: text that looks like one gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def unguarded(text: str) -> str:
    """Text as it was before `guarded`."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def plain(cell: str) -> str:
    """A cell without space around it, and without the apostrophe that `guarded` gave it. Raises BadCell."""
    text = cell.strip()
    if text in _ERRORS:
        raise BadCell("cell_error", f"The cell holds {text}, which is what a spreadsheet shows for a broken formula.")
    return unguarded(text)


def identities(text: str) -> list[str]:
    """The addresses or numbers in a cell, between semicolons or line breaks. Raises BadCell."""
    return [identity(item) for item in _ITEMS.split(text) if item]


def json_object(text: str) -> dict[str, Any]:
    """Values by name, written as JSON. Raises BadCell."""
    try:
        return msgspec.json.decode(text, type=_OBJECT)
    except msgspec.MsgspecError as error:
        raise BadCell("json", 'There should be a JSON object such as {"city": "Bandung"}.') from error


def identity(text: str) -> str:
    """An address or a number that stands for somebody. Raises BadCell for one that a spreadsheet has shortened."""
    if _ROUNDED.match(text):
        raise BadCell(
            "number_shortened",
            f"A spreadsheet has shortened this number to {text}. Format its column as text, fill it in again and save.",
        )
    return text


def day(text: str, *, order: DateOrder) -> date:
    """The day in `2026-01-31`, in what `order` says of `31/01/2026`, or in a spreadsheet's number. Raises BadCell."""
    try:
        if _SERIAL.match(text):
            return _SERIAL_ZERO + timedelta(days=int(text))
        parts = _PARTS.match(text)
        if parts is None or len(text) < len("1/1/1997"):
            return date.fromisoformat(text)
        first, second, third = (int(part) for part in parts.groups())
        if len(parts[1]) == len("1997"):
            return date(first, second, third)
        if order != "ymd" and len(parts[3]) == len("1997"):
            return date(third, second, first) if order == "dmy" else date(third, first, second)
    except ValueError:
        pass
    raise BadCell("date", f"'{text}' is no date such as {_EXAMPLES[order]}.")


def moment(text: str, *, zone: ZoneInfo, order: DateOrder) -> datetime:
    """A moment, in UTC; a bare date is noon, and what has no offset is in `zone`. Raises BadCell."""
    try:
        found = datetime.fromisoformat(text) if len(text) > len("1997-01-01") else None
    except ValueError:
        found = None
    if found is None:
        written, _, clock = text.partition(" ")
        at = _CLOCK.match(clock.strip()) if clock.strip() else None
        if clock.strip() and at is None:
            raise BadCell("date_time", f"'{text}' is no moment such as {_EXAMPLES[order]} 09:30.")
        try:
            hours = NOON if at is None else time(int(at[1]), int(at[2]), int(at[3] or 0))
        except ValueError as error:
            raise BadCell("date_time", f"'{text}' is no moment such as {_EXAMPLES[order]} 09:30.") from error
        found = datetime.combine(day(written, order=order), hours)
    try:
        found = (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)
    except (OverflowError, ValueError):
        found = datetime.min.replace(tzinfo=UTC)
    if not YEAR_MIN <= found.year <= YEAR_MAX:
        raise BadCell("date_out_of_range", f"'{text}' lies outside the years {YEAR_MIN} to {YEAR_MAX}.")
    return found


def attribute(text: str, *, kind: Kind, order: DateOrder) -> Attribute:
    """What a cell means where the attribute is defined as of this type. Raises BadCell."""
    match kind:
        case "number":
            if not _NUMBER.match(text):
                raise BadCell("number", f"'{text}' is no number such as 12 or 12.5.")
            return float(text) if "." in text else int(text)
        case "boolean":
            return truth(text)
        case "date":
            return day(text, order=order).isoformat()
        case "list":
            return several(text)
        case _:
            return text


def truth(text: str) -> bool:
    """Yes or no. Raises BadCell."""
    word = text.casefold()
    if word not in _TRUTHS:
        raise BadCell("boolean", f"'{text}' is neither yes nor no.")
    return _TRUTHS[word]


def amount(text: str) -> Decimal:
    """Money that is not negative. Raises BadCell."""
    if not _AMOUNT.match(text):
        raise BadCell("amount", f"'{text}' is no amount such as 120000.00: digits, and a point before the decimals.")
    return Decimal(text)


def currency(text: str) -> str:
    """The code of a currency. Raises BadCell."""
    if not _CURRENCY.match(text):
        raise BadCell("currency", f"'{text}' is no currency such as IDR.")
    return text


def line(text: str, *, length_max: int) -> str:
    """One line of text. Raises BadCell."""
    found = unicodedata.normalize("NFC", text)
    if len(found) > length_max:
        raise BadCell("too_long", f"There are more than {length_max} characters.")
    return found


def several(text: str) -> list[str]:
    """The items of a list in one cell, between commas, semicolons, bars or line breaks."""
    return [item for part in _LIST.split(text) if (item := part.strip())]


def date_order(texts: list[str]) -> DateOrder:
    """How these days were written; day first where nothing tells."""
    dated = [found for text in texts if (found := _PARTS.match(text.strip().partition(" ")[0]))]
    if dated and all(len(found[1]) == len("1997") for found in dated):
        return "ymd"
    firsts = [int(found[1]) for found in dated]
    seconds = [int(found[2]) for found in dated]
    return "mdy" if max(seconds, default=0) > _MONTHS >= max(firsts, default=0) else "dmy"


_MONTHS: Final = 12
_EXAMPLES: Final[dict[DateOrder, str]] = {"ymd": "1997-01-31", "dmy": "31/01/1997", "mdy": "01/31/1997"}
