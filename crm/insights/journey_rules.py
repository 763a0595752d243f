"""The rules of customers' stages as they are kept: each change is a version of its own, and none is ever changed."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record
from sqlalchemy import BigInteger, Column, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import idempotency, writes
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import FieldError, NotFound
from crm.insights.stages import InvalidJourneyRules, Rules

journey_rules = Table(
    "journey_rules",
    metadata,
    Column("version", BigInteger, primary_key=True),
    Column("rules", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

DAYS_MAX: Final = 3_650
DEFAULT: Final = 0
"""The version that holds where nobody has said anything else."""

_COLUMNS: Final = tuple(column.name for column in journey_rules.columns)
_SELECTED: Final = ", ".join(_COLUMNS)


class JourneyRulesNotFound(NotFound):
    code = "journey_rules_not_found"
    title = "There are no rules of this version"


@dataclass(slots=True)
class JourneyRules:
    """One version of the rules. Version 0 has the usual ones; nobody made it."""

    version: int
    rules: Rules
    created_at: datetime | None
    by: str | None


async def create(
    session: Session, *, rules: Rules, by: str, once: idempotency.Request | None, now: datetime
) -> JourneyRules:
    """Make these the rules from now on. Raises InvalidJourneyRules."""
    _check(rules)
    await session.execute("LOCK TABLE journey_rules IN SHARE ROW EXCLUSIVE MODE")
    version: int = await session.fetchval("SELECT coalesce(max(version), 0) + 1 FROM journey_rules")
    made = JourneyRules(version, rules, now, by)
    await writes.write(
        session,
        [
            Insert(journey_rules, _COLUMNS, [(version, asdict(rules), now, by)]),
            *idempotency.answer(once, contact_id=None, result=made, now=now),
        ],
    )
    return made


async def get(session: Session, *, version: int | None) -> JourneyRules:
    """The rules of a version, or those of now. Raises JourneyRulesNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_SELECTED} FROM journey_rules WHERE $1::bigint IS NULL OR version = $1 ORDER BY version DESC LIMIT 1
        """,
        version,
    )
    if row is not None:
        return _view(row)
    if version in (None, DEFAULT):
        return JourneyRules(DEFAULT, Rules(), None, None)
    raise JourneyRulesNotFound("No rules have this version.")


async def page(session: Session, *, before: int | None, limit: int) -> list[JourneyRules]:
    """All versions, the newest first, older than `before`, down to the usual rules."""
    rows = await session.fetch(
        f"""
        SELECT {_SELECTED} FROM journey_rules WHERE $1::bigint IS NULL OR version < $1 ORDER BY version DESC LIMIT $2
        """,
        before, limit,
    )  # fmt: skip
    found = [_view(row) for row in rows]
    if len(found) < limit and before != DEFAULT:
        found.append(JourneyRules(DEFAULT, Rules(), None, None))
    return found


def _check(rules: Rules) -> None:
    wrong = []
    if rules.loyal_purchases is not None and rules.loyal_purchases <= rules.repeat_purchases:
        wrong.append(FieldError("/loyal_purchases", "too_few", "must be more than repeat_purchases"))
    if rules.loyal_purchases is None and not rules.loyal_tiers:
        wrong.append(FieldError("/loyal_tiers", "nobody_loyal", "name a tier, or give loyal_purchases"))
    if rules.lost_after_days <= rules.at_risk_after_days:
        wrong.append(FieldError("/lost_after_days", "too_few", "must be more than at_risk_after_days"))
    if wrong:
        raise InvalidJourneyRules("One stage would hide another.", errors=wrong)


def _view(row: Record) -> JourneyRules:
    return JourneyRules(row["version"], Rules(**row["rules"]), row["created_at"], row["by"])
