"""Every provider is asked as it wants to be, and its answers are understood."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from tests.inbox import posts
from tests.inbox.mailserver import BREAK_OFF, PASSWORD, USER, MailServer
from tests.inbox.posts import HANG, TOKEN
from tests.inbox.sending import Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)
SOON = NOW + timedelta(hours=1)
LOCAL, THERE = {"kind": "phone", "value": "+628123456789"}, {"kind": "email", "value": "sari@example.com"}

PROVIDERS = {
    "telegram": (
        posts.telegram, {"ref": "toko_bot", "secrets": {"secret_token": "t", "bot_token": "123:abc"}},
        {"kind": "telegram", "value": "42", "verified": True}, "42:1",
    ),
    "line": (
        posts.line, {"ref": "U1", "secrets": {"channel_secret": "s", "channel_access_token": TOKEN}},
        {"kind": "line", "value": "Uabc", "verified": True}, "100",
    ),
    "twilio": (
        posts.twilio,
        {"ref": "+12025550100", "secrets": {"auth_token": TOKEN}, "settings": {"account_sid": "AC1"}}, LOCAL, "SM1",
    ),
    "postmark": (
        posts.postmark, {"ref": "halo@toko.id", "secrets": {"credentials": "a:b", "server_token": TOKEN}}, THERE,
        "pm-1",
    ),
    "mailgun": (
        posts.mailgun,
        {"ref": "halo@toko.id", "secrets": {"signing_key": "k", "api_key": TOKEN},
         "settings": {"domain": "mg.toko.id"}}, THERE, None,
    ),
    "sendgrid": (
        posts.sendgrid, {"ref": "halo@toko.id", "secrets": {"credentials": "a:b", "api_key": TOKEN}}, THERE, "sg-1",
    ),
}  # fmt: skip


class Line:
    """A provider with its account, and Sari to write to."""

    def __init__(self, provider, post, writer, sari):
        self.provider, self.post, self.writer, self.sari = provider, post, writer, sari

    async def state(self, message):
        return await self.writer.message(message)


@pytest.fixture(params=sorted(PROVIDERS))
async def talk(request, client):
    speak, account, address, external_id = PROVIDERS[request.param]
    async with open_post(speak) as post:
        writer = await Writer.at(client, post, provider=request.param, **account)
        talk = Line(request.param, post, writer, await writer.sari(address))
        talk.external_id = external_id
        yield talk


async def test_what_it_takes_is_sent_under_its_name(talk):
    message = await talk.writer.write(talk.sari, "Siap kak", subject="Pesanan")
    await talk.writer.dispatch()
    sent = await talk.state(message)
    assert (sent["status"], sent["error"]) == ("sent", None)
    assert sent["external_id"] == (talk.external_id or f"{message['id']}@toko.id")
    assert len(talk.post.taken) == 1


async def test_a_wrong_password_fails_it_and_is_shown_nowhere(talk):
    wrong = "the wrong one entirely"
    names = {
        "twilio": "auth_token",
        "telegram": "bot_token",
        "line": "channel_access_token",
        "postmark": "server_token",
    }
    secrets = {names.get(talk.provider, "api_key"): wrong}
    path = f"/v1/channel-accounts/{talk.writer.account['id']}"
    assert (await talk.writer.client.patch(path, json={"secrets": secrets})).status_code == 200
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch()
    failed = await talk.state(message)
    assert failed["status"] == "failed"
    shown = [failed, await talk.writer.timeline(talk.sari), (await talk.writer.client.get(path)).json()]
    assert wrong not in str(shown)


@pytest.mark.parametrize(("answer", "wait"), [((429, {"retry-after": "40"}, {}), 40), ((500, {}, {}), 15)])
async def test_what_it_refuses_for_now_goes_later(talk, answer, wait):
    talk.post.next_answers = [answer]
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch(now=SOON)
    waiting = await talk.state(message)
    assert waiting["status"] == "queued"
    assert datetime.fromisoformat(waiting["due_at"]) == SOON + timedelta(seconds=wait)
    await talk.writer.dispatch(now=SOON + timedelta(seconds=wait))
    assert (await talk.state(message))["status"] == "sent"


async def test_without_an_answer_only_who_knows_repetitions_is_asked_again(talk):
    talk.post.next_answers = [HANG]
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch(now=SOON, answer_seconds=0.2)
    status = (await talk.state(message))["status"]
    await talk.writer.dispatch(now=SOON + timedelta(minutes=1))
    if talk.provider == "line":
        assert status == "queued"
        assert (await talk.state(message))["status"] == "sent"
        assert len({asked.headers["x-line-retry-key"] for asked in talk.post.taken}) == 1
    else:
        assert status == "unknown"
        assert len(talk.post.taken) == 1


def only(talk):
    [asked] = talk.post.taken
    return asked


@pytest.mark.parametrize("talk", ["telegram"], indirect=True)
async def test_telegram_says_when_and_who_has_had_enough(talk):
    talk.post.next_answers = [
        (429, {}, {"ok": False, "error_code": 429, "description": "Too Many", "parameters": {"retry_after": 33}})
    ]
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch(now=SOON)
    assert datetime.fromisoformat((await talk.state(message))["due_at"]) == SOON + timedelta(seconds=33)
    budi = await talk.writer.sari({"kind": "telegram", "value": "666"}, name="Budi")
    blocked = await talk.writer.write(budi)
    await talk.writer.dispatch()
    assert (await talk.state(blocked))["error"] == {
        "code": "403", "detail": "Forbidden: bot was blocked by the user", "until": None
    }  # fmt: skip


@pytest.mark.parametrize("talk", ["line"], indirect=True)
async def test_line_says_of_a_repetition_that_it_has_it(talk):
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch(now=SOON)
    async with talk.writer.client.database.begin() as session:
        await session.execute("UPDATE outbound_messages SET status = 'sending', sent_at = NULL, external_id = NULL")
    await talk.writer.dispatch(now=SOON + timedelta(hours=1))  # whoever sent it has died
    assert [asked.headers["x-line-retry-key"] for asked in talk.post.taken] == [message["id"]] * 2
    assert (await talk.state(message))["external_id"] == "100"


@pytest.mark.parametrize("talk", ["line"], indirect=True)
async def test_a_quota_that_is_used_up_is_no_reason_to_try_again(talk):
    talk.post.next_answers = [(429, {}, {"message": "You have reached your monthly limit."})]
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch()
    assert (await talk.state(message))["error"]["code"] == "quota_used_up"


@pytest.mark.parametrize("talk", ["twilio"], indirect=True)
async def test_twilio_is_told_where_to_tell_what_became_of_it(talk):
    path = f"/v1/channel-accounts/{talk.writer.account['id']}"
    await talk.writer.client.patch(path, json={"settings": {"public_url": "https://crm.toko.id/"}})
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch()
    form = only(talk).form
    assert form == {
        "To": "+628123456789", "From": "+12025550100", "Body": "Siap kak",
        "StatusCallback": f"https://crm.toko.id{talk.writer.account['endpoint']}?reference={message['id']}",
    }  # fmt: skip


@pytest.mark.parametrize("talk", ["twilio"], indirect=True)
async def test_twilio_sends_on_whatsapp_too(talk):
    path = f"/v1/contacts/{talk.sari}/identities"
    await talk.writer.client.post(path, json={"kind": "whatsapp", "value": "628123456789"})
    template = {"name": "HX1", "language": "id", "parameters": ["Sari", "A1"]}
    await talk.writer.write(talk.sari, None, channel="whatsapp", provider_template=template)
    await talk.writer.dispatch()
    assert only(talk).form == {
        "To": "whatsapp:+628123456789", "From": "whatsapp:+12025550100", "ContentSid": "HX1",
        "ContentVariables": '{"1":"Sari","2":"A1"}',
    }  # fmt: skip


@pytest.mark.parametrize("talk", ["postmark"], indirect=True)
async def test_mail_has_an_id_that_answers_name(talk):
    message = await talk.writer.write(talk.sari, "Siap kak", subject="Pesanan")
    await talk.writer.dispatch()
    assert only(talk).json == {
        "From": "halo@toko.id", "To": "sari@example.com", "Subject": "Pesanan", "TextBody": "Siap kak",
        "Metadata": {"reference": message["id"]},
        "Headers": [{"Name": "X-PM-KeepID", "Value": "true"},
                    {"Name": "Message-ID", "Value": f"<{message['id']}@toko.id>"}],
    }  # fmt: skip
    more = await talk.writer.write(talk.sari, "Masih ada?", subject="Re: Pesanan", thread_id=message["thread_id"])
    assert more["thread_id"] == message["thread_id"]
    await talk.writer.dispatch()
    named = {one["Name"]: one["Value"] for one in talk.post.taken[1].json["Headers"]}
    assert named["In-Reply-To"] == named["References"] == f"<{message['id']}@toko.id>"
    other = await talk.writer.write(talk.sari, "Lain", subject="Lain")
    assert other["thread_id"] != message["thread_id"]


@pytest.mark.parametrize("talk", ["postmark"], indirect=True)
async def test_postmark_says_no_in_its_own_words(talk):
    budi = await talk.writer.sari({"kind": "email", "value": "inactive@example.com"}, name="Budi")
    message = await talk.writer.write(budi)
    await talk.writer.dispatch()
    assert (await talk.state(message))["error"]["code"] == "406"


@pytest.mark.parametrize("talk", sorted(PROVIDERS), indirect=True)
async def test_no_redirection_is_followed(talk):
    talk.post.next_answers = [(302, {"location": f"{talk.post.url}/elsewhere"}, {})]
    message = await talk.writer.write(talk.sari)
    await talk.writer.dispatch()
    assert (await talk.state(message))["status"] == "failed"
    assert urlsplit(only(talk).path).path != "/elsewhere"


@pytest.fixture(params=["messenger", "instagram"])
async def page(request, client):
    async with open_post(posts.messenger_platform("/v24.0/P1/messages")) as post:
        writer = await Writer.at(client, post, provider=request.param, ref="P1")
        sari = await writer.sari({"kind": request.param, "value": "PS1", "account": "P1", "verified": True})
        yield Line(request.param, post, writer, sari)


async def say(page, text, *, at, **more):
    """Have Sari write to the page."""
    event = {
        "sender": {"id": "PS1"}, "recipient": {"id": "P1"}, "timestamp": int(at.timestamp() * 1000),
        "message": {"mid": f"m_in{at.timestamp()}", "text": text, **more},
    }  # fmt: skip
    await tell(page, event)


async def tell(page, event):
    import json

    of = "page" if page.provider == "messenger" else "instagram"
    entry = {"id": "P1", "time": 1, "messaging": [event]}
    await page.writer.call(json.dumps({"object": of, "entry": [entry]}).encode())


def echo(text, mid, **more):
    return {
        "sender": {"id": "P1"}, "recipient": {"id": "PS1"}, "timestamp": int(NOW.timestamp() * 1000),
        "message": {"mid": mid, "text": text, "is_echo": True, **more},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ago", "human", "sent_as"),
    [
        (timedelta(hours=1), False, ("RESPONSE", None)),
        (timedelta(hours=25), True, ("MESSAGE_TAG", "HUMAN_AGENT")),
        (timedelta(hours=25), False, "window_closed"),
        (timedelta(days=7, minutes=1), True, "window_closed"),
    ],
)
async def test_a_page_answers_for_a_day_and_a_person_for_a_week(page, ago, human, sent_as):
    await say(page, "Halo", at=NOW - ago)
    answer = await page.writer.ask(page.sari, human=human)
    if sent_as == "window_closed":
        assert (answer.status_code, answer.json()["code"]) == (409, sent_as)
        return
    assert answer.status_code == 201, answer.text
    await page.writer.dispatch()
    body = only(page).json
    assert (body["messaging_type"], body.get("tag")) == sent_as
    assert body["recipient"] == {"id": "PS1"}


async def test_an_echo_makes_no_second_message(page):
    await say(page, "Halo", at=NOW)
    message = await page.writer.write(page.sari)
    await page.writer.dispatch()
    await tell(page, echo("Siap kak", "m_1"))
    assert len(await page.writer.timeline(page.sari)) == 2
    assert (await page.state(message))["external_id"] == "m_1"


async def test_an_echo_that_is_faster_than_the_answer_makes_none_either(page):
    await say(page, "Halo", at=NOW)
    message = await page.writer.write(page.sari)

    async def echoed(_):
        await tell(page, echo("Siap kak", "m_1"))

    page.post.meanwhile = echoed
    await page.writer.dispatch()
    await page.writer.work(now=SOON)
    assert [item["direction"] for item in await page.writer.timeline(page.sari)] == ["outbound", "inbound"]
    assert (await page.state(message))["status"] == "sent"


async def test_an_echo_settles_what_nobody_knew(page):
    await say(page, "Halo", at=NOW)
    page.post.next_answers = [HANG]
    message = await page.writer.write(page.sari)
    await page.writer.dispatch(answer_seconds=0.2)
    assert (await page.state(message))["status"] == "unknown"
    await tell(page, echo("Something else", "m_8"))
    assert (await page.state(message))["status"] == "unknown"
    named = {"metadata": message["id"]} if page.provider == "messenger" else {}
    await tell(page, echo("Siap kak", "m_9", **named))
    settled = await page.state(message)
    assert (settled["status"], settled["external_id"]) == ("sent", "m_9")
    assert [item["body"] for item in await page.writer.timeline(page.sari)].count("Siap kak") == 1


@pytest.mark.parametrize("page", ["messenger"], indirect=True)
async def test_a_mark_up_to_which_all_was_read_counts_from_when_it_went(page):
    await say(page, "Halo", at=NOW)
    later = await page.writer.write(page.sari, "Nanti", send_at=(NOW + timedelta(hours=2)).isoformat())
    first = await page.writer.write(page.sari, "Sekarang")
    await page.writer.dispatch(now=SOON)

    async def read_until(at):
        await tell(page, {
            "sender": {"id": "PS1"}, "recipient": {"id": "P1"}, "timestamp": int(at.timestamp() * 1000),
            "read": {"watermark": int(at.timestamp() * 1000)},
        })  # fmt: skip

    await read_until(SOON + timedelta(seconds=5))
    assert [(await page.state(each))["status"] for each in (first, later)] == ["read", "queued"]
    await page.writer.dispatch(now=NOW + timedelta(hours=3))
    assert (await page.state(later))["status"] == "sent"
    await read_until(NOW + timedelta(hours=3, seconds=5))
    assert (await page.state(later))["status"] == "read"


@pytest.fixture
async def mailbox(client):
    async with MailServer().open() as server:
        settings = {"host": "imap.toko.id", "smtp_host": "127.0.0.1", "smtp_port": str(server.port),
                    "smtp_security": "none", "from": "Toko <halo@toko.id>"}  # fmt: skip
        account = {"provider": "imap", "name": "Toko", "ref": USER, "secrets": {"password": PASSWORD}}
        writer = await Writer.open(client, **account, settings=settings)
        yield Line("imap", server, writer, await writer.sari(THERE))


async def test_mail_goes_by_the_mailboxs_own_server(mailbox):
    message = await mailbox.writer.write(mailbox.sari, "Siap kak ☕\n.\nya", subject="Pesanan\r\n  besok")
    await mailbox.writer.dispatch()
    sent = await mailbox.state(message)
    assert (sent["status"], sent["external_id"]) == ("sent", f"{message['id']}@toko.id")
    [mail] = mailbox.post.taken
    assert (mail["from"], mail["to"], mail["subject"]) == ("Toko <halo@toko.id>", "sari@example.com", "Pesanan besok")
    assert mail["message-id"] == f"<{message['id']}@toko.id>"
    assert "Siap kak ☕" in mail.get_payload(decode=True).decode()
    [(sender, recipient)] = mailbox.post.envelopes
    assert ("<halo@toko.id>" in sender, "<sari@example.com>" in recipient) == (True, True)


@pytest.mark.parametrize(
    ("says", "status", "code"),
    [
        ({"RCPT": "550 5.1.1 No such user"}, "failed", "smtp_550"),
        ({"RCPT": "451 4.7.1 Greylisted"}, "queued", "smtp_451"),
        ({"AUTH": "535 5.7.8 No"}, "failed", "smtp_535"),
        ({".": "552 5.3.4 Too big"}, "failed", "smtp_552"),
        ({".": "452 4.3.1 Disk full"}, "queued", "smtp_452"),
        ({".": BREAK_OFF}, "unknown", "no_answer"),
    ],
)
async def test_a_mail_server_says_no_in_its_own_way(mailbox, says, status, code):
    mailbox.post.says = says
    message = await mailbox.writer.write(mailbox.sari)
    await mailbox.writer.dispatch(now=SOON)
    found = await mailbox.state(message)
    assert (found["status"], found["error"]["code"]) == (status, code)
    assert PASSWORD not in str(found)


async def test_a_mail_server_that_is_not_there_leaves_no_doubt(mailbox):
    path = f"/v1/channel-accounts/{mailbox.writer.account['id']}"
    await mailbox.writer.client.patch(path, json={"settings": {"smtp_port": "1"}})
    message = await mailbox.writer.write(mailbox.sari)
    await mailbox.writer.dispatch(now=SOON)
    assert (await mailbox.state(message))["error"]["code"] == "not_reached"
