"""The endpoint: only what is signed comes in, and all of it is there once."""

import asyncio
import statistics
import time

import pytest

from crm.db.vault import Vault
from crm.inbox import providers, reception
from crm.inbox.reception import REFUSED_NOTED_MAX, Reception
from tests.inbox import toychat
from tests.inbox.desk import SECRET, Desk
from tests.inbox.toychat import message, said

BODY = said(message("m1", "Halo"))


async def rows(desk, status=None):
    found = await desk.client.get("/v1/deliveries", params={"status": status} if status else {})
    assert found.status_code == 200, found.text
    return found.json()["items"]


async def test_a_signed_delivery_is_kept_byte_for_byte_and_answered_without_content(desk, session):
    answer = await desk.send(BODY, key="d1")
    assert (answer.status_code, answer.content) == (200, b"")
    [kept] = await rows(desk)
    assert (kept["status"], kept["verdict"], kept["key"], kept["body_length"]) == (
        "pending", "verified", "d1", len(BODY)
    )  # fmt: skip
    assert await session.fetchval("SELECT body FROM inbox_deliveries") == BODY
    assert await session.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'process_deliveries'") == 1


async def test_one_job_is_enough_for_deliveries_that_wait(desk, session):
    for number in range(5):
        await desk.deliver(message(f"m{number}", "Halo"))
    assert await session.fetchval("SELECT count(*) FROM pgqueuer") == 1


@pytest.mark.parametrize(
    "signature", [None, "", "0" * 64, toychat.signature(BODY, "another"), toychat.signature(BODY + b" ", SECRET)]
)
async def test_what_is_not_signed_is_refused_and_leaves_no_body(desk, session, signature):
    answer = await desk.send(BODY, headers={toychat.SIGNATURE: signature} if signature is not None else {}, secret="x")
    assert answer.status_code == 403
    assert answer.json()["code"] == "signature_invalid"
    [kept] = await rows(desk, "refused")
    assert (kept["verdict"], kept["body_length"]) == ("signature_invalid", len(BODY))
    assert await session.fetchval("SELECT body FROM inbox_deliveries") is None
    assert await desk.work() == 0
    assert (await desk.client.get(f"/v1/channel-accounts/{desk.account['id']}")).json()["last_error"]["code"] == (
        "signature_invalid"
    )


async def test_without_a_secret_nothing_comes_in(client):
    desk = await Desk.open(client, secrets={})
    assert (await desk.send(BODY, secret="")).status_code == 403


@pytest.mark.parametrize(
    ("status", "header"), [(401, {"www-authenticate": "Basic"}), (406, {}), (503, {"retry-after": "1"})]
)
async def test_a_provider_is_refused_as_its_adapter_says_that_it_has_to_be(desk, monkeypatch, status, header):
    monkeypatch.setattr(providers.ADAPTERS[toychat.NAME], "REFUSED_STATUS", status, raising=False)
    answer = await desk.send(BODY, secret="x")
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, "signature_invalid", status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert header.items() <= answer.headers.items()
    assert len(await rows(desk, "refused")) == 1


@pytest.mark.parametrize(
    ("provider", "status"),
    [("shopify", 401), ("postmark", 401), ("mailgun", 406), ("sendgrid", 503), ("whatsapp", 403), ("telegram", 403)],
)
async def test_every_provider_is_refused_in_its_own_way(client, provider, status):
    desk = await Desk.open(client, provider=provider, secrets={})
    assert (await desk.send(b"{}")).status_code == status
    [kept] = await rows(desk, "refused")
    assert (kept["verdict"], kept["body_length"]) == ("signature_invalid", 2)
    shown = await desk.delivery(kept["id"])
    assert (shown["body"], shown["events"]) == (None, None)


