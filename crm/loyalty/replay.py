"""What other rules would have given: past purchases, judged anew one member after another, and summed up.

Pure, and judged by the same `earning.evaluate` as the real thing. A member has the tier that they really had at each
purchase, with the factor that it has today, until what the tried rules gave more or less makes it another one: that is
worked out by local days, from what really counted on each. Refunds are left out on both sides, and so are the points of
events.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.contacts import conditions
from crm.contacts.conditions import Condition, Facts
from crm.loyalty import earning
from crm.loyalty.basket import Purchase
from crm.loyalty.earning import Earned, Rule
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.ladders import NOTHING_COUNTED, Counted, Pin, Tier
from crm.loyalty.limits import UNUSED, Period, Used, period_key
from crm.loyalty.programs import Program

Assumption: TypeAlias = Literal["now", "false", "true"]

LARGEST_MAX: Final = 10
"""How many members a report names."""

# What a purchase's explanation says only of a rule whose condition held.
_HELD: Final = frozenset({"applied", "trimmed", "rejected", "limit_reached", "superseded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A rule set to try, on the purchases of the local days `first_on` to `last_on`, both within.

    `conditions` is what to go by where a purchase does not tell whether a rule's condition held: what is known of the
    member now, or that it did not, or did. `rules_sent`: the rules are not those of the program.
    """

    program: Program
    first_on: date
    last_on: date
    rules: tuple[Rule, ...]
    rules_sent: bool
    include_drafts: bool
    conditions: Assumption
    cost_per_point: Decimal | None = None

    @property
    def zone(self) -> ZoneInfo:
        """Whose days these are."""
        return self.program.terms.zone

    @property
    def since(self) -> datetime:
        """The instant at which the period begins."""
        return start_of(self.first_on, self.zone)

    @property
    def until(self) -> datetime:
        """The instant at which it has ended."""
        return start_of(self.last_on + timedelta(days=1), self.zone)

    @property
    def climbs(self) -> bool:
        """Whether what a rule gives can make a tier that gives more or less."""
        ladder = self.program.ladder
        return ladder.basis == "points" and any(tier.earn_factor != 1 for tier in ladder.tiers)

    def carried(self) -> "list[Carried]":
        """Limits whose own period had begun before this one: members may have used them up already.

        Rules that were sent have given nothing to anybody.
        """
        if self.rules_sent:
            return []
        return [
            Carried(rule, period_key(per, self.first_on), None if began is None else start_of(began, self.zone))
            for rule in self.rules
            for per in sorted(_pers(rule))
            if (began := _began_on(per, self.first_on)) != self.first_on
        ]


class Carried(NamedTuple):
    """A limit's period, by rule and `limits.period_key`, and the instant at which it began; None is ever."""

    rule: Rule
    period: str
    since: datetime | None


class Past(NamedTuple):
    """A purchase as it is kept: what it really earned, and the rows that explain it.

    `facts` are what is known of the member, as far as the conditions ask for it that the rows do not tell of.
    """

    contact_id: UUID
    purchase: Purchase
    points: int
    explained: Sequence[Mapping[str, Any]]
    facts: Facts = Facts()


@dataclass(slots=True)
class Before:
    """What a member brings along: usage from before the period, points that counted by local day, at any time."""

    usage: dict[tuple[UUID, str], Used] = field(default_factory=dict)
    days: Mapping[date, Counted] = field(default_factory=dict)
    pin: Pin | None = None


@dataclass(slots=True)
class BacktestCost:
    """What points cost, by the program's `cost_per_point`: decimals in `currency`."""

    currency: str
    issued: str
    tried: str
    difference: str


@dataclass(slots=True)
class BacktestRule:
    """What a tried rule gave: on how many purchases, how many points.

    `rule_id` is null for a rule that was sent and for a tier's own factor. `assumed` counts the purchases on which
    nothing was known of the rule's condition.
    """

    rule_id: UUID | None
    version: int | None
    name: str
    applied: int = 0
    points: int = 0
    assumed: int = 0


@dataclass(slots=True)
class BacktestMonth:
    """A month of the program's calendar, such as 2026-11."""

    month: str
    purchases: int = 0
    points_issued: int = 0
    points_tried: int = 0


@dataclass(slots=True)
class BacktestMember:
    """A member for whom the tried rules make a difference."""

    contact_id: UUID
    points_issued: int
    points_tried: int
    difference: int


