"""What happens to contacts, told on their timelines."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from crm.contacts import claims, contacts, definitions, drafts, identities, suggestions, suppressions
from crm.contacts.addresses import Address
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft
from crm.contacts.identities import Identity, IdentityAmbiguous, IdentityNotFound, IdentityTaken, Lookup
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.errors import Conflict, Unavailable
from crm.interactions import consenting, disputes, segmentation, timeline

CHANNEL = "contacts"
CREATED = "contact.created"
UPDATED = "contact.updated"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


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
    session: Session,
    *,
    draft: Draft,
    region: str,
    disputing: bool = False,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Contact:
    """Make a contact. With `disputing`, what it can't have of others is no refusal: it shows that as disputed.

    Raises InvalidContact, IdentityTaken, IdentityBlocked.
    """
    defined = await definitions.read(session, names=draft.attributes)
    contact = drafts.contact_of(draft, region=region, defined=defined, now=now)
    (result,), parts = await _stored(session, made=[contact], disputing=disputing, by=by, now=now)
    if not isinstance(result, Contact):
        raise result
    await writes.write(session, [*parts, *idempotency.answer(once, contact_id=result.id, result=result, now=now)])
    return result


async def create_all(
    session: Session, *, made: Sequence[Contact], disputing: bool = False, by: str, now: datetime
) -> list[Contact | IdentityTaken | IdentityBlocked]:
    """Store new contacts, made by `drafts.contact_of`, in three round trips; each of them, or why it is not there.

    The first of two that want one identity gets it, unless the other proves that it is theirs.
    """
    results, parts = await _stored(session, made=made, disputing=disputing, by=by, now=now)
    await writes.write(session, parts)
    return results


async def resolve_or_create(session: Session, *, sender: Sender, by: str, now: datetime) -> UUID:
    """The contact behind an address, made now if nobody has it. Raises IdentityAmbiguous, IdentityBlocked."""
    found = (await resolve_or_create_all(session, senders=[sender], by=by, now=now))[0]
    if not isinstance(found, UUID):
        raise found
    return found


async def resolve_or_create_all(
    session: Session, *, senders: Sequence[Sender], by: str, now: datetime
) -> list[UUID | IdentityAmbiguous | IdentityBlocked]:
    """The contacts behind many addresses, in their order; two parallel first messages find one and the same contact.

    Whoever has an address is meant by it, proven or not: what arrives takes it from nobody.
    """
    found = await identities.resolve_all(session, lookups=[sender.lookup for sender in senders])
    unknown = {sender.identity.address: sender for sender, owner in zip(senders, found, strict=True) if owner is None}
    made = {key: _contact_of(sender, now) for key, sender in unknown.items()}
    owners = await identities.claim(session, wanted={key: contact.id for key, contact in made.items()})
    new = [contact for key, contact in made.items() if owners.get(key) == contact.id]
    parts, _ = await stored(session, new, by=by, now=now)
    await writes.write(session, parts)
    return [_owner(sender, owners) if owner is None else owner for sender, owner in zip(senders, found, strict=True)]


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
    defined = await definitions.read(session, names=changes.get("attributes") or ())
    return await _change(
        session, contact_id, lambda contact: drafts.merged(contact, changes, defined=defined, now=now),
        version=version, by=by, now=now,
    )  # fmt: skip


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

    Again it changes nothing, but for verifying it, and for claiming one that is disputed once more. Raises
    ContactNotFound, IdentityTaken, IdentityBlocked, InvalidContact.
    """
    had: set[Address] = set()

    def edit(contact: Contact) -> Contact:
        had.update(known.address for known in contact.identities)
        return drafts.identified(contact, identity)

    locked = await claims.lock(session, asked=[identity], besides=[contact_id])
    after = await _change(session, contact_id, edit, locked=locked, by=by, now=now)
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
) -> set[UUID]:
    """Store new contacts and what locked ones have got besides, before and after, in three round trips.

    `data` is told with each on its timeline. What comes back is who of the new ones has an address of somebody who was
    erased. Raises Unavailable where somebody else has taken an identity of theirs since it was looked for.
    """
    wanted = {identity.address: contact.id for contact in made for identity in contact.identities}
    for before, after in changed:
        wanted.update((i.address, after.id) for i in identities.new(before.identities, after.identities))
    holders = await identities.claim(session, wanted=wanted)
    if holders != wanted:
        raise Unavailable("Somebody else has taken one of these identities at this moment. Send the request again.")
    told = [
        _entry(after.id, UPDATED, by, now, {**contacts.changes(before, after), **data}) for before, after in changed
    ]
    parts, returned = await stored(session, made, told, by=by, data=data, now=now)
    await writes.write(session, [*parts, *contacts.extended(changed, now=now)])
    return returned


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
    await suggestions.forget(session, contact_ids=[contact_id])
    await contacts.delete(session, contact_id=contact_id)


