"""The forms that rows have in files: JSON, one object a line, or CSV that no spreadsheet takes for formulas."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from crm.contacts.contacts import Contact
from crm.exchange.cells import guarded

Form: TypeAlias = Literal["csv", "ndjson"]

_OWN_COLUMN: Final = ("email", "phone", "whatsapp", "card", "customer_id")
"""Kinds of identity that have a column of their own; it is called as an import maps it."""
CONTACT_COLUMNS: Final = (
    "id", "name", "given_name", "family_name", "locale", "time_zone", "birth_on",
    *(f"identity:{kind}" for kind in _OWN_COLUMN), "other_identities", "tags", "attributes", "created_at", "updated_at",
)  # fmt: skip
_BETWEEN: Final = "; "


def beginning(form: Form, columns: Sequence[str]) -> bytes:
    """What stands before the first row."""
    return table([columns]) if form == "csv" else b""


def lines(items: Iterable[Any]) -> bytes:
    """Rows as JSON, one object a line."""
    return b"".join(msgspec.json.encode(item) + b"\n" for item in items)


def table(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def contact(each: Contact) -> Sequence[Any]:
    """A contact's cells; what there may be several of stands between semicolons."""
    known = defaultdict(list)
    for identity in each.identities:
        known[identity.kind if identity.kind in _OWN_COLUMN and not identity.account else ""].append(identity)
    return [
        each.id, each.name, each.given_name, each.family_name, each.locale, each.time_zone, each.birth_on,
        *(_BETWEEN.join(identity.value for identity in known[kind]) for kind in _OWN_COLUMN),
        _BETWEEN.join(":".join(filter(None, (other.kind, other.account, other.value))) for other in known[""]),
        _BETWEEN.join(each.tags), each.attributes or None, each.created_at, each.updated_at,
    ]  # fmt: skip


def _cell(value: Any) -> Any:
    match value:
        case None | int():
            return value
        case str():
            return guarded(value)
        case dict() | list():
            return msgspec.json.encode(value).decode()
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return str(value)
