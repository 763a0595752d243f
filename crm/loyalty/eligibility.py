"""Whether a member can get a reward, and if not, every reason why and by how much. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

from crm.loyalty.books import Book
from crm.loyalty.earning import Window, window_of
from crm.loyalty.expiry import local_day
from crm.loyalty.limits import UNUSED, Limit, Period, Used, resets_at

Why: TypeAlias = Literal[
    "not_started", "ended", "not_eligible", "tier_needed", "limit_reached", "out_of_stock", "insufficient_points"
]
Fulfilment: TypeAlias = Literal["manual", "voucher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """What a reward costs and asks for. `stock` is what is left, None without a limit; the codes of a pool are one."""

    id: UUID
    program_id: UUID
    name: str
    cost: int
    status: str = "active"
    stock: int | None = None
    limits: tuple[Limit, ...] = ()
    fulfilment: Fulfilment = "manual"
    window: Window | None = None
    tier_id: UUID | None = None
    valid_days: int | None = None
    code_pattern: str | None = None
    pooled: bool = False
    codes_left: bool = True

    @classmethod
    def of(cls, definition: Mapping[str, Any], **facts: Any) -> "Reward":
        """The reward that a JSON definition of the API describes."""
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
            **facts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What of a member decides: the settled account, and by period what was `used` of the reward."""

    book: Book
    used: Mapping[Period, Used] = field(default_factory=dict)


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
        *_rank(reward, member),
        *_limit(reward, member, quantity, now),
        *_stock(reward, quantity),
        *_points(reward, member, quantity),
    ]


def reached(limits: Sequence[Limit], used: Mapping[Period, Used], *, quantity: int, points: int) -> Iterator[Limit]:
    """The limits that so many more would overstep."""
    for limit in limits:
        so_far = used.get(limit.per, UNUSED)
        if (limit.times is not None and so_far.times + quantity > limit.times) or (
            limit.points is not None and so_far.points + points > limit.points
        ):
            yield limit


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
    if reward.window is None:
        return
    local = now.astimezone(member.book.ladder.zone)
    if not reward.window.covers(local):
        opening = opens_at(reward.window, local)
        yield Obstacle("ended") if opening is None else Obstacle("not_started", until=opening.astimezone(UTC))


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
    ends = [
        resets_at(limit.per, local_day(now, zone), zone)
        for limit in reached(reward.limits, member.used, quantity=quantity, points=reward.cost * quantity)
    ]
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
