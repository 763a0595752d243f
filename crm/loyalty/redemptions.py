"""Redemptions: paying with points, and taking back what was paid, for money or for a reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid

from crm.contacts import aliases
from crm.db import idempotency
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound
from crm.interactions import timeline
from crm.loyalty import balances, catalogue, homes, journal, vouchers
from crm.loyalty.balances import Balance
from crm.loyalty.books import MERGED, Book
from crm.loyalty.conversion import ConversionMissing
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
    Column("reward_id", Uuid),
    Column("quantity", BigInteger, nullable=False),
    Column("stock_taken", BigInteger, nullable=False),
    Column("voucher_id", Uuid),
    Column("expires_at", Instant),
    Column("cause", Text, nullable=False),
    Column("natural_key", Text),
)

COLUMNS: Final = tuple(column.name for column in redemptions.columns)

_PAID: Final = COLUMNS[: COLUMNS.index("reward_id")]
_VIEW: Final = """
    SELECT r.id, r.program_id, r.points, r.order_ref, r.status, r.occurred_at, r.reversal_id, r.reward_id,
        w.definition ->> 'name' AS reward_name, r.quantity, r.cause, r.expires_at, v.code, v.expires_at AS code_ends_at
    FROM redemptions r
    LEFT JOIN rewards w ON w.program_id = r.program_id AND w.id = r.reward_id
    LEFT JOIN vouchers v ON v.contact_id = r.contact_id AND v.id = r.voucher_id
"""
_REWARDED: Final = """
    SELECT r.program_id, r.status, r.reward_id, w.definition ->> 'name' AS reward_name, r.quantity, r.stock_taken,
        r.voucher_id, v.uses_left < v.uses_max AS voucher_used
    FROM redemptions r
    JOIN rewards w ON w.program_id = r.program_id AND w.id = r.reward_id
    LEFT JOIN vouchers v ON v.contact_id = r.contact_id AND v.id = r.voucher_id
    WHERE r.contact_id = $1 AND r.id = $2
"""


class RedemptionNotFound(NotFound):
    code = "redemption_not_found"
    title = "There is no such redemption"


class NothingToReturn(Conflict):
    code = "nothing_to_return"
    title = "Nothing of the redemption is left to return"


class VoucherUsed(Conflict):
    code = "voucher_used"
    title = "The voucher of this reward was used already"


class AlreadyFulfilled(Conflict):
    code = "already_fulfilled"
    title = "This reward was handed over already"


@dataclass(slots=True)
class RewardName:
    id: UUID
    name: str


@dataclass(slots=True)
class VoucherCode:
    """What a member shows; after `expires_at` nobody accepts it."""

    code: str
    expires_at: datetime | None


@dataclass(slots=True)
class Redemption:
    """Points spent. `balance` is that after the redemption, or today's where it was asked for again."""

    id: UUID
    points: int
    status: str
    reward_id: UUID | None
    quantity: int
    voucher: VoucherCode | None
    balance: Balance


@dataclass(slots=True)
class RedemptionView:
    """A redemption as it is kept. `cause` is `redemption`, or what a reward was granted for."""

    id: UUID
    program_id: UUID
    points: int
    order_ref: str | None
    status: str
    occurred_at: datetime
    reversal_id: UUID | None
    reward: RewardName | None
    quantity: int
    cause: str
    expires_at: datetime | None
    voucher: VoucherCode | None


@dataclass(slots=True)
class Returned:
    """A redemption undone. Points of lots that have expired meanwhile are in `points_returned_expired`.

    `transaction_id` is null where no points were paid.
    """

    transaction_id: UUID | None
    points: int
    points_returned: int
    points_returned_expired: int
    balance: Balance
    tier: balances.TierProgress


