"""Segments: conditions about contacts that are kept under a name. Who is in one is found in the background."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import conditions, contacts, definitions
from crm.contacts.conditions import Condition, InvalidCondition
from crm.contacts.contacts import SELECTED, Contact, ContactNotFound
from crm.contacts.vocabulary import Vocabulary
from crm.db import queue, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, FieldError, NotFound, Stale

segments = Table(
    "segments",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("condition", JSONB, nullable=False),
    Column("program_id", Uuid),
    Column("refresh", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("requested_at", Instant),
    Column("archived_at", Instant),
)
segment_evaluations = Table(
    "segment_evaluations",
    metadata,
    Column("segment_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("members_count", BigInteger, nullable=False),
    Column("contacts_count", BigInteger, nullable=False),
    Column("position", Uuid),
    Column("started_at", Instant),
    Column("evaluated_at", Instant),
)
segment_members = Table(
    "segment_members",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("segment_id", Uuid, primary_key=True),
    Column("entered_at", Instant, nullable=False),
)

Refresh: TypeAlias = Literal["hourly", "daily", "manual"]
Status: TypeAlias = Literal["never", "pending", "processing", "completed"]

SEGMENTS_MAX: Final = 200
"""Those that are not archived: what happens with a contact is held against all of them."""
EVALUATE: Final = "evaluate_segment"
"""The job that finds out who is in a segment."""

_COLUMNS: Final = (
    "id", "name", "description", "condition", "program_id", "refresh", "version", "by", "created_at", "updated_at",
    "requested_at", "archived_at",
)  # fmt: skip
_SELECT: Final = f"""
    SELECT {", ".join(f"s.{name}" for name in _COLUMNS)}, e.members_count, e.evaluated_at, e.contacts_count,
        e.version AS evaluated,
        CASE
            WHEN e.started_at IS NOT NULL AND e.version = s.version THEN 'processing'
            WHEN s.requested_at > coalesce(e.evaluated_at, '-infinity') THEN 'pending'
            WHEN e.evaluated_at IS NOT NULL THEN 'completed'
            ELSE 'never'
        END AS status
    FROM segments s JOIN segment_evaluations e ON e.segment_id = s.id
"""
_PAGE: Final = f"{_SELECT} WHERE s.archived_at IS NULL AND ($1::uuid IS NULL OR s.id < $1) ORDER BY s.id DESC LIMIT $2"
MEMBERS: Final = f"""
    SELECT {SELECTED} FROM segment_members m JOIN contacts c ON c.id = m.contact_id
    WHERE m.segment_id = $1 AND ($2::uuid IS NULL OR m.contact_id < $2) ORDER BY m.contact_id DESC LIMIT $3
"""
_OF_CONTACT: Final = """
    SELECT s.id, s.name, m.entered_at
    FROM contacts c LEFT JOIN (segment_members m JOIN segments s ON s.id = m.segment_id AND s.archived_at IS NULL)
        ON m.contact_id = c.id AND ($2::uuid IS NULL OR m.segment_id < $2)
    WHERE c.id = $1 ORDER BY s.id DESC LIMIT $3
"""


class SegmentNotFound(NotFound):
    code = "segment_not_found"
    title = "There is no such segment"


class SegmentNameTaken(Conflict):
    code = "segment_name_taken"
    title = "Another segment has this name"


class SegmentArchived(Conflict):
    code = "segment_archived"
    title = "The segment has been archived"


class TooManySegments(Conflict):
    code = "too_many_segments"
    title = "There are too many segments"


class StaleSegment(Stale):
    title = "The segment has changed since you read it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a segment is; `program_id` is whose balances, tiers and calendar are meant, None for the default one's."""

    name: str
    description: str | None = None
    condition: Mapping[str, Any]
    program_id: UUID | None = None
    refresh: Refresh = "hourly"


@dataclass(slots=True)
class Segment:
    """A condition that is kept. `members_count` is how many contacts are in it, as far as is known.

    What happens with a contact is held against it within minutes, unless `refresh` is manual. `evaluated_at` is when
    the last evaluation of all contacts began that has come to its end.
    """

    id: UUID
    name: str
    description: str | None
    condition: dict[str, Any]
    program_id: UUID | None
    refresh: Refresh
    version: int
    members_count: int
    evaluated_at: datetime | None
    by: str
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


@dataclass(slots=True)
class Evaluation:
    """How far it is to find who is in a segment. `contacts_count` is how many have been looked at, this time.

    `version` is that of the segment which is being evaluated, or was last.
    """

    segment_id: UUID
    status: Status
    version: int
    requested_at: datetime | None
    evaluated_at: datetime | None
    contacts_count: int
    members_count: int


@dataclass(slots=True)
class SegmentOfContact:
    """A segment that a contact is in."""

    id: UUID
    name: str
    entered_at: datetime


async def create(
    session: Session, *, vocabulary: Vocabulary, definition: Definition, by: str, now: datetime
) -> Segment:
    """Keep a segment, and have it evaluated unless that is left to people.

    Attributes are compared as what they are defined as now, whatever becomes of their definitions.
    Raises InvalidCondition, SegmentNameTaken, TooManySegments, and what says that there is no such program.
    """
    definition = replace(definition, condition=await definitions.typed(session, definition.condition))
    condition_of(vocabulary, definition.condition)
    await vocabulary.frame(session, definition.program_id)
    if await session.fetchval("SELECT count(*) FROM segments WHERE archived_at IS NULL") >= SEGMENTS_MAX:
        raise TooManySegments(f"{SEGMENTS_MAX} are kept at most; archive one that nobody needs.")
    await _claim(session, definition.name)
    segment_id, due = uuid7(), definition.refresh != "manual"
    row = (
        segment_id, definition.name, definition.description, definition.condition, definition.program_id,
        definition.refresh, 1, by, now, now, now if due else None, None,
    )  # fmt: skip
    evaluation = Insert(
        segment_evaluations, ("segment_id", "version", "members_count", "contacts_count"), [(segment_id, 1, 0, 0)]
    )
    await writes.write(session, [Insert(segments, _COLUMNS, [row]), evaluation])
    if due:
        await _enqueue(session, segment_id)
    return await get(session, segment_id=segment_id)


async def get(session: Session, *, segment_id: UUID) -> Segment:
    """One segment, archived or not. Raises SegmentNotFound."""
    return _segment(await _row(session, segment_id))


async def get_all(session: Session, *, segment_ids: Collection[UUID]) -> list[Segment]:
    """Those of these segments that there are, in the order of their ids."""
    return [_segment(row) for row in await session.fetch(f"{_SELECT} WHERE s.id = ANY ($1) ORDER BY s.id", segment_ids)]


async def page(session: Session, *, before: UUID | None = None, limit: int) -> list[Segment]:
    """Segments that are not archived, the newest first, older than `before`."""
    return [_segment(row) for row in await session.fetch(_PAGE, before, limit)]


async def change(
    session: Session,
    *,
    vocabulary: Vocabulary,
    segment_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    now: datetime,
) -> Segment:
    """Apply a merge patch of a definition's fields. What asks something else is evaluated anew.

    Of another condition, attributes are compared as what they are defined as now; of the same one, as before.
    Raises SegmentNotFound, SegmentArchived, StaleSegment, InvalidCondition, SegmentNameTaken, and what says that there
    is no such program.
    """
    before = await _lock(session, segment_id=segment_id, version=version)
    if changes.get("condition") not in (None, before.condition):
        changes = {**changes, "condition": await definitions.typed(session, changes["condition"])}
    after = replace(before, **changes, version=before.version + 1, updated_at=now)
    if after == replace(before, version=after.version, updated_at=now):
        return before
    if "condition" in changes:
        condition_of(vocabulary, after.condition)
    if after.program_id != before.program_id:
        await vocabulary.frame(session, after.program_id)
    if after.name != before.name:
        await _claim(session, after.name)
    asks_something_else = (after.condition, after.program_id) != (before.condition, before.program_id)
    due = asks_something_else and after.refresh != "manual"
    await session.execute(
        """
        UPDATE segments SET name = $2, description = $3, condition = $4, program_id = $5, refresh = $6, version = $7,
            updated_at = $8, requested_at = CASE WHEN $9 THEN $8 ELSE requested_at END
        WHERE id = $1
        """,
        segment_id, after.name, after.description, after.condition, after.program_id, after.refresh, after.version, now,
        due,
    )  # fmt: skip
    if due:
        await _enqueue(session, segment_id)
    return after


async def archive(session: Session, *, segment_id: UUID, version: int | None = None, now: datetime) -> None:
    """Put a segment away: nobody enters or leaves it any more, and nobody is asked about it.

    Raises SegmentNotFound, StaleSegment.
    """
    try:
        await _lock(session, segment_id=segment_id, version=version)
    except SegmentArchived:
        return
    await session.execute(
        "UPDATE segments SET archived_at = $2, updated_at = $2, version = version + 1 WHERE id = $1", segment_id, now
    )


async def request(session: Session, *, segment_id: UUID, now: datetime) -> Evaluation:
    """Have a segment evaluated soon. Raises SegmentNotFound, SegmentArchived."""
    await _lock(session, segment_id=segment_id)
    await session.execute("UPDATE segments SET requested_at = $2 WHERE id = $1", segment_id, now)
    await _enqueue(session, segment_id)
    return await evaluation(session, segment_id=segment_id)


async def evaluation(session: Session, *, segment_id: UUID) -> Evaluation:
    """How far the evaluation of a segment is. Raises SegmentNotFound."""
    row = await _row(session, segment_id)
    return Evaluation(
        segment_id, row["status"], row["evaluated"], row["requested_at"], row["evaluated_at"], row["contacts_count"],
        row["members_count"],
    )  # fmt: skip


async def members(session: Session, *, segment_id: UUID, before: UUID | None = None, limit: int) -> list[Contact]:
    """Contacts that are in a segment, as far as is known, the newest contact first. Raises SegmentNotFound."""
    rows = await session.fetch(MEMBERS, segment_id, before, limit)
    if not rows:
        await _row(session, segment_id)
    return [contacts.of_row(row) for row in rows]


async def of_contact(
    session: Session, *, contact_id: UUID, before: UUID | None = None, limit: int
) -> list[SegmentOfContact]:
    """The segments that a contact is in, the newest first. Raises ContactNotFound."""
    rows = await session.fetch(_OF_CONTACT, contact_id, before, limit)
    if not rows:
        raise ContactNotFound("No contact has this id.")
    return [SegmentOfContact(*row) for row in rows if row["id"] is not None]


def condition_of(vocabulary: Vocabulary, document: Mapping[str, Any]) -> Condition:
    """The condition of a segment, which can't ask who is in a segment. Raises InvalidCondition."""
    condition = vocabulary.condition_of(document, pointer="/condition")
    if any(field.name == "segments" for field in conditions.fields_of(condition)):
        raise InvalidCondition(
            "Two segments could wait for each other.",
            errors=[FieldError("/condition", "segments_in_segment", "repeat here what the other segment asks")],
        )
    return condition


async def _row(session: Session, segment_id: UUID) -> Record:
    row = await session.fetchrow(f"{_SELECT} WHERE s.id = $1", segment_id)
    if row is None:
        raise SegmentNotFound("No segment has this id.")
    return row


async def _lock(session: Session, *, segment_id: UUID, version: int | None = None) -> Segment:
    await session.execute("SELECT FROM segments WHERE id = $1 FOR NO KEY UPDATE", segment_id)
    segment = await get(session, segment_id=segment_id)
    if segment.archived_at is not None:
        raise SegmentArchived("Make a new one with the same condition.")
    if version is not None and version != segment.version:
        raise StaleSegment("Read it again, and send the new ETag in If-Match.", version=segment.version)
    return segment


async def _claim(session: Session, name: str) -> None:
    taken = await session.fetchval("SELECT id FROM segments WHERE name = $1 AND archived_at IS NULL", name)
    if taken is not None:
        raise SegmentNameTaken(f"'{name}' is another segment's name: conditions ask by it.", segment_id=str(taken))


async def _enqueue(session: Session, segment_id: UUID) -> None:
    await queue.enqueue(session, name=EVALUATE, payload={"segment_id": str(segment_id)})


def _segment(row: Record) -> Segment:
    return Segment(**{name: row[name] for name in Segment.__dataclass_fields__})
