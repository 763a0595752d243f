"""What happens to a case, and what that does to its clocks. Pure: a file is changed, and keeps what is to be told."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

from crm.care import clocks
from crm.care.clocks import METRICS, NOTHING, Clock, Metric, State
from crm.care.working_time import Calendar
from crm.errors import Conflict
from crm.interactions import timeline

Priority: TypeAlias = Literal["low", "normal", "high", "urgent"]
Status: TypeAlias = Literal["open", "waiting", "resolved", "closed"]

CHANNEL: Final = "care"
LIVE: Final = frozenset({"open", "waiting"})
SYSTEM: Final = "system"
_How: TypeAlias = Callable[..., Clock]
_REPLIES: Final[tuple[Metric, ...]] = ("first_reply", "next_reply")


class CaseClosed(Conflict):
    code = "case_closed"
    title = "The case is closed"


class ReopenPeriodOver(Conflict):
    code = "reopen_period_over"
    title = "The case was resolved too long ago"


@dataclass(slots=True)
class CaseClock:
    """A clock of a case. `target_seconds` and `worked_seconds` are working time, the latter up to the last change.

    It runs where there is `running_since`; `due_at` is when the target is reached if it goes on to run.
    """

    metric: Metric
    state: State
    target_seconds: int | None
    worked_seconds: int
    started_at: datetime
    running_since: datetime | None
    due_at: datetime | None
    breached_at: datetime | None
    ended_at: datetime | None


@dataclass(slots=True)
class Case:
    """A request or complaint to be resolved. `due_at` is what comes first of its running clocks.

    `unanswered_since` is the oldest message that no human has answered, `reopenable_until` how long a resolved case can
    be opened again. `with_bot` is so until a bot hands it over. The seconds are working time; `closing_agent` had the
    case when it was resolved.
    """

    id: UUID
    contact_id: UUID
    subject: str | None
    category: str | None
    priority: Priority
    status: Status
    channel: str | None
    assignee: str | None
    tags: list[str]
    with_bot: bool
    policy_id: UUID | None
    rule_id: UUID | None
    due_at: datetime | None
    breach_count: int
    unanswered_since: datetime | None
    last_reply_at: datetime | None
    first_replied_at: datetime | None
    first_reply_seconds: int | None
    resolved_at: datetime | None
    resolution_seconds: int | None
    closed_at: datetime | None
    closing_agent: str | None
    reopenable_until: datetime | None
    reopen_count: int
    version: int
    created_at: datetime
    created_by: str
    updated_at: datetime
    clocks: list[CaseClock] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        """Whether there is something left to do about it."""
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class Step:
    """What is done when so much is left on a clock, or at the breach."""

    before: timedelta
    assignee: str | None = None
    priority: Priority | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy asks for."""

    policy_id: UUID | None
    calendar_id: UUID | None
    targets: Mapping[Priority, Mapping[Metric, timedelta]]
    pauses: bool
    steps: Mapping[Metric, tuple[Step, ...]]
    reopen_within: timedelta

    def target(self, priority: Priority, metric: Metric) -> timedelta | None:
        """The target of a clock, if it has one."""
        return self.targets.get(priority, {}).get(metric)


@dataclass(slots=True)
class CaseFile:
    """A case that is being worked on, with its clocks, and `told`: what is to be put on the timeline.

    `calendars` are those that its clocks and its terms name, each in its version.
    """

    case: Case
    terms: Terms
    calendars: Mapping[UUID, tuple[Calendar, int]]
    clocks: dict[Metric, Clock] = field(default_factory=dict)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    changed: bool = False
    reopened: bool = False

    def calendar(self, calendar_id: UUID | None) -> Calendar | None:
        """A calendar to calculate with; none counts around the clock."""
        return None if calendar_id is None or calendar_id not in self.calendars else self.calendars[calendar_id][0]

    def tell(self, word: str, *, at: datetime, now: datetime, by: str, body: str | None = None, **data: Any) -> None:
        """Have something told of the case."""
        case = self.case
        self.changed = True
        self.told.append(
            timeline.entry(
                case.contact_id, channel=CHANNEL, kind=f"case.{word}", direction="internal", occurred_at=at,
                recorded_at=now, by=by, subject=case.subject, body=body, case_id=case.id,
                data={"case_id": case.id, **data},
            )
        )  # fmt: skip


