"""Conditions over a contact: one JSON grammar wherever something is only for some.

    {"all": […]} | {"any": […]} | {"not": …} | {"field": "tags", "op": "contains", "value": "vip"}
    | {"did": "purchase", "count": {"gte": 3}, "within": "P90D", "where": …}

Parsed once into a tree of plain values, and asked many times. What a comparison means, and what an absent field does,
is said in `comparisons`. A history counts what happened up to the moment that is asked about, both ends of `within`
included; what nobody counted did not happen. The condition in `where` is about each single interaction. The comparison
of an attribute has the `type` as which it is defined, if it is: `definitions.typed` puts it there.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import eq
from typing import Any, Final, TypeAlias

from crm.contacts import attribute_types, comparisons
from crm.contacts.comparisons import OPERATORS, ORDERS, Comparison, WrongValue
from crm.contacts.durations import Duration
from crm.contacts.fields import Field, Fields
from crm.errors import FieldError, Invalid

DEPTH_MAX: Final = 5
NODES_MAX: Final = 50
COUNT_MAX: Final = 1_000

_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z", re.ASCII)
_BOUNDS: Final = {"eq": eq, **ORDERS}
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": ("all",), "any": ("any",), "not": ("not",), "field": ("field", "op", "value", "type"),
    "did": ("did", "count", "within", "where"),
}  # fmt: skip


class InvalidCondition(Invalid):
    code = "invalid_condition"
    title = "This condition can't be understood"


@dataclass(frozen=True, slots=True)
class All:
    """Each of the parts holds; there is at least one."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the parts holds at least; there is at least one."""

    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Condition"


@dataclass(frozen=True, slots=True)
class Did:
    """How often something happened: every bound of `count` is kept by the interactions of a kind that `where` admits.

    Without `within`, it may have been ever before.
    """

    kind: str
    count: tuple[tuple[str, int], ...]
    within: Duration | None
    where: "Condition | None"

    @property
    def enough(self) -> int:
        """Who has counted so many need not go on: more of them would change nothing."""
        return max(number if op in {"gte", "lt"} else number + 1 for op, number in self.count)


Condition: TypeAlias = All | AnyOf | Not | Comparison | Did


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one contact, or of one interaction: fields by name, and how often each history happened."""

    values: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[Did, int] = field(default_factory=dict)


def parse(document: Any, *, fields: Fields, interactions: Fields, pointer: str = "") -> Condition:
    """The condition in a JSON document, about `fields` of a contact and histories of `interactions` with these fields.

    Raises InvalidCondition with everything that is wrong; `pointer` is where the document stands in the body.
    """
    parser = _Parser(fields, interactions)
    condition = parser.node(document, pointer)
    if parser.nodes > NODES_MAX:
        parser.errors.append(FieldError(pointer, "too_many", f"a condition has at most {NODES_MAX} nodes"))
    if condition is None or parser.errors:
        raise InvalidCondition(
            "`errors` says for each place what is wrong and what can stand there.", errors=parser.errors
        )
    return condition


def holds(condition: Condition, facts: Facts, *, now: datetime) -> bool:
    """Whether the condition holds; what is relative to today is so by the calendar of `now`'s own time zone."""
    match condition:
        case All(parts):
            return all(holds(part, facts, now=now) for part in parts)
        case AnyOf(parts):
            return any(holds(part, facts, now=now) for part in parts)
        case Not(part):
            return not holds(part, facts, now=now)
        case Did():
            happened = facts.counts.get(condition, 0)
            return all(_BOUNDS[op](happened, number) for op, number in condition.count)
        case Comparison():
            return comparisons.holds(condition, facts.values.get(condition.field.name), now=now)


def fields_of(condition: Condition) -> list[Field]:
    """The fields of the contact that it asks about, each once."""
    return list(dict.fromkeys(leaf.field for leaf in _leaves(condition) if isinstance(leaf, Comparison)))


def histories_of(condition: Condition) -> list[Did]:
    """What has to be counted before it can be asked, each once."""
    return list(dict.fromkeys(leaf for leaf in _leaves(condition) if isinstance(leaf, Did)))


def _leaves(condition: Condition) -> Iterator[Comparison | Did]:
    match condition:
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from _leaves(part)
        case Not(part):
            yield from _leaves(part)
        case Comparison() | Did():
            yield condition


class _Wrong(Exception):
    """Ends the node that it is raised in; its neighbours are looked at all the same."""

    def __init__(self, pointer: str, code: str, message: str) -> None:
        super().__init__(message)
        self.error = FieldError(pointer, code, message)


