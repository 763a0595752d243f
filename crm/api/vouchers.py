"""Vouchers: issued codes, checking one, using it and taking the use back."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, PathParameter, QueryParameter
from pydantic import StringConstraints

from crm.api import paging
from crm.api.loyalty import MEMBERSHIP
from crm.api.paging import Cursor, Limit, Page
from crm.api.rewards import Pattern
from crm.api.routes import delete, get, post
from crm.api.schemas import Body, Instant, JsonObject, Points, Reference
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import codes, voucher_uses, vouchers
from crm.loyalty.codes import CodeTaken, PatternTooNarrow, PatternUsedUp
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.voucher_uses import RefReused, VoucherInvalid, VoucherUse, VoucherUseNotFound
from crm.loyalty.vouchers import ExpiresInThePast, Voucher, VoucherNotFound

CodeInPath = Annotated[str, PathParameter(description="The code, in any case, with or without its hyphens.")]
ChosenCode = Annotated[str, StringConstraints(pattern=codes.TYPED, max_length=codes.LENGTH_MAX)]
"""At least three letters and digits, with single spaces, dots, hyphens or underscores between them."""


class VoucherTerms(Body):
    """What a voucher gives, how often and until when."""

    uses_max: Points | None = None
    uses_max_per_member: Points | None = None
    benefit: JsonObject | None = None
    expires_at: Instant | None = None


class NewVoucher(VoucherTerms):
    """A code for one contact, or for whoever has it; left out, `code` is made, of the `pattern` if there is one.

    `benefit` is yours to fill: it is shown to whoever accepts the voucher.
    """

    code: ChosenCode | None = None
    pattern: Pattern | None = None
    contact_id: UUID | None = None
    reward_id: UUID | None = None


class NewVoucherUse(Body):
    """Who uses a voucher; `ref` is what makes a repetition known, such as the order's number."""

    contact_id: UUID
    ref: Reference


@post(
    "/programs/{program_id:uuid}/vouchers",
    scopes={"loyalty:award"},
    problems=(ProgramNotFound, ContactNotFound, CodeTaken, PatternTooNarrow, PatternUsedUp, ExpiresInThePast),
)
async def issue_voucher(
    session: Session, program_id: FromPath[UUID], data: NewVoucher, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Voucher:  # fmt: skip
    """Issue a voucher."""
    terms = vouchers.Terms(
        uses_max=data.uses_max, uses_max_per_member=data.uses_max_per_member, benefit=data.benefit,
        contact_id=data.contact_id, reward_id=data.reward_id, expires_at=data.expires_at,
    )  # fmt: skip
    return await vouchers.issue(
        session, program_id=program_id, terms=terms, code=data.code, pattern=data.pattern, by=by, once=once, now=now
    )


@get("/programs/{program_id:uuid}/vouchers", scopes={"loyalty:read"}, problems=(ProgramNotFound,))
async def list_vouchers(
    session: Session, program_id: FromPath[UUID], now: datetime,
    pool: Annotated[UUID | None, QueryParameter(description="Only those of this pool.")] = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Page[Voucher]:  # fmt: skip
    """List a program's vouchers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await vouchers.page(
        session, program_id=program_id, pool_id=pool, before=before[0] if before else None, limit=limit + 1, now=now
    )
    return paging.page_of(found, limit=limit, key=lambda voucher: (voucher.id,))


@get("/contacts/{contact_id:uuid}/vouchers", scopes={"loyalty:read"}, problems=(ContactNotFound,))
async def list_vouchers_of_contact(
    session: Session, contact_id: FromPath[UUID], now: datetime, cursor: Cursor = None, limit: Limit = 50
) -> Page[Voucher]:
    """List a contact's own vouchers, newest first."""
    before = paging.decode(cursor, UUID)
    found = await vouchers.page_of_contact(
        session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1, now=now
    )
    return paging.page_of(found, limit=limit, key=lambda voucher: (voucher.id,))


@get("/vouchers/{code:str}", scopes={"loyalty:read"}, problems=(VoucherNotFound,))
async def get_voucher(
    session: Session, code: CodeInPath, now: datetime,
    contact: Annotated[UUID | None, QueryParameter(description="Whether this contact could use it.")] = None,
) -> Voucher:  # fmt: skip
    """Check a voucher.

    `valid` says whether it can be used now, `why_not` every reason why it can't.
    """
    return await vouchers.get(session, code=code, contact_id=contact, now=now)


@post(
    "/vouchers/{code:str}/redemptions",
    scopes={"loyalty:redeem"},
    problems=(VoucherNotFound, ContactNotFound, *MEMBERSHIP, VoucherInvalid, RefReused),
    repeated="The voucher was used under this ref before.",
)
async def use_voucher(
    session: Session, code: CodeInPath, data: NewVoucherUse, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Response[VoucherUse]:  # fmt: skip
    """Use a voucher.

    The same `ref` again answers 200 with the same use, also after it was rolled back: another use needs another one.
    """
    used, created = await voucher_uses.use(
        session, code=code, contact_id=data.contact_id, ref=data.ref, by=by, once=once, now=now
    )
    return Response(used, status_code=201 if created else 200)


@get("/vouchers/{code:str}/redemptions", scopes={"loyalty:read"}, problems=(VoucherNotFound,))
async def list_voucher_uses(
    session: Session, code: CodeInPath, cursor: Cursor = None, limit: Limit = 50
) -> Page[VoucherUse]:
    """List the uses of a voucher, newest first, rolled back ones among them."""
    before = paging.decode(cursor, UUID)
    found = await voucher_uses.page(session, code=code, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda used: (used.id,))


@get(
    "/vouchers/{code:str}/redemptions/{use_id:uuid}",
    scopes={"loyalty:read"},
    problems=(VoucherNotFound, VoucherUseNotFound),
)
async def get_voucher_use(session: Session, code: CodeInPath, use_id: FromPath[UUID]) -> VoucherUse:
    """Read a use of a voucher."""
    return await voucher_uses.get(session, code=code, use_id=use_id)


@delete(
    "/vouchers/{code:str}/redemptions/{use_id:uuid}",
    scopes={"loyalty:redeem"},
    problems=(VoucherNotFound, VoucherUseNotFound),
)
async def roll_back_voucher_use(
    session: Session, code: CodeInPath, use_id: FromPath[UUID], by: str, now: datetime
) -> None:
    """Take the use of a voucher back."""
    await voucher_uses.roll_back(session, code=code, use_id=use_id, by=by, now=now)


handlers = [
    issue_voucher, list_vouchers, list_vouchers_of_contact, get_voucher, use_voucher, list_voucher_uses,
    get_voucher_use, roll_back_voucher_use,
]  # fmt: skip
