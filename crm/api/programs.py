"""`/v1/programs`: programs, their earning rules and tiers."""

from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, get_type_hints
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath
from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.conditions import ConditionBody
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.requests import decode
from crm.api.routes import delete, get, patch, post, put
from crm.api.schemas import (
    NOTHING,
    WHOLE,
    YEAR_MAX,
    YEAR_MIN,
    Amount,
    Body,
    Code,
    Currency,
    Line,
    Patch,
    Points,
    PositiveAmount,
    Reference,
    Text,
    TimeZone,
    either,
    one_of,
)
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import programs, rules, terms, tiers
from crm.loyalty.programs import ProgramNotFound, ProgramView, UnknownReward
from crm.loyalty.rules import EarningRule, EarningRuleNotFound
from crm.loyalty.tiers import ThresholdTaken, TierNotFound, TierPolicy, TierView


class EarnOnBody(Body):
    tax: bool = False
    shipping: bool = False


_SHARE = r"^(0\.[0-9]{0,5}[1-9]0{0,5}|1(\.0{1,6})?)$"


class ConversionBody(Body):
    """What points are worth: `amount` of money for every `points`, in whole steps.

    `max_share` is the most of an order that can be paid so, as a fraction of 1.
    """

    points: Annotated[int, Field(ge=1, le=1_000_000_000)]
    amount: PositiveAmount
    min_points: Points | None = None
    max_share: Annotated[str, StringConstraints(pattern=_SHARE)] | None = None


