"""What people want done with their data, as channels pass it on: kept until somebody carries it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import NotFound
from crm.inbox import heard
from crm.inbox.accounts import Opened
from crm.inbox.heard import Heard, Outcomes
from crm.interactions.channels.events import PrivacyRequested

_COLUMNS = "id, account_id, external_id, topic, identities, data, occurred_at, recorded_at"


class PrivacyRequestNotFound(NotFound):
    code = "privacy_request_not_found"
    title = "There is no such request"


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """An address of the person whom a request is about, as the provider gave it."""

    kind: str
    value: str
    account: str


@dataclass(frozen=True, slots=True)
class PrivacyRequest:
    """A wish to know what is kept, or to be forgotten; `identities` say whose it is."""

    id: UUID
    account_id: UUID
    external_id: str
    topic: Literal["export", "erasure", "shop_erasure"]
    identities: list[RequestIdentity]
    data: dict[str, Any]
    occurred_at: datetime
    recorded_at: datetime


async def record_all(
    session: Session, *, account: Opened, requested: Sequence[tuple[Heard, PrivacyRequested]], now: datetime
) -> Outcomes:
    """Keep requests, each once."""
    outcomes: Outcomes = {}
    for one, event in requested:
        addresses = event.person.addresses if event.person is not None else ()
        is_new = await session.fetchval(
            f"""
            INSERT INTO privacy_requests ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (account_id, external_id) DO NOTHING RETURNING true
            """,
            uuid7(), account.id, heard.pair(account, event.external_id)[1], event.topic,
            [{"kind": each.kind, "value": each.value, "account": each.account} for each in addresses],
            heard.data(event.data), event.occurred_at, now,
        )  # fmt: skip
        outcomes[one.number] = one.recorded() if is_new else one.repeated()
    return outcomes


async def get(session: Session, *, request_id: UUID) -> PrivacyRequest:
    """One request. Raises PrivacyRequestNotFound."""
    row = await session.fetchrow(f"SELECT {_COLUMNS} FROM privacy_requests WHERE id = $1", request_id)
    if row is None:
        raise PrivacyRequestNotFound("No request has this id.")
    return _view(row)


async def page(session: Session, *, before: UUID | None, limit: int) -> list[PrivacyRequest]:
    """Requests, the last recorded first, from before the id `before`."""
    rows = await session.fetch(
        f"SELECT {_COLUMNS} FROM privacy_requests WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _view(row: Record) -> PrivacyRequest:
    return PrivacyRequest(**{**row, "identities": msgspec.convert(row["identities"], list[RequestIdentity])})
