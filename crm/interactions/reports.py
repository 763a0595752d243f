"""What others report, of a contact or of whoever is behind an address."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from crm.contacts import identities
from crm.contacts.identities import IdentityAmbiguous
from crm.db.session import Session
from crm.errors import CrmError, Unavailable
from crm.interactions import people, timeline
from crm.interactions.people import Sender
from crm.interactions.timeline import ExternalIdTaken, Recorded, Report


async def record(session: Session, *, who: UUID | Sender, report: Report, by: str, now: datetime) -> Recorded:
    """Put a report on somebody's timeline; whoever is behind an address that nobody has becomes a contact.

    Raises ContactNotFound, IdentityAmbiguous, ExternalIdTaken, ReservedKind, InTheFuture.
    """
    result = (await record_all(session, reports=[(who, report)], by=by, now=now))[0]
    if isinstance(result, CrmError):
        raise result
    return result


async def record_all(
    session: Session, *, reports: Sequence[tuple[UUID | Sender, Report]], by: str, now: datetime
) -> list[Recorded | CrmError]:
    """`record` for many, in their order, however many in the same few statements; a refused one makes no contact."""
    results: dict[int, Recorded | CrmError] = {}
    known: dict[int, UUID] = {}
    strangers: dict[int, Sender] = {}
    resolved = await _resolved(session, reports)
    for number, (who, report) in enumerate(reports):
        owner = resolved.get(number) if isinstance(who, Sender) else who
        refused = owner if isinstance(owner, IdentityAmbiguous) else timeline.refusal(report, now=now)
        if refused:
            results[number] = refused
        elif isinstance(owner, UUID):
            known[number] = owner
        elif isinstance(who, Sender):
            strangers[number] = who
    results |= await _recorded(session, reports, known, by, now)
    results |= await _of_strangers(session, reports, strangers, by, now)
    return [results[number] for number in range(len(reports))]


async def _resolved(
    session: Session, reports: Sequence[tuple[UUID | Sender, Report]]
) -> dict[int, UUID | IdentityAmbiguous | None]:
    lookups = {number: who.lookup for number, (who, _) in enumerate(reports) if isinstance(who, Sender)}
    if not lookups:
        return {}
    return dict(zip(lookups, await identities.resolve_all(session, lookups=list(lookups.values())), strict=True))


async def _recorded(
    session: Session,
    reports: Sequence[tuple[UUID | Sender, Report]],
    owners: Mapping[int, UUID],
    by: str,
    now: datetime,
) -> dict[int, Recorded | CrmError]:
    of_contacts = [(owner, reports[number][1]) for number, owner in owners.items()]
    return dict(zip(owners, await timeline.record_all(session, reports=of_contacts, by=by, now=now), strict=True))


async def _of_strangers(
    session: Session,
    reports: Sequence[tuple[UUID | Sender, Report]],
    strangers: Mapping[int, Sender],
    by: str,
    now: datetime,
) -> dict[int, Recorded | CrmError]:
    """What becomes of the reports of people nobody knew. Whose external id has an owner already is not made."""
    stored = await timeline.find(
        session, pairs=[pair for number in strangers if (pair := reports[number][1].pair) is not None]
    )
    results: dict[int, Recorded | CrmError] = {}
    first: dict[tuple[str, str], int] = {}
    second: dict[int, int] = {}
    new: dict[int, Sender] = {}
    for number, sender in strangers.items():
        pair = reports[number][1].pair
        if pair is None:
            new[number] = sender
        elif pair in stored:
            results[number] = timeline.taken(stored[pair])
        elif strangers[leader := first.setdefault(pair, number)].identity.address == sender.identity.address:
            new[number] = sender
        else:
            second[number] = leader
    if not new:
        return results
    owners = dict(
        zip(new, await people.resolve_or_create_all(session, senders=list(new.values()), by=by, now=now), strict=True)
    )
    results |= {number: owner for number, owner in owners.items() if isinstance(owner, IdentityAmbiguous)}
    found = {number: owner for number, owner in owners.items() if isinstance(owner, UUID)}
    results |= await _recorded(session, reports, found, by, now)
    if any(isinstance(results[number], ExternalIdTaken) for number in found):
        # Somebody was made for it, who must not stay.
        raise Unavailable("Somebody else wrote the same external id at this moment. Send the request again.")
    return results | {number: _told_by_another(results[leader]) for number, leader in second.items()}


def _told_by_another(recorded: Recorded | CrmError) -> CrmError:
    return recorded if isinstance(recorded, CrmError) else timeline.taken(recorded[0])
