"""The owner's overview says what each report says of the same days."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm.db.ids import uuid7
from tests.api.test_loyalty import pointers, problem
from tests.care.test_cases import a_case, change, reply
from tests.care.test_surveys import a_survey, ask
from tests.interactions.test_merges import DEWI, SARI, made, merge
from tests.loyalty.shop import Shop

PARTS = {
    "time_zone", "starts_on", "ends_on", "people", "loyalty", "volume", "replies", "cases", "backlog", "satisfaction",
    "self_service", "top_reasons",
}  # fmt: skip


async def get(client: Any, path: str, **params: Any) -> Any:
    answer = await client.get(f"/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def shop(client: Any) -> Shop:
    """A shop in which a little of everything happened today."""
    shop = await Shop.open(client)
    await client.patch(f"/v1/programs/{shop.program_id}", json={"cost_per_point": "10"})
    sari, dewi = await made(client, SARI), await made(client, DEWI)
    now = datetime.now(UTC)
    for number, (who, at) in enumerate([(sari, now), (dewi, now), (sari, now - timedelta(days=3))]):
        assert (await shop.buy(who, order_ref=f"INV-{number}", occurred_at=at.isoformat())).status_code == 201
    assert (await shop.redeem(sari, 20)).status_code == 201
    for direction in ("inbound", "inbound", "outbound", "internal"):
        body = {"channel": "email", "kind": "message", "direction": direction, "occurred_at": now.isoformat()}
        assert (await client.post(f"/v1/contacts/{sari}/interactions", json=body)).status_code == 201
    for category, resolved in (("delivery", True), ("delivery", False), ("refund", False)):
        case = await a_case(client, sari, category=category)
        if resolved:
            await reply(client, case)
            await change(client, case, status="resolved")
    await client.get("/v1/articles/search", params={"q": "jam buka"})
    survey = await a_survey(client, "nps", quarantine_days=0)
    for score in (10, 9, 3):
        invited = await ask(client, survey, sari)
        path = f"/v1/contacts/{sari}/survey-invitations/{invited['id']}/response"
        assert (await client.post(path, json={"score": score})).status_code == 200
    return shop


async def test_the_overview_says_what_each_report_says(client, shop):
    found = await get(client, "insights/overview")
    assert found.keys() == PARTS
    days = {"from": found["starts_on"], "to": found["ends_on"]}
    first, last = (datetime.fromisoformat(found[name]) for name in ("starts_on", "ends_on"))
    assert (last - first, found["time_zone"]) == (timedelta(days=29), "Asia/Jakarta")
    points = await get(client, f"programs/{shop.program_id}/reports/points", by="month", **days)
    assert found["loyalty"]["points"] == points["total"]
    liability = await get(client, f"programs/{shop.program_id}/liability")
    assert found["loyalty"]["liability"] | {"as_of": None} == liability | {"as_of": None}
    assert [found["loyalty"][name] for name in ("members", "new", "active")] == [2, 2, 2]
    assert found["people"] == {"contacts": 2, "new": 2}
    volume = await get(client, "insights/volume", by="day", **days)
    by_direction = {
        direction: sum(row["count"] for row in volume["rows"] if row["direction"] == direction)
        for direction in ("inbound", "outbound", "internal")
    }
    assert found["volume"] == by_direction
    assert min(by_direction.values()) >= 1
    assert found["replies"] == (await get(client, "insights/replies", **days))["total"]
    cases = await get(client, "insights/cases", **days)
    assert (found["cases"], found["backlog"]) == (cases["total"], cases["backlog"])
    assert found["cases"]["cases"] == 3
    surveys = {row["kind"]: row["score"] for row in (await get(client, "insights/surveys", **days))["totals"]}
    shown = {row["kind"]: row["score"] for row in found["satisfaction"]}
    assert shown.keys() == {"csat", "ces", "nps", "rating"}
    assert shown["nps"] == surveys["nps"]
    assert shown["nps"]["score"] == 33.3
    assert set(shown["csat"].values()) == {0, None}
    helped = await get(client, "self-service/results")
    assert found["self_service"] == {name: helped[name] for name in ("searches", "articles", "assistant")}
    assert found["self_service"]["searches"]["searches_count"] == 1
    assert found["top_reasons"] == [{"category": "delivery", "cases": 2}, {"category": "refund", "cases": 1}]


async def test_whoever_was_merged_is_active_once(client, shop):
    ids = [each["id"] for each in (await get(client, "contacts"))["items"]]
    await merge(client, *ids)
    found = await get(client, "insights/overview")
    assert (found["loyalty"]["active"], found["people"]["contacts"]) == (1, 1)


async def test_days_before_are_none_of_these_days(client, shop):
    day = (datetime.now(UTC) + timedelta(hours=7)).date() - timedelta(days=1)
    found = await get(client, "insights/overview", **{"from": str(day), "to": str(day)})
    assert (found["loyalty"]["active"], found["loyalty"]["points"]["issued"], found["cases"]["cases"]) == (0, 0, 0)
    assert (found["volume"]["inbound"], found["top_reasons"], found["backlog"]["open"]) == (0, [], 2)
    assert found["loyalty"]["liability"]["points"] == 45


async def test_before_there_is_a_program(client):
    found = await get(client, "insights/overview")
    assert (found["loyalty"], found["time_zone"]) == (None, "UTC")
    problem(await client.get("/v1/insights/overview", params={"program": str(uuid7())}), 404, "program_not_found")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"from": "2026-01-02", "to": "2026-01-01"}, "query/to"),
        ({"from": "2025-01-01", "to": "2026-01-02"}, "query/from"),
    ],
)
async def test_days_that_can_not_be_reported_on_are_refused(client, params, code):
    answer = await client.get("/v1/insights/overview", params=params)
    problem(answer, 422, "invalid_period")
    assert pointers(answer) == {code}


async def test_as_a_table(client, shop):
    answer = await client.get("/v1/insights/overview", headers={"Accept": "text/csv"})
    head, *rows = csv.reader(io.StringIO(answer.text, newline=""))
    assert head == ["figure", "value"]
    values = dict(rows)
    assert len(values) == len(rows)
    assert (values["loyalty.points.issued"], values["loyalty.active"]) == ("135", "2")
    assert (values["satisfaction.nps.score.score"], values["satisfaction.csat.score.score"]) == ("33.3", "")
    assert (values["top_reasons.delivery.cases"], values["cases.breach_rate"]) == ("2", "0.0000")
