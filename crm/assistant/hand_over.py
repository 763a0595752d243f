"""How a question goes from the bot to people."""

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from crm.care import tasks
from crm.contacts import aliases
from crm.db import writes
from crm.db.session import Session
from crm.interactions import timeline

Reason: TypeAlias = Literal["asked_for_a_person", "complaint", "unsure"]

BY: Final = "bot"
_TITLES: Final[dict[Reason, str]] = {
    "asked_for_a_person": "Answer: they want to talk to a person",
    "complaint": "Answer a complaint",
    "unsure": "Answer a question that the bot could not",
}
_NATURAL_KEY: Final = "assistant:"


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
    """Let people answer, and say so on the timeline: the id of the task. There is one at a time for each contact.

    Raises ContactNotFound.
    """
    task_id: UUID | None = await session.fetchval(
        f"""
        SELECT t.id FROM {aliases.known_as("$1::uuid")} who
        JOIN tasks t ON t.contact_id = who.id AND t.status = 'open' AND t.natural_key LIKE '{_NATURAL_KEY}%'
        ORDER BY t.id DESC LIMIT 1
        """,
        contact_id,
    )
    if task_id is None:
        task, _ = await tasks.create(
            session, contact_id=contact_id, title=_TITLES[reason], note=f"{channel}: {question}", due_at=now,
            natural_key=f"{_NATURAL_KEY}{reply_id}", by=BY, now=now,
        )  # fmt: skip
        task_id = task.id
    data: dict[str, Any] = {"reason": reason, "reply_id": reply_id, "task_id": task_id}
    told = timeline.entry(
        contact_id, channel=channel, kind="assistant.handed_over", direction="internal", occurred_at=now,
        recorded_at=now, by=BY, thread_id=thread_id, data=data,
    )  # fmt: skip
    await writes.write(session, [timeline.part([told])])
    return task_id
