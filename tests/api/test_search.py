"""Contacts found by a condition, over HTTP: who, in which order, page by page, and what is refused."""

from typing import Any
from uuid import UUID

import pytest

from crm.interactions import selections
from tests.loyalty.shop import Shop

VIP = {"field": "tags", "op": "contains", "value": "vip"}
ANYBODY = {"field": "name", "op": "exists"}


async def person(client: Any, name: str, **facts: Any) -> str:
    answer = await client.post("/v1/contacts", json={"name": name, **facts})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def search(client: Any, condition: Any, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/contacts/search", json={"filter": condition, **asked})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def names(client: Any, condition: Any, **asked: Any) -> list[str]:
    return [contact["name"] for contact in (await search(client, condition, **asked))["items"]]


async def refused(client: Any, status: int, code: str, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/contacts/search", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem


async def test_those_of_whom_the_condition_holds_are_found_whole(client):
    sari = await person(client, "Sari", tags=["vip", "b2b"], identities=[{"kind": "card", "value": "A-1"}])
    await person(client, "Budi")
    found = await search(client, VIP)
    assert found == {
        "items": [(await client.get(f"/v1/contacts/{sari}")).json()], "next_cursor": None, "total": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"all": [VIP, {"field": "attributes.store", "op": "eq", "value": "Bandung"}]}, ["Ayu"]),
        ({"any": [VIP, {"field": "attributes.store", "op": "eq", "value": "Bandung"}]}, ["Ayu", "Budi", "Sari"]),
        ({"not": VIP}, ["Budi", "Wulan"]),
        ({"field": "name", "op": "starts_with", "value": "Wu"}, ["Wulan"]),
        ({"field": "identities", "op": "contains", "value": "card"}, ["Wulan"]),
        ({"field": "attributes.visits", "op": "gte", "value": 3}, ["Sari"]),
    ],
)
async def test_conditions_say_who_is_found(client, condition, expected):
    await person(client, "Sari", tags=["vip"], attributes={"store": "Jakarta", "visits": 3})
    await person(client, "Ayu", tags=["vip"], attributes={"store": "Bandung", "visits": 2})
    await person(client, "Budi", attributes={"store": "Bandung"})
    await person(client, "Wulan", identities=[{"kind": "card", "value": "A-1"}])
    assert await names(client, condition, sort="name") == expected


async def test_balances_and_tiers_are_those_of_the_program_that_is_named(client):
    shop = await Shop.open(client)
    other = (await client.post("/v1/programs", json={"name": "B", "currency": "IDR", "time_zone": "UTC"})).json()["id"]
    sari, budi = await shop.member(points=100), await shop.member()
    rich = {"field": "points.available", "op": "gte", "value": 100}
    assert [contact["id"] for contact in (await search(client, rich))["items"]] == [str(sari)]
    assert (await search(client, rich, program_id=shop.program_id))["items"] != []
    assert (await search(client, rich, program_id=other))["items"] == []
    poor = {"field": "points.available", "op": "eq", "value": 0}
    assert (await search(client, poor, program_id=other, count=True))["total"] == 2
    assert [contact["id"] for contact in (await search(client, poor))["items"]] == [str(budi)]


async def test_without_any_program_nobody_has_points_and_the_calendar_is_that_of_utc(client):
    await person(client, "Sari")
    assert await names(client, {"field": "points.available", "op": "eq", "value": 0}) == ["Sari"]
    assert await names(client, {"field": "tier", "op": "exists"}) == []
    assert await names(client, {"field": "created_at", "op": "gt", "value": {"ago": "P1D"}}) == ["Sari"]


async def test_what_happened_is_counted(client):
    shop = await Shop.open(client)
    sari, budi = await shop.member(), await shop.member()
    for number in range(3):
        await shop.buy(sari, order_ref=f"S-{number}", occurred_at=f"2026-11-0{number + 1}T05:00:00Z", total="60000")
    await shop.buy(budi, order_ref="B-1", occurred_at="2020-11-01T05:00:00Z", total="10000")

    async def found(condition: Any) -> set[str]:
        return {contact["id"] for contact in (await search(client, condition))["items"]}

    assert await found({"did": "purchase"}) == {str(sari), str(budi)}
    assert await found({"did": "purchase", "count": {"gte": 3}}) == {str(sari)}
    assert await found({"not": {"did": "purchase", "where": {"field": "data.total", "op": "gt", "value": 50000}}}) == {
        str(budi)
    }
    assert await found({"did": "purchase", "count": {"eq": 0}}) == set()


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"])
async def test_pages_put_together_are_the_whole_list_whatever_is_written_between(client, sort):
    for number, name in enumerate(["Sari", "sari", "Budi", "Éva", "Eva", "Zul", "Ayu"]):
        await person(client, name, tags=["vip"] if number != 5 else [])
    whole = await search(client, VIP, sort=sort, limit=200, count=True)
    assert whole["total"] == len(whole["items"]) == 6
    pages: list[Any] = []
    cursor = None
    while True:
        page = await search(client, VIP, sort=sort, limit=2, cursor=cursor)
        pages += page["items"]
        cursor = page["next_cursor"]
        await person(client, "Newer")
        if cursor is None:
            break
    assert pages == whole["items"]
    field = sort.removeprefix("-")
    keys = [contact["name"].lower().replace("é", "e") if field == "name" else contact[field] for contact in pages]
    assert keys == sorted(keys, reverse=sort.startswith("-"))