async def test_of_a_flood_of_forgeries_a_few_are_noted_and_all_are_counted(desk, session):
    desk.client.asgi._app.state.reception.refused.clear()
    for _ in range(REFUSED_NOTED_MAX + 15):
        assert (await desk.send(BODY, secret="x")).status_code == 403
    assert await session.fetchval("SELECT count(*) FROM inbox_deliveries") == REFUSED_NOTED_MAX
    assert desk.client.asgi._app.state.reception.refused[toychat.NAME] == REFUSED_NOTED_MAX + 15
    assert (await desk.send(BODY)).status_code == 200


async def test_a_handshake_is_answered_with_its_challenge(desk):
    stranger = await desk.client.limited_to()
    asked = {"hub.mode": "subscribe", "hub.challenge": "12345", "hub.verify_token": "knock"}
    answer = await stranger.get(desk.account["endpoint"], params=asked)
    assert (answer.status_code, answer.text) == (200, "12345")
    wrong = await stranger.get(desk.account["endpoint"], params={**asked, "hub.verify_token": "bang"})
    assert wrong.status_code == 403
    assert "bang" not in str(await rows(desk))


async def test_nobody_learns_which_accounts_there_are(desk):
    own, provider = desk.account["id"], toychat.NAME
    answers = [
        await desk.send(BODY, endpoint=f"/v1/inbox/{path}")
        for path in (f"{provider}/{own[:-4]}0000", f"other/{own}", f"{provider}/x", f"{provider}/{own}%00")
    ]
    shapes = {
        (answer.status_code, *(str(answer.json()[name]) for name in ("type", "title", "detail", "code", "errors")))
        for answer in answers[:3]
    }
    assert len(shapes) == 1, shapes
    assert {answer.status_code for answer in answers} == {404}
    assert await rows(desk) == []


async def test_a_repeated_delivery_is_kept_once_for_each_account(client):
    desk, other = await Desk.open(client), await Desk.open(client, ref="T2")
    for _ in range(3):
        assert (await desk.send(BODY, key="d1")).status_code == 200
        assert (await other.send(BODY, key="d1")).status_code == 200
    assert len(await rows(desk)) == 2


