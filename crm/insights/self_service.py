"""How far customers help themselves: what they look for and find, whether it helps, and what the bot answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from crm.db.session import Session
from crm.insights import periods, zones
from crm.insights.bounds import bounded
from crm.insights.periods import Span, Step
from crm.insights.reports import rate

_PLACE: Final = "width_bucket({}, $3::timestamptz[]) - 1"
_COUNTS: Final = f"""
    SELECT {_PLACE.format("hour")} AS place, 'searches' AS what, sum(searches_count)::bigint AS count
    FROM article_searches WHERE hour >= $1 AND hour < $2 GROUP BY 1
    UNION ALL
    SELECT {_PLACE.format("hour")}, 'found', sum(found_count)::bigint
    FROM article_searches WHERE hour >= $1 AND hour < $2 GROUP BY 1
    UNION ALL
    SELECT {_PLACE.format("hour")}, 'views', sum(views_count)::bigint
    FROM article_views WHERE hour >= $1 AND hour < $2 GROUP BY 1
    UNION ALL
    SELECT {_PLACE.format("created_at")}, CASE WHEN helpful THEN 'helpful' ELSE 'unhelpful' END, count(*)
    FROM article_votes WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2
    UNION ALL
    SELECT {_PLACE.format("created_at")}, outcome, count(*)
    FROM assistant_replies WHERE created_at >= $1 AND created_at < $2 GROUP BY 1, 2
"""


@dataclass(slots=True)
class SelfServiceRow:
    """What happened in some local days, both inclusive; searches and views by the hours that began in them.

    `found` are the searches that found something, the assistant's also among them. Of the bot's replies `answered` left
    nobody to do anything, `refused` said that it may not tell, and with `handed_over` people went on. The rates are
    found / searches, helpful / all votes, and answered / all replies; null where there were none.
    """

    starts_on: date
    ends_on: date
    searches: int
    found: int
    found_rate: str | None
    views: int
    helpful: int
    unhelpful: int
    helpful_rate: str | None
    answered: int
    refused: int
    handed_over: int
    answered_rate: str | None


@dataclass(slots=True)
class SelfServiceReport:
    """How far customers helped themselves in each period."""

    time_zone: str
    by: Step
    starts_on: date
    ends_on: date
    total: SelfServiceRow
    rows: list[SelfServiceRow]


async def read(
    session: Session, *, first: date | None, last: date | None, by: Step, zone: ZoneInfo | None, now: datetime
) -> SelfServiceReport:
    """What happened in these local days: in the last twelve periods where none are given.

    Raises InvalidPeriod, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        span = periods.of_report(first, last, by=by, zone=local, now=now)
        spans = span.split(by)
        rows = await session.fetch(_COUNTS, span.starts_at, span.ends_at, [each.starts_at for each in spans])
    counts: list[dict[str, int]] = [{} for _ in spans]
    total: dict[str, int] = {}
    for place, what, count in rows:
        counts[place][what] = count
        total[what] = total.get(what, 0) + count
    shown = [_row(each, of) for each, of in zip(spans, counts, strict=True)]
    return SelfServiceReport(local.key, by, span.first, span.last, _row(span, total), shown)


def _row(span: Span, counts: Mapping[str, int]) -> SelfServiceRow:
    searches, found, views, helpful, unhelpful, answered, refused, handed_over = (
        counts.get(what, 0)
        for what in ("searches", "found", "views", "helpful", "unhelpful", "answered", "refused", "handed_over")
    )
    return SelfServiceRow(
        span.first, span.last, searches, found, rate(found, searches), views, helpful, unhelpful,
        rate(helpful, helpful + unhelpful), answered, refused, handed_over,
        rate(answered, answered + refused + handed_over),
    )  # fmt: skip
