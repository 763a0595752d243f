"""A message is accepted, goes once, and its provider's news come to it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.inbox.sending import NUMBER, Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def post():
    async with open_post() as post:
        yield post


@pytest.fixture
async def writer(client, post):
    return await Writer.at(client, post)


async def test_a_message_goes_to_whoever_wrote_and_comes_to_be_read(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    assert (message["status"], message["channel"], message["attempts"]) == ("queued", "whatsapp", 0)
    shown = [(item["direction"], item["body"], item["state"]) for item in await writer.timeline(sari)]
    assert shown == [("outbound", "Siap kak", "queued"), ("inbound", "Halo", None)]
    assert await writer.dispatch() == 1
    [asked] = post.taken
    assert asked.json == {
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": NUMBER, "type": "text",
        "biz_opaque_callback_data": message["id"], "text": {"body": "Siap kak", "preview_url": False},
    }  # fmt: skip
    sent = await writer.message(message)
    assert (sent["status"], sent["external_id"], sent["attempts"]) == ("sent", "wamid.1", 1)
    assert sent["sent_to"] == {"kind": "whatsapp", "value": NUMBER, "account": ""}
    for state in ("delivered", "sent", "read"):
        await writer.became("wamid.1", state, at=NOW + timedelta(seconds=5))
    assert (await writer.message(message))["status"] == "read"
    assert [item["state"] for item in await writer.timeline(sari)] == ["read", None]
    assert await writer.dispatch() == 0
    assert len(post.taken) == 1
