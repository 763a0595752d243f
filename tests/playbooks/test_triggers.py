"""What begins a run, and what does not."""

from datetime import UTC, date, datetime

import pytest

from tests.playbooks.hall import DAY, GIFT

NOON = datetime(2027, 3, 10, 5, tzinfo=UTC)
"""In Jakarta."""


@pytest.mark.parametrize(
    ("trigger", "before", "after", "begins"),
    [
        ({"change": "reached"}, None, "Silver", True),
        ({"change": "reached"}, "Silver", "Gold", True),
        ({"change": "reached"}, "Gold", "Silver", False),
        ({"change": "reached", "tier": "Gold"}, None, "Silver", False),
        ({"change": "reached", "tier": "Gold"}, None, "Gold", True),
        ({"change": "lost"}, "Gold", "Silver", True),
        ({"change": "lost"}, "Silver", None, True),
        ({"change": "lost"}, "Silver", "Gold", False),
        ({"change": "lost", "tier": "Gold"}, "Silver", None, False),
        ({"change": "lost", "tier": "Gold"}, "Gold", None, True),
    ],
)
async def test_a_tier_is_reached_from_below_and_lost_from_above(hall, trigger, before, after, begins):
    program = f"/v1/programs/{hall.shop.program_id}"
    for name, threshold in (("Silver", 100), ("Gold", 200)):
        await hall.post(f"{program}/tiers", {"name": name, "threshold": threshold})
    await hall.active(trigger={"kind": "tier", **trigger}, steps=[GIFT], since=NOON - DAY)
    sari = await hall.person("Sari")
    async with hall.client.database.begin() as session:
        await session.execute(
            """
            INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
            VALUES ($1, new_uuid7(), 'tier.changed', $2, $2, 'loyalty', $3, 'system')
            """,
            sari, NOON, {"program_id": hall.shop.program_id, "from": before, "to": after},
        )  # fmt: skip
    await hall.follow(NOON)
    assert len(await hall.runs(sari)) == begins


@pytest.mark.parametrize(
    ("born", "offset", "on", "occasion"),
    [
        ("1990-03-10", 0, "2027-03-10", "birthday:2027"),
        ("1990-03-10", -7, "2027-03-03", "birthday:2027"),
        ("1990-03-10", 2, "2027-03-12", "birthday:2027"),
        ("1990-01-02", -7, "2026-12-26", "birthday:2027"),
        ("1990-12-30", 4, "2027-01-03", "birthday:2026"),
        ("1992-02-29", 0, "2027-02-28", "birthday:2027"),
        ("1992-02-29", 0, "2028-02-28", None),
        ("1992-02-29", 0, "2028-02-29", "birthday:2028"),
        ("2027-01-05", 0, "2027-01-05", None),
        ("1990-03-10", 0, "2027-03-11", None),
    ],
)
async def test_a_birthday_is_that_of_the_year_around_which_it_lies(hall, born, offset, on, occasion):
    noon = datetime.fromisoformat(f"{on}T05:00+00:00")
    trigger = {"kind": "date", "date": "birthday", "offset_days": offset}
    await hall.active(trigger=trigger, steps=[GIFT], since=noon)
    sari = await hall.person("Sari")
    async with hall.client.database.begin() as inner:
        await inner.execute("UPDATE contacts SET birth_on = $2 WHERE id = $1", sari, date.fromisoformat(born))
    await hall.morning(noon)
    assert [run["occasion"] for run in await hall.runs(sari)] == ([] if occasion is None else [occasion])


async def test_missed_days_are_made_good_for_three_days(hall):
    await hall.active(trigger={"kind": "date", "date": "birthday"}, steps=[GIFT], since=NOON - 30 * DAY)
    people = [await hall.person(f"P{day}", birth_on=f"1990-03-{day:02}") for day in (7, 8, 9, 10, 11)]
    await hall.morning(NOON - 10 * DAY)
    await hall.morning(NOON)
    assert [len(await hall.runs(who)) for who in people] == [0, 1, 1, 1, 0]


async def test_the_day_on_which_it_is_made_active_counts_and_those_before_do_not(hall):
    await hall.active(trigger={"kind": "date", "date": "birthday"}, steps=[GIFT], since=NOON)
    people = [await hall.person(f"P{day}", birth_on=f"1990-03-{day:02}") for day in (9, 10)]
    await hall.morning(NOON)
    assert [len(await hall.runs(who)) for who in people] == [0, 1]


async def test_each_day_begins_at_the_midnight_of_its_zone(hall):
    await hall.active(trigger={"kind": "date", "date": "birthday"}, steps=[GIFT], since=NOON - 30 * DAY)
    zones = ("Pacific/Auckland", "Asia/Jayapura", None, "Europe/Lisbon", "America/New_York")
    people = [
        await hall.person(f"P{number}", birth_on="1990-03-10", **({"time_zone": zone} if zone else {}))
        for number, zone in enumerate(zones)
    ]
    begun = []
    for hour in (10, 12, 15, 17, 24, 29):  # of the 9th, in UTC
        await hall.morning(datetime(2027, 3, 9, 0, 1, tzinfo=UTC) + DAY * hour / 24)
        begun.append([len(await hall.runs(who)) for who in people])
    assert begun == [
        [0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1],
    ]  # fmt: skip
