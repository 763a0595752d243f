"""Runs begin: found for many contacts in one statement, and told on their timelines in the same.

What the timelines tell is read on from where it was read last, and a day is gone through for each zone in chunks, a
transaction each. An occasion has one run for good, so that what is looked at twice begins nothing twice.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import structlog
from asyncpg import Record

from crm.contacts import predicates
from crm.contacts.conditions import Condition, InvalidCondition
from crm.contacts.predicates import Bind
from crm.contacts.vocabulary import Vocabulary
from crm.db.session import Database, Session
from crm.interactions import cursors, selections
from crm.interactions.selections import Selection
from crm.playbooks import definitions, mentions, playbooks, runs, triggers
from crm.playbooks.definitions import Definition, ExpiryTrigger
from crm.playbooks.playbooks import Playbook
from crm.playbooks.triggers import Morning

FOLLOWED: Final = 2_000
"""How many rows of the timelines are looked at together."""
CHUNK: Final = 5_000
"""How many contacts are looked at in one transaction of a day."""
DAYS_MAX: Final = 3
"""How many missed days are made good; whoever is greeted later than that would wonder."""
LINEAGE_MAX: Final = 3
"""How many playbooks may bring each other about, one after the other."""
_HOURS_CAUSED: Final = 24
"""How long what a playbook did may be why something happened of which nobody says by whom."""
_DOING: Final = ("points", "tag", "offer", "case")
"""The steps that can bring about what is told without saying by whom: a tier, a segment."""

LOOP: Final = "loop"
CAP: Final = "frequency_cap"

_NOBODY: Final = UUID(int=0)
_KEEP: Final = "SELECT FROM contacts WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE"
_DAYS: Final = "SELECT playbook_id, zone, day, finished_at FROM playbook_days WHERE playbook_id = ANY ($1)"
# A zone after the other, each found by the index: there are few, and very many contacts.
_ZONES: Final = """
    WITH RECURSIVE zones AS (
        (SELECT time_zone FROM contacts WHERE time_zone IS NOT NULL ORDER BY time_zone LIMIT 1)
        UNION ALL
        SELECT (SELECT c.time_zone FROM contacts c WHERE c.time_zone > z.time_zone ORDER BY c.time_zone LIMIT 1)
        FROM zones z WHERE z.time_zone IS NOT NULL
    )
    SELECT time_zone FROM zones WHERE time_zone IS NOT NULL
"""
_BEGIN_DAY: Final = """
    INSERT INTO playbook_days AS d (playbook_id, zone, day) VALUES ($1, $2, $3)
    ON CONFLICT (playbook_id, zone) DO UPDATE SET day = excluded.day, position = NULL, finished_at = NULL
    WHERE d.day < excluded.day
"""
_DAY: Final = """
    SELECT day, position, finished_at FROM playbook_days WHERE playbook_id = $1 AND zone = $2 FOR UPDATE
"""
_MOVE_ON: Final = """
    UPDATE playbook_days SET position = $3, finished_at = $4 WHERE playbook_id = $1 AND zone = $2
"""
# Who did what is said by the run; of what nobody did it is whatever a playbook did shortly before.
_LINEAGE: Final = f"""
    CASE
        WHEN starts_with(k.by, '{runs.BY}') THEN (
            SELECT r.lineage || r.playbook_id FROM playbook_runs r
            WHERE r.contact_id = k.contact_id AND r.id::text = substr(k.by, {len(runs.BY) + 1})
        )
        WHEN k.by = 'system' THEN (
            SELECT r.lineage || r.playbook_id
            FROM playbook_steps s JOIN playbook_runs r ON r.contact_id = s.contact_id AND r.id = s.run_id
            WHERE s.contact_id = k.contact_id AND s.outcome = 'taken' AND s.at > k.at - interval '{_HOURS_CAUSED} hours'
                AND s.kind IN ({", ".join(f"'{kind}'" for kind in _DOING)})
            ORDER BY s.at DESC LIMIT 1
        )
    END
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """How many runs began, and how many did not because of a limit."""

    running: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """Those of whom the condition of a playbook holds; all, where it has none."""

    selection: Selection | None
    now: datetime

    def sql(self, bind: Bind) -> tuple[str, str]:
        """What stands behind FROM, with the contacts as `c`, and behind WHERE."""
        return ("contacts c", "true") if self.selection is None else self.selection.sql(bind)


