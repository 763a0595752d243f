"""Calendar periods of a program as instants: days, ISO weeks, months and years in its time zone. Pure."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from crm.loyalty.earning import Period


def start_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a local day begins; where clocks skip midnight, the first instant after the gap."""
    return datetime.combine(day, time.min, tzinfo=zone).astimezone(UTC)


def end_of_days(at: datetime, days: int, zone: ZoneInfo) -> datetime:
    """When something that lasts `days` local days beyond that of `at` is over: at the start of the day after them."""
    return start_of_day(at.astimezone(zone).date() + timedelta(days=days + 1), zone)


def bounds(per: Period, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """The period around `at`, its first instant and the first one after it; None for a lifetime."""
    day = at.astimezone(zone).date()
    match per:
        case "day":
            return _between(day, day + timedelta(days=1), zone)
        case "week":
            monday = day - timedelta(days=day.weekday())
            return _between(monday, monday + timedelta(days=7), zone)
        case "month":
            first = day.replace(day=1)
            return _between(first, (first + timedelta(days=31)).replace(day=1), zone)
        case "year":
            return _between(date(day.year, 1, 1), date(day.year + 1, 1, 1), zone)
        case "lifetime":
            return None


def _between(first: date, beyond: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    return start_of_day(first, zone), start_of_day(beyond, zone)
