"""Orders as shops send them, brought into one form in which nothing is rounded and everything adds up.

What the shop says was paid is the truth. What its lines say beyond that was taken off the order, what they fall short
of it was charged for something that is no line: a tip, a duty, a fee.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from typing import Any, Final

from crm.interactions.channels.events import Line
from crm.interactions.channels.payloads import Json, Unreadable

NOTHING: Final = Decimal(0)
_EXACT: Final = Context(prec=60)
_PRICE_PLACES: Final = Decimal("0.000001")
_CENT: Final = Decimal("0.01")
_DIGITS_MAX: Final = 15
_PLACES_MAX: Final = 10
_AMOUNT: Final = re.compile(rf"-?[0-9]{{1,{_DIGITS_MAX}}}(?:\.[0-9]{{1,{_PLACES_MAX}}})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A line as charged: `net` is what is paid for all of it, after `discount` and with the `tax` in it."""

    external_id: str | None
    sku: str
    quantity: Decimal
    net: Decimal
    tax: Decimal = NOTHING
    discount: Decimal = NOTHING
    category: str | None = None
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """What an order consists of, and the money for it."""

    lines: Sequence[Line]
    discounts: Sequence[Decimal]
    shipping: Decimal
    total: Decimal
    unexplained: Decimal
    """How much of the total is in none of the lines, the discounts and the shipping that the shop tells of."""

    @property
    def goods(self) -> Decimal:
        """What was paid for the lines."""
        with localcontext(_EXACT):
            return _of(self.lines) - sum(self.discounts, NOTHING)


def find_amount(of: Json, *path: str) -> Decimal | None:
    """Money, as text or number, exactly as written; None where it is missing or not an amount."""
    value: Any = of
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # The shortest text that means this number is what was sent.
    text = f"{Decimal(repr(value)):f}" if isinstance(value, float) else str(value).strip()
    return Decimal(text) if _AMOUNT.fullmatch(text) else None


def amount(of: Json, *path: str) -> Decimal:
    """Money; nothing where it is missing."""
    return find_amount(of, *path) or NOTHING


def needed_amount(of: Json, *path: str) -> Decimal:
    """Money. Raises Unreadable."""
    found = find_amount(of, *path)
    if found is None:
        raise Unreadable(f"Its {'.'.join(path)} is missing or not an amount.")
    return found


def currency(of: Json, name: str) -> str:
    """A currency's code. Raises Unreadable."""
    code = of.get(name)
    if not isinstance(code, str) or not _CURRENCY.fullmatch(code.strip().upper()):
        raise Unreadable(f"Its {name} is missing or not a currency.")
    return code.strip().upper()


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Their exact sum."""
    with localcontext(_EXACT):
        return sum(amounts, NOTHING)


def shared(whole: Decimal, weights: Sequence[Decimal]) -> list[Decimal]:
    """An amount spread by weights, to its own decimals, so that the shares add up; the heaviest get what is over."""
    with localcontext(_EXACT):
        sum_of_weights = sum(weights, NOTHING)
        if sum_of_weights <= 0:
            weights, sum_of_weights = [Decimal(1)] * len(weights), Decimal(len(weights))
        step = Decimal(1).scaleb(min(-2, int(whole.as_tuple().exponent)))
        shares = [(whole * weight / sum_of_weights).quantize(step, ROUND_FLOOR) for weight in weights]
        over = whole - sum(shares, NOTHING)
        for place in sorted(range(len(shares)), key=lambda place: weights[place], reverse=True):
            taken = min(over, step)
            shares[place] += taken
            over -= taken
    return shares


def basket(
    *, items: Iterable[Item], discounts: Iterable[Decimal] = (), shipping: Decimal = NOTHING, paid: Decimal
) -> Basket:
    """The lines in which nothing is rounded, and the charges and discounts with which they come to what was paid.

    Where there are none, what was paid beside the shipping was for something without a name. Raises Unreadable where
    that can't be.
    """
    if paid < 0:
        raise Unreadable("Its total is less than nothing.")
    off = [discount for discount in discounts if discount > 0]
    lines: list[Line] = []
    with localcontext(_EXACT):
        for item in items:
            if item.net < 0:
                off.append(-item.net)  # some shops write a discount as a line
            elif item.quantity > 0:
                lines.append(_line(item))
        charged = max(NOTHING, shipping)
        if not lines and paid > charged:
            lines, off = [_line(Item(external_id=None, sku="", quantity=Decimal(1), net=paid - charged))], []
        unexplained = _tidy(paid - (_of(lines) - sum(off, NOTHING) + charged))
        if unexplained < 0:
            off.append(-unexplained)
        return Basket(
            lines=lines, discounts=off, shipping=_tidy(charged + max(NOTHING, unexplained)), total=paid,
            unexplained=unexplained,
        )  # fmt: skip


def _of(lines: Iterable[Line]) -> Decimal:
    return sum((line.quantity * line.unit_price - line.discount for line in lines), NOTHING)


def _line(item: Item) -> Line:
    before = item.net + max(NOTHING, item.discount)
    # A price that has no end, a third of something, is rounded up, and the discount makes up for it.
    unit_price = _tidy((before / item.quantity).quantize(_PRICE_PLACES, ROUND_CEILING))
    return Line(
        sku=item.sku, quantity=item.quantity, unit_price=unit_price,
        discount=_tidy(unit_price * item.quantity - item.net), tax=min(max(NOTHING, item.tax), item.net),
        category=item.category, labels=item.labels, external_id=item.external_id,
    )  # fmt: skip


def _tidy(value: Decimal) -> Decimal:
    """The same amount in cents, or with as many decimals as it needs."""
    short = value.normalize()
    cents = short.quantize(_CENT, ROUND_FLOOR)
    return cents if cents == short else short
