"""How threads are answered: whether at all, by whom, and how long customers wait for a human."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from asyncpg import Record

from crm.db.session import Session
from crm.insights import periods, zones
from crm.insights.bounds import bounded
from crm.insights.periods import Step
from crm.interactions.authorship import BY_HUMAN

# No message of a thread is older than the thread.
REPLIES: Final = f"""
    WITH said AS (
        SELECT t.contact_id, t.id, t.channel, i.occurred_at, i.direction, {BY_HUMAN} AS is_human,
            min(i.occurred_at) FILTER (WHERE i.direction = 'inbound') OVER (PARTITION BY t.contact_id, t.id) AS asked_at
        FROM threads t
        JOIN interactions i ON i.contact_id = t.contact_id AND i.thread_id = t.id AND i.occurred_at >= $1
        WHERE t.opened_at >= $1 AND t.opened_at < $2
    ), answered AS (
        SELECT channel, asked_at, min(occurred_at) FILTER (WHERE is_human) AS replied_at,
            bool_or(direction = 'outbound' AND NOT is_human) AS by_bot
        FROM said WHERE occurred_at >= asked_at GROUP BY contact_id, id, channel, asked_at
    )
    SELECT channel, grouping(channel) = 1 AS is_total, count(*) AS threads, count(replied_at) AS answered,
        count(*) FILTER (WHERE replied_at IS NULL AND by_bot) AS answered_by_bot,
        percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM replied_at - asked_at)::float8)
            FILTER (WHERE replied_at IS NOT NULL) AS seconds
    FROM answered GROUP BY GROUPING SETS ((channel), ()) ORDER BY channel NULLS FIRST LIMIT 1000
"""


@dataclass(slots=True)
class ReplyRow:
    """The threads of a channel, or all of them, in which a customer wrote.

    `answered` are those in which a human replied since, `answered_by_bot` those in which only a machine did, and
    `unanswered` the others. The seconds are those from the first message to the first reply of a human, half of the
    answered threads within the median and nine of ten within the 90th percentile; null where none is answered.
    """

    channel: str | None
    threads: int
    answered: int
    answered_by_bot: int
    unanswered: int
    first_reply_seconds_median: int | None
    first_reply_seconds_p90: int | None


@dataclass(slots=True)
class ReplyReport:
    """How the threads were answered by now that began in some local days, both inclusive."""

    time_zone: str
    starts_on: date
    ends_on: date
    total: ReplyRow
    channels: list[ReplyRow]


async def read(
    session: Session, *, first: date | None, last: date | None, by: Step = "month", zone: ZoneInfo | None, now: datetime
) -> ReplyReport:
    """The threads that began in these local days: in the last twelve periods where none are given.

    Raises InvalidPeriod, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        span = periods.of_report(first, last, by=by, zone=local, now=now)
        rows = await session.fetch(REPLIES, span.starts_at, span.ends_at)
    total = next((_row(row) for row in rows if row["is_total"]), ReplyRow(None, 0, 0, 0, 0, None, None))
    channels = [_row(row) for row in rows if not row["is_total"]]
    return ReplyReport(local.key, span.first, span.last, total, channels)


def _row(row: Record) -> ReplyRow:
    median, p90 = (None if each is None else round(each) for each in row["seconds"] or (None, None))
    return ReplyRow(
        row["channel"], row["threads"], row["answered"], row["answered_by_bot"],
        row["threads"] - row["answered"] - row["answered_by_bot"], median, p90,
    )  # fmt: skip
