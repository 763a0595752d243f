"""Vouchers: issued codes, a member's own or for whoever has them, and whether they can be used."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update, write
from crm.errors import FieldError, Invalid, NotFound
from crm.interactions import timeline
from crm.loyalty import codes, programs

vouchers = Table(
    "vouchers",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("uses_max", BigInteger),
    Column("uses_max_per_member", BigInteger),
    Column("uses_left", BigInteger),
    Column("benefit", JSONB),
    Column("reward_id", Uuid),
    Column("redemption_id", Uuid),
    Column("pool_id", Uuid),
    Column("expires_at", Instant),
    Column("issued_at", Instant, nullable=False),
    Column("cancelled_at", Instant),
)

ANYBODY: Final = UUID(int=0)
"""Whose a voucher is that whoever has its code may use."""
COLUMNS: Final = tuple(column.name for column in vouchers.columns)

Why: TypeAlias = Literal["cancelled", "expired", "used_up", "not_eligible", "limit_reached"]
Status: TypeAlias = Literal["issued", "used", "expired", "cancelled"]

_SELECTED: Final = ", ".join(f"v.{name}" for name in COLUMNS)
# How often the contact $2 has used it already; without a contact, nothing is counted.
_FIND: Final = f"""
    SELECT {_SELECTED}, CASE WHEN $2::uuid IS NOT NULL THEN (
        SELECT count(*) FROM {aliases.known_as("$2")} who
        JOIN voucher_uses u ON u.contact_id = who.id AND u.voucher_id = v.id AND u.rolled_back_at IS NULL
    ) ELSE 0 END AS uses_of_member,
    (SELECT k.contact_id FROM contact_alias_directory k WHERE k.alias_id = v.contact_id) AS survivor_id
    FROM code_directory d
    JOIN vouchers v ON v.contact_id = coalesce(d.contact_id, '{ANYBODY}') AND v.id = d.subject_id
    WHERE d.code = $1 AND d.kind = 'voucher'
"""


class VoucherNotFound(NotFound):
    code = "voucher_not_found"
    title = "There is no such voucher"


class ExpiresInThePast(Invalid):
    code = "expires_in_the_past"
    title = "Nobody could use this voucher"


@dataclass(slots=True)
class WhyNot:
    """A reason why a voucher can't be used."""

    code: Why


@dataclass(slots=True)
class Voucher:
    """An issued code. `uses_left` is null where nothing limits them, `contact_id` where whoever has it may use it.

    `why_not` says every reason why it is not `valid`.
    """

    id: UUID
    code: str
    program_id: UUID
    status: Status
    benefit: dict[str, Any] | None
    contact_id: UUID | None
    reward_id: UUID | None
    redemption_id: UUID | None
    pool_id: UUID | None
    uses_max: int | None
    uses_max_per_member: int | None
    uses_left: int | None
    expires_at: datetime | None
    issued_at: datetime
    valid: bool
    why_not: list[WhyNot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a voucher gives, to whom, how often and until when. `benefit` is for whoever accepts it to understand."""

    uses_max: int | None = None
    uses_max_per_member: int | None = None
    benefit: dict[str, Any] | None = None
    contact_id: UUID | None = None
    reward_id: UUID | None = None
    expires_at: datetime | None = None


async def issue(
    session: Session,
    *,
    program_id: UUID,
    terms: Terms,
    code: str | None,
    pattern: str | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Voucher:
    """Make a voucher, with the code that was chosen, or a new one of the pattern.

    Raises ProgramNotFound, ContactNotFound, CodeTaken, PatternTooNarrow, ExpiresInThePast.
    """
    await idempotency.begin(session, request=once)
    check_end(terms, now)
    await programs.get(session, program_id=program_id)
    if terms.contact_id is not None and not await session.fetchval(
        "SELECT true FROM contacts WHERE id = $1 FOR KEY SHARE", terms.contact_id
    ):
        raise ContactNotFound("No contact has this id.")
    voucher_id = uuid7()
    if code is not None:
        await codes.take(
            session, code=code, kind="voucher", program_id=program_id, contact_id=terms.contact_id,
            subject_id=voucher_id,
        )  # fmt: skip
    else:
        pattern = pattern or codes.DEFAULT_PATTERN
        codes.check_pattern(pattern, count=1)
        code = await codes.claim(
            session, kind="voucher", program_id=program_id, contact_id=terms.contact_id, subject_id=voucher_id,
            pattern=pattern,
        )  # fmt: skip
    values = row(voucher_id, code, program_id=program_id, terms=terms, now=now)
    issued = _view(dict(zip(COLUMNS, values, strict=True)), now=now)
    entries = [] if terms.contact_id is None else [entry(values, kind="voucher.issued", by=by, now=now)]
    await write(
        session,
        [
            Insert(vouchers, COLUMNS, [values]),
            timeline.part(entries),
            *idempotency.answer(once, contact_id=terms.contact_id, result=issued, now=now),
        ],
    )
    return issued


async def get(session: Session, *, code: str, contact_id: UUID | None, now: datetime) -> Voucher:
    """A voucher by its code, and whether it can be used, by this contact where one is named. Raises VoucherNotFound."""
    return view(await stored(session, code=code, contact_id=contact_id), contact_id=contact_id, now=now)


async def page(
    session: Session, *, program_id: UUID, pool_id: UUID | None, before: UUID | None, limit: int, now: datetime
) -> list[Voucher]:
    """A program's vouchers, or those of a pool, newest first, older than `before`. Raises ProgramNotFound."""
    chosen = "v.program_id = $1" if pool_id is None else "v.pool_id = $4 AND v.program_id = $1"
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM vouchers v WHERE {chosen} AND ($2::uuid IS NULL OR v.id < $2)
        ORDER BY v.id DESC LIMIT $3
        """,
        program_id, before, limit, *([] if pool_id is None else [pool_id]),
    )  # fmt: skip
    if not rows:
        await programs.get(session, program_id=program_id)
    return [view(found, now=now) for found in rows]


async def page_of_contact(
    session: Session, *, contact_id: UUID, before: UUID | None, limit: int, now: datetime
) -> list[Voucher]:
    """A contact's own vouchers of every program, newest first, older than `before`. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT v.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_SELECTED} FROM vouchers v WHERE v.contact_id = who.id AND ($2::uuid IS NULL OR v.id < $2)
            ORDER BY v.id DESC LIMIT $3
        ) v
        WHERE c.id = $1
        ORDER BY v.id DESC LIMIT $3
        """,
        contact_id, before, limit,
    )  # fmt: skip
    if not rows and not await session.fetchval("SELECT EXISTS (SELECT FROM contacts WHERE id = $1)", contact_id):
        raise ContactNotFound("No contact has this id.")
    return [view(found, now=now) for found in rows]


async def stored(session: Session, *, code: str, contact_id: UUID | None) -> Record:
    """The row of a voucher, with `uses_of_member` of the contact. Raises VoucherNotFound."""
    found = await session.fetchrow(_FIND, codes.canonical(code), contact_id)
    if found is None:
        raise VoucherNotFound("No voucher has this code.")
    return found


def view(found: Record, *, contact_id: UUID | None = None, now: datetime) -> Voucher:
    """What a row of `stored` or of a page shows."""
    return _view(dict(found), contact_id=contact_id, now=now)


def row(
    voucher_id: UUID,
    code: str,
    *,
    program_id: UUID,
    terms: Terms,
    redemption_id: UUID | None = None,
    pool_id: UUID | None = None,
    now: datetime,
) -> tuple[Any, ...]:
    """A new voucher's row, in the order of `COLUMNS`."""
    return (
        terms.contact_id or ANYBODY, voucher_id, program_id, code, terms.uses_max, terms.uses_max_per_member,
        terms.uses_max, terms.benefit, terms.reward_id, redemption_id, pool_id, terms.expires_at, now, None,
    )  # fmt: skip