class ActivationBody(Body):
    """When earned points become available: some days later, or at an event of the order such as its delivery."""

    model_config = one_of(
        ((), {"event": NOTHING, "cancel_after_days": NOTHING}),
        (("event",), {"event": {"type": "string"}, "days": {"const": 0}}),
    )

    days: Annotated[int, Field(ge=0, le=3650)] = 0
    event: Code | None = None
    cancel_after_days: Annotated[int, Field(ge=0, le=3650)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "ActivationBody":
        if self.event is not None and self.days:
            raise PydanticCustomError("activation", "send either days or event")
        if self.event is None and self.cancel_after_days is not None:
            raise PydanticCustomError("activation", "cancel_after_days goes with an event")
        return self


class ExpiryBody(Body):
    """How long points last: `after` so long from their activation, or `sliding` from the member's last activity."""

    model_config = one_of(
        (("kind",), {"kind": {"const": "never"}, "months": NOTHING, "days": NOTHING, "round_up_to": NOTHING,
                     "activities": NOTHING}),
        (("kind", "months"), {"kind": {"const": "after"}, "months": WHOLE, "days": NOTHING, "activities": NOTHING}),
        (("kind", "days"), {"kind": {"const": "after"}, "days": WHOLE, "months": NOTHING, "activities": NOTHING}),
        (("kind", "months", "activities"), {"kind": {"const": "sliding"}, "months": WHOLE, "days": NOTHING,
                                            "activities": {"type": "array", "minItems": 1}, "round_up_to": NOTHING}),
    )  # fmt: skip

    kind: Literal["never", "after", "sliding"]
    months: Annotated[int, Field(ge=1, le=1200)] | None = None
    days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    round_up_to: Literal["month", "quarter", "year"] | None = None
    activities: Annotated[list[Code], Field(max_length=50)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "ExpiryBody":
        given = {name for name in ("months", "days", "round_up_to", "activities") if getattr(self, name) is not None}
        if self.kind == "never" and given:
            raise PydanticCustomError("expiry", "what never expires has no further terms")
        if self.kind == "after" and ("activities" in given or len(given & {"months", "days"}) != 1):
            raise PydanticCustomError("expiry", "send either months or days with the kind 'after', and no activities")
        if self.kind == "sliding" and (given != {"months", "activities"} or not self.activities):
            raise PydanticCustomError("expiry", "the kind 'sliding' takes months and activities")
        return self


class AwardLimitsBody(Body):
    """How much callers who may not adjust points may give by hand: at once, in a day, and to one member in a day."""

    points_max: Points | None = None
    points_per_day: Points | None = None
    member_points_per_day: Points | None = None


ReturnPolicy = Literal["only_pending", "within_balance", "unlimited"]
SpentReturnPolicy = Literal["prorate", "full_refund_only", "none"]
Milestones = Annotated[list[Points], Field(max_length=50)]
Share = Annotated[str, StringConstraints(pattern=r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$")]
"""A decimal in a string, between 0 and 1."""


class NewProgram(Body):
    """A loyalty scheme. The first one is the default.

    What its points are a liability for: `cost_per_point`, in its currency, and the share that will expire unspent.
    """

    name: Line
    currency: Currency
    time_zone: TimeZone
    default: bool | None = None
    rounding: Literal["floor", "nearest", "ceil"] = "floor"
    earn_on: EarnOnBody = EarnOnBody()
    redemption: ConversionBody | None = None
    award_limits: AwardLimitsBody | None = None
    activation: ActivationBody = ActivationBody()
    expiry: ExpiryBody = ExpiryBody(kind="never")
    return_policy: ReturnPolicy = "within_balance"
    spent_return_policy: SpentReturnPolicy = "prorate"
    return_grace_days: Annotated[int, Field(ge=0, le=3650)] = 0
    milestones: Milestones = Field(default=[])
    enrolment: Literal["automatic", "explicit"] = "automatic"
    cost_per_point: Amount | None = None
    expected_breakage: Share | None = None


class ProgramPatch(Patch):
    """What can change; the currency can't: points were earned in it.

    Turning expiry on starts the clock for points already held; another length leaves them as they are, unless
    `expiry_applies_to` says `all`.
    """

    name: Line | None = None
    time_zone: TimeZone | None = None
    default: Literal[True] | None = None
    rounding: Literal["floor", "nearest", "ceil"] | None = None
    earn_on: EarnOnBody | None = None
    redemption: ConversionBody | None = None
    award_limits: AwardLimitsBody | None = None
    activation: ActivationBody | None = None
    expiry: ExpiryBody | None = None
    expiry_applies_to: Literal["new", "all"] = "new"
    return_policy: ReturnPolicy | None = None
    spent_return_policy: SpentReturnPolicy | None = None
    return_grace_days: Annotated[int, Field(ge=0, le=3650)] | None = None
    milestones: Milestones | None = None
    enrolment: Literal["automatic", "explicit"] | None = None
    cost_per_point: Amount | None = None
    expected_breakage: Share | None = None

    not_nullable = frozenset({
        "name", "time_zone", "default", "rounding", "earn_on", "activation", "expiry", "return_policy",
        "spent_return_policy", "return_grace_days", "milestones", "enrolment",
    })  # fmt: skip


_SETTINGS = (
    "rounding", "earn_on", "activation", "expiry", "return_policy", "spent_return_policy", "return_grace_days",
    "milestones", "enrolment", "redemption", "award_limits", "cost_per_point", "expected_breakage",
)  # fmt: skip


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


@post("/programs", scopes={"programs:write"}, headers=("ETag",))
async def create_program(
    session: Session, data: NewProgram, now: datetime, once: idempotency.Request | None
) -> Response[ProgramView]:
    """Create a program.

    The first one becomes the default, which calls that name no program are about.
    """
    await idempotency.begin(session, request=once)
    program = await programs.create(
        session,
        name=data.name,
        currency=data.currency,
        time_zone=data.time_zone,
        default=data.default,
        settings=data.model_dump(mode="json", include=set(_SETTINGS), exclude_none=True),
        now=now,
    )
    await idempotency.keep(session, request=once, contact_id=None, result=program, now=now)
    return Response(program, headers=etag(program.version))


@get("/programs", scopes={"programs:read"})
async def list_programs(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[ProgramView]:
    """List the programs, newest first."""
    before = paging.decode(cursor, UUID)
    found = await programs.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda program: (program.id,))


@get("/programs/{program_id:uuid}", scopes={"programs:read"}, problems=(ProgramNotFound,), headers=("ETag",))
async def get_program(session: Session, program_id: FromPath[UUID]) -> Response[ProgramView]:
    """Read a program."""
    program = await programs.get(session, program_id=program_id)
    return Response(program, headers=etag(program.version))


@patch("/programs/{program_id:uuid}", scopes={"programs:write"}, problems=(ProgramNotFound,), headers=("ETag",))
async def change_program(
    session: Session, program_id: FromPath[UUID], data: ProgramPatch, now: datetime, if_match: IfMatch = None
) -> Response[ProgramView]:
    """Change a program, from now on: what was earned stays as it was."""
    given = data.model_dump(mode="json", include=data.model_fields_set, exclude_none=True)
    changes: dict[str, Any] = {name: given[name] for name in ("name", "time_zone") if name in given}
    changes["is_default"] = given.get("default")
    changes["settings"] = {name: given.get(name) for name in _SETTINGS if name in data.model_fields_set}
    program = await terms.change(
        session, program_id=program_id, version=version_of(if_match), changes=changes,
        applies_to_all=data.expiry_applies_to == "all", now=now,
    )  # fmt: skip
    return Response(program, headers=etag(program.version))


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


def _merged(changes: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in (definition | changes).items() if value is not None}
    return _definition(decode(NewEarningRule, msgspec.json.encode(kept)))


def _definition(data: NewEarningRule) -> dict[str, Any]:
    return data.model_dump(mode="json", by_alias=True, exclude_none=True)


handlers = [
    create_program, list_programs, get_program, change_program,
    create_earning_rule, list_earning_rules, get_earning_rule, change_earning_rule, delete_earning_rule,
    create_tier, list_tiers, get_tier, set_tier_policy, get_tier_policy,
]  # fmt: skip
