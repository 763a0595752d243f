"""A mailbox: mail is fetched from a server that speaks as much IMAP as that takes."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from crm.interactions.channels import imap
from crm.interactions.channels.deliveries import SignatureInvalid
from crm.interactions.channels.events import Message, Unknown
from crm.interactions.channels.imap import Fetched, Mailbox, MailboxUnavailable, Position
from tests.interactions.channels.parcels import NOW, account, one, parcel


def mail(number: int) -> bytes:
    return f"From: sari@example.com\r\nMessage-ID: <{number}@x>\r\nSubject: {number}\r\n\r\nHalo {number}\r\n".encode()


class Server:
    """One mailbox. `said` are the commands that it was given."""

    def __init__(self, *numbers: int, validity: int = 7) -> None:
        self.mails = {number: mail(number) for number in numbers}
        self.validity = validity
        self.said: list[str] = []
        self.hangs_up = False

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None, security: str = "none") -> AsyncIterator[Mailbox]:
        self.tls = tls
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=tls if security == "tls" else None)
        port = server.sockets[0].getsockname()[1]
        async with server:
            yield Mailbox(host="localhost", port=port, user="u", password='p"\\w', security=security)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag, _, command = line.decode().strip().partition(" ")
            self.said.append(command)
            if self.hangs_up and command.startswith("UID"):
                break
            writer.write(self._answer(command) + f"{tag} {self._verdict(command)}\r\n".encode())
            if command == "LOGOUT":
                break
            if command == "STARTTLS":
                await writer.start_tls(self.tls)
        writer.close()

    def _verdict(self, command: str) -> str:
        if command.startswith("LOGIN"):
            return "OK in" if command == 'LOGIN u "p\\"\\\\w"' else "NO [AUTHENTICATIONFAILED] wrong password"
        if command.startswith("EXAMINE"):
            return "OK [READ-ONLY]" if command == 'EXAMINE "INBOX"' else "NO no such mailbox"
        return "OK done" if command.startswith(("CAPABILITY", "STARTTLS", "UID FETCH", "LOGOUT")) else "BAD unknown"

    def _answer(self, command: str) -> bytes:
        if command == "CAPABILITY":
            return b"* CAPABILITY IMAP4rev1 STARTTLS\r\n"
        if command.startswith("EXAMINE"):
            return f"* {len(self.mails)} EXISTS\r\n* OK [UIDVALIDITY {self.validity}] x\r\n".encode()
        if listed := re.fullmatch(r"UID FETCH (\d+):\* \(UID\)", command):
            last = [max(self.mails)] if self.mails else []
            uids = [uid for uid in self.mails if uid >= int(listed[1])] or last
            return b"".join(f"* {place} FETCH (UID {uid})\r\n".encode() for place, uid in enumerate(uids, 1))
        if fetched := re.fullmatch(r"UID FETCH (\d+) \(BODY\.PEEK\[\]<0\.(\d+)>\)", command):
            raw = self.mails.get(int(fetched[1]))
            if raw is not None:
                raw = raw[: int(fetched[2])]
                return f"* 1 FETCH (UID {fetched[1]} BODY[]<0> {{{len(raw)}}}\r\n".encode() + raw + b")\r\n"
        return b""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + signed.public_bytes(Encoding.PEM)
    )
    return file


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_an_encrypted_mailbox_is_read_where_its_certificate_is_trusted(security, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with Server(1).running(context, security) as mailbox:
        with pytest.raises(MailboxUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await imap.fetch(mailbox, since=None)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert [each.raw for each in await imap.fetch(mailbox, since=None)] == [mail(1)]


async def test_every_mail_is_fetched_once_and_nothing_changes_in_the_mailbox():
    server = Server(3, 5, 9)
    async with server.running() as mailbox:
        first = await imap.fetch(mailbox, since=None, limit=2)
        second = await imap.fetch(mailbox, since=first[-1].position, limit=2)
        third = await imap.fetch(mailbox, since=second[-1].position)
        server.mails[12] = mail(12)
        fourth = await imap.fetch(mailbox, since=second[-1].position)
    assert [[each.position for each in found] for found in (first, second, third, fourth)] == [
        [Position(7, 3), Position(7, 5)], [Position(7, 9)], [], [Position(7, 12)],
    ]  # fmt: skip
    assert first[0].raw == mail(3)
    assert not any("STORE" in command or "SELECT" in command for command in server.said)


async def test_a_mailbox_that_is_numbered_anew_is_read_from_its_beginning():
    async with Server(1, 2, validity=8).running() as mailbox:
        found = await imap.fetch(mailbox, since=Position(7, 100))
    assert [each.position for each in found] == [Position(8, 1), Position(8, 2)]


async def test_an_empty_mailbox_has_no_mail():
    async with Server().running() as mailbox:
        assert await imap.fetch(mailbox, since=None) == []


async def test_a_mail_that_was_deleted_meanwhile_is_left_out(monkeypatch):
    server = Server(1, 2)
    listed = imap._uids

    def then_deleted(*args):
        uids = listed(*args)
        server.mails.pop(1, None)
        return uids

    monkeypatch.setattr(imap, "_uids", then_deleted)
    async with server.running() as mailbox:
        assert [each.position.uid for each in await imap.fetch(mailbox, since=None)] == [2]


async def test_of_a_very_long_mail_the_beginning_is_fetched(monkeypatch):
    monkeypatch.setattr(imap, "BYTES_MAX", 40)
    async with Server(1).running() as mailbox:
        assert (await imap.fetch(mailbox, since=None))[0].raw == mail(1)[:40]


async def test_long_mails_are_not_fetched_many_at_once(monkeypatch):
    monkeypatch.setattr(imap, "BYTES_MAX", len(mail(1)) + 1)
    async with Server(1, 2, 3).running() as mailbox:
        assert [each.position.uid for each in await imap.fetch(mailbox, since=None)] == [1, 2]


@pytest.mark.parametrize("changes", [{"password": "wrong"}, {"folder": "Nowhere"}, {"port": 1}, {"security": "tls"}])
async def test_a_mailbox_that_can_not_be_read_says_so(changes):
    async with Server(1).running() as mailbox:
        with pytest.raises(MailboxUnavailable):
            await imap.fetch(replace(mailbox, **changes), since=None)


async def test_a_server_that_hangs_up_is_unavailable():
    server = Server(1)
    server.hangs_up = True
    async with server.running() as mailbox:
        with pytest.raises(MailboxUnavailable):
            await imap.fetch(mailbox, since=None)


def test_a_fetched_mail_is_a_delivery_that_is_known_by_its_place():
    box = Mailbox(host="mail.example", user="u", password="p")
    delivery = imap.delivery(Fetched(Position(7, 3), mail(3)), mailbox=box, received_at=NOW)
    event = one(imap, delivery, account("inbox@shop.example"))
    assert imap.key(delivery) == "7.3"
    assert isinstance(event, Message)
    assert (event.external_id, event.subject, event.text) == ("3@x", "3", "Halo 3")
    broken = imap.delivery(Fetched(Position(7, 4), b"nothing"), mailbox=box, received_at=NOW)
    assert isinstance(one(imap, broken), Unknown)


def test_the_mailbox_s_own_address_says_which_plus_sign_counts():
    raw = b"From: a@example.com\r\nTo: x+no@other.example, inbox+yes@shop.example\r\n\r\nHalo"
    event = one(imap, parcel(raw), account("inbox@shop.example"))
    assert event.thread_hint == "yes"


def test_nobody_delivers_to_a_mailbox():
    with pytest.raises(SignatureInvalid):
        imap.verify(parcel(mail(1)), account(password="p"))


@pytest.mark.parametrize(
    ("written", "position"), [("7.3", Position(7, 3)), ("7", None), ("a.b", None), ("", None), ("7.3.1", None)]
)
def test_a_position_can_be_kept(written, position):
    assert Position.parse(written) == position
    if position is not None:
        assert str(position) == written


def test_the_mailbox_of_an_account_is_in_its_settings():
    of = account("inbox@shop.example", {"host": "mail.example", "folder": "Toko", "port": "1993"}, password="p")
    assert Mailbox.of(of) == Mailbox(
        host="mail.example", user="inbox@shop.example", password="p", folder="Toko", port=1993
    )
    for settings, secrets in (
        ({}, {"password": "p"}), ({"host": "h"}, {}), ({"host": "h", "security": "x"}, {"password": "p"}),
        ({"host": "h", "port": "x"}, {"password": "p"}),
    ):  # fmt: skip
        with pytest.raises(MailboxUnavailable):
            Mailbox.of(account("a@b", settings, **secrets))
