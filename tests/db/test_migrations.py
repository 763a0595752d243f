"""The migrations make what the code expects."""

import asyncio
import importlib
import pkgutil
import re
import sys

import asyncpg
import pytest
from sqlalchemy.dialects import postgresql

import crm
from crm.db import migrations
from crm.db.session import Session
from crm.db.tables import metadata
from tests.conftest import named

_SPELLED = {
    "timestamp with time zone": "timestamptz",
    "timestamp(6) with time zone": "timestamptz",
    "character varying": "text",
    "varchar": "text",
    "double precision": "float",
}
APPEND_ONLY = (
    "interactions", "interaction_changes", "points_transactions", "points_movements", "points_lot_changes", "refunds",
    "loyalty_events", "offer_claims", "challenge_stamps", "consents",
)  # fmt: skip


def _tables() -> list[str]:
    for module in pkgutil.walk_packages(crm.__path__, "crm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(metadata.tables)


def _spelled(kind: str) -> str:
    kind = re.sub(r"^numeric\(.*\)$", "numeric", kind.lower())
    return _SPELLED.get(kind, kind)


@pytest.mark.parametrize("name", _tables())
async def test_a_table_of_the_code_is_a_table_of_the_database(session, name):
    rows = await session.fetch(
        """
        SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
            coalesce(i.indisprimary, false) AS key
        FROM pg_attribute a
        LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
        """,
        f"public.{name}",
    )
    stored = {row["name"]: (_spelled(row["type"]), row["required"], row["key"]) for row in rows}
    coded = {
        column.name: (_spelled(column.type.compile(postgresql.dialect())), not column.nullable, column.primary_key)
        for column in metadata.tables[name].c
    }
    assert coded == {column: stored.get(column) for column in coded}


async def test_columns_that_only_the_database_knows_fill_themselves(session):
    """The code inserts by its own column list: what it doesn't know must have a default."""
    _tables()
    missing = []
    for name, table in metadata.tables.items():
        rows = await session.fetch(
            """
            SELECT column_name FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL
                AND is_identity = 'NO' AND is_generated = 'NEVER'
            """,
            name,
        )
        missing += [f"{name}.{row['column_name']}" for row in rows if row["column_name"] not in table.c]
    assert missing == []


async def test_what_belongs_to_a_contact_begins_its_key_with_the_contact(session):
    """Postgres today, Citus tomorrow: every unique index of a contact's table includes the contact."""
    rows = await session.fetch(
        """
        SELECT c.relname AS name, i.indisprimary AS key, array_agg(a.attname::text ORDER BY k.position) AS columns
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique
            AND EXISTS (SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'contact_id')
        GROUP BY c.relname, i.indexrelid, i.indisprimary
        """
    )
    # Of a request about somebody's data nobody knows at first whose it is.
    directories = {"idempotency_keys", "privacy_requests"}
    wrong = [
        (row["name"], row["columns"])
        for row in rows
        if not row["name"].endswith("_directory")
        and row["name"] not in directories
        and (row["columns"][0] != "contact_id" if row["key"] else "contact_id" not in row["columns"])
    ]
    assert rows
    assert wrong == []


async def test_an_empty_database_is_brought_to_the_newest_schema_once(migrated):
    async with migrated.clone() as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with pytest.raises(migrations.SchemaOutdated):
            await asyncio.to_thread(migrations.ensure_current, dsn, migrate=False)

        await asyncio.to_thread(migrations.ensure_current, dsn, migrate=True)
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await asyncio.to_thread(migrations.ensure_current, dsn, migrate=False)
        await asyncio.to_thread(migrations.upgrade, dsn)

        assert tables > 10
        assert tables == await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        await connection.close()


async def test_processes_that_start_together_migrate_once(migrated):
    async with migrated.clone() as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        program = f"from crm.db import migrations; migrations.ensure_current({dsn!r}, migrate=True)"
        await asyncio.gather(*(_python(program) for _ in range(3)))
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
        await connection.close()


async def _python(program: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0


@pytest.mark.parametrize("table", APPEND_ONLY)
async def test_what_happened_can_be_neither_changed_nor_deleted(session, table):
    await _any_row(session, table)
    for statement in (f"UPDATE {table} SET recorded_at = now()", f"DELETE FROM {table}"):
        with pytest.raises(asyncpg.RestrictViolationError, match=f"{table} is append-only"):
            async with session.savepoint():
                await session.execute(statement)
    assert await session.fetchval(f"SELECT count(*) FROM {table}") == 1


async def _any_row(session: Session, table: str) -> None:
    """Some value in every column that must have one; what the values may be is not the point here."""
    checks = await session.fetch(
        "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'", table
    )
    for check in checks:
        await session.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{check["conname"]}"')
    columns = await session.fetch(
        """
        SELECT attname AS name, format_type(atttypid, NULL) AS type, typtype = 'e' AS is_enum
        FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
        """,
        table,
    )
    values = ", ".join(
        f"(enum_range(NULL::{column['type']}))[1]"
        if column["is_enum"]
        else f"{_ANYTHING.get(column['type'], '1')}::{column['type']}"
        for column in columns
    )
    await session.execute(f"INSERT INTO {table} ({', '.join(column['name'] for column in columns)}) SELECT {values}")


_ANYTHING = {
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "now()",
    "text": "'x'",
    "bytea": "'x'",
    "jsonb": "'{}'",
    "boolean": "true",
    "date": "now()",
}


async def test_the_urls_of_the_databases_differ_in_their_name_only(dsn):
    assert named(dsn, "other") == re.sub(r"/setia_[0-9a-f]+", "/other", dsn)
