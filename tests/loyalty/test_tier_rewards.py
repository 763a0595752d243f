"""What a tier gives on entry and on renewal: once, and not for long where a refund takes the tier."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.loyalty import ledger
from crm.loyalty.ledger import Award
from tests.loyalty.shelf import Shelf

pytestmark = pytest.mark.usefixtures("audited_session")

NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)


@pytest.fixture
async def shelf(client: Any) -> Shelf:
    return await Shelf.open(client)


async def gold(shelf: Shelf, *rewards: dict[str, Any], threshold: int = 45) -> None:
    benefits = {"reward_ids": [reward["id"] for reward in rewards]}
    answer = await shelf.client.post(
        f"/v1/programs/{shelf.program_id}/tiers", json={"name": "Gold", "threshold": threshold, "benefits": benefits}
    )
    assert answer.status_code == 201, answer.text


async def given(shelf: Shelf, who: UUID) -> list[tuple[str, int, str]]:
    """Rewards in the member's hands, oldest first: name, points paid, state."""
    items = (await shelf.get(who, "redemptions"))["items"][::-1]
    return [(each["reward"]["name"], each["points"], each["status"]) for each in items]


async def test_whoever_enters_a_tier_gets_its_rewards_once(shelf):
    coffee, cake = (
        await shelf.reward(name="Coffee", fulfilment="voucher"),
        await shelf.reward(name="Cake", fulfilment="manual"),
    )
    await gold(shelf, coffee, cake)
    sari = await shelf.member()
    await shelf.buy(sari, total="44000")
    assert await given(shelf, sari) == []
    await shelf.buy(sari, order_ref="INV-2", total="1000")
    assert sorted(await given(shelf, sari)) == [("Cake", 0, "requested"), ("Coffee", 0, "issued")]
    await shelf.buy(sari, order_ref="INV-3", total="90000")
    assert len(await given(shelf, sari)) == 2
    kinds = [each["kind"] for each in (await shelf.get(sari, "timeline"))["items"]]
    assert (kinds.count("tier.changed"), kinds.count("reward.granted")) == (1, 2)


async def test_every_member_of_a_batch_gets_theirs(shelf):
    await gold(shelf, await shelf.reward(name="Coffee", fulfilment="voucher"))
    people = [await shelf.member() for _ in range(3)]
    await shelf.award_batch(*((one, 45) for one in people))
    assert [await given(shelf, one) for one in people] == [[("Coffee", 0, "issued")]] * 3


async def test_a_refund_that_takes_the_tier_cancels_what_was_not_used(shelf):
    coffee = await shelf.reward(name="Coffee", fulfilment="voucher", stock=5)
    await gold(shelf, coffee)
    sari = await shelf.member()
    await shelf.buy(sari)
    assert await shelf.stock(coffee) == 4
    answer = await shelf.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": "1000"})
    assert answer.json()["tier"]["current"] is None
    assert (await given(shelf, sari), await shelf.stock(coffee)) == ([("Coffee", 0, "reversed")], 5)
    await shelf.buy(sari, order_ref="INV-2")
    assert await given(shelf, sari) == [("Coffee", 0, "reversed"), ("Coffee", 0, "issued")]


async def test_what_was_used_stays_and_is_not_given_again(shelf):
    await gold(shelf, await shelf.reward(name="Coffee", fulfilment="voucher"))
    sari = await shelf.member()
    await shelf.buy(sari)
    code = (await shelf.get(sari, "redemptions"))["items"][0]["voucher"]["code"]
    used = await shelf.client.post(f"/v1/vouchers/{code}/redemptions", json={"contact_id": str(sari), "ref": "R-1"})
    assert used.status_code == 201
    await shelf.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": "45000"})
    assert await given(shelf, sari) == [("Coffee", 0, "used")]
    await shelf.buy(sari, order_ref="INV-2")
    assert await given(shelf, sari) == [("Coffee", 0, "used")]


async def test_a_tier_that_is_kept_at_its_evaluation_gives_its_rewards_again(shelf, session):
    await gold(shelf, await shelf.reward(name="Coffee", fulfilment="voucher"))
    policy = {"basis": "points", "window": "rolling_months", "months": 12, "downgrade": "reassess"}
    assert (await shelf.client.put(f"/v1/programs/{shelf.program_id}/tier-policy", json=policy)).status_code == 200
    sari = await shelf.member()

    async def award(points: int, now: datetime) -> None:
        given = Award(sari, points, "goodwill")
        await ledger.award(session, program_id=None, award=given, by="t", once=None, now=now)

    await award(45, NOON)
    await award(45, NOON.replace(year=2027, month=5))
    assert await given(shelf, sari) == [("Coffee", 0, "issued")]
    await award(1, NOON.replace(year=2027, month=12))
    assert await given(shelf, sari) == [("Coffee", 0, "issued")] * 2
    await award(1, NOON.replace(year=2027, month=12, day=2))
    assert len(await given(shelf, sari)) == 2
    kinds = [each["kind"] for each in (await shelf.get(sari, "timeline"))["items"]]
    assert kinds.count("tier.renewed") == 1


async def test_an_empty_shelf_stops_nobody_from_rising(shelf):
    await gold(shelf, await shelf.reward(name="Coffee", fulfilment="voucher", stock=0))
    sari = await shelf.member()
    assert (await shelf.buy(sari)).json()["tier"]["current"]["name"] == "Gold"
    assert await given(shelf, sari) == []


async def test_a_tier_gives_only_rewards_that_there_are(shelf):
    answer = await shelf.client.post(
        f"/v1/programs/{shelf.program_id}/tiers",
        json={"name": "Gold", "threshold": 1, "benefits": {"reward_ids": [str(uuid7())]}},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_reward")
    assert answer.json()["errors"][0]["pointer"] == "/benefits/reward_ids"
