"""Addresses that somebody tells of in a message. They prove nothing and find nobody: who has one may be the same.

Pure.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import phonenumbers

from crm.interactions.channels.events import Address

LOOKED_AT: Final = 2_000
"""How many characters of a message are looked through."""
MENTIONS_MAX: Final = 3
"""Of each kind: who names more writes a list, and not who they are."""

_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}")
_DIGITS: Final = re.compile(r"\d(?:[ ().-]{0,2}\d){7}")


def addresses(text: str | None, *, region: str) -> list[Address]:
    """The e-mail addresses and phone numbers in a text; numbers without a country's code are of the region."""
    if not text:
        return []
    begun = text[:LOOKED_AT]
    return [*islice(_emails(begun), MENTIONS_MAX), *islice(_phones(begun, region), MENTIONS_MAX)]


def _emails(text: str) -> Iterator[Address]:
    if "@" in text:
        for found in _EMAIL.finditer(text):
            yield Address(kind="email", value=found[0])


def _phones(text: str, region: str) -> Iterator[Address]:
    # Most messages have no number in them, and looking for one thoroughly takes its time.
    if _DIGITS.search(text):
        for found in phonenumbers.PhoneNumberMatcher(text, region):
            yield Address(kind="phone", value=phonenumbers.format_number(found.number, _E164))


_E164: Final = phonenumbers.PhoneNumberFormat.E164
