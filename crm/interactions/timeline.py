"""The timeline: one insert-only table of everything that happened with a contact, whichever package wrote it."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, CrmError, FieldError, Invalid, NotFound, Unavailable
from crm.interactions import changes
from crm.interactions.changes import Reacted

CHANNELS = (
    "whatsapp", "messenger", "instagram", "telegram", "line", "sms", "phone", "email", "chat", "web", "in_person",
)  # fmt: skip
"""The channels that are known by name. Others may be used: a short lower-case name."""
RESERVED_KINDS = frozenset({
    "case", "challenge", "consent", "contact", "event", "membership", "offer", "playbook", "points", "purchase",
    "referral", "reward", "segment", "survey", "task", "tier", "voucher",
})  # fmt: skip
"""How the kinds begin, up to a dot, that are written beside a fact of ours and must not be claimed without one."""
AHEAD_MAX = timedelta(days=1)
"""How far the clock of whoever tells us may be ahead."""

interactions = Table(
    "interactions",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("channel", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("direction", Text),
    Column("subject", Text),
    Column("body", Text),
    Column("data", JSONB, nullable=False),
    Column("source", Text),
    Column("external_id", Text),
    Column("thread_id", Uuid),
    Column("case_id", Uuid),
    Column("by", Text, nullable=False),
)
interaction_directory = Table(
    "interaction_directory",
    metadata,
    Column("source", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
    Column("interaction_id", Uuid, nullable=False),
)

_COLUMNS = (
    "contact_id", "id", "occurred_at", "recorded_at", "channel", "kind", "direction", "subject", "body", "data",
    "source", "external_id", "thread_id", "case_id", "by",
)  # fmt: skip
_TYPES = [column.type.compile(PGDialect_asyncpg()) for column in interactions.c]  # type: ignore[no-untyped-call]


class InteractionNotFound(NotFound):
    code = "interaction_not_found"
    title = "There is no such interaction"


class ExternalIdTaken(Conflict):
    code = "external_id_taken"
    title = "This external id belongs to another contact's interaction"


class ReservedKind(Invalid):
    code = "reserved_kind"
    title = "Interactions of this kind are written together with their fact"


class InTheFuture(Invalid):
    code = "in_the_future"
    title = "This has not happened yet"


@dataclass(slots=True)
class Interaction:
    """One thing that happened with a contact: `occurred_at` is when it did, `recorded_at` when we learned of it.

    A message is shown as it is now: its latest text, the furthest `state` with the `error` of one that failed, and the
    signs put on it. One that was taken back has lost its content.
    """

    contact_id: UUID
    id: UUID
    occurred_at: datetime
    recorded_at: datetime
    channel: str
    kind: str
    direction: str | None
    subject: str | None
    body: str | None
    data: dict[str, Any]
    source: str | None
    external_id: str | None
    thread_id: UUID | None
    case_id: UUID | None
    by: str
    state: str | None = None
    error: dict[str, Any] | None = None
    edited_at: datetime | None = None
    unsent_at: datetime | None = None
    reactions: list[Reacted] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody says happened with a contact. With an `external_id` it is taken down once for each `source`.

    `id` is for whoever keeps something beside it under the same one.
    """

    channel: str
    kind: str
    occurred_at: datetime
    direction: str | None = None
    subject: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None
    source: str | None = None
    external_id: str | None = None
    thread_id: UUID | None = None
    case_id: UUID | None = None
    id: UUID | None = None

    @property
    def pair(self) -> tuple[str, str] | None:
        """What makes a repetition known. Where no source is named, the channel is what it came from."""
        return None if self.external_id is None else (self.source or self.channel, self.external_id)


Recorded = tuple[Interaction, bool]
"""The interaction, and whether it is new."""


def entry(
    contact_id: UUID,
    *,
    channel: str,
    kind: str,
    occurred_at: datetime,
    recorded_at: datetime,
    by: str,
    id: UUID | None = None,  # noqa: A002 - it is named as the column
    direction: str | None = None,
    subject: str | None = None,
    body: str | None = None,
    data: dict[str, Any] | None = None,
    source: str | None = None,
    external_id: str | None = None,
    thread_id: UUID | None = None,
    case_id: UUID | None = None,
) -> tuple[Any, ...]:
    """One row for `part`: what packages above the timeline write with their facts, in the same statement."""
    return (
        contact_id, id or uuid7(), occurred_at, recorded_at, channel, kind, direction, subject, body, data or {},
        source, external_id, thread_id, case_id, by,
    )  # fmt: skip


