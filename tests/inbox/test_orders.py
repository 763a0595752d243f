"""Orders and refunds of a shop earn and are taken back as those of the till."""

from datetime import UTC, datetime, timedelta

import pytest

from crm.inbox.deliveries import ATTEMPTS_MAX
from tests.inbox.desk import Desk
from tests.inbox.toychat import at, email, message, person, toy
from tests.loyalty.shop import Shop


@pytest.fixture
async def shop(client):
    return await Shop.open(client)


def ordered(ref="1001", total="45000.00", currency="IDR", who=None, **more):
    return {
        "event": "Ordered", "external_id": f"order-{ref}", "order_ref": ref, "currency": currency, "total": total,
        "occurred_at": at(), "person": person(toy("sari")) if who is None else who, **more,
    }  # fmt: skip


def refunded(ref="1001", refund_ref="R1", **more):
    return {
        "event": "Refunded", "external_id": f"refund-{refund_ref}", "order_ref": ref, "refund_ref": refund_ref,
        "occurred_at": at(60), "amount": "45000.00", **more,
    }  # fmt: skip


async def available(desk):
    found = await desk.client.get(f"/v1/contacts/{(await desk.contact())['id']}/loyalty")
    return found.json()["available"]


async def test_an_order_earns_once_however_often_it_is_told(shop, desk):
    lines = [
        {"sku": "KOPI", "quantity": "2", "unit_price": "20000"},
        {"sku": "TEH", "quantity": "1", "unit_price": "9000"},
    ]
    order = ordered(lines=lines, total=None, discounts=[])
    assert [event["outcome"] for event in await desk.hear(order, order)] == ["recorded", "duplicate"]
    assert [event["outcome"] for event in await desk.hear(order)] == ["duplicate"]
    assert await available(desk) == 49
    [item] = await desk.timeline(kind="purchase")
    assert (item["data"]["order_ref"], item["by"]) == ("1001", "channel:Toko")
    contact_id = (await desk.contact())["id"]
    kept = (await desk.client.get(f"/v1/contacts/{contact_id}/purchases/1001")).json()
    assert kept["content"]["data"] == {"provider": "toychat", "account": "T1"}


async def test_an_order_earns_in_the_program_of_its_account(client, shop):
    other = await client.post("/v1/programs", json={"name": "Other", "currency": "IDR", "time_zone": "Asia/Jakarta"})
    desk = await Desk.open(client, settings={"program_id": other.json()["id"]})
    [came] = await desk.hear(ordered())
    assert came["outcome"] == "recorded"
    assert await available(desk) == 0
    purchase = f"/v1/contacts/{came['contact_id']}/purchases/1001"
    assert (await client.get(purchase, params={"program": other.json()["id"]})).status_code == 200


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"currency": "SGD"}, "currency_mismatch"),
        ({"total": "1e30"}, "amount_out_of_range"),
        ({"total": "NaN"}, "amount_out_of_range"),
        ({"occurred_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()}, "occurred_in_the_future"),
    ],
)
async def test_an_order_that_can_t_earn_keeps_nothing_else_out(shop, desk, facts, code):
    events = await desk.hear(ordered("1", **facts), ordered("2"), message("m1", "Halo"))
    assert [event["outcome"] for event in events] == ["failed", "recorded", "recorded"]
    assert events[0]["error"]["code"] == code
    assert (await desk.last())["status"] == "failed"
    assert await available(desk) == 45


async def test_without_a_program_an_order_stays_with_its_delivery_until_there_is_one(client, desk):
    [came] = await desk.hear(ordered())
    assert came["error"]["code"] == "program_required"
    await Shop.open(client)
    replayed = await client.post(f"/v1/deliveries/{(await desk.last())['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"]) == (202, "pending")
    await desk.work()
    assert (await desk.last())["status"] == "processed"
    assert await available(desk) == 45


async def test_an_order_told_differently_is_refused_and_the_first_stands(shop, desk):
    await desk.hear(ordered())
    [came] = await desk.hear(ordered(total="90000.00"))
    assert came["error"]["code"] == "order_ref_reused"
    assert await available(desk) == 45


async def test_an_order_of_nobody_is_kept(shop, desk):
    [came] = await desk.hear({**ordered(), "person": None})
    assert came["outcome"] == "kept"


async def test_a_guest_is_found_by_what_they_typed(shop, desk, client):
    made = await client.post(
        "/v1/contacts", json={"name": "Sari", "identities": [{"kind": "email", "value": "sari@example.com"}]}
    )
    [came] = await desk.hear(ordered(who=person(email("Sari@Example.com"))))
    assert came["contact_id"] == made.json()["id"]


async def test_a_refund_takes_back_what_the_order_earned_once(shop, desk):
    await desk.hear(ordered())
    assert [event["outcome"] for event in await desk.hear(refunded(), refunded())] == ["recorded", "duplicate"]
    assert await available(desk) == 0


async def test_a_refund_of_lines_takes_back_their_share(shop, desk):
    lines = [
        {"sku": "KOPI", "quantity": "2", "unit_price": "20000"},
        {"sku": "TEH", "quantity": "1", "unit_price": "9000"},
    ]
    await desk.hear(ordered(lines=lines, total=None), refunded(amount=None, lines=[[0, 1]]))
    assert await available(desk) == 29


