"""Offers over HTTP: whom they are for, what a claim gives, and what multiplies."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from crm.loyalty import offers
from tests.loyalty.market import DOUBLE, POINTS, VOUCHER, Market, line
from tests.loyalty.shelf import refused
from tests.loyalty.shop import EARNED

pytestmark = pytest.mark.usefixtures("audited_session")

JAKARTA = ZoneInfo("Asia/Jakarta")
VIP = {"field": "tags", "op": "contains", "value": "vip"}
TODAY = datetime.now(JAKARTA).date()
DAY = timedelta(days=1)
OPEN = {"from": (TODAY - DAY).isoformat(), "to": (TODAY + DAY).isoformat()}
LATER = {"from": (TODAY + 2 * DAY).isoformat()}
OVER = {"to": (TODAY - 2 * DAY).isoformat()}


@pytest.fixture
async def market(client: Any) -> Market:
    return await Market.open(client)


@pytest.fixture
async def sari(market: Market) -> UUID:
    return await market.person(name="Sari", tags=["vip"])


@pytest.fixture
async def budi(market: Market) -> UUID:
    return await market.person(name="Budi")


def row(bought: dict[str, Any], offer: dict[str, Any]) -> dict[str, Any] | None:
    """What an explanation says of an offer."""
    return next((each for each in bought["rules"] if each["rule_id"] == offer["id"]), None)


# ---------------------------------------------------------------- whom it is for


async def test_an_offer_without_an_audience_is_for_everybody(market, sari, budi):
    offer = await market.offer()
    for contact_id in (sari, budi):
        [seen] = await market.offered(contact_id)
        assert seen["id"] == offer["id"]
        assert (await market.claimed(contact_id, offer))["points"] == 50


async def test_an_offer_under_a_condition_is_for_those_of_whom_it_holds(market, sari, budi):
    offer = await market.offer(audience={"condition": VIP})
    assert (await market.names(sari), await market.names(budi)) == ({"Thank you"}, set())
    refused(await market.claim(budi, offer), 404, "offer_not_found")
    await market.claimed(sari, offer)


async def test_a_condition_can_ask_what_somebody_did(market, sari, budi):
    offer = await market.offer(audience={"condition": {"did": "purchase", "count": {"gte": 2}, "within": "P3000D"}})
    await market.bought(sari)
    assert await market.names(sari) == set()
    await market.bought(sari)
    assert await market.names(sari) == {"Thank you"}
    await market.claimed(sari, offer)
    refused(await market.claim(budi, offer), 404, "offer_not_found")


async def test_an_offer_for_a_tier_is_for_that_and_those_above(market):
    silver, gold = await market.tier("Silver", 100), await market.tier("Gold", 200)
    await market.tier("Platinum", 300)
    people = {points: await market.member(points=points) for points in (50, 100, 199, 200, 250, 300)}
    for tier, least in ((silver, 100), (gold, 200)):
        offer = await market.offer(name=tier["name"], benefit=VOUCHER, audience={"tier_id": tier["id"]})
        for points, contact_id in people.items():
            seen = await market.names(contact_id)
            assert (tier["name"] in seen) == (points >= least), (tier["name"], points)
            answer = await market.claim(contact_id, offer)
            assert answer.status_code == (201 if points >= least else 404), (tier["name"], points)


async def test_an_offer_to_named_people_is_for_nobody_else(market, sari, budi):
    ayu = await market.person(name="Ayu")
    offer = await market.offer(sari, ayu, sari)
    assert offer["audience"] == {"condition": None, "tier_id": None, "contacts_count": 2}
    assert [await market.names(each) for each in (sari, budi, ayu)] == [{"Thank you"}, set(), {"Thank you"}]
    refused(await market.claim(budi, offer), 404, "offer_not_found")
    await market.claimed(ayu, offer)


async def test_all_that_an_audience_asks_has_to_hold(market, sari, budi):
    gold = await market.tier("Gold", 10)
    ayu = await market.person(tags=["vip"])
    offer = await market.offer(sari, budi, audience={"condition": VIP, "tier_id": gold["id"]})
    for contact_id in (sari, budi, ayu):
        assert (await market.claim(contact_id, offer)).status_code == 404
        await market.award(contact_id, 10)
    assert [(await market.claim(each, offer)).status_code for each in (budi, ayu, sari)] == [404, 404, 201]


async def test_named_people_are_told_and_nobody_else_is(market, sari, budi, session):
    offer = await market.offer(sari, personal_code=True, window=OPEN)
    await market.offer()
    [told] = [item for item in (await market.get(sari, "timeline"))["items"] if item["kind"] == "offer.made"]
    code = (await market.recipients(offer))[sari]["code"]
    ends = datetime.combine(TODAY + 2 * DAY, datetime.min.time(), JAKARTA).astimezone(UTC)
    assert told["data"] == {
        "program_id": market.program_id, "offer_id": offer["id"], "name": "Thank you", "code": code,
        "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
    }  # fmt: skip
    assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'offer.made'") == 1


async def test_a_draft_is_nobody_s_and_tells_nobody_until_it_is_active(market, sari, budi):
    offer = await market.offer(sari, status="draft")
    assert await market.names(sari) == set()
    refused(await market.claim(sari, offer), 404, "offer_not_found")
    assert "offer.made" not in await market.told(sari)
    await market.change_offer(offer, status="active")
    await market.change_offer(offer, name="Dear Sari")
    assert (await market.told(sari)).count("offer.made") == 1
    await market.change_offer(offer, audience={"contact_ids": [str(sari), str(budi)]})
    assert [(await market.told(each)).count("offer.made") for each in (sari, budi)] == [1, 1]
    await market.claimed(budi, offer)


async def test_who_is_named_no_more_is_outside(market, sari, budi):
    offer = await market.offer(sari, budi)
    changed = await market.change_offer(offer, audience={"contact_ids": [str(budi)]})
    assert changed["audience"]["contacts_count"] == 1
    assert [await market.names(each) for each in (sari, budi)] == [set(), {"Thank you"}]
    refused(await market.claim(sari, offer), 404, "offer_not_found")
    changed = await market.change_offer(offer, audience={"condition": VIP})
    assert changed["audience"] == {"condition": VIP, "tier_id": None, "contacts_count": None}
    assert [await market.names(each) for each in (sari, budi)] == [{"Thank you"}, set()]
    assert (await market.change_offer(offer, audience=None))["audience"] is None
    assert [await market.names(each) for each in (sari, budi)] == [{"Thank you"}, {"Thank you"}]


async def test_ten_thousand_can_be_named_in_a_handful_of_statements(market, session, statements):
    people = [uuid7() for _ in range(10_000)]
    await session.execute(
        """
        INSERT INTO contacts (id, name, created_at, updated_at) SELECT id, 'X', now(), now() FROM unnest($1::uuid[]) id
        """,
        people,
    )
    statements.clear()
    offer = await market.offer(*people, personal_code=True)
    assert len(statements) < 30
    assert offer["audience"]["contacts_count"] == 10_000
    assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'offer.made'") == 10_000
    assert await session.fetchval("SELECT count(DISTINCT code) FROM code_directory WHERE kind = 'offer'") == 10_000


# ---------------------------------------------------------------- when, and how often


@pytest.mark.parametrize(
    ("window", "why"),
    [
        (OPEN, None),
        ({"to": TODAY.isoformat()}, None),
        ({"from": TODAY.isoformat()}, None),
        (LATER, "not_started"),
        (OVER, "ended"),
        ({"weekdays": [(TODAY + 3 * DAY).strftime("%a").lower()]}, "not_started"),
        ({"hours": ["00:00", "24:00"]}, None),
    ],
)
async def test_an_offer_is_there_within_its_window(market, sari, window, why):
    offer = await market.offer(window=window)
    assert bool(await market.offered(sari)) == (why is None)
    answer = await market.claim(sari, offer)
    if why is None:
        assert answer.status_code == 201
    else:
        [reason] = refused(answer, 409, "not_eligible")["why_not"]
        assert reason["code"] == why
        assert (reason["until"] is None) == (why == "ended")


async def test_a_member_claims_as_often_as_one_may(market, sari, budi):
    offer = await market.offer(claims_max_per_member=2)
    assert [seen["claims_left"] for seen in await market.offered(sari)] == [2]
    assert [(await market.claimed(sari, offer))["number"] for _ in range(2)] == [1, 2]
    assert await market.offered(sari) == []
    assert refused(await market.claim(sari, offer), 409, "limit_reached")["claims_max"] == 2
    assert (await market.claimed(budi, offer))["number"] == 1
    assert await market.available(sari) == 100


async def test_all_together_claim_as_often_as_may_be(market, sari, budi):
    offer = await market.offer(claims_max=3, claims_max_per_member=5)
    for left in (2, 1):
        await market.claimed(sari, offer)
        assert (await market.read_offer(offer))["claims_left"] == left
    assert [seen["claims_left"] for seen in await market.offered(sari)] == [1]
    await market.claimed(budi, offer)
    assert [await market.offered(each) for each in (sari, budi)] == [[], []]
    assert refused(await market.claim(sari, offer), 409, "limit_reached")["claims_max"] == 3
    assert (await market.change_offer(offer, claims_max=4))["claims_left"] == 1
    await market.claimed(budi, offer)
    assert (await market.change_offer(offer, claims_max=2))["claims_left"] == 0
    assert refused(await market.claim(sari, offer), 409, "limit_reached")["claims_max"] == 2


async def test_a_maximum_that_is_set_later_counts_what_was_claimed_before(market, sari, budi, session):
    offer = await market.offer()
    await market.claimed(sari, offer)
    assert await session.fetchval("SELECT count(*) FROM offer_counts") == 0
    assert (await market.change_offer(offer, claims_max=1))["claims_left"] == 0
    refused(await market.claim(budi, offer), 409, "limit_reached")
    assert (await market.change_offer(offer, claims_max=None))["claims_left"] is None
    assert await session.fetchval("SELECT count(*) FROM offer_counts") == 0
    await market.claimed(budi, offer)
    assert (await market.change_offer(offer, claims_max=3))["claims_left"] == 1


async def test_an_offer_that_has_ended_is_gone_and_what_it_gave_stays(market, sari, budi):
    offer = await market.offer()
    given = await market.claimed(sari, offer)
    await market.end_offer(offer)
    assert (await market.client.get(f"{market.offers}/{offer['id']}")).status_code == 404
    assert (await market.client.delete(f"{market.offers}/{offer['id']}")).status_code == 404
    assert (await market.ask_change_of_offer(offer, name="Back")).status_code == 404
    assert await market.offered(budi) == []
    refused(await market.claim(budi, offer), 404, "offer_not_found")
    assert await market.available(sari) == 50
    [kept] = (await market.get(sari, "offer-claims"))["items"]
    assert kept["id"] == given["id"]


# ---------------------------------------------------------------- what it gives


async def test_bonus_points_are_earned_by_the_program_s_terms(market, sari):
    await market.client.patch(
        f"/v1/programs/{market.program_id}", json={"expiry": {"kind": "after", "days": 10}, "milestones": [40]}
    )
    await market.tier("Gold", 50)
    offer = await market.offer()
    given = await market.claimed(sari, offer)
    assert given["benefit"] == POINTS
    assert (given["points"], given["voucher"], given["redemption_id"]) == (50, None, None)
    [posted] = await market.transactions(sari)
    assert (posted["id"], posted["kind"], posted["cause"], posted["points"]) == (
        given["transaction_id"], "earn", "offer", 50,
    )  # fmt: skip
    balance = await market.balance(sari)
    assert (balance["available"], balance["lifetime_earned"]) == (50, 50)
    assert given["balance"] == {name: value for name, value in balance.items() if name != "tier"}
    assert given["tier"] == balance["tier"]
    assert balance["tier"]["current"]["name"] == "Gold"
    ends = datetime.combine(TODAY + 11 * DAY, datetime.min.time(), JAKARTA).astimezone(UTC)
    assert balance["expiring"] == [{"points": 50, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}]
    assert set(await market.told(sari)) >= {"offer.claimed", "points.earned", "tier.changed", "points.milestone"}


async def test_a_voucher_is_the_member_s_own(market, sari, budi):
    offer = await market.offer(benefit={"kind": "voucher", "uses_max": 2, "valid_days": 5, "text": "A free cake"})
    given = await market.claimed(sari, offer)
    assert (given["points"], given["transaction_id"], given["redemption_id"]) == (0, None, None)
    voucher = await market.check(given["voucher"]["code"], sari)
    assert voucher["valid"]
    assert (voucher["contact_id"], voucher["uses_max"], voucher["uses_left"]) == (str(sari), 2, 2)
    assert voucher["benefit"] == {
        "kind": "offer", "name": "Thank you", "offer_id": offer["id"], "text": "A free cake",
    }  # fmt: skip
    ends = datetime.combine(TODAY + 6 * DAY, datetime.min.time(), JAKARTA).astimezone(UTC)
    assert voucher["expires_at"] == given["voucher"]["expires_at"] == f"{ends:%Y-%m-%dT%H:%M:%SZ}"
    assert not (await market.check(given["voucher"]["code"], budi))["valid"]
    assert (await market.use(given["voucher"]["code"], sari, "INV-1")).status_code == 201
    assert set(await market.told(sari)) == {"voucher.redeemed", "voucher.issued", "offer.claimed", "contact.created"}
    assert (await market.claimed(budi, await market.offer(benefit=VOUCHER)))["voucher"]["expires_at"] is None


async def test_a_reward_is_granted_without_points(market, sari):
    reward = await market.reward(fulfilment="voucher", stock=3, status="draft", cost=500)
    offer = await market.offer(benefit={"kind": "reward", "reward_id": reward["id"]}, claims_max_per_member=2)
    first, second = await market.claimed(sari, offer), await market.claimed(sari, offer)
    assert first["redemption_id"] != second["redemption_id"]
    assert await market.stock(reward) == 1
    kept = await market.get(sari, f"redemptions/{first['redemption_id']}")
    assert (kept["cause"], kept["points"], kept["reward"]["id"], kept["voucher"]) == (
        "offer", 0, reward["id"], first["voucher"],
    )  # fmt: skip
    claims = (await market.get(sari, f"offers/{offer['id']}/claims"))["items"]
    assert [claim["voucher"] for claim in claims] == [second["voucher"], first["voucher"]]
    assert (await market.told(sari)).count("reward.granted") == 2


async def test_an_offer_of_a_reward_that_is_gone_is_not_offered(market, sari, session):
    sold_out, ended = await market.reward(stock=0), await market.reward(name="Cake")
    offers_made = [
        await market.offer(name=each["name"], benefit={"kind": "reward", "reward_id": each["id"]}, claims_max=5)
        for each in (sold_out, ended)
    ]
    await market.client.delete(f"/v1/programs/{market.program_id}/rewards/{ended['id']}")
    assert await market.offered(sari) == []
    refused(await market.claim(sari, offers_made[0]), 409, "out_of_stock")
    refused(await market.claim(sari, offers_made[1]), 409, "not_eligible")
    assert [(await market.read_offer(each))["claims_left"] for each in offers_made] == [5, 5]
    assert await session.fetchval("SELECT count(*) FROM offer_claims") == 0


async def test_a_membership_that_is_paused_claims_nothing_and_is_told_nothing_new(market, sari, budi, session):
    offer, other = await market.offer(sari), await market.offer(budi)
    await market.award(sari, 1)
    await session.execute("UPDATE loyalty_accounts SET status = 'paused' WHERE contact_id = $1", sari)
    refused(await market.claim(sari, offer), 409, "membership_suspended")
    refused(await market.claim(sari, other), 404, "offer_not_found")
    refused(await market.claim(sari, {"id": uuid7()}), 404, "offer_not_found")


async def test_who_is_not_enrolled_sees_offers_and_can_not_claim_them(market, sari, budi):
    await market.client.patch(f"/v1/programs/{market.program_id}", json={"enrolment": "explicit"})
    offer, other = await market.offer(sari), await market.offer(budi)
    assert await market.names(sari) == {"Thank you"}
    refused(await market.claim(sari, offer), 409, "not_enrolled")
    refused(await market.claim(sari, other), 404, "offer_not_found")


# ---------------------------------------------------------------- multipliers


async def test_a_multiplier_holds_for_those_who_claimed_it(market, sari, budi):
    offer = await market.offer(benefit=DOUBLE)
    before = await market.bought(sari)
    assert (before["points"], row(before, offer)) == (EARNED, None)
    given = await market.claimed(sari, offer)
    assert (given["points"], given["transaction_id"], given["voucher"]) == (0, None, None)
    after = await market.bought(sari)
    assert after["points"] == 2 * EARNED
    assert row(after, offer) == {
        "rule_id": offer["id"], "version": 1, "name": "Thank you", "outcome": "applied", "reason": "applied",
        "basis": "45000.00", "points_requested": EARNED, "points": EARNED,
    }  # fmt: skip
    bought = await market.bought(budi)
    assert (bought["points"], row(bought, offer)) == (EARNED, None)


async def test_a_multiplier_looks_at_the_time_of_the_purchase(market, sari):
    offer = await market.offer(benefit=DOUBLE, window=OPEN)
    await market.claimed(sari, offer)
    expected = {
        TODAY - 2 * DAY: ("outside_window", EARNED), TODAY - DAY: ("applied", 2 * EARNED),
        TODAY: ("applied", 2 * EARNED), TODAY + DAY: ("applied", 2 * EARNED),
    }  # fmt: skip
    for day, (reason, points) in expected.items():
        bought = await market.bought(sari, occurred_at=f"{day}T00:00:00+07:00")
        assert (row(bought, offer)["reason"], bought["points"]) == (reason, points), day


async def test_an_offer_that_was_over_before_the_purchase_is_not_spoken_of(market, sari):
    offer = await market.offer(benefit=DOUBLE, window=OPEN)
    await market.claimed(sari, offer)
    await market.change_offer(offer, window=OVER)
    bought = await market.bought(sari, occurred_at=f"{TODAY}T09:00:00+07:00")
    assert (bought["points"], row(bought, offer)) == (EARNED, None)


@pytest.mark.parametrize(
    ("filters", "doubled"),
    [
        ({"categories": ["coffee"]}, 20), ({"skus": ["TEA-1"]}, 10), ({"exclude_categories": ["coffee"]}, 25),
        ({"categories": ["cake"], "skus": ["TEA-1"]}, 0), ({"categories": ["none"]}, 0), (None, 45),
    ],
)  # fmt: skip
async def test_a_multiplier_multiplies_what_its_filter_admits(market, sari, filters, doubled):
    offer = await market.offer(benefit={**DOUBLE, "filter": filters})
    await market.claimed(sari, offer)
    lines = [line("KOPI-1", "20000", "coffee"), line("TEA-1", "10000", "tea"), line("CAKE-1", "15000", "cake")]
    bought = await market.bought(sari, lines=lines, total=None)
    assert bought["points"] == 45 + doubled
    assert row(bought, offer)["reason"] == ("applied" if doubled else "no_matching_lines")


async def test_multipliers_multiply_each_other_and_the_tier(market, sari):
    await market.client.post(
        f"/v1/programs/{market.program_id}/tiers",
        json={"name": "Gold", "threshold": 0, "benefits": {"earn_factor": "1.5"}},
    )
    await market.client.post(
        f"/v1/programs/{market.program_id}/earning-rules", json={"name": "half", "kind": "multiplier", "factor": "1.1"}
    )
    for factor in ("2", "1.25"):
        await market.claimed(sari, await market.offer(benefit={"kind": "multiplier", "factor": factor}))
    exact = Decimal("9.99") * Decimal("1.5") * Decimal("1.1") * 2 * Decimal("1.25")
    bought = await market.bought(sari, total="9990.00")
    assert bought["points"] == int(exact) == 41
    assert sum(each["points"] for each in bought["rules"]) == 41


async def test_a_multiplier_ends_with_its_offer(market, sari):
    offer = await market.offer(benefit=DOUBLE)
    await market.claimed(sari, offer)
    assert (await market.bought(sari))["points"] == 2 * EARNED
    changed = await market.change_offer(offer, benefit={"kind": "multiplier", "factor": "3"})
    bought = await market.bought(sari)
    assert (bought["points"], row(bought, offer)["version"], changed["version"]) == (3 * EARNED, 2, 2)
    await market.change_offer(offer, status="disabled")
    assert (await market.bought(sari))["points"] == EARNED
    await market.change_offer(offer, status="active")
    assert (await market.bought(sari))["points"] == 3 * EARNED
    await market.end_offer(offer)
    bought = await market.bought(sari)
    assert (bought["points"], row(bought, offer)) == (EARNED, None)


async def test_an_offer_that_becomes_a_multiplier_multiplies_and_back(market, sari):
    offer = await market.offer(claims_max_per_member=1)
    await market.claimed(sari, offer)
    await market.change_offer(offer, benefit=DOUBLE)
    assert (await market.bought(sari))["points"] == 2 * EARNED
    await market.change_offer(offer, benefit=POINTS)
    assert (await market.bought(sari))["points"] == EARNED


async def test_an_automatic_multiplier_holds_for_its_audience_without_a_claim(market, sari, budi):
    gold = await market.tier("Gold", 1000)
    everybody = await market.offer(name="All", benefit=DOUBLE, auto=True)
    vips = await market.offer(name="Vips", benefit=DOUBLE, auto=True, audience={"condition": VIP})
    named = await market.offer(budi, name="Budi", benefit=DOUBLE, auto=True)
    golden = await market.offer(name="Gold", benefit=DOUBLE, auto=True, audience={"tier_id": gold["id"]})
    draft = await market.offer(name="Draft", benefit=DOUBLE, auto=True, status="draft")
    for contact_id, theirs in ((sari, (everybody, vips)), (budi, (everybody, named))):
        bought = await market.bought(contact_id)
        assert bought["points"] == EARNED * 4
        seen = [each["id"] for each in (everybody, vips, named, golden, draft) if row(bought, each)]
        assert seen == [each["id"] for each in theirs]
        listed = {each["id"]: each for each in await market.offered(contact_id)}
        assert listed.keys() == {each["id"] for each in theirs}
        assert {(each["auto"], each["claims_left"]) for each in listed.values()} == {(True, None)}
    await market.award(sari, 1000)
    assert row(await market.bought(sari), golden)["points"] > 0
    refused(await market.claim(sari, everybody), 409, "no_claim_needed")
    refused(await market.claim(sari, named), 404, "offer_not_found")


async def test_a_condition_of_an_automatic_multiplier_is_about_the_moment_of_the_purchase(market, sari):
    again = {"did": "purchase", "count": {"gte": 1}}
    offer = await market.offer(benefit=DOUBLE, auto=True, audience={"condition": again})
    first = await market.bought(sari, occurred_at="2026-11-02T09:00:00Z")
    assert (first["points"], row(first, offer)) == (EARNED, None)
    assert (await market.bought(sari, occurred_at="2026-11-03T09:00:00Z"))["points"] == 2 * EARNED
    before = await market.bought(sari, occurred_at="2026-11-01T09:00:00Z")
    assert (before["points"], row(before, offer)) == (EARNED, None)


async def test_within_a_batch_the_second_purchase_sees_the_first(market, sari, budi):
    await market.offer(benefit=DOUBLE, auto=True, audience={"condition": {"did": "purchase"}})
    claimable = await market.offer(benefit={"kind": "multiplier", "factor": "10"})
    await market.claimed(budi, claimable)
    items = [
        {"contact_id": str(contact_id), "order_ref": f"B-{number}", "occurred_at": f"2026-11-0{number}T09:30:00Z",
         "currency": "IDR", "total": "45000.00"}
        for number, contact_id in enumerate((sari, sari, budi, budi), 1)
    ]  # fmt: skip
    answer = await market.client.post("/v1/purchases/batch", json={"items": items})
    points = [item["body"]["points"] for item in answer.json()["items"]]
    assert points == [EARNED, 2 * EARNED, 10 * EARNED, 20 * EARNED]


async def test_a_refund_takes_back_what_was_multiplied(market, sari):
    await market.claimed(sari, offer := await market.offer(benefit=DOUBLE))
    bought = await market.bought(sari, order_ref="INV-9")
    assert await market.available(sari) == 2 * EARNED
    await market.end_offer(offer)
    half = await market.post(sari, "purchases/INV-9/refunds", {"refund_ref": "R-1", "amount": "22500.00"})
    assert half.json()["points_taken_back"] == EARNED
    rest = await market.post(sari, "purchases/INV-9/refunds", {"refund_ref": "R-2", "amount": "22500.00"})
    assert rest.json()["points_taken_back"] == EARNED
    assert await market.available(sari) == 0
    again = await market.buy(sari, order_ref="INV-9")
    assert (again.status_code, again.json()["rules"], again.json()["points"]) == (200, bought["rules"], 2 * EARNED)


async def test_a_simulation_knows_the_offers_of_its_member(market, sari, budi):
    await market.offer(name="Vips", benefit=DOUBLE, auto=True, audience={"condition": VIP})
    others = await market.offer(name="Others", benefit=DOUBLE, auto=True, audience={"condition": {"not": VIP}})
    claimable = await market.offer(name="Claimed", benefit={"kind": "multiplier", "factor": "3"}, window=OPEN)
    await market.claimed(sari, claimable)
    order = {"order_ref": "SIM", "occurred_at": f"{TODAY}T05:00:00Z", "currency": "IDR", "total": "45000.00"}

    async def simulated(**facts: Any) -> dict[str, Any]:
        answer = await market.client.post("/v1/purchases/simulations", json=order | facts)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    for contact_id, points in ((sari, 6 * EARNED), (budi, 2 * EARNED)):
        found = await simulated(contact_id=str(contact_id))
        assert found["points"] == points
        real = await market.bought(contact_id, occurred_at=order["occurred_at"])
        assert found["rules"] == real["rules"]
    nobody = await simulated()
    assert (nobody["points"], row(nobody, others)) == (EARNED, None)
    later = await simulated(contact_id=str(sari), at=f"{TODAY + 2 * DAY}T05:00:00Z")
    assert (later["points"], row(later, claimable)["reason"]) == (2 * EARNED, "outside_window")
    assert row(await simulated(contact_id=str(sari), at=f"{TODAY + 9 * DAY}T05:00:00Z"), claimable) is None


async def test_an_event_is_not_multiplied_by_offers(market, sari):
    rule = {"name": "review", "kind": "per_event", "event": "review", "points": 10}
    await market.client.post(f"/v1/programs/{market.program_id}/earning-rules", json=rule)
    await market.offer(benefit=DOUBLE, auto=True)
    answer = await market.post(sari, "events", {"event": "review", "ref": "r-1"})
    assert (answer.json()["points"], [row["name"] for row in answer.json()["rules"]]) == (10, ["review"])


async def test_a_purchase_costs_no_more_where_no_offer_multiplies(live_client, statements):
    market = await Market.open(live_client)
    sari = await market.member()
    await market.offer(claims_max=9)
    await market.bought(sari)
    statements.clear()
    await market.bought(sari)
    assert [each.partition(" ")[0] for each in statements] == ["BEGIN", "SELECT", "WITH", "COMMIT"]
    double = await market.offer(benefit=DOUBLE)
    await market.claimed(sari, double)
    await market.bought(sari)
    statements.clear()
    await market.bought(sari)
    assert [each.partition(" ")[0] for each in statements] == ["BEGIN", "SELECT", "SELECT", "WITH", "COMMIT"]
    await market.end_offer(double)
    await market.offer(benefit=DOUBLE, auto=True)
    await market.bought(sari)
    statements.clear()
    assert (await market.bought(sari))["points"] == 2 * EARNED
    assert [each.partition(" ")[0] for each in statements] == ["BEGIN", "SELECT", "WITH", "COMMIT"]


async def test_a_program_has_so_many_multipliers_and_any_number_of_other_offers(market, monkeypatch):
    monkeypatch.setattr(offers, "MULTIPLIERS_MAX", 2)
    first = await market.offer(benefit=DOUBLE)
    await market.offer(benefit=DOUBLE, status="draft")
    refused(await market.ask_offer(benefit=DOUBLE), 409, "too_many_multipliers")
    plain = await market.offer()
    refused(await market.ask_change_of_offer(plain, benefit=DOUBLE), 409, "too_many_multipliers")
    await market.change_offer(first, benefit={"kind": "multiplier", "factor": "3"})
    await market.end_offer(first)
    await market.change_offer(plain, benefit=DOUBLE)


# ---------------------------------------------------------------- a code of one's own


async def test_whom_an_offer_names_has_a_code_that_is_theirs_alone(market, sari, budi):
    offer = await market.offer(sari, budi, personal_code=True)
    codes = {contact_id: each["code"] for contact_id, each in (await market.recipients(offer)).items()}
    assert codes.keys() == {sari, budi}
    assert codes[sari] != codes[budi]
    [seen] = await market.offered(sari)
    assert (seen["personal_code"], seen["code"]) == (True, codes[sari])
    refused(await market.claim_by(sari, codes[budi]), 404, "offer_not_found")
    given = await market.claim_by(sari, codes[sari].lower().replace("-", " "))
    assert (given.status_code, given.json()["offer_id"], given.json()["points"]) == (201, offer["id"], 50)
    refused(await market.claim_by(sari, codes[sari]), 409, "limit_reached")


async def test_a_code_is_made_for_whoever_the_offer_is_for(market, sari, budi):
    offer = await market.offer(personal_code=True, audience={"condition": VIP})
    [seen] = await market.offered(sari)
    assert seen["code"] is None
    url = f"/v1/contacts/{sari}/offers/{offer['id']}/code"
    refused(await market.client.get(url), 404, "offer_code_not_found")
    made = [(await market.client.put(url)).json() for _ in range(2)]
    assert made[0] == made[1] == {"offer_id": offer["id"], "code": made[0]["code"]}
    assert (await market.client.get(url)).json() == made[0]
    assert (await market.offered(sari))[0]["code"] == made[0]["code"]
    refused(await market.client.put(url.replace(str(sari), str(budi))), 404, "offer_not_found")
    assert (await market.recipients(offer)).keys() == {sari}
    assert not (await market.recipients(offer))[sari]["named"]
    assert (await market.claim_by(sari, made[0]["code"])).status_code == 201


async def test_an_offer_without_codes_makes_none(market, sari):
    offer = await market.offer()
    refused(await market.client.put(f"/v1/contacts/{sari}/offers/{offer['id']}/code"), 409, "no_personal_code")
    await market.change_offer(offer, personal_code=True)
    assert (await market.client.put(f"/v1/contacts/{sari}/offers/{offer['id']}/code")).status_code == 200


async def test_codes_are_of_one_name_space(market, sari):
    offer = await market.offer(sari, personal_code=True)
    code = (await market.recipients(offer))[sari]["code"]
    taken = await market.client.post(f"/v1/programs/{market.program_id}/vouchers", json={"code": code})
    refused(taken, 409, "code_taken")
    assert (await market.client.get(f"/v1/vouchers/{code}")).status_code == 404
    refused(await market.use(code, sari, "INV-1"), 404, "voucher_not_found")
    voucher = await market.voucher(contact_id=str(sari))
    refused(await market.claim_by(sari, voucher["code"]), 404, "offer_not_found")


async def test_a_code_of_somebody_who_is_named_no_more_opens_nothing(market, sari, budi):
    offer = await market.offer(sari, budi, personal_code=True)
    code = (await market.recipients(offer))[sari]["code"]
    await market.change_offer(offer, audience={"contact_ids": [str(budi)]})
    refused(await market.claim_by(sari, code), 404, "offer_not_found")
    await market.change_offer(offer, audience={"contact_ids": [str(budi), str(sari)]})
    assert (await market.recipients(offer))[sari]["code"] == code
    assert (await market.claim_by(sari, code)).status_code == 201
