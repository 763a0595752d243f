"""When points begin and end, as a program's terms say it: given what was earned when, until when it can be spent."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty.expiry import Activation, Expiry, local_day, months_later, start_of

JAKARTA = ZoneInfo("Asia/Jakarta")
INSTANT = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
NEVER = Expiry()


def at(text: str, zone: ZoneInfo = JAKARTA) -> datetime:
    """A local time, as the instant that it is; of two, the first."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def months(number: int, round_up_to: Any = None) -> Expiry:
    return Expiry("after", months=number, round_up_to=round_up_to)


def days(number: int, round_up_to: Any = None) -> Expiry:
    return Expiry("after", days=number, round_up_to=round_up_to)


def ends(earned_at: datetime, expiry: Expiry, zone: ZoneInfo = JAKARTA) -> datetime:
    end = expiry.ends_at(earned_at, zone)
    assert end is not None
    return end


def last_day(earned_at: datetime, expiry: Expiry, zone: ZoneInfo = JAKARTA) -> str:
    """The local day at whose last moment the points can still be spent, and no moment later."""
    return str(local_day(ends(earned_at, expiry, zone) - INSTANT, zone))


# ---------------------------------------------------------------- how long points last


@pytest.mark.parametrize(
    ("earned", "terms", "spendable_all_of"),
    [
        pytest.param("2026-03-10 09:30", months(1), "2026-04-10", id="10 March + 1 month"),
        pytest.param("2026-03-10 00:00", months(1), "2026-04-10", id="from the first moment of a day"),
        pytest.param("2026-03-10 23:59:59.999999", months(1), "2026-04-10", id="or its last"),
        pytest.param("2026-03-10 09:30", months(12), "2027-03-10", id="a year"),
        pytest.param("2026-03-10 09:30", months(1200), "2126-03-10", id="a hundred years"),
        pytest.param("2026-01-30 09:30", months(1), "2026-02-28", id="30 January + 1 month"),
        pytest.param("2026-01-31 09:30", months(1), "2026-02-28", id="31 January + 1 month"),
        pytest.param("2028-01-30 09:30", months(1), "2028-02-29", id="30 January of a leap year + 1 month"),
        pytest.param("2028-01-31 09:30", months(1), "2028-02-29", id="31 January of a leap year + 1 month"),
        pytest.param("2026-01-29 09:30", months(1), "2026-02-28", id="29 January + 1 month"),
        pytest.param("2026-01-28 09:30", months(1), "2026-02-28", id="28 January + 1 month"),
        pytest.param("2026-02-28 09:30", months(1), "2026-03-28", id="the last of February + 1 month is no last day"),
        pytest.param("2028-02-29 09:30", months(12), "2029-02-28", id="29 February + 1 year"),
        pytest.param("2028-02-29 09:30", months(48), "2032-02-29", id="29 February + 4 years"),
        pytest.param("2096-02-29 09:30", months(48), "2100-02-28", id="2100 has no 29 February"),
        pytest.param("2026-05-31 09:30", months(1), "2026-06-30", id="31 May + 1 month"),
        pytest.param("2026-11-30 09:30", months(1), "2026-12-30", id="30 November + 1 month"),
        pytest.param("2026-11-30 09:30", months(3), "2027-02-28", id="30 November + 3 months, over the year's end"),
        pytest.param("2026-12-01 09:30", months(1), "2027-01-01", id="1 December + 1 month"),
        pytest.param("2026-12-31 23:59", months(1), "2027-01-31", id="the year's last minute + 1 month"),
        pytest.param("2026-03-10 00:00", days(0), "2026-03-10", id="0 days: to the end of that day"),
        pytest.param("2026-03-10 23:59:59.999999", days(0), "2026-03-10", id="0 days, in that day's last moment"),
        pytest.param("2026-12-31 20:00", days(0), "2026-12-31", id="0 days, on the year's last day"),
        pytest.param("2028-02-29 20:00", days(0), "2028-02-29", id="0 days, on 29 February"),
        pytest.param("2026-03-10 09:30", days(1), "2026-03-11", id="1 day"),
        pytest.param("2026-03-10 09:30", days(30), "2026-04-09", id="30 days are no month"),
        pytest.param("2027-03-01 09:30", days(365), "2028-02-29", id="365 days, into a leap year"),
        pytest.param("2028-02-29 09:30", days(365), "2029-02-28", id="365 days, from 29 February"),
    ],
)
def test_points_can_be_spent_through_all_of_their_last_day(earned: str, terms: Expiry, spendable_all_of: str) -> None:
    assert last_day(at(earned), terms) == spendable_all_of


