"""Posts by hand: awards and adjustments. Each locks, plans in memory and writes once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from crm.db import idempotency
from crm.db.session import Session
from crm.errors import CrmError, FieldError, Invalid
from crm.loyalty import balances, journal
from crm.loyalty.award_limits import Allowance
from crm.loyalty.balances import Posted
from crm.loyalty.books import Book
from crm.loyalty.journal import Locked

AHEAD_MAX: Final = timedelta(days=1)
"""How far in the future a fact may lie: clocks and time zones differ, facts don't come from next week."""


class ZeroAdjustment(Invalid):
    code = "zero_adjustment"
    title = "An adjustment of zero changes nothing"


class OccursTooLate(Invalid):
    code = "occurred_in_the_future"
    title = "This has not happened yet"


class ExpiresTooEarly(Invalid):
    code = "expires_before_it_is_earned"
    title = "These points would end before they begin"


@dataclass(frozen=True, slots=True)
class Award:
    """Points given by hand. They count as earned, and towards the tiers unless `qualifying` is false."""

    contact_id: UUID
    points: int
    reason: str
    note: str | None = None
    occurred_at: datetime | None = None
    activates_at: datetime | None = None
    expires_at: datetime | None = None
    qualifying: bool = True
    place: dict[str, str] = field(default_factory=dict)


async def award(
    session: Session,
    *,
    program_id: UUID | None,
    award: Award,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
    trusted: bool = True,
) -> Posted:
    """Give points by hand; whoever is not `trusted` within the program's limits.

    Raises ContactNotFound, ProgramRequired, OccursTooLate, ExpiresTooEarly, PointsOutOfRange, ManagerNeeded,
    AwardLimitReached.
    """
    locked = await journal.lock(session, program_id=program_id, contact_ids=[award.contact_id], now=now, once=once)
    await _know_what_slides(session, locked)
    allowance = await Allowance.of(session, locked=locked, by=by, trusted=trusted)
    answer = _plan_award(locked, award, by, allowance)
    await journal.write_down(
        session,
        locked,
        facts=[
            *([allowance.part()] if allowance else []),
            *idempotency.answer(once, contact_id=award.contact_id, result=answer, now=now),
        ],
    )
    return answer


async def award_all(
    session: Session,
    *,
    program_id: UUID | None,
    awards: Sequence[Award],
    by: str,
    now: datetime,
    once: idempotency.Request | None = None,
    trusted: bool = True,
) -> list[Posted | CrmError]:
    """Give many awards in one statement; each answer stands at its award's place, refusals among them.

    The refused are left out, the others are written together.
    """
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[award.contact_id for award in awards], now=now, once=once
    )
    await _know_what_slides(session, locked)
    allowance = await Allowance.of(session, locked=locked, by=by, trusted=trusted)
    results: list[Posted | CrmError] = []
    for award in awards:
        try:
            results.append(_plan_award(locked, award, by, allowance))
        except CrmError as refusal:
            results.append(refusal)
    await journal.write_down(session, locked, facts=[allowance.part()] if allowance else [])
    return results


async def adjust(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    points: int,
    reason: str,
    note: str | None,
    allow_negative: bool,
    qualifying: bool,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Posted:
    """Correct a balance by hand, up or down.

    Below zero only with `allow_negative`: the deficit is then filled by the next credits.
    Raises ZeroAdjustment, InsufficientPoints, ContactNotFound, ProgramRequired, PointsOutOfRange.
    """
    if points == 0:
        raise ZeroAdjustment(
            "Send the points to add, or the points to take as a negative number.",
            errors=[FieldError("/points", "zero", "must not be zero")],
        )
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once
    )
    book, program = locked.book(contact_id), locked.program
    book.ensure_room(points)
    transaction = book.open(
        "adjust", cause="adjustment", points=points, occurred_at=now, by=by, reason=reason, note=note
    )
    if points > 0:
        book.credit(points, qualifying=qualifying, expires_at=program.expiry.ends_at(now, program.terms.zone))
    else:
        await journal.know_enough_lots(session, book=book, points=-points)
        if allow_negative:
            book.overdraw(-points, "revoked")
        else:
            book.spend(-points, "revoked")
        if qualifying:
            book.qualify(now, points=points)
    answer = posted(book, transaction.id, points)
    await journal.write_down(
        session, locked, facts=idempotency.answer(once, contact_id=contact_id, result=answer, now=now)
    )
    return answer


def check_occurred(occurred_at: datetime, now: datetime) -> None:
    """Raises OccursTooLate for a fact of the future."""
    if occurred_at > now + AHEAD_MAX:
        raise OccursTooLate(
            "occurred_at lies more than a day in the future.",
            errors=[FieldError("/occurred_at", "occurred_in_the_future", "lies more than a day in the future")],
        )


async def _know_what_slides(session: Session, locked: Locked) -> None:
    if "award" in locked.program.expiry.activities:
        await journal.know_all_lots(session, books=list(locked.books.values()))


def _plan_award(locked: Locked, award: Award, by: str, allowance: Allowance | None) -> Posted:
    occurred_at = award.occurred_at or locked.now
    check_occurred(occurred_at, locked.now)
    if award.expires_at is not None and award.expires_at <= occurred_at:
        raise ExpiresTooEarly(
            "expires_at must lie after occurred_at.",
            errors=[FieldError("/expires_at", "expires_before_it_is_earned", "must lie after occurred_at")],
        )
    book, program = locked.member(award.contact_id), locked.program
    book.ensure_room(award.points)
    if allowance is not None:
        allowance.spend(book, award.points)
    if "award" in program.expiry.activities:
        book.slide(occurred_at, program.expiry)
    transaction = book.open(
        "earn", cause="award", points=award.points, occurred_at=occurred_at, by=by, reason=award.reason,
        note=award.note, place=award.place,
    )  # fmt: skip
    starts_at = max(occurred_at, award.activates_at or occurred_at)
    book.credit(
        award.points, activates_at=award.activates_at, fixed=award.expires_at is not None, qualifying=award.qualifying,
        expires_at=award.expires_at or program.expiry.ends_at(starts_at, program.terms.zone),
    )  # fmt: skip
    book.earn(award.points)
    book.settle()
    return posted(book, transaction.id, award.points)


def posted(book: Book, transaction_id: UUID, points: int) -> Posted:
    """The answer to a post, with the tier as it is after it."""
    book.stand()
    return Posted(transaction_id, points, balances.balance(book), balances.tier(book))
