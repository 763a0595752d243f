"""Orders and refunds that shops report: they earn and are taken back as those of the till."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from crm.db.session import Session
from crm.errors import CrmError, Invalid, NotFound
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions.channels.events import Ordered, Refunded
from crm.loyalty import purchases, refunds
from crm.loyalty.basket import Discount, Line, Purchase
from crm.loyalty.purchases import Bought, Place
from crm.loyalty.refunding import Refund, RefundLine

PROVIDER: Final = "provider"
ACCOUNT: Final = "account"
AMOUNT_LIMIT: Final = Decimal(10) ** 15


class OrderNotHere(NotFound):
    code = "order_not_here"
    title = "The order of this refund is not here"


class AmountOutOfRange(Invalid):
    code = "amount_out_of_range"
    title = "An amount is too large to be counted"


async def record_all(
    session: Session, *, account: Opened, orders: Sequence[tuple[Heard, Ordered, UUID]], now: datetime
) -> Outcomes:
    """Record orders of contacts; one that is refused stays with its delivery, with the reason."""
    outcomes: Outcomes = {}
    bought: list[tuple[Heard, Bought, UUID]] = []
    for one, event, contact_id in orders:
        try:
            bought.append((one, Bought(contact_id, _purchase(event), _data(account, event)), contact_id))
        except AmountOutOfRange as refusal:
            outcomes[one.number] = one.failed(refusal, contact_id)
    if not bought:
        return outcomes
    try:
        results = await purchases.record_all(
            session, program_id=account.program_id, bought=[each for _, each, _ in bought], by=account.by, now=now
        )
    except CrmError as refusal:  # of the program: there is none, or not this one
        return outcomes | {one.number: one.failed(refusal, contact_id) for one, _, contact_id in bought}
    for (one, _, contact_id), result in zip(bought, results, strict=True):
        if isinstance(result, CrmError):
            outcomes[one.number] = one.failed(result, contact_id)
        else:
            told = one.recorded if result[1] else one.repeated
            outcomes[one.number] = told(contact_id, result[0].transaction_id)
    return outcomes


async def refund(
    session: Session, *, account: Opened, one: Heard, event: Refunded, places: Mapping[str, Place], now: datetime
) -> Outcomes:
    """Record a refund of one of the orders whose `places` are known. Raises OrderNotHere."""
    place = places.get(event.order_ref)
    if place is None:
        if event.rest:
            return {one.number: one.kept()}
        raise OrderNotHere(f"Nothing is known of the order '{event.order_ref}'; its delivery may still come.")
    order: dict[str, Any] = {
        "program_id": account.program_id, "contact_id": place.kept_by, "order_ref": event.order_ref,
    }  # fmt: skip
    refund = _refund(event, place)
    if event.rest:
        left = await refunds.left(session, **order)
        if not left:
            return {one.number: one.repeated(place.contact_id)}
        refund = Refund(amount=left)
    refunded, is_new = await refunds.record(
        session, **order, refund_ref=event.refund_ref, refund=refund, occurred_at=event.occurred_at, by=account.by,
        once=None, now=now,
    )  # fmt: skip
    told = one.recorded if is_new else one.repeated
    return {one.number: told(place.contact_id, refunded.transaction_id)}


def _refund(event: Refunded, place: Place) -> Refund:
    """By lines where they are known: what each of them earned is taken back, and no average."""
    if event.lines:
        return Refund(amount=event.amount, lines=tuple(RefundLine(line, quantity) for line, quantity in event.lines))
    at = {line_id: number for number, line_id in enumerate(place.line_ids) if line_id is not None}
    if event.items and all(line_id in at for line_id, _ in event.items):
        return Refund(lines=tuple(RefundLine(at[line_id], quantity) for line_id, quantity in event.items))
    return Refund(amount=event.amount)


def _purchase(event: Ordered) -> Purchase:
    amounts = [event.shipping, event.shipping_tax, event.total, *event.discounts]
    amounts += [amount for line in event.lines for amount in (line.quantity, line.unit_price, line.tax, line.discount)]
    if not all(amount is None or (amount.is_finite() and abs(amount) < AMOUNT_LIMIT) for amount in amounts):
        raise AmountOutOfRange("Amounts have at most 15 digits before the point.")
    return Purchase(
        order_ref=event.order_ref,
        occurred_at=event.occurred_at,
        currency=event.currency,
        lines=tuple(
            Line(
                unit_price=line.unit_price, quantity=line.quantity, tax=line.tax, sku=line.sku or None,
                category=line.category, labels=tuple(line.labels),
            )
            for line in event.lines
        ),
        total=None if event.lines else event.total,
        discounts=(
            *(Discount(amount) for amount in event.discounts),
            *(Discount(line.discount, place) for place, line in enumerate(event.lines) if line.discount),
        ),
        shipping=event.shipping,
        shipping_tax=event.shipping_tax,
    )  # fmt: skip


def _data(account: Opened, event: Ordered) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(event.data, str_keys=True)
    line_ids = [line.external_id for line in event.lines]
    if any(line_ids):
        facts["line_ids"] = line_ids
    return {**facts, PROVIDER: account.provider, ACCOUNT: account.at_provider.ref}
