"""Whom a trigger is for, as SQL over many contacts at once.

`candidate` rows have the contact as it is called now, the occasion that a run is made for once, when it happened, by
whom and in which interaction where it is one, and facts for the words of messages.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from crm.contacts import aliases, predicates
from crm.contacts.comparisons import days_like
from crm.contacts.conditions import Condition
from crm.contacts.predicates import Bind
from crm.loyalty.expiry import start_of
from crm.playbooks import definitions, runs
from crm.playbooks.definitions import (
    Daily,
    DateTrigger,
    ExpiryTrigger,
    Followed,
    InactivityTrigger,
    InteractionTrigger,
    SegmentTrigger,
    TierTrigger,
)

LATE_MAX: Final = timedelta(days=7)
"""What is learned of later than that is history, such as old orders that are imported: it is no trigger any more."""
YEARS_MAX: Final = 80
"""How many years back somebody may have joined whose anniversary is found."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_THRESHOLD: Final = """
    coalesce((
        SELECT max(t.threshold) FROM tiers t
        WHERE t.program_id::text = i.data ->> 'program_id' AND t.name = i.data ->> '{side}'
    ), -1)
"""


@dataclass(frozen=True, slots=True)
class Morning:
    """A local day that begins: `zone` is of whose clock, and `of_unknown` of those who have none."""

    day: date
    zone: ZoneInfo
    of_unknown: bool = False

    @property
    def at(self) -> datetime:
        """When it began, in UTC."""
        return start_of(self.day, self.zone)


def followed(trigger: Followed, where: Condition | None, *, among: str, since: datetime, bind: Bind) -> str:
    """The candidates among interactions `i` that `among` says, of what happened and was learned of from `since` on."""
    clauses = [
        among,
        f"i.kind = {bind(definitions.interactions_of(trigger), 'text')}",
        f"i.occurred_at >= {bind(since, 'timestamptz')}",
        f"i.recorded_at >= {bind(since, 'timestamptz')}",
        f"i.occurred_at > i.recorded_at - {bind(LATE_MAX, 'interval')}",
    ]
    match trigger:
        case InteractionTrigger():
            if not trigger.from_playbooks:
                clauses.append(f"NOT starts_with(i.by, '{runs.BY}')")
            if where is not None:
                # No field of an interaction is relative to today.
                clauses.append(predicates.predicate(where, bind=bind, now=_NEVER, history=_none_within))
        case TierTrigger():
            before, after = (_THRESHOLD.format(side=side) for side in ("from", "to"))
            clauses.append(f"{after} > {before}" if trigger.change == "reached" else f"{after} < {before}")
            if trigger.tier is not None:
                side = "to" if trigger.change == "reached" else "from"
                clauses.append(f"i.data ->> '{side}' = {bind(trigger.tier, 'text')}")
        case SegmentTrigger():
            clauses.append(f"i.data ->> 'segment_id' = {bind(str(trigger.segment_id), 'text')}")
    return f"""
        SELECT coalesce(d.contact_id, i.contact_id) AS contact_id, 'interaction:' || i.id AS occasion,
            i.occurred_at AS at, i.by, jsonb_build_object('interaction_id', i.id) AS data
        FROM interactions i LEFT JOIN contact_alias_directory d ON d.alias_id = i.contact_id
        WHERE {" AND ".join(clauses)}
    """


@dataclass(frozen=True, slots=True)
class OfDay:
    """Whom a day may be for: `scope` are the next contacts to look at, `candidates` those of `looked` at whom it is."""

    scope: str
    candidates: str


def daily(
    trigger: Daily, morning: Morning, *, program_id: UUID | None, after: UUID, limit: int, bind: Bind
) -> OfDay | None:
    """The contacts behind `after` that a morning is for, in the order of their ids; None where it can be for nobody."""
    chunk = (bind(after, "uuid"), bind(limit, "int"))
    match trigger:
        case DateTrigger(date="birthday"):
            return _birthdays(trigger, morning, chunk, bind)
        case DateTrigger():
            return None if program_id is None else _anniversaries(trigger, morning, program_id, chunk, bind)
        case InactivityTrigger():
            return _inactive(trigger, morning, chunk, bind)
        case ExpiryTrigger():
            return None if program_id is None else _expiring(trigger, morning, program_id, chunk, bind)


def _birthdays(trigger: DateTrigger, morning: Morning, chunk: tuple[str, str], bind: Bind) -> OfDay:
    on = morning.day - timedelta(days=trigger.offset_days)
    days = [month * 100 + day for month, day in days_like(datetime(on.year, on.month, on.day, tzinfo=UTC))]
    scope = f"""
        SELECT c.id FROM contacts c
        WHERE (extract(month FROM c.birth_on) * 100 + extract(day FROM c.birth_on)) = ANY ({bind(days, "numeric[]")})
            AND c.birth_on < {bind(date(on.year, 1, 1), "date")} AND {_lives_there(morning, bind)}
            AND c.id > {chunk[0]} ORDER BY c.id LIMIT {chunk[1]}
    """
    return OfDay(scope, _same_for_all(f"birthday:{on.year}", morning, bind))


def _anniversaries(
    trigger: DateTrigger, morning: Morning, program_id: UUID, chunk: tuple[str, str], bind: Bind
) -> OfDay:
    on = morning.day - timedelta(days=trigger.offset_days)
    days = days_like(datetime(on.year, on.month, on.day, tzinfo=UTC))
    joined = [
        date(year, month, day)
        for year in range(on.year - YEARS_MAX, on.year)
        for month, day in days
        if (month, day) != (2, 29) or _is_leap(year)
    ]
    begins = [start_of(day, morning.zone) for day in joined]
    ends = [start_of(day + timedelta(days=1), morning.zone) for day in joined]
    scope = f"""
        SELECT c.id
        FROM unnest({bind(begins, "timestamptz[]")}, {bind(ends, "timestamptz[]")}) AS y (begins, ends)
        JOIN loyalty_accounts a ON a.program_id = {bind(program_id, "uuid")} AND a.enrolled_at >= y.begins
            AND a.enrolled_at < y.ends AND a.status = 'active'
        JOIN contacts c ON c.id = a.contact_id
        WHERE {_lives_there(morning, bind)} AND c.id > {chunk[0]} ORDER BY c.id LIMIT {chunk[1]}
    """
    return OfDay(scope, _same_for_all(f"anniversary:{on.year}", morning, bind))


def _inactive(trigger: InactivityTrigger, morning: Morning, chunk: tuple[str, str], bind: Bind) -> OfDay:
    last_on = morning.day - timedelta(days=trigger.days)
    kinds = bind(list(trigger.interactions), "text[]")
    begins = bind(start_of(last_on, morning.zone), "timestamptz")
    ends = bind(start_of(last_on + timedelta(days=1), morning.zone), "timestamptz")
    scope = f"""
        SELECT c.id FROM contacts c WHERE {_lives_there(morning, bind)} AND c.id > {chunk[0]}
        ORDER BY c.id LIMIT {chunk[1]}
    """
    # Only what happened since then is looked at, and of that the last.
    candidates = f"""
        SELECT l.id AS contact_id, 'inactivity:' || n.id AS occasion, {bind(morning.at, "timestamptz")} AS at,
            NULL::text AS by, jsonb_build_object('interaction_id', n.id) AS data
        FROM looked l CROSS JOIN LATERAL (
            SELECT o.id, o.occurred_at FROM {aliases.known_as("l.id")} who CROSS JOIN LATERAL (
                SELECT i.id, i.occurred_at FROM interactions i
                WHERE i.contact_id = who.id AND i.occurred_at >= {begins} AND i.kind = ANY ({kinds})
                ORDER BY i.occurred_at DESC, i.id DESC LIMIT 1
            ) o
            ORDER BY o.occurred_at DESC, o.id DESC LIMIT 1
        ) n
        WHERE n.occurred_at < {ends}
    """
    return OfDay(scope, candidates)


def _expiring(trigger: ExpiryTrigger, morning: Morning, program_id: UUID, chunk: tuple[str, str], bind: Bind) -> OfDay:
    # The last day of points that end at midnight is the one before.
    on = morning.day + timedelta(days=trigger.days)
    program = bind(program_id, "uuid")
    scope = f"""
        SELECT a.contact_id AS id FROM loyalty_accounts a
        WHERE a.program_id = {program} AND a.status = 'active' AND a.available > 0 AND a.contact_id > {chunk[0]}
        ORDER BY a.contact_id LIMIT {chunk[1]}
    """
    candidates = f"""
        SELECT l.id AS contact_id, {bind(f"points_expiring:{on}", "text")} AS occasion,
            {bind(morning.at, "timestamptz")} AS at, NULL::text AS by,
            jsonb_build_object('expiring_points', n.points, 'expires_on', {bind(on.isoformat(), "text")}) AS data
        FROM looked l CROSS JOIN LATERAL (
            SELECT sum(p.remaining)::bigint AS points FROM points_lots p
            WHERE p.contact_id = l.id AND p.program_id = {program} AND p.remaining > 0
                AND p.expires_at > {bind(start_of(on, morning.zone), "timestamptz")}
                AND p.expires_at <= {bind(start_of(on + timedelta(days=1), morning.zone), "timestamptz")}
        ) n
        WHERE n.points >= {bind(trigger.points_min, "bigint")}
    """
    return OfDay(scope, candidates)


def _same_for_all(occasion: str, morning: Morning, bind: Bind) -> str:
    return f"""
        SELECT l.id AS contact_id, {bind(occasion, "text")} AS occasion, {bind(morning.at, "timestamptz")} AS at,
            NULL::text AS by, '{{}}'::jsonb AS data
        FROM looked l
    """


def _lives_there(morning: Morning, bind: Bind) -> str:
    return "c.time_zone IS NULL" if morning.of_unknown else f"c.time_zone = {bind(morning.zone.key, 'text')}"


def _is_leap(year: int) -> bool:
    return (date(year, 3, 1) - timedelta(days=1)).day == 29


def _none_within(_: Any) -> NoReturn:
    raise AssertionError("there is no history within an interaction")
