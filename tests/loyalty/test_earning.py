"""From purchases and rules to points, one case for each sentence that the rules of earning are written in."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from math import ceil, floor, prod
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crm.loyalty import earning
from crm.loyalty.basket import CurrencyMismatch, Discount, Filter, Line, Payment, Purchase, Terms
from crm.loyalty.earning import Earned, Member, Rule, RuleOutcome, Window
from crm.loyalty.limits import Limit, Used

JAKARTA = ZoneInfo("Asia/Jakarta")
SUNDAY_NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
ids = count(1)


def terms(**changes: Any) -> Terms:
    return Terms(currency="IDR", zone=JAKARTA, **changes)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=JAKARTA).astimezone(UTC)


def rule(kind: Any, name: str = "", **changes: Any) -> Rule:
    """A rule that is active and asks nothing; numbers may be written as text."""
    for field in ("points", "per", "factor", "min_spend"):
        if field in changes:
            changes[field] = Decimal(changes[field])
    number = next(ids)
    return Rule(**{"id": UUID(int=number), "version": 1, "name": name or f"{kind} {number}", "kind": kind, **changes})


def per_amount(points: str = "1", per: str = "1.00", **changes: Any) -> Rule:
    return rule("per_amount", points=points, per=per, **changes)


def per_unit(points: str, **changes: Any) -> Rule:
    return rule("per_unit", points=points, **changes)


def per_visit(points: str, **changes: Any) -> Rule:
    return rule("per_visit", points=points, **changes)


def multiplier(factor: str, **changes: Any) -> Rule:
    return rule("multiplier", factor=factor, **changes)


def only(*categories: str) -> Filter:
    return Filter(categories=frozenset(categories))


def line(price: str, category: str | None = None, quantity: str = "1", **changes: Any) -> Line:
    return Line(unit_price=Decimal(price), quantity=Decimal(quantity), category=category, **changes)


def purchase(*given: str | Line, **changes: Any) -> Purchase:
    """Of lines, or of a total written as text."""
    lines = [each for each in given if isinstance(each, Line)]
    total = next((Decimal(each) for each in given if isinstance(each, str)), None)
    about: dict[str, Any] = {"order_ref": "INV-1", "occurred_at": SUNDAY_NOON, "currency": "IDR"}
    return Purchase(**{**about, "lines": lines, "total": total, **changes})


def earn(bought: Purchase, *rules: Rule, program: Terms | None = None, **member: Any) -> Earned:
    return earning.evaluate(bought, rules=rules, terms=program or terms(), member=Member(**member))


def rows(earned: Earned) -> list[tuple[str, int]]:
    """The explanation in short: why, and how many points."""
    return [(row.reason, row.points) for row in earned.rules]


def row_of(earned: Earned, searched: Rule) -> RuleOutcome:
    return next(row for row in earned.rules if row.rule_id == searched.id)


# How many points


@pytest.mark.parametrize(
    ("bought", "rules", "points"),
    [
        pytest.param(purchase("45000.00"), [per_amount("1", "1000")], 45, id="1 point per 1,000"),
        pytest.param(purchase("45999.00"), [per_amount("1", "1000")], 45, id="rounded down by default"),
        pytest.param(
            purchase("15000"), [per_amount("1", "10000"), per_amount("1", "10000")], 3, id="continuous: 1.5 + 1.5"
        ),
        pytest.param(purchase("9.99"), [per_amount(), multiplier("1.5")], 14, id="9.99 x 1.5 is 14.985, rounded once"),
        pytest.param(purchase("10"), [per_amount("1", "3")], 3, id="a third has no end and is not cut off"),
        pytest.param(purchase("10"), [per_amount("1", "3")] * 3, 10, id="three times a third of ten is ten"),
        pytest.param(purchase(line("5", quantity="3")), [per_unit("2")], 6, id="per unit: 3 units at 2"),
        pytest.param(purchase(line("5", quantity="0.5")), [per_unit("5")], 2, id="half a kilo at 5 per kilo"),
        pytest.param(purchase(line("5", quantity="5")), [per_unit("1", per="2")], 2, id="1 point per 2 units"),
        pytest.param(purchase(line("5"), line("7")), [per_visit("10")], 10, id="per visit: once per purchase"),
        pytest.param(purchase("0.00"), [per_visit("10")], 10, id="a visit that cost nothing is a visit"),
        pytest.param(purchase("100"), [per_amount(), per_visit("10")], 110, id="stackable rules add up"),
        pytest.param(purchase("100"), [per_amount(), multiplier("2"), multiplier("3")], 600, id="multipliers multiply"),
        pytest.param(
            purchase("100"),
            [per_amount(), per_visit("10"), multiplier("2")],
            210,
            id="multipliers: amount-based points",
        ),
        pytest.param(
            purchase("100"),
            [per_amount(), per_visit("10"), per_unit("5"), multiplier("2", applies_to="all")],
            230,
            id="unless the multiplier applies to all",
        ),
        pytest.param(
            purchase(line("60", "drinks"), line("40", "food")),
            [per_amount(), multiplier("2", filter=only("drinks"))],
            160,
            id="multipliers work per line",
        ),
        pytest.param(
            purchase(line("60", "drinks"), line("40", "food")),
            [per_amount(), multiplier("2", filter=only("drinks")), multiplier("3", filter=only("drinks", "food"))],
            480,
            id="and meet on the lines that both look at: 60 x 6 + 40 x 3",
        ),
        pytest.param(
            purchase(line("60", "drinks"), line("40", "food")),
            [per_visit("10"), multiplier("2", filter=only("drinks"), applies_to="all")],
            16,
            id="points of a visit are spread by amount: 6 x 2 + 4",
        ),
        pytest.param(
            purchase(line("60", "drinks"), line("40", "food"), discounts=[Discount(Decimal(10))]),
            [per_amount(filter=only("drinks"))],
            54,
            id="a rule for one category sees its share of the order's discount",
        ),
        pytest.param(
            purchase(line("100", "gift-cards"), line("50", "food")),
            [per_amount(filter=Filter(exclude_categories=frozenset({"gift-cards"})))],
            50,
            id="gift cards bought are excluded by category",
        ),
        pytest.param(
            purchase("100", payments=[Payment("gift_card", Decimal(100))]),
            [per_amount()],
            100,
            id="gift cards used earn",
        ),
        pytest.param(
            purchase("100", payments=[Payment("points", Decimal(30)), Payment("cash", Decimal(70))]),
            [per_amount()],
            70,
            id="the share paid with points earns nothing",
        ),
        pytest.param(
            purchase(line("100", quantity="4"), payments=[Payment("points", Decimal(100))]),
            [per_unit("2"), per_visit("10")],
            16,
            id="nor does that share of the units; a visit is a visit",
        ),
        pytest.param(
            purchase("100", payments=[Payment("points", Decimal(100))]),
            [per_amount(), per_unit("2"), per_visit("10"), multiplier("2")],
            0,
            id="all paid with points earns nothing at all",
        ),
        pytest.param(purchase(line("110", tax=Decimal(10))), [per_amount()], 100, id="tax does not earn by default"),
        pytest.param(purchase("100"), [per_amount("0")], 0, id="a rate of zero"),
        pytest.param(purchase("100"), [per_amount("1", "0")], 0, id="a per of zero"),
        pytest.param(purchase("100"), [per_unit("1", per="0")], 0, id="a per of zero units"),
        pytest.param(purchase("100"), [per_amount("1", "-5"), per_visit("9")], 9, id="a negative per is zero"),
        pytest.param(purchase("100"), [per_amount(), multiplier("0")], 0, id="a factor of zero"),
        pytest.param(purchase("100"), [per_amount(), multiplier("-3")], 0, id="a negative factor is zero"),
        pytest.param(purchase("100"), [per_amount("-1"), per_visit("-5")], 0, id="a negative rate is zero"),
        pytest.param(purchase("-100"), [per_amount()], 0, id="a negative total"),
        pytest.param(purchase("100"), [multiplier("5")], 0, id="a multiplier alone has nothing to multiply"),
        pytest.param(purchase("100"), [], 0, id="no rules"),
        pytest.param(purchase(), [per_amount()], 0, id="nothing bought"),
    ],
)
def test_points_of_a_purchase(bought: Purchase, rules: Sequence[Rule], points: int) -> None:
    assert earn(bought, *rules).points == points


@pytest.mark.parametrize(
    ("rounding", "total", "points"),
    [
        ("floor", "14.99", 14),
        ("nearest", "14.49", 14),
        ("nearest", "14.50", 15),
        ("ceil", "14.01", 15),
        ("ceil", "14.00", 14),
    ],
)
def test_rounding_is_a_setting_of_the_program(rounding: Any, total: str, points: int) -> None:
    assert earn(purchase(total), per_amount(), program=terms(rounding=rounding)).points == points


def test_shipping_earns_where_the_program_says_so_and_matches_what_asks_for_nothing() -> None:
    order = purchase(line("100", "food"), shipping=Decimal(20))

    assert earn(order, per_amount()).points == 100
    assert earn(order, per_amount(), program=terms(shipping=True)).points == 120
    assert earn(order, per_amount(filter=only("food")), program=terms(shipping=True)).points == 100
    assert earn(order, per_amount(), multiplier("2"), program=terms(shipping=True)).points == 240


def test_shipping_is_neither_a_unit_nor_a_visit() -> None:
    order = purchase(line("100", "food"), shipping=Decimal(20))
    not_food = Filter(exclude_categories=frozenset({"food"}))

    earned = earn(order, per_unit("5", filter=not_food), per_visit("5", filter=not_food), program=terms(shipping=True))

    assert rows(earned) == [("no_matching_lines", 0), ("no_matching_lines", 0)]


def test_another_currency_is_refused_never_converted() -> None:
    with pytest.raises(CurrencyMismatch):
        earn(purchase("100", currency="USD"), per_amount())


# Tiers


def test_the_factor_of_the_tier_is_one_of_the_multipliers() -> None:
    base, double, visit = per_amount(), multiplier("2"), per_visit("10")

    earned = earn(purchase("100"), base, double, visit, tier_name="Gold", tier_factor=Decimal("1.5"))

    assert earned.points == 310
    assert [(row.rule_id, row.name, row.points) for row in earned.rules] == [
        (base.id, base.name, 100),
        (double.id, double.name, 100),
        (visit.id, visit.name, 10),
        (None, "Gold", 100),
    ]
    assert earned.rules[-1].version is None


def test_a_tier_with_a_factor_of_one_needs_no_explanation() -> None:
    assert rows(earn(purchase("100"), per_amount(), tier_name="Member", tier_factor=Decimal("1.0"))) == [
        ("applied", 100)
    ]


# Which rules apply


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, "applied", id="asks nothing"),
        pytest.param({"status": "draft"}, "inactive", id="a draft"),
        pytest.param({"status": "disabled"}, "inactive", id="disabled"),
        pytest.param({"window": Window(first_on=date(2026, 12, 1))}, "outside_window", id="in the future"),
        pytest.param({"min_spend": "100.00"}, "applied", id="minimum spend reached exactly"),
        pytest.param({"min_spend": "100.01"}, "below_min_spend", id="minimum spend missed by a cent"),
        pytest.param({"filter": only("food")}, "applied", id="one line matches"),
        pytest.param({"filter": only("books")}, "no_matching_lines", id="no line matches"),
        pytest.param({"code": "PAYDAY"}, "applied", id="the code was given, in small letters"),
        pytest.param({"code": "SUMMER"}, "code_missing", id="another code was given"),
        pytest.param(
            {"condition": {"field": "tag", "op": "eq", "value": "vip"}}, "condition_not_met", id="a condition"
        ),
    ],
)
def test_why_a_rule_is_applied_or_skipped(changes: dict[str, Any], reason: str) -> None:
    order = purchase(line("60", "drinks"), line("40", "food"), code=" payday ")

    row = earn(order, per_visit("7", **changes)).rules[0]

    assert (row.reason, row.outcome) == (reason, "applied" if reason == "applied" else "skipped")
    assert (row.points, row.points_requested, row.counted) == ((7, 7, True) if reason == "applied" else (0, 0, False))


def test_a_code_that_was_not_given_is_missing() -> None:
    assert rows(earn(purchase("100"), per_amount(code="PAYDAY"))) == [("code_missing", 0)]


def test_min_spend_looks_at_the_basis_of_the_whole_order_not_of_the_matching_lines() -> None:
    order = purchase(line("60", "drinks"), line("40", "food"))

    assert earn(order, per_amount(filter=only("food"), min_spend="100")).points == 40
    assert earn(replace(order, discounts=[Discount(Decimal(1))]), per_amount(min_spend="100")).points == 0


def test_a_condition_is_asked_of_the_member_and_only_when_all_else_holds() -> None:
    asked: list[str] = []

    def holds(candidate: Rule) -> bool:
        asked.append(candidate.name)
        return candidate.name == "for vips"

    condition = {"field": "tag", "op": "eq", "value": "vip"}
    rules = [
        per_amount(name="for vips", condition=condition),
        per_amount(name="for staff", condition=condition),
        per_amount(name="for nobody now", condition=condition, status="disabled"),
    ]

    assert rows(earn(purchase("10"), *rules, condition_holds=holds)) == [
        ("applied", 10),
        ("condition_not_met", 0),
        ("inactive", 0),
    ]
    assert asked == ["for vips", "for staff"]


def test_drafts_are_evaluated_only_where_asked_for() -> None:
    draft, disabled = per_amount(status="draft"), per_amount(status="disabled")

    earned = earning.evaluate(purchase("10"), rules=[draft, disabled], terms=terms(), include_drafts=True)

    assert rows(earned) == [("applied", 10), ("inactive", 0)]


@pytest.mark.parametrize(
    ("window", "at", "inside"),
    [
        pytest.param(
            {"first_on": date(2026, 11, 1)}, "2026-11-01 00:00", True, id="from the first instant of its first day"
        ),
        pytest.param({"first_on": date(2026, 11, 1)}, "2026-10-31 23:59:59", False, id="not a second earlier"),
        pytest.param(
            {"last_on": date(2026, 11, 1)}, "2026-11-01 23:59:59", True, id="to the last second of its last day"
        ),
        pytest.param({"last_on": date(2026, 11, 1)}, "2026-11-02 00:00", False, id="not a second later"),
        pytest.param({"weekdays": frozenset({1})}, "2026-11-03 12:00", True, id="on a Tuesday"),
        pytest.param({"weekdays": frozenset({1})}, "2026-11-04 00:30", False, id="not half an hour into Wednesday"),
        pytest.param({"hours": (time(16), time(18))}, "2026-11-01 16:00", True, id="hours begin with their start"),
        pytest.param({"hours": (time(16), time(18))}, "2026-11-01 15:59:59", False, id="not before"),
        pytest.param({"hours": (time(16), time(18))}, "2026-11-01 17:59:59", True, id="to the last second"),
        pytest.param({"hours": (time(16), time(18))}, "2026-11-01 18:00", False, id="hours end before their end"),
        pytest.param({"hours": (time(22), time(2))}, "2026-11-01 23:00", True, id="past midnight: the evening"),
        pytest.param({"hours": (time(22), time(2))}, "2026-11-02 01:59", True, id="past midnight: the small hours"),
        pytest.param({"hours": (time(22), time(2))}, "2026-11-02 02:00", False, id="past midnight: over"),
        pytest.param({"hours": (time(22), time(2))}, "2026-11-01 12:00", False, id="past midnight: not at noon"),
        pytest.param(
            {"hours": (time(22), time(2)), "weekdays": frozenset({4})},
            "2026-11-07 01:00",
            True,
            id="Saturday 1 o'clock is still Friday evening",
        ),
        pytest.param(
            {"hours": (time(22), time(2)), "weekdays": frozenset({4})},
            "2026-11-06 01:00",
            False,
            id="and Friday 1 o'clock is not",
        ),
        pytest.param({"hours": (time(16), time(0))}, "2026-11-01 23:59", True, id="to the end of the day"),
        pytest.param({"hours": (time(16), time(0))}, "2026-11-02 00:00", False, id="and no longer"),
        pytest.param({"hours": (time(0), time(0))}, "2026-11-01 12:00", True, id="the whole day"),
        pytest.param(
            {"hours": (time(9), time(9)), "weekdays": frozenset({6})},
            "2026-11-01 08:00",
            True,
            id="which is one day, not two",
        ),
    ],
)
def test_windows_are_in_the_time_of_the_program(window: dict[str, Any], at: str, inside: bool) -> None:
    earned = earn(purchase("10", occurred_at=local(at)), per_amount(window=Window(**window)))

    assert rows(earned) == [("applied", 10) if inside else ("outside_window", 0)]


# Standing alone


@pytest.mark.parametrize(
    ("rules", "explained"),
    [
        pytest.param(
            [per_amount(), per_visit("50", stackable=False), per_visit("9")],
            [("superseded", 0), ("applied", 50), ("superseded", 0)],
            id="a rule that is not stackable stands alone",
        ),
        pytest.param(
            [per_visit("50", stackable=False, priority=1), per_visit("20", stackable=False, priority=2), per_amount()],
            [("superseded", 0), ("applied", 20), ("superseded", 0)],
            id="among several the highest priority wins, not the most points",
        ),
        pytest.param(
            [per_visit("20", stackable=False), per_visit("50", stackable=False)],
            [("applied", 20), ("superseded", 0)],
            id="of equal priority the first",
        ),
        pytest.param(
            [per_amount(), per_visit("50", stackable=False, status="disabled")],
            [("applied", 100), ("inactive", 0)],
            id="one that does not apply supersedes nothing",
        ),
        pytest.param(
            [per_amount(), per_amount("0", stackable=False)],
            [("applied", 100), ("applied", 0)],
            id="nor does one that gives nothing",
        ),
        pytest.param(
            [per_amount(), per_amount("5", stackable=False, max_points_per_purchase=99, over_max="reject")],
            [("applied", 100), ("rejected", 0)],
            id="nor one that is rejected",
        ),
        pytest.param(
            [per_amount(stackable=False), multiplier("2")],
            [("applied", 100), ("applied", 100)],
            id="multipliers multiply what stands alone",
        ),
        pytest.param(
            [per_amount(), multiplier("2"), multiplier("3", stackable=False), multiplier("5")],
            [("applied", 100), ("superseded", 0), ("applied", 200), ("superseded", 0)],
            id="a multiplier that is not stackable stands alone among multipliers",
        ),
        pytest.param(
            [per_visit("7"), multiplier("3", stackable=False), multiplier("2", applies_to="all")],
            [("applied", 7), ("no_matching_lines", 0), ("applied", 7)],
            id="unless it finds nothing to multiply",
        ),
    ],
)
def test_what_stands_alone(rules: Sequence[Rule], explained: list[tuple[str, int]]) -> None:
    assert rows(earn(purchase("100"), *rules)) == explained


def test_a_multiplier_that_stands_alone_supersedes_the_factor_of_the_tier() -> None:
    earned = earn(
        purchase("100"), per_amount(), multiplier("3", stackable=False), tier_name="Gold", tier_factor=Decimal("1.5")
    )

    assert rows(earned) == [("applied", 100), ("applied", 200), ("superseded", 0)]


# Limits and maxima


def had(limited: Rule, period: str, points: int = 0, times: int = 0) -> dict[tuple[UUID, str], Used]:
    return {(limited.id, period): Used(points, times)}


@pytest.mark.parametrize(
    ("had_points", "reason", "requested", "granted"),
    [
        pytest.param(0, "applied", 100, 100, id="room for all"),
        pytest.param(50, "applied", 100, 100, id="room for exactly all"),
        pytest.param(90, "trimmed", 100, 60, id="room for some"),
        pytest.param(150, "limit_reached", 100, 0, id="no room"),
        pytest.param(170, "limit_reached", 100, 0, id="more was given than the limit, which was lowered since"),
    ],
)
def test_a_cap_on_points_per_period_trims(had_points: int, reason: str, requested: int, granted: int) -> None:
    capped = per_amount(limits=(Limit(per="day", points=150),))

    row = earn(purchase("100"), capped, usage=had(capped, "2026-11-01", points=had_points)).rules[0]

    assert (row.reason, row.points_requested, row.points) == (reason, requested, granted)
    assert row.outcome == ("applied" if granted else "skipped")


def test_a_limit_of_times() -> None:
    welcome = per_visit("10", limits=(Limit(per="month", times=2),))

    assert rows(earn(purchase("5"), welcome, usage=had(welcome, "2026-11", points=10, times=1))) == [("applied", 10)]
    assert rows(earn(purchase("5"), welcome, usage=had(welcome, "2026-11", points=20, times=2))) == [
        ("limit_reached", 0)
    ]
    assert rows(earn(purchase("5"), welcome, usage=had(welcome, "2026-10", points=20, times=2))) == [("applied", 10)]


def test_the_narrowest_of_several_limits_counts() -> None:
    capped = per_amount(
        limits=(Limit(per="day", points=80), Limit(per="lifetime", points=200), Limit(per="week", times=9))
    )

    usage = had(capped, "2026-11-01", points=10) | had(capped, "lifetime", points=170)

    assert rows(earn(purchase("100"), capped, usage=usage)) == [("trimmed", 30)]


def test_a_period_is_one_of_the_program_s_zone() -> None:
    capped = per_visit("10", limits=(Limit(per="day", times=1),))
    late_on_saturday_in_london = datetime(2026, 10, 31, 20, tzinfo=UTC)

    usage = had(capped, "2026-11-01", times=1)

    assert rows(earn(purchase("5", occurred_at=late_on_saturday_in_london), capped, usage=usage)) == [
        ("limit_reached", 0)
    ]


@pytest.mark.parametrize(
    ("total", "over_max", "reason", "requested", "granted"),
    [
        pytest.param("50", "trim", "applied", 50, 50, id="exactly the maximum"),
        pytest.param("51", "trim", "trimmed", 51, 50, id="more is trimmed"),
        pytest.param("50", "reject", "applied", 50, 50, id="exactly the maximum is not rejected"),
        pytest.param("50.01", "reject", "rejected", 50, 0, id="more is rejected where the rule says so"),
    ],
)
def test_the_maximum_per_purchase(total: str, over_max: Any, reason: str, requested: int, granted: int) -> None:
    row = earn(purchase(total), per_amount(max_points_per_purchase=50, over_max=over_max)).rules[0]

    assert (row.reason, row.points_requested, row.points) == (reason, requested, granted)
    assert row.counted is (granted > 0)


def test_a_trimmed_rule_is_multiplied_as_trimmed_and_each_limit_is_of_its_own_points() -> None:
    base, double = per_amount(max_points_per_purchase=60), multiplier("2", max_points_per_purchase=45)

    earned = earn(purchase("100"), base, double, tier_name="Gold", tier_factor=Decimal("1.2"))

    assert [(row.reason, row.points_requested, row.points) for row in earned.rules] == [
        ("trimmed", 100, 60),
        ("trimmed", 60, 45),
        ("applied", 21, 21),
    ]


def test_a_trimmed_rule_is_trimmed_evenly_over_its_lines() -> None:
    order = purchase(line("60", "drinks"), line("140", "food"))

    earned = earn(order, per_amount(max_points_per_purchase=100), multiplier("2", filter=only("drinks")))

    assert earned.exact_by_line == (Decimal(60), Decimal(70))


@pytest.mark.parametrize(
    ("rules", "counted"),
    [
        pytest.param([per_amount(), multiplier("2")], [True, True], id="something was added"),
        pytest.param([per_visit("5"), multiplier("2")], [True, False], id="only a visit: nothing to multiply"),
        pytest.param([per_amount(), multiplier("1")], [True, False], id="a factor of one adds nothing"),
        pytest.param([per_amount(filter=only("food")), multiplier("2")], [False, False], id="no points at all"),
        pytest.param(
            [per_amount(), multiplier("2", filter=only("food"))], [True, False], id="no line that it looks at"
        ),
    ],
)
def test_an_order_on_which_a_multiplier_added_nothing_does_not_use_its_limit(
    rules: Sequence[Rule], counted: list[bool]
) -> None:
    assert [row.counted for row in earn(purchase("100"), *rules).rules] == counted


# The explanation


def test_a_row_of_the_explanation() -> None:
    drinks = per_amount("1", "1000", name="Drinks", filter=only("drinks"), version=7)

    earned = earn(purchase(line("25000.00", "drinks", "2"), line("5000.00", "food")), drinks)

    assert earned.rules == (
        RuleOutcome(
            rule_id=drinks.id,
            version=7,
            name="Drinks",
            outcome="applied",
            reason="applied",
            basis=Decimal("50000.00"),
            points_requested=50,
            points=50,
            counted=True,
        ),
    )
    assert str(earned.rules[0].basis) == "50000.00"
    assert str(earned.basis) == "55000.00"


def test_a_rule_below_its_minimum_shows_the_basis_that_fell_short() -> None:
    earned = earn(purchase(line("60", "drinks"), line("40", "food")), per_amount(filter=only("food"), min_spend="500"))

    assert earned.rules[0].basis == 100


def test_a_multiplier_s_own_points_are_its_increase() -> None:
    assert rows(earn(purchase("100"), per_amount(), multiplier("1.5"), multiplier("2"))) == [
        ("applied", 100),
        ("applied", 50),
        ("applied", 150),
    ]


def test_a_multiplier_below_one_takes_points_off_and_the_rows_still_add_up() -> None:
    assert rows(earn(purchase("99"), per_amount(), multiplier("0.5"))) == [("applied", 99), ("applied", -50)]


@pytest.mark.parametrize(
    ("parts", "whole", "shares"),
    [
        pytest.param(["9.99", "4.995"], 14, [9, 5], id="the largest remainder gets it... "),
        pytest.param(["0.5", "0.5"], 1, [1, 0], id="ties in rule order"),
        pytest.param(["0.2", "0.5", "0.3"], 1, [0, 1, 0], id="one point for three"),
        pytest.param(["1.6", "1.7", "1.8"], 5, [1, 2, 2], id="two points left over"),
        pytest.param(["3", "4"], 7, [3, 4], id="nothing left over"),
        pytest.param(["99", "-49.5"], 49, [99, -50], id="a part below zero"),
        pytest.param([], 0, [], id="no parts"),
    ],
)
def test_apportioning_by_largest_remainder(parts: list[str], whole: int, shares: list[int]) -> None:
    assert earning.apportion([Fraction(part) for part in parts], whole) == shares


def test_rules_for_events_are_no_part_of_a_purchase() -> None:
    assert earn(purchase("10"), rule("per_event", event="birthday", points="100"), per_amount()).points == 10


# What a refund will need


@pytest.mark.parametrize(
    ("rules", "exact_by_line"),
    [
        pytest.param([per_amount()], ["60", "40"], id="of amounts: each line's own"),
        pytest.param([per_amount("1", "3")], ["20", "13.333333333333"], id="thirds to twelve decimals"),
        pytest.param([per_visit("5")], ["3", "2"], id="of a visit: spread by net amount"),
        pytest.param([per_visit("5", filter=only("food"))], ["0", "5"], id="over the lines that it looked at"),
        pytest.param([per_unit("5")], ["5", "10"], id="of units"),
        pytest.param([per_amount(), multiplier("2", filter=only("food"))], ["60", "80"], id="multiplied"),
    ],
)
def test_the_exact_points_of_each_line(rules: Sequence[Rule], exact_by_line: list[str]) -> None:
    earned = earn(purchase(line("60", "drinks"), line("20", "food", "2")), *rules)

    assert earned.exact_by_line == tuple(Decimal(points) for points in exact_by_line)
    assert earned.exact == sum(earned.exact_by_line)


def test_points_of_a_visit_to_free_goods_are_spread_evenly() -> None:
    assert earn(purchase(line("0"), line("0")), per_visit("5")).exact_by_line == (Decimal("2.5"), Decimal("2.5"))


def test_points_of_shipping_belong_to_the_lines() -> None:
    earned = earn(purchase(line("60"), line("40"), shipping=Decimal(20)), per_amount(), program=terms(shipping=True))

    assert earned.exact_by_line == (Decimal(72), Decimal(48))


def test_no_digit_of_a_very_large_purchase_is_lost() -> None:
    earned = earn(purchase(line("4000000000000000000.01"), line("5000000000000000000.02")), per_amount())

    assert earned.points == 9_000_000_000_000_000_000
    assert str(earned.exact) == "9000000000000000000.030000000000"
    assert str(earned.exact_by_line[1]) == "5000000000000000000.020000000000"


# Events


def test_an_event_earns_by_the_rules_for_it() -> None:
    birthday, review = (rule("per_event", event=event, points="50") for event in ("birthday", "review"))

    earned = earning.evaluate_event(
        "review", occurred_at=SUNDAY_NOON, rules=[birthday, review, per_visit("9"), multiplier("2")], terms=terms()
    )

    assert [(row.rule_id, row.reason, row.points) for row in earned.rules] == [(review.id, "applied", 50)]


def test_an_event_nobody_made_a_rule_for_earns_nothing() -> None:
    earned = earning.evaluate_event("wave", occurred_at=SUNDAY_NOON, rules=[per_visit("9")], terms=terms())

    assert (earned.points, earned.rules) == (0, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, "applied", id="asks nothing"),
        pytest.param({"status": "draft"}, "inactive", id="a draft"),
        pytest.param({"window": Window(weekdays=frozenset({0}))}, "outside_window", id="not on a Sunday"),
        pytest.param({"min_spend": "1"}, "below_min_spend", id="nothing was spent"),
        pytest.param({"filter": only("food")}, "no_matching_lines", id="nothing was bought"),
        pytest.param({"code": "PAYDAY"}, "code_missing", id="no code was given"),
        pytest.param(
            {"condition": {"field": "tag", "op": "eq", "value": "vip"}}, "condition_not_met", id="a condition"
        ),
    ],
)
def test_a_rule_for_an_event_asks_what_any_rule_asks(changes: dict[str, Any], reason: str) -> None:
    review = rule("per_event", event="review", points="50", **changes)

    earned = earning.evaluate_event("review", occurred_at=SUNDAY_NOON, rules=[review], terms=terms())

    assert rows(earned) == [(reason, 50 if reason == "applied" else 0)]


def test_points_of_an_event_are_multiplied_only_by_what_applies_to_all() -> None:
    rules = [rule("per_event", event="review", points="50"), multiplier("2", applies_to="all"), multiplier("3")]

    earned = earning.evaluate_event(
        "review", occurred_at=SUNDAY_NOON, rules=rules, terms=terms(), member=Member(tier_factor=Decimal(2))
    )

    assert rows(earned) == [("applied", 50), ("applied", 50)]


def test_a_limit_holds_for_events_too() -> None:
    review = rule("per_event", event="review", points="50", limits=(Limit(per="week", times=1),))

    earned = earning.evaluate_event(
        "review",
        occurred_at=SUNDAY_NOON,
        rules=[review],
        terms=terms(),
        member=Member(usage=had(review, "2026-W44", times=1)),
    )

    assert rows(earned) == [("limit_reached", 0)]


# From a definition of the API


def test_a_rule_of_a_full_definition() -> None:
    definition = {
        "name": "Happy hour",
        "kind": "per_amount",
        "points": 2,
        "per": "10000",
        "event": None,
        "filter": {"skus": ["KOPI-1"], "categories": [], "labels": None, "exclude_labels": ["sale"]},
        "condition": {"field": "tier", "op": "eq", "value": "Gold"},
        "window": {
            "from": "2026-11-01",
            "to": "2026-11-30",
            "weekdays": ["tue", "sun"],
            "hours": ["16:00", "24:00"],
        },
        "min_spend": "50000.00",
        "code": "HAPPY",
        "limits": [{"points": 100, "per": "day"}, {"times": 3, "points": None, "per": "month"}],
        "max_points_per_purchase": 40,
        "over_max": "reject",
        "stackable": False,
        "priority": 3,
        "status": "draft",
    }

    made = Rule.of(definition, id=UUID(int=1), version=4)

    assert made == Rule(
        id=UUID(int=1),
        version=4,
        name="Happy hour",
        kind="per_amount",
        points=Decimal(2),
        per=Decimal(10000),
        filter=Filter(skus=frozenset({"KOPI-1"}), exclude_labels=frozenset({"sale"})),
        condition={"field": "tier", "op": "eq", "value": "Gold"},
        window=Window(
            first_on=date(2026, 11, 1),
            last_on=date(2026, 11, 30),
            weekdays=frozenset({1, 6}),
            hours=(time(16), time(0)),
        ),
        min_spend=Decimal("50000.00"),
        code="HAPPY",
        limits=(Limit(per="day", points=100), Limit(per="month", times=3)),
        max_points_per_purchase=40,
        over_max="reject",
        stackable=False,
        priority=3,
        status="draft",
    )


@pytest.mark.parametrize("empty", [{}, {"filter": {}, "window": {}, "limits": []}, {"filter": None, "window": None}])
def test_a_rule_of_a_short_definition_asks_nothing(empty: dict[str, Any]) -> None:
    made = Rule.of({"name": "Base", "kind": "per_amount", **empty}, id=UUID(int=1), version=1)

    assert made == Rule(id=UUID(int=1), version=1, name="Base", kind="per_amount")
    assert rows(earn(purchase("10"), made)) == [("applied", 10)]


# What holds for all purchases and rules

CATEGORIES = ("drinks", "food", "books")
prices = st.decimals(min_value=0, max_value=10**6, places=2)
small = st.decimals(min_value=0, max_value=20, places=2)
filters = st.none() | st.sets(st.sampled_from(CATEGORIES), min_size=1).map(lambda chosen: only(*chosen))
lines = st.lists(
    st.builds(
        line,
        prices.map(str),
        st.none() | st.sampled_from(CATEGORIES),
        st.integers(min_value=1, max_value=5).map(str),
        tax=small,
    ),
    min_size=1,
    max_size=5,
)
discounts = st.lists(st.builds(Discount, prices), max_size=2)
tenders = st.lists(st.builds(Payment, st.sampled_from(["points", "cash"]), prices), max_size=2)
purchases = st.builds(
    lambda bought, **changes: purchase(*bought, **changes), lines, discounts=discounts, payments=tenders
)
roundings = st.sampled_from(["floor", "nearest", "ceil"])

base_rules = st.builds(per_amount, small.map(str), small.map(str), filter=filters)
boosts = st.builds(multiplier, st.decimals(min_value=1, max_value=5, places=2).map(str), filter=filters)
any_rules = st.lists(
    st.builds(
        rule,
        st.sampled_from(["per_amount", "per_unit", "per_visit", "multiplier"]),
        points=small.map(str),
        per=small.map(str),
        factor=small.map(str),
        filter=filters,
        min_spend=small.map(str),
        limits=st.lists(st.builds(Limit, per=st.just("day"), points=st.integers(0, 50)), max_size=1).map(tuple),
        max_points_per_purchase=st.none() | st.integers(min_value=0, max_value=50),
        over_max=st.sampled_from(["trim", "reject"]),
        stackable=st.sampled_from([True, True, True, False]),
        priority=st.integers(min_value=0, max_value=3),
        applies_to=st.sampled_from(["amount", "all"]),
        status=st.sampled_from(["active", "active", "draft"]),
    ),
    max_size=6,
)
factors = st.decimals(min_value=1, max_value=3, places=2)


@given(bought=purchases, rules=any_rules, factor=factors, rounding=roundings)
def test_rows_add_up_to_the_total_which_is_the_exact_total_rounded(
    bought: Purchase, rules: list[Rule], factor: Decimal, rounding: Any
) -> None:
    earned = earn(bought, *rules, program=terms(rounding=rounding), tier_factor=factor)

    assert earned.points == sum(row.points for row in earned.rules)
    assert earned.points >= 0
    assert abs(earned.exact - earned.points) <= (Decimal("0.5") if rounding == "nearest" else 1)
    assert earned.exact == sum(earned.exact_by_line)
    assert len(earned.exact_by_line) == len(bought.lines)
    assert min(earned.exact_by_line) >= 0


@given(bought=purchases, rules=any_rules, factor=factors)
def test_no_rule_gives_more_than_its_limit_its_maximum_or_what_it_asked_for(
    bought: Purchase, rules: list[Rule], factor: Decimal
) -> None:
    earned = earn(bought, *rules, program=terms(rounding="ceil"), tier_factor=factor)

    for asked, row in zip(rules, earned.rules, strict=False):
        assert row.points <= row.points_requested or row.points <= 0
        for limit in asked.limits:
            assert row.points <= (limit.points or 0)
        if asked.max_points_per_purchase is not None:
            assert row.points <= asked.max_points_per_purchase
        if row.outcome == "skipped":
            assert (row.points, row.counted) == (0, False)


@given(
    bought=purchases, bases=st.lists(base_rules, max_size=3), boosted=st.lists(boosts, max_size=3), rounding=roundings
)
def test_rounding_happens_once_on_what_the_formula_gives(
    bought: Purchase, bases: list[Rule], boosted: list[Rule], rounding: Any
) -> None:
    """Points x basis / per, times the factors, line by line, in fractions, written down once more and more simply."""
    goods = [Fraction(each.quantity * each.unit_price) for each in bought.lines]
    whole, off = sum(goods), Fraction(sum(each.amount for each in bought.discounts))
    kept = max(Fraction(0), 1 - off / whole) if whole else Fraction(1)
    due, with_points = whole * kept, sum(Fraction(each.amount) for each in bought.payments if each.tender == "points")
    money = max(Fraction(0), 1 - with_points / due) if due else Fraction(1)
    exact = Fraction(0)
    for each, price in zip(bought.lines, goods, strict=True):
        basis = max(Fraction(0), price * kept - Fraction(each.tax)) * money
        matching = [one for one in [*bases, *boosted] if one.filter is None or each.category in one.filter.categories]
        rate = sum(Fraction(one.points) / Fraction(one.per) for one in matching if one.kind == "per_amount" and one.per)
        exact += basis * rate * prod(Fraction(one.factor) for one in matching if one.kind == "multiplier")
    rounded = {"floor": floor(exact), "ceil": ceil(exact), "nearest": floor(exact + Fraction(1, 2))}

    assert earn(bought, *boosted, *bases, program=terms(rounding=rounding)).points == rounded[rounding]


@given(bought=purchases, rules=any_rules, factor=factors, data=st.data())
def test_the_order_of_lines_is_irrelevant(
    bought: Purchase, rules: list[Rule], factor: Decimal, data: st.DataObject
) -> None:
    shuffled = replace(bought, lines=data.draw(st.permutations(bought.lines)))

    assert earn(shuffled, *rules, tier_factor=factor).rules == earn(bought, *rules, tier_factor=factor).rules


@given(bought=purchases, rules=st.lists(base_rules | boosts, max_size=5), more=prices, on=st.integers(0, 4) | st.none())
def test_a_higher_discount_never_earns_more(bought: Purchase, rules: list[Rule], more: Decimal, on: int | None) -> None:
    assume(on is None or on < len(bought.lines))
    cheaper = replace(bought, discounts=[*bought.discounts, Discount(more, on)])

    assert earn(cheaper, *rules).points <= earn(bought, *rules).points


@given(bought=purchases, rules=any_rules)
def test_a_simulation_with_drafts_is_what_the_activated_rules_will_give(bought: Purchase, rules: list[Rule]) -> None:
    simulated = earning.evaluate(bought, rules=rules, terms=terms(), include_drafts=True)

    assert simulated == earn(bought, *(replace(each, status="active") for each in rules))


@given(bought=purchases, rules=any_rules)
def test_nothing_is_remembered_from_one_evaluation_to_the_next(bought: Purchase, rules: list[Rule]) -> None:
    first = earn(bought, *rules)
    earn(replace(bought, occurred_at=bought.occurred_at + timedelta(days=1)), *reversed(rules))

    assert earn(bought, *rules) == first


@given(
    total=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=3),
    quantity=st.decimals(min_value=-100, max_value=100, places=3),
    off=st.decimals(min_value=-(10**6), max_value=10**6, places=2),
    tender=st.decimals(min_value=-(10**6), max_value=10**6, places=2),
    rules=any_rules,
)
def test_nonsense_never_earns_below_zero(
    total: Decimal, quantity: Decimal, off: Decimal, tender: Decimal, rules: list[Rule]
) -> None:
    bought = purchase(
        line(str(total), quantity=str(quantity), tax=off),
        line("10"),
        discounts=[Discount(off), Discount(off, 0)],
        payments=[Payment("points", tender)],
        shipping=off,
    )

    assert earn(bought, *rules, program=terms(shipping=True)).points >= 0


@given(parts=st.lists(st.fractions(min_value=0, max_value=1000, max_denominator=60), max_size=8), rounding=roundings)
def test_apportioned_shares_are_next_to_their_parts_and_the_largest_remainders_come_first(
    parts: list[Fraction], rounding: Any
) -> None:
    whole = earning._rounded(sum(parts, Fraction(0)), rounding)

    shares = earning.apportion(parts, whole)

    assert sum(shares) == whole
    raised = [part - floor(part) for part, share in zip(parts, shares, strict=True) if share > floor(part)]
    left = [part - floor(part) for part, share in zip(parts, shares, strict=True) if share == floor(part)]
    assert all(floor(part) <= share <= ceil(part) for part, share in zip(parts, shares, strict=True))
    assert not raised or not left or min(raised) >= max(left)
