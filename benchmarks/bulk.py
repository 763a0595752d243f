"""(c) Many at once: batches of awards and an import, against the same rows by COPY into a table without anything."""

import asyncio
import csv
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks import history, stage
from benchmarks.rounds import Part, Rate, Ratio, Sample
from benchmarks.stage import OURS, ROOT, Stage, children_seconds, environment

MEMBERS = 20_000
BATCH = 1_000
BATCH_CLIENTS = 2
PURCHASES = 50_000
PURCHASES_QUICK = 10_000
PURCHASES_PER_BUYER = 3

FIGURES = (
    Rate("import of purchases, rules, tiers and timeline included", "import", at_least=5_000),
    Ratio("import ÷ COPY of the same rows", "import", "COPY purchases"),
    Ratio(f"awards in batches of {BATCH:,} over HTTP ÷ COPY of the same rows", "HTTP batch", "COPY awards"),
)

_BARE = """
    CREATE TABLE bare_awards (contact_id uuid, points bigint, reason text, at timestamptz);
    CREATE TABLE bare_purchases (order_ref text, customer text, purchased_on date, total numeric);
"""


@asynccontextmanager
async def opened(at: Stage, *, quick: bool) -> AsyncIterator[Part]:
    """Prepare tables and servers for as long as the part takes its turns."""
    dsn = await at.database("batches")
    shop = await history.open_shop(dsn)
    await history.fill(dsn, program_id=shop.program_id, members=MEMBERS, entries=0)
    await history.open_shop(await at.database("shop"))
    count = PURCHASES_QUICK if quick else PURCHASES
    file, nothing = _purchases(at.folder / "purchases.csv", count), _purchases(at.folder / "nothing.csv", 0)
    chance = random.Random(2)
    batches = [[history.member(chance.randint(1, MEMBERS)) for _ in range(BATCH)] for _ in range(10)]
    requests = [_batch(members, shop.token) for members in batches]
    connection = await asyncpg.connect(dsn)
    await connection.execute(_BARE)

    async def copy_awards() -> None:
        now = datetime.now(UTC)
        rows = [(contact_id, 5, "goodwill", now) for contact_id in chance.choice(batches)]
        await connection.copy_records_to_table("bare_awards", records=rows)

    async def copy_purchases() -> Sample:
        await connection.execute("TRUNCATE bare_purchases")
        postgres, started = at.postgres_seconds(), time.perf_counter()
        await connection.copy_to_table("bare_purchases", source=file, format="csv", header=True)
        seconds = time.perf_counter() - started
        return Sample(count / seconds, None, None, (at.postgres_seconds() - postgres) / count * 1e6)

    async def import_purchases() -> Sample:
        # Starting Python takes as long as importing a few thousand rows, whatever the number of rows.
        seconds, python, postgres = (
            full - empty for full, empty in zip(await _import(at, file), await _import(at, nothing), strict=True)
        )
        return Sample(count / seconds, None, python / count * 1e6, postgres / count * 1e6)

    async with stage.serving(at, OURS, dsn) as ours:
        await at.settled()
        yield Part(
            "(c) Many at once", "rows",
            {
                "HTTP batch": lambda: at.http(ours, requests, connections=BATCH_CLIENTS, each=BATCH),
                "COPY awards": lambda: at.direct(copy_awards, clients=1, each=BATCH),
                "COPY purchases": copy_purchases,
                "import": import_purchases,
            },
            FIGURES,
        )  # fmt: skip
    await connection.close()


async def _import(at: Stage, file: Path) -> tuple[float, float, float]:
    """Import into a fresh shop: wall time, CPU time of the command, CPU time of Postgres."""
    dsn = await at.database("imported", template="shop")
    command = [
        sys.executable, "-m", "crm.cli", "import", "purchases", str(file), "--map", "order_ref=order_ref",
        "--map", "customer=identity:customer_id", "--map", "purchased_on=occurred_at", "--map", "total=total",
        "--set", "currency=USD",
    ]  # fmt: skip
    python, postgres, started = children_seconds(), at.postgres_seconds(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(dsn), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, complaint = await process.communicate()
    seconds = time.perf_counter() - started
    await at.quiet()
    if process.returncode:
        raise RuntimeError(complaint.decode()[-2_000:])
    return seconds, children_seconds() - python, at.postgres_seconds() - postgres


def _purchases(file: Path, count: int) -> Path:
    """A year of purchases in the order in which they were made, a few of each buyer."""
    chance = random.Random(3)
    with file.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["order_ref", "customer", "purchased_on", "total"])
        for number in range(count):
            day = date(2025, 1, 1) + timedelta(days=number * 365 // count)
            buyer = chance.randrange(count // PURCHASES_PER_BUYER)
            cents = int(chance.lognormvariate(8.2, 0.7)) + 100
            table.writerow([f"P-{number:07}", f"C{buyer:06}", day.isoformat(), f"{cents // 100}.{cents % 100:02}"])
    return file


def _batch(members: list[UUID], token: str) -> dict[str, Any]:
    items = [{"contact_id": str(contact_id), "points": 5, "reason": "goodwill"} for contact_id in members]
    return {"method": "POST", "path": "/v1/points-awards/batch", "token": token, "body": {"items": items}}
