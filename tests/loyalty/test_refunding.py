"""What refunds undo together, in numbers."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty import basket, refunding
from crm.loyalty.basket import Discount, Line, Purchase
from crm.loyalty.refunding import Refund, RefundLine, TooMuch


def bought(*lines: tuple[str, str], total: str | None = None, discounts: tuple[Discount, ...] = ()) -> Purchase:
    """Lines as (quantity, unit price)."""
    return Purchase(
        order_ref="A", occurred_at=datetime(2026, 11, 1, tzinfo=UTC), currency="IDR",
        lines=tuple(Line(quantity=Decimal(quantity), unit_price=Decimal(price)) for quantity, price in lines),
        total=None if total is None else Decimal(total), discounts=discounts,
    )  # fmt: skip


def money(amount: str) -> Refund:
    return Refund(amount=Decimal(amount))


def part(line: int, quantity: str) -> Refund:
    return Refund(lines=(RefundLine(line, Decimal(quantity)),))


def taken(purchase: Purchase, exact: list[str], *refunds: Refund) -> int:
    """How many points these refunds take of what the purchase earned, rounded down."""
    earned = int(sum(map(Decimal, exact)))
    return earned - refunding.kept(earned, refunding.undone(purchase, list(map(Decimal, exact)), refunds))


@pytest.mark.parametrize(
    ("refunds", "points"),
    [
        ([], 0),
        ([money("25")], 25),
        ([money("5"), money("5")], 10),
        ([money("10")], 10),
        ([money("0.49")], 0),
        ([money("0.5")], 0),  # 99.5 is kept as 100: a half is rounded up, in the member's favour
        ([money("0.51")], 1),
        ([money("100")], 100),
    ],
)
def test_of_a_plain_total_the_member_keeps_the_points_for_what_is_kept(refunds, points):
    assert taken(bought(total="100"), ["100"], *refunds) == points


@pytest.mark.parametrize(
    ("refunds", "points"),
    [
        ([part(0, "1")], 20),
        ([part(0, "2")], 40),
        ([part(1, "1")], 0),
        ([part(0, "1"), part(1, "1")], 20),
        ([money("45")], 20),  # half of all money is half of all points, whichever line earned them
        ([part(0, "2"), part(1, "1")], 40),
    ],
)
def test_a_line_gives_back_what_that_line_earned(refunds, points):
    assert taken(bought(("2", "20"), ("1", "50")), ["40", "0"], *refunds) == points


def test_a_discount_on_the_order_lessens_what_every_line_is_worth():
    purchase = bought(("1", "60"), ("1", "40"), discounts=(Discount(Decimal(50)),))
    assert refunding.undone(purchase, [Decimal(30), Decimal(20)], [part(0, "1")]).money == 30
    with pytest.raises(TooMuch, match="50"):
        refunding.undone(purchase, [Decimal(30), Decimal(20)], [money("50.01")])


@pytest.mark.parametrize(
    ("refunds", "said"),
    [
        ([money("90.01")], "90.00"),
        ([money("45"), money("45.01")], "90.00"),
        ([part(0, "2.1")], "quantity of 2"),
        ([part(0, "1"), part(0, "1.5")], "quantity of 2"),
        ([part(2, "1")], "no line 2"),
        ([money("60"), part(0, "2")], "90.00"),
    ],
)
def test_more_than_was_sold_can_not_be_refunded(refunds, said):
    with pytest.raises(TooMuch, match=said):
        refunding.undone(bought(("2", "20"), ("1", "50")), [Decimal(40), Decimal(50)], refunds)


@pytest.mark.parametrize(
    ("refunds", "complete"), [([money("90")], True), ([part(0, "2")], False), ([part(0, "2"), part(1, "1")], True)]
)
def test_a_purchase_is_undone_completely_when_all_its_money_went_back(refunds, complete):
    undone = refunding.undone(bought(("2", "20"), ("1", "50")), [Decimal(40), Decimal(50)], refunds)
    assert undone.complete is complete
    assert (undone.share == 1) is complete


def test_a_free_purchase_is_undone_when_all_its_goods_went_back():
    gift = bought(("1", "0"))
    assert not refunding.undone(gift, [Decimal(5)], []).complete
    assert refunding.undone(gift, [Decimal(5)], [part(0, "1")]).complete
    assert taken(gift, ["5"], part(0, "1")) == 5


prices = st.integers(0, 5_000).map(lambda cents: Decimal(cents).scaleb(-2))
baskets = st.lists(st.tuples(st.integers(1, 5), prices, st.integers(0, 400)), min_size=1, max_size=4)


@given(baskets, st.data())
def test_refunds_never_take_more_than_was_earned_and_all_of_it_in_the_end(lines, data):
    purchase = bought(*((str(quantity), str(price)) for quantity, price, _ in lines))
    exact = [Decimal(points).scaleb(-1) for _, _, points in lines]
    earned = int(sum(exact))
    refunds: list[Refund] = []
    before = 0
    left = {number: quantity for number, (quantity, _, _) in enumerate(lines)}
    while left:
        line = data.draw(st.sampled_from(sorted(left)))
        quantity = data.draw(st.integers(1, left[line]))
        refunds.append(part(line, str(quantity)))
        left[line] -= quantity
        left = {number: rest for number, rest in left.items() if rest}
        after = earned - refunding.kept(earned, refunding.undone(purchase, exact, refunds))
        assert before <= after <= earned
        before = after
    assert before == earned
    assert refunding.undone(purchase, exact, refunds).complete


@given(baskets, st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_many_refunds_of_money_are_one_of_their_sum(lines, shares):
    purchase = bought(*((str(quantity), str(price)) for quantity, price, _ in lines))
    exact = [Decimal(points).scaleb(-1) for _, _, points in lines]
    whole = sum(basket.goods_of(purchase), Fraction(0))
    amounts = [Decimal(int(whole * 100 * share / max(1, sum(shares)))).scaleb(-2) for share in shares]
    one_by_one = refunding.undone(purchase, exact, [Refund(amount=amount) for amount in amounts])
    assert one_by_one == refunding.undone(purchase, exact, [Refund(amount=sum(amounts, Decimal(0)))])
