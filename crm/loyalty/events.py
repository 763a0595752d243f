"""Events: what members did besides buying, what it earned and why."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.interactions import timeline
from crm.loyalty import earning, earnings
from crm.loyalty.journal import Locked

loyalty_events = Table(
    "loyalty_events",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("order_ref", Text),
    Column("transaction_id", Uuid),
    Column("points", BigInteger, nullable=False),
    Column("rules", JSONB, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

Key = tuple[UUID, str, str]
"""What makes an event known again within a program: the contact, the event and its reference."""

_COLUMNS: Final = tuple(column.name for column in loyalty_events.columns)
_KNOWN: Final = """
    SELECT contact_id, event, ref FROM loyalty_events
    WHERE program_id = $1 AND (contact_id, event, ref) IN (SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[]))
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """An event that stands on its book, with the `row` that keeps it and its `entry` on the timeline."""

    points: int
    row: tuple[Any, ...]
    entry: tuple[Any, ...]


def plan(locked: Locked, contact_id: UUID, *, event: str, ref: str, occurred_at: datetime, by: str) -> Planned:
    """Put an event with what it earns on the member's book, which knows all its lots where the event is an activity.

    Raises ContactNotFound, NotEnrolled, MembershipSuspended, PointsOutOfRange.
    """
    book, program = locked.member(contact_id), locked.program
    earned = earning.evaluate_event(
        event, occurred_at=occurred_at, rules=program.rules, terms=program.terms,
        member=earnings.member(book, occurred_at),
    )  # fmt: skip
    book.ensure_room(earned.points)
    if event in program.expiry.activities:
        book.slide(occurred_at, program.expiry)
    rules = [earnings.rule_row(outcome) for outcome in earned.rules]
    transaction = earnings.post(
        book, program, earned, cause="event", occurred_at=occurred_at, by=by, reason=event, rules=rules
    )
    event_id, transaction_id = uuid7(), transaction.id if transaction else None
    # As of an event that is told without a time and without an order.
    content_hash = hashlib.sha256(msgspec.json.encode((None, None))).digest()
    row = (
        contact_id, program.id, event, ref, event_id, content_hash, None, transaction_id, earned.points, rules,
        occurred_at, locked.now, by,
    )  # fmt: skip
    entry = timeline.entry(
        contact_id, id=event_id, channel="loyalty", kind="event", occurred_at=occurred_at, recorded_at=locked.now,
        by=by, data={
            "program_id": program.id, "event": event, "ref": ref, "points": earned.points,
            "transaction_id": transaction_id,
        },
    )  # fmt: skip
    return Planned(earned.points, row, entry)


def part(rows: Sequence[tuple[Any, ...]]) -> Insert:
    """The part of a write that keeps planned events, by their rows."""
    return Insert(loyalty_events, _COLUMNS, rows)


async def known(session: Session, *, program_id: UUID, keys: Iterable[Key]) -> set[Key]:
    """Which of these events are recorded already."""
    given = list(keys)
    if not given:
        return set()
    rows = await session.fetch(_KNOWN, program_id, *zip(*given, strict=True))
    return {(row["contact_id"], row["event"], row["ref"]) for row in rows}
