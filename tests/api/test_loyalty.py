"""Points over HTTP, with the field names that integrations rely on."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shop import EARNED, Shop, checksum

POINTS_MAX = 2**53 - 1
BALANCE = {
    "program_id", "available", "pending", "held", "lifetime_earned", "lifetime_redeemed", "expiring", "expiring_later",
}  # fmt: skip
TIER = {"current", "since", "until", "next", "to_stay"}
POSTED = {"transaction_id", "points", "balance", "tier"}
TRANSACTION = {
    "id", "program_id", "seq", "kind", "cause", "points", "reason", "order_ref", "reverses", "occurred_at",
    "recorded_at", "available_after", "rules", "by",
}  # fmt: skip
NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
FAR = "2030-01-01T00:00:00Z"


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    return document


def pointers(answer: Any) -> set[str]:
    return {error["pointer"] for error in answer.json()["errors"]}


def ago(**spell: float) -> str:
    return (datetime.now(UTC) - timedelta(**spell)).isoformat()


def ahead(**spell: float) -> str:
    return (datetime.now(UTC) + timedelta(**spell)).isoformat()


def same_instant(one: str, other: str) -> bool:
    return datetime.fromisoformat(one) == datetime.fromisoformat(other)


# ---------------------------------------------------------------- balance


async def test_a_contact_without_an_account_answers_zeros(shop, sari):
    balance = await shop.balance(sari)
    assert balance == {
        "program_id": shop.program_id, "available": 0, "pending": 0, "held": 0, "lifetime_earned": 0,
        "lifetime_redeemed": 0, "expiring": [], "expiring_later": 0,
        "tier": {"current": None, "since": None, "until": None, "next": None, "to_stay": None},
    }  # fmt: skip


async def test_a_balance_has_the_fields_of_the_contract_and_every_answer_the_same(shop, sari):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 100})
    posted = (await shop.award(sari, 30, expires_at=FAR)).json()
    seen = await shop.balance(sari)
    tier = seen.pop("tier")
    assert seen.keys() == BALANCE
    assert tier.keys() == TIER
    assert (posted["balance"], posted["tier"]) == (seen, tier)
    assert seen["expiring"] == [{"points": 30, "expires_at": FAR}]
    assert tier["next"] == {"name": "Gold", "missing": 70, "unit": "points"}


async def test_the_24_soonest_expiries_are_listed_and_the_rest_is_added_up(shop, sari):
    for day in range(1, 27):
        await shop.award(sari, day, expires_at=f"2031-01-{day:02}T00:00:00Z")
    await shop.award(sari, 100, expires_at="2031-01-01T07:00:00+07:00")
    await shop.award(sari, 1000)
    balance = await shop.balance(sari)
    assert [one["points"] for one in balance["expiring"]] == [101, *range(2, 25)]
    assert balance["expiring"][0]["expires_at"] == "2031-01-01T00:00:00Z"
    assert balance["expiring_later"] == 25 + 26


async def test_pending_points_are_shown_apart(shop, sari):
    posted = (await shop.award(sari, 30, activates_at=ahead(hours=1))).json()
    assert (posted["balance"]["available"], posted["balance"]["pending"]) == (0, 30)
    assert posted["balance"]["lifetime_earned"] == 30


# ---------------------------------------------------------------- awards and adjustments


async def test_an_award_answers_what_was_posted(shop, sari):
    answer = await shop.award(sari, 50, note="Sorry for the wait", store="Bandung", till="3")
    assert answer.status_code == 201
    posted = answer.json()
    assert posted.keys() == POSTED
    assert (posted["points"], posted["balance"]["available"]) == (50, 50)
    (transaction,) = await shop.transactions(sari)
    assert transaction.keys() == TRANSACTION
    assert (transaction["id"], transaction["kind"], transaction["points"]) == (posted["transaction_id"], "earn", 50)
    assert (transaction["reason"], transaction["available_after"], transaction["by"]) == ("goodwill", 50, "key:test")


async def test_the_words_of_an_award_stand_on_the_timeline_only(shop, sari, session):
    posted = (await shop.award(sari, 50, note="Sorry for the wait", store="Bandung", till="3")).json()
    row = await session.fetchrow("SELECT * FROM interactions WHERE contact_id = $1", sari)
    assert (row["id"], row["kind"], row["body"]) == (
        UUID(posted["transaction_id"]), "points.earned", "Sorry for the wait",
    )  # fmt: skip
    assert row["data"] == {
        "transaction_id": posted["transaction_id"], "program_id": shop.program_id, "points": 50, "available_after": 50,
        "reason": "goodwill", "store": "Bandung", "till": "3",
    }  # fmt: skip
    ledger = await session.fetch(
        "SELECT t::text FROM points_transactions t UNION ALL SELECT l::text FROM points_lots l"
    )
    assert len(ledger) == 2
    assert not any("Sorry" in row[0] for row in ledger)


async def test_a_fact_of_the_past_counts_from_when_it_happened(shop, sari):
    posted = (await shop.award(sari, 50, occurred_at=ago(days=9), expires_at=ago(days=2))).json()
    assert (posted["points"], posted["balance"]["available"], posted["balance"]["lifetime_earned"]) == (50, 0, 50)
    (expiry, award) = await shop.transactions(sari)
    assert (expiry["kind"], expiry["points"], expiry["by"]) == ("expire", -50, "system")
    assert expiry["occurred_at"] > award["occurred_at"]
    problem(await shop.redeem(sari, 1), 409, "insufficient_points")


async def test_dead_points_do_not_fill_a_deficit(shop, sari):
    await shop.adjust(sari, -30, allow_negative=True)
    await shop.award(sari, 50, occurred_at=ago(days=9), expires_at=ago(days=2))
    assert await shop.available(sari) == -30


async def test_an_award_that_does_not_qualify_lifts_nobody(shop, sari):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 100})
    assert (await shop.award(sari, 100, qualifying=False)).json()["tier"]["next"]["missing"] == 100
    assert (await shop.award(sari, 99)).json()["tier"]["current"] is None
    reached = (await shop.award(sari, 1)).json()["tier"]
    assert (reached["current"]["name"], reached["next"]) == ("Gold", None)
    (await shop.redeem(sari, 200)).raise_for_status()
    assert (await shop.balance(sari))["tier"] == reached


@pytest.mark.parametrize(("flags", "missing"), [({}, 100), ({"qualifying": True}, 60)])
async def test_an_adjustment_counts_towards_tiers_only_where_it_says_so(shop, sari, flags, missing):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 100})
    await shop.adjust(sari, 50, **flags)
    posted = (await shop.adjust(sari, -10, **flags)).json()
    assert posted["tier"]["next"]["missing"] == missing
    assert (posted["balance"]["available"], posted["balance"]["lifetime_earned"]) == (40, 0)


async def test_an_adjustment_answers_what_was_posted_with_its_sign(shop, sari):
    await shop.award(sari, 50)
    answer = await shop.adjust(sari, -20)
    assert (answer.status_code, answer.json().keys()) == (201, POSTED)
    assert (answer.json()["points"], answer.json()["balance"]["available"]) == (-20, 30)
    newest = (await shop.transactions(sari))[0]
    assert (newest["kind"], newest["points"], newest["reason"]) == ("adjust", -20, "fix")


async def test_an_adjustment_of_zero_is_refused(shop, sari):
    assert pointers(await shop.adjust(sari, 0)) == {"/points"}
    problem(await shop.adjust(sari, 0), 422, "zero_adjustment")


async def test_an_adjustment_below_zero_is_refused_unless_it_may(shop, sari):
    await shop.award(sari, 50)
    refusal = problem(await shop.adjust(sari, -80), 409, "insufficient_points")
    assert (refusal["required"], refusal["available"], refusal["missing"]) == (80, 50, 30)
    posted = (await shop.adjust(sari, -80, allow_negative=True)).json()
    assert posted["balance"]["available"] == -30
    assert (await shop.award(sari, 20)).json()["balance"]["available"] == -10
    assert (await shop.award(sari, 20)).json()["balance"]["available"] == 10


async def test_a_balance_stays_within_what_every_json_reader_reads_exactly(shop, sari):
    assert (await shop.award(sari, POINTS_MAX)).json()["balance"]["available"] == POINTS_MAX
    problem(await shop.award(sari, 1), 422, "points_out_of_range")
    problem(await shop.adjust(sari, 1), 422, "points_out_of_range")
    assert (await shop.adjust(sari, -1)).json()["balance"]["available"] == POINTS_MAX - 1
    redemption = (await shop.redeem(sari, POINTS_MAX - 1)).json()
    problem(await shop.adjust(sari, -1), 409, "insufficient_points")
    assert (await shop.adjust(sari, -POINTS_MAX, allow_negative=True)).json()["balance"]["available"] == -POINTS_MAX
    problem(await shop.adjust(sari, -1, allow_negative=True), 422, "points_out_of_range")
    assert (await shop.reverse(sari, redemption["id"])).json()["balance"]["available"] == -1
    await shop.award(sari, POINTS_MAX)
    redemption = (await shop.redeem(sari, POINTS_MAX - 1)).json()
    await shop.award(sari, 2)
    problem(await shop.reverse(sari, redemption["id"]), 422, "points_out_of_range")


async def test_a_counter_at_its_end_refuses_and_changes_nothing(shop, sari, session):
    await shop.award(sari, 5)
    await session.execute("UPDATE loyalty_accounts SET lifetime_earned = 9223372036854775807")
    before = await checksum(session)
    problem(await shop.award(sari, 5), 422, "invalid")
    assert await checksum(session) == before


# ---------------------------------------------------------------- redemptions


async def test_a_redemption_answers_its_id_and_the_balance_after_it(shop, sari):
    await shop.award(sari, 50)
    answer = await shop.redeem(sari, 20)
    assert answer.status_code == 201
    redemption = answer.json()
    assert redemption.keys() == {"id", "points", "status", "reward_id", "quantity", "voucher", "balance"}
    assert redemption["balance"].keys() == BALANCE
    assert (redemption["points"], redemption["status"]) == (20, "redeemed")
    assert (redemption["balance"]["available"], redemption["balance"]["lifetime_redeemed"]) == (30, 20)
    kept = await shop.get(sari, f"redemptions/{redemption['id']}")
    assert kept.keys() == {
        "id", "program_id", "points", "order_ref", "status", "occurred_at", "reversal_id", "reward", "quantity",
        "cause", "expires_at", "voucher",
    }  # fmt: skip
    assert (kept["reward"], kept["quantity"], kept["cause"], kept["voucher"]) == (None, 1, "redemption", None)
    assert (kept["points"], kept["order_ref"], kept["status"], kept["reversal_id"]) == (20, None, "redeemed", None)
    assert (await shop.get(sari, "redemptions"))["items"] == [kept]


async def test_a_redemption_beyond_the_balance_says_what_is_missing(shop, sari):
    await shop.award(sari, 50)
    await shop.award(sari, 100, activates_at=ahead(hours=1))
    refusal = problem(await shop.redeem(sari, 51), 409, "insufficient_points")
    assert (refusal["required"], refusal["available"], refusal["missing"]) == (51, 50, 1)


async def test_the_same_order_redeems_once_with_the_stored_id_and_the_balance_of_today(shop, sari):
    await shop.award(sari, 50)
    first = (await shop.redeem(sari, 20, order_ref="INV-9")).json()
    await shop.award(sari, 5)
    again = await shop.redeem(sari, 20, order_ref="INV-9")
    assert again.status_code == 200
    assert {**first, "balance": None} == {**again.json(), "balance": None}
    assert again.json()["balance"]["available"] == 35


async def test_an_order_redeems_other_points_or_for_another_contact_never(shop, sari):
    budi = await shop.member(points=50)
    await shop.award(sari, 50)
    await shop.redeem(sari, 20, order_ref="INV-9")
    problem(await shop.redeem(sari, 21, order_ref="INV-9"), 409, "order_ref_reused")
    problem(await shop.redeem(budi, 20, order_ref="INV-9"), 409, "order_ref_reused")
    problem(await shop.buy(budi, order_ref="INV-9"), 409, "order_ref_reused")


async def test_points_of_an_order_are_not_spendable_on_it(shop, sari):
    await shop.buy(sari)
    refusal = problem(await shop.redeem(sari, EARNED, order_ref="INV-1"), 409, "insufficient_points")
    assert (refusal["required"], refusal["available"], refusal["missing"]) == (EARNED, 0, EARNED)
    assert (await shop.redeem(sari, EARNED, order_ref="INV-2")).status_code == 201


async def test_a_reversal_gives_the_points_back_once(shop, sari):
    await shop.award(sari, 50)
    redemption = (await shop.redeem(sari, 20)).json()
    answer = await shop.reverse(sari, redemption["id"], reason="mistake")
    assert answer.status_code == 201
    returned = answer.json()
    assert returned.keys() == POSTED | {"points_returned", "points_returned_expired"}
    assert (returned["points"], returned["points_returned"], returned["points_returned_expired"]) == (20, 20, 0)
    assert (returned["balance"]["available"], returned["balance"]["lifetime_redeemed"]) == (50, 0)
    await shop.award(sari, 5)
    again = await shop.reverse(sari, redemption["id"])
    assert again.status_code == 200
    assert {**again.json(), "balance": None} == {**returned, "balance": None}
    assert again.json()["balance"]["available"] == 55
    kept = await shop.get(sari, f"redemptions/{redemption['id']}")
    assert (kept["status"], kept["reversal_id"]) == ("reversed", returned["transaction_id"])
    newest = (await shop.transactions(sari))[1]
    assert (newest["kind"], newest["points"], newest["reverses"]) == ("reverse", 20, redemption["id"])


async def test_a_reversal_leaves_expired_what_has_expired_meanwhile(shop, sari, session):
    await shop.award(sari, 30, expires_at=ahead(days=1))
    await shop.award(sari, 30)
    redemption = (await shop.redeem(sari, 40)).json()
    await session.execute("UPDATE points_lots SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    returned = (await shop.reverse(sari, redemption["id"])).json()
    assert (returned["points"], returned["points_returned"], returned["points_returned_expired"]) == (10, 10, 30)
    assert returned["balance"]["available"] == 30
    again = (await shop.reverse(sari, redemption["id"])).json()
    assert (again["points"], again["points_returned_expired"]) == (10, 30)


async def test_only_a_redemption_of_this_contact_can_be_reversed(shop, sari):
    budi = await shop.member(points=50)
    award = (await shop.award(sari, 50)).json()
    redemption = (await shop.redeem(sari, 20)).json()
    for contact_id, redemption_id in ((budi, redemption["id"]), (sari, award["transaction_id"]), (sari, NOBODY)):
        problem(await shop.reverse(contact_id, redemption_id), 404, "redemption_not_found")
        if contact_id != sari or redemption_id == NOBODY:
            answer = await shop.client.get(f"/v1/contacts/{contact_id}/redemptions/{redemption_id}")
            problem(answer, 404, "redemption_not_found")
    assert await shop.available(sari) == 30


# ---------------------------------------------------------------- transactions


async def test_transactions_come_newest_first_and_pages_add_up_to_the_whole(shop, sari):
    for points in range(1, 8):
        await shop.award(sari, points)
    whole = await shop.transactions(sari)
    assert [one["points"] for one in whole] == [7, 6, 5, 4, 3, 2, 1]
    pages, cursor = [], ""
    while cursor is not None:
        page = await shop.get(sari, f"points-transactions?limit=3{cursor and f'&cursor={cursor}'}")
        pages += page["items"]
        cursor = page["next_cursor"]
        await shop.adjust(sari, 1)
    assert pages == whole


async def test_awards_and_adjustments_have_lists_of_their_own(shop, sari):
    await shop.award(sari, 5)
    await shop.adjust(sari, -1)
    await shop.buy(sari)
    awards, adjustments = await shop.get(sari, "points-awards"), await shop.get(sari, "points-adjustments")
    assert [one["points"] for one in awards["items"]] == [5]
    assert [one["points"] for one in adjustments["items"]] == [-1]
    assert [one["points"] for one in await shop.transactions(sari)] == [EARNED, -1, 5]


async def test_a_transaction_shows_its_movements(shop, sari):
    await shop.award(sari, 10, expires_at=FAR)
    await shop.award(sari, 10)
    redemption = (await shop.redeem(sari, 15)).json()
    detail = await shop.get(sari, f"points-transactions/{redemption['id']}")
    assert detail.keys() == TRANSACTION | {"movements"}
    first, second = detail["movements"]
    assert first.keys() == {
        "seq", "lot_id", "from_bucket", "to_bucket", "points", "available_after", "pending_after", "held_after",
    }  # fmt: skip
    assert [(move["from_bucket"], move["to_bucket"], move["points"]) for move in (first, second)] == [
        ("available", "redeemed", 10), ("available", "redeemed", 5),
    ]  # fmt: skip
    assert (second["seq"], second["available_after"]) == (first["seq"] + 1, 5)


async def test_a_transaction_of_somebody_else_is_not_found(shop, sari):
    budi = await shop.member()
    posted = (await shop.award(sari, 10)).json()
    answer = await shop.client.get(f"/v1/contacts/{budi}/points-transactions/{posted['transaction_id']}")
    problem(answer, 404, "points_transaction_not_found")


# ---------------------------------------------------------------- batches


async def test_a_batch_answers_each_award_at_its_place_and_leaves_out_the_refused(shop, sari):
    items = [
        {"contact_id": str(sari), "points": 10, "reason": "a"},
        {"contact_id": str(NOBODY), "points": 10, "reason": "a"},
        {"contact_id": str(sari), "points": POINTS_MAX, "reason": "a"},
        {"contact_id": str(sari), "points": 7, "reason": "a", "expires_at": ago(days=1)},
        {"contact_id": str(sari), "points": 5, "reason": "b", "activates_at": ahead(days=1)},
        {"contact_id": str(sari), "points": 1, "reason": "c", "occurred_at": ahead(days=2)},
    ]
    answer = await shop.client.post("/v1/points-awards/batch", json={"items": items})
    assert answer.status_code == 200
    answers = answer.json()["items"]
    assert [one["status"] for one in answers] == [201, 404, 422, 422, 201, 422]
    assert [(one["problem"] or {}).get("code") for one in answers] == [
        None, "contact_not_found", "points_out_of_range", "expires_before_it_is_earned", None, "occurred_in_the_future",
    ]  # fmt: skip
    assert [one["body"]["balance"]["available"] for one in answers if one["body"]] == [10, 10]
    assert answers[4]["body"]["balance"]["pending"] == 5
    assert all(one["body"].keys() == POSTED for one in answers if one["body"])
    assert (await shop.balance(sari))["lifetime_earned"] == 15


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_1_to_1000_awards(shop, sari, count):
    items = [{"contact_id": str(sari), "points": 1, "reason": "a"}] * count
    answer = await shop.client.post("/v1/points-awards/batch", json={"items": items})
    problem(answer, 422, "invalid")
    assert pointers(answer) == {"/items"}


async def test_a_thousand_awards_are_one_batch(shop):
    people = [await shop.member() for _ in range(10)]
    answer = await shop.award_batch(*((people[number % 10], 1) for number in range(1000)))
    assert {one["status"] for one in answer.json()["items"]} == {201}
    assert [await shop.available(one) for one in people] == [100] * 10


# ---------------------------------------------------------------- programs


async def test_a_program_may_be_named_and_keeps_its_own_account(shop, sari):
    other = await Shop.open(shop.client)
    await shop.award(sari, 10)
    await shop.award(sari, 3, program_id=other.program_id)
    redemption = (await shop.redeem(sari, 2, program_id=other.program_id)).json()
    assert redemption["balance"]["program_id"] == other.program_id
    assert await shop.available(sari) == 10
    named = await shop.get(sari, f"loyalty?program={other.program_id}")
    assert (named["program_id"], named["available"]) == (other.program_id, 1)
    assert len(await shop.transactions(sari)) == 1
    for path, count in (
        ("points-transactions", 2),
        ("points-awards", 1),
        ("points-adjustments", 0),
        ("redemptions", 1),
    ):
        assert len((await shop.get(sari, f"{path}?program={other.program_id}"))["items"]) == count
    await shop.reverse(sari, redemption["id"])  # needs no program: the redemption knows
    assert (await shop.get(sari, f"loyalty?program={other.program_id}"))["available"] == 3


POSTS = [
    ("points-awards", {"points": 1, "reason": "a"}),
    ("points-adjustments", {"points": 1, "reason": "a"}),
    ("points-adjustments", {"points": -1, "reason": "a", "allow_negative": True}),
    ("redemptions", {"points": 1}),
    ("redemptions", {"points": 1, "order_ref": "INV-1"}),
]
LISTS = ["points-transactions", "points-awards", "points-adjustments", "redemptions"]


@pytest.mark.parametrize(("path", "body"), POSTS)
async def test_a_post_for_nobody_or_in_no_program_is_not_found(shop, sari, path, body):
    problem(await shop.post(NOBODY, path, body), 404, "contact_not_found")
    problem(await shop.post(sari, path, {**body, "program_id": str(uuid7())}), 404, "program_not_found")


@pytest.mark.parametrize("path", ["loyalty", *LISTS])
async def test_a_read_of_nobody_or_in_no_program_is_not_found(shop, sari, path):
    problem(await shop.client.get(f"/v1/contacts/{NOBODY}/{path}"), 404, "contact_not_found")
    problem(await shop.client.get(f"/v1/contacts/{sari}/{path}?program={uuid7()}"), 404, "program_not_found")


async def test_where_no_program_is_there_one_is_required(client):
    shop = Shop(client, "")
    sari = await shop.member()
    for path, body in POSTS:
        problem(await shop.post(sari, path, body), 422, "program_required")
    batch = await shop.award_batch((sari, 1))
    problem(batch, 422, "program_required")
    problem(await client.get(f"/v1/contacts/{sari}/loyalty"), 422, "program_required")
    problem(await shop.reverse(sari, str(NOBODY)), 404, "redemption_not_found")


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_requires_a_program_too(client, path):
    sari = await Shop(client, "").member()
    problem(await client.get(f"/v1/contacts/{sari}/{path}"), 422, "program_required")


# ---------------------------------------------------------------- what is refused leaves no trace

AWARD = {"points": 5, "reason": "goodwill"}
REDEEM = {"points": 5}
BAD_POINTS = [0, -1, 2**53, 2**63, 10**30, 1.0, 1.5, "1", True, None, [], {}]
BAD_INSTANTS = [
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00",
    "1899-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2026-11-01T09:30:00", "2026-11-01", "2026-02-30T00:00:00Z",
    "yesterday", "", 1793525400, 1.5, True,
]  # fmt: skip
BAD_WORDS = ["", "Goodwill", "with space", "a" * 64, "1st", "ä", "a\x00", 5, True, None]
BAD_LINES = ["", "   ", "x" * 201, "a\x00b", 5, True, ["x"]]


def _bad(path: str, body: dict[str, Any], name: str, values: list[Any]) -> list[Any]:
    return [
        pytest.param(path, {**body, name: value}, f"/{name}", id=f"{path} {name}={str(value)[:26]!r}")
        for value in values
    ]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        *_bad("points-awards", AWARD, "points", BAD_POINTS),
        *_bad("points-awards", AWARD, "reason", BAD_WORDS),
        *_bad("points-awards", AWARD, "note", ["a\x00b", "x" * 20_001, 5]),
        *_bad("points-awards", AWARD, "occurred_at", BAD_INSTANTS),
        *_bad("points-awards", AWARD, "activates_at", BAD_INSTANTS),
        *_bad("points-awards", AWARD, "expires_at", [*BAD_INSTANTS, "2020-01-01T00:00:00Z"]),
        *_bad("points-awards", AWARD, "qualifying", ["true", 1, 0, None]),
        *_bad("points-awards", AWARD, "store", BAD_LINES),
        *_bad("points-awards", AWARD, "program_id", ["", "x", 5, f"{NOBODY}0", "\x00"]),
        *_bad("points-awards", AWARD, "id", ["x"]),
        *_bad("points-awards", AWARD, "contact_id", [str(NOBODY)]),
        *_bad("points-awards", AWARD, "by", ["somebody"]),
        *_bad("points-adjustments", AWARD, "points", [value for value in BAD_POINTS if value not in (0, -1)]),
        *_bad("points-adjustments", AWARD, "points", [-(2**53), -(10**30), -1.0, "-1"]),
        *_bad("points-adjustments", AWARD, "allow_negative", ["yes", 1, None]),
        *_bad("points-adjustments", AWARD, "reason", BAD_WORDS),
        *_bad("redemptions", REDEEM, "points", BAD_POINTS),
        *_bad("redemptions", REDEEM, "order_ref", BAD_LINES),
        *_bad("redemptions", REDEEM, "cost", [1]),
        pytest.param("points-awards", {"points": 5}, "/reason", id="no reason"),
        pytest.param("points-awards", {"reason": "a"}, "/points", id="no points"),
        pytest.param("points-adjustments", {"points": 5}, "/reason", id="no reason to adjust"),
        pytest.param("redemptions", {}, "/points", id="nothing to redeem"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_its_place_and_changes_nothing(shop, sari, session, path, body, pointer):
    await shop.award(sari, 50)
    before = await checksum(session)
    answer = await shop.post(sari, path, body)
    assert answer.status_code == 422, answer.text
    assert pointers(answer) == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"points": 5, "reason": "a", "note": "\\ud800"}', {400, 422}),
        (b'{"points": 5, "points": 6, "reason": "a"}', {400}),
        (b'{"points": NaN, "reason": "a"}', {400}),
        (b'{"points": 1e400, "reason": "a"}', {400, 422}),
        (b'{"points": ' + b"9" * 5000 + b', "reason": "a"}', {400, 422}),
        (b'{"points": -0, "reason": "a"}', {422}),
        (b'{"points": 5e0, "reason": "a"}', {422}),
        (b'{"points": 5, "reason": "\xff"}', {400}),
        (b"[" * 100_000, {400}),
        (b"[]", {400, 422}),
        (b"null", {400, 422}),
        (b"", {400}),
        (b'"points"', {400, 422}),
        (b'{"points": 5, "reason": "a"} x', {400}),
    ],
)
async def test_what_is_hardly_json_is_refused_and_changes_nothing(shop, sari, session, body, status):
    before = await checksum(session)
    answer = await shop.client.post(
        f"/v1/contacts/{sari}/points-awards", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await checksum(session) == before


async def test_every_refusal_of_the_ledger_leaves_every_table_as_it_was(shop, sari, session):
    budi = await shop.member(points=10)
    await shop.award(sari, 50, key="K-1")
    await shop.buy(sari)
    redemption = (await shop.redeem(sari, 5, order_ref="INV-1")).json()
    # Something is due: a refused post must not write it down either.
    await shop.award(sari, 7, expires_at=ahead(hours=1))
    await session.execute("UPDATE points_lots SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    await session.execute(
        "UPDATE loyalty_accounts SET next_due_at = now() - interval '1 s' WHERE next_due_at IS NOT NULL"
    )
    before = await checksum(session)
    refused = [
        (409, await shop.redeem(sari, 10_000)),
        (409, await shop.redeem(sari, 10_000, order_ref="INV-7")),
        (409, await shop.redeem(sari, 6, order_ref="INV-1")),
        (409, await shop.redeem(budi, 6, order_ref="INV-1")),
        (409, await shop.adjust(sari, -10_000)),
        (409, await shop.buy(sari, total="1.00")),
        (409, await shop.buy(budi)),
        (422, await shop.buy(sari, order_ref="INV-8", currency="USD")),
        (422, await shop.buy(sari, order_ref="INV-8", occurred_at=ahead(days=2))),
        (422, await shop.award(sari, 1, key="K-1")),
        (422, await shop.award(sari, POINTS_MAX)),
        (422, await shop.award(sari, 1, occurred_at=ahead(days=2))),
        (422, await shop.award(sari, 1, expires_at=ago(days=2))),
        (404, await shop.award(NOBODY, 1, key="K-2")),
        (404, await shop.reverse(budi, redemption["id"])),
    ]
    assert [answer.status_code for _, answer in refused] == [status for status, _ in refused]
    assert await checksum(session) == before
    assert (await shop.award(sari, 1, key="K-2")).status_code == 201  # the key of a refused request is free


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize("path", ["points-awards", "points-adjustments", "redemptions", "purchases", "reversal"])
async def test_a_repeated_key_answers_the_first_bytes_and_changes_nothing(shop, sari, session, path):
    await shop.award(sari, 50)
    if path == "reversal":
        path = f"redemptions/{(await shop.redeem(sari, 5)).json()['id']}/reversal"
    order = {"order_ref": "INV-1", "occurred_at": "2026-11-01T09:30:00Z", "currency": "IDR", "total": "45000.00"}
    body = order if path == "purchases" else {} if "reversal" in path else {"points": 5, "reason": "fix"}
    if path == "redemptions":
        del body["reason"]
    first = await shop.post(sari, path, body, key="K-1")
    assert first.status_code == 201, first.text
    await shop.award(sari, 1)
    before = await checksum(session)
    again = await shop.post(sari, path, body, key="K-1")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await shop.post(sari, path, {**body, "reason": "other"} if body else {"reason": "other"}, key="K-1")
    assert other.json()["code"] in {"idempotency_key_reused", "invalid"}
    assert await checksum(session) == before


async def test_a_key_used_to_repeat_a_fact_is_that_requests_key(shop, sari, session):
    """The first status of that key is 200, and another body under it is refused."""
    await shop.award(sari, 50)
    await shop.buy(sari)
    await shop.redeem(sari, 5, order_ref="INV-9")
    redemption = (await shop.redeem(sari, 5)).json()
    await shop.reverse(sari, redemption["id"])

    async def repeats(key, **other):
        return [
            await shop.buy(sari, key=key, **({"total": "1.00"} if other else {})),
            await shop.redeem(sari, 6 if other else 5, order_ref="INV-9", key=key),
            await shop.reverse(sari, redemption["id"], key=key, **({"reason": "other"} if other else {})),
        ]

    first = await repeats("K-1")
    await shop.award(sari, 1)
    before = await checksum(session)
    again = await repeats("K-1")
    assert [answer.status_code for answer in first + again] == [200] * 6
    assert [answer.content for answer in again] == [answer.content for answer in first]
    assert {answer.json()["code"] for answer in await repeats("K-1", other=True)} == {"idempotency_key_reused"}
    assert await checksum(session) == before


async def test_a_key_belongs_to_its_path(shop, sari):
    budi = await shop.member()
    for contact_id in (sari, budi):
        assert (await shop.award(contact_id, 5, key="K-1")).status_code == 201
    assert (await shop.adjust(sari, 5, key="K-1")).status_code == 201
    assert await shop.available(sari) == 10


async def test_a_batch_under_a_repeated_key_answers_the_first_bytes(shop, sari):
    body = {"items": [{"contact_id": str(sari), "points": 5, "reason": "a"}, {"contact_id": str(NOBODY), **AWARD}]}
    answers = [
        await shop.client.post("/v1/points-awards/batch", json=body, headers={"Idempotency-Key": "K-1"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content
    assert await shop.available(sari) == 5


# ---------------------------------------------------------------- who may

SCOPES = {
    "loyalty:award": [("POST", "points-awards"), ("POST", "purchases")],
    "loyalty:adjust": [("POST", "points-adjustments")],
    "loyalty:redeem": [("POST", "redemptions"), ("POST", f"redemptions/{NOBODY}/reversal")],
    "loyalty:read": [("GET", path) for path in ("loyalty", *LISTS, f"points-transactions/{NOBODY}", "purchases")],
}


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_route_asks_for_its_own_scope(shop, sari, scope):
    others = await shop.client.limited_to(*(SCOPES.keys() - {scope}))
    holder = await shop.client.limited_to(scope)
    for asked, routes in SCOPES.items():
        for method, path in routes:
            url = f"/v1/contacts/{sari}/{path}"
            if asked == scope:
                problem(await others.request(method, url, json={}), 403, "scope_missing")
            answer = await holder.request(method, url, json={})
            assert (answer.status_code == 403) is (asked != scope)
    assert (await others.post("/v1/points-awards/batch", json={})).status_code == (
        403 if scope == "loyalty:award" else 422
    )


# ---------------------------------------------------------------- what a request costs

BEGIN, LOCK, WRITE, COMMIT = "BEGIN", "SELECT * FROM lock_accounts", "WITH w0 AS", "COMMIT"
POST = [BEGIN, LOCK, WRITE, COMMIT]


async def test_a_post_is_two_round_trips_between_begin_and_commit_and_a_read_is_one(live_client, statements):
    shop = await Shop.open(live_client)
    sari, budi = await shop.member(points=100), await shop.member(points=100)
    new = await shop.member()
    spent = (await shop.redeem(sari, 1)).json()["id"]
    posted = (await shop.transactions(sari))[0]["id"]
    url = f"/v1/contacts/{sari}"
    costs = [
        (shop.award(sari, 5), POST),
        (shop.award(sari, 5, key="K-1"), POST),
        (shop.award(sari, 5, expires_at=FAR, activates_at=ahead(days=1), store="Bandung"), POST),
        (shop.award(new, 5), POST),
        (shop.award_batch((sari, 1), (budi, 1), (sari, 2)), POST),
        (shop.adjust(sari, 5), POST),
        (shop.adjust(sari, -5), POST),
        (shop.redeem(sari, 5, key="K-2"), POST),
        (shop.redeem(sari, 5, order_ref="INV-9"), POST),
        (shop.reverse(sari, spent), POST),
        (shop.buy(sari, key="K-3"), POST),
        (shop.buy(sari), [BEGIN, LOCK, "SELECT contact_id, order_ref", COMMIT]),
        (live_client.get(f"{url}/loyalty"), ["SELECT p.id AS program_id"]),
        (live_client.get(f"{url}/points-transactions"), ["SELECT t.* FROM contacts c"]),
        (live_client.get(f"{url}/points-transactions/{posted}"), ["SELECT id, program_id, seq"]),
        (live_client.get(f"{url}/redemptions"), ["SELECT r.* FROM contacts c"]),
        (live_client.get(f"{url}/redemptions/{spent}"), ["SELECT r.id, r.program_id, r.points"]),
        (live_client.get(f"{url}/purchases"), ["SELECT p.* FROM contacts c"]),
        (live_client.get(f"{url}/purchases/INV-1"), ["SELECT order_ref, program_id"]),
    ]
    for number, (request, expected) in enumerate(costs):
        statements.clear()
        answer = await request
        assert answer.is_success, answer.text
        assert len(statements) == len(expected), (number, statements)
        for said, begins in zip(statements, expected, strict=True):
            assert said.startswith(begins)


async def test_a_replay_is_found_by_the_lock_itself(live_client, statements):
    shop = await Shop.open(live_client)
    sari = await shop.member()
    await shop.award(sari, 5, key="K-1")
    statements.clear()
    assert (await shop.award(sari, 5, key="K-1")).status_code == 201
    assert [said.split("(")[0] for said in statements] == [BEGIN, LOCK, "ROLLBACK"]


async def test_json_numbers_of_points_are_whole(shop, sari):
    await shop.buy(sari)
    raw = (await shop.client.get(f"/v1/contacts/{sari}/loyalty")).text
    assert '"available":45,' in raw.replace(" ", "")
    assert json.loads(raw)["available"] == EARNED


async def test_an_award_that_is_not_valid_stops_none_of_its_batch(shop: Shop) -> None:
    sari, budi = await shop.member(), await shop.member()
    items = [{"contact_id": str(sari), "points": 5, "reason": "x"}] * 2 + [{"contact_id": str(budi), "points": -1}]

    answer = await shop.client.post("/v1/points-awards/batch", json={"items": items})

    assert [item["status"] for item in answer.json()["items"]] == [201, 201, 422]
    assert {error["pointer"] for error in answer.json()["items"][2]["problem"]["errors"]} == {"/points", "/reason"}
    assert (await shop.balance(sari))["available"] == 10
