"""The stages of a customer, from explicit rules. Pure.

Whoever is known is a prospect; the first purchase, a repeated one and loyalty follow one on another. Who has bought
nothing for long is at risk, and then lost; a purchase brings them back to the stage that they had reached.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from crm.errors import Invalid

Stage: TypeAlias = Literal["prospect", "first_purchase", "repeat", "loyal", "at_risk", "lost"]
RuleName: TypeAlias = Literal[
    "known", "first_purchase", "repeat_purchases", "loyal_purchases", "loyal_tiers", "at_risk_after_days",
    "lost_after_days", "prospect_lost_after_days", "came_back",
]  # fmt: skip

STEPS: Final[tuple[Stage, ...]] = ("prospect", "first_purchase", "repeat", "loyal")
"""What is reached one after the other."""

_DAY: Final = timedelta(days=1)


class InvalidJourneyRules(Invalid):
    code = "invalid_journey_rules"
    title = "These rules contradict each other"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a customer is in which stage.

    `repeat_purchases` make a repeated customer. `loyal_purchases` within `loyal_within_days` of 24 hours make a loyal
    one, and so does one of `loyal_tiers`, by name, for who has bought repeatedly; null is never, or within any time.
    The other days are local ones since the last purchase, and of a prospect since they are known; null is never.
    """

    repeat_purchases: int = 2
    loyal_purchases: int | None = 5
    loyal_within_days: int | None = 365
    loyal_tiers: list[str] = field(default_factory=list)
    at_risk_after_days: int = 90
    lost_after_days: int = 180
    prospect_lost_after_days: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a customer: since when, when they bought, in order, and when they first came to a loyal tier."""

    known_at: datetime
    purchases: Sequence[datetime]
    tier_at: datetime | None = None


@dataclass(slots=True)
class Stay:
    """A time in a stage, in which the `rule` put them for the `reason`; `left_at` is null in the stage of today."""

    stage: Stage
    entered_at: datetime
    left_at: datetime | None
    seconds: int
    rule: RuleName
    reason: str


@dataclass(frozen=True, slots=True)
class _Entry:
    at: datetime
    stage: Stage
    rule: RuleName
    reason: str


def walk(rules: Rules, facts: Facts, *, until: datetime, zone: ZoneInfo) -> list[Stay]:
    """All stages that somebody was in before an instant, one after the other; none before they were known."""
    if facts.known_at >= until:
        return []
    entries: list[_Entry] = []
    for entry in _entries(rules, facts, until, zone):
        if not entries or entries[-1].stage != entry.stage:
            entries.append(entry)
    ends = [entry.at for entry in entries[1:]]
    return [_stay(entry, left_at, until) for entry, left_at in zip(entries, [*ends, None], strict=True)]


def _stay(entry: _Entry, left_at: datetime | None, until: datetime) -> Stay:
    seconds = int(((left_at or until) - entry.at).total_seconds())
    return Stay(entry.stage, entry.at, left_at, seconds, entry.rule, entry.reason)


def _entries(rules: Rules, facts: Facts, until: datetime, zone: ZoneInfo) -> Iterator[_Entry]:
    bought = [at for at in facts.purchases if at < until]
    tier_at = facts.tier_at
    yield _Entry(facts.known_at, "prospect", "known", "known, and nothing bought yet")
    following = [*bought[:1], until][0]
    days = rules.prospect_lost_after_days
    if days is not None and (lost_at := _after(facts.known_at, days, zone)) < following:
        yield _Entry(lost_at, "lost", "prospect_lost_after_days", f"known for {days} days, and nothing bought")
    step = 0
    for number, at in enumerate(bought, 1):
        following = [*bought[number : number + 1], until][0]
        entry = _step(rules, bought, number)
        if STEPS.index(entry.stage) > step:
            yield entry
            step = STEPS.index(entry.stage)
        by_tier = tier_at is not None and step == STEPS.index("repeat") and tier_at < following
        if by_tier and tier_at is not None and tier_at <= at:
            step = STEPS.index("loyal")
            yield _Entry(at, "loyal", "loyal_tiers", "bought repeatedly, in a tier of the loyal")
        else:
            yield _Entry(at, STEPS[step], "came_back", "bought again")
        at_risk_at = _after(at, rules.at_risk_after_days, zone)
        lost_at = _after(at, rules.lost_after_days, zone)
        if by_tier and tier_at is not None and at < tier_at:
            step = STEPS.index("loyal")
            if tier_at < at_risk_at:
                yield _Entry(tier_at, "loyal", "loyal_tiers", "came to a tier of the loyal")
        if at_risk_at < following:
            yield _Entry(
                at_risk_at, "at_risk", "at_risk_after_days", f"no purchase for {rules.at_risk_after_days} days"
            )
        if lost_at < following:
            yield _Entry(lost_at, "lost", "lost_after_days", f"no purchase for {rules.lost_after_days} days")


def _step(rules: Rules, bought: Sequence[datetime], count: int) -> _Entry:
    """What the last of the first `count` purchases makes of somebody by itself."""
    at, wanted = bought[count - 1], rules.loyal_purchases
    if wanted is not None and count >= wanted:
        days = rules.loyal_within_days
        if days is None or at - bought[count - wanted] <= days * _DAY:
            within = "" if days is None else f" within {days} days"
            return _Entry(at, "loyal", "loyal_purchases", f"{wanted} purchases{within}")
    if count >= rules.repeat_purchases:
        return _Entry(at, "repeat", "repeat_purchases", f"{rules.repeat_purchases} purchases")
    return _Entry(at, "first_purchase", "first_purchase", "the first purchase")


def _after(at: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The beginning of the local day so many days after that of an instant."""
    day = at.astimezone(zone).date() + days * _DAY
    return datetime.combine(day, time(), zone).astimezone(UTC)
