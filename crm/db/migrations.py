"""Bringing a database to the schema this code was written for."""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError


class SchemaOutdated(Exception):
    """The database has not had all migrations of this code."""


def upgrade(dsn: str) -> None:
    """Run every migration the database has not had; others that try at the same time wait. Starts an event loop."""
    config = _config()
    config.attributes["dsn"] = dsn
    command.upgrade(config, "head")


def ensure_current(dsn: str, *, migrate: bool) -> None:
    """Migrate an older schema, or raise SchemaOutdated where that is the owner's decision. Starts an event loop.

    A newer schema is fine: while a new version is rolled out, the one before it runs on the new schema too.
    """
    scripts = ScriptDirectory.from_config(_config())
    present = asyncio.run(_present(dsn))
    if present == scripts.get_current_head():
        return
    if present is not None:
        try:
            scripts.get_revision(present)
        except CommandError:
            return
    if not migrate:
        raise SchemaOutdated(
            "The database's schema is older than this version of Setia, or still empty: run `crm migrate` first."
        )
    upgrade(dsn)


async def _present(dsn: str) -> str | None:
    connection = await asyncpg.connect(dsn, timeout=30)
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    else:
        return revision
    finally:
        await connection.close()


def _config() -> Config:
    # In an installed package the scripts lie inside it, in a checkout beside it.
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    scripts = installed if installed.is_dir() else package.parent / "alembic"
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config
