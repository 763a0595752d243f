"""Purchases of a contact."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.loyalty import PlaceBody, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post
from crm.api.schemas import Amount, Body, Currency, Instant, Line, Reference
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import basket, purchases
from crm.loyalty.purchases import Bought, PurchaseView, Recorded


class LineBody(Body):
    """What was bought; `unit_price` includes tax, `tax` is what the whole line contains."""

    sku: Reference
    category: Reference | None = None
    labels: Annotated[list[Reference], Field(max_length=50)] = []
    quantity: Amount
    unit_price: Amount
    tax: Amount = Decimal(0)


class DiscountBody(Body):
    """A discount on the order, or on the line with that index from 0."""

    amount: Amount
    line: Annotated[int, Field(ge=0)] | None = None


class PaymentBody(Body):
    """How it was paid; the share of the tender `points` earns nothing."""

    tender: Line
    amount: Amount


class PurchaseFields(PlaceBody):
    order_ref: Reference
    occurred_at: Instant
    currency: Currency
    lines: Annotated[list[LineBody], Field(min_length=1, max_length=1_000)] | None = None
    total: Amount | None = None
    discounts: Annotated[list[DiscountBody], Field(max_length=200)] = []
    shipping: Amount = Decimal(0)
    shipping_tax: Amount = Decimal(0)
    payments: Annotated[list[PaymentBody], Field(max_length=50)] = []
    code: Reference | None = None

    @model_validator(mode="after")
    def _lines_or_total(self) -> "PurchaseFields":
        if (self.lines is None) == (self.total is None):
            raise PydanticCustomError("lines_or_total", "send either lines or total")
        for discount in self.discounts:
            if discount.line is not None and discount.line >= len(self.lines or ()):
                raise PydanticCustomError("discount_line", "a discount names a line that is not there")
        return self

    def bought(self, contact_id: UUID) -> Bought:
        """The purchase, as this contact's."""
        purchase = basket.Purchase(
            order_ref=self.order_ref,
            occurred_at=self.occurred_at,
            currency=self.currency,
            lines=tuple(
                basket.Line(
                    sku=line.sku, category=line.category, labels=tuple(line.labels), quantity=line.quantity,
                    unit_price=line.unit_price, tax=line.tax,
                )
                for line in self.lines or ()
            ),
            total=self.total,
            discounts=tuple(basket.Discount(discount.amount, discount.line) for discount in self.discounts),
            shipping=self.shipping,
            shipping_tax=self.shipping_tax,
            payments=tuple(basket.Payment(payment.tender, payment.amount) for payment in self.payments),
            code=self.code,
        )  # fmt: skip
        return Bought(contact_id, purchase, place=self.place())


class NewPurchase(PurchaseFields):
    """A purchase: lines, or from a till that knows no more, a total."""

    program_id: UUID | None = None


@post("/contacts/{contact_id:uuid}/purchases", scopes={"loyalty:award"})
async def record_purchase(
    session: Session, contact_id: FromPath[UUID], data: NewPurchase, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Recorded]:  # fmt: skip
    """Record a purchase and what it earns.

    The answer explains every rule. The same order again answers 200 and earns nothing twice.
    """
    recorded, created = await purchases.record(
        session, program_id=data.program_id, bought=data.bought(contact_id), by=by, once=once, now=now
    )
    return Response(recorded, status_code=201 if created else 200)


@get("/contacts/{contact_id:uuid}/purchases", scopes={"loyalty:read"})
async def list_purchases(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[PurchaseView]:
    """List a contact's purchases, newest first."""
    after = paging.decode(cursor, datetime, str)
    found = await purchases.page(
        session, program_id=program, contact_id=contact_id, after=(after[0], after[1]) if after else None,
        limit=limit + 1,
    )  # fmt: skip
    return paging.page_of(found, limit=limit, key=lambda purchase: (purchase.occurred_at, purchase.order_ref))


@get("/contacts/{contact_id:uuid}/purchases/{order_ref:str}", scopes={"loyalty:read"})
async def get_purchase(
    session: Session, contact_id: FromPath[UUID], order_ref: FromPath[str], program: ProgramId = None
) -> PurchaseView:
    """Read a purchase."""
    return await purchases.get(session, program_id=program, contact_id=contact_id, order_ref=order_ref)


handlers = [record_purchase, list_purchases, get_purchase]
