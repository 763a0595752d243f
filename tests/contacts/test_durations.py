from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.contacts.durations import YEARS_MAX, Duration

JAKARTA = ZoneInfo("Asia/Jakarta")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("P90D", Duration(days=90)),
        ("P2W", Duration(days=14)),
        ("P1Y6M", Duration(months=18)),
        ("PT36H", Duration(seconds=36 * 3600)),
        ("P1DT1H1M1S", Duration(days=1, seconds=3661)),
        ("PT5M", Duration(seconds=300)),
        ("P5M", Duration(months=5)),
        ("P0D", Duration()),
        ("P200Y", Duration(months=2400)),
    ],
)
def test_a_duration_is_written_as_iso_8601_says(text: str, span: Duration) -> None:
    assert Duration.of(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "", "P", "PT", "90D", "p90d", "P-1D", "-P1D", "P1.5D", "P1H", "PT1D", "P1D1Y", "P1D ", "P1DT", " P1D", "P٣D",
        "P201Y", "P73201D", "P1\n", "P99999D", "PT999999999S9", "90", "P1D\n",
    ],
)  # fmt: skip
def test_what_is_written_otherwise_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Duration.of(text)


@pytest.mark.parametrize(
    ("text", "moment", "before"),
    [
        ("P1M", "2026-03-31T12:00+07:00", "2026-02-28T12:00+07:00"),
        ("P1Y", "2028-02-29T12:00+07:00", "2027-02-28T12:00+07:00"),
        ("P18Y", "2026-11-22T00:30+07:00", "2008-11-22T00:30+07:00"),
        ("P1M1D", "2026-03-31T12:00+07:00", "2026-02-27T12:00+07:00"),
        ("P12M", "2026-01-15T12:00+07:00", "2025-01-15T12:00+07:00"),
        ("P1D", "2026-01-01T00:00+07:00", "2025-12-31T00:00+07:00"),
        ("PT24H", "2026-01-01T00:00+07:00", "2025-12-31T00:00+07:00"),
    ],
)
def test_months_and_days_are_those_of_the_calendar(text: str, moment: str, before: str) -> None:
    local = datetime.fromisoformat(moment).astimezone(JAKARTA)
    assert Duration.of(text).before(local) == datetime.fromisoformat(before)


def test_a_day_before_the_clocks_change_is_not_twenty_four_hours_before() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=BERLIN)
    assert Duration.of("P1D").before(noon) == datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    assert Duration.of("PT24H").before(noon).astimezone(UTC) == noon.astimezone(UTC) - timedelta(days=1)
    assert Duration.of("P1D").before(noon).astimezone(UTC) == noon.astimezone(UTC) - timedelta(hours=23)


_moments = st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31), timezones=st.sampled_from([UTC, JAKARTA, BERLIN]))  # noqa: DTZ001 - the zone comes after
_spans = st.builds(
    Duration, months=st.integers(0, 12 * YEARS_MAX), days=st.integers(0, 73_000), seconds=st.integers(0, 10**9)
)


@given(_spans, _moments)
def test_it_is_never_after_the_moment(span: Duration, moment: datetime) -> None:
    before = span.before(moment)
    assert before.astimezone(UTC) <= moment.astimezone(UTC)
    assert before.tzinfo is moment.tzinfo