def part(rows: Sequence[tuple[Any, ...]]) -> Insert:
    """The part of a write that puts `rows`, made by `entry`, on the timeline."""
    return Insert(interactions, _COLUMNS, rows)


async def record(session: Session, *, contact_id: UUID, report: Report, by: str, now: datetime) -> Recorded:
    """Put on the timeline what somebody reports, or find it there under its external id.

    Raises ContactNotFound, ExternalIdTaken, ReservedKind, InTheFuture.
    """
    result = (await record_all(session, reports=[(contact_id, report)], by=by, now=now))[0]
    if isinstance(result, CrmError):
        raise result
    return result


async def record_all(
    session: Session, *, reports: Sequence[tuple[UUID, Report]], by: str, now: datetime, ours: bool = False
) -> list[Recorded | CrmError]:
    """`record` for many contacts: in order, and for each what `record` would have answered or raised.

    One statement, and a second one where something was on a timeline already. `ours` are written beside a fact of
    ours, and may be of a reserved kind.
    """
    results: dict[int, Recorded | CrmError] = {}
    rows = {}
    for number, (contact_id, report) in enumerate(reports):
        if refused := refusal(report, now=now, ours=ours):
            results[number] = refused
        else:
            rows[number] = _row(contact_id, report, by, now)
    unwritten = []
    for number, known, written in (
        await session.fetch(_RECORD, list(rows), *zip(*rows.values(), strict=True)) if rows else ()
    ):
        if not known:
            results[number] = ContactNotFound("No contact has this id.")
        elif written:
            results[number] = Interaction(*rows[number]), True
        else:
            unwritten.append(number)
    stored = await find(session, pairs=[pair for number in unwritten if (pair := reports[number][1].pair)])
    for number in unwritten:
        results[number] = _again(stored, *reports[number])
    return [results[number] for number in range(len(reports))]


def refusal(report: Report, *, now: datetime, ours: bool = False) -> ReservedKind | InTheFuture | None:
    """Why this can't be reported, whoever it happened with."""
    if not ours and report.kind.partition(".")[0] in RESERVED_KINDS:
        return ReservedKind(
            f"'{report.kind}' is written by the service itself, beside what it tells of. Choose another kind.",
            errors=[FieldError("/kind", "reserved_kind", "is a reserved name")],
        )
    if report.occurred_at > now + AHEAD_MAX:
        return InTheFuture(
            "An interaction has happened already; its time may be a day ahead at most.",
            errors=[FieldError("/occurred_at", "in_the_future", "lies in the future")],
        )
    return None


async def find(session: Session, *, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Interaction]:
    """What is on any timeline under these pairs of source and external id."""
    if not pairs:
        return {}
    rows = await session.fetch(_FIND, *zip(*pairs, strict=True))
    return {(source, external_id): _shown(*values) for source, external_id, *values in rows}


async def whose(session: Session, *, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[UUID, UUID]]:
    """The contacts and ids of the interactions that are on any timeline under these pairs."""
    if not pairs:
        return {}
    rows = await session.fetch(_WHOSE, *zip(*pairs, strict=True))
    return {(source, external_id): (contact_id, id) for source, external_id, contact_id, id in rows}  # noqa: A001


async def call_also(session: Session, *, contact_id: UUID, interaction_id: UUID, pair: tuple[str, str]) -> None:
    """Let an interaction be known by a further source and external id, where nothing else is."""
    await session.execute(
        """
        INSERT INTO interaction_directory (source, external_id, contact_id, interaction_id) VALUES ($1, $2, $3, $4)
        ON CONFLICT (source, external_id) DO NOTHING
        """,
        *pair, contact_id, interaction_id,
    )  # fmt: skip


