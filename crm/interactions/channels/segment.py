"""Segment: who somebody is, what they did, and orders that are complete.

Whatever runs in a browser can send anything under anybody's name. So nobody is believed to be whom they are said to be,
and where orders may not earn by this, the account's setting `orders` is `off`.
"""

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec

from crm.contacts import attributes
from crm.interactions.channels import buyers, orders, payloads, signatures, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import Address, Event, Happened, Identified, Ordered, Person
from crm.interactions.channels.orders import NOTHING, Item, amount, find_amount
from crm.interactions.channels.payloads import Json, identifier, kept, needed, objects, part, text

CHANNEL = "web"
SECRETS: tuple[str, ...] = ("shared_secret",)
REQUIRED: tuple[str, ...] = SECRETS

SIGNATURE: Final = "x-signature"
ORDERS: Final = "orders"
COMPLETED: Final = "Order Completed"

_ATTRIBUTES_MAX: Final = 50
_OF_PERSON: Final = frozenset({"email", "phone", "name", "firstName", "lastName", "first_name", "last_name", "id"})


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Segment does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(SIGNATURE), [_signature(account, delivery.body)])


def key(delivery: Delivery) -> str | None:
    """None: the ids of messages are in the body."""
    return None


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, partial(_calls, delivery, account))


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """An event to try the account with, signed with its own secret."""
    call = {
        "type": "track", "event": "Test", "messageId": "test", "userId": "test", "timestamp": now, "properties": {},
    }  # fmt: skip
    body = msgspec.json.encode(call)
    headers = {SIGNATURE: _signature(account, body).decode()}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _signature(account: ChannelAccount, body: bytes) -> bytes:
    return hmac.digest(signatures.secret(account, "shared_secret"), body, hashlib.sha1).hex().encode()


def _calls(delivery: Delivery, account: ChannelAccount, body: Json) -> Iterator[Event]:
    batch = body.get("batch")
    calls = batch if isinstance(batch, list) else [body]
    return payloads.each(calls, partial(_call, delivery, account), kind="call")


def _call(delivery: Delivery, account: ChannelAccount, call: Json) -> Iterator[Event]:
    kind = text(call, "type") or "call"
    if kind == "identify":
        yield from _identify(delivery, account, call)
    elif kind == "track" and text(call, "event") == COMPLETED and account.settings.get(ORDERS) != "off":
        yield _ordered(delivery, account, call)
    elif kind == "alias":
        yield _alias(delivery, account, call)
    elif kind in {"track", "page", "screen", "group"}:
        yield _happened(delivery, account, call, kind)
    else:
        yield payloads.unknown(dict(call), kind=kind, external_id=text(call, "messageId"))


def _identify(delivery: Delivery, account: ChannelAccount, call: Json) -> Iterator[Event]:
    person = _person(account, call)
    if person is None:
        # A browser of which nothing is known but a random number.
        yield payloads.unknown(dict(call), kind="identify", external_id=text(call, "messageId"))
        return
    yield Identified(
        external_id=needed(call, "messageId"), person=person, occurred_at=_at(delivery, call),
        attributes=_attributes(part(call, "traits")),
    )  # fmt: skip


def _alias(delivery: Delivery, account: ChannelAccount, call: Json) -> Event:
    """Two ids are said to be one person's. That suggests it; it makes nobody one."""
    person = _person(account, {**call, "traits": {}})
    previous = text(call, "previousId")
    if person is None or previous is None:
        return payloads.unknown(dict(call), kind="alias", external_id=text(call, "messageId"))
    return Identified(
        external_id=needed(call, "messageId"), occurred_at=_at(delivery, call),
        person=Person(addresses=[*person.addresses, _user(account, previous)]),
    )  # fmt: skip


