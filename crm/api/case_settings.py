"""`/v1/business-calendars`, `/v1/sla-policies` and `/v1/case-rules`: by what cases are opened and measured."""

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.cases import AgentId, Category, Names
from crm.api.conditions import ConditionBody
from crm.api.etags import IfMatch, etag, version_of
from crm.api.interactions import Channel
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import YEAR_MAX, YEAR_MIN, Body, Code, Duration, Line, Patch, TimeZone
from crm.care import calendars, case_rules, policies
from crm.care.calendars import (
    WEEKDAYS,
    BusinessCalendar,
    CalendarNotFound,
    InvalidCalendar,
    StaleCalendar,
    TooManyCalendars,
)
from crm.care.case_rules import Action, Assignment, CaseRule, CaseRuleNotFound, StaleCaseRule, TooManyCaseRules
from crm.care.casework import Priority
from crm.care.clocks import Metric
from crm.care.policies import Escalation, Policy, PolicyNotFound, StalePolicy, TooManyPolicies, UnknownCalendar
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty.vocabulary import VOCABULARY

SPANS_MAX: Final = 10
EXCEPTIONS_MAX: Final = 1_000
ESCALATIONS_MAX: Final = 20
KEYWORDS_MAX: Final = 50
TARGET_MAX: Final = timedelta(days=366)
POSITION_MAX: Final = 1_000_000

_TIME = r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"
_DAY = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"
_SPANS_SCHEMA: Final[dict[str, Any]] = {
    "type": "array", "maxItems": SPANS_MAX,
    "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string", "pattern": _TIME}},
    "examples": [[["09:00", "12:00"], ["13:00", "17:00"]]],
}  # fmt: skip
_Time = Annotated[str, StringConstraints(pattern=_TIME)]
_Spans = Annotated[list[Annotated[list[_Time], Field(min_length=2, max_length=2)]], Field(max_length=SPANS_MAX)]


def _days(value: Mapping[str, Any]) -> Mapping[str, Any]:
    for day in value:
        try:
            found = date.fromisoformat(day) if re.match(_DAY, day, re.ASCII) else None
        except ValueError:
            found = None
        if found is None or not YEAR_MIN <= found.year <= YEAR_MAX:
            raise PydanticCustomError("date_out_of_range", 'must be days, such as "2026-12-25"')
    return value


