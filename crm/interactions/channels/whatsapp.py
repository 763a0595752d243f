"""WhatsApp Cloud API.

A sender may have no phone number: whoever goes by a username is known by a business-scoped user id, the BSUID, alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from crm.interactions.channels import graph, payloads
from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Event,
    Happened,
    Identified,
    Message,
    Person,
    Reaction,
    State,
    StateChanged,
    Unsent,
)
from crm.interactions.channels.payloads import (
    Json,
    Unreadable,
    identifier,
    instant,
    kept,
    named,
    needed,
    number,
    objects,
    part,
    parts,
    text,
)

CHANNEL = "whatsapp"
SECRETS: tuple[str, ...] = graph.SECRETS
REQUIRED: tuple[str, ...] = graph.SECRETS

handshake = graph.handshake
verify = graph.verify
key = graph.key

_NUMBER: Final = re.compile(r"\+?([0-9]{5,20})", re.ASCII)
_BSUID: Final = re.compile(r"[A-Z]{2}\.(ENT\.)?[0-9A-Za-z]{1,128}", re.ASCII)
_STATES: Final[dict[str, State]] = {
    "accepted": "queued", "sent": "sent", "delivered": "delivered", "read": "read", "played": "read",
    "failed": "failed",
}  # fmt: skip
_TEXTS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "text": (("text", "body"),),
    "button": (("button", "text"),),
    "interactive": (
        ("interactive", "button_reply", "title"), ("interactive", "list_reply", "title"),
        ("interactive", "nfm_reply", "body"),
    ),
    "order": (("order", "text"),),
}  # fmt: skip
"""Where the words of a message are, by its type."""
_MEDIA: Final = frozenset({"image", "audio", "video", "document", "sticker"})
_PREFERENCES: Final = {"stop": False, "resume": True}


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """What the delivery says, in its order."""
    return graph.entries(delivery.body, _entry)


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret."""
    message = {
        "from": "12025550100", "id": "wamid.test", "timestamp": str(int(now.timestamp())), "type": "text",
        "text": {"body": "This is a test."},
    }  # fmt: skip
    value = {"metadata": {"phone_number_id": account.ref}, "messages": [message]}
    entry = {"id": account.ref, "changes": [{"field": "messages", "value": value}]}
    return graph.sample(account, {"object": "whatsapp_business_account", "entry": [entry]}, url=url, now=now)


def addresses(*, number: str | None = None, user_id: str | None = None, parent_id: str | None = None) -> list[Address]:
    """Where somebody writes from; WhatsApp vouches for all of it, the number included."""
    ids = dict.fromkeys(one for one in (user_id, parent_id) if one and _BSUID.fullmatch(one))
    found = [Address(kind="whatsapp_bsuid", value=one, verified=True) for one in ids]
    digits = _NUMBER.fullmatch(number or "")
    if digits:
        found.append(Address(kind="whatsapp", value=digits[1], verified=True))
        found.append(Address(kind="phone", value=f"+{digits[1]}", verified=True))
    return found


def _entry(entry: Json) -> Iterator[Event]:
    return payloads.each(parts(entry, "changes"), partial(_change, entry), kind="change")


def _change(entry: Json, change: Json) -> Iterator[Event]:
    value, field = part(change, "value"), text(change, "field") or "change"
    if field == "message_template_status_update":
        yield _template(entry, value)
        return
    known = [name for name in value if name in _READERS]
    if not known:
        yield payloads.unknown(change, kind=field)
    for name in known:
        yield from payloads.each(parts(value, name), partial(_READERS[name], value), kind=name)


def _message(value: Json, message: Json) -> Iterator[Event]:
    system = part(message, "system")
    sender = _person(
        value, number=text(message, "from") or text(system, "customer"),
        user_id=text(message, "from_user_id") or text(system, "previous_user_id"),
        parent_id=text(message, "from_parent_user_id"),
    )  # fmt: skip
    if sender is None:
        raise Unreadable("It has no sender.")
    external_id, at = needed(message, "id"), instant(message, "timestamp")
    match text(message, "type"):
        case "system":
            yield _changed(message, sender, external_id, at)
        case "reaction":
            yield Reaction(
                external_id=external_id, to=needed(message, "reaction", "message_id"), person=sender, occurred_at=at,
                emoji=text(message, "reaction", "emoji"),
            )  # fmt: skip
        case kind:
            yield _said(value, message, kind or "message", sender, external_id, at)


def _echo(value: Json, message: Json) -> Iterator[Event]:
    # What the business wrote in its own app, on a phone.
    recipient = _person(
        value, number=text(message, "to"), user_id=text(message, "to_user_id"),
        parent_id=text(message, "to_parent_user_id"),
    )  # fmt: skip
    if recipient is None:
        raise Unreadable("It has no recipient.")
    said = _said(
        value, message, text(message, "type") or "message", recipient, needed(message, "id"),
        instant(message, "timestamp"),
    )  # fmt: skip
    yield replace(said, direction="outbound") if isinstance(said, Message) else said


