"""WhatsApp Cloud: messages, what becomes of ours, numbers that change, wishes, calls."""

from typing import Any

import pytest

from crm.interactions.channels import whatsapp
from crm.interactions.channels.events import (
    Address,
    Attachment,
    ConsentChanged,
    Edited,
    Happened,
    Identified,
    Message,
    Person,
    Reaction,
    StateChanged,
    Unknown,
    Unsent,
)
from tests.interactions.channels.sent import at, said

SARI = {"profile": {"name": "Sari Dewi"}, "wa_id": "628123456789"}
BSUID = Address(kind="whatsapp_bsuid", value="ID.13491208655302741918", verified=True)
NUMBER = Address(kind="whatsapp", value="628123456789", verified=True)
PHONE = Address(kind="phone", value="+628123456789", verified=True)
WHEN = at("2023-10-11T16:53:43Z")


def change(field: str = "messages", **value: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": "622150001234", "phone_number_id": "1122334455667"}
    return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}


def body(*changes: dict[str, Any], time: int = 1698268000) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "time": time, "changes": list(changes)}]}


def message(kind: str = "text", id: str = "wamid.A", **members: Any) -> dict[str, Any]:  # noqa: A002
    content = {"text": {"body": "Halo"}} if kind == "text" else {}
    return {"from": "628123456789", "id": id, "timestamp": "1697043223", "type": kind, **content, **members}


def received(*messages: dict[str, Any], contacts: list[Any] | None = None) -> list[Any]:
    return said("whatsapp", body(change(contacts=[SARI] if contacts is None else contacts, messages=list(messages))))


def one(*messages: dict[str, Any], contacts: list[Any] | None = None) -> Any:
    (event,) = received(*messages, contacts=contacts)
    return event


def test_a_text_is_a_message_of_a_verified_number() -> None:
    assert one(message(context={"id": "wamid.B", "from": "622150001234"})) == Message(
        external_id="wamid.A", person=Person(addresses=[NUMBER, PHONE], name="Sari Dewi"), occurred_at=WHEN,
        text="Halo", attachments=[], reply_to="wamid.B", data={"type": "text", "phone_number_id": "1122334455667"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "contact", "addresses", "name"),
    [
        ({"from_user_id": BSUID.value, "from": None}, {"user_id": BSUID.value, "profile": {"username": "sari.d"}},
         [BSUID], "sari.d"),
        ({"from_user_id": BSUID.value}, {"wa_id": "628123456789", "profile": {"name": "Sari"}},
         [BSUID, NUMBER, PHONE], "Sari"),
        ({}, {"wa_id": "628123456789", "user_id": BSUID.value}, [BSUID, NUMBER, PHONE], None),
        ({"from": "hidden"}, {"wa_id": "628123456789"}, [NUMBER, PHONE], None),
        ({}, {"user_id": BSUID.value}, [BSUID, NUMBER, PHONE], None),
        ({}, {"wa_id": "628999", "profile": {"name": "Somebody else"}}, [NUMBER, PHONE], None),
        ({"from_user_id": BSUID.value}, {"user_id": "ID.99", "wa_id": "628999"}, [BSUID, NUMBER, PHONE], None),
    ],
)  # fmt: skip
def test_a_sender_is_known_by_all_that_is_said_of_them_and_of_nobody_else(
    sender: dict[str, Any], contact: dict[str, Any], addresses: list[Address], name: str | None
) -> None:
    assert one(message(**sender), contacts=[contact]).person == Person(addresses=addresses, name=name)


def test_each_sender_of_a_batch_gets_their_own_contact() -> None:
    budi = {"profile": {"name": "Budi"}, "wa_id": "628555000111"}
    events = received(message(id="a", **{"from": "628555000111"}), message(id="b"), contacts=[SARI, budi])
    assert [(event.external_id, event.person.name) for event in events] == [("a", "Budi"), ("b", "Sari Dewi")]


def test_the_id_of_a_group_of_businesses_is_an_address_too() -> None:
    parent = "ID.ENT.11815799212886844830"
    person = one(message(from_user_id=BSUID.value, from_parent_user_id=parent)).person
    assert [address.value for address in person.addresses] == [BSUID.value, parent, NUMBER.value, PHONE.value]


