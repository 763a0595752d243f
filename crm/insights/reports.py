"""Reports on a program's points: what moved in each period, and what became of the points of each month.

They say what the ledger's movements say and nothing else, so their sums are its sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record

from crm.db.session import Session
from crm.insights import periods
from crm.insights.buckets import OPEN, arrived, into, left
from crm.insights.periods import Span, Step
from crm.loyalty import programs

_RATE_UNIT: Final = Decimal("0.0001")


@dataclass(slots=True)
class PointsPeriod:
    """What moved in some local days, both inclusive.

    `redeemed` is all that was spent and `returned` what came back of it, whenever it was spent; `transferred_out` and
    `transferred_in` are what members gave to others and got. `expired` and `revoked` are less what was given back.
    `net` is what the members' points have grown by, pending and held ones among them:
    issued + returned + transferred_in - redeemed - expired - revoked - transferred_out.
    """

    starts_on: date
    ends_on: date
    issued: int
    redeemed: int
    returned: int
    expired: int
    revoked: int
    transferred_out: int
    transferred_in: int
    net: int


@dataclass(slots=True)
class PointsReport:
    """What moved in each period; the first and the last may be parts of a week or month."""

    program_id: UUID
    program_name: str
    time_zone: str
    by: Step
    periods: list[PointsPeriod]
    total: PointsPeriod


@dataclass(slots=True)
class LotSums:
    """What became of points: issued = redeemed + expired + revoked + transferred + open.

    Each is less what came back. `transferred` are points given to other members or used to fill a deficit, less those
    that came from there.
    """

    issued: int
    redeemed: int
    expired: int
    revoked: int
    transferred: int
    open: int


@dataclass(slots=True)
class Cohort:
    """What has become, until now, of the points earned in some local days: issued = the sum of the others.

    `breakage_rate` is expired / issued and `redemption_rate` redeemed / issued, null where nothing was issued.
    """

    starts_on: date
    ends_on: date
    issued: int
    redeemed: int
    expired: int
    revoked: int
    transferred: int
    open: int
    breakage_rate: str | None
    redemption_rate: str | None


@dataclass(slots=True)
class CohortReport:
    """What has become of the points of each month of earning.

    `deficits` is what was taken of points that nobody had, of all times: with it, the cohorts add up to the ledger.
    """

    program_id: UUID
    program_name: str
    time_zone: str
    cohorts: list[Cohort]
    total: Cohort
    deficits: LotSums


async def points(
    session: Session, *, program_id: UUID, first: date | None, last: date | None, by: Step, now: datetime
) -> PointsReport:
    """What moved between two local days, by day, week or month; the last twelve of these where no days are given.

    Facts count when they occurred, in the program's time zone. Raises ProgramNotFound, InvalidPeriod.
    """
    program = await programs.get(session, program_id=program_id)
    span = periods.of_report(first, last, by=by, zone=ZoneInfo(program.time_zone), now=now)
    spans = span.split(by)
    rows = await session.fetch(POINTS, program_id, _starts(spans), span.starts_at, span.ends_at)
    found = {row["period"]: row for row in rows}
    shown = [_period(each, found.get(number)) for number, each in enumerate(spans, 1)]
    total = PointsPeriod(span.first, span.last, *(sum(getattr(one, name) for one in shown) for name in _MOVED))
    return PointsReport(program.id, program.name, program.time_zone, by, shown, total)


async def moved(session: Session, *, program_id: UUID, span: Span) -> PointsPeriod:
    """What moved in some local days of any time zone, together."""
    row = await session.fetchrow(POINTS, program_id, [span.starts_at], span.starts_at, span.ends_at)
    return _period(span, row)


async def cohorts(
    session: Session, *, program_id: UUID, first: date | None, last: date | None, now: datetime
) -> CohortReport:
    """What has become of the points earned between two local days, by month; of the last twelve where none are given.

    Raises ProgramNotFound, InvalidPeriod.
    """
    program = await programs.get(session, program_id=program_id)
    span = periods.of_report(first, last, by="month", zone=ZoneInfo(program.time_zone), now=now)
    spans = span.split("month")
    rows = await session.fetch(COHORTS, program_id, [*_starts(spans), span.ends_at])
    found = {row["cohort"]: _sums(row) for row in rows}
    nothing = LotSums(0, 0, 0, 0, 0, 0)
    shown = [_cohort(each, found.get(number, nothing)) for number, each in enumerate(spans, 1)]
    total = LotSums(*(sum(getattr(one, name) for one in shown) for name in _SUMS))
    return CohortReport(
        program.id, program.name, program.time_zone, shown, _cohort(span, total), found.get(_DEFICITS, nothing)
    )


def _starts(spans: Sequence[Span]) -> list[datetime]:
    return [each.starts_at for each in spans]


def _period(span: Span, row: Record | None) -> PointsPeriod:
    return PointsPeriod(span.first, span.last, *(0 if row is None else int(row[name]) for name in _MOVED))


def _sums(row: Record) -> LotSums:
    return LotSums(*(int(row[name]) for name in _SUMS))


def _cohort(span: Span, sums: LotSums) -> Cohort:
    return Cohort(
        span.first, span.last, sums.issued, sums.redeemed, sums.expired, sums.revoked, sums.transferred, sums.open,
        rate(sums.expired, sums.issued), rate(sums.redeemed, sums.issued),
    )  # fmt: skip


def rate(part: int, whole: int) -> str | None:
    """A share in a decimal string of four digits; None of nothing."""
    return str((Decimal(part) / whole).quantize(_RATE_UNIT, ROUND_HALF_UP)) if whole > 0 else None


_MOVED: Final = tuple(each.name for each in fields(PointsPeriod)[2:])
_SUMS: Final = tuple(each.name for each in fields(LotSums))
_DEFICITS: Final = -1
"""The number of what was not earned at any time; `width_bucket` counts from 0, which is before the first month."""

# The borders come from Python, so that Postgres' own time zones have no say in them. Points that only pass through
# `transferred` within one transaction fill a deficit, and were not given to anybody.
POINTS: Final = f"""
    WITH moved AS (
        SELECT width_bucket(occurred_at, $2::timestamptz[]) AS period, -{into("issued")} AS issued,
            {arrived("redeemed")} AS redeemed,
            {left("redeemed")} AS returned,
            {into("expired")} AS expired, {into("revoked")} AS revoked, {into(*OPEN)} AS net
        FROM points_movements WHERE program_id = $1 AND occurred_at >= $3 AND occurred_at < $4 GROUP BY period
    ), given AS (
        SELECT period, coalesce(sum(points) FILTER (WHERE points > 0), 0) AS transferred_out,
            coalesce(-sum(points) FILTER (WHERE points < 0), 0) AS transferred_in
        FROM (
            SELECT width_bucket(occurred_at, $2::timestamptz[]) AS period, {into("transferred")} AS points
            FROM points_movements
            WHERE program_id = $1 AND occurred_at >= $3 AND occurred_at < $4
                AND 'transferred' IN (from_bucket, to_bucket)
            GROUP BY period, contact_id, transaction_id
        ) t GROUP BY period
    )
    SELECT m.*, coalesce(g.transferred_out, 0) AS transferred_out, coalesce(g.transferred_in, 0) AS transferred_in
    FROM moved m LEFT JOIN given g USING (period)
"""

# All lots, though not all are shown: with a filter of a few months Postgres may expect so few lots that it goes to the
# account of each one, which takes a hundred times as long as reading everything once.
COHORTS: Final = f"""
    SELECT CASE l.kind WHEN 'regular' THEN width_bucket(l.earned_at, $2::timestamptz[]) ELSE {_DEFICITS} END AS cohort,
        -{into("issued")} AS issued, {into("redeemed")} AS redeemed, {into("expired")} AS expired,
        {into("revoked")} AS revoked, {into("transferred")} AS transferred, {into(*OPEN)} AS open
    FROM points_lots l
    JOIN points_movements m ON m.contact_id = l.contact_id AND m.program_id = l.program_id AND m.lot_id = l.id
    WHERE l.program_id = $1 GROUP BY cohort
"""
