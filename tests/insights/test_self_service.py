"""How far customers help themselves, counted by hand beside the report."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from crm.insights import self_service
from crm.insights.periods import Span
from crm.insights.self_service import SelfServiceRow
from tests.assistant.test_replies import HOURS, ask
from tests.care.test_articles import written
from tests.interactions.test_merges import made
from tests.loyalty.shop import Shop

NOW = datetime(2026, 4, 20, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
ARTICLE = """
    INSERT INTO articles (id, slug, status, version, created_at, created_by, updated_at, updated_by)
    VALUES ($1, 'jam-buka', 'published', 1, now(), 'key:t', now(), 'key:t')
"""
REPLY = """
    INSERT INTO assistant_replies (contact_id, id, channel, locale, intent, outcome, reason, written_by, sources,
        question_id, answer_id, created_at, by)
    VALUES ($1, $2, 'chat', 'id', 'balance', $3, 'facts', 'rules', '[]', $1, $1, $4, 'bot')
"""


async def happened(session: Any, span: Span) -> list[tuple[str, datetime, int]]:
    """What happened at random around a span, as (what, when, how often)."""
    rolled = random.Random(17)
    article = uuid7()
    await session.execute(ARTICLE, article)
    hours = int((span.ends_at - span.starts_at) / HOUR)
    told = []
    for number in range(300):
        at = span.starts_at + rolled.randrange(-3 * 3_600, (hours + 3) * 3_600) * timedelta(seconds=1)
        hour = at.replace(minute=0, second=0, microsecond=0)
        match rolled.randrange(4):
            case 0:
                count = rolled.randint(1, 9)
                found = rolled.randint(0, count)
                row = (hour, "page", "id", str(number), count, found)
                await session.execute("INSERT INTO article_searches VALUES ($1, $2, $3, $4, $5, $6)", *row)
                told += [("searches", hour, count), ("found", hour, found)]
            case 1:
                count = rolled.randint(1, 9)
                row = (article, hour, "id", number, count)
                await session.execute("INSERT INTO article_views VALUES ($1, $2, $3, $4, $5)", *row)
                told.append(("views", hour, count))
            case 2:
                helpful = rolled.random() < 0.6
                row = (article, str(number).encode(), "id", helpful, at)
                await session.execute("INSERT INTO article_votes VALUES ($1, $2, $3, $4, $5)", *row)
                told.append(("helpful" if helpful else "unhelpful", at, 1))
            case _:
                outcome = rolled.choice(["answered", "answered", "refused", "handed_over"])
                await session.execute(REPLY, uuid7(), uuid7(), outcome, at)
                told.append((outcome, at, 1))
    return told


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("Europe/Berlin", date(2026, 3, 27), date(2026, 4, 3)), ("Asia/Kolkata", date(2026, 3, 27), date(2026, 4, 3)),
        ("Asia/Jakarta", date(2026, 3, 30), date(2026, 3, 30)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["day", "week", "month"])
async def test_the_report_says_what_a_count_by_hand_says(session, zone, first, last, by):
    local = ZoneInfo(zone)
    told = await happened(session, Span(first, last, local))
    found = await self_service.read(session, first=first, last=last, by=by, zone=local, now=NOW)
    of = {
        "day": lambda day: day, "week": lambda day: day.isocalendar()[:2], "month": lambda day: (day.year, day.month)
    }[by]  # fmt: skip
    sums: dict[Any, Counter[str]] = {}
    total: Counter[str] = Counter()
    for what, at, count in told:
        day = at.astimezone(local).date()
        if first <= day <= last:
            sums.setdefault(of(day), Counter())[what] += count
            total[what] += count
    assert len(found.rows) == len(Span(first, last, local).split(by))
    for row in found.rows:
        assert row == by_hand(row, sums.get(of(row.starts_on), Counter()))
    assert found.total == by_hand(found.total, total)


def by_hand(row: SelfServiceRow, sums: Counter[str]) -> SelfServiceRow:
    def share(part: str, *whole: str) -> str | None:
        count = sum(sums[name] for name in whole)
        return f"{sums[part] / count:.4f}" if count else None

    return SelfServiceRow(
        row.starts_on, row.ends_on, sums["searches"], sums["found"], share("found", "searches"), sums["views"],
        sums["helpful"], sums["unhelpful"], share("helpful", "helpful", "unhelpful"), sums["answered"],
        sums["refused"], sums["handed_over"], share("answered", "answered", "refused", "handed_over"),
    )  # fmt: skip


async def test_what_customers_do_is_in_the_report(client):
    shop = await Shop.open(client)
    await written(client, slug="jam-buka", texts=HOURS)
    sari = await made(client, {"name": "Sari", "locale": "id-ID"})
    await client.get("/v1/articles/search", params={"q": "jam buka"})
    await client.get("/v1/articles/search", params={"q": "helikopter"})
    await ask(shop, sari, "Berapa poin saya?")
    await ask(shop, sari, "Saya mau bicara dengan orang")
    total = (await client.get("/v1/insights/self-service?by=day")).json()["total"]
    shown = {name: total[name] for name in ("answered", "handed_over", "answered_rate")}
    assert shown == {"answered": 1, "handed_over": 1, "answered_rate": "0.5000"}
    assert total["searches"] >= 2
    assert 0 < total["found"] < total["searches"]
    table = (await client.get("/v1/insights/self-service?by=day", headers={"Accept": "text/csv"})).text
    assert table.startswith("starts_on,ends_on,searches,found,found_rate,views,helpful,unhelpful,helpful_rate,answered")
    assert table.count("\r\n") == 13
