"""Forgetting what has been kept long enough."""

from datetime import datetime, timedelta

from crm.care import article_usage
from crm.db import idempotency, queue
from crm.db.session import Database
from crm.interactions import retention
from crm.keepers import KEEPERS

IDEMPOTENCY_KEYS_KEPT = timedelta(hours=72)
QUEUE_LOG_KEPT = timedelta(days=30)
SEARCHES_KEPT = timedelta(days=180)


async def purge_idempotency_keys(database: Database, *, now: datetime) -> None:
    """A retry later than this is a new request."""
    async with database.begin() as session:
        await idempotency.purge(session, older_than=now - IDEMPOTENCY_KEYS_KEPT)


async def keep_retention(database: Database, *, now: datetime) -> None:
    """Each batch in a transaction of its own: a night that is broken off goes on where it stopped."""
    async with database.begin() as session:
        if not await retention.begin(session, now=now):
            return
    going_on = True
    while going_on:
        async with database.begin() as session:
            going_on = await retention.advance(session, keepers=KEEPERS, now=now)


async def purge_queue_log(database: Database, *, now: datetime) -> None:
    """The counts stay in the queue's statistics."""
    async with database.begin() as session:
        await queue.purge_log(session, older_than=now - QUEUE_LOG_KEPT)


async def forget_searches(database: Database, *, now: datetime) -> None:
    """What was looked for in articles is of use for a while; how often something was stays."""
    async with database.begin() as session:
        await article_usage.purge_searches(session, older_than=now - SEARCHES_KEPT)
