"""A load generator that costs little: prepared requests over keep-alive connections, for a span of time.

It runs in a process of its own, so that it does not share the server's interpreter:
`python -m benchmarks.load` reads a job as JSON from stdin and prints what came of it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop

STAMP = "@" * 20
"""Where it stands in a request, a number stands that was never sent before."""

_STAMP = STAMP.encode()


class _Window:
    """The span in which requests count; what is sent before it only warms the server."""

    def __init__(self, warm_seconds: float, seconds: float) -> None:
        self.opens_at = time.perf_counter() + warm_seconds
        self.closes_at = self.opens_at + seconds
        self.latencies: list[float] = []
        self.answered = 0
        self.failures = 0
        self.number = time.time_ns()


class _Client(asyncio.Protocol):
    def __init__(
        self, requests: Sequence[tuple[bytes, bool]], first: int, window: _Window, done: "asyncio.Future[None]"
    ) -> None:
        self._requests = requests
        self._place = first
        self._window = window
        self._done = done
        self._buffer = b""
        self._sent_at = 0.0
        self._first_at = 0.0
        self._last_at = 0.0
        self._counted = 0

    @property
    def rate(self) -> float:
        """Answers a second, over exactly the time that the counted ones took."""
        return self._counted / (self._last_at - self._first_at)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next(time.perf_counter())

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return
        now = time.perf_counter()
        window = self._window
        window.answered += 1
        if self._sent_at >= window.opens_at:
            window.latencies.append(now - self._sent_at)
            self._first_at = self._first_at or self._sent_at
            self._last_at = now
            self._counted += 1
        if not head.startswith(b"HTTP/1.1 2"):
            window.failures += 1
            if window.failures == 1:
                print(self._buffer[:2_000].decode(errors="replace"), file=sys.stderr)
        self._buffer = b""
        self._next(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _next(self, now: float) -> None:
        if now >= self._window.closes_at and self._counted:
            self._done.set_result(None)
            self._transport.close()
            return
        content, stamped = self._requests[self._place % len(self._requests)]
        self._place += 1
        if stamped:
            self._window.number += 1
            content = content.replace(_STAMP, b"%020d" % self._window.number)
        self._sent_at = time.perf_counter()
        self._transport.write(content)


async def run(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float, warm_seconds: float
) -> dict[str, float]:
    """Send the requests over and over. Requests/s, latency quantiles in ms, all answers with the warming ones."""
    loop = asyncio.get_running_loop()
    prepared = [(content, _STAMP in content) for content in requests]
    window = _Window(warm_seconds, seconds)
    clients, waits = [], []
    for number in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        client = _Client(prepared, number * len(prepared) // connections, window, done)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
        waits.append(done)
    await asyncio.gather(*waits)
    latencies = sorted(window.latencies)
    return {
        "rate": sum(client.rate for client in clients),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
        "answered": window.answered,
        "failures": window.failures,
    }


def request(
    method: str,
    path: str,
    *,
    token: str = "",
    key: str = "",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
) -> bytes:
    """One prepared request; `key` is its Idempotency-Key."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(content)}"]
    if token:
        lines.append(f"authorization: Bearer {token}")
    if key:
        lines.append(f"idempotency-key: {key}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append("content-type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def main() -> None:
    """Carry out the job on stdin."""
    job = json.load(sys.stdin)
    requests = [request(**one) for one in job.pop("requests")]
    print(json.dumps(uvloop.run(run(job.pop("port"), requests, **job))))


if __name__ == "__main__":
    main()
