"""Members' tokens: who gets one, what it opens, and that nothing else passes for one."""

import asyncio
import base64
import json
import string
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import litestar
import pytest

from crm import app as application
from crm.api import auth, contract, tokens
from crm.api.auth import MEMBER, PUBLIC, SCOPES, Authenticator
from crm.api.tokens import AUDIENCE
from crm.db.ids import uuid7
from crm.db.session import Database, Session
from tests.loyalty.shop import Shop, at_once, statuses

HOUR = timedelta(hours=1)


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member(points=100)


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


def refused(answer: Any) -> None:
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def secret_of(session: Session) -> tuple[str, bytes]:
    """The id and the bytes of the secret in use."""
    row = await session.fetchrow("SELECT id, secret FROM member_token_secrets")
    assert row is not None
    return str(row["id"]), row["secret"]


# ---------------------------------------------------------------- issuing


async def test_a_token_says_whose_it_is_and_until_when(shop, sari, session):
    before = datetime.now(UTC)
    answer = await shop.post(sari, "member-tokens", {})
    assert (answer.status_code, answer.json().keys()) == (201, {"token", "expires_at"})
    token, expires_at = answer.json()["token"], datetime.fromisoformat(answer.json()["expires_at"])
    assert before + HOUR - timedelta(seconds=1) <= expires_at <= datetime.now(UTC) + HOUR
    claims = claims_of(token)
    assert claims.keys() == {"aud", "sub", "jti", "iat", "exp"}
    assert (claims["aud"], claims["sub"]) == (AUDIENCE, str(sari))
    assert datetime.fromtimestamp(claims["exp"], UTC) == expires_at
    kid, _ = await secret_of(session)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": kid}
    assert (await shop.client.holding(token).get("/v1/me")).json()["id"] == str(sari)
    assert await shop.token(sari) != token


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [("PT1S", 1), ("PT15M", 900), ("PT1H", 3600), ("PT1H30M5S", 5405), ("PT24H", 86400), ("P1D", 86400)],
)
async def test_a_token_lasts_as_long_as_is_asked(shop, sari, expires_in, seconds):
    claims = claims_of(await shop.token(sari, expires_in=expires_in))
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize(
    ("expires_in", "code"),
    [
        *((one, "duration_out_of_range") for one in ("PT0S", "P0D", "P1DT1S", "PT25H", "PT999999H", "P999999D")),
        *(
            (one, "duration")
            for one in ("", "P", "PT", "P1DT", "P1W", "P1M", "P1Y", "PT1.5H", "-PT1H", "PT-1H", "pt1h", "1:00:00",
                        "3600", "PT1H\n", "PT1\u0661H", "PT9999999S", 3600, 1.5, True, None, {}, [])
        ),
    ],
)  # fmt: skip
async def test_a_token_lasts_a_day_at_most(shop, sari, expires_in, code):
    document = problem(await shop.post(sari, "member-tokens", {"expires_in": expires_in}), 422, "invalid")
    assert [(error["pointer"], error["code"]) for error in document["errors"]] == [("/expires_in", code)]


async def test_nobody_gets_no_token(shop):
    problem(await shop.post(uuid7(), "member-tokens", {}), 404, "contact_not_found")
    problem(await shop.post(uuid7(), "member-tokens", {"contact_id": str(uuid7())}), 422, "invalid")


async def test_a_repeated_key_gets_the_same_token_although_it_is_kept_nowhere(shop, sari, session):
    first = await shop.post(sari, "member-tokens", {}, key="k")
    again = await shop.post(sari, "member-tokens", {}, key="k")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.json() == first.json()
    problem(await shop.post(sari, "member-tokens", {"expires_in": "PT2H"}, key="k"), 422, "idempotency_key_reused")

    stored = await session.fetchrow("SELECT contact_id, body FROM idempotency_keys")
    assert stored["contact_id"] == sari
    for part in first.json()["token"].split("."):
        assert part.encode() not in stored["body"]
    assert json.loads(stored["body"]).keys() == {"sub", "jti", "iat", "exp"}


