"""WooCommerce: orders in the state that they have when the delivery is made, and customers.

It tells of an order again at every change, and of refunds only as sums. An order earns once it is being processed,
which is when it is paid or will be paid on delivery. One that is cancelled after that gives back what is left.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from crm.interactions.channels import buyers, orders, payloads, signatures, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import Address, Event, Happened, Identified, Ordered, Person, Refunded
from crm.interactions.channels.orders import NOTHING, Basket, Item, amount
from crm.interactions.channels.payloads import Json, Unreadable, kept, needed, objects, part, text

CHANNEL = "shop"
SECRETS: tuple[str, ...] = ("secret",)
REQUIRED: tuple[str, ...] = SECRETS

SIGNATURE: Final = "x-wc-webhook-signature"
TOPIC: Final = "x-wc-webhook-topic"
DELIVERY_ID: Final = "x-wc-webhook-delivery-id"

_PING: Final = re.compile(rb"webhook_id=[0-9]{1,20}")
_PAID: Final = frozenset({"processing", "completed"})
_VOID: Final = frozenset({"cancelled", "failed"})
"""What becomes of an order that was to be paid on delivery, and was not: it may have earned meanwhile."""
VOIDED: Final = "voided"
_NOBODY: Final = "0"
"""The customer that guests are."""


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """The ping that tries the address when a webhook is saved is not signed, and says nothing."""
    return Reply() if delivery.method == "POST" and _PING.fullmatch(delivery.body.strip()) else None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(SIGNATURE), [_signature(account, delivery.body)])


def key(delivery: Delivery) -> str | None:
    """Each delivery has its own; WooCommerce never tries again."""
    return delivery.headers.get(DELIVERY_ID)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, partial(_told, delivery, account))


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """An order that is not paid, to try the account with, signed with its own secret."""
    at = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
    order = {
        "id": 1, "number": "1", "order_key": "wc_order_test", "status": "pending", "currency": "USD", "total": "1.00",
        "date_created_gmt": at, "date_modified_gmt": at, "customer_id": 1, "billing": {"email": "test@example.com"},
    }  # fmt: skip
    body = msgspec.json.encode(order)
    headers = {TOPIC: "order.created", SIGNATURE: _signature(account, body).decode()}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _signature(account: ChannelAccount, body: bytes) -> bytes:
    return signatures.sha256_base64(signatures.secret(account, "secret"), body)


def _told(delivery: Delivery, account: ChannelAccount, body: Json) -> Iterator[Event]:
    topic = delivery.headers.get(TOPIC, "")
    resource, _, happened = topic.partition(".")
    if happened == "deleted" and resource in {"order", "customer"}:
        yield _deleted(delivery, account, resource, body)
    elif resource == "order" or (not resource and "order_key" in body):
        yield from _order(account, body)
    elif resource == "customer":
        yield _customer(delivery, account, body)
    else:
        yield payloads.unknown(dict(body), kind=topic or "webhook", external_id=_delivery_id(delivery))


def _order(account: ChannelAccount, order: Json) -> Iterator[Event]:
    order_id, status = needed(order, "id"), text(order, "status") or "unknown"
    ref, at = order_ref(account, order_id), times.first_iso(order, "date_modified_gmt", "date_created_gmt")
    if at is None:
        raise Unreadable("It does not say when it was changed.")
    if status in _PAID:
        yield _ordered(account, order, ref)
    else:
        yield Happened(
            external_id=f"order:{order_id}:{at.isoformat()}", person=_buyer(account, order), occurred_at=at,
            kind=payloads.named("order", status), subject=_name(order), data={"order_ref": ref, **_order_data(order)},
        )  # fmt: skip
    yield from _refunds(order, ref, order_id)
    if status in _VOID:
        yield Refunded(
            external_id=f"refund:{order_id}:{VOIDED}", order_ref=ref, refund_ref=VOIDED, occurred_at=None, rest=True,
            data=kept(order=order_id, status=status),
        )  # fmt: skip


def order_ref(account: ChannelAccount, order_id: str) -> str:
    """By what an order is known here: shops number theirs from 1, so the shop's address belongs to it."""
    shop = account.ref.partition("://")[2] or account.ref
    return f"{shop.strip('/').replace('/', '.')}:{order_id}"


def _ordered(account: ChannelAccount, order: Json, ref: str) -> Ordered:
    # When it was placed stays the same at every change; when it was paid is only known later for cash on delivery.
    placed_at = times.iso(order, "date_created_gmt")
    basket = _basket(order)
    return Ordered(
        external_id=f"order:{needed(order, 'id')}", order_ref=ref, person=_buyer(account, order), occurred_at=placed_at,
        currency=orders.currency(order, "currency"), lines=basket.lines, discounts=basket.discounts,
        shipping=basket.shipping, shipping_tax=amount(order, "shipping_tax"), total=basket.total,
        data={
            **_order_data(order),
            **kept(
                line_ids=[line.external_id for line in basket.lines],
                unexplained=f"{basket.unexplained:f}" if basket.unexplained else None,
            ),
        },
    )  # fmt: skip


