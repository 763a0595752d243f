"""Whatever bytes arrive, every adapter checks them or refuses them, and reads them or says why it can't."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.interactions.channels.adapters import ADAPTERS
from crm.interactions.channels.deliveries import Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Event, Ordered
from tests.interactions.channels.parcels import account, form, parcel, sample
from tests.interactions.channels.test_mail import BOUNCE, PARTS, PLAIN
from tests.interactions.channels.test_mailgun import event as mailgun_event
from tests.interactions.channels.test_onetalk import MESSAGE
from tests.interactions.channels.test_postmark import MAIL
from tests.interactions.channels.test_segment import COMPLETED
from tests.interactions.channels.test_sendgrid import EVENT, FIELDS
from tests.interactions.channels.test_shopify import ORDER, REFUND
from tests.interactions.channels.test_woocommerce import ORDER as WOO_ORDER

FUZZED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
CUSTOMER = {
    "id": 1, "email": "a@x.example", "updated_at": "2026-11-20T10:00:00Z", "tags": "a,b",
    "email_marketing_consent": {"state": "subscribed", "consent_updated_at": "2026-11-20T10:00:00Z"},
}  # fmt: skip
SECRETS = {"client_secret": "s", "secret": "s", "signing_key": "s", "credentials": "u:p", "public_key": "s",
           "shared_secret": "s", "secret_key": "s", "password": "s"}  # fmt: skip
OURS = account("inbox@shop.example", None, **SECRETS)
KNOWN: list[tuple[str, Any]] = [
    ("orders/paid", ORDER), ("orders/create", ORDER), ("refunds/create", REFUND), ("order.updated", WOO_ORDER),
    ("order.updated", {**WOO_ORDER, "refunds": [{"id": 1, "total": "-1.00"}, {"id": 2, "total": "-1.00"}]}),
    ("customers/update", CUSTOMER), ("customers/redact", {"customer": {"id": 1}, "orders_to_redact": [1]}),
    ("customer.created", {"id": 7, "email": "a@x.example", "date_modified_gmt": "2026-11-20T10:00:00"}),
    ("order.deleted", {"id": 7}), ("customers/delete", {"id": 7}), ("shop/redact", {"shop_id": 1}),
    ("", COMPLETED), ("", MAIL), ("", {"type": "messages", "messages": [MESSAGE]}), ("", [EVENT]),
    ("", json.loads(mailgun_event("failed").body)), ("", {"type": "case_resolved", "caseResolved": {"caseID": "1"}}),
    ("", {"RecordType": "SpamComplaint", "MessageID": "g", "Email": "a@x.example", "BouncedAt": "2026-11-20T10:00Z"}),
]  # fmt: skip
TOPICS = st.sampled_from(sorted({topic for topic, _ in KNOWN}))
MORE_FIELDS = [
    "email", "body-mime", "message-headers", "attachments", "token", "timestamp", "signature", "event", "sender",
]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["1e999", "-1", "0", "99999999999999999999.99", "NaN", "Infinity", "9999-12-31T23:59:59-23:59",
                     "0001-01-01T00:00:00+23:59", "\x00", "\ud800", "1" * 600, "2026-13-01", "\uff11",
                     "0.1234567890123"]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
CONTENT_TYPES = st.sampled_from([
    "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=xYz", "multipart/form-data",
    "multipart/form-data; boundary=", "text/plain", "",
])  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """A payload as it should be, with one or more places of it replaced or gone."""
    topic, value = draw(st.sampled_from(KNOWN))
    for _ in range(draw(st.integers(1, 4))):
        value = _changed(draw, value)
    return topic, value


def _changed(draw: st.DrawFn, value: Any) -> Any:
    if draw(st.sampled_from([True, True, True, True, True, False])):
        if isinstance(value, Mapping) and value:
            name = draw(st.sampled_from(sorted(value)))
            if draw(st.sampled_from([True, True, True, True, False])):
                return {**value, name: _changed(draw, value[name])}
            return {each: of for each, of in value.items() if each != name}
        if isinstance(value, list) and value:
            place = draw(st.integers(0, len(value) - 1))
            return [*value[:place], _changed(draw, value[place]), *value[place + 1 :]]
    return draw(JSON)


def read(delivery: Delivery) -> list[Event]:
    """What every adapter makes of a delivery."""
    found: list[Event] = []
    for adapter in ADAPTERS.values():
        key = adapter.key(delivery)
        assert key is None or isinstance(key, str)
        reply = adapter.handshake(delivery, OURS)
        assert reply is None or isinstance(reply, Reply)
        with pytest.raises(SignatureInvalid):
            adapter.verify(delivery, OURS)
        with pytest.raises(SignatureInvalid):
            adapter.verify(delivery, account())
        found += adapter.events(delivery, OURS)
    for event in found:
        assert getattr(event, "external_id", "x")
        if isinstance(event, Ordered) and event.lines:
            lines = sum(line.quantity * line.unit_price - line.discount for line in event.lines)
            assert lines - sum(event.discounts) + event.shipping == event.total
            assert all(line.discount >= 0 and line.tax >= 0 for line in event.lines)
    return found


def topical(body: Any, topic: str, content_type: str = "application/json") -> Delivery:
    headers = {"x-shopify-topic": topic, "x-wc-webhook-topic": topic, "content-type": content_type}
    return parcel(body, headers)


@FUZZED
@given(mutated())
def test_payloads_that_are_not_what_they_should_be_stop_nothing(payload):
    topic, body = payload
    read(topical(body, topic))


@FUZZED
@given(body=st.one_of(st.binary(max_size=300), JSON.map(lambda value: json.dumps(value).encode())), topic=TOPICS,
       content_type=CONTENT_TYPES)  # fmt: skip
def test_any_bytes_are_refused_unsigned_and_read_as_far_as_they_can_be(body, topic, content_type):
    read(topical(body, topic, content_type))


@FUZZED
@given(
    names=st.lists(st.sampled_from(sorted(FIELDS)), max_size=4),
    value=st.binary(max_size=60),
    extra=st.dictionaries(st.sampled_from(MORE_FIELDS), st.binary(max_size=60)),
)
def test_forms_that_are_not_what_they_should_be_stop_nothing(names, value, extra):
    read(form({**FIELDS, **dict.fromkeys(names, value), **extra}, [("attachment1", "x", "image/png", value)]))


@FUZZED
@given(st.data())
def test_mail_that_is_not_what_it_should_be_stops_nothing(data):
    raw = bytearray(data.draw(st.sampled_from([PLAIN, PARTS, BOUNCE])).replace("\n", "\r\n").encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 40))
        raw[at : at + length] = data.draw(st.binary(max_size=40))
    read(parcel(bytes(raw)))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000, b'{"a":' * 100_000, b"{" + b'"a":1,' * 100_000, b"9" * 1_000_000,
        b'"' + b"\\ud800" * 1_000 + b'"',
        b"From: a@b\r\n" + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" * 5_000,
        b"From: " + b"(" * 200_000, b"From: a@b\r\nSubject: " + b"=?a?q?x?= " * 50_000,
        b"--xYz\r\n" * 50_000,
    ],
)  # fmt: skip
def test_depth_and_length_stop_nothing(body):
    for content_type in ("application/json", "multipart/form-data; boundary=xYz"):
        read(topical(body, "orders/paid", content_type))


@pytest.mark.parametrize("name", ["shopify__orders_create", "woocommerce__order_created", "postmark__inbound"])
@FUZZED
@given(data=st.data())
def test_documented_payloads_may_lack_anything(name, data):
    body = _changed(data.draw, sample(name))
    read(topical(body, data.draw(TOPICS)))
