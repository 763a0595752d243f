"""The rewards as one member sees them: which can be had, why others can't, and how well each suits."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import catalogue, eligibility, journal, profiles, ranking
from crm.loyalty.books import Book
from crm.loyalty.eligibility import Fulfilment, Obstacle, Reward
from crm.loyalty.ranking import RANKED_MAX, Candidate, Place, Rank, Ranked, Reason, Sort


@dataclass(slots=True)
class Choice:
    """A reward as a member sees it; `why_not` says every reason why it is not `available`.

    The higher the `score`, the better it suits the member; `reasons` say why.
    """

    id: UUID
    name: str
    description: str | None
    cost: int
    stock: int | None
    fulfilment: Fulfilment
    tier_id: UUID | None
    valid_days: int | None
    available: bool
    why_not: list[Obstacle]
    score: int
    reasons: list[Reason]


async def page(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    sort: Sort = "made",
    after: Place | None,
    limit: int,
    now: datetime,
    rank: Rank = ranking.rank,
) -> list[Choice]:
    """A program's active rewards for one member, from behind `after`: in the order they were made, or best first.

    In a handful of queries, however many there are; best first are the first RANKED_MAX.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    offered = await catalogue.active(
        session, program_id=found.program.id, after=after[1] if after and sort == "made" else None,
        limit=limit if sort == "made" else RANKED_MAX,
    )  # fmt: skip
    member = await catalogue.member(
        session, program=found.program, book=found.book, rewards=[reward for reward, _ in offered], now=now
    )
    why_not = {reward.id: eligibility.obstacles(reward, member, now=now) for reward, _ in offered}
    ranked = rank(
        [_candidate(reward, why_not[reward.id], found.book) for reward, _ in offered],
        await profiles.read(session, book=found.book, now=now),
    )
    places = {each.id: each for each in ranked}
    choices = {reward.id: _choice(reward, about, why_not[reward.id], places[reward.id]) for reward, about in offered}
    if sort == "made":
        return list(choices.values())
    return ranking.behind((choices[each.id] for each in ranked), after)[:limit]


def _candidate(reward: Reward, why_not: list[Obstacle], book: Book) -> Candidate:
    tier = book.ladder.tier(reward.tier_id)
    return Candidate(
        id=reward.id,
        categories=reward.categories,
        skus=reward.skus,
        cost=reward.cost,
        tier=None if tier is None else tier.name,
        blocked=any(each.code != "insufficient_points" for each in why_not),
        ends_at=eligibility.ends_at(reward.window, book.ladder.zone),
    )


def _choice(reward: Reward, about: str | None, why_not: list[Obstacle], ranked: Ranked) -> Choice:
    return Choice(
        reward.id, reward.name, about, reward.cost, reward.stock, reward.fulfilment, reward.tier_id, reward.valid_days,
        not why_not, why_not, ranked.score, list(ranked.reasons),
    )  # fmt: skip
