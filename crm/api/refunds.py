"""Refunds of purchases."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post
from crm.api.schemas import Body, Instant, PositiveAmount, Reference, either
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import refunding, refunds
from crm.loyalty.ledger import OccursTooLate
from crm.loyalty.purchases import PurchaseNotFound
from crm.loyalty.refunds import Refunded, RefundExceedsPurchase, RefundNotFound, RefundRefReused, RefundView


class RefundLineBody(Body):
    """So much of the quantity of the line with that index from 0."""

    line: Annotated[int, Field(ge=0, le=999)]
    quantity: PositiveAmount


class NewRefund(Body):
    """Goods money given back: an amount, or lines in whole or part."""

    model_config = either({"amount": "string", "lines": "array"})

    program_id: UUID | None = None
    refund_ref: Reference
    amount: PositiveAmount | None = None
    lines: Annotated[list[RefundLineBody], Field(min_length=1, max_length=1_000)] | None = None
    occurred_at: Instant | None = None

    @model_validator(mode="after")
    def _amount_or_lines(self) -> "NewRefund":
        if (self.amount is None) == (self.lines is None):
            raise PydanticCustomError("amount_or_lines", "send either amount or lines")
        return self

    def refund(self) -> refunding.Refund:
        """What is undone."""
        return refunding.Refund(
            amount=self.amount,
            lines=tuple(refunding.RefundLine(each.line, each.quantity) for each in self.lines or ()),
        )


@post(
    "/contacts/{contact_id:uuid}/purchases/{order_ref:str}/refunds",
    scopes={"loyalty:award"},
    problems=(*PROGRAM, PurchaseNotFound, RefundExceedsPurchase, RefundRefReused, OccursTooLate),
    repeated="The refund was recorded before; the balance is today's.",
)
async def refund_purchase(
    session: Session, contact_id: FromPath[UUID], order_ref: FromPath[str], data: NewRefund, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Refunded]:  # fmt: skip
    """Record a refund.

    What the order earned is taken back, by all its refunds together; points that paid for it go back to their own
    lots. The same `refund_ref` again answers 200 and changes nothing.
    """
    refunded, created = await refunds.record(
        session, program_id=data.program_id, contact_id=contact_id, order_ref=order_ref, refund_ref=data.refund_ref,
        refund=data.refund(), occurred_at=data.occurred_at, by=by, once=once, now=now,
    )  # fmt: skip
    return Response(refunded, status_code=201 if created else 200)


@get(
    "/contacts/{contact_id:uuid}/purchases/{order_ref:str}/refunds",
    scopes={"loyalty:read"},
    problems=(PurchaseNotFound,),
)
async def list_refunds(
    session: Session, contact_id: FromPath[UUID], order_ref: FromPath[str], program: ProgramId = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[RefundView]:  # fmt: skip
    """List the refunds of a purchase, by their references."""
    after = paging.decode(cursor, str)
    found = await refunds.page(
        session, program_id=program, contact_id=contact_id, order_ref=order_ref, after=after[0] if after else None,
        limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda refund: (refund.refund_ref,))


@get(
    "/contacts/{contact_id:uuid}/purchases/{order_ref:str}/refunds/{refund_ref:str}",
    scopes={"loyalty:read"},
    problems=(RefundNotFound,),
)
async def get_refund(
    session: Session, contact_id: FromPath[UUID], order_ref: FromPath[str], refund_ref: FromPath[str],
    program: ProgramId = None,
) -> RefundView:  # fmt: skip
    """Read a refund."""
    return await refunds.get(
        session, program_id=program, contact_id=contact_id, order_ref=order_ref, refund_ref=refund_ref
    )


handlers = [refund_purchase, list_refunds, get_refund]
