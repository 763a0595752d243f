"""Who somebody is by what a shop knows of them."""

from collections.abc import Sequence

import phonenumbers

from crm.interactions.channels.events import Address, Person
from crm.interactions.channels.payloads import Json, text


def person(
    contact: Json,
    *,
    known: Address | None = None,
    names: Sequence[str] = ("first_name", "last_name"),
    locale: str | None = None,
) -> Person | None:
    """Somebody by the id that the shop knows them by, and by the e-mail and phone that they typed there themselves.

    None where there is none of these. A phone number is read as one of the country that they live in.
    """
    addresses = [known] if known is not None else []
    if (email := text(contact, "email")) is not None:
        addresses.append(Address(kind="email", value=email))
    if (phone := text(contact, "phone")) is not None:
        addresses.append(Address(kind="phone", value=_dialed_from_abroad(phone, _country(contact))))
    name = " ".join(one.strip() for each in names if (one := text(contact, each)))
    return Person(addresses=addresses, name=name or text(contact, "name"), locale=locale) if addresses else None


def _country(contact: Json) -> str | None:
    return text(contact, "country_code") or text(contact, "default_address", "country_code") or text(contact, "country")


def _dialed_from_abroad(phone: str, country: str | None) -> str:
    """With the country's code, where that makes it a number that can be."""
    try:
        number = phonenumbers.parse(phone, country)
    except phonenumbers.NumberParseException:
        return phone
    if not phonenumbers.is_possible_number(number):
        return phone
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
