import asyncio
import random
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

SARI = {
    "name": "Sari Dewi",
    "given_name": "Sari",
    "family_name": "Dewi",
    "locale": "id-ID",
    "time_zone": "Asia/Jakarta",
    "birth_on": "1990-03-10",
    "identities": [
        {"kind": "email", "value": "Sari@Example.com", "verified": False},
        {"kind": "phone", "value": "+62 812-3456-789"},
    ],
    "tags": ["vip"],
    "attributes": {"favourite_store": "Bandung", "size": 7, "share": 1.5, "member": True, "likes": ["tea"]},
}


async def create(client: httpx.AsyncClient, **given: Any) -> dict[str, Any]:
    answer = await client.post("/v1/contacts", json={"name": "Sari Dewi", **given})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem


async def test_a_contact_is_answered_as_it_was_sent_with_its_identities_in_canonical_form(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/contacts", json=SARI)
    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/contacts/{made['id']}"
    assert made == {
        **SARI,
        "identities": [
            {"kind": "email", "account": "", "value": "sari@example.com", "raw": "Sari@Example.com", "verified": False,
             "disputed": False},
            {"kind": "phone", "account": "", "value": "+628123456789", "raw": "+62 812-3456-789", "verified": False,
             "disputed": False},
        ],
        "id": made["id"], "version": 1, "created_at": made["created_at"], "updated_at": made["created_at"],
    }  # fmt: skip
    read = await client.get(f"/v1/contacts/{made['id']}")
    assert (read.status_code, read.headers["etag"], read.json()) == (200, '"1"', made)


async def test_a_name_is_all_that_is_needed(client: httpx.AsyncClient) -> None:
    made = await create(client)
    assert made == {
        "id": made["id"], "name": "Sari Dewi", "given_name": None, "family_name": None, "locale": None,
        "time_zone": None, "birth_on": None, "identities": [], "tags": [], "attributes": {}, "version": 1,
        "created_at": made["created_at"], "updated_at": made["created_at"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": " "}, "/name"),
        ({"name": None}, "/name"),
        ({"name": "x" * 201}, "/name"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": "S", "id": str(uuid4())}, "/id"),
        ({"name": "S", "version": 9}, "/version"),
        ({"name": "S", "locale": "nowhere at all"}, "/locale"),
        ({"name": "S", "time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"name": "S", "birth_on": "2199-01-01"}, "/birth_on"),
        ({"name": "S", "birth_on": "1899-12-31"}, "/birth_on"),
        ({"name": "S", "birth_on": "1990-02-30"}, "/birth_on"),
        ({"name": "S", "birth_on": "1990-03-10T00:00:00"}, "/birth_on"),
        ({"name": "S", "birth_on": "0"}, "/birth_on"),
        ({"name": "S", "birth_on": 0}, "/birth_on"),
        ({"name": "S", "identities": [{"kind": "email", "value": "x"}]}, "/identities/0/value"),
        ({"name": "S", "identities": [{"kind": "card", "value": "0"}]}, "/identities/0/value"),
        ({"name": "S", "identities": [{"kind": "card", "value": 7}]}, "/identities/0/value"),
        ({"name": "S", "identities": [{"kind": "Card", "value": "C"}]}, "/identities/0/kind"),
        ({"name": "S", "identities": [{"kind": "card", "value": "C", "verified": 1}]}, "/identities/0/verified"),
        ({"name": "S", "tags": [" "]}, "/tags"),
        ({"name": "S", "attributes": {"1": 1}}, "/attributes/1"),
        ({"name": "S", "attributes": {"a": 2**53}}, "/attributes/a"),
        ({"name": "S", "attributes": {"a": "\x00"}}, "/attributes/a"),
    ],
)
async def test_what_is_no_contact_is_refused_where_it_is_wrong(
    client: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    problem = refused(await client.post("/v1/contacts", json=body), 422, "invalid")
    assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize("value", [{"deep": 1}, [1], [None], [["a"]]])
async def test_an_attribute_is_text_number_boolean_or_a_list_of_text(client: httpx.AsyncClient, value: Any) -> None:
    refused(await client.post("/v1/contacts", json={"name": "S", "attributes": {"a": value}}), 422, "invalid")


async def test_an_identity_of_somebody_else_is_refused_with_their_id(client: httpx.AsyncClient) -> None:
    first = await create(client, identities=SARI["identities"])
    body = {"name": "B", "identities": [{"kind": "card", "value": "C1"}, {"kind": "phone", "value": "0812 3456 789"}]}
    problem = refused(await client.post("/v1/contacts", json=body), 409, "identity_taken")
    assert problem["contact_id"] == first["id"]
    assert (await client.get("/v1/contacts/by/card/C1")).status_code == 404
    other = await create(client)
    answer = await client.post(f"/v1/contacts/{other['id']}/identities", json=body["identities"][1])
    assert refused(answer, 409, "identity_taken")["contact_id"] == first["id"]


@pytest.mark.parametrize(
    "path",
    ["/v1/contacts", "/v1/contacts/batch", "/v1/contacts/{id}/identities"],
)
async def test_a_repeated_request_has_one_effect_and_one_answer(client: httpx.AsyncClient, path: str) -> None:
    path = path.format(id=(await create(client))["id"])
    identity = {"kind": "card", "value": "C1"}
    contact = {"name": "S", "identities": [identity]}
    body = {"batch": {"items": [contact]}, "identities": identity}.get(path.rpartition("/")[2], contact)
    headers = {"Idempotency-Key": "once"}
    first = await client.post(path, json=body, headers=headers)
    again = await client.post(path, json=body, headers=headers)
    assert first.status_code in {200, 201}
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_patch_changes_what_it_names(client: httpx.AsyncClient) -> None:
    made = await create(client, given_name="Sari", tags=["vip"], attributes={"a": 1, "b": "x", "c": True})
    path = f"/v1/contacts/{made['id']}"
    changes = {"given_name": None, "locale": "id", "tags": ["new"], "attributes": {"a": None, "b": "y", "d": ["z"]}}
    answer = await client.patch(path, json=changes, headers={"If-Match": '"1"'})
    after = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert after == {
        **made, "given_name": None, "locale": "id", "tags": ["new"], "attributes": {"b": "y", "c": True, "d": ["z"]},
        "version": 2, "updated_at": after["updated_at"],
    }  # fmt: skip
    assert (await client.get(path)).json() == after
    refused(await client.patch(path, json={"name": "T"}, headers={"If-Match": '"1"'}), 412, "stale_version")
    refused(await client.patch(path, json={"name": None}), 422, "invalid")
    refused(await client.patch(path, json={"identities": []}), 422, "invalid")
    assert (await client.get(path)).json() == after


async def test_a_contact_without_history_can_be_deleted(client: httpx.AsyncClient) -> None:
    made = await create(client, identities=SARI["identities"])
    path = f"/v1/contacts/{made['id']}"
    refused(await client.delete(path, headers={"If-Match": '"7"'}), 412, "stale_version")
    assert (await client.delete(path, headers={"If-Match": '"1"'})).status_code == 204
    refused(await client.get(path), 404, "contact_not_found")
    refused(await client.delete(path), 404, "contact_not_found")
    await create(client, identities=SARI["identities"])


async def test_a_contact_with_points_can_not_be_deleted(client: httpx.AsyncClient) -> None:
    made = await create(client)
    program = {"name": "P", "currency": "IDR", "time_zone": "Asia/Jakarta"}
    assert (await client.post("/v1/programs", json=program)).status_code == 201
    award = {"points": 50, "reason": "goodwill"}
    assert (await client.post(f"/v1/contacts/{made['id']}/points-awards", json=award)).status_code == 201
    refused(await client.delete(f"/v1/contacts/{made['id']}"), 409, "has_history")


@pytest.mark.parametrize(
    ("kind", "stored", "typed"),
    [
        ("email", "Sari@Example.com", "SARI@example.com"),
        ("phone", "0812 3456 789", "+62 812-3456-789"),
        ("whatsapp", "+62 812-3456-789", "628123456789"),
        ("card", "AB 12", "ab12"),
        ("customer_id", "gid://shopify/Customer/7", "gid://shopify/Customer/7"),
        ("customer_id", "50% off? #1 + ä/", "50% off? #1 + ä/"),
    ],
)
async def test_a_contact_is_found_by_an_identity(client: httpx.AsyncClient, kind: str, stored: str, typed: str) -> None:
    made = await create(client, identities=[{"kind": kind, "value": stored}])
    answer = await client.get(f"/v1/contacts/by/{kind}/{quote(typed, safe='')}")
    assert (answer.status_code, answer.json()) == (200, made)
    assert answer.headers["etag"] == '"1"'


async def test_a_slash_in_an_identity_need_not_be_encoded(client: httpx.AsyncClient) -> None:
    made = await create(client, identities=[{"kind": "customer_id", "value": "gid://shopify/Customer/7"}])
    answer = await client.get("/v1/contacts/by/customer_id/gid://shopify/Customer/7")
    assert answer.json() == made


async def test_nobody_is_found_by_an_identity_that_nobody_has(client: httpx.AsyncClient) -> None:
    refused(await client.get("/v1/contacts/by/card/none-has-it"), 404, "contact_not_found")
    refused(await client.get("/v1/contacts/by/phone/nonsense"), 422, "invalid_identity")
    refused(await client.get("/v1/contacts/by/CARD/C1"), 422, "invalid_identity")
    refused(await client.get("/v1/contacts/by/card/%00"), 404, "not_found")


async def test_an_identity_of_several_accounts_needs_its_account(client: httpx.AsyncClient) -> None:
    made = [
        await create(client, identities=[{"kind": "messenger", "value": "42", "account": account}])
        for account in ("page/1", "page/2")
    ]
    problem = refused(await client.get("/v1/contacts/by/messenger/42"), 409, "identity_ambiguous")
    assert [candidate["contact_id"] for candidate in problem["candidates"]] == [one["id"] for one in made]
    answer = await client.get("/v1/contacts/by/messenger/42", params={"account": "page/2"})
    assert answer.json() == made[1]


async def test_identities_are_added_listed_verified_and_removed(client: httpx.AsyncClient) -> None:
    made = await create(client, identities=[{"kind": "card", "value": "C1"}])
    path = f"/v1/contacts/{made['id']}/identities"
    phone = {"kind": "phone", "value": "0812 3456 789"}
    added = await client.post(path, json=phone)
    kept = {
        "kind": "phone", "account": "", "value": "+628123456789", "raw": "0812 3456 789", "verified": False,
        "disputed": False,
    }  # fmt: skip
    assert (added.status_code, added.json()) == (201, kept)
    again = await client.post(path, json={**phone, "value": "+628123456789", "verified": True})
    assert (again.status_code, again.json()) == (200, {**kept, "verified": True})
    listed = (await client.get(path)).json()
    assert [identity["value"] for identity in listed["items"]] == ["C1", "+628123456789"]
    assert listed["next_cursor"] is None
    query = {"kind": "phone", "value": "0812-3456-789"}
    assert (await client.delete(path, params=query)).status_code == 204
    refused(await client.delete(path, params=query), 404, "identity_not_found")
    refused(await client.post(path, json={"kind": "phone", "value": "x"}), 422, "invalid_identity")
    assert (await client.get(f"/v1/contacts/{made['id']}")).json()["version"] == 4


@pytest.mark.parametrize("tag", ["vip", "VIP", "a b", "a/b", "50%", "ä+ö", "https://x/y", "?#"])
async def test_a_tag_is_put_and_taken_off(client: httpx.AsyncClient, tag: str) -> None:
    made = await create(client, tags=["old"])
    path = f"/v1/contacts/{made['id']}/tags/{quote(tag, safe='')}"
    for _ in range(2):
        answer = await client.put(path)
        assert (answer.status_code, set(answer.json()["tags"]), answer.headers["etag"]) == (200, {"old", tag}, '"2"')
    listed = await client.get("/v1/contacts", params={"tag": tag})
    assert [contact["id"] for contact in listed.json()["items"]] == [made["id"]]
    for _ in range(2):
        assert (await client.delete(path)).status_code == 204
    assert (await client.get(f"/v1/contacts/{made['id']}")).json()["tags"] == ["old"]


async def test_what_can_be_no_tag_is_refused(client: httpx.AsyncClient) -> None:
    made = await create(client)
    for tag in ("x" * 65, "%20", "%0A"):
        refused(await client.put(f"/v1/contacts/{made['id']}/tags/{tag}"), 422, "invalid_tag")


async def walk(client: httpx.AsyncClient, **params: Any) -> list[str]:
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get("/v1/contacts", params={**params, **cursor})
        assert answer.status_code == 200, answer.text
        ids.extend(contact["id"] for contact in answer.json()["items"])
        if answer.json()["next_cursor"] is None:
            return ids
        cursor = {"cursor": answer.json()["next_cursor"]}


async def test_pages_put_together_are_the_whole_list(client: httpx.AsyncClient) -> None:
    chance = random.Random(5)
    everybody = [
        await create(client, name=chance.choice(["Sari Dewi", "Sary Putri", "Budi"]), tags=chance.choice([[], ["vip"]]))
        for _ in range(25)
    ]
    for q in (None, " ", "sari", "budi"):
        for tag in (None, "vip"):
            params = {name: value for name, value in (("q", q), ("tag", tag)) if value is not None}
            whole = await walk(client, limit=200, **params)
            matching = {
                contact["id"]
                for contact in everybody
                if (tag is None or tag in contact["tags"])
                and (q is None or q == " " or (q == "budi") == (contact["name"] == "Budi"))
            }
            assert set(whole) == matching
            assert await walk(client, limit=4, **params) == whole
    assert await walk(client, limit=4) == [contact["id"] for contact in reversed(everybody)]


async def test_a_cursor_of_one_list_is_none_of_the_other(client: httpx.AsyncClient) -> None:
    for name in ("Sari", "Sari"):
        await create(client, name=name)
    cursors = [
        (await client.get("/v1/contacts", params={"limit": 1, **params})).json()["next_cursor"]
        for params in ({}, {"q": "sari"})
    ]
    refused(await client.get("/v1/contacts", params={"q": "sari", "cursor": cursors[0]}), 400, "broken_cursor")
    refused(await client.get("/v1/contacts", params={"cursor": cursors[1]}), 400, "broken_cursor")


@pytest.mark.parametrize("params", [{"q": "x" * 201}, {"q": "a\x00"}, {"tag": "\x00"}, {"limit": 0}, {"name": "Sari"}])
async def test_a_search_that_can_not_be_is_refused(client: httpx.AsyncClient, params: dict[str, Any]) -> None:
    refused(await client.get("/v1/contacts", params=params), 422, "invalid")


@pytest.mark.parametrize(
    "q", ["%", "_", "%%%", "\\", "a%b", "'", '"', "(", "[", "\ud7ff", "\U0010ffff", "+", "@", "08"]
)
async def test_a_search_takes_every_character_for_itself(client: httpx.AsyncClient, q: str) -> None:
    await create(client, name="Sari Dewi", identities=SARI["identities"])
    assert (await client.get("/v1/contacts", params={"q": q})).json()["items"] == []
    made = await create(client, name=f"x{q}y {q}z", identities=[{"kind": "pos", "value": f"{q}17"}])
    assert [hit["id"] for hit in (await client.get("/v1/contacts", params={"q": q})).json()["items"]] == [made["id"]]


async def test_a_batch_answers_each_item_as_if_it_had_been_sent_alone(client: httpx.AsyncClient) -> None:
    holder = await create(client, identities=[{"kind": "card", "value": "TAKEN"}])
    items = [
        {"name": "1", "birth_on": "1990-03-10", "identities": [{"kind": "card", "value": "A"}]},
        {"name": "2", "identities": [{"kind": "card", "value": "B"}, {"kind": "card", "value": "taken"}]},
        {"name": "3", "identities": [{"kind": "card", "value": "B"}, {"kind": "card", "value": "a"}]},
        {"name": "4", "identities": [{"kind": "card", "value": "B"}]},
        {"nam": "5"},
        {"name": "6", "identities": [{"kind": "email", "value": "x"}]},
        7,
        {"name": "8", "attributes": {"a": 10**30}},
        {"name": "9"},
    ]
    answer = await client.post("/v1/contacts/batch", json={"items": items})
    assert answer.status_code == 200
    results = answer.json()["items"]
    assert [result["status"] for result in results] == [201, 409, 409, 201, 422, 422, 422, 422, 201]
    assert results[1]["problem"]["contact_id"] == holder["id"]
    assert results[2]["problem"]["contact_id"] == results[0]["body"]["id"]
    assert [error["pointer"] for error in results[4]["problem"]["errors"]] == ["/name", "/nam"]
    assert [error["pointer"] for error in results[5]["problem"]["errors"]] == ["/identities/0/value"]
    for result in results:
        if result["status"] == 201:
            assert (await client.get(f"/v1/contacts/{result['body']['id']}")).json() == result["body"]
        else:
            assert result["problem"]["status"] == result["status"]
            assert result["problem"]["request_id"] == answer.headers["x-request-id"]
    assert len(await walk(client)) == 4


@pytest.mark.parametrize("count", [0, 501])
async def test_a_batch_has_one_to_500_items(client: httpx.AsyncClient, count: int) -> None:
    answer = await client.post("/v1/contacts/batch", json={"items": [{"name": "S"}] * count})
    refused(answer, 422, "invalid")


async def test_a_large_batch_takes_no_more_statements_than_a_small_one(
    client: httpx.AsyncClient, statements: list[str]
) -> None:
    await create(client)
    counts = []
    for count in (2, 500):
        items = [
            {"name": f"{i}", "tags": ["new"], "identities": [{"kind": "card", "value": f"{count}-{i}"}]}
            for i in range(count)
        ]
        statements.clear()
        answer = await client.post("/v1/contacts/batch", json={"items": items})
        assert {result["status"] for result in answer.json()["items"]} == {201}
        counts.append(len(statements))
    assert counts[0] == counts[1]


async def test_reads_take_one_query_and_a_new_contact_three(
    live_client: httpx.AsyncClient, statements: list[str]
) -> None:
    made = (await live_client.post("/v1/contacts", json=SARI)).json()
    statements.clear()
    await live_client.get(f"/v1/contacts/{made['id']}")
    await live_client.get("/v1/contacts")
    await live_client.get("/v1/contacts", params={"q": "sari", "tag": "vip"})
    assert len(statements) == 3
    statements.clear()
    await live_client.post("/v1/contacts", json={"name": "B", "identities": [{"kind": "card", "value": "C"}]})
    assert [text for text in statements if text not in {"BEGIN", "COMMIT"}] == statements[1:4]


async def test_of_many_at_once_one_gets_the_identity(live_client: httpx.AsyncClient) -> None:
    identities = [{"kind": "phone", "value": "0812 3456 789"}]
    answers = await asyncio.gather(
        *(live_client.post("/v1/contacts", json={"name": f"{i}", "identities": identities}) for i in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    winner = next(answer.json() for answer in answers if answer.status_code == 201)
    assert {answer.json()["contact_id"] for answer in answers if answer.status_code == 409} == {winner["id"]}
    assert await walk(live_client) == [winner["id"]]


async def test_of_many_with_one_version_one_changes_the_contact(live_client: httpx.AsyncClient) -> None:
    path = f"/v1/contacts/{(await create(live_client))['id']}"
    headers = {"If-Match": '"1"'}
    answers = await asyncio.gather(
        *(live_client.patch(path, json={"name": f"{i}"}, headers=headers) for i in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/contacts"), ("POST", "/v1/contacts/batch"), ("PATCH", "/v1/contacts/{id}"),
        ("DELETE", "/v1/contacts/{id}"), ("POST", "/v1/contacts/{id}/identities"), ("PUT", "/v1/contacts/{id}/tags/a"),
        ("DELETE", "/v1/contacts/{id}/tags/a"), ("DELETE", "/v1/contacts/{id}/identities?kind=card&value=C"),
    ],
)  # fmt: skip
async def test_a_key_that_may_only_read_changes_nothing(client: Any, method: str, path: str) -> None:
    made = await create(client)
    reader = await client.limited_to("contacts:read")
    async with reader:
        refused(await reader.request(method, path.format(id=made["id"]), json={"name": "X"}), 403, "scope_missing")
        assert (await reader.get(f"/v1/contacts/{made['id']}")).json() == made
