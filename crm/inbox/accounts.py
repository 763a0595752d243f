"""Channel accounts: a business's page, number, bot, mailbox or shop at a provider, and what its deliveries need."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.vault import SecretsUnreadable, Vault
from crm.errors import Conflict, FieldError, Invalid, NotFound
from crm.inbox import providers
from crm.interactions.channels.deliveries import ChannelAccount

PROGRAM: Final = "program_id"
THREAD_GAP: Final = "thread_gap_hours"
PUBLIC_URL: Final = "public_url"
GAP_HOURS_MAX: Final = 8760
SETTINGS_MAX: Final = 50

_COLUMNS: Final = (
    "id, provider, channel, name, ref, settings, secrets, secret_names, silence_after, silent_since, last_error, "
    "created_at, updated_at"
)
# Asked of the newest deliveries, and not kept on the account: it would be one row that every delivery changes.
_SELECTED: Final = f"""
    {_COLUMNS}, (
        SELECT d.received_at FROM inbox_deliveries d
        WHERE d.account_id = a.id AND d.status NOT IN ('refused', 'test') ORDER BY d.id DESC LIMIT 1
    ) AS last_received_at
"""


class AccountNotFound(NotFound):
    code = "channel_account_not_found"
    title = "There is no such channel account"


class AccountExists(Conflict):
    code = "channel_account_exists"
    title = "There is an account with this reference already"


class DeliveriesPending(Conflict):
    code = "deliveries_pending"
    title = "Deliveries of this account are not processed yet"


class InvalidAccount(Invalid):
    code = "invalid_channel_account"
    title = "This can't be a channel account"


@dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last with an account's deliveries."""

    code: str
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """A channel account as it is shown: of `secrets` only which are set.

    `endpoint` is the path that its provider calls. It has fallen silent at `silent_since`, when nothing had come for
    `silence_after`.
    """

    id: UUID
    provider: str
    channel: str
    name: str
    ref: str
    settings: dict[str, str]
    secrets: dict[str, bool]
    silence_after: timedelta | None
    silent_since: datetime | None
    last_received_at: datetime | None
    last_error: LastError | None
    endpoint: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """An account with its secrets, for whoever checks or reads its deliveries.

    `sealed` are secrets that could not be read: nothing may be taken in for it then.
    """

    id: UUID
    provider: str
    name: str
    at_provider: ChannelAccount
    sealed: bool = False

    @property
    def source(self) -> str:
        """What its interactions say of where they come from."""
        return source(self.provider, self.at_provider.ref)

    @property
    def by(self) -> str:
        """Who wrote what its deliveries say."""
        return f"channel:{self.name}"

    @property
    def program_id(self) -> UUID | None:
        """The program in which its orders earn; None for the default one."""
        named = self.at_provider.settings.get(PROGRAM)
        return UUID(named) if named else None

    def thread_gap(self, default: timedelta) -> timedelta:
        """After how long without a message the next one begins a new thread."""
        return gap(self.at_provider, default)


def source(provider: str, ref: str) -> str:
    """What the interactions of an account say of where they come from."""
    return f"{provider}:{ref}"


def endpoint(provider: str, account_id: UUID) -> str:
    """The path that the provider of an account calls."""
    return f"/v1/inbox/{provider}/{account_id}"


def gap(account: ChannelAccount, default: timedelta) -> timedelta:
    """After how long without a message on an account the next one begins a new thread."""
    named = account.settings.get(THREAD_GAP)
    return timedelta(hours=int(named)) if named else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An account to be made. `channel` is for providers that serve any; by default it is the adapter's own."""

    provider: str
    name: str
    ref: str
    channel: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    silence_after: timedelta | None = None


