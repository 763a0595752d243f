"""`crm import …`: what a shop already has, from a CSV file, as often as needed: nothing is imported twice."""

import asyncio
import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as clock
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Self, TextIO, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from crm.api.purchases import PurchaseFields
from crm.cli import collector, logs, loop, place
from crm.db.session import Database
from crm.errors import CrmError, Invalid, Unavailable
from crm.interactions.people import Sender
from crm.loyalty import programs, purchases
from crm.loyalty.purchases import Bought
from crm.settings import Settings

app = typer.Typer(help="Bring in what the shop already has, from a CSV file.", no_args_is_help=True)

BATCH: Final = 500
LANES: Final = 2
"""Batches under way at once: one is planned while the database writes the other. A buyer stays in one lane."""
ATTEMPTS_MAX: Final = 3
IDENTITY: Final = "identity:"
NOON: Final = clock(12)
FIELDS: Final = sorted(PurchaseFields.model_fields.keys() - {"lines", "discounts", "payments"})

Pairs: TypeAlias = Mapping[str, str]


class NotImportable(Invalid):
    code = "not_importable"
    title = "This file can't be imported like that"


@dataclass(slots=True)
class Row:
    """A line of the file: what it means, or why it means nothing."""

    line: int
    values: Mapping[Any, Any]
    bought: Bought | None = None
    error: str = ""


@dataclass(slots=True)
class Tally:
    """How an import went so far."""

    recorded: int = 0
    known: int = 0
    points: int = 0
    errors: int = 0


@app.command(name="purchases")
def import_purchases(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header, in UTF-8.", exists=True, dir_okay=False)],
    columns: Annotated[
        list[str],
        typer.Option("--map", metavar="COLUMN=FIELD", help="Where a column goes; identity:KIND says who bought."),
    ],
    constants: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A field that is the same for every row.")
    ] = [],  # noqa: B006 typer reads the default and never changes it
    program: Annotated[UUID | None, typer.Option(help="The program's id; left out, the default program.")] = None,
) -> None:
    """Import purchases with the points they earn.

    Buyers who are not known yet become contacts. Columns without a place are kept with the purchase. Rows that can't be
    imported go to FILE.errors.csv with their reasons. Run it again to go on where it stopped.
    """
    settings = Settings()
    logs.configure(settings)
    collector.settle()
    console = Console(stderr=True)
    try:
        with place.database(settings) as found:
            tally = loop.run(
                _import(
                    file, _pairs(columns), _pairs(constants), program, dsn=found.dsn, settings=settings, console=console
                )
            )
    except KeyboardInterrupt:
        console.print("Stopped. What was imported stays; the same command goes on from here.")
        raise typer.Exit(130) from None
    if tally.errors:
        raise typer.Exit(1)


async def _import(
    file: Path, columns: Pairs, constants: Pairs, program_id: UUID | None, *, dsn: str, settings: Settings,
    console: Console,
) -> Tally:  # fmt: skip
    database = await Database.connect(dsn, size_max=LANES)
    tally = Tally()
    started = time.monotonic()
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        task = progress.add_task("", total=_lines(file), rate="")
        errors = stack.enter_context(_Errors(file.with_name(f"{file.name}.errors.csv")))

        def on_batch(rows: list[Row], outcomes: Iterable[tuple[purchases.Recorded, bool] | CrmError]) -> None:
            answers = iter(outcomes)
            for row in rows:
                outcome = next(answers) if row.bought is not None else row.error
                if isinstance(outcome, tuple):
                    recorded, new = outcome
                    tally.recorded += new
                    tally.known += not new
                    tally.points += recorded.points if new else 0
                else:
                    tally.errors += 1
                    errors.add(row, outcome.detail if isinstance(outcome, CrmError) else outcome)
            progress.update(task, advance=len(rows), rate=f"{progress.tasks[0].completed / _since(started):,.0f}/s")

        try:
            async with database.reading() as session:
                chosen = program_id or await programs.default_id(session)
                zone = (await programs.load(session, program_id=chosen)).terms.zone
            read = _Reader(columns, constants, zone, settings.default_region)
            with file.open(newline="", encoding="utf-8-sig") as lines:
                try:
                    await _in_lanes(database, read.rows(lines), chosen, on_batch)
                except* CrmError as refused:
                    raise refused.exceptions[0] from None
        finally:
            await database.close()
    console.print(
        f"{tally.recorded:,} purchases imported with {tally.points:,} points in {_since(started):.1f} s "
        f"({tally.recorded / _since(started):,.0f}/s); {tally.known:,} were there already; {tally.errors:,} errors"
        + (f", see {errors.path}" if tally.errors else "")
        + "."
    )
    return tally


