"""What became of messages: edits, states, signs and watermarks, beside the messages that they are about."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from crm.db.session import Session
from crm.errors import Invalid
from crm.inbox import heard
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions import changes
from crm.interactions.changes import FAILED, OURS, RANKS, Change, Mark
from crm.interactions.channels.events import Attached, Edited, Reaction, StateChanged, Unsent, Watermark

Became: TypeAlias = Attached | Edited | Unsent | StateChanged | Reaction
"""The events that change one message."""
_STATES: Final = frozenset({*RANKS, FAILED}) - OURS


class UnknownState(Invalid):
    code = "unknown_state"
    title = "A message can't be in this state"


async def apply_all(
    session: Session, *, account: Opened, became: Sequence[tuple[Heard, Became]], now: datetime
) -> Outcomes:
    """Write down what became of messages; what is about one that nobody knows yet waits for it."""
    outcomes: Outcomes = {}
    wanted: list[tuple[Heard, Change]] = []
    for one, event in became:
        if isinstance(event, StateChanged) and event.state not in _STATES:
            outcomes[one.number] = one.failed(UnknownState(f"'{event.state}' is no state of a message."))
        else:
            wanted.append((one, _change(account, event)))
    applied = await changes.apply_all(session, changes=[change for _, change in wanted], now=now)
    for (one, _), result in zip(wanted, applied, strict=True):
        match result.outcome:
            case "recorded":
                outcomes[one.number] = one.recorded(result.contact_id, result.interaction_id)
            case "duplicate":
                outcomes[one.number] = one.repeated(result.contact_id, result.interaction_id)
            case "waiting":
                outcomes[one.number] = one.waiting()
    return outcomes


async def mark_all(
    session: Session, *, account: Opened, marks: Sequence[tuple[Heard, Watermark, UUID]], now: datetime
) -> Outcomes:
    """Let the messages to contacts, who are locked, reach the states of watermarks."""
    outcomes: Outcomes = {}
    for one, event, contact_id in marks:
        reached = await changes.mark(
            session,
            mark=Mark(
                contact_id=contact_id, source=account.source, state=event.state, until=event.until,
                occurred_at=event.occurred_at,
            ),
            now=now,
        )  # fmt: skip
        outcomes[one.number] = one.recorded(contact_id) if reached else one.repeated(contact_id)
    return outcomes


def _change(account: Opened, event: Became) -> Change:
    at = event.occurred_at
    match event:
        case StateChanged():
            facts = heard.data({**event.data, "error": event.error})
            return changes.state(heard.pair(account, event.external_id), event.state, data=facts, occurred_at=at)
        case Attached():
            return Change(
                of=heard.pair(account, event.to), kind="attached",
                key=f"attached:{heard.pair(account, event.external_id)[1]}",
                data={"attachments": [heard.attached(each) for each in event.attachments]}, occurred_at=at,
            )  # fmt: skip
        case Edited():
            text = heard.text(event.text)
            digest = hashlib.sha256((text or "").encode()).hexdigest()[:16]
            return Change(
                of=heard.pair(account, event.external_id), kind="edited", key=f"edited:{at.isoformat()}:{digest}",
                data={"text": text}, occurred_at=at,
            )  # fmt: skip
        case Unsent():
            return Change(of=heard.pair(account, event.external_id), kind="unsent", key="unsent", occurred_at=at)
        case Reaction():
            address = event.person.addresses[0] if event.person.addresses else None
            by = "" if address is None else f"{address.kind}:{address.value}"
            return Change(
                of=heard.pair(account, event.to), kind="reaction",
                key=f"reaction:{heard.pair(account, event.external_id)[1]}",
                data={"by": by, "emoji": event.emoji}, occurred_at=at,
            )  # fmt: skip
