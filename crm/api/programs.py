"""`/v1/programs`: loyalty schemes and their terms."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import (
    NOTHING,
    WHOLE,
    Amount,
    Body,
    Code,
    Currency,
    Line,
    Patch,
    Points,
    PositiveAmount,
    TimeZone,
    one_of,
)
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import programs, terms
from crm.loyalty.programs import ProgramNotFound, ProgramView


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


handlers = [create_program, list_programs, get_program, change_program]
