"""Simulations: what a purchase would earn is what it earns, and asking changes nothing."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.db.ids import uuid7
from crm.db.session import Session, prepare
from crm.loyalty import ledger, programs, purchases, redemptions, rules, simulations
from crm.loyalty.basket import Discount, Line, Payment, Purchase
from crm.loyalty.books import InsufficientPoints
from crm.loyalty.ledger import Award
from crm.loyalty.purchases import Bought, Recorded
from tests.loyalty.shop import EARNED, ORDER, Shop, checksum

EXAMPLES = int(os.environ.get("CRM_TEST_EXAMPLES", "60"))
NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


async def simulate(shop: Shop, **facts: Any) -> Any:
    order = {name: value for name, value in (ORDER | facts).items() if value is not None}
    return await shop.client.post("/v1/purchases/simulations", json=order)


async def add_rule(shop: Shop, **facts: Any) -> str:
    answer = await shop.client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=facts)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def settle_terms(shop: Shop, **terms: Any) -> None:
    answer = await shop.client.patch(f"/v1/programs/{shop.program_id}", json=terms)
    assert answer.status_code == 200, answer.text


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


def ahead(**spell: float) -> str:
    return (datetime.now(UTC) + timedelta(**spell)).isoformat()


def outcomes(answer: Any) -> dict[str, tuple[str, int]]:
    return {row["name"]: (row["reason"], row["points"]) for row in answer.json()["rules"]}


async def test_a_simulation_answers_as_the_purchase_and_writes_nothing(shop, sari, session):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 50})
    await shop.award(sari, 30)
    before = await checksum(session)
    simulated = await simulate(shop, contact_id=str(sari))
    assert simulated.status_code == 200
    assert await checksum(session) == before
    real = (await shop.buy(sari)).json()
    assert real.pop("transaction_id") is not None
    tier = real.pop("tier")
    assert simulated.json()["tier"]["current"] == tier["current"] is not None
    assert {name: each for name, each in simulated.json().items() if name not in ("transaction_id", "tier")} == real
    assert simulated.json()["transaction_id"] is None
    assert simulated.json()["balance"]["available"] == 30 + EARNED


async def test_without_a_contact_it_is_a_purchase_of_somebody_new(shop, sari, session):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 10})
    await add_rule(shop, name="once", kind="per_visit", points=5, limits=[{"times": 1, "per": "lifetime"}])
    await shop.buy(sari)
    before = await checksum(session)
    answer = await simulate(shop, order_ref="INV-2")
    assert answer.status_code == 200
    assert outcomes(answer) == {"base": ("applied", EARNED), "once": ("applied", 5)}
    balance = answer.json()["balance"]
    assert (balance["program_id"], balance["available"], balance["lifetime_earned"]) == (
        shop.program_id, EARNED + 5, EARNED + 5,
    )  # fmt: skip
    assert await checksum(session) == before


async def test_without_a_contact_no_tier_multiplies(shop, sari):
    body = {"name": "Gold", "threshold": 10, "benefits": {"earn_factor": "2"}}
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json=body)
    await shop.award(sari, 10)
    assert (await simulate(shop)).json()["points"] == EARNED
    assert outcomes(await simulate(shop, contact_id=str(sari))) == {
        "base": ("applied", EARNED), "Gold": ("applied", EARNED),
    }  # fmt: skip


POOR = {"field": "points.available", "op": "lt", "value": 1_000}
CONDITIONS = {
    "what is true of anybody new": POOR,
    "what is not true of them": {"field": "points.available", "op": "gte", "value": 1_000},
    "the contrary of that": {"not": {"field": "points.available", "op": "gte", "value": 1_000}},
    "what they never did": {"did": "purchase", "count": {"eq": 0}},
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
async def test_without_a_contact_no_condition_is_true(shop, condition):
    await add_rule(shop, name="more", kind="per_visit", points=10, condition=condition)
    assert outcomes(await simulate(shop)) == {"base": ("applied", EARNED), "more": ("condition_not_met", 0)}


async def test_conditions_are_about_the_contact_and_those_of_drafts_too(shop, sari):
    await add_rule(shop, name="more", kind="per_visit", points=10, condition=POOR)
    await add_rule(shop, name="draft", kind="per_visit", points=3, condition=POOR, status="draft")
    asked = {"contact_id": str(sari), "include_drafts": True}
    assert outcomes(await simulate(shop, **asked)) == {
        "base": ("applied", EARNED), "more": ("applied", 10), "draft": ("applied", 3),
    }  # fmt: skip
    await shop.award(sari, 1_000)
    assert outcomes(await simulate(shop, **asked)) == {
        "base": ("applied", EARNED), "more": ("condition_not_met", 0), "draft": ("condition_not_met", 0),
    }  # fmt: skip


async def test_a_first_purchase_enrols_in_a_simulation_too(shop, sari):
    condition = {"field": "enrolled_at", "op": "gte", "value": ahead(days=-30)}
    await add_rule(shop, name="welcome", kind="per_visit", points=10, condition=condition)
    answer = await simulate(shop, contact_id=str(sari))
    assert outcomes(answer) == {"base": ("applied", EARNED), "welcome": ("applied", 10)}
    assert (await shop.buy(sari)).json()["rules"] == answer.json()["rules"]


async def test_conditions_see_what_time_will_have_done(shop, sari):
    await add_rule(shop, name="more", kind="per_visit", points=10, condition=POOR)
    await shop.award(sari, 1_000, expires_at=ahead(days=10))
    said = [outcomes(await simulate(shop, contact_id=str(sari), at=ahead(days=days)))["more"][0] for days in (9, 11)]
    assert said == ["condition_not_met", "applied"]


async def test_a_contact_without_an_account_gets_none_by_it(shop, sari, session):
    assert (await simulate(shop, contact_id=str(sari))).json()["balance"]["available"] == EARNED
    assert await session.fetchval("SELECT count(*) FROM loyalty_accounts") == 0


# ---------------------------------------------------------------- when


@dataclass(frozen=True, slots=True)
class When:
    """A rule that gives 10 on top within its window, asked about at some time."""

    window: dict[str, Any]
    occurred_at: str
    at: str | None
    points: int


WHENS = {
    "now, in no window": When({"from": "2027-06-01"}, "2026-11-01T09:30:00Z", None, 45),
    "at a time to come": When({"from": "2027-06-01"}, "2026-11-01T09:30:00Z", "2027-06-01T09:00:00Z", 55),
    "the last second before": When({"from": "2027-06-01"}, "2026-11-01T09:30:00Z", "2027-05-31T16:59:59Z", 45),
    "a purchase of the future": When({"from": "2027-06-01"}, "2027-06-01T09:00:00Z", None, 55),
    "at overrides what the purchase says": When(
        {"to": "2026-12-31"}, "2027-06-01T09:00:00Z", "2026-11-01T00:00:00Z", 55
    ),
    "in the past": When({"to": "2026-01-31"}, "2026-11-01T09:30:00Z", "2026-01-31T16:59:59Z", 55),
}


@pytest.mark.parametrize("case", WHENS.values(), ids=WHENS)
async def test_a_simulation_is_about_the_time_that_is_asked_for(shop, sari, case):
    await add_rule(shop, name="more", kind="per_visit", points=10, window=case.window)
    answer = await simulate(shop, contact_id=str(sari), occurred_at=case.occurred_at, at=case.at)
    assert answer.status_code == 200, answer.text
    assert answer.json()["points"] == case.points


async def test_in_the_future_what_time_does_until_then_has_been_done(shop, sari, session):
    await settle_terms(shop, expiry={"kind": "after", "days": 10})
    await shop.award(sari, 30, expires_at=ahead(days=30))
    await shop.award(sari, 50, activates_at=ahead(days=40))
    before = await checksum(session)
    soon, late = [(await simulate(shop, contact_id=str(sari), at=ahead(days=days))).json() for days in (29, 41)]
    assert (soon["balance"]["available"], soon["balance"]["pending"]) == (30 + EARNED, 50)
    assert (late["balance"]["available"], late["balance"]["pending"]) == (50 + EARNED, 0)
    assert [one["points"] for one in late["balance"]["expiring"]] == [50, EARNED]
    assert await checksum(session) == before


async def test_a_simulated_purchase_moves_the_end_of_every_point_as_a_real_one(shop, sari):
    await settle_terms(shop, expiry={"kind": "sliding", "months": 1, "activities": ["purchase"]})
    for days in (20, 10):
        await shop.award(sari, 10, occurred_at=ahead(days=-days))
    simulated = (await simulate(shop, contact_id=str(sari), occurred_at=ahead(hours=-1))).json()
    (expiring,) = simulated["balance"]["expiring"]
    assert expiring["points"] == 20 + EARNED
    assert (await shop.buy(sari, occurred_at=ahead(hours=-1))).json()["balance"] == simulated["balance"]


async def test_limits_are_those_of_the_period_that_is_asked_for(shop, sari):
    await add_rule(shop, name="daily", kind="per_visit", points=10, limits=[{"times": 1, "per": "day"}])
    assert (await shop.buy(sari, occurred_at="2026-11-01T09:30:00Z")).json()["points"] == 10 + EARNED
    asked = {"contact_id": str(sari), "order_ref": "INV-2"}
    answer = await simulate(shop, **asked, occurred_at="2026-11-01T16:59:59Z")
    assert outcomes(answer)["daily"] == ("limit_reached", 0)
    answer = await simulate(shop, **asked, occurred_at="2026-11-01T17:00:00Z")
    assert outcomes(answer)["daily"] == ("applied", 10)
    again = await simulate(shop, **asked, occurred_at="2026-11-01T17:00:00Z")
    assert again.json() == answer.json()


async def test_a_purchase_of_next_week_is_simulated_and_not_recorded(shop, sari):
    problem(await shop.buy(sari, occurred_at=ahead(days=7)), 422, "occurred_in_the_future")
    assert (await simulate(shop, contact_id=str(sari), occurred_at=ahead(days=7))).status_code == 200


# ---------------------------------------------------------------- rules that are not there yet


async def test_drafts_count_where_they_are_asked_for(shop, sari):
    await add_rule(shop, name="draft", kind="multiplier", factor="3", status="draft")
    await add_rule(shop, name="off", kind="per_visit", points=7, status="disabled")
    asked = {"contact_id": str(sari)}
    assert outcomes(await simulate(shop, **asked)) == {
        "base": ("applied", 45), "draft": ("inactive", 0), "off": ("inactive", 0),
    }  # fmt: skip
    assert outcomes(await simulate(shop, **asked, include_drafts=True)) == {
        "base": ("applied", 45), "draft": ("applied", 90), "off": ("inactive", 0),
    }  # fmt: skip
    assert (await shop.buy(sari)).json()["points"] == 45


async def test_an_order_that_is_recorded_is_judged_as_if_it_were_not(shop, sari):
    budi = await shop.member()
    await shop.buy(sari)
    for contact_id, available in ((sari, 2 * EARNED), (budi, EARNED)):
        answer = await simulate(shop, contact_id=str(contact_id))
        assert (answer.status_code, answer.json()["points"]) == (200, EARNED)
        assert answer.json()["balance"]["available"] == available
    assert (await simulate(shop, contact_id=str(sari), total="1000.00")).json()["points"] == 1


# ---------------------------------------------------------------- refusals


async def test_what_the_purchase_would_be_refused_for_its_simulation_is_refused_for(shop, sari, session):
    before = await checksum(session)
    problem(await simulate(shop, contact_id=str(NOBODY)), 404, "contact_not_found")
    problem(await simulate(shop, program_id=str(NOBODY)), 404, "program_not_found")
    problem(await simulate(shop, currency="SGD"), 422, "currency_mismatch")
    assert await checksum(session) == before
    url = f"/v1/contacts/{sari}/memberships/{shop.program_id}"
    await shop.client.put(url, json={"status": "closed"})
    problem(await simulate(shop, contact_id=str(sari)), 409, "membership_suspended")
    await settle_terms(shop, enrolment="explicit")
    problem(await simulate(shop, contact_id=str(await shop.member())), 409, "not_enrolled")
    assert (await simulate(shop)).status_code == 200


async def test_without_a_program_there_is_nothing_to_simulate(client):
    problem(await client.post("/v1/purchases/simulations", json=ORDER), 422, "program_required")


BAD = {
    "no order_ref": ({"order_ref": None}, "/order_ref"),
    "a time without a zone": ({"at": "2026-11-01T09:30:00"}, "/at"),
    "a yes": ({"include_drafts": "yes"}, "/include_drafts"),
    "no contact": ({"contact_id": "sari"}, "/contact_id"),
    "an identity": ({"identity": {"kind": "card", "value": "1"}}, "/identity"),
    "lines and a total": ({"lines": [{"sku": "A", "quantity": "1", "unit_price": "1"}]}, ""),
}


@pytest.mark.parametrize(("facts", "pointer"), BAD.values(), ids=BAD)
async def test_what_is_no_purchase_is_refused_and_named(shop, facts, pointer):
    answer = await simulate(shop, **facts)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_simulating_is_reading(shop):
    assert (await (await shop.client.limited_to("loyalty:read")).post("/v1/purchases/simulations", json=ORDER)).json()
    narrow = await shop.client.limited_to("loyalty:award")
    problem(await narrow.post("/v1/purchases/simulations", json=ORDER), 403, "scope_missing")


# ---------------------------------------------------------------- simulate equals real


NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class World:
    """One transaction that is never committed, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(asyncpg.connect(dsn))
        self.session = Session(self._connection)
        self.run(prepare(self._connection))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def begin(self) -> None:
        self.run(self._connection.execute("ROLLBACK; BEGIN"))

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()


