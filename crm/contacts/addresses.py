"""The canonical form of an identity, so that one address is one text however somebody typed it."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, ValidationResult

from crm.errors import Invalid

LENGTH_MAX = 255
PREFIX_LENGTH_MIN = 3
"""From how many characters on the beginning of an address finds it."""

_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z", re.ASCII)
_ACCOUNT_LENGTH_MAX = 100
_E164_DIGITS_MAX = 15
_PHONE = re.compile(r"[+\uff0b]?[\d\s().\-\u2010-\u2015\u2212]+\Z")
_PLAIN_LOCAL = re.compile(r"(?=.{1,64}\Z)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*\Z", re.ASCII | re.IGNORECASE)
_EMAIL_LENGTH_MAX = 254
_WA_ID = re.compile(rf"[1-9][0-9]{{6,{_E164_DIGITS_MAX - 1}}}\Z", re.ASCII)

# What systems send where they know nobody. As an identity, each would make one contact of all strangers.
_NOBODY = frozenset({
    "-1", "[]", "{}", "[object object]", "anon", "anonymous", "anonymous user", "false", "guest", "n/a", "na", "nan",
    "nil", "nobody", "none", "not set", "not_authenticated", "null", "true", "undefined", "unknown", "unset", "walk-in",
    "walkin",
})  # fmt: skip
_ZEROS = re.compile(r"[0\s+\-._]*\Z")


class InvalidIdentity(Invalid):
    code = "invalid_identity"
    title = "This can't identify anybody"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """What an identity is found by; `value` is canonical."""

    value: str
    kind: str
    account: str = ""


def address(*, kind: str, value: str, account: str = "", region: str) -> Address:
    """The address behind a text as somebody typed it.

    `region` is the country (ISO 3166-1) of a phone number written without one. An e-mail address or a number is the
    same person's whichever account it reached, so these kinds have no account. Raises InvalidIdentity.
    """
    if not is_kind(kind):
        raise InvalidIdentity("A kind of identity is a short lower-case name, such as 'email'.")
    text = _text(value)
    if len(text) > LENGTH_MAX:
        raise InvalidIdentity(f"An identity has at most {LENGTH_MAX} characters.")
    if _means_nobody(text):
        raise InvalidIdentity("This value stands for nobody in particular.")
    canonical = _CANONICAL.get(kind, _as_typed)(text, region)
    if not canonical or len(canonical) > LENGTH_MAX or _means_nobody(canonical):
        raise InvalidIdentity("This value stands for nobody in particular.")
    return Address(canonical, kind, "" if kind in _WITHOUT_ACCOUNT else _account(account))


def is_kind(text: str) -> bool:
    """Whether a kind of identity can be called so."""
    return _KIND.match(text) is not None


def account_of(kind: str, account: str | None) -> str | None:
    """The account in the form in which `address` keeps it; None stays None. Raises InvalidIdentity."""
    return account if account is None else "" if kind in _WITHOUT_ACCOUNT else _account(account)


def beginnings(typed: str, *, region: str) -> list[str]:
    """How the canonical form of an address may begin, or be, of which somebody typed this much."""
    text = _text(typed)
    found = {text, text.lower(), _card(text, region)}
    if "@" in text:
        with suppress(InvalidIdentity):
            found.add(_email(text, region))
    elif _PHONE.match(text):
        found |= _phone_beginnings(text, region)
    return sorted(found - {""})


def _text(value: str) -> str:
    if "\x00" in value:
        raise InvalidIdentity("An identity can't contain the NUL character.")
    return unicodedata.normalize("NFC", value).strip()


def _account(account: str) -> str:
    text = _text(account)
    if len(text) > _ACCOUNT_LENGTH_MAX:
        raise InvalidIdentity(f"An account has at most {_ACCOUNT_LENGTH_MAX} characters.")
    return text


def _means_nobody(text: str) -> bool:
    return text.casefold() in _NOBODY or _ZEROS.match(text) is not None


def _as_typed(text: str, region: str) -> str:
    return text


def _email(text: str, region: str) -> str:
    # Mail servers may tell apart the case of what is before the @, and none that matters does; people type it either
    # way. Two contacts for one mailbox would be the greater harm. `raw` keeps what to write on an envelope.
    local, _, domain = text.rpartition("@")
    try:
        if _PLAIN_LOCAL.match(local) and len(text) <= _EMAIL_LENGTH_MAX:
            return f"{local}@{_domain(domain)}".lower()
        return validate_email(text, check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError as error:
        raise InvalidIdentity(f"This is not an e-mail address: {error}") from error


@lru_cache(maxsize=4096)
def _domain(domain: str) -> str:
    # Nearly everybody has one of a few domains, and checking one costs as much as all the rest of an import's row.
    return validate_email(f"a@{domain}", check_deliverability=False, test_environment=True).domain


def _phone(text: str, region: str) -> str:
    number = _number(text, region)
    if number is None:
        raise InvalidIdentity("This is not a phone number. Write it with its country code, such as +62 812 3456 789.")
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _whatsapp(text: str, region: str) -> str:
    text = text.removeprefix("whatsapp:").strip()
    # Digits alone are a WhatsApp id already: it always has the country code, whatever else the digits could mean here.
    return text if _WA_ID.match(text) else _phone(text, region).removeprefix("+")


def _card(text: str, region: str) -> str:
    return "".join(text.split()).upper()


def _number(text: str, region: str) -> PhoneNumber | None:
    """A number that can be dialed as far as its length tells: new ranges are in use before any list has them."""
    text = _international(text.removeprefix("tel:"))
    if not _PHONE.match(text):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    # A leading zero left after parsing is a real part of some numbers, and of most others a slip.
    if number.italian_leading_zero and not phonenumbers.is_valid_number(number):
        return None
    digits = len(str(number.country_code)) + len(phonenumbers.national_significant_number(number))
    return number if digits <= _E164_DIGITS_MAX else None


def _international(text: str) -> str:
    return f"+{text[2:]}" if text.startswith("00") else text


def _phone_beginnings(text: str, region: str) -> set[str]:
    number = _number(text, region)
    digits = "".join(str(unicodedata.digit(c)) for c in _international(text) if c.isdecimal())
    if len(digits) < PREFIX_LENGTH_MIN:
        return set()
    found = {digits, f"+{digits}"}
    if number is not None:
        found.add(phonenumbers.format_number(number, PhoneNumberFormat.E164))
    if not _international(text).startswith(("+", "\uff0b")):
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        trunk = metadata.national_prefix if metadata else None
        country_code = phonenumbers.country_code_for_region(region)
        if country_code:
            found.add(f"+{country_code}{digits.removeprefix(trunk or '')}")
    return found | {value.removeprefix("+") for value in found}


_CANONICAL: Mapping[str, Callable[[str, str], str]] = {
    "email": _email,
    "phone": _phone,
    "whatsapp": _whatsapp,
    "card": _card,
}
_WITHOUT_ACCOUNT = frozenset({"email", "phone", "whatsapp"})
