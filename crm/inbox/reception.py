"""Taking deliveries in: checked, stored, and answered at once; what they say is looked at later."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from crm.db.session import Database, Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.errors import Conflict, CrmError, NotFound, Unavailable
from crm.inbox import accounts, deliveries, mailboxes, processing, providers
from crm.inbox.accounts import LastError, Opened
from crm.inbox.deliveries import DeliveryNotFound, DeliveryView
from crm.inbox.house import House
from crm.interactions.channels.deliveries import Delivery, Reply, SignatureInvalid
from crm.interactions.channels.imap import MailboxUnavailable

CACHE_SECONDS: Final = 5.0
CACHE_MAX: Final = 10_000
UNDER_WAY_MAX: Final = 200
STORED_SECONDS_MAX: Final = 4.0
"""Some providers wait no longer than five seconds."""
BYTES_UNDER_WAY_MAX: Final = 150_000_000
REFUSED_NOTED_MAX: Final = 20
REFUSED_NOTED_SECONDS: Final = 300.0
"""Of each account's refused deliveries, so many are noted in so long a time by a process, and the others counted."""

_log = structlog.get_logger(__name__)


class NoSuchInbox(NotFound):
    code = "no_such_inbox"
    title = "Nothing is delivered here"


class Overloaded(Unavailable):
    code = "overloaded"
    title = "Too much comes at once"


class AdapterFailed(Unavailable):
    code = "adapter_failed"
    title = "This delivery can't be read at present"


class SecretMissing(Conflict):
    code = "secret_missing"
    title = "The account could not let anything in"


class MailboxUnreadable(Conflict):
    code = "mailbox_unreadable"
    title = "The account's mailbox can't be read"


@dataclass(slots=True)
class Room:
    """The room that one delivery takes up in memory while it comes in."""

    reception: "Reception"
    bytes_count: int = 0

    def take(self, bytes_count: int) -> None:
        """Make room for more of it. Raises Overloaded."""
        self.bytes_count += bytes_count
        self.reception.bytes_under_way += bytes_count
        if self.reception.bytes_under_way > BYTES_UNDER_WAY_MAX:
            raise Overloaded("Send it again later.")


@dataclass(slots=True)
class _Noted:
    since: float
    count: int = 0


