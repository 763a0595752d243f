"""A message goes once: whoever else works, whatever breaks off, and whoever is merged or forgotten meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from crm.inbox import dispatch
from crm.interactions.channels.outgoing import Sent
from tests.inbox.posts import TOKEN
from tests.inbox.sending import HOUSE, NUMBER, Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)
SOON = NOW + timedelta(hours=1)


@pytest.fixture
async def post():
    async with open_post() as post:
        yield post


@pytest.fixture
async def writer(client, post):
    return await Writer.at(client, post)


@pytest.fixture
async def live_writer(live_client, post):
    """With real commits."""
    return await Writer.at(live_client, post)


async def test_two_workers_send_each_message_once(live_writer, post):
    writer = live_writer
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    messages = [await writer.write(sari, f"No. {number}") for number in range(50)]

    async def slowly(_):
        await asyncio.sleep(0)

    post.meanwhile = slowly
    done = await asyncio.gather(*(writer.dispatch() for _ in range(4)))
    assert sum(done) == 50
    assert sorted(asked.json["text"]["body"] for asked in post.taken) == sorted(each["text"] for each in messages)
    assert {(await writer.message(each))["status"] for each in messages} == {"sent"}


async def test_it_is_marked_before_the_provider_hears_of_it(live_writer, post):
    """What a worker leaves behind that dies at that moment."""
    sari = await live_writer.sari()
    await live_writer.wrote(at=NOW)
    message = await live_writer.write(sari)
    seen = []

    async def look(_):
        seen.append((await live_writer.message(message))["status"])

    post.meanwhile = look
    await live_writer.dispatch()
    assert seen == ["sending"]


async def died(writer, *, now):
    """A worker takes what is due, and is gone."""
    async with writer.client.database.begin() as session:
        _, claimed = await dispatch.claim(session, vault=writer.vault, house=HOUSE, now=now)
    return claimed


async def test_a_worker_that_dies_leaves_a_doubt_and_no_second_message(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await died(writer, now=SOON)
    assert (await writer.message(message))["status"] == "sending"
    assert await writer.dispatch(now=SOON + timedelta(minutes=4)) == 0  # it may still be at it
    assert (await writer.message(message))["status"] == "sending"
    await writer.dispatch(now=SOON + dispatch.LOST_AFTER + timedelta(seconds=1))
    doubtful = await writer.message(message)
    assert (doubtful["status"], doubtful["error"]["code"]) == ("unknown", "interrupted")
    assert post.taken == []
    await writer.became("wamid.x", "read", at=NOW, biz_opaque_callback_data=message["id"])
    assert (await writer.message(message))["status"] == "read"


async def test_a_worker_that_comes_back_late_tells_what_it_knows(writer):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    [claimed] = await died(writer, now=SOON)
    await writer.dispatch(now=SOON + timedelta(hours=1))
    assert (await writer.message(message))["status"] == "unknown"
    async with writer.client.database.begin() as session:
        await dispatch.finish(session, claimed=claimed, outcome=Sent("wamid.9"), now=SOON + timedelta(hours=2))
    settled = await writer.message(message)
    assert (settled["status"], settled["external_id"], settled["error"]) == ("sent", "wamid.9", None)


async def test_it_gives_up_after_some_attempts(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=SOON)
    post.next_answers = [(503, {}, {})] * dispatch.ATTEMPTS_MAX
    message = await writer.write(sari)
    now = SOON
    for _ in range(dispatch.ATTEMPTS_MAX):
        assert await writer.dispatch(now=now) == 1
        now += dispatch.RETRY_DELAY_MAX
    failed = await writer.message(message)
    assert (failed["status"], failed["attempts"], failed["error"]["code"]) == (
        "failed", dispatch.ATTEMPTS_MAX, "http_503"
    )  # fmt: skip


async def test_one_that_fails_keeps_no_other_back(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [(400, {}, {})]
    messages = [await writer.write(sari, f"No. {number}") for number in range(3)]
    await writer.dispatch()
    found = sorted([(await writer.message(each))["status"] for each in messages])
    assert found == ["failed", "sent", "sent"]


async def test_who_is_forgotten_gets_nothing_more_and_nothing_is_kept_of_what_went(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    sent = await writer.write(sari, "Rahasia satu")
    await writer.dispatch()
    queued = await writer.write(sari, "Rahasia dua", send_at=SOON.isoformat())
    key = {"Idempotency-Key": "k"}
    await writer.client.post(f"/v1/contacts/{sari}/messages", json={"text": "Rahasia tiga"}, headers=key)
    answer = await writer.client.post(f"/v1/contacts/{sari}/erasure", json={})
    assert answer.status_code == 201, answer.text
    assert answer.json()["erased"]["sent_messages"] == 3
    assert await writer.dispatch(now=SOON + timedelta(days=1)) == 0
    assert len(post.taken) == 1
    async with writer.client.database.begin() as session:
        rows = await session.fetch("SELECT to_jsonb(m)::text AS row, m.status, m.id::text FROM outbound_messages m")
        left = "".join(row["row"] for row in rows)
        names = await session.fetchval(
            "SELECT count(*) FROM interaction_directory WHERE external_id = ANY ($1)",
            ["wamid.1", sent["id"], queued["id"]],
        )
    assert {row["id"]: row["status"] for row in rows}[queued["id"]] == "cancelled"
    assert names == 0
    for secret in (NUMBER, "wamid", "Rahasia"):
        assert secret not in left


async def test_what_was_on_its_way_to_who_is_forgotten_leaves_nothing_either(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)

    async def forget(_):
        answer = await writer.client.post(f"/v1/contacts/{sari}/erasure", json={})
        assert answer.status_code == 201, answer.text

    post.meanwhile = forget
    await writer.dispatch()
    async with writer.client.database.begin() as session:
        row = await session.fetchrow("SELECT status, external_id, sent_to FROM outbound_messages")
        names = await session.fetchval("SELECT count(*) FROM interaction_directory WHERE external_id = 'wamid.1'")
    assert (row["status"], row["external_id"], row["sent_to"], names) == ("sent", None, None, 0)
    assert message["status"] == "queued"


async def test_what_is_known_of_somebody_tells_what_was_sent(writer):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await writer.dispatch()
    told = (await writer.client.get(f"/v1/contacts/{sari}/personal-data")).text
    assert message["id"] in told
    assert "wamid.1" in told


async def test_after_a_merge_what_waits_still_goes_and_is_the_survivors(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    waiting = await writer.write(sari, send_at=SOON.isoformat())
    other = await writer.sari({"kind": "email", "value": "sari@example.com"}, name="Sari Dewi")
    answer = await writer.client.post("/v1/merges", json={"contact_id": other, "other_contact_id": sari})
    assert answer.status_code == 201, answer.text
    await writer.dispatch(now=SOON)
    assert post.taken[0].json["to"] == NUMBER
    [listed] = (await writer.client.get(f"/v1/contacts/{other}/messages")).json()["items"]
    assert (listed["id"], listed["status"]) == (waiting["id"], "sent")
    await writer.became("wamid.1", "delivered", at=SOON)
    assert (await writer.message({**waiting, "contact_id": other}))["status"] == "delivered"
    assert (await writer.client.delete(f"/v1/merges/{answer.json()['id']}")).status_code == 200
    assert (await writer.message(waiting))["status"] == "delivered"


async def test_a_consent_of_the_survivor_counts(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    waiting = await writer.write(sari, send_at=SOON.isoformat())
    other = await writer.sari({"kind": "email", "value": "sari@example.com"}, name="Sari Dewi")
    denied = {"channel": "all", "purpose": "all", "status": "denied"}
    await writer.client.post(f"/v1/contacts/{other}/consents", json=denied)
    await writer.client.post("/v1/merges", json={"contact_id": other, "other_contact_id": sari})
    await writer.dispatch(now=SOON)
    assert (await writer.message({**waiting, "contact_id": other}))["error"]["code"] == "consent_denied"
    assert post.taken == []


async def test_an_account_that_is_gone_fails_what_waits(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await writer.client.delete(f"/v1/channel-accounts/{writer.account['id']}")
    await writer.dispatch()
    assert (await writer.message(message))["error"]["code"] == "channel_account_not_found"


async def test_a_worker_judges_many_in_as_many_statements_as_one(writer, statements):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    counts = []
    for many in (1, 10):
        for number in range(many):
            await writer.write(sari, f"No. {number}")
        async with writer.client.database.begin() as session:
            statements.clear()
            _, claimed = await dispatch.claim(session, vault=writer.vault, house=HOUSE, now=SOON)
            counts.append(len(statements))
        assert len(claimed) == many
    assert counts[0] == counts[1] <= 9


async def test_a_provider_that_is_slow_keeps_no_other_back(live_client, post):
    async with open_post() as other:
        slow = await Writer.at(live_client, post)
        quick = await Writer.at(live_client, other, ref="PN2", settings={"phone_number_id": "PN1"})
        sari = await slow.sari()
        await slow.wrote(at=NOW)
        budi = await quick.sari({"kind": "whatsapp", "value": "628777666555"}, name="Budi")
        await quick.wrote(at=NOW, number="628777666555", id="in2")
        went, all_taken = asyncio.Event(), asyncio.Event()

        async def hold(_):
            await went.wait()

        async def count(_):
            if len(other.taken) == 5:
                all_taken.set()

        post.meanwhile, other.meanwhile = hold, count
        for number in range(dispatch.OF_ACCOUNT_MAX * 2):
            await slow.write(sari, f"No. {number}")
        for number in range(5):
            await quick.write(budi, f"No. {number}")
        work = asyncio.create_task(slow.dispatch())
        await asyncio.wait_for(all_taken.wait(), 10)
        assert len(post.taken) <= dispatch.BATCH
        went.set()
        await work
        assert len(post.taken) == dispatch.OF_ACCOUNT_MAX * 2


async def test_who_asks_to_be_left_alone_is(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [(429, {"retry-after": "60"}, {})] * 50
    for number in range(50):
        await writer.write(sari, f"No. {number}")
    await writer.dispatch(now=SOON)
    assert len(post.taken) < 50
    post.next_answers = []
    await writer.dispatch(now=SOON + timedelta(seconds=60))
    found = (await writer.client.get(f"/v1/contacts/{sari}/messages?limit=200")).json()["items"]
    assert {each["status"] for each in found} == {"sent"}


async def test_a_secret_that_the_provider_repeats_is_not_told(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    post.next_answers = [(401, {}, {"error": {"code": 190, "message": f"Invalid token {TOKEN}\x00"}})]
    message = await writer.write(sari)
    await writer.dispatch()
    assert (await writer.message(message))["error"]["detail"] == "Invalid token …\ufffd"


async def test_a_member_sees_what_they_got(writer):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    await writer.write(sari, "Sudah")
    await writer.dispatch()
    await writer.write(sari, "Nanti", send_at=SOON.isoformat())
    token = (await writer.client.post(f"/v1/contacts/{sari}/member-tokens", json={})).json()["token"]
    page = (await writer.client.holding(token).get("/v1/me/timeline")).json()
    assert [item["body"] for item in page["items"]] == ["Sudah", "Halo"]
