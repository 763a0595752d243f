"""Where columns go: as guessed by their names, and as they may be said to go."""

import pytest

from crm.exchange import guesses, mappings
from crm.exchange.mappings import ColumnMapping, NotImportable


@pytest.mark.parametrize(
    ("kind", "columns", "guessed"),
    [
        (
            "contacts",
            ["Nama", "No. HP", "E-Mail", "Tgl Lahir", "Kota", "Foo"],
            ["name", "identity:phone", "identity:email", "birth_on", "attributes.city", None],
        ),
        (
            "contacts",
            ["first_name", "LastName", "Mobile Phone", "Email Address", "DateOfBirth", "Customer ID"],
            ["given_name", "family_name", "identity:phone", "identity:email", "birth_on", "identity:customer_id"],
        ),
        (
            "contacts",
            ["NAMA LENGKAP", "Nomor Telpon", "WhatsApp", "Alamat", "Jenis Kelamin", "Tanggal  Lahir"],
            ["name", "identity:phone", "identity:whatsapp", "attributes.address", "attributes.gender", "birth_on"],
        ),
        (
            "contacts",
            ["name", "identity:email", "identity:x", "attributes.size", "Grup"],
            ["name", "identity:email", "identity:x", "attributes.size", "tags"],
        ),
        ("contacts", ["Telepon", "HP", "Phone"], ["identity:phone", "identity:phone", "identity:phone"]),
        ("contacts", ["Nama", "Nama Pelanggan"], ["name", None]),
        ("contacts", ["", "???", "x"], [None, None, None]),
        (
            "purchases",
            ["No Nota", "Tanggal", "ID Pelanggan", "Email", "Total Belanja", "Cabang", "Kasir"],
            ["order_ref", "occurred_at", "identity:customer_id", None, "total", "store", "till"],
        ),
        (
            "purchases",
            ["order_id", "order date", "phone", "amount", "currency"],
            ["order_ref", "occurred_at", "identity:phone", "total", "currency"],
        ),
    ],
)  # fmt: skip
def test_columns_are_guessed_in_english_and_indonesian(kind, columns, guessed):
    found = guesses.guess(kind, columns, [])
    assert [found.columns.get(name) for name in columns] == guessed


def test_the_columns_behind_those_of_the_shop_are_not_taken_for_its_own():
    columns = ["Nama", "HP", "line", "error"]
    found = guesses.guess("contacts", columns, [])
    assert set(found.columns) == {"Nama", "HP"}
    assert found.left_over(columns) == []
    assert found.left_over(["Nama", "line", "HP"]) == ["line"]


def test_the_first_rows_tell_how_days_are_written():
    assert guesses.guess("contacts", ["Nama", "Birthday"], [["25/12", "01/25/1990"]]).date_order == "mdy"


@pytest.mark.parametrize(
    ("kind", "columns", "constants", "said"),
    [
        ("contacts", {"a": "identity:email", "z": "name"}, {}, "no column z; it has a, b, c"),
        ("contacts", {"a": "identity:email", "b": "nama"}, {}, "No field is called nama"),
        ("contacts", {"a": "identity:email"}, {"order_ref": "x"}, "No field is called order_ref"),
        ("contacts", {"a": "identity:E Mail"}, {}, "No field is called identity:E Mail"),
        ("contacts", {"a": "identity:email", "b": "attributes.1"}, {}, "No field is called attributes.1"),
        ("contacts", {"a": "name"}, {}, "Map a column to identity:KIND"),
        ("contacts", {"a": "name"}, {"identity:email": "all@example.com"}, "Map a column to identity:KIND"),
        ("contacts", {"a": "identity:phone"}, {"identity:email": "all@example.com"}, "can't be the same in every row"),
        ("contacts", {"a": "identity:email", "b": "name", "c": "name"}, {}, "Only one column can be name"),
        ("purchases", {"a": "order_ref"}, {}, "Say who bought"),
        ("purchases", {"a": "identity:email", "b": "identity:phone"}, {}, "Say who bought"),
        ("purchases", {"a": "identity:email", "b": "attributes.x"}, {}, "No field is called attributes.x"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(kind, columns, constants, said):
    with pytest.raises(NotImportable, match=said):
        mappings.check(kind, ColumnMapping(columns, constants), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("contacts", {"a": "identity:email", "b": "identity:email", "c": "tags"}),
        ("contacts", {"a": "identity:sap-number", "b": "attributes.Größe"}),
        ("purchases", {"a": "identity:email", "b": "order_ref"}),
    ],
)
def test_a_mapping_may_have_several_identities_and_names_of_the_shop_s_own(kind, columns):
    mappings.check(kind, ColumnMapping(columns), ["a", "b", "c"])
