"""Definitions of attributes over HTTP: what they check, what conditions learn from them, and how they change."""

from typing import Any

import pytest

from crm.contacts import definitions
from tests.interactions.test_merges import made
from tests.loyalty.shop import EARNED, RULE, Shop, checksum

STORE = {
    "name": "favourite_store",
    "type": "choice",
    "options": ["Bandung", "Jakarta"],
    "labels": {"id": "Toko favorit"},
}
BIG_DAY = {"name": "wedding_on", "type": "date"}
SPENT = {"name": "spent", "type": "money", "currency": "IDR"}


async def define(client: Any, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/attribute-definitions", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def contact_with(client: Any, **attributes: Any) -> Any:
    return await client.post("/v1/contacts", json={"name": "S", "attributes": attributes})


async def test_a_definition_is_read_as_it_was_made(client):
    store = await define(client, STORE)
    assert {name: store[name] for name in STORE} == STORE
    assert (store["description"], store["currency"]) == (None, None)
    assert (await client.get("/v1/attribute-definitions/favourite_store")).json() == store
    others = [
        await define(client, body)
        for body in (SPENT, {"name": "a.b-c_1", "type": "text"}, {"name": "Größe", "type": "number"})
    ]
    everything = sorted([store, *others], key=lambda one: one["name"].encode())
    found, cursor = [], None
    for _ in range(4):
        page = (
            await client.get("/v1/attribute-definitions", params={"limit": 1, **({"cursor": cursor} if cursor else {})})
        ).json()
        found += page["items"]
        cursor = page["next_cursor"]
    assert (found, cursor) == (everything, None)
    assert (await client.get("/v1/attribute-definitions/Größe")).json()["type"] == "number"


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"name": "1x"}, "/name"), ({"name": "a b"}, "/name"), ({"name": "x" * 64}, "/name"), ({"name": ""}, "/name"),
        ({"type": "json"}, "/type"), ({"options": None}, "/options"), ({"options": []}, "/options"),
        ({"options": ["a", "a"]}, "/options"), ({"options": ["a", " a "]}, "/options"),
        ({"options": [1]}, "/options/0"),
        ({"type": "text"}, "/options"), ({"type": "list", "options": [""]}, "/options/0"),
        ({"currency": "IDR"}, "/currency"), ({"type": "money", "options": None}, "/currency"),
        ({"type": "money", "options": None, "currency": "Rp"}, "/currency"),
        ({"labels": {"Indonesian": "x"}}, "/labels"), ({"labels": {"id": ""}}, "/labels/id"),
        ({"required": True}, "/required"),
    ],
)  # fmt: skip
async def test_what_is_no_definition_is_refused(client, session, changed, pointer):
    await client.get("/v1/contacts")
    before = await checksum(session)
    answer = await client.post("/v1/attribute-definitions", json=STORE | changed)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await checksum(session) == before


async def test_an_attribute_is_defined_once(client):
    key = {"Idempotency-Key": "d"}
    first, again = [await client.post("/v1/attribute-definitions", json=STORE, headers=key) for _ in range(2)]
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = await client.post("/v1/attribute-definitions", json=STORE)
    assert (other.status_code, other.json()["code"]) == (409, "attribute_defined")


async def test_there_are_only_so_many_definitions(client, monkeypatch):
    monkeypatch.setattr(definitions, "COUNT_MAX", 2)
    for name in ("a", "b"):
        await define(client, {"name": name, "type": "text"})
    answer = await client.post("/v1/attribute-definitions", json={"name": "c", "type": "text"})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_definitions")


async def test_it_takes_the_scopes_of_contacts(client):
    reader = await client.limited_to("contacts:read")
    assert (await reader.post("/v1/attribute-definitions", json=STORE)).status_code == 403
    assert (await reader.get("/v1/attribute-definitions")).status_code == 200
    for method in ("GET", "PATCH", "DELETE"):
        answer = await client.request(
            method, "/v1/attribute-definitions/x", **({"json": {}} if method == "PATCH" else {})
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "attribute_definition_not_found")


# ---------------------------------------------------------------------- contacts


@pytest.mark.parametrize(
    ("definition", "good", "bad"),
    [
        (STORE, ["Bandung", None], ["Paris", "", 7, True, ["Bandung"]]),
        (BIG_DAY, ["2020-02-29", None], ["2021-02-29", "29.2.2020", 20200229, "2020-02-29T00:00:00Z"]),
        (SPENT, ["120000.00", "-1", "0"], [120000, "120,000", "1e3", "IDR 5"]),
        ({"name": "n", "type": "number"}, [0, -1.5, 10], ["10", True, ["1"]]),
        ({"name": "b", "type": "boolean"}, [True, False], ["true", 1, 0]),
        ({"name": "t", "type": "text"}, ["", "x"], [1, True, ["x"]]),
    ],
)
async def test_a_defined_attribute_has_its_type_wherever_contacts_are_written(client, definition, good, bad):
    await define(client, definition)
    name, pointer = definition["name"], f"/attributes/{definition['name']}"
    kept = (await contact_with(client)).json()["id"]
    for value in good:
        assert (await contact_with(client, **{name: value})).status_code == 201
        patch = await client.patch(f"/v1/contacts/{kept}", json={"attributes": {name: value}})
        assert patch.status_code == 200
    before = (await client.get(f"/v1/contacts/{kept}")).json()
    for value in bad:
        body = {"name": "S", "attributes": {"free": 1, name: value}}
        items = [{"name": "A"}, body, {"name": "B", "attributes": {"free": ["x"]}}]
        batch = (await client.post("/v1/contacts/batch", json={"items": items})).json()["items"]
        assert [item["status"] for item in batch] == [201, 422, 201]
        for problem in (
            (await client.post("/v1/contacts", json=body)).json(),
            (await client.patch(f"/v1/contacts/{kept}", json={"attributes": {name: value}})).json(),
            batch[1]["problem"],
        ):
            assert (problem["status"], [error["pointer"] for error in problem["errors"]]) == (422, [pointer])
    assert (await client.get(f"/v1/contacts/{kept}")).json() == before


async def test_every_item_of_a_list_and_every_attribute_is_named(client):
    await define(client, {"name": "sizes", "type": "list", "options": ["S", "M"]})
    await define(client, BIG_DAY)
    answer = await contact_with(client, sizes=["S", "XL", "M", "XS"], wedding_on="soon")
    pointers = ["/attributes/sizes/1", "/attributes/sizes/3", "/attributes/wedding_on"]
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers
    assert (await contact_with(client, sizes=["M", "S"])).status_code == 201


async def test_what_a_contact_has_from_before_keeps_nobody_from_changing_it(client, session):
    sari = (await contact_with(client, wedding_on="2020-01-01", other=1)).json()["id"]
    await define(client, BIG_DAY)
    # As a write leaves it that began before the definition was there.
    await session.execute("""UPDATE contacts SET attributes = attributes || '{"wedding_on": "one day"}'""")
    changed = await client.patch(f"/v1/contacts/{sari}", json={"attributes": {"other": 2}})
    assert (changed.status_code, changed.json()["attributes"]["wedding_on"]) == (200, "one day")


async def test_definitions_are_read_only_where_attributes_are_written(client, statements):
    sari = (await contact_with(client)).json()["id"]

    def asked() -> int:
        count = sum("attribute_definitions" in statement for statement in statements)
        statements.clear()
        return count

    asked()
    await contact_with(client)
    await client.patch(f"/v1/contacts/{sari}", json={"name": "S2"})
    await client.post("/v1/contacts/batch", json={"items": [{"name": "A"}, {"name": "B"}]})
    assert asked() == 0
    await contact_with(client, a=1, b=2)
    assert asked() == 1
    await client.patch(f"/v1/contacts/{sari}", json={"attributes": {"a": 1}})
    assert asked() == 1
    items = [{"name": "A", "attributes": {f"a{number}": number}} for number in range(20)]
    await client.post("/v1/contacts/batch", json={"items": items})
    assert asked() == 1


# ---------------------------------------------------------------------- changes


@pytest.mark.parametrize(
    ("before", "values", "patch", "status"),
    [
        ({"type": "text"}, ["2020-01-01"], {"type": "date"}, 200),
        ({"type": "text"}, ["2020-01-01", "soon"], {"type": "date"}, 409),
        ({"type": "text"}, ["5.00"], {"type": "money", "currency": "IDR"}, 200),
        ({"type": "text"}, ["5.00"], {"type": "number"}, 409),
        ({"type": "text"}, ["S", "M"], {"type": "choice", "options": ["S", "M", "L"]}, 200),
        ({"type": "text"}, ["S", "XL"], {"type": "choice", "options": ["S", "M", "L"]}, 409),
        ({"type": "choice", "options": ["S", "M"]}, ["S"], {"options": ["S"]}, 200),
        ({"type": "choice", "options": ["S", "M"]}, ["M"], {"options": ["S"]}, 409),
        ({"type": "choice", "options": ["S", "M"]}, ["M"], {"type": "text", "options": None}, 200),
        ({"type": "list"}, [["S"]], {"options": ["S"]}, 200),
        ({"type": "list"}, [["S", "XL"]], {"options": ["S"]}, 409),
        ({"type": "list", "options": ["S"]}, [["S"]], {"options": None}, 200),
        ({"type": "money", "currency": "IDR"}, ["5.00"], {"currency": "SGD"}, 409),
        ({"type": "money", "currency": "IDR"}, [], {"currency": "SGD"}, 200),
        ({"type": "number"}, [], {"type": "list"}, 200),
        ({"type": "number"}, [1], {"type": "text"}, 409),
        ({"type": "number"}, [1], {"description": "x", "labels": {"id": "Angka"}}, 200),
    ],
)
async def test_a_type_changes_only_where_all_values_fit(client, session, before, values, patch, status):
    await define(client, {"name": "x", **before})
    people = [(await contact_with(client, x=value)).json()["id"] for value in values]
    state = await checksum(session)
    answer = await client.patch("/v1/attribute-definitions/x", json=patch)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert {name: answer.json()[name] for name in patch} == patch
        assert (await client.get("/v1/attribute-definitions/x")).json() == answer.json()
    else:
        assert answer.json()["code"] == "values_do_not_fit"
        assert set(answer.json()["contact_ids"]) <= set(people)
        assert await checksum(session) == state


