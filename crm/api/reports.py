"""`/v1/insights`: what came in and how fast it was answered, over local days of a time zone."""

from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.params import QueryParameter

from crm.api import moments, tables
from crm.api.routes import AnyRequest, get
from crm.db.session import Session
from crm.insights import replies, volumes
from crm.insights.bounds import ReportTooLong
from crm.insights.periods import InvalidPeriod
from crm.insights.replies import ReplyReport, ReplyRow
from crm.insights.volumes import By, VolumeReport, VolumeRow

From = Annotated[
    str | None,
    QueryParameter(name="from", max_length=10, schema_extra=moments.DATE, description="The first local day."),
]
To = Annotated[
    str | None,
    QueryParameter(
        name="to", max_length=10, schema_extra=moments.DATE,
        description="The last local day, which is included; left out: today.",
    ),
]  # fmt: skip
Zone = Annotated[
    str | None,
    QueryParameter(
        name="time_zone", max_length=64, schema_extra=moments.TIME_ZONE,
        description="Whose days they are, an IANA time zone; left out: that of the default program, or else UTC.",
    ),
]  # fmt: skip
_Kind = Annotated[
    str | None,
    QueryParameter(
        name="kind", pattern=r"^[a-z][a-z0-9_.-]{0,62}$", description="Only interactions of this kind, as `message`."
    ),
]
_By = Annotated[By, QueryParameter(name="by", description="How long a period is, or each hour of the day over all.")]
PROBLEMS = (InvalidPeriod, ReportTooLong)


@get("/insights/volume", scopes={"insights:read"}, problems=PROBLEMS, also=(tables.CSV,))
async def report_volume(
    session: Session, request: AnyRequest, now: datetime, first: From = None, last: To = None, every: _By = "day",
    zone: Zone = None, kind: _Kind = None,
) -> Response[VolumeReport]:  # fmt: skip
    """Read how much comes in and goes out.

    Interactions by channel and direction, in each period or in each hour of the day. Without days, the last twelve
    periods up to today; at most 120 periods. With `Accept: text/csv`, the rows as a table.
    """
    report = await volumes.read(
        session, first=moments.day("from", first), last=moments.day("to", last), by=every,
        zone=moments.zone("time_zone", zone), kind=kind, now=now,
    )  # fmt: skip
    return tables.answer(request, report, rows=report.rows, of=VolumeRow)


@get("/insights/replies", scopes={"insights:read"}, problems=PROBLEMS, also=(tables.CSV,))
async def report_replies(
    session: Session, request: AnyRequest, now: datetime, first: From = None, last: To = None, zone: Zone = None
) -> Response[ReplyReport]:
    """Read how threads are answered.

    Those that began in these days and in which a customer wrote, by channel: how many a human answered by now, and how
    long the first reply took. Without days, the last twelve months. With `Accept: text/csv`, the channels as a table.
    """
    report = await replies.read(
        session, first=moments.day("from", first), last=moments.day("to", last),
        zone=moments.zone("time_zone", zone), now=now,
    )  # fmt: skip
    return tables.answer(request, report, rows=report.channels, of=ReplyRow)


handlers = [report_volume, report_replies]
