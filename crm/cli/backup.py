"""`crm backup FILE` and `crm restore FILE`: everything in one file, and back again, whole or not at all."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import typer
import uvloop
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from crm.cli import ledger, logs, place
from crm.db import migrations
from crm.db.embedded import EmbeddedPostgres
from crm.errors import Conflict
from crm.settings import Settings

XIDS_SKIPPED_MAX: Final = 10_000_000
"""How far a server's transaction counter is moved on for a backup's sake: one or two minutes' worth."""
CHUNK: Final = 2**20
MAGIC: Final = b"PGDMP"
POSTGRES_WITH_TRANSACTION_TIMEOUT: Final = 17

_TABLES: Final = """
    SELECT c.relname, pg_table_size(c.oid) AS bytes FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'setia%'
"""

# A function of ours sets a parameter of pg_trgm, which the server knows only once the extension's library is loaded:
# making the extension loads it, using it does.
_BEGIN: Final = """
    BEGIN;
    DO $$ DECLARE home text := (SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pg_trgm'); BEGIN
        IF home IS NOT NULL THEN EXECUTE format('SELECT %s.show_limit()', home); END IF;
    END $$;
"""
# Everything but what belongs to an extension. What another session holds on to is not waited for: it should be stopped.
_EMPTY_OUT: Final = """
    SET LOCAL lock_timeout = '10s';
    SET LOCAL client_min_messages = warning;
    DO $$ DECLARE statement text; BEGIN
        FOREACH statement IN ARRAY (
            SELECT array_agg(format('DROP %s IF EXISTS %s CASCADE', kind, name) ORDER BY place) FROM (
                SELECT 1 AS place, oid, oid::regclass::text AS name, CASE relkind
                    WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE'
                END AS kind
                FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace = 'public'::regnamespace
                UNION ALL
                SELECT 2, oid, oid::regclass::text, 'SEQUENCE'
                FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
                UNION ALL
                SELECT 3, oid, oid::regprocedure::text, 'ROUTINE'
                FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                UNION ALL
                SELECT 4, oid, oid::regtype::text, 'TYPE'
                FROM pg_type WHERE typtype IN ('e', 'd') AND typnamespace = 'public'::regnamespace
            ) o WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')
        ) LOOP EXECUTE statement; END LOOP;
    END $$;
"""
_HIGHEST_XID: Final = "SELECT 'xid|' || coalesce(max(xid)::text, '0') FROM public.interactions;\n"

# All the same, and older than any: the ids behind them are in the order of time.
_OLD_XIDS: Final = """
    DO $$ DECLARE place record; BEGIN
        FOR place IN
            SELECT c.oid::regclass AS name, quote_ident(a.attname) AS xid
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            WHERE a.atttypid = 'xid8'::regtype AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', place.name);
            EXECUTE format('UPDATE %1$s SET %2$s = ''3'' WHERE %2$s <> ''3''', place.name, place.xid);
            EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', place.name);
        END LOOP;
    END $$;
"""


class NotBackedUp(Conflict):
    code = "not_backed_up"
    title = "There is no backup"


class NotRestored(Conflict):
    code = "not_restored"
    title = "Nothing was restored"


