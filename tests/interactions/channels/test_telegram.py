"""Telegram: one update, one thing that happened."""

from typing import Any

import pytest

from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Identified,
    Message,
    Person,
    Reaction,
    Unknown,
)
from tests.interactions.channels.sent import NOW, at, said

USER = {"id": 5_300_000_023, "is_bot": False, "first_name": "Sari", "last_name": "Dewi", "language_code": "id"}
CHAT = {"id": 5_300_000_023, "type": "private"}
ADDRESS = Address(kind="telegram", value="5300000023", verified=True)
SARI = Person(addresses=[ADDRESS], name="Sari Dewi", locale="id")
WHEN = at("2021-09-08T20:14:37Z")


def message(**members: Any) -> dict[str, Any]:
    return {"message_id": 4, "from": USER, "chat": CHAT, "date": 1631132077, **members}


def update(**members: Any) -> list[Any]:
    return said("telegram", {"update_id": 9_007_199_254_740_993, **members})


def one(**members: Any) -> Any:
    (event,) = update(**members)
    return event


def test_a_message_is_known_by_its_chat_and_number() -> None:
    assert one(message=message(text="Halo", reply_to_message={"message_id": 3})) == Message(
        external_id="5300000023:4", person=SARI, occurred_at=WHEN, text="Halo", attachments=[],
        reply_to="5300000023:3", data={"update_id": "9007199254740993"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "attachment"),
    [
        ({"photo": [{"file_id": "small", "file_size": 10}, {"file_id": "large", "file_size": 99}]},
         Attachment(kind="image", reference="large", bytes_count=99)),
        ({"document": {"file_id": "d", "file_name": "a.pdf", "mime_type": "application/pdf", "file_size": 7}},
         Attachment(kind="document", reference="d", content_type="application/pdf", name="a.pdf", bytes_count=7)),
        ({"voice": {"file_id": "v", "duration": 3, "mime_type": "audio/ogg"}},
         Attachment(kind="voice", reference="v", content_type="audio/ogg", data={"duration_seconds": 3})),
        ({"animation": {"file_id": "a"}, "document": {"file_id": "a"}}, Attachment(kind="animation", reference="a")),
        ({"sticker": {"file_id": "s", "emoji": "x"}}, Attachment(kind="sticker", reference="s", data={"emoji": "x"})),
        ({"location": {"latitude": 1.5, "longitude": 2.5}},
         Attachment(kind="location", data={"latitude": 1.5, "longitude": 2.5})),
        ({"venue": {"title": "Monas"}, "location": {"latitude": 1.5}},
         Attachment(kind="venue", name="Monas", data={"title": "Monas"})),
    ],
)  # fmt: skip
def test_files_and_places_are_attachments(content: dict[str, Any], attachment: Attachment) -> None:
    event = one(message=message(caption="See", **content))
    assert (event.text, event.attachments) == ("See", [attachment])


def test_the_own_number_of_whoever_shares_it_is_proven() -> None:
    contact = {"phone_number": "628123456789", "first_name": "Sari", "user_id": USER["id"]}
    shared, identified = update(message=message(contact=contact))
    assert isinstance(shared, Message)
    assert identified == Identified(
        external_id="5300000023:4:contact", occurred_at=WHEN,
        person=Person(
            addresses=[ADDRESS, Address(kind="phone", value="+628123456789", verified=True)], name="Sari Dewi",
            locale="id",
        ),
    )  # fmt: skip


@pytest.mark.parametrize("owner", [{"user_id": 99}, {"user_id": None}, {}, {"user_id": True}])
def test_the_number_of_somebody_else_proves_nothing(owner: dict[str, Any]) -> None:
    event = one(message=message(contact={"phone_number": "628123456789", "first_name": "Budi", **owner}))
    assert isinstance(event, Message)
    assert list(event.person.addresses) == [ADDRESS]


