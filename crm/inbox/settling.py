"""Messages of ours in what providers tell: known by our own name for them, or as the echo of what is on its way.

So an answer that never came is made up for, and an echo that is faster than the answer makes no second message.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from crm.contacts import aliases
from crm.db.session import Session
from crm.errors import Unavailable
from crm.inbox import dispatch
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard
from crm.interactions.channels.events import Message, StateChanged


class StillSending(Unavailable):
    code = "still_sending"
    title = "A message of ours to them is on its way, and this may be its echo"


async def recognize(session: Session, *, account: Opened, events: Sequence[Heard], now: datetime) -> None:
    """Settle the messages that are told of by our own name for them, before anything else is made of the events."""
    named: dict[str, str] = {}
    for one in events:
        event = one.event
        if (isinstance(event, StateChanged) and isinstance(reference := event.data.get("reference"), str)) or (
            isinstance(event, Message)
            and event.direction == "outbound"
            and isinstance(reference := event.data.get("metadata"), str)
        ):
            named.setdefault(reference, event.external_id)
    if not named:
        return
    rows = await session.fetch(
        """
        SELECT m.contact_id, m.id, m.claimed_at, d.external_id AS reference
        FROM interaction_directory d
        JOIN outbound_messages m ON m.contact_id = d.contact_id AND m.id = d.interaction_id
        WHERE d.source = $1 AND d.external_id = ANY ($2) AND m.claimed_at IS NOT NULL AND m.sent_to IS NOT NULL
            AND m.status IN ('queued', 'sending', 'unknown')
        ORDER BY m.contact_id, m.id FOR UPDATE OF m
        """,
        account.source, list(named),
    )  # fmt: skip
    for row in rows:
        await dispatch.settle(
            session, account=account, contact_id=row["contact_id"], message_id=row["id"],
            external_id=named[row["reference"]], sent_at=row["claimed_at"], now=now,
        )  # fmt: skip


async def echoes(
    session: Session, *, account: Opened, outbound: Sequence[tuple[int, UUID, Message]], now: datetime
) -> set[int]:
    """Which of these, as `(number, contact, message)`, have to wait: a message of ours to them is on its way just now.

    One that is like a message of which nobody knows whether it went, is that message, which is settled.
    """
    people = await aliases.people(session, ids={contact_id for _, contact_id, _ in outbound})
    whose = {known_as: contact_id for contact_id, ids in people.items() for known_as in ids}
    rows = await session.fetch(
        """
        SELECT m.contact_id, m.id, m.status, m.claimed_at, i.body
        FROM outbound_messages m JOIN interactions i ON i.contact_id = m.contact_id AND i.id = m.id
        WHERE m.contact_id = ANY ($1) AND m.account_id = $2 AND m.status IN ('sending', 'unknown')
            AND m.sent_to IS NOT NULL
        ORDER BY m.contact_id, m.id FOR UPDATE OF m
        """,
        list(whose), account.id,
    )  # fmt: skip
    waiting = set()
    for number, contact_id, message in outbound:
        theirs = [row for row in rows if whose[row["contact_id"]] == contact_id]
        if any(row["status"] == "sending" for row in theirs):
            waiting.add(number)
            continue
        same = next((row for row in theirs if row["body"] == message.text), None)
        if same is not None:
            rows.remove(same)
            await dispatch.settle(
                session, account=account, contact_id=same["contact_id"], message_id=same["id"],
                external_id=message.external_id, sent_at=same["claimed_at"], now=now,
            )  # fmt: skip
    return waiting
