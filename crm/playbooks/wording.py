"""What is written to somebody: in their language, with what is theirs in its places. Pure."""

import re
from collections.abc import Mapping
from typing import Final

LANGUAGE: Final = "id"
"""The language of those of whom none is known."""
ALWAYS: Final = frozenset({"name", "given_name", "points", "tier", "referral_code"})
OF_EXPIRY: Final = frozenset({"expiring_points", "expires_on"})
OF_SURVEY: Final = frozenset({"survey_path"})

_PLACE = re.compile(r"\{([a-z_]{1,40})\}")


def placeholders(text: str) -> set[str]:
    """The names in braces; braces around anything else mean themselves."""
    return set(_PLACE.findall(text))


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its values, none of which is read for placeholders again."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), text)


def spoken(words: Mapping[str, str], locale: str | None) -> str:
    """The words in the language of a locale such as `en-GB`; else in Indonesian, else in whichever there is."""
    language = (locale or LANGUAGE).partition("-")[0].lower()
    return words.get(language) or words.get(LANGUAGE) or next(iter(words.values()))
