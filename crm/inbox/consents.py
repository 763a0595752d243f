"""Consents that channels report: a STOP, a block, a subscription."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.errors import CrmError
from crm.inbox import heard
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions import consenting
from crm.interactions.channels.events import ConsentChanged
from crm.interactions.consenting import Declaration


async def record_all(
    session: Session, *, account: Opened, changed: Sequence[tuple[Heard, ConsentChanged, UUID]], now: datetime
) -> Outcomes:
    """Record what contacts allowed or forbade."""
    results = await consenting.record_all(
        session,
        declarations=[(contact_id, _declaration(account, event)) for _, event, contact_id in changed],
        by=account.by,
        now=now,
    )
    outcomes: Outcomes = {}
    for (one, _, contact_id), result in zip(changed, results, strict=True):
        if isinstance(result, CrmError):
            outcomes[one.number] = one.failed(result, contact_id)
        else:
            consent, is_new = result
            told = one.recorded if is_new else one.repeated
            outcomes[one.number] = told(consent.contact_id, consent.id)
    return outcomes


def _declaration(account: Opened, event: ConsentChanged) -> Declaration:
    source, external_id = heard.pair(account, event.external_id)
    return Declaration(
        channel=event.channel, purpose=event.purpose, status="granted" if event.granted else "denied",
        occurred_at=event.occurred_at, source=source, external_id=external_id, evidence=heard.data(event.evidence),
    )  # fmt: skip
