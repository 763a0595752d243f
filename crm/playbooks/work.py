"""Runs go on: each step that is due is taken in a transaction of its own, together with how far the run has come.

Whoever takes a step has locked its contact and its run, so that two workers take it once, and one that breaks off in
the middle leaves nothing of it. A contact whom somebody else has locked is left for the next time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog
from asyncpg import Record

from crm.contacts import aliases, predicates
from crm.contacts.conditions import Condition, InvalidCondition
from crm.contacts.vocabulary import Vocabulary
from crm.db import writes
from crm.db.session import Database, Session
from crm.db.writes import Insert, Update
from crm.inbox.house import House, QuietHours
from crm.interactions import timeline
from crm.playbooks import definitions, playbooks, runs, starting, steps
from crm.playbooks.definitions import Definition, MessageStep, Step, SurveyStep, WaitStep
from crm.playbooks.runs import playbook_runs, playbook_steps
from crm.playbooks.steps import Doing, Done

BATCH: Final = 200
"""How many runs are looked up together."""
ATTEMPTS_MAX: Final = 6
"""How often a step is tried that fails for reasons of ours, before its run is given up."""
RETRY_AFTER: Final = timedelta(minutes=5)
"""How long after its first failure a step is tried again; twice as long after each further one."""

QUIET: Final = "quiet_hours"
CONDITION: Final = "condition"
STOP_CONDITION: Final = "stop_condition"
_LOST: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
"""The database is gone, for all runs alike."""

_DUE: Final = """
    SELECT contact_id, id, due_at FROM playbook_runs
    WHERE status = 'running' AND due_at <= $1 AND playbook_id = ANY ($2)
        AND (due_at, id) > (coalesce($3::timestamptz, '-infinity'), coalesce($4::uuid, $5))
    ORDER BY due_at, id LIMIT $6
"""
_CONTACT: Final = "SELECT time_zone FROM contacts WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED"
_RUN: Final = """
    SELECT r.playbook_id, r.version, r.occasion, r.position, r.data, r.started_at, r.due_at
    FROM playbook_runs r JOIN playbooks p ON p.id = r.playbook_id AND p.status = 'active'
    WHERE r.contact_id = $1 AND r.id = $2 AND r.status = 'running' AND r.due_at <= $3
    FOR UPDATE OF r
"""
_WAIT: Final = "UPDATE playbook_runs SET due_at = $3, reason = $4 WHERE contact_id = $1 AND id = $2"
_FAILED: Final = """
    UPDATE playbook_runs SET attempts = attempts + 1,
        status = CASE WHEN attempts + 1 < $4 THEN status ELSE 'failed' END,
        due_at = CASE WHEN attempts + 1 < $4 THEN $3::timestamptz + $5::interval * power(2, attempts) END,
        ended_at = CASE WHEN attempts + 1 < $4 THEN NULL ELSE $3 END, reason = 'error'
    WHERE contact_id = $1 AND id = $2 AND status = 'running'
"""
_HAS_HAPPENED: Final = f"""
    SELECT i.kind FROM {aliases.known_as("$1::uuid")} who JOIN LATERAL (
        SELECT i.kind FROM interactions i
        WHERE i.contact_id = who.id AND i.occurred_at > $3 AND i.kind = ANY ($2) LIMIT 1
    ) i ON true LIMIT 1
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """A run whose turn it is: its contact and itself are locked."""

    contact_id: UUID
    run_id: UUID
    zone: str | None
    row: Record
    name: str
    definition: Definition
    now: datetime

    @property
    def by(self) -> str:
        return f"{runs.BY}{self.run_id}"

    def entry(self, word: str, **data: Any) -> tuple[Any, ...]:
        return runs.entry(
            self.contact_id, word, run_id=self.run_id, playbook_id=self.row["playbook_id"], by=self.by, now=self.now,
            name=self.name, occasion=self.row["occasion"], **data,
        )  # fmt: skip

    def became(
        self, status: runs.Status, position: int, *, due_at: datetime | None = None, reason: str | None = None
    ) -> Update:
        """The part of a write that says how far the run has come."""
        ended_at = self.now if due_at is None else None
        columns = ("contact_id", "id", "status", "reason", "position", "due_at", "attempts", "ended_at")
        row = (self.contact_id, self.run_id, status, reason, position, due_at, 0, ended_at)
        return Update(playbook_runs, columns, [row], 2)


