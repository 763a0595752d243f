"""Mailgun: mail that its routes hand over, and what became of mail that it sent.

It signs a time and a token, and not the body. A token counts once, for a limited time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from crm.interactions.channels import forms, mail, payloads, signatures, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Attachment, Event, State, StateChanged
from crm.interactions.channels.forms import Form
from crm.interactions.channels.mail import Headers, Mail
from crm.interactions.channels.payloads import Json, Unreadable, identifier, kept, needed, number, objects, part, text

CHANNEL = mail.CHANNEL
SECRETS: tuple[str, ...] = ("signing_key",)
REQUIRED: tuple[str, ...] = SECRETS
REFUSED_STATUS: Final = 406
"""What it takes for a refusal: it would try for hours after any other."""

AGE_MAX: Final = timedelta(hours=12)
"""It tries for nearly eight hours, and does not say whether it signs anew."""
AHEAD_MAX: Final = timedelta(minutes=15)

_STATES: Final[Mapping[str, State]] = {
    "accepted": "queued", "delivered": "delivered", "opened": "read", "clicked": "read", "failed": "failed",
    "rejected": "failed", "complained": "failed",
}  # fmt: skip
_SIGNATURES: Final = ("signature", "parent-signature")
_REFUSED: Final = {"unsubscribed": "marketing", "complained": "all"}


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Mailgun does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid, also for what was signed too long ago."""
    signing_key = signatures.secret(account, "signing_key")
    signed = _signed(delivery)
    timestamp, token = text(signed, "timestamp") or "", text(signed, "token") or ""
    expected = signatures.sha256_hex(signing_key, f"{timestamp}{token}".encode(errors="replace"))
    # For an account below another one it signs with the key of each; which of the two is compared with which is all
    # the same.
    given = [one.encode(errors="replace") for name in _SIGNATURES if (one := text(signed, name)) is not None]
    signatures.check(expected.decode(), given)
    signed_at = times.epoch(timestamp)
    if signed_at is None or not -AHEAD_MAX <= delivery.received_at - signed_at <= AGE_MAX:
        raise SignatureInvalid("It was signed too long ago, or by another clock.")


def key(delivery: Delivery) -> str | None:
    """The token, which is signed and never used twice."""
    return text(_signed(delivery), "token")


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    if forms.is_form(delivery):
        return forms.events(delivery, partial(_received, delivery))
    return payloads.events(delivery.body, _happened)


def _signed(delivery: Delivery) -> Json:
    """Where the time, the token and the signature are; nothing where the body can't be read."""
    try:
        if forms.is_form(delivery):
            return forms.read(delivery).texts()
        return part({"body": payloads.decode(delivery.body)}, "body", "signature")
    except Unreadable:
        return {}


def _received(delivery: Delivery, form: Form) -> Iterator[Event]:
    if form.raw("event"):
        yield payloads.unknown(form.texts(), kind="event", reason="Events come as JSON: use webhooks of today's kind.")
        return
    raw, recipient = form.raw("body-mime"), form.text("recipient")
    if raw:
        found = mail.parse(raw, received_at=delivery.received_at)
    else:
        headers = Headers.of(_headers(form))
        found = Mail(
            headers=headers, received_at=delivery.received_at, text=form.text("body-plain"),
            html=form.text("body-html"), new_text=form.text("stripped-text"), attachments=list(_attachments(form)),
            sender=_sender(form, headers),
        )  # fmt: skip
    yield mail.message(
        replace(
            found, provider_id=next(iter(found.headers.ids("message-id")), None) or form.text("token"),
            sent_to=[recipient] if recipient else (), routed_to=mail.routed_to([recipient] if recipient else []),
            checked=_checked(found.headers) or found.checked, data=kept(envelope_from=form.text("sender")),
        )
    )  # fmt: skip


def _headers(form: Form) -> list[tuple[str, str]]:
    try:
        given = payloads.decode(form.raw("message-headers"))
    except Unreadable:
        given = []
    pairs = [one for one in given if _is_pair(one)] if isinstance(given, list) else []
    named = {name.lower() for name, _ in pairs}
    # Without the headers there are still the fields that are made of them.
    fields = {"subject": form.text("subject"), "from": form.text("from"), "message-id": form.text("Message-Id")}
    return [*pairs, *((name, value) for name, value in fields.items() if value is not None and name not in named)]


def _is_pair(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(isinstance(one, str) for one in given)


def _sender(form: Form, headers: Headers) -> tuple[str, str] | None:
    named = headers.addresses("from")
    envelope = form.text("sender")
    return named[0] if named else ("", envelope) if envelope else None


def _attachments(form: Form) -> Iterator[Attachment]:
    for file in form.files:
        yield mail.attachment(
            reference=file.field, content_type=file.content_type, name=file.name, bytes_count=file.bytes_count
        )
    try:
        stored = payloads.decode(form.raw("attachments") or b"[]")
    except Unreadable:
        return
    for one in objects({"stored": stored}, "stored"):
        yield mail.attachment(
            reference=text(one, "url"), content_type=text(one, "content-type"), name=text(one, "name"),
            bytes_count=number(one, "size"),
        )  # fmt: skip


def _checked(headers: Headers) -> dict[str, str]:
    return kept(
        spf=headers.get("x-mailgun-spf").lower(), dkim=headers.get("x-mailgun-dkim-check-result").lower(),
        spam=headers.get("x-mailgun-sflag").lower(),
    )  # fmt: skip


def _happened(body: Json) -> Iterator[Event]:
    event = part(body, "event-data")
    if not event:
        raise Unreadable("It has no event-data.")
    external_id, at = needed(event, "id"), times.epoch(event.get("timestamp"))
    if at is None:
        raise Unreadable("Its timestamp is missing or not a time.")
    kind, recipient = text(event, "event") or "event", text(event, "recipient")
    message_id = text(event, "message", "headers", "message-id")
    if kind in _STATES and message_id is not None:
        yield _state(kind, event, identifier(message_id.strip("<>")), at)
    elif kind not in _REFUSED:
        yield payloads.unknown(event, kind=kind, external_id=external_id, occurred_at=at, person=mail.person(recipient))
    if kind == "clicked":
        yield mail.clicked(
            external_id=external_id, address=recipient, occurred_at=at, url=text(event, "url"), message=message_id
        )
    if kind in _REFUSED:
        yield from mail.consent(
            external_id=external_id, address=recipient, occurred_at=at, granted=False, purpose=_REFUSED[kind],
            evidence=kept(event=kind, message=message_id),
        )  # fmt: skip


def _state(kind: str, event: Json, message_id: str, at: datetime) -> StateChanged:
    status = part(event, "delivery-status")
    failed = kind in {"failed", "rejected", "complained"}
    # What fails for now is tried again.
    temporary = kind == "failed" and text(event, "severity") == "temporary"
    error = kept(
        code=text(status, "code") or text(event, "reason") or kind, reason=text(event, "reason"),
        message=text(status, "message") or text(status, "description") or text(event, "reject", "reason"),
    )  # fmt: skip
    return StateChanged(
        external_id=message_id, state="queued" if temporary else _STATES[kind], occurred_at=at,
        person=mail.person(text(event, "recipient")), error=error if failed else None,
        data=mail.weakly()
        if kind == "opened"
        else kept(event=kind, temporary=temporary, reference=text(event, "user-variables", "reference")),
    )  # fmt: skip
