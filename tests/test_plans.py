"""Searches and filters use their indexes, with 100,000 contacts and 100,000 interactions: no table is read whole."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest

from benchmarks import history
from benchmarks.footprint import probed
from tests.conftest import Template

CONTACTS: Final = 100_000
MEMBERS: Final = 1_000
ENTRIES: Final = 100_000

SEARCHES: Final = {
    "the newest": ("", 500),
    "of a name": ("?q=Member%2077123", 4_000),
    "of a name that is misspelled": ("?q=Membre%2077123", 2_000),
    "by an address": ("?q=member77123@example.com", 1_000),
    "by the beginning of an address": ("?q=member7712", 6_000),
    "with a tag": ("?tag=regular", 500),
    "with a tag that nobody has": ("?tag=unknown", 600),
}
"""What is looked for, and how many pages of 8 KB that may take."""
FILTERS: Final = {
    "everything": ("", 80),
    "a channel": ("?channel=loyalty", 80),
    "a kind": ("?kind=points.earned", 80),
    "a period": ("?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", 80),
    "a kind in a period": ("?kind=points.earned&from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", 80),
    "a kind that there is none of": ("?kind=call", 160),
}
"""What is asked of a timeline of a hundred interactions, and how many pages that may take: the last reads them all."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A database with a history, and a key to the API on it."""

    dsn: str
    token: str


@pytest.fixture(scope="module")
async def crowd(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await history.fill(dsn, program_id=shop.program_id, members=CONTACTS, entries=0)
        yield Grown(dsn, shop.token)


@pytest.fixture(scope="module")
async def talk(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES)
        yield Grown(dsn, shop.token)


@pytest.mark.parametrize("search", SEARCHES)
async def test_a_search_reads_no_table_whole(crowd: Grown, search: str) -> None:
    query, pages_max = SEARCHES[search]
    async with probed(crowd.dsn, crowd.token, generic_plans=True) as probe:
        found = await probe.least(lambda: {"method": "GET", "url": f"/v1/contacts{query}"})
    assert found.scanned == []
    assert found.buffers <= pages_max


@pytest.mark.parametrize("asked", FILTERS)
async def test_a_filter_of_the_timeline_reads_no_table_whole(talk: Grown, asked: str) -> None:
    query, pages_max = FILTERS[asked]
    path = f"/v1/contacts/{history.member(7)}/timeline{query}"
    async with probed(talk.dsn, talk.token, generic_plans=True) as probe:
        found = await probe.least(lambda: {"method": "GET", "url": path})
    assert found.scanned == []
    assert found.buffers <= pages_max
