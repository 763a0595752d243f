"""What of a purchase earns. Amounts are in rupiah with cents, so that a lost cent shows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.errors import Invalid
from crm.loyalty.basket import (
    CurrencyMismatch,
    Discount,
    Filter,
    Line,
    Payment,
    Purchase,
    Terms,
    UnknownDiscountLine,
    measure,
)

NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)


def terms(**changes: Any) -> Terms:
    return Terms(currency="IDR", zone=ZoneInfo("Asia/Jakarta"), **changes)


def line(price: str, quantity: str = "1", tax: str = "0", **changes: Any) -> Line:
    return Line(unit_price=Decimal(price), quantity=Decimal(quantity), tax=Decimal(tax), **changes)


def off(amount: str, index: int | None = None) -> Discount:
    return Discount(Decimal(amount), index)


def paid(tender: str, amount: str) -> Payment:
    return Payment(tender, Decimal(amount))


def purchase(*lines: Line, shipping: str = "0", shipping_tax: str = "0", **changes: Any) -> Purchase:
    return Purchase(
        order_ref="INV-1",
        occurred_at=NOON,
        currency=changes.pop("currency", "IDR"),
        lines=lines,
        shipping=Decimal(shipping),
        shipping_tax=Decimal(shipping_tax),
        **changes,
    )


def money(values: Sequence[Fraction]) -> list[str]:
    """As written by hand: thirds as fractions, cents as decimals."""
    return [str(value) if value.denominator % 3 == 0 else str(float(value)) for value in values]


@pytest.mark.parametrize(
    ("given_lines", "given_discounts", "then_earns"),
    [
        pytest.param([line("10.00", "3")], [], ["30.0"], id="quantity times unit price"),
        pytest.param([line("9.99", "0.5")], [], ["4.995"], id="half a kilo is not rounded to cents"),
        pytest.param([line("30"), line("70")], [off("20", 0)], ["10.0", "70.0"], id="a line's discount stays on it"),
        pytest.param([line("30"), line("70")], [off("10")], ["27.0", "63.0"], id="an order's is prorated by amount"),
        pytest.param(
            [line("50"), line("50")],
            [off("30"), off("25", 0)],
            ["15.0", "30.0"],
            id="prorated by what the lines' own discounts left, whatever the order they come in",
        ),
        pytest.param(
            [line("10"), line("10"), line("10")],
            [off("10")],
            ["20/3", "20/3", "20/3"],
            id="thirds keep their last cent",
        ),
        pytest.param([line("30"), line("70")], [off("5"), off("5")], ["27.0", "63.0"], id="two discounts add up"),
        pytest.param([line("30"), line("70")], [off("40", 0)], ["0.0", "70.0"], id="a line never earns below zero"),
        pytest.param([line("30"), line("70")], [off("500")], ["0.0", "0.0"], id="nor does an order"),
        pytest.param([line("30"), line("70")], [off("-10"), off("-5", 1)], ["30.0", "70.0"], id="no negative discount"),
        pytest.param([line("0"), line("0")], [off("5")], ["0.0", "0.0"], id="a free order has nothing to discount"),
        pytest.param([line("30"), line("70", "-1")], [], ["30.0", "0.0"], id="a line of a return earns nothing"),
        pytest.param([line("110", tax="10"), line("22", tax="2")], [], ["100.0", "20.0"], id="tax does not earn"),
        pytest.param([line("55", "2", tax="10")], [], ["100.0"], id="tax is that of the whole line, not of one unit"),
        pytest.param([line("110", tax="10")], [off("105")], ["0.0"], id="tax of a line given away is not taken twice"),
    ],
)
def test_what_a_line_earns_on(given_lines: list[Line], given_discounts: list[Discount], then_earns: list[str]) -> None:
    basket = measure(purchase(*given_lines, discounts=given_discounts), terms())

    assert money(basket.bases) == then_earns
    assert basket.total == sum(basket.bases)


def test_a_bare_total_is_one_anonymous_line() -> None:
    basket = measure(purchase(total=Decimal("45000.00")), terms())

    assert (len(basket.lines), money(basket.bases), basket.places) == (1, ["45000.0"], 2)


def test_tax_earns_where_the_program_says_so() -> None:
    assert measure(purchase(line("110", tax="10")), terms(tax=True)).total == 110


@pytest.mark.parametrize(
    ("settings", "then_total"),
    [
        pytest.param({}, 100, id="shipping does not earn"),
        pytest.param({"shipping": True}, 120, id="unless the program says so, without its tax"),
        pytest.param({"shipping": True, "tax": True}, 122, id="or with it"),
    ],
)
def test_shipping(settings: dict[str, bool], then_total: int) -> None:
    order = purchase(line("100"), shipping="22", shipping_tax="2", discounts=[])

    assert measure(order, terms(**settings)).total == then_total


def test_a_discount_on_the_order_leaves_shipping_alone() -> None:
    order = purchase(line("100"), shipping="20", discounts=[off("150")])

    assert measure(order, terms(shipping=True)).total == 20


@pytest.mark.parametrize(
    ("given_payments", "then_earns"),
    [
        pytest.param([], ["60.0", "40.0"], id="no payments: all money"),
        pytest.param([paid("cash", "100")], ["60.0", "40.0"], id="cash"),
        pytest.param([paid("gift_card", "100")], ["60.0", "40.0"], id="a gift card earns like cash"),
        pytest.param([paid("cash", "50"), paid("gift_card", "50")], ["60.0", "40.0"], id="and so does a mix"),
        pytest.param([paid("points", "25"), paid("cash", "75")], ["45.0", "30.0"], id="a quarter paid with points"),
        pytest.param([paid("points", "25")], ["45.0", "30.0"], id="a till may send the points only"),
        pytest.param([paid("points", "20"), paid("points", "5")], ["45.0", "30.0"], id="points in two parts"),
        pytest.param([paid("points", "100")], ["0.0", "0.0"], id="all paid with points"),
        pytest.param([paid("points", "900")], ["0.0", "0.0"], id="more points than due"),
        pytest.param([paid("points", "-50"), paid("cash", "100")], ["60.0", "40.0"], id="no negative payment"),
    ],
)
def test_the_share_paid_with_points_earns_nothing(given_payments: list[Payment], then_earns: list[str]) -> None:
    basket = measure(purchase(line("60"), line("40"), payments=given_payments), terms())

    assert money(basket.bases) == then_earns


def test_points_pay_for_shipping_too() -> None:
    order = purchase(line("80"), shipping="20", payments=[paid("points", "50"), paid("cash", "50")])

    assert measure(order, terms()).total == 40
    assert measure(order, terms(shipping=True)).total == 50


def test_goods_are_what_a_refund_counts_in() -> None:
    order = purchase(
        line("110", tax="10"), line("110", tax="10"), discounts=[off("20")], payments=[paid("points", "9")]
    )

    assert money(measure(order, terms()).goods) == ["100.0", "100.0"]


def test_another_currency_is_refused() -> None:
    with pytest.raises(CurrencyMismatch) as refusal:
        measure(purchase(line("10"), currency="USD"), terms())

    assert refusal.value.code == "currency_mismatch"


@pytest.mark.parametrize("index", [2, -1])
def test_a_discount_on_a_line_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(UnknownDiscountLine) as refusal:
        measure(purchase(line("10"), line("20"), discounts=[off("1", index)]), terms())

    assert isinstance(refusal.value, Invalid)


COFFEE = line("25000", sku="KOPI-1", category="drinks", labels=["hot", "organic"])


@pytest.mark.parametrize(
    ("chosen", "admitted"),
    [
        pytest.param(Filter(), True, id="asks nothing"),
        pytest.param(Filter(skus=frozenset({"TEH-1", "KOPI-1"})), True, id="any value within a list"),
        pytest.param(Filter(labels=frozenset({"cold", "organic"})), True, id="one label of several"),
        pytest.param(
            Filter(skus=frozenset({"KOPI-1"}), categories=frozenset({"drinks"})), True, id="all lists: both fit"
        ),
        pytest.param(
            Filter(skus=frozenset({"KOPI-1"}), categories=frozenset({"food"})), False, id="all lists: one fails"
        ),
        pytest.param(Filter(labels=frozenset({"cold"})), False, id="no label fits"),
        pytest.param(Filter(categories=frozenset({"Drinks"})), False, id="values are exact"),
        pytest.param(Filter(exclude_categories=frozenset({"food"})), True, id="excludes something else"),
        pytest.param(
            Filter(skus=frozenset({"KOPI-1"}), exclude_labels=frozenset({"hot"})), False, id="exclusion wins by label"
        ),
        pytest.param(
            Filter(categories=frozenset({"drinks"}), exclude_skus=frozenset({"KOPI-1"})),
            False,
            id="exclusion wins by sku",
        ),
        pytest.param(
            Filter(skus=frozenset({"KOPI-1"}), exclude_categories=frozenset({"drinks"})),
            False,
            id="exclusion wins by category",
        ),
    ],
)
def test_a_filter(chosen: Filter, admitted: bool) -> None:
    assert chosen.admits(COFFEE) is admitted


def test_an_anonymous_line_fits_only_filters_that_ask_nothing_of_it() -> None:
    basket = measure(purchase(total=Decimal(10)), terms())

    assert list(basket.matching(Filter(categories=frozenset({"drinks"})))) == []
    assert list(basket.matching(Filter(exclude_categories=frozenset({"gift-cards"})))) == [0]


amounts = st.decimals(min_value=0, max_value=10**9, places=2)


@given(prices=st.lists(amounts, min_size=1, max_size=6), discounts=st.lists(amounts, max_size=3))
def test_prorating_loses_no_cent(prices: list[Decimal], discounts: list[Decimal]) -> None:
    order = purchase(*(line(str(price)) for price in prices), discounts=[Discount(each) for each in discounts])

    assert measure(order, terms()).total == max(0, sum(prices) - sum(discounts))


@given(prices=st.lists(amounts, min_size=1, max_size=6), share=st.integers(min_value=0, max_value=100))
def test_every_line_bears_the_same_share_of_the_points_tender(prices: list[Decimal], share: int) -> None:
    tender = Payment("points", sum(prices, Decimal(0)) * share / 100)
    basket = measure(purchase(*(line(str(price)) for price in prices), payments=[tender]), terms())

    earning = 1 - Fraction(share, 100) if sum(prices) else 1
    assert list(basket.bases) == [Fraction(price) * earning for price in prices]
