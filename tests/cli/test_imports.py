"""`crm import purchases`, as a command on a database with real commits."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from crm.db.session import Database
from crm.loyalty import audit, programs, rules

CDNOW = Path(__file__).parents[3] / "shared/data/cdnow_purchases.csv"
MAPPED = ["--map", "ref=order_ref", "--map", "customer=identity:customer_id", "--map", "day=occurred_at"]
MAPPED += ["--map", "usd=total", "--set", "currency=USD"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
async def program_id(database: Database) -> UUID:
    """One point a dollar; Silver, from 100 points on, earns half as much again."""
    now = datetime.now(UTC)
    async with database.begin() as session:
        program = await programs.create(
            session, name="Records", currency="USD", time_zone="Asia/Jakarta", default=True, settings={}, now=now
        )
        rule = {"name": "One a dollar", "kind": "per_amount", "points": 1, "per": "1"}
        await rules.create(session, program_id=program.id, definition=rule, now=now)
        await programs.add_tier(
            session, program_id=program.id, name="Silver", threshold=100, benefits={"earn_factor": "1.5"}, now=now
        )
    return program.id


@pytest.fixture
def run(dsn: str) -> Run:
    """Runs `crm import purchases` on this process's database."""

    def run(file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            _command(file, *options), env=_environment(dsn), capture_output=True, text=True, timeout=300
        )

    return run


def _command(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "crm.cli", "import", "purchases", str(file), *(options or MAPPED)]


def _environment(dsn: str) -> dict[str, str]:
    return os.environ | {"CRM_DATABASE_URL": dsn, "COLUMNS": "200"}


def _write(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("ref", "customer", "day", "usd", "discs"), *rows])
    return path


