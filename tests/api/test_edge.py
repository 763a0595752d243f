"""What every route does alike: refusals, keys and scopes, request ids, Idempotency-Keys."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import litestar
import pytest

from crm import app as application
from crm.api.auth import MEMBER, SCOPES
from crm.api.keys import NewKey
from crm.api.routes import BODY_MAX, get
from crm.db.ids import uuid7
from tests.conftest import make_key

JSON = {"content-type": "application/json"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id", "errors"}


def assert_problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() >= PROBLEM
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


async def test_an_answer_carries_the_request_id_of_its_caller_or_a_new_one(client):
    given = await client.get("/v1/keys", headers={"X-Request-Id": "till-3.42"})
    assert given.headers.get_list("x-request-id") == ["till-3.42"]

    for nonsense in ("a b", "x" * 65, "", "ä"):
        made = await client.get("/v1/keys", headers=[("X-Request-Id", nonsense.encode())])
        assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/keys/not-a-uuid", 404, "not_found"),
        ("GET", "/v1/keys/%00", 404, "not_found"),
        ("GET", "/v1/keys/%ff", 404, "not_found"),
        ("GET", "/v1/keys/019a3c5e-7b1e-7cc0-a3f2-000000000000", 404, "key_not_found"),
        ("PUT", "/v1/keys", 405, "method_not_allowed"),
        ("DELETE", "/health/live", 405, "method_not_allowed"),
        ("GET", "/v1/keys?limit=-1", 422, "invalid"),
        ("GET", "/v1/keys?limit=201", 422, "invalid"),
        ("GET", "/v1/keys?limit=ten", 422, "invalid"),
        ("GET", "/v1/keys?limit=99999999999999999999", 422, "invalid"),
        ("GET", "/v1/keys?limit=1&limit=2", 422, "invalid"),
        ("GET", "/v1/keys?nome=a", 422, "invalid"),
        ("GET", "/v1/keys?cursor=%00", 422, "invalid"),
        ("GET", "/v1/keys?cursor=zz", 400, "broken_cursor"),
        ("GET", "/v1/keys?cursor=%ff", 400, "broken_cursor"),
        ("GET", "/v1/keys?cursor=W10", 400, "broken_cursor"),
        ("GET", "/v1/keys?cursor=WyJhIl0", 400, "broken_cursor"),
    ],
)
async def test_a_refusal_is_a_problem_document(client, method, path, status, code):
    assert_problem(await client.request(method, path), status, code)


async def test_a_wrong_parameter_is_named(client):
    problem = (await client.get("/v1/keys?limit=0&limt=5")).json()
    assert [error["pointer"] for error in problem["errors"]] == ["query/limt"]
    problem = (await client.get("/v1/keys?limit=0")).json()
    assert [error["pointer"] for error in problem["errors"]] == ["query/limit"]


async def test_405_says_what_is_allowed(client):
    response = await client.put("/v1/keys")
    assert {"GET", "POST"} <= set(response.headers["allow"].split(", "))


_KEY = '"name": "till", "scopes": ["contacts:read"]'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("", 400, "malformed"),
        ("{", 400, "malformed"),
        ("{} {}", 400, "malformed"),
        ('{"name": "a", "name": "b", "scopes": ["*"]}', 400, "malformed"),
        ('{"name": {"a": 1, "a": 1}, "scopes": ["*"]}', 400, "malformed"),
        ("[" * 100_000, 400, "malformed"),
        ('{"a":' * 100_000, 400, "malformed"),
        ("[" * 150 + "]" * 150, 422, "invalid"),
        (b'{"name": "\xff", "scopes": ["*"]}', 400, "malformed"),
        (b"\xff\xfe{\x00}\x00", 400, "malformed"),
        ('{"name": "\\ud800", "scopes": ["*"]}', 400, "malformed"),
        ('{"name": NaN, "scopes": ["*"]}', 400, "malformed"),
        ('{"name": Infinity, "scopes": ["*"]}', 400, "malformed"),
        ('{"name": ' + "1" * 5_000 + ', "scopes": ["*"]}', 400, "malformed"),
        ('{"name": 1e400, "scopes": ["*"]}', 422, "invalid"),
        ('{"name": "a\\u0000b", "scopes": ["*"]}', 422, "invalid"),
        ('{"name": "  ", "scopes": ["*"]}', 422, "invalid"),
        ('{"name": 1, "scopes": ["*"]}', 422, "invalid"),
        ('{"name": true, "scopes": ["*"]}', 422, "invalid"),
        ('{"name": null, "scopes": ["*"]}', 422, "invalid"),
        ('{"name": "a"}', 422, "invalid"),
        (f'{{{_KEY}, "id": 9}}', 422, "invalid"),
        (f'{{{_KEY}, "expires_at": "2026-11-01T09:30:00"}}', 422, "invalid"),
        (f'{{{_KEY}, "expires_at": 1793525400}}', 422, "invalid"),
        (f'{{{_KEY}, "expires_at": "0001-01-01T00:00:00+14:00"}}', 422, "invalid"),
        (f'{{{_KEY}, "expires_at": "9999-12-31T23:59:59-14:00"}}', 422, "invalid"),
        ('{"name": "a", "scopes": ["contacts:red"]}', 422, "unknown_scope"),
        ("[]", 422, "invalid"),
        ("null", 422, "invalid"),
        ('"text"', 422, "invalid"),
    ],
)
async def test_a_body_that_is_not_what_was_asked_for_is_refused(client, session, body, status, code):
    content = body.encode() if isinstance(body, str) else body
    before = await session.fetchval("SELECT count(*) FROM api_keys")
    assert_problem(await client.post("/v1/keys", content=content, headers=JSON), status, code)
    assert await session.fetchval("SELECT count(*) FROM api_keys") == before


async def test_every_wrong_field_is_named_by_its_pointer(client):
    body = {"scopes": ["*", 4711.5], "a/b~c": "secret"}
    problem = assert_problem(await client.post("/v1/keys", json=body), 422, "invalid")
    assert sorted(error["pointer"] for error in problem["errors"]) == ["/a~1b~0c", "/name", "/scopes/1"]
    assert "4711.5" not in json.dumps(problem), "what a caller sent is not echoed"
    assert "secret" not in json.dumps(problem)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/msgpack"])
async def test_only_json_is_read(client, kind):
    response = await client.post("/v1/keys", content=b"{" + _KEY.encode() + b"}", headers={"content-type": kind})
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_is_read_however_its_type_is_written(client, kind):
    response = await client.post("/v1/keys", content=b"{" + _KEY.encode() + b"}", headers={"content-type": kind})
    assert response.status_code == 201, response.text


async def test_a_body_over_the_limit_is_refused(client):
    for headers in ({}, {"transfer-encoding": "chunked"}):
        response = await client.post("/v1/keys", content=b" " * (BODY_MAX + 1), headers={**JSON, **headers})
        assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic b3duZXI6", "Bearer setia_nobody", "Bearer ä", "setia_x"]
)
async def test_without_a_known_key_nobody_comes_in(client, authorization):
    stranger = await client.limited_to()
    headers = [] if authorization is None else [("Authorization", authorization.encode())]
    response = await stranger.get("/v1/keys", headers=headers)
    assert_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_the_scheme_of_a_key_may_be_written_in_any_case(client):
    key = client.headers["authorization"].removeprefix("Bearer ")
    assert (await client.get("/v1/keys", headers={"Authorization": f"bearer {key}"})).status_code == 200


async def test_an_expired_key_is_refused(client):
    key = await make_key(client.database, "*", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    response = await client.get("/v1/keys", headers={"Authorization": f"Bearer {key.key}"})
    assert_problem(response, 401, "unauthenticated")


async def test_a_key_expires_although_it_was_just_used(client):
    key = await make_key(client.database, "*", expires_at=datetime.now(UTC) + timedelta(seconds=1))
    headers = {"Authorization": f"Bearer {key.key}"}
    assert (await client.get("/v1/keys", headers=headers)).status_code == 200
    await asyncio.sleep(1.05)
    assert_problem(await client.get("/v1/keys", headers=headers), 401, "unauthenticated")


async def test_a_revoked_key_is_refused_at_once(client):
    other = await client.limited_to("*")
    ids = {key["id"] for key in (await other.get("/v1/keys")).json()["items"]}
    own = {key["id"] for key in (await client.get("/v1/keys")).json()["items"]} - {min(ids)}
    assert (await client.delete(f"/v1/keys/{own.pop()}")).status_code == 204
    assert_problem(await other.get("/v1/keys"), 401, "unauthenticated")
    assert (await client.get("/v1/keys")).status_code == 200


def _routes():
    app, _ = application.create_app(lambda: None)
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                if handler.opt.get("scopes") and handler.opt["scopes"] != MEMBER:
                    yield method, route.path, sorted(handler.opt["scopes"])


ROUTES = sorted(_routes())


@pytest.mark.parametrize(("method", "path", "scopes"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES])
async def test_a_key_without_the_scope_of_a_route_is_refused(client, method, path, scopes):
    url = "".join(_filled(part) for part in path.split("/"))
    for lacking in scopes:
        limited = await client.limited_to(*sorted(SCOPES - {"*", lacking}))
        problem = assert_problem(await limited.request(method, url), 403, "scope_missing")
        assert lacking in problem["detail"]
    stranger = await client.limited_to()
    assert_problem(await stranger.request(method, url), 401, "unauthenticated")
    granted = await client.limited_to(*scopes)
    assert (await granted.request(method, url)).status_code not in (401, 403)


def _filled(part):
    if not part.startswith("{"):
        return f"/{part}" if part else ""
    name, _, kind = part.strip("{}").partition(":")
    return {"uuid": f"/{uuid7()}", "int": "/1", "date": "/2026-11-01"}.get(kind, f"/{name}")


def test_every_scope_that_a_route_asks_for_can_be_granted():
    assert {scope for _, _, scopes in ROUTES for scope in scopes} <= SCOPES


async def test_a_key_grants_no_more_than_its_maker_may(client):
    maker = await client.limited_to("keys:manage", "contacts:read")
    assert (await maker.post("/v1/keys", json={"name": "a", "scopes": ["contacts:read"]})).status_code == 201
    response = await maker.post("/v1/keys", json={"name": "a", "scopes": ["contacts:read", "*"]})
    assert_problem(response, 403, "scope_missing")


def test_a_route_without_scopes_does_not_start(monkeypatch):
    @litestar.get("/open")
    async def open_to_all() -> None: ...

    monkeypatch.setattr(application, "V1", [*application.V1, open_to_all])
    with pytest.raises(RuntimeError, match="/v1/open"):
        application.create_app(lambda: None)

    with pytest.raises(TypeError):
        get("/open")


async def test_anybody_may_ask_how_it_is(client):
    stranger = await client.limited_to()
    for path in ("/health/live", "/health/ready", "/metrics", "/schema/openapi.json"):
        response = await stranger.get(path)
        assert response.status_code == 200
        assert response.headers["x-request-id"]


async def test_a_request_is_counted_under_its_template(client):
    await client.get(f"/v1/keys/{uuid7()}")
    await client.get("/v1/nowhere")
    metrics = (await client.get("/metrics")).text
    assert 'http_requests_total{method="GET",path="/v1/keys/{key_id}",status="404"}' in metrics
    assert 'http_requests_total{method="GET",path="unknown",status="404"}' in metrics
    assert "/v1/nowhere" not in metrics


async def test_the_contract_declares_every_refusal(client):
    contract = (await client.get("/schema/openapi.json")).json()
    assert contract["openapi"].startswith("3.1")
    shared = contract["components"].get("responses", {})
    for path, operations in contract["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                declared = shared[response["$ref"].rpartition("/")[2]] if "$ref" in response else response
                if int(status) >= 400:
                    assert list(declared["content"]) == ["application/problem+json"], path
            if operation.get("security"):
                assert {"401", "403"} <= operation["responses"].keys(), path


# Idempotency-Key

BODY = {"name": "till", "scopes": ["contacts:read"]}


async def _keys(client):
    return [key["id"] for key in (await client.get("/v1/keys?limit=200")).json()["items"]]


async def test_a_repeated_key_gets_the_first_answer_and_does_nothing(client):
    headers = {"Idempotency-Key": str(uuid7())}
    first = await client.post("/v1/keys", json=BODY, headers=headers)
    before = await _keys(client)
    again = await client.post("/v1/keys", json=BODY, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {**first.json(), "key": None}, "all but the secret, which is kept nowhere"
    assert await _keys(client) == before


async def test_a_key_used_with_another_body_is_refused(client):
    headers = {"Idempotency-Key": "1"}
    assert (await client.post("/v1/keys", json=BODY, headers=headers)).status_code == 201
    before = await _keys(client)
    response = await client.post("/v1/keys", json={**BODY, "name": "other"}, headers=headers)
    assert_problem(response, 422, "idempotency_key_reused")
    assert await _keys(client) == before


async def test_a_key_belongs_to_its_caller(client):
    other = await client.limited_to("*")
    headers = {"Idempotency-Key": "1"}
    first = await client.post("/v1/keys", json=BODY, headers=headers)
    theirs = await other.post("/v1/keys", json=BODY, headers=headers)
    assert (first.status_code, theirs.status_code) == (201, 201)
    assert first.json()["id"] != theirs.json()["id"]


async def test_a_refusal_leaves_the_key_free(client, session):
    headers = {"Idempotency-Key": "1"}
    refused = await client.post("/v1/keys", json={**BODY, "scopes": ["nonsense"]}, headers=headers)
    assert_problem(refused, 422, "unknown_scope")
    assert await session.fetchval("SELECT count(*) FROM idempotency_keys") == 0
    corrected = await client.post("/v1/keys", json=BODY, headers=headers)
    assert corrected.status_code == 201
    assert "idempotency-replayed" not in corrected.headers


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_a_length(client, key):
    problem = assert_problem(await client.post("/v1/keys", json=BODY, headers={"Idempotency-Key": key}), 422, "invalid")
    assert problem["errors"][0]["pointer"] == "header/Idempotency-Key"


async def test_the_same_request_sent_many_times_at_once_has_one_effect(live_client):
    headers = {"Idempotency-Key": str(uuid7())}
    responses = await asyncio.gather(*(live_client.post("/v1/keys", json=BODY, headers=headers) for _ in range(20)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.json()["id"] for response in responses}) == 1
    assert sum("idempotency-replayed" not in response.headers for response in responses) == 1
    assert len(await _keys(live_client)) == 2, "this one and the owner's"


async def test_the_same_key_sent_at_once_with_other_bodies_carries_out_one(live_client):
    headers = {"Idempotency-Key": str(uuid7())}
    responses = await asyncio.gather(
        *(live_client.post("/v1/keys", json={**BODY, "name": f"till {n}"}, headers=headers) for n in range(10))
    )
    assert sorted(response.status_code for response in responses) == [201] + [422] * 9
    assert len(await _keys(live_client)) == 2


async def test_a_page_goes_on_where_the_one_before_ended(client):
    for n in range(7):
        await client.post("/v1/keys", json={**BODY, "name": f"till {n}"})
    whole = await _keys(client)
    pages, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/v1/keys?limit=3{cursor and '&cursor='}{cursor}")).json()
        pages.append([key["id"] for key in page["items"]])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [key for page in pages for key in page] == whole


def test_a_body_knows_its_fields():
    assert NewKey.model_config["extra"] == "forbid"
    assert NewKey.model_config["strict"]
