"""WooCommerce: orders as they are when they are told of."""

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from crm.interactions.channels import woocommerce
from crm.interactions.channels.deliveries import Reply, SignatureInvalid
from crm.interactions.channels.events import Address, Happened, Identified, Ordered, Refunded, Unknown
from tests.interactions.channels.parcels import account, one, parcel, sample, sha256, told, vector

SHOP = account("https://shop.example/store/", secret="s")
LINE: dict[str, Any] = {
    "id": 315, "product_id": 93, "variation_id": 0, "sku": "", "quantity": 3, "subtotal": "10.00",
    "subtotal_tax": "1.00", "total": "8.00", "total_tax": "0.80",
}  # fmt: skip
ORDER: dict[str, Any] = {
    "id": 727, "number": "727", "order_key": "wc_order_x", "status": "processing", "currency": "USD",
    "date_created_gmt": "2026-11-20T19:28:02", "date_modified_gmt": "2026-11-21T08:00:00", "date_paid_gmt": None,
    "customer_id": 7, "total": "13.80", "shipping_total": "5.00", "shipping_tax": "0.00",
    "billing": {"first_name": "Sari", "last_name": "Dewi", "email": "sari@example.com", "phone": "0812"},
    "line_items": [LINE], "shipping_lines": [{"total": "5.00", "total_tax": "0.00"}], "fee_lines": [], "refunds": [],
}  # fmt: skip


def at(topic: str, body: Any) -> Any:
    return parcel(body, {"x-wc-webhook-topic": topic, "x-wc-webhook-delivery-id": "d1"})


def events(**changes: Any) -> list[Any]:
    return told(woocommerce, at("order.updated", {**ORDER, **changes}), SHOP)


def comes_to(order: Ordered) -> Decimal:
    lines = sum((line.quantity * line.unit_price - line.discount for line in order.lines), Decimal(0))
    return lines - sum(order.discounts, Decimal(0)) + order.shipping


def test_a_delivery_is_checked_over_its_raw_bytes():
    known = vector("woocommerce")
    body, of = known["body"].encode(), account(secret=known["secret"])
    woocommerce.verify(parcel(body, {"x-wc-webhook-signature": known["value"]}), of)
    for wrong in (parcel(body + b"\n", {"x-wc-webhook-signature": known["value"]}), parcel(body)):
        with pytest.raises(SignatureInvalid):
            woocommerce.verify(wrong, of)
    unset = base64.b64encode(sha256("", body)).decode()
    with pytest.raises(SignatureInvalid):
        woocommerce.verify(parcel(body, {"x-wc-webhook-signature": unset}), account())


def test_the_ping_of_a_new_webhook_is_answered_and_nothing_else_is():
    assert woocommerce.handshake(parcel(b"webhook_id=142"), SHOP) == Reply()
    for other in (b"", b"webhook_id=", b"webhook_id=1&x=2", b'{"webhook_id": 142}', b"webhook_id=142abc"):
        assert woocommerce.handshake(parcel(other), SHOP) is None
    assert woocommerce.handshake(parcel(b"webhook_id=142", method="GET"), SHOP) is None


@pytest.mark.parametrize("status", ["processing", "completed"])
def test_an_order_that_is_processed_is_paid_and_the_same_whenever_it_is_told(status):
    [order] = events(status=status)
    [later] = events(status="completed", date_modified_gmt="2026-12-01T00:00:00", date_paid_gmt="2026-12-01T00:00:00")
    assert isinstance(order, Ordered)
    assert order.order_ref == "shop.example.store:727"
    assert order.occurred_at == datetime(2026, 11, 20, 19, 28, 2, tzinfo=UTC)
    assert (order.occurred_at, order.lines, order.total) == (later.occurred_at, later.lines, later.total)


def test_a_line_bears_its_discount_and_its_tax():
    [order] = events()
    [line] = order.lines
    assert (line.sku, line.quantity, line.tax) == ("93", 3, Decimal("0.80"))
    assert line.quantity * line.unit_price - line.discount == Decimal("8.80")
    assert (order.shipping, order.total, comes_to(order)) == (Decimal("5.00"), Decimal("13.80"), Decimal("13.80"))


@pytest.mark.parametrize(
    ("fee", "total", "shipping", "discounts"), [("2.00", "15.80", "7.00", []), ("-2.00", "11.80", "5.00", ["2.00"])]
)
def test_a_fee_is_a_charge_or_a_discount(fee, total, shipping, discounts):
    [order] = events(fee_lines=[{"total": fee, "total_tax": "0.00"}], total=total)
    assert order.shipping == Decimal(shipping)
    assert list(order.discounts) == [Decimal(each) for each in discounts]
    assert comes_to(order) == order.total


