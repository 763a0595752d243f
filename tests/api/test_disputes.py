"""Addresses that change hands, and those that are nobody's, over HTTP: with purchases, merges and what was answered."""

from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.loyalty import audit
from tests.interactions.test_merges import contact, lasting, made, merge, undo
from tests.loyalty.shop import EARNED, ORDER, Shop, at_once, checksum, statuses

PHONE = {"kind": "phone", "value": "0812-3456-789"}
PROVEN = {**PHONE, "verified": True}
HOLDER = {"name": "Sari", "identities": [PHONE]}
CLAIMANT = {"name": "Budi", "identities": [PROVEN]}
BLOCKED = {"kind": "phone", "value": "021-555-0100", "reason": "Our own number"}


def disputed(contact: dict[str, Any]) -> list[tuple[str, bool, bool]]:
    return [(one["kind"], one["verified"], one["disputed"]) for one in contact["identities"]]


async def found(client: Any, value: str = "+628123456789") -> str | None:
    answer = await client.get(f"/v1/contacts/by/phone/{value}")
    return answer.json()["id"] if answer.status_code == 200 else None


async def test_an_answer_says_which_identities_are_disputed(client):
    holder, claimant = await made(client, HOLDER), await made(client, CLAIMANT)
    assert disputed(await contact(client, holder)) == [("phone", False, True)]
    listed = (await client.get(f"/v1/contacts/{holder}/identities")).json()["items"]
    assert [one["disputed"] for one in listed] == [True]
    assert await found(client) == str(claimant)
    etag = (await client.get(f"/v1/contacts/{holder}")).headers["etag"]
    assert etag == '"2"'


