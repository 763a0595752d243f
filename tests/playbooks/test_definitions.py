"""What a playbook can be, what is refused, and what its steps bring."""

import pytest

from crm.db.ids import uuid7
from tests.playbooks.hall import GIFT, HELLO, VISITED

WAIT = {"kind": "wait", "seconds": 3600}
ASK = {
    "kind": "survey",
    "survey_id": str(uuid7()),
    "channels": ["email"],
    "texts": {"en": "https://x.id{{ survey_path }}"},
}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"steps": []}, "/steps", "too_short"),
        ({"steps": [GIFT] * 21}, "/steps", "too_long"),
        ({"steps": [WAIT]}, "/steps", "nothing_to_do"),
        ({"steps": [{"kind": "dance"}]}, "/steps/0", "union_tag_invalid"),
        ({"steps": [{**HELLO, "texts": {}}]}, "/steps/0/texts", "too_short"),
        ({"steps": [{**HELLO, "texts": {"id": "Hai {{ nama }}"}}]}, "/steps/0/texts/id", "unknown_variable"),
        ({"steps": [{**HELLO, "texts": {"id": "{{ expires_on }}"}}]}, "/steps/0/texts/id", "unknown_variable"),
        ({"steps": [{**HELLO, "texts": {"id": "Hai {{ contact"}}]}, "/steps/0/texts/id", "invalid_template"),
        ({"steps": [{**HELLO, "texts": {"id": "a\x00b"}}]}, "/steps/0/texts/id", "nul_character"),
        ({"steps": [{**HELLO, "texts": None}]}, "/steps/0/texts", "texts_or_template"),
        (
            {"steps": [{**HELLO, "texts": None, "template_id": str(uuid7())}]}, "/steps/0/template_id",
            "template_not_found",
        ),
        ({"steps": [{**GIFT, "points": 0}]}, "/steps/0/points", "greater_than_equal"),
        ({"steps": [{**ASK, "texts": {"en": "Hi"}}]}, "/steps/0/texts/en", "no_link"),
        ({"steps": [ASK]}, "/steps/0/survey_id", "survey_not_found"),
        ({"steps": [{"kind": "offer", "offer_id": str(uuid7())}]}, "/steps/0/offer_id", "offer_not_found"),
        ({"steps": [{"kind": "tag", "tag": "a\u200bb"}]}, "/steps/0/tag", "invalid_tag"),
        ({"trigger": {"kind": "tier", "change": "lost", "tier": "Iron"}}, "/trigger/tier", "unknown_tier"),
        (
            {"trigger": {"kind": "segment", "change": "left", "segment_id": str(uuid7())}}, "/trigger/segment_id",
            "segment_not_found",
        ),
        ({"trigger": {"kind": "interaction", "interaction": "playbook.started"}}, "/trigger/interaction", "own_kind"),
        ({"trigger": {**VISITED, "where": {"field": "tier"}}}, "/trigger/where/field", "unknown_field"),
        ({"condition": {"field": "nothing"}}, "/condition/field", "unknown_field"),
        ({"stop": {"condition": {"all": []}}}, "/stop/condition/all", "list"),
        ({"quiet_hours": {"begin": "25:00", "end": "08:00"}}, "/quiet_hours/begin", "time_parsing"),
        ({"name": None, "template": None}, "", "incomplete"),
    ],
)  # fmt: skip
async def test_what_can_not_be_carried_out_is_refused(hall, body, pointer, code):
    answer = await hall.client.post("/v1/playbooks", json={"name": "x", "trigger": VISITED, "steps": [HELLO], **body})
    assert answer.status_code == 422, answer.text
    errors = {(error["pointer"], error["code"]) for error in answer.json()["errors"]}
    assert (pointer, code) in errors, errors
    assert (await hall.get("/v1/playbooks"))["items"] == []


