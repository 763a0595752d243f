"""Where the points of a merged account are: in the account of the contact who goes on.

What happened before a merge is undone in the account in which it happened. What that takes comes from the survivor's
account, and what it gives back goes there: transfers whose two sides have one id, each lot with its begin and its end.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from crm.contacts import aliases
from crm.db.session import Session
from crm.loyalty import journal
from crm.loyalty.books import MERGED, Book
from crm.loyalty.journal import Locked
from crm.loyalty.lots import Lot

CAUSE: Final = "merge"

Part = tuple[Lot, int]
"""A lot, and how many of its points."""


async def know(session: Session, *, locked: Locked, book: Book, by: str) -> Book:
    """The book in which the points of this one are: itself or, of a merged account, the survivor's, locked too."""
    if book.status != MERGED:
        return book
    if book.home is None:
        survivor_id = (await aliases.survivors(session, ids=[book.contact_id]))[book.contact_id]
        if survivor_id not in locked.books:
            further = await journal.lock(
                session,
                program_id=locked.program.id,
                contact_ids=[survivor_id],
                now=locked.now,
                lots_max=journal.LOTS_READ,
            )
            locked.books[survivor_id] = further.books[survivor_id]
        book.home = locked.books[survivor_id]
        await journal.know_all_lots(session, books=[book.home])
        await journal.know_lots(session, book=book, lot_ids=book.home.lots)
        book.lend = partial(_lend, book, book.home, by)
    return book.home


async def return_points(session: Session, *, book: Book, by: str) -> None:
    """Send home what came to be in the book of a merged account, debts too."""
    if book.home is not None:
        await hand_over(session, giver=book, taker=book.home, parts=parts_of(book), debt=book.deficit, by=by)


def parts_of(book: Book) -> list[Part]:
    """All points that are in a book's known lots, in the order of the lots' making."""
    lots = sorted(book.lots.values(), key=lambda lot: lot.id)
    return [(lot, lot.remaining) for lot in lots if lot.kind == "regular" and lot.remaining > 0]


async def hand_over(
    session: Session, *, giver: Book, taker: Book, parts: Sequence[Part], debt: int = 0, by: str
) -> UUID | None:
    """Transfer points, and a debt, from one account to another of the same person; the id of both sides.

    Lots stay the lots that they are, and what returns to an account returns to its own. None where there is nothing to
    transfer.
    """
    await journal.know_lots(session, book=taker, lot_ids=[lot.id for lot, _ in parts])
    return _hand_over(giver, taker, parts, debt, by)


def _hand_over(giver: Book, taker: Book, parts: Sequence[Part], debt: int, by: str) -> UUID | None:
    if not parts and not debt:
        return None
    points = sum(part for _, part in parts) - debt
    taker.ensure_room(points)
    given = giver.open(
        "transfer", cause=CAUSE, points=-points, occurred_at=giver.now, by=by, reason=CAUSE,
        place={"to_contact_id": str(taker.contact_id)},
    )  # fmt: skip
    for lot, part in parts:
        giver.give_away(lot, part)
    if debt:
        giver.credit(debt, qualifying=False, source="transferred")
    taker.open(
        "transfer", cause=CAUSE, points=points, occurred_at=giver.now, by=by, reason=CAUSE, transaction_id=given.id,
        place={"from_contact_id": str(giver.contact_id)},
    )  # fmt: skip
    for lot, part in parts:
        taker.take_over(lot, part, reason=CAUSE, by=by)
    if debt:
        taker.overdraw(debt, "transferred")
    return given.id


async def repay(
    session: Session, *, debtor: Book, creditor: Book, parts: Sequence[Part], further: int = 0, by: str
) -> None:
    """Let an account owe what another has paid for it: `parts` return to the creditor's lots, the rest comes new."""
    points = sum(part for _, part in parts) + further
    if not points:
        return
    await journal.know_lots(session, book=creditor, lot_ids=[lot.id for lot, _ in parts])
    creditor.ensure_room(points)
    taken = debtor.open(
        "transfer", cause=CAUSE, points=-points, occurred_at=debtor.now, by=by, reason=CAUSE,
        place={"to_contact_id": str(creditor.contact_id)},
    )  # fmt: skip
    debtor.overdraw(points, "transferred")
    creditor.open(
        "transfer", cause=CAUSE, points=points, occurred_at=debtor.now, by=by, reason=CAUSE, transaction_id=taken.id,
        place={"from_contact_id": str(debtor.contact_id)},
    )  # fmt: skip
    for lot, part in parts:
        creditor.take_over(lot, part, reason=CAUSE, by=by)
    if further:
        creditor.credit(further, qualifying=False, source="transferred")


def _lend(book: Book, home: Book, by: str, points: int, own: Callable[[Lot], bool], policy: str) -> None:
    """Bring what may be taken back of so many points, in front of the transaction that is being planned."""
    parts: list[Part] = []
    missing = points
    for lot in home.within_reach(own=own, policy=policy):
        if part := min(lot.remaining, missing):
            parts.append((lot, part))
            missing -= part
    planned = book.transactions.pop()
    _hand_over(home, book, parts, 0, by)
    book.transactions.append(planned)
