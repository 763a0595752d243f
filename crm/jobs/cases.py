"""Cases whose clocks have come to something, each batch in a transaction of its own."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from crm.care import sweeps
from crm.db.session import Database, Session
from crm.vocabulary import VOCABULARY


async def watch_case_clocks(database: Database, *, now: datetime) -> None:
    """Clocks follow their calendars before anybody is told to be late by them."""

    async def look(session: Session) -> int:
        return await sweeps.look(session, vocabulary=VOCABULARY, now=now)

    await _until_done(database, lambda session: sweeps.recalculate(session, now=now))
    await _until_done(database, look)


async def close_cases(database: Database, *, now: datetime) -> None:
    """What was resolved and can't be opened again."""
    await _until_done(database, lambda session: sweeps.close(session, now=now))


async def _until_done(database: Database, step: Callable[[Session], Awaitable[int]]) -> None:
    going_on = True
    while going_on:
        async with database.begin() as session:
            going_on = await step(session) >= sweeps.BATCH
