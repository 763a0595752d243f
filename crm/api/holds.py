"""Points set aside for a moment: authorise first, capture or release later."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from annotated_types import Ge, Le
from litestar import Response
from litestar.params import FromPath

from crm.api import paging
from crm.api.loyalty import PROGRAM, SPENDING, PlaceBody, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post
from crm.api.schemas import Body, Duration, Points, Reference
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import holds
from crm.loyalty.holds import Captured, CaptureExceedsHold, Held, HoldNotFound, HoldNotOpen, HoldView


class NewHold(PlaceBody):
    """Points to set aside, for a quarter of an hour unless said otherwise."""

    program_id: UUID | None = None
    points: Points
    expires_in: Annotated[Duration, Ge(timedelta(seconds=1)), Le(timedelta(days=30))] = timedelta(minutes=15)
    reference: Reference | None = None


class NewCapture(Body):
    """How many of the points are spent; left out, all."""

    points: Points | None = None


@post("/contacts/{contact_id:uuid}/holds", scopes={"loyalty:redeem"}, problems=(*PROGRAM, *SPENDING))
async def hold_points(
    session: Session, contact_id: FromPath[UUID], data: NewHold, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Held:  # fmt: skip
    """Set points aside.

    They can't be spent otherwise until they are captured, released, or their time is over.
    """
    return await holds.create(
        session, program_id=data.program_id, contact_id=contact_id, points=data.points, expires_in=data.expires_in,
        reference=data.reference, place=data.place(), by=by, once=once, now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/holds", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_holds(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[HoldView]:  # fmt: skip
    """List a contact's holds, newest first."""
    before = paging.decode(cursor, UUID)
    found = await holds.page(
        session, program_id=program, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1,
        now=now,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda hold: (hold.id,))


@get("/contacts/{contact_id:uuid}/holds/{hold_id:uuid}", scopes={"loyalty:read"}, problems=(HoldNotFound,))
async def get_hold(session: Session, contact_id: FromPath[UUID], hold_id: FromPath[UUID], now: datetime) -> HoldView:
    """Read a hold."""
    return await holds.get(session, contact_id=contact_id, hold_id=hold_id, now=now)


@post(
    "/contacts/{contact_id:uuid}/holds/{hold_id:uuid}/capture",
    scopes={"loyalty:redeem"},
    problems=(ContactNotFound, HoldNotFound, HoldNotOpen, CaptureExceedsHold),
    repeated="It was captured before; the balance is today's.",
)
async def capture_hold(
    session: Session, contact_id: FromPath[UUID], hold_id: FromPath[UUID], data: NewCapture, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Captured]:  # fmt: skip
    """Spend the points of a hold.

    What is not captured goes back to its lots. Captured twice is captured once.
    """
    captured, created = await holds.capture(
        session, contact_id=contact_id, hold_id=hold_id, points=data.points, by=by, once=once, now=now
    )
    return Response(captured, status_code=201 if created else 200)


@delete(
    "/contacts/{contact_id:uuid}/holds/{hold_id:uuid}", scopes={"loyalty:redeem"}, problems=(HoldNotFound, HoldNotOpen)
)
async def release_hold(
    session: Session, contact_id: FromPath[UUID], hold_id: FromPath[UUID], by: str, now: datetime
) -> None:
    """Release a hold: its points go back to their lots."""
    await holds.release(session, contact_id=contact_id, hold_id=hold_id, by=by, now=now)


handlers = [hold_points, list_holds, get_hold, capture_hold, release_hold]