def _basket(order: Json) -> Basket:
    # A fee may be a discount, with a minus before it.
    charges = [_with_tax(one) for name in ("shipping_lines", "fee_lines") for one in objects(order, name)]
    return orders.basket(
        items=[_item(line) for line in objects(order, "line_items")], discounts=[-one for one in charges if one < 0],
        shipping=orders.total(one for one in charges if one > 0), paid=orders.needed_amount(order, "total"),
    )  # fmt: skip


def _item(line: Json) -> Item:
    """Amounts of lines are without tax, whatever the shop's prices are."""
    net = _with_tax(line)
    before = amount(line, "subtotal") + amount(line, "subtotal_tax")
    # A variation without a number of its own goes by the product's.
    variation = text(line, "variation_id")
    product = variation if variation not in {None, _NOBODY} else text(line, "product_id")
    return Item(
        external_id=text(line, "id"), sku=text(line, "sku") or product or text(line, "id") or "",
        quantity=amount(line, "quantity"), net=net, tax=amount(line, "total_tax"), discount=before - net,
    )  # fmt: skip


def _with_tax(line: Json) -> Decimal:
    return amount(line, "total") + amount(line, "total_tax")


def _refunds(order: Json, ref: str, order_id: str) -> Iterator[Event]:
    """Every refund of the order, told again at every change, with the same content each time.

    WooCommerce tells only how much money went back, and not for what. It counts as for the goods as long as that many
    were bought; what goes beyond was for the shipping.
    """
    refunds = sorted(objects(order, "refunds"), key=lambda refund: amount(refund, "id"))
    left = _basket(order).goods if refunds else NOTHING
    for refund in refunds:
        refund_id, given_back = needed(refund, "id"), abs(amount(refund, "total"))
        goods = min(given_back, left)
        left -= max(NOTHING, goods)
        if goods > 0:
            yield Refunded(
                external_id=f"refund:{refund_id}", order_ref=ref, refund_ref=refund_id, occurred_at=None, amount=goods,
                data=kept(
                    order=order_id, reason=text(refund, "reason"),
                    given_back=f"{given_back:f}" if given_back != goods else None,
                ),
            )  # fmt: skip


def _order_data(order: Json) -> dict[str, Any]:
    return kept(
        number=text(order, "number"), status=text(order, "status"), total=text(order, "total"),
        currency=text(order, "currency"), updated_at=text(order, "date_modified_gmt"),
        paid_at=text(order, "date_paid_gmt"), payment_method=text(order, "payment_method"),
        codes=[code for one in objects(order, "coupon_lines") if (code := text(one, "code")) is not None],
    )  # fmt: skip


def _name(order: Json) -> str | None:
    number = text(order, "number") or text(order, "id")
    return f"#{number}" if number else None


def _buyer(account: ChannelAccount, order: Json) -> Person | None:
    return _person(account, text(order, "customer_id"), part(order, "billing"))


def _person(account: ChannelAccount, customer_id: str | None, contact: Json) -> Person | None:
    """Somebody who is signed in is who they are; what is typed at the checkout, by guests too, is nobody's yet."""
    known = None
    if customer_id is not None and customer_id != _NOBODY:
        known = Address(kind="customer_id", value=customer_id, account=account.ref, verified=True)
    return buyers.person(contact, known=known)


def _customer(delivery: Delivery, account: ChannelAccount, customer: Json) -> Event:
    customer_id = needed(customer, "id")
    at = times.first_iso(customer, "date_modified_gmt", "date_created_gmt") or delivery.received_at
    contact = {**part(customer, "billing"), **kept(**{name: text(customer, name) for name in _CONTACT})}
    person = _person(account, customer_id, contact)
    if person is None:
        raise Unreadable("It has no id.")
    return Identified(external_id=f"customer:{customer_id}:{at.isoformat()}", person=person, occurred_at=at)


def _deleted(delivery: Delivery, account: ChannelAccount, resource: str, body: Json) -> Event:
    """All that is left of it is its id."""
    gone = needed(body, "id")
    return Happened(
        external_id=f"{resource}:{gone}:deleted",
        person=_person(account, gone, {}) if resource == "customer" else None, occurred_at=delivery.received_at,
        kind=f"{resource}.deleted", data={"order_ref": order_ref(account, gone)} if resource == "order" else {},
    )  # fmt: skip


def _delivery_id(delivery: Delivery) -> str | None:
    return delivery.headers.get(DELIVERY_ID)


_CONTACT: Final = ("email", "first_name", "last_name")
