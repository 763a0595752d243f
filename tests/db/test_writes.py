"""One statement writes many rows of many tables, and means the same for one row as for a thousand."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, Date, LargeBinary, MetaData, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant
from crm.db.writes import Insert, Update

things = Table(
    "things",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("n", BigInteger),
    Column("money", Numeric),
    Column("at", Instant),
    Column("day", Date),
    Column("flag", Boolean),
    Column("raw", LargeBinary),
    Column("text", Text),
    Column("data", JSONB),
)
notes = Table("notes", MetaData(), Column("id", Uuid, primary_key=True), Column("text", Text))
COLUMNS = tuple(column.name for column in things.c)

_texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
_jsons = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)
_rows = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**15), max_value=10**15),
    st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.none() | st.dates(),
    st.none() | st.booleans(),
    st.none() | st.binary(max_size=10),
    st.none() | _texts,
    st.none() | _jsons,
)


@pytest.fixture
async def tables(session: Session) -> Session:
    await session.execute(
        "CREATE TABLE things (id uuid PRIMARY KEY, n bigint, money numeric, at timestamptz, day date, flag boolean, "
        "raw bytea, text text, data jsonb)"
    )
    await session.execute("CREATE TABLE notes (id uuid PRIMARY KEY, text text)")
    return session


async def _stored(session: Session) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await session.fetch("SELECT * FROM things ORDER BY id")]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(_rows, min_size=1, max_size=8))
async def test_rows_written_one_by_one_or_together_are_what_was_given(tables, values):
    rows = [(uuid7(), *value) for value in values]
    await tables.execute("DELETE FROM things")
    await writes.write(tables, [Insert(things, COLUMNS, rows)])
    together = await _stored(tables)

    await tables.execute("DELETE FROM things")
    for row in rows:
        await writes.write(tables, [Insert(things, COLUMNS, [row])])

    assert together == rows
    assert await _stored(tables) == rows


@pytest.mark.parametrize("count", [1, 3])
async def test_an_update_finds_its_rows_by_the_key_columns(tables, count):
    rows = [(uuid7(), n, f"old {n}") for n in range(5)]
    await writes.write(tables, [Insert(things, ("id", "n", "text"), rows)])

    changed = [(key, n, f"new {n}", Decimal(n)) for key, n, _ in rows[:count]]
    await writes.write(tables, [Update(things, ("id", "n", "text", "money"), changed, 2)])

    stored = await tables.fetch("SELECT id, n, text, money FROM things ORDER BY n")
    assert [tuple(row) for row in stored] == [*changed, *((*row, None) for row in rows[count:])]


async def test_several_tables_are_written_in_one_statement(tables, statements):
    first, other = uuid7(), uuid7()
    await writes.write(tables, [Insert(things, ("id", "n"), [(first, 1)]), Insert(notes, ("id",), [(other,)])])
    del statements[:]

    await writes.write(
        tables,
        [
            Update(things, ("id", "n"), [(first, 2)], 1),
            Insert(things, ("id", "n"), [(uuid7(), 3), (uuid7(), 4)]),
            Insert(notes, ("id", "text"), [(uuid7(), "a")]),
            Insert(notes, ("id", "text"), []),
        ],
    )

    assert len(statements) == 1
    assert sorted([row["n"] for row in await tables.fetch("SELECT n FROM things")]) == [2, 3, 4]
    assert await tables.fetchval("SELECT count(*) FROM notes") == 2


async def test_nothing_to_write_says_nothing_to_the_database(session, statements):
    await writes.write(session, [])
    await writes.write(session, [Insert(notes, ("id",), [])])
    assert statements == []


@pytest.mark.parametrize("others", [0, 2])
async def test_on_conflict_decides_about_a_row_that_exists(tables, others):
    key = uuid7()
    rows = [(key, "new"), *((uuid7(), "other") for _ in range(others))]
    await writes.write(tables, [Insert(notes, ("id", "text"), [(key, "old")])])

    await writes.write(tables, [Insert(notes, ("id", "text"), rows, "DO NOTHING")])
    assert await tables.fetchval("SELECT text FROM notes WHERE id = $1", key) == "old"

    await writes.write(tables, [Insert(notes, ("id", "text"), rows, "(id) DO UPDATE SET text = excluded.text")])
    assert await tables.fetchval("SELECT text FROM notes WHERE id = $1", key) == "new"
    assert await tables.fetchval("SELECT count(*) FROM notes") == 1 + others


async def test_what_was_there_already_is_counted(tables):
    key = uuid7()
    assert await writes.write(tables, [Insert(notes, ("id",), [(key,)], "DO NOTHING")]) == 0
    assert await writes.write(tables, [Insert(notes, ("id",), [(key,)], "DO NOTHING")]) == 1
    missing = await writes.write(
        tables,
        [
            Insert(notes, ("id",), [(key,), (uuid7(),), (uuid7(),)], "DO NOTHING"),
            Insert(things, ("id",), [(uuid7(),)]),
            Insert(things, ("id",), [(key,)], "DO NOTHING"),
        ],
    )
    assert missing == 1


async def test_a_refused_row_refuses_the_whole_statement(tables):
    key = uuid7()
    with pytest.raises(asyncpg.UniqueViolationError):
        async with tables.savepoint():
            await writes.write(
                tables, [Insert(notes, ("id",), [(uuid7(),)]), Insert(things, ("id", "n"), [(key, 1), (key, 2)])]
            )
    assert await tables.fetchval("SELECT (SELECT count(*) FROM notes) + (SELECT count(*) FROM things)") == 0


async def test_the_same_shape_is_the_same_statement(tables, statements):
    for count in (2, 3, 200):
        await writes.write(tables, [Insert(notes, ("id", "text"), [(uuid7(), "x") for _ in range(count)])])
    assert len(set(statements)) == 1
