"""Imports that look for the person behind a row as the API does where one contact is made, and take definitions in."""

from typing import Any

import pytest

from tests.api.test_imports import counts
from tests.exchange.desk import Desk, table

HEADER = ("Nama", "No HP", "E-Mail", "Tanggal lahir", "Grup")
SARI = {
    "name": "Sari Dewi", "birth_on": "1990-03-10", "identities": [{"kind": "phone", "value": "0812-3456-789"}],
}  # fmt: skip
ALIKE = ("Sari Dewi", "", "sari@example.com", "1990-03-10", "vip")
"""Somebody else's address, and else the same person."""
OTHER = ("Budi", "0813 1111 222", "", "1985-01-02", "")


@pytest.fixture
async def desk(live_client: Any) -> Desk:
    return Desk(live_client)


async def known(desk: Desk, **facts: Any) -> dict[str, Any]:
    answer = await desk.client.post("/v1/contacts", json=SARI | facts)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def define(desk: Desk, name: str, **facts: Any) -> None:
    answer = await desk.client.post("/v1/attribute-definitions", json={"name": name, **facts})
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("wish", "outcome", "people"),
    [("reject", (1, 0, 0, 1), 2), ("link", (1, 1, 0, 0), 2), ("create", (2, 0, 0, 0), 3), ("skip", (2, 0, 0, 0), 3)],
)
async def test_who_resembles_a_row_is_looked_for_where_that_is_wanted(desk, wish, outcome, people):
    sari = await known(desk)
    content = table(OTHER, ALIKE, header=HEADER)
    tried = await desk.run((await desk.upload(content))["id"], how="validation", on_duplicate=wish)
    assert await desk.count() == 1
    done = await desk.bring(content, on_duplicate=wish)
    assert counts(tried) == counts(done) == outcome
    assert await desk.count() == people
    contact = (await desk.client.get(f"/v1/contacts/{sari['id']}")).json()
    if wish == "reject":
        [refused] = await desk.errors(done["id"])
        assert refused["errors"][0]["code"] == "possible_duplicate"
        assert sari["id"] in refused["errors"][0]["message"]
    if wish == "link":
        assert (contact["tags"], contact["version"]) == (["vip"], 3)
        assert [one["value"] for one in contact["identities"]] == ["+628123456789", "sari@example.com"]
        newest = (await desk.client.get(f"/v1/contacts/{sari['id']}/timeline")).json()["items"][0]
        assert (newest["kind"], newest["data"]["import_id"]) == ("contact.updated", done["id"])
    pairs = (await desk.client.get("/v1/duplicates")).json()["items"]
    assert len(pairs) == (1 if wish == "create" else 0)


async def test_an_address_that_is_somebody_else_s_is_disputed_where_a_contact_is_made_anyway(desk):
    sari = await known(desk)
    row = ("Dewi", "0812-3456-789", "", "", "")
    assert counts(await desk.bring(table(row, header=HEADER), on_duplicate="reject")) == (0, 0, 0, 1)
    assert counts(await desk.bring(table(row, header=HEADER), on_duplicate="create")) == (1, 0, 0, 0)
    everybody = (await desk.client.get("/v1/contacts")).json()["items"]
    found = [one for one in everybody if one["id"] != sari["id"]]
    assert [one["disputed"] for one in found[0]["identities"]] == [True]
    assert (await desk.contact("phone", "0812-3456-789"))["id"] == sari["id"]


@pytest.mark.parametrize("wish", ["reject", "create"])
async def test_a_proven_address_is_taken_over_from_whoever_has_not_proven_it(desk, wish):
    sari = await known(desk)
    content = table(("Dewi", "0812-3456-789", "yes"), header=("Nama", "No HP", "verified"))
    made = await desk.upload(content)
    columns = {"Nama": "name", "No HP": "identity:phone", "verified": "verified"}
    answer = await desk.client.put(f"/v1/imports/{made['id']}/mapping", json={"columns": columns})
    assert answer.status_code == 200, answer.text
    assert counts(await desk.run(made["id"], on_duplicate=wish)) == (1, 0, 0, 0)
    owner = await desk.contact("phone", "0812-3456-789")
    assert owner["name"] == "Dewi"
    former = (await desk.client.get(f"/v1/contacts/{sari['id']}")).json()
    assert [one["disputed"] for one in former["identities"]] == [True]
    kinds = [item["kind"] for item in (await desk.client.get(f"/v1/contacts/{sari['id']}/timeline")).json()["items"]]
    assert kinds == ["contact.updated", "contact.created"]


