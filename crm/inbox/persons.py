"""Who is behind the addresses that an event brings.

An address that the provider vouches for says who it is, and takes it from somebody else who only showed it. One that
somebody only typed finds a contact where nothing better is known, and never makes two people one: that is suggested,
and somebody decides.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.contacts import drafts, identities
from crm.contacts.addresses import Address, InvalidIdentity
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, InvalidContact, NewIdentity
from crm.contacts.identities import Identity, IdentityTaken, Lookup
from crm.db.session import Session
from crm.errors import Unavailable
from crm.inbox import suspicions
from crm.inbox.suspicions import Clue
from crm.interactions import people
from crm.interactions.channels import events
from crm.interactions.channels.events import Person

ATTEMPTS_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Somebody to be found, by addresses in canonical form, those to go by first. `create` makes strangers contacts.

    `formerly` are addresses of theirs that find them where no other does, `mentioned` those that only make suspicious.
    """

    identities: tuple[Identity, ...]
    formerly: tuple[Identity, ...] = ()
    mentioned: tuple[Identity, ...] = ()
    name: str | None = None
    locale: str | None = None
    create: bool = True

    @property
    def deciding(self) -> tuple[Identity, ...]:
        """What says who it is: what the provider vouches for, and only without that what somebody typed."""
        return tuple(identity for identity in self.identities if identity.verified) or self.identities

    def beside(self, blocked: Collection[Address]) -> tuple[Identity, ...]:
        """What may identify somebody, without what is nobody's."""
        return tuple(identity for identity in self.identities if identity.address not in blocked)


def wanted(
    person: Person, *, region: str, create: bool = True, formerly: Iterable[events.Address] = (),
    mentioned: Iterable[events.Address] = (),
) -> Wanted:  # fmt: skip
    """Somebody as an event knows them, without the addresses that can't identify anybody."""
    found = _identities(person.addresses, region)
    found.sort(key=lambda identity: not identity.verified)
    return Wanted(
        identities=tuple(found), formerly=tuple(_identities(formerly, region)),
        mentioned=tuple(_identities(mentioned, region)), name=person.name, locale=person.locale, create=create,
    )  # fmt: skip


async def resolve_all(
    session: Session, *, wanted: Sequence[Wanted], region: str, by: str, now: datetime
) -> list[UUID | None]:
    """Their contacts, in order, locked until the end of the transaction; None for whom there is none.

    A few statements, however many they are; more only where somebody has an address that is new.
    """
    owners = await _owners(session, wanted)
    blocked: set[Address] = set()
    for _ in range(ATTEMPTS_MAX):
        strangers = [one for one in wanted if one.create and _owner(one, owners) is None and one.beside(blocked)]
        if not strangers:
            break
        made = await people.create_all(session, made=_contacts(strangers, owners, blocked, region, now), by=by, now=now)
        blocked |= {_blocked(one) for one in made if isinstance(one, IdentityBlocked)}
        await suspicions.compare(session, made=[one for one in made if isinstance(one, Contact)], now=now)
        owners = await _owners(session, wanted)
    else:
        raise Unavailable("Somebody else makes contacts of the same addresses at this moment.")
    found = [_owner(one, owners) for one in wanted]
    pairs = [(one, contact_id) for one, contact_id in zip(wanted, found, strict=True) if contact_id is not None]
    rivals = {
        owners[each.address] for one, _ in pairs for each in one.identities if each.verified and each.address in owners
    }
    # In one order, and before anything else is written about them: their threads and marks are theirs alone then. So
    # are those who may have to leave an address to them.
    await session.fetch(
        "SELECT id FROM contacts WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", list(({*found} | rivals) - {None})
    )
    taken = await _learn(session, pairs, owners, by=by, now=now)
    await suspicions.tell(session, clues=_clues(pairs, owners), settled=taken, now=now)
    return found


def _identities(given: Iterable[events.Address], region: str) -> list[Identity]:
    return identities.unique(identity for each in given if (identity := _identity(each, region)))


def _identity(given: events.Address, region: str) -> Identity | None:
    try:
        return Identity.of(
            kind=given.kind, value=given.value, account=given.account, verified=given.verified, region=region
        )
    except InvalidIdentity:
        return None


