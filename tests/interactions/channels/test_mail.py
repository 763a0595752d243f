"""Mail as it is sent, and the one shape that all of it comes into."""

from datetime import UTC, datetime, timedelta

import pytest

from crm.interactions.channels import charsets, mail, mail_text
from crm.interactions.channels.events import Message
from crm.interactions.channels.payloads import Unreadable
from tests.interactions.channels.parcels import NOW

PLAIN = """\
From: Sari Dewi <sari@example.com>
To: Toko <inbox+case-17@shop.example>
Subject: Pesanan
Date: Wed, 25 Nov 2026 10:00:00 +0700
Message-ID: <first@mail.example>

Halo, pesanan saya?
"""


def read(text: str | bytes, **changes: str) -> Message:
    raw = text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode()
    event = mail.message(mail.parse(raw, received_at=NOW, **changes))
    assert isinstance(event, Message)
    return event


def with_headers(*headers: str) -> str:
    return "\n".join([*headers, PLAIN])


def test_a_mail_is_a_message_of_whoever_it_says_it_is_from():
    event = read(PLAIN)
    [address] = event.person.addresses
    assert (address.kind, address.value, address.verified) == ("email", "sari@example.com", False)
    assert (event.person.name, event.subject, event.text) == ("Sari Dewi", "Pesanan", "Halo, pesanan saya?")
    assert event.occurred_at == datetime(2026, 11, 25, 3, tzinfo=UTC)
    assert (event.external_id, event.kind) == ("first@mail.example", "message")
    assert "automatic" not in event.data


def test_a_mail_from_the_future_was_written_when_it_came():
    assert read(PLAIN.replace("2026 10:00", "2036 10:00")).occurred_at == NOW
    assert read(PLAIN.replace("Date: Wed, 25 Nov 2026 10:00:00 +0700\n", "")).occurred_at == NOW
    assert read(PLAIN.replace("Wed, 25 Nov 2026 10:00:00 +0700", "tomorrow")).occurred_at == NOW


@pytest.mark.parametrize(
    ("headers", "hint", "reply_to"),
    [
        ([], "first@mail.example", None),
        (["In-Reply-To: <root@shop.example>"], "root@shop.example", "root@shop.example"),
        (["References: <root@shop.example> <b@x>", "In-Reply-To: <b@x>"], "root@shop.example", "b@x"),
        (["References: <root@shop.example>\n\t<b@x>"], "root@shop.example", "b@x"),
        (["In-Reply-To: nothing that is an id"], "first@mail.example", None),
    ],
)
def test_a_conversation_is_held_together_by_its_first_mail(headers, hint, reply_to):
    event = read(with_headers(*headers).replace("inbox+case-17", "inbox"))
    assert (event.thread_hint, event.reply_to) == (hint, reply_to)


@pytest.mark.parametrize(
    ("ours", "hint"),
    [
        (None, "first@mail.example"), ("inbox@shop.example", "case-17"), ("Inbox@Shop.Example", "case-17"),
        ("other@shop.example", "first@mail.example"), ("inbox@elsewhere.example", "first@mail.example"),
    ],
)  # fmt: skip
def test_what_follows_the_plus_of_our_address_says_where_a_reply_belongs(ours, hint):
    assert read(PLAIN, ours=ours).thread_hint == hint


def test_where_our_address_is_not_known_the_one_it_was_delivered_to_counts():
    assert read(with_headers("Delivered-To: inbox+case-9@shop.example")).thread_hint == "case-9"


def test_a_plus_in_the_sender_s_address_says_nothing():
    text = PLAIN.replace("sari@", "sari+shop@").replace("inbox+case-17", "inbox")
    assert read(text, ours="inbox@shop.example").thread_hint == "first@mail.example"


@pytest.mark.parametrize(
    ("headers", "automatic"),
    [
        (["Auto-Submitted: auto-replied"], "auto_reply"),
        (["Auto-Submitted: auto-generated (rejected)"], "auto_reply"),
        (["Auto-Submitted: no"], None),
        (["Precedence: auto_reply"], "auto_reply"),
        (["Precedence: bulk"], "bulk"),
        (["Precedence: list"], "bulk"),
        (["List-Id: <news.example>"], "bulk"),
        (["X-Autoreply: yes"], "auto_reply"),
        (["X-Autorespond: Away"], "auto_reply"),
        (["Return-Path: <>"], "bounce"),
        (["Return-Path: <>", "Auto-Submitted: auto-replied"], "auto_reply"),
        (["X-Failed-Recipients: budi@example.com"], "bounce"),
    ],
)
def test_what_a_machine_sent_is_marked(headers, automatic):
    event = read(with_headers(*headers))
    assert event.data.get("automatic") == automatic
    assert event.kind == ("bounce" if automatic == "bounce" else "message")


