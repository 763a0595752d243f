"""Many rows into many tables in one round trip.

The parts become data-modifying CTEs of one statement. One row is bound as scalars, several as one array a column,
so that a post of one account and a batch of a thousand run the same text for the same shape.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import JSON, Table
from sqlalchemy.dialects import postgresql

from crm.db.session import Session

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows, as tuples in the order of `columns`; `on_conflict` is the clause after ON CONFLICT."""

    table: Table
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    on_conflict: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """Rows that hold the new values; the first `keys_count` columns say which row they belong to."""

    table: Table
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    keys_count: int


async def write(session: Session, parts: Iterable[Insert | Update]) -> int:
    """Carry out all parts in one statement; parts without rows are left out. No part sees what another writes.

    Returns how many rows the parts with `on_conflict` left out because they were there already.
    """
    filled = [part for part in parts if part.rows]
    if not filled:
        return 0
    args: list[Any] = []
    offered = 0
    for part in filled:
        args.extend(part.rows[0] if len(part.rows) == 1 else _arrays(part))
        if isinstance(part, Insert) and part.on_conflict:
            offered += len(part.rows)
    taken: int = await session.fetchval(_statement(tuple((_shape(part), len(part.rows) > 1) for part in filled)), *args)
    return offered - taken


def _arrays(part: Insert | Update) -> list[Sequence[Any]]:
    arrays: list[Sequence[Any]] = list(zip(*part.rows, strict=True))
    for i in _json_places(part.table, part.columns):
        # asyncpg would take a JSON list for one more dimension of the array, so it must not see that it is one.
        arrays[i] = [None if value is None else msgspec.Raw(msgspec.json.encode(value)) for value in arrays[i]]
    return arrays


@functools.lru_cache(maxsize=512)
def _json_places(table: Table, columns: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(i for i, name in enumerate(columns) if isinstance(table.c[name].type, JSON))


def _shape(part: Insert | Update) -> tuple[Table, tuple[str, ...], int | str]:
    return part.table, part.columns, part.on_conflict if isinstance(part, Insert) else part.keys_count


@functools.lru_cache(maxsize=512)
def _statement(shapes: tuple[tuple[tuple[Table, tuple[str, ...], int | str], bool], ...]) -> str:
    position = 0
    ctes = []
    counts = []
    for number, ((table, columns, extra), many) in enumerate(shapes):
        types = [table.c[name].type.compile(_DIALECT) for name in columns]
        places = [f"${position + i}::{kind}{'[]' if many else ''}" for i, kind in enumerate(types, 1)]
        position += len(columns)
        source = f"unnest({', '.join(places)})" if many else f"(VALUES ({', '.join(places)}))"
        names = ", ".join(columns)
        if isinstance(extra, str):
            conflict = f" ON CONFLICT {extra} RETURNING 1" if extra else ""
            if extra:
                counts.append(f"(SELECT count(*) FROM w{number})")
            body = f"INSERT INTO {table.name} ({names}) SELECT * FROM {source} AS v{conflict}"
        else:
            keys = " AND ".join(f"t.{name} = v.{name}" for name in columns[:extra])
            values = ", ".join(f"{name} = v.{name}" for name in columns[extra:])
            body = f"UPDATE {table.name} AS t SET {values} FROM {source} AS v ({names}) WHERE {keys}"
        ctes.append(f"w{number} AS ({body})")
    return f"WITH {', '.join(ctes)} SELECT {' + '.join(counts) or '0'}"
