"""Whether two contacts are one person by what reaches them: the same mailbox, or the same phone. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

KINDS: Final = ("email", "phone", "whatsapp")
"""The identities that are compared."""
_HOSTS: Final[Mapping[str, str]] = {"gmail.com": "gmail.com", "googlemail.com": "gmail.com"}
"""Mail hosts for which dots before the @ make no difference, by the name that they have in common."""


def reached(identities: Iterable[tuple[str, str]]) -> frozenset[str]:
    """What the identities, each a kind and a canonical value, come down to.

    An e-mail address to its mailbox: without what follows a plus, and where the host ignores them, without dots. A
    phone number and the WhatsApp of that number to its digits. Others come down to nothing.
    """
    return frozenset(
        _mailbox(value) if kind == "email" else value.removeprefix("+") for kind, value in identities if kind in KINDS
    )


def _mailbox(address: str) -> str:
    local, _, host = address.rpartition("@")
    local = local.partition("+")[0] or local
    common = _HOSTS.get(host)
    return f"{local}@{host}" if common is None else f"{local.replace('.', '')}@{common}"
