"""Twilio: texts, wishes in them, states, calls and what was recorded of them."""

from dataclasses import replace
from typing import Any

import pytest

from crm.interactions.channels import whatsapp
from crm.interactions.channels.events import (
    Address,
    Attached,
    Attachment,
    ConsentChanged,
    Happened,
    Message,
    Person,
    StateChanged,
    Unknown,
)
from tests.interactions.channels.sent import NOW, at, delivery, form, said

SHOP, SARI = "+622150001234", "+628123456789"
PERSON = Person(addresses=[Address(kind="phone", value=SARI)])
TEXT = {"MessageSid": "SM1", "SmsStatus": "received", "From": SARI, "To": SHOP, "Body": "Halo", "NumMedia": "0",
        "NumSegments": "1"}  # fmt: skip


def told(fields: dict[str, str]) -> list[Any]:
    return said("twilio", form(fields))


def one(fields: dict[str, str]) -> Any:
    (event,) = told(fields)
    return event


def test_a_text_is_a_message_of_an_unproven_number() -> None:
    assert one(TEXT) == Message(
        external_id="SM1", person=PERSON, occurred_at=NOW, channel="sms", text="Halo", attachments=[],
        data={"to": SHOP, "segments": 1},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "channel", "addresses"),
    [
        ({"From": f"whatsapp:{SARI}", "WaId": SARI[1:]}, "whatsapp", whatsapp.addresses(number=SARI)),
        ({"From": f"whatsapp:{SARI}", "ExternalUserId": "ID.5"}, "whatsapp",
         whatsapp.addresses(number=SARI, user_id="ID.5")),
        ({"From": "whatsapp:ID.5"}, "whatsapp", whatsapp.addresses(user_id="ID.5")),
        ({"From": "messenger:99", "To": "messenger:11"}, "messenger",
         [Address(kind="messenger", value="99", account="11", verified=True)]),
        ({"From": f"rcs:{SARI}"}, "rcs", [Address(kind="phone", value=SARI)]),
    ],
)  # fmt: skip
def test_a_sender_is_known_by_their_channel(sender: dict[str, str], channel: str, addresses: list[Address]) -> None:
    event = one({**TEXT, **sender, "ProfileName": "Sari Dewi"})
    assert event.channel == channel
    assert event.person == Person(addresses=addresses, name="Sari Dewi")


def test_pictures_and_places_are_kept_by_reference() -> None:
    event = one({
        **TEXT, "NumMedia": "2", "MediaUrl0": "https://x/0", "MediaContentType0": "image/jpeg",
        "MediaUrl1": "https://x/1", "MediaContentType1": "application/pdf", "Latitude": "-6.2", "Longitude": "106.8",
        "Label": "Monas", "OriginalRepliedMessageSid": "SM0",
    })  # fmt: skip
    assert event.attachments == [
        Attachment(kind="image", reference="https://x/0", content_type="image/jpeg"),
        Attachment(kind="file", reference="https://x/1", content_type="application/pdf"),
        Attachment(kind="location", name="Monas", data={"latitude": "-6.2", "longitude": "106.8"}),
    ]
    assert event.reply_to == "SM0"


