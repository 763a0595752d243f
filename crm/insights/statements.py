"""A member's statement: what there was, what moved, and what there is."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final
from uuid import UUID

from crm.contacts import aliases
from crm.db.session import Session
from crm.insights import periods
from crm.insights.buckets import OPEN, into
from crm.insights.periods import Span
from crm.loyalty import balances, journal, transactions
from crm.loyalty.balances import Expiring, TierProgress
from crm.loyalty.books import Book
from crm.loyalty.movements import KINDS

ENTRIES_MAX: Final = 1_000


@dataclass(slots=True)
class OpenPoints:
    """Points of a member: `available` can be spent (below zero in deficit), `pending` later, `held` are set aside."""

    available: int = 0
    pending: int = 0
    held: int = 0


@dataclass(slots=True)
class StatementEntry:
    """One business fact and what it changed; `points` as the member sees it, `available_after` in the order of events.

    `transaction_id` is null for what time alone has done and the ledger's next post will write down.
    """

    transaction_id: UUID | None
    kind: str
    reason: str | None
    order_ref: str | None
    occurred_at: datetime
    points: int
    available: int
    pending: int
    held: int
    available_after: int = 0


@dataclass(slots=True)
class KindTotal:
    """What all facts of one kind changed together, listed or not."""

    kind: str
    count: int = 0
    points: int = 0
    available: int = 0
    pending: int = 0
    held: int = 0


@dataclass(slots=True)
class Omitted:
    """The entries before those that are listed, and what they changed together."""

    count: int
    available: int
    pending: int
    held: int


@dataclass(slots=True)
class Statement:
    """What a member had, got, spent and has, by when it happened: opening + omitted + entries = closing.

    The days are those of the program's time zone, both inclusive. `entries` are in the order of events, the newest
    1,000; `omitted` is null where those are all. `expiring`, `expiring_later` and `tier` are as of `as_of`.
    """

    contact_id: UUID
    program_id: UUID
    program_name: str
    time_zone: str
    starts_on: date
    ends_on: date
    as_of: datetime
    opening: OpenPoints
    closing: OpenPoints
    totals: list[KindTotal]
    omitted: Omitted | None
    entries: list[StatementEntry]
    expiring: list[Expiring]
    expiring_later: int
    tier: TierProgress


@dataclass(slots=True)
class _Sums:
    """The balances before the first day, and what each kind of fact has changed since."""

    opening: OpenPoints
    totals: dict[str, KindTotal] = field(default_factory=dict)

    def add(self, entry: StatementEntry) -> None:
        total = self.totals.setdefault(entry.kind, KindTotal(entry.kind))
        total.count += 1
        total.points += entry.points
        _add(total, entry)


async def read(
    session: Session, *, program_id: UUID | None, contact_id: UUID, first: date | None, last: date | None, now: datetime
) -> Statement:
    """The statement of some local days, by default of the last full month; zeros for who has no account.

    Points that have begun or ended by `now` are in it at their instant, whether or not that is written down.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired, InvalidPeriod.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    book, program = found.book, found.program
    span = periods.of_statement(first, last, zone=program.terms.zone, now=now)
    written = book.seq - len(book.movements)
    sums = await _sums(session, book=book, written=written, span=span)
    entries = await _entries(session, book=book, written=written, span=span)
    for entry in _unwritten(book):
        if span.starts_at <= entry.occurred_at < span.ends_at:
            sums.add(entry)
            entries.append(entry)
        elif entry.occurred_at < span.starts_at:
            _add(sums.opening, entry)
    # Of the same instant, what is unwritten stays behind what is written.
    entries = sorted(entries, key=lambda entry: entry.occurred_at)[-ENTRIES_MAX:]
    closing = replace(sums.opening)
    for total in sums.totals.values():
        _add(closing, total)
    balance = balances.balance(book)
    return Statement(
        contact_id=contact_id, program_id=program.id, program_name=program.name, time_zone=program.terms.zone.key,
        starts_on=span.first, ends_on=span.last, as_of=now, opening=sums.opening, closing=closing,
        totals=sorted(sums.totals.values(), key=lambda total: KINDS.index(total.kind)),
        omitted=_omitted(sums, entries), entries=_with_balances(entries, closing.available),
        expiring=balance.expiring, expiring_later=balance.expiring_later, tier=balances.tier(book),
    )  # fmt: skip


