"""Inputs that broke or fooled other services, each with the refusal that it gets here."""

import json
import unicodedata
from collections.abc import AsyncIterator
from types import SimpleNamespace
from uuid import UUID

import pytest

from crm.api import paging
from crm.api.routes import BATCH_BODY_MAX, BODY_MAX
from tests.conftest import Client, Session

NOBODY = UUID("01900000-0000-7000-8000-000000000000")
THEN = "2026-11-01T09:30:00Z"
PROBLEM = {"type", "title", "status", "detail", "code", "request_id", "errors"}
JSON = {"content-type": "application/json"}

ORDER = {"order_ref": "A-1", "occurred_at": THEN, "currency": "IDR", "total": "45000.00"}
AWARD = {"points": 50, "reason": "goodwill"}
VISIT = {"channel": "store", "kind": "visit", "occurred_at": THEN}
PROGRAM = {"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"}
RULE = {"name": "A", "kind": "per_amount", "per": "1000"}


@pytest.fixture
async def shop(client: Client) -> SimpleNamespace:
    """A program with a rule, and Sari, who has 100 points, a phone and a card."""
    program = (await client.post("/v1/programs", json=PROGRAM)).json()["id"]
    await client.post(f"/v1/programs/{program}/earning-rules", json=RULE)
    identities = [{"kind": "card", "value": "C-1"}, {"kind": "phone", "value": "+628123456789"}]
    sari = (await client.post("/v1/contacts", json={"name": "Sari", "identities": identities})).json()["id"]
    await client.post(f"/v1/contacts/{sari}/points-awards", json={"points": 100, "reason": "welcome"})
    return SimpleNamespace(client=client, program=program, sari=sari)


async def everything(session: Session) -> dict[str, int]:
    """How many rows each table has."""
    names = await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"]: await session.fetchval(f"SELECT count(*) FROM {row['tablename']}") for row in names}


def refused(answer, status, code, pointer=None):
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= PROBLEM
    assert problem["request_id"] == answer.headers["x-request-id"]
    if pointer is not None:
        assert pointer in {error["pointer"] for error in problem["errors"]}, problem["errors"]


def row(name, method, path, body=None, status=422, code="invalid", pointer=None, **headers):
    """`path` and `body` may name {sari}, {program} and {nobody}; a body in bytes or text is sent as it is."""
    return pytest.param(method, path, body, headers, status, code, pointer, id=name)


def points_of(points):
    return f'{{"reason": "a", "points": {points}}}'


def made(*key):
    """A cursor as ours are made."""
    return paging.encode(*key)


AWARDS = "/v1/contacts/{sari}/points-awards"
PURCHASES = "/v1/contacts/{sari}/purchases"
TIMELINE = "/v1/contacts/{sari}/timeline"
INTERACTIONS = "/v1/contacts/{sari}/interactions"
REDEMPTIONS = "/v1/contacts/{sari}/redemptions"

NUL = [
    row("in a name", "POST", "/v1/contacts", {"name": "a\0b"}, pointer="/name"),
    row("in an identity", "POST", "/v1/contacts", {"name": "a", "identities": [{"kind": "card", "value": "a\0b"}]},
        pointer="/identities/0/value"),
    row("in a tag", "POST", "/v1/contacts", {"name": "a", "tags": ["a\0b"]}, pointer="/tags"),
    row("in an attribute", "POST", "/v1/contacts", {"name": "a", "attributes": {"a": "a\0b"}}, pointer="/attributes/a"),
    row("in an attribute's name", "POST", "/v1/contacts", {"name": "a", "attributes": {"a\0": 1}}),
    row("deep in data", "POST", INTERACTIONS, {**VISIT, "data": {"a": [{"b\0": "c"}]}}, pointer="/data"),
    row("in a text", "POST", INTERACTIONS, {**VISIT, "body": "\0"}, pointer="/body"),
    row("in a code", "POST", AWARDS, {**AWARD, "reason": "a\0"}, pointer="/reason"),
    row("in an order", "POST", PURCHASES, {**ORDER, "order_ref": "A\0"}, pointer="/order_ref"),
    row("in a field's name", "POST", AWARDS, {**AWARD, "a\0": 1}, pointer="/a\0"),
    row("in a search", "GET", "/v1/contacts?q=%00", pointer="query/q"),
    row("in a tag asked for", "GET", "/v1/contacts?tag=a%00b", pointer="query/tag"),
    row("in a cursor", "GET", "/v1/contacts?cursor=%00", pointer="query/cursor"),
    row("in a parameter's name", "GET", "/v1/contacts?q%00=a"),
    row("in an identity to remove", "DELETE", "/v1/contacts/{sari}/identities?kind=card&value=%00",
        pointer="query/value"),
    row("in the path of an order", "GET", PURCHASES + "/%00", status=404, code="not_found"),
    row("in the path of an identity", "GET", "/v1/contacts/by/card/a%00b", status=404, code="not_found"),
    row("in the path of a tag", "PUT", "/v1/contacts/{sari}/tags/%00", status=404, code="not_found"),
    row("in an id", "GET", "/v1/contacts/%00", status=404, code="not_found"),
]  # fmt: skip

