"""What people want done with their data is carried out, once it is sure whose it is."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.jobs import JOBS, SCHEDULES
from tests.inbox.desk import Desk
from tests.inbox.toychat import at, email, message, person, phone, toy

NUMBER = "+628123456789"


@pytest.fixture
async def desk(live_desk: Desk) -> Desk:
    """Requests are carried out in transactions of their own."""
    return live_desk


def wish(topic: str, *addresses: dict[str, Any], external_id: str = "p1", **data: Any) -> dict[str, Any]:
    return {
        "event": "PrivacyRequested", "external_id": external_id, "topic": topic, "occurred_at": at(),
        "person": person(*addresses) if addresses else None, "data": data,
    }  # fmt: skip


async def carried_out(desk: Desk) -> dict[str, Any]:
    """The newest request, once the worker has had it."""
    async with desk.client.database.reading() as session:
        queued = await session.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'carry_out_privacy_requests'")
    assert queued
    await JOBS["carry_out_privacy_requests"](desk.client.database, {}, now=datetime.now(UTC))
    items: list[dict[str, Any]] = (await desk.client.get("/v1/privacy-requests")).json()["items"]
    return items[0]


async def known(desk: Desk) -> str:
    """Sari, who has written, and whose number and e-mail address she typed herself."""
    sari = person(toy("sari"), phone(NUMBER), email("sari@example.com"))
    await desk.hear({**message("m1", "nomor saya 4111"), "person": sari})
    return str((await desk.contact())["id"])


async def tasks_of(desk: Desk, contact_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await desk.client.get(f"/v1/contacts/{contact_id}/tasks")).json()["items"]
    return items


async def everything(desk: Desk) -> str:
    async with desk.client.database.reading() as session:
        tables = [row[0] for row in await session.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = [
            str(dict(row))
            for table in tables
            if not table.startswith("pgqueuer")
            for row in await session.fetch(f"SELECT * FROM {table}")
        ]
    return "\n".join(rows)


async def test_who_wants_to_be_forgotten_is_erased_with_a_certificate(desk):
    sari = await known(desk)
    await desk.hear(wish("erasure", toy("sari"), email("sari@example.com"), orders=["1001"]))
    done = await carried_out(desk)
    assert (done["status"], done["contact_id"], done["reason"]) == ("done", sari, None)
    assert (done["identities"], done["data"]) == ([], {})
    certificate = (await desk.client.get(f"/v1/erasures/{done['erasure_id']}")).json()
    assert (certificate["contact_id"], certificate["reason"], certificate["by"]) == (sari, "privacy_request", "system")
    assert (await desk.client.get(f"/v1/contacts/{sari}")).json()["code"] == "contact_erased"
    left = await everything(desk)
    for words in ("4111", "sari@example.com", NUMBER, "'sari'"):
        assert words not in left, words


async def test_who_wants_to_know_is_told_by_somebody_with_a_task(desk):
    sari = await known(desk)
    await desk.hear(wish("export", toy("sari")))
    done = await carried_out(desk)
    assert (done["status"], done["contact_id"], done["erasure_id"]) == ("done", sari, None)
    [task] = await tasks_of(desk, sari)
    assert task["id"] == done["task_id"]
    assert f"/v1/contacts/{sari}/personal-data.html" in task["note"]
    due = datetime.fromisoformat(task["due_at"]) - datetime.fromisoformat(done["occurred_at"])
    assert due.days == 30
    told = (await desk.client.get(f"/v1/contacts/{sari}/personal-data")).json()["sections"]["privacy_requests"]
    assert [one["topic"] for one in told] == ["export"]
    await SCHEDULES["carry_out_due_privacy_requests"].run(desk.client.database, now=datetime.now(UTC))
    assert len(await tasks_of(desk, sari)) == 1


@pytest.mark.parametrize("topic", ["export", "erasure"])
async def test_of_an_address_that_was_only_typed_somebody_decides(desk, topic):
    sari = await known(desk)
    await desk.hear(wish(topic, toy("stranger"), email("sari@example.com")))
    waiting = await carried_out(desk)
    assert (waiting["status"], waiting["reason"], waiting["contact_id"]) == ("waiting", "not_vouched", sari)
    assert (await desk.client.get(f"/v1/contacts/{sari}")).status_code == 200
    [task] = await tasks_of(desk, sari)
    assert (task["id"], waiting["id"] in task["note"]) == (waiting["task_id"], True)

    answer = await desk.client.post(f"/v1/privacy-requests/{waiting['id']}/processing", json={"contact_id": sari})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending"), answer.text
    done = await carried_out(desk)
    assert (done["status"], done["decided_by"]) == ("done", answer.json()["decided_by"])
    again = await desk.client.post(f"/v1/privacy-requests/{waiting['id']}/processing", json={})
    assert (again.status_code, again.json()["code"]) == (409, "privacy_request_done")
    found = await desk.client.get(f"/v1/contacts/{sari}")
    assert found.status_code == (404 if topic == "erasure" else 200)


async def test_a_request_is_over_when_somebody_erases_the_person_themselves(desk):
    sari = await known(desk)
    await desk.hear(wish("erasure", email("sari@example.com")))
    assert (await carried_out(desk))["status"] == "waiting"
    assert (await desk.client.post(f"/v1/contacts/{sari}/erasure", json={})).status_code == 201
    [over] = (await desk.client.get("/v1/privacy-requests")).json()["items"]
    assert (over["status"], over["identities"]) == ("done", [])


async def test_of_several_who_it_may_be_nobody_is_erased(desk):
    sari = await known(desk)
    await desk.hear(message("m2", "Halo", who=toy("budi")))
    await desk.hear(wish("erasure", toy("sari"), toy("budi")))
    waiting = await carried_out(desk)
    assert (waiting["status"], waiting["reason"]) == ("waiting", "several_contacts")
    assert (await desk.client.get(f"/v1/contacts/{sari}")).status_code == 200


async def test_of_whom_nothing_is_kept_there_is_nothing_to_do(desk):
    await desk.hear(wish("erasure", toy("nobody")))
    assert (await carried_out(desk))["status"] == "nobody_known"
    path = f"/v1/privacy-requests/{(await carried_out(desk))['id']}/processing"
    missing = await desk.client.post(path, json={"contact_id": str(UUID(int=7))})
    assert (missing.status_code, missing.json()["code"]) == (404, "contact_not_found")


async def test_a_shop_that_is_given_up_leaves_nothing_it_delivered(desk):
    sari = await known(desk)
    await desk.hear(wish("shop_erasure", shop="toko"))
    done = await carried_out(desk)
    assert (done["status"], done["reason"]) == ("done", "contacts_kept")
    items = (await desk.client.get("/v1/deliveries")).json()["items"]
    assert all(item["purged_at"] is not None for item in items)
    assert (await desk.client.get(f"/v1/contacts/{sari}")).status_code == 200


async def test_one_that_breaks_off_keeps_no_other_waiting(desk):
    await known(desk)
    await desk.hear(wish("export", toy("sari"), external_id="p1"), wish("export", toy("sari"), external_id="p2"))
    stays = "ALTER TABLE privacy_requests ADD CONSTRAINT stays CHECK (external_id <> 'p1' OR status = 'pending')"
    async with desk.client.database.begin() as session:
        await session.execute(stays)
    try:
        second = await carried_out(desk)
    finally:
        async with desk.client.database.begin() as session:
            await session.execute("ALTER TABLE privacy_requests DROP CONSTRAINT stays")
    [_, first] = (await desk.client.get("/v1/privacy-requests")).json()["items"]
    assert (first["status"], second["status"]) == ("pending", "done")
    await carried_out(desk)
    assert {one["status"] for one in (await desk.client.get("/v1/privacy-requests")).json()["items"]} == {"done"}


async def test_deciding_takes_the_scopes_of_an_erasure(desk):
    await desk.hear(wish("erasure", toy("nobody")))
    request = await carried_out(desk)
    for scopes in (("channels:read",), ("contacts:write",), ("loyalty:adjust", "contacts:read")):
        other = await desk.client.limited_to(*scopes)
        answer = await other.post(f"/v1/privacy-requests/{request['id']}/processing", json={})
        assert answer.status_code == 403


async def test_who_asked_is_not_kept_for_ever(desk):
    await desk.hear(wish("erasure", toy("nobody"), email("nobody@example.com")))
    await carried_out(desk)
    for days, kept in ((29, True), (31, False)):
        await SCHEDULES["purge_deliveries"].run(desk.client.database, now=datetime.now(UTC) + timedelta(days=days))
        assert ("nobody@example.com" in await everything(desk)) == kept
