"""Referrals: what a program promises for them, a contact's code, and the friends who came with it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar.params import FromPath
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.loyalty import MEMBERSHIP, PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post, put
from crm.api.schemas import Amount, Body, Reference
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import referrals
from crm.loyalty.books import POINTS_MAX
from crm.loyalty.codes import PatternUsedUp
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.referrals import (
    Cap,
    Referral,
    ReferralCode,
    ReferralNotFound,
    ReferralPolicy,
    ReferralPolicyNotFound,
)
from crm.loyalty.rewards import NotEligible

_PointsOrNone = Annotated[int, Field(ge=0, le=POINTS_MAX)]


class CapBody(Body):
    """How many friends one member may refer in one period of the program's calendar."""

    times: Annotated[int, Field(ge=1, le=1_000_000)]
    per: Literal["day", "week", "month", "year", "lifetime"]


class ReferralPolicyBody(Body):
    """What both sides get once the friend's order comes to `min_spend`.

    The points are pending until the local midnight `hold_days` after that order: as long as it can be given back.
    """

    referrer_points: _PointsOrNone
    referee_points: _PointsOrNone
    min_spend: Amount
    hold_days: Annotated[int, Field(ge=0, le=3650)]
    cap: CapBody | None = None

    @model_validator(mode="after")
    def _for_somebody(self) -> "ReferralPolicyBody":
        if not self.referrer_points and not self.referee_points:
            raise PydanticCustomError("points_for_nobody", "give points to one side at least")
        return self

    def policy(self) -> ReferralPolicy:
        """What is promised."""
        cap = None if self.cap is None else Cap(self.cap.times, self.cap.per)
        return ReferralPolicy(self.referrer_points, self.referee_points, f"{self.min_spend:f}", self.hold_days, cap)


class NewReferral(Body):
    """The code with which a contact came."""

    program_id: UUID | None = None
    code: Reference


@put("/programs/{program_id:uuid}/referral-policy", scopes={"programs:write"}, problems=(ProgramNotFound,))
async def set_referral_policy(
    session: Session, program_id: FromPath[UUID], data: ReferralPolicyBody, now: datetime
) -> ReferralPolicy:
    """Promise points for referrals.

    Friends who came before keep what they were promised.
    """
    return await referrals.set_policy(session, program_id=program_id, policy=data.policy(), now=now)


@get("/programs/{program_id:uuid}/referral-policy", scopes={"programs:read"}, problems=(ReferralPolicyNotFound,))
async def get_referral_policy(session: Session, program_id: FromPath[UUID]) -> ReferralPolicy:
    """Read what a program promises for referrals."""
    return await referrals.policy(session, program_id=program_id)


@delete("/programs/{program_id:uuid}/referral-policy", scopes={"programs:write"}, problems=(ReferralPolicyNotFound,))
async def end_referral_policy(session: Session, program_id: FromPath[UUID]) -> None:
    """Promise nothing for referrals any more.

    Friends who came before keep what they were promised.
    """
    await referrals.end_policy(session, program_id=program_id)


@get("/contacts/{contact_id:uuid}/referral-code", scopes={"loyalty:read"}, problems=(*PROGRAM, PatternUsedUp))
async def get_referral_code(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None
) -> ReferralCode:
    """Read the code that a contact tells friends.

    It is made when it is asked for first, and stays the same.
    """
    return await referrals.code_of(session, program_id=program, contact_id=contact_id, now=now)


@post(
    "/contacts/{contact_id:uuid}/referrals",
    scopes={"loyalty:write"},
    problems=(*PROGRAM, *MEMBERSHIP, NotEligible),
)
async def record_referral(
    session: Session, contact_id: FromPath[UUID], data: NewReferral, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Referral:  # fmt: skip
    """Record with whose code a contact came.

    Their first order from now on that is large enough rewards both. Refused with a `reason` for one's own code, the
    same person by e-mail or phone, whoever has bought something or came with a code before, and above the cap.
    """
    return await referrals.refer(
        session, program_id=data.program_id, contact_id=contact_id, code=data.code, by=by, once=once, now=now
    )


@get("/contacts/{contact_id:uuid}/referrals", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_referrals(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Referral]:  # fmt: skip
    """List a contact's referrals, newest first.

    By whom the contact was referred, and whom the contact refers.
    """
    before = paging.decode(cursor, UUID)
    found = await referrals.page(
        session, program_id=program, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1,
        now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda referral: (referral.id,))


@get("/contacts/{contact_id:uuid}/referrals/{referral_id:uuid}", scopes={"loyalty:read"}, problems=(ReferralNotFound,))
async def get_referral(
    session: Session, contact_id: FromPath[UUID], referral_id: FromPath[UUID], now: datetime
) -> Referral:
    """Read a referral, as this contact has it."""
    return await referrals.get(session, contact_id=contact_id, referral_id=referral_id, now=now)


handlers = [
    set_referral_policy, get_referral_policy, end_referral_policy, get_referral_code,
    record_referral, list_referrals, get_referral,
]  # fmt: skip
