"""A provider's call as it arrives, and what an adapter does with it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from crm.errors import Forbidden
from crm.interactions.channels.events import Event


class SignatureInvalid(Forbidden):
    code = "signature_invalid"
    title = "This delivery is not signed as it should be"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came, byte for byte. Names of headers are in lower case; `url` is the one that the provider called."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAccount:
    """An account at a provider: a page, a number, a bot, a mailbox, a shop.

    `ref` is the provider's name for it. A secret that is not set is missing here: an adapter that needs it refuses.
    """

    channel: str
    ref: str
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the provider is answered at once, where it is not just 200 without content."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


class Adapter(Protocol):
    """A module `crm.interactions.channels.NAME`. Its functions are pure.

    `CHANNEL` is the channel of the interactions, `SECRETS` the names of secrets that an account has, and `REQUIRED`
    those without which nothing is accepted. `REFUSED_STATUS`, where there is one, is the status that its provider has
    to be answered in place of 403 to what is not signed as it should be.
    """

    CHANNEL: str
    SECRETS: tuple[str, ...]
    REQUIRED: tuple[str, ...]

    def handshake(self, delivery: Delivery, account: ChannelAccount) -> Reply | None:
        """The answer to a call that only asks whether somebody is there; None for a delivery.

        Raises SignatureInvalid.
        """

    def verify(self, delivery: Delivery, account: ChannelAccount) -> None:
        """Check the signature over the raw bytes, in constant time. Raises SignatureInvalid, also without a secret."""

    def key(self, delivery: Delivery) -> str | None:
        """What repeats of the same delivery have in common, where the provider says so in its headers."""

    def events(self, delivery: Delivery, account: ChannelAccount) -> Iterable[Event]:
        """What the delivery says, in its order. What can't be read is an `Unknown`, and stops nothing behind it."""

    def sample(self, account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
        """A small delivery as the provider would send it to `url`, signed with the account's own secrets."""
