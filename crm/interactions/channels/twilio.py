"""Twilio: SMS, WhatsApp and other messaging by Twilio, calls and their recordings.

Whoever writes or calls by telephone can have forged the number, so only those known from WhatsApp are verified.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final
from urllib.parse import parse_qsl, urlencode

from crm.interactions.channels import payloads, signatures, whatsapp
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import (
    Address,
    Attached,
    Attachment,
    ConsentChanged,
    Event,
    Happened,
    Message,
    Person,
    State,
    StateChanged,
)
from crm.interactions.channels.payloads import Json, Unreadable, identifier, kept, named, needed, number, text

CHANNEL = "sms"
SECRETS: tuple[str, ...] = ("auth_token",)
REQUIRED: tuple[str, ...] = SECRETS

SIGNATURE: Final = "x-twilio-signature"
RETRIED: Final = "i-twilio-idempotency-token"
REFERENCE: Final = "reference"
"""A parameter of the address that we have it tell what becomes of a message of ours: our name for it."""
BODY_SUM: Final = "bodySHA256"
FIELDS_MAX: Final = 1_000
MEDIA_MAX: Final = 100
CALL_SECONDS_MAX: Final = 604_800

STOP: Final = frozenset({
    "STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "REVOKE", "BERHENTI", "UNREG",
})  # fmt: skip
"""What ends it, alone in a message; the English words are those after which Twilio itself sends nothing more."""
START: Final = frozenset({"START", "UNSTOP"})
"""What allows it again. Twilio takes a `YES` for it too, but that can be the answer to anything."""

_STATES: Final[dict[str, State]] = {
    "accepted": "queued", "scheduled": "queued", "queued": "queued", "sending": "queued", "sent": "sent",
    "delivered": "delivered", "read": "read", "undelivered": "failed", "failed": "failed", "canceled": "failed",
}  # fmt: skip
_INBOUND: Final = frozenset({"receiving", "received"})
_SIDS: Final = ("MessageSid", "SmsSid", "SmsMessageSid")
_ENDED: Final = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_NOBODY: Final = frozenset({
    "ANONYMOUS", "BLOCKED", "RESTRICTED", "UNAVAILABLE", "UNKNOWN",
    "266696687", "2562533", "7378742883", "86282452253", "8656696",
})  # fmt: skip
"""Who calls where the number is withheld; the digits are these words on a telephone's keys."""
_ADDRESSED: Final = frozenset({"whatsapp", "messenger", "rcs"})
"""How an address begins that is not of a telephone; our channels have the same names."""
_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]*?)(?P<port>:\d+)?(?P<rest>([/?#].*)?)", re.DOTALL)


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Twilio does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """The signature is over the address that Twilio called and the fields of its form, or over the address alone.

    In that case there is a sum of the body in the address. Raises SignatureInvalid.
    """
    secret = signatures.secret(account, "auth_token")
    try:
        sums = [value for name, value in parse_qsl(delivery.url.partition("?")[2]) if name == BODY_SUM]
        fields = [] if sums else sorted(set(_fields(delivery.body)))
    except ValueError as error:
        raise SignatureInvalid(f"This is not a form that can be read: {error}.") from error
    if sums:
        signatures.check(sums[0], [hashlib.sha256(delivery.body).hexdigest().encode()])
    signatures.check(
        delivery.headers.get(SIGNATURE), [_signature(secret, url, fields) for url in _urls(delivery, account)]
    )


def key(delivery: Delivery) -> str | None:
    """The same for all repeats of a call to us."""
    return delivery.headers.get(RETRIED)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says: of one message or call."""
    read = partial(_read, delivery.received_at, delivery.query.get(REFERENCE))
    if "json" in delivery.headers.get("content-type", ""):
        return payloads.events(delivery.body, read)
    try:
        form = {_readable(name): _readable(value) for name, value in _fields(delivery.body)}
    except ValueError as error:
        body = _readable(delivery.body[: payloads.SHOWN_MAX].decode(errors="surrogateescape"))
        return iter([payloads.unknown(body, kind="body", reason=f"This is not a form that can be read: {error}.")])
    return payloads.each([form], read, kind="form")


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A text to try the account with, signed with its own token."""
    form = {
        "Body": "This is a test.", "From": "+12025550100", "MessageSid": "SMtest", "NumMedia": "0",
        "SmsStatus": "received", "To": account.ref,
    }  # fmt: skip
    signature = _signature(signatures.secret(account, "auth_token"), url, sorted(form.items()))
    return Delivery(
        method="POST", url=url, headers={SIGNATURE: signature.decode()}, query={}, body=urlencode(form).encode(),
        received_at=now,
    )  # fmt: skip


def _signature(secret: bytes, url: str, fields: list[tuple[str, str]]) -> bytes:
    signed = url.encode(errors="replace") + "".join(map("".join, fields)).encode(errors="surrogateescape")
    return signatures.sha1_base64(secret, signed)


def _fields(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(
        body.decode(errors="surrogateescape"), keep_blank_values=True, errors="surrogateescape",
        max_num_fields=FIELDS_MAX,
    )  # fmt: skip


def _readable(value: str) -> str:
    return value.encode(errors="surrogateescape").decode(errors="replace").replace("\x00", "\ufffd")


def _urls(delivery: Delivery, account: ChannelAccount) -> set[str]:
    """How Twilio may have written the address: behind a proxy another than arrives here, with its port or without."""
    called = _URL.fullmatch(delivery.url)
    if called is None:
        return {delivery.url}
    rest = called["rest"]
    public = _URL.fullmatch(account.settings.get("public_url", ""))
    found = _with_ports(called, rest)
    if public:
        found |= _with_ports(public, rest) | _with_ports(public, public["rest"].rstrip("/") + rest)
    return found


def _with_ports(at: re.Match[str], rest: str) -> set[str]:
    ports = {"", at["port"] or "", ":443" if at["scheme"] == "https" else ":80"}
    return {f"{at['scheme']}://{at['host']}{port}{rest}" for port in ports}


def _read(received_at: datetime, reference: str | None, form: Json) -> Iterator[Event]:
    status = text(form, "CallStatus")
    if text(form, "TranscriptionSid"):
        yield _transcription(form, received_at)
    elif text(form, "RecordingSid") and status not in _ENDED:
        yield _recording(form, received_at)
    elif status:
        yield _call(form, status, received_at)
    elif any(form.get(name) for name in _SIDS):
        yield from _message(form, reference, received_at)
    else:
        yield payloads.unknown(form, kind=text(form, "EventType") or "form", occurred_at=received_at)


def _message(form: Json, reference: str | None, at: datetime) -> Iterator[Event]:
    sid = needed(form, next(name for name in _SIDS if form.get(name)))
    status = text(form, "MessageStatus") or text(form, "SmsStatus") or "received"
    if status not in _INBOUND:
        yield _status(form, sid, status, reference, at)
        return
    channel, person = _channel(form), _person(form, "From", "To")
    if person is None:
        raise Unreadable("It has no sender who is known.")
    yield Message(
        external_id=sid, person=person, occurred_at=at, channel=channel, text=text(form, "Body"),
        attachments=list(_attachments(form)), reply_to=text(form, "OriginalRepliedMessageSid"),
        data=kept(
            to=text(form, "To"), service=text(form, "MessagingServiceSid"), segments=number(form, "NumSegments"),
            payload=text(form, "ButtonPayload"), city=text(form, "FromCity"), country=text(form, "FromCountry"),
            forwarded=text(form, "Forwarded") == "true", ad=text(form, "ReferralSourceUrl"),
        ),
    )  # fmt: skip
    granted = _wish(form)
    if granted is not None:
        yield ConsentChanged(
            external_id=identifier(f"{sid}:consent"), person=person, occurred_at=at, granted=granted, channel=channel,
            purpose="all", evidence=kept(message=sid, text=text(form, "Body"), opt_out=text(form, "OptOutType")),
        )  # fmt: skip


def _wish(form: Json) -> bool | None:
    """Whether somebody allows to be written to, where this is what they say."""
    told = text(form, "OptOutType")
    words = (told or text(form, "Body") or "").upper().split()
    word = words[0].strip(".,!\"'") if words else ""
    # As it is usual in Indonesia, with the name of what one has enough of behind it.
    if word in STOP and (len(words) == 1 or word == "UNREG"):
        return False
    return True if word in START and len(words) == 1 else None


def _status(form: Json, sid: str, status: str, reference: str | None, at: datetime) -> Event:
    person, state = _person(form, "To", "From"), _STATES.get(status)
    if state is None:
        return payloads.unknown(
            form, kind=f"status.{status}", external_id=identifier(f"{sid}:{status}"), occurred_at=at, person=person
        )
    code = text(form, "ErrorCode") or (status if status == "canceled" else None)
    return StateChanged(
        external_id=sid, state=state, occurred_at=at, person=person,
        error=kept(code=code, message=text(form, "ErrorMessage")) or None,
        data=kept(status=status, channel_status=text(form, "ChannelStatusMessage"), reference=reference),
    )  # fmt: skip


def _call(form: Json, status: str, received_at: datetime) -> Event:
    sid, outbound = needed(form, "CallSid"), (text(form, "Direction") or "").startswith("outbound")
    at = _time(form, "Timestamp") or received_at
    seconds = number(form, "CallDuration")
    if text(form, "ParentCallSid"):
        return payloads.unknown(
            form, kind="call.leg", external_id=identifier(f"{sid}:{status}"), occurred_at=at,
            reason="At this end of a call may be somebody of ours; the call is told of by its first leg.",
        )  # fmt: skip
    person = _person(form, "To", "From") if outbound else _person(form, "From", "To")
    data = kept(
        status=status, duration_seconds=seconds, number=text(form, "From" if outbound else "To"),
        answered_by=text(form, "AnsweredBy"), forwarded_from=text(form, "ForwardedFrom"),
        city=text(form, "FromCity"), country=text(form, "FromCountry"),
    )  # fmt: skip
    if status not in _ENDED:
        return Happened(
            external_id=identifier(f"{sid}:{status}"), person=person, occurred_at=at, channel="phone",
            kind=named("call", status), data={"call": sid, **data},
        )  # fmt: skip
    began = at - timedelta(seconds=min(seconds or 0, CALL_SECONDS_MAX))
    if person is None:
        return Happened(external_id=sid, person=None, occurred_at=began, channel="phone", kind="call", data=data)
    return Message(
        external_id=sid, person=person, occurred_at=began, channel="phone", kind="call",
        direction="outbound" if outbound else "inbound", data=data,
        attachments=[_recorded(form)] if text(form, "RecordingUrl") else [],
    )  # fmt: skip


def _recording(form: Json, received_at: datetime) -> Event:
    sid, call, status = needed(form, "RecordingSid"), needed(form, "CallSid"), text(form, "RecordingStatus")
    if status not in {None, "completed"} or not text(form, "RecordingUrl"):
        return payloads.unknown(
            form, kind=f"recording.{status}", external_id=identifier(f"{sid}:{status}"), occurred_at=received_at
        )
    at = _time(form, "RecordingStartTime") or received_at
    return Attached(external_id=sid, to=call, occurred_at=at, attachments=[_recorded(form)])


def _recorded(form: Json) -> Attachment:
    return Attachment(
        kind="recording", reference=text(form, "RecordingUrl"),
        data=kept(
            id=text(form, "RecordingSid"), duration_seconds=number(form, "RecordingDuration"),
            channels=number(form, "RecordingChannels"),
        ),
    )  # fmt: skip


def _transcription(form: Json, received_at: datetime) -> Event:
    sid, status = needed(form, "TranscriptionSid"), text(form, "TranscriptionStatus")
    if status != "completed":
        return payloads.unknown(
            form, kind=f"transcription.{status}", external_id=identifier(f"{sid}:{status}"), occurred_at=received_at
        )
    said = Attachment(
        kind="transcript", reference=text(form, "TranscriptionUrl"),
        data=kept(text=text(form, "TranscriptionText"), recording=text(form, "RecordingSid")),
    )  # fmt: skip
    return Attached(external_id=sid, to=needed(form, "CallSid"), occurred_at=received_at, attachments=[said])


def _attachments(form: Json) -> Iterator[Attachment]:
    for place in range(min(number(form, "NumMedia") or 0, MEDIA_MAX)):
        content_type = text(form, f"MediaContentType{place}")
        kind = (content_type or "").partition("/")[0]
        yield Attachment(
            kind=kind if kind in {"image", "audio", "video"} else "file", reference=text(form, f"MediaUrl{place}"),
            content_type=content_type,
        )  # fmt: skip
    if text(form, "Latitude") and text(form, "Longitude"):
        members = ("Latitude", "Longitude", "Address")
        yield Attachment(
            kind="location", name=text(form, "Label"), data=kept(**{name.lower(): form.get(name) for name in members})
        )


def _channel(form: Json) -> str:
    prefix = (text(form, "From") or "").rpartition(":")[0]
    return "sms" if prefix not in _ADDRESSED else prefix


def _person(form: Json, member: str, other: str) -> Person | None:
    """Who is at one end of a message or call, if it is anybody who can be known again."""
    prefix, _, value = (text(form, member) or "").rpartition(":")
    found: list[Address] = []
    if prefix == "whatsapp":
        sender = text(form, "WaId") if member == "From" else None
        found = whatsapp.addresses(number=sender or value, user_id=text(form, "ExternalUserId") or value)
    elif prefix == "messenger" and value:
        page = (text(form, other) or "").rpartition(":")[2]
        found = [Address(kind="messenger", value=value, account=page, verified=True)]
    elif prefix in {"", "rcs"} and value and value.lstrip("+").upper() not in _NOBODY:
        found = [Address(kind="phone", value=value)]
    return Person(addresses=found, name=text(form, "ProfileName") or text(form, "CallerName")) if found else None


def _time(form: Json, member: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text(form, member) or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
