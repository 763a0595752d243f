"""Imports: what somebody wants brought in from a file, and how far that is.

An import is pending, is validated any number of times (a run that writes nothing) and processed once. Whoever works on
one holds its `attempt`: the next who begins takes it over, and the one before can write nothing more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db import queue, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound
from crm.exchange import guesses, mappings
from crm.exchange.mappings import ColumnMapping, Kind
from crm.exchange.outcomes import OnDuplicate, Outcome
from crm.exchange.sheets import Layout, Row
from crm.exchange.tables import import_errors, imported_contacts
from crm.exchange.tables import imports as table
from crm.loyalty import programs

JOB: Final = "run_import"
LANES: Final[Mapping[Kind, int]] = {"contacts": 1, "purchases": 2}
"""Batches under way at once: of purchases, one is planned while the database writes the other."""
KEPT: Final = timedelta(days=30)
"""How long what was in a file is kept, once nobody works on it any more."""

_COLUMNS: Final = ", ".join(column.name for column in table.c)
_ZERO: Final = """
    positions = array_fill(0::bigint, ARRAY[cardinality(positions)]), processed = 0, created = 0, updated = 0,
    skipped = 0, failed = 0
"""
_UNDER_WAY: Final = ("validating", "processing", "reverting")


class ImportNotFound(NotFound):
    code = "import_not_found"
    title = "There is no such import"


class ImportNotPending(Conflict):
    code = "import_not_pending"
    title = "The import can't be changed or started now"


class Superseded(Exception):
    """An import was cancelled, or taken over by another worker: whoever meets this stops, and nothing is written."""


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
    positions: Sequence[int] = field(default=())

    @property
    def status(self) -> str:
        """What the import is while this goes on."""
        return "validating" if self.dry_run else "processing"


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
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {_COLUMNS}
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
        SELECT {_COLUMNS} FROM imports WHERE kind = ANY ($1) AND ($2::uuid IS NULL OR id < $2)
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
    mappings.check(row["kind"], mapping, _layout(row).columns)
    await _forget_refusals(session, import_id)
    changed = await session.fetchrow(
        f"UPDATE imports SET mapping = $2, dry_run = NULL, {_ZERO} WHERE id = $1 RETURNING {_COLUMNS}",
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
    mappings.check(row["kind"], _mapping(row), _layout(row).columns)
    if not going_on:
        await _forget_refusals(session, import_id)
    started = await session.fetchrow(
        f"""
        UPDATE imports SET run = run + 1, status = $2, dry_run = $3, on_duplicate = coalesce($4, on_duplicate),
            failure = NULL, started_at = $5, finished_at = NULL {"" if going_on else f", {_ZERO}"}
        WHERE id = $1 RETURNING {_COLUMNS}
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
    await _forget_file(session, import_id)


# ------------------------------------------------------------------ carrying it out


async def begin(session: Session, *, import_id: UUID, run: int | None = None) -> Work | None:
    """Take over an import where it is; None where it is over, or this run of it. A validation begins anew."""
    row = await session.fetchrow(
        f"""
        UPDATE imports SET attempt = attempt + 1, failure = NULL, finished_at = NULL,
            status = CASE WHEN dry_run THEN 'validating' ELSE 'processing' END
        WHERE id = $1 AND run = coalesce($2, run)
            AND (status IN ('validating', 'processing') OR (status = 'failed' AND $2 IS NOT NULL))
        RETURNING {_COLUMNS}
        """,
        import_id, run,
    )  # fmt: skip
    if row is None:
        return None
    positions = row["positions"]
    if row["dry_run"]:
        await session.execute(f"UPDATE imports SET {_ZERO} WHERE id = $1", import_id)
        await _forget_refusals(session, import_id)
        positions = [0] * len(positions)
    return Work(
        import_id, row["kind"], row["attempt"], row["dry_run"], _layout(row), _mapping(row), row["program_id"],
        row["region"], row["on_duplicate"], row["by"], positions,
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
            updated = updated + $8, skipped = skipped + $9, failed = failed + $10,
            rows_count = greatest(rows_count, processed + $6)
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
        await _forget_file(session, work.import_id)


async def fail(session: Session, *, work: Work, code: str, message: str, now: datetime) -> None:
    """Say that it broke off, unless somebody else has it by now."""
    await session.execute(
        """
        UPDATE imports SET status = 'failed', failure = $4, finished_at = $5
        WHERE id = $1 AND attempt = $2 AND status = $3
        """,
        work.import_id, work.attempt, work.status, {"code": code, "message": message}, now,
    )  # fmt: skip


async def forget(session: Session, *, older_than: datetime) -> int:
    """Forget what was in files that nobody has worked on since: contents, samples and refused rows; how many imports.

    One that was never completed can't be any more, so it is cancelled.
    """
    rows = await session.fetch(
        """
        UPDATE imports SET sample = '[]', finished_at = coalesce(finished_at, now()),
            status = CASE WHEN status IN ('pending', 'failed') THEN 'cancelled' ELSE status END
        WHERE coalesce(finished_at, started_at, created_at) < $1 AND status <> ALL ($2)
            AND (sample <> '[]' OR EXISTS (SELECT FROM import_errors e WHERE e.import_id = imports.id))
        RETURNING id
        """,
        older_than, _UNDER_WAY,
    )  # fmt: skip
    for row in rows:
        await _forget_file(session, row["id"])
        await _forget_refusals(session, row["id"])
    return len(rows)


def view(row: Record) -> Import:
    """The import in a row of its table."""
    layout, mapping = _layout(row), _mapping(row)
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
        f"SELECT {_COLUMNS} FROM imports WHERE id = $1 {'FOR UPDATE' if lock else ''}", import_id
    )
    if row is None:
        raise ImportNotFound("No import has this id.")
    return row


def _layout(row: Record) -> Layout:
    return msgspec.convert(row["layout"], Layout)


def _mapping(row: Record) -> ColumnMapping:
    return msgspec.convert(row["mapping"], ColumnMapping)


def _not_pending(row: Record) -> ImportNotPending:
    return ImportNotPending(f"It is {row['status']}.", status_now=row["status"])


def _touched(import_id: UUID, outcomes: Sequence[tuple[Row, Outcome]]) -> Insert:
    """The contacts that were made or have gained something, each with the first row that did it."""
    touched: dict[UUID, tuple[Any, ...]] = {}
    for row, outcome in outcomes:
        if outcome.contact_id is not None and outcome.result in ("created", "updated"):
            touched.setdefault(
                outcome.contact_id, (outcome.contact_id, import_id, row.number, outcome.result, outcome.version)
            )
    return Insert(
        imported_contacts, ("contact_id", "import_id", "row", "result", "version"), list(touched.values()),
        on_conflict="(contact_id, import_id) DO UPDATE SET version = excluded.version",
    )  # fmt: skip


async def _forget_file(session: Session, import_id: UUID) -> None:
    await session.execute("DELETE FROM import_chunks WHERE import_id = $1", import_id)


async def _forget_refusals(session: Session, import_id: UUID) -> None:
    await session.execute("DELETE FROM import_errors WHERE import_id = $1", import_id)
