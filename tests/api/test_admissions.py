"""People who may be known already, when they are entered again."""

import asyncio
from typing import Any

import httpx
import pytest

SARI = {"name": "Sari Dewi", "birth_on": "1990-03-10"}
PHONE = {"kind": "phone", "value": "0812-3456-789"}
CARD = {"kind": "card", "value": "K1"}


async def post(client: Any, body: dict[str, Any], **more: Any) -> httpx.Response:
    answer: httpx.Response = await client.post("/v1/contacts", json=body | more)
    return answer


async def made(client: Any, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await post(client, body, **more)
    assert answer.status_code == 201, answer.text
    contact: dict[str, Any] = answer.json()
    return contact


def refused(answer: httpx.Response, code: str = "possible_duplicate") -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (409, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem


async def suggested(client: Any) -> list[set[str]]:
    items = (await client.get("/v1/duplicates")).json()["items"]
    return [{item["contact_id"], item["other_contact_id"]} for item in items]


EMAIL = {"kind": "email", "value": "kucing.lucu@gmail.com"}
DEWI = {"name": "Sari Dewi", "identities": [PHONE]}
LUCU = {"name": "Sari Dewi", "identities": [EMAIL]}
RIZKY = {"name": "Muhammad Rizky", "birth_on": "1990-03-10"}


def at(known: dict[str, Any], value: str, **changed: Any) -> dict[str, Any]:
    """Somebody like that with another address."""
    return known | {"identities": [known["identities"][0] | {"value": value}]} | changed


AGAIN = [
    (SARI, SARI),
    (SARI, SARI | {"name": "Ibu Dewi Sary"}),
    (SARI, SARI | {"name": "Sari Dwei"}),
    (RIZKY, RIZKY | {"name": "Moh. Rizki"}),
    (DEWI, at(DEWI, "0812-3456-798")),
    (DEWI, at(DEWI, "0811-3456-789")),
    (DEWI, {"name": "Sari", "identities": [PHONE | {"kind": "whatsapp"}]}),
    (LUCU, at(LUCU, "kucinglucu+x@gmail.com", name="Sari")),
    (LUCU, at(LUCU, "kucinglucu@yahoo.com")),
]
SOMEBODY_ELSE = [
    ({"name": "Sari Dewi"}, {"name": "Sari Dewi"}),
    (SARI, {"name": "Sari Dewi"}),
    (SARI, SARI | {"name": "Budi Santoso"}),
    (SARI, SARI | {"birth_on": "1985-07-20"}),
    (SARI | {"birth_on": "1990-01-01"}, SARI | {"birth_on": "1990-01-01"}),
    (DEWI, at(DEWI, "0812-3456-798", name="Budi Santoso")),
    (DEWI, at(DEWI, "0857-0000-1111")),
    ({"name": "A", "identities": [CARD]}, {"name": "A", "identities": [CARD | {"value": "K2"}]}),
    (at(LUCU, "sari.dewi@gmail.com"), at(LUCU, "saridewi@yahoo.com")),
]


@pytest.mark.parametrize(("first", "second"), AGAIN)
async def test_who_is_likely_known_is_refused_with_who_may_be_meant(
    client: Any, first: dict[str, Any], second: dict[str, Any]
) -> None:
    known = await made(client, first)
    problem = refused(await post(client, second))
    [candidate] = problem["candidates"]
    assert candidate.keys() == {"contact_id", "score", "reasons"}
    assert candidate["contact_id"] == known["id"]
    assert 85 <= candidate["score"] <= 100
    assert all(reason.keys() == {"code", "text"} for reason in candidate["reasons"])
    assert [one["id"] for one in (await client.get("/v1/contacts")).json()["items"]] == [known["id"]]
    refused(await post(client, second, on_duplicate="reject"))


@pytest.mark.parametrize(("first", "second"), SOMEBODY_ELSE)
async def test_who_only_resembles_somebody_is_made(client: Any, first: dict[str, Any], second: dict[str, Any]) -> None:
    await made(client, first)
    await made(client, second)
    assert await suggested(client) == []


async def test_who_may_be_somebody_is_made_and_suggested(client: Any) -> None:
    one = await made(client, {"name": "Sari Dewi", "identities": [{**EMAIL, "value": "sari.dewi88@gmail.com"}]})
    other = await made(client, {"name": "Sari Dewi", "identities": [{**EMAIL, "value": "saridewi88@yahoo.com"}]})
    assert await suggested(client) == [{one["id"], other["id"]}]


async def test_all_who_may_be_meant_are_named_the_likeliest_first(client: Any) -> None:
    swapped = await made(client, SARI, name="Sari Dwei")
    same = await made(client, SARI, on_duplicate="create")
    candidates = refused(await post(client, SARI))["candidates"]
    assert [one["contact_id"] for one in candidates] == [same["id"], swapped["id"]]
    assert candidates[0]["score"] > candidates[1]["score"]


@pytest.mark.parametrize("wanted", ["merge", None, "", 1])
async def test_there_are_three_ways_to_deal_with_a_duplicate(client: Any, wanted: Any) -> None:
    answer = await post(client, SARI, on_duplicate=wanted)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/on_duplicate")


# ---------------------------------------------------------------------- create


async def test_another_is_made_where_that_is_asked_for_and_both_are_suggested(client: Any) -> None:
    one = await made(client, SARI)
    other = await made(client, SARI, on_duplicate="create")
    assert one["id"] != other["id"]
    assert await suggested(client) == [{one["id"], other["id"]}]


async def test_another_may_show_an_address_of_somebody_and_does_not_own_it(client: Any) -> None:
    one = await made(client, {"name": "Sari Dewi", "identities": [PHONE]})
    other = await made(client, {"name": "Sari Dewi", "identities": [PHONE, CARD]}, on_duplicate="create")
    assert [identity["disputed"] for identity in other["identities"]] == [True, False]
    assert (await client.get("/v1/contacts/by/phone/08123456789")).json()["id"] == one["id"]
    [pair] = (await client.get("/v1/duplicates")).json()["items"]
    assert {pair["contact_id"], pair["other_contact_id"]} == {one["id"], other["id"]}
    assert {reason["code"] for reason in pair["reasons"]} == {"disputed_identity", "same_name", "same_number"}
    assert pair["score"] >= 99


async def test_of_who_brings_an_address_of_somebody_the_claims_decide(client: Any) -> None:
    known = await made(client, DEWI)
    refused(await post(client, DEWI), "identity_taken")
    proven = await made(client, at(DEWI, PHONE["value"]) | {"identities": [PHONE | {"verified": True}]})
    assert (await client.get("/v1/contacts/by/phone/08123456789")).json()["id"] == proven["id"]
    assert await suggested(client) == [{known["id"], proven["id"]}]


async def test_a_blocked_address_is_nobody_s(client: Any) -> None:
    known = await made(client, SARI)
    block = {"kind": "email", "value": "kasir@toko.id", "reason": "ours"}
    assert (await client.post("/v1/blocked-identities", json=block)).status_code == 201
    for wanted in ("reject", "link", "create"):
        body = SARI | {"identities": [{"kind": "email", "value": "kasir@toko.id"}], "on_duplicate": wanted}
        answer = await post(client, body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_identity"), wanted
    assert (await client.get(f"/v1/contacts/{known['id']}")).json() == known


# ---------------------------------------------------------------------- link


async def test_a_link_answers_who_is_there_with_the_identities_that_were_free(client: Any) -> None:
    known = await made(client, SARI, identities=[PHONE], tags=["vip"])
    answer = await post(
        client, SARI, name="Sary Dewi", tags=["new"], on_duplicate="link",
        identities=[{**PHONE, "kind": "whatsapp", "verified": True}, CARD],
    )  # fmt: skip
    after = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.headers["location"] == f"/v1/contacts/{known['id']}"
    assert [(one["kind"], one["verified"]) for one in after["identities"]] == [
        ("phone", False), ("whatsapp", False), ("card", False),
    ]  # fmt: skip
    assert after == {**known, "identities": after["identities"], "version": 2, "updated_at": after["updated_at"]}
    assert (await client.get(f"/v1/contacts/{known['id']}")).json() == after
    assert (await client.get("/v1/contacts/by/card/K1")).json()["id"] == known["id"]
    timeline = (await client.get(f"/v1/contacts/{known['id']}/timeline")).json()["items"]
    assert [item["kind"] for item in timeline] == ["contact.updated", "contact.created"]
    assert [one["kind"] for one in timeline[0]["data"]["after"]["identities"]] == ["whatsapp", "card"]


async def test_a_link_goes_by_an_identity_whoever_is_named(client: Any) -> None:
    known = await made(client, {"name": "Budi", "identities": [PHONE]})
    answer = await post(client, {"name": "Sari Dewi", "identities": [PHONE], "on_duplicate": "link"})
    assert (answer.status_code, answer.json()) == (200, known)


async def test_a_link_to_nobody_makes_a_contact(client: Any) -> None:
    await made(client, SARI, name="Budi Santoso")
    linked = await made(client, SARI, on_duplicate="link", identities=[{**CARD, "verified": True}])
    assert linked["identities"][0]["verified"]


async def test_a_link_to_several_is_left_to_whoever_asks(client: Any) -> None:
    one, other = await made(client, SARI), await made(client, SARI, on_duplicate="create")
    candidates = refused(await post(client, SARI, on_duplicate="link"))["candidates"]
    assert {candidate["contact_id"] for candidate in candidates} == {one["id"], other["id"]}
    await made(client, {"name": "A", "identities": [PHONE]})
    await made(client, {"name": "B", "identities": [CARD]})
    refused(await post(client, {"name": "C", "identities": [PHONE, CARD], "on_duplicate": "link"}), "identity_taken")


async def test_a_link_to_who_is_only_likely_the_same_is_refused(client: Any) -> None:
    await made(client, SARI)
    refused(await post(client, SARI, name="Sari Dwei", on_duplicate="link"))


async def test_an_identity_of_a_third_is_left_with_them(client: Any) -> None:
    await made(client, {"name": "Budi", "identities": [CARD]})
    known = await made(client, SARI)
    answer = await post(client, SARI, on_duplicate="link", identities=[PHONE])
    assert answer.json()["id"] == known["id"]
    assert (await client.get("/v1/contacts/by/card/K1")).json()["name"] == "Budi"


async def test_a_link_repeated_is_answered_as_before(client: Any) -> None:
    known = await made(client, SARI)
    body = SARI | {"on_duplicate": "link", "identities": [CARD]}
    headers = {"Idempotency-Key": "link"}
    first = await client.post("/v1/contacts", json=body, headers=headers)
    again = await client.post("/v1/contacts", json=body, headers=headers)
    assert (first.status_code, first.json()["id"]) == (200, known["id"])
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    unkeyed = await client.post("/v1/contacts", json=body)
    assert (unkeyed.status_code, unkeyed.json()) == (200, first.json())


async def test_a_refusal_leaves_nothing(client: Any) -> None:
    await made(client, SARI)
    refused(await client.post("/v1/contacts", json=SARI | {"identities": [CARD]}, headers={"Idempotency-Key": "k"}))
    assert (await client.get("/v1/contacts/by/card/K1")).status_code == 404
    corrected = SARI | {"identities": [CARD], "on_duplicate": "create"}
    assert (await client.post("/v1/contacts", json=corrected, headers={"Idempotency-Key": "k"})).status_code == 201


# ---------------------------------------------------------------------- many


async def test_in_a_batch_each_says_what_to_do_and_who_comes_first_is_there_for_the_others(client: Any) -> None:
    known = await made(client, SARI, identities=[PHONE])
    budi = {"name": "Budi Hartono", "birth_on": "1988-05-05"}
    items = [
        SARI,
        SARI | {"on_duplicate": "link", "identities": [CARD]},
        SARI | {"on_duplicate": "create"},
        budi | {"identities": [{"kind": "card", "value": "B1"}]},
        budi | {"name": "Boedi Hartono"},
        budi | {"on_duplicate": "link", "identities": [{"kind": "card", "value": "B2"}]},
        {"name": "B", "on_duplicate": "link", "identities": [{"kind": "card", "value": "B2"}]},
        {"name": "B", "identities": [{"kind": "card", "value": "B2"}]},
        {"name": "Sari Dewi", "identities": [{"kind": "card", "value": "S1"}]},
    ]
    answer = await client.post("/v1/contacts/batch", json={"items": items})
    results = answer.json()["items"]
    assert [one["status"] for one in results] == [409, 200, 201, 201, 409, 200, 200, 409, 201]
    assert [one["problem"]["code"] for one in results if one["problem"]] == [
        "possible_duplicate", "possible_duplicate", "identity_taken",
    ]  # fmt: skip
    assert [one["value"] for one in results[1]["body"]["identities"]] == ["+628123456789", "K1"]
    assert results[1]["body"]["id"] == known["id"]
    new = results[3]["body"]
    assert results[4]["problem"]["candidates"][0]["contact_id"] == results[7]["problem"]["contact_id"] == new["id"]
    assert [one["value"] for one in new["identities"]] == ["B1", "B2"]
    assert results[5]["body"] == results[6]["body"] == new == (await client.get(f"/v1/contacts/{new['id']}")).json()
    for value in ("B1", "B2"):
        assert (await client.get(f"/v1/contacts/by/card/{value}")).json()["id"] == new["id"]


async def test_a_batch_takes_as_many_round_trips_as_one(client: Any, statements: list[str]) -> None:
    def somebody(month: int, number: int) -> dict[str, Any]:
        email = {"kind": "email", "value": f"somebody{month}{number}@example.com"}
        born = f"19{50 + number}-{month:02}-20"
        return {"name": f"Person {number}", "birth_on": born, "on_duplicate": "link", "identities": [email]}

    counts = []
    for month, count in ((4, 1), (5, 1), (6, 40)):
        statements.clear()
        items = [somebody(month, number) for number in range(count)]
        answer = await client.post("/v1/contacts/batch", json={"items": items})
        assert {one["status"] for one in answer.json()["items"]} == {201}
        counts.append(len(statements))
    assert counts[1] == counts[2] == len(["SAVEPOINT", "find", "claim and find", "erased?", "write", "RELEASE"])


# ---------------------------------------------------------------------- what it costs, and races


ERASED = "SELECT hash FROM erased_addresses"
"""Whether whoever comes is somebody who was erased."""


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ({"name": "Sari Dewi"}, ["WITH w0"]),
        ({"name": "Sari Dewi", "identities": [CARD]}, ["INSERT INTO identity_directory", ERASED, "WITH w0"]),
        ({"name": "Sari Dewi", "identities": [PHONE, EMAIL]}, ["WITH holders", ERASED, "WITH w0"]),
        (SARI, ["WITH holders", "WITH w0"]),
    ],
)
async def test_looking_for_others_takes_no_round_trip_beside_the_claims(
    client: Any, statements: list[str], body: dict[str, Any], written: list[str]
) -> None:
    await made(client, {"name": "warm"})
    statements.clear()
    await made(client, body)
    said = [text for text in statements if not text.startswith(("SAVEPOINT", "RELEASE", "SELECT k."))]
    assert [next((start for start in written if text.startswith(start)), text) for text in said] == written


async def test_two_who_are_linked_at_once_are_one(live_client: Any) -> None:
    body = {"name": "Sari Dewi", "identities": [PHONE], "on_duplicate": "link"}
    answers = await asyncio.gather(*(live_client.post("/v1/contacts", json=body) for _ in range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, 409}
    assert len((await live_client.get("/v1/contacts")).json()["items"]) == 1


async def test_links_and_changes_of_one_contact_do_not_wait_for_each_other_for_ever(live_client: Any) -> None:
    known = await made(live_client, SARI)
    path = f"/v1/contacts/{known['id']}/identities"
    links = [SARI | {"on_duplicate": "link", "identities": [CARD | {"value": f"C{i}"}]} for i in range(10)]
    answers = await asyncio.gather(
        *(live_client.post("/v1/contacts", json=link) for link in links),
        *(live_client.post(path, json={"kind": "pos", "value": f"D{i}"}) for i in range(10)),
    )
    assert {answer.status_code for answer in answers} == {200, 201}
    after = (await live_client.get(f"/v1/contacts/{known['id']}")).json()
    assert (len(after["identities"]), after["version"]) == (20, 21)
