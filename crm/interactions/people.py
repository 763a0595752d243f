"""What happens to contacts, told on their timelines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.contacts import contacts, drafts, identities
from crm.contacts.addresses import Address
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft
from crm.contacts.identities import Identity, IdentityAmbiguous, IdentityNotFound, IdentityTaken, Lookup
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.errors import Conflict, Unavailable
from crm.interactions import segmentation, timeline

CHANNEL = "contacts"
CREATED = "contact.created"
UPDATED = "contact.updated"


class HasHistory(Conflict):
    code = "has_history"
    title = "Things have happened with this contact"


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody known by an address only; `name` is for a contact that has yet to be made."""

    lookup: Lookup
    identity: Identity
    name: str

    @classmethod
    def of(
        cls, *, kind: str, value: str, account: str | None = None, verified: bool = False, name: str | None = None,
        region: str,
    ) -> "Sender":  # fmt: skip
        """Whoever is behind what somebody typed. Raises InvalidIdentity."""
        identity = Identity.of(kind=kind, value=value, account=account or "", verified=verified, region=region)
        lookup = Lookup(identity.kind, identity.value, None if account is None else identity.account)
        # A message must not fail because of the name its sender chose.
        shown = (name or "").replace("\x00", "").strip() or value.strip()
        return cls(lookup, identity, shown[: drafts.LINE_LENGTH_MAX].strip())


async def create(
    session: Session, *, draft: Draft, region: str, by: str, once: idempotency.Request | None = None, now: datetime
) -> Contact:
    """Make a contact. Raises InvalidContact, IdentityTaken."""
    contact = drafts.contact_of(draft, region=region, now=now)
    refusals, parts = await _claimed(session, made=[contact], by=by, now=now)
    if refusals:
        raise refusals[contact.id]
    await writes.write(session, [*parts, *idempotency.answer(once, contact_id=contact.id, result=contact, now=now)])
    return contact


async def create_all(
    session: Session, *, made: Sequence[Contact], by: str, now: datetime
) -> list[Contact | IdentityTaken]:
    """Store new contacts, made by `drafts.contact_of`, in two round trips; each of them, or why it is not there.

    The first of two that want one identity gets it.
    """
    refusals, parts = await _claimed(session, made=made, by=by, now=now)
    await writes.write(session, parts)
    return [refusals.get(contact.id, contact) for contact in made]


async def resolve_or_create(session: Session, *, sender: Sender, by: str, now: datetime) -> UUID:
    """The contact behind an address, made now if nobody has it. Raises IdentityAmbiguous."""
    found = (await resolve_or_create_all(session, senders=[sender], by=by, now=now))[0]
    if isinstance(found, IdentityAmbiguous):
        raise found
    return found


async def resolve_or_create_all(
    session: Session, *, senders: Sequence[Sender], by: str, now: datetime
) -> list[UUID | IdentityAmbiguous]:
    """The contacts behind many addresses, in their order; two parallel first messages find one and the same contact."""
    found = await identities.resolve_all(session, lookups=[sender.lookup for sender in senders])
    unknown = {sender.identity.address: sender for sender, owner in zip(senders, found, strict=True) if owner is None}
    made = {key: _contact_of(sender, now) for key, sender in unknown.items()}
    owners = await identities.claim(session, wanted={key: contact.id for key, contact in made.items()})
    new = [contact for key, contact in made.items() if owners[key] == contact.id]
    await writes.write(session, _stored(new, by=by, now=now))
    return [
        owners[sender.identity.address] if owner is None else owner
        for sender, owner in zip(senders, found, strict=True)
    ]


async def update(
    session: Session,
    *,
    contact_id: UUID,
    changes: Mapping[str, Any],
    version: int | None = None,
    by: str,
    now: datetime,
) -> Contact:
    """Apply a JSON merge patch of a contact's fields. Raises ContactNotFound, StaleContact, InvalidContact."""
    return await _change(
        session, contact_id, lambda contact: drafts.merged(contact, changes, now=now), version=version, by=by, now=now
    )


async def add_tag(session: Session, *, contact_id: UUID, tag: str, by: str, now: datetime) -> Contact:
    """Put a tag on a contact. Raises ContactNotFound, InvalidTag, InvalidContact."""
    return await _change(session, contact_id, lambda contact: drafts.tagged(contact, tag), by=by, now=now)


async def remove_tag(session: Session, *, contact_id: UUID, tag: str, by: str, now: datetime) -> Contact:
    """Take a tag off a contact, if it is there. Raises ContactNotFound."""
    return await _change(
        session, contact_id, lambda contact: replace(contact, tags=[t for t in contact.tags if t != tag.strip()]),
        by=by, now=now,
    )  # fmt: skip


async def add_identity(
    session: Session, *, contact_id: UUID, identity: Identity, by: str, now: datetime
) -> tuple[Identity, bool]:
    """Give a contact an identity; as it is kept now, and whether it is new to this contact.

    Again it changes nothing, but for verifying it. Raises ContactNotFound, IdentityTaken, InvalidContact.
    """
    had: set[Address] = set()

    def edit(contact: Contact) -> Contact:
        had.update(known.address for known in contact.identities)
        return drafts.identified(contact, identity)

    after = await _change(session, contact_id, edit, by=by, now=now)
    kept = next(known for known in after.identities if known.address == identity.address)
    return kept, identity.address not in had


