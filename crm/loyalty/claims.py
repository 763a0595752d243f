"""Claims: a member takes what an offer gives. Several of the same offer are told apart by their number.

An offer that is not for the member is to them as if it did not exist, whoever asks.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound
from crm.interactions import timeline
from crm.loyalty import balances, circumstances, codes, eligibility, journal, offers, rewards, vouchers
from crm.loyalty.audiences import Offer
from crm.loyalty.balances import Balance, TierProgress
from crm.loyalty.books import Book
from crm.loyalty.expiry import Expiry
from crm.loyalty.journal import Locked
from crm.loyalty.offers import OfferNotFound
from crm.loyalty.redemptions import VoucherCode
from crm.loyalty.rewards import LimitReached, NotEligible

offer_claims = Table(
    "offer_claims",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("offer_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("benefit", JSONB, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("transaction_id", Uuid),
    Column("voucher_id", Uuid),
    Column("redemption_id", Uuid),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in offer_claims.columns)
# What there is to know of an offer before one member may claim it, read under the lock on the account. What was claimed
# under an id that the member had before a merge counts too; claims are numbered under each id.
_STANDING: Final = f"""
    SELECT o.id, o.program_id, o.version, o.contacts_count, o.definition,
        CASE WHEN o.ended_at IS NULL THEN o.status ELSE 'ended' END AS status,
        r.named IS TRUE AS named, n.claimed,
        (SELECT count(*) FROM {aliases.known_as("$1::uuid")} who
         JOIN offer_claims c ON c.contact_id = who.id AND c.offer_id = o.id) AS claimed_by_member,
        (SELECT count(*) FROM offer_claims c WHERE c.contact_id = $1 AND c.offer_id = o.id) AS numbered
    FROM offers o
    LEFT JOIN offer_recipients r ON r.contact_id = $1 AND r.offer_id = o.id
    LEFT JOIN offer_counts n ON n.program_id = o.program_id AND n.offer_id = o.id
    WHERE o.id = $2
"""
_VIEW: Final = """
    SELECT c.id, c.offer_id, c.program_id, o.definition ->> 'name' AS offer_name, c.number, c.benefit, c.points,
        c.transaction_id, c.redemption_id, v.code, v.expires_at, c.occurred_at
    FROM offer_claims c
    JOIN offers o ON o.program_id = c.program_id AND o.id = c.offer_id
    LEFT JOIN redemptions r ON r.contact_id = c.contact_id AND r.id = c.redemption_id
    LEFT JOIN vouchers v ON v.contact_id = c.contact_id AND v.id = coalesce(c.voucher_id, r.voucher_id)
"""


class ClaimNotFound(NotFound):
    code = "claim_not_found"
    title = "There is no such claim"


class NoClaimNeeded(Conflict):
    code = "no_claim_needed"
    title = "This offer holds without being claimed"


@dataclass(slots=True)
class Claimed:
    """The answer to a claim: what was given. `number` counts this member's claims of the offer."""

    id: UUID
    offer_id: UUID
    number: int
    benefit: dict[str, Any]
    points: int
    transaction_id: UUID | None
    voucher: VoucherCode | None
    redemption_id: UUID | None
    balance: Balance
    tier: TierProgress


@dataclass(slots=True)
class ClaimView:
    """A claim as it is kept: what it gave, by the offer as it was then."""

    id: UUID
    offer_id: UUID
    offer_name: str
    program_id: UUID
    number: int
    benefit: dict[str, Any]
    points: int
    transaction_id: UUID | None
    voucher: VoucherCode | None
    redemption_id: UUID | None
    occurred_at: datetime


@dataclass(slots=True)
class _Given:
    """What a claim gives, and what is to be written of it."""

    points: int = 0
    transaction_id: UUID | None = None
    voucher: VoucherCode | None = None
    voucher_id: UUID | None = None
    redemption_id: UUID | None = None
    facts: tuple[Insert, ...] = ()
    entries: tuple[tuple[Any, ...], ...] = ()