async def test_a_program_that_is_not_there_is_refused(hall):
    body = {"name": "x", "trigger": VISITED, "steps": [HELLO], "program_id": str(uuid7())}
    answer = await hall.client.post("/v1/playbooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "program_not_found")


async def test_a_playbook_is_read_as_it_was_made_and_each_change_is_a_version(hall):
    body = {
        "name": "Sapa", "trigger": VISITED, "steps": [HELLO, WAIT, GIFT], "cap": {"runs_max": 1, "days": 9},
        "stop": {"interactions": ["purchase"]}, "quiet_hours": {"begin": "20:00", "end": "09:00"},
    }  # fmt: skip
    answer = await hall.client.post("/v1/playbooks", json=body)
    made = answer.json()
    url = f"/v1/playbooks/{made['id']}"
    assert (answer.status_code, answer.headers["location"], answer.headers["etag"]) == (201, url, '"1"')
    assert await hall.get(url) == made
    assert (made["status"], made["activated_at"], made["messages_cap"]) == (
        "draft", None, {"messages_max": 3, "days": 7},
    )  # fmt: skip
    paused = await hall.client.patch(url, json={"status": "paused"})
    assert (paused.status_code, paused.json()["code"]) == (409, "playbook_not_active")
    active = await hall.client.patch(url, json={"status": "active"}, headers={"If-Match": '"1"'})
    assert (active.status_code, active.headers["etag"]) == (200, '"2"')
    stale = await hall.client.patch(url, json={"name": "y"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    same = await hall.client.patch(url, json={"name": "Sapa"})
    assert same.json()["version"] == 2
    assert (await hall.client.delete(url)).status_code == 204
    assert (await hall.get(url))["status"] == "archived"
    assert (await hall.get("/v1/playbooks"))["items"] == []
    gone = await hall.client.patch(url, json={"name": "y"})
    assert (gone.status_code, gone.json()["code"]) == (409, "playbook_archived")


async def test_a_run_goes_on_by_the_version_with_which_it_began(hall):
    playbook_id = await hall.active(steps=[GIFT, HELLO])
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    await hall.happens(sari)
    await hall.follow()
    await hall.client.patch(f"/v1/playbooks/{playbook_id}", json={"steps": [{**GIFT, "points": 99}]})
    await hall.happens(dewi)
    await hall.follow()
    await hall.work()
    assert [await hall.shop.available(who) for who in (sari, dewi)] == [10, 99]
    assert [len(await hall.sent(who)) for who in (sari, dewi)] == [1, 0]


async def test_a_survey_is_asked_by_a_message_with_its_link(hall):
    survey = await hall.post("/v1/surveys", {"name": "After a visit", "kind": "csat"})
    await hall.active(steps=[{**ASK, "survey_id": survey["id"]}], cap=None)
    sari = await hall.person("Sari")
    for _ in range(2):
        await hall.happens(sari)
    await hall.follow()
    await hall.work()
    [text] = await hall.sent(sari)
    token = text.removeprefix("https://x.id/s/")
    assert (await hall.client.get(f"/s/{token}")).status_code == 200
    became = [run["steps"][0]["reason"] for run in await hall.runs(sari)]
    assert sorted(became, key=str) == [None, "recently_asked"]
    assert len((await hall.get(f"/v1/contacts/{sari}/survey-invitations"))["items"]) == 1


async def test_nobody_is_invited_whom_the_link_can_not_reach(hall):
    survey = await hall.post("/v1/surveys", {"name": "After a visit", "kind": "csat"})
    await hall.active(steps=[{**ASK, "survey_id": survey["id"]}])
    sari = await hall.person("Sari", allows=False)
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    assert (await hall.told(sari))[1] == "step_skipped survey no_consent"
    assert (await hall.get(f"/v1/contacts/{sari}/survey-invitations"))["items"] == []


async def test_an_offer_names_whoever_gets_it(hall):
    other, sari = await hall.person("Budi"), await hall.person("Sari")
    offer = await hall.post(
        f"/v1/programs/{hall.shop.program_id}/offers",
        {
            "name": "Kue", "benefit": {"kind": "bonus_points", "points": 5}, "personal_code": True,
            "audience": {"contact_ids": [str(other)]},
        },
    )  # fmt: skip
    await hall.active(steps=[{"kind": "offer", "offer_id": offer["id"]}])
    for _ in range(2):
        await hall.happens(sari)
    await hall.follow()
    await hall.work()
    [shown] = (await hall.get(f"/v1/contacts/{sari}/offers"))["items"]
    assert shown["id"] == offer["id"]
    kept = await hall.get(f"/v1/programs/{hall.shop.program_id}/offers/{offer['id']}")
    assert kept["audience"]["contacts_count"] == 2
    made = (await hall.get(f"/v1/contacts/{sari}/timeline?kind=offer.made"))["items"]
    assert [item["data"]["offer_id"] for item in made] == [offer["id"]]


async def test_a_step_that_is_refused_is_skipped_with_its_reason_and_leaves_nothing(hall):
    other, sari = await hall.person("Budi"), await hall.person("Sari")
    path = f"/v1/programs/{hall.shop.program_id}/offers"
    body = {"name": "Kue", "benefit": {"kind": "bonus_points", "points": 5}, "audience": {"contact_ids": [str(other)]}}
    offer = await hall.post(path, body)
    await hall.active(steps=[{"kind": "offer", "offer_id": offer["id"]}, GIFT])
    await hall.client.delete(f"{path}/{offer['id']}")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    assert await hall.told(sari) == ["started", "step_skipped offer offer_not_found", "step_taken points", "completed"]


async def test_words_have_only_what_is_theirs_in_their_places(hall):
    text = "{{ contact.name }}, {{ loyalty.points }} poin, {{ loyalty.tier }}, { x } {{ referral_code | slice: 0, 0 }}."
    await hall.active(steps=[GIFT, {**HELLO, "texts": {"id": text}}])
    sari = await hall.person("{{ loyalty.points }} Sari")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    assert await hall.sent(sari) == ["{{ loyalty.points }} Sari, 10 poin, , { x } ."]


async def test_what_a_key_may_not_do_it_does_not(hall):
    reader = await hall.client.limited_to("playbooks:read", "care:write", "loyalty:award")
    assert (await reader.get("/v1/playbooks")).status_code == 200
    body = {"name": "x", "trigger": VISITED, "steps": [GIFT]}
    assert (await reader.post("/v1/playbooks", json=body)).status_code == 403


async def test_a_message_may_have_the_words_of_a_template(hall):
    variants = {
        "id": {
            "text": "Halo {{ contact.greeting }}, {{ loyalty.points }} poin! {{ referral_code | size }}",
            "subject": "Poin",
        }
    }
    body = {"name": "points", "variants": variants, "variables": ["referral_code"]}
    template = await hall.post("/v1/message-templates", body)
    other = await hall.post(
        "/v1/message-templates", {**body, "name": "other", "variables": ["referral_code", "order_ref"]}
    )
    step = {**HELLO, "texts": None}
    await hall.active(steps=[GIFT, {**step, "template_id": template["id"]}])
    sari = await hall.person("Sari")
    await hall.happens(sari)
    await hall.follow()
    await hall.work()
    assert await hall.sent(sari) == ["Halo Kak Sari, 10 poin! 9"]
    whole = {"name": "x", "trigger": VISITED, "steps": [{**step, "template_id": other["id"]}]}
    refused = await hall.client.post("/v1/playbooks", json=whole)
    assert refused.json()["errors"][0]["message"].endswith("nobody fills here: order_ref")
