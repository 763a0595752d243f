"""What a condition can ask about: fields with a name, a type, and where they are read from."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from crm.contacts import attributes

Type: TypeAlias = Literal["text", "number", "date", "instant", "boolean", "list", "any"]
"""A `list` is one of texts; of `any`, each value is what it is as JSON."""

_CLOSE_MAX = 3
_CLOSE_MIN = 0.5
_NAME_LENGTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Field:
    """One field; `sql` is an expression over the rows of whoever owns it.

    A name that ends in a dot stands for an open set: what comes behind the dot is the `key` of one of them, and `{key}`
    in `sql` the parameter that holds it. `keys` is what these look like, where not like names of attributes.
    `has_types` are sets of JSON whose members a condition can read as values of one type.

    Two things help SQL to find by an index what Python compares in `sql`: `among` asks whether it is one of the texts
    in `{values}`, or a list that has one; `within` is the JSON object that a set of any type is read from.
    """

    name: str
    type: Type
    sql: str
    key: str | None = None
    among: str | None = None
    within: str | None = None
    keys: re.Pattern[str] | None = None
    has_types: bool = False

    @property
    def is_open(self) -> bool:
        """Whether this is a set of fields, of which only the beginning of the name is known."""
        return self.name.endswith(".")

    def takes(self, key: str) -> bool:
        """Whether one of the set can be called so."""
        return attributes.is_name(key) if self.keys is None else self.keys.match(key) is not None


class Fields:
    """Fields by name."""

    def __init__(self, fields: Iterable[Field]) -> None:
        self._known: Mapping[str, Field] = {field.name: field for field in fields}

    def find(self, name: str) -> Field | None:
        """The field with this name, one of an open set included."""
        if (field := self._known.get(name)) is not None and not field.is_open:
            return field
        beginning, dot, key = name.partition(".")
        field = self._known.get(beginning + dot)
        if field is None or not field.is_open or not field.takes(key):
            return None
        return replace(field, name=name, key=key)

    def close_to(self, name: str) -> list[str]:
        """The names that somebody may have meant, best first."""
        beginning, dot, _ = name.partition(".")
        if dot and (beginning + dot) in self._known:
            return [self._shown(beginning + dot)]
        given = name[:_NAME_LENGTH_MAX].lower()
        found = difflib.get_close_matches(given, self._known, n=_CLOSE_MAX, cutoff=_CLOSE_MIN)
        return [self._shown(each) for each in found]

    @property
    def names(self) -> list[str]:
        """All names, as they are shown: `attributes.…` for an open set."""
        return [self._shown(name) for name in self._known]

    @staticmethod
    def _shown(name: str) -> str:
        return f"{name}…" if name.endswith(".") else name
