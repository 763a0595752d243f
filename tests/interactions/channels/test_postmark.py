"""Postmark: mail that it takes in, and what became of mail that it sent."""

from datetime import UTC, datetime
from typing import Any

import pytest

from crm.interactions.channels import postmark
from crm.interactions.channels.deliveries import SignatureInvalid
from crm.interactions.channels.events import Address, ConsentChanged, Happened, Message, StateChanged, Unknown
from tests.interactions.channels.parcels import account, basic, one, parcel, sample, told, vector

AT = "2026-11-20T10:00:00.1234567Z"
MAIL: dict[str, Any] = {
    "FromFull": {"Email": "sari@example.com", "Name": "Sari"}, "MessageID": "guid-1", "Subject": "Re: Pesanan",
    "ToFull": [{"Email": "inbox@shop.example", "MailboxHash": ""}], "Date": "Fri, 20 Nov 2026 17:00:00 +0700",
    "TextBody": "Ya.\n\nOn Mon, Toko <inbox@shop.example> wrote:\n> Sudah?", "HtmlBody": "", "StrippedTextReply": "",
    "Headers": [{"Name": "Message-ID", "Value": "<rfc-1@example.com>"}],
}  # fmt: skip


def received(**changes: Any) -> Any:
    return one(postmark, parcel({**MAIL, **changes}))


def headers(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in pairs]


def test_the_password_in_the_url_is_all_that_it_proves_by():
    known = vector("postmark")
    of = account(credentials=known["secret"])
    postmark.verify(parcel({}, {"authorization": known["value"]}), of)
    for wrong in ({}, basic("user:wrong"), basic("user"), {"authorization": known["value"].replace("Basic", "Bearer")}):
        with pytest.raises(SignatureInvalid):
            postmark.verify(parcel({}, wrong), of)


@pytest.mark.parametrize("secrets", [{}, {"credentials": ""}])
def test_without_a_password_nothing_is_accepted(secrets):
    for given in ({}, basic(""), basic(":")):
        with pytest.raises(SignatureInvalid):
            postmark.verify(parcel({}, given), account(**secrets))


def test_documented_mail_is_a_message():
    event = one(postmark, parcel(sample("postmark__inbound")))
    assert isinstance(event, Message)
    assert (event.external_id, event.text) == ("22c74902-a0c1-4511-804f2-341342852c90", "stripped plaintext body")
    assert event.occurred_at == datetime(2017, 10, 12, 1, 31, 4, tzinfo=UTC)
    assert list(event.person.addresses) == [Address(kind="email", value="from+test@example.org")]
    # The hash of whoever wrote it is theirs.
    assert event.thread_hint == "CAEPk3R+4Zr@mail.example.org"
    assert event.data["authentication"]["spf"] == "pass"


def test_a_documented_reply_belongs_where_its_hash_says():
    event = one(postmark, parcel(sample("postmark__inbound_mailboxhash_reply")))
    assert event.thread_hint == "ticket-456"
    [file] = event.attachments
    assert (file.kind, file.name, file.bytes_count, file.reference) == (
        "image", "screenshot.png", 45892, "/Attachments/0",
    )  # fmt: skip


def test_where_it_gives_no_reply_text_the_quote_is_left_out():
    event = received()
    assert (event.text, event.data["quoted"]) == ("Ya.", True)
    assert received(TextBody="", HtmlBody="<p>Ya.</p><blockquote>Sudah?</blockquote>").text == "Ya."
    assert received(TextBody="", HtmlBody="").text is None


def test_an_answer_names_the_mail_of_ours_by_the_id_that_we_know():
    event = received(Headers=headers(("Message-ID", "<a@b>"), ("In-Reply-To", "<guid-0@mtasv.net>")))
    assert event.reply_to == "guid-0"
    elsewhere = received(Headers=headers(("In-Reply-To", "<guid-0@notmtasv.net>")))
    assert elsewhere.reply_to == "guid-0@notmtasv.net"


def test_without_an_id_of_its_own_a_mail_goes_by_the_sender_s():
    assert received(MessageID="").external_id == "rfc-1@example.com"


def test_what_a_machine_sent_is_marked():
    assert received(Headers=headers(("Auto-Submitted", "auto-replied"))).data["automatic"] == "auto_reply"
    assert received(FromFull={"Email": "MAILER-DAEMON@mx.example"}).kind == "bounce"


