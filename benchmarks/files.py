"""(e) Files in and out: contacts imported and exported by the command, against the same rows by COPY."""

import asyncio
import csv
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import psutil
from rich.console import Console

from benchmarks.rounds import Part, Rate, Ratio, Sample, Turn
from benchmarks.stage import ROOT, Stage, children_seconds, environment
from crm.exchange import exports

CONTACTS = 100_000
CONTACTS_QUICK = 10_000
FEW = 1_000
_WATCH_SECONDS = 0.05

FIGURES = (
    Rate("import of contacts, timeline and search included", "import", at_least=3_334),
    Ratio("import ÷ COPY of the same rows", "import", "COPY in"),
    Ratio("export as CSV ÷ COPY of the same rows", "export CSV", "COPY out"),
    Ratio("export as JSON ÷ COPY of the same rows", "export JSON", "COPY out"),
)

_FIRST = ("Sari", "Budi", "Agus", "Putri", "Rina", "Joko", "Siti", "Andi", "Maya", "Eko", "Wati", "Hendra")
_LAST = ("Dewi", "Santoso", "Wijaya", "Lestari", "Pratama", "Hidayat", "Kusuma", "Rahayu", "Saputra", "Nugroho")
_CITIES = ("Bandung", "Jakarta", "Surabaya", "Medan", "Makassar", "Denpasar")
_BARE = "CREATE TABLE bare_contacts (name text, phone text, email text, birth_on text, city text, tags text)"


@dataclass(slots=True)
class Peaks:
    """The most memory that the process of a command had, in MB, by what it did."""

    mb: dict[str, float] = field(default_factory=dict)

    def see(self, what: str, bytes_used: int) -> None:
        """Remember it, if it is the most so far."""
        self.mb[what] = max(self.mb.get(what, 0.0), bytes_used / 2**20)


@asynccontextmanager
async def opened(at: Stage, console: Console, *, quick: bool) -> AsyncIterator[Part]:
    """Prepare files and databases for as long as the part takes its turns; then say what memory it took."""
    count = CONTACTS_QUICK if quick else CONTACTS
    file, few, none = (_contacts(at.folder / f"contacts-{rows}.csv", rows) for rows in (count, FEW, 0))
    await at.database("filled")
    peaks = Peaks()
    await _import(at, file, peaks, into="filled")
    connection = await asyncpg.connect(at.dsn("filled"))
    await connection.execute(_BARE)

    async def copy_in() -> Sample:
        await connection.execute("TRUNCATE bare_contacts")
        postgres, started = at.postgres_seconds(), time.perf_counter()
        await connection.copy_to_table("bare_contacts", source=file, format="csv", header=True)
        seconds = time.perf_counter() - started
        return Sample(count / seconds, None, None, (at.postgres_seconds() - postgres) / count * 1e6)

    async def import_contacts() -> Sample:
        # Starting Python takes as long as importing a few thousand rows, whatever the number of rows.
        full, empty = await _import(at, file, peaks), await _import(at, none, peaks)
        seconds, python, postgres = (whole - start for whole, start in zip(full, empty, strict=True))
        return Sample(count / seconds, None, python / count * 1e6, postgres / count * 1e6)

    async def copy_out() -> Sample:
        postgres, started = at.postgres_seconds(), time.perf_counter()
        await connection.copy_from_query(exports.query("contacts"), output=at.folder / "copied.csv", format="csv")
        seconds = time.perf_counter() - started
        return Sample(count / seconds, None, None, (at.postgres_seconds() - postgres) / count * 1e6)

    def export(form: str) -> Turn:
        async def turn() -> Sample:
            command = ("export", "contacts", "--format", form, "--output", str(at.folder / "exported"))
            full = await _command(at, "filled", command, peaks, f"export as {form}")
            empty = await _command(at, "setia", command, peaks, "nothing")
            seconds, python, postgres = (whole - start for whole, start in zip(full, empty, strict=True))
            return Sample(count / seconds, None, python / count * 1e6, postgres / count * 1e6)

        return turn

    await at.settled()
    yield Part(
        "(e) Files in and out", "contacts",
        {
            "import": import_contacts,
            "COPY in": copy_in,
            "export CSV": export("csv"),
            "export JSON": export("ndjson"),
            "COPY out": copy_out,
        },
        FIGURES,
    )  # fmt: skip
    await connection.close()
    await _import(at, few, peaks)
    for what, mb in peaks.mb.items():
        console.print(f"  {what}: at most {mb:,.0f} MB")
    console.print()


async def _import(at: Stage, file: Path, peaks: Peaks, *, into: str = "imported") -> tuple[float, float, float]:
    await at.database(into)
    rows = file.stem.rpartition("-")[2]
    return await _command(at, into, ("import", "contacts", str(file)), peaks, f"import of {int(rows):,}")


async def _command(
    at: Stage, database: str, command: tuple[str, ...], peaks: Peaks, what: str
) -> tuple[float, float, float]:
    """Run a command: wall time, its CPU time, CPU time of Postgres."""
    python, postgres, started = children_seconds(), at.postgres_seconds(), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crm.cli", *command, env=environment(at.dsn(database)), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    watching = asyncio.create_task(_watch(psutil.Process(process.pid), peaks, what))
    _, complaint = await process.communicate()
    seconds = time.perf_counter() - started
    watching.cancel()
    await at.quiet()
    if process.returncode:
        raise RuntimeError(complaint.decode()[-2_000:])
    return seconds, children_seconds() - python, at.postgres_seconds() - postgres


async def _watch(process: psutil.Process, peaks: Peaks, what: str) -> None:
    while True:
        try:
            peaks.see(what, process.memory_info().rss)
        except psutil.NoSuchProcess:
            return
        await asyncio.sleep(_WATCH_SECONDS)


def _contacts(file: Path, count: int) -> Path:
    """What a shop might have in a spreadsheet."""
    chance = random.Random(5)
    with file.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        table.writerow(["Nama", "No HP", "E-Mail", "Tgl Lahir", "Kota", "Grup"])
        for number in range(count):
            first, last = chance.choice(_FIRST), chance.choice(_LAST)
            born = f"{chance.randint(1, 28):02}/{chance.randint(1, 12):02}/{chance.randint(1960, 2005)}"
            table.writerow([
                f"{first} {last}", f"08{12 + number % 7}-{1000 + number // 10_000:04}-{number % 10_000:04}",
                f"{first}.{last}{number}@example.com".lower(), born, chance.choice(_CITIES),
                "vip" if number % 10 == 0 else "",
            ])  # fmt: skip
    return file
