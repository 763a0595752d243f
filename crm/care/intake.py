"""Messages and cases: to which case a message belongs, which one becomes a case, and what that does to its clocks.

Messages are judged before they are recorded, because they stand on the timeline with their case, and are put to account
afterwards, when it is known which of them are new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from crm.care import agents, case_files, case_links, case_rules, cases, casework, matching
from crm.care.agents import Wish
from crm.care.case_files import Conversation
from crm.care.case_rules import CaseRule, Judge
from crm.care.cases import Draft
from crm.care.casework import Case, CaseFile
from crm.care.conversations import MESSAGE
from crm.contacts import contacts
from crm.contacts.conditions import Facts
from crm.contacts.vocabulary import Vocabulary
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert
from crm.errors import CrmError
from crm.interactions.authorship import is_machine
from crm.interactions.timeline import Recorded, Report

SUBJECT_MAX: Final = 80
OLD: Final = timedelta(days=7)
"""What was said longer ago is history that is brought in: nobody waits for an answer to it any more."""
_ANYWHERE: Final = "anywhere"
_UNSPOKEN: Final = "unspoken"

# Of each contact, the cases that are not closed, and those that are but were spoken about in the same threads.
_NEAR: Final = """
    SELECT c.contact_id, c.id AS case_id, c.channel, c.status, c.reopenable_until, v.thread_id, v.account_id, v.hint
    FROM cases c LEFT JOIN case_conversations v ON v.contact_id = c.contact_id AND v.case_id = c.id
    WHERE c.contact_id = ANY ($1) AND c.subject IS NOT NULL AND (c.status <> 'closed' OR v.thread_id = ANY ($2))
    ORDER BY c.id DESC, v.thread_id
"""
_NAMED: Final = """
    SELECT c.contact_id, c.id FROM unnest($1::uuid[], $2::uuid[]) AS g (contact_id, id)
    JOIN cases c ON c.contact_id = g.contact_id AND c.id = g.id WHERE c.status <> 'closed' AND c.subject IS NOT NULL
