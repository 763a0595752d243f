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
    session: Session, *, contact: Contact, language: str, asked: frozenset[str], now: datetime
) -> dict[str, Any]:
    """What there is to say of a contact: only what is asked for is looked up."""
    found: dict[str, Any] = {CONTACT: _contact(contact, language)}
    if LOYALTY in asked:
        found[LOYALTY] = await _loyalty(session, contact.id, now)
    return found


def _contact(contact: Contact, language: str) -> dict[str, Any]:
    given = contact.given_name or contact.name
    honorific = HONORIFICS.get(language)
    return {
        "name": contact.name, "given_name": given, "family_name": contact.family_name,
        "greeting": f"{honorific} {given}" if honorific else given, "locale": contact.locale,
        "attributes": dict(contact.attributes),
    }  # fmt: skip


async def _loyalty(session: Session, contact_id: UUID, now: datetime) -> dict[str, Any]:
    """In the default program; zero points and no tier where there is none."""
    try:
        found = await balances.read(session, program_id=None, contact_id=contact_id, now=now)
    except ProgramRequired:
        return {"program": None, "points": 0, "tier": None}
    program = await programs.get(session, program_id=found.program_id)
    current = found.tier.current
    return {"program": program.name, "points": found.available, "tier": None if current is None else current.name}
