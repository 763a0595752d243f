"""Pins: a tier that somebody gave a member by hand, a floor until it ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.db.session import Session
from crm.errors import FieldError, Invalid, NotFound
from crm.interactions import timeline
from crm.loyalty import journal
from crm.loyalty.books import Book
from crm.loyalty.ladders import Pin, Tier
from crm.loyalty.tiers import TierNotFound


class TierPinNotFound(NotFound):
    code = "tier_pin_not_found"
    title = "No tier is pinned"


class PinEndsTooEarly(Invalid):
    code = "pin_ends_too_early"
    title = "This pin would have ended already"


@dataclass(slots=True)
class TierPin:
    """A tier below which the member does not fall until the pin ends, or ever where it has no end.

    Why it was given stands on the timeline.
    """

    program_id: UUID
    tier_id: UUID
    name: str
    since: datetime
    until: datetime | None


async def put(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    tier_id: UUID,
    until: datetime | None,
    reason: str,
    by: str,
    now: datetime,
) -> TierPin:
    """Pin a tier, in place of the one that was pinned before; the same pin again changes nothing.

    Raises TierNotFound, PinEndsTooEarly, ContactNotFound, NotEnrolled, ProgramNotFound, ProgramRequired.
    """
    if until is not None and until <= now:
        raise PinEndsTooEarly(
            "until must lie in the future.", errors=[FieldError("/until", PinEndsTooEarly.code, "lies in the past")]
        )
    locked = await journal.lock(session, program_id=program_id, contact_ids=[contact_id], now=now)
    tier = locked.program.ladder.tier(tier_id)
    if tier is None:
        raise TierNotFound("This program has no such tier.")
    book = locked.book(contact_id)
    before = _running(book, now)
    pin = Pin(tier_id, now if before is None or before.tier_id != tier_id else before.since, until)
    entries = []
    if pin != before:
        book.pin_to(pin)
        entries.append(_entry(book, "tier.pinned", tier, by, reason, {"until": until}))
    await journal.write_down(session, locked, entries=entries)
    return _view(book, tier, pin)


async def delete(session: Session, *, program_id: UUID | None, contact_id: UUID, by: str, now: datetime) -> None:
    """End a pin: from now on the member stands where their facts put them.

    Raises TierPinNotFound, ContactNotFound, NotEnrolled, ProgramNotFound, ProgramRequired.
    """
    locked = await journal.lock(session, program_id=program_id, contact_ids=[contact_id], now=now)
    book = locked.book(contact_id)
    tier = _tier(book, now)
    book.pin_to(None)
    await journal.write_down(session, locked, entries=[_entry(book, "tier.unpinned", tier, by)])


async def get(session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime) -> TierPin:
    """The pin that holds. Raises TierPinNotFound, ContactNotFound, ProgramNotFound, ProgramRequired."""
    book = (await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)).book
    tier = _tier(book, now)
    assert book.pin is not None, "it has a tier"
    return _view(book, tier, book.pin)


def _running(book: Book, now: datetime) -> Pin | None:
    return book.pin if book.pin is not None and (book.pin.until is None or book.pin.until > now) else None


def _tier(book: Book, now: datetime) -> Tier:
    """What the pin that holds gives."""
    pin = _running(book, now)
    tier = None if pin is None else book.ladder.tier(pin.tier_id)
    if tier is None:
        raise TierPinNotFound("No tier is pinned for this contact, or no longer.")
    return tier


def _view(book: Book, tier: Tier, pin: Pin) -> TierPin:
    return TierPin(book.program_id, tier.id, tier.name, pin.since, pin.until)


def _entry(
    book: Book, kind: str, tier: Tier, by: str, reason: str | None = None, facts: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    return timeline.entry(
        book.contact_id, channel="loyalty", kind=kind, occurred_at=book.now, recorded_at=book.now, by=by, body=reason,
        data={"program_id": book.program_id, "tier": tier.name, **(facts or {})},
    )  # fmt: skip
