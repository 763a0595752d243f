"""`/v1/exports`: everything as a file, as it stands at one moment."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from litestar import Response
from litestar.params import QueryParameter

from crm.api import moments
from crm.api.routes import AnyRequest, get
from crm.api.streams import Streamed
from crm.api.tables import CSV
from crm.db.session import Database, Session
from crm.errors import Unavailable
from crm.exchange import exports
from crm.exchange.exports import Wanted, What
from crm.exchange.forms import Form
from crm.loyalty import programs
from crm.loyalty.programs import ProgramNotFound

EXPORTS_MAX: Final = 2
"""How many a process sends at once: each holds a connection for as long as its reader takes."""
NDJSON: Final = "application/x-ndjson"

_CreatedSince = Annotated[
    str | None,
    QueryParameter(name="from", max_length=40, schema_extra=moments.DATE_TIME, description="Created then or later."),
]
_CreatedUntil = Annotated[
    str | None, QueryParameter(name="to", max_length=40, schema_extra=moments.DATE_TIME, description="Created before.")
]
_Tag = Annotated[str | None, QueryParameter(name="tag", max_length=200, description="Only contacts with this tag.")]
_Program = Annotated[UUID | None, QueryParameter(name="program", description="Only of this program.")]


class TooManyExports(Unavailable):
    code = "too_many_exports"
    title = "Other exports are still being read"


@get("/exports/contacts", scopes={"contacts:read"}, media_type=CSV, also=(NDJSON,), problems=(TooManyExports,))
async def export_contacts(
    request: AnyRequest, database: Database, tag: _Tag = None, since: _CreatedSince = None, until: _CreatedUntil = None
) -> Response[str]:
    """Export contacts.

    As CSV, or with `Accept: application/x-ndjson` as JSON, one contact a line, as it is read otherwise. The CSV can be
    imported again: its columns are called as an import maps them. Text that a spreadsheet would take for a formula has
    an apostrophe in front.
    """
    return _sent(request, database, "contacts", Wanted(*_between(since, until), tag=tag))


@get("/exports/interactions", scopes={"interactions:read"}, media_type=CSV, also=(NDJSON,), problems=(TooManyExports,))
async def export_interactions(
    request: AnyRequest, database: Database, since: moments.Since = None, until: moments.Until = None
) -> Response[str]:
    """Export all timelines, in the order of recording.

    As CSV, or with `Accept: application/x-ndjson` as JSON, one interaction a line.
    """
    return _sent(request, database, "interactions", Wanted(*_between(since, until)))


@get(
    "/exports/purchases",
    scopes={"loyalty:read"},
    media_type=CSV,
    also=(NDJSON,),
    problems=(ProgramNotFound, TooManyExports),
)
async def export_purchases(
    request: AnyRequest, session: Session, database: Database, program: _Program = None, since: moments.Since = None,
    until: moments.Until = None,
) -> Response[str]:  # fmt: skip
    """Export purchases, with what each earned and why, contact by contact.

    As CSV, or with `Accept: application/x-ndjson` as JSON, one purchase a line.
    """
    return await _of_program(request, session, database, "purchases", program, since, until)


@get(
    "/exports/points-transactions",
    scopes={"loyalty:read"},
    media_type=CSV,
    also=(NDJSON,),
    problems=(ProgramNotFound, TooManyExports),
)
async def export_points_transactions(
    request: AnyRequest, session: Session, database: Database, program: _Program = None, since: moments.Since = None,
    until: moments.Until = None,
) -> Response[str]:  # fmt: skip
    """Export the ledger's transactions, account by account in the order of recording.

    As CSV, or with `Accept: application/x-ndjson` as JSON, one transaction a line.
    """
    return await _of_program(request, session, database, "points-transactions", program, since, until)


@get(
    "/exports/points-movements",
    scopes={"loyalty:read"},
    media_type=CSV,
    also=(NDJSON,),
    problems=(ProgramNotFound, TooManyExports),
)
async def export_points_movements(
    request: AnyRequest, session: Session, database: Database, program: _Program = None, since: moments.Since = None,
    until: moments.Until = None,
) -> Response[str]:  # fmt: skip
    """Export the ledger's movements, account by account in the order of recording.

    As CSV, or with `Accept: application/x-ndjson` as JSON, one movement a line.
    """
    return await _of_program(request, session, database, "points-movements", program, since, until)


async def _of_program(
    request: AnyRequest, session: Session, database: Database, what: What, program: UUID | None, since: str | None,
    until: str | None,
) -> Response[str]:  # fmt: skip
    if program is not None:
        await programs.get(session, program_id=program)
    return _sent(request, database, what, Wanted(*_between(since, until), program_id=program))


def _between(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    return moments.instant("from", since), moments.instant("to", until)


def _sent(request: AnyRequest, database: Database, what: What, wanted: Wanted) -> Response[str]:
    places: asyncio.Semaphore = request.app.state.exporting
    if places.locked():
        raise TooManyExports("Try again when one of them is done.")
    media_type = request.accept.best_match([CSV, NDJSON], default=CSV)
    form: Form = "ndjson" if media_type == NDJSON else "csv"
    parts = exports.stream(database, what=what, form=form, wanted=wanted)
    return Streamed(_in_place(places, parts), media_type=media_type, filename=f"{what}.{form}")


async def _in_place(places: asyncio.Semaphore, parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with places, aclosing(parts):
        async for part in parts:
            yield part


handlers = [
    export_contacts, export_interactions, export_purchases, export_points_transactions, export_points_movements,
]  # fmt: skip
