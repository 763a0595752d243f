"""A person is forgotten: nothing anywhere says who they were, and the sums stay."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from crm.db.embedded import EmbeddedPostgres
from crm.db.ids import uuid7
from crm.interactions import retention
from crm.jobs import housekeeping
from crm.keepers import KEEPERS
from crm.loyalty import audit
from tests.interactions.test_merges import contact, made, merge, pair
from tests.loyalty.shop import Shop, at_once, checksum, statuses

NAME = "Wulandari"
PERSON = {
    "name": f"{NAME} Kusumaningrum", "given_name": NAME, "family_name": "Kusumaningrum", "birth_on": "1987-04-21",
    "identities": [
        {"kind": "phone", "value": "0813-9876-5432"}, {"kind": "email", "value": "wulan.k@example.org"},
        {"kind": "whatsapp", "value": "6281398765432"},
    ],
    "tags": ["tetangga-rahasia"], "attributes": {"alamat": "Jalan Kenanga 17", "sizes": ["XXS-rare"]},
}  # fmt: skip
TOLD = (
    NAME, "Kusumaningrum", "0813-9876-5432", "81398765432", "wulan.k", "tetangga-rahasia", "Kenanga", "XXS-rare",
    "1987-04-21", "alergi kacang", "wamid.WULAN", "hadiah ulang tahun bunda", "Bu Wulan", "meja-dekat-jendela",
)  # fmt: skip
"""What of hers is told to the service, in the forms in which it could be kept."""


async def a_life(client: Any) -> tuple[Shop, UUID]:
    """A shop, and somebody about whom everything is known that the API takes."""
    shop = await Shop.open(client)
    headers = {"Idempotency-Key": "new"}
    answer = await client.post("/v1/contacts", json=PERSON, headers=headers)
    assert answer.status_code == 201, answer.text
    wulan = UUID(answer.json()["id"])
    batch = await client.post(
        "/v1/contacts/batch", json={"items": [{"name": f"{NAME} K.", "tags": ["tetangga-rahasia"]}]},
        headers={"Idempotency-Key": "batch"},
    )  # fmt: skip
    other = UUID(batch.json()["items"][0]["body"]["id"])
    changes = {"given_name": "Bu Wulan", "attributes": {"diet": "alergi kacang"}}
    await client.patch(f"/v1/contacts/{wulan}", json=changes)
    refused = await client.post("/v1/contacts", json=PERSON)
    assert refused.json()["code"] == "identity_taken"
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "inbound", "occurred_at": "2026-11-01T09:30:00Z",
        "subject": "hadiah ulang tahun bunda", "body": f"Ini {NAME}, alergi kacang", "data": {"from": "6281398765432"},
        "source": "wa", "external_id": "wamid.WULAN",
    }  # fmt: skip
    assert (await shop.post(wulan, "interactions", message, key="m")).status_code == 201
    await shop.award(wulan, 100, note="hadiah ulang tahun bunda", key="a")
    order = {
        "order_ref": "INV-7", "occurred_at": "2026-11-02T09:30:00Z", "currency": "IDR", "total": "45000.00",
        "identity": {"kind": "email", "value": "wulan.k@example.org"},
    }  # fmt: skip
    assert (await client.post("/v1/purchases", json=order, headers={"Idempotency-Key": "o"})).status_code == 201
    await shop.redeem(wulan, 30, key="r")
    await shop.post(wulan, "holds", {"points": 5, "reference": "meja-dekat-jendela"})
    await client.get(f"/v1/contacts/{wulan}/referral-code")
    offer = {"name": "Untuk Anda", "kind": "points", "points": 5, "audience": {"contact_ids": [str(wulan)]}}
    await client.post(f"/v1/programs/{shop.program_id}/offers", json=offer)
    await shop.award(other, 7)
    await merge(client, wulan, other, keep={"name": "survivor"})
    return shop, wulan


async def erase(client: Any, contact_id: UUID, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/contacts/{contact_id}/erasure", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def everything(session: Any) -> str:
    """All rows of all tables as texts, bytes included as what they spell."""
    tables = await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    texts = []
    for (table,) in tables:
        columns = await session.fetch(
            """
            SELECT attname, atttypid::regtype::text AS type FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
            """,
            table,
        )
        shown = ", ".join(
            f"encode({name}, 'escape')" if kind == "bytea" else f'"{name}"::text' for name, kind in columns
        )
        rows = await session.fetch(f'SELECT ROW({shown})::text FROM "{table}"')
        texts += [f"{table}: {row[0]}" for row in rows]
    return "\n".join(texts)


async def test_what_is_told_is_there_before(client, session):
    _, wulan = await a_life(client)
    kept = await everything(session)
    assert [told for told in TOLD if told not in kept] == []
    disclosed = await client.get(f"/v1/contacts/{wulan}/personal-data")
    assert [told for told in TOLD if told not in disclosed.text] == []
    page = await client.get(f"/v1/contacts/{wulan}/personal-data.html?locale=id")
    assert page.headers["content-type"].startswith("text/html")
    assert [told for told in TOLD if told not in page.text] == []
    assert "Riwayat" in page.text


async def test_nothing_is_left_of_somebody_who_was_erased(client, session):
    shop, wulan = await a_life(client)
    certificate = await erase(client, wulan, reason="requested")
    kept = await everything(session)
    assert [told for told in TOLD if told in kept] == []
    assert [told for told in TOLD if told in str(certificate)] == []
    assert certificate["reason"] == "requested"
    assert certificate["erased"]["identities"] == 3
    assert certificate["kept"]["points_transactions"] > 0
    assert (await client.get(f"/v1/erasures/{certificate['id']}")).json() == certificate
    assert (await client.get("/v1/erasures")).json()["items"] == [certificate]
    assert (await audit.verify(session)).findings == []
    report = (await client.get(f"/v1/programs/{shop.program_id}/liability")).json()
    assert report["points"] == 0


async def test_a_dump_of_the_whole_database_tells_nothing_of_them(live_client, dsn):
    _, wulan = await a_life(live_client)
    assert NAME in dumped(dsn)
    await erase(live_client, wulan)
    kept = dumped(dsn)
    assert str(wulan) in kept
    assert [told for told in TOLD if told in kept or told.encode().hex() in kept] == []


def dumped(dsn: str) -> str:
    """The whole database, as pg_dump writes it."""
    return subprocess.run([EmbeddedPostgres.bin / "pg_dump", dsn], capture_output=True, text=True, check=True).stdout


async def test_whoever_asks_for_them_is_told_that_they_were_forgotten(client):
    shop, wulan = await a_life(client)
    alias = (await client.get("/v1/merges")).json()["items"][0]["other_contact_id"]
    certificate = await erase(client, wulan)
    for one in (wulan, alias):
        for path in ("", "/timeline", "/loyalty", "/points-transactions", "/personal-data"):
            answer = await client.get(f"/v1/contacts/{one}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "contact_erased"), path
            assert answer.json()["erasure_id"] == certificate["id"]
    for answer in (
        await shop.award(wulan, 5), await shop.buy(wulan), await shop.redeem(wulan, 5),
        await shop.post(wulan, "purchases/INV-7/refunds", {"refund_ref": "x", "amount": "1000.00"}),
        await client.post(f"/v1/contacts/{wulan}/erasure", json={}),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (404, "contact_erased"), answer.text
    assert (await client.get("/v1/contacts", params={"q": NAME})).json()["items"] == []
    merged = (await client.get("/v1/merges")).json()["items"][0]["id"]
    undone = await client.delete(f"/v1/merges/{merged}")
    assert (undone.status_code, undone.json()["code"]) == (409, "merge_forgotten")


async def test_their_addresses_make_somebody_new(client):
    _, wulan = await a_life(client)
    await erase(client, wulan)
    again = await made(client, PERSON)
    assert again != wulan
    assert (await contact(client, again))["version"] == 1


async def test_somebody_nobody_knows_is_not_said_to_be_forgotten(client, session):
    await client.get("/v1/contacts")
    before = await checksum(session)
    answer = await client.post(f"/v1/contacts/{uuid7()}/erasure", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "contact_not_found")
    assert await checksum(session) == before


async def test_an_erasure_is_made_once_for_one_key(client):
    shop, sari, _ = await pair(client)
    first = await shop.post(sari, "erasure", {}, key="k")
    again = await shop.post(sari, "erasure", {}, key="k")
    assert (again.status_code, again.json()) == (201, first.json())


async def test_a_debt_is_forgiven_and_points_are_written_off(client, session):
    shop, sari, dewi = await pair(client)
    await shop.award(sari, 50)
    await shop.adjust(dewi, -20, allow_negative=True)
    await erase(client, sari)
    await erase(client, dewi)
    assert (await audit.verify(session)).findings == []
    balances = await session.fetch("SELECT available, pending, held, deficit, status FROM loyalty_accounts")
    assert [tuple(row) for row in balances] == [(0, 0, 0, 0, "erased")] * 2


async def test_who_was_referred_by_somebody_forgotten_still_buys_and_returns(client, session):
    shop, sari, dewi = await pair(client)
    policy = {"referrer_points": 10, "referee_points": 5, "min_spend": "1.00", "hold_days": 0}
    await client.put(f"/v1/programs/{shop.program_id}/referral-policy", json=policy)
    code = (await client.get(f"/v1/contacts/{sari}/referral-code")).json()["code"]
    assert (await shop.post(dewi, "referrals", {"code": code})).status_code == 201
    assert (await shop.buy(dewi)).status_code == 201
    await erase(client, sari)
    refund = await shop.post(dewi, "purchases/INV-1/refunds", {"refund_ref": "x", "amount": "45000.00"})
    assert refund.status_code == 201, refund.text
    stranger = await made(client, {"name": "Budi"})
    gone = await shop.post(stranger, "referrals", {"code": code})
    assert gone.status_code in {404, 409}
    assert (await audit.verify(session)).findings == []


async def test_of_many_erasures_and_purchases_at_once_nothing_is_left(live_client):
    shop, sari, _ = await pair(live_client)
    await shop.award(sari, 1)
    answers = await at_once(
        *(shop.buy(sari, order_ref=f"INV-{n}") for n in range(5)),
        *(live_client.post(f"/v1/contacts/{sari}/erasure", json={}) for _ in range(3)),
        *(shop.award(sari, 5) for _ in range(5)),
    )
    assert set(statuses(answers)) <= {201, 404}
    assert statuses(answers[5:8])[201] == 1
    async with live_client.database.reading() as session:
        assert (await audit.verify(session)).findings == []
        assert await session.fetchval("SELECT sum(available + pending + held) FROM loyalty_accounts") == 0


async def test_a_row_of_the_timeline_can_only_be_emptied(session, client):
    shop, sari, _ = await pair(client)
    del shop
    for statement in (
        "UPDATE interactions SET body = 'x' WHERE contact_id = $1",
        "DELETE FROM interactions WHERE contact_id = $1",
        """
        WITH on_ AS (SELECT set_config('setia.emptying', 'on', true))
        UPDATE interactions SET kind = 'x' FROM on_ WHERE contact_id = $1
        """,
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            async with session.savepoint():
                await session.execute(statement, sari)


async def test_a_member_may_read_what_is_known_of_them(client):
    shop, wulan = await a_life(client)
    member = await shop.signed_in(wulan)
    disclosed = (await member.get("/v1/me/personal-data")).json()
    assert disclosed["contact_id"] == str(wulan)
    assert re.search("alergi", str(disclosed["sections"]["timeline"]))


# ---------------------------------------------------------------------- by itself


async def night(client: Any, now: datetime) -> None:
    await housekeeping.keep_retention(client.database, now=now)


async def test_nothing_goes_by_itself_before_somebody_says_so(client, session):
    assert (await client.get("/v1/retention-policy")).json()["code"] == "no_retention_policy"
    await a_life(client)
    before = await checksum(session)
    await night(client, datetime.now(UTC) + timedelta(days=9_000))
    assert await checksum(session) == before


async def test_old_messages_lose_their_content_and_idle_people_are_forgotten(client, session):
    shop, sari, dewi = await pair(client)
    for who, year in ((sari, 2024), (sari, 2026), (dewi, 2024)):
        await shop.post(who, "interactions", {
            "channel": "whatsapp", "kind": "message", "body": f"halo {year}", "occurred_at": f"{year}-03-01T09:00:00Z",
        })  # fmt: skip
    answer = await client.put("/v1/retention-policy", json={"messages_months": 12, "contacts_months": 24})
    assert answer.status_code == 200
    soon = datetime(2026, 11, 27, tzinfo=UTC)
    late = datetime(2028, 6, 1, tzinfo=UTC)
    await night(client, soon)
    assert [item["body"] for item in (await shop.get(sari, "timeline?kind=message"))["items"]] == ["halo 2026", None]
    await shop.post(sari, "interactions", {
        "channel": "whatsapp", "kind": "message", "body": "masih", "occurred_at": "2026-11-26T00:00:00Z",
    })  # fmt: skip
    await session.execute("UPDATE contacts SET created_at = '2024-01-01T00:00:00Z'")
    assert (await client.get("/v1/retention-policy/preview")).json() == {"messages": 0, "contacts": 1}
    await night(client, soon)
    assert (await client.get(f"/v1/contacts/{dewi}")).json()["code"] == "contact_erased"
    told = (await client.get("/v1/retention-policy")).json()
    assert (told["contacts_erased"], told["messages_emptied"]) == (1, 0)
    assert (await client.get("/v1/erasures")).json()["items"][0]["reason"] == "retention"
    await night(client, late)
    assert (await client.get("/v1/retention-policy")).json()["messages_emptied"] == 2
    assert (await audit.verify(session)).findings == []


async def test_a_night_that_was_broken_off_goes_on_where_it_stopped(client, session, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    people = [await made(client, {"name": f"Orang {n}"}) for n in range(7)]
    await client.put("/v1/retention-policy", json={"contacts_months": 1})
    late = datetime.now(UTC) + timedelta(days=90)
    async with client.database.begin() as inside:
        await retention.begin(inside, now=late)
        await retention.advance(inside, keepers=KEEPERS, now=late)
    assert await session.fetchval("SELECT count(*) FROM contacts") == len(people) - 2
    await night(client, late)
    assert await session.fetchval("SELECT count(*) FROM contacts") == 0
    told = (await client.get("/v1/retention-policy")).json()
    assert told["contacts_erased"] == len(people)
    assert told["finished_at"] is not None
