"""What time does to cases: who is late, what is done about it before and then, and what can't be reopened any more."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.care import agents, case_files, cases, casework, tasks
from crm.care.agents import Wish
from crm.care.casework import SYSTEM, CaseFile, Step
from crm.care.clocks import Metric
from crm.contacts import contacts
from crm.contacts.vocabulary import Vocabulary
from crm.db import writes
from crm.db.session import Session
from crm.db.writes import Insert

BATCH: Final = 200
"""How many cases are looked at in one transaction."""

DUE: Final = """
    SELECT k.contact_id, k.case_id FROM case_clocks k WHERE k.next_at < $1 ORDER BY k.next_at LIMIT $2
"""
_OUTDATED: Final = """
    SELECT k.contact_id, k.case_id FROM business_calendars b CROSS JOIN LATERAL (
        SELECT contact_id, case_id FROM case_clocks
        WHERE calendar_id = b.id AND calendar_version < b.version AND resumed_at IS NOT NULL LIMIT $1
    ) k
    LIMIT $1
"""
_OVER: Final = """
    SELECT c.contact_id, c.id FROM cases c WHERE c.status = 'resolved' AND c.reopenable_until < $1
    ORDER BY c.reopenable_until LIMIT $2
"""
_PRIORITIES: Final = ("low", "normal", "high", "urgent")


async def look(session: Session, *, vocabulary: Vocabulary, now: datetime) -> int:
    """Note which cases are late by now, and escalate them and those that soon will be; how many cases were looked at.

    A breach is told at the time at which it was, however much later that is. Again it changes nothing; several at once
    take turns.
    """
    rows = await session.fetch(DUE, now, BATCH)
    files = await _taken(session, [(row["contact_id"], row["case_id"]) for row in rows])
    before = {file.case.id: dict(file.clocks) for file in files}
    steps = [(file, metric, step) for file in files for metric, step in casework.look(file, now=now)]
    parts = await _escalate(session, vocabulary, steps, now)
    for file in files:
        casework.settle(file)
        file.changed = file.changed or file.clocks != before[file.case.id]
    await writes.write(session, [*case_files.parts(files, now=now), *parts])
    return len(files)


async def recalculate(session: Session, *, now: datetime) -> int:
    """Let clocks that run go by their calendars as these are now; how many cases there were."""
    rows = await session.fetch(_OUTDATED, BATCH)
    files = await _taken(session, [(row["contact_id"], row["case_id"]) for row in rows])
    for file in files:
        casework.recalculate(file)
    await case_files.put(session, files=files, now=now)
    return len(files)


async def close(session: Session, *, now: datetime) -> int:
    """Close the cases that were resolved too long ago to be opened again; how many."""
    rows = await session.fetch(_OVER, now, BATCH)
    files = await _taken(session, [(row["contact_id"], row["id"]) for row in rows])
    for file in files:
        if file.case.status == "resolved" and not casework.is_reopenable(file.case, at=now):
            casework.set_status(file, "closed", by=SYSTEM, now=now)
    await case_files.put(session, files=files, now=now)
    return len(files)


async def _taken(session: Session, keys: Sequence[tuple[UUID, UUID]]) -> list[CaseFile]:
    if not keys:
        return []
    await contacts.lock_all(session, contact_ids=sorted({contact_id for contact_id, _ in keys}))
    return await case_files.take_all(session, keys=keys)


async def _escalate(
    session: Session, vocabulary: Vocabulary, steps: Sequence[tuple[CaseFile, Metric, Step]], now: datetime
) -> list[Insert]:
    """Carry out steps: of several for one case, the later ones have the last word. The tasks that are to be made."""
    wishes = [
        Wish(mode="manual", agent=step.assignee)
        if step.assignee is not None and step.assignee != file.case.assignee
        else None
        for file, _, step in steps
    ]
    chosen = await agents.choose_all(session, wishes=wishes)
    raised: list[CaseFile] = []
    made: list[tasks.Task] = []
    for (file, metric, step), agent, wish in zip(steps, chosen, wishes, strict=True):
        case, done = file.case, dict[str, Any]()
        if wish is not None:
            done["assignee"] = agent
            if agent is not None:
                cases.assign(file, agent, by=SYSTEM, now=now)
        if step.priority is not None and _PRIORITIES.index(step.priority) > _PRIORITIES.index(case.priority):
            case.priority = done["priority"] = step.priority
            raised.append(file)
        if step.task is not None:
            task = tasks.of_case(
                contact_id=case.contact_id, case_id=case.id, title=step.task, assignee=case.assignee, by=SYSTEM,
                now=now,
            )  # fmt: skip
            made.append(task)
            done["task_id"] = task.id
        file.tell(
            "escalated", at=now, now=now, by=SYSTEM, metric=metric, before_seconds=int(step.before.total_seconds()),
            wanted=step.assignee, **done,
        )  # fmt: skip
    again = list({file.case.id: file for file in raised}.values())
    await case_files.give_terms(session, vocabulary=vocabulary, files=again, now=now)
    return tasks.parts(made, by=SYSTEM, now=now)
