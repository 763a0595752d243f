"""The ledger's storage: locks accounts and reads them into books, and writes down what a plan added to the books.

A post is `lock`, a plan in memory, `write`: two round trips before COMMIT, for one account or a thousand.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Date, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import ENUM, JSONB

from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update, write
from crm.errors import Conflict, Unavailable
from crm.interactions import timeline
from crm.loyalty import programs
from crm.loyalty.books import Book, TierChange
from crm.loyalty.ladders import Counted, Pin
from crm.loyalty.limits import Used
from crm.loyalty.lots import Hold, Lot, Phase
from crm.loyalty.movements import BUCKETS, KINDS, Transaction
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
    Column("tier_until", Instant),
    Column("pin", JSONB),
    Column("status", Text, nullable=False),
    Column("terms_version", Text),
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
    Column("cancels_at", Instant),
    Column("expires_at", Instant),
    Column("fixed", Boolean, nullable=False),
    Column("order_ref", Text),
)

points_lot_changes = Table(
    "points_lot_changes",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("id", Uuid, primary_key=True),
    Column("lot_id", Uuid, nullable=False),
    Column("expires_before", Instant),
    Column("expires_after", Instant),
    Column("reason", Text, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
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

qualifying_days = Table(
    "qualifying_days",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("local_on", Date, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("spend", Numeric, nullable=False),
    Column("visits", BigInteger, nullable=False),
)

rule_usages = Table(
    "rule_usages",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("rule_id", Uuid, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("times", BigInteger, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("captured", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("reference", Text),
    Column("expires_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("resolved_at", Instant),
)

LOTS_READ: Final = 32
"""How many open lots a spend reads at first; few spends need more."""

_LOCK: Final = "SELECT * FROM lock_accounts($1, $2, $3, $4, $5, $6, $7, $8)"
_READ: Final = """
    SELECT p.id AS program_id, p.version AS program_version, c.id IS NOT NULL AS contact_exists, s.*
    FROM programs p
    LEFT JOIN contacts c ON c.id = $2
    LEFT JOIN LATERAL account_states(p.id, ARRAY[$2], $3, 0, NULL) s ON true
    WHERE p.id = $1 OR ($1 IS NULL AND p.is_default)
"""
_REQUIRE: Final = """
    SELECT EXISTS (SELECT FROM programs WHERE id = $1 OR ($1 IS NULL AND is_default)) AS program,
        EXISTS (SELECT FROM contacts WHERE id = $2) AS contact
"""
_LOT_FIELDS: Final = """
    id, amount, remaining, held, active, qualifying, earned_at, activates_at, cancels_at, expires_at, fixed, order_ref
"""
_OPEN_LOTS: Final = f"""
    SELECT contact_id, {_LOT_FIELDS} FROM points_lots
    WHERE contact_id = ANY ($1) AND program_id = $2 AND remaining > 0
"""
_ORDER_LOTS: Final = f"""
    SELECT contact_id, {_LOT_FIELDS} FROM points_lots
    WHERE contact_id = $1 AND program_id = $2 AND order_ref = $3
"""

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

_TIMELINE_KINDS: Final[Mapping[str, str]] = {
    "earn": "points.earned",
    "redeem": "points.redeemed",
    "adjust": "points.adjusted",
    "expire": "points.expired",
    "activate": "points.activated",
    "reverse": "points.returned",
    "hold": "points.held",
    "capture": "points.captured",
    "release": "points.released",
    "transfer": "points.transferred",
}


class OrderRefReused(Conflict):
    code = "order_ref_reused"
    title = "This order reference belongs to something else"


class NotEnrolled(Conflict):
    code = "not_enrolled"
    title = "The contact is not a member of the program"


class MembershipSuspended(Conflict):
    code = "membership_suspended"
    title = "The membership is paused or closed"


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


@dataclass(slots=True)
class Locked:
    """Accounts under lock, as books that can be planned on. `orders` says whose the asked order references are."""

    program: Program
    books: dict[UUID, Book]
    orders: dict[str, UUID]
    subject: Subject | None
    now: datetime
    strangers: frozenset[UUID] = frozenset()
    """Contacts without an account in a program that opens none by itself."""

    def book(self, contact_id: UUID) -> Book:
        """The contact's book, with everything due at `now` already in it. Raises ContactNotFound, NotEnrolled."""
        book = self.books.get(contact_id)
        if book is not None:
            return book
        if contact_id in self.strangers:
            raise NotEnrolled("This program has members by invitation: PUT …/memberships/{program_id} enrols them.")
        raise ContactNotFound("No contact has this id.")

    def member(self, contact_id: UUID) -> Book:
        """The book of somebody who may earn and spend. Raises MembershipSuspended besides."""
        book = self.book(contact_id)
        if book.status != "active":
            raise MembershipSuspended(f"The membership is {book.status}: it neither earns nor spends.")
        return book


@dataclass(slots=True)
class Found:
    """One account, read without a lock."""

    program: Program
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
    times: Sequence[datetime] | None = None,
    before: Phase | None = None,
) -> Locked:
    """Lock the accounts, opening those that are missing; unknown contacts are left out of the books.

    `times` are those of what may use up the limits of rules. What is due is written into the books, of what happens
    exactly at `now` only the phases `before` the one given.
    Raises Replay or IdempotencyKeyReused where `once` was carried out before, ProgramRequired, ProgramNotFound.
    """
    wanted = sorted(set(contact_ids))
    rows = await session.fetch(
        _LOCK, program_id, wanted, now, lots_max, order_refs, once.key if once else None, subject, times
    )
    header = rows[0] if rows else None
    if header is not None and once is not None and header["replay_hash"] is not None:
        once.replay(content_hash=header["replay_hash"], status=header["replay_status"], body=header["replay_body"])
    if header is None:
        raise _no_program(program_id)
    program = await programs.load(session, program_id=header["program_id"], version=header["program_version"])
    books = {row["contact_id"]: _book(row, program, now) for row in rows[1:]}
    for book in books.values():
        if book.is_due:
            book.settle(before=before)
            book.stand()
    strangers: frozenset[UUID] = frozenset()
    if program.explicit_enrolment and len(books) < len(wanted):
        missing = await session.fetch("SELECT id FROM contacts WHERE id = ANY ($1)", list(set(wanted) - books.keys()))
        strangers = frozenset(row["id"] for row in missing)
    return Locked(
        program=program,
        books=books,
        orders={ref: UUID(owner) for ref, owner in (header["orders"] or {}).items()},
        subject=_subject(header["subject"]),
        now=now,
        strangers=strangers,
    )


async def read(session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime) -> Found:
    """One account as it is at `now`, with what time has done, without a lock and in one query.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    row = await session.fetchrow(_READ, program_id, contact_id, now)
    if row is None:
        raise _no_program(program_id)
    if not row["contact_exists"]:
        raise ContactNotFound("No contact has this id.")
    program = await programs.load(session, program_id=row["program_id"], version=row["program_version"])
    if row["contact_id"] is None:
        return Found(program, Book(contact_id, program.id, now, ladder=program.ladder))
    book = _book(row, program, now)
    book.settle()
    return Found(program, book)


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
        await know_all_lots(session, books=[book])


async def know_all_lots(session: Session, *, books: Sequence[Book]) -> None:
    """Read all open lots of these accounts of one program, for a post that may change any of them."""
    by_contact = {book.contact_id: book for book in books}
    if not by_contact:
        return
    for contact_id, *values in await session.fetch(_OPEN_LOTS, list(by_contact), books[0].program_id):
        lot = Lot(*values)
        by_contact[contact_id].lots.setdefault(lot.id, lot)
    for book in books:
        book.unseen_due_at = None


async def know_lots_of_order(session: Session, *, book: Book, order_ref: str) -> None:
    """Read what an order earned, whatever became of it."""
    for _, *values in await session.fetch(_ORDER_LOTS, book.contact_id, book.program_id, order_ref):
        lot = Lot(*values)
        book.lots.setdefault(lot.id, lot)


async def write_down(
    session: Session, locked: Locked, *, facts: Sequence[Insert | Update] = (), entries: Sequence[tuple[Any, ...]] = ()
) -> None:
    """Write what the plan added to the books, with the caller's own `facts` and timeline `entries`, in one statement.

    Raises Unavailable where another request took a directory entry of `facts` at the same moment: sent again, the
    request meets that entry under the lock and is told.
    """
    books = [book for book in locked.books.values() if book.changed]
    rows = [*entries]
    for book in books:
        book.stand()
        rows.extend(_entry(book, transaction) for transaction in book.transactions if transaction.cause != "purchase")
        rows.extend(_tier_entry(book, change) for change in book.tier_changes)
        rows.extend(_milestone_entry(book, milestone) for milestone in book.milestones_reached)
    refused = await write(
        session,
        [
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


def _no_program(program_id: UUID | None) -> ProgramRequired | ProgramNotFound:
    if program_id is None:
        return ProgramRequired("Make a program with POST /v1/programs, or name one.")
    return ProgramNotFound("No program has this id.")


def _book(row: Record, program: Program, now: datetime) -> Book:
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


def _subject(document: dict[str, Any] | None) -> Subject | None:
    if document is None:
        return None
    return Subject(
        document["cause"], document["points"], document["order_ref"], document["reversed"],
        [(source, target, points, _lot(lot)) for source, target, points, lot in document["movements"]],
        {UUID(lot_id): points for lot_id, points in (document["returned"] or {}).items()},
        document["hold"],
    )  # fmt: skip


def _tier_entry(book: Book, change: TierChange) -> tuple[Any, ...]:
    return timeline.entry(
        book.contact_id, channel="loyalty", kind="tier.changed", occurred_at=change.occurred_at, recorded_at=book.now,
        by="system", data={
            "program_id": book.program_id,
            "from": change.before.name if change.before else None,
            "to": change.after.name if change.after else None,
        },
    )  # fmt: skip


def _milestone_entry(book: Book, milestone: int) -> tuple[Any, ...]:
    occurred_at = book.transactions[-1].occurred_at if book.transactions else book.now
    return timeline.entry(
        book.contact_id, channel="loyalty", kind="points.milestone", occurred_at=occurred_at, recorded_at=book.now,
        by="system", data={"program_id": book.program_id, "milestone": milestone},
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