def _said(value: Json, message: Json, kind: str, person: Person, external_id: str, at: datetime) -> Event:
    if kind == "edit":
        edited = part(message, "edit", "message")
        return Edited(
            external_id=needed(message, "edit", "original_message_id"), person=person, occurred_at=at,
            text=_text(text(edited, "type") or "text", edited),
        )  # fmt: skip
    if kind == "revoke":
        return Unsent(external_id=needed(message, "revoke", "original_message_id"), occurred_at=at, person=person)
    attachments = _attachments(kind, message)
    if kind in _TEXTS and not part(message, kind):
        raise Unreadable(f"Its {kind} is missing.")
    if kind not in _TEXTS and not attachments:
        return payloads.unknown(
            message, kind=f"message.{kind}", external_id=external_id, occurred_at=at, person=person,
            reason=next((text(error, "title") for error in objects(message, "errors")), None),
        )  # fmt: skip
    return Message(
        external_id=external_id, person=person, occurred_at=at, text=_text(kind, message), attachments=attachments,
        reply_to=text(message, "context", "id"),
        data=kept(
            type=kind, content=part(message, kind) if kind != "text" and kind in _TEXTS else None,
            forwarded=bool(part(message, "context").keys() & {"forwarded", "frequently_forwarded"}),
            referral=part(message, "referral"), group_id=text(message, "group_id"),
            phone_number_id=text(value, "metadata", "phone_number_id"),
        ),
    )  # fmt: skip


def _text(kind: str, message: Json) -> str | None:
    paths = _TEXTS.get(kind, ((kind, "caption"),))
    return next((found for path in paths if (found := text(message, *path))), None)


def _attachments(kind: str, message: Json) -> list[Attachment]:
    content = part(message, kind)
    if kind in _MEDIA and content:
        return [
            Attachment(
                kind="voice" if content.get("voice") is True else kind, reference=text(content, "id"),
                content_type=text(content, "mime_type"), name=text(content, "filename"),
                data=kept(sha256=text(content, "sha256"), animated=content.get("animated") is True),
            )
        ]  # fmt: skip
    if kind == "location" and content:
        return [
            Attachment(kind="location", reference=text(content, "url"), name=text(content, "name"), data=content)
        ]  # fmt: skip
    if kind == "contacts":
        return [
            Attachment(kind="contact", name=text(card, "name", "formatted_name"), data=card)
            for card in objects(message, "contacts")
        ]
    return []


def _changed(message: Json, sender: Person, external_id: str, at: datetime) -> Event:
    """Somebody has another number, or another user id."""
    system = part(message, "system")
    kind = text(system, "type") or "system"
    now = addresses(
        number=text(system, "wa_id") or text(system, "new_wa_id"), user_id=text(system, "user_id"),
        parent_id=text(system, "parent_user_id"),
    )  # fmt: skip
    if not now or kind not in {"user_changed_number", "user_changed_user_id"}:
        return payloads.unknown(
            message, kind=f"system.{kind}", external_id=external_id, occurred_at=at, person=sender
        )  # fmt: skip
    return _replaced(sender, now, external_id, at)


def _renamed(value: Json, update: Json) -> Iterator[Event]:
    at = instant(update, "timestamp")
    before = _person(
        value, number=text(update, "wa_id"), user_id=text(update, "user_id", "previous"),
        parent_id=text(update, "parent_user_id", "previous"),
    )  # fmt: skip
    now = addresses(user_id=text(update, "user_id", "current"), parent_id=text(update, "parent_user_id", "current"))
    if before is None or not now:
        raise Unreadable("It does not say whose id became which.")
    yield _replaced(before, now, identifier(f"user_id_update:{now[0].value}:{needed(update, 'timestamp')}"), at)


def _replaced(before: Person, now: list[Address], external_id: str, at: datetime) -> Identified:
    """Of the addresses before, those of a kind that is told anew are somebody's no longer."""
    told = {address.kind for address in now}
    return Identified(
        external_id=external_id, occurred_at=at,
        person=Person(addresses=[*now, *(one for one in before.addresses if one.kind not in told)], name=before.name),
        replaces=[one for one in before.addresses if one.kind in told and one not in now],
    )  # fmt: skip


