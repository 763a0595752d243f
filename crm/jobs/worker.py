"""The process that carries the jobs out."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pydantic_core
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence import qb
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.applications import PgQueuer
from pgqueuer.core.executors import DatabaseRetryEntrypointExecutor
from pgqueuer.domain import models

from crm import jobs
from crm.db.queue import NAMES
from crm.db.session import Database

RECONNECT_SECONDS = 1
# The delays double from this one up to an hour: the last attempt is about three hours after the first.
RETRY_DELAY = timedelta(seconds=10)
ATTEMPTS_MAX = 10

_log = structlog.get_logger(__name__)


class _ConnectionLost(Exception):
    pass


async def run(
    database: Database,
    dsn: str,
    *,
    stop: asyncio.Event,
    registry: Mapping[str, jobs.Job] = jobs.JOBS,
    schedules: Mapping[str, jobs.Schedule] = jobs.SCHEDULES,
) -> None:
    """Work until `stop` is set, then finish what has begun. A lost database is awaited.

    `dsn` must lead to Postgres itself, as the queue listens for notifications.
    """
    while not stop.is_set():
        try:
            await _work(database, dsn, stop, registry, schedules)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, _ConnectionLost) as error:
            if not stop.is_set():
                _log.warning("worker_waits_for_the_database", reason=str(error) or type(error).__name__)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RECONNECT_SECONDS)


async def _work(
    database: Database,
    dsn: str,
    stop: asyncio.Event,
    registry: Mapping[str, jobs.Job],
    schedules: Mapping[str, jobs.Schedule],
) -> None:
    connection = await asyncpg.connect(dsn, timeout=30, server_settings={"application_name": "setia-worker"})
    stopping: asyncio.Task[None] | None = None
    try:
        queuer = _queuer(connection, database, registry, schedules)
        connection.add_termination_listener(lambda _: queuer.shutdown.set())
        stopping = asyncio.create_task(_forward(stop, queuer.shutdown))
        _log.info("worker_started", jobs=len(registry), schedules=len(schedules))
        await queuer.run(shutdown_on_listener_failure=True)
        if not stop.is_set():
            raise _ConnectionLost
    finally:
        if stopping is not None:
            stopping.cancel()
        connection.terminate() if connection.is_closed() else await connection.close(timeout=5)


def _queuer(
    connection: "asyncpg.Connection[asyncpg.Record]",
    database: Database,
    registry: Mapping[str, jobs.Job],
    schedules: Mapping[str, jobs.Schedule],
) -> PgQueuer:
    driver = AsyncpgDriver(connection)
    queries = Queries(
        driver, qb.QueryBuilderEnvironment(NAMES), qb.QueryQueueBuilder(NAMES), qb.QuerySchedulerBuilder(NAMES)
    )
    queuer = PgQueuer(driver, channel=NAMES.channel, queries=queries)
    retrying = functools.partial(
        DatabaseRetryEntrypointExecutor,
        max_attempts=ATTEMPTS_MAX,
        initial_delay=RETRY_DELAY,
        max_delay=timedelta(hours=1),
    )
    for name, job in registry.items():
        # A job that fails for good is kept, to be looked at and queued again.
        queuer.entrypoint(name, on_failure="hold", executor_factory=retrying)(_entrypoint(database, job))
    for name, schedule in schedules.items():
        queuer.schedule(name, schedule.cron)(_crontab(database, schedule.run))
    return queuer


def _entrypoint(database: Database, job: jobs.Job) -> Callable[[models.Job], Awaitable[None]]:
    async def run_job(queued: models.Job) -> None:
        await job(database, pydantic_core.from_json(queued.payload or b"{}"), now=datetime.now(UTC))

    return run_job


def _crontab(database: Database, run: jobs.Run) -> Callable[[models.Schedule], Awaitable[None]]:
    async def run_schedule(_: models.Schedule) -> None:
        await run(database, now=datetime.now(UTC))

    return run_schedule


async def _forward(source: asyncio.Event, target: asyncio.Event) -> None:
    await source.wait()
    target.set()
