"""Pairs of contacts that may be one person, for somebody to decide about. Nothing is merged by itself."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.tables import Instant, metadata
from crm.db.writes import Insert

duplicate_pairs = Table(
    "duplicate_pairs",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("other_id", Uuid, primary_key=True),
    Column("score", SmallInteger, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Column("decided_by", Text),
)


@dataclass(frozen=True, slots=True)
class DuplicateReason:
    """Something that speaks for or against two contacts being one person."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two contacts, the lesser id first."""

    contact_id: UUID
    other_id: UUID

    @classmethod
    def of(cls, one: UUID, other: UUID) -> "Pair":
        return cls(min(one, other), max(one, other))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A pair, and how likely it is one person, in percent."""

    pair: Pair
    score: int
    reasons: list[DuplicateReason]


def suggest(found: Iterable[Suggestion], *, now: datetime) -> Insert:
    """The part of a write that suggests pairs; one that was found before stays as it is, whatever was decided."""
    return Insert(
        duplicate_pairs,
        ("contact_id", "other_id", "score", "reasons", "found_at"),
        [
            (one.pair.contact_id, one.pair.other_id, one.score, [asdict(reason) for reason in one.reasons], now)
            for one in found
        ],
        "DO NOTHING",
    )
