"""Shopify's orders and refunds, brought into our form.

Money is in the shop's own currency, whatever the customer paid in.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any, Final

from crm.interactions.channels import orders, times
from crm.interactions.channels.events import Event, Happened, Ordered, Person, Refunded
from crm.interactions.channels.orders import NOTHING, Item, amount, find_amount
from crm.interactions.channels.payloads import Json, Unreadable, kept, needed, objects, text

GIFT_CARD: Final = "gift_card"

_CENT: Final = Decimal("0.01")
_SHOP: Final = "shop_money"
_CUSTOMER: Final = "presentment_money"
_AMOUNTS: Final = {
    "refund_line_items": "subtotal",
    "order_adjustments": "amount",
    "refund_shipping_lines": "subtotal_amount",
}
_MOVED: Final = frozenset({"success", "pending"})


def ordered(order: Json, *, person: Person | None, data: Mapping[str, Any]) -> Ordered:
    """A paid order. It counts from when it was placed: that stays the same in all that is told of it.

    Raises Unreadable.
    """
    order_id, placed_at = needed(order, "id"), times.first_iso(order, "processed_at", "created_at", "updated_at")
    if placed_at is None:
        raise Unreadable("It does not say when it was placed.")
    # What was taken out of an order before it was paid is still among its lines, with nothing left of it.
    paid = find_amount(order, "current_total_price")
    items = list(_items(order))
    shipping, shipping_tax = _shipping(order)
    basket = orders.basket(
        items=items, discounts=() if _allocated(order) else [amount(order, "total_discounts")], shipping=shipping,
        paid=orders.needed_amount(order, "total_price") if paid is None else paid,
    )  # fmt: skip
    return Ordered(
        external_id=f"order:{order_id}", order_ref=order_id, person=person, occurred_at=placed_at,
        currency=orders.currency(order, "currency"), lines=basket.lines, discounts=basket.discounts,
        shipping=basket.shipping, shipping_tax=shipping_tax, total=basket.total,
        data={
            **data,
            **kept(
                line_ids=[line.external_id for line in basket.lines],
                unexplained=f"{basket.unexplained:f}" if basket.unexplained else None,
            ),
        },
    )  # fmt: skip


def refunded(refund: Json, *, received_at: datetime) -> Event:
    """Money given back; a refund in which none moved, or only that of the shipping, is for the timeline.

    Raises Unreadable.
    """
    refund_id, order_id = needed(refund, "id"), needed(refund, "order_id")
    at = times.first_iso(refund, "processed_at", "created_at")
    money = [one for one in objects(refund, "transactions") if _has_moved(one)]
    test = bool(money) and all(one.get("test") is True for one in money)
    goods = _goods(refund, money)
    data = kept(note=text(refund, "note"), restock=refund.get("restock") is True, test=test)
    if goods <= 0 or test:
        return Happened(
            external_id=f"refund:{refund_id}", person=None, occurred_at=at or received_at, kind="order.refunded",
            text=text(refund, "note"), data={"order_ref": order_id, **data},
        )  # fmt: skip
    items = [
        (needed(line, "line_item_id"), quantity)
        for line in objects(refund, "refund_line_items")
        if (quantity := amount(line, "quantity")) > 0
    ]
    return Refunded(
        external_id=f"refund:{refund_id}", order_ref=order_id, refund_ref=refund_id, occurred_at=at, amount=goods,
        # Where more or less was given back than the lines are worth, the amount says it.
        items=() if _discrepancy(refund, _SHOP) else items, data=data,
    )  # fmt: skip


def _items(order: Json) -> Iterator[Item]:
    included = order.get("taxes_included") is True
    lines = objects(order, "line_items")
    taxes = _taxes(order, lines)
    for line, whole_tax in zip(lines, taxes, strict=True):
        quantity, left = amount(line, "quantity"), find_amount(line, "current_quantity")
        left = quantity if left is None else min(left, quantity)
        discount, tax = _discount(line), whole_tax
        with localcontext(prec=60):
            if left != quantity:
                discount = (discount * left / quantity).quantize(_CENT)
                tax = (tax * left / quantity).quantize(_CENT)
            price = amount(line, "price") * left - discount
            gift_card = line.get("gift_card") is True
            yield Item(
                external_id=text(line, "id"), sku=text(line, "sku") or text(line, "variant_id") or "",
                quantity=left, net=price if included else price + tax, tax=tax, discount=discount,
                category=GIFT_CARD if gift_card else None,
            )  # fmt: skip


def _allocated(order: Json) -> bool:
    """Whether the lines say themselves which share of the order's discounts they bear."""
    return any("discount_allocations" in line for line in objects(order, "line_items"))


