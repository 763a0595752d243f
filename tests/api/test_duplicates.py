"""Duplicates over HTTP: suggested, dismissed, merged, erased; and the scans that find them."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from crm.contacts import scans
from crm.db.session import Database
from crm.jobs import JOBS, duplicates, worker

SARI = {"name": "Sari Dewi", "birth_on": "1990-03-10"}
VIEW = {
    "id", "contact_id", "other_contact_id", "contact", "other_contact", "score", "reasons", "suggested_survivor_id",
    "status", "found_at", "decided_at", "decided_by",
}  # fmt: skip
NOBODY = "01a200ec-0000-7000-8000-000000000000"


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    problem: dict[str, Any] = answer.json()
    return problem


async def made(client: Any, **body: Any) -> str:
    answer = await client.post("/v1/contacts", json={**SARI, "on_duplicate": "create", **body})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def listed(client: Any, path: str = "/v1/duplicates", **params: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_two_of_one_person_are_suggested_with_the_reasons(client: Any) -> None:
    first = await made(client, identities=[{"kind": "phone", "value": "0812-3456-789", "verified": True}])
    second = await made(client, name="Ibu Sary Dewi")
    [found] = await listed(client)
    assert found.keys() == VIEW
    assert found["id"] == ":".join(sorted((first, second)))
    assert (found["contact_id"], found["other_contact_id"]) == (first, second)
    assert found["contact"] == {
        "id": first, "name": "Sari Dewi", "birth_on": "1990-03-10", "created_at": found["contact"]["created_at"],
        "identities": [{"kind": "phone", "value": "+628123456789", "verified": True}],
    }  # fmt: skip
    assert (found["other_contact"]["name"], found["other_contact"]["identities"]) == ("Ibu Sary Dewi", [])
    assert (found["score"], [reason["code"] for reason in found["reasons"]]) == (
        92, ["same_birth_date", "same_sounding_name"],
    )  # fmt: skip
    assert (found["status"], found["suggested_survivor_id"]) == ("open", first)
    assert (found["decided_at"], found["decided_by"]) == (None, None)
    assert (await client.get(f"/v1/duplicates/{found['id']}")).json() == found
    for contact_id in (first, second):
        assert await listed(client, f"/v1/contacts/{contact_id}/duplicates") == [found]


async def test_the_list_is_the_best_first_in_pages_and_from_a_score_on(client: Any) -> None:
    for name in ("Sari Dewi", "Sary Dewi", "Sari Dwei"):
        await made(client, name=name)
    whole = await listed(client)
    scores = [one["score"] for one in whole]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    paged, cursor = [], None
    while True:
        page = (await client.get("/v1/duplicates", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))).json()
        paged += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == whole
    assert await listed(client, min_score=whole[0]["score"]) == [
        one for one in whole if one["score"] == whole[0]["score"]
    ]


async def test_a_dismissed_pair_is_suggested_no_more_until_that_is_undone(client: Any) -> None:
    await made(client)
    await made(client)
    [found] = await listed(client)
    path = f"/v1/duplicates/{found['id']}"
    first = await client.post(f"{path}/dismissal", headers={"Idempotency-Key": "k"})
    again = await client.post(f"{path}/dismissal", headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert first.json() == again.json() == (await client.post(f"{path}/dismissal")).json()
    assert (first.json()["status"], first.json()["decided_by"]) == ("dismissed", "key:test")
    assert await listed(client) == []
    assert await listed(client, status="dismissed") == [first.json()]
    assert (await client.delete(f"{path}/dismissal")).status_code == 204
    assert (await client.delete(f"{path}/dismissal")).status_code == 204
    assert await listed(client) == [found]


@pytest.mark.parametrize("duplicate", [NOBODY, "nobody", f"{NOBODY}:{NOBODY}", "a:b", "%00", f"{NOBODY}:"])
async def test_what_is_no_pair_is_not_found(client: Any, duplicate: str) -> None:
    path = f"/v1/duplicates/{duplicate}"
    assert (await client.get(path)).status_code == 404
    assert (await client.post(f"{path}/dismissal")).status_code == 404
    assert (await client.delete(f"{path}/dismissal")).status_code == 404


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"status": "closed"}, 422), ({"min_score": 101}, 422), ({"min_score": "x"}, 422), ({"limit": 0}, 422),
        ({"cursor": "x"}, 400), ({"q": "x"}, 422),
    ],
)  # fmt: skip
async def test_a_bad_parameter_is_refused(client: Any, params: dict[str, Any], status: int) -> None:
    contact_id = await made(client)
    for path in ("/v1/duplicates", f"/v1/contacts/{contact_id}/duplicates"):
        assert (await client.get(path, params=params)).status_code == status


async def test_the_pairs_of_nobody_are_not_found(client: Any) -> None:
    refused(await client.get(f"/v1/contacts/{NOBODY}/duplicates"), 404, "contact_not_found")
    alone = await made(client)
    assert await listed(client, f"/v1/contacts/{alone}/duplicates") == []


async def test_who_may_only_read_decides_nothing(client: Any) -> None:
    await made(client)
    await made(client)
    [found] = await listed(client)
    reader = await client.limited_to("contacts:read")
    assert await listed(reader) == [found]
    refused(await reader.post(f"/v1/duplicates/{found['id']}/dismissal"), 403, "scope_missing")
    refused(await reader.delete(f"/v1/duplicates/{found['id']}/dismissal"), 403, "scope_missing")
    refused(await reader.post("/v1/duplicates/scans"), 403, "scope_missing")


# ---------------------------------------------------------------------- merged, deleted, erased


async def merge(client: Any, contact_id: str, other_id: str) -> str:
    answer = await client.post("/v1/merges", json={"contact_id": contact_id, "other_contact_id": other_id})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_a_merged_pair_is_decided_and_the_others_are_the_survivor_s(client: Any) -> None:
    first, second, third = [await made(client) for _ in range(3)]
    before = await listed(client)
    merge_id = await merge(client, first, second)
    [left] = await listed(client)
    assert {left["contact_id"], left["other_contact_id"]} == {first, third}
    [merged] = await listed(client, status="merged")
    assert (merged["other_contact"], merged["suggested_survivor_id"], merged["decided_by"]) == (None, first, "key:test")
    refused(await client.post(f"/v1/duplicates/{merged['id']}/dismissal"), 409, "duplicate_merged")
    assert (await client.delete(f"/v1/merges/{merge_id}")).status_code == 200
    assert [one["id"] for one in await listed(client)] == [one["id"] for one in before]


async def test_what_was_dismissed_of_either_is_not_suggested_of_the_survivor(client: Any) -> None:
    first, second, third = [await made(client) for _ in range(3)]
    pairs = {frozenset((one["contact_id"], one["other_contact_id"])): one["id"] for one in await listed(client)}
    await client.post(f"/v1/duplicates/{pairs[frozenset((second, third))]}/dismissal")
    await client.delete(f"/v1/duplicates/{pairs[frozenset((first, third))]}/dismissal")
    await client.post(f"/v1/duplicates/{pairs[frozenset((first, third))]}/dismissal")
    await merge(client, first, second)
    assert await listed(client) == []
    assert len(await listed(client, status="dismissed")) == 1


async def test_the_pairs_of_an_old_id_are_the_survivor_s(client: Any) -> None:
    first, second, third = [await made(client) for _ in range(3)]
    await merge(client, first, second)
    [left] = await listed(client, f"/v1/contacts/{first}/duplicates")
    assert left["id"] == ":".join(sorted((first, third)))


async def test_pairs_go_with_a_deleted_and_with_an_erased_contact(client: Any) -> None:
    first, second, third = [await made(client) for _ in range(3)]
    assert (await client.delete(f"/v1/contacts/{third}")).status_code == 204
    assert [{one["contact_id"], one["other_contact_id"]} for one in await listed(client)] == [{first, second}]
    told = (await client.get(f"/v1/contacts/{first}/personal-data")).json()
    assert "same_name" in str(told)
    assert second not in str(told)
    answer = await client.post(f"/v1/contacts/{first}/erasure", json={})
    assert answer.status_code == 201, answer.text
    assert answer.json()["erased"]["duplicates"] == 1
    assert await listed(client) == []


# ---------------------------------------------------------------------- scans


async def queued(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.fetch("SELECT payload FROM pgqueuer WHERE entrypoint = $1 ORDER BY id", scans.JOB)
    return [msgspec.json.decode(row["payload"]) for row in rows]


async def work(client: Any, scan_id: str) -> None:
    await duplicates.scan_for_duplicates(client.database, {"scan_id": scan_id}, now=datetime.now(UTC))


async def started(client: Any) -> dict[str, Any]:
    answer = await client.post("/v1/duplicates/scans")
    assert answer.status_code == 202, answer.text
    scan: dict[str, Any] = answer.json()
    return scan


async def read(client: Any, scan_id: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/duplicates/scans/{scan_id}")
    assert answer.status_code == 200, answer.text
    scan: dict[str, Any] = answer.json()
    return scan


async def test_a_scan_is_left_to_the_worker_and_then_has_a_report(live_client: Any) -> None:
    first, second = [await made(live_client) for _ in range(2)]
    async with live_client.database.begin() as session:
        await session.execute("DELETE FROM duplicate_pairs")
    scan = await started(live_client)
    assert (scan["status"], scan["report"], scan["by"]) == ("pending", None, "key:test")
    assert scan["progress"] == {"phase": None, "done": 0, "total": None}
    assert await queued(live_client.database) == [{"scan_id": scan["id"]}]

    await work(live_client, scan["id"])

    scan = await read(live_client, scan["id"])
    assert (scan["status"], scan["progress"]) == ("completed", {"phase": "comparing", "done": 1, "total": 1})
    assert scan["finished_at"] > scan["created_at"]
    assert scan["report"] == {"contacts": 2, "pairs": 1, "suggested": 1, "withdrawn": 0, "left_out": []}
    [found] = await listed(live_client)
    assert (found["contact_id"], found["other_contact_id"], found["score"]) == (first, second, 94)
    assert await listed(live_client, "/v1/duplicates/scans") == [scan]


async def test_the_worker_works_a_scan_off(live_client: Any, dsn: str) -> None:
    scan = await started(live_client)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(live_client.database, dsn, stop=stop, registry=JOBS, schedules={}))
    async with asyncio.timeout(30):
        while (await read(live_client, scan["id"]))["status"] != "completed":
            await asyncio.sleep(0.05)
    stop.set()
    await running


async def test_whoever_asks_while_a_scan_runs_gets_that_one(live_client: Any) -> None:
    answers = await asyncio.gather(*(live_client.post("/v1/duplicates/scans") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await queued(live_client.database)) == 1
    await work(live_client, answers[0].json()["id"])
    assert (await started(live_client))["id"] != answers[0].json()["id"]


async def test_a_scan_asked_for_again_under_a_key_is_answered_as_before(live_client: Any) -> None:
    headers = {"Idempotency-Key": "scan"}
    first = await live_client.post("/v1/duplicates/scans", headers=headers)
    await work(live_client, first.json()["id"])
    again = await live_client.post("/v1/duplicates/scans", headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_cancelled_scan_is_not_worked_on(live_client: Any) -> None:
    await made(live_client)
    scan = await started(live_client)
    path = f"/v1/duplicates/scans/{scan['id']}"
    assert (await live_client.delete(path)).status_code == 204
    assert (await live_client.delete(path)).status_code == 204
    await work(live_client, scan["id"])
    assert (await read(live_client, scan["id"]))["status"] == "cancelled"


async def test_a_completed_scan_can_not_be_cancelled(live_client: Any) -> None:
    scan = await started(live_client)
    await work(live_client, scan["id"])
    refused(await live_client.delete(f"/v1/duplicates/scans/{scan['id']}"), 409, "scan_completed")


async def test_a_scan_that_broke_off_says_so_and_may_begin_again(live_client: Any) -> None:
    await made(live_client)
    await made(live_client)
    scan = await started(live_client)
    async with live_client.database.begin() as session:
        await session.execute("ALTER TABLE contact_identities RENAME TO hidden")
    try:
        with pytest.raises(Exception, match="contact_identities"):
            await work(live_client, scan["id"])
    finally:
        async with live_client.database.begin() as session:
            await session.execute("ALTER TABLE hidden RENAME TO contact_identities")
    assert (await read(live_client, scan["id"]))["status"] == "failed"
    await work(live_client, scan["id"])
    assert (await read(live_client, scan["id"]))["report"]["suggested"] == 1
    await work(live_client, scan["id"])
    assert (await read(live_client, scan["id"]))["status"] == "completed"


async def test_nobody_s_scan_is_not_found(client: Any) -> None:
    refused(await client.get(f"/v1/duplicates/scans/{NOBODY}"), 404, "scan_not_found")
    refused(await client.delete(f"/v1/duplicates/scans/{NOBODY}"), 404, "scan_not_found")
    assert UUID(NOBODY)
