"""Mail, whoever takes it in for us: one shape for what all of them hand over, and for mail as it is sent (RFC 5322)."""

import email
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import MessageError
from email.message import Message as Mime
from email.policy import compat32
from email.utils import getaddresses
from itertools import islice
from typing import Any, Final

from crm.interactions.channels import charsets, mail_text, times
from crm.interactions.channels.events import Address, Attachment, ConsentChanged, Event, Happened, Message, Person
from crm.interactions.channels.payloads import ID_LENGTH_MAX, Unreadable, digest, kept

CHANNEL: Final = "email"
ATTACHMENTS_MAX: Final = 200
PARTS_MAX: Final = 1_000
REFERENCES_MAX: Final = 100
HEADER_MAX: Final = 50_000
"""How much of one header is looked at, in characters."""

_MESSAGE_ID: Final = re.compile(r"<([^<>\s]{1,400})>")
_ADDRESS: Final = re.compile(r"[^@\s<>]{1,200}@[^@\s<>]{1,250}")
_POSTMASTERS: Final = frozenset({"mailer-daemon", "postmaster"})
_BULK: Final = frozenset({"bulk", "list", "junk"})
_VERDICTS: Final = re.compile(r"\b(spf|dkim|dmarc)=([a-z]+)", re.IGNORECASE)
_BODIES: Final = ("text/plain", "text/html")
_ORIGINALS: Final = frozenset({"message/rfc822", "text/rfc822-headers", "message/rfc822-headers"})
_MEDIA: Final = frozenset({"image", "audio", "video"})


