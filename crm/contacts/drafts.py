"""What somebody wants a contact to be, checked: every rule about a contact's own fields is here."""

import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

from crm.contacts import attributes, identities, tags
from crm.contacts.attributes import Attribute
from crm.contacts.contacts import Contact
from crm.contacts.identities import Identity
from crm.db.ids import uuid7
from crm.errors import FieldError, Invalid

LINE_LENGTH_MAX = 200
BORN_MIN = date(1900, 1, 1)

_LOCALE = re.compile(
    r"(?P<language>[A-Za-z]{2,3})(?:[-_](?P<script>[A-Za-z]{4}))?(?:[-_](?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<rest>(?:-[A-Za-z0-9]{1,8}){0,4})\Z"
)
_EASTERNMOST = timedelta(hours=14)


class InvalidContact(Invalid):
    title = "This can't be a contact"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIdentity:
    """An identity as somebody typed it."""

    kind: str
    value: str
    account: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A contact to be made."""

    name: str
    given_name: str | None = None
    family_name: str | None = None
    locale: str | None = None
    time_zone: str | None = None
    birth_on: date | None = None
    identities: Sequence[NewIdentity] = ()
    tags: Sequence[str] = ()
    attributes: Mapping[str, Attribute | None] = field(default_factory=dict)


def contact_of(draft: Draft, *, region: str, now: datetime) -> Contact:
    """The new contact, not stored yet. Raises InvalidContact with everything that is wrong."""
    errors: list[FieldError] = []
    values = {name: _checked(name, getattr(draft, name), now, errors) for name in _RULES}
    found = []
    for position, wanted in enumerate(draft.identities):
        try:
            found.append(
                Identity.of(
                    kind=wanted.kind,
                    value=wanted.value,
                    account=wanted.account,
                    verified=wanted.verified,
                    region=region,
                )
            )
        except Invalid as error:
            errors.append(FieldError(f"/identities/{position}/value", error.code, error.detail))
    contact = Contact(
        id=uuid7(), identities=identities.unique(found), version=1, created_at=now, updated_at=now,
        attributes=attributes.merged({}, draft.attributes), **values,
    )  # fmt: skip
    return checked(contact, errors)


def merged(contact: Contact, changes: Mapping[str, Any], *, now: datetime) -> Contact:
    """The contact after a JSON merge patch of any of its fields but the identities.

    Raises InvalidContact with everything that is wrong.
    """
    errors: list[FieldError] = []
    values = {name: _checked(name, value, now, errors) for name, value in changes.items() if name != "attributes"}
    if "attributes" in changes:
        patch = changes["attributes"]
        values["attributes"] = {} if patch is None else attributes.merged(contact.attributes, patch)
    return checked(replace(contact, **values), errors)


def identified(contact: Contact, identity: Identity) -> Contact:
    """The contact with one identity more, or with one that it has verified. Raises InvalidContact."""
    return checked(replace(contact, identities=identities.unique([*contact.identities, identity])), [])


def tagged(contact: Contact, tag: str) -> Contact:
    """The contact with this tag. Raises InvalidTag, InvalidContact."""
    return checked(replace(contact, tags=sorted({*contact.tags, tags.clean(tag)})), [])


def checked(contact: Contact, errors: list[FieldError]) -> Contact:
    """The contact, if it is valid as a whole too. Raises InvalidContact, with the `errors` that were found before."""
    errors.extend(attributes.problems(contact.attributes))
    if len(contact.identities) > identities.COUNT_MAX:
        errors.append(FieldError("/identities", "too_many", f"a contact has at most {identities.COUNT_MAX} identities"))
    if len(contact.tags) > tags.COUNT_MAX:
        errors.append(FieldError("/tags", "too_many", f"a contact has at most {tags.COUNT_MAX} tags"))
    if errors:
        raise InvalidContact("Some fields are not valid.", errors=errors)
    return contact


def _checked(name: str, value: Any, now: datetime, errors: list[FieldError]) -> Any:
    try:
        return _RULES[name](value, now)
    except Invalid as error:
        errors.append(FieldError(f"/{name}", error.code, error.detail))
    except ValueError as error:
        errors.append(FieldError(f"/{name}", name, str(error)))
    return value


def _name(value: str | None, now: datetime) -> str:
    name = _line(value, now)
    if name is None:
        raise ValueError("every contact has a name")
    return name


def _line(value: str | None, now: datetime) -> str | None:
    if value is None:
        return None
    line = unicodedata.normalize("NFC", value).strip()
    if not line or len(line) > LINE_LENGTH_MAX or "\x00" in line:
        raise ValueError(f"must have 1 to {LINE_LENGTH_MAX} characters, and none of them NUL")
    return line


def _locale(value: str | None, now: datetime) -> str | None:
    if value is None:
        return None
    match = _LOCALE.match(value)
    if match is None:
        raise ValueError('must be a language tag, such as "id-ID"')
    language, script, region, rest = match.group("language", "script", "region", "rest")
    parts = (language.lower(), script and script.title(), region and region.upper())
    return "-".join(part for part in parts if part) + rest


def _time_zone(value: str | None, now: datetime) -> str | None:
    if value is not None and value not in _time_zones():
        raise ValueError('must be an IANA time zone, such as "Asia/Jakarta"')
    return value


def _birth_on(value: date | None, now: datetime) -> date | None:
    # Whoever was born today somewhere on Earth may be registered there today.
    if value is not None and not BORN_MIN <= value <= (now + _EASTERNMOST).date():
        raise ValueError(f"must not lie in the future, nor before {BORN_MIN.year}")
    return value


def _tags(value: Sequence[str] | None, now: datetime) -> list[str]:
    return sorted({tags.clean(tag) for tag in value or ()})


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


_RULES: Final[Mapping[str, Callable[[Any, datetime], Any]]] = {
    "name": _name,
    "given_name": _line,
    "family_name": _line,
    "locale": _locale,
    "time_zone": _time_zone,
    "birth_on": _birth_on,
    "tags": _tags,
}