async def test_a_repeated_key_gets_a_token_that_opens_although_the_secret_has_changed(shop, sari, session):
    first = (await shop.post(sari, "member-tokens", {}, key="k")).json()
    await tokens.rotate(session, now=datetime.now(UTC))
    again = (await shop.post(sari, "member-tokens", {}, key="k")).json()
    assert again["expires_at"] == first["expires_at"]
    refused(await shop.client.holding(first["token"]).get("/v1/me"))
    assert (await shop.client.holding(again["token"]).get("/v1/me")).status_code == 200


# ---------------------------------------------------------------- what it opens

APP, _ = application.create_app(lambda: None)
ROUTES = sorted(
    (method, route.path, handler.opt["scopes"])
    for route in APP.routes
    for handler in getattr(route, "route_handlers", ())
    for method in handler.http_methods - {"OPTIONS"}
)
EVERY = pytest.mark.parametrize(
    ("method", "path", "scopes"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)


def filled(path: str) -> str:
    """The path with something in each of its places."""
    for place, value in (("uuid}", str(uuid7())), ("path}", "x"), ("str}", "x"), ("int}", "1")):
        while place in path:
            start = path.rindex("{", 0, path.index(place))
            path = path[:start].rstrip("/") + f"/{value}" + path[path.index(place) + len(place) :]
    assert "{" not in path
    return path


def test_the_walk_meets_members_routes_and_others():
    for_members = {path for _, path, scopes in ROUTES if scopes == MEMBER}
    assert for_members == {path for _, path, _ in ROUTES if path == "/v1/me" or path.startswith("/v1/me/")}
    assert for_members >= {
        "/v1/me", "/v1/me/loyalty", "/v1/me/points-transactions", "/v1/me/redemptions", "/v1/me/timeline",
    }  # fmt: skip
    assert len(ROUTES) > 40


@EVERY
async def test_a_members_token_opens_what_is_theirs_and_nothing_else(shop, sari, method, path, scopes):
    member = await shop.signed_in(sari)
    answer = await member.request(method, filled(path))
    if scopes == MEMBER:
        assert answer.status_code not in (401, 403), answer.text
    elif scopes != PUBLIC:
        document = problem(answer, 403, "scope_missing")
        assert document["detail"] == "A member's token opens only what lies under /v1/me."
    else:
        stranger = await shop.client.limited_to()
        assert answer.status_code == (await stranger.request(method, filled(path))).status_code


@EVERY
async def test_no_scope_of_a_key_opens_what_is_a_members(client, method, path, scopes):
    if scopes != MEMBER:
        return
    for granted in ([scope] for scope in sorted(SCOPES)), [sorted(SCOPES)]:
        for each in granted:
            key = await client.limited_to(*each)
            document = problem(await key.request(method, filled(path)), 403, "member_token_needed")
            assert "member-tokens" in document["detail"]
    refused(await (await client.limited_to()).request(method, filled(path)))


async def test_what_a_member_may_can_not_be_granted(client):
    assert not MEMBER & SCOPES
    problem(await client.post("/v1/keys", json={"name": "a", "scopes": [*MEMBER]}), 422, "unknown_scope")


@pytest.mark.parametrize(
    ("path", "scopes"), [("/me/secrets", {"contacts:read"}), ("/me", PUBLIC), ("/mean", MEMBER), ("/contacts", MEMBER)]
)
def test_a_route_that_is_a_members_by_half_does_not_start(monkeypatch, path, scopes):
    @litestar.get(path, scopes=frozenset(scopes))
    async def half() -> None: ...

    monkeypatch.setattr(application, "V1", [half])
    with pytest.raises(RuntimeError, match=f"/v1{path}: "):
        application.create_app(lambda: None)


async def test_a_token_opens_for_its_contact_only(shop, sari):
    budi = await shop.member(points=7)
    for contact_id, points in ((sari, 100), (budi, 7)):
        member = await shop.signed_in(contact_id)
        assert (await member.get("/v1/me")).json()["id"] == str(contact_id)
        assert (await member.get("/v1/me/loyalty")).json()["available"] == points


# ---------------------------------------------------------------- how it ends


async def test_a_token_ends_by_the_clock_although_it_was_just_used(shop, sari):
    answer = (await shop.post(sari, "member-tokens", {"expires_in": "PT2S"})).json()
    member = shop.client.holding(answer["token"])
    assert (await member.get("/v1/me")).status_code == 200
    left = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
    await asyncio.sleep(left.total_seconds() + 0.01)
    refused(await member.get("/v1/me"))


@pytest.mark.parametrize(
    ("issued", "opens"),
    [
        (timedelta(0), True),
        (timedelta(minutes=5), True),  # by a process whose clock is ahead
        (-HOUR + timedelta(seconds=30), True),
        (-HOUR, False),
        (-HOUR - timedelta(seconds=1), False),
        (-timedelta(days=400), False),
    ],
)
async def test_a_token_ends_without_leeway_and_begins_at_once(shop, sari, session, issued, opens):
    token = await tokens.issue(session, contact_id=sari, expires_in=HOUR, once=None, now=datetime.now(UTC) + issued)
    answer = await shop.client.holding(token.token).get("/v1/me")
    if opens:
        assert answer.status_code == 200
    else:
        refused(answer)


async def test_the_token_of_a_deleted_contact_opens_nothing(shop, client):
    contact_id = (await client.post("/v1/contacts", json={"name": "Ayu"})).json()["id"]
    member = await shop.signed_in(contact_id)
    assert (await member.get("/v1/me")).status_code == 200
    assert (await client.delete(f"/v1/contacts/{contact_id}")).status_code == 204
    for _, path, scopes in ROUTES:
        if scopes == MEMBER:
            refused(await member.get(filled(path)))
    problem(await shop.post(UUID(contact_id), "member-tokens", {}), 404, "contact_not_found")


async def test_a_new_secret_ends_every_token_at_once(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member()
    member = await shop.signed_in(sari)
    elsewhere = Authenticator(live_client.database)
    token = member.headers["authorization"].removeprefix("Bearer ")
    assert (await member.get("/v1/me")).status_code == 200
    assert await elsewhere.principal(token) is not None

    async with live_client.database.begin() as session:
        await tokens.rotate(session, now=datetime.now(UTC))
    refused(await member.get("/v1/me"))
    assert await elsewhere.principal(token) is None
    again = await shop.token(sari)
    assert (await live_client.holding(again).get("/v1/me")).status_code == 200
    assert await elsewhere.principal(again) is not None


# ---------------------------------------------------------------- forgeries


def signed(secret: bytes, kid: str | None, *, algorithm: str = "HS256", **claims: Any) -> str:
    """A token as ours, but for what is said otherwise; a claim that is None is left out."""
    now = int(datetime.now(UTC).timestamp())
    said = {"aud": AUDIENCE, "jti": str(uuid7()), "iat": now, "exp": now + 60} | claims
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None},
        secret,
        algorithm=algorithm,
        headers={"kid": kid} if kid else None,
    )


