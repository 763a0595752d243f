"""What is the same for all channel accounts of the place."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo

from crm.settings import Settings

_STEP: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When nobody wants to be told of offers: from `begin` until `end` by the clock of whoever it would be.

    `zone` is for those of whom none is known. The two times may lie around midnight; where they are the same, it is
    never quiet.
    """

    begin: time = time(21)
    end: time = time(8)
    zone: str = "Asia/Jakarta"

    def over_at(self, at: datetime, *, zone: str | None) -> datetime:
        """When it is no longer quiet for somebody; `at` itself where it is not."""
        place = ZoneInfo(zone or self.zone)
        local = at.astimezone(place)
        if not self._holds(local.time()):
            return at
        until = datetime.combine(local.date(), self.end, place)
        if until <= local.replace(fold=0):
            until = datetime.combine(local.date() + timedelta(days=1), self.end, place)
        until = until.astimezone(UTC)
        # In a night in which clocks are put on, the hour at which it ends may not be there.
        while self._holds(until.astimezone(place).time()):
            until += _STEP
        return until

    def _holds(self, at: time) -> bool:
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end


@dataclass(frozen=True, slots=True)
class House:
    """The `region` of phone numbers without one, the `gap` between threads, and when it is `quiet`."""

    region: str
    gap: timedelta
    quiet: QuietHours = field(default_factory=QuietHours)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The house that is configured."""
        quiet = QuietHours(settings.quiet_from, settings.quiet_until, settings.default_time_zone)
        return cls(settings.default_region, timedelta(hours=settings.thread_gap_hours), quiet)
