"""When points begin and when they end: instants from local days of the program's time zone.

Pure. A lot ends at the start of the day after its last valid local day, so that all of that day is the member's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo

Span: TypeAlias = Literal["month", "quarter", "year"]

_MONTHS: Mapping[Span, int] = {"month": 1, "quarter": 3, "year": 12}
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Activation:
    """When the points of a purchase or an event become available.

    After `days` local days, 0 being at once; or with `event` on the order, no later than `cancel_after_days` after it.
    """

    days: int = 0
    event: str | None = None
    cancel_after_days: int | None = None

    def activates_at(self, occurred_at: datetime, zone: ZoneInfo) -> datetime | None:
        """The start of the local day `days` later; None where there is no delay, or where an event decides."""
        if not self.days or self.event is not None:
            return None
        return start_of(local_day(occurred_at, zone) + self.days * _DAY, zone)

    def cancels_at(self, occurred_at: datetime, zone: ZoneInfo) -> datetime | None:
        """When points that still wait for their event are gone; None where they may wait for ever."""
        if self.event is None or self.cancel_after_days is None:
            return None
        return _end_of(local_day(occurred_at, zone) + self.cancel_after_days * _DAY, zone)


@dataclass(frozen=True, slots=True)
class Expiry:
    """How long points last from their activation, or with `sliding` from the member's last activity.

    Exactly one of `months` and `days` is given, unless points never expire.
    """

    kind: Literal["never", "after", "sliding"] = "never"
    months: int | None = None
    days: int | None = None
    round_up_to: Span | None = None
    activities: frozenset[str] = frozenset()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The rule that a JSON document of the API describes."""
        given = {name: value for name, value in document.items() if value is not None}
        return cls(**given | {"activities": frozenset(given.get("activities", ()))})

    def ends_at(self, starts_at: datetime, zone: ZoneInfo) -> datetime | None:
        """The instant from which points that begin at `starts_at` are dead; None where they never are."""
        if self.kind == "never":
            return None
        day = local_day(starts_at, zone)
        last = day + self.days * _DAY if self.days is not None else months_later(day, self.months or 0)
        return _end_of(_rounded_up(last, self.round_up_to) if self.round_up_to else last, zone)


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """The local day on which an instant lies."""
    return at.astimezone(zone).date()


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """The instant, in UTC, at which a local day begins; where its midnight is skipped, the first moment after that."""
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def months_later(day: date, months: int) -> date:
    """The same day of the month so many months later, or before; in a month that has none, its last day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    first_of_next = date(year + month // 11, (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + (day.day - 1) * _DAY, first_of_next - _DAY)


def _end_of(day: date, zone: ZoneInfo) -> datetime:
    return start_of(day + _DAY, zone)


def _rounded_up(day: date, span: Span) -> date:
    months = _MONTHS[span]
    first = day.replace(month=(day.month - 1) // months * months + 1, day=1)
    return months_later(first, months) - _DAY
