"""Customers are asked what they think, once in a while, and say it on a page that nobody else finds."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from tests.interactions.test_erasures import erase
from tests.interactions.test_merges import made, merge
from tests.loyalty.shop import Shop, at_once, checksum, statuses

SARI = {
    "name": "Sari", "locale": "en-GB", "identities": [{"kind": "whatsapp", "value": "+628123456789"}],
}  # fmt: skip
BUDI = {"name": "Budi", "locale": "id-ID"}


async def a_survey(client: Any, kind: str = "csat", **facts: Any) -> str:
    answer = await client.post("/v1/surveys", json={"name": f"Our {kind}", "kind": kind, **facts})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def ask(client: Any, survey: str, contact_id: UUID, **facts: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/surveys/{survey}/invitations", json={"contact_id": str(contact_id), **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def send(client: Any, invited: dict[str, Any], **fields: str) -> Any:
    """What a browser sends from the page."""
    return await client.post(invited["path"], data=fields)


async def stored(client: Any, invited: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/v1/contacts/{invited['contact_id']}/survey-invitations/{invited['id']}")
    return dict(answer.json())


async def test_the_page_asks_in_the_language_of_the_person(client):
    survey = await a_survey(client)
    stranger = await client.limited_to()
    for person, question in (
        (SARI, "How satisfied are you"),
        (BUDI, "Seberapa puas Anda"),
        ({"name": "X"}, "Seberapa"),
    ):
        invited = await ask(client, survey, await made(client, person))
        page = await stranger.get(invited["path"])
        assert page.status_code == 200
        assert question in page.text
        assert page.headers["cache-control"] == "no-store"
        assert len(re.findall(r'type="radio"', page.text)) == 5
        assert not re.search(r"(src|href)=.?https?:", page.text)


async def test_an_answer_is_noted_and_can_be_changed_until_it_expires(client, session):
    survey = await a_survey(client)
    invited = await ask(client, survey, await made(client, SARI), channel="whatsapp", agent="Rina")
    stranger = await client.limited_to()
    page = await send(stranger, invited, score="2", comment="  lama sekali ")
    assert page.status_code == 200
    assert "Thank you" in page.text
    first = await stored(client, invited)
    assert (first["score"], first["comment"], first["agent"]) == (2, "lama sekali", "Rina")
    await send(stranger, invited, score="4", comment="")
    second = await stored(client, invited)
    assert (second["score"], second["comment"], second["answered_at"]) == (4, None, first["answered_at"])
    assert second["changed_at"] > first["changed_at"]
    await session.execute("UPDATE survey_invitations SET expires_at = now() - interval '1 minute'")
    late = await send(stranger, invited, score="1")
    assert (late.status_code, (await stranger.get(invited["path"])).status_code) == (410, 410)
    assert (await stored(client, invited))["score"] == 4


async def test_the_timeline_tells_who_was_asked_and_what_they_said(client):
    shop = await Shop.open(client)
    sari = await made(client, SARI)
    invited = await ask(client, await a_survey(client, "nps"), sari)
    await send(client, invited, score="9", comment="mantap")
    await send(client, invited, score="9", comment="mantap")
    await send(client, invited, score="3", comment="")
    told = [
        (item["kind"], item["direction"], item["body"], item["data"].get("score"), item["data"].get("feeling"))
        for item in (await shop.get(sari, "timeline"))["items"]
        if item["kind"].startswith("survey")
    ]
    assert told == [
        ("survey.changed", "inbound", None, 3, "bad"),
        ("survey.answered", "inbound", "mantap", 9, "good"),
        ("survey.invited", "outbound", None, None, None),
    ]


@pytest.mark.parametrize("score", ["", "0", "6", "-1", "4.5", "four", "٤", "9" * 5000])
async def test_what_is_no_answer_changes_nothing_and_the_page_says_so(client, session, score):
    invited = await ask(client, await a_survey(client), await made(client, SARI))
    before = await checksum(session)
    page = await send(await client.limited_to(), invited, score=score)
    assert page.status_code == 422
    assert "choose one of the numbers" in page.text
    assert await checksum(session) == before


@pytest.mark.parametrize("body", [b"\xff\xfe", b"score=%00&comment=%00", b"a=1&" * 50, b"score=5&score=5", b""])
async def test_a_body_that_is_no_form_is_no_answer(client, body):
    invited = await ask(client, await a_survey(client), await made(client, SARI))
    answer = await client.post(invited["path"], content=body)
    assert answer.status_code in {400, 422}
    assert (await stored(client, invited))["score"] is None


async def test_a_link_that_nobody_was_given_leads_nowhere(client, session):
    invited = await ask(client, await a_survey(client), await made(client, SARI))
    token = invited["path"].rpartition("/")[2]
    assert token not in str(
        [tuple(row) for row in await session.fetch("SELECT t::text FROM survey_invitation_directory t")]
    )
    stranger = await client.limited_to()
    for path in ("/s/nothing", f"/s/{token[:-1]}", f"/s/{token}x"):
        assert (await stranger.get(path)).status_code == 404
        assert (await stranger.post(path, data={"score": "5"})).status_code == 404


async def test_a_comment_is_shown_as_text(client):
    invited = await ask(client, await a_survey(client), await made(client, SARI))
    page = await send(client, invited, score="5", comment="<script>alert(1)</script>")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_nobody_is_asked_twice_within_the_quarantine(client, session):
    sari, budi = await made(client, SARI), await made(client, BUDI)
    survey, other, nps = await a_survey(client), await a_survey(client), await a_survey(client, "nps")
    await ask(client, survey, sari)
    for again in (survey, other):
        answer = await client.post(f"/v1/surveys/{again}/invitations", json={"contact_id": str(sari)})
        assert (answer.status_code, answer.json()["code"]) == (409, "recently_asked")
        until = datetime.fromisoformat(answer.json()["until"])
        assert timedelta(days=29) < until - datetime.now(UTC) <= timedelta(days=30)
    await ask(client, nps, sari)
    await ask(client, survey, budi)
    await session.execute("UPDATE survey_invitations SET created_at = created_at - interval '30 days'")
    await ask(client, survey, sari)


async def test_whoever_was_asked_under_another_id_was_asked(client):
    sari, budi = await made(client, SARI), await made(client, BUDI)
    survey = await a_survey(client)
    invited = await ask(client, survey, budi)
    await merge(client, sari, budi)
    answer = await client.post(f"/v1/surveys/{survey}/invitations", json={"contact_id": str(sari)})
    assert answer.json()["code"] == "recently_asked"
    assert (await send(client, invited, score="5")).status_code == 200
    listed = (await client.get(f"/v1/contacts/{sari}/survey-invitations")).json()["items"]
    assert [one["id"] for one in listed] == [invited["id"]]


@pytest.mark.parametrize(
    ("change", "facts", "status", "code"),
    [
        ({"status": "archived"}, {}, 409, "survey_archived"),
        ({}, {"contact_id": str(uuid7())}, 404, "contact_not_found"),
        ({}, {"channel": "Whats App"}, 422, "invalid"),
    ],
)
async def test_who_can_not_be_asked_is_refused(client, change, facts, status, code):
    survey = await a_survey(client)
    assert (await client.patch(f"/v1/surveys/{survey}", json=change)).status_code == 200
    body = {"contact_id": str(await made(client, SARI)), **facts}
    answer = await client.post(f"/v1/surveys/{survey}/invitations", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_nps_asks_about_no_single_case(client):
    survey = await a_survey(client, "nps")
    body = {"contact_id": str(await made(client, SARI)), "case_id": str(uuid7())}
    answer = await client.post(f"/v1/surveys/{survey}/invitations", json=body)
    assert answer.json()["errors"][0]["code"] == "nps_about_a_case"


async def test_an_answer_can_come_another_way(client):
    invited = await ask(client, await a_survey(client, "ces"), await made(client, SARI))
    path = f"/v1/contacts/{invited['contact_id']}/survey-invitations/{invited['id']}/response"
    assert (await client.post(path, json={"score": 7, "comment": "gampang"})).json()["score"] == 7
    refused = await client.post(path, json={"score": 8})
    assert (refused.status_code, refused.json()["code"]) == (422, "score_out_of_range")


async def test_results_are_by_period_channel_agent_and_tier(client, session):
    shop = await Shop.open(client)
    await client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 10})
    survey = await a_survey(client, "nps", quarantine_days=0)
    for number, (score, channel, agent) in enumerate(
        [(10, "email", "Rina"), (9, "email", "Rina"), (8, "line", "Dodi"), (3, "line", "Dodi"), (None, "line", None)]
    ):
        known = [{"kind": kind, "value": f"u{number}@x.id"} for kind in ("email", "line")]
        who = await made(client, {"name": f"Orang {number}", "identities": known})
        if number == 0:
            await shop.award(who, 10)
        invited = await ask(client, survey, who, channel=channel, agent=agent)
        if score is not None:
            await send(client, invited, score=str(score))
    url = f"/v1/surveys/{survey}/results"
    total = (await client.get(url)).json()["total"]
    assert (total["invitations"], total["response_rate"]) == (5, 80.0)
    assert (total["score"]["score"], total["score"]["margin"], total["score"]["answers"]) == (25.0, 81.3, 4)
    by_channel = (await client.get(url, params={"group_by": "channel"})).json()["groups"]
    assert [(one["group"], one["score"]["score"]) for one in by_channel] == [("email", 100.0), ("line", -50.0)]
    by_agent = (await client.get(url, params={"group_by": "agent"})).json()["groups"]
    assert [(one["group"], one["score"]["score"]) for one in by_agent] == [
        ("Dodi", -50.0),
        ("Rina", 100.0),
        (None, None),
    ]
    by_tier = (await client.get(url, params={"group_by": "tier"})).json()["groups"]
    assert [(one["group"], one["invitations"]) for one in by_tier] == [("Gold", 1), (None, 4)]
    for every in ("day", "week", "month"):
        assert len((await client.get(url, params={"group_by": every})).json()["groups"]) == 1
    later = {"from": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    assert (await client.get(url, params=later)).json()["total"]["score"]["score"] is None


async def test_who_is_forgotten_leaves_a_number(client, session):
    invited = await ask(client, await a_survey(client), await made(client, SARI))
    await send(client, invited, score="5", comment="dari Bu Sari yang tinggal di Kenanga")
    await erase(client, UUID(invited["contact_id"]))
    assert (await client.get(invited["path"])).status_code == 404
    assert [tuple(row) for row in await session.fetch("SELECT score, comment FROM survey_invitations")] == [(5, None)]


async def test_lists_are_read_page_by_page(client):
    survey = await a_survey(client, quarantine_days=0)
    invited = [await ask(client, survey, await made(client, {"name": f"Orang {n}"})) for n in range(5)]
    await send(client, invited[1], score="5")
    found, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/surveys/{survey}/invitations", params=params)).json()
        found += [one["id"] for one in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == [one["id"] for one in reversed(invited)]
    answered = (await client.get(f"/v1/surveys/{survey}/invitations?answered=true")).json()["items"]
    assert [one["id"] for one in answered] == [invited[1]["id"]]


async def test_of_many_invitations_and_answers_at_once_there_is_one_of_each(live_client):
    survey = await a_survey(live_client)
    sari = await made(live_client, SARI)
    body = {"contact_id": str(sari)}
    answers = await at_once(*(live_client.post(f"/v1/surveys/{survey}/invitations", json=body) for _ in range(8)))
    assert statuses(answers) == {201: 1, 409: 7}
    invited = next(one.json() for one in answers if one.status_code == 201)
    await asyncio.gather(*(send(live_client, invited, score="5") for _ in range(8)))
    items = (await live_client.get(f"/v1/contacts/{sari}/timeline")).json()["items"]
    assert [item["kind"] for item in items].count("survey.answered") == 1


@pytest.mark.parametrize(
    ("denied", "channel", "why_not"),
    [
        ({"channel": "whatsapp", "purpose": "survey"}, "whatsapp", "denied"),
        ({"channel": "all", "purpose": "survey"}, "whatsapp", "denied"),
        ({"channel": "all", "purpose": "all"}, None, "denied"),
        ({"channel": "whatsapp", "purpose": "service"}, "whatsapp", "denied"),
        ({"channel": "whatsapp", "purpose": "marketing"}, "whatsapp", None),
        ({"channel": "email", "purpose": "all"}, "whatsapp", None),
        (None, "email", "no_address"),
        (None, "sms", "no_address"),
        (None, "chat", None),
    ],
)
async def test_nobody_is_asked_who_has_forbidden_it_or_can_not_be_reached(client, denied, channel, why_not):
    survey, sari = await a_survey(client), await made(client, SARI)
    if denied:
        said = {**denied, "status": "denied", "occurred_at": datetime.now(UTC).isoformat()}
        assert (await client.post(f"/v1/contacts/{sari}/consents", json=said)).status_code == 201
    body = {"contact_id": str(sari)} | ({} if channel is None else {"channel": channel})
    answer = await client.post(f"/v1/surveys/{survey}/invitations", json=body)
    if why_not is None:
        assert answer.status_code == 201, answer.text
    else:
        found = answer.json()
        assert (answer.status_code, found["code"], found["why_not"]) == (409, "may_not_ask", why_not)
        assert (found["consent_id"] is None) == (why_not == "no_address")
    listed = (await client.get(f"/v1/contacts/{sari}/survey-invitations")).json()["items"]
    assert len(listed) == (why_not is None)
