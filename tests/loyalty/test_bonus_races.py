"""Many at once on the same cards, codes and caps, with real commits."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.loyalty.shop import at_once, statuses
from tests.loyalty.stampcards import Club, at

pytestmark = pytest.mark.usefixtures("audited_database")

NOW = datetime.now(UTC)
ORDER = {"occurred_at": at(NOW), "total": "60000"}


@pytest.fixture
async def club(live_client: Any) -> Club:
    return await Club.open(live_client)


async def test_twenty_purchases_at_once_fill_a_card_of_twenty_once(club):
    await club.challenge(goal=20)
    sari = await club.member()
    answers = await at_once(*(club.buy(sari, order_ref=f"INV-{n}", **ORDER) for n in range(20)))
    assert statuses(answers) == {201: 20}
    rows = [answer.json()["challenges"][0] for answer in answers]
    assert sorted(row["total"] for row in rows) == list(range(1, 21))
    assert sum(len(row["cards"]) for row in rows) == 1
    assert await club.stands(sari) == (0, 20, 1)
    assert await club.available(sari) == 20 * 60 + 50


async def test_one_purchase_sent_twenty_times_stamps_once(club):
    await club.challenge(goal=1)
    sari = await club.member()
    answers = await at_once(*(club.buy(sari, order_ref="INV-1", **ORDER) for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert await club.stands(sari) == (0, 1, 1)
    assert await club.available(sari) == 60 + 50


async def test_a_limit_a_day_holds_however_many_come_at_once(club):
    await club.challenge(event="yoga", limits=[{"times": 3, "per": "day"}])
    sari = await club.member()
    body = {"event": "yoga", "occurred_at": at(NOW)}
    answers = await at_once(*(club.post(sari, "events", {**body, "ref": f"{n}"}) for n in range(20)))
    reasons = Counter(answer.json()["challenges"][0]["reason"] for answer in answers)
    assert reasons == {"counted": 3, "limit_reached": 17}
    assert await club.stands(sari) == (3, 3, 0)


async def test_of_one_reward_the_first_full_card_has_it_and_every_purchase_is_recorded(club):
    reward = await club.reward(stock=1)
    await club.challenge(goal=1, points=None, reward_id=reward["id"])
    members = [await club.member() for _ in range(10)]
    answers = await at_once(*(club.buy(who, order_ref=f"INV-{who}", **ORDER) for who in members))
    assert statuses(answers) == {201: 10}
    cards = Counter(answer.json()["challenges"][0]["cards"][0]["status"] for answer in answers)
    assert cards == {"granted": 1, "unrewarded": 9}
    assert await club.stock(reward) == 0


async def test_purchases_and_refunds_at_once_leave_the_stamps_of_what_was_kept(club):
    await club.challenge(goal=3)
    sari = await club.member()
    for number in range(10):
        await club.visit(sari, f"INV-{number}", **ORDER)
    storm = [club.buy(sari, order_ref=f"NEW-{n}", **ORDER) for n in range(10)]
    storm += [
        club.post(sari, f"purchases/INV-{n}/refunds", {"refund_ref": "CN-1", "amount": "60000"})
        for n in range(10) for _ in range(2)
    ]  # fmt: skip
    random.Random(1).shuffle(storm)
    answers = await at_once(*storm)
    assert statuses(answers) == {201: 20, 200: 10}
    assert await club.stands(sari) == (1, 10, 3)
    assert await club.available(sari) == 10 * 60 + 3 * 50


async def test_a_code_that_many_ask_for_is_one(club):
    sari = await club.member()
    answers = await at_once(*(club.client.get(f"/v1/contacts/{sari}/referral-code") for _ in range(20)))
    assert statuses(answers) == {200: 20}
    assert len({answer.json()["code"] for answer in answers}) == 1


async def test_at_a_cap_of_one_the_first_friend_comes(club):
    await club.promise(cap={"times": 1, "per": "lifetime"})
    sari = await club.member()
    code = await club.code(sari)
    friends = [await club.member() for _ in range(10)]
    answers = await at_once(*(club.refer(friend, code) for friend in friends))
    assert statuses(answers) == {201: 1, 409: 9}
    assert {answer.json()["reason"] for answer in answers if answer.status_code == 409} == {"cap_reached"}
    assert len((await club.get(sari, "referrals"))["items"]) == 1


async def test_of_many_codes_at_once_a_friend_comes_with_one(club):
    await club.promise()
    codes = [await club.code(await club.member()) for _ in range(10)]
    friend = await club.member()
    answers = await at_once(*(club.refer(friend, code) for code in codes))
    assert statuses(answers) == {201: 1, 409: 9}
    assert {answer.json()["reason"] for answer in answers if answer.status_code == 409} == {"already_referred"}


async def test_friends_who_buy_at_once_are_rewarded_once_and_so_is_who_referred_them(club):
    await club.promise(hold_days=0)
    sari = await club.member()
    friends = [await club.friend_of(sari) for _ in range(5)]
    storm = [club.buy(who, order_ref=f"{who}-{n}", **ORDER) for who in (*friends, sari) for n in range(4)]
    random.Random(2).shuffle(storm)
    assert statuses(await at_once(*storm)) == {201: 24}
    assert await club.available(sari) == 4 * 60 + 5 * 100
    for friend in friends:
        assert await club.available(friend) == 4 * 60 + 50


async def test_a_ring_of_friends_buys_and_brings_back_without_waiting_in_a_circle(club):
    await club.promise(hold_days=0)
    ring = [await club.member() for _ in range(6)]
    random.Random(3).shuffle(ring)
    for friend, referrer in zip(ring, [*ring[1:], ring[0]], strict=True):
        assert (await club.refer(friend, await club.code(referrer))).status_code == 201
    order = {"currency": "IDR", **ORDER}

    def batched(number: int) -> list[Any]:
        return random.Random(number).sample(ring, 4)

    def batch(number: int) -> Any:
        items = [{"contact_id": str(who), "order_ref": f"B-{number}-{who}", **order} for who in batched(number)]
        return club.client.post("/v1/purchases/batch", json={"items": items})

    storm = [club.buy(who, order_ref=f"S-{who}-{n}", **ORDER) for who in ring for n in range(3)]
    storm += [batch(number) for number in range(6)]
    random.Random(4).shuffle(storm)
    answers = await at_once(*storm)
    assert set(statuses(answers)) == {200, 201}
    bought = Counter(who for who in ring for _ in range(3))
    for number in range(6):
        bought.update(batched(number))
    for who in ring:
        assert await club.available(who) == bought[who] * 60 + 150
    back = []
    for who in ring:
        mine = (await club.get(who, "referrals"))["items"]
        order_ref = next(each["order_ref"] for each in mine if each["role"] == "referee")
        back.append(club.post(who, f"purchases/{order_ref}/refunds", {"refund_ref": "CN", "amount": "60000"}))
    assert statuses(await at_once(*back)) == {201: 6}
    for who in ring:
        assert await club.available(who) == (bought[who] - 1) * 60


async def test_a_purchase_at_the_moment_of_the_referral_is_before_it_or_after_it(club):
    await club.promise(hold_days=0)
    for number in range(15):
        sari, budi = await club.member(), await club.member()
        code = await club.code(sari)
        bought, referred = await at_once(club.buy(budi, order_ref=f"INV-{number}", **ORDER), club.refer(budi, code))
        assert bought.status_code in {201, 503}
        assert (await club.buy(budi, order_ref=f"INV-{number}", **ORDER)).status_code in {200, 201}
        if referred.status_code == 409:
            assert referred.json()["reason"] == "existing_customer"
        else:
            assert referred.status_code == 201
        assert await club.available(sari) == (100 if referred.status_code == 201 else 0)
