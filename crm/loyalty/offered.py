"""The offers as one member sees them: those that are for this member now, best first, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from crm.contacts import aliases
from crm.db.session import Session
from crm.errors import Conflict, NotFound
from crm.loyalty import circumstances, eligibility, journal, offers, profiles, ranking, recipients
from crm.loyalty.audiences import Offer
from crm.loyalty.books import Book
from crm.loyalty.journal import Found
from crm.loyalty.offers import OfferNotFound
from crm.loyalty.ranking import RANKED_MAX, Candidate, Place, Rank, Ranked, Reason, Sort

# Those for whoever fits, and those that name the member, newest first; what is used up or gives a reward that is gone
# is nothing to offer.
_MEANT: Final = f"""
    WITH meant AS (
        (SELECT o.program_id, o.id FROM offers o
         WHERE o.program_id = $2 AND o.ended_at IS NULL AND o.status = 'active' AND o.contacts_count IS NULL
            AND ($4::uuid IS NULL OR o.id = $4)
         ORDER BY o.id DESC LIMIT $3)
        UNION ALL
        (SELECT o.program_id, o.id FROM offer_recipients r
         JOIN offers o ON o.program_id = r.program_id AND o.id = r.offer_id
         WHERE r.contact_id = $1 AND r.program_id = $2 AND r.named
            AND o.ended_at IS NULL AND o.status = 'active' AND o.contacts_count IS NOT NULL
            AND ($4::uuid IS NULL OR o.id = $4)
         ORDER BY o.id DESC LIMIT $3)
    )
    SELECT o.id, o.program_id, o.version, o.contacts_count, o.definition, o.status, r.named IS TRUE AS named, r.code,
        least(o.per_member - c.claimed, o.in_all - n.claimed) AS claims_left
    FROM meant m
    CROSS JOIN LATERAL (
        SELECT *, coalesce((definition ->> 'claims_max_per_member')::bigint, 1) AS per_member,
            (definition ->> 'claims_max')::bigint AS in_all
        FROM offers WHERE program_id = m.program_id AND id = m.id
    ) o
    CROSS JOIN LATERAL (
        SELECT count(*) AS claimed FROM {aliases.known_as("$1::uuid")} who
        JOIN offer_claims x ON x.contact_id = who.id AND x.offer_id = o.id
    ) c
    LEFT JOIN offer_counts n ON n.program_id = o.program_id AND n.offer_id = o.id
    LEFT JOIN offer_recipients r ON r.contact_id = $1 AND r.offer_id = o.id
    LEFT JOIN rewards w ON w.program_id = o.program_id AND w.id = (o.definition -> 'benefit' ->> 'reward_id')::uuid
    LEFT JOIN reward_stocks s ON s.program_id = w.program_id AND s.reward_id = w.id
    WHERE w.ended_at IS NULL AND (s.limited IS NOT TRUE OR s.remaining > 0)
    ORDER BY o.id DESC LIMIT $3
"""


class OfferCodeNotFound(NotFound):
    code = "offer_code_not_found"
    title = "The contact has no code of this offer"


class NoPersonalCode(Conflict):
    code = "no_personal_code"
    title = "This offer has no code for each member"


@dataclass(slots=True)
class Offered:
    """An offer that is for this contact now. It can be claimed `claims_left` times, or holds by itself where `auto`.

    `code` is the contact's own, where there is one. The higher the `score`, the better it suits them; `reasons` say
    why.
    """

    id: UUID
    program_id: UUID
    name: str
    description: str | None
    benefit: dict[str, Any]
    window: dict[str, Any] | None
    ends_at: datetime | None
    auto: bool
    claims_left: int | None
    personal_code: bool
    code: str | None
    score: int
    reasons: list[Reason]


@dataclass(slots=True)
class OfferCode:
    """A code that is one contact's own."""

    offer_id: UUID
    code: str


