"""OneTalk by TapTalk: chats of a custom channel in both directions, and what becomes of its cases."""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
import phonenumbers

from crm.interactions.channels import payloads, signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply
from crm.interactions.channels.events import Address, Attachment, Event, Happened, Message, Person
from crm.interactions.channels.payloads import Json, Unreadable, instant, kept, needed, number, part, parts, text

CHANNEL = "chat"
SECRETS: tuple[str, ...] = ("secret_key",)
REQUIRED: tuple[str, ...] = SECRETS

KEYS: Final = ("x-secret-key", "secret-key")
"""It sends its key under the first name, and is sent it by others under the second."""

_KIND: Final = "onetalk"
_FILES: Final = ("image", "video", "document")
_NUMBER: Final = re.compile(r"\+?[1-9][0-9]{7,14}", re.ASCII)
_CASE: Final = re.compile(r"case_[a-z_]{1,40}", re.ASCII)


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: OneTalk does not ask."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """The key itself comes with every call. Raises SignatureInvalid."""
    given = next((delivery.headers[name] for name in KEYS if name in delivery.headers), None)
    signatures.check(given, [signatures.secret(account, "secret_key")])


def key(delivery: Delivery) -> str | None:
    """None: only the messages have ids."""
    return None


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return payloads.events(delivery.body, partial(_told, delivery, account))


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, with its own key."""
    message = {
        "messageID": "test", "chatID": "test", "timestamp": int(now.timestamp() * 1000), "type": "text",
        "text": {"body": "This is a test."}, "isFromSelf": False, "sender": {"id": "test", "name": "Test"},
    }  # fmt: skip
    headers = {KEYS[0]: signatures.secret(account, "secret_key").decode()}
    body = msgspec.json.encode({"type": "messages", "messages": [message]})
    return Delivery(method="POST", url=url, headers=headers, query={}, body=body, received_at=now)


def _told(delivery: Delivery, account: ChannelAccount, body: Json) -> Iterator[Event]:
    kind = text(body, "type") or text(body, "eventType") or "webhook"
    if kind == "messages":
        yield from payloads.each(parts(body, "messages"), partial(_message, account), kind="message")
    elif kind == "message":
        yield from payloads.each([body.get("message")], partial(_answer, delivery, account), kind="message")
    elif _CASE.fullmatch(kind) or kind == "close_case":
        yield _case(delivery, account, kind, body)
    else:
        yield payloads.unknown(dict(body), kind=kind)


def _message(account: ChannelAccount, message: Json) -> Iterator[Event]:
    # What the business wrote itself is in the chat of the person to whom.
    mine = message.get("isFromSelf") is True
    yield Message(
        external_id=needed(message, "messageID"), person=_person(account, message, mine=mine),
        occurred_at=instant(message, "timestamp"), direction="outbound" if mine else "inbound",
        text=_text(message), attachments=_attachments(message), reply_to=text(message, "replyToMessageID"),
        data=kept(type=text(message, "type"), chat=text(message, "chatID")),
    )  # fmt: skip


def _answer(delivery: Delivery, account: ChannelAccount, message: Json) -> Iterator[Event]:
    """What an agent wrote. It has no id before the business gives it one; its content is what tells it apart."""
    person = _person(account, message, mine=True)
    at = instant(message, "timestamp") if "timestamp" in message else delivery.received_at
    yield Message(
        external_id=text(message, "messageID") or payloads.digest(dict(message)), person=person, occurred_at=at,
        direction="outbound", text=_text(message), attachments=_attachments(message),
        reply_to=text(message, "replyToMessageID"),
        data=kept(type=text(message, "type"), chat=text(message, "chatID"), agent=text(message, "agentEmail")),
    )  # fmt: skip


def _person(account: ChannelAccount, message: Json, *, mine: bool) -> Person:
    sender = None if mine else text(message, "sender", "id")
    person = _of_chat(
        account, sender or text(message, "chatID"), name=None if mine else text(message, "sender", "name")
    )
    if person is None:
        raise Unreadable("It does not say whose chat it is.")
    return person


def _of_chat(account: ChannelAccount, chat: str | None, *, name: str | None = None) -> Person | None:
    """Somebody by their chat; in a channel of telephone numbers its id is one, and nobody says that it is theirs."""
    if chat is None:
        return None
    addresses = [Address(kind=_KIND, value=payloads.identifier(chat), account=account.ref, verified=True)]
    if (phone := _phone(chat)) is not None:
        addresses.append(Address(kind="phone", value=phone))
    return Person(addresses=addresses, name=name)


def _phone(digits: str) -> str | None:
    if not _NUMBER.fullmatch(digits):
        return None
    try:
        number = phonenumbers.parse(f"+{digits.removeprefix('+')}")
    except phonenumbers.NumberParseException:
        return None
    return f"+{digits.removeprefix('+')}" if phonenumbers.is_valid_number(number) else None


def _text(message: Json) -> str | None:
    kind = text(message, "type") or "text"
    return text(message, kind, "body") or text(message, kind, "caption") or text(message, _content(kind), "caption")


def _content(kind: str) -> str:
    # By its documentation a video comes under the name of an image.
    return "image" if kind == "video" else kind


def _attachments(message: Json) -> list[Attachment]:
    kind = text(message, "type") or ""
    if kind not in _FILES:
        return []
    file = part(message, kind) or part(message, _content(kind))
    return [Attachment(kind=kind, reference=text(file, "url"), name=text(file, "filename"))] if file else []


def _case(delivery: Delivery, account: ChannelAccount, kind: str, body: Json) -> Event:
    """Something about a case. Its members stand under its type, written in one word."""
    case = part(body, _in_one_word(kind))
    if not case:
        raise Unreadable(f"Its {_in_one_word(kind)} is missing.")
    at = next((found for name in _times(kind) if (found := _time(case, name)) is not None), None)
    named = text(case, "caseID") or text(case, "id") or text(case, "chatID")
    if named is None:
        raise Unreadable("It does not say which case it is about.")
    return Happened(
        # A case that is opened once more is resolved once more.
        external_id=f"{kind}:{named}" if at is None else f"{kind}:{named}:{at.isoformat()}",
        person=_of_case(account, case), occurred_at=at or delivery.received_at, kind=f"{_KIND}.{kind}",
        subject=text(case, "topicName"),
        text=text(case, "agentRemark"), data=dict(case),
    )  # fmt: skip


def _in_one_word(kind: str) -> str:
    first, *others = kind.split("_")
    return first + "".join(word.capitalize() for word in others)


def _times(kind: str) -> tuple[str, ...]:
    happened = kind.removeprefix("case_")
    return (f"{happened}Time", *(("createdTime",) if happened == "created" else ()), "updatedTime")


def _time(case: Json, name: str) -> datetime | None:
    # Nothing at all is written as zero.
    return instant(case, name) if number(case, name) else None


def _of_case(account: ChannelAccount, case: Json) -> Person | None:
    """The customer, as far as the case tells of one: `channelID` is the channel's."""
    contact = part(case, "contact") or part(case, "user")
    person = _of_chat(account, text(case, "chatID"), name=text(contact, "fullName"))
    customer_id = text(contact, "customerUserID")
    known = [*(person.addresses if person is not None else ())]
    if customer_id is not None:
        known.append(Address(kind="customer_id", value=customer_id, account=account.ref, verified=True))
    phone, email = text(contact, "phone"), text(contact, "email")
    if phone is not None:
        known.append(Address(kind="phone", value=_phone(phone) or phone))
    if email is not None:
        known.append(Address(kind="email", value=email))
    return Person(addresses=known, name=text(contact, "fullName")) if known else None
