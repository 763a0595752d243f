"""A shelf whose shop makes offers, and what tests say to it again and again."""

from typing import Any
from uuid import UUID

import httpx

from crm.db.ids import uuid7
from tests.loyalty.shelf import Shelf

POINTS = {"kind": "bonus_points", "points": 50}
DOUBLE = {"kind": "multiplier", "factor": "2"}
VOUCHER = {"kind": "voucher"}


class Market(Shelf):
    """A shelf with offers."""

    @property
    def offers(self) -> str:
        return f"/v1/programs/{self.program_id}/offers"

    async def ask_offer(self, *, key: str | None = None, **facts: Any) -> httpx.Response:
        """Ask for an offer of POINTS to everybody, with other facts where they are given."""
        answer: httpx.Response = await self.client.post(
            self.offers,
            json={"name": "Thank you", "benefit": POINTS} | facts,
            headers={"Idempotency-Key": key} if key else {},
        )
        return answer

    async def offer(self, *people: UUID, **facts: Any) -> dict[str, Any]:
        """A new offer, to these people where some are named."""
        if people:
            named = {"contact_ids": [str(contact_id) for contact_id in people]}
            facts["audience"] = facts.get("audience", {}) | named
        answer = await self.ask_offer(**facts)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def read_offer(self, offer: dict[str, Any]) -> dict[str, Any]:
        answer = await self.client.get(f"{self.offers}/{offer['id']}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ask_change_of_offer(self, offer: dict[str, Any], **facts: Any) -> httpx.Response:
        answer: httpx.Response = await self.client.patch(f"{self.offers}/{offer['id']}", json=facts)
        return answer

    async def change_offer(self, offer: dict[str, Any], **facts: Any) -> dict[str, Any]:
        answer = await self.ask_change_of_offer(offer, **facts)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def end_offer(self, offer: dict[str, Any]) -> None:
        assert (await self.client.delete(f"{self.offers}/{offer['id']}")).status_code == 204

    async def claim(
        self, contact_id: UUID, offer: dict[str, Any], *, key: str | None = None, **facts: Any
    ) -> httpx.Response:
        return await self.post(contact_id, f"offers/{offer['id']}/claims", facts, key=key)

    async def claimed(self, contact_id: UUID, offer: dict[str, Any]) -> dict[str, Any]:
        """What a claim that succeeds answers."""
        answer = await self.claim(contact_id, offer)
        assert answer.status_code == 201, answer.text
        given: dict[str, Any] = answer.json()
        return given

    async def claim_by(self, contact_id: UUID, code: str, *, key: str | None = None) -> httpx.Response:
        return await self.post(contact_id, "offer-claims", {"code": code}, key=key)

    async def offered(self, contact_id: UUID, query: str = "") -> list[dict[str, Any]]:
        """What the contact is offered, best first."""
        items: list[dict[str, Any]] = (await self.get(contact_id, f"offers?limit=200{query}"))["items"]
        return items

    async def names(self, contact_id: UUID) -> set[str]:
        """The names of what the contact is offered."""
        return {offer["name"] for offer in await self.offered(contact_id)}

    async def recipients(self, offer: dict[str, Any]) -> dict[UUID, dict[str, Any]]:
        answer = await self.client.get(f"{self.offers}/{offer['id']}/contacts?limit=200")
        assert answer.status_code == 200, answer.text
        return {UUID(item["contact_id"]): item for item in answer.json()["items"]}

    async def person(self, **facts: Any) -> UUID:
        answer = await self.client.post("/v1/contacts", json={"name": "Sari", **facts})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def bought(self, contact_id: UUID, **facts: Any) -> dict[str, Any]:
        """What a new order answers."""
        answer = await self.buy(contact_id, **{"order_ref": str(uuid7()), **facts})
        assert answer.status_code == 201, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded


def line(sku: str, price: str, category: str | None = None) -> dict[str, Any]:
    about = {} if category is None else {"category": category}
    return {"sku": sku, "quantity": "1", "unit_price": price, **about}
