"""Pools: many codes at once, imported or made, that can be used as they are or wait to be issued with a reward.

A code that was issued never goes back into its pool: its member has seen it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid

from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, write
from crm.errors import FieldError, Invalid, NotFound
from crm.loyalty import catalogue, codes, programs, vouchers
from crm.loyalty.vouchers import Terms

voucher_pools = Table(
    "voucher_pools",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("reward_id", Uuid),
    Column("codes_count", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
)
voucher_pool_codes = Table(
    "voucher_pool_codes",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("reward_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("pool_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("canonical", Text, nullable=False),
)

CODES_MAX: Final = 10_000
"""How many codes a pool has at most, and so how far those left are counted."""

_POOL_COLUMNS: Final = tuple(column.name for column in voucher_pools.columns)
_CODE_COLUMNS: Final = tuple(column.name for column in voucher_pool_codes.columns)
_SELECT: Final = """
    SELECT p.id, p.program_id, p.name, p.reward_id, p.codes_count, p.created_at,
        CASE WHEN p.reward_id IS NOT NULL THEN (
            SELECT count(*) FROM voucher_pool_codes c WHERE c.pool_id = p.id
        ) END AS codes_left
    FROM voucher_pools p
"""
# Nobody waits for a code that another member is just getting; the next one is as good.
_DRAW: Final = """
    WITH next AS MATERIALIZED (
        SELECT program_id, reward_id, id FROM voucher_pool_codes
        WHERE program_id = $1 AND reward_id = $2 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    ), drawn AS (
        DELETE FROM voucher_pool_codes c USING next n
        WHERE c.program_id = n.program_id AND c.reward_id = n.reward_id AND c.id = n.id
        RETURNING c.id, c.code, c.canonical, c.pool_id
    ), owned AS (
        UPDATE code_directory d SET contact_id = $3 FROM drawn w WHERE d.code = w.canonical
    )
    SELECT id, code, pool_id FROM drawn
