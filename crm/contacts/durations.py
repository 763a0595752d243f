"""Spans of the calendar, as ISO 8601 writes them: "P90D", "P1Y6M", "PT12H"."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

YEARS_MAX = 200

_FORM = re.compile(
    r"P(?=[0-9T])(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})W)?(?:(\d{1,5})D)?"
    r"(?:T(?=[0-9])(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?\Z",
    re.ASCII,
)
_MONTHS_A_YEAR = 12
_DAYS_A_WEEK = 7
_DAYS_MAX = YEARS_MAX * 366


@dataclass(frozen=True, slots=True)
class Duration:
    """Months and days are those of the calendar; seconds pass at the same pace everywhere."""

    months: int = 0
    days: int = 0
    seconds: int = 0

    @classmethod
    def of(cls, text: str) -> "Duration":
        """The span that a text means. Raises ValueError, with what is allowed instead."""
        match = _FORM.match(text)
        if match is None:
            raise ValueError('must be an ISO 8601 duration in whole numbers, such as "P90D", "P1Y6M" or "PT12H"')
        years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        span = cls(years * _MONTHS_A_YEAR + months, weeks * _DAYS_A_WEEK + days, hours * 3600 + minutes * 60 + seconds)
        if span.months * 366 // _MONTHS_A_YEAR + span.days + span.seconds // 86_400 > _DAYS_MAX:
            raise ValueError(f"must be at most {YEARS_MAX} years")
        return span

    def before(self, moment: datetime) -> datetime:
        """That long before a moment, by the calendar of its own time zone, as Postgres subtracts an interval.

        A month earlier is the same day of the month, or the month's last day where it is shorter.
        """
        year, month = divmod(moment.year * _MONTHS_A_YEAR + moment.month - 1 - self.months, _MONTHS_A_YEAR)
        day = min(moment.day, calendar.monthrange(year, month + 1)[1])
        local = moment.replace(year=year, month=month + 1, day=day) - timedelta(days=self.days)
        return (local.astimezone(UTC) - timedelta(seconds=self.seconds)).astimezone(moment.tzinfo)
