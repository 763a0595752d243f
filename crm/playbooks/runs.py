"""Runs: what a playbook does with one contact on one occasion, and how far it has come."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm.contacts import aliases, contacts
from crm.db import writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, NotFound
from crm.interactions import timeline

playbook_runs = Table(
    "playbook_runs",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("playbook_id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("occasion", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("position", Integer, nullable=False),
    Column("due_at", Instant),
    Column("attempts", Integer, nullable=False),
    Column("lineage", ARRAY(Uuid), nullable=False),
    Column("data", JSONB, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
)
playbook_steps = Table(
    "playbook_steps",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("run_id", Uuid, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("data", JSONB, nullable=False),
    Column("at", Instant, nullable=False),
)

Status: TypeAlias = Literal["running", "completed", "stopped", "cancelled", "skipped", "failed"]
Outcome: TypeAlias = Literal["taken", "skipped"]

CHANNEL: Final = "playbooks"
BY: Final = "playbook:"
"""How the name begins of who did what a run brought about; its id follows."""
CANCELLED: Final = "cancelled"

_SELECTED: Final = """
    r.id, r.contact_id, r.playbook_id, r.version, r.occasion, r.status, r.reason, r.position, r.due_at,
    r.lineage AS caused_by, r.started_at, r.ended_at, (
        SELECT jsonb_agg(jsonb_build_object('position', s.position, 'kind', s.kind, 'outcome', s.outcome,
            'reason', s.reason, 'data', s.data, 'at', s.at) ORDER BY s.position)
        FROM playbook_steps s WHERE s.contact_id = r.contact_id AND s.run_id = r.id
    ) AS steps
"""


class RunNotFound(NotFound):
    code = "playbook_run_not_found"
    title = "There is no such run of a playbook"


class RunEnded(Conflict):
    code = "playbook_run_ended"
    title = "This run has ended"


@dataclass(slots=True)
class StepDone:
    """A step that was taken or skipped, and why; `data` says what came of it."""

    position: int
    kind: str
    outcome: Outcome
    reason: str | None
    data: dict[str, Any]
    at: datetime


@dataclass(slots=True)
class Run:
    """What a playbook does with a contact on one occasion, by the `version` with which it began.

    `position` is the next step, to be taken at `due_at`. `caused_by` are the playbooks whose doing it began with.
    """

    id: UUID
    contact_id: UUID
    playbook_id: UUID
    version: int
    occasion: str
    status: Status
    reason: str | None
    position: int
    due_at: datetime | None
    caused_by: list[UUID]
    started_at: datetime
    ended_at: datetime | None
    steps: list[StepDone]


async def get(session: Session, *, contact_id: UUID, run_id: UUID) -> Run:
    """One run of a contact. Raises RunNotFound."""
    return _view(await _row(session, contact_id, run_id))


async def page_of_contact(session: Session, *, contact_id: UUID, before: UUID | None, limit: int) -> list[Run]:
    """A contact's runs, newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT n.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_SELECTED} FROM playbook_runs r
            WHERE r.contact_id = who.id AND ($2::uuid IS NULL OR r.id < $2) ORDER BY r.id DESC LIMIT $3
        ) n
        WHERE c.id = $1 ORDER BY n.id DESC LIMIT $3
        """,
        contact_id, before, limit,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [_view(row) for row in rows]


async def page_of_playbook(
    session: Session, *, playbook_id: UUID, status: Status | None, before: UUID | None, limit: int
) -> list[Run]:
    """A playbook's runs, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM playbook_runs r
        WHERE r.playbook_id = $1 AND ($2::uuid IS NULL OR r.id < $2) AND ($4::text IS NULL OR r.status = $4)
        ORDER BY r.id DESC LIMIT $3
        """,
        playbook_id, before, limit, status,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def cancel(session: Session, *, contact_id: UUID, run_id: UUID, by: str, now: datetime) -> None:
    """End a run before its next step; again it changes nothing. Raises RunNotFound, RunEnded."""
    # The contact first, as whoever takes the steps does.
    await contacts.lock(session, contact_id=contact_id)
    run = _view(await _row(session, contact_id, run_id, "FOR UPDATE OF r"))
    if run.status == "cancelled":
        return
    if run.status != "running":
        raise RunEnded(f"It is {run.status}.")
    await session.execute(
        """
        UPDATE playbook_runs SET status = 'cancelled', reason = $3, due_at = NULL, ended_at = $4
        WHERE contact_id = $1 AND id = $2
        """,
        run.contact_id, run_id, CANCELLED, now,
    )  # fmt: skip
    told = entry(
        run.contact_id, "cancelled", run_id=run_id, playbook_id=run.playbook_id, by=by, now=now, reason=CANCELLED,
        occasion=run.occasion,
    )  # fmt: skip
    await writes.write(session, [timeline.part([told])])


async def cancel_all(session: Session, *, playbook_id: UUID, reason: str, now: datetime) -> None:
    """End all runs of a playbook, and tell the timelines, in one statement."""
    await session.execute(
        f"""
        WITH ended AS (
            UPDATE playbook_runs SET status = 'cancelled', reason = $2, due_at = NULL, ended_at = $3
            WHERE playbook_id = $1 AND status = 'running'
            RETURNING contact_id, id, occasion
        )
        INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
        SELECT e.contact_id, new_uuid7(), 'playbook.cancelled', $3, $3, '{CHANNEL}', jsonb_build_object(
            'playbook_id', $1::uuid, 'run_id', e.id, 'occasion', e.occasion, 'reason', $2::text
        ), '{BY}' || e.id
        FROM ended e JOIN contacts c ON c.id = e.contact_id
        """,
        playbook_id, reason, now,
    )  # fmt: skip


def entry(
    contact_id: UUID, word: str, *, run_id: UUID, playbook_id: UUID, by: str, now: datetime, **data: Any
) -> tuple[Any, ...]:
    """The row that tells a contact's timeline what became of a run; what is None in `data` is left out."""
    facts = {"playbook_id": playbook_id, "run_id": run_id, **data}
    return timeline.entry(
        contact_id, channel=CHANNEL, kind=f"playbook.{word}", direction="internal", occurred_at=now, recorded_at=now,
        by=by, data={name: value for name, value in facts.items() if value is not None},
    )  # fmt: skip


async def _row(session: Session, contact_id: UUID, run_id: UUID, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM playbook_runs r
        WHERE r.id = $2 AND r.contact_id IN (SELECT who.id FROM {aliases.known_as("$1::uuid")} who) {lock}
        """,
        contact_id, run_id,
    )  # fmt: skip
    if row is None:
        raise RunNotFound("This contact has no run of a playbook with this id.")
    return row


def _view(row: Record) -> Run:
    values = {name: row[name] for name in Run.__slots__ if name != "steps"}
    steps = [StepDone(**{**step, "at": datetime.fromisoformat(step["at"])}) for step in row["steps"] or ()]
    return Run(**values, steps=steps)
