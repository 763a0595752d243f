"""The ledger's storage: locks accounts and reads them into books, and writes down what a plan added to the books.

A post is `lock`, a plan in memory, `write`: two round trips before COMMIT, for one account or a thousand.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.db.writes import Insert, Update, write
from crm.errors import Conflict, Unavailable
from crm.interactions import timeline
from crm.loyalty import programs, rows
from crm.loyalty.books import ERASED, MERGED, Book, TierChange
from crm.loyalty.lots import Lot
from crm.loyalty.movements import Transaction
from crm.loyalty.programs import Program, ProgramNotFound, ProgramRequired
from crm.loyalty.rows import Referred, Subject
from crm.loyalty.tables import (
    order_directory,
)

LOTS_READ: Final = 32
"""How many open lots a spend reads at first; few spends need more."""
ALL_LOTS: Final = 2**31 - 1

_LOCK: Final = "SELECT * FROM lock_accounts($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_READ: Final = """
    SELECT p.id AS program_id, p.version AS program_version, c.id IS NOT NULL AS contact_exists, s.*
    FROM programs p
    LEFT JOIN contacts c ON c.id = $2
    LEFT JOIN LATERAL account_states(p.id, ARRAY[$2], $3, $4, $5) s ON true
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
    UNION ALL
    SELECT contact_id, {_LOT_FIELDS} FROM points_lots
    WHERE contact_id = ANY ($3) AND program_id = $2 AND remaining = 0 AND held > 0
"""
_ORDER_LOTS: Final = f"""
    SELECT contact_id, {_LOT_FIELDS} FROM points_lots
    WHERE program_id = $1 AND (contact_id, order_ref) IN (SELECT * FROM unnest($2::uuid[], $3::text[]))
"""

_LOTS: Final = f"""
    SELECT contact_id, {_LOT_FIELDS} FROM points_lots WHERE contact_id = $1 AND program_id = $2 AND id = ANY ($3)
"""

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
class Locked:
    """Accounts under lock, as books that can be planned on. `orders` says whose the asked order references are."""

    program: Program
    books: dict[UUID, Book]
    orders: dict[str, UUID]
    kept_by: dict[str, UUID]
    """Under which id what is known of an order is kept: an alias of its contact, where it came before a merge."""
    subject: Subject | None
    now: datetime
    strangers: frozenset[UUID] = frozenset()
    """Contacts without an account in a program that opens none by itself."""
    referrals: dict[UUID, Referred] = field(default_factory=dict)
    """Those that are open or were decided by one of the orders, by the friend; the other side is locked too."""

    def book(self, contact_id: UUID, *, also: Container[str] = ()) -> Book:
        """The contact's book, with everything due at `now` already in it.

        That of a contact who was merged or erased is given only where `also` has its status, for undoing what happened
        before. Raises ContactNotFound, NotEnrolled.
        """
        book = self.books.get(contact_id)
        if book is not None and (book.status not in {MERGED, ERASED} or book.status in also):
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
    """One account, read without a lock; the book is a new one where there is no account yet."""

    program: Program
    book: Book
    enrolled: bool


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
    settle: bool = True,
    referrals: bool = False,
) -> Locked:
    """Lock the accounts, opening those that are missing; unknown contacts are left out of the books.

    `times` are those of what may use up the limits of rules. What is due is written into the books,
    unless `settle` is false, and the caller does that. `referrals` says that orders may decide about some: then whoever
    referred the contacts is locked with them.
    Raises Replay or IdempotencyKeyReused where `once` was carried out before, ProgramRequired, ProgramNotFound.
    """
    wanted = sorted(set(contact_ids))
    found = await session.fetch(
        _LOCK, program_id, wanted, now, lots_max, order_refs, once.key if once else None, subject, times, referrals
    )
    header = found[0] if found else None
    if header is not None and once is not None and header["replay_hash"] is not None:
        once.replay(content_hash=header["replay_hash"], status=header["replay_status"], body=header["replay_body"])
    if header is None:
        raise _no_program(program_id)
    program = await programs.load(session, program_id=header["program_id"], version=header["program_version"])
    books = {row["contact_id"]: rows.book_of(row, program, now) for row in found[1:]}
    for book in books.values():
        if settle:
            _let_pass(book)
    strangers: frozenset[UUID] = frozenset()
    if program.explicit_enrolment and not books.keys() >= set(wanted):
        missing = await session.fetch("SELECT id FROM contacts WHERE id = ANY ($1)", list(set(wanted) - books.keys()))
        strangers = frozenset(row["id"] for row in missing)
    referred = rows.referrals_of(header["referrals"])
    if any(referral.contact_id in books and referral.other_id not in books for referral in referred.values()):
        raise Unavailable("Somebody referred this member at this moment. Send the request again.")
    kept_by = {ref: UUID(owner) for ref, owner in (header["orders"] or {}).items()}
    known = await aliases.survivors(session, ids=set(kept_by.values()) - books.keys())
    return Locked(
        program=program,
        books=books,
        orders={ref: known.get(owner, owner) for ref, owner in kept_by.items()},
        kept_by=kept_by,
        subject=rows.subject_of(header["subject"]),
        now=now,
        strangers=strangers,
        referrals=referred,
    )


async def read(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    now: datetime,
    lots_max: int = 0,
    periods: Sequence[str] | None = None,
) -> Found:
    """One account as it is at `now`, with what time has done, without a lock and in one query.

    What was had from rules is known of these `periods` only.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    row = await session.fetchrow(_READ, program_id, contact_id, now, lots_max, periods)
    if row is None:
        raise _no_program(program_id)
    if not row["contact_exists"]:
        raise ContactNotFound("No contact has this id.")
    program = await programs.load(session, program_id=row["program_id"], version=row["program_version"])
    if row["contact_id"] is None:
        return Found(program, new_book(program, contact_id, now), enrolled=False)
    book = rows.book_of(row, program, now)
    _let_pass(book)
    return Found(program, book, enrolled=True)


