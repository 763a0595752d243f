"""Deliveries: what providers sent, byte for byte, and what came of each."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db import queue
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import Conflict, NotFound
from crm.interactions.channels.deliveries import Delivery

JOB: Final = "process_deliveries"
"""The job of `crm.jobs` that a delivery wakes."""
Status: TypeAlias = Literal["pending", "processed", "failed", "refused", "test"]
STATUSES: Final[tuple[Status, ...]] = ("pending", "processed", "failed", "refused", "test")
VERIFIED: Final = "verified"

HIDDEN: Final = "[hidden]"
# Headers, and parameters of the query, that may hold a secret though not one of this account's: a former one, say.
_CONFIDENTIAL: Final = re.compile(r"authorization|cookie|secret|password")
_CONFIDENTIAL_QUERY: Final = re.compile(r"token|secret|password|key", re.IGNORECASE)
BODY_SHOWN_MAX: Final = 200_000
"""How many bytes of a body are shown."""

ATTEMPTS_MAX: Final = 11
RETRY_DELAY: Final = timedelta(seconds=30)
"""Doubled at each attempt: the last is more than eight hours after the first. Shops go on trying for up to four."""
PURGED_AT_ONCE: Final = 1_000


class DeliveryNotFound(NotFound):
    code = "delivery_not_found"
    title = "There is no such delivery"


class DeliveryNotReplayable(Conflict):
    code = "delivery_not_replayable"
    title = "This delivery can't be processed again"


@dataclass(frozen=True, slots=True)
class EventError:
    """Why an event, or a delivery, came to nothing."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOutcome:
    """What came of one event of a delivery.

    `recorded`: it stands where it belongs; `duplicate`: it stood there already; `waiting`: for the message it is about;
    `kept`: nobody is known with whom it happened, so it stays with its delivery; `failed`: `error` says why.
    """

    event: str
    external_id: str | None = None
    outcome: Literal["recorded", "duplicate", "waiting", "kept", "failed"]
    contact_id: UUID | None = None
    interaction_id: UUID | None = None
    error: EventError | None = None


@dataclass(slots=True)
class DeliverySummary:
    """A delivery without what was in it. `events_count` and `failed_count` are null until it was processed."""

    id: UUID
    account_id: UUID
    received_at: datetime
    status: Status
    verdict: str
    key: str | None
    body_length: int
    attempts: int
    retry_at: datetime | None
    processed_at: datetime | None
    events_count: int | None
    failed_count: int | None
    error: EventError | None
    purged_at: datetime | None


@dataclass(slots=True)
class DeliveryView:
    """A delivery with what was in it and what came of it.

    `body` is text, or base64 where `body_encoding` says so, and of a long one the beginning; null once it was purged,
    and where it was refused. Secrets among `headers` and `query` are hidden.
    """

    id: UUID
    account_id: UUID
    received_at: datetime
    status: Status
    verdict: str
    key: str | None
    body_length: int
    attempts: int
    retry_at: datetime | None
    processed_at: datetime | None
    error: EventError | None
    purged_at: datetime | None
    method: str
    url: str
    headers: dict[str, str]
    query: dict[str, str]
    body: str | None
    body_encoding: Literal["text", "base64"]
    events: list[EventOutcome] | None


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery to be processed."""

    id: UUID
    account_id: UUID
    attempts: int
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a delivery; with `retry_at` it is processed once more then."""

    id: UUID
    events: Sequence[EventOutcome]
    error: EventError | None
    retry_at: datetime | None


