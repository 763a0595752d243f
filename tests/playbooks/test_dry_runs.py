"""A dry run says who would get what today, and why others would not; it writes nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from crm.inbox.house import House, QuietHours
from crm.playbooks import dry_runs, playbooks
from crm.vocabulary import VOCABULARY
from tests.loyalty.shop import checksum
from tests.playbooks.hall import DAY, GIFT, HELLO, QUIET

BIRTHDAY = {"kind": "date", "date": "birthday"}
MORNING = datetime(2027, 3, 9, 18, tzinfo=UTC)
"""The 10th in Jakarta, at one o'clock at night."""


async def tried(hall, playbook_id, *, now=MORNING, house=QUIET, after=None, limit=50):
    """A dry run at a time of ours."""
    async with hall.client.database.begin() as session:
        playbook = await playbooks.get(session, playbook_id=playbook_id)
        return await dry_runs.run(
            session, playbook=playbook, vocabulary=VOCABULARY, house=house, after=after, limit=limit, now=now
        )


async def test_a_draft_shows_whose_birthday_it_is_and_what_they_would_get(hall):
    draft = await hall.draft(trigger=BIRTHDAY, steps=[GIFT, HELLO, {"kind": "wait", "seconds": 86_400}, HELLO])
    sari = await hall.person("Sari", birth_on="1990-03-10")
    dewi = await hall.person("Dewi", birth_on="1990-03-10", allows=False)
    await hall.person("Tono", birth_on="1990-03-10", time_zone="America/New_York")  # there it is still the 9th
    async with hall.client.database.reading() as session:
        before = await checksum(session)
    dry_run, last = await tried(hall, draft)
    async with hall.client.database.reading() as session:
        assert await checksum(session) == before
    assert (dry_run.count, dry_run.would_run, dry_run.skipped, last) == (2, 2, {}, None)
    shown = {
        item.contact_id: [(step.kind, step.outcome, step.reason, step.at) for step in item.steps]
        for item in dry_run.items
    }
    eight = datetime(2027, 3, 10, 1, tzinfo=UTC)
    assert shown[sari] == [
        ("points", "taken", None, MORNING), ("message", "taken", "quiet_hours", eight), ("wait", "taken", None, eight),
        ("message", "taken", None, eight + DAY),
    ]  # fmt: skip
    assert [each[:3] for each in shown[dewi]] == [
        ("points", "taken", None), ("message", "skipped", "no_consent"), ("wait", "taken", None),
        ("message", "skipped", "no_consent"),
    ]  # fmt: skip


async def test_what_is_shown_is_what_happens_then(hall):
    vip = {"field": "tags", "op": "contains", "value": "vip"}
    playbook_id = await hall.active(
        trigger=BIRTHDAY, condition=vip, cap={"runs_max": 1, "days": 300}, since=datetime(2027, 1, 1, tzinfo=UTC)
    )
    people = {
        "fits": await hall.person("Sari", birth_on="1990-03-10", tags=["vip"]),
        "denies": await hall.person("Dewi", birth_on="1990-03-10", tags=["vip"], allows=False),
        "is none": await hall.person("Tono", birth_on="1990-03-10"),
        "had it": await hall.person("Wati", birth_on="1990-03-09", tags=["vip"]),
    }
    await hall.morning(MORNING - DAY)
    await hall.work(MORNING - DAY)
    await hall.client.patch(f"/v1/contacts/{people['had it']}", json={"birth_on": "1990-03-10"})
    house = House("ID", DAY, QuietHours(QUIET.quiet.begin, QUIET.quiet.begin))
    dry_run, _ = await tried(hall, playbook_id, house=house)
    assert (dry_run.count, dry_run.would_run, dry_run.skipped) == (4, 2, {"condition": 1, "had_it": 1})
    shown = {
        item.contact_id: item.steps[0].reason or item.steps[0].outcome if item.steps else item.reason
        for item in dry_run.items
    }
    assert shown == {
        people["fits"]: "taken", people["denies"]: "no_consent", people["is none"]: "condition",
        people["had it"]: "had_it",
    }  # fmt: skip
    await hall.morning(MORNING)
    await hall.work(MORNING)
    for name, who in people.items():
        runs = [run for run in await hall.runs(who) if datetime.fromisoformat(run["started_at"]) == MORNING]
        became = [run["steps"][0]["reason"] or run["steps"][0]["outcome"] for run in runs]
        assert became == ([] if name in {"is none", "had it"} else [shown[who]]), name


