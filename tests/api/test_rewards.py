"""The reward catalogue over HTTP, what members see of it, buy of it and bring back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shelf import NEW, Shelf, refused
from tests.loyalty.shop import EARNED, PROGRAM, checksum

NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
VIEW = {
    "id", "program_id", "name", "description", "cost", "stock", "limits", "fulfilment", "window", "condition",
    "tier_id", "valid_days", "code_pattern", "categories", "skus", "status", "created_at", "updated_at",
}  # fmt: skip
CHOICE = {
    "id", "name", "description", "cost", "stock", "fulfilment", "tier_id", "valid_days", "available", "why_not",
    "score", "reasons",
}  # fmt: skip
JAKARTA = ZoneInfo("Asia/Jakarta")


@pytest.fixture
async def shelf(client: Any) -> Shelf:
    return await Shelf.open(client)


@pytest.fixture
async def sari(shelf: Shelf) -> UUID:
    return await shelf.member(points=1000)


def codes(choice: dict[str, Any]) -> list[str]:
    return [each["code"] for each in choice["why_not"]]


# ---------------------------------------------------------------- the catalogue


async def test_a_reward_needs_a_name_and_a_cost(shelf):
    reward = await shelf.reward()
    assert reward.keys() == VIEW
    expected = {
        "name": "Coffee", "cost": 100, "stock": None, "limits": [], "fulfilment": "manual", "window": None,
        "tier_id": None, "valid_days": None, "description": None, "status": "active", "program_id": shelf.program_id,
    }  # fmt: skip
    assert {name: reward[name] for name in expected} == expected


async def test_a_reward_is_read_as_it_was_written(shelf, client):
    tier = await shelf.tier("Gold", 9)
    facts = {
        "stock": 5, "limits": [{"times": 1, "per": "day"}, {"points": 300, "per": "month"}], "fulfilment": "voucher",
        "window": {"from": "2026-11-01", "weekdays": ["tue"], "hours": ["16:00", "18:00"]}, "tier_id": tier["id"],
        "valid_days": 30, "code_pattern": "KOPI-######", "description": "Any size.", "status": "draft",
    }  # fmt: skip
    reward = await shelf.reward(**facts)
    assert {name: reward[name] for name in facts} == facts
    url = f"/v1/programs/{shelf.program_id}/rewards"
    assert (await client.get(f"{url}/{reward['id']}")).json() == reward
    assert (await client.get(url)).json() == {"items": [reward], "next_cursor": None}


async def test_rewards_are_listed_in_the_order_they_were_made(shelf, client):
    made = [(await shelf.reward(name=f"Reward {number}"))["id"] for number in range(5)]
    url, seen, cursor = f"/v1/programs/{shelf.program_id}/rewards", [], None
    while True:
        page = (await client.get(url, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made


async def test_a_patch_changes_what_it_names_and_null_goes_back_to_the_default(shelf):
    reward = await shelf.reward(stock=5, valid_days=30, limits=[{"times": 1, "per": "day"}], status="draft")
    changed = await shelf.change(reward, cost=50, valid_days=None, limits=None, status=None)
    expected = reward | {"cost": 50, "valid_days": None, "limits": [], "status": "active"}
    assert changed == expected | {"updated_at": changed["updated_at"]}
    assert (await shelf.change(reward, stock=None))["stock"] is None
    assert (await shelf.change(reward, stock=3))["stock"] == 3


async def test_an_ended_reward_is_gone_and_what_was_issued_stays(shelf, sari, client):
    reward = await shelf.reward()
    redemption = (await shelf.get_reward(sari, reward)).json()
    url = f"/v1/programs/{shelf.program_id}/rewards/{reward['id']}"
    assert (await client.delete(url)).status_code == 204
    refused(await client.get(url), 404, "reward_not_found")
    refused(await client.patch(url, json={"cost": 1}), 404, "reward_not_found")
    refused(await client.delete(url), 404, "reward_not_found")
    assert (await client.get(f"/v1/programs/{shelf.program_id}/rewards")).json()["items"] == []
    assert (await shelf.get(sari, "rewards"))["items"] == []
    refusal = refused(await shelf.get_reward(sari, reward), 409, "not_eligible")
    assert [each["code"] for each in refusal["why_not"]] == ["ended"]
    kept = await shelf.get(sari, f"redemptions/{redemption['id']}")
    assert kept["reward"] == {"id": reward["id"], "name": "Coffee"}
    assert (await shelf.advance(sari, redemption["id"], "fulfilled")).json()["status"] == "fulfilled"


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        pytest.param({"name": None}, "/name", id="no name"),
        pytest.param({"name": " "}, "/name", id="blank name"),
        *(pytest.param({"cost": cost}, "/cost", id=f"cost {cost}") for cost in (None, -1, 2**53, "100", 1.5, True)),
        *(pytest.param({"stock": stock}, "/stock", id=f"stock {stock}") for stock in (-1, 2**53, "5", 0.5)),
        pytest.param({"limits": [{"per": "day"}]}, "/limits/0", id="limit of nothing"),
        pytest.param({"limits": [{"per": "day", "times": 1, "points": 1}]}, "/limits/0", id="two limits in one"),
        pytest.param({"limits": [{"times": 1}]}, "/limits/0/per", id="limit without a period"),
        pytest.param({"limits": [{"times": 0, "per": "day"}]}, "/limits/0/times", id="limit of zero"),
        pytest.param({"limits": [{"times": 1, "per": "hour"}]}, "/limits/0/per", id="limit by the hour"),
        pytest.param({"limits": [{"times": 1, "per": "day"}] * 11}, "/limits", id="eleven limits"),
        pytest.param({"fulfilment": "mail"}, "/fulfilment", id="fulfilment"),
        pytest.param({"window": {"from": "2026-11-02", "to": "2026-11-01"}}, "/window", id="window backwards"),
        pytest.param({"valid_days": -1}, "/valid_days", id="days"),
        pytest.param({"valid_days": 36_501}, "/valid_days", id="too many days"),
        pytest.param({"tier_id": "gold"}, "/tier_id", id="tier by name"),
        pytest.param({"tier_id": str(NOBODY)}, "/tier_id", id="no such tier"),
        pytest.param({"code_pattern": "KOPI"}, "/code_pattern", id="pattern without a place to draw"),
        pytest.param({"code_pattern": "KOPI-#####"}, "/code_pattern", id="pattern to guess"),
        pytest.param({"code_pattern": "KÖPI-######"}, "/code_pattern", id="pattern with a letter of its own"),
        pytest.param({"status": "ended"}, "/status", id="status"),
        pytest.param({"conditions": {}}, "/conditions", id="unknown field"),
        pytest.param(
            {"condition": {"field": "shoe_size", "op": "eq", "value": 1}}, "/condition/field", id="unknown fact"
        ),
    ],
)
async def test_a_reward_that_is_not_valid_is_refused_and_changes_nothing(shelf, client, session, facts, pointer):
    reward = await shelf.reward()
    before = await checksum(session)
    url = f"/v1/programs/{shelf.program_id}/rewards"
    body = {name: value for name, value in (NEW | facts).items() if value is not None}
    answers = [await client.post(url, json=body), await client.patch(f"{url}/{reward['id']}", json=facts)]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", f"programs/{NOBODY}/rewards", "program_not_found"),
        ("GET", f"programs/{NOBODY}/rewards", "program_not_found"),
        ("GET", "programs/{program}/rewards/{nobody}", "reward_not_found"),
        ("PATCH", "programs/{program}/rewards/{nobody}", "reward_not_found"),
        ("DELETE", "programs/{program}/rewards/{nobody}", "reward_not_found"),
        ("GET", "contacts/{nobody}/rewards", "contact_not_found"),
        ("GET", "contacts/{sari}/rewards?program={nobody}", "program_not_found"),
        ("PATCH", "contacts/{sari}/redemptions/{nobody}", "redemption_not_found"),
    ],
)
async def test_what_there_is_not_is_not_found(shelf, sari, client, method, path, code):
    body = {"POST": NEW, "PATCH": {"status": "ready"} if "redemptions" in path else {"cost": 1}}.get(method)
    url = f"/v1/{path.format(program=shelf.program_id, nobody=NOBODY, sari=sari)}"
    refused(await client.request(method, url, json=body), 404, code)


async def test_a_key_makes_one_reward(shelf, client):
    answers = [
        await client.post(f"/v1/programs/{shelf.program_id}/rewards", json=NEW, headers={"Idempotency-Key": "K-1"})
        for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert len((await client.get(f"/v1/programs/{shelf.program_id}/rewards")).json()["items"]) == 1


# ---------------------------------------------------------------- what a member sees


async def test_a_member_sees_what_can_be_had_and_why_the_rest_can_not(shelf, sari):
    gold = await shelf.tier("Gold", 1500)
    cheap = await shelf.reward(description="Any size.", stock=3)
    dear = await shelf.reward(name="Machine", cost=1120)
    sold_out = await shelf.reward(stock=0)
    noble = await shelf.reward(tier_id=gold["id"])
    later = await shelf.reward(window={"from": "2190-01-01"})
    over = await shelf.reward(window={"to": "2020-01-01"}, stock=0)
    hidden = [await shelf.reward(status=status) for status in ("draft", "disabled")]
    items = (await shelf.get(sari, "rewards"))["items"]
    assert [item["id"] for item in items] == [each["id"] for each in (cheap, dear, sold_out, noble, later, over)]
    assert not {each["id"] for each in hidden} & {item["id"] for item in items}
    assert items[0] == {
        "id": cheap["id"], "name": "Coffee", "description": "Any size.", "cost": 100, "stock": 3,
        "fulfilment": "manual", "tier_id": None, "valid_days": None, "available": True, "why_not": [],
        "score": 300, "reasons": [{"code": "enough_points", "text": "you have enough points"}],
    }  # fmt: skip
    assert {frozenset(item) for item in items} == {frozenset(CHOICE)}
    nothing = {"missing": None, "until": None, "tier": None}
    assert [item["why_not"] for item in items[1:]] == [
        [nothing | {"code": "insufficient_points", "missing": 120}],
        [nothing | {"code": "out_of_stock"}],
        [nothing | {"code": "tier_needed", "missing": 500, "tier": "Gold"}],
        [nothing | {"code": "not_started", "until": "2189-12-31T17:00:00Z"}],
        [nothing | {"code": "ended"}, nothing | {"code": "out_of_stock"}],
    ]
    assert [item["available"] for item in items] == [True] + [False] * 5


async def test_a_member_without_an_account_sees_the_rewards_too(shelf):
    reward = await shelf.reward()
    budi = await shelf.member()
    assert (await shelf.choice(budi, reward))["why_not"][0]["missing"] == 100


async def test_a_reached_limit_says_when_it_resets(shelf, sari):
    reward = await shelf.reward(limits=[{"times": 2, "per": "day"}])
    for _ in range(2):
        assert (await shelf.get_reward(sari, reward)).status_code == 201
    tomorrow = (datetime.now(JAKARTA) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    [reason] = (await shelf.choice(sari, reward))["why_not"]
    assert reason["code"] == "limit_reached"
    assert datetime.fromisoformat(reason["until"]) == tomorrow


async def test_a_member_s_list_has_pages_and_costs_a_handful_of_queries_however_long(live_client, statements):
    shelf = await Shelf.open(live_client)
    sari = await shelf.member(points=500)
    condition = {"all": [{"field": "name", "op": "exists", "value": True}, {"did": "points.earned"}]}
    made = [
        (await shelf.reward(limits=[{"times": 9, "per": "week"}], stock=1, condition=condition))["id"] for _ in range(7)
    ]
    await shelf.get(sari, "rewards")
    statements.clear()
    await shelf.get(sari, "rewards")
    assert len(statements) == 6
    seen, cursor = [], ""
    while cursor is not None:
        page = await shelf.get(sari, f"rewards?limit=3{f'&cursor={cursor}' if cursor else ''}")
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == made


# ---------------------------------------------------------------- buying


async def test_a_reward_costs_what_the_catalogue_says(shelf, sari):
    reward = await shelf.reward(stock=5)
    answer = await shelf.get_reward(sari, reward, points=1, quantity=2, store="Bandung")
    assert answer.status_code == 201
    bought = answer.json()
    assert (bought["points"], bought["status"], bought["quantity"]) == (200, "requested", 2)
    assert (bought["reward_id"], bought["voucher"]) == (reward["id"], None)
    assert (bought["balance"]["available"], bought["balance"]["lifetime_redeemed"]) == (800, 200)
    assert await shelf.stock(reward) == 3
    kept = await shelf.get(sari, f"redemptions/{bought['id']}")
    assert kept["reward"] == {"id": reward["id"], "name": "Coffee"}
    assert (kept["points"], kept["quantity"], kept["status"], kept["cause"]) == (200, 2, "requested", "redemption")
    assert (await shelf.get(sari, "redemptions"))["items"] == [kept]
    newest = (await shelf.transactions(sari))[0]
    assert (newest["id"], newest["kind"], newest["cause"], newest["points"]) == (
        bought["id"], "redeem", "reward", -200,
    )  # fmt: skip
    told = (await shelf.get(sari, "timeline?kind=reward.redeemed"))["items"][0]["data"]
    assert (told["name"], told["quantity"], told["points"], told["store"]) == ("Coffee", 2, 200, "Bandung")
    assert set(await shelf.told(sari)) == {"points.earned", "points.redeemed", "reward.redeemed"}


async def test_what_is_free_moves_no_points(shelf, sari):
    reward = await shelf.reward(cost=0, limits=[{"times": 1, "per": "year"}])
    bought = (await shelf.get_reward(sari, reward)).json()
    assert (bought["points"], bought["status"]) == (0, "requested")
    assert bought["balance"]["available"] == 1000
    refused(await shelf.get_reward(sari, reward), 409, "limit_reached")
    returned = await shelf.reverse(sari, bought["id"])
    assert (returned.status_code, returned.json()["points"], returned.json()["transaction_id"]) == (201, 0, None)
    again = await shelf.reverse(sari, bought["id"])
    assert (again.status_code, again.json()) == (200, returned.json())
    assert (await shelf.get_reward(sari, reward)).status_code == 201
    assert len(await shelf.transactions(sari)) == 1


async def test_a_refused_reward_says_why_and_changes_nothing(shelf, sari, session):
    gold = await shelf.tier("Gold", 1500)
    dear = await shelf.reward(cost=1001)
    sold_out = await shelf.reward(stock=0)
    few = await shelf.reward(stock=1)
    once = await shelf.reward(limits=[{"times": 1, "per": "lifetime"}])
    noble = await shelf.reward(tier_id=gold["id"], cost=5000)
    draft = await shelf.reward(status="draft")
    assert (await shelf.get_reward(sari, once)).status_code == 201
    before = await checksum(session)

    refusal = refused(await shelf.get_reward(sari, dear), 409, "insufficient_points")
    assert (refusal["required"], refusal["available"], refusal["missing"]) == (1001, 900, 101)
    refusal = refused(await shelf.get_reward(sari, sold_out), 409, "out_of_stock")
    assert refusal["why_not"] == [{"code": "out_of_stock", "missing": None, "until": None, "tier": None}]
    refused(await shelf.get_reward(sari, few, quantity=2), 409, "out_of_stock")
    refusal = refused(await shelf.get_reward(sari, once), 409, "limit_reached")
    assert (refusal["limit"], refusal["until"]) == ({"times": 1, "points": None, "per": "lifetime"}, None)
    refusal = refused(await shelf.get_reward(sari, noble), 409, "not_eligible")
    assert [each["code"] for each in refusal["why_not"]] == ["tier_needed", "insufficient_points"]
    assert [each["missing"] for each in refusal["why_not"]] == [500, 4100]
    refused(await shelf.get_reward(sari, draft), 409, "not_eligible")
    refused(await shelf.get_reward(sari, {"id": str(NOBODY)}), 404, "reward_not_found")
    refused(await shelf.get_reward(NOBODY, once), 404, "contact_not_found")
    assert await checksum(session) == before


async def test_a_condition_decides_who_can_have_a_reward(shelf, sari, client):
    condition = {"any": [
        {"field": "tags", "op": "contains", "value": "vip"},
        {"did": "reward.redeemed", "count": {"gte": 1}},
    ]}  # fmt: skip
    reward = await shelf.reward(condition=condition)
    plain = await shelf.reward()
    assert reward["condition"] == condition
    assert codes(await shelf.choice(sari, reward)) == ["not_eligible"]
    refusal = refused(await shelf.get_reward(sari, reward), 409, "not_eligible")
    assert [each["code"] for each in refusal["why_not"]] == ["not_eligible"]
    assert (await shelf.choice(sari, plain))["available"]
    budi = await shelf.member(points=1000)
    assert (await client.put(f"/v1/contacts/{budi}/tags/vip")).status_code in (200, 201, 204)
    assert (await shelf.choice(budi, reward))["available"]
    assert (await shelf.get_reward(budi, reward)).status_code == 201
    assert (await shelf.get_reward(sari, plain)).status_code == 201
    assert (await shelf.get_reward(sari, reward)).status_code == 201  # by what happened since
    assert (await shelf.change(reward, condition=None))["condition"] is None


async def test_a_reward_belongs_to_its_program(shelf, sari, client):
    other = (await client.post("/v1/programs", json=PROGRAM | {"name": "Teh"})).json()
    reward = (await client.post(f"/v1/programs/{other['id']}/rewards", json=NEW)).json()
    refused(await shelf.get_reward(sari, reward, program_id=shelf.program_id), 404, "reward_not_found")
    refused(await client.get(f"/v1/programs/{shelf.program_id}/rewards/{reward['id']}"), 404, "reward_not_found")
    refusal = refused(await shelf.get_reward(sari, reward), 409, "insufficient_points")  # by its id alone
    assert refusal["available"] == 0
    await shelf.award(sari, 100, program_id=other["id"])
    assert (await shelf.get_reward(sari, reward)).json()["balance"]["program_id"] == other["id"]
    assert await shelf.available(sari) == 1000


async def test_limits_count_what_was_bought_and_not_brought_back(shelf, sari):
    reward = await shelf.reward(limits=[{"points": 300, "per": "month"}])
    bought = (await shelf.get_reward(sari, reward, quantity=2)).json()
    refused(await shelf.get_reward(sari, reward, quantity=2), 409, "limit_reached")
    assert (await shelf.get_reward(sari, reward)).status_code == 201
    refused(await shelf.get_reward(sari, reward), 409, "limit_reached")
    assert (await shelf.reverse(sari, bought["id"])).status_code == 201
    assert (await shelf.get_reward(sari, reward, quantity=2)).status_code == 201
    budi = await shelf.member(points=1000)
    assert (await shelf.get_reward(budi, reward, quantity=3)).status_code == 201


async def test_a_limit_is_of_one_reward(shelf, sari):
    one, other = [await shelf.reward(limits=[{"times": 1, "per": "day"}]) for _ in range(2)]
    assert (await shelf.get_reward(sari, one)).status_code == 201
    assert (await shelf.get_reward(sari, other)).status_code == 201


@pytest.mark.parametrize(
    ("per", "ago", "free"),
    [("day", 2, True), ("week", 8, True), ("month", 32, True), ("year", 367, True), ("lifetime", 5000, False)],
)
async def test_a_limit_ends_with_its_period(shelf, sari, session, per, ago, free):
    reward = await shelf.reward(limits=[{"times": 1, "per": per}])
    assert (await shelf.get_reward(sari, reward)).status_code == 201
    refused(await shelf.get_reward(sari, reward), 409, "limit_reached")
    await session.execute("UPDATE redemptions SET occurred_at = now() - $1::interval", timedelta(days=ago))
    assert (await shelf.get_reward(sari, reward)).status_code == (201 if free else 409)


async def test_an_order_gets_a_reward_once(shelf, sari):
    reward = await shelf.reward(stock=5)
    first = await shelf.get_reward(sari, reward, order_ref="INV-9")
    await shelf.award(sari, 5)
    again = await shelf.get_reward(sari, reward, order_ref="INV-9")
    assert (first.status_code, again.status_code) == (201, 200)
    balance = again.json()["balance"]
    assert again.json() == first.json() | {"balance": balance}
    assert balance["available"] == 905
    assert await shelf.stock(reward) == 4
    refused(await shelf.get_reward(sari, reward, order_ref="INV-9", quantity=2), 409, "order_ref_reused")
    budi = await shelf.member(points=500)
    refused(await shelf.get_reward(budi, reward, order_ref="INV-9"), 409, "order_ref_reused")


async def test_an_order_can_be_paid_with_points_and_get_several_rewards(shelf, sari):
    one, other = await shelf.reward(), await shelf.reward(name="Cake")
    answers = [
        await shelf.redeem(sari, 50, order_ref="INV-9"),
        await shelf.get_reward(sari, one, order_ref="INV-9"),
        await shelf.get_reward(sari, other, order_ref="INV-9"),
        await shelf.redeem(sari, 50, order_ref="INV-9"),
        await shelf.get_reward(sari, other, order_ref="INV-9"),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 200, 200]
    assert await shelf.available(sari) == 750


async def test_points_of_an_order_buy_no_reward_of_that_order(shelf):
    budi = await shelf.member()
    await shelf.buy(budi)
    reward = await shelf.reward(cost=EARNED)
    refusal = refused(await shelf.get_reward(budi, reward, order_ref="INV-1"), 409, "insufficient_points")
    assert refusal["available"] == 0
    assert (await shelf.get_reward(budi, reward, order_ref="INV-2")).status_code == 201


async def test_a_key_buys_one_reward(shelf, sari):
    reward = await shelf.reward(stock=5, fulfilment="voucher")
    answers = [await shelf.get_reward(sari, reward, key="K-1") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"
    refused(await shelf.get_reward(sari, reward, key="K-1", quantity=2), 422, "idempotency_key_reused")
    assert await shelf.stock(reward) == 4


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reward_id": str(NOBODY), "quantity": 0}, "/quantity"),
        ({"reward_id": str(NOBODY), "quantity": 1001}, "/quantity"),
        ({"reward_id": str(NOBODY), "quantity": "2"}, "/quantity"),
        ({"reward_id": "coffee"}, "/reward_id"),
        ({"reward_id": None}, "/points"),
        ({"points": 5, "quantity": 2}, "/quantity"),
        ({"points": 5, "order_total": 100}, "/order_total"),
        ({"points": 5, "order_total": "-1"}, "/order_total"),
        ({"reward_id": str(NOBODY), "points": -1}, "/points"),
    ],
)
async def test_a_redemption_that_is_not_valid_names_the_field(shelf, sari, body, pointer):
    answer = await shelf.post(sari, "redemptions", body)
    assert answer.status_code == 422
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}


# ---------------------------------------------------------------- handing over


async def test_a_reward_is_requested_then_ready_then_fulfilled(shelf, sari):
    reward = await shelf.reward()
    bought = (await shelf.get_reward(sari, reward)).json()
    for status in ("ready", "ready", "fulfilled", "fulfilled"):
        answer = await shelf.advance(sari, bought["id"], status)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
        assert answer.json() == await shelf.get(sari, f"redemptions/{bought['id']}")
    refusal = refused(await shelf.advance(sari, bought["id"], "ready"), 409, "not_to_fulfil")
    assert refusal["status_now"] == "fulfilled"
    kinds = await shelf.told(sari)
    assert [kind for kind in kinds if kind.startswith("reward.")] == [
        "reward.fulfilled", "reward.ready", "reward.redeemed",
    ]  # fmt: skip
    straight = (await shelf.get_reward(sari, reward)).json()
    assert (await shelf.advance(sari, straight["id"], "fulfilled")).json()["status"] == "fulfilled"


async def test_only_a_reward_to_hand_over_can_be_fulfilled(shelf, sari):
    manual, coded = await shelf.reward(), await shelf.reward(fulfilment="voucher")
    plain = (await shelf.redeem(sari, 10)).json()
    voucher = (await shelf.get_reward(sari, coded)).json()
    back = (await shelf.get_reward(sari, manual)).json()
    await shelf.reverse(sari, back["id"])
    for redemption in (plain, voucher, back):
        refused(await shelf.advance(sari, redemption["id"], "fulfilled"), 409, "not_to_fulfil")
    for status in ("requested", "issued", "used", "reversed", None):
        assert (await shelf.advance(sari, back["id"], status)).status_code == 422
    budi = await shelf.member()
    refused(await shelf.advance(budi, back["id"], "ready"), 404, "redemption_not_found")


# ---------------------------------------------------------------- bringing back


@pytest.mark.parametrize(("facts", "left"), [({}, 5), ({"write_off": True}, 3)])
async def test_what_is_brought_back_returns_points_and_stock_unless_it_is_written_off(shelf, facts, left):
    budi = await shelf.member()
    soon = (datetime.now(UTC) + timedelta(days=30)).isoformat().replace("+00:00", "Z")
    await shelf.award(budi, 150, expires_at=soon)
    await shelf.award(budi, 100)
    reward = await shelf.reward(stock=5)
    bought = (await shelf.get_reward(budi, reward, quantity=2)).json()
    assert bought["balance"]["expiring"] == []
    answer = await shelf.reverse(budi, bought["id"], reason="changed_mind", **facts)
    assert answer.status_code == 201
    returned = answer.json()
    assert (returned["points"], returned["points_returned"], returned["points_returned_expired"]) == (200, 200, 0)
    assert returned["balance"]["expiring"] == [{"points": 150, "expires_at": soon}]
    assert (returned["balance"]["available"], returned["balance"]["lifetime_redeemed"]) == (250, 0)
    assert await shelf.stock(reward) == left
    again = await shelf.reverse(budi, bought["id"])
    assert (again.status_code, again.json()) == (200, returned)
    assert await shelf.stock(reward) == left
    kept = await shelf.get(budi, f"redemptions/{bought['id']}")
    assert (kept["status"], kept["reversal_id"]) == ("reversed", returned["transaction_id"])
    told = (await shelf.get(budi, "timeline?kind=reward.returned"))["items"]
    assert [item["data"].get("written_off", False) for item in told] == [bool(facts)]
    assert told[0]["data"]["reason"] == "changed_mind"


async def test_what_was_taken_away_is_not_brought_back(shelf, sari, session):
    reward = await shelf.reward(stock=5)
    bought = (await shelf.get_reward(sari, reward)).json()
    await shelf.advance(sari, bought["id"], "ready")
    other = (await shelf.get_reward(sari, reward)).json()
    assert (await shelf.reverse(sari, bought["id"])).status_code == 201  # ready, but not taken away
    await shelf.advance(sari, other["id"], "fulfilled")
    before = await checksum(session)
    refused(await shelf.reverse(sari, other["id"]), 409, "already_fulfilled")
    assert await checksum(session) == before


async def test_a_stock_that_was_never_counted_is_not_counted_when_something_comes_back(shelf, sari):
    reward = await shelf.reward()
    bought = (await shelf.get_reward(sari, reward)).json()
    await shelf.change(reward, stock=3)
    assert (await shelf.reverse(sari, bought["id"])).status_code == 201
    assert await shelf.stock(reward) == 3
    counted = (await shelf.get_reward(sari, reward)).json()
    assert await shelf.stock(reward) == 2
    await shelf.change(reward, stock=None)
    assert (await shelf.get_reward(sari, reward)).status_code == 201
    assert (await shelf.reverse(sari, counted["id"])).status_code == 201
    assert (await shelf.change(reward, stock=7))["stock"] == 7


# ---------------------------------------------------------------- what points are worth

WORTH = {"points": 100, "amount": "1.00", "min_points": 200, "max_share": "0.5"}


async def set_worth(shelf: Shelf, worth: Any) -> Any:
    return await shelf.client.patch(f"/v1/programs/{shelf.program_id}", json={"redemption": worth})


async def test_a_program_says_what_points_are_worth(shelf, client):
    made = await client.post("/v1/programs", json=PROGRAM | {"redemption": {"points": 3, "amount": "2"}})
    assert made.json()["redemption"] == {"points": 3, "amount": "2", "min_points": None, "max_share": None}
    changed = await set_worth(shelf, WORTH)
    assert changed.json()["redemption"] == WORTH
    assert (await client.get(f"/v1/programs/{shelf.program_id}")).json()["redemption"] == WORTH
    assert (await client.patch(f"/v1/programs/{shelf.program_id}", json={"name": "Teh"})).json()["redemption"] == WORTH
    assert (await set_worth(shelf, None)).json()["redemption"] is None


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        ({"points": 0}, "/redemption/points"),
        ({"points": "100"}, "/redemption/points"),
        ({"amount": "0.00"}, "/redemption/amount"),
        ({"amount": 1}, "/redemption/amount"),
        ({"min_points": 0}, "/redemption/min_points"),
        *(({"max_share": share}, "/redemption/max_share") for share in ("0", "0.0", "1.01", "-0.5", 0.5, "50%", "2")),
        ({"maximum": 1}, "/redemption/maximum"),
    ],
)
async def test_a_worth_that_is_not_valid_is_refused(shelf, facts, pointer):
    answer = await set_worth(shelf, WORTH | facts)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}


@pytest.mark.parametrize(
    ("points", "order_total", "found"),
    [
        (500, "100.00", {"points": 500, "amount": "5.00"}),
        (5000, "100.00", {"points": 1000, "amount": "10.00"}),
        (5000, "13.99", {"points": 600, "amount": "6.00"}),
        (199, "100.00", {"points": 0, "amount": "0.00"}),
    ],
)
async def test_a_simulation_says_what_can_be_paid_and_writes_nothing(shelf, sari, session, points, order_total, found):
    await set_worth(shelf, WORTH)
    before = await checksum(session)
    answer = await shelf.post(sari, "redemptions/simulations", {"points": points, "order_total": order_total})
    assert (answer.status_code, answer.json()) == (200, found)
    assert await checksum(session) == before


async def test_a_simulation_counts_no_dead_points_and_needs_a_worth(shelf, session):
    budi = await shelf.member()
    await shelf.award(budi, 500, expires_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    body = {"points": 500, "order_total": "100.00"}
    refused(await shelf.post(budi, "redemptions/simulations", body), 422, "no_conversion")
    await set_worth(shelf, WORTH)
    assert (await shelf.post(budi, "redemptions/simulations", body)).json()["points"] == 500
    await session.execute("UPDATE points_lots SET expires_at = now() - interval '1 s'")
    await session.execute("UPDATE loyalty_accounts SET next_due_at = now() - interval '1 s'")
    assert (await shelf.post(budi, "redemptions/simulations", body)).json()["points"] == 0
    refused(await shelf.post(NOBODY, "redemptions/simulations", body), 404, "contact_not_found")


async def test_a_payment_is_refused_where_a_simulation_would_cut_it_down(shelf, sari, session):
    await set_worth(shelf, WORTH)
    before = await checksum(session)
    refused(await shelf.redeem(sari, 199), 422, "below_minimum")
    refused(await shelf.redeem(sari, 250), 422, "not_a_multiple")
    refused(await shelf.redeem(sari, 800, order_total="14.00"), 422, "above_share")
    refused(await shelf.redeem(sari, 1100), 409, "insufficient_points")
    assert await checksum(session) == before
    assert (await shelf.redeem(sari, 700, order_total="14.00")).status_code == 201
    reward = await shelf.reward(cost=30)  # is not paid for in money
    assert (await shelf.get_reward(sari, reward)).status_code == 201


# ---------------------------------------------------------------- who may


SCOPES = {
    "programs:write": [
        ("POST", "programs/{program}/rewards"), ("PATCH", "programs/{program}/rewards/{id}"),
        ("DELETE", "programs/{program}/rewards/{id}"), ("POST", "programs/{program}/voucher-pools"),
    ],
    "programs:read": [
        ("GET", "programs/{program}/rewards"), ("GET", "programs/{program}/rewards/{id}"),
        ("GET", "programs/{program}/voucher-pools"), ("GET", "programs/{program}/voucher-pools/{id}"),
    ],
    "loyalty:redeem": [
        ("PATCH", "contacts/{sari}/redemptions/{id}"), ("POST", "vouchers/ABCDEF/redemptions"),
        ("DELETE", "vouchers/ABCDEF/redemptions/{id}"),
    ],
    "loyalty:award": [("POST", "programs/{program}/vouchers")],
    "loyalty:read": [
        ("GET", "contacts/{sari}/rewards"), ("POST", "contacts/{sari}/redemptions/simulations"),
        ("GET", "programs/{program}/vouchers"), ("GET", "contacts/{sari}/vouchers"), ("GET", "vouchers/ABCDEF"),
        ("GET", "vouchers/ABCDEF/redemptions"), ("GET", "vouchers/ABCDEF/redemptions/{id}"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_route_asks_for_its_own_scope(shelf, sari, scope):
    others = await shelf.client.limited_to(*(SCOPES.keys() - {scope}))
    holder = await shelf.client.limited_to(scope)
    for asked, routes in SCOPES.items():
        for method, path in routes:
            url = f"/v1/{path.format(program=shelf.program_id, sari=sari, id=uuid7())}"
            if asked == scope:
                refused(await others.request(method, url, json={}), 403, "scope_missing")
            answer = await holder.request(method, url, json={})
            assert (answer.status_code == 403) is (asked != scope), (method, path)
