"""How much comes in and goes out: interactions by channel and direction, in each period or hour of the day."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from itertools import product
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from crm.db.session import Session
from crm.errors import FieldError
from crm.insights import hours, periods, zones
from crm.insights.bounds import bounded
from crm.insights.periods import InvalidPeriod, Span, Step

By: TypeAlias = Literal["day", "week", "month", "hour"]

HOURS: Final = 24
HOURLY_DAYS_MAX: Final = 366
ROWS_MAX: Final = 20_000

# The borders come from Python, so that Postgres' own time zones have no say in them: `$4` says of each of them where
# what lies behind it is counted.
COUNTS: Final = f"""
    SELECT channel, direction, ($4::int[])[width_bucket(occurred_at, $3::timestamptz[])] AS place, count(*) AS count
    FROM interactions
    WHERE occurred_at >= $1 AND occurred_at < $2 AND direction IS NOT NULL AND ($5::text IS NULL OR kind = $5)
    GROUP BY 1, 2, 3 LIMIT {ROWS_MAX + 1}
"""


@dataclass(slots=True)
class VolumeRow:
    """How many interactions there were in some local days, both inclusive, or in one hour of all of these days."""

    starts_on: date
    ends_on: date
    hour: int | None
    channel: str
    direction: str
    count: int


@dataclass(slots=True)
class VolumeReport:
    """All that came in, went out or was said among staff. Of a channel and direction that occur, no period is left out.

    What has no direction, such as points, is not counted.
    """

    time_zone: str
    by: By
    starts_on: date
    ends_on: date
    total: int
    rows: list[VolumeRow]


async def read(
    session: Session,
    *,
    first: date | None,
    last: date | None,
    by: By,
    zone: ZoneInfo | None,
    kind: str | None,
    now: datetime,
) -> VolumeReport:
    """What occurred in these local days, of one `kind` or of all: the last twelve periods where none are given.

    By the hour, it is of the last twelve days. Raises InvalidPeriod, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        step: Step = "day" if by == "hour" else by
        span = periods.of_report(first, last, by=step, zone=local, now=now)
        borders, places = _hourly(span) if by == "hour" else _stepwise(span, step)
        rows = await session.fetch(COUNTS, span.starts_at, span.ends_at, borders, places, kind)
    if len(rows) > ROWS_MAX:
        raise InvalidPeriod(
            f"A report has at most {ROWS_MAX} rows: ask for fewer days, for longer periods, or for one kind.",
            errors=[FieldError("query/from", "too_many_rows", f"makes more than {ROWS_MAX} rows")],
        )
    counts = Counter({(row["channel"], row["direction"], row["place"]): int(row["count"]) for row in rows})
    pairs = sorted({(channel, direction) for channel, direction, _ in counts})
    shown: list[tuple[Span, int | None]] = (
        [(span, hour) for hour in range(HOURS)] if by == "hour" else [(each, None) for each in span.split(step)]
    )
    return VolumeReport(
        local.key, by, span.first, span.last, counts.total(),
        [
            VolumeRow(each.first, each.last, hour, channel, direction, counts[channel, direction, place])
            for (place, (each, hour)), (channel, direction) in product(enumerate(shown), pairs)
        ],
    )  # fmt: skip


def _hourly(span: Span) -> tuple[list[datetime], list[int]]:
    if (span.last - span.first).days >= HOURLY_DAYS_MAX:
        raise InvalidPeriod(
            f"By the hour, a report covers at most {HOURLY_DAYS_MAX} days.",
            errors=[FieldError("query/from", "too_many_days", f"lies more than {HOURLY_DAYS_MAX} days back")],
        )
    cells = list(hours.of(span))
    return [cell.starts_at for cell in cells], [cell.hour for cell in cells]


def _stepwise(span: Span, step: Step) -> tuple[list[datetime], list[int]]:
    starts = [each.starts_at for each in span.split(step)]
    return starts, list(range(len(starts)))