async def remove_identity(session: Session, *, contact_id: UUID, address: Address, by: str, now: datetime) -> Contact:
    """Take an identity from a contact; it is free for others then. Raises ContactNotFound, IdentityNotFound."""

    def edit(contact: Contact) -> Contact:
        kept = [known for known in contact.identities if known.address != address]
        if len(kept) == len(contact.identities):
            raise IdentityNotFound(f"The contact is not known by the {address.kind} '{address.value}'.")
        return replace(contact, identities=kept)

    return await _change(session, contact_id, edit, by=by, now=now)


async def store_all(
    session: Session,
    *,
    made: Sequence[Contact],
    changed: Sequence[tuple[Contact, Contact]],
    by: str,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Store new contacts and what locked ones have got besides, before and after, in two round trips.

    `data` is told with each on its timeline. Raises Unavailable where somebody else has taken an identity of theirs
    since it was looked for.
    """
    wanted = {identity.address: contact.id for contact in made for identity in contact.identities}
    for before, after in changed:
        wanted.update((i.address, after.id) for i in identities.new(before.identities, after.identities))
    holders = await identities.claim(session, wanted=wanted)
    if holders != wanted:
        raise Unavailable("Somebody else has taken one of these identities at this moment. Send the request again.")
    told = [_entry(contact.id, CREATED, by, now, {**data}) for contact in made]
    told += [
        _entry(after.id, UPDATED, by, now, {**contacts.changes(before, after), **data}) for before, after in changed
    ]
    await writes.write(
        session, [*contacts.created(made, now=now), *contacts.extended(changed, now=now), timeline.part(told)]
    )


async def unused(session: Session, *, contact_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these locked contacts with whom nothing has happened but that their records were kept."""
    rows = await session.fetch(
        """
        SELECT g.id FROM unnest($1::uuid[]) AS g (id)
        WHERE NOT EXISTS (SELECT FROM interactions i WHERE i.contact_id = g.id AND i.kind <> ALL ($2))
        """,
        contact_ids,
        [CREATED, UPDATED, segmentation.ENTERED, segmentation.LEFT],
    )
    return {row["id"] for row in rows}


async def delete(session: Session, *, contact_id: UUID, version: int | None = None) -> None:
    """Delete a contact with whom nothing has happened. Raises ContactNotFound, StaleContact, HasHistory."""
    await contacts.lock(session, contact_id=contact_id, version=version, deleting=True)
    if not await unused(session, contact_ids=[contact_id]):
        raise HasHistory("What happened with a contact is kept. Erase the person instead: POST …/erasure.")
    await contacts.delete(session, contact_id=contact_id)


async def _change(
    session: Session,
    contact_id: UUID,
    edit: Callable[[Contact], Contact],
    *,
    version: int | None = None,
    by: str,
    now: datetime,
) -> Contact:
    await contacts.lock(session, contact_id=contact_id, version=version)
    before = await contacts.get(session, contact_id=contact_id)
    after = replace(edit(before), version=before.version + 1, updated_at=now)
    changes = contacts.changes(before, after)
    if not changes["after"]:
        return before
    parts = await contacts.save(session, before=before, after=after, now=now)
    await writes.write(session, [*parts, timeline.part([_entry(contact_id, UPDATED, by, now, changes)])])
    return after


async def _claimed(
    session: Session, *, made: Sequence[Contact], by: str, now: datetime
) -> tuple[dict[UUID, IdentityTaken], list[writes.Insert | writes.Update]]:
    """The contacts refused because of an identity, and what stores the others. Every claim is settled after that."""
    wanted: dict[Address, UUID] = {}
    for contact in made:
        for identity in contact.identities:
            wanted.setdefault(identity.address, contact.id)
    holders = await identities.claim(session, wanted=wanted)
    # Who owns what, as if the contacts had come one after the other: first only those who owned it before.
    owners = {key: holder for key, holder in holders.items() if holder != wanted[key]}
    refusals: dict[UUID, IdentityTaken] = {}
    for contact in made:
        lost = next((i for i in contact.identities if i.address in owners), None)
        if lost is not None:
            refusals[contact.id] = identities.taken(lost, by=owners[lost.address])
        else:
            owners.update((identity.address, contact.id) for identity in contact.identities)
    if released := [key for key in wanted if key not in owners]:
        await identities.release(session, addresses=released)
    moved = {key: owner for key, owner in owners.items() if holders[key] == wanted[key] and owner != wanted[key]}
    stored = _stored([contact for contact in made if contact.id not in refusals], by=by, now=now)
    return refusals, [*stored, identities.moved(moved)]


def _stored(new: Sequence[Contact], *, by: str, now: datetime) -> list[writes.Insert | writes.Update]:
    told = timeline.part([_entry(contact.id, CREATED, by, now, {}) for contact in new])
    return [*contacts.created(new, now=now), told]


def _contact_of(sender: Sender, now: datetime) -> Contact:
    return replace(drafts.contact_of(Draft(name=sender.name), region="", now=now), identities=[sender.identity])


def _entry(contact_id: UUID, kind: str, by: str, now: datetime, data: dict[str, Any]) -> tuple[Any, ...]:
    return timeline.entry(
        contact_id, channel=CHANNEL, kind=kind, occurred_at=now, recorded_at=now, by=by, data=data
    )  # fmt: skip
