"""Shopify: what a shop reports, checked, and in our words."""

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from crm.interactions.channels import shopify
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid
from crm.interactions.channels.events import (
    Address,
    ConsentChanged,
    Happened,
    Identified,
    Ordered,
    PrivacyRequested,
    Refunded,
    Unknown,
)
from tests.interactions.channels.parcels import account, one, parcel, sample, sha256, told, vector

SECRET = "client_secret_test"
SHOP = account("kopi.myshopify.com", client_secret=SECRET)

LINE: dict[str, Any] = {
    "id": 11, "sku": "KOPI-1", "price": "10.00", "quantity": 3, "tax_lines": [{"price": "2.50"}],
    "discount_allocations": [{"amount": "5.00"}],
}  # fmt: skip
ORDER: dict[str, Any] = {
    "id": 820982911946154508, "name": "#1002", "currency": "USD", "financial_status": "paid", "test": False,
    "created_at": "2026-11-20T10:00:00-05:00", "processed_at": "2026-11-20T10:00:01-05:00",
    "updated_at": "2026-11-21T10:00:00-05:00", "taxes_included": False, "total_price": "32.50",
    "total_discounts": "5.00", "total_tax": "2.50", "line_items": [LINE], "shipping_lines": [{"price": "5.00"}],
    "customer": {"id": 207119551, "email": "sari@example.com", "first_name": "Sari", "last_name": "Dewi"},
    "email": "sari@example.com",
}  # fmt: skip
REFUND: dict[str, Any] = {
    "id": 509562969, "order_id": 450789469, "created_at": "2026-11-22T10:00:00Z",
    "refund_line_items": [{"line_item_id": 11, "quantity": 1, "subtotal": "8.33", "total_tax": "0.83"}],
    "transactions": [{"kind": "refund", "status": "success", "amount": "9.16", "currency": "USD", "test": False}],
    "order_adjustments": [],
}  # fmt: skip


def at(topic: str, body: Any, **headers: str) -> Delivery:
    return parcel(body, {"x-shopify-topic": topic, **headers})


def paid(**changes: Any) -> Any:
    return one(shopify, at("orders/paid", {**ORDER, **changes}), SHOP)


def refunded(**changes: Any) -> Any:
    body = {name: value for name, value in {**REFUND, **changes}.items() if value is not None}
    return one(shopify, at("refunds/create", body), SHOP)


def comes_to(order: Ordered) -> Decimal:
    lines = sum((line.quantity * line.unit_price - line.discount for line in order.lines), Decimal(0))
    return lines - sum(order.discounts, Decimal(0)) + order.shipping


def test_a_delivery_is_checked_over_its_raw_bytes():
    known = vector("shopify")
    body = known["body"].encode()
    signed = {"x-shopify-hmac-sha256": known["value"]}
    of = account(client_secret=known["secret"])
    shopify.verify(parcel(body, signed), of)
    for wrong in (parcel(body + b" ", signed), parcel(body, {}), parcel(body, {"x-shopify-hmac-sha256": "é"})):
        with pytest.raises(SignatureInvalid):
            shopify.verify(wrong, of)


@pytest.mark.parametrize("secrets", [{}, {"client_secret": ""}])
def test_without_a_secret_nothing_is_accepted(secrets):
    signature = base64.b64encode(sha256("", b"{}")).decode()
    with pytest.raises(SignatureInvalid):
        shopify.verify(parcel(b"{}", {"x-shopify-hmac-sha256": signature}), account(**secrets))


def test_a_wrong_signature_is_answered_as_shopify_asks():
    assert shopify.REFUSED_STATUS == 401


def test_repeats_are_known_by_their_delivery_id():
    assert shopify.key(at("orders/paid", ORDER, **{"x-shopify-webhook-id": "b5"})) == "b5"


def test_a_paid_order_is_an_order():
    order = paid()
    assert isinstance(order, Ordered)
    assert (order.order_ref, order.currency, order.total) == ("820982911946154508", "USD", Decimal("32.50"))
    assert order.occurred_at == datetime(2026, 11, 20, 15, 0, 1, tzinfo=UTC)
    assert order.person is not None
    assert order.person.name == "Sari Dewi"
    assert list(order.person.addresses) == [
        Address(kind="customer_id", value="207119551", account="kopi.myshopify.com", verified=True),
        Address(kind="email", value="sari@example.com"),
    ]


