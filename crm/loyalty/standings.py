"""Where somebody stands in the default program, in two words: its name, and that of their tier."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import balances, journal, programs
from crm.loyalty.programs import ProgramRequired


@dataclass(frozen=True, slots=True)
class Standing:
    """`tier` is null for whoever has not reached the first one."""

    program_id: UUID
    program: str
    tier: str | None


async def find(session: Session, *, contact_id: UUID, now: datetime) -> Standing | None:
    """Where a contact stands at `now`; None before there is a program. Raises ContactNotFound."""
    try:
        found = await journal.read(session, program_id=None, contact_id=contact_id, now=now)
    except ProgramRequired:
        return None
    program = await programs.load(session, program_id=found.program_id, version=found.program_version)
    found.book.settle()
    current = balances.tier(found.book, program).current
    return Standing(program.id, program.name, None if current is None else current.name)
