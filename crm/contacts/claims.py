"""Who gets an address that a contact claims. The rules, in their order:

1. A blocked address is nobody's.
2. A free one is the claimant's.
3. Whoever has it keeps it,
4. unless nobody has proven that it is theirs, and the claimant has: then it goes to the claimant, and the former holder
   shows it as disputed. That the two may be one person is suggested, and never taken for granted.

Several who claim at once are judged as if one came after the other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from crm.contacts import identities, suggestions
from crm.contacts.addresses import Address, InvalidIdentity
from crm.contacts.identities import Identity, IdentityTaken
from crm.contacts.likeness import DuplicateReason
from crm.contacts.suggestions import DISPUTED, Pair, Suggestion
from crm.db.session import Session
from crm.db.writes import Insert, Update
from crm.errors import FieldError, Unavailable

DISPUTED_SCORE: Final = 80
"""How likely two are one person, in percent, who both show one address."""


class IdentityBlocked(InvalidIdentity):
    title = "This address is blocked"

    @classmethod
    def of(cls, identity: Identity, *, pointer: str) -> "IdentityBlocked":
        """The refusal of an identity that stands there."""
        return cls(
            f"The {identity.kind} '{identity.value}' can't be a customer's: it is among /v1/blocked-identities.",
            errors=[FieldError(pointer, cls.code, "is blocked")],
            identity={"kind": identity.kind, "account": identity.account, "value": identity.value},
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """An identity that a contact shows as disputed from now on; it is as it was before, and `to` is who has it now."""

    contact_id: UUID
    identity: Identity
    to: UUID | None


def wanted(asked: Iterable[tuple[UUID, Iterable[Identity]]]) -> dict[Address, UUID]:
    """For whom each address has to be claimed: the first who asks for it. What is disputed claims nothing."""
    first: dict[Address, UUID] = {}
    for contact_id, asked_for in asked:
        for identity in asked_for:
            if not identity.disputed:
                first.setdefault(identity.address, contact_id)
    return first


async def lock(session: Session, *, asked: Iterable[Identity], besides: Collection[UUID] = ()) -> set[UUID]:
    """Lock the contacts that may lose what is asked for with proof, and those `besides`; which they are.

    Contacts are locked before addresses, and in one order, by everybody. It costs nothing where nothing is proven.
    """
    proven = [one.address for one in asked if one.verified and not one.disputed]
    if not proven:
        return set()
    rows = await session.fetch(
        """
        SELECT c.id FROM contacts c
        WHERE c.id = ANY ($4) OR c.id = ANY (ARRAY(
            SELECT d.contact_id FROM unnest($1::text[], $2::text[], $3::text[]) AS v (value, kind, account)
            JOIN identity_directory d ON d.value = v.value AND d.kind = v.kind AND d.account = v.account
        ))
        ORDER BY c.id FOR NO KEY UPDATE
        """,
        [key.value for key in proven], [key.kind for key in proven], [key.account for key in proven], list(besides),
    )  # fmt: skip
    return {row["id"] for row in rows}


async def claim(
    session: Session, *, asked: Sequence[tuple[UUID, Sequence[Identity]]], locked: Collection[UUID]
) -> "Claims":
    """Claim what contacts ask for, in order; the addresses are locked from here to the end.

    `locked` is what `lock` answered for them.
    """
    holders = await identities.claim(session, wanted=wanted(asked))
    return await held(session, asked=asked, holders=holders, locked=locked)


async def held(
    session: Session,
    *,
    asked: Sequence[tuple[UUID, Sequence[Identity]]],
    holders: Mapping[Address, UUID],
    locked: Collection[UUID],
) -> "Claims":
    """The same for whoever has claimed what is `wanted` already: `holders` are who has each address."""
    first = wanted(asked)
    return Claims(first, holders, await _rivals(session, asked, first, holders), locked)


async def _rivals(
    session: Session,
    asked: Iterable[tuple[UUID, Iterable[Identity]]],
    first: Mapping[Address, UUID],
    holders: Mapping[Address, UUID],
) -> Mapping[Address, Identity]:
    """How those who hold what others ask for with proof show it."""
    proven = {one.address for _, asked_for in asked for one in asked_for if one.verified and not one.disputed}
    held = {key: holder for key, holder in holders.items() if key in proven and holder != first[key]}
    return await identities.shown(session, holders=held) if held else {}


@dataclass(slots=True)
class Claims:
    """Addresses that were claimed, for whom, and who holds them now; `settle` has to follow.

    `rivals` is how holders show what is asked for with proof. `losses` are those of contacts who were there before,
    `disputed` what claimants show without having it.
    """

    wanted: Mapping[Address, UUID]
    holders: Mapping[Address, UUID]
    rivals: Mapping[Address, Identity]
    locked: Collection[UUID]
    owners: dict[Address, UUID] = field(init=False)
    losses: list[Loss] = field(init=False, default_factory=list)
    disputed: set[tuple[UUID, Address]] = field(init=False, default_factory=set)
    _proven: set[Address] = field(init=False)
    _taken: set[Address] = field(init=False, default_factory=set)
    _suggested: list[Suggestion] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.owners = {key: holder for key, holder in self.holders.items() if holder != self.wanted[key]}
        self._proven = {key for key, identity in self.rivals.items() if identity.verified}

    def refusal(
        self, contact_id: UUID, asked: Sequence[Identity], *, disputing: bool = False, pointer: str
    ) -> IdentityTaken | IdentityBlocked | None:
        """Why a contact can't have all of this; with `disputing` it need not have what is another's.

        `pointer` says where each stands, by its place.
        """
        for place, one in enumerate(asked):
            if one.disputed:
                continue
            if one.address not in self.holders:
                return IdentityBlocked.of(one, pointer=pointer.format(place))
            if not disputing and not self._yields(contact_id, one):
                return identities.taken(one, by=self.owners[one.address])
        return None

    def take(self, contact_id: UUID, asked: Iterable[Identity]) -> None:
        """Let a contact have what it may, and show the rest as disputed.

        Raises Unavailable where an address has changed hands at this moment.
        """
        for one in asked:
            if one.disputed:
                continue
            owner = self.owners.get(one.address, contact_id)
            if owner != contact_id:
                self._suggested.append(_suggestion(owner, contact_id, one.kind))
            if not self._yields(contact_id, one):
                self.disputed.add((contact_id, one.address))
                continue
            if owner != contact_id:
                self._lose(owner, one.address, contact_id)
            self.owners[one.address] = contact_id
            self._taken.add(one.address)
            if one.verified:
                self._proven.add(one.address)

    def shown(self, contact_id: UUID, asked: Iterable[Identity]) -> list[Identity]:
        """What a claimant asked for, as it is now."""
        return [identities.disputed(one) if (contact_id, one.address) in self.disputed else one for one in asked]

    async def settle(
        self, session: Session, *, besides: Iterable[Suggestion] = (), now: datetime
    ) -> list[Insert | Update]:
        """Free what nobody took; the parts of a write that carry out the rest, but for identities of claimants.

        With what is disputed, it suggests what is found `besides`.
        """
        if released := [key for key in self.holders if key not in self.owners]:
            await identities.release(session, addresses=released)
        return [
            identities.moved({key: owner for key, owner in self.owners.items() if owner != self.holders[key]}),
            identities.marked((loss.contact_id, identities.disputed(loss.identity)) for loss in self.losses),
            suggestions.suggest([*self._suggested, *besides], now=now),
        ]

    def _yields(self, contact_id: UUID, claimed: Identity) -> bool:
        """Whether whoever has it, if anybody, has to leave it to the claimant."""
        owner = self.owners.get(claimed.address, contact_id)
        return owner == contact_id or (claimed.verified and claimed.address not in self._proven)

    def _lose(self, owner: UUID, key: Address, to: UUID) -> None:
        if key in self._taken:
            self.disputed.add((owner, key))
        elif owner not in self.locked:
            raise Unavailable("Somebody else has taken one of these identities at this moment. Send the request again.")
        elif key in self.rivals:
            self.losses.append(Loss(owner, self.rivals[key], to))


def _suggestion(one: UUID, other: UUID, kind: str) -> Suggestion:
    reason = DuplicateReason(DISPUTED, f"Both say that one {kind} is theirs.")
    return Suggestion(Pair.of(one, other), DISPUTED_SCORE, [reason])
