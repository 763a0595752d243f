"""Dry runs: whom a playbook would be for today, and what they would get. Nothing is written."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
from asyncpg import Record

from crm.contacts import consents, predicates
from crm.contacts.consents import Permission
from crm.contacts.predicates import Bind
from crm.contacts.vocabulary import Vocabulary
from crm.db.session import Session
from crm.errors import Invalid
from crm.inbox.house import House, QuietHours
from crm.interactions import selections
from crm.playbooks import definitions, mentions, starting, steps, triggers, work
from crm.playbooks.definitions import Definition, MessageStep, Step, SurveyStep, WaitStep
from crm.playbooks.playbooks import Playbook
from crm.playbooks.starting import Chosen

SECONDS_MAX: Final = 10
"""How long a dry run may look."""
ROWS_MAX: Final = 10_000
"""How many of the newest rows of the timelines it looks at, for what they tell."""
CONTACTS_MAX: Final = 1_000_000
HOURS: Final = 24
"""How far back what happened counts as today's."""
HAD: Final = "had_it"
"""There was a run on this occasion already."""

Position: TypeAlias = tuple[UUID, str]
"""A contact and an occasion, the last of a page."""

_SPOKEN: Final = """
    SELECT contact_id, array_agg(at) AS times FROM playbook_steps
    WHERE contact_id = ANY ($1) AND outcome = 'taken' AND kind IN ('message', 'survey') AND at > $2
    GROUP BY contact_id
"""


class DryRunTooBroad(Invalid):
    code = "dry_run_too_broad"
    title = "This dry run takes too long"


@dataclass(slots=True)
class DryRunStep:
    """What would become of a step, and when; of a message, on which channel. `reason` also says why it would wait."""

    position: int
    kind: str
    outcome: Literal["taken", "skipped"]
    reason: str | None
    channel: str | None
    at: datetime


@dataclass(slots=True)
class DryRunItem:
    """Somebody for whom today is an occasion. Without a `reason` against it there would be a run, with these steps."""

    contact_id: UUID
    name: str
    occasion: str
    outcome: Literal["would_run", "skipped"]
    reason: str | None
    steps: list[DryRunStep]


@dataclass(slots=True)
class DryRun:
    """Who would get what: `count` are all for whom today is an occasion, and `skipped` those who would have no run.

    Later steps are shown as if nothing changed until then.
    """

    evaluated_at: datetime
    count: int
    would_run: int
    skipped: dict[str, int]
    items: list[DryRunItem]
    next_cursor: str | None = None


@dataclass(slots=True)
class _Known:
    """What the steps of a page's contacts depend on."""

    permissions: dict[tuple[UUID, str, str], Permission] = field(default_factory=dict)
    spoken: dict[UUID, list[datetime]] = field(default_factory=lambda: defaultdict(list))


async def run(
    session: Session, *, playbook: Playbook, vocabulary: Vocabulary, house: House, after: Position | None, limit: int,
    now: datetime,
) -> tuple[DryRun, Position | None]:  # fmt: skip
    """Who would get what today, in the order of contacts behind `after`; and where the next page begins.

    For what timelines tell, today are the last 24 hours, and the newest 10,000 rows at most. Raises InvalidCondition,
    DryRunTooBroad.
    """
    definition = playbook.definition
    condition, _ = definitions.conditions_of(definition, vocabulary)
    chosen = await starting.chosen(
        session, vocabulary=vocabulary, definition=definition, condition=condition, now=now
    )  # fmt: skip
    counts: Counter[str | None] = Counter()
    rows: list[Any] = []
    async with _in_time(session):
        async for candidates, scope, args, bind in _occasions(session, definition, vocabulary, house, now):
            found = await _ask(session, playbook, definition, chosen, candidates, scope, bind, args, after, limit + 1)
            counts.update({each["reason"]: each["count"] for each in found["counts"] or ()})
            rows += found["page"] or ()
    rows.sort(key=lambda row: (row["contact_id"], row["occasion"]))
    page, more = rows[:limit], len(rows) > limit
    items = await _imagined(session, definition, house, page, now)
    would_run = counts.pop(None, 0)
    skipped = {reason: count for reason, count in sorted(counts.items()) if reason is not None}
    dry_run = DryRun(now, would_run + sum(skipped.values()), would_run, skipped, items)
    last = (UUID(page[-1]["contact_id"]), page[-1]["occasion"]) if more else None
    return dry_run, last


