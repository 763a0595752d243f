"""Carrying out what people want done with their data."""

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import structlog

from crm.db.session import Database
from crm.inbox import fulfilments
from crm.keepers import KEEPERS
from crm.settings import Settings

_log = structlog.get_logger(__name__)


async def carry_out_privacy_requests(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """What a request wakes the worker for; all that are due, each in a transaction of its own."""
    await carry_out_due_privacy_requests(database, now=now)


async def carry_out_due_privacy_requests(database: Database, *, now: datetime) -> None:
    """One that fails by a mistake of ours keeps no other from being carried out, and is tried again."""
    async with database.reading() as session:
        due = await fulfilments.pending(session)
    for request_id in due:
        try:
            await _carry_out(database, request_id, now)
        except Exception:  # noqa: BLE001 - it is that request alone whose turn comes again
            _log.exception("privacy_request_failed", request_id=request_id)


async def _carry_out(database: Database, request_id: UUID, now: datetime) -> None:
    going_on = True
    while going_on:
        async with database.begin() as session:
            going_on = await fulfilments.carry_out(
                session, request_id=request_id, keepers=KEEPERS, region=_settings().default_region, now=now
            )


@cache
def _settings() -> Settings:
    return Settings()