@pytest.mark.parametrize(
    ("included", "total", "net"), [(False, "32.50", Decimal("27.50")), (True, "30.00", Decimal("25.00"))]
)
def test_a_line_bears_its_share_of_the_discounts_and_its_tax(included, total, net):
    order = paid(taxes_included=included, total_price=total)
    [line] = order.lines
    assert line.quantity * line.unit_price - line.discount == net
    assert (line.tax, order.shipping, order.discounts) == (Decimal("2.50"), Decimal("5.00"), [])
    assert comes_to(order) == order.total
    assert "unexplained" not in order.data


@pytest.mark.parametrize("quantity", [1, 3, 7, 11, 13])
def test_a_price_without_an_end_adds_up_to_the_cent(quantity):
    line = {**LINE, "quantity": quantity, "price": "9.99", "tax_lines": [{"price": "1.01"}]}
    total = Decimal("9.99") * quantity - 5 + Decimal("1.01") + 5
    order = paid(line_items=[line], total_price=f"{total}")
    assert comes_to(order) == total
    assert "unexplained" not in order.data


def test_what_the_lines_do_not_explain_is_a_charge_or_a_discount():
    assert (paid(total_price="36.00").shipping, paid(total_price="36.00").data["unexplained"]) == (
        Decimal("8.50"),
        "3.50",
    )
    assert (paid(total_price="30.00").discounts, comes_to(paid(total_price="30.00"))) == ([Decimal("2.50")], 30)


def test_tax_that_no_line_tells_of_is_spread_over_them():
    lines = [{"id": i, "price": price, "quantity": 1} for i, price in enumerate(["20.00", "10.00", "0.00"])]
    order = paid(line_items=lines, total_tax="1.00", total_discounts="0.00", shipping_lines=[], total_price="31.00")
    assert [line.tax for line in order.lines] == [Decimal("0.67"), Decimal("0.33"), Decimal("0.00")]
    assert comes_to(order) == 31


def test_what_was_taken_out_before_it_was_paid_is_not_sold():
    lines = [{**LINE, "current_quantity": 0}, {**LINE, "id": 12, "discount_allocations": [], "current_quantity": 2}]
    order = paid(line_items=lines, total_price="60.00", current_total_price="26.67")
    assert [(line.external_id, line.quantity) for line in order.lines] == [("12", 2)]
    assert comes_to(order) == Decimal("26.67")


def test_a_gift_card_can_be_told_from_goods():
    assert paid(line_items=[{**LINE, "gift_card": True}]).lines[0].category == "gift_card"


def test_the_documented_order_comes_to_its_total():
    order = one(shopify, at("orders/paid", sample("shopify__orders_create")), SHOP)
    assert (order.total, comes_to(order)) == (Decimal("409.94"), Decimal("409.94"))
    assert [line.sku for line in order.lines] == ["IPOD2008GREEN", "IPOD2008RED", "IPOD2008BLACK"]


@pytest.mark.parametrize("changes", [{"test": True}, {"financial_status": "pending"}, {"financial_status": "voided"}])
def test_an_order_that_is_a_test_or_not_paid_earns_nothing(changes):
    event = paid(**changes)
    assert isinstance(event, Happened)
    assert event.kind == "order.paid"


@pytest.mark.parametrize(
    ("topic", "kind", "occurred_at"),
    [
        ("orders/create", "order.created", datetime(2026, 11, 20, 15, tzinfo=UTC)),
        ("orders/updated", "order.updated", datetime(2026, 11, 21, 15, tzinfo=UTC)),
        ("orders/cancelled", "order.cancelled", datetime(2026, 11, 23, tzinfo=UTC)),
        ("orders/fulfilled", "order.fulfilled", datetime(2026, 11, 21, 15, tzinfo=UTC)),
    ],
)
def test_what_else_happens_to_an_order_is_told_in_the_order_of_its_changes(topic, kind, occurred_at):
    event = one(shopify, at(topic, {**ORDER, "cancelled_at": "2026-11-23T00:00:00Z"}), SHOP)
    assert isinstance(event, Happened)
    assert (event.kind, event.occurred_at) == (kind, occurred_at)
    assert event.data["order_ref"] == "820982911946154508"


