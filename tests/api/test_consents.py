"""Consents over HTTP: facts with proof that nobody changes, told on the timeline, and asked by conditions."""

from typing import Any

import pytest

from crm.db.ids import uuid7
from tests.interactions.test_merges import made, merge, undo
from tests.loyalty.shop import EARNED, RULE, Shop, at_once, checksum, statuses

GRANT = {
    "channel": "whatsapp", "purpose": "marketing", "status": "granted", "legal_basis": "consent", "source": "web-form",
    "evidence": {"shown": "Ya, kabari saya", "version": "2026-10"}, "occurred_at": "2026-11-01T09:30:00Z",
}  # fmt: skip
SARI = {
    "name": "Sari",
    "identities": [{"kind": "phone", "value": "0812 3456 789"}, {"kind": "whatsapp", "value": "628123456789"}],
}  # fmt: skip


async def record(client: Any, contact_id: Any, **changed: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/contacts/{contact_id}/consents", json=GRANT | changed)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def check(client: Any, contact_id: Any, channel: str = "whatsapp", purpose: str = "marketing") -> Any:
    answer = await client.get(
        f"/v1/contacts/{contact_id}/consents/check", params={"channel": channel, "purpose": purpose}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["why_not"]


async def test_a_consent_is_read_as_it_was_recorded_and_told_on_the_timeline(client):
    sari = await made(client, SARI)
    answer = await client.post(f"/v1/contacts/{sari}/consents", json=GRANT)
    assert answer.status_code == 201
    consent = answer.json()
    assert {name: consent[name] for name in GRANT} == GRANT
    assert (consent["contact_id"], consent["external_id"]) == (str(sari), None)
    assert (await client.get(answer.headers["location"])).json() == consent
    assert (await client.get(f"/v1/contacts/{sari}/consents")).json() == {"items": [consent], "next_cursor": None}
    told = (await client.get(f"/v1/contacts/{sari}/timeline", params={"kind": "consent.granted"})).json()["items"]
    assert [(one["channel"], one["occurred_at"], one["source"], one["data"]) for one in told] == [
        (
            "whatsapp", "2026-11-01T09:30:00Z", "web-form",
            {"consent_id": consent["id"], "purpose": "marketing", "legal_basis": "consent"},
        )
    ]  # fmt: skip


async def test_text_is_evidence_too_and_now_is_when_nothing_is_said(client):
    sari = await made(client, SARI)
    bare = {"channel": "email", "purpose": "all", "status": "denied", "evidence": "STOP"}
    consent = (await client.post(f"/v1/contacts/{sari}/consents", json=bare)).json()
    assert (consent["evidence"], consent["occurred_at"]) == ("STOP", consent["recorded_at"])
    told = (await client.get(f"/v1/contacts/{sari}/timeline")).json()["items"]
    assert told[0]["kind"] == "consent.denied"


async def test_the_history_comes_in_pages_and_the_present_by_channel_and_purpose(client):
    sari = await made(client, SARI)
    for day in range(1, 6):
        status = "granted" if day % 2 else "denied"
        await record(client, sari, status=status, occurred_at=f"2026-11-0{day}T09:00:00Z")
    await record(client, sari, channel="email", purpose="service", status="denied")
    whole = (await client.get(f"/v1/contacts/{sari}/consents")).json()["items"]
    assert [one["occurred_at"][9] for one in whole] == ["5", "4", "3", "2", "1", "1"]
    found, cursor = [], None
    while True:
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await client.get(f"/v1/contacts/{sari}/consents", params=params)).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == whole
    narrowed = await client.get(f"/v1/contacts/{sari}/consents", params={"channel": "email", "purpose": "service"})
    assert [one["channel"] for one in narrowed.json()["items"]] == ["email"]
    first = (await client.get(f"/v1/contacts/{sari}/consents/current", params={"limit": 1})).json()
    second = (await client.get(f"/v1/contacts/{sari}/consents/current", params={"cursor": first["next_cursor"]})).json()
    current = [*first["items"], *second["items"]]
    assert [(one["channel"], one["purpose"], one["status"]) for one in current] == [
        ("email", "service", "denied"), ("whatsapp", "marketing", "granted"),
    ]  # fmt: skip
    assert current[1]["occurred_at"] == "2026-11-05T09:00:00Z"


async def test_one_fact_is_recorded_once(client):
    sari, budi = await made(client, SARI), await made(client, {"name": "Budi"})
    signup = {"external_id": "signup-1"}
    first = await record(client, sari, **signup)
    again = await client.post(f"/v1/contacts/{sari}/consents", json=GRANT | signup | {"status": "denied"})
    assert (again.status_code, again.json()) == (200, first)
    other = await client.post(f"/v1/contacts/{budi}/consents", json=GRANT | signup)
    assert (other.status_code, other.json()["code"]) == (409, "external_id_taken")
    assert other.json()["contact_id"] == str(sari)
    await record(client, budi, source="till-3", **signup)
    assert len((await client.get(f"/v1/contacts/{sari}/consents")).json()["items"]) == 1
    assert len((await client.get(f"/v1/contacts/{sari}/timeline")).json()["items"]) == 2


async def test_a_message_may_be_the_proof_of_a_consent(client):
    sari = await made(client, SARI)
    message = {
        "channel": "whatsapp", "kind": "message", "direction": "inbound", "body": "STOP", "source": "web-form",
        "external_id": "wamid.X", "occurred_at": "2026-11-01T09:30:00Z",
    }  # fmt: skip
    assert (await client.post(f"/v1/contacts/{sari}/interactions", json=message)).status_code == 201
    await record(client, sari, status="denied", external_id="wamid.X")
    assert await check(client, sari) == "denied"


async def test_a_retry_is_answered_as_the_first(client):
    sari = await made(client, SARI)
    key = {"Idempotency-Key": "k"}
    first, again = [await client.post(f"/v1/contacts/{sari}/consents", json=GRANT, headers=key) for _ in range(2)]
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = await client.post(f"/v1/contacts/{sari}/consents", json=GRANT | {"status": "denied"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_of_the_same_fact_many_times_at_once_there_is_one(live_client):
    sari = await made(live_client, SARI)
    body = GRANT | {"external_id": "signup-1"}
    answers = await at_once(*(live_client.post(f"/v1/contacts/{sari}/consents", json=body) for _ in range(12)))
    assert statuses(answers) == {201: 1, 200: 11}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await live_client.get(f"/v1/contacts/{sari}/consents")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"channel": "WhatsApp"}, "/channel"), ({"channel": "a.b"}, "/channel"), ({"purpose": ""}, "/purpose"),
        ({"purpose": "x" * 31}, "/purpose"), ({"status": "yes"}, "/status"), ({"status": None}, "/status"),
        ({"occurred_at": "2026-11-01"}, "/occurred_at"), ({"occurred_at": "2199-01-01T00:00:00Z"}, "/occurred_at"),
        ({"source": " "}, "/source"), ({"legal_basis": "The law"}, "/legal_basis"), ({"proof": 1}, "/proof"),
    ],
)  # fmt: skip
async def test_what_is_not_a_consent_is_refused_and_changes_nothing(client, session, changed, pointer):
    sari = await made(client, SARI)
    before = await checksum(session)
    answer = await client.post(f"/v1/contacts/{sari}/consents", json=GRANT | changed)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await checksum(session) == before


