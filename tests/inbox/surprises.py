"""What providers send that nobody expects, with something that everybody does, of each as it sends it."""

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.interactions.channels import (
    test_line,
    test_messenger,
    test_onetalk,
    test_postmark,
    test_sendgrid,
    test_shopify,
    test_telegram,
    test_twilio,
    test_whatsapp,
    test_woocommerce,
)

KEY = "s3cr3t:k0pi"
"""Every secret of every account."""
GIANT = "9" * 600
BIG = 2**63 + 11
"""An id that is no 64-bit number."""
NUMBERS = count(1)

Sent = tuple[bytes, dict[str, str]]
"""A body with the headers that belong to it, before it is signed."""


def mac(body: bytes, kind: str = "sha256") -> bytes:
    return hmac.digest(KEY.encode(), body, kind)


def in_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def in_json(*bodies: Any, **headers: str) -> list[Sent]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [(json.dumps(body).encode(), named) for body in bodies]


def in_form(*forms: dict[str, str]) -> list[Sent]:
    return [(urlencode(each).encode(), {"content-type": "application/x-www-form-urlencoded"}) for each in forms]


def signed_form(**fields: str) -> dict[str, str]:
    stamp, token = str(int(datetime.now(UTC).timestamp())), f"t{next(NUMBERS)}"
    return {**fields, "timestamp": stamp, "token": token, "signature": mac(f"{stamp}{token}".encode()).hex()}


def _whatsapp() -> list[Sent]:
    one = test_whatsapp.message()
    messages = [
        one, test_whatsapp.message("hologram", id="wamid.U"), test_whatsapp.message(id=GIANT), 7, None,
        {**one, "id": "wamid.N", "from": None}, {**one, "id": str(BIG), "from": "not a number"}, one,
    ]  # fmt: skip
    change = test_whatsapp.change(contacts=[test_whatsapp.SARI], messages=messages)
    return in_json(test_whatsapp.body(change, {"field": "holograms", "value": {"id": BIG}}, {"field": "messages"}))


def _messenger(of: str) -> list[Sent]:
    event = test_messenger.event
    one = event(message={"mid": "m1", "text": "Halo"})
    events = [
        one,
        event(message={"mid": GIANT, "text": "a"}),
        event(hologram={"id": BIG}),
        {"sender": {}},
        7,
        one,
    ]
    body = test_messenger.body(*events)
    return in_json({**body, "object": of})


def _telegram() -> list[Sent]:
    one = {"update_id": 7, "message": test_telegram.message(text="Halo")}
    nobody = {"message": {"message_id": 5, "chat": {"id": 1}, "date": 1, "text": "a"}}
    return in_json(
        one, one, {"update_id": BIG, "hologram": {"id": BIG}}, {"update_id": GIANT, **nobody},
        {"update_id": 9, **nobody}, {"message": {}}, [],
    )  # fmt: skip


def _line() -> list[Sent]:
    one = test_line.event(message={"id": "1", "type": "text", "text": "Halo"})
    again = {**one, "deliveryContext": {"isRedelivery": True}}
    events = [
        one, test_line.event("hologram", webhookEventId="u"), test_line.event(webhookEventId=GIANT), 7,
        test_line.event(webhookEventId="n", source={"type": "group"}, message={"id": "2", "type": "text"}), again,
    ]  # fmt: skip
    return in_json({"destination": "U", "events": events}, {"destination": "U", "events": []})


def _twilio() -> list[Sent]:
    one = test_twilio.TEXT
    return in_form(
        one, one, {**one, "MessageSid": "SM2", "From": ""}, {**one, "MessageSid": GIANT},
        {"MessageSid": "SM3", "MessageStatus": "hologram", "To": "?"}, {"x": "y"},
    )  # fmt: skip


