"""Challenges over HTTP: given what was counted, when something happens, then what stands on the member's cards."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shelf import refused
from tests.loyalty.shop import checksum
from tests.loyalty.stampcards import CARD, Club, at, counted

pytestmark = pytest.mark.usefixtures("audited_session")

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
JAKARTA = ZoneInfo("Asia/Jakarta")
MIDNIGHT = datetime.now(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0)
"""The start of today in the program's time zone."""
COFFEE = {"sku": "K-1", "category": "coffee", "unit_price": "25000"}


@pytest.fixture
async def club(client: Any) -> Club:
    return await Club.open(client)


def coffees(quantity: int) -> dict[str, Any]:
    return {"total": None, "lines": [{**COFFEE, "quantity": str(quantity)}]}


# ---------------------------------------------------------------- counting


CARDS = {
    # goal, stamps of each fact -> current, total, completed
    "one of ten": (10, [1], (1, 1, 0)),
    "nine of ten": (10, [9], (9, 9, 0)),
    "exactly full": (10, [9, 1], (0, 10, 1)),
    "carried over": (10, [8, 5], (3, 13, 1)),
    "several cards at once": (3, [10], (1, 10, 3)),
    "every stamp a card": (1, [2, 1], (0, 3, 3)),
}


@pytest.mark.parametrize(("goal", "facts", "stands"), CARDS.values(), ids=CARDS)
async def test_stamps_fill_cards_and_what_is_over_stands_on_the_next(club, goal, facts, stands):
    await club.challenge(goal=goal, per_unit=True)
    sari = await club.member()
    for quantity in facts:
        last = await club.visit(sari, **coffees(quantity))
    assert await club.stands(sari) == stands
    [row] = last["challenges"]
    assert (row["current"], row["total"], row["completed"], row["goal"]) == (*stands, goal)
    rewarded = [each for each in await club.transactions(sari) if each["cause"] == "challenge"]
    assert [each["points"] for each in rewarded] == [50] * stands[2]


async def test_a_full_card_pays_its_points_in_the_answer_of_the_fact_that_filled_it(club):
    await club.challenge(goal=2)
    sari = await club.member()
    first = await club.visit(sari, total="10000")
    second = await club.visit(sari, total="10000")
    assert (first["points"], second["points"]) == (10, 10)
    assert (first["balance"]["available"], second["balance"]["available"]) == (10, 70)
    assert first["challenges"][0]["cards"] == []
    [card] = second["challenges"][0]["cards"]
    assert (card["card"], card["status"], card["points"]) == (1, "paid", 50)
    paid = await club.get(sari, f"points-transactions/{card['transaction_id']}")
    assert (paid["kind"], paid["cause"], paid["reason"], paid["points"]) == ("earn", "challenge", "challenge", 50)
    assert second["balance"]["lifetime_earned"] == 70


async def test_points_of_a_card_count_towards_the_tier_and_begin_as_the_program_says(club):
    await club.client.patch(f"/v1/programs/{club.program_id}", json={"activation": {"days": 7}})
    await club.tier("Gold", 50)
    await club.challenge(goal=1)
    sari = await club.member()
    bought = await club.visit(sari, total="1", occurred_at=at(NOW))
    assert (bought["balance"]["pending"], bought["balance"]["available"]) == (50, 0)
    assert bought["tier"]["current"] is None
    later = (NOW + 8 * DAY).isoformat().replace("+", "%2B")
    then = await club.get(sari, f"loyalty?as_of={later}")
    assert (then["available"], then["tier"]["current"]["name"]) == (50, "Gold")


async def test_an_event_stamps_the_challenges_of_its_name(club):
    reviews = await club.challenge(event="review", goal=2)
    visits = await club.challenge(goal=5)
    sari = await club.member()
    assert counted(await club.happen(sari, "review")) == [(1, "counted")]
    assert counted(await club.happen(sari, "yoga")) == []
    full = await club.happen(sari, "review")
    assert (full["points"], full["balance"]["available"]) == (0, 50)
    assert await club.stands(sari, reviews) == (0, 2, 1)
    assert await club.stands(sari, visits) == (0, 0, 0)


