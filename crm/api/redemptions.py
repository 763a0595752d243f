"""`/v1/contacts/{contact_id}/redemptions`: paying with points, for an order or for a reward, and undoing it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.loyalty import PROGRAM, SPENDING, PlaceBody, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, patch, post
from crm.api.schemas import Amount, Body, Code, Points, Reference
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import fulfilment, redemptions, rewards
from crm.loyalty.books import PointsOutOfRange
from crm.loyalty.catalogue import RewardNotFound
from crm.loyalty.codes import PatternUsedUp
from crm.loyalty.conversion import AboveShare, BelowMinimum, ConversionMissing, NotAMultiple
from crm.loyalty.fulfilment import NotToFulfil
from crm.loyalty.journal import OrderRefReused
from crm.loyalty.redemptions import (
    AlreadyFulfilled,
    NothingToReturn,
    Payable,
    Redemption,
    RedemptionNotFound,
    RedemptionView,
    Returned,
    VoucherUsed,
)
from crm.loyalty.rewards import LimitReached, NotEligible, OneAtATime, OutOfStock

REDEEMING = (
    *PROGRAM, *SPENDING, RewardNotFound, OutOfStock, LimitReached, NotEligible, OrderRefReused, PatternUsedUp,
    PointsOutOfRange, BelowMinimum, NotAMultiple, AboveShare, OneAtATime,
)  # fmt: skip
"""What refuses points, or a reward for them."""


class RedemptionFields(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["reward_id"], "properties": {"reward_id": {"type": "string"}}},
                {"required": ["points"], "properties": {"points": {"type": "integer"}, "quantity": {"const": 1}}},
            ]
        }
    )

    program_id: UUID | None = None
    reward_id: UUID | None = None
    points: Annotated[Points | None, Field(validate_default=True)] = None
    quantity: Annotated[int, Field(ge=1, le=1_000)] = 1
    order_ref: Reference | None = None
    order_total: Amount | None = None

    @field_validator("points")
    @classmethod
    def _for_something(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None and info.data.get("reward_id") is None:
            raise PydanticCustomError("missing", "is needed where no reward_id is sent")
        return value

    @field_validator("quantity")
    @classmethod
    def _of_a_reward(cls, value: int, info: ValidationInfo) -> int:
        if value != 1 and info.data.get("reward_id") is None:
            raise PydanticCustomError("quantity", "belongs to a reward_id")
        return value

    def asked(self) -> dict[str, Any]:
        """What `rewards.redeem`, or without a reward `redemptions.redeem`, has to know."""
        common = {"program_id": self.program_id, "order_ref": self.order_ref}
        if self.reward_id is None:
            return {**common, "points": self.points, "order_total": self.order_total}
        return {**common, "reward_id": self.reward_id, "quantity": self.quantity}


class NewRedemption(RedemptionFields, PlaceBody):
    """Points to pay with, or a reward to buy with them; its cost is known, so `points` beside it are ignored.

    With the `order_total`, the share of an order that can be paid with points is checked too.
    """


class NewPaymentTrial(Body):
    """Points that a member would like to pay an order with."""

    program_id: UUID | None = None
    points: Points
    order_total: Amount


class RedemptionPatch(Body):
    """How far a reward has come that is handed over."""

    status: Literal["ready", "fulfilled"]


class NewReversal(Body):
    """Why a redemption is undone; with `write_off`, its reward does not go back into the stock."""

    write_off: bool = False
    reason: Code | None = None


@post(
    "/contacts/{contact_id:uuid}/redemptions",
    scopes={"loyalty:redeem"},
    problems=REDEEMING,
    repeated="This was redeemed for this order before; the balance is today's.",
)  # fmt: skip
async def redeem_points(
    session: Session, contact_id: FromPath[UUID], data: NewRedemption, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[Redemption]:  # fmt: skip
    """Pay with points, or buy a reward.

    It is refused rather than cut down where the points don't reach. Of several of a reward, one redemption comes with
    one voucher that can be used so often. The same `order_ref` again, for the same reward or for none, answers 200.
    """
    redeem = redemptions.redeem if data.reward_id is None else rewards.redeem
    redemption, created = await redeem(
        session, contact_id=contact_id, **data.asked(), place=data.place(), by=by, once=once, now=now
    )
    return Response(redemption, status_code=201 if created else 200)


@post(
    "/contacts/{contact_id:uuid}/redemptions/simulations",
    scopes={"loyalty:read"},
    status_code=200,
    problems=(*PROGRAM, ConversionMissing),
)
async def simulate_redemption(
    session: Session, contact_id: FromPath[UUID], data: NewPaymentTrial, now: datetime
) -> Payable:
    """Work out what of an order can be paid with points.

    The least of what is asked for, of the balance and of the program's share of the order, in whole steps; 0 where that
    is below the minimum. Nothing is written.
    """
    return await redemptions.simulate(
        session, program_id=data.program_id, contact_id=contact_id, points=data.points, order_total=data.order_total,
        now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/redemptions", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_redemptions(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[RedemptionView]:
    """List a contact's redemptions, newest first."""
    before = paging.decode(cursor, UUID)
    found = await redemptions.page(
        session, program_id=program, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1
    )
    return paging.page_of(found, limit=limit, key=lambda redemption: (redemption.id,))


@get(
    "/contacts/{contact_id:uuid}/redemptions/{redemption_id:uuid}",
    scopes={"loyalty:read"},
    problems=(RedemptionNotFound,),
)
async def get_redemption(session: Session, contact_id: FromPath[UUID], redemption_id: FromPath[UUID]) -> RedemptionView:
    """Read a redemption."""
    return await redemptions.get(session, contact_id=contact_id, redemption_id=redemption_id)


@patch(
    "/contacts/{contact_id:uuid}/redemptions/{redemption_id:uuid}",
    scopes={"loyalty:redeem"},
    problems=(RedemptionNotFound, NotToFulfil),
)
async def advance_redemption(
    session: Session, contact_id: FromPath[UUID], redemption_id: FromPath[UUID], data: RedemptionPatch, by: str,
    now: datetime,
) -> RedemptionView:  # fmt: skip
    """Note that a reward lies ready or was handed over."""
    return await fulfilment.advance(
        session, contact_id=contact_id, redemption_id=redemption_id, status=data.status, by=by, now=now
    )


@post(
    "/contacts/{contact_id:uuid}/redemptions/{redemption_id:uuid}/reversal",
    scopes={"loyalty:redeem"},
    problems=(
        ContactNotFound,
        RedemptionNotFound,
        NothingToReturn,
        VoucherUsed,
        AlreadyFulfilled,
        PointsOutOfRange,
    ),
    repeated="It was reversed before; the balance is today's.",
)
async def reverse_redemption(
    session: Session, contact_id: FromPath[UUID], redemption_id: FromPath[UUID], data: NewReversal, by: str,
    now: datetime, once: idempotency.Request | None,
) -> Response[Returned]:  # fmt: skip
    """Undo a redemption.

    The points go back to their own lots with their own expiry; what has expired meanwhile stays expired. A reward is
    taken back with its voucher, as long as nobody has used it or taken it away.
    """
    returned, created = await redemptions.reverse(
        session, contact_id=contact_id, redemption_id=redemption_id, write_off=data.write_off, reason=data.reason,
        by=by, once=once, now=now,
    )  # fmt: skip
    return Response(returned, status_code=201 if created else 200)


handlers = [
    redeem_points, simulate_redemption, list_redemptions, get_redemption, advance_redemption, reverse_redemption,
]  # fmt: skip
