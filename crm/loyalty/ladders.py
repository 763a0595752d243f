"""A program's ladder of tiers: where somebody stands, worked out from what counted on which local day.

Pure, and a function of the facts: the same days give the same standing whenever they are asked, in whatever order they
became known. Nobody falls but at an evaluation; whoever qualifies rises at once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import accumulate
from typing import Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.loyalty.expiry import local_day, months_later, start_of

Basis: TypeAlias = Literal["points", "spend", "visits"]
Period: TypeAlias = Literal["lifetime", "calendar_year", "rolling_months"]
Downgrade: TypeAlias = Literal["never", "one_level", "reassess"]

_YEAR = 12
_DAY = timedelta(days=1)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Tier:
    """A rank of a program; `threshold` is in points, whole currency units or visits, as the policy's basis says."""

    id: UUID
    name: str
    threshold: int
    earn_factor: Decimal = Decimal(1)
    reward_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts towards the tiers on one local day, or in all."""

    points: int = 0
    spend: Decimal = Decimal(0)
    visits: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.points + other.points, self.spend + other.spend, self.visits + other.visits)

    def by(self, basis: Basis) -> Decimal:
        """The part that this basis looks at."""
        return Decimal(getattr(self, basis))


NOTHING_COUNTED: Final = Counted()


@dataclass(frozen=True, slots=True)
class Pin:
    """A tier that somebody gave by hand: a floor from `since` until its end."""

    tier_id: UUID
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where somebody stands at one instant.

    `since` and `until` are instants at which local days begin; `until` is when the tier ends unless enough counts by
    then, None where it is kept for good. `missing` is what the next tier and staying still need, in the basis's unit;
    what is needed to stay must count before `decided_at`: a grace that follows asks for the tier anew.
    """

    current: Tier | None
    since: datetime | None = None
    until: datetime | None = None
    following: Tier | None = None
    missing: int = 0
    missing_to_stay: int | None = None
    decided_at: datetime | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """Tiers, ascending by threshold, and how they are won and kept; days are those of `zone`."""

    tiers: tuple[Tier, ...] = ()
    basis: Basis = "points"
    window: Period = "lifetime"
    months: int = _YEAR
    downgrade: Downgrade = "never"
    grace_days: int = 0
    zone: ZoneInfo = _UTC

    @property
    def needs_days(self) -> bool:
        """Whether a standing takes more than the sum of everything."""
        return bool(self.tiers) and self.window != "lifetime"

    def reached(self, counted: Decimal | int) -> Tier | None:
        """The highest tier whose threshold is reached; exactly at the threshold is in."""
        found = None
        for tier in self.tiers:
            if tier.threshold > counted:
                break
            found = tier
        return found

    def tier(self, tier_id: UUID | None) -> Tier | None:
        """The tier with this id, if it is still one of them."""
        return next((tier for tier in self.tiers if tier.id == tier_id), None)

    def standing(
        self, *, total: Counted, days: Mapping[date, Counted], at: datetime, pin: Pin | None = None
    ) -> Standing:
        """Where somebody stands at `at`. `days` are needed where `needs_days`; `total` is the sum of everything."""
        if not self.needs_days:
            progress = total.by(self.basis)
            return self._pinned(self._shown(self.reached(max(progress, Decimal(0))), progress), pin, at)
        on = local_day(at, self.zone)
        counted = {day: each.by(self.basis) for day, each in days.items() if day <= on}
        climb = _Climb(self, counted)
        climb.up_to(on)
        progress = climb.window(on)
        standing = self._shown(
            climb.tier, progress, since=climb.since, until=climb.falls_on, decided_on=climb.decided_on,
            to_stay=climb.counts_to_stay(on),
        )  # fmt: skip
        return self._pinned(standing, pin, at)

    def _shown(
        self,
        current: Tier | None,
        progress: Decimal,
        *,
        since: date | None = None,
        until: date | None = None,
        decided_on: date | None = None,
        to_stay: Decimal | None = None,
    ) -> Standing:
        floor = progress if current is None else max(progress, Decimal(current.threshold))
        following = next((tier for tier in self.tiers if tier.threshold > floor), None)
        return Standing(
            current,
            since=None if since is None else start_of(since, self.zone),
            until=None if until is None else start_of(until, self.zone),
            following=following,
            missing=_whole(following.threshold - progress) if following is not None else 0,
            missing_to_stay=(
                None if to_stay is None or decided_on is None or current is None
                else max(0, _whole(current.threshold - to_stay))
            ),
            decided_at=None if decided_on is None else start_of(decided_on, self.zone),
        )  # fmt: skip

    def _pinned(self, standing: Standing, pin: Pin | None, at: datetime) -> Standing:
        floor = None if pin is None else self.tier(pin.tier_id)
        if pin is None or floor is None or not pin.since <= at or (pin.until is not None and pin.until <= at):
            return standing
        if standing.current is not None and standing.current.threshold >= floor.threshold:
            outlasts = standing.until is not None and (pin.until is None or pin.until > standing.until)
            if standing.current is floor and outlasts:
                return replace(standing, until=pin.until, missing_to_stay=None, decided_at=None)
            return standing
        following = standing.following
        if following is not None and following.threshold <= floor.threshold:
            following = next((tier for tier in self.tiers if tier.threshold > floor.threshold), None)
        missing = 0
        if following is not None and standing.following is not None:
            missing = standing.missing + following.threshold - standing.following.threshold
        return Standing(floor, pin.since.astimezone(UTC), pin.until, following, missing, pinned=True)


class _Climb:
    """One way up and down the ladder, from the first day that counts to the day asked for."""

    def __init__(self, ladder: Ladder, counted: Mapping[date, Decimal]) -> None:
        self.tier: Tier | None = ladder.reached(0)
        self.since: date | None = None
        self._ladder = ladder
        self._counted = counted
        self._days: Sequence[date] = sorted(counted)
        self._sums = [Decimal(0), *accumulate(counted[day] for day in self._days)]
        self._counts_from: date | None = None
        """The first day that counts towards the next evaluation of a rolling window: that of the win has counted."""
        self._evaluated_on: date | None = None
        """The next evaluation."""
        self._grace_ends_on: date | None = None
        self.window: Callable[[date], Decimal] = self._year if ladder.window == "calendar_year" else self._rolling

    @property
    def falls_on(self) -> date | None:
        """When the tier ends unless enough counts by then."""
        if self._evaluated_on is None or self._ladder.downgrade == "never":
            return None
        return self._grace_ends_on or self._evaluated_on + self._grace

    @property
    def decided_on(self) -> date | None:
        """When what counts for staying is looked at: at the evaluation, or if that was missed, until the grace ends."""
        return None if self.falls_on is None else self._grace_ends_on or self._evaluated_on

    def up_to(self, on: date) -> None:
        """Live through every day on which somebody can rise, and every evaluation up to the beginning of `on`."""
        for day in self._turns():
            if day <= on:
                self._evaluate(day)
                self._rise(day)
        self._evaluate(on)

    def counts_to_stay(self, on: date) -> Decimal | None:
        """What has counted so far towards what is looked at next."""
        if self._evaluated_on is None:
            return None
        return self._deciding(self._evaluated_on) if self._grace_ends_on is None else self.window(on)

    @property
    def _grace(self) -> timedelta:
        return timedelta(days=self._ladder.grace_days)

    def _turns(self) -> Sequence[date]:
        """The days that count, and those on which something taken away leaves the rolling window."""
        taken = [day for day in self._days if self._counted[day] < 0]
        if not taken or self._ladder.window == "calendar_year":
            return self._days
        return sorted({*self._days, *(self._left_on(day) for day in taken)})

    def _left_on(self, day: date) -> date:
        months = self._ladder.months
        left = months_later(day, months)
        return left if months_later(left, -months) >= day else left + _DAY

    def _rise(self, day: date) -> None:
        reached = self._ladder.reached(self.window(day))
        if reached is None:
            return
        if self.tier is None or reached.threshold > self.tier.threshold:
            self.tier, self.since = reached, day
        elif self._grace_ends_on is None or reached.threshold < self.tier.threshold:
            return
        # Won anew, or confirmed within the grace.
        self._grace_ends_on, self._counts_from = None, day + _DAY
        self._evaluated_on = self._first_evaluation(day)

    def _evaluate(self, on: date) -> None:
        while self.tier is not None and self._evaluated_on is not None and self._ladder.downgrade != "never":
            due = self._grace_ends_on or self._evaluated_on
            if due > on:
                return
            if self._grace_ends_on is not None:
                self._fall(due)
            elif self._deciding(due) >= self.tier.threshold:
                self._counts_from, self._evaluated_on = due, self._next_evaluation(due, due)
            elif self._ladder.grace_days:
                self._grace_ends_on = due + self._grace
            else:
                self._fall(due)

    def _fall(self, on: date) -> None:
        assert self.tier is not None
        assert self._evaluated_on is not None
        missed_on, lost = self._evaluated_on, self.tier.threshold
        counted = max(self._deciding(missed_on), Decimal(0))
        if on > missed_on:
            counted = max(counted, self._before(on))
        earned = self._ladder.reached(counted)
        if self._ladder.downgrade == "one_level":
            below = [tier for tier in self._ladder.tiers if tier.threshold < lost]
            if below and below[-1].threshold > counted:
                earned = below[-1]
        self.tier, self.since = earned, on
        self._grace_ends_on, self._counts_from = None, on
        kept_for_good = earned is None or earned.threshold <= 0
        self._evaluated_on = None if kept_for_good else self._next_evaluation(missed_on, on)

    def _first_evaluation(self, won_on: date) -> date:
        if self._ladder.window == "calendar_year":
            return date(won_on.year + 2, 1, 1)
        return months_later(won_on, self._ladder.months)

    def _next_evaluation(self, last: date, decided_on: date) -> date:
        if self._ladder.window == "calendar_year":
            return months_later(last, _YEAR)
        return months_later(decided_on, self._ladder.months)

    def _deciding(self, due: date) -> Decimal:
        """What an evaluation at the beginning of `due` looks at: the year that ended, or the months since the last."""
        if self._ladder.window == "calendar_year":
            return self._before(due)
        return self._sum(self._counts_from or due, due - _DAY)

    def _before(self, on: date) -> Decimal:
        """The window at the beginning of `on`, when that day has counted nothing yet."""
        if self._ladder.window == "calendar_year":
            return self._year(on - _DAY)
        return self._sum(months_later(on, -self._ladder.months) + _DAY, on - _DAY)

    def _year(self, on: date) -> Decimal:
        return self._sum(date(on.year, 1, 1), on)

    def _rolling(self, on: date) -> Decimal:
        return self._sum(months_later(on, -self._ladder.months) + _DAY, on)

    def _sum(self, first: date, last: date) -> Decimal:
        return self._sums[bisect_right(self._days, last)] - self._sums[bisect_left(self._days, first)]


def _whole(missing: Decimal) -> int:
    """In whole units, rounded up: never 0 while something is missing."""
    return int(missing.to_integral_value(ROUND_CEILING))
