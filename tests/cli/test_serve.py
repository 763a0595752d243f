"""`crm serve` as its owner meets it: a real process with its own Postgres, stopped, killed and begun again."""

import signal
import socket
import subprocess

import psutil

from tests.cli.started import CRM, command_of


def test_the_first_start_gives_the_owner_a_key_and_no_later_one_does(shop):
    shop.serve()
    key = shop.key()
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
