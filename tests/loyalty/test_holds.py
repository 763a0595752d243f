"""Holds over HTTP: set aside, captured in whole or part, released, or over by time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.db.ids import uuid7
from crm.loyalty import balances, holds
from crm.loyalty.holds import HoldNotOpen
from tests.loyalty.shop import Shop, checksum

pytestmark = pytest.mark.usefixtures("audited_session")

NOW = datetime.now(UTC)


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


async def hold(shop: Shop, who: Any, points: int, **facts: Any) -> dict[str, Any]:
    answer = await shop.post(who, "holds", {"points": points, **facts})
    assert answer.status_code == 201, answer.text
    return answer.json()


def purse(balance: dict[str, Any]) -> tuple[int, int, int]:
    return balance["available"], balance["held"], balance["lifetime_redeemed"]


async def test_points_on_hold_can_not_be_spent(shop):
    sari = await shop.member(points=100)
    held = await hold(shop, sari, 40, reference="checkout-77")
    assert (held["points"], held["status"], purse(held["balance"])) == (40, "held", (60, 40, 0))
    refused = await shop.redeem(sari, 61)
    assert (refused.status_code, refused.json()["available"]) == (409, 60)
    kept = await shop.get(sari, f"holds/{held['id']}")
    assert kept["reference"] == "checkout-77"
    created_at, expires_at = (datetime.fromisoformat(kept[name]) for name in ("created_at", "expires_at"))
    assert expires_at - created_at == timedelta(minutes=15)


@pytest.mark.parametrize(("points", "captured", "released"), [(None, 40, 0), (40, 40, 0), (30, 30, 10), (1, 1, 39)])
async def test_a_capture_spends_its_part_and_releases_the_rest(shop, points, captured, released):
    sari = await shop.member(points=100)
    held = await hold(shop, sari, 40)
    body = {} if points is None else {"points": points}
    answer = await shop.post(sari, f"holds/{held['id']}/capture", body)
    assert answer.status_code == 201
    assert (answer.json()["points"], answer.json()["points_released"]) == (captured, released)
    assert purse(answer.json()["balance"]) == (100 - captured, 0, captured)
    again = await shop.post(sari, f"holds/{held['id']}/capture", body)
    assert (again.status_code, again.json()) == (200, answer.json())
    kept = await shop.get(sari, f"holds/{held['id']}")
    assert (kept["status"], kept["points"], kept["captured"]) == ("captured", 40, captured)


async def test_a_capture_of_another_part_is_refused(shop):
    sari = await shop.member(points=100)
    held = await hold(shop, sari, 40)
    await shop.post(sari, f"holds/{held['id']}/capture", {"points": 30})
    for body in ({"points": 29}, {}):
        answer = await shop.post(sari, f"holds/{held['id']}/capture", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "hold_not_open")
    assert (await shop.client.delete(f"/v1/contacts/{sari}/holds/{held['id']}")).status_code == 409


async def test_a_release_gives_everything_back_once(shop):
    sari = await shop.member(points=100)
    held = await hold(shop, sari, 40)
    for _ in range(2):
        assert (await shop.client.delete(f"/v1/contacts/{sari}/holds/{held['id']}")).status_code == 204
        assert purse(await shop.balance(sari)) == (100, 0, 0)
    captured = await shop.post(sari, f"holds/{held['id']}/capture", {})
    assert (captured.status_code, captured.json()["code"]) == (409, "hold_not_open")


async def test_a_hold_takes_the_soonest_ending_points_and_a_part_of_it_spends_those_first(shop):
    sari = await shop.member(points=50)
    await shop.award(sari, 30, expires_at=(NOW + timedelta(days=5)).isoformat())
    await shop.award(sari, 20, expires_at=(NOW + timedelta(days=2)).isoformat())
    held = await hold(shop, sari, 60)
    assert held["balance"]["expiring"] == []
    captured = (await shop.post(sari, f"holds/{held['id']}/capture", {"points": 35})).json()
    assert [each["points"] for each in captured["balance"]["expiring"]] == [15]
    assert captured["balance"]["available"] == 65


async def test_a_hold_is_dead_at_its_instant_whatever_wrote_it_down(shop, session):
    sari = await shop.member(points=100)
    made = await holds.create(
        session, program_id=None, contact_id=sari, points=40, expires_in=timedelta(minutes=5), reference=None, place={},
        by="till", once=None, now=NOW,
    )  # fmt: skip
    just_before, over = made.expires_at - timedelta(microseconds=1), made.expires_at
    seen = await balances.read(session, program_id=None, contact_id=sari, now=NOW, as_of=just_before)
    assert (seen.available, seen.held) == (60, 40)
    seen = await balances.read(session, program_id=None, contact_id=sari, now=over)
    assert (seen.available, seen.held) == (100, 0)
    assert (await holds.get(session, contact_id=sari, hold_id=made.id, now=over)).status == "expired"
    with pytest.raises(HoldNotOpen):
        await holds.capture(session, contact_id=sari, hold_id=made.id, points=None, by="till", once=None, now=over)
    await holds.release(session, contact_id=sari, hold_id=made.id, by="till", now=over)
    assert (await holds.get(session, contact_id=sari, hold_id=made.id, now=over)).status == "expired"
    released = (await shop.transactions(sari))[0]
    assert (released["kind"], released["points"], released["cause"]) == ("release", 40, "time")
    assert datetime.fromisoformat(released["occurred_at"]) == over


async def test_released_points_whose_end_has_passed_have_ended(shop, session):
    sari = await shop.member()
    await shop.award(sari, 30, expires_at=(NOW + timedelta(hours=2)).isoformat())
    await shop.award(sari, 70)
    made = await holds.create(
        session, program_id=None, contact_id=sari, points=50, expires_in=timedelta(hours=5), reference=None, place={},
        by="till", once=None, now=NOW,
    )  # fmt: skip
    await holds.release(session, contact_id=sari, hold_id=made.id, by="till", now=NOW + timedelta(hours=3))
    seen = await balances.read(session, program_id=None, contact_id=sari, now=NOW + timedelta(hours=3))
    assert (seen.available, seen.held) == (70, 0)


async def test_held_points_can_be_captured_after_their_end(shop, session):
    sari = await shop.member()
    await shop.award(sari, 30, expires_at=(NOW + timedelta(hours=2)).isoformat())
    made = await holds.create(
        session, program_id=None, contact_id=sari, points=20, expires_in=timedelta(hours=5), reference=None, place={},
        by="till", once=None, now=NOW,
    )  # fmt: skip
    later = NOW + timedelta(hours=3)
    captured, _ = await holds.capture(
        session, contact_id=sari, hold_id=made.id, points=None, by="till", once=None, now=later
    )
    assert (captured.balance.available, captured.balance.lifetime_redeemed) == (0, 20)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"points": 101}, 409, "insufficient_points"),
        ({"points": 0}, 422, "invalid"),
        ({"points": 1, "expires_in": "P1M"}, 422, "invalid"),
        ({"points": 1, "expires_in": "PT0S"}, 422, "invalid"),
        ({"points": 1, "expires_in": "P31D"}, 422, "invalid"),
        ({"points": 1, "expires_in": 900}, 422, "invalid"),
        ({"points": 1, "expires_in": "900"}, 422, "invalid"),
    ],
)
async def test_a_hold_that_can_not_be_is_refused_and_changes_nothing(shop, session, body, status, code):
    sari = await shop.member(points=100)
    before = await checksum(session)
    answer = await shop.post(sari, "holds", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await checksum(session) == before


async def test_a_capture_of_more_than_was_held_is_refused(shop):
    sari = await shop.member(points=100)
    held = await hold(shop, sari, 40)
    answer = await shop.post(sari, f"holds/{held['id']}/capture", {"points": 41})
    assert (answer.status_code, answer.json()["code"]) == (422, "capture_exceeds_hold")


async def test_a_hold_of_nobody_or_of_somebody_else_is_not_found(shop):
    sari, budi = await shop.member(points=100), await shop.member()
    held = await hold(shop, sari, 40)
    award = (await shop.award(sari, 1)).json()["transaction_id"]
    for who, which in ((budi, held["id"]), (sari, uuid7()), (sari, award)):
        for answer in (
            await shop.post(who, f"holds/{which}/capture", {}),
            await shop.client.delete(f"/v1/contacts/{who}/holds/{which}"),
            await shop.client.get(f"/v1/contacts/{who}/holds/{which}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "hold_not_found")


async def test_a_retry_with_the_same_key_holds_once(shop):
    sari = await shop.member(points=100)
    first = await shop.post(sari, "holds", {"points": 40}, key="k")
    again = await shop.post(sari, "holds", {"points": 40}, key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await shop.balance(sari))["held"] == 40


async def test_holds_are_listed_and_stand_on_the_timeline(shop):
    sari = await shop.member(points=100)
    made = [(await hold(shop, sari, 10))["id"] for _ in range(3)]
    await shop.post(sari, f"holds/{made[0]}/capture", {"points": 4})
    page = await shop.get(sari, "holds?limit=2")
    rest = await shop.get(sari, f"holds?cursor={page['next_cursor']}")
    assert [each["id"] for each in (*page["items"], *rest["items"])] == made[::-1]
    kinds = [each["kind"] for each in (await shop.get(sari, "timeline"))["items"]]
    assert kinds[:5] == ["points.released", "points.captured", *["points.held"] * 3]