async def test_purchases_bring_their_buyers_points_tiers_and_timelines(
    database: Database, program_id: UUID, run: Run, tmp_path: Path
) -> None:
    file = _write(
        tmp_path / "old.csv",
        ("A1", "0001", "1997-01-01", "11.77", "1"),
        ("A2", "0002", "1997-01-12", "100.00", "4"),
        ("A3", "0002", "1997-02-01", "10.00", "1"),
        ("A4", "0003", "1997-03-01", "0.00", "1"),
    )

    done = run(file)

    assert done.returncode == 0, done.stderr
    assert "4 purchases imported with 126 points" in done.stderr
    async with database.reading() as session:
        rows = await session.fetch(
            """
            SELECT i.value, a.available, a.qualifying_visits, a.tier_id IS NOT NULL AS silver, p.occurred_at, p.content
            FROM identity_directory i JOIN loyalty_accounts a USING (contact_id) JOIN purchases p USING (contact_id)
            ORDER BY p.order_ref
            """
        )
        assert [(row["value"], row["available"], row["qualifying_visits"], row["silver"]) for row in rows] == [
            ("0001", 11, 1, False), ("0002", 115, 2, True), ("0002", 115, 2, True), ("0003", 0, 1, False),
        ]  # fmt: skip
        # A bare date is noon in the program's zone, and columns without a place are kept.
        assert rows[0]["occurred_at"] == datetime(1997, 1, 1, 5, tzinfo=UTC)
        assert rows[0]["content"]["data"] == {"discs": "1"}
        kinds = await session.fetch("SELECT kind, count(*) FROM interactions GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in kinds] == [("contact.created", 3), ("purchase", 4), ("tier.changed", 1)]
        assert not (await audit.verify(session)).findings


async def test_a_second_run_imports_nothing_twice(
    database: Database, program_id: UUID, run: Run, tmp_path: Path
) -> None:
    file = _write(tmp_path / "old.csv", *((f"A{n}", f"c{n % 7}", "1997-01-01", "5.00", "1") for n in range(40)))
    run(file)

    again = run(file)

    assert "0 purchases imported with 0 points" in again.stderr
    assert "40 were there already; 0 errors" in again.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM purchases") == 40
        assert await session.fetchval("SELECT sum(available) FROM loyalty_accounts") == 200


async def test_bad_rows_go_to_the_error_file_and_stop_nobody(
    database: Database, program_id: UUID, run: Run, tmp_path: Path
) -> None:
    file = _write(
        tmp_path / "old.csv",
        ("A1", "1", "1997-01-01", "5.00", "1"),
        ("A2", "2", "1997-13-01", "5.00", "1"),
        ("A3", "3", "1997-01-01", "a lot", "1"),
        ("A4", "", "1997-01-01", "5.00", "1"),
        ("A5", "5", "1997-01-01", "-5.00", "1"),
        ("A1", "6", "1997-01-01", "5.00", "1"),
        ("A6", "null", "1997-01-01", "5.00", "1"),
        ("A7", "7", "1997-01-01", "5.00", "1"),
    )

    done = run(file)

    assert done.returncode == 1
    with (tmp_path / "old.csv.errors.csv").open() as errors:
        failed = {(row["ref"], row["customer"]): row for row in csv.DictReader(errors)}
    # Which of its two buyers an order belongs to is decided by who comes first.
    assert failed.keys() - {("A1", "1"), ("A1", "6")} == {
        ("A2", "2"),
        ("A3", "3"),
        ("A4", ""),
        ("A5", "5"),
        ("A6", "null"),
    }
    assert len(failed) == 6
    assert "1997-13-01" in failed["A2", "2"]["error"]
    assert failed["A3", "3"]["error"].startswith("total")
    assert failed["A3", "3"]["line"] == "4"
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM purchases") == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--map", "ref=order_ref", "--map", "customer=identity:customer_id", "--map", "nope=total"], "no column nope"),
        (["--map", "ref=order", "--map", "customer=identity:customer_id"], "No field is called order"),
        (["--map", "ref=order_ref"], "Say who bought"),
        (["--map", "ref"], "not of the form"),
    ],
)
async def test_a_mapping_that_makes_no_sense_is_refused_before_anything_is_written(
    program_id: UUID, run: Run, tmp_path: Path, options: list[str], reason: str
) -> None:
    done = run(_write(tmp_path / "old.csv", ("A1", "1", "1997-01-01", "5.00", "1")), *options)

    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_import_that_was_interrupted_goes_on_where_it_stopped(
    database: Database, program_id: UUID, run: Run, dsn: str, tmp_path: Path
) -> None:
    file = _write(tmp_path / "old.csv", *((f"A{n}", f"c{n % 700}", "1997-01-01", "5.00", "1") for n in range(12_000)))
    first = subprocess.Popen(_command(file, *MAPPED), env=_environment(dsn), stderr=subprocess.PIPE, text=True)
    async with database.reading() as session:
        deadline = time.monotonic() + 60
        while not await session.fetchval("SELECT EXISTS (SELECT FROM purchases)"):
            assert time.monotonic() < deadline
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
        before = await session.fetchval("SELECT count(*) FROM purchases")
    assert first.returncode == 130
    assert "goes on from here" in said
    assert 0 < before < 12_000

    second = run(file)

    assert f"{12_000 - before:,} purchases imported" in second.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM purchases") == 12_000
        assert await session.fetchval("SELECT sum(available) FROM loyalty_accounts") == 12_000 * 5
        assert not (await audit.verify(session)).findings


@pytest.mark.skipif(not CDNOW.exists(), reason="the CDNOW purchases are not on this machine")
async def test_the_first_customers_of_cdnow(database: Database, program_id: UUID, run: Run, tmp_path: Path) -> None:
    with CDNOW.open() as lines:
        rows = list(csv.DictReader(lines))[:3_000]
    part = tmp_path / "cdnow.csv"
    with part.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)

    done = run(
        part, "--map", "order_ref=order_ref", "--map", "customer_id=identity:customer_id",
        "--map", "purchased_on=occurred_at", "--map", "amount_usd=total", "--set", "currency=USD",
        "--program", str(program_id),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM purchases") == 3_000
        assert await session.fetchval("SELECT count(*) FROM contacts") == len({row["customer_id"] for row in rows})
        earned = await session.fetchval("SELECT sum(points) FROM purchases")
        assert earned == await session.fetchval("SELECT sum(available) FROM loyalty_accounts")
        assert not (await audit.verify(session)).findings