"""
_WATCHED: Final = """
    SELECT EXISTS (SELECT FROM case_rules WHERE status = 'active')
        OR EXISTS (SELECT FROM cases WHERE contact_id = ANY ($1))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message of somebody or to them, before it is recorded. `case_id` is the case that whoever tells of it names."""

    contact_id: UUID
    channel: str
    occurred_at: datetime
    inbound: bool
    by_bot: bool = False
    subject: str | None = None
    body: str | None = None
    thread_id: UUID | None = None
    account_id: UUID | None = None
    hint: str | None = None
    new_thread: bool = True
    case_id: UUID | None = None

    @property
    def conversation(self) -> Conversation | None:
        """Where it is said, if that is known."""
        if self.thread_id is None:
            return None
        return Conversation(thread_id=self.thread_id, channel=self.channel, account_id=self.account_id, hint=self.hint)

    def facts(self) -> dict[str, Any]:
        """What rules can ask about it."""
        return {
            "message.channel": self.channel, "message.subject": self.subject, "message.body": self.body,
            "message.account_id": None if self.account_id is None else str(self.account_id),
            "message.new_thread": self.new_thread,
        }  # fmt: skip


@dataclass(slots=True)
class _Known:
    """A case that a message may belong to."""

    case_id: UUID
    status: str
    reopenable_until: datetime | None

    def is_live(self) -> bool:
        return self.status in casework.LIVE

    def is_reopenable(self, now: datetime) -> bool:
        return self.status == "resolved" and self.reopenable_until is not None and now <= self.reopenable_until


@dataclass(slots=True)
class _New:
    """A case that is to be opened by a message, by a rule or because it follows another."""

    case_id: UUID
    first: Incoming
    rule: CaseRule | None
    follows: UUID | None = None


@dataclass(slots=True)
class Intake:
    """What was decided on messages: to which case each belongs, in their order, and which cases are new."""

    messages: Sequence[Incoming]
    case_ids: list[UUID | None]
    new: dict[UUID, _New] = field(default_factory=dict)


async def admit(session: Session, *, messages: Sequence[Incoming], vocabulary: Vocabulary, now: datetime) -> Intake:
    """Decide to which cases messages belong.

    A message belongs to the case that is named, else to the live one of its thread, else of its account where nothing
    tells its threads apart. A customer's message that belongs to none reopens the one that was resolved there not long
    ago, opens a new one that follows it if that is too long ago, or becomes a case by rule, unless it is old itself.
    """
    intake = Intake(messages, [None] * len(messages))
    people = sorted({message.contact_id for message in messages})
    if not people or not await session.fetchval(_WATCHED, people):
        return intake
    await contacts.lock_all(session, contact_ids=people)
    judge = await case_rules.judge(session, vocabulary=vocabulary)
    near = await _near(session, messages)
    named = await _named(session, messages)
    inbound = [message.contact_id for message in messages if message.inbound]
    known = await matching.people(session, vocabulary=vocabulary, asked=judge.asked, contact_ids=inbound, now=now)
    for number in sorted(range(len(messages)), key=lambda number: messages[number].occurred_at):
        message = messages[number]
        if message.case_id is not None:
            intake.case_ids[number] = message.case_id
            if (message.contact_id, message.case_id) not in named:
                continue
        else:
            intake.case_ids[number] = _place(intake, message, near, judge, known, now)
        if (case_id := intake.case_ids[number]) is not None:
            _remember(near, message, case_id)
    return intake


async def settle(
    session: Session, *, intake: Intake, recorded: Sequence[bool], vocabulary: Vocabulary, by: str, now: datetime
) -> None:
    """Put to account what was `recorded` of the messages: open cases, and let clocks end and begin."""
    heard = [
        (message, case_id)
        for message, case_id, is_new in zip(intake.messages, intake.case_ids, recorded, strict=True)
        if is_new and case_id is not None
    ]
    if not heard:
        return
    keys = {(message.contact_id, case_id) for message, case_id in heard}
    keys |= {
        (each.first.contact_id, each.follows)
        for _, case_id in heard
        if (each := intake.new.get(case_id)) is not None and each.follows is not None
    }
    files = {file.case.id: file for file in await case_files.take_all(session, keys=keys)}
    opened = [
        intake.new[case_id] for case_id in dict.fromkeys(case_id for _, case_id in heard) if case_id in intake.new
    ]
    links = await _open(session, vocabulary, opened, files, by, now)
    conversations = []
    for message, case_id in sorted(heard, key=lambda each: each[0].occurred_at):
        file = files.get(case_id)
        if file is None:
            continue  # what was named is no case of this contact
        _account(file, message, by=by, now=now)
        if message.conversation is not None and file.changed:
            conversations.append((file, message.conversation))
    await _keep_assignees(session, list(files.values()), by, now)
    new = {each.case_id for each in opened}
    parts = case_files.parts(list(files.values()), new=new, conversations=conversations, now=now)
    await writes.write(session, [*parts, *links])


class Desk:
    """Places what is reported into cases, as `reports.record_all` asks for it."""

    def __init__(self, *, vocabulary: Vocabulary, by: str, now: datetime) -> None:
        self._vocabulary, self._by, self._now = vocabulary, by, now
        self._intake = Intake((), [])
        self._numbers: list[int] = []

    async def place(self, session: Session, reports: Sequence[tuple[UUID, Report]]) -> Sequence[tuple[UUID, Report]]:
        """The same reports, with the cases that they belong to."""
        self._numbers = [
            number
            for number, (_, report) in enumerate(reports)
            if report.kind == MESSAGE and report.direction in {"inbound", "outbound"}
        ]
        messages = [self._incoming(*reports[number]) for number in self._numbers]
        self._intake = await admit(session, messages=messages, vocabulary=self._vocabulary, now=self._now)
        placed = list(reports)
        for number, case_id in zip(self._numbers, self._intake.case_ids, strict=True):
            contact_id, report = placed[number]
            placed[number] = (contact_id, replace(report, case_id=case_id or report.case_id))
        return placed

    async def placed(self, session: Session, recorded: Sequence[Recorded | CrmError]) -> None:
        """Put to account what was recorded of them."""
        new = [not isinstance(found := recorded[number], CrmError) and found[1] for number in self._numbers]
        await settle(
            session, intake=self._intake, recorded=new, vocabulary=self._vocabulary, by=self._by, now=self._now
        )

    def _incoming(self, contact_id: UUID, report: Report) -> Incoming:
        return Incoming(
            contact_id=contact_id, channel=report.channel, occurred_at=report.occurred_at,
            inbound=report.direction == "inbound", by_bot=is_machine(self._by, report.data), subject=report.subject,
            body=report.body, thread_id=report.thread_id, case_id=report.case_id,
        )  # fmt: skip


_Places = dict[tuple[UUID, object], list[_Known]]


def _place(
    intake: Intake, message: Incoming, near: _Places, judge: Judge, people: Mapping[UUID, Facts], now: datetime
) -> UUID | None:
    found = [each for key in _keys(message) for each in near.get((message.contact_id, key), ())]
    live = next((each for each in found if each.is_live()), None)
    if live is not None:
        return live.case_id
    again = next((each for each in found if each.is_reopenable(now)), None)
    if again is not None:
        if message.inbound:
            again.status = "open"
        return again.case_id
    if not message.inbound or message.occurred_at < now - OLD:
        return None
    rule = judge.judge(message.facts(), people[message.contact_id], now=now)
    if rule is not None and rule.action == "ignore":
        return None
    # What has ended elsewhere is not followed: only what was said in the same thread goes on in a new case.
    over = next(iter(near.get((message.contact_id, message.thread_id), ())), None)
    if rule is None and over is None:
        return None
    new = _New(uuid7(), message, rule, None if over is None else over.case_id)
    intake.new[new.case_id] = new
    return new.case_id


def _keys(message: Incoming) -> list[object]:
    """Where a message may find its case, best first.

    In its thread, else among those of its account that look the same, else where the case is not spoken about yet but
    began on the same channel; without a thread, anywhere on its channel.
    """
    keys: list[object] = [] if message.thread_id is None else [message.thread_id]
    if message.account_id is not None:
        keys.append((message.account_id, message.hint))
    return [*keys, (_ANYWHERE if message.thread_id is None else _UNSPOKEN, message.channel)]


def _remember(near: _Places, message: Incoming, case_id: UUID) -> None:
    """Let the next message of the batch find the case of this one."""
    keys = [*_keys(message)[:-1], (_ANYWHERE, message.channel)]
    if message.thread_id is None:
        keys.append((_UNSPOKEN, message.channel))
    for key in keys:
        places = near.setdefault((message.contact_id, key), [])
        if all(each.case_id != case_id for each in places):
            places.insert(0, _Known(case_id, "open", None))


async def _near(session: Session, messages: Sequence[Incoming]) -> _Places:
    people = sorted({message.contact_id for message in messages})
    threads = [message.thread_id for message in messages if message.thread_id is not None]
    near: _Places = {}
    cases_: dict[UUID, _Known] = {}
    for row in await session.fetch(_NEAR, people, threads):
        case_id, contact_id, channel = row["case_id"], row["contact_id"], row["channel"]
        keys: list[object] = []
        if row["thread_id"] is not None:
            keys.append(row["thread_id"])
        if row["account_id"] is not None:
            keys.append((row["account_id"], row["hint"]))
        if case_id not in cases_ and row["status"] != "closed":
            keys += [(_ANYWHERE, channel), *([(_UNSPOKEN, channel)] if row["thread_id"] is None else [])]
        known = cases_.setdefault(case_id, _Known(case_id, row["status"], row["reopenable_until"]))
        for key in keys:
            near.setdefault((contact_id, key), []).append(known)
    return near


async def _named(session: Session, messages: Sequence[Incoming]) -> set[tuple[UUID, UUID]]:
    """Those of the cases that are named which are the contacts' own, and not closed."""
    named = sorted({(each.contact_id, each.case_id) for each in messages if each.case_id is not None})
    if not named:
        return set()
    return {(row["contact_id"], row["id"]) for row in await session.fetch(_NAMED, *zip(*named, strict=True))}


