"""Segments over HTTP: made, tried, changed, archived, evaluated by the worker, and read."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from crm.contacts import segments
from crm.db.session import Database
from crm.jobs import JOBS
from tests.loyalty.shop import Shop, at_once, checksum, statuses

VIP = {"field": "tags", "op": "contains", "value": "vip"}
BUYERS = {"did": "purchase", "within": "P90D"}
NOBODY = UUID(int=7)


def new(name: str = "VIPs", condition: Any = VIP, **facts: Any) -> dict[str, Any]:
    return {"name": name, "condition": condition, **facts}


async def person(client: Any, name: str = "Sari", **facts: Any) -> str:
    answer = await client.post("/v1/contacts", json={"name": name, **facts})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def create(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/segments", json=new(**facts))
    assert answer.status_code == 201, answer.text
    segment: dict[str, Any] = answer.json()
    return segment


async def read(client: Any, path: str) -> Any:
    answer = await client.get(f"/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def queued(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.fetch("SELECT payload FROM pgqueuer WHERE entrypoint = $1 ORDER BY id", segments.EVALUATE)
    return [msgspec.json.decode(row["payload"]) for row in rows]


async def work(client: Any) -> None:
    """What the worker does with all that is queued."""
    for payload in await queued(client.database):
        await JOBS[segments.EVALUATE](client.database, payload, now=datetime.now(UTC))


async def members(client: Any, segment_id: str) -> list[str]:
    return [contact["id"] for contact in (await read(client, f"segments/{segment_id}/members"))["items"]]


async def told(client: Any, contact_id: str) -> list[tuple[str, str]]:
    """What of segments stands on a timeline, the newest first."""
    items = (await read(client, f"contacts/{contact_id}/timeline"))["items"]
    return [(item["kind"], item["data"]["name"]) for item in items if item["kind"].startswith("segment.")]


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


# ---------------------------------------------------------------- what a segment is


async def test_a_segment_is_answered_as_it_can_be_read_and_left_to_the_worker(client):
    answer = await client.post("/v1/segments", json=new(description="Those who come often"))
    segment = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    assert answer.headers["location"] == f"/v1/segments/{segment['id']}"
    assert segment | {"id": "", "created_at": "", "updated_at": ""} == {
        "id": "", "name": "VIPs", "description": "Those who come often", "condition": VIP, "program_id": None,
        "refresh": "hourly", "version": 1, "members_count": 0, "evaluated_at": None, "by": "key:test", "created_at": "",
        "updated_at": "", "archived_at": None,
    }  # fmt: skip
    assert await read(client, f"segments/{segment['id']}") == segment
    assert (await read(client, "segments"))["items"] == [segment]
    assert await queued(client.database) == [{"segment_id": segment["id"]}]
    assert (await read(client, f"segments/{segment['id']}/evaluation"))["status"] == "pending"


async def test_the_worker_finds_who_is_in_it_and_tells_their_timelines(client):
    sari, budi = await person(client, tags=["vip"]), await person(client, "Budi")
    segment = await create(client)
    await work(client)
    assert await members(client, segment["id"]) == [sari]
    assert await told(client, sari) == [("segment.entered", "VIPs")]
    assert await told(client, budi) == []
    evaluation = await read(client, f"segments/{segment['id']}/evaluation")
    assert (evaluation["status"], evaluation["contacts_count"], evaluation["members_count"]) == ("completed", 2, 1)
    after = await read(client, f"segments/{segment['id']}")
    assert (after["members_count"], after["evaluated_at"]) == (1, evaluation["evaluated_at"])
    (of_sari,) = (await read(client, f"contacts/{sari}/segments"))["items"]
    assert (of_sari["id"], of_sari["name"]) == (segment["id"], "VIPs")
    assert (await read(client, f"contacts/{budi}/segments"))["items"] == []


async def test_an_evaluation_that_is_asked_for_again_finds_who_has_left(client):
    sari, budi = await person(client, tags=["vip"]), await person(client, "Budi", tags=["vip"])
    segment = await create(client, refresh="manual")
    assert await queued(client.database) == []
    assert (await read(client, f"segments/{segment['id']}/evaluation"))["status"] == "never"
    for _ in range(2):
        answer = await client.post(f"/v1/segments/{segment['id']}/evaluation")
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    await work(client)
    await client.delete(f"/v1/contacts/{sari}/tags/vip")
    assert set(await members(client, segment["id"])) == {sari, budi}
    await client.post(f"/v1/segments/{segment['id']}/evaluation")
    await work(client)
    assert await members(client, segment["id"]) == [budi]
    assert await told(client, sari) == [("segment.left", "VIPs"), ("segment.entered", "VIPs")]
    assert await told(client, budi) == [("segment.entered", "VIPs")]


async def test_members_come_page_by_page(client):
    people = [await person(client, tags=["vip"]) for _ in range(5)]
    segment = await create(client)
    await work(client)
    found: list[str] = []
    path = f"segments/{segment['id']}/members?limit=2"
    page = await read(client, path)
    while True:
        found += [contact["id"] for contact in page["items"]]
        if page["next_cursor"] is None:
            break
        page = await read(client, f"{path}&cursor={page['next_cursor']}")
    assert found == people[::-1]


async def test_rules_can_ask_who_is_in_a_segment_by_name_and_by_id(client):
    shop = await Shop.open(client)
    segment = await create(client)
    sari, budi = await person(client, tags=["vip"]), await person(client)
    await work(client)
    for name, value in (("by name", "VIPs"), ("by id", segment["id"])):
        rule = {
            "name": name, "kind": "per_visit", "points": 1000,
            "condition": {"field": "segments", "op": "contains", "value": value},
        }  # fmt: skip
        answer = await client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)
        assert answer.status_code == 201, answer.text
    assert (await shop.buy(UUID(sari), order_ref="A")).json()["points"] == 2045
    assert (await shop.buy(UUID(budi), order_ref="B")).json()["points"] == 45
    found = await client.post(
        "/v1/contacts/search", json={"filter": {"field": "segments", "op": "in", "value": ["VIPs"]}}
    )
    assert [contact["id"] for contact in found.json()["items"]] == [sari]
    await client.delete(f"/v1/segments/{segment['id']}")
    assert (await shop.buy(UUID(sari), order_ref="C")).json()["points"] == 45


# ---------------------------------------------------------------- trying


async def test_a_condition_is_tried_on_everybody_and_nothing_is_kept(client):
    for number in range(12):
        await person(client, f"Sari {number}", tags=["vip"])
    await person(client, "Budi")
    before = await _checksum(client)
    answer = await client.post("/v1/segments/previews", json={"condition": VIP})
    assert answer.status_code == 200, answer.text
    assert answer.json()["count"] == 12
    assert [contact["name"] for contact in answer.json()["sample"]] == [f"Sari {n}" for n in range(11, 1, -1)]
    assert await _checksum(client) == before


async def _checksum(client: Any) -> Any:
    async with client.database.reading() as session:
        return await checksum(session)


# ---------------------------------------------------------------- changing and archiving


async def test_another_condition_is_another_version_and_is_evaluated_anew(client):
    sari, budi = await person(client, tags=["vip"]), await person(client, "Budi", tags=["b2b"])
    segment = await create(client)
    await work(client)
    b2b = {"field": "tags", "op": "contains", "value": "b2b"}
    answer = await client.patch(f"/v1/segments/{segment['id']}", json={"condition": b2b}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert (answer.json()["condition"], answer.json()["version"]) == (b2b, 2)
    assert await members(client, segment["id"]) == [sari]
    await work(client)
    assert await members(client, segment["id"]) == [budi]
    assert await told(client, sari) == [("segment.left", "VIPs"), ("segment.entered", "VIPs")]


async def test_what_is_changed_otherwise_needs_no_evaluation(client):
    segment = await create(client)
    changes = {"name": "Very important", "description": "x", "refresh": "daily"}
    after = (await client.patch(f"/v1/segments/{segment['id']}", json=changes)).json()
    assert after | {"updated_at": ""} == segment | changes | {"version": 2, "updated_at": ""}
    assert len(await queued(client.database)) == 1
    same = await client.patch(f"/v1/segments/{segment['id']}", json=changes)
    assert (same.headers["etag"], same.json()) == ('"2"', after)
    cleared = (await client.patch(f"/v1/segments/{segment['id']}", json={"description": None})).json()
    assert (cleared["description"], cleared["version"]) == (None, 3)


async def test_a_stale_version_changes_nothing(client):
    segment = await create(client)
    await client.patch(f"/v1/segments/{segment['id']}", json={"name": "Other"})
    for method, body in (("PATCH", {"name": "Third"}), ("DELETE", None)):
        answer = await client.request(method, f"/v1/segments/{segment['id']}", json=body, headers={"If-Match": '"1"'})
        assert problem(answer, 412, "stale_version")["version"] == 2
    assert (await read(client, f"segments/{segment['id']}"))["name"] == "Other"


async def test_an_archived_segment_is_read_and_not_listed_and_its_name_is_free(client):
    segment = await create(client)
    for _ in range(2):
        assert (await client.delete(f"/v1/segments/{segment['id']}")).status_code == 204
    archived = await read(client, f"segments/{segment['id']}")
    assert archived["archived_at"] is not None
    assert (await read(client, "segments"))["items"] == []
    problem(await client.post(f"/v1/segments/{segment['id']}/evaluation"), 409, "segment_archived")
    problem(await client.patch(f"/v1/segments/{segment['id']}", json={"name": "x"}), 409, "segment_archived")
    await work(client)
    assert (await read(client, f"segments/{segment['id']}"))["evaluated_at"] is None
    await create(client)


async def test_who_is_in_a_segment_can_still_be_deleted_where_nothing_else_happened(client):
    sari = await person(client, tags=["vip"])
    segment = await create(client)
    await work(client)
    assert (await client.delete(f"/v1/contacts/{sari}")).status_code == 204
    assert await members(client, segment["id"]) == []


# ---------------------------------------------------------------- refusals and repetition


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        (new(condition={"field": "tag", "op": "exists"}), "invalid_condition", "/condition/field"),
        (new(condition={"field": "segments", "op": "exists"}), "invalid_condition", "/condition"),
        (
            new(condition={"not": {"any": [VIP, {"field": "segments", "op": "contains", "value": "x"}]}}),
            "invalid_condition", "/condition",
        ),
        (new(refresh="weekly"), "invalid", "/refresh"),
        (new(name=" "), "invalid", "/name"),
        ({"name": "x"}, "invalid", "/condition"),
        (new(members=[]), "invalid", "/members"),
    ],
)  # fmt: skip
async def test_what_is_no_segment_is_refused_with_its_place(client, body, code, pointer):
    answer = await client.post("/v1/segments", json=body)
    assert pointer in {error["pointer"] for error in problem(answer, 422, code)["errors"]}
    assert (await read(client, "segments"))["items"] == []


async def test_a_patch_is_judged_as_a_new_segment_is(client):
    segment = await create(client)
    await create(client, name="Taken")
    path = f"/v1/segments/{segment['id']}"
    problem(
        await client.patch(path, json={"condition": {"field": "segments", "op": "exists"}}), 422, "invalid_condition"
    )
    problem(await client.patch(path, json={"condition": None}), 422, "invalid")
    problem(await client.patch(path, json={"name": "Taken"}), 409, "segment_name_taken")
    problem(await client.patch(path, json={"program_id": str(NOBODY)}), 404, "program_not_found")
    assert await read(client, f"segments/{segment['id']}") == segment


async def test_a_name_is_one_segment_s_only(client):
    first = await create(client)
    taken = problem(await client.post("/v1/segments", json=new()), 409, "segment_name_taken")
    assert taken["segment_id"] == first["id"]
    problem(await client.post("/v1/segments", json=new("B", program_id=str(NOBODY))), 404, "program_not_found")


async def test_one_of_many_at_once_gets_the_name(live_client):
    answers = await at_once(*(live_client.post("/v1/segments", json=new()) for _ in range(8)))
    assert statuses(answers) == {201: 1, 409: 7}


async def test_there_are_no_more_than_can_be_held_against_everything(client, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENTS_MAX", 2)
    for name in ("A", "B"):
        await create(client, name=name)
    problem(await client.post("/v1/segments", json=new("C")), 409, "too_many_segments")
    await client.delete(f"/v1/segments/{(await read(client, 'segments'))['items'][0]['id']}")
    await create(client, name="C")


async def test_a_repeated_request_has_one_effect(client):
    headers = {"Idempotency-Key": "seg-1"}
    first, again = [await client.post("/v1/segments", json=new(), headers=headers) for _ in range(2)]
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.json()) == (201, first.json())
    problem(await client.post("/v1/segments", json=new("B"), headers=headers), 422, "idempotency_key_reused")
    path = f"/v1/segments/{first.json()['id']}/evaluation"
    asked, repeated = [await client.post(path, headers={"Idempotency-Key": "eval"}) for _ in range(2)]
    assert (repeated.status_code, repeated.json()) == (202, asked.json())
    assert len(await queued(client.database)) == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None), ("PATCH", "", {"name": "x"}), ("DELETE", "", None), ("GET", "/members", None),
        ("GET", "/evaluation", None), ("POST", "/evaluation", None),
    ],
)  # fmt: skip
async def test_a_segment_that_nobody_has_made_is_not_found(client, method, path, body):
    answer = await client.request(method, f"/v1/segments/{NOBODY}{path}", json=body)
    problem(answer, 404, "segment_not_found")


async def test_segments_of_a_contact_that_nobody_knows_are_not_found(client):
    problem(await client.get(f"/v1/contacts/{NOBODY}/segments"), 404, "contact_not_found")


async def test_reading_and_writing_have_scopes_of_their_own(client):
    segment = await create(client)
    reader, writer = await client.limited_to("contacts:read"), await client.limited_to("contacts:write")
    assert (await reader.get("/v1/segments")).status_code == 200
    assert (await reader.post("/v1/segments/previews", json={"condition": VIP})).status_code == 200
    for method, path, body in (
        ("POST", "", new("B")), ("PATCH", f"/{segment['id']}", {"name": "x"}), ("DELETE", f"/{segment['id']}", None),
        ("POST", f"/{segment['id']}/evaluation", None),
    ):  # fmt: skip
        assert (await reader.request(method, f"/v1/segments{path}", json=body)).status_code == 403
    assert (await writer.get("/v1/segments")).status_code == 403


async def test_nobody_reports_that_somebody_is_in_a_segment(client):
    sari = await person(client)
    answer = await client.post(
        f"/v1/contacts/{sari}/interactions",
        json={"channel": "web", "kind": "segment.entered", "occurred_at": "2026-11-01T00:00:00Z"},
    )
    problem(answer, 422, "reserved_kind")


async def test_a_segment_compares_an_attribute_as_it_was_defined_when_that_was_asked(client):
    sari = await person(client, "Sari", attributes={"since": "2026-11-01"})
    await client.post("/v1/attribute-definitions", json={"name": "since", "type": "date"})
    asked = {"field": "attributes.since", "op": "gte", "value": "2026-01-01"}
    segment = await create(client, condition=asked)
    assert segment["condition"] == asked | {"type": "date"}
    preview = await client.post("/v1/segments/previews", json={"condition": asked})
    assert preview.json()["count"] == 1
    await client.delete("/v1/attribute-definitions/since")
    await work(client)
    assert await members(client, segment["id"]) == [sari]
    path = f"/v1/segments/{segment['id']}"
    same = await client.patch(path, json={"condition": segment["condition"], "description": "x"})
    assert same.json()["condition"] == segment["condition"]
    wrong = {"field": "attributes.since", "op": "contains", "value": "2026", "type": "number"}
    changed = await client.patch(path, json={"condition": wrong})
    assert changed.json()["condition"] == {"field": "attributes.since", "op": "contains", "value": "2026"}
    await client.post("/v1/attribute-definitions", json={"name": "since", "type": "date"})
    refusal = problem(await client.patch(path, json={"condition": {"not": wrong}}), 422, "invalid_condition")
    assert [error["pointer"] for error in refusal["errors"]] == ["/condition/not/op"]


@pytest.mark.parametrize("how", ["merge", "erasure", "deletion"])
async def test_who_is_no_contact_any_more_is_not_counted_any_more(client, how):
    sari, budi = await person(client, "Sari", tags=["vip"]), await person(client, "Budi", tags=["vip"])
    segment = await create(client)
    await work(client)
    path = f"segments/{segment['id']}"
    assert (await read(client, path))["members_count"] == 2
    match how:
        case "merge":
            merge = {"contact_id": sari, "other_contact_id": budi}
            assert (await client.post("/v1/merges", json=merge)).status_code == 201
        case "erasure":
            assert (await client.post(f"/v1/contacts/{budi}/erasure", json={})).status_code == 201
        case _:
            assert (await client.delete(f"/v1/contacts/{budi}")).status_code == 204
    assert (await read(client, path))["members_count"] == 1
    assert await members(client, segment["id"]) == [sari]
    await work(client)
    assert (await read(client, path))["members_count"] == 1