class Reception:
    """Takes in deliveries for one process. It remembers accounts for a few seconds: a forgery costs no query."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.bytes_under_way = 0
        self.refused: Counter[str] = Counter()
        """How many deliveries were refused, by provider."""
        self._database = database
        self._vault = vault
        self._under_way = 0
        self._known: dict[UUID, tuple[float, Opened | None]] = {}
        self._noted: dict[UUID, _Noted] = {}

    @contextmanager
    def room(self) -> Iterator[Room]:
        """Room for one more delivery, for the length of the block. Raises Overloaded."""
        if self._under_way >= UNDER_WAY_MAX:
            raise Overloaded("Send it again later.")
        self._under_way += 1
        room = Room(self)
        try:
            yield room
        finally:
            self._under_way -= 1
            self.bytes_under_way -= room.bytes_count

    async def account(self, *, provider: str, account_id: str) -> Opened:
        """The account behind an endpoint. Raises NoSuchInbox, SecretsUnreadable."""
        try:
            found = await self._find(UUID(account_id))
        except ValueError:
            found = None
        if found is None or found.provider != provider or provider not in providers.ADAPTERS:
            raise NoSuchInbox("There is no such channel account at this provider.")
        if found.sealed:
            _log.error("inbox_secrets_unreadable", account_id=found.id)
            raise SecretsUnreadable("Send it again later.")
        return found

    async def receive(self, *, account: Opened, delivery: Delivery) -> Reply:
        """Check a delivery, keep it, and say what its provider is answered.

        Raises SignatureInvalid, NoSuchInbox, AdapterFailed, and TimeoutError where the database takes longer than
        providers wait.
        """
        try:
            reply = check(account, delivery)
        except SignatureInvalid as refusal:
            await self._refuse(account, delivery, refusal)
            raise
        if reply is not None:
            return reply
        if delivery.method != "POST":
            raise NoSuchInbox("There is no such channel account at this provider.")
        try:
            async with asyncio.timeout(STORED_SECONDS_MAX), self._database.begin() as session:
                await accept(session, account=account, delivery=delivery)
        except DeliveryNotFound as gone:
            self.forget(account.id)
            raise NoSuchInbox("There is no such channel account at this provider.") from gone
        return Reply()

    def forget(self, account_id: UUID) -> None:
        """Let a change of an account hold at once in this process."""
        self._known.pop(account_id, None)

    async def _find(self, account_id: UUID) -> Opened | None:
        now = time.monotonic()
        known = self._known.get(account_id)
        if known is None or known[0] < now:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            async with self._database.reading() as session:
                opened = await accounts.open_all(session, ids=[account_id], vault=self._vault)
            known = self._known[account_id] = (now + CACHE_SECONDS, opened.get(account_id))
        return known[1]

    async def _refuse(self, account: Opened, delivery: Delivery, refusal: SignatureInvalid) -> None:
        self.refused[account.provider] += 1
        now = time.monotonic()
        noted = self._noted.setdefault(account.id, _Noted(now))
        if now - noted.since >= REFUSED_NOTED_SECONDS:
            noted.since, noted.count = now, 0
        if noted.count >= REFUSED_NOTED_MAX:
            return
        noted.count += 1
        error = LastError(refusal.code, refusal.detail, delivery.received_at)
        async with self._database.begin() as session:
            await deliveries.refuse(
                session, account_id=account.id, delivery=delivery, verdict=refusal.code,
                secrets=account.at_provider.secrets,
            )  # fmt: skip
            await accounts.note_errors(session, errors={account.id: error})


def check(account: Opened, delivery: Delivery) -> Reply | None:
    """What a call that only asks is answered at once; None for a delivery that is signed as it should be.

    Raises SignatureInvalid, and AdapterFailed for what its adapter can't cope with: that is to come again.
    """
    adapter = providers.ADAPTERS[account.provider]
    if missing := [name for name in adapter.REQUIRED if not account.at_provider.secrets.get(name)]:
        raise SignatureInvalid(f"Nothing is accepted before these secrets are set: {', '.join(missing)}.")
    try:
        reply = adapter.handshake(delivery, account.at_provider)
        if reply is None and delivery.method == "POST":
            adapter.verify(delivery, account.at_provider)
    except CrmError:
        raise
    except Exception as error:
        _log.exception("inbox_adapter_failed", account_id=account.id, provider=account.provider)
        raise AdapterFailed("Send it again later.") from error
    return reply


async def accept(session: Session, *, account: Opened, delivery: Delivery, test: bool = False) -> UUID | None:
    """Keep a checked delivery and have it processed; None for one that is here already. Raises DeliveryNotFound."""
    return await deliveries.store(
        session, account_id=account.id, delivery=delivery,
        key=None if test else providers.ADAPTERS[account.provider].key(delivery),
        secrets=account.at_provider.secrets,
        status="test" if test else "pending",
    )  # fmt: skip


async def try_out(
    session: Session, *, account_id: UUID, base_url: str, vault: Vault, house: House, now: datetime
) -> DeliveryView:
    """Send an account a delivery signed with its own secrets, as its provider would: what came of it.

    What it says is processed and taken back. A mailbox is looked into besides. Raises AccountNotFound, SecretMissing,
    MailboxUnreadable.
    """
    account = (await accounts.open_all(session, ids=[account_id], vault=vault)).get(account_id)
    if account is None:
        raise accounts.AccountNotFound("No channel account has this id.")
    adapter = providers.adapter(account.provider)
    url = f"{base_url}/v1/inbox/{account.provider}/{account.id}"
    try:
        delivery = adapter.sample(account.at_provider, url=url, now=now)
        check(account, delivery)
    except SignatureInvalid as refusal:
        raise SecretMissing(refusal.detail) from refusal
    if account.provider == mailboxes.PROVIDER:
        try:
            await mailboxes.look_into(account)
        except MailboxUnavailable as refusal:
            raise MailboxUnreadable(refusal.detail) from refusal
    delivery_id = await accept(session, account=account, delivery=delivery, test=True)
    assert delivery_id is not None, "without a key it is like no other"
    await processing.rehearse(session, delivery_id=delivery_id, account=account, house=house, now=now)
    return await deliveries.get(session, delivery_id=delivery_id)
