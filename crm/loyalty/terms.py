"""Changing the terms of a program, with what that does to points already held."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.db.session import Session
from crm.loyalty import programs
from crm.loyalty.expiry import Expiry, start_of
from crm.loyalty.programs import ProgramView

# In key order, as every post takes its accounts.
_LOCK_ALL: Final = """
    SELECT count(*) FROM (
        SELECT FROM loyalty_accounts WHERE program_id = $1 ORDER BY contact_id FOR NO KEY UPDATE
    ) a
"""
# Open lots that may get another end: what is dead stays dead, and what waits for an event has not begun.
_MOVABLE: Final = """
    l.program_id = $1 AND l.kind = 'regular' AND l.remaining + l.held > 0 AND NOT l.fixed
    AND (l.active OR l.activates_at IS NOT NULL) AND (l.expires_at IS NULL OR $3 AND l.expires_at > $4)
"""
_BEGAN_ON: Final = "(greatest(l.activates_at, l.earned_at) AT TIME ZONE $2)::date"
# The days on which they begin, and so the ends that there are to work out: few, however many lots there are.
_BEGAN: Final = f"SELECT DISTINCT {_BEGAN_ON} AS began_on FROM points_lots l WHERE {_MOVABLE}"
_MOVE_ENDS: Final = f"""
    WITH ends AS (
        SELECT * FROM unnest($5::date[], $6::timestamptz[]) AS e (began_on, ends_at)
    ), moved AS (
        UPDATE points_lots l SET expires_at = e.ends_at
        FROM ends e, points_lots o
        WHERE o.contact_id = l.contact_id AND o.program_id = l.program_id AND o.id = l.id AND {_MOVABLE}
            AND e.began_on = {_BEGAN_ON} AND l.expires_at IS DISTINCT FROM e.ends_at
        RETURNING l.contact_id, l.id, l.remaining, o.expires_at AS ended_at, l.expires_at
    ), told AS (
        INSERT INTO points_lot_changes
            (contact_id, program_id, id, lot_id, expires_before, expires_after, reason, occurred_at, recorded_at, by)
        SELECT contact_id, $1, gen_random_uuid(), id, ended_at, expires_at, $7, $4, $4, 'system' FROM moved
    )
    UPDATE loyalty_accounts a SET next_due_at = least(a.next_due_at, m.ends_at)
    FROM (SELECT contact_id, min(expires_at) AS ends_at FROM moved WHERE remaining > 0 GROUP BY contact_id) m
    WHERE a.program_id = $1 AND a.contact_id = m.contact_id AND m.ends_at IS NOT NULL
"""


async def change(
    session: Session,
    *,
    program_id: UUID,
    version: int | None,
    changes: dict[str, Any],
    applies_to_all: bool = False,
    now: datetime,
) -> ProgramView:
    """Apply `changes`, as `programs.change` does.

    Turning expiry on starts the clock now for points that had no end: nobody loses any on the first night. Any other
    change of expiry leaves the points there are as they are, unless it `applies_to_all`, which may also be asked later;
    even then they last out today.
    Raises ProgramNotFound, StaleProgram.
    """
    before = await programs.get(session, program_id=program_id)
    after = await programs.change(session, program_id=program_id, version=version, changes=changes, now=now)
    turned_on = before.expiry["kind"] == "never" != after.expiry["kind"]
    if applies_to_all or turned_on:
        await _move_ends(session, after, all_lots=applies_to_all, turned_on=turned_on, now=now)
    return after


async def _move_ends(session: Session, program: ProgramView, *, all_lots: bool, turned_on: bool, now: datetime) -> None:
    expiry, zone = Expiry.of(program.expiry), ZoneInfo(program.time_zone)
    await session.execute("SET LOCAL statement_timeout = 0")
    await session.fetchval(_LOCK_ALL, program.id)
    began = [row["began_on"] for row in await session.fetch(_BEGAN, program.id, program.time_zone, all_lots, now)]
    tomorrow = Expiry("after", days=0).ends_at(now, zone)
    from_now = turned_on or expiry.kind == "sliding"
    starts = [max(now, start_of(day, zone)) if from_now else start_of(day, zone) for day in began]
    ends = [expiry.ends_at(at, zone) for at in starts]
    ends = [at if at is None or tomorrow is None else max(at, tomorrow) for at in ends]
    await session.execute(
        _MOVE_ENDS, program.id, program.time_zone, all_lots, now, began, ends,
        "expiry_turned_on" if turned_on else "expiry_changed",
    )  # fmt: skip
