"""Transfers over HTTP: points change hands and keep their ends."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shop import Shop, checksum

pytestmark = pytest.mark.usefixtures("audited_session")

NOW = datetime.now(UTC)


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


async def give(shop: Shop, who: Any, to: Any, points: int, *, key: str | None = None) -> Any:
    return await shop.post(who, "points-transfers", {"to_contact_id": str(to), "points": points}, key=key)


async def test_each_lot_keeps_its_end(shop):
    sari, budi = await shop.member(points=50), await shop.member()
    ends = [(NOW + timedelta(days=days)).isoformat() for days in (2, 5)]
    for end in ends:
        await shop.award(sari, 30, expires_at=end)
    answer = (await give(shop, sari, budi, 70)).json()
    assert (answer["points"], answer["balance"]["available"]) == (-70, 40)
    taken = await shop.balance(budi)
    assert taken["available"] == 70
    assert [each["points"] for each in taken["expiring"]] == [30, 30]
    assert [datetime.fromisoformat(each["expires_at"]) for each in taken["expiring"]] == [
        datetime.fromisoformat(end) for end in ends
    ]


async def test_what_is_given_is_neither_spent_nor_earned_and_counts_for_no_tier(shop):
    url = f"/v1/programs/{shop.program_id}/tiers"
    await shop.client.post(url, json={"name": "Gold", "threshold": 50})
    sari, budi = await shop.member(points=50), await shop.member()
    given = (await give(shop, sari, budi, 50)).json()
    assert given["tier"]["current"]["name"] == "Gold"
    assert (given["balance"]["lifetime_earned"], given["balance"]["lifetime_redeemed"]) == (50, 0)
    taken = await shop.balance(budi)
    assert (taken["lifetime_earned"], taken["tier"]["current"]) == (0, None)


async def test_both_sides_tell_of_each_other(shop):
    sari, budi = await shop.member(points=50), await shop.member()
    transaction_id = (await give(shop, sari, budi, 20)).json()["transaction_id"]
    for who, points, other in ((sari, -20, {"to_contact_id": str(budi)}), (budi, 20, {"from_contact_id": str(sari)})):
        listed = (await shop.get(who, "points-transfers"))["items"]
        assert [(each["id"], each["points"], each["kind"]) for each in listed] == [(transaction_id, points, "transfer")]
        told = (await shop.get(who, "timeline?kind=points.transferred"))["items"][0]
        assert other.items() <= told["data"].items()


async def test_a_deficit_is_filled_by_what_is_given(shop):
    sari, budi = await shop.member(points=50), await shop.member()
    await shop.adjust(budi, -30, allow_negative=True)
    await give(shop, sari, budi, 20)
    assert await shop.available(budi) == -10
    await give(shop, sari, budi, 20)
    assert await shop.available(budi) == 10


async def test_pending_and_held_points_stay(shop):
    sari, budi = await shop.member(points=50), await shop.member()
    await shop.award(sari, 100, activates_at=(NOW + timedelta(days=1)).isoformat())
    await shop.post(sari, "holds", {"points": 30})
    answer = await give(shop, sari, budi, 21)
    assert (answer.status_code, answer.json()["available"]) == (409, 20)


@pytest.mark.parametrize(("points", "status", "code"), [(51, 409, "insufficient_points"), (0, 422, "invalid")])
async def test_a_transfer_that_can_not_be_is_refused_and_changes_nothing(shop, session, points, status, code):
    sari, budi = await shop.member(points=50), await shop.member(points=1)
    before = await checksum(session)
    answer = await give(shop, sari, budi, points)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await checksum(session) == before


async def test_nobody_gives_to_themself_or_to_nobody(shop):
    sari = await shop.member(points=50)
    answer = await give(shop, sari, sari, 10)
    assert (answer.status_code, answer.json()["code"]) == (422, "transfer_to_self")
    answer = await give(shop, sari, uuid7(), 10)
    assert (answer.status_code, answer.json()["code"]) == (404, "contact_not_found")


async def test_a_retry_with_the_same_key_gives_once(shop):
    sari, budi = await shop.member(points=50), await shop.member()
    first = await give(shop, sari, budi, 10, key="k")
    again = await give(shop, sari, budi, 10, key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert await shop.available(budi) == 10
