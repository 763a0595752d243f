"""`crm serve`: everything in one go, for as long as it runs."""

import asyncio
import functools
import http.client
import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

import crm
from crm.cli import collector, leash, logs, place
from crm.db.session import Database
from crm.settings import Settings

APPLICATION = "crm.app:app_factory"
RESTART_SECONDS = 1
READY_SECONDS_MAX = 60

_log = structlog.get_logger(__name__)


def serve(
    with_worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Run the worker too, or leave it to `crm worker`.")
    ] = True,
) -> None:
    """Start the database if none is configured, the API and the worker."""
    settings = Settings()
    _refuse_busy_port(settings.host, settings.port)
    logs.configure(settings)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with place.database(settings) as found:
            # The processes to come find the database here.
            os.environ["CRM_DATABASE_URL"] = found.dsn
            os.environ["CRM_DIRECT_DATABASE_URL"] = found.direct
            if (key := asyncio.run(_first_key(found.dsn))) is not None:
                console.print(f"Your owner key, shown only this once: [bold]{key}[/]")
            with _working(settings) if with_worker else nullcontext():
                stopped = _answer(settings, console)
    except KeyboardInterrupt:
        stopped = True
    raise typer.Exit(0 if stopped else 1)


def _refuse_busy_port(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        sys.exit(f"crm: can't listen on {host}:{port}: {error.strerror}. Choose another with CRM_PORT or CRM_HOST.")


async def _first_key(dsn: str) -> str | None:
    """A key that may do everything, for the owner of a database that has none."""
    from crm.api import auth

    database = await Database.connect(dsn, size_max=1)
    try:
        async with database.begin() as session:
            await session.execute("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE")
            if await auth.exists(session):
                return None
            issued = await auth.issue(session, name="owner", scopes=["*"], by="setup", now=datetime.now(UTC))
            return issued.key
    finally:
        await database.close()


def _answer(settings: Settings, console: Console) -> bool:
    """Run the API until it is told to stop; False when it can't even start."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces, Loops
    from granian.log import LogLevels

    # Forked processes would share our lock on the data directory, and our threads' locks.
    multiprocessing.set_start_method("spawn", force=True)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    ready, done = threading.Event(), threading.Event()
    announcer = threading.Thread(target=_announce, args=(settings, console, ready, done), daemon=True)
    announcer.start()
    try:
        while True:
            server: Any = Granian(
                APPLICATION,
                address=settings.host,
                port=settings.port,
                interface=Interfaces.ASGI,
                workers=settings.api_processes,
                loop=Loops.uvloop,
                http=HTTPModes.http1,
                websockets=False,
                log_level=LogLevels.warning,
                log_dictconfig={"handlers": {}, "formatters": {}, "loggers": {"_granian": {"propagate": True}}},
                respawn_failed_workers=True,
                workers_kill_timeout=settings.drain_seconds,
            )
            # A closed terminal must not mean "reload and go on", which is what granian does on SIGHUP.
            server.on_startup(functools.partial(signal.signal, signal.SIGHUP, server.signal_handler_interrupt))
            with suppress(SystemExit):
                server.serve(target_loader=_load)
            if not server.interrupt_signal:
                # It leaves handlers behind that only tell a server which is gone.
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            if server.interrupt_signal:
                return True
            if not ready.is_set():
                _log.error("api_cannot_start")
                return False
            # granian gives up on processes that die twice in a few seconds; we don't once they have worked.
            _log.error("api_died")
            time.sleep(RESTART_SECONDS)
    finally:
        done.set()
        announcer.join()


def _load(target: str) -> Callable[..., Any]:
    """Prepare an API process and load the application in it."""
    # Ctrl-C at the terminal is for the process that started this one.
    os.setsid()
    leash.follow_spawner()
    logs.configure(Settings())
    module, _, factory = target.partition(":")
    application: Callable[..., Any] = getattr(importlib.import_module(module), factory)()
    collector.settle()
    return application


def _announce(settings: Settings, console: Console, ready: threading.Event, done: threading.Event) -> None:
    """Say where the API is, once it answers."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - only compared
    while not done.wait(0.05):
        connection = http.client.HTTPConnection(host, settings.port, timeout=READY_SECONDS_MAX)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status == http.client.OK:
                ready.set()
                break
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    else:
        return
    address = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    console.print(f"Setia {crm.__version__} answers at [bold]{address}[/], its API is described at {address}/schema")


@contextmanager
def _working(settings: Settings) -> Iterator[None]:
    """The worker beside us: started again when it dies, gone when we are."""
    done = threading.Event()
    first = _start_worker()

    def keep() -> None:
        process = first
        while not done.is_set():
            if process.poll() is not None:
                _log.error("worker_died", exit_code=process.returncode)
                if done.wait(RESTART_SECONDS):
                    break
                process = _start_worker()
            done.wait(0.2)
        _stop(process, seconds_max=settings.drain_seconds)

    keeper = threading.Thread(target=keep, name="worker-keeper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _start_worker() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "crm.cli", "worker", "--leashed"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - ourselves


def _stop(process: "subprocess.Popen[bytes]", *, seconds_max: float) -> None:
    process.terminate()
    try:
        process.wait(seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
