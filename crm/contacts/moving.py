"""What a merge does to suggestions: the pair itself is decided, and the other's pairs are the survivor's too.

The other's own rows stay, unseen while the other is no contact, for an undoing.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from crm.contacts.merging import Merging, Moved, NotUndone
from crm.contacts.suggestions import Pair
from crm.db.session import Session

_DECIDE: Final = """
    UPDATE duplicate_pairs SET status = 'merged', decided_at = $3, decided_by = $4
    WHERE contact_id = $1 AND other_id = $2
"""
_COPY: Final = """
    INSERT INTO duplicate_pairs (contact_id, other_id, score, reasons, status, found_at, decided_at, decided_by)
    SELECT least($1, t.id), greatest($1, t.id), p.score, p.reasons, p.status, p.found_at, p.decided_at, p.decided_by
    FROM duplicate_pairs p
    CROSS JOIN LATERAL (SELECT CASE WHEN p.contact_id = $2 THEN p.other_id ELSE p.contact_id END AS id) t
    WHERE (p.contact_id = $2 OR p.other_id = $2) AND p.status <> 'merged' AND t.id <> $1
    ON CONFLICT (contact_id, other_id) DO NOTHING
    RETURNING contact_id, other_id
"""
_REMOVE: Final = """
    DELETE FROM duplicate_pairs p USING unnest($1::uuid[], $2::uuid[]) AS v (contact_id, other_id)
    WHERE p.contact_id = v.contact_id AND p.other_id = v.other_id AND p.status = 'open'
"""
_REOPEN: Final = """
    UPDATE duplicate_pairs SET status = 'open', decided_at = NULL, decided_by = NULL
    WHERE contact_id = $1 AND other_id = $2 AND status = 'merged'
"""


async def merge(session: Session, *, merging: Merging) -> Moved:
    """Note that the pair was merged, and suggest of the survivor what was suggested of the other."""
    pair = Pair.of(merging.contact_id, merging.other_id)
    await session.execute(_DECIDE, pair.contact_id, pair.other_id, merging.now, merging.by)
    copied = await session.fetch(_COPY, merging.contact_id, merging.other_id)
    return Moved({}, {"pairs": [[str(one) for one in row] for row in copied]})


async def undo(session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
    """Suggest the pair again, and of the survivor only what was its own; what somebody has dismissed since stays so."""
    pair = Pair.of(merging.contact_id, merging.other_id)
    await session.execute(_REOPEN, pair.contact_id, pair.other_id)
    pairs = [[UUID(one) for one in row] for row in memory["pairs"]]
    await session.execute(_REMOVE, [row[0] for row in pairs], [row[1] for row in pairs])
    return []
