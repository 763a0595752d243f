"""(a) What an award costs over HTTP, called straight, and as SQL alone, each against the least that it could cost."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks import bare, history, load, posting, stage
from benchmarks.rounds import Part, Ratio
from benchmarks.stage import BARE, CLIENTS, OURS, Stage
from crm.db.session import Database
from crm.loyalty import ledger
from crm.loyalty.ledger import Award

MEMBERS = 50_000
TPCB_SCALE = 10
REQUESTS = 20_000
BODY = {"points": posting.POINTS, "reason": "goodwill"}

FIGURES = (
    Ratio("award over HTTP ÷ bare HTTP handler, minimal statement", "HTTP award", "HTTP bare", at_least=0.5),
    Ratio("award over HTTP ÷ the same posting, called straight", "HTTP award", "asyncpg award"),
    Ratio("posting ÷ minimal award of two statements, asyncpg", "asyncpg award", "asyncpg minimal", at_least=0.4),
    Ratio("posting ÷ minimal award of two statements, pgbench", "pgbench award", "pgbench minimal"),
    Ratio("posting ÷ TPC-B, both pgbench", "pgbench award", "pgbench TPC-B", at_least=1.0),
    Ratio("posting from asyncpg ÷ TPC-B from pgbench", "asyncpg award", "pgbench TPC-B"),
    Ratio("award with an Idempotency-Key ÷ without", "HTTP award, key", "HTTP award"),
)


@asynccontextmanager
async def opened(at: Stage) -> AsyncIterator[Part]:
    """Prepare tables and servers for as long as the part takes its turns."""
    dsn = await at.database("awards")
    shop = await history.open_shop(dsn)
    await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=0)
    await _make_bare(dsn)
    await at.make_tpcb(await at.database("tpcb", template="template1"), scale=TPCB_SCALE)
    chance = random.Random(1)

    def somebody() -> UUID:
        return history.member(chance.randint(1, MEMBERS))

    members = [somebody() for _ in range(REQUESTS)]
    award = await posting.award_script(dsn, at.folder, members=MEMBERS)
    minimal = posting.bare_script(at.folder, members=MEMBERS)

    async with AsyncExitStack() as stack:
        database = await Database.connect(dsn, size_max=CLIENTS)
        stack.push_async_callback(database.close)
        ours = await stack.enter_async_context(stage.serving(at, OURS, dsn))
        theirs = await stack.enter_async_context(stage.serving(at, BARE, dsn))

        async def post() -> None:
            one = Award(somebody(), posting.POINTS, "goodwill")
            async with database.begin() as session:
                await ledger.award(
                    session, program_id=None, award=one, by="key:bench", once=None, now=datetime.now(UTC)
                )

        async def post_minimal() -> None:
            contact_id = somebody()
            async with database.begin() as session:
                await session.fetchval(bare.UPDATE, contact_id, posting.POINTS)
                await session.execute(bare.INSERT, contact_id, posting.POINTS, "goodwill")

        def posts(path: str, **more: Any) -> list[dict[str, Any]]:
            return [{"method": "POST", "path": path.format(one), "body": BODY, **more} for one in members]

        awards = posts("/v1/contacts/{}/points-awards", token=shop.token)
        with_key = posts("/v1/contacts/{}/points-awards", token=shop.token, key=load.STAMP)
        bare_awards = posts("/contacts/{}/awards")
        await at.settled()
        yield Part(
            "(a) Award", "awards",
            {
                "HTTP bare": lambda: at.http(theirs, bare_awards),
                "HTTP award": lambda: at.http(ours, awards),
                "HTTP award, key": lambda: at.http(ours, with_key),
                "asyncpg award": lambda: at.direct(post),
                "asyncpg minimal": lambda: at.direct(post_minimal),
                "pgbench minimal": lambda: at.pgbench("awards", *minimal.options()),
                "pgbench award": lambda: at.pgbench("awards", *award.options()),
                "pgbench TPC-B": lambda: at.pgbench("tpcb", "--protocol=prepared"),
            },
            FIGURES,
        )  # fmt: skip


async def _make_bare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(bare.SCHEMA)
    await connection.execute(
        f"INSERT INTO bare_balances SELECT {history.member_sql('i')}, 0 FROM generate_series(1, {MEMBERS}) i"
    )
    await connection.execute("VACUUM ANALYZE bare_balances")
    await connection.close()
