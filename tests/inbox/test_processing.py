"""Nothing that was delivered is lost, and nothing happens twice, whatever breaks."""

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from crm import jobs
from crm.db.vault import Vault
from crm.inbox import deliveries, happenings, processing
from crm.inbox import messages as inbox_messages
from crm.jobs import SCHEDULES, worker
from crm.jobs import inbox as inbox_jobs
from crm.settings import Settings
from tests.inbox.desk import HOUSE, Desk
from tests.inbox.toychat import at, message, person, said, state, toy
from tests.loyalty.shop import Shop

ROOT = Path(__file__).parents[2]


async def counts(session):
    """What stands on timelines, by external id, with contacts and threads beside it."""
    rows = await session.fetch("SELECT external_id, count(*) AS n FROM interactions WHERE kind = 'message' GROUP BY 1")
    return {row["external_id"]: row["n"] for row in rows}


async def everything(session):
    """All that processing writes, but for when and under which ids."""
    told = await session.fetch(
        """
        SELECT source, external_id, kind, body, direction FROM interactions WHERE external_id IS NOT NULL ORDER BY 1, 2
        """
    )
    changed = await session.fetch(
        """
        SELECT i.external_id, h.key, h.data FROM interaction_changes h JOIN interactions i ON i.id = h.interaction_id
        ORDER BY 1, 2
        """
    )
    threads = await session.fetch("SELECT channel, opened_at, last_at, messages_count FROM threads ORDER BY 2, 3, 4")
    return [[tuple(row) for row in rows] for rows in (told, changed, threads)]