async def store(
    session: Session, *, account_id: UUID, delivery: Delivery, key: str | None, secrets: Mapping[str, str],
    status: Literal["pending", "test"] = "pending",
) -> UUID | None:  # fmt: skip
    """Keep a verified delivery and have it processed; None where it, or its like, is here already.

    Values of `secrets` are kept out of what is stored. Raises DeliveryNotFound where the account is gone.
    """
    row = await session.fetchrow(
        _STORE, uuid7(), account_id, delivery.received_at, status, VERIFIED, key, delivery.method,
        *_shown(delivery, secrets), delivery.body, len(delivery.body), JOB,
    )  # fmt: skip
    if row is None:
        raise DeliveryNotFound("The account of this delivery is gone.")
    stored: UUID | None = row["stored"]
    if stored is not None and status == "pending" and not row["awake"]:
        await queue.enqueue(session, name=JOB, payload={})
    return stored


async def refuse(
    session: Session, *, account_id: UUID, delivery: Delivery, verdict: str, secrets: Mapping[str, str]
) -> None:
    """Note that a delivery was refused, without its body: nobody knows who sent it."""
    await session.execute(
        """
        INSERT INTO inbox_deliveries (id, account_id, received_at, status, verdict, method, url, headers, query,
            body_length)
        VALUES ($1, $2, $3, 'refused', $4, $5, $6, $7, $8, $9)
        """,
        uuid7(), account_id, delivery.received_at, verdict, delivery.method, *_shown(delivery, secrets),
        len(delivery.body),
    )  # fmt: skip


async def claim(session: Session, *, count_max: int, bytes_max: int, now: datetime) -> list[Pending]:
    """The oldest deliveries to be processed that nobody else has, until the end of the transaction."""
    claimed = await session.fetch(_CLAIM, count_max, now)
    ids: list[UUID] = []
    size = 0
    for row in claimed:
        size += row["body_length"]
        if ids and size > bytes_max:
            break
        ids.append(row["id"])
    if not ids:
        return []
    rows = await session.fetch(
        """
        SELECT id, account_id, attempts, received_at, method, url, headers, query, body
        FROM inbox_deliveries WHERE id = ANY ($1) ORDER BY id
        """,
        ids,
    )
    return [_pending(row) for row in rows]


async def read(session: Session, *, delivery_id: UUID) -> Pending:
    """One delivery, to be processed. Raises DeliveryNotFound."""
    row = await session.fetchrow("SELECT * FROM inbox_deliveries WHERE id = $1", delivery_id)
    if row is None:
        raise _not_found()
    return _pending(row)


async def finish(
    session: Session, *, finished: Sequence[Finished], status: Status | None = None, now: datetime
) -> None:
    """Write down what came of claimed deliveries; as `status`, or as it follows from their errors."""
    await session.execute(
        _FINISH,
        [one.id for one in finished],
        [status or _status(one) for one in finished],
        [one.retry_at for one in finished],
        [msgspec.json.encode(one.events).decode() for one in finished],
        [None if one.error is None else msgspec.json.encode(one.error).decode() for one in finished],
        now,
    )


async def get(session: Session, *, delivery_id: UUID) -> DeliveryView:
    """One delivery. Raises DeliveryNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT id, account_id, received_at, status, verdict, key, body_length, attempts, retry_at, processed_at, events,
            error, purged_at, method, url, headers, query, substr(body, 1, {BODY_SHOWN_MAX}) AS begun
        FROM inbox_deliveries WHERE id = $1
        """,
        delivery_id,
    )
    if row is None:
        raise _not_found()
    body, encoding = _text(row["begun"])
    values = {name: row[name] for name in DeliveryView.__dataclass_fields__ if name in row}
    return DeliveryView(**{
        **values, "body": body, "body_encoding": encoding, "error": _error(row["error"]),
        "events": None if row["events"] is None else msgspec.convert(row["events"], list[EventOutcome]),
    })  # fmt: skip


