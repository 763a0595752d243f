"""The night: in its order, at its midnight, once, whoever else is there and whatever breaks off."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import structlog

from crm.db.ids import uuid7
from crm.db.session import Database
from crm.loyalty import basket, journal, nights, purchases, redemptions
from crm.loyalty.nights import Tally
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.purchases import Bought
from crm.loyalty.tiers import TierPolicy
from tests.loyalty.shop import checksum
from tests.loyalty.town import START, Town

pytestmark = pytest.mark.usefixtures("audited_database")

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
MIDNIGHT = datetime(2027, 3, 9, 17, tzinfo=UTC)
"""When 10 March 2027 begins in Jakarta."""
BIRTH = date(1990, 3, 10)


@pytest.fixture
async def town(database: Database) -> Town:
    return await Town.found(database)


# ---------------------------------------------------------------- the order


@pytest.mark.parametrize("late", [timedelta(0), MINUTE, 3 * DAY], ids=str)
async def test_points_begin_holds_end_birthdays_come_tiers_are_judged_and_points_end_in_this_order(town, late):
    await town.reward("birthday", 200)
    await town.reward("anniversary", 1)
    await town.tier("Gold", 380)
    sari = await town.join(birth_on=BIRTH, at=START - 236 * DAY)
    assert (START - 236 * DAY).date() == date(2026, 3, 10)
    await town.award(sari, 30)
    await town.hold(sari, 30, until=MIDNIGHT)
    await town.award(sari, 50, expires_at=MIDNIGHT)
    await town.award(sari, 100, activates_at=MIDNIGHT)

    night = await town.night(MIDNIGHT + late)

    assert (await town.facts(sari))[4:] == [
        ("activate", 100, 150, MIDNIGHT),
        ("release", 30, 180, MIDNIGHT),
        ("anniversary", 1, 181, MIDNIGHT),
        ("birthday", 200, 381, MIDNIGHT),
        ("expire", -50, 331, MIDNIGHT),
    ]
    assert [(at, data["from"], data["to"]) for at, data in await town.timeline(sari, "tier.changed")] == [
        (MIDNIGHT, None, "Gold")
    ]
    assert (night.activated, night.released, night.birthdays, night.anniversaries, night.expired) == (
        Tally(1, 100), Tally(1, 30), Tally(1, 200), Tally(1, 1), Tally(1, 50)
    )  # fmt: skip
    assert (night.tiers_changed, night.left_out) == (1, 0)


@pytest.mark.parametrize(
    ("gift", "told"),
    [(0, [(None, "Gold"), ("Gold", None)]), (299, [(None, "Gold"), ("Gold", None)]), (300, [(None, "Gold")])],
)
async def test_a_birthday_counts_before_the_tier_is_judged(town, gift, told):
    await town.reward("birthday", gift)
    await town.tier("Gold", 300, TierPolicy("points", "rolling_months", 1, "reassess"))
    sari = await town.join(birth_on=BIRTH)
    await town.award(sari, 300, at=MIDNIGHT - 28 * DAY)

    await town.night(MIDNIGHT)

    assert [(data["from"], data["to"]) for _, data in await town.timeline(sari, "tier.changed")] == told


async def test_points_that_a_birthday_would_make_last_longer_are_dead_at_its_midnight(database):
    expiry = {"kind": "sliding", "months": 1, "activities": ["birthday"]}
    town = await Town.found(database, expiry=expiry)
    await town.reward("birthday", 7)
    sari = await town.join(birth_on=BIRTH)
    await town.award(sari, 20, at=MIDNIGHT - timedelta(days=28, hours=12))
    await town.award(sari, 30, at=MIDNIGHT - 5 * DAY)

    await town.night(MIDNIGHT)

    assert (await town.facts(sari))[-2:] == [("birthday", 7, 57, MIDNIGHT), ("expire", -20, 37, MIDNIGHT)]
    async with database.reading() as session:
        ends = await session.fetch("SELECT DISTINCT expires_at FROM points_lots WHERE remaining > 0")
    assert [row["expires_at"] for row in ends] == [datetime(2027, 4, 10, 17, tzinfo=UTC)]


# ---------------------------------------------------------------- whose day it is


@pytest.mark.parametrize(
    ("zone", "on", "midnight"),
    [
        ("Pacific/Kiritimati", date(2027, 3, 10), "2027-03-09T10:00"),
        ("Etc/GMT+12", date(2027, 3, 10), "2027-03-10T12:00"),
        ("Asia/Kathmandu", date(2027, 3, 10), "2027-03-09T18:15"),
        ("America/New_York", date(2027, 3, 14), "2027-03-14T05:00"),  # an hour of this day is missing
        ("America/New_York", date(2027, 3, 15), "2027-03-15T04:00"),
        ("America/New_York", date(2026, 11, 2), "2026-11-02T05:00"),  # the day before had one more
        ("America/Havana", date(2027, 3, 14), "2027-03-14T05:00"),  # midnight itself is missing
        ("America/Havana", date(2027, 11, 7), "2027-11-07T04:00"),  # midnight comes twice
    ],
)
async def test_a_day_begins_when_it_does_where_the_program_is(database, zone, on, midnight):
    begins_at = datetime.fromisoformat(f"{midnight}+00:00")
    town = await Town.found(database, zone=zone, at=begins_at - 2 * DAY)
    await town.reward("birthday", 5)
    sari = await town.join(birth_on=on.replace(year=1990), at=begins_at - 2 * DAY)
    await town.award(sari, 10, at=begins_at - 2 * DAY, expires_at=begins_at)

    early = await town.night(begins_at - timedelta(microseconds=1))
    due = await town.night(begins_at)

    assert (early.nights[-1], early.birthdays, early.expired) == (on - DAY, Tally(), Tally())
    assert (due.nights, due.birthdays, due.expired) == ([on], Tally(1, 5), Tally(1, 10))
    assert (await town.facts(sari))[1:] == [("birthday", 5, 15, begins_at), ("expire", -10, 5, begins_at)]


async def test_each_program_has_its_own_midnight(database):
    east = await Town.found(database, zone="Pacific/Kiritimati")
    west = await Town.found(database, zone="Etc/GMT+12")
    sari = await east.join(birth_on=BIRTH)
    async with database.begin() as session:
        await journal.lock(session, program_id=west.program_id, contact_ids=[sari], now=START)
    for town, points in ((east, 3), (west, 4)):
        await town.reward("birthday", points)
        await town.award(sari, 10, expires_at=datetime(2027, 3, 9, tzinfo=UTC))

    at = datetime(2027, 3, 9, 10, tzinfo=UTC)
    first = await east.night(at)

    assert (first.birthdays, first.expired) == (Tally(1, 3), Tally(1, 10))
    assert [fact[:2] for fact in await west.facts(sari)] == [("goodwill", 10)]
    async with database.reading() as session:
        assert await nights.pending(session, now=at) == [west.program_id]
    assert (await west.night(at)).birthdays == Tally()
    assert (await west.night(at + 26 * timedelta(hours=1))).birthdays == Tally(1, 4)


@pytest.mark.parametrize(
    ("on", "celebrated"),
    [
        (date(2027, 2, 27), False),
        (date(2027, 2, 28), True),
        (date(2027, 3, 1), False),
        (date(2028, 2, 28), False),
        (date(2028, 2, 29), True),
        (date(2028, 3, 1), False),
        (date(2100, 2, 28), True),
    ],
)
async def test_the_29th_of_february_is_the_28th_in_other_years(database, on, celebrated):
    long_ago = datetime(2024, 2, 29, 1, tzinfo=UTC)
    at = datetime(on.year, on.month, on.day, tzinfo=UTC)
    town = await Town.found(database, zone="UTC", at=at - DAY)
    await town.reward("birthday", 1)
    await town.reward("anniversary", 2)
    leap, other = await town.join_all([date(2000, 2, 29), date(2000, 2, 28)], at=long_ago)

    night = await town.night(at)

    assert night.nights == [on]
    facts = [fact[0] for fact in await town.facts(leap)]
    assert facts == (["anniversary", "birthday"] if celebrated else [])
    expected = {"anniversary": facts.count("anniversary"), "birthday": int((on.month, on.day) == (2, 28))}
    assert Counter(fact[0] for fact in await town.facts(other)) == Counter(expected)


@pytest.mark.parametrize("something_else_is_due", [False, True])
@pytest.mark.parametrize(
    ("what", "rewarded"),
    [
        ("nothing", True),
        ("born that day", False),
        ("joined at that midnight", True),
        ("joined a moment later", False),
        ("a membership that is paused", False),
        ("a rule that is a draft", False),
        ("a rule for another event", False),
        ("a rule that gives nothing", False),
        ("a rule of another weekday", False),
        ("a limit that is used up", False),
    ],
)
async def test_a_birthday_that_brings_nothing_is_not_told(town, what, rewarded, something_else_is_due):
    rules: dict[str, dict[str, Any]] = {
        "a rule that is a draft": {"status": "draft"},
        "a rule of another weekday": {"window": {"weekdays": ["thu"]}},
        "a limit that is used up": {"limits": [{"per": "lifetime", "times": 1}]},
    }
    event = "review" if what == "a rule for another event" else "birthday"
    await town.reward(event, 0 if what == "a rule that gives nothing" else 5, **rules.get(what, {}))
    joined = {"joined at that midnight": MIDNIGHT, "joined a moment later": MIDNIGHT + timedelta(microseconds=1)}
    sari = await town.join(birth_on=date(2027, 3, 10) if what == "born that day" else BIRTH, at=joined.get(what, START))
    if what == "a limit that is used up":
        async with town.database.begin() as session:
            await session.execute(
                "INSERT INTO rule_usages SELECT $1, program_id, id, 'lifetime', 5, 1 FROM earning_rules", sari
            )

    if something_else_is_due:
        await town.award(sari, 10, at=MIDNIGHT - MINUTE, expires_at=MIDNIGHT)
    if what == "a membership that is paused":
        async with town.database.begin() as session:
            await session.execute("UPDATE loyalty_accounts SET status = 'paused'")

    with structlog.testing.capture_logs() as logs:
        night = await town.night(MIDNIGHT + MINUTE)

    assert (night.birthdays, night.expired.members) == (Tally(1, 5) if rewarded else Tally(), something_else_is_due)
    assert logs == []
    if what in {"a membership that is paused", "a rule that is a draft", "a rule for another event"}:
        assert night.accounts == something_else_is_due
    told = await town.timeline(sari, "event")
    assert [(at, data["event"], data["ref"], data["points"]) for at, data in told] == (
        [(MIDNIGHT, "birthday", "birthday:2027", 5)] if rewarded else []
    )
    assert len(await town.timeline(sari, "points.earned")) == rewarded + something_else_is_due


async def test_people_whose_birthday_brings_nothing_are_gone_through_once(town, monkeypatch):
    monkeypatch.setattr(nights, "BATCH", 2)
    await town.reward("birthday", 0)
    await town.reward("anniversary", 0)
    await town.join_all([BIRTH] * 6, at=MIDNIGHT - 365 * DAY)

    async with asyncio.timeout(20):
        assert (await town.night(MIDNIGHT)).accounts == 12


async def test_whoever_corrects_their_birthday_has_still_one_a_year(town):
    await town.reward("birthday", 5)
    sari = await town.join(birth_on=BIRTH)
    await town.night(MIDNIGHT)
    async with town.database.begin() as session:
        await session.execute("UPDATE contacts SET birth_on = '1990-03-12'")

    assert (await town.night(MIDNIGHT + 2 * DAY)).birthdays == Tally()
    assert (await town.night(MIDNIGHT + 368 * DAY)).birthdays == Tally(1, 5)
    assert [fact[3] for fact in await town.facts(sari)] == [MIDNIGHT, MIDNIGHT + 368 * DAY]


async def test_anniversaries_are_those_of_the_local_day_on_which_the_account_was_opened(town):
    await town.reward("anniversary", 3)
    late = MIDNIGHT - 365 * DAY + timedelta(hours=23)  # 10 March in Jakarta
    later = late + timedelta(hours=1)  # 11 March there, still the 10th in UTC
    sari, budi = await town.join(at=late), await town.join(at=later)

    assert (await town.night(MIDNIGHT)).anniversaries == Tally(1, 3)
    assert (await town.night(MIDNIGHT + DAY)).anniversaries == Tally(1, 3)
    assert (await town.night(MIDNIGHT + 367 * DAY)).anniversaries == Tally(2, 6)
    assert [fact[3] for fact in await town.facts(sari)] == [MIDNIGHT, MIDNIGHT + 366 * DAY]
    assert [fact[3] for fact in await town.facts(budi)] == [MIDNIGHT + DAY, MIDNIGHT + 367 * DAY]


# ---------------------------------------------------------------- again, later, broken off


async def test_a_night_that_is_repeated_changes_nothing(town):
    await _busy(town)
    await town.night(MIDNIGHT + MINUTE)
    async with town.database.reading() as session:
        before = await checksum(session)

    again = await town.night(MIDNIGHT + MINUTE, now=MIDNIGHT + 5 * MINUTE)

    assert (again.accounts, again.birthdays, again.expired) == (0, Tally(), Tally())
    async with town.database.reading() as session:
        assert await checksum(session) == before


async def test_a_birthday_that_was_told_is_not_told_again_when_something_else_is_due(town):
    await town.reward("birthday", 5)
    sari = await town.join(birth_on=BIRTH)
    await town.night(MIDNIGHT)
    await town.award(sari, 10, at=MIDNIGHT, expires_at=MIDNIGHT + MINUTE)

    night = await town.night(MIDNIGHT + MINUTE)

    assert (night.nights, night.birthdays, night.expired) == ([date(2027, 3, 10)], Tally(), Tally(1, 10))
    assert night.left_out == 0


async def test_missed_nights_are_made_good_each_at_its_own_midnight(town):
    await town.reward("birthday", 5)
    people = {day: await town.join(birth_on=date(1990, 3, day)) for day in range(8, 14)}
    await town.night(MIDNIGHT - DAY)
    newcomer = await town.join(birth_on=date(1990, 3, 11), at=MIDNIGHT + DAY + MINUTE)

    night = await town.night(MIDNIGHT + 2 * DAY + 5 * MINUTE)

    assert night.nights == [date(2027, 3, day) for day in (10, 11, 12)]
    assert night.birthdays == Tally(3, 15)
    given = {day: [fact[3] for fact in await town.facts(who)] for day, who in people.items()}
    assert given == {day: [MIDNIGHT + (day - 10) * DAY] if day < 13 else [] for day in people}
    assert await town.facts(newcomer) == []
    async with town.database.reading() as session:
        rows = await session.fetch("SELECT night_on, finished_at FROM program_nights ORDER BY night_on DESC LIMIT 3")
        assert await nights.pending(session, now=MIDNIGHT + 2 * DAY + 5 * MINUTE) == []
    assert [tuple(row) for row in rows] == [
        (date(2027, 3, day), MIDNIGHT + 2 * DAY + 5 * MINUTE) for day in (12, 11, 10)
    ]


async def test_no_more_than_a_year_of_nights_is_made_good(town):
    assert len((await town.night(START + 3 * DAY)).nights) == 3
    night = await town.night(START + 800 * DAY)
    assert (len(night.nights), night.nights[-1]) == (nights.NIGHTS_MAX, (START + 800 * DAY).date())


async def test_a_night_that_lies_ahead_is_run_again_when_it_comes_for_those_who_joined_since(town):
    await town.reward("birthday", 5)
    await town.award(sari := await town.join(birth_on=BIRTH), 10, expires_at=MIDNIGHT - DAY)

    played = await town.night(MIDNIGHT, now=START + DAY)

    assert (played.birthdays, played.expired) == (Tally(1, 5), Tally(1, 10))
    async with town.database.reading() as session:
        assert await session.fetchval("SELECT max(night_on) FROM program_nights") == date(2026, 11, 2)
        assert await session.fetchval("SELECT min(recorded_at) FROM loyalty_events") == MIDNIGHT
        assert await nights.pending(session, now=MIDNIGHT) == [town.program_id]
    budi = await town.join(birth_on=BIRTH, at=START + 9 * DAY)
    assert (await town.night(MIDNIGHT)).birthdays == Tally(1, 5)
    assert len(await town.facts(sari)) == 3
    assert [fact[0] for fact in await town.facts(budi)] == ["birthday"]


async def test_a_night_of_the_past_is_recorded_now(town):
    await town.reward("birthday", 5)
    sari = await town.join(birth_on=BIRTH)
    await town.night(MIDNIGHT + 5 * DAY)
    async with town.database.begin() as session:
        await session.execute("UPDATE contacts SET birth_on = '1990-03-12'")
    budi = await town.join(birth_on=BIRTH, at=START)

    again = await town.night(MIDNIGHT + MINUTE, now=MIDNIGHT + 6 * DAY)

    assert (again.nights, again.birthdays) == ([date(2027, 3, 10)], Tally(1, 5))
    assert [fact[3] for fact in await town.facts(budi)] == [MIDNIGHT]
    async with town.database.reading() as session:
        assert await session.fetchval("SELECT recorded_at FROM loyalty_events WHERE contact_id = $1", budi) == (
            MIDNIGHT + 6 * DAY
        )
    assert len(await town.facts(sari)) == 1


@pytest.mark.parametrize("breaks_at", [1, 2, 3])
async def test_a_night_that_breaks_off_goes_on_where_it_was(database, monkeypatch, breaks_at):
    monkeypatch.setattr(nights, "BATCH", 4)
    broken, twin = await Town.found(database), await Town.found(database)
    people = [await _busy(town) for town in (broken, twin)]
    expected = await twin.night(MIDNIGHT + MINUTE)

    written, write_down = 0, journal.write_down

    async def crash(*args: Any, **options: Any) -> None:
        nonlocal written
        written += 1
        await write_down(*args, **options)
        if written == breaks_at:
            raise asyncio.CancelledError

    monkeypatch.setattr(journal, "write_down", crash)
    with pytest.raises(asyncio.CancelledError):
        await broken.night(MIDNIGHT + MINUTE)
    monkeypatch.setattr(journal, "write_down", write_down)
    async with database.reading() as session:
        assert await nights.pending(session, now=MIDNIGHT + MINUTE) == [broken.program_id]
    rest = await broken.night(MIDNIGHT + MINUTE)

    assert rest.accounts == expected.accounts - 4 * (breaks_at - 1)
    for one, other in zip(*people, strict=True):
        assert await broken.facts(one) == await twin.facts(other)
        for kind in ("tier.changed", "points.expired", "points.activated", "event"):
            assert [at for at, _ in await broken.timeline(one, kind)] == [
                at for at, _ in await twin.timeline(other, kind)
            ]
    async with database.reading() as session:
        states = await session.fetch(
            """
            SELECT array_agg(
                (available, pending, held, seq, tier_id IS NULL, next_due_at)::text ORDER BY contact_id
            ) AS accounts
            FROM loyalty_accounts GROUP BY program_id
            """
        )
    assert states[0]["accounts"] == states[1]["accounts"]


async def test_an_account_that_can_not_be_written_stands_in_nobody_s_way(town):
    await town.reward("birthday", 5)
    people = [await town.join(birth_on=BIRTH) for _ in range(7)]
    for sari in people:
        await town.award(sari, 10, expires_at=MIDNIGHT)
    async with town.database.begin() as session:
        await session.execute("UPDATE loyalty_accounts SET seq = 0 WHERE contact_id = $1", people[3])

    night = await town.night(MIDNIGHT)

    # Left out where it is due, and again where its birthday is.
    assert (night.left_out, night.birthdays, night.expired) == (2, Tally(6, 30), Tally(6, 60))
    assert len(await town.facts(people[3])) == 1
    async with town.database.begin() as session:
        await session.execute("UPDATE loyalty_accounts SET seq = 1 WHERE contact_id = $1", people[3])
    assert (await town.night(MIDNIGHT)).birthdays == Tally(1, 5)


async def test_a_birthday_for_which_there_is_no_room_is_left_out_and_what_is_due_is_not(town):
    await town.reward("birthday", 5)
    sari = await town.join(birth_on=BIRTH)
    await town.award(sari, 2**53 - 4)
    await town.award(sari, 3, expires_at=MIDNIGHT + MINUTE)

    night = await town.night(MIDNIGHT + MINUTE)

    assert (night.left_out, night.birthdays, night.expired) == (0, Tally(), Tally(1, 3))


async def test_an_account_that_waits_for_points_that_were_spent_waits_no_more(town):
    sari = await town.join()
    await town.award(sari, 10, expires_at=MIDNIGHT)
    async with town.database.begin() as session:
        await redemptions.redeem(
            session, program_id=town.program_id, contact_id=sari, points=10, order_ref=None, place={}, by="till",
            once=None, now=START,
        )  # fmt: skip

    assert (await town.night(MIDNIGHT)).accounts == 1
    assert (await town.night(MIDNIGHT)).accounts == 0


async def test_a_hold_that_ends_later_is_waited_for_when_something_else_was_due(town):
    sari = await town.join()
    await town.award(sari, 100)
    await town.hold(sari, 40, until=MIDNIGHT + DAY)
    await town.award(sari, 30, expires_at=MIDNIGHT)

    assert (await town.night(MIDNIGHT)).released == Tally()
    assert (await town.night(MIDNIGHT + 2 * DAY)).released == Tally(1, 40)


async def test_a_program_that_is_not_there_has_no_night(database):
    with pytest.raises(ProgramNotFound):
        await nights.run(database, program_id=uuid7(), at=MIDNIGHT, clock=lambda: MIDNIGHT)


# ---------------------------------------------------------------- at once


async def test_two_nights_at_once_do_everything_once(town, monkeypatch):
    monkeypatch.setattr(nights, "BATCH", 3)
    people = await _busy(town)
    seen: list[tuple[int, int]] = []

    reports = await asyncio.gather(
        *(
            nights.run(
                town.database, program_id=town.program_id, at=MIDNIGHT, clock=lambda: MIDNIGHT,
                watch=lambda done, total: seen.append((done, total)),
            )
            for _ in range(3)
        )
    )  # fmt: skip

    assert [report.left_out for report in reports] == [0, 0, 0]
    assert sum(report.birthdays.members for report in reports) == 4
    assert sum(report.expired.points for report in reports) == 10 * len(people)
    assert sum(report.activated.points for report in reports) == 20 * len(people)
    assert all(done <= total for done, total in seen)
    for sari in people:
        counts = Counter(fact[0] for fact in await town.facts(sari))
        assert (counts["activate"], counts["expire"]) == (1, 1)
        assert counts["birthday"] <= 1


async def test_the_night_and_the_day_s_business_do_not_stand_in_each_other_s_way(town, monkeypatch):
    monkeypatch.setattr(nights, "BATCH", 5)
    people = await _busy(town)
    before = {sari: (await town.facts(sari))[-1][2] for sari in people}
    at = MIDNIGHT + MINUTE

    async def buy(number: int) -> None:
        bought = [
            Bought(
                sari, basket.Purchase(order_ref=f"{number}-{sari}", occurred_at=at, currency="IDR", total=Decimal(9))
            )
            for sari in people[number::2]
        ]
        async with town.database.begin() as session:
            await purchases.record_all(session, program_id=town.program_id, bought=bought, by="till", now=at)

    async def spend(sari: UUID) -> None:
        async with town.database.begin() as session:
            await redemptions.redeem(
                session, program_id=town.program_id, contact_id=sari, points=3, order_ref=None, place={}, by="till",
                once=None, now=at,
            )  # fmt: skip

    async with asyncio.timeout(30):
        await asyncio.gather(
            town.night(at), *(buy(number) for number in range(6)), *(spend(sari) for sari in people), town.night(at)
        )

    for sari in people:
        counts = Counter(fact[0] for fact in await town.facts(sari))
        assert (counts["activate"], counts["expire"], counts["redeem"]) == (1, 1, 1)
        gift = 5 * counts["birthday"]
        assert (await town.facts(sari))[-1][2] == before[sari] + 20 - 10 - 3 + gift
    async with town.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM loyalty_events") == 4


async def test_a_batch_costs_the_same_statements_however_many_accounts_it_has(database, statements):
    counts = []
    for size in (2, 40):
        town = await Town.found(database)
        await town.reward("birthday", 5)
        await town.reward("anniversary", 5)
        for sari in await town.join_all([BIRTH] * size, at=MIDNIGHT - 365 * DAY):
            await town.award(sari, 10, expires_at=MIDNIGHT)
        await town.night(MIDNIGHT - DAY)
        statements.clear()
        night = await town.night(MIDNIGHT)
        assert (night.accounts, night.birthdays.members) == (size, size)
        counts.append(len(statements))
    # Once for the night: 5 to begin it, 3 to count whom it is for, 2 that find nobody, 3 to end it. Once for a batch:
    # find it, BEGIN, lock, whose day it is, what has been told, write, COMMIT.
    assert counts == [13 + 7] * 2


# ---------------------------------------------------------------- a busy night


async def _busy(town: Town) -> list[UUID]:
    """Members for whom something is due, for some of them at midnight, and some of whom have a birthday then."""
    await town.reward("birthday", 5)
    await town.tier("Gold", 35)
    people = await town.join_all([BIRTH if number % 3 == 0 else date(1990, 3, 11) for number in range(11)])
    for number, sari in enumerate(people):
        await town.award(sari, 10, expires_at=MIDNIGHT - (number % 2) * DAY)
        await town.award(sari, 20, activates_at=MIDNIGHT - (number % 4) * DAY)
        await town.award(sari, 3)
    await town.night(MIDNIGHT - 20 * DAY)
    return people


async def test_a_broken_account_is_told_apart_from_a_broken_database(town):
    await town.reward("birthday", 5)
    await town.join(birth_on=BIRTH)
    async with town.database.begin() as session:
        await session.execute("ALTER TABLE loyalty_events RENAME TO elsewhere")
    try:
        with pytest.raises(asyncpg.UndefinedTableError):
            await town.night(MIDNIGHT)
    finally:
        async with town.database.begin() as session:
            await session.execute("ALTER TABLE elsewhere RENAME TO loyalty_events")