NO_TERMS: Final = Terms(None, None, {}, False, {}, timedelta(days=7))
"""What holds for a case to which no policy applies: its clocks only measure, and it can be reopened for a week."""


def open_(file: CaseFile, *, description: str | None = None, by: str, now: datetime) -> None:
    """Begin a case: its clocks run, but for the first reply where a bot has it."""
    case = file.case
    case.policy_id = file.terms.policy_id
    _start(file, "resolution", now)
    if not case.with_bot:
        _start(file, "first_reply", now)
    file.tell(
        "opened", at=now, now=now, by=by, body=description, priority=case.priority, category=case.category,
        assignee=case.assignee, policy_id=case.policy_id, rule_id=case.rule_id, with_bot=case.with_bot,
    )  # fmt: skip


def hear(file: CaseFile, *, at: datetime, by: str, now: datetime) -> None:
    """A customer wrote: the clock for the next reply runs from the oldest message that nobody has answered.

    A case that waited for them goes on; one that can be reopened is.
    """
    case = file.case
    at = min(at, now)
    file.changed = True
    if case.status == "resolved":
        reopen(file, by=by, now=now)
    elif case.status == "waiting":
        set_status(file, "open", by=by, now=now)
    if case.last_reply_at is not None and at <= case.last_reply_at:
        return  # told of late: somebody has answered since
    if case.unanswered_since is None or at < case.unanswered_since:
        case.unanswered_since = at
        if not case.with_bot:
            _start(file, "next_reply", at)


def reply(file: CaseFile, *, at: datetime, by: str, now: datetime) -> None:
    """A human answered in public: both reply clocks end, for what was written before."""
    case = file.case
    at = min(at, now)
    file.changed = True
    if case.with_bot:
        hand_over(file, by=by, now=now, at=at)
    if case.last_reply_at is None or at > case.last_reply_at:
        case.last_reply_at = at
    if case.first_replied_at is None:
        first = _end(file, "first_reply", at, by=by, now=now)
        case.first_replied_at = at
        case.first_reply_seconds = None if first is None else _seconds(first.elapsed)
    if case.unanswered_since is not None and at >= case.unanswered_since:
        _end(file, "next_reply", at, by=by, now=now)
        case.unanswered_since = None


def hand_over(file: CaseFile, *, by: str, now: datetime, at: datetime | None = None) -> None:
    """A bot leaves the case to people: from now on they are waited for."""
    case = file.case
    since = now if at is None else at
    case.with_bot = False
    _start(file, "first_reply", since)
    if case.unanswered_since is not None:
        _start(file, "next_reply", since)
    file.tell("handed_over", at=since, now=now, by=by)