@dataclass(frozen=True, slots=True)
class Programs:
    """Postgres' own programs in one folder, and the database they work on."""

    folder: Path
    dsn: str
    environment: Mapping[str, str]

    def start(self, program: str, *args: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start one of them. What it has to say in the end is read by `_said`."""
        # In a session of its own: Ctrl-C at the terminal is for us alone.
        return subprocess.Popen(  # noqa: S603 - Postgres' own program
            [self.folder / program, *args], env=self.environment, start_new_session=True, **options
        )


def backup(
    file: Annotated[Path, typer.Argument(help="Where to. It holds personal data, and only you can read it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> None:
    """Write everything to one file, as it is at this moment. Safe while Setia runs.

    The file is complete under its name, or not there.
    """
    settings = Settings()
    logs.configure(settings)
    target = file.absolute()
    _refuse_target(target, force=force)
    if settings.database_url is None and not (settings.data_dir / "postgres" / "PG_VERSION").exists():
        raise NotBackedUp(f"There is nothing in {settings.data_dir}; CRM_DATA_DIR says where your data is.")
    with place.database(settings, migrated=False) as found:
        version, tables = uvloop.run(_look(found.direct))
        if "alembic_version" not in tables:
            raise NotBackedUp("This database is empty: there is nothing to back up.")
        programs = _programs(settings, found.direct, version, restoring=False)
        with _part(target) as part:
            _dump(programs, part, tables)
            _refuse_target(target, force=force)
    Console(highlight=False, soft_wrap=True).print(f"Everything is in {file} ({decimal(target.stat().st_size)}).")


def restore(
    file: Annotated[Path, typer.Argument(help="What `crm backup` wrote.", exists=True, dir_okay=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what is in the database, and put the backup in its place.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """Bring a backup into an empty database, up to this version's schema, and verify its ledger.

    A backup that can't be restored to its end changes nothing. Exit code 1 where the ledger is not sound.
    """
    settings = Settings()
    logs.configure(settings)
    with file.open("rb") as start:
        if start.read(len(MAGIC)) != MAGIC:
            raise NotRestored(f"{file} is not a backup.")
    with place.database(settings, migrated=False) as found:
        version, tables = uvloop.run(_look(found.direct))
        programs = _programs(settings, found.direct, version, restoring=True)
        _refuse_foreign(programs, file)
        if tables and not replace:
            raise NotRestored(
                f"The database is not empty: it has {len(tables)} tables. "
                f"Restore into an empty one, or with --replace, which deletes everything in it first."
            )
        if tables:
            uvloop.run(_refuse_busy(found.direct))
            if not yes:
                typer.confirm(f"Delete everything in the {len(tables)} tables of this database?", abort=True)
        _load(programs, file, replacing=bool(tables))
        migrations.ensure_current(found.direct, migrate=True)
        sound = uvloop.run(_checked(found.direct))
    if not sound:
        raise typer.Exit(1)


# ------------------------------------------------------------------ backup


def _refuse_target(target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        raise NotBackedUp(f"There is no folder {target.parent}.")
    if target.is_dir():
        raise NotBackedUp(f"{target} is a folder; name the file.")
    if target.exists() and not force:
        raise NotBackedUp(f"{target} is there already. Choose another name, or replace it with --force.")


@contextmanager
def _part(target: Path) -> Iterator[Path]:
    """A file that takes the name of `target` when the block ends well, and is gone when it does not."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise NotBackedUp(f"{target.parent} can't be written to: {error.strerror}.") from error
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _dump(programs: Programs, part: Path, tables: Mapping[str, int]) -> None:
    """Run pg_dump; the bar moves on by the size of each table that it has finished."""
    options = ("--format=custom", "--no-owner", "--no-privileges", "--no-password", "--verbose", f"--file={part}")
    said: list[str] = []
    with _progress() as progress:
        task = progress.add_task("", total=sum(tables.values()))
        under_way = 0
        with _ended(programs.start("pg_dump", *options, programs.dsn, stderr=subprocess.PIPE)) as process:
            assert process.stderr is not None
            for line in process.stderr:
                text = line.decode(errors="replace").strip()
                if found := re.search(r'dumping contents of table "\w+\.(\w+)"', text):
                    progress.update(task, advance=under_way, description=found[1])
                    under_way = tables.get(found[1], 0)
                else:
                    said = [*said[-20:], text]
            if process.wait():
                raise NotBackedUp(f"pg_dump failed. {_cause(said)}")
        progress.update(task, advance=under_way)


# ------------------------------------------------------------------ restore


def _refuse_foreign(programs: Programs, file: Path) -> None:
    """Look at the table of contents, which is at the beginning."""
    with tempfile.TemporaryFile() as errors:
        process = programs.start("pg_restore", "--list", str(file), stdout=subprocess.PIPE, stderr=errors)
        contents, _ = process.communicate()
        if process.returncode:
            raise NotRestored(f"{file} can't be read. {_cause(_said(errors))}")
    if b"TABLE DATA public points_movements " not in contents:
        raise NotRestored(f"{file} is a dump of another database, not of Setia's.")


async def _refuse_busy(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval(_OTHERS):
            raise NotRestored("Setia is running on this database. Stop it, then restore.")
    finally:
        await connection.close()


def _load(programs: Programs, file: Path, *, replacing: bool) -> None:
    """Restore in one transaction.

    pg_restore turns the file into a script for psql. The COMMIT at its end is ours, and said only when all went well:
    psql and the server throw away a transaction whose end they don't hear of, however it is cut off.
    """
    with ExitStack() as stack:
        psql_said, pg_restore_said = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        progress = stack.enter_context(_progress())
        psql = stack.enter_context(
            _ended(
                programs.start(
                    "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password",
                    "--set=ON_ERROR_STOP=1", programs.dsn,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=psql_said,
                )
            )
        )  # fmt: skip
        assert psql.stdin is not None
        with suppress(BrokenPipeError):  # psql has gone, and says why below
            _tell(psql, _BEGIN + (_EMPTY_OUT if replacing else ""))
            pg_restore = stack.enter_context(
                _ended(
                    programs.start(
                        "pg_restore", "--no-owner", "--no-privileges", "--no-comments", "--file=-",
                        stdin=subprocess.PIPE, stdout=psql.stdin, stderr=pg_restore_said,
                    )
                )
            )  # fmt: skip
            _feed(pg_restore, file, progress)
            if pg_restore.wait() not in (0, -signal.SIGPIPE):
                psql.kill()
                raise NotRestored(f"Nothing was restored: {file} is damaged. {_cause(_said(pg_restore_said))}")
            _settle_xids(psql, programs.dsn, progress)
            _tell(psql, "COMMIT;\n")
            psql.stdin.close()
        if psql.wait():
            raise NotRestored(f"Nothing was restored: Postgres refused it. {_cause(_said(psql_said))}")


def _feed(pg_restore: "subprocess.Popen[bytes]", file: Path, progress: Progress) -> None:
    task = progress.add_task("rows", total=file.stat().st_size)
    assert pg_restore.stdin is not None
    with file.open("rb") as source, suppress(BrokenPipeError), pg_restore.stdin as sink:
        while chunk := source.read(CHUNK):
            sink.write(chunk)
            progress.update(task, advance=len(chunk))
    progress.update(task, description="indexes")


def _settle_xids(psql: "subprocess.Popen[bytes]", dsn: str, progress: Progress) -> None:
    """See to it that everything restored lies before whatever this server will write.

    The event feed reads in the order of `xid`, the server's number of a transaction. In a younger server the backup's
    numbers lie in the future, so that its counter is moved on beyond them: the feed goes on where each subscriber was.
    Where the counter would have to run for hours, the numbers give way, and subscribers begin again.
    """
    _tell(psql, _HIGHEST_XID)
    assert psql.stdout is not None
    for line in psql.stdout:
        if line.startswith(b"xid|"):
            break
    else:
        raise BrokenPipeError
    highest = int(line.removeprefix(b"xid|"))
    if not uvloop.run(_move_on(dsn, highest, lambda: progress.update(progress.task_ids[0], description="event feed"))):
        _tell(psql, _OLD_XIDS)


async def _move_on(dsn: str, highest: int, watch: Callable[[], None]) -> bool:
    """Use up transaction numbers until the next one is above `highest`; False where that would be too many."""
    connection = await asyncpg.connect(dsn, server_settings={"statement_timeout": "0"})
    try:
        while (missing := highest + 1 - int(await connection.fetchval("SELECT pg_current_xact_id()::text"))) > 0:
            if missing > XIDS_SKIPPED_MAX:
                return False
            watch()
            await connection.execute(
                f"DO $$ BEGIN FOR i IN 1..{missing} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
            )
        return True
    finally:
        await connection.close()


async def _checked(dsn: str) -> bool:
    """Give the planner its statistics, which no backup holds, and audit the ledger."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET client_min_messages = error; SET statement_timeout = 0; ANALYZE")
    finally:
        await connection.close()
    return await ledger.audited(dsn)


def _tell(psql: "subprocess.Popen[bytes]", statements: str) -> None:
    assert psql.stdin is not None
    psql.stdin.write(statements.encode())
    psql.stdin.flush()


# ------------------------------------------------------------------ Postgres' programs


async def _look(dsn: str) -> tuple[int, dict[str, int]]:
    """The server's major version, and our tables with their sizes in bytes."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(_TABLES)
        return connection.get_server_version().major, {row["relname"]: row["bytes"] for row in rows}
    finally:
        await connection.close()


def _programs(settings: Settings, dsn: str, server: int, *, restoring: bool) -> Programs:
    """Programs that understand the server: of its own version, else newer ones. Raises NotBackedUp or NotRestored."""
    environment = {**os.environ, "LC_ALL": "C"}
    url = urlsplit(dsn)
    if url.password is not None:
        # Not among the arguments, which everybody on this machine can read.
        environment["PGPASSWORD"] = unquote(url.password)
        user, _, host = url.netloc.rpartition("@")
        dsn = urlunsplit(url._replace(netloc=f"{user.partition(':')[0]}@{host}"))
    if settings.database_url is None:
        # PGOPTIONS and their like are meant for other servers.
        own = {name: value for name, value in environment.items() if not name.startswith("PG")}
        return Programs(EmbeddedPostgres.bin, dsn, own)
    on_path = shutil.which("pg_restore" if restoring else "pg_dump")
    folders = [*([Path(on_path).parent] if on_path else []), EmbeddedPostgres.bin]
    versions = {folder: _major(folder) for folder in folders}
    for folder, version in versions.items():
        if version == server:
            return Programs(folder, dsn, environment)
    for folder, version in versions.items():
        # A newer pg_restore says something that a server before 17 does not understand.
        if version > server and not (restoring and server < POSTGRES_WITH_TRANSACTION_TIMEOUT):
            return Programs(folder, dsn, environment)
    have = ", ".join(f"{version} in {folder}" for folder, version in versions.items())
    error = NotRestored if restoring else NotBackedUp
    raise error(
        f"Your server is Postgres {server}, and of its programs there are {have}. "
        f"Install the client programs of Postgres {server} and put them on the PATH."
    )


def _major(folder: Path) -> int:
    said = subprocess.run([folder / "pg_dump", "--version"], check=True, capture_output=True, text=True)  # noqa: S603
    found = re.search(r"\d+", said.stdout)
    assert found is not None
    return int(found[0])


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does not outlive the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        process.wait()


def _said(errors: IO[bytes]) -> list[str]:
    errors.seek(0)
    return errors.read().decode(errors="replace").splitlines()


def _cause(said: list[str]) -> str:
    """What went wrong, out of everything that a program said."""
    wrong = [line for line in said if re.search(r"error|fatal|detail|hint", line, re.IGNORECASE)]
    return "\n".join((wrong or said)[:5])


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