@pytest.fixture(scope="module")
def world(dsn: str) -> Iterator[World]:
    world = World(dsn)
    yield world
    world.close()


money = st.integers(0, 5_000).map(lambda cents: Decimal(cents) / 100)
skus = st.sampled_from(["tea", "cake", "gift"])
lines = st.builds(
    Line, sku=skus, category=skus, quantity=st.integers(1, 3).map(Decimal), unit_price=money,
    tax=st.just(Decimal(0)),
)  # fmt: skip
limits = st.lists(
    st.builds(
        lambda kind, most, per: {kind: most, "per": per},
        st.sampled_from(["points", "times"]), st.integers(1, 40),
        st.sampled_from(["day", "week", "month", "year", "lifetime"]),
    ),
    max_size=2,
)  # fmt: skip
definitions = st.builds(
    lambda kind, points, factor, narrow, limits, stackable, most, applies, spend: {
        "name": kind, "kind": kind, "points": points, "per": "1", "factor": factor, "limits": limits,
        "stackable": stackable, "applies_to": applies, "min_spend": spend,
        "filter": {"skus": ["tea"]} if narrow else None, "max_points_per_purchase": most,
    },
    st.sampled_from(["per_amount", "per_amount", "per_unit", "per_visit", "multiplier"]), st.integers(0, 5),
    st.sampled_from(["0.5", "2", "1.25"]), st.booleans(), limits, st.sampled_from([True, True, True, False]),
    st.sampled_from([None, None, 30]), st.sampled_from(["amount", "all"]), st.sampled_from([None, "10"]),
)  # fmt: skip
terms = st.fixed_dictionaries({
    "rounding": st.sampled_from(["floor", "nearest", "ceil"]),
    "activation": st.sampled_from([
        {"days": 0}, {"days": 2}, {"event": "delivered"}, {"event": "delivered", "cancel_after_days": 1},
    ]),
    "expiry": st.sampled_from([
        {"kind": "never"}, {"kind": "after", "days": 0}, {"kind": "after", "months": 1, "round_up_to": "quarter"},
        {"kind": "sliding", "months": 1, "activities": ["purchase"]},
        {"kind": "sliding", "months": 2, "activities": ["purchase", "award"]},
    ]),
    "milestones": st.just([20]),
})  # fmt: skip
ladders = st.sampled_from([
    None, {"basis": "points"}, {"basis": "visits"},
    {"basis": "points", "window": "calendar_year", "downgrade": "reassess"},
    {"basis": "spend", "window": "rolling_months", "months": 1, "downgrade": "one_level", "grace_days": 1},
])  # fmt: skip
moments = st.integers(-24 * 40, 20).map(lambda hours: NOON + hours * HOUR)
baskets = st.builds(
    lambda lines, discount, points, at: Purchase(
        order_ref="INV-0", occurred_at=at, currency="IDR", lines=lines,
        discounts=[Discount(discount)] if discount else [],
        payments=[Payment("points", points), Payment("cash", Decimal(5))] if points else [],
    ),
    st.lists(lines, min_size=1, max_size=3), st.sampled_from([None, Decimal("1.50")]),
    st.sampled_from([None, Decimal(2)]), moments,
)  # fmt: skip
pasts = st.lists(
    st.tuples(st.sampled_from(["buy", "award", "owe", "redeem"]), st.integers(1, 60), st.integers(-24 * 60, 0)),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    terms=terms, ladder=ladders, definitions=st.lists(definitions, min_size=1, max_size=4), past=pasts,
    bought=st.lists(baskets, min_size=1, max_size=3), waited=st.integers(0, 50),
)  # fmt: skip
def test_what_was_simulated_is_what_is_recorded(world, terms, ladder, definitions, past, bought, waited):
    world.begin()
    program_id, sari = world.run(_shop(world.session, terms, ladder, definitions))
    now = NOON - 60 * DAY
    for what, size, hours in sorted(past, key=lambda fact: fact[2]):
        now = NOON + hours * HOUR
        world.run(_happen(world.session, program_id, sari, what, size, now))
    now = NOON + waited * HOUR
    for number, basket in enumerate(bought):
        purchase = replace(basket, order_ref=f"INV-{number}")
        before = world.run(checksum(world.session))
        simulated: Recorded = world.run(
            simulations.simulate(
                world.session, program_id=program_id, contact_id=sari, purchase=purchase, at=None,
                include_drafts=False, now=now,
            )
        )  # fmt: skip
        assert world.run(checksum(world.session)) == before
        recorded, created = world.run(
            purchases.record(
                world.session, program_id=program_id, bought=Bought(sari, purchase), by="t", once=None, now=now
            )
        )
        assert created
        assert simulated.transaction_id is None
        assert (recorded.transaction_id is None) == (recorded.points == 0)
        assert simulated == replace(recorded, transaction_id=None)


