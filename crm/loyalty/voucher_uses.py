"""Using vouchers, and taking a use back. One reference is one use of a code, whatever the retries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid

from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import Conflict, NotFound
from crm.interactions import timeline
from crm.loyalty import journal, vouchers
from crm.loyalty.redemptions import redemptions
from crm.loyalty.vouchers import Voucher, WhyNot

voucher_uses = Table(
    "voucher_uses",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("voucher_id", Uuid, nullable=False),
    Column("ref", Text, nullable=False),
    Column("used_at", Instant, nullable=False),
    Column("rolled_back_at", Instant),
)
voucher_use_directory = Table(
    "voucher_use_directory",
    metadata,
    Column("voucher_id", Uuid, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
    Column("use_id", Uuid, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in voucher_uses.columns)
_SELECTED: Final = "u.id, v.code, u.contact_id, u.ref, u.used_at, u.rolled_back_at, v.benefit"
_OF_CODE: Final = """
    FROM voucher_use_directory d
    JOIN voucher_uses u ON u.contact_id = d.contact_id AND u.id = d.use_id
    JOIN vouchers v ON v.contact_id = $1 AND v.id = d.voucher_id
    WHERE d.voucher_id = $2
"""


class VoucherInvalid(Conflict):
    code = "voucher_invalid"
    title = "This voucher can't be used"


class RefReused(Conflict):
    code = "ref_reused"
    title = "This reference belongs to another contact's use of the voucher"


class VoucherUseNotFound(NotFound):
    code = "voucher_use_not_found"
    title = "This voucher has no such use"


@dataclass(slots=True)
class VoucherUse:
    """A use of a voucher. One that was rolled back stays, and its `ref` stays taken: another use has another one."""

    id: UUID
    code: str
    contact_id: UUID
    ref: str
    status: Literal["redeemed", "rolled_back"]
    used_at: datetime
    rolled_back_at: datetime | None
    benefit: dict[str, Any] | None


async def use(
    session: Session, *, code: str, contact_id: UUID, ref: str, by: str, once: idempotency.Request | None, now: datetime
) -> tuple[VoucherUse, bool]:
    """Use a voucher once. False beside the use of the same reference, found again.

    Raises VoucherNotFound, VoucherInvalid with every reason, RefReused, ContactNotFound.
    """
    known = await vouchers.stored(session, code=code, contact_id=None)
    locked = await journal.lock(session, program_id=known["program_id"], contact_ids=[contact_id], now=now, once=once)
    locked.member(contact_id)
    found = await vouchers.stored(session, code=code, contact_id=contact_id)
    if (earlier := await _earlier(session, found, ref)) is not None:
        if earlier.contact_id != contact_id:
            raise RefReused("Another contact used this voucher under the same ref. Send one of your own.")
        answer = idempotency.answer(once, contact_id=contact_id, result=earlier, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return earlier, False
    voucher = vouchers.view(found, contact_id=contact_id, now=now)
    if voucher.why_not:
        raise _invalid(voucher.why_not)
    used = VoucherUse(uuid7(), voucher.code, contact_id, ref, "redeemed", now, None, voucher.benefit)
    row = (contact_id, used.id, voucher.program_id, voucher.id, ref, now, None)
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(voucher_uses, _COLUMNS, [row]),
            Insert(
                voucher_use_directory, ("voucher_id", "ref", "contact_id", "use_id"),
                [(voucher.id, ref, contact_id, used.id)], on_conflict="DO NOTHING",
            ),
            *_of_reward(voucher, "used" if voucher.uses_left == 1 else None),
            *idempotency.answer(once, contact_id=contact_id, result=used, now=now),
        ],
        entries=[_entry(voucher, used, "voucher.redeemed", by=by, now=now)],
    )  # fmt: skip
    # Many members may share a code: its row is locked last, and says again whether one use is left.
    if voucher.uses_left is not None and not await _take(session, found):
        raise _invalid([WhyNot("used_up")])
    return used, True


async def roll_back(session: Session, *, code: str, use_id: UUID, by: str, now: datetime) -> None:
    """Take a use back; taking it back again changes nothing. Raises VoucherNotFound, VoucherUseNotFound."""
    found = await vouchers.stored(session, code=code, contact_id=None)
    used = await _get(session, found, use_id)
    locked = await journal.lock(session, program_id=found["program_id"], contact_ids=[used.contact_id], now=now)
    used = await _get(session, found, use_id)
    if used.rolled_back_at is not None:
        return
    voucher = vouchers.view(found, now=now)
    await journal.write_down(
        session,
        locked,
        facts=[
            Update(voucher_uses, ("contact_id", "id", "rolled_back_at"), [(used.contact_id, use_id, now)], 2),
            *_of_reward(voucher, "issued"),
        ],
        entries=[_entry(voucher, used, "voucher.rolled_back", by=by, now=now)],
    )
    await session.execute(
        "UPDATE vouchers SET uses_left = uses_left + 1 WHERE contact_id = $1 AND id = $2 AND uses_left IS NOT NULL",
        found["contact_id"], voucher.id,
    )  # fmt: skip


async def get(session: Session, *, code: str, use_id: UUID) -> VoucherUse:
    """One use of a voucher. Raises VoucherNotFound, VoucherUseNotFound."""
    return await _get(session, await vouchers.stored(session, code=code, contact_id=None), use_id)


async def page(session: Session, *, code: str, before: UUID | None, limit: int) -> list[VoucherUse]:
    """The uses of a voucher, newest first, older than `before`. Raises VoucherNotFound."""
    found = await vouchers.stored(session, code=code, contact_id=None)
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} {_OF_CODE} AND ($3::uuid IS NULL OR d.use_id < $3) ORDER BY d.use_id DESC LIMIT $4
        """,
        found["contact_id"], found["id"], before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def _get(session: Session, found: Record, use_id: UUID) -> VoucherUse:
    row = await session.fetchrow(
        f"SELECT {_SELECTED} {_OF_CODE} AND d.use_id = $3", found["contact_id"], found["id"], use_id
    )
    if row is None:
        raise VoucherUseNotFound("This voucher has no use with this id.")
    return _view(row)


