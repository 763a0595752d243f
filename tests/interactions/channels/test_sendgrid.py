"""SendGrid: parsed mail, and signed events."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crm.interactions.channels import sendgrid
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid
from crm.interactions.channels.events import ConsentChanged, Happened, Message, StateChanged, Unknown
from tests.interactions.channels.parcels import account, basic, form, one, parcel, told

PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
OTHER = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
EVENT: dict[str, Any] = {
    "email": "sari@example.com", "timestamp": 1763632800, "sg_event_id": "e1", "event": "delivered",
    "sg_message_id": "wrfRRvF7.filter0425p1mdw1.13037.57168B4A1D.0",
    "smtp-id": "<wrfRRvF7@ismtpd0006p1sjc2.sendgrid.net>",
}  # fmt: skip
FIELDS: dict[str, Any] = {
    "headers": "From: Sari <sari@example.com>\nDate: Fri, 20 Nov 2026 17:00:00 +0700\nMessage-ID: <rfc-1@example.com>\n"
    "References: <root@shop.example>\n <mid@shop.example>\nSubject: Pesanan\n",
    "from": "Sari <sari@example.com>", "to": "inbox@shop.example", "subject": "Pesanan",
    "text": "Ya.\n\n> Sudah?", "envelope": json.dumps({"to": ["inbox+case-17@shop.example"], "from": "b@example.com"}),
    "charsets": json.dumps({"text": "UTF-8"}), "dkim": "{@example.com : pass}", "SPF": "pass", "spam_score": "1.7",
}  # fmt: skip


def signed(body: bytes, timestamp: str = "1763632800") -> Delivery:
    signature = PRIVATE.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    return parcel(
        body,
        {
            "content-type": "application/json", sendgrid.TIMESTAMP: timestamp,
            sendgrid.SIGNATURE: base64.b64encode(signature).decode(),
        },
    )  # fmt: skip


def with_headers(delivery: Delivery, **headers: str) -> Delivery:
    return parcel(delivery.body, {**delivery.headers, **headers})


@pytest.mark.parametrize("key", [PUBLIC, PEM])
def test_events_are_signed(key):
    sendgrid.verify(signed(b"[]"), account(public_key=key))


@pytest.mark.parametrize(
    "delivery",
    [
        parcel(b"[]"), parcel(b"[1]", signed(b"[]").headers), with_headers(signed(b"[]"), **{sendgrid.TIMESTAMP: "1"}),
        *(with_headers(signed(b"[]"), **{sendgrid.SIGNATURE: wrong}) for wrong in ("!", "", "é")),
        parcel(b"[]", basic("user:pass")),
    ],
)  # fmt: skip
def test_events_that_are_not_signed_are_refused_even_with_the_password(delivery):
    with pytest.raises(SignatureInvalid):
        sendgrid.verify(delivery, account(public_key=PUBLIC, credentials="user:pass"))


@pytest.mark.parametrize("key", ["", "no key", base64.b64encode(b"no key").decode(), OTHER.decode(), PUBLIC[:-8], "é"])
def test_without_a_key_that_fits_nothing_is_accepted(key):
    with pytest.raises(SignatureInvalid):
        sendgrid.verify(signed(b"[]"), account(public_key=key))


def test_parsed_mail_comes_with_the_password():
    of = account(public_key=PUBLIC, credentials="user:pass")
    sendgrid.verify(with_headers(form(FIELDS), **basic("user:pass")), of)
    for delivery in (form(FIELDS), with_headers(form(FIELDS), **basic("user:wrong"))):
        with pytest.raises(SignatureInvalid):
            sendgrid.verify(delivery, of)
        with pytest.raises(SignatureInvalid):
            sendgrid.verify(delivery, account())


def test_a_refusal_loses_no_mail():
    assert sendgrid.REFUSED_STATUS >= 500


def test_parsed_mail_is_a_message():
    event = one(sendgrid, form(FIELDS))
    assert isinstance(event, Message)
    assert (event.external_id, event.text, event.subject) == ("rfc-1@example.com", "Ya.", "Pesanan")
    assert (event.thread_hint, event.reply_to) == ("case-17", "mid@shop.example")
    assert event.data["references"] == ["root@shop.example", "mid@shop.example"]
    assert event.data["authentication"] == {"spf": "pass", "dkim": "@example.com : pass"}
    assert event.occurred_at == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert not event.person.addresses[0].verified


def test_every_field_has_a_charset_of_its_own():
    charsets = {"text": "windows-1252", "subject": "cp850", "from": "UTF-8", "to": "UTF-8", "html": "iso-8859-1"}
    fields = {
        "headers": "To: inbox@shop.example\nFrom: =?utf-8?q?Op=C3=A9rateur?= <op@example.com>\n", "text": b"h\x92s\x85",
        "subject": b"pidi\xa2", "from": "Opérateur <op@example.com>", "charsets": json.dumps(charsets),
    }  # fmt: skip
    event = one(sendgrid, form(fields))
    assert (event.text, event.subject, event.person.name) == ("h\u2019s…", "pidió", "Opérateur")


def test_files_are_told_of_by_their_field():
    told_of = {"attachment1": {"filename": "foto.png", "type": "image/png", "content-id": "abc"}}
    fields = {**FIELDS, "attachment-info": json.dumps(told_of)}
    [file] = one(sendgrid, form(fields, [("attachment1", "x", "application/octet-stream", b"123")])).attachments
    assert (file.kind, file.name, file.reference, file.bytes_count) == ("image", "foto.png", "attachment1", 3)
    assert file.data == {"content_id": "abc"}


def test_mail_as_it_was_sent_is_read_too():
    raw = b"From: sari@example.com\r\nMessage-ID: <raw@x>\r\nIn-Reply-To: <abc@geopod-1.sendgrid.net>\r\n\r\nYa.\r\n"
    event = one(sendgrid, form({**FIELDS, "email": raw}))
    assert (event.external_id, event.text, event.reply_to) == ("raw@x", "Ya.", "abc")


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("processed", ["queued"]),
        ("deferred", ["queued"]),
        ("delivered", ["delivered"]),
        ("open", ["read"]),
        ("click", ["read", "mail.clicked"]),
        ("bounce", ["failed"]),
        ("dropped", ["failed"]),
        ("spamreport", ["failed", (False, "all")]),
        ("unsubscribe", [(False, "marketing")]),
        ("group_unsubscribe", [(False, "marketing")]),
        ("group_resubscribe", [(True, "marketing")]),
    ],
)
def test_what_becomes_of_mail(kind, outcomes):
    said: list[Any] = []
    for found in told(sendgrid, parcel([{**EVENT, "event": kind, "reason": "550 no", "status": "5.1.1"}])):
        match found:
            case StateChanged(external_id="wrfRRvF7"):
                said.append(found.state)
                assert (found.error is not None) == (kind in {"deferred", "bounce", "dropped", "spamreport"})
            case Happened(external_id="e1"):
                said.append(found.kind)
            case ConsentChanged(external_id="e1", channel="email"):
                said.append((found.granted, found.purpose))
        assert found.occurred_at == datetime(2025, 11, 20, 10, tzinfo=UTC)
    assert said == outcomes


@pytest.mark.parametrize(
    ("changes", "message_id"),
    [
        ({}, "wrfRRvF7"),
        ({"sg_message_id": "filter0093p1las1.9128.5717FB8127.0"}, "wrfRRvF7"),
        ({"sg_message_id": None, "smtp-id": "<own@shop.example>"}, "own@shop.example"),
    ],
)
def test_a_message_goes_by_the_id_that_its_sender_was_given(changes, message_id):
    assert one(sendgrid, parcel([{**EVENT, **changes}])).external_id == message_id


def test_one_bad_event_of_a_batch_stops_none_of_the_others():
    batch = [EVENT, "?", {"event": "delivered"}, {**EVENT, "timestamp": None}, {**EVENT, "event": "new"}, EVENT]
    found = [type(each).__name__ for each in told(sendgrid, parcel(batch))]
    assert found == ["StateChanged", "Unknown", "Unknown", "Unknown", "Unknown", "StateChanged"]
    assert told(sendgrid, parcel([])) == []


@pytest.mark.parametrize("delivery", [parcel(b"["), form({"text": "nobody"}), form({"email": b"nothing"})])
def test_what_nobody_can_read_is_kept(delivery):
    assert isinstance(one(sendgrid, delivery), Unknown)
