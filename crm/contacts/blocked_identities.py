"""Addresses that are nobody's: the shop's own, and others that must never become or join a contact.

What systems send where they know nobody, such as `anonymous`, needs no entry: `addresses` refuses it anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, Table, Text, Uuid

from crm.contacts.addresses import Address
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import NotFound

blocked_identities = Table(
    "blocked_identities",
    metadata,
    Column("value", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("reason", Text),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

SELECTED: Final = "id, kind, value, reason, by, created_at"


class BlockedIdentityNotFound(NotFound):
    code = "blocked_identity_not_found"
    title = "There is no such blocked address"


@dataclass(slots=True)
class BlockedIdentity:
    """An address that is nobody's, in canonical form, on whichever account."""

    id: UUID
    kind: str
    value: str
    reason: str | None
    by: str
    created_at: datetime


async def get(session: Session, *, blocked_id: UUID) -> BlockedIdentity:
    """One of them. Raises BlockedIdentityNotFound."""
    row = await session.fetchrow(f"SELECT {SELECTED} FROM blocked_identities WHERE id = $1", blocked_id)
    if row is None:
        raise _not_found()
    return BlockedIdentity(*row)


async def among(session: Session, *, addresses: Sequence[Address]) -> set[Address]:
    """Those of these addresses that are nobody's, in one query."""
    rows = await session.fetch(
        """
        SELECT v.value, v.kind, v.account FROM unnest($1::text[], $2::text[], $3::text[]) AS v (value, kind, account)
        JOIN blocked_identities b ON b.value = v.value AND b.kind = v.kind
        """,
        [key.value for key in addresses], [key.kind for key in addresses], [key.account for key in addresses],
    )  # fmt: skip
    return {Address(row["value"], row["kind"], row["account"]) for row in rows}


async def page(session: Session, *, before: UUID | None, limit: int) -> list[BlockedIdentity]:
    """All of them, the newest first, older than `before`."""
    rows = await session.fetch(
        f"SELECT {SELECTED} FROM blocked_identities WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [BlockedIdentity(*row) for row in rows]


async def delete(session: Session, *, blocked_id: UUID) -> None:
    """Let an address be somebody's again; whoever showed it claims it anew. Raises BlockedIdentityNotFound."""
    if not await session.execute("DELETE FROM blocked_identities WHERE id = $1", blocked_id):
        raise _not_found()


def _not_found() -> BlockedIdentityNotFound:
    return BlockedIdentityNotFound("No blocked address has this id.")
