"""Limits: how much one member may have in one period of the program's calendar. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.loyalty.expiry import months_later, start_of

Period: TypeAlias = Literal["day", "week", "month", "year", "lifetime"]


class Used(NamedTuple):
    """What a member has had in a period."""

    points: int
    times: int


UNUSED = Used(0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one member may get in one period."""

    per: Period
    points: int | None = None
    times: int | None = None

    def room(self, used: Used) -> int | None:
        """How many points are left, None for any number; a limit of times leaves all or none."""
        if self.times is not None and used.times >= self.times:
            return 0
        return None if self.points is None else max(0, self.points - used.points)


def period_key(per: Period, local_on: date) -> str:
    """The period of that length in which a local day of the program lies; weeks are those of ISO 8601."""
    match per:
        case "day":
            return local_on.isoformat()
        case "week":
            year, week, _ = local_on.isocalendar()
            return f"{year:04}-W{week:02}"
        case "month":
            return f"{local_on.year:04}-{local_on.month:02}"
        case "year":
            return f"{local_on.year:04}"
        case "lifetime":
            return "lifetime"


def period_keys(local_on: date) -> list[str]:
    """The periods of every length in which a local day of the program lies."""
    return [period_key(per, local_on) for per in get_args(Period)]


def room(limits: Iterable[Limit], subject: UUID, local_on: date, usages: Mapping[tuple[UUID, str], Used]) -> int | None:
    """What the tightest of the limits leaves of its subject on a local day, None for any number of points."""
    left = (limit.room(usages.get((subject, period_key(limit.per, local_on)), UNUSED)) for limit in limits)
    return min((each for each in left if each is not None), default=None)


def starts_at(per: Period, local_on: date, zone: ZoneInfo) -> datetime | None:
    """When the period of that length in which a local day lies began; None for a lifetime."""
    match per:
        case "day":
            first = local_on
        case "week":
            first = local_on - timedelta(days=local_on.weekday())
        case "month":
            first = local_on.replace(day=1)
        case "year":
            first = date(local_on.year, 1, 1)
        case _:
            return None
    return start_of(first, zone)


def resets_at(per: Period, local_on: date, zone: ZoneInfo) -> datetime | None:
    """When the next period begins; None for a lifetime."""
    match per:
        case "day":
            following = local_on + timedelta(days=1)
        case "week":
            following = local_on + timedelta(days=7 - local_on.weekday())
        case "month":
            following = months_later(local_on.replace(day=1), 1)
        case "year":
            following = date(local_on.year + 1, 1, 1)
        case _:
            return None
    return start_of(following, zone)
