"""Backtests: a rule set tried on the purchases of a past period. What is read is never written to.

A replay reads in bounded batches and keeps one member in memory, so it costs the same whatever the period holds. It may
be given up and begun again at any time: the rule set is kept with the backtest, as it was when that was started.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Date, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts.conditions import Facts
from crm.db import queue
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, NotFound
from crm.interactions.histories import Moment
from crm.loyalty import circumstances, contribution, programs
from crm.loyalty.basket import Purchase
from crm.loyalty.ladders import Counted, Pin
from crm.loyalty.limits import Used
from crm.loyalty.replay import Assumption, BacktestReport, Before, Past, Replay, Trial

backtests = Table(
    "backtests",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False),
    Column("first_on", Date, nullable=False),
    Column("last_on", Date, nullable=False),
    Column("rules", JSONB, nullable=False),
    Column("rules_sent", Boolean, nullable=False),
    Column("include_drafts", Boolean, nullable=False),
    Column("conditions", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger),
    Column("report", JSONB),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
)

JOB: Final = "run_backtest"
BATCH: Final = 500
"""Purchases read and judged at a time: short enough that whoever shares the process waits for no more than a blink."""

_INSTANT: Final = timedelta(microseconds=1)
_COLUMNS: Final = """
    id, program_id, status, first_on, last_on, rules, rules_sent, include_drafts, conditions, done, total, report, by,
    created_at, finished_at
"""
_RULES: Final = """
    SELECT id, version, definition FROM earning_rules
    WHERE program_id = $1 AND deleted_at IS NULL AND (status = 'active' OR (status = 'draft' AND $2)) ORDER BY id
"""
_COUNT: Final = "SELECT count(*) FROM purchases WHERE program_id = $1 AND occurred_at >= $2 AND occurred_at < $3"
# What is left of the member where the last batch ended, then those behind: each half in the order of an index.
_NEXT: Final = """
    (SELECT contact_id, occurred_at, recorded_at, order_ref, points, content, rules FROM purchases
     WHERE contact_id = $4 AND program_id = $1 AND occurred_at >= $5 AND occurred_at < $3
        AND (occurred_at, recorded_at, order_ref) > ($5, $6, $7)
     ORDER BY occurred_at, recorded_at, order_ref LIMIT $8)
    UNION ALL
    (SELECT contact_id, occurred_at, recorded_at, order_ref, points, content, rules FROM purchases
     WHERE contact_id > $4 AND program_id = $1 AND occurred_at >= $2 AND occurred_at < $3
     ORDER BY contact_id, occurred_at, recorded_at, order_ref LIMIT $8)
    ORDER BY contact_id, occurred_at, recorded_at, order_ref LIMIT $8
"""
# What applies by an amount of nothing gives nothing, and so uses nothing up.
_USED: Final = """
    SELECT p.contact_id, l.number, sum((r.row->>'points')::bigint)::bigint AS points, count(*) AS times
    FROM unnest($3::text[], $4::boolean[], $5::timestamptz[]) WITH ORDINALITY AS l (rule_id, by_amount, since, number)
    JOIN purchases p ON p.contact_id = ANY ($1) AND p.program_id = $2 AND p.occurred_at < $6
        AND p.occurred_at >= coalesce(l.since, '-infinity')
    CROSS JOIN LATERAL jsonb_array_elements(p.rules) AS r (row)
    WHERE r.row->>'rule_id' = l.rule_id AND r.row->>'outcome' = 'applied'
        AND (NOT l.by_amount OR (r.row->>'basis')::numeric <> 0)
    GROUP BY p.contact_id, l.number
"""
_COUNTED: Final = """
    SELECT a.contact_id, a.pin, (
        SELECT jsonb_agg(jsonb_build_array(d.local_on, d.points)) FROM qualifying_days d
        WHERE d.contact_id = a.contact_id AND d.program_id = a.program_id AND d.local_on <= $3
    ) AS days
    FROM loyalty_accounts a WHERE a.contact_id = ANY ($1) AND a.program_id = $2
"""


class BacktestNotFound(NotFound):
    code = "backtest_not_found"
    title = "There is no such backtest"


class BacktestCompleted(Conflict):
    code = "backtest_completed"
    title = "The backtest has been completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is tried: the local days `first_on` to `last_on`, both within, and definitions of rules.

    Without definitions the program's own rules, those that are active and, if asked for, its drafts.
    """

    first_on: date
    last_on: date
    rules: Sequence[Mapping[str, Any]] | None = None
    include_drafts: bool = False
    conditions: Assumption = "now"


@dataclass(slots=True)
class BacktestProgress:
    """How many purchases have been judged anew, and of how many; null until they have been counted."""

    done: int
    total: int | None


@dataclass(slots=True)
class Backtest:
    """A rule set tried on past purchases. `report` is there once it is completed.

    `rules` are those that were sent, null for the program's own. A failed one is tried again by itself, for a while.
    """

    id: UUID
    program_id: UUID
    status: str
    period: dict[str, date]
    rules: list[dict[str, Any]] | None
    include_drafts: bool
    conditions: str
    progress: BacktestProgress
    report: BacktestReport | None
    by: str
    created_at: datetime
    finished_at: datetime | None


