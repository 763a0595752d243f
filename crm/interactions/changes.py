"""What became of messages: states, new texts, signs put on them, and that one was taken back.

Each change is a row of its own, in whatever order they come; what a message looks like now follows from all of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import Column, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.db import writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert

Kind: TypeAlias = Literal["state", "edited", "unsent", "reaction", "attached"]
Pair: TypeAlias = tuple[str, str]
"""The source and the external id of a message."""

RANKS: Final[Mapping[str, int]] = {"queued": 0, "cancelled": 1, "unknown": 2, "sent": 3, "delivered": 4, "read": 5}
"""A state moves up only. What was cancelled never went; of what is unknown nobody can say whether it did."""
OURS: Final = frozenset({"cancelled", "unknown"})
"""States that no provider tells of."""
FAILED: Final = "failed"
NOT_GONE: Final = frozenset({"queued", "cancelled", FAILED})
"""States of a message that the person has not got."""
PROOFS: Final = frozenset({"delivered", "read"})
"""States of what did not fail after all."""
SHOWN_MAX: Final = 100
"""How many changes of one message are looked at, the newest."""
MARKED_MAX: Final = 1_000
"""To how many messages, the newest, one watermark is applied."""
FIRST_MARK_REACHES: Final = timedelta(days=30)
"""How far back the first watermark of somebody is applied."""
SETTLED_MAX: Final = 1_000

interaction_changes = Table(
    "interaction_changes",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("interaction_id", Uuid, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)
waiting_changes = Table(
    "waiting_changes",
    metadata,
    Column("source", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)
message_watermarks = Table(
    "message_watermarks",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("until", Instant, nullable=False),
    Column("occurred_at", Instant, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that became of the message `of`; again with the same `key`, it is the same change."""

    of: Pair
    kind: Kind
    key: str
    data: Mapping[str, Any] = field(default_factory=dict)
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Every message to a contact from `source` that occurred by `until` reached a state."""

    contact_id: UUID
    source: str
    state: str
    until: datetime
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a change; one whose message is not here yet waits for it, and has no interaction."""

    outcome: Literal["recorded", "duplicate", "waiting"]
    contact_id: UUID | None = None
    interaction_id: UUID | None = None


@dataclass(slots=True)
class Reacted:
    """A sign that is on a message now."""

    emoji: str
    occurred_at: datetime


@dataclass(slots=True)
class Look:
    """What a message looks like after its changes: another `text`, later `attachments`."""

    state: str | None = None
    error: dict[str, Any] | None = None
    text: str | None = None
    edited_at: datetime | None = None
    unsent_at: datetime | None = None
    reactions: list[Reacted] = field(default_factory=list)
    attachments: list[dict[str, Any]] = field(default_factory=list)


async def apply_all(session: Session, *, changes: Sequence[Change], now: datetime) -> list[Applied]:
    """Write down changes, each beside its message; in order, what came of each."""
    if not changes:
        return []
    # The locks keep the numbers of changes apart; everybody takes them in one order.
    found = await session.fetch(_FIND, *_columns({change.of for change in changes}))
    messages = {(row["source"], row["external_id"]): (row["contact_id"], row["id"]) for row in found}
    known = [(*messages[change.of], change) for change in changes if change.of in messages]
    new = await _write(session, known, now=now)
    await writes.write(session, [_waiting([change for change in changes if change.of not in messages], now)])
    await _empty(session, [(of, id) for of, id, change in known if change.kind == "unsent"])  # noqa: A001
    applied = []
    for change in changes:
        if change.of not in messages:
            applied.append(Applied("waiting"))
            continue
        contact_id, interaction_id = messages[change.of]
        is_new = (interaction_id, change.key) in new
        new.discard((interaction_id, change.key))
        applied.append(Applied("recorded" if is_new else "duplicate", contact_id, interaction_id))
    return applied


