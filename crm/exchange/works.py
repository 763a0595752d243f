"""Working an import off: who has it, how far it is, and what became of its rows.

Whoever works on one holds its `attempt`: the next who begins takes it over, and the one before can write nothing more.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.db import writes
from crm.db.session import Session
from crm.db.writes import Insert
from crm.exchange import imports
from crm.exchange.mappings import ColumnMapping, Kind
from crm.exchange.outcomes import OnDuplicate, Outcome
from crm.exchange.sheets import Layout, Row
from crm.exchange.tables import import_errors, imported_contacts


class Superseded(Exception):
    """An import was cancelled, or taken over by another worker: whoever meets this stops, and nothing is written."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one who carries an import out has to know. `positions` is how many rows of each lane are done."""

    import_id: UUID
    kind: Kind
    attempt: int
    dry_run: bool
    layout: Layout
    mapping: ColumnMapping
    program_id: UUID | None
    region: str
    on_duplicate: OnDuplicate
    by: str
    positions: Sequence[int]

    @property
    def status(self) -> str:
        """What the import is while this goes on."""
        return "validating" if self.dry_run else "processing"


async def begin(session: Session, *, import_id: UUID, run: int | None = None) -> Work | None:
    """Take over an import where it is; None where it is over, or this run of it. A validation begins anew."""
    row = await session.fetchrow(
        f"""
        UPDATE imports SET attempt = attempt + 1, failure = NULL, finished_at = NULL,
            status = CASE WHEN dry_run THEN 'validating' ELSE 'processing' END
        WHERE id = $1 AND run = coalesce($2, run)
            AND (status IN ('validating', 'processing') OR (status = 'failed' AND $2 IS NOT NULL))
        RETURNING {imports.COLUMNS}
        """,
        import_id, run,
    )  # fmt: skip
    if row is None:
        return None
    positions = row["positions"]
    if row["dry_run"]:
        await session.execute(f"UPDATE imports SET {imports.ZERO} WHERE id = $1", import_id)
        await imports.forget_refusals(session, import_id)
        positions = [0] * len(positions)
    return Work(
        import_id, row["kind"], row["attempt"], row["dry_run"], imports.layout_of(row), imports.mapping_of(row),
        row["program_id"], row["region"], row["on_duplicate"], row["by"], positions,
    )  # fmt: skip


async def expect(session: Session, *, work: Work, rows: int) -> None:
    """Say how many rows there will be."""
    await session.execute("UPDATE imports SET rows_count = $2 WHERE id = $1", work.import_id, rows)


async def note(
    session: Session, *, work: Work, lane: int, position: int, outcomes: Sequence[tuple[Row, Outcome]]
) -> None:
    """Keep what became of the next rows of a lane, in the transaction that did it. Raises Superseded."""
    results = [outcome.result for _, outcome in outcomes]
    if not await session.execute(
        """
        UPDATE imports SET positions[$4] = $5::bigint + $6, processed = processed + $6, created = created + $7,
            updated = updated + $8, skipped = skipped + $9, failed = failed + $10
        WHERE id = $1 AND attempt = $2 AND status = $3 AND positions[$4] = $5
        """,
        work.import_id, work.attempt, work.status, lane + 1, position, len(results),
        *(results.count(result) for result in ("created", "updated", "skipped", "failed")),
    ):  # fmt: skip
        raise Superseded
    refused = [
        (work.import_id, row.number, [asdict(error) for error in outcome.errors], row.cells)
        for row, outcome in outcomes
        if outcome.errors
    ]
    await writes.write(
        session,
        [
            Insert(import_errors, ("import_id", "row", "errors", "cells"), refused),
            *([] if work.dry_run or work.kind != "contacts" else [_touched(work.import_id, outcomes)]),
        ],
    )


async def complete(session: Session, *, work: Work, now: datetime) -> None:
    """All rows are worked off. Raises Superseded."""
    if not await session.execute(
        """
        UPDATE imports SET status = CASE WHEN dry_run THEN 'pending' ELSE 'completed' END, rows_count = processed,
            sample = CASE WHEN dry_run THEN sample ELSE '[]' END, finished_at = $4
        WHERE id = $1 AND attempt = $2 AND status = $3
        """,
        work.import_id, work.attempt, work.status, now,
    ):  # fmt: skip
        raise Superseded
    if not work.dry_run:
        await imports.forget_file(session, work.import_id)


async def fail(session: Session, *, work: Work, code: str, message: str, now: datetime) -> None:
    """Say that it broke off, unless somebody else has it by now."""
    await session.execute(
        """
        UPDATE imports SET status = 'failed', failure = $4, finished_at = $5
        WHERE id = $1 AND attempt = $2 AND status = $3
        """,
        work.import_id, work.attempt, work.status, {"code": code, "message": message}, now,
    )  # fmt: skip


def _touched(import_id: UUID, outcomes: Sequence[tuple[Row, Outcome]]) -> Insert:
    """The contacts that were made or have gained something, each with the first row that did it."""
    touched: dict[UUID, tuple[Any, ...]] = {}
    for row, outcome in outcomes:
        if outcome.contact_id is not None and outcome.result in ("created", "updated"):
            touched.setdefault(
                outcome.contact_id,
                (outcome.contact_id, import_id, row.number, outcome.result, outcome.version, outcome.note),
            )
    return Insert(
        imported_contacts, ("contact_id", "import_id", "row", "result", "version", "note"), list(touched.values()),
        on_conflict="(contact_id, import_id) DO UPDATE SET version = excluded.version",
    )  # fmt: skip
