"""One field compared with what a condition asks of it: the operators of each type, and what each of them means.

What is absent (nothing, or an empty list) is true of no comparison; so is a value of another type in a field of any
type. `ne` and `not_in` are the exact opposites of `eq` and `in`, and therefore hold for what is absent. The same in SQL
is in `predicates`.

Text is compared by its characters, with its case. `in` holds for a list that has one of the values.
"""

import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from crm.contacts.durations import Duration
from crm.contacts.fields import Field, Type

Op: TypeAlias = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "anniversary", "exists"
]

OPERATORS: Final[Mapping[Type, tuple[Op, ...]]] = {
    "text": ("eq", "ne", "in", "not_in", "contains", "starts_with", "exists"),
    "number": ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "exists"),
    "date": ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "anniversary", "exists"),
    "instant": ("gt", "gte", "lt", "lte", "exists"),
    "boolean": ("eq", "ne", "exists"),
    "list": ("contains", "in", "not_in", "exists"),
    "any": ("eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "exists"),
}
ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le,
}  # fmt: skip

VALUES_MAX: Final = 100
TEXT_LENGTH_MAX: Final = 1_000
NUMBER_MAX: Final = 2**53 - 1
YEARS: Final = range(1900, 2200)
DECIMAL: Final = r"-?[0-9]{1,15}(\.[0-9]{1,6})?"
"""Money is a decimal in a text; where the order is asked, it counts as the number it is."""

