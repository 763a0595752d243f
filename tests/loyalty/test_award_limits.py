"""What may be given by hand without a manager."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.loyalty import audit
from tests.loyalty.shop import Shop, at_once, checksum, statuses

LIMITS = {"points_max": 100, "points_per_day": 150, "member_points_per_day": 120}


async def cashier(client: Any, **limits: Any) -> tuple[Shop, Shop]:
    """The owner's shop with limits, and the same as a till sees it."""
    owner = await Shop.open(client)
    answer = await client.patch(f"/v1/programs/{owner.program_id}", json={"award_limits": limits or LIMITS})
    assert answer.status_code == 200, answer.text
    till = await client.limited_to("loyalty:award", "loyalty:read")
    return owner, Shop(till, owner.program_id)


async def give(till: Shop, who: UUID, points: int) -> tuple[int, str | None]:
    answer = await till.award(who, points)
    return answer.status_code, answer.json().get("code")


async def test_one_award_above_the_threshold_needs_a_manager(client, session):
    owner, till = await cashier(client)
    sari = await owner.member()
    await till.available(sari)  # the first call of a key is noted on the key
    before = await checksum(session)
    refused = await till.award(sari, 101)
    assert (refused.status_code, refused.json()["code"]) == (403, "manager_needed")
    assert refused.json()["points_max"] == 100
    assert await checksum(session) == before
    assert await give(till, sari, 100) == (201, None)
    assert (await owner.award(sari, 5000)).status_code == 201


async def test_a_caller_gives_so_much_in_a_day_and_is_told_until_when(client, session):
    owner, till = await cashier(client)
    sari, budi = await owner.member(), await owner.member()
    assert await give(till, sari, 90) == (201, None)
    refused = await till.award(budi, 61)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (409, "award_limit_reached")
    assert (problem["limit"], problem["given"], problem["missing"]) == (150, 90, 1)
    until = datetime.fromisoformat(problem["until"])
    assert timedelta(0) < until - datetime.now(UTC) <= timedelta(days=1)
    assert (until.hour, until.minute) == (17, 0)  # midnight in Jakarta
    assert await give(till, budi, 60) == (201, None)
    assert await give(till, budi, 1) == (409, "award_limit_reached")
    assert (await audit.verify(session)).findings == []


async def test_a_member_is_given_so_much_in_a_day_by_all_tills_together(client):
    owner, till = await cashier(client, member_points_per_day=120)
    other = Shop(await client.limited_to("loyalty:award"), owner.program_id)
    sari, budi = await owner.member(), await owner.member()
    assert await give(till, sari, 100) == (201, None)
    assert await give(other, sari, 21) == (409, "award_limit_reached")
    assert await give(other, sari, 20) == (201, None)
    assert await give(other, budi, 100) == (201, None)


async def test_of_a_batch_what_is_beyond_the_limits_is_left_out(client):
    owner, till = await cashier(client)
    people = [await owner.member() for _ in range(4)]
    answer = await till.award_batch((people[0], 101), (people[1], 80), (people[2], 80), (people[3], 70))
    assert [item["status"] for item in answer.json()["items"]] == [403, 201, 409, 201]
    assert [await owner.available(one) for one in people] == [0, 80, 0, 70]


async def test_a_retry_is_counted_once(client):
    owner, till = await cashier(client)
    sari = await owner.member()
    for _ in range(3):
        assert (await till.award(sari, 60, key="k")).status_code == 201
    assert await give(till, sari, 60) == (201, None)


async def test_without_limits_nobody_is_held_up(client):
    owner, till = await cashier(client)
    await client.patch(f"/v1/programs/{owner.program_id}", json={"award_limits": None})
    sari = await owner.member()
    assert await give(till, sari, 5000) == (201, None)


@pytest.mark.parametrize("members", [1, 20])
async def test_the_limits_hold_however_many_are_given_at_once(live_client, members):
    owner, till = await cashier(live_client, points_per_day=100)
    people = [await owner.member() for _ in range(members)]
    answers = await at_once(*(till.award(people[n % members], 10) for n in range(20)))
    assert statuses(answers) == Counter({201: 10, 409: 10})
    assert sum([await owner.available(one) for one in people]) == 100


@pytest.mark.parametrize("limits", [{"points_max": 0}, {"points_per_day": -1}, {"per_day": 5}, {"points_max": "5"}])
async def test_limits_that_can_not_be_are_refused(client, limits):
    owner = await Shop.open(client)
    answer = await client.patch(f"/v1/programs/{owner.program_id}", json={"award_limits": limits})
    assert answer.status_code == 422