@dataclass(slots=True)
class Payable:
    """What of an order can be paid with points: whole steps of them, and their worth in the program's currency."""

    points: int
    amount: Decimal


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
    order_total: Decimal | None = None,
    claims_order: bool = True,
) -> tuple[Redemption, bool]:
    """Pay with points: all or nothing. True beside a new redemption, False beside one of the same order found again.

    Points that the order itself earned can't be spent on it. Without `claims_order` the reference is not taken for
    the contact: whoever the order belongs to is neither kept from it nor given away.
    Raises InsufficientPoints, OrderRefReused, ContactNotFound, ProgramRequired, and what `Conversion.check` raises.
    """
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once,
        order_refs=[order_ref] if order_ref and claims_order else [],
    )  # fmt: skip
    book = locked.member(contact_id)
    known = await of_order(
        session, locked, contact_id=contact_id, order_ref=order_ref, reward_id=None, claims_order=claims_order
    )
    if known is not None:
        if known.points != points:
            raise OrderRefReused(f"{known.points} points were redeemed for this order; reverse that first.")
        answer = idempotency.answer(once, contact_id=contact_id, result=known, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return known, False
    if locked.program.redemption is not None:
        locked.program.redemption.check(points=points, order_total=order_total)
    await journal.know_enough_lots(session, book=book, points=points, except_order=order_ref)
    transaction = book.open(
        "redeem", cause="redemption", points=-points, occurred_at=now, by=by, order_ref=order_ref, place=place
    )
    book.spend(points, "redeemed", except_order=order_ref)
    book.redeem(points)
    redemption = Redemption(transaction.id, points, "redeemed", None, 1, None, balances.balance(book))
    row = (contact_id, transaction.id, book.program_id, points, order_ref, "redeemed", now, now, None)
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(redemptions, _PAID, [row]),
            *claim(locked, contact_id=contact_id, order_ref=order_ref if claims_order else None),
            *idempotency.answer(once, contact_id=contact_id, result=redemption, now=now),
        ],
    )
    return redemption, True


