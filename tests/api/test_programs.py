"""Programs, their earning rules and tiers over HTTP, with the field names that integrations rely on."""

from typing import Any
from uuid import UUID

import pytest

from tests.loyalty.shop import EARNED, PROGRAM, RULE, Shop, checksum

VIEW = {
    "id", "name", "currency", "time_zone", "default", "rounding", "earn_on", "redemption", "award_limits",
    "cost_per_point", "expected_breakage", "version", "created_at", "updated_at",
}  # fmt: skip
RULE_VIEW = {
    "id", "program_id", "version", "name", "kind", "status", "points", "per", "factor", "filter", "condition", "window",
    "min_spend", "code", "max_points_per_purchase", "over_max", "stackable", "priority", "applies_to", "created_at",
    "updated_at",
}  # fmt: skip
NONE = UUID("01a200ec-0000-7000-8000-000000000000")
TERMS: dict[str, Any] = {
    "activation": {"days": 0}, "expiry": {"kind": "never"}, "return_policy": "within_balance",
    "spent_return_policy": "prorate", "return_grace_days": 0, "milestones": [], "enrolment": "automatic",
}  # fmt: skip
"""What a program says of its points where nobody said anything else."""


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


async def make(client: Any, **facts: Any) -> dict[str, Any]:
    answer = await client.post("/v1/programs", json=PROGRAM | facts)
    assert answer.status_code == 201, answer.text
    program: dict[str, Any] = answer.json()
    return program


async def read(client: Any, program_id: str) -> dict[str, Any]:
    program: dict[str, Any] = (await client.get(f"/v1/programs/{program_id}")).json()
    return program


def rules_of(shop: Shop) -> str:
    return f"/v1/programs/{shop.program_id}/earning-rules"


async def add_rule(shop: Shop, **facts: Any) -> dict[str, Any]:
    answer = await shop.client.post(rules_of(shop), json=RULE | facts)
    assert answer.status_code == 201, answer.text
    rule: dict[str, Any] = answer.json()
    return rule


# ---------------------------------------------------------------- programs


async def test_a_program_needs_a_name_a_currency_and_a_time_zone(client):
    answer = await client.post("/v1/programs", json=PROGRAM)
    assert answer.status_code == 201
    program = answer.json()
    assert program.keys() == VIEW | TERMS.keys()
    assert program | TERMS == program
    assert program | PROGRAM == program
    assert (program["default"], program["rounding"]) == (True, "floor")
    assert program["earn_on"] == {"tax": False, "shipping": False}
    assert answer.headers["etag"] == f'"{program["version"]}"'
    found = await client.get(f"/v1/programs/{program['id']}")
    assert (found.status_code, found.json(), found.headers["etag"]) == (200, program, answer.headers["etag"])


async def test_a_program_says_what_it_was_told(client):
    told = {"rounding": "ceil", "earn_on": {"tax": True, "shipping": False}, "currency": "USD", "time_zone": "Etc/UTC"}
    program = await make(client, **told)
    assert program | told == program
    assert await read(client, program["id"]) == program


@pytest.mark.parametrize(
    "told",
    [
        {"activation": {"days": 14}},
        {"activation": {"days": 0, "event": "delivered"}},
        {"activation": {"days": 0, "event": "delivered", "cancel_after_days": 0}},
        {"expiry": {"kind": "after", "months": 12}},
        {"expiry": {"kind": "after", "days": 0}},
        {"expiry": {"kind": "after", "months": 1, "round_up_to": "quarter"}},
        {"expiry": {"kind": "sliding", "months": 12, "activities": ["purchase", "review"]}},
        {"return_policy": "only_pending"},
        {"return_policy": "unlimited"},
        {"spent_return_policy": "full_refund_only", "return_grace_days": 30},
        {"spent_return_policy": "none"},
        {"milestones": [500, 50]},
        {"enrolment": "explicit"},
    ],
    ids=str,
)
async def test_a_program_keeps_the_terms_that_it_was_told_first_or_later(client, told):
    program = await make(client, **told)
    assert program | TERMS | told == program
    other = await make(client)
    answer = await client.patch(f"/v1/programs/{other['id']}", json=told)
    assert (answer.status_code, answer.json() | TERMS | told) == (200, answer.json())
    assert await read(client, other["id"]) == answer.json()


async def test_terms_are_replaced_whole_and_the_others_stay(client):
    program = await make(
        client, activation={"event": "delivered", "cancel_after_days": 3}, milestones=[5],
        expiry={"kind": "after", "months": 1, "round_up_to": "year"},
    )  # fmt: skip
    url = f"/v1/programs/{program['id']}"
    changed = (await client.patch(url, json={"expiry": {"kind": "after", "days": 9}, "activation": {}})).json()
    assert (changed["expiry"], changed["activation"]) == ({"kind": "after", "days": 9}, {"days": 0})
    assert (changed["milestones"], changed["return_policy"]) == ([5], "within_balance")
    assert "expiry_applies_to" not in changed


@pytest.mark.parametrize("said", [{}, {"default": True}, {"default": False}])
async def test_the_first_program_is_the_default_whatever_it_says(client, said):
    assert (await make(client, **said))["default"] is True
    sari = await Shop(client, "").member()
    assert (await Shop(client, "").award(sari, 1)).status_code == 201


async def test_a_later_program_becomes_the_default_when_it_says_so(client):
    first = await make(client)
    second, third = await make(client, name="Second"), await make(client, name="Third", default=True)
    assert (second["default"], third["default"]) == (False, True)
    assert (await read(client, first["id"]))["default"] is False
    sari = await Shop(client, "").member()
    assert (await Shop(client, "").balance(sari))["program_id"] == third["id"]
    changed = await client.patch(f"/v1/programs/{second['id']}", json={"default": True})
    assert changed.json()["default"] is True
    defaults = {one["id"]: one["default"] for one in (await client.get("/v1/programs")).json()["items"]}
    assert defaults == {first["id"]: False, second["id"]: True, third["id"]: False}
    assert (await Shop(client, "").balance(sari))["program_id"] == second["id"]


async def test_programs_are_listed_newest_first_and_pages_add_up(client):
    made = [(await make(client, name=f"Program {number}"))["id"] for number in range(5)]
    pages, cursor = [], ""
    while cursor is not None:
        page = (await client.get(f"/v1/programs?limit=2{cursor and f'&cursor={cursor}'}")).json()
        assert page.keys() == {"items", "next_cursor"}
        pages += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert pages == made[::-1]


async def test_a_change_touches_what_it_names_and_makes_a_new_version(client):
    program = await make(client, rounding="ceil", earn_on={"tax": True, "shipping": True})
    answer = await client.patch(f"/v1/programs/{program['id']}", json={"name": "Teh", "earn_on": {"tax": False}})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed["version"] > program["version"]
    assert answer.headers["etag"] == f'"{changed["version"]}"'
    expected = program | {"name": "Teh", "earn_on": {"tax": False, "shipping": False}}
    for name in ("version", "updated_at"):
        expected.pop(name), changed.pop(name)
    assert changed == expected


async def test_a_change_of_what_was_changed_since_is_refused(client, session):
    program = await make(client)
    url, tag = f"/v1/programs/{program['id']}", f'"{program["version"]}"'
    assert (await client.patch(url, json={"name": "Teh"}, headers={"If-Match": tag})).status_code == 200
    before = await checksum(session)
    problem(await client.patch(url, json={"name": "Air"}, headers={"If-Match": tag}), 412, "stale_version")
    for nonsense in ("1", '"', '""', '"x"', '"-1"', '"1.0"', "'1'", '"٣"'.encode()):
        answer = await client.patch(url, json={"name": "Air"}, headers={"If-Match": nonsense})
        assert answer.status_code in {412, 422}, nonsense
    assert await checksum(session) == before
    for fine in (f'W/"{program["version"] + 1}"', "*"):
        answer = await client.patch(url, json={"name": "Air"}, headers={"If-Match": fine})
        assert answer.status_code == 200, fine
    assert (await read(client, program["id"]))["name"] == "Air"


async def test_a_rule_or_a_tier_is_a_change_of_the_program_too(shop):
    versions = [(await read(shop.client, shop.program_id))["version"]]
    await add_rule(shop)
    versions.append((await read(shop.client, shop.program_id))["version"])
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 1})
    versions.append((await read(shop.client, shop.program_id))["version"])
    assert versions == sorted(set(versions))


async def test_a_rounding_holds_from_the_next_purchase_on(shop, sari):
    assert (await shop.buy(sari, order_ref="A", total="1999.00")).json()["points"] == 1
    await shop.client.patch(f"/v1/programs/{shop.program_id}", json={"rounding": "ceil"})
    assert (await shop.buy(sari, order_ref="B", total="1999.00")).json()["points"] == 2
    await shop.client.patch(f"/v1/programs/{shop.program_id}", json={"rounding": "nearest"})
    assert (await shop.buy(sari, order_ref="C", total="1499.99")).json()["points"] == 1
    assert (await shop.buy(sari, order_ref="D", total="1500.00")).json()["points"] == 2


