"""Whether a member can get a reward, and if not, every reason why and by how much. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.contacts import conditions
from crm.contacts.conditions import Condition, Facts
from crm.loyalty.books import Book
from crm.loyalty.earning import Window, window_of
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.limits import UNUSED, Limit, Period, Used, resets_at

Why: TypeAlias = Literal[
    "not_started", "ended", "not_eligible", "tier_needed", "limit_reached", "out_of_stock", "insufficient_points"
]
Fulfilment: TypeAlias = Literal["manual", "voucher"]


_FAR: Final = date(9000, 1, 1)
"""Who lets something begin so late means never; the calendar ends soon after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """What a reward costs and asks for. `stock` is what is left, None without a limit; the codes of a pool are one.

    `categories` and `skus` say what it is about.
    """

    id: UUID
    program_id: UUID
    name: str
    cost: int
    status: str = "active"
    stock: int | None = None
    limits: tuple[Limit, ...] = ()
    fulfilment: Fulfilment = "manual"
    window: Window | None = None
    condition: Condition | None = None
    tier_id: UUID | None = None
    valid_days: int | None = None
    code_pattern: str | None = None
    pooled: bool = False
    codes_left: bool = True
    categories: frozenset[str] = frozenset()
    skus: frozenset[str] = frozenset()

    @classmethod
    def of(cls, definition: Mapping[str, Any], **facts: Any) -> "Reward":
        """The reward that a JSON definition of the API describes; its `condition`, parsed, is among the `facts`."""
        window = {name: value for name, value in (definition.get("window") or {}).items() if value}
        return cls(
            name=definition["name"],
            cost=definition["cost"],
            limits=tuple(Limit(**limit) for limit in definition.get("limits", ())),
            fulfilment=definition.get("fulfilment", "manual"),
            window=window_of(window) if window else None,
            tier_id=UUID(definition["tier_id"]) if definition.get("tier_id") else None,
            valid_days=definition.get("valid_days"),
            code_pattern=definition.get("code_pattern"),
            categories=frozenset(definition.get("categories") or ()),
            skus=frozenset(definition.get("skus") or ()),
            **facts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What of a member decides: the settled account, and what was `used` of each reward, by period.

    `facts` are what the conditions of the rewards ask for.
    """

    book: Book
    used: Mapping[UUID, Mapping[Period, Used]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    def reached(self, reward: Reward, *, quantity: int) -> Iterator[Limit]:
        """The limits that so many more would overstep."""
        used, points = self.used.get(reward.id, {}), reward.cost * quantity
        for limit in reward.limits:
            so_far = used.get(limit.per, UNUSED)
            if (limit.times is not None and so_far.times + quantity > limit.times) or (
                limit.points is not None and so_far.points + points > limit.points
            ):
                yield limit


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason why not. `missing` is in points, or in what counts towards `tier`; at `until` the reason is gone."""

    code: Why
    missing: int | None = None
    until: datetime | None = None
    tier: str | None = None


def obstacles(reward: Reward, member: Member, *, quantity: int = 1, now: datetime) -> list[Obstacle]:
    """Every reason why this member can't have so many of this reward at `now`; none where nothing speaks against it."""
    return [
        *_closed(reward, member, now),
        *_condition(reward, member, now),
        *_rank(reward, member),
        *_limit(reward, member, quantity, now),
        *_stock(reward, quantity),
        *_points(reward, member, quantity),
    ]


def closed(window: Window, *, now: datetime, zone: ZoneInfo) -> Obstacle | None:
    """Why nothing can be had at `now`: the window opens later, or never again. None where it is open."""
    local = now.astimezone(zone)
    if window.covers(local):
        return None
    if window.first_on is not None and window.first_on >= _FAR:
        return Obstacle("not_started")
    opening = opens_at(window, local)
    return Obstacle("ended") if opening is None else Obstacle("not_started", until=opening.astimezone(UTC))


def ends_at(window: Window | None, zone: ZoneInfo) -> datetime | None:
    """The instant at which the last day of a window is over; None where it has none."""
    if window is None or window.last_on is None:
        return None
    return start_of(window.last_on + timedelta(days=1), zone)


def opens_at(window: Window, local: datetime) -> datetime | None:
    """The local time, after `local`, at which a window opens next; None where it never does again."""
    first_on = local.date() if window.first_on is None else max(local.date(), window.first_on)
    for day in (first_on + timedelta(days=number) for number in range(8)):
        if window.last_on is not None and day > window.last_on:
            return None
        opening = datetime.combine(day, window.hours[0] if window.hours else time.min, tzinfo=local.tzinfo)
        if (not window.weekdays or day.weekday() in window.weekdays) and opening > local:
            return opening
    return None


def _closed(reward: Reward, member: Member, now: datetime) -> Iterator[Obstacle]:
    if reward.status == "draft":
        yield Obstacle("not_started")
    elif reward.status != "active":
        yield Obstacle("ended")
    if reward.window is not None and (shut := closed(reward.window, now=now, zone=member.book.ladder.zone)):
        yield shut


def _condition(reward: Reward, member: Member, now: datetime) -> Iterator[Obstacle]:
    local = now.astimezone(member.book.ladder.zone)
    if reward.condition is not None and not conditions.holds(reward.condition, member.facts, now=local):
        yield Obstacle("not_eligible")


def _rank(reward: Reward, member: Member) -> Iterator[Obstacle]:
    if reward.tier_id is None:
        return
    needed = member.book.ladder.tier(reward.tier_id)
    if needed is None:
        yield Obstacle("tier_needed")
        return
    standing = member.book.standing()
    if standing.current is None or standing.current.threshold < needed.threshold:
        assert standing.following is not None, "a tier that is not reached lies above"
        missing = standing.missing + needed.threshold - standing.following.threshold
        yield Obstacle("tier_needed", missing, tier=needed.name)


def _limit(reward: Reward, member: Member, quantity: int, now: datetime) -> Iterator[Obstacle]:
    zone = member.book.ladder.zone
    ends = [resets_at(limit.per, local_day(now, zone), zone) for limit in member.reached(reward, quantity=quantity)]
    if ends:
        # One that is never lifted counts more than all that are.
        yield Obstacle("limit_reached", until=None if None in ends else max(end for end in ends if end))


def _stock(reward: Reward, quantity: int) -> Iterator[Obstacle]:
    if (reward.stock is not None and reward.stock < quantity) or (reward.pooled and not reward.codes_left):
        yield Obstacle("out_of_stock")


def _points(reward: Reward, member: Member, quantity: int) -> Iterator[Obstacle]:
    missing = reward.cost * quantity - member.book.available
    if reward.cost and missing > 0:
        yield Obstacle("insufficient_points", missing)
