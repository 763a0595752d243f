"""Segment: who somebody is said to be, and what they did."""

import hashlib
import hmac
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from crm.interactions.channels import segment
from crm.interactions.channels.deliveries import SignatureInvalid
from crm.interactions.channels.events import Address, Happened, Identified, Ordered, Unknown
from tests.interactions.channels.parcels import NOW, account, one, parcel, sample, told

SOURCE = account("web", shared_secret="s")
COMPLETED: dict[str, Any] = {
    "type": "track", "event": "Order Completed", "messageId": "m1", "userId": "u1",
    "timestamp": "2026-11-20T10:00:00Z",
    "properties": {
        "order_id": "o-1", "total": 27.5, "revenue": 25.00, "shipping": 3, "tax": 2, "discount": 2.5,
        "currency": "USD", "coupon": "hasbros",
        "products": [
            {"product_id": "p1", "sku": "45790-32", "price": 19, "quantity": 1, "category": "Games"},
            {"product_id": "p2", "sku": "46493-32", "price": 3, "quantity": 2, "category": "Games"},
        ],
    },
}  # fmt: skip


def comes_to(order: Ordered) -> Decimal:
    lines = sum((line.quantity * line.unit_price - line.discount for line in order.lines), Decimal(0))
    return lines - sum(order.discounts, Decimal(0)) + order.shipping


def test_a_delivery_is_checked_over_its_raw_bytes():
    signature = hmac.digest(b"s", b"{}", hashlib.sha1).hex()
    segment.verify(parcel(b"{}", {"x-signature": signature}), SOURCE)
    for wrong in (parcel(b"{ }", {"x-signature": signature}), parcel(b"{}")):
        with pytest.raises(SignatureInvalid):
            segment.verify(wrong, SOURCE)
    with pytest.raises(SignatureInvalid):
        segment.verify(parcel(b"{}", {"x-signature": hmac.digest(b"", b"{}", hashlib.sha1).hex()}), account())


def test_somebody_is_whom_they_are_said_to_be_and_nobody_vouches_for_it():
    event = one(segment, parcel(sample("segment__identify")), SOURCE)
    assert isinstance(event, Identified)
    assert list(event.person.addresses) == [
        Address(kind="customer_id", value="97980cfea0067", account="web"),
        Address(kind="email", value="peter@example.com"),
    ]
    assert (event.person.name, event.attributes) == ("Peter Gibbons", {"plan": "premium", "logins": 5})


def test_a_trait_that_can_not_be_kept_keeps_no_other_out():
    traits = {"plan": "x", "2fa": True, "long": "x" * 2_000, "list": [1], "tags": ["a"], "address": {}, "n": 2**60}
    event = one(segment, parcel({"type": "identify", "messageId": "m", "userId": "u", "traits": traits}), SOURCE)
    assert event.attributes == {"plan": "x", "tags": ["a"], "n": str(2**60)}


def test_a_complete_order_comes_to_its_total():
    order = one(segment, parcel(COMPLETED), SOURCE)
    assert isinstance(order, Ordered)
    assert (order.order_ref, order.total, comes_to(order)) == ("o-1", Decimal("27.5"), Decimal("27.5"))
    assert [(line.sku, line.quantity, line.category) for line in order.lines] == [
        ("45790-32", 1, "Games"), ("46493-32", 2, "Games"),
    ]  # fmt: skip
    assert sum(line.tax for line in order.lines) == 2
    assert (order.shipping, list(order.discounts)) == (3, [Decimal("2.5")])


def test_an_order_without_products_or_total_is_what_it_brought_in():
    properties = {"order_id": "o-2", "revenue": "25.00", "shipping": 3, "tax": 2, "currency": "USD"}
    order = one(segment, parcel({**COMPLETED, "properties": properties}), SOURCE)
    [line] = order.lines
    assert (line.unit_price, line.tax, order.shipping, order.total) == (27, 2, 3, Decimal("30.00"))
    assert comes_to(order) == order.total


def test_where_orders_may_not_earn_they_only_happen():
    event = one(segment, parcel(COMPLETED), account("web", {"orders": "off"}))
    assert isinstance(event, Happened)
    assert event.kind == "track.order_completed"


@pytest.mark.parametrize(
    ("call", "kind", "subject"),
    [
        ({"type": "track", "event": "Order Refunded"}, "track.order_refunded", "Order Refunded"),
        ({"type": "track", "event": "Product Viewed"}, "track.product_viewed", "Product Viewed"),
        ({"type": "page", "name": "Home"}, "page_view", "Home"),
        ({"type": "screen", "name": "Cart"}, "screen_view", "Cart"),
        ({"type": "group", "groupId": "g1"}, "group", None),
    ],
)
def test_what_somebody_does_happens_to_them(call, kind, subject):
    event = one(segment, parcel({**call, "messageId": "m1", "userId": "u1", "anonymousId": "a1"}), SOURCE)
    assert isinstance(event, Happened)
    assert (event.kind, event.subject, event.external_id, event.occurred_at) == (kind, subject, "m1", NOW)
    assert event.person.addresses[0].value == "u1"


def test_a_documented_call_is_at_its_time():
    event = one(segment, parcel(sample("segment__track_common_fields")), SOURCE)
    assert event.occurred_at == datetime(2015, 12, 10, 4, 8, 31, 905000, tzinfo=UTC)
    assert (event.kind, event.person.locale) == ("track.report_submitted", "en-US")


def test_a_browser_of_which_nothing_is_known_is_nobody():
    event = one(segment, parcel({"type": "page", "messageId": "m1", "anonymousId": "a1"}), SOURCE)
    assert event.person is None
    assert isinstance(
        one(segment, parcel({"type": "identify", "messageId": "m", "anonymousId": "a1"}), SOURCE), Unknown
    )


def test_an_alias_says_of_two_ids_that_they_are_one_and_proves_nothing():
    event = one(segment, parcel({"type": "alias", "messageId": "m", "userId": "new", "previousId": "old"}), SOURCE)
    assert isinstance(event, Identified)
    assert [(each.value, each.verified) for each in event.person.addresses] == [("new", False), ("old", False)]
    assert not event.replaces


def test_one_bad_call_of_a_batch_stops_none_of_the_others():
    calls = [
        {"type": "page", "messageId": "1"},
        "?",
        {"type": "page"},
        {"type": "x"},
        {"type": "page", "messageId": "2"},
    ]
    found = told(segment, parcel({"batch": calls}), SOURCE)
    assert [type(each).__name__ for each in found] == ["Happened", "Unknown", "Unknown", "Unknown", "Happened"]
