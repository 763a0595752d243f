"""Messenger and Instagram: conversations, comments, and what differs between the two."""

from typing import Any

import pytest

from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Happened,
    Message,
    Person,
    Reaction,
    StateChanged,
    Unknown,
    Unsent,
    Watermark,
)
from tests.interactions.channels.sent import at, said

PAGE, PSID = "117172741761305", "3383290475046708"
WHEN = at("2022-03-29T19:20:32.900Z")
MEDIA = "https://cdn.example.com/1.jpg"


def person(channel: str = "messenger") -> Person:
    return Person(addresses=[Address(kind=channel, value=PSID, account=PAGE, verified=True)])


def event(**members: Any) -> dict[str, Any]:
    return {"sender": {"id": PSID}, "recipient": {"id": PAGE}, "timestamp": 1648581632900, **members}


def body(*events: Any, **entry: Any) -> dict[str, Any]:
    inside = {"messaging": list(events)} if events else {}
    return {"object": "page", "entry": [{"id": PAGE, "time": 1648581633000, **inside, **entry}]}


def one(told: dict[str, Any], provider: str = "messenger") -> Any:
    (found,) = said(provider, body(told))
    return found


@pytest.mark.parametrize("provider", ["messenger", "instagram"])
def test_a_message_is_of_somebody_known_at_this_page(provider: str) -> None:
    told = event(message={
        "mid": "m_1", "text": "Halo", "reply_to": {"mid": "m_0"}, "quick_reply": {"payload": "SIZE_L"},
        "attachments": [{"type": "image", "payload": {"url": MEDIA, "sticker_id": 3}}],
    })  # fmt: skip
    assert one(told, provider) == Message(
        external_id="m_1", person=person(provider), occurred_at=WHEN, text="Halo", reply_to="m_0",
        attachments=[Attachment(kind="image", reference=MEDIA, data={"sticker_id": 3})],
        data={"payload": "SIZE_L"},
    )  # fmt: skip


@pytest.mark.parametrize("provider", ["messenger", "instagram"])
@pytest.mark.parametrize("ours", [PAGE, "another id of the same account"])
def test_an_echo_is_ours_and_keeps_its_id(provider: str, ours: str) -> None:
    echo = event(
        message={"mid": "m_2", "text": "Ready", "is_echo": True, "app_id": 1517776481860111, "metadata": "c-1"}
    )
    told = one({**echo, "sender": {"id": ours}, "recipient": {"id": PSID}}, provider)
    assert (told.external_id, told.direction, told.person) == ("m_2", "outbound", person(provider))
    assert told.data == {"app_id": "1517776481860111", "metadata": "c-1"}


def test_what_was_delivered_is_told_by_name_and_by_time() -> None:
    found = said("messenger", body(event(delivery={"mids": ["m_2", 5], "watermark": 1648581633369})))
    assert found == [
        StateChanged(external_id="m_2", state="delivered", occurred_at=WHEN, person=person()),
        Watermark(
            person=person(), state="delivered", until=at("2022-03-29T19:20:33.369Z"), occurred_at=WHEN
        ),
    ]  # fmt: skip


def test_messenger_tells_up_to_when_was_read() -> None:
    assert one(event(read={"watermark": 1648581633369})) == Watermark(
        person=person(), state="read", until=at("2022-03-29T19:20:33.369Z"), occurred_at=WHEN
    )


def test_instagram_tells_what_was_read() -> None:
    assert one(event(read={"mid": "m_2"}), "instagram") == StateChanged(
        external_id="m_2", state="read", occurred_at=WHEN, person=person("instagram")
    )


@pytest.mark.parametrize(
    ("reaction", "emoji"),
    [
        ({"action": "react", "emoji": "\u2764", "reaction": "love"}, "\u2764"),
        ({"action": "react", "reaction": "love"}, "love"),
        ({"action": "unreact"}, None),
    ],
)
def test_a_reaction_has_an_id_of_its_own(reaction: dict[str, Any], emoji: str | None) -> None:
    assert one(event(reaction={"mid": "m_1", **reaction})) == Reaction(
        external_id=f"m_1:{PSID}:{reaction['action']}:1648581632900", to="m_1", person=person(), occurred_at=WHEN,
        emoji=emoji,
    )  # fmt: skip


