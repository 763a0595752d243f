"""`/v1/programs/{program_id}/tiers` and its tier policy."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar.params import FromPath
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.earning_rules import Factor
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post, put
from crm.api.schemas import NOTHING, WHOLE, Body, Line, Text, one_of
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import programs, tiers
from crm.loyalty.programs import ProgramNotFound, UnknownReward
from crm.loyalty.tiers import ThresholdTaken, TierNotFound, TierPolicy, TierView


class BenefitsBody(Body):
    """What a tier gives: a factor on what is earned, rewards on entry and renewal, and what else is said of it."""

    earn_factor: Factor = "1"
    reward_ids: list[UUID] = Field(default=[], max_length=20)
    text: Text | None = None


class NewTier(Body):
    """A rank that members reach at `threshold`."""

    name: Line
    threshold: Annotated[int, Field(ge=0, le=2**53 - 1)]
    benefits: BenefitsBody = BenefitsBody()


class TierPolicyBody(Body):
    """What counts towards the tiers, for how long, and how they are lost. Spending points never lowers a tier."""

    model_config = one_of(
        (("window", "months"), {"window": {"const": "rolling_months"}, "months": WHOLE}),
        ((), {"window": {"enum": ["lifetime", "calendar_year"]}, "months": NOTHING}),
    )

    basis: Literal["points", "spend", "visits"]
    window: Literal["lifetime", "calendar_year", "rolling_months"] = "lifetime"
    months: Annotated[int, Field(ge=1, le=120)] | None = None
    downgrade: Literal["never", "one_level", "reassess"] = "never"
    grace_days: Annotated[int, Field(ge=0, le=365)] = 0

    @model_validator(mode="after")
    def _months_of_their_window(self) -> "TierPolicyBody":
        if (self.window == "rolling_months") != (self.months is not None):
            raise PydanticCustomError("months", "the window rolling_months takes months, and no other does")
        return self


@post(
    "/programs/{program_id:uuid}/tiers",
    scopes={"programs:write"},
    problems=(ProgramNotFound, ThresholdTaken, UnknownReward),
)
async def create_tier(
    session: Session, program_id: FromPath[UUID], data: NewTier, now: datetime, once: idempotency.Request | None
) -> TierView:
    """Add a tier to a program."""
    await idempotency.begin(session, request=once)
    tier = await programs.add_tier(
        session,
        program_id=program_id,
        name=data.name,
        threshold=data.threshold,
        benefits=data.benefits.model_dump(mode="json", exclude_none=True),
        now=now,
    )
    await idempotency.keep(session, request=once, contact_id=None, result=tier, now=now)
    return tier


@get("/programs/{program_id:uuid}/tiers", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_tiers(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[TierView]:
    """List a program's tiers, lowest first."""
    above = paging.decode(cursor, int)
    found = await programs.tiers_page(
        session, program_id=program_id, above=above[0] if above else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda tier: (tier.threshold,))


@get("/programs/{program_id:uuid}/tiers/{tier_id:uuid}", scopes={"programs:read"}, problems=(TierNotFound,))
async def get_tier(session: Session, program_id: FromPath[UUID], tier_id: FromPath[UUID]) -> TierView:
    """Read a tier."""
    return await tiers.get(session, program_id=program_id, tier_id=tier_id)


@put("/programs/{program_id:uuid}/tier-policy", scopes={"programs:write"}, problems=(ProgramNotFound,))
async def set_tier_policy(
    session: Session, program_id: FromPath[UUID], data: TierPolicyBody, now: datetime
) -> TierPolicy:
    """Decide what counts towards a program's tiers."""
    return await programs.set_tier_policy(
        session, program_id=program_id, policy=TierPolicy(**data.model_dump()), now=now
    )


@get("/programs/{program_id:uuid}/tier-policy", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def get_tier_policy(session: Session, program_id: FromPath[UUID]) -> TierPolicy:
    """Read what counts towards a program's tiers."""
    return await programs.tier_policy(session, program_id=program_id)


handlers = [create_tier, list_tiers, get_tier, set_tier_policy, get_tier_policy]
