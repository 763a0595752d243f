"""A case is opened, answered and resolved; its timeline tells it all."""

from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made, merge, undo
from tests.loyalty.shop import at_once, checksum, statuses

WHATSAPP = {"kind": "whatsapp", "value": "628123456789"}
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


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"subject": ""}, 422, "invalid"), ({"priority": "huge"}, 422, "invalid"),
        ({"assignee": "nobody"}, 422, "unknown_agent"), ({"assignee": "A B"}, 422, "invalid"),
        ({"tags": ["x y"]}, 422, "invalid"), ({"description": "a\x00b"}, 422, "invalid"),
        ({"identity": {"kind": "email", "value": "a@example.com"}}, 422, "invalid"),
        ({"contact_id": str(uuid7())}, 404, "contact_not_found"),
    ],
)  # fmt: skip
async def test_what_is_no_case_is_refused_and_changes_nothing(client, session, body, status, code):
    sari = await made(client, {"name": "Sari"})
    before = await checksum(session)
    answer = await client.post("/v1/cases", json={"contact_id": str(sari), **LATE, **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await checksum(session) == before


async def test_a_case_of_an_identity_that_nobody_has_makes_a_contact(client):
    identity = {"kind": "email", "value": "sari@example.com"}
    answer = await client.post("/v1/cases", json={"identity": identity, **LATE})
    assert answer.status_code == 201, answer.text
    found = await client.get("/v1/contacts/by/email/sari@example.com")
    assert found.json()["id"] == answer.json()["contact_id"]


async def test_who_does_not_know_the_newest_version_changes_nothing(client):
    case = await a_case(client, await made(client, {"name": "Sari"}))
    changed = await change(client, case, priority="urgent", tags=["vip"])
    assert (changed["version"], changed["tags"]) == (2, ["vip"])
    stale = await client.patch(f"/v1/cases/{case['id']}", json={"subject": "x"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["version"]) == (412, 2)
    same = await client.patch(f"/v1/cases/{case['id']}", json={"priority": "urgent"}, headers={"If-Match": '"2"'})
    assert (same.status_code, same.headers["etag"], same.json()) == (200, '"2"', changed)
    assert await the_case(client, case) == changed


async def test_a_resolved_case_is_reopened_and_a_closed_one_is_followed_by_another(client):
    case = await a_case(client, await made(client, {"name": "Sari"}))
    await change(client, case, status="resolved")
    again = await client.post(f"/v1/cases/{case['id']}/reopening")
    assert (again.status_code, again.json()["status"], again.json()["reopen_count"]) == (200, "open", 1)
    assert clock(again.json(), "resolution")["state"] == "active"
    closed = await change(client, case, status="closed")
    assert closed["closed_at"] == closed["resolved_at"]
    refused = await client.patch(f"/v1/cases/{case['id']}", json={"status": "open"})
    assert (refused.status_code, refused.json()["code"]) == (409, "case_closed")
    unheard = await client.post(f"/v1/cases/{case['id']}/replies", json={"body": "x"})
    assert (unheard.status_code, unheard.json()["code"]) == (409, "case_closed")
    following = await client.post(f"/v1/cases/{case['id']}/reopening")
    assert (following.status_code, following.json()["subject"]) == (201, LATE["subject"])
    [link] = (await client.get(f"/v1/cases/{following.json()['id']}/links")).json()["items"]
    assert (link["other_case_id"], link["relation"]) == (case["id"], "follow_up_of")
    [other] = (await client.get(f"/v1/cases/{case['id']}/links")).json()["items"]
    assert (other["other_case_id"], other["relation"]) == (following.json()["id"], "followed_by")


async def test_cases_are_linked_from_both_sides_and_unlinked(client):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    one, two = await a_case(client, sari), await a_case(client, dewi)
    body = {"other_case_id": two["id"], "relation": "duplicate_of"}
    url = f"/v1/cases/{one['id']}/links"
    first, again = await client.post(url, json=body), await client.post(url, json=body)
    assert (first.status_code, again.status_code, again.json()) == (201, 200, first.json())
    other = f"/v1/cases/{two['id']}/links/{one['id']}"
    assert (await client.get(other)).json()["relation"] == "duplicated_by"
    itself = await client.post(url, json={"other_case_id": one["id"]})
    assert (itself.status_code, itself.json()["code"]) == (422, "link_with_self")
    assert (await client.delete(other)).status_code == 204
    assert (await client.get(url)).json()["items"] == []


async def test_only_a_human_answer_counts_and_a_bot_hands_over(client):
    case = await a_case(client, await made(client, {"name": "Sari"}), with_bot=True)
    assert [one["metric"] for one in case["clocks"]] == ["resolution"]
    await reply(client, case, by="bot")
    await client.post(f"/v1/cases/{case['id']}/notes", json={"body": "Bot tidak tahu"})
    handed = await client.post(f"/v1/cases/{case['id']}/handover")
    assert (handed.json()["with_bot"], clock(handed.json(), "first_reply")["state"]) == (False, "active")
    assert (await client.post(f"/v1/cases/{case['id']}/handover")).json()["version"] == handed.json()["version"]
    await reply(client, case, by="bot")
    assert (await the_case(client, case))["first_replied_at"] is None
    await reply(client, case, status="waiting")
    answered = await the_case(client, case)
    assert (answered["status"], clock(answered, "first_reply")["state"]) == ("waiting", "met")


async def test_a_merge_takes_open_cases_along_and_its_undoing_gives_back_those_nobody_touched(client):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    closed, kept, touched = [await a_case(client, dewi, subject=name) for name in ("closed", "kept", "touched")]
    await change(client, closed, status="closed")
    merged = await merge(client, sari, dewi)
    assert sorted(merged["moved"]["cases"]) == sorted([kept["id"], touched["id"]])
    assert (await the_case(client, kept))["contact_id"] == str(sari)
    of_sari = (await client.get(f"/v1/cases?status=all&contact_id={sari}")).json()["items"]
    assert {one["id"] for one in of_sari} == {closed["id"], kept["id"], touched["id"]}
    assert (await client.get(f"/v1/cases?status=all&contact_id={dewi}")).json()["items"] == of_sari
    assert await words(client, closed) == ["case.opened", "case.resolved", "case.closed"]
    assert await words(client, kept) == ["case.opened"]
    await change(client, touched, priority="low")
    undone = await undo(client, merged)
    assert "cases_touched" in [each["code"] for each in undone["not_undone"]]
    assert (await the_case(client, kept))["contact_id"] == str(dewi)
    assert (await the_case(client, touched))["contact_id"] == str(sari)
    assert (await the_case(client, closed))["contact_id"] == str(dewi)


async def test_the_case_of_somebody_forgotten_says_nothing_but_how_long_it_took(client, session):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    case, other = await a_case(client, sari, tags=["vip"]), await a_case(client, dewi)
    await client.post(f"/v1/cases/{case['id']}/links", json={"other_case_id": other["id"]})
    told = (await client.get(f"/v1/contacts/{sari}/personal-data")).json()["sections"]
    assert [(one["subject"], len(one["clocks"])) for one in told["cases"]] == [(LATE["subject"], 2)]
    await erase(client, sari)
    row = await session.fetchrow("SELECT * FROM cases WHERE contact_id = $1", sari)
    assert (row["subject"], row["tags"], row["status"], row["resolution_seconds"]) == (None, [], "closed", 0)
    assert await session.fetchval("SELECT count(*) FROM case_clocks WHERE next_at IS NOT NULL") == 0
    assert (await client.get(f"/v1/cases/{case['id']}")).status_code == 404
    assert (await client.get(f"/v1/cases/{other['id']}/links")).json()["items"] == []
    assert [one["id"] for one in (await client.get("/v1/cases?status=all")).json()["items"]] == [other["id"]]


async def test_a_key_opens_one_case_however_often_it_is_sent(live_client):
    sari = await made(live_client, {"name": "Sari"})
    body, headers = {"contact_id": str(sari), **LATE}, {"Idempotency-Key": "k"}
    answers = await at_once(*(live_client.post("/v1/cases", json=body, headers=headers) for _ in range(6)))
    assert statuses(answers) == {201: 6}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_a_survey_about_a_case_is_about_whoever_had_it_at_the_end(client):
    survey = (await client.post("/v1/surveys", json={"name": "After a case", "kind": "csat"})).json()
    sari, dewi = await made(client, {"name": "Sari", "identities": [WHATSAPP]}), await made(client, {"name": "Dewi"})
    await an_agent(client, "rina")
    case = await a_case(client, sari, assignee="rina")
    url, body = f"/v1/surveys/{survey['id']}/invitations", {"contact_id": str(sari), "case_id": case["id"]}
    early = await client.post(url, json=body)
    assert (early.status_code, early.json()["code"]) == (409, "case_unresolved")
    await change(client, case, status="resolved")
    await change(client, case, assignee=None)
    asked = await client.post(url, json=body)
    assert (asked.status_code, asked.json()["agent"], asked.json()["channel"]) == (201, "rina", "whatsapp")
    strange = await client.post(url, json=body | {"contact_id": str(dewi)})
    assert (strange.status_code, strange.json()["code"]) == (404, "case_not_found")
