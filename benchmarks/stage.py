"""Where it is measured: a Postgres of its own in a temporary folder, and servers that are real processes."""

import asyncio
import gc
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil

from benchmarks.rounds import Sample
from crm.db import migrations
from crm.db.cluster import ROLE
from crm.db.embedded import EmbeddedPostgres

CLIENTS = 8
"""Connections to Postgres, and over HTTP: four for each of two cores keep all busy without queueing."""
WARM_SECONDS = 0.3
OURS = ("-m", "crm.cli", "serve", "--no-worker")
BARE = ("-m", "benchmarks.serving", "benchmarks.bare:app_factory")

ROOT = Path(__file__).parents[1]
_START_SECONDS_MAX = 30
_TPS = re.compile(r"tps = ([\d.]+) \(without")
_TRANSACTIONS = re.compile(r"actually processed: (\d+)")
_LATENCY = re.compile(r"latency average = ([\d.]+) ms")


class RequestsRefused(Exception):
    """The load generator got answers that are no success: what it measured means nothing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The server with a migrated database that others are cloned from; `seconds` is the length of a turn."""

    server: EmbeddedPostgres
    folder: Path
    seconds: int

    def dsn(self, database: str) -> str:
        """How to reach one of the databases."""
        return self.server.dsn(database)

    async def database(self, name: str, *, template: str = "setia") -> str:
        """A fresh copy of a database, under a name that may have been used; its URL."""
        connection = await self._root()
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {ROLE} STRATEGY file_copy")
        await connection.close()
        return self.dsn(name)

    async def settled(self) -> None:
        """Write out what loading left behind, so that nobody pays for it while being measured."""
        connection = await self._root()
        await connection.execute("CHECKPOINT")
        await connection.close()

    async def quiet(self) -> None:
        """Wait until the connections just closed have ended: what an ending process used can not be seen."""
        await asyncio.sleep(0.2)

    def postgres_seconds(self) -> float:
        """CPU time that Postgres has used so far, in all its processes."""
        pid = int((self.folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        return family_seconds(psutil.Process(pid))

    async def http(
        self, served: "Served", requests: Sequence[Mapping[str, Any]], *, connections: int = CLIENTS, each: int = 1
    ) -> Sample:
        """Send requests for the length of a turn; every answer counts as `each` operations. Raises RequestsRefused."""
        job = {
            "port": served.port, "requests": list(requests), "connections": connections, "seconds": self.seconds,
            "warm_seconds": WARM_SECONDS,
        }  # fmt: skip
        python, postgres = served.python_seconds(), self.postgres_seconds()
        generator = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        said, complaint = await generator.communicate(json.dumps(job).encode())
        if generator.returncode or complaint:
            raise RequestsRefused(f"{complaint.decode()}\n{served.log.read_text()[-2_000:]}")
        result = json.loads(said)
        count = result["answered"] * each
        return Sample(
            result["rate"] * each, result["p50_ms"],
            (served.python_seconds() - python) / count * 1e6, (self.postgres_seconds() - postgres) / count * 1e6,
        )  # fmt: skip

    async def direct(
        self, operation: Callable[[], Awaitable[object]], *, clients: int = CLIENTS, each: int = 1
    ) -> Sample:
        """Run an operation from this process, `clients` at a time, for the length of a turn."""
        gc.collect()
        gc.freeze()  # what the benchmark itself keeps in memory must not be searched for garbage meanwhile
        opens_at = time.perf_counter() + WARM_SECONDS
        closes_at = opens_at + self.seconds
        done = counted = 0

        async def client() -> None:
            nonlocal done, counted
            while (now := time.perf_counter()) < closes_at:
                await operation()
                done += 1
                counted += opens_at <= now

        python, postgres = time.process_time(), self.postgres_seconds()
        await asyncio.gather(*(client() for _ in range(clients)))
        count = done * each
        return Sample(
            counted * each / (time.perf_counter() - opens_at), None,
            (time.process_time() - python) / count * 1e6, (self.postgres_seconds() - postgres) / count * 1e6,
        )  # fmt: skip

    async def pgbench(self, database: str, *options: str) -> Sample:
        """Let pgbench work for the length of a turn."""
        postgres = self.postgres_seconds()
        said = await self._pgbench(
            database, f"--client={CLIENTS}", "--jobs=2", f"--time={self.seconds}", "--no-vacuum", *options
        )
        found = [pattern.search(said) for pattern in (_TPS, _LATENCY, _TRANSACTIONS)]
        rate, latency, count = (float(match[1]) for match in found if match)
        return Sample(rate, latency, None, (self.postgres_seconds() - postgres) / count * 1e6)

    async def make_tpcb(self, database: str, *, scale: int) -> None:
        """pgbench's own tables."""
        await self._pgbench(database, "--initialize", "--quiet", f"--scale={scale}")

    async def _pgbench(self, database: str, *options: str) -> str:
        address = urlsplit(self.dsn(database))
        process = await asyncio.create_subprocess_exec(
            self.server.bin / "pgbench", *options, f"--host={parse_qs(address.query)['host'][0]}",
            f"--username={ROLE}", database, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, complaint = await process.communicate()
        if process.returncode:
            raise RuntimeError(complaint.decode())
        await self.quiet()
        return said.decode()

    async def _root(self) -> Any:
        # Only a superuser may end an autovacuum that stands in the way.
        return await asyncpg.connect(self.server.dsn("postgres", user="postgres"))


@dataclass(frozen=True, slots=True)
class Served:
    """An application that answers on a port of this machine."""

    port: int
    log: Path
    process: psutil.Process

    def python_seconds(self) -> float:
        """CPU time that its processes have used so far."""
        return family_seconds(self.process)


def family_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children, those that have ended included."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system
    return float(total)


def children_seconds() -> float:
    """CPU time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def opened(seconds: int) -> Iterator[Stage]:
    """Start Postgres as it comes, durability and all, and bring its first database to our schema."""
    folder = Path(tempfile.mkdtemp(prefix="setia-bench-"))
    try:
        folder.chmod(0o711)  # the server runs as another account where we are root
        with EmbeddedPostgres(folder) as server:
            migrations.upgrade(server.dsn())
            yield Stage(server, folder, seconds)
    finally:
        shutil.rmtree(folder)


def environment(dsn: str) -> dict[str, str]:
    """What a program of ours is started with to work on a database, whatever the owner has configured for others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    return inherited | {"CRM_DATABASE_URL": dsn}


@asynccontextmanager
async def serving(stage: Stage, command: Sequence[str], dsn: str, **more: str) -> AsyncIterator[Served]:
    """Run a server on a database: one API process, as many connections as there are clients, and `more` settings."""
    port = _free_port()
    log = stage.folder / f"server-{port}.log"
    settings = environment(dsn) | {"CRM_PORT": str(port), "CRM_POOL_SIZE_MAX": str(CLIENTS)} | more
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=settings, stdout=output, stderr=output, cwd=ROOT
        )
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            while not await _answers(port):
                if process.returncode is not None:
                    raise RuntimeError(f"{' '.join(command)} ended:\n{log.read_text()[-4_000:]}")
                await asyncio.sleep(0.1)
        yield Served(port, log, psutil.Process(process.pid))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    return said.startswith(b"HTTP/1.1 200")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
