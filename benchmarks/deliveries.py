"""(g) The inbox: taking deliveries in over HTTP, and from there to the timelines, against bare inserts of the rows."""

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
from rich.console import Console

from benchmarks import bare, chat, stage, through
from benchmarks.rounds import Part, Rate, Ratio, Sample
from benchmarks.stage import BARE, ROOT, Stage, environment
from benchmarks.through import Found
from crm.db.ids import uuid7
from crm.db.session import Database
from crm.db.vault import Vault
from crm.inbox import accounts, processing, providers
from crm.inbox.accounts import Draft
from crm.inbox.happenings import House

SEALED_WITH = "the same for every process"
SIGNED_WITH = "what the provider signs with"
OURS = ("-m", "benchmarks.serving", "benchmarks.chat:app_factory")
WORKER = ("-m", "benchmarks.chat")
REQUESTS = 10_000
SENDERS = 5_000
THROUGH, THROUGH_QUICK = 100_000, 10_000
DELIVERIES, DELIVERIES_QUICK = 20_000, 5_000
REPEATED = 0.2
WATCHED, WATCHED_QUICK = 100, 30
ARRIVED_SECONDS_MAX = 30
HOUSE = House("ID", timedelta(days=1))

FIGURES = (
    Ratio("delivery over HTTP ÷ bare HTTP handler that inserts the row", "HTTP delivery", "HTTP bare"),
    Ratio("delivery over HTTP ÷ bare insert of the row, asyncpg", "HTTP delivery", "asyncpg insert"),
    Rate("processing, a fifth of them repeated", "processing", at_least=1_000),
    Ratio("processing ÷ bare insert of the row, asyncpg", "processing", "asyncpg insert"),
    Rate("from delivery to timeline, one at a time", "to the timeline", at_least=5),
)

_Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
_EMPTY = """
    TRUNCATE inbox_deliveries, interactions, interaction_directory, interaction_changes, waiting_changes, threads,
        contacts, contact_identities, identity_directory, pgqueuer
"""


@asynccontextmanager
async def opened(at: Stage, console: Console, *, quick: bool) -> AsyncIterator[Part]:
    """Prepare an account, its deliveries and servers for as long as the part takes its turns.

    Before these, once, many deliveries go all the way.
    """
    providers.ADAPTERS[chat.PROVIDER] = chat.Chat()
    dsn = await at.database("inbox")
    signed = _signed(REQUESTS)
    count, watched = (DELIVERIES_QUICK, WATCHED_QUICK) if quick else (DELIVERIES, WATCHED)
    async with AsyncExitStack() as stack:
        database = await Database.connect(dsn, size_max=stage.CLIENTS)
        stack.push_async_callback(database.close)
        pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=stage.CLIENTS, max_size=stage.CLIENTS))
        await pool.execute(bare.DELIVERIES)
        account_id = await _account(database)
        path = f"/v1/inbox/{chat.PROVIDER}/{account_id}"
        ours = await stack.enter_async_context(stage.serving(at, OURS, dsn, CRM_SECRET_KEY=SEALED_WITH))
        theirs = await stack.enter_async_context(stage.serving(at, BARE, dsn))

        async def insert() -> None:
            one = random.choice(signed)
            await pool.execute(bare.KEEP, json.dumps(one["body"]).encode(), json.dumps(one["headers"]))

        async def process() -> Sample:
            await _fill(pool, account_id, count)
            await at.settled()
            python, postgres, started = time.process_time(), at.postgres_seconds(), time.perf_counter()
            await processing.work_off(database, vault=Vault(SEALED_WITH), house=HOUSE, clock=lambda: datetime.now(UTC))
            seconds = time.perf_counter() - started
            python, postgres = time.process_time() - python, at.postgres_seconds() - postgres
            await _check(pool, messages=count - int(count * REPEATED))
            return Sample(count / seconds, None, python / count * 1e6, postgres / count * 1e6)

        async def watch() -> Sample:
            await pool.execute(_EMPTY)
            async with _worker(dsn):
                took = await _watch(pool, f"http://127.0.0.1:{ours.port}{path}", watched)
            return Sample(1 / statistics.mean(took), statistics.median(took) * 1e3)

        whole = THROUGH_QUICK if quick else THROUGH
        seconds = through.PACED_SECONDS_QUICK if quick else through.PACED_SECONDS
        with console.status(f"sending {whole:,} deliveries"):
            found = await _through(at, pool, dsn, ours.port, path, insert, count=whole, paced=seconds * through.PACE)
        found.print(console)
        await pool.execute(_EMPTY)
        await at.settled()
        yield Part(
            "(g) Inbox", "deliveries",
            {
                "HTTP bare": lambda: at.http(theirs, _posts("/deliveries", signed)),
                "HTTP delivery": lambda: at.http(ours, _posts(path, signed)),
                "asyncpg insert": lambda: at.direct(insert),
                "processing": process,
                "to the timeline": watch,
            },
            FIGURES,
        )  # fmt: skip


