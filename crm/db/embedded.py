"""The Postgres that Setia brings along, for when nobody gave it another one.

Whoever uses the data directory holds a *shared* lock on one file in it. The kernel drops that lock however the
process ends, so "is anybody still using it?" needs no bookkeeping that a `kill -9` could falsify: the first user
starts the server, later ones join it, and the one that can turn its lock into an exclusive one was the last and stops
it. A server whose users all died is simply joined by the next. A second lock makes starting and stopping one at a time.
"""

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psutil
import structlog

from crm.db import cluster
from crm.db.cluster import BIN, DATABASE, ROLE, Account, Cluster, EmbeddedPostgresError

START_SECONDS_MAX = 600
ORPHANS_SECONDS_MAX = 10
# The kernels allow 104 (macOS) and 108 (Linux) bytes for the path of a socket, its final zero included.
_SOCKET_DIR_BYTES_MAX = 103 - len("/.s.PGSQL.5432")

_log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """One user of the server in a data directory, from `__enter__` to `__exit__`.

    Raises EmbeddedPostgresError, with a sentence for the owner, when there can be no server.
    """

    bin = BIN
    """The folder of `pg_dump`, `psql` and the rest, of the server's own version."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self._cluster = Cluster(self.data_dir / "postgres")
        self._socket_dir: Path | None = None
        self._users: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with self._deciding():
                self._users = self._lock_file("postgres.users")
                fcntl.flock(self._users, fcntl.LOCK_SH)
                self._ensure()
        except OSError as error:
            self._leave()
            raise EmbeddedPostgresError(f"Setia's own Postgres can't use {self.data_dir}: {error}") from error
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def dsn(self, database: str = DATABASE, *, user: str = ROLE) -> str:
        """A connection string for asyncpg and libpq. It holds no secret: the server asks the kernel who is calling."""
        assert self._socket_dir is not None, "the server is used outside of its `with` block"
        return f"postgresql://{user}@/{quote(database)}?host={quote(str(self._socket_dir))}&port=5432"

    def is_running(self) -> bool:
        """Whether the server's process is there. Cheap enough to ask every second."""
        return self._cluster.postmaster() is not None

    def ensure(self) -> None:
        """Start the server again if it died."""
        with self._deciding():
            self._ensure()

    def _leave(self) -> None:
        if self._users is None:
            return
        with self._deciding(), self._users as users:
            self._users = self._socket_dir = None
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._cluster.stop()

    def _ensure(self) -> None:
        started = time.monotonic()
        account = self._cluster.account()
        while (postmaster := self._cluster.postmaster()) is not None:
            if postmaster.status == "ready":
                self._socket_dir = postmaster.socket_dir
                return
            # Somebody was killed while starting or stopping it: both end by themselves.
            if time.monotonic() - started > START_SECONDS_MAX:
                raise EmbeddedPostgresError(
                    f"Postgres (process {postmaster.process.pid}) has been {postmaster.status or 'starting'} for "
                    f"{START_SECONDS_MAX} seconds; its log is in {self._cluster.log_dir}"
                )
            time.sleep(0.05)
        self._cluster.create_unless_there()
        socket_dir = self._socket_dir_made(account)
        self._clear_away((self._cluster.pid_file, socket_dir / ".s.PGSQL.5432.lock"))
        self._cluster.start(socket_dir, seconds_max=START_SECONDS_MAX)
        self._socket_dir = socket_dir
        _log.debug("postgres_started", data_dir=str(self.data_dir), seconds=round(time.monotonic() - started, 2))

    def _clear_away(self, pid_files: Sequence[Path]) -> None:
        """Drop the pid files of a killed postmaster, when whatever it left behind is gone.

        Postgres judges them by the process id alone, and refuses to start when another program has got the number
        since. They may go only when no process works in the data directory any more.
        """
        if not any(pid_file.exists() for pid_file in pid_files):
            return
        patience = time.monotonic() + ORPHANS_SECONDS_MAX
        while orphans := self._cluster.processes():
            if time.monotonic() > patience:
                # A statement that never looks up. What it has committed is safe, the rest is rolled back.
                for process in orphans:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
            time.sleep(0.05)
        for pid_file in pid_files:
            pid_file.unlink(missing_ok=True)

    def _socket_dir_made(self, account: Account | None) -> Path:
        """A folder for the socket that only the server's account can enter, with a path short enough for the kernel."""
        inside = self.data_dir / "postgres.socket"
        if len(os.fsencode(inside)) <= _SOCKET_DIR_BYTES_MAX:
            path = inside
        else:
            name = "setia-" + hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
            temporary = Path(tempfile.gettempdir())
            if len(os.fsencode(temporary / name)) > _SOCKET_DIR_BYTES_MAX:
                temporary = Path("/tmp")  # noqa: S108 - the name is ours alone or refused: see private_dir
            path = temporary / name
        cluster.private_dir(path, account)
        return path

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        with self._lock_file("postgres.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lock_file(self, name: str) -> IO[bytes]:
        # Never deleted: a lock on a file that another process can no longer find locks nobody out.
        descriptor = os.open(self.data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "r+b")
