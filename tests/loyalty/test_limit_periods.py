"""The periods of limits: days, weeks, months and years of a program's time zone, as instants."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty.expiry import local_day
from crm.loyalty.limits import period_key, resets_at, starts_at

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
    on = local_day(instant(at), JAKARTA)
    assert (starts_at(per, on, JAKARTA), resets_at(per, on, JAKARTA)) == (instant(first), instant(beyond))


def test_a_lifetime_has_no_bounds():
    on = local_day(instant("2026-11-01T09:00Z"), JAKARTA)
    assert (starts_at("lifetime", on, JAKARTA), resets_at("lifetime", on, JAKARTA)) == (None, None)


@given(
    st.sampled_from(PERIODS),
    st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.sampled_from(sorted(available_timezones() - {"localtime"})),
)
def test_a_moment_lies_in_its_period_and_the_next_one_has_another_key(per, at, zone_name):
    zone = ZoneInfo(zone_name)
    on = local_day(at, zone)
    first, beyond = starts_at(per, on, zone), resets_at(per, on, zone)
    assert first <= at < beyond
    assert period_key(per, local_day(first, zone)) == period_key(per, on)
    assert period_key(per, local_day(beyond, zone)) != period_key(per, on)