async def catch_up(session: Session, *, messages: Collection[Pair], now: datetime) -> None:
    """Apply what was told of messages before they were recorded; for whoever has just recorded them."""
    if not messages:
        return
    rows = await session.fetch(_TAKE_WAITING, *_columns(messages))
    await apply_all(session, changes=[_change(row) for row in rows], now=now)
    marked = await session.fetch(_MARKED_BEFORE, *_columns(messages))
    await _write(session, [_reached(row, row["state"], row["occurred_at"]) for row in marked], now=now)


async def settle(session: Session, *, now: datetime) -> int:
    """Apply what still waits for a message that is there: the two were written at the same moment. How many."""
    rows = await session.fetch(_TAKE_SETTLED, SETTLED_MAX)
    await apply_all(session, changes=[_change(row) for row in rows], now=now)
    return len(rows)


async def forget(session: Session, *, older_than: datetime) -> int:
    """Give up what has waited long enough for a message that never came; how many."""
    return await session.execute("DELETE FROM waiting_changes WHERE recorded_at < $1", older_than)


async def mark(session: Session, *, mark: Mark, now: datetime) -> int:
    """Let the messages to a contact, who is locked, reach the state of a watermark; how many did.

    It holds for those too that are recorded later, by `catch_up`.
    """
    before = await session.fetchval(_WATERMARK, mark.contact_id, mark.source, mark.state)
    since = before or mark.until - FIRST_MARK_REACHES
    if since >= mark.until:
        return 0
    await session.execute(
        _RAISE_WATERMARK, mark.contact_id, mark.source, mark.state, mark.until, mark.occurred_at
    )  # fmt: skip
    rows = await session.fetch(_MARKED, mark.contact_id, mark.source, since, mark.until, MARKED_MAX)
    return len(await _write(session, [_reached(row, mark.state, mark.occurred_at) for row in rows], now=now))


def state(of: Pair, state: str, *, data: Mapping[str, Any] | None = None, occurred_at: datetime) -> Change:
    """That a message reached a state, which it does once."""
    return Change(
        of=of, kind="state", key=f"state:{state}", data={**(data or {}), "state": state}, occurred_at=occurred_at
    )


def look(changes: Iterable[tuple[str, Mapping[str, Any], datetime]]) -> Look:
    """What follows from changes, as `(kind, data, occurred_at)`; the order counts only for two of the same instant.

    What failed has failed for good, unless it was delivered later.
    """
    now = Look()
    states: dict[str, datetime] = {}
    errors: dict[datetime, dict[str, Any] | None] = {}
    reactions: dict[str, tuple[datetime, str | None]] = {}
    for kind, data, at in changes:
        match kind:
            case "state":
                states[data["state"]] = max(at, states.get(data["state"], at))
                if data["state"] == FAILED:
                    errors[at] = data.get("error")
            case "edited" if now.edited_at is None or at >= now.edited_at:
                now.edited_at, now.text = at, data.get("text")
            case "unsent":
                now.unsent_at = min(now.unsent_at or at, at)
            case "reaction" if data and at >= reactions.get(data["by"], (at, None))[0]:
                reactions[data["by"]] = (at, data["emoji"])
            case "attached":
                now.attachments += data.get("attachments", [])
    failed_at = states.pop(FAILED, None)
    if failed_at is not None and not any(at >= failed_at for name, at in states.items() if name in PROOFS):
        now.state, now.error = FAILED, errors[failed_at]
    elif states:
        now.state = max(states, key=RANKS.__getitem__)
    now.reactions = [Reacted(emoji, at) for at, emoji in sorted(reactions.values(), key=_when) if emoji]
    if now.unsent_at is not None:
        now.text, now.reactions, now.attachments = None, [], []
    return now


def select(row: str) -> str:
    """In SQL, the changes of the interaction `row` as `look` reads them; NULL where nothing can have become of it."""
    return f"""
        CASE WHEN {row}.external_id IS NOT NULL THEN (
            SELECT jsonb_agg(jsonb_build_array(h.kind, h.data, h.occurred_at) ORDER BY h.seq) FROM (
                SELECT seq, kind, data, occurred_at FROM interaction_changes
                WHERE contact_id = {row}.contact_id AND interaction_id = {row}.id
                ORDER BY seq DESC LIMIT {SHOWN_MAX}
            ) h
        ) END
    """