def _custom() -> list[Sent]:
    one = {
        "type": "message", "external_id": "m1", "occurred_at": "2026-11-20T10:00:00Z", "text": "Halo",
        "person": {"addresses": [{"kind": "chat", "value": "u1", "verified": True}]},
    }  # fmt: skip
    nobody = {**one, "external_id": "m2", "person": {"addresses": [{"kind": "phone", "value": "unknown"}]}}
    return in_json({"events": [one, {"type": "hologram", "id": BIG}, {**one, "external_id": GIANT}, nobody, 7, one]})


def _onetalk() -> list[Sent]:
    one = test_onetalk.MESSAGE
    messages = [
        one,
        {**one, "messageID": GIANT},
        {**one, "messageID": "m2", "sender": {}, "chatID": None},
        7,
        one,
    ]
    return in_json({"type": "messages", "messages": messages}, {"type": "hologram", "id": BIG}, [])


def _segment() -> list[Sent]:
    one = {
        "type": "track", "event": "Asked", "messageId": "m1", "userId": "u1", "timestamp": "2026-11-20T10:00:00Z",
    }  # fmt: skip
    calls = [one, {**one, "messageId": GIANT}, {**one, "messageId": "m2", "userId": None}, {"type": "hologram"}]
    return in_json({"batch": [*calls, 7, one]}, one)


def _postmark() -> list[Sent]:
    one = test_postmark.MAIL
    return in_json(
        one, one, {**one, "MessageID": GIANT, "Headers": []}, {"RecordType": "Hologram", "ID": BIG},
        {**one, "MessageID": "guid-2", "Headers": [], "FromFull": {}}, [],
    )  # fmt: skip


def _sendgrid() -> list[Sent]:
    one = test_sendgrid.FIELDS
    hologram = {"event": "hologram", "sg_event_id": "u"}
    return [*in_form(one, one, {"text": "?"}), *in_json([hologram, {**hologram, "sg_event_id": GIANT}, 7], {})]


def _mailgun() -> list[Sent]:
    fields = {
        "sender": "sari@example.com",
        "from": "Sari <sari@example.com>",
        "recipient": "inbox@shop.example",
    }
    one = {
        **fields, "subject": "Pesanan", "body-plain": "Halo", "Message-Id": "<rfc-1@example.com>",
        "message-headers": json.dumps([["Message-Id", "<rfc-1@example.com>"], ["From", fields["from"]]]),
    }  # fmt: skip
    signed = signed_form()
    event = {"signature": signed, "event-data": {"id": GIANT, "event": "hologram", "timestamp": 1763632800}}
    return [*in_form(signed_form(**one), signed_form(**one), signed_form(**{"body-plain": "?"})), *in_json(event)]


def _shopify() -> list[Sent]:
    order = test_shopify.ORDER
    created = in_json(
        order, order, {**order, "id": GIANT}, {**order, "id": BIG, "customer": None, "email": None, "phone": None},
        x_shopify_topic="orders/create",
    )  # fmt: skip
    return [*created, *in_json({"id": BIG}, [], x_shopify_topic="holograms/create")]


def _woocommerce() -> list[Sent]:
    order = {**test_woocommerce.ORDER, "status": "pending"}
    changed = in_json(
        order, order, {**order, "id": GIANT}, {**order, "id": BIG, "customer_id": 0, "billing": {}},
        x_wc_webhook_topic="order.updated",
    )  # fmt: skip
    return [*changed, *in_json({"id": BIG}, [], x_wc_webhook_topic="hologram.created")]


TOLD: Mapping[str, Callable[[], list[Sent]]] = {
    "custom": _custom,
    "instagram": lambda: _messenger("instagram"),
    "line": _line,
    "mailgun": _mailgun,
    "messenger": lambda: _messenger("page"),
    "onetalk": _onetalk,
    "postmark": _postmark,
    "segment": _segment,
    "sendgrid": _sendgrid,
    "shopify": _shopify,
    "telegram": _telegram,
    "twilio": _twilio,
    "whatsapp": _whatsapp,
    "woocommerce": _woocommerce,
}
"""A message, the same again, and what has a giant id, no sender, no number, or is of no known kind."""