@pytest.mark.parametrize(
    ("members", "text", "attachments"),
    [
        (message("image", image={"id": "7", "mime_type": "image/jpeg", "sha256": "x=", "caption": "This one"}),
         "This one", [Attachment(kind="image", reference="7", content_type="image/jpeg", data={"sha256": "x="})]),
        (message("audio", audio={"id": "7", "mime_type": "audio/ogg; codecs=opus", "voice": True}),
         None, [Attachment(kind="voice", reference="7", content_type="audio/ogg; codecs=opus")]),
        (message("document", document={"id": 7, "mime_type": "application/pdf", "filename": "invoice.pdf"}),
         None, [Attachment(kind="document", reference="7", content_type="application/pdf", name="invoice.pdf")]),
        (message("sticker", sticker={"id": "7", "mime_type": "image/webp", "animated": True}),
         None, [Attachment(kind="sticker", reference="7", content_type="image/webp", data={"animated": True})]),
        (message("location", location={"latitude": -6.2, "longitude": 106.8, "name": "Monas"}),
         None, [Attachment(kind="location", name="Monas",
                           data={"latitude": -6.2, "longitude": 106.8, "name": "Monas"})]),
        (message("contacts", contacts=[{"name": {"formatted_name": "Budi"}, "phones": []}]),
         None, [Attachment(kind="contact", name="Budi", data={"name": {"formatted_name": "Budi"}, "phones": []})]),
        (message("button", button={"text": "Yes", "payload": "yes-1"}), "Yes", []),
        (message("interactive", interactive={"type": "button_reply", "button_reply": {"id": "1", "title": "Track"}}),
         "Track", []),
        (message("interactive", interactive={"type": "list_reply", "list_reply": {"id": "1", "title": "Large"}}),
         "Large", []),
        (message("interactive", interactive={"type": "nfm_reply", "nfm_reply": {"body": "Sent"}}),
         "Sent", []),
        (message("order", order={"catalog_id": "3", "text": "Please", "product_items": []}), "Please", []),
    ],
)  # fmt: skip
def test_every_sort_of_message_has_its_text_and_attachments(
    members: dict[str, Any], text: str | None, attachments: list[Attachment]
) -> None:
    event = one(members)
    assert isinstance(event, Message)
    assert (event.text, list(event.attachments), event.data["type"]) == (text, attachments, members["type"])


def test_what_was_pressed_or_ordered_is_kept() -> None:
    event = one(message("button", button={"text": "Yes", "payload": "yes-1"}))
    assert event.data["content"] == {"text": "Yes", "payload": "yes-1"}


def test_where_somebody_came_from_is_kept() -> None:
    event = one(message(referral={"ctwa_clid": "c", "source_id": "9"}, context={"forwarded": True}))
    assert (event.data["referral"], event.data["forwarded"]) == ({"ctwa_clid": "c", "source_id": "9"}, True)


@pytest.mark.parametrize(("emoji", "expected"), [("\U0001f62e", "\U0001f62e"), ("", None), (None, None)])
def test_a_reaction_is_put_on_or_taken_off(emoji: str | None, expected: str | None) -> None:
    event = one(message("reaction", reaction={"message_id": "wamid.B", "emoji": emoji}))
    assert event == Reaction(
        external_id="wamid.A", to="wamid.B", person=Person(addresses=[NUMBER, PHONE], name="Sari Dewi"),
        occurred_at=WHEN, emoji=expected,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("edited", "text"),
    [
        ({"type": "text", "text": {"body": "New"}}, "New"),
        ({"type": "image", "image": {"id": "7", "caption": "New"}}, "New"),
    ],
)
def test_an_edit_is_of_the_first_message(edited: dict[str, Any], text: str) -> None:
    event = one(message("edit", edit={"original_message_id": "wamid.B", "message": edited}))
    assert isinstance(event, Edited)
    assert (event.external_id, event.text) == ("wamid.B", text)


def test_what_was_revoked_is_taken_back() -> None:
    event = one(message("revoke", revoke={"original_message_id": "wamid.B"}))
    assert event == Unsent(
        external_id="wamid.B", occurred_at=WHEN, person=Person(addresses=[NUMBER, PHONE], name="Sari Dewi")
    )


