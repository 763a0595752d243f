"""Words that people put on contacts."""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, Table, Text, Uuid

from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Invalid

COUNT_MAX = 100
LENGTH_MAX = 64

contact_tags = Table(
    "contact_tags",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("created_at", Instant, nullable=False),
)


class InvalidTag(Invalid):
    code = "invalid_tag"
    title = "This can't be a tag"


def clean(text: str) -> str:
    """A tag as it is kept: trimmed, with its case. Raises InvalidTag."""
    tag = unicodedata.normalize("NFC", text).strip()
    if not tag or len(tag) > LENGTH_MAX or not tag.isprintable():
        raise InvalidTag(f"A tag has 1 to {LENGTH_MAX} printable characters.")
    return tag


def added(tagged: Iterable[tuple[UUID, Iterable[str]]], *, now: datetime) -> Insert:
    """The part of a write that puts tags on contacts that lack them."""
    return Insert(
        contact_tags,
        ("contact_id", "tag", "created_at"),
        [(contact_id, tag, now) for contact_id, tags in tagged for tag in tags],
    )


async def remove(session: Session, *, contact_id: UUID, tags: Sequence[str]) -> None:
    """Take tags off a contact."""
    await session.execute("DELETE FROM contact_tags WHERE contact_id = $1 AND tag = ANY ($2)", contact_id, tags)