async def simulate(
    session: Session, *, program_id: UUID | None, contact_id: UUID, points: int, order_total: Decimal, now: datetime
) -> Payable:
    """What of an order the contact could pay with up to so many points; nothing is refused, only cut down.

    Raises ConversionMissing, ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    conversion = found.program.redemption
    if conversion is None:
        raise ConversionMissing("Say with PATCH /v1/programs/{id} what points are worth, in `redemption`.")
    most = conversion.most(points=points, available=found.book.available, order_total=order_total)
    return Payable(most, conversion.worth(most))


async def reverse(
    session: Session,
    *,
    contact_id: UUID,
    redemption_id: UUID,
    reason: str | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
    write_off: bool = False,
) -> tuple[Returned, bool]:
    """Give redeemed points back to their own lots, with their own expiry. False beside one reversed before.

    What has expired meanwhile stays expired. A reward goes back into the stock, unless `write_off`, and no more counts
    towards the member's limits; its voucher is cancelled.
    Raises RedemptionNotFound, NothingToReturn, VoucherUsed, AlreadyFulfilled.
    """
    locked = await _lock_for(session, contact_id, redemption_id, once, now)
    subject, book = locked.subject, locked.book(contact_id, also={MERGED})
    home = await homes.know(session, locked=locked, book=book, by=by)
    reward = None
    if subject is None or subject.cause == "reward":
        reward = await rewarded(session, contact_id=contact_id, redemption_id=redemption_id)
    elif subject.cause != "redemption":
        raise RedemptionNotFound("This contact has no redemption with this id.")
    if subject.reversed if subject else reward and reward["status"] == "reversed":
        stored = await _stored_reversal(session, home, contact_id, redemption_id)
        answer = idempotency.answer(once, contact_id=contact_id, result=stored, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return stored, False
    facts: Sequence[Insert | Update] = ()
    entries: Sequence[tuple[Any, ...]] = ()
    if reward is not None:
        facts, entries = taken_back(
            reward, contact_id=contact_id, redemption_id=redemption_id, write_off=write_off, reason=reason, by=by,
            now=now,
        )  # fmt: skip
    left = subject.left() if subject else []
    if subject is not None and not left:
        raise NothingToReturn("Refunds of the order have returned all of its points already.")
    paid = sum(points for points, _ in left)
    returned, transaction = 0, None
    if subject is not None:
        book.ensure_room(paid)
        transaction = book.open(
            "reverse", cause="reversal", points=paid, occurred_at=now, by=by, reason=reason,
            order_ref=subject.order_ref, reverses=redemption_id,
        )  # fmt: skip
        for points, lot in left:
            if book.give_back(lot, points, "redeemed"):
                returned += points
        book.redeem(-paid)
        transaction.points = returned
        await homes.return_points(session, book=book, by=by)
    result = Returned(
        transaction.id if transaction else None, returned, returned, paid - returned, balances.balance(home),
        balances.tier(home),
    )  # fmt: skip
    taken = reward["stock_taken"] if reward else 0
    row = (contact_id, redemption_id, "reversed", result.transaction_id, taken if write_off else 0)
    await journal.write_down(
        session,
        locked,
        facts=[
            Update(redemptions, ("contact_id", "id", "status", "reversal_id", "stock_taken"), [row], 2),
            *facts,
            *idempotency.answer(once, contact_id=contact_id, result=result, now=now),
        ],
        entries=entries,
    )
    if reward is not None and taken and not write_off:
        await catalogue.put_back(session, program_id=book.program_id, reward_id=reward["reward_id"], quantity=taken)
    return result, True


async def get(session: Session, *, contact_id: UUID, redemption_id: UUID) -> RedemptionView:
    """One redemption of a contact. Raises RedemptionNotFound."""
    row = await session.fetchrow(f"{_VIEW} WHERE r.contact_id = $1 AND r.id = $2", contact_id, redemption_id)
    if row is None:
        raise RedemptionNotFound("This contact has no redemption with this id.")
    return _view(row)


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, before: UUID | None, limit: int
) -> list[RedemptionView]:
    """A contact's redemptions, newest first, older than `before`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT r.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            {_VIEW}
            WHERE r.contact_id = who.id AND r.program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
                AND ($3::uuid IS NULL OR r.id < $3)
            ORDER BY r.id DESC LIMIT $4
        ) r
        WHERE c.id = $1
        ORDER BY r.id DESC LIMIT $4
        """,
        contact_id, program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [_view(row) for row in rows]


async def of_order(
    session: Session,
    locked: Locked,
    *,
    contact_id: UUID,
    order_ref: str | None,
    reward_id: UUID | None,
    claims_order: bool,
) -> Redemption | None:
    """What the order was redeemed for before: this reward, or none, with today's balance. Raises OrderRefReused."""
    if order_ref is None or (claims_order and order_ref not in locked.orders):
        return None
    if locked.orders.get(order_ref, contact_id) != contact_id:
        raise OrderRefReused("This order belongs to another contact.")
    row = await session.fetchrow(
        f"""
        {_VIEW}
        WHERE r.contact_id = $1 AND r.program_id = $2 AND r.order_ref = $3 AND r.reward_id IS NOT DISTINCT FROM $4
        """,
        locked.kept_by.get(order_ref, contact_id), locked.program.id, order_ref, reward_id,
    )  # fmt: skip
    if row is None and locked.kept_by.get(order_ref, contact_id) != contact_id:
        raise OrderRefReused("This order was recorded before the contact was merged: redeem without it.")
    if row is None:
        return None
    found = _view(row)
    balance = balances.balance(locked.book(contact_id))
    return Redemption(found.id, found.points, found.status, row["reward_id"], found.quantity, found.voucher, balance)