async def test_a_cursor_belongs_to_its_order(client):
    for name in ("Sari", "Budi", "Ayu"):
        await person(client, name)
    cursor = (await search(client, ANYBODY, sort="created_at", limit=1))["next_cursor"]
    for sort in ("-created_at", "updated_at", "name"):
        await refused(client, 400, "broken_cursor", filter=ANYBODY, sort=sort, cursor=cursor)
    await refused(client, 400, "broken_cursor", filter=ANYBODY, cursor="nonsense")


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({"filter": ANYBODY, "sort": "birthday"}, "/sort", "'-created_at'"),
        ({"filter": ANYBODY, "limit": 0}, "/limit", "greater than or equal to 1"),
        ({"filter": ANYBODY, "limit": 201}, "/limit", "less than or equal to 200"),
        ({"filter": ANYBODY, "offset": 7}, "/offset", "not permitted"),
        ({"filter": ANYBODY, "program_id": "x"}, "/program_id", "UUID"),
        ({}, "/filter", "required"),
        ({"filter": {"field": "tag", "op": "contains", "value": "x"}}, "/filter/field", "close to it: tags"),
        ({"filter": {"all": [{"field": "tags", "op": "eq", "value": "x"}]}}, "/filter/all/0/op", "contains"),
    ],
)
async def test_what_is_wrong_is_said_of_its_place(client, body, pointer, said):
    answer = await client.post("/v1/contacts/search", json=body)
    assert answer.status_code == 422, answer.text
    assert [said in error["message"] for error in answer.json()["errors"] if error["pointer"] == pointer] == [True]


async def test_a_program_that_nobody_has_made_is_not_found(client):
    await refused(client, 404, "program_not_found", filter=ANYBODY, program_id=str(UUID(int=7)))


async def test_a_search_that_takes_too_long_is_told_so(live_client, monkeypatch):
    await person(live_client, "Sari")
    monkeypatch.setattr(selections, "SECONDS_MAX", 0.2)
    async with live_client.database.begin() as other:
        await other.execute("LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE")
        problem = await refused(live_client, 422, "search_too_broad", filter=ANYBODY)
    assert "segment" in problem["detail"]
    assert await names(live_client, ANYBODY) == ["Sari"]


async def test_how_long_a_search_may_take_says_nothing_of_what_comes_after(live_client):
    await search(live_client, ANYBODY, count=True)
    async with live_client.database.reading() as session:
        assert await session.fetchval("SHOW statement_timeout") == "30s"
        assert await session.fetchval("SHOW plan_cache_mode") == "auto"


async def test_who_may_read_contacts_may_search_them(client):
    reader = await client.limited_to("contacts:read")
    assert await names(reader, ANYBODY) == []
    other = await client.limited_to("contacts:write", "loyalty:read")
    assert (await other.post("/v1/contacts/search", json={"filter": ANYBODY})).status_code == 403


async def test_an_attribute_is_compared_as_what_it_is_defined_as(client):
    for number, value in enumerate(["9.50", "120000.00", "many"]):
        await person(client, f"P{number}", attributes={"spent": value})
    below = {"field": "attributes.spent", "op": "in", "value": ["9.5", "120000"]}
    assert await names(client, below) == []
    fitting = {"name": "spent", "type": "money", "currency": "IDR"}
    refusal = await client.post("/v1/attribute-definitions", json=fitting)
    assert refusal.status_code == 409
    [last] = (await search(client, {"field": "name", "op": "eq", "value": "P2"}))["items"]
    await client.patch(f"/v1/contacts/{last['id']}", json={"attributes": {"spent": None}})
    assert (await client.post("/v1/attribute-definitions", json=fitting)).status_code == 201
    assert sorted(await names(client, below)) == ["P0", "P1"]
    wrong = {"all": [{"field": "attributes.spent", "op": "starts_with", "value": "9"}]}
    answer = await client.post("/v1/contacts/search", json={"filter": wrong})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/filter/all/0/op"]