@dataclass(slots=True)
class BacktestReport:
    """What the tried rules would have given beside what was really issued for the same purchases.

    `cost` is null where the program does not say what a point costs.
    """

    purchases: int
    members: int
    points_issued: int
    points_tried: int
    difference: int
    members_more: int
    members_less: int
    members_same: int
    cost: BacktestCost | None
    rules: list[BacktestRule]
    months: list[BacktestMonth]
    largest_differences: list[BacktestMember]


@dataclass(slots=True)
class _Member:
    """The member whose purchases are passing by; `extra` is what was tried less what was issued, by when it counts."""

    contact_id: UUID
    before: Before
    usage: dict[tuple[UUID, str], Used]
    extra: dict[date, int] = field(default_factory=dict)
    issued: int = 0
    tried: int = 0


class Replay:
    """A trial under way. Purchases are added member by member, each member's in the order in which they happened.

    `total` is how many there were when it began, `position` that of the last one: contact, occurred_at, recorded_at,
    order_ref.
    """

    def __init__(self, trial: Trial, *, total: int) -> None:
        self.trial = trial
        self.total = total
        self.done = 0
        self.position: tuple[UUID, datetime, datetime, str] | None = None
        self._member: _Member | None = None
        self._members = self._more = self._less = 0
        self._issued = self._tried = 0
        self._largest: list[tuple[int, int, BacktestMember]] = []
        self._months: dict[str, BacktestMonth] = {}
        self._rules: dict[tuple[UUID | None, str], BacktestRule] = {
            (rule.id, rule.name): BacktestRule(None, None, rule.name)
            if trial.rules_sent
            else BacktestRule(rule.id, rule.version, rule.name)
            for rule in trial.rules
            if rule.kind != "per_event"
        }
        self._limited = {rule.id: _pers(rule) for rule in trial.rules if rule.limits}
        self._conditional = [rule for rule in trial.rules if rule.condition is not None and rule.kind != "per_event"]
        ladder = trial.program.ladder
        self._factors = {tier.name: tier.earn_factor for tier in ladder.tiers if tier.earn_factor != 1}

    def is_new(self, contact_id: UUID) -> bool:
        """Whether nothing of this member has passed by yet."""
        return self._member is None or self._member.contact_id != contact_id

    def untold(self, past: Past) -> list[Condition]:
        """Conditions of which a purchase does not tell whether they held."""
        return [rule.condition for rule in self._conditional if rule.condition and _told(past, rule) is None]

    def add(self, past: Past, *, before: Before) -> None:
        """Judge one purchase anew. `before` is looked at for a member who is new.

        Raises CurrencyMismatch and UnknownDiscountLine.
        """
        if self._member is None or self._member.contact_id != past.contact_id:
            self._close_member()
            self._member = _Member(past.contact_id, before, dict(before.usage))
        member, trial = self._member, self.trial
        local_on = local_day(past.purchase.occurred_at, trial.zone)
        earned = earning.evaluate(
            past.purchase, rules=trial.rules, terms=trial.program.terms, include_drafts=trial.include_drafts,
            member=self._judged(past, member, local_on),
        )  # fmt: skip
        self._count(earned, member, local_on)
        member.issued += past.points
        member.tried += earned.points
        if earned.points != past.points:
            counts_on = self._counts_on(past, local_on)
            member.extra[counts_on] = member.extra.get(counts_on, 0) + earned.points - past.points
        name = period_key("month", local_on)
        month = self._months.setdefault(name, BacktestMonth(name))
        month.purchases += 1
        month.points_issued += past.points
        month.points_tried += earned.points
        self.done += 1

    def report(self) -> BacktestReport:
        """The outcome of all purchases added; nothing can be added after it."""
        self._close_member()
        self._member = None
        largest = sorted((one for _, _, one in self._largest), key=lambda one: (-abs(one.difference), one.contact_id))
        return BacktestReport(
            purchases=self.done,
            members=self._members,
            points_issued=self._issued,
            points_tried=self._tried,
            difference=self._tried - self._issued,
            members_more=self._more,
            members_less=self._less,
            members_same=self._members - self._more - self._less,
            cost=self._cost(),
            rules=list(self._rules.values()),
            months=[self._months[name] for name in sorted(self._months)],
            largest_differences=largest,
        )

    def _judged(self, past: Past, member: _Member, local_on: date) -> earning.Member:
        name, factor = self._tier(past, member, local_on)
        if factor == 1 and not self._limited and not self._conditional:
            return earning.NOBODY
        return earning.Member(
            tier_name=name, tier_factor=factor, usage=member.usage, condition_holds=partial(self._held, past)
        )

    def _tier(self, past: Past, member: _Member, local_on: date) -> tuple[str, Decimal]:
        if not self._factors:
            return "", Decimal(1)
        if self.trial.climbs and any(member.extra.values()):
            own = past.points if self._counts_on(past, local_on) == local_on else 0
            real = self._standing(past, member, {local_on: -own})
            tried = self._standing(past, member, member.extra | {local_on: member.extra.get(local_on, 0) - own})
            if tried != real:
                return (tried.name, tried.earn_factor) if tried is not None else ("", Decimal(1))
        # The row of the tier's factor is the one that is no rule's.
        name = next((row["name"] for row in past.explained if row["rule_id"] is None), "")
        return name, self._factors.get(name, Decimal(1))

    def _standing(self, past: Past, member: _Member, extra: Mapping[date, int]) -> Tier | None:
        """The tier at a purchase by what had counted, and `extra`, up to its local day."""
        ladder, at = self.trial.program.ladder, past.purchase.occurred_at
        last = local_day(at, ladder.zone)
        days = {day: counted for day, counted in member.before.days.items() if day <= last}
        for day, points in extra.items():
            if day <= last:
                days[day] = days.get(day, NOTHING_COUNTED) + Counted(points)
        total = sum(days.values(), NOTHING_COUNTED)
        return ladder.standing(total=total, days=days, at=at, pin=member.before.pin).current

    def _counts_on(self, past: Past, local_on: date) -> date:
        """When a purchase's points count towards tiers; those that wait for an event, as if it came the same day."""
        zone = self.trial.zone
        starts_at = self.trial.program.activation.activates_at(past.purchase.occurred_at, zone)
        return local_on if starts_at is None else local_day(starts_at, zone)

    def _held(self, past: Past, rule: Rule) -> bool:
        told = _told(past, rule)
        if told is not None:
            return told
        self._rules[rule.id, rule.name].assumed += 1
        if self.trial.conditions != "now" or rule.condition is None:
            return self.trial.conditions == "true"
        at = past.purchase.occurred_at.astimezone(self.trial.zone)
        return conditions.holds(rule.condition, past.facts, now=at)

    def _count(self, earned: Earned, member: _Member, local_on: date) -> None:
        for outcome in earned.rules:
            if outcome.outcome != "applied":
                continue
            key = outcome.rule_id, outcome.name
            tally = self._rules.get(key)
            if tally is None:
                tally = self._rules[key] = BacktestRule(None, None, outcome.name)
            tally.applied += 1
            tally.points += outcome.points
            if outcome.counted and outcome.rule_id in self._limited:
                for per in self._limited[outcome.rule_id]:
                    place = outcome.rule_id, period_key(per, local_on)
                    points, times = member.usage.get(place, UNUSED)
                    member.usage[place] = Used(points + outcome.points, times + 1)

    def _close_member(self) -> None:
        member = self._member
        if member is None:
            return
        difference = member.tried - member.issued
        self._members += 1
        self._issued += member.issued
        self._tried += member.tried
        self._more += difference > 0
        self._less += difference < 0
        if difference:
            named = BacktestMember(member.contact_id, member.issued, member.tried, difference)
            entry = (abs(difference), -member.contact_id.int, named)
            if len(self._largest) < LARGEST_MAX:
                heapq.heappush(self._largest, entry)
            else:
                heapq.heappushpop(self._largest, entry)

    def _cost(self) -> BacktestCost | None:
        price = self.trial.cost_per_point
        if price is None:
            return None
        return BacktestCost(
            currency=self.trial.program.terms.currency,
            issued=f"{self._issued * price:f}",
            tried=f"{self._tried * price:f}",
            difference=f"{(self._tried - self._issued) * price:f}",
        )


def _told(past: Past, rule: Rule) -> bool | None:
    """Whether a rule's condition held, as the purchase's explanation says; None where it does not."""
    for row in past.explained:
        if row["rule_id"] == str(rule.id) and row["version"] == rule.version:
            if row["reason"] in _HELD:
                return True
            if row["reason"] == "condition_not_met":
                return False
    return None


def _pers(rule: Rule) -> frozenset[Period]:
    return frozenset(limit.per for limit in rule.limits)


def _began_on(per: Period, day: date) -> date | None:
    match per:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
        case _:
            return None
