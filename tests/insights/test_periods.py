"""Local days, weeks and months as instants, on the nights too when clocks are changed."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.insights import periods
from crm.insights.periods import InvalidPeriod, Span

ZONES = (
    "Asia/Jakarta",
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
    "Europe/Berlin",
)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("zone", "day", "starts_at"),
    [
        ("Asia/Jakarta", date(2026, 11, 1), datetime(2026, 10, 31, 17, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 3, 30), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 4, tzinfo=UTC)),  # midnight comes twice
        ("Africa/Cairo", date(2026, 4, 24), datetime(2026, 4, 23, 22, tzinfo=UTC)),  # midnight never comes
        ("Pacific/Apia", date(2011, 12, 31), datetime(2011, 12, 30, 10, tzinfo=UTC)),  # the day before never came
    ],
)
def test_a_day_begins_with_its_first_instant(zone, day, starts_at):
    span = Span(day, day, ZoneInfo(zone))
    assert span.starts_at == starts_at
    assert starts_at.astimezone(span.zone).date() == day
    assert (starts_at - MICROSECOND).astimezone(span.zone).date() < day


@given(
    st.sampled_from(ZONES), st.sampled_from(["day", "week", "month"]), st.dates(date(1990, 1, 1), date(2040, 1, 1)),
    st.integers(0, 119),
)  # fmt: skip
def test_the_parts_of_a_span_are_the_span(zone, by, first, length):
    span = Span(first, first + timedelta(days=length), ZoneInfo(zone))
    parts = span.split(by)
    assert (parts[0].first, parts[-1].last) == (span.first, span.last)
    assert (parts[0].starts_at, parts[-1].ends_at) == (span.starts_at, span.ends_at)
    for one, following in pairwise(parts):
        assert one.ends_at == following.starts_at
        assert one.last + timedelta(days=1) == following.first
    for part in parts:
        assert {"day": 1, "week": 7, "month": 31}[by] > (part.last - part.first).days


@pytest.mark.parametrize(
    ("by", "last", "first"),
    [
        ("day", date(2026, 1, 5), date(2025, 12, 25)),
        ("week", date(2026, 1, 5), date(2025, 10, 20)),
        ("week", date(2026, 1, 4), date(2025, 10, 13)),
        ("month", date(2026, 1, 31), date(2025, 2, 1)),
        ("month", date(2026, 12, 31), date(2026, 1, 1)),
        ("month", date(1900, 1, 1), date(1899, 2, 1)),
    ],
)
def test_a_report_goes_back_twelve_periods(by, last, first):
    span = periods.of_report(None, last, by=by, zone=ZoneInfo("Etc/UTC"), now=datetime(2026, 1, 1, tzinfo=UTC))
    assert (span.first, span.last) == (first, last)
    assert len(span.split(by)) == 12


def test_today_is_that_of_the_zone():
    now = datetime(2026, 11, 30, 20, tzinfo=UTC)
    for zone, first, last in (
        ("Etc/UTC", date(2026, 10, 1), date(2026, 10, 31)), ("Asia/Jakarta", date(2026, 11, 1), date(2026, 11, 30)),
    ):  # fmt: skip
        span = periods.of_statement(None, None, zone=ZoneInfo(zone), now=now)
        assert (span.first, span.last) == (first, last)


def test_more_periods_than_anybody_reads_are_refused():
    span = Span(date(2026, 1, 1), date(2026, 4, 30), ZoneInfo("Etc/UTC"))
    assert len(span.split("day")) == periods.PERIODS_MAX
    with pytest.raises(InvalidPeriod) as refused:
        Span(span.first, date(2026, 5, 1), span.zone).split("day")
    assert [(error.pointer, error.code) for error in refused.value.errors] == [("query/from", "too_many_periods")]
