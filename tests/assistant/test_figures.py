"""No figure goes out that was not looked up, however it is written."""

import pytest

from crm.assistant import figures
from crm.assistant.figures import Known


def known() -> Known:
    found = Known()
    found.add_record({"program": "Kopi 9 Club", "available": 1250, "pending": 0, "held": 20})
    found.add_record({"expiring": [{"points": 300, "last_day": "2026-12-31"}], "more_expire_later": True})
    found.add_record({
        "orders": [
            {"order_ref": "INV-1001", "state": "shipped", "since": "2026-11-20", "total": "45000.00"},
            {"order_ref": "8812", "state": "recorded", "since": "2026-11-21", "total": None},
        ]
    })  # fmt: skip
    found.add_article("Get 1 point for every Rp 10.000. Orders arrive in 2 to 4 days, or three at the most.")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "You have 1250 points.",
        "You have 1,250 points, and 20 are held.",
        "Anda punya 1.250 poin di Kopi 9 Club.",
        "Saldo: **1 250**",
        "300 of your points can be used until 31 December 2026.",
        "Until December 31, 2026 you can use 300.",
        "300 poin berlaku sampai 2026-12-31",
        "Order INV-1001 over Rp 45.000 was shipped on 20 November 2026.",
        "Order #8812 is recorded.",
        "You get 1 point for every Rp 10,000.",
        "1 poin setiap 10 ribu rupiah",
        "It takes 2 to 4 days, three at the most.",
        "1. Open the app\n2. Press Redeem\n",
        "There is nothing to count here.",
        "",
    ],
)
def test_what_was_looked_up_may_be_said(text):
    assert figures.unknown(text, known()) is None


@pytest.mark.parametrize(
    ("text", "figure"),
    [
        ("You have 1251 points.", "1251"),
        ("You have 12500 points", "12500"),
        ("You have 1.251 points", "1.251"),
        ("You have 5k points", "5k"),
        ("Anda punya 2 juta poin", "2 juta"),
        ("You have \uff11\uff12\uff15\uff11 points", "1251"),
        ("You have ١٢٥١ points", "١٢٥١"),
        ("You have five thousand points", "five"),
        ("Saldo Anda lima ribu poin", "lima"),
        ("Sejuta poin untuk Anda", "sejuta"),
        ("Your balance is 10000 points.", "10000"),  # of an article, and not of theirs
        ("10.000 poin sudah ditambahkan", "10.000"),
        ("You have 2026 points", "2026"),  # of a date
        ("You have 31 points", "31"),
        ("You have 8812 points", "8812"),  # of an order
        ("You have 1001 points", "1001"),
        ("You have 9 points", "9"),
        ("They end on 30 December 2026", "30 December 2026"),
        ("They end on 31/12/2027", "31/12/2027"),
        ("99. points are yours\n", "99"),
        ("You have 12\u200b51 points", "1251"),
        ("You have 1*2*5*1 points", "1251"),
        ("Orders arrive in 7 days.", "7"),
        ("Rp 1,250.75 back", "1,250.75"),
        ("You have three points", "three"),
        ("You have 45000 points.", "45000"),  # of money
        ("You have 45,000 more points", "45,000"),
        ("Saldo Anda 45.000", "45.000"),
    ],
)
def test_what_was_not_looked_up_is_found(text, figure):
    assert figures.unknown(text, known()) == figure


def test_nothing_is_known_of_nothing():
    assert figures.unknown("0", Known()) == "0"
    assert figures.unknown("one of ours", Known()) is None


@pytest.mark.parametrize("text", ["1" * 20_000, "1." * 10_000, "1 Jan " * 3_000, "satu dua " * 3_000])
def test_a_long_text_takes_no_long_time(text):
    figures.unknown(text, known())
