"""Points of a contact: balances, awards, adjustments, transfers and the transactions behind them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath, QueryParameter
from pydantic import Field

from crm.api import batches, moments, paging, survivors
from crm.api.batches import BatchResult, Judged
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import BATCH_BODY_MAX, AnyRequest, get, post
from crm.api.schemas import Body, Code, Instant, Line, Points, SignedPoints, Text
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.errors import CrmError
from crm.loyalty import balances, ledger, transactions, transfers
from crm.loyalty.award_limits import AwardLimitReached, ManagerNeeded
from crm.loyalty.balances import Loyalty, Posted
from crm.loyalty.books import InsufficientPoints, PointsOutOfRange
from crm.loyalty.journal import MembershipSuspended, NotEnrolled
from crm.loyalty.ledger import Award, ExpiresTooEarly, OccursTooLate, ZeroAdjustment
from crm.loyalty.programs import ProgramNotFound, ProgramRequired
from crm.loyalty.transactions import PointsTransaction, PointsTransactionDetail, PointsTransactionNotFound
from crm.loyalty.transfers import TransferToSelf

PROGRAM = (ContactNotFound, ProgramNotFound, ProgramRequired)
"""What refuses a call about the points of a contact in a program."""
MEMBERSHIP = (NotEnrolled, MembershipSuspended)
"""What refuses somebody who may neither earn nor spend."""
SPENDING = (*MEMBERSHIP, InsufficientPoints)
ProgramId = Annotated[UUID | None, QueryParameter(name="program", description="Left out: the default program.")]

AsOf = Annotated[
    str | None,
    QueryParameter(
        name="as_of", max_length=40, schema_extra=moments.DATE_TIME,
        description="Another instant: of the past as it was, of the future as it comes if nothing happens.",
    ),
]  # fmt: skip


class PlaceBody(Body):
    """Where it happened."""

    store: Line | None = None
    till: Line | None = None

    def place(self) -> dict[str, str]:
        """The parts of the place that were given."""
        return {name: value for name in ("store", "till") if (value := getattr(self, name)) is not None}


class AwardFields(PlaceBody):
    points: Points
    reason: Code
    note: Text | None = None
    occurred_at: Instant | None = None
    activates_at: Instant | None = None
    expires_at: Instant | None = None
    qualifying: bool = True

    def award(self, contact_id: UUID) -> Award:
        """The award to this contact."""
        return Award(
            contact_id, self.points, self.reason, self.note, self.occurred_at, self.activates_at, self.expires_at,
            self.qualifying, self.place(),
        )  # fmt: skip


class NewAward(AwardFields):
    """Points given by hand; `reason` is a short code, `note` free text for the timeline.

    They are available at once, unless `activates_at` lies later, and end by the program's terms, unless `expires_at`
    gives them an end of their own.
    """

    program_id: UUID | None = None


class AwardOf(AwardFields):
    """An award within a batch."""

    contact_id: UUID


class AwardBatch(Body):
    """Up to 1,000 awards in one program."""

    program_id: UUID | None = None
    items: Annotated[list[Annotated[AwardOf, Judged()]], Field(min_length=1, max_length=1_000)]


class NewAdjustment(Body):
    """A correction by hand, up or down."""

    program_id: UUID | None = None
    points: Annotated[SignedPoints, Field(json_schema_extra={"not": {"const": 0}})]
    reason: Code
    note: Text | None = None
    allow_negative: bool = False
    qualifying: bool = False


class NewTransfer(Body):
    """Points for another member of the program."""

    program_id: UUID | None = None
    to_contact_id: UUID
    points: Points
    note: Text | None = None


@get("/contacts/{contact_id:uuid}/loyalty", scopes={"loyalty:read"}, problems=PROGRAM)
async def get_loyalty(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, as_of: AsOf = None
) -> Loyalty:
    """Read a contact's balance and tier.

    A contact who never earned answers zeros.
    """
    return await balances.read(
        session, program_id=program, contact_id=contact_id, now=now, as_of=moments.instant("as_of", as_of)
    )


@post(
    "/contacts/{contact_id:uuid}/points-awards",
    scopes={"loyalty:award"},
    problems=(
        *PROGRAM,
        *MEMBERSHIP,
        OccursTooLate,
        ExpiresTooEarly,
        PointsOutOfRange,
        ManagerNeeded,
        AwardLimitReached,
    ),
)
async def award_points(
    session: Session, contact_id: FromPath[UUID], data: NewAward, by: str, trusted: bool, now: datetime,
    once: idempotency.Request | None,
) -> Posted:  # fmt: skip
    """Award points to a contact by hand.

    A key without the scope `loyalty:adjust` gives no more than the program's `award_limits`.
    """
    return await ledger.award(
        session, program_id=data.program_id, award=data.award(contact_id), by=by, trusted=trusted, once=once, now=now
    )


@get("/contacts/{contact_id:uuid}/points-awards", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_awards(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[PointsTransaction]:
    """List a contact's awards, newest first."""
    return await _transactions(session, contact_id, program, cursor, limit, cause="award")


@post(
    "/points-awards/batch",
    scopes={"loyalty:award"},
    status_code=200,
    body_max=BATCH_BODY_MAX,
    problems=(ProgramNotFound, ProgramRequired),
)
async def award_points_batch(
    session: Session, data: AwardBatch, by: str, trusted: bool, now: datetime, request: AnyRequest,
    once: idempotency.Request | None,
) -> BatchResult[Posted]:  # fmt: skip
    """Award points to many contacts.

    The refused are left out and say why; all others are posted together. The answers stand in the order of the items.
    """

    async def post_awards(items: Sequence[AwardOf]) -> list[Posted | CrmError]:
        awards = [item.award(item.contact_id) for item in items]
        return await ledger.award_all(
            session, program_id=data.program_id, awards=awards, by=by, trusted=trusted, once=once, now=now
        )

    results = await survivors.post_all(session, data.items, post_awards)
    answer = batches.answer([(201, result) for result in results], request)
    await idempotency.keep(session, request=once, contact_id=None, result=answer, now=now, status=200)
    return answer


@post(
    "/contacts/{contact_id:uuid}/points-adjustments",
    scopes={"loyalty:adjust"},
    problems=(*PROGRAM, NotEnrolled, InsufficientPoints, ZeroAdjustment, PointsOutOfRange),
)
async def adjust_points(
    session: Session, contact_id: FromPath[UUID], data: NewAdjustment, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Posted:  # fmt: skip
    """Correct a contact's points by hand, up or down."""
    return await ledger.adjust(
        session, program_id=data.program_id, contact_id=contact_id, points=data.points, reason=data.reason,
        note=data.note, allow_negative=data.allow_negative, qualifying=data.qualifying, by=by, once=once, now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/points-adjustments", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_adjustments(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[PointsTransaction]:
    """List a contact's adjustments, newest first."""
    return await _transactions(session, contact_id, program, cursor, limit, cause="adjustment")


@post(
    "/contacts/{contact_id:uuid}/points-transfers",
    scopes={"loyalty:redeem"},
    problems=(*PROGRAM, *SPENDING, TransferToSelf, PointsOutOfRange),
)
async def transfer_points(
    session: Session, contact_id: FromPath[UUID], data: NewTransfer, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Posted:  # fmt: skip
    """Transfer points to another member.

    They keep the ends they have, and count neither as spent nor as earned.
    """
    return await transfers.transfer(
        session, program_id=data.program_id, contact_id=contact_id, to_contact_id=data.to_contact_id,
        points=data.points, note=data.note, by=by, once=once, now=now,
    )  # fmt: skip


@get("/contacts/{contact_id:uuid}/points-transfers", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_transfers(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[PointsTransaction]:
    """List what a contact transferred and was given, newest first."""
    return await _transactions(session, contact_id, program, cursor, limit, cause="transfer")


@get("/contacts/{contact_id:uuid}/points-transactions", scopes={"loyalty:read"}, problems=PROGRAM)
async def list_points_transactions(
    session: Session, contact_id: FromPath[UUID], program: ProgramId = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[PointsTransaction]:
    """List a contact's points transactions, newest first."""
    return await _transactions(session, contact_id, program, cursor, limit)


@get(
    "/contacts/{contact_id:uuid}/points-transactions/{transaction_id:uuid}",
    scopes={"loyalty:read"},
    problems=(PointsTransactionNotFound,),
)
async def get_points_transaction(
    session: Session, contact_id: FromPath[UUID], transaction_id: FromPath[UUID]
) -> PointsTransactionDetail:
    """Read a points transaction with its movements."""
    return await transactions.get(session, contact_id=contact_id, transaction_id=transaction_id)


async def _transactions(
    session: Session, contact_id: UUID, program: UUID | None, cursor: str | None, limit: int, cause: str | None = None
) -> Page[PointsTransaction]:
    before = paging.decode(cursor, UUID)
    found = await transactions.page(
        session,
        program_id=program,
        contact_id=contact_id,
        before=before[0] if before else None,
        limit=limit + 1,
        cause=cause,
    )
    return paging.page_of(found, limit=limit, key=lambda transaction: (transaction.id,))


handlers = [
    get_loyalty, award_points, list_awards, award_points_batch, adjust_points, list_adjustments,
    transfer_points, list_transfers,
    list_points_transactions, get_points_transaction,
]  # fmt: skip