async def _occasions(
    session: Session, definition: Definition, vocabulary: Vocabulary, house: House, now: datetime
) -> AsyncIterator[tuple[str, str | None, list[Any], Bind]]:
    """The candidates of today: of each zone, or of all timelines."""
    trigger = definition.trigger
    if isinstance(trigger, definitions.Followed):
        args: list[Any] = []
        bind = predicates.bound_to(args)
        newest = f"SELECT xid, id FROM interactions ORDER BY xid DESC, id DESC LIMIT {bind(ROWS_MAX, 'int')}"
        among = f"(i.xid, i.id) >= (SELECT n.xid, n.id FROM ({newest}) n ORDER BY n.xid, n.id LIMIT 1)"
        where = definitions.where_of(trigger, vocabulary)
        since = now - timedelta(hours=HOURS)
        yield triggers.followed(trigger, where, among=among, since=since, bind=bind), None, args, bind
        return
    program_id = await mentions.program_of(session, definition=definition)
    for morning in await starting.mornings(
        session, definition=definition, vocabulary=vocabulary, default=ZoneInfo(house.quiet.zone), now=now
    ):
        args = []
        bind = predicates.bound_to(args)
        of_day = triggers.daily(
            trigger, morning, program_id=program_id, after=UUID(int=0), limit=CONTACTS_MAX, bind=bind
        )
        if of_day is not None:
            yield of_day.candidates, of_day.scope, args, bind


async def _ask(
    session: Session, playbook: Playbook, definition: Definition, chosen: Chosen, candidates: str, scope: str | None,
    bind: Bind, args: list[Any], after: Position | None, limit: int,
) -> Record:  # fmt: skip
    source, where = chosen.sql(bind)
    playbook_id = bind(playbook.id, "uuid")
    behind = "true"
    if after is not None:
        behind = f"(f.contact_id, f.occasion) > ({bind(after[0], 'uuid')}, {bind(after[1], 'text')})"
    row = await session.fetchrow(
        f"""
        WITH looked AS MATERIALIZED ({scope or "SELECT NULL::uuid AS id WHERE false"}),
        candidate AS MATERIALIZED ({candidates}),
        known AS MATERIALIZED (
            SELECT k.*, c.name, c.time_zone, CASE
                WHEN ({where}) IS NOT TRUE THEN '{work.CONDITION}'
                WHEN EXISTS (
                    SELECT FROM playbook_runs r WHERE r.contact_id = k.contact_id AND r.playbook_id = {playbook_id}
                        AND r.occasion = k.occasion
                ) THEN '{HAD}'
            END AS why_not
            FROM {source} JOIN candidate k ON k.contact_id = c.id
        ), fitting AS (SELECT * FROM known WHERE why_not IS NULL),
        judged AS ({starting.judged("fitting", playbook_id, definition, chosen.now, bind)}),
        found AS MATERIALIZED (
            SELECT k.contact_id, k.occasion, k.name, k.time_zone, coalesce(k.why_not, j.reason) AS reason
            FROM known k LEFT JOIN judged j ON j.contact_id = k.contact_id AND j.occasion = k.occasion
        )
        SELECT (
            SELECT jsonb_agg(jsonb_build_object('reason', g.reason, 'count', g.count))
            FROM (SELECT reason, count(*) AS count FROM found GROUP BY reason) g
        ) AS counts, (
            SELECT jsonb_agg(to_jsonb(p)) FROM (
                SELECT f.* FROM found f WHERE {behind} ORDER BY f.contact_id, f.occasion LIMIT {bind(limit, "int")}
            ) p
        ) AS page
        """,
        *args,
    )
    assert row is not None, "the statement counts"
    return row


