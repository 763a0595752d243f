"""Channel accounts: made, changed, tried out and deleted, and secrets that never come back."""

import importlib
import json
from datetime import UTC, datetime, timedelta
from pkgutil import iter_modules

import pytest

from crm.inbox import accounts, providers
from crm.interactions import channels
from crm.jobs import SCHEDULES
from tests.inbox import toychat
from tests.inbox.desk import ACCOUNT, SECRET, Desk
from tests.inbox.toychat import message, said


def problem(answer, status, code, *pointers):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == list(pointers)


async def test_an_account_is_made_listed_and_read_without_its_secrets(client):
    answer = await client.post("/v1/channel-accounts", json={**ACCOUNT, "silence_after": "P1D"})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["provider"], made["channel"], made["ref"]) == ("toychat", "chat", "T1")
    assert made["secrets"] == {"app_secret": True, "verify_token": True}
    assert made["endpoint"] == f"/v1/inbox/toychat/{made['id']}"
    assert made["last_received_at"] is None
    listed = await client.get("/v1/channel-accounts")
    assert listed.json() == {"items": [made], "next_cursor": None}
    read = await client.get(f"/v1/channel-accounts/{made['id']}")
    assert read.json() == made
    assert SECRET not in answer.text + listed.text + read.text


async def test_secrets_are_stored_nowhere_in_the_clear(client, session):
    made = await Desk.open(client)
    await client.post("/v1/channel-accounts", json={**ACCOUNT, "ref": "T2"}, headers={"Idempotency-Key": "k1"})
    await made.client.patch(f"/v1/channel-accounts/{made.account['id']}", json={"secrets": {"app_secret": SECRET}})
    for table in ("channel_accounts", "idempotency_keys"):
        for row in await session.fetch(f"SELECT * FROM {table}"):
            assert SECRET not in str(dict(row))
            assert all(SECRET.encode() not in value for value in row.values() if isinstance(value, bytes))


@pytest.mark.parametrize(
    ("facts", "code", "pointer"),
    [
        ({"provider": "nobody"}, "unknown_provider", "/provider"),
        ({"secrets": {"password": "x"}}, "invalid_channel_account", "/secrets/password"),
        ({"settings": {"program_id": "x"}}, "invalid_channel_account", "/settings/program_id"),
        ({"settings": {"thread_gap_hours": "0"}}, "invalid_channel_account", "/settings/thread_gap_hours"),
        ({"settings": {"thread_gap_hours": "soon"}}, "invalid_channel_account", "/settings/thread_gap_hours"),
        ({"silence_after": "PT1S"}, "invalid", "/silence_after"),
        ({"secrets": {"app_secret": ""}}, "invalid", "/secrets/app_secret"),
        ({"ref": " "}, "invalid", "/ref"),
        ({"id": "mine"}, "invalid", "/id"),
    ],
)
async def test_what_is_wrong_with_an_account_is_said(client, facts, code, pointer):
    problem(await client.post("/v1/channel-accounts", json={**ACCOUNT, **facts}), 422, code, pointer)


async def test_a_page_has_one_account(desk):
    problem(await desk.client.post("/v1/channel-accounts", json=ACCOUNT), 409, "channel_account_exists")


async def test_a_repeated_key_makes_one_account(client):
    headers = {"Idempotency-Key": "0198f3a2-7c1e-7d50-b3a4-c5d6e7f80912"}
    first = await client.post("/v1/channel-accounts", json=ACCOUNT, headers=headers)
    again = await client.post("/v1/channel-accounts", json=ACCOUNT, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()


async def test_settings_and_secrets_change_name_by_name(client):
    desk = await Desk.open(client, settings={"a": "1", "b": "2"})
    path = f"/v1/channel-accounts/{desk.account['id']}"
    changed = await client.patch(path, json={
        "name": "Toko Baru", "settings": {"a": None, "c": "3"}, "secrets": {"verify_token": None},
        "silence_after": "PT2H",
    })  # fmt: skip
    assert changed.status_code == 200, changed.text
    assert changed.json()["settings"] == {"b": "2", "c": "3"}
    assert changed.json()["secrets"] == {"app_secret": True, "verify_token": False}
    assert (changed.json()["name"], changed.json()["silence_after"]) == ("Toko Baru", "PT7200S")
    await desk.deliver(message("m1", "the secret that was left is still the old one"))

    problem(await client.patch(path, json={"name": None}), 422, "invalid", "/name")
    problem(await client.patch(path, json={"secrets": {"x": "y"}}), 422, "invalid_channel_account", "/secrets/x")
    problem(await client.patch(path, json={"ref": "T9"}), 422, "invalid", "/ref")


async def test_a_new_secret_holds_at_once(desk):
    await desk.deliver(message("m1", "by the old one"))
    await desk.client.patch(f"/v1/channel-accounts/{desk.account['id']}", json={"secrets": {"app_secret": "new"}})
    assert (await desk.send(said(message("m2", "old")))).status_code == 403
    assert (await desk.send(said(message("m2", "new")), secret="new")).status_code == 200


async def test_a_deleted_account_takes_nothing_in_and_waits_for_what_it_took_in(desk):
    await desk.deliver(message("m1", "Halo"))
    path = f"/v1/channel-accounts/{desk.account['id']}"
    problem(await desk.client.delete(path), 409, "deliveries_pending")
    await desk.work()
    assert (await desk.client.delete(path)).status_code == 204
    problem(await desk.client.get(path), 404, "channel_account_not_found")
    problem(await desk.client.delete(path), 404, "channel_account_not_found")
    assert (await desk.send(said(message("m2", "Halo")))).status_code == 404
    assert [item["body"] for item in await desk.timeline()] == ["Halo"]


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("channels:read", "GET", "", 200),
        ("channels:read", "GET", "/{id}", 200),
        ("channels:read", "PATCH", "/{id}", 403),
        ("channels:read", "DELETE", "/{id}", 403),
        ("channels:read", "POST", "/{id}/test", 403),
        ("channels:write", "POST", "/{id}/test", 201),
        ("channels:write", "GET", "", 403),
        ("contacts:read", "GET", "", 403),
    ],
)
async def test_accounts_are_for_those_who_may(desk, scope, method, path, status):
    limited = await desk.client.limited_to(scope)
    url = "/v1/channel-accounts" + path.format(id=desk.account["id"])
    answer = await limited.request(method, url, json={} if method == "PATCH" else None)
    assert answer.status_code == status, answer.text


