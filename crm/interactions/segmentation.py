"""Who is in a segment: found for many contacts in one statement, and told on their timelines in the same.

All contacts are gone through in chunks, a transaction each. How far that has come is kept with the segment, so that it
may break off, be taken up again, or be worked on by several at once; whoever changes who is in a segment locks its row
of `segment_evaluations`. What is found to be so already is not written again.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

import structlog

from crm.contacts import aliases, predicates, segments
from crm.contacts.conditions import InvalidCondition
from crm.contacts.predicates import Bind
from crm.contacts.segments import Segment
from crm.contacts.vocabulary import Vocabulary
from crm.db.session import Session
from crm.interactions import cursors, selections
from crm.interactions.selections import Selection

CHANNEL: Final = "contacts"
ENTERED: Final = "segment.entered"
LEFT: Final = "segment.left"
BY: Final = "system"
CHUNK: Final = 10_000
"""How many contacts are looked at in one transaction of an evaluation."""
FOLLOWED: Final = 2_000
"""How many rows of the timelines are looked at together, for the contacts that they are of."""

_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=2**128 - 1)
_CURSOR: Final = "segments"

_UNFULFILLED: Final = "s.requested_at > coalesce(e.evaluated_at, '-infinity')"
_FOLLOWING: Final = "archived_at IS NULL AND refresh <> 'manual'"

_REQUEST: Final = f"""
    WITH wanted AS (
        UPDATE segments s SET requested_at = w.at
        FROM unnest($1::uuid[], $2::timestamptz[]) AS w (id, at)
        WHERE s.id = w.id AND coalesce(s.requested_at, '-infinity') < w.at
        RETURNING s.id
    )
    SELECT s.id FROM segments s JOIN segment_evaluations e ON e.segment_id = s.id
    WHERE s.archived_at IS NULL AND (s.id IN (SELECT id FROM wanted) OR {_UNFULFILLED}) ORDER BY s.id
"""
_STATE: Final = """
    SELECT version, position, started_at, evaluated_at FROM segment_evaluations WHERE segment_id = $1 FOR UPDATE
"""
_IS_WANTED: Final = f"""
    SELECT {_UNFULFILLED} FROM segments s JOIN segment_evaluations e ON e.segment_id = s.id WHERE s.id = $1
"""
_START: Final = """
    UPDATE segment_evaluations SET version = $2, started_at = $3, position = NULL, contacts_count = 0
    WHERE segment_id = $1
"""
_NEXT: Final = """
    WITH following AS MATERIALIZED (SELECT id FROM contacts WHERE id > $1 ORDER BY id LIMIT $2)
    SELECT (SELECT count(*) FROM following), (SELECT id FROM following ORDER BY id DESC LIMIT 1)
"""
_MOVE_ON: Final = """
    UPDATE segment_evaluations SET position = $2, contacts_count = contacts_count + $3,
        members_count = members_count + $4
    WHERE segment_id = $1
"""
_FINISH: Final = """
    UPDATE segment_evaluations SET evaluated_at = started_at, started_at = NULL, position = NULL,
        contacts_count = contacts_count + $2,
        members_count = (SELECT count(*) FROM segment_members WHERE segment_id = $1)
    WHERE segment_id = $1
"""
_COUNT: Final = "UPDATE segment_evaluations SET members_count = members_count + $2 WHERE segment_id = $1"
_LOCK_FOLLOWING: Final = f"""
    SELECT segment_id FROM segment_evaluations
    WHERE segment_id IN (SELECT id FROM segments WHERE {_FOLLOWING}) ORDER BY segment_id FOR UPDATE
