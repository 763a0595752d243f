"""`/v1/duplicates`: contacts who may be one person, how likely and why; found when they come and by scans."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, PathParameter, QueryParameter

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, delete, get, post
from crm.contacts import scans, suggestions
from crm.contacts.contacts import ContactNotFound
from crm.contacts.scans import DuplicateScan, ScanCompleted, ScanNotFound
from crm.contacts.suggestions import Duplicate, DuplicateMerged, DuplicateNotFound, Pair, Status
from crm.db import idempotency
from crm.db.session import Session

_UUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DuplicateId = Annotated[str, PathParameter(schema_extra={"pattern": f"^{_UUID}:{_UUID}$"})]
StatusIs = Annotated[Status, QueryParameter(name="status", description="Only those that are so.")]
ScoreMin = Annotated[
    int, QueryParameter(name="min_score", ge=0, le=100, description="Only those with this score at least.")
]
_Score = Annotated[int, msgspec.Meta(ge=0, le=100)]


@get("/duplicates", scopes={"contacts:read"})
async def list_duplicates(
    session: Session, status: StatusIs = "open", score_min: ScoreMin = 0, cursor: Cursor = None, limit: Limit = 50
) -> Page[Duplicate]:
    """List contacts who may be one person, the likeliest first."""
    found = await suggestions.page(session, status=status, score_min=score_min, after=_after(cursor), limit=limit + 1)
    return paging.page_of(found, limit=limit, key=_key)


@get("/contacts/{contact_id:uuid}/duplicates", scopes={"contacts:read"}, problems=(ContactNotFound,))
async def list_duplicates_of_contact(
    session: Session, contact_id: FromPath[ContactId], status: StatusIs = "open", score_min: ScoreMin = 0,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Duplicate]:  # fmt: skip
    """List who may be the same person as this contact, the likeliest first."""
    found = await suggestions.page(
        session, contact_id=contact_id, status=status, score_min=score_min, after=_after(cursor), limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=_key)


@post(
    "/duplicates/scans",
    scopes={"contacts:write"},
    status_code=202,
    repeated="A scan that was asked for before has not ended yet: this is it.",
)
async def start_duplicate_scan(
    session: Session, by: str, now: datetime, once: idempotency.Request | None
) -> Response[DuplicateScan]:
    """Look through all contacts for duplicates.

    The worker does it: read the scan for its progress and its report. What resembles each other is suggested, what does
    not any more is withdrawn, and what was dismissed stays so.
    """
    await idempotency.begin(session, request=once)
    scan, is_new = await scans.start(session, by=by, now=now)
    status = 202 if is_new else 200
    await idempotency.keep(session, request=once, contact_id=None, result=scan, status=status, now=now)
    return Response(scan, status_code=status)


@get("/duplicates/scans", scopes={"contacts:read"})
async def list_duplicate_scans(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[DuplicateScan]:
    """List scans, newest first."""
    before = paging.decode(cursor, UUID)
    found = await scans.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda scan: (scan.id,))


@get("/duplicates/scans/{scan_id:uuid}", scopes={"contacts:read"}, problems=(ScanNotFound,))
async def get_duplicate_scan(session: Session, scan_id: FromPath[UUID]) -> DuplicateScan:
    """Read a scan: how far it is, and its report."""
    return await scans.get(session, scan_id=scan_id)


@delete("/duplicates/scans/{scan_id:uuid}", scopes={"contacts:write"}, problems=(ScanNotFound, ScanCompleted))
async def cancel_duplicate_scan(session: Session, scan_id: FromPath[UUID], now: datetime) -> None:
    """Cancel a scan that has no report yet.

    It stays in the list, and what it found stays suggested.
    """
    await scans.cancel(session, scan_id=scan_id, now=now)


@get("/duplicates/{duplicate_id:str}", scopes={"contacts:read"}, problems=(DuplicateNotFound,))
async def get_duplicate(session: Session, duplicate_id: DuplicateId) -> Duplicate:
    """Read a suggestion."""
    return await suggestions.get(session, pair=Pair.named(duplicate_id))


@post(
    "/duplicates/{duplicate_id:str}/dismissal",
    scopes={"contacts:write"},
    status_code=200,
    problems=(DuplicateNotFound, DuplicateMerged),
)
async def dismiss_duplicate(
    session: Session, duplicate_id: DuplicateId, by: str, now: datetime, once: idempotency.Request | None
) -> Duplicate:
    """Say that two contacts are two people.

    They are not suggested again, whatever is found of them later. Sent again, it changes nothing.
    """
    await idempotency.begin(session, request=once)
    pair = Pair.named(duplicate_id)
    dismissed = await suggestions.dismiss(session, pair=pair, by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=pair.contact_id, result=dismissed, status=200, now=now)
    return dismissed


@delete(
    "/duplicates/{duplicate_id:str}/dismissal",
    scopes={"contacts:write"},
    problems=(DuplicateNotFound, DuplicateMerged),
)
async def reopen_duplicate(session: Session, duplicate_id: DuplicateId) -> None:
    """Take a dismissal back: the two are suggested again."""
    await suggestions.reopen(session, pair=Pair.named(duplicate_id))


def _after(cursor: str | None) -> tuple[int, UUID, UUID] | None:
    after = paging.decode(cursor, _Score, UUID, UUID)
    return (after[0], after[1], after[2]) if after else None


def _key(duplicate: Duplicate) -> tuple[int, UUID, UUID]:
    return duplicate.score, duplicate.contact_id, duplicate.other_contact_id


handlers = [
    list_duplicates, list_duplicates_of_contact, start_duplicate_scan, list_duplicate_scans, get_duplicate_scan,
    cancel_duplicate_scan, get_duplicate, dismiss_duplicate, reopen_duplicate,
]  # fmt: skip
