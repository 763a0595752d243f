"""Merges: two records of one person become one, and can be two again.

The survivor keeps the other's id as an alias. Neither interactions nor what the ledger wrote move: they are read under
the aliases too. What each package keeps besides, it moves itself, in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import contacts, merging
from crm.contacts.contacts import Contact
from crm.contacts.keeping import Keeper
from crm.contacts.merging import Merging, NotUndone, Side
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound
from crm.interactions import timeline
from crm.interactions.people import CHANNEL

merges = Table(
    "merges",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("other_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("moved", JSONB, nullable=False),
    Column("memory", JSONB, nullable=False),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("undone_by", Text),
    Column("undone_at", Instant),
    Column("not_undone", JSONB),
)
merge_directory = Table(
    "merge_directory",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)

OWN: Final = "contact"
"""What `memory` calls the contacts' own part."""
_SINCE_MAX: Final = 1_000
_SELECTED: Final = """
    m.id, m.contact_id, m.other_id, m.status, m.moved, m.by, m.created_at, m.undone_by, m.undone_at, m.not_undone
"""


class MergeNotFound(NotFound):
    code = "merge_not_found"
    title = "There is no such merge"


class MergedFurther(Conflict):
    code = "merged_further"
    title = "A later merge has to be undone first"


class MergeForgotten(Conflict):
    code = "merge_forgotten"
    title = "This merge can't be undone any more"


class _Preview(Exception):
    """Takes back what a dry run did, and carries what it would have come to."""

    def __init__(self, result: "MergeResult") -> None:
        super().__init__()
        self.result = result


@dataclass(slots=True)
class Merge:
    """Two contacts that became one: `contact_id` goes on, and answers for `other_contact_id`.

    `moved` says what went over besides fields, identities and tags, by package. `not_undone` is what stayed as it was
    when the merge was undone, and why.
    """

    id: UUID
    contact_id: UUID
    other_contact_id: UUID
    status: str
    moved: dict[str, Any]
    by: str
    created_at: datetime
    undone_by: str | None
    undone_at: datetime | None
    not_undone: list[NotUndone]


@dataclass(slots=True)
class MergeResult(Merge):
    """A merge, with the contact as it is after it. A dry run's `status` is `preview`, and nothing has its `id`."""

    contact: Contact


