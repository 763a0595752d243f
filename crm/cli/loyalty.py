"""`crm loyalty …`: look after the programs."""

import typer

from crm.cli.backtest import backtest
from crm.cli.nights import run_night

app = typer.Typer(help="Look after the programs.", no_args_is_help=True)
app.command()(backtest)
app.command()(run_night)