def read(stored: Sequence[tuple[str, Mapping[str, Any], str]] | None) -> Look:
    """`look` for what `select` selected."""
    return look((kind, data, msgspec.convert(at, datetime)) for kind, data, at in stored or ())


async def _write(
    session: Session, changes: Sequence[tuple[UUID, UUID, Change]], *, now: datetime
) -> set[tuple[UUID, str]]:
    """Those that are new, as `(interaction_id, key)`."""
    if not changes:
        return set()
    rows = await session.fetch(
        _WRITE,
        [contact_id for contact_id, _, _ in changes],
        [interaction_id for _, interaction_id, _ in changes],
        [change.kind for _, _, change in changes],
        [change.key for _, _, change in changes],
        [msgspec.json.encode(change.data).decode() for _, _, change in changes],
        [change.occurred_at for _, _, change in changes],
        now,
    )
    return {(row["interaction_id"], row["key"]) for row in rows}


async def _empty(session: Session, interactions: Collection[tuple[UUID, UUID]]) -> None:
    """Take the content from messages that were taken back."""
    if interactions:
        contact_ids, ids = zip(*interactions, strict=True)
        await session.execute("SELECT empty_interactions($1, $2)", list({*contact_ids}), list(ids))


def _waiting(changes: Iterable[Change], now: datetime) -> Insert:
    return Insert(
        waiting_changes,
        ("source", "external_id", "key", "kind", "data", "occurred_at", "recorded_at"),
        sorted(
            ((*change.of, change.key, change.kind, dict(change.data), change.occurred_at, now) for change in changes),
            key=lambda row: row[:3],
        ),
        on_conflict="DO NOTHING",
    )


def _change(row: Any) -> Change:
    return Change(
        of=(row["source"], row["external_id"]), kind=row["kind"], key=row["key"], data=row["data"],
        occurred_at=row["occurred_at"],
    )  # fmt: skip


def _reached(row: Any, name: str, occurred_at: datetime) -> tuple[UUID, UUID, Change]:
    return row["contact_id"], row["id"], state((row["source"], row["external_id"]), name, occurred_at=occurred_at)


def _when(dated: tuple[datetime, Any]) -> datetime:
    return dated[0]


def _columns(pairs: Collection[Pair]) -> tuple[list[str], list[str]]:
    ordered = sorted(pairs)
    return [source for source, _ in ordered], [external_id for _, external_id in ordered]


_GIVEN: Final = "unnest($1::text[], $2::text[]) AS g (source, external_id)"

_FIND: Final = f"""
    SELECT d.source, d.external_id, i.contact_id, i.id
    FROM {_GIVEN}
    JOIN interaction_directory d ON d.source = g.source AND d.external_id = g.external_id
    JOIN interactions i ON i.contact_id = d.contact_id AND i.id = d.interaction_id
    ORDER BY i.contact_id, i.id
    FOR NO KEY UPDATE OF i
"""

_TAKE_WAITING: Final = f"""
    DELETE FROM waiting_changes w USING {_GIVEN}
    WHERE w.source = g.source AND w.external_id = g.external_id
    RETURNING w.source, w.external_id, w.key, w.kind, w.data, w.occurred_at
"""

_TAKE_SETTLED: Final = """
    WITH settled AS (
        SELECT w.source, w.external_id, w.key FROM waiting_changes w
        WHERE EXISTS (
            SELECT FROM interaction_directory d WHERE d.source = w.source AND d.external_id = w.external_id
        )
        ORDER BY w.source, w.external_id, w.key LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM waiting_changes w USING settled s
    WHERE w.source = s.source AND w.external_id = s.external_id AND w.key = s.key
    RETURNING w.source, w.external_id, w.key, w.kind, w.data, w.occurred_at
"""

