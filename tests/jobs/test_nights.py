"""The worker runs each program's night soon after its midnight, and sees to what is due in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import structlog
from croniter import croniter

from crm.db.session import Database
from crm.jobs import SCHEDULES
from crm.loyalty import nights
from tests.loyalty.town import Town, audited

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
MIDNIGHT = datetime(2027, 3, 9, 17, tzinfo=UTC)
"""When 10 March 2027 begins in Jakarta."""

work_off_nights = SCHEDULES["work_off_nights"].run
settle_accounts = SCHEDULES["settle_accounts"].run


@pytest.fixture(autouse=True)
async def _audited(database: Database) -> AsyncIterator[None]:
    yield
    await audited(database)


async def test_a_night_is_worked_off_once_after_its_midnight(database):
    town = await _town(database)
    await work_off_nights(database, now=MIDNIGHT - MINUTE)
    assert await _birthdays(database) == 0

    await asyncio.gather(*(work_off_nights(database, now=MIDNIGHT) for _ in range(3)))
    with structlog.testing.capture_logs() as logs:
        await work_off_nights(database, now=MIDNIGHT + 5 * MINUTE)

    assert await _birthdays(database) == 1
    assert logs == []
    async with database.reading() as session:
        finished_at = await session.fetchval(
            "SELECT finished_at FROM program_nights WHERE program_id = $1 AND night_on = '2027-03-10'", town.program_id
        )
    assert MIDNIGHT <= finished_at < MIDNIGHT + MINUTE


async def test_each_program_s_night_is_worked_off_at_its_own_midnight(database):
    for zone in ("Pacific/Kiritimati", "Asia/Jakarta", "Etc/GMT+12"):
        await _town(database, zone)
    given = []
    for hour in (9, 10, 16, 17, 35, 36):
        await work_off_nights(database, now=datetime(2027, 3, 9, tzinfo=UTC) + timedelta(hours=hour))
        given.append(await _birthdays(database))
    assert given == [0, 1, 1, 2, 2, 3]


async def test_a_program_whose_night_fails_stops_no_other_and_is_tried_again(database):
    towns = [await _town(database) for _ in range(3)]
    await _set(towns[0], {"activation": {"surely": "not"}})

    with structlog.testing.capture_logs() as logs:
        await work_off_nights(database, now=MIDNIGHT)

    told = [(entry["event"], entry["program_id"]) for entry in logs]
    assert told == [
        ("night_failed", towns[0].program_id),
        ("night_finished", towns[1].program_id),
        ("night_finished", towns[2].program_id),
    ]
    assert await _birthdays(database) == 2
    await _set(towns[0], {})
    await work_off_nights(database, now=MIDNIGHT + 5 * MINUTE)
    assert await _birthdays(database) == 3


async def test_a_long_night_says_how_far_it_is(database, monkeypatch):
    monkeypatch.setattr(nights, "BATCH", 2)
    monkeypatch.setattr("crm.jobs.nights.ACCOUNTS_LOGGED", 4)
    town = await _town(database)
    await town.join_all([date(1990, 3, 10)] * 8)

    with structlog.testing.capture_logs() as logs:
        await work_off_nights(database, now=MIDNIGHT)

    assert [(entry["event"], entry["accounts"]) for entry in logs] == [
        ("night_goes_on", 4), ("night_goes_on", 8), ("night_finished", 9)
    ]  # fmt: skip
    assert logs[0]["of"] == logs[-1]["birthdays"] == 9


async def test_what_is_due_during_the_day_is_written_down_within_a_minute(database):
    town = await _town(database)
    await work_off_nights(database, now=MIDNIGHT)
    sari = await town.join(at=MIDNIGHT + MINUTE)
    await town.award(sari, 100, at=MIDNIGHT + MINUTE)
    noon = MIDNIGHT + DAY / 2
    await town.hold(sari, 30, at=MIDNIGHT + MINUTE, until=noon)
    await town.award(sari, 10, at=MIDNIGHT + MINUTE, expires_at=noon + MINUTE)

    for minute in (-1, 0, 1, 2):
        await settle_accounts(database, now=noon + minute * MINUTE)

    assert (await town.facts(sari))[3:] == [("release", 30, 110, noon), ("expire", -10, 100, noon + MINUTE)]
    async with database.reading() as session:
        recorded = await session.fetch(
            "SELECT recorded_at FROM points_transactions WHERE cause = 'time' AND contact_id = $1 ORDER BY seq", sari
        )
    assert [row["recorded_at"] - noon < 2 * MINUTE for row in recorded] == [True, True]


async def test_what_is_due_at_midnight_waits_for_the_night(database):
    town = await _town(database)
    await work_off_nights(database, now=MIDNIGHT - MINUTE)
    async with database.reading() as session:
        sari = await session.fetchval("SELECT id FROM contacts")
    await town.award(sari, 10, expires_at=MIDNIGHT)

    await settle_accounts(database, now=MIDNIGHT)
    assert [fact[0] for fact in await town.facts(sari)] == ["goodwill"]
    await work_off_nights(database, now=MIDNIGHT)
    assert [fact[0] for fact in await town.facts(sari)] == ["goodwill", "birthday", "expire"]


@pytest.mark.parametrize(("name", "minutes"), [("work_off_nights", 5), ("settle_accounts", 1)])
def test_both_come_round_at_every_quarter_of_an_hour_and_in_between(name, minutes):
    """All midnights of the world lie on a quarter of an hour."""
    times = croniter(SCHEDULES[name].cron, datetime(2027, 3, 9, 16, 59, tzinfo=UTC))
    assert [times.get_next(datetime) - MIDNIGHT for _ in range(3)] == [number * minutes * MINUTE for number in range(3)]


async def _town(database: Database, zone: str = "Asia/Jakarta") -> Town:
    """A program with one member, whose birthday is on 10 March."""
    town = await Town.found(database, zone=zone)
    await town.reward("birthday", 5)
    await town.join(birth_on=date(1990, 3, 10))
    return town


async def _set(town: Town, settings: dict[str, Any]) -> None:
    async with town.database.begin() as session:
        await session.execute(
            "UPDATE programs SET settings = $2, version = version + 1 WHERE id = $1", town.program_id, settings
        )


async def _birthdays(database: Database) -> int:
    async with database.reading() as session:
        count: int = await session.fetchval("SELECT count(*) FROM loyalty_events")
    return count
