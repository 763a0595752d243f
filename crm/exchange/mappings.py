"""Where the columns of a file go: which fields there are for each kind of import, and which column is for which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from crm.contacts import addresses, attributes
from crm.errors import Invalid
from crm.exchange.cells import DateOrder

Kind: TypeAlias = Literal["contacts", "purchases"]

IDENTITY: Final = "identity:"
ATTRIBUTE: Final = "attributes."
"""How the name of a field begins that is one of an open set: `identity:KIND`, `attributes.NAME`."""

FIELDS: Final[Mapping[Kind, Sequence[str]]] = {
    "contacts": (
        "name", "given_name", "family_name", "locale", "time_zone", "birth_on", "tags", "attributes", "verified",
    ),
    "purchases": (
        "code", "currency", "occurred_at", "order_ref", "shipping", "shipping_tax", "store", "till", "total",
    ),
}  # fmt: skip
_OPEN: Final[Mapping[Kind, Sequence[str]]] = {
    "contacts": ("identity:KIND", "attributes.NAME"),
    "purchases": ("identity:KIND",),
}
_REPEATABLE: Final = ("tags",)
REFUSED_COLUMNS: Final = ("line", "error")
"""What a file of refused rows has behind the columns of the file that they come from."""


class NotImportable(Invalid):
    code = "not_importable"
    title = "This file can't be imported like that"


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """`columns` say which field a column is for, `constants` what a field is in every row that does not say it.

    `date_order` is how days are written that do not begin with the year.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    date_order: DateOrder = "dmy"

    def places(self, columns: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Each mapped column's position in a file with these `columns`, with its field."""
        return ((position, self.columns[name]) for position, name in enumerate(columns) if name in self.columns)

    def left_over(self, columns: Sequence[str]) -> list[str]:
        """The columns that go nowhere, without those of our own that a file of refused rows ends with."""
        own = own_columns(columns)
        return [name for name in columns if name not in self.columns and name not in own]


def own_columns(columns: Sequence[str]) -> Sequence[str]:
    """The columns behind those of the shop, where this is a file of rows that were refused before."""
    return REFUSED_COLUMNS if tuple(columns[-len(REFUSED_COLUMNS) :]) == REFUSED_COLUMNS else ()


def check(kind: Kind, mapping: ColumnMapping, columns: Sequence[str]) -> None:
    """Whether rows with these `columns` can be imported so. Raises NotImportable."""
    targets = [*mapping.columns.values(), *mapping.constants]
    if unknown := [target for target in targets if not _is_field(kind, target)]:
        raise NotImportable(
            f"No field is called {', '.join(unknown)}. There are {', '.join([*FIELDS[kind], *_OPEN[kind]])}."
        )
    if missing := mapping.columns.keys() - set(columns):
        raise NotImportable(f"The file has no column {', '.join(sorted(missing))}; it has {', '.join(columns)}.")
    identities = [target for target in targets if target.startswith(IDENTITY)]
    single = [target for target in mapping.columns.values() if not (target in identities or target in _REPEATABLE)]
    if twice := sorted({target for target in single if single.count(target) > 1}):
        raise NotImportable(f"Only one column can be {', '.join(twice)}.")
    if kind == "purchases" and len(identities) != 1:
        raise NotImportable("Say who bought: map one column to identity:KIND, such as identity:email.")
    if kind == "contacts" and not any(target.startswith(IDENTITY) for target in mapping.columns.values()):
        raise NotImportable(
            "Map a column to identity:KIND, such as identity:phone: it is what somebody is known by the next time."
        )
    if kind == "contacts" and any(target.startswith(IDENTITY) for target in mapping.constants):
        raise NotImportable("An identity is one person's: it can't be the same in every row.")


def _is_field(kind: Kind, target: str) -> bool:
    if target.startswith(IDENTITY):
        return addresses.is_kind(target.removeprefix(IDENTITY))
    if kind == "contacts" and target.startswith(ATTRIBUTE):
        return attributes.is_name(target.removeprefix(ATTRIBUTE))
    return target in FIELDS[kind]
