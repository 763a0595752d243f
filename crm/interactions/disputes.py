"""What contacts are told who lose an address."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from crm.contacts import contacts, identities
from crm.contacts.claims import Loss
from crm.db.session import Session
from crm.interactions import timeline


async def told(session: Session, *, losses: Sequence[Loss], by: str, now: datetime) -> list[tuple[Any, ...]]:
    """The rows that tell the timelines of contacts, locked before, what they show as disputed from now on.

    It counts as a change of theirs.
    """
    if not losses:
        return []
    await contacts.touch(session, contact_ids={loss.contact_id for loss in losses}, now=now)
    return [
        timeline.entry(
            loss.contact_id, channel="contacts", kind="contact.updated", occurred_at=now, recorded_at=now, by=by,
            data={
                "before": {"identities": [loss.identity]},
                "after": {"identities": [identities.disputed(loss.identity)]},
                "identity_owner_id": loss.to,
            },
        )
        for loss in losses
    ]  # fmt: skip
