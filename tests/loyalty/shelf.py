"""A shop with a reward catalogue, and what tests say to it again and again."""

from typing import Any
from uuid import UUID

import httpx

from tests.loyalty.shop import Shop


class Shelf(Shop):
    """A shop whose members can have rewards and use vouchers."""

    async def reward(self, **facts: Any) -> dict[str, Any]:
        """A new reward that costs 100, with other facts where they are given."""
        answer = await self.client.post(f"/v1/programs/{self.program_id}/rewards", json=NEW | facts)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def change(self, reward: dict[str, Any], **facts: Any) -> dict[str, Any]:
        answer = await self.client.patch(f"/v1/programs/{self.program_id}/rewards/{reward['id']}", json=facts)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def stock(self, reward: dict[str, Any]) -> int | None:
        answer = await self.client.get(f"/v1/programs/{self.program_id}/rewards/{reward['id']}")
        left: int | None = answer.json()["stock"]
        return left

    async def get_reward(
        self, contact_id: UUID, reward: dict[str, Any], *, key: str | None = None, **facts: Any
    ) -> httpx.Response:
        return await self.post(contact_id, "redemptions", {"reward_id": reward["id"], **facts}, key=key)

    async def advance(self, contact_id: UUID, redemption_id: str, status: str) -> httpx.Response:
        answer: httpx.Response = await self.client.patch(
            f"/v1/contacts/{contact_id}/redemptions/{redemption_id}", json={"status": status}
        )
        return answer

    async def choice(self, contact_id: UUID, reward: dict[str, Any]) -> dict[str, Any]:
        """The reward as the member sees it."""
        items = (await self.get(contact_id, "rewards?limit=200"))["items"]
        return next(item for item in items if item["id"] == reward["id"])

    async def tier(self, name: str, threshold: int) -> dict[str, Any]:
        answer = await self.client.post(
            f"/v1/programs/{self.program_id}/tiers", json={"name": name, "threshold": threshold}
        )
        made: dict[str, Any] = answer.json()
        return made

    async def voucher(self, **facts: Any) -> dict[str, Any]:
        answer = await self.client.post(f"/v1/programs/{self.program_id}/vouchers", json=facts)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def pool(self, **facts: Any) -> dict[str, Any]:
        answer = await self.client.post(f"/v1/programs/{self.program_id}/voucher-pools", json={"name": "Pool", **facts})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def check(self, code: str, contact_id: UUID | None = None) -> dict[str, Any]:
        """What is said of a voucher that there is."""
        answer = await self.client.get(f"/v1/vouchers/{code}{f'?contact={contact_id}' if contact_id else ''}")
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def use(self, code: str, contact_id: UUID, ref: str, *, key: str | None = None) -> httpx.Response:
        answer: httpx.Response = await self.client.post(
            f"/v1/vouchers/{code}/redemptions",
            json={"contact_id": str(contact_id), "ref": ref},
            headers={"Idempotency-Key": key} if key else {},
        )
        return answer

    async def roll_back(self, code: str, use_id: str) -> int:
        answer = await self.client.delete(f"/v1/vouchers/{code}/redemptions/{use_id}")
        return int(answer.status_code)

    async def told(self, contact_id: UUID) -> list[str]:
        """The kinds on the member's timeline, newest first."""
        return [item["kind"] for item in (await self.get(contact_id, "timeline"))["items"]]


NEW = {"name": "Coffee", "cost": 100}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a refusal with this code."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem
