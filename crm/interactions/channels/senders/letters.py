"""Mail that goes out: what all its providers are given."""

from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from crm.interactions.channels import outgoing
from crm.interactions.channels.deliveries import ChannelAccount
from crm.interactions.channels.outgoing import Outgoing

CHANNELS: tuple[str, ...] = ("email",)
NO_SUBJECT: Final = "(no subject)"


def sender(account: ChannelAccount) -> str:
    """The address that mail is from: the setting `from`, which may have a name before it, else the reference."""
    return " ".join(outgoing.setting(account, "from", account.ref).split())


def message_id(reference: str, account: ChannelAccount) -> str:
    """The id of a mail without its brackets: it is known before the mail goes, and answers name it."""
    address = sender(account).rpartition("<")[2].rstrip("> ")
    return f"{reference}@{address.rpartition('@')[2] or 'localhost'}"


def subject(message: Outgoing) -> str:
    """In one line."""
    return " ".join((message.subject or "").split()) or NO_SUBJECT


def headers(message: Outgoing, account: ChannelAccount) -> dict[str, str]:
    """What ties a mail to those before it: its own id, and that of the mail with which it all began."""
    named = {"Message-ID": f"<{message_id(message.reference, account)}>"}
    if message.began_with is not None:
        named |= {"In-Reply-To": f"<{message.began_with}>", "References": f"<{message.began_with}>"}
    reply_to = account.settings.get("reply_to")
    return named | ({"Reply-To": " ".join(reply_to.split())} if reply_to else {})


def written(message: Outgoing, account: ChannelAccount) -> bytes:
    """A whole mail, as a mail server takes it. Raises ValueError for addresses that are none."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender(account), message.to.value, subject(message)
    for name, value in headers(message, account).items():
        mail[name] = value
    mail["Auto-Submitted"] = "no"
    mail.set_content(message.text or "")
    return mail.as_bytes()
