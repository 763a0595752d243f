"""The owner's overview: the main numbers of everything in some local days, in one answer."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.care.scores import SCALES, Kind, Score
from crm.db.session import Session
from crm.errors import FieldError
from crm.insights import case_reports, liabilities, periods, replies, reports, self_service, trends, zones
from crm.insights.bounds import bounded
from crm.insights.case_reports import Backlog, CaseRow
from crm.insights.liabilities import Liability
from crm.insights.periods import InvalidPeriod, Span
from crm.insights.replies import ReplyRow
from crm.insights.reports import PointsPeriod
from crm.insights.self_service import ArticleNumbers, AssistantNumbers, SearchNumbers
from crm.loyalty import programs

DAYS_USUAL: Final = 30
DAYS_MAX: Final = 366
REASONS_MAX: Final = 10

_PROGRAM: Final = "SELECT id FROM programs WHERE is_default"
_PEOPLE: Final = """
    SELECT (SELECT count(*) FROM contacts WHERE created_at < $2),
        (SELECT count(*) FROM contacts WHERE created_at >= $1 AND created_at < $2)
"""
_VOLUME: Final = """
    SELECT count(*) FILTER (WHERE direction = 'inbound'), count(*) FILTER (WHERE direction = 'outbound'),
        count(*) FILTER (WHERE direction = 'internal')
    FROM interactions WHERE occurred_at >= $1 AND occurred_at < $2 AND direction IS NOT NULL
"""
_MEMBERS: Final = """
    SELECT count(*) FILTER (WHERE enrolled_at < $3), count(*) FILTER (WHERE enrolled_at >= $2 AND enrolled_at < $3), (
        SELECT count(DISTINCT coalesce(k.contact_id, a.contact_id)) FROM (
            SELECT contact_id FROM purchases WHERE program_id = $1 AND occurred_at >= $2 AND occurred_at < $3
            UNION ALL
            SELECT contact_id FROM redemptions WHERE program_id = $1 AND occurred_at >= $2 AND occurred_at < $3
        ) a LEFT JOIN contact_alias_directory k ON k.alias_id = a.contact_id
    )
    FROM loyalty_accounts WHERE program_id = $1
"""
_REASONS: Final = """
    SELECT category, count(*) AS cases FROM cases
    WHERE created_at >= $1 AND created_at < $2 AND category IS NOT NULL
    GROUP BY category ORDER BY cases DESC, category LIMIT $3
