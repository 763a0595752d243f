"""Making contacts of people who may be there already: asked first whether they are, and then what is wanted."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from crm.contacts import claims, contacts, definitions, drafts, identities, likeness, likeness_keys, lookalikes
from crm.contacts.addresses import Address
from crm.contacts.claims import Claimed, IdentityBlocked, Settled
from crm.contacts.contacts import Contact, ContactNotFound
from crm.contacts.drafts import Draft, InvalidContact
from crm.contacts.identities import Identity
from crm.contacts.likeness import Likeness, Person
from crm.contacts.lookalikes import CERTAIN, LIKELY
from crm.contacts.suggestions import SUGGESTED_MIN, Suggestion
from crm.db import idempotency, writes
from crm.db.session import Session
from crm.errors import Conflict, CrmError
from crm.interactions import disputes, people

OnDuplicate: TypeAlias = Literal["reject", "link", "create"]

_CANDIDATES_MAX: Final = 10


class PossibleDuplicate(Conflict):
    code = "possible_duplicate"
    title = "This person may be known already"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A contact that may be made, and what to do if somebody who is there may be the same person."""

    contact: Contact
    on_duplicate: OnDuplicate = "reject"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The contact, and whether it was made now; else somebody who was there is the same person."""

    contact: Contact
    is_new: bool


async def admit(
    session: Session,
    *,
    draft: Draft,
    on_duplicate: OnDuplicate,
    region: str,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> Admitted:
    """Make a contact, or find the one who is there.

    Raises InvalidContact, IdentityTaken, IdentityBlocked, PossibleDuplicate.
    """
    defined = await definitions.read(session, names=draft.attributes)
    newcomer = Newcomer(drafts.contact_of(draft, region=region, defined=defined, now=now), on_duplicate)
    [result], parts = await _admitted(session, [newcomer], by, now)
    if isinstance(result, CrmError):
        raise result
    answer = idempotency.answer(
        once, contact_id=result.contact.id, result=result.contact, now=now, status=201 if result.is_new else 200
    )
    await writes.write(session, [*parts, *answer])
    return result


async def admit_all(
    session: Session, *, newcomers: Sequence[Newcomer], by: str, now: datetime
) -> list[Admitted | CrmError]:
    """The same of many, in a few round trips however many they are; those who come first are there for the others."""
    results, parts = await _admitted(session, newcomers, by, now)
    await writes.write(session, parts)
    return results


async def _admitted(
    session: Session, newcomers: Sequence[Newcomer], by: str, now: datetime
) -> tuple[list[Admitted | CrmError], list[writes.Insert | writes.Update]]:
    """What becomes of each, and what has to be written for that."""
    party = _Party(newcomers)
    locked = await party.recognise(session)
    claimed = await party.claim(session)
    settled = await claims.settle(
        session, claimants=party.claimants, locked=locked, disputing=party.disputing, claimed=claimed
    )
    made, changed = party.settle(settled, now=now)
    told = [people.updated(after.id, contacts.changes(before, after), by=by, now=now) for before, after in changed]
    told += await disputes.told(session, losses=settled.losses, by=by, now=now)
    return party.results(), [
        *people.stored(made, told, by=by, now=now),
        *contacts.extended(changed, now=now),
        *settled.parts(besides=party.suggested(), now=now),
    ]


class _Party:
    """Newcomers who arrive together, in order: who is meant by each, and who claims what."""

    def __init__(self, newcomers: Sequence[Newcomer]) -> None:
        self._newcomers = newcomers
        self._persons = [likeness.person_of(newcomer.contact) for newcomer in newcomers]
        self._outcomes: list[UUID | CrmError | None] = [None] * len(newcomers)
        self._known: dict[UUID, Contact] = {}
        self._contacts: dict[UUID, Contact] = {}
        self._made: list[UUID] = []
        self._taken: dict[Address, UUID] = {}
        self._met: defaultdict[int, list[Person]] = defaultdict(list)
        self._suggested: list[Suggestion] = []
        self.claimants: list[tuple[UUID, Sequence[Identity]]] = []
        self.disputing = {newcomer.contact.id for newcomer in newcomers if newcomer.on_duplicate == "create"}

    async def recognise(self, session: Session) -> Collection[UUID]:
        """Find those who are there for the newcomers who shall be linked, and lock them and who may lose an address.

        What comes back is what `claims.lock` does.
        """
        linked = [n for n, newcomer in enumerate(self._newcomers) if newcomer.on_duplicate == "link"]
        if linked:
            wanted = claims.wanted((self._own(n).id, self._own(n).identities) for n in linked)
            found = await lookalikes.find(session, wanted=wanted, people=[self._persons[n] for n in linked])
            for n, near in zip(linked, found.people, strict=True):
                self._outcomes[n] = self._meant(n, found.holders, near)
        meant = {outcome for outcome in self._outcomes if isinstance(outcome, UUID)}
        claimed = [
            one for n, outcome in enumerate(self._outcomes) if outcome is None for one in self._own(n).identities
        ]
        locked = await claims.lock(session, claimed=claimed, besides=meant)
        if meant:
            if not locked:
                await contacts.lock_all(session, contact_ids=list(meant))
            self._known = await contacts.find_all(session, contact_ids=list(meant))
            self._contacts.update(self._known)
        for n in linked:
            outcome = self._outcomes[n]
            if isinstance(outcome, UUID) and outcome not in self._known:
                self._outcomes[n] = ContactNotFound("The contact has gone this moment; send it again.")
        return locked

    async def claim(self, session: Session) -> Claimed:
        """Claim the addresses for those who may get them, and say of each newcomer who they are."""
        asked = [(self._target(n), self._asked(n)) for n in range(len(self._newcomers)) if not self._is_refused(n)]
        wanted = claims.wanted(asked)
        new = {n: place for place, n in enumerate(n for n, outcome in enumerate(self._outcomes) if outcome is None)}
        found = await lookalikes.claim_and_find(session, wanted=wanted, people=[self._persons[n] for n in new])
        claimed = Claimed(wanted, found.holders)
        for n in range(len(self._newcomers)):
            outcome = self._outcomes[n]
            if outcome is None:
                outcome = self._new(n, found.people[new[n]], claimed)
            if isinstance(outcome, UUID) and outcome != self._own(n).id:
                outcome = self._linked(n, outcome, claimed)
            self._outcomes[n] = outcome
        return claimed

    def settle(self, settled: Settled, *, now: datetime) -> tuple[list[Contact], list[tuple[Contact, Contact]]]:
        """Who is made, and who was there and has more identities now, before and after."""
        self._outcomes = [
            settled.refusals.get(outcome, outcome) if isinstance(outcome, UUID) else outcome
            for outcome in self._outcomes
        ]
        for contact_id, contact in self._contacts.items():
            before = self._known.get(contact_id)
            if contact is before:
                continue
            had = [] if before is None else before.identities
            shown = [*had, *settled.shown(contact_id, contact.identities[len(had) :])]
            after = replace(contact, identities=shown)
            self._contacts[contact_id] = (
                after if before is None else replace(after, version=before.version + 1, updated_at=now)
            )
        refused = settled.refusals.keys()
        self._suggested = [one for one in self._suggested if not refused & {one.pair.contact_id, one.pair.other_id}]
        made = [self._contacts[contact_id] for contact_id in self._made if contact_id not in refused]
        changed = [
            (before, self._contacts[contact_id])
            for contact_id, before in self._known.items()
            if self._contacts[contact_id] is not before and contact_id not in refused
        ]
        return made, changed

    def results(self) -> list[Admitted | CrmError]:
        """What became of each."""
        return [
            outcome if isinstance(outcome, CrmError) else Admitted(self._contacts[outcome], outcome == self._own(n).id)
            for n, outcome in enumerate(self._outcomes)
            if outcome is not None
        ]

    def suggested(self) -> list[Suggestion]:
        """Who of those who are made may be whom."""
        return self._suggested

    def _own(self, n: int) -> Contact:
        return self._newcomers[n].contact

    def _is_refused(self, n: int) -> bool:
        return isinstance(self._outcomes[n], CrmError)

    def _target(self, n: int) -> UUID:
        outcome = self._outcomes[n]
        return outcome if isinstance(outcome, UUID) else self._own(n).id

    def _asked(self, n: int) -> list[Identity]:
        """What has to be claimed for a newcomer: whoever is there keeps what they have."""
        known = self._known.get(self._target(n))
        return identities.new([] if known is None else known.identities, self._own(n).identities)

    def _owner(self, address: Address, claimed: Claimed) -> UUID | None:
        holder = claimed.holders[address]
        return self._taken.get(address, None if holder == claimed.wanted[address] else holder)

    def _meant(self, n: int, holders: Mapping[Address, UUID], near: Sequence[Person]) -> UUID | CrmError | None:
        """Who is meant by a newcomer to be linked: who has an identity of theirs, else who is certainly the same."""
        owned = [identity for identity in self._own(n).identities if identity.address in holders]
        owners = {holders[identity.address] for identity in owned}
        if len(owners) > 1:
            return identities.taken(owned[0], by=holders[owned[0].address])
        if owners:
            return owners.pop()
        return _chosen(lookalikes.likely(self._persons[n], near, least=LIKELY))

    def _new(self, n: int, near: Sequence[Person], claimed: Claimed) -> UUID | CrmError:
        """A newcomer whom nobody was found for before: who it is, or why it is nobody.

        Of whoever brings an address of somebody else, the claims decide, and no likeness.
        """
        newcomer, person = self._newcomers[n], self._persons[n]
        contact, is_owned = newcomer.contact, False
        for place, one in enumerate(contact.identities):
            if one.address not in claimed.holders:
                return IdentityBlocked.of(one, pointer=f"/identities/{place}/value")
            owner = self._owner(one.address, claimed)
            if owner is not None:
                if newcomer.on_duplicate == "link" and owner in self._made:
                    return owner
                if newcomer.on_duplicate != "create" and not one.verified:
                    return identities.taken(one, by=owner)
                is_owned = True
        keys = self._keys(person)
        met = {other.id: other for key in keys for other in self._met[key]}
        found = lookalikes.likely(person, [*near, *met.values()], least=SUGGESTED_MIN)
        likely = [one for one in found if one[1].score >= LIKELY]
        if likely and newcomer.on_duplicate != "create" and not is_owned:
            outcome = _chosen(likely)
            is_met = newcomer.on_duplicate == "link" and isinstance(outcome, UUID) and outcome in self._made
            return outcome if is_met and outcome is not None else _possible(likely)
        for key in keys:
            self._met[key].append(person)
        self._suggested += [Suggestion.of(person.id, other.id, alike) for other, alike in found]
        self._contacts[contact.id] = contact
        self._made.append(contact.id)
        self._take(contact.id, contact.identities, claimed)
        return contact.id

    def _linked(self, n: int, contact_id: UUID, claimed: Claimed) -> UUID | CrmError:
        """Give the contact who is meant what is free of the newcomer's identities; nobody has proven any of them."""
        contact = self._contacts[contact_id]
        asked = identities.new(contact.identities, self._own(n).identities)
        for place, one in enumerate(self._own(n).identities):
            if one in asked and one.address not in claimed.holders:
                return IdentityBlocked.of(one, pointer=f"/identities/{place}/value")
        free = [replace(one, verified=False) for one in asked if self._owner(one.address, claimed) is None]
        if not free:
            return contact_id
        try:
            self._contacts[contact_id] = drafts.checked(replace(contact, identities=[*contact.identities, *free]), [])
        except InvalidContact as error:
            return error
        self._take(contact_id, free, claimed)
        return contact_id

    def _take(self, contact_id: UUID, asked: Sequence[Identity], claimed: Claimed) -> None:
        self.claimants.append((contact_id, asked))
        for one in asked:
            if one.verified or self._owner(one.address, claimed) is None:
                self._taken[one.address] = contact_id

    def _keys(self, person: Person) -> Collection[int]:
        """By what those who arrive together recognise each other."""
        together = len(self._newcomers) > 1 and lookalikes.recognisable(person)
        return likeness_keys.keys(person) if together else ()


def _chosen(likely: Sequence[tuple[Person, Likeness]]) -> UUID | CrmError | None:
    """The only one who is certainly the same; nobody, or the refusal to choose among those who may be."""
    certain = [person.id for person, found in likely if found.score >= CERTAIN]
    if len(certain) == 1:
        return certain[0]
    return _possible(likely) if likely else None


def _possible(likely: Sequence[tuple[Person, Likeness]]) -> PossibleDuplicate:
    return PossibleDuplicate(
        "Somebody who is known resembles this person. Send it again with `on_duplicate`: `link` for the one who is "
        "there, `create` for somebody else.",
        candidates=[
            {"contact_id": str(person.id), "score": found.score, "reasons": msgspec.to_builtins(found.reasons)}
            for person, found in likely[:_CANDIDATES_MAX]
        ],
    )
