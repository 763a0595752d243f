"""What cells mean, in the forms in which people and spreadsheets write it."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from crm.exchange import cells
from crm.exchange.cells import BadCell

JAKARTA = ZoneInfo("Asia/Jakarta")


@pytest.mark.parametrize(
    ("text", "order", "day"),
    [
        ("1990-03-10", "dmy", date(1990, 3, 10)),
        ("19900310", "dmy", date(1990, 3, 10)),
        ("1990/3/9", "mdy", date(1990, 3, 9)),
        ("10/03/1990", "dmy", date(1990, 3, 10)),
        ("10/03/1990", "mdy", date(1990, 10, 3)),
        ("1.2.1990", "dmy", date(1990, 2, 1)),
        ("31-12-1990", "dmy", date(1990, 12, 31)),
        ("32942", "dmy", date(1990, 3, 10)),
    ],
)
def test_a_day_in_any_of_its_forms(text, order, day):
    assert cells.day(text, order=order) == day


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("31/12/1990", "mdy"), ("12/31/1990", "dmy"), ("10/03/1990", "ymd"), ("1990", "dmy"), ("10/03/90", "dmy"),
        ("1990-02-30", "dmy"), ("yesterday", "dmy"), ("0000-00-00", "dmy"), ("1/1/97", "dmy"), ("٣/٣/١٩٩٠", "dmy"),
    ],
)  # fmt: skip
def test_what_is_no_day_in_this_order_is_refused(text, order):
    with pytest.raises(BadCell) as bad:
        cells.day(text, order=order)
    assert bad.value.code == "date"
    assert text in bad.value.message


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, 5, tzinfo=UTC)),
        ("01/11/2026", datetime(2026, 11, 1, 5, tzinfo=UTC)),
        ("2026-11-01T09:30:00", datetime(2026, 11, 1, 2, 30, tzinfo=UTC)),
        ("2026-11-01 09:30", datetime(2026, 11, 1, 2, 30, tzinfo=UTC)),
        ("2026-11-01T09:30:00Z", datetime(2026, 11, 1, 9, 30, tzinfo=UTC)),
        ("2026-11-01T09:30:00+02:00", datetime(2026, 11, 1, 7, 30, tzinfo=UTC)),
        ("01/11/2026 9:30", datetime(2026, 11, 1, 2, 30, tzinfo=UTC)),
        ("01/11/2026 09.30.15", datetime(2026, 11, 1, 2, 30, 15, tzinfo=UTC)),
    ],
)
def test_a_moment_is_noon_or_local_unless_it_says_otherwise(text, moment):
    assert cells.moment(text, zone=JAKARTA, order="dmy") == moment


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("01/11/2026 25:00", "date_time"), ("01/11/2026 soon", "date_time"), ("2026-13-01", "date"),
        ("0001-01-01T00:00:00+14:00", "date_out_of_range"), ("9999-12-31T23:00:00-14:00", "date_out_of_range"),
    ],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text, code):
    with pytest.raises(BadCell) as bad:
        cells.moment(text, zone=JAKARTA, order="dmy")
    assert bad.value.code == code


@pytest.mark.parametrize("text", ["8.12E+10", "8,12E+10", "8E10", "1.23457e+011"])
def test_a_number_that_a_spreadsheet_has_shortened_stands_for_nobody(text):
    with pytest.raises(BadCell) as bad:
        cells.identities(text)
    assert bad.value.code == "number_shortened"


@pytest.mark.parametrize("text", ["0812", "E10", "a8.1E+3", "8.12E+10x", "12e"])
def test_what_only_resembles_one_is_left_alone(text):
    assert cells.identities(text) == [text]


def test_a_cell_may_hold_several_identities():
    assert cells.identities("a@x.id; b@x.id\nc@x.id ;d") == ["a@x.id", "b@x.id", "c@x.id ;d"]


@pytest.mark.parametrize(
    ("text", "items"),
    [("vip", ["vip"]), ("vip, bazar;  a b |c\nd", ["vip", "bazar", "a b", "c", "d"]), (" ,; ", [])],
)
def test_a_list_in_a_cell(text, items):
    assert cells.several(text) == items


@pytest.mark.parametrize("text", ["=1+1", "+62812", "-5", "@sari", "\tx", "\rx"])
def test_what_would_be_a_formula_comes_back_as_it_was(text):
    written = cells.guarded(text)
    assert written == f"'{text}"
    assert cells.plain(written) == text


@pytest.mark.parametrize("text", ["", "Sari", "'t Hooft", "5", "a=b"])
def test_other_text_is_written_as_it_is(text):
    assert cells.guarded(text) == text
    assert cells.plain(text) == text


def test_what_a_broken_formula_shows_is_no_value():
    with pytest.raises(BadCell) as bad:
        cells.plain(" #N/A ")
    assert bad.value.code == "cell_error"


@pytest.mark.parametrize(("text", "amount"), [("0", "0"), ("120000.00", "120000.00"), ("45000.5", "45000.5")])
def test_an_amount(text, amount):
    assert str(cells.amount(text)) == amount


@pytest.mark.parametrize("text", ["-1", "1,5", "120.000,00", "Rp 5", "1e3", "", "1.1234567", "NaN"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(BadCell) as bad:
        cells.amount(text)
    assert bad.value.code == "amount"


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        ([], "dmy"), (["1990-01-02"], "ymd"), (["01/02/1990", "25/02/1990"], "dmy"), (["01/02/1990"], "dmy"),
        (["01/25/1990 10:00", "01/02/1990"], "mdy"), (["x", "1990-01-02", "25.1.1990"], "dmy"),
    ],
)  # fmt: skip
def test_the_order_of_a_day_s_parts_is_told_by_the_days(texts, order):
    assert cells.date_order(texts) == order
