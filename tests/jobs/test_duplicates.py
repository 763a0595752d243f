"""The nightly look for contacts who are one person."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.jobs import JOBS, SCHEDULES, duplicates
from crm.settings import Settings

NOW = datetime(2026, 11, 26, 4, 7, tzinfo=UTC)
TWINS = ({"name": "Sari Dewi", "birth_on": "1990-03-10"}, {"name": "Sari Devi", "birth_on": "1990-03-10"})


async def night(client: Any, *, now: datetime = NOW) -> list[dict[str, Any]]:
    """The scans that there are once a night has come."""
    await SCHEDULES["ask_for_scan"].run(client.database, now=now)
    items: list[dict[str, Any]] = (await client.get("/v1/duplicates/scans")).json()["items"]
    return items


async def work(client: Any) -> None:
    async with client.database.reading() as session:
        rows = await session.fetch("SELECT id FROM duplicate_scans WHERE status IN ('pending', 'failed')")
    for row in rows:
        await JOBS["scan_for_duplicates"](client.database, {"scan_id": str(row["id"])}, now=datetime.now(UTC))


async def test_each_night_suggests_who_may_be_one_person_and_no_pair_twice(live_client):
    for twin in TWINS:
        answer = await live_client.post("/v1/contacts", json={**twin, "on_duplicate": "create"})
        assert answer.status_code == 201
    async with live_client.database.begin() as session:
        await session.execute("DELETE FROM duplicate_pairs")
    for number in (1, 2):
        scans = await night(live_client, now=NOW + timedelta(days=number))
        assert (scans[0]["status"], scans[0]["by"], len(scans)) == ("pending", "system", number)
        await work(live_client)
        pairs = (await live_client.get("/v1/duplicates")).json()["items"]
        assert len(pairs) == 1
    assert {scan["status"] for scan in (await live_client.get("/v1/duplicates/scans")).json()["items"]} == {"completed"}


async def test_one_that_has_not_ended_will_do(live_client):
    first = await night(live_client)
    assert await night(live_client, now=NOW + timedelta(days=1)) == first
    async with live_client.database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM pgqueuer WHERE entrypoint = 'scan_for_duplicates'") == 1


@pytest.mark.parametrize(("said", "expected"), [("false", 0), ("true", 1)])
async def test_it_can_be_switched_off(live_client, monkeypatch, said, expected):
    monkeypatch.setenv("CRM_SCAN_FOR_DUPLICATES", said)
    monkeypatch.setattr(duplicates, "_settings", Settings)
    assert len(await night(live_client)) == expected
