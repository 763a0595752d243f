"""Imports: what somebody wants brought in from a file, and how far that is.

An import is pending, is validated any number of times, which writes nothing, and is processed once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db import queue
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import Conflict, NotFound
from crm.exchange import guesses, mappings
from crm.exchange.mappings import ColumnMapping, Kind
from crm.exchange.outcomes import OnDuplicate
from crm.exchange.sheets import Layout
from crm.exchange.tables import imports as table
from crm.loyalty import programs

JOB: Final = "run_import"
LANES: Final[Mapping[Kind, int]] = {"contacts": 1, "purchases": 2}
"""Batches under way at once: of purchases, one is planned while the database writes the other."""
KEPT: Final = timedelta(days=30)
"""How long what was in a file is kept, once nobody works on it any more."""

COLUMNS: Final = ", ".join(column.name for column in table.c)
ZERO: Final = """
    positions = array_fill(0::bigint, ARRAY[cardinality(positions)]), processed = 0, created = 0, updated = 0,
    skipped = 0, failed = 0
"""
_OPEN: Final = ("pending", "validating", "processing", "failed")


class ImportNotFound(NotFound):
    code = "import_not_found"
    title = "There is no such import"


class ImportNotPending(Conflict):
    code = "import_not_pending"
    title = "The import can't be changed or started now"


@dataclass(slots=True)
class ImportMapping:
    """Which field each column is for, what a field is in every row that does not say it, how days are written."""

    columns: dict[str, str]
    constants: dict[str, str]
    date_order: str


@dataclass(slots=True)
class ImportProgress:
    """Rows under the header, null until they have been counted, and what became of those that were worked off."""

    rows: int | None
    processed: int
    created: int
    updated: int
    skipped: int
    failed: int


@dataclass(slots=True)
class ImportFailure:
    """Why it broke off. The rows before that are imported."""

    code: str
    message: str


@dataclass(slots=True)
class ImportReversion:
    """How many contacts were removed again, and how many could not be."""

    removed: int
    kept: int


@dataclass(slots=True)
class Import:
    """A file and what becomes of its rows. `progress` is that of the last run; with `dry_run` it only foretells.

    Columns that are `unmapped` are ignored where contacts are imported, and kept with each purchase where purchases
    are. The file and its `sample` are forgotten once all of it is imported.
    """

    id: UUID
    kind: Kind
    status: str
    filename: str
    format: str
    encoding: str | None
    delimiter: str | None
    sheet: str | None
    program_id: UUID | None
    columns: list[str]
    sample: list[list[str]]
    mapping: ImportMapping
    unmapped: list[str]
    on_duplicate: str
    dry_run: bool
    progress: ImportProgress
    failure: ImportFailure | None
    reversion: ImportReversion | None
    by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


async def create(
    session: Session, *, kind: Kind, filename: str, layout: Layout, sample: Sequence[Sequence[str]],
    mapping: ColumnMapping | None = None, program_id: UUID | None, region: str, by: str, now: datetime,
) -> Import:  # fmt: skip
    """An import of a file with this layout, mapped as said or else by the names of its columns.

    Purchases belong to a program, by default the default one. Raises ProgramRequired, ProgramNotFound, NotImportable.
    """
    if kind == "purchases":
        program_id = program_id or await programs.default_id(session)
        await programs.get(session, program_id=program_id)
    elif program_id is not None:
        raise mappings.NotImportable("Only purchases belong to a program.")
    if mapping is None:
        mapping = guesses.guess(kind, layout.columns, sample)
    else:
        mappings.check(kind, mapping, layout.columns)
    row = await session.fetchrow(
        f"""
        INSERT INTO imports (id, kind, filename, layout, sample, mapping, program_id, region, positions, by, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {COLUMNS}
        """,
        uuid7(), kind, filename, asdict(layout), sample, asdict(mapping), program_id, region, [0] * LANES[kind], by,
        now,
    )  # fmt: skip
    assert row is not None, "the statement returns what it wrote"
    return view(row)


async def get(session: Session, *, import_id: UUID) -> Import:
    """One import. Raises ImportNotFound."""
    return view(await _row(session, import_id))


async def page(session: Session, *, kinds: Sequence[Kind], before: UUID | None, limit: int) -> list[Import]:
    """Imports of these kinds, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {COLUMNS} FROM imports WHERE kind = ANY ($1) AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        kinds, before, limit,
    )  # fmt: skip
    return [view(row) for row in rows]


async def map_columns(session: Session, *, import_id: UUID, mapping: ColumnMapping) -> Import:
    """Say where the columns of a pending import go. What a validation found before is forgotten.

    Raises ImportNotFound, ImportNotPending, NotImportable.
    """
    row = await _row(session, import_id, lock=True)
    if row["status"] != "pending":
        raise _not_pending(row)
    mappings.check(row["kind"], mapping, layout_of(row).columns)
    await forget_refusals(session, import_id)
    changed = await session.fetchrow(
        f"UPDATE imports SET mapping = $2, dry_run = NULL, {ZERO} WHERE id = $1 RETURNING {COLUMNS}",
        import_id, asdict(mapping),
    )  # fmt: skip
    assert changed is not None, "the row is locked"
    return view(changed)


