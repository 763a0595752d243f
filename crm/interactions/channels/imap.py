"""A plain mailbox: mail is fetched from it, as nobody delivers it.

Everything but `fetch` is pure. A mail that was fetched becomes a delivery like those of providers, and is read later.
Nothing changes in the mailbox: whether a mail was read there is its people's own affair.
"""

import asyncio
import imaplib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from crm.errors import Unavailable
from crm.interactions.channels import forms, mail
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, Reply, SignatureInvalid
from crm.interactions.channels.events import Event
from crm.interactions.channels.payloads import Unreadable

CHANNEL = mail.CHANNEL
SECRETS: tuple[str, ...] = ("password",)
REQUIRED: tuple[str, ...] = SECRETS

POSITION: Final = "x-imap-position"
FETCHED_AT_ONCE: Final = 50
BYTES_MAX: Final = 64_000_000
"""Of a longer mail the beginning is fetched, and not many long ones at once."""
TIMEOUT_SECONDS: Final = 60.0

_PORTS: Final = {"tls": 993, "starttls": 143, "none": 143}
_UID: Final = re.compile(rb"\bUID (\d+)", re.IGNORECASE)


class MailboxUnavailable(Unavailable):
    code = "mailbox_unavailable"
    title = "The mailbox can't be read"


class Position(NamedTuple):
    """How far a mailbox was read: `uid` is the last number taken, under the numbering `validity`."""

    validity: int
    uid: int

    @classmethod
    def parse(cls, written: str) -> "Position | None":
        """The position that `str` writes."""
        validity, _, uid = written.partition(".")
        return cls(int(validity), int(uid)) if validity.isdecimal() and uid.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.validity}.{self.uid}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A mail as it was sent, and the position of the mailbox once it is taken."""

    position: Position
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Where an account's mail is. `security` says how the connection is encrypted: `tls`, `starttls` or `none`."""

    host: str
    user: str
    password: str
    folder: str = "INBOX"
    security: str = "tls"
    port: int | None = None

    @classmethod
    def of(cls, account: ChannelAccount) -> "Mailbox":
        """The mailbox of an account, by its settings `host`, `user` (by default its address), `folder`, `security`
        and `port`. Raises MailboxUnavailable."""
        settings, password = account.settings, account.secrets.get("password")
        security = settings.get("security", "tls")
        port = settings.get("port")
        if not password or not settings.get("host") or security not in _PORTS or not (port or "0").isdecimal():
            raise MailboxUnavailable("Set the mailbox's host and password; security is 'tls', 'starttls' or 'none'.")
        return cls(
            host=settings["host"], user=settings.get("user", account.ref), password=password,
            folder=settings.get("folder", "INBOX"), security=security, port=int(port) if port else None,
        )  # fmt: skip


def handshake(delivery: Delivery, account: ChannelAccount) -> Reply | None:
    """None: nobody asks."""
    return None


def verify(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid, always: what is fetched comes by `delivery` and not over HTTP."""
    raise SignatureInvalid("A mailbox is fetched; nobody delivers to it.")


def key(delivery: Delivery) -> str | None:
    """Where the mail is in its mailbox."""
    return delivery.headers.get(POSITION)


def events(delivery: Delivery, account: ChannelAccount) -> Iterator[Event]:
    """The mail; a position is not enough to know it by, as a mailbox may number its mail anew."""
    ours = account.ref if "@" in account.ref else None
    try:
        yield mail.message(mail.parse(delivery.body, received_at=delivery.received_at, ours=ours))
    except Unreadable as error:
        yield forms.unreadable(delivery, error)


def delivery(fetched: Fetched, *, mailbox: Mailbox, received_at: datetime) -> Delivery:
    """The delivery that a mail comes to."""
    return Delivery(
        method="FETCH", url=f"imap://{mailbox.host}/{mailbox.folder}", headers={POSITION: str(fetched.position)},
        query={}, body=fetched.raw, received_at=received_at,
    )  # fmt: skip


async def fetch(mailbox: Mailbox, *, since: Position | None, limit: int = FETCHED_AT_ONCE) -> list[Fetched]:
    """The mails behind a position, oldest first, at most `limit`; from the first one on where none was taken yet.

    A mailbox that was numbered anew is read from its beginning: what was taken before is known by its message id.
    Raises MailboxUnavailable.
    """
    try:
        return await asyncio.to_thread(_fetch, mailbox, since, limit)
    except (imaplib.IMAP4.error, OSError, ValueError) as error:
        raise MailboxUnavailable(f"The mailbox answers: {error}") from error


def _fetch(mailbox: Mailbox, since: Position | None, limit: int) -> list[Fetched]:
    connection = _connect(mailbox)
    try:
        connection.login(mailbox.user, mailbox.password)
        _ok(connection.select(_quoted(mailbox.folder), readonly=True))
        validity = int(connection.response("UIDVALIDITY")[1][0] or 0)
        taken = since.uid if since is not None and since.validity == validity else 0
        fetched: list[Fetched] = []
        for uid in _uids(connection, taken)[:limit]:
            raw = _raw(_ok(connection.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{BYTES_MAX}>)")))
            # It may have been deleted since it was listed.
            if raw is not None:
                fetched.append(Fetched(Position(validity, uid), raw))
            if sum(len(each.raw) for each in fetched) >= BYTES_MAX:
                break
        return fetched
    finally:
        _leave(connection)


def _connect(mailbox: Mailbox) -> imaplib.IMAP4:
    port = mailbox.port or _PORTS[mailbox.security]
    context = ssl.create_default_context()
    if mailbox.security == "tls":
        return imaplib.IMAP4_SSL(mailbox.host, port, ssl_context=context, timeout=TIMEOUT_SECONDS)
    connection = imaplib.IMAP4(mailbox.host, port, timeout=TIMEOUT_SECONDS)
    if mailbox.security == "starttls":
        connection.starttls(context)
    return connection


def _leave(connection: imaplib.IMAP4) -> None:
    try:
        connection.logout()
    except (imaplib.IMAP4.error, OSError):
        connection.shutdown()


def _uids(connection: imaplib.IMAP4, taken: int) -> list[int]:
    # One line for each mail: a search answers with a single one, which imaplib refuses when it is long.
    found = _ok(connection.uid("FETCH", f"{taken + 1}:*", "(UID)"))
    uids = {int(match[1]) for line in found if isinstance(line, bytes) and (match := _UID.search(line)) is not None}
    # Behind the last mail, `*` is the last mail itself.
    return sorted(uid for uid in uids if uid > taken)


def _raw(found: list[Any]) -> bytes | None:
    return next((part[1] for part in found if isinstance(part, tuple)), None)


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(b" ".join(one for one in data if isinstance(one, bytes)).decode(errors="replace"))
    return data


def _quoted(folder: str) -> str:
    text = folder.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