@pytest.mark.parametrize("evidence", ["x\x00", {"a": "x" * 66_000}, 7, ["x"], "x" * 20_001])
async def test_evidence_is_text_or_an_object_of_some_size(client, evidence):
    sari = await made(client, SARI)
    answer = await client.post(f"/v1/contacts/{sari}/consents", json=GRANT | {"evidence": evidence})
    assert answer.status_code == 422
    assert {error["pointer"].split("/")[1] for error in answer.json()["errors"]} == {"evidence"}


async def test_nobody_has_no_consents(client):
    nobody = f"/v1/contacts/{uuid7()}/consents"
    for answer in (
        await client.post(nobody, json=GRANT), await client.get(nobody), await client.get(f"{nobody}/current"),
        await client.get(f"{nobody}/check?channel=email&purpose=service"), await client.get(f"{nobody}/{uuid7()}"),
    ):  # fmt: skip
        assert answer.status_code == 404
        assert answer.json()["code"] in {"contact_not_found", "consent_not_found"}
    sari = await made(client, SARI)
    assert (await client.get(f"/v1/contacts/{sari}/consents")).json()["items"] == []
    assert (await client.get(f"/v1/contacts/{sari}/consents/current")).json()["items"] == []
    assert (await client.get(f"/v1/contacts/{sari}/consents/check?channel=email")).status_code == 422
    vague = await client.get(f"/v1/contacts/{sari}/consents/check?channel=email&purpose=all")
    assert (vague.status_code, vague.json()["code"]) == (422, "unspecific_message")