async def _earlier(session: Session, found: Record, ref: str) -> VoucherUse | None:
    row = await session.fetchrow(f"SELECT {_SELECTED} {_OF_CODE} AND d.ref = $3", found["contact_id"], found["id"], ref)
    return None if row is None else _view(row)


async def _take(session: Session, found: Record) -> bool:
    return bool(
        await session.execute(
            """
            UPDATE vouchers SET uses_left = uses_left - 1
            WHERE contact_id = $1 AND id = $2 AND uses_left > 0 AND cancelled_at IS NULL
            """,
            found["contact_id"], found["id"],
        )
    )  # fmt: skip


def _of_reward(voucher: Voucher, status: str | None) -> list[Update]:
    """The redemption that the voucher was issued with, in its new state."""
    if voucher.redemption_id is None or status is None:
        return []
    assert voucher.contact_id is not None, "what is issued with a reward is its member's"
    row = (voucher.contact_id, voucher.redemption_id, status)
    return [Update(redemptions, ("contact_id", "id", "status"), [row], 2)]


def _entry(voucher: Voucher, used: VoucherUse, kind: str, *, by: str, now: datetime) -> tuple[Any, ...]:
    data = {
        "program_id": voucher.program_id, "voucher_id": voucher.id, "code": voucher.code, "use_id": used.id,
        "ref": used.ref,
    }  # fmt: skip
    return timeline.entry(
        used.contact_id, channel="loyalty", kind=kind, occurred_at=now, recorded_at=now, by=by, data=data
    )


def _invalid(why_not: list[WhyNot]) -> VoucherInvalid:
    reasons = ", ".join(_SENTENCES[why.code] for why in why_not)
    return VoucherInvalid(f"It {reasons}.", why_not=[{"code": why.code} for why in why_not])


_SENTENCES: Final = {
    "cancelled": "was cancelled",
    "expired": "has expired",
    "used_up": "is used up",
    "not_eligible": "is another member's",
    "limit_reached": "was used by this member as often as one may",
}


def _view(row: Record) -> VoucherUse:
    return VoucherUse(
        id=row["id"], code=row["code"], contact_id=row["contact_id"], ref=row["ref"],
        status="redeemed" if row["rolled_back_at"] is None else "rolled_back", used_at=row["used_at"],
        rolled_back_at=row["rolled_back_at"], benefit=row["benefit"],
    )  # fmt: skip
