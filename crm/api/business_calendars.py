"""`/v1/business-calendars`: when people are at work."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import YEAR_MAX, YEAR_MIN, Body, Line, Patch, TimeZone
from crm.care import calendars
from crm.care.calendars import (
    WEEKDAYS,
    BusinessCalendar,
    CalendarNotFound,
    InvalidCalendar,
    StaleCalendar,
    TooManyCalendars,
)
from crm.db import idempotency
from crm.db.session import Session

SPANS_MAX: Final = 10
EXCEPTIONS_MAX: Final = 1_000

_TIME = r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"
_DAY = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"
_SPANS_SCHEMA: Final[dict[str, Any]] = {
    "type": "array", "maxItems": SPANS_MAX,
    "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string", "pattern": _TIME}},
    "examples": [[["09:00", "12:00"], ["13:00", "17:00"]]],
}  # fmt: skip
_Time = Annotated[str, StringConstraints(pattern=_TIME)]
_Spans = Annotated[list[Annotated[list[_Time], Field(min_length=2, max_length=2)]], Field(max_length=SPANS_MAX)]


def _days(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for day in value:
        try:
            found = date.fromisoformat(day) if re.match(_DAY, day, re.ASCII) else None
        except ValueError:
            found = None
        if found is None or not YEAR_MIN <= found.year <= YEAR_MAX:
            raise PydanticCustomError("date_out_of_range", 'must be days, such as "2026-12-25"')
    return value


Hours = Annotated[
    dict[Literal[WEEKDAYS], _Spans],  # type: ignore[valid-type]
    Field(min_length=1),
    WithJsonSchema({
        "type": "object", "description": "By weekday: several spans, from a time to before a later one.",
        "properties": dict.fromkeys(WEEKDAYS, _SPANS_SCHEMA), "additionalProperties": False, "minProperties": 1,
    }),
]  # fmt: skip
Exceptions = Annotated[
    dict[str, _Spans],
    Field(max_length=EXCEPTIONS_MAX),
    AfterValidator(_days),
    WithJsonSchema({
        "type": "object", "description": "By day: its spans instead of those of its weekday; none on a holiday.",
        "propertyNames": {"pattern": _DAY, "format": "date"}, "additionalProperties": _SPANS_SCHEMA,
        "maxProperties": EXCEPTIONS_MAX,
    }),
]  # fmt: skip


class NewBusinessCalendar(Body):
    """When people are at work, by the clock on the wall of a time zone."""

    name: Line
    time_zone: TimeZone
    hours: Hours
    exceptions: Annotated[Exceptions, Field(default_factory=dict)]


class BusinessCalendarPatch(Patch):
    """What can change; `hours` and `exceptions` are given whole."""

    name: Line | None = None
    time_zone: TimeZone | None = None
    hours: Hours | None = None
    exceptions: Exceptions | None = None

    not_nullable = frozenset({"name", "time_zone", "hours", "exceptions"})


@post(
    "/business-calendars",
    scopes={"care:write"},
    problems=(InvalidCalendar, TooManyCalendars),
    headers=("ETag", "Location"),
)
async def create_business_calendar(
    session: Session, data: NewBusinessCalendar, now: datetime, once: idempotency.Request | None
) -> Response[BusinessCalendar]:
    """Create a business calendar."""
    await idempotency.begin(session, request=once)
    calendar = await calendars.create(
        session, name=data.name, time_zone=data.time_zone, hours=data.hours, exceptions=data.exceptions, once=once,
        now=now,
    )  # fmt: skip
    headers = etag(calendar.version) | {"Location": f"/v1/business-calendars/{calendar.id}"}
    return Response(calendar, headers=headers)


@get("/business-calendars", scopes={"care:read"})
async def list_business_calendars(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[BusinessCalendar]:
    """List business calendars, newest first."""
    before = paging.decode(cursor, UUID)
    found = await calendars.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda calendar: (calendar.id,))


@get("/business-calendars/{calendar_id:uuid}", scopes={"care:read"}, problems=(CalendarNotFound,), headers=("ETag",))
async def get_business_calendar(session: Session, calendar_id: FromPath[UUID]) -> Response[BusinessCalendar]:
    """Read a business calendar."""
    calendar = await calendars.get(session, calendar_id=calendar_id)
    return Response(calendar, headers=etag(calendar.version))


@patch(
    "/business-calendars/{calendar_id:uuid}",
    scopes={"care:write"},
    problems=(CalendarNotFound, StaleCalendar, InvalidCalendar),
    headers=("ETag",),
)
async def update_business_calendar(
    session: Session, calendar_id: FromPath[UUID], data: BusinessCalendarPatch, now: datetime, if_match: IfMatch = None
) -> Response[BusinessCalendar]:
    """Change a business calendar.

    Within a minute or so, the clocks that run go by it as it is then, as far back as they have run without a pause.
    """
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    calendar = await calendars.update(
        session, calendar_id=calendar_id, changes=changes, version=version_of(if_match), now=now
    )
    return Response(calendar, headers=etag(calendar.version))


handlers = [
    create_business_calendar, list_business_calendars, get_business_calendar, update_business_calendar,
]  # fmt: skip
