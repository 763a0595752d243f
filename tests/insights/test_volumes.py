"""What came in and went out, counted by hand beside the report, on the days too when clocks change."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.insights import hours, volumes
from crm.insights.periods import InvalidPeriod, Span
from tests.api.test_loyalty import pointers, problem
from tests.insights.told import happen
from tests.loyalty.shop import Shop

NOW = datetime(2026, 12, 1, 3, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
CHANGES = [
    ("Europe/Berlin", date(2026, 3, 28), date(2026, 3, 30)),  # an hour is left out
    ("Europe/Berlin", date(2026, 10, 24), date(2026, 10, 26)),  # an hour comes twice
    ("Australia/Lord_Howe", date(2026, 4, 4), date(2026, 4, 6)),  # half an hour comes twice
    ("Asia/Kathmandu", date(2026, 1, 1), date(2026, 1, 3)),
    ("Africa/Cairo", date(2026, 4, 23), date(2026, 4, 25)),  # midnight never comes
    ("Asia/Jakarta", date(2026, 10, 30), date(2026, 11, 2)),
]


@given(
    st.sampled_from([zone for zone, _, _ in CHANGES] + ["Pacific/Apia", "Africa/Monrovia", "America/St_Johns"]),
    st.dates(date(1970, 1, 1), date(2030, 1, 1)),
    st.integers(0, 3),
)
def test_the_hours_of_a_span_are_those_that_clocks_show(zone, first, length):
    span = Span(first, first + timedelta(days=length), ZoneInfo(zone))
    cells = list(hours.of(span))
    assert cells[0].starts_at == span.starts_at
    ends = [cell.starts_at for cell in cells[1:]] + [span.ends_at]
    for cell, end in zip(cells, ends, strict=True):
        assert timedelta(0) < end - cell.starts_at <= timedelta(hours=1)
        for at in (cell.starts_at, end - timedelta(microseconds=1)):
            assert at.astimezone(span.zone).hour == cell.hour


@pytest.mark.parametrize(("zone", "first", "last"), CHANGES)
@pytest.mark.parametrize("by", ["day", "week", "month", "hour"])
@pytest.mark.parametrize("kind", [None, "call"])
async def test_the_report_says_what_a_count_by_hand_says(session, zone, first, last, by, kind):
    local = ZoneInfo(zone)
    span = Span(first, last, local)
    told = await happen(session, 7, since=span.starts_at, until=span.ends_at)
    found = await volumes.read(session, first=first, last=last, by=by, zone=local, kind=kind, now=NOW)

    def place(day: date, hour: int) -> object:
        return {"day": day, "week": day.isocalendar()[:2], "month": (day.year, day.month), "hour": hour}[by]

    expected: Counter[object] = Counter()
    for one in told:
        at = one.occurred_at.astimezone(local)
        if first <= at.date() <= last and one.direction is not None and kind in (None, one.kind):
            expected[place(at.date(), at.hour), one.channel, one.direction] += 1
    shown = {(place(row.starts_on, row.hour or 0), row.channel, row.direction): row.count for row in found.rows}
    assert {key: count for key, count in shown.items() if count} == expected
    assert len(shown) == len(found.rows), "each once"
    assert found.total == expected.total() == sum(row.count for row in found.rows)


async def test_no_period_of_a_channel_is_left_out(session):
    span = Span(date(2026, 10, 1), date(2026, 10, 2), BERLIN)
    await happen(session, 1, since=span.starts_at, until=span.ends_at)
    found = await volumes.read(
        session, first=date(2026, 9, 1), last=date(2026, 10, 31), by="month", zone=BERLIN, kind=None, now=NOW
    )
    september = [row for row in found.rows if row.starts_on == date(2026, 9, 1)]
    assert len(september) == 9
    assert [row.count for row in september if row.count] == [1], "just before midnight"
    assert [(row.starts_on, row.ends_on) for row in found.rows[-1:]] == [(date(2026, 10, 1), date(2026, 10, 31))]


async def test_nothing_happened(session):
    found = await volumes.read(session, first=None, last=None, by="hour", zone=None, kind=None, now=NOW)
    assert (found.total, found.rows, found.time_zone) == (0, [], "UTC")
    assert (found.starts_on, found.ends_on) == (date(2026, 11, 20), date(2026, 12, 1))


@pytest.mark.parametrize(
    ("by", "first", "code"),
    [("day", date(2026, 1, 1), "too_many_periods"), ("hour", date(2025, 11, 30), "too_many_days")],
)
async def test_more_than_anybody_reads_is_refused(session, by, first, code):
    with pytest.raises(InvalidPeriod) as refused:
        await volumes.read(session, first=first, last=date(2026, 12, 1), by=by, zone=None, kind=None, now=NOW)
    assert [error.code for error in refused.value.errors] == [code]


async def test_the_days_are_those_of_the_default_program_unless_others_are_named(client):
    shop = await Shop.open(client)
    sari = await shop.member()
    message = {"channel": "email", "kind": "message", "direction": "inbound"}
    for at in ("10-31T16:59:59Z", "10-31T17:00:00Z", "11-01T16:59:59Z", "11-01T17:00:00Z", "11-01T20:00:00Z"):
        answer = await client.post(f"/v1/contacts/{sari}/interactions", json={**message, "occurred_at": f"2026-{at}"})
        assert answer.status_code == 201, answer.text
    day = {"from": "2026-11-01", "to": "2026-11-01"}
    for zone, count in ((None, 2), ("Etc/UTC", 3), ("Asia/Jakarta", 2), ("Asia/Tokyo", 2), ("America/Lima", 3)):
        asked = day | ({"time_zone": zone} if zone else {})
        answer = (await client.get("/v1/insights/volume", params=asked)).json()
        assert (answer["time_zone"], answer["total"]) == (zone or "Asia/Jakarta", count)
    table = await client.get("/v1/insights/volume", params=day, headers={"Accept": "text/csv"})
    assert table.text.split("\r\n") == [
        "starts_on,ends_on,hour,channel,direction,count", "2026-11-01,2026-11-01,,email,inbound,2", "",
    ]  # fmt: skip
    empty = await client.get("/v1/insights/volume?to=2020-01-01", headers={"Accept": "text/csv"})
    assert empty.text == "starts_on,ends_on,hour,channel,direction,count\r\n"


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"time_zone": "Mars/Olympus"}, "query/time_zone"), ({"time_zone": "\x00"}, "query/time_zone"),
        ({"time_zone": "../etc/passwd"}, "query/time_zone"), ({"time_zone": ""}, "query/time_zone"),
        ({"from": "2026-02-30"}, "query/from"), ({"by": "year"}, "query/by"), ({"kind": "Müll"}, "query/kind"),
    ],
)  # fmt: skip
async def test_what_can_not_be_asked_is_refused(client, params, pointer):
    answer = await client.get("/v1/insights/volume", params=params)
    problem(answer, 422, "invalid")
    assert pointers(answer) == {pointer}


async def test_a_report_needs_its_scope(client):
    for path in ("volume", "replies"):
        assert (await (await client.limited_to("care:read")).get(f"/v1/insights/{path}")).status_code == 403
        assert (await (await client.limited_to("insights:read")).get(f"/v1/insights/{path}")).status_code == 200
