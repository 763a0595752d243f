"""The reward catalogue as it is kept, and the stock of each reward.

What is left of a reward is a row that many members' redemptions change: it is taken from last, shortly before COMMIT.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Boolean, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import FieldError, Invalid, NotFound
from crm.loyalty import circumstances, contribution, programs
from crm.loyalty.books import Book
from crm.loyalty.eligibility import Member, Reward
from crm.loyalty.expiry import local_day
from crm.loyalty.limits import Period, Used, starts_at
from crm.loyalty.programs import Program

rewards = Table(
    "rewards",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("status", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
)
reward_stocks = Table(
    "reward_stocks",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("reward_id", Uuid, primary_key=True),
    Column("limited", Boolean, nullable=False),
    Column("stocked", BigInteger, nullable=False),
    Column("remaining", BigInteger, nullable=False),
)

_DEFAULTS: Final[dict[str, Any]] = {
    "status": "active", "limits": [], "fulfilment": "manual", "window": None, "condition": None, "tier_id": None,
    "valid_days": None, "code_pattern": None, "description": None, "categories": None, "skus": None,
}  # fmt: skip
_SELECT: Final = """
    SELECT r.id, r.program_id, r.definition, r.status, r.created_at, r.updated_at, r.ended_at,
        CASE WHEN s.limited THEN s.remaining END AS stock
    FROM rewards r LEFT JOIN reward_stocks s ON s.program_id = r.program_id AND s.reward_id = r.id
"""
_FIND: Final = """
    SELECT r.id, r.program_id, r.definition, CASE WHEN r.ended_at IS NULL THEN r.status ELSE 'ended' END AS status,
        CASE WHEN s.limited THEN s.remaining END AS stock, p.pooled,
        p.pooled AND EXISTS (
            SELECT FROM voucher_pool_codes c WHERE c.program_id = r.program_id AND c.reward_id = r.id
        ) AS codes_left
    FROM rewards r LEFT JOIN reward_stocks s ON s.program_id = r.program_id AND s.reward_id = r.id
    CROSS JOIN LATERAL (
        SELECT r.definition ->> 'fulfilment' = 'voucher' AND EXISTS (
            SELECT FROM voucher_pools p WHERE p.program_id = r.program_id AND p.reward_id = r.id
        ) IS TRUE AS pooled
    ) p
"""
# A member's redemptions of some rewards in each period that lasts at this moment, also those under ids that the member
# had before a merge. What was granted does not count.
_USED: Final = f"""
    SELECT reward_id,
        sum(points) FILTER (WHERE occurred_at >= $4) AS day_points,
        sum(quantity) FILTER (WHERE occurred_at >= $4) AS day_times,
        sum(points) FILTER (WHERE occurred_at >= $5) AS week_points,
        sum(quantity) FILTER (WHERE occurred_at >= $5) AS week_times,
        sum(points) FILTER (WHERE occurred_at >= $6) AS month_points,
        sum(quantity) FILTER (WHERE occurred_at >= $6) AS month_times,
        sum(points) FILTER (WHERE occurred_at >= $7) AS year_points,
        sum(quantity) FILTER (WHERE occurred_at >= $7) AS year_times,
        sum(points) AS lifetime_points, sum(quantity) AS lifetime_times
    FROM {aliases.known_as("$1::uuid")} who JOIN redemptions r ON r.contact_id = who.id
    WHERE program_id = $2 AND reward_id = ANY ($3)
        AND status <> 'reversed' AND cause = 'redemption'
    GROUP BY reward_id
