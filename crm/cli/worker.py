"""`crm worker`: carry out jobs and schedules."""

import asyncio
import signal
from typing import Annotated

import typer
import uvloop

from crm.cli import leash, logs, place
from crm.db.session import Database
from crm.db.vault import Vault
from crm.settings import Settings


def worker(leashed: Annotated[bool, typer.Option("--leashed", hidden=True)] = False) -> None:
    """Carry out jobs and schedules, until stopped."""
    if leashed:
        leash.follow_stdin()
    settings = Settings()
    logs.configure(settings)
    with place.database(settings) as found:
        uvloop.run(_run(settings, found.direct))


async def _run(settings: Settings, dsn: str) -> None:
    from crm.jobs import worker as jobs_worker

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, stop.set)
    database = await Database.connect(dsn, size_max=settings.worker_pool_size_max, vault=Vault.of(settings))
    try:
        await jobs_worker.run(database, dsn, stop=stop)
    finally:
        await database.close()
