"""What people allowed and forbade, by channel and purpose, and whether something may be sent to them.

A consent is a fact that never changes: what holds is what was said last. `all` as a channel or a purpose is every one.

A denial holds for all that it names, until the same or a part of it is granted later. Who forbade everything and
allowed WhatsApp afterwards has allowed WhatsApp; who forbade WhatsApp and ticked "everything" afterwards has not. A
grant holds for all that it names, where no denial does.

`service` is what somebody asked for or needs, such as an answer or the confirmation of an order: it needs no consent,
and can be forbidden like all else. Every other purpose must have been granted.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.errors import Invalid, NotFound

Status: TypeAlias = Literal["granted", "denied"]
WhyNot: TypeAlias = Literal["denied", "no_consent", "no_address", "unknown_contact"]

ALL: Final = "all"
SERVICE: Final = "service"
NAME: Final = "[a-z][a-z0-9_-]{0,29}"
"""The form of a channel and of a purpose."""
PAIR: Final = re.compile(rf"{NAME}\.{NAME}\Z", re.ASCII)
"""A channel and a purpose in one name."""
ADDRESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "whatsapp": ("whatsapp", "whatsapp_bsuid"), "sms": ("phone",), "chat": (), "web": (), "in_person": (),
}  # fmt: skip
"""The kinds of identity by which a channel reaches somebody, none where it needs none; else the kind of its name."""

consents = Table(
    "consents",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("legal_basis", Text),
    Column("source", Text),
    Column("external_id", Text),
    Column("evidence", JSONB),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)
consent_directory = Table(
    "consent_directory",
    metadata,
    Column("source", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("contact_id", Uuid, nullable=False),
    Column("consent_id", Uuid, nullable=False),
)

COLUMNS: Final = tuple(column.name for column in consents.columns)
_SELECTED: Final = ", ".join(f"n.{name}" for name in COLUMNS)
_NEWEST: Final = "n.occurred_at DESC, n.recorded_at DESC, n.id DESC"


class ConsentNotFound(NotFound):
    code = "consent_not_found"
    title = "There is no such consent"


class UnspecificMessage(Invalid):
    code = "unspecific_message"
    title = "A message goes to one channel and has one purpose"


@dataclass(slots=True)
class Consent:
    """What somebody allowed or forbade, and how that is known: `evidence` is what was shown and said.

    `contact_id` is who it was said of then; records that were merged since are one person.
    """

    contact_id: UUID
    id: UUID
    channel: str
    purpose: str
    status: Status
    legal_basis: str | None
    source: str | None
    external_id: str | None
    evidence: dict[str, Any] | str | None
    occurred_at: datetime
    recorded_at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether something may be sent, and if not, why. `consent_id` is the consent that decided it, if one did."""

    contact_id: UUID
    channel: str
    purpose: str
    allowed: bool
    why_not: WhyNot | None
    consent_id: UUID | None


async def may_send(session: Session, *, contact_id: UUID, channel: str, purpose: str) -> Permission:
    """Whether a message of this purpose may go to a contact on this channel. Ask before each message, when it goes.

    Not, in this order: where it is denied, where it needs a consent that nobody has given, and where the contact has no
    address on the channel; a disputed one is none. Raises ContactNotFound, UnspecificMessage.
    """
    found = (await may_send_all(session, contact_ids=[contact_id], channel=channel, purpose=purpose))[contact_id]
    if found.why_not == "unknown_contact":
        raise ContactNotFound("No contact has this id.")
    return found


async def may_send_all(
    session: Session, *, contact_ids: Collection[UUID], channel: str, purpose: str
) -> dict[UUID, Permission]:
    """`may_send` for many contacts, in one query. Who is no contact, or was merged, is an `unknown_contact`.

    Raises UnspecificMessage.
    """
    if ALL in (channel, purpose):
        raise UnspecificMessage(f"Name the channel that it would go to, and what for; '{ALL}' is neither.")
    rows = await session.fetch(_MAY_SEND, list(contact_ids), channel, purpose, ADDRESSES.get(channel, (channel,)))
    permissions = {}
    for row in rows:
        why_not = _why_not(row, purpose)
        permissions[row["id"]] = Permission(row["id"], channel, purpose, why_not is None, why_not, row["consent_id"])
    return permissions


def decisive(contact: str, *, channel: str, purpose: str) -> str:
    """In SQL, the consent that decides on a channel and a purpose: a query of at most one row of `consents`.

    All three are expressions.
    """
    # Whoever forbade one thing in general and granted it in particular said the one later than the other.
    return f"""
        WITH said AS (
            SELECT DISTINCT ON (n.channel, n.purpose) n.*
            FROM {aliases.known_as(contact)} who JOIN consents n ON n.contact_id = who.id
            WHERE n.channel IN ({channel}, '{ALL}') AND n.purpose IN ({purpose}, '{ALL}')
            ORDER BY n.channel, n.purpose, {_NEWEST}
        )
        SELECT n.* FROM said n
        WHERE n.status = 'granted' OR NOT EXISTS (
            SELECT FROM said g
            WHERE g.status = 'granted' AND n.channel IN (g.channel, '{ALL}') AND n.purpose IN (g.purpose, '{ALL}')
                AND (g.occurred_at, g.recorded_at, g.id) > (n.occurred_at, n.recorded_at, n.id)
        )
        ORDER BY n.status = 'denied' DESC, {_NEWEST} LIMIT 1
    """


