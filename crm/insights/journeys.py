"""Customers' journeys: one person's, with touchpoints and stages, and how far all of them have come."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record

from crm.contacts import aliases
from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.insights import journey_rules, stages
from crm.insights.bounds import bounded
from crm.insights.periods import Span
from crm.insights.reports import rate
from crm.insights.stages import STEPS, Facts, Rules, Stage, Stay
from crm.loyalty.programs import ProgramNotFound, ProgramRequired

PURCHASES_MAX: Final = 20_000
STAYS_MAX: Final = 200
"""How many of somebody's purchases and stages are looked at, the last ones; nobody buys more often."""

_TIER_KINDS: Final = "('tier.changed', 'tier.pinned')"
_PROGRAM: Final = "SELECT id, time_zone FROM programs WHERE CASE WHEN $1::uuid IS NULL THEN is_default ELSE id = $1 END"
# An order that was given back as a whole is no purchase.
_RETURNED: Final = """
    SELECT FROM refunds r
    WHERE r.contact_id = p.contact_id AND r.program_id = p.program_id AND r.order_ref = p.order_ref
        AND r.occurred_at < $2 AND r.counted_visits > 0
"""
_ENTERED: Final = f"""
    cardinality($3::text[]) > 0 AND i.kind IN {_TIER_KINDS} AND i.occurred_at < $2
    AND i.data ->> 'program_id' = $1::uuid::text AND coalesce(i.data ->> 'to', i.data ->> 'tier') = ANY ($3::text[])
"""

# Each statement of the program and of those before an instant. $3 are tiers.
_FACTS: Final = f"""
    WITH who AS (SELECT w.id FROM {aliases.known_as("$4::uuid")} w)
    SELECT c.created_at, ARRAY(
        SELECT p.occurred_at FROM who JOIN purchases p ON p.contact_id = who.id
        WHERE p.program_id = $1 AND p.occurred_at < $2 AND NOT EXISTS ({_RETURNED})
        ORDER BY p.occurred_at DESC LIMIT {PURCHASES_MAX}
    ) AS purchases, (
        SELECT min(i.occurred_at) FROM who JOIN interactions i ON i.contact_id = who.id WHERE {_ENTERED}
    ) AS tier_at
    FROM contacts c WHERE c.id = $4
"""
_TOUCHPOINTS: Final = f"""
    SELECT t.* FROM {aliases.known_as("$1::uuid")} who CROSS JOIN LATERAL (
        SELECT i.id, i.occurred_at, i.kind, i.channel, i.direction FROM interactions i
        WHERE i.contact_id = who.id AND i.occurred_at < $2 AND (i.direction IN ('inbound', 'outbound') OR i.kind IN (
            'purchase', 'purchase.refunded', 'reward.redeemed', 'tier.changed', 'membership.joined', 'offer.claimed'))
            AND ($3::timestamptz IS NULL OR (i.occurred_at, i.id) > ($3, $4))
        ORDER BY i.occurred_at, i.id LIMIT $5
    ) t
    ORDER BY t.occurred_at, t.id LIMIT $5
"""

