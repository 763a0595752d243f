"""Days as a shop counts them: from one local midnight of its program to another. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from crm.errors import FieldError, Invalid

Step: TypeAlias = Literal["day", "week", "month"]

STATEMENT_DAYS_MAX: Final = 366
PERIODS_MAX: Final = 120
PERIODS_USUAL: Final = 12

_DAY = timedelta(days=1)


class InvalidPeriod(Invalid):
    code = "invalid_period"
    title = "These days can't be reported on"


@dataclass(frozen=True, slots=True)
class Span:
    """Local days, the first and the last among them."""

    first: date
    last: date
    zone: ZoneInfo

    @property
    def starts_at(self) -> datetime:
        """The first instant that belongs to it."""
        return _midnight(self.first, self.zone)

    @property
    def ends_at(self) -> datetime:
        """The first instant that does not belong to it any more."""
        return _midnight(self.last + _DAY, self.zone)

    def split(self, by: Step) -> Sequence["Span"]:
        """Its days, weeks (from Monday) or months; the first and the last may be parts of one.

        Raises InvalidPeriod for more than PERIODS_MAX.
        """
        spans: list[Span] = []
        first = self.first
        while first <= self.last:
            if len(spans) == PERIODS_MAX:
                raise InvalidPeriod(
                    f"A report has at most {PERIODS_MAX} periods: ask for fewer days, or for longer periods.",
                    errors=[FieldError("query/from", "too_many_periods", f"makes more than {PERIODS_MAX} periods")],
                )
            following = _following(first, by)
            spans.append(Span(first, min(following - _DAY, self.last), self.zone))
            first = following
        return spans


def of_statement(first: date | None, last: date | None, *, zone: ZoneInfo, now: datetime) -> Span:
    """The days of a statement: the last full month where none is given.

    A first day alone goes up to today, a last one alone begins with its month. Raises InvalidPeriod.
    """
    if last is None:
        today = now.astimezone(zone).date()
        last = today if first is not None else today.replace(day=1) - _DAY
    span = _in_order(last.replace(day=1) if first is None else first, last, zone)
    if (span.last - span.first).days >= STATEMENT_DAYS_MAX:
        raise InvalidPeriod(
            f"A statement covers at most {STATEMENT_DAYS_MAX} days.",
            errors=[FieldError("query/from", "too_many_days", f"lies more than {STATEMENT_DAYS_MAX} days back")],
        )
    return span


def of_report(first: date | None, last: date | None, *, by: Step, zone: ZoneInfo, now: datetime) -> Span:
    """The days of a report: up to today, and from so early that there are twelve periods, unless others are given.

    Raises InvalidPeriod.
    """
    last = last or now.astimezone(zone).date()
    return _in_order(first or _back(last, by, PERIODS_USUAL - 1), last, zone)


def _in_order(first: date, last: date, zone: ZoneInfo) -> Span:
    if last < first:
        raise InvalidPeriod(
            f"{first} comes after {last}.", errors=[FieldError("query/to", "window", "lies before `from`")]
        )
    return Span(first, last, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # Where clocks jump over midnight this is the instant of the jump; where it comes twice, the first of the two.
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _following(day: date, by: Step) -> date:
    match by:
        case "day":
            return day + _DAY
        case "week":
            return day + (7 - day.weekday()) * _DAY
        case "month":
            return (day.replace(day=28) + 4 * _DAY).replace(day=1)


def _back(day: date, by: Step, count: int) -> date:
    """The first day of the period that lies `count` periods before that of `day`."""
    match by:
        case "day":
            return day - count * _DAY
        case "week":
            return day - (day.weekday() + 7 * count) * _DAY
        case "month":
            months = day.year * 12 + day.month - 1 - count
            return date(months // 12, months % 12 + 1, 1)
