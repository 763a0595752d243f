"""What would become of a message, before anything is sent: its words, and what its channel would say to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.errors import CrmError
from crm.inbox import outbound, routing, templates
from crm.inbox.clearance import Postponed
from crm.inbox.house import House
from crm.inbox.outbound import Draft
from crm.interactions.channels.outgoing import TEXT_MAX, ProviderTemplate
from crm.interactions.channels.senders import letters

_GSM: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€"
)
_SEGMENT, _SEGMENT_WIDE = 160, 70


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to know of a message."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class MessagePreview:
    """A message as it would be: on which channel, if one is found, and in which language.

    `warnings` let it go all the same; for `refusals` it would not be taken now. `waits_until` is when it would go.
    """

    language: str
    channel: str | None
    text: str | None
    subject: str | None
    provider_template: ProviderTemplate | None
    warnings: list[Remark]
    refusals: list[Remark]
    waits_until: datetime | None


async def preview(
    session: Session,
    *,
    template_id: UUID,
    contact_id: UUID,
    variables: Mapping[str, Any],
    draft: Draft,
    house: House,
    now: datetime,
) -> MessagePreview:
    """A template filled in for somebody, sent as `draft` says.

    Raises TemplateNotFound, UnknownReference, UnknownVariable, TemplateNotFilled.
    """
    template = await templates.get(session, template_id=template_id)
    try:
        filled = await templates.fill(session, template=template, contact_id=contact_id, variables=variables, now=now)
    except ContactNotFound as error:
        raise routing.unknown("contact_id", error.detail) from error
    channel, refusals, waits_until = None, [], None
    try:
        route = await outbound.route_of(session, contact_id=contact_id, draft=draft, template=template)
        channel = route.channel
        said = outbound.worded(draft, filled)
        verdict = await outbound.judge(
            session, contact_id=contact_id, draft=said, route=route, house=house, at=now, now=now
        )
        waits_until = verdict.until if isinstance(verdict, Postponed) else None
    except CrmError as refusal:
        refusals.append(Remark(refusal.code, refusal.detail))
    return MessagePreview(
        filled.language, channel, filled.text, filled.subject, filled.provider_template,
        _warnings(channel, filled.text, filled.subject), refusals, waits_until,
    )  # fmt: skip


def _warnings(channel: str | None, text: str | None, subject: str | None) -> list[Remark]:
    found = []
    if channel in letters.CHANNELS and not subject:
        found.append(Remark("no_subject", f"The mail would be called '{letters.NO_SUBJECT}'."))
    if channel == "sms" and text:
        narrow = set(text) <= _GSM
        one = _SEGMENT if narrow else _SEGMENT_WIDE
        if len(text) > one:
            found.append(
                Remark("several_segments", f"It is {len(text)} characters; over {one} cost more than one SMS.")
            )
    if channel is None and text and (over := [name for name, most in TEXT_MAX.items() if len(text) > most]):
        found.append(Remark("text_too_long", f"It is too long for {', '.join(over)}."))
    return found
