"""The rewards as one member sees them: which can be had, and of the others every reason why not."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import catalogue, eligibility, journal
from crm.loyalty.eligibility import Fulfilment, Member, Obstacle, Reward


@dataclass(slots=True)
class Choice:
    """A reward as a member sees it; `why_not` says every reason why it is not `available`."""

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


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, after: UUID | None, limit: int, now: datetime
) -> list[Choice]:
    """A program's active rewards for one member, in the order they were made, from behind `after`.

    In four queries at most, however many there are. Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    offered = await catalogue.active(session, program_id=found.program.id, after=after, limit=limit)
    used = await catalogue.used(
        session, program=found.program, contact_id=contact_id, rewards=[reward for reward, _ in offered], now=now
    )
    return [
        _choice(reward, about, Member(book=found.book, used=used.get(reward.id, {})), now) for reward, about in offered
    ]


def _choice(reward: Reward, about: str | None, member: Member, now: datetime) -> Choice:
    why_not = eligibility.obstacles(reward, member, now=now)
    return Choice(
        reward.id, reward.name, about, reward.cost, reward.stock, reward.fulfilment, reward.tier_id, reward.valid_days,
        not why_not, why_not,
    )  # fmt: skip