async def stored(
    session: Session,
    new: Sequence[Contact],
    told: Sequence[tuple[Any, ...]] = (),
    *,
    by: str,
    data: Mapping[str, Any] = _NOTHING,
    now: datetime,
) -> tuple[list[writes.Insert | writes.Update], set[UUID]]:
    """The parts of a write that make contacts, whose identities were claimed before; other timelines are `told`.

    `data` is told with each who is made. Who is known by an address of somebody who was erased starts with marketing
    denied; that is who comes back beside the parts.
    """
    returned = await suppressions.returned(session, contacts=new)
    denied = consenting.denied(sorted(returned), purpose="marketing", source="erasure", by=by, now=now)
    entries = [_entry(contact.id, CREATED, by, now, {**data}) for contact in new]
    entries += consenting.told(denied)
    return [
        *contacts.created(new, now=now), consenting.part(denied), timeline.part([*entries, *told]),
    ], returned  # fmt: skip


def updated(contact_id: UUID, changes: dict[str, Any], *, by: str, now: datetime) -> tuple[Any, ...]:
    """The row that tells a contact's timeline of changes."""
    return _entry(contact_id, UPDATED, by, now, changes)


async def _change(
    session: Session,
    contact_id: UUID,
    edit: Callable[[Contact], Contact],
    *,
    version: int | None = None,
    locked: Collection[UUID] = (),
    by: str,
    now: datetime,
) -> Contact:
    await contacts.lock(session, contact_id=contact_id, version=version)
    before = await contacts.get(session, contact_id=contact_id)
    after = replace(edit(before), version=before.version + 1, updated_at=now)
    changes = contacts.changes(before, after)
    if not changes["after"]:
        return before
    asked = [one for one in after.identities if one not in before.identities]
    claimed = await claims.claim(session, asked=[(contact_id, asked)], locked=locked)
    if refusal := claimed.refusal(contact_id, asked, pointer="/value"):
        raise refusal
    claimed.take(contact_id, asked)
    settled = await claimed.settle(session, now=now)
    parts = await contacts.save(session, before=before, after=after, now=now)
    entries = [updated(contact_id, changes, by=by, now=now)]
    entries += await disputes.told(session, losses=claimed.losses, by=by, now=now)
    await writes.write(session, [*parts, *settled, timeline.part(entries)])
    return after


async def _stored(
    session: Session, *, made: Sequence[Contact], disputing: bool, by: str, now: datetime
) -> tuple[list[Contact | IdentityTaken | IdentityBlocked], list[writes.Insert | writes.Update]]:
    """Each contact, or why it is refused, and what stores the others. Every claim is settled after that."""
    locked = await claims.lock(session, asked=[one for contact in made for one in contact.identities])
    claimed = await claims.claim(session, asked=[(contact.id, contact.identities) for contact in made], locked=locked)
    refusals: dict[UUID, IdentityTaken | IdentityBlocked] = {}
    for contact in made:
        refusal = claimed.refusal(contact.id, contact.identities, disputing=disputing, pointer="/identities/{}/value")
        if refusal is None:
            claimed.take(contact.id, contact.identities)
        else:
            refusals[contact.id] = refusal
    settled = await claimed.settle(session, now=now)
    shown = [replace(contact, identities=claimed.shown(contact.id, contact.identities)) for contact in made]
    lost = await disputes.told(session, losses=claimed.losses, by=by, now=now)
    new = [contact for contact in shown if contact.id not in refusals]
    parts, _ = await stored(session, new, lost, by=by, now=now)
    return [refusals.get(contact.id, contact) for contact in shown], [*parts, *settled]


def _owner(sender: Sender, owners: Mapping[Address, UUID]) -> UUID | IdentityBlocked:
    owner = owners.get(sender.identity.address)
    return IdentityBlocked.of(sender.identity, pointer="/identity/value") if owner is None else owner


def _contact_of(sender: Sender, now: datetime) -> Contact:
    return replace(drafts.contact_of(Draft(name=sender.name), region="", now=now), identities=[sender.identity])


def _entry(contact_id: UUID, kind: str, by: str, now: datetime, data: dict[str, Any]) -> tuple[Any, ...]:
    return timeline.entry(
        contact_id, channel=CHANNEL, kind=kind, occurred_at=now, recorded_at=now, by=by, data=data
    )  # fmt: skip
