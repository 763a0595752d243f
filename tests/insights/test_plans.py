"""What reports cost with a hundred thousand movements, counted and not timed: everything is read once, nothing for
each member anew."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import pytest

from benchmarks import history
from benchmarks.footprint import probed
from crm.insights import liabilities, periods, reports
from tests.conftest import Template

MEMBERS: Final = 1_000
ENTRIES: Final = 100_000
LOOPS_MAX: Final = 3
"""A worker is a loop too."""
TYPES: Final = {"points": "uuid, timestamptz[], timestamptz, timestamptz", "cohorts": "uuid, timestamptz[]"}
NEW_YORK: Final = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Grown:
    dsn: str
    shop: history.Shop


@pytest.fixture(scope="module")
async def grown(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES, whole=True)
        yield Grown(dsn, shop)


def queries(shop: history.Shop, days: int) -> dict[str, tuple[Any, ...]]:
    """Each query of a report over the last days, with its arguments."""
    now = datetime.now(UTC)
    span = periods.of_report((now - timedelta(days=days)).date(), None, by="week", zone=NEW_YORK, now=now)
    starts = [each.starts_at for each in span.split("week")]
    return {
        "points": (reports.POINTS, shop.program_id, starts, span.starts_at, span.ends_at),
        "cohorts": (reports.COHORTS, shop.program_id, [*starts, span.ends_at]),
        "liability": (liabilities.LIABILITY, shop.program_id, now),
        "liability of then": (liabilities.LIABILITY, shop.program_id, now - timedelta(days=days)),
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("days", [1, 30, 360])
@pytest.mark.parametrize("report", ["points", "cohorts", "liability", "liability of then"])
async def test_no_plan_of_a_report_does_anything_for_each_member(grown, report, days, mode):
    query, *args = queries(grown.shop, days)[report]
    literals = ", ".join(f"'{written(arg)}'" for arg in args)
    connection = await asyncpg.connect(grown.dsn, server_settings={"plan_cache_mode": mode, "jit": "off"})
    await connection.execute(f"PREPARE report ({TYPES.get(report, 'uuid, timestamptz')}) AS {query}")
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE report ({literals})")
    await connection.close()
    (root,) = msgspec.json.decode(explained)
    for node in nodes(root["Plan"]):
        assert node["Actual Loops"] <= LOOPS_MAX, node


def written(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(f'"{item.isoformat()}"' for item in value) + "}"
    return value.isoformat() if isinstance(value, datetime) else str(value)


async def test_a_recent_report_reads_the_recent_movements_only(grown):
    async def pages(days: int) -> dict[str, int]:
        connection = await asyncpg.connect(grown.dsn, server_settings={"jit": "off"})
        found = {}
        for name, (query, *args) in queries(grown.shop, days).items():
            explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *args)
            (root,) = msgspec.json.decode(explained)
            found[name] = sum(
                node["Shared Hit Blocks"] + node["Shared Read Blocks"]
                for node in nodes(root["Plan"])
                if node.get("Relation Name") == "points_movements"
            )
        await connection.close()
        return found

    week, year = await pages(7), await pages(360)
    for name in ("points", "liability of then"):
        assert week[name] < year[name] / 5
    assert week["liability"] < year["points"] / 5


@pytest.mark.parametrize("path", ["liability", "reports/points", "reports/cohorts"])
async def test_a_report_is_two_statements_however_many_members_there_are(grown, path):
    async with probed(grown.dsn, grown.shop.token) as probe:
        call = {"method": "GET", "url": f"/v1/programs/{grown.shop.program_id}/{path}"}
        await probe.footprint([call])
        found = await probe.footprint([call])
        assert [statement.split()[0] for statement in found.statements] in (["SELECT", "WITH"], ["SELECT", "SELECT"])


async def test_a_statement_reads_one_account_and_no_whole_table(grown):
    async with probed(grown.dsn, grown.shop.token, generic_plans=True) as probe:
        first = (datetime.now(UTC) - timedelta(days=300)).date()
        call = {"method": "GET", "url": f"/v1/contacts/{history.member(5)}/loyalty/statement?from={first}"}
        await probe.footprint([call])
        found = await probe.footprint([call])
        assert found.scanned == []
        assert len(found.statements) == 3
        assert found.buffers < 10 * ENTRIES / MEMBERS
