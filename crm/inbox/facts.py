"""Further addresses and facts of people, as channels tell them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from crm.contacts import contacts
from crm.contacts.identities import IdentityNotFound
from crm.db.session import Session
from crm.inbox.heard import Heard, Outcomes
from crm.inbox.persons import Wanted
from crm.interactions import people
from crm.interactions.channels.events import Identified


async def record(
    session: Session, *, one: Heard, event: Identified, wanted: Wanted, contact_id: UUID, by: str, now: datetime
) -> Outcomes:
    """Keep the facts of a contact, who has the addresses of `wanted` already, and free what was given up.

    Raises InvalidContact.
    """
    before = await contacts.get(session, contact_id=contact_id)
    if event.attributes:
        facts: dict[str, Any] = dict(event.attributes)
        await people.update(session, contact_id=contact_id, changes={"attributes": facts}, by=by, now=now)
    kept = {identity.address for identity in wanted.identities}
    for gone in wanted.formerly:
        if gone.address in kept:
            continue
        try:
            await people.remove_identity(session, contact_id=contact_id, address=gone.address, by=by, now=now)
        except IdentityNotFound:
            continue  # given up before, or somebody else's by now
    after = await contacts.get(session, contact_id=contact_id)
    told = one.repeated if after.version == before.version and before.created_at != now else one.recorded
    return {one.number: told(contact_id)}