class _Parser:
    """Collects what is wrong on its way through a document; a node that is wrong is None."""

    def __init__(self, fields: Fields, interactions: Fields) -> None:
        self.errors: list[FieldError] = []
        self.nodes = 0
        self._fields = fields
        self._interactions = interactions

    def node(self, document: Any, pointer: str, depth: int = 1, *, inside: bool = False) -> Condition | None:
        """`inside` a history the fields are those of an interaction, and there are no further histories."""
        self.nodes += 1
        if self.nodes > NODES_MAX:
            return None
        try:
            return self._node(document, pointer, depth, inside)
        except _Wrong as wrong:
            self.errors.append(wrong.error)
            return None

    def _node(self, document: Any, pointer: str, depth: int, inside: bool) -> Condition | None:
        if depth > DEPTH_MAX:
            raise _Wrong(pointer, "too_deep", f"conditions stand within each other at most {DEPTH_MAX} deep")
        possible = [name for name in _MEMBERS if not (inside and name == "did")]
        kinds = [name for name in possible if name in document] if isinstance(document, dict) else []
        if len(kinds) != 1:
            raise _Wrong(pointer, "condition", f"must be an object with one of these: {', '.join(possible)}")
        kind = kinds[0]
        for name in sorted(document.keys() - set(_MEMBERS[kind]), key=str)[:NODES_MAX]:
            place = str(name).replace("~", "~0").replace("/", "~1")
            said = f"beside {kind} there can be {_listed(_MEMBERS[kind][1:])}"
            self.errors.append(FieldError(f"{pointer}/{place}", "unknown_member", said))
        match kind:
            case "all":
                return All(self._parts(document["all"], f"{pointer}/all", depth, inside))
            case "any":
                return AnyOf(self._parts(document["any"], f"{pointer}/any", depth, inside))
            case "not":
                part = self.node(document["not"], f"{pointer}/not", depth + 1, inside=inside)
                return None if part is None else Not(part)
            case "field":
                return _comparison(document, pointer, self._interactions if inside else self._fields)
            case _:
                return self._history(document, pointer, depth)

    def _parts(self, documents: Any, pointer: str, depth: int, inside: bool) -> tuple[Condition, ...]:
        if not isinstance(documents, list) or not documents:
            raise _Wrong(pointer, "list", "must be a list of at least one condition")
        # One more than there is room for is enough to know that they are too many.
        parts = [
            self.node(part, f"{pointer}/{place}", depth + 1, inside=inside)
            for place, part in enumerate(documents[: NODES_MAX + 1])
        ]
        return tuple(part for part in parts if part is not None)

    def _history(self, document: Mapping[str, Any], pointer: str, depth: int) -> Did:
        where, within = document.get("where"), document.get("within")
        narrowed = None if where is None else self.node(where, f"{pointer}/where", depth + 1, inside=True)
        kind = document["did"]
        if not isinstance(kind, str) or not _KIND.match(kind):
            raise _Wrong(f"{pointer}/did", "kind", 'must be a kind of interaction, such as "purchase" or "message"')
        count = _count(document.get("count"), f"{pointer}/count")
        return Did(kind, count, None if within is None else _within(within, f"{pointer}/within"), narrowed)


def _comparison(document: Mapping[str, Any], pointer: str, fields: Fields) -> Comparison:
    name, op = document["field"], document.get("op")
    field = fields.find(name) if isinstance(name, str) else None
    if field is None:
        close = fields.close_to(name) if isinstance(name, str) else []
        said = f"close to it: {_listed(close)}" if close else f"the fields are {_listed(fields.names)}"
        raise _Wrong(f"{pointer}/field", "unknown_field", f"there is no such field; {said}")
    value = document.get("value")
    if (kind := document.get("type")) is not None:
        if not field.has_types or kind not in attribute_types.KINDS:
            raise _Wrong(f"{pointer}/type", "wrong_type", "only attributes have one, that of their definition")
        field, value = attribute_types.read(field, kind), attribute_types.asked(kind, value)
    allowed = OPERATORS[field.type]
    known = next((each for each in allowed if each == op), None)
    if known is None:
        raise _Wrong(f"{pointer}/op", "unknown_operator", f"for {name} it is one of {_listed(allowed)}")
    if value is None and known != "exists":
        raise _Wrong(f"{pointer}/value", "missing", "say with what to compare it; whether there is any, exists asks")
    try:
        return comparisons.compared(field, known, True if value is None else value)
    except WrongValue as error:
        place = "" if error.place is None else f"/{error.place}"
        raise _Wrong(f"{pointer}/value{place}", "wrong_value", str(error)) from None


def _count(document: Any, pointer: str) -> tuple[tuple[str, int], ...]:
    if document is None:
        return (("gte", 1),)
    if not isinstance(document, dict) or not document or not document.keys() <= _BOUNDS.keys():
        raise _Wrong(pointer, "count", f'must be an object such as {{"gte": 3}}, with {_listed(_BOUNDS)}')
    for op, number in document.items():
        if type(number) is not int or not 0 <= number <= COUNT_MAX:
            raise _Wrong(f"{pointer}/{op}", "wrong_value", f"must be a whole number from 0 to {COUNT_MAX}")
    return tuple(sorted(document.items()))


def _within(text: Any, pointer: str) -> Duration:
    try:
        duration = Duration.of(text if isinstance(text, str) else "")
    except ValueError as error:
        raise _Wrong(pointer, "wrong_value", str(error)) from None
    if duration == Duration():
        raise _Wrong(pointer, "wrong_value", "must be longer than nothing")
    return duration


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
