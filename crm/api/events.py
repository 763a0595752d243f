"""Events of a contact that earn points, or let those of an order begin: a review, a birthday, a delivery."""

from datetime import datetime
from uuid import UUID

from litestar import Response
from litestar.params import FromPath

from crm.api import paging
from crm.api.loyalty import MEMBERSHIP, PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post
from crm.api.schemas import Body, Code, Instant, Reference
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import events
from crm.loyalty.books import PointsOutOfRange
from crm.loyalty.events import EventNotFound, EventRecorded, EventRefReused, EventView, Happened
from crm.loyalty.journal import OrderRefReused
from crm.loyalty.ledger import OccursTooLate
from crm.loyalty.purchases import PurchaseNotFound


class NewEvent(Body):
    """Something that a member did; `ref` tells it from others of its kind, `order_ref` is the order that it is about.

    Without `occurred_at` it happens now.
    """

    program_id: UUID | None = None
    event: Code
    ref: Reference
    order_ref: Reference | None = None
    occurred_at: Instant | None = None


@post(
    "/contacts/{contact_id:uuid}/events",
    scopes={"loyalty:award"},
    problems=(
        *PROGRAM, *MEMBERSHIP, PurchaseNotFound, EventRefReused, OrderRefReused, OccursTooLate, PointsOutOfRange,
    ),
    repeated="The event was recorded before; the balance is today's.",
    headers=("Location",),
)  # fmt: skip
async def record_event(
    session: Session, contact_id: FromPath[UUID], data: NewEvent, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[EventRecorded]:  # fmt: skip
    """Record an event and what it earns.

    The answer explains every rule. The same event with the same `ref` again answers 200 and earns nothing twice. Where
    the program activates points by this event, those of its order begin, unless their time has run out.
    """
    happened = Happened(contact_id, data.event, data.ref, data.occurred_at, data.order_ref)
    recorded, event_id, created = await events.record(
        session, program_id=data.program_id, happened=happened, by=by, once=once, now=now
    )
    return Response(
        recorded,
        status_code=201 if created else 200,
        headers={"Location": f"/v1/contacts/{contact_id}/events/{event_id}"},
    )


@get("/contacts/{contact_id:uuid}/events", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_events(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[EventView]:
    """List a contact's events, last recorded first."""
    before = paging.decode(cursor, UUID)
    found = await events.page(
        session, program_id=program, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda event: (event.id,))


@get("/contacts/{contact_id:uuid}/events/{event_id:uuid}", scopes={"loyalty:read"}, problems=(EventNotFound,))
async def get_event(session: Session, contact_id: FromPath[UUID], event_id: FromPath[UUID]) -> EventView:
    """Read an event."""
    return await events.get(session, contact_id=contact_id, event_id=event_id)


handlers = [record_event, list_events, get_event]
