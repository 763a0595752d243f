"""Pairs of contacts that may be one person, for somebody to decide about. Nothing is merged by itself."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
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

DISPUTED: Final = 80
"""The score of two that both show one address."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Two contacts, how likely they are one of 100, and why: each reason has a `code` and a `text`."""

    contact_id: UUID
    other_id: UUID
    score: int
    reasons: tuple[Mapping[str, str], ...]


def suggest(suggestions: Iterable[Suggestion], *, now: datetime) -> Insert:
    """The part of a write that suggests pairs; one that was found before stays as it is, whatever was decided."""
    return Insert(
        duplicate_pairs,
        ("contact_id", "other_id", "score", "reasons", "found_at"),
        [(*sorted((one.contact_id, one.other_id)), one.score, list(one.reasons), now) for one in suggestions],
        "DO NOTHING",
    )
