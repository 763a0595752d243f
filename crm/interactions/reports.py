"""What others report, of a contact or of whoever is behind an address."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from crm.contacts import identities
from crm.contacts.addresses import Address
from crm.contacts.identities import IdentityAmbiguous
from crm.db.session import Session
from crm.errors import CrmError, Unavailable
from crm.interactions import people, timeline
from crm.interactions.people import Sender
from crm.interactions.timeline import ExternalIdTaken, Interaction, Recorded, Report


class Desk(Protocol):
    """Whoever wants to know what is reported, before it is recorded and then, such as cases that messages belong to."""

    async def place(self, session: Session, reports: Sequence[tuple[UUID, Report]]) -> Sequence[tuple[UUID, Report]]:
        """The reports as they are to be recorded, in their order."""

    async def placed(self, session: Session, recorded: Sequence[Recorded | CrmError]) -> None:
        """What became of them."""


async def record(
    session: Session, *, who: UUID | Sender, report: Report, desk: Desk | None = None, by: str, now: datetime
) -> Recorded:
    """Put a report on somebody's timeline; whoever is behind an address that nobody has becomes a contact.

    Raises ContactNotFound, IdentityAmbiguous, ExternalIdTaken, ReservedKind, InTheFuture.
    """
    result = (await record_all(session, reports=[(who, report)], desk=desk, by=by, now=now))[0]
    if isinstance(result, CrmError):
        raise result
    return result


async def record_all(
    session: Session,
    *,
    reports: Sequence[tuple[UUID | Sender, Report]],
    desk: Desk | None = None,
    by: str,
    now: datetime,
) -> list[Recorded | CrmError]:
    """`record` for many: in order, and for each what `record` would have answered or raised.

    However many they are, it takes a few statements. A refused report makes no contact.
    """
    results: dict[int, Recorded | CrmError] = {}
    owners: dict[int, UUID] = {}
    strangers: dict[int, Sender] = {}
    resolved = await _resolved(session, {n: who for n, (who, _) in enumerate(reports) if isinstance(who, Sender)})
    for number, (who, report) in enumerate(reports):
        owner = who if isinstance(who, UUID) else resolved[number]
        if isinstance(owner, IdentityAmbiguous):
            results[number] = owner
        elif refused := timeline.refusal(report, now=now):
            results[number] = refused
        elif isinstance(owner, UUID):
            owners[number] = owner
        elif isinstance(who, Sender):
            strangers[number] = who
    if strangers:
        for number, contact in (await _welcomed(session, reports, owners, strangers, by, now)).items():
            if isinstance(contact, UUID):
                owners[number] = contact
            else:
                results[number] = contact
    numbers = sorted(owners)
    placed: Sequence[tuple[UUID, Report]] = [(owners[number], reports[number][1]) for number in numbers]
    if desk is not None:
        placed = await desk.place(session, placed)
    recorded = await timeline.record_all(session, reports=placed, by=by, now=now)
    if desk is not None:
        await desk.placed(session, recorded)
    results.update(zip(numbers, recorded, strict=True))
    if any(number in owners and isinstance(results[number], ExternalIdTaken) for number in strangers):
        # Somebody may have been made a contact for it, who must not stay.
        raise Unavailable("Somebody else wrote the same external id at this moment. Send the request again.")
    return [results[number] for number in range(len(reports))]


async def _resolved(session: Session, senders: Mapping[int, Sender]) -> dict[int, UUID | IdentityAmbiguous | None]:
    if not senders:
        return {}
    found = await identities.resolve_all(session, lookups=[sender.lookup for sender in senders.values()])
    return dict(zip(senders, found, strict=True))


async def _welcomed(
    session: Session,
    reports: Sequence[tuple[UUID | Sender, Report]],
    owners: Mapping[int, UUID],
    strangers: Mapping[int, Sender],
    by: str,
    now: datetime,
) -> dict[int, UUID | CrmError]:
    """Make contacts of strangers: who each of them is now, or why the report is refused."""
    pairs = {n: pair for n in sorted({*owners, *strangers}) if (pair := reports[n][1].pair) is not None}
    stored = await timeline.find(session, pairs=list(pairs.values()))
    # The same first message may have been recorded since they were looked up; then they are no strangers any more.
    again = {number: sender for number, sender in strangers.items() if pairs.get(number) in stored}
    found = {number: owner for number, owner in (await _resolved(session, again)).items() if owner is not None}
    rows = await session.fetch("SELECT id FROM contacts WHERE id = ANY ($1)", list(owners.values()))
    known = {row["id"] for row in rows}
    whose: dict[int, UUID | Address] = {number: owner for number, owner in owners.items() if owner in known}
    whose |= {number: _address(sender) for number, sender in strangers.items() if number not in found}
    outdone = _outdone(whose, pairs, stored)

    new = [sender for number, sender in strangers.items() if number not in found and number not in outdone]
    made = await people.resolve_or_create_all(session, senders=new, by=by, now=now) if new else []
    ids = dict(zip(map(_address, new), made, strict=True))
    welcome: dict[int, UUID | CrmError] = {**found}
    for number in strangers.keys() - found.keys():
        holder = outdone.get(number, whose[number])
        contact = ids[holder] if isinstance(holder, Address) else holder
        if number in outdone and isinstance(contact, UUID):
            welcome[number] = timeline.taken(pairs[number], by=contact)
        else:
            welcome[number] = contact
    return welcome


def _outdone(
    whose: Mapping[int, UUID | Address],
    pairs: Mapping[int, tuple[str, str]],
    stored: Mapping[tuple[str, str], Interaction],
) -> dict[int, UUID | Address]:
    """The strangers whose external id is somebody else's when it is their turn, each with whose it is then."""
    holders: dict[tuple[str, str], UUID | Address] = {pair: found.contact_id for pair, found in stored.items()}
    outdone = {}
    for number, pair in pairs.items():
        if number in whose:
            holder = holders.setdefault(pair, whose[number])
            if isinstance(whose[number], Address) and holder != whose[number]:
                outdone[number] = holder
    return outdone


def _address(sender: Sender) -> Address:
    return sender.identity.address
