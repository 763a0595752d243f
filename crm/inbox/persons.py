"""Who is behind the addresses that an event brings.

An address that the provider vouches for says who it is. One that somebody only typed finds a contact where nothing
better is known, and never makes two people one: that is suggested, and somebody decides.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.contacts import drafts, identities
from crm.contacts.addresses import Address, InvalidIdentity
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, InvalidContact, NewIdentity
from crm.contacts.identities import Identity, IdentityTaken, Lookup
from crm.db.session import Session
from crm.errors import Unavailable
from crm.interactions import people, timeline
from crm.interactions.channels import events
from crm.interactions.channels.events import Person
from crm.interactions.people import CHANNEL
from crm.interactions.timeline import Report

SAME_SUSPECTED: Final = "contact.same_suspected"
SUSPECTED_BY: Final = "inbox"
ATTEMPTS_MAX: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Somebody to be found, by addresses in canonical form, those to go by first. `create` makes strangers contacts.

    `formerly` are addresses of theirs that find them where no other does.
    """

    identities: tuple[Identity, ...]
    formerly: tuple[Identity, ...] = ()
    name: str | None = None
    locale: str | None = None
    create: bool = True

    @property
    def deciding(self) -> tuple[Identity, ...]:
        """What says who it is: what the provider vouches for, and only without that what somebody typed."""
        return tuple(identity for identity in self.identities if identity.verified) or self.identities


def wanted(person: Person, *, region: str, create: bool = True, formerly: Iterable[events.Address] = ()) -> Wanted:
    """Somebody as an event knows them, without the addresses that can't identify anybody."""
    found = identities.unique(identity for each in person.addresses if (identity := _identity(each, region)))
    found.sort(key=lambda identity: not identity.verified)
    before = tuple(identity for each in formerly if (identity := _identity(each, region)))
    return Wanted(identities=tuple(found), formerly=before, name=person.name, locale=person.locale, create=create)


async def resolve_all(
    session: Session, *, wanted: Sequence[Wanted], region: str, by: str, now: datetime
) -> list[UUID | None]:
    """Their contacts, in order, locked until the end of the transaction; None for whom there is none.

    A few statements, however many they are; more only where somebody has an address that is new.
    """
    owners = await _owners(session, wanted)
    for _ in range(ATTEMPTS_MAX):
        strangers = [one for one in wanted if one.create and one.identities and _owner(one, owners) is None]
        if not strangers:
            break
        await people.create_all(session, made=_contacts(strangers, owners, region, now), by=by, now=now)
        owners = await _owners(session, wanted)
    else:
        raise Unavailable("Somebody else makes contacts of the same addresses at this moment.")
    found = [_owner(one, owners) for one in wanted]
    # In one order, and before anything else is written about them: their threads and marks are theirs alone then.
    await session.fetch(
        "SELECT id FROM contacts WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", list({*found} - {None})
    )
    pairs = [(one, contact_id) for one, contact_id in zip(wanted, found, strict=True) if contact_id is not None]
    await _learn(session, pairs, owners, by=by, now=now)
    await _suspect(session, _others(pairs, owners), now=now)
    return found


def _identity(given: events.Address, region: str) -> Identity | None:
    try:
        return Identity.of(
            kind=given.kind, value=given.value, account=given.account, verified=given.verified, region=region
        )
    except InvalidIdentity:
        return None


async def _owners(session: Session, wanted: Sequence[Wanted]) -> dict[Address, UUID]:
    asked = list({identity.address for one in wanted for identity in (*one.identities, *one.formerly)})
    found = await identities.resolve_all(
        session, lookups=[Lookup(address.kind, address.value, address.account) for address in asked]
    )
    return {address: owner for address, owner in zip(asked, found, strict=True) if isinstance(owner, UUID)}


def _owner(one: Wanted, owners: Mapping[Address, UUID]) -> UUID | None:
    addresses = [identity.address for identity in (*one.deciding, *one.formerly)]
    return next((owners[address] for address in addresses if address in owners), None)


