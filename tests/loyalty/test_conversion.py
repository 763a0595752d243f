"""What points are worth: whole steps only, never more than asked for, there or allowed."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty.conversion import AboveShare, BelowMinimum, Conversion, NotAMultiple

KOPI = Conversion(points=100, amount=Decimal("1.00"), min_points=200, max_share=Decimal("0.5"))

POINTS = st.integers(0, 2**53 - 1)
MONEY = st.decimals("0", "999999999999999", places=2)
CONVERSIONS = st.builds(
    Conversion,
    points=st.integers(1, 10_000),
    amount=st.decimals("0.01", "100000", places=2),
    min_points=st.none() | st.integers(1, 100_000),
    max_share=st.none() | st.decimals("0.000001", "1", places=6),
)


@pytest.mark.parametrize(
    ("points", "available", "order_total", "most", "amount"),
    [
        pytest.param(1000, 5000, "100.00", 1000, "10.00", id="as asked for"),
        pytest.param(1099, 5000, "100.00", 1000, "10.00", id="down to a whole step"),
        pytest.param(1000, 750, "100.00", 700, "7.00", id="what is there"),
        pytest.param(1000, 5000, "15.00", 700, "7.00", id="half of the order, down to a whole step"),
        pytest.param(1000, 5000, "14.00", 700, "7.00", id="exactly half of the order"),
        pytest.param(1000, 5000, "13.99", 600, "6.00", id="a cent less than that"),
        pytest.param(200, 5000, "100.00", 200, "2.00", id="the minimum"),
        pytest.param(199, 5000, "100.00", 0, "0.00", id="below the minimum"),
        pytest.param(1000, 199, "100.00", 0, "0.00", id="less there than the minimum"),
        pytest.param(1000, 5000, "3.99", 0, "0.00", id="an order too small for the minimum"),
        pytest.param(1000, -50, "100.00", 0, "0.00", id="in debt"),
        pytest.param(1000, 5000, "0.00", 0, "0.00", id="a free order"),
    ],
)
def test_a_simulation_cuts_down_to_the_least(points, available, order_total, most, amount):
    found = KOPI.most(points=points, available=available, order_total=Decimal(order_total))
    assert found == most
    assert str(KOPI.worth(found)) == amount


@pytest.mark.parametrize(
    ("points", "order_total", "refusal"),
    [
        (200, None, None),
        (199, None, BelowMinimum),
        (250, None, NotAMultiple),
        (700, "14.00", None),
        (800, "14.00", AboveShare),
        (2**52 // 100 * 100, None, None),
    ],
)
def test_a_redemption_refuses_what_a_simulation_would_cut_down(points, order_total, refusal):
    total = None if order_total is None else Decimal(order_total)
    if refusal is None:
        KOPI.check(points=points, order_total=total)
    else:
        with pytest.raises(refusal):
            KOPI.check(points=points, order_total=total)


def test_without_a_share_no_more_than_the_order_can_be_paid():
    plain = Conversion(points=10, amount=Decimal(500))
    assert plain.most(points=1000, available=1000, order_total=Decimal("1499.99")) == 20
    assert str(plain.worth(20)) == "1000"


def test_settings_without_a_conversion_have_none():
    assert Conversion.of(None) is None
    assert Conversion.of({"points": 100, "amount": "1.00", "min_points": 200, "max_share": "0.5"}) == KOPI
    assert Conversion.of({"points": 3, "amount": "2"}) == Conversion(3, Decimal(2))


@given(CONVERSIONS, POINTS, POINTS, MONEY)
def test_what_is_cut_down_is_allowed_and_one_step_more_is_not(conversion, points, available, order_total):
    most = conversion.most(points=points, available=available, order_total=order_total)
    money = Fraction(conversion.worth(most))
    assert 0 <= most <= min(points, available)
    assert most % conversion.points == 0
    assert money == Fraction(most, conversion.points) * Fraction(conversion.amount)
    assert money <= Fraction(order_total) * Fraction(conversion.max_share or 1)
    if most:
        conversion.check(points=most, order_total=order_total)
        more = most + conversion.points
        if more <= min(points, available):
            with pytest.raises(AboveShare):
                conversion.check(points=more, order_total=order_total)


@given(CONVERSIONS, POINTS, POINTS, MONEY)
def test_whatever_a_redemption_lets_through_a_simulation_leaves_as_it_is(conversion, points, available, order_total):
    try:
        conversion.check(points=points, order_total=order_total)
    except (BelowMinimum, NotAMultiple, AboveShare):
        return
    assert conversion.most(points=points, available=points + available, order_total=order_total) == points


@given(CONVERSIONS, POINTS, POINTS, MONEY, MONEY)
def test_who_has_or_buys_more_never_pays_with_less(conversion, points, available, one, other):
    smaller, larger = sorted((one, other))
    assert conversion.most(points=points, available=available, order_total=smaller) <= conversion.most(
        points=points, available=available + 1, order_total=larger
    )
