"""Where a command works: the embedded database or the owner's, there and with the right schema."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from crm.db import migrations
from crm.db.cluster import EmbeddedPostgresError
from crm.db.embedded import EmbeddedPostgres
from crm.settings import Settings

WATCH_SECONDS = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """`direct` is the same database as `dsn`, without a pooler between."""

    dsn: str
    direct: str


@contextmanager
def database(settings: Settings, *, migrated: bool = True) -> Iterator[Place]:
    """The database for the length of the block; the embedded one is started again if it dies meanwhile.

    Raises EmbeddedPostgresError, or SchemaOutdated for an old schema in a database that is the owner's.
    With `migrated=False` the schema is neither looked at nor changed.
    """
    if settings.database_url is not None:
        place = Place(settings.database_url, settings.direct_database_url or settings.database_url)
        if migrated:
            migrations.ensure_current(place.direct, migrate=False)
        yield place
        return
    with EmbeddedPostgres(settings.data_dir) as server, _watched(server):
        dsn = server.dsn()
        if migrated:
            migrations.ensure_current(dsn, migrate=True)
        yield Place(dsn, dsn)


@contextmanager
def _watched(server: EmbeddedPostgres) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_SECONDS):
            try:
                if not server.is_running():
                    _log.warning("postgres_died")
                    server.ensure()
            except (EmbeddedPostgresError, OSError) as error:
                _log.error("postgres_cannot_start", reason=str(error))

    thread = threading.Thread(target=watch, name="postgres-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
