"""A morning at a shop: a served process, real signatures, and customers on three channels who are one person."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.cli.started import Shop
from tests.inbox import posts
from tests.inbox.posts import TOKEN, Post

SECRETS = {
    "whatsapp": {"app_secret": "wa-secret-7b1c", "verify_token": "wa-token-93fe", "access_token": TOKEN},
    "instagram": {"app_secret": "ig-secret-51d0", "verify_token": "ig-token-aa42"},
    "shopify": {"client_secret": "shop-secret-e8d3"},
}
REFS = {"whatsapp": "PN1", "instagram": "17841400008460056", "shopify": "kopi.myshopify.com"}
PHONE, IGSID = "6281234567890", "1255365535166091"
QUESTION, REPLY, DIRECT = "wamid.QUESTION", "wamid.1", "aWdfZAG1faXRlbToxOk"


def next_second() -> datetime:
    """The second that has just begun: providers tell whole ones, and each thing of this morning has its own."""
    time.sleep(1.01 - time.time() % 1)
    return datetime.now(UTC).replace(microsecond=0)


@contextmanager
def posting() -> Iterator[Post]:
    """WhatsApp's API, in a thread of its own."""
    post = Post(posts.whatsapp)
    opened, closing = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with post.open():
            opened.set()
            await closing.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert opened.wait(10)
        yield post
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()


class Morning:
    """The API of a served process as its owner, and what the providers send to it."""

    def __init__(self, shop: Shop, post: Post) -> None:
        self.post = post
        self.api = httpx.Client(
            base_url=f"http://127.0.0.1:{shop.port}", headers={"Authorization": f"Bearer {shop.key()}"}, timeout=20
        )
        self.providers = httpx.Client(base_url=f"http://127.0.0.1:{shop.port}", timeout=20)
        self.accounts: dict[str, dict[str, Any]] = {}
        self.answers: list[str] = []

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = self.api.request(method, f"/v1/{path}", json=body)
        self.answers.append(answer.text)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def open(self) -> None:
        """A program, and an account of each provider, that is tried out."""
        program = self.call("POST", "programs", {"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"},
                            status=201)  # fmt: skip
        rule = {"name": "base", "kind": "per_amount", "points": 1, "per": "1000"}
        self.call("POST", f"programs/{program['id']}/earning-rules", rule, status=201)
        for provider, secrets in SECRETS.items():
            account = {"provider": provider, "name": provider, "ref": REFS[provider], "secrets": secrets}
            if provider == "whatsapp":
                account["settings"] = {"api_base_url": self.post.url}
            made = self.accounts[provider] = self.call("POST", "channel-accounts", account, status=201)
            tried = self.call("POST", f"channel-accounts/{made['id']}/test", status=201)
            assert [event["outcome"] for event in tried["events"]] == ["recorded"]

    def meta(self, provider: str, body: Any) -> None:
        """A delivery of Meta's, twice, as it does."""
        raw = json.dumps(body).encode()
        summed = hmac.new(SECRETS[provider]["app_secret"].encode(), raw, hashlib.sha256).hexdigest()
        for _ in range(2):
            self._deliver(provider, raw, {"X-Hub-Signature-256": f"sha256={summed}"})

    def whatsapp(self, **value: Any) -> None:
        told = {
            "messaging_product": "whatsapp", "metadata": {"phone_number_id": REFS["whatsapp"]},
            "contacts": [{"profile": {"name": "Sari Dewi"}, "wa_id": PHONE}], **value,
        }  # fmt: skip
        self.meta("whatsapp", {
            "object": "whatsapp_business_account",
            "entry": [{"id": "5467539754836534", "changes": [{"field": "messages", "value": told}]}],
        })  # fmt: skip

    def instagram(self, at: datetime, message: dict[str, Any]) -> None:
        stamp = int(at.timestamp() * 1000)
        event = {
            "sender": {"id": IGSID}, "recipient": {"id": REFS["instagram"]}, "timestamp": stamp,
            "message": {"mid": DIRECT, **message},
        }  # fmt: skip
        entry = {"id": REFS["instagram"], "time": stamp, "messaging": [event]}
        self.meta("instagram", {"object": "instagram", "entry": [entry]})

    def shopify(self, topic: str, number: str, body: Any) -> None:
        raw = json.dumps(body).encode()
        summed = hmac.new(SECRETS["shopify"]["client_secret"].encode(), raw, hashlib.sha256).digest()
        headers = {
            "X-Shopify-Hmac-SHA256": base64.b64encode(summed).decode(), "X-Shopify-Topic": topic,
            "X-Shopify-Webhook-Id": f"delivery-{number}", "X-Shopify-Event-Id": f"event-{number}",
        }  # fmt: skip
        for _ in range(2):
            self._deliver("shopify", raw, headers)

    def _deliver(self, provider: str, raw: bytes, headers: dict[str, str]) -> None:
        answer = self.providers.post(self.accounts[provider]["endpoint"], content=raw, headers=headers)
        self.answers.append(answer.text)
        assert answer.status_code == 200, answer.text

    def eventually(self, condition: Any) -> Any:
        """What a condition comes to once it holds: the worker takes its time."""
        deadline = time.monotonic() + 30
        while not (found := condition()):
            assert time.monotonic() < deadline, self.call("GET", "deliveries?limit=20")
            time.sleep(0.05)
        return found

    def contact(self, kind: str, value: str) -> Any:
        def find() -> Any:
            answer = self.api.get(f"/v1/contacts/by/{kind}/{value}")
            return answer.json() if answer.status_code == 200 else None

        return self.eventually(find)

    def timeline(self, contact_id: str, **params: Any) -> list[dict[str, Any]]:
        """What happened, newest first, without what only our own records say."""
        items = self.api.get(f"/v1/contacts/{contact_id}/timeline", params={"limit": 200, **params}).json()["items"]
        return [item for item in items if item["channel"] not in {"contacts", "loyalty"}]

    def message(self, contact_id: str, name: str) -> dict[str, Any]:
        """A message by its provider's id, or one of ours by its own."""
        return next(item for item in self.timeline(contact_id) if name in {item["external_id"], item["id"]})

    def available(self, contact_id: str) -> int:
        found = self.api.get(f"/v1/contacts/{contact_id}/loyalty")
        return int(found.json()["available"]) if found.status_code == 200 else 0


