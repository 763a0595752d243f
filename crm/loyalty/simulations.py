"""Simulations: what a purchase would earn, now or later, by the very plan that records one. Nothing is written."""

from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import cards, journal, programs, referring
from crm.loyalty.basket import Purchase
from crm.loyalty.circumstances import Circumstances
from crm.loyalty.expiry import local_day
from crm.loyalty.journal import Locked
from crm.loyalty.ledger import AHEAD_MAX
from crm.loyalty.limits import period_keys
from crm.loyalty.programs import Program
from crm.loyalty.purchases import Bought, Plan, Recorded
from crm.loyalty.stamping import PURCHASE

_NOBODY: Final = UUID(int=0)


async def simulate(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID | None,
    purchase: Purchase,
    at: datetime | None,
    include_drafts: bool,
    now: datetime,
) -> Recorded:
    """What recording the purchase would answer, without a transaction.

    `at` is when it shall happen, in place of its own time: the account is then as it comes if nothing else happens.
    Without a contact it is the purchase of somebody new, of whom no condition is true. An order that is recorded is
    judged as if it were not.
    Raises ContactNotFound, NotEnrolled, MembershipSuspended, CurrencyMismatch, ProgramNotFound, ProgramRequired.
    """
    program = await programs.load(session, program_id=program_id or await programs.default_id(session))
    if at is not None:
        purchase = replace(purchase, occurred_at=at)
    planned = at is not None or purchase.occurred_at > now + AHEAD_MAX
    who = contact_id or _NOBODY
    imagined = await _imagine(
        session, program, contact_id, at=purchase.occurred_at, now=max(now, purchase.occurred_at) if planned else now
    )
    circumstances = await Circumstances.read(
        session,
        program=program,
        books=imagined.books,
        moments=[] if contact_id is None else [(contact_id, purchase.occurred_at)],
        rules=[
            rule for rule in program.rules if rule.status == "active" or (include_drafts and rule.status == "draft")
        ],
    )
    plan = Plan(
        imagined,
        "",
        circumstances,
        await cards.of_members(session, locked=imagined, by="", facts=[(who, PURCHASE)]),
        await referring.friends(session, locked=imagined, by=""),
        include_drafts=include_drafts,
    )
    recorded, _ = plan.add(who, Bought(who, purchase))
    return replace(recorded, transaction_id=None, challenges=[cards.imagined(each) for each in recorded.challenges])


async def _imagine(
    session: Session, program: Program, contact_id: UUID | None, *, at: datetime, now: datetime
) -> Locked:
    """What a lock at `now` would find for something that happens at `at`. Nothing is locked."""
    if contact_id is None:
        return Locked(program, {_NOBODY: journal.new_book(program, _NOBODY, now)}, {}, {}, None, now)
    found = await journal.read(
        session,
        program_id=program.id,
        contact_id=contact_id,
        now=now,
        lots_max=journal.ALL_LOTS if "purchase" in program.expiry.activities else 0,
        periods=period_keys(local_day(at, program.terms.zone)),
    )
    if program.explicit_enrolment and not found.enrolled:
        return Locked(program, {}, {}, {}, None, now, strangers=frozenset({contact_id}))
    referrals = await referring.imagine(session, program_id=program.id, contact_id=contact_id)
    return Locked(program, {contact_id: found.book}, {}, {}, None, now, referrals=referrals)
