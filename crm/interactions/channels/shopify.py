"""Shopify: orders that are paid, refunds, customers with their consents, and what people want done with their data.

An order earns by `orders/paid` alone, and money goes back by `refunds/create` alone: what is told of the same order
under other topics is for the timeline. Its id, which is unique among all shops, is the order's reference.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

import msgspec

from crm.interactions.channels import buyers, payloads, shopify_orders, signatures, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import (
    Address,
    ConsentChanged,
    Event,
    Happened,
    Identified,
    Person,
    PrivacyRequested,
)
from crm.interactions.channels.payloads import Json, kept, needed, objects, part, text

CHANNEL = "shop"
SECRETS: tuple[str, ...] = ("client_secret",)
REQUIRED: tuple[str, ...] = SECRETS
REFUSED_STATUS: Final = 401
"""What Shopify asks for: its review of apps looks at it."""

SIGNATURE: Final = "x-shopify-hmac-sha256"
TOPIC: Final = "x-shopify-topic"
DELIVERY_ID: Final = "x-shopify-webhook-id"
EVENT_ID: Final = "x-shopify-event-id"
TRIGGERED_AT: Final = "x-shopify-triggered-at"

_UNPAID: Final = frozenset({"pending", "voided", "expired", "unpaid"})
_CONSENTS: Final = {"subscribed": True, "unsubscribed": False}
"""Other states say that somebody was not asked, or has not answered yet."""


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Shopify does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(SIGNATURE), [_signature(account, delivery.body)])


def key(delivery: Delivery) -> str | None:
    """The same for all attempts."""
    return delivery.headers.get(DELIVERY_ID)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, partial(_told, delivery, account))


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A test order to try the account with, which earns nothing, signed with its own secret."""
    order = {
        "id": 1, "name": "#1", "test": True, "created_at": now, "updated_at": now, "currency": "USD",
        "total_price": "1.00", "financial_status": "paid", "customer": {"id": 1, "email": "test@example.com"},
    }  # fmt: skip
    body = msgspec.json.encode(order)
    headers = {TOPIC: "orders/paid", SIGNATURE: _signature(account, body).decode()}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _signature(account: ChannelAccount, body: bytes) -> bytes:
    return signatures.sha256_base64(signatures.secret(account, "client_secret"), body)


def _told(delivery: Delivery, account: ChannelAccount, body: Json) -> Iterator[Event]:
    topic = delivery.headers.get(TOPIC, "")
    group, _, happened = topic.partition("/")
    if topic in _READERS:
        yield from _READERS[topic](delivery, account, body)
    elif topic in _PRIVACY:
        yield _privacy(delivery, account, body)
    elif group == "orders" and text(body, "id") is not None:
        yield _order_happened(delivery, account, body, happened)
    else:
        yield payloads.unknown(dict(body), kind=topic or "webhook", external_id=_event_id(delivery))


def _paid(delivery: Delivery, account: ChannelAccount, order: Json) -> Iterator[Event]:
    if order.get("test") is True or text(order, "financial_status") in _UNPAID:
        yield _order_happened(delivery, account, order, "paid")
    else:
        yield shopify_orders.ordered(order, person=_buyer(account, order), data=_order_data(order))


def _refunded(delivery: Delivery, account: ChannelAccount, refund: Json) -> Iterator[Event]:
    yield shopify_orders.refunded(refund, received_at=delivery.received_at)


def _order_happened(delivery: Delivery, account: ChannelAccount, order: Json, happened: str) -> Event:
    order_id, changed_at = needed(order, "id"), times.first_iso(order, "updated_at", "created_at")
    at = times.find_iso(order, _DATED[happened]) if happened in _DATED else None
    return Happened(
        external_id=_event_id(delivery) or f"orders/{happened}:{order_id}:{changed_at}", person=_buyer(account, order),
        occurred_at=at or changed_at or delivery.received_at,
        kind=payloads.named("order", _HAPPENED.get(happened, happened)), subject=text(order, "name"),
        data={"order_ref": order_id, **_order_data(order)},
    )  # fmt: skip


def _order_data(order: Json) -> dict[str, Any]:
    return kept(
        name=text(order, "name"), total=text(order, "total_price"), currency=text(order, "currency"),
        financial_status=text(order, "financial_status"), fulfillment_status=text(order, "fulfillment_status"),
        cancel_reason=text(order, "cancel_reason"), updated_at=text(order, "updated_at"),
        test=order.get("test") is True, source=text(order, "source_name"),
        codes=[code for one in objects(order, "discount_codes") if (code := text(one, "code")) is not None],
    )  # fmt: skip


def _buyer(account: ChannelAccount, order: Json) -> Person | None:
    customer = part(order, "customer")
    if text(customer, "id") is not None:
        # What was typed at the checkout may be a friend's; the customer's own is with the customer.
        return _person(account, customer, locale=text(order, "customer_locale"))
    contact = {name: text(order, name) or text(order, f"contact_{name}") for name in ("email", "phone")}
    names = part(order, "billing_address") or part(order, "shipping_address")
    return _person(account, {**names, **contact, "id": None}, locale=text(order, "customer_locale"))


