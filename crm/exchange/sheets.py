"""Tables in files, row by row: CSV in whatever encoding and with whatever delimiter, or a sheet of a workbook.

A file is read from the disk as its rows are asked for, so memory does not grow with it. All cells are text.
"""

import codecs
import csv
import io
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple, TextIO, TypeAlias

from crm.exchange.cells import unguarded
from crm.exchange.readability import COLUMNS_MAX, UnreadableFile

Format: TypeAlias = Literal["csv", "xlsx"]

DELIMITERS: Final = ",;\t|"
LINE_LENGTH_MAX: Final = 1_000_000
ROW_LENGTH_MAX: Final = 100_000
SAMPLE, SHOWN = 5, 200
"""How many rows are shown before anything is imported, and how much of each cell."""

_ENCODINGS: Final = ("utf-8", "windows-1252")
"""What is tried where no byte order mark says it: nearly no text in the second one is valid in the first."""
_BLOCK: Final = 262_144
_PROBED: Final = 65_536
_PROBED_ROWS: Final = 50
_ZIP: Final = b"PK\x03\x04"
_OLD_EXCEL: Final = b"\xd0\xcf\x11\xe0"
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)\r?\n")


class Row(NamedTuple):
    """A row of the file under the header, that has something in it; `number` counts as a spreadsheet does, from 1."""

    number: int
    cells: Sequence[str]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read, and the names of its columns: no two are the same, none is empty."""

    format: Format
    encoding: str | None
    delimiter: str | None
    sheet: str | None
    columns: Sequence[str]


def recognize(path: Path, *, sheet: str | None = None) -> tuple[Layout, list[Sequence[str]]]:
    """How a file is to be read, and its first rows; `sheet` is for a workbook with several. Raises UnreadableFile."""
    with path.open("rb") as file:
        beginning = file.read(8)
    if beginning.startswith(_OLD_EXCEL):
        raise UnreadableFile("This is an old Excel file. Save it as .xlsx or as CSV.")
    if beginning.startswith(_ZIP):
        from crm.exchange import workbooks  # the library takes as long to load as all the rest of a command

        name = workbooks.sheet_name(path, sheet)
        layout = Layout("xlsx", None, None, name, ())
    else:
        encoding = _encoding(path)
        layout = Layout("csv", encoding, _delimiter(path, encoding), None, ())
    with closing(_raw(path, layout)) as rows:
        header = next(rows, None)
        if header is None:
            raise UnreadableFile("There is nothing in this file: its first row names the columns.")
        sample = [[cell[:SHOWN] for cell in row.cells] for row in islice(rows, SAMPLE)]
    columns = _names(header.cells)
    if len(columns) > COLUMNS_MAX:
        raise UnreadableFile(f"A table has at most {COLUMNS_MAX} columns.")
    found = Layout(layout.format, layout.encoding, layout.delimiter, layout.sheet, columns)
    return found, [_padded(cells, len(columns))[: len(columns)] for cells in sample]


def rows(path: Path, layout: Layout) -> Generator[Row, None, None]:
    """The rows under the header, each with a cell for every column, or with more. Raises UnreadableFile."""
    width = len(layout.columns)
    with closing(_raw(path, layout)) as found:
        next(found, None)
        for number, cells in found:
            yield Row(number, _padded(cells, width))


def count(path: Path, layout: Layout) -> int | None:
    """How many rows there are; None where knowing it takes as long as reading them all. Raises UnreadableFile."""
    return sum(1 for _ in rows(path, layout)) if layout.format == "csv" else None


def _raw(path: Path, layout: Layout) -> Generator[Row, None, None]:
    """All rows that have something in them, the header first."""
    if layout.format == "xlsx":
        from crm.exchange import workbooks

        cells = workbooks.rows(path, layout.sheet or "")
    else:
        cells = _csv(path, layout.encoding or "", layout.delimiter or "")
    with closing(cells):
        for number, row in enumerate(cells, 1):
            if sum(map(len, row)) > ROW_LENGTH_MAX:
                raise UnreadableFile(f"Row {number} has more than {ROW_LENGTH_MAX:,} characters. Is this a table?")
            if any(row) and any(cell.strip() for cell in row):
                yield Row(number, row)


def _csv(path: Path, encoding: str, delimiter: str) -> Generator[Sequence[str], None, None]:
    with path.open(newline="", encoding=encoding) as lines:
        if _separator_in(lines.readline(8)) is None:
            lines.seek(0)
        reader = csv.reader(_lines(lines), delimiter=delimiter)
        try:
            yield from reader
        except csv.Error as error:
            raise UnreadableFile(
                f"Line {reader.line_num} can't be read: {error}. Is there a quotation mark that is never closed?"
            ) from error


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(LINE_LENGTH_MAX):
        if len(line) == LINE_LENGTH_MAX:
            raise UnreadableFile(f"A line has at most {LINE_LENGTH_MAX:,} characters. Is this a table?")
        yield line


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(4096)
    if beginning.startswith(codecs.BOM_UTF8):
        candidates: tuple[str, ...] = ("utf-8-sig",)
    elif beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        candidates = ("utf-16",)
    elif beginning[1::2].count(0) > len(beginning) // 4:
        candidates = ("utf-16-le",)
    elif beginning[::2].count(0) > len(beginning) // 4:
        candidates = ("utf-16-be",)
    else:
        candidates = _ENCODINGS
    for encoding in candidates:
        if _decodes(path, encoding):
            return encoding
    raise UnreadableFile("This is neither text in UTF-8, UTF-16 or Windows-1252 nor an Excel workbook (.xlsx).")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        try:
            while block := file.read(_BLOCK):
                if "\x00" in decoder.decode(block):
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _delimiter(path: Path, encoding: str) -> str:
    """The one that makes columns of most rows, as many in each as in the first."""
    with path.open(newline="", encoding=encoding) as lines:
        text = lines.read(_PROBED)
    if (said := _separator_in(text)) is not None:
        return said
    if len(text) == _PROBED:
        text = text[: text.rfind("\n") + 1] or text
    return max(DELIMITERS, key=lambda delimiter: _fit(text, delimiter))


def _separator_in(text: str) -> str | None:
    """The delimiter that the first line declares, as Excel writes and reads it."""
    found = _SEPARATOR_LINE.match(text)
    return found[1] if found else None


def _fit(text: str, delimiter: str) -> tuple[int, int]:
    widths: list[int] = []
    try:
        widths.extend(
            len(row) for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), _PROBED_ROWS)
        )
    except csv.Error:
        return 0, 0
    width = widths[0] if widths else 0
    return (sum(each == width for each in widths), width) if width > 1 else (0, width)


def _names(header: Sequence[str]) -> list[str]:
    """The names of columns, made different where they are not, and given to those that have none."""
    named = [unguarded(" ".join(name.split())) for name in header]
    while named and not named[-1]:
        named.pop()
    names: dict[str, None] = {}
    for position, name in enumerate(named, 1):
        wanted, again = name or f"column {position}", 2
        while wanted in names:
            wanted, again = f"{name or f'column {position}'} ({again})", again + 1
        names[wanted] = None
    return list(names)


def _padded(cells: Sequence[str], width: int) -> Sequence[str]:
    return cells if len(cells) >= width else [*cells, *[""] * (width - len(cells))]
