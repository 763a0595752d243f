"""Sheets of Excel workbooks, streamed: only the texts that cells share are kept in memory, up to a limit."""

import warnings
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import openpyxl  # type: ignore[import-untyped]

from crm.exchange.readability import COLUMNS_MAX, UnreadableFile

ROWS_MAX: Final = 1_048_576
"""What Excel itself allows. A file may claim any number."""
UNPACKED_MAX: Final = 2 * 2**30
SHARED_MAX: Final = 128 * 2**20
"""Bytes of a workbook, and of the texts its cells share, when they are unpacked: a small file may hold a large one."""

_SHARED: Final = "xl/sharedStrings.xml"
_EXACT_MAX: Final = 10**15
"""Excel keeps 15 digits of a number."""

# What is missing in the library's picture of a workbook (styles, validations) is nothing that a row has.
warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\.")


def sheet_name(path: Path, wanted: str | None) -> str:
    """The sheet of that name, or the first one. Raises UnreadableFile."""
    with _opened(path) as workbook:
        names = [sheet.title for sheet in workbook.worksheets]
    chosen = wanted if wanted is not None else next(iter(names), "")
    if chosen not in names:
        raise UnreadableFile(f"There is no sheet '{chosen}'; there are {', '.join(names) or 'none'}.")
    return chosen


def rows(path: Path, sheet: str) -> Generator[Sequence[str], None, None]:
    """All rows of a sheet, empty ones too. Raises UnreadableFile."""
    with _opened(path) as workbook:
        table = workbook[sheet]
        table.reset_dimensions()  # many programs write them wrong, and what lies outside would be left out
        for number, values in enumerate(table.iter_rows(values_only=True), 1):
            if number > ROWS_MAX:
                raise UnreadableFile(f"A sheet has at most {ROWS_MAX:,} rows.")
            yield [_text(value) for value in values[: COLUMNS_MAX + 1]]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            _refuse_bombs(file)
            workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                yield workbook
            finally:
                workbook.close()
    except (UnreadableFile, GeneratorExit):
        raise
    except Exception as error:
        raise UnreadableFile(f"This workbook is damaged: {error}.") from error


def _refuse_bombs(file: Any) -> None:
    # No more than these sizes is ever unpacked: the zip module stops there, whatever is packed.
    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if sum(sizes.values()) > UNPACKED_MAX or sizes.get(_SHARED, 0) > SHARED_MAX:
        raise UnreadableFile("This workbook is too large when it is unpacked. Save the sheet as CSV.")


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return _number(value)
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case date() | time():
            return value.isoformat()
    return str(value)


def _number(value: float) -> str:
    """All digits that the cell has, without an exponent, and none that only the binary fraction has."""
    if value.is_integer() and abs(value) < _EXACT_MAX:
        return str(int(value))
    return format(Decimal(format(value, ".15g")), "f")
