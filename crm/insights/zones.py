"""In which time zone a report's days are."""

from typing import Final
from zoneinfo import ZoneInfo

from crm.db.session import Session

_DEFAULT: Final = "SELECT time_zone FROM programs WHERE is_default"


async def of(session: Session, *, named: ZoneInfo | None) -> ZoneInfo:
    """The zone that was named, or else that of the default program, or else UTC."""
    if named is not None:
        return named
    found: str | None = await session.fetchval(_DEFAULT)
    return ZoneInfo(found or "UTC")