@dataclass(frozen=True, slots=True)
class Headers:
    """A mail's headers in their order, encoded words read."""

    pairs: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Headers":
        """Headers as they stand in the mail."""
        return cls([(name.strip().lower(), charsets.unfolded(value[:HEADER_MAX])) for name, value in pairs])

    def get(self, name: str) -> str:
        """The first header of this name; empty where there is none."""
        return next((value for each, value in self.pairs if each == name), "")

    def ids(self, name: str) -> list[str]:
        """The message ids in a header, without their brackets."""
        return _MESSAGE_ID.findall(self.get(name))[:REFERENCES_MAX]

    def addresses(self, *names: str) -> list[tuple[str, str]]:
        """The names and addresses in all headers of these names."""
        try:
            found = getaddresses([value for name, value in self.pairs if name in names])
        except (RecursionError, IndexError, ValueError):  # such as of comments within comments within comments
            return []
        return [(name.strip(), address) for name, address in found if _ADDRESS.fullmatch(address)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A mail that was received. `provider_id` is what whoever took it in calls it.

    `new_text` is what they found to be new in it, `routed_to` what a plus sign in our own address says (what follows
    it), `sent_to` who it was delivered to and `checked` what they found out about its sender. Under the domain
    `sent_from` they send mail of ours, with ids in front of it by which the mail is known here.
    """

    headers: Headers
    received_at: datetime
    text: str | None = None
    html: str | None = None
    new_text: str | None = None
    attachments: Sequence[Attachment] = ()
    provider_id: str | None = None
    sender: tuple[str, str] | None = None
    sent_to: Sequence[str] = ()
    sent_from: str | None = None
    routed_to: str | None = None
    checked: dict[str, str] = field(default_factory=dict)
    bounced: dict[str, str] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def message(mail: Mail) -> Event:
    """The mail as a message. Raises Unreadable where nobody sent it.

    Whoever it says that it is from is not verified: even a signature that fits proves the domain and not the person.
    """
    headers = mail.headers
    senders = [mail.sender] if mail.sender is not None else headers.addresses("from", "sender")
    about = mail.bounced.get("recipient")
    if not senders and about is None:
        raise Unreadable("It has no sender.")
    name, address = ("", about) if about is not None else senders[0]
    kind = _automatic(headers, mail.bounced, address)
    text, quoted = _text(mail)
    message_id = next(iter(headers.ids("message-id")), None)
    answered = headers.ids("in-reply-to")
    references = headers.ids("references")
    dated = times.of_mail(headers.get("date"))
    replies_to = [one for _, one in headers.addresses("reply-to")]
    return Message(
        external_id=_id(mail, message_id),
        person=Person(addresses=[Address(kind="email", value=address)], name=name or None),
        # The clock of a sender may be ahead; nothing has happened that is still to come.
        occurred_at=mail.received_at if dated is None else min(dated, mail.received_at),
        kind="bounce" if kind == "bounce" else "message",
        subject=headers.get("subject") or None,
        text=text,
        attachments=mail.attachments,
        reply_to=_known(mail.bounced.get("message_id") or next(iter(answered or references[-1:]), None), mail),
        # The first of the references is the mail with which it all began.
        thread_hint=mail.routed_to or next(iter(references or answered), message_id),
        data=kept(
            message_id=message_id, references=references, to=list(mail.sent_to) or _to(headers),
            reply_to=[one for one in replies_to if one.lower() != address.lower()], automatic=kind, quoted=quoted,
            bounced=mail.bounced, authentication=mail.checked, **mail.data,
        ),
    )  # fmt: skip


def parse(raw: bytes, *, received_at: datetime, ours: str | None = None) -> Mail:
    """A mail as it is sent. `ours` is the address that took it in, if we know. Raises Unreadable."""
    try:
        mime = email.message_from_bytes(raw, policy=compat32)
        headers = Headers.of(_raw_headers(mime))
        bodies, attachments, bounced = _parts(mime)
    except (MessageError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"This is not a mail that can be read: {error}.") from error
    if not headers.pairs:
        raise Unreadable("This is not a mail: it has no headers.")
    delivered_to = [one for _, one in headers.addresses("delivered-to", "x-original-to", "envelope-to")]
    # Whose the others are that it was sent to, nobody can tell without knowing which is ours.
    named = [one for _, one in headers.addresses("to", "cc")] if ours is not None else []
    return Mail(
        headers=headers, received_at=received_at, text=bodies.get("text/plain"), html=bodies.get("text/html"),
        attachments=attachments, routed_to=routed_to([*delivered_to, *named], ours=ours),
        checked=_checked(headers), bounced=bounced,
    )  # fmt: skip


def routed_to(recipients: Iterable[str], *, ours: str | None = None) -> str | None:
    """What follows the plus sign in an address of ours: `inbox+HASH@example.com`; of any, where ours is not known."""
    mailbox, _, domain = (ours or "").lower().rpartition("@")
    for address in recipients:
        local, _, at = address.rpartition("@")
        name, plus, rest = local.partition("+")
        if plus and rest and (not mailbox or (name.lower(), at.lower()) == (mailbox.partition("+")[0], domain)):
            return rest[:ID_LENGTH_MAX]
    return None


def person(address: str | None, name: str | None = None) -> Person | None:
    """Somebody by their address, which nobody has proven to be theirs."""
    return Person(addresses=[Address(kind="email", value=address)], name=name) if address else None


def consent(
    *, external_id: str, address: str | None, occurred_at: datetime, granted: bool, purpose: str,
    evidence: dict[str, Any],
) -> Iterator[Event]:  # fmt: skip
    """Whether somebody wants mail. Raises Unreadable where it is not said who."""
    recipient = person(address)
    if recipient is None:
        raise Unreadable("It does not say whose consent it is.")
    yield ConsentChanged(
        external_id=external_id, person=recipient, occurred_at=occurred_at, granted=granted, channel=CHANNEL,
        purpose=purpose, evidence=evidence,
    )  # fmt: skip


def clicked(
    *, external_id: str, address: str | None, occurred_at: datetime, url: str | None, message: str | None
) -> Event:
    """Somebody followed a link in a mail of ours."""
    return Happened(
        external_id=external_id, person=person(address), occurred_at=occurred_at, kind="mail.clicked",
        data=kept(url=url, message=message),
    )  # fmt: skip


def weakly(**facts: Any) -> dict[str, Any]:
    """What goes with a mail that is said to be opened: a picture was loaded, and programs do that by themselves."""
    return {"weak": True, **kept(**facts)}


def attachment(
    *, reference: str | None, content_type: str | None, name: str | None, bytes_count: int | None,
    content_id: str | None = None,
) -> Attachment:  # fmt: skip
    """A file that stays with its delivery; `reference` is its place there, or where its provider keeps it."""
    kind = (content_type or "").partition("/")[0].strip().lower()
    return Attachment(
        kind=kind if kind in _MEDIA else "file", reference=reference, content_type=content_type or None,
        name=name or None, bytes_count=bytes_count, data=kept(content_id=(content_id or "").strip("<> ")),
    )  # fmt: skip


def _id(mail: Mail, message_id: str | None) -> str:
    return mail.provider_id or message_id or digest([list(pair) for pair in mail.headers.pairs] + [mail.text])


def _known(message_id: str | None, mail: Mail) -> str | None:
    local, _, domain = (message_id or "").rpartition("@")
    of_theirs = mail.sent_from is not None and f".{domain.lower()}".endswith(f".{mail.sent_from}")
    return local if local and of_theirs else message_id


def _to(headers: Headers) -> list[str]:
    return [address for _, address in headers.addresses("to", "cc")][:ATTACHMENTS_MAX]


def _text(mail: Mail) -> tuple[str | None, bool]:
    if mail.new_text and mail.new_text.strip():
        return mail.new_text.strip(), False
    whole = mail.text if mail.text and mail.text.strip() else mail_text.of_html(mail.html or "")
    text, quoted = mail_text.new_text(whole)
    return text or None, quoted


def _automatic(headers: Headers, bounced: dict[str, str], sender: str) -> str | None:
    """What kind of machine sent it, if it was one: nobody is waiting for an answer then."""
    submitted = headers.get("auto-submitted").partition(";")[0].strip().lower()
    precedence = headers.get("precedence").lower()
    if bounced:
        return "bounce" if bounced.get("action", "failed") == "failed" else "delivery_report"
    if sender.partition("@")[0].lower() in _POSTMASTERS or headers.get("x-failed-recipients"):
        return "bounce"
    replied = precedence == "auto_reply" or headers.get("x-autoreply") or headers.get("x-autorespond")
    if replied or submitted not in {"", "no"}:
        return "auto_reply"
    if headers.get("return-path") == "<>":
        return "bounce"
    return "bulk" if precedence in _BULK or headers.get("list-id") else None


def _checked(headers: Headers) -> dict[str, str]:
    # Only the first was written by the server that took it in; whoever sent it may have written the others.
    found = _VERDICTS.findall(headers.get("authentication-results"))
    return {check.lower(): verdict.lower() for check, verdict in found[:10]}


def _raw_headers(mime: Mime) -> Iterator[tuple[str, str]]:
    for name, value in mime.raw_items():
        yield name, charsets.decoded(str(value).encode("utf-8", "surrogateescape"), None)


def _parts(mime: Mime) -> tuple[dict[str, str], list[Attachment], dict[str, str]]:
    bodies: dict[str, str] = {}
    attachments: list[Attachment] = []
    report: dict[str, str] = {}
    for place, part in islice(_leaves(mime), PARTS_MAX):
        content_type = part.get_content_type()
        if content_type == "message/delivery-status":
            report |= _delivery_status(part)
        elif report and content_type in _ORIGINALS:
            report |= kept(message_id=_original(part))
        elif content_type in _BODIES and content_type not in bodies and not _is_file(part):
            bodies[content_type] = charsets.decoded(_content(part), _charset(part))
        else:
            attachments.append(
                attachment(
                    reference=f"part/{place}", content_type=content_type, bytes_count=len(_content(part)) or None,
                    name=charsets.unfolded(str(part.get_filename() or "")),
                    content_id=str(part.get("content-id", "")),
                )
            )  # fmt: skip
    return bodies, attachments[:ATTACHMENTS_MAX], report


def _leaves(mime: Mime, place: str = "") -> Iterator[tuple[str, Mime]]:
    """The parts in their order, each with its place; a mail within the mail is one part."""
    payload = mime.get_payload()
    if mime.get_content_maintype() != "multipart" or not isinstance(payload, list):
        yield place or "1", mime
        return
    for number, part in enumerate(payload, 1):
        if isinstance(part, Mime):
            yield from _leaves(part, f"{place}.{number}".lstrip("."))


def _is_file(part: Mime) -> bool:
    disposition = str(part.get("content-disposition", "")).partition(";")[0].strip().lower()
    return disposition == "attachment" or part.get_filename() is not None


def _original(part: Mime) -> str | None:
    """The id of the mail that a report is about: it brings that mail, or its headers as text."""
    payload = part.get_payload()
    inner = payload[0] if isinstance(payload, list) and payload and isinstance(payload[0], Mime) else None
    headers = Headers.of(_raw_headers(inner if inner is not None else email.message_from_bytes(_content(part))))
    return next(iter(headers.ids("message-id")), None)


def _content(part: Mime) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _charset(part: Mime) -> str | None:
    charset = part.get_param("charset")
    return charset if isinstance(charset, str) else None


def _delivery_status(part: Mime) -> dict[str, str]:
    """For whom a mail of ours failed, as a report about it says (RFC 3464)."""
    fields = Headers.of(pair for block in part.walk() for pair in _raw_headers(block))
    recipient = fields.get("final-recipient") or fields.get("original-recipient")
    address = recipient.rpartition(";")[2].strip().strip("<>")
    return kept(
        action=fields.get("action").lower(), status=fields.get("status"), diagnostic=fields.get("diagnostic-code"),
        recipient=address if _ADDRESS.fullmatch(address) else None,
    )  # fmt: skip
