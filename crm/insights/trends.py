"""How what customers say changes: scores of all surveys of a kind in each period, by channel, agent, tier, segment."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.care import surveys
from crm.care.scores import Kind, Score
from crm.db.session import Session
from crm.errors import FieldError
from crm.insights import periods, zones
from crm.insights.bounds import bounded
from crm.insights.periods import InvalidPeriod, Span, Step
from crm.insights.satisfaction import ASPECTS, Aspect, Counts, Grouping, summed

ROWS_MAX: Final = 20_000

_ALL: Final = Grouping("NULL::text")
_COUNTS: Final = """
    WITH asked AS MATERIALIZED (
        SELECT i.contact_id, i.kind, i.channel, i.agent, i.score,
            width_bucket(i.created_at, $3::timestamptz[]) - 1 AS place
        FROM survey_invitations i
        WHERE i.created_at >= $1 AND i.created_at < $2 AND ($4::text IS NULL OR i.kind = $4)
            AND ($5::uuid IS NULL OR i.survey_id = $5)
    )
    SELECT true AS is_total, kind, NULL AS of, place, score, count(*) AS count FROM asked GROUP BY kind, place, score
    UNION ALL
    (SELECT false, i.kind, {by}, i.place, i.score, count(*) FROM asked i {joins} GROUP BY 2, 3, 4, 5 LIMIT {limit})
"""
_ANSWERS_MAX: Final = 12
"""How many different answers there are on the longest scale, none among them."""


@dataclass(slots=True)
class TrendRow:
    """What those said who were asked in some local days, both inclusive.

    `response_rate` is the answered part of the invitations, in percent; null where nobody was asked, as all scores are
    where nobody answered. `group` is null for those of whom nothing is known in that respect.
    """

    kind: Kind
    starts_on: date
    ends_on: date
    group: str | None
    invitations: int
    response_rate: float | None
    score: Score


@dataclass(slots=True)
class Trend:
    """The scores of each kind that was asked about: over all, in each period, and for each group in each period."""

    time_zone: str
    by: Step
    group_by: Aspect | None
    starts_on: date
    ends_on: date
    totals: list[TrendRow]
    rows: list[TrendRow]


async def read(
    session: Session,
    *,
    first: date | None,
    last: date | None,
    by: Step,
    zone: ZoneInfo | None,
    kind: Kind | None,
    survey_id: UUID | None,
    group_by: Aspect | None,
    now: datetime,
) -> Trend:
    """What those said who were asked in these local days: in the last twelve periods where none are given.

    Of a kind that occurs no period is left out. Raises InvalidPeriod, SurveyNotFound, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        span = periods.of_report(first, last, by=by, zone=local, now=now)
        spans = span.split(by)
        if survey_id is not None:
            await surveys.get(session, survey_id=survey_id)
        grouping = ASPECTS[group_by] if group_by is not None else _ALL
        limit = ROWS_MAX * _ANSWERS_MAX + 1
        rows = await session.fetch(
            _COUNTS.format(by=grouping.by, joins=grouping.joins, limit=limit),
            span.starts_at, span.ends_at, [each.starts_at for each in spans], kind, survey_id,
        )  # fmt: skip
    whole: dict[Kind, Counts] = defaultdict(lambda: defaultdict(int))
    parts: dict[tuple[Kind, str | None], dict[int, Counts]] = defaultdict(lambda: defaultdict(dict))
    for is_total, of_kind, of, place, value, count in rows:
        if is_total:
            whole[of_kind][value] += count
        if is_total == (group_by is None):
            parts[of_kind, of][place][value] = count
    if len(parts) * len(spans) > ROWS_MAX or len(rows) >= limit:
        raise InvalidPeriod(
            f"A report has at most {ROWS_MAX} rows: ask for fewer days, or for longer periods.",
            errors=[FieldError("query/from", "too_many_rows", f"makes more than {ROWS_MAX} rows")],
        )
    return Trend(
        local.key, by, group_by, span.first, span.last,
        [_row(of_kind, span, None, counts) for of_kind, counts in sorted(whole.items())],
        [
            _row(of_kind, each, of, counts.get(place, {}))
            for (of_kind, of), counts in sorted(parts.items(), key=lambda part: _order(*part[0]))
            for place, each in enumerate(spans)
        ],
    )  # fmt: skip


def _order(kind: Kind, group: str | None) -> tuple[Kind, bool, str]:
    return kind, group is None, group or ""


def _row(kind: Kind, span: Span, group: str | None, counts: Counts) -> TrendRow:
    return TrendRow(kind, span.first, span.last, group, *summed(kind, counts))
