"""What of a purchase earns: the money of each line, net of discounts, of tax and of the share paid with points.

Pure and exact: money stays decimal, and what is shared out is a fraction, so that no cent is rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from crm.errors import Invalid

Rounding: TypeAlias = Literal["floor", "nearest", "ceil"]

# Wide enough that products and sums of the amounts the API lets in are exact.
EXACT = Context(prec=200)
NONE = Fraction(0)
ALL = Fraction(1)
NO_MONEY = Decimal(0)
PAID_WITH_POINTS = "points"


class CurrencyMismatch(Invalid):
    code = "currency_mismatch"
    title = "The purchase is in another currency than the program"


class UnknownDiscountLine(Invalid):
    code = "unknown_discount_line"
    title = "A discount points to a line that the purchase does not have"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What of a program decides how much a purchase earns; `tax` and `shipping` say whether these earn too."""

    currency: str
    zone: ZoneInfo
    rounding: Rounding = "floor"
    tax: bool = False
    shipping: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`unit_price` includes tax; `tax` is what the whole line contains, as charged."""

    unit_price: Decimal
    quantity: Decimal = Decimal(1)
    tax: Decimal = NO_MONEY
    sku: str | None = None
    category: str | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Discount:
    """On one line, by zero-based index, or on the order."""

    amount: Decimal
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    tender: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What the till sent: `lines`, or a bare `total` that counts as one anonymous line."""

    order_ref: str
    occurred_at: datetime
    currency: str
    lines: Sequence[Line] = ()
    total: Decimal | None = None
    discounts: Sequence[Discount] = ()
    shipping: Decimal = NO_MONEY
    shipping_tax: Decimal = NO_MONEY
    payments: Sequence[Payment] = ()
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Any value within a list, all lists, exclusions win; an empty list asks nothing."""

    skus: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    exclude_skus: frozenset[str] = frozenset()
    exclude_categories: frozenset[str] = frozenset()
    exclude_labels: frozenset[str] = frozenset()

    def admits(self, line: Line) -> bool:
        return (
            (not self.skus or line.sku in self.skus)
            and (not self.categories or line.category in self.categories)
            and (not self.labels or not self.labels.isdisjoint(line.labels))
            and line.sku not in self.exclude_skus
            and line.category not in self.exclude_categories
            and self.exclude_labels.isdisjoint(line.labels)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """A measured purchase.

    `goods` is each line less its discounts, tax included: what a refund counts in. `bases` is what earns of each
    line, and `total` what earns in all. Shipping that earns stands behind the lines as a last one without goods.
    `paid` is the share that was not paid with points; `places` are the decimals in which the till writes its money.
    """

    lines: Sequence[Line]
    goods: Sequence[Fraction]
    bases: Sequence[Fraction]
    total: Fraction
    paid: Fraction
    places: int

    def matching(self, chosen: Filter | None) -> Sequence[int]:
        """The lines that a rule with this filter looks at; none where everything was paid with points."""
        if not self.paid:
            return ()
        if chosen is None:
            return range(len(self.lines))
        return [index for index, line in enumerate(self.lines) if chosen.admits(line)]

    def shares(self, indices: Sequence[int]) -> list[Fraction]:
        """How what these lines get together is spread over them: by goods, or evenly where all are free."""
        if len(indices) == 1:
            return [ALL]
        goods = [self.goods[index] for index in indices]
        whole = sum(goods, NONE)
        return [each / whole for each in goods] if whole else [Fraction(1, len(indices))] * len(indices)


SHIPPING = Line(unit_price=NO_MONEY, quantity=NO_MONEY)
# What an event is measured as: something happened, no money moved.
NO_PURCHASE = Basket(lines=(Line(unit_price=NO_MONEY),), goods=(NONE,), bases=(NONE,), total=NONE, paid=ALL, places=0)


def measure(purchase: Purchase, terms: Terms) -> Basket:
    """Discounts first, on lines and then on the order; then tax comes off, then the share paid with points."""
    if purchase.currency != terms.currency:
        raise CurrencyMismatch(f"The program counts in {terms.currency}, the purchase is in {purchase.currency}.")
    lines = _lines(purchase)
    with localcontext(EXACT):
        goods = goods_of(purchase)
        charged = max(NO_MONEY, purchase.shipping)
        paid = _paid_with_money(purchase.payments, goods, charged) if purchase.payments else ALL
        bases = goods if terms.tax else [_without(line.tax, money) for line, money in zip(lines, goods, strict=True)]
        if charged and terms.shipping:
            lines, goods = (*lines, SHIPPING), [*goods, NONE]
            bases = [*bases, Fraction(charged) if terms.tax else _without(purchase.shipping_tax, Fraction(charged))]
    if paid != ALL:
        bases = [base * paid for base in bases]
    total = bases[0] if len(bases) == 1 else sum(bases, NONE)
    return Basket(lines=lines, goods=goods, bases=bases, total=total, paid=paid, places=_places(purchase))


def goods_of(purchase: Purchase) -> list[Fraction]:
    """Each line less its discounts, tax included: the money that a refund counts in. Raises UnknownDiscountLine."""
    with localcontext(EXACT):
        listed = [max(NO_MONEY, line.quantity * line.unit_price) for line in _lines(purchase)]
        return _discounted(listed, purchase.discounts)


def _lines(purchase: Purchase) -> Sequence[Line]:
    return purchase.lines or (Line(unit_price=purchase.total or NO_MONEY),)


def _discounted(listed: list[Decimal], discounts: Sequence[Discount]) -> list[Fraction]:
    """What remains of each line; an order's discount is shared out by what the lines' own discounts left of them."""
    on_order = NO_MONEY
    for discount in discounts:
        amount = max(NO_MONEY, discount.amount)
        if discount.line is None:
            on_order += amount
        elif 0 <= discount.line < len(listed):
            listed[discount.line] = max(NO_MONEY, listed[discount.line] - amount)
        else:
            raise UnknownDiscountLine(f"There is no line {discount.line}; the purchase has {len(listed)}, from 0.")
    goods = [Fraction(money) for money in listed]
    whole = sum(listed)
    if not on_order or not whole:
        return goods
    kept = Fraction(max(NO_MONEY, whole - on_order)) / Fraction(whole)
    return [money * kept for money in goods]


def _paid_with_money(payments: Sequence[Payment], goods: Sequence[Fraction], charged: Decimal) -> Fraction:
    points = sum((max(NO_MONEY, each.amount) for each in payments if each.tender == PAID_WITH_POINTS), NO_MONEY)
    if not points:
        return ALL
    due = sum(goods, Fraction(charged))
    return max(NONE, 1 - Fraction(points) / due) if due else ALL


def _without(tax: Decimal, money: Fraction) -> Fraction:
    return money if tax <= 0 else max(NONE, money - Fraction(tax))


def _places(purchase: Purchase) -> int:
    amounts = [line.unit_price for line in purchase.lines]
    amounts += [discount.amount for discount in purchase.discounts]
    if purchase.total is not None:
        amounts.append(purchase.total)
    if purchase.shipping:
        amounts.append(purchase.shipping)
    return max((_decimals(amount) for amount in amounts), default=0)


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
