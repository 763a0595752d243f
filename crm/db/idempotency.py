"""One effect for each Idempotency-Key: the first answer is kept with its transaction and given again.

Only 2xx answers are kept, so a refused request may be corrected and sent again under the same key.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, LargeBinary, SmallInteger, Table, Uuid

from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, write
from crm.errors import Invalid

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("contact_id", Uuid),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False),
)


class IdempotencyKeyReused(Invalid):
    code = "idempotency_key_reused"
    title = "This Idempotency-Key belongs to another request"


class Replay(Exception):
    """The request was carried out before: not an error, but the end of the work. Carries the first answer."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Request:
    """A request that must have at most one effect; `key` is scoped to principal, method and path."""

    key: bytes
    content_hash: bytes

    @classmethod
    def of(cls, *, principal: str, method: str, path: str, key: str, body: bytes) -> "Request":
        scoped = hashlib.sha256(f"{principal}\n{method}\n{path}\n{key}".encode()).digest()
        return cls(scoped, hashlib.sha256(body).digest())

    def replay(self, *, content_hash: bytes, status: int, body: bytes) -> None:
        """End the work with the stored answer. Raises Replay or IdempotencyKeyReused, always."""
        if content_hash != self.content_hash:
            raise IdempotencyKeyReused("Use a new key for a new request; this one was used with another body.")
        raise Replay(status, body)


async def begin(session: Session, *, request: Request | None) -> None:
    """Wait for a parallel request with the same key, then go on as the first, or raise Replay."""
    if request is None:
        return
    await session.execute(
        "SELECT pg_advisory_xact_lock(('x' || encode(substr($1::bytea, 1, 8), 'hex'))::bit(64)::bigint)", request.key
    )
    row = await session.fetchrow("SELECT request_hash, status, body FROM idempotency_keys WHERE key = $1", request.key)
    if row is not None:
        request.replay(content_hash=row["request_hash"], status=row["status"], body=row["body"])


def answer(
    request: Request | None, *, contact_id: UUID | None, result: Any, now: datetime, status: int = 201
) -> Sequence[Insert]:
    """The part of a write that keeps the answer to `request`; nothing where the caller sent no key."""
    if request is None:
        return ()
    row = (request.key, contact_id, request.content_hash, status, msgspec.json.encode(result), now)
    return (Insert(idempotency_keys, ("key", "contact_id", "request_hash", "status", "body", "created_at"), (row,)),)


async def keep(
    session: Session, *, request: Request | None, contact_id: UUID | None, result: Any, now: datetime, status: int = 201
) -> None:
    """Keep the answer to `request`, for those whose facts are written already."""
    await write(session, answer(request, contact_id=contact_id, result=result, now=now, status=status))


async def purge(session: Session, *, older_than: datetime) -> int:
    """Forget keys kept long enough; the number forgotten."""
    return await session.execute("DELETE FROM idempotency_keys WHERE created_at < $1", older_than)
