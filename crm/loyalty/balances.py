"""What a member has: the balance and the tier, as every answer about points shows them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import journal, programs
from crm.loyalty.books import Book
from crm.loyalty.programs import Program
from crm.loyalty.tiers import Basis, Tier, standing

EXPIRING_MAX = 24


@dataclass(slots=True)
class Expiring:
    """Open points that end at one instant."""

    points: int
    expires_at: datetime


@dataclass(slots=True)
class Balance:
    """Points of one member in one program. `available` is negative in deficit; `expiring` are the soonest instants."""

    program_id: UUID
    available: int
    pending: int
    held: int
    lifetime_earned: int
    lifetime_redeemed: int
    expiring: list[Expiring]
    expiring_later: int


@dataclass(slots=True)
class TierName:
    id: UUID
    name: str


@dataclass(slots=True)
class NextTier:
    """The tier above; `missing` is in whole `unit`s, rounded up: never 0 while something is missing."""

    name: str
    missing: int
    unit: Basis


@dataclass(slots=True)
class ToStay:
    missing: int
    by: datetime


@dataclass(slots=True)
class TierProgress:
    """Where a member stands. With tiers that last for life, `until` and `to_stay` are null."""

    current: TierName | None
    since: datetime | None
    until: datetime | None
    next: NextTier | None
    to_stay: ToStay | None


@dataclass(slots=True)
class Loyalty(Balance):
    """A balance with its tier."""

    tier: TierProgress


@dataclass(slots=True)
class Posted:
    """The answer to a post on the ledger."""

    transaction_id: UUID
    points: int
    balance: Balance
    tier: TierProgress


async def read(session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime) -> Loyalty:
    """The balance at `now`, what time has done since the last post included. Zeros for a contact without an account.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    program = await programs.load(session, program_id=found.program_id, version=found.program_version)
    found.book.settle()
    seen = balance(found.book)
    return Loyalty(
        seen.program_id, seen.available, seen.pending, seen.held, seen.lifetime_earned, seen.lifetime_redeemed,
        seen.expiring, seen.expiring_later, tier(found.book, program),
    )  # fmt: skip


def balance(book: Book) -> Balance:
    """The balance that a settled book shows."""
    instants = sorted(book.expiring)
    return Balance(
        book.program_id, book.available, book.pending, book.held, book.lifetime_earned, book.lifetime_redeemed,
        [Expiring(book.expiring[at], at) for at in instants[:EXPIRING_MAX]],
        sum(book.expiring[at] for at in instants[EXPIRING_MAX:]),
    )  # fmt: skip


def tier(book: Book, program: Program) -> TierProgress:
    """Where the member of a settled book stands."""
    qualifying = book.progress(program.tier_basis)
    current = standing(program.tiers, qualifying)
    following = next((one for one in program.tiers if one.threshold > qualifying), None)
    return TierProgress(
        current=None if current is None else TierName(current.id, current.name),
        since=book.tier_since if current is not None and current.id == book.tier_id else None,
        until=None,
        next=None
        if following is None
        else NextTier(following.name, _missing(following, qualifying), program.tier_basis),
        to_stay=None,
    )


def _missing(following: Tier, qualifying: Decimal | int) -> int:
    return int((Decimal(following.threshold) - qualifying).to_integral_value(ROUND_CEILING))