async def test_an_event_that_calls_itself_a_purchase_is_none(club):
    await club.challenge()
    sari = await club.member()
    assert counted(await club.happen(sari, "purchase")) == []
    assert await club.stands(sari) == (0, 0, 0)


async def test_several_challenges_count_the_same_purchase_each_in_its_way(club):
    await club.challenge(per_unit=True, filter={"categories": ["coffee"]})
    await club.challenge(filter={"categories": ["cake"]})
    await club.challenge(min_spend="100000")
    await club.challenge(window={"to": "2020-01-01"})
    await club.challenge(status="draft")
    sari = await club.member()
    assert counted(await club.visit(sari, **coffees(2))) == [
        (2, "counted"), (0, "no_matching_lines"), (0, "below_min_spend"), (0, "outside_window"),
    ]  # fmt: skip


async def test_the_same_purchase_again_stamps_nothing_and_answers_the_same(club, session):
    await club.challenge(goal=1)
    sari = await club.member()
    first = await club.visit(sari, "INV-1")
    before = await checksum(session)
    assert await club.visit(sari, "INV-1") == first
    assert first["challenges"][0]["cards"][0]["points"] == 50
    assert await checksum(session) == before
    kept = await club.get(sari, "purchases/INV-1")
    assert kept["challenges"] == first["challenges"]


async def test_the_same_event_again_stamps_nothing_and_answers_the_same(club, session):
    await club.challenge(event="review", goal=1)
    sari = await club.member()
    first = await club.happen(sari, "review", "r-1")
    before = await checksum(session)
    assert await club.happen(sari, "review", "r-1") == first
    assert await checksum(session) == before


async def test_the_same_idempotency_key_stamps_once(club):
    await club.challenge()
    sari = await club.member()
    answers = [await club.buy(sari, key="k-1") for _ in range(2)]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert answers[0].json() == answers[1].json()
    assert await club.stands(sari) == (1, 1, 0)


async def test_a_refused_purchase_stamps_nothing(club, session):
    await club.challenge(goal=1)
    sari = await club.member()
    before = await checksum(session)
    refused(await club.buy(sari, currency="EUR"), 422, "currency_mismatch")
    assert await checksum(session) == before


async def test_purchases_of_a_batch_stamp_one_after_the_other(club):
    await club.challenge(goal=3)
    sari, budi = await club.member(), await club.member()
    order = {"occurred_at": at(NOW), "currency": "IDR", "total": "1000"}
    items = [
        {"contact_id": str(who), "order_ref": ref, **order}
        for who, ref in ((sari, "A-1"), (budi, "B-1"), (sari, "A-2"), (sari, "A-1"), (sari, "A-3"), (sari, "A-4"))
    ]
    items.insert(2, {**items[0], "order_ref": "A-X", "currency": "EUR"})
    answer = (await club.client.post("/v1/purchases/batch", json={"items": items})).json()["items"]
    assert [item["status"] for item in answer] == [201, 201, 422, 201, 200, 201, 201]
    rows = [item["body"]["challenges"][0] for item in answer if item["body"]]
    assert [(row["current"], row["completed"]) for row in rows] == [(1, 0), (1, 0), (2, 0), (1, 0), (0, 1), (1, 1)]
    assert await club.stands(sari) == (1, 4, 1)
    assert await club.stands(budi) == (1, 1, 0)


