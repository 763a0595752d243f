"""Threads: messages of one contact on one channel account that belong together."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.params import FromPath, QueryParameter

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.inbox import accounts
from crm.inbox.accounts import AccountNotFound
from crm.interactions import threads
from crm.interactions.threads import Thread, ThreadNotFound

_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Account = Annotated[UUID | None, QueryParameter(name="account", description="Only those on this channel account.")]


@get("/contacts/{contact_id:uuid}/threads", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def list_threads(
    session: Session, contact_id: FromPath[ContactId], account_id: _Account = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Thread]:  # fmt: skip
    """List a contact's threads, those in which something was said last first.

    The messages of one are `timeline?thread_id=`.
    """
    before = paging.decode(cursor, _Moment, UUID)
    found = await threads.page(
        session, contact_id=contact_id, account_id=account_id, before=(before[0], before[1]) if before else None,
        limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=_key)


@get("/channel-accounts/{account_id:uuid}/threads", scopes={"interactions:read"}, problems=(AccountNotFound,))
async def list_threads_of_account(
    session: Session, account_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Thread]:
    """List the threads on a channel account.

    They are those of all contacts, those in which something was said last first.
    """
    before = paging.decode(cursor, _Moment, UUID)
    found = await threads.of_account(
        session, account_id=account_id, before=(before[0], before[1]) if before else None, limit=limit + 1
    )
    if not found:
        await accounts.get(session, account_id=account_id)
    return paging.page_of(found, limit=limit, key=_key)


@get("/contacts/{contact_id:uuid}/threads/{thread_id:uuid}", scopes={"interactions:read"}, problems=(ThreadNotFound,))
async def get_thread(session: Session, contact_id: FromPath[ContactId], thread_id: FromPath[UUID]) -> Thread:
    """Read a thread."""
    return await threads.get(session, contact_id=contact_id, thread_id=thread_id)


def _key(thread: Thread) -> tuple[datetime, UUID]:
    return thread.last_at, thread.id


handlers = [list_threads, get_thread, list_threads_of_account]
