"""Conditions as SQL: what `conditions.holds` says of facts, said by Postgres of rows.

A predicate is NULL or false where the condition does not hold. That is the same to WHERE, AND and OR, and leaves the
comparisons bare, so that an index can answer them; what is denied is `IS NOT TRUE`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeAlias

from crm.contacts.comparisons import DECIMAL, Comparison, days_like, wanted
from crm.contacts.conditions import All, AnyOf, Condition, Did, Not
from crm.contacts.fields import Field, Type

Bind: TypeAlias = Callable[[Any, str], str]
"""Takes a value and its type, and gives back how the statement names it."""

_TYPES: Final[dict[Type, str]] = {
    "text": "text", "number": "numeric", "date": "date", "instant": "timestamptz", "boolean": "boolean",
}  # fmt: skip
_EQUALITY: Final = frozenset({"eq", "ne", "in", "not_in"})
_ORDERS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def bound_to(args: list[Any]) -> Bind:
    """Binds values as the next arguments of a statement."""

    def bind(value: Any, kind: str) -> str:
        args.append(value)
        return f"${len(args)}::{kind}"

    return bind


def column(field: Field, bind: Bind) -> str:
    """The expression that a field is read by."""
    return field.sql if field.key is None else field.sql.format(key=bind(field.key, "text"))


def predicate(condition: Condition, *, bind: Bind, now: datetime, history: Callable[[Did], str]) -> str:
    """The condition, over rows in which its fields can be read; `history` says how a `did` is asked.

    What is relative to today is so by the calendar of `now`'s own time zone.
    """
    match condition:
        case All(parts):
            return f"({' AND '.join(predicate(part, bind=bind, now=now, history=history) for part in parts)})"
        case AnyOf(parts):
            return f"({' OR '.join(predicate(part, bind=bind, now=now, history=history) for part in parts)})"
        case Not(part):
            return _denied(predicate(part, bind=bind, now=now, history=history))
        case Did():
            return history(condition)
        case Comparison():
            compared = _BY_TYPE[condition.field.type](condition, bind, now)
            is_contrary = condition.op in {"ne", "not_in"} or (condition.op == "exists" and condition.value is False)
            return _denied(compared) if is_contrary else compared


def _denied(part: str) -> str:
    return f"({part}) IS NOT TRUE"


# Each as `comparisons.holds` compares; `ne`, `not_in` and a false `exists` as what they are contrary to.


def _of_scalar(asked: Comparison, bind: Bind, now: datetime) -> str:
    if asked.field.among is not None and asked.op in _EQUALITY:
        return _among(asked, asked.field.among, bind)
    found, kind = f"({column(asked.field, bind)})", _TYPES[asked.field.type]
    match asked.op:
        case "exists":
            return f"{found} IS NOT NULL"
        case "eq" | "ne":
            return f"{found} = {bind(wanted(asked, now), kind)}"
        case "in" | "not_in":
            return f"{found} = ANY ({bind(asked.value, f'{kind}[]')})"
        case "contains":
            return f"strpos({found}, {bind(asked.value, kind)}) > 0"
        case "starts_with":
            return f"starts_with({found}, {bind(asked.value, kind)})"
        case "anniversary":
            return _anniversary(asked, found, bind, now)
        case _:
            return f"{found} {_ORDERS[asked.op]} {bind(wanted(asked, now), kind)}"


def _anniversary(asked: Comparison, found: str, bind: Bind, now: datetime) -> str:
    # As the index on birthdays has it.
    day_of_year = f"(extract(month FROM {found}) * 100 + extract(day FROM {found}))"
    if asked.value == "day":
        days = [month * 100 + day for month, day in days_like(now)]
        return f"{day_of_year} = ANY ({bind(days, 'numeric[]')})"
    first, beyond = now.month * 100, now.month * 100 + 100
    return f"({day_of_year} > {bind(first, 'numeric')} AND {day_of_year} < {bind(beyond, 'numeric')})"


def _of_list(asked: Comparison, bind: Bind, now: datetime) -> str:
    if asked.op == "exists":
        return f"cardinality({column(asked.field, bind)}) > 0"
    return _among(asked, asked.field.among or f"({asked.field.sql}) && {{values}}", bind)


def _among(asked: Comparison, template: str, bind: Bind) -> str:
    values = bind(asked.value if isinstance(asked.value, tuple) else [asked.value], "text[]")
    return template.format(values=values, key=None if asked.field.key is None else bind(asked.field.key, "text"))


def _of_any(asked: Comparison, bind: Bind, now: datetime) -> str:
    if asked.field.within is not None and asked.op in _EQUALITY:
        return _within(asked, bind)
    found = f"({column(asked.field, bind)})"
    kind, text = f"jsonb_typeof({found})", f"({found} #>> '{{}}')"
    value, type_ = asked.value, _TYPES[asked.type]
    match asked.op:
        case "exists":
            return f"({found} IS NOT NULL AND {kind} <> 'null' AND {found} <> '[]')"
        case "eq" | "ne":
            return f"{found} = to_jsonb({bind(value, type_)})"
        case "in" | "not_in":
            # An array of JSON contains its scalars and nothing else that can stand here; 1 and 1.0 are the same in it.
            among = bind(value, f"{type_}[]")
            of_list = f"{found} ?| {among}" if type_ == "text" else "false"
            return f"CASE {kind} WHEN 'array' THEN {of_list} ELSE to_jsonb({among}) @> {found} END"
        case "contains":
            part = bind(value, type_)
            among, within = f"{found} ? {part}", f"strpos({text}, {part}) > 0"
            return f"CASE {kind} WHEN 'array' THEN {among} WHEN 'string' THEN {within} END"
        case "starts_with":
            return f"({kind} = 'string' AND starts_with({text}, {bind(value, type_)}))"
        case _:
            is_number = f"{kind} = 'number' OR ({kind} = 'string' AND {text} ~ '^{DECIMAL}$')"
            return f"CASE WHEN {is_number} THEN {text}::numeric END {_ORDERS[asked.op]} {bind(value, type_)}"


def _within(asked: Comparison, bind: Bind) -> str:
    """Whether what the field is read from contains an object with one of the values, alone or in a list of texts."""
    values = asked.value if isinstance(asked.value, tuple) else (asked.value,)
    key, kind = bind(asked.field.key, "text"), _TYPES[asked.type]
    # Each by itself, so that the planner can look up how many contacts have it.
    given = [bind(value, kind) for value in values]
    objects = [f"jsonb_build_object({key}, {value})" for value in given]
    if asked.op in {"in", "not_in"} and kind == "text":
        objects += [f"jsonb_build_object({key}, jsonb_build_array({value}))" for value in given]
    return f"{asked.field.within} @> ANY (ARRAY[{', '.join(objects)}])"


_BY_TYPE: Final[dict[Type, Callable[[Comparison, Bind, datetime], str]]] = {
    "text": _of_scalar, "number": _of_scalar, "date": _of_scalar, "instant": _of_scalar, "boolean": _of_scalar,
    "list": _of_list, "any": _of_any,
}  # fmt: skip