async def test_what_contacts_have_already_must_fit_a_new_definition(client):
    wrong = (await contact_with(client, wedding_on="soon")).json()["id"]
    await contact_with(client, wedding_on="2020-01-01")
    answer = await client.post("/v1/attribute-definitions", json=BIG_DAY)
    assert (answer.status_code, answer.json()["contact_ids"]) == (409, [wrong])
    await client.patch(f"/v1/contacts/{wrong}", json={"attributes": {"wedding_on": None}})
    await define(client, BIG_DAY)


async def test_labels_are_merged_and_the_type_stays(client):
    await define(client, STORE)
    patched = await client.patch(
        "/v1/attribute-definitions/favourite_store", json={"labels": {"en": "Favourite store", "id": None}}
    )
    assert patched.json()["labels"] == {"en": "Favourite store"}
    for body, pointer in (({"type": None}, "/type"), ({"name": "x"}, "/name"), ({"type": "text"}, "/options")):
        answer = await client.patch("/v1/attribute-definitions/favourite_store", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    cleared = await client.patch("/v1/attribute-definitions/favourite_store", json={"labels": None})
    assert (cleared.json()["labels"], cleared.json()["type"]) == ({}, "choice")


async def test_without_its_definition_an_attribute_is_free_again(client):
    await define(client, STORE)
    sari = (await contact_with(client, favourite_store="Bandung")).json()["id"]
    assert (await client.delete("/v1/attribute-definitions/favourite_store")).status_code == 204
    assert (await client.get(f"/v1/contacts/{sari}")).json()["attributes"] == {"favourite_store": "Bandung"}
    assert (await contact_with(client, favourite_store=7)).status_code == 201
    assert (await client.delete("/v1/attribute-definitions/favourite_store")).status_code == 404


# ---------------------------------------------------------------------- conditions


async def bonus(client: Any, shop: Shop, condition: Any) -> Any:
    rule = {**RULE, "name": "bonus", "condition": condition}
    return await client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)


def about(name: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"field": f"attributes.{name}", "op": op} | ({} if value is None else {"value": value})


@pytest.mark.parametrize(
    ("definition", "condition", "yes", "no"),
    [
        (BIG_DAY, about("wedding_on", "anniversary", "month"), "2020-11-07", "2020-10-07"),
        (BIG_DAY, about("wedding_on", "lt", "2020-01-01"), "2019-12-31", "2020-01-01"),
        (BIG_DAY, about("wedding_on", "gte", {"ago": "P10Y"}), "2020-01-01", "2010-01-01"),
        (SPENT, about("spent", "gt", 1000), "1000.01", "999.99"),
        (SPENT, about("spent", "gte", "1000.00"), "1000", "999.999999"),
        (SPENT, about("spent", "eq", "10.5"), "10.50", "10.51"),
        (SPENT, about("spent", "in", ["1", 2]), "2.00", "3"),
        ({"name": "n", "type": "number"}, about("n", "gte", 2.5), 2.5, 2.4),
        (STORE, about("favourite_store", "in", ["Bandung"]), "Bandung", "Jakarta"),
        ({"name": "b", "type": "boolean"}, about("b", "eq", True), True, False),
        ({"name": "l", "type": "list"}, about("l", "contains", "S"), ["M", "S"], ["M"]),
        ({"name": "l", "type": "list"}, about("l", "exists"), ["M"], []),
        ({"name": "a.b", "type": "text"}, about("a.b", "starts_with", "x"), "xy", "yx"),
    ],
)
async def test_a_condition_has_the_operators_of_the_type(client, definition, condition, yes, no):
    shop = await Shop.open(client)
    await define(client, definition)
    made_rule = await bonus(client, shop, {"all": [condition]})
    assert made_rule.status_code == 201, made_rule.text
    assert made_rule.json()["condition"] == {"all": [{**condition, "type": definition["type"]}]}
    for number, (value, points) in enumerate(((yes, 2 * EARNED), (no, EARNED), (None, EARNED))):
        contact_id = (await contact_with(client, **{definition["name"]: value})).json()["id"]
        assert (await shop.buy(contact_id, order_ref=f"{number}")).json()["points"] == points, value


