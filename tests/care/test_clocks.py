"""Working time and the clocks that count it, without a database: worked tables and properties."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crm.care import clocks
from crm.care.clocks import Clock
from crm.care.working_time import Calendar, Span, after, worked

OFFICE = (Span(9 * 60, 12 * 60), Span(13 * 60, 17 * 60))
JAKARTA = Calendar(ZoneInfo("Asia/Jakarta"), (OFFICE,) * 5 + ((),) * 2, {date(2026, 12, 25): ()})
ALL_DAY = ((Span(0, 1440),),) * 7
BERLIN = Calendar(ZoneInfo("Europe/Berlin"), ALL_DAY)
NIGHTS = Calendar(ZoneInfo("Europe/Berlin"), ((Span(0, 6 * 60),),) * 7)
GAP = Calendar(ZoneInfo("Europe/Berlin"), ((Span(2 * 60 + 30, 5 * 60),),) * 7)
TO_GAP = Calendar(ZoneInfo("Europe/Berlin"), ((Span(60, 2 * 60 + 30),),) * 7)
TWICE = Calendar(ZoneInfo("Europe/Berlin"), ((Span(60, 2 * 60 + 30), Span(2 * 60 + 30, 4 * 60)),) * 7)
# The clocks of Beirut are changed at midnight: one day begins at one o'clock, another one at midnight twice.
BEIRUT = Calendar(ZoneInfo("Asia/Beirut"), ALL_DAY)
HOUR = timedelta(hours=1)


def at(text: str, zone: str = "Asia/Jakarta") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


@pytest.mark.parametrize(
    ("start", "hours", "due"),
    [
        ("2026-11-26 10:00", 1, "2026-11-26 11:00"),
        ("2026-11-26 11:30", 1, "2026-11-26 13:30"),  # over lunch
        ("2026-11-26 11:00", 1, "2026-11-26 12:00"),  # to its last minute
        ("2026-11-26 16:30", 1, "2026-11-27 09:30"),  # over night
        ("2026-11-27 16:30", 1, "2026-11-30 09:30"),  # over a weekend
        ("2026-11-28 12:00", 1, "2026-11-30 10:00"),  # from a weekend
        ("2026-12-24 16:00", 2, "2026-12-28 10:00"),  # over a holiday and a weekend
        ("2026-11-26 09:00", 35, "2026-12-02 17:00"),  # a whole week of seven hours a day
    ],
)
def test_a_due_time_lies_in_working_time(start, hours, due):
    assert after(JAKARTA, at(start), hours * HOUR) == at(due)
    assert worked(JAKARTA, at(start), at(due)) == hours * HOUR


@pytest.mark.parametrize(
    ("calendar", "zone", "day", "hours"),
    [
        (BERLIN, "Europe/Berlin", "2026-03-29", 23), (BERLIN, "Europe/Berlin", "2026-10-25", 25),
        (BERLIN, "Europe/Berlin", "2026-11-26", 24),
        (NIGHTS, "Europe/Berlin", "2026-03-29", 5), (NIGHTS, "Europe/Berlin", "2026-10-25", 7),
        (GAP, "Europe/Berlin", "2026-03-29", 2), (TO_GAP, "Europe/Berlin", "2026-03-29", 1),
        (TWICE, "Europe/Berlin", "2026-10-25", 4), (TO_GAP, "Europe/Berlin", "2026-10-25", 1.5),
        (BEIRUT, "Asia/Beirut", "2026-03-29", 23), (BEIRUT, "Asia/Beirut", "2026-10-24", 25),
    ],
)  # fmt: skip
def test_on_days_on_which_clocks_change_what_passes_is_counted(calendar, zone, day, hours):
    noon_before = at(f"{day} 12:00", zone) - timedelta(days=1)
    before, later = worked(calendar, noon_before, at(f"{day} 12:00", zone)), at(f"{day} 12:00", zone)
    day_after = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    whole = worked(calendar, at(f"{day} 00:00", zone), at(f"{day_after} 00:00", zone))
    assert whole == hours * HOUR
    assert after(calendar, noon_before, before) <= later


def _ends(half_hours: list[int]) -> list[int]:
    return [30 * each for each in sorted(half_hours)]


SPANS = st.lists(st.integers(0, 48), min_size=2, max_size=6, unique=True).map(
    lambda ends: tuple(Span(*pair) for pair in zip(_ends(ends)[::2], _ends(ends)[1::2], strict=False))
)
DAYS = st.dates(date(2026, 1, 1), date(2026, 12, 31))
CALENDARS = st.builds(
    Calendar,
    st.sampled_from(["Asia/Jakarta", "Europe/Berlin", "America/St_Johns", "Asia/Beirut", "Australia/Lord_Howe", "UTC"])
    .map(ZoneInfo),
    st.tuples(*[st.one_of(st.just(()), SPANS)] * 7).filter(any),
    st.dictionaries(DAYS, st.one_of(st.just(()), SPANS), max_size=4),
)  # fmt: skip
INSTANTS = st.datetimes(datetime(2026, 2, 1), datetime(2026, 11, 30), timezones=st.just(UTC))  # noqa: DTZ001
HOLDS = st.timedeltas(timedelta(0), timedelta(hours=30))


@given(CALENDARS, INSTANTS, INSTANTS, INSTANTS)
def test_working_time_adds_up_wherever_it_is_cut(calendar, one, two, three):
    first, middle, last = sorted((one, two, three))
    assert worked(calendar, first, last) == worked(calendar, first, middle) + worked(calendar, middle, last)
    assert worked(calendar, first, last) <= last - first


@given(CALENDARS, INSTANTS, HOLDS)
def test_a_due_time_is_the_working_time_counted_back(calendar, start, duration):
    due = after(calendar, start, duration)
    assert due is not None
    assert worked(calendar, start, due) == duration
    if duration:
        assert worked(calendar, start, due - timedelta(microseconds=1)) < duration


@given(CALENDARS, INSTANTS, HOLDS, DAYS)
def test_a_holiday_more_never_shortens_a_clock(calendar, start, duration, day):
    holiday = Calendar(calendar.zone, calendar.week, {**calendar.exceptions, day: ()})
    assert after(holiday, start, duration) >= after(calendar, start, duration)


@given(CALENDARS, INSTANTS, st.lists(st.timedeltas(timedelta(0), timedelta(days=3)), max_size=8), HOLDS)
def test_pausing_and_resuming_neither_makes_nor_loses_working_time(calendar, start, waits, target):
    clock = clocks.started("resolution", target=target, calendar=calendar, at=start)
    now, ran = start, timedelta(0)
    for number, wait in enumerate(waits):
        if number % 2 == 0:
            ran += worked(calendar, now, now + wait)
            clock = clocks.paused(clock, calendar=calendar, at=now + wait)
        else:
            clock = clocks.resumed(clock, calendar=calendar, at=now + wait)
        now += wait
    assert clock.elapsed_at(calendar, now) == ran
    if clock.due_at is not None and ran <= target:
        assert worked(calendar, clock.resumed_at, clock.due_at) == target - clock.elapsed


@given(CALENDARS, INSTANTS, st.timedeltas(timedelta(minutes=1), timedelta(days=2)), st.data())
def test_a_clock_is_met_up_to_its_due_time_and_breached_after_it_whoever_looks_when(calendar, start, target, data):
    clock = clocks.started("first_reply", target=target, calendar=calendar, at=start)
    assert clock.due_at is not None
    replied = data.draw(st.datetimes(
        start.replace(tzinfo=None), clock.due_at.replace(tzinfo=None) + timedelta(days=1), timezones=st.just(UTC),
    ))  # fmt: skip
    looked = data.draw(st.booleans())
    seen = clocks.lapsed(clock, now=replied) if looked else clock
    end = clocks.ended(seen, calendar=calendar, at=replied)
    assert (end.state == "met") == (replied <= clock.due_at)
    assert end.breached_at == (None if end.state == "met" else clock.due_at)
    assert end.elapsed == worked(calendar, start, replied)


def test_a_calendar_of_which_nothing_is_left_has_no_due_time():
    rare = Calendar(ZoneInfo("UTC"), ((Span(0, 1),),) + ((),) * 6)
    assert after(rare, at("2026-11-26 10:00", "UTC"), timedelta(days=300)) is None


def _changed(clock: Clock, **facts: Any) -> Clock:
    before = facts.pop("before", None)
    return clocks.retargeted(clock, before=before, **facts)


def test_another_target_counts_what_was_worked_and_is_not_late_before_it_was_set():
    start = at("2026-11-26 09:00")
    clock = clocks.started("resolution", target=8 * HOUR, calendar=JAKARTA, at=start)
    now = at("2026-11-26 11:00")
    assert _changed(clock, target=4 * HOUR, before=JAKARTA, calendar=JAKARTA, at=now).due_at == at("2026-11-26 14:00")
    assert _changed(clock, target=HOUR, before=JAKARTA, calendar=JAKARTA, at=now).due_at == now
    assert _changed(clock, target=None, before=JAKARTA, calendar=JAKARTA, at=now).due_at is None
    around_the_clock = _changed(clock, target=14 * HOUR, before=JAKARTA, calendar=None, at=now)
    assert around_the_clock.due_at == now + 12 * HOUR


def test_a_clock_is_looked_at_before_it_is_due_and_then():
    clock = clocks.started("first_reply", target=2 * HOUR, calendar=None, at=at("2026-11-26 09:00"))
    steps = [timedelta(0), HOUR, timedelta(minutes=30)]
    first = clocks.watched(clock, steps=steps, calendar=None)
    assert first.next_at == at("2026-11-26 10:00")
    second = clocks.watched(clocks.warned(first, HOUR), steps=steps, calendar=None)
    assert second.next_at == at("2026-11-26 10:30")
    third = clocks.watched(clocks.warned(second, timedelta(minutes=30)), steps=steps, calendar=None)
    assert third.next_at == third.due_at == at("2026-11-26 11:00")
    late = clocks.watched(clocks.lapsed(third, now=at("2026-11-26 12:00")), steps=steps, calendar=None)
    assert (late.breached_at, late.next_at) == (third.due_at, third.due_at)
    assert clocks.watched(clocks.warned(late, timedelta(0)), steps=steps, calendar=None).next_at is None


@given(st.integers(2, 60), st.integers(1, 59))
def test_who_was_warned_an_hour_before_is_not_warned_of_it_again(minutes, warned):
    assume(warned < minutes)
    start = at("2026-11-26 09:00")
    clock = clocks.started("first_reply", target=timedelta(minutes=minutes), calendar=None, at=start)
    step = timedelta(minutes=warned)
    seen = clocks.watched(clocks.warned(clock, step), steps=[step], calendar=None)
    assert seen.next_at == seen.due_at


def test_at_its_due_time_itself_nobody_is_late():
    clock = clocks.started("first_reply", target=HOUR, calendar=None, at=at("2026-11-26 09:00"))
    assert clocks.lapsed(clock, now=at("2026-11-26 10:00")).state == "active"
    assert clocks.lapsed(clock, now=at("2026-11-26 10:01")).breached_at == at("2026-11-26 10:00")
