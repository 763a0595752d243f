"""A till and one member, told through the verbs themselves: each call says what time it is."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import (
    balances,
    events,
    holds,
    ledger,
    programs,
    purchases,
    redemptions,
    refunds,
    rules,
    terms,
    transfers,
)
from crm.loyalty.balances import Loyalty
from crm.loyalty.basket import Purchase
from crm.loyalty.events import Happened
from crm.loyalty.ledger import Award
from crm.loyalty.purchases import Bought
from crm.loyalty.refunding import Refund
from crm.loyalty.tiers import TierPolicy
from tests.loyalty.story import PER_1000

JAKARTA = ZoneInfo("Asia/Jakarta")
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
OPENED = "2026-01-01"
Moment: TypeAlias = str | datetime
"""An instant, or a local time in text; a local day alone is its noon."""


def at(moment: Moment) -> datetime:
    if isinstance(moment, datetime):
        return moment
    return (
        datetime.fromisoformat(moment if len(moment) > 10 else f"{moment} 12:00")
        .replace(tzinfo=JAKARTA)
        .astimezone(UTC)
    )


def last_day(expires_at: datetime | None) -> str | None:
    """The local day on which points with this end can be spent for the last time."""
    return None if expires_at is None else str((expires_at - INSTANT).astimezone(JAKARTA).date())


@dataclass(slots=True)
class Till:
    """Where one member buys, of a program with a point for each 1,000."""

    session: Session
    program_id: UUID
    member: UUID

    @classmethod
    async def open(cls, session: Session, **settings: Any) -> "Till":
        now = at(OPENED)
        program = await programs.create(
            session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=None, settings=settings, now=now
        )
        await rules.create(session, program_id=program.id, definition=PER_1000, now=now)
        return await cls(session, program.id, uuid7()).for_somebody_else()

    async def for_somebody_else(self) -> "Till":
        """The same program's till, for a new member."""
        contact_id = uuid7()
        await self.session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', $2, $2)",
            contact_id, at(OPENED),
        )  # fmt: skip
        return replace(self, member=contact_id)

    async def tiers(self, policy: TierPolicy, **thresholds: int) -> None:
        await programs.set_tier_policy(self.session, program_id=self.program_id, policy=policy, now=at(OPENED))
        for name, threshold in thresholds.items():
            await programs.add_tier(
                self.session, program_id=self.program_id, name=name, threshold=threshold, benefits={}, now=at(OPENED)
            )

    # ------------------------------------------------------------ what happens

    async def award(self, points: int, when: Moment, *, told: Moment | None = None, **facts: Any) -> None:
        award = Award(self.member, points, "goodwill", occurred_at=at(when), **facts)
        await ledger.award(
            self.session, program_id=self.program_id, award=award, by="t", once=None, now=at(told or when)
        )

    async def buy(self, points: int, when: Moment, *, told: Moment | None = None) -> str:
        """A purchase that earns so many points, as far as the tier adds none; its reference."""
        order_ref = f"INV-{uuid7()}"
        bought = Purchase(order_ref=order_ref, occurred_at=at(when), currency="IDR", total=Decimal(points * 1000))
        await purchases.record(
            self.session, program_id=self.program_id, bought=Bought(self.member, bought), by="t", once=None,
            now=at(told or when),
        )  # fmt: skip
        return order_ref

    async def refund(self, order_ref: str, points: int, when: Moment, *, told: Moment | None = None) -> None:
        """Give back the money that earned so many points."""
        await refunds.record(
            self.session, program_id=self.program_id, contact_id=self.member, order_ref=order_ref,
            refund_ref=f"CN-{uuid7()}", refund=Refund(amount=Decimal(points * 1000)), occurred_at=at(when), by="t",
            once=None, now=at(told or when),
        )  # fmt: skip

    async def happen(self, event: str, when: Moment, *, order_ref: str | None = None) -> None:
        happened = Happened(self.member, event, str(uuid7()), at(when), order_ref)
        await events.record(
            self.session, program_id=self.program_id, happened=happened, by="t", once=None, now=at(when)
        )

    async def adjust(self, points: int, when: Moment, *, qualifying: bool = False) -> None:
        await ledger.adjust(
            self.session, program_id=self.program_id, contact_id=self.member, points=points, reason="fix", note=None,
            allow_negative=True, qualifying=qualifying, by="t", once=None, now=at(when),
        )  # fmt: skip

    async def redeem(self, points: int, when: Moment) -> UUID:
        redemption, _ = await redemptions.redeem(
            self.session, program_id=self.program_id, contact_id=self.member, points=points, order_ref=None, place={},
            by="t", once=None, now=at(when),
        )  # fmt: skip
        return redemption.id

    async def reverse(self, redemption_id: UUID, when: Moment) -> None:
        await redemptions.reverse(
            self.session, contact_id=self.member, redemption_id=redemption_id, reason=None, by="t", once=None,
            now=at(when),
        )  # fmt: skip

    async def hold(self, points: int, when: Moment, *, expires_in: timedelta) -> UUID:
        held = await holds.create(
            self.session, program_id=self.program_id, contact_id=self.member, points=points, expires_in=expires_in,
            reference=None, place={}, by="t", once=None, now=at(when),
        )  # fmt: skip
        return held.id

    async def capture(self, hold_id: UUID, points: int, when: Moment) -> None:
        await holds.capture(
            self.session, contact_id=self.member, hold_id=hold_id, points=points, by="t", once=None, now=at(when)
        )

    async def release(self, hold_id: UUID, when: Moment) -> None:
        await holds.release(self.session, contact_id=self.member, hold_id=hold_id, by="t", now=at(when))

    async def transfer(self, points: int, other: "Till", when: Moment) -> None:
        await transfers.transfer(
            self.session, program_id=self.program_id, contact_id=self.member, to_contact_id=other.member,
            points=points, note=None, by="t", once=None, now=at(when),
        )  # fmt: skip

    async def change(self, when: Moment, *, applies_to_all: bool = False, **settings: Any) -> None:
        await terms.change(
            self.session, program_id=self.program_id, version=None, changes={"settings": settings},
            applies_to_all=applies_to_all, now=at(when),
        )  # fmt: skip

    # ------------------------------------------------------------ what is seen

    async def seen(self, when: Moment, *, as_of: Moment | None = None) -> Loyalty:
        return await balances.read(
            self.session, program_id=self.program_id, contact_id=self.member, now=at(when),
            as_of=None if as_of is None else at(as_of),
        )  # fmt: skip

    async def purse(self, when: Moment) -> tuple[int, int]:
        """Available and pending."""
        seen = await self.seen(when)
        return seen.available, seen.pending

    async def last_days(self) -> list[tuple[int, str | None]]:
        """Of each open lot how many points it has and the last day of its end, in the order they were made."""
        rows = await self.session.fetch(
            "SELECT remaining + held AS points, expires_at FROM points_lots WHERE contact_id = $1 AND program_id = $2"
            " AND remaining + held > 0 ORDER BY id",
            self.member, self.program_id,
        )  # fmt: skip
        return [(row["points"], last_day(row["expires_at"])) for row in rows]

    async def changes(self) -> list[tuple[str | None, str | None, str]]:
        """The ends that were moved: the last days before and after, and why."""
        rows = await self.session.fetch(
            "SELECT * FROM points_lot_changes WHERE contact_id = $1 ORDER BY lot_id, occurred_at", self.member
        )
        return [(last_day(row["expires_before"]), last_day(row["expires_after"]), row["reason"]) for row in rows]

    async def due_at(self) -> datetime | None:
        found: datetime | None = await self.session.fetchval(
            "SELECT next_due_at FROM loyalty_accounts WHERE contact_id = $1 AND program_id = $2",
            self.member, self.program_id,
        )  # fmt: skip
        return found
