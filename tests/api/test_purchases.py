"""Purchases over HTTP, with the field names that integrations rely on."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.loyalty.shop import EARNED, ORDER, Shop, checksum

RECORDED = {"order_ref", "points", "transaction_id", "rules", "challenges", "balance", "tier"}
RULE_ROW = {"rule_id", "version", "name", "outcome", "reason", "basis", "points_requested", "points"}
VIEW = {
    "order_ref", "program_id", "transaction_id", "occurred_at", "recorded_at", "currency", "total", "basis", "points",
    "rules", "challenges", "content",
}  # fmt: skip
LINE = {"sku": "KOPI-1", "quantity": "2", "unit_price": "25000.00"}
NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
BIGGEST = "999999999999999.999999"


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


async def add_rule(shop: Shop, **facts: Any) -> dict[str, Any]:
    answer = await shop.client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=facts)
    assert answer.status_code == 201, answer.text
    rule: dict[str, Any] = answer.json()
    return rule


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


# ---------------------------------------------------------------- what a purchase answers


async def test_the_example_of_the_contract_earns_and_explains_itself(shop, sari):
    order = {
        "order_ref": "INV-1001", "occurred_at": "2026-11-01T09:30:00Z", "currency": "IDR",
        "lines": [
            {
                "sku": "KOPI-1", "category": "drinks", "labels": [], "quantity": "2", "unit_price": "25000.00",
                "tax": "0.00",
            }
        ],
        "discounts": [{"amount": "5000.00", "line": 0}], "shipping": "0.00", "shipping_tax": "0.00",
        "payments": [{"tender": "cash", "amount": "45000.00"}], "code": None,
    }  # fmt: skip
    answer = await shop.post(sari, "purchases", order)
    assert answer.status_code == 201
    recorded = answer.json()
    assert recorded.keys() == RECORDED
    assert (recorded["order_ref"], recorded["points"], recorded["balance"]["available"]) == ("INV-1001", 45, 45)
    (rule,) = recorded["rules"]
    assert rule.keys() == RULE_ROW
    assert without(rule, "rule_id") == {
        "version": 1, "name": "base", "outcome": "applied", "reason": "applied", "basis": "45000.00",
        "points_requested": 45, "points": 45,
    }  # fmt: skip
    (transaction,) = await shop.transactions(sari)
    assert (transaction["id"], transaction["kind"], transaction["order_ref"]) == (
        recorded["transaction_id"], "earn", "INV-1001",
    )  # fmt: skip
    assert transaction["rules"] == recorded["rules"]
    assert transaction["occurred_at"] == "2026-11-01T09:30:00Z"


async def test_a_bare_total_is_enough(shop, sari):
    recorded = (await shop.buy(sari, total="45999.99")).json()
    assert (recorded["points"], recorded["rules"][0]["basis"]) == (45, "45999.99")


async def test_a_purchase_that_earns_nothing_is_recorded_without_a_transaction(shop, sari):
    answer = await shop.buy(sari, total="999.99")
    assert answer.status_code == 201
    assert (answer.json()["points"], answer.json()["transaction_id"]) == (0, None)
    assert await shop.transactions(sari) == []
    assert (await shop.get(sari, "purchases/INV-1"))["points"] == 0
    assert (await shop.buy(sari, total="999.99")).status_code == 200


async def test_skipped_rules_say_why(shop, sari):
    reasons = {
        "draft": {"status": "draft"},
        "christmas": {"window": {"from": "2026-12-24", "to": "2026-12-26"}},
        "large": {"min_spend": "100000"},
        "tea": {"filter": {"categories": ["tea"]}},
        "secret": {"code": "KOPI"},
    }
    for name, facts in reasons.items():
        await add_rule(shop, name=name, kind="per_visit", points=5, **facts)
    await add_rule(shop, name="capped", kind="per_visit", points=9, max_points_per_purchase=4)
    await add_rule(shop, name="strict", kind="per_visit", points=9, max_points_per_purchase=4, over_max="reject")
    recorded = (await shop.buy(sari)).json()
    assert [(row["name"], row["outcome"], row["reason"], row["points"]) for row in recorded["rules"]] == [
        ("base", "applied", "applied", 45), ("draft", "skipped", "inactive", 0),
        ("christmas", "skipped", "outside_window", 0), ("large", "skipped", "below_min_spend", 0),
        ("tea", "skipped", "no_matching_lines", 0), ("secret", "skipped", "code_missing", 0),
        ("capped", "applied", "trimmed", 4), ("strict", "skipped", "rejected", 0),
    ]  # fmt: skip
    assert sum(row["points"] for row in recorded["rules"]) == recorded["points"] == 49
    assert recorded["rules"][6]["points_requested"] == 9
    again = (await shop.buy(sari, order_ref="INV-2", code="kopi")).json()
    assert again["points"] == 54


async def test_the_share_paid_with_points_earns_nothing(shop, sari):
    payments = [{"tender": "points", "amount": "15000"}, {"tender": "gift card", "amount": "30000"}]
    assert (await shop.buy(sari, payments=payments)).json()["points"] == 30


async def test_a_discount_on_the_order_is_shared_by_its_lines(shop, sari):
    await add_rule(shop, name="drinks", kind="per_amount", per="1000", filter={"categories": ["drinks"]})
    lines = [{**LINE, "quantity": "1", "category": "drinks"}, {**LINE, "sku": "CUP", "unit_price": "75000"}]
    lines[1]["quantity"] = "1"
    recorded = (await shop.buy(sari, total=None, lines=lines, discounts=[{"amount": "20000.00"}])).json()
    assert [(row["basis"], row["points"]) for row in recorded["rules"]] == [("80000.00", 80), ("20000.00", 20)]


# ---------------------------------------------------------------- once, whatever the retries


async def test_the_same_order_again_answers_what_is_stored_and_the_balance_of_today(shop, sari):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 50})
    first = (await shop.buy(sari)).json()
    await shop.award(sari, 100)
    await add_rule(shop, name="more", kind="per_visit", points=1000)
    again = await shop.buy(sari)
    assert again.status_code == 200
    assert without(again.json(), "balance", "tier") == without(first, "balance", "tier")
    balance = await shop.balance(sari)
    assert (again.json()["tier"], again.json()["balance"]) == (balance.pop("tier"), balance)
    assert (balance["available"], again.json()["tier"]["current"]["name"]) == (EARNED + 100, "Gold")
    assert len(await shop.transactions(sari)) == 2


@pytest.mark.parametrize(
    "same",
    [
        {"occurred_at": "2026-11-01T16:30:00+07:00"},
        {"occurred_at": "2026-11-01T09:30:00.000000Z"},
        {"discounts": [], "payments": [], "shipping": "0"},
        {"store": "Bandung", "till": "3"},
    ],
)
async def test_the_same_content_written_otherwise_is_the_same_order(shop, sari, same):
    assert (await shop.buy(sari)).status_code == 201
    assert (await shop.buy(sari, **same)).status_code == 200
    assert await shop.available(sari) == EARNED


@pytest.mark.parametrize(
    "other",
    [
        {"total": "45000.01"},
        {"occurred_at": "2026-11-01T09:30:01Z"},
        {"currency": "USD"},
        {"total": None, "lines": [LINE]},
        {"code": "KOPI"},
        {"payments": [{"tender": "cash", "amount": "45000"}]},
    ],
)
async def test_other_content_under_the_same_order_is_refused(shop, sari, session, other):
    await shop.buy(sari)
    before = await checksum(session)
    problem(await shop.buy(sari, **other), 409, "order_ref_reused")
    assert await checksum(session) == before


async def test_an_order_belongs_to_one_contact_in_each_program(shop, sari):
    budi, other = await shop.member(), await Shop.open(shop.client)
    await shop.buy(sari)
    problem(await shop.buy(budi), 409, "order_ref_reused")
    assert (await shop.buy(budi, program_id=other.program_id)).status_code == 201
    problem(await shop.redeem(budi, 1, order_ref="INV-1"), 409, "order_ref_reused")


async def test_an_order_first_seen_as_a_redemption_may_be_bought_by_the_same_contact_only(shop, sari):
    budi = await shop.member()
    await shop.award(sari, 10)
    await shop.redeem(sari, 5, order_ref="INV-1")
    problem(await shop.buy(budi), 409, "order_ref_reused")
    assert (await shop.buy(sari)).status_code == 201


# ---------------------------------------------------------------- reading


async def test_a_purchase_is_read_as_it_was_recorded(shop, sari):
    recorded = (await shop.buy(sari, total=None, lines=[LINE], store="Bandung")).json()
    kept = await shop.get(sari, "purchases/INV-1")
    assert kept.keys() == VIEW
    assert (kept["program_id"], kept["transaction_id"]) == (shop.program_id, recorded["transaction_id"])
    assert (kept["total"], kept["basis"], kept["points"]) == ("50000.00", "50000.00", 50)
    assert kept["rules"] == recorded["rules"]
    assert kept["content"]["lines"][0]["sku"] == "KOPI-1"
    assert kept["content"]["store"] == "Bandung"
    assert (await shop.get(sari, "purchases"))["items"] == [kept]


async def test_purchases_come_newest_first_and_pages_add_up(shop, sari):
    for day, order_ref in ((3, "A"), (1, "B"), (2, "C"), (2, "D"), (2, "E")):
        await shop.buy(sari, order_ref=order_ref, occurred_at=f"2026-11-0{day}T00:00:00Z")
    pages, cursor = [], ""
    while cursor is not None:
        page = await shop.get(sari, f"purchases?limit=2{cursor and f'&cursor={cursor}'}")
        pages += [one["order_ref"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert pages == ["A", "E", "D", "C", "B"]


@pytest.mark.parametrize(
    "order_ref", ["INV 1/ü?#&=%", "..", "a" * 200, "\u202e", "😀", "'; DROP TABLE purchases; --", "null"]
)
async def test_an_order_reference_is_text_whatever_it_looks_like(shop, sari, order_ref):
    assert (await shop.buy(sari, order_ref=order_ref)).json()["order_ref"] == order_ref
    assert (await shop.buy(sari, order_ref=f"  {order_ref} ")).status_code == 200
    assert [one["order_ref"] for one in (await shop.get(sari, "purchases"))["items"]] == [order_ref]
    assert (await shop.redeem(sari, 45, order_ref=order_ref)).status_code == 409


async def test_what_is_not_there_is_not_found(shop, sari):
    await shop.buy(sari)
    budi = await shop.member()
    for path in (f"{sari}/purchases/INV-2", f"{budi}/purchases/INV-1", f"{NOBODY}/purchases/INV-1"):
        problem(await shop.client.get(f"/v1/contacts/{path}"), 404, "purchase_not_found")
    problem(await shop.buy(NOBODY, order_ref="INV-2"), 404, "contact_not_found")
    problem(await shop.buy(sari, order_ref="INV-2", program_id=str(uuid7())), 404, "program_not_found")


async def test_a_list_of_nobody_or_in_no_program_is_not_found(shop, sari):
    problem(await shop.client.get(f"/v1/contacts/{NOBODY}/purchases"), 404, "contact_not_found")
    problem(await shop.client.get(f"/v1/contacts/{sari}/purchases?program={uuid7()}"), 404, "program_not_found")


async def test_where_no_program_is_there_one_is_required(client):
    shop = Shop(client, "")
    sari = await shop.member()
    problem(await shop.buy(sari), 422, "program_required")


async def test_a_purchase_is_on_the_timeline_with_where_it_was(shop, sari, session):
    recorded = (await shop.buy(sari, store="Bandung", till="3")).json()
    (row,) = await session.fetch("SELECT * FROM interactions WHERE contact_id = $1", sari)
    assert (row["channel"], row["kind"], row["id"]) == ("shop", "purchase", UUID(recorded["transaction_id"]))
    assert row["occurred_at"] == datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    assert row["data"] == {
        "program_id": shop.program_id, "order_ref": "INV-1", "total": "45000.00", "currency": "IDR", "points": 45,
        "transaction_id": recorded["transaction_id"], "store": "Bandung", "till": "3",
    }  # fmt: skip


# ---------------------------------------------------------------- refused


async def test_another_currency_is_refused(shop, sari, session):
    before = await checksum(session)
    problem(await shop.buy(sari, currency="USD"), 422, "currency_mismatch")
    assert await checksum(session) == before


async def test_a_purchase_of_the_day_after_tomorrow_is_refused(shop, sari):
    for days, status in ((0.9, 201), (1.1, 422)):
        occurred_at = (datetime.now(UTC) + timedelta(days=days)).isoformat()
        answer = await shop.buy(sari, order_ref=f"INV-{status}", occurred_at=occurred_at)
        assert answer.status_code == status
    problem(answer, 422, "occurred_in_the_future")


BAD_AMOUNTS = [
    "1" * 30, "1." + "1" * 30, "1234567890123456", "0.1234567", "-1", "-0.01", "1e3", "1,5", " 1", "", "NaN",
    "Infinity", "٣", "0x10", "+1", "1_000", ".5", "5.", 1, 1.5, 0.1, True, [], {},
]  # fmt: skip
BAD_REFS = ["", "   ", "x" * 201, "a\x00b", 5, True, None, ["x"]]


def _bad(name: str, values: list[Any], **facts: Any) -> list[Any]:
    return [pytest.param({**facts, name: value}, f"/{name}", id=f"{name}={str(value)[:40]!r}") for value in values]


def _bad_line(name: str, values: list[Any]) -> list[Any]:
    return [
        pytest.param({"total": None, "lines": [LINE, {**LINE, name: value}]}, f"/lines/1/{name}", id=f"line {value!r}")
        for value in values
    ]


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        *_bad("total", BAD_AMOUNTS),
        *_bad("shipping", ["1" * 30, "-1", 1, 0.5]),
        *_bad("shipping_tax", ["1" * 30, "-1", 1, 0.5]),
        *_bad("order_ref", [value for value in BAD_REFS if value is not None]),
        *_bad("currency", ["idr", "ID", "", 360, True]),
        *_bad(
            "occurred_at",
            ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
             "2026-11-01T09:30:00", "2026-11-01", 1793525400, ""],
        ),
        *_bad("code", [value for value in BAD_REFS if value is not None]),
        *_bad("store", ["", "a\x00", 5]),
        *_bad("points", [100]),
        *_bad("price", ["1"]),
        *_bad("program_id", ["x", 5]),
        *_bad("lines", [[], "x", {}], total=None),
        *_bad_line("quantity", ["-1", 1, "1" * 16, "1e2", None]),
        *_bad_line("unit_price", ["-1", 1.5, "1" * 30, "", None]),
        *_bad_line("tax", ["-1", 1.5, "1" * 30]),
        *_bad_line("sku", BAD_REFS),
        *_bad_line("category", ["", "a\x00", 5]),
        *_bad_line("labels", ["x", {}, ["x"] * 51]),
        *_bad_line("discount", ["1"]),
        pytest.param({"total": None, "lines": [{"sku": "A", "quantity": "1"}]}, "/lines/0/unit_price", id="no price"),
        pytest.param({"discounts": [{"amount": "-1"}]}, "/discounts/0/amount", id="negative discount"),
        pytest.param({"discounts": [{"amount": "1", "line": -1}]}, "/discounts/0/line", id="line -1"),
        pytest.param({"discounts": [{"amount": "1", "line": 1.0}]}, "/discounts/0/line", id="line 1.0"),
        pytest.param({"payments": [{"tender": "", "amount": "1"}]}, "/payments/0/tender", id="no tender"),
        pytest.param({"payments": [{"tender": "cash", "amount": 1}]}, "/payments/0/amount", id="number"),
        pytest.param({"lines": [LINE]}, "", id="lines and total"),
        pytest.param({"total": None}, "", id="neither lines nor total"),
        pytest.param({"total": None, "lines": [LINE], "discounts": [{"amount": "1", "line": 1}]}, "", id="line 1 of 1"),
        pytest.param({"discounts": [{"amount": "1", "line": 0}]}, "", id="line 0 of a total"),
        pytest.param({"currency": None}, "/currency", id="no currency"),
        pytest.param({"order_ref": None}, "/order_ref", id="no order"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused_with_its_place_and_changes_nothing(shop, sari, session, facts, pointer):
    before = await checksum(session)
    answer = await shop.buy(sari, **facts)
    assert answer.status_code == 422, answer.text
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize("name", ["order_ref", "code", "sku"])
async def test_a_lone_surrogate_is_refused_and_changes_nothing(shop, sari, session, name):
    before = await checksum(session)
    order = b'{"order_ref": "A", "occurred_at": "2026-11-01T09:30:00Z", "currency": "IDR", "lines": [%s]%s}'
    line = b'{"quantity": "1", "unit_price": "1", "sku": "%s"}' % (b"\\udc80" if name == "sku" else b"A")
    more = b', "%s": "\\udc80"' % name.encode() if name == "code" else b""
    body = order % (line, more)
    if name == "order_ref":
        body = body.replace(b'"A", "occurred_at"', b'"\\udc80", "occurred_at"')
    answer = await shop.client.post(
        f"/v1/contacts/{sari}/purchases", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 422}, answer.text
    assert await checksum(session) == before


# ---------------------------------------------------------------- the largest

HUGE = {**LINE, "quantity": BIGGEST, "unit_price": BIGGEST}


async def test_an_order_that_earns_more_than_a_balance_holds_is_refused(shop, sari, session):
    before = await checksum(session)
    problem(await shop.buy(sari, total=None, lines=[HUGE] * 1000), 422, "points_out_of_range")
    assert await checksum(session) == before


@pytest.mark.parametrize("over_max", ["trim", "reject"])
async def test_an_order_of_any_size_can_be_capped(shop, sari, over_max):
    (base,) = (await shop.client.get(f"/v1/programs/{shop.program_id}/earning-rules")).json()["items"]
    await shop.client.delete(f"/v1/programs/{shop.program_id}/earning-rules/{base['id']}")
    await add_rule(
        shop, name="capped", kind="per_amount", points=10**9, per="0.000001", max_points_per_purchase=7,
        over_max=over_max,
    )  # fmt: skip
    answer = await shop.buy(sari, total=None, lines=[HUGE] * 1000)
    assert answer.status_code == 201, answer.text
    assert answer.json()["points"] == (7 if over_max == "trim" else 0)
    again = await shop.buy(sari, total=None, lines=[HUGE] * 1000)
    assert again.status_code == 200, again.text
    assert without(again.json(), "balance", "tier") == without(answer.json(), "balance", "tier")


async def test_amounts_keep_every_digit(shop, sari):
    recorded = (await shop.buy(sari, total=BIGGEST)).json()
    assert recorded["rules"][0]["basis"] == BIGGEST
    assert (await shop.get(sari, "purchases/INV-1"))["total"] == BIGGEST
    assert recorded["points"] == 999999999999


# ---------------------------------------------------------------- by identity and in batches


async def test_a_purchase_by_an_unknown_phone_makes_a_contact_who_owns_it(shop, session):
    phone = {"kind": "phone", "value": "+62 812-3456-789"}
    first = await shop.client.post("/v1/purchases", json=ORDER | {"identity": phone})
    assert first.status_code == 201, first.text
    second = await shop.client.post(
        "/v1/purchases", json=ORDER | {"order_ref": "INV-2", "identity": {**phone, "value": "0812 3456 789"}}
    )
    assert second.json()["balance"]["available"] == 2 * EARNED
    assert await session.fetchval("SELECT count(*) FROM contacts") == 1
    again = await shop.client.post("/v1/purchases", json=ORDER | {"identity": phone})
    assert (again.status_code, again.json()["transaction_id"]) == (200, first.json()["transaction_id"])


async def test_a_refused_purchase_makes_no_contact(shop, session):
    before = await checksum(session)
    body = ORDER | {"identity": {"kind": "card", "value": "4711"}, "currency": "USD"}
    problem(await shop.client.post("/v1/purchases", json=body), 422, "currency_mismatch")
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "identity", [None, {}, {"kind": "phone"}, {"kind": "phone", "value": "x"}, {"kind": "Phone", "value": "1"}]
)
async def test_a_purchase_by_nobody_is_refused(shop, session, identity):
    before = await checksum(session)
    answer = await shop.client.post("/v1/purchases", json=ORDER | {"identity": identity})
    assert answer.status_code == 422, answer.text
    assert await checksum(session) == before


async def test_a_batch_is_the_same_purchases_one_by_one(shop, sari):
    budi, anna = await shop.member(), await shop.member()
    orders = [
        (sari, {}), (sari, {}), (budi, {}), (sari, {"order_ref": "INV-2"}), (sari, {"total": "1.00"}),
        (NOBODY, {"order_ref": "INV-3"}), (budi, {"order_ref": "INV-4", "currency": "USD"}),
        (budi, {"order_ref": "INV-5"}),
    ]  # fmt: skip
    items = [{"contact_id": str(one), **ORDER, **facts} for one, facts in orders]
    answer = await shop.client.post("/v1/purchases/batch", json={"items": items})
    assert answer.status_code == 200, answer.text
    batch = answer.json()["items"]
    assert [one["status"] for one in batch] == [201, 200, 409, 201, 409, 404, 422, 201]
    twin = {sari: anna, budi: await shop.member(), NOBODY: NOBODY}
    other = await Shop.open(shop.client)
    for one, (contact_id, facts) in zip(batch, orders, strict=True):
        single = await other.buy(twin[contact_id], **facts, program_id=other.program_id)
        assert single.status_code == one["status"]
        if single.is_success:
            for name in ("points", "order_ref"):
                assert single.json()[name] == one["body"][name]
            assert single.json()["balance"]["available"] == one["body"]["balance"]["available"]
        else:
            assert single.json()["code"] == one["problem"]["code"]
    assert batch[0]["body"]["transaction_id"] == batch[1]["body"]["transaction_id"]
    assert [await shop.available(one) for one in (sari, budi)] == [2 * EARNED, EARNED]
