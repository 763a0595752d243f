"""Templates say only what there is to say, to whoever it is, in their language."""

from datetime import UTC, datetime

import pytest

from crm.inbox import wording
from crm.inbox.wording import InvalidTemplate, TemplateNotFilled
from tests.inbox.sending import Writer, open_post

NOW = datetime.now(UTC).replace(microsecond=0)
READY = {
    "name": "order_ready",
    "variables": ["order_ref"],
    "variants": {
        "id": {
            "text": "Halo {{ contact.greeting }}, pesanan {{ order_ref }} siap.",
            "subject": "Pesanan {{ order_ref }}",
        },
        "en": {"text": "Hello {{ contact.greeting }}, order {{ order_ref }} is ready."},
    },
    "provider_template": {
        "name": "order_ready", "languages": {"id": "id", "en": "en_US"},
        "parameters": ["{{ contact.given_name }}", "{{ order_ref }}"],
    },
}  # fmt: skip


@pytest.fixture
async def post():
    async with open_post() as post:
        yield post


@pytest.fixture
async def writer(client, post):
    return await Writer.at(client, post)


async def template(client, **facts):
    answer = await client.post("/v1/message-templates", json={**READY, **facts})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def preview(client, made, contact_id, **more):
    answer = await client.post(f"/v1/message-templates/{made['id']}/previews", json={"contact_id": contact_id, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("locale", "text", "subject"),
    [
        ("id-ID", "Halo Kak Sari, pesanan A1 siap.", "Pesanan A1"),
        ("en", "Hello Sari, order A1 is ready.", None),
        ("fr", "Halo Kak Sari, pesanan A1 siap.", "Pesanan A1"),
        (None, "Halo Kak Sari, pesanan A1 siap.", "Pesanan A1"),
    ],
)
async def test_it_is_filled_in_in_the_language_of_whoever_it_goes_to(writer, locale, text, subject):
    made = await template(writer.client)
    sari = await writer.sari(given_name="Sari", locale=locale)
    seen = await preview(writer.client, made, sari, variables={"order_ref": "A1"})
    assert (seen["text"], seen["subject"], seen["channel"]) == (text, subject, "whatsapp")
    assert seen["provider_template"]["parameters"] == ["Sari", "A1"]
    assert (seen["refusals"], seen["waits_until"]) == ([], None)


async def test_a_message_is_made_of_it_and_goes_in_its_words(writer, post):
    made = await template(writer.client)
    sari = await writer.sari(given_name="Sari")
    cold = await writer.write(sari, None, template_id=made["id"], variables={"order_ref": "A1"})
    assert (cold["text"], cold["template_id"]) == ("Halo Kak Sari, pesanan A1 siap.", made["id"])
    await writer.dispatch()
    assert post.taken[0].json["template"]["components"][0]["parameters"][1]["text"] == "A1"
    await writer.wrote(at=NOW)
    await writer.write(sari, None, template_id=made["id"], variables={"order_ref": "A2"})
    await writer.dispatch()
    assert post.taken[1].json["text"]["body"] == "Halo Kak Sari, pesanan A2 siap."
    assert (await writer.timeline(sari))[0]["body"] == "Halo Kak Sari, pesanan A2 siap."


@pytest.mark.parametrize(
    ("variables", "code"),
    [({}, "template_not_filled"), ({"order_ref": "A1", "other": "x"}, "unknown_variable")],
)
async def test_what_it_asks_for_has_to_be_given_and_nothing_else(writer, variables, code):
    made = await template(writer.client)
    sari = await writer.sari()
    answer = await writer.ask(sari, None, template_id=made["id"], variables=variables)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_preview_says_what_the_channel_would_refuse(writer):
    made = await template(writer.client, provider_template=None)
    sari = await writer.sari()
    seen = await preview(writer.client, made, sari, variables={"order_ref": "A1"})
    assert [each["code"] for each in seen["refusals"]] == ["window_closed"]
    seen = await preview(writer.client, made, sari, variables={"order_ref": "A1"}, purpose="marketing")
    assert [each["code"] for each in seen["refusals"]] == ["no_consent"]
    assert seen["text"].startswith("Halo")
    assert (await writer.client.get(f"/v1/contacts/{sari}/messages")).json()["items"] == []


async def test_a_long_sms_costs_more_and_a_mail_without_subject_is_called_so(client):
    sms = {"provider": "twilio", "ref": "+12025550100", "secrets": {"auth_token": "t"}}
    writer = await Writer.open(client, **sms, settings={"account_sid": "AC1"})
    made = await template(client, variants={"en": {"text": "é" * 160 + "☕"}}, provider_template=None, variables=[])
    sari = await writer.sari({"kind": "phone", "value": "+628123456789"})
    seen = await preview(client, made, sari)
    assert [each["code"] for each in seen["warnings"]] == ["several_segments"]
    mail = {"provider": "postmark", "ref": "a@toko.id", "secrets": {"credentials": "a:b", "server_token": "t"}}
    await Writer.open(client, **mail, settings={})
    budi = await writer.sari({"kind": "email", "value": "budi@example.com"}, name="Budi")
    seen = await preview(client, made, budi, channel="email")
    assert [each["code"] for each in seen["warnings"]] == ["no_subject"]


async def test_points_and_tier_are_those_of_the_default_program(writer):
    points = {"id": {"text": "{{ loyalty.points }} poin{% if loyalty.tier %}, {{ loyalty.tier }}{% endif %}"}}
    made = await template(writer.client, variants=points, provider_template=None, variables=[])
    sari = await writer.sari()
    assert (await preview(writer.client, made, sari))["text"] == "0 poin"
    program = (await writer.client.post("/v1/programs", json={"name": "Setia", "currency": "IDR",
                                                              "time_zone": "Asia/Jakarta"})).json()  # fmt: skip
    await writer.client.post(f"/v1/programs/{program['id']}/tiers", json={"name": "Gold", "threshold": 10})
    answer = await writer.client.post(f"/v1/contacts/{sari}/points-awards", json={"points": 25, "reason": "hello"})
    assert answer.status_code == 201, answer.text
    assert (await preview(writer.client, made, sari))["text"] == "25 poin, Gold"


async def test_a_template_for_some_channels_goes_on_no_other(writer):
    made = await template(writer.client, channels=["email", "sms"])
    sari = await writer.sari()
    await writer.wrote(at=NOW)
    answer = await writer.ask(sari, None, template_id=made["id"], variables={"order_ref": "A1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "template_of_other_channels")


async def test_it_is_listed_changed_and_deleted(client):
    made = await template(client)
    path = f"/v1/message-templates/{made['id']}"
    assert (await client.get("/v1/message-templates")).json()["items"] == [made]
    again = await client.post("/v1/message-templates", json=READY)
    assert (again.status_code, again.json()["code"]) == (409, "message_template_exists")
    changed = await client.patch(
        path, json={"variants": {"id": {"subject": None}, "en": None}, "provider_template": {"languages": {"en": None}}}
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["variants"] == {"id": {"text": READY["variants"]["id"]["text"], "subject": None}}
    assert changed.json()["provider_template"]["languages"] == {"id": "id"}
    assert (changed.json()["version"], changed.headers["etag"]) == (2, '"2"')
    stale = await client.patch(path, json={"name": "x"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    broken = await client.patch(path, json={"variants": {"fr": {"subject": "Salut"}}})
    assert (broken.status_code, broken.json()["code"]) == (422, "invalid_template")
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{{ contact.nme }}", "unknown_variable"),
        ("{{ order_ref }} {{ customer }}", "unknown_variable"),
        ("{{ contact.name", "invalid_template"),
        ("{% include 'secrets' %}", "invalid_template"),
        ("{% render 'secrets' %}", "invalid_template"),
        ("{% if contact.name %}", "invalid_template"),
        ("{{ contact.name | replace: '', 'x' }}", "unknown_filter"),
        ("{% for i in (1..1000000000) reversed %}{% endfor %}", "no_ranges"),
        ("{% assign a = (1..1000000000) %}", "no_ranges"),
        ("{{ 'a' | split: '' | join: 'bbbb' }}", "unknown_filter"),
    ],
)
async def test_what_can_not_be_understood_is_refused_when_it_is_written(client, text, code):
    answer = await client.post("/v1/message-templates", json={**READY, "variants": {"id": {"text": text}}})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_template")
    assert {(error["pointer"], error["code"]) for error in answer.json()["errors"]} == {("/variants/id/text", code)}


@pytest.mark.parametrize(
    "source",
    [
        "{{ contact.attributes.shoe_size }}",
        "{% assign x = 'aaaaaaaaaa' %}{% for i in many %}{% assign x = x | append: x %}{% endfor %}",
        "{% for i in many %}{% for k in many %}{{ i }}{% endfor %}{% endfor %}",
        "{{ 1 | divided_by: 0 }}",
        "{% for i in many %}" + "x" * 500 + "{% endfor %}",
    ],
)
def test_what_is_missing_or_grows_without_end_is_not_filled_in(source):
    with pytest.raises(TemplateNotFilled):
        wording.fill(source, known={"contact": {"attributes": {}}, "many": list(range(100))}, pointer="/text")


def test_an_attribute_that_may_be_missing_has_a_default():
    source = "{{ contact.attributes.shoe_size | default: 'any' }} {{ contact.attributes['favourite store'] }}"
    known = {"contact": {"attributes": {"favourite store": "Bandung"}}}
    assert wording.fill(source, known=known, pointer="/text") == "any Bandung"


def test_deep_nesting_is_no_way_in():
    with pytest.raises(InvalidTemplate):
        wording.check({"/text": "{% if contact.name %}" * 900 + "{% endif %}" * 900}, variables=[])


async def test_a_test_message_goes_at_once_and_makes_nobody_a_contact(writer, post):
    path = f"/v1/channel-accounts/{writer.account['id']}/test-messages"
    to = {"identity": {"kind": "whatsapp", "value": "+62 811-1222-333"}}
    answer = await writer.client.post(path, json=to)
    assert answer.status_code == 201, answer.text
    tried = answer.json()
    assert (tried["outcome"], tried["external_id"], tried["sent_to"]) == ("sent", "wamid.1", "…333")
    assert (post.taken[0].json["to"], post.taken[0].json["text"]["body"]) == ("628111222333", "This is a test.")
    assert (await writer.client.get("/v1/contacts")).json()["items"] == []
    post.next_answers = [(400, {}, {"error": {"message": "Invalid parameter", "code": 100}})]
    refused = (await writer.client.post(path, json={**to, "text": "Halo?"})).json()
    assert (refused["outcome"], refused["code"], refused["detail"]) == ("refused", "100", "Invalid parameter")
    assert (await writer.client.get(path)).json()["items"] == [refused, tried]
    assert (await writer.client.get(f"{path}/{tried['id']}")).json() == tried
    wrong = await writer.client.post(path, json={"identity": {"kind": "email", "value": "a@example.com"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "channel_cannot_send")


async def test_a_test_of_an_account_without_its_secrets_says_what_is_missing(client, post):
    bare = await Writer.at(client, post, secrets={"app_secret": "s", "verify_token": "v"})
    path = f"/v1/channel-accounts/{bare.account['id']}/test-messages"
    to = {"identity": {"kind": "whatsapp", "value": "628111222333"}}
    tried = (await client.post(path, json=to)).json()
    assert (tried["outcome"], tried["code"]) == ("refused", "channel_account_incomplete")
