"""`crm ledger …`: look after the ledger."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final
from uuid import UUID

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from crm.cli import logs, place
from crm.db.session import Database
from crm.loyalty import audit
from crm.loyalty.audit import Finding, Report, Totals
from crm.settings import Settings

app = typer.Typer(help="Look after the ledger.", no_args_is_help=True)

ACCOUNTS_SHOWN_MAX: Final = 100


@app.command()
def verify() -> None:
    """Work every balance out again from the movements, and say which accounts differ and how.

    Reads only, and may run beside everything else. Exit code 1 where something differs.
    """
    settings = Settings()
    logs.configure(settings)
    with place.database(settings) as found:
        sound = uvloop.run(audited(found.direct))
    if not sound:
        raise typer.Exit(1)


async def audited(dsn: str) -> bool:
    """Audit the database and print the outcome; whether the ledger is sound."""
    database = await Database.connect(dsn, size_max=1)
    try:
        with _progress() as progress:
            task = progress.add_task("", total=len(audit.STEPS))

            def watch(step: str) -> None:
                progress.update(task, description=step, completed=audit.STEPS.index(step))

            async with database.begin() as session:
                await audit.freeze(session)
                report = await audit.verify(session, watch=watch)
    finally:
        await database.close()
    _show(report, Console(highlight=False, soft_wrap=True))
    return not report.findings


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(report: Report, console: Console) -> None:
    accounts = sum(totals.accounts for totals in report.totals)
    movements = sum(totals.movements for totals in report.totals)
    names = {totals.program_id: totals.name or str(totals.program_id) for totals in report.totals}
    if not report.findings:
        console.print(f"[green]The ledger is sound:[/] {accounts:,} accounts, {movements:,} movements.")
        for totals in report.totals:
            console.print(f"{names[totals.program_id]}: {_equation(totals)}", markup=False)
        return
    by_account = _by_account(report.findings)
    for findings in by_account[:ACCOUNTS_SHOWN_MAX]:
        console.print(_whose(findings[0], names), markup=False)
        for finding in findings:
            console.print(f"  {_sentence(finding)}", markup=False)
    if len(by_account) > ACCOUNTS_SHOWN_MAX:
        console.print(f"… and {len(by_account) - ACCOUNTS_SHOWN_MAX:,} more.")
    differ = len({finding.contact_id for finding in report.findings} - {None})
    console.print(
        f"[red]The ledger is not sound:[/] "
        f"{'' if report.complete else 'at least '}{differ:,} of {accounts:,} accounts differ."
    )


def _by_account(findings: Sequence[Finding]) -> list[list[Finding]]:
    """An account's findings together, programs as a whole last."""

    def account(finding: Finding) -> tuple[bool, str, str]:
        return finding.contact_id is None, str(finding.contact_id), str(finding.program_id or "")

    return [list(group) for _, group in groupby(sorted(findings, key=account), account)]


def _whose(finding: Finding, names: Mapping[UUID, str]) -> str:
    who = f"contact {finding.contact_id}" if finding.contact_id else "all accounts"
    return f"{who} in {names.get(finding.program_id, finding.program_id)}" if finding.program_id else who


def _sentence(finding: Finding) -> str:
    place = f" at {finding.place}" if finding.place else ""
    return f"{finding.what}{place}: expected {finding.expected}, found {finding.found}"


def _equation(totals: Totals) -> str:
    ways = {**totals.open, **totals.gone}
    right = " + ".join(f"{name} {points:,}" for name, points in ways.items() if points or name != "transferred")
    return f"issued {totals.issued:,} = {right}"
