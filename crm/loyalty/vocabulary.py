"""All that conditions about contacts can ask: one list for the API and for the worker."""

from datetime import UTC
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.contacts.vocabulary import Frame, Vocabulary
from crm.db.session import Session
from crm.interactions.contribution import INTERACTIONS
from crm.loyalty.contribution import KNOWN
from crm.loyalty.programs import ProgramNotFound


async def _frame(session: Session, program_id: UUID | None) -> Frame:
    """Where there is no program at all, nobody has points or a tier, and the calendar is that of UTC."""
    row = await session.fetchrow(
        "SELECT id, time_zone FROM programs WHERE id = $1 OR ($1 IS NULL AND is_default)", program_id
    )
    if row is not None:
        return Frame({"program_id": row["id"]}, ZoneInfo(row["time_zone"]))
    if program_id is not None:
        raise ProgramNotFound("No program has this id.")
    return Frame({"program_id": None}, UTC)


VOCABULARY: Final = Vocabulary(KNOWN, INTERACTIONS, _frame)
