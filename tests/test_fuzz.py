"""The contract against a real server: what it allows works, what it forbids is refused, nothing breaks it.

`FUZZ_EXAMPLES=100 pytest tests/test_fuzz.py` looks longer.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.conftest import Template

EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "3")
NARROW = ("contacts:read", "loyalty:read")
ROOT = Path(__file__).parent.parent
CRM = [sys.executable, "-m", "crm.cli"]


@dataclass(frozen=True)
class Server:
    url: str
    environment: dict[str, str]
    log: Path
    owner: str


@pytest.fixture(scope="module")
def server(migrated: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product, as its owner runs it, on a database of its own."""
    with asyncio.Runner() as runner, socket.socket() as probe:
        clone = migrated.clone()
        dsn = runner.run(clone.__aenter__())
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "COV_"))}
        environment |= {
            "CRM_DATABASE_URL": dsn, "CRM_PORT": str(port), "CRM_LOG_LEVEL": "warning", "CRM_LOG_FORMAT": "json",
        }  # fmt: skip
        log = tmp_path_factory.mktemp("server") / "log"
        with log.open("w") as printed:
            serving = subprocess.Popen(
                [*CRM, "serve", "--no-worker"], cwd=ROOT, env=environment, stdout=printed, stderr=printed
            )
        try:
            deadline = time.monotonic() + 30
            while "answers at" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                assert serving.poll() is None, log.read_text()
                time.sleep(0.05)
            owner = re.search(r"shown only this once: (\S+)", log.read_text())
            assert owner is not None
            yield Server(f"http://127.0.0.1:{port}", environment, log, owner[1])
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(20)
            runner.run(clone.__aexit__(None, None, None))


def fuzz(server: Server, key: str, *scopes: str, phases: str) -> str:
    """What the fuzzer says after a run with this key."""
    authorization = {"Authorization": f"Bearer {key}"}
    keys = httpx.get(f"{server.url}/v1/keys", headers={"Authorization": f"Bearer {server.owner}"}).json()["items"]
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(ROOT / "tests/schemathesis.toml"),
            "run", f"{server.url}/schema/openapi.json", "--header", f"Authorization: {authorization['Authorization']}",
            "--phases", phases, "--max-examples", EXAMPLES, "--warnings", "off",
        ],
        cwd=server.log.parent,
        env=server.environment | {
            "PYTHONPATH": str(ROOT),
            "SETIA_FUZZ_SCOPES": " ".join(scopes),
            "SETIA_FUZZ_KEY_IDS": " ".join(each["id"] for each in keys),
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_owner_can_break_nothing(server):
    said = fuzz(server, server.owner, "*", phases="examples,coverage,fuzzing,stateful")
    assert re.search(r"(\d+) generated", said)
    assert "Stateful" in said

    verified = subprocess.run(
        [*CRM, "ledger", "verify"], cwd=ROOT, env=server.environment, capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout
    # Nothing unexpected, and no value that our checks let through and the database refused.
    log = server.log.read_text()
    assert "unexpected" not in log
    assert "unchecked_value" not in log


def test_the_stateful_phase_reaches_the_ledger(server):
    """The chain of award, redemption and reversal was walked, not only its first step."""

    async def counted() -> dict[str, int]:
        connection = await asyncpg.connect(server.environment["CRM_DATABASE_URL"])
        rows = await connection.fetch("SELECT cause, count(*) FROM points_transactions GROUP BY cause")
        await connection.close()
        return dict(rows)

    done = asyncio.run(counted())
    assert done.keys() >= {"award", "adjustment", "redemption", "reversal", "purchase"}, done


def test_a_narrow_key_can_do_no_more_than_its_scopes_say(server):
    made = httpx.post(
        f"{server.url}/v1/keys",
        json={"name": "narrow", "scopes": list(NARROW)},
        headers={"Authorization": f"Bearer {server.owner}"},
    )
    fuzz(server, made.json()["key"], *NARROW, phases="examples,coverage,fuzzing")
    assert "unexpected" not in server.log.read_text()
