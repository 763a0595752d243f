"""`python -m benchmarks`: everything, or some of it."""

import signal
from contextlib import AbstractAsyncContextManager
from typing import Annotated

import asyncpg
import structlog
import typer
import uvloop
from rich.console import Console

from benchmarks import (
    awards,
    bulk,
    caseload,
    choosing,
    costs,
    deliveries,
    duplicates,
    files,
    growth,
    machine,
    reads,
    stage,
)
from benchmarks.rounds import Part
from benchmarks.stage import Stage

app = typer.Typer(pretty_exceptions_enable=False)

PARTS = "abcdefghi"
ROUNDS, ROUNDS_QUICK = 5, 3
SECONDS, SECONDS_QUICK = 3, 1
WIDTH_MIN = 130


@app.command()
def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Short turns, few rounds and small tables: two minutes.")
    ] = False,
    only: Annotated[str, typer.Option(metavar=",".join(PARTS), help="Only these parts.")] = ",".join(PARTS),
    large: Annotated[bool, typer.Option("--large", help="Part d with 10,000,000 rows too: needs 10 GB.")] = False,
) -> None:
    """Measure how fast the service is, as ratios to something else in the same minutes on the same machine."""
    chosen = [part.strip() for part in only.split(",")]
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"There is no part {', '.join(sorted(unknown))}; the parts are a to i.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else Postgres would stay behind
    console = Console(highlight=False)
    if console.width < WIDTH_MIN:
        console.width = WIDTH_MIN
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    busy = machine.is_busy()
    if busy:
        console.print("[yellow]Others are at work on this machine: don't believe the absolute numbers.[/]")
    steal = machine.Steal()
    with stage.opened(SECONDS_QUICK if quick else SECONDS) as at:
        uvloop.run(_measure(at, console, chosen, quick=quick, large=large))
    load = machine.load()
    console.print(f"At the end the load was {load}; {steal.share():.1%} of the time went to other virtual machines.")


async def _measure(at: Stage, console: Console, chosen: list[str], *, quick: bool, large: bool) -> None:
    for name, fact in (machine.facts(at.folder) | await _postgres(at)).items():
        console.print(f"  {name:>8}  {fact}")
    console.print()
    await costs.show(at, console)
    sizes = (*(growth.SIZES_QUICK if quick else growth.SIZES), *([growth.SIZE_LARGE] if large else []))
    parts: dict[str, AbstractAsyncContextManager[Part]] = {
        "a": awards.opened(at),
        "b": reads.opened(at),
        "c": bulk.opened(at, quick=quick),
        "d": growth.opened(at, console, sizes=sizes),
        "e": choosing.opened(at, quick=quick),
        "f": files.opened(at, console, quick=quick),
        "g": deliveries.opened(at, console, quick=quick),
        "h": duplicates.opened(at, quick=quick),
        "i": caseload.opened(at, quick=quick),
    }
    for name in chosen:
        async with parts[name] as part:
            await part.run(ROUNDS_QUICK if quick else ROUNDS, console)
        part.print(console)


async def _postgres(at: Stage) -> dict[str, str]:
    connection = await asyncpg.connect(at.dsn("postgres"))
    version = await connection.fetchval("SHOW server_version")
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers")
    settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in names]
    await connection.close()
    return {"Postgres": f"{version}, {', '.join(settings)}"}


app()