"""


class VoucherPoolNotFound(NotFound):
    code = "voucher_pool_not_found"
    title = "There is no such pool of vouchers"


class NotAVoucherReward(Invalid):
    code = "not_a_voucher_reward"
    title = "This reward gives no vouchers"


@dataclass(slots=True)
class VoucherPool:
    """A pool as it is kept. `codes_left` is what can still be issued with its reward; null where it has none."""

    id: UUID
    program_id: UUID
    name: str
    reward_id: UUID | None
    codes_count: int
    codes_left: int | None
    created_at: datetime


@dataclass(slots=True)
class FilledPool(VoucherPool):
    """A new pool. `duplicates` are the codes left out, because they stood there twice or are in use already."""

    duplicates: list[str]


async def fill(
    session: Session,
    *,
    program_id: UUID,
    name: str,
    chosen: Sequence[str],
    count: int,
    pattern: str | None,
    terms: Terms,
    once: idempotency.Request | None,
    now: datetime,
) -> FilledPool:
    """Make a pool of `chosen` codes, or of `count` new ones of the pattern.

    With a reward in its terms they wait to be issued with it, else each is a voucher from now on.
    Raises ProgramNotFound, RewardNotFound, NotAVoucherReward, PatternTooNarrow, PatternUsedUp, ExpiresInThePast.
    """
    await idempotency.begin(session, request=once)
    vouchers.check_end(terms, now)
    await programs.get(session, program_id=program_id)
    if terms.reward_id is not None:
        await _check_reward(session, program_id, terms.reward_id)
    if chosen:
        ids, duplicates = await _take(session, program_id, chosen)
    else:
        ids, duplicates = await _make(session, program_id, count, pattern or codes.DEFAULT_PATTERN), []
    pool = FilledPool(
        uuid7(), program_id, name, terms.reward_id, len(ids), len(ids) if terms.reward_id else None, now, duplicates
    )
    row = (program_id, pool.id, name, terms.reward_id, len(ids), now)
    await write(
        session,
        [
            Insert(voucher_pools, _POOL_COLUMNS, [row]),
            _waiting(pool, ids) if terms.reward_id else _usable(pool, ids, terms, now),
            *idempotency.answer(once, contact_id=None, result=pool, now=now),
        ],
    )
    return pool


async def draw(
    session: Session, *, program_id: UUID, reward_id: UUID, contact_id: UUID
) -> tuple[UUID, str, UUID] | None:
    """Take the next code of a reward's pools, oldest pool first: the voucher's id, its code and the pool."""
    row = await session.fetchrow(_DRAW, program_id, reward_id, contact_id)
    return None if row is None else (row["id"], row["code"], row["pool_id"])


async def get(session: Session, *, program_id: UUID, pool_id: UUID) -> VoucherPool:
    """One pool. Raises VoucherPoolNotFound."""
    row = await session.fetchrow(f"{_SELECT} WHERE p.program_id = $1 AND p.id = $2", program_id, pool_id)
    if row is None:
        raise VoucherPoolNotFound("This program has no such pool of vouchers.")
    return _view(row)


async def page(session: Session, *, program_id: UUID, before: UUID | None, limit: int) -> list[VoucherPool]:
    """A program's pools, newest first, older than `before`. Raises ProgramNotFound."""
    rows = await session.fetch(
        f"{_SELECT} WHERE p.program_id = $1 AND ($2::uuid IS NULL OR p.id < $2) ORDER BY p.id DESC LIMIT $3",
        program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [_view(row) for row in rows]


async def _check_reward(session: Session, program_id: UUID, reward_id: UUID) -> None:
    reward = await catalogue.get(session, program_id=program_id, reward_id=reward_id)
    if reward.fulfilment != "voucher":
        raise NotAVoucherReward(
            "Its fulfilment must be 'voucher' for a pool of codes to be of use.",
            errors=[FieldError("/reward_id", "not_a_voucher_reward", "gives no vouchers")],
        )


async def _take(session: Session, program_id: UUID, chosen: Sequence[str]) -> tuple[dict[UUID, str], list[str]]:
    """Those of the chosen codes that were free, by the ids of their vouchers, and the others."""
    first: dict[str | None, tuple[UUID, str]] = {}
    for code in chosen:
        first.setdefault(codes.canonical(code), (uuid7(), code))
    free = await codes.take_many(
        session, chosen={code: voucher_id for code, (voucher_id, _) in first.items()}, kind="voucher",
        program_id=program_id, contact_id=None,
    )  # fmt: skip
    ids = {voucher_id: shown for code, (voucher_id, shown) in first.items() if code in free}
    kept = set(ids.values())
    duplicates = []
    for code in chosen:
        if code in kept:
            kept.remove(code)
        else:
            duplicates.append(code)
    return ids, duplicates


async def _make(session: Session, program_id: UUID, count: int, pattern: str) -> dict[UUID, str]:
    codes.check_pattern(pattern, count=count)
    ids = [uuid7() for _ in range(count)]
    made = await codes.claim_many(
        session, kind="voucher", program_id=program_id, contact_id=None, subject_ids=ids, pattern=pattern
    )
    return dict(zip(ids, made, strict=True))


def _waiting(pool: FilledPool, ids: dict[UUID, str]) -> Insert:
    rows = [
        (pool.program_id, pool.reward_id, voucher_id, pool.id, code, codes.canonical(code))
        for voucher_id, code in ids.items()
    ]
    return Insert(voucher_pool_codes, _CODE_COLUMNS, rows)


def _usable(pool: FilledPool, ids: dict[UUID, str], terms: Terms, now: datetime) -> Insert:
    rows = [
        vouchers.row(voucher_id, code, program_id=pool.program_id, terms=terms, pool_id=pool.id, now=now)
        for voucher_id, code in ids.items()
    ]
    return Insert(vouchers.vouchers, vouchers.COLUMNS, rows)


def _view(row: Record) -> VoucherPool:
    return VoucherPool(
        id=row["id"], program_id=row["program_id"], name=row["name"], reward_id=row["reward_id"],
        codes_count=row["codes_count"], codes_left=row["codes_left"], created_at=row["created_at"],
    )  # fmt: skip
