"""How much a report may cost: it is broken off before others have to wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from crm.errors import Unavailable

SECONDS_MAX: Final = 20


class ReportTooLong(Unavailable):
    code = "report_too_long"
    title = "This report takes too long"


@asynccontextmanager
async def bounded(seconds: float = SECONDS_MAX) -> AsyncIterator[None]:
    """Break off what is asked of the database within, after so many seconds. Raises ReportTooLong."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise ReportTooLong(
            f"It was broken off after {seconds:g} seconds. Ask for fewer days, or again when less is going on."
        ) from error
