"""Members ask the bot with their own token, and hear of themselves only."""

from typing import Any
from uuid import UUID

import pytest

from tests.interactions.test_merges import made
from tests.loyalty.shop import Shop


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await made(shop.client, {"name": "Sari", "locale": "id-ID"})


async def test_a_member_asks_and_reads_what_was_answered(shop, sari):
    await shop.award(sari, 45)
    member = await shop.signed_in(sari)
    reply = (await member.post("/v1/me/assistant-replies", json={"text": "poin saya berapa?"})).json()
    assert reply["answer"] == "Anda punya 45 poin di Kopi."
    assert set(reply) == {"id", "locale", "question", "answer", "outcome", "sources", "created_at"}
    assert (await member.get("/v1/me/assistant-replies")).json()["items"] == [reply]
    assert (await member.get(f"/v1/me/assistant-replies/{reply['id']}")).json() == reply
    shown = (await member.get("/v1/me/timeline")).json()["items"]
    assert [(entry["direction"], entry["body"]) for entry in shown if entry["kind"] == "message"] == [
        ("outbound", reply["answer"]), ("inbound", "poin saya berapa?")
    ]  # fmt: skip


async def test_a_member_does_not_see_what_is_done_about_it(shop, sari):
    member = await shop.signed_in(sari)
    reply = (await member.post("/v1/me/assistant-replies", json={"text": "saya mau bicara dengan orang"})).json()
    assert reply["outcome"] == "handed_over"
    (case,) = (await shop.client.get("/v1/cases", params={"contact_id": str(sari)})).json()["items"]
    assert (case["category"], case["channel"], case["created_by"]) == ("assistant", "chat", "bot")
    shown = (await member.get("/v1/me/timeline")).text
    assert case["id"] not in shown
    assert "assistant.handed_over" not in shown


@pytest.mark.parametrize("body", [{"text": "x", "contact_id": "1"}, {"text": "x", "channel": "chat"}, {"text": ""}])
async def test_a_member_can_say_nothing_but_a_text(shop, sari, body):
    member = await shop.signed_in(sari)
    assert (await member.post("/v1/me/assistant-replies", json=body)).status_code == 422


async def test_a_member_s_question_sent_again_is_answered_once(shop, sari):
    member = await shop.signed_in(sari)
    first, second = [
        await member.post("/v1/me/assistant-replies", json={"text": "halo"}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert second.json() == first.json()
    assert len((await member.get("/v1/me/assistant-replies")).json()["items"]) == 1
