"""What the figures were measured on, and whether it was quiet."""

import importlib.metadata
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import psutil

LOAD_MAX = 1.0
SYNCS = 50


def facts(folder: Path) -> dict[str, str]:
    """The machine and the disk below `folder`, as it is printed above the figures."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("granian", "litestar", "uvloop"))
    return {
        "cores": f"{cores} of {_processor()}, {psutil.virtual_memory().total / 2**30:.0f} GB",
        "disk": f"{_filesystem(folder)}, one synced write takes {_sync_us(folder):,.0f} µs",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_version()}, {packages}, one API process",
        "load": load(),
    }


def load() -> str:
    """The load average."""
    return "{:.2f}, {:.2f}, {:.2f} over 1, 5, 15 minutes".format(*os.getloadavg())


def is_busy() -> bool:
    """Whether others were at work in the last minute."""
    return os.getloadavg()[0] > LOAD_MAX


class Steal:
    """How much of the time the hypervisor gave to other machines since this was made."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def share(self) -> float:
        """From 0 to 1."""
        now = psutil.cpu_times()
        spent = sum(now) - sum(self._before)
        return (getattr(now, "steal", 0.0) - getattr(self._before, "steal", 0.0)) / spent if spent else 0.0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _filesystem(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown file system"


def _sync_us(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder) as file:
        took = []
        for _ in range(SYNCS):
            started = time.perf_counter()
            os.pwrite(file.fileno(), b"\x01" * 8192, 0)
            os.fsync(file.fileno())
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6
