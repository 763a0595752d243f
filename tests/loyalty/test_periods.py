"""Days, weeks, months and years of a program's time zone, as instants."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty.earning import period_key
from crm.loyalty.periods import bounds, end_of_days, start_of_day

JAKARTA = ZoneInfo("Asia/Jakarta")
PERIODS = ("day", "week", "month", "year")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("per", "at", "first", "beyond"),
    [
        ("day", "2026-11-01T16:59:59Z", "2026-10-31T17:00Z", "2026-11-01T17:00Z"),
        ("day", "2026-11-01T17:00:00Z", "2026-11-01T17:00Z", "2026-11-02T17:00Z"),
        ("week", "2026-11-01T16:59:59Z", "2026-10-25T17:00Z", "2026-11-01T17:00Z"),  # a Sunday there
        ("week", "2026-11-01T17:00:00Z", "2026-11-01T17:00Z", "2026-11-08T17:00Z"),
        ("month", "2026-12-31T16:59:59Z", "2026-11-30T17:00Z", "2026-12-31T17:00Z"),
        ("month", "2028-02-29T12:00:00Z", "2028-01-31T17:00Z", "2028-02-29T17:00Z"),
        ("year", "2026-12-31T17:00:00Z", "2026-12-31T17:00Z", "2027-12-31T17:00Z"),
    ],
)
def test_a_period_begins_and_ends_at_local_midnight(per, at, first, beyond):
    assert bounds(per, instant(at), JAKARTA) == (instant(first), instant(beyond))


def test_a_lifetime_has_no_bounds():
    assert bounds("lifetime", instant("2026-11-01T09:00Z"), JAKARTA) is None


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T01:00:00-02:00"),  # there was no midnight
        ("America/Havana", date(2026, 11, 1), "2026-11-01T00:00:00-04:00"),  # midnight comes twice
        ("Pacific/Kiritimati", date(2026, 11, 1), "2026-11-01T00:00:00+14:00"),
    ],
)
def test_a_day_begins_where_clocks_say_so_first(zone, day, begins):
    assert start_of_day(day, ZoneInfo(zone)) == instant(begins)


@pytest.mark.parametrize(("days", "ends"), [(0, "2026-11-01T17:00Z"), (30, "2026-12-01T17:00Z")])
def test_what_lasts_some_days_is_over_when_the_day_after_them_begins(days, ends):
    assert end_of_days(instant("2026-11-01T09:00Z"), days, JAKARTA) == instant(ends)


@given(
    st.sampled_from(PERIODS),
    st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(sorted(available_timezones() - {"localtime"})),
)
def test_a_moment_lies_in_its_period_and_the_next_one_has_another_key(per, at, zone_name):
    zone = ZoneInfo(zone_name)
    first, beyond = bounds(per, at, zone)
    assert first <= at < beyond
    key = period_key(per, at.astimezone(zone).date())
    assert period_key(per, first.astimezone(zone).date()) == key
    assert period_key(per, beyond.astimezone(zone).date()) != key