async def test_a_token_made_as_ours_is_ours(shop, sari, session):
    """Else the forgeries below would prove nothing."""
    await shop.token(sari)
    kid, secret = await secret_of(session)
    assert (await shop.client.holding(signed(secret, kid, sub=str(sari))).get("/v1/me")).status_code == 200


@pytest.mark.parametrize(
    "difference",
    [
        *({name: None} for name in ("aud", "sub", "jti", "iat", "exp")),
        *({"aud": audience} for audience in ("", "setia", f"{AUDIENCE}/loyalty", [AUDIENCE], [AUDIENCE, "x"], 1)),
        {"exp": 1},
        {"exp": "tomorrow"},
        {"exp": 0},
        {"nbf": 2**33},
        {"sub": "01a200ec-0000-7000-8000-000000000000"},
    ],
    ids=str,
)
async def test_a_signed_token_with_other_claims_is_refused(shop, sari, session, difference):
    await shop.token(sari)
    kid, secret = await secret_of(session)
    refused(await shop.client.holding(signed(secret, kid, **{"sub": str(sari)} | difference)).get("/v1/me"))


async def test_a_token_of_another_secret_or_algorithm_is_refused(shop, sari, session):
    genuine = await shop.token(sari)
    kid, secret = await secret_of(session)
    header, payload, signature = genuine.split(".")

    def rewritten(**changes: Any) -> str:
        raw = json.dumps(jwt.get_unverified_header(genuine) | changes).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    forged = {
        "another secret": signed(b"x" * 32, kid, sub=str(sari)),
        "no signature": f"{header}.{payload}.",
        "another secret and id": signed(b"x" * 32, str(uuid7()), sub=str(sari)),
        "an id that is no text": f"{rewritten(kid=1)}.{payload}.{signature}",
        "HS384": signed(secret * 2, kid, sub=str(sari), algorithm="HS384"),
        "HS512": signed(secret * 2, kid, sub=str(sari), algorithm="HS512"),
        "the algorithm none": f"{rewritten(alg='none')}.{payload}.",
        "the algorithm None": f"{rewritten(alg='None')}.{payload}.",
        "none, signed": f"{rewritten(alg='none')}.{payload}.{signature}",
        "no algorithm": f"{rewritten(alg=None)}.{payload}.{signature}",
        "an unknown algorithm": f"{rewritten(alg='RS256')}.{payload}.{signature}",
        "a critical extension": f"{rewritten(crit=['b64'], b64=False)}..{signature}",
        "a longer header": f"{rewritten(jku='http://127.0.0.1/keys')}.{payload}.{signature}",
        "another's payload": ".".join((header, (await shop.token(await shop.member())).split(".")[1], signature)),
    }
    for how, token in forged.items():
        answer = await shop.client.holding(token).get("/v1/me")
        assert answer.status_code == 401, how
        refused(answer)
    assert (await shop.client.holding(genuine).get("/v1/me")).status_code == 200