async def test_a_delivery_sent_many_times_at_once_is_kept_once(live_desk):
    answers = await asyncio.gather(*(live_desk.send(BODY, key="d1") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await rows(live_desk)) == 1


@pytest.mark.parametrize(("channel", "limit"), [("chat", providers.BODY_MAX), ("email", providers.MAIL_BODY_MAX)])
async def test_a_delivery_may_be_as_large_as_its_provider_s_may(desk, monkeypatch, channel, limit):
    monkeypatch.setattr(providers.ADAPTERS[toychat.NAME], "CHANNEL", channel)
    monkeypatch.setattr(providers, "BODY_MAX", 2_000)
    monkeypatch.setattr(providers, "MAIL_BODY_MAX", 4_000)
    fits = {"chat": 2_000, "email": 4_000}[channel]
    assert (await desk.send(b"[" + b" " * (fits - 2) + b"]")).status_code == 200
    answer = await desk.send(b"[" + b" " * (fits - 1) + b"]")
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert limit in (5_000_000, 64_000_000)


async def test_what_is_too_much_at_once_is_told_to_come_later(desk, monkeypatch):
    monkeypatch.setattr(reception, "UNDER_WAY_MAX", 0)
    answer = await desk.send(BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert "retry-after" in answer.headers
    monkeypatch.undo()
    monkeypatch.setitem(providers.ADAPTERS, toychat.NAME, toychat.ToyChat())
    monkeypatch.setattr(reception, "BYTES_UNDER_WAY_MAX", 10)
    assert (await desk.send(BODY)).status_code == 503
    monkeypatch.setattr(reception, "BYTES_UNDER_WAY_MAX", 10_000)
    assert (await desk.send(BODY)).status_code == 200
    assert desk.client.asgi._app.state.reception.bytes_under_way == 0


async def test_under_another_key_a_delivery_is_to_come_later_instead_of_being_lost(desk, monkeypatch):
    state = desk.client.asgi._app.state
    monkeypatch.setattr(state, "reception", Reception(desk.client.database, Vault("not the key it was")))
    answer = await desk.send(BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "secrets_unreadable")


@pytest.mark.parametrize(
    "body", [b"", b"\x00", b"\xff\xfe", b"{", b"null", b'{"a": 1}', b"[1]", b'[{"event": 7}]', b"[" * 100_000]
)
async def test_whatever_is_signed_comes_in_and_what_can_t_be_read_fails_alone(desk, body):
    assert (await desk.send(body)).status_code == 200
    await desk.deliver(message("m1", "Halo"))
    assert await desk.work() == 2
    first = await desk.delivery((await rows(desk))[1]["id"])
    assert (first["status"], first["error"]["code"]) == ("failed", "unreadable")
    assert [item["body"] for item in await desk.timeline()] == ["Halo"]


async def test_secrets_of_a_delivery_are_not_kept(desk, session):
    path = f"{desk.account['endpoint']}?token={SECRET.replace(' ', '%20')}&a=1"
    headers = {"Authorization": "Basic c2FyaTprb3Bp", "X-Telegram-Bot-Api-Secret-Token": "t0ken", "X-Own": SECRET}
    assert (await desk.send(BODY, endpoint=path, headers=headers)).status_code == 200
    kept = dict(await session.fetchrow("SELECT url, headers, query FROM inbox_deliveries"))
    for hidden in (SECRET, SECRET.replace(" ", "%20"), "c2FyaTprb3Bp", "t0ken"):
        assert hidden not in str(kept)
    assert kept["query"] == {"token": "[hidden]", "a": "1"}
    assert kept["headers"]["authorization"] == "[hidden]"


async def test_the_address_that_was_called_is_the_one_that_a_proxy_tells(desk, client, session):
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "crm.example.com"}
    await desk.send(BODY, headers=forwarded, endpoint=f"{desk.account['endpoint']}?a=1&b=%20")
    path = f"/v1/channel-accounts/{desk.account['id']}"
    await client.patch(path, json={"settings": {"public_url": "https://toko.example/crm/"}})
    await desk.send(BODY)
    urls = [row["url"] for row in await session.fetch("SELECT url FROM inbox_deliveries ORDER BY id")]
    assert urls == [
        f"https://crm.example.com{desk.account['endpoint']}?a=1&b=%20",
        f"https://toko.example/crm{desk.account['endpoint']}",
    ]


async def test_a_database_that_takes_too_long_is_answered_for_before_the_provider_gives_up(live_desk, monkeypatch):
    await live_desk.send(BODY)
    monkeypatch.setattr(reception, "STORED_SECONDS_MAX", 0.2)
    async with live_desk.client.database.begin() as session:
        await session.execute("LOCK TABLE inbox_deliveries")
        answer = await live_desk.send(BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await live_desk.send(BODY)).status_code == 200
    assert len(await rows(live_desk)) == 2


@pytest.mark.parametrize("function", ["handshake", "verify"])
async def test_an_adapter_that_can_t_cope_loses_nothing(desk, monkeypatch, function):
    def stumble(*_):
        raise KeyError("x")

    monkeypatch.setattr(toychat.ToyChat, function, stumble)
    answer = await desk.send(BODY)
    assert (answer.status_code, answer.json()["code"]) == (503, "adapter_failed")


async def test_the_endpoint_takes_only_what_a_provider_sends(desk):
    for method in ("PUT", "PATCH", "DELETE"):
        assert (await desk.client.request(method, desk.account["endpoint"])).status_code == 405


async def test_taking_a_delivery_in_is_one_insert_in_one_transaction(live_desk, statements):
    await live_desk.send(BODY)
    await live_desk.send(BODY)
    statements.clear()
    await live_desk.send(BODY)
    assert [statement.partition(" ")[0] for statement in statements] == ["BEGIN", "WITH", "COMMIT"]


async def test_taking_a_delivery_in_is_fast(live_desk):
    took = []
    for number in range(200):
        started = time.perf_counter()
        await live_desk.deliver(message(f"m{number}", "Halo"))
        took.append(time.perf_counter() - started)
    assert statistics.median(took) < 0.1
