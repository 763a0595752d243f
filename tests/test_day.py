"""A day in the life: a question on a Friday evening, an answer too late on Monday, and what the shop makes of it.

The shop is in Berlin, where the clocks are put back on the Sunday between.
"""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm.api import requests
from crm.jobs import SCHEDULES
from tests.care.test_cases import an_agent, change, clock, the_case
from tests.horizon import until_others_end
from tests.inbox.sending import Writer, open_post
from tests.serving import calling

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 10, 23, 16, 50, tzinfo=BERLIN)
MONDAY = datetime(2026, 10, 26, 9, 0, tzinfo=BERLIN)
DUE = datetime(2026, 10, 26, 8, 50, tzinfo=UTC)
"""Ten of sixty minutes have passed by five on Friday; fifty more have at 9:50 on Monday, an hour behind UTC by then."""
OFFICE = {
    "name": "Shop", "time_zone": "Europe/Berlin",
    "hours": {day: [["09:00", "17:00"]] for day in ("monday", "tuesday", "wednesday", "thursday", "friday")},
}  # fmt: skip
TOLD = {
    "contact.created", "message", "case.opened", "case.escalated", "case.breached", "case.resolved", "survey.invited",
    "survey.answered", "playbook.completed",
}  # fmt: skip


class Wall:
    """The clock on the wall, which shows what the test says."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self, zone: Any) -> datetime:
        return self.at.astimezone(zone)


class Day:
    """The shop, the customer's phone, and the worker, all at the time on the wall."""

    def __init__(self, writer: Writer, wall: Wall) -> None:
        self.writer = writer
        self.client = writer.client
        self.wall = wall

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    async def hear(self, text: str, number: int) -> None:
        """Sari writes on WhatsApp."""
        await self.writer.wrote(text, at=self.wall.at, id=f"wamid.IN{number}")

    async def work(self, *names: str) -> None:
        """The worker does what it has to do by now."""
        for name in names:
            await SCHEDULES[name].run(self.client.database, now=self.wall.at.astimezone(UTC))

    async def sari(self) -> dict[str, Any]:
        return await self.writer.contact("whatsapp", "628123456789")


@pytest.fixture
async def day(database: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Day]:
    wall = Wall(FRIDAY)
    monkeypatch.setattr(requests, "datetime", wall)
    async with open_post() as post, calling(database) as client:
        writer = await Writer.at(client, post)
        monkeypatch.setattr(writer, "work", lambda: Writer.work(writer, now=wall.at.astimezone(UTC)))
        yield Day(writer, wall)


