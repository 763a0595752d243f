"""Working time: how much of it lies between two instants, and when so much of it has passed. Pure.

A calendar's spans are times of the clock on the wall of its zone. Where clocks are put forward, a time that is skipped
is the moment they are; where they are put back, a time that comes twice is the first of the two. So the spans of a day
never overlap, and the days of a year follow each other without a gap, however long they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

MINUTES_A_DAY: Final = 24 * 60
DAYS_MAX: Final = 3_660
"""How far ahead a due time is looked for; what lies further off is not due at all."""
_NOTHING: Final = timedelta(0)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From one minute of the day to before another; 1440 is the end of the day."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """The spans in which work is done: by weekday from Monday on, or of a single day, which then has no others.

    Spans are in order, and don't overlap.
    """

    zone: ZoneInfo
    week: tuple[tuple[Span, ...], ...]
    exceptions: Mapping[date, tuple[Span, ...]] = field(default_factory=dict)

    def spans(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """The spans of a local day, as instants in UTC."""
        for span in self.exceptions.get(day, self.week[day.weekday()]):
            yield _instant(day, span.first, self.zone), _instant(day, span.end, self.zone)


def worked(calendar: Calendar | None, start: datetime, end: datetime) -> timedelta:
    """How much working time lies between two instants; without a calendar, all of it. None before its beginning."""
    if end <= start:
        return _NOTHING
    if calendar is None:
        return end - start
    total, day, last = _NOTHING, _day_before(calendar, start), end.astimezone(calendar.zone).date()
    while day <= last:
        for opens, closes in calendar.spans(day):
            total += max(min(closes, end) - max(opens, start), _NOTHING)
        day += timedelta(days=1)
    return total


def after(calendar: Calendar | None, start: datetime, duration: timedelta) -> datetime | None:
    """The first instant at which so much working time has passed since `start`.

    None where that lies beyond `DAYS_MAX`.
    """
    if duration <= _NOTHING:
        return start
    if calendar is None:
        return start + duration if duration.days <= DAYS_MAX else None
    left, day = duration, _day_before(calendar, start)
    for _ in range(DAYS_MAX):
        for opens, closes in calendar.spans(day):
            there = max(closes - max(opens, start), _NOTHING)
            if there >= left:
                return max(opens, start) + left
            left -= there
        day += timedelta(days=1)
    return None


def _day_before(calendar: Calendar, start: datetime) -> date:
    # A day's last span may end after the midnight that the clock shows, where the clock is put back at midnight.
    return start.astimezone(calendar.zone).date() - timedelta(days=1)


def _instant(day: date, minute: int, zone: ZoneInfo) -> datetime:
    """When the clock on the wall first shows this minute of the day, or a later one."""
    days, minute = divmod(minute, MINUTES_A_DAY)
    wall = datetime.combine(day + timedelta(days=days), time(minute // 60, minute % 60))
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # The clock skips it: the moment it does so lies between what the offsets before and after it make of this time.
    low, high = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    while high - low > _SECOND:
        middle = low + ((high - low) / 2 // _SECOND) * _SECOND
        if middle.astimezone(zone).replace(tzinfo=None) < wall:
            low = middle
        else:
            high = middle
    return high
