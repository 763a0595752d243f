"""How cases went: replies, resolutions, breaches and reopenings in each period, and what is still to be done."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from asyncpg import Record

from crm.db.session import Session
from crm.errors import FieldError
from crm.insights import periods, zones
from crm.insights.bounds import bounded
from crm.insights.periods import InvalidPeriod, Span, Step
from crm.insights.reports import rate

Aspect: TypeAlias = Literal["channel", "agent", "priority", "category"]

ROWS_MAX: Final = 20_000

# The agent is who had the case when it was resolved, or else who has it now.
_ASPECTS: Final[Mapping[Aspect | None, str]] = {
    None: "NULL::text", "channel": "c.channel", "agent": "coalesce(c.closing_agent, c.assignee)",
    "priority": "c.priority", "category": "c.category",
}  # fmt: skip
# A case is late from its due time on, whether or not anybody has noted it.
_LATE: Final = "coalesce({0}.state = 'breached' OR ({0}.state = 'active' AND {0}.due_at < $4), false)"
_CASES: Final = f"""
    WITH asked AS (
        SELECT width_bucket(c.created_at, $3::timestamptz[]) - 1 AS place, {{by}} AS of,
            CASE WHEN c.first_replied_at IS NOT NULL THEN c.first_reply_seconds END AS reply_worked,
            extract(epoch FROM c.first_replied_at - least(coalesce(f.started_at, c.created_at), c.first_replied_at))
                AS reply_wall,
            c.resolution_seconds AS resolution_worked,
            extract(epoch FROM c.resolved_at - c.created_at) AS resolution_wall,
            c.first_replied_at, c.resolved_at, c.breach_count, c.reopen_count,
            {_LATE.format("f")} AS reply_late, {_LATE.format("r")} AS resolution_late
        FROM cases c
        LEFT JOIN case_clocks f ON f.contact_id = c.contact_id AND f.case_id = c.id AND f.metric = 'first_reply'
        LEFT JOIN case_clocks r ON r.contact_id = c.contact_id AND r.case_id = c.id AND r.metric = 'resolution'
        WHERE c.created_at >= $1 AND c.created_at < $2
    )
    SELECT grouping(place) = 1 AS is_total, place, of, count(*) AS cases, count(first_replied_at) AS replied,
        count(resolved_at) AS resolved,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY reply_worked::float8) AS reply_worked,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY reply_wall::float8) AS reply_wall,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY resolution_worked::float8) AS resolution_worked,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY resolution_wall::float8) AS resolution_wall,
        count(*) FILTER (WHERE breach_count > 0 OR reply_late OR resolution_late) AS breached,
        count(*) FILTER (WHERE reply_late) AS first_reply_breached,
        count(*) FILTER (WHERE resolution_late) AS resolution_breached,
        count(*) FILTER (WHERE reopen_count > 0) AS reopened, coalesce(sum(reopen_count), 0) AS reopen_count
    FROM asked GROUP BY GROUPING SETS ((place, of), ()) LIMIT {ROWS_MAX + 2}
"""
_BACKLOG: Final = """
    SELECT count(*) FILTER (WHERE status = 'open'), count(*) FILTER (WHERE status = 'waiting'),
        count(*) FILTER (WHERE assignee IS NULL), count(*) FILTER (WHERE unanswered_since IS NOT NULL),
        count(*) FILTER (WHERE due_at < $1), min(created_at)
    FROM cases WHERE status IN ('open', 'waiting')
"""


@dataclass(slots=True)
class Durations:
    """How long it took half of them at most, and nine of ten: in seconds of working time, and by the clock on the wall.

    Null where it came to none of them yet.
    """

    working_seconds_median: int | None
    working_seconds_p90: int | None
    wall_seconds_median: int | None
    wall_seconds_p90: int | None


@dataclass(slots=True)
class CaseRow:
    """The cases that were opened in some local days, both inclusive, and what became of them by now.

    `group` is null for those of which nothing is known in that respect. The first reply is a human's, from the opening
    or the hand-over by a bot on. `breached` are those that were late in any way, `reopened` those that were opened
    again, `reopen_count` times in all.
    """

    starts_on: date
    ends_on: date
    group: str | None
    cases: int
    replied: int
    resolved: int
    first_reply: Durations
    resolution: Durations
    breached: int
    breach_rate: str | None
    first_reply_breached: int
    resolution_breached: int
    reopened: int
    reopen_count: int


@dataclass(slots=True)
class Backlog:
    """The cases that are open or wait for the customer now; how many of them nobody has, wait for us, or are late."""

    open: int
    waiting: int
    unassigned: int
    unanswered: int
    overdue: int
    oldest_created_at: datetime | None


@dataclass(slots=True)
class CaseReport:
    """How cases went. Of a group that occurs no period is left out; `backlog` is that of now, whatever the days."""

    time_zone: str
    by: Step
    group_by: Aspect | None
    starts_on: date
    ends_on: date
    total: CaseRow
    rows: list[CaseRow]
    backlog: Backlog


async def read(
    session: Session,
    *,
    first: date | None,
    last: date | None,
    by: Step,
    zone: ZoneInfo | None,
    group_by: Aspect | None,
    now: datetime,
) -> CaseReport:
    """The cases that were opened in these local days: in the last twelve periods where none are given.

    Raises InvalidPeriod, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        span = periods.of_report(first, last, by=by, zone=local, now=now)
        spans = span.split(by)
        rows = await session.fetch(
            _CASES.format(by=_ASPECTS[group_by]), span.starts_at, span.ends_at, [each.starts_at for each in spans], now
        )
        backlog = await session.fetchrow(_BACKLOG, now)
    assert backlog is not None, "a count has always a row"
    found: dict[str | None, dict[int, Record]] = defaultdict(dict)
    for row in rows:
        if not row["is_total"]:
            found[row["of"]][row["place"]] = row
    if max(len(rows), len(found) * len(spans)) > ROWS_MAX:
        raise InvalidPeriod(
            f"A report has at most {ROWS_MAX} rows: ask for fewer days, or for longer periods.",
            errors=[FieldError("query/from", "too_many_rows", f"makes more than {ROWS_MAX} rows")],
        )
    if group_by is None:
        found.setdefault(None, {})
    return CaseReport(
        local.key, by, group_by, span.first, span.last,
        _row(span, None, next(row for row in rows if row["is_total"])),
        [
            _row(each, of, places.get(place))
            for of, places in sorted(found.items(), key=lambda group: (group[0] is None, group[0] or ""))
            for place, each in enumerate(spans)
        ],
        Backlog(*backlog),
    )  # fmt: skip


def _row(span: Span, group: str | None, row: Record | None) -> CaseRow:
    if row is None:
        none = Durations(None, None, None, None)
        return CaseRow(span.first, span.last, group, 0, 0, 0, none, none, 0, None, 0, 0, 0, 0)
    return CaseRow(
        span.first, span.last, group, row["cases"], row["replied"], row["resolved"],
        Durations(*_rounded(row["reply_worked"]), *_rounded(row["reply_wall"])),
        Durations(*_rounded(row["resolution_worked"]), *_rounded(row["resolution_wall"])),
        row["breached"], rate(row["breached"], row["cases"]), row["first_reply_breached"], row["resolution_breached"],
        row["reopened"], int(row["reopen_count"]),
    )  # fmt: skip


def _rounded(seconds: Sequence[float | None] | None) -> tuple[int | None, int | None]:
    median, p90 = (None if each is None else round(each) for each in seconds or (None, None))
    return median, p90
