"""Events: what they earn and why, once each, and the orders whose points they let begin."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.contacts.contacts import ContactNotFound
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import events, programs, purchases, rules
from crm.loyalty.basket import Purchase
from crm.loyalty.events import EventRefReused, Happened
from crm.loyalty.purchases import Bought, PurchaseNotFound
from tests.loyalty.shop import EARNED, Shop, at_once, checksum, statuses

pytestmark = pytest.mark.usefixtures("audited_session")

RECORDED = {"event", "ref", "points", "transaction_id", "rules", "challenges", "balance", "tier"}
VIEW = {
    "id", "program_id", "event", "ref", "order_ref", "transaction_id", "points", "rules", "challenges", "occurred_at",
    "recorded_at", "by",
}  # fmt: skip
REVIEW = {"name": "review", "kind": "per_event", "event": "review", "points": 20}
SAID = {"event": "review", "ref": "review-17"}
NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
JAKARTA = ZoneInfo("Asia/Jakarta")
DAY = timedelta(days=1)


@pytest.fixture
async def shop(client: Any) -> Shop:
    shop = await Shop.open(client)
    await add_rule(shop, **REVIEW)
    return shop


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


async def add_rule(shop: Shop, **facts: Any) -> str:
    answer = await shop.client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=facts)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def settle_terms(shop: Shop, **terms: Any) -> None:
    answer = await shop.client.patch(f"/v1/programs/{shop.program_id}", json=terms)
    assert answer.status_code == 200, answer.text


async def happen(shop: Shop, contact_id: UUID, event: str, ref: str, *, key: str | None = None, **facts: Any) -> Any:
    return await shop.post(contact_id, "events", {"event": event, "ref": ref, **facts}, key=key)


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


def ago(**spell: float) -> str:
    return (datetime.now(UTC) - timedelta(**spell)).isoformat()


def local_midnight(days_ahead: int, of: datetime | None = None) -> datetime:
    local = (of or datetime.now(UTC)).astimezone(JAKARTA)
    return datetime.combine(local.date() + days_ahead * DAY, datetime.min.time(), JAKARTA)


def outcomes(answer: Any) -> dict[str, tuple[str, int]]:
    return {row["name"]: (row["reason"], row["points"]) for row in answer.json()["rules"]}


# ---------------------------------------------------------------- what it earns


async def test_an_event_earns_by_its_rules_and_the_answer_explains_them(shop, sari):
    await add_rule(shop, name="signing up", kind="per_event", event="sign_up", points=100)
    answer = await happen(shop, sari, "review", "review-17")
    assert answer.status_code == 201
    recorded = answer.json()
    assert recorded.keys() == RECORDED
    assert (recorded["event"], recorded["ref"], recorded["points"]) == ("review", "review-17", 20)
    assert (recorded["balance"]["available"], recorded["balance"]["lifetime_earned"]) == (20, 20)
    assert outcomes(answer) == {"review": ("applied", 20)}
    (transaction,) = await shop.transactions(sari)
    assert (transaction["id"], transaction["kind"], transaction["cause"], transaction["points"]) == (
        recorded["transaction_id"], "earn", "event", 20,
    )  # fmt: skip
    assert (transaction["reason"], transaction["order_ref"], transaction["rules"]) == (
        "review", None, recorded["rules"],
    )  # fmt: skip


async def test_an_event_that_no_rule_knows_is_recorded_and_earns_nothing(shop, sari):
    answer = await happen(shop, sari, "visit", "visit-1")
    assert answer.status_code == 201
    assert (answer.json()["points"], answer.json()["transaction_id"], answer.json()["rules"]) == (0, None, [])
    assert await shop.transactions(sari) == []
    assert [one["event"] for one in (await shop.get(sari, "events"))["items"]] == ["visit"]


RULES = {
    "its own rules add up": ([{"name": "more", "kind": "per_event", "event": "review", "points": 5}], {}, 25),
    "a multiplier of everything": (
        [{"name": "double", "kind": "multiplier", "factor": "2", "applies_to": "all"}],
        {"double": ("applied", 20)},
        40,
    ),
    "a multiplier of amounts is not about it": ([{"name": "double", "kind": "multiplier", "factor": "2"}], {}, 20),
    "a rule that is over": (
        [{"name": "more", "kind": "per_event", "event": "review", "points": 5, "window": {"to": "2026-01-31"}}],
        {"more": ("outside_window", 0)},
        20,
    ),
    "a draft": (
        [{"name": "more", "kind": "per_event", "event": "review", "points": 5, "status": "draft"}],
        {"more": ("inactive", 0)},
        20,
    ),
    "a rule that stands alone": (
        [{"name": "alone", "kind": "per_event", "event": "review", "points": 7, "stackable": False}],
        {"review": ("superseded", 0)},
        7,
    ),
}


@pytest.mark.parametrize(("added", "explained", "points"), RULES.values(), ids=RULES)
async def test_what_an_event_earns_follows_the_rules_as_a_purchase_does(shop, sari, added, explained, points):
    for rule in added:
        await add_rule(shop, **rule)
    answer = await happen(shop, sari, "review", "review-17")
    assert answer.json()["points"] == sum(row["points"] for row in answer.json()["rules"]) == points
    assert outcomes(answer).items() >= explained.items()


CONDITIONS = {
    "a tier": ({"field": "tier", "op": "eq", "value": "Gold"}, [False, True, True]),
    "points": ({"field": "points.available", "op": "gte", "value": 40}, [False, False, True]),
    "what happened before": ({"did": "event", "count": {"gte": 2}}, [False, False, True]),
}


@pytest.mark.parametrize(("condition", "held"), CONDITIONS.values(), ids=CONDITIONS)
async def test_a_rule_for_some_members_looks_at_them_as_they_are_before_the_event(shop, sari, condition, held):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 20})
    await add_rule(shop, name="more", kind="per_event", event="review", points=1, condition=condition)
    reasons = [outcomes(await happen(shop, sari, "review", str(number)))["more"][0] for number in range(3)]
    assert reasons == ["applied" if each else "condition_not_met" for each in held]


async def test_an_event_of_the_past_counts_from_when_it_happened(shop, sari):
    await add_rule(
        shop,
        name="october",
        kind="per_event",
        event="walk",
        points=5,
        window={"from": "2026-10-01", "to": "2026-10-31"},
    )
    await settle_terms(shop, expiry={"kind": "after", "days": 3})
    await happen(shop, sari, "review", "review-17", occurred_at="2026-10-31T10:00:00Z")
    answer = await happen(shop, sari, "walk", "walk-1", occurred_at="2026-10-31T16:59:59Z")
    assert (answer.json()["points"], answer.json()["balance"]["available"]) == (5, 0)
    assert (await happen(shop, sari, "walk", "walk-2", occurred_at="2026-10-31T17:00:00Z")).json()["points"] == 0
    expiries = [one for one in await shop.transactions(sari) if one["kind"] == "expire"]
    assert {one["occurred_at"] for one in expiries} == {"2026-11-03T17:00:00Z"}
    assert sum(one["points"] for one in expiries) == -25


async def test_an_event_counts_towards_the_tiers(shop, sari):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 40})
    assert (await happen(shop, sari, "review", "1")).json()["tier"]["next"]["missing"] == 20
    assert (await happen(shop, sari, "review", "2")).json()["tier"]["current"]["name"] == "Gold"


async def test_points_of_events_wait_as_many_days_as_those_of_purchases(shop, sari):
    await settle_terms(shop, activation={"days": 2})
    balance = (await happen(shop, sari, "review", "1")).json()["balance"]
    assert (balance["available"], balance["pending"]) == (0, 20)
    balance = (await happen(shop, sari, "review", "2", occurred_at=ago(days=2))).json()["balance"]
    assert (balance["available"], balance["pending"]) == (20, 20)


async def test_an_event_stands_on_the_timeline_beside_its_points(shop, sari):
    await shop.buy(sari, occurred_at=ago(hours=1))
    recorded = (await happen(shop, sari, "review", "review-17", order_ref="INV-1")).json()
    await happen(shop, sari, "visit", "visit-1")
    (kept,) = [one for one in (await shop.get(sari, "events"))["items"] if one["event"] == "review"]
    visit, event, points = (await shop.get(sari, "timeline"))["items"][:3]
    assert (event["id"], event["kind"], event["channel"]) == (kept["id"], "event", "loyalty")
    assert event["data"] == {
        "program_id": shop.program_id, "event": "review", "ref": "review-17", "points": 20, "order_ref": "INV-1",
        "transaction_id": recorded["transaction_id"],
    }  # fmt: skip
    assert (points["id"], points["kind"]) == (recorded["transaction_id"], "points.earned")
    assert (visit["data"]["event"], visit["data"]["points"]) == ("visit", 0)


async def test_nobody_can_claim_an_event_without_recording_it(shop, sari):
    said = {"channel": "web", "kind": "event", "occurred_at": ago(hours=1)}
    problem(await shop.post(sari, "interactions", said), 422, "reserved_kind")


# ---------------------------------------------------------------- once


async def test_the_same_event_again_answers_what_was_stored_with_the_balance_of_today(shop, sari):
    first = (await happen(shop, sari, "review", "review-17")).json()
    await shop.award(sari, 5)
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 100})
    again = await happen(shop, sari, "review", "review-17")
    assert again.status_code == 200
    assert again.headers["location"].startswith(f"/v1/contacts/{sari}/events/")
    assert again.json()["balance"]["available"] == 25
    assert again.json()["tier"]["next"]["missing"] == 75
    assert again.json() | {"balance": None, "tier": None} == first | {"balance": None, "tier": None}


@pytest.mark.parametrize(
    "other", [{"occurred_at": "2026-11-02T00:00:00Z"}, {"order_ref": "INV-2"}, {"order_ref": None}], ids=str
)
async def test_the_same_reference_with_other_content_is_refused(shop, sari, session, other):
    facts = {"occurred_at": "2026-11-01T09:30:00Z", "order_ref": "INV-1"}
    assert (await happen(shop, sari, "review", "review-17", **facts)).status_code == 201
    assert (await happen(shop, sari, "review", "review-17", **facts)).status_code == 200
    before = await checksum(session)
    problem(await happen(shop, sari, "review", "review-17", **facts | other), 409, "event_ref_reused")
    assert await checksum(session) == before


async def test_a_reference_is_one_event_of_one_kind_of_one_contact(shop, sari):
    budi = await shop.member()
    await add_rule(shop, name="visit", kind="per_event", event="visit", points=1)
    for contact_id, event in ((sari, "review"), (sari, "visit"), (budi, "review")):
        assert (await happen(shop, contact_id, event, "17")).status_code == 201
    assert [await shop.available(one) for one in (sari, budi)] == [21, 20]


async def test_a_reference_is_one_event_of_one_program(shop, sari):
    other = (await shop.client.post("/v1/programs", json={"name": "2", "currency": "IDR", "time_zone": "UTC"})).json()
    assert (await happen(shop, sari, "review", "17")).json()["points"] == 20
    assert (await happen(shop, sari, "review", "17", program_id=other["id"])).status_code == 201
    assert len((await shop.get(sari, f"events?program={other['id']}"))["items"]) == 1


async def test_a_repeated_key_is_answered_as_the_first_time(shop, sari):
    first = await happen(shop, sari, "review", "review-17", key="K-1")
    again = await happen(shop, sari, "review", "review-17", key="K-1")
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    problem(await happen(shop, sari, "review", "review-18", key="K-1"), 422, "idempotency_key_reused")
    assert (await happen(shop, sari, "review", "review-17", key="K-2")).status_code == 200
    assert await shop.available(sari) == 20


async def test_of_twenty_of_one_event_at_once_one_earns(live_client):
    shop = await Shop.open(live_client)
    await add_rule(shop, **REVIEW)
    sari = await shop.member()
    answers = await at_once(*(happen(shop, sari, "review", "17") for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["transaction_id"] for answer in answers}) == 1
    assert await shop.available(sari) == 20


# ---------------------------------------------------------------- reading


async def test_events_are_listed_last_recorded_first_and_read_by_their_id(shop, sari):
    for number in range(5):
        await happen(shop, sari, "review", str(number), occurred_at=ago(days=number + 1))
    pages, cursor = [], ""
    while cursor is not None:
        page = await shop.get(sari, f"events?limit=2{cursor and f'&cursor={cursor}'}")
        pages += page["items"]
        cursor = page["next_cursor"]
    assert [one["ref"] for one in pages] == ["4", "3", "2", "1", "0"]
    for one in pages:
        assert one.keys() == VIEW
        assert await shop.get(sari, f"events/{one['id']}") == one
    budi = await shop.member()
    for contact_id, event_id in ((budi, pages[0]["id"]), (sari, NOBODY)):
        problem(await shop.client.get(f"/v1/contacts/{contact_id}/events/{event_id}"), 404, "event_not_found")
    assert (await shop.get(budi, "events"))["items"] == []
    problem(await shop.client.get(f"/v1/contacts/{NOBODY}/events"), 404, "contact_not_found")


async def test_the_location_of_an_event_is_where_it_is_read(shop, sari):
    answer = await happen(shop, sari, "review", "review-17")
    found = await shop.client.get(answer.headers["location"])
    assert (found.json()["ref"], found.json()["transaction_id"]) == ("review-17", answer.json()["transaction_id"])


BAD = {
    "no event": ({"ref": "1"}, "/event"),
    "no ref": ({"event": "review"}, "/ref"),
    "a shouted event": (SAID | {"event": "Review"}, "/event"),
    "a blank ref": (SAID | {"ref": " "}, "/ref"),
    "a NUL": (SAID | {"ref": "a\x00"}, "/ref"),
    "a number": (SAID | {"ref": 17}, "/ref"),
    "a blank order": (SAID | {"order_ref": ""}, "/order_ref"),
    "a time without a zone": (SAID | {"occurred_at": "2026-11-01T09:30:00"}, "/occurred_at"),
    "a time that has not come": (SAID | {"occurred_at": "2199-01-01T00:00:00Z"}, "/occurred_at"),
    "more than there is": (SAID | {"points": 5}, "/points"),
}


@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD)
async def test_what_is_no_event_is_refused_and_named(shop, sari, session, body, pointer):
    before = await checksum(session)
    answer = await shop.post(sari, "events", body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await checksum(session) == before


async def test_an_event_of_nobody_or_in_no_program_is_refused(shop, sari):
    problem(await happen(shop, NOBODY, "review", "1"), 404, "contact_not_found")
    problem(await happen(shop, sari, "review", "1", program_id=str(NOBODY)), 404, "program_not_found")


@pytest.mark.parametrize("scopes", [("loyalty:read",), ("loyalty:redeem",)])
async def test_recording_an_event_is_awarding(shop, sari, scopes):
    narrow = await shop.client.limited_to(*scopes)
    problem(await narrow.post(f"/v1/contacts/{sari}/events", json=SAID), 403, "scope_missing")


# ---------------------------------------------------------------- orders whose points wait


@dataclass(frozen=True, slots=True)
class Wait:
    """A purchase of 45 points, `bought` days ago, that waits for its delivery and is given up after 14 days.

    The event is told now, and happened `delivered` days ago.
    """

    bought: int
    delivered: int
    available: int
    pending: int
    activated_on: int | None
    event: str = "delivered"
    cancel_after_days: int | None = 14


WAITS = {
    "delivered in time": Wait(3, 0, 45, 0, 0),
    "delivered in time, told late": Wait(10, 5, 45, 0, 5),
    "on the last day": Wait(14, 0, 45, 0, 0),
    "past the deadline": Wait(15, 0, 0, 0, None),
    "delivered in time, told past the deadline": Wait(20, 10, 0, 0, None),
    "another event": Wait(3, 0, 0, 45, None, event="packed"),
    "delivered before it was bought": Wait(3, 5, 45, 0, 3),
    "it waits for ever": Wait(300, 0, 45, 0, 0, cancel_after_days=None),
}


@pytest.mark.parametrize("case", WAITS.values(), ids=WAITS)
async def test_points_that_wait_begin_with_the_event_of_their_order_unless_they_are_gone(shop, sari, case):
    activation = {"event": "delivered", "cancel_after_days": case.cancel_after_days}
    await settle_terms(shop, activation={name: each for name, each in activation.items() if each is not None})
    noon = local_midnight(0) + timedelta(hours=12)
    bought = (noon - case.bought * DAY).astimezone(UTC)
    balance = (await shop.buy(sari, occurred_at=bought.isoformat())).json()["balance"]
    gone = case.cancel_after_days is not None and case.bought > case.cancel_after_days
    assert (balance["available"], balance["pending"]) == (0, 0 if gone else EARNED)

    happened_at = min(datetime.now(UTC), noon - case.delivered * DAY)
    if case.delivered == 0:
        happened_at = datetime.now(UTC)
    answer = await happen(
        shop, sari, case.event, "1", order_ref="INV-1", occurred_at=happened_at.astimezone(UTC).isoformat()
    )
    assert answer.status_code == 201, answer.text
    assert (answer.json()["points"], answer.json()["transaction_id"]) == (0, None)
    balance = answer.json()["balance"]
    assert (balance["available"], balance["pending"]) == (case.available, case.pending)
    activations = [one for one in await shop.transactions(sari) if one["kind"] == "activate"]
    if case.activated_on is None:
        assert activations == []
    else:
        (activation,) = activations
        assert (activation["points"], activation["cause"], activation["reason"], activation["order_ref"]) == (
            EARNED, "event", "delivered", "INV-1",
        )  # fmt: skip
        at = datetime.fromisoformat(activation["occurred_at"]).astimezone(JAKARTA)
        assert at.date() == (noon - case.activated_on * DAY).date()
    (gone_with,) = [one for one in await shop.transactions(sari) if one["kind"] == "expire"] or [None]
    assert (gone_with is not None) == gone
    if gone_with is not None:
        deadline = local_midnight(15, of=bought)
        assert datetime.fromisoformat(gone_with["occurred_at"]) == deadline


async def test_the_clock_of_the_expiry_starts_with_the_event(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"}, expiry={"kind": "after", "days": 30})
    await shop.buy(sari, occurred_at=ago(days=100))
    assert (await shop.balance(sari))["expiring"] == []
    delivered = datetime.now(UTC) - 4 * DAY
    answer = await happen(shop, sari, "delivered", "1", order_ref="INV-1", occurred_at=delivered.isoformat())
    (expiring,) = answer.json()["balance"]["expiring"]
    assert (expiring["points"], datetime.fromisoformat(expiring["expires_at"])) == (
        EARNED, local_midnight(31, of=delivered),
    )  # fmt: skip


async def test_points_that_began_long_ago_and_have_ended_are_never_spendable(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"}, expiry={"kind": "after", "days": 30})
    await shop.buy(sari, occurred_at=ago(days=100))
    await shop.adjust(sari, -30, allow_negative=True)
    answer = await happen(shop, sari, "delivered", "1", order_ref="INV-1", occurred_at=ago(days=60))
    assert (answer.json()["balance"]["available"], answer.json()["balance"]["pending"]) == (-30, 0)
    assert Counter(one["kind"] for one in await shop.transactions(sari)) == {
        "earn": 1, "adjust": 1, "activate": 1, "expire": 1,
    }  # fmt: skip


async def test_an_event_lets_begin_its_own_order_only_and_only_once(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"})
    for order_ref in ("INV-1", "INV-2"):
        await shop.buy(sari, order_ref=order_ref, occurred_at=ago(days=1))
    await happen(shop, sari, "delivered", "1", order_ref="INV-1")
    await happen(shop, sari, "delivered", "2", order_ref="INV-1")
    balance = await shop.balance(sari)
    assert (balance["available"], balance["pending"]) == (EARNED, EARNED)
    kinds = Counter(one["kind"] for one in await shop.transactions(sari))
    assert kinds == {"earn": 2, "activate": 1}


async def test_points_that_begin_with_an_event_count_towards_the_tiers_then(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"})
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 45})
    assert (await shop.buy(sari, occurred_at=ago(days=1))).json()["tier"]["current"] is None
    answer = await happen(shop, sari, "delivered", "1", order_ref="INV-1")
    assert answer.json()["tier"]["current"]["name"] == "Gold"


async def test_an_event_may_earn_and_let_an_order_begin_at_once(shop, sari):
    await settle_terms(shop, activation={"event": "review"})
    await shop.buy(sari, occurred_at=ago(days=1))
    answer = await happen(shop, sari, "review", "1", order_ref="INV-1")
    assert (answer.json()["points"], answer.json()["balance"]["available"]) == (20, 20 + EARNED)
    assert answer.json()["balance"]["pending"] == 0


async def test_an_order_that_is_not_known_yet_can_not_begin(shop, sari, session):
    await settle_terms(shop, activation={"event": "delivered"})
    await shop.award(sari, 50)
    await shop.redeem(sari, 5, order_ref="INV-1")  # paid with points, and not told of otherwise
    before = await checksum(session)
    for order_ref in ("INV-1", "INV-9"):
        problem(await happen(shop, sari, "delivered", "1", order_ref=order_ref), 404, "purchase_not_found")
    assert await checksum(session) == before
    await shop.buy(sari, occurred_at=ago(days=1))
    assert (await happen(shop, sari, "delivered", "1", order_ref="INV-1")).status_code == 201


async def test_an_event_about_an_order_of_somebody_else_is_refused(shop, sari, session):
    budi = await shop.member()
    await shop.buy(budi)
    await settle_terms(shop, activation={"event": "delivered"})
    before = await checksum(session)
    for event in ("delivered", "review"):
        problem(await happen(shop, sari, event, "1", order_ref="INV-1"), 409, "order_ref_reused")
    assert await checksum(session) == before


async def test_an_order_that_earned_nothing_has_nothing_to_begin_and_is_known_all_the_same(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"})
    await shop.buy(sari, total="1.00", occurred_at=ago(days=1))
    assert (await happen(shop, sari, "delivered", "1", order_ref="INV-1")).status_code == 201
    assert await shop.transactions(sari) == []


async def test_the_activating_event_without_an_order_lets_nothing_begin(shop, sari):
    await settle_terms(shop, activation={"event": "delivered"})
    await shop.buy(sari, occurred_at=ago(days=1))
    assert (await happen(shop, sari, "delivered", "1")).status_code == 201
    assert (await shop.balance(sari))["pending"] == EARNED


async def test_an_event_may_be_about_an_order_that_only_another_system_knows(shop, sari):
    answer = await happen(shop, sari, "review", "1", order_ref="OLD-77")
    assert (answer.status_code, answer.json()["points"]) == (201, 20)


async def test_points_of_an_event_about_an_order_are_not_those_of_the_order(shop, sari):
    await shop.buy(sari)
    await happen(shop, sari, "review", "1", order_ref="INV-1")
    assert (await shop.redeem(sari, 20, order_ref="INV-1")).status_code == 201
    problem(await shop.redeem(sari, 21, order_ref="INV-1"), 409, "order_ref_reused")


async def test_whoever_is_paused_earns_nothing_by_an_event_and_still_gets_what_was_earned_before(shop, sari):
    await settle_terms(shop, activation={"event": "review"})
    await shop.buy(sari, occurred_at=ago(days=1))
    first = await happen(shop, sari, "review", "0")
    await shop.client.put(f"/v1/contacts/{sari}/memberships/{shop.program_id}", json={"status": "paused"})
    problem(await happen(shop, sari, "review", "1"), 409, "membership_suspended")
    answer = await happen(shop, sari, "review", "2", order_ref="INV-1")
    assert (answer.status_code, answer.json()["points"], answer.json()["rules"]) == (201, 0, [])
    assert answer.json()["balance"]["available"] == 20 + EARNED
    again = await happen(shop, sari, "review", "0")
    assert (again.status_code, again.json()["transaction_id"]) == (200, first.json()["transaction_id"])


# ---------------------------------------------------------------- activity moves the end of points


@pytest.mark.parametrize(
    ("activities", "moved"), [(["review"], True), (["purchase", "review"], True), (["purchase"], False)]
)
async def test_an_event_among_the_activities_moves_the_end_of_every_point(shop, sari, activities, moved):
    await settle_terms(shop, expiry={"kind": "sliding", "months": 1, "activities": activities})
    for days in (20, 10):
        await shop.award(sari, 10, occurred_at=ago(days=days))
    await shop.award(sari, 7, expires_at="2030-01-01T00:00:00Z")  # an end of its own
    before = await shop.balance(sari)
    answer = (await happen(shop, sari, "review", "1")).json()
    expiring = {one["expires_at"]: one["points"] for one in answer["balance"]["expiring"]}
    assert expiring["2030-01-01T00:00:00Z"] == 7
    assert len(before["expiring"]) == 3
    assert sorted(expiring.values()) == ([7, 40] if moved else [7, 10, 10, 20])


async def test_an_award_among_the_activities_moves_the_end_of_every_point(shop, sari):
    await settle_terms(shop, expiry={"kind": "sliding", "months": 1, "activities": ["award"]})
    await shop.buy(sari, occurred_at=ago(days=10))
    await shop.award(sari, 10, occurred_at=ago(days=5))
    (expiring,) = (await shop.balance(sari))["expiring"]
    assert expiring["points"] == 10 + EARNED
    await shop.award_batch((sari, 1), (sari, 2))
    (later,) = (await shop.balance(sari))["expiring"]
    assert later["points"] == 13 + EARNED
    assert later["expires_at"] > expiring["expires_at"]


async def test_what_still_waits_for_its_event_has_no_end_that_could_move(shop, sari):
    await settle_terms(
        shop, activation={"event": "delivered"}, expiry={"kind": "sliding", "months": 1, "activities": ["review"]}
    )
    await shop.buy(sari, occurred_at=ago(days=10))
    answer = await happen(shop, sari, "review", "1")
    assert sum(one["points"] for one in answer.json()["balance"]["expiring"]) == 20
    answer = await happen(shop, sari, "delivered", "1", order_ref="INV-1")
    assert sum(one["points"] for one in answer.json()["balance"]["expiring"]) == 20 + EARNED


# ---------------------------------------------------------------- many at once


NOON = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)


async def open_program(session: Session, **settings: Any) -> UUID:
    program = await programs.create(
        session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=None, settings=settings, now=NOON
    )
    for facts in (
        {"name": "base", "kind": "per_amount", "points": 1, "per": "1000"},
        {"name": "birthday", "kind": "per_event", "event": "birthday", "points": 50},
        {"name": "once", "kind": "per_event", "event": "review", "points": 5, "limits": [{"times": 1, "per": "day"}]},
    ):
        await rules.create(session, program_id=program.id, definition=facts, now=NOON)
    return program.id


async def people(session: Session, count: int) -> list[UUID]:
    found = [uuid7() for _ in range(count)]
    await session.execute(
        "INSERT INTO contacts (id, name, created_at, updated_at) SELECT unnest($1::uuid[]), 'S', now(), now()", found
    )
    return found


async def test_the_birthdays_of_500_members_take_one_lock_and_one_write(session, statements):
    program_id = await open_program(session)
    members = await people(session, 500)
    happened = [Happened(one, "birthday", "birthday:2026") for one in members]
    statements.clear()
    results = await events.record_all(session, program_id=program_id, happened=happened, by="system", now=NOON)
    assert len([one for one in statements if not one.startswith("SELECT p.id, p.version, p.name")]) == 3
    assert all(created and recorded.points == 50 for recorded, _, created in results)  # type: ignore[misc]
    statements.clear()
    again = await events.record_all(session, program_id=program_id, happened=happened, by="system", now=NOON + DAY)
    assert len(statements) == 2
    assert [(one[0].transaction_id, one[2]) for one in again] == [(one[0].transaction_id, False) for one in results]  # type: ignore[index]
    assert await session.fetchval("SELECT sum(available) FROM loyalty_accounts") == 500 * 50
    assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'event'") == 500


async def test_many_orders_begin_with_one_lock_and_one_write(session, statements):
    program_id = await open_program(session, activation={"event": "delivered"})
    members = await people(session, 20)
    for number, one in enumerate(members):
        bought = Purchase(order_ref=f"INV-{number}", occurred_at=NOON, currency="IDR", total=Decimal(9000))
        await purchases.record(session, program_id=program_id, bought=Bought(one, bought), by="t", once=None, now=NOON)
    happened = [Happened(one, "delivered", "1", order_ref=f"INV-{number}") for number, one in enumerate(members)]
    statements.clear()
    await events.record_all(session, program_id=program_id, happened=happened, by="t", now=NOON + DAY)
    assert len(statements) == 4
    rows = await session.fetch("SELECT available, pending FROM loyalty_accounts")
    assert {tuple(row) for row in rows} == {(9, 0)}


async def test_refusals_stand_in_their_place_and_the_others_are_recorded(session):
    program_id = await open_program(session, activation={"event": "delivered"})
    (sari,) = await people(session, 1)
    happened = [
        Happened(sari, "birthday", "2026"),
        Happened(uuid7(), "birthday", "2026"),
        Happened(sari, "birthday", "2026"),
        Happened(sari, "birthday", "2026", order_ref="INV-1"),
        Happened(sari, "delivered", "1", order_ref="INV-1"),
        Happened(sari, "review", "1"),
        Happened(sari, "review", "2"),
    ]
    results = await events.record_all(session, program_id=program_id, happened=happened, by="t", now=NOON)
    assert [type(one) if isinstance(one, Exception) else (one[0].points, one[2]) for one in results] == [
        (50, True), ContactNotFound, (50, False), EventRefReused, PurchaseNotFound, (5, True), (0, True),
    ]  # fmt: skip
    assert await session.fetchval("SELECT count(*) FROM loyalty_events") == 3
    assert await session.fetchval("SELECT available FROM loyalty_accounts") == 55


async def test_many_events_end_as_the_same_events_one_by_one(session):
    program_id = await open_program(session, expiry={"kind": "sliding", "months": 1, "activities": ["review"]})
    together, alone = await people(session, 2)
    kinds = ["birthday", "review", "review", "visit", "birthday"]
    happened = [
        Happened(together, kind, str(number), occurred_at=NOON - number * DAY) for number, kind in enumerate(kinds)
    ]
    many = await events.record_all(session, program_id=program_id, happened=happened, by="t", now=NOON)
    single = [
        await events.record(
            session, program_id=program_id, happened=replace(one, contact_id=alone), by="t", once=None, now=NOON
        )
        for one in happened
    ]
    assert [replace(one[0], transaction_id=None) for one in many] == [  # type: ignore[index]
        replace(one[0], transaction_id=None) for one in single
    ]
