"""Messages, and what else happened, put on timelines and into threads."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from crm.care.intake import Incoming, Intake, admit, settle
from crm.db.session import Session
from crm.errors import CrmError
from crm.inbox import heard, settling
from crm.inbox.accounts import Opened
from crm.inbox.deliveries import EventOutcome
from crm.inbox.heard import Heard, Outcomes
from crm.inbox.settling import StillSending
from crm.interactions import changes, threads, timeline
from crm.interactions.authorship import is_machine
from crm.interactions.changes import Pair
from crm.interactions.channels.events import Happened, Message, Unknown
from crm.interactions.threads import Said
from crm.interactions.timeline import Recorded, Report
from crm.loyalty.vocabulary import VOCABULARY

UNKNOWN: Final = "unknown"
Told: TypeAlias = Message | Happened | Unknown
"""The events that become interactions of their own."""


class Tale(NamedTuple):
    """An event, and the contact with whom it happened."""

    heard: Heard
    event: Told
    contact_id: UUID


async def record_all(
    session: Session, *, account: Opened, tales: Sequence[Tale], gap: timedelta, now: datetime
) -> Outcomes:
    """Record what happened with contacts, who are locked; each external id once."""
    ours = [
        (tale.heard.number, tale.contact_id, tale.event)
        for tale in tales
        if isinstance(tale.event, Message) and tale.event.direction == "outbound"
    ]
    # Before it is asked what stands already: what was on its way stands by then, or is still on its way.
    waiting = await settling.echoes(session, account=account, outbound=ours, now=now) if ours else set()
    keys = [heard.pair(account, tale.event.external_id) for tale in tales]
    # Once more, now that the contacts are locked: another worker may have been faster.
    stored = await timeline.whose(session, pairs=set(keys))
    outcomes: Outcomes = {}
    new: dict[Pair, tuple[Tale, Report]] = {}
    again: list[tuple[Tale, Pair]] = []
    for tale, key in zip(tales, keys, strict=True):
        report = _report(account, tale.event, now)
        if key in stored:
            outcomes[tale.heard.number] = tale.heard.repeated(*stored[key])
        elif tale.heard.number in waiting:
            outcomes[tale.heard.number] = tale.heard.failed(StillSending("It is looked at again."), tale.contact_id)
        elif refused := timeline.refusal(report, now=now):
            outcomes[tale.heard.number] = tale.heard.failed(refused, tale.contact_id)
        elif key in new:
            again.append((tale, key))
        else:
            new[key] = (tale, report)
    in_threads, begun = await _in_threads(session, account, list(new.values()), gap)
    reports, intake = await _in_cases(session, account, list(new.values()), in_threads, begun, now)
    results = await timeline.record_all(session, reports=reports, by=account.by, now=now)
    await _settle(session, account, intake, list(new.values()), results, now)
    recorded = dict(zip(new, results, strict=True))
    outcomes |= {tale.heard.number: _outcome(tale, recorded[key]) for key, (tale, _) in new.items()}
    outcomes |= {tale.heard.number: _outcome(tale, recorded[key], again=True) for tale, key in again}
    messages = {key for key, (tale, _) in new.items() if isinstance(tale.event, Message)}
    await changes.catch_up(session, messages=messages, now=now)
    return outcomes


def _outcome(tale: Tale, result: Recorded | CrmError, *, again: bool = False) -> EventOutcome:
    if isinstance(result, CrmError):
        return tale.heard.failed(result, tale.contact_id)
    interaction, is_new = result
    told = tale.heard.recorded if is_new and not again else tale.heard.repeated
    return told(interaction.contact_id, interaction.id)


async def _in_threads(
    session: Session, account: Opened, new: Sequence[tuple[Tale, Report]], gap: timedelta
) -> tuple[list[tuple[UUID, Report]], set[int]]:
    """The reports with the threads of messages; the numbers of the messages that begin one."""
    messages = [(tale, tale.event) for tale, _ in new if isinstance(tale.event, Message)]
    said = [
        Said(
            contact_id=tale.contact_id, account_id=account.id, channel=message.channel or account.at_provider.channel,
            occurred_at=message.occurred_at, inbound=message.direction == "inbound", hint=message.thread_hint,
            gap=account.thread_gap(gap),
        )
        for tale, message in messages
    ]  # fmt: skip
    assigned = await threads.assign(session, said=said)
    numbers = [tale.heard.number for tale, _ in messages]
    ids = {number: thread_id for number, (thread_id, _) in zip(numbers, assigned, strict=True)}
    begun = {number for number, (_, begins) in zip(numbers, assigned, strict=True) if begins}
    reports = [(tale.contact_id, replace(report, thread_id=ids.get(tale.heard.number))) for tale, report in new]
    return reports, begun


async def _in_cases(
    session: Session,
    account: Opened,
    new: Sequence[tuple[Tale, Report]],
    reports: Sequence[tuple[UUID, Report]],
    begun: Collection[int],
    now: datetime,
) -> tuple[list[tuple[UUID, Report]], Intake]:
    """The reports with the cases that messages belong to."""
    said = [
        (tale.event, tale.heard.number in begun, contact_id, report)
        for (tale, _), (contact_id, report) in zip(new, reports, strict=True)
        if isinstance(tale.event, Message)
    ]
    messages = [
        Incoming(
            contact_id=contact_id, channel=report.channel, occurred_at=report.occurred_at,
            inbound=report.direction == "inbound", by_bot=is_machine(account.by, report.data), subject=report.subject,
            body=report.body, thread_id=report.thread_id, account_id=account.id, hint=event.thread_hint,
            new_thread=begins,
        )
        for event, begins, contact_id, report in said
    ]  # fmt: skip
    intake = await admit(session, messages=messages, vocabulary=VOCABULARY, now=now)
    case_ids = iter(intake.case_ids)
    placed = [
        (contact_id, replace(report, case_id=next(case_ids)) if isinstance(tale.event, Message) else report)
        for (tale, _), (contact_id, report) in zip(new, reports, strict=True)
    ]
    return placed, intake


async def _settle(
    session: Session,
    account: Opened,
    intake: Intake,
    new: Sequence[tuple[Tale, Report]],
    results: Sequence[Recorded | CrmError],
    now: datetime,
) -> None:
    recorded = [
        not isinstance(result, CrmError) and result[1]
        for (tale, _), result in zip(new, results, strict=True)
        if isinstance(tale.event, Message)
    ]
    await settle(session, intake=intake, recorded=recorded, vocabulary=VOCABULARY, by=account.by, now=now)


def _report(account: Opened, event: Told, now: datetime) -> Report:
    source, external_id = heard.pair(account, event.external_id)
    common: dict[str, Any] = {
        "channel": getattr(event, "channel", None) or account.at_provider.channel, "source": source,
        "external_id": external_id,
    }  # fmt: skip
    match event:
        case Message():
            facts = {
                **event.data,
                "attachments": [heard.attached(each) for each in event.attachments],
                "reply_to": event.reply_to,
            }
            return Report(
                kind=event.kind, occurred_at=event.occurred_at, direction=event.direction,
                subject=_line(event.subject), body=heard.text(event.text), data=heard.data(facts), **common,
            )  # fmt: skip
        case Happened():
            return Report(
                kind=event.kind, occurred_at=event.occurred_at, subject=_line(event.subject),
                body=heard.text(event.text), data=heard.data(event.data), **common,
            )  # fmt: skip
        case Unknown():
            facts = {"kind": event.kind, "reason": event.reason, "raw": event.raw}
            return Report(kind=UNKNOWN, occurred_at=event.occurred_at or now, data=heard.data(facts), **common)


def _line(subject: str | None) -> str | None:
    return None if subject is None else subject[: heard.SUBJECT_MAX]
