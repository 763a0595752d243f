"""Postmark: mail that it takes in, and what became of mail that it sent. It signs nothing and knows a password."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from crm.interactions.channels import mail, passwords, payloads, times
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import Attachment, Event, Happened, Person, StateChanged
from crm.interactions.channels.mail import Headers, Mail
from crm.interactions.channels.payloads import Json, kept, needed, number, objects, text

CHANNEL = mail.CHANNEL
SECRETS: tuple[str, ...] = (passwords.SECRET,)
REQUIRED: tuple[str, ...] = SECRETS
REFUSED_STATUS: Final = 401
"""After a 403 it never tries again."""

TRACE: Final = "x-pm-webhook-trace-id"
SENT_FROM: Final = "mtasv.net"
"""What it sends has ids under this name: in front of it stands the id that it gave the sender."""

_NO_FAILURES: Final = frozenset({
    "AddressChange", "AutoResponder", "ChallengeVerification", "OpenRelayTest", "Subscribe", "Unsubscribe",
})  # fmt: skip
"""Answers of machines that it takes for bounces: the mail did arrive."""


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Postmark does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    passwords.check(delivery, account)


def key(delivery: Delivery) -> str | None:
    """The same for all attempts; mail that it takes in has none."""
    return delivery.headers.get(TRACE)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, partial(_record, delivery))


def _record(delivery: Delivery, record: Json) -> Iterator[Event]:
    kind = text(record, "RecordType") or "Inbound"
    if kind in _READERS:
        yield from _READERS[kind](delivery, record)
    else:
        yield payloads.unknown(dict(record), kind=kind, external_id=delivery.headers.get(TRACE))


def _received(delivery: Delivery, record: Json) -> Iterator[Event]:
    headers = [(text(one, "Name") or "", text(one, "Value") or "") for one in objects(record, "Headers")]
    # It takes these out of the headers and hands them over by themselves.
    for name, member in {"From": "From", "Subject": "Subject", "Date": "Date", "Reply-To": "ReplyTo"}.items():
        if (value := text(record, member)) is not None:
            headers.append((name, value))
    sender = text(record, "FromFull", "Email")
    called = text(record, "FromFull", "Name") or text(record, "FromName") or ""
    recipients = [address for name in ("ToFull", "CcFull", "BccFull") for address in objects(record, name)]
    yield mail.message(
        Mail(
            headers=Headers.of(headers), received_at=delivery.received_at, text=text(record, "TextBody"),
            html=text(record, "HtmlBody"), new_text=text(record, "StrippedTextReply"),
            attachments=[_attachment(place, one) for place, one in enumerate(objects(record, "Attachments"))],
            provider_id=text(record, "MessageID"),
            sender=(called, sender) if sender is not None else None,
            sent_to=[one for address in recipients if (one := text(address, "Email")) is not None],
            sent_from=SENT_FROM, routed_to=text(record, "MailboxHash") or _hash(recipients),
            checked=_checked(Headers.of(headers)),
            data=kept(tag=text(record, "Tag"), original_recipient=text(record, "OriginalRecipient")),
        )
    )  # fmt: skip


def _hash(recipients: Sequence[Json]) -> str | None:
    return next((found for one in recipients if (found := text(one, "MailboxHash")) is not None), None)


def _attachment(place: int, given: Json) -> Attachment:
    return mail.attachment(
        reference=f"/Attachments/{place}", content_type=text(given, "ContentType"), name=text(given, "Name"),
        bytes_count=number(given, "ContentLength"), content_id=text(given, "ContentID"),
    )  # fmt: skip


def _checked(headers: Headers) -> dict[str, str]:
    tests = headers.get("x-spam-tests").upper()
    spf = headers.get("received-spf").partition(" ")[0].lower() or ("pass" if "SPF_PASS" in tests else "")
    return kept(spf=spf, dkim="pass" if "DKIM_VALID_AU" in tests else None, spam=headers.get("x-spam-status").lower())


def _delivered(delivery: Delivery, record: Json) -> Iterator[Event]:
    yield StateChanged(
        external_id=needed(record, "MessageID"), state="delivered", occurred_at=times.iso(record, "DeliveredAt"),
        person=_recipient(record),
        data=kept(details=text(record, "Details"), tag=text(record, "Tag"), reference=_reference(record)),
    )  # fmt: skip


def _bounced(delivery: Delivery, record: Json) -> Iterator[Event]:
    kind, at = text(record, "Type") or "Unknown", times.iso(record, "BouncedAt")
    if kind in _NO_FAILURES:
        yield Happened(
            external_id=_id(delivery, record, at), person=_recipient(record), occurred_at=at, kind="mail.answered",
            subject=text(record, "Subject"), text=text(record, "Description"), data={"type": kind},
        )  # fmt: skip
        return
    yield StateChanged(
        external_id=needed(record, "MessageID"), state="failed", occurred_at=at, person=_recipient(record),
        error=kept(
            code=kind, title=text(record, "Name"), message=text(record, "Description"), details=text(record, "Details")
        ),
        data=kept(
            inactive=record.get("Inactive") is True, tag=text(record, "Tag"), reference=_reference(record)
        ),
    )  # fmt: skip


def _complained(delivery: Delivery, record: Json) -> Iterator[Event]:
    yield from _bounced(delivery, record)
    at = times.iso(record, "BouncedAt")
    yield from mail.consent(
        external_id=_id(delivery, record, at), address=_address(record), occurred_at=at, granted=False, purpose="all",
        evidence=kept(event="SpamComplaint", message=text(record, "MessageID"), details=text(record, "Details")),
    )  # fmt: skip


def _opened(delivery: Delivery, record: Json) -> Iterator[Event]:
    yield StateChanged(
        external_id=needed(record, "MessageID"), state="read", occurred_at=times.iso(record, "ReceivedAt"),
        person=_recipient(record),
        data=mail.weakly(first=record.get("FirstOpen") is True, agent=text(record, "UserAgent")),
    )  # fmt: skip


def _clicked(delivery: Delivery, record: Json) -> Iterator[Event]:
    at = times.iso(record, "ReceivedAt")
    yield StateChanged(
        external_id=needed(record, "MessageID"), state="read", occurred_at=at, person=_recipient(record),
        data={"by": "click"},
    )  # fmt: skip
    yield mail.clicked(
        external_id=_id(delivery, record, at), address=_address(record), occurred_at=at,
        url=text(record, "OriginalLink"), message=text(record, "MessageID"),
    )  # fmt: skip


def _subscribed(delivery: Delivery, record: Json) -> Iterator[Event]:
    at, suppressed = times.iso(record, "ChangedAt"), record.get("SuppressSending") is True
    reason, origin = text(record, "SuppressionReason"), text(record, "Origin")
    # What the shop's own people did with the list is nobody's consent.
    if origin == "Recipient" and reason != "HardBounce":
        yield from mail.consent(
            external_id=_id(delivery, record, at), address=_address(record), occurred_at=at, granted=not suppressed,
            purpose="all" if reason == "SpamComplaint" else "marketing",
            evidence=kept(event="SubscriptionChange", stream=text(record, "MessageStream"), reason=reason),
        )  # fmt: skip
        return
    yield Happened(
        external_id=_id(delivery, record, at), person=_recipient(record), occurred_at=at,
        kind="mail.suppressed" if suppressed else "mail.reactivated", data=kept(reason=reason, origin=origin),
    )  # fmt: skip


def _address(record: Json) -> str | None:
    return text(record, "Recipient") or text(record, "Email")


def _reference(record: Json) -> str | None:
    """Our own name for a mail that we sent."""
    return text(record, "Metadata", "reference")


def _recipient(record: Json) -> Person | None:
    return mail.person(_address(record))


def _id(delivery: Delivery, record: Json, at: datetime) -> str:
    """By what repetitions are known: events have no id of their own but those of bounces."""
    parts = (text(record, "RecordType"), text(record, "MessageID"), _address(record), at.isoformat())
    return delivery.headers.get(TRACE) or ":".join(one or "" for one in parts)


_READERS: Final[Mapping[str, Callable[[Delivery, Json], Iterator[Event]]]] = {
    "Inbound": _received,
    "Delivery": _delivered,
    "Bounce": _bounced,
    "SpamComplaint": _complained,
    "Open": _opened,
    "Click": _clicked,
    "SubscriptionChange": _subscribed,
}
