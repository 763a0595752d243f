"""Challenges and stamp cards as they are kept, and how far a member has come with each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import FieldError, Invalid, NotFound
from crm.loyalty import journal, programs, stamping
from crm.loyalty.stamping import Challenge, Progress

challenges = Table(
    "challenges",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
)

_DEFAULTS: Final[Mapping[str, Any]] = {
    "kind": "count", "per": None, "points": None, "reward_id": None, "per_unit": False, "filter": None,
    "min_spend": None, "window": None, "limits": [], "status": "active",
}  # fmt: skip
_COLUMNS: Final = "id, program_id, definition, created_at, updated_at"
# Those that are open, and those that are not any more where the member has begun them.
_OF_MEMBER: Final = f"""
    SELECT c.id, c.definition, p.time_zone, s.parts,
        EXISTS (SELECT FROM contacts WHERE id = $2) AS contact_exists
    FROM programs p
    JOIN challenges c ON c.program_id = p.id AND c.deleted_at IS NULL
    CROSS JOIN LATERAL (
        SELECT jsonb_agg(to_jsonb(g) ORDER BY g.contact_id <> $2) AS parts FROM {aliases.known_as("$2::uuid")} who
        JOIN challenge_progress g
            ON g.contact_id = who.id AND g.program_id = c.program_id AND g.challenge_id = c.id
    ) s
    WHERE (p.id = $1 OR ($1 IS NULL AND p.is_default)) AND (c.status = 'active' OR s.parts IS NOT NULL)
        AND ($3::uuid IS NULL OR c.id > $3)
    ORDER BY c.id LIMIT $4
