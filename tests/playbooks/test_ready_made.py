"""Each ready-made playbook, from its template to what somebody gets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.contacts import drafts
from crm.contacts.drafts import Draft
from crm.db.ids import uuid7
from crm.interactions import people
from crm.playbooks import ready_made
from tests.playbooks.hall import DAY, statuses


async def test_the_ready_made_are_listed_in_both_languages(hall):
    indonesian = (await hall.get("/v1/playbook-templates"))["items"]
    english = (await hall.get("/v1/playbook-templates?language=en"))["items"]
    assert [one["key"] for one in indonesian] == [one["key"] for one in english] == list(ready_made._ALL)
    assert (indonesian[1]["name"], english[1]["name"]) == ("Ulang tahun", "Birthday")
    for one in english:
        made = await hall.post("/v1/playbooks", {"template": one["key"], "language": "en"})
        assert (made["name"], made["status"], made["trigger"]["kind"]) == (
            one["name"], "draft", one["definition"]["trigger"]["kind"],
        )  # fmt: skip


async def test_a_new_customer_is_welcomed_in_their_language_and_an_imported_one_is_not(hall):
    await hall.active(template="welcome")
    sari, john = await hall.person("Sari"), await hall.person("John", locale="en-GB")
    old = drafts.contact_of(Draft(name="Budi"), region="ID", now=hall.now)
    async with hall.client.database.begin() as session:
        facts = {"import_id": uuid7()}
        await people.store_all(session, made=[old], changed=[], by="t", data=facts, now=datetime.now(UTC))
    await hall.follow()
    await hall.work()
    assert (await hall.sent(sari))[0].startswith("Halo Kak Sari, selamat datang!")
    assert (await hall.sent(john))[0].startswith("Hello John, and welcome!")
    assert await hall.runs(old.id) == []


async def test_a_birthday_brings_points_and_a_greeting_once_a_year(hall):
    await hall.active(template="birthday", since=datetime(2027, 1, 1, tzinfo=UTC))
    sari = await hall.person("Sari", birth_on="1990-03-10", time_zone="Asia/Jakarta")
    other = await hall.person("Budi", birth_on="1990-03-11")
    found = []
    for at in ("2027-03-09T16:55", "2027-03-09T17:05", "2027-03-09T18:00", "2027-12-01T00:00", "2028-03-09T17:00"):
        now = datetime.fromisoformat(at).replace(tzinfo=UTC)
        await hall.morning(now)
        await hall.work(now)
        found.append(await hall.shop.available(sari))
    assert found == [0, 50, 50, 50, 100]
    assert [run["occasion"] for run in await hall.runs(sari)] == ["birthday:2028", "birthday:2027"]
    assert await hall.sent(sari) == [
        f"Selamat ulang tahun, Kak Sari! Ada 50 poin hadiah dari kami, poin Kakak sekarang {points}."
        for points in (50, 100)
    ]
    assert await hall.runs(other) == []  # their day of 2027 was never looked at, and that of 2028 is tomorrow


async def test_whose_points_end_in_two_weeks_is_told_how_many_and_until_when(hall):
    sari, dewi = await hall.person("Sari"), await hall.person("Dewi")
    ends = datetime(2027, 1, 30, 17, tzinfo=UTC)  # midnight in Jakarta: the 30th is the last day
    await hall.shop.award(sari, 40, expires_at=ends.isoformat())
    await hall.shop.award(sari, 2, expires_at=(ends - timedelta(hours=20)).isoformat())
    await hall.shop.award(dewi, 7, expires_at=(ends + DAY).isoformat())
    await hall.active(template="points_expiring", since=datetime(2027, 1, 1, tzinfo=UTC))
    now = datetime(2027, 1, 15, 17, 5, tzinfo=UTC)  # the 16th
    await hall.morning(now)
    await hall.work(now)
    assert await hall.sent(sari) == ["Kak Sari, 42 poin Kakak akan hangus pada 2027-01-30. Yuk, tukarkan dulu!"]
    assert await hall.runs(dewi) == []


async def test_each_new_tier_is_congratulated(hall):
    program = f"/v1/programs/{hall.shop.program_id}"
    await hall.post(f"{program}/tiers", {"name": "Silver", "threshold": 100})
    await hall.post(f"{program}/tiers", {"name": "Gold", "threshold": 200})
    await hall.active(template="tier_reached", cap=None)
    sari = await hall.person("Sari")
    for points in (150, 100):
        await hall.shop.award(sari, points)
        await hall.follow()
        await hall.work()
    assert [text.split(".")[0] for text in await hall.sent(sari)] == [
        f"Selamat, Kak Sari! Kakak sekarang anggota {tier}" for tier in ("Silver", "Gold")
    ]


async def bought(hall: Any, contact_id: Any, at: datetime, ref: str) -> None:
    answer = await hall.shop.buy(contact_id, order_ref=ref, occurred_at=at.isoformat())
    assert answer.status_code == 201, answer.text


async def test_who_stays_away_for_60_days_is_asked_and_gets_points_a_week_later(hall):
    first = hall.now - 30 * DAY
    await hall.active(template="win_back", since=hall.now)
    sari, dewi, tono = [await hall.person(name) for name in ("Sari", "Dewi", "Tono")]
    for who, days in ((sari, 0), (dewi, 0), (tono, 1)):
        await bought(hall, who, first + days * DAY, f"A-{who}")
    now = first + 60 * DAY
    await hall.morning(now)
    assert [len(await hall.runs(who)) for who in (sari, dewi, tono)] == [1, 1, 0]
    await hall.work(now)
    assert [len(await hall.sent(who)) for who in (sari, dewi)] == [1, 1]
    await hall.work(now + 6 * DAY)
    assert len(await hall.sent(sari)) == 1
    async with hall.client.database.begin() as session:  # Dewi comes back meanwhile
        await session.execute(
            """
            INSERT INTO interactions (contact_id, id, kind, occurred_at, recorded_at, channel, data, by)
            VALUES ($1, new_uuid7(), 'purchase', $2, $2, 'shop', '{}', 't')
            """,
            dewi, now + DAY,
        )  # fmt: skip
    await hall.work(now + 7 * DAY)
    assert [len(await hall.sent(who)) for who in (sari, dewi)] == [2, 1]
    assert statuses(await hall.runs(dewi)) == [("stopped", "purchase")]
    assert (await hall.told(dewi))[-1] == "stopped purchase"
    assert (await hall.told(sari))[1:] == [
        "step_taken message", "step_taken wait", "step_taken points", "step_taken message", "completed",
    ]  # fmt: skip


@pytest.mark.parametrize(("score", "task", "message"), [(3, 1, 0), (8, 0, 0), (10, 0, 1)])
async def test_a_detractor_is_called_and_a_promoter_may_bring_a_friend(hall, score, task, message):
    await hall.active(template="detractor_follow_up", language="en")
    await hall.active(template="promoter_referral")
    survey = await hall.post("/v1/surveys", {"name": "Relation", "kind": "nps"})
    sari = await hall.person("Sari")
    asked = await hall.post(f"/v1/surveys/{survey['id']}/invitations", {"contact_id": str(sari)})
    answer = f"/v1/contacts/{sari}/survey-invitations/{asked['id']}/response"
    await hall.post(answer, {"score": score}, 200)
    await hall.follow()
    await hall.work()
    tasks = (await hall.get(f"/v1/contacts/{sari}/tasks"))["items"]
    assert [one["title"] for one in tasks] == ["Call a customer who is disappointed"] * task
    code = (await hall.get(f"/v1/contacts/{sari}/referral-code"))["code"]
    sent = await hall.sent(sari)
    assert (len(sent), [code in text for text in sent]) == (message, [True] * message)


async def test_the_fifth_visit_is_thanked_for_and_no_other(hall):
    await hall.active(template="nth_visit")
    sari = await hall.person("Sari")
    for number in range(7):
        await bought(hall, sari, datetime.now(UTC), f"V-{number}")
        await hall.follow()
        await hall.work()
    assert len(await hall.sent(sari)) == 1
    assert await hall.shop.available(sari) == 7 * 45 + 20