async def test_it_takes_the_scopes_of_contacts(client):
    sari = await made(client, SARI)
    reader = await client.limited_to("contacts:read")
    assert (await reader.post(f"/v1/contacts/{sari}/consents", json=GRANT)).status_code == 403
    assert (await reader.get(f"/v1/contacts/{sari}/consents/current")).status_code == 200


# ---------------------------------------------------------------------- merges, erasure, conditions


async def test_of_two_records_of_one_person_what_was_said_last_holds(client):
    await Shop.open(client)
    sari = await made(client, SARI)
    other = await made(client, {"name": "Sari D."})
    await record(client, sari, external_id="1", occurred_at="2026-11-01T09:00:00Z")
    denied = await record(client, other, external_id="2", status="denied", occurred_at="2026-11-02T09:00:00Z")
    merged = await merge(client, sari, other)
    assert await check(client, sari) == await check(client, other) == "denied"
    listed = (await client.get(f"/v1/contacts/{sari}/consents")).json()["items"]
    assert [one["status"] for one in listed] == ["denied", "granted"]
    for one in (sari, other):
        assert (await client.get(f"/v1/contacts/{one}/consents/{denied['id']}")).json() == denied
        again = await client.post(f"/v1/contacts/{one}/consents", json=GRANT | {"external_id": "2"})
        assert (again.status_code, again.json()) == (200, denied)
    await undo(client, merged)
    assert await check(client, sari) is None
    assert await check(client, other) == "denied"


async def test_what_was_shown_and_said_goes_with_the_person_and_is_told_them_before(client, session):
    await Shop.open(client)
    sari = await made(client, SARI)
    await record(client, sari, external_id="signup-1")
    told = (await client.get(f"/v1/contacts/{sari}/personal-data")).json()["sections"]["consents"]
    assert [one["evidence"] for one in told] == [GRANT["evidence"]]
    certificate = (await client.post(f"/v1/contacts/{sari}/erasure", json={})).json()
    assert (certificate["erased"]["consents"], certificate["kept"]["consents"]) == (1, 1)
    row = await session.fetchrow("SELECT * FROM consents")
    assert [row[name] for name in ("evidence", "source", "external_id")] == [None, None, None]
    assert (row["status"], row["legal_basis"]) == ("granted", "consent")
    again = await made(client, {"name": "Sari"})
    await record(client, again, external_id="signup-1")


async def test_a_rule_can_be_for_those_who_said_yes(client):
    shop = await Shop.open(client)
    rule = {
        **RULE,
        "name": "thanks",
        "condition": {"field": "consents.whatsapp.marketing", "op": "eq", "value": "granted"},
    }
    assert (await client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=rule)).status_code == 201
    sari, budi = await made(client, SARI), await made(client, {"name": "Budi"})
    await record(client, sari)
    await record(client, budi)
    await record(client, budi, channel="all", status="denied", occurred_at="2026-11-02T09:30:00Z")
    assert (await shop.buy(sari, order_ref="A")).json()["points"] == 2 * EARNED
    assert (await shop.buy(budi, order_ref="B")).json()["points"] == EARNED
    bad = {**rule, "condition": {"field": "consents.whatsapp", "op": "eq", "value": "granted"}}
    refused = await client.post(f"/v1/programs/{shop.program_id}/earning-rules", json=bad)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/condition/field")
