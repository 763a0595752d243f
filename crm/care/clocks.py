"""A case's clocks: first reply, next reply and resolution. Pure: what happened goes in, the clock as it is comes out.

A clock has a target in working time of a calendar. A reply clock ends at a public reply of a human; the one for the
next reply starts again at the oldest message that nobody has answered since. The resolution clock may pause, and goes
on after a case is reopened. Who is late is so from the due time on, whether or not anybody looks at it then.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias
from uuid import UUID

from crm.care.working_time import Calendar, after, worked

Metric: TypeAlias = Literal["first_reply", "next_reply", "resolution"]
State: TypeAlias = Literal["active", "paused", "met", "breached"]

METRICS: Final[tuple[Metric, ...]] = ("first_reply", "next_reply", "resolution")
NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock of a case.

    `elapsed` is the working time before `resumed_at`, since when it runs; where it does not run, that is None.
    `due_at` is when the target is reached if it goes on to run. `warned` is how long before it the last escalation was,
    `next_at` when something is to be done about it next. A breached clock runs on, to tell how late it was.
    """

    metric: Metric
    state: State
    target: timedelta | None
    elapsed: timedelta
    started_at: datetime
    resumed_at: datetime | None
    due_at: datetime | None = None
    breached_at: datetime | None = None
    ended_at: datetime | None = None
    warned: timedelta | None = None
    next_at: datetime | None = None
    calendar_id: UUID | None = None
    calendar_version: int | None = None

    @property
    def runs(self) -> bool:
        """Whether time passes on it."""
        return self.resumed_at is not None

    def elapsed_at(self, calendar: Calendar | None, at: datetime) -> timedelta:
        """The working time on it at an instant that is not before its last change."""
        return self.elapsed if self.resumed_at is None else self.elapsed + worked(calendar, self.resumed_at, at)


def started(metric: Metric, *, target: timedelta | None, calendar: Calendar | None, at: datetime) -> Clock:
    """A clock that runs from now on; without a target it only measures."""
    return _due(Clock(metric, "active", target, NOTHING, at, at), calendar)


def paused(clock: Clock, *, calendar: Calendar | None, at: datetime) -> Clock:
    """The clock, standing still."""
    if not clock.runs:
        return clock
    at = _not_before(clock, at)
    state: State = "paused" if clock.state == "active" else clock.state
    return replace(clock, state=state, elapsed=clock.elapsed_at(calendar, at), resumed_at=None, due_at=None)


def resumed(clock: Clock, *, calendar: Calendar | None, at: datetime) -> Clock:
    """The clock, going on from where it stood, or stood at its end."""
    if clock.runs:
        return clock
    state: State = "breached" if clock.state == "breached" else "active"
    return _due(replace(clock, state=state, resumed_at=max(at, clock.started_at), ended_at=None), calendar)


def ended(clock: Clock, *, calendar: Calendar | None, at: datetime) -> Clock:
    """The clock, at its end: in time at its due time still. What is told of late may take a breach back."""
    if clock.ended_at is not None:
        return clock
    at = _not_before(clock, at)
    in_time = clock.state != "breached" if clock.due_at is None else at <= clock.due_at
    return replace(
        clock,
        state="met" if in_time else "breached",
        elapsed=clock.elapsed_at(calendar, at),
        resumed_at=None,
        breached_at=None if in_time else clock.breached_at or clock.due_at,
        ended_at=at,
        due_at=None,
    )


def lapsed(clock: Clock, *, now: datetime) -> Clock:
    """The clock, breached if its due time has passed."""
    if clock.state != "active" or clock.due_at is None or clock.due_at >= now:
        return clock
    return replace(clock, state="breached", breached_at=clock.due_at)


def retargeted(
    clock: Clock, *, target: timedelta | None, before: Calendar | None, calendar: Calendar | None, at: datetime
) -> Clock:
    """The clock with another target or calendar from now on; one that is late already is so from now on, not before."""
    if clock.ended_at is not None or clock.state == "breached":
        return clock
    if clock.resumed_at is None:
        return replace(clock, target=target)
    at = _not_before(clock, at)
    return _due(replace(clock, target=target, elapsed=clock.elapsed_at(before, at), resumed_at=at), calendar)


def recalculated(clock: Clock, *, calendar: Calendar | None) -> Clock:
    """The clock by its calendar as that is now, all of the stretch that it has run included."""
    return _due(clock, calendar)


def watched(clock: Clock, *, steps: Iterable[timedelta], calendar: Calendar | None) -> Clock:
    """The clock with when to look at it next: at the next of `steps`, each so long before it is due, or when it is."""
    if clock.state == "breached":
        unescalated = clock.ended_at is None and clock.warned != NOTHING and any(True for _ in steps)
        return replace(clock, next_at=clock.breached_at if unescalated else None)
    if clock.due_at is None or clock.resumed_at is None or clock.target is None:
        return replace(clock, next_at=None)
    left = [step for step in steps if step > NOTHING and (clock.warned is None or step < clock.warned)]
    if not left:
        return replace(clock, next_at=clock.due_at)
    at = after(calendar, clock.resumed_at, clock.target - max(left) - clock.elapsed)
    return replace(clock, next_at=clock.due_at if at is None else min(at, clock.due_at))


def by_calendar(clock: Clock, calendar_id: UUID | None, version: int | None) -> Clock:
    """The clock, with the calendar that it was calculated with."""
    return replace(clock, calendar_id=calendar_id, calendar_version=version)


def warned(clock: Clock, before: timedelta | None) -> Clock:
    """The clock, escalated so long before it is due."""
    return replace(clock, warned=before)


def _due(clock: Clock, calendar: Calendar | None) -> Clock:
    if clock.state == "breached":
        return clock
    if clock.target is None or clock.resumed_at is None:
        return replace(clock, due_at=None)
    return replace(clock, due_at=after(calendar, clock.resumed_at, clock.target - clock.elapsed))


def _not_before(clock: Clock, at: datetime) -> datetime:
    """An instant on the clock: what was told of late can't have happened before the clock last changed."""
    return max(at, clock.started_at if clock.resumed_at is None else clock.resumed_at)