def test_without_its_parts_the_sender_is_read_from_the_header():
    event = received(FromFull=None, From="Sari Dewi <sari@example.com>")
    assert (event.person.name, event.person.addresses[0].value) == ("Sari Dewi", "sari@example.com")


def test_documented_deliveries_change_the_state_of_a_message():
    bounced = one(postmark, parcel(sample("postmark__bounce")))
    assert isinstance(bounced, StateChanged)
    assert (bounced.external_id, bounced.state) == ("2706ee8a-737c-4285-b032-ccd317af53ed", "failed")
    assert bounced.error["code"] == "HardBounce"
    assert bounced.occurred_at == datetime(2016, 4, 27, 20, 28, 50, 396393, tzinfo=UTC)
    delivered = one(postmark, parcel(sample("postmark__delivered")))
    assert (delivered.external_id, delivered.state) == ("883953f4-6105-42a2-a16a-77a8eac79483", "delivered")


@pytest.mark.parametrize(
    ("record", "outcomes"),
    [
        ({"RecordType": "Delivery", "DeliveredAt": AT}, ["delivered"]),
        ({"RecordType": "Open", "ReceivedAt": AT, "FirstOpen": True}, ["read"]),
        ({"RecordType": "Click", "ReceivedAt": AT, "OriginalLink": "https://x.example"}, ["read", "mail.clicked"]),
        ({"RecordType": "Bounce", "BouncedAt": AT, "Type": "SoftBounce"}, ["failed"]),
        ({"RecordType": "Bounce", "BouncedAt": AT, "Type": "AutoResponder"}, ["mail.answered"]),
        ({"RecordType": "SpamComplaint", "BouncedAt": AT, "Type": "SpamComplaint"}, ["failed", (False, "all")]),
        (
            {"RecordType": "SubscriptionChange", "ChangedAt": AT, "Origin": "Recipient", "SuppressSending": True},
            [(False, "marketing")],
        ),
        (
            {"RecordType": "SubscriptionChange", "ChangedAt": AT, "Origin": "Recipient", "SuppressSending": False},
            [(True, "marketing")],
        ),
        (
            {"RecordType": "SubscriptionChange", "ChangedAt": AT, "Origin": "Customer", "SuppressSending": True},
            ["mail.suppressed"],
        ),
        (
            {
                "RecordType": "SubscriptionChange", "ChangedAt": AT, "Origin": "Recipient", "SuppressSending": True,
                "SuppressionReason": "HardBounce",
            },
            ["mail.suppressed"],
        ),
        (
            {"RecordType": "SubscriptionChange", "ChangedAt": AT, "Origin": "Customer", "SuppressSending": False},
            ["mail.reactivated"],
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_mail(record, outcomes):
    body = {"MessageID": "guid-1", "Recipient": "sari@example.com", **record}
    found = told(postmark, parcel(body, {"x-pm-webhook-trace-id": "t1"}))
    said: list[Any] = []
    for event in found:
        match event:
            case StateChanged(external_id="guid-1"):
                said.append(event.state)
            case Happened(external_id="t1"):
                said.append(event.kind)
            case ConsentChanged(external_id="t1", channel="email"):
                said.append((event.granted, event.purpose))
        assert event.occurred_at == datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)
        assert event.person.addresses[0].value == "sari@example.com"
    assert said == outcomes


def test_repeats_are_known_by_their_trace_or_by_what_they_say():
    body = {"RecordType": "Click", "MessageID": "g", "Recipient": "a@example.com", "ReceivedAt": AT}
    assert postmark.key(parcel(body, {"x-pm-webhook-trace-id": "t1"})) == "t1"
    assert postmark.key(parcel(MAIL)) is None
    first, again = (told(postmark, parcel(body))[1].external_id for _ in range(2))
    assert first == again == "Click:g:a@example.com:2026-11-20T10:00:00.123456+00:00"


def test_an_opened_mail_is_weak_evidence():
    [event] = told(
        postmark, parcel({"RecordType": "Open", "MessageID": "g", "Recipient": "a@x.example", "ReceivedAt": AT})
    )
    assert event.data["weak"] is True


@pytest.mark.parametrize(
    "body",
    [
        {"RecordType": "SmtpApiError"}, {"RecordType": "Delivery"}, {"RecordType": "Delivery", "DeliveredAt": AT}, {},
        {"FromFull": 7}, [], b"\xff", b"",
    ],
)  # fmt: skip
def test_what_nobody_can_read_is_kept(body):
    assert isinstance(one(postmark, parcel(body)), Unknown)
