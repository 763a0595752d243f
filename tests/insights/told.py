"""Timelines with anything on them, put in raw and read back plainly, for reports to be counted by hand against."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert
from crm.interactions import timeline
from crm.interactions.threads import threads

CHANNELS = ("whatsapp", "email", "phone")
DIRECTIONS = ("inbound", "outbound", "internal", None)
KINDS = ("message", "call")
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Told:
    """An interaction, as far as reports look at it."""

    occurred_at: datetime
    channel: str
    direction: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a thread."""

    occurred_at: datetime
    direction: str
    by: str = "key:desk"
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_human(self) -> bool:
        return self.direction == "outbound" and self.by == "key:desk" and not self.data


async def happen(session: Session, seed: int, *, since: datetime, until: datetime, count: int = 400) -> list[Told]:
    """Let this happen between two instants, and just at them."""
    rolled = random.Random(seed)
    seconds = int((until - since).total_seconds())
    instants = [since + rolled.randrange(seconds) * SECOND for _ in range(count)]
    told = [
        Told(at, rolled.choice(CHANNELS), rolled.choice(DIRECTIONS), rolled.choice(KINDS))
        for at in (*instants, since, since - timedelta(microseconds=1), until, until - timedelta(microseconds=1))
    ]
    rows = [
        timeline.entry(
            uuid7(), channel=one.channel, kind=one.kind, direction=one.direction, occurred_at=one.occurred_at,
            recorded_at=one.occurred_at, by="key:desk",
        )
        for one in told
    ]  # fmt: skip
    await writes.write(session, [timeline.part(rows)])
    return told


async def talk(session: Session, said: Sequence[Said], *, channel: str, contact_id: UUID | None = None) -> None:
    """Put a thread of these messages on somebody's timeline."""
    who, thread_id = contact_id or uuid7(), uuid7()
    instants = [one.occurred_at for one in said]
    columns = ("contact_id", "id", "account_id", "channel", "opened_at", "last_at", "messages_count")
    row = (who, thread_id, uuid7(), channel, min(instants), max(instants), len(said))
    rows = [
        timeline.entry(
            who, channel=channel, kind="message", direction=one.direction, occurred_at=one.occurred_at,
            recorded_at=one.occurred_at, by=one.by, thread_id=thread_id, data=one.data,
        )
        for one in said
    ]  # fmt: skip
    await writes.write(session, [Insert(threads, columns, [row]), timeline.part(rows)])