# `$4` purchases make a repeated customer, `$5` within `$6` a loyal one. `$7`, `$8`, `$9` are the ends of the last days
# on which somebody bought, or became known, who is at risk, lost, or a lost prospect.
COUNTS: Final = f"""
    WITH happened AS (
        SELECT p.contact_id, p.occurred_at, true AS is_purchase FROM purchases p
        WHERE p.program_id = $1 AND p.occurred_at < $2 AND NOT EXISTS ({_RETURNED})
        UNION ALL
        SELECT i.contact_id, i.occurred_at, false FROM interactions i WHERE {_ENTERED}
    ), numbered AS (
        SELECT h.contact_id, h.occurred_at, h.is_purchase, row_number() OVER own AS number,
            h.occurred_at - lag(h.occurred_at, $5::int - 1) OVER own AS took
        FROM (
            SELECT coalesce(k.contact_id, h.contact_id) AS contact_id, h.occurred_at, h.is_purchase
            FROM happened h LEFT JOIN contact_alias_directory k ON k.alias_id = h.contact_id
        ) h
        WINDOW own AS (PARTITION BY h.contact_id, h.is_purchase ORDER BY h.occurred_at)
    ), facts AS (
        SELECT contact_id, min(occurred_at) FILTER (WHERE is_purchase) AS first_at,
            max(occurred_at) FILTER (WHERE is_purchase) AS last_at,
            min(occurred_at) FILTER (WHERE is_purchase AND number = $4::int) AS repeat_at,
            min(occurred_at) FILTER (WHERE is_purchase AND number >= $5::int AND took <= $6::interval) AS loyal_at,
            min(occurred_at) FILTER (WHERE NOT is_purchase) AS tier_at
        FROM numbered GROUP BY contact_id
    ), people AS (
        SELECT least(c.created_at, f.first_at) AS known_at, f.first_at, f.last_at, f.repeat_at,
            least(f.loyal_at, CASE WHEN f.repeat_at IS NOT NULL AND f.tier_at IS NOT NULL
                THEN greatest(f.tier_at, f.repeat_at) END) AS loyal_at
        FROM contacts c LEFT JOIN facts f ON f.contact_id = c.id
        WHERE c.created_at < $2 OR f.first_at IS NOT NULL
    ), placed AS (
        SELECT *, num_nonnulls(first_at, repeat_at, loyal_at) AS step, CASE
            WHEN first_at IS NULL THEN CASE WHEN known_at < $9::timestamptz THEN 'lost' ELSE 'here' END
            WHEN last_at < $8::timestamptz THEN 'lost' WHEN last_at < $7::timestamptz THEN 'at_risk' ELSE 'here' END
            AS state
        FROM people
    )
    SELECT step, state, count(*) AS count, NULL::float8[] AS seconds FROM placed GROUP BY step, state
    UNION ALL
    SELECT NULL, NULL, count(*), ARRAY[
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM first_at - known_at)::float8),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM repeat_at - first_at)::float8),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM loyal_at - repeat_at)::float8)
    ] FROM placed
"""


@dataclass(slots=True)
class Touchpoint:
    """Something that happened with somebody, in which stage, and how long after the one before."""

    interaction_id: UUID
    occurred_at: datetime
    kind: str
    channel: str
    direction: str | None
    stage: Stage | None
    seconds_since_previous: int | None


@dataclass(slots=True)
class Journey:
    """What became of a contact, up to the end of a local day.

    `stages` are those that they were in, the last 200, one after the other; none before they were known. `touchpoints`
    are messages and calls in both directions, purchases, redemptions and the like, from the first on.
    """

    contact_id: UUID
    program_id: UUID
    time_zone: str
    as_of: date
    rules_version: int
    stage: Stage | None
    since: datetime | None
    stages: list[Stay]
    touchpoints: list[Touchpoint]
    next_cursor: str | None


@dataclass(slots=True)
class StepRow:
    """Those who reached a stage by some day, and what became of them: reached = went_on + here + at_risk + lost.

    `went_on` reached the next stage, whatever they are now; the others are still `here`, or stopped: `at_risk` and
    `lost` came no further. `conversion` is the share that went on, `seconds_to_next_median` the time that half of these
    took at most; null where nobody did.
    """

    stage: Stage
    reached: int
    went_on: int
    here: int
    at_risk: int
    lost: int
    conversion: str | None
    seconds_to_next_median: int | None


@dataclass(slots=True)
class StageCount:
    """How many are in a stage."""

    stage: Stage
    contacts: int


@dataclass(slots=True)
class JourneyReport:
    """How many contacts are in each stage at the end of a local day, and how far they came."""

    program_id: UUID
    time_zone: str
    as_of: date
    rules_version: int
    contacts: int
    stages: list[StageCount]
    steps: list[StepRow]


async def read(
    session: Session,
    *,
    contact_id: UUID,
    program_id: UUID | None,
    as_of: date | None,
    zone: ZoneInfo | None,
    version: int | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
    now: datetime,
) -> tuple[Journey, Touchpoint | None]:
    """A contact's journey, with the touchpoints after the `(occurred_at, interaction id)` of one.

    Beside it, the touchpoint to go on from, if there are more than `limit`. Raises ContactNotFound, ProgramNotFound,
    ProgramRequired, JourneyRulesNotFound.
    """
    program, day = await _frame(session, program_id, as_of, zone, now)
    version_of = await journey_rules.get(session, version=version)
    rules, until = version_of.rules, day.ends_at
    row = await session.fetchrow(_FACTS, program, until, rules.loyal_tiers, contact_id)
    if row is None:
        raise ContactNotFound("No contact has this id.")
    bought = row["purchases"][::-1]
    facts = Facts(min([row["created_at"], *bought[:1]]), bought, row["tier_at"])
    stays = stages.walk(rules, facts, until=until, zone=day.zone)
    rows = await session.fetch(_TOUCHPOINTS, contact_id, until, *(after or (None, None)), limit + 1)
    last = stays[-1] if stays else None
    touchpoints = _touchpoints(rows[:limit], stays, after[0] if after else None)
    journey = Journey(
        contact_id, program, day.zone.key, day.last, version_of.version,
        last.stage if last else None, last.entered_at if last else None, stays[-STAYS_MAX:], touchpoints, None,
    )  # fmt: skip
    return journey, touchpoints[-1] if len(rows) > limit else None