def test_an_edit_is_of_the_message_with_its_number() -> None:
    event = one(edited_message=message(text="Hallo", edit_date=1631132177))
    assert event == Edited(
        external_id="5300000023:4", person=SARI, occurred_at=at("2021-09-08T20:16:17Z"), text="Hallo"
    )


def test_a_pressed_button_is_a_postback() -> None:
    event = one(callback_query={"id": "4382bfdwdsb323b2d9", "from": USER, "message": message(), "data": "size-l"})
    assert event == Message(
        external_id="callback:4382bfdwdsb323b2d9", person=SARI, occurred_at=NOW, kind="postback",
        reply_to="5300000023:4", data={"payload": "size-l"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("signs", "emoji"),
    [
        ([{"type": "emoji", "emoji": "\U0001f44d"}], "\U0001f44d"),
        ([{"type": "custom_emoji", "custom_emoji_id": "53"}], "53"),
        ([{"type": "paid"}], "paid"),
        ([], None),
    ],
)
def test_a_reaction_is_what_is_there_now(signs: list[Any], emoji: str | None) -> None:
    changed = {
        "chat": CHAT,
        "message_id": 4,
        "user": USER,
        "date": 1631132077,
        "old_reaction": [],
        "new_reaction": signs,
    }
    assert one(message_reaction=changed) == Reaction(
        external_id="update:9007199254740993", to="5300000023:4", person=SARI, occurred_at=WHEN, emoji=emoji
    )


def membership(status: str, **members: Any) -> Any:
    change = {
        "chat": CHAT, "from": USER, "date": 1631132077, "old_chat_member": {"status": "member"},
        "new_chat_member": {"status": status}, **members,
    }  # fmt: skip
    return one(my_chat_member=change)


@pytest.mark.parametrize(("status", "granted"), [("kicked", False), ("member", True)])
def test_blocking_the_bot_is_a_wish(status: str, granted: bool) -> None:
    assert membership(status) == ConsentChanged(
        external_id="update:9007199254740993", person=SARI, occurred_at=WHEN, granted=granted, channel="telegram",
        purpose="all", evidence={"status": status, "before": "member"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "members"),
    [("kicked", {"chat": {"id": -100, "type": "group"}}), ("restricted", {}), ("left", {"new_chat_member": None})],
)
def test_what_becomes_of_the_bot_elsewhere_is_nobodys_wish(status: str, members: dict[str, Any]) -> None:
    event = membership(status, **members)
    assert (type(event), event.kind) == (Unknown, "my_chat_member")


def test_a_message_in_a_group_says_where() -> None:
    group = {"id": -1001234567890123, "type": "supergroup", "title": "Coffee"}
    event = one(message=message(text="Halo", chat=group))
    assert (event.external_id, event.data["chat"]) == ("-1001234567890123:4", group)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"message": message(new_chat_members=[USER])}, "message.new_chat_members"),
        ({"message": message(text="Hi", **{"from": {**USER, "is_bot": True}})}, "message.text"),
        ({"poll_answer": {"poll_id": "1"}}, "poll_answer"),
        ({"channel_post": message()}, "channel_post"),
        ({}, "update"),
    ],
)
def test_what_is_no_message_of_a_person_is_kept(content: dict[str, Any], kind: str) -> None:
    event = one(**content)
    assert (type(event), event.kind, event.reason) == (Unknown, kind, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"message": message(date=None)}, "Its date is missing or not a time."),
        (
            {"message": message(**{"from": None})},
            "It has no sender: it is of a channel, or of somebody who is anonymous.",
        ),
        ({"message": message(chat=None)}, "It has no chat.id."),
        ({"message": []}, "It has no chat.id."),
        ({"edited_message": message(message_id=None)}, "It has no message_id."),
        ({"update_id": None, "message": message(text="x")}, "It has no update_id."),
    ],
)
def test_a_broken_update_says_what_is_wrong(content: dict[str, Any], reason: str) -> None:
    event = one(**content)
    assert (type(event), event.reason) == (Unknown, reason)
