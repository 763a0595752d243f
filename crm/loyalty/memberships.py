"""Memberships: who belongs to a program, whether they take part at present, and which of its terms they accepted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record

from crm.contacts import contacts
from crm.db.session import Session
from crm.db.writes import Update, write
from crm.errors import NotFound
from crm.interactions import timeline
from crm.loyalty import journal
from crm.loyalty.tables import loyalty_accounts

Status: TypeAlias = Literal["active", "paused", "closed"]

_VIEW: Final = "program_id, status, terms_version, enrolled_at"
# Who is deleted meanwhile is not enrolled.
_ENROL: Final = f"""
    INSERT INTO loyalty_accounts (contact_id, program_id, status, terms_version, enrolled_at, updated_at)
    SELECT c.id, p.id, $3, $4, $5, $5
    FROM (SELECT id FROM contacts WHERE id = $1 FOR KEY SHARE) c, programs p WHERE p.id = $2
    ON CONFLICT (contact_id, program_id) DO NOTHING
    RETURNING {_VIEW}
"""
_LOCK: Final = f"""
    SELECT {_VIEW} FROM loyalty_accounts WHERE contact_id = $1 AND program_id = $2 FOR NO KEY UPDATE
"""
_WORDS: Final = {"active": "resumed", "paused": "paused", "closed": "closed"}


class MembershipNotFound(NotFound):
    code = "membership_not_found"
    title = "The contact is not a member of this program"


@dataclass(slots=True)
class Membership:
    """A contact's membership of a program. Whoever is paused or closed neither earns nor spends."""

    program_id: UUID
    status: Status
    terms_version: str | None
    enrolled_at: datetime


async def put(
    session: Session,
    *,
    program_id: UUID,
    contact_id: UUID,
    status: Status,
    terms_version: str | None,
    by: str,
    now: datetime,
) -> Membership:
    """Enrol a contact, or say that a membership has changed; what is so already changes nothing.

    Without a `terms_version` the one that was accepted stays. Points stay, and still end in their time.
    Raises ContactNotFound, ProgramNotFound.
    """
    before = await session.fetchrow(_LOCK, contact_id, program_id)
    if before is None:
        row = await session.fetchrow(_ENROL, contact_id, program_id, status, terms_version, now)
        if row is not None:
            membership = _view(row)
            await write(session, [timeline.part([_entry(contact_id, membership, "enrolled", by, now)])])
            return membership
        await journal.require(session, program_id=program_id, contact_id=contact_id)
        before = await session.fetchrow(_LOCK, contact_id, program_id)
    membership = _view(before)
    words = []
    if status != membership.status:
        words.append(_WORDS[status])
    if terms_version is not None and terms_version != membership.terms_version:
        words.append("terms_accepted")
    if words:
        membership.status, membership.terms_version = status, terms_version or membership.terms_version
        values = (contact_id, program_id, status, membership.terms_version, now)
        await write(
            session,
            [
                Update(
                    loyalty_accounts, ("contact_id", "program_id", "status", "terms_version", "updated_at"), [values], 2
                ),
                timeline.part([_entry(contact_id, membership, word, by, now) for word in words]),
            ],
        )
    return membership


async def get(session: Session, *, program_id: UUID, contact_id: UUID) -> Membership:
    """A contact's membership of a program. Raises MembershipNotFound."""
    row = await session.fetchrow(
        f"SELECT {_VIEW} FROM loyalty_accounts WHERE contact_id = $1 AND program_id = $2", contact_id, program_id
    )
    if row is None:
        raise MembershipNotFound("A first purchase enrols, or a PUT of the membership.")
    return _view(row)


async def page(session: Session, *, contact_id: UUID, after: UUID | None, limit: int) -> list[Membership]:
    """A contact's memberships in the order in which their programs were made. Raises ContactNotFound."""
    rows = await session.fetch(
        f"""
        SELECT {_VIEW} FROM loyalty_accounts WHERE contact_id = $1 AND ($2::uuid IS NULL OR program_id > $2)
            AND EXISTS (SELECT FROM contacts WHERE id = $1)
        ORDER BY program_id LIMIT $3
        """,
        contact_id, after, limit,
    )  # fmt: skip
    if not rows:
        await contacts.get(session, contact_id=contact_id)
    return [_view(row) for row in rows]


def _entry(contact_id: UUID, membership: Membership, word: str, by: str, now: datetime) -> tuple[Any, ...]:
    return timeline.entry(
        contact_id, channel="loyalty", kind=f"membership.{word}", occurred_at=now, recorded_at=now, by=by,
        data={
            "program_id": membership.program_id, "status": membership.status,
            "terms_version": membership.terms_version,
        },
    )  # fmt: skip


def _view(row: Record | None) -> Membership:
    assert row is not None, "an account is never deleted"
    return Membership(**dict(row))
