"""SLA policies: how fast a case has to be answered and resolved, and what happens before it is late."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Integer, Interval, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care import calendars, matching
from crm.care.calendars import CalendarNotFound
from crm.care.casework import NO_TERMS, Case, CaseFile, Priority, Step, Terms
from crm.care.clocks import METRICS, Metric
from crm.contacts.conditions import Condition
from crm.contacts.vocabulary import Vocabulary
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, FieldError, Invalid, NotFound, Stale

sla_policies = Table(
    "sla_policies",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("condition", JSONB),
    Column("calendar_id", Uuid),
    Column("targets", JSONB, nullable=False),
    Column("pauses_while_waiting", Boolean, nullable=False),
    Column("escalations", JSONB, nullable=False),
    Column("reopen_within", Interval, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

POLICIES_MAX: Final = 100

Targets: TypeAlias = dict[Priority, dict[Metric, timedelta]]

_COLUMNS: Final = tuple(column.name for column in sla_policies.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class SlaPolicyNotFound(NotFound):
    code = "sla_policy_not_found"
    title = "There is no such policy"


class UnknownCalendar(Invalid):
    code = "unknown_calendar"
    title = "There is no such calendar"


class TooManySlaPolicies(Conflict):
    code = "too_many_sla_policies"
    title = "There are too many policies"


class StaleSlaPolicy(Stale):
    title = "The policy has changed since you read it"


@dataclass(slots=True)
class Escalation:
    """What happens when a clock has only `before` left, or at the breach where that is nothing: all that is given.

    `assignee` gets the case, `priority` becomes its priority, and a task with this title is made.
    """

    metric: Metric
    before: timedelta
    assignee: str | None = None
    priority: Priority | None = None
    task: str | None = None


@dataclass(slots=True)
class SlaPolicy:
    """Targets by priority and clock, in working time of a calendar; without one, around the clock.

    Of the active policies whose condition holds of a new case, the one with the lowest `position` applies.
    """

    id: UUID
    name: str
    position: int
    condition: dict[str, Any] | None
    calendar_id: UUID | None
    targets: Targets
    pauses_while_waiting: bool
    escalations: list[Escalation]
    reopen_within: timedelta
    status: Literal["active", "archived"]
    version: int
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session, *, vocabulary: Vocabulary, definition: Mapping[str, Any], once: idempotency.Request | None = None,
    now: datetime,
) -> SlaPolicy:  # fmt: skip
    """Make a policy, for the cases that are opened from now on.

    Raises InvalidCondition, UnknownCalendar, TooManySlaPolicies.
    """
    if await session.fetchval("SELECT count(*) FROM sla_policies WHERE status = 'active'") >= POLICIES_MAX:
        raise TooManySlaPolicies(f"{POLICIES_MAX} are kept at most; archive one that nobody needs.")
    policy = SlaPolicy(id=uuid7(), **definition, status="active", version=1, created_at=now, updated_at=now)
    await _check(session, vocabulary, policy)
    await writes.write(
        session,
        [
            Insert(sla_policies, _COLUMNS, [_row(policy)]),
            *idempotency.answer(once, contact_id=None, result=policy, now=now),
        ],
    )
    return policy


async def update(
    session: Session,
    *,
    vocabulary: Vocabulary,
    policy_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    now: datetime,
) -> SlaPolicy:
    """Change a policy. Clocks that run keep their targets until their case changes its priority, category or tags.

    Raises SlaPolicyNotFound, StaleSlaPolicy, InvalidCondition, UnknownCalendar.
    """
    before = _view(
        await session.fetchrow(f"SELECT {_SELECTED} FROM sla_policies WHERE id = $1 FOR NO KEY UPDATE", policy_id)
    )
    if version is not None and version != before.version:
        raise StaleSlaPolicy("Read it again, and send the new ETag in If-Match.", version=before.version)
    policy = replace(before, **changes)
    if policy == before:
        return before
    await _check(session, vocabulary, policy)
    policy.version, policy.updated_at = before.version + 1, now
    await writes.write(session, [Update(sla_policies, _COLUMNS, [_row(policy)], 1)])
    return policy


async def get(session: Session, *, policy_id: UUID) -> SlaPolicy:
    """One policy. Raises SlaPolicyNotFound."""
    return _view(await session.fetchrow(f"SELECT {_SELECTED} FROM sla_policies WHERE id = $1", policy_id))


async def page(session: Session, *, after: tuple[int, UUID] | None, limit: int) -> list[SlaPolicy]:
    """Policies in the order in which they are tried, those behind the (position, id) of `after`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM sla_policies WHERE $1::int IS NULL OR (position, id) > ($1, $2)
        ORDER BY position, id LIMIT $3
        """,
        *(after or (None, None)), limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def terms_of(session: Session, *, policy_ids: Collection[UUID | None]) -> dict[UUID | None, Terms]:
    """What these policies ask for, as they are now; None stands for none."""
    wanted = [policy_id for policy_id in set(policy_ids) if policy_id is not None]
    rows = await session.fetch(f"SELECT {_SELECTED} FROM sla_policies WHERE id = ANY ($1)", wanted) if wanted else []
    return {None: NO_TERMS, **{policy.id: _terms(policy) for policy in map(_view, rows)}}


async def match_all(
    session: Session, *, vocabulary: Vocabulary, files: Sequence[CaseFile], now: datetime
) -> list[Terms]:
    """What is asked for each of some cases: by the first of the active policies whose condition holds."""
    if not files:
        return []
    rows = await session.fetch(
        f"SELECT {_SELECTED} FROM sla_policies WHERE status = 'active' ORDER BY position, id LIMIT $1", POLICIES_MAX
    )
    policies = [(policy, _condition(vocabulary, policy)) for policy in map(_view, rows)]
    asked = [condition for _, condition in policies if condition is not None]
    contact_ids = [file.case.contact_id for file in files]
    known = await matching.people(session, vocabulary=vocabulary, asked=asked, contact_ids=contact_ids, now=now)
    found = []
    for file in files:
        own, person = _facts(file.case), known[file.case.contact_id]
        first = next((each for each, asked in policies if matching.holds(asked, person, own, now=now)), None)
        found.append(NO_TERMS if first is None else _terms(first))
    return found


async def _check(session: Session, vocabulary: Vocabulary, policy: SlaPolicy) -> None:
    policy.condition = await matching.to_keep(session, vocabulary, policy.condition, own=matching.CASE)
    if policy.calendar_id is not None:
        try:
            await calendars.get(session, calendar_id=policy.calendar_id)
        except CalendarNotFound:
            raise UnknownCalendar(
                "Leave it out to count around the clock.",
                errors=[FieldError("/calendar_id", "unknown_calendar", "is no calendar")],
            ) from None


def _condition(vocabulary: Vocabulary, policy: SlaPolicy) -> Condition | None:
    if policy.condition is None:
        return None
    return matching.condition_of(vocabulary, policy.condition, own=matching.CASE)


def _facts(case: Case) -> dict[str, Any]:
    return {
        "case.priority": case.priority, "case.category": case.category, "case.channel": case.channel,
        "case.subject": case.subject, "case.tags": case.tags,
    }  # fmt: skip


def _terms(policy: SlaPolicy) -> Terms:
    steps: dict[Metric, tuple[Step, ...]] = {
        metric: tuple(
            Step(each.before, each.assignee, each.priority, each.task)
            for each in policy.escalations
            if each.metric == metric
        )
        for metric in METRICS
    }
    return Terms(
        policy.id, policy.calendar_id, policy.targets, policy.pauses_while_waiting, steps, policy.reopen_within
    )


def _row(policy: SlaPolicy) -> tuple[Any, ...]:
    plain = msgspec.to_builtins({
        "targets": {
            priority: {metric: target.total_seconds() for metric, target in targets.items()}
            for priority, targets in policy.targets.items()
        },
        "escalations": [
            {**msgspec.to_builtins(each), "before": each.before.total_seconds()} for each in policy.escalations
        ],
    })  # fmt: skip
    return tuple(plain.get(name, getattr(policy, name)) for name in _COLUMNS)


def _view(row: Record | None) -> SlaPolicy:
    if row is None:
        raise SlaPolicyNotFound("No policy has this id.")
    values = dict(row)
    values["targets"] = {
        priority: {metric: timedelta(seconds=seconds) for metric, seconds in targets.items()}
        for priority, targets in row["targets"].items()
    }
    values["escalations"] = [
        Escalation(**{**each, "before": timedelta(seconds=each["before"])}) for each in row["escalations"]
    ]
    return SlaPolicy(**values)
