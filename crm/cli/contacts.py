"""`crm contacts …`: look after who is known."""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from crm.cli import collector, logs, loop, place
from crm.contacts import scanning, suggestions
from crm.contacts.likeness_keys import BLOCK_MAX
from crm.contacts.scanning import Phase, ScanReport
from crm.contacts.suggestions import Duplicate, ShortContact
from crm.db.session import Database
from crm.settings import Settings

app = typer.Typer(help="Look after who is known.", no_args_is_help=True)

_PHASES: Final = {"reading": "contacts", "comparing": "pairs", "checking": "suggestions of before"}
_LEFT_OUT: Final = {
    "number": "a phone number", "email": "an e-mail address", "similar_number": "most of a phone number",
    "birth_date": "a birth date", "name": "a name", "address": "an address",
}  # fmt: skip


@app.callback()
def contacts() -> None:
    """Look after who is known."""


@app.command()
def find_duplicates(
    show: Annotated[int, typer.Option(min=0, max=200, help="How many of the likeliest to show.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print the report, and those, as JSON.")] = False,
) -> None:
    """Look through all contacts for those who are one person, and suggest them at GET /v1/duplicates.

    Nobody is merged. May run beside everything else, and again at any time: what was dismissed stays so.
    """
    settings = Settings()
    logs.configure(settings)
    collector.settle()
    with place.database(settings) as found:
        report, best = loop.run(_scanned(found.direct, show, Console(stderr=True)))
    if json:
        typer.echo(msgspec.json.encode({"report": report, "duplicates": best}))
    else:
        _show(report, best, Console(highlight=False))


async def _scanned(dsn: str, show: int, console: Console) -> tuple[ScanReport, list[Duplicate]]:
    database = await Database.connect(dsn, size_max=1)
    try:
        with _progress(console) as progress:
            tasks = {
                phase: progress.add_task(phase, total=None, start=False, counted=counted)
                for phase, counted in _PHASES.items()
            }

            async def watch(*, phase: Phase, done: int, total: int) -> bool:
                progress.start_task(tasks[phase])
                progress.update(tasks[phase], completed=done, total=total)
                return True

            async with database.reading() as session:
                report = await scanning.scan(session, watch=watch, now=datetime.now(UTC))
                assert report is not None, "it is wanted to the end"
                return report, await suggestions.page(session, limit=show)
    finally:
        await database.close()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[counted]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _show(report: ScanReport, best: list[Duplicate], console: Console) -> None:
    console.print(
        f"{report.contacts:,} contacts, {report.pairs:,} pairs compared: {report.suggested:,} may be one person; "
        f"{report.withdrawn:,} suggestions withdrawn."
    )
    for left in report.left_out:
        console.print(
            f"{left.contacts:,} contacts share {_LEFT_OUT[left.by]} with more than {BLOCK_MAX} others: they were "
            "compared only where something rarer is the same."
        )
    if best:
        table = Table("score", "", "", "why")
        for pair in best:
            why = ", ".join(reason.code.replace("_", " ") for reason in pair.reasons)
            table.add_row(str(pair.score), _named(pair.contact), _named(pair.other_contact), why)
        console.print(table)


def _named(contact: ShortContact | None) -> Text:
    if contact is None:
        return Text("")
    known_by = next((f", {identity.value}" for identity in contact.identities), "")
    return Text(f"{contact.name}{known_by}")
