"""Whatever breaks off or is done twice, a step is taken once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from crm.inbox import outbound
from crm.loyalty import ledger
from crm.playbooks import steps, work
from tests.playbooks.hall import DAY, GIFT, HELLO, statuses

ALL = [
    GIFT, HELLO, {"kind": "task", "title": "Telepon", "due_days": 2},
    {"kind": "case", "subject": "Tanya kabar", "priority": "high"}, {"kind": "tag", "tag": "met"},
]  # fmt: skip


async def got(hall, contact_id):
    """How much of each step somebody has."""
    contact = await hall.get(f"/v1/contacts/{contact_id}")
    return (
        await hall.shop.available(contact_id), len(await hall.sent(contact_id)),
        len((await hall.get(f"/v1/contacts/{contact_id}/tasks"))["items"]),
        len((await hall.get(f"/v1/cases?contact_id={contact_id}"))["items"]), contact["tags"],
    )  # fmt: skip


async def test_every_step_is_taken_once_by_many_workers(hall):
    await hall.active(steps=ALL)
    people = [await hall.person(f"P{number}") for number in range(6)]
    for who in people:
        await hall.happens(who)
    await hall.follow()
    await asyncio.gather(*(hall.work(batch=2) for _ in range(4)))
    await hall.work()  # who was locked at that moment
    for who in people:
        assert await got(hall, who) == (10, 1, 1, 1, ["met"])
        [run] = await hall.runs(who)
        assert [step["outcome"] for step in run["steps"]] == ["taken"] * 5
        assert (await hall.told(who)).count("completed") == 1


async def test_many_who_read_the_timelines_begin_one_run(hall):
    await hall.active()
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await asyncio.gather(*(hall.follow() for _ in range(4)))
    assert len(await hall.runs(sari)) == 1
    async with hall.client.database.begin() as session:  # as if nothing had been read
        await session.execute("UPDATE timeline_cursors SET xid = '3' WHERE name = 'playbooks'")
    await hall.follow()
    assert len(await hall.runs(sari)) == 1


async def test_many_who_begin_a_day_begin_one_run(hall):
    await hall.active(trigger={"kind": "date", "date": "birthday"}, since=datetime(2027, 1, 1, tzinfo=UTC))
    people = [await hall.person(f"P{number}", birth_on="1990-03-10") for number in range(5)]
    now = datetime(2027, 3, 10, 3, tzinfo=UTC)
    begun = await asyncio.gather(*(hall.morning(now) for _ in range(4)))
    assert sum(each.total() for each in begun) == 5
    assert [len(await hall.runs(who)) for who in people] == [1] * 5


@pytest.mark.parametrize("place", range(5))
async def test_a_worker_that_dies_in_the_middle_of_a_step_leaves_nothing_of_it(hall, monkeypatch, place):
    await hall.active(steps=ALL)
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await hall.follow()
    write_down = work._write_down

    async def dies(session, turn, step, done):
        await write_down(session, turn, step, done)
        if turn.row["position"] == place:
            raise asyncio.CancelledError  # all is done, and the commit does not come

    monkeypatch.setattr(work, "_write_down", dies)
    with pytest.raises(asyncio.CancelledError):
        await hall.work()
    monkeypatch.setattr(work, "_write_down", write_down)
    [run] = await hall.runs(sari)
    assert (run["status"], run["position"], len(run["steps"])) == ("running", place, place)
    await hall.work()
    assert await got(hall, sari) == (10, 1, 1, 1, ["met"])


async def test_a_step_that_fails_for_reasons_of_ours_is_tried_again_and_given_up_in_the_end(hall, monkeypatch):
    await hall.active(steps=[GIFT, HELLO])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(sari)
    await hall.follow()
    now, award = datetime.now(UTC), ledger.award

    async def broken(*args, **facts):
        raise LookupError("nobody thought of that")

    monkeypatch.setattr(steps.ledger, "award", broken)
    waits = []
    for _ in range(work.ATTEMPTS_MAX):
        await hall.work(now)
        [run] = await hall.runs(sari)
        if run["due_at"]:
            waits.append((datetime.fromisoformat(run["due_at"]) - now) / timedelta(minutes=5))
            now = datetime.fromisoformat(run["due_at"])
    assert waits == [1, 2, 4, 8, 16]
    assert statuses(await hall.runs(sari)) == [("failed", "error")]
    monkeypatch.setattr(steps.ledger, "award", award)
    await hall.happens(dewi)
    await hall.follow()
    await hall.work()
    assert statuses(await hall.runs(dewi)) == [("completed", None)]
    assert await hall.shop.available(sari) == 0


async def test_a_message_with_the_key_of_a_step_is_queued_once(hall):
    await hall.active()
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    [run] = await hall.runs(sari)
    async with hall.client.database.begin() as session:
        draft = outbound.Draft(text="Halo lagi", channel="email", purpose="marketing")
        house = work.House("ID", DAY)
        message, new = await outbound.send(
            session, contact_id=sari, draft=draft, house=house, by="t", natural_key=f"playbook:{run['id']}:0",
            now=datetime.now(UTC),
        )  # fmt: skip
    assert (new, str(message.id)) == (False, run["steps"][0]["data"]["message_id"])


async def test_a_contact_whom_somebody_has_locked_is_left_for_the_next_time(hall):
    await hall.active(steps=[GIFT])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    for who in (sari, dewi):
        await hall.happens(who)
    await hall.follow()
    async with hall.client.database.begin() as session:
        await session.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", sari)
        assert await hall.work() == 1
    assert await hall.work() == 1
    assert [await hall.shop.available(who) for who in (sari, dewi)] == [10, 10]
