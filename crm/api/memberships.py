"""Memberships: whether a contact takes part in a program, and a tier that they were given by hand."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from litestar.params import FromPath

from crm.api import paging
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, put
from crm.api.schemas import Body, Instant, Line, Reference
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.loyalty import memberships, pins
from crm.loyalty.journal import NotEnrolled
from crm.loyalty.memberships import Membership, MembershipNotFound
from crm.loyalty.pins import PinEndsTooEarly, TierPin, TierPinNotFound
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.tiers import TierNotFound


class MembershipBody(Body):
    """What a membership shall be; without a `terms_version` the one that was accepted stays."""

    status: Literal["active", "paused", "closed"]
    terms_version: Reference | None = None


class NewTierPin(Body):
    """A tier to give by hand, until an instant or for good."""

    program_id: UUID | None = None
    tier_id: UUID
    until: Instant | None = None
    reason: Line


@put(
    "/contacts/{contact_id:uuid}/memberships/{program_id:uuid}",
    scopes={"loyalty:write"},
    problems=(ContactNotFound, ProgramNotFound),
)
async def set_membership(
    session: Session, contact_id: FromPath[UUID], program_id: FromPath[UUID], data: MembershipBody, by: str,
    now: datetime,
) -> Membership:  # fmt: skip
    """Enrol a contact in a program, or pause, close or resume the membership.

    Paused or closed, a member neither earns nor spends; refunds and reversals still count, and points still end.
    """
    return await memberships.put(
        session, program_id=program_id, contact_id=contact_id, status=data.status, terms_version=data.terms_version,
        by=by, now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/memberships", scopes={"loyalty:read"}, problems=(ContactNotFound,))
async def list_memberships(
    session: Session, contact_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Membership]:
    """List a contact's memberships, of the oldest program first."""
    after = paging.decode(cursor, UUID)
    found = await memberships.page(session, contact_id=contact_id, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda membership: (membership.program_id,))


@get(
    "/contacts/{contact_id:uuid}/memberships/{program_id:uuid}",
    scopes={"loyalty:read"},
    problems=(MembershipNotFound,),
)
async def get_membership(session: Session, contact_id: FromPath[UUID], program_id: FromPath[UUID]) -> Membership:
    """Read a contact's membership of a program."""
    return await memberships.get(session, contact_id=contact_id, program_id=program_id)


@put(
    "/contacts/{contact_id:uuid}/tier-pin",
    scopes={"loyalty:adjust"},
    problems=(*PROGRAM, NotEnrolled, TierNotFound, PinEndsTooEarly),
)
async def pin_tier(session: Session, contact_id: FromPath[UUID], data: NewTierPin, by: str, now: datetime) -> TierPin:
    """Give a contact a tier by hand.

    It is a floor until it ends: whoever earns a higher one has that.
    """
    return await pins.put(
        session, program_id=data.program_id, contact_id=contact_id, tier_id=data.tier_id, until=data.until,
        reason=data.reason, by=by, now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/tier-pin", scopes={"loyalty:read"}, problems=(*PROGRAM, TierPinNotFound))
async def get_tier_pin(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None
) -> TierPin:
    """Read which tier a contact was given by hand."""
    return await pins.get(session, program_id=program, contact_id=contact_id, now=now)


@delete(
    "/contacts/{contact_id:uuid}/tier-pin",
    scopes={"loyalty:adjust"},
    problems=(*PROGRAM, NotEnrolled, TierPinNotFound),
)
async def unpin_tier(
    session: Session, contact_id: FromPath[UUID], by: str, now: datetime, program: ProgramId = None
) -> None:
    """End what a contact was given by hand: they stand where their facts put them."""
    await pins.delete(session, program_id=program, contact_id=contact_id, by=by, now=now)


handlers = [
    set_membership, list_memberships, get_membership,
    pin_tier, get_tier_pin, unpin_tier,
]  # fmt: skip
