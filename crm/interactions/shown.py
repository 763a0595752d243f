"""The part of a timeline that is shown to the person it is about.

What is not allowed here by name is left out: whole kinds, what staff wrote beside a fact, who did it, where it came
from, and every field of `data` that might name somebody else or how the business decides.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.interactions import changes

MESSAGE: Final = "message"
"""The one kind that others report which is shown, with its words, where it went from or to the person."""
_PROGRAM = frozenset({"program_id", "points"})
_POSTED = _PROGRAM | {"transaction_id", "available_after", "reason", "order_ref", "store"}
FACTS: Final[Mapping[str, frozenset[str]]] = {
    "purchase": _POSTED | {"total", "currency"},
    "points": _POSTED,
    "tier": frozenset({"program_id", "from", "to"}),
    "reward": _POSTED | {"reward_id", "redemption_id", "name", "quantity", "status", "expires_at"},
    "voucher": _PROGRAM | {"voucher_id", "code", "name", "status", "expires_at"},
    "challenge": _PROGRAM | {"challenge_id", "name", "current", "goal", "total", "completed"},
    "referral": _PROGRAM | {"code", "status"},
    "offer": _PROGRAM | {"offer_id", "code", "name", "status", "expires_at"},
    "survey": frozenset({"survey_id", "name", "score"}),
    "membership": frozenset({"program_id", "status", "terms_version"}),
}
"""How the other kinds begin, up to a dot, and what is shown of their `data`. Nobody can report these: they are ours."""
READ_MAX: Final = 1_000
"""How many interactions are looked at for one page, shown or not."""

Position = tuple[datetime, UUID]
"""The `(occurred_at, id)` of an interaction."""


@dataclass(slots=True)
class TimelineEntry:
    """Something that happened, as the person it happened with sees it. `subject` and `body` are those of a message."""

    id: UUID
    occurred_at: datetime
    channel: str
    kind: str
    direction: str | None
    subject: str | None
    body: str | None
    data: dict[str, Any]


async def page(
    session: Session, *, contact_id: UUID, before: Position | None, limit: int
) -> tuple[list[TimelineEntry], Position | None]:
    """What a contact is shown of their timeline, newest first, older than `before`; and from where to go on, if at all.

    At most READ_MAX interactions are looked at, so that there may be fewer entries than `limit`, or none, and still
    more to come. Raises ContactNotFound.
    """
    rows = await session.fetch(
        _query(before is not None), contact_id, limit + 1, READ_MAX, list(FACTS), *(before or ())
    )
    if not rows:
        raise ContactNotFound("No contact has this id.")
    if rows[0]["id"] is None:
        return [], None
    shown = [_entry(row) for row in rows[:limit] if row["shown"] and not _kept_back(row)]
    last = rows[limit - 1] if len(rows) > limit else rows[-1]
    return shown, (last["occurred_at"], last["id"]) if len(rows) > limit or last["place"] == READ_MAX else None


def _kept_back(row: Record) -> bool:
    """Whether it is a message of ours that has not gone, or never went."""
    return row["direction"] == "outbound" and changes.read(row["changes"]).state in changes.NOT_GONE


def _entry(row: Record) -> TimelineEntry:
    kind, data = row["kind"], row["data"]
    entry = TimelineEntry(
        row["id"], row["occurred_at"], row["channel"], kind, row["direction"], None, None, {}
    )  # fmt: skip
    if kind == MESSAGE:
        text = changes.read(row["changes"]).text
        entry.subject, entry.body = row["subject"], row["body"] if text is None else text
        return entry
    names = FACTS[kind.partition(".")[0]]
    entry.data = {name: value for name, value in data.items() if name in names}
    return entry


@functools.cache
def _query(after: bool) -> str:
    # The last of those looked at is there even where it is not shown: the next page begins behind it. The contact is
    # in the query so that an unknown one is told from one without history.
    return f"""
        SELECT i.* FROM contacts c LEFT JOIN LATERAL (
            SELECT *, {changes.select("newest")} AS changes FROM (
                SELECT contact_id, id, occurred_at, channel, kind, direction, subject, body, data, external_id,
                    (CASE WHEN kind = '{MESSAGE}' THEN direction IN ('inbound', 'outbound')
                        ELSE split_part(kind, '.', 1) = ANY ($4) AND direction IS DISTINCT FROM 'internal'
                    END) IS TRUE AS shown,
                    row_number() OVER (ORDER BY occurred_at DESC, id DESC) AS place
                FROM (
                    SELECT n.* FROM {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
                        SELECT * FROM interactions
                        WHERE contact_id = who.id{" AND (occurred_at, id) < ($5, $6)" if after else ""}
                        ORDER BY occurred_at DESC, id DESC LIMIT $3
                    ) n
                ) happened
                ORDER BY occurred_at DESC, id DESC LIMIT $3
            ) newest
            WHERE shown OR place = $3
            ORDER BY occurred_at DESC, id DESC LIMIT $2
        ) i ON true
        WHERE c.id = $1
        ORDER BY i.occurred_at DESC, i.id DESC
    """