async def follow(session: Session, *, vocabulary: Vocabulary, now: datetime) -> bool:
    """Begin the runs of what has been told on the timelines since the last time; False when nothing more has."""
    cursor = await cursors.take(session, name=playbooks.CURSOR)
    found = await playbooks.active(session, triggers=definitions.FOLLOWED)
    if not found:
        await cursors.move(session, cursor=cursor, past=None)
        return False
    news = await cursors.news(session, cursor=cursor, limit=FOLLOWED)
    if not news:
        return False
    kinds = {row["kind"] for row in news}
    awaited = {definitions.interactions_of(playbook.definition.trigger) for playbook in found}  # type: ignore[arg-type]
    # From here on nobody is merged: who was, is known by then under the id that they have now.
    await session.execute(_KEEP, [row["contact_id"] for row in news if row["kind"] in awaited])
    # The clock of whoever recorded it may be ahead of this one.
    moment = max(now, *(row["recorded_at"] for row in news))
    for playbook in found:
        definition = playbook.definition
        trigger = definition.trigger
        assert isinstance(trigger, definitions.Followed), "that is what was asked for"
        if definitions.interactions_of(trigger) in kinds:
            try:
                await _start_followed(session, vocabulary, playbook, definition, cursor, news[-1], moment)
            except InvalidCondition as error:
                _log.warning("playbook_not_understood", playbook_id=playbook.id, errors=error.errors)
    await cursors.move(session, cursor=cursor, past=news[-1])
    return len(news) == FOLLOWED


async def begin_days(database: Database, *, vocabulary: Vocabulary, zone: str, now: datetime) -> Counter[UUID]:
    """Go through the local days that have begun or were missed, for each playbook that waits for one.

    `zone` is that of contacts of whom none is known. How many runs began, by playbook.
    """
    async with database.reading() as session:
        found = await playbooks.active(session, triggers=definitions.DAILY)
        due = [each async for each in _due(session, vocabulary, found, zone, now)] if found else []
    begun: Counter[UUID] = Counter()
    for playbook_id, morning in due:
        going_on = True
        while going_on:
            async with database.begin() as session:
                going_on, started = await _advance_day(session, vocabulary, playbook_id, morning, now)
            begun[playbook_id] += started.running
    return +begun


async def _due(
    session: Session, vocabulary: Vocabulary, found: Sequence[Playbook], default: str, now: datetime
) -> AsyncIterator[tuple[UUID, Morning]]:
    """Each playbook, with the mornings of a zone that it has not been through, one after the other."""
    done = {
        (row["playbook_id"], row["zone"]): (row["day"], row["finished_at"] is not None)
        for row in await session.fetch(_DAYS, [playbook.id for playbook in found])
    }
    for playbook in found:
        assert playbook.activated_at is not None, "it is active"
        for today in await mornings(
            session, definition=playbook.definition, vocabulary=vocabulary, default=ZoneInfo(default), now=now
        ):
            activated_on = playbook.activated_at.astimezone(today.zone).date()
            first = max(activated_on, today.day - timedelta(days=DAYS_MAX - 1))
            last, is_finished = done.get((playbook.id, _key(today)), (date.min, True))
            for number in range((today.day - first).days + 1):
                day = first + timedelta(days=number)
                if day > last or (day == last and not is_finished):
                    yield playbook.id, replace(today, day=day)


