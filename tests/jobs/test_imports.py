"""Imports go on where they were, whatever happened to whoever worked on them."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from crm.db.session import Database
from crm.jobs.imports import revert_import, run_import
from crm.loyalty import audit
from tests.exchange.desk import Desk, table
from tests.loyalty.shop import Shop

ROWS = 4_500


def people(count: int, *, header: tuple[str, ...] = ("Nama", "HP")) -> bytes:
    return table(*((f"N{n}", f"0812 {n:08}") for n in range(count)), header=header)


@pytest.fixture
async def desk(live_client: Any) -> Desk:
    return Desk(live_client)


async def started(desk: Desk, content: bytes, **options: Any) -> tuple[str, dict[str, Any]]:
    """An import that waits for the worker: its id, and what the worker would be given."""
    made = await desk.upload(content, **options)
    answer = await desk.client.post(f"/v1/imports/{made['id']}/processing", json={})
    assert answer.status_code == 202, answer.text
    [(_, payload)] = await desk.queued()
    return made["id"], payload


async def carried_out(desk: Desk, payload: dict[str, Any]) -> None:
    await run_import(desk.database, payload, now=datetime.now(UTC))


async def some_processed(desk: Desk, import_id: str) -> None:
    async with asyncio.timeout(60):
        while not (await desk.read(import_id))["progress"]["processed"]:
            await asyncio.sleep(0.01)


async def test_an_import_goes_on_after_its_worker_was_killed(desk: Desk, dsn: str) -> None:
    made = await desk.upload(people(12_000))
    await desk.client.post(f"/v1/imports/{made['id']}/processing", json={})
    worker = subprocess.Popen(
        [sys.executable, "-m", "crm.cli", "worker"],
        env=os.environ | {"CRM_DATABASE_URL": dsn},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await some_processed(desk, made["id"])
    finally:
        worker.kill()
        worker.wait()
    left = await desk.read(made["id"])
    assert left["status"] == "processing"
    assert 0 < left["progress"]["processed"] < 12_000
    await _hung_up(desk.database)

    await desk.work()

    done = await desk.read(made["id"])
    assert (done["status"], done["progress"]["created"], done["progress"]["skipped"]) == ("completed", 12_000, 0)
    assert await desk.count() == 12_000


async def _hung_up(database: Database) -> None:
    """Wait until the server has noticed that the killed worker is gone."""
    deadline = time.monotonic() + 30
    async with database.reading() as session:
        while await session.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'setia-worker')"
        ):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_two_workers_with_one_import_do_every_row_once(desk: Desk) -> None:
    import_id, payload = await started(desk, people(ROWS))

    await asyncio.gather(*(carried_out(desk, payload) for _ in range(3)))

    done = await desk.read(import_id)
    assert (done["status"], done["progress"]["processed"], done["progress"]["created"]) == ("completed", ROWS, ROWS)
    assert await desk.count() == ROWS
    await carried_out(desk, payload)
    assert await desk.read(import_id) == done


async def test_an_import_that_is_cancelled_stops_and_keeps_what_it_says(desk: Desk) -> None:
    import_id, payload = await started(desk, people(20_000))
    work = asyncio.create_task(carried_out(desk, payload))
    await some_processed(desk, import_id)

    assert (await desk.client.delete(f"/v1/imports/{import_id}")).status_code == 204
    await work

    found = await desk.read(import_id)
    assert found["status"] == "cancelled"
    assert 0 < found["progress"]["created"] == await desk.count() < 20_000
    # What it has imported can be taken back all the same.
    await desk.client.post(f"/v1/imports/{import_id}/reversion", json={})
    await desk.work()
    assert await desk.count() == 0


async def test_an_import_that_broke_off_goes_on_there(desk: Desk) -> None:
    import_id, payload = await started(desk, people(ROWS))
    async with desk.database.reading() as session:
        await session.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.name = 'N2500' THEN RAISE 'no room'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON contacts FOR EACH ROW EXECUTE FUNCTION refuse();
            """
        )
    try:
        with pytest.raises(asyncpg.RaiseError):
            await carried_out(desk, payload)
        broken = await desk.read(import_id)
    finally:
        async with desk.database.reading() as session:
            await session.execute("DROP TRIGGER refuse ON contacts; DROP FUNCTION refuse()")
    assert (broken["status"], broken["failure"]["code"], broken["progress"]["created"]) == (
        "failed",
        "interrupted",
        2_000,
    )

    await carried_out(desk, payload)

    done = await desk.read(import_id)
    assert (done["status"], done["failure"], done["progress"]["created"]) == ("completed", None, ROWS)


