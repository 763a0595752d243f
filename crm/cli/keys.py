"""`crm keys …`: keys for integrations, from the server itself."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from crm.api import auth, tokens
from crm.cli import logs, loop, place
from crm.db.session import Database, Session
from crm.settings import Settings

app = typer.Typer(help="Keys for integrations.", no_args_is_help=True)

T = TypeVar("T")
LISTED_MAX = 200


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; the books say it did it.")],
    scopes: Annotated[list[str], typer.Option("--scope", help="What it may do; repeat it. '*' is everything.")],
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="For how many days it is good.")] = None,
) -> None:
    """Make a key and print it, alone, on stdout. It is shown this once."""
    now = datetime.now(UTC)
    expires_at = None if days is None else now + timedelta(days=days)
    issued = _in_transaction(
        lambda session: auth.issue(session, name=name, scopes=scopes, by="cli", expires_at=expires_at, now=now)
    )
    typer.echo(issued.key)


@app.command(name="list")
def show() -> None:
    """Show the newest keys."""
    table = Table("id", "name", "key", "scopes", "last used", "ends")
    for key in _in_transaction(lambda session: auth.page(session, before=None, limit=LISTED_MAX)):
        ends = key.revoked_at or key.expires_at
        table.add_row(
            str(key.id), key.name, f"{key.prefix}…", " ".join(key.scopes),
            f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never",
            f"{ends:%Y-%m-%d %H:%M}" if ends else "",
        )  # fmt: skip
    Console().print(table)


@app.command()
def revoke(key_id: Annotated[UUID, typer.Argument(help="The id that `crm keys list` shows.")]) -> None:
    """End a key."""
    _in_transaction(lambda session: auth.revoke(session, key_id=key_id, now=datetime.now(UTC)))


@app.command()
def rotate_members() -> None:
    """Sign members' tokens with a new secret: all that were issued before end at once."""
    _in_transaction(lambda session: tokens.rotate(session, now=datetime.now(UTC)))


def _in_transaction(work: Callable[[Session], Awaitable[T]]) -> T:
    settings = Settings()
    logs.configure(settings)

    async def main(dsn: str) -> T:
        database = await Database.connect(dsn, size_max=1)
        try:
            async with database.begin() as session:
                return await work(session)
        finally:
            await database.close()

    with place.database(settings) as found:
        return loop.run(main(found.dsn))
