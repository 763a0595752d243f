"""The product on a real port of this machine, and a client that calls it there."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Self

import httpx
import uvicorn
from litestar.types import ASGIApp

from crm.app import create_app
from crm.db.session import Database
from tests.conftest import Client, make_key


class Remote(Client):
    """The API over HTTP, as the holder of one key."""

    def __init__(self, origin: str, asgi: ASGIApp, database: Database, key: str | None) -> None:
        httpx.AsyncClient.__init__(
            self, base_url=origin, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60
        )
        self.origin = origin
        self.asgi = asgi
        self.database = database
        self._others: list[Remote] = []

    def holding(self, token: str) -> Self:
        other = type(self)(self.origin, self.asgi, self.database, token)
        self._others.append(other)
        return other

    async def aclose(self) -> None:
        for other in self._others:
            await other.aclose()
        await super().aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@asynccontextmanager
async def served(database: Any) -> AsyncIterator[tuple[str, ASGIApp]]:
    """The origin of the product, and the application that is behind it."""
    _, asgi = create_app(lambda: nullcontext(database))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(asgi, log_level="error", lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", asgi
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def calling(database: Database) -> AsyncIterator[Remote]:
    """The product's owner, who calls it over HTTP."""
    async with (
        served(database) as (origin, asgi),
        Remote(origin, asgi, database, (await make_key(database, "*")).key) as client,
    ):
        yield client
