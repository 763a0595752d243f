"""`crm loyalty backtest`, as a command on a database with real commits."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.db.session import Database
from crm.loyalty import programs, purchases, rules
from crm.loyalty.basket import Purchase
from crm.loyalty.purchases import Bought
from tests.loyalty.shop import checksum

CDNOW = Path(__file__).parents[3] / "shared/data/cdnow_purchases.csv"
CRM = [sys.executable, "-m", "crm.cli"]
BASE = {"name": "One a dollar", "kind": "per_amount", "points": 1, "per": "1"}
DRAFT = {"name": "[b]Round[/b] sums", "kind": "multiplier", "factor": "3", "min_spend": "50", "status": "draft"}
PERIOD = ["--from", "2026-01-01", "--to", "2026-06-30"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
async def program_id(database: Database) -> UUID:
    """One point a dollar, at a cent a point; threefold from 50 dollars on is a draft. Two members, three purchases."""
    now = datetime.now(UTC)
    async with database.begin() as session:
        program = await programs.create(
            session, name="Records", currency="USD", time_zone="Asia/Jakarta", default=True,
            settings={"cost_per_point": "0.01"}, now=now,
        )  # fmt: skip
        for definition in (BASE, DRAFT):
            await rules.create(session, program_id=program.id, definition=definition, now=now)
        people = [uuid7(), uuid7()]
        for who in people:
            await session.execute(
                "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'A', $2, $2)", who, now
            )
        for number, (who, month, total) in enumerate([(0, 1, "1000"), (0, 2, "49.99"), (1, 6, "50")]):
            purchase = Purchase(
                order_ref=f"A{number}", occurred_at=datetime(2026, month, 1, tzinfo=UTC), currency="USD",
                total=Decimal(total),
            )  # fmt: skip
            await purchases.record(
                session, program_id=program.id, bought=Bought(people[who], purchase), by="till", once=None, now=now
            )
    return program.id


@pytest.fixture
def run(dsn: str) -> Run:
    """Runs `crm loyalty backtest` on this process's database."""

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"CRM_DATABASE_URL": dsn, "COLUMNS": "200"}
        return subprocess.run(
            [*CRM, "loyalty", "backtest", *options], env=environment, capture_output=True, text=True, timeout=120
        )

    return run


def report_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


async def test_it_prints_tables_on_stdout_and_its_progress_on_stderr(program_id: UUID, run: Run) -> None:
    done = run(*PERIOD, "--include-drafts")

    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in done.stdout.splitlines()
    ]
    assert rows[0] == ["3 purchases of 2 members: 2 would get more, 0 less, 0 the same."]
    assert ["points", "1,099", "3,199", "+2,100"] in rows
    assert ["cost in USD", "10.99", "31.99", "21.00"] in rows
    assert ["One a dollar", "3", "1,099"] in rows
    assert ["[b]Round[/b] sums", "2", "2,100"] in rows
    assert ["2026-01", "1", "1,000", "3,000", "+2,000"] in rows
    assert ["2026-06", "1", "50", "150", "+100"] in rows
    assert "3 of 3 purchases" in done.stderr
    assert "purchases of" not in done.stderr


async def test_it_prints_json_for_programs(program_id: UUID, run: Run) -> None:
    report = report_of(run(*PERIOD, "--json", "--program", str(program_id)))

    assert (report["purchases"], report["points_issued"], report["points_tried"]) == (3, 1099, 1099)
    assert report["cost"] == {"currency": "USD", "issued": "10.99", "tried": "10.99", "difference": "0.00"}


async def test_rules_come_from_a_file(program_id: UUID, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"name": "visit", "kind": "per_visit", "points": 7}]))

    report = report_of(run("--from", "2026-02-01", "--to", "2026-06-30", "--rules", str(file), "--json"))

    assert (report["points_issued"], report["points_tried"], report["members_less"]) == (99, 14, 2)


async def test_nothing_is_written(database: Database, program_id: UUID, run: Run) -> None:
    async with database.reading() as session:
        before = await checksum(session)

        assert run(*PERIOD, "--include-drafts").returncode == 0

        assert await checksum(session) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "2026-13-01", "--to", "2026-06-30"], "from: there is no such day"),
        (["--from", "2026-07-01", "--to", "2026-06-30"], "the period: must end on or after the day it begins"),
        ([*PERIOD, "--program", "01a200ec-0000-7000-8000-000000000000"], "No program has this id."),
    ],
)
async def test_what_makes_no_sense_is_said_in_a_sentence(
    program_id: UUID, run: Run, options: list[str], said: str
) -> None:
    done = run(*options)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"crm: {said}\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{]", "is not JSON"),
        ("[]", "rules: "),
        ('[{"name": "a", "kind": "magic"}]', "rules/0/kind: "),
        ('[{"name": "a", "kind": "per_visit", "point": 1}]', "rules/0/point: "),
    ],
)
async def test_rules_that_the_api_would_refuse_are_refused(
    program_id: UUID, run: Run, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "rules.json"
    file.write_text(content)

    done = run(*PERIOD, "--rules", str(file))

    assert done.returncode == 1
    assert done.stderr.startswith("crm: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_a_program_there_is_nothing_to_try(database: Database, run: Run) -> None:
    done = run(*PERIOD)

    assert (done.returncode, done.stdout) == (1, "")
    assert "POST /v1/programs" in done.stderr


@pytest.mark.skipif(not CDNOW.exists(), reason="the CDNOW purchases are not on this machine")
async def test_the_first_customers_of_cdnow_get_what_they_got(
    database: Database, run: Run, dsn: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    async with database.begin() as session:
        program = await programs.create(
            session, name="Records", currency="USD", time_zone="Asia/Jakarta", default=True, settings={}, now=now
        )
        await rules.create(session, program_id=program.id, definition=BASE, now=now)
        await programs.add_tier(
            session, program_id=program.id, name="Silver", threshold=100, benefits={"earn_factor": "1.5"}, now=now
        )
    with CDNOW.open() as lines:
        rows = list(csv.DictReader(lines))[:3_000]
    part = tmp_path / "cdnow.csv"
    with part.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    imported = subprocess.run(
        [
            *CRM, "import", "purchases", str(part), "--map", "order_ref=order_ref", "--map",
            "customer_id=identity:customer_id", "--map", "purchased_on=occurred_at", "--map", "amount_usd=total",
            "--set", "currency=USD",
        ],
        env=os.environ | {"CRM_DATABASE_URL": dsn},
        capture_output=True,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    spring = [row for row in rows if date(1997, 3, 1) <= date.fromisoformat(row["purchased_on"]) <= date(1997, 5, 31)]

    whole = report_of(run("--from", "1997-01-01", "--to", "1998-06-30", "--json"))
    part_of_it = report_of(run("--from", "1997-03-01", "--to", "1997-05-31", "--json"))

    async with database.reading() as session:
        assert whole["points_issued"] == await session.fetchval("SELECT sum(points) FROM purchases")
    assert (whole["purchases"], whole["members"]) == (3_000, len({row["customer_id"] for row in rows}))
    assert part_of_it["purchases"] == len(spring) > 0
    for report in (whole, part_of_it):
        assert report["points_tried"] == report["points_issued"]
        assert report["members_same"] == report["members"]
