"""What the events of an account's deliveries come to: each kind is carried out where it belongs, many at a time."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from crm.db.session import Session
from crm.errors import CrmError, Invalid
from crm.inbox import aftermath, consents, facts, heard, messages, orders, persons, privacy, settling
from crm.inbox.accounts import Opened
from crm.inbox.aftermath import Became
from crm.inbox.deliveries import EventOutcome
from crm.inbox.heard import Heard, Outcomes
from crm.inbox.house import House
from crm.inbox.messages import Tale
from crm.inbox.persons import Wanted
from crm.interactions import timeline
from crm.interactions.channels.events import (
    Attached,
    ConsentChanged,
    Edited,
    Happened,
    Identified,
    Message,
    Ordered,
    Person,
    PrivacyRequested,
    Reaction,
    Refunded,
    StateChanged,
    Unknown,
    Unsent,
    Watermark,
)
from crm.loyalty import purchases

Personal: TypeAlias = Message | Happened | Unknown | ConsentChanged | Ordered | Watermark
"""The events that are somebody's, and need to know whose."""


class NobodyKnown(Invalid):
    code = "nobody_known"
    title = "Nobody can be found by what is said of the person"


async def apply(session: Session, *, account: Opened, events: Sequence[Heard], house: House, now: datetime) -> Outcomes:
    """Carry out the events, in few statements; what came of each by its number.

    What a rule of ours refuses is an outcome too; anything else is raised, and leaves the transaction useless.
    """
    outcomes: Outcomes = {}
    await settling.recognize(session, account=account, events=events, now=now)
    # Before the others, which may come from an address that is only told of here.
    outcomes |= await _identify(session, account, _of(Identified, events), house, now)
    outcomes |= await _tell(session, account, [one for one in events if isinstance(one.event, Personal)], house, now)
    became: list[tuple[Heard, Became]] = [
        (one, one.event)
        for one in events
        if isinstance(one.event, Attached | Edited | Unsent | StateChanged | Reaction)
    ]
    outcomes |= await aftermath.apply_all(session, account=account, became=became, now=now)
    outcomes |= await _refund(session, account, _of(Refunded, events), now)
    requested = [(one, one.event) for one in events if isinstance(one.event, PrivacyRequested)]
    outcomes |= await privacy.record_all(session, account=account, requested=requested, now=now)
    return outcomes


async def _identify(
    session: Session, account: Opened, events: Sequence[Heard], house: House, now: datetime
) -> Outcomes:
    outcomes: Outcomes = {}
    for one in events:
        event = one.event
        assert isinstance(event, Identified)
        wanted = persons.wanted(event.person, region=house.region, formerly=event.replaces)
        [contact_id] = await persons.resolve_all(session, wanted=[wanted], region=house.region, by=account.by, now=now)
        if contact_id is None:
            outcomes[one.number] = _nobody(one)
            continue
        try:
            async with session.savepoint():
                outcomes |= await facts.record(
                    session, one=one, event=event, wanted=wanted, contact_id=contact_id, by=account.by, now=now
                )
        except CrmError as refusal:
            outcomes[one.number] = one.failed(refusal, contact_id)
    return outcomes


async def _tell(session: Session, account: Opened, events: Sequence[Heard], house: House, now: datetime) -> Outcomes:
    """Find the people, and record what is told of them."""
    outcomes: Outcomes = {}
    # What stands already is not looked into again: nobody becomes a contact once more because of it.
    pairs = {
        one.number: heard.pair(account, one.event.external_id)
        for one in events
        if isinstance(one.event, Message | Happened | Unknown | ConsentChanged)
    }
    stored = await timeline.whose(session, pairs=list(set(pairs.values())))
    refs = {one.event.order_ref for one in events if isinstance(one.event, Ordered)}
    owners = await purchases.owners(session, program_id=account.program_id, order_refs=refs)
    found: dict[int, UUID] = {}
    unknown: list[tuple[Heard, Wanted]] = []
    for one in events:
        event = one.event
        assert isinstance(event, Personal)
        if pairs.get(one.number) in stored:
            outcomes[one.number] = one.repeated(*stored[pairs[one.number]])
        elif isinstance(event, Ordered) and event.order_ref in owners:
            found[one.number] = owners[event.order_ref]
        elif event.person is None:
            outcomes[one.number] = one.kept()
        else:
            unknown.append((one, _wanted(event, event.person, house)))
    contacts = await persons.resolve_all(
        session, wanted=[wanted for _, wanted in unknown], region=house.region, by=account.by, now=now
    )
    for (one, wanted), contact_id in zip(unknown, contacts, strict=True):
        if contact_id is not None:
            found[one.number] = contact_id
        else:
            outcomes[one.number] = _nobody(one) if wanted.create else one.kept()
    known = [(one, found[one.number]) for one in events if one.number in found]
    return outcomes | await _record(session, account, known, house, now)


async def _record(
    session: Session, account: Opened, known: Sequence[tuple[Heard, UUID]], house: House, now: datetime
) -> Outcomes:
    tales: list[Tale] = []
    changed: list[tuple[Heard, ConsentChanged, UUID]] = []
    ordered: list[tuple[Heard, Ordered, UUID]] = []
    marks: list[tuple[Heard, Watermark, UUID]] = []
    for one, contact_id in known:
        match one.event:
            case Message() | Happened() | Unknown() as event:
                tales.append(Tale(one, event, contact_id))
            case ConsentChanged() as event:
                changed.append((one, event, contact_id))
            case Ordered() as event:
                ordered.append((one, event, contact_id))
            case Watermark() as event:
                marks.append((one, event, contact_id))
    return (
        await messages.record_all(session, account=account, tales=tales, gap=house.gap, now=now)
        | await consents.record_all(session, account=account, changed=changed, now=now)
        | await aftermath.mark_all(session, account=account, marks=marks, now=now)
        | await orders.record_all(session, account=account, orders=ordered, now=now)
    )


async def _refund(session: Session, account: Opened, events: Sequence[Heard], now: datetime) -> Outcomes:
    outcomes: Outcomes = {}
    refs = {one.event.order_ref for one in events if isinstance(one.event, Refunded)}
    owners = await purchases.owners(session, program_id=account.program_id, order_refs=refs)
    for one in events:
        event = one.event
        assert isinstance(event, Refunded)
        try:
            async with session.savepoint():
                outcomes |= await orders.refund(session, account=account, one=one, event=event, owners=owners, now=now)
        except CrmError as refusal:
            outcomes[one.number] = one.failed(refusal, owners.get(event.order_ref))
    return outcomes


def _wanted(event: Personal, person: Person, house: House) -> Wanted:
    # Nobody becomes a contact by an event that says nothing of them.
    return persons.wanted(person, region=house.region, create=not isinstance(event, Unknown | Watermark))


def _nobody(one: Heard) -> EventOutcome:
    return one.failed(NobodyKnown("None of the person's addresses can identify anybody."))


def _of(kind: type, events: Iterable[Heard]) -> list[Heard]:
    return [one for one in events if isinstance(one.event, kind)]
