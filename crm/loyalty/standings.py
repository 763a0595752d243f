"""Where somebody stands in the default program, in two words: its name, and that of their tier."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import journal
from crm.loyalty.programs import ProgramRequired


@dataclass(frozen=True, slots=True)
class ProgramStanding:
    """`tier` is null for whoever has not reached the first one."""

    program_id: UUID
    program: str
    tier: str | None


async def find(session: Session, *, contact_id: UUID, now: datetime) -> ProgramStanding | None:
    """Where a contact stands at `now`; None before there is a program. Raises ContactNotFound."""
    try:
        found = await journal.read(session, program_id=None, contact_id=contact_id, now=now)
    except ProgramRequired:
        return None
    current = found.book.standing().current
    return ProgramStanding(found.program.id, found.program.name, None if current is None else current.name)
