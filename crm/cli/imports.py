"""`crm import …`: what a shop already has, from a file, as often as needed: nothing is imported twice."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self, TextIO
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from crm.cli import collector, logs, loop, place
from crm.db.session import Database
from crm.db.vault import Vault
from crm.errors import CrmError
from crm.exchange import guesses, imports, mappings, refusals, runs, sheets, works
from crm.exchange.cells import DateOrder
from crm.exchange.imports import LANES
from crm.exchange.mappings import ColumnMapping, Kind, NotImportable
from crm.exchange.outcomes import ERASED_BEFORE, OnDuplicate, Outcome
from crm.exchange.sheets import Layout, Row
from crm.exchange.works import Work
from crm.settings import Settings

app = typer.Typer(help="Bring in what the shop already has, from a file.", no_args_is_help=True)

_BY = "import"

File = Annotated[
    Path,
    typer.Argument(
        help="A CSV file or an Excel workbook; its first row names the columns.", exists=True, dir_okay=False
    ),
]
Constants = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field that is the same for every row.")
]
Dates = Annotated[
    DateOrder | None,
    typer.Option("--dates", help="How days are written; left out, as the first rows look, else with the day first."),
]
Sheet = Annotated[str | None, typer.Option("--sheet", help="Which sheet of a workbook; left out, the first.")]
Program = Annotated[UUID | None, typer.Option("--program", help="The program's id; left out, the default program.")]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be imported, and how."""

    kind: Kind
    file: Path
    sheet: str | None
    columns: Sequence[str]
    constants: Sequence[str]
    dates: DateOrder | None
    on_duplicate: OnDuplicate = "skip"
    program_id: UUID | None = None

    def mapping(self, layout: Layout, sample: Sequence[Sequence[str]]) -> ColumnMapping:
        """Where columns go, guessed as far as it is not said. Raises NotImportable."""
        columns = _pairs(self.columns) or guesses.guess(self.kind, layout.columns, sample).columns
        dates = self.dates or guesses.date_order(columns, layout.columns, sample)
        return ColumnMapping(columns, _pairs(self.constants), dates)


@dataclass(slots=True)
class Tally:
    """How an import went so far."""

    created: int = 0
    updated: int = 0
    skipped: int = 0
    failed: int = 0
    points: int = 0
    erased_before: int = 0

    def add(self, outcomes: Iterable[tuple[Row, Outcome]]) -> None:
        """Count what became of some rows."""
        for _, outcome in outcomes:
            setattr(self, outcome.result, getattr(self, outcome.result) + 1)
            self.points += outcome.points
            self.erased_before += outcome.note == ERASED_BEFORE


@app.command(name="contacts")
def import_contacts(
    file: File,
    columns: Annotated[
        list[str],
        typer.Option(
            "--map",
            metavar="COLUMN=FIELD",
            help="Where a column goes: name, given_name, family_name, locale, time_zone, birth_on, tags, "
            "identity:KIND, attributes.NAME, verified. Without any it is guessed from the columns' names.",
        ),
    ] = [],  # noqa: B006 typer reads the default and never changes it
    constants: Constants = [],  # noqa: B006
    on_duplicate: Annotated[
        OnDuplicate,
        typer.Option(
            help="What to do about somebody who is there. By identities alone: skip the row, fill in what is missing, "
            "or update. Looking for people who resemble it too: reject the row, link it, or create a contact anyway."
        ),
    ] = "skip",
    dates: Dates = None,
    sheet: Sheet = None,
) -> None:
    """Import contacts.

    Whoever has one of a row's identities is the same person. Columns without a place are left out. Rows that can't be
    imported go to FILE.errors.csv with their reasons. Run it again to go on where it stopped.
    """
    tally, seconds, errors = _run(Order("contacts", file, sheet, columns, constants, dates, on_duplicate))
    Console(stderr=True).print(
        f"{tally.created:,} contacts created, {tally.updated:,} updated in {seconds:.1f} s "
        f"({(tally.created + tally.updated) / seconds:,.0f}/s); {tally.skipped:,} were there already; "
        f"{_refused(tally, errors)}."
    )
    if tally.erased_before:
        Console(stderr=True).print(
            f"{tally.erased_before:,} of the new ones were erased once: marketing is denied until they allow it."
        )
    if tally.failed:
        raise typer.Exit(1)


