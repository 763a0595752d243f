"""`crm import contacts` and `crm export`, as commands on a database with real commits."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crm.db.session import Database
from tests.conftest import SECRET_KEY
from tests.exchange.desk import table, workbook

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SARI = ("Sari Dewi", "0812-3456-789", "sari@example.com", "Bandung")
BROKEN = ("Budi", "8.12E+10", "", "Jakarta")


@pytest.fixture
def run(dsn: str) -> Run:
    """Runs `crm …` on this process's database."""

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "crm.cli", *command],
            env=os.environ | {"CRM_DATABASE_URL": dsn, "CRM_SECRET_KEY": SECRET_KEY, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


async def test_contacts_are_imported_as_guessed_and_the_refused_kept(
    database: Database, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "old.csv"
    file.write_bytes(table(SARI, BROKEN))

    done = run("import", "contacts", str(file))

    assert done.returncode == 1
    assert "1 contacts created, 0 updated" in done.stderr
    assert f"0 were there already; 1 errors, see {file}.errors.csv" in done.stderr.replace("\n", "")
    with (tmp_path / "old.csv.errors.csv").open() as errors:
        [refused] = csv.DictReader(errors)
    assert (refused["Nama"], refused["line"]) == ("Budi", "3")
    assert refused["error"].startswith("identity:phone: A spreadsheet has shortened")
    async with database.reading() as session:
        assert await session.fetchval("SELECT attributes->>'city' FROM contacts") == "Bandung"
        row = await session.fetchrow("SELECT status, created, failed, filename, by FROM imports")
    assert tuple(row or ()) == ("completed", 1, 1, "old.csv", "import")


async def test_what_the_options_say_goes_and_a_second_run_adds_what_is_missing(
    database: Database, run: Run, tmp_path: Path
) -> None:
    file = workbook(tmp_path / "old.xlsx", SARI)
    mapped = ("--map", "Nama=name", "--map", "No HP=identity:phone")

    first = run("import", "contacts", str(file), "--set", "tags=old")
    again = run("import", "contacts", str(file), *mapped, "--map", "Kota=attributes.home", "--on-duplicate", "fill")
    same = run("import", "contacts", str(file), *mapped)

    assert [
        (each.returncode, each.stderr.strip().splitlines()[-1].split(" in ")[0]) for each in (first, again, same)
    ] == [
        (0, "1 contacts created, 0 updated"),
        (0, "0 contacts created, 1 updated"),
        (0, "0 contacts created, 0 updated"),
    ]
    assert "1 were there already" in same.stderr
    async with database.reading() as session:
        row = await session.fetchrow(
            "SELECT name, attributes, (SELECT array_agg(tag) FROM contact_tags) AS tags FROM contacts"
        )
    assert tuple(row or ()) == ("Sari Dewi", {"city": "Bandung", "home": "Bandung"}, ["old"])


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        (table(SARI), ["--map", "Nama=name"], "Map a column to identity:KIND"),
        (table(SARI), ["--map", "Nope=identity:phone"], "no column Nope"),
        (table(("1",), header=("x",)), [], "Map a column to identity:KIND"),
        (b"a,b\n1,\x00\n", [], "neither text"),
    ],
)
async def test_a_file_that_can_t_be_imported_like_that_is_refused(
    database: Database, run: Run, tmp_path: Path, content: bytes, options: list[str], reason: str
) -> None:
    file = tmp_path / "old.csv"
    file.write_bytes(content)

    done = run("import", "contacts", str(file), *options)

    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM imports") == 0


async def test_what_is_exported_is_written_to_the_output_or_a_file(
    database: Database, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "old.csv").write_bytes(table(SARI))
    run("import", "contacts", str(tmp_path / "old.csv"))

    shown = run("export", "contacts")
    written = run("export", "contacts", "--format", "ndjson", "--output", str(tmp_path / "all.ndjson"))
    none = run("export", "contacts", "--tag", "vip")
    wrong = run("export", "contacts", "--from", "yesterday")

    [row] = csv.DictReader(shown.stdout.splitlines())
    assert (row["name"], row["identity:phone"]) == ("Sari Dewi", "'+628123456789")
    assert (written.returncode, written.stdout) == (0, "")
    [contact] = [json.loads(line) for line in (tmp_path / "all.ndjson").read_text().splitlines()]
    assert contact["attributes"] == {"city": "Bandung"}
    assert len(none.stdout.splitlines()) == 1
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (1, False)


async def test_who_resembles_a_row_is_refused_where_that_is_wanted(
    database: Database, run: Run, tmp_path: Path
) -> None:
    header = ("Nama", "No HP", "E-Mail", "Tanggal lahir")
    first, second = tmp_path / "old.csv", tmp_path / "new.csv"
    first.write_bytes(table(("Sari Dewi", "0812-3456-789", "", "1990-03-10"), header=header))
    second.write_bytes(table(("Sari Dewi", "", "sari@example.com", "1990-03-10"), header=header))

    run("import", "contacts", str(first))
    refused = run("import", "contacts", str(second), "--on-duplicate", "reject")
    linked = run("import", "contacts", str(second), "--on-duplicate", "link")

    assert "0 contacts created, 0 updated" in refused.stderr
    assert (refused.returncode, linked.returncode) == (1, 0)
    assert "0 contacts created, 1 updated" in linked.stderr
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contact_identities") == 2
        assert await session.fetchval("SELECT count(*) FROM contacts") == 1


async def test_who_was_erased_and_is_in_the_file_is_told_of(live_client: Any, run: Run, tmp_path: Path) -> None:
    body = {"name": "Sari", "identities": [{"kind": "phone", "value": "0812-3456-789"}]}
    sari = (await live_client.post("/v1/contacts", json=body)).json()["id"]
    assert (await live_client.post(f"/v1/contacts/{sari}/erasure", json={})).status_code == 201
    file = tmp_path / "old.csv"
    file.write_bytes(table(SARI))

    done = run("import", "contacts", str(file))

    assert done.returncode == 0
    assert "1 of the new ones were erased once: marketing is denied" in done.stderr
