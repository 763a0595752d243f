"""Offers over HTTP: how they are made and changed, what is refused, and that nobody outside can see or guess one."""

from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.loyalty.market import DOUBLE, POINTS, VOUCHER, Market
from tests.loyalty.shelf import refused
from tests.loyalty.shop import checksum

NOBODY = UUID("0198f3a2-7c1e-7d50-b3a4-c5d6e7f80912")
NEW = {"name": "Thank you", "benefit": POINTS}
VIP = {"field": "tags", "op": "contains", "value": "vip"}


@pytest.fixture
async def market(client: Any) -> Market:
    return await Market.open(client)


@pytest.fixture
async def sari(market: Market) -> UUID:
    return await market.person(name="Sari", tags=["vip"])


@pytest.fixture
async def budi(market: Market) -> UUID:
    return await market.person(name="Budi")


# ---------------------------------------------------------------- how they are made


async def test_an_offer_needs_a_name_and_a_benefit(market):
    offer = await market.offer()
    assert offer == {
        "id": offer["id"], "program_id": market.program_id, "version": 1, "name": "Thank you", "description": None,
        "audience": None, "window": None, "benefit": POINTS, "claims_max": None, "claims_left": None,
        "claims_max_per_member": 1, "personal_code": False, "auto": False, "categories": None, "skus": None,
        "status": "active", "created_at": offer["created_at"], "updated_at": offer["created_at"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "benefit",
    [
        POINTS, VOUCHER, DOUBLE, {**VOUCHER, "uses_max": 3, "valid_days": 0, "text": "A cake"},
        {**DOUBLE, "filter": {"skus": ["KOPI-1"], "exclude_labels": ["sale"]}},
    ],
)  # fmt: skip
async def test_an_offer_is_read_as_it_was_written(market, sari, client, benefit):
    tier = await market.tier("Gold", 9)
    audience = {"condition": VIP, "tier_id": tier["id"]}
    facts = {
        "description": "For you.", "window": {"from": "2026-11-01", "weekdays": ["tue"], "hours": ["16:00", "18:00"]},
        "benefit": benefit, "claims_max": 5, "personal_code": True, "categories": ["coffee"], "skus": ["KOPI-1"],
        "status": "draft",
    }  # fmt: skip
    offer = await market.offer(sari, audience=audience, **facts)
    assert {name: offer[name] for name in facts} == facts
    assert offer["audience"] == audience | {"contacts_count": 1}
    assert await market.read_offer(offer) == offer
    assert (await client.get(market.offers)).json() == {"items": [offer], "next_cursor": None}


async def test_offers_are_listed_newest_first(market, client):
    made = [(await market.offer(name=f"Offer {number}"))["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = (await client.get(market.offers, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]


async def test_a_change_leaves_the_rest_as_it_was(market, sari):
    offer = await market.offer(sari, audience={"condition": VIP}, claims_max=9, description="x", personal_code=True)
    changed = await market.change_offer(offer, name="Dear Sari", description=None, claims_max_per_member=3)
    expected = offer | {
        "name": "Dear Sari", "description": None, "claims_max_per_member": 3, "version": 2,
        "updated_at": changed["updated_at"],
    }  # fmt: skip
    assert changed == expected
    assert (await market.change_offer(offer, claims_max_per_member=None))["claims_max_per_member"] == 1
    for name in ("name", "benefit"):
        refused(await market.ask_change_of_offer(offer, **{name: None}), 422, "invalid")


async def test_a_key_makes_one_offer_and_one_claim(market, sari, client):
    answers = [await market.ask_offer(key="K-1") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"
    [offer] = (await client.get(market.offers)).json()["items"]
    refused(await market.ask_offer(key="K-1", name="Another"), 422, "idempotency_key_reused")

    claims = [await market.claim(sari, offer, key="K-2") for _ in range(2)]
    assert [claim.status_code for claim in claims] == [201, 201]
    assert claims[0].content == claims[1].content
    assert claims[1].headers["idempotency-replayed"] == "true"
    assert await market.available(sari) == 50
    await market.end_offer(offer)
    assert (await market.claim(sari, offer, key="K-2")).content == claims[0].content
    refused(await market.claim(sari, offer, key="K-2", store="B"), 422, "idempotency_key_reused")


async def test_a_claim_is_kept_with_what_it_gave(market, sari, budi, client):
    points, voucher = await market.offer(), await market.offer(name="Cake", benefit=VOUCHER)
    given = [await market.claimed(sari, points), await market.claimed(sari, voucher)]
    kept = (await market.get(sari, "offer-claims"))["items"]
    assert [claim["id"] for claim in kept] == [given[1]["id"], given[0]["id"]]
    common = given[0].keys() - {"balance", "tier"}
    for claim, answer, offer in zip(reversed(kept), given, (points, voucher), strict=True):
        assert {name: claim[name] for name in common} == {name: answer[name] for name in common}
        assert (claim["offer_name"], claim["program_id"]) == (offer["name"], market.program_id)
        assert await market.get(sari, f"offer-claims/{claim['id']}") == claim
        refused(await client.get(f"/v1/contacts/{budi}/offer-claims/{claim['id']}"), 404, "claim_not_found")
    assert (await market.get(sari, f"offers/{voucher['id']}/claims"))["items"] == kept[:1]
    assert (await market.get(budi, "offer-claims"))["items"] == []
    first = await market.get(sari, "offer-claims?limit=1")
    assert (await market.get(sari, f"offer-claims?cursor={first['next_cursor']}"))["items"] == kept[1:]


async def test_a_claim_says_where_it_was(market, sari):
    offer = await market.offer()
    assert (await market.claim(sari, offer, store="Bandung", till="3")).status_code == 201
    told = {item["kind"]: item["data"] for item in (await market.get(sari, "timeline"))["items"]}
    assert (told["offer.claimed"]["store"], told["offer.claimed"]["till"]) == ("Bandung", "3")
    assert told["points.earned"]["store"] == "Bandung"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        pytest.param({"name": None}, "/name", id="no name"),
        pytest.param({"name": " "}, "/name", id="blank name"),
        pytest.param({"benefit": None}, "/benefit", id="no benefit"),
        pytest.param({"benefit": {}}, "/benefit/kind", id="benefit of no kind"),
        pytest.param({"benefit": {"kind": "cash"}}, "/benefit/kind", id="benefit of another kind"),
        pytest.param({"benefit": {"kind": "bonus_points"}}, "/benefit", id="no points"),
        pytest.param({"benefit": {"kind": "multiplier"}}, "/benefit", id="no factor"),
        pytest.param({"benefit": {"kind": "reward"}}, "/benefit", id="no reward"),
        pytest.param({"benefit": {**POINTS, "factor": "2"}}, "/benefit", id="points and a factor"),
        pytest.param({"benefit": {**DOUBLE, "text": "x"}}, "/benefit", id="a multiplier with a text"),
        pytest.param({"benefit": {**VOUCHER, "filter": {}}}, "/benefit", id="a voucher with a filter"),
        *(
            pytest.param({"benefit": {**POINTS, "points": points}}, "/benefit/points", id=f"points {points}")
            for points in (0, -1, 2**53, "50", 1.5, True)
        ),
        *(
            pytest.param({"benefit": {**DOUBLE, "factor": factor}}, "/benefit/factor", id=f"factor {factor}")
            for factor in (2, "-1", "1e3", "1001", "")
        ),
        pytest.param({"benefit": {**DOUBLE, "filter": {"sku": ["A"]}}}, "/benefit/filter/sku", id="unknown filter"),
        pytest.param({"benefit": {"kind": "reward", "reward_id": "x"}}, "/benefit/reward_id", id="reward by name"),
        pytest.param(
            {"benefit": {"kind": "reward", "reward_id": str(NOBODY)}}, "/benefit/reward_id", id="no such reward"
        ),
        pytest.param({"benefit": {**VOUCHER, "uses_max": 0}}, "/benefit/uses_max", id="a voucher without uses"),
        pytest.param({"benefit": {**VOUCHER, "valid_days": -1}}, "/benefit/valid_days", id="days"),
        pytest.param({"benefit": {**VOUCHER, "valid_days": 36_501}}, "/benefit/valid_days", id="too many days"),
        pytest.param({"benefit": {**VOUCHER, "text": "\u0000"}}, "/benefit/text", id="text with a NUL"),
        pytest.param({"audience": {"tier_id": str(NOBODY)}}, "/audience/tier_id", id="no such tier"),
        pytest.param({"audience": {"tier": "Gold"}}, "/audience/tier", id="tier by name"),
        pytest.param(
            {"audience": {"condition": {"field": "shoe_size", "op": "eq", "value": 1}}}, "/audience/condition/field",
            id="unknown fact",
        ),
        pytest.param({"audience": {"contact_ids": []}}, "/audience/contact_ids", id="nobody named"),
        pytest.param({"audience": {"contact_ids": ["Sari"]}}, "/audience/contact_ids/0", id="somebody by name"),
        pytest.param({"audience": {"contact_ids": [str(NOBODY)]}}, "/audience/contact_ids/0", id="a stranger"),
        pytest.param(
            {"audience": {"contact_ids": [str(UUID(int=each)) for each in range(10_001)]}}, "/audience/contact_ids",
            id="too many named",
        ),
        pytest.param({"window": {"from": "2026-11-02", "to": "2026-11-01"}}, "/window", id="window backwards"),
        pytest.param({"window": {"from": "9999-12-31"}}, "/window/from", id="window out of reach"),
        pytest.param({"window": {"to": "0001-01-01"}}, "/window/to", id="window before time"),
        *(
            pytest.param({name: value}, f"/{name}", id=f"{name} {value}")
            for name in ("claims_max", "claims_max_per_member") for value in (0, -1, 2**53, "1", 1.5, True)
        ),
        pytest.param({"benefit": DOUBLE, "claims_max_per_member": 2}, "/claims_max_per_member", id="claimed twice"),
        pytest.param({"auto": True}, "/auto", id="points without a claim"),
        pytest.param({"auto": True, "benefit": DOUBLE, "claims_max": 5}, "/auto", id="counted without a claim"),
        pytest.param({"auto": True, "benefit": DOUBLE, "personal_code": True}, "/auto", id="coded without a claim"),
        pytest.param({"auto": "yes"}, "/auto", id="auto"),
        pytest.param({"personal_code": 1}, "/personal_code", id="code"),
        pytest.param({"categories": "coffee"}, "/categories", id="one category"),
        pytest.param({"skus": ["A"] * 501}, "/skus", id="too many skus"),
        pytest.param({"status": "ended"}, "/status", id="status"),
        pytest.param({"reward_id": str(NOBODY)}, "/reward_id", id="unknown field"),
    ],
)  # fmt: skip
async def test_an_offer_that_is_not_valid_is_refused_and_changes_nothing(market, client, session, facts, pointer):
    offer = await market.offer()
    before = await checksum(session)
    body = {name: value for name, value in (NEW | facts).items() if value is not None}
    answers = [
        await client.post(market.offers, json=body),
        await client.patch(f"{market.offers}/{offer['id']}", json=facts),
    ]
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert await checksum(session) == before


async def test_every_stranger_among_the_named_is_pointed_out(market, sari, budi, session):
    before = await checksum(session)
    people = [str(sari), str(NOBODY), str(budi), str(uuid7())]
    problem = refused(await market.ask_offer(audience={"contact_ids": people}), 422, "unknown_contact")
    assert [error["pointer"] for error in problem["errors"]] == [
        "/audience/contact_ids/1", "/audience/contact_ids/3",
    ]  # fmt: skip
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "programs/{nobody}/offers", "program_not_found"),
        ("GET", "programs/{nobody}/offers", "program_not_found"),
        ("GET", "programs/{program}/offers/{nobody}", "offer_not_found"),
        ("GET", "programs/{nobody}/offers/{offer}", "offer_not_found"),
        ("PATCH", "programs/{program}/offers/{nobody}", "offer_not_found"),
        ("PATCH", "programs/{nobody}/offers/{offer}", "offer_not_found"),
        ("DELETE", "programs/{program}/offers/{nobody}", "offer_not_found"),
        ("DELETE", "programs/{nobody}/offers/{offer}", "offer_not_found"),
        ("GET", "programs/{program}/offers/{nobody}/contacts", "offer_not_found"),
        ("GET", "programs/{nobody}/offers/{offer}/contacts", "offer_not_found"),
        ("GET", "contacts/{nobody}/offers", "contact_not_found"),
        ("GET", "contacts/{sari}/offers?program={nobody}", "program_not_found"),
        ("GET", "contacts/{nobody}/offers/{offer}", "contact_not_found"),
        ("GET", "contacts/{sari}/offers/{nobody}", "offer_not_found"),
        ("GET", "contacts/{nobody}/offers/{offer}/code", "contact_not_found"),
        ("PUT", "contacts/{nobody}/offers/{offer}/code", "contact_not_found"),
        ("PUT", "contacts/{sari}/offers/{nobody}/code", "offer_not_found"),
        ("POST", "contacts/{nobody}/offers/{offer}/claims", "contact_not_found"),
        ("POST", "contacts/{nobody}/offers/{nobody}/claims", "contact_not_found"),
        ("POST", "contacts/{sari}/offers/{nobody}/claims", "offer_not_found"),
        ("GET", "contacts/{nobody}/offers/{offer}/claims", "contact_not_found"),
        ("POST", "contacts/{nobody}/offer-claims", "contact_not_found"),
        ("POST", "contacts/{sari}/offer-claims", "offer_not_found"),
        ("GET", "contacts/{nobody}/offer-claims", "contact_not_found"),
        ("GET", "contacts/{sari}/offer-claims/{nobody}", "claim_not_found"),
    ],
)
async def test_what_there_is_not_is_not_found(market, sari, client, session, method, path, code):
    offer = await market.offer(personal_code=True)
    before = await checksum(session)
    body = {} if "contacts/" in path else NEW
    if path.endswith("offer-claims"):
        body = {"code": "7WQ2-HX4T-M3PV"}
    url = f"/v1/{path.format(program=market.program_id, nobody=NOBODY, sari=sari, offer=offer['id'])}"
    refused(await client.request(method, url, json=body if method in ("POST", "PATCH") else None), 404, code)
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("offers/{offer}/claims", {"points": 500}, "/points"),
        ("offers/{offer}/claims", {"number": 2}, "/number"),
        ("offers/{offer}/claims", {"store": ""}, "/store"),
        ("offer-claims", {}, "/code"),
        ("offer-claims", {"code": " "}, "/code"),
        ("offer-claims", {"code": 7}, "/code"),
        ("offer-claims", {"code": "a\u0000b"}, "/code"),
        ("offer-claims", {"code": "x" * 201}, "/code"),
        ("offer-claims", {"code": "ABC", "contact_id": str(NOBODY)}, "/contact_id"),
    ],
)
async def test_a_claim_that_is_not_valid_is_refused_and_changes_nothing(market, sari, session, path, body, pointer):
    offer = await market.offer()
    before = await checksum(session)
    answer = await market.post(sari, path.format(offer=offer["id"]), body)
    assert {error["pointer"] for error in refused(answer, 422, "invalid")["errors"]} == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize("code", ["''", "%%%", "ÖÄÜ-ÖÄÜ", "…", "<b>", "AAA\n", "0" * 200])
