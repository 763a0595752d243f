"""A mailbox, of which mail is fetched."""

import ssl
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
from crm.interactions.channels.imap import Fetched, Mailbox, MailboxUnavailable, MailWithheld, Position
from tests.interactions.channels.mailserver import Server, mail
from tests.interactions.channels.parcels import NOW, account, one, parcel


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


async def test_a_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(imap, "HUNG_SECONDS_MAX", 0.2)
    server = Server(1)
    server.hangs = "UID FETCH 1 "
    async with server.running() as mailbox:
        with pytest.raises(MailboxUnavailable, match="did not answer in time"):
            await imap.fetch(mailbox, since=None)
        server.goes_on.set()


async def test_what_takes_long_is_handed_over_before_the_rest_is_asked_for(monkeypatch):
    monkeypatch.setattr(imap, "SECONDS_MAX", 0)
    async with Server(1, 2).running() as mailbox:
        assert [each.position.uid for each in await imap.fetch(mailbox, since=None)] == [1]


async def test_a_mail_that_is_withheld_is_passed_by_once_there_are_others_behind_it():
    server = Server(1, 2, 3)
    server.withheld = {2, 3}
    async with server.running() as mailbox:
        assert [each.position.uid for each in await imap.fetch(mailbox, since=None)] == [1]
        with pytest.raises(MailWithheld, match="SERVERBUG"):
            await imap.fetch(mailbox, since=Position(7, 1))
        server.mails[4] = mail(4)
        found = await imap.fetch(mailbox, since=Position(7, 1))
    assert [(each.position.uid, each.raw) for each in found] == [(2, b""), (3, b""), (4, mail(4))]


@pytest.mark.parametrize("told", [True, False])
async def test_where_a_mailbox_ends_is_known_without_reading_it(told):
    server = Server(3, 9)
    server.told_next = told
    async with server.running() as mailbox:
        assert await imap.last(mailbox) == Position(7, 9)
        server.mails.clear()
        assert await imap.last(mailbox) == Position(7, 0)
    assert not any("BODY" in command for command in server.said)


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
        ({"host": "h", "port": "x"}, {"password": "p"}), ({"host": "h", "port": "99999"}, {"password": "p"}),
        ({"host": "h", "user": "a\r\nA1 LOGOUT"}, {"password": "p"}),
        ({"host": "h", "folder": "Köln"}, {"password": "p"}),
        ({"host": "h"}, {"password": "\x00"}),
    ):  # fmt: skip
        with pytest.raises(MailboxUnavailable):
            Mailbox.of(account("a@b", settings, **secrets))
