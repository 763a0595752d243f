"""A shop with a past: as many members and entries as wanted, made by Postgres itself.

Entries are in the order in which they would have arrived, one member after the other, so that the rows of a member lie
as far apart as in life.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from crm.api import auth
from crm.db.session import Database
from crm.loyalty import programs, rules

OPEN_LOTS: Final = 5
"""How many of a member's lots have points left, the newest."""
POINTS: Final = 5

RULES: Final = (
    {"name": "1 point per dollar", "kind": "per_amount", "points": 1, "per": "1"},
    {"name": "Double on Tuesdays", "kind": "multiplier", "factor": "2", "window": {"weekdays": ["tue"]}},
)
TIERS: Final = (("Silver", 500, "1.2"), ("Gold", 2_000, "1.5"))

_PREFIX: Final = "01932000000070008000"
_MEMBER: Final = f"('{_PREFIX}' || lpad(to_hex({{number}}), 12, '0'))::uuid"

# $1 members, $2 entries, $3 program. `at` spreads the entries over the year that has just ended.
_ENTRIES: Final = f"""
    FROM (SELECT i, 1 + (i - 1) % $1::bigint AS number, 1 + (i - 1) / $1 AS seq, $2::bigint / $1 AS last_seq,
            now() - interval '366 days' + i * (interval '365 days' / $2::float8) AS at
        FROM generate_series(1::bigint, $2::bigint) i) e
    CROSS JOIN LATERAL (SELECT {_MEMBER.format(number="e.number")} AS contact_id,
        lpad(to_hex((extract(epoch FROM e.at) * 1000)::bigint), 12, '0') || '7000' AS stamp,
        lpad(to_hex(e.i), 12, '0') AS serial, $3::uuid AS program_id) n
"""
_ENTRY_ID: Final = "(n.stamp || '8000' || n.serial)::uuid"
_LOT_ID: Final = "(n.stamp || '9000' || n.serial)::uuid"
_DIGEST: Final = "decode(repeat('5e', 32), 'hex')"
_EXPIRY: Final = "interval '730 days'"

