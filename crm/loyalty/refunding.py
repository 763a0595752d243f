"""What a refund undoes of a purchase: money, earned points and spent points, each by the refunds together.

Pure and exact. Everything is worked out from the sum of all refunds so far, so that two of 5 equal one of 10.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from crm.loyalty.basket import NONE, Purchase, goods_of


@dataclass(frozen=True, slots=True)
class RefundLine:
    """So much of the quantity of one line, by zero-based index."""

    line: int
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Goods money given back: an `amount`, or lines in whole or part."""

    amount: Decimal | None = None
    lines: Sequence[RefundLine] = ()


@dataclass(frozen=True, slots=True)
class Undone:
    """What some refunds undo together.

    `share` is of the goods' money, `earned_share` of the points as earned: both 1 once everything was given back.
    """

    money: Fraction
    share: Fraction
    earned_share: Fraction
    complete: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """A refund with what it is of: a purchase that came to `basis`.

    `refunds` are those of the order so far, this one included, and `undone` what they undo together.
    """

    order_ref: str
    refund_ref: str
    purchase: Purchase
    basis: Decimal
    refunds: Sequence[Refund]
    undone: Undone
    occurred_at: datetime

    @property
    def remains(self) -> Fraction:
        """What is left of the basis; nothing of an order that was given back whole."""
        return NONE if self.undone.complete else Fraction(self.basis) * (1 - self.undone.share)


class TooMuch(Exception):
    """More than was sold; says what."""


def undone(purchase: Purchase, exact_points: Sequence[Decimal], refunds: Iterable[Refund]) -> Undone:
    """What these refunds together undo of a purchase whose lines earned `exact_points`. Raises TooMuch."""
    goods = goods_of(purchase)
    exact = [Fraction(points) for points in exact_points]
    sold = [line.quantity for line in purchase.lines] or [Decimal(1)]
    whole, earned = sum(goods, NONE), sum(exact, NONE)
    money, points = NONE, NONE
    returned = [Decimal(0)] * len(sold)
    for refund in refunds:
        if refund.amount is not None:
            money += Fraction(refund.amount)
            points += earned * Fraction(refund.amount) / whole if whole else NONE
        for each in refund.lines:
            if not 0 <= each.line < len(sold):
                raise TooMuch(f"there is no line {each.line}; the purchase has {len(sold)}, from 0")
            returned[each.line] += each.quantity
            if returned[each.line] > sold[each.line]:
                raise TooMuch(f"line {each.line} has a quantity of {sold[each.line]}")
            part = Fraction(each.quantity) / Fraction(sold[each.line])
            money += goods[each.line] * part
            points += exact[each.line] * part
    if money > whole:
        raise TooMuch(f"the goods came to {_money(whole)}")
    complete = returned == sold if not whole else money == whole
    if complete or points > earned:
        points = earned
    return Undone(
        money,
        share=Fraction(1) if complete else (money / whole if whole else NONE),
        earned_share=Fraction(1) if complete else (points / earned if earned else NONE),
        complete=complete,
    )


def kept(earned: int, undone: Undone) -> int:
    """How many of the points earned the member may keep, a half rounded up."""
    return half_up(earned * (1 - undone.earned_share))


def half_up(points: Fraction) -> int:
    """To whole points, a half up."""
    return (2 * points.numerator + points.denominator) // (2 * points.denominator)


def _money(amount: Fraction) -> str:
    return f"{Decimal(amount.numerator) / Decimal(amount.denominator):.2f}"