def _target(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= TARGET_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be from one second to 366 days")
    return value


def _span(value: timedelta) -> timedelta:
    if value > TARGET_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be at most 366 days")
    return value


Hours = Annotated[
    dict[Literal[WEEKDAYS], _Spans],  # type: ignore[valid-type]
    Field(min_length=1),
    WithJsonSchema({
        "type": "object", "description": "By weekday: several spans, from a time to before a later one.",
        "properties": dict.fromkeys(WEEKDAYS, _SPANS_SCHEMA), "additionalProperties": False, "minProperties": 1,
    }),
]  # fmt: skip
Exceptions = Annotated[
    dict[str, _Spans],
    Field(max_length=EXCEPTIONS_MAX),
    AfterValidator(_days),
    WithJsonSchema({
        "type": "object", "description": "By day: its spans instead of those of its weekday; none on a holiday.",
        "propertyNames": {"pattern": _DAY, "format": "date"}, "additionalProperties": _SPANS_SCHEMA,
        "maxProperties": EXCEPTIONS_MAX,
    }),
]  # fmt: skip
Position = Annotated[int, Field(ge=0, le=POSITION_MAX, description="The lowest is tried first.")]
Target = Annotated[Duration, AfterValidator(_target)]
Period = Annotated[Duration, AfterValidator(_span)]
Targets = Annotated[
    dict[Priority, dict[Metric, Target]],
    Field(description="By priority, then by clock, in working time."),
]


class NewCalendar(Body):
    """When people are at work, by the clock on the wall of a time zone."""

    name: Line
    time_zone: TimeZone
    hours: Hours
    exceptions: Annotated[Exceptions, Field(default_factory=dict)]


class CalendarPatch(Patch):
    """What can change; `hours` and `exceptions` are given whole."""

    name: Line | None = None
    time_zone: TimeZone | None = None
    hours: Hours | None = None
    exceptions: Exceptions | None = None

    not_nullable = frozenset({"name", "time_zone", "hours", "exceptions"})


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


class NewPolicy(Body):
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


class PolicyPatch(Patch):
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


class AssignmentBody(Body):
    """Who gets the cases: one agent, or one of a team who has all of the skills, by turns or the least busy."""

    mode: Literal["manual", "round_robin", "least_busy"]
    agent: AgentId | None = None
    team: Code | None = None
    skills: Annotated[Names, Field(default_factory=list)]

    def assignment(self) -> Assignment:
        """The same, for the rule."""
        return Assignment(self.mode, self.agent, self.team, list(self.skills))


Channels = Annotated[list[Channel], Field(max_length=20)]
Accounts = Annotated[list[UUID], Field(max_length=100)]
Keywords = Annotated[list[Line], Field(max_length=KEYWORDS_MAX, description="Whole words, however they are written.")]


class NewCaseRule(Body):
    """Which messages of customers become cases, and of what kind; or which never do.

    Conditions may ask `message.channel`, `message.account_id`, `message.subject`, `message.body` and
    `message.new_thread` besides the fields of contacts and `open_cases`.
    """

    name: Line
    position: Position = 100
    action: Action = "open_case"
    channels: Annotated[Channels, Field(default_factory=list)]
    account_ids: Annotated[Accounts, Field(default_factory=list)]
    keywords: Annotated[Keywords, Field(default_factory=list)]
    new_thread_only: bool = False
    condition: ConditionBody | None = None
    category: Category | None = None
    priority: Priority = "normal"
    tags: Annotated[Names, Field(default_factory=list)]
    assignment: AssignmentBody | None = None


class CaseRulePatch(Patch):
    """What can change, for the messages that come from now on."""

    name: Line | None = None
    position: Position | None = None
    action: Action | None = None
    channels: Channels | None = None
    account_ids: Accounts | None = None
    keywords: Keywords | None = None
    new_thread_only: bool | None = None
    condition: ConditionBody | None = None
    category: Category | None = None
    priority: Priority | None = None
    tags: Names | None = None
    assignment: AssignmentBody | None = None
    status: Literal["active", "archived"] | None = None

    not_nullable = frozenset({
        "name", "position", "action", "channels", "account_ids", "keywords", "new_thread_only", "priority", "tags",
        "status",
    })  # fmt: skip


@post(
    "/business-calendars",
    scopes={"care:write"},
    problems=(InvalidCalendar, TooManyCalendars),
    headers=("ETag", "Location"),
)
async def create_business_calendar(
    session: Session, data: NewCalendar, now: datetime, once: idempotency.Request | None
) -> Response[BusinessCalendar]:
    """Create a business calendar."""
    await idempotency.begin(session, request=once)
    calendar = await calendars.create(
        session, name=data.name, time_zone=data.time_zone, hours=data.hours, exceptions=data.exceptions, once=once,
        now=now,
    )  # fmt: skip
    headers = etag(calendar.version) | {"Location": f"/v1/business-calendars/{calendar.id}"}
    return Response(calendar, headers=headers)


@get("/business-calendars", scopes={"care:read"})
async def list_business_calendars(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[BusinessCalendar]:
    """List business calendars, newest first."""
    before = paging.decode(cursor, UUID)
    found = await calendars.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda calendar: (calendar.id,))


@get("/business-calendars/{calendar_id:uuid}", scopes={"care:read"}, problems=(CalendarNotFound,), headers=("ETag",))
async def get_business_calendar(session: Session, calendar_id: FromPath[UUID]) -> Response[BusinessCalendar]:
    """Read a business calendar."""
    calendar = await calendars.get(session, calendar_id=calendar_id)
    return Response(calendar, headers=etag(calendar.version))


@patch(
    "/business-calendars/{calendar_id:uuid}",
    scopes={"care:write"},
    problems=(CalendarNotFound, StaleCalendar, InvalidCalendar),
    headers=("ETag",),
)
async def update_business_calendar(
    session: Session, calendar_id: FromPath[UUID], data: CalendarPatch, now: datetime, if_match: IfMatch = None
) -> Response[BusinessCalendar]:
    """Change a business calendar.

    Within a minute or so, the clocks that run go by it as it is then, as far back as they have run without a pause.
    """
    changes: dict[str, Any] = {name: getattr(data, name) for name in data.model_fields_set}
    calendar = await calendars.update(
        session, calendar_id=calendar_id, changes=changes, version=version_of(if_match), now=now
    )
    return Response(calendar, headers=etag(calendar.version))


@post(
    "/sla-policies",
    scopes={"care:write"},
    problems=(InvalidCondition, UnknownCalendar, TooManyPolicies),
    headers=("ETag", "Location"),
)
async def create_sla_policy(
    session: Session, data: NewPolicy, now: datetime, once: idempotency.Request | None
) -> Response[Policy]:
    """Create an SLA policy, for the cases that are opened from now on."""
    await idempotency.begin(session, request=once)
    definition = {name: getattr(data, name) for name in NewPolicy.model_fields}
    definition["escalations"] = [each.escalation() for each in data.escalations]
    policy = await policies.create(session, vocabulary=VOCABULARY, definition=definition, once=once, now=now)
    return Response(policy, headers=etag(policy.version) | {"Location": f"/v1/sla-policies/{policy.id}"})


@get("/sla-policies", scopes={"care:read"})
async def list_sla_policies(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[Policy]:
    """List SLA policies in the order in which they are tried."""
    after = paging.decode(cursor, int, UUID)
    found = await policies.page(session, after=_place(after), limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda policy: (policy.position, policy.id))


@get("/sla-policies/{policy_id:uuid}", scopes={"care:read"}, problems=(PolicyNotFound,), headers=("ETag",))
async def get_sla_policy(session: Session, policy_id: FromPath[UUID]) -> Response[Policy]:
    """Read an SLA policy."""
    policy = await policies.get(session, policy_id=policy_id)
    return Response(policy, headers=etag(policy.version))


@patch(
    "/sla-policies/{policy_id:uuid}",
    scopes={"care:write"},
    problems=(PolicyNotFound, StalePolicy, InvalidCondition, UnknownCalendar),
    headers=("ETag",),
)
async def update_sla_policy(
    session: Session, policy_id: FromPath[UUID], data: PolicyPatch, now: datetime, if_match: IfMatch = None
) -> Response[Policy]:
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


@post("/case-rules", scopes={"care:write"}, problems=(InvalidCondition, TooManyCaseRules), headers=("ETag", "Location"))
async def create_case_rule(
    session: Session, data: NewCaseRule, now: datetime, once: idempotency.Request | None
) -> Response[CaseRule]:
    """Create a case rule, for the messages that come from now on."""
    await idempotency.begin(session, request=once)
    definition = _rule({name: getattr(data, name) for name in NewCaseRule.model_fields})
    rule = await case_rules.create(session, vocabulary=VOCABULARY, definition=definition, once=once, now=now)
    return Response(rule, headers=etag(rule.version) | {"Location": f"/v1/case-rules/{rule.id}"})


@get("/case-rules", scopes={"care:read"})
async def list_case_rules(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[CaseRule]:
    """List case rules in the order in which they are tried."""
    after = paging.decode(cursor, int, UUID)
    found = await case_rules.page(session, after=_place(after), limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda rule: (rule.position, rule.id))


@get("/case-rules/{rule_id:uuid}", scopes={"care:read"}, problems=(CaseRuleNotFound,), headers=("ETag",))
async def get_case_rule(session: Session, rule_id: FromPath[UUID]) -> Response[CaseRule]:
    """Read a case rule."""
    rule = await case_rules.get(session, rule_id=rule_id)
    return Response(rule, headers=etag(rule.version))


@patch(
    "/case-rules/{rule_id:uuid}",
    scopes={"care:write"},
    problems=(CaseRuleNotFound, StaleCaseRule, InvalidCondition),
    headers=("ETag",),
)
async def update_case_rule(
    session: Session, rule_id: FromPath[UUID], data: CaseRulePatch, now: datetime, if_match: IfMatch = None
) -> Response[CaseRule]:
    """Change a case rule."""
    changes = _rule({name: getattr(data, name) for name in data.model_fields_set})
    rule = await case_rules.update(
        session, vocabulary=VOCABULARY, rule_id=rule_id, changes=changes, version=version_of(if_match), now=now
    )
    return Response(rule, headers=etag(rule.version))


def _rule(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("assignment") is not None:
        given["assignment"] = given["assignment"].assignment()
    if "account_ids" in given:
        given["account_ids"] = [str(account_id) for account_id in given["account_ids"]]
    return given


def _place(after: tuple[Any, ...] | None) -> tuple[int, UUID] | None:
    return None if after is None else (min(max(after[0], 0), POSITION_MAX), after[1])


handlers = [
    create_business_calendar, list_business_calendars, get_business_calendar, update_business_calendar,
    create_sla_policy, list_sla_policies, get_sla_policy, update_sla_policy,
    create_case_rule, list_case_rules, get_case_rule, update_case_rule,
]  # fmt: skip