async def create(session: Session, *, draft: Draft, vault: Vault, now: datetime) -> Account:
    """Make an account. Raises UnknownProvider, InvalidAccount, AccountExists."""
    adapter = providers.adapter(draft.provider)
    settings, secrets = dict(draft.settings), dict(draft.secrets)
    _check(draft.provider, settings, secrets)
    row = await session.fetchrow(
        f"""
        INSERT INTO channel_accounts AS a (id, provider, channel, name, ref, settings, secrets, secret_names,
            silence_after, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
        ON CONFLICT (provider, ref) DO NOTHING
        RETURNING {_SELECTED}
        """,
        uuid7(), draft.provider, draft.channel or adapter.CHANNEL, draft.name, draft.ref, settings,
        vault.seal(secrets), sorted(secrets), draft.silence_after, now,
    )  # fmt: skip
    if row is None:
        raise AccountExists(f"Change the account of '{draft.ref}' at {draft.provider} that is there.")
    return _view(row)


async def change(
    session: Session, *, account_id: UUID, changes: Mapping[str, Any], vault: Vault, now: datetime
) -> Account:
    """Apply a merge patch: of `settings` and `secrets` too, name by name. Raises AccountNotFound, InvalidAccount."""
    row = await session.fetchrow(f"SELECT {_COLUMNS} FROM channel_accounts WHERE id = $1 FOR UPDATE", account_id)
    if row is None:
        raise _not_found()
    settings = _merged(row["settings"], changes.get("settings", {}))
    # Not read where nothing of them changes: they may be under a key that is lost, and that must not be in the way.
    patch = changes.get("secrets", {})
    whole = patch is None or set(row["secret_names"]) <= patch.keys()
    secrets = None if patch == {} else _merged({} if whole else vault.open(row["secrets"]), patch)
    _check(row["provider"], settings, secrets or {})
    changed = await session.fetchrow(
        f"""
        UPDATE channel_accounts a SET name = $2, settings = $3, secrets = $4, secret_names = $5, silence_after = $6,
            silent_since = CASE WHEN $6 IS NOT DISTINCT FROM silence_after THEN silent_since END, updated_at = $7
        WHERE id = $1 RETURNING {_SELECTED}
        """,
        account_id, changes.get("name", row["name"]), settings,
        row["secrets"] if secrets is None else vault.seal(secrets),
        row["secret_names"] if secrets is None else sorted(secrets),
        changes.get("silence_after", row["silence_after"]), now,
    )  # fmt: skip
    assert changed is not None, "it is locked"
    return _view(changed)


async def delete(session: Session, *, account_id: UUID) -> None:
    """Forget an account and its secrets; its deliveries stay. Raises AccountNotFound, DeliveriesPending."""
    if not await session.fetchval("SELECT true FROM channel_accounts WHERE id = $1 FOR UPDATE", account_id):
        raise _not_found()
    if await session.fetchval(
        "SELECT EXISTS (SELECT FROM inbox_deliveries WHERE status = 'pending' AND account_id = $1)", account_id
    ):
        raise DeliveriesPending("Without the account nobody could read them. Try again when they are processed.")
    await session.execute("DELETE FROM channel_accounts WHERE id = $1", account_id)


async def get(session: Session, *, account_id: UUID) -> Account:
    """One account. Raises AccountNotFound."""
    row = await session.fetchrow(f"SELECT {_SELECTED} FROM channel_accounts a WHERE id = $1", account_id)
    if row is None:
        raise _not_found()
    return _view(row)


async def page(session: Session, *, silent: bool | None, before: UUID | None, limit: int) -> list[Account]:
    """Accounts, newest first, older than `before`; only those that have fallen silent, or that have not."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM channel_accounts a
        WHERE ($1::uuid IS NULL OR id < $1) AND ($2::boolean IS NULL OR (silent_since IS NOT NULL) = $2)
        ORDER BY id DESC LIMIT $3
        """,
        before, silent, limit,
    )  # fmt: skip
    return [_view(row) for row in rows]


