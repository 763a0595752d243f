"""A real Postgres for every test, and the API on top of it.

One server for a run, however many processes the run has. Each process works in its own database, cloned from one that
was migrated once.
"""

import asyncio
import fcntl
import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from litestar.types import ASGIApp

import crm.db.session
from crm.api import auth
from crm.app import create_app
from crm.db import migrations
from crm.db.cluster import Cluster, EmbeddedPostgresError
from crm.db.embedded import EmbeddedPostgres
from crm.db.session import Database, Session
from crm.db.vault import Vault

IMAGE = "postgres:18"
SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "500", "autovacuum": "off"}
"""For a server whose data nobody needs after the run, and whose plans no other work may change: a test that is about
plans says ANALYZE itself. Tests of crashes start servers of their own.
"""
CONNECTIONS_MAX = 12
SECRET_KEY = "a key only for tests"
VAULT = Vault(SECRET_KEY)
PREFIX = "setia-tests-"
MEMORY, MEMORY_MIN = Path("/dev/shm"), 4 * 2**30  # noqa: S108 - mkdtemp makes a private folder there

# Only tables with something in them: emptying one costs a new file for it and for each of its indexes.
_TRUNCATE = """
DO $$ DECLARE name text; used text[]; empty boolean; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %I)', name) INTO empty;
        IF NOT empty THEN used := used || quote_ident(name); END IF;
    END LOOP;
    IF used IS NOT NULL THEN EXECUTE 'TRUNCATE ' || array_to_string(used, ', ') || ' RESTART IDENTITY CASCADE'; END IF;
END $$
"""


@dataclass(frozen=True, slots=True)
class Template:
    """The migrated database that the others are cloned from; `server` is a database where that can be said."""

    server: str
    name: str

    @asynccontextmanager
    async def clone(self) -> AsyncIterator[str]:
        """The URL of a fresh database, dropped at the end."""
        async with _made(self.server, f"TEMPLATE {self.name} STRATEGY file_copy") as name:
            yield named(self.server, name)