async def _imagined(
    session: Session, definition: Definition, house: House, page: Sequence[Mapping[str, Any]], now: datetime
) -> list[DryRunItem]:
    going = [UUID(row["contact_id"]) for row in page if row["reason"] is None]
    known = await _read(session, definition, going, now) if going else _Known()
    quiet = work.quiet_of(definition, house)
    return [
        DryRunItem(
            UUID(row["contact_id"]), row["name"], row["occasion"],
            "would_run" if row["reason"] is None else "skipped", row["reason"],
            _steps(definition, known, quiet, UUID(row["contact_id"]), row["time_zone"], now)
            if row["reason"] is None else [],
        )
        for row in page
    ]  # fmt: skip


async def _read(session: Session, definition: Definition, contact_ids: Sequence[UUID], now: datetime) -> _Known:
    known = _Known()
    speaking = [step for step in definition.steps if isinstance(step, MessageStep | SurveyStep)]
    if not speaking:
        return known
    for channel, purpose in sorted({(channel, step.purpose) for step in speaking for channel in step.channels}):
        found = await consents.may_send_all(session, contact_ids=contact_ids, channel=channel, purpose=purpose)
        known.permissions |= {(contact_id, channel, purpose): each for contact_id, each in found.items()}
    since = now - timedelta(days=definition.messages_cap.days)
    for row in await session.fetch(_SPOKEN, contact_ids, since):
        known.spoken[row["contact_id"]] += row["times"]
    return known


def _steps(
    definition: Definition, known: _Known, quiet: QuietHours, contact_id: UUID, zone: str | None, now: datetime
) -> list[DryRunStep]:
    at, imagined = now, []
    spoken = list(known.spoken.get(contact_id, ()))
    for position, step in enumerate(definition.steps):
        reason = channel = None
        if isinstance(step, MessageStep | SurveyStep):
            until = quiet.over_at(at, zone=zone)
            waits, at = until > at, until
            reason, channel = _spoken(definition, known, contact_id, step, spoken, at)
            if channel is not None:
                spoken.append(at)
                reason = work.QUIET if waits else None
        was_skipped = isinstance(step, MessageStep | SurveyStep) and channel is None
        outcome: Literal["taken", "skipped"] = "skipped" if was_skipped else "taken"
        imagined.append(DryRunStep(position, definitions.name_of(step), outcome, reason, channel, at))
        if isinstance(step, WaitStep):
            at += step.span
    return imagined


def _spoken(
    definition: Definition, known: _Known, contact_id: UUID, step: Step, spoken: Sequence[datetime], at: datetime
) -> tuple[str | None, str | None]:
    """Why a message would not go, or the channel on which it would."""
    assert isinstance(step, MessageStep | SurveyStep), "nothing else is said"
    cap = definition.messages_cap
    if sum(before > at - timedelta(days=cap.days) for before in spoken) >= cap.messages_max:
        return steps.MESSAGE_CAP, None
    first = None
    for channel in step.channels:
        permission = known.permissions[contact_id, channel, step.purpose]
        if permission.allowed:
            return None, channel
        first = first or _REFUSALS[permission.why_not or ""]
    return first, None


_REFUSALS: Final[Mapping[str, str]] = {
    "denied": "consent_denied", "no_consent": "no_consent", "no_address": "no_address",
    "unknown_contact": "contact_not_found", "": "may_not_send",
}  # fmt: skip
"""What each would be refused for, as the messages themselves are."""


@asynccontextmanager
async def _in_time(session: Session) -> AsyncIterator[None]:
    await selections.plan_each(session, seconds_max=SECONDS_MAX)
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise DryRunTooBroad(
            f"Nothing was found within {SECONDS_MAX} seconds: leave out a part of the condition, and try again."
        ) from error
