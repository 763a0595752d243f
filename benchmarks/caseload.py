"""(i) Cases: a page of the queue, its counts, and a sweep of the clocks, with 10,000 open cases among as many more."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from benchmarks.rounds import Part, Rate, Ratio, Sample, Turn
from benchmarks.stage import Stage
from crm.care import case_queue, sweeps
from crm.care.case_queue import Filter
from crm.db.session import Database, Session
from crm.vocabulary import VOCABULARY

LIVE, ENDED = 10_000, 40_000
TIMES, TIMES_QUICK = 50, 10

# Of a tenth of the live cases the first reply is due within the hour, of the others later or never.
_FILL: Final = (
    """
    INSERT INTO agents (id, name, status, version, created_at, updated_at)
    SELECT 'agent' || n, 'Agent ' || n, 'active', 1, now(), now() FROM generate_series(1, 40) n
    """,
    """
    INSERT INTO contacts (id, name, version, created_at, updated_at)
    SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Customer ' || n, 1, now(), now()
    FROM generate_series(1, $1::int + $2::int) n
    """,
    """
    INSERT INTO cases (contact_id, id, subject, category, priority, status, channel, assignee, due_at, breach_count,
        resolved_at, closed_at, version, created_at, created_by, updated_at)
    SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid,
        ('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Case ' || n, 'category' || n % 20,
        (ARRAY['low', 'normal', 'high', 'urgent'])[1 + n % 4],
        CASE WHEN n > $1 THEN 'closed' WHEN n % 5 = 0 THEN 'waiting' ELSE 'open' END,
        (ARRAY['whatsapp', 'email', 'web'])[1 + n % 3], CASE WHEN n % 10 > 0 THEN 'agent' || 1 + n % 40 END,
        CASE WHEN n <= $1 AND n % 10 < 8 THEN now() + n * interval '6 minutes' END, (n % 50 = 0)::int,
        CASE WHEN n > $1 THEN now() END, CASE WHEN n > $1 THEN now() END, 1, now(), 'bench', now()
    FROM generate_series(1, $1::int + $2::int) n
    """,
    "INSERT INTO case_directory (id, contact_id) SELECT id, contact_id FROM cases",
    """
    INSERT INTO case_clocks (contact_id, case_id, metric, state, target, elapsed, started_at, resumed_at, due_at,
        next_at, ended_at)
    SELECT c.contact_id, c.id, m.metric, CASE WHEN c.closed_at IS NULL THEN 'active' ELSE 'met' END,
        c.due_at - c.created_at, '0', c.created_at, CASE WHEN c.closed_at IS NULL THEN c.created_at END, c.due_at,
        c.due_at, c.closed_at
    FROM cases c CROSS JOIN (VALUES ('first_reply'), ('resolution')) m (metric)
    """,
    "ANALYZE cases, case_clocks, case_directory, agents",
)

FIGURES: Final = (
    Rate("pages of the queue", "a page", at_least=50),
    Rate("pages of one agent's queue", "an agent's page", at_least=50),
    Rate("counts of all open cases", "counts", at_least=20),
    Rate("sweeps that find nobody late", "a sweep, nobody late", at_least=100),
    Ratio("an agent's page ÷ a page", "an agent's page", "a page"),
)


async def fill(dsn: str, *, live: int = LIVE, ended: int = ENDED) -> None:
    """Make cases that are open or waiting, with their clocks, and others that were closed."""
    connection = await asyncpg.connect(dsn)
    for statement in _FILL:
        arguments = (live, ended)[: max(int(f"${n}" in statement) * n for n in (1, 2))]
        await connection.execute(statement, *arguments)
    await connection.close()


@asynccontextmanager
async def opened(at: Stage, *, quick: bool) -> AsyncIterator[Part]:
    """Fill a database with cases."""
    dsn = await at.database("cases")
    await fill(dsn)
    database = await Database.connect(dsn, size_max=1)
    await at.settled()
    now = datetime.now(UTC)
    times = TIMES_QUICK if quick else TIMES

    def turn(work: Callable[[Session], Awaitable[object]]) -> Turn:
        async def take() -> Sample:
            postgres, python, started = at.postgres_seconds(), time.process_time(), time.perf_counter()
            for _ in range(times):
                async with database.begin() as session:
                    await work(session)
            seconds, used = time.perf_counter() - started, time.process_time() - python
            return Sample(
                times / seconds, seconds / times * 1e3, used / times * 1e6,
                (at.postgres_seconds() - postgres) / times * 1e6,
            )  # fmt: skip

        return take

    turns = {
        "a page": turn(lambda session: case_queue.page(session, asked=Filter(), after=None, limit=51)),
        "an agent's page": turn(
            lambda session: case_queue.page(session, asked=Filter(assignee="agent7"), after=None, limit=51)
        ),
        "counts": turn(lambda session: case_queue.count(session, asked=Filter(), now=now)),
        "a sweep, nobody late": turn(
            lambda session: sweeps.look(session, vocabulary=VOCABULARY, now=now - timedelta(days=1))
        ),
    }
    yield Part("(i) Cases", "calls", turns, FIGURES)
    await database.close()
