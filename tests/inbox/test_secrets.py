"""A channel account is set up, tried, used, watched and deleted over the API, and its secrets come back out nowhere."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from crm.inbox import providers
from crm.jobs import SCHEDULES
from tests.inbox import toychat
from tests.inbox.toychat import message, said

MARK = "k0pi-gayo"
"""Stands in every secret, and in nothing else."""


def secrets_of(provider):
    return {name: f"{MARK}:{provider}-{name}" for name in providers.secrets(provider)}


async def everything_stored(database):
    """All that the database holds, but for what is encrypted."""
    async with database.reading() as session:
        tables = await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return [
            str(dict(row)) for table in tables for row in await session.fetch(f'SELECT * FROM "{table["tablename"]}"')
        ]


class Overhearing:
    """A client that keeps whatever it is answered, headers included."""

    def __init__(self, client):
        self._client = client
        self.heard = []

    async def __call__(self, method, path, status, **options):
        answer = await self._client.request(method, path, **options)
        self.heard += [answer.text, str(answer.headers)]
        assert answer.status_code == status, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else None


@pytest.mark.parametrize("provider", sorted(providers.ADAPTERS))
async def test_no_secret_of_any_provider_comes_back_out(live_client, capfd, provider):
    call, secrets = Overhearing(live_client), secrets_of(provider)
    draft = {"provider": provider, "name": "Toko", "ref": "T1", "secrets": secrets, "silence_after": "PT1H"}
    keyed = {"Idempotency-Key": "0198f3a2-7c1e-7d50-b3a4-c5d6e7f80912"}
    made = await call("POST", "/v1/channel-accounts", 201, json=draft, headers=keyed)
    assert made["secrets"] == dict.fromkeys(secrets, True)
    await call("POST", "/v1/channel-accounts", 201, json=draft, headers=keyed)
    path = f"/v1/channel-accounts/{made['id']}"

    # What can go wrong with them.
    await call("POST", "/v1/channel-accounts", 409, json=draft)
    await call("POST", "/v1/channel-accounts", 422, json=draft | {"ref": "T2", "secrets": {"other": MARK}})
    await call("POST", "/v1/channel-accounts", 422, json=draft | {"ref": "T2", "secrets": {"UPPER": MARK}})
    await call("POST", "/v1/channel-accounts", 422, json=draft | {"ref": "T2", "secrets": {"x": [MARK]}})
    await call("POST", "/v1/channel-accounts", 422, json=draft | {"ref": "T2", "secrets": {"x": MARK * 2_000}})
    await call("POST", "/v1/channel-accounts", 422, json=draft | {"ref": "T2", "secrets": MARK})
    await call("POST", "/v1/channel-accounts", 400, content=f'{{"secrets": "{MARK}'.encode())
    await call("PATCH", path, 422, json={"secrets": {"other": MARK}})
    await call("PATCH", path, 422, json={"secrets": {"x": {"y": MARK}}})

    await call("PATCH", path, 200, json={"name": "Toko Baru", "secrets": secrets})
    await call("GET", path, 200)
    await call("GET", "/v1/channel-accounts", 200)
    if provider != "imap":  # no mailbox is there to be looked into
        await call("POST", f"{path}/test", 201)
    await live_client.post(made["endpoint"], content=b"{}")
    await live_client.get(made["endpoint"], params={"hub.mode": "subscribe", "hub.verify_token": MARK})
    await live_client.post(made["endpoint"], content=b"{}", headers={"Authorization": f"Basic {MARK}"}, params={
        "token": next(iter(secrets.values())),
    })  # fmt: skip
    for delivery in (await call("GET", f"/v1/deliveries?account={made['id']}", 200))["items"]:
        await call("GET", f"/v1/deliveries/{delivery['id']}", 200)

    later = datetime.now(UTC) + timedelta(hours=2)
    await SCHEDULES["watch_for_silence"].run(live_client.database, now=later)
    assert [each["id"] for each in (await call("GET", "/v1/channel-accounts?silent=true", 200))["items"]] == [
        made["id"]
    ]
    stored = await everything_stored(live_client.database)
    await call("GET", "/metrics", 200)
    await call("DELETE", path, 204)

    logged = capfd.readouterr()
    assert "channel_account_silent" in logged.out + logged.err
    for text in (*call.heard, *stored, logged.out, logged.err):
        assert MARK not in text


async def test_the_contract_has_no_secret_in_its_examples(client):
    document = (await client.get("/schema/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert "secrets" in schemas["NewChannelAccount"]["properties"]
    [shown] = [
        name for name, schema in schemas.items()
        if "secrets" in schema.get("properties", {}) and "endpoint" in schema["properties"]
    ]  # fmt: skip
    assert schemas[shown]["properties"]["secrets"]["additionalProperties"]["type"] == "boolean"
    for operation in ("get", "post"):
        answers = document["paths"]["/v1/channel-accounts"][operation]["responses"]
        for code, answer in answers.items():
            if code.startswith("2"):
                assert "whsec" not in json.dumps(answer)


async def test_what_is_refused_leaves_headers_and_length_and_no_body(desk, session):
    body = said(message("m1", f"nobody may read {MARK}"))
    answer = await desk.send(body, secret="wrong", headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.status_code == 403
    row = dict(await session.fetchrow("SELECT * FROM inbox_deliveries"))
    assert (row["status"], row["verdict"], row["body"], row["body_length"]) == (
        "refused", "signature_invalid", None, len(body),
    )  # fmt: skip
    assert row["headers"]["x-forwarded-for"] == "203.0.113.9"
    assert toychat.SIGNATURE in row["headers"]
    assert MARK not in str(row)
