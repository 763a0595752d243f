"""The ledger as a member or a cashier reads it: transactions, newest first, and the movements behind each."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.contacts import aliases
from crm.db.session import Session
from crm.errors import NotFound
from crm.loyalty import journal

_COLUMNS: Final = """
    id, program_id, seq, kind, cause, points, reason, order_ref, reverses, occurred_at, recorded_at, available_after,
    rules, by
"""


def within_person(transaction: str, contact: str) -> str:
    """In SQL, whether a transaction of one of the contact's accounts is the side of a transfer to another of them."""
    return f"""({transaction}.cause = 'merge' AND EXISTS (
        SELECT FROM {aliases.known_as(contact)} o
        JOIN points_transactions s ON s.contact_id = o.id AND s.id = {transaction}.id
        WHERE o.id <> {transaction}.contact_id
    ))"""


class PointsTransactionNotFound(NotFound):
    code = "points_transaction_not_found"
    title = "There is no such points transaction"


@dataclass(slots=True)
class PointsTransaction:
    """One business fact on an account; `points` as the member sees them, `seq` its place in the order of recording."""

    id: UUID
    program_id: UUID
    seq: int
    kind: str
    cause: str
    points: int
    reason: str | None
    order_ref: str | None
    reverses: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    available_after: int
    rules: list[dict[str, Any]] | None
    by: str


@dataclass(slots=True)
class PointsMovement:
    """Points of one lot that moved from one bucket to another."""

    seq: int
    lot_id: UUID
    from_bucket: str
    to_bucket: str
    points: int
    available_after: int
    pending_after: int
    held_after: int


@dataclass(slots=True)
class PointsTransactionDetail(PointsTransaction):
    """A transaction with its movements."""

    movements: list[PointsMovement]


async def page(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    before: UUID | None,
    limit: int,
    cause: str | None = None,
) -> list[PointsTransaction]:
    """A contact's transactions, last recorded first, older than `before`: those of every account that was merged too.

    What a merge transferred between accounts of the same person is left out; each `available_after` is that of the
    account in which it happened.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT t.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM points_transactions t
            WHERE contact_id = who.id AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
                AND ($3::uuid IS NULL OR id < $3) AND ($5::text IS NULL OR cause = $5)
                AND NOT {within_person("t", "c.id")}
            ORDER BY id DESC LIMIT $4
        ) t
        WHERE c.id = $1
        ORDER BY t.id DESC LIMIT $4
        """,
        contact_id, program_id, before, limit, cause,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [PointsTransaction(**dict(row)) for row in rows]


async def get(session: Session, *, contact_id: UUID, transaction_id: UUID) -> PointsTransactionDetail:
    """One transaction with its movements, in one query. Raises PointsTransactionNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_COLUMNS}, (
            SELECT jsonb_agg(jsonb_build_object(
                'seq', m.seq, 'lot_id', m.lot_id, 'from_bucket', m.from_bucket, 'to_bucket', m.to_bucket,
                'points', m.points, 'available_after', m.available_after, 'pending_after', m.pending_after,
                'held_after', m.held_after) ORDER BY m.seq)
            FROM points_movements m
            WHERE m.contact_id = t.contact_id AND m.program_id = t.program_id AND m.seq BETWEEN t.first_seq AND t.seq
        ) AS movements
        FROM points_transactions t WHERE contact_id = $1 AND id = $2
        """,
        contact_id, transaction_id,
    )  # fmt: skip
    if row is None:
        raise PointsTransactionNotFound("This contact has no points transaction with this id.")
    facts = dict(row)
    movements = [PointsMovement(**movement) for movement in facts.pop("movements")]
    return PointsTransactionDetail(**facts, movements=movements)
