"""Trying rules on what is past."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crm.db.session import Database
from crm.loyalty import backtests


async def run_backtest(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """Replay a backtest from its beginning to its report, with its progress in transactions of their own.

    No connection is held while another is asked for: as many of these as there are connections would wait for ever.
    """
    which = {"program_id": UUID(payload["program_id"]), "backtest_id": UUID(payload["backtest_id"])}
    async with database.begin() as session:
        replay = await backtests.begin(session, **which)
    if replay is None:
        return
    try:
        going_on = True
        while going_on:
            async with database.reading() as session:
                going_on = await backtests.advance(session, replay=replay)
            async with database.begin() as session:
                if not await backtests.note(session, replay=replay, **which):
                    return
        async with database.begin() as session:
            await backtests.complete(session, replay=replay, now=datetime.now(UTC), **which)
    except Exception:
        async with database.begin() as session:
            await backtests.fail(session, now=datetime.now(UTC), **which)
        raise
