"""What a merge does to runs of playbooks: those of the other go on with the survivor, but for what the survivor had."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from crm.contacts.merging import Merging, Moved, NotUndone
from crm.db import writes
from crm.db.session import Session
from crm.interactions import timeline
from crm.playbooks import runs

MERGED: Final = "merged"

# An occasion of which both have a run has one: that of the survivor.
_END: Final = """
    UPDATE playbook_runs o SET status = 'cancelled', reason = $3, due_at = NULL, ended_at = $4
    WHERE o.contact_id = $2 AND o.status = 'running' AND EXISTS (
        SELECT FROM playbook_runs s
        WHERE s.contact_id = $1 AND s.playbook_id = o.playbook_id AND s.occasion = o.occasion
    )
    RETURNING o.id, o.playbook_id, o.occasion
"""
_MOVE: Final = """
    WITH moved AS (
        UPDATE playbook_runs o SET contact_id = $1
        WHERE o.contact_id = $2 AND ($3::uuid[] IS NULL OR o.id = ANY ($3)) AND NOT EXISTS (
            SELECT FROM playbook_runs s
            WHERE s.contact_id = $1 AND s.playbook_id = o.playbook_id AND s.occasion = o.occasion
        )
        RETURNING o.id
    ), steps AS (
        UPDATE playbook_steps t SET contact_id = $1 FROM moved m WHERE t.contact_id = $2 AND t.run_id = m.id
    )
    SELECT id FROM moved ORDER BY id
"""
_RESUME: Final = """
    UPDATE playbook_runs SET status = 'running', reason = NULL, ended_at = NULL, due_at = $4
    WHERE contact_id = $1 AND id = ANY ($2) AND status = 'cancelled' AND reason = $3
"""


async def merge(session: Session, *, merging: Merging) -> Moved:
    """Move the runs, and end those that would be the survivor's twice."""
    ended = await session.fetch(_END, merging.contact_id, merging.other_id, MERGED, merging.now)
    moved = await session.fetch(_MOVE, merging.contact_id, merging.other_id, None)
    told = [
        runs.entry(
            merging.contact_id, "cancelled", run_id=row["id"], playbook_id=row["playbook_id"], by=merging.by,
            now=merging.now, occasion=row["occasion"], reason=MERGED,
        )
        for row in ended
    ]  # fmt: skip
    await writes.write(session, [timeline.part(told)])
    shown = {"playbook_runs": len(moved)} if moved else {}
    return Moved(shown, {"runs": [str(row["id"]) for row in moved], "ended": [str(row["id"]) for row in ended]})


async def undo(session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
    """Move them back, as far as they have come; those that were ended go on."""
    wanted = [UUID(one) for one in memory["runs"]]
    await session.fetch(_MOVE, merging.other_id, merging.contact_id, wanted)
    ended = [UUID(one) for one in memory["ended"]]
    await session.execute(_RESUME, merging.other_id, ended, MERGED, merging.now)
    return []
