"""Cases and their clocks where they are kept: taken out for work, and put back, many at a time."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Integer, Interval, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.care import calendars, casework, policies
from crm.care.casework import Case, CaseFile, Terms
from crm.care.clocks import METRICS, Clock, Metric
from crm.care.working_time import Calendar
from crm.contacts import contacts
from crm.contacts.vocabulary import Vocabulary
from crm.db import writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import NotFound
from crm.interactions import timeline

cases = Table(
    "cases",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("subject", Text),
    Column("category", Text),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("channel", Text),
    Column("assignee", Text),
    Column("tags", JSONB, nullable=False),
    Column("with_bot", Boolean, nullable=False),
    Column("policy_id", Uuid),
    Column("rule_id", Uuid),
    Column("due_at", Instant),
    Column("breach_count", Integer, nullable=False),
    Column("unanswered_since", Instant),
    Column("last_reply_at", Instant),
    Column("first_replied_at", Instant),
    Column("first_reply_seconds", BigInteger),
    Column("resolved_at", Instant),
    Column("resolution_seconds", BigInteger),
    Column("closed_at", Instant),
    Column("closing_agent", Text),
    Column("reopenable_until", Instant),
    Column("reopen_count", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
case_clocks = Table(
    "case_clocks",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("case_id", Uuid, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("target", Interval),
    Column("elapsed", Interval, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("resumed_at", Instant),
    Column("due_at", Instant),
    Column("breached_at", Instant),
    Column("ended_at", Instant),
    Column("warned", Interval),
    Column("next_at", Instant),
    Column("calendar_id", Uuid),
    Column("calendar_version", BigInteger),
)
case_directory = Table(
    "case_directory",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
)
case_conversations = Table(
    "case_conversations",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("case_id", Uuid, primary_key=True),
    Column("thread_id", Uuid, primary_key=True),
    Column("account_id", Uuid),
    Column("channel", Text, nullable=False),
    Column("hint", Text),
    Column("created_at", Instant, nullable=False),
)

COLUMNS: Final = tuple(column.name for column in cases.columns)
SELECTED: Final = ", ".join(f"c.{name}" for name in COLUMNS)
_CLOCK_COLUMNS: Final = tuple(column.name for column in case_clocks.columns)
_CLOCK: Final = _CLOCK_COLUMNS[2:]
_CLOCKS: Final = f"""
    SELECT k.case_id, {", ".join(f"k.{name}" for name in _CLOCK)}
    FROM unnest($1::uuid[], $2::uuid[]) AS g (contact_id, case_id)
    JOIN case_clocks k ON k.contact_id = g.contact_id AND k.case_id = g.case_id
"""
_UPSERT: Final = "(contact_id, case_id, metric) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _CLOCK[1:]
)
_CHANGED: Final = ("contact_id", "id", *(name for name in COLUMNS if name not in {"contact_id", "id", "created_at"}))
_TRIES: Final = 3


class CaseNotFound(NotFound):
    code = "case_not_found"
    title = "There is no such case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A thread in which a case is spoken about; of one account, all without a hint are one conversation."""

    thread_id: UUID
    channel: str
    account_id: UUID | None = None
    hint: str | None = None


async def read(session: Session, *, case_id: UUID) -> Case:
    """A case with its clocks. Raises CaseNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {SELECTED} FROM case_directory d JOIN cases c ON c.contact_id = d.contact_id AND c.id = d.id
        WHERE d.id = $1 AND c.subject IS NOT NULL
        """,
        case_id,
    )
    if row is None:
        raise CaseNotFound("No case has this id.")
    return (await shown(session, rows=[row]))[0]


async def shown(session: Session, *, rows: Sequence[Record]) -> list[Case]:
    """Cases from rows of `SELECTED`, with their clocks, which are one more query."""
    known = await _clocks(session, rows)
    found = []
    for row in rows:
        case = _case(row)
        theirs = known.get(case.id, {})
        case.clocks = [casework.shown(theirs[metric]) for metric in METRICS if metric in theirs]
        found.append(case)
    return found


async def take(session: Session, *, case_id: UUID) -> CaseFile:
    """A case to work on, with everybody else kept from it and its contact. Raises CaseNotFound."""
    for _ in range(_TRIES):
        contact_id = await session.fetchval("SELECT contact_id FROM case_directory WHERE id = $1", case_id)
        if contact_id is None:
            break
        # Before the case, as a merge does, which may have moved it meanwhile.
        await contacts.lock_all(session, contact_ids=[contact_id])
        files = await take_all(session, keys=[(contact_id, case_id)])
        if files:
            return files[0]
    raise CaseNotFound("No case has this id.")