def claim(locked: Locked, *, contact_id: UUID, order_ref: str | None) -> Sequence[Insert]:
    """The part of a write that notes whose order this is, where nobody has noted it yet."""
    if order_ref is None or order_ref in locked.orders:
        return ()
    return (journal.claim_orders(locked.program.id, {order_ref: contact_id}),)


async def rewarded(session: Session, *, contact_id: UUID, redemption_id: UUID) -> Record:
    """The redemption of a reward, as it is under the lock. Raises RedemptionNotFound."""
    row = await session.fetchrow(_REWARDED, contact_id, redemption_id)
    if row is None:
        raise RedemptionNotFound("This contact has no redemption of a reward with this id.")
    return row


def taken_back(
    row: Record, *, contact_id: UUID, redemption_id: UUID, write_off: bool, reason: str | None, by: str, now: datetime
) -> tuple[Sequence[Update], Sequence[tuple[Any, ...]]]:
    """The parts and the timeline entries of a write that takes a reward back. Raises VoucherUsed, AlreadyFulfilled."""
    if row["voucher_used"]:
        raise VoucherUsed("Roll the use of the voucher back first, if it was a mistake.")
    if row["status"] == "fulfilled":
        raise AlreadyFulfilled("Correct the points with an adjustment, if they have to be given back.")
    voucher_id = row["voucher_id"]
    return (
        [] if voucher_id is None else [vouchers.cancellation(contact_id, voucher_id, now=now)],
        [
            entry(
                row, contact_id, redemption_id, kind="reward.returned", by=by, now=now,
                **({"reason": reason} if reason else {}), **({"written_off": True} if write_off else {}),
            )
        ],
    )  # fmt: skip


def entry(
    row: Record, contact_id: UUID, redemption_id: UUID, *, kind: str, by: str, now: datetime, **facts: Any
) -> tuple[Any, ...]:
    """What the timeline says of the reward in a row of `rewarded`."""
    data = {
        "program_id": row["program_id"], "redemption_id": redemption_id, "reward_id": row["reward_id"],
        "name": row["reward_name"], "quantity": row["quantity"],
    }  # fmt: skip
    return timeline.entry(
        contact_id, channel="loyalty", kind=kind, occurred_at=now, recorded_at=now, by=by, data=data | facts
    )


async def _lock_for(
    session: Session, contact_id: UUID, redemption_id: UUID, once: idempotency.Request | None, now: datetime
) -> Locked:
    try:
        return await journal.lock(
            session, program_id=None, contact_ids=[contact_id], now=now, once=once, subject=redemption_id
        )
    except ProgramRequired:  # the ledger knows no redemption that cost nothing
        program_id = await _program_of(session, contact_id, redemption_id)
        return await journal.lock(session, program_id=program_id, contact_ids=[contact_id], now=now, once=once)


async def _program_of(session: Session, contact_id: UUID, redemption_id: UUID) -> UUID:
    program_id: UUID | None = await session.fetchval(
        "SELECT program_id FROM redemptions WHERE contact_id = $1 AND id = $2", contact_id, redemption_id
    )
    if program_id is None:
        raise RedemptionNotFound("This contact has no redemption with this id.")
    return program_id


async def _stored_reversal(session: Session, book: Book, contact_id: UUID, redemption_id: UUID) -> Returned:
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
    transaction_id, points, expired = (None, 0, 0) if row is None else row
    return Returned(transaction_id, points, points, expired, balances.balance(book), balances.tier(book))


def _view(row: Record) -> RedemptionView:
    return RedemptionView(
        id=row["id"], program_id=row["program_id"], points=row["points"], order_ref=row["order_ref"],
        status=row["status"], occurred_at=row["occurred_at"], reversal_id=row["reversal_id"],
        reward=RewardName(row["reward_id"], row["reward_name"]) if row["reward_id"] else None,
        quantity=row["quantity"], cause=row["cause"], expires_at=row["expires_at"],
        voucher=VoucherCode(row["code"], row["code_ends_at"]) if row["code"] else None,
    )  # fmt: skip
