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
from uuid import UUID

from crm.contacts import identities, suggestions
from crm.contacts.addresses import Address, InvalidIdentity
from crm.contacts.identities import Identity, IdentityTaken
from crm.contacts.suggestions import DISPUTED, Suggestion
from crm.db.session import Session
from crm.db.writes import Insert, Update
from crm.errors import FieldError, Unavailable


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


@dataclass(slots=True)
class Settled:
    """What became of claims. `disputed` are addresses that claimants show and do not own."""

    refusals: dict[UUID, IdentityTaken | IdentityBlocked] = field(default_factory=dict)
    disputed: set[tuple[UUID, Address]] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    moved: dict[Address, UUID] = field(default_factory=dict)
    pairs: list[tuple[UUID, UUID, str]] = field(default_factory=list)

    def shown(self, contact_id: UUID, claimed: Iterable[Identity]) -> list[Identity]:
        """The identities of a claimant as they are now."""
        return [identities.disputed(one) if (contact_id, one.address) in self.disputed else one for one in claimed]

    def parts(self, *, now: datetime) -> list[Insert | Update]:
        """The parts of a write that carry it out, but for the identities of the claimants."""
        return [
            identities.moved(self.moved),
            identities.marked((loss.contact_id, identities.disputed(loss.identity)) for loss in self.losses),
            suggestions.suggest([_suggestion(*pair) for pair in self.pairs], now=now),
        ]


async def lock(session: Session, *, claimed: Iterable[Identity], besides: Collection[UUID] = ()) -> set[UUID]:
    """Lock the contacts that may lose what is claimed with proof, and those `besides`; which they are.

    Contacts are locked before addresses, and in one order, by everybody. Nothing is asked where nothing is proven.
    """
    proven = [one.address for one in claimed if one.verified and not one.disputed]
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


async def settle(
    session: Session,
    *,
    claimants: Sequence[tuple[UUID, Sequence[Identity]]],
    locked: Collection[UUID],
    disputing: bool = False,
    pointer: str = "/identities/{}/value",
) -> Settled:
    """Decide about claims, in order, each claimant's all together; the addresses are locked from here to the end.

    `locked` is what `lock` answered for them. With `disputing`, what belongs to somebody else is no refusal: the
    claimant shows it as disputed. Identities that are disputed already claim nothing. `pointer` says where a claimant's
    value stands, by its place among theirs. Raises Unavailable where an address has changed hands at this moment.
    """
    wanted: dict[Address, UUID] = {}
    proven: set[Address] = set()
    for contact_id, claimed in claimants:
        for one in claimed:
            if not one.disputed:
                wanted.setdefault(one.address, contact_id)
                if one.verified:
                    proven.add(one.address)
    holders = await identities.claim(session, wanted=wanted)
    present = {key: holder for key, holder in holders.items() if holder != wanted[key]}
    rivals = {key: holder for key, holder in present.items() if key in proven}
    shown = await identities.shown(session, holders=rivals) if rivals else {}
    owners = {key: _Owner(holder, shown.get(key)) for key, holder in present.items()}
    plan = _Plan(holders, owners, locked, disputing, pointer)
    for contact_id, claimed in claimants:
        plan.add(contact_id, [one for one in claimed if not one.disputed])
    if released := [key for key in holders if key not in plan.owners]:
        await identities.release(session, addresses=released)
    plan.settled.moved = {
        key: owner.contact_id for key, owner in plan.owners.items() if holders[key] != owner.contact_id
    }
    return plan.settled


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who has an address, and how it is shown; of whom nobody takes anything, how does not matter."""

    contact_id: UUID
    identity: Identity | None
    is_new: bool = False


class _Plan:
    """Who has what after the claims so far; first only those who had it before."""

    def __init__(
        self, holders: Mapping[Address, UUID], owners: dict[Address, _Owner], locked: Collection[UUID],
        disputing: bool, pointer: str,
    ) -> None:  # fmt: skip
        self.owners = owners
        self.settled = Settled()
        self._holders = holders
        self._locked = locked
        self._disputing = disputing
        self._pointer = pointer

    def add(self, contact_id: UUID, claimed: Sequence[Identity]) -> None:
        """Judge the claims of one contact."""
        lost: list[tuple[Identity, _Owner]] = []
        for place, one in enumerate(claimed):
            owner = self.owners.get(one.address)
            if one.address not in self._holders:
                self.settled.refusals[contact_id] = IdentityBlocked.of(one, pointer=self._pointer.format(place))
                return
            if owner is not None and owner.contact_id != contact_id and not self._yields(owner, one):
                if not self._disputing:
                    self.settled.refusals[contact_id] = identities.taken(one, by=owner.contact_id)
                    return
                lost.append((one, owner))
        refused = {one.address for one, _ in lost}
        for one, owner in lost:
            self.settled.disputed.add((contact_id, one.address))
            self.settled.pairs.append((contact_id, owner.contact_id, one.kind))
        for one in claimed:
            if one.address not in refused:
                self._take(contact_id, one)

    def _yields(self, owner: _Owner, claim: Identity) -> bool:
        return claim.verified and not (owner.identity is not None and owner.identity.verified)

    def _take(self, contact_id: UUID, claim: Identity) -> None:
        owner = self.owners.get(claim.address)
        if owner is not None and owner.contact_id != contact_id:
            self._lose(owner, claim, contact_id)
        self.owners[claim.address] = _Owner(contact_id, claim, is_new=True)

    def _lose(self, owner: _Owner, claim: Identity, to: UUID) -> None:
        self.settled.pairs.append((owner.contact_id, to, claim.kind))
        if owner.is_new:
            self.settled.disputed.add((owner.contact_id, claim.address))
        elif owner.contact_id not in self._locked:
            raise Unavailable("Somebody else has taken one of these identities at this moment. Send the request again.")
        elif owner.identity is not None:
            self.settled.losses.append(Loss(owner.contact_id, owner.identity, to))


def _suggestion(contact_id: UUID, other_id: UUID, kind: str) -> Suggestion:
    reason = {"code": "identity_disputed", "text": f"Both say that one {kind} is theirs."}
    return Suggestion(contact_id, other_id, DISPUTED, (reason,))
