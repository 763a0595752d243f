"""What people want done with their data, as channels pass it on, and what became of that."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db import queue
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import NotFound
from crm.inbox import heard
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions.channels.events import PrivacyRequested

Status: TypeAlias = Literal["pending", "waiting", "done", "nobody_known", "refused"]

JOB: Final = "carry_out_privacy_requests"
"""The job that carries them out."""
_GIVEN: Final = "id, account_id, external_id, topic, identities, data, occurred_at, recorded_at"
COLUMNS: Final = f"{_GIVEN}, status, contact_id, erasure_id, task_id, reason, decided_by, done_at"


class PrivacyRequestNotFound(NotFound):
    code = "privacy_request_not_found"
    title = "There is no such request"


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """An address of the person whom a request is about, as the provider gave it; `verified` where it vouches for it."""

    kind: str
    value: str
    account: str
    verified: bool = False


@dataclass(frozen=True, slots=True)
class PrivacyRequest:
    """A wish to know what is kept, or to be forgotten; `identities` say whose it is.

    It is `pending` until the worker has it; `waiting` where somebody has to decide who it is, for the `reason`, and the
    task is theirs; `done` with a certificate, the `erasure_id`, or a task to send `GET …/personal-data.html`; and
    `refused` for the `reason`. Of a shop that is given up, `contacts_kept` says that all it delivered has gone, and the
    contacts stay.
    """

    id: UUID
    account_id: UUID
    external_id: str
    topic: Literal["export", "erasure", "shop_erasure"]
    identities: list[RequestIdentity]
    data: dict[str, Any]
    occurred_at: datetime
    recorded_at: datetime
    status: Status
    contact_id: UUID | None
    erasure_id: UUID | None
    task_id: UUID | None
    reason: str | None
    decided_by: str | None
    done_at: datetime | None


async def record_all(
    session: Session, *, account: Opened, requested: Sequence[tuple[Heard, PrivacyRequested]], now: datetime
) -> Outcomes:
    """Keep requests, each once, and have them carried out."""
    outcomes: Outcomes = {}
    news = False
    for one, event in requested:
        addresses = event.person.addresses if event.person is not None else ()
        is_new = await session.fetchval(
            f"""
            INSERT INTO privacy_requests ({_GIVEN}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (account_id, external_id) DO NOTHING RETURNING true
            """,
            uuid7(), account.id, heard.pair(account, event.external_id)[1], event.topic,
            [
                {"kind": each.kind, "value": each.value, "account": each.account, "verified": each.verified}
                for each in addresses
            ],
            heard.data(event.data), event.occurred_at, now,
        )  # fmt: skip
        outcomes[one.number] = one.recorded() if is_new else one.repeated()
        news = news or bool(is_new)
    if news:
        await queue.enqueue(session, name=JOB, payload={})
    return outcomes


async def get(session: Session, *, request_id: UUID) -> PrivacyRequest:
    """One request. Raises PrivacyRequestNotFound."""
    row = await session.fetchrow(f"SELECT {COLUMNS} FROM privacy_requests WHERE id = $1", request_id)
    if row is None:
        raise PrivacyRequestNotFound("No request has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[PrivacyRequest]:
    """Requests, the last recorded first, from before the id `before`."""
    rows = await session.fetch(
        f"SELECT {COLUMNS} FROM privacy_requests WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _view(row: Record) -> PrivacyRequest:
    return PrivacyRequest(**{**row, "identities": msgspec.convert(row["identities"], list[RequestIdentity])})
