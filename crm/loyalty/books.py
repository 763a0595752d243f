"""Double entry for points: what a post does to one account, worked out in memory on the locked account.

Pure: no clock, no database. `journal` fills a `Book` from the locked rows and writes down what the plan added to it.
Every change is a movement of points of one lot from one bucket to another, so the books balance by construction.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from heapq import heapify, heappop, heappush
from struct import Struct
from typing import Any, Final
from uuid import UUID

from crm.db.ids import uuid7
from crm.errors import Conflict, Invalid
from crm.loyalty.tiers import Basis, Tier, standing

BUCKETS: Final = ("issued", "pending", "available", "held", "redeemed", "expired", "revoked", "transferred")
KINDS: Final = (
    "earn", "redeem", "hold", "capture", "release", "adjust", "expire", "activate", "transfer", "reverse",
)  # fmt: skip
POINTS_MAX: Final = 2**53 - 1
"""The largest balance and the largest post: what a JSON reader with doubles still reads exactly."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = Struct(">qqqqqqq").pack


class InsufficientPoints(Conflict):
    code = "insufficient_points"
    title = "There are not enough points"


class PointsOutOfRange(Invalid):
    code = "points_out_of_range"
    title = "The balance would leave the range that every client can read"


@dataclass(slots=True)
class Lot:
    """Points earned together. `remaining` is pending until the lot is active, then available."""

    id: UUID
    amount: int
    remaining: int
    held: int
    active: bool
    qualifying: bool
    earned_at: datetime
    activates_at: datetime | None
    expires_at: datetime | None
    order_ref: str | None
    kind: str = "regular"

    @property
    def due_at(self) -> datetime | None:
        """When time alone changes this lot next."""
        if self.remaining <= 0:
            return None
        if self.active or self.activates_at is None:
            return self.expires_at
        return self.activates_at if self.expires_at is None else min(self.activates_at, self.expires_at)


@dataclass(slots=True)
class Movement:
    """One row of the ledger; the balances are the account's after it."""

    seq: int
    transaction_id: UUID
    lot_id: UUID
    from_bucket: str
    to_bucket: str
    points: int
    available_after: int
    pending_after: int
    held_after: int
    occurred_at: datetime
    digest: bytes


@dataclass(slots=True)
class Transaction:
    """One business fact. `points` is signed as the member sees it; its movements are `first_seq` to `seq`."""

    id: UUID
    kind: str
    cause: str
    points: int
    occurred_at: datetime
    by: str
    reason: str | None = None
    note: str | None = None
    order_ref: str | None = None
    reverses: UUID | None = None
    rules: Sequence[Any] | None = None
    place: dict[str, str] = field(default_factory=dict)
    first_seq: int = 0
    seq: int = 0
    available_after: int = 0


@dataclass(frozen=True, slots=True)
class TierChange:
    """From one tier to another, by name; None is below the lowest."""

    before: str | None
    after: str | None
    occurred_at: datetime


