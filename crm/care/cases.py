"""Cases: requests and complaints to be resolved, and what can be done about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.care import agents, case_files, case_links, casework
from crm.care.agents import Wish
from crm.care.casework import Case, CaseClosed, CaseFile, Priority
from crm.contacts import aliases, contacts
from crm.contacts.vocabulary import Vocabulary
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import Conflict, Stale

_MATCHED: Final = frozenset({"priority", "category", "tags", "subject"})
"""What a policy may ask: who changes it has the case looked at anew."""


class StaleCase(Stale):
    title = "The case has changed since you read it"


class NobodyFree(Conflict):
    code = "nobody_free"
    title = "Nobody can take the case now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a case begins with. Whoever is wished for is asked where there is no `assignee`."""

    subject: str
    description: str | None = None
    category: str | None = None
    priority: Priority = "normal"
    channel: str | None = None
    assignee: str | None = None
    tags: Sequence[str] = ()
    with_bot: bool = False
    wish: Wish | None = None


async def create(
    session: Session,
    *,
    vocabulary: Vocabulary,
    contact_id: UUID,
    draft: Draft,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Case:
    """Open a case. Raises ContactNotFound, UnknownAgent, AgentFull."""
    await contacts.lock(session, contact_id=contact_id)
    file = await _opened(session, vocabulary=vocabulary, contact_id=contact_id, draft=draft, by=by, now=now)
    written = case_files.parts([file], new={file.case.id}, now=now)
    await writes.write(session, [*written, *idempotency.answer(once, contact_id=contact_id, result=file.case, now=now)])
    return file.case


async def get(session: Session, *, case_id: UUID) -> Case:
    """One case. Raises CaseNotFound."""
    return await case_files.read(session, case_id=case_id)


async def update(
    session: Session,
    *,
    vocabulary: Vocabulary,
    case_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    by: str,
    now: datetime,
) -> Case:
    """Change what a case is, whose it is, and how it stands.

    Raises CaseNotFound, StaleCase, CaseClosed, ReopenPeriodOver, UnknownAgent, AgentFull.
    """
    file = await case_files.take(session, case_id=case_id)
    case = file.case
    if version is not None and version != case.version:
        raise StaleCase("Read it again, and send the new ETag in If-Match.", version=case.version)
    changed = {name: value for name, value in changes.items() if getattr(case, name) != value}
    if not changed:
        casework.settle(file)
        return case
    if case.status == "closed":
        raise CaseClosed("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    if "assignee" in changed and case.is_live:
        await _assign(session, file, changed["assignee"], by=by, now=now)
    if "status" in changed:
        casework.set_status(file, changed["status"], by=by, now=now)
        if file.reopened:
            await _settle_assignee(session, file, changed, by=by, now=now)
    if "assignee" in changed and case.assignee != changed["assignee"]:
        await _assign(session, file, changed["assignee"], by=by, now=now)
    await _edit(session, vocabulary, file, changed, by=by, now=now)
    await case_files.put(session, files=[file], now=now)
    return case


async def give(session: Session, *, case_id: UUID, wish: Wish, by: str, now: datetime) -> Case:
    """Give a case to whoever is wished for, in turn or the least busy. Raises CaseNotFound, CaseClosed, NobodyFree."""
    file = await case_files.take(session, case_id=case_id)
    if file.case.status == "closed":
        raise CaseClosed("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    [agent] = await agents.choose_all(session, wishes=[wish])
    if agent is None:
        raise NobodyFree("Who is not away has as many cases as they can take, or there is nobody of these.")
    assign(file, agent, by=by, now=now)
    await case_files.put(session, files=[file], now=now)
    return file.case


async def hand_over(session: Session, *, case_id: UUID, by: str, now: datetime) -> Case:
    """Let people take a case over from a bot; again it changes nothing. Raises CaseNotFound."""
    file = await case_files.take(session, case_id=case_id)
    if file.case.with_bot:
        casework.hand_over(file, by=by, now=now)
    else:
        casework.settle(file)
    await case_files.put(session, files=[file], now=now)
    return file.case


async def reopen(
    session: Session,
    *,
    vocabulary: Vocabulary,
    case_id: UUID,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> tuple[Case, bool]:
    """Go on with a case: the same one within its period, else a new one that follows it. True beside a new one.

    Raises CaseNotFound, ContactNotFound.
    """
    file = await case_files.take(session, case_id=case_id)
    before = file.case
    if before.is_live or casework.is_reopenable(before, at=now):
        if not before.is_live:
            casework.reopen(file, by=by, now=now)
            await _settle_assignee(session, file, {}, by=by, now=now)
        else:
            casework.settle(file)
        await case_files.put(session, files=[file], now=now)
        await idempotency.keep(session, request=once, contact_id=before.contact_id, result=before, status=200, now=now)
        return before, False
    who = (await aliases.survivors(session, ids=[before.contact_id])).get(before.contact_id, before.contact_id)
    await contacts.lock(session, contact_id=who)
    again = await _opened(session, vocabulary=vocabulary, contact_id=who, draft=following(before), by=by, now=now)
    links = case_links.both(before, again.case, "follow_up_of", by=by, now=now)
    written = case_files.parts([again], new={again.case.id}, now=now)
    await writes.write(
        session,
        [*written, links, *idempotency.answer(once, contact_id=who, result=again.case, status=201, now=now)],
    )
    return again.case, True


def following(before: Case) -> Draft:
    """What a case begins with that follows another."""
    return Draft(
        subject=before.subject or "", category=before.category, priority=before.priority, channel=before.channel,
        tags=before.tags, wish=_same(before.assignee),
    )  # fmt: skip


def assign(file: CaseFile, agent: str | None, *, by: str, now: datetime) -> None:
    """Let a case be an agent's, or nobody's."""
    before, file.case.assignee = file.case.assignee, agent
    if before != agent:
        file.tell("assigned", at=now, now=now, by=by, before=before, assignee=agent)


async def _assign(session: Session, file: CaseFile, agent: str | None, *, by: str, now: datetime) -> None:
    if agent is not None:
        await agents.take(session, agent_id=agent, more=file.case.is_live)
    assign(file, agent, by=by, now=now)


async def _opened(
    session: Session, *, vocabulary: Vocabulary, contact_id: UUID, draft: Draft, by: str, now: datetime
) -> CaseFile:
    if draft.assignee is not None:
        await agents.take(session, agent_id=draft.assignee)
    [chosen] = await agents.choose_all(session, wishes=[draft.wish if draft.assignee is None else None])
    case = case_files.fresh(
        id=uuid7(), contact_id=contact_id, subject=draft.subject, category=draft.category, priority=draft.priority,
        status="open", channel=draft.channel, assignee=draft.assignee or chosen, tags=list(draft.tags),
        with_bot=draft.with_bot, created_at=now, created_by=by, updated_at=now,
    )  # fmt: skip
    file = CaseFile(case, casework.NO_TERMS, {})
    await case_files.give_terms(session, vocabulary=vocabulary, files=[file], now=now)
    casework.open_(file, description=draft.description, by=by, now=now)
    return file


async def _settle_assignee(
    session: Session, file: CaseFile, changed: Mapping[str, Any], *, by: str, now: datetime
) -> None:
    """Whoever had a case before it is opened again keeps it, if they have room and are not away."""
    if file.case.assignee is None or "assignee" in changed:
        return
    [kept] = await agents.choose_all(session, wishes=[_same(file.case.assignee)])
    if kept is None:
        assign(file, None, by=by, now=now)


async def _edit(
    session: Session, vocabulary: Vocabulary, file: CaseFile, changed: Mapping[str, Any], *, by: str, now: datetime
) -> None:
    edited = {name: value for name, value in changed.items() if name not in {"status", "assignee"}}
    if not edited:
        return
    before = {name: getattr(file.case, name) for name in edited}
    for name, value in edited.items():
        setattr(file.case, name, value)
    file.tell("updated", at=now, now=now, by=by, before=before, after=edited)
    if edited.keys() & _MATCHED:
        await case_files.give_terms(session, vocabulary=vocabulary, files=[file], now=now)


def _same(agent: str | None) -> Wish | None:
    return None if agent is None else Wish(mode="manual", agent=agent)
