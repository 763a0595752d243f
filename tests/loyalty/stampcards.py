"""A shop with challenges and referrals, and what tests say to it again and again."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from crm.db.ids import uuid7
from tests.loyalty.shelf import Shelf

CARD = {"name": "Ten visits", "event": "purchase", "goal": 10, "points": 50}
PROMISE = {"referrer_points": 100, "referee_points": 50, "min_spend": "50000.00", "hold_days": 14}


class Club(Shelf):
    """A shop whose members collect stamps and bring their friends. Its earning rule gives a point for each 1,000."""

    async def challenge(self, **facts: Any) -> dict[str, Any]:
        """CARD, with other facts where they are given; those that are None are left out."""
        body = {name: value for name, value in (CARD | facts).items() if value is not None}
        answer = await self.client.post(f"/v1/programs/{self.program_id}/challenges", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def alter(self, challenge: dict[str, Any], **facts: Any) -> httpx.Response:
        url = f"/v1/programs/{self.program_id}/challenges/{challenge['id']}"
        answer: httpx.Response = await self.client.patch(url, json=facts)
        return answer

    async def visit(self, contact_id: UUID, order_ref: str | None = None, **facts: Any) -> dict[str, Any]:
        """A purchase that is recorded: what was answered."""
        answer = await self.buy(contact_id, order_ref=order_ref or str(uuid7()), **facts)
        assert answer.status_code in {200, 201}, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded

    async def happen(self, contact_id: UUID, event: str, ref: str | None = None, **facts: Any) -> dict[str, Any]:
        """An event that is recorded: what was answered."""
        body = {"event": event, "ref": ref or str(uuid7()), **facts}
        answer = await self.post(contact_id, "events", body)
        assert answer.status_code in {200, 201}, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded

    async def refund(self, contact_id: UUID, order_ref: str, ref: str = "CN-1", **what: Any) -> dict[str, Any]:
        """A refund that is recorded: what was answered."""
        answer = await self.post(contact_id, f"purchases/{order_ref}/refunds", {"refund_ref": ref, **what})
        assert answer.status_code in {200, 201}, answer.text
        refunded: dict[str, Any] = answer.json()
        return refunded

    async def card(self, contact_id: UUID, challenge: dict[str, Any] | None = None) -> dict[str, Any]:
        """How far the member has come with a challenge, or with the only one."""
        items = (await self.get(contact_id, "challenges"))["items"]
        found: dict[str, Any] = next(item for item in items if challenge is None or item["id"] == challenge["id"])
        return found

    async def stands(self, contact_id: UUID, challenge: dict[str, Any] | None = None) -> tuple[int, int, int]:
        """The stamps on the member's present card, all stamps, and how many cards are full."""
        card = await self.card(contact_id, challenge)
        return card["current"], card["total"], card["completed"]

    async def entries(self, contact_id: UUID, kind: str) -> list[dict[str, Any]]:
        """What the member's timeline tells of this kind, newest first."""
        items = (await self.get(contact_id, f"timeline?kind={kind}&limit=200"))["items"]
        return [item["data"] for item in items]

    async def promise(self, **facts: Any) -> None:
        """PROMISE, with other facts where they are given."""
        answer = await self.client.put(f"/v1/programs/{self.program_id}/referral-policy", json=PROMISE | facts)
        assert answer.status_code == 200, answer.text

    async def code(self, contact_id: UUID) -> str:
        code: str = (await self.get(contact_id, "referral-code"))["code"]
        return code

    async def refer(self, contact_id: UUID, code: str, *, key: str | None = None) -> httpx.Response:
        """The contact came with this code."""
        return await self.post(contact_id, "referrals", {"code": code}, key=key)

    async def friend_of(self, referrer_id: UUID) -> UUID:
        """Somebody new who came with the member's code."""
        friend = await self.member()
        answer = await self.refer(friend, await self.code(referrer_id))
        assert answer.status_code == 201, answer.text
        return friend

    async def referral(self, contact_id: UUID) -> dict[str, Any]:
        """The newest one, as this contact has it."""
        newest: dict[str, Any] = (await self.get(contact_id, "referrals"))["items"][0]
        return newest

    async def identify(self, contact_id: UUID, kind: str, value: str) -> None:
        answer = await self.client.post(f"/v1/contacts/{contact_id}/identities", json={"kind": kind, "value": value})
        assert answer.status_code == 201, answer.text


def counted(recorded: dict[str, Any]) -> list[tuple[int, str]]:
    """How many stamps a fact had for each challenge, and why."""
    return [(each["stamps"], each["reason"]) for each in recorded["challenges"]]


def at(moment: datetime) -> str:
    return moment.isoformat()
