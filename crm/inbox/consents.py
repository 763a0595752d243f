"""Consents that channels report: a STOP, a block, a subscription."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from crm.db.session import Session
from crm.errors import CrmError
from crm.inbox import heard
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions import timeline
from crm.interactions.channels.events import ConsentChanged
from crm.interactions.timeline import Report

GRANTED = "consent.granted"
DENIED = "consent.denied"


async def record_all(
    session: Session, *, account: Opened, changed: Sequence[tuple[Heard, ConsentChanged, UUID]], now: datetime
) -> Outcomes:
    """Record what contacts allowed or forbade, on their timelines."""
    results = await timeline.record_all(
        session,
        reports=[(contact_id, _report(account, event)) for _, event, contact_id in changed],
        by=account.by,
        now=now,
        ours=True,
    )
    outcomes: Outcomes = {}
    for (one, _, contact_id), result in zip(changed, results, strict=True):
        if isinstance(result, CrmError):
            outcomes[one.number] = one.failed(result, contact_id)
        else:
            interaction, is_new = result
            told = one.recorded if is_new else one.repeated
            outcomes[one.number] = told(interaction.contact_id, interaction.id)
    return outcomes


def _report(account: Opened, event: ConsentChanged) -> Report:
    source, external_id = heard.pair(account, event.external_id)
    return Report(
        channel=account.at_provider.channel, kind=GRANTED if event.granted else DENIED, occurred_at=event.occurred_at,
        direction="inbound", source=source, external_id=external_id,
        data={"channel": event.channel, "purpose": event.purpose, "evidence": heard.data(event.evidence)},
    )  # fmt: skip