"""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """How many contacts have entered a segment, and how many have left it."""

    entered: int
    left: int


async def request_due(session: Session, *, vocabulary: Vocabulary, now: datetime) -> list[UUID]:
    """Ask for the evaluations of this hour and of this local day; the segments that are to be evaluated, for whatever
    reason.
    """
    rows = await session.fetch(f"SELECT id, program_id, refresh FROM segments WHERE {_FOLLOWING} ORDER BY id")
    hour = now.replace(minute=0, second=0, microsecond=0)
    midnights: dict[UUID | None, datetime] = {}
    for program_id in {row["program_id"] for row in rows if row["refresh"] == "daily"}:
        frame = await vocabulary.frame(session, program_id)
        midnight = now.astimezone(frame.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        midnights[program_id] = midnight.astimezone(UTC)
    wanted = [hour if row["refresh"] == "hourly" else midnights[row["program_id"]] for row in rows]
    return [row["id"] for row in await session.fetch(_REQUEST, [row["id"] for row in rows], wanted)]


async def advance(session: Session, *, vocabulary: Vocabulary, segment_id: UUID, now: datetime) -> bool:
    """Look at the next contacts, from the first on where an evaluation is wanted and has not begun.

    False when there is nothing to do. Raises SegmentNotFound, and InvalidCondition where the condition asks what is not
    known any more.
    """
    state = await session.fetchrow(_STATE, segment_id)
    segment = await segments.get(session, segment_id=segment_id)
    assert state is not None, "every segment has its evaluation"
    if segment.archived_at is not None:
        return False
    position = state["position"] or _FIRST
    if state["started_at"] is None or state["version"] != segment.version:
        if state["started_at"] is None and not await session.fetchval(_IS_WANTED, segment_id):
            return False
        await session.execute(_START, segment_id, segment.version, now)
        position = _FIRST
    counted = await session.fetchrow(_NEXT, position, CHUNK)
    assert counted is not None, "the statement counts"
    looked_at, last = counted
    # Behind the last contact there may be members who are none any more.
    is_last = looked_at < CHUNK
    scope = partial(_between, position, _LAST if is_last else last)
    change = await _settle(session, await _selection(session, vocabulary, segment, now), segment, scope)
    if is_last:
        await session.execute(_FINISH, segment_id, looked_at)
    else:
        await session.execute(_MOVE_ON, segment_id, last, looked_at, change.entered - change.left)
    return True


async def evaluate_for(
    session: Session, *, vocabulary: Vocabulary, contact_ids: Collection[UUID], now: datetime
) -> Difference:
    """Find out of which segments these contacts are, of all but those that are evaluated by hand only.

    A segment whose condition asks what is not known any more is left as it is.
    """
    if not contact_ids:
        return Difference(0, 0)
    locked = [row["segment_id"] for row in await session.fetch(_LOCK_FOLLOWING)]
    entered = left = 0
    for segment in await segments.get_all(session, segment_ids=locked):
        try:
            selection = await _selection(session, vocabulary, segment, now)
        except InvalidCondition as error:
            _log.warning("segment_not_understood", segment_id=segment.id, errors=error.errors)
            continue
        change = await _settle(session, selection, segment, partial(_among, list(contact_ids)))
        if change.entered != change.left:
            await session.execute(_COUNT, segment.id, change.entered - change.left)
        entered, left = entered + change.entered, left + change.left
    return Difference(entered, left)


async def follow(session: Session, *, vocabulary: Vocabulary, now: datetime) -> bool:
    """Evaluate the contacts with whom something has happened since the last time; False when nothing more has.

    What depends on the time alone is found by the evaluation of all contacts.
    """
    cursor = await cursors.take(session, name=_CURSOR)
    if not await session.fetchval(f"SELECT EXISTS (SELECT FROM segments WHERE {_FOLLOWING})"):
        await cursors.move(session, cursor=cursor, past=None)
        return False
    news = await cursors.news(session, cursor=cursor, limit=FOLLOWED)
    if news:
        people = {row["contact_id"] for row in news if row["kind"] not in {ENTERED, LEFT}}
        # What happened just before a merge happened with somebody who has another id now.
        people |= set((await aliases.survivors(session, ids=people)).values())
        # The clock of whoever recorded it may be ahead of this one.
        moment = max(now, *(row["recorded_at"] for row in news))
        await evaluate_for(session, vocabulary=vocabulary, contact_ids=people, now=moment)
        await cursors.move(session, cursor=cursor, past=news[-1])
    return len(news) == FOLLOWED


async def _selection(session: Session, vocabulary: Vocabulary, segment: Segment, now: datetime) -> Selection:
    condition = segments.condition_of(vocabulary, segment.condition)
    return await selections.select(
        session, vocabulary=vocabulary, condition=condition, program_id=segment.program_id, now=now
    )


_Scope: TypeAlias = Callable[[str, Bind], str]
"""Says of which contacts it is, given the name of the column that holds them."""


def _between(after: UUID, last: UUID, contact_id: str, bind: Bind) -> str:
    return f"{contact_id} > {bind(after, 'uuid')} AND {contact_id} <= {bind(last, 'uuid')}"


def _among(contact_ids: list[UUID], contact_id: str, bind: Bind) -> str:
    return f"{contact_id} = ANY ({bind(contact_ids, 'uuid[]')})"


async def _settle(session: Session, selection: Selection, segment: Segment, scope: _Scope) -> Difference:
    """Let the contacts of the scope enter and leave a segment that is locked, as the selection says."""
    await selections.plan_each(session)
    args: list[Any] = []
    bind = predicates.bound_to(args)
    source, where = selection.sql(bind)
    segment_id, now = bind(segment.id, "uuid"), bind(selection.now.astimezone(UTC), "timestamptz")
    told = ", ".join((
        now, now, bind(CHANNEL, "text"),
        bind({"segment_id": segment.id, "name": segment.name, "version": segment.version}, "jsonb"), bind(BY, "text"),
    ))  # fmt: skip
    row = await session.fetchrow(
        f"""
        WITH selected AS MATERIALIZED (
            SELECT c.id FROM {source} WHERE {scope("c.id", bind)} AND {where}
        ), present AS MATERIALIZED (
            SELECT m.contact_id AS id FROM segment_members m
            WHERE m.segment_id = {segment_id} AND {scope("m.contact_id", bind)}
        ), entered AS (
            INSERT INTO segment_members (contact_id, segment_id, entered_at)
            SELECT id, {segment_id}, {now} FROM selected WHERE id NOT IN (SELECT id FROM present) ORDER BY id
            RETURNING contact_id AS id
        ), gone AS (
            DELETE FROM segment_members m
            WHERE m.segment_id = {segment_id}
                AND m.contact_id IN (SELECT id FROM present EXCEPT ALL SELECT id FROM selected)
            RETURNING m.contact_id AS id
        ), told AS (
            INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
            SELECT t.id, new_uuid7(), t.kind, {told} FROM (
                SELECT id, {bind(ENTERED, "text")} AS kind FROM entered
                UNION ALL
                SELECT g.id, {bind(LEFT, "text")} FROM gone g JOIN contacts c ON c.id = g.id
            ) t
        )
        SELECT (SELECT count(*) FROM entered), (SELECT count(*) FROM gone)
        """,
        *args,
    )
    assert row is not None, "the statement counts"
    return Difference(*row)
