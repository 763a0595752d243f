"""The ledger's storage: locks accounts and reads them into books, and writes down what a plan added to the books.

A post is `lock`, a plan in memory, `write`: two round trips before COMMIT, for one account or a thousand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ENUM, JSONB

from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update, write
from crm.errors import Conflict, Unavailable
from crm.interactions import timeline
from crm.loyalty import programs
from crm.loyalty.books import BUCKETS, KINDS, Book, Lot, TierChange, Transaction
from crm.loyalty.programs import Program, ProgramNotFound, ProgramRequired

loyalty_accounts = Table(
    "loyalty_accounts",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("available", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("deficit", BigInteger, nullable=False),
    Column("lifetime_earned", BigInteger, nullable=False),
    Column("lifetime_redeemed", BigInteger, nullable=False),
    Column("qualifying_points", BigInteger, nullable=False),
    Column("qualifying_spend", Numeric, nullable=False),
    Column("qualifying_visits", BigInteger, nullable=False),
    Column("tier_id", Uuid),
    Column("tier_since", Instant),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("next_due_at", Instant),
    Column("enrolled_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

points_lots = Table(
    "points_lots",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", ENUM("regular", "deficit", name="points_lot_kind"), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("qualifying", Boolean, nullable=False),
    Column("earned_at", Instant, nullable=False),
    Column("activates_at", Instant),
    Column("expires_at", Instant),
    Column("order_ref", Text),
)

points_transactions = Table(
    "points_transactions",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("id", Uuid, primary_key=True),
    Column("first_seq", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", ENUM(*KINDS, name="points_transaction_kind"), nullable=False),
    Column("cause", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("reason", Text),
    Column("order_ref", Text),
    Column("reverses", Uuid),
    Column("rules", JSONB),
    Column("available_after", BigInteger, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

points_movements = Table(
    "points_movements",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("transaction_id", Uuid, nullable=False),
    Column("lot_id", Uuid, nullable=False),
    Column("from_bucket", ENUM(*BUCKETS, name="points_bucket"), nullable=False),
    Column("to_bucket", ENUM(*BUCKETS, name="points_bucket"), nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("available_after", BigInteger, nullable=False),
    Column("pending_after", BigInteger, nullable=False),
    Column("held_after", BigInteger, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("digest", LargeBinary, nullable=False),
)

order_directory = Table(
    "order_directory",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("order_ref", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)

LOTS_READ: Final = 32
"""How many open lots a spend reads at first; few spends need more."""

_LOCK: Final = "SELECT * FROM lock_accounts($1, $2, $3, $4, $5, $6, $7)"
_READ: Final = """
    SELECT p.id AS program_id, p.version AS program_version, c.id IS NOT NULL AS contact_exists, s.*
    FROM programs p
    LEFT JOIN contacts c ON c.id = $2
    LEFT JOIN LATERAL account_states(p.id, ARRAY[$2], $3, 0) s ON true
    WHERE p.id = $1 OR ($1 IS NULL AND p.is_default)
"""
_REQUIRE: Final = """
    SELECT EXISTS (SELECT FROM programs WHERE id = $1 OR ($1 IS NULL AND is_default)) AS program,
        EXISTS (SELECT FROM contacts WHERE id = $2) AS contact
"""
_OPEN_LOTS: Final = """
    SELECT id, amount, remaining, held, active, qualifying, earned_at, activates_at, expires_at, order_ref
    FROM points_lots WHERE contact_id = $1 AND program_id = $2 AND remaining > 0
"""

_ACCOUNT = (
    "contact_id", "program_id", "available", "pending", "held", "deficit", "lifetime_earned", "lifetime_redeemed",
    "qualifying_points", "qualifying_spend", "qualifying_visits", "tier_id", "tier_since", "seq", "digest",
    "next_due_at", "updated_at",
)  # fmt: skip
_LOT_CHANGE = ("contact_id", "program_id", "id", "remaining", "held", "active")
_LOT = (
    "contact_id", "program_id", "id", "kind", "amount", "remaining", "held", "active", "qualifying", "earned_at",
    "activates_at", "expires_at", "order_ref",
)  # fmt: skip
_TRANSACTION = tuple(column.name for column in points_transactions.columns)
_MOVEMENT = tuple(column.name for column in points_movements.columns)

_TIMELINE_KINDS: Final[Mapping[str, str]] = {
    "earn": "points.earned",
    "redeem": "points.redeemed",
    "adjust": "points.adjusted",
    "expire": "points.expired",
    "activate": "points.activated",
    "reverse": "points.returned",
}


class OrderRefReused(Conflict):
    code = "order_ref_reused"
    title = "This order reference belongs to something else"


@dataclass(slots=True)
class Subject:
    """An earlier transaction that a post is about; `moves` are its movements with their lots as they are now."""

    cause: str
    points: int
    order_ref: str | None
    reversed: bool
    moves: list[tuple[str, str, int, Lot]]


@dataclass(slots=True)
class Locked:
    """Accounts under lock, as books that can be planned on. `orders` says whose the asked order references are."""

    program: Program
    books: dict[UUID, Book]
    orders: dict[str, UUID]
    subject: Subject | None
    now: datetime

    def book(self, contact_id: UUID) -> Book:
        """The contact's book, with everything due at `now` already in it. Raises ContactNotFound."""
        book = self.books.get(contact_id)
        if book is None:
            raise ContactNotFound("No contact has this id.")
        return book


