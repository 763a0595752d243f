"""Messages become cases by rule, belong to them, and move their clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.care import sweeps
from crm.db.ids import uuid7
from crm.inbox import providers
from tests.care.test_cases import an_agent, change, clock, reply, the_case, words
from tests.inbox import toychat
from tests.inbox.desk import Desk
from tests.interactions.test_merges import made
from tests.loyalty.shop import at_once

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


async def test_the_first_rule_that_is_about_a_message_decides(client):
    await an_agent(client, "rina")
    await an_agent(client, "budi", teams=["returns"])
    await a_rule(client, name="Thanks", position=1, action="ignore", keywords=["terima kasih", "thanks"])
    by_hand = {"mode": "manual", "agent": "rina"}
    vip = {"all": [
        {"field": "tags", "op": "contains", "value": "vip"},
        {"field": "message.body", "op": "contains", "value": "?"},
    ]}  # fmt: skip
    await a_rule(client, name="VIP", position=2, condition=vip, priority="urgent", assignment=by_hand)
    returns = {"mode": "least_busy", "team": "returns"}
    await a_rule(client, name="Broken", position=3, keywords=["rusak"], category="returns", assignment=returns)
    await a_rule(client, name="E-mail", position=4, channels=["email"], tags=["mail"])
    for number, (tags, body, channel, wanted) in enumerate([
        ([], "Terima kasih, barangnya rusak", "whatsapp", None),
        (["vip"], "Barangnya RUSAK?", "whatsapp", ("urgent", None, "rina", [])),
        (["vip"], "Barangnya rusak.", "whatsapp", ("normal", "returns", "budi", [])),
        ([], "Kerusakan?", "whatsapp", None),
        ([], "Halo", "email", ("normal", None, None, ["mail"])),
    ]):  # fmt: skip
        contact_id = await made(client, {"name": f"Sari {number}", "tags": tags})
        told = await write(client, contact_id, body, channel=channel)
        cases = await listed(client, contact_id=contact_id)
        shown = [(one["priority"], one["category"], one["assignee"], one["tags"]) for one in cases]
        assert shown == ([] if wanted is None else [wanted]), body
        assert told["case_id"] == (cases[0]["id"] if cases else None)


async def test_a_message_posted_again_opens_nothing_again(client):
    await a_rule(client)
    sari = await made(client, {"name": "Sari"})
    first = await write(client, sari, external_id="m1")
    again = await write(client, sari, external_id="m1")
    assert again == first
    assert [one["version"] for one in await listed(client)] == [1]


async def test_a_customer_reopens_what_was_resolved_and_is_followed_up_when_that_is_too_long_ago(client, session):
    await a_rule(client, category="chat")
    sari, thread = await made(client, {"name": "Sari"}), str(uuid7())
    await write(client, sari, "Rusak", thread_id=thread)
    [case] = await listed(client)
    await change(client, case, status="resolved")
    await write(client, sari, "Masih rusak", thread_id=thread)
    again = await the_case(client, case)
    assert (again["status"], again["reopen_count"]) == ("open", 1)
    done = await change(client, case, status="resolved")
    await sweeps.close(session, now=datetime.fromisoformat(done["reopenable_until"]) + timedelta(seconds=1))
    told = await write(client, sari, "Rusak lagi", thread_id=thread)
    [following] = await listed(client)
    assert (told["case_id"], following["subject"]) == (following["id"], "Rusak lagi")
    [link] = (await client.get(f"/v1/cases/{following['id']}/links")).json()["items"]
    assert (link["other_case_id"], link["relation"]) == (case["id"], "follow_up_of")
    assert (await the_case(client, case))["status"] == "closed"


async def test_a_customer_who_answers_makes_a_waiting_case_go_on(client):
    await a_policy(client)
    await a_rule(client)
    sari = await made(client, {"name": "Sari"})
    await write(client, sari, "Kapan?")
    [case] = await listed(client)
    await reply(client, case, status="waiting")
    assert clock(await the_case(client, case), "resolution")["state"] == "paused"
    await write(client, sari, "Besok bisa", occurred_at=datetime.now(UTC).isoformat())
    going_on = await the_case(client, case)
    assert (going_on["status"], clock(going_on, "resolution")["state"]) == ("open", "active")
    assert clock(going_on, "next_reply")["state"] == "active", "somebody has to answer again"
    assert (await words(client, case))[-2:] == ["message", "case.resumed"]


async def test_a_case_spans_channels_and_a_batch_moves_its_clocks_once(client):
    await a_rule(client)
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    await write(client, sari, "Kapan?")
    [case] = await listed(client)

    def message(contact_id: UUID, minute: int, **facts: Any) -> dict[str, Any]:
        at = (NOW - timedelta(minutes=60 - minute)).isoformat()
        usual = {"channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": at, "body": "Halo"}
        return {"contact_id": str(contact_id)} | usual | facts

    items = [
        message(sari, 1, channel="email", case_id=case["id"], thread_id=str(uuid7())),
        message(sari, 2, channel="email", direction="outbound", data={"by": "bot"}, case_id=case["id"]),
        message(dewi, 3), message(dewi, 4), message(dewi, 5, direction="outbound"),
        message(sari, 6, direction="internal"),
    ]  # fmt: skip
    answer = await client.post("/v1/interactions/batch", json={"items": items})
    assert [one["status"] for one in answer.json()["items"]] == [201] * 6
    of_sari = await the_case(client, case)
    assert (of_sari["first_replied_at"], of_sari["version"]) == (None, 2), "a bot's answer is none"
    [of_dewi] = await listed(client, contact_id=dewi)
    assert (of_dewi["version"], of_dewi["unanswered_since"]) == (1, None)
    assert clock(of_dewi, "next_reply")["state"] == "met"
    channels = (await client.get(f"/v1/cases/{case['id']}/timeline")).json()["items"]
    assert {item["channel"] for item in channels} == {"whatsapp", "email", "care"}
    by_case = (await client.get(f"/v1/contacts/{sari}/timeline?case_id={case['id']}")).json()["items"]
    assert by_case == channels


async def test_what_is_said_to_others_moves_no_clock_of_a_case(client):
    await a_rule(client, new_thread_only=True)
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    await write(client, sari)
    [case] = await listed(client)
    told = await write(client, dewi, direction="outbound", case_id=case["id"])
    assert told["case_id"] == case["id"]
    assert await the_case(client, case) == case


async def test_rules_are_listed_in_order_and_end_when_they_are_archived(client):
    late, early = await a_rule(client, position=9), await a_rule(client, position=1, name="First")
    listed_ = (await client.get("/v1/case-rules")).json()["items"]
    assert [one["id"] for one in listed_] == [early["id"], late["id"]]
    for rule in (late, early):
        url, headers = f"/v1/case-rules/{rule['id']}", {"If-Match": '"1"'}
        assert (await client.patch(url, json={"status": "archived"}, headers=headers)).status_code == 200
        assert (await client.patch(url, json={"name": "x"}, headers=headers)).status_code == 412
    await write(client, await made(client, {"name": "Sari"}))
    assert await listed(client) == []


async def test_two_messages_at_once_open_one_case(live_client, database):
    await a_rule(live_client)
    sari = await made(live_client, {"name": "Sari"})
    await at_once(*(write(live_client, sari, external_id=f"m{n}") for n in range(5)))
    assert len(await listed(live_client)) == 1


async def test_history_that_is_brought_in_opens_no_case(client):
    await a_rule(client)
    sari = await made(client, {"name": "Sari"})
    await write(client, sari, occurred_at=(NOW - timedelta(days=8)).isoformat())
    assert await listed(client) == []
    await write(client, sari, occurred_at=(NOW - timedelta(days=6)).isoformat())
    assert len(await listed(client)) == 1


async def test_two_threads_of_one_channel_are_two_cases(client):
    await a_rule(client)
    sari = await made(client, {"name": "Sari"})
    message = {
        "contact_id": str(sari), "channel": "email", "kind": "message", "direction": "inbound",
        "occurred_at": NOW.isoformat(), "body": "Halo",
    }  # fmt: skip
    items = [message | {"thread_id": str(uuid7())} for _ in range(2)]
    answer = await client.post("/v1/interactions/batch", json={"items": items + items[:1]})
    told = [one["body"]["case_id"] for one in answer.json()["items"]]
    assert told[0] == told[2] != told[1]
    assert {one["id"] for one in await listed(client)} == set(told)


async def test_what_is_said_where_a_closed_case_was_spoken_about_is_followed_up_without_any_rule(client):
    sari, thread = await made(client, {"name": "Sari"}), str(uuid7())
    answer = await client.post("/v1/cases", json={"contact_id": str(sari), "subject": "Rusak", "priority": "high"})
    case = answer.json()
    await write(client, sari, "Ini fotonya", thread_id=thread, case_id=case["id"])
    await change(client, case, status="closed")
    told = await write(client, sari, "Rusak lagi", thread_id=thread)
    [following] = await listed(client)
    assert (told["case_id"], following["priority"]) == (following["id"], "high")
    assert (await write(client, sari, "Halo", thread_id=str(uuid7())))["case_id"] is None