@pytest.mark.parametrize(
    "token",
    [
        ".", "..", "...", "a.b.c", "a.b.c.d", "setia_x.y", "e30.e30.", "e30.e30.e30", "W10.W10.W10", "bnVsbA.bnVsbA.AA",
        "é.é.é", "Ww.Ww.Ww", "eyJhbGciOiJIUzI1NiJ9..", "eyJhbGciOiJIUzI1NiJ9.!.!", "." * 900, "a." * 450,
        base64.urlsafe_b64encode(b"[" * 700).decode() + ".e30.e30", "a" * 5_000 + ".b.c",
        base64.urlsafe_b64encode(b'{"alg":' + b"[" * 600).decode() + ".e30.e30",
        base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"\\u0000"}').decode().rstrip("=") + ".e30.e30",
        base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"\\ud800"}').decode().rstrip("=") + ".e30.e30",
    ],
)  # fmt: skip
async def test_what_is_no_token_is_refused(shop, sari, token):
    await shop.token(sari)
    for path in ("/v1/me", "/v1/keys"):
        answer = await shop.client.get(path, headers=[("Authorization", f"Bearer {token}".encode())])
        refused(answer)


async def test_a_token_with_any_character_changed_is_refused(live_client):
    shop = await Shop.open(live_client)
    token = await shop.token(await shop.member())
    authenticator = Authenticator(live_client.database)
    assert await authenticator.principal(token) is not None
    alphabet = string.ascii_letters + string.digits + "-_"
    for place, letter in enumerate(token):
        other = alphabet[(alphabet.find(letter) + 1) % 64]
        assert await authenticator.principal(token[:place] + other + token[place + 1 :]) is None, place
        assert await authenticator.principal(token[:place] + token[place + 1 :]) is None, place
    for more in (token + "A", token + "=", "A" + token, token + ".e30", token + "\n", token.upper()):
        assert await authenticator.principal(more) is None


