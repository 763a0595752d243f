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
        now += timedelta(hours=3)
    last = await desk.last()
    assert (last["status"], last["attempts"], last["retry_at"]) == ("failed", ATTEMPTS_MAX, None)
    assert await desk.work(now=now) == 0


async def test_a_refund_of_more_than_was_bought_is_refused_alone(shop, desk):
    events = await desk.hear(ordered(), refunded(amount="50000.00"), refunded(refund_ref="R2", amount="5000.00"))
    assert [event["outcome"] for event in events] == ["recorded", "failed", "recorded"]
    assert events[1]["error"]["code"] == "refund_exceeds_purchase"
    assert await available(desk) == 40
