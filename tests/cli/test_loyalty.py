"""`crm loyalty run-night` works a night off by hand and says what that did."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pytest

from crm.db.ids import uuid7
from crm.db.session import Database, Session
from tests.conftest import Template
from tests.loyalty.town import Town, audited

T = TypeVar("T")

MIDNIGHT = datetime(2150, 3, 9, 17, tzinfo=UTC)
"""When 10 March 2150 begins in Jakarta: ahead, for as long as this is run."""
FIRST = MIDNIGHT - timedelta(days=2)


@pytest.fixture
def own_dsn(migrated: Template) -> Iterator[str]:
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        yield runner.run(clone.__aenter__())
        runner.run(clone.__aexit__(None, None, None))


def test_a_night_is_summed_up_and_changes_nothing_when_it_is_run_again(own_dsn):
    town_id, sari = on(own_dsn, _tell)

    done = run_night(own_dsn, "--program", town_id, "--at", "2150-03-10T00:00:00+07:00")
    again = run_night(own_dsn, "--at", "2150-03-09T17:00:00Z")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Kopi Asia/Jakarta: the nights 2150-03-09 to 2150-03-10"
    assert table(done) == {
        "activated": ("1", "1,020"),
        "released": ("0", "0"),
        "birthdays": ("2", "10"),
        "anniversaries": ("0", "0"),
        "tiers changed": ("1", ""),
        "expired": ("1", "10"),
    }
    assert again.returncode == 0, again.stderr
    assert {members for members, _ in table(again).values()} == {"0"}
    facts = on(own_dsn, lambda database: Town(database, town_id).facts(sari))
    assert [fact[:3] for fact in facts[2:]] == [
        ("activate", 1020, 1030), ("birthday", 5, 1035), ("expire", -10, 1025)
    ]  # fmt: skip
    on(own_dsn, audited)


def test_what_is_played_ahead_is_recorded_at_its_own_time_and_comes_round_again(own_dsn):
    on(own_dsn, _tell)

    run_night(own_dsn, "--at", "2150-03-10T06:30:00+07:00")

    def read(query: str) -> Callable[[Database], Awaitable[Any]]:
        async def value(database: Database) -> Any:
            async with database.reading() as session:
                return await session.fetchval(query)

        return value

    recorded_at = on(own_dsn, read("SELECT max(recorded_at) FROM points_movements"))
    assert recorded_at == MIDNIGHT + timedelta(hours=6, minutes=30)
    assert on(own_dsn, read("SELECT count(*) FROM program_nights")) == 0


def test_an_account_that_was_left_out_ends_the_command_with_1(own_dsn):
    async def corrupt(session: Session, sari: Any) -> None:
        await session.execute("UPDATE loyalty_accounts SET seq = 0 WHERE contact_id = $1", sari)

    on(own_dsn, lambda database: _tell(database, corrupt))

    done = run_night(own_dsn, "--at", "2150-03-10T00:00:00+07:00")

    assert done.returncode == 1
    assert table(done)["birthdays"] == ("1", "5")
    assert done.stdout.splitlines()[-1] == "2 accounts were left out; the log says which, and why."
    assert "account_left_out" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--program", str(uuid7())), "crm: No program has this id."),
        ((), "crm: Make a program with POST /v1/programs, or name one."),
        (("--at", "tomorrow"), "write it as 2026-12-01T00:00:00+07:00"),
        (("--at", "2026-12-01T00:00:00"), "say which offset"),
        (("--at", "0001-01-01T00:00:00Z"), "the year must be one from 1970 to 9000"),
        (("--at", "0001-01-01T00:00:00+14:00"), "the year must be one from 1970 to 9000"),
        (("--program", "kopi"), "should be a valid UUID"),
    ],
)
def test_what_can_not_be_run_is_refused_in_a_sentence(own_dsn, options, said):
    done = run_night(own_dsn, *options)

    assert done.returncode in {1, 2}
    assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stderr).split())
    assert "Traceback" not in done.stderr


async def _tell(database: Database, then: Callable[[Session, Any], Awaitable[None]] | None = None) -> tuple[Any, Any]:
    """A program with two birthdays on 10 March 2150, on which something begins and something ends."""
    town = await Town.found(database, at=FIRST)
    await town.reward("birthday", 5)
    await town.tier("Gold", 1000)
    sari, _ = await town.join_all([date(1990, 3, 10)] * 2, at=FIRST)
    await town.award(sari, 10, at=FIRST, expires_at=MIDNIGHT)
    await town.award(sari, 1020, at=FIRST, activates_at=MIDNIGHT)
    if then is not None:
        async with database.begin() as session:
            await then(session, sari)
    return town.program_id, sari


def on(dsn: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """What `work` returns, with the database open for as long as it takes."""

    async def run() -> T:
        database = await Database.connect(dsn)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


def run_night(dsn: str, *options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CRM_DATABASE_URL": dsn, "COLUMNS": "200"}
    command = [sys.executable, "-m", "crm.cli", "loyalty", "run-night", *map(str, options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def table(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """The rows of the printed table: members and points by what happened."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    return {title: (members, points) for title, members, points in cells}