def test_an_edit_changes_the_text() -> None:
    told = one(event(message_edit={"mid": "m_1", "text": "Hallo", "num_edit": 1}))
    assert told == Edited(external_id="m_1", person=person(), occurred_at=WHEN, text="Hallo")


@pytest.mark.parametrize(("postback", "external_id"), [({"mid": "m_3"}, "m_3"), ({}, f"postback:{PSID}:1648581632900")])
def test_a_pressed_button_is_a_postback(postback: dict[str, Any], external_id: str) -> None:
    told = one(event(postback={"title": "Start", "payload": "GET_STARTED", "referral": {"ref": "x"}, **postback}))
    assert (told.external_id, told.kind, told.text) == (external_id, "postback", "Start")
    assert told.data == {"payload": "GET_STARTED", "referral": {"ref": "x"}}


@pytest.mark.parametrize(
    ("optin", "granted"),
    [
        ({"notification_messages_status": "STOP_NOTIFICATIONS"}, False),
        ({"notification_messages_status": "RESUME_NOTIFICATIONS"}, True),
        ({"notification_messages_token": "t"}, True),
    ],
)
def test_notifications_are_a_consent(optin: dict[str, str], granted: bool) -> None:
    told = one(event(optin={"type": "notification_messages", **optin}))
    assert isinstance(told, ConsentChanged)
    assert (told.granted, told.channel, told.purpose) == (granted, "messenger", "marketing")
    assert told.external_id == f"optin:{PSID}:1648581632900"


@pytest.mark.parametrize(
    ("members", "kind"), [({"optin": {"ref": "sign-up"}}, "optin"), ({"referral": {"source": "ADS"}}, "link.ads")]
)
def test_how_somebody_came_is_told(members: dict[str, Any], kind: str) -> None:
    told = one(event(**members))
    assert (type(told), told.kind, told.data) == (Happened, kind, next(iter(members.values())))


def test_what_another_app_is_to_answer_is_told_too() -> None:
    (told,) = said("messenger", body(standby=[event(message={"mid": "m_1", "text": "Halo"})]))
    assert (told.external_id, told.text) == ("m_1", "Halo")


def test_instagram_takes_back_what_is_deleted() -> None:
    told = one(event(message={"mid": "m_1", "is_deleted": True}), "instagram")
    assert told == Unsent(external_id="m_1", occurred_at=WHEN, person=person("instagram"))


def test_a_reply_to_a_story_has_the_story() -> None:
    story = {"id": "178414000084", "url": "https://cdn.example.com/story"}
    told = one(event(message={"mid": "m_1", "text": "Nice", "reply_to": {"story": story}}), "instagram")
    assert told.attachments == [Attachment(kind="story", reference=story["url"], data={"id": story["id"]})]
    assert told.reply_to is None


@pytest.mark.parametrize("kind", ["story_mention", "ig_reel", "share"])
def test_media_are_kept_by_reference(kind: str) -> None:
    told = one(event(message={"mid": "m_1", "attachments": [{"type": kind, "payload": {"url": MEDIA}}]}), "instagram")
    assert (told.text, told.attachments) == (None, [Attachment(kind=kind, reference=MEDIA)])


def test_a_message_that_is_not_handed_out_is_kept_with_its_sender() -> None:
    told = one(event(message={"mid": "m_1", "is_unsupported": True}), "instagram")
    assert isinstance(told, Unknown)
    assert (told.external_id, told.kind, told.person) == ("m_1", "unsupported", person("instagram"))
    assert told.reason


COMMENT = {"id": "17", "from": {"id": PSID, "username": "sari.d"}, "media": {"id": "18"}, "text": "How much?"}


