"""Redemptions: paying with points, and taking that back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Table, Text, Uuid

from crm.db import idempotency
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound
from crm.loyalty import balances, journal
from crm.loyalty.balances import Balance
from crm.loyalty.journal import Locked, OrderRefReused
from crm.loyalty.programs import ProgramRequired

redemptions = Table(
    "redemptions",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("order_ref", Text),
    Column("status", Text, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("reversal_id", Uuid),
)


_COLUMNS: Final = tuple(column.name for column in redemptions.columns)
_VIEW: Final = "id, program_id, points, order_ref, status, occurred_at, reversal_id"


class RedemptionNotFound(NotFound):
    code = "redemption_not_found"
    title = "There is no such redemption"


class NothingToReturn(Conflict):
    code = "nothing_to_return"
    title = "Nothing of the redemption is left to return"


@dataclass(slots=True)
class Redemption:
    """Points spent. `balance` is that after the redemption, or today's where it was asked for again."""

    id: UUID
    points: int
    status: str
    balance: Balance


@dataclass(slots=True)
class RedemptionView:
    """A redemption as it is kept."""

    id: UUID
    program_id: UUID
    points: int
    order_ref: str | None
    status: str
    occurred_at: datetime
    reversal_id: UUID | None


@dataclass(slots=True)
class Returned:
    """A redemption undone. Points of lots that have expired meanwhile are in `points_returned_expired`."""

    transaction_id: UUID
    points: int
    points_returned: int
    points_returned_expired: int
    balance: Balance
    tier: balances.TierProgress


async def redeem(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    points: int,
    order_ref: str | None,
    place: dict[str, str],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
    claims_order: bool = True,
) -> tuple[Redemption, bool]:
    """Pay with points: all or nothing. True beside a new redemption, False beside one of the same order found again.

    Points that the order itself earned can't be spent on it. Without `claims_order` the reference is not taken for
    the contact: whoever the order belongs to is neither kept from it nor given away.
    Raises InsufficientPoints, OrderRefReused, ContactNotFound, ProgramRequired.
    """
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once,
        order_refs=[order_ref] if order_ref and claims_order else [],
    )  # fmt: skip
    book = locked.member(contact_id)
    if order_ref in locked.orders or (order_ref is not None and not claims_order):
        known = await _redemption_of_order(session, locked, contact_id, order_ref, points)
        if known is not None:
            answer = idempotency.answer(once, contact_id=contact_id, result=known, now=now, status=200)
            await journal.write_down(session, locked, facts=answer)
            return known, False
    await journal.know_enough_lots(session, book=book, points=points, except_order=order_ref)
    transaction = book.open(
        "redeem", cause="redemption", points=-points, occurred_at=now, by=by, order_ref=order_ref, place=place
    )
    book.spend(points, "redeemed", except_order=order_ref)
    book.lifetime_redeemed += points
    redemption = Redemption(transaction.id, points, "redeemed", balances.balance(book))
    row = (contact_id, transaction.id, book.program_id, points, order_ref, "redeemed", now, now, None)
    facts: list[Insert | Update] = [
        Insert(redemptions, _COLUMNS, [row]),
        *idempotency.answer(once, contact_id=contact_id, result=redemption, now=now),
    ]
    if order_ref is not None and claims_order and order_ref not in locked.orders:
        facts.append(journal.claim_orders(book.program_id, {order_ref: contact_id}))
    await journal.write_down(session, locked, facts=facts)
    return redemption, True


