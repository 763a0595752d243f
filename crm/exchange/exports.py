"""Everything as it stands at one moment, in parts, so that it may be of any length: contacts, timelines, the ledger."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args
from uuid import UUID

from asyncpg import Record

from crm.contacts import contacts
from crm.db.session import Database
from crm.exchange import forms
from crm.exchange.forms import Form

What: TypeAlias = Literal["contacts", "interactions", "purchases", "points-transactions", "points-movements"]
WHAT: Final[tuple[What, ...]] = get_args(What)

PAGE: Final = 500
"""Rows that are read and written at a time; more would keep others waiting for longer."""
PAGE_SECONDS_MAX: Final = 600
"""How long the database may look for the next of them, where few rows are wanted among many."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are wanted: contacts created, or what occurred, from `since` on and before `until`."""

    since: datetime | None = None
    until: datetime | None = None
    tag: str | None = None
    program_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """`filters` are conditions with a place for a value, by the name of what is wanted; `order` is that of an index."""

    columns: Sequence[str]
    selected: str
    filters: Mapping[str, str]
    order: str
    item: Callable[[Record], Any] = dict
    cells: Callable[[Any], Sequence[Any]] = lambda item: list(item.values())


async def stream(database: Database, *, what: What, form: Form, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    """The rows, of one moment, as a file. Its connection is held until the generator is exhausted or closed."""
    source = _SOURCES[what]
    given = {name: value for name in source.filters if (value := getattr(wanted, name)) is not None}
    async with database.snapshot() as session:
        if beginning := forms.beginning(form, source.columns):
            yield beginning
        await session.execute(f"SET LOCAL statement_timeout = '{PAGE_SECONDS_MAX}s'")
        cursor = await session.cursor(query(what, *given), *given.values())
        while rows := await cursor.fetch(PAGE):
            items = map(source.item, rows)
            yield forms.lines(items) if form == "ndjson" else forms.table(map(source.cells, items))


def query(what: What, *filters: str) -> str:
    """The statement behind an export, with a parameter for each of the filters."""
    source = _SOURCES[what]
    conditions = " AND ".join(source.filters[name].format(f"${number}") for number, name in enumerate(filters, 1))
    return f"SELECT {source.selected} WHERE {conditions or 'true'} ORDER BY {source.order}"


def _ledger(table: str, columns: Sequence[str], order: str, *, selected: Mapping[str, str] | None = None) -> _Source:
    chosen = ", ".join(f"t.{name}{(selected or {}).get(name, '')}" for name in columns)
    return _Source(
        columns,
        f"{chosen} FROM {table} t",
        {"since": "t.occurred_at >= {}", "until": "t.occurred_at < {}", "program_id": "t.program_id = {}"},
        order,
    )


_SOURCES: Final[Mapping[What, _Source]] = {
    "contacts": _Source(
        forms.CONTACT_COLUMNS,
        f"{contacts.SELECTED} FROM contacts c",
        {
            "since": "c.created_at >= {}",
            "until": "c.created_at < {}",
            "tag": "EXISTS (SELECT FROM contact_tags t WHERE t.contact_id = c.id AND t.tag = {})",
        },
        "c.id",
        contacts.of_row,
        forms.contact,
    ),
    "interactions": _Source(
        (
            "contact_id", "id", "occurred_at", "recorded_at", "channel", "kind", "direction", "subject", "body", "data",
            "source", "external_id", "thread_id", "case_id", "by",
        ),
        "contact_id, id, occurred_at, recorded_at, channel, kind, direction, subject, body, data, source, external_id,"
        " thread_id, case_id, by FROM interactions",
        {"since": "occurred_at >= {}", "until": "occurred_at < {}"},
        "xid, id",
    ),
    "purchases": _ledger(
        "purchases",
        (
            "contact_id", "program_id", "order_ref", "transaction_id", "occurred_at", "recorded_at", "currency",
            "total", "basis", "points", "content", "rules", "challenges",
        ),
        "t.contact_id, t.program_id, t.order_ref",
        selected={"total": "::text", "basis": "::text"},
    ),
    "points-transactions": _ledger(
        "points_transactions",
        (
            "contact_id", "program_id", "id", "seq", "kind", "cause", "points", "reason", "order_ref", "reverses",
            "occurred_at", "recorded_at", "available_after", "rules", "by",
        ),
        "t.contact_id, t.program_id, t.seq",
    ),
    "points-movements": _ledger(
        "points_movements",
        (
            "contact_id", "program_id", "seq", "transaction_id", "lot_id", "from_bucket", "to_bucket", "points",
            "available_after", "pending_after", "held_after", "occurred_at", "recorded_at",
        ),
        "t.contact_id, t.program_id, t.seq",
    ),
}  # fmt: skip
