"""Codes: one name space, unguessable, and read as people write them."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.db.ids import uuid7
from crm.loyalty import codes
from crm.loyalty.codes import CodeTaken, PatternTooNarrow, PatternUsedUp

PROGRAM, SARI = uuid7(), uuid7()
WRITTEN = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=3, max_size=20)


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("KOPI-1234", "K0P11234"),
        ("kopi-1234", "K0P11234"),
        ("K0pl 1234", "K0P11234"),
        (" kop_i.1-2-3-4 ", "K0P11234"),
        ("HEMAT10", "HEMAT10"),
        ("ABC", "ABC"),
        ("AB", None),
        ("A-B", None),
        ("", None),
        ("---", None),
        ("A" * 64, "A" * 64),
        ("A" * 65, None),
        ("KOPI/1234", None),
        ("KOPI\x001234", None),
        ("KOPI\n1234", None),
        ("KÖPI-1234", None),
        ("kop\u0131-1234", None),  # a dotless i would become a large I
        ("\uff11\uff12\uff13\uff14", None),
        ("٣٤٥٦", None),
    ],
)
def test_a_code_is_known_however_it_is_typed(typed, known):
    assert codes.canonical(typed) == known


@given(WRITTEN, st.data())
def test_case_separators_and_look_alikes_make_no_difference(code, data):
    known = codes.canonical(code)
    retyped = "".join(
        data.draw(st.sampled_from(codes_like(each))) + data.draw(st.sampled_from(["", "", "-", " "])) for each in code
    )
    assert codes.canonical(retyped) == known
    assert codes.canonical(known) == known


def codes_like(letter: str) -> list[str]:
    alike = next((group for group in ("O0", "IL1") if letter in group), letter)
    return [each for one in alike for each in (one, one.lower())]


def test_codes_of_ours_have_no_look_alikes_and_their_alphabet_means_itself():
    assert not set(codes.ALPHABET) & set("0O1IL")
    assert codes.canonical(codes.ALPHABET) == codes.ALPHABET
    drawn = Counter("".join(codes.generate() for _ in range(2_000)).replace("-", ""))
    assert set(drawn) == set(codes.ALPHABET)
    assert max(drawn.values()) < 2 * min(drawn.values())


def test_a_pattern_keeps_what_is_not_drawn():
    assert re.fullmatch(rf"KOPI-[{codes.ALPHABET}]{{4}}-x[{codes.ALPHABET}]", codes.generate("KOPI-####-x#"))
    assert re.fullmatch(rf"([{codes.ALPHABET}]{{4}}-){{2}}[{codes.ALPHABET}]{{4}}", codes.generate())


@pytest.mark.parametrize(
    ("pattern", "count", "wide"),
    [
        ("KOPI-####", 1, True),
        ("KOPI-####", 810, True),
        ("KOPI-####", 811, False),
        ("KOPI-###", 1, False),
        ("########", 10_000, True),
        ("KOPI-######", codes.ENDLESS, True),
        ("KOPI-#####", codes.ENDLESS, False),
    ],
)
def test_a_pattern_has_a_thousand_times_the_room_that_it_needs(pattern, count, wide):
    if wide:
        codes.check_pattern(pattern, count=count)
    else:
        with pytest.raises(PatternTooNarrow):
            codes.check_pattern(pattern, count=count)


async def test_a_chosen_code_is_taken_once_in_whatever_form(session):
    voucher = uuid7()
    await codes.take(session, code="KOPI-10", kind="voucher", program_id=PROGRAM, contact_id=None, subject_id=voucher)
    for again in ("KOPI-10", "kopi10", "K0P1-1O"):
        with pytest.raises(CodeTaken):
            await codes.take(session, code=again, kind="offer", program_id=uuid7(), contact_id=SARI, subject_id=uuid7())
    found = await codes.find(session, code="kopi 10", kind="voucher")
    assert found == codes.Owner("voucher", PROGRAM, None, voucher)
    assert await codes.find(session, code="KOPI-10", kind="referral") is None
    assert await codes.find(session, code="KOPI-11", kind="voucher") is None
    assert await codes.find(session, code="?", kind="voucher") is None


async def test_a_code_that_somebody_has_is_drawn_again(session, monkeypatch):
    drawn = iter(["AAAA", "AAAA", "aaaa", "BBBB"])
    monkeypatch.setattr(codes, "generate", lambda pattern: next(drawn))
    facts = {"kind": "referral", "program_id": PROGRAM, "contact_id": SARI}
    assert await codes.claim(session, **facts, subject_id=uuid7()) == "AAAA"
    assert await codes.claim(session, **facts, subject_id=uuid7()) == "BBBB"


async def test_drawing_again_has_an_end(session, monkeypatch):
    monkeypatch.setattr(codes, "generate", lambda pattern: "AAAA")
    facts = {"kind": "voucher", "program_id": PROGRAM, "contact_id": None}
    assert await codes.claim(session, **facts, subject_id=uuid7()) == "AAAA"
    with pytest.raises(PatternUsedUp):
        await codes.claim(session, **facts, subject_id=uuid7())


async def test_many_codes_are_made_in_one_statement_and_all_differ(session, statements):
    subjects = [uuid7() for _ in range(500)]
    made = await codes.claim_many(
        session, kind="voucher", program_id=PROGRAM, contact_id=None, subject_ids=subjects, pattern="KOPI-####-####"
    )
    assert len(statements) == 1
    assert len({codes.canonical(code) for code in made}) == 500
    for number in (0, 250, 499):
        assert (await codes.find(session, code=made[number], kind="voucher")).subject_id == subjects[number]