def new_book(program: Program, contact_id: UUID, now: datetime) -> Book:
    """The book of somebody who has had nothing yet."""
    return Book(contact_id, program.id, now, ladder=program.ladder, milestones=program.milestones, enrolled_at=now)


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
    """Read all open lots of these accounts of one program, those on hold too, for a post that may change any."""
    by_contact = {book.contact_id: book for book in books}
    if not by_contact:
        return
    holders = [book.contact_id for book in books if book.held]
    for contact_id, *values in await session.fetch(_OPEN_LOTS, list(by_contact), books[0].program_id, holders):
        lot = Lot(*values)
        by_contact[contact_id].lots.setdefault(lot.id, lot)


async def know_lots(session: Session, *, book: Book, lot_ids: Iterable[UUID]) -> None:
    """Read those of these lots that have been in the account, whatever became of them."""
    unknown = [lot_id for lot_id in lot_ids if lot_id not in book.lots]
    if not unknown:
        return
    for _, *values in await session.fetch(_LOTS, book.contact_id, book.program_id, unknown):
        lot = Lot(*values)
        book.lots[lot.id] = lot


async def find_subject(session: Session, *, contact_id: UUID, transaction_id: UUID) -> Subject | None:
    """An earlier transaction of a locked account, for a post that learns only then that it is about it."""
    return rows.subject_of(await session.fetchval("SELECT points_subject($1, $2)", contact_id, transaction_id))


async def know_lots_of_order(session: Session, *, book: Book, order_ref: str) -> None:
    """Read what an order earned, whatever became of it."""
    await know_lots_of_orders(session, orders=[(book, order_ref)])


async def know_lots_of_orders(session: Session, *, orders: Sequence[tuple[Book, str]]) -> None:
    """Read what these orders of accounts of one program earned, whatever became of it."""
    if not orders:
        return
    by_contact = {book.contact_id: book for book, _ in orders}
    refs = [order_ref for _, order_ref in orders]
    owners = [book.contact_id for book, _ in orders]
    for contact_id, *values in await session.fetch(_ORDER_LOTS, orders[0][0].program_id, owners, refs):
        lot = Lot(*values)
        by_contact[contact_id].lots.setdefault(lot.id, lot)


async def write_down(
    session: Session, locked: Locked, *, facts: Sequence[Insert | Update] = (), entries: Sequence[tuple[Any, ...]] = ()
) -> None:
    """Write what the plan added to the books, with the caller's own `facts` and timeline `entries`, in one statement.

    Raises Unavailable where another request took a directory entry of `facts` at the same moment: sent again, the
    request meets that entry under the lock and is told.
    """
    for book in list(locked.books.values()):
        if book.status == MERGED and book.changed:
            await _return_points(session, locked, book)
    books = [book for book in locked.books.values() if book.changed]
    told = [*entries]
    for book in books:
        book.stand()
        told.extend(_entry(book, transaction) for transaction in book.transactions if transaction.cause != "purchase")
        told.extend(_tier_entry(book, change) for change in book.tier_changes)
        told.extend(_milestone_entry(book, milestone) for milestone in book.milestones_reached)
    refused = await write(
        session,
        [
            *rows.written(books),
            *facts,
            timeline.part(told),
        ],
    )  # fmt: skip
    if refused:
        raise Unavailable("Somebody else wrote the same reference at this moment. Send the request again.")
    if any(change.after is not None and change.after.reward_ids for book in books for change in book.tier_changes):
        # Rewards are posts of their own, made of what stands here.
        from crm.loyalty import tier_rewards

        await tier_rewards.give(session, locked=locked, books=books)


async def _return_points(session: Session, locked: Locked, book: Book) -> None:
    from crm.loyalty import homes  # a merge is posts of its own

    by = book.transactions[-1].by if book.transactions else "system"
    await homes.know(session, locked=locked, book=book, by=by)
    await homes.return_points(session, book=book, by=by)


def claim_orders(program_id: UUID, owners: Mapping[str, UUID]) -> Insert:
    """The part of a write that notes whose orders these are."""
    rows = [(program_id, order_ref, contact_id) for order_ref, contact_id in sorted(owners.items())]
    return Insert(order_directory, ("program_id", "order_ref", "contact_id"), rows, on_conflict="DO NOTHING")


def _no_program(program_id: UUID | None) -> ProgramRequired | ProgramNotFound:
    if program_id is None:
        return ProgramRequired("Make a program with POST /v1/programs, or name one.")
    return ProgramNotFound("No program has this id.")


def _let_pass(book: Book) -> None:
    if book.is_due:
        book.settle()
        book.stand()


def _tier_entry(book: Book, change: TierChange) -> tuple[Any, ...]:
    return timeline.entry(
        book.contact_id, channel="loyalty", kind="tier.renewed" if change.renewed else "tier.changed",
        occurred_at=change.occurred_at, recorded_at=book.now, by="system", data={
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
    kind = _TIMELINE_KINDS[transaction.kind]
    if transaction.kind == "reverse" and transaction.points < 0:
        kind = "points.taken_back"
    for name in ("reason", "order_ref"):
        if (value := getattr(transaction, name)) is not None:
            data[name] = value
    return timeline.entry(
        book.contact_id, id=transaction.id, channel="loyalty", kind=kind,
        occurred_at=transaction.occurred_at, recorded_at=book.now, by=transaction.by, body=transaction.note,
        data=data | transaction.place,
    )  # fmt: skip
