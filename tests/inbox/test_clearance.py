"""Who may be written to, when, and where: asked when a message is accepted, and again when it goes."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.inbox.sending import HOUSE, NUMBER, Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)
SOON = NOW + timedelta(hours=1)
APPROVED = {"name": "order_ready", "language": "id", "parameters": ["Sari"]}


@pytest.fixture
async def post():
    async with open_post() as post:
        yield post


@pytest.fixture
async def writer(client, post):
    return await Writer.at(client, post)


async def consent(writer, contact_id, status, *, channel="whatsapp", purpose="marketing"):
    body = {"channel": channel, "purpose": purpose, "status": status}
    answer = await writer.client.post(f"/v1/contacts/{contact_id}/consents", json=body)
    assert answer.status_code == 201, answer.text


def code(answer):
    return answer.status_code, answer.json()["code"]


async def test_what_needs_a_consent_is_refused_without_one(writer):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    assert code(await writer.ask(sari, purpose="marketing")) == (409, "no_consent")
    await consent(writer, sari, "denied")
    assert code(await writer.ask(sari, purpose="marketing")) == (409, "consent_denied")
    await consent(writer, sari, "denied", purpose="all")
    assert code(await writer.ask(sari)) == (409, "consent_denied")


async def test_a_consent_taken_back_before_it_goes_keeps_it_back(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await consent(writer, sari, "denied", purpose="all")
    await writer.dispatch()
    failed = await writer.message(message)
    assert (failed["status"], failed["error"]["code"], failed["attempts"]) == ("failed", "consent_denied", 0)
    assert post.taken == []


async def test_after_a_day_only_an_approved_template_goes_on_whatsapp(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW - timedelta(hours=24, minutes=1))
    refused = await writer.ask(sari)
    assert code(refused) == (409, "window_closed")
    assert refused.json()["template_needed"] is True
    assert refused.json()["closed_at"] == f"{NOW - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    message = await writer.write(sari, None, provider_template=APPROVED)
    await writer.dispatch()
    [asked] = post.taken
    assert asked.json["template"] == {
        "name": "order_ready", "language": {"code": "id"},
        "components": [{"type": "body", "parameters": [{"type": "text", "text": "Sari"}]}],
    }  # fmt: skip
    assert (await writer.message(message))["status"] == "sent"


async def test_who_never_wrote_gets_a_template_only(writer):
    sari = await writer.sari()
    assert code(await writer.ask(sari)) == (409, "window_closed")
    assert (await writer.write(sari, None, provider_template=APPROVED))["status"] == "queued"


async def test_a_window_that_closes_before_it_goes_needs_the_template(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    plain = await writer.write(sari, send_at=(NOW + timedelta(hours=30)).isoformat())
    both = await writer.write(sari, "Siap", provider_template=APPROVED, send_at=(NOW + timedelta(hours=30)).isoformat())
    await writer.dispatch(now=NOW + timedelta(hours=31))
    assert [(await writer.message(each))["status"] for each in (plain, both)] == ["failed", "sent"]
    assert (await writer.message(plain))["error"]["code"] == "window_closed"
    assert [asked.json["type"] for asked in post.taken] == ["template"]


async def test_within_the_window_the_plain_text_goes_rather_than_the_template(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    await writer.write(sari, "Siap", provider_template=APPROVED)
    await writer.dispatch()
    assert [asked.json["type"] for asked in post.taken] == ["text"]


async def test_an_address_that_somebody_else_has_by_now_gets_nothing(writer, post):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    message = await writer.write(sari)
    await writer.client.post("/v1/blocked-identities", json={"kind": "whatsapp", "value": NUMBER})
    await writer.dispatch()
    assert (await writer.message(message))["error"]["code"] == "no_address"
    assert post.taken == []
    assert code(await writer.ask(sari)) == (409, "no_address")


async def test_the_address_that_is_named_is_the_one_it_goes_to(writer, post):
    second = "628111222333"
    sari = await writer.sari(
        {"kind": "whatsapp", "value": NUMBER, "verified": True}, {"kind": "whatsapp", "value": second}
    )
    await writer.wrote(at=NOW)
    await writer.write(sari, identity={"kind": "whatsapp", "value": f"+{second}"})
    await writer.write(sari)
    await writer.dispatch()
    assert {asked.json["to"] for asked in post.taken} == {second, NUMBER}
    assert code(await writer.ask(sari, identity={"kind": "whatsapp", "value": "628999888777"})) == (409, "no_address")


@pytest.mark.parametrize(
    ("zone", "at", "goes_at"),
    [
        ("Asia/Jakarta", "2026-11-30T13:59:00Z", "2026-11-30T13:59:00Z"),  # 20:59 there
        ("Asia/Jakarta", "2026-11-30T14:00:00Z", "2026-12-01T01:00:00Z"),  # 21:00, until 08:00
        ("Asia/Jakarta", "2026-12-01T00:59:00Z", "2026-12-01T01:00:00Z"),
        ("Asia/Jakarta", "2026-12-01T01:00:00Z", "2026-12-01T01:00:00Z"),
        (None, "2026-11-30T14:00:00Z", "2026-12-01T01:00:00Z"),  # as at home
        ("Asia/Jayapura", "2026-11-30T12:00:00Z", "2026-11-30T23:00:00Z"),
        ("America/New_York", "2027-03-14T03:00:00Z", "2027-03-14T12:00:00Z"),  # clocks are put on: 22:00 to 08:00 EDT
        ("America/New_York", "2027-11-07T03:00:00Z", "2027-11-07T13:00:00Z"),  # and back
        ("Pacific/Kiritimati", "2026-11-30T08:00:00Z", "2026-11-30T18:00:00Z"),
    ],
)
def test_quiet_hours_are_those_of_whoever_it_goes_to(zone, at, goes_at):
    found = HOUSE.quiet.over_at(datetime.fromisoformat(at), zone=zone)
    assert found == datetime.fromisoformat(goes_at)


async def test_marketing_waits_until_it_is_no_longer_quiet_and_is_not_lost(writer, post):
    sari = await writer.sari(time_zone="Asia/Jakarta")
    await consent(writer, sari, "granted")
    night = (NOW + timedelta(days=3)).replace(hour=15, minute=0, second=0)  # 22:00 in Jakarta
    morning = (night + timedelta(days=1)).replace(hour=1)
    message = await writer.write(sari, None, provider_template=APPROVED, purpose="marketing", send_at=night.isoformat())
    assert datetime.fromisoformat(message["due_at"]) == morning
    assert (message["error"]["code"], message["error"]["until"]) == ("quiet_hours", message["due_at"])
    assert await writer.dispatch(now=morning - timedelta(seconds=1)) == 0
    assert await writer.dispatch(now=morning) == 1
    assert (await writer.message(message))["status"] == "sent"


async def test_what_is_taken_up_in_the_night_waits_for_the_morning(writer, post):
    sari = await writer.sari(time_zone="Asia/Jakarta")
    await consent(writer, sari, "granted")
    noon = (NOW + timedelta(days=3)).replace(hour=5, minute=0, second=0)
    marketing = await writer.write(
        sari, None, provider_template=APPROVED, purpose="marketing", send_at=noon.isoformat()
    )
    service = await writer.write(sari, None, provider_template=APPROVED, send_at=noon.isoformat())
    await writer.dispatch(now=noon.replace(hour=16))  # the worker was away until 23:00
    waiting = await writer.message(marketing)
    assert (waiting["status"], waiting["error"]["code"]) == ("queued", "quiet_hours")
    assert datetime.fromisoformat(waiting["due_at"]) == noon.replace(hour=1) + timedelta(days=1)
    assert (await writer.message(service))["status"] == "sent"


async def test_the_account_is_the_one_on_which_there_was_talk_last_or_the_only_one(writer, post):
    client = writer.client
    sari = await writer.sari()
    assert (await writer.write(sari, None, provider_template=APPROVED))["channel_account_id"] == writer.account["id"]
    other = await Writer.at(client, post, ref="PN2")
    budi = await writer.sari({"kind": "whatsapp", "value": "628777666555"}, name="Budi")
    refused = await writer.ask(budi, None, provider_template=APPROVED)
    assert code(refused) == (409, "no_channel_account")
    assert set(refused.json()["candidates"]) == {writer.account["id"], other.account["id"]}
    await other.wrote(at=NOW, number="628777666555", id="in2")
    assert (await writer.write(budi))["channel_account_id"] == other.account["id"]
    named = await writer.write(budi, None, provider_template=APPROVED, channel_account_id=writer.account["id"])
    assert named["channel_account_id"] == writer.account["id"]


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"channel": "telegram"}, (409, "no_channel_account")),
        ({"channel_account_id": "01a216ad-0000-7000-8000-000000000000"}, (422, "unknown_reference")),
        ({"thread_id": "01a216ad-0000-7000-8000-000000000000"}, (422, "unknown_reference")),
        ({"template_id": "01a216ad-0000-7000-8000-000000000000"}, (422, "unknown_reference")),
        ({"text": None}, (422, "nothing_to_say")),
        ({"identity": {"kind": "whatsapp", "value": "null"}}, (422, "invalid_identity")),
        ({"purpose": "all"}, (422, "unspecific_message")),
    ],
)
async def test_what_can_not_be_sent_says_why(writer, asked, refusal):
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    assert code(await writer.ask(sari, **{"text": "Halo", **asked})) == refusal


async def test_an_account_without_what_sending_needs_says_what(client, post):
    bare = await Writer.at(client, post, secrets={"app_secret": "s", "verify_token": "v"})
    sari = await bare.sari()
    await bare.wrote(at=NOW)
    refused = await bare.ask(sari)
    assert code(refused) == (409, "channel_account_incomplete")
    assert "access_token" in refused.json()["detail"]