@pytest.fixture
def morning(shop: Shop) -> Iterator[Morning]:
    shop.serve()
    with posting() as post:
        morning = Morning(shop, post)
        with morning.api, morning.providers:
            yield morning


def replied(morning: Morning, contact_id: str) -> str:
    """The id of the agent's answer, which WhatsApp has taken and calls `REPLY`."""
    answer = {"text": "Sudah dikirim, Kak Sari.", "human": True}
    message = morning.call("POST", f"contacts/{contact_id}/messages", answer, status=201)
    sent = morning.eventually(lambda: [asked.json for asked in morning.post.taken])
    assert [(each["to"], each["text"]["body"]) for each in sent] == [(PHONE, "Sudah dikirim, Kak Sari.")]
    found = f"contacts/{contact_id}/messages/{message['id']}"
    morning.eventually(lambda: morning.call("GET", found)["external_id"] == REPLY)
    return str(message["id"])


def test_what_a_customer_does_on_three_channels_stands_in_one_timeline(morning, shop):
    morning.open()

    asked = {"from": PHONE, "id": QUESTION, "timestamp": str(int(next_second().timestamp())), "type": "text"}
    morning.whatsapp(messages=[{**asked, "text": {"body": "Kak, pesanan saya di mana?"}}])
    sari = morning.contact("whatsapp", PHONE)["id"]
    assert morning.contact("phone", f"+{PHONE}")["id"] == sari
    [thread] = morning.call("GET", f"contacts/{sari}/threads")["items"]
    assert (thread["channel"], thread["messages_count"]) == ("whatsapp", 1)

    reply = replied(morning, sari)

    sent_at, delivered_at = next_second(), next_second()
    for state, at in (("delivered", delivered_at), ("sent", sent_at)):
        status = {"id": REPLY, "status": state, "timestamp": str(int(at.timestamp())), "recipient_id": PHONE}
        morning.whatsapp(statuses=[status])
        morning.eventually(lambda: morning.message(sari, reply)["state"] == "delivered")
    morning.eventually(lambda: morning.call("GET", "deliveries?status=pending")["items"] == [])
    assert morning.message(sari, reply)["state"] == "delivered"

    written_at = next_second()
    morning.instagram(written_at, {"text": "Ini Sari, WA saya 0812-3456-7890. Ada kopi Gayo?"})
    other = morning.contact("instagram", IGSID)["id"]
    assert other != sari
    [pair] = morning.eventually(lambda: morning.call("GET", f"contacts/{sari}/duplicates")["items"])
    assert {pair["contact_id"], pair["other_contact_id"]} == {sari, other}
    assert [reason["code"] for reason in pair["reasons"]] == ["shared_identity"]

    tried_at, ordered_at = next_second().isoformat(), next_second().isoformat()
    lines = [{"id": 11, "sku": "GAYO", "price": "15000.00", "quantity": 3}]
    order = {
        "id": 820982911946154508, "name": "#1001", "currency": "IDR", "financial_status": "paid",
        "created_at": ordered_at, "updated_at": ordered_at, "taxes_included": True,
        "total_price": "45000.00", "line_items": lines, "customer": None, "phone": f"+{PHONE}",
    }  # fmt: skip
    refund = {
        "id": 509562969, "order_id": order["id"], "created_at": next_second().isoformat(),
        "refund_line_items": [{"line_item_id": 11, "quantity": 1, "subtotal": "15000.00", "total_tax": "0.00"}],
        "transactions": [{"kind": "refund", "status": "success", "amount": "15000.00", "currency": "IDR"}],
    }  # fmt: skip
    morning.shopify("orders/paid", "test", {
        **order, "id": 5, "test": True, "created_at": tried_at, "updated_at": tried_at,
    })  # fmt: skip
    morning.shopify("orders/paid", "1001", order)
    morning.eventually(lambda: morning.available(sari) == 45)
    morning.shopify("refunds/create", "R1", refund)
    morning.eventually(lambda: morning.available(sari) == 30)

    revoked = {"from": PHONE, "id": "wamid.REVOKE", "timestamp": str(int(next_second().timestamp())), "type": "revoke"}
    morning.whatsapp(messages=[{**revoked, "revoke": {"original_message_id": QUESTION}}])
    morning.eventually(lambda: morning.message(sari, QUESTION)["unsent_at"])
    morning.instagram(written_at, {"is_deleted": True})
    morning.eventually(lambda: morning.message(other, DIRECT)["unsent_at"])

    merged = {"contact_id": sari, "other_contact_id": other}
    morning.call("POST", "merges", merged, status=201)
    told = morning.timeline(sari)
    assert [(item["channel"], item["kind"], item["external_id"]) for item in told] == [
        ("shop", "purchase.refunded", None),
        ("shop", "purchase", None),
        ("shop", "order.paid", "orders/paid:event-test"),
        ("instagram", "message", DIRECT),
        ("whatsapp", "message", reply),
        ("whatsapp", "message", QUESTION),
    ]
    assert [item["body"] for item in told if item["kind"] == "message"] == [None, "Sudah dikirim, Kak Sari.", None]
    times = [datetime.fromisoformat(item["occurred_at"]) for item in told]
    assert times == sorted(times, reverse=True)
    assert [pair["status"] for pair in morning.call("GET", "duplicates?status=merged")["items"]] == ["merged"]
    assert morning.call("GET", "deliveries?status=failed")["items"] == []

    assert shop.stop() == 0
    everything = [*morning.answers, shop.printed.read_text()]
    for secret in (secret for secrets in SECRETS.values() for secret in secrets.values()):
        assert not any(secret in text for text in everything)