def test_the_same_event_over_two_subscriptions_has_one_id_and_under_two_topics_two():
    headers = {"x-shopify-event-id": "e1"}
    ids = [one(shopify, at(topic, ORDER, **headers), SHOP).external_id for topic in ("orders/create", "orders/updated")]
    again = one(shopify, at("orders/create", ORDER, **headers, **{"x-shopify-webhook-id": "2"}), SHOP).external_id
    assert len(set(ids)) == 2
    assert again == ids[0]


def test_a_customer_s_order_for_somebody_else_says_nothing_of_the_customer_s_addresses():
    order = paid(email="a-friend@example.com")
    assert [each.value for each in order.person.addresses] == ["207119551", "sari@example.com"]
    assert "a-friend" not in repr(order)


def test_a_guest_is_known_by_what_they_typed_or_not_at_all():
    guest = paid(customer=None, email="guest@example.com", billing_address={"first_name": "Budi", "id": 5})
    assert guest.person.name == "Budi"
    assert list(guest.person.addresses) == [Address(kind="email", value="guest@example.com")]
    assert paid(customer=None, email=None).person is None


def test_a_refund_names_its_lines_and_its_money():
    refund = refunded()
    assert isinstance(refund, Refunded)
    assert (refund.order_ref, refund.refund_ref) == ("450789469", "509562969")
    assert refund.amount == Decimal("9.16")
    assert list(refund.items) == [("11", Decimal(1))]
    documented = one(shopify, at("refunds/create", sample("shopify__refunds_create")), SHOP)
    assert documented.amount == Decimal("209.00")
    assert list(documented.items) == [("703073504", 1), ("466157049", 1)]


def test_the_lines_of_a_refund_are_found_in_the_order_by_their_ids():
    order = paid(line_items=[LINE, {**LINE, "id": 12}])
    ids = [line.external_id for line in order.lines]
    assert order.data["line_ids"] == ids == ["11", "12"]


def money(amount: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"kind": "refund", "status": "success", "amount": amount, "currency": "USD", **changes}]


@pytest.mark.parametrize(
    ("changes", "amount", "items"),
    [
        ({}, "9.16", 1),
        # More or less was given back than the lines are worth.
        (
            {
                "transactions": money("7.16"),
                "order_adjustments": [{"kind": "refund_discrepancy", "amount": "2.00"}],
            },
            "7.16", 0,
        ),
        (
            {
                "transactions": money("5.85"), "refund_line_items": [],
                "order_adjustments": [{"kind": "refund_discrepancy", "amount": "-5.85", "tax_amount": "0.00"}],
            },
            "5.85", 0,
        ),
        # The shipping is no goods, in either way of telling it.
        (
            {
                "transactions": money("14.66"),
                "order_adjustments": [{"kind": "shipping_refund", "amount": "-5.00", "tax_amount": "-0.50"}],
            },
            "9.16", 1,
        ),
        (
            {
                "transactions": money("14.66"),
                "refund_shipping_lines": [{"subtotal_amount_set": {"shop_money": {"amount": "5.50"}}}],
            },
            "9.16", 1,
        ),
        # Who leaves the money out of the webhook is told by the lines alone.
        ({"transactions": None}, "8.33", 1),
        # Two means of payment.
        ({"transactions": [*money("4.00"), *money("5.16"), *money("99.00", status="failure")]}, "9.16", 1),
    ],
)  # fmt: skip
def test_a_refund_counts_what_was_given_back_for_goods(changes, amount, items):
    refund = refunded(**changes)
    assert (refund.amount, len(refund.items)) == (Decimal(amount), items)


@pytest.mark.parametrize("included", [False, True])
def test_a_refund_in_the_customer_s_currency_counts_in_the_shop_s(included):
    def both(own: str, theirs: str) -> dict[str, Any]:
        return {
            "shop_money": {"amount": own, "currency_code": "USD"},
            "presentment_money": {"amount": theirs, "currency_code": "EUR"},
        }

    line = {
        **REFUND["refund_line_items"][0],
        "subtotal_set": both("8.33", "7.00"),
        "total_tax_set": both("0.83", "0.70"),
    }
    refund = refunded(refund_line_items=[line], transactions=money("7.00" if included else "7.70", currency="EUR"))
    assert refund.amount == Decimal("8.33" if included else "9.16")