@dataclass(slots=True)
class Book:
    """One account during a post: balances, the lots that are known, and what has been added so far."""

    contact_id: UUID
    program_id: UUID
    now: datetime
    available: int = 0
    pending: int = 0
    held: int = 0
    deficit: int = 0
    deficit_lot_id: UUID | None = None
    lifetime_earned: int = 0
    lifetime_redeemed: int = 0
    qualifying_points: int = 0
    qualifying_spend: Decimal = Decimal(0)
    qualifying_visits: int = 0
    tier_id: UUID | None = None
    tier_since: datetime | None = None
    seq: int = 0
    digest: bytes = b""
    next_due_at: datetime | None = None
    expiring: dict[datetime, int] = field(default_factory=dict)
    lots: dict[UUID, Lot] = field(default_factory=dict)
    unseen_due_at: datetime | None = None
    """The soonest due instant among the open lots that are not in `lots`; never past, or they would be there."""
    new_lot_ids: set[UUID] = field(default_factory=set)
    changed_lot_ids: set[UUID] = field(default_factory=set)
    transactions: list[Transaction] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    counted: bool = False
    """Whether the qualifying counters changed, with or without a movement."""
    tier_changes: list[TierChange] = field(default_factory=list)

    # ------------------------------------------------------------------ business facts

    def open(self, kind: str, *, cause: str, points: int, occurred_at: datetime, by: str, **facts: Any) -> Transaction:
        """Begin a transaction; the movements that follow belong to it until the next one begins."""
        transaction = Transaction(uuid7(), kind, cause, points, occurred_at, by, **facts)
        self.transactions.append(transaction)
        return transaction

    def qualify(self, *, points: int = 0, spend: Decimal = Decimal(0), visits: int = 0) -> None:
        """Count towards the tiers."""
        self.qualifying_points += points
        self.qualifying_spend += spend
        self.qualifying_visits += visits
        self.counted = True

    def stand(self, tiers: Sequence[Tier], basis: Basis) -> None:
        """Note a tier that the post reached or lost, as of its newest fact."""
        current = standing(tiers, self.progress(basis))
        current_id = current.id if current else None
        if current_id == self.tier_id:
            return
        before = next((tier.name for tier in tiers if tier.id == self.tier_id), None)
        occurred_at = self.transactions[-1].occurred_at if self.transactions else self.now
        self.tier_changes.append(TierChange(before, current.name if current else None, occurred_at))
        self.tier_id, self.tier_since = current_id, occurred_at if current else None

    def progress(self, basis: Basis) -> Decimal | int:
        """What counts towards tiers on that basis."""
        match basis:
            case "points":
                return self.qualifying_points
            case "spend":
                return self.qualifying_spend
            case "visits":
                return self.qualifying_visits

    def ensure_room(self, points: int) -> None:
        """Raises PointsOutOfRange before anything is planned, so that a batch can leave the post out."""
        most = max(self.available, 0) + self.pending + self.held + points
        if most > POINTS_MAX or self.available + points < -POINTS_MAX:
            raise PointsOutOfRange(f"A balance can hold at most {POINTS_MAX} points, and owe no more than that.")

    def credit(
        self,
        points: int,
        *,
        activates_at: datetime | None = None,
        expires_at: datetime | None = None,
        qualifying: bool = True,
    ) -> Lot:
        """Issue points as a new lot of the current transaction; once available they fill a deficit first.

        A lot that is already dead at `now` is accepted, and the next `settle` writes it off: it is never spendable and
        fills no deficit.
        """
        transaction = self.transactions[-1]
        active = activates_at is None or activates_at <= self.now
        lot = Lot(
            uuid7(), points, 0, 0, active, qualifying, transaction.occurred_at,
            activates_at, expires_at, transaction.order_ref,
        )  # fmt: skip
        self.lots[lot.id] = lot
        self.new_lot_ids.add(lot.id)
        self._move(lot, "issued", "available" if active else "pending", points)
        if active:
            if qualifying:
                self.qualify(points=points)
            if expires_at is None or expires_at > self.now:
                self._became_available(lot, points)
        self._note_due(lot)
        return lot

    def spend(self, points: int, to_bucket: str, *, except_order: str | None = None) -> None:
        """Take available points, soonest expiry first, never-expiring last, then the oldest.

        Points that the order `except_order` earned can't be spent on it. Raises InsufficientPoints.
        """
        missing = points
        for lot in self.spendable(except_order=except_order):
            if missing == 0:
                break
            taken = min(lot.remaining, missing)
            self._move(lot, "available", to_bucket, taken)
            missing -= taken
        if missing:
            raise self.insufficient(points, available=points - missing)

    def spendable(self, *, except_order: str | None = None) -> list[Lot]:
        """The known lots that can be spent now, in the order of spending."""
        never = datetime.max.replace(tzinfo=UTC)
        lots = [
            lot
            for lot in self.lots.values()
            if lot.active and lot.remaining > 0 and (except_order is None or lot.order_ref != except_order)
        ]
        return sorted(lots, key=lambda lot: (lot.expires_at or never, lot.earned_at, lot.id))

    def overdraw(self, points: int, to_bucket: str) -> None:
        """Take more than there is: first what is available, the rest as a deficit that later credits fill."""
        covered = min(points, max(self.available, 0))
        if covered:
            self.spend(covered, to_bucket)
        if points > covered:
            self._move(self._deficit_lot(), "available", to_bucket, points - covered)

    def give_back(self, lot: Lot, points: int, from_bucket: str) -> bool:
        """Return spent points to their own lot; False where the lot has expired meanwhile, and they with it."""
        lot = self.lots.setdefault(lot.id, lot)
        alive = lot.expires_at is None or lot.expires_at > self.now
        self._move(lot, from_bucket, "available" if alive else "expired", points)
        if alive:
            self._became_available(lot, points)
            self._note_due(lot)
        return alive

    def settle(self) -> None:
        """Write down what time alone has done up to `now`: activations and expiries, each at its own instant."""
        if self.next_due_at is None or self.next_due_at > self.now:
            return
        due = [(at, lot.id) for lot in self.lots.values() if (at := lot.due_at) is not None and at <= self.now]
        heapify(due)
        while due:
            at, lot_id = heappop(due)
            lot = self.lots[lot_id]
            if lot.expires_at is not None and lot.expires_at <= at:
                self.open("expire", cause="time", points=-lot.remaining, occurred_at=at, by="system")
                self._move(lot, "available" if lot.active else "pending", "expired", lot.remaining)
                continue
            points = lot.remaining
            self.open("activate", cause="time", points=points, occurred_at=at, by="system")
            self._move(lot, "pending", "available", points)
            lot.active = True
            if lot.qualifying:
                self.qualify(points=points)
            self._became_available(lot, points)
            if (expiry := lot.due_at) is not None and expiry <= self.now:
                heappush(due, (expiry, lot_id))
        left = [at for lot in self.lots.values() if (at := lot.due_at) is not None]
        self.next_due_at = min([*left, *([self.unseen_due_at] if self.unseen_due_at else [])], default=None)

    def insufficient(self, required: int, *, available: int) -> InsufficientPoints:
        """The refusal, with the numbers a till shows to the customer."""
        missing = required - available
        return InsufficientPoints(
            f"{required} points are needed and {available} can be spent; {missing} are missing.",
            required=required, available=available, missing=missing,
        )  # fmt: skip

    # ------------------------------------------------------------------ movements

    def _move(self, lot: Lot, source: str, target: str, points: int) -> None:
        transaction = self.transactions[-1]
        expiring_before = lot.remaining
        for bucket, change in ((source, -points), (target, points)):
            if bucket == "available":
                self.available += change
                lot.remaining += change
            elif bucket == "pending":
                self.pending += change
                lot.remaining += change
            elif bucket == "held":
                self.held += change
                lot.held += change
        if lot.kind == "deficit":
            self.deficit = -lot.remaining
        elif lot.expires_at is not None and lot.remaining != expiring_before:
            left = self.expiring.get(lot.expires_at, 0) + lot.remaining - expiring_before
            if left:
                self.expiring[lot.expires_at] = left
            else:
                self.expiring.pop(lot.expires_at, None)
        self.changed_lot_ids.add(lot.id)
        self.seq += 1
        movement = Movement(
            self.seq, transaction.id, lot.id, source, target, points,
            self.available, self.pending, self.held, transaction.occurred_at, b"",
        )  # fmt: skip
        self.digest = movement.digest = chain(
            self.digest, contact_id=self.contact_id, program_id=self.program_id, movement=movement, recorded_at=self.now
        )
        self.movements.append(movement)
        transaction.first_seq = transaction.first_seq or self.seq
        transaction.seq = self.seq
        transaction.available_after = self.available

    def _became_available(self, lot: Lot, points: int) -> None:
        absorbed = min(points, self.deficit)
        if absorbed:
            self._move(lot, "available", "transferred", absorbed)
            self._move(self._deficit_lot(), "transferred", "available", absorbed)

    def _deficit_lot(self) -> Lot:
        if self.deficit_lot_id is None:
            self.deficit_lot_id = uuid7()
            self.new_lot_ids.add(self.deficit_lot_id)
        if self.deficit_lot_id not in self.lots:
            self.lots[self.deficit_lot_id] = Lot(
                self.deficit_lot_id, 0, -self.deficit, 0, True, False, self.now, None, None, None, "deficit"
            )
        return self.lots[self.deficit_lot_id]

    def _note_due(self, lot: Lot) -> None:
        due_at = lot.due_at
        if due_at is not None and (self.next_due_at is None or due_at < self.next_due_at):
            self.next_due_at = due_at


def chain(previous: bytes, *, contact_id: UUID, program_id: UUID, movement: Movement, recorded_at: datetime) -> bytes:
    """SHA-256 over the digest before and this movement's ids, buckets, numbers and times; never over text of people.

    `verify` recomputes the same bytes in SQL: ids as 16 bytes, numbers and microseconds since 1970 as big-endian int64.
    """
    return hashlib.sha256(
        b"".join((
            previous,
            contact_id.bytes, program_id.bytes, movement.transaction_id.bytes, movement.lot_id.bytes,
            f"{movement.from_bucket}>{movement.to_bucket}".encode(),
            _NUMBERS(
                movement.seq, movement.points,
                movement.available_after, movement.pending_after, movement.held_after,
                (movement.occurred_at - _EPOCH) // _MICROSECOND, (recorded_at - _EPOCH) // _MICROSECOND,
            ),
        ))
    ).digest()  # fmt: skip