# ---------------------------------------------------------------- the secret


async def test_first_tokens_issued_at_once_all_open(live_client):
    shop = await Shop.open(live_client)
    members = [await shop.member() for _ in range(6)]
    answers = await at_once(*(shop.post(one, "member-tokens", {}) for one in members))
    assert statuses(answers) == {201: 6}
    for one, answer in zip(members, answers, strict=True):
        # Each read by a process that has yet to learn the secret.
        principal = await Authenticator(live_client.database).principal(answer.json()["token"])
        assert principal is not None
        assert principal.contact_id == one
    async with live_client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM member_token_secrets") == 1


_WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.mark.parametrize("first_commits", [True, False])
async def test_the_secret_of_a_process_that_made_it_first_is_everybodys_only_if_it_commits(
    database: Database, live_client: Any, first_commits: bool
) -> None:
    shop = await Shop.open(live_client)
    sari = await shop.member()

    async def issued(session: Session) -> str:
        token = await tokens.issue(session, contact_id=sari, expires_in=HOUR, once=None, now=datetime.now(UTC))
        return token.token

    async def second() -> str:
        async with database.begin() as session:
            return await issued(session)

    async with database.reading() as session:
        await session.execute("BEGIN")
        first = await issued(session)
        waiting = asyncio.create_task(second())
        while not await session.fetchval(_WAITING):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await session.execute("COMMIT" if first_commits else "ROLLBACK")
    reader = Authenticator(database)
    assert (await reader.principal(first) is not None) == first_commits
    assert await reader.principal(await waiting) is not None


async def test_the_secret_is_not_in_what_can_be_printed(shop, sari, session):
    token = await shop.token(sari)
    _, secret = await secret_of(session)
    reader = tokens.Reader(shop.client.database)
    assert await reader.holder(token) == sari
    assert reader._secret is not None
    assert reader._secret.value == secret
    assert len(secret) == 32
    assert repr(secret) not in repr(reader._secret)


# ---------------------------------------------------------------- what it costs


async def test_issuing_and_reading_a_token_ask_no_more_than_they_need(live_client, statements):
    shop = await Shop.open(live_client)
    sari = await shop.member()
    token = await shop.token(sari)
    reader = Authenticator(live_client.database)

    statements.clear()
    await shop.token(sari)
    assert [each.partition(" ")[0] for each in statements] == ["BEGIN", "SELECT", "COMMIT"]
    statements.clear()
    assert await reader.principal(token) is not None
    assert len(statements) == 2, "the secret, and whether it and the contact are still there"
    statements.clear()
    assert await reader.principal(token) is not None
    assert len(statements) == 1
    statements.clear()
    header, payload, _ = token.split(".")
    for nonsense in (f"{header}.{payload}.{'A' * 43}", "a.b.c", "x" * 9_000 + "."):
        assert await reader.principal(nonsense) is None
    assert statements == [], "a forgery costs no query"


def test_a_member_is_called_so_in_the_books_and_is_nobody_with_scopes():
    contact_id = uuid7()
    member = auth.Principal(contact_id, "member", MEMBER, contact_id=contact_id)
    owner = auth.Principal(uuid7(), "key:owner", frozenset({"*"}))
    assert member.may(MEMBER)
    assert not owner.may(MEMBER)
    for scope in SCOPES:
        assert owner.may(frozenset({scope}))
        assert not member.may(frozenset({scope}))
        assert not member.may(frozenset({scope}) | MEMBER)
        assert not owner.may(frozenset({scope}) | MEMBER)


def test_the_contract_tells_the_two_ways_to_sign_in_apart():
    document = contract.document(APP)
    assert document["components"]["securitySchemes"].keys() == {"bearer", "member"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            ways = {way for each in operation.get("security", ()) for way in each}
            assert ways == (
                {"member"} if f"{path}/".startswith("/v1/me/") else {"bearer"} if path.startswith("/v1/") else set()
            )
