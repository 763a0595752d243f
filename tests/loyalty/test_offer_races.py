"""Many at once for the last claim, with changes between them, over the whole API with real commits."""

import asyncio
import random
from typing import Any

import pytest

from tests.loyalty.market import DOUBLE, VOUCHER, Market
from tests.loyalty.shop import EARNED, at_once, refusals, statuses

pytestmark = pytest.mark.usefixtures("audited_database")


@pytest.fixture
async def market(live_client: Any) -> Market:
    return await Market.open(live_client)


@pytest.mark.parametrize("kind", ["bonus_points", "voucher", "reward", "multiplier"])
async def test_of_fifty_members_who_want_the_last_one_gets_it(market, kind):
    reward = await market.reward(stock=50)
    benefit = {
        "bonus_points": {"kind": kind, "points": 50}, "voucher": VOUCHER, "multiplier": DOUBLE,
        "reward": {"kind": kind, "reward_id": reward["id"]},
    }[kind]  # fmt: skip
    offer = await market.offer(benefit=benefit, claims_max=1)
    members = [await market.member() for _ in range(50)]
    answers = await at_once(*(market.claim(member, offer) for member in members))
    assert statuses(answers) == {201: 1, 409: 49}
    assert refusals(answers) == {"limit_reached": 49}
    assert (await market.read_offer(offer))["claims_left"] == 0
    assert await market.stock(reward) == (49 if kind == "reward" else 50)
    async with market.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM offer_claims") == 1
        assert await session.fetchval("SELECT count(*) FROM vouchers") == (kind == "voucher")
        assert await session.fetchval("SELECT count(*) FROM redemptions") == (kind == "reward")
        assert await session.fetchval("SELECT count(*) FROM points_transactions") == (kind == "bonus_points")
        assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'offer.claimed'") == 1
        assert await session.fetchval("SELECT count(*) FROM code_directory") == (kind == "voucher")


async def test_of_fifty_requests_of_one_member_as_many_succeed_as_one_may(market):
    offer = await market.offer(claims_max_per_member=3)
    sari = await market.member()
    answers = await at_once(*(market.claim(sari, offer) for _ in range(50)))
    assert statuses(answers) == {201: 3, 409: 47}
    assert refusals(answers) == {"limit_reached": 47}
    assert sorted(answer.json()["number"] for answer in answers if answer.status_code == 201) == [1, 2, 3]
    assert await market.available(sari) == 150


async def test_one_key_is_one_claim_however_often_it_is_sent_at_once(market):
    offer = await market.offer(claims_max=9, claims_max_per_member=9)
    sari = await market.member()
    answers = await at_once(*(market.claim(sari, offer, key="k") for _ in range(20)))
    assert statuses(answers) == {201: 20}
    assert len({answer.text for answer in answers}) == 1
    assert (await market.read_offer(offer))["claims_left"] == 8


async def test_members_of_an_offer_without_a_maximum_share_no_row(market):
    """A claim that is under way keeps nobody else from theirs."""
    offer, counted = await market.offer(), await market.offer(claims_max=9)
    sari, budi = await market.member(), await market.member()
    async with market.client.database.begin() as session:
        await session.execute("SELECT FROM offers FOR UPDATE")
        await session.execute("SELECT FROM offer_counts FOR UPDATE")
        answer = await asyncio.wait_for(market.claim(sari, offer), 5)
        assert answer.status_code == 201
        waiting = asyncio.create_task(market.claim(budi, counted))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    assert (await waiting).status_code == 201


async def test_a_maximum_that_is_set_while_members_claim_holds_and_counts_all(market):
    chance = random.Random(5)
    for round_number in range(4):
        offer = await market.offer(name=f"Round {round_number}", benefit=VOUCHER)
        members = [await market.member() for _ in range(12)]

        async def claim(member: Any, offer: dict[str, Any] = offer) -> Any:
            await asyncio.sleep(chance.random() * 0.05)
            return await market.claim(member, offer)

        async def limit(offer: dict[str, Any] = offer) -> Any:
            await asyncio.sleep(0.02)
            return await market.ask_change_of_offer(offer, claims_max=6)

        *answers, changed = await asyncio.gather(*(claim(member) for member in members), limit())
        assert changed.status_code == 200
        claimed = statuses(answers)[201]
        assert claimed >= 6
        assert (await market.read_offer(offer))["claims_left"] == 0
        async with market.client.database.reading() as session:
            assert await session.fetchval(
                "SELECT claimed FROM offer_counts WHERE offer_id = $1::text::uuid", offer["id"]
            ) == claimed  # fmt: skip


async def test_claims_of_several_offers_and_a_shared_reward_never_wait_in_a_circle(market):
    reward = await market.reward(stock=30)
    benefit = {"kind": "reward", "reward_id": reward["id"]}
    made = [
        await market.offer(name=f"Offer {number}", benefit=benefit, claims_max=12, claims_max_per_member=4)
        for number in range(3)
    ]
    members = [await market.member() for _ in range(6)]
    wanted = [(member, offer) for member in members for offer in made for _ in range(3)]
    random.Random(7).shuffle(wanted)
    answers = await at_once(*(market.claim(member, offer) for member, offer in wanted))
    assert set(statuses(answers)) == {201, 409}
    assert statuses(answers)[201] == 30
    assert refusals(answers).keys() <= {"limit_reached", "out_of_stock"}
    assert await market.stock(reward) == 0


async def test_two_who_ask_for_their_code_at_once_get_the_same(market):
    offer = await market.offer(personal_code=True)
    sari = await market.member()
    url = f"/v1/contacts/{sari}/offers/{offer['id']}/code"
    answers = await at_once(*(market.client.put(url) for _ in range(10)))
    assert statuses(answers) == {200: 10}
    assert len({answer.json()["code"] for answer in answers}) == 1


async def test_a_purchase_sees_a_multiplier_as_soon_as_it_is_claimed(market):
    offer = await market.offer(benefit=DOUBLE)
    sari = await market.member()
    answers = await asyncio.gather(market.claim(sari, offer), *(market.bought(sari) for _ in range(8)))
    assert answers[0].status_code == 201
    assert {bought["points"] for bought in answers[1:]} <= {EARNED, 2 * EARNED}
    assert (await market.bought(sari))["points"] == 2 * EARNED


async def test_a_purchase_behind_a_change_is_judged_by_what_the_offer_says_then(market):
    """The compiled program is known in memory: a purchase behind a change is judged by what it says then."""
    sari = await market.member()
    offer = await market.offer(benefit=DOUBLE, auto=True)
    for factor in ("3", "4"):
        await market.change_offer(offer, benefit={"kind": "multiplier", "factor": factor})
        assert (await market.bought(sari))["points"] == int(factor) * EARNED
