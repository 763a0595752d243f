"""Refunds over HTTP: what is taken back from where, what is written off, and what returns to which lot."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.loyalty.shop import Shop, checksum

pytestmark = pytest.mark.usefixtures("audited_session")

NOW = datetime.now(UTC)


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


async def change(shop: Shop, **settings: Any) -> None:
    answer = await shop.client.patch(f"/v1/programs/{shop.program_id}", json=settings)
    assert answer.status_code == 200, answer.text


async def refund(shop: Shop, who: Any, ref: str = "CN-1", *, order: str = "INV-1", **what: Any) -> dict[str, Any]:
    answer = await shop.post(who, f"purchases/{order}/refunds", {"refund_ref": ref, **what})
    assert answer.status_code == 201, answer.text
    return answer.json()


def numbers(refunded: dict[str, Any]) -> tuple[int, int, int, int]:
    return (
        refunded["points_taken_back"], refunded["points_written_off"], refunded["points_returned"],
        refunded["points_returned_expired"],
    )  # fmt: skip


async def test_two_refunds_take_what_one_would(shop):
    sari = await shop.member()
    await shop.buy(sari, total="10000.00")
    first = await refund(shop, sari, "CN-1", amount="5000")
    second = await refund(shop, sari, "CN-2", amount="5000")
    assert numbers(first) == numbers(second) == (5, 0, 0, 0)
    assert second["balance"]["available"] == 0
    assert second["balance"]["lifetime_earned"] == 10


async def test_a_refund_by_lines_takes_what_those_lines_earned(shop):
    rule = {"name": "double cake", "kind": "multiplier", "factor": "2", "filter": {"categories": ["cake"]}}
    assert (await shop.client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)).status_code == 201
    sari = await shop.member()
    lines = [
        {"sku": "A", "category": "cake", "quantity": "2", "unit_price": "10000"},
        {"sku": "B", "category": "tea", "quantity": "1", "unit_price": "20000"},
    ]
    assert (await shop.buy(sari, total=None, lines=lines)).json()["points"] == 60
    assert numbers(await refund(shop, sari, "CN-1", lines=[{"line": 0, "quantity": "1"}])) == (20, 0, 0, 0)
    assert numbers(await refund(shop, sari, "CN-2", lines=[{"line": 1, "quantity": "1"}])) == (20, 0, 0, 0)
    assert numbers(await refund(shop, sari, "CN-3", amount="10000")) == (20, 0, 0, 0)


async def test_a_rule_that_changed_since_makes_no_difference(shop):
    sari = await shop.member()
    await shop.buy(sari)
    url = f"/v1/programs/{shop.program_id}/earning-rules"
    rule = (await shop.client.get(url)).json()["items"][0]
    assert (await shop.client.delete(f"{url}/{rule['id']}")).status_code == 204
    assert numbers(await refund(shop, sari, amount="45000")) == (45, 0, 0, 0)


@pytest.mark.parametrize(
    ("policy", "spent", "taken", "written_off", "available"),
    [
        ("within_balance", 0, 45, 0, 10),
        ("within_balance", 50, 5, 40, 0),
        ("unlimited", 50, 45, 0, -40),
        ("only_pending", 0, 0, 45, 55),
    ],
)
async def test_the_return_policy_says_how_far_a_take_back_reaches(shop, policy, spent, taken, written_off, available):
    await change(shop, return_policy=policy)
    sari = await shop.member(points=10)
    await shop.buy(sari)
    if spent:
        assert (await shop.redeem(sari, spent)).status_code == 201
    refunded = await refund(shop, sari, amount="45000")
    assert numbers(refunded) == (taken, written_off, 0, 0)
    assert refunded["balance"]["available"] == available


async def test_a_deficit_is_filled_by_what_is_earned_next(shop):
    await change(shop, return_policy="unlimited")
    sari = await shop.member()
    await shop.buy(sari)
    await shop.redeem(sari, 45)
    assert (await refund(shop, sari, amount="45000"))["balance"]["available"] == -45
    assert (await shop.award(sari, 50)).json()["balance"]["available"] == 5


async def test_pending_points_of_the_order_go_first_and_then_other_pending_ones(shop):
    await change(shop, activation={"days": 7})
    sari = await shop.member(points=100)  # by hand: available at once
    await shop.buy(sari, order_ref="INV-1", occurred_at=NOW.isoformat())
    await shop.buy(sari, order_ref="INV-2", total="20000", occurred_at=NOW.isoformat())
    after = await refund(shop, sari, order="INV-2", amount="20000")
    assert (after["balance"]["pending"], after["balance"]["available"]) == (45, 100)
    await change(shop, return_policy="only_pending")
    await shop.buy(sari, order_ref="INV-3", total="30000", occurred_at=(NOW - timedelta(days=30)).isoformat())
    assert (await shop.balance(sari))["available"] == 130
    after = await refund(shop, sari, "CN-3", order="INV-3", amount="30000")
    assert numbers(after) == (30, 0, 0, 0)
    assert (after["balance"]["pending"], after["balance"]["available"]) == (15, 130)


@pytest.mark.parametrize(
    ("policy", "first", "second"),
    [("prorate", (22, 0, 5, 0), (23, 0, 5, 0)), ("full_refund_only", (22, 0, 0, 0), (23, 0, 10, 0)),
     ("none", (22, 0, 0, 0), (23, 0, 0, 0))],
)  # fmt: skip
async def test_points_that_paid_return_by_the_policy(shop, policy, first, second):
    await change(shop, spent_return_policy=policy)
    sari = await shop.member(points=100)
    await shop.buy(sari)
    assert (await shop.redeem(sari, 10, order_ref="INV-1")).status_code == 201
    assert numbers(await refund(shop, sari, "CN-1", amount="22500")) == first
    assert numbers(await refund(shop, sari, "CN-2", amount="22500")) == second


async def test_points_return_to_lots_that_have_expired_only_within_the_grace(shop, session):
    dead = (NOW - timedelta(hours=1)).isoformat()
    sari = await shop.member()
    await shop.award(
        sari, 10, occurred_at=(NOW - timedelta(days=3)).isoformat(), expires_at=(NOW + timedelta(days=1)).isoformat()
    )
    await shop.award(sari, 90)
    await shop.buy(sari)
    assert (await shop.redeem(sari, 20, order_ref="INV-1")).status_code == 201
    lot = await session.fetchval("SELECT id FROM points_lots WHERE contact_id = $1 AND expires_at IS NOT NULL", sari)
    await session.execute("UPDATE points_lots SET expires_at = $2 WHERE id = $1", lot, datetime.fromisoformat(dead))
    assert numbers(await refund(shop, sari, "CN-1", amount="22500")) == (22, 0, 10, 0)  # what was taken last, first
    assert numbers(await refund(shop, sari, "CN-2", amount="4500")) == (5, 0, 0, 2)
    await change(shop, return_grace_days=5)
    third = await refund(shop, sari, "CN-3", amount="4500")
    assert numbers(third) == (4, 0, 2, 0)
    ends_at = third["balance"]["expiring"][0]["expires_at"]
    assert timedelta(days=5) < datetime.fromisoformat(ends_at) - NOW < timedelta(days=6, minutes=1)


async def test_a_redemption_taken_back_by_hand_is_not_returned_again(shop):
    sari = await shop.member(points=100)
    await shop.buy(sari)
    redemption = (await shop.redeem(sari, 10, order_ref="INV-1")).json()
    assert (await shop.reverse(sari, redemption["id"])).status_code == 201
    assert numbers(await refund(shop, sari, amount="45000")) == (45, 0, 0, 0)


async def test_what_a_refund_returned_is_not_returned_again_by_hand(shop):
    sari = await shop.member(points=100)
    await shop.buy(sari)
    redemption = (await shop.redeem(sari, 10, order_ref="INV-1")).json()
    assert numbers(await refund(shop, sari, amount="22500"))[2] == 5
    reversed_ = (await shop.reverse(sari, redemption["id"])).json()
    assert reversed_["points_returned"] == 5
    assert reversed_["balance"]["available"] == 123
    assert reversed_["balance"]["lifetime_redeemed"] == 0


async def test_a_refund_takes_a_tier_back_by_all_that_was_due(shop):
    url = f"/v1/programs/{shop.program_id}/tiers"
    assert (await shop.client.post(url, json={"name": "Gold", "threshold": 45})).status_code == 201
    sari = await shop.member()
    assert (await shop.buy(sari)).json()["tier"]["current"]["name"] == "Gold"
    await shop.redeem(sari, 45)
    refunded = await refund(shop, sari, amount="1000")
    assert numbers(refunded) == (0, 1, 0, 0)
    assert refunded["tier"]["current"] is None
    assert refunded["tier"]["next"] == {"name": "Gold", "missing": 1, "unit": "points"}


@pytest.mark.parametrize(("basis", "threshold"), [("spend", 45_000), ("visits", 1)])
async def test_money_and_visits_stop_counting_too(shop, basis, threshold):
    url = f"/v1/programs/{shop.program_id}"
    await shop.client.post(f"{url}/tiers", json={"name": "Gold", "threshold": threshold})
    await shop.client.put(f"{url}/tier-policy", json={"basis": basis})
    sari = await shop.member()
    assert (await shop.buy(sari)).json()["tier"]["current"]["name"] == "Gold"
    part = await refund(shop, sari, "CN-1", amount="22500")
    assert (part["tier"]["current"] is None) == (basis == "spend")
    assert (await refund(shop, sari, "CN-2", amount="22500"))["tier"]["current"] is None


async def test_pending_points_that_were_taken_back_never_count(shop):
    await change(shop, activation={"days": 7})
    url = f"/v1/programs/{shop.program_id}/tiers"
    await shop.client.post(url, json={"name": "Gold", "threshold": 45})
    sari = await shop.member()
    await shop.buy(sari, occurred_at=NOW.isoformat())
    await refund(shop, sari, amount="1000")
    later = await shop.get(sari, f"loyalty?as_of={(NOW + timedelta(days=9)).isoformat().replace('+', '%2B')}")
    assert later["available"] == 44
    assert later["tier"]["next"] == {"name": "Gold", "missing": 1, "unit": "points"}


async def test_the_same_refund_again_answers_the_same_and_changes_nothing(shop, session):
    sari = await shop.member(points=100)
    await shop.buy(sari)
    await shop.redeem(sari, 10, order_ref="INV-1")
    once = await refund(shop, sari, amount="22500.00")
    before = await checksum(session)
    for amount in ("22500.00", "22500"):
        again = await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": amount})
        assert (again.status_code, again.json()) == (200, once)
    other = await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": "1"})
    assert (other.status_code, other.json()["code"]) == (409, "refund_ref_reused")
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"refund_ref": "CN-1", "amount": "45000.01"}, 409, "refund_exceeds_purchase"),
        ({"refund_ref": "CN-1", "lines": [{"line": 1, "quantity": "1"}]}, 409, "refund_exceeds_purchase"),
        ({"refund_ref": "CN-1", "lines": [{"line": 0, "quantity": "2"}]}, 409, "refund_exceeds_purchase"),
        ({"refund_ref": "CN-1", "amount": "0"}, 422, "invalid"),
        ({"refund_ref": "CN-1"}, 422, "invalid"),
        ({"refund_ref": "CN-1", "amount": "1", "lines": [{"line": 0, "quantity": "1"}]}, 422, "invalid"),
        ({"refund_ref": "CN-1", "lines": [{"line": -1, "quantity": "1"}]}, 422, "invalid"),
        ({"refund_ref": "CN-1", "amount": "1", "occurred_at": "2199-01-01T00:00:00Z"}, 422, "occurred_in_the_future"),
        ({"amount": "1"}, 422, "invalid"),
    ],
)
async def test_a_refund_that_can_not_be_is_refused_and_changes_nothing(shop, session, body, status, code):
    sari = await shop.member()
    await shop.buy(sari)
    before = await checksum(session)
    answer = await shop.post(sari, "purchases/INV-1/refunds", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await checksum(session) == before


async def test_an_order_that_nobody_placed_has_no_refunds(shop):
    sari, budi = await shop.member(), await shop.member()
    await shop.buy(budi)
    answer = await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": "1"})
    assert (answer.status_code, answer.json()["code"]) == (404, "purchase_not_found")
    assert (await shop.client.get(f"/v1/contacts/{sari}/purchases/INV-1/refunds")).status_code == 404
    assert (await shop.client.get(f"/v1/contacts/{budi}/purchases/INV-1/refunds/CN-1")).status_code == 404


async def test_refunds_are_listed_and_stand_on_the_timeline(shop):
    sari = await shop.member()
    await shop.buy(sari)
    for number in range(3):
        await refund(shop, sari, f"CN-{number}", amount="1000")
    page = await shop.get(sari, "purchases/INV-1/refunds?limit=2")
    rest = await shop.get(sari, f"purchases/INV-1/refunds?cursor={page['next_cursor']}")
    assert [each["refund_ref"] for each in (*page["items"], *rest["items"])] == ["CN-0", "CN-1", "CN-2"]
    one = await shop.get(sari, "purchases/INV-1/refunds/CN-1")
    assert (one["amount"], one["points_taken_back"]) == ("1000", 1)
    kinds = [each["kind"] for each in (await shop.get(sari, "timeline"))["items"]]
    assert kinds.count("purchase.refunded") == kinds.count("points.taken_back") == 3


async def test_a_purchase_that_earned_nothing_can_be_refunded(shop):
    sari = await shop.member()
    assert (await shop.buy(sari, total="1.00")).json()["points"] == 0
    refunded = await refund(shop, sari, amount="1.00")
    assert numbers(refunded) == (0, 0, 0, 0)
    assert refunded["transaction_id"] is None


async def test_a_limit_has_its_quota_back(shop):
    url = f"/v1/programs/{shop.program_id}/earning-rules"
    rule = (await shop.client.get(url)).json()["items"][0]
    answer = await shop.client.patch(f"{url}/{rule['id']}", json={"limits": [{"points": 50, "per": "lifetime"}]})
    assert answer.status_code == 200
    sari = await shop.member()
    await shop.buy(sari, total="45000")
    assert (await shop.buy(sari, order_ref="INV-2", total="45000")).json()["points"] == 5
    await refund(shop, sari, amount="20000")
    third = (await shop.buy(sari, order_ref="INV-3", total="45000")).json()
    assert (third["points"], third["rules"][0]["reason"], third["rules"][0]["points_requested"]) == (20, "trimmed", 45)


async def test_a_redemption_that_refunds_returned_whole_can_not_be_taken_back_by_hand(shop):
    sari = await shop.member(points=100)
    await shop.buy(sari)
    redemption = (await shop.redeem(sari, 10, order_ref="INV-1")).json()
    await refund(shop, sari, amount="45000")
    answer = await shop.reverse(sari, redemption["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_return")