async def test_an_account_is_tried_out_on_the_way_of_every_delivery_and_nothing_of_it_stays(desk, session):
    tried = await desk.client.post(f"/v1/channel-accounts/{desk.account['id']}/test")
    assert tried.status_code == 201, tried.text
    assert (tried.json()["status"], tried.json()["verdict"]) == ("test", "verified")
    assert [(event["event"], event["outcome"]) for event in tried.json()["events"]] == [("message", "recorded")]
    assert await session.fetchval("SELECT count(*) FROM contacts") == 0
    assert await session.fetchval("SELECT count(*) FROM interactions") == 0
    assert await session.fetchval("SELECT count(*) FROM threads") == 0
    assert await desk.work() == 0
    account = (await desk.client.get(f"/v1/channel-accounts/{desk.account['id']}")).json()
    assert account["last_received_at"] is None
    assert (await desk.client.post(f"/v1/channel-accounts/{desk.account['id']}/test")).status_code == 201


async def test_a_test_without_the_secret_is_refused_as_a_delivery_is(client):
    desk = await Desk.open(client, secrets={})
    tried = await client.post(f"/v1/channel-accounts/{desk.account['id']}/test")
    problem(tried, 409, "secret_missing")
    assert "app_secret" in tried.json()["detail"]


@pytest.mark.parametrize("provider", sorted(providers.ADAPTERS.keys() - {"imap"}))  # a mailbox is looked into besides
async def test_an_account_of_every_provider_can_be_tried_out(client, session, provider):
    adapter = providers.ADAPTERS[provider]
    secrets = dict.fromkeys(adapter.SECRETS, "user:password")
    desk = await Desk.open(client, provider=provider, secrets=secrets)
    tried = await client.post(f"/v1/channel-accounts/{desk.account['id']}/test")
    assert tried.status_code == 201, tried.text
    assert (tried.json()["verdict"], tried.json()["error"]) == ("verified", None)
    assert [(event["outcome"], event["error"]) for event in tried.json()["events"]] == [("recorded", None)]
    assert "user:password" not in tried.text
    assert await session.fetchval("SELECT (SELECT count(*) FROM contacts) + (SELECT count(*) FROM interactions)") == 0

    await client.patch(f"/v1/channel-accounts/{desk.account['id']}", json={"secrets": None})
    without = await client.post(f"/v1/channel-accounts/{desk.account['id']}/test")
    problem(without, 409, "secret_missing")


def test_every_adapter_of_the_folder_is_known():
    contract = {"CHANNEL", "SECRETS", "REQUIRED", "handshake", "verify", "key", "events", "sample"}
    modules = (importlib.import_module(f"{channels.__name__}.{each.name}") for each in iter_modules(channels.__path__))
    found = {module.__name__.rpartition(".")[2]: module for module in modules if contract <= vars(module).keys()}
    assert {name: each for name, each in providers.ADAPTERS.items() if name != toychat.NAME} == found


async def test_an_account_falls_silent_is_reported_and_is_heard_again(live_client, caplog):
    desk = await Desk.open(live_client, silence_after="PT1H")
    other = await Desk.open(live_client, ref="T2")
    now = datetime.now(UTC)

    async def silent() -> list[str]:
        page = await live_client.get("/v1/channel-accounts?silent=true")
        return [item["ref"] for item in page.json()["items"]]

    await SCHEDULES["watch_for_silence"].run(live_client.database, now=now + timedelta(minutes=59))
    assert await silent() == []
    late = now + timedelta(minutes=61)
    await SCHEDULES["watch_for_silence"].run(live_client.database, now=late)
    assert await silent() == ["T1"]
    assert [item["ref"] for item in (await live_client.get("/v1/channel-accounts?silent=false")).json()["items"]] == [
        other.account["ref"]
    ]
    assert 'channel_accounts_silent{provider="toychat"} 1.0' in (await live_client.get("/metrics")).text
    assert (await desk.send(b"[]", secret="wrong")).status_code == 403
    assert await silent() == ["T1"]

    await desk.deliver(message("m1", "Halo"))
    assert await silent() == []
    account = (await live_client.get(f"/v1/channel-accounts/{desk.account['id']}")).json()
    assert account["silent_since"] is None
    assert account["last_received_at"] is not None
    async with live_client.database.begin() as session:
        assert await accounts.fallen_silent(session, now=late) != []
        assert await accounts.fallen_silent(session, now=late) == []


async def test_the_last_error_of_an_account_is_shown(desk):
    await desk.hear({"event": "Crash"})
    account = (await desk.client.get(f"/v1/channel-accounts/{desk.account['id']}")).json()
    assert account["last_error"]["code"] == "unreadable"
    assert "stumbles" in account["last_error"]["detail"]
    assert json.dumps(account).count(SECRET) == 0
