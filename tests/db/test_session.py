"""Transactions end the way their block says, and values come back as they went in."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import select, update

from crm.api.auth import Authenticator
from crm.db.ids import uuid7
from crm.db.session import CommitFailed, Session
from crm.interactions.timeline import interactions

_COUNT = "SELECT count(*) FROM contact_tags"


async def _tag(session: Session, tag: str) -> UUID:
    contact_id = uuid7()
    await session.execute("INSERT INTO contact_tags VALUES ($1, $2, now())", contact_id, tag)
    return contact_id


async def test_a_block_that_ends_is_committed(database):
    async with database.begin() as session:
        await _tag(session, "vip")
    async with database.reading() as session:
        assert await session.fetchval(_COUNT) == 1


async def test_a_block_that_raises_is_rolled_back(database):
    with pytest.raises(ZeroDivisionError):
        async with database.begin() as session:
            await _tag(session, "vip")
            raise ZeroDivisionError
    async with database.reading() as session:
        assert await session.fetchval(_COUNT) == 0


async def test_a_cancelled_block_is_rolled_back_and_its_connection_is_fit_for_the_next(database):
    started = asyncio.Event()

    async def never_ending():
        async with database.begin() as session:
            await _tag(session, "vip")
            started.set()
            await session.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(never_ending())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.begin() as session:
        assert await session.fetchval(_COUNT) == 0


async def test_an_error_swallowed_inside_the_block_fails_the_commit(database):
    with pytest.raises(CommitFailed):
        async with database.begin() as session:
            await _tag(session, "vip")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await session.execute("SELECT 1 / 0")
    async with database.reading() as session:
        assert await session.fetchval(_COUNT) == 0


async def test_a_constraint_checked_at_commit_is_not_lost(database):
    async with database.begin() as session:
        await session.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    try:
        with pytest.raises(asyncpg.UniqueViolationError):
            async with database.begin() as session:
                await session.execute("INSERT INTO late VALUES (1), (1)")
        async with database.reading() as session:
            assert await session.fetchval("SELECT count(*) FROM late") == 0
    finally:
        async with database.begin() as session:
            await session.execute("DROP TABLE late")


async def test_a_connection_that_dies_inside_the_block_says_so(database):
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        async with database.begin() as session:
            own = await session.fetchval("SELECT pg_backend_pid()")
            async with database.reading() as other:
                await other.execute("SELECT pg_terminate_backend($1, 5000)", own)
            await _tag(session, "vip")
    async with database.reading() as session:
        assert await session.fetchval(_COUNT) == 0


async def test_a_part_fails_alone(session):
    await _tag(session, "kept")
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with session.savepoint():
            await _tag(session, "lost")
            await session.execute("SELECT 1 / 0")
    async with session.savepoint():
        await _tag(session, "kept too")
        with pytest.raises(ZeroDivisionError):
            async with session.savepoint():
                await _tag(session, "lost too")
                raise ZeroDivisionError
    assert [row["tag"] for row in await session.fetch("SELECT tag FROM contact_tags ORDER BY tag")] == [
        "kept",
        "kept too",
    ]


@pytest.mark.parametrize(
    "value", [{}, {"a": [1, 2.5, None, True, "é\u2028"], "b": {"c": {}}}, [], "text", 0, None, {"n": 2**53 - 1}]
)
async def test_json_comes_back_as_it_went_in(session, value):
    assert await session.fetchval("SELECT $1::jsonb", value) == value


async def test_values_have_the_types_the_domain_works_with(session):
    at = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
    row = await session.fetchrow(
        "SELECT $1::timestamptz AS at, $2::numeric AS money, gen_random_uuid() AS id", at, Decimal("120000.00")
    )
    assert row["at"] == at
    assert row["at"].tzinfo is not None
    assert (row["money"], str(row["money"])) == (Decimal("120000.00"), "120000.00")
    assert isinstance(row["id"], UUID)


async def test_core_statements_are_understood(session):
    ids = [await _interaction(session, kind) for kind in ("message", "call", "message")]
    table = interactions.c
    found = await session.fetch(
        select(table.id, table.data).where(table.kind == "message", table.contact_id.in_(ids)).order_by(table.id)
    )
    assert [row["id"] for row in found] == [ids[0], ids[2]]
    assert found[0]["data"] == {"kind": "message"}
    assert await session.fetchval(select(table.kind).where(table.id == ids[1])) == "call"
    assert await session.fetchrow(select(table.id).where(table.kind == "visit")) is None


async def test_execute_counts_the_rows_it_touched(session):
    tags = [await _tag(session, "vip") for _ in range(3)]
    assert await session.execute("UPDATE contact_tags SET tag = 'gold' WHERE contact_id = ANY ($1)", tags[:2]) == 2
    assert await session.execute("SAVEPOINT x") == 0
    assert await session.execute(update(interactions).where(interactions.c.kind == "none").values(kind="x")) == 0


async def test_a_pool_serves_more_callers_than_it_has_connections(database):
    async def one(number: int) -> int:
        async with database.begin() as session:
            return await session.fetchval("SELECT $1::int FROM pg_sleep(0.01)", number)

    assert await asyncio.gather(*(one(number) for number in range(60))) == list(range(60))


async def test_the_database_cuts_off_what_takes_too_long(database):
    async with database.reading() as session:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert await session.fetchval("SELECT current_setting($1)", setting) not in ("0", "")
        assert await session.fetchval("SHOW timezone") == "UTC"


async def test_an_unknown_key_is_nobody(database):
    assert await Authenticator(database).principal("setia_unknown") is None


async def _interaction(session: Session, kind: str) -> UUID:
    made = uuid7()
    await session.execute(
        "INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, data, by) "
        "VALUES ($1, $1, now(), now(), 'web', $2, $3, 'test')",
        made,
        kind,
        {"kind": kind},
    )
    return made