async def test_an_import_that_failed_is_started_again_where_it_was(desk: Desk) -> None:
    import_id, payload = await started(desk, people(ROWS))
    async with desk.database.reading() as session:
        await session.execute('UPDATE imports SET status = \'failed\', failure = \'{"code": "x", "message": "y"}\'')
    refused = await desk.client.post(f"/v1/imports/{import_id}/validation", json={})
    assert refused.status_code == 409

    answer = await desk.client.post(f"/v1/imports/{import_id}/processing", json={})
    [(_, again)] = await desk.queued()
    await carried_out(desk, again)

    assert answer.json()["failure"] is None
    assert (await desk.read(import_id))["status"] == "completed"
    await carried_out(desk, payload)  # a late retry of the first run
    assert await desk.count() == ROWS


async def test_a_file_that_can_t_be_read_to_its_end_fails_at_once_and_for_good(desk: Desk) -> None:
    content = people(2_000) + b'"never closed\n' + b"x,y\n" * 50_000
    import_id, payload = await started(desk, content)

    await carried_out(desk, payload)

    found = await desk.read(import_id)
    assert (found["status"], found["failure"]["code"], await desk.count()) == ("failed", "unreadable_file", 0)


async def test_purchases_keep_their_order_in_two_lanes_and_are_recorded_once(desk: Desk) -> None:
    await Shop.open(desk.client)
    rows = [
        (f"A{n}", f"0812 {n % 37:08}", f"2026-11-01T09:{n // 60 % 60:02}:{n % 60:02}", "5000") for n in range(2_400)
    ]
    content = table(*rows, header=("nota", "hp", "tanggal", "total"))
    made = await desk.upload(content, kind="purchases")
    mapping = {"columns": made["mapping"]["columns"], "constants": {"currency": "IDR"}}
    await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=mapping)
    await desk.client.post(f"/v1/imports/{made['id']}/processing", json={})
    [(_, payload)] = await desk.queued()

    await asyncio.gather(*(carried_out(desk, payload) for _ in range(2)))

    done = await desk.read(made["id"])
    assert (done["status"], done["progress"]["created"], done["progress"]["skipped"]) == ("completed", 2_400, 0)
    async with desk.database.reading() as session:
        assert await session.fetchval("SELECT sum(available) FROM loyalty_accounts") == 2_400 * 5
        assert await session.fetchval(
            """
            SELECT count(*) FROM (
                SELECT occurred_at < lag(occurred_at) OVER (PARTITION BY contact_id ORDER BY seq) AS earlier
                FROM points_transactions
            ) t WHERE earlier
            """
        ) == 0  # fmt: skip
        assert not (await audit.verify(session)).findings


async def test_two_workers_take_an_import_back_once(desk: Desk) -> None:
    import_id, payload = await started(desk, people(2_500))
    await carried_out(desk, payload)
    await desk.client.post(f"/v1/imports/{import_id}/reversion", json={})
    [(_, reversal)] = await desk.queued()

    await asyncio.gather(*(revert_import(desk.database, reversal, now=datetime.now(UTC)) for _ in range(3)))

    found = await desk.read(import_id)
    assert (found["status"], found["reversion"]) == ("reverted", {"removed": 2_500, "kept": 0})
    assert await desk.count() == 0
