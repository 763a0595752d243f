"""Who gets a case, and what a queue of them shows."""

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.care import agents
from crm.care.agents import Wish
from tests.care.test_case_messages import listed
from tests.care.test_cases import a_case, an_agent, change, reply, the_case
from tests.care.test_slas import a_policy, sweep
from tests.interactions.test_merges import made
from tests.loyalty.shop import at_once, statuses


async def give(client: Any, case: dict[str, Any], **wish: Any) -> Any:
    return await client.post(f"/v1/cases/{case['id']}/assignment", json={"mode": "round_robin", **wish})


async def test_cases_go_round_and_nobody_is_given_one_who_is_away_or_full_or_of_another_team(client):
    sari = await made(client, {"name": "Sari"})
    for agent_id, facts in {
        "ani": {}, "budi": {"capacity": 1}, "citra": {"away": True}, "dodi": {"teams": ["returns"]},
        "eka": {"teams": ["shop"], "skills": ["english"]},
    }.items():  # fmt: skip
        await an_agent(client, agent_id, **({"teams": ["shop"]} | facts))
    given = []
    for _ in range(5):
        answer = await give(client, await a_case(client, sari), team="shop")
        assert answer.status_code == 200, answer.text
        given.append(answer.json()["assignee"])
    assert given == ["ani", "budi", "eka", "ani", "eka"]
    skilled = await give(client, await a_case(client, sari), team="shop", skills=["english"])
    assert skilled.json()["assignee"] == "eka"
    least = await give(client, await a_case(client, sari), mode="least_busy", team="shop")
    assert least.json()["assignee"] == "ani"
    nobody = await give(client, await a_case(client, sari), team="kitchen")
    assert (nobody.status_code, nobody.json()["code"]) == (409, "nobody_free")
    listed_ = (await client.get("/v1/agents")).json()["items"]
    assert {one["id"]: one["cases_count"] for one in listed_} == {"ani": 3, "budi": 1, "citra": 0, "dodi": 0, "eka": 3}


async def test_a_full_agent_gets_no_case_by_hand_and_room_when_one_is_resolved(client):
    sari = await made(client, {"name": "Sari"})
    await an_agent(client, "budi", capacity=1)
    first, second = await a_case(client, sari, assignee="budi"), await a_case(client, sari)
    refused = await client.patch(f"/v1/cases/{second['id']}", json={"assignee": "budi"})
    assert (refused.status_code, refused.json()["code"], refused.json()["capacity"]) == (409, "agent_full", 1)
    await change(client, first, status="resolved")
    assert (await change(client, second, assignee="budi"))["assignee"] == "budi"
    reopened = await change(client, first, status="open")
    assert (reopened["status"], reopened["assignee"]) == ("open", None), "there is no room for it any more"


async def test_two_at_once_never_give_anybody_more_than_they_can_take(live_client, database):
    sari = await made(live_client, {"name": "Sari"})
    for agent_id, capacity in {"ani": 3, "budi": 2}.items():
        await an_agent(live_client, agent_id, capacity=capacity)
    cases = [await a_case(live_client, await made(live_client, {"name": f"Sari {n}"})) for n in range(8)]
    answers = await at_once(*(give(live_client, case) for case in cases))
    assert statuses(answers) == {200: 5, 409: 3}
    busy = Counter(answer.json()["assignee"] for answer in answers if answer.status_code == 200)
    assert busy == {"ani": 3, "budi": 2}
    again = await at_once(
        *(live_client.post("/v1/cases", json={"contact_id": str(sari), "subject": "x", "assignee": "budi"})
          for _ in range(3))
    )  # fmt: skip
    assert statuses(again) == {409: 3}


async def test_turns_are_fair_however_many_are_chosen_at_once(client, session):
    for agent_id in ("ani", "budi", "citra"):
        await an_agent(client, agent_id)
    wish = Wish(mode="round_robin")
    chosen = await agents.choose_all(session, wishes=[wish] * 4) + await agents.choose_all(session, wishes=[wish] * 5)
    assert chosen == ["ani", "budi", "citra"] * 3


