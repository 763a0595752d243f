"""Many at once for the last reward, the last code and the last use, over the whole API with real commits."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tests.loyalty.shelf import Shelf
from tests.loyalty.shop import at_once, refusals, statuses

pytestmark = pytest.mark.usefixtures("audited_database")


@pytest.fixture
async def shelf(live_client: Any) -> Shelf:
    return await Shelf.open(live_client)


@pytest.mark.parametrize("facts", [{}, {"fulfilment": "voucher"}, {"limits": [{"times": 1, "per": "day"}]}])
async def test_of_fifty_members_who_want_the_last_one_gets_it(shelf, facts):
    reward = await shelf.reward(stock=1, **facts)
    members = [await shelf.member(points=100) for _ in range(50)]
    answers = await at_once(*(shelf.get_reward(member, reward) for member in members))
    assert statuses(answers) == {201: 1, 409: 49}
    assert refusals(answers) == {"out_of_stock": 49}
    assert await shelf.stock(reward) == 0
    points = Counter([await shelf.available(member) for member in members])
    assert points == {0: 1, 100: 49}
    async with shelf.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM redemptions") == 1
        assert await session.fetchval("SELECT count(*) FROM vouchers") == (1 if "fulfilment" in facts else 0)
        assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'reward.redeemed'") == 1


async def test_of_fifty_requests_of_one_member_for_the_last_one_succeeds(shelf):
    reward = await shelf.reward(stock=1)
    sari = await shelf.member(points=100)
    answers = await at_once(*(shelf.get_reward(sari, reward) for _ in range(50)))
    assert statuses(answers) == {201: 1, 409: 49}
    assert refusals(answers) == {"out_of_stock": 49}


async def test_a_member_s_limit_holds_however_many_ask(shelf):
    reward = await shelf.reward(limits=[{"times": 3, "per": "month"}])
    sari = await shelf.member(points=5000)
    answers = await at_once(*(shelf.get_reward(sari, reward) for _ in range(20)))
    assert statuses(answers) == {201: 3, 409: 17}
    assert refusals(answers) == {"limit_reached": 17}
    assert await shelf.available(sari) == 4700


async def test_every_code_of_a_pool_goes_to_one_member(shelf):
    reward = await shelf.reward(fulfilment="voucher")
    await shelf.pool(codes=[f"KINO-{number:03}" for number in range(12)], reward_id=reward["id"])
    members = [await shelf.member(points=100) for _ in range(20)]
    answers = await at_once(*(shelf.get_reward(member, reward) for member in members))
    assert statuses(answers) == {201: 12, 409: 8}
    assert refusals(answers) == {"out_of_stock": 8}
    drawn = [answer.json()["voucher"]["code"] for answer in answers if answer.status_code == 201]
    assert len(set(drawn)) == 12
    assert Counter([await shelf.available(member) for member in members]) == {0: 12, 100: 8}


async def test_an_order_s_reward_is_bought_once_however_often_it_is_sent(shelf):
    reward = await shelf.reward(stock=9, fulfilment="voucher")
    sari = await shelf.member(points=1000)
    answers = await at_once(*(shelf.get_reward(sari, reward, order_ref="INV-1") for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({(answer.json()["id"], answer.json()["voucher"]["code"]) for answer in answers}) == 1
    assert await shelf.stock(reward) == 8


async def test_rewards_bought_and_brought_back_at_once_leave_what_there_was(shelf):
    rewards = [await shelf.reward(stock=3), await shelf.reward(name="Cake", stock=2, fulfilment="voucher")]
    members = [await shelf.member(points=300) for _ in range(8)]
    chance = random.Random(4)

    async def visit(member: Any) -> int:
        bought = 0
        for _ in range(8):
            answer = await shelf.get_reward(member, chance.choice(rewards))
            assert answer.status_code in (201, 409), answer.text
            if answer.status_code == 201:
                bought += 1
                back = await at_once(*(shelf.reverse(member, answer.json()["id"]) for _ in range(2)))
                assert statuses(back) == {201: 1, 200: 1}
        return bought

    assert sum(await asyncio.gather(*(visit(member) for member in members))) > 8
    assert [await shelf.stock(reward) for reward in rewards] == [3, 2]
    assert {await shelf.available(member) for member in members} == {300}


async def test_a_reward_is_either_handed_over_or_brought_back(shelf):
    reward = await shelf.reward()
    sari = await shelf.member(points=2000)
    for _ in range(10):
        bought = (await shelf.get_reward(sari, reward)).json()
        given, back = await at_once(shelf.advance(sari, bought["id"], "fulfilled"), shelf.reverse(sari, bought["id"]))
        assert sorted((given.status_code, back.status_code)) in ([200, 409], [201, 409])


async def test_a_voucher_of_a_reward_is_either_used_or_brought_back(shelf):
    reward = await shelf.reward(fulfilment="voucher")
    sari = await shelf.member(points=2000)
    for number in range(10):
        bought = (await shelf.get_reward(sari, reward)).json()
        used, back = await at_once(
            shelf.use(bought["voucher"]["code"], sari, f"INV-{number}"), shelf.reverse(sari, bought["id"])
        )
        assert sorted((used.status_code, back.status_code)) == [201, 409]


@pytest.mark.parametrize("members_count", [1, 20])
async def test_of_twenty_uses_of_a_single_use_code_one_succeeds(shelf, members_count):
    await shelf.voucher(code="KOPI-10", uses_max=1)
    members = [await shelf.member() for _ in range(members_count)] * (20 // members_count)
    answers = await at_once(*(shelf.use("KOPI-10", one, f"INV-{number}") for number, one in enumerate(members)))
    assert statuses(answers) == {201: 1, 409: 19}
    assert refusals(answers) == {"voucher_invalid": 19}
    assert {why["code"] for one in answers if one.status_code == 409 for why in one.json()["why_not"]} == {"used_up"}
    assert (await shelf.check("KOPI-10"))["uses_left"] == 0


async def test_a_code_is_used_by_each_member_as_often_as_one_may(shelf):
    await shelf.voucher(code="KOPI-10", uses_max=10, uses_max_per_member=2)
    members = [await shelf.member() for _ in range(4)]
    answers = await at_once(
        *(shelf.use("KOPI-10", member, f"{member}-{number}") for number in range(5) for member in members)
    )
    assert statuses(answers) == {201: 8, 409: 12}
    by_member = Counter(answer.json()["contact_id"] for answer in answers if answer.status_code == 201)
    assert by_member == {str(member): 2 for member in members}
    assert (await shelf.check("KOPI-10"))["uses_left"] == 2


async def test_one_ref_is_one_use_however_often_it_is_sent(shelf):
    await shelf.voucher(code="KOPI-10", uses_max=5)
    sari, budi = await shelf.member(), await shelf.member()
    answers = await at_once(*(shelf.use("KOPI-10", sari, "INV-1") for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["id"] for answer in answers}) == 1
    back = await asyncio.gather(*(shelf.roll_back("KOPI-10", answers[0].json()["id"]) for _ in range(10)))
    assert set(back) == {204}
    assert (await shelf.check("KOPI-10"))["uses_left"] == 5
    for number in range(5):
        answers = await at_once(*(shelf.use("KOPI-10", one, f"R-{number}") for one in (sari, budi)))
        assert statuses(answers)[201] == 1
        assert refusals(answers) in ({"ref_reused": 1}, {"unavailable": 1})
    assert (await shelf.check("KOPI-10"))["uses_left"] == 0


async def test_a_chosen_code_is_taken_by_one(shelf):
    answers = await at_once(
        *(
            shelf.client.post(f"/v1/programs/{shelf.program_id}/vouchers", json={"code": code})
            for code in ("KOPI-10", "kopi10", "K0P1 1O") * 5
        )
    )
    assert statuses(answers) == {201: 1, 409: 14}
    assert refusals(answers) == {"code_taken": 14}


async def test_pools_imported_at_once_share_no_code(shelf):
    url = f"/v1/programs/{shelf.program_id}/voucher-pools"
    codes = [f"KINO-{number:04}" for number in range(500)]
    bodies = [{"name": "Pool", "codes": random.Random(seed).sample(codes, 400)} for seed in range(6)]
    answers = await at_once(*(shelf.client.post(url, json=body) for body in bodies))
    assert statuses(answers) == {201: 6}
    assert {answer.json()["codes_count"] + len(answer.json()["duplicates"]) for answer in answers} == {400}
    async with shelf.client.database.reading() as session:
        listed = await session.fetchval("SELECT count(*) FROM code_directory")
        assert await session.fetchval("SELECT count(*) FROM vouchers") == listed
    assert listed == len({code for body in bodies for code in body["codes"]})


async def test_a_stock_that_is_set_while_it_is_bought_ends_as_the_books_say(shelf):
    reward = await shelf.reward(stock=20)
    members = [await shelf.member(points=100) for _ in range(20)]
    answers = await at_once(
        *(shelf.get_reward(member, reward) for member in members),
        *(
            shelf.client.patch(f"/v1/programs/{shelf.program_id}/rewards/{reward['id']}", json={"stock": stock})
            for stock in (30, 25, 40)
        ),
    )
    assert statuses(answers) == {201: 20, 200: 3}
    assert 5 <= await shelf.stock(reward) <= 40