async def page(
    session: Session, *, account_id: UUID | None, status: Status | None, before: UUID | None, limit: int
) -> list[DeliverySummary]:
    """Deliveries, the last received first, from before the id `before`."""
    filters = {"account_id =": account_id, "status =": status, "id <": before}
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = " AND ".join(f"{name} ${place}" for place, name in enumerate(given, 2))
    if status is not None:
        # Spelled out, so that the index of those in which one has to look is known to hold them all.
        conditions += f" AND status = '{STATUSES[STATUSES.index(status)]}'"
    rows = await session.fetch(
        f"""
        SELECT id, account_id, received_at, status, verdict, key, body_length, attempts, retry_at, processed_at,
            jsonb_array_length(events) AS events_count,
            (SELECT count(*) FROM jsonb_array_elements(events) e WHERE e ->> 'outcome' = 'failed') AS failed_count,
            error, purged_at
        FROM inbox_deliveries {f"WHERE {conditions}" if conditions else ""}
        ORDER BY id DESC LIMIT $1
        """,
        limit, *given.values(),
    )  # fmt: skip
    return [
        DeliverySummary(**{
            **dict(row), "error": _error(row["error"]),
            "failed_count": None if row["events_count"] is None else row["failed_count"],
        })
        for row in rows
    ]  # fmt: skip


async def replay(session: Session, *, delivery_id: UUID) -> DeliveryView:
    """Have a delivery processed again; what stands already stays as it is.

    Raises DeliveryNotFound, DeliveryNotReplayable.
    """
    row = await session.fetchrow("SELECT status, body FROM inbox_deliveries WHERE id = $1 FOR UPDATE", delivery_id)
    if row is None:
        raise _not_found()
    if row["status"] == "refused":
        raise DeliveryNotReplayable("It was refused: nobody knows whether its sender is who they say.")
    if row["status"] == "test":
        raise DeliveryNotReplayable("It was a test. Ask for another one.")
    if row["body"] is None:
        raise DeliveryNotReplayable("Its content is deleted: it was kept as long as CRM_DELIVERIES_KEPT_DAYS says.")
    await session.execute(
        "UPDATE inbox_deliveries SET status = 'pending', attempts = 0, retry_at = NULL WHERE id = $1", delivery_id
    )
    await queue.enqueue(session, name=JOB, payload={})
    return await get(session, delivery_id=delivery_id)