def _status(value: Json, status: Json) -> Iterator[Event]:
    external_id, name, at = needed(status, "id"), needed(status, "status"), instant(status, "timestamp")
    recipient = _person(
        value, number=text(status, "recipient_id"), user_id=text(status, "recipient_user_id"),
        parent_id=text(status, "recipient_parent_user_id"),
    )  # fmt: skip
    state = _STATES.get(name)
    if text(status, "type") == "call":
        yield Happened(
            external_id=identifier(f"{external_id}:{name}"), person=recipient, occurred_at=at,
            kind=named("call", name), data={"call": external_id},
        )  # fmt: skip
    elif state is None:
        yield payloads.unknown(
            status, kind=f"status.{name}", external_id=identifier(f"{external_id}:{name}"), occurred_at=at,
            person=recipient,
        )  # fmt: skip
    else:
        yield StateChanged(
            external_id=external_id, state=state, occurred_at=at, person=recipient,
            error=next((_error(error) for error in objects(status, "errors")), None),
            data=kept(
                reference=text(status, "biz_opaque_callback_data"), pricing=part(status, "pricing"),
                conversation=part(status, "conversation"), played=name == "played",
            ),
        )  # fmt: skip


def _error(error: Json) -> dict[str, str]:
    return kept(
        code=text(error, "code"), message=text(error, "title") or text(error, "message"),
        details=text(error, "error_data", "details"),
    )  # fmt: skip


def _preference(value: Json, preference: Json) -> Iterator[Event]:
    person = _person(
        value, number=text(preference, "wa_id"), user_id=text(preference, "user_id"),
        parent_id=text(preference, "parent_user_id"),
    )  # fmt: skip
    category, wish, at = needed(preference, "category"), needed(preference, "value"), instant(preference, "timestamp")
    if person is None or wish not in _PREFERENCES or category != "marketing_messages":
        raise Unreadable("It is no wish about marketing that is known.")
    yield ConsentChanged(
        external_id=payloads.digest(preference), person=person, occurred_at=at,
        granted=_PREFERENCES[wish], channel=CHANNEL, purpose="marketing",
        evidence=kept(detail=text(preference, "detail"), value=wish),
    )  # fmt: skip


def _call(value: Json, call: Json) -> Iterator[Event]:
    external_id, event = needed(call, "id"), needed(call, "event")
    outbound = text(call, "direction") == "BUSINESS_INITIATED"
    side = "to" if outbound else "from"
    person = _person(
        value, number=text(call, side), user_id=text(call, f"{side}_user_id"),
        parent_id=text(call, f"{side}_parent_user_id"),
    )  # fmt: skip
    if person is None:
        raise Unreadable("It does not say who called, or was called.")
    if event != "terminate":
        yield Happened(
            external_id=identifier(f"{external_id}:{event}"), person=person, occurred_at=instant(call, "timestamp"),
            kind=named("call", event), data={"call": external_id},
        )  # fmt: skip
        return
    yield Message(
        external_id=external_id, person=person, kind="call", direction="outbound" if outbound else "inbound",
        occurred_at=instant(call, "start_time" if call.get("start_time") else "timestamp"),
        data=kept(
            status=(text(call, "status") or "").lower(), duration_seconds=number(call, "duration"),
            reference=text(call, "biz_opaque_callback_data"),
        ),
    )  # fmt: skip


def _failure(value: Json, error: Json) -> Iterator[Event]:
    yield payloads.unknown(error, kind="errors", reason=text(error, "title") or text(error, "message"))


def _template(entry: Json, value: Json) -> Event:
    template, event = needed(value, "message_template_id"), needed(value, "event")
    return Happened(
        external_id=identifier(f"template:{template}:{event}:{needed(entry, 'time')}"), person=None,
        occurred_at=instant(entry, "time"), kind=named("template", event),
        subject=text(value, "message_template_name"), text=text(value, "reason"), data=value,
    )  # fmt: skip


def _person(value: Json, *, number: str | None, user_id: str | None, parent_id: str | None) -> Person | None:
    """Who is meant, with what the list of contacts beside it says of them."""
    contact = _contact(objects(value, "contacts"), addresses(number=number, user_id=user_id))
    found = addresses(
        number=number if number and _NUMBER.fullmatch(number) else text(contact, "wa_id"),
        user_id=user_id or text(contact, "user_id"), parent_id=parent_id or text(contact, "parent_user_id"),
    )  # fmt: skip
    if not found:
        return None
    return Person(
        addresses=found, name=text(contact, "profile", "name") or text(contact, "profile", "username")
    )  # fmt: skip


def _contact(contacts: Iterable[Json], known: list[Address]) -> Json:
    """The contact with one of these addresses; the only one there is, where nothing says that it is another."""
    theirs = [
        (contact, addresses(number=text(contact, "wa_id"), user_id=text(contact, "user_id"))) for contact in contacts
    ]
    for contact, has in theirs:
        if any(address in known for address in has):
            return contact
    if len(theirs) == 1 and not {address.kind for address in known} & {address.kind for address in theirs[0][1]}:
        return theirs[0][0]
    return {}


_READERS: Final[dict[str, Callable[[Json, Json], Iterator[Event]]]] = {
    "messages": _message,
    "message_echoes": _echo,
    "statuses": _status,
    "calls": _call,
    "user_preferences": _preference,
    "user_id_update": _renamed,
    "errors": _failure,
}
