"""What is read off the ledger: a member's statement, what a program owes, what moved and what became of it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.params import FromPath, QueryParameter

from crm.api import moments, tables
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.routes import AnyRequest, get
from crm.db.session import Session
from crm.insights import liabilities, pages, reports, statements
from crm.insights.liabilities import Liability
from crm.insights.periods import InvalidPeriod, Step
from crm.insights.reports import Cohort, CohortReport, PointsPeriod, PointsReport
from crm.insights.statements import Statement
from crm.loyalty.programs import ProgramNotFound

_From = Annotated[
    str | None,
    QueryParameter(
        name="from", max_length=10, schema_extra=moments.DATE, description="The first day, in the program's time zone."
    ),
]
_To = Annotated[
    str | None,
    QueryParameter(name="to", max_length=10, schema_extra=moments.DATE, description="The last day; it is included."),
]
_AsOf = Annotated[
    str | None,
    QueryParameter(
        name="as_of", max_length=40, schema_extra=moments.DATE_TIME, description="At which instant; left out: now."
    ),
]
_By = Annotated[Step, QueryParameter(name="by", description="How long a period is; left out: a month.")]
_Locale = Annotated[
    str | None,
    QueryParameter(
        name="locale", pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}$",
        description="Such as `id-ID`: Indonesian for `id`, else English. Left out: the contact's.",
    ),
]  # fmt: skip


@get("/contacts/{contact_id:uuid}/loyalty/statement", scopes={"loyalty:read"}, problems=(*PROGRAM, InvalidPeriod))
async def get_statement(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, first: _From = None,
    last: _To = None,
) -> Statement:  # fmt: skip
    """Read a contact's statement.

    What there was before the first day, what happened up to the last one, and what there was then: opening, omitted
    and entries add up to closing. Without days it is that of the last full month; it covers at most 366 days.
    """
    return await statements.read(
        session, program_id=program, contact_id=contact_id, first=moments.day("from", first),
        last=moments.day("to", last), now=now,
    )  # fmt: skip


@get(
    "/contacts/{contact_id:uuid}/loyalty/statement.html",
    scopes={"loyalty:read"},
    problems=(*PROGRAM, InvalidPeriod),
    media_type="text/html",
)
async def show_statement(
    session: Session, contact_id: FromPath[UUID], now: datetime, program: ProgramId = None, first: _From = None,
    last: _To = None, locale: _Locale = None,
) -> str:  # fmt: skip
    """Read a contact's statement as a page.

    The same as the statement, to be printed on A4 or read on a phone. It loads nothing from anywhere.
    """
    return await pages.statement(
        session, program_id=program, contact_id=contact_id, first=moments.day("from", first),
        last=moments.day("to", last), locale=locale, now=now,
    )  # fmt: skip


@get("/programs/{program_id:uuid}/liability", scopes={"insights:read"}, problems=(ProgramNotFound,))
async def get_liability(session: Session, program_id: FromPath[UUID], now: datetime, as_of: _AsOf = None) -> Liability:
    """Read what a program owes its members.

    Points that members owe (`deficit`) are not set off against those of others. In the past it is what had happened
    by then; in the future what is left if nothing but time happens.
    """
    return await liabilities.read(session, program_id=program_id, as_of=moments.instant("as_of", as_of), now=now)


@get(
    "/programs/{program_id:uuid}/reports/points",
    scopes={"insights:read"},
    problems=(ProgramNotFound, InvalidPeriod),
    also=(tables.CSV,),
)
async def report_points(
    session: Session, program_id: FromPath[UUID], request: AnyRequest, now: datetime, first: _From = None,
    last: _To = None, every: _By = "month",
) -> Response[PointsReport]:  # fmt: skip
    """Read what moved in each period.

    Exactly the ledger's sums, by the program's local days; without days, the last twelve periods up to today. At most
    120 periods. With `Accept: text/csv`, the periods as a table.
    """
    report = await reports.points(
        session,
        program_id=program_id,
        first=moments.day("from", first),
        last=moments.day("to", last),
        by=every,
        now=now,
    )
    return tables.answer(request, report, name=report.program_name, rows=report.periods, of=PointsPeriod)


@get(
    "/programs/{program_id:uuid}/reports/cohorts",
    scopes={"insights:read"},
    problems=(ProgramNotFound, InvalidPeriod),
    also=(tables.CSV,),
)
async def report_cohorts(
    session: Session, program_id: FromPath[UUID], request: AnyRequest, now: datetime, first: _From = None,
    last: _To = None,
) -> Response[CohortReport]:  # fmt: skip
    """Read what became of the points of each month.

    The months in which points were earned, and what of them is spent, expired or still open by now; without days, the
    last twelve. At most 120 months. With `Accept: text/csv`, the cohorts as a table.
    """
    report = await reports.cohorts(
        session, program_id=program_id, first=moments.day("from", first), last=moments.day("to", last), now=now
    )
    return tables.answer(request, report, name=report.program_name, rows=report.cohorts, of=Cohort)


handlers = [get_statement, show_statement, get_liability, report_points, report_cohorts]
