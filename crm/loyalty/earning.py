"""Earning: from a purchase or an event and the rules of a program to points, with the explanation.

Pure and exact, for simulations and for the real thing alike. Points are fractions per line until the end: the total is
rounded once, and then apportioned to the rules, so that what the explanation says adds up to what is awarded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias
from uuid import UUID

from crm.contacts.conditions import Condition
from crm.loyalty import limits
from crm.loyalty.basket import EXACT, NO_PURCHASE, NONE, SHIPPING, Basket, Filter, Purchase, Rounding, Terms, measure
from crm.loyalty.limits import Limit, Used

Kind: TypeAlias = Literal["per_amount", "per_unit", "per_visit", "per_event", "multiplier"]
Reason: TypeAlias = Literal[
    "applied",
    "inactive",
    "outside_window",
    "below_min_spend",
    "no_matching_lines",
    "code_missing",
    "condition_not_met",
    "superseded",
    "limit_reached",
    "trimmed",
    "rejected",
]

# The tier's factor is evaluated as the last of the rules; it is not one that anybody stored.
TIER: Final = UUID(int=0)
# A third of a point has no end: the exact points of a line are kept to this many decimals, and still add up.
EXACT_PLACES: Final = 12
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Local time of the program: both dates are within, hours are [from, to) and may run past midnight.

    An hour past midnight belongs to the day on which its evening began.
    """

    first_on: date | None = None
    last_on: date | None = None
    weekdays: frozenset[int] = frozenset()
    hours: tuple[time, time] | None = None

    def covers(self, local: datetime) -> bool:
        day = local.date()
        if self.hours is not None:
            opens, closes = self.hours
            at = local.time()
            if opens < closes:
                if not opens <= at < closes:
                    return False
            elif closes <= at < opens:
                return False
            elif at < closes and opens != closes:
                day -= timedelta(days=1)
        return (
            (self.first_on is None or self.first_on <= day)
            and (self.last_on is None or day <= self.last_on)
            and (not self.weekdays or day.weekday() in self.weekdays)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An earning rule, compiled once and used for many purchases.

    `rate` is points per unit of money, per unit sold, or per visit or event; `gain` what a multiplier adds per point.
    """

    id: UUID
    version: int
    name: str
    kind: Kind
    points: Decimal = Decimal(1)
    per: Decimal = Decimal(1)
    factor: Decimal = Decimal(1)
    event: str | None = None
    filter: Filter | None = None
    condition: Condition | None = None
    window: Window | None = None
    min_spend: Decimal | None = None
    code: str | None = None
    limits: tuple[Limit, ...] = ()
    max_points_per_purchase: int | None = None
    over_max: Literal["trim", "reject"] = "trim"
    stackable: bool = True
    priority: int = 0
    applies_to: Literal["amount", "all"] = "amount"
    status: Literal["active", "draft", "disabled"] = "active"
    rate: Fraction = field(init=False, repr=False, compare=False)
    gain: Fraction = field(init=False, repr=False, compare=False)
    threshold: Fraction = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rate = max(NONE, Fraction(self.points))
        if self.kind in {"per_amount", "per_unit"}:
            rate = rate / Fraction(self.per) if self.per > 0 else NONE
        object.__setattr__(self, "rate", rate)
        object.__setattr__(self, "gain", max(NONE, Fraction(self.factor)) - 1)
        object.__setattr__(self, "threshold", Fraction(self.min_spend or 0))

    @classmethod
    def of(cls, definition: Mapping[str, Any], *, id: UUID, version: int) -> Self:  # noqa: A002
        """The rule that a JSON definition of the API describes, with its `name`, `kind` and `status`.

        Its `condition` is parsed already.
        """
        given = {key: value for key, value in definition.items() if value is not None}
        for name in ("points", "per", "factor", "min_spend"):
            if name in given:
                given[name] = Decimal(given[name])
        lists = {name: frozenset(values) for name, values in given.pop("filter", {}).items() if values}
        window = {name: value for name, value in given.pop("window", {}).items() if value}
        return cls(
            id=id,
            version=version,
            filter=Filter(**lists) if lists else None,
            window=window_of(window) if window else None,
            limits=tuple(Limit(**limit) for limit in given.pop("limits", ())),
            **given,
        )

    def is_about(self, event: str) -> bool:
        """Whether what an event earns is up to this rule: one of its own, or a multiplier of everything."""
        if self.kind == "multiplier":
            return self.applies_to == "all"
        return self.kind == "per_event" and self.event == event


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What of a member decides how much a purchase earns. `usage` is keyed by rule and `limits.period_key`."""

    tier_name: str = ""
    tier_factor: Decimal = Decimal(1)
    usage: Mapping[tuple[UUID, str], Used] = field(default_factory=dict)
    condition_holds: Callable[[Rule], bool] = lambda rule: False


NOBODY: Final = Member()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """A row of the explanation. `rule_id` and `version` are None for the tier's factor; `counted`: uses up one time."""

    rule_id: UUID | None
    version: int | None
    name: str
    outcome: Literal["applied", "skipped"]
    reason: Reason
    basis: Decimal
    points_requested: int
    points: int
    counted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """`points` is the sum of the rows; `exact` is what they were before rounding, and the sum of `exact_by_line`."""

    points: int
    rules: tuple[RuleOutcome, ...]
    basis: Decimal
    exact: Decimal
    exact_by_line: tuple[Decimal, ...]


def evaluate(
    purchase: Purchase, *, rules: Iterable[Rule], terms: Terms, member: Member = NOBODY, include_drafts: bool = False
) -> Earned:
    """What the purchase earns. `rules` in rule order; those for events stay out of the explanation.

    Raises CurrencyMismatch and UnknownDiscountLine.
    """
    rows = [_Row(rule) for rule in rules if rule.kind != "per_event"]
    if member.tier_factor != 1:
        rows.append(_Row(_tier_rule(member.tier_name, member.tier_factor)))
    basket = measure(purchase, terms)
    return _settle(rows, _Case(basket, purchase.occurred_at, purchase.code, terms, member, include_drafts))


def evaluate_event(
    event: str,
    *,
    occurred_at: datetime,
    rules: Iterable[Rule],
    terms: Terms,
    member: Member = NOBODY,
    include_drafts: bool = False,
) -> Earned:
    """What a review, a birthday or another event earns: by its own rules, and by the multipliers that apply to all."""
    rows = [_Row(rule) for rule in rules if rule.is_about(event)]
    return _settle(rows, _Case(NO_PURCHASE, occurred_at, None, terms, member, include_drafts))


class _Case(NamedTuple):
    """One evaluation: what was measured, when, and for whom."""

    basket: Basket
    occurred_at: datetime
    code: str | None
    terms: Terms
    member: Member
    include_drafts: bool


class _Row:
    """A rule on its way to its row; as long as `reason` is None, nothing speaks against it."""

    __slots__ = ("basis", "granted", "lines", "reason", "requested", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.lines: Sequence[int] = ()
        self.basis = NONE
        self.requested = NONE
        self.granted = NONE
        self.reason: Reason | None = None


# The exact points of each line: those from amounts, and behind them, one for each line again, the others. Only the
# multipliers that apply to all reach the latter.
_Pot: TypeAlias = list[Fraction]


def _settle(rows: list[_Row], case: _Case) -> Earned:
    basket = case.basket
    local = case.occurred_at.astimezone(case.terms.zone)
    for row in rows:
        row.reason = _obstacle(row, case, local)
    pot = [NONE] * (2 * len(basket.lines))
    _let_compete([row for row in rows if row.reason is None and row.rule.kind != "multiplier"], pot, case, local)
    _let_compete([row for row in rows if row.reason is None and row.rule.kind == "multiplier"], pot, case, local)
    exact = [row.granted for row in rows]
    total = sum((each for each in exact if each), NONE)
    points = _rounded(total, case.terms.rounding)
    return Earned(
        points=points,
        rules=tuple(_outcome(row, share, case) for row, share in zip(rows, apportion(exact, points), strict=True)),
        basis=_decimal(basket.total, basket.places),
        exact=_decimal(total, EXACT_PLACES),
        exact_by_line=_exact_by_line(pot, basket),
    )


def _obstacle(row: _Row, case: _Case, local: datetime) -> Reason | None:
    """What keeps the rule from applying, the dearest test last; finds its lines and its basis on the way."""
    rule, basket = row.rule, case.basket
    if rule.status != "active" and not (rule.status == "draft" and case.include_drafts):
        return "inactive"
    if rule.window is not None and not rule.window.covers(local):
        return "outside_window"
    if basket.total < rule.threshold:
        row.basis = basket.total
        return "below_min_spend"
    row.lines = basket.matching(rule.filter)
    if rule.kind in {"per_unit", "per_visit"}:
        row.lines = [index for index in row.lines if basket.lines[index] is not SHIPPING]
    if not row.lines:
        return "no_matching_lines"
    whole = len(row.lines) == len(basket.lines)
    row.basis = basket.total if whole else sum((basket.bases[index] for index in row.lines), NONE)
    if rule.code is not None and not _same_code(rule.code, case.code):
        return "code_missing"
    if rule.condition is not None and not case.member.condition_holds(rule):
        return "condition_not_met"
    return None


def _let_compete(rows: list[_Row], pot: _Pot, case: _Case, local: datetime) -> None:
    """Rules of one sort add up, or multiply each other; one that is not stackable and gives something stands alone.

    Rules that give points and multipliers are two sorts: a multiplier alone would have nothing to multiply.
    """
    for row in sorted((row for row in rows if not row.rule.stackable), key=lambda row: -row.rule.priority):
        _grant(row, pot, case, local)
        if row.granted:
            for other in rows:
                if other.reason is None:
                    other.reason = "superseded"
            return
    for row in rows:
        if row.rule.stackable:
            _grant(row, pot, case, local)


def _grant(row: _Row, pot: _Pot, case: _Case, local: datetime) -> None:
    """Put what the rule gives into the pot, as far as its limits and its maximum let it; lines are trimmed evenly."""
    rule = row.rule
    offer = _offer(row, pot, case.basket)
    if not offer:
        row.reason = "no_matching_lines"
        return
    row.requested = sum((points for _, points in offer), NONE) if len(offer) > 1 else offer[0][1]
    most = limits.room(rule.limits, rule.id, local.date(), case.member.usage) if rule.limits else None
    if most is not None and most <= 0:
        row.reason = "limit_reached"
        return
    maximum = rule.max_points_per_purchase
    if maximum is not None and row.requested > maximum and rule.over_max == "reject":
        row.reason = "rejected"
        return
    if maximum is not None and (most is None or maximum < most):
        most = maximum
    if most is not None and row.requested > most:
        row.reason, row.granted = "trimmed", Fraction(most)
        offer = [(slot, points * row.granted / row.requested) for slot, points in offer]
    else:
        row.reason, row.granted = "applied", row.requested
    for slot, points in offer:
        pot[slot] = pot[slot] + points if pot[slot] else points


def _offer(row: _Row, pot: _Pot, basket: Basket) -> list[tuple[int, Fraction]]:
    """What the rule would give, as (slot of the pot, points); empty for a multiplier with no points to multiply."""
    rule, lines, others = row.rule, row.lines, len(basket.lines)
    if rule.kind == "multiplier":
        slots = lines if rule.applies_to == "amount" else [*lines, *(others + index for index in lines)]
        return [(slot, pot[slot] * rule.gain) for slot in slots if pot[slot]]
    if rule.kind == "per_amount":
        return [(index, basket.bases[index] * rule.rate) for index in lines]
    if rule.kind == "per_unit":
        rate = rule.rate * basket.paid
        return [(others + index, max(NONE, Fraction(basket.lines[index].quantity)) * rate) for index in lines]
    return [(others + index, rule.rate * share) for index, share in zip(lines, basket.shares(lines), strict=True)]


def _outcome(row: _Row, points: int, case: _Case) -> RuleOutcome:
    rule, reason = row.rule, row.reason or "applied"
    return RuleOutcome(
        rule_id=None if rule.id == TIER else rule.id,
        version=None if rule.id == TIER else rule.version,
        name=rule.name,
        outcome="applied" if reason in {"applied", "trimmed"} else "skipped",
        reason=reason,
        basis=_decimal(row.basis, case.basket.places),
        points_requested=points if row.granted == row.requested else _rounded(row.requested, case.terms.rounding),
        points=points,
        counted=row.granted != 0,
    )


def _exact_by_line(pot: _Pot, basket: Basket) -> tuple[Decimal, ...]:
    """The unrounded points of each line; those of shipping are spread like those of a visit."""
    count = len(basket.lines)
    points = [amount + others if others else amount for amount, others in zip(pot[:count], pot[count:], strict=True)]
    if basket.lines[-1] is SHIPPING:
        shipping = points.pop()
        shares = basket.shares(range(count - 1))
        points = [each + shipping * share for each, share in zip(points, shares, strict=True)]
    if len(points) == 1:
        return (_decimal(points[0], EXACT_PLACES),)
    unit = 10**EXACT_PLACES
    atoms = apportion([each * unit for each in points], _rounded(sum(points, NONE) * unit, "nearest"))
    return tuple(Decimal(each).scaleb(-EXACT_PLACES, EXACT) for each in atoms)


def apportion(parts: Sequence[Fraction], whole: int) -> list[int]:
    """Whole numbers near the parts, adding up to `whole`, their rounded sum: largest remainder first, ties in order."""
    shares = [part.numerator // part.denominator for part in parts]
    missing = whole - sum(shares)
    if missing:
        by_remainder = sorted(range(len(parts)), key=lambda index: shares[index] - parts[index])
        for index in by_remainder[:missing]:
            shares[index] += 1
    return shares


def _rounded(points: Fraction, rounding: Rounding) -> int:
    """`nearest` takes a half up."""
    if rounding == "floor":
        return points.numerator // points.denominator
    if rounding == "ceil":
        return -(-points.numerator // points.denominator)
    return (2 * points.numerator + points.denominator) // (2 * points.denominator)


def _decimal(value: Fraction, places: int) -> Decimal:
    scaled = (2 * 10**places * value.numerator + value.denominator) // (2 * value.denominator)
    return Decimal(scaled).scaleb(-places, EXACT)


def _same_code(one: str, other: str | None) -> bool:
    return other is not None and one.strip().casefold() == other.strip().casefold()


@lru_cache(maxsize=256)
def _tier_rule(name: str, factor: Decimal) -> Rule:
    return Rule(id=TIER, version=0, name=name, kind="multiplier", factor=factor)


def window_of(given: Mapping[str, Any]) -> Window:
    """The window of a JSON definition; the hour 24:00 is the end of the day."""
    opens, closes = (
        time.fromisoformat("00:00" if hour == "24:00" else hour) for hour in given.get("hours", ("00:00",) * 2)
    )
    return Window(
        first_on=date.fromisoformat(given["from"]) if "from" in given else None,
        last_on=date.fromisoformat(given["to"]) if "to" in given else None,
        weekdays=frozenset(_DAYS.index(day) for day in given.get("weekdays", ())),
        hours=(opens, closes) if "hours" in given else None,
    )