async def test_what_can_be_no_code_is_not_found(market, sari, code):
    await market.offer(sari, personal_code=True)
    refused(await market.claim_by(sari, code), 404, "offer_not_found")


@pytest.mark.parametrize("query", ["sort=price", "sort=", "cursor=zz", "limit=0", "limit=201", "tier=1", "program=x"])
async def test_a_list_takes_no_other_parameters(market, sari, client, query):
    for path in ("offers", "rewards"):
        assert (await client.get(f"/v1/contacts/{sari}/{path}?{query}")).status_code in (400, 422)


async def test_a_claim_that_would_overflow_changes_nothing(market, sari, session):
    offer = await market.offer(benefit={"kind": "bonus_points", "points": 2**53 - 1}, claims_max_per_member=2)
    await market.claimed(sari, offer)
    before = await checksum(session)
    refused(await market.claim(sari, offer), 422, "points_out_of_range")
    assert await checksum(session) == before


# ---------------------------------------------------------------- nobody outside


def said(answer: Any) -> dict[str, Any]:
    """A refusal, but for what is different in each."""
    return {name: value for name, value in answer.json().items() if name != "request_id"} | {
        "status_code": answer.status_code,
        "headers": sorted(name for name in answer.headers if name != "x-request-id"),
    }


FOR_SARI = {
    "condition": lambda gold, sari, budi: {"condition": VIP},
    "tier": lambda gold, sari, budi: {"tier_id": gold},
    "named": lambda gold, sari, budi: {"contact_ids": [sari]},
    "named and condition": lambda gold, sari, budi: {"condition": VIP, "contact_ids": [budi, sari]},
}


