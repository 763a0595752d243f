"""Offers that multiply what purchases earn: as rules, each for those who claimed it, or whom it is for by itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from crm.contacts import aliases
from crm.contacts.conditions import Condition, Facts
from crm.db.session import Session
from crm.loyalty.audiences import Offer
from crm.loyalty.books import Book
from crm.loyalty.earning import Rule

# Of offers that have to be claimed, who did, also before a merge; of the others, whom they name.
_HELD: Final = f"""
    SELECT g.id AS contact_id, c.offer_id
    FROM unnest($1::uuid[]) AS g (id) CROSS JOIN LATERAL {aliases.known_as("g.id")} who
    JOIN offer_claims c ON c.contact_id = who.id
    WHERE c.offer_id = ANY ($2) AND c.number = 1
    UNION ALL
    SELECT contact_id, offer_id FROM offer_recipients
    WHERE contact_id = ANY ($1) AND offer_id = ANY ($3) AND named
"""


class Holding(NamedTuple):
    """A contact who has claimed an offer, or whom one that needs no claim names."""

    contact_id: UUID
    offer_id: UUID


@dataclass(frozen=True, slots=True)
class Multiplier:
    """An offer as the rule that it is for its members."""

    offer: Offer
    rule: Rule

    @classmethod
    def of(cls, offer: Offer) -> Self:
        """The rule has the offer's id, version, name and window."""
        definition: dict[str, Any] = {
            "name": offer.name, "kind": "multiplier", "factor": offer.benefit["factor"],
            "filter": offer.benefit.get("filter"), "status": offer.status,
        }  # fmt: skip
        return cls(offer, replace(Rule.of(definition, id=offer.id, version=offer.version), window=offer.window))

    @property
    def condition(self) -> Condition | None:
        """What has to be known of a member besides, if anything."""
        return self.offer.audience.condition if self.offer.auto else None

    def is_for(self, book: Book, *, at: datetime, held: Collection[Holding], facts: Facts | None) -> bool:
        """Whether the offer is among the rules for what the member of a locked book did at `at`.

        It is no more once its last day is over: whoever claimed it would otherwise be told of it for ever.
        """
        window = self.offer.window
        local_on = at.astimezone(book.ladder.zone).date()
        # The hours of a last evening may run into the day after it.
        if window is not None and window.last_on is not None and local_on - timedelta(days=1) > window.last_on:
            return False
        holds = Holding(book.contact_id, self.offer.id) in held
        return self.offer.audience.includes(book, at=at, facts=facts, named=holds) if self.offer.auto else holds


async def held(
    session: Session, *, multipliers: Sequence[Multiplier], contact_ids: Collection[UUID]
) -> frozenset[Holding]:
    """Who of these contacts holds which of the offers, in one query; none where nobody has to be asked."""
    claimable = [one.offer.id for one in multipliers if not one.offer.auto]
    naming = [one.offer.id for one in multipliers if one.offer.auto and one.offer.audience.named]
    if not contact_ids or not (claimable or naming):
        return frozenset()
    rows = await session.fetch(_HELD, list(contact_ids), claimable, naming)
    return frozenset(Holding(row["contact_id"], row["offer_id"]) for row in rows)
