"""Stamps: what of a purchase or an event a challenge counts, and how many cards its stamps fill.

Pure, and a function of the facts: the same facts give the same cards in whatever order they became known. A card is
full with `goal` stamps, and what is over stands on the next one. A streak counts periods in place of facts: its card is
full with `goal` periods in a row, each with something in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.loyalty.basket import NONE, SHIPPING, Basket, Filter, goods_of
from crm.loyalty.earning import Window, window_of
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.limits import UNUSED, Limit, Used, period_key, resets_at
from crm.loyalty.refunding import Returned, half_up

Kind: TypeAlias = Literal["count", "streak"]
Per: TypeAlias = Literal["day", "week", "month"]
Reason: TypeAlias = Literal[
    "counted",
    "trimmed",
    "limit_reached",
    "already_counted",
    "too_late",
    "outside_window",
    "below_min_spend",
    "no_matching_lines",
]

PURCHASE: Final = "purchase"
CARDS_MAX: Final = 100
"""How many cards one fact can fill: a slip at the till shall not fill millions."""
RUNS_MAX: Final = 100
"""How many runs of a streak are known; what belongs before them comes too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What is counted up to a goal, and what that gives: points, or a reward. `per` is the period of a streak."""

    id: UUID
    name: str
    event: str
    goal: int
    points: int | None = None
    reward_id: UUID | None = None
    kind: Kind = "count"
    per: Per | None = None
    per_unit: bool = False
    filter: Filter | None = None
    min_spend: Decimal | None = None
    window: Window | None = None
    limits: tuple[Limit, ...] = ()
    status: str = "active"

    @classmethod
    def of(cls, definition: Mapping[str, Any], *, id: UUID) -> Self:  # noqa: A002
        """The challenge that a JSON definition of the API describes."""
        given = {key: value for key, value in definition.items() if value is not None}
        reward_id, min_spend = given.pop("reward_id", None), given.pop("min_spend", None)
        lists = {name: frozenset(values) for name, values in given.pop("filter", {}).items() if values}
        window = {name: value for name, value in given.pop("window", {}).items() if value}
        return cls(
            id=id,
            reward_id=None if reward_id is None else UUID(reward_id),
            min_spend=None if min_spend is None else Decimal(min_spend),
            filter=Filter(**lists) if lists else None,
            window=window_of(window) if window else None,
            limits=tuple(Limit(**limit) for limit in given.pop("limits", ())),
            **given,
        )


class Offer(NamedTuple):
    """What a fact has for a challenge, before limits; `lines` are those that it looked at."""

    stamps: int
    reason: Reason
    lines: Sequence[int] = ()


class Room(NamedTuple):
    """How many stamps the limits leave, None for any number; where it is none, until when."""

    stamps: int | None
    until: datetime | None


def offer(challenge: Challenge, basket: Basket | None, at: datetime, zone: ZoneInfo) -> Offer:
    """The stamps of a purchase that came to `basket`, or of an event: one, or one for each whole unit."""
    if challenge.window is not None and not challenge.window.covers(at.astimezone(zone)):
        return Offer(0, "outside_window")
    if basket is None:
        return Offer(1, "counted")
    if challenge.min_spend is not None and basket.total < Fraction(challenge.min_spend):
        return Offer(0, "below_min_spend")
    lines = [index for index in basket.matching(challenge.filter) if basket.lines[index] is not SHIPPING]
    stamps = min(len(lines), 1)
    if challenge.per_unit:
        stamps = int(sum((basket.lines[index].quantity for index in lines), Decimal(0)))
    return Offer(stamps, "counted", lines) if stamps else Offer(0, "no_matching_lines")


def room(challenge: Challenge, at: datetime, zone: ZoneInfo, usages: Mapping[tuple[UUID, str], Used]) -> Room:
    """What the challenge's limits leave of the periods around `at`."""
    day, least, until, endless = local_day(at, zone), None, [], False
    for limit in challenge.limits:
        left = max(0, (limit.times or 0) - usages.get((challenge.id, period_key(limit.per, day)), UNUSED).times)
        least = left if least is None else min(least, left)
        if not left:
            ends_at = resets_at(limit.per, day, zone)
            endless = endless or ends_at is None
            until += [ends_at] if ends_at is not None else []
    return Room(least, None if endless else max(until, default=None))


