"""`crm`: one module for each command."""

import signal
import sys
from types import FrameType

import asyncpg
import pydantic
import typer

from crm.cli import backup, contacts, imports, keys, ledger, loyalty
from crm.cli.demo import demo
from crm.cli.export import export
from crm.cli.migrate import migrate
from crm.cli.serve import serve
from crm.cli.worker import worker
from crm.db.cluster import EmbeddedPostgresError
from crm.db.migrations import SchemaOutdated
from crm.errors import CrmError

app = typer.Typer(
    name="crm",
    help="Setia: a CRM with a loyalty ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(worker)
app.command()(migrate)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(demo)
app.command()(export)
app.add_typer(keys.app, name="keys")
app.add_typer(contacts.app, name="contacts")
app.add_typer(imports.app, name="import")
app.add_typer(ledger.app, name="ledger")
app.add_typer(loyalty.app, name="loyalty")


def main() -> None:
    """Run a command. What the owner can mend is said in a sentence, with exit code 1."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app(standalone_mode=True)
    except (EmbeddedPostgresError, SchemaOutdated, CrmError) as error:
        sys.exit(f"crm: {error}")
    except (OSError, asyncpg.PostgresError) as error:
        # An unreachable host, a wrong password, a database that is not there.
        sys.exit(f"crm: the database can't be used: {error}")
    except pydantic.ValidationError as error:
        # Only the settings are validated outside of a request.
        lines = [f"crm: CRM_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
        sys.exit("\n".join(lines))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # The first signal ends the `with` blocks one after another; no later one may break into that.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