async def test_what_is_not_there_is_not_found(shop):
    nowhere, here = f"/v1/programs/{NONE}", f"/v1/programs/{shop.program_id}"
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"name": "x"}), ("POST", "/earning-rules", RULE),
        ("POST", "/tiers", {"name": "x", "threshold": 1}), ("PUT", "/tier-policy", {"basis": "points"}),
        ("GET", "/tier-policy", None), ("PATCH", f"/earning-rules/{NONE}", {}),
        ("DELETE", f"/earning-rules/{NONE}", None),
    ):  # fmt: skip
        problem(await shop.client.request(method, nowhere + path, json=body), 404, "program_not_found")
    for method, path, code in (
        ("GET", f"/earning-rules/{NONE}", "earning_rule_not_found"),
        ("PATCH", f"/earning-rules/{NONE}", "earning_rule_not_found"),
        ("DELETE", f"/earning-rules/{NONE}", "earning_rule_not_found"),
        ("GET", f"/tiers/{NONE}", "tier_not_found"),
    ):
        body = {} if method == "PATCH" else None
        problem(await shop.client.request(method, here + path, json=body), 404, code)


@pytest.mark.parametrize("path", ["/earning-rules", "/tiers"])
async def test_a_list_of_an_unknown_program_is_not_found(shop, path):
    problem(await shop.client.get(f"/v1/programs/{NONE}{path}"), 404, "program_not_found")


