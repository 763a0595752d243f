"""Processing what channels delivered, noticing who has fallen silent, and forgetting what was kept long enough."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import structlog

from crm.db.session import Database
from crm.db.vault import Vault
from crm.inbox import accounts, deliveries, processing
from crm.inbox.house import House
from crm.interactions import changes
from crm.settings import Settings

LINGER_SECONDS: Final = 0.05
"""How long to look once more for a delivery whose transaction saw this job waiting, and ends after it has looked."""
CHANGES_WAIT: Final = timedelta(days=30)
"""How long what became of a message waits for the message."""

_log = structlog.get_logger(__name__)


class _Turn:
    """One at a time in this process: who comes meanwhile leaves word, and whoever is at work looks again."""

    def __init__(self) -> None:
        self._at_work = False
        self._again = asyncio.Event()

    async def take(self, database: Database) -> None:
        self._again.set()
        if self._at_work:
            return
        self._at_work = True
        try:
            while self._again.is_set():
                self._again.clear()
                await _work_off(database)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._again.wait(), LINGER_SECONDS)
                    continue
                await _work_off(database)
        finally:
            self._at_work = False


async def _work_off(database: Database) -> None:
    settings = _settings()
    done = await processing.work_off(database, vault=Vault.of(settings), house=House.of(settings), clock=_clock)
    if done:
        _log.debug("deliveries_processed", deliveries=done)


_turn = _Turn()


async def process_deliveries(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """What a delivery wakes the worker for; all that are due, not only the one."""
    await _turn.take(database)


async def process_due_deliveries(database: Database, *, now: datetime) -> None:
    """What is to be tried again, and whatever nobody was woken for."""
    async with database.reading() as session:
        due = await deliveries.due(session, now=now)
    if due:
        await _turn.take(database)
    else:
        async with database.begin() as session:
            await changes.settle(session, now=now)


async def watch_for_silence(database: Database, *, now: datetime) -> None:
    """Report the accounts of which nothing comes any more; providers switch a failing webhook off without a word."""
    async with database.begin() as session:
        fallen = await accounts.fallen_silent(session, now=now)
    for account in fallen:
        _log.warning(
            "channel_account_silent", account_id=account.id, provider=account.provider, name=account.name,
            last_received_at=account.last_received_at, silence_after=str(account.silence_after),
        )  # fmt: skip


async def purge_deliveries(database: Database, *, now: datetime) -> None:
    """Their content; that they came, and what came of them, stays."""
    before = now - timedelta(days=_settings().deliveries_kept_days)
    purged = 0
    while True:
        async with database.begin() as session:
            count = await deliveries.purge(session, received_before=before, now=now)
        purged += count
        if not count:
            break
    async with database.begin() as session:
        forgotten = await changes.forget(session, older_than=now - CHANGES_WAIT)
    _log.info("deliveries_purged", deliveries=purged, changes_without_message=forgotten)


@cache
def _settings() -> Settings:
    return Settings()


def _clock() -> datetime:
    return datetime.now(UTC)
