"""`crm serve` as its owner meets it: a real process with its own Postgres, stopped, killed and begun again."""

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from crm.db.cluster import Cluster

CRM = [sys.executable, "-m", "crm.cli"]


def command_of(process: psutil.Process) -> list[str]:
    """What a process was started with; nothing of one that has just ended and is still in the list."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Shop:
    """One data directory and one port."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.cluster = Cluster(self.data_dir / "postgres")
        self.printed = folder / "printed"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
        self.environment |= {"CRM_DATA_DIR": str(self.data_dir), "CRM_PORT": str(self.port)}
        self.serving: psutil.Popen | None = None

    def serve(self, *args: str) -> psutil.Popen:
        """Start it and wait until it says that it answers."""
        with self.printed.open("w") as printed:
            self.serving = psutil.Popen([*CRM, "serve", *args], env=self.environment, stdout=printed, stderr=printed)
        self.eventually(lambda: "answers at" in self.printed.read_text())
        return self.serving

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.serving is not None
        self.serving.send_signal(number)
        code: int = self.serving.wait(20)
        return code

    def status(self, path: str, key: str = "") -> int:
        """The status of a GET, 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def child(self, mark: str) -> psutil.Process:
        assert self.serving is not None
        return next(child for child in self.serving.children() if mark in " ".join(command_of(child)))

    def eventually(self, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.printed.read_text()
            assert self.serving is None or self.serving.poll() in (None, -signal.SIGKILL), self.printed.read_text()
            time.sleep(0.05)


@pytest.fixture
def shop() -> Iterator[Shop]:
    folder = Path(tempfile.mkdtemp(prefix="setia-test-")).resolve()
    shop = Shop(folder)
    yield shop
    if shop.serving is not None and shop.serving.is_running():
        for process in (shop.serving, *shop.serving.children(recursive=True)):
            process.kill()
        shop.serving.wait()
    for process in shop.cluster.processes():
        process.kill()
    shutil.rmtree(folder)


def test_the_first_start_gives_the_owner_a_key_and_no_later_one_does(shop):
    shop.serve()
    key = re.search(r"shown only this once: (\S+)", shop.printed.read_text())[1]
    assert shop.status("/v1/keys", key) == 200
    assert shop.status("/schema") == 200
    assert shop.child("worker").is_running()

    assert shop.stop(signal.SIGINT) == 0
    assert not shop.cluster.processes()

    shop.serve("--no-worker")
    assert "only this once" not in shop.printed.read_text()
    assert shop.status("/v1/keys", key) == 200
    assert not [child for child in shop.serving.children() if "worker" in command_of(child)]
    assert shop.stop(signal.SIGTERM) == 0
    assert not shop.cluster.processes()


def test_a_port_in_use_is_said_before_anything_else_is_done(shop):
    with socket.socket() as other:
        other.bind(("127.0.0.1", shop.port))
        other.listen()
        refused = subprocess.run([*CRM, "serve"], env=shop.environment, capture_output=True, text=True)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.splitlines() == [
        f"crm: can't listen on 127.0.0.1:{shop.port}: Address already in use. Choose another with CRM_PORT or CRM_HOST."
    ]
    assert not shop.data_dir.exists()


def test_a_wrong_setting_is_named(shop):
    refused = subprocess.run(
        [*CRM, "serve"], env=shop.environment | {"CRM_PORT": "eighty"}, capture_output=True, text=True
    )

    assert refused.returncode == 1
    assert refused.stderr.startswith("crm: CRM_PORT: ")
    assert len(refused.stderr.splitlines()) == 1


def test_an_unreachable_database_is_said_in_a_sentence(shop):
    shop.environment["CRM_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nowhere"
    for command in ("serve", "worker", "migrate"):
        refused = subprocess.run([*CRM, command], env=shop.environment, capture_output=True, text=True)
        assert refused.returncode == 1
        assert refused.stderr.startswith("crm: the database can't be used: ")
        assert len(refused.stderr.splitlines()) == 1


def test_nothing_but_postgres_outlives_a_kill_and_the_next_start_adopts_it(shop):
    serving = shop.serve()
    family = serving.children(recursive=True)
    postmaster = shop.cluster.postmaster().process
    shop.stop(signal.SIGKILL)

    _, alive = psutil.wait_procs(family, timeout=4)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert shop.cluster.postmaster().process == postmaster

    shop.serve("--no-worker")
    assert shop.cluster.postmaster().process == postmaster
    assert shop.status("/health/ready") == 200
    assert shop.stop() == 0
    assert not shop.cluster.processes()


def test_whatever_is_killed_comes_back(shop):
    shop.serve()
    worker = shop.child("worker")
    worker.kill()
    for _ in range(2):
        shop.child("spawn_main").kill()
        shop.eventually(lambda: shop.status("/health/ready") == 0)
        shop.eventually(lambda: shop.status("/health/ready") == 200)
    postmaster = shop.cluster.postmaster().process
    postmaster.kill()
    shop.eventually(lambda: (found := shop.cluster.postmaster()) is not None and found.process != postmaster)
    shop.eventually(lambda: shop.status("/health/ready") == 200)
    assert shop.child("worker").pid != worker.pid

    assert shop.stop() == 0
    assert not shop.cluster.processes()


def test_a_configured_database_is_used_without_another_postgres(shop, dsn):
    shop.environment["CRM_DATABASE_URL"] = dsn
    shop.serve("--no-worker")
    assert shop.status("/health/ready") == 200
    assert not shop.data_dir.exists()
    assert shop.stop() == 0
