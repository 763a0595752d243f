"""Messages become cases by rule, belong to them, and move their clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.inbox import providers
from tests.care.test_cases import an_agent, clock, the_case
from tests.inbox import toychat
from tests.inbox.desk import Desk

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _toychat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(providers.ADAPTERS, toychat.NAME, toychat.ToyChat())


async def a_rule(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/case-rules", json={"name": "Everything", **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def a_policy(client: Any, **facts: Any) -> dict[str, Any]:
    targets = {"normal": {"first_reply": "PT1H", "next_reply": "PT2H", "resolution": "P1D"}}
    answer = await client.post("/v1/sla-policies", json={"name": "Usual", "targets": targets, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def listed(client: Any, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/cases", params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def write(client: Any, contact_id: UUID, body: str = "Halo", **facts: Any) -> dict[str, Any]:
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": NOW.isoformat(), "body": body,
    } | facts  # fmt: skip
    answer = await client.post(f"/v1/contacts/{contact_id}/interactions", json=message)
    assert answer.status_code in {200, 201}, answer.text
    return dict(answer.json())


async def test_a_message_of_a_channel_becomes_a_case_and_a_human_answer_stops_its_clock(client):
    desk = await Desk.open(client)
    await an_agent(client, "rina")
    await a_policy(client)
    await a_rule(client, category="chat", assignment={"mode": "round_robin"})
    await desk.hear(toychat.message("m1", "Paket saya mana?", at=NOW - timedelta(minutes=30)))
    [case] = await listed(client)
    assert (case["subject"], case["category"], case["assignee"]) == ("Paket saya mana?", "chat", "rina")
    assert datetime.fromisoformat(case["unanswered_since"]) == NOW - timedelta(minutes=30)
    due = datetime.fromisoformat(clock(case, "next_reply")["due_at"])
    assert due == NOW + timedelta(minutes=90)
    await desk.hear(toychat.message("m2", "Halo?", at=NOW - timedelta(minutes=20)))
    assert (await the_case(client, case))["unanswered_since"] == case["unanswered_since"], "the oldest one counts"
    await desk.hear(toychat.message("m3", "Sebentar", at=NOW - timedelta(minutes=10), direction="outbound"))
    answered = await the_case(client, case)
    assert answered["unanswered_since"] is None
    assert [one["state"] for one in answered["clocks"]] == ["met", "met", "active"]
    assert await listed(client) == [answered], "one case, however many messages"
    assert {item["case_id"] for item in await desk.timeline() if item["kind"] == "message"} == {case["id"]}