@dataclass(slots=True)
class Found:
    """One account, read without a lock."""

    program_id: UUID
    program_version: int
    book: Book


async def lock(
    session: Session,
    *,
    program_id: UUID | None,
    contact_ids: Iterable[UUID],
    now: datetime,
    lots_max: int = 0,
    order_refs: Sequence[str] = (),
    once: idempotency.Request | None = None,
    subject: UUID | None = None,
) -> Locked:
    """Lock the accounts, opening those that are missing; unknown contacts are left out of the books.

    Raises Replay or IdempotencyKeyReused where `once` was carried out before, ProgramRequired, ProgramNotFound.
    """
    wanted = sorted(set(contact_ids))
    rows = await session.fetch(
        _LOCK, program_id, wanted, now, lots_max, order_refs, once.key if once else None, subject
    )
    header = rows[0] if rows else None
    if header is not None and once is not None and header["replay_hash"] is not None:
        once.replay(content_hash=header["replay_hash"], status=header["replay_status"], body=header["replay_body"])
    if header is None:
        raise _no_program(program_id)
    program = await programs.load(session, program_id=header["program_id"], version=header["program_version"])
    books = {row["contact_id"]: _book(row, now) for row in rows[1:]}
    for book in books.values():
        book.settle()
    return Locked(
        program=program,
        books=books,
        orders={ref: UUID(owner) for ref, owner in (header["orders"] or {}).items()},
        subject=_subject(header["subject"]),
        now=now,
    )


async def read(session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime) -> Found:
    """One account without a lock, in one query. Raises ContactNotFound, ProgramNotFound, ProgramRequired."""
    row = await session.fetchrow(_READ, program_id, contact_id, now)
    if row is None:
        raise _no_program(program_id)
    if not row["contact_exists"]:
        raise ContactNotFound("No contact has this id.")
    book = Book(contact_id, row["program_id"], now) if row["contact_id"] is None else _book(row, now)
    return Found(row["program_id"], row["program_version"], book)


async def require(session: Session, *, program_id: UUID | None, contact_id: UUID) -> None:
    """For a list that came out empty: that there is nothing in it must not hide that there is no such contact.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    row = await session.fetchrow(_REQUIRE, program_id, contact_id)
    assert row is not None, "it asks for no row of a table"
    if not row["program"]:
        raise _no_program(program_id)
    if not row["contact"]:
        raise ContactNotFound("No contact has this id.")


async def know_enough_lots(session: Session, *, book: Book, points: int, except_order: str | None = None) -> None:
    """Make sure that a spend of `points` can be planned: where the first lots don't reach, read the others too."""
    known = sum(lot.remaining for lot in book.spendable(except_order=except_order))
    if known < points and known < book.available:
        await _load_all_lots(session, book)


async def write_down(
    session: Session, locked: Locked, *, facts: Sequence[Insert | Update] = (), entries: Sequence[tuple[Any, ...]] = ()
) -> None:
    """Write what the plan added to the books, with the caller's own `facts` and timeline `entries`, in one statement.

    Raises Unavailable where another request took a directory entry of `facts` at the same moment: sent again, the
    request meets that entry under the lock and is told.
    """
    books = [book for book in locked.books.values() if book.movements or book.counted]
    rows = [*entries]
    for book in books:
        book.stand(locked.program.tiers, locked.program.tier_basis)
        rows.extend(_entry(book, transaction) for transaction in book.transactions if transaction.cause != "purchase")
        rows.extend(_tier_entry(book, change) for change in book.tier_changes)
    refused = await write(
        session,
        [
            Update(loyalty_accounts, _ACCOUNT, [_account_row(book) for book in books], 2),
            Insert(points_lots, _LOT, [_lot_row(book, lot_id) for book in books for lot_id in book.new_lot_ids]),
            Update(
                points_lots,
                _LOT_CHANGE,
                [_lot_change(book, lot_id) for book in books for lot_id in book.changed_lot_ids - book.new_lot_ids],
                3,
            ),
            Insert(points_transactions, _TRANSACTION, [
                _transaction_row(book, transaction) for book in books for transaction in book.transactions
            ]),
            Insert(points_movements, _MOVEMENT, [row for book in books for row in _movement_rows(book)]),
            *facts,
            timeline.part(rows),
        ],
    )  # fmt: skip
    if refused:
        raise Unavailable("Somebody else wrote the same reference at this moment. Send the request again.")


def claim_orders(program_id: UUID, owners: Mapping[str, UUID]) -> Insert:
    """The part of a write that notes whose orders these are."""
    rows = [(program_id, order_ref, contact_id) for order_ref, contact_id in sorted(owners.items())]
    return Insert(order_directory, ("program_id", "order_ref", "contact_id"), rows, on_conflict="DO NOTHING")


async def _load_all_lots(session: Session, book: Book) -> None:
    for row in await session.fetch(_OPEN_LOTS, book.contact_id, book.program_id):
        book.lots.setdefault(row["id"], Lot(*row))
    book.unseen_due_at = None


def _no_program(program_id: UUID | None) -> ProgramRequired | ProgramNotFound:
    if program_id is None:
        return ProgramRequired("Make a program with POST /v1/programs, or name one.")
    return ProgramNotFound("No program has this id.")


def _book(row: Record, now: datetime) -> Book:
    due = row["next_due_at"] is not None and row["next_due_at"] <= now
    return Book(
        contact_id=row["contact_id"],
        program_id=row["program_id"],
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
        seq=row["seq"],
        digest=row["digest"],
        next_due_at=row["next_due_at"],
        unseen_due_at=None if due else row["next_due_at"],
        expiring={datetime.fromisoformat(at): points for points, at in row["expiring"] or ()},
        lots={lot.id: lot for lot in map(_lot, row["lots"] or ())},
    )


def _lot(values: Sequence[Any]) -> Lot:
    lot_id, amount, remaining, held, active, qualifying, earned_at, activates_at, expires_at, order_ref = values
    return Lot(
        UUID(lot_id), amount, remaining, held, active, qualifying, datetime.fromisoformat(earned_at),
        datetime.fromisoformat(activates_at) if activates_at else None,
        datetime.fromisoformat(expires_at) if expires_at else None,
        order_ref,
    )  # fmt: skip


def _subject(document: dict[str, Any] | None) -> Subject | None:
    if document is None:
        return None
    moves = [(source, target, points, _lot(lot)) for source, target, points, lot in document["movements"]]
    return Subject(document["cause"], document["points"], document["order_ref"], document["reversed"], moves)


def _tier_entry(book: Book, change: TierChange) -> tuple[Any, ...]:
    return timeline.entry(
        book.contact_id, channel="loyalty", kind="tier.changed", occurred_at=change.occurred_at, recorded_at=book.now,
        by="system", data={"program_id": book.program_id, "from": change.before, "to": change.after},
    )  # fmt: skip


def _entry(book: Book, transaction: Transaction) -> tuple[Any, ...]:
    data = {
        "transaction_id": transaction.id,
        "program_id": book.program_id,
        "points": transaction.points,
        "available_after": transaction.available_after,
    }
    for name in ("reason", "order_ref"):
        if (value := getattr(transaction, name)) is not None:
            data[name] = value
    return timeline.entry(
        book.contact_id, id=transaction.id, channel="loyalty", kind=_TIMELINE_KINDS[transaction.kind],
        occurred_at=transaction.occurred_at, recorded_at=book.now, by=transaction.by, body=transaction.note,
        data=data | transaction.place,
    )  # fmt: skip


def _account_row(book: Book) -> tuple[Any, ...]:
    return (
        book.contact_id, book.program_id, book.available, book.pending, book.held, book.deficit, book.lifetime_earned,
        book.lifetime_redeemed, book.qualifying_points, book.qualifying_spend, book.qualifying_visits, book.tier_id,
        book.tier_since, book.seq, book.digest, book.next_due_at, book.now,
    )  # fmt: skip


def _lot_row(book: Book, lot_id: UUID) -> tuple[Any, ...]:
    lot = book.lots[lot_id]
    return (
        book.contact_id, book.program_id, lot.id, lot.kind, lot.amount, lot.remaining, lot.held, lot.active,
        lot.qualifying, lot.earned_at, lot.activates_at, lot.expires_at, lot.order_ref,
    )  # fmt: skip


def _lot_change(book: Book, lot_id: UUID) -> tuple[Any, ...]:
    lot = book.lots[lot_id]
    return book.contact_id, book.program_id, lot.id, lot.remaining, lot.held, lot.active


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
