"""`/v1/keys`: keys for integrations."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath
from pydantic import Field, WithJsonSchema

from crm.api import auth, paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import AnyRequest, delete, get, post
from crm.api.schemas import Body, Instant, Line
from crm.db import idempotency
from crm.db.session import Session

Scope = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(auth.SCOPES)})]


class NewKey(Body):
    """A key for one integration, with no more scopes than it needs."""

    name: Line
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=50)]
    expires_at: Instant | None = None


@post("/keys", scopes={"keys:manage"}, problems=(auth.UnknownScope,))
async def create_key(
    session: Session, data: NewKey, by: str, now: datetime, request: AnyRequest, once: idempotency.Request | None
) -> auth.IssuedKey:
    """Make a key.

    The answer is the only place where the key itself is shown. A key can't grant what its maker may not do.
    """
    await idempotency.begin(session, request=once)
    issued = await auth.issue(
        session, name=data.name, scopes=data.scopes, by=by, maker=request.auth, expires_at=data.expires_at, now=now
    )
    await idempotency.keep(session, request=once, contact_id=None, result=replace(issued, key=None), now=now)
    return issued


@get("/keys", scopes={"keys:manage"})
async def list_keys(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[auth.Key]:
    """List the keys, newest first."""
    after = paging.decode(cursor, UUID)
    keys = await auth.page(session, before=after[0] if after else None, limit=limit + 1)
    return paging.page_of(keys, limit=limit, key=lambda key: (key.id,))


@get("/keys/{key_id:uuid}", scopes={"keys:manage"}, problems=(auth.KeyNotFound,))
async def get_key(session: Session, key_id: FromPath[UUID]) -> auth.Key:
    """Read a key, without its secret."""
    return await auth.get(session, key_id=key_id)


@delete("/keys/{key_id:uuid}", scopes={"keys:manage"}, problems=(auth.KeyNotFound,))
async def revoke_key(session: Session, key_id: FromPath[UUID], now: datetime, request: AnyRequest) -> None:
    """Revoke a key."""
    await auth.revoke(session, key_id=key_id, now=now)
    request.app.state.authenticator.forget()


handlers = [create_key, list_keys, get_key, revoke_key]
