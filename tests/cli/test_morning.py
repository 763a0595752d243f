"""A morning at a shop: a served process, real signatures, and customers on three channels who are one person."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.cli.started import Shop

SECRETS = {
    "whatsapp": {"app_secret": "wa-secret-7b1c", "verify_token": "wa-token-93fe"},
    "instagram": {"app_secret": "ig-secret-51d0", "verify_token": "ig-token-aa42"},
    "shopify": {"client_secret": "shop-secret-e8d3"},
}
REFS = {"whatsapp": "106540352242922", "instagram": "17841400008460056", "shopify": "kopi.myshopify.com"}
PHONE, IGSID = "6281234567890", "1255365535166091"
QUESTION, REPLY, DIRECT = "wamid.QUESTION", "wamid.REPLY", "aWdfZAG1faXRlbToxOk"
OPENED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


def minute(number: int) -> datetime:
    """A time of this morning."""
    return OPENED + timedelta(minutes=number)


class Morning:
    """The API of a served process as its owner, and what the providers send to it."""

    def __init__(self, shop: Shop) -> None:
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

    def message(self, contact_id: str, external_id: str) -> dict[str, Any]:
        return next(item for item in self.timeline(contact_id) if item["external_id"] == external_id)

    def available(self, contact_id: str) -> int:
        found = self.api.get(f"/v1/contacts/{contact_id}/loyalty")
        return int(found.json()["available"]) if found.status_code == 200 else 0


@pytest.fixture
def morning(shop: Shop) -> Iterator[Morning]:
    shop.serve()
    morning = Morning(shop)
    with morning.api, morning.providers:
        yield morning


def replied(morning: Morning, contact_id: str, at: datetime) -> None:
    """The agent's answer, as it stands on the timeline once it was sent: `REPLY` is WhatsApp's id of it."""
    reply = {
        "channel": "whatsapp", "kind": "message", "direction": "outbound", "body": "Sudah dikirim, Kak Sari.",
        "source": f"whatsapp:{REFS['whatsapp']}", "external_id": REPLY, "occurred_at": at.isoformat(),
    }  # fmt: skip
    morning.call("POST", f"contacts/{contact_id}/interactions", reply, status=201)


def test_what_a_customer_does_on_three_channels_stands_in_one_timeline(morning, shop):
    morning.open()

    asked = {"from": PHONE, "id": QUESTION, "timestamp": str(int(minute(0).timestamp())), "type": "text"}
    morning.whatsapp(messages=[{**asked, "text": {"body": "Kak, pesanan saya di mana?"}}])
    sari = morning.contact("whatsapp", PHONE)["id"]
    assert morning.contact("phone", f"+{PHONE}")["id"] == sari
    [thread] = morning.call("GET", f"contacts/{sari}/threads")["items"]
    assert (thread["channel"], thread["messages_count"]) == ("whatsapp", 1)

    replied(morning, sari, minute(5))

    for state, at in (("delivered", minute(7)), ("sent", minute(6))):
        status = {"id": REPLY, "status": state, "timestamp": str(int(at.timestamp())), "recipient_id": PHONE}
        morning.whatsapp(statuses=[status])
        morning.eventually(lambda: morning.message(sari, REPLY)["state"] == "delivered")
    morning.eventually(lambda: morning.call("GET", "deliveries?status=pending")["items"] == [])
    assert morning.message(sari, REPLY)["state"] == "delivered"

    morning.instagram(minute(10), {"text": "Ini Sari, WA saya 0812-3456-7890. Ada kopi Gayo?"})
    other = morning.contact("instagram", IGSID)["id"]
    assert other != sari
    [pair] = morning.eventually(lambda: morning.call("GET", f"contacts/{sari}/duplicates")["items"])
    assert {pair["contact_id"], pair["other_contact_id"]} == {sari, other}
    assert [reason["code"] for reason in pair["reasons"]] == ["shared_identity"]

    lines = [{"id": 11, "sku": "GAYO", "price": "15000.00", "quantity": 3}]
    order = {
        "id": 820982911946154508, "name": "#1001", "currency": "IDR", "financial_status": "paid",
        "created_at": minute(20).isoformat(), "updated_at": minute(20).isoformat(), "taxes_included": True,
        "total_price": "45000.00", "line_items": lines, "customer": None, "phone": f"+{PHONE}",
    }  # fmt: skip
    refund = {
        "id": 509562969, "order_id": order["id"], "created_at": minute(40).isoformat(),
        "refund_line_items": [{"line_item_id": 11, "quantity": 1, "subtotal": "15000.00", "total_tax": "0.00"}],
        "transactions": [{"kind": "refund", "status": "success", "amount": "15000.00", "currency": "IDR"}],
    }  # fmt: skip
    earlier = minute(15).isoformat()
    morning.shopify("orders/paid", "test", {
        **order, "id": 5, "test": True, "created_at": earlier, "updated_at": earlier,
    })  # fmt: skip
    morning.shopify("orders/paid", "1001", order)
    morning.eventually(lambda: morning.available(sari) == 45)
    morning.shopify("refunds/create", "R1", refund)
    morning.eventually(lambda: morning.available(sari) == 30)

    revoked = {"from": PHONE, "id": "wamid.REVOKE", "timestamp": str(int(minute(50).timestamp())), "type": "revoke"}
    morning.whatsapp(messages=[{**revoked, "revoke": {"original_message_id": QUESTION}}])
    morning.eventually(lambda: morning.message(sari, QUESTION)["unsent_at"])
    morning.instagram(minute(10), {"is_deleted": True})
    morning.eventually(lambda: morning.message(other, DIRECT)["unsent_at"])

    merged = {"contact_id": sari, "other_contact_id": other}
    morning.call("POST", "merges", merged, status=201)
    told = morning.timeline(sari)
    assert [(item["channel"], item["kind"], item["external_id"]) for item in told] == [
        ("shop", "purchase.refunded", None),
        ("shop", "purchase", None),
        ("shop", "order.paid", "orders/paid:event-test"),
        ("instagram", "message", DIRECT),
        ("whatsapp", "message", REPLY),
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
