"""Whatever happens before, between and after: a merge and its undoing lose no point, and the ledger stays sound.

`CRM_TEST_EXAMPLES` says how many histories are tried.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.app import create_app
from crm.db.session import Session, prepare
from crm.loyalty import audit
from tests.conftest import Client, RolledBack
from tests.interactions.test_merges import DEWI, SARI, contact, lasting, made, merge, undo
from tests.loyalty.shop import Shop

EXAMPLES = int(os.environ.get("CRM_TEST_EXAMPLES", "40"))

KINDS = ("award", "award later", "buy", "redeem", "refund", "reverse", "debt", "tag", "rename")
STEP = st.tuples(st.sampled_from(KINDS), st.integers(0, 1), st.integers(1, 60))
HISTORY = st.lists(STEP, max_size=6)


class Desk:
    """A shop and two records of one person, in a transaction that each example begins with and nobody commits."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._dsn = dsn
        self._ended = asyncio.Event()
        self.run(self._open())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def close(self) -> None:
        self.run(self._close())
        self._runner.close()

    async def begin(self) -> None:
        await self._connection.execute("ROLLBACK TO SAVEPOINT start")
        self.orders: list[str] = []
        self.redemptions: list[str] = []
        self.total = 0

    async def carry_out(self, kind: str, who: UUID, number: int) -> None:
        """One step, at either id; what it changed of all points together is counted by what it answers."""
        if kind in {"refund", "reverse"}:
            await self._undo(kind, who, number)
        elif kind in {"tag", "rename"}:
            await self._change(kind, who, number)
        else:
            await self._post(kind, who, number)

    async def _post(self, kind: str, who: UUID, number: int) -> None:
        match kind:
            case "award":
                answer = await self.shop.award(who, number)
            case "award later":
                answer = await self.shop.award(who, number, activates_at="2199-01-01T00:00:00Z")
            case "debt":
                answer = await self.shop.adjust(who, -number, allow_negative=True)
            case "buy":
                ref = f"INV-{len(self.orders)}"
                answer = await self.shop.buy(who, order_ref=ref, total=f"{number * 1000}.00")
                self.orders.append(ref)
            case _:
                answer = await self.shop.redeem(who, number)
                if answer.status_code == 409:
                    return
                self.redemptions.append(answer.json()["id"])
                self.total -= 2 * number
        assert answer.status_code == 201, answer.text
        self.total += answer.json()["points"] + _of_cards(answer.json(), "points")

    async def _undo(self, kind: str, who: UUID, number: int) -> None:
        if kind == "refund" and self.orders:
            body = {"refund_ref": f"r{number}", "amount": "1000.00"}
            ref = self.orders[number % len(self.orders)]
            answer = await self.shop.post(who, f"purchases/{ref}/refunds", body)
            if answer.status_code == 201:
                self.total -= answer.json()["points_taken_back"] + _of_cards(answer.json(), "points_taken_back")
        elif kind == "reverse" and self.redemptions:
            answer = await self.shop.reverse(who, self.redemptions[number % len(self.redemptions)])
            self.total += answer.json()["points_returned"] if answer.status_code == 201 else 0

    async def _change(self, kind: str, who: UUID, number: int) -> None:
        if kind == "tag":
            await self.client.put(f"/v1/contacts/{who}/tags/t{number % 3}")
        else:
            await self.client.patch(f"/v1/contacts/{who}", json={"name": f"Sari {number}"})

    async def points(self, *people: UUID) -> int:
        balances = [await self.shop.balance(who) for who in people]
        return sum(balance["available"] + balance["pending"] for balance in balances)

    async def sound(self) -> None:
        assert (await audit.verify(self.session)).findings == []

    async def _open(self) -> None:
        self._connection = await asyncpg.connect(self._dsn)
        await prepare(self._connection)
        await self._connection.execute("BEGIN")
        self.session = Session(self._connection)
        database = RolledBack(self.session)
        app, asgi = create_app(lambda: nullcontext(database))
        started = asyncio.Event()

        async def live() -> None:
            async with app.lifespan():
                started.set()
                await self._ended.wait()

        self._life = asyncio.create_task(live())
        await started.wait()
        self.client = await Client.make(asgi, database, "*")
        self.shop = await Shop.open(self.client)
        self.people = [await made(self.client, SARI), await made(self.client, DEWI)]
        for name, threshold in (("Silver", 40), ("Gold", 90)):
            await self.client.post(
                f"/v1/programs/{self.shop.program_id}/tiers", json={"name": name, "threshold": threshold}
            )
        challenge = {"name": "Visits", "event": "purchase", "goal": 2, "points": 7}
        await self.client.post(f"/v1/programs/{self.shop.program_id}/challenges", json=challenge)
        await self._connection.execute("SAVEPOINT start")

    async def _close(self) -> None:
        await self.client.aclose()
        self._ended.set()
        await self._life
        await self._connection.execute("ROLLBACK")
        await self._connection.close()


def _of_cards(answer: dict[str, Any], name: str) -> int:
    return sum(card[name] for challenge in answer.get("challenges", ()) for card in challenge["cards"])


@pytest.fixture(scope="module")
def desk(dsn: str) -> Iterator[Desk]:
    desk = Desk(dsn)
    yield desk
    desk.close()


EACH = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@EACH
@given(before=HISTORY, direction=st.integers(0, 1))
def test_a_merge_that_nobody_used_leaves_no_trace_when_it_is_undone(desk, before, direction):
    async def example() -> None:
        await desk.begin()
        for kind, who, number in before:
            await desk.carry_out(kind, desk.people[who], number)
        was = [(lasting(await contact(desk.client, who)), await desk.shop.balance(who)) for who in desk.people]
        survivor, other = desk.people[direction], desk.people[1 - direction]
        merged = await merge(desk.client, survivor, other)
        assert (await undo(desk.client, merged))["not_undone"] == []
        assert [
            (lasting(await contact(desk.client, who)), await desk.shop.balance(who)) for who in desk.people
        ] == was  # fmt: skip
        await desk.sound()

    desk.run(example())


@EACH
@given(before=HISTORY, between=HISTORY, after=HISTORY, direction=st.integers(0, 1))
def test_no_point_is_lost_or_made_by_merging_and_undoing(desk, before, between, after, direction):
    async def example() -> None:
        await desk.begin()
        survivor, other = desk.people[direction], desk.people[1 - direction]
        for kind, who, number in before:
            await desk.carry_out(kind, desk.people[who], number)
        merged = await merge(desk.client, survivor, other)
        assert await desk.points(survivor) == await desk.points(other) == desk.total
        for kind, who, number in between:
            await desk.carry_out(kind, desk.people[who], number)
        assert await desk.points(survivor) == await desk.points(other) == desk.total
        await desk.sound()
        await undo(desk.client, merged)
        assert await desk.points(survivor, other) == desk.total
        for kind, who, number in after:
            await desk.carry_out(kind, desk.people[who], number)
        assert await desk.points(survivor, other) == desk.total
        await desk.sound()
        again = await merge(desk.client, other, survivor)
        assert await desk.points(survivor) == desk.total
        await undo(desk.client, again)
        assert await desk.points(survivor, other) == desk.total
        await desk.sound()

    desk.run(example())
