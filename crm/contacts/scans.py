"""Scans over all contacts for duplicates: asked for, worked off by the worker, and looked back at.

A scan may break off and begin again: what it has suggested is suggested once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts.scanning import Phase, ScanReport
from crm.db import queue
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, NotFound

duplicate_scans = Table(
    "duplicate_scans",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False),
    Column("phase", Text),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger),
    Column("report", JSONB),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
)

JOB: Final = "scan_for_duplicates"

_COLUMNS: Final = "id, status, phase, done, total, report, by, created_at, finished_at"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('duplicate_scans'))"


class ScanNotFound(NotFound):
    code = "scan_not_found"
    title = "There is no such scan"


class ScanCompleted(Conflict):
    code = "scan_completed"
    title = "The scan has been completed"


@dataclass(slots=True)
class ScanProgress:
    """What the scan is at: `reading` counts contacts, `comparing` and `checking` pairs. Null until it has begun."""

    phase: Phase | None
    done: int
    total: int | None


@dataclass(slots=True)
class DuplicateScan:
    """A scan over all contacts. `report` is there once it is completed. A failed one is tried again, for a while."""

    id: UUID
    status: str
    progress: ScanProgress
    report: ScanReport | None
    by: str
    created_at: datetime
    finished_at: datetime | None


async def start(session: Session, *, by: str, now: datetime) -> tuple[DuplicateScan, bool]:
    """Have the worker look through all contacts; the scan, and whether it is a new one.

    One that has not ended yet will do for whoever asks again.
    """
    await session.execute(_LOCK)
    row = await session.fetchrow(
        f"SELECT {_COLUMNS} FROM duplicate_scans WHERE status IN ('pending', 'processing') ORDER BY id DESC LIMIT 1"
    )
    if row is not None:
        return _view(row), False
    row = await session.fetchrow(
        f"INSERT INTO duplicate_scans (id, by, created_at) VALUES ($1, $2, $3) RETURNING {_COLUMNS}", uuid7(), by, now
    )
    scan = _view(row)
    await queue.enqueue(session, name=JOB, payload={"scan_id": scan.id})
    return scan, True


async def get(session: Session, *, scan_id: UUID) -> DuplicateScan:
    """One scan. Raises ScanNotFound."""
    row = await session.fetchrow(f"SELECT {_COLUMNS} FROM duplicate_scans WHERE id = $1", scan_id)
    if row is None:
        raise ScanNotFound("No scan has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[DuplicateScan]:
    """Scans, the newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {_COLUMNS} FROM duplicate_scans WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def cancel(session: Session, *, scan_id: UUID, now: datetime) -> None:
    """End a scan that has not ended; whoever works on it stops. Raises ScanNotFound, ScanCompleted."""
    if await session.execute(
        """
        UPDATE duplicate_scans SET status = 'cancelled', finished_at = $2
        WHERE id = $1 AND status IN ('pending', 'processing', 'failed')
        """,
        scan_id, now,
    ):  # fmt: skip
        return
    if (await get(session, scan_id=scan_id)).status == "completed":
        raise ScanCompleted("It has its report already; there is nothing left to stop.")


# ------------------------------------------------------------------ carrying it out


async def begin(session: Session, *, scan_id: UUID) -> bool:
    """Take a scan up, from its beginning; False where it is over, or was never asked for."""
    taken = await session.execute(
        """
        UPDATE duplicate_scans SET status = 'processing', phase = NULL, done = 0, total = NULL, finished_at = NULL
        WHERE id = $1 AND status IN ('pending', 'processing', 'failed')
        """,
        scan_id,
    )
    return taken == 1


async def note(session: Session, *, scan_id: UUID, phase: Phase, done: int, total: int) -> bool:
    """Keep how far a scan is; False where nobody wants it any more."""
    wanted = await session.execute(
        "UPDATE duplicate_scans SET phase = $2, done = $3, total = $4 WHERE id = $1 AND status = 'processing'",
        scan_id, phase, done, total,
    )  # fmt: skip
    return wanted == 1


async def complete(session: Session, *, scan_id: UUID, report: ScanReport, now: datetime) -> None:
    """Keep the report of a scan that has seen everything, unless somebody cancelled it or was faster."""
    await session.execute(
        """
        UPDATE duplicate_scans SET status = 'completed', report = $2, finished_at = $3
        WHERE id = $1 AND status = 'processing'
        """,
        scan_id, msgspec.to_builtins(report), now,
    )  # fmt: skip


async def fail(session: Session, *, scan_id: UUID, now: datetime) -> None:
    """Say that a scan broke off; it may begin again."""
    await session.execute(
        "UPDATE duplicate_scans SET status = 'failed', finished_at = $2 WHERE id = $1 AND status = 'processing'",
        scan_id, now,
    )  # fmt: skip


def _view(row: Record | None) -> DuplicateScan:
    assert row is not None, "the statement returns what it wrote"
    return DuplicateScan(
        id=row["id"],
        status=row["status"],
        progress=ScanProgress(row["phase"], row["done"], row["total"]),
        report=None if row["report"] is None else msgspec.convert(row["report"], ScanReport),
        by=row["by"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
