"""Names as people spell them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import town
from crm.contacts import names

SAME = [
    ("Sari Dewi", "sari dewi", "same_name"),
    ("Sari Dewi", "Dewi Sari", "same_name"),
    ("Sari Dewi", "Dewi, Sari", "same_name"),
    ("Bu Sari Dewi", "Ibu Sari Dewi (toko)", "same_name"),
    ("H. Joko Widodo", "Ir. H. Joko Widodo", "same_name"),
    ("Budi Santoso", "Budi Santoso, S.E., M.M.", "same_name"),
    ("Siti binti Hasan", "Siti Hasan", "same_name"),
    ("Ma'ruf Amin", "Ma\u2019ruf Amin", "same_name"),
    ("Muhammad Rizky", "Moh. Rizki", "same_sounding_name"),
    ("Muhammad Rizky", "Mochammad Rizky", "same_sounding_name"),
    ("Soeharto", "Suharto", "same_sounding_name"),
    ("Djoko", "Joko", "same_sounding_name"),
    ("Tjandra", "Candra", "same_sounding_name"),
    ("Sjarif", "Syarif", "same_sounding_name"),
    ("Khairul", "Chairul", "same_sounding_name"),
    ("Rachmat", "Rahmat", "same_sounding_name"),
    ("Siti", "Sitti", "same_sounding_name"),
    ("Fatimah", "Fatima", "same_sounding_name"),
    ("Nur Aini", "Nuraini", "same_sounding_name"),
    ("Hendra Simanjuntak", "Hendra Simanjuntk", "similar_name"),
    ("Yusuf Halim", "Jusuf Halim", "similar_name"),
    ("Muhammad Rizky", "M. Rizky", "similar_name"),
    ("Sari", "Sari Dewi", "similar_name"),
]
OTHERS = [
    ("Sari Dewi", "Budi Santoso"),
    ("Sari Dewi", "Sari Putri"),
    ("Member 1", "Member 2"),
    ("Adi", "Ari"),
    ("Pak Budi", "Pak Joko"),
]


@pytest.mark.parametrize(("one", "other", "code"), SAME)
def test_one_name(one: str, other: str, code: str) -> None:
    found = names.compared(names.parsed(one), names.parsed(other))
    assert found is not None
    assert (found.code, found.bits > 0) == (code, True)


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_two_names(one: str, other: str) -> None:
    found = names.compared(names.parsed(one), names.parsed(other))
    assert found is not None
    assert found.bits < 3


@pytest.mark.parametrize("text", ["+62 812-3456-789", "628123456789", "sari@example.com", "", "…"])
def test_what_is_no_name_says_nothing(text: str) -> None:
    assert names.compared(names.parsed(text), names.parsed("Sari Dewi")) is None


def test_a_title_alone_is_a_name() -> None:
    assert names.parsed("Ibu").key == "ibu"
    assert names.parsed("Mas Agung").key == "agung"


def test_frequent_names_say_less_and_a_spelling_or_a_slip_less_again() -> None:
    def bits(one: str, other: str) -> float:
        found = names.compared(names.parsed(one), names.parsed(other))
        assert found is not None
        return found.bits

    rare, frequent = bits("Hutapea", "Hutapea"), bits("Sari", "Sari")
    assert rare > frequent > bits("Sari", "Sary") > bits("Sari", "Saari Dewi") > 0
    assert bits("Hutapea Sihombing", "Hutapea Sihombing") > bits("Hutapea Sihombing", "Hutapea Sihmbing") > rare / 2


@given(st.sampled_from([*town.GIVEN_NAMES, *town.FAMILY_NAMES]), st.randoms(use_true_random=False))
def test_a_spelling_of_before_the_reform_sounds_the_same(name, chance) -> None:
    old = name
    for today, before in (("u", "oe"), ("j", "dj"), ("c", "tj"), ("sy", "sj")):
        if chance.random() < 0.5 and before not in old.lower():
            old = old.replace(today, before)
    assert names.parsed(old).key == names.parsed(name).key


_PARTS = [
    "Sari", "Sary", "Srai", "Dewi", "M.", "Muhammad", "Moh", "Hutapea", "Hutpea", "1", "H.", "Nur", "Aini",
    "Nuraini",
]  # fmt: skip
_NAMES = st.lists(st.sampled_from(_PARTS), max_size=4).map(" ".join) | st.text(max_size=12)


@given(_NAMES, _NAMES)
def test_names_compare_the_same_either_way_round(one: str, other: str) -> None:
    a, b = names.parsed(one), names.parsed(other)
    found = names.compared(a, b)
    assert found == names.compared(b, a)
    if found is not None:
        assert names.BITS_MIN <= found.bits <= names.BITS_MAX


@given(_NAMES, _NAMES)
def test_no_name_is_more_like_another_than_like_itself(one: str, other: str) -> None:
    a, b = names.parsed(one), names.parsed(other)
    itself, found = names.compared(a, a), names.compared(a, b)
    assert itself is None or found is None or found.bits <= max(itself.bits, names.weight(b), 7)
