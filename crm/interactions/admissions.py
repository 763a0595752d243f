"""Making contacts of people who may be there already: asked first whether they are, and then what is wanted."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from crm.contacts import claims, contacts, definitions, drafts, identities, likeness, likeness_keys, lookalikes
from crm.contacts.addresses import Address
from crm.contacts.claims import Claims, IdentityBlocked
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
_POINTER: Final = "/identities/{}/value"


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
    """The contact, and whether it was made now; else somebody who was there is the same person.

    Who was there `has_more` where some of the newcomers brought addresses that were free. Who was made and has an
    address of somebody who was erased, `was_erased`.
    """

    contact: Contact
    is_new: bool
    has_more: bool = False
    was_erased: bool = False


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
    [result], parts = await _admitted(session, [newcomer], by, {}, now)
    if isinstance(result, CrmError):
        raise result
    answer = idempotency.answer(
        once, contact_id=result.contact.id, result=result.contact, now=now, status=201 if result.is_new else 200
    )
    await writes.write(session, [*parts, *answer])
    return result


async def admit_all(
    session: Session, *, newcomers: Sequence[Newcomer], by: str, data: Mapping[str, Any] | None = None, now: datetime
) -> list[Admitted | CrmError]:
    """The same of many, in a few round trips however many they are; those who come first are there for the others.

    `data` is told with each who is made or gains something.
    """
    results, parts = await _admitted(session, newcomers, by, data or {}, now)
    await writes.write(session, parts)
    return results


async def _admitted(
    session: Session, newcomers: Sequence[Newcomer], by: str, data: Mapping[str, Any], now: datetime
) -> tuple[list[Admitted | CrmError], list[writes.Insert | writes.Update]]:
    """What becomes of each, and what has to be written for that."""
    party = _Party(newcomers)
    locked = await party.recognise(session)
    claimed = await party.take_up(session, locked=locked)
    settled = await claimed.settle(session, besides=party.suggested, now=now)
    made, changed = party.shown(claimed, now=now)
    told = [
        people.updated(after.id, {**contacts.changes(before, after), **data}, by=by, now=now)
        for before, after in changed
    ]
    told += await disputes.told(session, losses=claimed.losses, by=by, now=now)
    parts, returned = await people.stored(session, made, told, by=by, data=data, now=now)
    return party.results(returned), [*parts, *contacts.extended(changed, now=now), *settled]


class _Party:
    """Newcomers who arrive together, in order."""

    def __init__(self, newcomers: Sequence[Newcomer]) -> None:
        self._newcomers = newcomers
        self._persons = [likeness.person_of(newcomer.contact) for newcomer in newcomers]
        self._outcomes: list[UUID | CrmError | None] = [None] * len(newcomers)
        self._known: dict[UUID, Contact] = {}
        self._contacts: dict[UUID, Contact] = {}
        self._made: list[UUID] = []
        self._met: defaultdict[int, list[Person]] = defaultdict(list)
        self.suggested: list[Suggestion] = []
        """Who of those who are made may be whom."""

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
        new = [self._own(n) for n, outcome in enumerate(self._outcomes) if outcome is None]
        asked = [identity for contact in new for identity in contact.identities]
        locked = await claims.lock(session, asked=asked, besides=meant)
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

    async def take_up(self, session: Session, *, locked: Collection[UUID]) -> Claims:
        """Claim the addresses for those who may get them, and say of each newcomer, in order, who they are."""
        outcomes = self._outcomes
        asked = [
            (outcome if isinstance(outcome, UUID) else self._own(n).id, self._asked(n))
            for n, outcome in enumerate(outcomes)
            if not isinstance(outcome, CrmError)
        ]
        new = {n: place for place, n in enumerate(n for n, outcome in enumerate(outcomes) if outcome is None)}
        found = await lookalikes.claim_and_find(
            session, wanted=claims.wanted(asked), people=[self._persons[n] for n in new]
        )
        claimed = await claims.held(session, asked=asked, holders=found.holders, locked=locked)
        for n, outcome in enumerate(outcomes):
            who = self._new(n, found.people[new[n]], claimed) if outcome is None else outcome
            if isinstance(who, UUID) and who != self._own(n).id:
                who = self._linked(n, who, claimed)
            outcomes[n] = who
        return claimed

    def shown(self, claimed: Claims, *, now: datetime) -> tuple[list[Contact], list[tuple[Contact, Contact]]]:
        """Who is made, and who was there and has more identities now, before and after."""
        changed = []
        for contact_id, contact in self._contacts.items():
            before = self._known.get(contact_id)
            if contact is before:
                continue
            had = [] if before is None else before.identities
            more = claimed.shown(contact_id, contact.identities[len(had) :])
            after = replace(contact, identities=[*had, *more])
            if before is not None:
                after = replace(after, version=before.version + 1, updated_at=now)
                changed.append((before, after))
            self._contacts[contact_id] = after
        return [self._contacts[contact_id] for contact_id in self._made], changed

    def results(self, returned: Collection[UUID]) -> list[Admitted | CrmError]:
        """What became of each; `returned` are those who were erased once."""
        return [
            outcome if isinstance(outcome, CrmError) else self._admitted(n, outcome, returned)
            for n, outcome in enumerate(self._outcomes)
            if outcome is not None
        ]

    def _admitted(self, n: int, contact_id: UUID, returned: Collection[UUID]) -> Admitted:
        contact, before = self._contacts[contact_id], self._known.get(contact_id)
        has_more = before is not None and contact is not before
        return Admitted(contact, contact_id == self._own(n).id, has_more, contact_id in returned)

    def _own(self, n: int) -> Contact:
        return self._newcomers[n].contact

    def _asked(self, n: int) -> list[Identity]:
        """What has to be claimed for a newcomer: whoever is there keeps what they have."""
        outcome = self._outcomes[n]
        known = self._known[outcome].identities if isinstance(outcome, UUID) else []
        return identities.new(known, self._own(n).identities)

    def _meant(self, n: int, holders: Mapping[Address, UUID], near: Sequence[Person]) -> UUID | CrmError | None:
        """Who is meant by a newcomer to be linked: who has an identity of theirs, else who is certainly the same."""
        owned = [identity for identity in self._own(n).identities if identity.address in holders]
        owners = {holders[identity.address] for identity in owned}
        if len(owners) > 1:
            return identities.taken(owned[0], by=holders[owned[0].address])
        if owners:
            return owners.pop()
        return _chosen(lookalikes.likely(self._persons[n], near, least=LIKELY))

    def _new(self, n: int, near: Sequence[Person], claimed: Claims) -> UUID | CrmError:
        """A newcomer whom nobody was found for before: who it is, or why it is nobody.

        Of whoever brings an address of somebody else the claims decide, and no likeness.
        """
        contact, wish, person = self._own(n), self._newcomers[n].on_duplicate, self._persons[n]
        owners = [claimed.owners[one.address] for one in contact.identities if one.address in claimed.owners]
        if wish == "link" and (together := [owner for owner in owners if owner in self._made]):
            return together[0]
        if refusal := claimed.refusal(contact.id, contact.identities, disputing=wish == "create", pointer=_POINTER):
            return refusal
        keys = self._keys(person)
        met = {other.id: other for key in keys for other in self._met[key]}
        found = lookalikes.likely(person, [*near, *met.values()], least=SUGGESTED_MIN)
        likely = [one for one in found if one[1].score >= LIKELY]
        if likely and wish != "create" and not owners:
            chosen = _chosen(likely)
            return chosen if wish == "link" and isinstance(chosen, UUID) and chosen in self._made else _possible(likely)
        for key in keys:
            self._met[key].append(person)
        self.suggested += [Suggestion.of(person.id, other.id, alike) for other, alike in found]
        self._contacts[contact.id] = contact
        self._made.append(contact.id)
        claimed.take(contact.id, contact.identities)
        return contact.id

    def _linked(self, n: int, contact_id: UUID, claimed: Claims) -> UUID | CrmError:
        """Give the contact who is meant what is free of the newcomer's identities; nobody has proven any of them."""
        contact = self._contacts[contact_id]
        asked = identities.new(contact.identities, self._own(n).identities)
        for place, one in enumerate(self._own(n).identities):
            if one in asked and one.address not in claimed.holders:
                return IdentityBlocked.of(one, pointer=_POINTER.format(place))
        free = [replace(one, verified=False) for one in asked if one.address not in claimed.owners]
        if not free:
            return contact_id
        try:
            self._contacts[contact_id] = drafts.checked(replace(contact, identities=[*contact.identities, *free]), [])
        except InvalidContact as error:
            return error
        claimed.take(contact_id, free)
        return contact_id

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
