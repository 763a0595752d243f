"""Which providers are known: each is a module of `crm.interactions.channels` that keeps the contract of an adapter."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Final, cast

from crm.errors import FieldError, Invalid
from crm.interactions import channels
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
UNSIGNED_IS_UNAUTHENTICATED: Final = frozenset({"postmark", "shopify"})
"""Providers for whom a wrong signature has to be a 401: Shopify asks for it, Postmark would never try again after a
403."""

_NEEDED: Final = ("CHANNEL", "SECRETS", "REQUIRED", "handshake", "verify", "key", "events")


class UnknownProvider(Invalid):
    code = "unknown_provider"
    title = "There is no such provider"


def _found() -> dict[str, Adapter]:
    """The adapters by provider; what the folder holds besides is none."""
    modules = {
        each.name: importlib.import_module(f"{channels.__name__}.{each.name}")
        for each in pkgutil.iter_modules(channels.__path__)
    }
    return {
        name: cast(Adapter, module)
        for name, module in modules.items()
        if all(hasattr(module, needed) for needed in _NEEDED)
    }


ADAPTERS: Final = _found()
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