async def test_a_question_on_a_friday_evening_becomes_what_the_owner_reads_on_monday(day, database):
    # The shop is set up.
    for agent in ("rina", "budi"):
        await an_agent(day.client, agent)
    calendar = await day.post("/v1/business-calendars", OFFICE)
    await day.post("/v1/sla-policies", {
        "name": "Usual", "calendar_id": calendar["id"],
        "targets": {"normal": {"first_reply": "PT1H", "resolution": "P1D"}, "high": {"first_reply": "PT1H"}},
        "escalations": [
            {"metric": "first_reply", "before": "PT15M", "task": "Answer at once"},
            {"metric": "first_reply", "assignee": "budi", "priority": "high"},
        ],
    })  # fmt: skip
    await day.post("/v1/case-rules", {
        "name": "Questions", "channels": ["whatsapp"], "category": "delivery",
        "assignment": {"mode": "manual", "agent": "rina"},
    })  # fmt: skip
    survey = await day.post("/v1/surveys", {"name": "After a case", "kind": "csat"})
    playbook = await day.post("/v1/playbooks", {
        "name": "Low rating",
        "trigger": {
            "kind": "interaction", "interaction": "survey.answered",
            "where": {"field": "data.score", "op": "lte", "value": 2},
        },
        "steps": [{"kind": "task", "title": "Call whoever was disappointed", "due_days": 1}],
    })  # fmt: skip
    answer = await day.client.patch(f"/v1/playbooks/{playbook['id']}", json={"status": "active"})
    assert answer.status_code == 200, answer.text

    # Friday, ten to five: a question becomes a case by rule. A bot's reply does not stop its clock.
    await day.hear("Where is my order?", 1)
    [case] = (await day.client.get("/v1/cases")).json()["items"]
    assert (case["subject"], case["category"], case["assignee"]) == ("Where is my order?", "delivery", "rina")
    assert datetime.fromisoformat(clock(case, "first_reply")["due_at"]) == DUE
    day.wall.at = FRIDAY + timedelta(minutes=2)
    sari = await day.sari()
    await day.writer.write(sari["id"], "Thank you! A person will answer soon.")
    await day.writer.dispatch(now=day.wall.at.astimezone(UTC))
    case = await the_case(day.client, case)
    assert (case["first_replied_at"], clock(case, "first_reply")["state"]) == (None, "active")

    # The weekend is no working time, and neither is the hour that Sunday has more.
    day.wall.at = MONDAY + timedelta(minutes=34)
    await day.work("watch_case_clocks")
    assert (await day.client.get("/v1/tasks")).json()["items"] == []

    # It escalates before the breach, breaches at its due time, and escalates again.
    day.wall.at = MONDAY + timedelta(minutes=36)
    await day.work("watch_case_clocks")
    [task] = (await day.client.get("/v1/tasks")).json()["items"]
    assert (task["title"], task["assignee"]) == ("Answer at once", "rina")
    day.wall.at = MONDAY + timedelta(hours=1, minutes=5)
    await day.work("watch_case_clocks")
    case = await the_case(day.client, case)
    assert (case["assignee"], case["priority"], case["breach_count"]) == ("budi", "high", 1)
    told = (await day.client.get(f"/v1/cases/{case['id']}/timeline")).json()["items"]
    [breach] = [item for item in told if item["kind"] == "case.breached"]
    assert datetime.fromisoformat(breach["occurred_at"]) == DUE

    # Free text may go again when Sari asks again. A person's reply stops the clock, seventy-five working minutes late.
    refused = await day.writer.ask(sari["id"], "It left this morning.", human=True)
    assert (refused.status_code, refused.json()["code"]) == (409, "window_closed")
    await day.hear("Hello?", 2)
    await day.writer.write(sari["id"], "It left this morning. I am sorry!", human=True)
    await day.writer.dispatch(now=day.wall.at.astimezone(UTC))
    case = await the_case(day.client, case)
    assert (clock(case, "first_reply")["state"], case["first_reply_seconds"]) == ("breached", 75 * 60)
    assert [asked.json["text"]["body"] for asked in day.writer.post.taken] == [
        "Thank you! A person will answer soon.", "It left this morning. I am sorry!",
    ]  # fmt: skip

    # The case is resolved, and Sari answers two of five on her phone, without signing in.
    day.wall.at = MONDAY + timedelta(hours=2)
    case = await change(day.client, case, status="resolved")
    assert case["closing_agent"] == "budi"
    invited = await day.post(
        f"/v1/surveys/{survey['id']}/invitations", {"contact_id": sari["id"], "case_id": case["id"]}
    )
    phone = day.client.holding("")
    phone.headers.pop("authorization", None)
    page = await phone.get(invited["path"])
    assert page.status_code == 200
    assert re.search(r'<meta name="viewport" content="width=device-width', page.text)
    day.wall.at = MONDAY + timedelta(hours=3)
    thanked = await phone.post(invited["path"], data={"score": "2", "comment": "Too late"})
    assert thanked.status_code == 200, thanked.text

    # The playbook opens a task to follow up.
    await until_others_end(database)
    await day.work("follow_for_playbooks")
    tasks = {item["title"]: item for item in (await day.client.get("/v1/tasks")).json()["items"]}
    assert tasks.keys() == {"Answer at once", "Call whoever was disappointed"}
    assert tasks["Call whoever was disappointed"]["contact_id"] == sari["id"]

    # All of it stands on one timeline, and in the owner's report.
    of_sari = (await day.client.get(f"/v1/contacts/{sari['id']}/timeline?limit=200")).json()["items"]
    assert [(item["kind"], item["direction"]) for item in reversed(of_sari) if item["kind"] in TOLD] == [
        ("contact.created", None), ("message", "inbound"), ("case.opened", "internal"), ("message", "outbound"),
        ("case.escalated", "internal"), ("case.breached", "internal"), ("case.escalated", "internal"),
        ("message", "inbound"), ("message", "outbound"), ("case.resolved", "internal"), ("survey.invited", "outbound"),
        ("survey.answered", "inbound"), ("playbook.completed", "internal"),
    ]  # fmt: skip
    days = {"from": "2026-10-23", "to": "2026-10-26", "time_zone": "Europe/Berlin"}
    overview = (await day.client.get("/v1/insights/overview", params=days)).json()
    cases = overview["cases"]
    assert (cases["cases"], cases["resolved"], cases["breached"], cases["breach_rate"]) == (1, 1, 1, "1.0000")
    assert cases["first_reply"]["working_seconds_median"] == 75 * 60
    assert cases["first_reply"]["wall_seconds_median"] == (66 * 60 + 15) * 60
    [csat] = [each for each in overview["satisfaction"] if each["kind"] == "csat"]
    assert (csat["response_rate"], csat["score"]["score"], csat["score"]["mean"]) == (100.0, 0.0, 2.0)
    assert overview["top_reasons"] == [{"category": "delivery", "cases": 1}]
