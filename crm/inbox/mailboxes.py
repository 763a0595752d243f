"""Mailboxes that nobody delivers from: new mail is fetched, and taken in like any other delivery.

A mail counts as taken when it is stored, and not before: each in one transaction with how far its mailbox is read. So
whatever breaks off in between, it is fetched again and known by its place.
"""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from crm.db.session import Database, Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.inbox import accounts, deliveries
from crm.inbox.accounts import LastError, Opened
from crm.interactions.channels import imap
from crm.interactions.channels.imap import Fetched, Mailbox, MailboxUnavailable, MailWithheld, Position

PROVIDER: Final = "imap"
START: Final = "start"
"""The setting that says from where on a mailbox is read at first: `now`, or else from its first mail on."""
POLLED_AFTER: Final = timedelta(seconds=50)
"""A run every minute finds every mailbox due, though one is a bit earlier than the one before."""
DELAY_MAX: Final = timedelta(hours=1)
"""A mailbox that can't be read is tried less and less often, up to this: some servers lock who errs too often."""
POLLED_AT_ONCE: Final = 4
"""Each takes a thread as long as it lasts."""

_log = structlog.get_logger(__name__)


async def due(session: Session, *, now: datetime) -> list[UUID]:
    """The accounts whose mailboxes are to be looked into, those longest ago first.

    One that was changed since is tried at once: it may have another password now.
    """
    rows = await session.fetch(
        """
        SELECT a.id FROM channel_accounts a LEFT JOIN mailboxes m ON m.account_id = a.id
        WHERE a.provider = $1 AND (m.next_at IS NULL OR m.next_at <= $2 OR a.updated_at > m.polled_at)
        ORDER BY m.polled_at NULLS FIRST, a.id
        """,
        PROVIDER, now,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def lock(session: Session, *, account_ids: Collection[UUID]) -> list[UUID]:
    """Those of the accounts that nobody else is reading, in any process; until `unlock`, on the same connection."""
    rows = await session.fetch(
        """
        SELECT g.id FROM unnest($1::uuid[]) WITH ORDINALITY AS g (id, place)
        WHERE pg_try_advisory_lock(hashtextextended('mailbox:' || g.id, 0)) ORDER BY g.place
        """,
        list(account_ids),
    )
    return [row["id"] for row in rows]


async def unlock(session: Session, *, account_ids: Collection[UUID]) -> None:
    """Let others read these mailboxes. A connection that has broken off has done so by itself."""
    with suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError, OSError):
        await session.fetch(
            "SELECT pg_advisory_unlock(hashtextextended('mailbox:' || g.id, 0)) FROM unnest($1::uuid[]) AS g (id)",
            list(account_ids),
        )


async def poll(database: Database, *, account_id: UUID, vault: Vault, now: datetime) -> int:
    """Take in what is new in a mailbox that is locked for us; how many mails.

    What goes wrong is noted with the account, and tried again later.
    """
    async with database.reading() as session:
        account = (await accounts.open_all(session, ids=[account_id], vault=vault)).get(account_id)
        written = await session.fetchval("SELECT position FROM mailboxes WHERE account_id = $1", account_id)
    if account is None:
        return 0
    count = 0
    try:
        count = await _read(database, account, Position.parse(written or ""), now)
    except MailWithheld as refusal:
        # Whatever comes behind it will pass it by.
        async with database.begin() as session:
            await accounts.note_errors(session, errors={account_id: LastError(refusal.code, refusal.detail, now)})
    except (MailboxUnavailable, SecretsUnreadable) as refusal:
        await _failed(database, account_id, LastError(refusal.code, refusal.detail, now))
        return 0
    async with database.begin() as session:
        await _polled(session, account_id, None, now)
    return count


async def look_into(account: Opened) -> None:
    """Make sure that an account's mailbox can be read. Raises MailboxUnavailable."""
    await imap.last(Mailbox.of(account.at_provider))


async def _read(database: Database, account: Opened, since: Position | None, now: datetime) -> int:
    if account.sealed:
        raise SecretsUnreadable("The account's password was stored under another CRM_SECRET_KEY.")
    mailbox = Mailbox.of(account.at_provider)
    if since is None and account.at_provider.settings.get(START) == "now":
        since = await imap.last(mailbox)
        async with database.begin() as session:
            await _polled(session, account.id, since, now)
    count, going_on = 0, True
    while going_on:
        found = await imap.fetch(mailbox, since=since, limit=imap.FETCHED_AT_ONCE)
        for each in found:
            count += await _take(database, account, mailbox, each, now)
            since = each.position
        going_on = len(found) == imap.FETCHED_AT_ONCE
    return count


async def _take(database: Database, account: Opened, mailbox: Mailbox, fetched: Fetched, now: datetime) -> bool:
    """Store a mail with how far the mailbox is read by that; whether it was not here yet."""
    delivery = imap.delivery(fetched, mailbox=mailbox, received_at=now)
    async with database.begin() as session:
        stored = await deliveries.store(
            session, account_id=account.id, delivery=delivery, key=imap.key(delivery),
            secrets=account.at_provider.secrets,
        )  # fmt: skip
        await _polled(session, account.id, fetched.position, now)
    return stored is not None


async def _polled(session: Session, account_id: UUID, position: Position | None, now: datetime) -> None:
    await session.execute(
        """
        INSERT INTO mailboxes AS m (account_id, position, polled_at, next_at)
        SELECT id, $2, $3, $4 FROM channel_accounts WHERE id = $1
        ON CONFLICT (account_id) DO UPDATE SET position = coalesce(excluded.position, m.position),
            polled_at = excluded.polled_at, next_at = excluded.next_at, failures_count = 0
        """,
        account_id, None if position is None else str(position), now, now + POLLED_AFTER,
    )  # fmt: skip


async def _failed(database: Database, account_id: UUID, error: LastError) -> None:
    _log.warning("mailbox_unavailable", account_id=account_id, reason=error.detail)
    async with database.begin() as session:
        await session.execute(
            """
            INSERT INTO mailboxes AS m (account_id, polled_at, next_at, failures_count)
            SELECT id, $2::timestamptz, $2::timestamptz + $3::interval, 1 FROM channel_accounts WHERE id = $1
            ON CONFLICT (account_id) DO UPDATE SET polled_at = excluded.polled_at,
                next_at = excluded.polled_at + least($3::interval * 2 ^ least(m.failures_count, 16), $4::interval),
                failures_count = m.failures_count + 1
            """,
            account_id, error.at, POLLED_AFTER, DELAY_MAX,
        )  # fmt: skip
        await accounts.note_errors(session, errors={account_id: error})
