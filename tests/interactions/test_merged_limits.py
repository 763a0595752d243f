"""What limits count is counted over everybody that a contact was, and apart again once a merge is undone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.loyalty import audit
from tests.interactions.test_merges import merge, undo
from tests.loyalty.market import DOUBLE, Market
from tests.loyalty.shelf import refused
from tests.loyalty.stampcards import Club, counted

DAY = timedelta(days=1)


class Place(Club, Market):
    """A club with offers, and two records of one person: `sari` goes on, `dewi` is the other."""

    sari: UUID
    dewi: UUID

    @classmethod
    async def open(cls, client: Any) -> "Place":
        place = await super().open(client)
        place.sari, place.dewi = await place.member(points=1_000), await place.member(points=1_000)
        return place

    async def merge(self) -> dict[str, Any]:
        return await merge(self.client, self.sari, self.dewi)


@pytest.fixture
async def place(client: Any) -> Place:
    return await Place.open(client)


@pytest.fixture(autouse=True)
async def _audited(session):
    yield
    assert (await audit.verify(session)).findings == []


# ---------------------------------------------------------------- rewards, offers, awards


@pytest.mark.parametrize("per", ["day", "lifetime"])
async def test_a_reward_that_each_has_had_once_is_not_had_a_second_time(place, per):
    coffee = await place.reward(limits=[{"times": 2, "per": per}])
    for who in (place.sari, place.dewi):
        assert (await place.get_reward(who, coffee)).status_code == 201
    merged = await place.merge()
    refused(await place.get_reward(place.sari, coffee), 409, "limit_reached")
    assert [each["code"] for each in (await place.choice(place.dewi, coffee))["why_not"]] == ["limit_reached"]
    await undo(place.client, merged)
    for who in (place.sari, place.dewi):
        assert (await place.get_reward(who, coffee)).status_code == 201
        refused(await place.get_reward(who, coffee), 409, "limit_reached")


async def test_a_reward_that_was_given_back_does_not_count(place):
    coffee = await place.reward(limits=[{"times": 1, "per": "lifetime"}])
    had = (await place.get_reward(place.dewi, coffee)).json()
    await place.merge()
    refused(await place.get_reward(place.sari, coffee), 409, "limit_reached")
    assert (await place.reverse(place.sari, had["id"])).status_code == 201
    assert (await place.get_reward(place.sari, coffee)).status_code == 201


async def test_an_offer_is_claimed_once_by_one_person(place):
    offer = await place.offer()
    await place.claimed(place.dewi, offer)
    merged = await place.merge()
    refused(await place.claim(place.sari, offer), 409, "limit_reached")
    assert offer["id"] not in [one["id"] for one in await place.offered(place.sari)]
    assert [one["offer_id"] for one in (await place.get(place.sari, "offer-claims"))["items"]] == [offer["id"]]
    await undo(place.client, merged)
    assert (await place.claimed(place.sari, offer))["number"] == 1
    refused(await place.claim(place.dewi, offer), 409, "limit_reached")


async def test_who_was_named_and_has_claimed_once_may_claim_again_where_that_is_left(place):
    offer = await place.offer(place.dewi, claims_max_per_member=2)
    await place.claimed(place.dewi, offer)
    merged = await place.merge()
    assert [one["claims_left"] for one in await place.offered(place.sari)] == [1]
    await place.claimed(place.sari, offer)
    refused(await place.claim(place.sari, offer), 409, "limit_reached")
    await undo(place.client, merged)
    assert (await place.claim(place.dewi, offer)).status_code in {201, 404}


async def test_a_multiplier_that_was_claimed_goes_on_multiplying(place):
    offer = await place.offer(benefit=DOUBLE)
    await place.claimed(place.dewi, offer)
    await place.merge()
    assert (await place.visit(place.sari, total="45000.00"))["points"] == 90


async def test_what_was_given_by_hand_today_counts_together(client):
    shop = await Place.open(client)
    limits = {"award_limits": {"member_points_per_day": 100}}
    assert (await client.patch(f"/v1/programs/{shop.program_id}", json=limits)).status_code == 200
    till = await client.limited_to("loyalty:award", "loyalty:read")
    award = {"points": 60, "reason": "goodwill"}
    for who in (shop.sari, shop.dewi):
        assert (await till.post(f"/v1/contacts/{who}/points-awards", json=award)).status_code == 201
    merged = await shop.merge()
    answer = await till.post(f"/v1/contacts/{shop.sari}/points-awards", json={**award, "points": 1})
    refused(answer, 409, "award_limit_reached")
    await undo(client, merged)
    answer = await till.post(f"/v1/contacts/{shop.sari}/points-awards", json={**award, "points": 40})
    assert answer.status_code == 201


async def test_a_tier_gives_its_reward_once(place):
    coffee = await place.reward()
    tier = {"name": "Gold", "threshold": 2_000, "benefits": {"reward_ids": [coffee["id"]]}}
    answer = await place.client.post(f"/v1/programs/{place.program_id}/tiers", json=tier)
    assert answer.status_code == 201, answer.text
    await place.award(place.dewi, 1_000)
    assert [one["cause"] for one in (await place.get(place.dewi, "redemptions"))["items"]] == ["tier"]
    await place.merge()
    assert (await place.balance(place.sari))["tier"]["current"]["name"] == "Gold"
    assert [one["cause"] for one in (await place.get(place.sari, "redemptions"))["items"]] == ["tier"]


async def test_an_event_is_recorded_once_for_one_person(place):
    rule = {"name": "review", "kind": "per_event", "event": "review", "points": 20}
    answer = await place.client.post(f"/v1/programs/{place.program_id}/earning-rules", json=rule)
    assert answer.status_code == 201, answer.text
    first = await place.happen(place.dewi, "review", "R-1")
    assert first["points"] == 20
    await place.merge()
    again = await place.post(place.sari, "events", {"event": "review", "ref": "R-1"})
    assert (again.status_code, again.json()["transaction_id"]) == (200, first["transaction_id"])
    assert [one["ref"] for one in (await place.get(place.sari, "events"))["items"]] == ["R-1"]


# ---------------------------------------------------------------- stamp cards


async def test_stamps_of_both_fill_one_card_and_are_apart_again(place):
    await place.challenge(goal=5, per_unit=True)
    for who, quantity in ((place.sari, 2), (place.dewi, 2)):
        await place.visit(who, total=None, lines=[{"sku": "K", "quantity": str(quantity), "unit_price": "1000"}])
    merged = await place.merge()
    assert await place.stands(place.sari) == await place.stands(place.dewi) == (4, 4, 0)
    fifth = (await place.visit(place.sari))["challenges"][0]
    assert [card["points"] for card in fifth["cards"]] == [50]
    assert (fifth["current"], fifth["total"], fifth["completed"]) == (0, 5, 1)
    await undo(place.client, merged)
    assert await place.stands(place.dewi) == (2, 2, 0)
    card = await place.card(place.sari)
    # The card was paid; its stamps are owed before the next one counts.
    assert (card["total"], card["completed"], card["owed"]) == (3, 1, 1)


async def test_a_refund_takes_off_what_the_former_account_stamped(place):
    await place.challenge(goal=3)
    await place.visit(place.dewi, "INV-D")
    await place.visit(place.dewi)
    await place.merge()
    filled = (await place.visit(place.sari))["challenges"][0]
    assert [card["card"] for card in filled["cards"]] == [1]
    back = (await place.refund(place.sari, "INV-D", amount="45000.00"))["challenges"][0]
    assert (back["stamps_taken_back"], back["total"], back["completed"]) == (1, 2, 1)
    assert (await place.card(place.sari))["owed"] == 1
    owed = (await place.visit(place.sari))["challenges"][0]
    assert (owed["cards"], owed["completed"]) == ([], 1)


async def test_a_streak_goes_on_from_one_to_the_other(place):
    await place.challenge(goal=3, kind="streak", per="day")
    today = datetime.now(UTC)
    for who, ago in ((place.sari, 2), (place.dewi, 2), (place.dewi, 1)):
        await place.visit(who, occurred_at=(today - ago * DAY).isoformat())
    merged = await place.merge()
    assert await place.stands(place.sari) == (2, 2, 0)
    again = await place.visit(place.sari, occurred_at=(today - DAY).isoformat())
    assert counted(again) == [(0, "already_counted")]
    third = await place.visit(place.sari, occurred_at=today.isoformat())
    assert counted(third) == [(1, "counted")]
    assert [card["points"] for card in third["challenges"][0]["cards"]] == [50]
    await undo(place.client, merged)
    assert await place.stands(place.dewi) == (2, 2, 0)


async def test_limits_of_stamps_count_together_and_a_refund_gives_back(place):
    await place.challenge(goal=10, limits=[{"times": 2, "per": "day"}])
    now = datetime.now(UTC).isoformat()
    await place.visit(place.sari, occurred_at=now)
    await place.visit(place.dewi, "INV-D", occurred_at=now)
    await place.merge()
    assert counted(await place.visit(place.sari, occurred_at=now)) == [(0, "limit_reached")]
    await place.refund(place.sari, "INV-D", amount="45000.00")
    assert counted(await place.visit(place.sari, occurred_at=now)) == [(1, "counted")]


# ---------------------------------------------------------------- what there was


async def test_the_ledger_of_both_is_listed_once_page_by_page(place):
    await place.award(place.dewi, 7)
    await place.award(place.sari, 5)
    merged = await place.merge()
    await place.redeem(place.sari, 100)
    whole = await place.transactions(place.sari)
    assert [each["points"] for each in whole] == [-100, 5, 7, 1_000, 1_000]
    assert await place.transactions(place.dewi) == whole
    pages, cursor = [], ""
    while cursor is not None:
        page = await place.get(place.sari, f"points-transactions?limit=2{cursor and f'&cursor={cursor}'}")
        pages += page["items"]
        cursor = page["next_cursor"]
    assert pages == whole
    balance = await place.balance(place.sari)
    assert (balance["available"], balance["lifetime_earned"], balance["lifetime_redeemed"]) == (1_912, 2_012, 100)
    member = await place.signed_in(place.sari)
    own = (await member.get("/v1/me/points-transactions")).json()["items"]
    assert [each["id"] for each in own] == [each["id"] for each in whole]
    await undo(place.client, merged)
    for who, earned, redeemed in ((place.sari, 1_005, 100), (place.dewi, 1_007, 0)):
        balance = await place.balance(who)
        assert (balance["lifetime_earned"], balance["lifetime_redeemed"]) == (earned, redeemed)


async def test_the_statement_and_the_past_say_what_both_had(place):
    yesterday = datetime.now(UTC) - DAY
    await place.award(place.dewi, 30, occurred_at=yesterday.isoformat())
    await place.award(place.sari, 12, occurred_at=yesterday.isoformat())
    await place.merge()
    day = (datetime.now(UTC) + timedelta(hours=7)).date()
    asked = f"loyalty/statement?from={day - 3 * DAY}&to={day}"
    statement = await place.get(place.sari, asked)
    assert sorted(entry["points"] for entry in statement["entries"]) == [12, 30, 1_000, 1_000]
    assert statement["opening"]["available"] == 0
    assert statement["closing"]["available"] == await place.available(place.sari) == 2_042
    then = yesterday + timedelta(hours=1)
    past = await place.get(place.sari, f"loyalty?as_of={then:%Y-%m-%dT%H:%M:%SZ}")
    assert (past["available"], past["lifetime_earned"]) == (42, 42)


async def test_redeemed_points_that_come_back_to_a_former_account_are_redeemed_no_more(place):
    spent = (await place.redeem(place.dewi, 100)).json()["id"]
    merged = await place.merge()
    assert (await place.balance(place.sari))["lifetime_redeemed"] == 100
    assert (await place.reverse(place.sari, spent)).status_code == 201
    assert (await place.balance(place.sari))["lifetime_redeemed"] == 0
    await undo(place.client, merged)
    assert (await place.balance(place.dewi))["lifetime_redeemed"] == 0
