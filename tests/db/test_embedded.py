"""Who owns the embedded Postgres, with real servers and real kills."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from crm.db import embedded
from crm.db.cluster import BIN, Cluster, EmbeddedPostgresError
from crm.db.embedded import EmbeddedPostgres

_USER = """
import sys
from pathlib import Path
from crm.db.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    print(server.dsn(), file=sys.stderr, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="setia-test-")).resolve()
    yield folder / "data"
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and folder in Path(process.cwd()).parents:
                process.kill()
        except (psutil.Error, OSError):
            continue
    shutil.rmtree(folder)


@pytest.fixture
def start_user(data_dir: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Another process that uses the server until its stdin is closed; it has the server when it is returned."""
    users = []

    def start() -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, "-c", _USER, str(data_dir)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        users.append(user)
        assert user.stderr is not None
        assert user.stderr.readline().startswith("postgresql://")
        return user

    yield start
    for user in users:
        user.kill()
        user.communicate()


def test_the_first_user_starts_a_server_and_the_last_one_stops_it(data_dir, start_user):
    with EmbeddedPostgres(data_dir) as first:
        pid = _postmaster(data_dir)
        other = start_user()
        assert _postmaster(data_dir) == pid
        assert _query(first, "SHOW synchronous_commit") == "on"
        assert _query(first, "SHOW data_checksums") == "on"
        assert _query(first, "SELECT current_user || ' ' || rolsuper FROM pg_roles WHERE rolname = current_user") == (
            "setia false"
        )

    assert _postmaster(data_dir) == pid, "the other user still needs it"
    other.communicate("")
    assert other.returncode == 0
    assert not _processes(data_dir)


def test_a_server_whose_users_were_killed_is_adopted_by_the_next(data_dir, start_user):
    killed = start_user()
    pid = _postmaster(data_dir)
    killed.kill()
    killed.wait()
    assert _postmaster(data_dir) == pid

    with EmbeddedPostgres(data_dir) as adopter:
        assert _postmaster(data_dir) == pid
        assert _query(adopter, "SELECT 1") == "1"
    assert not _processes(data_dir), "a killed user no longer counts"


def test_a_killed_server_is_started_again_with_everything_that_was_committed(data_dir):
    with EmbeddedPostgres(data_dir) as server:
        _query(server, "CREATE TABLE kept AS SELECT 7 AS n")
        pid = _kill_postmaster(data_dir)
        assert not server.is_running()

        server.ensure()

        assert server.is_running()
        assert _postmaster(data_dir) != pid
        assert _query(server, "SELECT n FROM kept") == "7"


def test_what_a_killed_server_left_running_does_not_keep_the_next_from_starting(data_dir, monkeypatch):
    monkeypatch.setattr(embedded, "ORPHANS_SECONDS_MAX", 0.3)
    with EmbeddedPostgres(data_dir) as server:
        endless = [BIN / "psql", "-X", server.dsn(), "-c", "DO 'BEGIN LOOP END LOOP; END'"]
        client = subprocess.Popen(endless, stderr=subprocess.DEVNULL)
        while _query(server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%'") == "0":
            time.sleep(0.02)
        _kill_postmaster(data_dir)
        assert _processes(data_dir), "a loop does not look whether its postmaster lives"

        server.ensure()

        assert _query(server, "SELECT 1") == "1"
        assert client.wait() != 0


@pytest.mark.parametrize("reused_by", ["nobody", "another program"])
def test_a_stale_pid_file_is_replaced(data_dir, reused_by):
    with EmbeddedPostgres(data_dir):
        pid_file = (data_dir / "postgres" / "postmaster.pid").read_text()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        if reused_by == "nobody":
            bystander.communicate(b"\n")
        stale = data_dir / "postgres" / "postmaster.pid"
        stale.write_text("\n".join([str(bystander.pid), *pid_file.splitlines()[1:]]) + "\n")

        with EmbeddedPostgres(data_dir) as server:
            assert _postmaster(data_dir) != bystander.pid
            assert _query(server, "SELECT 1") == "1"

        assert reused_by == "nobody" or bystander.poll() is None, "the other program is left alone"
    finally:
        bystander.kill()
        bystander.communicate()


def test_an_interrupted_first_start_is_begun_again(data_dir):
    half_made = data_dir / "postgres.new-abc"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres(data_dir) as server:
        assert _query(server, "SELECT 1") == "1"

    assert not half_made.exists()


def test_a_path_too_long_for_a_socket_is_fine(data_dir):
    deep = data_dir / ("d" * 100)

    with EmbeddedPostgres(deep) as server:
        socket_dir = Cluster(deep / "postgres").postmaster().socket_dir
        assert _query(server, "SELECT 1") == "1"
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    socket_dir.rmdir()


def test_a_socket_folder_of_somebody_else_is_refused(data_dir, monkeypatch):
    deep = data_dir / ("d" * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(data_dir))
    data_dir.mkdir()
    with EmbeddedPostgres(deep):
        socket_dir = Cluster(deep / "postgres").postmaster().socket_dir
    assert socket_dir.parent == data_dir
    socket_dir.rmdir()
    socket_dir.symlink_to(data_dir)

    with pytest.raises(EmbeddedPostgresError, match="should be a folder of"), EmbeddedPostgres(deep):
        pytest.fail("it must not start")


def test_two_data_directories_do_not_disturb_each_other(data_dir):
    with EmbeddedPostgres(data_dir / "one") as one, EmbeddedPostgres(data_dir / "two") as two:
        _query(one, "CREATE TABLE here ()")
        assert _postmaster(data_dir / "one") != _postmaster(data_dir / "two")
        assert _query(two, "SELECT count(*) FROM pg_tables WHERE tablename = 'here'") == "0"


def test_the_shell_s_settings_for_other_servers_are_ignored(data_dir, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    monkeypatch.setenv("PGDATA", "/nowhere")

    with EmbeddedPostgres(data_dir) as server:
        monkeypatch.delenv("PGOPTIONS")
        assert _query(server, "SELECT 1") == "1"


def test_data_of_another_major_version_is_refused_with_a_way_out(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")

    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 15.*crm restore"), EmbeddedPostgres(data_dir):
        pytest.fail("it must not start")


def test_a_folder_with_something_else_in_it_is_left_alone(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "diary.txt").write_text("dear diary")

    with pytest.raises(EmbeddedPostgresError, match="in the way"), EmbeddedPostgres(data_dir):
        pytest.fail("it must not start")

    assert (data_dir / "postgres" / "diary.txt").read_text() == "dear diary"


def test_nobody_else_can_reach_the_data_or_the_socket(data_dir):
    with EmbeddedPostgres(data_dir):
        for name in ("postgres", "postgres.socket"):
            assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o700
        assert (data_dir / "postgres" / "pg_hba.conf").read_text().count("peer") == 2


def _postmaster(data_dir: Path) -> int:
    found = Cluster(data_dir / "postgres").postmaster()
    assert found is not None
    return found.process.pid


def _kill_postmaster(data_dir: Path) -> int:
    pid = _postmaster(data_dir)
    os.kill(pid, signal.SIGKILL)
    while Cluster(data_dir / "postgres").postmaster() is not None:
        time.sleep(0.01)
    return pid


def _processes(data_dir: Path) -> list[psutil.Process]:
    return Cluster(data_dir / "postgres").processes()


def _query(server: EmbeddedPostgres, sql: str) -> str:
    command = [server.bin / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", server.dsn(), "-c", sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