BOUNCE = """\
From: Mail Delivery System <MAILER-DAEMON@mx.example>
To: inbox@shop.example
Subject: Undelivered Mail Returned to Sender
Message-ID: <bounce@mx.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I'm sorry to have to inform you.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; gone@example.com
Action: ACTION
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user
--b
Content-Type: message/rfc822

From: inbox@shop.example
To: gone@example.com
Message-ID: <ours@shop.example>
Subject: Your order

Hello
--b--
"""


@pytest.mark.parametrize(
    ("action", "automatic", "kind"), [("failed", "bounce", "bounce"), ("delayed", "delivery_report", "message")]
)
def test_a_report_says_for_whom_which_mail_of_ours_failed(action, automatic, kind):
    event = read(BOUNCE.replace("ACTION", action))
    assert (event.kind, event.data["automatic"], event.reply_to) == (kind, automatic, "ours@shop.example")
    assert event.person.addresses[0].value == "gone@example.com"
    assert event.data["bounced"]["status"] == "5.1.1"
    assert event.text == "I'm sorry to have to inform you."


PARTS = """\
From: =?utf-8?Q?S=C3=A1ri?= =?utf-8?B?IERld2k=?= <sari@example.com>
Subject: =?iso-8859-1?Q?Gr=FC=DFe?=
To: inbox@shop.example
Message-ID: <p@x>
MIME-Version: 1.0
Authentication-Results: mx.example; spf=pass smtp.mailfrom=example.com; dkim=fail
Authentication-Results: forged.example; dkim=pass
Content-Type: multipart/mixed; boundary="m"

--m
Content-Type: multipart/alternative; boundary="a"

--a
Content-Type: text/html; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

<p>Sch=F6n <b>hier</b></p>
--a--
--m
Content-Type: image/png
Content-Disposition: attachment; filename*=utf-8''Foto%20%C3%A1.png
Content-ID: <foto>
Content-Transfer-Encoding: base64

AAECAwQ=
--m
Content-Type: message/rfc822

From: x@example.com
Subject: forwarded
Content-Type: text/plain

Not what they wrote.
--m--
"""


def test_parts_are_a_text_and_attachments_that_stay_where_they_are():
    event = read(PARTS)
    assert (event.person.name, event.subject, event.text) == ("Sári Dewi", "Grüße", "Schön hier")
    assert [(each.kind, each.content_type, each.bytes_count, each.reference) for each in event.attachments] == [
        ("image", "image/png", 5, "part/2"), ("file", "message/rfc822", None, "part/3"),
    ]  # fmt: skip
    assert (event.attachments[0].name, event.attachments[0].data) == ("Foto á.png", {"content_id": "foto"})


@pytest.mark.parametrize("sender", ["(" * 5_000, '"' * 5_000, "<" * 5_000, "a," * 5_000, ":;" * 5_000, "@" * 5_000])
def test_an_address_that_nobody_can_have_is_nobody_s(sender):
    with pytest.raises(Unreadable):
        read(PLAIN.replace("Sari Dewi <sari@example.com>", sender))


def test_what_the_receiving_server_found_out_is_noted_and_proves_nobody():
    event = read(PARTS)
    assert event.data["authentication"] == {"spf": "pass", "dkim": "fail"}
    assert not event.person.addresses[0].verified


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"no header\r\n\r\ntext", b"Subject: x\r\n\r\nno sender", b"\xff\xfe\x00"]
)
def test_what_is_no_mail_is_unreadable(raw):
    with pytest.raises(Unreadable):
        mail.message(mail.parse(raw, received_at=NOW))


def test_mail_without_an_id_is_known_by_its_content():
    text = PLAIN.replace("Message-ID: <first@mail.example>\n", "")
    assert read(text).external_id == read(text).external_id
    assert read(text).external_id != read(text.replace("Halo", "Hai")).external_id


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        (b"Sch\xf6n", "iso-8859-1", "Schön"),
        ("Schön".encode(), "utf-8", "Schön"),
        ("Schön".encode(), "no-such-charset", "Schön"),
        (b"Sch\xf6n \x80", None, "Schön €"),
        ("こんにちは".encode("iso-2022-jp"), "iso-2022-jp", "こんにちは"),
        (b"a\x00b", "ascii", "a�b"),
        (b"\\u0041", "unicode_escape", "\\u0041"),
        (b"x" * 5, "idna", "xxxxx"),
        (b"caf\xe9", "ascii\x00", "café"),
        (b"\x81", None, "\x81"),
    ],
)
def test_text_is_read_whatever_its_charset_is_called(raw, charset, text):
    assert charsets.decoded(raw, charset) == text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?B?w6E=?= x", "á x"),
        ("=?utf-8?B?w?=", "w"),
        ("=?utf-8?Q?a=C3?= =?utf-8?Q?=A1?=", "aá"),
        ("=?utf-8?Q?a_b?=\r\n =?iso-8859-1?Q?=FC?=", "a bü"),
        ("=?broken", "=?broken"),
        ("=?x?q?a?=", "a"),
    ],
)
def test_encoded_words_are_read(header, text):
    assert charsets.unfolded(header) == text


