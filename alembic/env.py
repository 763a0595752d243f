"""Runs the migrations over asyncpg: one process at a time, never waiting long for a lock that blocks the shop."""

import asyncio
import time

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from crm.db.tables import metadata

MIGRATION_LOCK = 0x5E71A
LOCK_POLL_SECONDS = 0.2
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "15min"


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    # Asked for again and again: a process that waits within a statement would be waited for by what builds an index
    # beside the writes.
    while not connection.exec_driver_sql("SELECT pg_try_advisory_lock($1)", (MIGRATION_LOCK,)).scalar():
        connection.commit()
        time.sleep(LOCK_POLL_SECONDS)
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    connection.exec_driver_sql(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
    connection.commit()
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    dsn = context.config.attributes["dsn"]
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database; there is no offline mode.")
asyncio.run(main())
