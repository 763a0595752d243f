"""What a member has: the balance and the tier, as every answer about points shows them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import history, journal
from crm.loyalty.books import Book
from crm.loyalty.expiry import local_day
from crm.loyalty.ladders import Basis, Standing

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
    """What must still count by an instant for the tier to be kept; 0 where enough has."""

    missing: int
    by: datetime


@dataclass(slots=True)
class TierProgress:
    """Where a member stands. A tier that nothing ends has no `until` and nothing `to_stay`."""

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


async def read(
    session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime, as_of: datetime | None = None
) -> Loyalty:
    """The balance at `now`, what time has done since the last post included; zeros for a contact without an account.

    With `as_of` that of another instant: of the past by what is known today to have happened by then, of the future as
    it comes if nothing happens.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    if as_of is not None and as_of < now:
        book = await history.read(session, program_id=program_id, contact_id=contact_id, as_of=as_of, now=now)
    else:
        found = await journal.read(session, program_id=program_id, contact_id=contact_id, now=as_of or now)
        book = found.book
    seen = balance(book)
    return Loyalty(
        seen.program_id, seen.available, seen.pending, seen.held, seen.lifetime_earned, seen.lifetime_redeemed,
        seen.expiring, seen.expiring_later, tier(book),
    )  # fmt: skip


def balance(book: Book) -> Balance:
    """The balance that a settled book shows."""
    instants = sorted(book.expiring)
    return Balance(
        book.program_id, book.available, book.pending, book.held, book.lifetime_earned, book.lifetime_redeemed,
        [Expiring(book.expiring[at], at) for at in instants[:EXPIRING_MAX]],
        sum(book.expiring[at] for at in instants[EXPIRING_MAX:]),
    )  # fmt: skip


def tier(book: Book) -> TierProgress:
    """Where the member of a settled book stands."""
    found = book.standing()
    current, following = found.current, found.following
    return TierProgress(
        current=None if current is None else TierName(current.id, current.name),
        since=None if current is None else _since(book, found),
        until=found.until,
        next=None if following is None else NextTier(following.name, found.missing, book.ladder.basis),
        to_stay=(
            None if found.missing_to_stay is None or found.decided_at is None
            else ToStay(found.missing_to_stay, found.decided_at)
        ),
    )  # fmt: skip


def _since(book: Book, found: Standing) -> datetime | None:
    """The moment at which the tier was won, where it has been written down; else the beginning of its day."""
    known = book.tier_since if found.current is not None and found.current.id == book.tier_id else None
    if known is None or found.since is None:
        return found.since or known
    zone = book.ladder.zone
    return known if local_day(known, zone) == local_day(found.since, zone) else found.since