NUMBERS = [
    *(row(f"{points} points", "POST", AWARDS, points_of(points), pointer="/points")
      for points in (2**63, 2**64, 2**53, -1, 0, "1.0", "1e2", "-0.0", "true", "null", '"1"', "[1]", "1e400", "1.5")),
    row("points of 4,000 digits", "POST", AWARDS, points_of("9" * 4_000), pointer="/points"),
    row("points of 5,000 digits", "POST", AWARDS, points_of("9" * 5_000), 400, "malformed"),
    row("NaN points", "POST", AWARDS, points_of("NaN"), 400, "malformed"),
    row("infinite points", "POST", AWARDS, points_of("-Infinity"), 400, "malformed"),
    row("2^53 to redeem", "POST", REDEMPTIONS, {"points": 2**53}, pointer="/points"),
    row("2^53 - 1 to redeem", "POST", REDEMPTIONS, {"points": 2**53 - 1}, 409, "insufficient_points"),
    row("a balance over 2^53 - 1", "POST", AWARDS, {**AWARD, "points": 2**53 - 1}, code="points_out_of_range"),
    row("a debt over 2^53 - 1", "POST", "/v1/contacts/{sari}/points-adjustments",
        {"points": -(2**53), "reason": "a", "allow_negative": True}, pointer="/points"),
    *(row(f"an amount of {amount}", "POST", PURCHASES, {**ORDER, "total": amount}, pointer="/total")
      for amount in ("9" * 30, "1" * 16, "0." + "1" * 7, "-1", "-0.01", "1e5", "NaN", "Infinity", "", " 1", "1 ", "+1",
                     "1,5", "1_000", "0x10", ".5", "5.", "٣", 45000, 45000.0, True)),
    row("a factor of 2000", "POST", "/v1/programs/{program}/earning-rules", {**RULE, "factor": "2000"},
        pointer="/factor"),
    row("2^63 as an attribute", "POST", "/v1/contacts", {"name": "a", "attributes": {"a": 2**63}},
        pointer="/attributes/a"),
    row("1e308 in data", "POST", INTERACTIONS, {**VISIT, "data": {"a": 1e308}}, pointer="/data"),
    row("2^63 in data", "POST", INTERACTIONS, {**VISIT, "data": {"a": {"b": [2**63]}}}, pointer="/data"),
    row("1e400 in data", "POST", INTERACTIONS, json.dumps(VISIT)[:-1] + ', "data": {"a": 1e400}}', pointer="/data"),
    row("2^63 as an id", "GET", f"/v1/contacts/{2**63}", status=404, code="not_found"),
    row("2^63 as an ETag", "DELETE", "/v1/contacts/{sari}", status=412, code="stale_version",
        **{"If-Match": f'"{2**63}"'}),
    *(row(f"limit={limit}", "GET", f"/v1/contacts?limit={limit}", pointer="query/limit")
      for limit in ("-1", "0", "201", "99999999999999999999", "1.0", "1e1", "ten", "", "true", "null", "%D9%A3", "+5")),
    row("an offset that nobody reads", "GET", "/v1/contacts?offset=-1", pointer="query/offset"),
]  # fmt: skip