async def _through(
    at: Stage, pool: _Pool, dsn: str, port: int, path: str, insert: Callable[[], Awaitable[object]], *, count: int,
    paced: int,
) -> Found:  # fmt: skip
    await pool.execute(_EMPTY)
    bare_rate = (await at.direct(insert)).rate
    bodies = _told(count + paced)
    many = _repeated(bodies[:count])
    await at.settled()
    async with _worker(dsn):
        started = time.perf_counter()
        await through.send_all(port, path, many, secret=SIGNED_WITH)
        await through.drained(pool, deliveries=count)
        rate = count / (time.perf_counter() - started)
        await _check(pool, messages=count - int(count * REPEATED))
        await pool.execute(_EMPTY)
        await at.settled()
        stored, shown = await through.paced(pool, port, path, bodies[count:], secret=SIGNED_WITH)
    return Found(count, rate, bare_rate, stored, shown)


async def _account(database: Database) -> UUID:
    draft = Draft(provider=chat.PROVIDER, name="Bench", ref="1", secrets={"secret": SIGNED_WITH})
    async with database.begin() as session:
        made = await accounts.create(session, draft=draft, vault=Vault(SEALED_WITH), now=datetime.now(UTC))
    return made.id


def _said(number: int, chance: random.Random) -> dict[str, Any]:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number * 60)
    text = f"Halo kak, pesanan nomor {chance.randrange(10_000)} sudah dikirim belum? Terima kasih banyak ya"
    return {"id": f"mid.{number:032}", "from": f"user-{chance.randrange(SENDERS)}", "at": at.isoformat(), "text": text}


def _told(count: int) -> list[dict[str, Any]]:
    chance = random.Random(4)
    return [_said(number, chance) for number in range(count)]


def _repeated(said: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many, a fifth of them again in place of others, in no order."""
    chance = random.Random(5)
    first = said[: len(said) - int(len(said) * REPEATED)]
    all_of_them = [*first, *chance.sample(first, len(said) - len(first))]
    chance.shuffle(all_of_them)
    return all_of_them


def _signed(count: int) -> list[dict[str, Any]]:
    return [
        {"body": body, "headers": {chat.SIGNATURE: chat.signature(json.dumps(body).encode(), SIGNED_WITH)}}
        for body in _told(count)
    ]


def _posts(path: str, signed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"method": "POST", "path": path, **one} for one in signed]


async def _fill(pool: _Pool, account_id: UUID, count: int) -> None:
    """Deliveries as if just taken in, some of them twice, in no order."""
    bodies = [json.dumps(one).encode() for one in _repeated(_told(count))]
    await pool.execute(_EMPTY)
    async with pool.acquire() as connection:
        await connection.copy_records_to_table(
            "inbox_deliveries",
            columns=[
                "id", "account_id", "received_at", "status", "verdict", "method", "url", "headers", "query", "body",
                "body_length",
            ],
            records=[
                (uuid7(), account_id, datetime.now(UTC), "pending", "verified", "POST", "", "{}", "{}", body, len(body))
                for body in bodies
            ],
        )  # fmt: skip
    await pool.execute("VACUUM ANALYZE inbox_deliveries")


async def _check(pool: _Pool, *, messages: int) -> None:
    """What was lost, or happened twice, was not processed fast."""
    recorded = await pool.fetchval("SELECT count(*) FROM interactions WHERE kind = 'message'")
    left = await pool.fetchval("SELECT count(*) FROM inbox_deliveries WHERE status <> 'processed'")
    if (recorded, left) != (messages, 0):
        raise RuntimeError(f"{recorded} of {messages} messages were recorded, {left} deliveries are left")


@asynccontextmanager
async def _worker(dsn: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *WORKER, env=environment(dsn) | {"CRM_SECRET_KEY": SEALED_WITH}, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _watch(pool: _Pool, url: str, count: int) -> list[float]:
    """How long each of some messages takes from when it is sent until the timeline shows it; the first ones warm up."""
    chance, took = random.Random(6), []
    async with httpx.AsyncClient() as client:
        for number in range(count + 5):
            body = json.dumps(_said(number, chance)).encode()
            started = time.perf_counter()
            answer = await client.post(url, content=body, headers={chat.SIGNATURE: chat.signature(body, SIGNED_WITH)})
            answer.raise_for_status()
            async with asyncio.timeout(ARRIVED_SECONDS_MAX):
                # What another process writes sets no event of ours.
                while await pool.fetchval("SELECT count(*) FROM interactions WHERE kind = 'message'") <= number:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            took.append(time.perf_counter() - started)
    return took[5:]
