"""Answers that are sent while they are being made, however long they are."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send


class Streamed(Response[str]):
    """An answer in parts. What makes them is ended when the last one is sent, and at once when the caller goes away."""

    def __init__(self, parts: AsyncGenerator[bytes, None], *, media_type: str, filename: str) -> None:
        super().__init__(
            "", media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{filename}"'}
        )
        self._parts = parts

    def to_asgi_response(self, *_: Any, status_code: int | None = None, **__: Any) -> ASGIResponse:
        return _InParts(self._parts, status_code=status_code, media_type=self.media_type, headers=self.headers)


class _InParts(ASGIResponse):
    _should_set_content_length = False

    def __init__(self, parts: AsyncGenerator[bytes, None], **options: Any) -> None:
        super().__init__(**options)
        self._parts = parts

    async def send_body(self, send: Send, receive: Receive) -> None:
        gone = asyncio.create_task(_gone(receive))
        sending = asyncio.create_task(self._send(send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending

    async def _send(self, send: Send) -> None:
        async with aclosing(self._parts) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
