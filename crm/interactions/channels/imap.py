"""A plain mailbox: mail is fetched from it, as nobody delivers it.

Everything but `fetch` is pure. A mail that was fetched becomes a delivery like those of providers, and is read later.
Nothing changes in the mailbox: whether a mail was read there is its people's own affair.
"""

import asyncio
import imaplib
import re
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final, NamedTuple

from crm.errors import Unavailable
from crm.interactions.channels import forms, mail, signatures
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
TIMEOUT_SECONDS: Final = 30.0
"""How long one answer of the server is waited for."""
SECONDS_MAX: Final = 60.0
"""After how long no further mail is asked for: those that are there are handed over first."""
HUNG_SECONDS_MAX: Final = 240.0
"""After how long the connection is cut, whatever trickles in."""

SAID_MAX: Final = 500

_PORTS: Final = {"tls": 993, "starttls": 143, "none": 143}
_PORT: Final = re.compile(r"[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}", re.ASCII)
_UID: Final = re.compile(rb"\bUID (\d+)", re.IGNORECASE)


class MailboxUnavailable(Unavailable):
    code = "mailbox_unavailable"
    title = "The mailbox can't be read"


class MailWithheld(MailboxUnavailable):
    code = "mail_withheld"
    title = "The newest mail of the mailbox can't be read"


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
    """A mail as it was sent, and the position of the mailbox once it is taken.

    One that the server does not hand out, while it does those behind it, is empty.
    """

    position: Position
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Where an account's mail is. `security` says how the connection is encrypted: `tls`, `starttls` or `none`."""

    host: str
    user: str
    password: str = field(repr=False)
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
        if not password or not settings.get("host") or security not in _PORTS or not _PORT.fullmatch(port or "0"):
            raise MailboxUnavailable("Set the mailbox's host and password; security is 'tls', 'starttls' or 'none'.")
        user, folder = settings.get("user", account.ref), settings.get("folder", "INBOX")
        if not all(text.isascii() and text.isprintable() for text in (user, password, folder)):
            raise MailboxUnavailable("User, password and folder are of printable ASCII characters alone.")
        return cls(
            host=settings["host"], user=user, password=password, folder=folder, security=security,
            port=int(port) if port else None,
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


def sample(account: ChannelAccount, *, url: str, now: datetime) -> Delivery:
    """A mail to try the account with, as if fetched. Raises SignatureInvalid without a password."""
    signatures.secret(account, "password")
    lines = ("From: Test <test@example.com>", f"Date: {format_datetime(now)}", "Subject: Test", "", "This is a test.")
    raw = "\r\n".join(lines).encode()
    return Delivery(method="FETCH", url=url, headers={}, query={}, body=raw, received_at=now)


def delivery(fetched: Fetched, *, mailbox: Mailbox, received_at: datetime) -> Delivery:
    """The delivery that a mail comes to."""
    return Delivery(
        method="FETCH", url=f"imap://{mailbox.host}/{mailbox.folder}", headers={POSITION: str(fetched.position)},
        query={}, body=fetched.raw, received_at=received_at,
    )  # fmt: skip


async def fetch(mailbox: Mailbox, *, since: Position | None, limit: int = FETCHED_AT_ONCE) -> list[Fetched]:
    """The mails behind a position, oldest first, at most `limit`; from the first one on where none was taken yet.

    A mailbox that was numbered anew is read from its beginning: what was taken before is known by its message id.
    Raises MailboxUnavailable, and MailWithheld where only mail is left that the server does not hand out.
    """
    reading = _Reading(mailbox, since, limit)
    await _carry_out(mailbox, reading)
    return reading.found()


async def last(mailbox: Mailbox) -> Position:
    """The position behind all mail that is there. Raises MailboxUnavailable."""
    looking = _Looking(mailbox)
    await _carry_out(mailbox, looking)
    return looking.position


async def _carry_out(mailbox: Mailbox, errand: "_Errand") -> None:
    try:
        async with asyncio.timeout(HUNG_SECONDS_MAX):
            await asyncio.to_thread(errand.run)
    except TimeoutError:
        raise MailboxUnavailable("The mailbox did not answer in time.") from None
    except (imaplib.IMAP4.error, OSError, ValueError) as error:
        # Whatever a server says of a command may repeat the command.
        said = _said(error).replace(_quoted(mailbox.password), "[hidden]").replace(mailbox.password, "[hidden]")
        raise MailboxUnavailable(f"The mailbox answers: {said[:SAID_MAX]}") from None
    finally:
        # A thread can't be stopped; without its connection it ends by itself.
        errand.cut()


class _Errand(ABC):
    """Something to be done at a mailbox, in a thread of its own."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._connection: imaplib.IMAP4 | None = None

    def run(self) -> None:
        connection = self._connection = _connect(self._mailbox)
        try:
            connection.login(_quoted(self._mailbox.user), self._mailbox.password)
            _ok(connection.select(_quoted(self._mailbox.folder), readonly=True))
            self._do(connection, int(connection.response("UIDVALIDITY")[1][0] or 0))
        finally:
            _leave(connection)

    def cut(self) -> None:
        """Break the connection off, under the thread that may still wait for it."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    @abstractmethod
    def _do(self, connection: imaplib.IMAP4, validity: int) -> None:
        """Do it in the open folder, whose UIDs are numbered anew with each `validity`."""


class _Looking(_Errand):
    """Seeing how far the mailbox goes."""

    position: Position

    def _do(self, connection: imaplib.IMAP4, validity: int) -> None:
        [coming] = connection.response("UIDNEXT")[1]
        last_uid = int(coming) - 1 if coming else max(_uids(connection, 0), default=0)
        self.position = Position(validity, last_uid)


class _Reading(_Errand):
    """Reading what is behind a position."""

    def __init__(self, mailbox: Mailbox, since: Position | None, limit: int) -> None:
        super().__init__(mailbox)
        self._since, self._limit = since, limit
        self._fetched: list[Fetched] = []
        self._refused: Exception | None = None

    def found(self) -> list[Fetched]:
        """What was fetched, without what was refused at the end: that may be handed out the next time."""
        while self._fetched and not self._fetched[-1].raw:
            self._fetched.pop()
        if self._refused is not None and not self._fetched:
            raise MailWithheld(f"The mailbox does not hand out its newest mail: {_said(self._refused)}"[:SAID_MAX])
        return self._fetched

    def _do(self, connection: imaplib.IMAP4, validity: int) -> None:
        since = self._since
        taken = since.uid if since is not None and since.validity == validity else 0
        deadline, size = time.monotonic() + SECONDS_MAX, 0
        for uid in _uids(connection, taken)[: self._limit]:
            try:
                raw = _raw(_ok(connection.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{BYTES_MAX}>)")))
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error as error:
                self._refused, raw = error, b""
            # It may have been deleted since it was listed.
            if raw is not None:
                self._fetched.append(Fetched(Position(validity, uid), raw))
                size += len(raw)
            if size >= BYTES_MAX or time.monotonic() > deadline:
                break


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


def _said(error: Exception) -> str:
    """What a server said, which imaplib hands on as bytes."""
    told = error.args[0] if error.args else ""
    return told.decode(errors="replace") if isinstance(told, bytes) else str(error)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
