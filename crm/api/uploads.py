"""Files in requests: written to the disk as they arrive, while no connection to the database is held."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crm.api.errors import NoTable
from crm.api.requests import once_of
from crm.api.routes import AnyRequest
from crm.db import idempotency

XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TABLES: Final = ("text/csv", XLSX, "application/octet-stream")
"""What a table is sent as. Which of them it is, and in which encoding, the file itself tells."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on the disk; `once` is the request's identity for retries, its content and its query included."""

    path: Path
    once: idempotency.Request | None


@asynccontextmanager
async def received(request: AnyRequest) -> AsyncIterator[Upload]:
    """The body of a request, for as long as the block lasts. Raises NoTable."""
    kind = request.content_type[0]
    if kind not in TABLES:
        raise NoTable(f"Send the file itself as the body, as one of {', '.join(TABLES)}; this is {kind or 'nothing'}.")
    content = hashlib.sha256(request.scope["query_string"] + b"\n")
    with tempfile.NamedTemporaryFile(prefix="setia-upload-") as file:
        async for block in request.stream():
            content.update(block)
            await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(file.flush)
        yield Upload(Path(file.name), once_of(request, content.digest()))
