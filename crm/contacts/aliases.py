"""The ids under which a contact was known before records of one person were merged."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Column, Table, Uuid

from crm.db.session import Session
from crm.db.tables import Instant, metadata

contact_aliases = Table(
    "contact_aliases",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("alias_id", Uuid, primary_key=True),
    Column("created_at", Instant, nullable=False),
)
contact_alias_directory = Table(
    "contact_alias_directory",
    metadata,
    Column("alias_id", Uuid, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)


def known_as(contact: str) -> str:
    """In SQL, the ids under which things happened with a contact, its own first: rows of one column `id`.

    `contact` is an expression; each id needs an index of its own, so join what is asked for laterally.
    """
    return f"""
        (SELECT {contact} AS id UNION ALL SELECT k.alias_id FROM contact_aliases k WHERE k.contact_id = {contact})
    """


async def survivors(session: Session, *, ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The contacts that these ids, where they are aliases, belong to now."""
    if not ids:
        return {}
    rows = await session.fetch(
        "SELECT alias_id, contact_id FROM contact_alias_directory WHERE alias_id = ANY ($1)", list(ids)
    )
    return {row["alias_id"]: row["contact_id"] for row in rows}


async def people(session: Session, *, ids: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """All ids of the person behind each of these: first that of the survivor, then the aliases, newest first."""
    rows = await session.fetch(
        """
        SELECT g.id, s.id || ARRAY(
            SELECT k.alias_id FROM contact_aliases k WHERE k.contact_id = s.id
            ORDER BY k.created_at DESC, k.alias_id DESC
        ) AS ids
        FROM unnest($1::uuid[]) AS g (id)
        LEFT JOIN contact_alias_directory d ON d.alias_id = g.id
        CROSS JOIN LATERAL (SELECT coalesce(d.contact_id, g.id) AS id) s
        """,
        list(ids),
    )
    return {row["id"]: row["ids"] for row in rows}


async def of(session: Session, *, contact_id: UUID) -> list[UUID]:
    """The aliases of a contact, the newest first."""
    rows = await session.fetch(
        "SELECT alias_id FROM contact_aliases WHERE contact_id = $1 ORDER BY created_at DESC, alias_id DESC", contact_id
    )
    return [row["alias_id"] for row in rows]


async def hand_over(session: Session, *, alias_ids: Collection[UUID], before: UUID, after: UUID) -> None:
    """Let aliases of one contact be those of another."""
    await session.execute(
        """
        WITH theirs AS (
            UPDATE contact_aliases SET contact_id = $3 WHERE contact_id = $2 AND alias_id = ANY ($1) RETURNING alias_id
        )
        UPDATE contact_alias_directory d SET contact_id = $3 FROM theirs t WHERE d.alias_id = t.alias_id
        """,
        list(alias_ids), before, after,
    )  # fmt: skip


async def remove(session: Session, *, contact_id: UUID, alias_id: UUID) -> None:
    """Let an id be no alias any more."""
    await session.execute(
        """
        WITH gone AS (DELETE FROM contact_aliases WHERE contact_id = $1 AND alias_id = $2 RETURNING alias_id)
        DELETE FROM contact_alias_directory d USING gone g WHERE d.alias_id = g.alias_id
        """,
        contact_id, alias_id,
    )  # fmt: skip