async def test_a_known_contact_s_address_can_be_proven_by_a_row(desk):
    await known(desk)
    content = table(("", "0812-3456-789"), header=HEADER[:2])
    made = await desk.upload(content)
    mapping = {"columns": {"Nama": "name", "No HP": "identity:phone"}, "constants": {"verified": "yes"}}
    assert (await desk.client.put(f"/v1/imports/{made['id']}/mapping", json=mapping)).status_code == 200
    assert counts(await desk.run(made["id"], on_duplicate="fill")) == (0, 1, 0, 0)
    assert [one["verified"] for one in (await desk.contact("phone", "0812-3456-789"))["identities"]] == [True]


@pytest.mark.parametrize("wish", ["skip", "fill", "reject", "link", "create"])
async def test_a_blocked_address_refuses_its_row_and_no_other(desk, wish):
    blocked = {"kind": "email", "value": "kasir@toko.id"}
    assert (await desk.client.post("/v1/blocked-identities", json=blocked)).status_code in {200, 201}
    rows = (("Kasir", "", "kasir@toko.id", "", ""), OTHER)
    tried = await desk.run((await desk.upload(table(*rows, header=HEADER)))["id"], how="validation", on_duplicate=wish)
    done = await desk.bring(table(*rows, header=HEADER), on_duplicate=wish)
    assert counts(tried) == counts(done) == (1, 0, 0, 1)
    [refused] = await desk.errors(done["id"])
    assert (refused["errors"][0]["field"], refused["errors"][0]["code"]) == ("identity:email", "invalid_identity")


VALUES = {
    # type, options, cell -> value
    "number": ({"type": "number"}, "12.5", 12.5),
    "whole number": ({"type": "number"}, "-3", -3),
    "yes": ({"type": "boolean"}, "Ya", True),
    "no": ({"type": "boolean"}, "FALSE", False),
    "day": ({"type": "date"}, "31/12/2026", "2026-12-31"),
    "money": ({"type": "money", "currency": "IDR"}, "120000.00", "120000.00"),
    "list": ({"type": "list"}, "kopi; teh", ["kopi", "teh"]),
    "choice": ({"type": "choice", "options": ["S", "M"]}, "M", "M"),
    "text": ({"type": "text"}, "0812", "0812"),
}


@pytest.mark.parametrize(("definition", "cell", "value"), VALUES.values(), ids=VALUES)
async def test_a_cell_is_what_its_attribute_is_defined_as(desk, definition, cell, value):
    await define(desk, "x", **definition)
    header = ("Nama", "No HP", "attributes.x")
    done = await desk.bring(table(("Sari", "0812-3456-789", cell), header=header))
    assert counts(done) == (1, 0, 0, 0)
    assert (await desk.contact("phone", "0812-3456-789"))["attributes"] == {"x": value}


BAD = {
    "number": ({"type": "number"}, "twelve", "number"),
    "boolean": ({"type": "boolean"}, "perhaps", "boolean"),
    "date": ({"type": "date"}, "soon", "date"),
    "money": ({"type": "money", "currency": "IDR"}, "Rp 5", "attribute_value"),
    "choice": ({"type": "choice", "options": ["S", "M"]}, "XL", "attribute_value"),
    "list": ({"type": "list", "options": ["kopi"]}, "kopi; teh", "attribute_value"),
}


@pytest.mark.parametrize(("definition", "cell", "code"), BAD.values(), ids=BAD)
async def test_a_cell_that_does_not_fit_its_definition_is_refused_where_it_stands(desk, definition, cell, code):
    await define(desk, "x", **definition)
    header = ("Nama", "No HP", "attributes.x")
    done = await desk.bring(table(("Sari", "0812-3456-789", cell), header=header))
    assert counts(done) == (0, 0, 0, 1)
    [error] = (await desk.errors(done["id"]))[0]["errors"]
    assert (error["field"], error["column"], error["code"]) == ("attributes.x", "attributes.x", code)
