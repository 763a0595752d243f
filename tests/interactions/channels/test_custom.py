"""Our own format: every event of the contract can be said in it, and nothing that can't be."""

import dataclasses
from decimal import Decimal
from typing import Any, get_args

import pytest

from crm.interactions.channels import events as contract
from crm.interactions.channels.custom import TYPES
from crm.interactions.channels.events import (
    Address,
    Attached,
    Attachment,
    ConsentChanged,
    Edited,
    Event,
    Happened,
    Identified,
    Line,
    Message,
    Ordered,
    Person,
    PrivacyRequested,
    Reaction,
    Refunded,
    StateChanged,
    Unknown,
    Unsent,
    Watermark,
)
from tests.interactions.channels.sent import at, said

SARI = {"name": "Sari", "addresses": [{"kind": "email", "value": "sari@example.com", "verified": True}]}
PERSON = Person(addresses=[Address(kind="email", value="sari@example.com", verified=True)], name="Sari")
WHEN = at("2026-11-25T02:30:00Z")
COMMON = {"external_id": "e-1", "occurred_at": "2026-11-25T09:30:00+07:00"}

EVENTS: list[tuple[dict[str, Any], Event]] = [
    (
        {"type": "message", "person": SARI, "text": "Where is it?", "reply_to": "e-0", "thread_hint": "case-7",
         "channel": "chat", "attachments": [{"kind": "image", "reference": "https://x/1", "bytes_count": 7}]},
        Message(external_id="e-1", person=PERSON, occurred_at=WHEN, text="Where is it?", reply_to="e-0",
                thread_hint="case-7", channel="chat",
                attachments=[Attachment(kind="image", reference="https://x/1", bytes_count=7)]),
    ),
    (
        {"type": "message", "kind": "call", "direction": "outbound", "person": SARI, "data": {"duration_seconds": 60}},
        Message(external_id="e-1", person=PERSON, occurred_at=WHEN, kind="call", direction="outbound",
                data={"duration_seconds": 60}),
    ),
    (
        {"type": "attached", "to": "e-0", "attachments": [{"kind": "recording", "reference": "r-1"}]},
        Attached(external_id="e-1", to="e-0", occurred_at=WHEN,
                 attachments=[Attachment(kind="recording", reference="r-1")]),
    ),
    (
        {"type": "edited", "person": SARI, "text": "Where are they?"},
        Edited(external_id="e-1", person=PERSON, occurred_at=WHEN, text="Where are they?"),
    ),
    ({"type": "unsent"}, Unsent(external_id="e-1", occurred_at=WHEN)),
    (
        {"type": "state_changed", "state": "failed", "error": {"code": "55"}},
        StateChanged(external_id="e-1", state="failed", occurred_at=WHEN, error={"code": "55"}),
    ),
    (
        {"type": "watermark", "person": SARI, "state": "read", "until": "2026-11-25T02:29:00Z", "external_id": None},
        Watermark(person=PERSON, state="read", until=at("2026-11-25T02:29:00Z"), occurred_at=WHEN),
    ),
    (
        {"type": "reaction", "to": "e-0", "person": SARI, "emoji": "x"},
        Reaction(external_id="e-1", to="e-0", person=PERSON, occurred_at=WHEN, emoji="x"),
    ),
    (
        {"type": "consent_changed", "person": SARI, "granted": False, "channel": "email", "purpose": "marketing"},
        ConsentChanged(external_id="e-1", person=PERSON, occurred_at=WHEN, granted=False, channel="email",
                       purpose="marketing"),
    ),
    (
        {"type": "identified", "person": SARI, "attributes": {"plan": "gold"},
         "replaces": [{"kind": "phone", "value": "+62811"}]},
        Identified(external_id="e-1", person=PERSON, occurred_at=WHEN, attributes={"plan": "gold"},
                   replaces=[Address(kind="phone", value="+62811")]),
    ),
    (
        {"type": "ordered", "order_ref": "INV-1", "person": SARI, "currency": "IDR", "total": "45000.00",
         "lines": [{"sku": "KOPI", "quantity": "2", "unit_price": "22500.00", "labels": ["hot"]}],
         "discounts": ["0.50"]},
        Ordered(external_id="e-1", order_ref="INV-1", person=PERSON, occurred_at=WHEN, currency="IDR",
                total=Decimal("45000.00"), discounts=[Decimal("0.50")],
                lines=[Line(sku="KOPI", quantity=Decimal(2), unit_price=Decimal("22500.00"), labels=["hot"])]),
    ),
    (
        {"type": "refunded", "order_ref": "INV-1", "refund_ref": "R-1", "lines": [[0, "1"]]},
        Refunded(external_id="e-1", order_ref="INV-1", refund_ref="R-1", occurred_at=WHEN, lines=[(0, Decimal(1))]),
    ),
    (
        {"type": "happened", "person": None, "kind": "page.viewed", "subject": "Menu"},
        Happened(external_id="e-1", person=None, occurred_at=WHEN, kind="page.viewed", subject="Menu"),
    ),
    (
        {"type": "privacy_requested", "topic": "erasure", "person": SARI},
        PrivacyRequested(external_id="e-1", topic="erasure", person=PERSON, occurred_at=WHEN),
    ),
]  # fmt: skip


