"""Customers' journeys over the API: the rules, one person's, and all of them together, counted by hand beside."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from crm.insights import journey_rules, journeys, stages
from crm.insights.journeys import JourneyReport
from crm.insights.periods import Span
from crm.insights.stages import STEPS, Facts, Rules
from tests.api.test_loyalty import pointers, problem
from tests.insights.test_stages import step_of
from tests.interactions.test_merges import DEWI, SARI, made, merge
from tests.loyalty.shop import Shop

JAKARTA = ZoneInfo("Asia/Jakarta")
TODAY = date(2026, 10, 31)
NOW = datetime(2026, 10, 31, 5, tzinfo=UTC)
RULES = Rules(
    repeat_purchases=2, loyal_purchases=4, loyal_within_days=60, loyal_tiers=["Gold"], at_risk_after_days=30,
    lost_after_days=60, prospect_lost_after_days=90,
)  # fmt: skip
PURCHASE = """
    INSERT INTO purchases (contact_id, program_id, order_ref, occurred_at, recorded_at, currency, total, basis, points,
        request_hash, content, rules, exact_points)
    SELECT b.contact_id, $1, b.order_ref, b.at, b.at, 'IDR', 5, 5, 5, '', '{}', '[]', '[]'
    FROM unnest($2::uuid[], $3::text[], $4::timestamptz[]) AS b (contact_id, order_ref, at)
"""
ENTERED = """
    INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, data, by)
    VALUES ($1, $2, $3, $3, 'loyalty', $4, $5, 'system')