TIMES = [
    *(row(f"at {at}", "POST", PURCHASES, {**ORDER, "occurred_at": at}, pointer="/occurred_at")
      for at in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z",
                 "1899-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-11-01T09:30:00", "2026-11-01",
                 "2026-02-30T00:00:00Z", "2026-11-01T25:00:00Z", "2026-11-01T23:59:60Z", "2026-11-01T09:30:00+24:00",
                 "2026-11-01T09:30:00 Mars", "0.5", "1793525400", "now", "", None, 1793525400, 1793525400.5, True)),
    row("a report of year 1", "POST", INTERACTIONS, {**VISIT, "occurred_at": "0001-01-01T00:00:00+14:00"},
        pointer="/occurred_at"),
    row("points that end in year 9999", "POST", AWARDS, {**AWARD, "expires_at": "9999-12-31T23:59:59-14:00"},
        pointer="/expires_at"),
    *(row(f"from {at}", "GET", TIMELINE + f"?from={at}", pointer="query/from")
      for at in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2026-11-01T09:30:00", "0.5", "1793525400",
                 "x", "", "null")),
    *(row(f"born {on}", "POST", "/v1/contacts", {"name": "a", "birth_on": on}, pointer="/birth_on")
      for on in ("2026-02-30", "0000-01-01", "10000-01-01", "1990-3-1", "19900310", "9999-01-01", 0, "0", "")),
    row("a zone on Mars", "POST", "/v1/programs", {**PROGRAM, "time_zone": "Mars/Olympus"}, pointer="/time_zone"),
    row("a zone that is a path", "POST", "/v1/programs", {**PROGRAM, "time_zone": "../../etc/passwd"},
        pointer="/time_zone"),
]  # fmt: skip