async def start(session: Session, *, program_id: UUID, question: Question, by: str, now: datetime) -> Backtest:
    """Have the worker answer a question. Raises ProgramNotFound, InvalidCondition."""
    await programs.get(session, program_id=program_id)
    row = await session.fetchrow(
        f"""
        INSERT INTO backtests
            (program_id, id, first_on, last_on, rules, rules_sent, include_drafts, conditions, by, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING {_COLUMNS}
        """,
        program_id, uuid7(), question.first_on, question.last_on, await _rule_set(session, program_id, question),
        question.rules is not None, question.include_drafts, question.conditions, by, now,
    )  # fmt: skip
    backtest = _view(row)
    await queue.enqueue(session, name=JOB, payload={"program_id": program_id, "backtest_id": backtest.id})
    return backtest


async def get(session: Session, *, program_id: UUID, backtest_id: UUID) -> Backtest:
    """One backtest. Raises BacktestNotFound."""
    row = await session.fetchrow(
        f"SELECT {_COLUMNS} FROM backtests WHERE program_id = $1 AND id = $2", program_id, backtest_id
    )
    if row is None:
        raise BacktestNotFound("This program has no such backtest.")
    return _view(row)


async def page(session: Session, *, program_id: UUID, before: UUID | None, limit: int) -> list[Backtest]:
    """A program's backtests, newest first, older than `before`. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"""
        SELECT {_COLUMNS} FROM backtests WHERE program_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def cancel(session: Session, *, program_id: UUID, backtest_id: UUID, now: datetime) -> None:
    """End a backtest that has no report yet; whoever works on it stops. Raises BacktestNotFound, BacktestCompleted."""
    if await session.execute(
        """
        UPDATE backtests SET status = 'cancelled', finished_at = $3
        WHERE program_id = $1 AND id = $2 AND status IN ('pending', 'processing', 'failed')
        """,
        program_id, backtest_id, now,
    ):  # fmt: skip
        return
    if (await get(session, program_id=program_id, backtest_id=backtest_id)).status == "completed":
        raise BacktestCompleted("It has its report already; there is nothing left to stop.")


# ------------------------------------------------------------------ carrying it out


async def prepare(session: Session, *, program_id: UUID, question: Question) -> Replay:
    """A replay of its own, that no backtest is kept of. Raises ProgramNotFound, InvalidCondition."""
    return await _replay(session, program_id, question, await _rule_set(session, program_id, question))


async def begin(session: Session, *, program_id: UUID, backtest_id: UUID) -> Replay | None:
    """The replay of a backtest, from its beginning; None where it is over, or was never kept."""
    row = await session.fetchrow(
        f"""
        UPDATE backtests SET status = 'processing', done = 0, finished_at = NULL
        WHERE program_id = $1 AND id = $2 AND status IN ('pending', 'processing', 'failed') RETURNING {_COLUMNS}
        """,
        program_id, backtest_id,
    )  # fmt: skip
    if row is None:
        return None
    question = Question(
        first_on=row["first_on"], last_on=row["last_on"], rules=_sent(row), include_drafts=row["include_drafts"],
        conditions=row["conditions"],
    )  # fmt: skip
    replay = await _replay(session, program_id, question, row["rules"])
    await session.execute(
        "UPDATE backtests SET total = $3 WHERE program_id = $1 AND id = $2", program_id, backtest_id, replay.total
    )
    return replay


async def advance(session: Session, *, replay: Replay) -> bool:
    """Judge the next purchases; False when there are no more. Only reads."""
    trial = replay.trial
    contact_id, occurred_at, recorded_at, order_ref = replay.position or (UUID(int=0), trial.since, trial.since, "")
    rows = await session.fetch(
        _NEXT, trial.program.id, trial.since, trial.until, contact_id, occurred_at, recorded_at, order_ref, BATCH
    )
    before = await _before(session, trial, {row["contact_id"] for row in rows if replay.is_new(row["contact_id"])})
    pasts = [
        Past(row["contact_id"], msgspec.convert(row["content"], Purchase), row["points"], row["rules"]) for row in rows
    ]
    facts = await _facts(session, replay, pasts)
    for past in pasts:
        replay.add(past._replace(facts=facts.get(_just_before(past), past.facts)), before=before[past.contact_id])
    if rows:
        last = rows[-1]
        replay.position = last["contact_id"], last["occurred_at"], last["recorded_at"], last["order_ref"]
    return len(rows) == BATCH


async def note(session: Session, *, program_id: UUID, backtest_id: UUID, replay: Replay) -> bool:
    """Keep how far a replay is; False where nobody wants it any more."""
    wanted = await session.execute(
        """
        UPDATE backtests SET done = $3, total = greatest(total, $3)
        WHERE program_id = $1 AND id = $2 AND status = 'processing'
        """,
        program_id, backtest_id, replay.done,
    )  # fmt: skip
    return wanted == 1