_MEMBERS: Final = {
    "contacts": f"""
        INSERT INTO contacts (id, name, created_at, updated_at)
        SELECT {_MEMBER.format(number="i")}, 'Member ' || i, now() - interval '366 days', now() - interval '366 days'
        FROM generate_series(1, $1::bigint) i
    """,
    "contact_identities": f"""
        INSERT INTO contact_identities (contact_id, kind, value, raw, created_at)
        SELECT {_MEMBER.format(number="i")}, 'email', 'member' || i || '@example.com',
            'member' || i || '@example.com', now()
        FROM generate_series(1, $1::bigint) i
    """,
    "identity_directory": f"""
        INSERT INTO identity_directory (value, kind, contact_id)
        SELECT 'member' || i || '@example.com', 'email', {_MEMBER.format(number="i")}
        FROM generate_series(1, $1::bigint) i
    """,
    "contact_tags": f"""
        INSERT INTO contact_tags (contact_id, tag, created_at)
        SELECT {_MEMBER.format(number="i")}, 'regular', now() FROM generate_series(1, $1::bigint) i
    """,
    # Every tenth member was known under another id too.
    "contact_aliases": f"""
        INSERT INTO contact_aliases (contact_id, alias_id, created_at)
        SELECT {_MEMBER.format(number="i")}, gen_random_uuid(), now() FROM generate_series(1, $1::bigint, 10) i
    """,
    "contact_alias_directory": """
        INSERT INTO contact_alias_directory (alias_id, contact_id) SELECT alias_id, contact_id FROM contact_aliases
    """,
    # $2 entries, $3 program, as in the entries themselves.
    "loyalty_accounts": f"""
        INSERT INTO loyalty_accounts (contact_id, program_id, available, lifetime_earned, lifetime_redeemed,
            qualifying_points, seq, digest, next_due_at, enrolled_at, updated_at)
        SELECT {_MEMBER.format(number="i")}, $3::uuid, {POINTS} * least(n, {OPEN_LOTS}), {POINTS} * n,
            {POINTS} * greatest(n - {OPEN_LOTS}, 0), {POINTS} * n, n, {_DIGEST},
            CASE WHEN n > 0 THEN now() - interval '366 days' + {_EXPIRY}
                + (greatest(n - {OPEN_LOTS}, 0) * $1 + i) * (interval '365 days' / greatest($2::bigint, 1)::float8) END,
            now(), now()
        FROM generate_series(1, $1::bigint) i CROSS JOIN (SELECT $2::bigint / $1 AS n) l
    """,
}
_TIMELINE: Final = {
    "interactions": f"""
        INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, data, by)
        SELECT n.contact_id, {_ENTRY_ID}, e.at, e.at, 'loyalty', 'points.earned', jsonb_build_object(
            'transaction_id', {_ENTRY_ID}, 'program_id', n.program_id, 'points', {POINTS},
            'available_after', {POINTS} * least(e.seq, {OPEN_LOTS}), 'reason', 'goodwill'), 'key:bench'
        {_ENTRIES}
    """,
}
_LOTS: Final = {
    "points_lots": f"""
        INSERT INTO points_lots (contact_id, program_id, id, kind, amount, remaining, active, qualifying, earned_at,
            expires_at)
        SELECT n.contact_id, n.program_id, {_LOT_ID}, 'regular', {POINTS},
            CASE WHEN e.seq > e.last_seq - {OPEN_LOTS} THEN {POINTS} ELSE 0 END, true, true, e.at, e.at + {_EXPIRY}
        {_ENTRIES}
    """,
}
_LEDGER: Final = {
    "points_transactions": f"""
        INSERT INTO points_transactions (contact_id, program_id, id, first_seq, seq, kind, cause, points, reason,
            available_after, occurred_at, recorded_at, by)
        SELECT n.contact_id, n.program_id, {_ENTRY_ID}, e.seq, e.seq, 'earn', 'award', {POINTS}, 'goodwill',
            {POINTS} * least(e.seq, {OPEN_LOTS}), e.at, e.at, 'key:bench'
        {_ENTRIES}
    """,
    "points_movements": f"""
        INSERT INTO points_movements (contact_id, program_id, seq, transaction_id, lot_id, from_bucket, to_bucket,
            points, available_after, pending_after, held_after, occurred_at, recorded_at, digest)
        SELECT n.contact_id, n.program_id, e.seq, {_ENTRY_ID}, {_LOT_ID}, 'issued', 'available', {POINTS},
            {POINTS} * least(e.seq, {OPEN_LOTS}), 0, 0, e.at, e.at, {_DIGEST}
        {_ENTRIES}
    """,
}
_ORDERS: Final = {
    "qualifying_days": f"""
        INSERT INTO qualifying_days (contact_id, program_id, local_on, points, spend, visits)
        SELECT n.contact_id, n.program_id, e.at::date, sum({POINTS}), 5 * count(*), count(*) {_ENTRIES}
        GROUP BY 1, 2, 3
    """,
    "rule_usages": f"""
        INSERT INTO rule_usages (contact_id, program_id, rule_id, period, points, times)
        SELECT n.contact_id, n.program_id, {_LOT_ID}, to_char(e.at, 'YYYY-MM'), {POINTS}, 1 {_ENTRIES}
    """,
    "purchases": f"""
        INSERT INTO purchases (contact_id, program_id, order_ref, occurred_at, recorded_at, currency, total, basis,
            points, request_hash, content, rules, exact_points)
        SELECT n.contact_id, n.program_id, 'P-' || e.i, e.at, e.at, 'USD', 5, 5, {POINTS}, {_DIGEST}, '{{}}', '[]', '[]'
        {_ENTRIES}
    """,
    "order_directory": f"""
        INSERT INTO order_directory (program_id, order_ref, contact_id)
        SELECT n.program_id, 'P-' || e.i, n.contact_id {_ENTRIES}
    """,
    "redemptions": f"""
        INSERT INTO redemptions (contact_id, id, program_id, points, status, occurred_at, recorded_at)
        SELECT n.contact_id, {_ENTRY_ID}, n.program_id, {POINTS}, 'redeemed', e.at, e.at {_ENTRIES}
    """,
    "idempotency_keys": f"""
        INSERT INTO idempotency_keys (key, contact_id, request_hash, status, body, created_at)
        SELECT sha256(convert_to(n.serial, 'UTF8')), n.contact_id, {_DIGEST}, 201, '{{}}', e.at
        {_ENTRIES}
    """,
}