@pytest.mark.parametrize("audience", FOR_SARI)
@pytest.mark.parametrize(
    "facts",
    [
        {"personal_code": True},
        {"status": "draft"},
        {"window": {"to": "2020-01-01"}},
        {"claims_max": 1},
        {"benefit": DOUBLE},
        {"benefit": DOUBLE, "auto": True},
    ],
)
async def test_an_offer_for_others_is_as_if_there_were_none(market, sari, budi, session, audience, facts):
    gold = await market.tier("Gold", 1000)
    await market.award(sari, 1000)
    await market.award(budi, 5)
    audience = FOR_SARI[audience](gold["id"], str(sari), str(budi))
    offer = await market.offer(audience=audience, **facts)
    if "claims_max" in facts:
        await market.claimed(sari, offer)
    member = await market.signed_in(budi)
    before = await checksum(session)
    assert await market.offered(budi) == []
    assert (await member.get("/v1/me/offers")).json()["items"] == []
    for method, path in (
        ("GET", "offers/{}"), ("GET", "offers/{}/code"), ("PUT", "offers/{}/code"), ("POST", "offers/{}/claims"),
        ("GET", "offers/{}/claims"),
    ):  # fmt: skip
        for client, base in ((market.client, f"/v1/contacts/{budi}"), (member, "/v1/me")):
            real, made_up = [
                said(await client.request(method, f"{base}/{path.format(each)}", json={} if method == "POST" else None))
                for each in (offer["id"], uuid7())
            ]
            assert real == made_up
            assert real["status_code"] == (200 if (method, path) == ("GET", "offers/{}/claims") else 404)
    assert await checksum(session) == before


