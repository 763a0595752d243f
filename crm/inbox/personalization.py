"""What templates can say of somebody, in few words."""

from datetime import datetime
from typing import Any
from uuid import UUID

from crm.contacts.contacts import Contact
from crm.db.session import Session
from crm.inbox.wording import CONTACT, LOYALTY
from crm.loyalty import balances, programs
from crm.loyalty.programs import ProgramRequired

HONORIFICS = {"id": "Kak"}
"""By language, what stands before a name in a greeting."""


async def known(
    session: Session, *, contact: Contact, language: str, asked: frozenset[str], program_id: UUID | None = None,
    now: datetime,
) -> dict[str, Any]:  # fmt: skip
    """What there is to say of a contact, in a program or the default one: only what is asked for is looked up."""
    found: dict[str, Any] = {CONTACT: _contact(contact, language)}
    if LOYALTY in asked:
        found[LOYALTY] = await _loyalty(session, contact.id, program_id, now)
    return found


def _contact(contact: Contact, language: str) -> dict[str, Any]:
    given = contact.given_name or contact.name
    honorific = HONORIFICS.get(language)
    return {
        "name": contact.name, "given_name": given, "family_name": contact.family_name,
        "greeting": f"{honorific} {given}" if honorific else given, "locale": contact.locale,
        "attributes": dict(contact.attributes),
    }  # fmt: skip


async def _loyalty(session: Session, contact_id: UUID, program_id: UUID | None, now: datetime) -> dict[str, Any]:
    """Zero points and no tier where there is no program."""
    try:
        found = await balances.read(session, program_id=program_id, contact_id=contact_id, now=now)
    except ProgramRequired:
        return {"program": None, "points": 0, "tier": None}
    program = await programs.get(session, program_id=found.program_id)
    current = found.tier.current
    return {"program": program.name, "points": found.available, "tier": None if current is None else current.name}
