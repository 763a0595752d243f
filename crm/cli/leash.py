"""A child process that ends when its parent does, even when the parent is killed without a word."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection

GRACE_SECONDS = 1.5


def follow_stdin() -> None:
    """End when stdin ends: the parent holds the only other end of that pipe."""
    _follow(_read_stdin)


def follow_spawner() -> None:
    """End when the process that spawned this one through multiprocessing does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        _follow(lambda: connection.wait([parent.sentinel]))


def _read_stdin() -> None:
    # Not through sys.stdin, whose lock would be held when the interpreter shuts down.
    while os.read(0, 1024):
        pass


def _follow(parent_ends: Callable[[], object]) -> None:
    def watch() -> None:
        parent_ends()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="leash", daemon=True).start()