async def merge(
    session: Session,
    *,
    contact_id: UUID,
    other_id: UUID,
    keep: Mapping[str, Side],
    keepers: Sequence[Keeper],
    dry_run: bool = False,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> MergeResult:
    """Let `contact_id` take up `other_id`, and all that belongs to it.

    Raises ContactNotFound, MergeWithSelf, InvalidContact, and what a package raises that can't move its part now.
    """
    asked = Merging(uuid7(), contact_id, other_id, by, now)
    if dry_run:
        return await _preview(session, asked, keep, keepers)
    result = await _merge(session, asked, keep, keepers)
    await idempotency.keep(session, request=once, contact_id=contact_id, result=result, now=now)
    return result


async def undo(session: Session, *, merge_id: UUID, keepers: Sequence[Keeper], by: str, now: datetime) -> Merge:
    """Make two contacts of one again, as far as nobody has used since what was moved; again it changes nothing.

    Raises MergeNotFound, MergedFurther, MergeForgotten.
    """
    row = await _stored(session, merge_id, "FOR NO KEY UPDATE OF m")
    found = _view(row)
    if found.status == "undone":
        return found
    if not row["memory"]:
        raise MergeForgotten("The person was erased, and with them what undoing it would take.")
    undoing = Merging(merge_id, found.contact_id, found.other_contact_id, by, now)
    await _check_is_last(session, found)
    count = await _recorded_since(session, found)
    not_undone = await merging.undo(session, merging=undoing, memory=row["memory"][OWN])
    for keeper in keepers:
        if keeper.move is not None and keeper.name in row["memory"]:
            not_undone += await keeper.move.undo(session, merging=undoing, memory=row["memory"][keeper.name])
    if count:
        more = " or more" if count == _SINCE_MAX else ""
        not_undone.append(
            NotUndone("recorded_since", f"{count}{more} interactions recorded since stay with the surviving contact.")
        )
    found.status, found.undone_by, found.undone_at, found.not_undone = "undone", by, now, not_undone
    # What it remembered of both is theirs alone again.
    values: tuple[Any, ...] = (
        found.contact_id,
        merge_id,
        "undone",
        by,
        now,
        [[each.code, each.text] for each in not_undone],
        {},
    )
    told = {"merge_id": merge_id, "contact_id": found.contact_id, "other_contact_id": found.other_contact_id}
    await writes.write(
        session,
        [
            Update(
                merges, ("contact_id", "id", "status", "undone_by", "undone_at", "not_undone", "memory"), [values], 2
            ),
            timeline.part([
                _entry(each, "contact.merge_undone", by, now, told)
                for each in (found.contact_id, found.other_contact_id)
            ]),
        ],
    )  # fmt: skip
    return found


async def get(session: Session, *, merge_id: UUID) -> Merge:
    """One merge. Raises MergeNotFound."""
    return _view(await _stored(session, merge_id))


async def page(session: Session, *, contact_id: UUID | None, before: UUID | None, limit: int) -> list[Merge]:
    """Merges, of one contact where that is asked, the newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM merge_directory d JOIN merges m ON m.contact_id = d.contact_id AND m.id = d.id
        WHERE ($1::uuid IS NULL OR d.id < $1) AND ($2::uuid IS NULL OR m.contact_id = $2)
        ORDER BY d.id DESC LIMIT $3
        """,
        before, contact_id, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def _preview(
    session: Session, asked: Merging, keep: Mapping[str, Side], keepers: Sequence[Keeper]
) -> MergeResult:
    try:
        async with session.savepoint():
            raise _Preview(await _merge(session, asked, keep, keepers))  # noqa: TRY301 - it ends the savepoint
    except _Preview as preview:
        return replace(preview.result, status="preview")


async def _merge(session: Session, asked: Merging, keep: Mapping[str, Side], keepers: Sequence[Keeper]) -> MergeResult:
    before, after, moved = await merging.merge(session, merging=asked, keep=keep)
    shown: dict[str, Any] = {}
    memory: dict[str, Any] = {OWN: moved.memory}
    for keeper in keepers:
        if keeper.move is not None:
            theirs = await keeper.move.merge(session, merging=asked)
            shown |= theirs.shown
            memory[keeper.name] = theirs.memory
    values = (asked.contact_id, asked.id, asked.other_id, "merged", shown, memory, asked.by, asked.now)
    told = {"merge_id": asked.id, "other_contact_id": asked.other_id, **contacts.changes(before, after)}
    await writes.write(
        session,
        [
            Insert(merges, ("contact_id", "id", "other_id", "status", "moved", "memory", "by", "created_at"), [values]),
            Insert(merge_directory, ("id", "contact_id"), [(asked.id, asked.contact_id)]),
            timeline.part([_entry(asked.contact_id, "contact.merged", asked.by, asked.now, told)]),
        ],
    )
    return MergeResult(
        asked.id, asked.contact_id, asked.other_id, "merged", shown, asked.by, asked.now, None, None, [], after
    )


async def _check_is_last(session: Session, found: Merge) -> None:
    """Whatever was merged last comes apart first: the memory of a merge is of the contacts as they were then."""
    later = await session.fetchval(
        """
        SELECT id FROM merges WHERE contact_id = $1 AND status = 'merged' AND id > $2
        UNION ALL
        SELECT m.id FROM contact_alias_directory d
        JOIN merges m ON m.contact_id = d.contact_id AND m.other_id = $1 AND m.status = 'merged'
        WHERE d.alias_id = $1
        LIMIT 1
        """,
        found.contact_id, found.id,
    )  # fmt: skip
    if later is not None:
        raise MergedFurther("The contact was merged again since: undo that merge first.", merge_id=str(later))


async def _recorded_since(session: Session, found: Merge) -> int:
    count: int = await session.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM interactions
            WHERE contact_id = $1 AND recorded_at > $2 AND kind NOT LIKE 'contact.%' LIMIT $3
        ) since
        """,
        found.contact_id, found.created_at, _SINCE_MAX,
    )  # fmt: skip
    return count


async def _stored(session: Session, merge_id: UUID, lock: str = "") -> Record:
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED}, m.memory FROM merge_directory d
        JOIN merges m ON m.contact_id = d.contact_id AND m.id = d.id WHERE d.id = $1 {lock}
        """,
        merge_id,
    )
    if row is None:
        raise MergeNotFound("No merge has this id.")
    return row


def _view(row: Record) -> Merge:
    return Merge(
        row["id"], row["contact_id"], row["other_id"], row["status"], row["moved"], row["by"], row["created_at"],
        row["undone_by"], row["undone_at"], [NotUndone(*each) for each in row["not_undone"] or ()],
    )  # fmt: skip


def _entry(contact_id: UUID, kind: str, by: str, now: datetime, data: dict[str, Any]) -> tuple[Any, ...]:
    return timeline.entry(contact_id, channel=CHANNEL, kind=kind, occurred_at=now, recorded_at=now, by=by, data=data)
