"""OneTalk: chats of a custom channel, and cases."""

from datetime import UTC, datetime
from typing import Any

import pytest

from crm.interactions.channels import onetalk
from crm.interactions.channels.deliveries import SignatureInvalid
from crm.interactions.channels.events import Address, Happened, Message, Unknown
from tests.interactions.channels.parcels import NOW, account, one, parcel, sample, told

CHANNEL = account("custom-1", secret_key="k")
MESSAGE: dict[str, Any] = {
    "messageID": "m1", "chatID": "chat-7", "isFromSelf": False, "sender": {"id": "chat-7", "name": "Budi"},
    "timestamp": 1719934171955, "type": "text", "text": {"body": "Halo"},
}  # fmt: skip


def said(**changes: Any) -> Any:
    return one(onetalk, parcel({"type": "messages", "messages": [{**MESSAGE, **changes}]}), CHANNEL)


@pytest.mark.parametrize("header", ["x-secret-key", "secret-key"])
def test_the_key_comes_with_every_call(header):
    onetalk.verify(parcel({}, {header: "k"}), CHANNEL)
    for headers, of in (({header: "K"}, CHANNEL), ({}, CHANNEL), ({header: ""}, account()), ({header: "k"}, account())):
        with pytest.raises(SignatureInvalid):
            onetalk.verify(parcel({}, headers), of)


def test_a_documented_message_is_a_message():
    event = one(onetalk, parcel(sample("onetalk__custom_channel_inbound")), CHANNEL)
    assert isinstance(event, Message)
    assert (event.external_id, event.text, event.direction) == ("msg.1234567890xxx", "Hi, can you help me?", "inbound")
    assert event.reply_to == "msg.9876543210xyz"
    assert event.occurred_at == datetime(2024, 7, 2, 15, 29, 31, 955000, tzinfo=UTC)
    assert list(event.person.addresses) == [
        Address(kind="onetalk", value="6281234567890", account="custom-1", verified=True),
        Address(kind="phone", value="+6281234567890"),
    ]


@pytest.mark.parametrize("chat", ["chat-7", "999999999999", "0812345678"])
def test_a_chat_that_is_no_telephone_number_is_not_taken_for_one(chat):
    assert [each.kind for each in said(chatID=chat, sender={"id": chat}).person.addresses] == ["onetalk"]


def test_what_the_business_wrote_is_in_the_chat_of_the_person():
    event = said(isFromSelf=True, sender={"id": "shop", "name": "Shop"})
    assert (event.direction, event.person.addresses[0].value, event.person.name) == ("outbound", "chat-7", None)


@pytest.mark.parametrize("under", ["video", "image"])
def test_a_file_is_told_of_by_its_address(under):
    event = said(type="video", **{under: {"url": "https://files.example/1", "caption": "Look"}})
    assert event.text == "Look"
    assert [(each.kind, each.reference) for each in event.attachments] == [("video", "https://files.example/1")]


def test_an_agent_s_answer_is_a_message_to_the_person():
    body = {"type": "message", "message": {"chatID": "chat-7", "type": "text", "text": {"body": "Hi"}}}
    event = one(onetalk, parcel(body), CHANNEL)
    assert (event.direction, event.text, event.occurred_at) == ("outbound", "Hi", NOW)
    assert isinstance(one(onetalk, parcel({"type": "message", "message": {"type": "text"}}), CHANNEL), Unknown)


def test_what_becomes_of_a_case_happens():
    event = one(onetalk, parcel(sample("onetalk__case_resolved")), CHANNEL)
    assert isinstance(event, Happened)
    assert (event.kind, event.external_id) == ("onetalk.case_resolved", "case_resolved:958CCF3BB6")
    case = {"caseID": "C1", "resolvedTime": 1589355184000, "contact": {"phone": "6281234567890", "fullName": "Sari"}}
    again = one(onetalk, parcel({"type": "case_resolved", "caseResolved": case}), CHANNEL)
    assert again.occurred_at == datetime(2020, 5, 13, 7, 33, 4, tzinfo=UTC)
    assert (again.person.name, again.person.addresses[0].value) == ("Sari", "+6281234567890")
    closed = one(onetalk, parcel({"eventType": "close_case", "closeCase": {"chatID": "chat-7"}}), CHANNEL)
    assert (closed.kind, closed.person.addresses[0].value) == ("onetalk.close_case", "chat-7")


def test_one_bad_message_stops_none_of_the_others():
    messages = [MESSAGE, "?", {**MESSAGE, "timestamp": "soon"}, {**MESSAGE, "chatID": None, "sender": None}, MESSAGE]
    found = told(onetalk, parcel({"type": "messages", "messages": messages}), CHANNEL)
    assert [type(each).__name__ for each in found] == ["Message", "Unknown", "Unknown", "Unknown", "Message"]
