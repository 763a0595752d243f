"""What a merge does to cases: those that are not closed go to the survivor, and back again if nobody touched them.

Closed ones stay where they were, and are read under the other's id.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from crm.contacts.merging import Merging, Moved, NotUndone
from crm.db.session import Session

_UNCLOSED: Final = """
    SELECT id, version FROM cases WHERE contact_id = $1 AND status <> 'closed' AND subject IS NOT NULL ORDER BY id
"""
_PRESENT: Final = "SELECT id, version FROM cases WHERE contact_id = $1 AND id = ANY ($2)"
_MOVE: Final = """
    WITH directory AS (
        UPDATE case_directory SET contact_id = $2 WHERE id = ANY ($3)
    ), clocks AS (
        UPDATE case_clocks SET contact_id = $2 WHERE contact_id = $1 AND case_id = ANY ($3)
    ), conversations AS (
        UPDATE case_conversations SET contact_id = $2 WHERE contact_id = $1 AND case_id = ANY ($3)
    ), links AS (
        UPDATE case_links SET contact_id = $2 WHERE contact_id = $1 AND case_id = ANY ($3)
    )
    UPDATE cases SET contact_id = $2 WHERE contact_id = $1 AND id = ANY ($3)
"""


async def merge(session: Session, *, merging: Merging) -> Moved:
    """Let the survivor have the cases that are not closed."""
    rows = await session.fetch(_UNCLOSED, merging.other_id)
    await _move(session, merging.other_id, merging.contact_id, [row["id"] for row in rows])
    memory = {"cases": {str(row["id"]): row["version"] for row in rows}}
    return Moved({"cases": [str(row["id"]) for row in rows]} if rows else {}, memory)


async def undo(session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
    """Let the other have its cases again, but for those that were worked on since."""
    versions = {UUID(case_id): version for case_id, version in memory["cases"].items()}
    rows = await session.fetch(_PRESENT, merging.contact_id, list(versions))
    untouched = [row["id"] for row in rows if row["version"] == versions[row["id"]]]
    await _move(session, merging.contact_id, merging.other_id, untouched)
    if touched := len(versions) - len(untouched):
        return [NotUndone("cases_touched", f"{touched} cases were worked on since the merge and stay.")]
    return []


async def _move(session: Session, before: UUID, after: UUID, case_ids: Sequence[UUID]) -> None:
    if case_ids:
        await session.execute(_MOVE, before, after, list(case_ids))
