"""`/v1/sla-policies`: how fast cases have to be answered and resolved."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.cases import AgentId
from crm.api.conditions import ConditionBody
from crm.api.etags import IfMatch, etag, version_of
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import Body, Duration, Line, Patch
from crm.care import policies
from crm.care.casework import Priority
from crm.care.clocks import Metric
from crm.care.policies import (
    Escalation,
    SlaPolicy,
    SlaPolicyNotFound,
    StaleSlaPolicy,
    TooManySlaPolicies,
    UnknownCalendar,
)
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.vocabulary import VOCABULARY

ESCALATIONS_MAX: Final = 20
TARGET_MAX: Final = timedelta(days=366)
POSITION_MAX: Final = 1_000_000


def _target(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= TARGET_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be from one second to 366 days")
    return value


def _span(value: timedelta) -> timedelta:
    if value > TARGET_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be at most 366 days")
    return value


Position = Annotated[int, Field(ge=0, le=POSITION_MAX, description="The lowest is tried first.")]
Target = Annotated[Duration, AfterValidator(_target)]
Period = Annotated[Duration, AfterValidator(_span)]
Targets = Annotated[
    dict[Priority, dict[Metric, Target]],
    Field(description="By priority, then by clock, in working time."),
]


class EscalationBody(Body):
    """What happens when so much is left on a clock; at the breach without `before`."""

    metric: Metric
    before: Annotated[Period, Field(default_factory=timedelta, validate_default=False)]
    assignee: AgentId | None = None
    priority: Priority | None = None
    task: Line | None = None

    def escalation(self) -> Escalation:
        """The same, for the policy."""
        return Escalation(self.metric, self.before, self.assignee, self.priority, self.task)


Escalations = Annotated[list[EscalationBody], Field(max_length=ESCALATIONS_MAX)]


class NewSlaPolicy(Body):
    """How fast cases have to be answered and resolved. Without a calendar, time counts around the clock.

    Conditions may ask `case.priority`, `case.category`, `case.channel`, `case.subject` and `case.tags` besides the
    fields of contacts and `open_cases`.
    """

    name: Line
    position: Position = 100
    condition: ConditionBody | None = None
    calendar_id: UUID | None = None
    targets: Targets
    pauses_while_waiting: bool = True
    escalations: Annotated[Escalations, Field(default_factory=list)]
    reopen_within: Annotated[Period, Field(default_factory=lambda: timedelta(days=7), validate_default=False)]


class SlaPolicyPatch(Patch):
    """What can change, for cases that are opened or change their kind from now on."""

    name: Line | None = None
    position: Position | None = None
    condition: ConditionBody | None = None
    calendar_id: UUID | None = None
    targets: Targets | None = None
    pauses_while_waiting: bool | None = None
    escalations: Escalations | None = None
    reopen_within: Period | None = None
    status: Literal["active", "archived"] | None = None

    not_nullable = frozenset({
        "name", "position", "targets", "pauses_while_waiting", "escalations", "reopen_within", "status",
    })  # fmt: skip


@post(
    "/sla-policies",
    scopes={"care:write"},
    problems=(InvalidCondition, UnknownCalendar, TooManySlaPolicies),
    headers=("ETag", "Location"),
)
async def create_sla_policy(
    session: Session, data: NewSlaPolicy, now: datetime, once: idempotency.Request | None
) -> Response[SlaPolicy]:
    """Create an SLA policy, for the cases that are opened from now on."""
    await idempotency.begin(session, request=once)
    definition = {name: getattr(data, name) for name in NewSlaPolicy.model_fields}
    definition["escalations"] = [each.escalation() for each in data.escalations]
    policy = await policies.create(session, vocabulary=VOCABULARY, definition=definition, once=once, now=now)
    return Response(policy, headers=etag(policy.version) | {"Location": f"/v1/sla-policies/{policy.id}"})


@get("/sla-policies", scopes={"care:read"})
async def list_sla_policies(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[SlaPolicy]:
    """List SLA policies in the order in which they are tried."""
    after = paging.decode(cursor, int, UUID)
    found = await policies.page(session, after=place(after), limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda policy: (policy.position, policy.id))


@get("/sla-policies/{policy_id:uuid}", scopes={"care:read"}, problems=(SlaPolicyNotFound,), headers=("ETag",))
async def get_sla_policy(session: Session, policy_id: FromPath[UUID]) -> Response[SlaPolicy]:
    """Read an SLA policy."""
    policy = await policies.get(session, policy_id=policy_id)
    return Response(policy, headers=etag(policy.version))


@patch(
    "/sla-policies/{policy_id:uuid}",
    scopes={"care:write"},
    problems=(SlaPolicyNotFound, StaleSlaPolicy, InvalidCondition, UnknownCalendar),
    headers=("ETag",),
)
async def update_sla_policy(
    session: Session, policy_id: FromPath[UUID], data: SlaPolicyPatch, now: datetime, if_match: IfMatch = None
) -> Response[SlaPolicy]:
    """Change an SLA policy.

    Clocks that run keep their targets, until their case changes its priority, category, subject or tags.
    """
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    if data.escalations is not None:
        changes["escalations"] = [each.escalation() for each in data.escalations]
    policy = await policies.update(
        session, vocabulary=VOCABULARY, policy_id=policy_id, changes=changes, version=version_of(if_match), now=now
    )
    return Response(policy, headers=etag(policy.version))


def place(after: tuple[Any, ...] | None) -> tuple[int, UUID] | None:
    """The position and id in a cursor, as they can be asked for."""
    return None if after is None else (min(max(after[0], 0), POSITION_MAX), after[1])


handlers = [create_sla_policy, list_sla_policies, get_sla_policy, update_sla_policy]