@app.command(name="purchases")
def import_purchases(
    file: File,
    columns: Annotated[
        list[str],
        typer.Option("--map", metavar="COLUMN=FIELD", help="Where a column goes; identity:KIND says who bought."),
    ],
    constants: Constants = [],  # noqa: B006
    program: Program = None,
    dates: Dates = None,
    sheet: Sheet = None,
) -> None:
    """Import purchases with the points they earn.

    Buyers who are not known yet become contacts. Columns without a place are kept with the purchase. Rows that can't be
    imported go to FILE.errors.csv with their reasons. Run it again to go on where it stopped.
    """
    order = Order("purchases", file, sheet, columns, constants, dates, program_id=program)
    tally, seconds, errors = _run(order)
    Console(stderr=True).print(
        f"{tally.created:,} purchases imported with {tally.points:,} points in {seconds:.1f} s "
        f"({tally.created / seconds:,.0f}/s); {tally.skipped:,} were there already; {_refused(tally, errors)}."
    )
    if tally.failed:
        raise typer.Exit(1)


def _run(order: Order) -> tuple[Tally, float, Path]:
    settings = Settings()
    logs.configure(settings)
    collector.settle()
    errors = order.file.with_name(f"{order.file.name}.errors.csv")
    started = time.monotonic()
    try:
        with place.database(settings) as found:
            tally = loop.run(_import(order, errors, dsn=found.dsn, settings=settings))
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. What was imported stays; the same command goes on from here.")
        raise typer.Exit(130) from None
    return tally, _since(started), errors


async def _import(order: Order, errors: Path, *, dsn: str, settings: Settings) -> Tally:
    layout, sample = sheets.recognize(order.file, sheet=order.sheet)
    mapping = order.mapping(layout, sample)
    database = await Database.connect(dsn, size_max=max(LANES.values()) + 1, vault=Vault.of(settings))
    try:
        async with database.begin() as session:
            made = await imports.create(
                session, kind=order.kind, filename=order.file.name, layout=layout, sample=sample, mapping=mapping,
                program_id=order.program_id, region=settings.default_region, by=_BY, now=_now(),
            )  # fmt: skip
            await imports.start(
                session, import_id=made.id, dry_run=False, on_duplicate=order.on_duplicate, now=_now(), enqueue=False
            )
            work = await works.begin(session, import_id=made.id)
        assert work is not None, "nobody else knows of it"
        return await _carried_out(database, work, order.file, errors)
    finally:
        await database.close()


async def _carried_out(database: Database, work: Work, file: Path, errors: Path) -> Tally:
    tally = Tally()
    started = time.monotonic()
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(Console(stderr=True)))
        total = await asyncio.to_thread(sheets.count, file, work.layout)
        task = progress.add_task("", total=total, of="" if total is None else f" of {total:,}", rate="")
        refused = stack.enter_context(_Errors(errors, work.layout))

        def told(outcomes: Sequence[tuple[Row, Outcome]]) -> None:
            tally.add(outcomes)
            refused.add(outcomes)
            rate = f"{(progress.tasks[0].completed + len(outcomes)) / _since(started):,.0f}/s"
            progress.update(task, advance=len(outcomes), rate=rate)

        try:
            await runs.carry_out(database, work=work, path=file, clock=_now, told=told)
        except BaseException as error:
            async with database.begin() as session:
                if isinstance(error, CrmError):
                    await works.fail(session, work=work, code=error.code, message=error.detail, now=_now())
                else:
                    await imports.cancel(session, import_id=work.import_id, now=_now())
            raise
        async with database.begin() as session:
            await works.complete(session, work=work, now=_now())
    return tally


class _Errors:
    """The rows that could not be imported, as they were, each with its reasons; made when the first one comes."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._columns = layout.columns
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, outcomes: Iterable[tuple[Row, Outcome]]) -> None:
        """Keep the refused among these rows, to be mended and sent again."""
        failed = [
            refusals.line(row.cells, row.number, outcome.errors, self._columns)
            for row, outcome in outcomes
            if outcome.errors
        ]
        if failed and self._file is None:
            self._file = self._path.open("w", newline="", encoding="utf-8")
            failed.insert(0, [*self._columns, *mappings.REFUSED_COLUMNS])
        if self._file is not None:
            self._file.write(refusals.lines(failed))


def _refused(tally: Tally, errors: Path) -> str:
    return f"{tally.failed:,} errors" + (f", see {errors}" if tally.failed else "")


def _pairs(options: Iterable[str]) -> Mapping[str, str]:
    pairs = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not (name and separator and value):
            raise NotImportable(f"'{option}' is not of the form NAME=VALUE.")
        pairs[name] = value
    return pairs


def _now() -> datetime:
    return datetime.now(UTC)


def _since(started: float) -> float:
    return max(time.monotonic() - started, 1e-3)


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )
