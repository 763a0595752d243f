"""`/v1/programs/{program_id}/backtests`: rules tried on the purchases of a past period; nobody gets a point."""

import re
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar.params import FromPath
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.earning_rules import NewEarningRule
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import delete, get, post
from crm.api.schemas import YEAR_MAX, YEAR_MIN, Body
from crm.contacts.conditions import InvalidCondition
from crm.db import idempotency
from crm.db.session import Session
from crm.loyalty import backtests
from crm.loyalty.backtests import Backtest, BacktestCompleted, BacktestNotFound, Question
from crm.loyalty.programs import ProgramNotFound

RULES_MAX: Final = 100
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)


def _day(value: Any) -> date:
    # Pydantic would take a number in a string for seconds since 1970.
    if not (isinstance(value, str) and _DAY.match(value)):
        raise PydanticCustomError("date", 'must be a date, such as "2026-01-31"')
    try:
        day = date.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("date", "there is no such day") from error
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise PydanticCustomError("date_out_of_range", f"must lie between the years {YEAR_MIN} and {YEAR_MAX}")
    return day


LocalDay = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]


class NewBacktest(Body):
    """A question about the past: what would the purchases of these days have earned?

    The days are the program's own, both within. The rules are those that are sent, else the program's active ones; with
    `include_drafts` the drafts among them count too. `conditions` is what to go by where a purchase does not tell
    whether a rule's condition held: what is known of the member now, or that it did not, or did.
    """

    first_on: LocalDay = Field(alias="from")
    last_on: LocalDay = Field(alias="to")
    rules: Annotated[list[NewEarningRule], Field(min_length=1, max_length=RULES_MAX)] | None = None
    include_drafts: bool = False
    conditions: Literal["now", "false", "true"] = "now"

    @model_validator(mode="after")
    def _in_order(self) -> "NewBacktest":
        if self.last_on < self.first_on:
            raise PydanticCustomError("window", "must end on or after the day it begins")
        return self

    def question(self) -> Question:
        """What is asked."""
        rules = None
        if self.rules is not None:
            rules = [rule.model_dump(mode="json", by_alias=True, exclude_none=True) for rule in self.rules]
        return Question(
            first_on=self.first_on, last_on=self.last_on, rules=rules, include_drafts=self.include_drafts,
            conditions=self.conditions,
        )  # fmt: skip


@post(
    "/programs/{program_id:uuid}/backtests",
    scopes={"programs:write"},
    status_code=202,
    problems=(ProgramNotFound, InvalidCondition),
)
async def start_backtest(
    session: Session, program_id: FromPath[UUID], data: NewBacktest, by: str, now: datetime,
    once: idempotency.Request | None,
) -> Backtest:  # fmt: skip
    """Try rules on past purchases.

    The worker replays them and changes nothing: read the backtest for its progress and its report. Members have the
    tier that they really had at each purchase, until what is tried makes it another one. Refunds are left out on both
    sides.
    """
    await idempotency.begin(session, request=once)
    backtest = await backtests.start(session, program_id=program_id, question=data.question(), by=by, now=now)
    await idempotency.keep(session, request=once, contact_id=None, result=backtest, now=now, status=202)
    return backtest


@get("/programs/{program_id:uuid}/backtests", scopes={"programs:read"}, problems=(ProgramNotFound,))
async def list_backtests(
    session: Session, program_id: FromPath[UUID], cursor: Cursor = None, limit: Limit = 50
) -> Page[Backtest]:
    """List a program's backtests, newest first."""
    before = paging.decode(cursor, UUID)
    found = await backtests.page(session, program_id=program_id, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda backtest: (backtest.id,))


@get("/programs/{program_id:uuid}/backtests/{backtest_id:uuid}", scopes={"programs:read"}, problems=(BacktestNotFound,))
async def get_backtest(session: Session, program_id: FromPath[UUID], backtest_id: FromPath[UUID]) -> Backtest:
    """Read a backtest: how far it is, and its report."""
    return await backtests.get(session, program_id=program_id, backtest_id=backtest_id)


@delete(
    "/programs/{program_id:uuid}/backtests/{backtest_id:uuid}",
    scopes={"programs:write"},
    problems=(BacktestNotFound, BacktestCompleted),
)
async def cancel_backtest(
    session: Session, program_id: FromPath[UUID], backtest_id: FromPath[UUID], now: datetime
) -> None:
    """Cancel a backtest that has no report yet; it stays in the list."""
    await backtests.cancel(session, program_id=program_id, backtest_id=backtest_id, now=now)


handlers = [start_backtest, list_backtests, get_backtest, cancel_backtest]
