"""What surveys come to in each period, counted by hand beside the report."""

import random
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm.care.invitations import survey_invitations
from crm.care.scores import SCALES
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.writes import Insert
from crm.insights import trends
from crm.insights.periods import InvalidPeriod, Span
from crm.insights.trends import TrendRow
from tests.api.test_loyalty import problem
from tests.care.test_surveys import a_survey
from tests.interactions.test_merges import DEWI, SARI, made, merge
from tests.loyalty.shop import Shop

NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SPAN = Span(date(2026, 3, 20), date(2026, 4, 10), BERLIN)  # clocks change on 29 March
COLUMNS = (
    "contact_id", "id", "survey_id", "kind", "scale_version", "channel", "agent", "locale", "score", "created_at",
    "expires_at", "answered_at", "by",
)  # fmt: skip


async def invited(session: Any, *asked: dict[str, Any]) -> None:
    rows = [
        {"contact_id": uuid7(), "id": uuid7(), "survey_id": uuid7(), "scale_version": 1, "locale": "id", "by": "key:t"}
        | {"channel": None, "agent": None, "score": None, "expires_at": NOW}
        | one
        for one in asked
    ]
    tuples = [
        tuple((row | {"answered_at": None if row["score"] is None else NOW})[name] for name in COLUMNS) for row in rows
    ]
    await writes.write(session, [Insert(survey_invitations, COLUMNS, tuples)])


def asked_at_random(seed: int, count: int = 300) -> list[dict[str, Any]]:
    rolled = random.Random(seed)
    seconds = int((SPAN.ends_at - SPAN.starts_at).total_seconds())
    asked = []
    for _ in range(count):
        kind = rolled.choice(sorted(SCALES))
        score = rolled.randint(SCALES[kind].low, SCALES[kind].high)
        at = SPAN.starts_at + timedelta(seconds=rolled.randrange(-7_200, seconds + 7_200))
        asked.append({
            "kind": kind, "created_at": at, "score": rolled.choice([score, score, None]),
            "channel": rolled.choice(["email", "line", None]), "agent": rolled.choice(["Rina", "Dodi"]),
        })  # fmt: skip
    return asked


async def read(session: Any, **asked: Any) -> trends.Trend:
    usual = {"first": SPAN.first, "last": SPAN.last, "by": "week", "zone": BERLIN, "kind": None, "survey_id": None}
    return await trends.read(session, **usual | {"group_by": None, "now": NOW} | asked)


@pytest.mark.parametrize("by", ["day", "week", "month"])
@pytest.mark.parametrize("group_by", [None, "channel", "agent"])
async def test_the_report_says_what_a_count_by_hand_says(session, by, group_by):
    asked = asked_at_random(3)
    await invited(session, *asked)
    found = await read(session, by=by, group_by=group_by)
    of = {
        "day": lambda day: day, "week": lambda day: day.isocalendar()[:2], "month": lambda day: (day.year, day.month)
    }[by]  # fmt: skip
    within = [one for one in asked if SPAN.first <= one["created_at"].astimezone(BERLIN).date() <= SPAN.last]
    assert len(found.rows) == len(SPAN.split(by)) * len({(one["kind"], one.get(group_by)) for one in within})
    for row in found.rows:
        by_hand(
            row,
            [
                one for one in within
                if one["kind"] == row.kind and one.get(group_by) == row.group
                and of(one["created_at"].astimezone(BERLIN).date()) == of(row.starts_on)
            ],
        )  # fmt: skip
    assert [row.kind for row in found.totals] == sorted(SCALES)
    for row in found.totals:
        by_hand(row, [one for one in within if one["kind"] == row.kind])
        assert row.invitations == sum(each.invitations for each in found.rows if each.kind == row.kind)


def by_hand(row: TrendRow, asked: list[dict[str, Any]]) -> None:
    said = [one["score"] for one in asked if one["score"] is not None]
    n = len(said)
    assert (row.invitations, row.score.answers) == (len(asked), n)
    assert row.response_rate == (round(100 * n / len(asked), 1) if asked else None)
    if not said:
        assert (row.score.score, row.score.mean, row.score.margin, row.score.good_share) == (None,) * 4
        return
    assert row.score.mean == pytest.approx(sum(said) / n, abs=0.0051)
    if row.kind == "nps":
        p, d = (sum(each >= 9 for each in said) / n, sum(each <= 6 for each in said) / n)
        assert row.score.score == pytest.approx(100 * (p - d), abs=0.051)
        assert row.score.margin == pytest.approx(196 * sqrt(max(0, p + d - (p - d) ** 2) / n), abs=0.051)
    else:
        good = 100 * sum(each >= {"csat": 4, "ces": 5, "rating": 4}[row.kind] for each in said) / n
        assert row.score.good_share == pytest.approx(good, abs=0.051)
        assert row.score.score == (row.score.good_share if row.kind == "csat" else row.score.mean)
        assert row.score.margin is None


