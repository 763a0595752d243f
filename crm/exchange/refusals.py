"""The rows of an import that were refused, each with what is wrong with it; also as a file to mend and send again."""

import csv
import io
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from crm.db.session import Database, Session
from crm.exchange import imports
from crm.exchange.cells import guarded
from crm.exchange.mappings import REFUSED_COLUMNS
from crm.exchange.outcomes import RowError

_PAGE: Final = 1_000


@dataclass(slots=True)
class RefusedRow:
    """A row that was not imported, and everything that is wrong with it; `row` is its number in a spreadsheet."""

    row: int
    errors: list[RowError]
    cells: list[str]


async def page(session: Session, *, import_id: UUID, after: int, limit: int) -> list[RefusedRow]:
    """Refused rows behind `after`, in the order of the file. Raises ImportNotFound."""
    rows = await _page(session, import_id, after, limit)
    if not rows:
        await imports.get(session, import_id=import_id)
    return rows


async def file(database: Database, *, import_id: UUID, columns: Sequence[str]) -> AsyncGenerator[bytes, None]:
    """A CSV with the columns of the import and behind them, for each row, its number and what is wrong with it."""
    yield lines([[*columns, *REFUSED_COLUMNS]]).encode()
    after = 0
    while True:
        async with database.reading() as session:
            rows = await _page(session, import_id, after, _PAGE)
        if not rows:
            return
        yield lines([line(row.cells, row.row, row.errors, columns) for row in rows]).encode()
        after = rows[-1].row


def line(cells: Sequence[str], row: int, errors: Sequence[RowError], columns: Sequence[str]) -> Sequence[Any]:
    """A refused row as it stands in a file: what it had in the columns, its number, and what is wrong with it."""
    reasons = (error.message if error.field is None else f"{error.field}: {error.message}" for error in errors)
    return [*cells[: len(columns)], row, "; ".join(reasons)]


def lines(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV, in which no spreadsheet finds a formula."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([*map(guarded, row)] for row in rows)
    return text.getvalue()


async def _page(session: Session, import_id: UUID, after: int, limit: int) -> list[RefusedRow]:
    rows = await session.fetch(
        "SELECT row, errors, cells FROM import_errors WHERE import_id = $1 AND row > $2 ORDER BY row LIMIT $3",
        import_id, after, limit,
    )  # fmt: skip
    return [RefusedRow(row["row"], [RowError(**each) for each in row["errors"]], row["cells"]) for row in rows]