async def test_a_simulation_says_what_would_be_stamped_and_writes_nothing(club, session):
    await club.challenge(goal=2)
    sari = await club.member()
    await club.visit(sari)
    before = await checksum(session)
    order = {"order_ref": "X", "occurred_at": at(NOW), "currency": "IDR", "total": "45000.00"}
    tried = (await club.client.post("/v1/purchases/simulations", json={**order, "contact_id": str(sari)})).json()
    assert await checksum(session) == before
    real = await club.visit(sari, "X", occurred_at=at(NOW))
    assert real["balance"] == tried["balance"]
    for each in (tried, real):
        each["challenges"][0]["cards"][0]["transaction_id"] = None
    assert real["challenges"] == tried["challenges"]
    nobody = (await club.client.post("/v1/purchases/simulations", json=order)).json()
    assert nobody["challenges"][0]["current"] == 1


async def test_one_purchase_fills_a_hundred_cards_at_most(club):
    await club.challenge(goal=1, points=1, per_unit=True)
    sari = await club.member()
    bought = await club.visit(sari, **coffees(1_000))
    [row] = bought["challenges"]
    assert (row["stamps"], row["stamps_offered"], row["reason"]) == (100, 1_000, "trimmed")
    assert await club.stands(sari) == (0, 100, 100)


# ---------------------------------------------------------------- limits


async def test_a_limit_a_day_is_told_with_its_reason_and_its_end(club):
    await club.challenge(limits=[{"times": 1, "per": "day"}])
    sari = await club.member()
    assert counted(await club.visit(sari, occurred_at=at(NOW))) == [(1, "counted")]
    [row] = (await club.visit(sari, occurred_at=at(NOW)))["challenges"]
    assert (row["stamps"], row["stamps_offered"], row["reason"]) == (0, 1, "limit_reached")
    ends = datetime.fromisoformat(row["until"])
    assert ends == ends.astimezone(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0)
    assert timedelta(0) < ends - NOW <= DAY
    [told] = await club.entries(sari, "challenge.limited")
    assert (told["reason"], told["until"], told["current"]) == ("limit_reached", row["until"], 1)
    assert counted(await club.visit(sari, occurred_at=at(NOW - DAY))) == [(1, "counted")]
    assert await club.stands(sari) == (2, 2, 0)


async def test_a_limit_trims_units(club):
    await club.challenge(per_unit=True, limits=[{"times": 3, "per": "week"}])
    sari = await club.member()
    assert counted(await club.visit(sari, **coffees(2))) == [(2, "counted")]
    assert counted(await club.visit(sari, **coffees(2))) == [(1, "trimmed")]
    assert counted(await club.visit(sari, **coffees(2))) == [(0, "limit_reached")]
    assert await club.stands(sari) == (3, 3, 0)


async def test_an_event_that_earns_nothing_uses_the_limit_up_too(club):
    await club.challenge(event="review", limits=[{"times": 1, "per": "lifetime"}])
    sari = await club.member()
    assert counted(await club.happen(sari, "review")) == [(1, "counted")]
    again = await club.happen(sari, "review")
    assert counted(again) == [(0, "limit_reached")]
    assert again["challenges"][0]["until"] is None


async def test_a_refund_gives_the_limit_back(club):
    await club.challenge(per_unit=True, limits=[{"times": 3, "per": "day"}])
    sari = await club.member()
    await club.visit(sari, "INV-1", occurred_at=at(NOW), **coffees(3))
    await club.refund(sari, "INV-1", lines=[{"line": 0, "quantity": "2"}])
    assert counted(await club.visit(sari, occurred_at=at(NOW), **coffees(3))) == [(2, "trimmed")]
    assert await club.stands(sari) == (3, 3, 0)


# ---------------------------------------------------------------- streaks


