"""The rules of lots once more, as plainly as they can be said: what the books are compared with."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class NaiveLot:
    number: int
    amount: int
    left: int
    pending: bool
    qualifying: bool
    earned_at: datetime
    activates_at: datetime | None
    expires_at: datetime | None
    order_ref: str | None
    held: int = 0
    waits: bool = False
    cancels_at: datetime | None = None

    def ended(self, at: datetime) -> bool:
        ends = (self.expires_at, self.cancels_at if self.waits else None)
        return any(end is not None and end <= at for end in ends)

    def due_at(self) -> datetime | None:
        instants = [
            self.expires_at, self.activates_at if self.pending else None, self.cancels_at if self.waits else None
        ]  # fmt: skip
        return min((at for at in instants if at is not None and self.left), default=None)


@dataclass
class NaiveHold:
    """Points set aside: which lot gave how many."""

    taken: list[tuple[int, int]]
    expires_at: datetime
    open: bool = True


@dataclass
class NaiveAccount:
    """Lots in the order they were made, a debt, and what has left for good."""

    lots: list[NaiveLot] = field(default_factory=list)
    debt: int = 0
    issued: int = 0
    gone: dict[str, int] = field(default_factory=lambda: {"redeemed": 0, "revoked": 0, "expired": 0, "transferred": 0})
    holds: list[NaiveHold] = field(default_factory=list)
    lifetime_earned: int = 0
    lifetime_redeemed: int = 0
    qualifying: int = 0
    visits: int = 0

    @property
    def available(self) -> int:
        return sum(lot.left for lot in self.lots if not lot.pending) - self.debt

    @property
    def pending(self) -> int:
        return sum(lot.left for lot in self.lots if lot.pending)

    @property
    def held(self) -> int:
        return sum(lot.held for lot in self.lots)

    @property
    def expiring(self) -> dict[datetime, int]:
        totals: dict[datetime, int] = {}
        for lot in self.lots:
            if lot.left and lot.expires_at is not None:
                totals[lot.expires_at] = totals.get(lot.expires_at, 0) + lot.left
        return totals

    def pass_time(self, now: datetime) -> None:
        """What happens at one instant: points begin, holds time out, points end."""
        while True:
            due = [
                (at, 2 if lot.ended(at) else 0, lot.number)
                for lot in self.lots
                if (at := lot.due_at()) is not None and at <= now
            ]
            due += [
                (hold.expires_at, 1, number)
                for number, hold in enumerate(self.holds)
                if hold.open and hold.expires_at <= now
            ]
            if not due:
                return
            at, what, number = min(due)
            if what == 1:
                self.release(number, at=at)
                continue
            lot = self.lots[number]
            if what == 2:
                self.gone["expired"] += lot.left
                lot.left = 0
            else:
                lot.pending = False
                self.qualifying += lot.left if lot.qualifying else 0
                self._fill_debt(lot)

    def credit(
        self, points: int, *, now: datetime, earned_at: datetime, activates_at: datetime | None = None,
        expires_at: datetime | None = None, qualifying: bool = True, order_ref: str | None = None,
        given: bool = False, waits: bool = False, cancels_at: datetime | None = None,
    ) -> None:  # fmt: skip
        pending = waits or (activates_at is not None and activates_at > earned_at)
        lot = NaiveLot(
            len(self.lots), points, points, pending, qualifying, earned_at, activates_at, expires_at, order_ref,
            waits=waits, cancels_at=cancels_at,
        )  # fmt: skip
        self.lots.append(lot)
        if given:
            self.gone["transferred"] -= points
        else:
            self.issued += points
        if not pending:
            self.qualifying += points if qualifying else 0
            if not lot.ended(now):
                self._fill_debt(lot)
        self.pass_time(now)

    def begin(self, ends_at: datetime | None, *, now: datetime) -> int:
        """The event has happened for which points have waited; how many begin."""
        begun = 0
        for lot in self.lots:
            if lot.waits and lot.left:
                lot.pending = lot.waits = False
                lot.activates_at, lot.expires_at = now, ends_at
                begun += lot.left
                self.qualifying += lot.left
                self._fill_debt(lot)
        return begun

    def slide(self, ends_at: datetime, *, now: datetime) -> None:
        """The member is active: what is not dead and would end sooner lasts until then."""
        for lot in self.lots:
            if lot.left + lot.held and not lot.waits and not lot.ended(now):
                lot.expires_at = ends_at if lot.expires_at is None else max(lot.expires_at, ends_at)

    def hold(self, points: int, *, expires_at: datetime) -> None:
        self.holds.append(NaiveHold(self.spend(points, "held"), expires_at))

    def capture(self, number: int, points: int, *, now: datetime) -> None:
        """Spend what was taken first, release the rest."""
        hold = self.holds[number]
        rest = []
        for lot, part in hold.taken:
            spent = min(part, points)
            points -= spent
            self.lots[lot].held -= spent
            self.gone["redeemed"] += spent
            if part > spent:
                rest.append((lot, part - spent))
        hold.taken = rest
        self.release(number, at=now)

    def release(self, number: int, *, at: datetime) -> None:
        hold = self.holds[number]
        hold.open = False
        self.give_back(hold.taken, "held", now=at)
        hold.taken = []

    def take_back(self, points: int, order_ref: str) -> int:
        """Within the balance: of the order's own lots, then of what else is pending, then of what can be spent."""
        pending = [lot for lot in self._in_spending_order(self.lots) if lot.pending and lot.left]
        lots = [*pending, *self._in_spending_order(self.spendable())]
        taken = 0
        for lot in sorted(lots, key=lambda lot: lot.order_ref != order_ref):
            part = min(lot.left, points - taken)
            lot.left -= part
            taken += part
        self.gone["revoked"] += taken
        return taken

    @staticmethod
    def _in_spending_order(lots: list[NaiveLot]) -> list[NaiveLot]:
        return sorted(lots, key=lambda lot: (lot.expires_at or NEVER, lot.earned_at, lot.number))

    def spendable(self, except_order: str | None = None) -> list[NaiveLot]:
        return [
            lot for lot in self.lots
            if lot.left and not lot.pending and (except_order is None or lot.order_ref != except_order)
        ]  # fmt: skip

    def spend(self, points: int, to: str, *, except_order: str | None = None) -> list[tuple[int, int]]:
        """Takes what is there for sure; which lot gave how many."""
        taken = []
        while points:
            lot = self._in_spending_order(self.spendable(except_order))[0]
            part = min(lot.left, points)
            lot.left -= part
            points -= part
            taken.append((lot.number, part))
            if to == "held":
                lot.held += part
            else:
                self.gone[to] += part
        return taken

    def overdraw(self, points: int, to: str) -> None:
        covered = min(points, max(0, self.available))
        self.spend(covered, to)
        self.debt += points - covered
        self.gone[to] += points - covered

    def give_back(self, taken: list[tuple[int, int]], source: str, *, now: datetime) -> int:
        """How many came back alive."""
        returned = 0
        for number, part in taken:
            lot = self.lots[number]
            if source == "held":
                lot.held -= part
            else:
                self.gone[source] -= part
            if lot.ended(now):
                self.gone["expired"] += part
                continue
            lot.left += part
            returned += part
            self._fill_debt(lot)
        return returned

    def _fill_debt(self, lot: NaiveLot) -> None:
        filled = min(lot.left, self.debt)
        lot.left -= filled
        self.debt -= filled