"""


async def bought(session: Any, program_id: Any, orders: list[tuple[UUID, str, datetime]]) -> None:
    await session.execute(PURCHASE, program_id, *map(list, zip(*orders, strict=True)))


async def crowd(session: Any, program_id: Any, seed: int, count: int = 120) -> dict[UUID, Facts]:
    """People who bought at random over 200 days, some under two ids, some in tiers; and what is true of each."""
    rolled = random.Random(seed)
    people: dict[UUID, Facts] = {}
    orders: list[tuple[UUID, str, datetime]] = []
    for _ in range(count):
        person, alias = uuid7(), uuid7()
        known = NOW - timedelta(minutes=rolled.randrange(-2_000, 290_000))
        await session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', $2, $2)", person, known
        )
        await session.execute("INSERT INTO contact_aliases VALUES ($1, $2, $3)", person, alias, NOW)
        await session.execute("INSERT INTO contact_alias_directory VALUES ($1, $2)", alias, person)
        until = rolled.randrange(290_000)
        times = sorted(
            NOW - timedelta(minutes=until + rolled.randrange(90_000)) for _ in range(rolled.choice([0, 0, 1, 2, 3, 5]))
        )
        orders += [(rolled.choice([person, alias]), str(uuid7()), at) for at in times]
        tier_at = None
        if rolled.random() < 0.2:
            tier_at = NOW - timedelta(minutes=rolled.randrange(200_000))
            kind, named = rolled.choice([("tier.changed", "to"), ("tier.pinned", "tier")])
            told = {"program_id": str(program_id), named: "Gold"}
            await session.execute(ENTERED, rolled.choice([person, alias]), uuid7(), tier_at, kind, told)
            await session.execute(ENTERED, person, uuid7(), NOW, "tier.changed", told | {named: "Silver"})
        people[person] = Facts(min([known, *times[:1]]), times, tier_at)
    await bought(session, program_id, orders)
    return people


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


async def report(session: Any, shop: Shop, day: date, zone: ZoneInfo = JAKARTA) -> JourneyReport:
    return await journeys.report(session, program_id=None, as_of=day, zone=zone, version=None, now=NOW)


@pytest.mark.parametrize(
    ("day", "zone"),
    [
        (TODAY, "Asia/Jakarta"), (TODAY, "Europe/Berlin"), (date(2026, 10, 25), "Europe/Berlin"),
        (date(2026, 8, 1), "America/New_York"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rules", [RULES, Rules(loyal_purchases=None, loyal_tiers=["Gold"]), Rules(3, 4, None)])
async def test_the_report_says_what_a_count_of_everybodys_journey_says(session, shop, day, zone, rules):
    people = await crowd(session, shop.program_id, 5)
    await journey_rules.create(session, rules=rules, by="key:t", once=None, now=NOW)
    local = ZoneInfo(zone)
    found = await report(session, shop, day, local)
    until = Span(day, day, local).ends_at
    walks = {
        person: stays
        for person, facts in people.items()
        if (stays := stages.walk(rules, without_other_tiers(rules, facts), until=until, zone=local))
    }
    assert (found.contacts, found.rules_version) == (len(walks), 1)
    expected = Counter(stays[-1].stage for stays in walks.values())
    assert {each.stage: each.contacts for each in found.stages if each.contacts} == expected
    steps = {person: furthest(rules, people[person], until) for person in walks}
    for number, step in enumerate(found.steps):
        stopped = Counter(walks[person][-1].stage for person in walks if steps[person] == number)
        assert (step.stage, step.reached) == (STEPS[number], sum(each >= number for each in steps.values()))
        assert (step.at_risk, step.lost, step.here) == (stopped["at_risk"], stopped["lost"], stopped[step.stage])
        assert step.reached == step.went_on + step.here + step.at_risk + step.lost


def without_other_tiers(rules: Rules, facts: Facts) -> Facts:
    return facts if rules.loyal_tiers else Facts(facts.known_at, facts.purchases)


def furthest(rules: Rules, facts: Facts, until: datetime) -> int:
    in_tier = facts.tier_at is not None and facts.tier_at < until and bool(rules.loyal_tiers)
    return step_of(rules, [at for at in facts.purchases if at < until], in_tier=in_tier)


async def test_conversion_and_the_time_between(session, shop):
    orders: list[tuple[UUID, str, datetime]] = []
    took = {1: [2, 6, 10, 40], 2: [3, 5], 3: [10]}
    for number in range(8):
        person = await shop.member()
        await session.execute("UPDATE contacts SET created_at = $2 WHERE id = $1", person, NOW - timedelta(days=50))
        instant = NOW - timedelta(days=50)
        for step, days in took.items():
            if number < len(days):
                instant += timedelta(days=days[number])
                orders.append((person, f"{number}-{step}", instant))
    await bought(session, shop.program_id, orders)
    found = await journeys.report(session, program_id=None, as_of=TODAY, zone=None, version=None, now=NOW)
    shown = [
        (step.stage, step.reached, step.went_on, step.here, step.conversion, step.seconds_to_next_median)
        for step in found.steps
    ]
    assert shown == [
        ("prospect", 8, 4, 4, "0.5000", median([2, 6, 10, 40]) * 86_400),
        ("first_purchase", 4, 2, 2, "0.5000", 4 * 86_400),
        ("repeat", 2, 0, 2, "0.0000", None),
        ("loyal", 0, 0, 0, None, None),
    ]


async def test_the_journey_of_one_person(session, client, shop):
    sari = await shop.member()
    await session.execute("UPDATE contacts SET created_at = '2026-01-01T00:00:00Z' WHERE id = $1", sari)
    asked = {"channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": "2026-01-01T00:30:00Z"}
    assert (await client.post(f"/v1/contacts/{sari}/interactions", json=asked)).status_code == 201
    for number, at_ in enumerate(("2026-01-02T00:30:00Z", "2026-06-01T02:00:00Z"), 1):
        assert (await shop.buy(sari, order_ref=f"A-{number}", occurred_at=at_)).status_code == 201
    found = (await client.get(f"/v1/contacts/{sari}/journey", params={"as_of": "2026-06-02"})).json()
    assert (found["stage"], found["since"], found["rules_version"]) == ("repeat", "2026-06-01T02:00:00Z", 0)
    assert [(one["stage"], one["entered_at"], one["rule"], one["reason"]) for one in found["stages"]] == [
        ("prospect", "2026-01-01T00:00:00Z", "known", "known, and nothing bought yet"),
        ("first_purchase", "2026-01-02T00:30:00Z", "first_purchase", "the first purchase"),
        ("at_risk", "2026-04-01T17:00:00Z", "at_risk_after_days", "no purchase for 90 days"),
        ("repeat", "2026-06-01T02:00:00Z", "repeat_purchases", "2 purchases"),
    ]
    assert [one["seconds"] for one in found["stages"][:1]] == [88_200]
    assert [(one["kind"], one["stage"], one["seconds_since_previous"]) for one in found["touchpoints"]] == [
        ("message", "prospect", None), ("purchase", "first_purchase", 86_400),
        ("purchase", "repeat", 150 * 86_400 + 5_400),
    ]  # fmt: skip
    paged, cursor = [], None
    while True:
        params = {"as_of": "2026-06-02", "limit": 1} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/contacts/{sari}/journey", params=params)).json()
        paged += page["touchpoints"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == found["touchpoints"]
    before = (await client.get(f"/v1/contacts/{sari}/journey", params={"as_of": "2025-12-31"})).json()
    assert (before["stage"], before["since"], before["stages"], before["touchpoints"]) == (None, None, [], [])


async def test_an_order_that_was_given_back_is_no_purchase(session, client, shop):
    sari = await shop.member()
    for number in (1, 2):
        await shop.buy(sari, order_ref=f"B-{number}", occurred_at=f"2026-10-0{number}T03:00:00Z")

    async def stage_on(day: str) -> tuple[Any, int]:
        one = (await client.get(f"/v1/contacts/{sari}/journey", params={"as_of": day})).json()
        all_ = (await client.get("/v1/insights/journey", params={"as_of": day})).json()
        return one["stage"], next(each["contacts"] for each in all_["stages"] if each["stage"] == one["stage"])

    assert await stage_on("2026-10-20") == ("repeat", 1)
    refund = {"refund_ref": "R-1", "amount": "20000.00", "occurred_at": "2026-10-10T03:00:00Z"}
    assert (await shop.post(sari, "purchases/B-2/refunds", refund)).status_code == 201
    assert await stage_on("2026-10-20") == ("repeat", 1)
    rest = {"refund_ref": "R-2", "amount": "25000.00", "occurred_at": "2026-10-12T03:00:00Z"}
    assert (await shop.post(sari, "purchases/B-2/refunds", rest)).status_code == 201
    assert await stage_on("2026-10-20") == ("first_purchase", 1)
    assert await stage_on("2026-10-11") == ("repeat", 1)


async def test_whoever_was_merged_is_one_with_all_their_purchases(client, shop):
    sari, dewi = await made(client, SARI), await made(client, DEWI)
    await shop.buy(sari, order_ref="C-1", occurred_at="2026-10-01T03:00:00Z")
    await shop.buy(dewi, order_ref="C-2", occurred_at="2026-10-02T03:00:00Z")

    async def counts() -> dict[str, int]:
        found = (await client.get("/v1/insights/journey?as_of=2026-10-20")).json()
        return {each["stage"]: each["contacts"] for each in found["stages"] if each["contacts"]}

    assert await counts() == {"first_purchase": 2}
    await merge(client, sari, dewi)
    assert await counts() == {"repeat": 1}
    for one in (sari, dewi):
        journey = (await client.get(f"/v1/contacts/{one}/journey?as_of=2026-10-20")).json()
        assert (journey["contact_id"], journey["stage"]) == (str(sari), "repeat")


async def test_rules_are_versions(client, shop):
    usual = (await client.get("/v1/journey-rules")).json()["items"]
    assert [(one["version"], one["by"]) for one in usual] == [(0, None)]
    assert usual[0]["rules"]["repeat_purchases"] == 2
    for number, purchases in ((1, 3), (2, 4)):
        body = {"repeat_purchases": purchases, "loyal_tiers": ["Gold"]}
        answer = await client.post("/v1/journey-rules", json=body)
        assert (answer.status_code, answer.json()["version"]) == (201, number)
        assert (await client.get(answer.headers["Location"])).json() == answer.json()
    first = (await client.get("/v1/journey-rules?limit=2")).json()
    last = (await client.get("/v1/journey-rules", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["version"] for one in first["items"] + last["items"]] == [2, 1, 0]
    assert last["next_cursor"] is None
    for asked, version in (({}, 2), ({"rules": 1}, 1), ({"rules": 0}, 0)):
        assert (await client.get("/v1/insights/journey", params=asked)).json()["rules_version"] == version
    for path in ("journey-rules/3", "journey-rules/99999999999999999999", "insights/journey?rules=3"):
        problem(await client.get(f"/v1/{path}"), 404, "journey_rules_not_found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"loyal_purchases": 2}, "/loyal_purchases"), ({"loyal_purchases": None}, "/loyal_tiers"),
        ({"at_risk_after_days": 180}, "/lost_after_days"),
    ],
)  # fmt: skip
async def test_rules_that_hide_a_stage_are_refused(client, body, pointer):
    answer = await client.post("/v1/journey-rules", json=body)
    problem(answer, 422, "invalid_journey_rules")
    assert pointers(answer) == {pointer}


async def test_as_a_table_and_without_a_program(client):
    problem(await client.get("/v1/insights/journey"), 422, "program_required")
    problem(await client.get("/v1/insights/journey", params={"program": str(uuid7())}), 404, "program_not_found")
    await Shop.open(client)
    problem(await client.get(f"/v1/contacts/{uuid7()}/journey"), 404, "contact_not_found")
    table = (await client.get("/v1/insights/journey", headers={"Accept": "text/csv"})).text.split("\r\n")
    assert table[0] == "stage,reached,went_on,here,at_risk,lost,conversion,seconds_to_next_median"
    assert table[1:] == [*(f"{step},0,0,0,0,0,," for step in STEPS), ""]