def test_the_documented_order_comes_to_its_total():
    [order] = told(woocommerce, at("order.created", sample("woocommerce__order_created")), SHOP)
    assert (order.total, comes_to(order)) == (Decimal("29.35"), Decimal("29.35"))
    assert [line.sku for line in order.lines] == ["93", "Bar3"]
    assert [each.kind for each in order.person.addresses] == ["email", "phone"]


def test_who_is_signed_in_is_known_and_a_guest_only_said_who_they_are():
    [order] = events()
    assert order.person.addresses[0] == Address(kind="customer_id", value="7", account=SHOP.ref, verified=True)
    [guest] = events(customer_id=0)
    assert not any(each.verified for each in guest.person.addresses)
    [nobody] = events(customer_id=0, billing={"email": "", "phone": ""})
    assert nobody.person is None


@pytest.mark.parametrize("status", ["pending", "on-hold", "cancelled", "failed", "refunded", "checkout-draft"])
def test_an_order_in_another_state_is_told_of_with_its_time(status):
    event, *_ = events(status=status)
    assert isinstance(event, Happened)
    assert event.kind == f"order.{status.replace('-', '_')}"
    assert event.occurred_at == datetime(2026, 11, 21, 8, tzinfo=UTC)
    same, *_ = told(woocommerce, at("order.created", {**ORDER, "status": status}), SHOP)
    assert same.external_id == event.external_id


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_an_order_that_came_to_nothing_gives_back_what_is_left_of_it_and_the_same_whenever_it_is_told(status):
    _, refund, rest = events(status=status, refunds=[{"id": 801, "total": "-4.00"}])
    assert (refund.amount, refund.rest) == (Decimal("4.00"), False)
    assert (rest.order_ref, rest.refund_ref, rest.amount, rest.rest) == (
        "shop.example.store:727", "voided", None, True,
    )  # fmt: skip
    assert events(status=status, date_modified_gmt="2026-12-01T00:00:00")[-1] == rest
    assert not any(isinstance(event, Refunded) for event in events(status="pending"))


def test_refunds_are_told_again_with_the_same_content_and_never_exceed_the_goods():
    refunds = [{"id": 802, "total": "-9.80"}, {"id": 801, "reason": "cold", "total": "-4.00"}]
    _, first, second = events(refunds=refunds, status="completed")
    again = events(refunds=refunds, status="refunded", date_modified_gmt="2026-12-01T00:00:00")[1:]
    assert isinstance(first, Refunded)
    assert [(each.refund_ref, each.amount) for each in (first, second)] == [
        ("801", Decimal("4.00")), ("802", Decimal("4.80")),
    ]  # fmt: skip
    assert (first.order_ref, first.occurred_at) == ("shop.example.store:727", None)
    assert second.data["given_back"] == "9.80"
    assert again == [first, second]


def test_no_more_is_taken_back_than_was_paid_for_the_goods():
    _, refund = events(fee_lines=[{"total": "-2.00"}], total="11.80", refunds=[{"id": 1, "total": "-11.80"}])
    assert refund.amount == Decimal("6.80")


def test_a_refund_of_what_is_left_of_the_shipping_takes_nothing_back():
    refunds = [{"id": 801, "total": "-8.80"}, {"id": 802, "total": "-5.00"}]
    assert [each.refund_ref for each in events(refunds=refunds)[1:]] == ["801"]


def test_a_customer_is_who_the_shop_knows():
    body = {"id": 7, "email": "sari@example.com", "first_name": "Sari", "date_modified_gmt": "2026-11-20T00:00:00"}
    event = one(woocommerce, at("customer.updated", body), SHOP)
    assert isinstance(event, Identified)
    assert [each.value for each in event.person.addresses] == ["7", "sari@example.com"]
    gone = one(woocommerce, at("customer.deleted", {"id": 7}), SHOP)
    assert (gone.kind, gone.person.addresses[0].value) == ("customer.deleted", "7")


@pytest.mark.parametrize(
    ("topic", "body"),
    [("product.updated", {"id": 1}), ("action.x", {"arg": 1}), ("order.updated", {"id": 1}), ("order.updated", b"[")],
)
def test_what_nobody_knows_is_kept(topic, body):
    assert isinstance(one(woocommerce, at(topic, body), SHOP), Unknown)
