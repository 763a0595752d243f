"""Telegram bots. An update is about a message of a chat, whose numbers begin anew in every chat."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final

import msgspec

from crm.interactions.channels import payloads, signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Event,
    Identified,
    Message,
    Person,
    Reaction,
)
from crm.interactions.channels.payloads import (
    Json,
    Unreadable,
    identifier,
    instant,
    kept,
    needed,
    number,
    objects,
    part,
    text,
)

CHANNEL = "telegram"
SECRETS: tuple[str, ...] = ("secret_token",)
REQUIRED: tuple[str, ...] = SECRETS

TOKEN: Final = "x-telegram-bot-api-secret-token"  # noqa: S105 - the name of a header

_FILES: Final = ("animation", "audio", "document", "sticker", "video", "video_note", "voice")
_PLACES: Final = ("contact", "location", "venue", "poll", "dice", "story")
_ENVELOPE: Final = frozenset({"message_id", "from", "chat", "date", "sender_chat", "message_thread_id"})
_MEMBERS: Final = {"kicked": False, "member": True}
"""What the state of the bot in somebody's chat says of their will: whoever blocks a bot throws it out."""


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: Telegram does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """The token given to setWebhook comes back. Raises SignatureInvalid."""
    signatures.check(delivery.headers.get(TOKEN), [signatures.secret(account, "secret_token")])


def key(delivery: Delivery) -> str | None:
    """The number of the update is in the body."""
    return None


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says: one update."""
    return payloads.events(delivery.body, partial(_update, delivery.received_at))


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, with its own token."""
    message = {
        "message_id": 1, "from": {"id": 1, "is_bot": False, "first_name": "Test"}, "chat": {"id": 1, "type": "private"},
        "date": int(now.timestamp()), "text": "This is a test.",
    }  # fmt: skip
    headers = {TOKEN: signatures.secret(account, "secret_token").decode()}
    body = msgspec.json.encode({"update_id": 1, "message": message})
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _update(received_at: datetime, update: Json) -> Iterator[Event]:
    external_id = identifier(f"update:{needed(update, 'update_id')}")
    if "message" in update:
        yield from _message(part(update, "message"), external_id)
    elif "edited_message" in update:
        edited = part(update, "edited_message")
        yield Edited(
            external_id=_message_id(edited), person=_person(edited, "from"), text=_text(edited),
            occurred_at=instant(edited, "edit_date" if "edit_date" in edited else "date"),
        )  # fmt: skip
    elif "callback_query" in update:
        yield _pressed(part(update, "callback_query"), received_at)
    elif "message_reaction" in update:
        yield _reaction(part(update, "message_reaction"), external_id)
    elif "my_chat_member" in update:
        yield _membership(update, part(update, "my_chat_member"), external_id)
    else:
        kind = next((name for name in update if name != "update_id"), "update")
        yield payloads.unknown(update, kind=kind, external_id=external_id)


def _message(message: Json, update_id: str) -> Iterator[Event]:
    external_id, at = _message_id(message), instant(message, "date")
    person = _person(message, "from")
    attachments = _attachments(message)
    if part(message, "from").get("is_bot") is True or not (_text(message) or attachments):
        kind = next((name for name in message if name not in _ENVELOPE), "message")
        yield payloads.unknown(message, kind=f"message.{kind}", external_id=external_id, occurred_at=at, person=person)
        return
    yield Message(
        external_id=external_id, person=person, occurred_at=at, text=_text(message), attachments=attachments,
        reply_to=_answered({**message, "message_id": text(message, "reply_to_message", "message_id")}),
        data=kept(
            update_id=update_id.partition(":")[2], media_group_id=text(message, "media_group_id"),
            chat=None if text(message, "chat", "type") == "private" else part(message, "chat"),
            forwarded=part(message, "forward_origin"),
        ),
    )  # fmt: skip
    contact = part(message, "contact")
    phone = text(contact, "phone_number")
    if phone and text(contact, "user_id") == text(message, "from", "id"):
        # Telegram names the owner of a number that is shared: their own is proven.
        known = Address(kind="phone", value=f"+{phone.lstrip('+')}", verified=True)
        yield Identified(
            external_id=identifier(f"{external_id}:contact"), occurred_at=at,
            person=Person(addresses=[*person.addresses, known], name=person.name, locale=person.locale),
        )  # fmt: skip


def _pressed(query: Json, received_at: datetime) -> Event:
    # A query has no time of its own, and is worth nothing a moment later.
    return Message(
        external_id=identifier(f"callback:{needed(query, 'id')}"), person=_person(query, "from"),
        occurred_at=received_at, kind="postback", reply_to=_answered(part(query, "message")),
        data=kept(payload=text(query, "data"), game=text(query, "game_short_name")),
    )  # fmt: skip


def _reaction(reaction: Json, update_id: str) -> Event:
    signs = objects(reaction, "new_reaction")
    return Reaction(
        external_id=update_id, to=_message_id(reaction), person=_person(reaction, "user"),
        occurred_at=instant(reaction, "date"),
        emoji=text(signs[0], "emoji") or text(signs[0], "custom_emoji_id") or text(signs[0], "type") if signs else None,
    )  # fmt: skip


def _membership(update: Json, change: Json, update_id: str) -> Event:
    at, person = instant(change, "date"), _person(change, "from")
    status = text(change, "new_chat_member", "status")
    if text(change, "chat", "type") != "private" or status not in _MEMBERS:
        return payloads.unknown(update, kind="my_chat_member", external_id=update_id, occurred_at=at, person=person)
    return ConsentChanged(
        external_id=update_id, person=person, occurred_at=at, granted=_MEMBERS[status], channel=CHANNEL, purpose="all",
        evidence=kept(status=status, before=text(change, "old_chat_member", "status")),
    )  # fmt: skip


def _message_id(message: Json) -> str:
    return identifier(f"{needed(message, 'chat', 'id')}:{needed(message, 'message_id')}")


def _answered(message: Json) -> str | None:
    return _message_id(message) if text(message, "chat", "id") and text(message, "message_id") else None


def _person(of: Json, member: str) -> Person:
    user = part(of, member)
    if not user:
        raise Unreadable("It has no sender: it is of a channel, or of somebody who is anonymous.")
    return Person(
        addresses=[Address(kind=CHANNEL, value=needed(user, "id"), verified=True)],
        name=" ".join(filter(None, (text(user, "first_name"), text(user, "last_name")))) or text(user, "username"),
        locale=text(user, "language_code"),
    )


def _text(message: Json) -> str | None:
    return text(message, "text") or text(message, "caption")


def _attachments(message: Json) -> list[Attachment]:
    """Files by their id, of a photo the largest size; and what else can stand beside a text."""
    found = [(name, part(message, name)) for name in _FILES if part(message, name)]
    if "animation" in message:
        # It comes once more as a document, for those who know no animations, as a venue does as a location.
        found = [(name, file) for name, file in found if name != "document"]
    places = [(name, part(message, name)) for name in _PLACES if part(message, name)]
    if "venue" in message:
        places = [(name, place) for name, place in places if name != "location"]
    sizes = objects(message, "photo")
    if sizes:
        found.append(("image", sizes[-1]))
    return [
        *(
            Attachment(
                kind=name, reference=text(file, "file_id"), content_type=text(file, "mime_type"),
                name=text(file, "file_name") or text(file, "title"), bytes_count=number(file, "file_size"),
                data=kept(duration_seconds=number(file, "duration"), emoji=text(file, "emoji")),
            )
            for name, file in found
        ),
        *(Attachment(kind=name, name=text(place, "title"), data=place) for name, place in places),
    ]  # fmt: skip
