"""How long is kept what people wrote, and people with whom nothing happens any more; for good unless somebody says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record

from crm.contacts.contacts import ContactNotFound
from crm.contacts.durations import Duration
from crm.contacts.keeping import Keeper
from crm.db.session import Session
from crm.errors import NotFound
from crm.interactions import erasures

BY: Final = "system"
REASON: Final = "retention"
BATCH: Final = 500
"""How many contacts a transaction looks at."""

_SELECTED: Final = """
    messages_months, contacts_months, updated_at, updated_by, started_at, finished_at, messages_emptied, contacts_erased
"""
_NEXT: Final = "SELECT id FROM contacts WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2"
# By the index of the timeline: the old end of each contact's.
_OLD_MESSAGES: Final = """
    SELECT i.contact_id, i.id FROM (
        SELECT id FROM contacts WHERE id = ANY ($1)
        UNION ALL SELECT alias_id FROM contact_aliases WHERE contact_id = ANY ($1)
    ) who JOIN interactions i ON i.contact_id = who.id
    WHERE i.occurred_at < $2 AND i.kind = 'message' AND (i.body IS NOT NULL OR i.subject IS NOT NULL OR i.data <> '{}')
"""
_IDLE: Final = """
    SELECT c.id FROM contacts c WHERE c.id = ANY ($1) AND c.created_at < $2 AND NOT EXISTS (
        SELECT FROM interactions i WHERE i.occurred_at >= $2 AND i.kind NOT LIKE 'contact.%' AND i.contact_id = ANY (
            ARRAY(SELECT c.id UNION ALL SELECT a.alias_id FROM contact_aliases a WHERE a.contact_id = c.id)
        )
    ) ORDER BY c.id
"""


class NoRetentionPolicy(NotFound):
    code = "no_retention_policy"
    title = "Nothing goes by itself"


@dataclass(slots=True)
class RetentionPolicy:
    """After how many months messages lose their content, and contacts with whom nothing happened are erased.

    Null keeps them. `messages_emptied` and `contacts_erased` are what the last night came to, or has come to so far
    while `finished_at` lies before `started_at`.
    """

    messages_months: int | None
    contacts_months: int | None
    updated_at: datetime
    updated_by: str
    started_at: datetime | None
    finished_at: datetime | None
    messages_emptied: int
    contacts_erased: int


@dataclass(slots=True)
class RetentionPreview:
    """What a night would come to now."""

    messages: int
    contacts: int


async def get(session: Session) -> RetentionPolicy:
    """The policy. Raises NoRetentionPolicy."""
    row = await session.fetchrow(f"SELECT {_SELECTED} FROM retention_policies")
    if row is None:
        raise NoRetentionPolicy("Everything is kept until somebody erases it. PUT a policy to change that.")
    return _view(row)


async def put(
    session: Session, *, messages_months: int | None, contacts_months: int | None, by: str, now: datetime
) -> RetentionPolicy:
    """Say how long things are kept, from the next night on."""
    row = await session.fetchrow(
        f"""
        INSERT INTO retention_policies (messages_months, contacts_months, updated_at, updated_by)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (single) DO UPDATE SET messages_months = excluded.messages_months,
            contacts_months = excluded.contacts_months, updated_at = excluded.updated_at,
            updated_by = excluded.updated_by
        RETURNING {_SELECTED}
        """,
        messages_months, contacts_months, now, by,
    )  # fmt: skip
    return _view(row)


async def preview(session: Session, *, now: datetime) -> RetentionPreview:
    """How many messages and contacts the policy would take now. Raises NoRetentionPolicy."""
    policy = await get(session)
    messages, people, position = 0, 0, None
    while chunk := [row["id"] for row in await session.fetch(_NEXT, position, BATCH)]:
        position = chunk[-1]
        idle = await _idle(session, policy, chunk, now)
        people += len(idle)
        left = [contact_id for contact_id in chunk if contact_id not in set(idle)]
        messages += len(await _old_messages(session, policy, left, now))
    return RetentionPreview(messages, people)


async def begin(session: Session, *, now: datetime) -> bool:
    """Start a night, or go on with one that was broken off; False where there is nothing to do by the policy."""
    return bool(
        await session.execute(
            """
            UPDATE retention_policies SET
                started_at = CASE WHEN position IS NULL THEN $1 ELSE started_at END,
                messages_emptied = CASE WHEN position IS NULL THEN 0 ELSE messages_emptied END,
                contacts_erased = CASE WHEN position IS NULL THEN 0 ELSE contacts_erased END
            WHERE messages_months IS NOT NULL OR contacts_months IS NOT NULL
            """,
            now,
        )
    )


async def advance(session: Session, *, keepers: Sequence[Keeper], now: datetime) -> bool:
    """Carry the policy out for the next contacts; False after the last of them. Two at once take turns."""
    row = await session.fetchrow(f"SELECT {_SELECTED}, position FROM retention_policies FOR NO KEY UPDATE")
    if row is None:
        return False
    policy = _view(row)
    chunk = [each["id"] for each in await session.fetch(_NEXT, row["position"], BATCH)]
    erased = 0
    for contact_id in await _idle(session, policy, chunk, now):
        try:
            await erasures.erase(session, contact_id=contact_id, reason=REASON, keepers=keepers, by=BY, now=now)
        except ContactNotFound:  # somebody was faster
            continue
        erased += 1
    old = await _old_messages(session, policy, chunk, now)
    emptied = 0
    if old:
        owners = {owner for owner, _ in old}
        emptied = await session.fetchval(
            "SELECT empty_interactions($1::uuid[], $2::uuid[])", list(owners), [one for _, one in old]
        )
    await session.execute(
        """
        UPDATE retention_policies SET position = $1, messages_emptied = messages_emptied + $2,
            contacts_erased = contacts_erased + $3,
            finished_at = CASE WHEN $1::uuid IS NULL THEN $4 ELSE finished_at END
        """,
        chunk[-1] if chunk else None, emptied, erased, now,
    )  # fmt: skip
    return bool(chunk)


async def _idle(session: Session, policy: RetentionPolicy, chunk: Sequence[UUID], now: datetime) -> list[UUID]:
    if policy.contacts_months is None:
        return []
    since = Duration(months=policy.contacts_months).before(now)
    return [row["id"] for row in await session.fetch(_IDLE, chunk, since)]


async def _old_messages(
    session: Session, policy: RetentionPolicy, chunk: Sequence[UUID], now: datetime
) -> list[tuple[UUID, UUID]]:
    if policy.messages_months is None:
        return []
    since = Duration(months=policy.messages_months).before(now)
    rows = await session.fetch(_OLD_MESSAGES, chunk, since)
    return [(row["contact_id"], row["id"]) for row in rows]


def _view(row: Record | None) -> RetentionPolicy:
    assert row is not None, "it was written just now"
    return RetentionPolicy(**{name: row[name] for name in RetentionPolicy.__slots__})
