"""What the core routes may cost, counted and not timed, so that it holds on any machine however busy.

The figures that need a clock are those of `make bench`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest

from benchmarks import costs, history
from benchmarks.footprint import probed
from tests.conftest import Template

MEMBERS: Final = costs.MEMBERS
ENTRIES: Final = costs.ENTRIES

STATEMENTS: Final = {
    "award": ["BEGIN", "SELECT", "WITH", "COMMIT"],
    "award with an Idempotency-Key": ["BEGIN", "SELECT", "WITH", "COMMIT"],
    "award with an end": ["BEGIN", "SELECT", "WITH", "COMMIT"],
    "purchase": ["BEGIN", "SELECT", "WITH", "COMMIT"],
    "redemption": ["BEGIN", "SELECT", "WITH", "COMMIT"],
    "balance": ["SELECT"],
    "timeline page": ["SELECT"],
    "contact by id": ["SELECT"],
}
"""What each route says to the database: a lock and one write, or one read."""

PAGES_MAX: Final = {
    "award": 72,
    "award with an Idempotency-Key": 84,
    "award with an end": 72,
    "purchase": 90,
    "redemption": 100,
    "balance": 18,
    "timeline page": 72,
    "contact by id": 12,
}
"""How many pages of 8 KB each may look at with 100,000 entries: a quarter more than they did."""

WAL_BYTES_MAX: Final = 2_800
HOT_MIN: Final = 0.95


@dataclass(frozen=True, slots=True)
class Grown:
    """A database with a history, and a key to the API on it."""

    dsn: str
    token: str


@pytest.fixture(scope="module")
async def grown(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES, whole=True)
        yield Grown(dsn, shop.token)


def test_every_core_route_has_its_gates() -> None:
    assert STATEMENTS.keys() == PAGES_MAX.keys() == costs.ROUTES.keys()


@pytest.mark.parametrize("route", costs.ROUTES)
async def test_a_route_costs_no_more_round_trips_and_pages_than_it_needs(grown: Grown, route: str) -> None:
    async with probed(grown.dsn, grown.token) as probe:
        found = await probe.least(costs.ROUTES[route])
        assert [statement.partition(" ")[0] for statement in found.statements] == STATEMENTS[route]
        assert found.buffers <= PAGES_MAX[route]


@pytest.mark.parametrize("route", costs.ROUTES)
async def test_no_plan_of_a_route_reads_a_whole_table(grown: Grown, route: str) -> None:
    # With plans for whatever the arguments are: the kind that a busy connection ends up with.
    async with probed(grown.dsn, grown.token, generic_plans=True) as probe:
        found = await probe.footprint(costs.ROUTES[route]() for _ in range(10))
        assert found.scanned == []


async def test_an_award_writes_little_and_touches_no_index_of_its_account(grown: Grown) -> None:
    async with probed(grown.dsn, grown.token) as probe:
        # An old snapshot, such as autovacuum's after the load, keeps dead rows and so the space of new ones: ask again.
        found = await costs.awards(probe)
        for _ in range(4):
            if found.hot_ratio("loyalty_accounts") >= HOT_MIN:
                break
            found = await costs.awards(probe)
        assert found.hot_ratio("loyalty_accounts") >= HOT_MIN
        if not found.wal_pages:  # else a checkpoint came between
            assert found.wal_bytes / costs.AWARDS <= WAL_BYTES_MAX
