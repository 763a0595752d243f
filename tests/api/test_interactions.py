"""Interactions and the timeline over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from crm.api.interactions import DATA_BYTES_MAX
from crm.api.routes import BATCH_BODY_MAX
from crm.db.ids import uuid7

MESSAGE = {
    "channel": "whatsapp",
    "kind": "message",
    "direction": "inbound",
    "occurred_at": "2026-11-01T09:30:00Z",
    "subject": None,
    "body": "Is my order ready?",
    "data": {"wa": {"id": 1}},
    "source": "till-3",
    "external_id": "wamid.X",
    "thread_id": None,
    "case_id": None,
}
VISIT = {"channel": "web", "kind": "visit", "occurred_at": "2026-11-01T09:30:00Z"}
PHONE = {"kind": "phone", "value": "0812-3456-789"}


async def _contact(client, **fields) -> str:
    response = await client.post("/v1/contacts", json={"name": "Sari", **fields})
    assert response.status_code == 201, response.text
    return response.json()["id"]


async def _post(client, contact_id, **fields):
    return await client.post(f"/v1/contacts/{contact_id}/interactions", json={**VISIT, **fields})


async def _timeline(client, contact_id, **params):
    response = await client.get(f"/v1/contacts/{contact_id}/timeline", params=params)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def _assert_refused(response, status, code, *pointers):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    assert [error["pointer"] for error in response.json()["errors"]] == list(pointers)


async def test_what_is_posted_is_answered_and_read_again(client):
    contact_id = await _contact(client)
    response = await client.post(f"/v1/contacts/{contact_id}/interactions", json=MESSAGE)
    assert response.status_code == 201
    made = response.json()
    assert made == {
        **MESSAGE, "id": made["id"], "contact_id": contact_id, "recorded_at": made["recorded_at"], "by": "key:test",
        "state": None, "error": None, "edited_at": None, "unsent_at": None, "reactions": [],
    }  # fmt: skip
    assert made["recorded_at"].endswith("Z")
    assert UUID(made["id"]).version == 7

    assert (await client.get(response.headers["location"])).json() == made
    for path in ("timeline", "interactions"):
        page = (await client.get(f"/v1/contacts/{contact_id}/{path}?channel=whatsapp")).json()
        assert page == {"items": [made], "next_cursor": None}
    assert (await client.get("/v1/interactions?limit=1")).json()["items"] == [made]


async def test_only_what_must_be_there_must_be_there(client):
    contact_id = await _contact(client)
    made = (await _post(client, contact_id)).json()
    absent = ("direction", "subject", "body", "source", "external_id", "thread_id", "case_id")
    assert [made[name] for name in absent] == [None] * len(absent)
    assert made["data"] == {}
    assert (await _post(client, contact_id, data=None)).json()["data"] == {}


async def test_a_creation_is_on_the_timeline_too(client):
    assert [item["kind"] for item in await _timeline(client, await _contact(client))] == ["contact.created"]


async def test_times_are_answered_in_utc(client):
    contact_id = await _contact(client)
    made = (await _post(client, contact_id, occurred_at="2026-11-01T16:30:00.123456+07:00")).json()
    assert made["occurred_at"] == "2026-11-01T09:30:00.123456Z"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"channel": ""}, "/channel"),
        ({"channel": "WhatsApp"}, "/channel"),
        ({"channel": "x" * 64}, "/channel"),
        ({"channel": None}, "/channel"),
        ({"kind": "Message"}, "/kind"),
        ({"kind": "a b"}, "/kind"),
        ({"kind": "a\n"}, "/kind"),
        ({"direction": "sideways"}, "/direction"),
        ({"occurred_at": None}, "/occurred_at"),
        ({"occurred_at": "2026-11-01T09:30:00"}, "/occurred_at"),
        ({"occurred_at": "2026-11-01"}, "/occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "/occurred_at"),
        ({"occurred_at": 1}, "/occurred_at"),
        ({"subject": "x" * 1_001}, "/subject"),
        ({"subject": "a\x00"}, "/subject"),
        ({"body": "x" * 20_001}, "/body"),
        ({"body": 1}, "/body"),
        ({"data": []}, "/data"),
        ({"data": {"a": "b\x00"}}, "/data"),
        ({"data": {"a\x00": 1}}, "/data"),
        ({"data": {"a": 2**53}}, "/data"),
        ({"data": {"a": 1e300}}, "/data"),
        ({"data": {"a": "x" * DATA_BYTES_MAX}}, "/data"),
        ({"data": {"a": "\u20ac" * (DATA_BYTES_MAX // 3)}}, "/data"),
        ({"source": ""}, "/source"),
        ({"source": "x" * 101}, "/source"),
        ({"external_id": " "}, "/external_id"),
        ({"external_id": "x" * 501}, "/external_id"),
        ({"external_id": 7}, "/external_id"),
        ({"thread_id": "1"}, "/thread_id"),
        ({"id": str(uuid7())}, "/id"),
        ({"by": "me"}, "/by"),
        ({"identity": PHONE}, "/identity"),
    ],
)
async def test_a_field_that_breaks_a_rule_is_named(client, fields, pointer):
    contact_id = await _contact(client)
    _assert_refused(await _post(client, contact_id, **fields), 422, "invalid", pointer)
    assert len(await _timeline(client, contact_id)) == 1


async def test_the_largest_that_is_allowed_is_kept(client):
    contact_id = await _contact(client)
    fields = {
        "channel": "c" * 63,
        "kind": "k" * 63,
        "subject": "\N{SMILING FACE WITH SUNGLASSES}" * 1_000,
        "body": "\N{SMILING FACE WITH SUNGLASSES}" * 20_000,
        "data": {"a": "x" * (DATA_BYTES_MAX - 8)},
        "source": "\N{SMILING FACE WITH SUNGLASSES}" * 100,
        "external_id": "\N{SMILING FACE WITH SUNGLASSES}" * 500,
    }
    response = await _post(client, contact_id, **fields)
    assert response.status_code == 201, response.text
    kept = (await client.get(response.headers["location"])).json()
    assert kept | fields == kept


@pytest.mark.parametrize("missing", ["channel", "kind", "occurred_at"])
async def test_what_must_be_there_is_missed(client, missing):
    body = {name: value for name, value in VISIT.items() if name != missing}
    response = await client.post(f"/v1/contacts/{await _contact(client)}/interactions", json=body)
    _assert_refused(response, 422, "invalid", f"/{missing}")


@pytest.mark.parametrize("kind", ["points.earned", "contact.created", "tier.changed", "purchase", "purchase.refunded"])
async def test_a_kind_of_our_own_is_refused(client, kind):
    _assert_refused(await _post(client, await _contact(client), kind=kind), 422, "reserved_kind", "/kind")


async def test_what_lies_in_the_future_is_refused(client):
    contact_id = await _contact(client)
    soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (23, 25))
    assert (await _post(client, contact_id, occurred_at=soon.isoformat())).status_code == 201
    refused = await _post(client, contact_id, occurred_at=later.isoformat())
    _assert_refused(refused, 422, "in_the_future", "/occurred_at")


async def test_an_unknown_contact_has_no_timeline(client):
    nobody = uuid7()
    for path in ("timeline", "interactions"):
        _assert_refused(await client.get(f"/v1/contacts/{nobody}/{path}"), 404, "contact_not_found")
    _assert_refused(await _post(client, nobody), 404, "contact_not_found")
    response = await client.get(f"/v1/contacts/{nobody}/interactions/{uuid7()}")
    _assert_refused(response, 404, "interaction_not_found")
    contact_id = await _contact(client)
    _assert_refused(await client.get(f"/v1/contacts/{contact_id}/interactions/{nobody}"), 404, "interaction_not_found")


async def test_a_repeated_external_id_answers_200_with_what_was_recorded(client):
    contact_id = await _contact(client)
    first = await _post(client, contact_id, source="till", external_id="1", body="first")
    again = await _post(client, contact_id, source="till", external_id="1", body="second", kind="call")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert len(await _timeline(client, contact_id, kind="visit")) == 1


async def test_an_external_id_of_another_contact_is_refused(client):
    owner = await _contact(client)
    await _post(client, owner, source="till", external_id="1")
    response = await _post(client, await _contact(client), source="till", external_id="1")
    _assert_refused(response, 409, "external_id_taken")
    assert response.json()["contact_id"] == owner


async def test_an_idempotency_key_gives_the_first_answer_again(client):
    contact_id = await _contact(client)
    url = f"/v1/contacts/{contact_id}/interactions"
    headers = {"Idempotency-Key": "1"}
    first = await client.post(url, json=VISIT, headers=headers)
    again = await client.post(url, json=VISIT, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert len(await _timeline(client, contact_id, kind="visit")) == 1
    _assert_refused(
        await client.post(url, json={**VISIT, "body": "other"}, headers=headers), 422, "idempotency_key_reused"
    )


async def test_an_idempotency_key_of_a_repetition_gives_its_200_again(client):
    contact_id = await _contact(client)
    url = f"/v1/contacts/{contact_id}/interactions"
    await client.post(url, json=MESSAGE)
    for _ in range(2):
        response = await client.post(url, json=MESSAGE, headers={"Idempotency-Key": "1"})
        assert response.status_code == 200
    assert response.headers["idempotency-replayed"] == "true"


async def test_a_report_by_an_identity_finds_its_contact(client):
    contact_id = await _contact(client, identities=[{"kind": "phone", "value": "+62 812-3456-789"}])
    response = await client.post("/v1/interactions", json={**MESSAGE, "identity": PHONE})
    assert response.status_code == 201
    assert response.json()["contact_id"] == contact_id


async def test_a_report_by_an_unknown_identity_makes_its_contact(client):
    first = await client.post("/v1/interactions", json={**MESSAGE, "identity": PHONE})
    again = await client.post("/v1/interactions", json={**MESSAGE, "identity": {**PHONE, "value": "+628123456789"}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    made = (await client.get(f"/v1/contacts/{first.json()['contact_id']}")).json()
    assert [(i["kind"], i["value"]) for i in made["identities"]] == [("phone", "+628123456789")]
    kinds = [item["kind"] for item in await _timeline(client, made["id"])]
    assert kinds == ["contact.created", "message"]


async def test_a_report_by_contact_id_needs_no_identity(client):
    contact_id = await _contact(client)
    response = await client.post("/v1/interactions", json={**MESSAGE, "contact_id": contact_id})
    assert (response.status_code, response.json()["contact_id"]) == (201, contact_id)


@pytest.mark.parametrize("who", [{}, {"contact_id": "019a3c5e-7b1e-7cc0-a3f2-000000000000", "identity": PHONE}])
async def test_a_report_is_of_a_contact_or_of_an_identity(client, who):
    _assert_refused(await client.post("/v1/interactions", json={**VISIT, **who}), 422, "invalid", "")


@pytest.mark.parametrize(
    ("identity", "status", "code", "pointer"),
    [
        ({"kind": "phone", "value": "not a number"}, 422, "invalid_identity", "/identity/value"),
        ({"kind": "customer_id", "value": "null"}, 422, "invalid_identity", "/identity/value"),
        ({"kind": "Phone", "value": "1"}, 422, "invalid", "/identity/kind"),
        ({"kind": "phone"}, 422, "invalid", "/identity/value"),
        ({"kind": "phone", "value": "0812-3456-789", "name": "x"}, 422, "invalid", "/identity/name"),
        (None, 422, "invalid", ""),
    ],
)
async def test_an_identity_that_can_not_be_anybodys_is_refused(client, session, identity, status, code, pointer):
    response = await client.post("/v1/interactions", json={**VISIT, "identity": identity})
    _assert_refused(response, status, code, pointer)
    assert await session.fetchval("SELECT count(*) FROM contacts") == 0


async def test_a_refused_report_by_identity_leaves_nothing(client, session):
    owner = await _contact(client)
    await _post(client, owner, source="till", external_id="1")
    before = await session.fetchval("SELECT count(*) FROM contacts")
    for fields, code in (
        ({"source": "till", "external_id": "1"}, "external_id_taken"),
        ({"kind": "purchase"}, "reserved_kind"),
    ):
        response = await client.post("/v1/interactions", json={**VISIT, **fields, "identity": PHONE})
        assert response.json()["code"] == code
        assert await session.fetchval("SELECT count(*) FROM contacts") == before


async def test_a_batch_answers_each_item_in_order(client):
    contact_id = await _contact(client)
    other = await _contact(client)
    items = [
        {**MESSAGE, "contact_id": contact_id},
        {**VISIT, "identity": PHONE},
        {**VISIT, "contact_id": str(uuid7())},
        {**VISIT, "contact_id": contact_id, "kind": "points.earned"},
        {**VISIT, "contact_id": contact_id, "channel": 7},
        {**MESSAGE, "contact_id": contact_id},
        {**MESSAGE, "contact_id": other},
        "nonsense",
        {**VISIT, "identity": {"kind": "email", "value": "nonsense"}},
        {**VISIT},
        {**VISIT, "contact_id": contact_id, "occurred_at": "2999-01-01T00:00:00Z"},
        {**VISIT, "identity": PHONE},
    ]
    response = await client.post("/v1/interactions/batch", json={"items": items})
    assert response.status_code == 200, response.text
    answers = response.json()["items"]
    assert [
        (answer["status"], answer["problem"] and answer["problem"]["code"]) for answer in answers
    ] == [
        (201, None), (201, None), (404, "contact_not_found"), (422, "reserved_kind"), (422, "invalid"), (200, None),
        (409, "external_id_taken"), (422, "invalid"), (422, "invalid_identity"), (422, "invalid"),
        (422, "invalid"), (201, None),
    ]  # fmt: skip
    assert answers[0]["body"] == answers[5]["body"]
    assert answers[1]["body"]["contact_id"] == answers[11]["body"]["contact_id"]
    assert answers[4]["problem"]["errors"][0]["pointer"] == "/channel"
    assert all((answer["body"] is None) == (answer["problem"] is not None) for answer in answers)
    assert [item["id"] for item in await _timeline(client, contact_id, channel="whatsapp")] == [
        answers[0]["body"]["id"]
    ]


@pytest.mark.parametrize("items", [[], [VISIT] * 501, None, {}])
async def test_a_batch_has_one_to_500_items(client, items):
    _assert_refused(await client.post("/v1/interactions/batch", json={"items": items}), 422, "invalid", "/items")


async def test_a_batch_may_be_five_times_as_large(client):
    contact_id = await _contact(client)
    item = {**VISIT, "contact_id": contact_id, "body": "x" * 9_000}
    response = await client.post("/v1/interactions/batch", json={"items": [item] * 500})
    assert response.status_code == 200
    assert {answer["status"] for answer in response.json()["items"]} == {201}
    large = b" " * (BATCH_BODY_MAX + 1)
    response = await client.post("/v1/interactions/batch", content=large, headers={"content-type": "application/json"})
    _assert_refused(response, 413, "body_too_large")


async def test_a_repeated_batch_answers_as_it_did(client):
    contact_id = await _contact(client)
    body = {"items": [{**VISIT, "contact_id": contact_id}, {**VISIT, "contact_id": str(uuid7())}]}
    first, again = [
        await client.post("/v1/interactions/batch", json=body, headers={"Idempotency-Key": "1"}) for _ in range(2)
    ]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()
    assert len(await _timeline(client, contact_id, kind="visit")) == 1


async def test_from_is_included_and_to_is_not(client):
    contact_id = await _contact(client)
    for hour in (8, 9, 10, 11):
        await _post(client, contact_id, occurred_at=f"2026-11-01T{hour:02}:00:00Z", subject=str(hour))

    async def subjects(**params):
        return [item["subject"] for item in await _timeline(client, contact_id, kind="visit", **params)]

    assert await subjects(**{"from": "2026-11-01T09:00:00Z"}) == ["11", "10", "9"]
    assert await subjects(to="2026-11-01T10:00:00Z") == ["9", "8"]
    assert await subjects(**{"from": "2026-11-01T09:00:00Z", "to": "2026-11-01T10:00:00Z"}) == ["9"]
    assert await subjects(**{"from": "2026-11-01T16:00:00+07:00", "to": "2026-11-01T09:00:00.000001Z"}) == ["9"]
    assert await subjects(**{"from": "2026-11-01T10:00:00Z", "to": "2026-11-01T09:00:00Z"}) == []

    unescaped = f"/v1/contacts/{contact_id}/timeline?kind=visit&from=2026-11-01T18:00:00+07:00"
    assert [item["subject"] for item in (await client.get(unescaped)).json()["items"]] == ["11"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=2026-11-01", "query/from"),
        ("from=2026-11-01T00:00:00", "query/from"),
        ("to=yesterday", "query/to"),
        ("to=", "query/to"),
        ("to=0001-01-01T00:00:00%2B14:00", "query/to"),
        ("to=%F0%9F%98%8E", "query/to"),
        ("channel=What", "query/channel"),
        ("channel=", "query/channel"),
        ("kind=%25", "query/kind"),
        ("channel=web&channel=sms", "query/channel"),
        ("words=order", "query/words"),
        ("since=2026-11-01T00:00:00Z", "query/since"),
        ("until=2026-11-01T00:00:00Z", "query/until"),
        ("limit=0", "query/limit"),
        ("limit=201", "query/limit"),
    ],
)
async def test_a_parameter_that_is_not_valid_is_named(client, query, pointer):
    contact_id = await _contact(client)
    for path in ("timeline", "interactions"):
        _assert_refused(await client.get(f"/v1/contacts/{contact_id}/{path}?{query}"), 422, "invalid", pointer)


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "W10", "WyJ4IiwieCJd",
        "WyIyMDI2LTExLTAxVDAwOjAwOjAwIiwiMDFhMjAwYzgtNWI2YS03N2EzLTk1MTEtOTEwYTRjNDM0NDU5Il0",  # a time without zone
    ],
)  # fmt: skip
async def test_a_cursor_made_elsewhere_is_refused(client, cursor):
    contact_id = await _contact(client)
    for path in (f"/v1/contacts/{contact_id}/timeline", "/v1/interactions"):
        _assert_refused(await client.get(path, params={"cursor": cursor}), 400, "broken_cursor")


async def test_pages_follow_each_other_to_the_end(client):
    contact_id = await _contact(client)
    items = [
        {**VISIT, "contact_id": contact_id, "occurred_at": f"2026-11-01T09:{n // 3:02}:00Z", "subject": str(n)}
        for n in range(23)
    ]
    await client.post("/v1/interactions/batch", json={"items": items})
    for url in (f"/v1/contacts/{contact_id}/timeline", f"/v1/contacts/{contact_id}/interactions", "/v1/interactions"):
        whole = (await client.get(url, params={"limit": 200})).json()
        assert whole["next_cursor"] is None
        assert len(whole["items"]) == 24
        pages, cursor = [], {}
        while cursor is not None:
            page = (await client.get(url, params={"limit": 8, **cursor})).json()
            pages.append(page["items"])
            cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
        assert [len(page) for page in pages] == [8, 8, 8]
        assert [item for page in pages for item in page] == whole["items"]


async def test_a_page_has_50_items_where_nobody_says_how_many(client):
    contact_id = await _contact(client)
    await client.post("/v1/interactions/batch", json={"items": [{**VISIT, "contact_id": contact_id}] * 60})
    assert len(await _timeline(client, contact_id)) == 50


ENDED = {"kind": "visit.ended", "external_id": "visit-1"}


async def test_a_request_is_no_more_statements_than_it_needs(live_client, statements):
    contact_id = await _contact(live_client)
    for request, expected in (
        (live_client.get(f"/v1/contacts/{contact_id}/timeline"), ["SELECT"]),
        # Of a message it is asked whether there are cases that it may belong to, or rules that may make one of it.
        (
            live_client.post(f"/v1/contacts/{contact_id}/interactions", json=MESSAGE),
            ["BEGIN", "SELECT", "WITH", "COMMIT"],
        ),
        (
            live_client.post(f"/v1/contacts/{contact_id}/interactions", json=MESSAGE),
            ["BEGIN", "SELECT", "WITH", "SELECT", "COMMIT"],
        ),
        (
            live_client.post(f"/v1/contacts/{contact_id}/interactions", json=MESSAGE | ENDED),
            ["BEGIN", "WITH", "COMMIT"],
        ),
        # Whether it is the old id of a contact that was merged, or forgotten, is asked only where there is none.
        (live_client.get(f"/v1/contacts/{uuid7()}/timeline"), ["SELECT"] * 3),
    ):
        del statements[:]
        await request
        assert [statement.split()[0] for statement in statements] == expected


async def test_the_same_delivery_many_times_at_once_is_recorded_once(live_client):
    contact_id = await _contact(live_client)
    url = f"/v1/contacts/{contact_id}/interactions"
    responses = await asyncio.gather(*(live_client.post(url, json=MESSAGE) for _ in range(30)))
    assert sorted(response.status_code for response in responses) == [200] * 29 + [201]
    assert len({response.text for response in responses}) == 1
    assert len(await _timeline(live_client, contact_id, kind="message")) == 1


async def test_two_contacts_who_want_one_external_id_at_once_get_it_once(live_client):
    contacts = [await _contact(live_client) for _ in range(2)]
    responses = await asyncio.gather(
        *(
            live_client.post(
                f"/v1/contacts/{contacts[n % 2]}/interactions", json={**MESSAGE, "external_id": f"{n // 8}"}
            )
            for n in range(32)
        )
    )
    for external in range(4):
        answers = responses[external * 8 : external * 8 + 8]
        assert sorted(response.status_code for response in answers) == [200, 200, 200, 201, 409, 409, 409, 409]
        owner = next(response for response in answers if response.status_code == 201).json()["contact_id"]
        assert {response.json()["contact_id"] for response in answers} == {owner}


async def test_a_first_message_delivered_many_times_at_once_makes_one_contact(live_client):
    body = {**MESSAGE, "identity": PHONE}
    responses = await asyncio.gather(*(live_client.post("/v1/interactions", json=body) for _ in range(20)))
    assert sorted(response.status_code for response in responses) == [200] * 19 + [201]
    assert len({response.json()["contact_id"] for response in responses}) == 1
    assert len((await live_client.get("/v1/contacts")).json()["items"]) == 1


async def test_the_same_idempotency_key_many_times_at_once_records_once(live_client):
    contact_id = await _contact(live_client)
    url = f"/v1/contacts/{contact_id}/interactions"
    responses = await asyncio.gather(
        *(live_client.post(url, json=VISIT, headers={"Idempotency-Key": "1"}) for _ in range(20))
    )
    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["id"] for response in responses}) == 1
    assert len(await _timeline(live_client, contact_id, kind="visit")) == 1


async def test_the_scopes_are_those_of_interactions(client):
    contact_id = await _contact(client)
    reader, writer = await client.limited_to("interactions:read"), await client.limited_to("interactions:write")
    assert (await reader.get(f"/v1/contacts/{contact_id}/timeline")).status_code == 200
    assert (await writer.get(f"/v1/contacts/{contact_id}/timeline")).status_code == 403
    assert (await _post(reader, contact_id)).status_code == 403
    assert (await _post(writer, contact_id)).status_code == 201
