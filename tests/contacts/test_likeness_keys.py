"""Which contacts are worth a comparison."""

import pytest

from crm.contacts import likeness_keys
from tests.contacts.test_likeness import BORN, CERTAINLY, LIKELY_SO, WORTH_A_LOOK, person


@pytest.mark.parametrize(("one", "other"), [*CERTAINLY, *LIKELY_SO, *WORTH_A_LOOK])
def test_those_who_may_be_one_person_share_a_key(one, other):
    assert likeness_keys.keys(person(**one)) & likeness_keys.keys(person(**other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"city": "Bandung"}, {"city": "Bandung"}),
        ({"name": "Budi Santoso", "born": BORN}, {"born": BORN}),
        ({"phone": "+628123456789"}, {"name": "Budi", "phone": "+628123456780"}),
        ({"email": "info@toko.id"}, {"email": "info@warung.id"}),
    ],
)
def test_what_many_people_have_in_common_is_no_key(one, other):
    assert not likeness_keys.keys(person(**one)) & likeness_keys.keys(person(**other))


def test_a_key_tells_what_it_is_of():
    whole = person(
        "Hutapea Sihombing", born=BORN, phone="+628123456789", email="kucinglucu@x.id", address="Jalan Merdeka 10"
    )
    assert {likeness_keys.kind_of(key) for key in likeness_keys.keys(whole)} == set(likeness_keys.KINDS)
    assert all(-(2**63) <= key < 2**63 for key in likeness_keys.keys(whole))
