"""Runs go with the person: to the survivor of a merge, into what is told of them, and away when they are forgotten."""

from datetime import UTC, datetime

from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import merge, undo
from tests.playbooks.hall import DAY, GIFT, statuses

WAIT = {"kind": "wait", "seconds": 86_400}
BIRTHDAY = {"kind": "date", "date": "birthday"}
MORNING = datetime(2027, 3, 10, 3, tzinfo=UTC)


async def test_a_run_goes_on_with_the_survivor(hall):
    await hall.active(steps=[GIFT, WAIT, GIFT])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(dewi)
    await hall.follow()
    await hall.work()
    merged = await merge(hall.client, sari, dewi)
    assert merged["moved"]["playbook_runs"] == 1
    await hall.work(datetime.now(UTC) + DAY)
    [run] = await hall.runs(sari)
    assert (run["contact_id"], run["status"], len(run["steps"])) == (str(sari), "completed", 3)
    assert await hall.runs(dewi) == [run]
    assert await hall.shop.available(sari) == 20


async def test_what_happened_with_the_other_before_a_merge_is_read_after_it(hall):
    await hall.active(steps=[GIFT])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(dewi)
    await merge(hall.client, sari, dewi)
    await hall.follow()
    await hall.work()
    assert [run["contact_id"] for run in await hall.runs(sari)] == [str(sari)]
    assert await hall.shop.available(sari) == 10


async def test_two_who_are_one_person_have_one_birthday(hall):
    await hall.active(trigger=BIRTHDAY, steps=[GIFT, WAIT, GIFT], since=datetime(2027, 1, 1, tzinfo=UTC))
    sari, dewi = [await hall.person(name, birth_on="1990-03-10") for name in ("Sari", "Dewi")]
    await hall.morning(MORNING)
    await hall.work(MORNING)
    merged = await merge(hall.client, sari, dewi)
    await hall.work(MORNING + DAY)
    assert sorted(statuses(await hall.runs(sari)), key=str) == [("cancelled", "merged"), ("completed", None)]
    assert await hall.shop.available(sari) == 30  # what both had, and once more
    assert (await hall.told(sari)).count("cancelled merged") == 1
    await undo(hall.client, merged)
    await hall.work(datetime.now(UTC) + DAY * 400)
    assert statuses(await hall.runs(dewi)) == [("completed", None)]
    assert [await hall.shop.available(who) for who in (sari, dewi)] == [20, 20]


async def test_a_merge_that_is_undone_gives_the_runs_back(hall):
    await hall.active(steps=[WAIT, GIFT])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(dewi)
    await hall.follow()
    await hall.work()
    await undo(hall.client, await merge(hall.client, sari, dewi))
    await hall.work(datetime.now(UTC) + DAY)
    assert await hall.runs(sari) == []
    [run] = await hall.runs(dewi)
    assert (run["status"], [step["position"] for step in run["steps"]]) == ("completed", [0, 1])
    assert [await hall.shop.available(who) for who in (sari, dewi)] == [0, 10]


async def test_what_playbooks_did_is_told_and_goes_with_the_person(hall):
    await hall.active(steps=[GIFT, WAIT, GIFT])
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    data = await hall.get(f"/v1/contacts/{sari}/personal-data")
    [run] = data["sections"]["playbook_runs"]
    assert (run["status"], [step["kind"] for step in run["steps"]]) == ("running", ["points", "wait"])
    certificate = await erase(hall.client, sari)
    assert (certificate["erased"]["playbook_runs"], certificate["erased"]["playbook_steps"]) == (1, 2)
    assert await hall.work(datetime.now(UTC) + DAY) == 0
    async with hall.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM playbook_runs") == 0


async def test_nothing_begins_for_somebody_who_was_forgotten(hall):
    await hall.active(steps=[GIFT])
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await erase(hall.client, sari)
    await hall.follow()
    async with hall.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM playbook_runs") == 0
