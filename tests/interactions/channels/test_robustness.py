"""Whatever arrives, an adapter tells events and nothing else: it never raises, and each event can be stored."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.interactions.channels import events as contract
from crm.interactions.channels.adapters import ADAPTERS
from crm.interactions.channels.deliveries import Delivery, SignatureInvalid
from crm.interactions.channels.payloads import ID_LENGTH_MAX
from tests.interactions.channels import (
    test_custom,
    test_line,
    test_messenger,
    test_telegram,
    test_twilio,
    test_whatsapp,
)
from tests.interactions.channels.sent import account, delivery, form, said

PROVIDERS = ("custom", "instagram", "line", "messenger", "telegram", "twilio", "whatsapp")
"""Those of messages; what mail, shops and platforms send is mistreated in `test_hostile`."""
_examples = settings(deadline=None, max_examples=60)

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(2**52, 2**70), st.floats(), st.text(max_size=20),
    st.sampled_from([
        "\x00", "\ud800", "x" * 600, "", "0", -1, 10**30, "1697043223", 1697043223000, [], {}, [[]], [{}], {"id": 1},
        {"id": None}, "628123456789", "whatsapp:", "completed", "terminate", "system", "message", "edit",
    ]),
)  # fmt: skip
NAMES = st.sampled_from([
    "object", "entry", "changes", "messaging", "field", "value", "messages", "statuses", "calls", "contacts", "id",
    "type", "from", "sender", "recipient", "timestamp", "message", "mid", "events", "update_id", "chat", "date",
    "MessageSid", "CallSid", "CallStatus", "From", "To", "person", "addresses", "occurred_at", "external_id", "data",
])  # fmt: skip
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4)
)


def samples(provider: str) -> Iterator[Any]:
    """Deliveries of every sort, as they ought to be."""
    match provider:
        case "whatsapp":
            message, change = test_whatsapp.message, test_whatsapp.change
            kinds = ["image", "location", "contacts", "reaction", "edit", "revoke", "system", "button", "poll"]
            status = {
                "id": "w",
                "status": "failed",
                "timestamp": "1",
                "recipient_id": "62811111",
                "errors": [{"code": 1}],
            }
            call = {"id": "c", "event": "terminate", "from": "62811111", "timestamp": "1", "duration": 1}
            yield test_whatsapp.body(
                change(contacts=[test_whatsapp.SARI], messages=[message(), *(message(kind) for kind in kinds)]),
                change(messages=[
                    message("image", image={"id": "7", "caption": "c"}),
                    message("edit", edit={"original_message_id": "w", "message": {"text": {"body": "b"}}}),
                    message("system", system={"type": "user_changed_number", "wa_id": "628999888777"}),
                    message("reaction", reaction={"message_id": "w", "emoji": "x"}),
                ]),
                change(statuses=[status]), change("calls", calls=[call]),
                change("smb_message_echoes", message_echoes=[{**message(), "to": "62811111"}]),
                change("user_preferences", user_preferences=[
                    {"wa_id": "62811111", "category": "marketing_messages", "value": "stop", "timestamp": 1},
                ]),
                {"field": "message_template_status_update", "value": {"event": "A", "message_template_id": 1}},
            )  # fmt: skip
        case "messenger" | "instagram":
            event, body = test_messenger.event, test_messenger.body
            reads = [{"read": {"watermark": 1}}, {"read": {"mid": "m"}}, {"delivery": {"mids": ["m"], "watermark": 1}}]
            acts = [{"reaction": {"mid": "m", "action": "react", "emoji": "x"}}, {"postback": {"title": "t"}},
                    {"optin": {"type": "notification_messages"}}, {"referral": {"source": "ADS"}},
                    {"message_edit": {"mid": "m", "text": "t"}}]  # fmt: skip
            told = {"mid": "m", "text": "t", "attachments": [{"type": "image", "payload": {"url": "u"}}],
                    "reply_to": {"story": {"id": "s"}}}  # fmt: skip
            yield body(event(message=told), *(event(**one) for one in reads + acts))
            yield body(changes=[{"field": "comments", "value": test_messenger.COMMENT}])
        case "telegram":
            message = test_telegram.message
            contact = {"phone_number": "1", "user_id": test_telegram.USER["id"]}
            yield {"update_id": 1, "message": message(text="t", photo=[{"file_id": "f"}], contact=contact)}
            yield {"update_id": 1, "edited_message": message(text="t")}
            yield {"update_id": 1, "callback_query": {"id": "1", "from": test_telegram.USER, "message": message()}}
            change = {
                "chat": test_telegram.CHAT,
                "from": test_telegram.USER,
                "date": 1,
                "new_chat_member": {"status": "kicked"},
            }
            yield {"update_id": 1, "my_chat_member": change}
            yield {"update_id": 1, "message_reaction": {
                "chat": test_telegram.CHAT, "message_id": 1, "user": test_telegram.USER, "date": 1,
                "new_reaction": [{"emoji": "x"}],
            }}  # fmt: skip
        case "line":
            event = test_line.event
            parts = {"message": {"id": "1", "type": "image"}, "unsend": {"messageId": "1"}, "postback": {"data": "d"},
                     "follow": {}, "unfollow": {}, "delivery": {"data": "d"}, "beacon": {"hwid": "h"}}  # fmt: skip
            yield {"destination": "U", "events": [event(kind, **{kind: part}) for kind, part in parts.items()]}
        case "custom":
            yield {"events": [test_custom.whole(members) for members, _ in test_custom.EVENTS]}
        case "twilio":
            media = {"NumMedia": "1", "MediaUrl0": "u", "Latitude": "1", "Longitude": "2", "Body": "STOP"}
            yield from ({**test_twilio.TEXT, **media}, {**test_twilio.STATUS, "MessageStatus": "failed"})
            yield from (test_twilio.CALL, test_twilio.RECORDING, {**test_twilio.CALL, "TranscriptionSid": "T"})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a payload."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield (*path, name)
        yield from places(one, (*path, name))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy with something else there; without it where `to` is ...."""
    if not path:
        return to
    copy = value.copy()
    if len(path) == 1 and to is ...:
        copy.pop(path[0])
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


MUTABLE = {
    provider: [(sample, path) for sample in samples(provider) for path in places(sample)] for provider in PROVIDERS
}


def sendable(provider: str, payload: Any) -> Delivery:
    if provider == "twilio":
        return form({name: value if isinstance(value, str) else json.dumps(value) for name, value in payload.items()})
    return delivery(payload)


def check(provider: str, sent: Delivery) -> list[Any]:
    """The events of a delivery, each of which must be fit to be stored."""
    found = said(provider, sent)
    assert found == said(provider, sent), "the same delivery says the same again"
    for event in found:
        assert isinstance(event, get_args(contract.Event))
        _check_fields(event)
        # As Postgres wants it: whole numbers that a JSON library takes, and no NUL.
        json.dumps(dataclasses.asdict(event), default=str, allow_nan=False)
        assert "\x00" not in repr(event)
        assert "\\x00" not in repr(event)
    return found


def _check_fields(value: Any, name: str = "") -> None:
    if name in {"external_id", "to", "order_ref", "refund_ref"}:
        assert isinstance(value, str)
        assert 0 < len(value) <= ID_LENGTH_MAX
        value.encode()
    if isinstance(value, datetime):
        assert value.utcoffset() is not None
        assert value.utcoffset().total_seconds() == 0
    if isinstance(value, contract.Person):
        assert value.addresses
        assert all(isinstance(address.value, str) and address.value for address in value.addresses)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check_fields(getattr(value, field.name), field.name)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_samples_are_told_whole(provider: str) -> None:
    reasons = [
        getattr(event, "reason", None)
        for one in samples(provider)
        for event in check(provider, sendable(provider, one))
    ]
    assert len(reasons) >= 5
    if provider not in {"whatsapp", "twilio"}:
        assert set(reasons) == {None}


@_examples
@given(data=st.data())
@pytest.mark.parametrize("provider", PROVIDERS)
def test_any_json_gives_events(provider: str, data: st.DataObject) -> None:
    body = data.draw(JSON)
    headers = {"content-type": "application/json"}
    found = check(provider, delivery(body, headers=headers))
    if not isinstance(body, dict):
        assert [type(event) for event in found] == [contract.Unknown]


@_examples
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
@pytest.mark.parametrize("provider", PROVIDERS)
def test_any_bytes_give_events(provider: str, body: bytes) -> None:
    assert check(provider, delivery(body))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_payload_with_anything_in_a_wrong_place_gives_events(provider: str, data: st.DataObject) -> None:
    sample, path = data.draw(st.sampled_from(MUTABLE[provider]))
    to = data.draw(st.just(...) | ODD | JSON)
    check(provider, sendable(provider, changed(sample, path, to)))


@_examples
@given(fields=st.dictionaries(NAMES | st.text(max_size=5), st.text(max_size=20), max_size=6))
def test_any_form_gives_events(fields: Mapping[str, str]) -> None:
    assert check("twilio", form(fields))


@_examples
@given(data=st.data())
@pytest.mark.parametrize("provider", PROVIDERS)
def test_whatever_is_not_signed_is_refused_and_nothing_else(provider: str, data: st.DataObject) -> None:
    adapter = ADAPTERS[provider]
    words = st.text(max_size=30)
    names = st.sampled_from([
        "x-hub-signature-256", "x-line-signature", "x-telegram-bot-api-secret-token", "x-twilio-signature",
        "webhook-id", "webhook-timestamp", "webhook-signature",
    ])  # fmt: skip
    secrets = dict.fromkeys(adapter.SECRETS, "c2VjcmV0LXNlY3JldC1zZWNyZXQ=")
    sent = delivery(
        data.draw(st.binary(max_size=50)), headers=data.draw(st.dictionaries(names, words)),
        url=data.draw(words | st.just("https://a.b/c?bodySHA256=")), query=data.draw(st.dictionaries(words, words)),
        method=data.draw(st.sampled_from(["GET", "POST"])),
    )  # fmt: skip
    with pytest.raises(SignatureInvalid):
        adapter.verify(sent, account(secrets, public_url=data.draw(words)))
    if sent.method == "GET" and provider in {"whatsapp", "messenger", "instagram"}:
        with pytest.raises(SignatureInvalid):
            adapter.handshake(sent, account(secrets))
    key = adapter.key(sent)
    assert key is None or isinstance(key, str)