def named(dsn: str, database: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@contextmanager
def template() -> Iterator[Template]:
    """A server with a migrated database: the one given, else one in Docker, else the embedded one."""
    with ExitStack() as stack:
        given = os.environ.get("CRM_TEST_DATABASE_URL")
        server = given or _in_docker(stack) or _embedded(stack)
        with asyncio.Runner() as runner:
            database = _made(server)
            name = runner.run(database.__aenter__())
            try:
                migrations.upgrade(named(server, name))
                yield Template(server, name)
            finally:
                runner.run(database.__aexit__(None, None, None))


def _in_docker(stack: ExitStack) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _docker_answers():
            gc.collect()  # what its client leaves open, while nobody is told
            return None
        from testcontainers.postgres import PostgresContainer

        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        container = stack.enter_context(PostgresContainer(IMAGE, driver=None).with_command(f"postgres {options}"))
        return str(container.get_connection_url())


def _docker_answers() -> bool:
    import docker  # type: ignore[import-untyped]

    try:
        docker.from_env(timeout=5).close()
    except docker.errors.DockerException:
        return False
    return True


def _embedded(stack: ExitStack) -> str:
    # In memory where there is room. Not in pytest's own folders: the server's account can't enter them.
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_MIN
    parent = MEMORY if roomy else Path(tempfile.gettempdir())
    _clear_away_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    stack.callback(shutil.rmtree, folder)
    folder.chmod(0o711)
    cluster = Cluster(folder / "postgres")
    cluster.create_unless_there()
    with (cluster.path / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
    return stack.enter_context(EmbeddedPostgres(folder)).dsn()


def _clear_away_abandoned(parent: Path) -> None:
    """Stop the servers of runs that were killed: those whose lock nobody holds any more."""
    for users in parent.glob(f"{PREFIX}*/postgres.users"):
        with suppress(OSError), users.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
            with suppress(EmbeddedPostgresError), EmbeddedPostgres(users.parent):
                pass
            shutil.rmtree(users.parent, ignore_errors=True)


@asynccontextmanager
async def _made(server: str, options: str = "") -> AsyncIterator[str]:
    name = f"setia_{uuid4().hex}"
    await _say(server, f"CREATE DATABASE {name} {options}")
    yield name
    await _say(server, f"DROP DATABASE {name} WITH (FORCE)")


async def _say(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


_TEMPLATE = pytest.StashKey[Template]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Under pytest-xdist: the server belongs to the process that outlives the workers."""
    config: pytest.Config = node.config
    if _TEMPLATE not in config.stash:
        stack = ExitStack()
        config.add_cleanup(stack.close)
        config.stash[_TEMPLATE] = stack.enter_context(template())
    made = config.stash[_TEMPLATE]
    node.workerinput["setia_template"] = (made.server, made.name)


@pytest.fixture(scope="session")
def migrated(request: pytest.FixtureRequest) -> Iterator[Template]:
    """What a test clones that wants a database to itself: `async with migrated.clone() as dsn`."""
    workerinput = getattr(request.config, "workerinput", None)
    with nullcontext(Template(*workerinput["setia_template"])) if workerinput else template() as made:
        yield made


@pytest.fixture(scope="session")
async def dsn(migrated: Template) -> AsyncIterator[str]:
    """The URL of this process's database."""
    async with migrated.clone() as url:
        yield url


class Overheard(crm.db.session.Connection):
    """A connection whose statements a test can count."""

    heard: ClassVar[list[str] | None] = None

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        self._hear(query)
        status: str = await super().execute(query, *args, **options)
        return status

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        self._hear(query)
        return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        self._hear(query)
        return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        self._hear(query)
        return await super().fetchval(query, *args, **options)

    def _hear(self, query: str) -> None:
        if self.heard is not None:
            self.heard.append(" ".join(query.split()))


@pytest.fixture(scope="session")
async def open_database(dsn: str) -> AsyncIterator[Database]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crm.db.session, "Connection", Overheard)
        database = await Database.connect(dsn, size_max=CONNECTIONS_MAX, vault=VAULT)
    yield database
    await asyncio.wait_for(database.close(), 10)


@pytest.fixture
async def database(open_database: Database) -> AsyncIterator[Database]:
    """The database with real commits, for races and for what only a commit shows. Emptied after the test."""
    yield open_database
    async with open_database.reading() as session:
        await session.execute(_TRUNCATE)


@pytest.fixture
async def session(open_database: Database) -> AsyncIterator[Session]:
    """A session in a transaction that is rolled back after the test."""
    async with open_database.reading() as session:
        await session.execute("BEGIN")
        yield session
        await session.execute("ROLLBACK")


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is said to the database from now on, BEGIN and COMMIT included, by sessions of any fixture."""
    heard: list[str] = []
    Overheard.heard = heard
    yield heard
    Overheard.heard = None


class Stage(Database):
    """The database of the application under test: the one that the running test chose."""

    def __init__(self, chosen: Database) -> None:
        self.chosen = chosen

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        async with self.chosen.begin() as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Session]:
        async with self.chosen.reading() as session:
            yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        async with self.chosen.snapshot() as session:
            yield session


class RolledBack(Database):
    """A database made of one transaction: what would be a transaction is a savepoint in it, one at a time."""

    def __init__(self, session: Session) -> None:
        self._session = Session(session.driver, undo="ROLLBACK TO SAVEPOINT part", vault=VAULT)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Session]:
        async with self._turn, self._session.savepoint():
            yield self._session

    reading = snapshot = begin


class Client(httpx.AsyncClient):
    """The API, in this process, as the holder of one key."""

    def __init__(self, asgi: ASGIApp, database: Database, key: str | None) -> None:
        super().__init__(
            transport=httpx.ASGITransport(asgi),  # type: ignore[arg-type]
            base_url="http://test",
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self.asgi = asgi
        self.database = database
        """The database that the application works on."""

    @classmethod
    async def make(cls, asgi: ASGIApp, database: Database, *scopes: str) -> Self:
        """A client with a new key; without scopes, a client without a key."""
        return cls(asgi, database, (await make_key(database, *scopes)).key if scopes else None)

    async def limited_to(self, *scopes: str) -> Self:
        """Another client of the same application, whose key has only these scopes, or that has no key at all."""
        return await self.make(self.asgi, self.database, *scopes)

    def holding(self, token: str) -> Self:
        """Another client of the same application, with this key or token."""
        return type(self)(self.asgi, self.database, token)


async def make_key(database: Database, *scopes: str, expires_at: datetime | None = None) -> auth.IssuedKey:
    """A key with these scopes; `key` is its secret."""
    async with database.begin() as session:
        return await auth.issue(
            session, name="test", scopes=list(scopes), by="test", expires_at=expires_at, now=datetime.now(UTC)
        )


@pytest.fixture(scope="session")
async def staged(open_database: Database) -> AsyncIterator[tuple[Stage, ASGIApp]]:
    stage = Stage(open_database)
    app, asgi = create_app(lambda: nullcontext(stage))
    started, ended = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # In one task: pytest-asyncio runs what follows a `yield` in another one, and Litestar minds.
        async with app.lifespan():
            started.set()
            await ended.wait()

    life = asyncio.create_task(live())
    await asyncio.wait((life, asyncio.create_task(started.wait())), return_when=asyncio.FIRST_COMPLETED)
    yield stage, asgi
    ended.set()
    await life


@pytest.fixture
async def client(staged: tuple[Stage, ASGIApp], session: Session) -> AsyncIterator[Client]:
    """The API as its owner, inside the transaction of `session`: nothing is committed, requests take turns."""
    async with _client(*staged, RolledBack(session)) as client:
        yield client


@pytest.fixture
async def live_client(staged: tuple[Stage, ASGIApp], database: Database) -> AsyncIterator[Client]:
    """The API as its owner on `database`: real commits, and requests at the same time. Not together with `client`."""
    async with _client(*staged, database) as client:
        yield client


@asynccontextmanager
async def _client(stage: Stage, asgi: ASGIApp, database: Database) -> AsyncIterator[Client]:
    assert not isinstance(stage.chosen, RolledBack), "a test has either `client` or `live_client`"
    before, stage.chosen = stage.chosen, database
    try:
        async with await Client.make(asgi, database, "*") as client:
            yield client
    finally:
        stage.chosen = before
