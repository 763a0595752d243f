"""Two records of one person become one, and can be two again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.loyalty import audit
from tests.loyalty.shop import EARNED, Shop, at_once, checksum, statuses

SARI = {
    "name": "Sari", "identities": [{"kind": "phone", "value": "0812-3456-789"}], "tags": ["vip"],
    "attributes": {"city": "Bandung"},
}  # fmt: skip
DEWI = {
    "name": "Sari Dewi", "birth_on": "1990-03-10", "identities": [{"kind": "email", "value": "sari@example.com"}],
    "tags": ["vip", "coffee"], "attributes": {"city": "Jakarta", "size": 3},
}  # fmt: skip


async def made(client: Any, body: dict[str, Any]) -> UUID:
    answer = await client.post("/v1/contacts", json=body)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


async def pair(client: Any) -> tuple[Shop, UUID, UUID]:
    """A shop, the contact who goes on, and the other."""
    shop = await Shop.open(client)
    return shop, await made(client, SARI), await made(client, DEWI)


async def merge(client: Any, contact_id: UUID, other_id: UUID, **body: Any) -> dict[str, Any]:
    answer = await client.post(
        "/v1/merges", json={"contact_id": str(contact_id), "other_contact_id": str(other_id), **body}
    )
    assert answer.status_code == (200 if body.get("dry_run") else 201), answer.text
    return dict(answer.json())


async def undo(client: Any, merged: dict[str, Any]) -> dict[str, Any]:
    answer = await client.delete(f"/v1/merges/{merged['id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def contact(client: Any, contact_id: UUID) -> dict[str, Any]:
    answer = await client.get(f"/v1/contacts/{contact_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def lasting(contact: dict[str, Any]) -> dict[str, Any]:
    """A contact without what counts its changes."""
    return {name: value for name, value in contact.items() if name not in {"version", "updated_at"}}


async def kinds(shop: Shop, contact_id: UUID) -> list[str]:
    return [item["kind"] for item in (await shop.get(contact_id, "timeline"))["items"]]


# ---------------------------------------------------------------------- one contact of two


async def test_the_survivor_keeps_its_values_and_takes_what_it_lacks(client):
    _, sari, dewi = await pair(client)
    after = (await merge(client, sari, dewi))["contact"]
    assert (after["id"], after["name"], after["birth_on"]) == (str(sari), "Sari", "1990-03-10")
    assert after["tags"] == ["coffee", "vip"]
    assert after["attributes"] == {"city": "Bandung", "size": 3}
    assert [one["value"] for one in after["identities"]] == ["+628123456789", "sari@example.com"]
    assert after == await contact(client, sari)


async def test_of_each_field_it_can_be_said_whose_is_kept(client):
    _, sari, dewi = await pair(client)
    keep = {"name": "other", "birth_on": "survivor", "attributes.city": "other"}
    after = (await merge(client, sari, dewi, keep=keep))["contact"]
    assert (after["name"], after["birth_on"]) == ("Sari Dewi", "1990-03-10")
    assert after["attributes"] == {"city": "Jakarta", "size": 3}


async def test_the_old_id_answers_with_the_survivor_and_says_so(client):
    shop, sari, dewi = await pair(client)
    await merge(client, sari, dewi)
    answer = await client.get(f"/v1/contacts/{dewi}")
    assert (answer.status_code, answer.json()["id"]) == (200, str(sari))
    assert answer.headers["content-location"] == f"/v1/contacts/{sari}"
    assert "content-location" not in (await client.get(f"/v1/contacts/{sari}")).headers
    changed = await client.patch(f"/v1/contacts/{dewi}", json={"locale": "id-ID"})
    assert (changed.json()["id"], changed.json()["locale"]) == (str(sari), "id-ID")
    assert (await shop.award(dewi, 7)).status_code == 201
    assert await shop.available(sari) == await shop.available(dewi) == 7


async def test_whoever_writes_to_either_address_is_the_survivor(client):
    _, sari, dewi = await pair(client)
    await merge(client, sari, dewi)
    for kind, value in (("phone", "+628123456789"), ("email", "sari@example.com")):
        assert (await client.get(f"/v1/contacts/by/{kind}/{value}")).json()["id"] == str(sari)
    listed = [one["id"] for one in (await client.get("/v1/contacts")).json()["items"]]
    assert listed == [str(sari)]


async def test_the_timeline_tells_what_happened_with_both(client):
    shop, sari, dewi = await pair(client)
    for who, minute in ((sari, 1), (dewi, 2), (sari, 3), (dewi, 4)):
        message = {"channel": "whatsapp", "kind": "message", "direction": "inbound", "body": str(minute)}
        await shop.post(who, "interactions", {**message, "occurred_at": f"2026-11-01T09:0{minute}:00Z"})
    await merge(client, sari, dewi)
    whole = (await shop.get(sari, "timeline?kind=message"))["items"]
    assert [item["body"] for item in whole] == ["4", "3", "2", "1"]
    first = await shop.get(dewi, "timeline?kind=message&limit=3")
    rest = await shop.get(dewi, f"timeline?kind=message&limit=3&cursor={first['next_cursor']}")
    assert first["items"] + rest["items"] == whole
    assert (await client.get(f"/v1/contacts/{sari}/interactions/{whole[0]['id']}")).json()["body"] == "4"
    member = await shop.signed_in(sari)
    assert [item["body"] for item in (await member.get("/v1/me/timeline")).json()["items"]] == ["4", "3", "2", "1"]


async def test_a_preview_shows_the_result_and_changes_nothing(client, session):
    shop, sari, dewi = await pair(client)
    await shop.buy(dewi)
    await client.get("/v1/contacts")
    before = await checksum(session)
    preview = await merge(client, sari, dewi, dry_run=True)
    assert preview["status"] == "preview"
    assert preview["contact"]["tags"] == ["coffee", "vip"]
    assert preview["moved"]["memberships"][0]["points"] == EARNED
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "merge_with_self"),
        ({"other_contact_id": str(uuid7())}, 404, "contact_not_found"),
        ({"keep": {"shoe_size": "other"}}, 422, "invalid"),
        ({"keep": {"name": "both"}}, 422, "invalid"),
    ],
)
async def test_what_can_not_be_merged_is_refused(client, session, body, status, code):
    _, sari, dewi = await pair(client)
    other = dewi if "keep" in body else sari
    await client.get("/v1/contacts")
    before = await checksum(session)
    answer = await client.post("/v1/merges", json={"contact_id": str(sari), "other_contact_id": str(other), **body})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await checksum(session) == before


async def test_a_merge_is_made_once_for_one_key(client):
    _, sari, dewi = await pair(client)
    body = {"contact_id": str(sari), "other_contact_id": str(dewi)}
    first = await client.post("/v1/merges", json=body, headers={"Idempotency-Key": "k"})
    again = await client.post("/v1/merges", json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"


# ---------------------------------------------------------------------- points


async def test_points_keep_their_begin_and_their_end(client, session):
    shop, sari, dewi = await pair(client)
    ends = (datetime.now(UTC) + timedelta(days=40)).replace(microsecond=0)
    begins = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    await shop.award(sari, 5)
    await shop.award(dewi, 30, expires_at=ends.isoformat())
    await shop.award(dewi, 12, activates_at=begins.isoformat())
    await merge(client, sari, dewi)
    balance = await shop.balance(sari)
    assert (balance["available"], balance["pending"]) == (35, 12)
    assert [(one["points"], datetime.fromisoformat(one["expires_at"])) for one in balance["expiring"]] == [(30, ends)]
    later = await shop.get(sari, f"loyalty?as_of={(begins + timedelta(days=1)).isoformat().replace('+', '%2B')}")
    assert (later["available"], later["pending"]) == (47, 0)
    assert (await audit.verify(session)).findings == []


async def test_a_debt_goes_along_and_comes_back(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(sari, 50)
    await shop.adjust(dewi, -20, allow_negative=True)
    merged = await merge(client, sari, dewi)
    assert await shop.available(sari) == 30
    await undo(client, merged)
    assert (await audit.verify(session)).findings == []
    assert await shop.available(sari) + await shop.available(dewi) == 30


async def test_of_two_tiers_the_better_one_stands_until_it_would_have_ended(client):
    shop, sari, dewi = await pair(client)
    for name, threshold in (("Silver", 100), ("Gold", 500)):
        body = {"name": name, "threshold": threshold}
        assert (await client.post(f"/v1/programs/{shop.program_id}/tiers", json=body)).status_code == 201
    await shop.award(sari, 100)
    await shop.award(dewi, 600)
    merged = await merge(client, sari, dewi)
    assert (await shop.balance(sari))["tier"]["current"]["name"] == "Gold"
    await undo(client, merged)
    assert (await shop.balance(sari))["tier"]["current"]["name"] == "Silver"
    assert (await shop.balance(dewi))["tier"]["current"]["name"] == "Gold"
    await merge(client, dewi, sari)
    assert (await shop.balance(dewi))["tier"]["current"]["name"] == "Gold"


async def test_an_order_of_before_is_known_under_both_ids(client, session):
    shop, sari, dewi = await pair(client)
    await shop.buy(dewi)
    await merge(client, sari, dewi)
    for who in (sari, dewi):
        again = await shop.buy(who)
        assert (again.status_code, again.json()["points"]) == (200, EARNED)
        assert again.json()["balance"]["available"] == EARNED
        assert (await shop.get(who, "purchases/INV-1"))["order_ref"] == "INV-1"
    other = await shop.buy(sari, total="1.00")
    assert (other.status_code, other.json()["code"]) == (409, "order_ref_reused")
    assert [one["order_ref"] for one in (await shop.get(sari, "purchases"))["items"]] == ["INV-1"]
    assert (await audit.verify(session)).findings == []


@pytest.mark.parametrize(("spent", "taken_back", "left"), [(0, 45, 7), (45, 7, 0), (50, 2, 0)])
async def test_a_refund_of_an_order_of_before_takes_the_survivors_points(client, session, spent, taken_back, left):
    shop, sari, dewi = await pair(client)
    await shop.award(sari, 7)
    await shop.buy(dewi)
    await merge(client, sari, dewi)
    if spent:
        assert (await shop.redeem(sari, spent)).status_code == 201
    refund = await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "r", "amount": "45000.00"})
    assert (refund.status_code, refund.json()["points_taken_back"]) == (201, taken_back)
    assert refund.json()["balance"]["available"] == left == await shop.available(sari)
    assert (await shop.post(dewi, "purchases/INV-1/refunds", {"refund_ref": "r", "amount": "45000.00"})).json() == {
        **refund.json(), "balance": await balance_of(shop, sari),
    }  # fmt: skip
    assert (await audit.verify(session)).findings == []


async def balance_of(shop: Shop, contact_id: UUID) -> dict[str, Any]:
    return {name: value for name, value in (await shop.balance(contact_id)).items() if name != "tier"}


async def test_a_refund_of_before_can_leave_the_survivor_in_debt_where_the_program_says_so(client, session):
    shop, sari, dewi = await pair(client)
    await client.patch(f"/v1/programs/{shop.program_id}", json={"return_policy": "unlimited"})
    await shop.buy(dewi)
    await merge(client, sari, dewi)
    await shop.redeem(sari, 40)
    await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "r", "amount": "45000.00"})
    assert await shop.available(sari) == -40
    assert (await audit.verify(session)).findings == []


async def test_a_redemption_of_before_is_given_back_to_the_survivor(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(dewi, 30)
    redemption = (await shop.redeem(dewi, 20)).json()["id"]
    await merge(client, sari, dewi)
    assert [one["id"] for one in (await shop.get(sari, "redemptions"))["items"]] == [redemption]
    returned = await shop.reverse(sari, redemption)
    assert (returned.status_code, returned.json()["points_returned"]) == (201, 20)
    assert returned.json()["balance"]["available"] == 30 == await shop.available(sari)
    assert (await shop.reverse(sari, redemption)).status_code == 200
    assert (await audit.verify(session)).findings == []


async def test_points_on_hold_have_to_be_settled_first(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(dewi, 30)
    hold = (await shop.post(dewi, "holds", {"points": 10})).json()["id"]
    answer = await client.post("/v1/merges", json={"contact_id": str(sari), "other_contact_id": str(dewi)})
    assert (answer.status_code, answer.json()["code"]) == (409, "open_holds")
    assert (await client.delete(f"/v1/contacts/{dewi}/holds/{hold}")).status_code in {200, 204}
    await merge(client, sari, dewi)
    assert await shop.available(sari) == 30
    assert (await audit.verify(session)).findings == []


async def test_a_voucher_of_before_is_the_survivors(client, session):
    shop, sari, dewi = await pair(client)
    reward = await client.post(
        f"/v1/programs/{shop.program_id}/rewards", json={"name": "Kopi", "cost": 10, "fulfilment": "voucher"}
    )
    await shop.award(dewi, 10)
    code = (await shop.post(dewi, "redemptions", {"reward_id": reward.json()["id"]})).json()["voucher"]["code"]
    stranger = await made(client, {"name": "Budi"})
    await merge(client, sari, dewi)
    refused = await client.post(f"/v1/vouchers/{code}/redemptions", json={"contact_id": str(stranger), "ref": "till-1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "voucher_invalid")
    used = await client.post(f"/v1/vouchers/{code}/redemptions", json={"contact_id": str(sari), "ref": "till-1"})
    assert used.status_code == 201, used.text
    assert (await audit.verify(session)).findings == []


async def test_batches_know_old_ids_too(client):
    shop, sari, dewi = await pair(client)
    await merge(client, sari, dewi)
    assert (await shop.award_batch((dewi, 5), (sari, 6))).json()["items"][0]["status"] == 201
    order = {"occurred_at": "2026-11-01T09:30:00Z", "currency": "IDR", "total": "1000.00", "order_ref": "B-1"}
    bought = await client.post("/v1/purchases/batch", json={"items": [{**order, "contact_id": str(dewi)}]})
    assert bought.json()["items"][0]["status"] == 201
    note = {"channel": "web", "kind": "visit", "occurred_at": "2026-11-01T09:30:00Z", "contact_id": str(dewi)}
    told = await client.post("/v1/interactions/batch", json={"items": [note]})
    assert told.json()["items"][0]["status"] == 201
    assert await shop.available(sari) == 12


async def test_limits_of_rules_hold_for_the_person(client, session):
    shop, sari, dewi = await pair(client)
    rule = {"name": "once", "kind": "per_visit", "points": 10, "limits": [{"times": 1, "per": "lifetime"}]}
    assert (await client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)).status_code == 201
    assert (await shop.buy(dewi)).json()["points"] == EARNED + 10
    merged = await merge(client, sari, dewi)
    assert (await shop.buy(sari, order_ref="INV-2")).json()["points"] == EARNED
    await undo(client, merged)
    assert (await shop.buy(sari, order_ref="INV-3")).json()["points"] == EARNED + 10
    assert (await audit.verify(session)).findings == []


# ---------------------------------------------------------------------- two contacts of one


async def test_undoing_puts_back_what_was(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(sari, 7)
    await shop.buy(dewi)
    before = [(lasting(await contact(client, one)), await shop.balance(one)) for one in (sari, dewi)]
    merged = await merge(client, sari, dewi, keep={"name": "other"})
    undone = await undo(client, merged)
    assert (undone["status"], undone["not_undone"]) == ("undone", [])
    assert [(lasting(await contact(client, one)), await shop.balance(one)) for one in (sari, dewi)] == before
    assert await undo(client, merged) == undone
    assert (await client.get(f"/v1/merges/{merged['id']}")).json() == undone
    assert (await kinds(shop, dewi))[0] == (await kinds(shop, sari))[0]
    assert (await audit.verify(session)).findings == []


async def test_what_was_used_since_stays_and_is_said(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(sari, 7)
    await shop.buy(dewi)
    merged = await merge(client, sari, dewi)
    await shop.redeem(sari, 20)
    await client.patch(f"/v1/contacts/{sari}", json={"birth_on": "1991-01-01", "attributes": {"size": 4}})
    gone = {"kind": "email", "value": "sari@example.com"}
    assert (await client.request("DELETE", f"/v1/contacts/{sari}/identities", params=gone)).status_code == 204
    undone = await undo(client, merged)
    codes = sorted(one["code"] for one in undone["not_undone"])
    assert codes == ["changed_since", "changed_since", "identity_gone", "points_used", "recorded_since"]
    assert await shop.available(sari) + await shop.available(dewi) == 7 + EARNED - 20
    assert (await contact(client, sari))["birth_on"] == "1991-01-01"
    assert (await contact(client, dewi))["identities"] == []
    assert (await audit.verify(session)).findings == []


async def test_merges_come_apart_in_the_reverse_order(client, session):
    shop, sari, dewi = await pair(client)
    budi = await made(client, {"name": "Budi"})
    for who, points in ((sari, 1), (dewi, 10), (budi, 100)):
        await shop.award(who, points)
    first = await merge(client, sari, dewi)
    second = await merge(client, budi, sari)
    assert await shop.available(dewi) == await shop.available(sari) == 111
    assert (await contact(client, dewi))["id"] == str(budi)
    early = await client.delete(f"/v1/merges/{first['id']}")
    assert (early.status_code, early.json()["code"]) == (409, "merged_further")
    assert early.json()["merge_id"] == second["id"]
    await undo(client, second)
    assert (await contact(client, dewi))["id"] == str(sari)
    await undo(client, first)
    assert [await shop.available(one) for one in (sari, dewi, budi)] == [1, 10, 100]
    listed = [one["id"] for one in (await client.get("/v1/merges")).json()["items"]]
    assert listed == [second["id"], first["id"]]
    assert (await audit.verify(session)).findings == []


async def test_of_many_merges_of_the_same_two_at_once_one_is_made(live_client):
    shop, sari, dewi = await pair(live_client)
    await shop.award(dewi, 30)
    both = [{"contact_id": str(a), "other_contact_id": str(b)} for a, b in ((sari, dewi), (dewi, sari))]
    answers = await at_once(*(live_client.post("/v1/merges", json=both[n % 2]) for n in range(10)))
    assert statuses(answers)[201] == 1
    assert set(statuses(answers)) <= {201, 404, 422}
    assert await shop.available(sari) == await shop.available(dewi) == 30


async def test_points_given_while_contacts_are_merged_are_not_lost(live_client):
    shop, sari, dewi = await pair(live_client)
    for who in (sari, dewi):
        await shop.award(who, 1)
    body = {"contact_id": str(sari), "other_contact_id": str(dewi)}
    answers = await at_once(
        *(shop.award(dewi if n % 2 else sari, 10) for n in range(10)),
        live_client.post("/v1/merges", json=body),
        *(shop.award(dewi if n % 2 else sari, 10) for n in range(10)),
    )
    assert statuses(answers) == {201: 21}
    assert await shop.available(sari) == await shop.available(dewi) == 202
    async with live_client.database.reading() as session:
        assert (await audit.verify(session)).findings == []
