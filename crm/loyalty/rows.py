"""Between the ledger's rows and books: what was locked or read becomes a book, what a plan added becomes rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from crm.db.ids import uuid7
from crm.db.writes import Insert, Update
from crm.loyalty.books import Book
from crm.loyalty.ladders import Counted, Pin
from crm.loyalty.limits import Used
from crm.loyalty.lots import Hold, Lot
from crm.loyalty.movements import Transaction
from crm.loyalty.programs import Program
from crm.loyalty.tables import (
    holds,
    loyalty_accounts,
    points_lot_changes,
    points_lots,
    points_movements,
    points_transactions,
    qualifying_days,
    rule_usages,
)

_ACCOUNT = (
    "contact_id", "program_id", "available", "pending", "held", "deficit", "lifetime_earned", "lifetime_redeemed",
    "qualifying_points", "qualifying_spend", "qualifying_visits", "tier_id", "tier_since", "tier_until", "pin",
    "status", "seq", "digest", "next_due_at", "updated_at",
)  # fmt: skip
_LOT_CHANGED = (
    "contact_id", "program_id", "id", "remaining", "held", "active", "activates_at", "cancels_at", "expires_at",
)  # fmt: skip
_LOT = (
    "contact_id", "program_id", "id", "kind", "amount", "remaining", "held", "active", "qualifying", "earned_at",
    "activates_at", "cancels_at", "expires_at", "fixed", "order_ref",
)  # fmt: skip
_LOT_CHANGE = tuple(column.name for column in points_lot_changes.columns)
_HOLD_CHANGE = ("contact_id", "id", "status", "captured", "resolved_at")
_DAY = tuple(column.name for column in qualifying_days.columns)
_MORE_OF_A_DAY: Final = """(contact_id, program_id, local_on) DO UPDATE SET
    points = qualifying_days.points + excluded.points, spend = qualifying_days.spend + excluded.spend,
    visits = qualifying_days.visits + excluded.visits"""
_USAGE = tuple(column.name for column in rule_usages.columns)
_MORE_USE: Final = """(contact_id, program_id, rule_id, period) DO UPDATE SET
    points = rule_usages.points + excluded.points, times = rule_usages.times + excluded.times"""
_TRANSACTION = tuple(column.name for column in points_transactions.columns)
_MOVEMENT = tuple(column.name for column in points_movements.columns)


@dataclass(slots=True)
class Subject:
    """An earlier transaction that a post is about; `moves` are its movements with their lots as they are now.

    `returned` says how many of its spent points have been given back to each lot, `hold` what is kept of a hold.
    """

    cause: str
    points: int
    order_ref: str | None
    reversed: bool
    moves: list[tuple[str, str, int, Lot]]
    returned: dict[UUID, int]
    hold: dict[str, Any] | None

    def left(self) -> list[tuple[int, Lot]]:
        """What was taken of which lot and has not been given back, in the order of taking."""
        returned, left = dict(self.returned), []
        for _, _, points, lot in self.moves:
            back = min(points, returned.get(lot.id, 0))
            returned[lot.id] = returned.get(lot.id, 0) - back
            if points > back:
                left.append((points - back, lot))
        return left


@dataclass(slots=True)
class Referred:
    """A referral as it stands with the friend: `other_id` is the contact who referred, `other_points` what that gives.

    `order_ref` is the order by which it was decided.
    """

    contact_id: UUID
    id: UUID
    other_id: UUID
    status: str
    points: int
    other_points: int
    min_spend: Decimal
    hold_days: int
    order_ref: str | None


def book_of(row: Record, program: Program, now: datetime) -> Book:
    """The book of a row of `account_states`."""
    due = row["next_due_at"] is not None and row["next_due_at"] <= now
    return Book(
        contact_id=row["contact_id"],
        program_id=program.id,
        now=now,
        available=row["available"],
        pending=row["pending"],
        held=row["held"],
        deficit=row["deficit"],
        deficit_lot_id=row["deficit_lot_id"],
        lifetime_earned=row["lifetime_earned"],
        lifetime_redeemed=row["lifetime_redeemed"],
        qualifying_points=row["qualifying_points"],
        qualifying_spend=row["qualifying_spend"],
        qualifying_visits=row["qualifying_visits"],
        tier_id=row["tier_id"],
        tier_since=row["tier_since"],
        tier_until=row["tier_until"],
        pin=_pin(row["pin"]),
        status=row["status"],
        enrolled_at=row["enrolled_at"],
        ladder=program.ladder,
        milestones=program.milestones,
        seq=row["seq"],
        digest=row["digest"],
        next_due_at=row["next_due_at"],
        unseen_due_at=None if due else row["next_due_at"],
        expiring={datetime.fromisoformat(at): points for points, at in row["expiring"] or ()},
        lots={lot.id: lot for lot in map(_lot, row["lots"] or ())},
        holds={hold.id: hold for hold in map(_hold, row["holds"] or ())},
        days={
            date.fromisoformat(day): Counted(points, Decimal(spend), visits)
            for day, points, spend, visits in row["days"] or ()
        },
        usages={(UUID(rule_id), period): Used(points, times) for rule_id, period, points, times in row["usages"] or ()},
    )


def _lot(values: Sequence[Any]) -> Lot:
    (
        lot_id, amount, remaining, held, active, qualifying, earned_at, activates_at, cancels_at, expires_at, fixed,
        order_ref,
    ) = values  # fmt: skip
    return Lot(
        UUID(lot_id), amount, remaining, held, active, qualifying, datetime.fromisoformat(earned_at),
        _instant(activates_at), _instant(cancels_at), _instant(expires_at), fixed, order_ref,
    )  # fmt: skip


def _hold(values: Sequence[Any]) -> Hold:
    hold_id, expires_at, parts = values
    return Hold(UUID(hold_id), datetime.fromisoformat(expires_at), [(points, _lot(lot)) for points, lot in parts])


def _pin(document: dict[str, Any] | None) -> Pin | None:
    if document is None:
        return None
    return Pin(UUID(document["tier_id"]), datetime.fromisoformat(document["since"]), _instant(document["until"]))


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def subject_of(document: dict[str, Any] | None) -> Subject | None:
    """What `points_subject` says of a transaction."""
    if document is None:
        return None
    return Subject(
        document["cause"], document["points"], document["order_ref"], document["reversed"],
        [(source, target, points, _lot(lot)) for source, target, points, lot in document["movements"]],
        {UUID(lot_id): points for lot_id, points in (document["returned"] or {}).items()},
        document["hold"],
    )  # fmt: skip


def referrals_of(document: Sequence[Sequence[Any]] | None) -> dict[UUID, Referred]:
    """What `lock_accounts` says of referrals, by the friend."""
    referrals = [
        Referred(
            UUID(contact_id), UUID(referral_id), UUID(other_id), status, points, other_points, Decimal(min_spend),
            hold_days, order_ref,
        )
        for (
            contact_id, referral_id, other_id, status, points, other_points, min_spend, hold_days, order_ref
        ) in document or ()
    ]  # fmt: skip
    return {referral.contact_id: referral for referral in referrals}


def written(books: Sequence[Book]) -> list[Insert | Update]:
    """What writes down all that was added to these books, as parts of one statement."""
    return [
        Update(loyalty_accounts, _ACCOUNT, [_account_row(book) for book in books], 2),
        Insert(points_lots, _LOT, [_lot_row(book, lot_id) for book in books for lot_id in book.new_lot_ids]),
        Update(
            points_lots,
            _LOT_CHANGED,
            [_lot_changed(book, lot_id) for book in books for lot_id in book.changed_lot_ids - book.new_lot_ids],
            3,
        ),
        Insert(points_lot_changes, _LOT_CHANGE, [row for book in books for row in _lot_change_rows(book)]),
        Update(holds, _HOLD_CHANGE, [(book.contact_id, *each) for book in books for each in book.hold_changes], 2),
        Insert(points_transactions, _TRANSACTION, [
            _transaction_row(book, transaction) for book in books for transaction in book.transactions
        ]),
        Insert(points_movements, _MOVEMENT, [row for book in books for row in _movement_rows(book)]),
        Insert(qualifying_days, _DAY, [row for book in books for row in _day_rows(book)], _MORE_OF_A_DAY),
        Insert(rule_usages, _USAGE, [row for book in books for row in _usage_rows(book)], _MORE_USE),
    ]  # fmt: skip


def _account_row(book: Book) -> tuple[Any, ...]:
    return (
        book.contact_id, book.program_id, book.available, book.pending, book.held, book.deficit, book.lifetime_earned,
        book.lifetime_redeemed, book.qualifying_points, book.qualifying_spend, book.qualifying_visits, book.tier_id,
        book.tier_since, book.tier_until, book.pin, book.status, book.seq, book.digest, book.next_due_at, book.now,
    )  # fmt: skip


def _lot_row(book: Book, lot_id: UUID) -> tuple[Any, ...]:
    lot = book.lots[lot_id]
    return (
        book.contact_id, book.program_id, lot.id, lot.kind, lot.amount, lot.remaining, lot.held, lot.active,
        lot.qualifying, lot.earned_at, lot.activates_at, lot.cancels_at, lot.expires_at, lot.fixed, lot.order_ref,
    )  # fmt: skip


def _lot_changed(book: Book, lot_id: UUID) -> tuple[Any, ...]:
    lot = book.lots[lot_id]
    return (
        book.contact_id, book.program_id, lot.id, lot.remaining, lot.held, lot.active, lot.activates_at,
        lot.cancels_at, lot.expires_at,
    )  # fmt: skip


def _lot_change_rows(book: Book) -> Iterable[tuple[Any, ...]]:
    for change in book.lot_changes:
        yield (
            book.contact_id, book.program_id, uuid7(), change.lot_id, change.before, change.after, change.reason,
            change.occurred_at, book.now, change.by,
        )  # fmt: skip


def _day_rows(book: Book) -> Iterable[tuple[Any, ...]]:
    for day, more in book.counted.items():
        yield book.contact_id, book.program_id, day, more.points, more.spend, more.visits


def _usage_rows(book: Book) -> Iterable[tuple[Any, ...]]:
    for (rule_id, period), more in book.used.items():
        yield book.contact_id, book.program_id, rule_id, period, more.points, more.times


def _transaction_row(book: Book, transaction: Transaction) -> tuple[Any, ...]:
    return (
        book.contact_id, book.program_id, transaction.id, transaction.first_seq, transaction.seq, transaction.kind,
        transaction.cause, transaction.points, transaction.reason, transaction.order_ref, transaction.reverses,
        transaction.rules, transaction.available_after, transaction.occurred_at, book.now, transaction.by,
    )  # fmt: skip


def _movement_rows(book: Book) -> Iterable[tuple[Any, ...]]:
    for movement in book.movements:
        yield (
            book.contact_id, book.program_id, movement.seq, movement.transaction_id, movement.lot_id,
            movement.from_bucket, movement.to_bucket, movement.points, movement.available_after,
            movement.pending_after, movement.held_after, movement.occurred_at, book.now, movement.digest,
        )  # fmt: skip