class Versions:
    """The versions of playbooks that were read already: none ever changes."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID, int], tuple[str, Definition]] = {}

    async def read(self, session: Session, *, playbook_id: UUID, version: int) -> tuple[str, Definition]:
        """The name of a playbook, and what it does in this version."""
        key = (playbook_id, version)
        if key not in self._known:
            self._known[key] = await playbooks.of_version(session, playbook_id=playbook_id, version=version)
        return self._known[key]


async def work_off(
    database: Database, *, vocabulary: Vocabulary, house: House, clock: Callable[[], datetime], batch: int = BATCH
) -> int:
    """Take all steps that are due, of runs of active playbooks; how many were taken or skipped."""
    count, last, versions = 0, (None, None), Versions()
    while True:
        async with database.reading() as session:
            at_work = [playbook.id for playbook in await playbooks.active(session)]
            due = await session.fetch(_DUE, clock(), at_work, *last, UUID(int=0), batch)
        for row in due:
            count += await _go_on(database, row["contact_id"], row["id"], versions, vocabulary, house, clock)
        if len(due) < batch:
            return count
        last = (due[-1]["due_at"], due[-1]["id"])


async def _go_on(
    database: Database, contact_id: UUID, run_id: UUID, versions: Versions, vocabulary: Vocabulary, house: House,
    clock: Callable[[], datetime],
) -> int:  # fmt: skip
    """Take the steps of a run until one has to wait."""
    count = 0
    try:
        going_on = True
        while going_on:
            async with database.begin() as session:
                going_on = await advance(
                    session, contact_id=contact_id, run_id=run_id, versions=versions, vocabulary=vocabulary,
                    house=house, now=clock(),
                )  # fmt: skip
            count += going_on
    except _LOST:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the other runs have done nothing to deserve it
        _log.exception("playbook_step_failed", contact_id=contact_id, run_id=run_id)
        async with database.begin() as session:
            await session.execute(_FAILED, contact_id, run_id, clock(), ATTEMPTS_MAX, RETRY_AFTER)
    return count


async def advance(
    session: Session, *, contact_id: UUID, run_id: UUID, versions: Versions, vocabulary: Vocabulary, house: House,
    now: datetime,
) -> bool:  # fmt: skip
    """Take the next step of a run, if it is due and nobody else is at it; whether one was taken or skipped."""
    contact = await session.fetchrow(_CONTACT, contact_id)
    row = None if contact is None else await session.fetchrow(_RUN, contact_id, run_id, now)
    if contact is None or row is None:
        return False
    name, definition = await versions.read(session, playbook_id=row["playbook_id"], version=row["version"])
    turn = _Turn(contact_id, run_id, contact["time_zone"], row, name, definition, now)
    if (why := await _why_stop(session, turn, vocabulary)) is not None:
        told = [turn.entry("stopped", reason=why)]
        await writes.write(session, [turn.became("stopped", row["position"], reason=why), timeline.part(told)])
        return False
    step = definition.steps[row["position"]]
    speaks = isinstance(step, MessageStep | SurveyStep)
    if speaks and (until := quiet_of(definition, house).over_at(now, zone=turn.zone)) > now:
        # All is asked again then: whether it holds, whether they have allowed it.
        await session.execute(_WAIT, contact_id, run_id, until, QUIET)
        return False
    done = await _done(session, turn, step, vocabulary, house)
    await _write_down(session, turn, step, done)
    return True


def quiet_of(definition: Definition, house: House) -> QuietHours:
    """When a playbook sends nothing."""
    own = definition.quiet_hours
    return house.quiet if own is None else QuietHours(own.begin, own.end, house.quiet.zone)


async def _done(session: Session, turn: _Turn, step: Step, vocabulary: Vocabulary, house: House) -> Done:
    if not isinstance(step, WaitStep):
        try:
            condition, _ = definitions.conditions_of(turn.definition, vocabulary)
        except InvalidCondition as error:
            return Done({"detail": error.detail}, skipped=error.code)
        if not await _holds(session, turn, vocabulary, condition):
            return Done(skipped=CONDITION)
    doing = Doing(
        turn.contact_id, turn.run_id, turn.row["position"], turn.definition, turn.row["data"], vocabulary, house,
        turn.now,
    )  # fmt: skip
    return await steps.take(session, step=step, doing=doing)


async def _write_down(session: Session, turn: _Turn, step: Step, done: Done) -> None:
    position, kind = turn.row["position"], definitions.name_of(step)
    outcome = "taken" if done.skipped is None else "skipped"
    fact = (turn.contact_id, turn.run_id, position, kind, outcome, done.skipped, dict(done.data), turn.now)
    told = [turn.entry(f"step_{outcome}", position=position, step=kind, reason=done.skipped, **done.data)]
    is_last = position + 1 == len(turn.definition.steps)
    if is_last:
        told.append(turn.entry("completed"))
        run = turn.became("completed", position + 1)
    else:
        run = turn.became("running", position + 1, due_at=turn.now + done.wait)
    columns = ("contact_id", "run_id", "position", "kind", "outcome", "reason", "data", "at")
    await writes.write(session, [Insert(playbook_steps, columns, [fact]), run, timeline.part(told)])


async def _why_stop(session: Session, turn: _Turn, vocabulary: Vocabulary) -> str | None:
    stop = turn.definition.stop
    if stop is None:
        return None
    if stop.interactions:
        happened: str | None = await session.fetchval(
            _HAS_HAPPENED, turn.contact_id, list(stop.interactions), turn.row["started_at"]
        )
        if happened is not None:
            return happened
    if stop.condition is not None:
        try:
            _, condition = definitions.conditions_of(turn.definition, vocabulary)
        except InvalidCondition as error:
            # What can't be asked any more is no reason to go on writing to somebody.
            return error.code
        if await _holds(session, turn, vocabulary, condition):
            return STOP_CONDITION
    return None


async def _holds(session: Session, turn: _Turn, vocabulary: Vocabulary, condition: Condition | None) -> bool:
    """Whether a condition holds of the contact now."""
    if condition is None:
        return True
    selection = await starting.chosen(
        session, vocabulary=vocabulary, definition=turn.definition, condition=condition, now=turn.now
    )
    args: list[Any] = [turn.contact_id]
    source, where = selection.sql(predicates.bound_to(args))
    held: bool = await session.fetchval(f"SELECT EXISTS (SELECT FROM {source} WHERE c.id = $1 AND {where})", *args)
    return held
