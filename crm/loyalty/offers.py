"""Offers as they are kept: what a program gives to whom, and how often it may be claimed in all.

A change and a claim of the same offer never overlap: a claim shares the offer's turn with other claims, a change has it
alone. What is counted over all members is so exact, and an offer without a maximum has no row that they share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Conflict, FieldError, Invalid, NotFound
from crm.loyalty import audiences, catalogue, contribution, eligibility, programs, recipients, tiers
from crm.loyalty.audiences import Offer
from crm.loyalty.catalogue import RewardNotFound, UnknownTier
from crm.loyalty.recipients import Recipient
from crm.loyalty.tiers import TierNotFound

offers = Table(
    "offers",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("contacts_count", BigInteger),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
)
offer_counts = Table(
    "offer_counts",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("offer_id", Uuid, primary_key=True),
    Column("claimed", BigInteger, nullable=False),
)

MULTIPLIERS_MAX: Final = 200
"""How many open offers of a program may multiply: every purchase is judged by them."""

_DEFAULTS: Final[dict[str, Any]] = {
    "description": None, "window": None, "claims_max": None, "claims_max_per_member": 1, "personal_code": False,
    "auto": False, "categories": None, "skus": None, "status": "active",
}  # fmt: skip
_SELECT: Final = """
    SELECT o.id, o.program_id, o.version, o.contacts_count, o.definition, o.status, o.created_at, o.updated_at,
        n.claimed
    FROM offers o LEFT JOIN offer_counts n ON n.program_id = o.program_id AND n.offer_id = o.id
"""
_COUNT: Final = """
    INSERT INTO offer_counts (program_id, offer_id, claimed)
    SELECT $1, $2, count(*) FROM offer_claims WHERE offer_id = $2
    ON CONFLICT DO NOTHING