async def test_a_refund_that_comes_before_its_order_waits_for_it(shop, desk):
    now = datetime.now(UTC)
    [came] = await desk.hear(refunded())
    assert (came["outcome"], came["error"]["code"]) == ("failed", "order_not_here")
    first = await desk.last()
    assert (first["status"], first["attempts"]) == ("pending", 1)
    await desk.hear(ordered())
    assert await desk.work() == 0
    assert await desk.work(now=now + timedelta(minutes=2)) == 1
    again = await desk.delivery(first["id"])
    assert (again["status"], again["attempts"], again["retry_at"]) == ("processed", 2, None)
    assert await available(desk) == 0


async def test_a_refund_whose_order_never_comes_fails_in_the_end(shop, desk):
    await desk.deliver(refunded())
    now = datetime.now(UTC)
    for _ in range(ATTEMPTS_MAX):
        assert await desk.work(now=now) == 1
        now += timedelta(hours=6)
    last = await desk.last()
    assert (last["status"], last["attempts"], last["retry_at"]) == ("failed", ATTEMPTS_MAX, None)
    assert await desk.work(now=now) == 0


async def test_a_refund_of_more_than_was_bought_is_refused_alone(shop, desk):
    events = await desk.hear(ordered(), refunded(amount="50000.00"), refunded(refund_ref="R2", amount="5000.00"))
    assert [event["outcome"] for event in events] == ["recorded", "failed", "recorded"]
    assert events[1]["error"]["code"] == "refund_exceeds_purchase"
    assert await available(desk) == 40


LINES = [
    {"sku": "KOPI", "quantity": "2", "unit_price": "20000", "external_id": "820982911946154508"},
    {"sku": "TEH", "quantity": "1", "unit_price": "9000", "external_id": "12"},
]


def returned(refund_ref, *items, amount="1.00", **more):
    """A refund by the shop's own ids of lines; where the order tells of these, the amount is not looked at."""
    return refunded(refund_ref=refund_ref, amount=amount, items=[list(item) for item in items], **more)


async def test_a_refund_of_lines_by_the_shop_s_ids_takes_back_what_they_earned_together(shop, desk):
    await desk.hear(ordered(lines=LINES, total=None))
    assert await available(desk) == 49
    await desk.hear(returned("R1", ("820982911946154508", "1")))
    assert await available(desk) == 29
    [again] = await desk.hear(returned("R1", ("820982911946154508", "1")))
    assert (again["outcome"], await available(desk)) == ("duplicate", 29)
    [came] = await desk.hear(returned("R2", ("820982911946154508", "1"), ("12", "1")))
    assert (came["outcome"], await available(desk)) == ("recorded", 0)
    [more] = await desk.hear(returned("R3", ("12", "1")))
    assert (more["outcome"], more["error"]["code"]) == ("failed", "refund_exceeds_purchase")


@pytest.mark.parametrize("items", [[["99", "1"]], [["12", "1"], ["99", "1"]], []])
async def test_of_lines_that_the_order_does_not_have_the_amount_counts(shop, desk, items):
    await desk.hear(ordered(lines=LINES, total=None), returned("R1", *items, amount="19000.00"))
    assert await available(desk) == 30


async def test_a_refund_by_lines_waits_for_its_order_too(shop, desk):
    await desk.hear(returned("R1", ("12", "1"), occurred_at=None))
    await desk.hear(ordered(lines=LINES, total=None))
    await desk.work(now=datetime.now(UTC) + timedelta(minutes=1))
    assert await available(desk) == 40


async def test_a_refund_of_which_nobody_says_when_is_of_now_and_the_same_when_it_is_told_again(shop, desk):
    refund = refunded(occurred_at=None, amount="5000.00")
    assert [came["outcome"] for came in await desk.hear(ordered(), refund)] == ["recorded", "recorded"]
    [again] = await desk.hear(refund)
    assert (again["outcome"], await available(desk)) == ("duplicate", 40)


async def test_an_order_that_came_to_nothing_gives_back_what_is_left_once(shop, desk):
    await desk.hear(ordered(lines=LINES, total=None), returned("R1", ("12", "1")))
    assert await available(desk) == 40
    void = refunded(refund_ref="voided", amount=None, occurred_at=None, rest=True)
    assert [came["outcome"] for came in await desk.hear(void, void)] == ["recorded", "duplicate"]
    assert await available(desk) == 0
    [unknown] = await desk.hear({**void, "order_ref": "never paid"})
    assert (unknown["outcome"], unknown["error"]) == ("kept", None)
    assert (await desk.last())["status"] == "processed"


async def test_an_order_of_before_a_merge_is_refunded_where_its_points_are_now(shop, desk):
    [came] = await desk.hear(ordered(lines=LINES, total=None))
    survivor = (await desk.client.post("/v1/contacts", json={"name": "Sari Dewi"})).json()["id"]
    merged = await desk.client.post("/v1/merges", json={"contact_id": survivor, "other_contact_id": came["contact_id"]})
    assert merged.status_code == 201, merged.text
    [back] = await desk.hear(returned("R1", ("820982911946154508", "1")))
    assert (back["outcome"], back["contact_id"]) == ("recorded", survivor)
    assert await available(desk) == 29