async def page(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    sort: Sort = "rank",
    after: Place | None,
    limit: int,
    now: datetime,
    rank: Rank = ranking.rank,
) -> list[Offered]:
    """A program's offers for one contact, from behind `after`: best first, or in the order they were made.

    In a handful of queries; of more than RANKED_MAX the newest. Raises ContactNotFound, ProgramNotFound,
    ProgramRequired.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    ranked = await _ranked(session, found, await _open(session, found, now=now), rank, now=now)
    if sort == "made":
        return [each for each in sorted(ranked, key=lambda each: each.id) if not after or each.id > after[1]][:limit]
    return ranking.behind(ranked, after)[:limit]


async def get(
    session: Session, *, contact_id: UUID, offer_id: UUID, now: datetime, rank: Rank = ranking.rank
) -> Offered:
    """One offer, as it is for this contact now. Raises ContactNotFound, OfferNotFound."""
    found, offer = await _find(session, contact_id, offer_id, now)
    return (await _ranked(session, found, [offer], rank, now=now))[0]


async def code(session: Session, *, contact_id: UUID, offer_id: UUID, now: datetime) -> OfferCode:
    """The contact's own code of an offer. Raises ContactNotFound, OfferNotFound, OfferCodeNotFound."""
    _, (offer, row) = await _find(session, contact_id, offer_id, now)
    if row["code"] is None:
        raise OfferCodeNotFound("Nobody has asked for one. PUT makes it, where the offer has a code for each member.")
    return OfferCode(offer.id, row["code"])


async def give_code(session: Session, *, contact_id: UUID, offer_id: UUID, now: datetime) -> OfferCode:
    """The contact's own code of an offer, made now if there is none.

    Raises ContactNotFound, OfferNotFound, NoPersonalCode.
    """
    _, (offer, _) = await _find(session, contact_id, offer_id, now)
    if not offer.personal_code:
        raise NoPersonalCode('Claim it by its id, or give it codes with PATCH and "personal_code": true.')
    return OfferCode(offer.id, await recipients.give_code(session, contact_id=contact_id, offer=offer, now=now))


_Open = tuple[Offer, Record]
"""An offer, and what is known of it for a member."""


async def _find(session: Session, contact_id: UUID, offer_id: UUID, now: datetime) -> tuple[Found, _Open]:
    program_id = await session.fetchval("SELECT program_id FROM offers WHERE id = $1", offer_id)
    if program_id is not None:
        found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
        for offer in await _open(session, found, offer_id=offer_id, now=now):
            return found, offer
    await journal.require(session, program_id=program_id, contact_id=contact_id)
    raise OfferNotFound("There is no such offer for this contact.")


async def _open(session: Session, found: Found, *, offer_id: UUID | None = None, now: datetime) -> list[_Open]:
    """The offers that this member could claim or has at `now`."""
    book, zone = found.book, found.program.terms.zone
    rows = await session.fetch(_MEANT, book.contact_id, found.program.id, RANKED_MAX, offer_id)
    meant = [(offer, row) for row in rows if _is_left(offer := offers.offer_of(row), row, now.astimezone(zone))]
    facts = await circumstances.facts_of_member(
        session, program=found.program, book=book, asked=[offer.audience.condition for offer, _ in meant], now=now
    )
    return [
        (offer, row) for offer, row in meant if offer.audience.includes(book, at=now, facts=facts, named=row["named"])
    ]


def _is_left(offer: Offer, row: Record, local: datetime) -> bool:
    return (offer.auto or row["claims_left"] > 0) and (offer.window is None or offer.window.covers(local))


async def _ranked(
    session: Session, found: Found, offered: Sequence[_Open], rank: Rank, *, now: datetime
) -> list[Offered]:
    if not offered:
        return []
    book = found.book
    profile = await profiles.read(session, book=book, now=now)
    by_id = {offer.id: (offer, row) for offer, row in offered}
    ranked = rank([_candidate(offer, row, book) for offer, row in offered], profile)
    return [_offered(*by_id[each.id], each, book) for each in ranked]


def _candidate(offer: Offer, row: Record, book: Book) -> Candidate:
    tier = book.ladder.tier(offer.audience.tier_id)
    earns_on = offer.benefit.get("filter") or {}
    return Candidate(
        id=offer.id,
        categories=offer.categories or frozenset(earns_on.get("categories") or ()),
        skus=offer.skus or frozenset(earns_on.get("skus") or ()),
        tier=None if tier is None else tier.name,
        picked=row["named"],
        ends_at=eligibility.ends_at(offer.window, book.ladder.zone),
    )


def _offered(offer: Offer, row: Record, ranked: Ranked, book: Book) -> Offered:
    definition = row["definition"]
    return Offered(
        id=offer.id,
        program_id=offer.program_id,
        name=offer.name,
        description=definition.get("description"),
        benefit=definition["benefit"],
        window=definition.get("window"),
        ends_at=eligibility.ends_at(offer.window, book.ladder.zone),
        auto=offer.auto,
        claims_left=None if offer.auto else row["claims_left"],
        personal_code=offer.personal_code,
        code=row["code"],
        score=ranked.score,
        reasons=list(ranked.reasons),
    )
