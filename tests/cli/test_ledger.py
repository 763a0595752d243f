"""`crm ledger verify` says in a line that all is well, and otherwise whose account is wrong."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from crm.db.session import Database
from tests.conftest import Template
from tests.loyalty import story as shop
from tests.loyalty.story import Story


@pytest.fixture
def own_dsn(migrated: Template) -> Iterator[str]:
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        yield runner.run(clone.__aenter__())
        runner.run(clone.__aexit__(None, None, None))


def test_a_sound_ledger_is_summed_up(own_dsn):
    asyncio.run(tell(own_dsn))

    done = verify(own_dsn)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "The ledger is sound: 3 accounts, 26 movements.",
        "Kopi: issued 351 = pending 25 + available 76 + held 0 + redeemed 20 + expired 30 + revoked 200",
    ]


def test_accounts_that_differ_are_named_with_what_was_expected_and_found(own_dsn):
    story = asyncio.run(tell(own_dsn, "UPDATE loyalty_accounts SET available = available + 100 WHERE available = 69"))

    done = verify(own_dsn)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"contact {story.sari} in Kopi",
        "  account.available: expected 69, found 169",
        "  lots.available: expected 169, found 69",
        "all accounts in Kopi",
        "  program.issued: expected 351, found 451",
        "The ledger is not sound: 1 of 3 accounts differ.",
    ]


def test_an_empty_ledger_is_sound(own_dsn):
    done = verify(own_dsn)

    assert (done.returncode, done.stdout) == (0, "The ledger is sound: 0 accounts, 0 movements.\n")


def verify(dsn: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CRM_DATABASE_URL": dsn}
    command = [sys.executable, "-m", "crm.cli", "ledger", "verify"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


async def tell(dsn: str, *then: str) -> Story:
    database = await Database.connect(dsn)
    try:
        async with database.begin() as session:
            story = await shop.tell(session)
            for statement in then:
                await session.execute(statement)
            return story
    finally:
        await database.close()
