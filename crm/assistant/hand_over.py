"""How a question goes from the bot to people."""

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from crm.care import cases
from crm.care.cases import Draft
from crm.contacts import aliases
from crm.db import writes
from crm.db.session import Session
from crm.interactions import timeline
from crm.loyalty.vocabulary import VOCABULARY

Reason: TypeAlias = Literal["asked_for_a_person", "complaint", "unsure"]

BY: Final = "bot"
CATEGORY: Final = "assistant"
_SUBJECTS: Final[dict[Reason, str]] = {
    "asked_for_a_person": "They want to talk to a person",
    "complaint": "A complaint",
    "unsure": "A question that the bot could not answer",
}
# What is spoken about in the same thread, else what was handed over before.
_LIVE: Final = f"""
    SELECT c.id FROM {aliases.known_as("$1::uuid")} who
    JOIN cases c ON c.contact_id = who.id AND c.status IN ('open', 'waiting')
    LEFT JOIN case_conversations v ON v.contact_id = c.contact_id AND v.case_id = c.id AND v.thread_id = $2
    WHERE v.thread_id IS NOT NULL OR c.created_by = '{BY}'
    ORDER BY v.thread_id IS NOT NULL DESC, c.id DESC LIMIT 1
"""


async def to_people(
    session: Session,
    *,
    contact_id: UUID,
    reply_id: UUID,
    question: str,
    reason: Reason,
    channel: str,
    thread_id: UUID | None,
    now: datetime,
) -> UUID:
    """Let people answer, and say so on the timeline: the id of the case in which they do.

    It is the one that is open already, in which people are waited for from now on, or a new one. The contact must be
    locked. Raises ContactNotFound.
    """
    case_id: UUID | None = await session.fetchval(_LIVE, contact_id, thread_id)
    if case_id is not None:
        await cases.hand_over(session, case_id=case_id, by=BY, now=now)
    else:
        draft = Draft(subject=_SUBJECTS[reason], description=question, category=CATEGORY, channel=channel)
        case = await cases.create(
            session, vocabulary=VOCABULARY, contact_id=contact_id, draft=draft, by=BY, now=now
        )  # fmt: skip
        case_id = case.id
    data: dict[str, Any] = {"reason": reason, "reply_id": reply_id, "case_id": case_id}
    told = timeline.entry(
        contact_id, channel=channel, kind="assistant.handed_over", direction="internal", occurred_at=now,
        recorded_at=now, by=BY, thread_id=thread_id, case_id=case_id, data=data,
    )  # fmt: skip
    await writes.write(session, [timeline.part([told])])
    return case_id
