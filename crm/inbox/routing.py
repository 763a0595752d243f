"""By which channel account a message goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from asyncpg import Record

from crm.contacts import aliases
from crm.db.session import Session
from crm.errors import Conflict, FieldError, Invalid
from crm.inbox import accounts, providers
from crm.inbox.accounts import AccountNotFound
from crm.inbox.clearance import WINDOWS
from crm.interactions import threads
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import AccountIncomplete
from crm.interactions.channels.senders import letters
from crm.interactions.threads import ThreadNotFound

ACCOUNTS_MAX: Final = 200
"""Among how many is chosen where none is named: a place with more has to name one."""


class UnknownReference(Invalid):
    code = "unknown_reference"
    title = "What is named is not there"


class NoChannelAccount(Conflict):
    code = "no_channel_account"
    title = "There is no channel account by which this can go"


class ChannelCannotSend(Invalid):
    code = "channel_cannot_send"
    title = "Nothing can be sent by this channel account"


@dataclass(frozen=True, slots=True)
class Place:
    """A channel account without its secrets, as far as sending needs it."""

    id: UUID
    provider: str
    at_provider: ChannelAccount

    @property
    def ref(self) -> str:
        """The provider's name for it."""
        return self.at_provider.ref

    @property
    def source(self) -> str:
        """What its interactions say of where they come from."""
        return accounts.source(self.provider, self.ref)

    def thread_gap(self, default: timedelta) -> timedelta:
        """After how long without a message the next one begins a new thread."""
        return accounts.gap(self.at_provider, default)


@dataclass(frozen=True, slots=True)
class Route:
    """An account and the channel on which it sends."""

    account: Place
    channel: str

    @property
    def takes_templates(self) -> bool:
        """Whether texts that the provider has approved can go this way."""
        window = WINDOWS.get(self.channel)
        return window is not None and window.templates

    def hint(self, reference: str) -> str | None:
        """What ties the answers to a message of this name to its thread: they name the mail that they answer."""
        is_mail = self.channel in letters.CHANNELS
        return letters.message_id(reference, self.account.at_provider) if is_mail else None


async def choose(
    session: Session, *, contact_id: UUID, account_id: UUID | None, channel: str | None, thread_id: UUID | None
) -> Route:
    """The account that is named, or that of a thread; else the one with the newest thread, or the only one.

    Raises UnknownReference, ChannelCannotSend, NoChannelAccount, AccountIncomplete.
    """
    if thread_id is not None:
        try:
            thread = await threads.get(session, contact_id=contact_id, thread_id=thread_id)
        except ThreadNotFound as error:
            raise unknown("thread_id", error.detail) from error
        if account_id not in {None, thread.account_id}:
            raise ChannelCannotSend(
                "The thread is another account's.", errors=[FieldError("/thread_id", "other_account", "is another's")]
            )
        account_id, channel = thread.account_id, channel or thread.channel
    rows = await session.fetch(_CANDIDATES, contact_id, account_id, list(providers.SENDERS), ACCOUNTS_MAX)
    if account_id is not None and not rows:
        try:
            await accounts.get(session, account_id=account_id)
        except AccountNotFound as error:
            raise unknown("channel_account_id", error.detail) from error
        raise ChannelCannotSend(
            "Its provider is one that only tells us something.", errors=_named("channel_account_id")
        )
    row = _fitting(rows, channel, named=account_id is not None)
    place = ChannelAccount(channel=row["channel"], ref=row["ref"], settings=row["settings"])
    route = Route(Place(row["id"], row["provider"], place), channel or row["talked_on"] or row["channel"])
    _check_complete(row)
    return route


def unknown(member: str, detail: str) -> UnknownReference:
    """The refusal of a member of a body that names what is not there."""
    return UnknownReference(detail, errors=[FieldError(f"/{member}", UnknownReference.code, "is not there")])


def _fitting(rows: Sequence[Record], channel: str | None, *, named: bool) -> Record:
    fitting = [row for row in rows if channel is None or channel in _channels(row)]
    if not fitting and named:
        on = ", ".join(_channels(rows[0]))
        raise ChannelCannotSend(f"This account sends on {on}.", errors=_named("channel"))
    if not fitting:
        raise NoChannelAccount(f"Make a channel account that can send{f' on {channel}' if channel else ''}.")
    # They are in the order in which there was talk on them; where there was none, there is no reason for one of many.
    if len(fitting) > 1 and fitting[0]["talked_at"] is None:
        raise NoChannelAccount(
            f"There are {len(fitting)} channel accounts: name one in channel_account_id.",
            candidates=[str(row["id"]) for row in fitting[:10]],
        )
    return fitting[0]


def _channels(row: Record) -> tuple[str, ...]:
    """Its own, and where its provider serves several by one account, those."""
    also = providers.SENDERS[row["provider"]].CHANNELS
    return (row["channel"], *(each for each in also if each != row["channel"] and row["channel"] in also))


def _check_complete(row: Record) -> None:
    sender = providers.SENDERS[row["provider"]]
    missing = [
        *(f"the secret '{name}'" for name in sender.SECRETS if name not in row["secret_names"]),
        *(f"the setting '{name}'" for name in sender.SETTINGS if not row["settings"].get(name)),
    ]
    if missing:
        raise AccountIncomplete(
            f"To send, set {' and '.join(missing)} of the channel account.", account_id=str(row["id"])
        )


def _named(member: str) -> list[FieldError]:
    return [FieldError(f"/{member}", "cannot_send", "can't send this")]


_CANDIDATES: Final = f"""
    SELECT a.id, a.provider, a.channel, a.ref, a.settings, a.secret_names, t.last_at AS talked_at,
        t.channel AS talked_on
    FROM channel_accounts a LEFT JOIN LATERAL (
        SELECT t.last_at, t.channel FROM {aliases.known_as("$1::uuid")} who
        JOIN threads t ON t.contact_id = who.id AND t.account_id = a.id
        ORDER BY t.last_at DESC LIMIT 1
    ) t ON true
    WHERE ($2::uuid IS NULL OR a.id = $2) AND a.provider = ANY ($3)
    ORDER BY t.last_at DESC NULLS LAST, a.id LIMIT $4
"""
