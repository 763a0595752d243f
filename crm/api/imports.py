"""`/v1/imports`: contacts and purchases from CSV files and Excel workbooks, by the worker, row by row."""

import asyncio
from datetime import datetime
from pathlib import PurePath
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import Field, StringConstraints

from crm.api import paging, uploads
from crm.api.auth import Principal, ScopeMissing
from crm.api.loyalty import ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import UPLOAD_MAX, AnyRequest, delete, get, post, put
from crm.api.schemas import Body
from crm.api.streams import Streamed
from crm.api.tables import CSV
from crm.db import idempotency
from crm.db.session import Database, Session
from crm.exchange import files, imports, refusals, reversions, sheets
from crm.exchange.imports import Import, ImportNotFound, ImportNotPending
from crm.exchange.mappings import ColumnMapping, Kind, NotImportable
from crm.exchange.outcomes import OnDuplicate
from crm.exchange.readability import COLUMNS_MAX, UnreadableFile
from crm.exchange.refusals import RefusedRow
from crm.exchange.reversions import ImportedContact, NotRevertible
from crm.loyalty.programs import ProgramNotFound, ProgramRequired

_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_KindOf = Annotated[Kind, QueryParameter(name="kind", description="What the rows are.")]
_Filename = Annotated[str, QueryParameter(name="filename", max_length=200, description="What the file is called.")]
_SheetName = Annotated[
    str | None, QueryParameter(name="sheet", max_length=200, description="Of a workbook; left out: its first sheet.")
]
_Kept = Annotated[
    bool | None,
    QueryParameter(name="kept", description="Only those that a reversion left as they were, or the others."),
]
_READ: dict[Kind, frozenset[str]] = {"contacts": frozenset(), "purchases": frozenset({"loyalty:read"})}
_WRITE: dict[Kind, frozenset[str]] = {"contacts": frozenset(), "purchases": frozenset({"loyalty:award"})}
"""What it takes besides a scope for contacts: every import makes contacts, those who bought among them."""


class NewImportMapping(Body):
    """Where columns go, by their names, and what is the same in every row.

    The fields of contacts are `name`, `given_name`, `family_name`, `locale`, `time_zone`, `birth_on`, `tags`,
    `identity:KIND`, `attributes.NAME` and `verified`, which says with yes or no whether somebody has proven that the
    row's identities are theirs; those of purchases `order_ref`, `occurred_at`, `currency`, `total`,
    `shipping`, `shipping_tax`, `code`, `store`, `till` and `identity:KIND`, which says who bought. `date_order` is how
    days are written that do not begin with the year.
    """

    columns: Annotated[dict[_Text, _Text], Field(max_length=COLUMNS_MAX)]
    constants: Annotated[dict[_Text, _Text], Field(max_length=COLUMNS_MAX, default_factory=dict)]
    date_order: Literal["ymd", "dmy", "mdy"] = "dmy"

    def mapping(self) -> ColumnMapping:
        """Where columns go."""
        return ColumnMapping(self.columns, self.constants, self.date_order)


class NewRun(Body):
    """What to do about a contact who is there already.

    By a row's identities alone: `skip` the row, `fill` in what the contact lacks, or `update` what the row has. As
    where one contact is made, looking for people who resemble the row too: `reject` it, `link` it to the one who is
    certainly the same, who gets what they lack, or `create` a contact from every row, also from one that was imported
    before. Nothing is ever cleared. Left out, as before, or `skip`. Purchases that are recorded already are always
    skipped.
    """

    on_duplicate: OnDuplicate | None = None


class NewReversion(Body):
    """What an import created shall go again."""


