"""The worker evaluates segments at their hour and day, when asked, and follows what happens."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from croniter import croniter

from crm.contacts import drafts, segments
from crm.contacts.drafts import Draft
from crm.contacts.segments import Definition, Segment
from crm.db.session import Database
from crm.interactions import people
from crm.jobs import JOBS, SCHEDULES
from crm.loyalty import programs
from crm.loyalty.vocabulary import VOCABULARY
from tests.horizon import until_others_end

NOW = datetime(2026, 11, 22, 8, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VIP = {"field": "tags", "op": "contains", "value": "vip"}

evaluate_segments = SCHEDULES["evaluate_segments"].run
follow_timelines = SCHEDULES["follow_timelines"].run


async def make(database: Database, name: str = "VIPs", *, now: datetime = NOW, **facts: Any) -> Segment:
    definition = Definition(**{"name": name, "condition": VIP, **facts})
    async with database.begin() as session:
        return await segments.create(session, vocabulary=VOCABULARY, definition=definition, by="t", now=now)


async def evaluated_at(database: Database, segment: Segment) -> datetime | None:
    async with database.reading() as session:
        return (await segments.get(session, segment_id=segment.id)).evaluated_at


@pytest.mark.parametrize(
    ("zone", "refresh", "again"),
    [
        (None, "hourly", [False, False, True, False]),
        (None, "daily", [False, False, False, False]),
        ("Asia/Jakarta", "daily", [False, False, False, True]),  # its midnight is at 17:00
        ("Asia/Jakarta", "manual", [False, False, False, False]),
    ],
)
async def test_a_segment_is_evaluated_once_an_hour_or_once_a_local_day(database, zone, refresh, again):
    if zone is not None:
        async with database.begin() as session:
            await programs.create(
                session, name="Kopi", currency="IDR", time_zone=zone, default=None, settings={}, now=NOW
            )
    made = await make(database, refresh=refresh)
    moments = [NOW, NOW + 45 * MINUTE, NOW + 50 * MINUTE, NOW.replace(hour=17, minute=0)]
    happened = []
    for now in moments:
        before = await evaluated_at(database, made)
        await evaluate_segments(database, now=now)
        happened.append(before is not None and await evaluated_at(database, made) != before)
    expected = again if refresh != "hourly" else [False, False, True, True]
    assert happened == expected
    assert (await evaluated_at(database, made) is None) == (refresh == "manual")


async def test_what_was_asked_for_and_lost_is_taken_up_again(database):
    made = await make(database, refresh="manual")
    async with database.begin() as session:
        await segments.request(session, segment_id=made.id, now=NOW)
        await session.execute("DELETE FROM pgqueuer")
    await evaluate_segments(database, now=NOW + MINUTE)
    assert await evaluated_at(database, made) >= NOW + MINUTE


async def test_a_job_that_is_repeated_does_nothing_more(database):
    made = await make(database)
    for minutes in range(3):
        await JOBS[segments.EVALUATE](database, {"segment_id": str(made.id)}, now=NOW + minutes * MINUTE)
    assert await evaluated_at(database, made) < NOW + MINUTE


async def test_a_segment_that_is_not_understood_any_more_is_named_and_stops_no_other(database):
    broken, sound = await make(database, "Broken"), await make(database, "Sound")
    async with database.begin() as session:
        await session.execute("""UPDATE segments SET condition = '{"did": 7}' WHERE id = $1""", broken.id)
    with structlog.testing.capture_logs() as logs:
        await evaluate_segments(database, now=NOW)
    assert [log["segment_id"] for log in logs if log["event"] == "segment_not_understood"] == [broken.id]
    assert await evaluated_at(database, sound) is not None


async def test_what_happened_is_followed(database):
    made = await make(database)
    await follow_timelines(database, now=NOW)
    async with database.begin() as session:
        contact = drafts.contact_of(Draft(name="Sari", tags=["vip"]), region="ID", now=NOW)
        await people.create_all(session, made=[contact], by="t", now=NOW)
    await until_others_end(database)
    await follow_timelines(database, now=NOW)
    async with database.reading() as session:
        assert [one.id for one in await segments.members(session, segment_id=made.id, limit=9)] == [contact.id]


def test_the_hours_and_all_local_midnights_are_among_the_times():
    for minute in (0, 15, 30, 45):
        assert croniter.match(SCHEDULES["evaluate_segments"].cron, NOW.replace(minute=minute))
