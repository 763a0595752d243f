"""Deliveries: what providers sent, and what came of it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar.params import FromPath, QueryParameter

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post
from crm.api.schemas import Body
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.inbox import deliveries, fulfilments, privacy
from crm.inbox.deliveries import DeliveryNotFound, DeliveryNotReplayable, DeliverySummary, DeliveryView
from crm.inbox.fulfilments import PrivacyRequestDone
from crm.inbox.privacy import PrivacyRequest, PrivacyRequestNotFound


class NewPrivacyProcessing(Body):
    """Whose request it is; left out, it is looked for again."""

    contact_id: UUID | None = None


_Status = Annotated[
    Literal["pending", "processed", "failed", "refused", "test"] | None,
    QueryParameter(name="status", description="Only those of this status."),
]


@get("/deliveries", scopes={"channels:read"})
async def list_deliveries(
    session: Session,
    account: Annotated[UUID | None, QueryParameter(description="Only those of this channel account.")] = None,
    status: _Status = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[DeliverySummary]:
    """List deliveries, the last received first."""
    before = paging.decode(cursor, UUID)
    found = await deliveries.page(
        session, account_id=account, status=status, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda delivery: (delivery.id,))


@get("/deliveries/{delivery_id:uuid}", scopes={"channels:read"}, problems=(DeliveryNotFound,))
async def get_delivery(session: Session, delivery_id: FromPath[UUID]) -> DeliveryView:
    """Read a delivery, with what was in it and what came of each of its events."""
    return await deliveries.get(session, delivery_id=delivery_id)


@post(
    "/deliveries/{delivery_id:uuid}/replay",
    scopes={"channels:write"},
    problems=(DeliveryNotFound, DeliveryNotReplayable),
    status_code=202,
)
async def replay_delivery(
    session: Session, delivery_id: FromPath[UUID], now: datetime, once: idempotency.Request | None
) -> DeliveryView:
    """Have a delivery processed again.

    What came of it before stays as it is; what failed gets another chance.
    """
    await idempotency.begin(session, request=once)
    delivery = await deliveries.replay(session, delivery_id=delivery_id)
    await idempotency.keep(session, request=once, contact_id=None, result=delivery, now=now, status=202)
    return delivery


@get("/privacy-requests", scopes={"channels:read"})
async def list_privacy_requests(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[PrivacyRequest]:
    """List what people asked providers to do with their data, the last first.

    To know what is kept, or to be forgotten. The worker carries it out as far as it is sure who it is: `status` and
    `reason` say what became of it.
    """
    before = paging.decode(cursor, UUID)
    found = await privacy.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda request: (request.id,))


@get("/privacy-requests/{request_id:uuid}", scopes={"channels:read"}, problems=(PrivacyRequestNotFound,))
async def get_privacy_request(session: Session, request_id: FromPath[UUID]) -> PrivacyRequest:
    """Read a request about somebody's data."""
    return await privacy.get(session, request_id=request_id)


@post(
    "/privacy-requests/{request_id:uuid}/processing",
    scopes={"contacts:write", "loyalty:adjust"},
    status_code=202,
    problems=(PrivacyRequestNotFound, PrivacyRequestDone, ContactNotFound),
)
async def process_privacy_request(
    session: Session, request_id: FromPath[UUID], data: NewPrivacyProcessing, by: str, now: datetime,
    once: idempotency.Request | None,
) -> PrivacyRequest:  # fmt: skip
    """Have a request carried out that waits for a decision, or came to nothing.

    With a `contact_id`, for this contact: whoever wanted to be forgotten is erased.
    """
    await idempotency.begin(session, request=once)
    found = await fulfilments.ask_again(session, request_id=request_id, contact_id=data.contact_id, by=by)
    await idempotency.keep(session, request=once, contact_id=data.contact_id, result=found, now=now, status=202)
    return found


handlers = [
    list_deliveries, get_delivery, replay_delivery, list_privacy_requests, get_privacy_request,
    process_privacy_request,
]  # fmt: skip
