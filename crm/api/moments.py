"""Instants and days in the query of a request, as strict as those in a body."""

import re
from datetime import date, datetime
from typing import Annotated, Final, TypeAlias
from zoneinfo import ZoneInfo

from litestar.params import QueryParameter
from pydantic import TypeAdapter, ValidationError

from crm.api.schemas import YEAR_MAX, YEAR_MIN, Instant, TimeZone
from crm.errors import FieldError, Invalid

DATE_TIME = {"format": "date-time"}
DATE = {"format": "date"}
TIME_ZONE: Final = {"format": "time-zone", "examples": ["Asia/Jakarta"]}
Since: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="from", max_length=40, schema_extra=DATE_TIME, description="What occurred then or later."),
]
Until: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="to", max_length=40, schema_extra=DATE_TIME, description="What occurred before."),
]

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_ZONE: TypeAdapter[str] = TypeAdapter(TimeZone)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)


def instant(name: str, value: str | None) -> datetime | None:
    """The instant in a parameter, in UTC. Raises Invalid."""
    if value is None:
        return None
    if "T" in value:
        value = value.replace(" ", "+")  # what is left of the + of an offset that was not percent-encoded
    try:
        return _INSTANT.validate_python(value)
    except ValidationError as error:
        raise _invalid(name, "date_time", error.errors()[0]["msg"]) from error


def day(name: str, value: str | None) -> date | None:
    """The day in a parameter. Raises Invalid."""
    if value is None:
        return None
    try:
        found = date.fromisoformat(value) if _DAY.match(value) else None
    except ValueError:
        found = None
    if found is None or not YEAR_MIN <= found.year <= YEAR_MAX:
        raise _invalid(name, "date", f'must be a day such as "2026-11-01", between {YEAR_MIN} and {YEAR_MAX}')
    return found


def zone(name: str, value: str | None) -> ZoneInfo | None:
    """The time zone in a parameter, by its name in the IANA database. Raises Invalid."""
    if value is None:
        return None
    try:
        return ZoneInfo(_ZONE.validate_python(value))
    except ValidationError as error:
        raise _invalid(name, "time_zone", 'must be an IANA time zone, such as "Asia/Jakarta"') from error


def _invalid(name: str, code: str, message: str) -> Invalid:
    return Invalid("A parameter is not valid.", errors=[FieldError(f"query/{name}", code, message)])
