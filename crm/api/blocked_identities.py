"""`/v1/blocked-identities`: addresses that are no customer's, such as the shop's own number."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post
from crm.api.schemas import Body, Code, Line, Reference
from crm.contacts import blocked_identities
from crm.contacts.addresses import LENGTH_MAX, InvalidIdentity
from crm.contacts.blocked_identities import BlockedIdentity, BlockedIdentityNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import FieldError
from crm.interactions import blocking


class NewBlockedIdentity(Body):
    """An address, in whatever form it is typed, and why it is nobody's."""

    kind: Code
    value: Annotated[Reference, Field(max_length=LENGTH_MAX)]
    reason: Line | None = None


@post(
    "/blocked-identities",
    scopes={"contacts:write"},
    problems=(InvalidIdentity,),
    repeated="It was blocked before.",
    headers=("Location",),
)
async def block_identity(
    session: Session, data: NewBlockedIdentity, region: str, by: str, now: datetime, once: idempotency.Request | None
) -> Response[BlockedIdentity]:
    """Block an address, on every account.

    No contact can have it, and what arrives from it makes none: both are refused with `invalid_identity`. A contact
    who has it shows it as `disputed` from now on.
    """
    try:
        blocked, is_new = await blocking.block(
            session, kind=data.kind, value=data.value, reason=data.reason, region=region, by=by, once=once, now=now
        )
    except InvalidIdentity as error:
        raise InvalidIdentity(error.detail, errors=[FieldError("/value", error.code, error.detail)]) from error
    return Response(
        blocked, status_code=201 if is_new else 200, headers={"Location": f"/v1/blocked-identities/{blocked.id}"}
    )


@get("/blocked-identities", scopes={"contacts:read"})
async def list_blocked_identities(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[BlockedIdentity]:
    """List blocked addresses, newest first."""
    before = paging.decode(cursor, UUID)
    found = await blocked_identities.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda blocked: (blocked.id,))


@get("/blocked-identities/{blocked_id:uuid}", scopes={"contacts:read"}, problems=(BlockedIdentityNotFound,))
async def get_blocked_identity(session: Session, blocked_id: FromPath[UUID]) -> BlockedIdentity:
    """Read a blocked address."""
    return await blocked_identities.get(session, blocked_id=blocked_id)


@delete("/blocked-identities/{blocked_id:uuid}", scopes={"contacts:write"}, problems=(BlockedIdentityNotFound,))
async def unblock_identity(session: Session, blocked_id: FromPath[UUID]) -> None:
    """Let an address be somebody's again.

    Contacts who show it as disputed have to claim it anew.
    """
    await blocked_identities.delete(session, blocked_id=blocked_id)


handlers = [block_identity, list_blocked_identities, get_blocked_identity, unblock_identity]
