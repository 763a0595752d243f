"""Providers by which messages go out: each a local server that speaks its protocol, refuses what it would refuse, and
remembers what it took.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

TOKEN = "a token of ours"


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


Answer = tuple[int, dict[str, str], Any]
HANG = "hang"
"""In place of an answer: it takes the request, and says nothing."""
BREAK_OFF = "break off"
"""In place of an answer: it takes the request, and closes the connection."""


@dataclass
class Post:
    """A provider. `speak` answers like it; what is in `next_answers` is said before that, in turn."""

    speak: Callable[["Post", Asked], Answer]
    taken: list[Asked] = field(default_factory=list)
    next_answers: list[Answer | str] = field(default_factory=list)
    meanwhile: Callable[[Asked], Any] | None = None
    """Awaited between taking a request and answering it."""
    url: str = ""

    @asynccontextmanager
    async def open(self) -> Any:
        self._hung: list[asyncio.Future[None]] = []
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            for one in self._hung:
                one.cancel()
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                asked = await _read(reader)
                self.taken.append(asked)
                if self.meanwhile is not None:
                    await self.meanwhile(asked)
                answer = self.next_answers.pop(0) if self.next_answers else self.speak(self, asked)
                if answer == HANG:
                    hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._hung.append(hung)
                    await hung
                if answer == BREAK_OFF:
                    break
                assert isinstance(answer, tuple)
                writer.write(_written(*answer))
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


def _written(status: int, headers: dict[str, str], body: Any) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def graph_error(status: int, code: int, message: str = "It says no", **more: Any) -> Answer:
    """As Meta says no."""
    return status, {}, {"error": {"message": message, "type": "OAuthException", "code": code, **more}}


def whatsapp(post: Post, asked: Asked) -> Answer:
    """`POST /v24.0/{phone number id}/messages` of the Cloud API."""
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return graph_error(401, 190, "Invalid OAuth access token.")
    if asked.path != "/v24.0/PN1/messages":
        return graph_error(400, 100, f"Unsupported post request to {asked.path}.")
    body = asked.json
    if body["messaging_product"] != "whatsapp" or not (body.get("to") or body.get("recipient")):
        return graph_error(400, 131009, "Parameter value is not valid")
    if body["type"] == "text" and not body["text"]["body"]:
        return graph_error(400, 131009, "Parameter value is not valid")
    number = body.get("to") or body["recipient"]
    return 200, {}, {
        "messaging_product": "whatsapp", "contacts": [{"input": number, "wa_id": number}],
        "messages": [{"id": f"wamid.{len(post.taken)}"}],
    }  # fmt: skip


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
