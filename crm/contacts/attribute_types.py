"""The types that attributes can be defined as: which values fit, and how conditions read them.

A value that does not fit is none to a condition, in SQL and in Python alike: it may be older than the definition.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias, get_args

from crm.contacts import comparisons
from crm.contacts.attributes import Attribute
from crm.contacts.comparisons import DECIMAL, WrongValue
from crm.contacts.fields import Field, Type

Kind: TypeAlias = Literal["text", "number", "money", "date", "boolean", "choice", "list"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_TYPES: Final[Mapping[Kind, Type]] = {
    "text": "text", "number": "number", "money": "number", "date": "date", "boolean": "boolean", "choice": "text",
    "list": "list",
}  # fmt: skip
_MESSAGES: Final[Mapping[Kind, str]] = {
    "text": "must be a text",
    "number": "must be a number",
    "money": 'must be a decimal in a text, such as "120000.00", of at most 15 and 6 digits',
    "date": 'must be a day, such as "2026-11-01"',
    "boolean": "must be true or false",
    "choice": "must be one of the options",
    "list": "must be a list of texts",
}


def problems(kind: Kind, options: Sequence[str] | None, value: Attribute) -> Iterator[tuple[str, str]]:
    """What keeps a value from being one of the type: where in it, as the end of a JSON pointer, and what."""
    if not _is(kind, value):
        yield "", _MESSAGES[kind]
    elif options is not None:
        listed = f"must be one of: {', '.join(options)}"
        if isinstance(value, list):
            yield from ((f"/{place}", listed) for place, item in enumerate(value) if item not in options)
        elif value not in options:
            yield "", listed


def read(field: Field, kind: Kind) -> Field:
    """One of an open set of any type, read as a value of this type."""
    return replace(
        field, name=f"{field.name} as {kind}", type=_TYPES[kind], sql=_read(kind, f"({field.sql})"), has_types=False,
        # What helps to find a value as it is in JSON would find another than what is read of it.
        among=None, within=None,
    )  # fmt: skip


def asked(kind: Kind, value: Any) -> Any:
    """A value in a condition about the type: money may be asked for as it is kept, and counts as a number."""
    if kind != "money":
        return value
    if isinstance(value, list):
        return [asked(kind, item) for item in value]
    return Decimal(value) if isinstance(value, str) and comparisons.is_decimal(value) else value


def fits(kind: Kind, *, value: str, options: str) -> str:
    """In SQL, whether JSON is a value of this type, and one of the texts in `options` unless these are NULL.

    Both are expressions.
    """
    if kind == "list":
        among = f"{value} <@ to_jsonb({options})"
        return f"(jsonb_typeof({value}) = 'array' AND coalesce({among}, true))"
    is_one = f"({_read(kind, value)}) IS NOT NULL".replace("{{", "{").replace("}}", "}")
    return f"({is_one} AND coalesce({value} #>> ARRAY[]::text[] = ANY ({options}), true))"


def _is(kind: Kind, value: Attribute) -> bool:
    match kind:
        case "boolean":
            return isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "list":
            return isinstance(value, list)
        case "money":
            return isinstance(value, str) and comparisons.is_decimal(value)
        case "date":
            try:
                comparisons.day(value)
            except WrongValue:
                return False
            return True
        case _:
            return isinstance(value, str)


def _read(kind: Kind, value: str) -> str:
    """In SQL, the value in JSON; NULL, or an empty list, where it does not fit. Braces are as `Field.sql` has them."""
    text = f"{value} #>> ARRAY[]::text[]"
    match kind:
        case "boolean":
            return f"CASE WHEN jsonb_typeof({value}) = 'boolean' THEN ({value})::boolean END"
        case "number":
            return f"CASE WHEN jsonb_typeof({value}) = 'number' THEN ({value})::numeric END"
        case "list":
            items = f"CASE WHEN jsonb_typeof({value}) = 'array' THEN {value} END"
            return f"ARRAY(SELECT jsonb_array_elements_text({items}))"
        case "money":
            form = DECIMAL.replace("{", "{{").replace("}", "}}")
            return f"CASE WHEN jsonb_typeof({value}) = 'string' AND {text} ~ '^{form}$' THEN ({text})::numeric END"
        case "date":
            # Postgres would take many a text for a day that is none here.
            is_day = rf"{text} ~ '^(19|20|21)\d\d-\d\d-\d\d$' AND pg_input_is_valid({text}, 'date')"
            return f"CASE WHEN jsonb_typeof({value}) = 'string' AND {is_day} THEN ({text})::date END"
        case _:
            return f"CASE WHEN jsonb_typeof({value}) = 'string' THEN {text} END"
