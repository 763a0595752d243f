"""Running a command's coroutine so that Ctrl-C ends it between two steps, not in the middle of one."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main`. A signal to stop cancels it, so that what it holds is released; then KeyboardInterrupt.

    An exception raised by a signal handler would strike inside the database driver, which then waits for ever.
    """
    try:
        return uvloop.run(_cancellable(main))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _cancellable(main: Coroutine[Any, Any, T]) -> T:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    return await main
