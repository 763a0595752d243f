"""`/v1/journey-rules` and journeys: in which stage customers are, by which rule, and where they stop."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response
from litestar.params import FromPath, QueryParameter
from pydantic import Field

from crm.api import moments, paging, tables
from crm.api.loyalty import PROGRAM, ProgramId
from crm.api.paging import Cursor, Limit, Page
from crm.api.reports import Zone
from crm.api.routes import AnyRequest, ContactId, get, post
from crm.api.schemas import Body, Line
from crm.db import idempotency
from crm.db.session import Session
from crm.insights import journey_rules, journeys
from crm.insights.bounds import ReportTooLong
from crm.insights.journey_rules import DAYS_MAX, JourneyRules, JourneyRulesNotFound
from crm.insights.journeys import Journey, JourneyReport, StepRow
from crm.insights.stages import InvalidJourneyRules, Rules
from crm.loyalty.programs import ProgramNotFound, ProgramRequired

VERSION_MAX = 2**31 - 1
Purchases = Annotated[int, Field(ge=2, le=1_000)]
Days = Annotated[int, Field(ge=1, le=DAYS_MAX)]
_AsOf = Annotated[
    str | None,
    QueryParameter(
        name="as_of", max_length=10, schema_extra=moments.DATE,
        description="At the end of which local day; left out: today.",
    ),
]  # fmt: skip
_Version = Annotated[
    int | None,
    QueryParameter(name="rules", ge=0, le=VERSION_MAX, description="The version of the rules; left out: those of now."),
]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class NewJourneyRules(Body):
    """When a customer is in which stage; what is left out is as usual.

    So many purchases make a repeated customer. `loyal_purchases` within `loyal_within_days` of 24 hours make a loyal
    one, and so does a tier by one of these names for who has bought repeatedly; null is never, or within any time. The
    other days are local ones since the last purchase, and of a prospect since they are known; null is never.
    """

    repeat_purchases: Purchases = 2
    loyal_purchases: Purchases | None = 5
    loyal_within_days: Days | None = 365
    loyal_tiers: Annotated[list[Line], Field(max_length=20)] = Field(default=[])
    at_risk_after_days: Days = 90
    lost_after_days: Days = 180
    prospect_lost_after_days: Days | None = None


@post("/journey-rules", scopes={"insights:write"}, problems=(InvalidJourneyRules,), headers=("Location",))
async def create_journey_rules(
    session: Session, data: NewJourneyRules, by: str, now: datetime, once: idempotency.Request | None
) -> Response[JourneyRules]:
    """Make these the rules of customers' stages.

    They are a new version, for all reports that name none; what a report said by another can be asked for again.
    """
    await idempotency.begin(session, request=once)
    made = await journey_rules.create(session, rules=Rules(**data.model_dump()), by=by, once=once, now=now)
    return Response(made, headers={"Location": f"/v1/journey-rules/{made.version}"})


@get("/journey-rules", scopes={"insights:read"})
async def list_journey_rules(session: Session, cursor: Cursor = None, limit: Limit = 50) -> Page[JourneyRules]:
    """List the versions of the rules.

    Those of now come first; the last, version 0, are the usual ones.
    """
    before = paging.decode(cursor, int)
    found = await journey_rules.page(session, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda one: (one.version,))


@get("/journey-rules/{version:int}", scopes={"insights:read"}, problems=(JourneyRulesNotFound,))
async def get_journey_rules(session: Session, version: FromPath[int]) -> JourneyRules:
    """Read a version of the rules."""
    return await journey_rules.get(session, version=min(max(version, -1), VERSION_MAX))


@get(
    "/contacts/{contact_id:uuid}/journey",
    scopes={"insights:read"},
    problems=(*PROGRAM, JourneyRulesNotFound),
)
async def get_journey(
    session: Session, contact_id: FromPath[ContactId], now: datetime, program: ProgramId = None, as_of: _AsOf = None,
    zone: Zone = None, version: _Version = None, cursor: Cursor = None, limit: Limit = 50,
) -> Journey:  # fmt: skip
    """Read a contact's journey.

    The stages that they were in up to the end of a day, with the rule that put them there, and what happened with them
    meanwhile, from the first on; `next_cursor` goes on with that. An order that was given back as a whole is no
    purchase.
    """
    after = paging.decode(cursor, _Moment, UUID)
    journey, last = await journeys.read(
        session, contact_id=contact_id, program_id=program, as_of=moments.day("as_of", as_of),
        zone=moments.zone("time_zone", zone), version=version, after=(after[0], after[1]) if after else None,
        limit=limit, now=now,
    )  # fmt: skip
    journey.next_cursor = paging.encode(last.occurred_at, last.interaction_id) if last is not None else None
    return journey


@get(
    "/insights/journey",
    scopes={"insights:read"},
    problems=(ProgramNotFound, ProgramRequired, JourneyRulesNotFound, ReportTooLong),
    also=(tables.CSV,),
)
async def report_journey(
    session: Session, request: AnyRequest, now: datetime, program: ProgramId = None, as_of: _AsOf = None,
    zone: Zone = None, version: _Version = None,
) -> Response[JourneyReport]:  # fmt: skip
    """Read how far customers come, and where they stop.

    How many contacts are in each stage at the end of a day, how many went on from one to the next, and how long that
    took them. A merged contact is one, with all purchases. With `Accept: text/csv`, the steps as a table.
    """
    report = await journeys.report(
        session, program_id=program, as_of=moments.day("as_of", as_of), zone=moments.zone("time_zone", zone),
        version=version, now=now,
    )  # fmt: skip
    return tables.answer(request, report, rows=report.steps, of=StepRow)


handlers = [create_journey_rules, list_journey_rules, get_journey_rules, get_journey, report_journey]
