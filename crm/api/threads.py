"""Threads: messages of one contact on one channel account that belong together."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.params import FromPath

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.interactions import threads
from crm.interactions.threads import Thread, ThreadNotFound

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


@get("/contacts/{contact_id:uuid}/threads", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def list_threads(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[Thread]:
    """List a contact's threads, those in which something was said last first.

    The messages of one are `timeline?thread_id=`.
    """
    before = paging.decode(cursor, _Moment, UUID)
    found = await threads.page(
        session, contact_id=contact_id, before=(before[0], before[1]) if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda thread: (thread.last_at, thread.id))


@get("/contacts/{contact_id:uuid}/threads/{thread_id:uuid}", scopes={"interactions:read"}, problems=(ThreadNotFound,))
async def get_thread(session: Session, contact_id: FromPath[ContactId], thread_id: FromPath[UUID]) -> Thread:
    """Read a thread."""
    return await threads.get(session, contact_id=contact_id, thread_id=thread_id)


handlers = [list_threads, get_thread]
