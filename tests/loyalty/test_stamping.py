"""What a challenge counts, in numbers: offers, limits, cards and streaks, and what a refund leaves of stamps."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty import basket, refunding, stamping
from crm.loyalty.basket import Line, Purchase
from crm.loyalty.limits import Used
from crm.loyalty.refunding import Refund, RefundLine, Returned
from crm.loyalty.stamping import Challenge, Offer, Progress, Terms

JAKARTA = ZoneInfo("Asia/Jakarta")
NOON = datetime(2026, 11, 4, 5, 0, tzinfo=UTC)  # a Wednesday, 12:00 in Jakarta
TERMS = basket.Terms(currency="IDR", zone=JAKARTA)
COFFEE, CAKE = {"category": "coffee"}, {"category": "cake"}
COFFEES = {"filter": {"categories": ["coffee"]}}


def challenge(**facts: Any) -> Challenge:
    return Challenge.of({"name": "Ten", "event": "purchase", "goal": 10, "points": 50, **facts}, id=UUID(int=7))


def purchase(*lines: tuple[str, str, dict[str, Any]], **facts: Any) -> Purchase:
    return Purchase(
        order_ref="INV-1", occurred_at=NOON, currency="IDR",
        lines=tuple(Line(quantity=Decimal(q), unit_price=Decimal(price), **more) for q, price, more in lines), **facts,
    )  # fmt: skip


def offered(made: Challenge, bought: Purchase) -> Offer:
    return stamping.offer(made, basket.measure(bought, TERMS), bought.occurred_at, JAKARTA)


# ---------------------------------------------------------------- what a fact offers

TWO_AND_CAKE = (("2", "25000", COFFEE), ("1", "40000", CAKE))
PAID_WITH_POINTS = (basket.Payment("points", Decimal(90_000)),)
OFFERS = {
    "a visit is one stamp": ({}, TWO_AND_CAKE, {}, (1, "counted")),
    "a visit with something that matches": (COFFEES, TWO_AND_CAKE, {}, (1, "counted")),
    "a visit without": ({"filter": {"categories": ["tea"]}}, TWO_AND_CAKE, {}, (0, "no_matching_lines")),
    "units are those that match": ({"per_unit": True, **COFFEES}, TWO_AND_CAKE, {}, (2, "counted")),
    "units of everything": ({"per_unit": True}, TWO_AND_CAKE, {}, (3, "counted")),
    "half a unit is none": ({"per_unit": True}, (("0.5", "1000", COFFEE),), {}, (0, "no_matching_lines")),
    "halves make one": ({"per_unit": True}, (("0.5", "1", COFFEE), ("0.7", "1", COFFEE)), {}, (1, "counted")),
    "exactly the minimum": ({"min_spend": "90000"}, TWO_AND_CAKE, {}, (1, "counted")),
    "a cent below the minimum": ({"min_spend": "90000.01"}, TWO_AND_CAKE, {}, (0, "below_min_spend")),
    "what was paid with points": ({}, TWO_AND_CAKE, {"payments": PAID_WITH_POINTS}, (0, "no_matching_lines")),
    "a bare total": ({}, (), {"total": Decimal(1)}, (1, "counted")),
    "a bare total as a unit": ({"per_unit": True}, (), {"total": Decimal(1)}, (1, "counted")),
    "shipping is no unit": ({"per_unit": True}, TWO_AND_CAKE, {"shipping": Decimal(5)}, (3, "counted")),
    "within the window": ({"window": {"from": "2026-11-04", "to": "2026-11-04"}}, TWO_AND_CAKE, {}, (1, "counted")),
    "before the window": ({"window": {"from": "2026-11-05"}}, TWO_AND_CAKE, {}, (0, "outside_window")),
    "on another weekday": ({"window": {"weekdays": ["tue"]}}, TWO_AND_CAKE, {}, (0, "outside_window")),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "lines", "more", "expected"), OFFERS.values(), ids=OFFERS)
def test_a_purchase_offers_stamps(facts, lines, more, expected):
    assert offered(challenge(**facts), purchase(*lines, **more))[:2] == expected


def test_an_event_offers_one_stamp():
    review = challenge(event="review")
    assert stamping.offer(review, None, NOON, JAKARTA) == (1, "counted", ())


# ---------------------------------------------------------------- limits

DAY_ENDS, WEEK_ENDS = datetime(2026, 11, 4, 17, tzinfo=UTC), datetime(2026, 11, 8, 17, tzinfo=UTC)
ROOMS = {
    "no limit": ([], {}, (None, None)),
    "an unused day": ([{"times": 1, "per": "day"}], {}, (1, None)),
    "a used day": ([{"times": 1, "per": "day"}], {"2026-11-04": 1}, (0, DAY_ENDS)),
    "yesterday does not count": ([{"times": 1, "per": "day"}], {"2026-11-03": 1}, (1, None)),
    "the tightest": ([{"times": 3, "per": "day"}, {"times": 5, "per": "week"}], {"2026-W45": 4}, (1, None)),
    "the last to end": ([{"times": 1, "per": "day"}, {"times": 1, "per": "week"}],
                        {"2026-11-04": 1, "2026-W45": 1}, (0, WEEK_ENDS)),
    "never again": ([{"times": 1, "per": "day"}, {"times": 2, "per": "lifetime"}],
                    {"2026-11-04": 1, "lifetime": 2}, (0, None)),
    "more than there may be": ([{"times": 1, "per": "day"}], {"2026-11-04": 9}, (0, DAY_ENDS)),
}  # fmt: skip


@pytest.mark.parametrize(("limits", "used", "expected"), ROOMS.values(), ids=ROOMS)
def test_limits_leave_room(limits, used, expected):
    made = challenge(limits=limits)
    usages = {(made.id, period): Used(0, times) for period, times in used.items()}
    assert stamping.room(made, NOON, JAKARTA, usages) == expected


# ---------------------------------------------------------------- cards and streaks


def cards_by_hand(periods: set[int], goal: int) -> int:
    """Each run of periods in a row, by itself."""
    runs = groupby(enumerate(sorted(periods)), key=lambda each: each[1] - each[0])
    return sum(len(list(run)) // goal for _, run in runs)


@given(st.lists(st.integers(0, 40)), st.integers(1, 5), st.randoms())
def test_a_streak_is_a_function_of_its_periods_in_whatever_order_they_come_and_go(periods, goal, random):
    progress, standing = Progress(), set()
    for period in periods:
        assert progress.has(period) == (period in standing)
        if period not in standing:
            progress.join(period, goal)
            standing.add(period)
        elif random.random() < 0.5:
            progress.part(period, goal)
            standing.discard(period)
        assert (progress.total, progress.due) == (len(standing), cards_by_hand(standing, goal))
    assert {each for first, last in progress.runs for each in range(first, last + 1)} == standing


def test_runs_that_are_forgotten_stay_counted_and_can_not_be_changed():
    progress = Progress()
    for period in range(0, 3 * stamping.RUNS_MAX, 2):
        progress.join(period, 1)
    assert len(progress.runs) == stamping.RUNS_MAX
    assert progress.total == progress.due == stamping.RUNS_MAX * 3 // 2
    oldest = progress.runs[0][0]
    assert progress.knows(oldest)
    assert not progress.knows(oldest - 1)
    progress.join(oldest + 1, 1)  # two runs are one now; what is forgotten stays so
    assert len(progress.runs) < stamping.RUNS_MAX
    assert not progress.knows(oldest - 1)


@given(st.lists(st.integers(-5, 20)), st.integers(1, 7))
def test_a_count_is_its_total_in_whole_cards(stamps, goal):
    progress = Progress()
    for more in stamps:
        if progress.total + more >= 0:
            progress.count(more, goal)
        assert progress.due == progress.total // goal


CURRENT = {
    # total, completed -> current, owed, of a goal of 10
    "an empty card": (0, 0, 0, 0),
    "nine": (9, 0, 9, 0),
    "full": (10, 1, 0, 0),
    "carried over": (23, 2, 3, 0),
    "one card kept without its stamps": (7, 1, 0, 1),
    "and filled again": (12, 1, 2, 0),
}


@pytest.mark.parametrize(("total", "completed", "current", "owed"), CURRENT.values(), ids=CURRENT)
def test_the_present_card_shows_what_is_over(total, completed, current, owed):
    progress = Progress(total=total, due=total // 10, completed=completed)
    assert progress.current(challenge(), NOON, JAKARTA) == current
    assert progress.owed == owed


WEDNESDAY = date(2026, 11, 4).toordinal()
STREAKS = {
    # the last period, relative to this one, and its length; goal 5 -> current, next_by
    "today, for the first time": ("day", 0, 1, 1, datetime(2026, 11, 5, 17, tzinfo=UTC)),
    "yesterday, three in a row": ("day", -1, 3, 3, datetime(2026, 11, 4, 17, tzinfo=UTC)),
    "broken the day before yesterday": ("day", -2, 3, 0, None),
    "full today": ("day", 0, 5, 0, None),
    "on the second card": ("day", 0, 7, 2, datetime(2026, 11, 5, 17, tzinfo=UTC)),
    "last week": ("week", -1, 2, 2, datetime(2026, 11, 8, 17, tzinfo=UTC)),
    "this week": ("week", 0, 2, 2, datetime(2026, 11, 15, 17, tzinfo=UTC)),
    "last month": ("month", -1, 4, 4, datetime(2026, 11, 30, 17, tzinfo=UTC)),
    "two months ago": ("month", -2, 4, 0, None),
}


@pytest.mark.parametrize(("per", "last", "length", "current", "next_by"), STREAKS.values(), ids=STREAKS)
def test_a_streak_says_until_when_it_needs_its_next_stamp(per, last, length, current, next_by):
    made = challenge(kind="streak", per=per, goal=5)
    end = stamping.period_of(per, NOON, JAKARTA) + last
    progress = Progress(runs=[(end - length + 1, end)])
    assert progress.current(made, NOON, JAKARTA) == current
    assert progress.next_by(made, NOON, JAKARTA) == next_by


@pytest.mark.parametrize("per", ["day", "week", "month"])
@given(day=st.dates(date(1970, 1, 2), date(2199, 1, 1)))
def test_periods_in_a_row_have_numbers_in_a_row(per, day):
    noon = datetime.combine(day, datetime.min.time(), JAKARTA) + timedelta(hours=12)
    number = stamping.period_of(per, noon, JAKARTA)
    first, following = stamping.first_day(per, number), stamping.first_day(per, number + 1)
    assert first <= day < following
    assert per != "week" or first.weekday() == 0
    assert per != "month" or first.day == 1


def test_a_day_of_a_streak_is_the_program_s_own():
    late = datetime(2026, 11, 4, 17, 30, tzinfo=UTC)  # half past midnight in Jakarta
    assert stamping.period_of("day", late, JAKARTA) == WEDNESDAY + 1
    assert stamping.period_of("day", late, ZoneInfo("UTC")) == WEDNESDAY


# ---------------------------------------------------------------- refunds


def money(amount: str) -> Refund:
    return Refund(amount=Decimal(amount))


def lines(*parts: tuple[int, str]) -> Refund:
    return Refund(lines=tuple(RefundLine(line, Decimal(quantity)) for line, quantity in parts))


VISIT, UNITS = Terms(lines=[0]), Terms(lines=[0], per_unit=True)
LEFT = {
    "a visit half refunded": (VISIT, [money("45000")], 1),
    "a visit refunded whole": (VISIT, [money("90000")], 0),
    "a visit in two parts": (VISIT, [money("40000"), money("50000")], 0),
    "a visit without the cake": (VISIT, [lines((1, "1"))], 1),
    "a visit without one of the coffees": (VISIT, [lines((0, "1"))], 1),
    "a visit without any of the coffees": (VISIT, [lines((0, "1")), lines((0, "1"))], 0),
    "at the minimum": (Terms(lines=[0], min_spend=Decimal(50_000)), [money("40000")], 1),
    "below the minimum": (Terms(lines=[0], min_spend=Decimal(50_000)), [money("40000.01")], 0),
    "one coffee of two": (UNITS, [lines((0, "1"))], 1),
    "the cake is no coffee": (UNITS, [lines((1, "1"))], 2),
    "a tenth of the money": (UNITS, [money("9000")], 2),
    "half of the money": (UNITS, [money("45000")], 1),
    "nearly all of the money": (UNITS, [money("89000")], 0),
    "a coffee, and a tenth": (UNITS, [lines((0, "1")), money("9000")], 1),
    "everything": (UNITS, [lines((0, "2"), (1, "1"))], 0),
}


@pytest.mark.parametrize(("terms", "refunds", "expected"), LEFT.values(), ids=LEFT)
def test_a_refund_leaves_the_stamps_of_what_was_kept(terms, refunds, expected):
    bought = purchase(*TWO_AND_CAKE)
    undone = refunding.undone(bought, [Decimal(1), Decimal(1)], refunds)
    returned = Returned("INV-1", "CN-1", bought, Decimal(90_000), refunds, undone, NOON)
    assert stamping.left(returned, terms) == expected