@pytest.mark.parametrize(
    ("earned", "terms", "span", "spendable_all_of"),
    [
        pytest.param("2026-03-10 09:30", months(1), "month", "2026-04-30", id="10 March + 1 month, to the month's end"),
        pytest.param("2026-03-10 09:30", months(1), "quarter", "2026-06-30", id="to the quarter's end"),
        pytest.param("2026-03-10 09:30", months(1), "year", "2026-12-31", id="to the year's end"),
        pytest.param("2026-01-31 09:30", months(1), "month", "2026-02-28", id="already the last day of February"),
        pytest.param("2028-01-31 09:30", months(1), "month", "2028-02-29", id="or of a longer one"),
        pytest.param("2028-01-28 09:30", months(1), "month", "2028-02-29", id="28 February is not its last day then"),
        pytest.param("2026-01-31 09:30", months(1), "quarter", "2026-03-31", id="the first quarter"),
        pytest.param("2026-09-30 09:30", days(0), "quarter", "2026-09-30", id="on the quarter's last day"),
        pytest.param("2026-09-30 09:30", days(1), "quarter", "2026-12-31", id="a day more is a quarter more"),
        pytest.param("2026-12-31 23:59", days(0), "year", "2026-12-31", id="on the year's last day"),
        pytest.param("2026-12-31 23:59", days(1), "year", "2027-12-31", id="a day more is a year more"),
        pytest.param("2026-01-01 00:00", days(0), "year", "2026-12-31", id="from the year's first moment"),
        pytest.param("2025-12-15 09:30", months(12), "year", "2026-12-31", id="a year, to the year's end"),
        pytest.param("2026-12-15 09:30", days(0), "month", "2026-12-31", id="December"),
    ],
)
def test_an_end_can_be_rounded_up_to_the_end_of_its_span(
    earned: str, terms: Expiry, span: Any, spendable_all_of: str
) -> None:
    rounded = Expiry("after", months=terms.months, days=terms.days, round_up_to=span)
    assert last_day(at(earned), rounded) == spendable_all_of


def test_points_that_never_expire_have_no_end():
    assert NEVER.ends_at(at("2026-03-10 09:30"), JAKARTA) is None


def test_sliding_points_last_so_many_months_from_the_activity():
    sliding = Expiry("sliding", months=12, activities=frozenset({"purchase"}))
    assert last_day(at("2026-03-10 09:30"), sliding) == "2027-03-10"


def test_an_end_is_kept_in_utc():
    assert ends(at("2026-03-10 09:30"), months(1)) == datetime(2026, 4, 10, 17, 0, tzinfo=UTC)
    assert ends(at("2026-03-10 09:30"), months(1)).tzinfo is UTC


@pytest.mark.parametrize(
    ("document", "expiry"),
    [
        ({"kind": "never"}, NEVER),
        ({"kind": "after", "months": 12}, months(12)),
        ({"kind": "after", "days": 0, "round_up_to": "year"}, days(0, "year")),
        ({"kind": "after", "months": 12, "days": None, "round_up_to": None, "activities": None}, months(12)),
        (
            {"kind": "sliding", "months": 6, "activities": ["purchase", "review", "purchase"]},
            Expiry("sliding", months=6, activities=frozenset({"purchase", "review"})),
        ),
    ],
)
def test_terms_are_read_from_their_document(document: dict[str, Any], expiry: Expiry) -> None:
    assert Expiry.of(document) == expiry


# ---------------------------------------------------------------- whose day it is


@pytest.mark.parametrize(
    ("zone", "earned", "spendable_all_of"),
    [
        pytest.param("Asia/Jakarta", "2026-03-10T16:59:59Z", "2026-04-10", id="just before midnight in Jakarta"),
        pytest.param("Asia/Jakarta", "2026-03-10T17:00:00Z", "2026-04-11", id="midnight in Jakarta is the 11th"),
        pytest.param("Etc/UTC", "2026-03-10T17:00:00Z", "2026-04-10", id="but the 10th in UTC"),
        pytest.param("Pacific/Kiritimati", "2026-03-10T10:00:00Z", "2026-04-11", id="the first zone to see a day"),
        pytest.param("Etc/GMT+12", "2026-03-10T11:59:59Z", "2026-04-09", id="and the last"),
        pytest.param("Etc/GMT+12", "2026-03-10T12:00:00Z", "2026-04-10", id="the last, at its midnight"),
        pytest.param("Asia/Kathmandu", "2026-03-10T18:15:00Z", "2026-04-11", id="a quarter of an hour counts"),
        pytest.param("America/New_York", "2027-01-01T04:59:59Z", "2027-01-31", id="the old year in New York"),
        pytest.param("Asia/Tokyo", "2026-12-31T15:00:00Z", "2027-02-01", id="the new year in Tokyo"),
    ],
)
def test_days_are_those_of_the_programs_time_zone(zone: str, earned: str, spendable_all_of: str) -> None:
    assert last_day(datetime.fromisoformat(earned), months(1), ZoneInfo(zone)) == spendable_all_of


@pytest.mark.parametrize(
    ("zone", "earned", "terms", "end"),
    [
        pytest.param(
            "Africa/Cairo", "2026-04-23 12:00", days(0), "2026-04-23T22:00:00Z",
            id="Cairo: 24 April 2026 begins at 01:00, there is no midnight",
        ),
        pytest.param(
            "Africa/Cairo", "2026-03-23 12:00", months(1), "2026-04-23T22:00:00Z", id="nor for what was earned before"
        ),
        pytest.param(
            "Africa/Cairo", "2026-10-29 23:30", days(0), "2026-10-29T22:00:00Z",
            id="Cairo: the hour before 30 October 2026 comes twice",
        ),
        pytest.param(
            "Asia/Beirut", "2026-03-28 12:00", days(0), "2026-03-28T22:00:00Z",
            id="Beirut: 29 March 2026 begins at 01:00",
        ),
        pytest.param(
            "America/Sao_Paulo", "2018-11-03 23:59", days(0), "2018-11-04T03:00:00Z",
            id="Sao Paulo: 4 November 2018 began at 01:00",
        ),
        pytest.param(
            "America/Sao_Paulo", "2019-02-16 22:30", days(0), "2019-02-17T03:00:00Z",
            id="Sao Paulo: the last hour of 16 February 2019 came twice",
        ),
        pytest.param(
            "America/Havana", "2026-03-07 12:00", days(0), "2026-03-08T05:00:00Z",
            id="Havana: 8 March 2026 begins at 01:00",
        ),
        pytest.param(
            "America/Havana", "2026-10-31 12:00", days(0), "2026-11-01T04:00:00Z",
            id="Havana: 1 November 2026 has two midnights, the first counts",
        ),
        pytest.param(
            "Europe/Berlin", "2026-03-28 12:00", days(1), "2026-03-29T22:00:00Z", id="Berlin: a day of 23 hours"
        ),
        pytest.param(
            "Europe/Berlin", "2026-10-24 12:00", days(1), "2026-10-25T23:00:00Z", id="Berlin: a day of 25 hours"
        ),
        pytest.param(
            "Pacific/Apia", "2011-12-29 12:00", days(0), "2011-12-30T10:00:00Z",
            id="Samoa: after 29 December 2011 came the 31st",
        ),
        pytest.param(
            "Pacific/Apia", "2011-12-29 12:00", days(1), "2011-12-30T10:00:00Z", id="a last day that there never was"
        ),
        pytest.param(
            "Pacific/Kiritimati", "2026-12-31 12:00", days(0), "2026-12-31T10:00:00Z", id="Kiritimati's year is over"
        ),
        pytest.param("Etc/GMT+12", "2026-12-31 12:00", days(0), "2027-01-01T12:00:00Z", id="when others still wait"),
    ],
)  # fmt: skip
def test_an_end_is_the_first_moment_of_the_local_day_after(zone: str, earned: str, terms: Expiry, end: str) -> None:
    assert ends(at(earned, ZoneInfo(zone)), terms, ZoneInfo(zone)) == datetime.fromisoformat(end)


# ---------------------------------------------------------------- when points begin


@pytest.mark.parametrize(
    ("bought", "activation", "pending_until"),
    [
        pytest.param("2026-03-10 09:30", Activation(), None, id="at once"),
        pytest.param("2026-03-10 09:30", Activation(days=1), "2026-03-11 00:00", id="the next morning"),
        pytest.param("2026-03-10 23:59", Activation(days=1), "2026-03-11 00:00", id="a minute later"),
        pytest.param("2026-03-10 00:00", Activation(days=1), "2026-03-11 00:00", id="or a whole day"),
        pytest.param("2026-03-10 09:30", Activation(days=14), "2026-03-24 00:00", id="a fortnight"),
        pytest.param("2028-02-15 09:30", Activation(days=14), "2028-02-29 00:00", id="into 29 February"),
        pytest.param("2026-12-25 09:30", Activation(days=14), "2027-01-08 00:00", id="over the year's end"),
        pytest.param("2026-03-10 09:30", Activation(event="delivered"), None, id="by an event, whenever that is"),
        pytest.param(
            "2026-03-10 09:30", Activation(event="delivered", cancel_after_days=14), None, id="with a deadline or not"
        ),
    ],
)
def test_points_are_pending_until_the_start_of_the_local_day(
    bought: str, activation: Activation, pending_until: str | None
) -> None:
    assert activation.activates_at(at(bought), JAKARTA) == (None if pending_until is None else at(pending_until))