@pytest.mark.parametrize(
    ("text", "more", "granted"),
    [
        ("STOP", {}, False), (" stop. ", {}, False), ("Unsubscribe", {}, False), ("Berhenti", {}, False),
        ("BERHENTI!", {}, False), ("UNREG", {}, False), ("unreg promo kopi", {}, False), ("START", {}, True),
        ("unstop", {}, True), ("henti", {"OptOutType": "STOP"}, False), ("mulai", {"OptOutType": "START"}, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("prefix", "channel"), [("", "sms"), ("whatsapp:", "whatsapp")])
def test_a_keyword_is_a_message_and_a_wish(
    text: str, more: dict[str, str], granted: bool, prefix: str, channel: str
) -> None:
    message, consent = told({**TEXT, "Body": text, "From": prefix + SARI, **more})
    assert (message.external_id, message.text) == ("SM1", text)
    assert isinstance(consent, ConsentChanged)
    assert (consent.external_id, consent.granted, consent.channel, consent.purpose) == (
        "SM1:consent", granted, channel, "all",
    )  # fmt: skip
    assert consent.person == message.person


@pytest.mark.parametrize(
    "text", ["", "Please stop by", "Stop it", "YES", "Saya mau berhenti langganan?", "START now", "HELP", "..."]
)
def test_a_word_in_a_sentence_is_no_wish(text: str) -> None:
    assert isinstance(one({**TEXT, "Body": text}), Message)


STATUS = {"MessageSid": "SM2", "From": SHOP, "To": SARI}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("accepted", "queued"), ("scheduled", "queued"), ("queued", "queued"), ("sending", "queued"), ("sent", "sent"),
        ("delivered", "delivered"), ("read", "read"), ("undelivered", "failed"), ("failed", "failed"),
        ("canceled", "failed"),
    ],
)  # fmt: skip
def test_states_are_in_our_words(status: str, state: str) -> None:
    event = one({**STATUS, "MessageStatus": status, "SmsStatus": status})
    assert isinstance(event, StateChanged)
    assert (event.external_id, event.state, event.person) == ("SM2", state, PERSON)


def test_a_failure_says_why() -> None:
    event = one({**STATUS, "MessageStatus": "failed", "ErrorCode": "63016", "ErrorMessage": "Outside the window"})
    assert event.error == {"code": "63016", "message": "Outside the window"}


@pytest.mark.parametrize("recipient", ["", "whatsapp:somebody"])
def test_a_state_of_a_message_to_nobody_known_is_a_state(recipient: str) -> None:
    event = one({**STATUS, "To": recipient, "MessageStatus": "sent"})
    assert (type(event), event.external_id, event.person) == (StateChanged, "SM2", None)


def test_a_state_nobody_knows_is_kept() -> None:
    event = one({**STATUS, "MessageStatus": "teleported"})
    assert (type(event), event.external_id, event.kind) == (Unknown, "SM2:teleported", "status.teleported")


CALL = {"CallSid": "CA1", "CallStatus": "completed", "From": SARI, "To": SHOP, "Direction": "inbound",
        "CallDuration": "180", "Timestamp": "Thu, 01 Oct 2026 10:03:00 +0000"}  # fmt: skip


def test_a_call_has_when_it_began_and_how_long_it_was() -> None:
    assert one(CALL) == Message(
        external_id="CA1", person=PERSON, occurred_at=at("2026-10-01T10:00:00Z"), channel="phone", kind="call",
        attachments=[], data={"status": "completed", "duration_seconds": 180, "number": SHOP},
    )  # fmt: skip


@pytest.mark.parametrize("status", ["no-answer", "busy", "failed", "canceled"])
def test_a_call_that_nobody_took_is_a_call(status: str) -> None:
    event = one({**CALL, "CallStatus": status, "CallDuration": "0"})
    assert (event.external_id, event.kind, event.data["status"]) == ("CA1", "call", status)
    assert event.data["duration_seconds"] == 0


@pytest.mark.parametrize("direction", ["outbound-api", "outbound-dial"])
def test_a_call_of_ours_is_with_whom_we_called(direction: str) -> None:
    event = one({**CALL, "Direction": direction, "From": SHOP, "To": SARI})
    assert (event.direction, event.person, event.data["number"]) == ("outbound", PERSON, SHOP)


@pytest.mark.parametrize(("status", "kind"), [("ringing", "call.ringing"), ("in-progress", "call.in_progress")])
def test_the_course_of_a_call_is_told_beside_it(status: str, kind: str) -> None:
    event = one({**CALL, "CallStatus": status})
    assert isinstance(event, Happened)
    assert (event.external_id, event.kind, event.data["call"], event.channel) == (f"CA1:{status}", kind, "CA1", "phone")


@pytest.mark.parametrize(
    "caller", ["", "Anonymous", "anonymous", "+266696687", "+7378742883", "client:desk", "sip:a@b"]
)
def test_callers_without_a_number_are_not_one_person(caller: str) -> None:
    event = one({**CALL, "From": caller})
    assert (type(event), event.person, event.external_id) == (Happened, None, "CA1")


