"""Rules that hold only under a condition, over HTTP: who earns by them, and when."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.contacts import conditions
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import circumstances, programs
from crm.loyalty.contribution import FIELDS, condition_of
from tests.loyalty.shop import EARNED, RULE, Shop, at_once, checksum

BONUS = 1_000
VIP = {"field": "tags", "op": "contains", "value": "vip"}
REGULAR = {"did": "purchase", "count": {"gte": 2}, "within": "P90D"}
NEW = {"not": {"did": "purchase"}}
NOON = "2026-11-01T05:00:00Z"


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


async def bonus(shop: Shop, condition: Any, **facts: Any) -> dict[str, Any]:
    """A rule that gives BONUS for a purchase, under a condition."""
    rule = {"name": "bonus", "kind": "per_visit", "points": BONUS, "condition": condition, **facts}
    answer = await shop.client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def person(shop: Shop, **facts: Any) -> UUID:
    answer = await shop.client.post("/v1/contacts", json={"name": "Sari", **facts})
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


async def outcome(shop: Shop, contact_id: UUID, **facts: Any) -> str:
    """Buy, and say what became of the last rule."""
    answer = await shop.buy(contact_id, **{"order_ref": str(uuid7()), "occurred_at": NOON, **facts})
    assert answer.status_code == 201, answer.text
    bought = answer.json()
    row = next(row for row in bought["rules"] if row["name"] == "bonus")
    assert row["points"] == (BONUS if row["reason"] == "applied" else 0)
    assert bought["points"] == sum(row["points"] for row in bought["rules"])
    return str(row["reason"])


async def earns(shop: Shop, contact_id: UUID, **facts: Any) -> bool:
    reason = await outcome(shop, contact_id, **facts)
    assert reason in {"applied", "condition_not_met"}
    return reason == "applied"


def on(day: str) -> str:
    return f"{day}T05:00:00Z"


# ---------------------------------------------------------------- who earns


async def test_a_rule_for_a_tag_is_for_those_who_have_it(shop):
    await bonus(shop, VIP)
    sari, budi = await person(shop, tags=["vip"]), await person(shop, tags=["VIP"])
    assert await earns(shop, sari)
    assert not await earns(shop, budi)
    await shop.client.put(f"/v1/contacts/{budi}/tags/vip")
    assert await earns(shop, budi)
    await shop.client.delete(f"/v1/contacts/{sari}/tags/vip")
    assert not await earns(shop, sari)


async def test_a_rule_for_a_tier_is_for_those_who_stood_in_it_before_the_purchase(shop):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": EARNED})
    await bonus(shop, {"field": "tier", "op": "eq", "value": "Gold"})
    sari = await person(shop)
    assert not await earns(shop, sari)
    assert (await shop.balance(sari))["tier"]["current"]["name"] == "Gold"
    assert await earns(shop, sari)


async def test_a_rule_for_those_without_a_tier_is_for_those_without_an_account_too(shop):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": EARNED})
    await bonus(shop, {"field": "tier", "op": "ne", "value": "Gold"})
    sari = await person(shop)
    assert await earns(shop, sari)
    assert not await earns(shop, sari)


async def test_points_count_as_they_were_before_the_purchase(shop):
    await bonus(shop, {"all": [
        {"field": "points.available", "op": "gte", "value": EARNED},
        {"field": "points.lifetime_earned", "op": "lt", "value": 2 * EARNED},
    ]})  # fmt: skip
    sari = await person(shop)
    assert [await earns(shop, sari) for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("condition", "born", "expected"),
    [
        ({"field": "birth_on", "op": "anniversary", "value": "month"}, "1990-11-30", True),
        ({"field": "birth_on", "op": "anniversary", "value": "month"}, "1990-10-31", False),
        ({"field": "birth_on", "op": "anniversary", "value": "day"}, "1990-11-01", True),
        ({"field": "birth_on", "op": "anniversary", "value": "day"}, "1990-11-02", False),
        ({"field": "birth_on", "op": "anniversary", "value": "month"}, None, False),
        ({"field": "birth_on", "op": "lte", "value": {"ago": "P60Y"}}, "1966-11-01", True),
        ({"field": "birth_on", "op": "lte", "value": {"ago": "P60Y"}}, "1966-11-02", False),
        ({"field": "birth_on", "op": "gt", "value": {"ago": "P25Y"}}, "2001-11-02", True),
        ({"field": "birth_on", "op": "gt", "value": {"ago": "P25Y"}}, "2001-11-01", False),
        ({"field": "birth_on", "op": "gt", "value": {"ago": "P25Y"}}, None, False),
        ({"field": "birth_on", "op": "exists", "value": False}, None, True),
    ],
)
async def test_a_rule_for_a_birthday_or_an_age_looks_at_the_day_of_the_purchase(shop, condition, born, expected):
    await bonus(shop, condition)
    assert await earns(shop, await person(shop, birth_on=born)) is expected


async def test_the_day_is_that_of_the_program(shop):
    await bonus(shop, {"field": "birth_on", "op": "anniversary", "value": "day"})
    sari = await person(shop, birth_on="1990-11-01")
    assert await earns(shop, sari, occurred_at="2026-10-31T17:00:00Z")
    assert not await earns(shop, sari, occurred_at="2026-10-31T16:59:59Z")
    assert not await earns(shop, sari, occurred_at="2026-11-01T17:00:00Z")


@pytest.mark.parametrize(
    ("condition", "facts"),
    [
        ({"field": "name", "op": "starts_with", "value": "Sa"}, {}),
        ({"field": "family_name", "op": "eq", "value": "Dewi"}, {"family_name": "Dewi"}),
        ({"field": "given_name", "op": "exists"}, {"given_name": "Sari"}),
        ({"field": "locale", "op": "starts_with", "value": "id"}, {"locale": "id-ID"}),
        ({"field": "time_zone", "op": "in", "value": ["Asia/Jakarta"]}, {"time_zone": "Asia/Jakarta"}),
        (
            {"field": "identities", "op": "contains", "value": "card"},
            {"identities": [{"kind": "card", "value": "A-1"}]},
        ),
        ({"field": "identities", "op": "in", "value": ["card"]}, {"identities": [{"kind": "card", "value": "A-2"}]}),
        ({"field": "attributes.store", "op": "eq", "value": "Bandung"}, {"attributes": {"store": "Bandung"}}),
        ({"field": "attributes.size", "op": "gte", "value": 7}, {"attributes": {"size": 7.5}}),
        ({"field": "attributes.halal", "op": "eq", "value": True}, {"attributes": {"halal": True}}),
        ({"field": "attributes.likes", "op": "contains", "value": "tea"}, {"attributes": {"likes": ["tea"]}}),
        ({"not": {"field": "created_at", "op": "lt", "value": {"ago": "P1D"}}}, {}),
        ({"field": "enrolled_at", "op": "gt", "value": "2020-01-01T00:00:00Z"}, {}),
    ],
)
async def test_every_field_of_a_contact_can_be_asked(shop, condition, facts):
    await bonus(shop, condition)
    assert await earns(shop, await person(shop, **facts))
    assert await earns(shop, await person(shop)) is not bool(facts)


def test_every_field_has_a_test() -> None:
    assert set(FIELDS.names) == {
        "name", "given_name", "family_name", "locale", "time_zone", "birth_on", "created_at", "tags", "identities",
        "segments", "attributes.…", "consents.…", "tier", "points.available", "points.lifetime_earned", "enrolled_at",
    }  # fmt: skip


async def test_a_multiplier_may_have_a_condition_too(shop):
    await bonus(shop, VIP, kind="multiplier", factor="2", name="double")
    sari, budi = await person(shop, tags=["vip"]), await person(shop)
    assert (await shop.buy(sari, order_ref="A")).json()["points"] == 2 * EARNED
    assert (await shop.buy(budi, order_ref="B")).json()["points"] == EARNED


# ---------------------------------------------------------------- what happened before


async def test_the_third_purchase_within_ninety_days_does_not_count_itself(shop):
    await bonus(shop, REGULAR)
    sari = await person(shop)
    days = ["2026-05-01", "2026-06-01", "2026-07-01", "2026-08-30", "2026-10-30"]
    # On 30 August those of 1 June (exactly 90 days before) and of 1 July count.
    assert [await earns(shop, sari, occurred_at=on(day)) for day in days] == [False, False, True, True, False]


async def test_history_is_that_before_the_purchase_whenever_it_is_recorded(shop):
    await bonus(shop, REGULAR)
    sari = await person(shop)
    for day in ("2026-10-01", "2026-10-02", "2026-10-03"):
        await shop.buy(sari, order_ref=day, occurred_at=on(day))
    assert not await earns(shop, sari, occurred_at="2026-10-02T04:59:59Z")
    assert await earns(shop, sari, occurred_at=on("2026-10-02"))
    assert not await earns(shop, sari, occurred_at=on("2026-09-30"))


async def test_what_happened_can_be_narrowed_to_what_it_was(shop):
    await bonus(shop, {"did": "purchase", "where": {"field": "data.total", "op": "gte", "value": "100000.00"}})
    sari = await person(shop)
    assert [await earns(shop, sari, total=total) for total in ("99999.99", "100000", "1")] == [False, False, True]


async def test_messages_and_other_interactions_count(shop):
    await bonus(shop, {"did": "review", "where": {"all": [
        {"field": "channel", "op": "eq", "value": "web"}, {"field": "direction", "op": "eq", "value": "inbound"},
        {"field": "data.stars", "op": "gte", "value": 4},
    ]}})  # fmt: skip
    sari = await person(shop)
    review = {"channel": "web", "kind": "review", "direction": "inbound", "occurred_at": on("2026-10-01")}
    for data in ({"stars": 3}, {"stars": "five"}, {}):
        (await shop.post(sari, "interactions", {**review, "data": data})).raise_for_status()
    assert not await earns(shop, sari)
    (await shop.post(sari, "interactions", {**review, "data": {"stars": 5}})).raise_for_status()
    assert await earns(shop, sari)
    assert not await earns(shop, await person(shop))


async def test_points_that_were_earned_are_history_as_well(shop):
    await bonus(shop, {"did": "points.earned", "where": {"field": "data.reason", "op": "eq", "value": "goodwill"}})
    sari = await person(shop)
    assert not await earns(shop, sari)
    await shop.award(sari, 1, occurred_at=on("2026-10-01"))
    assert await earns(shop, sari)


async def test_an_order_sent_again_answers_what_it_earned_then(shop, session):
    await bonus(shop, NEW)
    sari = await person(shop)
    first = (await shop.buy(sari, order_ref="A")).json()
    before = await checksum(session)
    again = await shop.buy(sari, order_ref="A")
    assert again.status_code == 200
    assert (again.json()["points"], again.json()["rules"]) == (first["points"], first["rules"])
    assert again.json()["points"] == EARNED + BONUS
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "condition",
    [
        NEW, REGULAR, {"field": "points.available", "op": "gte", "value": EARNED},
        {"did": "purchase", "count": {"eq": 1}, "where": {"field": "data.order_ref", "op": "eq", "value": "B"}},
    ],
)  # fmt: skip
async def test_a_batch_earns_what_its_purchases_earn_one_after_the_other(shop, condition):
    await bonus(shop, condition)
    sari, budi = await person(shop), await person(shop)
    days = {"A": "2026-10-03", "B": "2026-10-01", "C": "2026-10-03", "D": "2026-06-01", "E": "2026-10-04"}
    alone = [(await shop.buy(sari, order_ref=ref, occurred_at=on(day))).json()["points"] for ref, day in days.items()]

    other = await Shop.open(shop.client)
    await bonus(other, condition)
    item = {"currency": "IDR", "total": "45000.00", "contact_id": str(budi)}
    items = [{**item, "order_ref": ref, "occurred_at": on(day)} for ref, day in days.items()]
    answer = await shop.client.post("/v1/purchases/batch", json={"program_id": other.program_id, "items": items})
    together = [one["body"]["points"] for one in answer.json()["items"]]

    assert together == alone
    assert {EARNED, EARNED + BONUS} == set(alone)


async def test_of_first_purchases_at_the_same_moment_one_is_the_first(live_client):
    shop = await Shop.open(live_client)
    await bonus(shop, NEW)
    sari = await person(shop)
    at = datetime.now(UTC).isoformat()
    answers = await at_once(*(shop.buy(sari, order_ref=f"INV-{n}", occurred_at=at) for n in range(8)))
    assert sorted(answer.json()["points"] for answer in answers) == [EARNED] * 7 + [EARNED + BONUS]


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("condition", "facts", "reads"),
    [
        (None, {}, 0),
        (VIP, {"status": "draft"}, 0),
        ({"field": "tier", "op": "exists"}, {}, 0),
        ({"field": "points.available", "op": "gte", "value": 1}, {}, 0),
        ({"any": [VIP, {"field": "birth_on", "op": "exists"}, {"field": "enrolled_at", "op": "exists"}]}, {}, 1),
        ({"any": [REGULAR, NEW]}, {}, 1),
        ({"any": [REGULAR, NEW, VIP]}, {}, 2),
    ],
)
async def test_only_what_the_conditions_ask_is_read(shop, statements, condition, facts, reads):
    await bonus(shop, condition, **facts)
    people = [await person(shop) for _ in range(3)]
    item = {"currency": "IDR", "total": "45000.00", "occurred_at": NOON}
    await shop.buy(people[0], order_ref="loads the program")
    statements.clear()
    items = [{**item, "contact_id": str(one), "order_ref": f"{one} {n}"} for one in people for n in range(3)]
    answer = await shop.client.post("/v1/purchases/batch", json={"items": items})
    assert {one["status"] for one in answer.json()["items"]} == {201}
    # A savepoint around the request, the lock and the write are there anyway.
    asked = [one for one in statements if one.startswith("SELECT") and "FROM lock_accounts" not in one]
    assert len(asked) == reads


async def test_facts_are_those_of_each_contact_and_moment(shop, session: Session):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": EARNED})
    sari, budi = await person(shop, tags=["vip"], attributes={"size": 7}), await person(shop)
    await shop.buy(sari, order_ref="A", occurred_at=on("2026-10-01"))
    program = await programs.load(session, program_id=UUID(shop.program_id))
    asked = [
        condition_of({"field": name, "op": "exists"})
        for name in ("tags", "attributes.size", "tier", "points.available", "points.lifetime_earned", "enrolled_at")
    ]
    visited = condition_of({"did": "purchase"})
    early, late = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    facts = await circumstances.facts_for(
        session,
        program=program,
        asked=[*asked, visited],
        moments=[(sari, early), (sari, late), (budi, late)],
        known={budi: {"points.available": 99}},
    )
    enrolled_at = facts[sari, late].values["enrolled_at"]
    assert datetime.now(UTC) - enrolled_at < timedelta(minutes=5)
    assert facts[sari, late].values == {
        "tags": ["vip"], "attributes.size": 7, "tier": "Gold", "points.available": EARNED,
        "points.lifetime_earned": EARNED, "enrolled_at": enrolled_at,
    }  # fmt: skip
    assert facts[sari, early].values == facts[sari, late].values
    assert facts[budi, late].values == {
        "tags": [], "attributes.size": None, "tier": None, "points.available": 99, "points.lifetime_earned": 0,
        "enrolled_at": None,
    }  # fmt: skip
    assert [conditions.holds(visited, facts[moment], now=moment[1]) for moment in facts] == [False, True, False]


# ---------------------------------------------------------------- what can be written


async def test_a_condition_is_shown_as_it_was_written_and_can_be_changed_and_taken_away(shop):
    rule = await bonus(shop, VIP)
    url = f"/v1/programs/{shop.program_id}/earning-rules/{rule['id']}"
    assert rule["condition"] == VIP
    sari = await person(shop)
    assert not await earns(shop, sari)
    changed = (await shop.client.patch(url, json={"condition": {"not": VIP}})).json()
    assert (changed["condition"], changed["version"]) == ({"not": VIP}, 2)
    assert await earns(shop, sari)
    assert (await shop.client.patch(url, json={"points": BONUS})).json()["condition"] == {"not": VIP}
    assert (await shop.client.patch(url, json={"condition": None})).json()["condition"] is None
    assert (await shop.client.get(url)).json()["condition"] is None
    await shop.client.put(f"/v1/contacts/{sari}/tags/vip")
    assert await earns(shop, sari)


@pytest.mark.parametrize(
    ("condition", "code", "places"),
    [
        ({"field": "tag", "op": "contains", "value": "vip"}, "invalid_condition", {"/condition/field"}),
        ({"all": [VIP, {"any": [VIP, {"did": "purchase", "count": {"gte": -1}}]}]}, "invalid_condition",
         {"/condition/all/1/any/1/count/gte"}),
        ({}, "invalid_condition", {"/condition"}),
        ({"field": "attributes.a/b", "op": "exists"}, "invalid_condition", {"/condition/field"}),
        ({"field": "tags", "op": "contains", "value": "a\x00"}, "invalid_condition", {"/condition/value"}),
        ([VIP], "invalid", {"/condition"}),
        ("vip", "invalid", {"/condition"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_condition_that_is_none_is_refused_with_its_places(shop, session, method, condition, code, places):
    url = f"/v1/programs/{shop.program_id}/earning-rules"
    (rule,) = (await shop.client.get(url)).json()["items"]
    before = await checksum(session)
    answer = await shop.client.request(
        method, url if method == "POST" else f"{url}/{rule['id']}",
        json=RULE | {"condition": condition} if method == "POST" else {"condition": condition},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert {error["pointer"] for error in answer.json()["errors"]} == places
    assert await checksum(session) == before
