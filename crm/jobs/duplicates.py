"""Looking for contacts who are one person."""

from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from crm.contacts import scanning, scans
from crm.contacts.scanning import Phase
from crm.db.session import Database
from crm.settings import Settings


async def ask_for_scan(database: Database, *, now: datetime) -> None:
    """Each night, unless somebody has switched that off; one that has not ended yet will do."""
    if not _settings().scan_for_duplicates:
        return
    async with database.begin() as session:
        await scans.start(session, by="system", now=now)


async def scan_for_duplicates(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """Look through all contacts, on one connection, where each step is committed with the progress that it makes."""
    scan_id = UUID(payload["scan_id"])
    try:
        async with database.reading() as session:
            if not await scans.begin(session, scan_id=scan_id):
                return

            async def watch(*, phase: Phase, done: int, total: int) -> bool:
                return await scans.note(session, scan_id=scan_id, phase=phase, done=done, total=total)

            report = await scanning.scan(session, watch=watch, now=now)
            if report is not None:
                await scans.complete(session, scan_id=scan_id, report=report, now=datetime.now(UTC))
    except Exception:
        async with database.begin() as session:
            await scans.fail(session, scan_id=scan_id, now=datetime.now(UTC))
        raise


@cache
def _settings() -> Settings:
    return Settings()