async def _in_lanes(
    database: Database,
    rows: Iterator[Row],
    program_id: UUID,
    on_batch: Callable[[list[Row], Iterable[tuple[purchases.Recorded, bool] | CrmError]], None],
) -> None:
    """A buyer's purchases keep the order of the file, because one lane has them all."""

    async def work(queue: "asyncio.Queue[list[Row] | None]") -> None:
        while (batch := await queue.get()) is not None:
            bought = [row.bought for row in batch if row.bought is not None]
            on_batch(batch, await _record(database, bought, program_id))

    queues: list[asyncio.Queue[list[Row] | None]] = [asyncio.Queue(maxsize=1) for _ in range(LANES)]
    async with asyncio.TaskGroup() as group:
        for queue in queues:
            group.create_task(work(queue))
        waiting: list[list[Row]] = [[] for _ in queues]
        for row in rows:
            lane = hash(row.bought.who) % LANES if row.bought is not None else 0
            waiting[lane].append(row)
            if len(waiting[lane]) == BATCH:
                await queues[lane].put(waiting[lane])
                waiting[lane] = []
        for queue, rest in zip(queues, waiting, strict=True):
            if rest:
                await queue.put(rest)
            await queue.put(None)


async def _record(
    database: Database, bought: list[Bought], program_id: UUID
) -> list[tuple[purchases.Recorded, bool] | CrmError]:
    for attempt in range(ATTEMPTS_MAX):
        try:
            async with database.begin() as session:
                return await purchases.record_all(
                    session, program_id=program_id, bought=bought, by="import", now=datetime.now(UTC)
                )
        except Unavailable:
            # The other lane took one of the same references at this moment; next time it is found.
            if attempt == ATTEMPTS_MAX - 1:
                raise
    raise AssertionError


class _Reader:
    """Turns lines into purchases."""

    def __init__(self, columns: Pairs, constants: Pairs, zone: ZoneInfo, region: str) -> None:
        targets = [*columns.values(), *constants]
        unknown = [target for target in targets if target not in FIELDS and not target.startswith(IDENTITY)]
        if unknown:
            raise NotImportable(
                f"No field is called {', '.join(unknown)}. There are {', '.join(FIELDS)} and identity:KIND."
            )
        if sum(target.startswith(IDENTITY) for target in targets) != 1:
            raise NotImportable("Say who bought: map one column to identity:KIND, such as identity:email.")
        self._columns = columns
        self._constants = constants
        self._zone = zone
        self._sender = lru_cache(maxsize=100_000)(lambda kind, value: Sender.of(kind=kind, value=value, region=region))

    def rows(self, lines: TextIO) -> Iterator[Row]:
        """The file's rows, read as they are needed. Raises NotImportable for a column that is not there."""
        table = csv.DictReader(lines)
        if missing := self._columns.keys() - set(table.fieldnames or ()):
            raise NotImportable(
                f"The file has no column {', '.join(sorted(missing))}; it has {', '.join(table.fieldnames or ())}."
            )
        for values in table:
            row = Row(table.line_num, values)
            try:
                row.bought = self._bought(values)
            except CrmError as error:
                row.error = error.detail
            except ValidationError as error:
                row.error = "; ".join(
                    f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}" for fault in error.errors()
                )
            yield row

    def _bought(self, values: Mapping[str, Any]) -> Bought:
        if None in values:
            raise NotImportable("The row has more cells than the header.")
        given = dict(self._constants)
        given.update((target, values[column]) for column, target in self._columns.items() if values[column])
        fields: dict[str, Any] = {}
        who: Sender | None = None
        for target, value in given.items():
            if target.startswith(IDENTITY):
                who = self._sender(target.removeprefix(IDENTITY), value)
            else:
                fields[target] = self._instant(value) if target == "occurred_at" else value
        if who is None:
            raise NotImportable("The row does not say who bought.")
        data = {name: value for name, value in values.items() if name not in self._columns and value}
        return PurchaseFields.model_validate(fields).bought(who, data)

    def _instant(self, text: str) -> str:
        """A moment as the API writes it; a bare date is noon, and what has no offset is in the program's zone."""
        try:
            if len(text) == len("1997-01-01"):
                return datetime.combine(date.fromisoformat(text), NOON, self._zone).isoformat()
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise NotImportable(f"occurred_at: '{text}' is no date such as 1997-01-31.") from error
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=self._zone)).isoformat()


class _Errors:
    """The rows that could not be imported, as they were, each with its reason; made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, row: Row, reason: str) -> None:
        """Keep a row, to be mended and sent again."""
        columns = [name for name in row.values if name is not None]  # DictReader's place for surplus cells
        if self._file is None:
            self._file = self.path.open("w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow([*columns, "line", "error"])
        csv.writer(self._file).writerow([*(row.values[name] for name in columns), row.line, reason])


def _pairs(options: Iterable[str]) -> Pairs:
    pairs = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not (name and separator and value):
            raise NotImportable(f"'{option}' is not of the form NAME=VALUE.")
        pairs[name] = value
    return pairs


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return max(0, sum(1 for _ in lines) - 1)


def _since(started: float) -> float:
    return max(time.monotonic() - started, 1e-3)


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )
