"""Many at once on the same accounts, orders and keys, over the whole API with real commits."""

import asyncio
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from crm.db.ids import uuid7
from crm.db.session import Database
from crm.loyalty import journal, ledger
from crm.loyalty.ledger import Award
from tests.loyalty.shop import EARNED, ORDER, Shop, at_once, statuses
from tests.loyalty.town import audited

pytestmark = pytest.mark.usefixtures("audited_database")


@pytest.fixture
async def shop(live_client: Any) -> Shop:
    return await Shop.open(live_client)


# ---------------------------------------------------------------- one account


async def test_of_fifty_redemptions_of_the_whole_balance_one_succeeds(shop):
    sari = await shop.member(points=1000)
    answers = await at_once(*(shop.redeem(sari, 1000) for _ in range(50)))
    assert statuses(answers) == {201: 1, 409: 49}
    refusals = [answer.json() for answer in answers if answer.status_code == 409]
    assert {refusal["code"] for refusal in refusals} == {"insufficient_points"}
    assert {(one["required"], one["available"], one["missing"]) for one in refusals} == {(1000, 0, 1000)}
    assert await shop.available(sari) == 0
    assert Counter(one["kind"] for one in await shop.transactions(sari)) == {"earn": 1, "redeem": 1}


async def test_redemptions_at_once_take_exactly_what_is_there(shop):
    sari = await shop.member(points=100)
    answers = await at_once(*(shop.redeem(sari, 30) for _ in range(20)))
    assert statuses(answers) == {201: 3, 409: 17}
    assert await shop.available(sari) == 10


async def test_awards_at_once_all_count_and_redemptions_between_them_never_overdraw(shop):
    sari = await shop.member(points=50)
    storm = [shop.award(sari, 7) for _ in range(40)] + [shop.redeem(sari, 11) for _ in range(40)]
    random.Random(1).shuffle(storm)
    answers = await at_once(*storm)
    assert set(statuses(answers)) <= {201, 409}
    redeemed = [answer for answer in answers if answer.status_code == 201 and answer.json()["points"] == 11]
    assert 4 <= len(redeemed) <= (50 + 40 * 7) // 11
    assert min(answer.json()["balance"]["available"] for answer in answers if answer.status_code == 201) >= 0
    balance = await shop.balance(sari)
    assert balance["available"] == 50 + 40 * 7 - 11 * len(redeemed)
    assert (balance["lifetime_earned"], balance["lifetime_redeemed"]) == (330, 11 * len(redeemed))


async def test_first_awards_at_once_open_one_account(shop):
    sari = await shop.member()
    answers = await at_once(*(shop.award(sari, 3) for _ in range(20)))
    assert statuses(answers) == {201: 20}
    assert await shop.available(sari) == 60
    async with shop.client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM loyalty_accounts") == 1


async def test_what_is_due_is_written_down_once_however_many_notice(shop):
    sari = await shop.member()
    soon = datetime.now(UTC) + timedelta(seconds=0.4)
    for number in range(5):
        await shop.award(sari, 10, expires_at=(soon + timedelta(microseconds=number)).isoformat())
    await shop.award(sari, 10, activates_at=soon.isoformat())
    await asyncio.sleep(0.5)
    reads = [shop.client.get(f"/v1/contacts/{sari}/loyalty") for _ in range(10)]
    answers = await at_once(*(shop.award(sari, 1) for _ in range(20)), *reads)
    assert statuses(answers) == {201: 20, 200: 10}
    assert Counter(one["kind"] for one in await shop.transactions(sari)) == {"earn": 26, "expire": 5, "activate": 1}
    assert await shop.available(sari) == 30


async def test_a_redemption_is_reversed_once(shop):
    sari = await shop.member(points=80)
    redemption = (await shop.redeem(sari, 50)).json()
    answers = await at_once(*(shop.post(sari, f"redemptions/{redemption['id']}/reversal", {}) for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["transaction_id"] for answer in answers}) == 1
    assert await shop.available(sari) == 80


# ---------------------------------------------------------------- one order


async def test_of_twenty_purchases_of_one_order_one_earns(shop):
    sari = await shop.member()
    answers = await at_once(*(shop.post(sari, "purchases", ORDER) for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["transaction_id"] for answer in answers}) == 1
    assert {answer.json()["points"] for answer in answers} == {EARNED}
    assert await shop.available(sari) == EARNED


async def test_of_twenty_redemptions_for_one_order_one_is_paid(shop):
    sari = await shop.member(points=100)
    answers = await at_once(*(shop.redeem(sari, 5, order_ref="INV-1") for _ in range(20)))
    assert statuses(answers) == {201: 1, 200: 19}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await shop.available(sari) == 95


@pytest.mark.parametrize("order_refs", [["INV-1"], [f"INV-{number}" for number in range(20)]])
async def test_purchases_by_a_card_that_nobody_has_make_one_contact(shop, database, order_refs):
    bodies = [ORDER | {"order_ref": ref, "identity": {"kind": "card", "value": "4711"}} for ref in order_refs * 20][:20]
    answers = await at_once(*(shop.client.post("/v1/purchases", json=body) for body in bodies))
    retried = [
        await shop.client.post("/v1/purchases", json=body) if answer.status_code == 503 else answer
        for body, answer in zip(bodies, answers, strict=True)
    ]
    created = len(order_refs)
    assert statuses(retried) == {201: created, 200: 20 - created} if created < 20 else {201: 20}
    assert len({answer.json()["transaction_id"] for answer in retried}) == created
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contacts") == 1
        assert await session.fetchval("SELECT available FROM loyalty_accounts") == EARNED * created


@pytest.mark.parametrize("second", ["purchases", "redemptions"])
async def test_an_order_of_two_members_at_once_belongs_to_one(shop, second):
    bodies = {"purchases": ORDER, "redemptions": {"points": 5, "order_ref": "INV-1"}}
    for number in range(10):
        sari, budi = await shop.member(points=10), await shop.member(points=10)
        order = {"order_ref": f"INV-{number}"}
        requests = [(sari, "purchases", ORDER | order), (budi, second, bodies[second] | order)]
        answers = await at_once(*(shop.post(*request) for request in requests))
        loser, request = next(
            (answer, request) for answer, request in zip(answers, requests, strict=True) if answer.status_code != 201
        )
        assert statuses(answers)[201] == 1
        if loser.status_code == 503:
            assert loser.headers["Retry-After"]
            loser = await shop.post(*request)
        assert (loser.status_code, loser.json()["code"]) == (409, "order_ref_reused")
        assert (await shop.balance(request[0]))["available"] == 10


# ---------------------------------------------------------------- one key


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("points-awards", {"points": 5, "reason": "goodwill"}),
        ("points-adjustments", {"points": -5, "reason": "fix"}),
        ("redemptions", {"points": 5}),
        ("redemptions", {"points": 5, "order_ref": "INV-1"}),
        ("purchases", ORDER),
    ],
)
async def test_requests_with_one_key_at_once_have_one_effect_and_one_answer(shop, path, body):
    sari = await shop.member(points=100)
    answers = await at_once(*(shop.post(sari, path, body, key="K-1") for _ in range(20)))
    assert statuses(answers) == {201: 20}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 19
    assert len(await shop.transactions(sari)) == 2
    other = await shop.post(sari, path, {**body, "store": "Bandung"}, key="K-1")
    refusal = other.json()["code"]
    assert (other.status_code, refusal) in {(422, "idempotency_key_reused"), (422, "invalid")}


async def test_a_batch_with_one_key_at_once_is_posted_once(shop):
    sari = await shop.member()
    body = {"items": [{"contact_id": str(sari), "points": 5, "reason": "goodwill"}] * 3}
    answers = await at_once(*(
        shop.client.post("/v1/points-awards/batch", json=body, headers={"Idempotency-Key": "K-1"}) for _ in range(20)
    ))  # fmt: skip
    assert statuses(answers) == {200: 20}
    assert len({answer.content for answer in answers}) == 1
    assert await shop.available(sari) == 15


async def test_two_bodies_at_once_under_one_key_have_one_effect(shop):
    sari = await shop.member()
    answers = await at_once(*(shop.award(sari, 1 + number % 2, key="K-1") for number in range(20)))
    assert statuses(answers) == {201: 10, 422: 10}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 422} == {"idempotency_key_reused"}
    (given,) = {answer.json()["points"] for answer in answers if answer.status_code == 201}
    assert await shop.available(sari) == given


# ---------------------------------------------------------------- many accounts


async def test_batches_over_the_same_accounts_in_opposite_orders_all_succeed(shop):
    people = [await shop.member() for _ in range(30)]
    turns = [random.Random(number).sample(people, len(people)) for number in range(24)]
    answers = await at_once(*(shop.award_batch(*((one, 2) for one in turn)) for turn in turns))
    assert statuses(answers) == {200: 24}
    assert {item["status"] for answer in answers for item in answer.json()["items"]} == {201}
    assert {await shop.available(one) for one in people} == {48}


