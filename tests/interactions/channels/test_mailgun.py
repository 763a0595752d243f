"""Mailgun: mail of its routes, and what became of mail that it sent."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from crm.interactions.channels import mailgun
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid
from crm.interactions.channels.events import ConsentChanged, Happened, Message, StateChanged, Unknown
from tests.interactions.channels.parcels import NOW, account, form, one, parcel, sha256, told, vector

KEY = "TEST_WEBHOOK_SIGNING_KEY"
OURS = account(signing_key=KEY)
HEADERS = [
    ["X-Mailgun-Dkim-Check-Result", "Pass"], ["X-Mailgun-Spf", "Pass"], ["From", '"Sari" <sari@example.com>'],
    ["Date", "Fri, 20 Nov 2026 17:00:00 +0700"], ["Message-Id", "<rfc-1@example.com>"], ["Subject", "Pesanan"],
    ["In-Reply-To", "<root@shop.example>"],
]  # fmt: skip
FIELDS: dict[str, Any] = {
    "recipient": "inbox+case-17@shop.example", "sender": "bounces@example.com", "message-headers": json.dumps(HEADERS),
    "body-plain": "Ya.\n> Sudah?", "stripped-text": "Ya.", "token": "t1",
}  # fmt: skip


def signed(at: datetime = NOW, key: str = KEY) -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    return {"timestamp": timestamp, "token": "t1", "signature": sha256(key, f"{timestamp}t1".encode()).hex()}


def both(signature: dict[str, str]) -> list[Delivery]:
    """The same signature on an event and on mail."""
    return [parcel({"signature": signature, "event-data": {}}), form(signature)]


def test_time_and_token_are_signed():
    known = vector("mailgun")
    given = {"timestamp": known["timestamp"], "token": known["token"], "signature": known["value"]}
    at = datetime.fromtimestamp(int(known["timestamp"]), UTC)
    for delivery in (parcel({"signature": given}, received_at=at),):
        mailgun.verify(delivery, account(signing_key=known["secret"]))
    for delivery in both(signed()):
        mailgun.verify(delivery, OURS)
        assert mailgun.key(delivery) == "t1"


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "t2"}, {"timestamp": str(int(NOW.timestamp()) - 1)}, {"signature": "0" * 64}, {"signature": ""},
        {"token": ""}, {"timestamp": "soon"}, {"signature": "é"},
    ],
)  # fmt: skip
def test_what_is_not_signed_is_refused(changes):
    for delivery in both({**signed(), **changes}):
        with pytest.raises(SignatureInvalid):
            mailgun.verify(delivery, OURS)


def test_without_a_key_nothing_is_accepted():
    for delivery in both(signed(key="")):
        with pytest.raises(SignatureInvalid):
            mailgun.verify(delivery, account())
    assert mailgun.REFUSED_STATUS == 406


@pytest.mark.parametrize(
    ("age", "accepted"),
    [
        (timedelta(0), True), (timedelta(hours=11), True), (timedelta(hours=13), False),
        (-timedelta(minutes=10), True), (-timedelta(minutes=20), False),
    ],
)  # fmt: skip
def test_a_signature_holds_for_a_time(age, accepted):
    for delivery in both(signed(NOW - age)):
        if accepted:
            mailgun.verify(delivery, OURS)
        else:
            with pytest.raises(SignatureInvalid):
                mailgun.verify(delivery, OURS)


def test_an_account_below_another_is_signed_for_by_both():
    own = signed(key="another")
    mailgun.verify(parcel({"signature": {**own, "parent-signature": signed()["signature"]}}), OURS)


@pytest.mark.parametrize("unreadable", [b"", b"{", b"[1]", b'{"signature": 1}'])
def test_a_body_without_a_signature_is_refused(unreadable):
    with pytest.raises(SignatureInvalid):
        mailgun.verify(parcel(unreadable), OURS)
    assert mailgun.key(parcel(unreadable)) is None


def urlencoded() -> Delivery:
    return parcel(urlencode(FIELDS).encode(), {"content-type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize("delivery", [form(FIELDS), urlencoded()])
def test_mail_of_a_route_is_a_message(delivery):
    event = one(mailgun, delivery)
    assert isinstance(event, Message)
    assert (event.external_id, event.text, event.subject) == ("rfc-1@example.com", "Ya.", "Pesanan")
    assert (event.person.name, event.person.addresses[0].value) == ("Sari", "sari@example.com")
    assert (event.thread_hint, event.reply_to) == ("case-17", "root@shop.example")
    assert event.data["authentication"] == {"spf": "pass", "dkim": "pass"}
    assert event.occurred_at == datetime(2026, 11, 20, 10, tzinfo=UTC)


def test_files_of_a_form_and_stored_ones_are_told_of_by_where_they_are():
    event = one(mailgun, form(FIELDS, [("attachment-1", "foto.png", "image/png", b"12345")]))
    [file] = event.attachments
    assert (file.kind, file.reference, file.name, file.bytes_count) == ("image", "attachment-1", "foto.png", 5)
    stored = [{"url": "https://storage.example/0", "content-type": "application/pdf", "name": "a.pdf", "size": 20202}]
    [file] = one(mailgun, form({**FIELDS, "attachments": json.dumps(stored)})).attachments
    assert (file.kind, file.reference, file.bytes_count) == ("file", "https://storage.example/0", 20202)


def test_mail_as_it_was_sent_is_read_too():
    raw = b"From: sari@example.com\r\nMessage-ID: <raw@x>\r\nSubject: Halo\r\n\r\nYa.\r\n> Sudah?\r\n"
    event = one(mailgun, form({"body-mime": raw, "recipient": "inbox+case-9@shop.example", "token": "t"}))
    assert (event.external_id, event.text, event.thread_hint) == ("raw@x", "Ya.", "case-9")


def test_without_headers_the_fields_say_who_and_what():
    event = one(mailgun, form({"sender": "sari@example.com", "subject": "Halo", "body-plain": "x", "token": "t9"}))
    assert (event.external_id, event.subject, event.person.addresses[0].value) == ("t9", "Halo", "sari@example.com")


def event(kind: str, **changes: Any) -> Delivery:
    data = {
        "id": "e1", "event": kind, "timestamp": 1763632800.153125, "recipient": "sari@example.com",
        "message": {"headers": {"message-id": "2026@shop.example"}}, **changes,
    }  # fmt: skip
    return parcel({"signature": signed(), "event-data": data})


@pytest.mark.parametrize(
    ("kind", "changes", "outcomes"),
    [
        ("accepted", {}, ["queued"]),
        ("delivered", {}, ["delivered"]),
        ("opened", {}, ["read"]),
        ("clicked", {"url": "https://x.example"}, ["read", "mail.clicked"]),
        ("failed", {"severity": "permanent", "delivery-status": {"code": 550, "message": "no such user"}}, ["failed"]),
        ("failed", {"severity": "temporary", "delivery-status": {"code": 450}}, ["queued"]),
        ("rejected", {"reject": {"reason": "Sandbox"}}, ["failed"]),
        ("complained", {}, ["failed", (False, "all")]),
        ("unsubscribed", {}, [(False, "marketing")]),
    ],
)
def test_what_becomes_of_mail(kind, changes, outcomes):
    said: list[Any] = []
    for found in told(mailgun, event(kind, **changes)):
        match found:
            case StateChanged(external_id="2026@shop.example"):
                said.append(found.state)
            case Happened(external_id="e1"):
                said.append(found.kind)
            case ConsentChanged(external_id="e1", channel="email"):
                said.append((found.granted, found.purpose))
        assert found.occurred_at == datetime(2025, 11, 20, 10, 0, 0, 153125, tzinfo=UTC)
    assert said == outcomes


def test_a_failure_says_why():
    found = one(mailgun, event("failed", severity="permanent", **{"delivery-status": {"code": 550, "message": "no"}}))
    assert found.error == {"code": "550", "message": "no"}


@pytest.mark.parametrize(
    "delivery",
    [
        event("list_member_uploaded"), event("delivered", message={}), event("delivered", id=None),
        event("delivered", timestamp="soon"), parcel({"event-data": None}), parcel(b"{"), form({"event": "delivered"}),
        form({"body-plain": "nobody"}), parcel(b"x", {"content-type": "multipart/form-data; boundary=y"}),
        parcel(b"x", {"content-type": "multipart/form-data"}),
    ],
)  # fmt: skip
def test_what_nobody_can_read_is_kept(delivery):
    assert isinstance(one(mailgun, delivery), Unknown)
