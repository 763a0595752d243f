"""Referrals: a member's code, the friends who come with it, and what a program promises both sides for that."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Integer, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import NotFound
from crm.interactions import timeline
from crm.loyalty import codes, journal, limits, referring
from crm.loyalty.expiry import local_day
from crm.loyalty.journal import Locked
from crm.loyalty.limits import Period
from crm.loyalty.programs import ProgramNotFound
from crm.loyalty.referring import referrals
from crm.loyalty.rewards import NotEligible

referral_policies = Table(
    "referral_policies",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("referrer_points", BigInteger, nullable=False),
    Column("referee_points", BigInteger, nullable=False),
    Column("min_spend", Numeric, nullable=False),
    Column("hold_days", Integer, nullable=False),
    Column("cap", JSONB),
    Column("updated_at", Instant, nullable=False),
)

referral_codes = Table(
    "referral_codes",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

PATTERN: Final = "####-####"
"""30 to the power of 8: 39 bits, for a code that is told to friends and gives nothing to whoever guesses it."""

_COLUMNS: Final = (
    "contact_id", "id", "program_id", "role", "other_id", "code", "status", "points", "other_points", "min_spend",
    "hold_days", "created_at", "by",
)  # fmt: skip
_VIEW: Final = """
    id, program_id, role, contact_id, other_id, code, status, reason, points, min_spend::text AS min_spend, hold_days,
    order_ref, transaction_id, created_at, qualified_at, activates_at, ended_at
"""
_CODE: Final = """
    SELECT p.id AS program_id, r.code, EXISTS (SELECT FROM contacts WHERE id = $2) AS contact_exists
    FROM programs p LEFT JOIN referral_codes r ON r.program_id = p.id AND r.contact_id = $2
    WHERE p.id = $1 OR ($1 IS NULL AND p.is_default)
"""
# Reads have no transaction around them: both rows are written by one statement, or none is.
_MAKE: Final = """
    WITH made AS (
        INSERT INTO referral_codes (contact_id, program_id, code, created_at)
        SELECT $1, $2, $3, $5 WHERE NOT EXISTS (SELECT FROM code_directory WHERE code = $4)
        ON CONFLICT DO NOTHING RETURNING contact_id
    ), listed AS (
        INSERT INTO code_directory (code, kind, program_id, contact_id, subject_id)
        SELECT $4, 'referral', $2, contact_id, contact_id FROM made
    )
    SELECT count(*) FROM made
"""
# What speaks against a referral, of the friend and of who refers; those that came to nothing leave room under the cap.
_KNOWN: Final = """
    SELECT (SELECT code FROM referral_codes WHERE contact_id = $2 AND program_id = $3) AS code,
        EXISTS (SELECT FROM purchases WHERE contact_id = $1 AND program_id = $3) AS bought,
        EXISTS (
            SELECT FROM referrals WHERE contact_id = $1 AND program_id = $3 AND role = 'referee'
        ) AS referred,
        EXISTS (
            SELECT FROM referrals WHERE contact_id = $1 AND program_id = $3 AND role = 'referrer' AND other_id = $2
        ) AS mutual,
        (SELECT count(*) FROM referrals
         WHERE contact_id = $2 AND program_id = $3 AND role = 'referrer' AND status IN ('pending', 'qualified')
            AND ($4::timestamptz IS NULL OR created_at >= $4)) AS referrals_count
"""


class ReferralPolicyNotFound(NotFound):
    code = "referral_policy_not_found"
    title = "The program promises nothing for referrals"


class ReferralNotFound(NotFound):
    code = "referral_not_found"
    title = "There is no such referral"


@dataclass(frozen=True, slots=True)
class Cap:
    """How many friends one member may refer in a period of the program's calendar."""

    times: int
    per: Period


@dataclass(frozen=True, slots=True)
class ReferralPolicy:
    """What both sides get once the friend's order comes to `min_spend`, `hold_days` local days after it."""

    referrer_points: int
    referee_points: int
    min_spend: str
    hold_days: int
    cap: Cap | None = None


@dataclass(slots=True)
class ReferralCode:
    """What a member tells friends."""

    code: str


