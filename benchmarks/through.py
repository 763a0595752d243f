"""Deliveries all the way: over HTTP, through the worker, onto the timelines; counted one by one, and timed."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import chat, load
from benchmarks.stage import CLIENTS

PACE: Final = 30
"""Deliveries a second, sent when they are due and not when the ones before are answered."""
PACED_SECONDS, PACED_SECONDS_QUICK = 30, 10
SECONDS_MAX: Final = 600
STORED_MS_MAX: Final = 10
_LOOK_SECONDS: Final = 0.002

_Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Times:
    """In milliseconds."""

    median: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        ordered = sorted(seconds)
        return cls(statistics.median(ordered) * 1e3, ordered[len(ordered) * 99 // 100] * 1e3)


@dataclass(frozen=True, slots=True)
class Found:
    """`rate` is of deliveries that are processed, by the time from the first that is sent to the last that is done."""

    count: int
    rate: float
    bare_rate: float
    stored: Times
    shown: Times

    def print(self, console: Console) -> None:
        """One table."""
        title = "(g) Inbox: over HTTP, through the worker, onto the timelines"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for name in ("", "median", "p99", "target", ""):
            table.add_column(name, justify="left" if not name else "right", no_wrap=True)
        table.add_row(
            f"{self.count:,} deliveries, a fifth repeated, none lost, none twice", f"{self.rate:,.0f}/s", "", "", ""
        )
        table.add_row("the same ÷ bare insert of the row, asyncpg", f"{self.rate / self.bare_rate:.4f}", "", "", "")
        met = "[green]met[/]" if self.stored.median < STORED_MS_MAX else "[red]missed[/]"
        table.add_row(
            f"verified and stored, {PACE}/s whatever is answered", f"{self.stored.median:.2f} ms",
            f"{self.stored.p99:.2f} ms", f"< {STORED_MS_MAX} ms", met,
        )  # fmt: skip
        table.add_row(
            "from delivery to timeline, of the same", f"{self.shown.median:.2f} ms", f"{self.shown.p99:.2f} ms", "", ""
        )
        console.print(table)


async def send_all(port: int, path: str, bodies: Iterable[dict[str, Any]], *, secret: str) -> None:
    """Deliver each once, over as many connections as there are clients."""
    left = iter(bodies)

    async def client() -> None:
        line = await _Line.open(port)
        for body in left:
            await line.send(_request(path, body, secret))
        line.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def drained(pool: _Pool, *, deliveries: int) -> None:
    """Wait until all are here and processed. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS_MAX):
        # What another process writes sets no event of ours.
        while await pool.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status = 'processed'") < deliveries:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def paced(
    pool: _Pool, port: int, path: str, bodies: Sequence[dict[str, Any]], *, secret: str
) -> tuple[Times, Times]:
    """How long each takes until it is answered, and until the timeline shows it, from when it is due."""
    due: dict[str, float] = {}
    stored: list[float] = []
    lines = cycle([await _Line.open(port) for _ in range(CLIENTS)])
    watching = asyncio.create_task(_watch(pool, len(bodies)))
    started = time.perf_counter() + 0.1

    async def one(number: int, body: dict[str, Any], line: "_Line") -> None:
        at = due[body["id"]] = started + number / PACE
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        await line.send(_request(path, body, secret))
        stored.append(time.perf_counter() - at)

    await asyncio.gather(*(one(number, body, next(lines)) for number, body in enumerate(bodies)))
    async with asyncio.timeout(SECONDS_MAX):
        seen = await watching
    return Times.of(stored), Times.of([seen[external_id] - at for external_id, at in due.items()])


async def _watch(pool: _Pool, count: int) -> dict[str, float]:
    """When each message was first seen on a timeline."""
    seen: dict[str, float] = {}
    after: tuple[int, UUID] = (0, UUID(int=0))
    async with pool.acquire() as connection:
        while len(seen) < count:
            rows = await connection.fetch(
                """
                SELECT xid, id, kind, external_id FROM interactions WHERE (xid, id) > ($1::xid8, $2) ORDER BY xid, id
                """,
                *after,
            )
            now = time.perf_counter()
            for row in rows:
                after = row["xid"], row["id"]
                if row["kind"] == "message":
                    seen[row["external_id"]] = now
            await asyncio.sleep(_LOOK_SECONDS)
    return seen


def _request(path: str, body: dict[str, Any], secret: str) -> bytes:
    signed = {chat.SIGNATURE: chat.signature(json.dumps(body).encode(), secret)}
    return load.request("POST", path, headers=signed, body=body)


class _Line:
    """A connection that is kept, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, port: int) -> "_Line":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, request: bytes) -> None:
        async with self._turn:
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            body = await self._reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{head.decode()}{body.decode()}")

    def close(self) -> None:
        self._writer.close()
