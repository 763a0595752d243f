"""Tasks: what somebody has to do for a contact, and by when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid

from crm.contacts import aliases, contacts
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import NotFound, Stale
from crm.interactions import timeline

tasks = Table(
    "tasks",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("title", Text, nullable=False),
    Column("note", Text),
    Column("due_at", Instant),
    Column("assignee", Text),
    Column("case_id", Uuid),
    Column("status", Text, nullable=False),
    Column("natural_key", Text),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", Text),
)
task_directory = Table(
    "task_directory",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)

CHANNEL: Final = "care"
_COLUMNS: Final = tuple(column.name for column in tasks.columns)
_NEVER: Final = "coalesce(t.due_at, 'infinity')"
_WORDS: Final = {"open": "reopened", "done": "done", "cancelled": "cancelled"}


class TaskNotFound(NotFound):
    code = "task_not_found"
    title = "There is no such task"


class StaleTask(Stale):
    title = "The task has changed since you read it"


@dataclass(slots=True)
class Task:
    """Something to be done. `ended_at` is when it was done or cancelled."""

    id: UUID
    contact_id: UUID
    title: str
    note: str | None
    due_at: datetime | None
    assignee: str | None
    case_id: UUID | None
    status: str
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    ended_at: datetime | None
    ended_by: str | None


_SELECTED: Final = ", ".join(f"t.{name}" for name in Task.__slots__)


async def create(
    session: Session,
    *,
    contact_id: UUID,
    title: str,
    note: str | None = None,
    due_at: datetime | None = None,
    assignee: str | None = None,
    case_id: UUID | None = None,
    natural_key: str | None = None,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> tuple[Task, bool]:
    """Note something to do. False beside the task of the same `natural_key`, found again. Raises ContactNotFound."""
    await contacts.lock(session, contact_id=contact_id)
    if natural_key is not None:
        row = await session.fetchrow(
            f"SELECT {_SELECTED} FROM tasks t WHERE t.contact_id = $1 AND t.natural_key = $2", contact_id, natural_key
        )
        if row is not None:
            return _view(row), False
    task = Task(uuid7(), contact_id, title, note, due_at, assignee, case_id, "open", 1, now, by, now, None, None)
    await writes.write(
        session,
        [
            *parts([task], natural_key=natural_key, by=by, now=now),
            *idempotency.answer(once, contact_id=contact_id, result=task, now=now),
        ],
    )
    return task, True


def of_case(*, contact_id: UUID, case_id: UUID, title: str, assignee: str | None, by: str, now: datetime) -> Task:
    """Something to do about a case, which `parts` has yet to store."""
    return Task(uuid7(), contact_id, title, None, None, assignee, case_id, "open", 1, now, by, now, None, None)


def parts(made: Sequence[Task], *, natural_key: str | None = None, by: str, now: datetime) -> list[Insert]:
    """The parts of a write that store new tasks of contacts who are there; a natural key is that of a single one."""
    rows = [{name: getattr(task, name) for name in Task.__slots__} | {"natural_key": natural_key} for task in made]
    return [
        Insert(tasks, _COLUMNS, [tuple(values[name] for name in _COLUMNS) for values in rows]),
        Insert(task_directory, ("id", "contact_id"), [(task.id, task.contact_id) for task in made]),
        timeline.part([_entry(task, "created", by, now) for task in made]),
    ]


async def update(
    session: Session, *, task_id: UUID, changes: Mapping[str, Any], version: int | None = None, by: str, now: datetime
) -> Task:
    """Change a task, or say that it is done or cancelled, or open again. Raises TaskNotFound, StaleTask."""
    row = await _stored(session, task_id, "FOR NO KEY UPDATE OF t")
    task = _view(row)
    if version is not None and version != task.version:
        raise StaleTask("Read it again, and send the new ETag in If-Match.", version=task.version)
    changed = {name: value for name, value in changes.items() if getattr(task, name) != value}
    if not changed:
        return task
    for name, value in changed.items():
        setattr(task, name, value)
    told = []
    if "status" in changed:
        ended = task.status != "open"
        task.ended_at, task.ended_by = (now, by) if ended else (None, None)
        told = [_entry(task, _WORDS[task.status], by, now)]
    task.version, task.updated_at = task.version + 1, now
    names = ("contact_id", "id", *(name for name in Task.__slots__ if name not in {"contact_id", "id"}))
    await writes.write(
        session,
        [Update(tasks, names, [tuple(getattr(task, name) for name in names)], 2), timeline.part(told)],
    )
    return task


async def get(session: Session, *, task_id: UUID) -> Task:
    """One task. Raises TaskNotFound."""
    return _view(await _stored(session, task_id))


async def queue(
    session: Session,
    *,
    assignee: str | None = None,
    due_before: datetime | None = None,
    after: tuple[datetime | None, UUID] | None = None,
    limit: int,
) -> list[Task]:
    """Open tasks, what is due first before the others, from behind the (due_at, id) of `after`."""
    clauses, args = ["t.status = 'open'"], [limit]
    for clause, value in ((f"{_NEVER} < $", due_before), ("t.assignee = $", assignee)):
        if value is not None:
            args.append(value)  # type: ignore[arg-type]
            clauses.append(f"{clause}{len(args)}")
    if after is not None:
        args += after  # type: ignore[arg-type]
        clauses.append(f"({_NEVER}, t.id) > (coalesce(${len(args) - 1}::timestamptz, 'infinity'), ${len(args)})")
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM tasks t WHERE {' AND '.join(clauses)} ORDER BY {_NEVER}, t.id LIMIT $1", *args
    )
    return [_view(row) for row in rows]


async def page(
    session: Session, *, contact_id: UUID, status: str | None, before: UUID | None, limit: int
) -> list[Task]:
    """A contact's tasks, the newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT n.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_SELECTED} FROM tasks t
            WHERE t.contact_id = who.id AND ($2::uuid IS NULL OR t.id < $2) AND ($4::text IS NULL OR t.status = $4)
            ORDER BY t.id DESC LIMIT $3
        ) n
        WHERE c.id = $1 ORDER BY n.id DESC LIMIT $3
        """,
        contact_id, before, limit, status,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [_view(row) for row in rows]


async def _stored(session: Session, task_id: UUID, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM task_directory d JOIN tasks t ON t.contact_id = d.contact_id AND t.id = d.id
        WHERE d.id = $1 {lock}
        """,
        task_id,
    )
    if row is None:
        raise TaskNotFound("No task has this id.")
    return row


def _view(row: Record) -> Task:
    return Task(**dict(row))


def _entry(task: Task, word: str, by: str, now: datetime) -> tuple[Any, ...]:
    return timeline.entry(
        task.contact_id, channel=CHANNEL, kind=f"task.{word}", direction="internal", occurred_at=now, recorded_at=now,
        by=by, subject=task.title, case_id=task.case_id,
        data={"task_id": task.id, "due_at": task.due_at, "assignee": task.assignee},
    )  # fmt: skip