def story(count, seed):
    """Deliveries of some people and what became of their messages, a fifth of them twice, in no order."""
    chance = random.Random(seed)
    bodies = []
    for number in range(count):
        who = f"user{chance.randrange(40)}"
        out = chance.random() < 0.4
        item = message(f"m{number}", f"text {number}", at=at(number * 60), who=toy(who),
                       direction="outbound" if out else "inbound")  # fmt: skip
        bodies.append((f"d{number}", said(item)))
        if out:
            bodies.append((None, said(state(f"m{number}", "sent", at=at(number * 60 + 1)))))
            bodies.append((None, said(state(f"m{number}", "read", at=at(number * 60 + 9)))))
    bodies += chance.sample(bodies, len(bodies) // 5)
    chance.shuffle(bodies)
    return bodies


async def test_one_bad_event_blocks_neither_its_neighbors_nor_other_deliveries(desk, monkeypatch):
    original = inbox_messages._report

    def stumbling(account, event, now):
        if event.external_id == "m2":
            raise ZeroDivisionError("not today")
        return original(account, event, now)

    monkeypatch.setattr(inbox_messages, "_report", stumbling)
    await desk.deliver(message("m1", "a"), message("m2", "b"), message("m3", "c"))
    await desk.deliver(message("m4", "d"))
    assert await desk.work() == 2
    assert {item["body"] for item in await desk.timeline()} == {"a", "c", "d"}
    page = (await desk.client.get("/v1/deliveries?status=failed")).json()["items"]
    [failed] = page
    assert (failed["events_count"], failed["failed_count"]) == (3, 1)
    events = (await desk.delivery(failed["id"]))["events"]
    assert [event["outcome"] for event in events] == ["recorded", "failed", "recorded"]
    assert events[1]["error"] == {"code": "unexpected", "detail": "ZeroDivisionError: not today"}

    monkeypatch.undo()
    await desk.client.post(f"/v1/deliveries/{failed['id']}/replay")


async def test_what_was_read_before_an_adapter_stumbles_counts(desk):
    events = await desk.hear(message("m1", "a"), {"event": "Crash"}, message("m2", "b"))
    assert [event["outcome"] for event in events] == ["recorded"]
    last = await desk.last()
    assert (last["status"], last["error"]["code"]) == ("failed", "unreadable")


async def test_a_replay_changes_nothing_that_is_there(desk, session):
    await desk.hear(
        message("m1", "a", direction="outbound"), state("m1", "read", at=at(5)),
        {"event": "Identified", "external_id": "i1", "person": person(toy("sari")), "attributes": {"a": 1},
         "occurred_at": at()},
    )  # fmt: skip
    last = await desk.last()
    before = await everything(session), await desk.contact()
    answer = await desk.client.post(f"/v1/deliveries/{last['id']}/replay", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    again = await desk.client.post(f"/v1/deliveries/{last['id']}/replay", headers={"Idempotency-Key": "k"})
    assert again.headers["idempotency-replayed"] == "true"
    assert await desk.work() == 1
    assert (await everything(session), await desk.contact()) == before
    replayed = await desk.last()
    assert {event["outcome"] for event in replayed["events"]} == {"duplicate"}
    assert replayed["events"][0]["interaction_id"] == last["events"][0]["interaction_id"]


async def test_what_can_t_be_replayed_says_why(desk):
    async def replay(delivery_id):
        answer = await desk.client.post(f"/v1/deliveries/{delivery_id}/replay")
        return answer.status_code, answer.json()["code"]

    await desk.send(said(message("m1", "a")), secret="wrong")
    refused = (await desk.client.get("/v1/deliveries")).json()["items"][0]["id"]
    assert await replay(refused) == (409, "delivery_not_replayable")
    tried = (await desk.client.post(f"/v1/channel-accounts/{desk.account['id']}/test")).json()["id"]
    assert await replay(tried) == (409, "delivery_not_replayable")
    assert await replay(desk.account["id"]) == (404, "delivery_not_found")


async def test_deliveries_are_listed_by_account_and_status(client):
    desk, other = await Desk.open(client), await Desk.open(client, ref="T2")
    for number in range(3):
        await desk.deliver(message(f"m{number}", "a"))
    await other.deliver({"event": "Crash"})
    await desk.work()
    await desk.deliver(message("m9", "a"))

    async def listed(**params):
        found = await client.get("/v1/deliveries", params=params)
        assert found.status_code == 200, found.text
        return found.json()

    assert len((await listed())["items"]) == 5
    assert len((await listed(account=desk.account["id"]))["items"]) == 4
    assert len((await listed(status="processed", account=desk.account["id"]))["items"]) == 3
    assert [item["account_id"] for item in (await listed(status="failed"))["items"]] == [other.account["id"]]
    assert len((await listed(status="pending"))["items"]) == 1
    first = await listed(limit=2)
    rest = await listed(limit=200, cursor=first["next_cursor"])
    ids = [item["id"] for item in first["items"] + rest["items"]]
    assert ids == [item["id"] for item in (await listed())["items"]]
    assert (await client.get("/v1/deliveries?status=lost")).status_code == 422
    assert (await client.get("/v1/deliveries?account=x")).status_code == 422
    assert (await (await client.limited_to("interactions:read")).get("/v1/deliveries")).status_code == 403


async def test_old_content_goes_and_what_came_of_it_stays(live_desk):
    await live_desk.hear(message("m1", "a"))
    await live_desk.send(said(message("m2", "b")), secret="wrong")
    await live_desk.deliver(message("m3", "not processed yet"))
    last = (await live_desk.client.get("/v1/deliveries?status=processed")).json()["items"][0]["id"]
    kept = timedelta(days=Settings().deliveries_kept_days)
    await SCHEDULES["purge_deliveries"].run(
        live_desk.client.database, now=datetime.now(UTC) + kept - timedelta(hours=1)
    )
    assert (await live_desk.delivery(last))["body"] is not None
    await SCHEDULES["purge_deliveries"].run(
        live_desk.client.database, now=datetime.now(UTC) + kept + timedelta(hours=1)
    )
    purged = await live_desk.delivery(last)
    assert (purged["body"], purged["headers"], purged["url"]) == (None, {}, "")
    assert purged["events"][0]["outcome"] == "recorded"
    assert purged["purged_at"] is not None
    statuses = [item["status"] for item in (await live_desk.client.get("/v1/deliveries")).json()["items"]]
    assert statuses == ["pending", "processed"]
    assert (await live_desk.client.post(f"/v1/deliveries/{last}/replay")).status_code == 409
    async with live_desk.client.database.reading() as session:
        assert await session.fetchval("SELECT body FROM inbox_deliveries WHERE id = $1", last) is None


async def test_whose_words_are_in_a_delivery_is_known(desk, session):
    await desk.hear(message("m1", "a"), message("m2", "b", who=toy("budi")))
    found = await session.fetchval("SELECT contact_ids FROM inbox_deliveries")
    assert {str(each) for each in found} == {
        (await desk.contact())["id"], (await desk.contact(value="budi"))["id"]
    }  # fmt: skip


async def test_a_batch_has_few_statements_however_much_is_in_it(live_desk, statements):
    async def said_for(count, start):
        for number in range(start, start + count):
            await live_desk.deliver(message(f"m{number}", "a", who=toy(f"u{number % 7}")))
        statements.clear()
        assert await live_desk.work() == count
        return len(statements)

    await said_for(7, 0)
    few, many = await said_for(10, 100), await said_for(120, 1_000)
    assert many == few


async def test_two_workers_at_once_do_everything_once(live_desk):
    bodies = story(300, seed=1)
    assert all(answer.status_code == 200 for answer in [await live_desk.send(body, key=key) for key, body in bodies])
    first, second = await asyncio.gather(live_desk.work(), live_desk.work())
    assert min(first, second) > 0
    async with live_desk.client.database.reading() as session:
        by_two = await everything(session)
        assert set((await counts(session)).values()) == {1}
        assert await session.fetchval("SELECT count(*) FROM waiting_changes") == 0
        statuses = await session.fetch("SELECT status, count(*) FROM inbox_deliveries GROUP BY 1")
        assert [row["status"] for row in statuses] == ["processed"]
        assert await session.fetchval("SELECT count(*) FROM contacts") == len(
            {row["value"] for row in await session.fetch("SELECT value FROM identity_directory")}
        )
    assert len(by_two[0]) == 300
    assert Counter(key for _, key, _ in by_two[1])["state:read"] == sum(1 for row in by_two[0] if row[4] == "outbound")


async def test_two_thousand_deliveries_with_a_fifth_of_them_twice_lose_nothing_and_do_nothing_twice(live_desk):
    chance = random.Random(5)
    bodies = [
        (
            f"d{number}" if number % 2 else None,
            said(message(f"m{number}", f"t {number}", at=at(number), who=toy(f"u{number % 97}"))),
        )
        for number in range(1_600)
    ]
    sent = bodies + chance.sample(bodies, 400)
    chance.shuffle(sent)
    sending = iter(sent)

    async def provider():
        for key, body in sending:
            assert (await live_desk.send(body, key=key)).status_code == 200

    async def at_work():
        while not all(each.done() for each in providers):
            await live_desk.work()
            await asyncio.sleep(0.01)
        await live_desk.work()

    providers = [asyncio.create_task(provider()) for _ in range(8)]
    await asyncio.gather(at_work(), at_work(), *providers)
    async with live_desk.client.database.reading() as session:
        assert await counts(session) == {f"m{number}": 1 for number in range(1_600)}
        assert await session.fetchval("SELECT count(*) FROM contacts") == 97
        assert (
            await session.fetchval("SELECT count(DISTINCT contact_id) FROM interactions WHERE kind = 'message'") == 97
        )
        assert await session.fetchval("SELECT sum(messages_count) FROM threads") == 1_600
        assert await session.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status <> 'processed'") == 0


async def test_a_worker_that_breaks_off_in_the_middle_leaves_all_of_it_to_the_next(live_desk, monkeypatch):
    for number in range(20):
        await live_desk.deliver(message(f"m{number}", "a", at=at(number)))

    class Killed(BaseException):
        pass

    async def break_off(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(deliveries, "finish", break_off)
        await live_desk.work()
    async with live_desk.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contacts") == 0
    assert await live_desk.work() == 20
    assert len(await live_desk.timeline()) == 20


async def test_a_worker_that_is_killed_loses_nothing_and_does_nothing_twice(live_desk, dsn, tmp_path):
    """A real process, with a real SIGKILL, again and again until everything is done."""
    for number in range(600):
        await live_desk.deliver(message(f"m{number}", "a", at=at(number), who=toy(f"u{number % 23}")))
    program = tmp_path / "works.py"
    program.write_text(
        "import asyncio, sys\n"
        "from datetime import UTC, datetime\n"
        "from crm.db.session import Database\n"
        "from crm.db.vault import Vault\n"
        "from crm.inbox import processing, providers\n"
        "from tests.inbox import toychat\n"
        "from tests.inbox.desk import HOUSE\n"
        "providers.ADAPTERS[toychat.NAME] = toychat.ToyChat()\n"
        "processing.BATCH = 10\n"
        "async def main():\n"
        "    database = await Database.connect(sys.argv[1], size_max=2)\n"
        "    print('begun', flush=True)\n"
        "    await processing.work_off(database, vault=Vault('x'), house=HOUSE, clock=lambda: datetime.now(UTC))\n"
        "    await database.close()\n"
        "asyncio.run(main())\n"
    )
    killed = 0
    for patience in (0.05, 0.1, 0.15, 0.2, 30):
        process = subprocess.Popen(
            [sys.executable, str(program), dsn], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        assert await asyncio.to_thread(process.stdout.readline) == b"begun\n"
        try:
            await asyncio.to_thread(process.wait, patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed
    async with live_desk.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status <> 'processed'") == 0
        assert await counts(session) == {f"m{number}": 1 for number in range(600)}
        assert await session.fetchval("SELECT sum(messages_count) FROM threads") == 600


async def test_a_message_and_its_state_written_at_the_same_moment_find_each_other(live_desk):
    database = live_desk.client.database
    await live_desk.deliver(message("m1", "a", direction="outbound"))
    async with database.begin() as session:
        await processing.process(session, vault=live_desk.vault, house=HOUSE, now=datetime.now(UTC))
        await live_desk.deliver(state("m1", "read", at=at(5)))
        async with database.begin() as other:
            await processing.process(other, vault=live_desk.vault, house=HOUSE, now=datetime.now(UTC))
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM waiting_changes") == 1
    await live_desk.work()
    assert [item["state"] for item in await live_desk.timeline()] == ["read"]


async def test_a_batch_that_gets_into_the_way_of_others_begins_anew(live_desk, monkeypatch):
    await live_desk.deliver(message("m1", "a"))
    original, failures = (
        happenings.apply,
        iter([asyncpg.DeadlockDetectedError("x"), asyncpg.LockNotAvailableError("y")]),
    )

    async def unlucky(*args, **kwargs):
        if (failure := next(failures, None)) is not None:
            raise failure
        return await original(*args, **kwargs)

    monkeypatch.setattr(happenings, "apply", unlucky)
    assert await live_desk.work() == 1
    assert (await live_desk.last())["status"] == "processed"
    assert len(await live_desk.timeline()) == 1


async def test_a_delivery_wakes_the_worker(live_desk, dsn, monkeypatch):
    monkeypatch.setattr(Vault, "of", lambda settings: live_desk.vault)
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(live_desk.client.database, dsn, stop=stop, registry=jobs.JOBS, schedules={}))
    try:
        async with asyncio.timeout(20):
            for number in range(5):
                await live_desk.deliver(message(f"m{number}", "Halo", at=at(number)))
                while (await live_desk.last())["status"] != "processed":
                    await asyncio.sleep(0.01)
    finally:
        stop.set()
        async with asyncio.timeout(15):
            await task
    assert len(await live_desk.timeline()) == 5


async def test_what_nobody_was_woken_for_is_found(live_desk, monkeypatch):
    monkeypatch.setattr(Vault, "of", lambda settings: live_desk.vault)
    await live_desk.deliver(message("m1", "Halo"))
    async with live_desk.client.database.begin() as session:
        await session.execute("DELETE FROM pgqueuer")
    await SCHEDULES["process_due_deliveries"].run(live_desk.client.database, now=datetime.now(UTC))
    assert (await live_desk.last())["status"] == "processed"


async def test_of_many_wakings_one_works_and_looks_again(live_desk, monkeypatch):
    monkeypatch.setattr(Vault, "of", lambda settings: live_desk.vault)
    await live_desk.deliver(message("m1", "Halo"))
    wakings = [inbox_jobs.process_deliveries(live_desk.client.database, {}, now=datetime.now(UTC)) for _ in range(5)]
    await asyncio.gather(*wakings)
    assert (await live_desk.last())["status"] == "processed"


async def test_orders_by_two_workers_earn_once(live_client):
    shop, desk = await Shop.open(live_client), await Desk.open(live_client)
    for number in range(60):
        order = {
            "event": "Ordered", "external_id": f"o{number % 40}", "order_ref": f"O-{number % 40}", "currency": "IDR",
            "total": "10000", "person": person(toy(f"u{number % 5}")), "occurred_at": at(number % 40),
        }  # fmt: skip
        await desk.deliver(order)
    await asyncio.gather(desk.work(), desk.work())
    assert shop.program_id
    async with live_client.database.reading() as session:
        assert await session.fetchval("SELECT sum(available) FROM loyalty_accounts") == 400
        assert await session.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status <> 'processed'") == 0