def entry(values: tuple[Any, ...], *, kind: str, by: str, now: datetime) -> tuple[Any, ...]:
    """What the timeline of its member says of a voucher."""
    told = dict(zip(COLUMNS, values, strict=True))
    data = {"voucher_id": told["id"], "name": (told["benefit"] or {}).get("name")} | {
        name: told[name] for name in ("program_id", "code", "benefit", "reward_id", "redemption_id", "expires_at")
    }
    data = {name: value for name, value in data.items() if value is not None}
    return timeline.entry(
        told["contact_id"], channel="loyalty", kind=kind, occurred_at=now, recorded_at=now, by=by, data=data
    )


def cancellation(contact_id: UUID, voucher_id: UUID, *, now: datetime) -> Update:
    """The part of a write that ends a member's voucher."""
    return Update(vouchers, ("contact_id", "id", "cancelled_at"), [(contact_id, voucher_id, now)], 2)


def check_end(terms: Terms, now: datetime) -> None:
    """Raises ExpiresInThePast."""
    if terms.expires_at is not None and terms.expires_at <= now:
        raise ExpiresInThePast(
            "expires_at must lie in the future.",
            errors=[FieldError("/expires_at", "expires_in_the_past", "must lie in the future")],
        )


def _view(found: dict[str, Any], *, contact_id: UUID | None = None, now: datetime) -> Voucher:
    own = None if found["contact_id"] == ANYBODY else found["contact_id"]
    owners = {own, found.get("survivor_id")}
    used_up = found["uses_left"] == 0
    expired = found["expires_at"] is not None and found["expires_at"] <= now
    per_member = found["uses_max_per_member"]
    why: dict[Why, bool] = {
        "cancelled": found["cancelled_at"] is not None,
        "expired": expired,
        "used_up": used_up,
        "not_eligible": contact_id is not None and own is not None and contact_id not in owners,
        "limit_reached": contact_id is not None and per_member is not None and found["uses_of_member"] >= per_member,
    }
    why_not = [WhyNot(code) for code, holds in why.items() if holds]
    return Voucher(
        id=found["id"], code=found["code"], program_id=found["program_id"],
        status="cancelled" if why["cancelled"] else "used" if used_up else "expired" if expired else "issued",
        benefit=found["benefit"], contact_id=own, reward_id=found["reward_id"], redemption_id=found["redemption_id"],
        pool_id=found["pool_id"], uses_max=found["uses_max"], uses_max_per_member=per_member,
        uses_left=found["uses_left"], expires_at=found["expires_at"], issued_at=found["issued_at"],
        valid=not why_not, why_not=why_not,
    )  # fmt: skip