async def test_a_streak_needs_each_day_and_says_until_when(club):
    await club.challenge(event="yoga", kind="streak", per="day", goal=3)
    sari = await club.member()
    noon = MIDNIGHT + timedelta(seconds=1)
    first = await club.happen(sari, "yoga", occurred_at=at(noon - DAY))
    [row] = first["challenges"]
    assert (row["current"], row["next_by"]) == (1, (MIDNIGHT + DAY).astimezone(UTC).isoformat().replace("+00:00", "Z"))
    assert (await club.card(sari))["next_by"] == row["next_by"]
    [row] = (await club.happen(sari, "yoga", occurred_at=at(noon - DAY)))["challenges"]
    assert (row["stamps"], row["reason"]) == (0, "already_counted")
    assert row["until"] == MIDNIGHT.astimezone(UTC).isoformat().replace("+00:00", "Z")
    assert await club.stands(sari) == (1, 1, 0)
    await club.happen(sari, "yoga", occurred_at=at(noon))
    assert (await club.card(sari))["next_by"] == (MIDNIGHT + 2 * DAY).astimezone(UTC).isoformat().replace("+00:00", "Z")


async def test_a_missed_day_starts_a_streak_anew(club):
    await club.challenge(event="yoga", kind="streak", per="day", goal=5)
    sari = await club.member()
    for days in (4, 3, 2):
        await club.happen(sari, "yoga", occurred_at=at(NOW - days * DAY))
    assert await club.stands(sari) == (0, 3, 0)  # yesterday is missing
    [row] = (await club.happen(sari, "yoga", occurred_at=at(NOW)))["challenges"]
    assert (row["current"], row["total"]) == (1, 4)


async def test_a_missed_day_that_becomes_known_late_joins_what_it_stands_between(club):
    await club.challenge(event="yoga", kind="streak", per="day", goal=5)
    sari = await club.member()
    for days in (4, 3, 1, 0):
        await club.happen(sari, "yoga", occurred_at=at(NOW - days * DAY))
    assert await club.stands(sari) == (2, 4, 0)
    late = await club.happen(sari, "yoga", occurred_at=at(NOW - 2 * DAY))
    assert late["balance"]["available"] == 50
    assert await club.stands(sari) == (0, 5, 1)


async def test_a_streak_of_purchases_goes_on_with_the_second_where_the_first_of_a_day_is_refunded(club):
    await club.challenge(kind="streak", per="day", goal=2)
    sari = await club.member()
    await club.visit(sari, "INV-1", occurred_at=at(NOW - DAY))
    await club.visit(sari, "INV-2", occurred_at=at(NOW))
    await club.visit(sari, "INV-3", occurred_at=at(NOW))
    assert await club.stands(sari) == (0, 2, 1)
    assert (await club.refund(sari, "INV-2", amount="45000"))["challenges"] == []
    assert await club.stands(sari) == (0, 2, 1)
    [row] = (await club.refund(sari, "INV-3", amount="45000"))["challenges"]
    assert (row["stamps_taken_back"], row["current"], row["completed"]) == (1, 1, 0)
    assert [(card["card"], card["status"], card["points_taken_back"]) for card in row["cards"]] == [(1, "reversed", 50)]
    assert await club.available(sari) == 45


# ---------------------------------------------------------------- refunds


async def test_a_refund_takes_stamps_off_the_present_card(club):
    await club.challenge(per_unit=True)
    sari = await club.member()
    await club.visit(sari, "INV-1", **coffees(4))
    [row] = (await club.refund(sari, "INV-1", lines=[{"line": 0, "quantity": "1"}]))["challenges"]
    assert (row["stamps_taken_back"], row["current"], row["total"], row["cards"]) == (1, 3, 3, [])
    [told] = await club.entries(sari, "challenge.taken_back")
    assert (told["stamps_taken_back"], told["order_ref"], told["refund_ref"]) == (1, "INV-1", "CN-1")
    await club.refund(sari, "INV-1", "CN-2", lines=[{"line": 0, "quantity": "3"}])
    assert await club.stands(sari) == (0, 0, 0)


