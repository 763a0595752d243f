"""Contacts: who somebody is, in one piece."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Date, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import attributes, identities, tags
from crm.contacts.attributes import Attribute
from crm.contacts.identities import Identity
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import NotFound, Stale

contacts = Table(
    "contacts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("given_name", Text),
    Column("family_name", Text),
    Column("locale", Text),
    Column("time_zone", Text),
    Column("birth_on", Date),
    Column("attributes", JSONB, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

_COLUMNS = (
    "id", "name", "given_name", "family_name", "locale", "time_zone", "birth_on", "attributes", "version", "created_at",
    "updated_at",
)  # fmt: skip

SELECTED = f"""
    {", ".join(f"c.{name}" for name in _COLUMNS)},
    (SELECT jsonb_agg(jsonb_build_array(i.kind, i.account, i.value, i.raw, i.verified, i.disputed)
        ORDER BY i.created_at, i.position, i.kind, i.account, i.value)
     FROM contact_identities i WHERE i.contact_id = c.id) AS identities,
    (SELECT array_agg(t.tag ORDER BY t.tag) FROM contact_tags t WHERE t.contact_id = c.id) AS tags
"""
"""What `of_row` needs of a contact `c`."""

UNSEGMENTED: Final = """
    unsegmented AS (
        DELETE FROM segment_members WHERE contact_id = ANY ($1) RETURNING segment_id
    ), uncounted AS (
        UPDATE segment_evaluations e SET members_count = e.members_count - u.count
        FROM (SELECT segment_id, count(*) AS count FROM unsegmented GROUP BY segment_id) u
        WHERE e.segment_id = u.segment_id
    )
"""
"""Of a statement, the parts by which the contacts in `$1` leave all segments; `lock_segments` comes before."""


class ContactNotFound(NotFound):
    code = "contact_not_found"
    title = "There is no such contact"


class StaleContact(Stale):
    title = "The contact has changed since you read it"


@dataclass(frozen=True, slots=True)
class Contact:
    """A person: identities in the order they were given, tags sorted, `version` counting every change of any of it."""

    id: UUID
    name: str
    given_name: str | None
    family_name: str | None
    locale: str | None
    time_zone: str | None
    birth_on: date | None
    identities: list[Identity]
    tags: list[str]
    attributes: dict[str, Attribute]
    version: int
    created_at: datetime
    updated_at: datetime


def of_row(row: Record) -> Contact:
    """The contact in a row of `SELECTED`."""
    return Contact(
        id=row["id"],
        name=row["name"],
        given_name=row["given_name"],
        family_name=row["family_name"],
        locale=row["locale"],
        time_zone=row["time_zone"],
        birth_on=row["birth_on"],
        identities=[Identity(*parts) for parts in row["identities"] or ()],
        tags=row["tags"] or [],
        attributes=row["attributes"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def get(session: Session, *, contact_id: UUID) -> Contact:
    """One contact. Raises ContactNotFound."""
    row = await session.fetchrow(f"SELECT {SELECTED} FROM contacts c WHERE c.id = $1", contact_id)
    if row is None:
        raise _not_found()
    return of_row(row)


async def find_all(session: Session, *, contact_ids: Sequence[UUID]) -> dict[UUID, Contact]:
    """Those of these contacts that there are."""
    rows = await session.fetch(f"SELECT {SELECTED} FROM contacts c WHERE c.id = ANY ($1)", contact_ids)
    return {row["id"]: of_row(row) for row in rows}


async def lock_all(session: Session, *, contact_ids: Sequence[UUID], deleting: bool = False) -> None:
    """`lock` for many contacts, those that there are."""
    strength = "UPDATE" if deleting else "NO KEY UPDATE"
    await session.execute(f"SELECT FROM contacts WHERE id = ANY ($1) ORDER BY id FOR {strength}", contact_ids)


async def versions(session: Session, *, contact_ids: Sequence[UUID]) -> dict[UUID, int]:
    """In which version each of these contacts is, of those that there are."""
    rows = await session.fetch("SELECT id, version FROM contacts WHERE id = ANY ($1)", contact_ids)
    return {row["id"]: row["version"] for row in rows}


async def lock(session: Session, *, contact_id: UUID, version: int | None = None, deleting: bool = False) -> None:
    """Keep everybody else from changing a contact until the end of the transaction; read it after this, not before.

    Others may still point new rows at it, unless it is locked for `deleting`. Raises ContactNotFound, and StaleContact
    where it is not at `version` any more.
    """
    strength = "UPDATE" if deleting else "NO KEY UPDATE"
    present = await session.fetchval(f"SELECT version FROM contacts WHERE id = $1 FOR {strength}", contact_id)
    if present is None:
        raise _not_found()
    if version is not None and version != present:
        raise StaleContact("Read it again, and send the new ETag in If-Match.", version=present)


async def touch(session: Session, *, contact_ids: Collection[UUID], now: datetime) -> None:
    """Count a change of contacts that are locked."""
    await session.execute(
        "UPDATE contacts SET version = version + 1, updated_at = $2 WHERE id = ANY ($1)", list(contact_ids), now
    )


def created(made: Sequence[Contact], *, now: datetime) -> list[Insert]:
    """The parts of a write that store new contacts, whose identities were claimed before, unless they are disputed."""
    return [
        Insert(contacts, _COLUMNS, [tuple(getattr(contact, name) for name in _COLUMNS) for contact in made]),
        identities.added(((contact.id, contact.identities) for contact in made), now=now),
        tags.added(((contact.id, contact.tags) for contact in made), now=now),
    ]


def extended(changed: Sequence[tuple[Contact, Contact]], *, now: datetime) -> list[Insert | Update]:
    """The parts of a write that turn locked contacts into such as have all that they had, and more.

    Their new identities were claimed before; of those that they had, some may be verified now.
    """
    proven = [
        (after.id, identity)
        for before, after in changed
        for identity in after.identities
        if identity.verified
        and any(not known.verified and known.address == identity.address for known in before.identities)
    ]
    return [
        identities.marked(proven),
        Update(contacts, _COLUMNS, [tuple(getattr(after, name) for name in _COLUMNS) for _, after in changed], 1),
        identities.added(
            ((after.id, identities.new(before.identities, after.identities)) for before, after in changed), now=now
        ),
        tags.added(
            ((after.id, [tag for tag in after.tags if tag not in before.tags]) for before, after in changed), now=now
        ),
    ]


def updated(contact: Contact) -> Update:
    """The part of a write that stores a contact's fields; its identities and tags have parts of theirs."""
    return Update(contacts, _COLUMNS, [tuple(getattr(contact, name) for name in _COLUMNS)], 1)


