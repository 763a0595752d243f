"""Playbooks as they are kept: what is done for people by itself. Each change is a version; a run keeps to its own."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import definitions as attribute_definitions
from crm.contacts.vocabulary import Vocabulary
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound, Stale
from crm.interactions import cursors
from crm.playbooks import definitions, mentions, runs
from crm.playbooks.definitions import Definition, InvalidPlaybook

playbooks = Table(
    "playbooks",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("status", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("activated_at", Instant),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("archived_at", Instant),
)
playbook_versions = Table(
    "playbook_versions",
    metadata,
    Column("playbook_id", Uuid, primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("definition", JSONB, nullable=False),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

Status: TypeAlias = Literal["draft", "active", "paused", "archived"]
PLAYBOOKS_MAX: Final = 200
"""Those that are not archived: what happens with a contact is held against all that are active."""
CURSOR: Final = "playbooks"
"""How far timelines have been read for all of them."""
ARCHIVED: Final = "playbook_archived"
"""Why the runs of a playbook that was put away ended."""

_COLUMNS: Final = tuple(column.name for column in playbooks.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class PlaybookNotFound(NotFound):
    code = "playbook_not_found"
    title = "There is no such playbook"


class PlaybookArchived(Conflict):
    code = "playbook_archived"
    title = "The playbook has been archived"


class PlaybookNotActive(Conflict):
    code = "playbook_not_active"
    title = "The playbook was never active"


class TooManyPlaybooks(Conflict):
    code = "too_many_playbooks"
    title = "There are too many playbooks"


class StalePlaybook(Stale):
    title = "The playbook has changed since you read it"


@dataclass(slots=True)
class Playbook:
    """What is done by itself: `trigger` says when, `condition` for whom, `steps` what.

    Nothing that happened before `activated_at` is a trigger. `version` counts its changes.
    """

    id: UUID
    name: str
    description: str | None
    status: Status
    version: int
    program_id: UUID | None
    trigger: dict[str, Any]
    condition: dict[str, Any] | None
    steps: list[dict[str, Any]]
    stop: dict[str, Any] | None
    cap: dict[str, Any] | None
    messages_cap: dict[str, Any]
    quiet_hours: dict[str, Any] | None
    activated_at: datetime | None
    by: str
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None

    @property
    def document(self) -> dict[str, Any]:
        """Its definition as it is kept."""
        return {name: getattr(self, name) for name in definitions.MEMBERS}

    @property
    def definition(self) -> Definition:
        """What it does."""
        return definitions.read(msgspec.to_builtins(self.document))


async def create(
    session: Session,
    *,
    vocabulary: Vocabulary,
    name: str,
    description: str | None,
    document: Mapping[str, Any],
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Playbook:
    """Keep a playbook as a draft: it does nothing until it is active.

    Raises InvalidCondition, InvalidPlaybook, TooManyPlaybooks, and what says that there is no such program.
    """
    kept = await _checked(session, vocabulary, document)
    if await session.fetchval("SELECT count(*) FROM playbooks WHERE archived_at IS NULL") >= PLAYBOOKS_MAX:
        raise TooManyPlaybooks(f"{PLAYBOOKS_MAX} are kept at most; archive one that nobody needs.")
    playbook = Playbook(
        id=uuid7(), name=name, description=description, status="draft", version=1, **_shown(kept), activated_at=None,
        by=by, created_at=now, updated_at=now, archived_at=None,
    )  # fmt: skip
    await writes.write(
        session,
        [
            Insert(playbooks, _COLUMNS, [_row(playbook, kept)]),
            _version(playbook, kept, by),
            *idempotency.answer(once, contact_id=None, result=playbook, now=now),
        ],
    )
    return playbook


async def change(
    session: Session,
    *,
    vocabulary: Vocabulary,
    playbook_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    by: str,
    now: datetime,
) -> Playbook:
    """Apply a merge patch; runs that have begun go on as they were.

    From being made active on, and from a change of what an active one waits for, only what happens then is a trigger.
    Raises PlaybookNotFound, PlaybookArchived, PlaybookNotActive, StalePlaybook, InvalidCondition, InvalidPlaybook, and
    what says that there is no such program.
    """
    before = await _lock(session, playbook_id=playbook_id, version=version)
    status: Status = changes.get("status", before.status)
    if status == "paused" and before.status == "draft":
        raise PlaybookNotActive("Only what is active can be paused.")
    facts = {name: value for name, value in changes.items() if name in {"name", "description"}}
    document = before.document | {name: value for name, value in changes.items() if name in definitions.MEMBERS}
    # What it names may be gone since: that is found out now, and not at the first contact.
    begins = status == "active" and before.status != "active"
    kept = msgspec.to_builtins(document)
    if begins or kept != msgspec.to_builtins(before.document):
        kept = await _checked(session, vocabulary, document)
    shown = {name: getattr(before, name) for name in Playbook.__slots__} | facts | _shown(kept) | {"status": status}
    if shown == {name: getattr(before, name) for name in Playbook.__slots__}:
        return before
    after = Playbook(**shown)
    after.version, after.updated_at = before.version + 1, now
    if begins or (status == "active" and after.trigger != before.trigger):
        after.activated_at = now
        await cursors.ensure(session, name=CURSOR)
    await session.execute(
        """
        UPDATE playbooks SET name = $2, description = $3, status = $4, trigger = $5, definition = $6, version = $7,
            activated_at = $8, updated_at = $9
        WHERE id = $1
        """,
        playbook_id, after.name, after.description, after.status, after.trigger["kind"], kept, after.version,
        after.activated_at, now,
    )  # fmt: skip
    await writes.write(session, [_version(after, kept, by)])
    return after


async def archive(session: Session, *, playbook_id: UUID, version: int | None = None, by: str, now: datetime) -> None:
    """Put a playbook away; its runs end where they are. Raises PlaybookNotFound, StalePlaybook."""
    try:
        await _lock(session, playbook_id=playbook_id, version=version)
    except PlaybookArchived:
        return
    await session.execute(
        """
        UPDATE playbooks SET status = 'archived', archived_at = $2, updated_at = $2, version = version + 1 WHERE id = $1
        """,
        playbook_id, now,
    )  # fmt: skip
    await session.execute(
        """
        INSERT INTO playbook_versions (playbook_id, version, definition, by, created_at)
        SELECT id, version, definition, $2, $3 FROM playbooks WHERE id = $1
        """,
        playbook_id, by, now,
    )  # fmt: skip
    await runs.cancel_all(session, playbook_id=playbook_id, reason=ARCHIVED, now=now)


async def get(session: Session, *, playbook_id: UUID) -> Playbook:
    """One playbook, archived or not. Raises PlaybookNotFound."""
    row = await session.fetchrow(f"SELECT {_SELECTED} FROM playbooks WHERE id = $1", playbook_id)
    if row is None:
        raise PlaybookNotFound("No playbook has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[Playbook]:
    """Playbooks that are not archived, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM playbooks WHERE archived_at IS NULL AND ($1::uuid IS NULL OR id < $1)
        ORDER BY id DESC LIMIT $2
        """,
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def active(session: Session, *, triggers: Collection[str] | None = None) -> list[Playbook]:
    """The playbooks at work, in the order in which they were made; those with these kinds of trigger."""
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM playbooks WHERE status = 'active' AND ($1::text[] IS NULL OR trigger = ANY ($1)) "
        "ORDER BY id",
        None if triggers is None else sorted(triggers),
    )
    return [_view(row) for row in rows]


async def of_version(session: Session, *, playbook_id: UUID, version: int) -> tuple[str, Definition]:
    """The name of a playbook, and what it did in that version."""
    row = await session.fetchrow(
        """
        SELECT p.name, v.definition FROM playbook_versions v JOIN playbooks p ON p.id = v.playbook_id
        WHERE v.playbook_id = $1 AND v.version = $2
        """,
        playbook_id, version,
    )  # fmt: skip
    assert row is not None, "a version is kept for good"
    return row["name"], definitions.read(row["definition"])


async def _checked(session: Session, vocabulary: Vocabulary, document: Mapping[str, Any]) -> dict[str, Any]:
    """The definition as it is to be kept: attributes in it with their types. All that it names is there."""
    kept: dict[str, Any] = msgspec.to_builtins({name: document.get(name) for name in definitions.MEMBERS})
    if kept["messages_cap"] is None:
        kept["messages_cap"] = msgspec.to_builtins(definitions.MessagesCap())
    for holder, name in ((kept, "condition"), (kept["stop"], "condition")):
        if holder is not None and holder.get(name) is not None:
            holder[name] = await attribute_definitions.typed(session, holder[name])
    definition = definitions.read(kept)
    kept = msgspec.to_builtins(definition)
    definitions.check(definition, vocabulary=vocabulary)
    await vocabulary.frame(session, definition.program_id)
    if missing := await mentions.missing(session, definition=definition):
        raise InvalidPlaybook("It names what is not there; `errors` says where.", errors=missing)
    return kept


async def _lock(session: Session, *, playbook_id: UUID, version: int | None) -> Playbook:
    await session.execute("SELECT FROM playbooks WHERE id = $1 FOR NO KEY UPDATE", playbook_id)
    playbook = await get(session, playbook_id=playbook_id)
    if playbook.archived_at is not None:
        raise PlaybookArchived("Make a new one with the same definition.")
    if version is not None and version != playbook.version:
        raise StalePlaybook("Read it again, and send the new ETag in If-Match.", version=playbook.version)
    return playbook


def _shown(kept: Mapping[str, Any]) -> dict[str, Any]:
    program_id = kept["program_id"]
    return {**kept, "program_id": None if program_id is None else UUID(program_id)}


def _row(playbook: Playbook, kept: Mapping[str, Any]) -> tuple[Any, ...]:
    values = {"definition": kept, "trigger": playbook.trigger["kind"]}
    return tuple(values.get(name, getattr(playbook, name, None)) for name in _COLUMNS)


def _version(playbook: Playbook, kept: Mapping[str, Any], by: str) -> Insert:
    return Insert(
        playbook_versions, ("playbook_id", "version", "definition", "by", "created_at"),
        [(playbook.id, playbook.version, kept, by, playbook.updated_at)],
    )  # fmt: skip


def _view(row: Record) -> Playbook:
    values = {name: row[name] for name in _COLUMNS if name not in {"definition", "trigger"}}
    return Playbook(**values, **_shown(row["definition"]))
