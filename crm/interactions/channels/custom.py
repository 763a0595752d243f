"""Our own format, for whatever has no adapter: a live chat, a marketplace, a till, a telephone system.

A delivery is an event, or `{"events": [...]}`. An event is what `events` has, as JSON: its `type` is the name of the
class, in lower case with underscores, and its members are the fields. Times have an offset, money is a text:

    {"type": "message", "external_id": "chat-17", "occurred_at": "2026-11-25T09:30:00+07:00", "text": "Where is it?",
     "person": {"name": "Sari", "addresses": [{"kind": "email", "value": "sari@example.com", "verified": true}]}}

It is signed as Standard Webhooks (https://www.standardwebhooks.com) are, so that their libraries can send it.
"""

import base64
import binascii
import dataclasses
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

import msgspec

from crm.interactions.channels import events as contract
from crm.interactions.channels import payloads, signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Event
from crm.interactions.channels.payloads import Json, Unreadable, identifier, parts, text
from crm.interactions.timeline import RESERVED_KINDS

CHANNEL = "custom"
SECRETS: tuple[str, ...] = ("secret",)
REQUIRED: tuple[str, ...] = SECRETS

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
REPLAYED_MAX: Final = timedelta(minutes=5)
"""How far the sender's clock may be from ours; what was overheard is of no use after that."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret in base64 begins
AMOUNT_MAX: Final = 10**15
DECIMALS_MAX: Final = 6

TYPES: Final = {
    "message": contract.Message,
    "attached": contract.Attached,
    "edited": contract.Edited,
    "unsent": contract.Unsent,
    "state_changed": contract.StateChanged,
    "watermark": contract.Watermark,
    "reaction": contract.Reaction,
    "consent_changed": contract.ConsentChanged,
    "identified": contract.Identified,
    "ordered": contract.Ordered,
    "refunded": contract.Refunded,
    "happened": contract.Happened,
    "privacy_requested": contract.PrivacyRequested,
}

_NAME: Final = re.compile(r"[a-z][a-z0-9_.-]{0,62}", re.ASCII)
_NAMES: Final = frozenset({"kind", "channel", "purpose"})
_IDS: Final = frozenset({"external_id", "to", "reply_to", "order_ref", "refund_ref", "value"})


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: nobody asks."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """The signature is over id, time and body. Raises SignatureInvalid, also for what is not of these minutes."""
    secret = _secret(account)
    given, sent = delivery.headers.get(ID), delivery.headers.get(TIMESTAMP, "")
    if not given or not re.fullmatch(r"[0-9]{1,12}", sent, re.ASCII):
        raise SignatureInvalid(f"A delivery has the headers {ID}, {TIMESTAMP} (in seconds) and {SIGNATURE}.")
    if abs(delivery.received_at.timestamp() - int(sent)) > REPLAYED_MAX.total_seconds():
        raise SignatureInvalid("The delivery is older than five minutes, or its sender's clock is wrong.")
    expected = _signature(secret, given, sent, delivery.body)
    # While a secret is changed, its holder signs with both.
    if not any(signatures.equal(one, expected) for one in delivery.headers.get(SIGNATURE, "").split()):
        raise SignatureInvalid("The signature is missing, of other bytes, or by another secret.")


def key(delivery: Delivery) -> str | None:
    """The sender's id of the delivery, the same for all repeats."""
    return delivery.headers.get(ID)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, _body)


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret."""
    body = msgspec.json.encode({
        "type": "message", "external_id": "test", "occurred_at": now, "text": "This is a test.",
        "person": {"addresses": [{"kind": "test", "value": "test"}]},
    })  # fmt: skip
    stamp = str(int(now.timestamp()))
    signature = _signature(_secret(account), "test", stamp, body).decode()
    headers = {ID: "test", TIMESTAMP: stamp, SIGNATURE: signature}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _signature(secret: bytes, given: str, sent: str, body: bytes) -> bytes:
    signed = b".".join([given.encode(errors="replace"), sent.encode(), body])
    return b"v1," + signatures.sha256_base64(secret, signed)


def _secret(account: ChannelAccount) -> bytes:
    secret = signatures.secret(account, "secret")
    if not secret.startswith(SECRET_PREFIX.encode()):
        return secret
    try:
        decoded = base64.b64decode(secret.removeprefix(SECRET_PREFIX.encode()), validate=True)
    except binascii.Error as error:
        raise SignatureInvalid(f"The account's secret begins with {SECRET_PREFIX} and goes on as no base64.") from error
    if not decoded:
        raise SignatureInvalid(f"The account's secret is nothing but {SECRET_PREFIX}.")
    return decoded


def _body(body: Json) -> Iterator[Event]:
    listed = parts(body, "events") if "events" in body else [body]
    return payloads.each(listed, _event, kind="event")


def _event(event: Json) -> Iterator[Event]:
    kind = text(event, "type")
    if kind not in TYPES:
        yield payloads.unknown(event, kind=kind or "event", reason=f"Its type is none of {', '.join(TYPES)}.")
        return
    form = TYPES[kind]
    members = {name: value for name, value in event.items() if name != "type"}
    strange = members.keys() - {field.name for field in dataclasses.fields(form)}
    if strange:
        raise Unreadable(f"A {kind} has no {', '.join(sorted(strange))}.")
    try:
        yield cast(Event, _sound(msgspec.convert(members, form)))
    except msgspec.ValidationError as error:
        raise Unreadable(f"{error}.") from error


def _sound(value: Any, name: str = "") -> Any:
    """The value with its times in UTC. Raises Unreadable for what has the right type and still can't be."""
    match value:
        case datetime():
            return _instant(value, name)
        case Decimal():
            return _amount(value, name)
        case str():
            return _word(value, name)
        case list() | tuple():
            return type(value)(_sound(one, name) for one in value)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            _check(value)
            members = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return dataclasses.replace(value, **{name: _sound(one, name) for name, one in members.items()})
        case _:
            return value


def _instant(value: datetime, name: str) -> datetime:
    if value.tzinfo is None:
        raise Unreadable(f"Its {name} has no offset from UTC.")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise Unreadable(f"Its {name} is no time that can be.") from error


def _amount(value: Decimal, name: str) -> Decimal:
    if not value.is_finite() or not -AMOUNT_MAX < value < AMOUNT_MAX or value != round(value, DECIMALS_MAX):
        raise Unreadable(f"Its {name} is no amount with at most {DECIMALS_MAX} decimals that is below {AMOUNT_MAX}.")
    return value


def _word(value: str, name: str) -> str:
    if name in _NAMES and not _NAME.fullmatch(value):
        raise Unreadable(f"Its {name} is no short lower-case name.")
    if name in _IDS and not identifier(value).strip():
        raise Unreadable(f"Its {name} is empty.")
    return value


def _check(value: Any) -> None:
    match value:
        case contract.Message(kind=kind) | contract.Happened(kind=kind) if kind.partition(".")[0] in RESERVED_KINDS:
            raise Unreadable(f"What is of the kind {kind} is written by the service itself.")
        case contract.Person(addresses=addresses) if not addresses:
            raise Unreadable("A person has at least one address.")
        case contract.Refunded(lines=lines) if any(place < 0 for place, _ in lines):
            raise Unreadable("The places of lines are counted from 0.")