def test_what_the_business_writes_on_its_phone_is_an_echo() -> None:
    echo = {"from": "622150001234", "to": "628123456789", "id": "wamid.C", "timestamp": "1697043223", "type": "text"}
    value = change("smb_message_echoes", contacts=[SARI], message_echoes=[
        {**echo, "text": {"body": "Ready!"}},
        {**echo, "id": "wamid.D", "type": "revoke", "revoke": {"original_message_id": "wamid.C"}},
    ])  # fmt: skip
    first, second = said("whatsapp", body(value))
    assert (first.direction, first.text, first.external_id) == ("outbound", "Ready!", "wamid.C")
    assert first.person == Person(addresses=[NUMBER, PHONE], name="Sari Dewi")
    assert (type(second), second.external_id) == (Unsent, "wamid.C")


def status(name: str, **members: Any) -> Any:
    told = {"id": "wamid.X", "status": name, "timestamp": "1697043223", "recipient_id": "628123456789", **members}
    (event,) = said("whatsapp", body(change(statuses=[told])))
    return event


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("accepted", "queued"), ("sent", "sent"), ("delivered", "delivered"), ("read", "read"), ("played", "read"),
        ("failed", "failed"),
    ],
)  # fmt: skip
def test_states_are_in_our_words(name: str, state: str) -> None:
    event = status(name)
    assert isinstance(event, StateChanged)
    assert (event.external_id, event.state, event.occurred_at) == ("wamid.X", state, WHEN)
    assert event.person == Person(addresses=[NUMBER, PHONE])


def test_a_failure_says_why() -> None:
    error = {"code": 130472, "title": "In an experiment", "error_data": {"details": "Not sent"}}
    event = status("failed", errors=[error], biz_opaque_callback_data="crm-1")
    assert event.error == {"code": "130472", "message": "In an experiment", "details": "Not sent"}
    assert event.data == {"reference": "crm-1"}


def test_a_state_nobody_knows_is_kept() -> None:
    event = status("deleted")
    assert isinstance(event, Unknown)
    assert (event.kind, event.external_id, event.reason) == ("status.deleted", "wamid.X:deleted", None)


def test_a_changed_number_replaces_the_one_before() -> None:
    event = one(message("system", system={"type": "user_changed_number", "wa_id": "628999888777"}), contacts=[])
    new = whatsapp.addresses(number="628999888777")
    assert event == Identified(
        external_id="wamid.A", person=Person(addresses=new), occurred_at=WHEN, replaces=[NUMBER, PHONE]
    )


def test_a_changed_user_id_replaces_the_one_before_and_leaves_the_number() -> None:
    now = "MX.0987654321"
    system = {"type": "user_changed_user_id", "user_id": now, "previous_user_id": BSUID.value}
    event = one(message("system", system=system), contacts=[])
    assert list(event.person.addresses) == [*whatsapp.addresses(user_id=now), NUMBER, PHONE]
    assert list(event.replaces) == [BSUID]


def test_an_updated_user_id_replaces_the_one_before() -> None:
    update = {"wa_id": "628123456789", "user_id": {"previous": BSUID.value, "current": "ID.5"}, "timestamp": 1697043223}
    (event,) = said("whatsapp", body(change("user_id_update", user_id_update=[update])))
    assert isinstance(event, Identified)
    assert (event.person.addresses[0].value, list(event.replaces)) == ("ID.5", [BSUID])


def test_another_system_message_is_kept_as_it_is() -> None:
    event = one(message("system", system={"type": "customer_identity_changed", "body": "!"}))
    assert isinstance(event, Unknown)
    assert (event.kind, event.person.addresses[0]) == ("system.customer_identity_changed", NUMBER)


@pytest.mark.parametrize(("value", "granted"), [("stop", False), ("resume", True)])
def test_a_wish_about_marketing_is_a_consent(value: str, granted: bool) -> None:
    wish = {"wa_id": "628123456789", "category": "marketing_messages", "value": value, "timestamp": 1697043223,
            "detail": "User requested"}  # fmt: skip
    (event,) = said("whatsapp", body(change("user_preferences", contacts=[SARI], user_preferences=[wish])))
    assert isinstance(event, ConsentChanged)
    assert (event.granted, event.channel, event.purpose) == (granted, "whatsapp", "marketing")
    assert event.person == Person(addresses=[NUMBER, PHONE], name="Sari Dewi")
    assert event.evidence == {"detail": "User requested", "value": value}
    assert "628123456789" not in event.external_id


def call(**members: Any) -> Any:
    told = {"id": "wacid.1", "from": "628123456789", "to": "622150001234", "direction": "USER_INITIATED",
            "timestamp": "1671644944", **members}  # fmt: skip
    (event,) = said("whatsapp", body(change("calls", calls=[told])))
    return event


