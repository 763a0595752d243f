"""What a page for members says, in both languages."""

from dataclasses import fields
from datetime import UTC, date, datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest

from crm.insights import languages
from crm.insights.languages import ENGLISH, INDONESIAN
from crm.loyalty.movements import KINDS
from crm.loyalty.tiers import Basis

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
BOTH = pytest.mark.parametrize("language", [ENGLISH, INDONESIAN], ids=lambda language: language.code)


@BOTH
def test_every_kind_of_fact_and_every_way_to_a_tier_has_words(language):
    assert set(KINDS) == language.kinds.keys()
    assert set(get_args(Basis)) == language.ways.keys()
    assert language.kind("something new") == "something new"


def test_both_languages_say_the_same_things():
    for field in fields(languages.Language):
        english, indonesian = getattr(ENGLISH, field.name), getattr(INDONESIAN, field.name)
        if isinstance(english, dict):
            assert english.keys() == indonesian.keys()
        assert len(english) == len(indonesian)


@pytest.mark.parametrize(
    ("value", "english", "indonesian"),
    [
        (0, "0", "0"),
        (999, "999", "999"),
        (1_234_567, "1,234,567", "1.234.567"),
        (-1_234, f"{MINUS}1,234", f"{MINUS}1.234"),
    ],
)
def test_numbers(value, english, indonesian):
    assert (ENGLISH.number(value), INDONESIAN.number(value)) == (english, indonesian)
    sign = "+" if value > 0 else ""
    assert (ENGLISH.change(value), INDONESIAN.change(value)) == (sign + english, sign + indonesian)


def test_days():
    assert ENGLISH.day(date(2026, 8, 17)) == "17 August 2026"
    assert INDONESIAN.day(date(2026, 8, 17)) == "17 Agustus 2026"
    assert ENGLISH.short_day(date(2026, 8, 17), year=False) == "17 Aug"
    assert INDONESIAN.short_day(date(2026, 8, 17), year=True) == "17 Agu 2026"
    for first, last, said in (
        (date(2026, 5, 1), date(2026, 5, 1), "1 Mei 2026"),
        (date(2026, 5, 1), date(2026, 5, 31), f"1{DASH}31 Mei 2026"),
        (date(2026, 5, 1), date(2026, 6, 30), f"1 Mei {DASH} 30 Juni 2026"),
        (date(2025, 12, 1), date(2026, 1, 31), f"1 Desember 2025 {DASH} 31 Januari 2026"),
    ):
        assert INDONESIAN.days(first, last) == said


def test_what_ends_at_midnight_lasts_to_the_end_of_the_day_before():
    jakarta = ZoneInfo("Asia/Jakarta")
    assert ENGLISH.end(datetime(2026, 11, 30, 17, tzinfo=UTC), jakarta) == "30 November 2026"
    assert ENGLISH.end(datetime(2026, 11, 30, 7, 5, tzinfo=UTC), jakarta) == "30 November 2026, 14:05"
    assert INDONESIAN.end(datetime(2026, 11, 30, 7, 5, tzinfo=UTC), jakarta) == "30 November 2026, 14.05"


@pytest.mark.parametrize(
    ("locales", "code"),
    [
        (("id-ID",), "id"), (("id",), "id"), (("ID_id",), "id"), (("en-GB",), "en"), (("de",), "en"), ((None,), "en"),
        ((None, "id-ID"), "id"), (("en", "id-ID"), "en"), (("", "id"), "id"), (("idx",), "en"),
    ],
)  # fmt: skip
def test_the_language_is_that_of_the_first_locale_given(locales, code):
    assert languages.of(*locales).code == code
