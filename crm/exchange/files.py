"""Files that were uploaded, in the database piece by piece, for a worker on whatever machine."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from crm.db.session import Database, Session
from crm.exchange.readability import UnreadableFile

CHUNK: Final = 262_144


async def keep(session: Session, *, import_id: UUID, path: Path) -> None:
    """Store the file of an import."""
    number = 0
    with _open(path) as file:
        while data := await asyncio.to_thread(file.read, CHUNK):
            await session.execute(
                "INSERT INTO import_chunks (import_id, number, data) VALUES ($1, $2, $3)", import_id, number, data
            )
            number += 1


@asynccontextmanager
async def unpacked(database: Database, *, import_id: UUID) -> AsyncIterator[Path]:
    """The file of an import on this machine's disk, for as long as the block lasts. Raises UnreadableFile."""
    with tempfile.NamedTemporaryFile(prefix="setia-import-") as file:
        number = 0
        while (data := await _chunk(database, import_id, number)) is not None:
            await asyncio.to_thread(file.write, data)
            number += 1
        if not number:
            raise UnreadableFile("The file is not kept any more. Upload it again.")
        await asyncio.to_thread(file.flush)
        yield Path(file.name)


async def _chunk(database: Database, import_id: UUID, number: int) -> bytes | None:
    async with database.reading() as session:
        data: bytes | None = await session.fetchval(
            "SELECT data FROM import_chunks WHERE import_id = $1 AND number = $2", import_id, number
        )
        return data


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")