def _happened(delivery: Delivery, account: ChannelAccount, call: Json, kind: str) -> Event:
    name, properties = text(call, "event") or text(call, "name"), part(call, "properties")
    context = part(call, "context")
    return Happened(
        external_id=needed(call, "messageId"), person=_person(account, call), occurred_at=_at(delivery, call),
        kind=payloads.named(kind, name) if kind == "track" and name else _KINDS[kind], subject=name,
        data=kept(
            event=text(call, "event"), properties=properties, campaign=part(context, "campaign"),
            url=text(context, "page", "url") or text(properties, "url"), anonymous_id=text(call, "anonymousId"),
            group=text(call, "groupId"), traits=part(call, "traits"),
        ),
    )  # fmt: skip


def _ordered(delivery: Delivery, account: ChannelAccount, call: Json) -> Event:
    """An order; prices of products are without tax, and discounts, tax and shipping are the whole order's."""
    properties = part(call, "properties")
    products = objects(properties, "products")
    tax, shipping = amount(properties, "tax"), max(NOTHING, amount(properties, "shipping"))
    prices = [max(NOTHING, amount(one, "price") * _quantity(one)) for one in products]
    taxes = orders.shared(max(NOTHING, tax), prices) if products else []
    paid = find_amount(properties, "total")
    if paid is None:
        paid = orders.needed_amount(properties, "revenue") + shipping + tax
    items = [_item(*one) for one in zip(products, prices, taxes, strict=True)]
    if not items:
        items = [Item(external_id=None, sku="", quantity=Decimal(1), net=max(NOTHING, paid - shipping), tax=tax)]
    basket = orders.basket(
        items=items, discounts=[amount(properties, "discount")] if products else (), shipping=shipping, paid=paid
    )
    order_id = needed(properties, "order_id")
    return Ordered(
        external_id=f"order:{order_id}", order_ref=order_id, person=_person(account, call),
        occurred_at=_at(delivery, call), currency=orders.currency(properties, "currency"), lines=basket.lines,
        discounts=basket.discounts, shipping=basket.shipping, total=basket.total,
        data=kept(
            coupon=text(properties, "coupon"), affiliation=text(properties, "affiliation"),
            message=text(call, "messageId"), line_ids=[line.external_id for line in basket.lines if line.external_id],
            unexplained=f"{basket.unexplained:f}" if basket.unexplained else None,
        ),
    )  # fmt: skip


def _item(product: Json, price: Decimal, tax: Decimal) -> Item:
    return Item(
        external_id=text(product, "product_id"), sku=text(product, "sku") or text(product, "product_id") or "",
        quantity=_quantity(product), net=price + tax, tax=tax, category=text(product, "category"),
    )  # fmt: skip


def _quantity(product: Json) -> Decimal:
    quantity = find_amount(product, "quantity")
    return Decimal(1) if quantity is None else quantity


def _person(account: ChannelAccount, call: Json) -> Person | None:
    """Somebody with an id or an address; a browser's random number is nobody yet."""
    traits = {**part(call, "context", "traits"), **part(call, "traits")}
    user_id, name = text(call, "userId"), text(traits, "name")
    return buyers.person(
        traits, known=_user(account, user_id) if user_id is not None else None,
        names=("name",) if name is not None else ("firstName", "lastName"), locale=text(call, "context", "locale"),
    )  # fmt: skip


def _user(account: ChannelAccount, user_id: str) -> Address:
    return Address(kind="customer_id", value=identifier(user_id), account=account.ref)


def _attributes(traits: Json) -> dict[str, Any]:
    """The traits that can be attributes; one that can't must not keep the others out."""
    possible = {
        name: value
        for name, value in kept(**traits).items()
        if name not in _OF_PERSON and _is_plain(value) and next(attributes.problems({name: value}), None) is None
    }
    return dict(list(possible.items())[:_ATTRIBUTES_MAX])


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return isinstance(value, str | bool | int | float)


def _at(delivery: Delivery, call: Json) -> datetime:
    # Corrected by Segment for what is wrong with the clock of the device; a call may lack it.
    at = times.first_iso(call, "timestamp", "receivedAt", "sentAt", "originalTimestamp")
    return min(at, delivery.received_at) if at is not None else delivery.received_at


_KINDS: Final[Mapping[str, str]] = {"track": "track", "page": "page_view", "screen": "screen_view", "group": "group"}
