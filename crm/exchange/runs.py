"""Carrying an import out: rows are read and understood in a thread while the batch before them is being stored.

Memory holds a few batches, however long the file is. Each batch is one transaction that also says how far the import
is, so whoever goes on after a crash does nothing twice and leaves nothing out.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import asyncpg

from crm.contacts import definitions
from crm.contacts.definitions import AttributeDefinition
from crm.db.session import Database, Session
from crm.errors import Unavailable
from crm.exchange import admitted_rows, contact_rows, purchase_rows, sheets, works
from crm.exchange.imports import LANES
from crm.exchange.outcomes import Outcome, RowError
from crm.exchange.sheets import Row
from crm.exchange.works import Work
from crm.loyalty import programs
from crm.loyalty.purchases import Bought

BATCH: Final = {"contacts": 1_000, "purchases": 500}
COMPARED_BATCH: Final = 100
"""Rows at a time whose people are compared with those who resemble them, while the database waits for the outcome."""
ATTEMPTS_MAX: Final = 3

_TRANSIENT: Final = (
    Unavailable,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.UniqueViolationError,
)

_COMPARING: Final = ("reject", "link", "create")

Clock: TypeAlias = Callable[[], datetime]


class Read(NamedTuple):
    """A row with what it means, or with what is wrong with it."""

    row: Row
    meaning: Any
    errors: Sequence[RowError]


Told: TypeAlias = Callable[[Sequence[tuple[Row, Outcome]]], None]


class _Kind(Protocol):
    """What is particular to one kind of import."""

    def read(self, row: Row) -> tuple[Any, list[RowError]]: ...
    def lane(self, meaning: Any) -> int: ...
    async def store(self, session: Session, meanings: Sequence[Any], now: datetime) -> list[Outcome]: ...
    async def foresee(self, session: Session, meanings: Sequence[Any], now: datetime) -> list[Outcome]: ...
    def seen(self, meanings: Sequence[Any]) -> None: ...


async def carry_out(database: Database, *, work: Work, path: Path, clock: Clock, told: Told | None = None) -> None:
    """Work off all rows that are not done yet; `told` hears of each batch, once it is committed.

    Raises Superseded, UnreadableFile, ProgramNotFound.
    """
    kind = await _kind(database, work, clock())
    if (total := await asyncio.to_thread(sheets.count, path, work.layout)) is not None:
        async with database.begin() as session:
            await works.expect(session, work=work, rows=total)
    queues: list[asyncio.Queue[list[Read] | None]] = [asyncio.Queue(maxsize=1) for _ in work.positions]
    try:
        async with asyncio.TaskGroup() as group:
            for lane, queue in enumerate(queues):
                group.create_task(_work_off(database, work, kind, lane, queue, clock, told))
            async with aclosing(_in_a_thread(_batches(path, work, kind))) as batches:
                async for lane, batch in batches:
                    await queues[lane].put(batch)
            for queue in queues:
                await queue.put(None)
    except* Exception as failures:  # noqa: BLE001 - whatever it is, it is raised again, without the group around it
        raise failures.exceptions[0] from None


def _batches(path: Path, work: Work, kind: _Kind) -> Iterator[tuple[int, list[Read]]]:
    """The rows that are not done yet, in the order of the file within each lane."""
    waiting: list[list[Read]] = [[] for _ in work.positions]
    done = list(work.positions)
    size = COMPARED_BATCH if work.on_duplicate in _COMPARING else BATCH[work.kind]
    with closing(sheets.rows(path, work.layout)) as rows:
        for row in rows:
            meaning, errors = kind.read(row)
            lane = 0 if meaning is None else kind.lane(meaning)
            if done[lane]:
                done[lane] -= 1
                continue
            waiting[lane].append(Read(row, meaning, errors))
            if len(waiting[lane]) == size:
                yield lane, waiting[lane]
                waiting[lane] = []
    for lane, rest in enumerate(waiting):
        if rest:
            yield lane, rest


async def _in_a_thread(source: Any) -> AsyncGenerator[tuple[int, list[Read]], None]:
    loop = asyncio.get_running_loop()
    step: asyncio.Future[Any] | None = None
    try:
        while True:
            step = loop.run_in_executor(None, next, source, None)
            batch = await asyncio.shield(step)
            if batch is None:
                return
            yield batch
    finally:
        # The file can be closed only when nobody reads it any more.
        if step is not None and not step.done():
            await asyncio.wait([step])
        if step is not None and not step.cancelled():
            step.exception()
        source.close()


async def _work_off(
    database: Database, work: Work, kind: _Kind, lane: int, queue: "asyncio.Queue[list[Read] | None]", clock: Clock,
    told: Told | None,
) -> None:  # fmt: skip
    position = work.positions[lane]
    while (batch := await queue.get()) is not None:
        outcomes = await _stored(database, work, kind, lane, position, batch, clock)
        kind.seen([read.meaning for read in batch if read.meaning is not None])
        position += len(batch)
        if told is not None:
            told(outcomes)


async def _stored(
    database: Database, work: Work, kind: _Kind, lane: int, position: int, batch: Sequence[Read], clock: Clock
) -> list[tuple[Row, Outcome]]:
    meanings = [read.meaning for read in batch if read.meaning is not None]
    attempt = 1
    while True:
        try:
            async with database.begin() as session:
                judge = kind.foresee if work.dry_run else kind.store
                judged = iter(await judge(session, meanings, clock()))
                outcomes = [
                    (read.row, Outcome("failed", errors=read.errors) if read.meaning is None else next(judged))
                    for read in batch
                ]
                await works.note(session, work=work, lane=lane, position=position, outcomes=outcomes)
            return outcomes
        except _TRANSIENT:
            # Somebody else took one of the same identities or orders at this moment; next time it is found.
            if attempt == ATTEMPTS_MAX:
                raise
            attempt += 1


async def _kind(database: Database, work: Work, now: datetime) -> _Kind:
    async with database.reading() as session:
        if work.kind == "contacts":
            return _Contacts(work, await definitions.read_all(session), now)
        assert work.program_id is not None, "the table says so"
        return _Purchases(work, await programs.load(session, program_id=work.program_id))


class _Contacts:
    def __init__(self, work: Work, defined: Mapping[str, AttributeDefinition], now: datetime) -> None:
        self._work = work
        self._seen: set[int] = set()
        self.read = contact_rows.Reader(
            work.mapping, work.layout.columns, region=work.region, defined=defined, now=now
        ).read

    def lane(self, meaning: contact_rows.Said) -> int:
        return 0

    async def store(self, session: Session, meanings: Sequence[contact_rows.Said], now: datetime) -> list[Outcome]:
        work = self._work
        if work.on_duplicate in ("reject", "link", "create"):
            return await admitted_rows.store(
                session, said=meanings, wish=work.on_duplicate, import_id=work.import_id, by=work.by, now=now
            )
        return await contact_rows.store(
            session, said=meanings, on_duplicate=work.on_duplicate, import_id=work.import_id, by=work.by, now=now
        )

    async def foresee(self, session: Session, meanings: Sequence[contact_rows.Said], now: datetime) -> list[Outcome]:
        work = self._work
        if work.on_duplicate in ("reject", "link", "create"):
            return await admitted_rows.foresee(
                session, said=meanings, wish=work.on_duplicate, seen=self._seen, now=now
            )  # fmt: skip
        return await contact_rows.foresee(
            session, said=meanings, on_duplicate=work.on_duplicate, seen=self._seen, now=now
        )

    def seen(self, meanings: Sequence[contact_rows.Said]) -> None:
        if self._work.dry_run:
            self._seen.update(contact_rows.marks(meanings))


class _Purchases:
    def __init__(self, work: Work, program: programs.Program) -> None:
        self._work = work
        self._program = program
        self._seen: set[int] = set()
        self.read = purchase_rows.Reader(
            work.mapping, work.layout.columns, zone=program.terms.zone, region=work.region
        ).read

    def lane(self, meaning: Bought) -> int:
        return purchase_rows.lane(meaning, LANES["purchases"])

    async def store(self, session: Session, meanings: Sequence[Bought], now: datetime) -> list[Outcome]:
        return await purchase_rows.store(
            session, program_id=self._program.id, bought=meanings, by=self._work.by, now=now
        )

    async def foresee(self, session: Session, meanings: Sequence[Bought], now: datetime) -> list[Outcome]:
        program = self._program
        return await purchase_rows.foresee(
            session, program_id=program.id, terms=program.terms, bought=meanings, seen=self._seen
        )

    def seen(self, meanings: Sequence[Bought]) -> None:
        if self._work.dry_run:
            self._seen.update(purchase_rows.marks(meanings))