def _discount(line: Json) -> Decimal:
    if "discount_allocations" in line:
        return orders.total(amount(one, "amount") for one in objects(line, "discount_allocations"))
    return amount(line, "total_discount")


def _taxes(order: Json, lines: Sequence[Json]) -> list[Decimal]:
    """What of the order's tax each line bears; where lines don't say it, by what they cost."""
    taxes = [_tax(line) for line in lines]
    if any("tax_lines" in line for line in lines) or not lines:
        return taxes
    rest = amount(order, "total_tax") - orders.total(_tax(line) for line in objects(order, "shipping_lines"))
    prices = [max(NOTHING, amount(line, "price") * amount(line, "quantity") - _discount(line)) for line in lines]
    return orders.shared(max(NOTHING, rest), prices)


def _shipping(order: Json) -> tuple[Decimal, Decimal]:
    lines = [line for line in objects(order, "shipping_lines") if line.get("is_removed") is not True]
    tax = orders.total(_tax(line) for line in lines)
    price = orders.total(_shipping_price(line) for line in lines)
    return price if order.get("taxes_included") is True else price + tax, tax


def _shipping_price(line: Json) -> Decimal:
    discounted = find_amount(line, "discounted_price")
    return amount(line, "price") - _discount(line) if discounted is None else discounted


def _tax(line: Json) -> Decimal:
    return orders.total(amount(one, "price") for one in objects(line, "tax_lines"))


def _has_moved(transaction: Json) -> bool:
    return text(transaction, "kind") == "refund" and text(transaction, "status") in _MOVED


def _goods(refund: Json, money: Sequence[Json]) -> Decimal:
    """How much of what was given back was for goods, in the shop's currency."""
    if "transactions" not in refund:  # a webhook may be set up to leave them out
        return _sum(objects(refund, "refund_line_items"), "subtotal", _SHOP)
    moved = orders.total(amount(one, "amount") for one in money)
    if not money or not _is_foreign(refund, money):
        return moved - _shipped(refund, _SHOP)
    lines = objects(refund, "refund_line_items")
    worth = _sum(lines, "subtotal", _CUSTOMER) + _shipped(refund, _CUSTOMER) - _discrepancy(refund, _CUSTOMER)
    tax = NOTHING if worth == moved else _sum(lines, "total_tax", _SHOP)  # else it is in the prices
    return _sum(lines, "subtotal", _SHOP) + tax - _discrepancy(refund, _SHOP)


def _is_foreign(refund: Json, money: Sequence[Json]) -> bool:
    """Whether the money that moved is not the shop's own."""
    for one, name in _sets(refund):
        own = text(one, f"{name}_set", _SHOP, "currency_code")
        if own is not None:
            return any(text(each, "currency") not in {own, None} for each in money)
    return False


def _sets(refund: Json) -> Iterator[tuple[Json, str]]:
    for members, name in _AMOUNTS.items():
        for one in objects(refund, members):
            yield one, name


def _shipped(refund: Json, whose: str) -> Decimal:
    lines = objects(refund, "refund_shipping_lines")
    if lines:
        return _sum(lines, "subtotal_amount", whose) + _sum(lines, "tax_amount", whose)
    adjustments = [one for one in objects(refund, "order_adjustments") if text(one, "kind") == "shipping_refund"]
    return abs(_sum(adjustments, "amount", whose) + _sum(adjustments, "tax_amount", whose))


def _discrepancy(refund: Json, whose: str) -> Decimal:
    """How much less was given back than the lines are worth; below zero, how much more."""
    others = [one for one in objects(refund, "order_adjustments") if text(one, "kind") != "shipping_refund"]
    return _sum(others, "amount", whose) + _sum(others, "tax_amount", whose)


def _sum(parts: Iterable[Json], name: str, whose: str) -> Decimal:
    return orders.total(
        amount(one, name) if (found := find_amount(one, f"{name}_set", whose, "amount")) is None else found
        for one in parts
    )