async def get(session: Session, *, contact_id: UUID, consent_id: UUID) -> Consent:
    """One consent of a contact. Raises ConsentNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM {aliases.known_as("$1::uuid")} who JOIN consents n ON n.contact_id = who.id
        WHERE n.id = $2
        """,
        contact_id, consent_id,
    )  # fmt: skip
    if row is None:
        raise ConsentNotFound("This contact has no consent with this id.")
    return Consent(*row)


async def find(session: Session, *, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[Consent, UUID]]:
    """What is recorded under these pairs of source and external id, each with who the contact is by now."""
    if not pairs:
        return {}
    rows = await session.fetch(_FIND, *zip(*pairs, strict=True))
    return {(row["source"], row["external_id"]): (Consent(*list(row)[:-1]), row["now_id"]) for row in rows}


async def page(
    session: Session,
    *,
    contact_id: UUID,
    channel: str | None = None,
    purpose: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Consent]:
    """A contact's consents as they were said, newest first, older than the `(occurred_at, id)` of one of them.

    Raises ContactNotFound.
    """
    return _of_contact(
        await session.fetch(_PAGE, contact_id, limit, channel, purpose, *(before or (None, None))),
    )


async def current(
    session: Session, *, contact_id: UUID, after: tuple[str, str] | None = None, limit: int
) -> list[Consent]:
    """What a contact said last of each channel and purpose, in the order of these, behind `after`.

    Raises ContactNotFound.
    """
    return _of_contact(await session.fetch(_CURRENT, contact_id, limit, *(after or (None, None))))


def _of_contact(rows: list[Record]) -> list[Consent]:
    if not rows:
        raise ContactNotFound("No contact has this id.")
    return [] if rows[0]["id"] is None else [Consent(*row) for row in rows]


def _why_not(row: Record, purpose: str) -> WhyNot | None:
    if not row["is_known"]:
        return "unknown_contact"
    if row["status"] == "denied":
        return "denied"
    if row["status"] is None and purpose != SERVICE:
        return "no_consent"
    return None if row["is_reachable"] else "no_address"


_MAY_SEND: Final = f"""
    SELECT g.id, c.id IS NOT NULL AS is_known, d.id AS consent_id, d.status, $4::text[] = '{{}}' OR EXISTS (
        SELECT FROM contact_identities i WHERE i.contact_id = c.id AND i.kind = ANY ($4) AND NOT i.disputed
    ) AS is_reachable
    FROM unnest($1::uuid[]) AS g (id)
    LEFT JOIN contacts c ON c.id = g.id
    LEFT JOIN LATERAL ({decisive("c.id", channel="$2::text", purpose="$3::text")}) d ON true
"""
_FIND: Final = f"""
    SELECT {_SELECTED}, coalesce(a.contact_id, n.contact_id) AS now_id
    FROM unnest($1::text[], $2::text[]) AS g (source, external_id)
    JOIN consent_directory d ON d.source = g.source AND d.external_id = g.external_id
    JOIN consents n ON n.contact_id = d.contact_id AND n.id = d.consent_id
    LEFT JOIN contact_alias_directory a ON a.alias_id = n.contact_id
"""
# The contact is in these queries so that an unknown one is told from one of whom nothing is known.
_PAGE: Final = f"""
    SELECT n.* FROM contacts c LEFT JOIN LATERAL (
        SELECT o.* FROM {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_SELECTED} FROM consents n
            WHERE n.contact_id = who.id
                AND ($3::text IS NULL OR n.channel = $3) AND ($4::text IS NULL OR n.purpose = $4)
                AND (n.occurred_at, n.id) < (
                    coalesce($5::timestamptz, 'infinity'), coalesce($6::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                )
            ORDER BY n.occurred_at DESC, n.id DESC LIMIT $2
        ) o
        ORDER BY o.occurred_at DESC, o.id DESC LIMIT $2
    ) n ON true
    WHERE c.id = $1
    ORDER BY n.occurred_at DESC, n.id DESC
"""
_CURRENT: Final = f"""
    SELECT n.* FROM contacts c LEFT JOIN LATERAL (
        SELECT DISTINCT ON (n.channel, n.purpose) {_SELECTED}
        FROM {aliases.known_as("c.id")} who JOIN consents n ON n.contact_id = who.id
        WHERE (n.channel, n.purpose) > (coalesce($3::text, ''), coalesce($4::text, ''))
        ORDER BY n.channel, n.purpose, {_NEWEST} LIMIT $2
    ) n ON true
    WHERE c.id = $1
    ORDER BY n.channel, n.purpose
"""
