"""What is said in a case: answers to the customer, and notes that they never see."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from crm.care import case_files, casework
from crm.care.casework import Case, CaseClosed
from crm.contacts import aliases
from crm.db import idempotency, writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.interactions import timeline
from crm.interactions.timeline import Interaction, InteractionNotFound

By: TypeAlias = Literal["human", "bot"]

MESSAGE: Final = "message"
NOTE: Final = "case.note"
DEFAULT_CHANNEL: Final = "web"
_LAST: Final = """
    SELECT v.thread_id, v.channel FROM case_conversations v WHERE v.contact_id = $1 AND v.case_id = $2
    ORDER BY v.thread_id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer to the customer. Only a human's stops a clock. `status` is how the case stands after it."""

    body: str
    said_by: By = "human"
    agent: str | None = None
    subject: str | None = None
    channel: str | None = None
    status: Literal["open", "waiting", "resolved"] | None = None


async def reply(
    session: Session, *, case_id: UUID, said: Reply, by: str, once: idempotency.Request | None = None, now: datetime
) -> tuple[Interaction, Case]:
    """Put down what the customer was answered, where the case is spoken about unless a channel is named.

    Raises CaseNotFound, CaseClosed, ReopenPeriodOver.
    """
    file = await case_files.take(session, case_id=case_id)
    case = file.case
    if case.status == "closed":
        raise CaseClosed("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    last = await session.fetchrow(_LAST, case.contact_id, case.id)
    same = last is not None and said.channel in {None, last["channel"]}
    channel = said.channel or (last["channel"] if last is not None else None) or case.channel or DEFAULT_CHANNEL
    row = timeline.entry(
        case.contact_id, id=uuid7(), channel=channel, kind=MESSAGE, direction="outbound", occurred_at=now,
        recorded_at=now, by=by, subject=said.subject, body=said.body, case_id=case.id,
        thread_id=last["thread_id"] if last is not None and same else None,
        data={"by": said.said_by, **({"agent": said.agent} if said.agent else {})},
    )  # fmt: skip
    file.told.append(row)
    file.changed = True
    if said.said_by == "human" and case.is_live:
        casework.reply(file, at=now, by=by, now=now)
    if said.status is not None:
        casework.set_status(file, said.status, by=by, now=now)
    written = Interaction(*row)
    parts = case_files.parts([file], now=now)
    await writes.write(
        session, [*parts, *idempotency.answer(once, contact_id=case.contact_id, result=written, now=now)]
    )
    return written, case


async def note(
    session: Session, *, case_id: UUID, body: str, by: str, once: idempotency.Request | None = None, now: datetime
) -> Interaction:
    """Put down something for those who work on a case; the customer waits on. Raises CaseNotFound."""
    case = await case_files.read(session, case_id=case_id)
    row = timeline.entry(
        case.contact_id, id=uuid7(), channel=casework.CHANNEL, kind=NOTE, direction="internal", occurred_at=now,
        recorded_at=now, by=by, subject=case.subject, body=body, case_id=case.id, data={"case_id": case.id},
    )  # fmt: skip
    written = Interaction(*row)
    await writes.write(
        session,
        [timeline.part([row]), *idempotency.answer(once, contact_id=case.contact_id, result=written, now=now)],
    )
    return written


async def page(
    session: Session,
    *,
    case_id: UUID,
    kind: str | None = None,
    direction: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[Interaction]:
    """What happened in a case, on all its channels, newest first, older than `before`. Raises CaseNotFound."""
    case = await case_files.read(session, case_id=case_id)
    who = await _who(session, case)
    return await timeline.page(
        session, contact_id=who, case_id=case_id, kind=kind, direction=direction, before=before, limit=limit
    )


async def get(session: Session, *, case_id: UUID, interaction_id: UUID, kind: str, direction: str) -> Interaction:
    """One thing that was said in a case. Raises CaseNotFound, InteractionNotFound."""
    case = await case_files.read(session, case_id=case_id)
    who = await _who(session, case)
    for contact_id in (who, *await aliases.of(session, contact_id=who)):
        try:
            found = await timeline.get(session, contact_id=contact_id, interaction_id=interaction_id)
        except InteractionNotFound:
            continue
        if (found.case_id, found.kind, found.direction) == (case_id, kind, direction):
            return found
    raise InteractionNotFound("The case has nothing with this id.")


async def _who(session: Session, case: Case) -> UUID:
    """The contact who is behind a case now: one that is closed stays where it was when they were merged."""
    return (await aliases.survivors(session, ids=[case.contact_id])).get(case.contact_id, case.contact_id)
