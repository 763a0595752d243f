"""The hours of local days, on the days too when clocks change. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from crm.insights.periods import Span

_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Cell:
    """From an instant on, up to the next cell, clocks show this hour of the day."""

    starts_at: datetime
    hour: int


def of(span: Span) -> Iterator[Cell]:
    """The hours of a span, one after the other; an hour that comes twice is there twice, one that is skipped is not."""
    at = span.starts_at
    while at < span.ends_at:
        yield Cell(at, at.astimezone(span.zone).hour)
        at = _following(at, span.zone)


def _following(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.astimezone(zone)
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    following = at + _HOUR - into
    if _offset(following, zone) == local.utcoffset():
        return following
    # Clocks change on the way: nobody says when, but it is at a whole second.
    before, after = at, following
    while after - before > _SECOND:
        middle = before + ((after - before) / 2 // _SECOND) * _SECOND
        if _offset(middle, zone) == local.utcoffset():
            before = middle
        else:
            after = middle
    return after


def _offset(at: datetime, zone: ZoneInfo) -> timedelta | None:
    return at.astimezone(zone).utcoffset()
