"""What orders decide about referrals: the first one that is large enough rewards both sides, a refund may undo that.

It is part of the post that records the order or the refund: both accounts are under its lock, all is in its write.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Integer, Numeric, Table, Text, Uuid

from crm.contacts import sameness
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Update
from crm.interactions import timeline
from crm.loyalty import bonuses, homes, journal, rows
from crm.loyalty.basket import Purchase
from crm.loyalty.books import ERASED, MERGED, Book, PointsOutOfRange
from crm.loyalty.expiry import Activation
from crm.loyalty.journal import Locked
from crm.loyalty.refunding import Returned
from crm.loyalty.rows import Referred

referrals = Table(
    "referrals",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("role", Text, nullable=False),
    Column("other_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("points", BigInteger, nullable=False),
    Column("other_points", BigInteger, nullable=False),
    Column("min_spend", Numeric, nullable=False),
    Column("hold_days", Integer, nullable=False),
    Column("order_ref", Text),
    Column("transaction_id", Uuid),
    Column("points_taken_back", BigInteger, nullable=False),
    Column("reversal_id", Uuid),
    Column("counted_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("qualified_at", Instant),
    Column("activates_at", Instant),
    Column("ended_at", Instant),
    Column("by", Text, nullable=False),
)

CAUSE: Final = "referral"
_DECIDED: Final = (
    "contact_id", "id", "status", "reason", "order_ref", "transaction_id", "qualified_at", "activates_at", "ended_at",
)  # fmt: skip
_UNDONE: Final = (
    "contact_id", "id", "status", "reason", "points_taken_back", "reversal_id", "counted_at", "ended_at",
)  # fmt: skip
_SIDES: Final = """
    SELECT contact_id, role, points, transaction_id FROM referrals
    WHERE contact_id = ANY ($1) AND id = $2 AND status = 'qualified' ORDER BY contact_id
"""
# In the form of `lock_accounts`, for those who lock nothing.
_OPEN: Final = """
    SELECT jsonb_agg(jsonb_build_array(
        contact_id, id, other_id, status, points, other_points, min_spend::text, hold_days, order_ref))
    FROM referrals WHERE contact_id = $1 AND program_id = $2 AND role = 'referee' AND status = 'pending'
