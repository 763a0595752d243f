"""Meta's Messenger Platform: conversations of Facebook pages and of Instagram accounts, which differ in little."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from crm.interactions.channels import graph, payloads
from crm.interactions.channels.deliveries import ChannelAccount, Delivery
from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Event,
    Happened,
    Message,
    Person,
    Reaction,
    StateChanged,
    Unsent,
    Watermark,
)
from crm.interactions.channels.payloads import (
    Json,
    Unreadable,
    identifier,
    instant,
    kept,
    named,
    needed,
    objects,
    part,
    parts,
    text,
)


class Place(NamedTuple):
    """Where a conversation is: a channel, and the page or Instagram account that people write to."""

    channel: str
    account: str

    def person(self, of: Json, *path: str) -> Person:
        """Somebody as this account knows them. Raises Unreadable."""
        address = Address(kind=self.channel, value=needed(of, *path, "id"), account=self.account, verified=True)
        return Person(addresses=[address], name=text(of, *path, "name") or text(of, *path, "username"))


Change = Callable[[Place, Json, Json], Iterator[Event]]
"""How a change of something public is read: of which place, the entry that it is in, and its value."""


def events(body: bytes, *, channel: str, changes: dict[str, Change]) -> Iterator[Event]:
    """What the entries say; `changes` reads those of the fields by name."""

    def read(entry: Json) -> Iterator[Event]:
        place = Place(channel, needed(entry, "id"))
        lists = [name for name in ("messaging", "standby", "changes") if name in entry]
        if not lists and "field" not in entry:
            raise Unreadable("It has neither messages nor changes.")
        for name in lists:
            each = partial(_change, place, entry, changes) if name == "changes" else partial(_event, place, name)
            yield from payloads.each(parts(entry, name), each, kind=name)
        if "field" in entry:
            yield from _change(place, entry, changes, entry)

    return graph.entries(body, read)


def sample(account: ChannelAccount, of: str, *, url: str, now: datetime) -> Delivery:
    """A message to try the account with, signed with its own secret; `of` is what Meta calls such an account."""
    at = int(now.timestamp() * 1000)
    event = {
        "sender": {"id": "test"}, "recipient": {"id": account.ref}, "timestamp": at,
        "message": {"mid": "m_test", "text": "This is a test."},
    }  # fmt: skip
    entry = {"id": account.ref, "time": at, "messaging": [event]}
    return graph.sample(account, {"object": of, "entry": [entry]}, url=url, now=now)


def _change(place: Place, entry: Json, changes: dict[str, Change], change: Json) -> Iterable[Event]:
    field = text(change, "field") or "change"
    if field not in changes:
        return [payloads.unknown(change, kind=field)]
    return changes[field](place, entry, part(change, "value"))


def _event(place: Place, group: str, event: Json) -> Iterator[Event]:
    """One event of a conversation; `standby` are those that another app is to answer."""
    at = instant(event, "timestamp")
    ours = part(event, "message").get("is_echo") is True or text(event, "sender", "id") == place.account
    person = place.person(event, "recipient" if ours else "sender")
    name = next((name for name in _READERS if name in event), None)
    if name is None:
        yield payloads.unknown(event, kind=group, occurred_at=at, person=person)
    else:
        yield from _READERS[name](place, event, person, at)


def _message(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    message = part(event, "message")
    mid = needed(message, "mid")
    attachments = list(_attachments(message))
    if message.get("is_deleted") is True:
        yield Unsent(external_id=mid, occurred_at=at, person=person)
    elif message.get("is_unsupported") is True and not attachments and not text(message, "text"):
        yield payloads.unknown(
            event, kind="unsupported", external_id=mid, occurred_at=at, person=person,
            reason="The provider does not hand out messages of this type.",
        )  # fmt: skip
    else:
        ours = person.addresses[0].value == text(event, "recipient", "id")
        yield Message(
            external_id=mid, person=person, occurred_at=at, direction="outbound" if ours else "inbound",
            text=text(message, "text"), attachments=attachments, reply_to=text(message, "reply_to", "mid"),
            data=kept(
                payload=text(message, "quick_reply", "payload"), referral=part(message, "referral"),
                app_id=text(message, "app_id"), metadata=text(message, "metadata"),
            ),
        )  # fmt: skip


def _attachments(message: Json) -> Iterator[Attachment]:
    for one in objects(message, "attachments"):
        payload = part(one, "payload")
        yield Attachment(
            kind=text(one, "type") or "file", reference=text(payload, "url"), name=text(payload, "title"),
            data={name: value for name, value in payload.items() if name not in {"url", "title"}},
        )  # fmt: skip
    story = part(message, "reply_to", "story")
    if story:
        yield Attachment(kind="story", reference=text(story, "url"), data=kept(id=text(story, "id")))


def _edited(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    edit = part(event, "message_edit")
    yield Edited(external_id=needed(edit, "mid"), person=person, occurred_at=at, text=text(edit, "text"))


def _delivered(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    # The messages by name too: our clock may be ahead of the watermark's.
    delivery = part(event, "delivery")
    mids = delivery.get("mids")
    for mid in mids if isinstance(mids, list) else ():
        if isinstance(mid, str) and mid:
            yield StateChanged(external_id=identifier(mid), state="delivered", occurred_at=at, person=person)
    yield Watermark(person=person, state="delivered", until=instant(delivery, "watermark"), occurred_at=at)


def _read(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    read = part(event, "read")
    if "mid" in read:
        yield StateChanged(external_id=needed(read, "mid"), state="read", occurred_at=at, person=person)
    else:
        yield Watermark(person=person, state="read", until=instant(read, "watermark"), occurred_at=at)


def _reaction(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    reaction = part(event, "reaction")
    mid, action, by = needed(reaction, "mid"), needed(reaction, "action"), needed(event, "sender", "id")
    yield Reaction(
        external_id=identifier(f"{mid}:{by}:{action}:{needed(event, 'timestamp')}"), to=mid, person=person,
        occurred_at=at,
        emoji=None if action == "unreact" else text(reaction, "emoji") or needed(reaction, "reaction"),
    )  # fmt: skip


def _postback(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    postback = part(event, "postback")
    yield Message(
        external_id=needed(postback, "mid") if "mid" in postback else _own_id("postback", event, person),
        person=person, occurred_at=at, kind="postback", text=text(postback, "title"),
        data=kept(payload=text(postback, "payload"), referral=part(postback, "referral")),
    )  # fmt: skip


def _optin(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    optin = part(event, "optin")
    if text(optin, "type") == "notification_messages":
        yield ConsentChanged(
            external_id=_own_id("optin", event, person), person=person, occurred_at=at,
            granted=text(optin, "notification_messages_status") != "STOP_NOTIFICATIONS", channel=place.channel,
            purpose="marketing", evidence=optin,
        )  # fmt: skip
    else:
        yield Happened(
            external_id=_own_id("optin", event, person), person=person, occurred_at=at, kind="optin", data=optin
        )


def _referral(place: Place, event: Json, person: Person, at: datetime) -> Iterator[Event]:
    # Somebody came to a conversation that they already had, by a link or an advertisement.
    referral = part(event, "referral")
    yield Happened(
        external_id=_own_id("referral", event, person), person=person, occurred_at=at,
        kind=named("link", text(referral, "source") or "followed"), data=referral,
    )  # fmt: skip


def _own_id(name: str, event: Json, person: Person) -> str:
    """For what has no id: one thing of a sort happens with one person at one instant."""
    return identifier(f"{name}:{person.addresses[0].value}:{needed(event, 'timestamp')}")


_READERS: Final[dict[str, Callable[[Place, Json, Person, datetime], Iterator[Event]]]] = {
    "message": _message,
    "message_edit": _edited,
    "delivery": _delivered,
    "read": _read,
    "reaction": _reaction,
    "postback": _postback,
    "optin": _optin,
    "referral": _referral,
}
