"""Who somebody is by what a shop knows of them."""

import pytest

from crm.interactions.channels import buyers
from crm.interactions.channels.events import Address


@pytest.mark.parametrize(
    ("contact", "phone"),
    [
        ({"phone": "(555) 555-5555", "country": "US"}, "+15555555555"),
        ({"phone": "0812 3456 789", "country_code": "ID"}, "+628123456789"),
        ({"phone": "0812 3456 789", "default_address": {"country_code": "ID"}}, "+628123456789"),
        ({"phone": "+62 812-3456-789", "country": "US"}, "+628123456789"),
        ({"phone": "0812 3456 789"}, "0812 3456 789"),
        ({"phone": "0812 3456 789", "country": "Indonesia"}, "0812 3456 789"),
        ({"phone": "5", "country": "US"}, "5"),
        ({"phone": "call me", "country": "US"}, "call me"),
    ],
)
def test_a_number_is_one_of_the_country_that_its_owner_lives_in(contact, phone):
    person = buyers.person(contact)
    assert person is not None
    assert list(person.addresses) == [Address(kind="phone", value=phone)]


def test_without_an_id_or_an_address_there_is_nobody():
    assert buyers.person({"first_name": "Sari", "email": "", "phone": None}) is None
