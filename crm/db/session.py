"""The database and a session on it: asyncpg underneath, SQL text or SQLAlchemy Core on top.

There is no ORM session. One costs several times what the statement itself costs in this process, and
nothing here needs a unit of work: a domain function says what it reads and writes, and the edge of the
service opens and commits the one transaction around it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import asyncpg
import msgspec
from asyncpg import Record
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql import ClauseElement

if TYPE_CHECKING:
    from asyncpg.cursor import Cursor
    from asyncpg.pool import PoolConnectionProxy

    from crm.db.vault import Vault

Query: TypeAlias = str | ClauseElement
Driver: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
_SERVER_SETTINGS = {
    "application_name": "setia",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": "30000",
    "lock_timeout": "10000",
    "idle_in_transaction_session_timeout": "60000",
}


class CommitFailed(Exception):
    """COMMIT rolled back: an error inside the transaction was swallowed on the way to the edge."""


class Connection(asyncpg.Connection):
    """A connection that is handed back without a reset round trip: no session state is ever set on it."""

    def get_reset_query(self) -> str:
        return ""


class Session:
    """What a domain function gets: verbs to read and write on one connection.

    A query is SQL text with `$1` placeholders, or a SQLAlchemy Core statement (then without arguments).
    """

    __slots__ = ("_undo", "driver", "vault")

    def __init__(self, driver: Driver, undo: str | None = None, vault: "Vault | None" = None) -> None:
        """`undo` is the statement that takes back all that was done so far, where something can be.

        `vault` hashes what must be known again and may not be kept.
        """
        self.driver = driver
        self.vault = vault
        self._undo = undo

    async def fetch(self, query: Query, *args: Any) -> list[Record]:
        """All rows."""
        text, values = _rendered(query, args)
        return await self.driver.fetch(text, *values)

    async def fetchrow(self, query: Query, *args: Any) -> Record | None:
        """The first row, or None."""
        text, values = _rendered(query, args)
        return await self.driver.fetchrow(text, *values)

    async def fetchval(self, query: Query, *args: Any) -> Any:
        """The first column of the first row, or None."""
        text, values = _rendered(query, args)
        return await self.driver.fetchval(text, *values)

    async def execute(self, query: Query, *args: Any) -> int:
        """The number of rows that the statement touched."""
        text, values = _rendered(query, args)
        if values:
            status = await self.driver.execute(text, *values)
        else:
            status = await self.driver.execute(text)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def start_over(self) -> None:
        """Take back what was written and locked so far, for whoever tries again in another way."""
        if self._undo is not None:
            await self.driver.execute(self._undo)

    async def cursor(self, query: str, *args: Any) -> "Cursor[Record]":
        """All rows, of which each `fetch` brings some; only within a transaction."""
        return await self.driver.cursor(query, *args)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction that may fail alone."""
        await self.driver.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            await self.driver.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
            raise
        await self.driver.execute("RELEASE SAVEPOINT part")


class Database:
    """The pool of connections to one database."""

    def __init__(self, pool: "asyncpg.Pool[Record]", vault: "Vault | None" = None) -> None:
        self._pool = pool
        self._vault = vault

    @classmethod
    async def connect(cls, dsn: str, *, size_max: int = 10, vault: "Vault | None" = None) -> Self:
        """Make the pool; connections are opened on demand, up to `size_max`, so that it can wait for its database.

        Whoever makes contacts or erases them gives it a `vault`.
        """
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size_max,
            connection_class=Connection,
            init=prepare,
            statement_cache_size=400,
            server_settings=_SERVER_SETTINGS,
        )
        return cls(pool, vault)

    async def close(self) -> None:
        """Wait for what is under way, then close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        """A session in a transaction: committed at the end of the block, rolled back when the block raises."""
        async with self._pool.acquire() as connection:
            await connection.execute("BEGIN")
            try:
                yield Session(connection, undo="ROLLBACK; BEGIN", vault=self._vault)
            except BaseException:
                await _roll_back(connection)
                raise
            if await connection.execute("COMMIT") != "COMMIT":
                raise CommitFailed

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """A session that reads what was committed when it began, to its end, and can't write."""
        async with self._pool.acquire() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            try:
                yield Session(connection, vault=self._vault)
            finally:
                await _roll_back(connection)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        """A session without a transaction: every statement sees the newest committed state."""
        async with self._pool.acquire() as connection:
            yield Session(connection, vault=self._vault)


async def prepare(connection: Driver) -> None:
    """Teach a new connection to read and write `jsonb` as Python values."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + msgspec.json.encode(value),
        decoder=lambda data: msgspec.json.decode(data[1:]),
        format="binary",
    )


async def _roll_back(connection: Driver) -> None:
    """End the transaction, or else the connection: what went wrong before says more than what goes wrong here."""
    try:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - whatever it is, nobody may get this connection again
        # Once it has broken off, it has left the pool and answers nothing but an InterfaceError.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


def _rendered(query: Query, args: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    if isinstance(query, str):
        return query, args
    compiled = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    parameters = compiled.params
    return str(compiled), [parameters[name] for name in getattr(compiled, "positiontup", None) or ()]
