"""Orders and refunds that shops report: they earn and are taken back as those of the till."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from crm.db.session import Session
from crm.errors import CrmError, Invalid, NotFound
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions.channels.events import Ordered, Refunded
from crm.loyalty import purchases, refunds
from crm.loyalty.basket import Discount, Line, Purchase
from crm.loyalty.purchases import Bought
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
    session: Session, *, account: Opened, one: Heard, event: Refunded, owners: Mapping[str, UUID], now: datetime
) -> Outcomes:
    """Record a refund of one of the orders that `owners` tells of. Raises OrderNotHere."""
    contact_id = owners.get(event.order_ref)
    if contact_id is None:
        raise OrderNotHere(f"Nothing is known of the order '{event.order_ref}'; its delivery may still come.")
    refunded, is_new = await refunds.record(
        session,
        program_id=account.program_id,
        contact_id=contact_id,
        order_ref=event.order_ref,
        refund_ref=event.refund_ref,
        refund=Refund(amount=event.amount, lines=tuple(RefundLine(line, quantity) for line, quantity in event.lines)),
        occurred_at=event.occurred_at,
        by=account.by,
        once=None,
        now=now,
    )
    told = one.recorded if is_new else one.repeated
    return {one.number: told(contact_id, refunded.transaction_id)}


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
    return {**facts, PROVIDER: account.provider, ACCOUNT: account.at_provider.ref}
