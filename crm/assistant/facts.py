"""What is on record of whoever asks, each fact with its time. None of these takes a contact from a question."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record

from crm.assistant.intents import Fact
from crm.contacts import aliases
from crm.db.session import Session
from crm.loyalty import balances, journal
from crm.loyalty.programs import ProgramRequired

ORDERS_MAX: Final = 5
EXPIRING_MAX: Final = 5
READ_MAX: Final = 500
"""How many of the newest interactions are looked through for orders."""
_STATUS_MAX: Final = 40
_KINDS: Final = ("purchase", "order", "shipment", "delivery", "refund")
"""How the kinds of interactions begin that tell of an order, under `order_ref` in their data."""


@dataclass(slots=True)
class Source:
    """What an answer rests on: an article, under its slug, or a fact on record with its time and figures."""

    kind: Literal["article", "fact"]
    name: str
    article_id: UUID | None = None
    title: str | None = None
    path: str | None = None
    as_of: datetime | None = None
    data: dict[str, Any] | None = None


async def read(
    session: Session, *, fact: Fact, contact_id: UUID, now: datetime, references: Sequence[str] = ()
) -> Source:
    """A fact; `references` are numbers of orders, if any were named. Raises ContactNotFound."""
    if fact == "orders":
        data = await _orders(session, contact_id, references)
    else:
        data = await _loyalty(session, fact, contact_id, now)
    return Source("fact", fact, as_of=now, data=data)


async def _loyalty(session: Session, fact: Fact, contact_id: UUID, now: datetime) -> dict[str, Any]:
    try:
        found = await journal.read(session, program_id=None, contact_id=contact_id, now=now)
    except ProgramRequired:
        return {"program": None}
    balance, zone = balances.balance(found.book), found.program.ladder.zone
    told: dict[str, Any] = {"program": found.program.name}
    match fact:
        case "balance":
            told |= {"available": balance.available, "pending": balance.pending, "held": balance.held}
        case "tier":
            tier = balances.tier(found.book)
            told |= {
                "tier": tier.current.name if tier.current else None,
                "until": _day(tier.until, zone),
                "next": None if tier.next is None else {
                    "name": tier.next.name, "missing": tier.next.missing, "unit": tier.next.unit,
                },
            }  # fmt: skip
        case _:
            told |= {
                "available": balance.available,
                "expiring": [
                    {"points": one.points, "last_day": _day(one.expires_at, zone)}
                    for one in balance.expiring[:EXPIRING_MAX]
                ],
                "more_expire_later": bool(balance.expiring[EXPIRING_MAX:] or balance.expiring_later),
            }  # fmt: skip
    return told


def _day(at: datetime | None, zone: ZoneInfo) -> str | None:
    """The last day on which something still holds that ends at an instant."""
    if at is None:
        return None
    local = at.astimezone(zone)
    return (local.date() - timedelta(days=1) if local.time() == time() else local.date()).isoformat()


async def _orders(session: Session, contact_id: UUID, references: Sequence[str]) -> dict[str, Any]:
    rows = await session.fetch(
        f"""
        SELECT DISTINCT ON (o.ref) o.ref, o.kind, o.occurred_at, o.data,
            (array_agg(o.data) FILTER (WHERE o.kind = 'purchase') OVER (PARTITION BY o.ref))[1] AS bought
        FROM (
            SELECT n.*, n.data ->> 'order_ref' AS ref FROM (
                SELECT s.* FROM {aliases.known_as("$1::uuid")} who CROSS JOIN LATERAL (
                    SELECT kind, occurred_at, id, data FROM interactions
                    WHERE contact_id = who.id ORDER BY occurred_at DESC, id DESC LIMIT $2
                ) s ORDER BY s.occurred_at DESC, s.id DESC LIMIT $2
            ) n
            WHERE split_part(n.kind, '.', 1) = ANY ($3) AND n.data ->> 'order_ref' IS NOT NULL
        ) o
        ORDER BY o.ref, o.occurred_at DESC, o.id DESC
        """,
        contact_id, READ_MAX, list(_KINDS),
    )  # fmt: skip
    newest = sorted(rows, key=lambda row: row["occurred_at"], reverse=True)
    named = {reference.upper() for reference in references}
    meant = [row for row in newest if row["ref"].upper() in named] if named else newest
    return {
        "orders": [_order(row) for row in meant[:ORDERS_MAX]],
        "not_found": sorted(named - {row["ref"].upper() for row in newest}) if not meant else [],
    }


def _order(row: Record) -> dict[str, Any]:
    kind, data, bought = row["kind"], row["data"], row["bought"] or {}
    state = data.get("status")
    if not isinstance(state, str) or not state.strip():
        state = "recorded" if kind == "purchase" else kind.rpartition(".")[2]
    return {
        "order_ref": row["ref"], "state": state.strip()[:_STATUS_MAX], "since": row["occurred_at"].date().isoformat(),
        "total": bought.get("total"), "currency": bought.get("currency"),
    }  # fmt: skip
