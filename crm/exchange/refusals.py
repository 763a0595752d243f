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
    yield _written([[*columns, *REFUSED_COLUMNS]])
    after = 0
    while True:
        async with database.reading() as session:
            rows = await _page(session, import_id, after, _PAGE)
        if not rows:
            return
        width = len(columns)
        yield _written([[*map(guarded, row.cells[:width]), row.row, reason(row.errors)] for row in rows])
        after = rows[-1].row


def reason(errors: Sequence[RowError]) -> str:
    """What is wrong with a row, in one cell."""
    return "; ".join(error.message if error.field is None else f"{error.field}: {error.message}" for error in errors)


async def _page(session: Session, import_id: UUID, after: int, limit: int) -> list[RefusedRow]:
    rows = await session.fetch(
        "SELECT row, errors, cells FROM import_errors WHERE import_id = $1 AND row > $2 ORDER BY row LIMIT $3",
        import_id, after, limit,
    )  # fmt: skip
    return [RefusedRow(row["row"], [RowError(**each) for each in row["errors"]], row["cells"]) for row in rows]


def _written(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