"""


class ChallengeNotFound(NotFound):
    code = "challenge_not_found"
    title = "There is no such challenge"


class UnknownReward(Invalid):
    code = "unknown_reward"
    title = "The program has no such reward"


@dataclass(slots=True)
class ChallengeView:
    """A challenge as it is shown. `per` is the period of a streak; exactly one of `points` and `reward_id` is there."""

    id: UUID
    program_id: UUID
    name: str
    event: str
    goal: int
    kind: str
    per: str | None
    points: int | None
    reward_id: UUID | None
    per_unit: bool
    filter: dict[str, list[str]] | None
    min_spend: str | None
    window: dict[str, Any] | None
    limits: list[dict[str, Any]]
    status: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class MemberChallenge:
    """How far a member has come with a challenge.

    `current` stamps stand on the present card, `total` were collected in all, `completed` cards were filled. `next_by`
    is until when a streak needs its next stamp. `owed` cards must be filled again before the next one counts: their
    rewards were used before their stamps were taken back.
    """

    id: UUID
    name: str
    event: str
    kind: str
    per: str | None
    current: int
    goal: int
    total: int
    completed: int
    owed: int
    next_by: datetime | None
    points: int | None
    reward_id: UUID | None
    limits: list[dict[str, Any]]
    window: dict[str, Any] | None
    status: str


async def create(session: Session, *, program_id: UUID, definition: dict[str, Any], now: datetime) -> ChallengeView:
    """Add a challenge; facts recorded from now on count. Raises ProgramNotFound, UnknownReward."""
    await programs.touch(session, program_id=program_id, now=now)
    await _check_reward(session, program_id, definition)
    row = await session.fetchrow(
        f"""
        INSERT INTO challenges (program_id, id, name, event, status, definition, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING {_COLUMNS}
        """,
        program_id, uuid7(), definition["name"], definition["event"], definition.get("status", "active"), definition,
        now,
    )  # fmt: skip
    return _view(row)


async def change(
    session: Session,
    *,
    program_id: UUID,
    challenge_id: UUID,
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    now: datetime,
) -> ChallengeView:
    """Give a challenge the definition that `merge` makes of its present one; stamps and cards stay as they are.

    Raises ProgramNotFound, ChallengeNotFound, UnknownReward.
    """
    await programs.touch(session, program_id=program_id, now=now)
    current = await _row(session, program_id, challenge_id)
    definition = merge(current["definition"])
    if definition.get("reward_id") != current["definition"].get("reward_id"):
        await _check_reward(session, program_id, definition)
    row = await session.fetchrow(
        f"""
        UPDATE challenges SET name = $3, status = $4, definition = $5, updated_at = $6
        WHERE program_id = $1 AND id = $2 RETURNING {_COLUMNS}
        """,
        program_id, challenge_id, definition["name"], definition.get("status", "active"), definition, now,
    )  # fmt: skip
    return _view(row)


async def delete(session: Session, *, program_id: UUID, challenge_id: UUID, now: datetime) -> None:
    """End a challenge; what its cards gave stays. Raises ProgramNotFound, ChallengeNotFound."""
    await programs.touch(session, program_id=program_id, now=now)
    if not await session.execute(
        "UPDATE challenges SET deleted_at = $3 WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL",
        program_id, challenge_id, now,
    ):  # fmt: skip
        raise ChallengeNotFound("This program has no such challenge.")


async def get(session: Session, *, program_id: UUID, challenge_id: UUID) -> ChallengeView:
    """One challenge. Raises ChallengeNotFound."""
    return _view(await _row(session, program_id, challenge_id))


async def page(session: Session, *, program_id: UUID, after: UUID | None, limit: int) -> list[ChallengeView]:
    """A program's challenges, in the order they were made. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"""
        SELECT {_COLUMNS} FROM challenges
        WHERE program_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
        """,
        program_id, after, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def page_of_member(
    session: Session, *, program_id: UUID | None, contact_id: UUID, after: UUID | None, limit: int, now: datetime
) -> list[MemberChallenge]:
    """How far a contact has come with each challenge, in the order they were made.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(_OF_MEMBER, program_id, contact_id, after, limit)
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    elif not rows[0]["contact_exists"]:
        raise ContactNotFound("No contact has this id.")
    return [_of_member(row, now) for row in rows]


def progress_of(row: Record | Mapping[str, Any]) -> Progress:
    """How far a row of `challenge_progress` says that a member has come."""
    runs = [(first, last) for first, last in row["runs"]]
    return Progress(row["total"], row["due"], row["filled"], row["completed"], runs, row["known_from"])


def _of_member(row: Record, now: datetime) -> MemberChallenge:
    definition = _DEFAULTS | row["definition"]
    challenge, zone = Challenge.of(row["definition"], id=row["id"]), ZoneInfo(row["time_zone"])
    progress = stamping.together([progress_of(part) for part in row["parts"] or ()] or [Progress()], challenge)
    return MemberChallenge(
        challenge.id, challenge.name, challenge.event, challenge.kind, challenge.per,
        progress.current(challenge, now, zone), challenge.goal, progress.total, progress.completed, progress.owed,
        progress.next_by(challenge, now, zone), challenge.points, challenge.reward_id,
        definition["limits"], definition["window"], challenge.status,
    )  # fmt: skip


async def _check_reward(session: Session, program_id: UUID, definition: dict[str, Any]) -> None:
    reward_id = definition.get("reward_id")
    if reward_id is not None and not await session.fetchval(
        "SELECT EXISTS (SELECT FROM rewards WHERE program_id = $1 AND id = $2 AND ended_at IS NULL)",
        program_id, UUID(reward_id),
    ):  # fmt: skip
        raise UnknownReward(
            "Take one of GET /v1/programs/{id}/rewards.",
            errors=[FieldError("/reward_id", "unknown_reward", "is not a reward of this program")],
        )


async def _row(session: Session, program_id: UUID, challenge_id: UUID) -> Record:
    row = await session.fetchrow(
        f"SELECT {_COLUMNS} FROM challenges WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL",
        program_id, challenge_id,
    )  # fmt: skip
    if row is None:
        raise ChallengeNotFound("This program has no such challenge.")
    return row


def _view(row: Record | None) -> ChallengeView:
    assert row is not None, "the statement returns what it wrote"
    return ChallengeView(
        id=row["id"], program_id=row["program_id"], created_at=row["created_at"], updated_at=row["updated_at"],
        **(_DEFAULTS | row["definition"]),
    )  # fmt: skip
