"""Tiers as they are kept: the ranks of a program, and the policy that says how they are won and lost."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, NotFound
from crm.loyalty.ladders import Basis, Downgrade, Period

tiers = Table(
    "tiers",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("threshold", BigInteger, nullable=False),
    Column("benefits", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)


class ThresholdTaken(Conflict):
    code = "threshold_taken"
    title = "Another tier begins at the same threshold"


class TierNotFound(NotFound):
    code = "tier_not_found"
    title = "There is no such tier"


@dataclass(slots=True)
class Benefits:
    """What a tier gives: `earn_factor` multiplies what purchases earn, `reward_ids` are given on entry and renewal."""

    earn_factor: str = "1"
    reward_ids: list[UUID] = field(default_factory=list)
    text: str | None = None


@dataclass(slots=True)
class TierView:
    """A tier as it is shown."""

    id: UUID
    program_id: UUID
    name: str
    threshold: int
    benefits: Benefits


@dataclass(slots=True)
class TierPolicy:
    """What counts towards the tiers, for how long, and how they are lost.

    `months` is the length of `rolling_months`; `grace_days` are local days after a missed evaluation.
    """

    basis: Basis
    window: Period = "lifetime"
    months: int | None = None
    downgrade: Downgrade = "never"
    grace_days: int = 0


async def create(
    session: Session, *, program_id: UUID, name: str, threshold: int, benefits: dict[str, Any], now: datetime
) -> TierView:
    """Store a tier; `programs.add_tier` also tells every process of it. Raises ThresholdTaken."""
    row = await session.fetchrow(
        """
        INSERT INTO tiers (program_id, id, name, threshold, benefits, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $6)
        ON CONFLICT (program_id, threshold) DO NOTHING
        RETURNING id, program_id, name, threshold, benefits
        """,
        program_id, uuid7(), name, threshold, benefits, now,
    )  # fmt: skip
    if row is None:
        raise ThresholdTaken(f"This program already has a tier at {threshold}; choose another threshold.")
    return _view(row)


async def get(session: Session, *, program_id: UUID, tier_id: UUID) -> TierView:
    """One tier. Raises TierNotFound."""
    row = await session.fetchrow(
        "SELECT id, program_id, name, threshold, benefits FROM tiers WHERE program_id = $1 AND id = $2",
        program_id, tier_id,
    )  # fmt: skip
    if row is None:
        raise TierNotFound("This program has no such tier.")
    return _view(row)


async def page(session: Session, *, program_id: UUID, above: int | None, limit: int) -> list[TierView]:
    """A program's tiers, lowest first, from above the threshold `above`."""
    rows = await session.fetch(
        """
        SELECT id, program_id, name, threshold, benefits FROM tiers
        WHERE program_id = $1 AND threshold > $2 ORDER BY threshold LIMIT $3
        """,
        program_id, -1 if above is None else above, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _view(row: Record) -> TierView:
    return TierView(row["id"], row["program_id"], row["name"], row["threshold"], Benefits(**row["benefits"]))
