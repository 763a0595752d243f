"""How likely two contacts are one person."""

from dataclasses import replace
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.contacts import likeness, names, places
from crm.contacts.likeness import Person
from crm.contacts.lookalikes import CERTAIN, LIKELY
from crm.contacts.suggestions import SUGGESTED_MIN

BORN = date(1990, 3, 10)


def person(
    name: str = "Sari Dewi",
    *,
    born: date | None = None,
    phone: str | None = None,
    whatsapp: str | None = None,
    email: str | None = None,
    address: str | None = None,
    city: str | None = None,
    number: int = 1,
) -> Person:
    typed = (("phone", phone), ("whatsapp", whatsapp), ("email", email))
    return Person.of(
        UUID(int=number), called=[name], birth_on=born, identities=[(kind, value) for kind, value in typed if value],
        place=places.place(address=address, city=city, postal_code=None),
    )  # fmt: skip


def score(one: dict[str, Any], other: dict[str, Any]) -> int:
    return likeness.compared(person(**one), person(**other, number=2)).score


CERTAINLY = [
    ({"born": BORN}, {"born": BORN}),
    ({"name": "Sary Dewi", "born": BORN}, {"name": "Dewi Sari", "born": BORN}),
    ({"phone": "+628123456789"}, {"whatsapp": "628123456789"}),
    ({"name": "628123456789", "whatsapp": "628123456789"}, {"phone": "+628123456789"}),
    ({"email": "sari.dewi@gmail.com"}, {"email": "saridewi+shop@googlemail.com"}),
    ({"email": "sari.dewi@gmail.com"}, {"email": "sari.dewi@gmial.com"}),
    ({"name": "Hutapea Sihombing", "phone": "+628123456789"}, {"name": "Hutapea Sihombing", "phone": "+628123456780"}),
]
LIKELY_SO = [
    ({"born": BORN}, {"name": "Sari Dwei", "born": BORN}),
    ({"phone": "+628123456789"}, {"phone": "+628123456798"}),
    ({"phone": "+628123456789"}, {"phone": "+62812345678"}),
]
WORTH_A_LOOK = [
    ({"born": BORN}, {"born": date(1990, 10, 3)}),
    ({"address": "Jl. Merdeka No. 10", "city": "Bandung"}, {"address": "Jalan Merdeka 10", "city": "Kota Bandung"}),
    ({"email": "saridewi88@gmail.com"}, {"email": "sari.dewi88@yahoo.com"}),
    ({"name": "Hutapea Sihombing", "city": "Medan"}, {"name": "Hutapea Sihombing", "city": "Kota Medan"}),
]
NOT_SO = [
    ({}, {}),
    ({"name": "Sari", "born": BORN}, {"name": "Budi", "born": BORN}),
    ({"born": date(1990, 1, 1)}, {"born": date(1990, 1, 1)}),
    ({"born": BORN}, {"born": date(1985, 7, 20)}),
    ({"born": BORN, "phone": "+628123456789"}, {"born": date(1985, 7, 20), "phone": "+628123456780"}),
    ({"email": "sari.dewi@gmail.com"}, {"email": "saridewi@yahoo.com"}),
    ({"name": "Budi Santoso", "phone": "+628123456789"}, {"whatsapp": "628123456789"}),
    ({"name": "Sari", "email": "info@toko.id"}, {"name": "Budi", "email": "info@warung.id"}),
    ({"address": "Jl. Merdeka No. 10"}, {"address": "Jl. Merdeka No. 12"}),
    ({"city": "Bandung"}, {"city": "Bandung"}),
    ({"name": "Hutapea Sihombing"}, {"name": "Hutapea Sihombing"}),
]


