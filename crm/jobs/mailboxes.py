"""Fetching new mail from mailboxes."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final
from uuid import UUID

import structlog

from crm.db.session import Database
from crm.db.vault import Vault
from crm.inbox import mailboxes
from crm.settings import Settings

_log = structlog.get_logger(__name__)
# A server that hangs holds up a run for minutes; the runs of these minutes are left out, as each takes a connection.
_turn: Final = asyncio.Lock()


async def poll_mailboxes(database: Database, *, now: datetime) -> None:
    """Each mailbox by one worker at a time, some of them side by side; one that can't be read is in no other's way."""
    if _turn.locked():
        return
    async with _turn, database.reading() as session:
        due = await mailboxes.due(session, now=now)
        ours = await mailboxes.lock(session, account_ids=due) if due else []
        try:
            await _poll_all(database, ours)
        finally:
            if ours:
                await mailboxes.unlock(session, account_ids=ours)


async def _poll_all(database: Database, account_ids: Sequence[UUID]) -> None:
    vault, room = Vault.of(_settings()), asyncio.Semaphore(mailboxes.POLLED_AT_ONCE)

    async def poll(account_id: UUID) -> None:
        async with room:
            try:
                count = await mailboxes.poll(database, account_id=account_id, vault=vault, now=datetime.now(UTC))
            except Exception:  # noqa: BLE001 - whatever it is, the other mailboxes have done nothing to deserve it
                _log.exception("mailbox_not_polled", account_id=account_id)
            else:
                _log.debug("mailbox_polled", account_id=account_id, mails=count)

    await asyncio.gather(*map(poll, account_ids))


@cache
def _settings() -> Settings:
    return Settings()
