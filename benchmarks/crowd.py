"""People to choose among: as many contacts as wanted, with what conditions ask of them, made by Postgres itself."""

from typing import Final
from uuid import UUID

import asyncpg

from benchmarks import history

STORES: Final = 20
"""Attributes: every contact has one of so many stores, and a number that nobody else has."""
RARE: Final = 1_000
"""One of so many contacts has the tag `rare`, one of ten `vip`."""
TIER_FROM: Final = 2_000

_NAMES: Final = "ARRAY['Sari', 'Budi', 'Ayu', 'Dewi', 'Bambang', 'Putri', 'Agus', 'Rina', 'Joko', 'Wulan']"
_ONES: Final = "FROM generate_series(1, $1::bigint) i CROSS JOIN LATERAL (SELECT {member} AS id) m".format(
    member=history.member_sql("i")
)
_TABLES: Final = {
    "contacts": f"""
        INSERT INTO contacts (id, name, birth_on, attributes, created_at, updated_at)
        SELECT m.id, ({_NAMES})[1 + i * 7919 % 9973 % 10] || ' ' || substr(md5(i::text), 1, 8),
            CASE WHEN i % 4 > 0 THEN date '1960-01-01' + (i * 7919 % 16000)::int END,
            jsonb_build_object('store', 'S' || i * 31 % {STORES}, 'number', i),
            now() - i * interval '1 minute', now() - i * 104729 % $1 * interval '1 minute'
        {_ONES}
    """,
    "contact_identities": f"""
        INSERT INTO contact_identities (contact_id, kind, account, value, raw, verified, position, created_at)
        SELECT m.id, 'phone', '', '+62812' || lpad(i::text, 8, '0'), '0812' || lpad(i::text, 8, '0'), false, 0, now()
        {_ONES}
    """,
    "identity_directory": f"""
        INSERT INTO identity_directory (value, kind, account, contact_id)
        SELECT '+62812' || lpad(i::text, 8, '0'), 'phone', '', m.id {_ONES}
    """,
    "contact_tags": f"""
        INSERT INTO contact_tags (contact_id, tag, created_at)
        SELECT m.id, t.tag, now() {_ONES} CROSS JOIN LATERAL (VALUES ('regular', 1), ('vip', 10), ('rare', {RARE}))
            AS t (tag, each) WHERE i % t.each = 0
    """,
    # $2 program. Whoever has much is in the first of its tiers.
    "loyalty_accounts": f"""
        INSERT INTO loyalty_accounts (contact_id, program_id, available, lifetime_earned, tier_id, enrolled_at,
            updated_at)
        SELECT m.id, $2::uuid, p.points, p.points, CASE WHEN p.points > {TIER_FROM} THEN t.id END, now(), now()
        {_ONES} CROSS JOIN LATERAL (SELECT i * 7919 % 5000 AS points) p
        CROSS JOIN (SELECT id FROM tiers WHERE program_id = $2::uuid ORDER BY threshold LIMIT 1) t
    """,
    # $2 for each contact. In the order in which they would have come, over the year that has just ended.
    "interactions": f"""
        INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, data, by)
        SELECT {history.member_sql("1 + (i * 7919 + i * i % 97 * i) % $1")}, new_uuid7(), e.at, e.at, 'shop',
            CASE WHEN i % 3 = 0 THEN 'purchase' ELSE 'message' END, jsonb_build_object('total', (i % 200 * 1000)::text),
            'crowd'
        FROM generate_series(1, $1 * $2::bigint) i
        CROSS JOIN LATERAL (SELECT now() - interval '365 days' + i * (interval '365 days' / ($1 * $2::float8)) AS at) e
    """,
}  # fmt: skip


async def fill(dsn: str, *, program_id: UUID, contacts: int, interactions: int) -> None:
    """Put contacts into an empty database, all members of a program, and so many interactions of each."""
    connection = await asyncpg.connect(dsn, timeout=60)
    for table, statement in _TABLES.items():
        more = {"loyalty_accounts": [program_id], "interactions": [interactions]}.get(table, [])
        await connection.execute(statement, contacts, *more, timeout=600)
    await connection.execute(f"VACUUM ANALYZE {', '.join(_TABLES)}", timeout=600)
    await connection.close()