@pytest.mark.parametrize(("one", "other"), CERTAINLY)
def test_one_person_for_certain(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert score(one, other) >= CERTAIN


@pytest.mark.parametrize(("one", "other"), LIKELY_SO)
def test_one_person_likely(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert LIKELY <= score(one, other) < CERTAIN


@pytest.mark.parametrize(("one", "other"), WORTH_A_LOOK)
def test_worth_a_look(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert SUGGESTED_MIN <= score(one, other) < LIKELY


@pytest.mark.parametrize(("one", "other"), NOT_SO)
def test_two_people(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert score(one, other) < SUGGESTED_MIN


def test_the_reasons_stand_in_the_order_of_their_weight() -> None:
    found = likeness.compared(
        person(born=BORN, phone="+628123456789", city="Bandung"),
        person("Sary Dewi", born=BORN, phone="+6285700001111", city="Jakarta", number=2),
    )
    assert [reason.code for reason in found.reasons] == [
        "same_birth_date", "same_sounding_name", "other_number", "other_city",
    ]  # fmt: skip
    assert found.reasons[0].text == "Born on the same day"


# ---------------------------------------------------------------------- what holds of any two

_DAYS = st.dates(date(1950, 1, 1), date(2005, 12, 31))
_LOCALS = st.sampled_from(["sari.dewi", "saridewi", "sari.dewi88", "kucinglucu", "kucinglucuu", "info", "budi"])
_PEOPLE = st.builds(
    person,
    name=st.sampled_from(["Sari Dewi", "Sary Dewi", "Dewi Sari", "Budi Santoso", "Hutapea", "628123", "S. Dewi"]),
    born=st.none() | st.sampled_from([BORN, date(1990, 10, 3), date(1990, 3, 11), date(1990, 1, 1)]) | _DAYS,
    phone=st.none() | st.sampled_from(["+628123456789", "+628123456780", "+6285700001111", "+6221345"]),
    whatsapp=st.none() | st.sampled_from(["628123456789", "628123456798", "628999999999"]),
    email=st.none() | st.builds("{}@{}".format, _LOCALS, st.sampled_from(["gmail.com", "gmial.com", "yahoo.com"])),
    address=st.none() | st.sampled_from(["Jl. Merdeka No. 10", "Jalan Merdeka 10", "Jl Merdeka 12", "Jalan Mawar 3"]),
    city=st.none() | st.sampled_from(["Bandung", "Kota Bandung", "Jakarta"]),
)


@given(_PEOPLE, _PEOPLE)
def test_it_is_the_same_either_way_round(one: Person, other: Person) -> None:
    found = likeness.compared(one, other)
    assert found == likeness.compared(other, one)
    assert 0 <= found.score <= 100


@given(_PEOPLE, _PEOPLE)
def test_what_is_the_same_never_speaks_against_it(one: Person, other: Person) -> None:
    before = likeness.compared(one, other).score
    for same in (
        {"name": names.parsed("Hutapea Sihombing")}, {"birth_on": BORN}, {"numbers": frozenset({"628123456789"})},
        {"mailboxes": frozenset({"kucinglucu@gmail.com"})},
        {"place": places.place(address="Jl. Merdeka No. 10", city="Bandung", postal_code=None)},
    ):  # fmt: skip
        assert likeness.compared(replace(one, **same), replace(other, **same)).score >= min(
            before, likeness.compared(*(replace(p, **_nothing(same)) for p in (one, other))).score
        )


def _nothing(same: dict[str, Any]) -> dict[str, Any]:
    empty = person("")
    return {name: getattr(empty, name) for name in same}


@given(_PEOPLE, _PEOPLE, _DAYS, _DAYS)
def test_another_birth_date_speaks_against_it(one: Person, other: Person, first: date, second: date) -> None:
    unknown = likeness.compared(replace(one, birth_on=None), other).score
    same = likeness.compared(replace(one, birth_on=first), replace(other, birth_on=first)).score
    another = likeness.compared(replace(one, birth_on=first), replace(other, birth_on=second))
    assert same >= unknown
    assert same >= another.score
    if "other_birth_date" in {reason.code for reason in another.reasons}:
        assert another.score <= unknown


@given(_PEOPLE, _PEOPLE)
def test_more_of_a_person_never_hides_what_is_the_same(one: Person, other: Person) -> None:
    more = replace(one, numbers=one.numbers | {"628777777777"}, mailboxes=one.mailboxes | {"x@example.com"})
    if one.numbers and one.mailboxes:
        assert likeness.compared(more, other).score >= likeness.compared(one, other).score
