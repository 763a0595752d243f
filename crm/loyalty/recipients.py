"""The people whom offers name, and the codes that are one member's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Boolean, Column, Table, Text, Uuid

from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import write
from crm.errors import FieldError, Invalid
from crm.interactions import timeline
from crm.loyalty import codes
from crm.loyalty.audiences import Offer

offer_recipients = Table(
    "offer_recipients",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("offer_id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("named", Boolean, nullable=False),
    Column("code", Text),
    Column("added_at", Instant, nullable=False),
    Column("told_at", Instant),
)

ERRORS_MAX: Final = 50

# In the order of contacts, as everybody who locks several.
_KNOWN: Final = "SELECT id FROM contacts WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE"
_UNNAME: Final = """
    UPDATE offer_recipients SET named = false WHERE offer_id = $1 AND named AND contact_id <> ALL ($2::uuid[])
"""
_NAME: Final = """
    INSERT INTO offer_recipients AS r (contact_id, offer_id, program_id, named, added_at)
    SELECT contact_id, $1, $2, true, $4 FROM unnest($3::uuid[]) AS n (contact_id) ORDER BY contact_id
    ON CONFLICT (contact_id, offer_id) DO UPDATE SET named = true, added_at = excluded.added_at WHERE NOT r.named
"""
_WITHOUT_CODE: Final = """
    SELECT contact_id FROM offer_recipients WHERE offer_id = $1 AND named AND code IS NULL
    ORDER BY contact_id FOR NO KEY UPDATE
"""
_GIVE_CODES: Final = """
    UPDATE offer_recipients r SET code = n.code FROM unnest($2::uuid[], $3::text[]) AS n (contact_id, code)
    WHERE r.offer_id = $1 AND r.contact_id = n.contact_id
"""
_TELL: Final = """
    UPDATE offer_recipients r SET told_at = $2 FROM contacts c
    WHERE r.offer_id = $1 AND r.named AND r.told_at IS NULL AND c.id = r.contact_id RETURNING r.contact_id, r.code
"""
_COUNT: Final = """
    UPDATE offers SET contacts_count = contacts_count + 1
    WHERE program_id = $1 AND id = $2 AND contacts_count IS NOT NULL
"""
_TOLD: Final = """
    UPDATE offer_recipients SET told_at = $3 WHERE contact_id = $1 AND offer_id = $2 AND told_at IS NULL
"""
# Of two requests at once the second waits for the first, and finds its code.
_KEEP: Final = """
    INSERT INTO offer_recipients AS r (contact_id, offer_id, program_id, named, added_at)
    SELECT id, $2, $3, false, $4 FROM contacts WHERE id = $1
    ON CONFLICT (contact_id, offer_id) DO UPDATE SET named = r.named RETURNING code
"""


class UnknownContact(Invalid):
    code = "unknown_contact"
    title = "The offer names somebody who is not there"


@dataclass(slots=True)
class Recipient:
    """Somebody whom an offer names, or to whom it has given a code of their own."""

    contact_id: UUID
    named: bool
    code: str | None
    added_at: datetime


async def name(
    session: Session, *, program_id: UUID, offer_id: UUID, contact_ids: Sequence[UUID], now: datetime
) -> int:
    """Let an offer name these people and nobody else; how many they are. Raises UnknownContact."""
    wanted = list(dict.fromkeys(contact_ids))
    if wanted:
        known = {row["id"] for row in await session.fetch(_KNOWN, wanted)}
        unknown = [place for place, contact_id in enumerate(contact_ids) if contact_id not in known]
        if unknown:
            raise UnknownContact(
                "Leave out those who are not contacts; `errors` says which.",
                errors=[
                    FieldError(f"/audience/contact_ids/{place}", "unknown_contact", "is not a contact")
                    for place in unknown[:ERRORS_MAX]
                ],
            )
    await session.execute(_UNNAME, offer_id, wanted)
    await session.execute(_NAME, offer_id, program_id, wanted, now)
    return len(wanted)


async def give_codes(session: Session, *, program_id: UUID, offer_id: UUID) -> None:
    """Give everybody whom an offer names, and who has none yet, a code of their own."""
    contact_ids = [row["contact_id"] for row in await session.fetch(_WITHOUT_CODE, offer_id)]
    if contact_ids:
        made = await codes.claim_for_each(
            session, kind="offer", program_id=program_id, contact_ids=contact_ids, subject_id=offer_id
        )
        await session.execute(_GIVE_CODES, offer_id, contact_ids, made)


async def give_code(session: Session, *, contact_id: UUID, offer: Offer, now: datetime) -> str:
    """The contact's own code of an offer, a new one if there is none yet. Whether it is for them was asked before."""
    kept: str | None = await session.fetchval(_KEEP, contact_id, offer.id, offer.program_id, now)
    if kept is not None:
        return kept
    made = await codes.claim(
        session, kind="offer", program_id=offer.program_id, contact_id=contact_id, subject_id=offer.id
    )
    await session.execute(_GIVE_CODES, offer.id, [contact_id], [made])
    return made


async def add(
    session: Session, *, program_id: UUID, offer_id: UUID, contact_id: UUID, personal_code: bool, facts: dict[str, Any],
    by: str, now: datetime,
) -> str | None:  # fmt: skip
    """Let an offer name one contact more, who is told of it once; the code that is theirs, if there is one.

    Whoever adds somebody takes part in the offer's turn. An offer that names nobody is for others besides.
    """
    if await session.execute(_NAME, offer_id, program_id, [contact_id], now):
        await session.execute(_COUNT, program_id, offer_id)
    code: str | None = await session.fetchval(
        "SELECT code FROM offer_recipients WHERE contact_id = $1 AND offer_id = $2", contact_id, offer_id
    )
    if code is None and personal_code:
        [code] = await codes.claim_for_each(
            session, kind="offer", program_id=program_id, contact_ids=[contact_id], subject_id=offer_id
        )
        await session.execute(_GIVE_CODES, offer_id, [contact_id], [code])
    if await session.execute(_TOLD, contact_id, offer_id, now):
        told = timeline.entry(
            contact_id, channel="loyalty", kind="offer.made", occurred_at=now, recorded_at=now, by=by,
            data=facts if code is None else {**facts, "code": code},
        )  # fmt: skip
        await write(session, [timeline.part([told])])
    return code


async def tell(session: Session, *, offer_id: UUID, facts: dict[str, Any], by: str, now: datetime) -> None:
    """Put these facts about an offer on the timelines of those whom it names and who have not been told."""
    rows = await session.fetch(_TELL, offer_id, now)
    entries = [
        timeline.entry(
            row["contact_id"], channel="loyalty", kind="offer.made", occurred_at=now, recorded_at=now, by=by,
            data=facts if row["code"] is None else {**facts, "code": row["code"]},
        )
        for row in rows
    ]  # fmt: skip
    await write(session, [timeline.part(entries)])


async def page(session: Session, *, offer_id: UUID, after: UUID | None, limit: int) -> list[Recipient]:
    """Whom an offer names, or has given a code, in the order of their ids."""
    rows = await session.fetch(
        """
        SELECT r.contact_id, r.named, r.code, r.added_at FROM offer_recipients r JOIN contacts c ON c.id = r.contact_id
        WHERE r.offer_id = $1 AND ($2::uuid IS NULL OR r.contact_id > $2) ORDER BY r.contact_id LIMIT $3
        """,
        offer_id, after, limit,
    )  # fmt: skip
    return [Recipient(**dict(row)) for row in rows]
