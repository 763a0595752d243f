"""Which addresses reach one person."""

import pytest

from crm.contacts.sameness import reached

SAME = [
    (("email", "sari@example.com"), ("email", "sari+shop@example.com")),
    (("email", "sari+a@example.com"), ("email", "sari+b@example.com")),
    (("email", "sari.dewi@gmail.com"), ("email", "saridewi@gmail.com")),
    (("email", "s.a.r.i+x@googlemail.com"), ("email", "sari@gmail.com")),
    (("phone", "+628123456789"), ("phone", "+628123456789")),
    (("phone", "+628123456789"), ("whatsapp", "628123456789")),
]
OTHERS = [
    (("email", "sari@example.com"), ("email", "sari@example.org")),
    (("email", "sari.dewi@example.com"), ("email", "saridewi@example.com")),
    (("email", "sari@gmail.com.example"), ("email", "s.ari@gmail.com")),
    (("email", "+sari@example.com"), ("email", "+budi@example.com")),
    (("phone", "+628123456789"), ("phone", "+628123456788")),
    (("card", "6012"), ("card", "6012")),
    (("telegram", "628123456789"), ("phone", "+628123456789")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_person(one, other):
    assert reached([one]) & reached([other])


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_two_persons(one, other):
    assert not reached([one]) & reached([other])


def test_any_address_of_many_is_enough():
    sari = [("email", "sari@example.com"), ("phone", "+62811")]
    assert reached(sari) & reached([("email", "other@example.com"), ("whatsapp", "62811")])
    assert reached([]) == frozenset()
