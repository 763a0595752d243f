"""All that is known of a person, for the person: package by package, as it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from crm.contacts import aliases, contacts
from crm.contacts.keeping import Keeper
from crm.db.session import Session


@dataclass(slots=True)
class Disclosure:
    """All that is known of a contact: by section, each thing as it is kept. Times are in UTC."""

    contact_id: UUID
    disclosed_at: datetime
    sections: dict[str, list[dict[str, Any]]]


async def read(session: Session, *, contact_id: UUID, keepers: Sequence[Keeper], now: datetime) -> Disclosure:
    """The whole of it: one person's, and so not cut off anywhere. Raises ContactNotFound."""
    await contacts.get(session, contact_id=contact_id)
    ids = [contact_id, *await aliases.of(session, contact_id=contact_id)]
    sections: dict[str, list[dict[str, Any]]] = {}
    for keeper in reversed(keepers):
        for section in keeper.personal_data.tells:
            sections[section.name] = [row[0] for row in await session.fetch(section.query, ids)]
    return Disclosure(contact_id, now, sections)
