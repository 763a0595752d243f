"""Holds: points set aside for a moment, then captured in whole or part, or released to where they came from."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from crm.db import idempotency
from crm.db.session import Session
from crm.db.writes import Insert
from crm.errors import Conflict, FieldError, Invalid, NotFound
from crm.loyalty import balances, journal, tables
from crm.loyalty.balances import Balance
from crm.loyalty.journal import Locked
from crm.loyalty.lots import Hold, HoldChange
from crm.loyalty.programs import ProgramRequired

_COLUMNS: Final = tuple(column.name for column in tables.holds.columns)
_VIEW: Final = """
    id, program_id, points, captured, CASE WHEN status = 'held' AND expires_at <= $2 THEN 'expired' ELSE status END
    AS status, reference, expires_at, created_at, CASE WHEN status = 'held' AND expires_at <= $2 THEN expires_at
    ELSE resolved_at END AS resolved_at
"""


class HoldNotFound(NotFound):
    code = "hold_not_found"
    title = "There is no such hold"


class HoldNotOpen(Conflict):
    code = "hold_not_open"
    title = "The hold has been captured or released"


class CaptureExceedsHold(Invalid):
    code = "capture_exceeds_hold"
    title = "The hold has fewer points than that"


@dataclass(slots=True)
class Held:
    """Points set aside until `expires_at`."""

    id: UUID
    points: int
    status: str
    expires_at: datetime
    balance: Balance


@dataclass(slots=True)
class Captured:
    """Points of a hold that were spent; the rest was released."""

    id: UUID
    transaction_id: UUID
    points: int
    points_released: int
    status: str
    balance: Balance


@dataclass(slots=True)
class HoldView:
    """A hold as it is kept: `points` were set aside, of which `captured` were spent."""

    id: UUID
    program_id: UUID
    points: int
    captured: int
    status: str
    reference: str | None
    expires_at: datetime
    created_at: datetime
    resolved_at: datetime | None


async def create(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    points: int,
    expires_in: timedelta,
    reference: str | None,
    place: dict[str, str],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Held:
    """Set points aside, all or nothing, until they are captured, released, or `expires_in` has passed.

    Raises InsufficientPoints, ContactNotFound, NotEnrolled, MembershipSuspended, ProgramRequired.
    """
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once
    )
    book = locked.member(contact_id)
    await journal.know_enough_lots(session, book=book, points=points)
    transaction = book.open("hold", cause="hold", points=-points, occurred_at=now, by=by, note=reference, place=place)
    expires_at = now + expires_in
    book.set_aside(points, expires_at=expires_at)
    held = Held(transaction.id, points, "held", expires_at, balances.balance(book))
    row = (contact_id, transaction.id, book.program_id, points, 0, "held", reference, expires_at, now, None)
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(tables.holds, _COLUMNS, [row]),
            *idempotency.answer(once, contact_id=contact_id, result=held, now=now),
        ],
    )
    return held


async def capture(
    session: Session,
    *,
    contact_id: UUID,
    hold_id: UUID,
    points: int | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[Captured, bool]:
    """Spend the points of a hold, or so many of them, and release the rest. False beside one captured before.

    Raises HoldNotFound, HoldNotOpen, CaptureExceedsHold.
    """
    locked, hold, kept = await _lock(session, contact_id, hold_id, once, now)
    book = locked.book(contact_id)
    whole = kept["points"]
    wanted = whole if points is None else points
    if wanted > whole:
        raise CaptureExceedsHold(
            f"The hold has {whole} points.", errors=[FieldError("/points", "too_many", f"must be at most {whole}")]
        )
    if kept["status"] == "captured" and kept["captured"] == wanted:
        stored = await _stored_capture(session, locked, contact_id, hold_id, wanted, whole)
        answer = idempotency.answer(once, contact_id=contact_id, result=stored, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return stored, False
    _ensure_open(kept["status"])
    transaction = book.open("capture", cause="hold", points=-wanted, occurred_at=now, by=by, reverses=hold_id)
    book.capture(hold, wanted)
    book.redeem(wanted)
    if wanted < whole:
        book.release(hold, captured=wanted, at=now, by=by, cause="capture")
    book.hold_changes.append(HoldChange(hold_id, "captured", wanted, now))
    captured = Captured(hold_id, transaction.id, wanted, whole - wanted, "captured", balances.balance(book))
    await journal.write_down(
        session, locked, facts=idempotency.answer(once, contact_id=contact_id, result=captured, now=now)
    )
    return captured, True


async def release(session: Session, *, contact_id: UUID, hold_id: UUID, by: str, now: datetime) -> None:
    """Give the points of a hold back to their lots, with their own ends; again it changes nothing.

    Raises HoldNotFound, HoldNotOpen where it was captured.
    """
    locked, hold, kept = await _lock(session, contact_id, hold_id, None, now)
    if kept["status"] == "captured":
        _ensure_open("captured")
    if kept["status"] == "held":
        book = locked.book(contact_id)
        book.release(hold, at=now, by=by, cause="release")
        book.hold_changes.append(HoldChange(hold_id, "released", 0, now))
    await journal.write_down(session, locked)


async def get(session: Session, *, contact_id: UUID, hold_id: UUID, now: datetime) -> HoldView:
    """One hold of a contact, as it is at `now`. Raises HoldNotFound."""
    row = await session.fetchrow(
        f"SELECT {_VIEW} FROM holds WHERE contact_id = $1 AND id = $3", contact_id, now, hold_id
    )
    if row is None:
        raise HoldNotFound("This contact has no hold with this id.")
    return HoldView(**dict(row))


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, before: UUID | None, limit: int, now: datetime
) -> list[HoldView]:
    """A contact's holds, newest first, older than `before`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT {_VIEW} FROM holds
        WHERE contact_id = $1 AND program_id = coalesce($3, (SELECT id FROM programs WHERE is_default))
            AND EXISTS (SELECT FROM contacts WHERE id = $1)
            AND ($4::uuid IS NULL OR id < $4)
        ORDER BY id DESC LIMIT $5
        """,
        contact_id, now, program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [HoldView(**dict(row)) for row in rows]


async def _lock(
    session: Session, contact_id: UUID, hold_id: UUID, once: idempotency.Request | None, now: datetime
) -> tuple[Locked, Hold, dict[str, Any]]:
    """The account, the hold, and what is kept of it with what time has done to it by `now`."""
    try:
        locked = await journal.lock(
            session, program_id=None, contact_ids=[contact_id], now=now, once=once, subject=hold_id
        )
    except ProgramRequired:
        raise HoldNotFound("This contact has no hold with this id.") from None
    subject = locked.subject
    if subject is None or subject.hold is None:
        raise HoldNotFound("This contact has no hold with this id.")
    kept = subject.hold
    ended = next((each for each in locked.book(contact_id).hold_changes if each.id == hold_id), None)
    if ended is not None:
        kept = kept | {"status": ended.status}
    expires_at = datetime.fromisoformat(kept["expires_at"])
    return locked, Hold(hold_id, expires_at, [(points, lot) for _, _, points, lot in subject.moves]), kept


def _ensure_open(status: str) -> None:
    if status != "held":
        raise HoldNotOpen(f"The hold is {status}. Make a new one.", hold_status=status)


async def _stored_capture(
    session: Session, locked: Locked, contact_id: UUID, hold_id: UUID, points: int, whole: int
) -> Captured:
    transaction_id: UUID = await session.fetchval(
        "SELECT id FROM points_transactions WHERE contact_id = $1 AND reverses = $2 AND kind = 'capture'",
        contact_id, hold_id,
    )  # fmt: skip
    balance = balances.balance(locked.book(contact_id))
    return Captured(hold_id, transaction_id, points, whole - points, "captured", balance)
