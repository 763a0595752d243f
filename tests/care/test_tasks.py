"""What is to be done for somebody stands in a queue, and on their timeline."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crm.care import tasks
from crm.db.ids import uuid7
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made, merge
from tests.loyalty.shop import Shop, at_once, checksum, statuses

CALL = {"title": "Telepon balik", "note": "soal penggiling", "due_at": "2026-12-01T03:00:00Z", "assignee": "Rina"}


async def a_task(client: Any, contact_id: UUID, **facts: Any) -> dict[str, Any]:
    body = {name: value for name, value in (CALL | facts).items() if value is not None}
    answer = await client.post(f"/v1/contacts/{contact_id}/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_task_is_done_and_the_timeline_says_so(client):
    shop = await Shop.open(client)
    sari = await made(client, {"name": "Sari"})
    task = await a_task(client, sari)
    answer = await client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["ended_by"], answer.headers["etag"]) == (200, "key:test", '"2"')
    assert (await client.get("/v1/tasks")).json()["items"] == []
    again = await client.patch(f"/v1/tasks/{task['id']}", json={"status": "open"})
    assert (again.json()["ended_at"], again.json()["ended_by"]) == (None, None)
    told = [item["kind"] for item in (await shop.get(sari, "timeline"))["items"] if item["channel"] == "care"]
    assert told == ["task.reopened", "task.done", "task.created"]
    assert (await client.get(f"/v1/tasks/{task['id']}")).json() == again.json()


async def test_the_queue_begins_with_what_is_due_first_and_ends_with_what_has_no_date(client):
    sari = await made(client, {"name": "Sari"})
    days = ["2026-12-03", None, "2026-12-01", "2026-12-02", None, "2026-12-01"]
    made_ = [
        await a_task(
            client, sari, title=str(n), due_at=day and f"{day}T00:00:00Z", assignee="Rina" if n % 2 else "Dodi"
        )
        for n, day in enumerate(days)
    ]
    found, cursor = [], None
    while True:
        params: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/tasks", params=params)).json()
        found += [one["title"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == ["2", "5", "3", "0", "1", "4"]
    rinas = (await client.get("/v1/tasks", params={"assignee": "Rina"})).json()["items"]
    assert [one["title"] for one in rinas] == ["5", "3", "1"]
    soon = (await client.get("/v1/tasks", params={"due_before": "2026-12-02T00:00:00Z"})).json()["items"]
    assert [one["title"] for one in soon] == ["2", "5"]
    listed = (await client.get(f"/v1/contacts/{sari}/tasks?status=open")).json()["items"]
    assert [one["id"] for one in listed] == [one["id"] for one in reversed(made_)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"title": ""}, 422, "invalid"), ({"title": "x", "due_at": "tomorrow"}, 422, "invalid"),
        ({"title": "x", "note": "a\x00b"}, 422, "invalid"),
        ({"title": "x", "status": "done"}, 422, "invalid"), ({}, 422, "invalid"),
    ],
)  # fmt: skip
async def test_what_is_no_task_is_refused(client, session, body, status, code):
    sari = await made(client, {"name": "Sari"})
    before = await checksum(session)
    answer = await client.post(f"/v1/contacts/{sari}/tasks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await checksum(session) == before


async def test_who_does_not_know_the_newest_version_changes_nothing(client):
    task = await a_task(client, await made(client, {"name": "Sari"}))
    await client.patch(f"/v1/tasks/{task['id']}", json={"title": "Kirim surat"})
    stale = await client.patch(f"/v1/tasks/{task['id']}", json={"title": "x"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["version"]) == (412, 2)
    missing = await client.patch(f"/v1/tasks/{uuid7()}", json={"title": "x"})
    assert (missing.status_code, missing.json()["code"]) == (404, "task_not_found")
    nobody = await client.post(f"/v1/contacts/{uuid7()}/tasks", json=CALL)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "contact_not_found")


async def test_a_task_with_a_natural_key_is_made_once(database, live_client):
    sari = await made(live_client, {"name": "Sari"})

    async def make() -> bool:
        async with database.begin() as session:
            _, new = await tasks.create(
                session, contact_id=sari, title="x", natural_key="playbook:7:1", by="system", now=datetime.now(UTC)
            )
        return new

    assert sorted(await asyncio.gather(*(make() for _ in range(6)))) == [False] * 5 + [True]
    listed = (await live_client.get(f"/v1/contacts/{sari}/tasks")).json()["items"]
    assert len(listed) == 1


async def test_tasks_of_before_a_merge_are_listed_and_those_of_the_forgotten_are_gone(client, session):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    task = await a_task(client, dewi)
    await merge(client, sari, dewi)
    assert [one["id"] for one in (await client.get(f"/v1/contacts/{dewi}/tasks")).json()["items"]] == [task["id"]]
    await erase(client, sari)
    assert await session.fetchval("SELECT count(*) FROM tasks") == 0
    assert (await client.get(f"/v1/tasks/{task['id']}")).status_code == 404


async def test_a_key_makes_one_task_however_often_it_is_sent(live_client):
    sari = await made(live_client, {"name": "Sari"})
    url, headers = f"/v1/contacts/{sari}/tasks", {"Idempotency-Key": "k"}
    answers = await at_once(*(live_client.post(url, json=CALL, headers=headers) for _ in range(6)))
    assert statuses(answers) == {201: 6}
    assert len({answer.json()["id"] for answer in answers}) == 1