BODIES = [
    *(row(name, "POST", AWARDS, body, status, "malformed" if status == 400 else "invalid")
      for name, body, status in (
          ("nothing", b"", 400),
          ("half of a body", b'{"points": 50', 400),
          ("two bodies", b'{"points": 50, "reason": "a"}{"points": 50, "reason": "a"}', 400),
          ("a trailing comma", b'{"points": 50, "reason": "a",}', 400),
          ("single quotes", b"{'points': 50, 'reason': 'a'}", 400),
          ("a comment", b'{"points": 50, "reason": "a"} // a', 400),
          ("100,000 nested lists", b"[" * 100_000, 400),
          ("100,000 nested lists, closed", b"[" * 100_000 + b"]" * 100_000, 400),
          ("100,000 nested objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
          ("100,000 nested lists in data", b'{"points": 50, "reason": "a", "note": ' + b"[" * 100_000, 400),
          ("invalid UTF-8", b'{"points": 50, "reason": "\xff"}', 400),
          ("an overlong NUL", b'{"points": 50, "reason": "a", "note": "\xc0\x80"}', 400),
          ("a surrogate in UTF-8", b'{"points": 50, "reason": "a", "note": "\xed\xa0\x80"}', 400),
          ("a lone surrogate", b'{"points": 50, "reason": "a", "note": "\\ud800"}', 400),
          ("surrogates in the wrong order", b'{"points": 50, "reason": "a", "note": "\\udc00\\ud800"}', 400),
          ("UTF-16", '{"points": 50, "reason": "a"}'.encode("utf-16"), 400),
          ("a byte order mark", b'\xef\xbb\xbf{"points": 50, "reason": "a"}', 400),
          ("a key twice", b'{"points": 50, "points": 5, "reason": "a"}', 400),
          ("a key twice, written otherwise", b'{"points": 50, "po\\u0069nts": 5, "reason": "a"}', 400),
          ("a list", b"[]", 422),
          ("a list of a body", b'[{"points": 50, "reason": "a"}]', 422),
          ("null", b"null", 422),
          ("a string", b'"{}"', 422),
          ("a number", b"1", 422),
          ("no fields", b"{}", 422),
      )),
    row("an unknown field", "POST", AWARDS, {**AWARD, "id": 9}, pointer="/id"),
    row("an unknown field deep down", "POST", PURCHASES,
        {**ORDER, "payments": [{"tender": "cash", "amount": "1", "id": 9}]}, pointer="/payments/0/id"),
    row("__proto__", "POST", AWARDS, '{"points": 50, "reason": "a", "__proto__": {"qualifying": false}}',
        pointer="/__proto__"),
    row("a field of the answer", "POST", "/v1/contacts", {"name": "a", "version": 7}, pointer="/version"),
    row("true for text", "POST", "/v1/contacts", {"name": True}, pointer="/name"),
    row("1 for true", "POST", AWARDS, {**AWARD, "qualifying": 1}, pointer="/qualifying"),
    row('"true" for true', "POST", AWARDS, {**AWARD, "qualifying": "true"}, pointer="/qualifying"),
    row("an object for a list", "POST", "/v1/contacts", {"name": "a", "tags": {"0": "vip"}}, pointer="/tags"),
    row("a name of spaces", "POST", "/v1/contacts", {"name": "\u2003 \n"}, pointer="/name"),
    row("a name of 201 letters", "POST", "/v1/contacts", {"name": "a" * 201}, pointer="/name"),
    row("1,001 lines", "POST", PURCHASES, {**ORDER, "total": None, "lines": [
        {"sku": "A", "quantity": "1", "unit_price": "1"}] * 1_001}, pointer="/lines"),
    row("an empty batch", "POST", "/v1/points-awards/batch", {"items": []}, pointer="/items"),
    row("501 contacts", "POST", "/v1/contacts/batch", {"items": [{"name": "a"}] * 501}, pointer="/items"),
    *(row(kind or "no type said", "POST", AWARDS, b'{"points": 50, "reason": "a"}', 415, "unsupported_media_type",
          **{"content-type": kind})
      for kind in ("text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data",
                   "application/xml", "application/jsonp", "application/json-patch+json", "nonsense", "*/*")),
    row("a multipart form", "POST", AWARDS, b"--x\r\n\r\n--x--", 415, "unsupported_media_type",
        **{"content-type": "multipart/form-data; boundary=x"}),
]  # fmt: skip

PLACES = [
    *(row(f"{method} {path}", method, path, body, 404, code)
      for method, path, body, code in (
          ("GET", "/v1/contacts/{nobody}", None, "contact_not_found"),
          ("PATCH", "/v1/contacts/{nobody}", {"name": "a"}, "contact_not_found"),
          ("DELETE", "/v1/contacts/{nobody}", None, "contact_not_found"),
          ("PUT", "/v1/contacts/{nobody}/tags/vip", None, "contact_not_found"),
          ("POST", "/v1/contacts/{nobody}/identities", {"kind": "card", "value": "C-2"}, "contact_not_found"),
          ("GET", "/v1/contacts/{nobody}/loyalty", None, "contact_not_found"),
          ("GET", "/v1/contacts/{nobody}/timeline", None, "contact_not_found"),
          ("POST", "/v1/contacts/{nobody}/interactions", VISIT, "contact_not_found"),
          ("POST", "/v1/contacts/{nobody}/points-awards", AWARD, "contact_not_found"),
          ("POST", "/v1/contacts/{nobody}/purchases", ORDER, "contact_not_found"),
          ("POST", "/v1/contacts/{nobody}/redemptions", {"points": 1}, "contact_not_found"),
          ("POST", AWARDS, {**AWARD, "program_id": str(NOBODY)}, "program_not_found"),
          ("GET", "/v1/contacts/{sari}/loyalty?program={nobody}", None, "program_not_found"),
          ("GET", "/v1/contacts/{sari}/redemptions/{nobody}", None, "redemption_not_found"),
          ("POST", "/v1/contacts/{sari}/redemptions/{nobody}/reversal", {}, "redemption_not_found"),
          ("GET", "/v1/contacts/{sari}/points-transactions/{nobody}", None, "points_transaction_not_found"),
          ("GET", "/v1/contacts/{sari}/interactions/{nobody}", None, "interaction_not_found"),
          ("GET", "/v1/contacts/{sari}/purchases/A-2", None, "purchase_not_found"),
          ("GET", "/v1/programs/{nobody}", None, "program_not_found"),
          ("POST", "/v1/programs/{nobody}/tiers", {"name": "a", "threshold": 1}, "program_not_found"),
          ("GET", "/v1/programs/{program}/tiers/{nobody}", None, "tier_not_found"),
          ("GET", "/v1/programs/{program}/earning-rules/{nobody}", None, "earning_rule_not_found"),
          ("GET", "/v1/keys/{nobody}", None, "key_not_found"),
          ("GET", "/v1/contacts/not-an-id", None, "not_found"),
          ("GET", "/v1/contacts/00000000-0000-0000-0000-00000000000g", None, "not_found"),
          ("GET", "/v1/contacts/%2e%2e/keys", None, "not_found"),
          ("GET", "/v1/../v1/nowhere", None, "not_found"),
          ("GET", "/v1/contacts/%ff%fe", None, "not_found"),
          ("GET", "/v1/contacts/by/card/C-9", None, "contact_not_found"),
      )),
    *(row(f"cursor={cursor}", "GET", f"{path}?cursor={cursor}", status=400, code="broken_cursor")
      for path in ("/v1/contacts", TIMELINE, PURCHASES, AWARDS, "/v1/programs/{program}/tiers", "/v1/interactions")
      for cursor in (
          "", "zz", "====", "%ff", made(), made(None), made("a"), made("a", "b"), made(THEN), made(2**63),
          made(-(2**64)), made(2**63, str(NOBODY)), made(1.5), "WzFlNDAwXQ", made("0001-01-01T00:00:00+14:00", "a"),
          made("9999-12-31T23:59:59-14:00", str(NOBODY)), made("2026-11-01T09:30:00", "a"), made(THEN, "a\0"),
      )),
    row("a cursor of another list", "GET", f"{TIMELINE}?cursor={made(str(NOBODY))}", status=400, code="broken_cursor"),
    row("a cursor of 501 letters", "GET", "/v1/contacts?cursor=" + "a" * 501, pointer="query/cursor"),
    *(row(f"program={program}", "GET", f"/v1/contacts/{{sari}}/loyalty?program={program}", pointer="query/program")
      for program in ("null", "None", "", "default", "0", "%7B{nobody}%7D", "{nobody}0")),
    row("two programs", "GET", "/v1/contacts/{sari}/loyalty?program={program}&program={program}",
        pointer="query/program"),
    row("an identity without its value", "DELETE", "/v1/contacts/{sari}/identities?kind=card", pointer="query/value"),
    row("a channel with a space", "GET", TIMELINE + "?channel=in%20store", pointer="query/channel"),
]  # fmt: skip

IDENTITIES = [
    *(row(f"by {kind}/{value}", "GET", f"/v1/contacts/by/{kind}/{value}", None, status, code)
      for kind, value, status, code in (
          ("card", "", 404, "not_found"),
          ("card", "%20", 422, "invalid_identity"),
          ("card", "nobody", 422, "invalid_identity"),
          ("card", "null", 422, "invalid_identity"),
          ("card", "undefined", 422, "invalid_identity"),
          ("card", "0000", 422, "invalid_identity"),
          ("card", "a" * 256, 422, "invalid_identity"),
          ("card", "%F0%9F%92%B3", 404, "contact_not_found"),
          ("card", "..%2F..%2Fkeys", 404, "contact_not_found"),
          ("card", "a%2Fb", 404, "contact_not_found"),
          ("card", "%25", 404, "contact_not_found"),
          ("card", "%27%20OR%201=1%20--", 404, "contact_not_found"),
          ("card", "%ff", 404, "contact_not_found"),
          ("phone", "12", 422, "invalid_identity"),
          ("phone", "%D9%A3", 422, "invalid_identity"),
          ("phone", "+62%208123", 422, "invalid_identity"),
          ("email", "sari", 422, "invalid_identity"),
          ("email", "a@b@c", 422, "invalid_identity"),
          ("email", "%22%22@example.com", 422, "invalid_identity"),
          ("CARD", "C-1", 422, "invalid_identity"),
          ("c%20ard", "C-1", 422, "invalid_identity"),
          ("%F0%9F%92%B3", "C-1", 422, "invalid_identity"),
          ("a" * 64, "C-1", 422, "invalid_identity"),
      )),
    row("an account of 101 letters", "GET", "/v1/contacts/by/line/U1?account=" + "a" * 101, pointer="query/account"),
]  # fmt: skip

HEADERS = [
    row("an Idempotency-Key of 256", "POST", AWARDS, AWARD, pointer="header/Idempotency-Key",
        **{"Idempotency-Key": "k" * 256}),
    row("an empty Idempotency-Key", "POST", AWARDS, AWARD, pointer="header/Idempotency-Key", **{"Idempotency-Key": ""}),
    *(row(f"If-Match: {etag[:20]}", "PATCH", "/v1/contacts/{sari}", {"name": "a"}, code="not_an_etag",
          pointer="header/If-Match", **{"If-Match": etag})
      for etag in ("1", '"a"', '"', '""', '"1', '"-1"', '"1", "2"', "'1'", '"\u00b2"', "W/", '"1.0"')),
    row("an If-Match of 101", "PATCH", "/v1/contacts/{sari}", {"name": "a"}, pointer="header/If-Match",
        **{"If-Match": '"' + "1" * 99 + '"'}),
    *(row(f"Authorization: {value[:20]}", "GET", "/v1/contacts", None, 401, "unauthenticated", Authorization=value)
      for value in ("Bearer ä", "Bearer \xff\xfe", "Bearer", "Bearer \t", "bearer", "Basic c2V0aWE6", "", "Bearer a b",
                    "Bearer " + "a" * 10_000, "Bearer '; DROP TABLE api_keys --", "Bearer setia_" + "a" * 43)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code", "pointer"),
    [*NUL, *NUMBERS, *TIMES, *BODIES, *PLACES, *IDENTITIES, *HEADERS],
)
async def test_it_is_refused_and_changes_nothing(
    shop, session, capsys, method, path, body, headers, status, code, pointer
):
    url = path.replace("{sari}", shop.sari).replace("{program}", shop.program).replace("{nobody}", str(NOBODY))
    before = await everything(session)
    answer = await shop.client.request(
        method,
        url,
        content=body if isinstance(body, bytes | str | None) else json.dumps(body),
        headers=[
            (name, value.encode("latin-1")) for name, value in ((JSON if body is not None else {}) | headers).items()
        ],
    )
    refused(answer, status, code, pointer)
    assert await everything(session) == before
    assert "unchecked_value" not in capsys.readouterr().out, "our checks let it through, the database did not"


@pytest.mark.parametrize(
    "q", ["%", "%%%", "_", "__", "%a%", "\\", "\\%", "[a-z]*", ".*", "'", '"', "a' OR '1'='1", "$1", "\ufdfa"]
)
async def test_wildcards_in_a_search_stand_for_themselves(shop, q):
    found = await shop.client.get("/v1/contacts", params={"q": q})
    assert (found.status_code, found.json()["items"]) == (200, [])
    tagged = await shop.client.get("/v1/contacts", params={"tag": q})
    assert (tagged.status_code, tagged.json()["items"]) == (200, [])

    named = (await shop.client.post("/v1/contacts", json={"name": f"Kopi {q} Co", "tags": [q]})).json()["id"]
    tagged = await shop.client.get("/v1/contacts", params={"tag": q})
    assert [contact["id"] for contact in tagged.json()["items"]] == [named]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("path", "limit"), [(AWARDS, BODY_MAX), ("/v1/points-awards/batch", BATCH_BODY_MAX), ("/v1/contacts", BODY_MAX)]
)
async def test_a_body_that_is_too_large_is_not_read_to_its_end(shop, path, limit, announced):
    sent, size, chunk = 0, 10_000_000, b" " * 50_000

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < size:
            sent += len(chunk)
            yield chunk

    headers = JSON | ({"content-length": str(size)} if announced else {})
    answer = await shop.client.post(path.format(sari=shop.sari), content=body(), headers=headers)
    refused(answer, 413, "body_too_large")
    assert sent <= (0 if announced else limit) + len(chunk)


async def test_a_body_of_the_largest_size_is_read(shop):
    body = json.dumps(AWARD).encode()
    answer = await shop.client.post(
        AWARDS.format(sari=shop.sari), content=body + b" " * (BODY_MAX - len(body)), headers=JSON
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "text",
    [
        "\u200b\u202e\ufeff",
        "\U0001f469\u200d\U0001f680",
        "e\u0301",
        "\x01\x1f",
        "' OR 1=1 --",
        "<script>",
        "${7*7}",
        "a" * 200,
    ],
)
async def test_text_is_kept_whatever_it_looks_like(shop, text):
    made = await shop.client.post("/v1/contacts", json={"name": f"a{text}"[:200], "attributes": {"said": text}})
    assert made.status_code == 201, made.text
    read = await shop.client.get(f"/v1/contacts/{made.json()['id']}")
    assert read.json()["attributes"]["said"] == unicodedata.normalize("NFC", text)


async def test_json_may_have_space_around_it_and_escapes_in_it(shop):
    body = ' \r\n\t{"points" : 5e0 , "reason":"a"}'
    refused(
        await shop.client.post(AWARDS.format(sari=shop.sari), content=body, headers=JSON), 422, "invalid", "/points"
    )
    body = ' \r\n\t{"po\\u0069nts" : 5 , "reason":"\\u0061"} \n'
    answer = await shop.client.post(AWARDS.format(sari=shop.sari), content=body, headers=JSON)
    assert answer.status_code == 201, answer.text