def _person(account: ChannelAccount, customer: Json, *, locale: str | None = None) -> Person | None:
    """A customer. Shopify vouches for the id; that an e-mail is verified is what any app may have told it."""
    customer_id = text(customer, "id")
    known = Address(kind="customer_id", value=customer_id, account=account.ref, verified=True) if customer_id else None
    return buyers.person(customer, known=known, locale=locale)


def _customer(delivery: Delivery, account: ChannelAccount, customer: Json) -> Iterator[Event]:
    customer_id = needed(customer, "id")
    changed_at = times.first_iso(customer, "updated_at", "created_at") or delivery.received_at
    person = _person(account, customer, locale=text(customer, "locale"))
    assert person is not None, "it has an id"
    tags = [tag for one in (text(customer, "tags") or "").split(",")[:_TAGS_MAX] if (tag := one.strip())]
    yield Identified(
        external_id=_event_id(delivery) or f"customer:{customer_id}:{changed_at}", person=person,
        occurred_at=changed_at, attributes=kept(shopify_tags=tags),
    )  # fmt: skip
    yield from _consents(customer_id, person, customer)


def _consents_changed(delivery: Delivery, account: ChannelAccount, body: Json) -> Iterator[Event]:
    customer_id = needed(body, "customer_id")
    contact = {"id": customer_id, "email": text(body, "email_address"), "phone": text(body, "phone")}
    person = _person(account, contact)
    assert person is not None, "it has an id"
    yield from _consents(customer_id, person, body)


def _consents(customer_id: str, person: Person, body: Json) -> Iterator[Event]:
    """What a customer allows. Every update tells it again: by when it was said, it is known to be the same."""
    told = {"email": part(body, "email_marketing_consent"), "sms": part(body, "sms_marketing_consent")}
    if not told["email"] and isinstance(body.get("accepts_marketing"), bool):
        told["email"] = {
            "state": "subscribed" if body["accepts_marketing"] else "unsubscribed",
            "consent_updated_at": text(body, "accepts_marketing_updated_at"),
            "opt_in_level": text(body, "marketing_opt_in_level"),
        }
    for channel, consent in told.items():
        state, at = text(consent, "state"), times.find_iso(consent, "consent_updated_at")
        if state in _CONSENTS and at is not None:
            yield ConsentChanged(
                external_id=f"{channel}_marketing_consent:{customer_id}:{at.isoformat()}", person=person,
                occurred_at=at, granted=_CONSENTS[state], channel=channel, purpose="marketing", evidence=dict(consent),
            )  # fmt: skip


def _customer_deleted(delivery: Delivery, account: ChannelAccount, customer: Json) -> Iterator[Event]:
    yield Happened(
        external_id=_event_id(delivery) or f"customers/delete:{needed(customer, 'id')}",
        person=_person(account, customer), occurred_at=_triggered_at(delivery), kind="customer.deleted",
    )  # fmt: skip


def _privacy(delivery: Delivery, account: ChannelAccount, body: Json) -> Event:
    topic = delivery.headers[TOPIC]
    request, customer_id = text(body, "data_request", "id"), text(body, "customer", "id")
    return PrivacyRequested(
        # The same customer may ask once more some other day.
        external_id=f"{topic}:{request or delivery.headers.get(DELIVERY_ID) or customer_id or text(body, 'shop_id')}",
        topic=_PRIVACY[topic], person=_person(account, part(body, "customer")), occurred_at=_triggered_at(delivery),
        data=kept(
            shop=text(body, "shop_domain"), orders=_ids(body, "orders_to_redact") or _ids(body, "orders_requested"),
            request=request,
        ),
    )  # fmt: skip


def _ids(body: Json, name: str) -> list[str]:
    given = body.get(name)
    return [str(one) for one in given if isinstance(one, str | int)] if isinstance(given, list) else []


def _event_id(delivery: Delivery) -> str | None:
    """The same over all subscriptions, and over all topics that it comes under."""
    event_id = delivery.headers.get(EVENT_ID)
    return f"{delivery.headers.get(TOPIC, '')}:{event_id}" if event_id else None


def _triggered_at(delivery: Delivery) -> datetime:
    return times.find_iso(delivery.headers, TRIGGERED_AT) or delivery.received_at


_HAPPENED: Final = {"create": "created", "delete": "deleted"}
_DATED: Final = {"create": "created_at", "cancelled": "cancelled_at", "paid": "processed_at"}
_TAGS_MAX: Final = 100
_PRIVACY: Final[Mapping[str, Literal["export", "erasure", "shop_erasure"]]] = {
    "customers/data_request": "export",
    "customers/redact": "erasure",
    "shop/redact": "shop_erasure",
}
_READERS: Final[Mapping[str, Callable[[Delivery, ChannelAccount, Json], Iterator[Event]]]] = {
    "orders/paid": _paid,
    "refunds/create": _refunded,
    "customers/create": _customer,
    "customers/update": _customer,
    "customers/enable": _customer,
    "customers/disable": _customer,
    "customers/delete": _customer_deleted,
    "customers_marketing_consent/update": _consents_changed,
    "customers_email_marketing_consent/update": _consents_changed,
}
