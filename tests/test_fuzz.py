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

PHASES = "examples,coverage,fuzzing,stateful"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "3")
NARROW = ("contacts:read", "loyalty:read")
ROOT = Path(__file__).parent.parent
CRM = [sys.executable, "-m", "crm.cli"]


@dataclass(frozen=True)
class Server:
    url: str
    environment: dict[str, str]
    log: Path
    owner: httpx.Client


@pytest.fixture(scope="module")
def server(migrated: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The product, as its owner runs it, on a database of its own."""
    with asyncio.Runner() as runner, socket.socket() as probe:
        clone = migrated.clone()
        dsn = runner.run(clone.__aenter__())
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CRM_", "COV"))}
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
            key = re.search(r"shown only this once: (\S+)", log.read_text())
            assert key is not None
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {key[1]}"}) as owner:
                yield Server(url, environment, log, owner)
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(20)
            runner.run(clone.__aexit__(None, None, None))


def fuzz(server: Server, key: str, *scopes: str, phases: str, paths: str = ".") -> None:
    """Let the fuzzer loose with this key or token, on the paths where the pattern is found."""
    asking = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--no-color",
        "--config-file",
        str(ROOT / "tests/schemathesis.toml"),
    ]
    run = subprocess.run(
        [
            *asking, "run", f"{server.url}/schema/openapi.json", "--header", f"Authorization: Bearer {key}",
            "--phases", phases, "--max-examples", EXAMPLES, "--warnings", "off", "--include-path-regex", paths,
        ],
        cwd=server.log.parent,
        env=server.environment | {
            "PYTHONPATH": str(ROOT),
            "SETIA_FUZZ_SCOPES": " ".join(scopes),
            "SETIA_FUZZ_KEY_IDS": " ".join(each["id"] for each in server.owner.get("/keys").json()["items"]),
            "SETIA_FUZZ_CONTACT": member(server.owner),
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    # Nothing unexpected, and no value that our checks let through and the database refused.
    log = server.log.read_text()
    assert "unexpected" not in log
    assert "unchecked_value" not in log


def member(owner: httpx.Client) -> str:
    """The id of somebody with points, in a program that is the default."""
    if not owner.get("/programs").json()["items"]:
        program = owner.post("/programs", json={"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"}).json()
        rule = {"name": "A point for each 1,000", "kind": "per_amount", "per": "1000"}
        owner.post(f"/programs/{program['id']}/earning-rules", json=rule).raise_for_status()
        owner.post(f"/programs/{program['id']}/tiers", json={"name": "Gold", "threshold": 1000}).raise_for_status()
    contact: str = owner.post("/contacts", json={"name": "Sari"}).json()["id"]
    award = {"points": 1_000_000, "reason": "welcome"}
    owner.post(f"/contacts/{contact}/points-awards", json=award).raise_for_status()
    return contact


def test_the_owner_can_break_nothing(server):
    fuzz(server, server.owner.headers["Authorization"].removeprefix("Bearer "), "*", phases=PHASES)

    verified = subprocess.run(
        [*CRM, "ledger", "verify"], cwd=ROOT, env=server.environment, capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout
    # It was more than refusals: every kind of post happened, reversals of redemptions included.
    assert asyncio.run(posted(server.environment["CRM_DATABASE_URL"])) >= {
        "award", "adjustment", "redemption", "reversal", "purchase",
    }  # fmt: skip


async def posted(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT DISTINCT cause FROM points_transactions")
    await connection.close()
    return {row["cause"] for row in rows}


def test_a_narrow_key_can_do_no_more_than_its_scopes_say(server):
    made = server.owner.post("/keys", json={"name": "narrow", "scopes": NARROW}).json()
    fuzz(server, made["key"], *NARROW, phases="examples,fuzzing")


def test_a_member_can_break_nothing_of_theirs(server):
    contact = member(server.owner)
    token = server.owner.post(f"/contacts/{contact}/member-tokens", json={}).json()["token"]
    fuzz(server, token, "member", phases="examples,coverage,fuzzing", paths="^/v1/me")
