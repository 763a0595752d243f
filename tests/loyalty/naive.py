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

    def due_at(self) -> datetime | None:
        instants = [self.expires_at, self.activates_at if self.pending else None]
        return min((at for at in instants if at is not None and self.left), default=None)


@dataclass
class NaiveAccount:
    """Lots in the order they were made, a debt, and what has left for good."""

    lots: list[NaiveLot] = field(default_factory=list)
    debt: int = 0
    issued: int = 0
    gone: dict[str, int] = field(default_factory=lambda: {"redeemed": 0, "revoked": 0, "expired": 0})
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
        while True:
            due = [(at, lot.number) for lot in self.lots if (at := lot.due_at()) is not None and at <= now]
            if not due:
                return
            at, number = min(due)
            lot = self.lots[number]
            if lot.expires_at is not None and lot.expires_at <= at:
                self.gone["expired"] += lot.left
                lot.left = 0
            else:
                lot.pending = False
                self.qualifying += lot.left if lot.qualifying else 0
                self._fill_debt(lot)

    def credit(
        self, points: int, *, now: datetime, earned_at: datetime, activates_at: datetime | None = None,
        expires_at: datetime | None = None, qualifying: bool = True, order_ref: str | None = None,
    ) -> None:  # fmt: skip
        pending = activates_at is not None and activates_at > now
        lot = NaiveLot(
            len(self.lots), points, points, pending, qualifying, earned_at, activates_at, expires_at, order_ref
        )
        self.lots.append(lot)
        self.issued += points
        if not pending:
            self.qualifying += points if qualifying else 0
            if expires_at is None or expires_at > now:
                self._fill_debt(lot)
        self.pass_time(now)

    def spendable(self, except_order: str | None = None) -> list[NaiveLot]:
        return [
            lot for lot in self.lots
            if lot.left and not lot.pending and (except_order is None or lot.order_ref != except_order)
        ]  # fmt: skip

    def spend(self, points: int, to: str, *, except_order: str | None = None) -> list[tuple[int, int]]:
        """Takes what is there for sure; which lot gave how many."""
        taken = []
        while points:
            lot = min(
                self.spendable(except_order), key=lambda lot: (lot.expires_at or NEVER, lot.earned_at, lot.number)
            )
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
            if lot.expires_at is not None and lot.expires_at <= now:
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
