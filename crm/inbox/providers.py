"""Which providers are known, and what holds for the deliveries of each."""

from collections.abc import Mapping
from typing import Final

from crm.errors import FieldError, Invalid
from crm.interactions.channels import adapters
from crm.interactions.channels.deliveries import Adapter
from crm.interactions.channels.outgoing import Sender
from crm.interactions.channels.senders import (
    imap,
    instagram,
    line,
    mailgun,
    messenger,
    postmark,
    sendgrid,
    telegram,
    twilio,
    whatsapp,
)

BODY_MAX: Final = 5_000_000
MAIL_BODY_MAX: Final = 64_000_000
"""Bytes of one delivery: mail brings its attachments along."""
REFUSED_STATUS: Final = 403
"""What a provider is answered to a delivery that is not signed as it should be, where its adapter says nothing else."""

ADAPTERS: Final = adapters.ADAPTERS


class UnknownProvider(Invalid):
    code = "unknown_provider"
    title = "There is no such provider"


SENDERS: Final[Mapping[str, Sender]] = {
    "imap": imap,
    "instagram": instagram,
    "line": line,
    "mailgun": mailgun,
    "messenger": messenger,
    "postmark": postmark,
    "sendgrid": sendgrid,
    "telegram": telegram,
    "twilio": twilio,
    "whatsapp": whatsapp,
}
"""Those by which messages go out."""


def adapter(provider: str) -> Adapter:
    """How a provider's deliveries are read. Raises UnknownProvider."""
    found = ADAPTERS.get(provider)
    if found is None:
        known = ", ".join(sorted(ADAPTERS))
        raise UnknownProvider(
            f"The providers are {known}.", errors=[FieldError("/provider", "unknown_provider", "is not known")]
        )
    return found


def secrets(provider: str) -> tuple[str, ...]:
    """The names of the secrets that an account at a provider may have: for what comes in, and for what goes out."""
    names = (ADAPTERS[provider].SECRETS if provider in ADAPTERS else ()) + (
        SENDERS[provider].SECRETS if provider in SENDERS else ()
    )
    return tuple(dict.fromkeys(names))


def body_max(provider: str) -> int:
    """How many bytes one of its deliveries may have."""
    return MAIL_BODY_MAX if ADAPTERS[provider].CHANNEL == "email" else BODY_MAX


def refused_status(provider: str) -> int:
    """The HTTP status for a delivery of its that is not signed as it should be."""
    status: int = getattr(ADAPTERS[provider], "REFUSED_STATUS", REFUSED_STATUS)
    return status
