"""What goes out on every channel, and what its provider may answer.

A sender makes a provider's request of a message, and reads the answer. It is pure: it neither sends nor stores
anything. Whoever carries the request says `Unclear` where no answer came: the message may have gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Protocol, TypeAlias
from urllib.parse import quote

from crm.contacts.addresses import Address
from crm.errors import Conflict
from crm.interactions.channels import payloads
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.payloads import Json

BASE_URL: Final = "api_base_url"
"""The setting of an account that names another place for its provider's API."""
RETRY_AFTER_MAX: Final = timedelta(days=1)
DETAIL_MAX: Final = 500
TEXT_MAX: Final[Mapping[str, int]] = {
    "whatsapp": 4_096, "messenger": 2_000, "instagram": 1_000, "telegram": 4_096, "line": 5_000, "sms": 1_600,
}  # fmt: skip
"""How many characters a text may have on a channel, by what its providers say."""


class AccountIncomplete(Conflict):
    code = "channel_account_incomplete"
    title = "The channel account lacks what sending needs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTemplate:
    """A text that the provider has approved, and what stands in its places."""

    name: str
    language: str
    parameters: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message as it is handed to a provider.

    `reference` is our name for it: a key against repetition where the provider takes one, else something that it gives
    back with what becomes of the message. `late` is outside of the time in which the provider lets machines answer.
    """

    reference: str
    channel: str
    to: Address
    text: str | None = None
    subject: str | None = None
    template: ProviderTemplate | None = None
    late: bool = False
    told_to: str | None = None
    """Where the provider may tell what became of it."""
    began_with: str | None = None
    """The id of the mail with which the thread began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request; headers and URL may hold secrets, so nobody shows them."""

    method: str = "POST"
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailing:
    """A mail for a mail server, with the account's place there."""

    host: str
    port: int
    security: str
    user: str | None
    password: str | None = field(default=None, repr=False)
    sender: str
    recipient: str
    message_id: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The provider has it, and calls it so; `external_id` is None for one that names nothing."""

    external_id: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not send it, now or later."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Later:
    """The provider has not taken it, and may later: not before `after`, where it says so."""

    code: str
    detail: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nobody knows whether the provider has it."""

    code: str
    detail: str


Outcome: TypeAlias = Sent | Refused | Later | Unclear


class Sender(Protocol):
    """A module `crm.interactions.channels.senders.NAME`, by the name of its provider. Its functions are pure.

    `CHANNELS` are those on which it sends, `SECRETS` and `SETTINGS` what an account must have for it. With `REPEATABLE`
    the provider knows a request again by its key, so that one without an answer may be sent once more.
    """

    CHANNELS: tuple[str, ...]
    SECRETS: tuple[str, ...]
    SETTINGS: tuple[str, ...]
    REPEATABLE: bool

    def request(self, message: Outgoing, account: ChannelAccount) -> Request | Mailing:
        """What to hand to the provider. Raises AccountIncomplete."""

    def outcome(self, answer: Answer) -> Outcome:
        """What the provider's answer says of it."""


def secret(account: ChannelAccount, name: str) -> str:
    """A secret of an account. Raises AccountIncomplete."""
    value = account.secrets.get(name)
    if not value:
        raise AccountIncomplete(f"Set the secret '{name}' of the channel account.")
    return value


def setting(account: ChannelAccount, name: str, default: str | None = None) -> str:
    """A setting of an account. Raises AccountIncomplete where it has none and there is no default."""
    value = account.settings.get(name) or default
    if not value:
        raise AccountIncomplete(f"Set '{name}' among the settings of the channel account.")
    return value


def url(account: ChannelAccount, default: str, *path: str) -> str:
    """The address of something at the account's provider; the parts of the path are quoted."""
    base = setting(account, BASE_URL, default).rstrip("/")
    return "/".join((base, *(quote(part, safe=":@") for part in path)))


def said(answer: Answer) -> Json:
    """The object that a provider answered; an empty one where it is none."""
    try:
        found = payloads.decode(answer.body)
    except payloads.Unreadable:
        return {}
    return found if isinstance(found, dict) else {}


def not_taken(answer: Answer, *, code: str | None = None, detail: str | None = None) -> Outcome:
    """What an answer that is no 2xx says by its status alone.

    Of what stands before the provider's own servers, 502 and 504 say only that they gave no answer.
    """
    words = (detail or f"The provider answered {answer.status}.")[:DETAIL_MAX]
    named = code or f"http_{answer.status}"
    if answer.status in {502, 504}:
        return Unclear(named, words)
    if answer.status in {408, 425, 429} or answer.status >= 500:
        return Later(named, words, retry_after(answer))
    return Refused(named, words)


def retry_after(answer: Answer) -> timedelta | None:
    """How long the provider asks to be left alone, in seconds or until a date."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(timedelta(seconds=min(int(value[:9]), 10**8)), RETRY_AFTER_MAX)
    try:
        wait = parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return min(max(wait, timedelta(0)), RETRY_AFTER_MAX)
