"""How often something happened with a contact: what the `did` of a condition asks, counted where the timeline is."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from crm.contacts import conditions
from crm.contacts.comparisons import DECIMAL, Comparison
from crm.contacts.conditions import All, AnyOf, Condition, Did, Facts, Not
from crm.contacts.durations import Duration
from crm.contacts.fields import Type
from crm.db.session import Session
from crm.interactions.timeline import Interaction

Moment: TypeAlias = tuple[UUID, datetime]
"""A contact, and the time that is asked about, in UTC."""

_Bind: TypeAlias = Callable[[Any, str], str]
_TYPES: Final[Mapping[Type, str]] = {"text": "text", "number": "numeric", "boolean": "boolean"}
_ORDERS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


async def count(
    session: Session, *, histories: Collection[Did], moments: Collection[Moment], zone: tzinfo
) -> dict[Moment, dict[Did, int]]:
    """How often each history had happened at each of the moments, in one query; no further than makes a difference.

    Days and months of `within` are those of the zone's calendar.
    """
    asked, at = list(histories), list(moments)
    if not asked or not at:
        return {moment: {} for moment in at}
    args: list[Any] = [[contact_id for contact_id, _ in at], [moment for _, moment in at]]

    def bind(value: Any, kind: str) -> str:
        args.append(value)
        return f"${len(args)}::{kind}"

    columns = []
    since: dict[str, str] = {}
    for number, history in enumerate(asked):
        clauses = ["i.contact_id = m.contact_id", f"i.kind = {bind(history.kind, 'text')}", "i.occurred_at <= m.at"]
        if history.within is not None:
            since[f"since{number}"] = bind([_since(history.within, moment, zone) for _, moment in at], "timestamptz[]")
            clauses.append(f"i.occurred_at >= m.since{number}")
        if history.where is not None:
            clauses.append(_clause(history.where, bind))
        limit = bind(history.enough, "int")
        columns.append(
            f"(SELECT count(*) FROM (SELECT FROM interactions i WHERE {' AND '.join(clauses)} LIMIT {limit}) found)"
        )
    rows = await session.fetch(
        f"""
        SELECT {", ".join(columns)}
        FROM unnest({", ".join(["$1::uuid[]", "$2::timestamptz[]", *since.values()])}) WITH ORDINALITY
            AS m ({", ".join(["contact_id", "at", *since, "number"])})
        ORDER BY m.number
        """,
        *args,
    )
    return {moment: dict(zip(asked, row, strict=True)) for moment, row in zip(at, rows, strict=True)}


def would_count(history: Did, interaction: Interaction, *, at: datetime, zone: tzinfo) -> bool:
    """Whether an interaction of the same contact would be counted at that time, were it on the timeline."""
    if interaction.kind != history.kind or interaction.occurred_at > at:
        return False
    if history.within is not None and interaction.occurred_at < _since(history.within, at, zone):
        return False
    return history.where is None or conditions.holds(history.where, facts_of(interaction), now=at)


def facts_of(interaction: Interaction) -> Facts:
    """An interaction as a condition in `where` sees it, its data as JSON has them."""
    data = {f"data.{key}": value for key, value in msgspec.to_builtins(interaction.data).items()}
    about = {"channel": interaction.channel, "direction": interaction.direction, "kind": interaction.kind}
    return Facts(about | data)


def _since(within: Duration, at: datetime, zone: tzinfo) -> datetime:
    return within.before(at.astimezone(zone)).astimezone(UTC)


def _clause(condition: Condition, bind: _Bind) -> str:
    match condition:
        case All(parts):
            return f"({' AND '.join(_clause(part, bind) for part in parts)})"
        case AnyOf(parts):
            return f"({' OR '.join(_clause(part, bind) for part in parts)})"
        case Not(part):
            return f"NOT {_clause(part, bind)}"
        case Comparison():
            field = condition.field
            found = field.sql if field.key is None else f"({field.sql.format(key=bind(field.key, 'text'))})"
            compare = _compare_text if field.type == "text" else _compare_json
            contrary = "NOT " if condition.op in {"ne", "not_in"} else ""
            return f"{contrary}coalesce({compare(condition, found, bind)}, false)"
        case Did():
            raise AssertionError("there is no history within a history")


# Comparisons as `comparisons.holds` makes them; `ne` and `not_in` are those that they are contrary to.


def _compare_text(asked: Comparison, found: str, bind: _Bind) -> str:
    match asked.op:
        case "exists":
            return f"({found} IS NOT NULL) = {bind(asked.value, 'boolean')}"
        case "contains":
            return f"strpos({found}, {bind(asked.value, 'text')}) > 0"
        case "starts_with":
            return f"starts_with({found}, {bind(asked.value, 'text')})"
        case _:
            values = asked.value if isinstance(asked.value, tuple) else (asked.value,)
            return f"{found} = ANY ({bind(values, 'text[]')})"


def _compare_json(asked: Comparison, found: str, bind: _Bind) -> str:
    assert asked.field.type == "any", "an interaction has no fields of other types"
    value, type_ = asked.value, _TYPES[asked.type]
    kind, text = f"jsonb_typeof({found})", f"({found} #>> '{{}}')"
    match asked.op:
        case "exists":
            return f"({found} IS NOT NULL AND {kind} <> 'null' AND {found} <> '[]') = {bind(value, type_)}"
        case "contains":
            wanted = bind(value, type_)
            among, within = f"{found} ? {wanted}", f"strpos({text}, {wanted}) > 0"
            return f"CASE {kind} WHEN 'array' THEN {among} WHEN 'string' THEN {within} END"
        case "starts_with":
            return f"{kind} = 'string' AND starts_with({text}, {bind(value, type_)})"
        case "eq" | "ne":
            return f"{found} = to_jsonb({bind(value, type_)})"
        case "in" | "not_in":
            # An array of JSON contains its scalars and nothing else that can stand here; 1 and 1.0 are the same in it.
            wanted = bind(value, f"{type_}[]")
            of_list = f"{found} ?| {wanted}" if type_ == "text" else "false"
            return f"CASE {kind} WHEN 'array' THEN {of_list} ELSE to_jsonb({wanted}) @> {found} END"
        case _:
            is_number = f"{kind} = 'number' OR ({kind} = 'string' AND {text} ~ '^{DECIMAL}$')"
            return f"CASE WHEN {is_number} THEN {text}::numeric END {_ORDERS[asked.op]} {bind(value, type_)}"