@post(
    "/imports",
    scopes={"contacts:write"},
    uploads=uploads.TABLES,
    body_max=UPLOAD_MAX,
    problems=(UnreadableFile, NotImportable, ProgramNotFound, ProgramRequired),
    headers=("Location",),
)
async def create_import(
    request: AnyRequest, database: Database, principal: Principal, region: str, by: str, now: datetime, kind: _KindOf,
    filename: _Filename = "", sheet: _SheetName = None, program: ProgramId = None,
) -> Response[Import]:  # fmt: skip
    """Upload a file to import.

    The file itself is the body, up to 64 MB. Nothing is imported yet: the answer has the columns, the first rows and a
    guess, by the names of the columns, of where they go. Purchases need the scope `loyalty:award` too.
    """
    _require(principal, _WRITE[kind])
    async with uploads.received(request) as upload:
        layout, sample = await asyncio.to_thread(sheets.recognize, upload.path, sheet=sheet)
        async with database.begin() as session:
            await idempotency.begin(session, request=upload.once)
            made = await imports.create(
                session, kind=kind, filename=PurePath(filename).name or f"{kind}.{layout.format}", layout=layout,
                sample=sample, program_id=program, region=region, by=by, now=now,
            )  # fmt: skip
            await files.keep(session, import_id=made.id, path=upload.path)
            await idempotency.keep(session, request=upload.once, contact_id=None, result=made, now=now)
    return Response(made, headers={"Location": f"/v1/imports/{made.id}"})


@get("/imports", scopes={"contacts:read"})
async def list_imports(
    session: Session, principal: Principal, cursor: Cursor = None, limit: Limit = 50
) -> Page[Import]:
    """List imports, newest first.

    Those of purchases only for callers who may read purchases.
    """
    before = paging.decode(cursor, UUID)
    kinds = [kind for kind, scopes in _READ.items() if principal.may(scopes)]
    found = await imports.page(session, kinds=kinds, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda each: (each.id,))


@get("/imports/{import_id:uuid}", scopes={"contacts:read"}, problems=(ImportNotFound,))
async def get_import(session: Session, principal: Principal, import_id: FromPath[UUID]) -> Import:
    """Read an import: how far it is, and what became of its rows."""
    return await _readable(session, principal, import_id)


@put(
    "/imports/{import_id:uuid}/mapping",
    scopes={"contacts:write"},
    problems=(ImportNotFound, ImportNotPending, NotImportable),
)
async def map_import(
    session: Session, principal: Principal, import_id: FromPath[UUID], data: NewImportMapping
) -> Import:
    """Say where the columns of an import go.

    It replaces the guess. Of contacts at least one column has to be an identity, by which a row is known again.
    """
    await _writable(session, principal, import_id)
    return await imports.map_columns(session, import_id=import_id, mapping=data.mapping())


@post(
    "/imports/{import_id:uuid}/validation",
    scopes={"contacts:write"},
    status_code=202,
    problems=(ImportNotFound, ImportNotPending, NotImportable),
)
async def validate_import(
    session: Session, principal: Principal, import_id: FromPath[UUID], data: NewRun, now: datetime,
    once: idempotency.Request | None,
) -> Import:  # fmt: skip
    """Try an import without writing anything.

    The worker goes through all rows: `progress` says what would become of them, and the refused ones can be read. Then
    the import is pending again.
    """
    return await _started(session, principal, import_id, data, once, now, dry_run=True)


@post(
    "/imports/{import_id:uuid}/processing",
    scopes={"contacts:write"},
    status_code=202,
    problems=(ImportNotFound, ImportNotPending, NotImportable),
)
async def process_import(
    session: Session, principal: Principal, import_id: FromPath[UUID], data: NewRun, now: datetime,
    once: idempotency.Request | None,
) -> Import:  # fmt: skip
    """Import the rows.

    The worker does it, some at a time, and goes on where it was after a crash. Nothing is imported twice: contacts are
    known by their identities, purchases by their order_ref. A failed import goes on where it broke off.
    """
    return await _started(session, principal, import_id, data, once, now, dry_run=False)