@pytest.mark.parametrize(
    ("definition", "condition", "pointer"),
    [
        (BIG_DAY, about("wedding_on", "contains", "2020"), "/condition/op"),
        (BIG_DAY, about("wedding_on", "eq", "soon"), "/condition/value"),
        (SPENT, about("spent", "gt", "much"), "/condition/value"),
        (SPENT, about("spent", "in", ["1", "x"]), "/condition/value/1"),
        ({"name": "n", "type": "number"}, about("n", "gt", "5"), "/condition/value"),
        (STORE, about("favourite_store", "gt", 5), "/condition/op"),
        ({"name": "b", "type": "boolean"}, about("b", "eq", "true"), "/condition/value"),
        (None, about("wedding_on", "anniversary", "day"), "/condition/op"),
        (None, {"field": "tags", "op": "contains", "value": "x", "type": "list"}, "/condition/type"),
    ],
)
async def test_a_condition_that_the_type_does_not_allow_is_refused(client, definition, condition, pointer):
    shop = await Shop.open(client)
    if definition is not None:
        await define(client, definition)
    answer = await bonus(client, shop, condition)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_condition")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_condition_that_is_kept_means_the_same_whatever_becomes_of_the_definition(client):
    shop = await Shop.open(client)
    await define(client, BIG_DAY)
    rule = (await bonus(client, shop, about("wedding_on", "anniversary", "month"))).json()
    path = f"/v1/programs/{shop.program_id}/earning-rules/{rule['id']}"
    sari = await made(client, {"name": "Sari", "attributes": {"wedding_on": "2020-11-07"}})
    await client.patch("/v1/attribute-definitions/wedding_on", json={"type": "text"})
    assert (await shop.buy(sari, order_ref="1")).json()["points"] == 2 * EARNED
    # What the rule asks stays, also where the rest of it changes and where it is sent back as it was read.
    for patch in ({"points": 2}, {"condition": rule["condition"]}):
        changed = await client.patch(path, json=patch)
        assert (changed.status_code, changed.json()["condition"]) == (200, rule["condition"])
    await client.delete("/v1/attribute-definitions/wedding_on")
    assert (await shop.buy(sari, order_ref="2")).json()["points"] == 3 * EARNED
    anew = await client.patch(path, json={"condition": about("wedding_on", "starts_with", "2020")})
    assert anew.json()["condition"] == about("wedding_on", "starts_with", "2020")


async def test_one_attribute_can_be_asked_about_as_it_was_and_as_it_is(client):
    shop = await Shop.open(client)
    assert (await bonus(client, shop, about("wedding_on", "starts_with", "2020"))).status_code == 201
    await define(client, BIG_DAY)
    assert (await bonus(client, shop, about("wedding_on", "anniversary", "month"))).status_code == 201
    sari = await made(client, {"name": "Sari", "attributes": {"wedding_on": "2020-11-07"}})
    assert (await shop.buy(sari)).json()["points"] == 3 * EARNED


async def test_rewards_and_offers_and_backtests_know_the_types_too(client):
    shop = await Shop.open(client)
    await define(client, BIG_DAY)
    asked = about("wedding_on", "anniversary", "month")
    kept = {**asked, "type": "date"}
    program = f"/v1/programs/{shop.program_id}"
    reward = await client.post(f"{program}/rewards", json={"name": "Cake", "cost": 1, "condition": asked})
    assert (reward.status_code, reward.json()["condition"]) == (201, kept)
    offer = {"name": "Cake", "audience": {"condition": asked}, "benefit": {"kind": "bonus_points", "points": 5}}
    made_offer = await client.post(f"{program}/offers", json=offer)
    assert (made_offer.status_code, made_offer.json()["audience"]["condition"]) == (201, kept)
    patched = await client.patch(f"{program}/rewards/{reward.json()['id']}", json={"cost": 2})
    assert patched.json()["condition"] == kept
    patched = await client.patch(f"{program}/offers/{made_offer.json()['id']}", json={"name": "A cake"})
    assert patched.json()["audience"]["condition"] == kept
    backtest = {"from": "2026-10-01", "to": "2026-10-31", "rules": [{**RULE, "condition": asked}]}
    assert (await client.post(f"{program}/backtests", json=backtest)).status_code == 202