async def open_all(session: Session, *, ids: Collection[UUID], vault: Vault) -> dict[UUID, Opened]:
    """Accounts with their secrets; those that are gone are left out."""
    rows = await session.fetch(
        "SELECT id, provider, channel, name, ref, settings, secrets FROM channel_accounts WHERE id = ANY ($1)",
        list(ids),
    )
    return {row["id"]: _opened(row, vault) for row in rows}


async def note_errors(session: Session, *, errors: Mapping[UUID, LastError]) -> None:
    """Keep the newest error of each account."""
    for account_id in sorted(errors):
        await session.execute(
            "UPDATE channel_accounts SET last_error = $2 WHERE id = $1",
            account_id, msgspec.to_builtins(errors[account_id]),
        )  # fmt: skip


async def fallen_silent(session: Session, *, now: datetime) -> list[Account]:
    """Mark the accounts of which nothing was heard for longer than is usual for them; those that are new."""
    rows = await session.fetch(
        f"""
        UPDATE channel_accounts a SET silent_since = $1
        WHERE silence_after IS NOT NULL AND silent_since IS NULL
            AND greatest(created_at, updated_at, (
                SELECT d.received_at FROM inbox_deliveries d
                WHERE d.account_id = a.id AND d.status NOT IN ('refused', 'test') ORDER BY d.id DESC LIMIT 1
            )) + silence_after <= $1
        RETURNING {_SELECTED}
        """,
        now,
    )
    return [_view(row) for row in rows]


async def silent_counts(session: Session) -> dict[str, int]:
    """How many accounts of each provider have fallen silent."""
    rows = await session.fetch(
        "SELECT provider, count(*) FILTER (WHERE silent_since IS NOT NULL) FROM channel_accounts GROUP BY provider"
    )
    return dict(map(tuple, rows))


def _opened(row: Record, vault: Vault) -> Opened:
    try:
        secrets, sealed = vault.open(row["secrets"]), False
    except SecretsUnreadable:
        secrets, sealed = {}, True
    at_provider = ChannelAccount(channel=row["channel"], ref=row["ref"], settings=row["settings"], secrets=secrets)
    return Opened(row["id"], row["provider"], row["name"], at_provider, sealed)


def _merged(before: Mapping[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    if patch is None:
        return {}
    return {name: value for name, value in {**before, **patch}.items() if value is not None}


def _check(provider: str, settings: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    known = providers.secrets(provider)
    errors = [
        FieldError(f"/secrets/{name}", "unknown_secret", f"has none of this name; its secrets are {', '.join(known)}")
        for name in secrets
        if name not in known
    ]
    if len(settings) > SETTINGS_MAX:
        errors.append(FieldError("/settings", "too_many", f"an account has at most {SETTINGS_MAX} settings"))
    if settings.get(PROGRAM) is not None and not _is_uuid(settings[PROGRAM]):
        errors.append(FieldError(f"/settings/{PROGRAM}", "uuid", "must be the id of a program"))
    hours = settings.get(THREAD_GAP)
    if hours is not None and not (hours.isascii() and hours.isdigit() and 1 <= int(hours) <= GAP_HOURS_MAX):
        errors.append(FieldError(f"/settings/{THREAD_GAP}", "hours", f"must be whole hours, 1 to {GAP_HOURS_MAX}"))
    if errors:
        raise InvalidAccount("Some fields are not valid.", errors=errors)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _view(row: Record) -> Account:
    values = {name: row[name] for name in Account.__dataclass_fields__ if name in row}
    names = [*providers.secrets(row["provider"]), *row["secret_names"]]
    stored = row["last_error"]
    return Account(**{
        **values,
        "secrets": {name: name in row["secret_names"] for name in names},
        "last_error": None if stored is None else msgspec.convert(stored, LastError),
        "endpoint": endpoint(row["provider"], row["id"]),
    })  # fmt: skip


def _not_found() -> AccountNotFound:
    return AccountNotFound("No channel account has this id.")