@dataclass(slots=True)
class Progress:
    """How far a member has come.

    `total` is all stamps, or all periods of a streak that have one; `due` how many cards they fill. `completed` cards
    stand: more than are due where a reward was used before its stamps were taken back. `filled` numbers the cards, and
    those that fell keep their numbers. `runs` are a streak's periods in a row, first and last of each; those that ended
    before `known_from` are forgotten.
    """

    total: int = 0
    due: int = 0
    filled: int = 0
    completed: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    known_from: int | None = None

    def copy(self) -> "Progress":
        """Another one to plan on."""
        return replace(self, runs=[*self.runs])

    @property
    def owed(self) -> int:
        """How many cards must be filled again before the next one counts."""
        return max(0, self.completed - self.due)

    def count(self, stamps: int, goal: int) -> None:
        """Count stamps, or take them back where they are less than none."""
        self.total += stamps
        self.due = self.total // goal

    def knows(self, period: int) -> bool:
        """Whether a period can still be counted or taken back: not where it may lie among runs that are forgotten."""
        return self.known_from is None or period >= self.known_from

    def has(self, period: int) -> bool:
        """Whether a streak has something in this period."""
        return any(first <= period <= last for first, last in self.runs)

    def join(self, period: int, goal: int) -> None:
        """Count a period of a streak that has not been counted: it may join what stands on both sides of it."""
        before = next((run for run in self.runs if run[1] == period - 1), None)
        after = next((run for run in self.runs if run[0] == period + 1), None)
        joined = (before[0] if before else period, after[1] if after else period)
        self.due += _cards(joined, goal) - sum(_cards(run, goal) for run in (before, after) if run)
        self.set_runs([joined, *(run for run in self.runs if run not in (before, after))])
        self.total += 1

    def part(self, period: int, goal: int) -> None:
        """Take a period back, which may break a run in two."""
        whole = next(run for run in self.runs if run[0] <= period <= run[1])
        left = [part for part in ((whole[0], period - 1), (period + 1, whole[1])) if part[0] <= part[1]]
        self.due += sum(_cards(run, goal) for run in left) - _cards(whole, goal)
        self.set_runs([*left, *(run for run in self.runs if run != whole)])
        self.total -= 1

    def current(self, challenge: Challenge, now: datetime, zone: ZoneInfo) -> int:
        """The stamps on the present card; none of a streak that has been broken by `now`."""
        if challenge.per is None:
            return max(0, self.total - self.completed * challenge.goal)
        run = self._alive(challenge.per, now, zone)
        return (run[1] - run[0] + 1) % challenge.goal if run else 0

    def next_by(self, challenge: Challenge, now: datetime, zone: ZoneInfo) -> datetime | None:
        """Until when a streak needs its next stamp, so that those on the present card are not lost."""
        if challenge.per is None or not self.current(challenge, now, zone):
            return None
        return start_of(first_day(challenge.per, self.runs[-1][1] + 2), zone)

    def set_runs(self, runs: Sequence[tuple[int, int]]) -> None:
        """Know these, or the last of them where there are too many."""
        self.runs = sorted(runs)[-RUNS_MAX:]
        if len(runs) > RUNS_MAX:
            self.known_from = self.runs[0][0]

    def _alive(self, per: Per, now: datetime, zone: ZoneInfo) -> tuple[int, int] | None:
        if not self.runs or self.runs[-1][1] < period_of(per, now, zone) - 1:
            return None
        return self.runs[-1]


def together(parts: Sequence[Progress], challenge: Challenge) -> Progress:
    """How far somebody has come whose facts were recorded under several ids; cards are numbered as in the first part.

    A period of a streak that several parts have counts once.
    """
    whole, goal = parts[0].copy(), challenge.goal
    for part in parts[1:]:
        whole.total += part.total
        whole.due += part.due
        whole.completed += part.completed
    if challenge.per is None:
        whole.due = whole.total // goal
    elif len(parts) > 1:
        runs = [run for part in parts for run in part.runs]
        joined = _joined(runs)
        whole.total += sum(map(_length, joined)) - sum(map(_length, runs))
        whole.due += sum(_cards(run, goal) for run in joined) - sum(_cards(run, goal) for run in runs)
        whole.known_from = max((part.known_from for part in parts if part.known_from is not None), default=None)
        whole.set_runs(joined)
    return whole


def period_of(per: Per, at: datetime, zone: ZoneInfo) -> int:
    """The number of the local day, ISO week or month around an instant; those in a row have numbers in a row."""
    day = local_day(at, zone)
    match per:
        case "day":
            return day.toordinal()
        case "week":
            return (day.toordinal() - 1) // 7
        case "month":
            return day.year * 12 + day.month - 1


def first_day(per: Per, period: int) -> date:
    """The first local day of a period."""
    match per:
        case "day":
            return date.fromordinal(period)
        case "week":
            return date.fromordinal(period * 7 + 1)
        case "month":
            return date(period // 12, period % 12 + 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what a purchase had its stamps, kept with them: whatever becomes of the challenge, a refund goes by this.

    `periods` are those in which the stamps used up limits.
    """

    lines: Sequence[int]
    per_unit: bool = False
    min_spend: Decimal | None = None
    periods: Sequence[str] = ()


def left(returned: Returned, terms: Terms) -> int:
    """How many stamps a purchase would have had without what was given back so far.

    Of units, an amount gives back its share. A visit is undone with the last line that counted, with the whole order,
    or where too little is left of it.
    """
    if returned.undone.complete or (terms.min_spend is not None and returned.remains < Fraction(terms.min_spend)):
        return 0
    sold = [line.quantity for line in returned.purchase.lines] or [Decimal(1)]
    back = [Decimal(0)] * len(sold)
    money = NONE
    for refund in returned.refunds:
        money += Fraction(refund.amount or 0)
        for each in refund.lines:
            back[each.line] += each.quantity
    if not terms.per_unit:
        gone = any(back[index] for index in terms.lines)
        return int(not gone or any(back[index] < sold[index] for index in terms.lines))
    units = sum((Fraction(sold[index] - back[index]) for index in terms.lines), NONE)
    whole = sum(goods_of(returned.purchase), NONE)
    return half_up(units * (1 - money / whole if whole else 1))


def _joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The periods of all these runs, as runs that neither meet nor overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _length(run: tuple[int, int]) -> int:
    return run[1] - run[0] + 1


def _cards(run: tuple[int, int], goal: int) -> int:
    return _length(run) // goal
