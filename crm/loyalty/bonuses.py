"""Bonuses: points that a fact brings besides what it earns, for a card that it filled or a friend who came with it."""

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import journal
from crm.loyalty.books import Book
from crm.loyalty.movements import Transaction
from crm.loyalty.programs import Program


class TakenBack(NamedTuple):
    """How many points of a bonus the return policy reached, and as which transaction; None where it reached none.

    `counted_at` is when they began to count towards the tiers, which they do no more; None where they never did.
    """

    points: int
    transaction_id: UUID | None
    counted_at: datetime | None


NOTHING: Final = TakenBack(0, None, None)


def give(
    book: Book,
    program: Program,
    points: int,
    *,
    cause: str,
    occurred_at: datetime,
    activates_at: datetime | None,
    by: str,
) -> Transaction:
    """Credit a bonus as something earned, pending until `activates_at` if that is given."""
    transaction = book.open("earn", cause=cause, points=points, occurred_at=occurred_at, by=by, reason=cause)
    book.credit(
        points,
        activates_at=activates_at,
        expires_at=program.expiry.ends_at(activates_at or occurred_at, program.terms.zone),
    )
    book.earn(points)
    return transaction


async def take_back(
    session: Session,
    *,
    book: Book,
    program: Program,
    transaction_id: UUID,
    points: int,
    cause: str,
    occurred_at: datetime,
    by: str,
) -> TakenBack:
    """Take a bonus back as far as the return policy reaches: its own lot first, wherever that is.

    What counted towards the tiers falls by all of it. Needs all open lots.
    """
    subject = await journal.find_subject(session, contact_id=book.contact_id, transaction_id=transaction_id)
    assert subject is not None, "a bonus is written down with its transaction"
    lots = [book.lots.setdefault(lot.id, lot) for _, _, _, lot in subject.moves[:1]]
    counted_at = next((lot.counted_at for lot in lots if lot.active and lot.qualifying), None)
    if counted_at is not None:
        book.qualify(counted_at, points=-points)
    own = {lot.id for lot in lots}
    transaction = book.open(
        "reverse", cause=cause, points=0, occurred_at=occurred_at, by=by, reason=cause, reverses=transaction_id
    )
    taken = book.take_back(points, own=lambda lot: lot.id in own, policy=program.return_policy)
    if not taken:
        book.transactions.remove(transaction)
        return TakenBack(0, None, counted_at)
    transaction.points = -taken
    return TakenBack(taken, transaction.id, counted_at)
