"""A language model for tests: a server of the protocol that says what a test tells it to."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

Turn = Callable[[dict[str, Any]], "Reply"]


@dataclass
class Reply:
    """What the server answers, after a while."""

    body: bytes
    status: int = 200
    seconds: float = 0


@dataclass
class ToyModel:
    """The turns that it takes, the last one for ever; and what it was asked."""

    turns: list[Reply | Turn] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        assert scope["path"] == "/v1/chat/completions"
        self.authorization.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        self.asked.append(json.loads(body))
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        reply = turn if isinstance(turn, Reply) else turn(self.asked[-1])
        await asyncio.sleep(reply.seconds)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL."""
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            server = uvicorn.Server(uvicorn.Config(self, log_level="error", lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            server.should_exit = True
            server.force_exit = True
            await serving


def text(said: str) -> Reply:
    """An answer in words."""
    return _message({"role": "assistant", "content": said})


def calls(*tools: tuple[str, Any]) -> Reply:
    """A wish for tools, each with its arguments, or with whatever else stands in their place."""
    return _message({
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call-{number}", "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for number, (name, given) in enumerate(tools)
        ],
    })  # fmt: skip


def heard(asked: dict[str, Any]) -> list[Any]:
    """What the tools told in a conversation."""
    return [json.loads(message["content"]) for message in asked["messages"] if message["role"] == "tool"]


def _message(message: dict[str, Any]) -> Reply:
    return Reply(json.dumps({"id": "x", "choices": [{"index": 0, "message": message}]}).encode())
