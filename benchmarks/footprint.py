"""What a request costs, counted and not timed: round trips, pages, WAL, tables read from end to end.

The numbers come from Postgres' own statistics of one connection, so they hold for the statements inside of its
functions too, and on a busy machine.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import httpx
from asyncpg.connection import LoggedQuery

from crm.app import create_app
from crm.db.session import Database, Session

_FLUSH: Final = "SELECT pg_stat_force_next_flush()"
_TABLES: Final = """
    SELECT s.relname, s.seq_scan, s.n_tup_upd, s.n_tup_hot_upd,
        i.heap_blks_read + i.heap_blks_hit + coalesce(i.idx_blks_read + i.idx_blks_hit, 0)
            + coalesce(i.toast_blks_read + i.toast_blks_hit + i.tidx_blks_read + i.tidx_blks_hit, 0)
    FROM pg_stat_user_tables s JOIN pg_statio_user_tables i USING (relid)
"""
_WAL: Final = "SELECT wal_bytes::bigint, wal_fpi FROM pg_stat_get_backend_wal(pg_backend_pid())"
_WAL_SINCE: Final = 18
_SMALL: Final = frozenset({"programs", "earning_rules", "tiers", "api_keys"})
_PLANNED: Final = 6
"""After so many executions Postgres has settled for one plan for all arguments, or against it."""
_TRIES: Final = 5

Call = Mapping[str, Any]
"""The arguments of a request: `method`, `url`, `json`."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Of each table: whole reads, updates, heap-only updates, and pages. And of the connection: WAL, and whole pages
    in it, both 0 on a Postgres that does not count them."""

    tables: Mapping[str, tuple[int, int, int, int]]
    wal_bytes: int
    wal_pages: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What was counted during some requests. `scanned` are tables that were read from end to end."""

    statements: list[str]
    buffers: int
    scanned: list[str]
    wal_bytes: int
    wal_pages: int
    updates: Mapping[str, tuple[int, int]]

    def hot_ratio(self, table: str) -> float:
        """The share of updates of a table that touched none of its indexes."""
        updates, hot = self.updates[table]
        return hot / updates


class Probe:
    """The API in this process, on one connection that is listened to."""

    def __init__(self, client: httpx.AsyncClient, database: Database, heard: list[str]) -> None:
        self._client = client
        self._database = database
        self._heard = heard

    async def footprint(self, calls: Iterable[Call]) -> Footprint:
        """What these requests cost together."""
        before = await self._counters()
        self._heard.clear()
        for call in calls:
            answer = await self._client.request(**call)
            assert answer.is_success, answer.text
        heard = self._heard.copy()
        after = await self._counters()
        spent = {
            name: tuple(now - was for now, was in zip(counts, before.tables[name], strict=True))
            for name, counts in after.tables.items()
        }
        return Footprint(
            statements=heard,
            buffers=sum(counts[3] for counts in spent.values()),
            scanned=sorted(name for name, counts in spent.items() if counts[0] and name not in _SMALL),
            wal_bytes=after.wal_bytes - before.wal_bytes,
            wal_pages=after.wal_pages - before.wal_pages,
            updates={name: (counts[1], counts[2]) for name, counts in spent.items()},
        )

    async def least(self, call: Callable[[], Call]) -> Footprint:
        """What a request costs in a process that has answered its like before, when no page is full and has to split.

        The statements are the same each time.
        """
        for _ in range(_PLANNED):
            await self.footprint([call()])
        found = [await self.footprint([call()]) for _ in range(_TRIES)]
        # Who the caller is, is asked anew every few seconds.
        alike = [one for one in found if not any("api_keys" in statement for statement in one.statements)]
        least = min(alike, key=lambda one: one.buffers)
        assert all(one.statements == least.statements for one in alike)
        return least

    async def _counters(self) -> Counters:
        async with self._database.reading() as session:
            await session.execute(_FLUSH)
            tables = {name: tuple(counts) for name, *counts in await session.fetch(_TABLES)}
            wal = await session.fetchrow(_WAL) if await _counts_wal(session) else (0, 0)
        assert wal is not None
        return Counters(tables, *wal)


@asynccontextmanager
async def probed(dsn: str, token: str, *, generic_plans: bool = False) -> AsyncIterator[Probe]:
    """Open the application on a database. With `generic_plans`, arguments never help the planner."""
    heard: list[str] = []
    database = await Database.connect(dsn, size_max=1)
    async with database.reading() as session:
        session.driver.add_query_logger(lambda query: _hear(heard, query))
        if generic_plans:
            await session.execute("SET plan_cache_mode = force_generic_plan")
    app, asgi = create_app(lambda: nullcontext(database))
    async with (
        app.lifespan(),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(asgi),  # type: ignore[arg-type]
            base_url="http://bench",
            headers={"Authorization": f"Bearer {token}"},
        ) as client,
    ):
        yield Probe(client, database, heard)
    await database.close()


def _hear(heard: list[str], query: LoggedQuery) -> None:
    heard.append(" ".join(query.query.split()))


async def _counts_wal(session: Session) -> bool:
    return bool(session.driver.get_server_version().major >= _WAL_SINCE)
