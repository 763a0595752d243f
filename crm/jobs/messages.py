"""Sending messages."""

import asyncio
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import structlog

from crm.db.session import Database
from crm.db.vault import Vault
from crm.inbox import dispatch
from crm.inbox.couriers import Couriers
from crm.inbox.house import House
from crm.settings import Settings

LINGER_SECONDS: Final = 0.05
"""How long to look once more for a message whose transaction saw this job waiting, and ends after it has looked."""

_log = structlog.get_logger(__name__)


async def send_messages(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """What a message wakes the worker for; all that are due, not only the one."""
    await _work_off(database)
    await asyncio.sleep(LINGER_SECONDS)
    await _work_off(database)


async def send_due_messages(database: Database, *, now: datetime) -> None:
    """What has waited for its time, what is to be tried again, and whatever nobody was woken for."""
    async with database.reading() as session:
        due = await dispatch.due(session, now=now)
    if due:
        await _work_off(database)


async def _work_off(database: Database) -> None:
    settings = _settings()
    # Opened anew for each run, and closed with it: between two runs there may be days.
    couriers = Couriers()
    try:
        done = await dispatch.work_off(
            database, couriers=couriers, vault=Vault.of(settings), house=House.of(settings), clock=_clock
        )
    finally:
        await couriers.close()
    if done:
        _log.debug("messages_sent", messages=done)


@cache
def _settings() -> Settings:
    return Settings()


def _clock() -> datetime:
    return datetime.now(UTC)
