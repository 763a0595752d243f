"""Rewards: the catalogue of a program, and what of it a contact can have."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, get_type_hints
from uuid import UUID

import msgspec
from litestar.params import FromPath
from pydantic import Field, StringConstraints, create_model

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.earning_rules import LimitBody, Values, WindowBody
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page, SortBy
from crm.api.requests import decode
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import Body, Line, Patch, Text
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import catalogue, choices, codes
from crm.loyalty.books import POINTS_MAX
from crm.loyalty.catalogue import RewardNotFound, RewardView, UnknownTier
from crm.loyalty.choices import Choice
from crm.loyalty.codes import PatternTooNarrow
from crm.loyalty.programs import ProgramNotFound

Pattern = Annotated[str, StringConstraints(pattern=codes.PATTERN, max_length=codes.LENGTH_MAX)]
"""A pattern of codes, such as `KOPI-####-####`: each `#` is drawn."""


class NewReward(Body):
    """What members can have for points.

    `stock` is what there is of it, left out where nothing limits it. What is issued is `manual`, handed over by
    somebody, or a `voucher`, with a code of the reward's pools, or else a new one of `code_pattern`. It is valid to the
    end of the local day `valid_days` after. Members below the tier `tier_id` can't have it, and nobody of whom the
    `condition` does not hold. `categories` and `skus` say what it is about, for whoever buys such things.
    """

    name: Line
    cost: Annotated[int, Field(ge=0, le=POINTS_MAX)]
    stock: Annotated[int, Field(ge=0, le=POINTS_MAX)] | None = None
    limits: Annotated[list[LimitBody], Field(max_length=10)] | None = None
    fulfilment: Literal["manual", "voucher"] = "manual"
    window: WindowBody | None = None
    condition: ConditionBody | None = None
    tier_id: UUID | None = None
    valid_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    code_pattern: Pattern | None = None
    description: Text | None = None
    categories: Values | None = None
    skus: Values | None = None
    status: Literal["active", "draft", "disabled"] = "active"


_HINTS = get_type_hints(NewReward, include_extras=True)


class _RewardPatch(Patch):
    not_nullable = frozenset({"name", "cost"})


RewardPatch = create_model(
    "RewardPatch",
    __base__=_RewardPatch,
    __doc__="The fields to change; null goes back to the default. `stock` is what is left from now on.",
    **{name: (hint | None, None) for name, hint in _HINTS.items() if name in NewReward.model_fields},  # type: ignore[call-overload]
)


@post(
    "/programs/{program_id:uuid}/rewards",
    scopes={"programs:write"},
    problems=(ProgramNotFound, UnknownTier, InvalidCondition, PatternTooNarrow),
)
async def create_reward(
    session: Session, program_id: FromPath[UUID], data: NewReward, now: datetime, once: idempotency.Request | None
) -> RewardView:
    """Add a reward to a program's catalogue."""
    await idempotency.begin(session, request=once)
    reward = await catalogue.create(
        session, program_id=program_id, definition=_definition(data), stock=data.stock, now=now
    )
    await idempotency.keep(session, request=once, contact_id=None, result=reward, now=now)
    return reward


@get("/programs/{program_id:uuid}/rewards", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_rewards(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[RewardView]:
    """List a program's rewards, in the order they were made."""
    after = paging.decode(cursor, UUID)
    found = await catalogue.page(session, program_id=program_id, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda reward: (reward.id,))


@get("/programs/{program_id:uuid}/rewards/{reward_id:uuid}", scopes={"programs:read"}, problems=(RewardNotFound,))
async def get_reward(session: Session, program_id: FromPath[UUID], reward_id: FromPath[UUID]) -> RewardView:
    """Read a reward."""
    return await catalogue.get(session, program_id=program_id, reward_id=reward_id)


@patch(
    "/programs/{program_id:uuid}/rewards/{reward_id:uuid}",
    scopes={"programs:write"},
    problems=(RewardNotFound, UnknownTier, InvalidCondition, PatternTooNarrow),
)
async def change_reward(
    session: Session, program_id: FromPath[UUID], reward_id: FromPath[UUID], data: RewardPatch, now: datetime
) -> RewardView:
    """Change a reward, from now on: what was issued stays as it was."""
    changes = data.model_dump(mode="json", by_alias=True, exclude_unset=True)
    stock = (changes.pop("stock"),) if "stock" in changes else None
    return await catalogue.change(
        session, program_id=program_id, reward_id=reward_id, merge=partial(_merged, changes), stock=stock, now=now
    )


@delete("/programs/{program_id:uuid}/rewards/{reward_id:uuid}", scopes={"programs:write"}, problems=(RewardNotFound,))
async def end_reward(session: Session, program_id: FromPath[UUID], reward_id: FromPath[UUID], now: datetime) -> None:
    """End a reward; what was issued stays."""
    await catalogue.end(session, program_id=program_id, reward_id=reward_id, now=now)


@get("/contacts/{contact_id:uuid}/rewards", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_rewards_of_contact(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, sort: SortBy = "made",
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Choice]:  # fmt: skip
    """List a program's active rewards for a contact.

    Each says whether the contact can have it now and, if not, every reason why not and by how much; and how well it
    suits the contact, with the reasons.
    """
    found = await choices.page(
        session, program_id=program, contact_id=contact_id, sort=sort, after=paging.decode(cursor, int, UUID),
        limit=limit + 1, now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda choice: (choice.score, choice.id))


def _merged(changes: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in (definition | changes).items() if value is not None}
    return _definition(decode(NewReward, msgspec.json.encode(kept)))


def _definition(data: NewReward) -> dict[str, Any]:
    if data.code_pattern is not None:
        codes.check_pattern(data.code_pattern, count=codes.ENDLESS, pointer="/code_pattern")
    return data.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"stock"})


handlers = [
    create_reward, list_rewards, get_reward, change_reward, end_reward, list_rewards_of_contact,
]  # fmt: skip