@dataclass(slots=True)
class Referral:
    """A referral as one side has it: the `referrer`, or the `referee`, who came with the code.

    `pending` until an order of at least `min_spend`; then `qualified`, and `paid` from `activates_at` on, when the
    points of this side begin. `refused` or `reversed`, with the `reason`, where it came to nothing.
    """

    id: UUID
    program_id: UUID
    role: str
    contact_id: UUID
    other_contact_id: UUID
    code: str
    status: str
    reason: str | None
    points: int
    min_spend: str
    hold_days: int
    order_ref: str | None
    transaction_id: UUID | None
    created_at: datetime
    qualified_at: datetime | None
    activates_at: datetime | None
    ended_at: datetime | None


async def set_policy(session: Session, *, program_id: UUID, policy: ReferralPolicy, now: datetime) -> ReferralPolicy:
    """Promise something for referrals; those made before keep what they were promised. Raises ProgramNotFound."""
    # From now on, locking somebody's account for an order looks for who referred them.
    if not await session.execute("UPDATE programs SET has_referrals = true WHERE id = $1", program_id):
        raise ProgramNotFound("No program has this id.")
    await session.execute(
        """
        INSERT INTO referral_policies
            (program_id, referrer_points, referee_points, min_spend, hold_days, cap, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (program_id) DO UPDATE SET referrer_points = excluded.referrer_points,
            referee_points = excluded.referee_points, min_spend = excluded.min_spend, hold_days = excluded.hold_days,
            cap = excluded.cap, updated_at = excluded.updated_at
        """,
        program_id, policy.referrer_points, policy.referee_points, Decimal(policy.min_spend), policy.hold_days,
        policy.cap, now,
    )  # fmt: skip
    return policy


async def policy(session: Session, *, program_id: UUID) -> ReferralPolicy:
    """What a program promises for referrals. Raises ReferralPolicyNotFound."""
    found = await _policy(session, program_id)
    if found is None:
        raise ReferralPolicyNotFound("Set it with PUT /v1/programs/{id}/referral-policy.")
    return found


async def end_policy(session: Session, *, program_id: UUID) -> None:
    """Promise nothing any more; referrals made before keep what they were promised. Raises ReferralPolicyNotFound."""
    if not await session.execute("DELETE FROM referral_policies WHERE program_id = $1", program_id):
        raise ReferralPolicyNotFound("The program promises nothing for referrals.")


async def code_of(session: Session, *, program_id: UUID | None, contact_id: UUID, now: datetime) -> ReferralCode:
    """A member's code, made when it is asked for first. Raises ContactNotFound, ProgramNotFound, ProgramRequired."""
    for _ in range(codes.TRIES_MAX):
        row = await session.fetchrow(_CODE, program_id, contact_id)
        if row is None or not row["contact_exists"]:
            await journal.require(session, program_id=program_id, contact_id=contact_id)
        assert row is not None, "what is not there has been refused"
        if row["code"] is not None:
            return ReferralCode(row["code"])
        code = codes.generate(PATTERN)
        if await session.fetchval(_MAKE, contact_id, row["program_id"], code, codes.canonical(code), now):
            return ReferralCode(code)
    raise codes.PatternUsedUp(f"No free code of '{PATTERN}' was found.")


async def refer(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    code: str,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> Referral:
    """Note that a member came with somebody's code. Their first order from now on that is large enough rewards both.

    Raises NotEligible with the reason, ContactNotFound, ProgramNotFound, MembershipSuspended, NotEnrolled.
    """
    owner = await codes.find(session, code=code, kind="referral")
    if owner is None or owner.contact_id is None or program_id not in {None, owner.program_id}:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
        raise _not_eligible("unknown_code", "Nobody refers with this code. Ask for it again.")
    if owner.contact_id == contact_id:
        raise _not_eligible("own_code", "Nobody can refer themselves.")
    referrer_id = owner.contact_id
    locked = await journal.lock(
        session, program_id=owner.program_id, contact_ids=[contact_id, referrer_id], now=now, once=once
    )
    locked.member(contact_id)
    promised, shown = await _admit(session, locked, contact_id, referrer_id)
    referral_id, min_spend = uuid7(), Decimal(promised.min_spend)
    points = {contact_id: promised.referee_points, referrer_id: promised.referrer_points}
    rows = [
        (
            one, referral_id, owner.program_id, role, other, shown, "pending", points[one], points[other],
            min_spend, promised.hold_days, now, by,
        )
        for one, role, other in ((contact_id, "referee", referrer_id), (referrer_id, "referrer", contact_id))
    ]  # fmt: skip
    referral = Referral(
        referral_id, owner.program_id, "referee", contact_id, referrer_id, shown, "pending", None,
        promised.referee_points, promised.min_spend, promised.hold_days, None, None, now, None, None, None,
    )  # fmt: skip
    entries = [
        timeline.entry(
            one, channel="loyalty", kind=kind, occurred_at=now, recorded_at=now, by=by,
            data={
                "program_id": owner.program_id, "referral_id": referral_id, "other_contact_id": other,
                "points": points[one],
            },
        )
        for one, kind, other in (
            (contact_id, "referral.referred", referrer_id), (referrer_id, "referral.made", contact_id),
        )
    ]  # fmt: skip
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(referrals, _COLUMNS, rows),
            *idempotency.answer(once, contact_id=contact_id, result=referral, now=now),
        ],
        entries=entries,
    )
    return referral


