"""Who was erased and comes back is a new contact, and nobody markets to them unasked."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.exchange.desk import Desk, table
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made
from tests.loyalty.shop import Shop

NUMBER = "+628123456789"
SARI = {
    "name": "Sari", "identities": [
        {"kind": "phone", "value": NUMBER}, {"kind": "email", "value": "sari@example.com"},
        {"kind": "card", "value": "K-7"},
    ],
}  # fmt: skip
AGAIN = {
    "the same number": {"kind": "phone", "value": "0812-3456-789"},
    "the WhatsApp of the number": {"kind": "whatsapp", "value": NUMBER},
    "the e-mail address": {"kind": "email", "value": "Sari@Example.com"},
    "the card": {"kind": "card", "value": "K-7"},
}


async def consents(client: Any, contact_id: UUID) -> list[tuple[str, str, str, str]]:
    items = (await client.get(f"/v1/contacts/{contact_id}/consents")).json()["items"]
    return [(one["channel"], one["purpose"], one["status"], one["source"]) for one in items]


async def may_market(client: Any, contact_id: UUID, channel: str = "in_person") -> tuple[bool, str | None]:
    query = f"channel={channel}&purpose=marketing"
    answer = await client.get(f"/v1/contacts/{contact_id}/consents/check?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["allowed"], answer.json()["why_not"]


@pytest.mark.parametrize("identity", AGAIN.values(), ids=AGAIN)
async def test_who_comes_back_starts_with_marketing_denied(client, identity):
    await erase(client, await made(client, SARI))
    back = await made(client, {"name": "Sari", "identities": [identity]})
    assert await consents(client, back) == [("all", "marketing", "denied", "erasure")]
    assert await may_market(client, back) == (False, "denied")
    kinds = [item["kind"] for item in (await client.get(f"/v1/contacts/{back}/timeline")).json()["items"]]
    assert sorted(kinds) == ["consent.denied", "contact.created"]


async def test_what_they_allow_themselves_holds_from_then_on(client):
    await erase(client, await made(client, SARI))
    back = await made(client, SARI)
    said = {
        "channel": "email",
        "purpose": "marketing",
        "status": "granted",
        "occurred_at": datetime.now(UTC).isoformat(),
    }
    assert (await client.post(f"/v1/contacts/{back}/consents", json=said)).status_code == 201
    assert await may_market(client, back, "email") == (True, None)


async def test_nobody_else_is_taken_for_them(client):
    await erase(client, await made(client, SARI))
    other = await made(client, {"name": "Sari", "identities": [{"kind": "card", "value": "K-8"}]})
    assert await consents(client, other) == []
    assert await may_market(client, other) == (False, "no_consent")


async def test_a_message_and_a_purchase_make_them_a_contact_as_anybody(client):
    shop = await Shop.open(client)
    await erase(client, await made(client, SARI))
    message = {
        "identity": {"kind": "whatsapp", "value": NUMBER}, "channel": "whatsapp", "kind": "message",
        "direction": "inbound", "body": "Halo lagi", "occurred_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    answer = await client.post("/v1/interactions", json=message)
    assert answer.status_code == 201, answer.text
    back = UUID(answer.json()["contact_id"])
    assert await consents(client, back) == [("all", "marketing", "denied", "erasure")]
    assert (await shop.buy(back)).status_code == 201


async def test_the_certificate_says_that_hashes_are_kept_and_they_tell_nothing(client, session):
    sari = await made(client, SARI)
    certificate = await erase(client, sari)
    assert certificate["kept"]["address_hashes"] == 3
    rows = await session.fetch("SELECT hash FROM erased_addresses")
    assert {len(row["hash"]) for row in rows} == {32}
    assert not any(part in bytes(row["hash"]) for row in rows for part in (b"812", b"sari", b"K-7"))


@pytest.mark.parametrize("wish", ["skip", "fill", "create"])
async def test_an_import_says_of_its_rows_who_was_erased(live_client, wish):
    desk = Desk(live_client)
    await erase(live_client, await made(live_client, SARI))
    done = await desk.bring(
        table(("Sari", NUMBER, "", "Bandung"), ("Budi", "0813 1111 222", "", "")), on_duplicate=wish
    )
    touched = (await live_client.get(f"/v1/imports/{done['id']}/contacts")).json()["items"]
    assert [(one["row"], one["result"], one["note"]) for one in touched] == [
        (2, "created", "erased_before"), (3, "created", None)
    ]  # fmt: skip
    assert await consents(live_client, touched[0]["contact_id"]) == [("all", "marketing", "denied", "erasure")]
    assert await consents(live_client, touched[1]["contact_id"]) == []