@delete("/imports/{import_id:uuid}", scopes={"contacts:write"}, problems=(ImportNotFound, ImportNotPending))
async def cancel_import(session: Session, principal: Principal, import_id: FromPath[UUID], now: datetime) -> None:
    """Cancel an import that is not completed.

    What it has imported stays, and so does it in the list.
    """
    await _writable(session, principal, import_id)
    await imports.cancel(session, import_id=import_id, now=now)


@get("/imports/{import_id:uuid}/errors", scopes={"contacts:read"}, problems=(ImportNotFound,))
async def list_import_errors(
    session: Session, principal: Principal, import_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[RefusedRow]:
    """List the rows that were refused, in the order of the file.

    For 30 days, as what is in the file itself.
    """
    await _readable(session, principal, import_id)
    after = paging.decode(cursor, int)
    found = await refusals.page(session, import_id=import_id, after=after[0] if after else 0, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda each: (each.row,))


@get("/imports/{import_id:uuid}/errors.csv", scopes={"contacts:read"}, problems=(ImportNotFound,), media_type=CSV)
async def download_import_errors(
    session: Session, database: Database, principal: Principal, import_id: FromPath[UUID]
) -> Response[str]:
    """Read the refused rows as a file to mend and send again.

    It has the columns of the file, and behind them the number of the row and what is wrong with it.
    """
    found = await _readable(session, principal, import_id)
    parts = refusals.file(database, import_id=import_id, columns=found.columns)
    return Streamed(parts, media_type=CSV, filename="errors.csv")


@get("/imports/{import_id:uuid}/contacts", scopes={"contacts:read"}, problems=(ImportNotFound,))
async def list_imported_contacts(
    session: Session, import_id: FromPath[UUID], kept: _Kept = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[ImportedContact]:
    """List the contacts that an import created or added to, in the order of the file.

    After a reversion each says whether it is removed, or why it was kept.
    """
    after = paging.decode(cursor, int, UUID)
    found = await reversions.touched(
        session, import_id=import_id, kept=kept, after=(after[0], after[1]) if after else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda each: (each.row, each.contact_id))


@post(
    "/imports/{import_id:uuid}/reversion",
    scopes={"contacts:write"},
    status_code=202,
    problems=(ImportNotFound, NotRevertible),
)
async def revert_import(
    session: Session, import_id: FromPath[UUID], data: NewReversion, now: datetime, once: idempotency.Request | None
) -> Import:
    """Take an import of contacts back.

    The worker removes the contacts that it created and with whom nothing has happened since. `reversion` counts them,
    and `…/contacts?kept=true` lists those that stay, with the reason.
    """
    await idempotency.begin(session, request=once)
    started = await reversions.start(session, import_id=import_id)
    await idempotency.keep(session, request=once, contact_id=None, result=started, now=now, status=202)
    return started


async def _started(
    session: Session, principal: Principal, import_id: UUID, data: NewRun, once: idempotency.Request | None,
    now: datetime, *, dry_run: bool,
) -> Import:  # fmt: skip
    await idempotency.begin(session, request=once)
    await _writable(session, principal, import_id)
    on_duplicate: OnDuplicate | None = data.on_duplicate
    started = await imports.start(session, import_id=import_id, dry_run=dry_run, on_duplicate=on_duplicate, now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=started, now=now, status=202)
    return started


async def _readable(session: Session, principal: Principal, import_id: UUID) -> Import:
    found = await imports.get(session, import_id=import_id)
    _require(principal, _READ[found.kind])
    return found


async def _writable(session: Session, principal: Principal, import_id: UUID) -> None:
    found = await imports.get(session, import_id=import_id)
    _require(principal, _WRITE[found.kind])


def _require(principal: Principal, scopes: frozenset[str]) -> None:
    if not principal.may(scopes):
        raise ScopeMissing(f"Of purchases this needs {', '.join(sorted(scopes))} too.")


handlers = [
    create_import, list_imports, get_import, map_import, validate_import, process_import, cancel_import,
    list_import_errors, download_import_errors, list_imported_contacts, revert_import,
]  # fmt: skip