async def _owners(session: Session, wanted: Sequence[Wanted]) -> dict[Address, UUID]:
    asked = list({identity.address for one in wanted for identity in (*one.identities, *one.formerly, *one.mentioned)})
    found = await identities.resolve_all(
        session, lookups=[Lookup(address.kind, address.value, address.account) for address in asked]
    )
    return {address: owner for address, owner in zip(asked, found, strict=True) if isinstance(owner, UUID)}


def _owner(one: Wanted, owners: Mapping[Address, UUID]) -> UUID | None:
    addresses = [identity.address for identity in (*one.deciding, *one.formerly)]
    return next((owners[address] for address in addresses if address in owners), None)


def _contacts(
    strangers: Sequence[Wanted], owners: Mapping[Address, UUID], blocked: Collection[Address], region: str,
    now: datetime,
) -> list[Contact]:  # fmt: skip
    """A contact for each stranger; for those who share a deciding address, one. Nobody gets what others have."""
    taken = set(owners)
    contacts = []
    for one in strangers:
        if any(identity.address in taken for identity in one.deciding):
            continue  # the contact of somebody before, who is found when it is there
        free = [identity for identity in one.beside(blocked) if identity.address not in taken]
        if not free:
            continue
        taken.update(identity.address for identity in free)
        contacts.append(_contact(one, free, region, now))
    return contacts


def _blocked(refusal: IdentityBlocked) -> Address:
    identity = refusal.members["identity"]
    return Address(identity["value"], identity["kind"], identity["account"])


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
) -> set[tuple[UUID, UUID]]:
    """Give contacts the addresses that they are known by from now on, and believe those that are vouched for.

    Who has taken an address, each with whoever only showed it.
    """
    news: dict[tuple[UUID, Address], Identity] = {}
    claims: dict[tuple[UUID, Address], Identity] = {}
    for one, contact_id in pairs:
        proven = any(owners.get(each.address) == contact_id for each in one.identities if each.verified)
        for identity in one.identities:
            owner = owners.get(identity.address)
            # What was typed is believed only of somebody who is known by something better.
            if owner is None and (identity.verified or proven):
                news.setdefault((contact_id, identity.address), identity)
            elif owner is not None and identity.verified:
                claims.setdefault((contact_id, identity.address), identity)
    news |= {key: claims[key] for key in await _unverified(session, claims, owners)}
    taken = set()
    for contact_id, address in sorted(news):
        owner = owners.get(address, contact_id)
        try:
            await people.add_identity(
                session, contact_id=contact_id, identity=news[contact_id, address], by=by, now=now
            )
        except (IdentityTaken, IdentityBlocked, InvalidContact):
            continue  # somebody else has it by now, or they have as many as anybody may have
        if owner != contact_id:
            taken.add((contact_id, owner))
    return taken


async def _unverified(
    session: Session, claims: Collection[tuple[UUID, Address]], owners: Mapping[Address, UUID]
) -> list[tuple[UUID, Address]]:
    """The claims to addresses that their owners have not proven."""
    if not claims:
        return []
    rows = await session.fetch(
        """
        SELECT g.claimant, i.value, i.kind, i.account
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
            AS g (claimant, contact_id, value, kind, account)
        JOIN contact_identities i ON i.contact_id = g.contact_id AND i.kind = g.kind AND i.account = g.account
            AND i.value = g.value
        WHERE NOT i.verified
        """,
        *zip(*((claimant, owners[key], key.value, key.kind, key.account) for claimant, key in claims), strict=True),
    )  # fmt: skip
    return [(row["claimant"], Address(row["value"], row["kind"], row["account"])) for row in rows]


def _clues(pairs: Iterable[tuple[Wanted, UUID]], owners: Mapping[Address, UUID]) -> dict[tuple[UUID, UUID], Clue]:
    """Contacts who may be one person, each two with the best that says so."""
    clues: dict[tuple[UUID, UUID], Clue] = {}
    for one, contact_id in pairs:
        told = [Clue(identity) for identity in (*one.identities, *one.formerly)]
        for clue in (*told, *(Clue(identity, mentioned=True) for identity in one.mentioned)):
            owner = owners.get(clue.identity.address, contact_id)
            if owner != contact_id:
                clues.setdefault((contact_id, owner), clue)
    return clues