async def test_batches_that_open_the_same_accounts_all_succeed(shop):
    for _ in range(5):
        people = [await shop.member() for _ in range(12)]
        storm = [shop.award_batch(*((one, 1) for one in random.sample(people, 6))) for _ in range(12)]
        storm += [shop.award(one, 1) for one in people]
        answers = await at_once(*storm)
        assert statuses(answers) == {200: 12, 201: 12}
        total = sum([await shop.available(one) for one in people])
        assert total == 12 * 6 + 12


async def test_batches_that_open_accounts_while_others_appear_wait_for_each_other_in_one_direction(shop, database):
    """The first has opened A and waits, B appears meanwhile, the second takes B and wants A: a circle, if B is held."""
    a, b = sorted([uuid7(), uuid7()])
    for contact_id in (a, b):
        await shop.member(id=contact_id)

    async def post() -> None:
        async with database.begin() as session:
            now = datetime.now(UTC)
            awards = [Award(contact_id, 1, "goodwill") for contact_id in (a, b)]
            await ledger.award_all(session, program_id=UUID(shop.program_id), awards=awards, by="t", now=now)

    async with database.begin() as obstacle, database.begin() as other:
        await obstacle.execute("SELECT FROM contacts WHERE id = $1 FOR UPDATE", b)
        first = asyncio.create_task(post())
        await _waiting(database, 1)
        await other.execute(
            """
            INSERT INTO loyalty_accounts (contact_id, program_id, enrolled_at, updated_at)
            VALUES ($1, $2, now(), now())
            """,
            b,
            UUID(shop.program_id),
        )
        await other.execute("COMMIT; BEGIN")
        second = asyncio.create_task(post())
        await _waiting(database, 2)
    await asyncio.gather(first, second)
    assert [await shop.available(one) for one in (a, b)] == [2, 2]


async def _waiting(database: Database, count: int) -> None:
    """Until so many statements of this database wait for a lock."""
    async with database.reading() as session:
        for _ in range(200):
            if count <= await session.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def test_of_two_first_programs_at_once_one_is_the_default(live_client):
    body = {"name": "Kopi", "currency": "IDR", "time_zone": "Asia/Jakarta"}
    answers = await at_once(*(live_client.post("/v1/programs", json=body) for _ in range(6)))
    assert set(statuses(answers)) <= {201, 409}
    items = (await live_client.get("/v1/programs")).json()["items"]
    assert len(items) == statuses(answers)[201] >= 1
    assert sum(item["default"] for item in items) == 1


# ---------------------------------------------------------------- a history


async def test_a_history_of_many_clients_is_in_order_and_audited_all_along(shop, database):
    """Answers agree with the ledger; what ended before another began stands before it; no audit sees a half."""
    people = [await shop.member(points=20) for _ in range(4)]
    history: list[tuple[float, float, UUID, dict[str, Any]]] = []
    done = asyncio.Event()

    async def client(seed: int) -> None:
        chance = random.Random(seed)
        mine: list[tuple[UUID, str]] = []
        for _ in range(40):
            started = time.perf_counter()
            one, answer = await _anything(shop, people, mine, chance)
            if answer.status_code == 201:
                history.append((started, time.perf_counter(), one, answer.json()))
            assert answer.status_code in {200, 201, 409}, answer.text

    async def watch() -> int:
        looks = 0
        while not done.is_set():
            await audited(database)
            looks += 1
        return looks

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(client(seed) for seed in range(8)))
    done.set()
    assert await watcher > 2
    assert len(history) > 100
    ledger_of = {one: {entry["id"]: entry for entry in await shop.transactions(one)} for one in people}
    entries = [(*times, one, ledger_of[one][_id(answer)], answer) for *times, one, answer in history]
    for _, ended, one, entry, answer in entries:
        assert entry["available_after"] == answer["balance"]["available"]
        assert all(
            later["seq"] > entry["seq"] for began, _, other, later, _ in entries if other == one and began > ended
        )


async def _anything(
    shop: Shop, people: list[UUID], mine: list[tuple[UUID, str]], chance: random.Random
) -> tuple[UUID, httpx.Response]:
    """One request of any kind; `mine` are redemptions that can be reversed."""
    one = chance.choice(people)
    kinds = {"award": 40, "redeem": 25, "reverse": 10, "buy": 10, "adjust": 10, "hold": 10, "transfer": 10}
    match chance.choices(list(kinds), list(kinds.values()))[0]:
        case "award":
            return one, await shop.award(one, chance.randint(1, 9), key=str(uuid7()))
        case "redeem":
            answer = await shop.redeem(one, chance.randint(1, 30))
            if answer.status_code == 201:
                mine.append((one, answer.json()["id"]))
            return one, answer
        case "reverse" if mine:
            one, redemption_id = mine.pop()
            return one, await shop.post(one, f"redemptions/{redemption_id}/reversal", {})
        case "buy":
            order = {"order_ref": f"{one}-{chance.randint(1, 9)}", "total": "3000"}
            return one, await shop.post(one, "purchases", ORDER | order)
        case "hold":
            return one, await shop.post(one, "holds", {"points": chance.randint(1, 20), "expires_in": "PT1S"})
        case "transfer":
            other = chance.choice([each for each in people if each != one])
            return one, await shop.transfer(one, other, chance.randint(1, 20))
    correction = {"points": -chance.randint(1, 30), "reason": "fix", "allow_negative": True}
    return one, await shop.post(one, "points-adjustments", correction)