async def mornings(
    session: Session, *, definition: Definition, vocabulary: Vocabulary, default: ZoneInfo, now: datetime
) -> list[Morning]:
    """The mornings of today: those of the contacts' zones, or that of the program by whose clock points end."""
    if isinstance(definition.trigger, ExpiryTrigger):
        zone = (await vocabulary.frame(session, definition.program_id)).zone
        zones = [(zone if isinstance(zone, ZoneInfo) else ZoneInfo("UTC"), False)]
    else:
        known = [row["time_zone"] for row in await session.fetch(_ZONES)]
        zones = [(default, True), *((ZoneInfo(name), False) for name in known if name in available_timezones())]
    return [Morning(now.astimezone(zone).date(), zone, of_unknown) for zone, of_unknown in zones]


async def _advance_day(
    session: Session, vocabulary: Vocabulary, playbook_id: UUID, morning: Morning, now: datetime
) -> tuple[bool, Started]:
    """Look at the next contacts of a morning; whether there may be more."""
    key = _key(morning)
    await session.execute(_BEGIN_DAY, playbook_id, key, morning.day)
    state = await session.fetchrow(_DAY, playbook_id, key)
    playbook = await playbooks.get(session, playbook_id=playbook_id)
    if state is None or state["day"] != morning.day or state["finished_at"] or playbook.status != "active":
        return False, Started()
    definition = playbook.definition
    trigger = definition.trigger
    if not isinstance(trigger, definitions.Daily):
        return False, Started()
    args: list[Any] = []
    bind = predicates.bound_to(args)
    of_day = triggers.daily(
        trigger, morning, program_id=await mentions.program_of(session, definition=definition), limit=CHUNK,
        after=state["position"] or _NOBODY, bind=bind,
    )  # fmt: skip
    looked, last, started = 0, None, Started()
    if of_day is not None:
        try:
            selection = await _selection(session, vocabulary, definition, now)
        except InvalidCondition as error:
            _log.warning("playbook_not_understood", playbook_id=playbook_id, errors=error.errors)
        else:
            row = await _start(session, playbook, definition, selection, of_day.candidates, bind, args, of_day.scope)
            looked, last, started = row["looked"], row["last"], Started(row["running"], row["skipped"])
    is_last = looked < CHUNK
    await session.execute(_MOVE_ON, playbook_id, key, last, now if is_last else None)
    return not is_last, started


async def _start_followed(
    session: Session, vocabulary: Vocabulary, playbook: Playbook, definition: Definition, cursor: cursors.Cursor,
    until: Record, now: datetime,
) -> None:  # fmt: skip
    assert playbook.activated_at is not None, "it is active"
    args: list[Any] = []
    bind = predicates.bound_to(args)
    among = (
        f"(i.xid, i.id) > ({bind(cursor.xid, 'xid8')}, {bind(cursor.interaction_id, 'uuid')}) "
        f"AND (i.xid, i.id) <= ({bind(until['xid'], 'xid8')}, {bind(until['id'], 'uuid')})"
    )
    candidates = triggers.followed(
        definition.trigger,  # type: ignore[arg-type]
        definitions.where_of(definition.trigger, vocabulary), among=among, since=playbook.activated_at, bind=bind,
    )  # fmt: skip
    selection = await _selection(session, vocabulary, definition, now)
    await _start(session, playbook, definition, selection, candidates, bind, args)


async def _selection(session: Session, vocabulary: Vocabulary, definition: Definition, now: datetime) -> Chosen:
    condition, _ = definitions.conditions_of(definition, vocabulary)
    return await chosen(session, vocabulary=vocabulary, definition=definition, condition=condition, now=now)


