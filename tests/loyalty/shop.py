"""A shop at the API: a program with one rule, members, and what tests say to it again and again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import httpx

from crm.db.ids import uuid7
from crm.db.session import Session

PROGRAM = {"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"}
RULE = {"name": "base", "kind": "per_amount", "points": 1, "per": "1000"}
ORDER = {"order_ref": "INV-1", "occurred_at": "2026-11-01T09:30:00Z", "currency": "IDR", "total": "45000.00"}
EARNED = 45
"""What ORDER earns by RULE."""

_CHECKSUM = """
    SELECT string_agg(format('SELECT %L AS name, count(*) AS rows, sum(hashtextextended(t::text, 0)) AS sum FROM %I t',
        tablename, tablename), ' UNION ALL ') || ' ORDER BY name'
    FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'pgqueuer%'
"""


class Shop:
    """`client` may be the fixture `client` or `live_client`."""

    def __init__(self, client: Any, program_id: str) -> None:
        self.client = client
        self.program_id = program_id

    @classmethod
    async def open(cls, client: Any) -> "Shop":
        program_id = (await client.post("/v1/programs", json=PROGRAM)).json()["id"]
        assert (await client.post(f"/v1/programs/{program_id}/earning-rules", json=RULE)).status_code == 201
        return cls(client, program_id)

    async def member(self, *, points: int = 0, id: UUID | None = None) -> UUID:  # noqa: A002
        contact_id = id or uuid7()
        async with self.client.database.begin() as session:
            await session.execute(
                "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', now(), now())", contact_id
            )
        if points:
            assert (await self.award(contact_id, points)).status_code == 201
        return contact_id

    async def token(self, contact_id: UUID, **body: Any) -> str:
        """What signs a member in."""
        answer = await self.post(contact_id, "member-tokens", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    async def signed_in(self, contact_id: UUID) -> Any:
        """The API as a member."""
        return self.client.holding(await self.token(contact_id))

    async def post(
        self, contact_id: UUID, path: str, body: dict[str, Any], *, key: str | None = None
    ) -> httpx.Response:
        answer: httpx.Response = await self.client.post(
            f"/v1/contacts/{contact_id}/{path}", json=body, headers={"Idempotency-Key": key} if key else {}
        )
        return answer

    async def get(self, contact_id: UUID, path: str) -> Any:
        """What a read that succeeds answers."""
        answer = await self.client.get(f"/v1/contacts/{contact_id}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def award(self, contact_id: UUID, points: int, *, key: str | None = None, **facts: Any) -> httpx.Response:
        return await self.post(contact_id, "points-awards", {"points": points, "reason": "goodwill", **facts}, key=key)

    async def adjust(self, contact_id: UUID, points: int, *, key: str | None = None, **facts: Any) -> httpx.Response:
        return await self.post(contact_id, "points-adjustments", {"points": points, "reason": "fix", **facts}, key=key)

    async def redeem(self, contact_id: UUID, points: int, *, key: str | None = None, **facts: Any) -> httpx.Response:
        return await self.post(contact_id, "redemptions", {"points": points, **facts}, key=key)

    async def transfer(self, contact_id: UUID, to_contact_id: UUID, points: int) -> httpx.Response:
        return await self.post(contact_id, "points-transfers", {"to_contact_id": str(to_contact_id), "points": points})

    async def reverse(
        self, contact_id: UUID, redemption_id: str, *, key: str | None = None, **facts: Any
    ) -> httpx.Response:
        return await self.post(contact_id, f"redemptions/{redemption_id}/reversal", facts, key=key)

    async def buy(self, contact_id: UUID, *, key: str | None = None, **facts: Any) -> httpx.Response:
        """ORDER, with other facts where they are given; those that are None are left out."""
        order = {name: value for name, value in (ORDER | facts).items() if value is not None}
        return await self.post(contact_id, "purchases", order, key=key)

    async def award_batch(self, *awards: tuple[UUID, int]) -> httpx.Response:
        items = [{"contact_id": str(one), "points": points, "reason": "goodwill"} for one, points in awards]
        answer: httpx.Response = await self.client.post("/v1/points-awards/batch", json={"items": items})
        return answer

    async def balance(self, contact_id: UUID) -> dict[str, Any]:
        balance: dict[str, Any] = await self.get(contact_id, "loyalty")
        return balance

    async def available(self, contact_id: UUID) -> int:
        return int((await self.balance(contact_id))["available"])

    async def transactions(self, contact_id: UUID) -> list[dict[str, Any]]:
        """The newest 200."""
        items: list[dict[str, Any]] = (await self.get(contact_id, "points-transactions?limit=200"))["items"]
        return items


async def at_once(*requests: Awaitable[httpx.Response]) -> list[httpx.Response]:
    return await asyncio.gather(*requests)


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


def refusals(answers: list[httpx.Response]) -> Counter[str]:
    return Counter(answer.json()["code"] for answer in answers if answer.status_code >= 400)


async def checksum(session: Session) -> list[tuple[Any, ...]]:
    """All tables, each as a number: two of these are equal only where every row of every table is."""
    return [tuple(row) for row in await session.fetch(await session.fetchval(_CHECKSUM))]