def whole(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**COMMON, **members}.items() if name != "external_id" or value}


@pytest.mark.parametrize(("members", "event"), EVENTS)
def test_every_event_can_be_said(members: dict[str, Any], event: Event) -> None:
    assert said("custom", whole(members)) == [event]


def test_no_event_of_the_contract_is_left_out() -> None:
    assert {*TYPES.values(), Unknown} == set(get_args(contract.Event))
    assert {members["type"] for members, _ in EVENTS} == TYPES.keys()


def test_several_events_come_in_their_order() -> None:
    sent = [whole(members) for members, _ in EVENTS]
    assert said("custom", {"events": [*sent, sent[0]]}) == [*(event for _, event in EVENTS), EVENTS[0][1]]


def test_no_event_is_no_event() -> None:
    assert said("custom", {"events": []}) == []


MESSAGE = {**COMMON, "type": "message", "person": SARI}
AMOUNT = "is no amount with at most 6 decimals that is below 1000000000000000."
ORDER = {**COMMON, "type": "ordered", "order_ref": "1", "person": SARI, "currency": "IDR"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({**MESSAGE, "occurred_at": "2026-11-25T09:30:00"}, "Its occurred_at has no offset from UTC."),
        ({**MESSAGE, "occurred_at": 1764037800}, "Expected `datetime`, got `int` - at `$.occurred_at`."),
        ({**MESSAGE, "occurred_at": "0001-01-01T00:00:00+14:00"}, "Its occurred_at is no time that can be."),
        ({**MESSAGE, "external_id": 17}, "Expected `str`, got `int` - at `$.external_id`."),
        ({**MESSAGE, "external_id": "  "}, "Its external_id is empty."),
        ({**MESSAGE, "external_id": "x" * 501}, "An id has at most 500 characters."),
        ({**MESSAGE, "person": {"addresses": []}}, "A person has at least one address."),
        ({**MESSAGE, "person": None}, "Expected `object`, got `null` - at `$.person`."),
        ({**MESSAGE, "kind": "points.earned"}, "What is of the kind points.earned is written by the service itself."),
        ({**MESSAGE, "kind": "A Call"}, "Its kind is no short lower-case name."),
        ({**MESSAGE, "txt": "?", "bdy": "?"}, "A message has no bdy, txt."),
        ({**MESSAGE, "direction": "sideways"}, "Invalid enum value 'sideways' - at `$.direction`."),
        ({**ORDER, "total": "NaN"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "1e15"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "1e-7"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "1e999999999999999999"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "-1e999999999999999999"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "1e-999999999999999999"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "sNaN"}, f"Its total {AMOUNT}"),
        ({**ORDER, "total": "1." + "0" * 40 + "1"}, f"Its total {AMOUNT}"),
        ({**ORDER, "discounts": ["-Infinity"]}, f"Its discounts {AMOUNT}"),
        ({**ORDER, "type": "refunded", "refund_ref": "1", "lines": [[-1, "1"]]}, "A refunded has no currency, person."),
        ({**COMMON, "type": "refunded", "order_ref": "1", "refund_ref": "1", "lines": [[-1, "1"]]},
         "The places of lines are counted from 0."),
        ({**MESSAGE, "type": "unknown"}, f"Its type is none of {', '.join(TYPES)}."),
        ({}, f"Its type is none of {', '.join(TYPES)}."),
        (["message"], "This is not an object."),
    ],
)  # fmt: skip
def test_what_can_not_be_is_kept_with_the_reason_and_stops_nothing_behind_it(broken: Any, reason: str) -> None:
    first, event, last = said("custom", {"events": [MESSAGE, broken, MESSAGE]})
    assert isinstance(event, Unknown)
    assert (event.reason, event.raw) == (reason, broken)
    assert first == last


def test_the_reason_is_there_for_every_member_that_is_needed() -> None:
    for members, event in EVENTS:
        for field in dataclasses.fields(event):
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                given = {name: value for name, value in whole(members).items() if name != field.name}
                (found,) = said("custom", given)
                assert found.reason == f"Object missing required field `{field.name}`.", (members["type"], found)
