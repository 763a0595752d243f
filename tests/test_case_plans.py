"""With 10,000 open cases, a queue and a sweep use their indexes: no table of cases is read whole."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from benchmarks import caseload, history
from benchmarks.footprint import probed
from crm.care import sweeps
from crm.db.session import Database
from tests.conftest import Template

QUEUES: Final = {
    "what is due first": ("", 1_000),
    "of one agent": ("?assignee=agent7", 1_000),
    "of nobody": ("?assignee=", 1_500),
    "of one state": ("?status=waiting", 1_000),
    "of one priority": ("?priority=urgent", 1_500),
    "of one category": ("?category=category7", 4_000),
    "of one channel": ("?channel=email", 1_500),
    "that were late": ("?breached=true", 1_500),
    "the newest of all": ("?status=all&sort=-created_at", 1_000),
    "of one contact": ("?contact_id=00000000-0000-7000-9000-000000000007", 100),
    "counts of one agent": ("/counts?assignee=agent7", 1_500),
}
"""What is asked, and how many pages of 8 KB that may take with the clocks of fifty cases."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A database with many cases, and a key to the API on it."""

    dsn: str
    token: str


@pytest.fixture(scope="module")
async def caseload_(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await caseload.fill(dsn)
        yield Grown(dsn, shop.token)


@pytest.mark.parametrize("queue", QUEUES)
async def test_a_queue_reads_no_table_whole(caseload_: Grown, queue: str) -> None:
    query, pages_max = QUEUES[queue]
    async with probed(caseload_.dsn, caseload_.token, generic_plans=True) as probe:
        found = await probe.least(lambda: {"method": "GET", "url": f"/v1/cases{query}"})
    assert found.scanned == []
    assert found.buffers <= pages_max


async def test_a_later_page_costs_what_the_first_does(caseload_: Grown) -> None:
    async with probed(caseload_.dsn, caseload_.token, generic_plans=True) as probe:
        position = ""
        for _ in range(4):
            answer = await probe._client.get(f"/v1/cases?limit=200{position}")
            position = f"&cursor={answer.json()['next_cursor']}"
        first = await probe.least(lambda: {"method": "GET", "url": "/v1/cases"})
        later = await probe.least(lambda: {"method": "GET", "url": f"/v1/cases?limit=50{position}"})
    assert later.scanned == []
    assert later.buffers <= 1.2 * first.buffers


@pytest.mark.parametrize(("query", "index"), [(sweeps.DUE, "case_clocks_next_at_idx")])
async def test_a_sweep_finds_who_is_late_by_an_index(caseload_: Grown, query: str, index: str) -> None:
    database = await Database.connect(caseload_.dsn, size_max=1)
    for late in (timedelta(0), timedelta(days=30)):
        async with database.reading() as session:
            args: tuple[Any, ...] = (datetime.now(UTC) + late, sweeps.BATCH)
            plan = str(await session.fetch(f"EXPLAIN (FORMAT TEXT) {query}", *args))
        assert index in plan
        assert "Seq Scan" not in plan
    await database.close()