def set_status(file: CaseFile, status: Status, *, by: str, now: datetime) -> None:
    """Let a case be open, wait for the customer, be resolved or closed. Raises CaseClosed, ReopenPeriodOver."""
    case = file.case
    if status == case.status:
        return
    if case.status == "closed":
        raise CaseClosed("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    if status in LIVE:
        if case.status == "resolved":
            reopen(file, by=by, now=now)
        if status != case.status:
            _wait(file, by=by, now=now) if status == "waiting" else _go_on(file, by=by, now=now)
        return
    if case.is_live:
        _resolve(file, by=by, now=now)
    if status == "closed":
        case.status, case.closed_at, case.reopenable_until = "closed", now, None
        file.tell("closed", at=now, now=now, by=by)


def reopen(file: CaseFile, *, by: str, now: datetime) -> None:
    """Go on with a case that was resolved: its resolution clock does from where it stood. Raises as `set_status`."""
    case = file.case
    if case.status == "closed":
        raise CaseClosed("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    if case.is_live:
        return
    if not is_reopenable(case, at=now):
        raise ReopenPeriodOver("Open a new one that follows it: POST /v1/cases/{id}/reopening.")
    case.status, case.resolved_at, case.resolution_seconds, case.closing_agent = "open", None, None, None
    case.reopenable_until, case.reopen_count, file.reopened = None, case.reopen_count + 1, True
    _change(file, "resolution", clocks.resumed, now)
    file.tell("reopened", at=now, now=now, by=by, reopen_count=case.reopen_count)


def is_reopenable(case: Case, *, at: datetime) -> bool:
    """Whether a case that is not live can be opened again."""
    return case.status == "resolved" and case.reopenable_until is not None and at <= case.reopenable_until


def set_terms(file: CaseFile, terms: Terms, *, now: datetime) -> None:
    """Let what a policy asks for hold from now on, for the clocks that have not come to their end."""
    file.terms, file.case.policy_id = terms, terms.policy_id
    for metric in list(file.clocks):
        clock, target = _lapse(file, metric, now), terms.target(file.case.priority, metric)
        if (
            clock is not None
            and clock.ended_at is None
            and (target, terms.calendar_id) != (clock.target, clock.calendar_id)
        ):
            before, after = file.calendar(clock.calendar_id), file.calendar(terms.calendar_id)
            again = clocks.retargeted(clock, target=target, before=before, calendar=after, at=now)
            file.clocks[metric] = again if again is clock else _of(file, again)
            file.changed = True


def recalculate(file: CaseFile) -> None:
    """Let the clocks go by their calendars as those are now."""
    for metric, clock in file.clocks.items():
        if clock.calendar_id is not None:
            again = clocks.recalculated(clock, calendar=file.calendar(clock.calendar_id))
            file.clocks[metric] = _of(file, again, clock.calendar_id)
    file.changed = True


def look(file: CaseFile, *, now: datetime) -> list[tuple[Metric, Step]]:
    """Note who is late by now; the steps that are to be taken because of it, or because somebody soon will be."""
    due = []
    for metric in METRICS:
        clock = _lapse(file, metric, now)
        if clock is None or clock.ended_at is not None:
            continue
        steps = [
            step for step in file.terms.steps.get(metric, ()) if clock.warned is None or step.before < clock.warned
        ]
        if clock.state == "breached":
            taken = steps
        elif clock.next_at is not None and clock.next_at < now and clock.target is not None:
            left = clock.target - clock.elapsed_at(file.calendar(clock.calendar_id), now)
            taken = [step for step in steps if step.before >= max(left, timedelta.resolution)]
        else:
            continue
        due += [(metric, step) for step in taken]
        before = NOTHING if clock.state == "breached" else min((step.before for step in taken), default=clock.warned)
        if before != clock.warned:
            file.clocks[metric], file.changed = clocks.warned(clock, before), True
    return due


def settle(file: CaseFile) -> None:
    """Put down what follows from the clocks: when each is to be looked at, and what comes first of all."""
    for metric, clock in file.clocks.items():
        steps = [step.before for step in file.terms.steps.get(metric, ())]
        file.clocks[metric] = clocks.watched(clock, steps=steps, calendar=file.calendar(clock.calendar_id))
    running = [clock for clock in file.clocks.values() if clock.runs]
    file.case.due_at = min((at for clock in running if (at := clock.due_at or clock.breached_at)), default=None)
    file.case.clocks = [shown(clock) for clock in _ordered(file.clocks)]


def shown(clock: Clock) -> CaseClock:
    """A clock as people see it."""
    target = None if clock.target is None else _seconds(clock.target)
    return CaseClock(
        clock.metric, clock.state, target, _seconds(clock.elapsed), clock.started_at, clock.resumed_at, clock.due_at,
        clock.breached_at, clock.ended_at,
    )  # fmt: skip


def _wait(file: CaseFile, *, by: str, now: datetime) -> None:
    file.case.status = "waiting"
    if file.terms.pauses:
        _change(file, "resolution", clocks.paused, now)
    file.tell("waiting", at=now, now=now, by=by)


def _go_on(file: CaseFile, *, by: str, now: datetime) -> None:
    file.case.status = "open"
    _change(file, "resolution", clocks.resumed, now)
    file.tell("resumed", at=now, now=now, by=by)


def _resolve(file: CaseFile, *, by: str, now: datetime) -> None:
    case = file.case
    for metric in _REPLIES:
        _end(file, metric, now, by=by, now=now)
    clock = _end(file, "resolution", now, by=by, now=now)
    case.status, case.resolved_at, case.unanswered_since, case.with_bot = "resolved", now, None, False
    case.resolution_seconds = None if clock is None else _seconds(clock.elapsed)
    case.closing_agent, case.reopenable_until = case.assignee, now + file.terms.reopen_within
    file.tell(
        "resolved", at=now, now=now, by=by, assignee=case.assignee, first_reply_seconds=case.first_reply_seconds,
        resolution_seconds=case.resolution_seconds,
    )  # fmt: skip


def _start(file: CaseFile, metric: Metric, at: datetime) -> None:
    target = file.terms.target(file.case.priority, metric)
    calendar = file.calendar(file.terms.calendar_id)
    file.clocks[metric] = _of(file, clocks.started(metric, target=target, calendar=calendar, at=at))


def _end(file: CaseFile, metric: Metric, at: datetime, *, by: str, now: datetime) -> Clock | None:
    clock = file.clocks.get(metric)
    if clock is None or clock.ended_at is not None:
        return None
    again = clocks.ended(clock, calendar=file.calendar(clock.calendar_id), at=at)
    file.clocks[metric] = again
    if again.breached_at is not None and clock.breached_at is None:
        _breach(file, again, by=by, now=now)
    elif clock.breached_at is not None and again.breached_at is None:
        # What was in time was told of late: whoever counts breaches has to know.
        file.case.breach_count -= 1
        file.tell("breach_corrected", at=at, now=now, by=by, metric=metric)
    return again


def _breach(file: CaseFile, clock: Clock, *, by: str, now: datetime) -> None:
    assert clock.breached_at is not None, "it was just found to be late"
    file.case.breach_count += 1
    target = None if clock.target is None else _seconds(clock.target)
    file.tell(
        "breached", at=clock.breached_at, now=now, by=by, metric=clock.metric, target_seconds=target,
        assignee=file.case.assignee, priority=file.case.priority,
    )  # fmt: skip


def _lapse(file: CaseFile, metric: Metric, now: datetime) -> Clock | None:
    """The clock as it is now: breached, if it was due."""
    clock = file.clocks.get(metric)
    if clock is None:
        return None
    again = clocks.lapsed(clock, now=now)
    if again is not clock:
        file.clocks[metric] = again
        _breach(file, again, by=SYSTEM, now=now)
    return again


def _change(file: CaseFile, metric: Metric, how: _How, at: datetime) -> None:
    clock = _lapse(file, metric, at)
    if clock is not None:
        file.clocks[metric] = how(clock, calendar=file.calendar(clock.calendar_id), at=at)


def _of(file: CaseFile, clock: Clock, calendar_id: UUID | None = None) -> Clock:
    """The clock, by the calendar that is named or else by that of the terms, in its version."""
    calendar_id = calendar_id or file.terms.calendar_id
    known = None if calendar_id is None else file.calendars.get(calendar_id)
    return clocks.by_calendar(clock, calendar_id, None if known is None else known[1])


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _ordered(known: Mapping[Metric, Clock]) -> Iterator[Clock]:
    yield from (known[metric] for metric in METRICS if metric in known)


def entries(files: Iterable[CaseFile]) -> list[tuple[Any, ...]]:
    """All that is to be told, of several cases."""
    return [entry for file in files for entry in file.told]
