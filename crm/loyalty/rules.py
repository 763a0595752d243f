"""Earning rules as they are kept: each change makes a new version, which the ledger remembers with what it earned."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import NotFound
from crm.loyalty import contribution, programs

earning_rules = Table(
    "earning_rules",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
)

_DEFAULTS: Final[Mapping[str, Any]] = {
    "status": "active", "points": 1, "per": "1", "factor": "1", "event": None, "filter": None, "condition": None,
    "window": None,     "min_spend": None, "limits": [],
    "code": None, "max_points_per_purchase": None, "over_max": "trim", "stackable": True, "priority": 0,
    "applies_to": "amount",
}  # fmt: skip
_COLUMNS: Final = "id, program_id, version, definition, created_at, updated_at"


class EarningRuleNotFound(NotFound):
    code = "earning_rule_not_found"
    title = "There is no such earning rule"


@dataclass(slots=True)
class EarningRule:
    """A rule as it is shown; `version` counts its changes."""

    id: UUID
    program_id: UUID
    version: int
    name: str
    kind: str
    status: str
    points: int
    per: str
    factor: str
    event: str | None
    filter: dict[str, list[str]] | None
    condition: dict[str, Any] | None
    window: dict[str, Any] | None
    min_spend: str | None
    code: str | None
    limits: list[dict[str, Any]]
    max_points_per_purchase: int | None
    over_max: str
    stackable: bool
    priority: int
    applies_to: str
    created_at: datetime
    updated_at: datetime


async def create(session: Session, *, program_id: UUID, definition: dict[str, Any], now: datetime) -> EarningRule:
    """Add a rule; purchases from now on are judged by it. Raises ProgramNotFound, InvalidCondition."""
    definition = await _checked(session, definition)
    await programs.touch(session, program_id=program_id, now=now)
    row = await session.fetchrow(
        f"""
        INSERT INTO earning_rules (program_id, id, version, name, kind, status, definition, created_at, updated_at)
        VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $7) RETURNING {_COLUMNS}
        """,
        program_id, uuid7(), definition["name"], definition["kind"], definition.get("status", "active"),
        definition, now,
    )  # fmt: skip
    return _view(row)


async def change(
    session: Session,
    *,
    program_id: UUID,
    rule_id: UUID,
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    now: datetime,
) -> EarningRule:
    """Give a rule the definition that `merge` makes of its present one, as its next version.

    Raises ProgramNotFound, EarningRuleNotFound, InvalidCondition.
    """
    await programs.touch(session, program_id=program_id, now=now)
    current = await _row(session, program_id, rule_id)
    definition = merge(current["definition"])
    definition = await _checked(session, definition, before=current["definition"])
    row = await session.fetchrow(
        f"""
        UPDATE earning_rules
        SET version = version + 1, name = $3, kind = $4, status = $5, definition = $6, updated_at = $7
        WHERE program_id = $1 AND id = $2 RETURNING {_COLUMNS}
        """,
        program_id, rule_id, definition["name"], definition["kind"], definition.get("status", "active"),
        definition, now,
    )  # fmt: skip
    return _view(row)


async def delete(session: Session, *, program_id: UUID, rule_id: UUID, now: datetime) -> None:
    """End a rule; what it earned stays. Raises ProgramNotFound, EarningRuleNotFound."""
    await programs.touch(session, program_id=program_id, now=now)
    if not await session.execute(
        "UPDATE earning_rules SET deleted_at = $3 WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL",
        program_id, rule_id, now,
    ):  # fmt: skip
        raise EarningRuleNotFound("This program has no such rule.")


async def get(session: Session, *, program_id: UUID, rule_id: UUID) -> EarningRule:
    """One rule. Raises EarningRuleNotFound."""
    return _view(await _row(session, program_id, rule_id))


async def page(session: Session, *, program_id: UUID, after: UUID | None, limit: int) -> list[EarningRule]:
    """A program's rules in rule order, that is in the order they were made. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"""
        SELECT {_COLUMNS} FROM earning_rules
        WHERE program_id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
        """,
        program_id, after, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def _checked(
    session: Session, definition: dict[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    condition = await contribution.condition_to_keep(
        session, definition.get("condition"), before=before and before.get("condition"), pointer="/condition"
    )
    return definition if condition is None else {**definition, "condition": condition}


async def _row(session: Session, program_id: UUID, rule_id: UUID) -> Record:
    row = await session.fetchrow(
        f"SELECT {_COLUMNS} FROM earning_rules WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL",
        program_id, rule_id,
    )  # fmt: skip
    if row is None:
        raise EarningRuleNotFound("This program has no such rule.")
    return row


def _view(row: Record | None) -> EarningRule:
    assert row is not None, "the statement returns what it wrote"
    return EarningRule(
        id=row["id"], program_id=row["program_id"], version=row["version"], created_at=row["created_at"],
        updated_at=row["updated_at"],
        **(_DEFAULTS | row["definition"]),
    )  # fmt: skip
