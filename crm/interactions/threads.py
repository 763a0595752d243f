"""Threads: consecutive messages of one contact on one channel account."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text, Uuid

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert, Update
from crm.errors import NotFound

threads = Table(
    "threads",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("hint", Text),
    Column("opened_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("last_inbound_at", Instant),
    Column("messages_count", BigInteger, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in threads.c)
_VIEW: Final = "t.id, t.account_id, t.channel, t.opened_at, t.last_at, t.last_inbound_at, t.messages_count"


class ThreadNotFound(NotFound):
    code = "thread_not_found"
    title = "There is no such thread"


@dataclass(slots=True)
class Thread:
    """Messages that belong together: from `opened_at` to `last_at`, the last from the contact at `last_inbound_at`.

    Its messages are those of the timeline with `thread_id`.
    """

    contact_id: UUID
    id: UUID
    account_id: UUID
    channel: str
    opened_at: datetime
    last_at: datetime
    last_inbound_at: datetime | None
    messages_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message for which a thread is looked for.

    It joins one with its `hint` whatever the time between; without, one without in which something was said less than
    a `gap` before or after it.
    """

    contact_id: UUID
    account_id: UUID
    channel: str
    occurred_at: datetime
    inbound: bool
    hint: str | None
    gap: timedelta


@dataclass(frozen=True, slots=True)
class _Open:
    contact_id: UUID
    id: UUID
    account_id: UUID
    channel: str
    hint: str | None
    opened_at: datetime
    last_at: datetime
    last_inbound_at: datetime | None
    messages_count: int

    def takes(self, said: Said) -> bool:
        if (self.contact_id, self.account_id, self.hint) != (said.contact_id, said.account_id, said.hint):
            return False
        return said.hint is not None or self.opened_at - said.gap < said.occurred_at < self.last_at + said.gap

    def far_from(self, said: Said) -> timedelta:
        return max(self.opened_at - said.occurred_at, said.occurred_at - self.last_at, timedelta(0))

    def with_(self, said: Said) -> "_Open":
        inbound = [at for at in (self.last_inbound_at, said.occurred_at if said.inbound else None) if at is not None]
        return replace(
            self,
            opened_at=min(self.opened_at, said.occurred_at),
            last_at=max(self.last_at, said.occurred_at),
            last_inbound_at=max(inbound, default=None),
            messages_count=self.messages_count + 1,
        )


async def assign(session: Session, *, said: Sequence[Said]) -> list[tuple[UUID, bool]]:
    """The threads of new messages, each with whether the message begins it, in their order, in two round trips.

    The contacts have to be locked.

    Of several threads that a message could join, it joins the nearest.
    """
    if not said:
        return []
    rows = await session.fetch(
        _NEAR,
        [one.contact_id for one in said],
        [one.account_id for one in said],
        [one.hint for one in said],
        [one.occurred_at - one.gap for one in said],
        [one.occurred_at + one.gap for one in said],
    )
    known = {row["id"]: _Open(*row) for row in rows}
    now = dict(known)
    of: dict[tuple[UUID, UUID], list[UUID]] = {}
    for thread in known.values():
        of.setdefault((thread.contact_id, thread.account_id), []).append(thread.id)
    chosen: dict[int, tuple[UUID, bool]] = {}
    # In the order in which they were said, so that one batch makes the threads that its messages one by one would.
    for number in sorted(range(len(said)), key=lambda number: said[number].occurred_at):
        one = said[number]
        ids = of.setdefault((one.contact_id, one.account_id), [])
        fitting = [now[id] for id in ids if now[id].takes(one)]  # noqa: A001
        thread = min(fitting, key=lambda each: each.far_from(one)) if fitting else _opened(one)
        if not fitting:
            ids.append(thread.id)
        now[thread.id] = thread.with_(one)
        chosen[number] = thread.id, not fitting
    await writes.write(session, [
        Insert(threads, _COLUMNS, [_row(thread) for thread in now.values() if thread.id not in known]),
        Update(threads, _COLUMNS, [_row(thread) for thread in now.values() if known.get(thread.id, thread) != thread],
               2),
    ])  # fmt: skip
    return [chosen[number] for number in range(len(said))]


async def join(session: Session, *, contact_id: UUID, thread_id: UUID, at: datetime) -> None:
    """Say that a message of ours was added to a thread of a contact, who is locked. Raises ThreadNotFound."""
    joined = await session.execute(
        f"""
        UPDATE threads t SET last_at = greatest(t.last_at, $3), messages_count = t.messages_count + 1
        FROM {aliases.known_as("$1::uuid")} who WHERE t.contact_id = who.id AND t.id = $2
        """,
        contact_id, thread_id, at,
    )  # fmt: skip
    if not joined:
        raise ThreadNotFound("This contact has no thread with this id.")


async def get(session: Session, *, contact_id: UUID, thread_id: UUID) -> Thread:
    """One thread of a contact. Raises ThreadNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_VIEW} FROM {aliases.known_as("$1::uuid")} who JOIN threads t ON t.contact_id = who.id AND t.id = $2
        """,
        contact_id, thread_id,
    )  # fmt: skip
    if row is None:
        raise ThreadNotFound("This contact has no thread with this id.")
    return _view(contact_id, row)


async def page(session: Session, *, contact_id: UUID, before: tuple[datetime, UUID] | None, limit: int) -> list[Thread]:
    """A contact's threads, in which something was said last first, from behind the `(last_at, id)` of `before`.

    Raises ContactNotFound.
    """
    rows = await session.fetch(
        f"""
        SELECT t.* FROM contacts c LEFT JOIN LATERAL (
            SELECT n.* FROM {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
                SELECT {_VIEW} FROM threads t
                WHERE t.contact_id = who.id AND ($3::timestamptz IS NULL OR (t.last_at, t.id) < ($3, $4))
                ORDER BY t.last_at DESC, t.id DESC LIMIT $2
            ) n
            ORDER BY n.last_at DESC, n.id DESC LIMIT $2
        ) t ON true
        WHERE c.id = $1
        ORDER BY t.last_at DESC, t.id DESC
        """,
        contact_id, limit, *(before or (None, None)),
    )  # fmt: skip
    if not rows:
        raise ContactNotFound("No contact has this id.")
    return [] if rows[0]["id"] is None else [_view(contact_id, row) for row in rows]


def _opened(said: Said) -> _Open:
    at = said.occurred_at
    return _Open(said.contact_id, uuid7(), said.account_id, said.channel, said.hint, at, at, None, 0)


def _row(thread: _Open) -> tuple[object, ...]:
    return tuple(getattr(thread, name) for name in _COLUMNS)


def _view(contact_id: UUID, row: Record) -> Thread:
    return Thread(contact_id, *row)


_NEAR: Final = f"""
    SELECT {", ".join(f"t.{name}" for name in _COLUMNS)} FROM threads t
    WHERE (t.contact_id, t.id) IN (
        SELECT n.contact_id, n.id
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[])
            AS g (contact_id, account_id, hint, since, until)
        CROSS JOIN LATERAL (
            (SELECT contact_id, id FROM threads
             WHERE contact_id = g.contact_id AND account_id = g.account_id AND hint = g.hint LIMIT 1)
            UNION ALL
            (SELECT contact_id, id FROM threads
             WHERE g.hint IS NULL AND contact_id = g.contact_id AND account_id = g.account_id AND hint IS NULL
                AND opened_at < g.until AND last_at > g.since
             ORDER BY opened_at DESC LIMIT 3)
        ) n
    )
"""
