"""What is left of a limit: given what a member has had, and on which day of the program's calendar it is."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.limits import Limit, Used, period_key, resets_at, room

JAKARTA = ZoneInfo("Asia/Jakarta")
RULE, OTHER = UUID(int=1), UUID(int=2)
TODAY = date(2026, 11, 1)
"""A Sunday."""
PERIODS: list[Any] = ["day", "week", "month", "year"]
EVER: Any = "lifetime"
INSTANT = timedelta(microseconds=1)


def points(most: int, per: Any = "day") -> Limit:
    return Limit(per=per, points=most)


def times(most: int, per: Any = "day") -> Limit:
    return Limit(per=per, times=most)


# ---------------------------------------------------------------- one limit


@pytest.mark.parametrize(
    ("limit", "had", "left"),
    [
        pytest.param(points(100), Used(0, 0), 100, id="nothing had: all of it"),
        pytest.param(points(100), Used(70, 3), 30, id="a part had: the rest"),
        pytest.param(points(100), Used(100, 1), 0, id="all had: nothing"),
        pytest.param(points(100), Used(130, 1), 0, id="more had than there is now: nothing, not less"),
        pytest.param(points(100), Used(-10, 0), 110, id="a refund of what was had before gives it back"),
        pytest.param(times(2), Used(0, 0), None, id="times: not used, any number of points"),
        pytest.param(times(2), Used(5000, 1), None, id="times: once more, any number of points"),
        pytest.param(times(2), Used(0, 2), 0, id="times: used up"),
        pytest.param(times(1), Used(0, 3), 0, id="times: used more often than is allowed now"),
    ],
)
def test_what_one_limit_leaves(limit: Limit, had: Used, left: int | None) -> None:
    assert limit.room(had) == left


# ---------------------------------------------------------------- periods


@pytest.mark.parametrize(
    ("day", "in_day", "in_week", "in_month", "in_year"),
    [
        pytest.param("2026-11-01", "2026-11-01", "2026-W44", "2026-11", "2026", id="a Sunday ends its week"),
        pytest.param("2026-11-02", "2026-11-02", "2026-W45", "2026-11", "2026", id="a Monday begins the next"),
        pytest.param("2026-12-31", "2026-12-31", "2026-W53", "2026-12", "2026", id="2026 has 53 weeks"),
        pytest.param("2027-01-01", "2027-01-01", "2026-W53", "2027-01", "2027", id="a new year in the old one's week"),
        pytest.param("2027-01-03", "2027-01-03", "2026-W53", "2027-01", "2027", id="that week's Sunday"),
        pytest.param("2027-01-04", "2027-01-04", "2027-W01", "2027-01", "2027", id="the new year's first Monday"),
        pytest.param("2024-12-29", "2024-12-29", "2024-W52", "2024-12", "2024", id="the old year's last Sunday"),
        pytest.param("2024-12-30", "2024-12-30", "2025-W01", "2024-12", "2024", id="a Monday of the next year's week"),
        pytest.param("2028-02-29", "2028-02-29", "2028-W09", "2028-02", "2028", id="29 February"),
        pytest.param("0999-06-01", "0999-06-01", "0999-W22", "0999-06", "0999", id="four digits, always"),
    ],
)
def test_the_periods_of_a_day(day: str, in_day: str, in_week: str, in_month: str, in_year: str) -> None:
    on = date.fromisoformat(day)
    assert [period_key(per, on) for per in PERIODS] == [in_day, in_week, in_month, in_year]
    assert period_key(EVER, on) == "lifetime"


@pytest.mark.parametrize(
    ("limits", "had", "left"),
    [
        pytest.param([], {}, None, id="no limit"),
        pytest.param([points(100)], {}, 100, id="nothing had"),
        pytest.param([points(100)], {"2026-11-01": Used(70, 1)}, 30, id="had today"),
        pytest.param([points(100)], {"2026-10-31": Used(70, 1)}, 100, id="had yesterday"),
        pytest.param([points(100, "week")], {"2026-W44": Used(70, 1)}, 30, id="had this week"),
        pytest.param([points(100, "week")], {"2026-W45": Used(70, 1)}, 100, id="had in another"),
        pytest.param([points(100, "month")], {"2026-11": Used(70, 1)}, 30, id="had this month"),
        pytest.param([points(100, "year")], {"2026": Used(70, 1)}, 30, id="had this year"),
        pytest.param([points(100, "lifetime")], {"lifetime": Used(70, 1)}, 30, id="had ever"),
        pytest.param(
            [points(100), points(500, "month")], {"2026-11-01": Used(20, 1), "2026-11": Used(450, 9)}, 50,
            id="the tightest of several: the month's",
        ),
        pytest.param(
            [points(100), points(500, "month")], {"2026-11-01": Used(90, 1), "2026-11": Used(90, 1)}, 10,
            id="the tightest of several: the day's",
        ),
        pytest.param([times(3), points(100, "week")], {"2026-11-01": Used(0, 2)}, 100, id="times leave points alone"),
        pytest.param([times(3), points(100, "week")], {"2026-11-01": Used(0, 3)}, 0, id="until they are used up"),
        pytest.param([times(3)], {"2026-11-01": Used(999, 2)}, None, id="times alone: any number"),
    ],
)  # fmt: skip
def test_the_tightest_limit_decides(limits: list[Limit], had: dict[str, Used], left: int | None) -> None:
    usages = {(RULE, period): used for period, used in had.items()}
    assert room(limits, RULE, TODAY, usages) == left
    assert room(reversed(limits), RULE, TODAY, usages) == left


def test_what_one_rule_gave_uses_up_no_limit_of_another():
    assert room([points(100)], RULE, TODAY, {(OTHER, "2026-11-01"): Used(100, 1)}) == 100


# ---------------------------------------------------------------- when a limit begins anew


@pytest.mark.parametrize(
    ("per", "day", "begins_anew"),
    [
        pytest.param("day", "2026-11-01", "2026-11-02", id="tomorrow"),
        pytest.param("day", "2026-12-31", "2027-01-01", id="next year"),
        pytest.param("day", "2028-02-28", "2028-02-29", id="on 29 February"),
        pytest.param("week", "2026-11-01", "2026-11-02", id="on Monday: tomorrow"),
        pytest.param("week", "2026-11-02", "2026-11-09", id="on Monday: a week from today"),
        pytest.param("week", "2026-12-31", "2027-01-04", id="on Monday: next year"),
        pytest.param("month", "2026-11-01", "2026-12-01", id="next month"),
        pytest.param("month", "2026-12-31", "2027-01-01", id="in January"),
        pytest.param("month", "2027-01-31", "2027-02-01", id="in February"),
        pytest.param("year", "2026-01-01", "2027-01-01", id="next year, from its first day"),
        pytest.param("year", "2026-12-31", "2027-01-01", id="next year, from its last"),
    ],
)
def test_a_limit_begins_anew_with_the_next_period_at_local_midnight(per: Any, day: str, begins_anew: str) -> None:
    anew = resets_at(per, date.fromisoformat(day), JAKARTA)
    assert anew == datetime.fromisoformat(begins_anew).replace(tzinfo=JAKARTA)
    assert anew is not None
    assert anew.tzinfo is UTC


def test_a_limit_of_a_lifetime_never_begins_anew():
    assert resets_at(EVER, TODAY, JAKARTA) is None


@pytest.mark.parametrize(
    ("zone", "day", "begins_anew"),
    [
        pytest.param("Africa/Cairo", "2026-04-23", "2026-04-23T22:00:00Z", id="a day that begins at 01:00"),
        pytest.param("America/Havana", "2026-10-31", "2026-11-01T04:00:00Z", id="a day with two midnights"),
        pytest.param("Pacific/Kiritimati", "2026-11-01", "2026-11-01T10:00:00Z", id="far east"),
        pytest.param("Etc/GMT+12", "2026-11-01", "2026-11-02T12:00:00Z", id="far west"),
    ],
)
def test_a_limit_begins_anew_when_the_day_does(zone: str, day: str, begins_anew: str) -> None:
    assert resets_at("day", date.fromisoformat(day), ZoneInfo(zone)) == datetime.fromisoformat(begins_anew)


days = st.dates(date(2012, 1, 1), date(2199, 12, 30))
zones = st.sampled_from(["Asia/Jakarta", "Africa/Cairo", "America/Havana", "Europe/Berlin", "Etc/GMT+12"]).map(ZoneInfo)


@given(day=days, per=st.sampled_from(PERIODS), zone=zones)
def test_a_period_ends_exactly_where_it_begins_anew(day: date, per: Any, zone: ZoneInfo) -> None:
    anew = resets_at(per, day, zone)
    assert anew is not None
    assert anew > start_of(day, zone)
    last, first = local_day(anew - INSTANT, zone), local_day(anew, zone)
    assert anew == start_of(first, zone)
    assert period_key(per, last) == period_key(per, day) != period_key(per, first)


@given(one=days, other=days, per=st.sampled_from(PERIODS))
def test_later_days_lie_in_later_periods_or_the_same(one: date, other: date, per: Any) -> None:
    first, second = sorted((one, other))
    assert period_key(per, first) <= period_key(per, second)


@given(
    limits=st.lists(
        st.builds(points, st.integers(1, 200), st.sampled_from([*PERIODS, EVER]))
        | st.builds(times, st.integers(1, 5), st.sampled_from([*PERIODS, EVER])),
        max_size=4,
    ),
    facts=st.lists(st.tuples(st.dates(date(2026, 12, 20), date(2027, 1, 10)), st.integers(1, 150)), max_size=20),
)
def test_nobody_ever_has_more_than_any_limit_allows(limits: list[Limit], facts: list[tuple[date, int]]) -> None:
    usages: dict[tuple[UUID, str], Used] = {}
    for day, wanted in facts:
        left = room(limits, RULE, day, usages)
        given = wanted if left is None else min(wanted, left)
        if not given:
            continue
        for per in {limit.per for limit in limits}:
            before = usages.get((RULE, period_key(per, day)), Used(0, 0))
            usages[RULE, period_key(per, day)] = Used(before.points + given, before.times + 1)
    for limit in limits:
        periods = {period_key(limit.per, day) for day, _ in facts}
        for period in periods:
            had = usages.get((RULE, period), Used(0, 0))
            assert limit.points is None or had.points <= limit.points
            assert limit.times is None or had.times <= limit.times
