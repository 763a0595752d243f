"""`crm loyalty backtest`: try rules on the purchases of a past period, without anybody getting a point."""

from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from crm.api import requests
from crm.api.backtests import NewBacktest
from crm.cli import collector, logs, loop, place
from crm.db.session import Database
from crm.errors import Invalid
from crm.loyalty import backtests, programs
from crm.loyalty.backtests import Question
from crm.loyalty.replay import BacktestReport
from crm.settings import Settings


class NotTryable(Invalid):
    code = "not_tryable"
    title = "This can't be tried"


def backtest(
    first_on: Annotated[str, typer.Option("--from", metavar="DAY", help="The first day, such as 2026-01-01.")],
    last_on: Annotated[str, typer.Option("--to", metavar="DAY", help="The last day.")],
    program: Annotated[UUID | None, typer.Option(help="The program's id; left out, the default program.")] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="A JSON list of rules as the API takes them; left out, the program's active rules.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    include_drafts: Annotated[bool, typer.Option("--include-drafts", help="Count rules that are drafts too.")] = False,
    conditions: Annotated[
        Literal["now", "false", "true"],
        typer.Option(help="What to go by where a purchase does not tell whether a rule's condition held."),
    ] = "now",
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Replay a past period with other rules: points, cost, members, and the difference to what was really issued.

    Reads only, and may run beside everything else.
    """
    asked = {"from": first_on, "to": last_on, "include_drafts": include_drafts, "conditions": conditions}
    question = _question(asked, rules)
    settings = Settings()
    logs.configure(settings)
    collector.settle()
    with place.database(settings) as found:
        report = loop.run(_replayed(found.dsn, program, question, Console(stderr=True)))
    if json:
        typer.echo(msgspec.json.encode(report))
    else:
        _show(report, Console(highlight=False))


def _question(asked: dict[str, Any], rules: Path | None) -> Question:
    """What is asked, checked as the API would. Raises NotTryable with all that is wrong."""
    if rules is not None:
        try:
            asked["rules"] = msgspec.json.decode(rules.read_bytes())
        except msgspec.DecodeError as error:
            raise NotTryable(f"{rules} is not JSON: {error}.") from error
    try:
        return requests.decode(NewBacktest, msgspec.json.encode(asked)).question()
    except Invalid as refused:
        wrong = "; ".join(f"{error.pointer.strip('/') or 'the period'}: {error.message}" for error in refused.errors)
        raise NotTryable(wrong) from refused


async def _replayed(dsn: str, program_id: UUID | None, question: Question, console: Console) -> BacktestReport:
    database = await Database.connect(dsn, size_max=1)
    try:
        async with database.reading() as session:
            chosen = program_id or await programs.default_id(session)
            replay = await backtests.prepare(session, program_id=chosen, question=question)
            with _progress(console) as progress:
                task = progress.add_task("", total=replay.total)
                while await backtests.advance(session, replay=replay):
                    progress.update(task, completed=replay.done)
                progress.update(task, completed=replay.done, total=replay.done)
    finally:
        await database.close()
    return replay.report()


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} purchases"),
        TimeRemainingColumn(),
        console=console,
    )


def _show(report: BacktestReport, console: Console) -> None:
    console.print(
        f"{report.purchases:,} purchases of {report.members:,} members: {report.members_more:,} would get more, "
        f"{report.members_less:,} less, {report.members_same:,} the same."
    )
    console.print(_sums(report))
    if report.rules:
        console.print(_rules(report))
    if report.months:
        console.print(_months(report))
    if report.largest_differences:
        console.print(_members(report))


def _sums(report: BacktestReport) -> Table:
    table = _table("", "really issued", "tried", "difference")
    table.add_row("points", f"{report.points_issued:,}", f"{report.points_tried:,}", f"{report.difference:+,}")
    if (cost := report.cost) is not None:
        table.add_row(f"cost in {cost.currency}", cost.issued, cost.tried, cost.difference)
    return table


def _rules(report: BacktestReport) -> Table:
    assumed = any(rule.assumed for rule in report.rules)
    table = _table("rule", "applied", "points", *(["condition assumed"] if assumed else []))
    for rule in report.rules:
        table.add_row(
            Text(rule.name), f"{rule.applied:,}", f"{rule.points:,}", *([f"{rule.assumed:,}"] if assumed else [])
        )
    return table


def _months(report: BacktestReport) -> Table:
    table = _table("month", "purchases", "really issued", "tried", "difference")
    for month in report.months:
        difference = month.points_tried - month.points_issued
        table.add_row(
            month.month, f"{month.purchases:,}", f"{month.points_issued:,}", f"{month.points_tried:,}",
            f"{difference:+,}",
        )  # fmt: skip
    return table


def _members(report: BacktestReport) -> Table:
    table = _table("largest differences", "really issued", "tried", "difference")
    for member in report.largest_differences:
        table.add_row(
            str(member.contact_id), f"{member.points_issued:,}", f"{member.points_tried:,}", f"{member.difference:+,}"
        )
    return table


def _table(first: str, *numbers: str) -> Table:
    table = Table(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