@pytest.mark.parametrize(
    ("zone", "bought", "begin"),
    [
        pytest.param("Africa/Cairo", "2026-04-23 12:00", "2026-04-23T22:00:00Z", id="a day that begins at 01:00"),
        pytest.param("America/Havana", "2026-10-31 12:00", "2026-11-01T04:00:00Z", id="a day with two midnights"),
        pytest.param("Pacific/Apia", "2011-12-29 12:00", "2011-12-30T10:00:00Z", id="a day that there never was"),
    ],
)
def test_points_begin_at_the_first_moment_of_their_day(zone: str, bought: str, begin: str) -> None:
    begins_at = Activation(days=1).activates_at(at(bought, ZoneInfo(zone)), ZoneInfo(zone))
    assert begins_at == datetime.fromisoformat(begin)


@pytest.mark.parametrize(
    ("bought", "deadline_days", "may_still_be_delivered_on"),
    [
        pytest.param("2026-03-10 09:30", 14, "2026-03-24", id="a fortnight"),
        pytest.param("2026-03-10 23:59", 14, "2026-03-24", id="however late the purchase"),
        pytest.param("2026-03-10 09:30", 0, "2026-03-10", id="0 days: the same day"),
        pytest.param("2026-12-25 09:30", 7, "2027-01-01", id="over the year's end"),
        pytest.param("2028-02-28 09:30", 1, "2028-02-29", id="29 February"),
    ],
)
def test_points_that_wait_for_an_event_are_gone_after_all_of_the_deadlines_day(
    bought: str, deadline_days: int, may_still_be_delivered_on: str
) -> None:
    gone_at = Activation(event="delivered", cancel_after_days=deadline_days).cancels_at(at(bought), JAKARTA)
    assert gone_at is not None
    assert str(local_day(gone_at - INSTANT, JAKARTA)) == may_still_be_delivered_on
    assert gone_at == start_of(local_day(gone_at, JAKARTA), JAKARTA)


@pytest.mark.parametrize("activation", [Activation(), Activation(days=14), Activation(event="delivered")])
def test_points_may_wait_for_ever_where_no_deadline_is_set(activation: Activation) -> None:
    assert activation.cancels_at(at("2026-03-10 09:30"), JAKARTA) is None


def test_the_clock_of_expiry_starts_at_activation():
    begins_at = Activation(days=14).activates_at(at("2026-03-10 09:30"), JAKARTA)
    assert begins_at is not None
    assert last_day(begins_at, months(1)) == "2026-04-24"


# ---------------------------------------------------------------- months

dates = st.dates(date(1900, 1, 1), date(2199, 12, 31))
spans = st.integers(0, 1200)


@given(day=dates, number=st.integers(-1200, 1200))
def test_months_later_is_the_same_day_of_the_month_or_its_last(day: date, number: int) -> None:
    later = months_later(day, number)
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == number
    assert later.day == min(day.day, monthrange(later.year, later.month)[1])


@given(one=dates, other=dates, number=st.integers(-1200, 1200))
def test_months_keep_the_order_of_days(one: date, other: date, number: int) -> None:
    first, second = sorted((one, other))
    assert months_later(first, number) <= months_later(second, number)


# ---------------------------------------------------------------- whatever the zone, the day and the terms

# In three zones the minute after midnight put the clock back to the day before, until 2010: there a day began twice.
ZONES = sorted(available_timezones() - {"localtime"})
STRANGE = [
    "Africa/Cairo", "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Asia/Beirut", "Asia/Jakarta",
    "Asia/Kathmandu", "Asia/Tehran", "Australia/Lord_Howe", "Antarctica/Troll", "Etc/GMT+12", "Pacific/Apia",
    "Pacific/Kiritimati",
]  # fmt: skip
zones = (st.sampled_from(STRANGE) | st.sampled_from(ZONES)).map(ZoneInfo)
instants = st.integers(0, 188 * 366 * 86_400).map(lambda second: datetime(2011, 1, 1, tzinfo=UTC) + second * SECOND)
after = st.builds(
    Expiry,
    st.just("after"),
    months=st.integers(1, 240),
    round_up_to=st.sampled_from([None, "month", "quarter", "year"]),
) | st.builds(
    Expiry, st.just("after"), days=st.integers(0, 800), round_up_to=st.sampled_from([None, "month", "quarter", "year"])
)
# Days on which clocks change are rare: near midnight, in the months where most of them do.
nights = st.builds(
    lambda year, month, day, zone, seconds: (
        datetime.combine(date(year, month, day), time.min, zone).astimezone(UTC) + timedelta(seconds=seconds)
    ),
    st.integers(2012, 2040),
    st.sampled_from([2, 3, 4, 9, 10, 11, 12]),
    st.integers(1, 28),
    st.sampled_from(STRANGE).map(ZoneInfo),
    st.integers(-7200, 7200),
)
moments = instants | nights