async def test_a_card_that_is_not_full_any_more_gives_its_points_back_and_can_be_filled_again(club):
    await club.challenge(goal=3)
    sari = await club.member()
    for number in (1, 2, 3, 4):
        await club.visit(sari, f"INV-{number}", total="1000")
    assert (await club.stands(sari), await club.available(sari)) == ((1, 4, 1), 54)
    await club.refund(sari, "INV-1", amount="1000")
    assert (await club.stands(sari), await club.available(sari)) == ((0, 3, 1), 53)
    [row] = (await club.refund(sari, "INV-2", amount="1000"))["challenges"]
    assert (await club.stands(sari), await club.available(sari)) == ((2, 2, 0), 2)
    [card] = row["cards"]
    assert (card["card"], card["status"], card["points_taken_back"], card["points_written_off"]) == (
        1, "reversed", 50, 0,
    )  # fmt: skip
    [row] = (await club.visit(sari, total="1000"))["challenges"]
    assert [each["card"] for each in row["cards"]] == [2]
    assert (await club.stands(sari), await club.available(sari)) == ((0, 3, 1), 53)


async def test_points_of_a_card_that_were_spent_are_taken_back_as_the_return_policy_says(club):
    await club.challenge(goal=1)
    sari = await club.member()
    await club.visit(sari, "INV-1", total="10000")
    assert (await club.redeem(sari, 40)).status_code == 201
    refunded = await club.refund(sari, "INV-1", amount="10000")
    assert (refunded["points_taken_back"], refunded["points_written_off"]) == (10, 0)
    [card] = refunded["challenges"][0]["cards"]
    assert (card["points_taken_back"], card["points_written_off"]) == (10, 40)
    assert refunded["balance"]["available"] == 0


async def test_the_same_refund_again_takes_nothing_more(club, session):
    await club.challenge(goal=1)
    sari = await club.member()
    await club.visit(sari, "INV-1")
    first = await club.refund(sari, "INV-1", amount="45000")
    before = await checksum(session)
    assert await club.refund(sari, "INV-1", amount="45000") == first
    assert await checksum(session) == before
    assert (await club.get(sari, "purchases/INV-1/refunds/CN-1"))["challenges"] == first["challenges"]


async def test_a_challenge_that_has_changed_or_ended_since_still_gives_its_stamps_back(club):
    made = await club.challenge(goal=1, per_unit=True, filter={"categories": ["coffee"]})
    sari = await club.member()
    await club.visit(sari, "INV-1", **coffees(1))
    assert (await club.alter(made, filter={"categories": ["cake"]}, points=7)).status_code == 200
    url = f"/v1/programs/{club.program_id}/challenges/{made['id']}"
    assert (await club.client.delete(url)).status_code == 204
    refunded = await club.refund(sari, "INV-1", amount="25000")
    assert refunded["challenges"][0]["cards"][0]["points_taken_back"] == 50
    assert refunded["balance"]["available"] == 0


# ---------------------------------------------------------------- rewards


async def test_a_full_card_grants_its_reward(club):
    reward = await club.reward(fulfilment="voucher", stock=5)
    await club.challenge(goal=1, points=None, reward_id=reward["id"])
    sari = await club.member()
    [card] = (await club.visit(sari))["challenges"][0]["cards"]
    assert (card["status"], card["points"], card["reward_id"]) == ("granted", 0, reward["id"])
    assert (await club.check(card["voucher"]["code"], sari))["valid"]
    redemption = await club.get(sari, f"redemptions/{card['redemption_id']}")
    assert (redemption["points"], redemption["reward"]["id"]) == (0, reward["id"])
    assert await club.stock(reward) == 4
    [told] = await club.entries(sari, "challenge.completed")
    assert (told["card"], told["redemption_id"]) == (1, card["redemption_id"])


async def test_an_unused_reward_falls_with_its_card(club):
    reward = await club.reward(fulfilment="voucher", stock=5)
    await club.challenge(goal=1, points=None, reward_id=reward["id"])
    sari = await club.member()
    [card] = (await club.visit(sari, "INV-1"))["challenges"][0]["cards"]
    [row] = (await club.refund(sari, "INV-1", amount="45000"))["challenges"]
    assert [each["status"] for each in row["cards"]] == ["reversed"]
    assert not (await club.check(card["voucher"]["code"], sari))["valid"]
    assert await club.stock(reward) == 5
    assert await club.stands(sari) == (0, 0, 0)


async def test_a_used_reward_stays_and_its_card_must_be_filled_again(club):
    reward = await club.reward(fulfilment="voucher", stock=5)
    made = await club.challenge(goal=2, points=None, reward_id=reward["id"])
    sari = await club.member()
    await club.visit(sari, "INV-1")
    [card] = (await club.visit(sari, "INV-2"))["challenges"][0]["cards"]
    assert (await club.use(card["voucher"]["code"], sari, "R-1")).status_code == 201
    [row] = (await club.refund(sari, "INV-2", amount="45000"))["challenges"]
    assert [(each["card"], each["status"]) for each in row["cards"]] == [(1, "kept")]
    kept = await club.card(sari, made)
    assert (kept["current"], kept["total"], kept["completed"], kept["owed"]) == (0, 1, 1, 1)
    [row] = (await club.visit(sari))["challenges"]
    assert (row["cards"], row["current"]) == ([], 0)
    assert (await club.card(sari, made))["owed"] == 0
    await club.visit(sari)
    assert len((await club.visit(sari))["challenges"][0]["cards"]) == 1
    assert await club.stands(sari, made) == (0, 4, 2)
    assert await club.stock(reward) == 3


async def test_a_reward_that_is_gone_is_told_and_the_purchase_is_recorded(club):
    reward = await club.reward(stock=1)
    await club.challenge(goal=1, points=None, reward_id=reward["id"])
    sari, budi = await club.member(), await club.member()
    await club.visit(sari)
    [card] = (await club.visit(budi))["challenges"][0]["cards"]
    assert (card["status"], card["reason"], card["redemption_id"]) == ("unrewarded", "out_of_stock", None)
    assert await club.available(budi) == 45
    [told] = await club.entries(budi, "challenge.completed")
    assert (told["status"], told["reason"]) == ("unrewarded", "out_of_stock")


# ---------------------------------------------------------------- the member's list and the timeline


async def test_a_member_sees_open_challenges_and_those_that_were_begun(club):
    begun = await club.challenge(name="begun", event="yoga")
    fresh = await club.challenge(name="fresh", event="dance")
    await club.challenge(name="draft", status="draft")
    sari, budi = await club.member(), await club.member()
    await club.happen(sari, "yoga")
    for each in (begun, fresh):
        assert (await club.alter(each, status="disabled")).status_code == 200
    open_one = await club.challenge(name="open")
    assert [(item["name"], item["status"]) for item in (await club.get(sari, "challenges"))["items"]] == [
        ("begun", "disabled"), ("open", "active"),
    ]  # fmt: skip
    [only] = (await club.get(budi, "challenges"))["items"]
    assert only == {
        "id": open_one["id"], "name": "open", "event": "purchase", "kind": "count", "per": None, "current": 0,
        "goal": 10, "total": 0, "completed": 0, "owed": 0, "next_by": None, "points": 50, "reward_id": None,
        "limits": [], "window": None, "status": "active",
    }  # fmt: skip
    assert counted(await club.happen(sari, "yoga")) == []


async def test_a_member_s_challenges_come_in_pages(club):
    for number in range(3):
        await club.challenge(name=f"{number}")
    sari = await club.member()
    page = await club.get(sari, "challenges?limit=2")
    rest = await club.get(sari, f"challenges?limit=2&cursor={page['next_cursor']}")
    assert [item["name"] for item in (*page["items"], *rest["items"])] == ["0", "1", "2"]
    assert rest["next_cursor"] is None


