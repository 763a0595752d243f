"""How far somebody has read the timelines of all contacts.

Rows are read in the order of the transactions that wrote them, and only of those before which none is under way: what
is yet to commit would else be passed by. Whoever has taken a cursor has it alone to the end of the transaction.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from asyncpg import Record

from crm.db.session import Session

_FIRST: Final = UUID(int=0)
_ENSURE: Final = """
    INSERT INTO timeline_cursors (name, xid, interaction_id) VALUES ($1, pg_snapshot_xmin(pg_current_snapshot()), $2)
    ON CONFLICT DO NOTHING
"""
# `head` is behind all that is done already. In a database that was restored into another server, the numbers of
# transactions may have begun again.
_TAKE: Final = """
    UPDATE timeline_cursors c SET xid = least(c.xid, h.head),
        interaction_id = CASE WHEN c.xid <= h.head THEN c.interaction_id ELSE $2 END
    FROM (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS head) h
    WHERE c.name = $1 RETURNING h.head, c.xid, c.interaction_id AS id
"""
# What is still under way may yet commit below what has: it is waited for.
_NEWS: Final = """
    SELECT xid, id, contact_id, kind, recorded_at FROM interactions
    WHERE (xid, id) > ($1::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT $3
"""
_MOVE: Final = "UPDATE timeline_cursors SET xid = $2, interaction_id = $3 WHERE name = $1"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind which row somebody has come: `head` is behind all rows that can be read now."""

    name: str
    xid: int
    interaction_id: UUID
    head: int


async def ensure(session: Session, *, name: str) -> None:
    """Have what happens from now on read by somebody who has never read anything."""
    await session.execute(_ENSURE, name, _FIRST)


async def take(session: Session, *, name: str) -> Cursor:
    """The cursor of this name, set behind all that has happened where there is none yet."""
    await ensure(session, name=name)
    row = await session.fetchrow(_TAKE, name, _FIRST)
    assert row is not None, "it was made before"
    return Cursor(name, row["xid"], row["id"], row["head"])


async def news(session: Session, *, cursor: Cursor, limit: int) -> list[Record]:
    """The next rows of the timelines, as `(xid, id, contact_id, kind, recorded_at)`."""
    return await session.fetch(_NEWS, cursor.xid, cursor.interaction_id, limit)


async def move(session: Session, *, cursor: Cursor, past: Record | None) -> None:
    """Go on behind this row from now on; behind all that there are, without one."""
    xid, interaction_id = (cursor.head, _FIRST) if past is None else (past["xid"], past["id"])
    await session.execute(_MOVE, cursor.name, xid, interaction_id)