# Of what was taken back nothing that was said is kept, whenever it comes.
_WRITE: Final = """
    WITH given AS (
        SELECT DISTINCT ON (contact_id, interaction_id, key) *
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) WITH ORDINALITY
            AS g (contact_id, interaction_id, kind, key, data, occurred_at, number)
        ORDER BY contact_id, interaction_id, key, number
    ), before AS (
        SELECT h.contact_id, h.interaction_id, max(h.seq) AS seq, bool_or(h.kind = 'unsent') AS unsent
        FROM interaction_changes h
        WHERE (h.contact_id, h.interaction_id) IN (SELECT contact_id, interaction_id FROM given)
        GROUP BY h.contact_id, h.interaction_id
    )
    INSERT INTO interaction_changes (contact_id, interaction_id, seq, kind, key, data, occurred_at, recorded_at)
    SELECT g.contact_id, g.interaction_id,
        coalesce(b.seq, 0) + row_number() OVER (PARTITION BY g.contact_id, g.interaction_id ORDER BY g.number),
        g.kind, g.key,
        CASE WHEN b.unsent AND g.kind IN ('edited', 'reaction', 'attached') THEN '{}' ELSE g.data::jsonb END,
        g.occurred_at, $7
    FROM given g
    LEFT JOIN before b ON b.contact_id = g.contact_id AND b.interaction_id = g.interaction_id
    WHERE NOT EXISTS (
        SELECT FROM interaction_changes h
        WHERE h.contact_id = g.contact_id AND h.interaction_id = g.interaction_id AND h.key = g.key
    )
    RETURNING interaction_id, key
"""

_WATERMARK: Final = """
    SELECT until FROM message_watermarks WHERE contact_id = $1 AND source = $2 AND state = $3 FOR UPDATE
"""

_RAISE_WATERMARK: Final = """
    INSERT INTO message_watermarks AS m (contact_id, source, state, until, occurred_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (contact_id, source, state) DO UPDATE SET until = excluded.until, occurred_at = excluded.occurred_at
    WHERE m.until < excluded.until
"""

# What we send ourselves was written down before it went: it counts from when it was sent.
_MARKED: Final = f"""
    SELECT i.contact_id, i.id, i.source, i.external_id
    FROM {aliases.known_as("$1::uuid")} who CROSS JOIN LATERAL (
        (SELECT n.id FROM interactions n
        WHERE n.contact_id = who.id AND n.occurred_at > $3 AND n.occurred_at <= $4 AND n.source = $2
            AND n.direction = 'outbound' AND n.external_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM interaction_changes h
                WHERE h.contact_id = n.contact_id AND h.interaction_id = n.id AND h.key = 'state:queued'
            )
        ORDER BY n.occurred_at DESC, n.id DESC LIMIT $5)
        UNION
        (SELECT h.interaction_id FROM interaction_changes h
        WHERE h.contact_id = who.id AND h.key = 'state:sent' AND h.occurred_at > $3 AND h.occurred_at <= $4
        ORDER BY h.occurred_at DESC LIMIT $5)
    ) n JOIN interactions i ON i.contact_id = who.id AND i.id = n.id AND i.source = $2 AND i.direction = 'outbound'
    ORDER BY i.contact_id, i.id FOR NO KEY UPDATE OF i
"""

_MARKED_BEFORE: Final = f"""
    SELECT i.contact_id, i.id, i.source, i.external_id, m.state, m.occurred_at
    FROM {_GIVEN}
    JOIN interaction_directory d ON d.source = g.source AND d.external_id = g.external_id
    JOIN interactions i ON i.contact_id = d.contact_id AND i.id = d.interaction_id AND i.direction = 'outbound'
    JOIN message_watermarks m ON m.contact_id = i.contact_id AND m.source = i.source AND m.until >= coalesce(
        (SELECT h.occurred_at FROM interaction_changes h
         WHERE h.contact_id = i.contact_id AND h.interaction_id = i.id AND h.key = 'state:sent'),
        i.occurred_at
    )
"""