def test_a_call_that_is_over_has_its_length() -> None:
    event = call(event="terminate", status="COMPLETED", start_time="1671644824", end_time="1671644944", duration=120)
    assert event == Message(
        external_id="wacid.1", person=Person(addresses=[NUMBER, PHONE]), occurred_at=at("2022-12-21T17:47:04Z"),
        kind="call", data={"status": "completed", "duration_seconds": 120},
    )  # fmt: skip


def test_a_call_of_ours_is_with_whom_we_called() -> None:
    event = call(
        event="terminate", direction="BUSINESS_INITIATED", **{"from": "622150001234", "to": "628123456789"}
    )  # fmt: skip
    assert (event.direction, event.person.addresses[0], event.occurred_at) == (
        "outbound", NUMBER, at("2022-12-21T17:49:04Z"),
    )  # fmt: skip


def test_a_call_that_begins_is_told_without_its_session() -> None:
    event = call(event="connect", session={"sdp": "..."})
    assert isinstance(event, Happened)
    assert (event.kind, event.external_id, event.data) == ("call.connect", "wacid.1:connect", {"call": "wacid.1"})


def test_a_ringing_telephone_is_no_state_of_a_message() -> None:
    event = status("RINGING", type="call", id="wacid.1")
    assert (type(event), event.kind, event.external_id) == (Happened, "call.ringing", "wacid.1:RINGING")


def test_what_became_of_a_template_is_told_of_nobody() -> None:
    value = {"event": "REJECTED", "message_template_id": 12345678901234567890, "message_template_name": "promo",
             "reason": "PROMOTIONAL"}  # fmt: skip
    (event,) = said("whatsapp", body({"field": "message_template_status_update", "value": value}))
    assert (event.external_id, event.person, event.kind) == (
        "template:12345678901234567890:REJECTED:1698268000", None, "template.rejected",
    )  # fmt: skip
    assert (event.subject, event.text, event.occurred_at) == ("promo", "PROMOTIONAL", at("2023-10-25T21:06:40Z"))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (message(timestamp="soon"), "Its timestamp is missing or not a time."),
        (message(timestamp=None), "Its timestamp is missing or not a time."),
        (message(id=None), "It has no id."),
        (message(id="x" * 501), "An id has at most 500 characters."),
        (message(**{"from": None}), "It has no sender."),
        (message("interactive"), "Its interactive is missing."),
        (message("reaction"), "It has no reaction.message_id."),
        ("not an object", "This is not an object."),
    ],
)
def test_a_broken_message_stops_nothing_behind_it(broken: Any, reason: str) -> None:
    first, event, last = received(message(id="a"), broken, message(id="z"), contacts=[])
    assert (first.external_id, last.external_id) == ("a", "z")
    assert isinstance(event, Unknown)
    assert (event.reason, event.raw) == (reason, broken)


def test_a_message_of_a_type_nobody_knows_is_kept_with_its_sender() -> None:
    poll = message("poll", poll={"question": "?"}, errors=[{"code": 131051, "title": "Message type unknown"}])
    event = one(poll)
    assert event == Unknown(
        external_id="wamid.A", kind="message.poll", occurred_at=WHEN, raw=poll, reason="Message type unknown",
        person=Person(addresses=[NUMBER, PHONE], name="Sari Dewi"),
    )  # fmt: skip


def test_a_field_nobody_knows_is_kept() -> None:
    (event,) = said("whatsapp", body(change("account_alerts", alert="x")))
    assert (type(event), event.kind, event.person) == (Unknown, "account_alerts", None)


def test_a_batch_is_told_in_its_order_with_its_repetitions() -> None:
    twice = message(id="a")
    sent = {"id": "wamid.X", "status": "sent", "timestamp": "1697043223", "recipient_id": "628123456789"}
    two = body(change(messages=[twice, twice]), change("odd"), change(statuses=[sent, {**sent, "status": "read"}]))
    two["entry"].append({"id": "2", "changes": [change(messages=[message(id="b")])]})
    events = said("whatsapp", two)
    assert [event.external_id for event in events if not isinstance(event, Unknown)] == [
        "a", "a", "wamid.X", "wamid.X", "b",
    ]  # fmt: skip
    assert [type(event) for event in events].index(Unknown) == 2
