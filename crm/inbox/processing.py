"""Processing deliveries: some at a time, each exactly once, whatever breaks off in between.

A batch is one transaction: its deliveries are claimed, carried out and marked together, or not at all. Whoever else
works at the same time takes others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from crm.db.session import Database, Session
from crm.db.vault import Vault
from crm.errors import CrmError
from crm.inbox import accounts, deliveries, happenings, heard, providers
from crm.inbox.accounts import LastError, Opened
from crm.inbox.deliveries import ATTEMPTS_MAX, RETRY_DELAY, EventError, EventOutcome, Finished, Pending
from crm.inbox.heard import Heard, Outcomes
from crm.inbox.house import House
from crm.inbox.orders import OrderNotHere
from crm.inbox.settling import StillSending
from crm.interactions import changes

BATCH: Final = 200
BATCH_BYTES: Final = 16_000_000
BATCH_ATTEMPTS: Final = 5
"""How often a batch is begun anew that got into the way of somebody else's transaction."""
IN_THE_WAY: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
# What says nothing about the event that met it.
_PASSING: Final = (
    *IN_THE_WAY, asyncpg.QueryCanceledError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError, asyncpg.InterfaceError,
    asyncpg.InternalClientError, OSError,
)  # fmt: skip
_LATER: Final = frozenset({OrderNotHere.code, StillSending.code})
"""Refusals that may turn into the contrary by themselves: the delivery is tried again."""

Clock = Callable[[], datetime]
_log = structlog.get_logger(__name__)


async def work_off(database: Database, *, vault: Vault, house: House, clock: Clock) -> int:
    """Process what is due, until nothing is left that nobody else has; how many deliveries."""
    done = 0
    while processed := await _batch(database, vault, house, clock):
        done += processed
    async with database.begin() as session:
        await changes.settle(session, now=clock())
    return done


async def process(session: Session, *, vault: Vault, house: House, now: datetime) -> int:
    """Process one batch; how many deliveries were in it, 0 when nothing is due."""
    pending = await deliveries.claim(session, count_max=BATCH, bytes_max=BATCH_BYTES, now=now)
    if not pending:
        return 0
    opened = await accounts.open_all(session, ids={each.account_id for each in pending}, vault=vault)
    finished: list[Finished] = []
    by_account: dict[UUID, list[Pending]] = {}
    for each in pending:
        by_account.setdefault(each.account_id, []).append(each)
    for account_id, theirs in by_account.items():
        finished += await _carry_out(session, opened.get(account_id), theirs, house, now)
    await deliveries.finish(session, finished=finished, now=now)
    await accounts.note_errors(session, errors=_errors(by_account, finished, now))
    return len(pending)


async def rehearse(session: Session, *, delivery_id: UUID, account: Opened, house: House, now: datetime) -> None:
    """Process a test delivery, keep what came of it, and nothing of what it said."""
    pending = await deliveries.read(session, delivery_id=delivery_id)
    finished: list[Finished] = []
    try:
        async with session.savepoint():
            finished = await _carry_out(session, account, [pending], house, now)
            raise _Rehearsed  # noqa: TRY301 - what takes it back is the end of this very block
    except _Rehearsed:
        await deliveries.finish(session, finished=finished, status="test", now=now)


class _Rehearsed(Exception):
    """Takes back what a rehearsal wrote."""


async def _batch(database: Database, vault: Vault, house: House, clock: Clock) -> int:
    for attempt in count(1):
        try:
            async with database.begin() as session:
                return await process(session, vault=vault, house=house, now=clock())
        except IN_THE_WAY:
            if attempt == BATCH_ATTEMPTS:
                raise
            _log.info("inbox_batch_begins_anew", attempt=attempt)
    raise AssertionError("it returns or raises")


async def _carry_out(
    session: Session, account: Opened | None, pending: Sequence[Pending], house: House, now: datetime
) -> list[Finished]:
    """What came of deliveries of one account. All at once; if that fails, each event alone, to find the bad one."""
    if account is None:
        gone = EventError(accounts.AccountNotFound.code, "Its account is gone, and with it what was needed to read it.")
        return [Finished(each.id, [], gone, None) for each in pending]
    numbers = count()
    said: dict[UUID, tuple[list[Heard], EventError | None]] = {
        each.id: _said(account, each, numbers) for each in pending
    }
    events = [one for heard_, _ in said.values() for one in heard_]
    try:
        async with session.savepoint():
            outcomes = await happenings.apply(session, account=account, events=events, house=house, now=now)
    except _PASSING:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns one event and not its neighbors
        _log.warning("inbox_batch_taken_apart", account_id=account.id, events=len(events), error=repr(error))
        outcomes = await _one_by_one(session, account, events, house, now)
    return [
        _finished(each, [outcomes[one.number] for one in said[each.id][0]], said[each.id][1], now) for each in pending
    ]


async def _one_by_one(
    session: Session, account: Opened, events: Sequence[Heard], house: House, now: datetime
) -> Outcomes:
    outcomes: Outcomes = {}
    for one in events:
        try:
            async with session.savepoint():
                outcomes |= await happenings.apply(session, account=account, events=[one], house=house, now=now)
        except _PASSING:
            raise
        except CrmError as refusal:
            outcomes[one.number] = one.failed(refusal)
        except Exception as error:  # noqa: BLE001 - it is kept with the event, whatever it is
            _log.exception("inbox_event_failed", account_id=account.id, kind=one.name, external_id=one.external_id)
            outcomes[one.number] = one.broken(error)
    return outcomes


def _said(account: Opened, pending: Pending, numbers: Iterable[int]) -> tuple[list[Heard], EventError | None]:
    """The events of a delivery, and why there may be fewer than it has."""
    found: list[Heard] = []
    numbered = iter(numbers)
    try:
        for event in providers.adapter(account.provider).events(pending.delivery, account.at_provider):
            found.append(Heard(next(numbered), heard.clean(event)))  # noqa: PERF401 - those before an error count
    except CrmError as refusal:
        return found, EventError(refusal.code, refusal.detail)
    except Exception as error:  # noqa: BLE001 - an adapter reads what others wrote
        _log.exception("inbox_delivery_unreadable", account_id=account.id, delivery_id=pending.id)
        return found, EventError("unreadable", f"{type(error).__name__}: {error}"[:1_000])
    return found, None


def _finished(pending: Pending, outcomes: Sequence[EventOutcome], error: EventError | None, now: datetime) -> Finished:
    later = any(outcome.error is not None and outcome.error.code in _LATER for outcome in outcomes)
    attempt = pending.attempts + 1
    retry_at = now + RETRY_DELAY * 2 ** (attempt - 1) if later and attempt < ATTEMPTS_MAX else None
    return Finished(pending.id, outcomes, error, retry_at)


def _errors(
    by_account: Mapping[UUID, Sequence[Pending]], finished: Iterable[Finished], now: datetime
) -> dict[UUID, LastError]:
    """The last error of each account that had one."""
    of = {each.id: account_id for account_id, theirs in by_account.items() for each in theirs}
    errors: dict[UUID, LastError] = {}
    for each in finished:
        wrong = each.error or next((event.error for event in reversed(each.events) if event.error is not None), None)
        if wrong is not None:
            errors[of[each.id]] = LastError(wrong.code, wrong.detail, now)
    return errors