async def save(session: Session, *, before: Contact, after: Contact, now: datetime) -> list[Insert | Update]:
    """What has to be written to turn a locked contact into what it shall be; what has to go is gone already.

    New identities were claimed before.
    """
    known = {identity.address: identity for identity in before.identities}
    wanted = {identity.address: identity for identity in after.identities}
    if gone := [key for key in known if key not in wanted]:
        await identities.remove(session, contact_id=before.id, addresses=gone)
    if removed := [tag for tag in before.tags if tag not in after.tags]:
        await tags.remove(session, contact_id=before.id, tags=removed)
    return [
        updated(after),
        identities.added([(before.id, [identity for key, identity in wanted.items() if key not in known])], now=now),
        identities.marked((before.id, one) for key, one in wanted.items() if key in known and one != known[key]),
        tags.added([(before.id, [tag for tag in after.tags if tag not in before.tags])], now=now),
    ]


async def lock_segments(session: Session, *, contact_ids: Sequence[UUID]) -> None:
    """Lock the counts of the segments that contacts are in, before the contacts leave them.

    Whoever evaluates a segment has its count before its members too.
    """
    await session.execute(
        """
        SELECT FROM segment_evaluations
        WHERE segment_id IN (SELECT segment_id FROM segment_members WHERE contact_id = ANY ($1))
        ORDER BY segment_id FOR NO KEY UPDATE
        """,
        contact_ids,
    )


async def delete(session: Session, *, contact_id: UUID) -> None:
    """Forget a contact that nothing points to, locked for that. Whether something does is the caller's to know."""
    await delete_all(session, contact_ids=[contact_id])


async def delete_all(session: Session, *, contact_ids: Sequence[UUID]) -> None:
    """`delete` for many contacts."""
    await lock_segments(session, contact_ids=contact_ids)
    await session.execute(
        f"""
        WITH untagged AS (
            DELETE FROM contact_tags WHERE contact_id = ANY ($1)
        ), {UNSEGMENTED}, unknown AS (
            DELETE FROM contact_identities WHERE contact_id = ANY ($1) RETURNING value, kind, account
        ), freed AS (
            DELETE FROM identity_directory d USING unknown u
            WHERE d.value = u.value AND d.kind = u.kind AND d.account = u.account AND d.contact_id = ANY ($1)
        )
        DELETE FROM contacts WHERE id = ANY ($1)
        """,
        contact_ids,
    )


def changes(before: Contact, after: Contact) -> dict[str, dict[str, Any]]:
    """What differs, as `{"before": {…}, "after": {…}}`, both with the same fields.

    Of attributes, tags and identities there is only what was lost, and what was gained.
    """
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name in ("name", "given_name", "family_name", "locale", "time_zone", "birth_on"):
        if getattr(before, name) != getattr(after, name):
            old[name], new[name] = getattr(before, name), getattr(after, name)
    for name in ("identities", "tags"):
        was, is_now = getattr(before, name), getattr(after, name)
        if was != is_now:
            old[name] = [item for item in was if item not in is_now]
            new[name] = [item for item in is_now if item not in was]
    lost = attributes.unlike(before.attributes, after.attributes)
    gained = attributes.unlike(after.attributes, before.attributes)
    if lost or gained:
        old["attributes"], new["attributes"] = lost, gained
    return {"before": old, "after": new}


def _not_found() -> ContactNotFound:
    return ContactNotFound("No contact has this id.")
