"""What the reports over all contacts cost, counted and not timed: each table once, and of a recent period the recent
rows only."""

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
from crm.db.session import prepare
from crm.insights import journeys, replies, volumes
from crm.insights.periods import Span
from crm.insights.stages import Rules
from tests.conftest import Template

MEMBERS: Final = 2_000
ENTRIES: Final = 100_000
LOOPS_MAX: Final = 3
"""A worker is a loop too."""
ZONE: Final = ZoneInfo("America/New_York")

# Every other entry becomes a message of a thread of its own, a third of them answered.
_THREADS: Final = """
    INSERT INTO threads (contact_id, id, account_id, channel, opened_at, last_at, messages_count)
    SELECT contact_id, id, id, 'email', occurred_at, occurred_at + interval '1 hour', 2
    FROM interactions WHERE abs(hashtext(id::text)) % 2 = 0 ORDER BY occurred_at
"""
_MESSAGES: Final = """
    INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, direction, thread_id, by)
    SELECT t.contact_id, gen_random_uuid(), t.opened_at + n * interval '20 minutes', t.opened_at, 'email', 'message',
        CASE n WHEN 0 THEN 'inbound' ELSE 'outbound' END, t.id, 'key:desk'
    FROM threads t CROSS JOIN generate_series(0, 1) n WHERE n = 0 OR abs(hashtext(t.id::text)) % 3 = 0
    ORDER BY t.opened_at + n * interval '20 minutes'
"""
_TIERS: Final = """
    INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, data, by)
    SELECT a.contact_id, gen_random_uuid(), a.enrolled_at - interval '30 days', now(), 'loyalty', 'tier.changed',
        jsonb_build_object('program_id', a.program_id, 'to', 'Gold'), 'system'
    FROM loyalty_accounts a WHERE abs(hashtext(a.contact_id::text)) % 4 = 0
"""


@dataclass(frozen=True, slots=True)
class Grown:
    dsn: str
    shop: history.Shop


@pytest.fixture(scope="module")
async def grown(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=ENTRIES, whole=True)
        connection = await asyncpg.connect(dsn)
        for statement in (_THREADS, _MESSAGES, _TIERS, "VACUUM ANALYZE"):
            await connection.execute(statement)
        await connection.close()
        yield Grown(dsn, shop)


def queries(shop: history.Shop, days: int) -> dict[str, tuple[Any, ...]]:
    """Each query over the last days, with its arguments."""
    today = datetime.now(UTC).astimezone(ZONE).date()
    span = Span(today - timedelta(days=days - 1), today, ZONE)
    starts = [each.starts_at for each in span.split("month" if days > 100 else "day")]
    rules = Rules(loyal_tiers=["Gold"])
    return {
        "volumes": (volumes.COUNTS, span.starts_at, span.ends_at, starts, list(range(len(starts))), None),
        "replies": (replies.REPLIES, span.starts_at, span.ends_at),
        "journeys": (journeys.COUNTS, shop.program_id, *journeys.arguments(rules, Span(today, today, ZONE))),
    }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


async def explained(dsn: str, query: str, *args: Any, mode: str = "auto") -> dict[str, Any]:
    connection = await asyncpg.connect(dsn, server_settings={"plan_cache_mode": mode, "jit": "off"})
    await prepare(connection)
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}", *args)
    await connection.close()
    (root,) = msgspec.json.decode(plan)
    return dict(root["Plan"])


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("days", [1, 30, 360])
@pytest.mark.parametrize("report", ["volumes", "journeys"])
async def test_no_plan_of_a_report_does_anything_for_each_contact(grown, report, days, mode):
    for node in nodes(await explained(grown.dsn, *queries(grown.shop, days)[report], mode=mode)):
        assert node["Actual Loops"] <= LOOPS_MAX, node


# Of a few threads each is looked up by itself; of many, all are read.
@pytest.mark.parametrize(("report", "times"), [("volumes", 5), ("replies", 2)])
async def test_a_recent_report_reads_the_recent_interactions_only(grown, report, times):
    async def pages(days: int) -> int:
        plan = await explained(grown.dsn, *queries(grown.shop, days)[report])
        return sum(
            node["Shared Hit Blocks"] + node["Shared Read Blocks"]
            for node in nodes(plan)
            if node.get("Relation Name") in ("interactions", "threads")
        )

    assert await pages(7) < await pages(360) / times


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("insights/volume", 2), ("insights/replies", 2), ("insights/surveys?group_by=segment", 2),
        ("insights/cases?group_by=agent", 3), ("insights/journey", 3),
        ("insights/overview", 16),
    ],
)  # fmt: skip
async def test_a_report_is_so_many_statements_however_many_contacts_there_are(grown, path, count):
    async with probed(grown.dsn, grown.shop.token) as probe:
        call = {"method": "GET", "url": f"/v1/{path}"}
        await probe.footprint([call])
        found = await probe.footprint([call])
        assert len([each for each in found.statements if "api_keys" not in each]) <= count


async def test_one_persons_journey_reads_no_whole_table(grown):
    async with probed(grown.dsn, grown.shop.token, generic_plans=True) as probe:
        call = {"method": "GET", "url": f"/v1/contacts/{history.member(5)}/journey"}
        await probe.footprint([call])
        found = await probe.footprint([call])
        assert set(found.scanned) <= {"journey_rules", "refunds"}, "of which there are none"
        assert len(found.statements) == 4
        assert found.buffers < 10 * ENTRIES / MEMBERS
