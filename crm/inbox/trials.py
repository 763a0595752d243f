"""Trying out whether a channel account can send: a message to an address of one's own, which is nobody's contact."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from asyncpg import Record
from sqlalchemy import Column, Table, Text, Uuid

from crm.contacts import addresses
from crm.contacts.consents import ADDRESSES
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.vault import SecretsUnreadable, Vault
from crm.errors import FieldError, NotFound
from crm.inbox import accounts, providers
from crm.inbox.couriers import Couriers
from crm.inbox.outbound import Reached
from crm.inbox.routing import ChannelCannotSend
from crm.interactions.channels.outgoing import Later, Outcome, Outgoing, ProviderTemplate, Refused, Sent

test_messages = Table(
    "test_messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("sent_to", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text),
    Column("detail", Text),
    Column("external_id", Text),
    Column("by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

ANSWER_SECONDS: Final = 10.0
"""How long whoever asked for it waits."""
TEXT: Final = "This is a test."
SHOWN: Final = 3
_COLUMNS: Final = tuple(column.name for column in test_messages.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class TestMessageNotFound(NotFound):
    code = "test_message_not_found"
    title = "There is no such test message"


@dataclass(slots=True)
class TestMessage:
    """What came of a message that was sent to try an account out. Of the address the end is kept.

    `unclear` is one without an answer; `later` one that the provider would take at another time.
    """

    id: UUID
    channel_account_id: UUID
    sent_to: str
    outcome: Literal["sent", "refused", "later", "unclear"]
    code: str | None
    detail: str | None
    external_id: str | None
    by: str
    created_at: datetime


async def send(
    session: Session,
    *,
    account_id: UUID,
    to: Reached,
    channel: str | None = None,
    text: str | None = None,
    subject: str | None = None,
    provider_template: ProviderTemplate | None = None,
    region: str,
    vault: Vault,
    by: str,
    once: idempotency.Request | None = None,
    now: datetime,
) -> TestMessage:
    """Send a message at once, and wait for what the provider says; nothing of it stands on any timeline.

    Nobody is asked whether it may go. Raises AccountNotFound, ChannelCannotSend, SecretsUnreadable, InvalidIdentity.
    """
    account = await accounts.get(session, account_id=account_id)
    sender = providers.SENDERS.get(account.provider)
    if sender is None:
        raise ChannelCannotSend("Its provider is one that only tells us something.")
    on = channel or account.channel
    if to.kind not in ADDRESSES.get(on, (on,)):
        kinds = ", ".join(ADDRESSES.get(on, (on,))) or "none"
        raise ChannelCannotSend(
            f"On {on} addresses are of these kinds: {kinds}.",
            errors=[FieldError("/identity/kind", "cannot_send", "is not reached by this channel")],
        )
    opened = (await accounts.open_all(session, ids=[account_id], vault=vault))[account_id]
    if opened.sealed:
        raise SecretsUnreadable("The secrets of this account were stored under another key. Set them again.")
    id = uuid7()  # noqa: A001 - it is named as the column
    address = addresses.address(kind=to.kind, value=to.value, account=to.account, region=region)
    words = None if provider_template is not None and text is None else text or TEXT
    outgoing = Outgoing(
        reference=str(id), channel=on, to=address, text=words, subject=subject or TEXT, template=provider_template
    )
    couriers = Couriers(answer_seconds=ANSWER_SECONDS)
    try:
        outcome = await couriers.carry(account.provider, outgoing, opened.at_provider)
    finally:
        await couriers.close()
    message = TestMessage(id, account_id, _end_of(address.value), *_shown(outcome), by, now)
    await session.execute(
        f"INSERT INTO test_messages ({_SELECTED}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        *(getattr(message, name) for name in TestMessage.__slots__),
    )
    await idempotency.keep(session, request=once, contact_id=None, result=message, now=now)
    return message


async def get(session: Session, *, account_id: UUID, message_id: UUID) -> TestMessage:
    """One test message of an account. Raises TestMessageNotFound."""
    row = await session.fetchrow(
        f"SELECT {_SELECTED} FROM test_messages WHERE account_id = $1 AND id = $2", account_id, message_id
    )
    if row is None:
        raise TestMessageNotFound("This account has no test message with this id.")
    return _view(row)


async def page(session: Session, *, account_id: UUID, before: UUID | None, limit: int) -> list[TestMessage]:
    """Test messages of an account, newest first, older than `before`."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM test_messages WHERE account_id = $1 AND ($2::uuid IS NULL OR id < $2)
        ORDER BY id DESC LIMIT $3
        """,
        account_id, before, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


def _shown(
    outcome: Outcome,
) -> tuple[Literal["sent", "refused", "later", "unclear"], str | None, str | None, str | None]:
    if isinstance(outcome, Sent):
        return "sent", None, None, outcome.external_id
    name: Literal["refused", "later", "unclear"] = (
        "refused" if isinstance(outcome, Refused) else "later" if isinstance(outcome, Later) else "unclear"
    )
    return name, outcome.code, outcome.detail, None


def _end_of(address: str) -> str:
    return f"…{address[-SHOWN:]}"


def _view(row: Record) -> TestMessage:
    return TestMessage(*row)