async def complete(session: Session, *, program_id: UUID, backtest_id: UUID, replay: Replay, now: datetime) -> None:
    """Keep the report of a replay that has seen everything, unless somebody cancelled it or was faster."""
    await session.execute(
        """
        UPDATE backtests SET status = 'completed', report = $3, done = $4, total = $4, finished_at = $5
        WHERE program_id = $1 AND id = $2 AND status = 'processing'
        """,
        program_id, backtest_id, msgspec.to_builtins(replay.report()), replay.done, now,
    )  # fmt: skip


async def fail(session: Session, *, program_id: UUID, backtest_id: UUID, now: datetime) -> None:
    """Say that a replay broke off; it may begin again."""
    await session.execute(
        """
        UPDATE backtests SET status = 'failed', finished_at = $3
        WHERE program_id = $1 AND id = $2 AND status = 'processing'
        """,
        program_id, backtest_id, now,
    )  # fmt: skip


async def _rule_set(session: Session, program_id: UUID, question: Question) -> list[list[Any]]:
    """The rules to try as [id, version, definition]; those that were sent are numbered from 1."""
    if question.rules is not None:
        rules = []
        for number, rule in enumerate(question.rules):
            condition = await contribution.condition_to_keep(
                session, rule.get("condition"), pointer=f"/rules/{number}/condition"
            )
            asked = {**rule} if condition is None else {**rule, "condition": condition}
            rules.append([str(UUID(int=number + 1)), 0, asked])
        return rules
    rows = await session.fetch(_RULES, program_id, question.include_drafts)
    return [[str(row["id"]), row["version"], row["definition"]] for row in rows]


async def _replay(session: Session, program_id: UUID, question: Question, rules: Sequence[Sequence[Any]]) -> Replay:
    program = await programs.load(session, program_id=program_id)
    price = await session.fetchval("SELECT settings->>'cost_per_point' FROM programs WHERE id = $1", program_id)
    trial = Trial(
        program=program,
        first_on=question.first_on,
        last_on=question.last_on,
        rules=tuple(programs.rule_of(*rule) for rule in rules),
        rules_sent=question.rules is not None,
        include_drafts=question.include_drafts,
        conditions=question.conditions,
        cost_per_point=None if price is None else Decimal(price),
    )
    return Replay(trial, total=await session.fetchval(_COUNT, program_id, trial.since, trial.until))


async def _before(session: Session, trial: Trial, contact_ids: set[UUID]) -> defaultdict[UUID, Before]:
    """What members bring along: what they had had of limits that run since before the period, what counts for tiers."""
    before: defaultdict[UUID, Before] = defaultdict(Before)
    people = sorted(contact_ids)
    if people and (carried := trial.carried()):
        for row in await session.fetch(
            _USED, people, trial.program.id, [str(limit.rule.id) for limit in carried],
            [limit.rule.kind == "per_amount" for limit in carried], [limit.since for limit in carried], trial.since,
        ):  # fmt: skip
            limit = carried[row["number"] - 1]
            before[row["contact_id"]].usage[limit.rule.id, limit.period] = Used(row["points"], row["times"])
    if people and trial.climbs:
        for row in await session.fetch(_COUNTED, people, trial.program.id, trial.last_on):
            member = before[row["contact_id"]]
            member.days = {date.fromisoformat(day): Counted(points) for day, points in row["days"] or ()}
            member.pin = None if row["pin"] is None else msgspec.convert(row["pin"], Pin)
    return before


async def _facts(session: Session, replay: Replay, pasts: Sequence[Past]) -> Mapping[Moment, Facts]:
    """What conditions ask that purchases do not tell: fields as they are now, histories as they were before each."""
    if replay.trial.conditions != "now":
        return {}
    untold = [(_just_before(past), condition) for past in pasts for condition in replay.untold(past)]
    if not untold:
        return {}
    moments, asked = (dict.fromkeys(each) for each in zip(*untold, strict=True))
    return await circumstances.facts_for(session, program=replay.trial.program, asked=asked, moments=moments)


def _just_before(past: Past) -> Moment:
    # By now the purchase itself stands in its member's history.
    return past.contact_id, past.purchase.occurred_at - _INSTANT


def _view(row: Record | None) -> Backtest:
    assert row is not None, "the statement returns what it wrote"
    return Backtest(
        id=row["id"],
        program_id=row["program_id"],
        status=row["status"],
        period={"from": row["first_on"], "to": row["last_on"]},
        rules=_sent(row),
        include_drafts=row["include_drafts"],
        conditions=row["conditions"],
        progress=BacktestProgress(row["done"], row["total"]),
        report=None if row["report"] is None else msgspec.convert(row["report"], BacktestReport),
        by=row["by"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


def _sent(row: Record) -> list[dict[str, Any]] | None:
    return [definition for _, _, definition in row["rules"]] if row["rules_sent"] else None