async def get(session: Session, *, contact_id: UUID, interaction_id: UUID) -> Interaction:
    """One interaction of a contact. Raises InteractionNotFound."""
    row = await session.fetchrow(_GET, contact_id, interaction_id)
    if row is None:
        raise InteractionNotFound("This contact has no interaction with this id.")
    return _shown(*row)


async def page(
    session: Session,
    *,
    contact_id: UUID,
    channel: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    thread_id: UUID | None = None,
    case_id: UUID | None = None,
    direction: str | None = None,
    words: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Interaction]:
    """A contact's interactions that occurred from `since` on and before `until`, newest first, older than `before`.

    `before` is the `(occurred_at, id)` of one of them. `words` are searched for as in a search engine: all of them,
    "phrases", `or`, and `-` for what must not be there. Raises ContactNotFound.
    """
    filters = {
        "channel": channel, "kind": kind, "since": since, "until": until, "thread_id": thread_id,
        "case_id": case_id, "direction": direction, "words": words,
    }  # fmt: skip
    given = {name: value for name, value in filters.items() if value is not None}
    query = _page_query(tuple(given), before is not None)
    rows = await session.fetch(query, contact_id, limit, *given.values(), *(before or ()))
    if not rows:
        raise ContactNotFound("No contact has this id.")
    return [] if rows[0]["id"] is None else [_shown(contact_id, *row) for row in rows]


async def recent(session: Session, *, before: tuple[int, UUID] | None, limit: int) -> list[tuple[int, Interaction]]:
    """Interactions of all contacts, last recorded first, each with the number of the transaction that recorded it.

    `before` is the `(number, interaction id)` of one of them.
    """
    rows = await session.fetch(_RECENT_AFTER if before else _RECENT, limit, *(before or ()))
    return [(number, _shown(*values)) for number, *values in rows]


def _shown(*values: Any) -> Interaction:
    """An interaction as it looks after its changes, which stand behind its columns."""
    *columns, stored = values
    interaction = Interaction(*columns)
    if stored:
        now = changes.read(stored)
        interaction.state, interaction.error, interaction.reactions = now.state, now.error, now.reactions
        interaction.edited_at, interaction.unsent_at = now.edited_at, now.unsent_at
        interaction.body = interaction.body if now.text is None else now.text
        if now.attachments:
            recorded = interaction.data.get("attachments", [])
            interaction.data = {**interaction.data, "attachments": [*recorded, *now.attachments]}
    return interaction


def _row(contact_id: UUID, report: Report, by: str, now: datetime) -> tuple[Any, ...]:
    source, external_id = report.pair or (report.source, None)
    return entry(
        contact_id, id=report.id, channel=report.channel, kind=report.kind, occurred_at=report.occurred_at,
        recorded_at=now, by=by, direction=report.direction, subject=report.subject, body=report.body,
        data=report.data, source=source, external_id=external_id, thread_id=report.thread_id, case_id=report.case_id,
    )  # fmt: skip


def _again(stored: Mapping[tuple[str, str], Interaction], contact_id: UUID, report: Report) -> Recorded | CrmError:
    pair = report.pair
    assert pair is not None, "only what has an external id can be there already"
    interaction = stored.get(pair)
    if interaction is None:
        return Unavailable("It was recorded and removed again at this moment. Send the request again.")
    return (interaction, False) if interaction.contact_id == contact_id else taken(pair, by=interaction.contact_id)


def taken(pair: tuple[str, str], *, by: UUID) -> ExternalIdTaken:
    """The refusal of an external id under which something is on another contact's timeline."""
    source, external_id = pair
    return ExternalIdTaken(f"'{external_id}' of '{source}' happened with another contact.", contact_id=str(by))


@functools.cache
def _page_query(given: tuple[str, ...], after: bool) -> str:
    # A condition for each filter that is there, and none for the others: a plan for both would read the timeline
    # from its newest row on. The contact is in the query so that an unknown one is told from one without history.
    conditions = "".join(f" AND {_FILTERS[name].format(f'${place}')}" for place, name in enumerate(given, 3))
    if after:
        conditions += f" AND (occurred_at, id) < (${len(given) + 3}, ${len(given) + 4})"
    return f"""
        SELECT i.* FROM contacts c LEFT JOIN LATERAL (
            SELECT n.* FROM {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
                SELECT {", ".join(_COLUMNS[1:])}, {_CHANGES} FROM interactions
                WHERE contact_id = who.id{conditions}
                ORDER BY occurred_at DESC, id DESC LIMIT $2
            ) n
            ORDER BY n.occurred_at DESC, n.id DESC LIMIT $2
        ) i ON true
        WHERE c.id = $1
        ORDER BY i.occurred_at DESC, i.id DESC
    """