async def reverse(
    session: Session,
    *,
    contact_id: UUID,
    redemption_id: UUID,
    reason: str | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[Returned, bool]:
    """Give redeemed points back to their own lots, with their own expiry. False beside one reversed before.

    What has expired meanwhile stays expired. Raises RedemptionNotFound, NothingToReturn.
    """
    try:
        locked = await journal.lock(
            session, program_id=None, contact_ids=[contact_id], now=now, once=once, subject=redemption_id
        )
    except ProgramRequired:
        raise RedemptionNotFound("This contact has no redemption with this id.") from None
    subject = locked.subject
    if subject is None or subject.cause != "redemption":
        raise RedemptionNotFound("This contact has no redemption with this id.")
    if subject.reversed:
        stored = await _stored_reversal(session, locked, contact_id, redemption_id)
        answer = idempotency.answer(once, contact_id=contact_id, result=stored, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return stored, False
    book = locked.book(contact_id)
    left = subject.left()
    if not left:
        raise NothingToReturn("Refunds of the order have returned all of its points already.")
    spent = sum(points for points, _ in left)
    book.ensure_room(spent)
    transaction = book.open(
        "reverse", cause="reversal", points=spent, occurred_at=now, by=by, reason=reason,
        order_ref=subject.order_ref, reverses=redemption_id,
    )  # fmt: skip
    returned = 0
    for points, lot in left:
        if book.give_back(lot, points, "redeemed"):
            returned += points
    book.lifetime_redeemed -= spent
    expired = spent - returned
    transaction.points = returned
    result = Returned(transaction.id, returned, returned, expired, balances.balance(book), balances.tier(book))
    await journal.write_down(
        session,
        locked,
        facts=[
            Update(
                redemptions, ("contact_id", "id", "status", "reversal_id"),
                [(contact_id, redemption_id, "reversed", transaction.id)], 2,
            ),
            *idempotency.answer(once, contact_id=contact_id, result=result, now=now),
        ],
    )  # fmt: skip
    return result, True


async def get(session: Session, *, contact_id: UUID, redemption_id: UUID) -> RedemptionView:
    """One redemption of a contact. Raises RedemptionNotFound."""
    row = await session.fetchrow(
        f"SELECT {_VIEW} FROM redemptions WHERE contact_id = $1 AND id = $2", contact_id, redemption_id
    )
    if row is None:
        raise RedemptionNotFound("This contact has no redemption with this id.")
    return RedemptionView(**dict(row))


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, before: UUID | None, limit: int
) -> list[RedemptionView]:
    """A contact's redemptions, newest first, older than `before`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT {_VIEW} FROM redemptions
        WHERE contact_id = $1 AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
            AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4
        """,
        contact_id, program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [RedemptionView(**dict(row)) for row in rows]


async def _redemption_of_order(
    session: Session, locked: Locked, contact_id: UUID, order_ref: str | None, points: int
) -> Redemption | None:
    if order_ref is None or locked.orders.get(order_ref, contact_id) != contact_id:
        raise OrderRefReused("This order belongs to another contact.")
    row = await session.fetchrow(
        "SELECT id, points, status FROM redemptions WHERE contact_id = $1 AND program_id = $2 AND order_ref = $3",
        contact_id, locked.program.id, order_ref,
    )  # fmt: skip
    if row is None:
        return None
    if row["points"] != points:
        raise OrderRefReused(f"{row['points']} points were redeemed for this order; reverse that first.")
    return Redemption(row["id"], row["points"], row["status"], balances.balance(locked.book(contact_id)))


async def _stored_reversal(session: Session, locked: Locked, contact_id: UUID, redemption_id: UUID) -> Returned:
    row = await session.fetchrow(
        """
        SELECT t.id, t.points, (
            SELECT sum(m.points)::bigint FROM points_movements m
            WHERE m.contact_id = t.contact_id AND m.program_id = t.program_id AND m.seq BETWEEN t.first_seq AND t.seq
                AND m.from_bucket = 'redeemed'
        ) - t.points AS expired
        FROM points_transactions t WHERE t.contact_id = $1 AND t.reverses = $2 AND t.cause = 'reversal'
        """,
        contact_id, redemption_id,
    )  # fmt: skip
    assert row is not None
    book = locked.book(contact_id)
    return Returned(
        row["id"], row["points"], row["points"], row["expired"],
        balances.balance(book), balances.tier(book),
    )  # fmt: skip
