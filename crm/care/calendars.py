"""Business calendars: when people are at work, by weekday and with exceptions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care.working_time import Calendar, Span
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound, Stale

business_calendars = Table(
    "business_calendars",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("hours", JSONB, nullable=False),
    Column("exceptions", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CALENDARS_MAX: Final = 200

_COLUMNS: Final = tuple(column.name for column in business_calendars.columns)
_SELECTED: Final = ", ".join(_COLUMNS)

Hours = Mapping[str, Sequence[Sequence[str]]]


class CalendarNotFound(NotFound):
    code = "calendar_not_found"
    title = "There is no such calendar"


class InvalidCalendar(Invalid):
    code = "invalid_calendar"
    title = "Nobody can work by this calendar"


class TooManyCalendars(Conflict):
    code = "too_many_calendars"
    title = "There are too many calendars"


class StaleCalendar(Stale):
    title = "The calendar has changed since you read it"


@dataclass(slots=True)
class BusinessCalendar:
    """When people are at work. `hours` has the spans of each weekday, as times of the clock in `time_zone`.

    `exceptions` are single days with spans of their own; a holiday has none.
    """

    id: UUID
    name: str
    time_zone: str
    hours: dict[str, list[list[str]]]
    exceptions: dict[str, list[list[str]]]
    version: int
    created_at: datetime
    updated_at: datetime

    def read(self) -> Calendar:
        """The calendar for calculating with."""
        week = tuple(_spans(self.hours.get(day, ())) for day in WEEKDAYS)
        exceptions = {date.fromisoformat(day): _spans(spans) for day, spans in self.exceptions.items()}
        return Calendar(ZoneInfo(self.time_zone), week, exceptions)


async def create(
    session: Session,
    *,
    name: str,
    time_zone: str,
    hours: Hours,
    exceptions: Hours,
    once: idempotency.Request | None = None,
    now: datetime,
) -> BusinessCalendar:
    """Make a calendar. Raises InvalidCalendar, TooManyCalendars."""
    if await session.fetchval("SELECT count(*) FROM business_calendars") >= CALENDARS_MAX:
        raise TooManyCalendars(f"{CALENDARS_MAX} are kept at most; change one that nobody needs.")
    calendar = BusinessCalendar(uuid7(), name, time_zone, _plain(hours), _plain(exceptions), 1, now, now)
    _check(calendar)
    row = tuple(getattr(calendar, column) for column in _COLUMNS)
    await writes.write(
        session,
        [
            Insert(business_calendars, _COLUMNS, [row]),
            *idempotency.answer(once, contact_id=None, result=calendar, now=now),
        ],
    )
    return calendar


async def update(
    session: Session, *, calendar_id: UUID, changes: Mapping[str, Any], version: int | None = None, now: datetime
) -> BusinessCalendar:
    """Change a calendar; the clocks that run by it follow within a minute or so.

    Raises CalendarNotFound, StaleCalendar, InvalidCalendar.
    """
    row = await session.fetchrow(
        f"SELECT {_SELECTED} FROM business_calendars WHERE id = $1 FOR NO KEY UPDATE", calendar_id
    )
    calendar = _view(row)
    if version is not None and version != calendar.version:
        raise StaleCalendar("Read it again, and send the new ETag in If-Match.", version=calendar.version)
    before = tuple(getattr(calendar, column) for column in _COLUMNS)
    for name, value in changes.items():
        setattr(calendar, name, _plain(value) if name in {"hours", "exceptions"} else value)
    _check(calendar)
    if tuple(getattr(calendar, column) for column in _COLUMNS) == before:
        return calendar
    calendar.version, calendar.updated_at = calendar.version + 1, now
    await writes.write(
        session, [Update(business_calendars, _COLUMNS, [tuple(getattr(calendar, column) for column in _COLUMNS)], 1)]
    )
    return calendar


async def get(session: Session, *, calendar_id: UUID) -> BusinessCalendar:
    """One calendar. Raises CalendarNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM business_calendars WHERE id = $1", calendar_id))


async def get_all(session: Session, *, calendar_ids: Collection[UUID]) -> dict[UUID, BusinessCalendar]:
    """Those of these calendars that there are."""
    if not calendar_ids:
        return {}
    rows = await session.fetch(f"SELECT {_SELECTED} FROM business_calendars WHERE id = ANY ($1)", list(calendar_ids))
    return {row["id"]: _view(row) for row in rows}


async def page(session: Session, *, before: UUID | None, limit: int) -> list[BusinessCalendar]:
    """Calendars, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM business_calendars WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2
        """,
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _check(calendar: BusinessCalendar) -> None:
    errors = [
        *_wrong(calendar.hours, "/hours"), *_wrong(calendar.exceptions, "/exceptions"),
    ]  # fmt: skip
    if not errors and not any(calendar.hours.values()):
        errors = [FieldError("/hours", "no_hours", "must have a span on one weekday at least")]
    if errors:
        raise InvalidCalendar("Spans go from a time to a later one, up to 24:00, and don't overlap.", errors=errors)


def _wrong(hours: Mapping[str, Sequence[Sequence[str]]], pointer: str) -> list[FieldError]:
    errors = []
    for day, texts in hours.items():
        spans = [Span(_minute(text[0]), _minute(text[1])) for text in texts]
        if any(span.first >= span.end for span in spans):
            errors.append(FieldError(f"{pointer}/{day}", "empty_span", "has a span that ends before it begins"))
        ordered = sorted(spans)
        if any(one.end > two.first for one, two in pairwise(ordered)):
            errors.append(FieldError(f"{pointer}/{day}", "overlapping_spans", "has spans that overlap"))
    return errors


def _spans(texts: Sequence[Sequence[str]]) -> tuple[Span, ...]:
    return tuple(sorted(Span(_minute(first), _minute(end)) for first, end in texts))


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _plain(hours: Hours) -> dict[str, list[list[str]]]:
    return {day: [list(span) for span in spans] for day, spans in hours.items()}


def _view(row: Record | None) -> BusinessCalendar:
    if row is None:
        raise CalendarNotFound("No calendar has this id.")
    return BusinessCalendar(*row)
