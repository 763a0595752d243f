"""Every adapter on the way of every delivery: signed as its provider signs, several times, and full of surprises."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import pytest

from crm.inbox import providers
from tests.inbox.desk import Desk
from tests.inbox.surprises import KEY, NUMBERS, TOLD, Sent, in_base64, in_form, in_json, mac
from tests.interactions.channels import (
    test_messenger,
    test_shopify,
    test_twilio,
    test_whatsapp,
)


def _standard(body: bytes) -> dict[str, str]:
    name, stamp = f"d{next(NUMBERS)}", str(int(datetime.now(UTC).timestamp()))
    return {
        "webhook-id": name, "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{in_base64(mac(f'{name}.{stamp}.'.encode() + body))}",
    }  # fmt: skip


def _meta(body: bytes) -> dict[str, str]:
    return {"x-hub-signature-256": f"sha256={mac(body).hex()}"}


def _basic(body: bytes) -> dict[str, str]:
    return {"authorization": f"Basic {in_base64(KEY.encode())}"}


SIGN: dict[str, Callable[[bytes], dict[str, str]]] = {
    "custom": _standard,
    "instagram": _meta,
    "line": lambda body: {"x-line-signature": in_base64(mac(body))},
    "mailgun": lambda body: {},  # it signs within the body
    "messenger": _meta,
    "onetalk": lambda body: {"x-secret-key": KEY},
    "postmark": _basic,
    "segment": lambda body: {"x-signature": mac(body, "sha1").hex()},
    "sendgrid": _basic,
    "shopify": lambda body: {"x-shopify-hmac-sha256": in_base64(mac(body))},
    "telegram": lambda body: {"x-telegram-bot-api-secret-token": KEY},
    "whatsapp": _meta,
    "woocommerce": lambda body: {"x-wc-webhook-signature": in_base64(mac(body))},
}


FIRST = {
    "custom": "m1", "instagram": "m1", "line": "1", "mailgun": "rfc-1@example.com", "messenger": "m1", "onetalk": "m1",
    "postmark": "guid-1", "segment": "m1", "sendgrid": "rfc-1@example.com",
    "shopify": f"orders/create:{test_shopify.ORDER['id']}:2026-11-21 15:00:00+00:00", "telegram": "5300000023:4",
    "twilio": "SM1", "whatsapp": "wamid.A", "woocommerce": "order:727:2026-11-21T08:00:00+00:00",
}  # fmt: skip
"""Under what the message, or what else came first, is known."""
PROVIDERS = sorted(providers.ADAPTERS.keys() - {"imap"})


def _signed(provider: str, endpoint: str, body: bytes) -> dict[str, str]:
    if provider != "twilio":
        return SIGN[provider](body)
    fields = sorted(pair.split("=", 1) for pair in body.decode().split("&"))
    text = f"http://test{endpoint}" + "".join(unquote_plus(name) + unquote_plus(value) for name, value in fields)
    return {"x-twilio-signature": in_base64(mac(text.encode(), "sha1"))}


async def _deliver(desk: Desk, provider: str, sent: list[Sent]) -> list[int]:
    stranger = await desk.client.limited_to()
    endpoint = desk.account["endpoint"]
    answers = []
    for body, headers in sent:
        signed = {**headers, **_signed(provider, endpoint, body)}
        answers.append((await stranger.post(endpoint, content=body, headers=signed)).status_code)
    return answers


@pytest.fixture
async def desk_of(client):
    async def open_desk(provider: str) -> Desk:
        secrets = dict.fromkeys(providers.ADAPTERS[provider].SECRETS, KEY)
        secrets.pop("public_key", None)
        return await Desk.open(client, provider=provider, secrets=secrets)

    return open_desk


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_whatever_a_provider_sends_and_however_often_each_stands_once(desk_of, session, provider):
    desk = await desk_of(provider)
    sent = TOLD[provider]()
    for batch in (sent, sent[::-1], sent):
        assert set(await _deliver(desk, provider, batch)) == {200}
        await desk.work()

    rows = await session.fetch("SELECT external_id, kind, body FROM interactions WHERE source = $1", f"{provider}:T1")
    assert len([row for row in rows if row["external_id"] == FIRST[provider]]) == 1, [tuple(row) for row in rows]
    assert len({row["external_id"] for row in rows}) == len(rows)
    assert await session.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status IN ('pending', 'refused')") == 0
    outcomes, errors = set(), set()
    for row in await session.fetch("SELECT events, error FROM inbox_deliveries"):
        assert row["error"] is None
        outcomes |= {event["outcome"] for event in row["events"]}
        errors |= {event["error"]["code"] for event in row["events"] if event["error"]}
    assert {"recorded", "duplicate", "kept"} <= outcomes
    assert errors <= {"nobody_known"}, errors


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_signed_otherwise_leaves_no_body(desk_of, session, provider):
    desk = await desk_of(provider)
    stranger = await desk.client.limited_to()
    [body, headers] = TOLD[provider]()[0]
    if provider == "mailgun":
        body = body.replace(b"signature=", b"signature=0")
    for wrong in ({}, {name: f"{value}0" for name, value in _signed(provider, desk.account["endpoint"], body).items()}):
        answer = await stranger.post(desk.account["endpoint"], content=body, headers={**headers, **wrong})
        assert answer.status_code in {401, 403, 406, 503}
    rows = await session.fetch("SELECT status, verdict, body, body_length, events FROM inbox_deliveries")
    assert [tuple(row) for row in rows] == [("refused", "signature_invalid", None, len(body), None)] * 2
    assert await desk.work() == 0


SAID_AT = int(datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp() * 1000)


def _status(state: str, at: int) -> Any:
    status = {"id": "out", "status": state, "timestamp": str(at), "recipient_id": "628123456789"}
    return test_whatsapp.body(test_whatsapp.change(statuses=[status]))


STATES: dict[str, dict[str, list[Sent]]] = {
    "whatsapp": {
        state: in_json(_status(state, 1_697_043_300 + at)) for at, state in enumerate(("sent", "delivered", "read"))
    },
    "twilio": {
        state: in_form({**test_twilio.STATUS, "MessageSid": "out", "MessageStatus": state})
        for state in ("sent", "delivered", "read")
    },
    "messenger": {
        "delivered": in_json(test_messenger.body(test_messenger.event(delivery={"mids": ["out"], "watermark": 1}))),
        "read": in_json(test_messenger.body(test_messenger.event(read={"watermark": SAID_AT + 60_000}))),
    },
}  # fmt: skip


# What somebody else recorded knows nothing of watermarks from before.
@pytest.mark.parametrize(
    ("provider", "known"), [(each, known) for each in STATES for known in ("before", "after")
                            if (each, known) != ("messenger", "after")],
)  # fmt: skip
async def test_states_come_in_any_order_and_only_move_up(desk_of, provider, known):
    desk = await desk_of(provider)
    if provider == "messenger":  # a watermark is of somebody who is known
        await _deliver(
            desk, provider, in_json(test_messenger.body(test_messenger.event(message={"mid": "m", "text": "a"})))
        )
        await desk.work()
        contact = await desk.contact("messenger", test_messenger.PSID)
    else:
        contact = (await desk.client.post("/v1/contacts", json={
            "name": "Sari", "identities": [{"kind": "phone", "value": "+628123456789"}],
        })).json()  # fmt: skip

    async def say() -> None:
        answer = await desk.client.post(f"/v1/contacts/{contact['id']}/interactions", json={
            "channel": "chat", "kind": "message", "direction": "outbound", "body": "Sudah dikirim",
            "source": f"{provider}:T1", "external_id": "out", "occurred_at": "2026-11-20T10:00:00Z",
        })  # fmt: skip
        assert answer.status_code == 201, answer.text

    if known == "before":
        await say()
    for sent in reversed(STATES[provider].values()):
        assert set(await _deliver(desk, provider, [*sent, *sent])) == {200}
        await desk.work()
    if known == "after":
        await say()
        await desk.work()
    [message] = [item for item in await desk.timeline(contact["id"]) if item["external_id"] == "out"]
    assert message["state"] == "read"
