"""Double entry for points: what a post does to one account, worked out in memory on the locked account.

Pure: no clock, no database. `journal` fills a `Book` from the locked rows and writes down what the plan added to it.
Every change is a movement of points of one lot from one bucket to another, so the books balance by construction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from heapq import heapify, heappop, heappush
from typing import Any, Final
from uuid import UUID

from crm.db.ids import uuid7
from crm.errors import Conflict, Invalid
from crm.loyalty.expiry import Expiry, local_day
from crm.loyalty.ladders import NOTHING_COUNTED, Counted, Ladder, Pin, Standing, Tier
from crm.loyalty.limits import Used
from crm.loyalty.lots import Hold, HoldChange, Lot, LotChange, Phase, due_of
from crm.loyalty.movements import Movement, Transaction, chain

MERGED: Final = "merged"
"""The status of an account whose contact was merged into another, and its points with it."""
ERASED: Final = "erased"
"""The status of an account whose contact was forgotten."""
POINTS_MAX: Final = 2**53 - 1
"""The largest balance and the largest post: what a JSON reader with doubles still reads exactly."""


class InsufficientPoints(Conflict):
    code = "insufficient_points"
    title = "There are not enough points"


class PointsOutOfRange(Invalid):
    code = "points_out_of_range"
    title = "The balance would leave the range that every client can read"


_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TierChange:
    """From one tier, won at `won_at`, to another; None is below the lowest. From a tier to itself it is renewed."""

    before: Tier | None
    after: Tier | None
    occurred_at: datetime
    won_at: datetime | None

    @property
    def renewed(self) -> bool:
        """Whether the tier was kept where it could have been lost."""
        return self.before is not None and self.before == self.after

    @property
    def lower(self) -> bool:
        """Whether the member has fallen."""
        return self.before is not None and (self.after is None or self.after.threshold < self.before.threshold)


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
    tier_until: datetime | None = None
    pin: Pin | None = None
    status: str = "active"
    enrolled_at: datetime | None = None
    ladder: Ladder = field(default_factory=Ladder)
    milestones: Sequence[int] = ()
    seq: int = 0
    digest: bytes = b""
    next_due_at: datetime | None = None
    expiring: dict[datetime, int] = field(default_factory=dict)
    lots: dict[UUID, Lot] = field(default_factory=dict)
    unseen_due_at: datetime | None = None
    """The soonest due instant among the open lots that are not in `lots`; never past, or they would be there."""
    holds: dict[UUID, Hold] = field(default_factory=dict)
    """All open ones where something is due; otherwise none is known here."""
    days: dict[date, Counted] = field(default_factory=dict)
    """What counted towards the tiers on each local day, where the ladder needs to know."""
    usages: dict[tuple[UUID, str], Used] = field(default_factory=dict)
    """What the member has had from rules, by rule and period."""
    new_lot_ids: set[UUID] = field(default_factory=set)
    changed_lot_ids: set[UUID] = field(default_factory=set)
    transactions: list[Transaction] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    counted: dict[date, Counted] = field(default_factory=dict)
    """What this post adds to `days`, with or without a movement."""
    used: dict[tuple[UUID, str], Used] = field(default_factory=dict)
    """What this post adds to `usages`."""
    lot_changes: list[LotChange] = field(default_factory=list)
    hold_changes: list[HoldChange] = field(default_factory=list)
    tier_changes: list[TierChange] = field(default_factory=list)
    milestones_reached: list[int] = field(default_factory=list)
    touched: bool = False
    """Whether the account changed in another way than by what stands above."""
    home: "Book | None" = None
    """Of a merged account, the survivor's, once it is known."""
    lend: Callable[[int, Callable[[Lot], bool], str], None] | None = None
    """Brings from there what `take_back` may take."""

    @property
    def is_due(self) -> bool:
        """Whether time has done something that nobody has written down."""
        return self.next_due_at is not None and self.next_due_at <= self.now

    @property
    def changed(self) -> bool:
        """Whether there is anything to write down."""
        return bool(
            self.movements or self.counted or self.used or self.lot_changes or self.hold_changes or self.tier_changes
            or self.touched
        )  # fmt: skip

    # ------------------------------------------------------------------ business facts

    def open(
        self,
        kind: str,
        *,
        cause: str,
        points: int,
        occurred_at: datetime,
        by: str,
        transaction_id: UUID | None = None,
        **facts: Any,
    ) -> Transaction:
        """Begin a transaction; the movements that follow belong to it until the next one begins."""
        transaction = Transaction(transaction_id or uuid7(), kind, cause, points, occurred_at, by, **facts)
        self.transactions.append(transaction)
        return transaction

    def qualify(self, at: datetime, *, points: int = 0, spend: Decimal = Decimal(0), visits: int = 0) -> None:
        """Count towards the tiers, on the local day of `at`."""
        self.qualifying_points += points
        self.qualifying_spend += spend
        self.qualifying_visits += visits
        day, more = local_day(at, self.ladder.zone), Counted(points, spend, visits)
        self.counted[day] = self.counted.get(day, NOTHING_COUNTED) + more
        self.days[day] = self.days.get(day, NOTHING_COUNTED) + more

    def use(self, rule_id: UUID, period: str, *, points: int, times: int) -> None:
        """Note what a rule gave, or took back, within a period."""
        if self.home is not None:
            self.home.use(rule_id, period, points=points, times=times)
        for usages in (self.used, self.usages):
            before = usages.get((rule_id, period), Used(0, 0))
            usages[rule_id, period] = Used(before.points + points, before.times + times)

    def standing(self, at: datetime | None = None) -> Standing:
        """Where the member stands, or stood, by what is known now."""
        total = Counted(self.qualifying_points, self.qualifying_spend, self.qualifying_visits)
        return self.ladder.standing(total=total, days=self.days, at=at or self.now, pin=self.pin)

    def pin_to(self, pin: Pin | None) -> None:
        """Give a tier by hand, as a floor, in place of the one that was given before; None gives none."""
        if self.standing().pinned:
            self.tier_until = self.now
        self.pin, self.touched = pin, True
        self.stand()

    def stand(self) -> Standing:
        """Note a tier that the post, or time, has won or lost."""
        found = self.standing()
        current_id = found.current.id if found.current else None
        ended_at, self.tier_until = self.tier_until, found.until
        if current_id != self.tier_id:
            since = self._changed_at(found)
            if ended_at is not None and ended_at <= self.now and (found.since is None or found.since <= ended_at):
                since = ended_at
            self.tier_changes.append(TierChange(self.ladder.tier(self.tier_id), found.current, since, self.tier_since))
            self.tier_id, self.tier_since = current_id, since if found.current else None
        elif self._renewed(ended_at, found):
            self.tier_changes.append(
                TierChange(found.current, found.current, min(ended_at or self.now, self.now), self.tier_since)
            )
        if found.until is not None and (self.next_due_at is None or found.until < self.next_due_at):
            self.next_due_at = found.until
        return found

    def _renewed(self, ended_at: datetime | None, found: Standing) -> bool:
        if ended_at is None or found.until is None or found.until <= ended_at or self.pin is not None:
            return False
        return ended_at - timedelta(days=self.ladder.grace_days) <= self.now

    def _changed_at(self, standing: Standing) -> datetime:
        """The moment within the day on which the standing began: that of the newest fact, if it lies there."""
        occurred_at = self.transactions[-1].occurred_at if self.transactions else self.now
        if standing.since is None or standing.pinned:
            return standing.since or occurred_at
        zone = self.ladder.zone
        return occurred_at if local_day(occurred_at, zone) == local_day(standing.since, zone) else standing.since

    def earn(self, points: int) -> None:
        """Count what was earned over the whole life of the account, and the milestones that it passes."""
        before, self.lifetime_earned = self.lifetime_earned, self.lifetime_earned + points
        self.milestones_reached += [each for each in self.milestones if before < each <= self.lifetime_earned]

    def redeem(self, points: int) -> None:
        """Count what was redeemed over the whole life of the account, or given back, and where it was merged to."""
        self.lifetime_redeemed += points
        if self.home is not None:
            self.home.lifetime_redeemed += points
            self.home.touched = True

    def ensure_room(self, points: int) -> None:
        """Raises PointsOutOfRange before anything is planned, so that a batch can leave the post out."""
        most = max(self.available, 0) + self.pending + self.held + points
        if most > POINTS_MAX or self.available + points < -POINTS_MAX:
            raise PointsOutOfRange(f"A balance can hold at most {POINTS_MAX} points, and owe no more than that.")

    def credit(
        self,
        points: int,
        *,
        waits: bool = False,
        activates_at: datetime | None = None,
        cancels_at: datetime | None = None,
        expires_at: datetime | None = None,
        fixed: bool = False,
        qualifying: bool = True,
        earned_at: datetime | None = None,
        source: str = "issued",
    ) -> Lot:
        """Put points into a new lot of the current transaction; once available they fill a deficit first.

        With `waits` they are pending until an event, no longer than to `cancels_at`. A lot that is already dead at
        `now` is accepted, and the next `settle` writes it off: it is never spendable and fills no deficit.
        """
        transaction = self.transactions[-1]
        starts_at = earned_at or transaction.occurred_at
        active = not waits and (activates_at is None or activates_at <= transaction.occurred_at)
        lot = Lot(
            uuid7(), points, 0, 0, active, qualifying, starts_at, activates_at, cancels_at if waits else None,
            expires_at, fixed, transaction.order_ref if source == "issued" else None,
        )  # fmt: skip
        self.lots[lot.id] = lot
        self.new_lot_ids.add(lot.id)
        self._move(lot, source, "available" if active else "pending", points)
        if active:
            if qualifying:
                self.qualify(starts_at, points=points)
            if expires_at is None or expires_at > self.now:
                self._became_available(lot, points)
        self._note_due(lot)
        return lot

    def activate(self, lots: Iterable[Lot], at: datetime, expiry: Expiry) -> int:
        """Let waiting lots begin now that their event has happened, in the current transaction; how many points.

        What has been cancelled meanwhile stays so.
        """
        points = 0
        for lot in lots:
            if lot.active or lot.remaining <= 0:
                continue
            points += lot.remaining
            ends_at = lot.expires_at if lot.fixed else expiry.ends_at(at, self.ladder.zone)
            self._activate(lot, at, alive=ends_at is None or ends_at > self.now)
            lot.activates_at = at
            self.move_end(lot, ends_at, reason="activated", at=at, by="system")
        return points

    def slide(self, at: datetime, expiry: Expiry) -> None:
        """Move the end of every known open lot that is not dead by then: the member was active at `at`.

        What waits for an event has no end yet.
        """
        ends_at = expiry.ends_at(at, self.ladder.zone)
        for lot in list(self.lots.values()):
            later = ends_at is not None and (lot.expires_at is None or at < lot.expires_at < ends_at)
            if lot.kind == "regular" and lot.remaining + lot.held > 0 and not lot.fixed and not lot.waits and later:
                self.move_end(lot, ends_at, reason="activity", at=at, by="system")

    def move_end(self, lot: Lot, ends_at: datetime | None, *, reason: str, at: datetime, by: str) -> None:
        """Give a lot another end, as a fact of its own."""
        if lot.expires_at == ends_at:
            return
        if lot.id not in self.new_lot_ids:
            self.lot_changes.append(LotChange(lot.id, lot.expires_at, ends_at, reason, at, by))
        self._expect(lot.expires_at, -lot.remaining)
        self._expect(ends_at, lot.remaining)
        lot.expires_at = ends_at
        self.changed_lot_ids.add(lot.id)
        self._note_due(lot)

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

    def set_aside(self, points: int, *, expires_at: datetime) -> None:
        """Take available points as `spend` does, to be captured or released by `expires_at`."""
        self.spend(points, "held")
        if self.next_due_at is None or expires_at < self.next_due_at:
            self.next_due_at = expires_at

    def spendable(self, *, except_order: str | None = None) -> list[Lot]:
        """The known lots that can be spent now, in the order of spending."""
        return sorted(
            (
                lot
                for lot in self.lots.values()
                if lot.active and lot.remaining > 0 and (except_order is None or lot.order_ref != except_order)
            ),
            key=_spending_order,
        )

    def overdraw(self, points: int, to_bucket: str) -> None:
        """Take more than there is: first what is available, the rest as a deficit that later credits fill."""
        covered = min(points, max(self.available, 0))
        if covered:
            self.spend(covered, to_bucket)
        if points > covered:
            self._move(self._deficit_lot(), "available", to_bucket, points - covered)

    def give_back(self, lot: Lot, points: int, from_bucket: str, *, at: datetime | None = None) -> bool:
        """Return spent or held points to their own lot; False where it has expired by `at`, and they with it."""
        lot = self.lots.setdefault(lot.id, lot)
        alive = lot.expires_at is None or lot.expires_at > (at or self.now)
        self._move(lot, from_bucket, "available" if alive else "expired", points)
        if alive:
            self._became_available(lot, points)
            self._note_due(lot)
        return alive

    def capture(self, hold: Hold, points: int) -> None:
        """Spend so many of the points that a hold set aside, in the order in which it took them."""
        for part, lot in self._parts(hold, points):
            self._move(lot, "held", "redeemed", part)

    def release(self, hold: Hold, *, captured: int = 0, at: datetime, by: str, cause: str) -> None:
        """Return what a hold still has to its lots, as a transaction of its own."""
        held = sum(points for points, _ in hold.parts) - captured
        self.open("release", cause=cause, points=held, occurred_at=at, by=by, reverses=hold.id)
        for part, lot in self._parts(hold, held, skip=captured):
            self.give_back(lot, part, "held", at=at)

    def _parts(self, hold: Hold, points: int, skip: int = 0) -> Iterable[tuple[int, Lot]]:
        for whole, lot in hold.parts:
            part = min(max(0, whole - skip), points)
            skip -= min(skip, whole)
            points -= part
            if part:
                yield part, self.lots.setdefault(lot.id, lot)

    def take_back(self, points: int, *, own: Callable[[Lot], bool], policy: str) -> int:
        """Take back what a fact brought: first from its `own` lots, then what else is pending, then what is available.

        `policy` is `only_pending`, `within_balance` or `unlimited`. Returns how many points it could reach; needs all
        open lots.
        """
        if self.lend is not None:
            self.lend(points, own, policy)
        missing = points
        for lot in self.within_reach(own=own, policy=policy):
            taken = min(lot.remaining, missing)
            if taken:
                self._move(lot, "available" if lot.active else "pending", "revoked", taken)
                missing -= taken
        if missing and policy == "unlimited":
            self._move(self._deficit_lot(), "available", "revoked", missing)
            missing = 0
        return points - missing

    def within_reach(self, *, own: Callable[[Lot], bool], policy: str) -> list[Lot]:
        """The known lots from which `take_back` takes, in its order."""
        waiting = sorted(
            (lot for lot in self.lots.values() if lot.remaining > 0 and not lot.active), key=_spending_order
        )
        reachable = waiting if policy == "only_pending" else [*waiting, *self.spendable()]
        return sorted(reachable, key=lambda lot: not own(lot))

    def give_away(self, lot: Lot, points: int) -> None:
        """Let points of a lot go to another account, whether they have begun or not."""
        self._move(lot, "available" if lot.active else "pending", "transferred", points)

    def write_off(self, lot: Lot) -> None:
        """Revoke what is left of a lot."""
        self._move(lot, "available" if lot.active else "pending", "revoked", lot.remaining)

    def take_over(self, given: Lot, points: int, *, reason: str, by: str) -> None:
        """Receive points of a lot of another account of the same person: it is the same lot here, with the same id.

        Where it has been here before, the points return to it. They count towards the tiers if they have yet to begin.
        """
        lot = self.lots.get(given.id)
        if lot is None:
            qualifying = given.qualifying and not given.active
            lot = replace(given, remaining=0, held=0, qualifying=qualifying)
            self.lots[lot.id] = lot
            self.new_lot_ids.add(lot.id)
        else:
            self.move_end(lot, given.expires_at, reason=reason, at=self.now, by=by)
            lot.active, lot.activates_at, lot.cancels_at = given.active, given.activates_at, given.cancels_at
        self._move(lot, "transferred", "available" if lot.active else "pending", points)
        if lot.active:
            self._became_available(lot, points)
        self._note_due(lot)

    def settle(self, *, until: datetime | None = None, before: Phase | None = None) -> None:
        """Write down what time alone has done up to `until`, or else `now`, each thing at its own instant.

        Of what happens exactly then, only the phases `before` the one given.
        """
        until = until or self.now
        if self.next_due_at is None or self.next_due_at > until:
            return
        # The account waits for another instant from now on, even where there is nothing left of what it waited for.
        self.touched = True
        due = [(*when, lot.id) for lot in self.lots.values() if (when := due_of(lot)) is not None and when[0] <= until]
        due += [(hold.expires_at, Phase.RELEASE, hold.id) for hold in self.holds.values() if hold.expires_at <= until]
        heapify(due)
        while due:
            at, phase, subject_id = heappop(due)
            if before is not None and at == until and phase >= before:
                continue
            if phase is Phase.RELEASE:
                hold = self.holds.pop(subject_id)
                self.release(hold, at=at, by="system", cause="time")
                self.hold_changes.append(HoldChange(hold.id, "expired", 0, at))
                revived = [lot.id for _, lot in hold.parts]
            else:
                lot = self.lots[subject_id]
                if due_of(lot) != (at, phase):
                    continue
                self._pass(lot, at, phase)
                revived = [lot.id]
            for lot_id in revived:
                following = due_of(self.lots[lot_id])
                if following is not None and following[0] <= until and following > (at, phase):
                    heappush(due, (*following, lot_id))
        left = [lot.due_at for lot in self.lots.values() if lot.due_at is not None]
        left += [hold.expires_at for hold in self.holds.values()]
        left += [at for at in (self.unseen_due_at, self.tier_until) if at is not None and at > self.now]
        self.next_due_at = min(left, default=None)

    def _pass(self, lot: Lot, at: datetime, phase: Phase) -> None:
        if phase is Phase.EXPIRE:
            self.open("expire", cause="time", points=-lot.remaining, occurred_at=at, by="system")
            self._move(lot, "available" if lot.active else "pending", "expired", lot.remaining)
        else:
            self.open("activate", cause="time", points=lot.remaining, occurred_at=at, by="system")
            self._activate(lot, at)

    def _activate(self, lot: Lot, at: datetime, *, alive: bool = True) -> None:
        points = lot.remaining
        self._move(lot, "pending", "available", points)
        lot.active = True
        if lot.qualifying:
            self.qualify(at, points=points)
        if alive:
            self._became_available(lot, points)
        self._note_due(lot)

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
        else:
            self._expect(lot.expires_at, lot.remaining - expiring_before)
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

    def _expect(self, at: datetime | None, points: int) -> None:
        """So many more points, or fewer, will end at that instant."""
        if at is None or not points:
            return
        left = self.expiring.get(at, 0) + points
        if left:
            self.expiring[at] = left
        else:
            self.expiring.pop(at, None)

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
                self.deficit_lot_id,
                0,
                -self.deficit,
                0,
                True,
                False,
                self.now,
                None,
                None,
                None,
                False,
                None,
                "deficit",
            )
        return self.lots[self.deficit_lot_id]

    def _note_due(self, lot: Lot) -> None:
        due_at = lot.due_at
        if due_at is not None and (self.next_due_at is None or due_at < self.next_due_at):
            self.next_due_at = due_at


def _spending_order(lot: Lot) -> tuple[datetime, datetime, UUID]:
    return lot.expires_at or _NEVER, lot.earned_at, lot.id
