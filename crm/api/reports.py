"""`/v1/insights`: what came in and how fast it was answered, over local days of a time zone."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import QueryParameter

from crm.api import moments, tables
from crm.api.loyalty import ProgramId
from crm.api.routes import AnyRequest, get
from crm.care.scores import Kind
from crm.care.surveys import SurveyNotFound
from crm.db.session import Session
from crm.insights import case_reports, overview, replies, trends, volumes
from crm.insights.bounds import ReportTooLong
from crm.insights.case_reports import CaseReport, CaseRow
from crm.insights.overview import Figure, Overview
from crm.insights.periods import InvalidPeriod, Step
from crm.insights.replies import ReplyReport, ReplyRow
from crm.insights.satisfaction import Aspect
from crm.insights.trends import Trend, TrendRow
from crm.insights.volumes import By, VolumeReport, VolumeRow
from crm.loyalty.programs import ProgramNotFound

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
Every = Annotated[Step, QueryParameter(name="by", description="How long a period is; left out: a month.")]
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


@get("/insights/surveys", scopes={"insights:read"}, problems=(*PROBLEMS, SurveyNotFound), also=(tables.CSV,))
async def report_surveys(
    session: Session, request: AnyRequest, now: datetime, first: From = None, last: To = None, every: Every = "month",
    zone: Zone = None,
    kind: Annotated[Kind | None, QueryParameter(name="kind", description="Only surveys of this kind.")] = None,
    survey_id: Annotated[UUID | None, QueryParameter(name="survey", description="Only this survey.")] = None,
    group_by: Annotated[Aspect | None, QueryParameter(description="A score for each of these in each period.")] = None,
) -> Response[Trend]:  # fmt: skip
    """Read how surveys' scores change.

    Of those who were asked in each period. No answers are no score; NPS has the margin of a 95 % confidence interval.
    Tiers and segments are those of today, and whoever is in several segments is counted in each. Without days, the last
    twelve periods. With `Accept: text/csv`, the rows as a table.
    """
    report = await trends.read(
        session, first=moments.day("from", first), last=moments.day("to", last), by=every,
        zone=moments.zone("time_zone", zone), kind=kind, survey_id=survey_id, group_by=group_by, now=now,
    )  # fmt: skip
    return tables.answer(request, report, rows=report.rows, of=TrendRow)


@get("/insights/cases", scopes={"insights:read"}, problems=PROBLEMS, also=(tables.CSV,))
async def report_cases(
    session: Session, request: AnyRequest, now: datetime, first: From = None, last: To = None, every: Every = "month",
    zone: Zone = None,
    group_by: Annotated[
        case_reports.Aspect | None, QueryParameter(description="The same for each of these in each period.")
    ] = None,
) -> Response[CaseReport]:  # fmt: skip
    """Read how cases went.

    Of those that were opened in each period: how long the first reply and the resolution took, in working time and by
    the clock on the wall, how many were late, and how many were opened again. The agent is who resolved a case, or else
    who has it. Without days, the last twelve periods. With `Accept: text/csv`, the rows as a table.
    """
    report = await case_reports.read(
        session, first=moments.day("from", first), last=moments.day("to", last), by=every,
        zone=moments.zone("time_zone", zone), group_by=group_by, now=now,
    )  # fmt: skip
    return tables.answer(request, report, rows=report.rows, of=CaseRow)


@get("/insights/overview", scopes={"insights:read"}, problems=(*PROBLEMS, ProgramNotFound), also=(tables.CSV,))
async def report_overview(
    session: Session, request: AnyRequest, now: datetime, program: ProgramId = None, first: From = None,
    last: To = None, zone: Zone = None,
) -> Response[Overview]:  # fmt: skip
    """Read the main numbers of everything.

    Points, members and what they are owed, what came in and how it was answered, cases, surveys, self-service, and why
    customers wrote. Without days, of the last thirty; at most 366. With `Accept: text/csv`, one number a row.
    """
    found = await overview.read(
        session, program_id=program, first=moments.day("from", first), last=moments.day("to", last),
        zone=moments.zone("time_zone", zone), now=now,
    )  # fmt: skip
    return tables.answer(request, found, rows=overview.figures(found), of=Figure)


handlers = [report_volume, report_replies, report_surveys, report_cases, report_overview]