@pytest.mark.parametrize("field", ["comments", "live_comments"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_comment_on_instagram_is_a_message(field: str, wrapped: bool) -> None:
    change = {"field": field, "value": {**COMMENT, "parent_id": "16"}}
    sent = body(changes=[change]) if wrapped else body(**change)
    (told,) = said("instagram", sent)
    assert told == Message(
        external_id="17", person=Person(addresses=person("instagram").addresses, name="sari.d"), kind="comment",
        occurred_at=at("2022-03-29T19:20:33Z"), text="How much?", reply_to="16", data={"media_id": "18"},
    )  # fmt: skip


@pytest.mark.parametrize("author", [{"id": PAGE}, {"id": PSID, "self_ig_scoped_id": "19"}])
def test_our_own_comment_is_nobodys_message(author: dict[str, str]) -> None:
    (told,) = said("instagram", body(changes=[{"field": "comments", "value": {**COMMENT, "from": author}}]))
    assert (type(told), told.person, told.kind, told.text) == (Happened, None, "comment", "How much?")


def feed(**value: Any) -> Any:
    comment = {"item": "comment", "verb": "add", "comment_id": "5_6", "post_id": "5", "parent_id": "5",
               "from": {"id": PSID, "name": "Sari"}, "message": "How much?", "created_time": 1648581632}  # fmt: skip
    (told,) = said("messenger", body(changes=[{"field": "feed", "value": {**comment, **value}}]))
    return told


@pytest.mark.parametrize(("value", "kind"), [({}, Message), ({"verb": "edited"}, Edited), ({"verb": "remove"}, Unsent)])
def test_a_comment_on_a_page_comes_changes_and_goes(value: dict[str, Any], kind: type) -> None:
    told = feed(**value)
    assert (type(told), told.external_id, told.person.name) == (kind, "5_6", "Sari")
    assert told.occurred_at == at("2022-03-29T19:20:32Z")


def test_a_comment_may_have_a_picture() -> None:
    assert feed(photo=MEDIA).attachments == [Attachment(kind="image", reference=MEDIA)]


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"item": "like"}, "feed"), ({"verb": "hide"}, "comment.hide")],
)
def test_what_else_happens_on_a_page_is_kept(value: dict[str, Any], kind: str) -> None:
    told = feed(**value)
    assert (type(told), told.kind) == (Unknown, kind)


def test_what_the_page_comments_is_nobodys_message() -> None:
    told = feed(**{"from": {"id": PAGE, "name": "Sahabat Kopi"}})
    assert (type(told), told.person, told.text) == (Happened, None, "How much?")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (event(message={"text": "no id"}), "It has no mid."),
        (event(message="text"), "It has no mid."),
        (event(timestamp="yesterday", message={"mid": "m"}), "Its timestamp is missing or not a time."),
        (event(sender=None, message={"mid": "m"}), "It has no sender.id."),
        (event(read={}), "Its watermark is missing or not a time."),
        (event(delivery={"mids": "m"}), "Its watermark is missing or not a time."),
        (event(reaction={"mid": "m"}), "It has no action."),
        (event(reaction={"mid": "m" * 490, "action": "unreact"}), "An id has at most 500 characters."),
        ([], "This is not an object."),
    ],
)
@pytest.mark.parametrize("provider", ["messenger", "instagram"])
def test_a_broken_event_stops_nothing_behind_it(provider: str, broken: Any, reason: str) -> None:
    good = event(message={"mid": "m_1", "text": "Halo"})
    first, told, last = said(provider, body(good, broken, good))
    assert isinstance(told, Unknown)
    assert (told.reason, told.raw) == (reason, broken)
    assert first == last
    assert isinstance(first, Message)


@pytest.mark.parametrize(
    ("entry", "kind", "reason"),
    [
        ({"id": PAGE, "messaging": {}}, "entry", "Its messaging is missing or not a list."),
        ({"id": PAGE}, "entry", "It has neither messages nor changes."),
        ({"messaging": []}, "entry", "It has no id."),
        ({"id": PAGE, "changes": [{"field": "mention", "value": {}}]}, "mention", None),
        ({"id": PAGE, "messaging": [event(take_thread_control={})]}, "messaging", None),
    ],
)
def test_an_entry_that_is_not_known_stops_nothing_behind_it(entry: Any, kind: str, reason: str | None) -> None:
    good = body(event(message={"mid": "m_1"}))["entry"][0]
    told, last = said("messenger", {"object": "page", "entry": [entry, good]})
    assert (type(told), told.kind, told.reason) == (Unknown, kind, reason)
    assert last.external_id == "m_1"