@given(earned_at=moments, terms=after, zone=zones)
def test_an_end_is_the_first_moment_of_a_local_day_and_lies_after_the_beginning(
    earned_at: datetime, terms: Expiry, zone: ZoneInfo
) -> None:
    end = ends(earned_at, terms, zone)
    assert end > earned_at
    assert local_day(end - INSTANT, zone) < local_day(end, zone)
    assert end == start_of(local_day(end, zone), zone)


@given(earned_at=moments, number=st.integers(0, 800), zone=zones)
def test_days_are_counted_on_the_local_calendar_whatever_the_clocks_do(
    earned_at: datetime, number: int, zone: ZoneInfo
) -> None:
    end = ends(earned_at, days(number), zone)
    first_dead_day = local_day(earned_at, zone) + (number + 1) * DAY
    assert start_of(first_dead_day, zone) == end
    assert ends(earned_at, days(number + 1), zone) - end <= timedelta(hours=26)


@given(one=moments, other=moments, terms=after, zone=zones)
def test_what_was_earned_later_never_ends_sooner(one: datetime, other: datetime, terms: Expiry, zone: ZoneInfo) -> None:
    first, second = sorted((one, other))
    assert ends(first, terms, zone) <= ends(second, terms, zone)


@given(earned_at=moments, terms=after, zone=zones)
def test_longer_terms_never_end_sooner(earned_at: datetime, terms: Expiry, zone: ZoneInfo) -> None:
    longer = Expiry(
        "after",
        months=None if terms.months is None else terms.months + 1,
        days=None if terms.days is None else terms.days + 1,
        round_up_to=terms.round_up_to,
    )
    assert ends(earned_at, terms, zone) <= ends(earned_at, longer, zone)


@given(earned_at=moments, terms=after, zone=zones)
def test_rounding_up_takes_nothing_away_and_ends_with_its_span(
    earned_at: datetime, terms: Expiry, zone: ZoneInfo
) -> None:
    end = ends(earned_at, terms, zone)
    assert end >= ends(earned_at, Expiry("after", months=terms.months, days=terms.days), zone)
    last = local_day(earned_at, zone)
    last = last + terms.days * DAY if terms.days is not None else months_later(last, terms.months or 0)
    following = local_day(end, zone)
    if terms.round_up_to is not None and local_day(end - INSTANT, zone) + DAY == following:
        starts = {"month": range(1, 13), "quarter": (1, 4, 7, 10), "year": (1,)}[terms.round_up_to]
        assert following.day == 1
        assert following.month in starts
        assert following > last
        assert (following.year * 12 + following.month) - (last.year * 12 + last.month) <= 12 // len(starts)


@given(bought_at=moments, number=st.integers(1, 365), terms=after, zone=zones)
def test_waiting_never_shortens_what_comes_after(
    bought_at: datetime, number: int, terms: Expiry, zone: ZoneInfo
) -> None:
    begins_at = Activation(days=number).activates_at(bought_at, zone)
    assert begins_at is not None
    assert begins_at > bought_at
    assert local_day(begins_at - INSTANT, zone) < local_day(begins_at, zone)
    assert ends(begins_at, terms, zone) >= ends(bought_at, terms, zone)


@given(bought_at=moments, number=st.integers(0, 365), zone=zones)
def test_a_deadline_lies_after_the_purchase_and_at_the_end_of_a_local_day(
    bought_at: datetime, number: int, zone: ZoneInfo
) -> None:
    gone_at = Activation(event="delivered", cancel_after_days=number).cancels_at(bought_at, zone)
    assert gone_at is not None
    assert gone_at > bought_at
    assert gone_at == ends(bought_at, days(number), zone)


@given(day=st.dates(date(2012, 1, 1), date(2299, 12, 31)), zone=zones)
def test_a_day_begins_at_the_first_instant_that_lies_in_it(day: date, zone: ZoneInfo) -> None:
    begin = start_of(day, zone)
    assert local_day(begin, zone) == day
    assert local_day(begin - INSTANT, zone) == day - DAY