async def claim(
    session: Session,
    *,
    contact_id: UUID,
    offer_id: UUID,
    place: Mapping[str, str],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Claimed:
    """Give a contact what an offer promises them.

    Raises OfferNotFound, also for one that is not for them, NoClaimNeeded, NotEligible outside its window,
    LimitReached, ContactNotFound, NotEnrolled, MembershipSuspended, PointsOutOfRange; and of the reward that it gives
    OutOfStock, and NotEligible where that has ended.
    """
    program_id = await offers.begin_claim(session, offer_id=offer_id)
    if program_id is None:
        await _require(session, contact_id)
        raise _not_found()
    locked = await journal.lock(session, program_id=program_id, contact_ids=[contact_id], now=now, once=once)
    row = await session.fetchrow(_STANDING, contact_id, offer_id)
    assert row is not None, "offers are ended, never deleted"
    offer = offers.offer_of(row)
    book = locked.books.get(contact_id) or journal.new_book(locked.program, contact_id, now)
    if contact_id not in locked.books and contact_id not in locked.strangers:
        raise ContactNotFound("No contact has this id.")
    facts = await circumstances.facts_of_member(
        session, program=locked.program, book=book, asked=[offer.audience.condition], now=now
    )
    if offer.status != "active" or not offer.audience.includes(book, at=now, facts=facts, named=row["named"]):
        raise _not_found()
    book = locked.member(contact_id)
    _check(offer, row, locked)
    number = row["numbered"] + 1
    given = await _give(session, offer, locked, book, number=number, place=place, by=by)
    claimed = Claimed(
        uuid7(), offer.id, number, dict(offer.benefit), given.points, given.transaction_id,
        given.voucher, given.redemption_id, balances.balance(book), balances.tier(book),
    )  # fmt: skip
    values = (
        contact_id, claimed.id, program_id, offer.id, claimed.number, claimed.benefit, claimed.points,
        claimed.transaction_id, given.voucher_id, claimed.redemption_id, now, now, by,
    )  # fmt: skip
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(offer_claims, _COLUMNS, [values]),
            *given.facts,
            *idempotency.answer(once, contact_id=contact_id, result=claimed, now=now),
        ],
        entries=[_entry(offer, claimed, contact_id, place=place, by=by, now=now), *given.entries],
    )
    # Many members may want the last one: their count is locked last, and says again whether it is left.
    if offer.claims_max is not None and not await offers.count_claim(session, offer=offer):
        raise _used_up(offer)
    return claimed