def _id(answer: dict[str, Any]) -> str:
    return answer.get("transaction_id") or answer["id"]


# ---------------------------------------------------------------- holds, transfers, refunds


async def test_a_hold_and_a_redemption_share_no_point(shop):
    sari = await shop.member(points=100)
    answers = await at_once(
        *(shop.post(sari, "holds", {"points": 100}) for _ in range(10)), *(shop.redeem(sari, 100) for _ in range(10))
    )
    assert statuses(answers) == {201: 1, 409: 19}
    balance = await shop.balance(sari)
    assert balance["available"] == 0
    assert balance["held"] + balance["lifetime_redeemed"] == 100


async def test_a_hold_is_captured_once_or_released(shop):
    sari = await shop.member(points=100)
    for _ in range(5):
        hold_id = (await shop.post(sari, "holds", {"points": 10})).json()["id"]
        captures = [shop.post(sari, f"holds/{hold_id}/capture", {}) for _ in range(5)]
        releases = [shop.client.delete(f"/v1/contacts/{sari}/holds/{hold_id}") for _ in range(5)]
        answers = await at_once(*(each for pair in zip(captures, releases, strict=True) for each in pair))
        found = statuses(answers)
        assert found in ({201: 1, 200: 4, 409: 5}, {204: 5, 409: 5})
    balance = await shop.balance(sari)
    assert balance["available"] == 100 - balance["lifetime_redeemed"]
    assert balance["held"] == 0


async def test_transfers_both_ways_never_wait_in_a_circle(shop):
    people = [await shop.member(points=100) for _ in range(3)]
    ways = [(one, other) for one in people for other in people if one != other]
    answers = await at_once(*(shop.transfer(one, other, 7) for _ in range(8) for one, other in ways))
    assert statuses(answers).keys() <= {201, 409}
    assert statuses(answers)[201] > 20
    assert sum([await shop.available(one) for one in people]) == 300


async def test_a_refund_and_redemptions_never_take_the_same_point(shop):
    sari = await shop.member()
    assert (await shop.buy(sari)).status_code == 201
    refund = {"refund_ref": "CN-1", "amount": "45000"}
    refunds, redemptions = (
        [shop.post(sari, "purchases/INV-1/refunds", refund) for _ in range(5)],
        [shop.redeem(sari, 9) for _ in range(8)],
    )
    answers = await at_once(*refunds, *redemptions)
    assert statuses(answers[:5]) == {201: 1, 200: 4}
    refunded = answers[0].json()
    spent = 9 * statuses(answers[5:])[201]
    assert refunded["points_taken_back"] + refunded["points_written_off"] == EARNED
    assert refunded["points_taken_back"] == EARNED - spent
    assert await shop.available(sari) == 0


async def test_refunds_of_one_order_at_once_are_no_more_than_it_was(shop):
    sari = await shop.member()
    await shop.buy(sari)
    answers = await at_once(
        *(shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": f"CN-{n}", "amount": "10000"}) for n in range(10))
    )
    assert statuses(answers) == {201: 4, 409: 6}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"refund_exceeds_purchase"}
    assert await shop.available(sari) == 5


async def test_a_spend_reaches_the_lots_that_were_not_read_at_first(shop):
    sari = await shop.member()
    lots = journal.LOTS_READ + 20
    later = datetime.now(UTC) + timedelta(days=400)
    items = [
        {"contact_id": str(sari), "points": 1, "reason": "x", "expires_at": (later - timedelta(days=n)).isoformat()}
        for n in range(lots)
    ]
    assert (await shop.client.post("/v1/points-awards/batch", json={"items": items})).status_code == 200
    answers = await at_once(*(shop.redeem(sari, lots - 5) for _ in range(5)))
    assert statuses(answers) == {201: 1, 409: 4}
    left = (await shop.balance(sari))["expiring"]
    assert [one["expires_at"] for one in left] == [
        (later - timedelta(days=n)).isoformat().replace("+00:00", "Z") for n in (4, 3, 2, 1, 0)
    ]
