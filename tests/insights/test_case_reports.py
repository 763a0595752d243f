"""How cases went, counted by hand beside the report."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from crm.insights import case_reports
from crm.insights.case_reports import Backlog, CaseReport, CaseRow, Durations
from crm.insights.periods import Span
from tests.care.test_cases import a_case, an_agent, change, reply
from tests.care.test_slas import a_policy
from tests.interactions.test_merges import made
from tests.loyalty.shop import Shop

NOW = datetime(2026, 4, 20, 3, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SPAN = Span(date(2026, 3, 20), date(2026, 4, 10), BERLIN)  # clocks change on 29 March
CASE = """
    INSERT INTO cases (contact_id, id, subject, category, priority, status, channel, assignee, closing_agent, due_at,
        breach_count, unanswered_since, first_replied_at, first_reply_seconds, resolved_at, resolution_seconds,
        reopen_count, version, created_at, created_by, updated_at)
    VALUES ($1, $2, 'Paket', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 1, $17, 'key:t', $17)
"""
CLOCK = """
    INSERT INTO case_clocks (contact_id, case_id, metric, state, elapsed, started_at, due_at, breached_at, ended_at)
    VALUES ($1, $2, $3, $4, '0', $5, $6, CASE WHEN $4 = 'breached' THEN $6::timestamptz END, $7)