async def _start(
    session: Session, playbook: Playbook, definition: Definition, selection: Chosen, candidates: str, bind: Bind,
    args: list[Any], scope: str | None = None,
) -> Record:  # fmt: skip
    await selections.plan_each(session)
    source, where = selection.sql(bind)
    now = bind(selection.now.astimezone(UTC), "timestamptz")
    playbook_id, version = bind(playbook.id, "uuid"), bind(playbook.version, "bigint")
    looked = scope or "SELECT NULL::uuid AS id WHERE false"
    row = await session.fetchrow(
        f"""
        WITH looked AS MATERIALIZED ({looked}), candidate AS MATERIALIZED ({candidates}),
        chosen AS MATERIALIZED (
            SELECT k.* FROM {source} JOIN candidate k ON k.contact_id = c.id
            WHERE {where} AND NOT EXISTS (
                SELECT FROM playbook_runs r
                WHERE r.contact_id = k.contact_id AND r.playbook_id = {playbook_id} AND r.occasion = k.occasion
            )
            ORDER BY c.id FOR KEY SHARE OF c
        ), judged AS ({judged("chosen", playbook_id, definition, selection.now, bind)}
        ), started AS (
            INSERT INTO playbook_runs (
                contact_id, id, playbook_id, version, occasion, status, reason, due_at, lineage, data, started_at,
                ended_at
            )
            SELECT j.contact_id, new_uuid7(), {playbook_id}, {version}, j.occasion,
                CASE WHEN j.reason IS NULL THEN 'running' ELSE 'skipped' END, j.reason,
                CASE WHEN j.reason IS NULL THEN {now} END, j.lineage, j.data, {now},
                CASE WHEN j.reason IS NOT NULL THEN {now} END
            FROM judged j ORDER BY j.contact_id, j.occasion
            ON CONFLICT (contact_id, playbook_id, occasion) DO NOTHING
            RETURNING contact_id, id, occasion, reason
        ), told AS (
            INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
            SELECT s.contact_id, new_uuid7(),
                CASE WHEN s.reason IS NULL THEN 'playbook.started' ELSE 'playbook.skipped' END, {now}, {now},
                '{runs.CHANNEL}', jsonb_strip_nulls(jsonb_build_object(
                    'playbook_id', {playbook_id}, 'run_id', s.id, 'name', {bind(playbook.name, "text")},
                    'version', {version}, 'occasion', s.occasion, 'reason', s.reason
                )), '{runs.BY}' || s.id
            FROM started s
        )
        SELECT (SELECT count(*) FROM looked) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last,
            (SELECT count(*) FROM started WHERE reason IS NULL) AS running,
            (SELECT count(*) FROM started WHERE reason IS NOT NULL) AS skipped
        """,
        *args,
    )
    assert row is not None, "the statement counts"
    return row


def judged(chosen: str, playbook_id: str, definition: Definition, at: datetime, bind: Bind) -> str:
    """In SQL, the rows of `chosen` with their lineage, and with the reason why they begin no run, if there is one.

    `playbook_id` is an expression.
    """
    capped = "false"
    if definition.cap is not None:
        since = at.astimezone(UTC) - timedelta(days=definition.cap.days)
        had = f"""(
            SELECT count(*) FROM playbook_runs r
            WHERE r.contact_id = w.contact_id AND r.playbook_id = {playbook_id} AND r.status <> 'skipped'
                AND r.started_at > {bind(since, "timestamptz")}
        )"""
        capped = f"{had} + w.number > {bind(definition.cap.runs_max, 'int')}"
    return f"""
        SELECT w.*, CASE
            WHEN {playbook_id} = ANY (w.lineage) OR cardinality(w.lineage) > {LINEAGE_MAX} THEN '{LOOP}'
            WHEN {capped} THEN '{CAP}'
        END AS reason
        FROM (
            SELECT k.*, coalesce({_LINEAGE}, '{{}}') AS lineage,
                row_number() OVER (PARTITION BY k.contact_id ORDER BY k.at, k.occasion) AS number
            FROM {chosen} k
        ) w
    """


async def chosen(
    session: Session, *, vocabulary: Vocabulary, definition: Definition, condition: Condition | None, now: datetime
) -> Chosen:
    """Those of whom a condition of this playbook holds now."""
    if condition is None:
        return Chosen(None, now)
    selection = await selections.select(
        session, vocabulary=vocabulary, condition=condition, program_id=definition.program_id, now=now
    )
    return Chosen(selection, selection.now)


def _key(morning: Morning) -> str:
    """How a zone is called in `playbook_days`; those of whom none is known have a row of their own."""
    return "" if morning.of_unknown else morning.zone.key