"""


class OfferNotFound(NotFound):
    code = "offer_not_found"
    title = "There is no such offer"


class UnknownReward(Invalid):
    code = "unknown_reward"
    title = "The program has no such reward"


class TooManyMultipliers(Conflict):
    code = "too_many_multipliers"
    title = "The program has as many open offers that multiply as it may"


@dataclass(slots=True)
class OfferAudience:
    """Whom an offer is for: all that is said has to hold. `contacts_count` is how many people it names."""

    condition: dict[str, Any] | None
    tier_id: UUID | None
    contacts_count: int | None


@dataclass(slots=True)
class OfferView:
    """An offer as its makers see it; `version` counts its changes.

    Without an `audience` it is for everybody. `claims_left` is null where nothing limits the claims in all.
    """

    id: UUID
    program_id: UUID
    version: int
    name: str
    description: str | None
    audience: OfferAudience | None
    window: dict[str, Any] | None
    benefit: dict[str, Any]
    claims_max: int | None
    claims_left: int | None
    claims_max_per_member: int
    personal_code: bool
    auto: bool
    categories: list[str] | None
    skus: list[str] | None
    status: str
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session,
    *,
    program_id: UUID,
    definition: dict[str, Any],
    contact_ids: Sequence[UUID] | None,
    by: str,
    now: datetime,
) -> OfferView:
    """Make an offer, to these people where some are named; their timelines are told of it.

    Raises ProgramNotFound, InvalidCondition, UnknownTier, UnknownReward, UnknownContact, TooManyMultipliers.
    """
    offer_id, kind = uuid7(), definition["benefit"]["kind"]
    await _announce(session, program_id, kind, now=now)
    definition = await _checked(session, program_id, definition)
    if kind == "multiplier":
        await _ensure_room(session, program_id)
    count = None
    if contact_ids is not None:
        count = await recipients.name(
            session, program_id=program_id, offer_id=offer_id, contact_ids=contact_ids, now=now
        )
    await session.execute(
        """
        INSERT INTO offers (program_id, id, version, kind, status, contacts_count, definition, created_at, updated_at)
        VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $7)
        """,
        program_id, offer_id, kind, definition.get("status", "active"), count, definition, now,
    )  # fmt: skip
    await _settle(session, program_id, offer_id, definition, named=count is not None, by=by, now=now)
    return await get(session, program_id=program_id, offer_id=offer_id)


async def change(
    session: Session,
    *,
    program_id: UUID,
    offer_id: UUID,
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    contact_ids: tuple[Sequence[UUID] | None] | None,
    by: str,
    now: datetime,
) -> OfferView:
    """Give an offer the definition that `merge` makes of its present one, and the people in `contact_ids`, if anything.

    What was claimed stays. Raises OfferNotFound, InvalidCondition, UnknownTier, UnknownReward, UnknownContact,
    TooManyMultipliers.
    """
    await _take_turn(session, offer_id)
    current = await session.fetchrow(
        f"{_SELECT} WHERE o.program_id = $1 AND o.id = $2 AND o.ended_at IS NULL", program_id, offer_id
    )
    if current is None:
        raise _not_found()
    definition = merge(current["definition"])
    before, kind = current["definition"]["benefit"]["kind"], definition["benefit"]["kind"]
    await _announce(session, program_id, before, kind, now=now)
    definition = await _checked(session, program_id, definition, before=current["definition"])
    if kind == "multiplier" != before:
        await _ensure_room(session, program_id)
    count = current["contacts_count"]
    if contact_ids is not None:
        named = contact_ids[0]
        found = await recipients.name(
            session, program_id=program_id, offer_id=offer_id, contact_ids=named or (), now=now
        )
        count = None if named is None else found
    await session.execute(
        """
        UPDATE offers SET version = version + 1, kind = $3, status = $4, contacts_count = $5, definition = $6,
            updated_at = $7
        WHERE program_id = $1 AND id = $2
        """,
        program_id, offer_id, kind, definition.get("status", "active"), count, definition, now,
    )  # fmt: skip
    await _settle(session, program_id, offer_id, definition, named=count is not None, by=by, now=now)
    return await get(session, program_id=program_id, offer_id=offer_id)


async def end(session: Session, *, program_id: UUID, offer_id: UUID, now: datetime) -> None:
    """End an offer; what was claimed stays, and nothing is multiplied any more. Raises OfferNotFound."""
    await _take_turn(session, offer_id)
    kind = await session.fetchval(
        "UPDATE offers SET ended_at = $3 WHERE program_id = $1 AND id = $2 AND ended_at IS NULL RETURNING kind",
        program_id, offer_id, now,
    )  # fmt: skip
    if kind is None:
        raise _not_found()
    await _announce(session, program_id, kind, now=now)


async def get(session: Session, *, program_id: UUID, offer_id: UUID) -> OfferView:
    """One offer of a program. Raises OfferNotFound."""
    row = await session.fetchrow(
        f"{_SELECT} WHERE o.program_id = $1 AND o.id = $2 AND o.ended_at IS NULL", program_id, offer_id
    )
    if row is None:
        raise _not_found()
    return _view(row)


async def page(session: Session, *, program_id: UUID, before: UUID | None, limit: int) -> list[OfferView]:
    """A program's offers, newest first, older than `before`. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"""
        {_SELECT} WHERE o.program_id = $1 AND o.ended_at IS NULL AND ($2::uuid IS NULL OR o.id < $2)
        ORDER BY o.id DESC LIMIT $3
        """,
        program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def recipients_page(
    session: Session, *, program_id: UUID, offer_id: UUID, after: UUID | None, limit: int
) -> list[Recipient]:
    """Whom an offer names, or has given a code, from behind `after`. Raises OfferNotFound."""
    found = await recipients.page(session, offer_id=offer_id, after=after, limit=limit)
    await get(session, program_id=program_id, offer_id=offer_id)
    return found


async def begin_claim(session: Session, *, offer_id: UUID) -> UUID | None:
    """Take part in the offer's turn to the end of the transaction; the offer's program, None where there is no offer.

    What the offer says has to be read after that.
    """
    row = await session.fetchrow(
        "SELECT (SELECT program_id FROM offers WHERE id = $1) AS program_id, pg_advisory_xact_lock_shared($2)",
        offer_id, _turn(offer_id),
    )  # fmt: skip
    assert row is not None, "it asks for no row of a table"
    return row["program_id"]  # type: ignore[no-any-return]


async def count_claim(session: Session, *, offer: Offer) -> bool:
    """Count one more claim of an offer that has a maximum, and lock the count to the end; False where it is reached."""
    return bool(
        await session.execute(
            """
            UPDATE offer_counts SET claimed = claimed + 1
            WHERE program_id = $1 AND offer_id = $2 AND claimed < $3
            """,
            offer.program_id, offer.id, offer.claims_max,
        )
    )  # fmt: skip


def offer_of(row: Record) -> Offer:
    """The offer of a row that has its columns."""
    return Offer.of(
        row["definition"], named=row["contacts_count"] is not None, id=row["id"], program_id=row["program_id"],
        version=row["version"], status=row["status"],
    )  # fmt: skip


def _turn(offer_id: UUID) -> int:
    return int.from_bytes(offer_id.bytes[8:], signed=True)


async def _take_turn(session: Session, offer_id: UUID) -> None:
    await session.execute("SELECT pg_advisory_xact_lock($1)", _turn(offer_id))


async def _announce(session: Session, program_id: UUID, *kinds: str, now: datetime) -> None:
    """Let every process load the program anew where its multipliers are no longer the same. Raises ProgramNotFound."""
    if "multiplier" in kinds:
        await programs.touch(session, program_id=program_id, now=now)
    else:
        await programs.get(session, program_id=program_id)


async def _ensure_room(session: Session, program_id: UUID) -> None:
    # The program's row is locked since it was touched, so that nobody else makes one meanwhile.
    open_count = await session.fetchval(
        "SELECT count(*) FROM offers WHERE program_id = $1 AND ended_at IS NULL AND kind = 'multiplier'", program_id
    )
    if open_count >= MULTIPLIERS_MAX:
        raise TooManyMultipliers(f"{MULTIPLIERS_MAX} is as many as there may be. DELETE those that are over.")


async def _checked(
    session: Session, program_id: UUID, definition: dict[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    audience = definition.get("audience") or {}
    former = (before or {}).get("audience") or {}
    condition = await contribution.condition_to_keep(
        session, audience.get("condition"), before=former.get("condition"), pointer="/audience/condition"
    )
    if (tier_id := audience.get("tier_id")) is not None:
        try:
            await tiers.get(session, program_id=program_id, tier_id=UUID(tier_id))
        except TierNotFound:
            raise UnknownTier(
                "Take one of GET /v1/programs/{id}/tiers.",
                errors=[FieldError("/audience/tier_id", "unknown_tier", "is not a tier")],
            ) from None
    if (reward_id := definition["benefit"].get("reward_id")) is not None:
        try:
            await catalogue.get(session, program_id=program_id, reward_id=UUID(reward_id))
        except RewardNotFound:
            raise UnknownReward(
                "Take one of GET /v1/programs/{id}/rewards.",
                errors=[FieldError("/benefit/reward_id", "unknown_reward", "is not a reward")],
            ) from None
    return definition if condition is None else {**definition, "audience": {**audience, "condition": condition}}


async def _settle(
    session: Session, program_id: UUID, offer_id: UUID, definition: dict[str, Any], *, named: bool, by: str,
    now: datetime,
) -> None:  # fmt: skip
    """What follows from a definition: the count of claims, codes, and what named people are told."""
    if definition.get("claims_max") is None:
        await session.execute("DELETE FROM offer_counts WHERE program_id = $1 AND offer_id = $2", program_id, offer_id)
    else:
        await session.execute(_COUNT, program_id, offer_id)
    if not named:
        return
    if definition.get("personal_code"):
        await recipients.give_codes(session, program_id=program_id, offer_id=offer_id)
    if definition.get("status", "active") == "active":
        zone = ZoneInfo((await programs.get(session, program_id=program_id)).time_zone)
        facts = {
            "program_id": program_id, "offer_id": offer_id, "name": definition["name"],
            "expires_at": eligibility.ends_at(audiences.window_in(definition), zone),
        }  # fmt: skip
        await recipients.tell(session, offer_id=offer_id, facts=facts, by=by, now=now)


def _not_found() -> OfferNotFound:
    return OfferNotFound("This program has no such offer.")


def _view(row: Record) -> OfferView:
    definition = _DEFAULTS | row["definition"]
    audience, count = definition.pop("audience", None) or {}, row["contacts_count"]
    most = definition["claims_max"]
    return OfferView(
        id=row["id"], program_id=row["program_id"], version=row["version"],
        audience=(
            OfferAudience(audience.get("condition"), audience.get("tier_id"), count)
            if audience or count is not None else None
        ),
        claims_left=None if most is None else max(0, most - row["claimed"]),
        created_at=row["created_at"], updated_at=row["updated_at"],
        **definition,
    )  # fmt: skip