async def test_stamps_and_cards_stand_on_the_timeline(club):
    await club.challenge(goal=2)
    sari = await club.member()
    await club.visit(sari, "INV-1")
    await club.visit(sari, "INV-2")
    stamped = await club.entries(sari, "challenge.stamped")
    assert [(each["ref"], each["current"]) for each in stamped] == [("INV-2", 0), ("INV-1", 1)]
    [completed] = await club.entries(sari, "challenge.completed")
    assert (completed["card"], completed["points"], completed["status"]) == (1, 50, "paid")
    told = await club.told(sari)
    assert told.count("points.earned") == 1


async def test_a_paused_member_is_refused_and_collects_nothing(club, session):
    await club.challenge()
    sari = await club.member()
    await club.visit(sari)
    url = f"/v1/contacts/{sari}/memberships/{club.program_id}"
    assert (await club.client.put(url, json={"status": "paused"})).status_code == 200
    refused(await club.buy(sari, order_ref="INV-9"), 409, "membership_suspended")
    assert await club.stands(sari) == (1, 1, 0)


# ---------------------------------------------------------------- round trips


async def test_challenges_cost_one_query_for_a_batch_and_none_where_there_are_none(club, statements):
    members = [await club.member() for _ in range(3)]
    order = {"occurred_at": at(NOW), "currency": "IDR", "total": "1000"}

    async def said(prefix: str) -> int:
        items = [{"contact_id": str(who), "order_ref": f"{prefix}-{who}", **order} for who in members]
        statements.clear()
        assert (await club.client.post("/v1/purchases/batch", json={"items": items})).status_code == 200
        return len([each for each in statements if not each.startswith(("SAVEPOINT", "RELEASE"))])

    await said("warm")
    without = await said("without")
    await club.challenge(event="yoga")
    await said("warm-2")
    assert await said("another event") == without
    await club.challenge(goal=2)
    await said("warm-3")
    assert await said("with") == without + 1


# ---------------------------------------------------------------- the challenges of a program


async def test_a_challenge_is_read_listed_changed_and_ended(club):
    made = await club.challenge(limits=[{"times": 1, "per": "day"}])
    url = f"/v1/programs/{club.program_id}/challenges"
    assert (await club.client.get(f"{url}/{made['id']}")).json() == made
    second = await club.challenge(name="other")
    page = (await club.client.get(f"{url}?limit=1")).json()
    rest = (await club.client.get(f"{url}?limit=1&cursor={page['next_cursor']}")).json()
    assert [*page["items"], *rest["items"]] == [made, second]
    changed = (await club.alter(made, name="Eleven", points=60, limits=None)).json()
    assert (changed["name"], changed["points"], changed["limits"], changed["goal"]) == ("Eleven", 60, [], 10)
    assert (await club.client.delete(f"{url}/{made['id']}")).status_code == 204
    refused(await club.client.get(f"{url}/{made['id']}"), 404, "challenge_not_found")
    refused(await club.client.delete(f"{url}/{made['id']}"), 404, "challenge_not_found")
    assert (await club.client.get(url)).json()["items"] == [second]