"""
_IDENTITIES: Final = (
    "SELECT contact_id, kind, value FROM contact_identities WHERE contact_id = ANY ($1) AND kind = ANY ($2)"
)


@dataclass(slots=True)
class Friends:
    """The referrals about which one post decides, and what is to be written of that.

    `same` are friends who have turned out to be who referred them.
    """

    locked: Locked
    by: str
    same: frozenset[UUID] = frozenset()
    decided: list[tuple[Any, ...]] = field(default_factory=list)
    undone: list[tuple[Any, ...]] = field(default_factory=list)
    entries: list[tuple[Any, ...]] = field(default_factory=list)

    def welcome(self, contact_id: UUID, basis: Decimal) -> int:
        """How many points an order that came to `basis` brings the member for having been referred."""
        referral = self._open(contact_id, basis)
        return 0 if referral is None or contact_id in self.same else referral.points

    def qualify(self, book: Book, purchase: Purchase, basis: Decimal) -> None:
        """Let a member's order decide about their referral, if it is large enough: both sides are credited.

        The points are pending until the start of the local day `hold_days` after the order.
        """
        referral = self._open(book.contact_id, basis)
        if referral is None:
            return
        referral.order_ref = purchase.order_ref
        if book.contact_id in self.same:
            referral.status = "refused"
            for contact_id in (referral.contact_id, referral.other_id):
                self._refuse(referral, contact_id, "same_person", purchase.occurred_at)
            return
        referral.status = "qualified"
        self._reward(referral, book, referral.points, purchase.occurred_at)
        other = self.locked.books.get(referral.other_id)
        if other is None:  # in a simulation, where nobody else's account is read
            return
        if (reason := _obstacle(other, referral.other_points)) is not None:
            self._refuse(referral, other.contact_id, reason, purchase.occurred_at)
            return
        self._reward(referral, other, referral.other_points, purchase.occurred_at)
        other.settle()

    async def undo(self, session: Session, returned: Returned) -> None:
        """Take both sides' points back where a refund leaves too little of the order that decided. Needs all open lots.

        Those of the other side's account are read here.
        """
        referral = next((each for each in self.locked.referrals.values() if each.status == "qualified"), None)
        if referral is None or referral.order_ref != returned.order_ref:
            return
        if not returned.undone.complete and returned.remains >= Fraction(referral.min_spend):
            return
        sides = await session.fetch(_SIDES, [referral.contact_id, referral.other_id], referral.id)
        other = self.locked.book(referral.other_id, also={MERGED, ERASED})
        await journal.know_all_lots(session, books=[other])
        await homes.know(session, locked=self.locked, book=other, by=self.by)
        for side in sides:
            back = bonuses.NOTHING
            if side["transaction_id"] is not None:
                book = self.locked.book(side["contact_id"], also={MERGED, ERASED})
                back = await bonuses.take_back(
                    session, book=book, program=self.locked.program,
                    transaction_id=side["transaction_id"], points=side["points"], cause=CAUSE,
                    occurred_at=returned.occurred_at, by=self.by,
                )  # fmt: skip
            self.undone.append((
                side["contact_id"], referral.id, "reversed", "refunded", back.points, back.transaction_id,
                back.counted_at, returned.occurred_at,
            ))  # fmt: skip
            self._tell(
                referral, side["contact_id"], "referral.reversed", returned.occurred_at, points_taken_back=back.points,
                points_written_off=side["points"] - back.points, transaction_id=back.transaction_id,
            )  # fmt: skip

    def facts(self) -> list[Update]:
        """The parts of the post's write."""
        return [Update(referrals, _DECIDED, self.decided, 2), Update(referrals, _UNDONE, self.undone, 2)]

    def _open(self, contact_id: UUID, basis: Decimal) -> Referred | None:
        referral = self.locked.referrals.get(contact_id)
        if referral is None or referral.status != "pending" or basis < referral.min_spend:
            return None
        return referral

    def _reward(self, referral: Referred, book: Book, points: int, at: datetime) -> None:
        program, transaction_id = self.locked.program, None
        activates_at = Activation(days=referral.hold_days).activates_at(at, program.terms.zone)
        if points:
            transaction_id = bonuses.give(
                book, program, points, cause=CAUSE, occurred_at=at, activates_at=activates_at, by=self.by
            ).id
        self.decided.append((
            book.contact_id, referral.id, "qualified", None, referral.order_ref, transaction_id, at, activates_at, None,
        ))  # fmt: skip
        self._tell(
            referral, book.contact_id, "referral.qualified", at, points=points, activates_at=activates_at,
            transaction_id=transaction_id,
        )  # fmt: skip

    def _refuse(self, referral: Referred, contact_id: UUID, reason: str, at: datetime) -> None:
        self.decided.append((
            contact_id, referral.id, "refused", reason, referral.order_ref, None, None, None, self.locked.now,
        ))  # fmt: skip
        self._tell(referral, contact_id, "referral.refused", at, reason=reason)

    def _tell(self, referral: Referred, contact_id: UUID, kind: str, at: datetime, **data: Any) -> None:
        role = "referee" if contact_id == referral.contact_id else "referrer"
        about = {"order_ref": referral.order_ref} if role == "referee" else {}
        self.entries.append(
            timeline.entry(
                contact_id, channel="loyalty", kind=kind, occurred_at=at, recorded_at=self.locked.now, by=self.by,
                data={
                    "program_id": self.locked.program.id, "referral_id": referral.id, "role": role, **about,
                    **{name: value for name, value in data.items() if value is not None},
                },
            )
        )  # fmt: skip


async def imagine(session: Session, *, program_id: UUID, contact_id: UUID) -> dict[UUID, Referred]:
    """The open referral that a lock would find of this contact, by the contact. Nothing is locked."""
    return rows.referrals_of(await session.fetchval(_OPEN, contact_id, program_id))


async def friends(session: Session, *, locked: Locked, by: str) -> Friends:
    """The referrals about which a post may decide: one query where there are open ones, or none."""
    pairs = [(each.contact_id, each.other_id) for each in locked.referrals.values() if each.status == "pending"]
    return Friends(locked, by, frozenset(await same_people(session, pairs=pairs)))


async def same_people(session: Session, *, pairs: Sequence[tuple[UUID, UUID]]) -> list[UUID]:
    """The first of each pair of contacts who are one person by what reaches them."""
    if not pairs:
        return []
    found = await session.fetch(_IDENTITIES, list({one for pair in pairs for one in pair}), list(sameness.KINDS))
    known: dict[UUID, list[tuple[str, str]]] = {}
    for contact_id, kind, value in found:
        known.setdefault(contact_id, []).append((kind, value))
    reached = {contact_id: sameness.reached(identities) for contact_id, identities in known.items()}
    nothing: frozenset[str] = frozenset()
    return [one for one, other in pairs if reached.get(one, nothing) & reached.get(other, nothing)]


def _obstacle(book: Book, points: int) -> str | None:
    """What keeps a bonus of so many points from somebody who may not even know of the order."""
    if book.status != "active":
        return "membership_suspended"
    try:
        book.ensure_room(points)
    except PointsOutOfRange as refusal:
        return refusal.code
    return None