@settings(
    max_examples=EXAMPLES // 2, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    terms=terms, ladder=ladders, definitions=st.lists(definitions, min_size=1, max_size=3), past=pasts, basket=baskets,
    later=st.integers(1, 24 * 90),
)  # fmt: skip
def test_what_was_simulated_for_later_is_what_is_recorded_then(world, terms, ladder, definitions, past, basket, later):
    world.begin()
    program_id, sari = world.run(_shop(world.session, terms, ladder, definitions))
    for what, size, hours in sorted(past, key=lambda fact: fact[2]):
        world.run(_happen(world.session, program_id, sari, what, size, NOON + hours * HOUR))
    at = NOON + later * HOUR
    simulated = world.run(
        simulations.simulate(
            world.session, program_id=program_id, contact_id=sari, purchase=basket, at=at, include_drafts=False,
            now=NOON,
        )
    )  # fmt: skip
    bought = Bought(sari, replace(basket, occurred_at=at))
    recorded, _ = world.run(
        purchases.record(world.session, program_id=program_id, bought=bought, by="t", once=None, now=at)
    )
    assert simulated == replace(recorded, transaction_id=None)


async def _shop(
    session: Session, terms: dict[str, Any], ladder: dict[str, Any] | None, definitions: list[dict[str, Any]]
) -> tuple[UUID, UUID]:
    program = await programs.create(
        session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=None, settings=terms, now=NOON
    )
    for definition in definitions:
        facts = {name: value for name, value in definition.items() if value is not None}
        await rules.create(session, program_id=program.id, definition=facts, now=NOON)
    if ladder is not None:
        await session.execute("UPDATE programs SET tier_policy = $2 WHERE id = $1", program.id, ladder)
        for name, threshold in (("Silver", 20), ("Gold", 60)):
            await programs.add_tier(
                session,
                program_id=program.id,
                name=name,
                threshold=threshold,
                benefits={"earn_factor": "1.5"},
                now=NOON,
            )
    sari = uuid7()
    await session.execute(
        "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'S', now(), now())", sari
    )
    return program.id, sari


async def _happen(session: Session, program_id: UUID, sari: UUID, what: str, size: int, now: datetime) -> None:
    facts: dict[str, Any] = {"program_id": program_id, "by": "t", "once": None, "now": now}
    match what:
        case "buy":
            purchase = Purchase(order_ref=str(uuid7()), occurred_at=now, currency="IDR", total=Decimal(size))
            await purchases.record(session, bought=Bought(sari, purchase), **facts)
        case "award":
            award = Award(sari, size, "goodwill", expires_at=now + size * DAY if size % 2 else None)
            await ledger.award(session, award=award, **facts)
        case "owe":
            await ledger.adjust(
                session, contact_id=sari, points=-size, reason="fix", note=None, allow_negative=True,
                qualifying=False, **facts,
            )  # fmt: skip
        case _:
            try:
                async with session.savepoint():
                    await redemptions.redeem(session, contact_id=sari, points=size, order_ref=None, place={}, **facts)
            except InsufficientPoints:
                return
