"""(g) Duplicates: everybody compared with everybody they may be, against reading the same rows once."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from benchmarks import town
from benchmarks.rounds import Part, Rate, Ratio, Sample
from benchmarks.stage import Stage
from crm.contacts import likeness, scanning
from crm.contacts.scanning import Phase
from crm.db.session import Database

CONTACTS = 100_000
CONTACTS_QUICK = 10_000
DOUBLED = 0.05
SECONDS_MAX = 60

FIGURES = (
    Rate(f"a scan: {CONTACTS:,} contacts in {SECONDS_MAX} s", "scan", at_least=CONTACTS / SECONDS_MAX),
    Ratio("a scan ÷ reading the same rows", "scan", "read"),
)

_READ = f"SELECT {likeness.SELECTED} FROM contacts c"


@asynccontextmanager
async def opened(at: Stage, *, quick: bool) -> AsyncIterator[Part]:
    """Settle a town, of whose records one in twenty is a second one."""
    count = CONTACTS_QUICK if quick else CONTACTS
    database = await Database.connect(await at.database("town"), size_max=1)
    async with database.begin() as session:
        await town.settle(session, town.records(count, doubled=DOUBLED, seed=5))
    await at.settled()

    async def wanted(*, phase: Phase, done: int, total: int) -> bool:
        return True

    async def scan() -> Sample:
        # The first turn writes the suggestions, the others find them there.
        postgres, python, started = at.postgres_seconds(), time.process_time(), time.perf_counter()
        async with database.reading() as session:
            await scanning.scan(session, watch=wanted, now=datetime.now(UTC))
        return _sample(count, started, python, at.postgres_seconds() - postgres)

    async def read() -> Sample:
        postgres, python, started = at.postgres_seconds(), time.process_time(), time.perf_counter()
        async with database.reading() as session, session.driver.transaction():
            async for _ in session.driver.cursor(_READ, prefetch=scanning.STEP):
                pass
        return _sample(count, started, python, at.postgres_seconds() - postgres)

    yield Part("(g) Duplicates", "contacts", {"scan": scan, "read": read}, FIGURES)
    await database.close()


def _sample(count: int, started: float, python: float, postgres_seconds: float) -> Sample:
    seconds, used = time.perf_counter() - started, time.process_time() - python
    return Sample(count / seconds, None, used / count * 1e6, postgres_seconds / count * 1e6)
