"""How threads are answered, counted by hand beside the report."""

import random
from datetime import UTC, date, datetime, timedelta
from statistics import quantiles
from zoneinfo import ZoneInfo

import pytest

from crm.insights import bounds, replies
from crm.insights.bounds import ReportTooLong
from crm.insights.periods import Span
from crm.insights.replies import ReplyRow
from tests.insights.told import CHANNELS, SECOND, Said, talk

NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
SPAN = Span(date(2026, 10, 24), date(2026, 10, 26), BERLIN)
AT = SPAN.starts_at
MINUTE = timedelta(minutes=1)
AUTOMATIC = {"automatic": "reply"}


async def read(session) -> replies.ReplyReport:
    return await replies.read(session, first=SPAN.first, last=SPAN.last, zone=BERLIN, now=NOW)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([Said(AT, "inbound")], (1, 0, 0, 1, None)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "outbound")], (1, 1, 0, 0, 60)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "outbound", by="bot")], (1, 0, 1, 0, None)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "outbound", by="bot:rules")], (1, 0, 1, 0, None)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "outbound", data=AUTOMATIC)], (1, 0, 1, 0, None)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "outbound", data={"by": "bot"})], (1, 0, 1, 0, None)),
        (
            [
                Said(AT, "inbound"), Said(AT + MINUTE, "outbound", data=AUTOMATIC),
                Said(AT + 2 * MINUTE, "inbound"), Said(AT + 3 * MINUTE, "outbound"), Said(AT + 9 * MINUTE, "outbound"),
            ],
            (1, 1, 0, 0, 180),
        ),
        (
            [Said(AT, "outbound"), Said(AT + 5 * MINUTE, "inbound"), Said(AT + 7 * MINUTE, "outbound")],
            (1, 1, 0, 0, 120),
        ),
        ([Said(AT, "outbound"), Said(AT + 5 * MINUTE, "inbound")], (1, 0, 0, 1, None)),
        ([Said(AT, "inbound"), Said(AT + MINUTE, "internal")], (1, 0, 0, 1, None)),
        ([Said(AT, "outbound")], (0, 0, 0, 0, None)),
        ([Said(AT - SECOND, "inbound")], (0, 0, 0, 0, None)),
        ([Said(SPAN.ends_at, "inbound")], (0, 0, 0, 0, None)),
        ([Said(SPAN.ends_at - SECOND, "inbound"), Said(SPAN.ends_at + MINUTE, "outbound")], (1, 1, 0, 0, 61)),
    ],
)  # fmt: skip
async def test_what_is_a_reply(session, said, expected):
    await talk(session, said, channel="whatsapp")
    total = (await read(session)).total
    assert (
        total.threads, total.answered, total.answered_by_bot, total.unanswered, total.first_reply_seconds_median,
    ) == expected  # fmt: skip


async def test_the_report_says_what_a_count_by_hand_says(session):
    rolled = random.Random(11)
    seconds = int((SPAN.ends_at - SPAN.starts_at).total_seconds())
    threads = []
    for _ in range(300):
        at = SPAN.starts_at + rolled.randrange(-3_600, seconds + 3_600) * SECOND
        said = [
            Said(
                at + rolled.randrange(20_000) * SECOND, rolled.choice(["inbound", "outbound", "internal"]),
                rolled.choice(["key:desk", "key:desk", "bot", "playbook:x"]),
                rolled.choice([AUTOMATIC, {"by": "bot"}, {}, {}, {}, {}]),
            )
            for _ in range(rolled.randrange(1, 6))
        ]  # fmt: skip
        channel = rolled.choice(CHANNELS)
        threads.append((channel, said))
        await talk(session, said, channel=channel)
    found = await read(session)
    assert [row.channel for row in found.channels] == sorted(CHANNELS)
    for row in (*found.channels, found.total):
        assert row == by_hand(row.channel, [said for of, said in threads if row.channel in (None, of)])


def by_hand(channel: str | None, threads: list[list[Said]]) -> ReplyRow:
    waited, counts = [], {"threads": 0, "answered": 0, "answered_by_bot": 0}
    for said in threads:
        asked = min((one.occurred_at for one in said if one.direction == "inbound"), default=None)
        if asked is None or not SPAN.first <= min(said, key=when).occurred_at.astimezone(BERLIN).date() <= SPAN.last:
            continue
        after = [one for one in said if one.occurred_at >= asked and one.direction == "outbound"]
        human = [one.occurred_at for one in after if one.is_human]
        counts["threads"] += 1
        counts["answered"] += bool(human)
        counts["answered_by_bot"] += bool(after and not human)
        if human:
            waited.append((min(human) - asked).total_seconds())
    tenths = quantiles(waited, n=10, method="inclusive")
    return ReplyRow(
        channel, **counts, unanswered=counts["threads"] - counts["answered"] - counts["answered_by_bot"],
        first_reply_seconds_median=round(tenths[4]), first_reply_seconds_p90=round(tenths[8]),
    )  # fmt: skip


def when(said: Said) -> datetime:
    return said.occurred_at


async def test_as_a_table(client, session):
    await talk(session, [Said(AT, "inbound"), Said(AT + MINUTE, "outbound")], channel="email")
    answer = await client.get(
        "/v1/insights/replies?from=2026-10-24&to=2026-10-26&time_zone=Europe/Berlin", headers={"Accept": "text/csv"}
    )
    assert answer.text.split("\r\n") == [
        "channel,threads,answered,answered_by_bot,unanswered,first_reply_seconds_median,first_reply_seconds_p90",
        "email,1,1,0,0,60,60", "",
    ]  # fmt: skip


async def test_a_report_that_takes_too_long_is_broken_off(database):
    async with database.reading() as session:
        with pytest.raises(ReportTooLong):
            async with bounds.bounded(0.05):
                await session.fetch("SELECT pg_sleep(20)")
        assert await session.fetchval("SELECT 1") == 1, "the connection is as good as before"
    async with database.reading() as session:
        running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%' AND state = 'active'"
        assert await session.fetchval(f"{running} AND pid <> pg_backend_pid()") == 0