async def test_a_code_of_another_is_as_if_there_were_none(market, sari, budi, session):
    offer = await market.offer(sari, personal_code=True)
    theirs = (await market.recipients(offer))[sari]["code"]
    before = await checksum(session)
    answers = [said(await market.claim_by(budi, code)) for code in (theirs, "7WQ2-HX4T-M3PV", "no code")]
    assert answers[0] == answers[1] == answers[2]
    assert await checksum(session) == before


async def test_a_purchase_says_nothing_of_an_offer_for_others(market, sari, budi):
    await market.offer(sari, name="Secret", benefit=DOUBLE, auto=True)
    claimable = await market.offer(sari, name="Secret too", benefit=DOUBLE)
    await market.claimed(sari, claimable)
    member = await market.signed_in(budi)
    bought = await market.buy(budi, order_ref="B-1")
    shown = [bought.text, (await market.buy(budi, order_ref="B-1")).text]
    shown += [(await market.client.get(f"/v1/contacts/{budi}/{path}")).text for path in (
        "purchases", "points-transactions", "timeline",
    )]  # fmt: skip
    shown += [(await member.get(f"/v1/me/{path}")).text for path in ("points-transactions", "timeline", "offers")]
    assert not [text for text in shown if "Secret" in text or claimable["id"] in text]
    assert "Secret" in (await market.buy(sari, order_ref="S-1")).text


