"""`crm loyalty run-night`: what the worker does at a program's midnight, by hand."""

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from crm.cli import logs, loop, place
from crm.db.session import Database
from crm.loyalty import nights, programs
from crm.loyalty.nights import Night, Tally
from crm.settings import Settings

YEAR_MIN: Final = 1970
YEAR_MAX: Final = 9000


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter("write it as 2026-12-01T00:00:00+07:00") from error
    if moment.tzinfo is None:
        raise typer.BadParameter("say which offset, as in 2026-12-01T00:00:00+07:00")
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise typer.BadParameter(f"the year must be one from {YEAR_MIN} to {YEAR_MAX}")
    return moment.astimezone(UTC)


def run_night(
    program: Annotated[UUID | None, typer.Option(help="The program's id; left out, the default program.")] = None,
    at: Annotated[
        datetime | None, typer.Option(parser=_instant, metavar="TIMESTAMP", help="With an offset; left out, now.")
    ] = None,
) -> None:
    """Work off a program's nights up to TIMESTAMP: begin, release, reward and end what is due, and judge the tiers.

    What is done is not done again. A TIMESTAMP that lies ahead is played as if it had come: what is written then stays.
    """
    settings = Settings()
    logs.configure(settings)
    with place.database(settings) as found:
        night, tally = loop.run(_run(found.dsn, program, at))
    _show(night, tally, Console(highlight=False, soft_wrap=True))
    if night.left_out:
        raise typer.Exit(1)


async def _run(dsn: str, program_id: UUID | None, at: datetime | None) -> tuple[Night, str]:
    database = await Database.connect(dsn, size_max=1)
    try:
        async with database.reading() as session:
            chosen = program_id or await programs.default_id(session)
            name = (await programs.get(session, program_id=chosen)).name
        with _progress() as progress:
            task = progress.add_task("", total=None)

            def watch(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            night = await nights.run(
                database, program_id=chosen, at=at or datetime.now(UTC), clock=lambda: datetime.now(UTC), watch=watch
            )
    finally:
        await database.close()
    return night, name


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(night: Night, name: str, console: Console) -> None:
    first, last = night.nights[0], night.nights[-1]
    console.print(f"{name}: the night of {first}" if first == last else f"{name}: the nights {first} to {last}")
    table = Table("", "members", "points")
    for column in table.columns[1:]:
        column.justify = "right"
    for title, tally in (
        ("activated", night.activated),
        ("released", night.released),
        ("birthdays", night.birthdays),
        ("anniversaries", night.anniversaries),
        ("tiers changed", Tally(night.tiers_changed)),
        ("expired", night.expired),
    ):
        table.add_row(title, f"{tally.members:,}", "" if title == "tiers changed" else f"{tally.points:,}")
    console.print(table)
    if night.left_out:
        console.print(f"[red]{night.left_out:,} accounts were left out;[/] the log says which, and why.")
