"""`/v1/merges`: two records of one person become one, and can be two again."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import Field

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post
from crm.api.schemas import Body
from crm.contacts.contacts import ContactNotFound
from crm.contacts.drafts import InvalidContact
from crm.contacts.merging import MergeWithSelf
from crm.db import idempotency
from crm.db.session import Session
from crm.interactions import merges
from crm.interactions.merges import Merge, MergedFurther, MergeForgotten, MergeNotFound, MergeResult
from crm.keepers import KEEPERS
from crm.loyalty.moving import OpenHolds

KEEP_MAX = 100
Kept = Annotated[dict[Annotated[str, Field(max_length=100)], Literal["survivor", "other"]], Field(max_length=KEEP_MAX)]


class NewMerge(Body):
    """Who goes on, and who is taken up.

    `keep` says of fields, such as `name` or `attributes.city`, whose value is kept where both have one; left out, the
    survivor's. With `dry_run` nothing is changed, and the answer shows what would be.
    """

    contact_id: UUID
    other_contact_id: UUID
    keep: Annotated[Kept, Field(default_factory=dict)]
    dry_run: bool = False


@post(
    "/merges",
    scopes={"contacts:write", "loyalty:adjust"},
    problems=(ContactNotFound, MergeWithSelf, InvalidContact, OpenHolds),
    repeated="A dry run: what the contacts would become. They are as they were before.",
)
async def create_merge(
    session: Session, data: NewMerge, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[MergeResult]:  # fmt: skip
    """Merge two contacts.

    Identities, tags, points and all else go to `contact_id`, which then answers for the other's id too: its timeline
    tells what happened with both. Points keep their ends, of two tiers the better one stands.
    """
    await idempotency.begin(session, request=None if data.dry_run else once)
    result = await merges.merge(
        session, contact_id=data.contact_id, other_id=data.other_contact_id, keep=data.keep,
        keepers=KEEPERS, dry_run=data.dry_run, by=by, once=once, now=now,
    )  # fmt: skip
    return Response(result, status_code=200 if data.dry_run else 201)


@get("/merges", scopes={"contacts:read"})
async def list_merges(
    session: Session,
    contact_id: Annotated[UUID | None, QueryParameter(description="Only those into this contact.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Merge]:
    """List merges, newest first."""
    before = paging.decode(cursor, UUID)
    found = await merges.page(session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda merge: (merge.id,))


@get("/merges/{merge_id:uuid}", scopes={"contacts:read"}, problems=(MergeNotFound,))
async def get_merge(session: Session, merge_id: FromPath[UUID]) -> Merge:
    """Read a merge."""
    return await merges.get(session, merge_id=merge_id)


@delete(
    "/merges/{merge_id:uuid}",
    scopes={"contacts:write", "loyalty:adjust"},
    status_code=200,
    problems=(MergeNotFound, MergedFurther, MergeForgotten),
)
async def undo_merge(session: Session, merge_id: FromPath[UUID], by: str, now: datetime) -> Merge:
    """Undo a merge.

    Both contacts are there again, with what each had, points that were not spent since included. `not_undone` says
    what stayed as it was, and why. Again it changes nothing.
    """
    return await merges.undo(session, merge_id=merge_id, keepers=KEEPERS, by=by, now=now)


handlers = [create_merge, list_merges, get_merge, undo_merge]
