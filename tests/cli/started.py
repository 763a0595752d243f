"""`crm serve` as a real process with its own Postgres."""

import http.client
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from crm.db.cluster import Cluster

CRM = [sys.executable, "-m", "crm.cli"]


def command_of(process: psutil.Process) -> list[str]:
    """What a process was started with; nothing of one that has just ended and is still in the list."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Shop:
    """One data directory and one port."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.cluster = Cluster(self.data_dir / "postgres")
        self.printed = folder / "printed"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
        self.environment |= {"CRM_DATA_DIR": str(self.data_dir), "CRM_PORT": str(self.port)}
        self.serving: psutil.Popen | None = None

    def serve(self, *args: str) -> psutil.Popen:
        """Start it and wait until it says that it answers."""
        with self.printed.open("w") as printed:
            self.serving = psutil.Popen([*CRM, "serve", *args], env=self.environment, stdout=printed, stderr=printed)
        self.eventually(lambda: "answers at" in self.printed.read_text())
        return self.serving

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.serving is not None
        self.serving.send_signal(number)
        code: int = self.serving.wait(20)
        return code

    def key(self) -> str:
        """What the owner is given at the first start."""
        found = re.search(r"shown only this once: (\S+)", self.printed.read_text())
        assert found is not None
        return found[1]

    def status(self, path: str, key: str = "") -> int:
        """The status of a GET, 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def child(self, mark: str) -> psutil.Process:
        assert self.serving is not None
        return next(child for child in self.serving.children() if mark in " ".join(command_of(child)))

    def eventually(self, condition: Callable[[], bool], *, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.printed.read_text()
            assert self.serving is None or self.serving.poll() in (None, -signal.SIGKILL), self.printed.read_text()
            time.sleep(0.05)