async def test_caps_count_in_a_dry_run(hall):
    cap = {"runs_max": 1, "days": 30}
    visits = await hall.active(cap=cap, messages_cap={"messages_max": 1, "days": 7}, steps=[HELLO, HELLO])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    await hall.happens(sari)
    await hall.happens(dewi)
    found = await hall.dry(visits)
    assert (found["count"], found["would_run"]) == (3, 1)
    assert found["skipped"] == {"frequency_cap": 1, "had_it": 1}
    steps = next(item["steps"] for item in found["items"] if item["contact_id"] == str(dewi))
    assert [step["reason"] for step in steps if step["reason"] != "quiet_hours"][-1] == "message_cap"


async def test_the_pages_of_a_dry_run_are_everybody_once(hall):
    draft = await hall.draft(trigger=BIRTHDAY)
    people = [await hall.person(f"P{number}", birth_on="1990-03-10") for number in range(7)]
    found, after = [], None
    for _ in range(4):
        dry_run, after = await tried(hall, draft, after=after, limit=2)
        found += [item.contact_id for item in dry_run.items]
        assert dry_run.count == 7
    assert (found, after) == (people, None)


@pytest.mark.parametrize(
    ("trigger", "count"),
    [
        ({"kind": "interaction", "interaction": "visit", "where": {"field": "channel", "op": "eq", "value": "web"}}, 0),
        ({"kind": "interaction", "interaction": "visit"}, 1),
        ({"kind": "inactivity", "days": 1, "interactions": ["visit"]}, 0),
        ({"kind": "date", "date": "anniversary"}, 0),
        ({"kind": "points_expiring", "days": 3}, 0),
    ],
)
async def test_every_trigger_can_be_tried_over_http(hall, trigger, count):
    sari = await hall.person("Sari")
    await hall.shop.award(sari, 5)
    await hall.happens(sari)
    found = await hall.dry(await hall.draft(trigger=trigger, steps=[GIFT]), limit=1)
    assert (found["count"], found["next_cursor"]) == (count, None)


async def test_anniversaries_are_those_of_joining_by_the_contacts_clock(hall):
    sari = await hall.person("Sari")
    await hall.shop.award(sari, 5)
    joined = datetime(2024, 2, 28, 18, tzinfo=UTC)  # the 29th in Jakarta
    async with hall.client.database.begin() as session:
        await session.execute("UPDATE loyalty_accounts SET enrolled_at = $1", joined)
    draft = await hall.draft(trigger={"kind": "date", "date": "anniversary"}, steps=[GIFT])
    before = await hall.draft(trigger={"kind": "date", "date": "anniversary", "offset_days": -3}, steps=[GIFT])
    noon = datetime(2027, 2, 28, 5, tzinfo=UTC)
    found = [
        (await tried(hall, draft, now=noon + days * DAY))[0].count for days in (-1, 0, 1)
    ]  # fmt: skip
    assert found == [0, 1, 0]
    assert (await tried(hall, before, now=noon - 3 * DAY))[0].items[0].occasion == "anniversary:2027"
    assert (await tried(hall, draft, now=datetime(2028, 2, 29, 5, tzinfo=UTC)))[0].count == 1
    assert (await tried(hall, draft, now=joined + timedelta(hours=1)))[0].count == 0