async def take_all(session: Session, *, keys: Collection[tuple[UUID, UUID]]) -> list[CaseFile]:
    """Those of these cases that there are, by contact and case, whose contacts are locked; in the order of the keys."""
    if not keys:
        return []
    ordered = sorted(set(keys))
    rows = await session.fetch(
        f"""
        SELECT {SELECTED} FROM unnest($1::uuid[], $2::uuid[]) AS g (contact_id, id)
        JOIN cases c ON c.contact_id = g.contact_id AND c.id = g.id
        WHERE c.subject IS NOT NULL
        ORDER BY c.contact_id, c.id FOR NO KEY UPDATE OF c
        """,
        *zip(*ordered, strict=True),
    )
    known = await _clocks(session, rows)
    terms = await policies.terms_of(session, policy_ids=[row["policy_id"] for row in rows])
    named = {clock.calendar_id for clocks in known.values() for clock in clocks.values()}
    read_ = await calendars_of(session, terms=terms.values(), also=named)
    none = terms[None]
    return [CaseFile(_case(row), terms.get(row["policy_id"], none), read_, known.get(row["id"], {})) for row in rows]


async def give_terms(session: Session, *, vocabulary: Vocabulary, files: Sequence[CaseFile], now: datetime) -> None:
    """Find for each case which policy applies, and let it."""
    found = await policies.match_all(session, vocabulary=vocabulary, files=files, now=now)
    named = {clock.calendar_id for file in files for clock in file.clocks.values()}
    read_ = await calendars_of(session, terms=found, also=named)
    for file, terms in zip(files, found, strict=True):
        file.calendars = read_
        casework.set_terms(file, terms, now=now)


async def calendars_of(
    session: Session, *, terms: Iterable[Terms], also: Iterable[UUID | None] = ()
) -> dict[UUID, tuple[Calendar, int]]:
    """The calendars that are named, each with its version."""
    wanted = {each.calendar_id for each in terms} | set(also)
    found = await calendars.get_all(session, calendar_ids=[one for one in wanted if one is not None])
    return {calendar_id: (calendar.read(), calendar.version) for calendar_id, calendar in found.items()}


def parts(
    files: Sequence[CaseFile],
    *,
    new: Collection[UUID] = (),
    conversations: Iterable[tuple[CaseFile, Conversation]] = (),
    now: datetime,
) -> list[Insert | Update]:
    """The parts of a write that put back cases that were worked on, and what is told of them. `new` are not there yet.

    Each case is in its next version then.
    """
    files = [file for file in files if file.changed]
    for file in files:
        casework.settle(file)
        if file.case.id not in new:
            file.case.version += 1
        file.case.updated_at = now
    made = [file.case for file in files if file.case.id in new]
    changed = [file.case for file in files if file.case.id not in new]
    spoken = {
        (file.case.contact_id, file.case.id, one.thread_id): (
            file.case.contact_id, file.case.id, one.thread_id, one.account_id, one.channel, one.hint, now,
        )
        for file, one in conversations
    }  # fmt: skip
    return [
        Insert(cases, COLUMNS, [tuple(getattr(case, name) for name in COLUMNS) for case in made]),
        Insert(case_directory, ("id", "contact_id"), [(case.id, case.contact_id) for case in made]),
        Update(cases, _CHANGED, [tuple(getattr(case, name) for name in _CHANGED) for case in changed], 2),
        Insert(
            case_clocks, _CLOCK_COLUMNS,
            [
                (file.case.contact_id, file.case.id, *(getattr(clock, name) for name in _CLOCK))
                for file in files
                for clock in file.clocks.values()
            ],
            on_conflict=_UPSERT,
        ),
        Insert(
            case_conversations, ("contact_id", "case_id", "thread_id", "account_id", "channel", "hint", "created_at"),
            list(spoken.values()), on_conflict="DO NOTHING",
        ),
        timeline.part(casework.entries(files)),
    ]  # fmt: skip


async def put(session: Session, *, files: Sequence[CaseFile], now: datetime) -> None:
    """Put back cases that were worked on."""
    await writes.write(session, parts(files, now=now))


async def _clocks(session: Session, rows: Sequence[Record]) -> dict[UUID, dict[Metric, Clock]]:
    found: dict[UUID, dict[Metric, Clock]] = {}
    if rows:
        stored = await session.fetch(_CLOCKS, [row["contact_id"] for row in rows], [row["id"] for row in rows])
        for case_id, *values in stored:
            clock = Clock(*values)
            found.setdefault(case_id, {})[clock.metric] = clock
    return found


def _case(row: Record) -> Case:
    return Case(**{name: row[name] for name in COLUMNS})


def fresh(**facts: Any) -> Case:
    """A case that begins, with nothing having happened yet."""
    empty = dict.fromkeys((
        "due_at", "unanswered_since", "last_reply_at", "first_replied_at", "first_reply_seconds", "resolved_at",
        "resolution_seconds", "closed_at", "closing_agent", "reopenable_until", "policy_id", "rule_id",
    ))  # fmt: skip
    return Case(**{**empty, "breach_count": 0, "reopen_count": 0, "version": 1, **facts})