@pytest.mark.parametrize(
    "changes",
    [
        {"transactions": []},
        {"transactions": money("9.16", status="failure")},
        {"transactions": money("9.16", test=True)},
        {"transactions": money("5.00"), "order_adjustments": [{"kind": "shipping_refund", "amount": "-5.00"}]},
    ],
)
def test_a_refund_in_which_no_money_for_goods_moved_takes_nothing_back(changes):
    event = refunded(**changes)
    assert isinstance(event, Happened)
    assert event.data["order_ref"] == "450789469"


def test_a_customer_is_who_the_shop_knows():
    event = one(shopify, at("customers/create", sample("shopify__customers_create")), SHOP)
    assert isinstance(event, Identified)
    assert event.occurred_at == datetime(2015, 5, 27, 22, 11, 24, tzinfo=UTC)
    assert [(each.kind, each.verified) for each in event.person.addresses] == [("customer_id", True), ("email", False)]


@pytest.mark.parametrize(("state", "granted"), [("subscribed", True), ("unsubscribed", False)])
def test_what_a_customer_allows_is_a_consent_of_that_moment(state, granted):
    consent = {"state": state, "consent_updated_at": "2026-11-01T00:00:00Z", "opt_in_level": "single_opt_in"}
    body = {"id": 1, "updated_at": "2026-11-20T00:00:00Z", "email_marketing_consent": consent, "tags": "vip, coffee"}
    identified, changed = told(shopify, at("customers/update", body), SHOP)
    later = told(shopify, at("customers/update", {**body, "updated_at": "2026-11-25T00:00:00Z"}), SHOP)[1]
    alone = one(
        shopify,
        at("customers_email_marketing_consent/update", {"customer_id": 1, "email_marketing_consent": consent}),
        SHOP,
    )
    assert isinstance(identified, Identified)
    assert identified.attributes == {"shopify_tags": ["vip", "coffee"]}
    assert isinstance(changed, ConsentChanged)
    assert (changed.granted, changed.channel, changed.purpose) == (granted, "email", "marketing")
    assert changed.external_id == later.external_id == alone.external_id


@pytest.mark.parametrize("state", ["not_subscribed", "pending", "redacted", "invalid", None])
def test_who_was_not_asked_has_not_answered(state):
    consent = {"state": state, "consent_updated_at": "2026-11-01T00:00:00Z"}
    assert len(told(shopify, at("customers/update", {"id": 1, "sms_marketing_consent": consent}), SHOP)) == 1


def test_a_wish_to_be_forgotten_is_passed_on():
    event = one(shopify, at("customers/redact", sample("shopify__customers_redact")), SHOP)
    assert isinstance(event, PrivacyRequested)
    assert (event.topic, event.data["orders"]) == ("erasure", ["299938", "280263", "220458"])
    assert event.person.addresses[0] == Address(
        kind="customer_id", value="191167", account="kopi.myshopify.com", verified=True
    )


@pytest.mark.parametrize(
    ("topic", "body", "means"),
    [
        ("customers/data_request", {"customer": {"id": 1}, "data_request": {"id": 9}}, "export"),
        ("customers/redact", {"customer": {"id": 1}}, "erasure"),
        ("shop/redact", {"shop_id": 954889, "shop_domain": "kopi.myshopify.com"}, "shop_erasure"),
    ],
)
def test_every_topic_of_privacy_is_known(topic, body, means):
    event = one(shopify, at(topic, body, **{"x-shopify-triggered-at": "2026-11-25T12:00:00Z"}), SHOP)
    assert (event.topic, event.occurred_at) == (means, datetime(2026, 11, 25, 12, tzinfo=UTC))
    assert (event.person is None) == (topic == "shop/redact")


@pytest.mark.parametrize(
    ("topic", "body", "reason"),
    [
        ("products/update", {"id": 1}, None),
        ("orders/edited", {"order_edit": {"id": 1}}, None),
        ("", {"id": 1}, None),
        ("orders/paid", {"id": 1}, "It does not say when it was placed."),
        ("orders/paid", {**ORDER, "currency": "dollars"}, "Its currency is missing or not a currency."),
        ("orders/paid", {**ORDER, "total_price": "a lot"}, "Its total_price is missing or not an amount."),
        ("orders/paid", b"{", "This is not JSON that can be read: EOF while parsing an object at line 1 column 1."),
    ],
)
def test_what_nobody_knows_is_kept(topic, body, reason):
    event = one(shopify, at(topic, body), SHOP)
    assert isinstance(event, Unknown)
    assert event.reason == reason
    assert json.dumps(event.raw)