REPLIES = [
    ("Ya.\n\nOn Mon, 1 Nov 2026 at 10:00, Toko <inbox@shop.example> wrote:\n> Sudah sampai?\n>\n> Toko", "Ya."),
    ("Ya.\n\nOn Mon, 1 Nov 2026 at 10:00, Toko\n<inbox@shop.example> wrote:\n\n> Sudah?", "Ya."),
    ("Ya.\n\nPada tanggal Sen, 1 Nov 2026 10.00, Toko <inbox@shop.example>\nmenulis:\n\n> Sudah?", "Ya."),
    ("Ja.\n\nAm 01.11.26 um 10:00 schrieb Toko:\n> Da?", "Ja."),
    ("Ja.\n\nToko <inbox@shop.example> schrieb am Mo., 1. Nov. 2026:\n> Da?", "Ja."),
    ("Ya.\n\n-----Original Message-----\nFrom: Toko\nSent: Monday\n\nSudah?", "Ya."),
    ("Ya.\n\n________________________________\nDari: Toko\nSudah?", "Ya."),
    ("Ya.\n\nFrom: Toko <inbox@shop.example>\nSent: Monday\nTo: Sari\nSubject: x\n\nSudah?", "Ya."),
    ("Ya.\n\nDari: Toko\nTanggal: Senin\nKepada: Sari\n\nSudah?", "Ya."),
    ("> Sudah sampai?\n\nYa.\n\n> Lengkap?\n\nTidak.", "> Sudah sampai?\n\nYa.\n\n> Lengkap?\n\nTidak."),
    ("She wrote:\nI like it.", "She wrote:\nI like it."),
    ("From: my heart\nThank you", "From: my heart\nThank you"),
    ("> only a quote", "> only a quote"),
    ("2 > 1\n\nreally", "2 > 1\n\nreally"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "new"), REPLIES)
def test_a_reply_is_what_is_new_in_it(text, new):
    found, quoted = mail_text.new_text(text)
    assert (found, quoted) == (new, found != text.strip())
    assert mail_text.new_text(text.replace("\n", "\r\n"))[0] == new


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Halo</p><p>Ini <b>penting</b>&nbsp;&amp; baru</p>", "Halo\n\nIni penting & baru"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<style>p{}</style><script>alert(1)</script><title>t</title>x", "x"),
        ("<ul><li>one<li>two</ul>end", "- one\n- two\n\nend"),
        ("<table><tr><td>a<td>b</tr><tr><td>c</tr></table>", "a b\nc"),
        ("<pre>a  b\n c</pre>", "a  b\n c"),
        ("x<!-- <p>no</p> --><![if !mso]>y<![endif]><!DOCTYPE z>", "xy"),
        ("&lt;script&gt;", "<script>"),
        ("<div>Ya</div><blockquote>Sudah?</blockquote>", "Ya\n> Sudah?"),
        (
            "<div>Ya</div><div class='gmail_quote'>On Mon, Toko wrote:<blockquote>Sudah?</blockquote></div>",
            "Ya\n> On Mon, Toko wrote:\n> > Sudah?",
        ),
        ("</div></p>x<p", "x"),
        ("<", "<"),
        ("", ""),
    ],
)  # fmt: skip
def test_html_is_read_as_text(html, text):
    assert mail_text.of_html(html) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<blockquote>",
        "<div>",
        "<!--",
        "<![",
        "<a",
        "&#",
        "<p>x",
        "</p>",
        "> \n",
        "On x\n",
        '<a "',
        "<a '\"",
        "<pre>",
        "<script>",
        "<title",
    ],
)
def test_reading_long_bodies_takes_no_more_time_than_their_length_asks(piece):
    body = piece * (mail_text.LENGTH_MAX // len(piece))
    began = datetime.now(UTC)
    mail_text.of_html(body)
    mail_text.new_text(body)
    assert datetime.now(UTC) - began < timedelta(seconds=10)