async def test_a_member_claims_what_is_theirs_and_sees_what_it_gave(market, sari, budi):
    offer = await market.offer(sari, benefit={**VOUCHER, "text": "A cake"}, personal_code=True)
    hers, his = await market.signed_in(sari), await market.signed_in(budi)
    [seen] = (await hers.get("/v1/me/offers")).json()["items"]
    assert seen == (await market.offered(sari))[0] == (await hers.get(f"/v1/me/offers/{offer['id']}")).json()
    code = (await hers.get(f"/v1/me/offers/{offer['id']}/code")).json()
    assert code == {"offer_id": offer["id"], "code": seen["code"]}
    assert (await hers.put(f"/v1/me/offers/{offer['id']}/code")).json() == code
    given = await hers.post(f"/v1/me/offers/{offer['id']}/claims", json={}, headers={"Idempotency-Key": "k"})
    assert given.status_code == 201
    again = await hers.post(f"/v1/me/offers/{offer['id']}/claims", json={}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (201, given.content)
    refused(await hers.post(f"/v1/me/offers/{offer['id']}/claims", json={}), 409, "limit_reached")
    refused(await his.post(f"/v1/me/offers/{offer['id']}/claims", json={}), 404, "offer_not_found")
    [claim] = (await hers.get(f"/v1/me/offers/{offer['id']}/claims")).json()["items"]
    assert claim["voucher"] == given.json()["voucher"]
    [voucher] = (await hers.get("/v1/me/vouchers")).json()["items"]
    assert voucher["code"] == claim["voucher"]["code"]
    assert (await his.get("/v1/me/vouchers")).json()["items"] == []
    kinds = [entry["kind"] for entry in (await hers.get("/v1/me/timeline")).json()["items"]]
    assert {"offer.made", "offer.claimed", "voucher.issued"} <= set(kinds)


# ---------------------------------------------------------------- who may

SCOPES = {
    "programs:write": [
        ("POST", "programs/{program}/offers"), ("PATCH", "programs/{program}/offers/{id}"),
        ("DELETE", "programs/{program}/offers/{id}"),
    ],
    "programs:read": [
        ("GET", "programs/{program}/offers"), ("GET", "programs/{program}/offers/{id}"),
        ("GET", "programs/{program}/offers/{id}/contacts"),
    ],
    "loyalty:redeem": [
        ("POST", "contacts/{sari}/offers/{id}/claims"), ("POST", "contacts/{sari}/offer-claims"),
        ("PUT", "contacts/{sari}/offers/{id}/code"),
    ],
    "loyalty:read": [
        ("GET", "contacts/{sari}/offers"), ("GET", "contacts/{sari}/offers/{id}"),
        ("GET", "contacts/{sari}/offers/{id}/code"), ("GET", "contacts/{sari}/offers/{id}/claims"),
        ("GET", "contacts/{sari}/offer-claims"), ("GET", "contacts/{sari}/offer-claims/{id}"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_route_asks_for_its_own_scope(market, sari, scope):
    others = await market.client.limited_to(*(SCOPES.keys() - {scope}))
    holder = await market.client.limited_to(scope)
    member = await market.signed_in(sari)
    for asked, routes in SCOPES.items():
        for method, path in routes:
            url = f"/v1/{path.format(program=market.program_id, sari=sari, id=uuid7())}"
            if asked == scope:
                refused(await others.request(method, url, json={}), 403, "scope_missing")
                refused(await member.request(method, url, json={}), 403, "scope_missing")
            answer = await holder.request(method, url, json={})
            assert (answer.status_code == 403) == (asked != scope), (method, path, answer.text)
