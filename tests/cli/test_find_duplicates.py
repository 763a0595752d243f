"""`crm contacts find-duplicates`, as a command on a database with real commits."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date

import pytest

from benchmarks import town
from benchmarks.town import Record
from crm.db.session import Database

CRM = [sys.executable, "-m", "crm.cli", "contacts", "find-duplicates"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(dsn: str) -> Run:
    """Runs it on this process's database."""

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"CRM_DATABASE_URL": dsn, "COLUMNS": "160"}
        return subprocess.run([*CRM, *options], env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
async def twins(database: Database) -> tuple[Record, Record]:
    """Two of one person, and somebody else."""
    one = Record(1, "[b]Sari[/b] Dewi", birth_on=date(1990, 3, 10), phone="0812-3456-789")
    other = Record(1, "Sary Dewi", birth_on=date(1990, 3, 10), whatsapp="0812-3456-789")
    async with database.begin() as session:
        await town.settle(session, [one, other, Record(2, "Budi Santoso")])
    return one, other


async def test_it_shows_who_may_be_one_person_and_its_progress_on_stderr(
    database: Database, twins: tuple[Record, Record], run: Run
) -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    first, *table = done.stdout.splitlines()
    assert first == "3 contacts, 1 pairs compared: 1 may be one person; 0 suggestions withdrawn."
    [row] = [[cell.strip() for cell in line.strip("│").split("│")] for line in table if line.startswith("│")]
    assert row == ["100", "[b]Sari[/b] Dewi, +628123456789", "Sary Dewi, 628123456789",
                   "same number, same birth date, similar name"]  # fmt: skip
    assert "3 contacts" in done.stderr
    assert "1 pairs" in done.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM duplicate_pairs WHERE status = 'open'") == 1


async def test_it_prints_json_for_programs(twins: tuple[Record, Record], run: Run) -> None:
    done = run("--json", "--show", "1")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["report"] == {"contacts": 3, "pairs": 1, "suggested": 1, "withdrawn": 0, "left_out": []}
    [pair] = said["duplicates"]
    assert {pair["contact_id"], pair["other_contact_id"]} == {str(one.id) for one in twins}


async def test_a_crowd_is_left_out_and_said(database: Database, run: Run) -> None:
    crowd = [Record(n, "Hutapea Sihombing", birth_on=date(1930 + n, 6, 20)) for n in range(60)]
    async with database.begin() as session:
        await town.settle(session, crowd)
    done = run()
    assert done.returncode == 0, done.stderr
    assert "60 contacts share a name with more than 50 others" in done.stdout