_DECIMAL = re.compile(rf"{DECIMAL}\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_LEAP_DAY = (2, 29)


@dataclass(frozen=True, slots=True)
class Ago:
    """That long before the moment that is asked about."""

    duration: Duration


Scalar: TypeAlias = str | bool | Decimal | date
Value: TypeAlias = Scalar | Ago | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, an operator that its type has, and a value; `type` is that of the value, for a field of any type too.

    `value` is a tuple for `in` and `not_in`, "day" or "month" for `anniversary`, and for `exists` whether it shall.
    """

    field: Field
    op: Op
    type: Type
    value: Value


class WrongValue(ValueError):
    """What is wrong with the value, or with item `place` of it."""

    def __init__(self, message: str, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place


def compared(field: Field, op: Op, value: Any) -> Comparison:
    """The comparison of a field with a value as JSON has it; `op` is one of its type. Raises WrongValue."""
    match op:
        case "exists":
            return Comparison(field, op, "boolean", _boolean(value))
        case "anniversary":
            if value not in ("day", "month"):
                raise WrongValue('must be "day" or "month": that of the moment which is asked about')
            return Comparison(field, op, "text", value)
        case "contains" | "starts_with":
            if _text(value) == "":
                raise WrongValue("must not be empty")
            return Comparison(field, op, "text", _text(value))
        case "in" | "not_in":
            return _among(field, op, value)
        case _ if op in ORDERS and field.type == "any":
            return Comparison(field, op, "number", _ordered(value))
        case _:
            kind = _type_of(field, value)
            if isinstance(value, dict) and kind in {"date", "instant"}:
                return Comparison(field, op, kind, _ago(value, hours=kind == "instant"))
            return Comparison(field, op, kind, _scalar(kind, value))


def holds(asked: Comparison, found: Any, *, now: datetime) -> bool:
    """Whether what was found in the field is as asked. The days and months of `now` are those of its time zone."""
    match asked.op:
        case "exists":
            return (found is not None and found != []) is asked.value
        case "eq":
            return _equal(found, wanted(asked, now))
        case "ne":
            return not _equal(found, wanted(asked, now))
        case "in":
            return _is_among(found, asked.value)
        case "not_in":
            return not _is_among(found, asked.value)
        case "contains":
            return isinstance(found, str | list) and asked.value in found
        case "starts_with":
            return isinstance(found, str) and found.startswith(str(asked.value))
        case "anniversary":
            return _is_date(found) and (
                (found.month, found.day) in days_like(now) if asked.value == "day" else found.month == now.month
            )
        case _:
            return _in_order(ORDERS[asked.op], found, wanted(asked, now))


def wanted(asked: Comparison, now: datetime) -> Value:
    """The value to compare with at that moment: how long ago something was is a date or an instant then."""
    if not isinstance(asked.value, Ago):
        return asked.value
    then = asked.value.duration.before(now)
    return then.astimezone(UTC) if asked.field.type == "instant" else then.date()


def _equal(found: Any, wanted: Value) -> bool:
    match wanted:
        case bool():
            return found is wanted
        case Decimal():
            return _number_of(found) == wanted
        case str():
            return isinstance(found, str) and found == wanted
        case _:
            return _is_date(found) and found == wanted


def _is_among(found: Any, values: Value) -> bool:
    assert isinstance(values, tuple)
    if isinstance(found, list):
        return any(isinstance(item, str) and item in values for item in found)
    return any(_equal(found, value) for value in values)


def _in_order(in_order: Callable[[Any, Any], bool], found: Any, wanted: Value) -> bool:
    if isinstance(wanted, Decimal):
        if isinstance(found, str) and _DECIMAL.match(found):
            found = Decimal(found)
        number = _number_of(found)
        return number is not None and in_order(number, wanted)
    if isinstance(wanted, datetime):
        return isinstance(found, datetime) and found.tzinfo is not None and in_order(found, wanted)
    return _is_date(found) and in_order(found, wanted)


def days_like(now: datetime) -> list[tuple[int, int]]:
    """The (month, day) whose anniversary is today: 29 February counts as 28 in years that lack it."""
    today = (now.month, now.day)
    lacks = today == (2, 28) and (now.date().replace(month=3, day=1) - now.date()).days == 1
    return [today, _LEAP_DAY] if lacks else [today]


def _number_of(found: Any) -> Decimal | None:
    """A number of JSON or of Postgres, exactly as it is written; None for anything else."""
    if isinstance(found, bool) or not isinstance(found, int | float | Decimal):
        return None
    number = Decimal(repr(found)) if isinstance(found, float) else Decimal(found)
    return number if number.is_finite() else None


def _is_date(found: Any) -> bool:
    return isinstance(found, date) and not isinstance(found, datetime)


# ---------------------------------------------------------------- values, as JSON has them


def _among(field: Field, op: Op, value: Any) -> Comparison:
    if not isinstance(value, list) or not 0 < len(value) <= VALUES_MAX:
        raise WrongValue(f"must be a list of 1 to {VALUES_MAX} values")
    values: list[Scalar] = []
    kind: Type = field.type
    for place, item in enumerate(value):
        try:
            kind = kind if values else _type_of(field, item)
            values.append(_scalar(kind, item))
        except WrongValue as error:
            raise WrongValue(str(error), place) from None
    return Comparison(field, op, kind, tuple(values))


def _type_of(field: Field, value: Any) -> Type:
    """What a value must be, or in a field of any type, what it is."""
    if field.type != "any":
        return "text" if field.type == "list" else field.type
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    raise WrongValue("must be a text, a number, true or false")


def _scalar(kind: Type, value: Any) -> Scalar:
    match kind:
        case "number":
            return _number(value)
        case "boolean":
            return _boolean(value)
        case "date":
            return day(value)
        case "instant":
            return _instant(value)
        case _:
            return _text(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongValue("must be a text")
    if "\x00" in value or len(value) > TEXT_LENGTH_MAX:
        raise WrongValue(f"must have at most {TEXT_LENGTH_MAX} characters, and none of them NUL")
    return unicodedata.normalize("NFC", value)


def _number(value: Any) -> Decimal:
    number = _number_of(value)
    if number is None or abs(number) > NUMBER_MAX:
        raise WrongValue("must be a number within ±(2^53 - 1)")
    return number


def _ordered(value: Any) -> Decimal:
    if isinstance(value, str) and _DECIMAL.match(value):
        return Decimal(value)
    if _number_of(value) is None:
        raise WrongValue('must be a number, or a decimal in a text, such as "120000.00"')
    return _number(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("must be true or false")
    return value


def is_decimal(text: str) -> bool:
    """Whether a text is an amount of money."""
    return _DECIMAL.match(text) is not None


def day(value: Any) -> date:
    """The day that a text is. Raises WrongValue."""
    if isinstance(value, str) and _DATE.match(value):
        try:
            found = date.fromisoformat(value)
        except ValueError:
            raise WrongValue("is not a day of the calendar") from None
        if found.year in YEARS:
            return found
    raise WrongValue(
        f'must be a date between {YEARS.start} and {YEARS.stop - 1}, such as "2026-11-01", or {{"ago": "P30D"}}'
    )


def _instant(value: Any) -> datetime:
    if isinstance(value, str) and _INSTANT.match(value):
        try:
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise WrongValue("is not an instant of the calendar") from None
        if moment.year in YEARS:
            return moment
    raise WrongValue('must be a date-time with an offset, such as "2026-11-01T09:30:00Z", or {"ago": "P30D"}')


def _ago(value: Mapping[str, Any], *, hours: bool = False) -> Ago:
    if value.keys() != {"ago"} or not isinstance(value["ago"], str):
        raise WrongValue('must have the one field "ago", such as {"ago": "P30D"}')
    try:
        duration = Duration.of(value["ago"])
    except ValueError as error:
        raise WrongValue(f"ago {error}") from None
    if duration.seconds and not hours:
        raise WrongValue("ago must be whole days: a date has no hours")
    return Ago(duration)
