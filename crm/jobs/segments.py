"""Who is in a segment: at the times that each one says, when somebody asks, and soon after something happened."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from crm.contacts.conditions import InvalidCondition
from crm.db.session import Database
from crm.interactions import segmentation
from crm.vocabulary import VOCABULARY

_log = structlog.get_logger(__name__)


async def evaluate_segment(database: Database, payload: dict[str, Any], *, now: datetime) -> None:
    """Go through all contacts, in transactions of their own, until nobody wants that any more."""
    await _evaluate(database, UUID(payload["segment_id"]), now)


async def evaluate_segments(database: Database, *, now: datetime) -> None:
    """The evaluations of this hour and of this day, and those that were asked for and left undone."""
    async with database.begin() as session:
        segment_ids = await segmentation.request_due(session, vocabulary=VOCABULARY, now=now)
    for segment_id in segment_ids:
        try:
            await _evaluate(database, segment_id, now)
        except InvalidCondition as error:
            _log.warning("segment_not_understood", segment_id=segment_id, errors=error.errors)


async def follow_timelines(database: Database, *, now: datetime) -> None:
    """Hold what has happened since the last time against all segments."""
    clock, going_on = _from(now), True
    while going_on:
        async with database.begin() as session:
            going_on = await segmentation.follow(session, vocabulary=VOCABULARY, now=clock())


async def _evaluate(database: Database, segment_id: UUID, now: datetime) -> None:
    started = time.monotonic()
    clock, chunks, going_on = _from(now), 0, True
    while going_on:
        # What happened meanwhile counts: somebody else may have seen it already.
        async with database.begin() as session:
            going_on = await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=segment_id, now=clock())
        chunks += going_on
    if chunks:
        seconds = round(time.monotonic() - started, 1)
        _log.info("segment_evaluated", segment_id=segment_id, chunks=chunks, seconds=seconds)


def _from(now: datetime) -> Callable[[], datetime]:
    """A clock that shows `now` and goes on."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
