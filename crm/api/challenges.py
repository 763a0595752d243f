"""Challenges and stamp cards of a program, and how far a contact has come with them."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, get_type_hints
from uuid import UUID

import msgspec
from litestar.params import FromPath
from pydantic import Field, create_model, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.earning_rules import FilterBody, WindowBody
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.requests import decode
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import Body, Code, Line, Patch, Points, PositiveAmount, either
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import challenges
from crm.loyalty.challenges import ChallengeNotFound, ChallengeView, MemberChallenge, UnknownReward
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.stamping import PURCHASE

_CHANGEABLE = ("name", "points", "reward_id", "filter", "min_spend", "window", "limits", "status")
"""What can be changed. What is counted and how far it goes can't: members have begun."""


class StampLimitBody(Body):
    """How many stamps count for one member in one period of the program's calendar."""

    times: Annotated[int, Field(ge=1, le=1_000_000)]
    per: Literal["day", "week", "month", "year", "lifetime"]


class NewChallenge(Body):
    """Something that members do up to a goal, which gives `points` or the reward `reward_id`, again and again.

    The `event` is `purchase`, a stamp for each, or with `per_unit` for each unit of the lines that match, or the name
    of an event. The kind `streak` counts days, weeks or months in a row that have one.
    """

    model_config = either({"points": "integer", "reward_id": "string"})

    name: Line
    event: Code
    goal: Annotated[int, Field(ge=1, le=1_000_000)]
    points: Points | None = None
    reward_id: UUID | None = None
    kind: Literal["count", "streak"] = "count"
    per: Literal["day", "week", "month"] | None = None
    per_unit: bool = False
    filter: FilterBody | None = None
    min_spend: PositiveAmount | None = None
    window: WindowBody | None = None
    limits: list[StampLimitBody] = Field(default=[], max_length=10)
    status: Literal["active", "draft", "disabled"] = "active"

    @model_validator(mode="after")
    def _of_its_kind(self) -> "NewChallenge":
        if (self.points is None) == (self.reward_id is None):
            raise PydanticCustomError("points_or_reward", "send either points or reward_id")
        if (self.kind == "streak") != (self.per is not None):
            raise PydanticCustomError("per", "a streak says per what, and no other kind does")
        if self.kind == "streak" and (self.limits or self.per_unit):
            raise PydanticCustomError("streak", "a streak counts once in each period: it has no limits and no units")
        if self.event != PURCHASE and (self.per_unit or self.filter or self.min_spend):
            raise PydanticCustomError("event", "per_unit, filter and min_spend go with the event purchase")
        return self


_HINTS = get_type_hints(NewChallenge, include_extras=True)


class _ChallengePatch(Patch):
    not_nullable = frozenset({"name"})


ChallengePatch = create_model(
    "ChallengePatch",
    __base__=_ChallengePatch,
    __doc__="The fields to change; null goes back to the default. The goal and what is counted stay as they are.",
    **{name: (_HINTS[name] | None, None) for name in _CHANGEABLE},  # type: ignore[call-overload]
)


@post(
    "/programs/{program_id:uuid}/challenges",
    scopes={"programs:write"},
    problems=(ProgramNotFound, UnknownReward),
)
async def create_challenge(
    session: Session, program_id: FromPath[UUID], data: NewChallenge, now: datetime, once: idempotency.Request | None
) -> ChallengeView:
    """Add a challenge or a stamp card to a program.

    What is recorded from now on counts. A card is full with as many stamps as the goal says; what is over stands on
    the next one.
    """
    await idempotency.begin(session, request=once)
    challenge = await challenges.create(session, program_id=program_id, definition=_definition(data), now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=challenge, now=now)
    return challenge


@get("/programs/{program_id:uuid}/challenges", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_challenges(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[ChallengeView]:
    """List a program's challenges, in the order they were made."""
    after = paging.decode(cursor, UUID)
    found = await challenges.page(session, program_id=program_id, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda challenge: (challenge.id,))


@get(
    "/programs/{program_id:uuid}/challenges/{challenge_id:uuid}",
    scopes={"programs:read"},
    problems=(ChallengeNotFound,),
)
async def get_challenge(session: Session, program_id: FromPath[UUID], challenge_id: FromPath[UUID]) -> ChallengeView:
    """Read a challenge."""
    return await challenges.get(session, program_id=program_id, challenge_id=challenge_id)


@patch(
    "/programs/{program_id:uuid}/challenges/{challenge_id:uuid}",
    scopes={"programs:write"},
    problems=(ProgramNotFound, ChallengeNotFound, UnknownReward),
)
async def change_challenge(
    session: Session, program_id: FromPath[UUID], challenge_id: FromPath[UUID], data: ChallengePatch, now: datetime
) -> ChallengeView:
    """Change a challenge, from now on: stamps and full cards stay as they were."""
    changes = data.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return await challenges.change(
        session, program_id=program_id, challenge_id=challenge_id, merge=partial(_merged, changes), now=now
    )


@delete(
    "/programs/{program_id:uuid}/challenges/{challenge_id:uuid}",
    scopes={"programs:write"},
    problems=(ProgramNotFound, ChallengeNotFound),
)
async def end_challenge(
    session: Session, program_id: FromPath[UUID], challenge_id: FromPath[UUID], now: datetime
) -> None:
    """End a challenge; what full cards gave stays."""
    await challenges.delete(session, program_id=program_id, challenge_id=challenge_id, now=now)


@get("/contacts/{contact_id:uuid}/challenges", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_challenges_of_contact(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[MemberChallenge]:  # fmt: skip
    """List how far a contact has come with each challenge.

    Those that are open, and those that are not any more where the contact has begun them.
    """
    after = paging.decode(cursor, UUID)
    found = await challenges.page_of_member(
        session, program_id=program, contact_id=contact_id, after=after[0] if after else None, limit=limit + 1, now=now
    )
    return paging.page_of(found, limit=limit, key=lambda challenge: (challenge.id,))


def _merged(changes: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in (definition | changes).items() if value is not None}
    return _definition(decode(NewChallenge, msgspec.json.encode(kept)))


def _definition(data: NewChallenge) -> dict[str, Any]:
    return data.model_dump(mode="json", by_alias=True, exclude_none=True)


handlers = [
    create_challenge, list_challenges, get_challenge, change_challenge, end_challenge, list_challenges_of_contact,
]  # fmt: skip
