"""`/v1/channel-accounts/{account_id}/test-messages`: whether an account can send."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.params import FromPath
from pydantic import Field

from crm.api import paging
from crm.api.messages import ApprovedTemplate, ChannelName, SentTo
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import get, post
from crm.api.schemas import Body, Line, Text
from crm.contacts.addresses import InvalidIdentity
from crm.db import idempotency
from crm.db.session import Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.inbox import accounts, trials
from crm.inbox.accounts import AccountNotFound
from crm.inbox.house import House
from crm.inbox.outbound import Reached
from crm.inbox.routing import ChannelCannotSend
from crm.inbox.trials import TestMessage, TestMessageNotFound


class NewTestMessage(Body):
    """To which address, by default with a text that says that it is a test. `channel` is for accounts of several."""

    identity: SentTo
    channel: ChannelName | None = None
    text: Annotated[Text, Field(min_length=1)] | None = None
    subject: Line | None = None
    provider_template: ApprovedTemplate | None = None


@post(
    "/channel-accounts/{account_id:uuid}/test-messages",
    scopes={"channels:write"},
    problems=(AccountNotFound, ChannelCannotSend, SecretsUnreadable, InvalidIdentity),
)
async def send_test_message(
    session: Session, account_id: FromPath[UUID], data: NewTestMessage, house: House, vault: Vault, by: str,
    now: datetime, once: idempotency.Request | None,
) -> TestMessage:  # fmt: skip
    """Send a test message.

    It goes at once, and the answer says what the provider said. Nobody becomes a contact by it, and it stands on no
    timeline; neither consents nor windows are asked for.
    """
    await idempotency.begin(session, request=once)
    to, template = data.identity, data.provider_template
    return await trials.send(
        session, account_id=account_id, to=Reached(to.kind, to.value, to.account), channel=data.channel,
        text=data.text, subject=data.subject, provider_template=None if template is None else template.template(),
        region=house.region, vault=vault, by=by, once=once, now=now,
    )  # fmt: skip


@get("/channel-accounts/{account_id:uuid}/test-messages", scopes={"channels:read"}, problems=(AccountNotFound,))
async def list_test_messages(
    session: Session, account_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[TestMessage]:
    """List test messages of a channel account, newest first."""
    await accounts.get(session, account_id=account_id)
    before = paging.decode(cursor, UUID)
    found = await trials.page(session, account_id=account_id, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda message: (message.id,))


@get(
    "/channel-accounts/{account_id:uuid}/test-messages/{message_id:uuid}",
    scopes={"channels:read"},
    problems=(TestMessageNotFound,),
)
async def get_test_message(session: Session, account_id: FromPath[UUID], message_id: FromPath[UUID]) -> TestMessage:
    """Read a test message."""
    return await trials.get(session, account_id=account_id, message_id=message_id)


handlers = [send_test_message, list_test_messages, get_test_message]
