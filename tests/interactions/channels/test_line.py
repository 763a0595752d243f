"""LINE: messages, friends made and lost, and all else that comes in a batch."""

from typing import Any

import pytest

from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Happened,
    Message,
    Person,
    StateChanged,
    Unknown,
    Unsent,
)
from tests.interactions.channels.sent import at, said

SARI = Person(addresses=[Address(kind="line", value="U206d25c2ea6bd87c17655609a1c37cb8", verified=True)])
WHEN = at("2016-05-07T13:57:59.859Z")


def event(kind: str = "message", **members: Any) -> dict[str, Any]:
    return {
        "type": kind, "mode": "active", "timestamp": 1462629479859, "webhookEventId": "01H810YECXQQZ37VAXPF6H9E6T",
        "source": {"type": "user", "userId": SARI.addresses[0].value}, "deliveryContext": {"isRedelivery": False},
        **members,
    }  # fmt: skip


def one(told: dict[str, Any]) -> Any:
    (found,) = said("line", {"destination": "U123", "events": [told]})
    return found


def message(kind: str, **content: Any) -> Any:
    return one(event(replyToken="r", message={"id": "325708", "type": kind, **content}))


def test_a_message_is_known_by_its_own_id() -> None:
    # By which it is quoted and taken back; the event's is another.
    assert message("text", text="Halo", quoteToken="q", quotedMessageId="325707") == Message(
        external_id="325708", person=SARI, occurred_at=WHEN, text="Halo", attachments=[], reply_to="325707",
        data={"event_id": "01H810YECXQQZ37VAXPF6H9E6T", "reply_token": "r", "quote_token": "q"},
    )  # fmt: skip


def test_a_redelivery_is_the_same_message() -> None:
    again = event(message={"id": "325708", "type": "text", "text": "Halo"}, deliveryContext={"isRedelivery": True})
    assert one(again) == one({**again, "deliveryContext": {"isRedelivery": False}})


@pytest.mark.parametrize(
    ("kind", "content", "attachment"),
    [
        ("image", {"contentProvider": {"type": "line"}}, Attachment(kind="image", reference="325708")),
        ("video", {"contentProvider": {"type": "external", "originalContentUrl": "https://x/v.mp4"}, "duration": 60000},
         Attachment(kind="video", reference="https://x/v.mp4", data={"duration_ms": 60000})),
        ("file", {"fileName": "a.pdf", "fileSize": 2138},
         Attachment(kind="file", reference="325708", name="a.pdf", bytes_count=2138)),
        ("location", {"title": "Monas", "latitude": -6.2, "longitude": 106.8},
         Attachment(kind="location", name="Monas", data={"latitude": -6.2, "longitude": 106.8})),
        ("sticker", {"packageId": "1", "stickerId": "2", "keywords": ["cat"]},
         Attachment(kind="sticker", data={"package_id": "1", "sticker_id": "2", "keywords": ["cat"]})),
    ],
)  # fmt: skip
def test_media_are_kept_by_reference(kind: str, content: dict[str, Any], attachment: Attachment) -> None:
    assert message(kind, **content).attachments == [attachment]


def test_a_group_and_a_standby_are_told() -> None:
    told = event(
        mode="standby", message={"id": "1", "type": "text", "text": "x"},
        source={"type": "group", "groupId": "C1", "userId": SARI.addresses[0].value},
    )  # fmt: skip
    data = one(told).data
    assert (data["group_id"], data["standby"]) == ("C1", True)


@pytest.mark.parametrize(
    ("kind", "granted", "more"), [("follow", True, {"isUnblocked": True}), ("unfollow", False, {})]
)
def test_a_friend_may_be_written_to(kind: str, granted: bool, more: dict[str, Any]) -> None:
    assert one(event(kind, follow=more)) == ConsentChanged(
        external_id="01H810YECXQQZ37VAXPF6H9E6T", person=SARI, occurred_at=WHEN, granted=granted, channel="line",
        purpose="all", evidence={"event": kind, **more},
    )  # fmt: skip


def test_what_was_unsent_is_taken_back() -> None:
    assert one(event("unsend", unsend={"messageId": "325708"})) == Unsent(
        external_id="325708", occurred_at=WHEN, person=SARI
    )


def test_a_postback_has_what_was_chosen() -> None:
    told = one(event("postback", postback={"data": "book", "params": {"date": "2026-12-01"}}))
    assert (told.kind, told.external_id) == ("postback", "01H810YECXQQZ37VAXPF6H9E6T")
    assert told.data == {"payload": "book", "params": {"date": "2026-12-01"}}


def test_a_notification_is_delivered() -> None:
    told = one(event("delivery", delivery={"data": "crm-1"}, source=None))
    assert told == StateChanged(external_id="crm-1", state="delivered", occurred_at=WHEN)


@pytest.mark.parametrize(
    ("kind", "member", "name"),
    [("accountLink", "link", "account_linked"), ("beacon", "beacon", "beacon"),
     ("membership", "membership", "line_membership"), ("videoPlayComplete", "videoPlayComplete", "video_watched")],
)  # fmt: skip
def test_what_else_somebody_does_is_told(kind: str, member: str, name: str) -> None:
    told = one(event(kind, **{member: {"type": "x"}}))
    assert (type(told), told.kind, told.data, told.person) == (Happened, name, {"type": "x"}, SARI)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (event("join", source={"type": "group", "groupId": "C1"}), "join"),
        (event("message", source=None, message={"id": "1", "type": "text", "text": "x"}), "message"),
        (event("memberJoined"), "memberJoined"),
        (event("message", message={"id": "1", "type": "hologram"}), "message.hologram"),
    ],
)
def test_what_nobody_knows_is_kept(told: dict[str, Any], kind: str) -> None:
    found = one(told)
    assert (type(found), found.kind, found.reason, found.occurred_at) == (Unknown, kind, None, WHEN)


def test_a_question_whether_somebody_is_there_has_no_events() -> None:
    assert said("line", {"destination": "U123", "events": []}) == []


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (event(webhookEventId=None), "It has no webhookEventId."),
        (event(timestamp=-1), "Its timestamp is missing or not a time."),
        (event(timestamp=10**18), "Its timestamp is no time that can be."),
        (event(message={"type": "text"}), "It has no id."),
        (event(message=None), "It has no id."),
        (event("unsend"), "It has no unsend.messageId."),
        (None, "This is not an object."),
    ],
)
def test_a_broken_event_stops_nothing_behind_it(broken: Any, reason: str) -> None:
    good = event(message={"id": "1", "type": "text", "text": "x"})
    first, found, last = said("line", {"events": [good, broken, good]})
    assert (type(found), found.reason) == (Unknown, reason)
    assert first == last
