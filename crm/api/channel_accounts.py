"""Channel accounts: a business's pages, numbers, bots, mailboxes and shops, and the secrets of each."""

from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Final
from uuid import UUID

from litestar.params import FromPath, QueryParameter
from pydantic import AfterValidator, Field, StringConstraints
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import AnyRequest, delete, get, patch, post
from crm.api.schemas import Body, Code, Duration, Line, Patch, Reference, Text
from crm.db import idempotency
from crm.db.session import Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.inbox import accounts, reception
from crm.inbox.accounts import Account, AccountExists, AccountNotFound, DeliveriesPending, Draft, InvalidAccount
from crm.inbox.deliveries import DeliveryView
from crm.inbox.house import House
from crm.inbox.providers import ADAPTERS, UnknownProvider
from crm.inbox.reception import MailboxUnreadable, SecretMissing

SILENCE_MIN, SILENCE_MAX = timedelta(minutes=1), timedelta(days=366)


def _patient(value: timedelta) -> timedelta:
    if not SILENCE_MIN <= value <= SILENCE_MAX:
        raise PydanticCustomError("duration_out_of_range", "must be between PT1M and P366D")
    return value


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Value = Annotated[Text, Field(max_length=2_000)]
Secret = Annotated[Text, Field(min_length=1, max_length=10_000)]
_NO_OTHERS: Final[JsonDict] = {"additionalProperties": False}
"""No names but those of the pattern, which alone would allow any."""
Silence = Annotated[
    Duration,
    AfterValidator(_patient),
    Field(description="After how long without a delivery it has fallen silent, such as `P1D`."),
]


class NewChannelAccount(Body):
    """An account at a provider. `ref` is the provider's own name for it, such as a page's id.

    Among `settings` of every provider are `program_id`, in which its orders earn, `thread_gap_hours`, and
    `public_url`, where a proxy does not tell under which address it is called. `secrets` can't be read again.
    """

    provider: Annotated[Name, Field(json_schema_extra={"enum": sorted(ADAPTERS)})]
    name: Line
    ref: Annotated[Reference, Field(max_length=80)]
    channel: Annotated[Code | None, Field(description="By default that of the provider.")] = None
    settings: dict[Name, Value] = Field(default={}, max_length=accounts.SETTINGS_MAX, json_schema_extra=_NO_OTHERS)
    secrets: dict[Name, Secret] = Field(default={}, max_length=20, json_schema_extra=_NO_OTHERS)
    silence_after: Silence | None = None

    def draft(self) -> Draft:
        """What is asked for."""
        return Draft(
            provider=self.provider, name=self.name, ref=self.ref, channel=self.channel, settings=self.settings,
            secrets=self.secrets, silence_after=self.silence_after,
        )  # fmt: skip


class ChannelAccountPatch(Patch):
    """What shall change of an account; of settings and secrets name by name, null removes one."""

    not_nullable: ClassVar[frozenset[str]] = frozenset({"name"})

    name: Line | None = None
    settings: (
        Annotated[dict[Name, Value | None], Field(max_length=accounts.SETTINGS_MAX, json_schema_extra=_NO_OTHERS)]
        | None
    ) = None
    secrets: Annotated[dict[Name, Secret | None], Field(max_length=20, json_schema_extra=_NO_OTHERS)] | None = None
    silence_after: Silence | None = None


@post(
    "/channel-accounts",
    scopes={"channels:write"},
    problems=(UnknownProvider, InvalidAccount, AccountExists, SecretsUnreadable),
)
async def create_channel_account(
    session: Session, data: NewChannelAccount, vault: Vault, now: datetime, once: idempotency.Request | None
) -> Account:
    """Make a channel account.

    Its provider then calls the `endpoint` of the answer. Secrets are kept encrypted, and come back out nowhere.
    """
    await idempotency.begin(session, request=once)
    account = await accounts.create(session, draft=data.draft(), vault=vault, now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=account, now=now)
    return account


@get("/channel-accounts", scopes={"channels:read"})
async def list_channel_accounts(
    session: Session,
    silent: Annotated[
        bool | None, QueryParameter(description="Only those that have fallen silent, or only those that have not.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Account]:
    """List channel accounts, newest first."""
    before = paging.decode(cursor, UUID)
    found = await accounts.page(session, silent=silent, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda account: (account.id,))


@get("/channel-accounts/{account_id:uuid}", scopes={"channels:read"}, problems=(AccountNotFound,))
async def get_channel_account(session: Session, account_id: FromPath[UUID]) -> Account:
    """Read a channel account, without its secrets."""
    return await accounts.get(session, account_id=account_id)


@patch(
    "/channel-accounts/{account_id:uuid}",
    scopes={"channels:write"},
    problems=(AccountNotFound, InvalidAccount, SecretsUnreadable),
)
async def change_channel_account(
    session: Session, account_id: FromPath[UUID], data: ChannelAccountPatch, request: AnyRequest, vault: Vault,
    now: datetime,
) -> Account:  # fmt: skip
    """Change a channel account.

    Other processes may take deliveries in with the former secrets for some seconds.
    """
    changed = await accounts.change(
        session, account_id=account_id, changes={name: getattr(data, name) for name in data.model_fields_set},
        vault=vault, now=now,
    )  # fmt: skip
    request.app.state.reception.forget(account_id)
    return changed


@delete("/channel-accounts/{account_id:uuid}", scopes={"channels:write"}, problems=(AccountNotFound, DeliveriesPending))
async def delete_channel_account(session: Session, account_id: FromPath[UUID], request: AnyRequest) -> None:
    """Delete a channel account with its secrets.

    What it delivered stays, and so does everything that came of it.
    """
    await accounts.delete(session, account_id=account_id)
    request.app.state.reception.forget(account_id)


@post(
    "/channel-accounts/{account_id:uuid}/test",
    scopes={"channels:write"},
    problems=(AccountNotFound, SecretMissing, MailboxUnreadable),
)
async def test_channel_account(
    session: Session, account_id: FromPath[UUID], request: AnyRequest, vault: Vault, house: House, now: datetime,
    once: idempotency.Request | None,
) -> DeliveryView:  # fmt: skip
    """Try out a channel account.

    A sample is signed with the account's own secrets and goes the way of every delivery. The answer says what came of
    it; what it says is taken back, and nobody becomes a contact by it. A mailbox is looked into besides.
    """
    await idempotency.begin(session, request=once)
    base_url = str(request.base_url).rstrip("/")
    delivery = await reception.try_out(
        session, account_id=account_id, base_url=base_url, vault=vault, house=house, now=now
    )
    await idempotency.keep(session, request=once, contact_id=None, result=delivery, now=now)
    return delivery


handlers = [
    create_channel_account, list_channel_accounts, get_channel_account, change_channel_account, delete_channel_account,
    test_channel_account,
]  # fmt: skip
