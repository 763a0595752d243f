"""A small shop's ledger in which every kind of thing has happened, told through the verbs themselves."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import basket, events, ledger, programs, purchases, redemptions, rules, tiers
from crm.loyalty.events import Happened
from crm.loyalty.ledger import Award
from crm.loyalty.purchases import Bought

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
PER_1000 = {
    "name": "Base", "kind": "per_amount", "status": "active", "points": 1, "per": "1000", "factor": "1",
    "over_max": "trim", "stackable": True, "priority": 0, "applies_to": "amount",
}  # fmt: skip
PER_REVIEW = {"name": "Review", "kind": "per_event", "event": "review", "points": 3}


@dataclass(frozen=True, slots=True)
class Story:
    """`sari` has seen everything, `budi` has one award, `ayu` an account without points."""

    program_id: UUID
    sari: UUID
    budi: UUID
    ayu: UUID
    ends_at: datetime


async def tell(session: Session) -> Story:
    """Make the shop and let it happen."""
    program = await programs.create(
        session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=None, settings={}, now=NOON
    )
    await rules.create(session, program_id=program.id, definition=PER_1000, now=NOON)
    await rules.create(session, program_id=program.id, definition=PER_REVIEW, now=NOON)
    await tiers.create(session, program_id=program.id, name="Gold", threshold=100, benefits={}, now=NOON)
    story = Story(program.id, uuid7(), uuid7(), uuid7(), NOON + 40 * DAY)
    for contact_id, name in ((story.sari, "Sari"), (story.budi, "Budi"), (story.ayu, "Ayu")):
        await session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, $2, $3, $3)", contact_id, name, NOON
        )

    await award(session, story, 100, now=NOON, expires_at=NOON + 30 * DAY)
    await award(session, story, 40, now=NOON, activates_at=NOON + 10 * DAY, expires_at=NOON + 35 * DAY)
    await award(session, story, 7, now=NOON, contact_id=story.budi)
    await buy(session, story, "INV-1", "50000", now=NOON + DAY)
    await buy(session, story, "INV-2", "1", now=NOON + DAY)
    spent = await redeem(session, story, 120, "R-1", now=NOON + 2 * DAY)
    await reverse(session, story, spent, now=NOON + 3 * DAY)
    await redeem(session, story, 20, None, now=NOON + 4 * DAY)
    await adjust(session, story, 5, now=NOON + 5 * DAY)
    await adjust(session, story, -200, now=NOON + 11 * DAY)  # after the activation, into a deficit
    await award(session, story, 90, now=NOON + 12 * DAY)  # which this fills
    await award(session, story, 30, now=NOON + 13 * DAY, expires_at=NOON + 20 * DAY)
    late = await redeem(session, story, 10, "R-2", now=NOON + 13 * DAY)
    await award(session, story, 25, now=NOON + 14 * DAY, activates_at=story.ends_at + 10 * DAY)
    await award(session, story, 1, now=story.ends_at)  # after the expiry
    await reverse(session, story, late, now=story.ends_at)  # of points that have expired
    await buy(session, story, "INV-3", "1", now=story.ends_at, contact_id=story.ayu)
    await happen(session, story, "review", "review-1", now=story.ends_at)
    await happen(session, story, "visit", "visit-1", now=story.ends_at)  # which earns nothing
    return story


async def award(
    session: Session,
    story: Story,
    points: int,
    *,
    now: datetime,
    contact_id: UUID | None = None,
    expires_at: datetime | None = None,
    activates_at: datetime | None = None,
) -> UUID:
    """Give points to Sari, or to somebody else; the transaction's id."""
    given = Award(contact_id or story.sari, points, "goodwill", expires_at=expires_at, activates_at=activates_at)
    posted = await ledger.award(session, program_id=story.program_id, award=given, by="till", once=None, now=now)
    return posted.transaction_id


async def buy(
    session: Session, story: Story, order_ref: str, total: str, *, now: datetime, contact_id: UUID | None = None
) -> None:
    """Record a purchase of Sari's, or of somebody else's."""
    bought = basket.Purchase(order_ref=order_ref, occurred_at=now, currency="IDR", total=Decimal(total))
    await purchases.record(
        session, program_id=story.program_id, bought=Bought(contact_id or story.sari, bought), by="till", once=None,
        now=now,
    )  # fmt: skip


async def happen(session: Session, story: Story, event: str, ref: str, *, now: datetime) -> None:
    """Record an event of Sari's."""
    await events.record(
        session, program_id=story.program_id, happened=Happened(story.sari, event, ref), by="web", once=None, now=now
    )


async def redeem(session: Session, story: Story, points: int, order_ref: str | None, *, now: datetime) -> UUID:
    """Let Sari pay with points; the redemption's id."""
    redemption, _ = await redemptions.redeem(
        session, program_id=story.program_id, contact_id=story.sari, points=points, order_ref=order_ref, place={},
        by="till", once=None, now=now,
    )  # fmt: skip
    return redemption.id


async def reverse(session: Session, story: Story, redemption_id: UUID, *, now: datetime) -> None:
    """Give Sari back what a redemption took."""
    await redemptions.reverse(
        session, contact_id=story.sari, redemption_id=redemption_id, reason=None, by="till", once=None, now=now
    )


async def adjust(session: Session, story: Story, points: int, *, now: datetime) -> None:
    """Correct Sari's balance, below zero if need be."""
    await ledger.adjust(
        session, program_id=story.program_id, contact_id=story.sari, points=points, reason="correction", note=None,
        allow_negative=True, qualifying=False, by="manager", once=None, now=now,
    )  # fmt: skip