async def report(
    session: Session,
    *,
    program_id: UUID | None,
    as_of: date | None,
    zone: ZoneInfo | None,
    version: int | None,
    now: datetime,
) -> JourneyReport:
    """How far all contacts came by the end of a local day, of today where none is given.

    Raises ProgramNotFound, ProgramRequired, JourneyRulesNotFound, ReportTooLong.
    """
    async with bounded():
        program, day = await _frame(session, program_id, as_of, zone, now)
        version_of = await journey_rules.get(session, version=version)
        rows = await session.fetch(COUNTS, program, *arguments(version_of.rules, day))
    total = next(row for row in rows if row["step"] is None)
    counts = {(row["step"], row["state"]): int(row["count"]) for row in rows if row["step"] is not None}
    steps = [_step(number, counts, total["seconds"]) for number in range(len(STEPS))]
    found = [StageCount(each.stage, each.here) for each in steps]
    found.append(StageCount("at_risk", sum(each.at_risk for each in steps)))
    found.append(StageCount("lost", sum(each.lost for each in steps)))
    return JourneyReport(program, day.zone.key, day.last, version_of.version, int(total["count"]), found, steps)


def arguments(rules: Rules, day: Span) -> Sequence[Any]:
    """What `COUNTS` asks for behind the program."""
    within = None if rules.loyal_within_days is None else timedelta(days=rules.loyal_within_days)
    return (
        day.ends_at, rules.loyal_tiers, rules.repeat_purchases, rules.loyal_purchases,
        timedelta(days=100 * 366) if within is None else within, _bought_by(day, rules.at_risk_after_days),
        _bought_by(day, rules.lost_after_days), _bought_by(day, rules.prospect_lost_after_days),
    )  # fmt: skip


def _bought_by(day: Span, days: int | None) -> datetime | None:
    """The end of the last day that lies so many days before `day`."""
    if days is None:
        return None
    last = day.last - timedelta(days=days)
    return Span(last, last, day.zone).ends_at


async def _frame(
    session: Session, program_id: UUID | None, as_of: date | None, zone: ZoneInfo | None, now: datetime
) -> tuple[UUID, Span]:
    row = await session.fetchrow(_PROGRAM, program_id)
    if row is None and program_id is None:
        raise ProgramRequired("Make a program with POST /v1/programs, or name one.")
    if row is None:
        raise ProgramNotFound("No program has this id.")
    local = zone or ZoneInfo(row["time_zone"])
    day = as_of or now.astimezone(local).date()
    return row["id"], Span(day, day, local)


def _step(number: int, counts: dict[tuple[int, str], int], seconds: Sequence[float | None]) -> StepRow:
    reached = sum(count for (step, _), count in counts.items() if step >= number)
    here, at_risk, lost = (counts.get((number, state), 0) for state in ("here", "at_risk", "lost"))
    went_on = reached - here - at_risk - lost
    is_last = number == len(STEPS) - 1
    median = None if is_last or seconds[number] is None else seconds[number]
    return StepRow(
        STEPS[number], reached, went_on, here, at_risk, lost, None if is_last else rate(went_on, reached),
        None if median is None else round(median),
    )  # fmt: skip


def _touchpoints(rows: Sequence[Record], stays: Sequence[Stay], previous: datetime | None) -> list[Touchpoint]:
    found, place = [], 0
    for row in rows:
        at = row["occurred_at"]
        while place + 1 < len(stays) and stays[place + 1].entered_at <= at:
            place += 1
        stage = stays[place].stage if stays else None
        since = None if previous is None else int((at - previous).total_seconds())
        found.append(Touchpoint(row["id"], at, row["kind"], row["channel"], row["direction"], stage, since))
        previous = at
    return found
