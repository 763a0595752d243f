"""A case is opened, answered and resolved; its timeline tells it all."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made, merge, undo
from tests.loyalty.shop import at_once, checksum, statuses

LATE = {"subject": "Paket belum sampai", "category": "delivery", "priority": "high", "channel": "whatsapp"}


async def a_case(client: Any, contact_id: UUID, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/cases", json={"contact_id": str(contact_id), **LATE, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def the_case(client: Any, case: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/cases/{case['id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def change(client: Any, case: dict[str, Any], **changes: Any) -> dict[str, Any]:
    answer = await client.patch(f"/v1/cases/{case['id']}", json=changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def reply(client: Any, case: dict[str, Any], **facts: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/cases/{case['id']}/replies", json={"body": "Kami cek dulu, ya.", **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def an_agent(client: Any, agent_id: str, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/agents", json={"id": agent_id, "name": agent_id.title(), **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def clock(case: dict[str, Any], metric: str) -> dict[str, Any]:
    [found] = [one for one in case["clocks"] if one["metric"] == metric]
    return dict(found)


async def words(client: Any, case: dict[str, Any]) -> list[str]:
    """What happened in a case, oldest first."""
    page = await client.get(f"/v1/cases/{case['id']}/timeline?limit=200")
    assert page.status_code == 200, page.text
    return [item["kind"] for item in reversed(page.json()["items"])]


async def test_a_case_is_answered_and_resolved_and_the_timeline_tells_it(client):
    sari = await made(client, {"name": "Sari"})
    await an_agent(client, "rina")
    case = await a_case(client, sari, assignee="rina", description="Sudah seminggu.")
    assert (case["status"], case["version"], case["first_replied_at"]) == ("open", 1, None)
    assert [(one["metric"], one["state"]) for one in case["clocks"]] == [
        ("first_reply", "active"), ("resolution", "active"),
    ]  # fmt: skip
    said = await reply(client, case)
    assert (said["kind"], said["direction"], said["channel"]) == ("message", "outbound", "whatsapp")
    await client.post(f"/v1/cases/{case['id']}/notes", json={"body": "Kurir salah alamat"})
    done = await change(client, case, status="resolved")
    assert (done["closing_agent"], done["resolution_seconds"], done["reopen_count"]) == ("rina", 0, 0)
    assert clock(done, "resolution")["state"] == "met"
    assert done["first_replied_at"] is not None
    assert await words(client, case) == ["case.opened", "message", "case.note", "case.resolved"]
    of_contact = await client.get(f"/v1/contacts/{sari}/timeline?limit=4")
    assert {item["case_id"] for item in of_contact.json()["items"]} == {case["id"]}
    replies = (await client.get(f"/v1/cases/{case['id']}/replies")).json()["items"]
    assert [item["id"] for item in replies] == [said["id"]]
    assert (await client.get(f"/v1/cases/{case['id']}/replies/{said['id']}")).json() == said