async def test_the_same_key_makes_one_challenge(club):
    url = f"/v1/programs/{club.program_id}/challenges"
    answers = [await club.client.post(url, json=CARD, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert len((await club.client.get(url)).json()["items"]) == 1


BAD = {
    "no goal": {"goal": None},
    "a goal of nothing": {"goal": 0},
    "a goal beyond all": {"goal": 2**63},
    "a goal in a text": {"goal": "10"},
    "no points": {"points": None},
    "zero points": {"points": 0},
    "points and a reward": {"reward_id": str(uuid7())},
    "a streak of nothing": {"kind": "streak"},
    "a count of days": {"per": "day"},
    "a streak of years": {"kind": "streak", "per": "year"},
    "a streak with a limit": {"kind": "streak", "per": "day", "limits": [{"times": 1, "per": "day"}]},
    "a streak of units": {"kind": "streak", "per": "day", "per_unit": True},
    "units of an event": {"event": "review", "per_unit": True},
    "a filter on an event": {"event": "review", "filter": {"skus": ["A"]}},
    "a minimum of an event": {"event": "review", "min_spend": "1"},
    "a minimum as a number": {"min_spend": 1},
    "a limit of points": {"limits": [{"points": 1, "per": "day"}]},
    "a limit of nothing": {"limits": [{"times": 0, "per": "day"}]},
    "a limit per hour": {"limits": [{"times": 1, "per": "hour"}]},
    "a window that ends before it begins": {"window": {"from": "2026-11-02", "to": "2026-11-01"}},
    "an unknown status": {"status": "gone"},
    "an unknown field": {"colour": "red"},
    "a name of nothing": {"name": " "},
    "an event that is no name": {"event": "Yoga class"},
    "NUL": {"name": "a\x00b"},
}


@pytest.mark.parametrize("facts", BAD.values(), ids=BAD)
async def test_a_challenge_that_can_not_be_is_refused_and_changes_nothing(club, session, facts):
    before = await checksum(session)
    body = {name: value for name, value in (CARD | facts).items() if value is not None}
    answer = await club.client.post(f"/v1/programs/{club.program_id}/challenges", json=body)
    refused(answer, 422, "invalid")
    assert await checksum(session) == before


@pytest.mark.parametrize("facts", [{"goal": 5}, {"event": "x"}, {"kind": "streak"}, {"per_unit": True}])
async def test_what_members_have_begun_to_collect_does_not_change(club, facts):
    refused(await club.alter(await club.challenge(), **facts), 422, "invalid")


@pytest.mark.parametrize("facts", [{"points": None}, {"name": None}, {"reward_id": str(uuid7())}, {"points": -1}])
async def test_a_change_that_can_not_be_is_refused(club, facts):
    refused(await club.alter(await club.challenge(), **facts), 422, "invalid")


async def test_a_challenge_gives_a_reward_of_its_own_program(club):
    reward = await club.reward()
    made = await club.challenge()
    changed = (await club.alter(made, points=None, reward_id=reward["id"])).json()
    assert (changed["points"], changed["reward_id"]) == (None, reward["id"])
    refused(await club.alter(made, points=None, reward_id=str(uuid7())), 422, "unknown_reward")
    body = {**CARD, "points": None, "reward_id": str(uuid7())}
    answer = await club.client.post(
        f"/v1/programs/{club.program_id}/challenges", json={k: v for k, v in body.items() if v is not None}
    )
    refused(answer, 422, "unknown_reward")


async def test_what_is_not_there_is_404(club):
    nobody, sari = UUID(int=1), await club.member()
    await club.challenge()
    refused(await club.client.get(f"/v1/contacts/{nobody}/challenges"), 404, "contact_not_found")
    refused(await club.client.get(f"/v1/contacts/{sari}/challenges?program={nobody}"), 404, "program_not_found")
    refused(await club.client.post(f"/v1/programs/{nobody}/challenges", json=CARD), 404, "program_not_found")
    refused(await club.client.get(f"/v1/programs/{nobody}/challenges"), 404, "program_not_found")
    url = f"/v1/programs/{club.program_id}/challenges/{nobody}"
    refused(await club.client.get(url), 404, "challenge_not_found")
    refused(await club.client.patch(url, json={"name": "x"}), 404, "challenge_not_found")


async def test_without_a_challenge_there_is_nothing_to_list(club):
    sari = await club.member()
    assert (await club.get(sari, "challenges")) == {"items": [], "next_cursor": None}
    refused(await club.client.get(f"/v1/contacts/{UUID(int=1)}/challenges"), 404, "contact_not_found")


async def test_each_route_needs_its_scope(club):
    sari = await club.member()
    reader = await club.client.limited_to("programs:read", "loyalty:read")
    url = f"/v1/programs/{club.program_id}/challenges"
    assert (await reader.get(url)).status_code == 200
    assert (await reader.get(f"/v1/contacts/{sari}/challenges")).status_code == 200
    assert (await reader.post(url, json=CARD)).status_code == 403
