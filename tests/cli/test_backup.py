"""A backup is everything, and a restore is all of it or nothing: with real servers, files and programs."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from crm.cli import backup
from crm.cli.backup import NotBackedUp, NotRestored
from crm.db import migrations, queue
from crm.db.embedded import EmbeddedPostgres
from crm.db.session import Database
from crm.settings import Settings
from tests.conftest import Template
from tests.loyalty import story as shop
from tests.loyalty.story import Story

AGE = 5_000
"""Transactions that the server behind the backup has seen, and a new one has not."""
FEED = """
    SELECT id::text FROM interactions WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id
"""


FAILING = """#!/bin/sh
[ "$1" = --version ] && echo "pg_dump (PostgreSQL) {version}" && exit
for word; do case $word in --file=*) echo half > "${{word#--file=}}" ;; esac; done
echo "pg_dump: error: no space left on device" >&2
exit 1
"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop with a backup of it."""

    file: Path
    story: Story
    tables: dict[str, tuple[int, str]]
    feed: list[str]


@pytest.fixture(scope="module")
def house() -> Iterator[Path]:
    # Not pytest's own folder: the account that Postgres runs as can't enter it.
    folder = Path(tempfile.mkdtemp(prefix="setia-test-")).resolve()
    yield folder
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and folder in Path(process.cwd()).parents:
                process.kill()
        except (psutil.Error, OSError):
            continue
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kopi(house: Path) -> Shop:
    file = house / "kopi.backup"
    with EmbeddedPostgres(house / "old") as server:
        migrations.upgrade(server.dsn())
        story = asyncio.run(open_shop(server.dsn()))
        done = crm("backup", file, data_dir=house / "old")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Everything is in {file} (")
        return Shop(file, story, asyncio.run(checksums(server.dsn())), asyncio.run(column(server.dsn(), FEED)))


@pytest.fixture
def empty_dsn(migrated: Template) -> Iterator[str]:
    """A database with nothing in it, of a server that is the owner's."""
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        dsn = runner.run(clone.__aenter__())
        asyncio.run(say(dsn, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
        yield dsn
        runner.run(clone.__aexit__(None, None, None))


@pytest.fixture
def own_dsn(migrated: Template) -> Iterator[str]:
    with asyncio.Runner() as runner:
        clone = migrated.clone()
        yield runner.run(clone.__aenter__())
        runner.run(clone.__aexit__(None, None, None))


# ---------------------------------------------------------------- there and back


def test_a_restored_place_is_the_same_and_goes_on(kopi, house):
    new = house / "new"

    done = crm("restore", kopi.file, data_dir=new)

    assert done.returncode == 0, done.stderr
    assert "The ledger is sound: 3 accounts" in done.stdout
    with EmbeddedPostgres(new) as server:
        assert asyncio.run(checksums(server.dsn())) == kopi.tables
        assert asyncio.run(column(server.dsn(), FEED)) == kopi.feed, "a subscriber goes on where it was"
        asyncio.run(award(server.dsn(), kopi.story))
        feed = asyncio.run(column(server.dsn(), FEED))
        assert feed[:-1] == kopi.feed
        assert crm("ledger", "verify", data_dir=new).returncode == 0


def test_a_server_of_the_owner_s_is_restored_into_and_backed_up_too(kopi, empty_dsn, house):
    again = house / "again.backup"

    assert crm("restore", kopi.file, dsn=empty_dsn).returncode == 0
    assert crm("backup", again, dsn=empty_dsn).returncode == 0
    assert crm("restore", again, "--replace", "--yes", dsn=empty_dsn).returncode == 0

    assert asyncio.run(checksums(empty_dsn)) == kopi.tables


def test_an_older_backup_is_brought_to_this_version_s_schema(empty_dsn, house):
    file = house / "older.backup"
    config = migrations._config()
    config.attributes["dsn"] = empty_dsn
    scripts = ScriptDirectory.from_config(config)
    command.upgrade(config, str(scripts.get_base()))
    assert crm("backup", file, dsn=empty_dsn).returncode == 0

    done = crm("restore", file, "--replace", "--yes", dsn=empty_dsn)

    assert done.returncode == 0, done.stderr
    assert asyncio.run(column(empty_dsn, "SELECT version_num FROM alembic_version")) == [scripts.get_current_head()]


def test_a_backup_of_a_ledger_that_is_not_sound_is_restored_and_told(own_dsn, empty_dsn, house):
    file = house / "unsound.backup"
    story = asyncio.run(open_shop(own_dsn, age=0))
    asyncio.run(say(own_dsn, "UPDATE loyalty_accounts SET available = available + 100 WHERE available = 69"))
    assert crm("backup", file, dsn=own_dsn).returncode == 0

    done = crm("restore", file, dsn=empty_dsn)

    assert done.returncode == 1
    assert f"contact {story.sari} in Kopi\n  account.available: expected 69, found 169" in done.stdout
    assert asyncio.run(checksums(empty_dsn)) == asyncio.run(checksums(own_dsn))


def test_where_the_counter_would_run_for_hours_the_numbers_give_way_in_the_order_of_time(kopi, empty_dsn, monkeypatch):
    async def too_far(*_: object) -> bool:
        return False

    monkeypatch.setenv("CRM_DATABASE_URL", empty_dsn)
    monkeypatch.setattr(backup, "_move_on", too_far)

    backup.restore(kopi.file)

    assert asyncio.run(column(empty_dsn, "SELECT DISTINCT xid::text FROM interactions")) == ["3"]
    assert asyncio.run(column(empty_dsn, FEED)) == sorted(kopi.feed)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        asyncio.run(say(empty_dsn, "UPDATE interactions SET xid = '4'"))


def test_the_counter_is_not_moved_on_too_far(own_dsn):
    now = int(asyncio.run(column(own_dsn, "SELECT pg_current_xact_id()::text"))[0])

    assert asyncio.run(backup._move_on(own_dsn, now + 1000, lambda: None))
    assert not asyncio.run(backup._move_on(own_dsn, now + 2 * backup.XIDS_SKIPPED_MAX, lambda: None))

    assert int(asyncio.run(column(own_dsn, "SELECT pg_current_xact_id()::text"))[0]) > now + 1000


# ---------------------------------------------------------------- what is refused


def test_a_place_with_something_in_it_is_left_alone(kopi, own_dsn):
    asyncio.run(open_shop(own_dsn, age=0))
    before = asyncio.run(checksums(own_dsn))

    refused = crm("restore", kopi.file, dsn=own_dsn)
    declined = crm("restore", kopi.file, "--replace", dsn=own_dsn, answer="n\n")

    assert (refused.returncode, declined.returncode) == (1, 1)
    assert "crm: The database is not empty: it has" in refused.stderr
    assert "Delete everything in the" in declined.stdout
    assert asyncio.run(checksums(own_dsn)) == before


def test_what_is_replaced_is_gone(kopi, own_dsn):
    asyncio.run(open_shop(own_dsn, age=0))
    asyncio.run(say(own_dsn, "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE notes (id serial, mood mood)"))

    done = crm("restore", kopi.file, "--replace", dsn=own_dsn, answer="y\n")

    assert done.returncode == 0, done.stderr
    assert asyncio.run(checksums(own_dsn)) == kopi.tables


def test_a_database_that_setia_works_on_is_not_replaced(kopi, own_dsn):
    async def restore_meanwhile() -> subprocess.CompletedProcess[str]:
        database = await Database.connect(own_dsn, size_max=1)
        try:
            async with database.reading():
                return await asyncio.to_thread(crm, "restore", kopi.file, "--replace", "--yes", dsn=own_dsn)
        finally:
            await database.close()

    done = asyncio.run(restore_meanwhile())

    assert done.returncode == 1
    assert "crm: Setia is running on this database" in done.stderr


@pytest.mark.parametrize(
    ("share", "replacing"), [(0.0001, False), (0.05, False), (0.5, False), (0.999, False), (0.5, True), (0.999, True)]
)
def test_a_backup_that_was_cut_off_changes_nothing(kopi, own_dsn, empty_dsn, house, share, replacing):
    dsn = own_dsn if replacing else empty_dsn
    before = asyncio.run(checksums(dsn))
    file = house / "cut.backup"
    whole = kopi.file.read_bytes()
    file.write_bytes(whole[: max(6, int(len(whole) * share))])

    done = crm("restore", file, *(["--replace", "--yes"] if replacing else []), dsn=dsn)

    assert done.returncode == 1
    assert done.stderr.startswith("crm: "), done.stderr
    assert "can't be read" in done.stderr or "is damaged" in done.stderr
    assert asyncio.run(checksums(dsn)) == before


def test_what_postgres_refuses_changes_nothing_and_is_told(kopi, empty_dsn):
    asyncio.run(say(empty_dsn, "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"))

    done = crm("restore", kopi.file, dsn=empty_dsn)

    assert done.returncode == 1
    assert "Postgres refused it" in done.stderr
    assert 'function "refuse_change" already exists' in done.stderr
    assert asyncio.run(checksums(empty_dsn)) == {}


def test_other_files_are_no_backups(own_dsn, empty_dsn, house):
    diary = house / "diary.txt"
    diary.write_text("dear diary")
    foreign = house / "foreign.backup"
    subprocess.run([EmbeddedPostgres.bin / "pg_dump", "--format=custom", "-f", foreign, empty_dsn], check=True)

    assert "is not a backup" in crm("restore", diary, dsn=empty_dsn).stderr
    assert "of another database" in crm("restore", foreign, dsn=empty_dsn).stderr


# ---------------------------------------------------------------- the file


def test_only_its_owner_can_read_a_backup(kopi):
    assert stat.S_IMODE(kopi.file.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_replaced_only_by_force(own_dsn, house):
    file = house / "there.backup"
    file.write_text("precious")

    refused = crm("backup", file, dsn=own_dsn)
    precious = file.read_text()
    forced = crm("backup", file, "--force", dsn=own_dsn)

    assert (refused.returncode, precious, forced.returncode) == (1, "precious", 0)
    assert "is there already" in refused.stderr
    assert file.read_bytes().startswith(b"PGDMP")


def test_a_backup_that_fails_leaves_no_file(own_dsn, house):
    folder, programs = house / "failing", house / "programs"
    folder.mkdir()
    programs.mkdir()
    [version] = asyncio.run(column(own_dsn, "SHOW server_version"))
    pg_dump = programs / "pg_dump"
    pg_dump.write_text(FAILING.format(version=version))
    pg_dump.chmod(0o755)

    done = crm("backup", folder / "b", dsn=own_dsn, PATH=f"{programs}:{os.environ['PATH']}")

    assert done.returncode == 1
    assert done.stderr.splitlines() == ["crm: pg_dump failed. pg_dump: error: no space left on device"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "reason"), [("nowhere/b", "There is no folder"), (".", "is a folder"), ("b", "There is nothing in")]
)
def test_a_backup_that_can_t_be_is_refused_before_anything_is_made(house, file, reason):
    done = crm("backup", house / file, data_dir=house / "nobody")

    assert done.returncode == 1
    assert reason in done.stderr
    assert not (house / "nobody").exists()


def test_an_empty_database_is_not_backed_up(empty_dsn, house):
    assert "This database is empty" in crm("backup", house / "empty.backup", dsn=empty_dsn).stderr


# ---------------------------------------------------------------- Postgres' programs


@pytest.mark.parametrize(("restoring", "error"), [(False, NotBackedUp), (True, NotRestored)])
def test_a_server_newer_than_all_programs_is_refused_with_what_to_install(restoring, error):
    settings = Settings(database_url="postgresql://somewhere/setia")

    with pytest.raises(error, match=r"Postgres 99.* 18 in .*Install the client programs of Postgres 99"):
        backup._programs(settings, "postgresql://somewhere/setia", 99, restoring=restoring)


def test_a_newer_pg_dump_will_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    settings = Settings(database_url="postgresql://somewhere/setia")

    chosen = backup._programs(settings, "postgresql://somewhere/setia", 16, restoring=False)

    assert chosen.folder == EmbeddedPostgres.bin
    with pytest.raises(NotRestored, match="Postgres 16"):
        backup._programs(settings, "postgresql://somewhere/setia", 16, restoring=True)


def test_a_password_is_not_among_the_arguments():
    dsn = "postgresql://sari:s%40mbal@db.example:5433/setia?sslmode=require"

    programs = backup._programs(Settings(database_url=dsn), dsn, 18, restoring=False)

    assert programs.dsn == "postgresql://sari@db.example:5433/setia?sslmode=require"
    assert programs.environment["PGPASSWORD"] == "s@mbal"


# ----------------------------------------------------------------


def crm(
    *words: object, data_dir: Path | None = None, dsn: str | None = None, answer: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    place = {"CRM_DATABASE_URL": dsn or "", "CRM_DATA_DIR": str(data_dir or "")}
    return subprocess.run(
        [sys.executable, "-m", "crm.cli", *map(str, words)],
        env={**os.environ, **place, **environment},
        input=answer,
        capture_output=True,
        text=True,
    )


async def open_shop(dsn: str, *, age: int = AGE) -> Story:
    database = await Database.connect(dsn, size_max=1)
    try:
        async with database.reading() as session:
            await session.execute(
                f"DO $$ BEGIN FOR i IN 1..{age} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
            )
        async with database.begin() as session:
            story = await shop.tell(session)
            await queue.enqueue(session, name="nothing", payload={})
        return story
    finally:
        await database.close()


async def award(dsn: str, story: Story) -> None:
    database = await Database.connect(dsn, size_max=1)
    try:
        async with database.begin() as session:
            await shop.award(session, story, 5, now=story.ends_at)
    finally:
        await database.close()


async def checksums(dsn: str) -> dict[str, tuple[int, str]]:
    """For each table the number of its rows, and a digest of them all."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            name: tuple(
                await connection.fetchrow(
                    f"SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {name} t"
                )
            )
            for (name,) in names
        }
    finally:
        await connection.close()


async def column(dsn: str, query: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def say(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
