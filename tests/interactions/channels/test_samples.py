"""The providers' own sample payloads: what each comes down to."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.interactions.channels.sent import delivery, form, said

SAMPLES = Path(__file__).parents[4] / "shared/payloads"
PROVIDERS = {"whatsapp_cloud": "whatsapp"}

pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="the samples are not there")

WAMID, CALL = "wamid.xyzxyz", "CA1234567890abcdef1234567890abcdef"
SMS = "SMd560ac79e4a4d36b3ce59f1f50471986"
MID = "m_KXGKDUpO6xbVdAmZFBVpzU1AhKVJdAIUnUH4cwkvb_K3iZsWhowDRyJ_DcowEpJjncaBwdCIoRrixvCbbO1PcA"

EXPECTED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "instagram__message_text": [("Message", {"external_id": "aWdfZAG1faXRlbToxOk"})],
    "instagram__message_unsend": [("Unsent", {"external_id": "aWdfZAG1faXRlbToxOk"})],
    "instagram__story_reply": [("Message", {"text": "This is the story reply", "reply_to": None})],
    "line__follow": [("ConsentChanged", {"external_id": "testwebhookeventid", "granted": True})],
    "line__message_text": [("Message", {"external_id": "325708", "text": "Hello, world"})],
    "line__message_text_redelivery": [("Message", {"external_id": "325708", "text": "Hello, world"})],
    "line__unfollow": [("ConsentChanged", {"external_id": "testwebhookeventid", "granted": False})],
    "line__verify_empty_events": [],
    "messenger__message_delivery": [
        ("StateChanged", {"external_id": MID, "state": "delivered"}), ("Watermark", {"state": "delivered"}),
    ],
    "messenger__message_echo": [("Message", {"external_id": f"{MID}3", "direction": "outbound"})],
    "messenger__message_read": [("Watermark", {"state": "read"})],
    "messenger__message_text": [("Message", {"external_id": MID, "direction": "inbound", "text": "facebook message"})],
    "telegram__update_contact_shared": [("Message", {"external_id": "23:4"}), ("Identified", {"replaces": ()})],
    "telegram__update_edited_message": [("Edited", {"external_id": "23:1", "text": "test edited"})],
    "telegram__update_text": [("Message", {"external_id": "23:1", "text": "test"})],
    "twilio__sms_inbound.form": [("Message", {"external_id": SMS, "channel": "sms", "text": "Where is my order?"})],
    "twilio__sms_status_delivered.form": [("StateChanged", {"external_id": SMS, "state": "delivered"})],
    "twilio__sms_status_failed.form": [("StateChanged", {"external_id": SMS, "state": "failed"})],
    "twilio__voice_status_completed.form": [("Message", {"external_id": CALL, "kind": "call", "channel": "phone"})],
    "whatsapp_cloud__deleted_message_revoke": [("Unsent", {"external_id": "<ORIGINAL_WHATSAPP_MESSAGE_ID>"})],
    "whatsapp_cloud__message_image": [("Message", {"external_id": WAMID, "text": None})],
    "whatsapp_cloud__message_reply": [("Message", {"external_id": WAMID, "reply_to": f"{WAMID}=="})],
    "whatsapp_cloud__message_text": [("Message", {"external_id": WAMID, "text": "Body Text"})],
    "whatsapp_cloud__message_text_bsuid_only": [("Message", {"external_id": WAMID, "text": "Body Text"})],
    "whatsapp_cloud__status_delivered": [("StateChanged", {"external_id": WAMID, "state": "delivered"})],
    "whatsapp_cloud__status_failed": [("StateChanged", {"external_id": WAMID, "state": "failed"})],
    "whatsapp_cloud__status_sent": [("StateChanged", {"external_id": WAMID, "state": "sent"})],
    "whatsapp_cloud__system_phone_number_change": [("Identified", {"external_id": f"{WAMID}=="})],
    "whatsapp_cloud__user_marketing_preferences_resume": [("ConsentChanged", {"granted": True, "channel": "whatsapp"})],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_comes_down_to_what_it_says(name: str) -> None:
    sample = (SAMPLES / f"{name}.json").read_bytes()
    provider = name.partition("__")[0]
    sent = form(json.loads(sample)) if name.endswith(".form") else delivery(sample)
    events = said(PROVIDERS.get(provider, provider), sent)
    assert [
        (type(event).__name__, {member: getattr(event, member) for member in members})
        for event, (_, members) in zip(events, EXPECTED[name], strict=True)
    ] == EXPECTED[name]


def test_a_sender_without_a_number_is_known_by_a_user_id_alone() -> None:
    sample = (SAMPLES / "whatsapp_cloud__message_text_bsuid_only.json").read_bytes()
    (event,) = said("whatsapp", delivery(sample))
    assert {address.kind for address in event.person.addresses} == {"whatsapp_bsuid"}
