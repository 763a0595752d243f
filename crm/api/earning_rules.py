"""`/v1/programs/{program_id}/earning-rules`: how purchases and events earn."""

from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, get_type_hints
from uuid import UUID

import msgspec
from litestar.params import FromPath
from pydantic import AfterValidator, Field, StringConstraints, create_model, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.paging import Cursor, Limit, Page
from crm.api.requests import decode
from crm.api.routes import delete, get, patch, post
from crm.api.schemas import (
    YEAR_MAX,
    YEAR_MIN,
    Amount,
    Body,
    Code,
    Line,
    Patch,
    Points,
    PositiveAmount,
    Reference,
    either,
)
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import rules
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.rules import EarningRule, EarningRuleNotFound

_FACTOR = r"^([0-9]{1,3}(\.[0-9]{1,6})?|1000(\.0{1,6})?)$"
Factor = Annotated[str, StringConstraints(pattern=_FACTOR)]
"""A decimal in a string, between 0 and 1000."""
Hour = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
Values = Annotated[list[Reference], Field(max_length=500)]


class FilterBody(Body):
    """Which lines a rule looks at: any value within a list, all lists, exclusions win."""

    skus: Values | None = None
    categories: Values | None = None
    labels: Values | None = None
    exclude_skus: Values | None = None
    exclude_categories: Values | None = None
    exclude_labels: Values | None = None


def _within_reach(day: date) -> date:
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise PydanticCustomError("date_out_of_range", f"must lie between the years {YEAR_MIN} and {YEAR_MAX}")
    return day


Day = Annotated[date, AfterValidator(_within_reach)]


class WindowBody(Body):
    """When a rule holds, in the program's time zone: days inclusive, hours from the first up to the second."""

    first: Day | None = Field(None, alias="from")
    last: Day | None = Field(None, alias="to")
    weekdays: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(max_length=7)] | None = (
        None
    )
    hours: Annotated[list[Hour], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "WindowBody":
        if self.first is not None and self.last is not None and self.last < self.first:
            raise PydanticCustomError("window", "must end on or after the day it begins")
        return self


class LimitBody(Body):
    """How much one member may have in one period of the program's calendar."""

    model_config = either({"points": "integer", "times": "integer"})

    points: Points | None = None
    times: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    per: Literal["day", "week", "month", "year", "lifetime"]

    @model_validator(mode="after")
    def _one_measure(self) -> "LimitBody":
        if (self.points is None) == (self.times is None):
            raise PydanticCustomError("limit", "send either points or times")
        return self


class NewEarningRule(Body):
    """How purchases and events earn.

    `points` for each `per` of money, unit, visit or event, or a `factor` on what other rules give.
    """

    name: Line
    kind: Literal["per_amount", "per_unit", "per_visit", "per_event", "multiplier"]
    points: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1
    per: Amount = Decimal(1)
    factor: Factor = "1"
    event: Code | None = None
    filter: FilterBody | None = None
    condition: ConditionBody | None = None
    window: WindowBody | None = None
    min_spend: PositiveAmount | None = None
    code: Reference | None = None
    limits: list[LimitBody] = Field(default=[], max_length=10)
    max_points_per_purchase: Points | None = None
    over_max: Literal["trim", "reject"] = "trim"
    stackable: bool = True
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    applies_to: Literal["amount", "all"] = "amount"
    status: Literal["active", "draft", "disabled"] = "active"

    @model_validator(mode="after")
    def _event_of_its_kind(self) -> "NewEarningRule":
        if (self.kind == "per_event") != (self.event is not None):
            raise PydanticCustomError("event", "a rule of the kind per_event names its event, and no other does")
        return self


_HINTS = get_type_hints(NewEarningRule, include_extras=True)


class _RulePatch(Patch):
    not_nullable = frozenset({"name", "kind"})


EarningRulePatch = create_model(
    "EarningRulePatch",
    __base__=_RulePatch,
    __doc__="The fields to change; null goes back to the default.",
    **{name: (hint | None, None) for name, hint in _HINTS.items() if name in NewEarningRule.model_fields},  # type: ignore[call-overload]
)


@post(
    "/programs/{program_id:uuid}/earning-rules",
    scopes={"programs:write"},
    problems=(ProgramNotFound, InvalidCondition),
)
async def create_earning_rule(
    session: Session, program_id: FromPath[UUID], data: NewEarningRule, now: datetime,
    once: idempotency.Request | None,
) -> EarningRule:  # fmt: skip
    """Add an earning rule to a program."""
    await idempotency.begin(session, request=once)
    rule = await rules.create(session, program_id=program_id, definition=_definition(data), now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=rule, now=now)
    return rule


@get("/programs/{program_id:uuid}/earning-rules", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_earning_rules(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[EarningRule]:
    """List a program's earning rules, in rule order."""
    after = paging.decode(cursor, UUID)
    found = await rules.page(session, program_id=program_id, after=after[0] if after else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda rule: (rule.id,))


@get(
    "/programs/{program_id:uuid}/earning-rules/{rule_id:uuid}",
    scopes={"programs:read"},
    problems=(EarningRuleNotFound,),
)
async def get_earning_rule(session: Session, program_id: FromPath[UUID], rule_id: FromPath[UUID]) -> EarningRule:
    """Read an earning rule."""
    return await rules.get(session, program_id=program_id, rule_id=rule_id)


@patch(
    "/programs/{program_id:uuid}/earning-rules/{rule_id:uuid}",
    scopes={"programs:write"},
    problems=(ProgramNotFound, EarningRuleNotFound, InvalidCondition),
)
async def change_earning_rule(
    session: Session, program_id: FromPath[UUID], rule_id: FromPath[UUID], data: EarningRulePatch, now: datetime
) -> EarningRule:
    """Change an earning rule, as its next version; what it earned stays."""
    changes = data.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return await rules.change(session, program_id=program_id, rule_id=rule_id, merge=partial(_merged, changes), now=now)


@delete(
    "/programs/{program_id:uuid}/earning-rules/{rule_id:uuid}",
    scopes={"programs:write"},
    problems=(ProgramNotFound, EarningRuleNotFound),
)
async def delete_earning_rule(
    session: Session, program_id: FromPath[UUID], rule_id: FromPath[UUID], now: datetime
) -> None:
    """End an earning rule; what it earned stays."""
    await rules.delete(session, program_id=program_id, rule_id=rule_id, now=now)


def _merged(changes: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in (definition | changes).items() if value is not None}
    return _definition(decode(NewEarningRule, msgspec.json.encode(kept)))


def _definition(data: NewEarningRule) -> dict[str, Any]:
    return data.model_dump(mode="json", by_alias=True, exclude_none=True)


handlers = [
    create_earning_rule, list_earning_rules, get_earning_rule, change_earning_rule, delete_earning_rule,
]  # fmt: skip