async def _open(
    session: Session,
    vocabulary: Vocabulary,
    opened: Sequence[_New],
    files: dict[UUID, CaseFile],
    by: str,
    now: datetime,
) -> list[Insert]:
    """Open the new cases among the `files`: policies, assignees and all; the links to those that they follow."""
    befores = [None if new.follows not in files else files[new.follows].case for new in opened]
    drafts = [_draft(new, before) for new, before in zip(opened, befores, strict=True)]
    chosen = await agents.choose_all(session, wishes=[draft.wish for draft in drafts])
    made = []
    for new, draft, agent in zip(opened, drafts, chosen, strict=True):
        case = case_files.fresh(
            id=new.case_id, contact_id=new.first.contact_id, subject=draft.subject, category=draft.category,
            priority=draft.priority, status="open", channel=new.first.channel, assignee=agent, tags=list(draft.tags),
            with_bot=False, rule_id=None if new.rule is None else new.rule.id, created_at=now, created_by=by,
            updated_at=now,
        )  # fmt: skip
        made.append(CaseFile(case, casework.NO_TERMS, {}))
    await case_files.give_terms(session, vocabulary=vocabulary, files=made, now=now)
    links = []
    for file, before in zip(made, befores, strict=True):
        casework.open_(file, by=by, now=now)
        files[file.case.id] = file
        if before is not None:
            links.append(case_links.both(before, file.case, "follow_up_of", by=by, now=now))
    return links


def _draft(new: _New, before: Case | None) -> Draft:
    message, rule = new.first, new.rule
    subject = (message.subject or message.body or "").strip().partition("\n")[0][:SUBJECT_MAX].strip()
    if rule is None:
        assert before is not None, "a case is opened by a rule, or follows another"
        return replace(cases.following(before), subject=subject or before.subject or message.channel)
    wish: Wish | None = None if rule.assignment is None else rule.assignment.wish()
    return Draft(
        subject=subject or message.channel, category=rule.category, priority=rule.priority, tags=rule.tags, wish=wish
    )


def _account(file: CaseFile, message: Incoming, *, by: str, now: datetime) -> None:
    case = file.case
    if message.inbound:
        if case.is_live or casework.is_reopenable(case, at=now):
            casework.hear(file, at=message.occurred_at, by=by, now=now)
    elif not message.by_bot and case.is_live:
        casework.reply(file, at=message.occurred_at, by=by, now=now)


async def _keep_assignees(session: Session, files: Sequence[CaseFile], by: str, now: datetime) -> None:
    """Whoever had a case that a message has opened again keeps it, if they have room and are not away."""
    again = [file for file in files if file.reopened and file.case.assignee is not None]
    wishes = [Wish(mode="manual", agent=file.case.assignee) for file in again]
    for file, agent in zip(again, await agents.choose_all(session, wishes=wishes), strict=True):
        if agent is None:
            cases.assign(file, None, by=by, now=now)