@dataclass(frozen=True, slots=True)
class Shop:
    """A program with rules and tiers, and a key that may do everything."""

    program_id: UUID
    token: str


async def open_shop(dsn: str) -> Shop:
    """Make the program and the key."""
    now = datetime.now(UTC)
    database = await Database.connect(dsn, size_max=1)
    async with database.begin() as session:
        key = await auth.issue(session, name="bench", scopes=["*"], by="bench", now=now)
        program = await programs.create(
            session, name="Bench", currency="USD", time_zone="America/New_York", default=True, settings={}, now=now
        )
        for definition in RULES:
            await rules.create(session, program_id=program.id, definition=definition, now=now)
        for name, threshold, factor in TIERS:
            await programs.add_tier(
                session,
                program_id=program.id,
                name=name,
                threshold=threshold,
                benefits={"earn_factor": factor},
                now=now,
            )
    await database.close()
    assert key.key is not None
    return Shop(program.id, key.key)


def member(number: int) -> UUID:
    """The contact with this number, from 1."""
    return UUID(f"{_PREFIX}{number:012x}")


def member_sql(number: str) -> str:
    """The same in SQL."""
    return _MEMBER.format(number=number)


async def fill(dsn: str, *, program_id: UUID, members: int, entries: int, whole: bool = False) -> None:
    """Make members with accounts, and entries on their timelines with the lots that belong to them.

    `whole` adds what only writes look at: transactions, movements, and a tenth as many purchases and redemptions.
    """
    assert entries % members == 0, "every member has the same history"
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off", "maintenance_work_mem": "512MB"})
    await _insert(connection, _MEMBERS, members, entries, program_id)
    if entries:
        tables = {**_TIMELINE, **_LOTS, **(_LEDGER if whole else {})}
        async with _without_indexes(connection, list(tables)):
            await _insert(connection, tables, members, entries, program_id)
        if whole:
            await _insert(connection, _ORDERS, members, entries // 10, program_id)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _insert(connection: Any, tables: dict[str, str], members: int, entries: int, program_id: UUID) -> None:
    for statement in tables.values():
        args = [members, entries, program_id][: 3 if "$3" in statement else 1 if "$1" in statement else 0]
        await connection.execute(statement, *args)


@asynccontextmanager
async def _without_indexes(connection: Any, tables: Sequence[str]) -> AsyncIterator[None]:
    """Build the indexes of the tables anew at the end, and keep triggers off meanwhile."""
    constraints = await connection.fetch(
        """
        SELECT conrelid::regclass::text AS name, conname, pg_get_constraintdef(oid) AS definition
        FROM pg_constraint WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('p', 'u')
        """,
        tables,
    )
    indexes = await connection.fetch(
        """
        SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index WHERE indrelid = ANY ($1::text[]::regclass[])
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
        """,
        tables,
    )
    statements = [
        *(f"ALTER TABLE {name} DISABLE TRIGGER USER" for name in tables),
        *(f"ALTER TABLE {name} DROP CONSTRAINT {constraint}" for name, constraint, _ in constraints),
        *(f"DROP INDEX {name}" for name, _ in indexes),
    ]
    for statement in statements:
        await connection.execute(statement)
    yield
    statements = [
        *(
            f"ALTER TABLE {name} ADD CONSTRAINT {constraint} {definition}"
            for name, constraint, definition in constraints
        ),
        *(definition for _, definition in indexes),
        *(f"ALTER TABLE {name} ENABLE TRIGGER USER" for name in tables),
    ]
    for statement in statements:
        await connection.execute(statement)
