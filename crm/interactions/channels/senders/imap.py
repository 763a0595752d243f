"""Mail from a plain mailbox goes by a mail server, with the mailbox's own password."""

from email.utils import parseaddr
from typing import Final

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import AccountIncomplete, Answer, Mailing, Outcome, Outgoing, Refused
from crm.interactions.channels.senders import letters

CHANNELS: tuple[str, ...] = letters.CHANNELS
SECRETS: tuple[str, ...] = ("password",)
SETTINGS: tuple[str, ...] = ("smtp_host",)
REPEATABLE = False

_PORTS: Final = {"tls": 465, "starttls": 587, "none": 25}
NOBODY: Final = "none"
"""The setting `smtp_user` of a mail server that asks for no password."""


def request(message: Outgoing, account: ChannelAccount) -> Mailing:
    """To the mail server of the settings `smtp_host`, `smtp_port`, `smtp_security` (`tls`, `starttls`, `none`) and
    `smtp_user`, by default that of the mailbox. Raises AccountIncomplete.
    """
    settings = account.settings
    security = settings.get("smtp_security", "starttls")
    port = settings.get("smtp_port", str(_PORTS.get(security, 0)))
    if security not in _PORTS or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise AccountIncomplete("smtp_security is 'tls', 'starttls' or 'none', and smtp_port a number.")
    user = settings.get("smtp_user") or settings.get("user") or account.ref
    try:
        content = letters.written(message, account)
    except (ValueError, IndexError) as error:
        raise AccountIncomplete(f"No mail can be made of it: {error}.") from error
    return Mailing(
        host=outgoing.setting(account, "smtp_host"), port=int(port), security=security,
        user=None if user == NOBODY else user, password=outgoing.secret(account, "password"),
        sender=parseaddr(letters.sender(account))[1], recipient=message.to.value,
        message_id=letters.message_id(message.reference, account), content=content,
    )  # fmt: skip


def outcome(answer: Answer) -> Outcome:
    """Never asked: a mail server answers in other words."""
    return Refused("no_http", "A mail server speaks no HTTP.")