async def get(session: Session, *, contact_id: UUID, referral_id: UUID, now: datetime) -> Referral:
    """One referral, as this contact has it. Raises ReferralNotFound."""
    row = await session.fetchrow(
        f"SELECT {_VIEW} FROM referrals WHERE contact_id = $1 AND id = $2", contact_id, referral_id
    )
    if row is None:
        raise ReferralNotFound("This contact has no referral with this id.")
    return _view(row, now)


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, before: UUID | None, limit: int, now: datetime
) -> list[Referral]:
    """By whom a contact was referred, and whom they refer, newest first, older than `before`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT {_VIEW} FROM referrals
        WHERE contact_id = $1 AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
            AND EXISTS (SELECT FROM contacts WHERE id = $1)
            AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4
        """,
        contact_id, program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [_view(row, now) for row in rows]


async def _policy(session: Session, program_id: UUID) -> ReferralPolicy | None:
    row = await session.fetchrow(
        """
        SELECT referrer_points, referee_points, min_spend::text AS min_spend, hold_days, cap FROM referral_policies
        WHERE program_id = $1
        """,
        program_id,
    )
    if row is None:
        return None
    return ReferralPolicy(**{**row, "cap": None if row["cap"] is None else Cap(**row["cap"])})


async def _admit(session: Session, locked: Locked, contact_id: UUID, referrer_id: UUID) -> tuple[ReferralPolicy, str]:
    """What both sides are promised, and the code as it is shown. Raises NotEligible with the first reason."""
    program, now = locked.program, locked.now
    promised = await _policy(session, program.id)
    if promised is None:
        raise _not_eligible("not_offered", "The program promises nothing for referrals.")
    referrer = locked.books.get(referrer_id)
    if referrer is None or referrer.status != "active":
        raise _not_eligible("referrer_suspended", "Whose code this is does not take part in the program now.")
    zone, cap = program.terms.zone, promised.cap
    since = limits.starts_at(cap.per, local_day(now, zone), zone) if cap else now
    known = await session.fetchrow(_KNOWN, contact_id, referrer_id, program.id, since)
    assert known is not None, "it asks for no row of a table"
    if known["bought"]:
        raise _not_eligible("existing_customer", "This member has bought something already.")
    if known["referred"]:
        raise _not_eligible("already_referred", "This member came with a code already.")
    if known["mutual"]:
        raise _not_eligible("mutual", "This member has referred whose code this is.")
    if await referring.same_people(session, pairs=[(contact_id, referrer_id)]):
        raise _not_eligible("same_person", "The same e-mail address or phone reaches both.")
    if cap is not None and known["referrals_count"] >= cap.times:
        until = limits.resets_at(cap.per, local_day(now, zone), zone)
        raise _not_eligible("cap_reached", "Whose code this is has referred as many friends as one may.", until=until)
    return promised, known["code"]


def _not_eligible(reason: str, detail: str, **members: Any) -> NotEligible:
    return NotEligible(detail, reason=reason, **members)


def _view(row: Record, now: datetime) -> Referral:
    facts: Mapping[str, Any] = dict(row)
    begins_at = facts["activates_at"] or facts["qualified_at"]
    paid = facts["status"] == "qualified" and begins_at <= now
    return Referral(
        **{name: value for name, value in facts.items() if name not in {"other_id", "status"}},
        other_contact_id=facts["other_id"], status="paid" if paid else facts["status"],
    )  # fmt: skip
