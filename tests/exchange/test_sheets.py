"""Files as they come: whatever wrote them, the same rows."""

import zipfile
from datetime import date, datetime
from pathlib import Path

import pytest

from crm.exchange import sheets, workbooks
from crm.exchange.readability import UnreadableFile
from crm.exchange.sheets import Layout
from tests.exchange.desk import workbook

NAMES = ["Nama", "Kota"]
ROWS = [["Müller", "Köln"], ["Sari", "Bandung, Jawa Barat"]]
TEXT = 'Nama,Kota\r\nMüller,Köln\r\nSari,"Bandung, Jawa Barat"\r\n'


def read(path: Path, **options: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    layout, _ = sheets.recognize(path, **options)
    return list(layout.columns), [(number, list(cells)) for number, cells in sheets.rows(path, layout)]


@pytest.mark.parametrize(
    ("encoding", "recognized"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("windows-1252", "windows-1252"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_has(tmp_path: Path, encoding: str, recognized: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXT.encode(encoding))

    layout, sample = sheets.recognize(path)

    assert (layout.format, layout.encoding, layout.delimiter) == ("csv", recognized, ",")
    assert list(layout.columns) == NAMES
    assert [list(cells) for cells in sample] == ROWS
    assert read(path)[1] == [(2, ROWS[0]), (3, ROWS[1])]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("Nama,Kota\nSari,Bandung\n", ","),
        ("Nama;Kota\nSari, Dewi;Bandung\n", ";"),
        ("Nama\tKota\nSari; Dewi\tBandung, Jawa\n", "\t"),
        ("Nama|Kota\nSari|Bandung\n", "|"),
        ("sep=;\r\nNama;Kota\r\nSari,1;Bandung,2\r\n", ";"),
        ('Nama;Kota\n"Sari;Dewi";"Jalan A, Kota B"\n"x,y,z";q\n', ";"),
        ("Nama\nSari\n", ","),
    ],
)
def test_columns_are_told_by_what_makes_them_in_every_row(tmp_path: Path, text: str, delimiter: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(text)

    layout, _ = sheets.recognize(path)

    assert layout.delimiter == delimiter
    assert layout.columns[0] == "Nama"


def test_a_quoted_cell_may_have_lines_and_empty_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text('\nNama,Alamat\nSari,"Jalan 1\nBandung"\n,\n\nBudi,"say ""hi"""\n')

    assert read(path) == (["Nama", "Alamat"], [(3, ["Sari", "Jalan 1\nBandung"]), (6, ["Budi", 'say "hi"'])])
    assert sheets.count(path, sheets.recognize(path)[0]) == 2


def test_rows_are_filled_up_to_the_header_and_keep_what_is_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("a,b,\n1\n1,2,3,4\n")

    assert read(path) == (["a", "b"], [(2, ["1", ""]), (3, ["1", "2", "3", "4"])])


def test_every_column_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("Email,,Email, No  HP\nx,x,x,x\n")

    assert read(path)[0] == ["Email", "column 2", "Email (2)", "No HP"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing in this file"),
        (b"\n \n", "nothing in this file"),
        (b"a,b\n1,\x00\n", "neither text"),
        (b"\x89PNG\r\n\x1a\n\x81\x8d", "neither text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel"),
        (b"PK\x03\x04nonsense", "damaged"),
        (",".join(f"c{n}" for n in range(501)).encode() + b"\n", "at most 500 columns"),
        (b"a" * 1_000_001, "at most 1,000,000 characters"),
        (b"a,b\n1," + b"x" * 100_000 + b"\n", "Row 2 has more than 100,000 characters"),
    ],
)
def test_what_is_no_table_is_refused_with_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(UnreadableFile, match=said):
        sheets.recognize(path)


def test_a_quotation_mark_that_is_never_closed_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text('a,b\n1,2\n"3,4\n' + "5,6\n" * 50_000)

    with pytest.raises(UnreadableFile, match="never closed"):
        list(sheets.rows(path, Layout("csv", "utf-8", ",", None, ["a", "b"])))


def test_a_workbook_s_cells_are_text_as_a_person_would_write_them(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "book.xlsx",
        ["Sari", 81234567890, datetime.fromisoformat("1990-03-10"), 45000.5],
        [None, None, None, None],
        ["Budi", 8.12e10, date(2001, 12, 31), 0.1 + 0.2],
        [True, "0812", datetime.fromisoformat("2026-01-02 09:30"), 1e20],
        header=["Nama", "HP", "Lahir", 2026],
    )

    assert read(path) == (
        ["Nama", "HP", "Lahir", "2026"],
        [
            (2, ["Sari", "81234567890", "1990-03-10", "45000.5"]),
            (4, ["Budi", "81200000000", "2001-12-31", "0.3"]),
            (5, ["true", "0812", "2026-01-02T09:30:00", "100000000000000000000"]),
        ],
    )


def test_the_sheet_that_is_asked_for_is_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "book.xlsx", ["Sari", "1", "", ""])

    assert sheets.recognize(path)[0].sheet == "Pelanggan"
    assert len(read(path, sheet="Pelanggan")[1]) == 1
    with pytest.raises(UnreadableFile, match="no sheet 'Order'; there are Pelanggan"):
        sheets.recognize(path, sheet="Order")


def test_a_small_workbook_that_holds_a_huge_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "SHARED_MAX", 1_000_000)
    path = workbook(tmp_path / "book.xlsx", ["Sari", "1", "", ""])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    parts["xl/sharedStrings.xml"] = b" " * 2_000_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)
    assert path.stat().st_size < 50_000

    with pytest.raises(UnreadableFile, match="too large when it is unpacked"):
        sheets.recognize(path)


def test_a_row_far_below_does_not_make_a_million_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "ROWS_MAX", 1_000)
    path = workbook(tmp_path / "book.xlsx", ["Sari", "1", "", ""])
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = parts[name].replace(b'r="2"', b'r="900000000"').replace(b"A2", b"A900000000")
    with zipfile.ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content)

    with pytest.raises(UnreadableFile, match="at most 1,000 rows"):
        sheets.recognize(path)