async def claim_by_code(
    session: Session,
    *,
    contact_id: UUID,
    code: str,
    place: Mapping[str, str],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Claimed:
    """Claim the offer of which the contact's own code it is.

    Raises what `claim` raises; OfferNotFound also for somebody else's code.
    """
    owner = await codes.find(session, code=code, kind="offer")
    if owner is None or owner.contact_id != contact_id:
        await _require(session, contact_id)
        raise _not_found()
    return await claim(
        session, contact_id=contact_id, offer_id=owner.subject_id, place=place, by=by, once=once, now=now
    )


async def get(session: Session, *, contact_id: UUID, claim_id: UUID) -> ClaimView:
    """One claim of a contact. Raises ClaimNotFound."""
    row = await session.fetchrow(f"{_VIEW} WHERE c.contact_id = $1 AND c.id = $2", contact_id, claim_id)
    if row is None:
        raise ClaimNotFound("This contact has no claim with this id.")
    return _view(row)


async def page(
    session: Session, *, contact_id: UUID, offer_id: UUID | None = None, before: UUID | None, limit: int
) -> list[ClaimView]:
    """A contact's claims in every program, or those of one offer, newest first, older than `before`.

    Raises ContactNotFound.
    """
    rows = await session.fetch(
        f"""
        SELECT n.* FROM contacts o CROSS JOIN LATERAL {aliases.known_as("o.id")} who CROSS JOIN LATERAL (
            {_VIEW}
            WHERE c.contact_id = who.id AND ($2::uuid IS NULL OR c.offer_id = $2) AND ($3::uuid IS NULL OR c.id < $3)
            ORDER BY c.id DESC LIMIT $4
        ) n
        WHERE o.id = $1
        ORDER BY n.id DESC LIMIT $4
        """,
        contact_id, offer_id, before, limit,
    )  # fmt: skip
    if not rows:
        await _require(session, contact_id)
    return [_view(row) for row in rows]


def _check(offer: Offer, row: Record, locked: Locked) -> None:
    """Raises why the member can't claim what is theirs."""
    if offer.auto:
        raise NoClaimNeeded("It multiplies what the member earns by itself, as long as it lasts.")
    if row["claimed_by_member"] >= offer.claims_max_per_member:
        times = "once" if offer.claims_max_per_member == 1 else f"{offer.claims_max_per_member} times"
        raise LimitReached(f"A member can claim '{offer.name}' {times}.", claims_max=offer.claims_max_per_member)
    zone = locked.program.terms.zone
    if offer.window is not None and (shut := eligibility.closed(offer.window, now=locked.now, zone=zone)):
        when = "has ended" if shut.code == "ended" else "is not open now"
        raise NotEligible(f"'{offer.name}' {when}.", why_not=[asdict(shut)])
    if offer.claims_max is not None and row["claimed"] >= offer.claims_max:
        raise _used_up(offer)


async def _give(
    session: Session, offer: Offer, locked: Locked, book: Book, *, number: int, place: Mapping[str, str], by: str
) -> _Given:
    benefit, now, program = offer.benefit, locked.now, locked.program
    match benefit["kind"]:
        case "bonus_points":
            points: int = benefit["points"]
            book.ensure_room(points)
            transaction = book.open("earn", cause="offer", points=points, occurred_at=now, by=by, place=dict(place))
            book.credit(points, expires_at=program.expiry.ends_at(now, program.terms.zone))
            book.earn(points)
            book.settle()
            book.stand()
            return _Given(points, transaction.id)
        case "reward":
            granted, _ = await rewards.grant(
                session, locked=locked, contact_id=book.contact_id, reward_id=UUID(benefit["reward_id"]),
                cause="offer", natural_key=f"offer:{offer.id}:{number}", by=by, now=now,
            )  # fmt: skip
            return _Given(voucher=granted.voucher, redemption_id=granted.id)
        case "voucher":
            return await _voucher(session, offer, locked, book.contact_id, by)
        case _:
            return _Given()  # from now on it multiplies


async def _voucher(session: Session, offer: Offer, locked: Locked, contact_id: UUID, by: str) -> _Given:
    benefit, now, days = offer.benefit, locked.now, offer.benefit.get("valid_days")
    voucher_id = uuid7()
    code = await codes.claim(
        session, kind="voucher", program_id=offer.program_id, contact_id=contact_id, subject_id=voucher_id
    )
    promised = {"kind": "offer", "name": offer.name, "offer_id": offer.id}
    if (text := benefit.get("text")) is not None:
        promised["text"] = text
    terms = vouchers.Terms(
        uses_max=benefit.get("uses_max", 1), contact_id=contact_id, benefit=promised,
        expires_at=None if days is None else Expiry("after", days=days).ends_at(now, locked.program.terms.zone),
    )  # fmt: skip
    values = vouchers.row(voucher_id, code, program_id=offer.program_id, terms=terms, now=now)
    return _Given(
        voucher=VoucherCode(code, terms.expires_at),
        voucher_id=voucher_id,
        facts=(Insert(vouchers.vouchers, vouchers.COLUMNS, [values]),),
        entries=(vouchers.entry(values, kind="voucher.issued", by=by, now=now),),
    )


def _entry(
    offer: Offer, claimed: Claimed, contact_id: UUID, *, place: Mapping[str, str], by: str, now: datetime
) -> tuple[Any, ...]:
    data = {
        "program_id": offer.program_id, "offer_id": offer.id, "claim_id": claimed.id, "name": offer.name,
        "number": claimed.number, "benefit": claimed.benefit, "points": claimed.points,
        "transaction_id": claimed.transaction_id, "redemption_id": claimed.redemption_id,
    }  # fmt: skip
    return timeline.entry(
        contact_id, channel="loyalty", kind="offer.claimed", occurred_at=now, recorded_at=now, by=by,
        data={name: value for name, value in data.items() if value is not None} | dict(place),
    )  # fmt: skip


async def _require(session: Session, contact_id: UUID) -> None:
    if not await session.fetchval("SELECT EXISTS (SELECT FROM contacts WHERE id = $1)", contact_id):
        raise ContactNotFound("No contact has this id.")


def _not_found() -> OfferNotFound:
    return OfferNotFound("There is no such offer for this contact.")


def _used_up(offer: Offer) -> LimitReached:
    return LimitReached(f"All of '{offer.name}' has been claimed.", claims_max=offer.claims_max)


def _view(row: Record) -> ClaimView:
    return ClaimView(
        id=row["id"], offer_id=row["offer_id"], offer_name=row["offer_name"], program_id=row["program_id"],
        number=row["number"], benefit=row["benefit"], points=row["points"], transaction_id=row["transaction_id"],
        voucher=VoucherCode(row["code"], row["expires_at"]) if row["code"] else None,
        redemption_id=row["redemption_id"], occurred_at=row["occurred_at"],
    )  # fmt: skip
