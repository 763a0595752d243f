"""LINE. People are known by an id that is one for all channels of a provider, which is what LINE calls a business."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from crm.interactions.channels import payloads, signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Event,
    Happened,
    Message,
    Person,
    StateChanged,
    Unsent,
)
from crm.interactions.channels.payloads import Json, instant, kept, needed, number, part, parts, text

CHANNEL = "line"
SECRETS: tuple[str, ...] = ("channel_secret",)
REQUIRED: tuple[str, ...] = SECRETS

SIGNATURE: Final = "x-line-signature"

_FILES: Final = frozenset({"image", "video", "audio", "file"})
_HAPPENED: Final = {
    "accountLink": ("account_linked", "link"),
    "beacon": ("beacon", "beacon"),
    "membership": ("line_membership", "membership"),
    "videoPlayComplete": ("video_watched", "videoPlayComplete"),
}
"""By type of event, our name for it and the member with what there is to say."""


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: LINE asks with a signed delivery without events."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(SIGNATURE), [_signature(account, delivery.body)])


def key(delivery: Delivery) -> str | None:
    """A repeated delivery is known by its events."""
    return None


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(
        delivery.body, lambda body: payloads.each(parts(body, "events"), _event, kind="event")
    )  # fmt: skip


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret."""
    event = {
        "type": "message", "mode": "active", "timestamp": int(now.timestamp() * 1000), "webhookEventId": "test",
        "source": {"type": "user", "userId": "test"},
        "message": {"id": "test", "type": "text", "text": "This is a test."},
    }  # fmt: skip
    body = msgspec.json.encode({"destination": account.ref, "events": [event]})
    headers = {SIGNATURE: _signature(account, body).decode()}
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _signature(account: ChannelAccount, body: bytes) -> bytes:
    return signatures.sha256_base64(signatures.secret(account, "channel_secret"), body)


def _event(event: Json) -> Iterator[Event]:
    external_id, kind, at = needed(event, "webhookEventId"), needed(event, "type"), instant(event, "timestamp")
    user_id = text(event, "source", "userId")
    person = Person(addresses=[Address(kind=CHANNEL, value=user_id, verified=True)]) if user_id else None
    if kind == "delivery":
        # Of a notification by phone number; it is known by the tag that was sent along.
        yield StateChanged(external_id=needed(event, "delivery", "data"), state="delivered", occurred_at=at)
    elif kind == "unsend":
        yield Unsent(external_id=needed(event, "unsend", "messageId"), occurred_at=at, person=person)
    elif person is None:
        yield payloads.unknown(event, kind=kind, external_id=external_id, occurred_at=at)
    elif kind == "message":
        yield _message(event, person, at)
    elif kind == "postback":
        yield Message(
            external_id=external_id, person=person, occurred_at=at, kind="postback",
            data=kept(payload=text(event, "postback", "data"), params=part(event, "postback", "params")),
        )  # fmt: skip
    elif kind in {"follow", "unfollow"}:
        yield ConsentChanged(
            external_id=external_id, person=person, occurred_at=at, granted=kind == "follow", channel=CHANNEL,
            purpose="all", evidence={"event": kind, **part(event, "follow")},
        )  # fmt: skip
    elif kind in _HAPPENED:
        name, member = _HAPPENED[kind]
        yield Happened(external_id=external_id, person=person, occurred_at=at, kind=name, data=part(event, member))
    else:
        yield payloads.unknown(event, kind=kind, external_id=external_id, occurred_at=at, person=person)


def _message(event: Json, person: Person, at: datetime) -> Event:
    message = part(event, "message")
    external_id, kind = needed(message, "id"), needed(message, "type")
    attachments = _attachments(kind, external_id, message)
    if kind != "text" and not attachments:
        return payloads.unknown(
            event, kind=f"message.{kind}", external_id=external_id, occurred_at=at, person=person
        )  # fmt: skip
    return Message(
        external_id=external_id, person=person, occurred_at=at, text=text(message, "text"), attachments=attachments,
        reply_to=text(message, "quotedMessageId"),
        data=kept(
            event_id=text(event, "webhookEventId"), reply_token=text(event, "replyToken"),
            quote_token=text(message, "quoteToken"), group_id=text(event, "source", "groupId"),
            room_id=text(event, "source", "roomId"), standby=text(event, "mode") == "standby",
        ),
    )  # fmt: skip


def _attachments(kind: str, message_id: str, message: Json) -> list[Attachment]:
    if kind in _FILES:
        # LINE keeps the content under the id of the message, unless it is elsewhere.
        return [
            Attachment(
                kind=kind, reference=text(message, "contentProvider", "originalContentUrl") or message_id,
                name=text(message, "fileName"), bytes_count=number(message, "fileSize"),
                data=kept(duration_ms=number(message, "duration"), image_set=part(message, "imageSet")),
            )
        ]  # fmt: skip
    if kind == "location":
        members = ("address", "latitude", "longitude")
        return [
            Attachment(
                kind=kind, name=text(message, "title"), data=kept(**{name: message.get(name) for name in members})
            )
        ]
    if kind == "sticker":
        sticker = {"package_id": text(message, "packageId"), "sticker_id": text(message, "stickerId")}
        return [Attachment(kind=kind, data=kept(**sticker, keywords=message.get("keywords")))]
    return []
