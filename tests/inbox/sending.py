"""Somebody to write to, an account to write from, and the worker that sends."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from crm.inbox import dispatch
from crm.inbox.couriers import Couriers
from crm.inbox.house import House
from crm.interactions.channels import graph
from crm.interactions.channels.deliveries import ChannelAccount
from tests.inbox import posts
from tests.inbox.desk import Desk
from tests.inbox.posts import TOKEN, Post

HOUSE = House("ID", timedelta(days=1))
META = {"app_secret": "s", "verify_token": "v", "access_token": TOKEN}
NUMBER = "628123456789"
NOON = datetime(2026, 11, 2, 5, tzinfo=UTC)
"""In Jakarta, on a Monday."""


class Writer(Desk):
    """A desk from which messages go to `post`."""

    post: Post

    @classmethod
    async def at(cls, client: Any, post: Post, **facts: Any) -> "Writer":
        """An account whose provider's API is at `post`, with Sari to write to; by default on WhatsApp."""
        settings = {"api_base_url": post.url, **facts.pop("settings", {})}
        account = {"provider": "whatsapp", "name": "Toko", "ref": "PN1", "secrets": META, **facts, "settings": settings}
        writer = await cls.open(client, **account)
        writer.post = post
        return writer

    async def sari(self, *identities: dict[str, Any], **facts: Any) -> str:
        """Somebody who can be written to; by default on WhatsApp."""
        known = list(identities) or [{"kind": "whatsapp", "value": NUMBER, "verified": True}]
        answer = await self.client.post("/v1/contacts", json={"name": "Sari", "identities": known, **facts})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def wrote(self, text: str = "Halo", *, at: datetime = NOON, number: str = NUMBER, id: str = "in1") -> None:  # noqa: A002
        """Have Sari write on WhatsApp."""
        await self.told(
            contacts=[{"wa_id": number, "profile": {"name": "Sari"}}],
            messages=[{"from": number, "id": id, "timestamp": f"{at.timestamp():.0f}", "type": "text",
                       "text": {"body": text}}],
        )  # fmt: skip

    async def became(self, external_id: str, state: str, *, at: datetime = NOON, **more: Any) -> None:
        """Have WhatsApp tell what became of a message."""
        await self.told(
            statuses=[{"id": external_id, "status": state, "timestamp": f"{at.timestamp():.0f}",
                       "recipient_id": NUMBER, **more}]
        )  # fmt: skip

    async def told(self, **value: Any) -> None:
        named = {"display_phone_number": "1", "phone_number_id": "PN1"}
        change = {"field": "messages", "value": {"messaging_product": "whatsapp", "metadata": named, **value}}
        payload = {"object": "whatsapp_business_account", "entry": [{"id": "W1", "changes": [change]}]}
        await self.call(json.dumps(payload).encode())

    async def call(self, body: bytes) -> None:
        """Have a delivery signed as Meta signs them, taken in and processed."""
        account = ChannelAccount(channel="", ref="", secrets=META)
        headers = {graph.SIGNATURE: graph._signature(account, body).decode()}
        stranger = self.client.holding("")
        stranger.headers.pop("authorization", None)
        answer = await stranger.post(self.account["endpoint"], content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        await self.work()

    async def ask(self, contact_id: str, text: str | None = "Siap kak", **more: Any) -> Any:
        """What the API answers to a message."""
        body = {"text": text, **more} if text is not None else more
        return await self.client.post(f"/v1/contacts/{contact_id}/messages", json=body)

    async def write(self, contact_id: str, text: str | None = "Siap kak", **more: Any) -> dict[str, Any]:
        answer = await self.ask(contact_id, text, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message as it is by now."""
        answer = await self.client.get(f"/v1/contacts/{message['contact_id']}/messages/{message['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def dispatch(self, *, now: datetime | None = None, house: House = HOUSE, answer_seconds: float = 5.0) -> int:
        """Have the worker send what is due."""
        couriers = Couriers(answer_seconds=answer_seconds)
        try:
            return await dispatch.work_off(
                self.client.database, couriers=couriers, vault=self.vault, house=house,
                clock=lambda: now or datetime.now(UTC),
            )  # fmt: skip
        finally:
            await couriers.close()


def open_post(speak: Any = posts.whatsapp) -> Any:
    return Post(speak).open()
