"""Purchases of a contact."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm.api import batches, paging, survivors
from crm.api.batches import BatchResult, Judged
from crm.api.loyalty import MEMBERSHIP, PROGRAM, PlaceBody, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import BATCH_BODY_MAX, AnyRequest, get, post
from crm.api.schemas import Amount, Body, Code, Currency, Instant, Line, Reference, either
from crm.contacts.addresses import InvalidIdentity
from crm.contacts.identities import IdentityAmbiguous
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import CrmError
from crm.interactions.people import Sender
from crm.loyalty import basket, purchases, simulations
from crm.loyalty.basket import CurrencyMismatch, UnknownDiscountLine
from crm.loyalty.books import PointsOutOfRange
from crm.loyalty.journal import OrderRefReused
from crm.loyalty.ledger import OccursTooLate
from crm.loyalty.programs import ProgramNotFound, ProgramRequired
from crm.loyalty.purchases import Bought, PurchaseNotFound, PurchaseView, Recorded

_LINES_OR_TOTAL = {"lines": "array", "total": "string"}
_UNEARNED = (*PROGRAM, *MEMBERSHIP, CurrencyMismatch, UnknownDiscountLine, PointsOutOfRange)
_REFUSALS = (*_UNEARNED, OrderRefReused, OccursTooLate)


class LineBody(Body):
    """What was bought; `unit_price` includes tax, `tax` is what the whole line contains."""

    sku: Reference
    category: Reference | None = None
    labels: list[Reference] = Field(default=[], max_length=50)
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
    model_config = either(_LINES_OR_TOTAL)

    order_ref: Reference
    occurred_at: Instant
    currency: Currency
    lines: Annotated[list[LineBody], Field(min_length=1, max_length=1_000)] | None = None
    total: Amount | None = None
    discounts: list[DiscountBody] = Field(default=[], max_length=200)
    shipping: Amount = Decimal(0)
    shipping_tax: Amount = Decimal(0)
    payments: list[PaymentBody] = Field(default=[], max_length=50)
    code: Reference | None = None

    @model_validator(mode="after")
    def _lines_or_total(self) -> "PurchaseFields":
        if (self.lines is None) == (self.total is None):
            raise PydanticCustomError("lines_or_total", "send either lines or total")
        for discount in self.discounts:
            if discount.line is not None and discount.line >= len(self.lines or ()):
                raise PydanticCustomError("discount_line", "a discount names a line that is not there")
        return self

    def bought(self, who: UUID | Sender, data: Mapping[str, Any] | None = None) -> Bought:
        """The purchase, as theirs."""
        return Bought(who, self.purchase(), data=data or {}, place=self.place())

    def purchase(self) -> basket.Purchase:
        """The purchase, without whose it is."""
        return basket.Purchase(
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


class IdentityRef(Body):
    """Who it was, by an address of theirs."""

    kind: Code
    value: Reference
    account: Reference | None = None

    def sender(self, region: str) -> Sender:
        """Whoever is behind it. Raises InvalidIdentity."""
        return Sender.of(kind=self.kind, value=self.value, account=self.account, region=region)


class NewPurchase(PurchaseFields):
    """A purchase: lines, or from a till that knows no more, a total."""

    program_id: UUID | None = None


class NewPurchaseBy(NewPurchase):
    """A purchase of whoever is behind an identity, such as a card or a phone number at the till."""

    identity: IdentityRef


class PurchaseOf(PurchaseFields):
    """A purchase within a batch: of a contact, or of whoever is behind an identity."""

    model_config = either(_LINES_OR_TOTAL, {"contact_id": "string", "identity": "object"})

    contact_id: UUID | None = None
    identity: IdentityRef | None = None

    @model_validator(mode="after")
    def _contact_or_identity(self) -> "PurchaseOf":
        if (self.contact_id is None) == (self.identity is None):
            raise PydanticCustomError("contact_or_identity", "send either contact_id or identity")
        return self


class PurchaseToSimulate(NewPurchase):
    """A purchase that has not happened: somebody's, or of somebody new where no contact is named.

    `at` is when it shall, in place of `occurred_at`.
    """

    contact_id: UUID | None = None
    at: Instant | None = None
    include_drafts: bool = False


class PurchaseBatch(Body):
    """Up to 500 purchases in one program, judged in the order given."""

    program_id: UUID | None = None
    items: Annotated[list[Annotated[PurchaseOf, Judged()]], Field(min_length=1, max_length=500)]


@post(
    "/purchases",
    scopes={"loyalty:award"},
    problems=(*_REFUSALS, IdentityAmbiguous, InvalidIdentity),
    repeated="The order was recorded before; the balance is today's.",
)
async def record_purchase_by_identity(
    session: Session, data: NewPurchaseBy, region: str, by: str, now: datetime, once: idempotency.Request | None
) -> Response[Recorded]:
    """Record a purchase by a card, a phone number or another identity.

    Whoever is not known yet becomes a contact.
    """
    recorded, created = await purchases.record(
        session, program_id=data.program_id, bought=data.bought(data.identity.sender(region)), by=by, once=once, now=now
    )
    return Response(recorded, status_code=201 if created else 200)


@post(
    "/purchases/batch",
    scopes={"loyalty:award"},
    status_code=200,
    body_max=BATCH_BODY_MAX,
    problems=(ProgramNotFound, ProgramRequired),
)
async def record_purchases_batch(
    session: Session, data: PurchaseBatch, region: str, by: str, now: datetime, request: AnyRequest,
    once: idempotency.Request | None,
) -> BatchResult[Recorded]:  # fmt: skip
    """Record many purchases.

    The refused are left out and say why; all others are recorded together, each on the balance that the one before it
    left. Orders recorded before answer 200.
    """

    async def record_items(items: Sequence[PurchaseOf]) -> list[tuple[Recorded, bool] | CrmError]:
        bought = [_bought(item, region) for item in items]
        recorded = iter(
            await purchases.record_all(
                session, program_id=data.program_id, bought=[one for one in bought if isinstance(one, Bought)], by=by,
                once=once, now=now,
            )
        )  # fmt: skip
        return [next(recorded) if isinstance(one, Bought) else one for one in bought]

    results = await survivors.post_all(session, data.items, record_items)
    answer = batches.answer(
        [(0, result) if isinstance(result, CrmError) else (201 if result[1] else 200, result[0]) for result in results],
        request,
    )
    await idempotency.keep(session, request=once, contact_id=None, result=answer, now=now, status=200)
    return answer


@post("/purchases/simulations", scopes={"loyalty:read"}, status_code=200, problems=_UNEARNED)
async def simulate_purchase(session: Session, data: PurchaseToSimulate, now: datetime) -> Recorded:
    """Try what a purchase would earn, now or later, by rules that may still be drafts.

    It is judged as the real thing, the answer is the same, and nothing is written. An order that is recorded is judged
    as if it were not.
    """
    return await simulations.simulate(
        session, program_id=data.program_id, contact_id=data.contact_id, purchase=data.purchase(), at=data.at,
        include_drafts=data.include_drafts, now=now,
    )  # fmt: skip


@post(
    "/contacts/{contact_id:uuid}/purchases",
    scopes={"loyalty:award"},
    problems=_REFUSALS,
    repeated="The order was recorded before; the balance is today's.",
)
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


@get("/contacts/{contact_id:uuid}/purchases", scopes={"loyalty:read"}, problems=PROGRAM)
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


@get("/contacts/{contact_id:uuid}/purchases/{order_ref:str}", scopes={"loyalty:read"}, problems=(PurchaseNotFound,))
async def get_purchase(
    session: Session, contact_id: FromPath[UUID], order_ref: FromPath[str], program: ProgramId = None
) -> PurchaseView:
    """Read a purchase."""
    return await purchases.get(session, program_id=program, contact_id=contact_id, order_ref=order_ref)


def _bought(item: PurchaseOf, region: str) -> Bought | CrmError:
    try:
        return item.bought(item.contact_id or item.identity.sender(region))  # type: ignore[union-attr]
    except CrmError as refusal:
        return refusal


handlers = [
    record_purchase_by_identity, record_purchases_batch, simulate_purchase, record_purchase, list_purchases,
    get_purchase,
]  # fmt: skip