def _contacts(strangers: Sequence[Wanted], owners: Mapping[Address, UUID], region: str, now: datetime) -> list[Contact]:
    """A contact for each stranger; for those who share a deciding address, one. Nobody gets what others have."""
    taken = set(owners)
    contacts = []
    for one in strangers:
        if any(identity.address in taken for identity in one.deciding):
            continue  # the contact of somebody before, who is found when it is there
        free = [identity for identity in one.identities if identity.address not in taken]
        taken.update(identity.address for identity in free)
        contacts.append(_contact(one, free, region, now))
    return contacts


def _contact(one: Wanted, free: Sequence[Identity], region: str, now: datetime) -> Contact:
    mine = [NewIdentity(kind=each.kind, value=each.raw, account=each.account, verified=each.verified) for each in free]
    shown = (one.name or "").strip() or free[0].raw.strip()
    name = shown[: drafts.LINE_LENGTH_MAX].strip()
    try:
        return drafts.contact_of(Draft(name=name, locale=one.locale, identities=mine), region=region, now=now)
    except InvalidContact:
        # Nobody is lost because of a language tag.
        return drafts.contact_of(Draft(name=name, identities=mine), region=region, now=now)


async def _learn(
    session: Session, pairs: Sequence[tuple[Wanted, UUID]], owners: Mapping[Address, UUID], *, by: str, now: datetime
) -> None:
    """Give contacts the addresses that they are known by from now on, and believe those that are vouched for."""
    news: dict[tuple[UUID, Address], Identity] = {}
    claims: dict[tuple[UUID, Address], Identity] = {}
    for one, contact_id in pairs:
        proven = any(owners.get(each.address) == contact_id for each in one.identities if each.verified)
        for identity in one.identities:
            owner = owners.get(identity.address)
            # What was typed is believed only of somebody who is known by something better.
            if owner is None and (identity.verified or proven):
                news.setdefault((contact_id, identity.address), identity)
            elif owner == contact_id and identity.verified:
                claims.setdefault((contact_id, identity.address), identity)
    news |= {key: claims[key] for key in await _unverified(session, claims)}
    for contact_id, address in sorted(news):
        try:
            await people.add_identity(
                session, contact_id=contact_id, identity=news[contact_id, address], by=by, now=now
            )
        except (IdentityTaken, InvalidContact):
            continue  # somebody else has it by now, or they have as many as anybody may have


async def _unverified(session: Session, claims: Collection[tuple[UUID, Address]]) -> list[tuple[UUID, Address]]:
    if not claims:
        return []
    rows = await session.fetch(
        """
        SELECT i.contact_id, i.value, i.kind, i.account
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS g (contact_id, value, kind, account)
        JOIN contact_identities i ON i.contact_id = g.contact_id AND i.kind = g.kind AND i.account = g.account
            AND i.value = g.value
        WHERE NOT i.verified
        """,
        *zip(*((contact_id, address.value, address.kind, address.account) for contact_id, address in claims),
             strict=True),
    )  # fmt: skip
    return [(row["contact_id"], Address(row["value"], row["kind"], row["account"])) for row in rows]


def _others(pairs: Iterable[tuple[Wanted, UUID]], owners: Mapping[Address, UUID]) -> dict[tuple[UUID, UUID], Identity]:
    """Contacts who may be one person, each two with the address that says so."""
    others: dict[tuple[UUID, UUID], Identity] = {}
    for one, contact_id in pairs:
        for identity in (*one.identities, *one.formerly):
            owner = owners.get(identity.address, contact_id)
            if owner != contact_id:
                others.setdefault((contact_id, owner), identity)
    return others


async def _suspect(session: Session, others: Mapping[tuple[UUID, UUID], Identity], *, now: datetime) -> None:
    """Say once, on the timeline of the contact that was chosen, who may be the same person."""
    reports = [
        (
            contact_id,
            Report(
                channel=CHANNEL, kind=SAME_SUSPECTED, occurred_at=now, source=SUSPECTED_BY,
                external_id=f"{contact_id}:{other_id}",
                data={
                    "contact_id": str(other_id),
                    "identity": {"kind": each.kind, "account": each.account, "value": each.value},
                    "verified": each.verified,
                },
            ),
        )
        for (contact_id, other_id), each in sorted(others.items(), key=lambda item: item[0])
    ]  # fmt: skip
    if reports:
        await timeline.record_all(session, reports=reports, by=SUSPECTED_BY, now=now, ours=True)
