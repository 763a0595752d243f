"""Transfers: points that go from one member to another, each lot with the end that it has."""

from datetime import datetime
from uuid import UUID

from crm.db import idempotency
from crm.db.session import Session
from crm.errors import FieldError, Invalid
from crm.loyalty import journal
from crm.loyalty.balances import Posted
from crm.loyalty.ledger import posted


class TransferToSelf(Invalid):
    code = "transfer_to_self"
    title = "Points can't be transferred to the account they are on"


async def transfer(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    to_contact_id: UUID,
    points: int,
    note: str | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Posted:
    """Give points to another member, all or nothing; the answer is the giver's.

    It counts neither as spent nor as earned, and towards no tier. Both sides are one transaction with one id.
    Raises TransferToSelf, InsufficientPoints, ContactNotFound, NotEnrolled, MembershipSuspended, ProgramRequired.
    """
    if to_contact_id == contact_id:
        raise TransferToSelf(
            "Name another contact.", errors=[FieldError("/to_contact_id", "same_contact", "is the giver")]
        )
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id, to_contact_id], now=now, once=once,
        lots_max=journal.LOTS_READ,
    )  # fmt: skip
    giver, taker = locked.member(contact_id), locked.member(to_contact_id)
    taker.ensure_room(points)
    await journal.know_enough_lots(session, book=giver, points=points)
    given = giver.open(
        "transfer", cause="transfer", points=-points, occurred_at=now, by=by, note=note,
        place={"to_contact_id": str(to_contact_id)},
    )  # fmt: skip
    known = len(giver.movements)
    giver.spend(points, "transferred")
    taker.open(
        "transfer", cause="transfer", points=points, occurred_at=now, by=by, note=note, transaction_id=given.id,
        place={"from_contact_id": str(contact_id)},
    )  # fmt: skip
    for movement in giver.movements[known:]:
        lot = giver.lots[movement.lot_id]
        taker.credit(
            movement.points, expires_at=lot.expires_at, fixed=lot.fixed, qualifying=False, earned_at=lot.earned_at,
            source="transferred",
        )  # fmt: skip
    answer = posted(giver, given.id, -points)
    await journal.write_down(
        session, locked, facts=idempotency.answer(once, contact_id=contact_id, result=answer, now=now)
    )
    return answer
