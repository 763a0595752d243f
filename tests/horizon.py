"""What is committed counts as settled once nothing older runs in the cluster, and other tests share the cluster."""

import asyncio

from crm.db.session import Database

_ELSEWHERE = """
    SELECT pid, backend_xid::text FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND datname <> current_database()
"""
PATIENCE_SECONDS = 600


async def until_others_end(database: Database) -> None:
    """Wait for the transactions that write to other databases now; those that begin later hold nothing up."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        running = await _elsewhere(database)
        while running & await _elsewhere(database):
            await asyncio.sleep(0.05)


async def _elsewhere(database: Database) -> set[tuple[int, str]]:
    async with database.reading() as session:
        return {tuple(row) for row in await session.fetch(_ELSEWHERE)}
