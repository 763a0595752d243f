"""What is enqueued is carried out, once it is committed, and again when it failed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries

from crm.db import queue
from crm.db.session import Database
from crm.jobs import SCHEDULES, Job, Schedule, worker


class Diary:
    """A job that writes down what it was given, and fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.entries: list[dict[str, Any]] = []
        self.failures = failures

    async def __call__(self, database: Database, payload: dict[str, Any], *, now: datetime) -> None:
        self.entries.append(payload)
        if len(self.entries) <= self.failures:
            raise ValueError("not today")

    async def has(self, count: int) -> None:
        async with asyncio.timeout(15):
            while len(self.entries) < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def _working(
    database: Database, dsn: str, jobs: Mapping[str, Job], schedules: Mapping[str, Schedule] | None = None
) -> AsyncIterator[Callable[[], None]]:
    """A worker for the length of the block; what is yielded stops it, and the end of the block waits for it."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(database, dsn, stop=stop, registry=jobs, schedules=schedules or {}))
    async with AsyncExitStack() as stack:
        stack.callback(task.cancel)
        yield stop.set
        stop.set()
        async with asyncio.timeout(15):
            await task


async def _enqueue(database: Database, name: str, **payload: Any) -> None:
    async with database.begin() as session:
        await queue.enqueue(session, name=name, payload=payload)


async def test_a_committed_job_is_carried_out(database, dsn):
    diary = Diary()
    async with _working(database, dsn, {"note": diary}):
        await _enqueue(database, "note", text="dua kopi", count=2)
        await diary.has(1)

    assert diary.entries == [{"text": "dua kopi", "count": 2}]
    assert await _left(database) == 0


async def test_a_job_of_a_transaction_that_failed_never_runs(database, dsn):
    diary = Diary()
    async with _working(database, dsn, {"note": diary}):
        with pytest.raises(ZeroDivisionError):
            async with database.begin() as session:
                await queue.enqueue(session, name="note", payload={"text": "never"})
                raise ZeroDivisionError
        await _enqueue(database, "note", text="after")
        await diary.has(1)

    assert diary.entries == [{"text": "after"}]


async def test_a_job_that_fails_is_tried_again(database, dsn, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_DELAY", timedelta(milliseconds=20))
    diary = Diary(failures=2)
    async with _working(database, dsn, {"note": diary}):
        await _enqueue(database, "note", text="again")
        await diary.has(3)

    assert diary.entries == [{"text": "again"}] * 3
    assert await _left(database) == 0


async def test_a_job_that_fails_for_good_is_kept(database, dsn, monkeypatch):
    monkeypatch.setattr(worker, "RETRY_DELAY", timedelta(milliseconds=20))
    monkeypatch.setattr(worker, "ATTEMPTS_MAX", 1)
    diary = Diary(failures=9)
    async with _working(database, dsn, {"note": diary}):
        await _enqueue(database, "note", text="broken")
        await diary.has(2)

    async with database.reading() as session:
        assert await session.fetchval("SELECT status::text FROM pgqueuer") == "failed"


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has_begun(database, dsn):
    begun, finished = asyncio.Event(), []

    async def slow(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        finished.append(payload)

    async with _working(database, dsn, {"slow": slow}) as stop:
        await _enqueue(database, "slow", text="bread")
        async with asyncio.timeout(15):
            await begun.wait()
        stop()

    assert finished == [{"text": "bread"}]
    assert await _left(database) == 0


async def test_a_worker_whose_connection_is_cut_connects_again(database, dsn):
    diary = Diary()
    async with _working(database, dsn, {"note": diary}):
        await _enqueue(database, "note", text="before")
        await diary.has(1)
        async with database.reading() as session:
            await session.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'setia-worker' AND datname = current_database()"
            )
        await _enqueue(database, "note", text="after")
        await diary.has(2)

    assert diary.entries == [{"text": "before"}, {"text": "after"}]


async def test_a_schedule_that_is_due_runs_once(database, dsn):
    runs = []

    async def tick(database: Database, *, now: datetime) -> None:
        runs.append(now)

    schedules = {"tick": Schedule("0 0 1 1 *", tick)}
    async with _working(database, dsn, {}, schedules), asyncio.timeout(15), database.reading() as session:
        while not await session.fetchval("SELECT count(*) FROM pgqueuer_schedules"):
            await asyncio.sleep(0.02)
    assert runs == []

    async with database.reading() as session:
        await session.execute("UPDATE pgqueuer_schedules SET next_run = now() - interval '1 minute'")
    async with _working(database, dsn, {}, schedules), _working(database, dsn, {}, schedules):
        async with asyncio.timeout(15):
            while not runs:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
    assert len(runs) == 1


async def test_idempotency_keys_are_forgotten_after_three_days(database):
    now = datetime.now(UTC)
    async with database.begin() as session:
        for key, age in ((b"old", timedelta(hours=73)), (b"young", timedelta(hours=71))):
            await session.execute(
                "INSERT INTO idempotency_keys (key, request_hash, status, body, created_at)"
                " VALUES ($1, '', 201, '', $2)",
                key,
                now - age,
            )

    await SCHEDULES["purge_idempotency_keys"].run(database, now=now)

    async with database.reading() as session:
        assert [row["key"] for row in await session.fetch("SELECT key FROM idempotency_keys")] == [b"young"]


async def test_the_queue_s_log_is_forgotten_after_a_month_but_for_its_failures(database):
    now = datetime.now(UTC)
    async with database.begin() as session:
        for name, age, aggregated, status in (
            ("old", 31, True, "successful"),
            ("not yet counted", 31, False, "successful"),
            ("failed", 31, True, "failed"),
            ("young", 29, True, "successful"),
        ):
            await session.execute(
                "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint, aggregated)"
                " VALUES ($1, 1, $2::pgqueuer_status, 0, $3, $4)",
                now - timedelta(days=age),
                status,
                name,
                aggregated,
            )

    await SCHEDULES["purge_queue_log"].run(database, now=now)

    async with database.reading() as session:
        kept = {row["entrypoint"] for row in await session.fetch("SELECT entrypoint FROM pgqueuer_log")}
    assert kept == {"not yet counted", "failed", "young"}


async def test_the_queue_s_tables_are_those_the_installed_pgqueuer_wants(dsn):
    connection = await asyncpg.connect(dsn)
    try:
        plan = await Queries(AsyncpgDriver(connection), qb.QueryBuilderEnvironment(queue.NAMES)).plan_upgrade()
    finally:
        await connection.close()
    assert not plan.statements, plan


async def _left(database: Database) -> int:
    async with database.reading() as session:
        count: int = await session.fetchval("SELECT count(*) FROM pgqueuer")
        return count
