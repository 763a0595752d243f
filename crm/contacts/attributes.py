"""What a business wants to remember of a contact beyond the fields that everybody has."""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec

from crm.errors import FieldError

Attribute: TypeAlias = str | bool | int | float | list[str]

COUNT_MAX = 100
TEXT_LENGTH_MAX = 1_000
LIST_LENGTH_MAX = 100
NUMBER_MAX = 2**53 - 1
BYTES_MAX = 32_768
"""All attributes of one contact together, as JSON."""

_NAME = re.compile(r"[^\W\d][\w.-]{0,62}\Z")


def merged(before: Mapping[str, Attribute], changes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    """The attributes after a JSON merge patch: name by name, null removes."""
    after = {**before, **{name: _clean(value) for name, value in changes.items()}}
    return {name: value for name, value in after.items() if value is not None}


def unlike(attributes: Mapping[str, Attribute], others: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Those of `attributes` that are missing among the others or have another value there."""
    return {
        name: value
        for name, value in attributes.items()
        # True equals 1 in Python, and is another attribute.
        if name not in others or others[name] != value or isinstance(others[name], bool) != isinstance(value, bool)
    }


def is_name(text: str) -> bool:
    """Whether an attribute can have this name."""
    return _NAME.match(text) is not None


def problems(attributes: Mapping[str, Attribute]) -> Iterator[FieldError]:
    """What keeps them from being stored."""
    for name, value in attributes.items():
        pointer = f"/attributes/{name.replace('~', '~0').replace('/', '~1')}"
        if not is_name(name):
            yield FieldError(
                pointer, "attribute_name", "an attribute's name is a letter, then up to 62 letters, digits, _ . -"
            )
        elif (problem := _problem(value)) is not None:
            yield FieldError(pointer, "attribute_value", problem)
    if len(attributes) > COUNT_MAX:
        yield FieldError("/attributes", "too_many", f"a contact has at most {COUNT_MAX} attributes")
    elif len(msgspec.json.encode(attributes)) > BYTES_MAX:
        yield FieldError("/attributes", "too_large", f"all attributes together take at most {BYTES_MAX} bytes")


def _clean(value: Attribute | None) -> Attribute | None:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [unicodedata.normalize("NFC", item) for item in value]
    return value


def _problem(value: Attribute) -> str | None:
    if isinstance(value, str):
        return _text_problem(value)
    if isinstance(value, list):
        if len(value) > LIST_LENGTH_MAX:
            return f"a list has at most {LIST_LENGTH_MAX} items"
        return next((problem for item in value if (problem := _text_problem(item)) is not None), None)
    if not math.isfinite(value) or abs(value) > NUMBER_MAX:
        return "numbers must lie within ±(2^53 - 1); send larger ones as text"
    return None


def _text_problem(text: str) -> str | None:
    if "\x00" in text:
        return "must not contain the NUL character"
    return f"text has at most {TEXT_LENGTH_MAX} characters" if len(text) > TEXT_LENGTH_MAX else None
