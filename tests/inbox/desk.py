"""A channel account at the API, its provider, and the worker."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from crm.db.vault import Vault
from crm.inbox import processing
from crm.inbox.house import House
from tests.inbox import toychat

SECRET = "a secret of theirs"
ACCOUNT = {
    "provider": toychat.NAME, "name": "Toko", "ref": "T1", "secrets": {"app_secret": SECRET, "verify_token": "knock"},
}  # fmt: skip
HOUSE = House("ID", timedelta(days=1))


class Desk:
    """`client` may be the fixture `client` or `live_client`; `account` is what the API says of the account."""

    def __init__(self, client: Any, account: dict[str, Any]) -> None:
        self.client = client
        self.account = account
        self._number = 0

    @classmethod
    async def open(cls, client: Any, **facts: Any) -> "Desk":
        answer = await client.post("/v1/channel-accounts", json={**ACCOUNT, **facts})
        assert answer.status_code == 201, answer.text
        return cls(client, answer.json())

    @property
    def vault(self) -> Vault:
        """What the application encrypts secrets with."""
        vault: Vault = self.client.asgi._app.state.vault
        return vault

    async def send(
        self, body: bytes, *, key: str | None = None, secret: str = SECRET, headers: dict[str, str] | None = None,
        endpoint: str | None = None,
    ) -> httpx.Response:  # fmt: skip
        """What the provider is answered to a delivery."""
        stranger = self.client.holding("")
        stranger.headers.pop("authorization", None)
        signed = {toychat.SIGNATURE: toychat.signature(body, secret), **(headers or {})}
        if key is not None:
            signed[toychat.DELIVERY] = key
        answer: httpx.Response = await stranger.post(endpoint or self.account["endpoint"], content=body, headers=signed)
        return answer

    async def deliver(self, *items: dict[str, Any], key: str | None = None) -> None:
        """Have a delivery with these events taken in."""
        answer = await self.send(toychat.said(*items), key=key)
        assert (answer.status_code, answer.content) == (200, b""), answer.text

    async def work(self, *, now: datetime | None = None) -> int:
        """Have the worker process what is due; how many deliveries."""
        return await processing.work_off(
            self.client.database, vault=self.vault, house=HOUSE, clock=lambda: now or datetime.now(UTC)
        )

    async def hear(self, *items: dict[str, Any]) -> list[dict[str, Any]]:
        """What came of these events, delivered together and processed."""
        await self.deliver(*items)
        await self.work()
        events: list[dict[str, Any]] = (await self.last())["events"]
        return events

    async def last(self) -> dict[str, Any]:
        """The last delivery."""
        page = await self.client.get(f"/v1/deliveries?account={self.account['id']}&limit=1")
        return await self.delivery(page.json()["items"][0]["id"])

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/deliveries/{delivery_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def contact(self, kind: str = "toychat", value: str = "sari") -> dict[str, Any]:
        """Whoever has an address."""
        answer = await self.client.get(f"/v1/contacts/by/{kind}/{value}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def timeline(self, contact_id: str | None = None, **params: Any) -> list[dict[str, Any]]:
        """What was said with a contact, newest first; without one, with Sari."""
        of = contact_id or (await self.contact())["id"]
        answer = await self.client.get(f"/v1/contacts/{of}/timeline", params={"limit": 200, **params})
        assert answer.status_code == 200, answer.text
        return [item for item in answer.json()["items"] if item["channel"] != "contacts"]