_FILTERS = {
    "channel": "channel = {}",
    "kind": "kind = {}",
    "since": "occurred_at >= {}",
    "until": "occurred_at < {}",
    "thread_id": "thread_id = {}",
    "case_id": "case_id = {}",
    "direction": "direction = {}",
    # The words of a message are those of its own text and of later ones, each found by an index of the contact's.
    "words": """id IN (
        SELECT w.id FROM interactions w
        WHERE w.contact_id = who.id AND message_words(w.subject, w.body) @@ message_query({0})
            AND (w.body IS NOT NULL OR w.subject IS NOT NULL)
        UNION ALL
        SELECT h.interaction_id FROM interaction_changes h
        WHERE h.contact_id = who.id AND message_words(NULL, h.data ->> 'text') @@ message_query({0})
            AND h.kind = 'edited'
    )""",
}
_SELECTED = ", ".join(_COLUMNS)
_PREFIXED = ", ".join(f"i.{name}" for name in _COLUMNS)
_CHANGES = changes.select("interactions")

_GET = f"SELECT {_SELECTED}, {_CHANGES} FROM interactions WHERE contact_id = $1 AND id = $2"

# The directory may know an interaction by a further name: ours, and later that of the provider who sent it.
_FIND = f"""
    SELECT d.source, d.external_id, {_PREFIXED}, {changes.select("i")}
    FROM unnest($1::text[], $2::text[]) AS g (source, external_id)
    JOIN interaction_directory d ON d.source = g.source AND d.external_id = g.external_id
    JOIN interactions i ON i.contact_id = d.contact_id AND i.id = d.interaction_id
"""

_WHOSE = """
    SELECT d.source, d.external_id, d.contact_id, d.interaction_id
    FROM unnest($1::text[], $2::text[]) AS g (source, external_id)
    JOIN interaction_directory d ON d.source = g.source AND d.external_id = g.external_id
"""

_RECENT = f"SELECT xid, {_SELECTED}, {_CHANGES} FROM interactions ORDER BY xid DESC, id DESC LIMIT $1"
_RECENT_AFTER = f"""
    SELECT xid, {_SELECTED}, {_CHANGES} FROM interactions WHERE (xid, id) < ($2, $3) ORDER BY xid DESC, id DESC LIMIT $1
"""

# The lock on the contact keeps it from being deleted meanwhile. Of two transactions with the same external id the
# second waits here for the first; both take them in one order, or two batches could wait for each other. Of two rows
# with the same external id in one statement the first is written.
_RECORD = f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest($1::int[], {", ".join(f"${i}::{kind}[]" for i, kind in enumerate(_TYPES, 2))})
            AS g (number, {_SELECTED})
    ), people AS (
        SELECT c.id FROM contacts c WHERE c.id = ANY ($2) ORDER BY c.id FOR KEY SHARE
    ), listed AS (
        INSERT INTO interaction_directory (source, external_id, contact_id, interaction_id)
        SELECT g.source, g.external_id, g.contact_id, g.id FROM given g JOIN people p ON p.id = g.contact_id
        WHERE g.external_id IS NOT NULL
        ORDER BY g.source, g.external_id, g.number
        ON CONFLICT DO NOTHING
        RETURNING interaction_id
    ), written AS (
        INSERT INTO interactions ({_SELECTED})
        SELECT {", ".join(f"g.{name}" for name in _COLUMNS)} FROM given g JOIN people p ON p.id = g.contact_id
        WHERE g.external_id IS NULL OR g.id IN (SELECT interaction_id FROM listed)
        RETURNING id
    )
    SELECT g.number, p.id IS NOT NULL, w.id IS NOT NULL
    FROM given g LEFT JOIN people p ON p.id = g.contact_id LEFT JOIN written w ON w.id = g.id
"""