"""
STATES = ("active", "paused", "met", "breached")


async def happened(session: Any, seed: int, count: int = 250) -> list[dict[str, Any]]:
    """Cases in which anything happened, as they are stored."""
    rolled = random.Random(seed)
    seconds = int((SPAN.ends_at - SPAN.starts_at).total_seconds())

    def later(at: datetime, within: int = 400_000) -> datetime:
        return at + timedelta(seconds=rolled.randrange(within))

    cases = []
    for _ in range(count):
        at = SPAN.starts_at + timedelta(seconds=rolled.randrange(-7_200, seconds + 7_200))
        handed_over = later(at, 5_000)
        replied, resolved = rolled.choice([None, later(handed_over)]), rolled.choice([None, later(at)])
        case = {
            "category": rolled.choice(["delivery", "refund", None]), "priority": rolled.choice(["high", "normal"]),
            "status": "resolved" if resolved else rolled.choice(["open", "waiting"]),
            "channel": rolled.choice(["email", "line"]), "assignee": rolled.choice(["rina", "dodi", None]),
            "closing_agent": rolled.choice(["rina", "dodi"]) if resolved else None,
            "due_at": rolled.choice([None, NOW + timedelta(hours=rolled.choice([-1, 1]))]) if not resolved else None,
            "breach_count": rolled.choice([0, 0, 0, 2]), "unanswered_since": rolled.choice([None, at]),
            "first_replied_at": replied, "first_reply_seconds": rolled.randrange(9_999) if replied else None,
            "resolved_at": resolved, "resolution_seconds": rolled.randrange(9_999) if resolved else None,
            "reopen_count": rolled.choice([0, 0, 1, 3]), "created_at": at,
        }  # fmt: skip
        ids = (uuid7(), uuid7())
        await session.execute(CASE, *ids, *case.values())
        for metric, started in (("first_reply", handed_over), ("resolution", at)):
            state = rolled.choice(STATES)
            due_at = NOW + timedelta(hours=rolled.choice([-1, 1]))
            await session.execute(CLOCK, *ids, metric, state, started, due_at, NOW if state == "met" else None)
            case[metric] = (started, state == "breached" or (state == "active" and due_at < NOW))
        cases.append(case)
    return cases


async def read(session: Any, **asked: Any) -> CaseReport:
    usual = {"first": SPAN.first, "last": SPAN.last, "by": "week", "zone": BERLIN, "group_by": None, "now": NOW}
    return await case_reports.read(session, **usual | asked)


def group_of(case: dict[str, Any], group_by: str | None) -> str | None:
    if group_by == "agent":
        return case["closing_agent"] or case["assignee"]
    return case[group_by] if group_by else None


@pytest.mark.parametrize("by", ["day", "week", "month"])
@pytest.mark.parametrize("group_by", [None, "channel", "agent", "priority", "category"])
async def test_the_report_says_what_a_count_by_hand_says(session, by, group_by):
    cases = await happened(session, 13)
    found = await read(session, by=by, group_by=group_by)
    of = {
        "day": lambda day: day, "week": lambda day: day.isocalendar()[:2], "month": lambda day: (day.year, day.month)
    }[by]  # fmt: skip
    within = [one for one in cases if SPAN.first <= one["created_at"].astimezone(BERLIN).date() <= SPAN.last]
    assert len(found.rows) == len(SPAN.split(by)) * len({group_of(one, group_by) for one in within})
    for row in found.rows:
        mine = [
            one
            for one in within
            if group_of(one, group_by) == row.group
            and of(one["created_at"].astimezone(BERLIN).date()) == of(row.starts_on)
        ]
        assert row == by_hand(row, mine)
    assert found.total == by_hand(found.total, within)
    live = [one for one in cases if one["status"] in ("open", "waiting")]
    assert found.backlog == Backlog(
        sum(one["status"] == "open" for one in live), sum(one["status"] == "waiting" for one in live),
        sum(one["assignee"] is None for one in live), sum(one["unanswered_since"] is not None for one in live),
        sum(one["due_at"] is not None and one["due_at"] < NOW for one in live),
        min(one["created_at"] for one in live),
    )  # fmt: skip


def by_hand(row: CaseRow, cases: list[dict[str, Any]]) -> CaseRow:
    replied = [one for one in cases if one["first_replied_at"] is not None]
    resolved = [one for one in cases if one["resolved_at"] is not None]
    late = [one["breach_count"] > 0 or one["first_reply"][1] or one["resolution"][1] for one in cases]
    return CaseRow(
        row.starts_on, row.ends_on, row.group, len(cases), len(replied), len(resolved),
        Durations(
            *ranks([one["first_reply_seconds"] for one in replied]),
            *ranks([(one["first_replied_at"] - one["first_reply"][0]).total_seconds() for one in replied]),
        ),
        Durations(
            *ranks([one["resolution_seconds"] for one in resolved]),
            *ranks([(one["resolved_at"] - one["created_at"]).total_seconds() for one in resolved]),
        ),
        sum(late), f"{sum(late) / len(cases):.4f}" if cases else None,
        sum(one["first_reply"][1] for one in cases), sum(one["resolution"][1] for one in cases),
        sum(one["reopen_count"] > 0 for one in cases), sum(one["reopen_count"] for one in cases),
    )  # fmt: skip


def ranks(seconds: list[float]) -> tuple[int | None, int | None]:
    return rank(sorted(seconds), 0.5), rank(sorted(seconds), 0.9)


def rank(seconds: list[float], share: float) -> int | None:
    """Between two neighbours, in proportion."""
    if not seconds:
        return None
    place = share * (len(seconds) - 1)
    low = int(place)
    high = min(low + 1, len(seconds) - 1)
    return round(seconds[low] + (place - low) * (seconds[high] - seconds[low]))


async def test_the_life_of_a_case_is_in_the_report(client):
    await Shop.open(client)
    sari = await made(client, {"name": "Sari"})
    await an_agent(client, "rina")
    await a_policy(client)
    case = await a_case(client, sari, assignee="rina")
    await a_case(client, sari, category="refund")
    await reply(client, case)
    await change(client, case, status="resolved")
    found = (await client.get("/v1/insights/cases?by=day&group_by=category")).json()
    assert (found["time_zone"], found["total"]["cases"], found["total"]["breach_rate"]) == ("Asia/Jakarta", 2, "0.0000")
    today = [row for row in found["rows"] if row["cases"]]
    assert [(row["group"], row["replied"], row["resolved"]) for row in today] == [("delivery", 1, 1), ("refund", 0, 0)]
    assert today[0]["first_reply"]["working_seconds_median"] == 0
    assert set(today[1]["resolution"].values()) == {None}
    assert (found["backlog"]["open"], found["backlog"]["unassigned"]) == (1, 1)
    await change(client, case, status="open")
    by_agent = (await client.get("/v1/insights/cases?by=day&group_by=agent")).json()
    assert [(row["group"], row["reopened"], row["reopen_count"]) for row in by_agent["rows"] if row["cases"]] == [
        ("rina", 1, 1), (None, 0, 0),
    ]  # fmt: skip
    assert by_agent["total"]["resolved"] == 0


async def test_as_a_table(client):
    table = (await client.get("/v1/insights/cases?to=2026-03-31&by=month", headers={"Accept": "text/csv"})).text
    head, *rows, _ = table.split("\r\n")
    assert head.split(",")[:8] == [
        "starts_on", "ends_on", "group", "cases", "replied", "resolved", "first_reply.working_seconds_median",
        "first_reply.working_seconds_p90",
    ]  # fmt: skip
    assert len(rows) == 12
    assert rows[-1] == "2026-03-01,2026-03-31,,0,0,0,,,,,,,,,0,,0,0,0,0"