async def test_the_queue_begins_with_what_is_due_first_and_its_pages_are_the_whole(client):
    sari = await made(client, {"name": "Sari"})
    targets = {"high": {"resolution": "P2D"}, "urgent": {"resolution": "PT1H"}, "normal": {"resolution": "P1D"}}
    await a_policy(client, targets=targets)
    order = ["low", "high", "urgent", "normal", "low", "urgent", "high"]
    cases = [await a_case(client, sari, priority=priority, subject=str(n)) for n, priority in enumerate(order)]
    whole = await listed(client)
    assert [one["subject"] for one in whole] == ["2", "5", "3", "1", "6", "0", "4"]
    for sort, wanted in (("due_at", whole), ("-created_at", cases[::-1])):
        found, cursor = [], None
        while True:
            params = {"limit": 2, "sort": sort} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/cases", params=params)).json()
            found += page["items"]
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == wanted


FILTERS: dict[str, dict[str, list[Any]]] = {
    "status": {"open": ["open"], "waiting": ["waiting"], "resolved": ["resolved"], "closed": ["closed"],
               "all": ["open", "waiting", "resolved", "closed"]},
    "assignee": {"ani": ["ani"], "": [None]},
    "priority": {"low": ["low"], "urgent": ["urgent"]},
    "category": {"delivery": ["delivery"], "refund": ["refund"]},
    "channel": {"whatsapp": ["whatsapp"], "email": ["email"]},
    "breached": {"true": [True], "false": [False]},
}  # fmt: skip


async def test_every_filter_shows_what_a_look_at_each_case_would(client, session):
    sari, dewi = await made(client, {"name": "Sari"}), await made(client, {"name": "Dewi"})
    await an_agent(client, "ani")
    await a_policy(client, targets={"urgent": {"first_reply": "PT1M"}})
    kinds = itertools.product(["low", "urgent"], ["delivery", "refund"], ["whatsapp", "email"])
    for number, (priority, category, channel) in enumerate(kinds):
        case = await a_case(
            client, sari if number % 2 else dewi, priority=priority, category=category, channel=channel,
            assignee="ani" if number % 3 else None,
        )  # fmt: skip
        if (status := ["open", "waiting", "resolved", "closed"][number // 2]) != "open":
            await change(client, case, status=status)
    await sweep(session, datetime.now(UTC) + timedelta(hours=1))
    everything = await listed(client, status="all")
    assert len(everything) == 8
    for one, two in itertools.combinations(FILTERS, 2):
        for asked, other in itertools.product(FILTERS[one], FILTERS[two]):
            shown = [
                each["id"]
                for each in everything
                if _is(each, one) in FILTERS[one][asked] and _is(each, two) in FILTERS[two][other]
            ]
            params = {"status": "all", one: asked, two: other}
            assert [each["id"] for each in await listed(client, **params)] == shown, params
            counted = (await client.get("/v1/cases/counts", params=params)).json()
            assert counted["total"] == len(shown)
    of_sari = [each["id"] for each in everything if each["contact_id"] == str(sari)]
    assert [each["id"] for each in await listed(client, status="all", contact_id=sari)] == of_sari
    live = (await client.get("/v1/cases/counts")).json()
    assert live["total"] == len(await listed(client)) == sum(live["by_status"].values())


def _is(case: dict[str, Any], name: str) -> Any:
    return case["breach_count"] > 0 if name == "breached" else case[name]


async def test_an_agent_has_one_id_and_is_changed_by_whoever_knows_the_newest_version(client):
    await an_agent(client, "ani")
    twice = await client.post("/v1/agents", json={"id": "ani", "name": "Ani"})
    assert (twice.status_code, twice.json()["code"]) == (409, "agent_exists")
    away = await client.patch("/v1/agents/ani", json={"away": True}, headers={"If-Match": '"1"'})
    assert (away.status_code, away.headers["etag"]) == (200, '"2"')
    stale = await client.patch("/v1/agents/ani", json={"away": False}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert (await client.get("/v1/agents/budi")).json()["code"] == "agent_not_found"


async def test_a_case_is_changed_by_several_at_once_one_after_the_other(live_client):
    case = await a_case(live_client, await made(live_client, {"name": "Sari"}))
    url = f"/v1/cases/{case['id']}"
    answers = await at_once(
        *(live_client.patch(url, json={"tags": [f"t{n}"]}, headers={"If-Match": '"1"'}) for n in range(5))
    )
    assert statuses(answers) == {200: 1, 412: 4}
    await asyncio.gather(*(reply(live_client, case) for _ in range(4)))
    assert (await the_case(live_client, case))["version"] == 6


@pytest.mark.parametrize(
    "query", ["?status=lost", "?assignee=A%20B", "?sort=name", "?cursor=xyz", "?breached=maybe", "?limit=0"]
)
async def test_what_can_not_be_asked_is_refused(client, query):
    assert (await client.get(f"/v1/cases{query}")).status_code in {400, 422}
