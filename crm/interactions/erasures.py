"""Forgetting a person: who they were goes, what the business has to keep stays and says nothing of them."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm.contacts import aliases, merging, suppressions
from crm.contacts.contacts import ContactNotFound
from crm.contacts.keeping import Erasing, Keeper
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import NotFound
from crm.interactions import timeline
from crm.interactions.people import CHANNEL

erasures = Table(
    "erasures",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("aliases", ARRAY(Uuid), nullable=False),
    Column("reason", Text),
    Column("erased", JSONB, nullable=False),
    Column("kept", JSONB, nullable=False),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)
erasure_directory = Table(
    "erasure_directory",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in erasures.columns)
_SELECTED: Final = ", ".join(f"e.{name}" for name in _COLUMNS)


class ErasureNotFound(NotFound):
    code = "erasure_not_found"
    title = "There is no such erasure"


class ContactErased(ContactNotFound):
    code = "contact_erased"
    title = "This person was forgotten"


@dataclass(slots=True)
class Erasure:
    """The certificate: what was erased of a person, and what was kept without them, each as a number of rows.

    `aliases` are other ids that they had. It says nothing of who they were.
    """

    id: UUID
    contact_id: UUID
    aliases: list[UUID]
    reason: str | None
    erased: dict[str, int]
    kept: dict[str, int]
    by: str
    created_at: datetime


async def erase(
    session: Session,
    *,
    contact_id: UUID,
    reason: str | None,
    keepers: Sequence[Keeper],
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Erasure:
    """Forget a contact, in every place that a package contributes.

    What is on hold is released and points that are left are written off first: nobody could ever spend them. Of
    addresses keyed hashes are kept, so that nobody who comes back is written to unasked.
    Raises ContactNotFound.
    """
    await merging.lock(session, contact_ids=[contact_id])
    former = await aliases.of(session, contact_id=contact_id)
    erasing = Erasing(uuid7(), (contact_id, *former), by, now)
    parts = [keeper.personal_data for keeper in keepers]
    for part in parts:
        if part.settle is not None:
            await part.settle(session, erasing=erasing)
    ids, erased, kept = list(erasing.contact_ids), Counter[str](), Counter[str]()
    if hashes := await suppressions.remember(session, contact_ids=ids, now=now):
        kept["address_hashes"] = hashes
    for part in parts:
        for section in part.erases:
            erased[section.name] += await session.execute(section.query, ids)
        for section in part.keeps:
            kept[section.name] += await session.fetchval(section.query, ids)
    erasure = Erasure(erasing.id, contact_id, former, reason, dict(erased), dict(kept), by, now)
    row = (contact_id, erasing.id, former, reason, dict(erased), dict(kept), by, now)
    told = timeline.entry(
        contact_id, channel=CHANNEL, kind="contact.erased", occurred_at=now, recorded_at=now, by=by,
        data={"erasure_id": erasing.id},
    )  # fmt: skip
    await writes.write(
        session,
        [
            Insert(erasures, _COLUMNS, [row]),
            Insert(erasure_directory, ("id", "contact_id"), [(erasing.id, contact_id)]),
            timeline.part([told]),
        ],
    )
    await idempotency.keep(session, request=once, contact_id=None, result=erasure, now=now)
    return erasure


async def get(session: Session, *, erasure_id: UUID) -> Erasure:
    """One certificate. Raises ErasureNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM erasure_directory d JOIN erasures e ON e.contact_id = d.contact_id AND e.id = d.id
        WHERE d.id = $1
        """,
        erasure_id,
    )
    if row is None:
        raise ErasureNotFound("No erasure has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[Erasure]:
    """Certificates, the newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM erasure_directory d JOIN erasures e ON e.contact_id = d.contact_id AND e.id = d.id
        WHERE $1::uuid IS NULL OR d.id < $1 ORDER BY d.id DESC LIMIT $2
        """,
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def check(session: Session, *, contact_ids: Collection[UUID]) -> None:
    """Say of somebody who is not found that they were forgotten. Raises ContactErased."""
    erasure_id = await session.fetchval(
        """
        SELECT id FROM erasures WHERE contact_id = ANY ($1) OR contact_id IN (
            SELECT contact_id FROM contact_alias_directory WHERE alias_id = ANY ($1)
        ) ORDER BY id DESC LIMIT 1
        """,
        list(contact_ids),
    )
    if erasure_id is not None:
        raise ContactErased(
            f"All that was known of this contact was erased; GET /v1/erasures/{erasure_id} says when.",
            erasure_id=str(erasure_id),
        )


def _view(row: Record) -> Erasure:
    return msgspec.convert(dict(row), Erasure)
