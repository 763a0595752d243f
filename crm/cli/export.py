"""`crm export`: everything as a file, as it stands at one moment, while everything else goes on."""

import asyncio
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Annotated, BinaryIO
from uuid import UUID

import typer

from crm.api import moments
from crm.cli import collector, logs, loop, place
from crm.db.session import Database
from crm.exchange import exports
from crm.exchange.exports import Wanted, What
from crm.exchange.forms import Form
from crm.settings import Settings


def export(
    what: Annotated[What, typer.Argument(help="What to export.")],
    form: Annotated[Form, typer.Option("--format", help="A table, or JSON with one object a line.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="A file; left out, the standard output.", dir_okay=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Only contacts with this tag.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TIMESTAMP", help="Contacts created, or what occurred, from then on."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIMESTAMP", help="And before.")] = None,
    program: Annotated[UUID | None, typer.Option(help="Only of this program; left out, of all.")] = None,
) -> None:
    """Export contacts, timelines, purchases or the ledger."""
    wanted = Wanted(moments.instant("from", since), moments.instant("to", until), tag, program)
    settings = Settings()
    logs.configure(settings)
    collector.settle()
    with ExitStack() as stack:
        found = stack.enter_context(place.database(settings))
        file: BinaryIO = sys.stdout.buffer if output is None else stack.enter_context(output.open("wb"))
        loop.run(_written(found.dsn, what, form, wanted, file))


async def _written(dsn: str, what: What, form: Form, wanted: Wanted, file: BinaryIO) -> None:
    database = await Database.connect(dsn, size_max=1)
    try:
        async with aclosing(exports.stream(database, what=what, form=form, wanted=wanted)) as parts:
            async for part in parts:
                await asyncio.to_thread(file.write, part)
    finally:
        await database.close()