async def _sums(session: Session, *, book: Book, written: int, span: Span) -> _Sums:
    rows = await session.fetch(_TOTALS, book.contact_id, book.program_id, written, span.starts_at, span.ends_at)
    sums = _Sums(OpenPoints())
    for kind, *numbers in rows:
        count, points, available, pending, held = map(int, numbers)
        if kind is None:
            sums.opening = OpenPoints(available, pending, held)
        else:
            sums.totals[kind] = KindTotal(kind, count, points, available, pending, held)
    return sums


async def _entries(session: Session, *, book: Book, written: int, span: Span) -> list[StatementEntry]:
    rows = await session.fetch(
        _ENTRIES, book.contact_id, book.program_id, written, span.starts_at, span.ends_at, ENTRIES_MAX
    )
    return [StatementEntry(*row[:6], *map(int, row[6:])) for row in reversed(rows)]


def _unwritten(book: Book) -> list[StatementEntry]:
    """What the book has settled in memory."""
    changes: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
    for movement in book.movements:
        changes[movement.transaction_id][movement.to_bucket] += movement.points
        changes[movement.transaction_id][movement.from_bucket] -= movement.points
    return [
        StatementEntry(
            None, one.kind, one.reason, one.order_ref, one.occurred_at, one.points,
            *(changes[one.id][bucket] for bucket in OPEN),
        )
        for one in book.transactions
    ]  # fmt: skip


def _omitted(sums: _Sums, entries: Sequence[StatementEntry]) -> Omitted | None:
    count = sum(total.count for total in sums.totals.values()) - len(entries)
    if not count:
        return None
    omitted = Omitted(count, 0, 0, 0)
    for total in sums.totals.values():
        _add(omitted, total)
    for entry in entries:
        _add(omitted, entry, sign=-1)
    return omitted


def _with_balances(entries: Sequence[StatementEntry], closing: int) -> list[StatementEntry]:
    available = closing
    for entry in reversed(entries):
        entry.available_after = available
        available -= entry.available
    return list(entries)


def _add(
    sums: OpenPoints | KindTotal | Omitted, part: OpenPoints | KindTotal | StatementEntry, *, sign: int = 1
) -> None:
    sums.available += sign * part.available
    sums.pending += sign * part.pending
    sums.held += sign * part.held


# Movements are never changed, so up to a `seq` ($3) every statement sees the same ones, whoever posts meanwhile. All of
# accounts that were merged into this one are there; what a merge transferred from one to the other is nothing to the
# member.
_CHANGES: Final = f"""
    SELECT m.contact_id, m.transaction_id, {into("available")} AS available, {into("pending")} AS pending,
        {into("held")} AS held
    FROM {aliases.known_as("$1::uuid")} who JOIN points_movements m ON m.contact_id = who.id
    WHERE m.program_id = $2 AND (m.seq <= $3 OR m.contact_id <> $1)
"""
_OF_CHANGES: Final = f"""
    JOIN points_transactions t ON t.contact_id = c.contact_id AND t.id = c.transaction_id
        AND NOT {transactions.within_person("t", "$1::uuid")}
"""
_TOTALS: Final = f"""
    SELECT CASE WHEN t.occurred_at >= $4 THEN t.kind END AS kind, count(*), sum(t.points),
        sum(c.available), sum(c.pending), sum(c.held)
    FROM ({_CHANGES} AND m.occurred_at < $5 GROUP BY m.contact_id, m.transaction_id) c {_OF_CHANGES}
    GROUP BY 1
"""
_ENTRIES: Final = f"""
    SELECT t.id, t.kind, t.reason, t.order_ref, t.occurred_at, t.points, c.available, c.pending, c.held
    FROM ({_CHANGES} AND m.occurred_at >= $4 AND m.occurred_at < $5 GROUP BY m.contact_id, m.transaction_id) c
    {_OF_CHANGES}
    ORDER BY t.occurred_at DESC, t.contact_id = $1 DESC, t.seq DESC LIMIT $6
"""