@pytest.mark.parametrize("path", ["", "/earning-rules", "/tiers"])
async def test_making_one_twice_under_one_key_makes_one(shop, session, path):
    body = {"": PROGRAM, "/earning-rules": RULE, "/tiers": {"name": "Gold", "threshold": 7}}[path]
    url = f"/v1/programs/{shop.program_id}{path}" if path else "/v1/programs"
    first = await shop.client.post(url, json=body, headers={"Idempotency-Key": "K-1"})
    before = await checksum(session)
    again = await shop.client.post(url, json=body, headers={"Idempotency-Key": "K-1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    other = await shop.client.post(url, json={**body, "name": "Other"}, headers={"Idempotency-Key": "K-1"})
    problem(other, 422, "idempotency_key_reused")
    assert await checksum(session) == before


# ---------------------------------------------------------------- rules


async def test_a_rule_needs_a_name_and_a_kind_and_shows_its_defaults(shop):
    answer = await shop.client.post(rules_of(shop), json={"name": "visit", "kind": "per_visit"})
    assert answer.status_code == 201
    rule = answer.json()
    assert rule.keys() == RULE_VIEW | {"event", "limits"}
    expected = {
        "program_id": shop.program_id, "version": 1, "name": "visit", "kind": "per_visit", "status": "active",
        "points": 1, "per": "1", "factor": "1", "filter": None, "condition": None, "window": None, "min_spend": None,
        "code": None, "max_points_per_purchase": None, "over_max": "trim", "stackable": True, "priority": 0,
        "applies_to": "amount",
    }  # fmt: skip
    expected |= {"event": None, "limits": []}
    assert rule | expected == rule
    assert (await shop.client.get(f"{rules_of(shop)}/{rule['id']}")).json() == rule


async def test_a_rule_says_what_it_was_told(shop):
    told = {
        "name": "Drinks", "kind": "per_unit", "points": 3, "per": "10000", "factor": "2.5",
        "filter": {"skus": ["A"], "exclude_labels": ["sale"]},
        "condition": {"any": [{"field": "tags", "op": "contains", "value": "vip"}, {"did": "visit"}]},
        "window": {"from": "2026-01-01", "to": "2026-12-31", "weekdays": ["tue"], "hours": ["16:00", "24:00"]},
        "min_spend": "50000.00", "code": "KOPI", "max_points_per_purchase": 100, "over_max": "reject",
        "stackable": False, "priority": 5, "applies_to": "all", "status": "draft",
    }  # fmt: skip
    assert await add_rule(shop, **told) | told == (await shop.client.get(rules_of(shop))).json()["items"][1]


async def test_a_rule_for_an_event_names_it_and_may_have_limits(shop):
    limits = [{"times": 1, "per": "day"}, {"points": 500, "per": "lifetime"}]
    told = {"name": "Review", "kind": "per_event", "event": "review", "points": 20, "limits": limits}
    rule = (await shop.client.post(rules_of(shop), json=told)).json()
    kept = [{"points": None, "times": None} | limit for limit in limits]
    assert [{"points": None, "times": None} | limit for limit in rule["limits"]] == kept
    assert rule | told | {"limits": rule["limits"]} == rule
    url = f"{rules_of(shop)}/{rule['id']}"
    changed = (await shop.client.patch(url, json={"limits": [{"times": 3, "per": "week"}]})).json()
    assert changed["limits"] == [{"times": 3, "per": "week"}]
    assert (await shop.client.patch(url, json={"limits": None})).json()["limits"] == []


async def test_a_limit_holds_over_the_purchases_of_its_period(shop, sari):
    (rule,) = (await shop.client.get(rules_of(shop))).json()["items"]
    await shop.client.patch(f"{rules_of(shop)}/{rule['id']}", json={"limits": [{"points": 60, "per": "day"}]})
    first, second, third = [(await shop.buy(sari, order_ref=ref)).json() for ref in "ABC"]
    assert [one["points"] for one in (first, second, third)] == [EARNED, 60 - EARNED, 0]
    assert [one["rules"][0]["reason"] for one in (first, second, third)] == ["applied", "trimmed", "limit_reached"]
    next_day = await shop.buy(sari, order_ref="D", occurred_at="2026-11-01T17:00:00Z")
    assert next_day.json()["points"] == EARNED


async def test_rules_are_listed_in_rule_order_and_pages_add_up(shop):
    for number in range(4):
        await add_rule(shop, name=f"Rule {number}")
    pages, cursor = [], ""
    while cursor is not None:
        page = (await shop.client.get(f"{rules_of(shop)}?limit=2{cursor and f'&cursor={cursor}'}")).json()
        pages += [one["name"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert pages == ["base", "Rule 0", "Rule 1", "Rule 2", "Rule 3"]


async def test_a_changed_rule_is_its_next_version_and_what_it_earned_stays(shop, sari):
    (rule,) = (await shop.client.get(rules_of(shop))).json()["items"]
    before = (await shop.buy(sari, order_ref="A")).json()
    answer = await shop.client.patch(f"{rules_of(shop)}/{rule['id']}", json={"points": 2, "filter": {"skus": ["X"]}})
    assert answer.status_code == 200
    changed = answer.json()
    assert (changed["version"], changed["points"], changed["per"]) == (2, 2, rule["per"])
    answer = await shop.client.patch(f"{rules_of(shop)}/{rule['id']}", json={"filter": None})
    assert (answer.json()["version"], answer.json()["filter"], answer.json()["points"]) == (3, None, 2)
    after = (await shop.buy(sari, order_ref="B")).json()
    assert (before["points"], after["points"]) == (EARNED, 2 * EARNED)
    newest, oldest = await shop.transactions(sari)
    assert [one["rules"][0]["version"] for one in (oldest, newest)] == [1, 3]
    again = (await shop.buy(sari, order_ref="A")).json()
    assert (again["points"], again["rules"]) == (EARNED, before["rules"])


async def test_a_deleted_rule_earns_nothing_more_and_what_it_earned_stays(shop, sari):
    (rule,) = (await shop.client.get(rules_of(shop))).json()["items"]
    before = (await shop.buy(sari, order_ref="A")).json()
    answer = await shop.client.delete(f"{rules_of(shop)}/{rule['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await shop.buy(sari, order_ref="B")).json()["points"] == 0
    assert (await shop.buy(sari, order_ref="A")).json()["rules"] == before["rules"]
    assert (await shop.client.get(rules_of(shop))).json()["items"] == []
    for method in ("GET", "PATCH", "DELETE"):
        answer = await shop.client.request(
            method, f"{rules_of(shop)}/{rule['id']}", json={} if method == "PATCH" else None
        )
        problem(answer, 404, "earning_rule_not_found")


async def test_a_rule_of_another_program_is_not_found(shop):
    other = await Shop.open(shop.client)
    rule = await add_rule(other)
    problem(await shop.client.get(f"{rules_of(shop)}/{rule['id']}"), 404, "earning_rule_not_found")
    problem(await shop.client.patch(f"{rules_of(shop)}/{rule['id']}", json={}), 404, "earning_rule_not_found")
    problem(await shop.client.delete(f"{rules_of(shop)}/{rule['id']}"), 404, "earning_rule_not_found")


# ---------------------------------------------------------------- tiers


async def test_a_tier_has_the_fields_of_the_contract(shop):
    url = f"/v1/programs/{shop.program_id}/tiers"
    answer = await shop.client.post(url, json={"name": "Gold", "threshold": 1000, "benefits": {"earn_factor": "1.5"}})
    assert answer.status_code == 201
    tier = answer.json()
    assert tier == {
        "id": tier["id"], "program_id": shop.program_id, "name": "Gold", "threshold": 1000,
        "benefits": {"earn_factor": "1.5", "reward_ids": [], "text": None},
    }  # fmt: skip
    assert (await shop.client.get(f"{url}/{tier['id']}")).json() == tier
    await shop.client.post(url, json={"name": "Silver", "threshold": 100})
    assert [one["name"] for one in (await shop.client.get(url)).json()["items"]] == ["Silver", "Gold"]
    problem(await shop.client.post(url, json={"name": "Other", "threshold": 1000}), 409, "threshold_taken")


async def test_a_tier_keeps_its_benefits(shop):
    url = f"/v1/programs/{shop.program_id}/tiers"
    lounge = await shop.client.post(f"/v1/programs/{shop.program_id}/rewards", json={"name": "A night out", "cost": 1})
    told = {"earn_factor": "2", "reward_ids": [lounge.json()["id"]], "text": "The lounge upstairs"}
    tier = (await shop.client.post(url, json={"name": "Gold", "threshold": 1000, "benefits": told})).json()
    assert tier["benefits"] == told
    assert (await shop.client.get(url)).json()["items"] == [tier]


@pytest.mark.parametrize(
    "policy",
    [
        {"basis": "points"},
        {"basis": "spend", "window": "calendar_year", "downgrade": "one_level", "grace_days": 31},
        {"basis": "visits", "window": "rolling_months", "months": 6, "downgrade": "reassess"},
    ],
    ids=str,
)
async def test_a_tier_policy_says_what_it_was_told_and_is_replaced_whole(shop, policy):
    url = f"/v1/programs/{shop.program_id}/tier-policy"
    defaults = {"window": "lifetime", "months": None, "downgrade": "never", "grace_days": 0}
    before = {"basis": "points", "window": "rolling_months", "months": 3, "downgrade": "reassess", "grace_days": 7}
    assert (await shop.client.put(url, json=before)).json() == before
    answer = await shop.client.put(url, json=policy)
    assert (answer.status_code, answer.json()) == (200, defaults | policy)
    assert (await shop.client.get(url)).json() == answer.json()


async def test_a_tier_of_a_window_says_until_when_and_what_it_takes_to_stay(shop, sari):
    url = f"/v1/programs/{shop.program_id}"
    await shop.client.put(
        f"{url}/tier-policy", json={"basis": "points", "window": "calendar_year", "downgrade": "reassess"}
    )
    await shop.client.post(f"{url}/tiers", json={"name": "Gold", "threshold": 100})
    reached = (await shop.award(sari, 100, occurred_at="2026-01-01T00:00:00+07:00")).json()["tier"]
    assert reached["current"]["name"] == "Gold"
    assert (reached["since"], reached["until"]) == ("2025-12-31T17:00:00Z", "2027-12-31T17:00:00Z")
    assert reached["to_stay"] == {"missing": 100, "by": "2027-12-31T17:00:00Z"}
    later = await shop.get(sari, "loyalty?as_of=2027-12-31T16:59:59Z")
    assert later["tier"] == reached
    ended = (await shop.get(sari, "loyalty?as_of=2027-12-31T17:00:00Z"))["tier"]
    assert ended == {
        "current": None, "since": None, "until": None, "to_stay": None,
        "next": {"name": "Gold", "missing": 100, "unit": "points"},
    }  # fmt: skip


async def test_exactly_at_the_threshold_is_in_and_the_next_tier_says_what_is_missing(shop, sari):
    for name, threshold in (("Silver", 10), ("Gold", 20)):
        await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": name, "threshold": threshold})
    below = (await shop.award(sari, 9)).json()["tier"]
    assert (below["current"], below["since"], below["next"]["missing"]) == (None, None, 1)
    silver = (await shop.award(sari, 1)).json()["tier"]
    assert (silver["current"]["name"], silver["next"]) == ("Silver", {"name": "Gold", "missing": 10, "unit": "points"})
    assert silver["since"] is not None
    gold = (await shop.award(sari, 10)).json()["tier"]
    assert (gold["current"]["name"], gold["next"]) == ("Gold", None)
    assert gold["since"] > silver["since"]


@pytest.mark.parametrize(("basis", "missing"), [("points", 55), ("spend", 100 - 45), ("visits", 99)])
async def test_tiers_count_what_the_policy_says(shop, sari, basis, missing):
    url = f"/v1/programs/{shop.program_id}"
    answer = await shop.client.put(f"{url}/tier-policy", json={"basis": basis})
    policy = {"basis": basis, "window": "lifetime", "downgrade": "never"}
    assert (answer.status_code, answer.json() | policy) == (200, answer.json())
    assert (await shop.client.get(f"{url}/tier-policy")).json() == answer.json()
    threshold = 45_000 + missing if basis == "spend" else 100
    await shop.client.post(f"{url}/tiers", json={"name": "Gold", "threshold": threshold})
    tier = (await shop.buy(sari)).json()["tier"]
    assert tier["next"] == {"name": "Gold", "missing": missing, "unit": basis}


async def test_what_is_missing_in_money_is_rounded_up_to_a_whole_unit(shop, sari):
    url = f"/v1/programs/{shop.program_id}"
    await shop.client.put(f"{url}/tier-policy", json={"basis": "spend"})
    await shop.client.post(f"{url}/tiers", json={"name": "Gold", "threshold": 100})
    assert (await shop.buy(sari, order_ref="A", total="99.99")).json()["tier"]["next"]["missing"] == 1
    assert (await shop.buy(sari, order_ref="B", total="0.01")).json()["tier"]["current"]["name"] == "Gold"


async def test_a_tier_multiplies_what_purchases_earn_from_the_next_one_on(shop, sari):
    tier = {"name": "Gold", "threshold": EARNED, "benefits": {"earn_factor": "1.5"}}
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json=tier)
    assert (await shop.buy(sari, order_ref="A")).json()["points"] == EARNED
    second = (await shop.buy(sari, order_ref="B")).json()
    assert second["points"] == int(EARNED * 1.5)
    assert [(row["rule_id"], row["name"], row["points"]) for row in second["rules"]][1] == (None, "Gold", EARNED // 2)


# ---------------------------------------------------------------- bad input

TIER = {"name": "Gold", "threshold": 100}
BAD_NAMES = ["", "  ", "x" * 201, "a\x00", 5, None, True]


def _window(window: dict[str, Any], place: str) -> list[Any]:
    return [pytest.param("/earning-rules", {**RULE, "window": window}, f"/window{place}", id=f"window {window}")]


def _within(name: str, *values: dict[str, Any], place: str = "", given: dict[str, Any] | None = None) -> list[Any]:
    """A program with a setting that has one wrong field; `place` is that of the field unless it is the field itself."""
    return [
        pytest.param("", {**PROGRAM, name: {**(given or {}), **value}}, f"/{name}{place or f'/{next(iter(value))}'}",
                     id=f"{name} {value}")
        for value in values
    ]  # fmt: skip


def _bad(path: str, body: dict[str, Any], name: str, values: list[Any]) -> list[Any]:
    return [
        pytest.param(path, {**body, name: value}, f"/{name}", id=f"{path} {name}={str(value)[:40]!r}")
        for value in values
    ]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        *_bad("", PROGRAM, "name", BAD_NAMES),
        *_bad("", PROGRAM, "currency", ["idr", "ID", "IDRX", "", "ÄÄÄ", 360, None]),
        *_bad("", PROGRAM, "time_zone", ["Mars/Base", "", "+07:00", "asia/jakarta", "../etc/passwd", 7, None]),
        *_bad("", PROGRAM, "rounding", ["up", 1, None]),
        *_bad("", PROGRAM, "default", ["yes", 1]),
        *_bad("", PROGRAM, "earn_on", [True, []]),
        *_bad("", PROGRAM, "id", [str(NONE)]),
        *_bad("", PROGRAM, "activation", [14, None, {"event": "delivered", "days": 1}, {"cancel_after_days": 3}]),
        *_bad("", PROGRAM, "expiry", [
            12, None, {"kind": "never", "months": 1}, {"kind": "never", "activities": []}, {"kind": "after"},
            {"kind": "after", "months": 1, "days": 1}, {"kind": "after", "months": 1, "activities": ["purchase"]},
            {"kind": "after", "round_up_to": "month"}, {"kind": "sliding", "months": 12},
            {"kind": "sliding", "activities": ["purchase"]}, {"kind": "sliding", "months": 12, "activities": []},
            {"kind": "sliding", "days": 12, "activities": ["purchase"]},
            {"kind": "sliding", "months": 12, "activities": ["purchase"], "round_up_to": "month"},
        ]),
        *_bad("", PROGRAM, "return_policy", ["all", None]),
        *_bad("", PROGRAM, "spent_return_policy", ["some", None]),
        *_bad("", PROGRAM, "return_grace_days", [-1, 3651, "3", None]),
        *_bad("", PROGRAM, "milestones", [50, None, [5] * 51]),
        *_bad("", PROGRAM, "enrolment", ["open", None]),
        *_bad("", PROGRAM, "expiry_applies_to", ["all"]),
        *_within("activation", {"days": -1}, {"days": 3651}, {"days": "1"}, {"hours": 1}, {"event": ""}),
        *_within("activation", {"event": "A b"}),
        pytest.param("", {**PROGRAM, "activation": {"event": "x", "cancel_after_days": -1}},
                     "/activation/cancel_after_days", id="deadline"),
        *_within("expiry", {"kind": "sometimes"}, {"months": 12}, place="/kind"),
        *_within("expiry", {"months": 0}, {"months": 1201}, {"months": 1.5}, {"days": -1}, {"days": 36501},
                 {"round_up_to": "week"}, {"weeks": 1}, given={"kind": "after"}),
        *[pytest.param("", {**PROGRAM, "milestones": [number]}, "/milestones/0", id=f"milestone {number}")
          for number in (0, -1, 2**53, "5", 1.5)],
        pytest.param("", {**PROGRAM, "earn_on": {"tax": "yes"}}, "/earn_on/tax", id="tax"),
        pytest.param("", {**PROGRAM, "earn_on": {"tips": True}}, "/earn_on/tips", id="tips"),
        *_bad("/earning-rules", RULE, "name", BAD_NAMES),
        *_bad("/earning-rules", RULE, "kind", ["per_day", "", None, 1]),
        *_bad("/earning-rules", RULE, "points", [-1, 1.0, "1", True, None, 10**9 + 1, 10**30]),
        *_bad("/earning-rules", RULE, "per", ["-1", "1e3", "9" * 30, 1, 1.0, "NaN", "", None]),
        *_bad("/earning-rules", RULE, "factor", ["-1", "1001", 1.5, "NaN", "Infinity", "two", "1" * 30, None]),
        *_bad("/earning-rules", RULE, "min_spend", ["0", "-1", 1, "x"]),
        *_bad("/earning-rules", RULE, "max_points_per_purchase", [0, -1, 2**53, "1"]),
        *_bad("/earning-rules", RULE, "over_max", ["cut", None]),
        *_bad("/earning-rules", RULE, "priority", [1001, -1001, 1.0]),
        *_bad("/earning-rules", RULE, "status", ["on", None]),
        *_bad("/earning-rules", RULE, "stackable", ["no", 0]),
        *_bad("/earning-rules", RULE, "version", [7]),
        *_bad("/earning-rules", RULE, "limits", [5, None, [{"times": 1, "per": "day"}] * 11]),
        *[pytest.param("/earning-rules", {**RULE, "limits": [limit]}, place, id=f"limit {limit}") for limit, place in (
            ({"per": "day"}, "/limits/0"), ({"per": "day", "times": 1, "points": 1}, "/limits/0"),
            ({"per": "hour", "times": 1}, "/limits/0/per"), ({"times": 1}, "/limits/0/per"),
            ({"per": "day", "times": 0}, "/limits/0/times"), ({"per": "day", "points": 0}, "/limits/0/points"),
            ({"per": "day", "visits": 1, "times": 1}, "/limits/0/visits"),
        )],
        pytest.param("/earning-rules", {**RULE, "event": "review"}, "", id="an event for no event"),
        pytest.param("/earning-rules", {**RULE, "kind": "per_event"}, "", id="no event for an event"),
        pytest.param("/earning-rules", {**RULE, "kind": "per_event", "event": "A b"}, "/event", id="event name"),
        pytest.param("/earning-rules", {**RULE, "filter": {"sku": ["A"]}}, "/filter/sku", id="filter typo"),
        pytest.param("/earning-rules", {**RULE, "filter": {"skus": "A"}}, "/filter/skus", id="filter text"),
        *_window({"from": "2026-13-01"}, "/from"),
        *_window({"from": "2026-02-01", "to": "2026-01-31"}, ""),
        *_window({"weekdays": ["Tue"]}, "/weekdays/0"),
        *_window({"hours": ["16:00"]}, "/hours"),
        *_window({"hours": ["16:00", "25:00"]}, "/hours/1"),
        *_window({"hours": ["16:00", "24:01"]}, "/hours/1"),
        *_window({"days": ["tue"]}, "/days"),
        *_bad("/tiers", TIER, "name", BAD_NAMES),
        *_bad("/tiers", TIER, "threshold", [-1, 2**53, 1.0, "1", True, None]),
        pytest.param("/tiers", {**TIER, "benefits": {"earn_factor": 1.5}}, "/benefits/earn_factor", id="float factor"),
        pytest.param("/tiers", {**TIER, "benefits": {"lounge": True}}, "/benefits/lounge", id="lounge"),
        pytest.param("/tiers", {**TIER, "benefits": {"reward_ids": ["x"]}}, "/benefits/reward_ids/0", id="reward id"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_its_place_and_changes_nothing(shop, session, path, body, pointer):
    before = await checksum(session)
    answer = await shop.client.post(f"/v1/programs/{shop.program_id}{path}" if path else "/v1/programs", json=body)
    assert answer.status_code == 422, answer.text
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "body",
    [
        {"name": None}, {"currency": "USD"}, {"default": False}, {"rounding": None}, {"nmae": "x"}, {"version": 9},
        {"expiry": None}, {"expiry": {"kind": "after"}}, {"expiry": {"months": 3}}, {"expiry_applies_to": "some"},
        {"expiry_applies_to": None}, {"activation": None}, {"activation": {"cancel_after_days": 1}},
        {"return_policy": None}, {"spent_return_policy": None}, {"return_grace_days": None}, {"milestones": None},
        {"enrolment": None}, {"enrolment": "closed"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_change_that_cannot_be_made_is_refused(shop, session, body):
    before = await checksum(session)
    answer = await shop.client.patch(f"/v1/programs/{shop.program_id}", json=body)
    assert answer.status_code == 422
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "body",
    [
        {"name": None}, {"kind": None}, {"points": -1}, {"factor": 2}, {"window": {"hours": []}}, {"id": str(NONE)},
        {"event": "review"}, {"kind": "per_event"}, {"limits": [{"per": "day"}]},
    ],
)  # fmt: skip
async def test_a_rule_cannot_be_changed_into_one_that_could_not_be_made(shop, session, body):
    (rule,) = (await shop.client.get(rules_of(shop))).json()["items"]
    before = await checksum(session)
    answer = await shop.client.patch(f"{rules_of(shop)}/{rule['id']}", json=body)
    assert answer.status_code == 422, answer.text
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "body",
    [
        {}, {"basis": "luck"}, {"basis": "points", "window": "week"}, {"basis": None},
        {"basis": "points", "window": "rolling_months"}, {"basis": "points", "months": 12},
        {"basis": "points", "window": "calendar_year", "months": 12},
        {"basis": "points", "window": "rolling_months", "months": 0},
        {"basis": "points", "window": "rolling_months", "months": 121}, {"basis": "points", "downgrade": "two_levels"},
        {"basis": "points", "grace_days": -1}, {"basis": "points", "grace_days": 366}, {"basis": "points", "year": 1},
    ],
    ids=str,
)  # fmt: skip
async def test_a_tier_policy_that_is_none_is_refused(shop, session, body):
    before = await checksum(session)
    answer = await shop.client.put(f"/v1/programs/{shop.program_id}/tier-policy", json=body)
    assert answer.status_code == 422
    assert await checksum(session) == before


# ---------------------------------------------------------------- who may


async def test_programs_are_read_and_written_under_scopes_of_their_own(shop):
    reader = await shop.client.limited_to("programs:read", "loyalty:read")
    writer = await shop.client.limited_to("programs:write")
    url = f"/v1/programs/{shop.program_id}"
    for path in ("/v1/programs", url, f"{url}/earning-rules", f"{url}/tiers", f"{url}/tier-policy"):
        assert (await reader.get(path)).status_code == 200
        problem(await writer.get(path), 403, "scope_missing")
    for method, path in (
        ("POST", "/v1/programs"), ("PATCH", url), ("POST", f"{url}/earning-rules"), ("POST", f"{url}/tiers"),
        ("PATCH", f"{url}/earning-rules/{NONE}"), ("DELETE", f"{url}/earning-rules/{NONE}"),
        ("PUT", f"{url}/tier-policy"),
    ):  # fmt: skip
        problem(await reader.request(method, path, json={}), 403, "scope_missing")
        assert (await writer.request(method, path, json={})).status_code in {200, 404, 422}