def test_the_other_end_of_a_forwarded_call_is_not_taken_for_a_customer() -> None:
    event = one({**CALL, "CallSid": "CA2", "ParentCallSid": "CA1", "Direction": "outbound-dial", "To": "+622199"})
    assert (type(event), event.person, event.kind) == (Unknown, None, "call.leg")


@pytest.mark.parametrize("stamp", ["", "yesterday", "Thu, 01 Oct 99999 10:03:00 +0000", "Thu, 01 Oct 2026"])
def test_a_call_without_a_time_ended_when_it_was_told(stamp: str) -> None:
    assert one({**CALL, "Timestamp": stamp, "CallDuration": ""}).occurred_at == NOW


RECORDING = {"RecordingSid": "RE1", "RecordingUrl": "https://api.example.com/RE1", "RecordingDuration": "175",
             "RecordingStatus": "completed", "CallSid": "CA1"}  # fmt: skip
RECORDED = Attachment(
    kind="recording", reference="https://api.example.com/RE1", data={"id": "RE1", "duration_seconds": 175}
)


def test_a_recording_that_comes_later_belongs_to_its_call() -> None:
    assert one({**RECORDING, "RecordingStartTime": "Thu, 01 Oct 2026 10:00:02 +0000"}) == Attached(
        external_id="RE1", to="CA1", occurred_at=at("2026-10-01T10:00:02Z"), attachments=[RECORDED]
    )


def test_a_recording_that_comes_with_the_call_is_in_it() -> None:
    fields = {name: value for name, value in RECORDING.items() if name != "RecordingStatus"}
    assert one({**CALL, **fields}).attachments == [RECORDED]


@pytest.mark.parametrize("status", ["absent", "failed", "in-progress"])
def test_where_nothing_was_recorded_that_is_kept(status: str) -> None:
    event = one({**RECORDING, "RecordingStatus": status})
    assert (type(event), event.kind, event.external_id) == (Unknown, f"recording.{status}", f"RE1:{status}")


def test_what_was_said_belongs_to_its_call() -> None:
    event = one({
        **CALL, "TranscriptionSid": "TR1", "TranscriptionText": "Halo", "TranscriptionStatus": "completed",
        "TranscriptionUrl": "https://api.example.com/TR1", "RecordingSid": "RE1",
    })  # fmt: skip
    assert isinstance(event, Attached)
    assert (event.external_id, event.to) == ("TR1", "CA1")
    assert event.attachments[0].data == {"text": "Halo", "recording": "RE1"}


def test_json_is_read_as_a_form_is() -> None:
    sent = delivery(TEXT, headers={"content-type": "application/json; charset=utf-8"})
    assert said("twilio", sent) == told(TEXT)


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({}, "form", None),
        ({"EventType": "onMessageAdded", "ConversationSid": "CH1"}, "onMessageAdded", None),
        ({**TEXT, "From": ""}, "form", "It has no sender who is known."),
        ({**TEXT, "From": "whatsapp:somebody"}, "form", "It has no sender who is known."),
        ({**TEXT, "From": "sms:"}, "form", "It has no sender who is known."),
        ({**CALL, "CallSid": ""}, "form", "It has no CallSid."),
    ],
)
def test_what_can_not_be_read_is_kept(fields: dict[str, str], kind: str, reason: str | None) -> None:
    event = one(fields)
    assert (type(event), event.kind, event.reason, event.raw) == (Unknown, kind, reason, fields)


def test_bytes_that_are_no_text_are_shown_as_far_as_they_can_be() -> None:
    body = form(TEXT).body.replace(b"Halo", b"Ha\xfflo%00%ff\x00")
    (event,) = said("twilio", replace(form(TEXT), body=body))
    assert event.text == "Ha\ufffdlo\ufffd\ufffd\ufffd"


def test_a_form_of_too_many_fields_is_kept() -> None:
    (event,) = said("twilio", delivery(b"a=\x00&" * 2_000))
    assert (type(event), event.kind, event.external_id[:7]) == (Unknown, "body", "sha256:")
    assert "\x00" not in event.raw
