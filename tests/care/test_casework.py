"""What happens to a case moves its clocks: worked tables, and a walk through whatever can happen."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.care import case_files, casework
from crm.care.casework import CaseFile, Step, Terms
from crm.care.working_time import Calendar, Span, worked
from crm.db.ids import uuid7

OFFICE_ID, POLICY_ID = uuid7(), uuid7()
OFFICE = Calendar(ZoneInfo("Asia/Jakarta"), ((Span(9 * 60, 12 * 60), Span(13 * 60, 17 * 60)),) * 5 + ((),) * 2)
HOUR = timedelta(hours=1)
TERMS = Terms(
    POLICY_ID,
    OFFICE_ID,
    {"normal": {"first_reply": HOUR, "next_reply": 2 * HOUR, "resolution": 8 * HOUR}},
    pauses=True,
    steps={"first_reply": (Step(HOUR / 2, task="hurry"), Step(timedelta(0), priority="high"))},
    reopen_within=timedelta(days=2),
)


def local(text: str) -> datetime:
    """A time in Jakarta in the week from Monday, 23 November 2026 on."""
    day, _, clock = text.partition(" ")
    date = 23 + ["mon", "tue", "wed", "thu", "fri"].index(day)
    return datetime.fromisoformat(f"2026-11-{date} {clock}").replace(tzinfo=ZoneInfo("Asia/Jakarta")).astimezone(UTC)


def opened(at: datetime, *, terms: Terms = TERMS, with_bot: bool = False, calendar_id: UUID = OFFICE_ID) -> CaseFile:
    case = case_files.fresh(
        id=uuid7(), contact_id=uuid7(), subject="x", category=None, priority="normal", status="open", channel=None,
        assignee="rina", tags=[], with_bot=with_bot, created_at=at, created_by="test", updated_at=at,
    )  # fmt: skip
    file = CaseFile(case, terms, {calendar_id: (OFFICE, 1)})
    casework.open_(file, by="test", now=at)
    casework.settle(file)
    return file


def happen(file: CaseFile, event: str, now: datetime) -> None:
    match event:
        case "hear":
            casework.hear(file, at=now, by="test", now=now)
        case "reply":
            casework.reply(file, at=now, by="test", now=now)
        case "look":
            casework.look(file, now=now)
        case "hand over":
            casework.hand_over(file, by="test", now=now)
        case _:
            casework.set_status(file, event, by="test", now=now)
    casework.settle(file)


DAYS = {
    "an answer over lunch": (
        [("hear", "mon 11:30"), ("reply", "mon 13:20")], {"first_reply": ("met", 50), "next_reply": ("met", 50)},
    ),
    "an answer an hour late": (
        [("hear", "mon 11:30"), ("reply", "mon 14:30")], {"first_reply": ("breached", 120), "next_reply": ("met", 120)},
    ),
    "the oldest of two messages counts": (
        [("hear", "mon 11:30"), ("reply", "mon 11:40"), ("hear", "mon 16:00"), ("hear", "tue 09:30"),
         ("reply", "tue 10:30")],
        {"next_reply": ("breached", 150)},
    ),
    "each answer begins it anew": (
        [("hear", "mon 11:30"), ("reply", "mon 11:40"), ("hear", "mon 16:00"), ("reply", "tue 09:30"),
         ("hear", "tue 09:40"), ("reply", "tue 11:00")],
        {"next_reply": ("met", 80)},
    ),
    "waiting takes no time": (
        [("waiting", "mon 12:00"), ("hear", "wed 10:00"), ("resolved", "wed 12:00")], {"resolution": ("met", 150)},
    ),
    "a reopened case goes on from where it stood": (
        [("resolved", "mon 12:00"), ("open", "tue 13:00"), ("resolved", "tue 17:00")], {"resolution": ("met", 270)},
    ),
    "and may be late then": (
        [("resolved", "mon 17:00"), ("open", "tue 13:00"), ("resolved", "wed 12:00")],
        {"resolution": ("breached", 690)},
    ),
    "what was resolved without an answer is waited for no more": (
        [("hear", "mon 11:30"), ("resolved", "mon 11:45")], {"first_reply": ("met", 15), "next_reply": ("met", 15)},
    ),
}  # fmt: skip
"""What happened, each to a case that was opened on Monday at 11:30, and how its clocks stand with how many minutes."""


@pytest.mark.parametrize("day", DAYS)
def test_a_clock_counts_the_minutes_of_work(day):
    events, wanted = DAYS[day]
    file = opened(local("mon 11:30"))
    for event, at in events:
        happen(file, event, local(at))
    for metric, (state, minutes) in wanted.items():
        assert (file.clocks[metric].state, file.clocks[metric].elapsed) == (state, timedelta(minutes=minutes))


def test_a_bot_hands_over_and_only_then_people_are_waited_for():
    file = opened(local("mon 09:00"), with_bot=True)
    happen(file, "hear", local("mon 09:00"))
    assert file.case.due_at == local("tue 10:00"), "nothing is due but the resolution"
    happen(file, "hand over", local("mon 10:00"))
    assert file.clocks["first_reply"].due_at == local("mon 11:00")
    assert file.clocks["next_reply"].due_at == local("mon 12:00")
    assert file.case.unanswered_since == local("mon 09:00"), "since when the customer waits stays known"


def test_what_customers_wrote_after_an_answer_that_was_told_of_late_still_waits():
    file = opened(local("mon 09:00"))
    casework.hear(file, at=local("mon 09:00"), by="test", now=local("mon 09:00"))
    casework.reply(file, at=local("mon 09:10"), by="test", now=local("mon 09:10"))
    casework.hear(file, at=local("mon 09:30"), by="test", now=local("mon 09:30"))
    casework.reply(file, at=local("mon 09:20"), by="test", now=local("mon 09:40"))
    assert (file.case.unanswered_since, file.clocks["next_reply"].state) == (local("mon 09:30"), "active")
    casework.hear(file, at=local("mon 09:15"), by="test", now=local("mon 09:50"))
    assert file.case.unanswered_since == local("mon 09:30"), "what was answered since waits for nothing"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["hear", "reply", "look", "open", "waiting", "resolved"]),
        st.timedeltas(timedelta(0), timedelta(hours=30)),
    ),
    max_size=25,
)


@given(EVENTS)
def test_whatever_happens_no_time_is_lost_and_every_breach_is_told_once_at_its_due_time(events):
    start = local("mon 08:00")
    file, now, ran, running = opened(start, terms=TERMS), start, timedelta(0), True
    for event, later in events:
        before, now = now, now + later
        if running:
            ran += worked(OFFICE, before, now)
        if file.case.status == "resolved" and not casework.is_reopenable(file.case, at=now) and event != "look":
            continue
        if event == "reply" and not file.case.is_live:
            continue
        happen(file, event, now)
        running = file.case.status == "open"
        told = Counter(entry[5] for entry in file.told)
        assert file.case.breach_count == told["case.breached"] - told["case.breach_corrected"]
        for clock in file.clocks.values():
            assert (clock.state == "breached") == (clock.breached_at is not None)
            assert clock.state != "met" or clock.ended_at is not None
            assert clock.next_at is None or clock.ended_at is None
            if clock.due_at is not None and clock.state == "active" and clock.target is not None:
                assert worked(OFFICE, clock.resumed_at, clock.due_at) == clock.target - clock.elapsed
        assert file.clocks["resolution"].elapsed_at(OFFICE, now) == ran
        due = [clock.due_at or clock.breached_at for clock in file.clocks.values() if clock.runs]
        assert file.case.due_at == min((at for at in due if at is not None), default=None)
    breaches = [entry[2] for entry in file.told if entry[5] == "case.breached"]
    assert all(at <= now for at in breaches)
    assert len([at for at in breaches if worked(OFFICE, start, at) == HOUR]) >= (
        file.clocks["first_reply"].state == "breached"
    )
