"""Pools of vouchers: many codes at once, imported or made."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.rewards import Pattern
from crm.api.routes import BATCH_BODY_MAX, get, post
from crm.api.schemas import Line, Points
from crm.api.vouchers import ChosenCode, VoucherTerms
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import voucher_pools, vouchers
from crm.loyalty.catalogue import RewardNotFound
from crm.loyalty.codes import PatternTooNarrow, PatternUsedUp
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.voucher_pools import (
    CODES_MAX,
    FilledPool,
    NotAVoucherReward,
    VoucherPool,
    VoucherPoolNotFound,
)
from crm.loyalty.vouchers import ExpiresInThePast


class NewVoucherPool(VoucherTerms):
    """Up to 10,000 `codes`, or `count` new ones, of the `pattern` if there is one.

    With a `reward_id` they wait to be issued with the reward, on its terms; without, each is a voucher from now on.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["codes"], "properties": {"codes": {"type": "array"}, "count": {"type": "null"}}},
                {"required": ["count"], "properties": {"count": {"type": "integer"}, "codes": {"type": "null"}}},
            ]
        }
    )

    name: Line
    reward_id: UUID | None = None
    uses_max: Points | None = 1
    codes: Annotated[list[ChosenCode], Field(min_length=1, max_length=CODES_MAX)] | None = None
    count: Annotated[int | None, Field(ge=1, le=CODES_MAX, validate_default=True)] = None
    pattern: Pattern | None = None

    @field_validator("count")
    @classmethod
    def _either(cls, value: int | None, info: ValidationInfo) -> int | None:
        if (value is None) is (info.data.get("codes") is None):
            raise PydanticCustomError("count", "either codes or count is needed")
        return value


@post(
    "/programs/{program_id:uuid}/voucher-pools",
    scopes={"programs:write"},
    body_max=BATCH_BODY_MAX,
    problems=(ProgramNotFound, RewardNotFound, NotAVoucherReward, PatternTooNarrow, PatternUsedUp, ExpiresInThePast),
)
async def fill_voucher_pool(
    session: Session, program_id: FromPath[UUID], data: NewVoucherPool, now: datetime,
    once: idempotency.Request | None,
) -> FilledPool:  # fmt: skip
    """Import or make many codes.

    Codes that stand there twice, or are in use anywhere, are left out and told in `duplicates`. A reward can have
    several pools; the oldest is used first.
    """
    terms = vouchers.Terms(
        uses_max=data.uses_max, uses_max_per_member=data.uses_max_per_member, benefit=data.benefit,
        reward_id=data.reward_id, expires_at=data.expires_at,
    )  # fmt: skip
    return await voucher_pools.fill(
        session, program_id=program_id, name=data.name, chosen=data.codes or (), count=data.count or 0,
        pattern=data.pattern, terms=terms, once=once, now=now,
    )  # fmt: skip


@get("/programs/{program_id:uuid}/voucher-pools", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_voucher_pools(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[VoucherPool]:
    """List a program's pools of vouchers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await voucher_pools.page(
        session, program_id=program_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda pool: (pool.id,))


@get(
    "/programs/{program_id:uuid}/voucher-pools/{pool_id:uuid}",
    scopes={"programs:read"},
    problems=(VoucherPoolNotFound,),
)
async def get_voucher_pool(session: Session, program_id: FromPath[UUID], pool_id: FromPath[UUID]) -> VoucherPool:
    """Read a pool of vouchers."""
    return await voucher_pools.get(session, program_id=program_id, pool_id=pool_id)


handlers = [fill_voucher_pool, list_voucher_pools, get_voucher_pool]