async def test_one_kind_and_one_survey(session, client):
    asked = asked_at_random(5)
    await invited(session, *asked)
    assert {row.kind for row in (await read(session, kind="nps")).rows} == {"nps"}
    survey = await a_survey(client)
    assert (await read(session, survey_id=survey)).rows == []
    await invited(session, {"kind": "csat", "survey_id": survey, "created_at": SPAN.starts_at, "score": 4})
    (total,) = (await read(session, survey_id=survey)).totals
    assert (total.invitations, total.score.answers, total.score.score) == (1, 1, 100.0)


async def test_by_tier_and_by_every_segment_that_a_person_is_in(session, client):
    shop = await Shop.open(client)
    await client.post(f"/v1/programs/{shop.program_id}/tiers", json={"name": "Gold", "threshold": 10})
    sari, dewi = await made(client, SARI), await made(client, DEWI)
    await shop.award(sari, 10)
    stranger = uuid7()
    at = {"kind": "csat", "created_at": SPAN.starts_at}
    await invited(
        session, at | {"contact_id": sari, "score": 5}, at | {"contact_id": dewi, "score": 1},
        at | {"contact_id": stranger, "score": None},
    )  # fmt: skip
    for name, members in (("Regulars", [sari]), ("All", [sari, dewi]), ("Gone", [sari])):
        answer = await client.post(
            "/v1/segments", json={"name": name, "refresh": "manual", "condition": {"all": [{"did": "purchase"}]}}
        )
        assert answer.status_code == 201, answer.text
        await session.execute(
            "INSERT INTO segment_members SELECT id, $1, now() FROM unnest($2::uuid[]) id", answer.json()["id"], members
        )
    await session.execute("UPDATE segments SET archived_at = now() WHERE name = 'Gone'")

    async def groups(group_by: str) -> dict[str | None, tuple[int, float | None]]:
        found = await read(session, group_by=group_by, first=SPAN.first, last=SPAN.first, by="day")
        (total,) = found.totals
        assert (total.invitations, total.score.answers, total.score.mean) == (3, 2, 3.0)
        return {row.group: (row.invitations, row.score.mean) for row in found.rows}

    assert await groups("tier") == {"Gold": (1, 5.0), None: (2, 1.0)}
    assert await groups("segment") == {"All": (2, 3.0), "Regulars": (1, 5.0), None: (1, None)}
    await merge(client, sari, dewi)
    await session.execute("DELETE FROM segment_members WHERE contact_id = $1", dewi)
    assert await groups("tier") == {"Gold": (2, 3.0), None: (1, None)}
    assert await groups("segment") == {"All": (2, 3.0), "Regulars": (2, 3.0), None: (1, None)}


async def test_a_surveys_own_results_are_by_segment_too(session, client):
    sari = await made(client, SARI)
    survey = await a_survey(client)
    await invited(session, {"kind": "csat", "survey_id": survey, "contact_id": sari, "created_at": NOW, "score": 4})
    for name in ("A", "B"):
        made_of = {"name": name, "refresh": "manual", "condition": {"all": [{"did": "purchase"}]}}
        segment = (await client.post("/v1/segments", json=made_of)).json()["id"]
        await session.execute("INSERT INTO segment_members VALUES ($1, $2, now())", sari, segment)
    found = (await client.get(f"/v1/surveys/{survey}/results?group_by=segment")).json()
    assert [(one["group"], one["invitations"]) for one in found["groups"]] == [("A", 1), ("B", 1)]
    assert (found["total"]["invitations"], found["total"]["score"]["score"]) == (1, 100.0)


async def test_over_http_and_as_a_table(session, client):
    await invited(session, *({"kind": "nps", "created_at": SPAN.starts_at, "score": each} for each in (10, 9, 8, 3)))
    asked = {"from": "2026-03-20", "to": "2026-03-29", "time_zone": "Europe/Berlin", "by": "week", "kind": "nps"}
    answer = (await client.get("/v1/insights/surveys", params=asked)).json()
    empty = {"answers": 0, "score": None, "margin": None, "mean": None, "good_share": None}
    assert [(row["ends_on"], row["score"]) for row in answer["rows"]] == [
        ("2026-03-22", {"answers": 4, "score": 25.0, "margin": 81.3, "mean": 7.5, "good_share": 50.0}),
        ("2026-03-29", empty),
    ]  # fmt: skip
    table = await client.get("/v1/insights/surveys", params=asked, headers={"Accept": "text/csv"})
    assert table.text.split("\r\n") == [
        (
            "kind,starts_on,ends_on,group,invitations,response_rate,score.answers,score.score,score.margin,score.mean,"
            "score.good_share"
        ),
        "nps,2026-03-20,2026-03-22,,4,100.0,4,25.0,81.3,7.5,50.0", "nps,2026-03-23,2026-03-29,,0,,0,,,,", "",
    ]  # fmt: skip
    problem(await client.get("/v1/insights/surveys", params={"survey": str(uuid7())}), 404, "survey_not_found")


async def test_more_rows_than_anybody_reads_are_refused(session):
    await invited(session, *({"kind": "csat", "created_at": SPAN.starts_at, "agent": str(n)} for n in range(910)))
    with pytest.raises(InvalidPeriod) as refused:
        await read(session, by="day", group_by="agent")
    assert [error.code for error in refused.value.errors] == ["too_many_rows"]
