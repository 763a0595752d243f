"""A command finds its database with the right schema, or says what to do."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from crm.cli import place
from crm.db import migrations
from crm.db.migrations import SchemaOutdated
from crm.settings import Settings
from tests.conftest import Template


@pytest.fixture
def empty_dsn(migrated: Template) -> Iterator[str]:
    """A database nobody has migrated."""
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        dsn = runner.run(clone.__aenter__())
        runner.run(_say(dsn, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        yield dsn
        runner.run(clone.__aexit__(None, None, None))


@pytest.fixture
def own_dsn(migrated: Template) -> Iterator[str]:
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        yield runner.run(clone.__aenter__())
        runner.run(clone.__aexit__(None, None, None))


def test_a_configured_database_that_was_never_migrated_is_refused_with_the_command_to_run(empty_dsn):
    with (
        pytest.raises(SchemaOutdated, match="`crm migrate`"),
        place.database(Settings(database_url=empty_dsn)),
    ):
        pytest.fail("it must not be used")


def test_migrating_is_what_makes_it_usable_and_is_safe_to_repeat(empty_dsn):
    settings = Settings(database_url=empty_dsn)
    with place.database(settings, migrated=False) as found:
        migrations.upgrade(found.direct)
        migrations.upgrade(found.direct)

    with place.database(settings) as found:
        assert found.dsn == empty_dsn


def test_a_schema_of_a_later_version_is_fine(own_dsn):
    asyncio.run(_say(own_dsn, "UPDATE alembic_version SET version_num = '29991231_2359'"))

    with place.database(Settings(database_url=own_dsn)) as found:
        assert found.dsn == own_dsn


def test_migrations_take_the_way_around_the_pooler(own_dsn):
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/pooler", direct_database_url=own_dsn)

    with place.database(settings) as found:
        assert (found.dsn, found.direct) == ("postgresql://nobody@127.0.0.1:1/pooler", own_dsn)


async def _say(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