async def due(session: Session, *, now: datetime) -> bool:
    """Whether anything is to be processed."""
    return bool(
        await session.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM inbox_deliveries WHERE status = 'pending' AND (retry_at IS NULL OR retry_at <= $1)
            )
            """,
            now,
        )
    )


async def purge(session: Session, *, received_before: datetime, now: datetime) -> int:
    """Delete the content of old deliveries, some at a time, and the refused ones whole; how many, 0 at the end."""
    return int(await session.fetchval(_PURGE, received_before, PURGED_AT_ONCE, now))


async def attribute(session: Session, *, account_id: UUID, event: str, external_id: str, contact_id: UUID) -> None:
    """Note of an event of which it was not known then whose it is that something of this contact stands there."""
    await session.execute(
        """
        UPDATE inbox_deliveries SET contact_ids = array_append(coalesce(contact_ids, '{}'), $3)
        WHERE account_id = $1 AND events @> $2 AND NOT coalesce(contact_ids, '{}') @> ARRAY[$3::uuid]
        """,
        account_id, [{"event": event, "external_id": external_id}], contact_id,
    )  # fmt: skip


async def purge_account(session: Session, *, account_id: UUID, now: datetime) -> int:
    """The same of all that one account delivered and that is processed, however new; how many, 0 at the end."""
    return int(await session.fetchval(_PURGE_ACCOUNT, account_id, PURGED_AT_ONCE, now))


def _shown(delivery: Delivery, secrets: Mapping[str, str]) -> tuple[str, dict[str, str], dict[str, str]]:
    """The URL, headers and query as they may be kept: who can read deliveries must not be able to forge one."""
    hidden = [value for value in secrets.values() if value]

    def shown(text: str) -> str:
        text = text.replace("\x00", "")
        return HIDDEN if any(value in text for value in hidden) else text

    headers = {
        shown(name): HIDDEN if _CONFIDENTIAL.search(name) else shown(value) for name, value in delivery.headers.items()
    }
    query = {
        shown(name): HIDDEN if _CONFIDENTIAL_QUERY.search(name) else shown(value)
        for name, value in delivery.query.items()
    }
    path, _, asked = delivery.url.partition("?")
    return path if HIDDEN in query.values() or not asked else shown(delivery.url), headers, query


def _status(finished: Finished) -> Status:
    if finished.retry_at is not None:
        return "pending"
    failed = finished.error is not None or any(event.outcome == "failed" for event in finished.events)
    return "failed" if failed else "processed"


def _pending(row: Record) -> Pending:
    delivery = Delivery(
        method=row["method"], url=row["url"], headers=row["headers"], query=row["query"], body=row["body"] or b"",
        received_at=row["received_at"],
    )  # fmt: skip
    return Pending(row["id"], row["account_id"], row["attempts"], delivery)


def _text(body: bytes | None) -> tuple[str | None, Literal["text", "base64"]]:
    if body is None:
        return None, "text"
    try:
        # The end of what is cut may be half a character.
        text = body.decode(errors="ignore" if len(body) == BODY_SHOWN_MAX else "strict")
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
    return text, "text"


def _error(stored: Mapping[str, Any] | None) -> EventError | None:
    return None if stored is None else msgspec.convert(stored, EventError)


def _not_found() -> DeliveryNotFound:
    return DeliveryNotFound("No delivery has this id.")


# One statement: it is stored while its account is there, it is no repetition, and the account is not silent any more.
_STORE: Final = f"""
    WITH account AS (
        SELECT id, silent_since FROM channel_accounts WHERE id = $2
    ), stored AS (
        INSERT INTO inbox_deliveries (id, account_id, received_at, status, verdict, key, method, url, headers, query,
            body, body_length)
        SELECT $1, a.id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM account a
        ON CONFLICT (account_id, key) WHERE key IS NOT NULL DO NOTHING
        RETURNING id
    ), heard AS (
        UPDATE channel_accounts c SET silent_since = NULL FROM account a
        WHERE c.id = a.id AND a.silent_since IS NOT NULL AND $4 = 'pending'
    )
    SELECT (SELECT id FROM stored) AS stored, {queue.waiting("$13")} AS awake FROM account
"""

_CLAIM: Final = """
    SELECT id, body_length FROM inbox_deliveries
    WHERE status = 'pending' AND (retry_at IS NULL OR retry_at <= $2)
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""

_FINISH: Final = """
    UPDATE inbox_deliveries d SET
        status = v.status, retry_at = v.retry_at, attempts = d.attempts + 1, processed_at = $6,
        events = v.events::jsonb, error = v.error::jsonb,
        contact_ids = ARRAY(
            SELECT DISTINCT (e ->> 'contact_id')::uuid FROM jsonb_array_elements(v.events::jsonb) e
            WHERE e ->> 'contact_id' IS NOT NULL
        )
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
        AS v (id, status, retry_at, events, error)
    WHERE d.id = v.id
"""

_PURGING: Final = """
    WITH old AS (
        SELECT id, status FROM inbox_deliveries
        WHERE purged_at IS NULL AND {which} AND status <> 'pending'
        ORDER BY {order} LIMIT $2 FOR UPDATE SKIP LOCKED
    ), emptied AS (
        UPDATE inbox_deliveries d SET body = NULL, headers = '{{}}', query = '{{}}', url = '', purged_at = $3
        FROM old o WHERE d.id = o.id AND o.status NOT IN ('refused', 'test')
    ), forgotten AS (
        DELETE FROM inbox_deliveries d USING old o WHERE d.id = o.id AND o.status IN ('refused', 'test')
    )
    SELECT count(*) FROM old
"""
_PURGE: Final = _PURGING.format(which="received_at < $1", order="received_at")
_PURGE_ACCOUNT: Final = _PURGING.format(which="account_id = $1", order="id")
