"""Everything killed in the middle of a storm: what was answered is there, and what was not can be asked for again."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from crm.db.cluster import Cluster
from crm.db.ids import uuid7

CRM = [sys.executable, "-m", "crm.cli"]
CLIENTS = 12
STORM_SECONDS = 0.8
HEAL_SECONDS_MAX = 20


@dataclass
class Storm:
    """Awards by their keys: to whom and how many, and the answers of those that were answered."""

    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def unanswered(self) -> list[str]:
        return [key for key in self.asked if key not in self.answered]


class Service:
    """`crm serve` with its own Postgres in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Cluster(folder / "data" / "postgres")
        self._printed = folder / "printed"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ours = {name: value for name, value in environ.items() if not name.startswith("CRM_")}
        self._environment = ours | {"CRM_DATA_DIR": str(folder / "data"), "CRM_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self.key = ""
        self.people: list[str] = []
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        with self._printed.open("w") as printed:
            self.process = psutil.Popen([*CRM, "serve"], env=self._environment, stdout=printed, stderr=printed)
        deadline = time.monotonic() + 40
        while "answers at" not in self._printed.read_text():
            assert time.monotonic() < deadline, self._printed.read_text()
            assert self.process.poll() is None, self._printed.read_text()
            time.sleep(0.05)
        if shown := re.search(r"only this once: (\S+)", self._printed.read_text()):
            self.key = shown[1]

    def ensure(self) -> None:
        """Start it again if it was killed."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """Without a word, and with everything it started but Postgres."""
        if self.process is None or not self.process.is_running():
            return
        ours = set(self.process.children(recursive=True)) - set(self.cluster.processes())
        for process in (self.process, *ours):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    def kill_postgres(self) -> None:
        """The postmaster first, so that it can't tidy up after its children."""
        postmaster = self.cluster.postmaster()
        assert postmaster is not None
        for process in (postmaster.process, *postmaster.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def errors(self) -> str:
        """What it logged that nobody should see."""
        return "\n".join(line for line in self._printed.read_text().splitlines() if '"level":"error"' in line)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=10)

    def audit(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*CRM, "ledger", "verify"], env=self._environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    folder = Path(tempfile.mkdtemp(prefix="setia-crash-")).resolve()
    service = Service(folder)
    try:
        service.start()
        asyncio.run(_open_shop(service))
        yield service
    finally:
        service.kill()
        for process in service.cluster.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder)


async def _open_shop(service: Service) -> None:
    async with service.client() as client:
        program = {"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"}
        assert (await client.post("/v1/programs", json=program)).status_code == 201
        for number in range(5):
            made = await client.post("/v1/contacts", json={"name": f"Member {number}"})
            assert made.status_code == 201, made.text
            service.people.append(made.json()["id"])


def _kill_the_service(service: Service) -> None:
    service.kill()


def _kill_everything(service: Service) -> None:
    service.kill_postgres()
    service.kill()


def _kill_only_postgres(service: Service) -> None:
    service.kill_postgres()


@pytest.mark.parametrize("killed", [_kill_the_service, _kill_everything, _kill_only_postgres])
def test_what_was_answered_is_there_once_and_the_rest_can_be_asked_for_again(service, killed):
    service.ensure()
    before = asyncio.run(_ledger(service))
    storm = asyncio.run(_storm(service, killed))
    assert len(storm.answered) > 20
    assert storm.unanswered, "the kill came in the middle"

    service.ensure()
    asyncio.run(_ask_again(service, storm))

    after = asyncio.run(_ledger(service))
    new = {entry: facts for entry, facts in after.items() if entry not in before}
    assert {entry: after[entry] for entry in before} == before
    assert Counter(new.values()) == Counter(storm.asked.values())
    assert {answer["transaction_id"]: storm.asked[key] for key, answer in storm.answered.items()} == new


async def _storm(service: Service, kill: Callable[[Service], None]) -> Storm:
    storm, over = Storm(), asyncio.Event()

    async def clerk(client: httpx.AsyncClient, number: int) -> None:
        while not over.is_set():
            key = str(uuid7())
            storm.asked[key] = (service.people[number % len(service.people)], 1 + number)
            await _award(service, client, storm, key)

    async with service.client() as client:
        clerks = [asyncio.create_task(clerk(client, number)) for number in range(CLIENTS)]
        await asyncio.sleep(STORM_SECONDS)
        await asyncio.to_thread(kill, service)
        over.set()
        await asyncio.gather(*clerks)
    return storm


async def _award(service: Service, client: httpx.AsyncClient, storm: Storm, key: str) -> None:
    contact_id, points = storm.asked[key]
    try:
        answer = await client.post(
            f"/v1/contacts/{contact_id}/points-awards",
            json={"points": points, "reason": "storm"},
            headers={"Idempotency-Key": key},
        )
    except httpx.HTTPError:
        return
    assert answer.status_code in {201, 503}, service.errors()
    if answer.status_code == 201:
        storm.answered[key] = answer.json()


async def _ask_again(service: Service, storm: Storm) -> None:
    """As a client does that was not answered: the same request with the same key, until there is an answer."""
    deadline = time.monotonic() + HEAL_SECONDS_MAX
    async with service.client() as client:
        for key in storm.unanswered:
            while key not in storm.answered:
                assert time.monotonic() < deadline, "it heals by itself"
                await _award(service, client, storm, key)


async def _ledger(service: Service) -> dict[str, tuple[str, int]]:
    """Every transaction: whose it is and how many points."""
    found = {}
    async with service.client() as client:
        for contact_id in service.people:
            cursor, total = "", 0
            while cursor is not None:
                url = f"/v1/contacts/{contact_id}/points-transactions?limit=200{cursor and f'&cursor={cursor}'}"
                page = (await client.get(url)).json()
                for entry in page["items"]:
                    assert entry["id"] not in found
                    found[entry["id"]] = (contact_id, entry["points"])
                    total += entry["points"]
                cursor = page["next_cursor"]
            balance = (await client.get(f"/v1/contacts/{contact_id}/loyalty")).json()
            assert balance["available"] == balance["lifetime_earned"] == total
    return found


def test_after_all_that_the_audit_finds_nothing_and_the_service_stops_in_good_order(service):
    service.ensure()
    audit = service.audit()
    assert audit.returncode == 0, audit.stdout + audit.stderr
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert not service.cluster.processes()
