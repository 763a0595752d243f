"""Policies set clocks; a sweep finds who is late, at the time at which they were, and escalates."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.care import sweeps
from crm.db.ids import uuid7
from crm.jobs import SCHEDULES
from crm.vocabulary import VOCABULARY
from tests.care.test_cases import a_case, an_agent, change, clock, the_case
from tests.interactions.test_merges import made
from tests.loyalty.shop import checksum

HOURS = {"monday": [["09:00", "12:00"], ["13:00", "17:00"]], "friday": [["09:00", "11:00"]]}
OFFICE = {"name": "Kantor", "time_zone": "Asia/Jakarta", "hours": HOURS, "exceptions": {"2026-12-25": []}}
TARGETS = {
    "high": {"first_reply": "PT1H", "next_reply": "PT2H", "resolution": "P1D"},
    "urgent": {"first_reply": "PT15M", "resolution": "PT4H"},
}


async def a_policy(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/sla-policies", json={"name": "Usual", "targets": TARGETS, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def a_calendar(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/business-calendars", json=OFFICE | facts)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def sweep(session: Any, now: datetime) -> int:
    return await sweeps.look(session, vocabulary=VOCABULARY, now=now)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def told(client: Any, case: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    page = (await client.get(f"/v1/cases/{case['id']}/timeline?limit=200")).json()["items"]
    return [item for item in reversed(page) if item["kind"] == kind]


async def test_a_breach_is_told_at_its_due_time_however_late_somebody_looks(client, session):
    await a_policy(client)
    case = await a_case(client, await made(client, {"name": "Sari"}))
    due = instant(clock(case, "first_reply")["due_at"])
    assert due - instant(case["created_at"]) == timedelta(hours=1)
    assert case["due_at"] == clock(case, "first_reply")["due_at"]
    assert await sweep(session, due) == 0, "at the due time itself it is not late"
    assert await sweep(session, due + timedelta(hours=5)) == 1
    late = await the_case(client, case)
    assert (late["breach_count"], clock(late, "first_reply")["state"]) == (1, "breached")
    [breach] = await told(client, case, "case.breached")
    assert instant(breach["occurred_at"]) == due
    before = await checksum(session)
    assert await sweep(session, due + timedelta(hours=6)) == 0
    assert await checksum(session) == before


async def test_what_was_in_time_and_told_of_late_is_no_breach(client, session):
    await a_policy(client)
    sari = await made(client, {"name": "Sari"})
    case = await a_case(client, sari)
    now = datetime.now(UTC)
    await sweep(session, now + timedelta(hours=2))
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "outbound", "occurred_at": now.isoformat(), "body": "Ya",
        "case_id": case["id"],
    }  # fmt: skip
    assert (await client.post(f"/v1/contacts/{sari}/interactions", json=message)).status_code == 201
    answered = await the_case(client, case)
    assert (clock(answered, "first_reply")["state"], answered["breach_count"]) == ("met", 0)
    assert len(await told(client, case, "case.breach_corrected")) == 1


async def test_steps_are_taken_before_the_breach_and_at_it_and_each_once(client, session):
    await an_agent(client, "rina")
    await an_agent(client, "budi")
    await a_policy(
        client,
        escalations=[
            {"metric": "first_reply", "before": "PT20M", "task": "Jawab segera"},
            {"metric": "first_reply", "assignee": "budi", "priority": "urgent"},
        ],
    )
    sari = await made(client, {"name": "Sari"})
    case = await a_case(client, sari, assignee="rina")
    due = instant(clock(case, "first_reply")["due_at"])
    assert await sweep(session, due - timedelta(minutes=21)) == 0
    assert await sweep(session, due - timedelta(minutes=19)) == 1
    [task] = (await client.get("/v1/tasks")).json()["items"]
    assert (task["title"], task["assignee"], task["case_id"]) == ("Jawab segera", "rina", case["id"])
    assert await sweep(session, due - timedelta(minutes=18)) == 0
    assert await sweep(session, due + timedelta(minutes=1)) == 1
    late = await the_case(client, case)
    assert (late["assignee"], late["priority"]) == ("budi", "urgent")
    resolution = instant(clock(late, "resolution")["due_at"]) - instant(case["created_at"])
    assert resolution == timedelta(hours=4), "another priority has other targets"
    steps = await told(client, case, "case.escalated")
    assert [step["data"]["before_seconds"] for step in steps] == [1200, 0]
    assert len((await client.get("/v1/tasks")).json()["items"]) == 1


async def test_resolution_pauses_while_waiting_if_the_policy_says_so(client):
    sari = await made(client, {"name": "Sari"})
    policy = await a_policy(client)
    case = await a_case(client, sari)
    waiting = await change(client, case, status="waiting")
    assert (clock(waiting, "resolution")["state"], clock(waiting, "resolution")["due_at"]) == ("paused", None)
    assert clock(waiting, "first_reply")["state"] == "active", "reply clocks do not pause"
    going_on = await change(client, case, status="open")
    assert clock(going_on, "resolution")["state"] == "active"
    answer = await client.patch(f"/v1/sla-policies/{policy['id']}", json={"pauses_while_waiting": False})
    assert answer.json()["version"] == 2
    other = await change(client, await a_case(client, sari), status="waiting")
    assert clock(other, "resolution")["state"] == "active"


async def test_the_first_policy_in_order_whose_condition_holds_applies(client):
    vip = await a_policy(client, name="VIP", position=1, condition={"field": "tags", "op": "contains", "value": "vip"})
    delivery = {"field": "case.category", "op": "eq", "value": "delivery"}
    late = await a_policy(client, name="Delivery", position=2, condition=delivery)
    usual = await a_policy(client, name="Usual", position=3)
    sari, dewi = await made(client, {"name": "Sari", "tags": ["vip"]}), await made(client, {"name": "Dewi"})
    assert (await a_case(client, sari))["policy_id"] == vip["id"]
    case = await a_case(client, dewi)
    assert case["policy_id"] == late["id"]
    assert (await change(client, case, category="refund"))["policy_id"] == usual["id"]
    listed = (await client.get("/v1/sla-policies?limit=2")).json()
    rest = (await client.get("/v1/sla-policies", params={"cursor": listed["next_cursor"]})).json()
    assert [one["name"] for one in (*listed["items"], *rest["items"])] == ["VIP", "Delivery", "Usual"]
    answer = await client.patch(f"/v1/sla-policies/{vip['id']}", json={"status": "archived"})
    assert answer.status_code == 200
    assert (await a_case(client, sari))["policy_id"] == late["id"]
    busy = {"field": "open_cases", "op": "gte", "value": 2}
    await client.patch(f"/v1/sla-policies/{late['id']}", json={"condition": busy})
    assert (await a_case(client, sari))["policy_id"] == late["id"]
    assert (await a_case(client, await made(client, {"name": "Budi"})))["policy_id"] == usual["id"]


async def test_clocks_follow_their_calendar_when_it_changes(client, session):
    everyday = {day: [["00:00", "24:00"]] for day in
                ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")}  # fmt: skip
    calendar = await a_calendar(client, time_zone="UTC", hours=everyday, exceptions={})
    await a_policy(client, calendar_id=calendar["id"])
    case = await a_case(client, await made(client, {"name": "Sari"}))
    created = instant(case["created_at"])
    assert instant(clock(case, "resolution")["due_at"]) == created + timedelta(days=1)
    holidays = {(created + timedelta(days=n)).date().isoformat(): [] for n in (1, 2)}
    answer = await client.patch(f"/v1/business-calendars/{calendar['id']}", json={"exceptions": holidays})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert await sweeps.recalculate(session, now=created) == 1
    assert await sweeps.recalculate(session, now=created) == 0
    moved = instant(clock(await the_case(client, case), "resolution")["due_at"])
    assert moved == created + timedelta(days=3)


async def test_what_was_resolved_long_ago_is_closed(client, session):
    await a_policy(client, reopen_within="PT1H")
    case = await a_case(client, await made(client, {"name": "Sari"}))
    done = await change(client, case, status="resolved")
    until = instant(done["reopenable_until"])
    assert until - instant(done["resolved_at"]) == timedelta(hours=1)
    assert await sweeps.close(session, now=until) == 0
    assert await sweeps.close(session, now=until + timedelta(seconds=1)) == 1
    assert (await the_case(client, case))["status"] == "closed"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"hours": {}}, "invalid"), ({"hours": {"monday": []}}, "invalid_calendar"),
        ({"hours": {"monday": [["12:00", "09:00"]]}}, "invalid_calendar"),
        ({"hours": {"monday": [["09:00", "12:00"], ["11:00", "13:00"]]}}, "invalid_calendar"),
        ({"hours": {"monday": [["25:00", "26:00"]]}}, "invalid"), ({"hours": {"someday": []}}, "invalid"),
        ({"time_zone": "Mars/Olympus"}, "invalid"), ({"exceptions": {"2026-02-30": []}}, "invalid"),
    ],
)  # fmt: skip
async def test_what_nobody_can_work_by_is_refused(client, session, body, code):
    await client.get("/v1/business-calendars")
    before = await checksum(session)
    answer = await client.post("/v1/business-calendars", json=OFFICE | body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"targets": {"high": {"first_reply": "PT0S"}}}, "invalid"),
        ({"targets": {"high": {"second_reply": "PT1S"}}}, "invalid"),
        ({"calendar_id": str(uuid7())}, "unknown_calendar"),
        ({"condition": {"field": "case.colour", "op": "eq", "value": "red"}}, "invalid_condition"),
        ({"escalations": [{"metric": "first_reply", "before": "P9999D"}]}, "invalid"),
    ],
)
async def test_what_is_no_policy_is_refused(client, body, code):
    answer = await client.post("/v1/sla-policies", json={"name": "x", "targets": TARGETS} | body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_the_worker_watches_clocks_and_closes_cases(live_client, database):
    await a_policy(live_client)
    sari = await made(live_client, {"name": "Sari"})
    late, done = await a_case(live_client, sari), await a_case(live_client, sari)
    await change(live_client, done, status="resolved")
    now = datetime.now(UTC) + timedelta(days=30)
    await SCHEDULES["watch_case_clocks"].run(database, now=now)
    await SCHEDULES["close_cases"].run(database, now=now)
    assert (await the_case(live_client, late))["breach_count"] == 2
    assert (await the_case(live_client, done))["status"] == "closed"


async def test_two_sweeps_at_once_tell_one_breach(live_client, database):
    await a_policy(live_client, escalations=[{"metric": "first_reply", "task": "Jawab"}])
    case = await a_case(live_client, await made(live_client, {"name": "Sari"}))
    now = datetime.now(UTC) + timedelta(hours=2)
    await asyncio.gather(*(SCHEDULES["watch_case_clocks"].run(database, now=now) for _ in range(4)))
    assert (await the_case(live_client, case))["version"] == 2
    assert len(await told(live_client, case, "case.breached")) == 1
    assert len((await live_client.get("/v1/tasks")).json()["items"]) == 1


async def test_who_has_open_cases_can_be_searched_for(client):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    case = await a_case(client, sari)
    await change(client, await a_case(client, dewi), status="resolved")
    search = {"filter": {"field": "open_cases", "op": "gte", "value": 1}}
    found = (await client.post("/v1/contacts/search", json=search)).json()["items"]
    assert [one["id"] for one in found] == [str(sari)]
    await change(client, case, status="waiting")
    assert len((await client.post("/v1/contacts/search", json=search)).json()["items"]) == 1
    await change(client, case, status="closed")
    assert (await client.post("/v1/contacts/search", json=search)).json()["items"] == []