async def start(
    session: Session, *, import_id: UUID, dry_run: bool, on_duplicate: OnDuplicate | None, now: datetime,
    enqueue: bool = True,
) -> Import:  # fmt: skip
    """Have the worker validate or process an import; one that failed goes on where it broke off.

    Raises ImportNotFound, ImportNotPending, NotImportable.
    """
    row = await _row(session, import_id, lock=True)
    going_on = row["status"] == "failed" and row["dry_run"] is False
    if row["status"] not in ("pending", "failed") or (going_on and dry_run):
        raise _not_pending(row)
    mappings.check(row["kind"], mapping_of(row), layout_of(row).columns)
    if not going_on:
        await forget_refusals(session, import_id)
    started = await session.fetchrow(
        f"""
        UPDATE imports SET run = run + 1, status = $2, dry_run = $3, on_duplicate = coalesce($4, on_duplicate),
            failure = NULL, started_at = $5, finished_at = NULL {"" if going_on else f", {ZERO}"}
        WHERE id = $1 RETURNING {COLUMNS}
        """,
        import_id, "validating" if dry_run else "processing", dry_run, on_duplicate, now,
    )  # fmt: skip
    assert started is not None, "the row is locked"
    if enqueue:
        await queue.enqueue(session, name=JOB, payload={"import_id": import_id, "run": started["run"]})
    return view(started)


async def cancel(session: Session, *, import_id: UUID, now: datetime) -> None:
    """End an import that is not completed; what it has imported stays. Raises ImportNotFound, ImportNotPending."""
    row = await _row(session, import_id, lock=True)
    if row["status"] in ("completed", "reverting", "reverted"):
        raise ImportNotPending("It is completed; POST …/reversion takes back what it created.")
    await session.execute(
        "UPDATE imports SET status = 'cancelled', sample = '[]', finished_at = coalesce(finished_at, $2) WHERE id = $1",
        import_id, now,
    )  # fmt: skip
    await forget_file(session, import_id)


async def forget(session: Session, *, older_than: datetime) -> int:
    """Forget what was in files that nobody has worked on since: contents, samples and refused rows; how many imports.

    One that was never completed can't be after that, so it is cancelled.
    """
    rows = await session.fetch(
        """
        UPDATE imports i SET sample = '[]', finished_at = coalesce(finished_at, now()),
            status = CASE WHEN status = ANY ($2) THEN 'cancelled' ELSE status END
        WHERE coalesce(finished_at, started_at, created_at) < $1
            AND (status = ANY ($2) OR EXISTS (SELECT FROM import_errors e WHERE e.import_id = i.id))
        RETURNING id
        """,
        older_than, _OPEN,
    )  # fmt: skip
    for row in rows:
        await forget_file(session, row["id"])
        await forget_refusals(session, row["id"])
    return len(rows)


def view(row: Record) -> Import:
    """The import in a row of its table."""
    layout, mapping = layout_of(row), mapping_of(row)
    return Import(
        id=row["id"], kind=row["kind"], status=row["status"], filename=row["filename"], format=layout.format,
        encoding=layout.encoding, delimiter=layout.delimiter, sheet=layout.sheet, program_id=row["program_id"],
        columns=list(layout.columns), sample=row["sample"],
        mapping=ImportMapping(
            # The database keeps objects in an order of its own.
            {name: mapping.columns[name] for name in layout.columns if name in mapping.columns},
            dict(mapping.constants), mapping.date_order,
        ),
        unmapped=mapping.left_over(layout.columns), on_duplicate=row["on_duplicate"], dry_run=bool(row["dry_run"]),
        progress=ImportProgress(
            row["rows_count"], row["processed"], row["created"], row["updated"], row["skipped"], row["failed"]
        ),
        failure=None if row["failure"] is None else ImportFailure(**row["failure"]),
        reversion=None if row["removed"] is None else ImportReversion(row["removed"], row["kept"]),
        by=row["by"], created_at=row["created_at"], started_at=row["started_at"], finished_at=row["finished_at"],
    )  # fmt: skip


async def _row(session: Session, import_id: UUID, *, lock: bool = False) -> Record:
    row = await session.fetchrow(
        f"SELECT {COLUMNS} FROM imports WHERE id = $1 {'FOR UPDATE' if lock else ''}", import_id
    )
    if row is None:
        raise ImportNotFound("No import has this id.")
    return row


def layout_of(row: Record) -> Layout:
    """How the import's file is to be read."""
    return msgspec.convert(row["layout"], Layout)


def mapping_of(row: Record) -> ColumnMapping:
    """Where its columns go."""
    return msgspec.convert(row["mapping"], ColumnMapping)


def _not_pending(row: Record) -> ImportNotPending:
    return ImportNotPending(f"It is {row['status']}.", status_now=row["status"])


async def forget_file(session: Session, import_id: UUID) -> None:
    """Keep an import's file no longer."""
    await session.execute("DELETE FROM import_chunks WHERE import_id = $1", import_id)


async def forget_refusals(session: Session, import_id: UUID) -> None:
    """Keep an import's refused rows no longer."""
    await session.execute("DELETE FROM import_errors WHERE import_id = $1", import_id)
