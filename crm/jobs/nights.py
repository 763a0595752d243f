"""Each program's night soon after its local midnight, and what is due on accounts at other times of the day."""

import time
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from crm.db.session import Database
from crm.loyalty import nights
from crm.loyalty.nights import Clock, Night, Watch

ACCOUNTS_LOGGED: Final = 10_000
"""After how many accounts a long night says how far it is."""

_log = structlog.get_logger(__name__)


async def work_off_nights(database: Database, *, now: datetime) -> None:
    """The nights that have begun, or were missed, one program after the other."""
    async with database.reading() as session:
        program_ids = await nights.pending(session, now=now)
    clock = _from(now)
    for program_id in program_ids:
        watch = _watch(program_id)
        await _alone("night", program_id, nights.run(database, program_id=program_id, at=now, clock=clock, watch=watch))


async def settle_accounts(database: Database, *, now: datetime) -> None:
    """Holds that time out and points that begin or end during the day; reads know it before."""
    async with database.reading() as session:
        program_ids = await nights.due(session, now=now)
    clock = _from(now)
    for program_id in program_ids:
        watch = _watch(program_id)
        await _alone("settling", program_id, nights.settle(database, program_id=program_id, clock=clock, watch=watch))


async def _alone(what: str, program_id: UUID, work: Awaitable[Night]) -> None:
    """What goes wrong in one program is tried again at the next time, and stops no other."""
    started = time.monotonic()
    try:
        night = await work
    except Exception:  # noqa: BLE001 - whatever it is, the other programs have done nothing to deserve it
        _log.exception(f"{what}_failed", program_id=program_id)
        return
    _log.info(
        f"{what}_finished",
        program_id=program_id,
        nights=len(night.nights),
        accounts=night.accounts,
        activated=night.activated.points,
        released=night.released.points,
        birthdays=night.birthdays.members,
        anniversaries=night.anniversaries.members,
        tiers_changed=night.tiers_changed,
        expired=night.expired.points,
        left_out=night.left_out,
        seconds=round(time.monotonic() - started, 1),
    )


def _watch(program_id: UUID) -> Watch:
    told = 0

    def watch(done: int, total: int) -> None:
        nonlocal told
        if done - told >= ACCOUNTS_LOGGED:
            told = done
            _log.info("night_goes_on", program_id=program_id, accounts=done, of=total)

    return watch


def _from(now: datetime) -> Clock:
    """A clock that shows `now` and goes on, whatever is done to that of the machine."""
    started = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - started)