"""


@dataclass(slots=True)
class PeopleFigures:
    """How many contacts there were at the end, and how many of them are new."""

    contacts: int
    new: int


@dataclass(slots=True)
class ProgramFigures:
    """A program: its points that moved, what it owes at the end or now, and its members.

    `members` are the accounts at the end, `new` those of these days, `active` the people who bought or redeemed.
    """

    points: PointsPeriod
    liability: Liability
    members: int
    new: int
    active: int


@dataclass(slots=True)
class VolumeFigures:
    """How much came in, went out, and was said among staff."""

    inbound: int
    outbound: int
    internal: int


@dataclass(slots=True)
class KindScore:
    """What those said who were asked in these days; null where nobody was asked, or answered."""

    kind: Kind
    invitations: int
    response_rate: float | None
    score: Score


@dataclass(slots=True)
class SelfServiceFigures:
    """What customers found by themselves, and what the bot answered."""

    searches: SearchNumbers
    articles: ArticleNumbers
    assistant: AssistantNumbers


@dataclass(slots=True)
class CaseReason:
    """A category of cases, and how many were opened."""

    category: str
    cases: int


@dataclass(slots=True)
class Overview:
    """The main numbers of some local days, both inclusive. `loyalty` is null while there is no program.

    `backlog` is that of now; `top_reasons` are the ten categories with the most new cases.
    """

    time_zone: str
    starts_on: date
    ends_on: date
    people: PeopleFigures
    loyalty: ProgramFigures | None
    volume: VolumeFigures
    replies: ReplyRow
    cases: CaseRow
    backlog: Backlog
    satisfaction: list[KindScore]
    self_service: SelfServiceFigures
    top_reasons: list[CaseReason]


@dataclass(slots=True)
class Figure:
    """One number of the overview, by its name."""

    figure: str
    value: Any


async def read(
    session: Session,
    *,
    program_id: UUID | None,
    first: date | None,
    last: date | None,
    zone: ZoneInfo | None,
    now: datetime,
) -> Overview:
    """The numbers of these days, or of the last thirty; of the default program where none is named.

    Raises ProgramNotFound, InvalidPeriod, ReportTooLong.
    """
    async with bounded():
        local = await zones.of(session, named=zone)
        span = _span(first, last, local, now)
        program = program_id or await session.fetchval(_PROGRAM)
        days: Any = {"first": span.first, "last": span.last, "zone": local, "now": now}
        people = await session.fetchrow(_PEOPLE, span.starts_at, span.ends_at)
        volume = await session.fetchrow(_VOLUME, span.starts_at, span.ends_at)
        cases = await case_reports.read(session, by="month", group_by=None, **days)
        scores = await trends.read(session, by="month", kind=None, survey_id=None, group_by=None, **days)
        helped = await self_service.results(session, since=span.starts_at, until=span.ends_at)
        reasons = await session.fetch(_REASONS, span.starts_at, span.ends_at, REASONS_MAX)
        assert people is not None, "a count has always a row"
        assert volume is not None, "a count has always a row"
        return Overview(
            local.key, span.first, span.last, PeopleFigures(*people),
            None if program is None else await _loyalty(session, program, span, now), VolumeFigures(*volume),
            (await replies.read(session, **days)).total, cases.total, cases.backlog, _satisfaction(scores.totals),
            SelfServiceFigures(helped.searches, helped.articles, helped.assistant),
            [CaseReason(*row) for row in reasons],
        )  # fmt: skip


def figures(overview: Overview) -> list[Figure]:
    """The same as a list of single numbers."""
    return [Figure(name, value) for name, value in _flat("", overview) if name not in _FRAME]


def _span(first: date | None, last: date | None, zone: ZoneInfo, now: datetime) -> Span:
    last = last or now.astimezone(zone).date()
    span = periods.of_report(first or last - timedelta(days=DAYS_USUAL - 1), last, by="day", zone=zone, now=now)
    if (span.last - span.first).days >= DAYS_MAX:
        raise InvalidPeriod(
            f"An overview covers at most {DAYS_MAX} days.",
            errors=[FieldError("query/from", "too_many_days", f"lies more than {DAYS_MAX} days back")],
        )
    return span


async def _loyalty(session: Session, program_id: UUID, span: Span, now: datetime) -> ProgramFigures:
    await programs.get(session, program_id=program_id)
    moved = await reports.moved(session, program_id=program_id, span=span)
    owed = await liabilities.read(session, program_id=program_id, as_of=min(now, span.ends_at), now=now)
    counted = await session.fetchrow(_MEMBERS, program_id, span.starts_at, span.ends_at)
    assert counted is not None, "a count has always a row"
    return ProgramFigures(moved, owed, *counted)


def _satisfaction(totals: list[trends.TrendRow]) -> list[KindScore]:
    asked = {row.kind: KindScore(row.kind, row.invitations, row.response_rate, row.score) for row in totals}
    return [asked.get(kind) or KindScore(kind, 0, None, Score(0)) for kind in SCALES]


_FRAME: Final = frozenset(
    f"{part}.{name}" for part in ("loyalty.points", "replies", "cases")
    for name in ("starts_on", "ends_on", "group", "channel")
)  # fmt: skip
"""What says of a part only what is said of the whole already."""


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        for field in fields(value):
            yield from _flat(f"{name}.{field.name}".removeprefix("."), getattr(value, field.name))
    elif isinstance(value, list):
        for item in value:
            key, *rest = (field.name for field in fields(item))
            for each in rest:
                yield from _flat(f"{name}.{getattr(item, key)}.{each}", getattr(item, each))
    else:
        yield name, value
