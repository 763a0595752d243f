"""Rows that are purchases: what a row says, and recording it with what it earns."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from uuid import UUID
from zlib import crc32
from zoneinfo import ZoneInfo

from crm.db.session import Session
from crm.errors import CrmError
from crm.exchange import cells
from crm.exchange.cells import BadCell
from crm.exchange.mappings import IDENTITY, ColumnMapping
from crm.exchange.outcomes import Outcome, RowError, failed, refused
from crm.exchange.sheets import Row
from crm.interactions.people import Sender
from crm.loyalty import purchases
from crm.loyalty.basket import Purchase, Terms, measure
from crm.loyalty.purchases import Bought

_REQUIRED: Final = ("order_ref", "occurred_at", "currency", "total")
_PLACE: Final = ("store", "till")
_LINE_LENGTH_MAX: Final = 200


class Reader:
    """Turns rows into purchases. Knows nobody, so it can work while others are being recorded."""

    def __init__(self, mapping: ColumnMapping, columns: Sequence[str], *, zone: ZoneInfo, region: str) -> None:
        self._places = list(mapping.places(columns))
        self._columns = columns
        self._constants = mapping.constants
        self._order = mapping.date_order
        self._zone = zone
        left_over = set(mapping.left_over(columns))
        self._data = [(position, name) for position, name in enumerate(columns) if name in left_over]
        self._sender = lru_cache(maxsize=100_000)(lambda kind, value: Sender.of(kind=kind, value=value, region=region))

    def read(self, row: Row) -> tuple[Bought | None, list[RowError]]:
        """The purchase in a row, or everything that is wrong with it."""
        if any(cell.strip() for cell in row.cells[len(self._columns) :]):
            return None, [refused("too_many_cells", "The row has more cells than the header.")]
        given: dict[str, tuple[str | None, str]] = {field: (None, text) for field, text in self._constants.items()}
        given.update(
            (field, (self._columns[position], text))
            for position, field in self._places
            if (text := row.cells[position])
        )
        fields: dict[str, Any] = {}
        errors: list[RowError] = []
        for field, (column, cell) in given.items():
            try:
                if text := cells.plain(cell):
                    fields["who" if field.startswith(IDENTITY) else field] = self._meant(field, text)
            except BadCell as bad:
                errors.append(RowError(field, column, bad.code, bad.message))
            except CrmError as error:
                errors.append(RowError(field, column, error.code, error.detail))
        at_fault = {error.field for error in errors}
        errors.extend(
            RowError(field, given.get(field, (None,))[0], "missing", "The row does not say it.")
            for field in _REQUIRED
            if field not in fields and field not in at_fault
        )
        if "who" not in fields and not any(field and field.startswith(IDENTITY) for field in at_fault):
            errors.append(refused("identity_missing", "The row does not say who bought."))
        return (None, errors) if errors else (self._bought(fields, row), [])

    def _meant(self, field: str, text: str) -> Any:
        if field.startswith(IDENTITY):
            return self._sender(field.removeprefix(IDENTITY), cells.identity(text))
        match field:
            case "order_ref":
                text = cells.identity(text)
            case "occurred_at":
                return cells.moment(text, zone=self._zone, order=self._order)
            case "currency":
                return cells.currency(text)
            case "total" | "shipping" | "shipping_tax":
                return cells.amount(text)
        return cells.line(text, length_max=_LINE_LENGTH_MAX)

    def _bought(self, fields: Mapping[str, Any], row: Row) -> Bought:
        purchase = Purchase(
            order_ref=fields["order_ref"], occurred_at=fields["occurred_at"], currency=fields["currency"],
            total=fields["total"], shipping=fields.get("shipping", Decimal(0)),
            shipping_tax=fields.get("shipping_tax", Decimal(0)), code=fields.get("code"),
        )  # fmt: skip
        return Bought(
            fields["who"], purchase,
            data={name: cells.unguarded(cell) for position, name in self._data if (cell := row.cells[position])},
            place={name: fields[name] for name in _PLACE if name in fields},
        )  # fmt: skip


def lane(bought: Bought, lanes: int) -> int:
    """Which of several lanes has all purchases of this buyer, so that they keep their order. The same in every run."""
    assert isinstance(bought.who, Sender)
    return crc32(bought.who.identity.value.encode()) % lanes


async def store(
    session: Session, *, program_id: UUID, bought: Sequence[Bought], by: str, now: datetime
) -> list[Outcome]:
    """Record purchases in order; the outcome of each. Those recorded before are skipped. Raises Unavailable."""
    recorded = await purchases.record_all(session, program_id=program_id, bought=bought, by=by, now=now)
    return [
        failed(result)
        if isinstance(result, CrmError)
        else Outcome("created" if result[1] else "skipped", points=result[0].points if result[1] else 0)
        for result in recorded
    ]


async def foresee(
    session: Session, *, program_id: UUID, terms: Terms, bought: Sequence[Bought], seen: AbstractSet[int]
) -> list[Outcome]:
    """What `store` would answer as far as it depends on the file and on which orders there are. Writes nothing.

    `seen` are the `marks` of what came earlier in the file.
    """
    known = await purchases.known(
        session, program_id=program_id, order_refs=[each.purchase.order_ref for each in bought]
    )
    outcomes = []
    for each in bought:
        order_ref = each.purchase.order_ref
        try:
            measure(each.purchase, terms)
        except CrmError as error:
            outcomes.append(failed(error))
            continue
        outcomes.append(Outcome("skipped" if order_ref in known or hash(order_ref) in seen else "created"))
        known.add(order_ref)
    return outcomes


def marks(bought: Sequence[Bought]) -> set[int]:
    """A number for each order in these rows, because a file may have millions."""
    return {hash(each.purchase.order_ref) for each in bought}
