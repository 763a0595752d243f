"""What a member sees and does under `/v1/me`: all that is theirs, nothing of anybody else, nothing of the staff."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.api.auth import MEMBER
from crm.app import create_app
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.interactions import shown, timeline
from tests.loyalty.shop import EARNED, ORDER, PROGRAM, RULE, Shop, at_once, checksum, statuses

ENTRY = {"id", "occurred_at", "channel", "kind", "direction", "subject", "body", "data"}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


@pytest.fixture
async def member(shop: Shop, sari: UUID) -> Any:
    """The API as Sari."""
    return await shop.signed_in(sari)


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    return document


async def seen(member: Any, path: str = "", **params: Any) -> Any:
    answer = await member.get(f"/v1/me{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def whole(member: Any, path: str, **params: Any) -> list[dict[str, Any]]:
    """All pages of a list, one after the other."""
    items: list[dict[str, Any]] = []
    page = await seen(member, path, **params)
    while (cursor := page["next_cursor"]) is not None:
        items += page["items"]
        page = await seen(member, path, **params, cursor=cursor)
        assert page["next_cursor"] != cursor
    return items + page["items"]


# ---------------------------------------------------------------- who is signed in


async def test_a_member_sees_who_they_are_and_not_what_staff_wrote(shop, client):
    contact = (
        await client.post(
            "/v1/contacts",
            json={
                "name": "Sari Dewi", "given_name": "Sari", "family_name": "Dewi", "locale": "id-ID",
                "time_zone": "Asia/Jakarta", "birth_on": "1990-03-10", "tags": ["difficult"],
                "attributes": {"margin": 7},
                "identities": [
                    {"kind": "phone", "value": "0812-3456-789", "verified": True},
                    {"kind": "email", "value": "Sari@Example.com"},
                    {"kind": "card", "value": "6012 3456"},
                    {"kind": "messenger", "value": "24680", "account": "page-1"},
                    {"kind": "old_till", "value": "S-17"},
                ],
            },
        )
    ).json()  # fmt: skip
    member = await shop.signed_in(contact["id"])
    assert await seen(member) == {
        "id": contact["id"], "name": "Sari Dewi", "given_name": "Sari", "locale": "id-ID",
        "identities": [
            {"kind": "phone", "value": "+628123456789", "verified": True},
            {"kind": "email", "value": "sari@example.com", "verified": False},
            {"kind": "card", "value": "60123456", "verified": False},
        ],
        "program": {"id": shop.program_id, "name": PROGRAM["name"]}, "tier": None,
    }  # fmt: skip


async def test_before_there_is_a_program_a_member_is_in_none(client):
    contact_id = (await client.post("/v1/contacts", json={"name": "Sari"})).json()["id"]
    token = (await client.post(f"/v1/contacts/{contact_id}/member-tokens", json={})).json()["token"]
    member = client.holding(token)
    me = await seen(member)
    assert (me["name"], me["program"], me["tier"]) == ("Sari", None, None)
    problem(await member.get("/v1/me/loyalty"), 422, "program_required")
    problem(await member.post("/v1/me/redemptions", json={"points": 1}), 422, "program_required")


async def test_a_member_is_told_their_tier_by_its_name(shop, sari, member):
    await shop.client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 100})
    await shop.award(sari, 99)
    assert (await seen(member))["tier"] is None
    await shop.award(sari, 1)
    assert (await seen(member))["tier"] == "Gold"


# ---------------------------------------------------------------- points


async def test_a_member_reads_the_balance_that_the_shop_reads(shop, sari, member):
    await shop.award(sari, 30, expires_at="2031-01-01T00:00:00Z")
    assert await seen(member, "/loyalty") == await shop.balance(sari)
    assert await seen(member, "/loyalty", program=shop.program_id) == await shop.balance(sari)
    problem(await member.get(f"/v1/me/loyalty?program={uuid7()}"), 404, "program_not_found")
    problem(await member.get(f"/v1/me/loyalty?contact_id={uuid7()}"), 422, "invalid")


async def test_a_member_reads_their_transactions_without_who_posted_them(shop, sari, member):
    (await shop.award(sari, 30, note="He shouted at Rina")).raise_for_status()
    (await shop.adjust(sari, -5)).raise_for_status()
    redemption = (await shop.redeem(sari, 3, order_ref="R-1")).json()
    (await shop.reverse(sari, redemption["id"], reason="cancelled")).raise_for_status()
    theirs = await seen(member, "/points-transactions")
    ours = await shop.transactions(sari)
    hidden = {"by", "seq", "rules"}
    assert [{k: v for k, v in one.items() if k != "rules"} for one in theirs["items"]] == [
        {k: v for k, v in one.items() if k not in hidden} for one in ours
    ]
    assert [one["rules"] for one in theirs["items"]] == [[], [], [], []]
    assert theirs["next_cursor"] is None
    assert "key:" not in str(theirs)
    assert "Rina" not in str(theirs)


async def test_a_member_sees_what_each_rule_gave_and_not_the_rules_that_gave_nothing(shop, sari, member):
    secret = RULE | {"name": "For those who know the word", "code": "SESAME"}
    path = f"/v1/programs/{shop.program_id}/earning-rules"
    assert (await shop.client.post(path, json=secret)).status_code == 201
    bought = (await shop.buy(sari)).json()
    assert {rule["reason"] for rule in bought["rules"]} == {"applied", "code_missing"}
    (transaction,) = (await seen(member, "/points-transactions"))["items"]
    assert transaction["rules"] == [{"name": "base", "points": EARNED}]
    assert transaction["order_ref"] == ORDER["order_ref"]
    assert "word" not in str(await seen(member, "/timeline"))


async def test_pages_of_a_members_transactions_are_the_whole_list(shop, sari, member):
    for points in range(1, 8):
        await shop.award(sari, points)
    items = await whole(member, "/points-transactions", limit=3)
    assert [one["points"] for one in items] == [7, 6, 5, 4, 3, 2, 1]
    problem(await member.get("/v1/me/points-transactions?cursor=W10"), 400, "broken_cursor")


# ---------------------------------------------------------------- redemptions


async def test_a_member_pays_with_points_and_the_books_say_who_did_it(shop, sari, member, session):
    await shop.award(sari, 50)
    answer = await member.post("/v1/me/redemptions", json={"points": 20, "order_ref": "WEB-1"})
    assert answer.status_code == 201
    made = answer.json()
    balance = await shop.balance(sari)
    balance.pop("tier")
    assert made == {
        "id": made["id"], "points": 20, "status": "redeemed", "reward_id": None, "quantity": 1, "voucher": None,
        "balance": balance,
    }  # fmt: skip
    assert balance["available"] == 30
    assert (await shop.transactions(sari))[0]["by"] == "member"
    assert await session.fetchval("SELECT by FROM interactions WHERE id = $1", UUID(made["id"])) == "member"

    (listed,) = (await seen(member, "/redemptions"))["items"]
    assert listed == await seen(member, f"/redemptions/{made['id']}")
    assert listed == await shop.get(sari, f"redemptions/{made['id']}")
    assert (listed["points"], listed["order_ref"]) == (20, "WEB-1")


async def test_a_member_cannot_pay_with_more_than_there_is(shop, sari, member, session):
    await shop.award(sari, 50)
    before = await checksum(session)
    refusal = problem(await member.post("/v1/me/redemptions", json={"points": 51}), 409, "insufficient_points")
    assert (refusal["required"], refusal["available"], refusal["missing"]) == (51, 50, 1)
    assert await checksum(session) == before


@pytest.mark.parametrize(
    "body",
    [
        {}, {"points": 0}, {"points": -1}, {"points": "1"}, {"points": 1.0}, {"points": True}, {"points": 2**63},
        {"points": 1, "order_ref": " "}, {"points": 1, "order_ref": "a\x00"}, {"points": 1, "program_id": "x"},
        *({"points": 1, name: "x"} for name in ("contact_id", "store", "till", "by", "reward", "note")),
    ],
)  # fmt: skip
async def test_a_redemption_that_is_not_what_was_asked_for_changes_nothing(shop, sari, member, session, body):
    await shop.award(sari, 50)
    before = await checksum(session)
    problem(await member.post("/v1/me/redemptions", json=body), 422, "invalid")
    assert await checksum(session) == before


async def test_a_members_key_gets_the_first_answer_and_outlives_the_token(shop, sari, member):
    await shop.award(sari, 50)
    headers = {"Idempotency-Key": "k"}
    first = await member.post("/v1/me/redemptions", json={"points": 20}, headers=headers)
    again = await member.post("/v1/me/redemptions", json={"points": 20}, headers=headers)
    renewed = await shop.signed_in(sari)
    later = await renewed.post("/v1/me/redemptions", json={"points": 20}, headers=headers)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    for answer in (again, later):
        assert (answer.status_code, answer.json()) == (201, first.json())
        assert answer.headers["idempotency-replayed"] == "true"
    assert await shop.available(sari) == 30
    problem(await member.post("/v1/me/redemptions", json={"points": 1}, headers=headers), 422, "idempotency_key_reused")


async def test_two_members_may_have_the_same_key(shop, sari, member):
    budi = await shop.member(points=50)
    await shop.award(sari, 50)
    for one in (member, await shop.signed_in(budi)):
        answer = await one.post("/v1/me/redemptions", json={"points": 20}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 201
        assert "idempotency-replayed" not in answer.headers
    assert [await shop.available(one) for one in (sari, budi)] == [30, 30]


async def test_a_member_spends_points_on_an_order_once(shop, sari, member):
    await shop.award(sari, 50)
    first = await member.post("/v1/me/redemptions", json={"points": 20, "order_ref": "WEB-1"})
    again = await member.post("/v1/me/redemptions", json={"points": 20, "order_ref": "WEB-1"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    other = await member.post("/v1/me/redemptions", json={"points": 21, "order_ref": "WEB-1"})
    problem(other, 409, "order_ref_reused")
    assert await shop.available(sari) == 30
    # At the till it is the same order, once it is known to be hers.
    assert (await shop.buy(sari, order_ref="WEB-1")).status_code == 201
    assert (await shop.redeem(sari, 20, order_ref="WEB-1")).json()["id"] == first.json()["id"]
    assert await shop.available(sari) == 30 + EARNED


async def test_a_till_that_does_not_know_of_a_members_redemption_spends_nothing_twice(shop, sari, member):
    await shop.award(sari, 50)
    await member.post("/v1/me/redemptions", json={"points": 20, "order_ref": "WEB-1"})
    assert (await shop.redeem(sari, 20, order_ref="WEB-1")).status_code == 409
    assert await shop.available(sari) == 30


async def test_points_of_an_order_do_not_pay_for_it(shop, sari, member):
    await shop.buy(sari)
    refused = await member.post("/v1/me/redemptions", json={"points": 1, "order_ref": ORDER["order_ref"]})
    problem(refused, 409, "insufficient_points")


async def test_a_member_can_neither_take_nor_find_out_the_order_of_somebody_else(shop, sari, member):
    budi = await shop.member(points=10)
    await shop.award(sari, 50)
    assert (await shop.redeem(budi, 5, order_ref="INV-7")).status_code == 201
    answers = [
        await member.post("/v1/me/redemptions", json={"points": 5, "order_ref": ref}) for ref in ("INV-7", "INV-8")
    ]
    assert statuses(answers) == {201: 2}
    assert (await shop.buy(budi, order_ref="INV-7")).status_code == 201
    assert (await shop.buy(budi, order_ref="INV-8")).status_code == 201


async def test_a_member_who_pays_twice_at_once_pays_with_what_is_there(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member(points=50)
    member = await shop.signed_in(sari)
    answers = await at_once(*(member.post("/v1/me/redemptions", json={"points": 30}) for _ in range(8)))
    assert statuses(answers) == {201: 1, 409: 7}
    ordered = {"points": 5, "order_ref": "WEB-1"}
    answers = await at_once(*(member.post("/v1/me/redemptions", json=ordered) for _ in range(8)))
    assert statuses(answers) == {201: 1, 200: 7}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await shop.available(sari) == 15


# ---------------------------------------------------------------- the timeline


async def put(session: Session, contact_id: UUID, *entries: dict[str, Any]) -> list[UUID]:
    """Put entries on a timeline, as packages do beside their facts; each a minute after the one before."""
    rows = [
        timeline.entry(
            contact_id,
            **{
                "channel": "loyalty", "by": "staff:Rina", "occurred_at": NOON + timedelta(minutes=minute),
                "recorded_at": NOON,
            } | fields,
        )
        for minute, fields in enumerate(entries)
    ]  # fmt: skip
    await writes.write(session, [timeline.part(rows)])
    return [row[1] for row in rows]


SHOWN = [
    *({"kind": "message", "direction": direction} for direction in ("inbound", "outbound")),
    *({"kind": kind} for kind in (
        "purchase", "purchase.refunded", "points.earned", "points.redeemed", "points.expired", "tier.changed",
        "reward.redeemed", "voucher.issued", "challenge.completed", "referral.rewarded", "offer.claimed",
        "survey.answered", "membership.paused",
    )),
    {"kind": "survey.sent", "direction": "outbound"},
]  # fmt: skip
HIDDEN = [
    {"kind": "message"},
    *({"kind": kind, "direction": "internal"} for kind in ("message", "note", "survey.flagged", "points.earned")),
    *({"kind": "note", "direction": direction} for direction in (None, "inbound", "outbound")),
    *({"kind": kind} for kind in (
        "visit", "call", "contact.created", "contact.updated", "contact.merged", "case.opened", "consent.granted",
        "playbook.run", "message.delivered", "messages", "pointsman", "point", "purchased", "tiers.changed", "",
        "note.purchase", "Points.earned", "%",
    )),
]  # fmt: skip


@pytest.mark.parametrize("fields", SHOWN, ids=str)
async def test_what_concerns_the_member_is_shown(sari, member, session, fields):
    (entry_id,) = await put(session, sari, fields)
    (entry,) = (await seen(member, "/timeline"))["items"]
    assert entry.keys() == ENTRY
    assert (entry["id"], entry["kind"], entry["direction"]) == (str(entry_id), fields["kind"], fields.get("direction"))


@pytest.mark.parametrize("fields", HIDDEN, ids=str)
async def test_what_is_the_staffs_is_not_shown(sari, member, session, fields):
    await put(session, sari, fields)
    assert await seen(member, "/timeline") == {"items": [], "next_cursor": None}


def test_what_is_shown_of_facts_can_be_reported_by_nobody():
    assert shown.FACTS.keys() <= timeline.RESERVED_KINDS
    assert shown.MESSAGE not in timeline.RESERVED_KINDS


async def test_a_message_is_shown_with_its_words_and_a_fact_without(shop, sari, member):
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": "2026-11-01T09:30:00Z",
        "subject": "Order", "body": "Is it ready?", "data": {"agent": "Rina"}, "source": "desk",
        "external_id": "wamid.X", "thread_id": str(uuid7()), "case_id": str(uuid7()),
    }  # fmt: skip
    posted = (await shop.post(sari, "interactions", message)).json()
    awarded = (await shop.award(sari, 5, note="He shouted at Rina", store="Bandung", till="3")).json()
    fact, said = (await seen(member, "/timeline"))["items"]
    assert said == {
        "id": posted["id"], "occurred_at": "2026-11-01T09:30:00Z", "channel": "whatsapp", "kind": "message",
        "direction": "inbound", "subject": "Order", "body": "Is it ready?", "data": {},
    }  # fmt: skip
    assert (fact["kind"], fact["subject"], fact["body"]) == ("points.earned", None, None)
    assert fact["data"] == {
        "transaction_id": awarded["transaction_id"], "program_id": shop.program_id, "points": 5, "available_after": 5,
        "reason": "goodwill", "store": "Bandung",
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*shown.FACTS, "message"])
async def test_of_the_data_of_a_fact_only_what_is_known_is_shown(sari, member, session, kind):
    secrets = {
        "till": "3",
        "by": "Rina",
        "note": "rude",
        "contact_id": str(uuid7()),
        "to_contact_id": str(uuid7()),
        "x": 1,
    }
    known = dict.fromkeys(shown.FACTS.get(kind, ()), 1)
    await put(
        session, sari, {"kind": kind, "direction": "inbound", "data": secrets | known, "body": "b", "subject": "s"}
    )
    (entry,) = (await seen(member, "/timeline"))["items"]
    assert entry["data"] == known


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 50, 200])
async def test_pages_of_a_members_timeline_are_all_that_is_shown(sari, member, session, limit):
    kinds = [each for pair in zip(SHOWN * 3, HIDDEN * 3, strict=False) for each in pair]
    same_instant = {"occurred_at": NOON}
    ids = await put(session, sari, *kinds, *(each | same_instant for each in kinds))
    rows = await session.fetch(
        "SELECT id, kind, direction FROM interactions WHERE contact_id = $1 ORDER BY occurred_at DESC, id DESC", sari
    )
    expected = [
        str(row["id"]) for row in rows
        if any((each["kind"], each.get("direction")) == (row["kind"], row["direction"]) for each in SHOWN)
    ]  # fmt: skip
    assert len(ids) == len(rows) > len(expected) > 50
    found = [entry["id"] for entry in await whole(member, "/timeline", limit=limit)]
    assert found == expected


async def test_a_page_looks_at_a_bounded_part_of_the_timeline_and_loses_nothing(sari, member, session):
    await put(session, sari, {"kind": "purchase", "occurred_at": NOON - timedelta(days=1)})
    await session.execute(
        """
        INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, direction, by)
        SELECT $1, gen_random_uuid(), $2::timestamptz + n * interval '1 second', $2, 'desk',
            CASE WHEN n = 1500 THEN 'points.earned' ELSE 'note' END, NULL, 'staff' FROM generate_series(1, $3::int) n
        """,
        sari, NOON, 2 * shown.READ_MAX + 1,
    )  # fmt: skip
    pages = [await seen(member, "/timeline")]
    while pages[-1]["next_cursor"]:
        pages.append(await seen(member, "/timeline", cursor=pages[-1]["next_cursor"]))
    assert [[entry["kind"] for entry in page["items"]] for page in pages] == [["points.earned"], [], ["purchase"]]


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("last", ["purchase", "note"])
async def test_the_end_of_what_a_page_looks_at_is_no_edge(sari, member, session, last, behind):
    """The last row that is looked at is shown or not, and there is something behind it or not."""
    await session.execute(
        """
        INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, by)
        SELECT $1, gen_random_uuid(), $2::timestamptz - n * interval '1 second', $2, 'desk',
            CASE WHEN n > $3 THEN 'tier.changed' WHEN n = $3 THEN $4 WHEN n <= 5 THEN 'points.earned' ELSE 'note' END,
            'staff' FROM generate_series(1, $3::int + $5::int) n
        """,
        sari, NOON, shown.READ_MAX, last, behind,
    )  # fmt: skip
    expected = ["points.earned"] * 5 + ["purchase"] * (last == "purchase") + ["tier.changed"] * behind
    for limit in (1, 4, 5, 6, 7, 8, 50):
        assert [entry["kind"] for entry in await whole(member, "/timeline", limit=limit)] == expected, limit


@pytest.mark.parametrize(
    "query", ["kind=note", "channel=desk", "limit=0", "limit=201", "cursor=", "cursor=zz", "from=x"]
)
async def test_a_members_timeline_takes_no_other_parameters(member, query):
    assert (await member.get(f"/v1/me/timeline?{query}")).status_code in (400, 422)


# ---------------------------------------------------------------- nobody else's

APP, _ = create_app(lambda: None)
NOBODYS = {"redemption_id": uuid7(), "offer_id": uuid7(), "reply_id": uuid7()}
NOT_FOUND = {
    "redemption_id": "redemption_not_found", "offer_id": "offer_not_found", "reply_id": "assistant_reply_not_found",
}  # fmt: skip
READ = sorted(
    route.path
    for route in APP.routes
    for handler in getattr(route, "route_handlers", ())
    if "GET" in handler.http_methods and handler.opt["scopes"] == MEMBER
)


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "request_id"}


@pytest.mark.parametrize("path", READ)
async def test_a_member_never_sees_anything_of_another(shop, client, path):
    people = {}
    for name, phone in (("Sari Dewi", "+628123456789"), ("Budi Santoso", "+628987654321")):
        contact = (
            await client.post("/v1/contacts", json={"name": name, "identities": [{"kind": "phone", "value": phone}]})
        ).json()
        contact_id = UUID(contact["id"])
        order, redeemed = f"INV-{name[:4]}", f"R-{name[:4]}"
        await shop.buy(contact_id, order_ref=order)
        redemption = (await shop.redeem(contact_id, 7, order_ref=redeemed)).json()
        said = {"channel": "sms", "kind": "message", "direction": "inbound", "occurred_at": "2026-11-01T09:30:00Z"}
        message = (await shop.post(contact_id, "interactions", said | {"body": f"I am {name}"})).json()
        voucher = (
            await client.post(f"/v1/programs/{shop.program_id}/vouchers", json={"contact_id": str(contact_id)})
        ).json()
        named = {"audience": {"contact_ids": [str(contact_id)]}, "personal_code": True}
        benefit = {"kind": "voucher", "text": f"for {name}"}
        offer = (
            await client.post(
                f"/v1/programs/{shop.program_id}/offers", json={"name": f"Dear {name}", "benefit": benefit, **named}
            )
        ).json()
        [recipient] = (await client.get(f"/v1/programs/{shop.program_id}/offers/{offer['id']}/contacts")).json()[
            "items"
        ]
        words = [
            str(contact_id),
            name,
            phone,
            offer["id"],
            recipient["code"],
            order,
            redeemed,
            redemption["id"],
            message["id"],
            voucher["code"],
        ]
        reply = (await shop.post(contact_id, "assistant-replies", {"text": f"I am {name}"})).json()
        words += [reply["id"]]
        words += [transaction["id"] for transaction in await shop.transactions(contact_id)]
        people[contact_id] = (
            words,
            {"redemption_id": redemption["id"], "offer_id": offer["id"], "reply_id": reply["id"]},
        )
    (sari, (hers, mine)), (_, (his, another)) = people.items()
    member = await shop.signed_in(sari)
    if "{" in path:
        url = path.replace(":uuid", "")
        assert (await member.get(url.format(**mine))).status_code == 200
        answer, nobodys = await member.get(url.format(**another)), await member.get(url.format(**NOBODYS))
        assert not [word for word in his if word in answer.text]
        if path == "/v1/me/offers/{offer_id:uuid}/claims":
            assert answer.json() == nobodys.json() == {"items": [], "next_cursor": None}
            return
        code = next(code for name, code in NOT_FOUND.items() if name in path)
        assert without_ids(problem(answer, 404, code)) == without_ids(problem(nobodys, 404, code))
        return
    answer = await member.get(path)
    assert answer.status_code == 200
    assert not [word for word in his if word in answer.text]
    assert path in ("/v1/me/loyalty", "/v1/me/rewards") or [word for word in hers if word in answer.text]


async def test_a_member_sees_rewards_buys_one_and_has_its_voucher(shop, sari, member):
    await shop.award(sari, 150)
    body = {"name": "Coffee", "cost": 100, "fulfilment": "voucher"}
    reward = (await shop.client.post(f"/v1/programs/{shop.program_id}/rewards", json=body)).json()
    (choice,) = (await seen(member, "/rewards"))["items"]
    assert (choice["id"], choice["available"], choice["why_not"]) == (reward["id"], True, [])
    bought = await member.post("/v1/me/redemptions", json={"reward_id": reward["id"], "order_ref": "WEB-1"})
    assert (bought.status_code, bought.json()["status"], bought.json()["points"]) == (201, "issued", 100)
    again = await member.post("/v1/me/redemptions", json={"reward_id": reward["id"], "order_ref": "WEB-1"})
    assert (again.status_code, again.json()) == (200, bought.json())
    (voucher,) = (await seen(member, "/vouchers"))["items"]
    assert voucher["code"] == bought.json()["voucher"]["code"]
    problem(await member.post("/v1/me/redemptions", json={"reward_id": reward["id"]}), 409, "insufficient_points")
    (choice,) = (await seen(member, "/rewards"))["items"]
    assert choice["why_not"][0]["missing"] == 50
    entries = {entry["kind"]: entry["data"] for entry in (await seen(member, "/timeline"))["items"]}
    assert entries["reward.redeemed"]["name"] == entries["voucher.issued"]["name"] == "Coffee"
    assert entries["voucher.issued"]["code"] == voucher["code"]


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        ("", 2), ("/loyalty", 1), ("/points-transactions", 1), ("/redemptions", 1), ("/timeline", 1),
        ("/redemptions/{redemption_id}", 1),
    ],
)  # fmt: skip
async def test_a_read_asks_who_it_is_and_what_is_read(live_client, statements, path, reads):
    shop = await Shop.open(live_client)
    sari = await shop.member(points=50)
    member = await shop.signed_in(sari)
    redemption_id = (await member.post("/v1/me/redemptions", json={"points": 1})).json()["id"]
    await seen(member)
    statements.clear()
    await seen(member, path.format(redemption_id=redemption_id))
    assert [each.partition(" ")[0] for each in statements] == ["SELECT"] * (1 + reads)
    statements.clear()
    await member.post("/v1/me/redemptions", json={"points": 1})
    assert [each.partition(" ")[0] for each in statements] == ["SELECT", "BEGIN", "SELECT", "WITH", "COMMIT"]
