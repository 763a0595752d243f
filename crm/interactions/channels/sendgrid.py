"""SendGrid: mail that Inbound Parse hands over, and what became of mail that it sent.

Parsed mail comes with a password in the URL. Events are signed, once the account has the key to check them with.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from crm.interactions.channels import forms, mail, passwords, payloads, signatures, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Attachment, Event, State, StateChanged
from crm.interactions.channels.forms import Form
from crm.interactions.channels.mail import Headers, Mail
from crm.interactions.channels.payloads import Json, Unreadable, identifier, kept, needed, part, text

CHANNEL = mail.CHANNEL
SECRETS: tuple[str, ...] = (passwords.SECRET, "public_key")
REQUIRED: tuple[str, ...] = ()
"""Either is enough for its half of what comes; without any, `verify` refuses everything."""
REFUSED_STATUS: Final = 503
"""A 4xx loses mail without a bounce; after a 5xx it tries for three days, in which a wrong secret can be put right."""

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
SENT_FROM: Final = "sendgrid.net"

_STATES: Final[Mapping[str, State]] = {
    "processed": "queued", "deferred": "queued", "delivered": "delivered", "open": "read", "click": "read",
    "bounce": "failed", "dropped": "failed", "spamreport": "failed",
}  # fmt: skip
_CONSENTS: Final = {
    "spamreport": (False, "all"), "unsubscribe": (False, "marketing"), "group_unsubscribe": (False, "marketing"),
    "resubscribe": (True, "marketing"), "group_resubscribe": (True, "marketing"),
}  # fmt: skip


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: SendGrid does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    if account.secrets.get("public_key") and (SIGNATURE in delivery.headers or not forms.is_form(delivery)):
        _check_signature(delivery, account)
    else:
        passwords.check(delivery, account)


def key(delivery: Delivery) -> str | None:
    """None: a batch of events may come again with others in it."""
    return None


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    if forms.is_form(delivery):
        return forms.events(delivery, lambda form: _received(delivery, form))
    return _batch(delivery)


def _batch(delivery: Delivery) -> Iterator[Event]:
    try:
        found = payloads.decode(delivery.body)
    except Unreadable as error:
        yield forms.unreadable(delivery, error)
    else:
        yield from payloads.each(found if isinstance(found, list) else [found], _happened, kind="event")


def _check_signature(delivery: Delivery, account: ChannelAccount) -> None:
    secret = signatures.secret(account, "public_key")
    try:
        pem = secret.lstrip().startswith(b"-----")
        public_key = load_pem_public_key(secret) if pem else load_der_public_key(base64.b64decode(secret))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureInvalid("The secret 'public_key' is no key. Copy it from the webhook's settings.") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise SignatureInvalid("The secret 'public_key' is a key of another kind: it has to be an elliptic curve's.")
    signed = delivery.headers.get(TIMESTAMP, "").encode(errors="replace") + delivery.body
    try:
        public_key.verify(base64.b64decode(delivery.headers.get(SIGNATURE, "")), signed, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalid("The signature is missing, of other bytes, or by another key.") from error


def _received(delivery: Delivery, form: Form) -> Iterator[Event]:
    charset = _charsets(form)
    envelope = part({"body": _json(form.raw("envelope"))}, "body")
    recipients = [one for one in _list(envelope.get("to")) if isinstance(one, str)]
    raw = form.raw("email")
    if raw:
        found = mail.parse(raw, received_at=delivery.received_at)
    else:
        headers = Headers.of([
            *_headers(form.text("headers") or ""),
            *(
                (name, value)
                for name in ("from", "to", "cc", "subject")
                if (value := form.text(name, charset.get(name))) is not None
            ),
        ])  # fmt: skip
        found = Mail(
            headers=headers, received_at=delivery.received_at, text=form.text("text", charset.get("text")),
            html=form.text("html", charset.get("html")), attachments=list(_attachments(form)),
        )  # fmt: skip
    yield mail.message(
        replace(
            found, sent_to=recipients, sent_from=SENT_FROM, routed_to=mail.routed_to(recipients),
            checked=_checked(form) or found.checked,
            data=kept(envelope_from=text(envelope, "from"), spam_score=form.text("spam_score")),
        )
    )  # fmt: skip


def _json(raw: bytes) -> Any:
    try:
        return payloads.decode(raw)
    except Unreadable:
        return None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _charsets(form: Form) -> dict[str, str]:
    given = part({"body": _json(form.raw("charsets"))}, "body")
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _headers(block: str) -> Iterator[tuple[str, str]]:
    """The headers of a mail as they stand above it, those folded over several lines put together."""
    name, value = "", ""
    for line in block.splitlines():
        if line[:1] in {" ", "\t"}:
            value += f" {line.strip()}"
            continue
        if name:
            yield name, value
        name, _, value = line.partition(":")
    if name:
        yield name, value


def _attachments(form: Form) -> Iterator[Attachment]:
    told = part({"body": _json(form.raw("attachment-info"))}, "body")
    for file in form.files:
        yield mail.attachment(
            reference=file.field, content_type=text(told, file.field, "type") or file.content_type,
            name=text(told, file.field, "filename") or file.name, bytes_count=file.bytes_count,
            content_id=text(told, file.field, "content-id"),
        )  # fmt: skip


def _checked(form: Form) -> dict[str, str]:
    # One verdict for each domain that signed: `{@example.com : pass}`.
    dkim = (form.text("dkim") or "").strip("{} ")
    return kept(spf=(form.text("SPF") or "").lower(), dkim=dkim if dkim != "none" else None)


def _happened(event: Json) -> Iterator[Event]:
    kind, external_id = text(event, "event") or "event", needed(event, "sg_event_id")
    recipient, at = text(event, "email"), times.epoch(event.get("timestamp"))
    message_id = _message_id(event)
    if at is None:
        raise Unreadable("Its timestamp is missing or not a time.")
    if kind in _STATES and message_id is not None:
        failed = _STATES[kind] == "failed" or kind == "deferred"
        error = kept(
            code=text(event, "status") or text(event, "type") or kind,
            message=text(event, "reason") or text(event, "response"),
            classification=text(event, "bounce_classification"),
        )  # fmt: skip
        yield StateChanged(
            external_id=message_id, state=_STATES[kind], occurred_at=at, person=mail.person(recipient),
            error=error if failed else None,
            data=mail.weakly()
            if kind == "open"
            else kept(event=kind, smtp_id=text(event, "smtp-id"), reference=text(event, "reference")),
        )  # fmt: skip
    elif kind not in _CONSENTS:
        yield payloads.unknown(
            dict(event), kind=kind, external_id=external_id, occurred_at=at, person=mail.person(recipient)
        )
    if kind == "click":
        yield mail.clicked(
            external_id=external_id, address=recipient, occurred_at=at, url=text(event, "url"), message=message_id
        )
    if kind in _CONSENTS:
        granted, purpose = _CONSENTS[kind]
        yield from mail.consent(
            external_id=external_id, address=recipient, occurred_at=at, granted=granted, purpose=purpose,
            evidence=kept(event=kind, message=message_id, group=text(event, "asm_group_id")),
        )  # fmt: skip


def _message_id(event: Json) -> str | None:
    """By what the sender of a mail knows it: the beginning of a longer id, or what stands before the @ of another."""
    beginning = (text(event, "sg_message_id") or "").partition(".")[0]
    if beginning and not beginning.startswith("filter"):
        return identifier(beginning)
    smtp_id = (text(event, "smtp-id") or "").strip("<> ")
    local, _, domain = smtp_id.rpartition("@")
    return identifier(local if local and domain.endswith(SENT_FROM) else smtp_id) or None