async def test_what_arrives_from_an_address_that_went_over_is_its_owners(client):
    shop = await Shop.open(client)
    holder = await made(client, HOLDER)
    order = {**ORDER, "identity": PHONE}
    first = await client.post("/v1/purchases", json={**order, "order_ref": "A"})
    claimant = await made(client, CLAIMANT)
    second = await client.post("/v1/purchases", json={**order, "order_ref": "B"})
    again = await client.post("/v1/purchases", json={**order, "order_ref": "A"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert (again.status_code, again.json()["code"]) == (409, "order_ref_reused")
    assert [await shop.available(one) for one in (holder, claimant)] == [EARNED, EARNED]
    member = await shop.signed_in(holder)
    assert (await member.get("/v1/me")).json()["identities"] == []


async def test_purchases_by_an_address_that_goes_over_at_this_moment_are_each_somebodys(live_client):
    shop = await Shop.open(live_client)
    holder, claimant = await made(live_client, HOLDER), await made(live_client, {"name": "Budi"})
    buying = (
        live_client.post("/v1/purchases", json={**ORDER, "identity": PHONE, "order_ref": f"INV-{number}"})
        for number in range(12)
    )
    answers = await at_once(
        *buying, *(live_client.post(f"/v1/contacts/{claimant}/identities", json=PROVEN) for _ in range(2))
    )
    assert statuses(answers[:12]) == {201: 12}
    assert statuses(answers[12:]) == {201: 1, 200: 1}
    assert await shop.available(holder) + await shop.available(claimant) == 12 * EARNED
    late = await live_client.post("/v1/purchases", json={**ORDER, "identity": PHONE, "order_ref": "LATE"})
    assert late.json()["balance"]["available"] == await shop.available(claimant)
    async with live_client.database.reading() as session:
        assert (await audit.verify(session)).findings == []
        assert await session.fetchval("SELECT count(*) FROM contacts") == 2


# ---------------------------------------------------------------------- merges of the two


async def test_two_who_both_show_an_address_can_be_merged_and_parted(client):
    await Shop.open(client)
    holder, claimant = await made(client, HOLDER), await made(client, CLAIMANT)
    before = [await contact(client, one) for one in (holder, claimant)]
    for survivor, other in ((claimant, holder), (holder, claimant)):
        merged = await merge(client, survivor, other)
        assert disputed(merged["contact"]) == disputed(await contact(client, survivor)) == [("phone", True, False)]
        assert await found(client) == str(survivor)
        assert (await undo(client, merged))["not_undone"] == []
        assert [lasting(await contact(client, one)) for one in (holder, claimant)] == [*map(lasting, before)]
        assert await found(client) == str(claimant)


async def test_an_address_that_was_claimed_after_a_merge_stays_where_it_is(client):
    await Shop.open(client)
    holder, claimant = await made(client, HOLDER), await made(client, CLAIMANT)
    merged = await merge(client, holder, claimant)
    path = f"/v1/contacts/{holder}/identities"
    await client.delete(path, params=PHONE)
    undone = await undo(client, merged)
    assert [one["code"] for one in undone["not_undone"]] == ["identity_gone"]
    assert await found(client) is None

    await client.post(f"/v1/contacts/{claimant}/identities", json=PHONE)
    await client.post(path, json=PROVEN)
    assert disputed(await contact(client, claimant)) == [("phone", False, True)]
    merged = await merge(client, claimant, holder)
    assert (await undo(client, merged))["not_undone"] == []
    assert await found(client) == str(holder)


async def test_an_address_that_the_survivor_proved_since_is_not_parted(client):
    await Shop.open(client)
    holder, claimant = await made(client, HOLDER), await made(client, CLAIMANT)
    await client.delete(f"/v1/contacts/{claimant}/identities", params=PHONE)
    await client.post(f"/v1/contacts/{claimant}/identities", json=PHONE)
    merged = await merge(client, holder, claimant)
    assert disputed(merged["contact"]) == [("phone", False, False)]
    assert (await client.post(f"/v1/contacts/{holder}/identities", json=PROVEN)).status_code == 200
    assert (await undo(client, merged))["not_undone"][0]["code"] == "changed_since"
    assert disputed(await contact(client, holder)) == [("phone", True, False)]
    assert disputed(await contact(client, claimant)) == [("phone", False, True)]
    assert await found(client) == str(holder)


async def test_who_has_many_of_a_kind_after_a_merge_keeps_them_and_gets_no_more(client):
    await Shop.open(client)

    def cards(letter: str) -> list[dict[str, str]]:
        return [{"kind": "card", "value": f"{letter}{number}"} for number in range(6)]

    one = await made(client, {"name": "A", "identities": cards("A")})
    other = await made(client, {"name": "B", "identities": cards("B")})
    await merge(client, one, other)
    assert len((await contact(client, one))["identities"]) == 12
    assert (await client.patch(f"/v1/contacts/{one}", json={"name": "C"})).status_code == 200
    more = await client.post(f"/v1/contacts/{one}/identities", json={"kind": "card", "value": "C"})
    assert (more.status_code, more.json()["errors"][0]["code"]) == (422, "too_many")
    assert (await client.post(f"/v1/contacts/{one}/identities", json=PHONE)).status_code == 201


# ---------------------------------------------------------------------- blocked


async def test_a_blocked_address_is_listed_read_and_let_go(client):
    answer = await client.post("/v1/blocked-identities", json=BLOCKED)
    assert answer.status_code == 201
    blocked = answer.json()
    assert (blocked["value"], blocked["reason"]) == ("+62215550100", "Our own number")
    assert (await client.get(answer.headers["location"])).json() == blocked
    again = await client.post("/v1/blocked-identities", json={**BLOCKED, "value": "+62 21 555 0100", "reason": "x"})
    assert (again.status_code, again.json()) == (200, blocked)
    other = (await client.post("/v1/blocked-identities", json={"kind": "email", "value": "Shop@Example.com"})).json()
    first = (await client.get("/v1/blocked-identities", params={"limit": 1})).json()
    second = (await client.get("/v1/blocked-identities", params={"cursor": first["next_cursor"]})).json()
    assert [*first["items"], *second["items"]] == [other, blocked]
    assert (await client.delete(f"/v1/blocked-identities/{blocked['id']}")).status_code == 204
    for gone in (blocked["id"], uuid7()):
        for method in ("GET", "DELETE"):
            missing = await client.request(method, f"/v1/blocked-identities/{gone}")
            assert (missing.status_code, missing.json()["code"]) == (404, "blocked_identity_not_found")
    await made(client, {"name": "S", "identities": [{"kind": "phone", "value": "021 555 0100"}]})


async def test_blocking_again_with_a_key_answers_as_before(client):
    key = {"Idempotency-Key": "b"}
    first, again = [await client.post("/v1/blocked-identities", json=BLOCKED, headers=key) for _ in range(2)]
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"kind": "phone", "value": "call me"}, "invalid_identity", "/value"),
        ({"kind": "phone", "value": "0"}, "invalid_identity", "/value"),
        ({"kind": "Phone", "value": "1"}, "invalid", "/kind"),
        ({"kind": "phone"}, "invalid", "/value"),
        ({"kind": "phone", "value": "021 555 0100", "account": "x"}, "invalid", "/account"),
    ],
)
async def test_what_is_no_address_can_not_be_blocked(client, body, code, pointer):
    answer = await client.post("/v1/blocked-identities", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_nothing_becomes_a_contact_by_a_blocked_address(client, session):
    shop = await Shop.open(client)
    sari = await made(client, {"name": "Sari"})
    await client.post("/v1/blocked-identities", json=BLOCKED)
    ours = {"kind": "phone", "value": "0215550100"}
    before = await checksum(session)
    message = {"channel": "phone", "kind": "call", "occurred_at": "2026-11-01T09:30:00Z"}
    for path, body, pointer in (
        ("contacts", {"name": "S", "identities": [{"kind": "card", "value": "C"}, ours]}, "/identities/1/value"),
        (f"contacts/{sari}/identities", ours, "/value"),
        (f"contacts/{sari}/identities", {**ours, "verified": True}, "/value"),
        ("interactions", {**message, "identity": ours}, "/identity/value"),
        ("purchases", {**ORDER, "identity": ours}, "/identity/value"),
    ):
        answer = await client.post(f"/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_identity"), path
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await checksum(session) == before
    batch = await client.post(
        "/v1/contacts/batch", json={"items": [{"name": "A", "identities": [ours]}, {"name": "B"}]}
    )
    assert [item["status"] for item in batch.json()["items"]] == [422, 201]
    items = [{**message, "identity": ours}, {**message, "contact_id": str(sari)}]
    batch = await client.post("/v1/interactions/batch", json={"items": items})
    assert [item["status"] for item in batch.json()["items"]] == [422, 201]
    assert (await shop.buy(UUID(str(sari)))).status_code == 201


async def test_only_who_may_write_contacts_blocks(client):
    reader = await client.limited_to("contacts:read")
    assert (await reader.post("/v1/blocked-identities", json=BLOCKED)).status_code == 403
    assert (await reader.get("/v1/blocked-identities")).status_code == 200


async def test_an_address_that_is_claimed_while_it_is_blocked_is_nobodys(live_client):
    for number in range(5):
        value = f"021 555 01{number:02}"
        body = {"name": "S", "identities": [{"kind": "phone", "value": value, "verified": True}]}
        answers = await at_once(
            *(live_client.post("/v1/contacts", json=body) for _ in range(4)),
            live_client.post("/v1/blocked-identities", json={"kind": "phone", "value": value}),
        )
        assert answers[-1].status_code == 201
        assert set(statuses(answers[:-1])) <= {201, 409, 422}
        assert await found(live_client, value) is None