"""
_PERIODS: Final[Sequence[Period]] = ("day", "week", "month", "year")


class RewardNotFound(NotFound):
    code = "reward_not_found"
    title = "There is no such reward"


class UnknownTier(Invalid):
    code = "unknown_tier"
    title = "The program has no such tier"


@dataclass(slots=True)
class RewardView:
    """A reward as it is shown. `stock` is what is left, null where nothing limits it."""

    id: UUID
    program_id: UUID
    name: str
    description: str | None
    cost: int
    stock: int | None
    limits: list[dict[str, Any]]
    fulfilment: str
    window: dict[str, Any] | None
    condition: dict[str, Any] | None
    tier_id: UUID | None
    valid_days: int | None
    code_pattern: str | None
    categories: list[str] | None
    skus: list[str] | None
    status: str
    created_at: datetime
    updated_at: datetime


async def create(
    session: Session, *, program_id: UUID, definition: dict[str, Any], stock: int | None, now: datetime
) -> RewardView:
    """Add a reward to the catalogue. Raises ProgramNotFound, UnknownTier, InvalidCondition."""
    await programs.get(session, program_id=program_id)
    definition = await _checked(session, program_id, definition)
    reward_id = uuid7()
    await session.execute(
        """
        INSERT INTO rewards (program_id, id, status, definition, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $5)
        """,
        program_id, reward_id, definition.get("status", "active"), definition, now,
    )  # fmt: skip
    if stock is not None:
        await _set_stock(session, program_id, reward_id, stock)
    return await get(session, program_id=program_id, reward_id=reward_id)


async def change(
    session: Session,
    *,
    program_id: UUID,
    reward_id: UUID,
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    stock: tuple[int | None] | None,
    now: datetime,
) -> RewardView:
    """Give a reward the definition that `merge` makes of its present one, and what is in `stock`, if anything.

    What was issued stays as it was. Raises RewardNotFound, UnknownTier, InvalidCondition.
    """
    current = await session.fetchrow(
        "SELECT definition FROM rewards WHERE program_id = $1 AND id = $2 AND ended_at IS NULL FOR NO KEY UPDATE",
        program_id, reward_id,
    )  # fmt: skip
    if current is None:
        raise RewardNotFound("This program has no such reward.")
    definition = merge(current["definition"])
    definition = await _checked(session, program_id, definition, before=current["definition"])
    await session.execute(
        "UPDATE rewards SET status = $3, definition = $4, updated_at = $5 WHERE program_id = $1 AND id = $2",
        program_id, reward_id, definition.get("status", "active"), definition, now,
    )  # fmt: skip
    if stock is not None:
        await _set_stock(session, program_id, reward_id, stock[0])
    return await get(session, program_id=program_id, reward_id=reward_id)


async def end(session: Session, *, program_id: UUID, reward_id: UUID, now: datetime) -> None:
    """Take a reward out of the catalogue; what was issued stays. Raises RewardNotFound."""
    if not await session.execute(
        "UPDATE rewards SET ended_at = $3 WHERE program_id = $1 AND id = $2 AND ended_at IS NULL",
        program_id, reward_id, now,
    ):  # fmt: skip
        raise RewardNotFound("This program has no such reward.")


async def get(session: Session, *, program_id: UUID, reward_id: UUID) -> RewardView:
    """One reward of the catalogue. Raises RewardNotFound."""
    row = await session.fetchrow(
        f"{_SELECT} WHERE r.program_id = $1 AND r.id = $2 AND r.ended_at IS NULL", program_id, reward_id
    )
    if row is None:
        raise RewardNotFound("This program has no such reward.")
    return _view(row)


async def page(session: Session, *, program_id: UUID, after: UUID | None, limit: int) -> list[RewardView]:
    """A program's rewards, in the order they were made. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"""
        {_SELECT} WHERE r.program_id = $1 AND r.ended_at IS NULL AND ($2::uuid IS NULL OR r.id > $2)
        ORDER BY r.id LIMIT $3
        """,
        program_id, after, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def program_of(session: Session, *, program_id: UUID | None, reward_id: UUID) -> UUID:
    """The program of a reward, which must be `program_id` where that is named. Raises RewardNotFound."""
    found: UUID | None = await session.fetchval(
        "SELECT program_id FROM rewards WHERE id = $1 AND ($2::uuid IS NULL OR program_id = $2)", reward_id, program_id
    )
    if found is None:
        raise RewardNotFound("There is no reward with this id.")
    return found


async def find(session: Session, *, program_id: UUID, reward_id: UUID) -> Reward:
    """The terms of a reward, also of one that has ended, and what is left of it. Raises RewardNotFound."""
    row = await session.fetchrow(f"{_FIND} WHERE r.program_id = $1 AND r.id = $2", program_id, reward_id)
    if row is None:
        raise RewardNotFound("There is no reward with this id.")
    return _reward(row)


async def active(
    session: Session, *, program_id: UUID, after: UUID | None, limit: int
) -> list[tuple[Reward, str | None]]:
    """The rewards that members see, in the order they were made, each with its description."""
    rows = await session.fetch(
        f"""
        {_FIND} WHERE r.program_id = $1 AND r.ended_at IS NULL AND r.status = 'active'
            AND ($2::uuid IS NULL OR r.id > $2)
        ORDER BY r.id LIMIT $3
        """,
        program_id, after, limit,
    )  # fmt: skip
    return [(_reward(row), row["definition"].get("description")) for row in rows]


async def member(session: Session, *, program: Program, book: Book, rewards: Sequence[Reward], now: datetime) -> Member:
    """What decides which of these rewards the member of a settled book can have.

    One query where a reward has limits, and two where one has a condition.
    """
    facts = await circumstances.facts_of_member(
        session, program=program, book=book, asked=[reward.condition for reward in rewards], now=now
    )
    limited = [reward.id for reward in rewards if reward.limits]
    return Member(
        book=book,
        used=await _used(session, program, book.contact_id, limited, now) if limited else {},
        facts=facts,
    )


async def take(session: Session, *, reward: Reward, quantity: int) -> bool:
    """Take so many out of the stock, which is locked from here to the end; False where there are not enough."""
    return bool(
        await session.execute(
            """
            UPDATE reward_stocks SET remaining = remaining - $3
            WHERE program_id = $1 AND reward_id = $2 AND remaining >= $3
            """,
            reward.program_id, reward.id, quantity,
        )
    )  # fmt: skip


async def put_back(session: Session, *, program_id: UUID, reward_id: UUID, quantity: int) -> None:
    """Put what was taken back into the stock."""
    await session.execute(
        "UPDATE reward_stocks SET remaining = remaining + $3 WHERE program_id = $1 AND reward_id = $2",
        program_id, reward_id, quantity,
    )  # fmt: skip


async def _used(
    session: Session, program: Program, contact_id: UUID, reward_ids: Sequence[UUID], now: datetime
) -> dict[UUID, dict[Period, Used]]:
    zone = program.terms.zone
    starts = [starts_at(per, local_day(now, zone), zone) for per in _PERIODS]
    rows = await session.fetch(_USED, contact_id, program.id, reward_ids, *starts)
    return {
        row["reward_id"]: {
            per: Used(int(row[f"{per}_points"] or 0), int(row[f"{per}_times"] or 0)) for per in (*_PERIODS, "lifetime")
        }
        for row in rows
    }


async def _set_stock(session: Session, program_id: UUID, reward_id: UUID, stock: int | None) -> None:
    # `stocked` is all that was ever put in, so that the audit can say what must be left of it.
    await session.execute(
        """
        INSERT INTO reward_stocks AS s (program_id, reward_id, limited, stocked, remaining)
        VALUES ($1, $2, $3::bigint IS NOT NULL, coalesce($3, 0), coalesce($3, 0))
        ON CONFLICT (program_id, reward_id) DO UPDATE SET limited = excluded.limited,
            stocked = s.stocked + coalesce($3, s.remaining) - s.remaining, remaining = coalesce($3, s.remaining)
        """,
        program_id, reward_id, stock,
    )  # fmt: skip


async def _checked(
    session: Session, program_id: UUID, definition: dict[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    condition = await contribution.condition_to_keep(
        session, definition.get("condition"), before=before and before.get("condition"), pointer="/condition"
    )
    tier_id = definition.get("tier_id")
    if tier_id is not None and not await session.fetchval(
        "SELECT EXISTS (SELECT FROM tiers WHERE program_id = $1 AND id = $2)", program_id, UUID(tier_id)
    ):
        raise UnknownTier(
            "Take one of GET /v1/programs/{id}/tiers.", errors=[FieldError("/tier_id", "unknown_tier", "is not a tier")]
        )
    return definition if condition is None else {**definition, "condition": condition}


def _reward(row: Record) -> Reward:
    condition = row["definition"].get("condition")
    return Reward.of(
        row["definition"], id=row["id"], program_id=row["program_id"], status=row["status"], stock=row["stock"],
        condition=None if condition is None else contribution.condition_of(condition), pooled=row["pooled"],
        codes_left=row["codes_left"],
    )  # fmt: skip


def _view(row: Record) -> RewardView:
    return RewardView(
        id=row["id"], program_id=row["program_id"], stock=row["stock"], created_at=row["created_at"],
        updated_at=row["updated_at"],
        **(_DEFAULTS | row["definition"]),
    )  # fmt: skip
