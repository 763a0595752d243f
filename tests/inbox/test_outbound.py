"""A message is accepted, goes once, and its provider's news come to it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.inbox import posts
from tests.inbox.sending import NUMBER, Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)
SOON = NOW + timedelta(hours=1)
"""Later than any instant at which a test runs."""


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


async def test_a_provider_that_says_no_fails_it_with_its_reason(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [posts.graph_error(400, 131026, "Message undeliverable")]
    message = await writer.write(sari)
    await writer.dispatch()
    failed = await writer.message(message)
    assert (failed["status"], failed["attempts"], failed["error"]) == (
        "failed", 1, {"code": "131026", "detail": "Message undeliverable", "until": None}
    )  # fmt: skip
    [item, _] = await writer.timeline(sari)
    assert (item["state"], item["error"]["code"]) == ("failed", "131026")
    assert await writer.dispatch(now=NOW + timedelta(days=1)) == 0


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        ((429, {"retry-after": "90"}, {}), 90),
        ((503, {}, b"upstream"), 15),
        (posts.graph_error(400, 130429, "Rate limit hit"), 15),
        (posts.graph_error(500, 2, "Service temporarily unavailable", is_transient=True), 15),
    ],
)
async def test_what_is_refused_for_now_is_tried_again_when_the_provider_says(writer, post, answer, wait):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [answer]
    message = await writer.write(sari)
    await writer.dispatch(now=SOON)
    waiting = await writer.message(message)
    assert (waiting["status"], waiting["attempts"]) == ("queued", 1)
    assert datetime.fromisoformat(waiting["due_at"]) == SOON + timedelta(seconds=wait)
    assert waiting["error"]["until"] == waiting["due_at"]
    assert await writer.dispatch(now=SOON + timedelta(seconds=wait - 1)) == 0
    assert await writer.dispatch(now=SOON + timedelta(seconds=wait)) == 1
    assert (await writer.message(message))["status"] == "sent"
    assert len(post.taken) == 2


async def test_a_provider_that_is_not_there_leaves_no_doubt(client, writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    account = f"/v1/channel-accounts/{writer.account['id']}"
    await client.patch(account, json={"settings": {"api_base_url": "http://127.0.0.1:1"}})
    await writer.dispatch(now=SOON)
    waiting = await writer.message(message)
    assert (waiting["status"], waiting["error"]["code"]) == ("queued", "not_reached")
    await client.patch(account, json={"settings": {"api_base_url": post.url}})
    await writer.dispatch(now=SOON + timedelta(minutes=1))
    assert (await writer.message(message))["status"] == "sent"


@pytest.mark.parametrize("silence", [posts.HANG, posts.BREAK_OFF, (502, {}, b""), (504, {}, b"")])
async def test_where_no_answer_comes_nobody_knows_and_nothing_is_sent_again(writer, post, silence):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [silence]
    message = await writer.write(sari)
    await writer.dispatch(answer_seconds=0.2)
    assert (await writer.message(message))["status"] == "unknown"
    assert [item["state"] for item in await writer.timeline(sari)] == ["unknown", None]
    [listed] = (await writer.client.get("/v1/messages")).json()["items"]
    assert listed["id"] == message["id"]
    assert await writer.dispatch(now=NOW + timedelta(days=2)) == 0
    assert len(post.taken) == 1


async def test_what_the_provider_tells_later_settles_the_doubt(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [posts.HANG]
    message = await writer.write(sari)
    await writer.dispatch(answer_seconds=0.2)
    await writer.became("wamid.late", "delivered", at=NOW, biz_opaque_callback_data=message["id"])
    settled = await writer.message(message)
    assert (settled["status"], settled["external_id"], settled["error"]) == ("delivered", "wamid.late", None)
    await writer.became("wamid.late", "read", at=NOW)  # by its own name from now on
    assert (await writer.message(message))["status"] == "read"
    assert (await writer.client.get("/v1/messages")).json()["items"] == []
    assert len(await writer.timeline(sari)) == 2


async def test_a_failure_that_the_provider_tells_of_is_one(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await writer.dispatch()
    error = {"code": 131047, "title": "Re-engagement message", "error_data": {"details": "More than 24 hours"}}
    await writer.became("wamid.1", "failed", at=datetime.now(UTC) + timedelta(seconds=2), errors=[error])
    failed = await writer.message(message)
    assert (failed["status"], failed["error"]) == (
        "failed", {"code": "131047", "detail": "More than 24 hours", "until": None}
    )  # fmt: skip


async def test_what_is_told_before_the_answer_is_not_lost(writer, post):
    """The provider's news are faster than its own answer."""
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)

    async def told_before(_):
        await writer.became("wamid.1", "delivered", at=datetime.now(UTC) + timedelta(seconds=1))

    post.meanwhile = told_before
    await writer.dispatch()
    assert (await writer.message(message))["status"] == "delivered"
    assert len(await writer.timeline(sari)) == 2


async def test_a_message_is_cancelled_while_it_waits_and_not_after(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    later = (NOW + timedelta(hours=2)).isoformat()
    first, second = await writer.write(sari, send_at=later), await writer.write(sari)
    path = f"/v1/contacts/{sari}/messages/"
    assert (await writer.client.delete(path + first["id"])).status_code == 204
    assert (await writer.client.delete(path + first["id"])).status_code == 204
    await writer.dispatch(now=NOW + timedelta(hours=3))
    assert len(post.taken) == 1
    assert [(await writer.message(each))["status"] for each in (first, second)] == ["cancelled", "sent"]
    refused = await writer.client.delete(path + second["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "message_not_cancellable")


async def test_somebody_decides_to_send_anew_what_is_in_doubt_once(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [posts.BREAK_OFF]
    message = await writer.write(sari)
    await writer.dispatch()
    path = f"/v1/contacts/{sari}/messages/{message['id']}/resends"
    answer = await writer.client.post(path, json={})
    assert answer.status_code == 201, answer.text
    again = answer.json()
    assert (again["resend_of"], again["text"]) == (message["id"], "Siap kak")
    await writer.dispatch()
    assert [(await writer.message(each))["status"] for each in (message, again)] == ["unknown", "sent"]
    for of in (message, again):
        refused = await writer.client.post(f"/v1/contacts/{sari}/messages/{of['id']}/resends", json={})
        assert (refused.status_code, refused.json()["code"]) == (409, "message_not_resendable")


async def test_the_same_key_sends_once(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    path, body, key = f"/v1/contacts/{sari}/messages", {"text": "Siap"}, {"Idempotency-Key": "k1"}
    first, again = [await writer.client.post(path, json=body, headers=key) for _ in range(2)]
    assert (first.json(), again.headers["idempotency-replayed"]) == (again.json(), "true")
    await writer.dispatch()
    assert len(post.taken) == 1
    assert [item["id"] for item in (await writer.client.get(path)).json()["items"]] == [first.json()["id"]]
