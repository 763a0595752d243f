"""How likely two contacts are one person, and why. Pure, and the same either way round.

By the model of Fellegi and Sunter (A Theory for Record Linkage, 1969): each thing that is known of both speaks for or
against it, by as much as it is more often so among records of one person than among those of two. The logarithms of
these ratios, in bits, add up, and with the odds before anything was compared they give the odds after. The weights are
set by hand, and cautiously: families share numbers and homes, and people make their addresses out of their names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from asyncpg import Record
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

from crm.contacts import names, places
from crm.contacts.contacts import Contact
from crm.contacts.names import Evidence, Name
from crm.contacts.places import Place
from crm.contacts.sameness import KINDS, reached

PRIOR: Final = -11.0
"""The odds, in bits, that two records which were worth a comparison are one person's."""

NUMBER_LENGTH_MIN: Final = 9
"""Fewer digits are an extension, or a code: nearly the same says nothing of them."""
ENDING: Final = 7
LOCAL_LENGTH_MIN: Final = 5
GENERIC: Final = frozenset({
    "admin", "billing", "booking", "contact", "customer", "enquiry", "finance", "hello", "kontak", "marketing",
    "noreply", "office", "order", "orders", "owner", "reservasi", "sales", "service", "support", "webmaster",
})  # fmt: skip
"""What stands before the @ of many a business."""

_NAMED_DIGITS: Final = 2
_NO_DIGITS: Final = str.maketrans("", "", "0123456789")
_ADDRESS_ALIKE: Final = 88


@dataclass(frozen=True, slots=True)
class Person:
    """What of a contact is compared. `numbers` are digits, `mailboxes` what `sameness` makes of e-mail addresses."""

    id: UUID
    name: Name
    birth_on: date | None
    numbers: frozenset[str]
    mailboxes: frozenset[str]
    place: Place

    @classmethod
    def of(
        cls,
        contact_id: UUID,
        *,
        called: Iterable[str],
        birth_on: date | None,
        identities: Iterable[tuple[str, str]],
        place: Place,
    ) -> "Person":
        """The person behind a contact: under all that it is called, with kinds and canonical values of identities."""
        known = [(kind, value) for kind, value in identities if kind in KINDS]
        ways = reached(known)
        mailboxes = frozenset(way for way in ways if "@" in way)
        return cls(contact_id, names.fullest(called), birth_on, ways - mailboxes, mailboxes, place)


@dataclass(frozen=True, slots=True)
class DuplicateReason:
    """Something that speaks for or against two contacts being one person."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Likeness:
    """`score` is the probability in percent; of the reasons, what weighs most comes first."""

    score: int
    reasons: list[DuplicateReason]


def person_of(contact: Contact) -> Person:
    """What of a contact is compared."""
    return Person.of(
        contact.id,
        called=_called(contact.name, contact.given_name, contact.family_name),
        birth_on=contact.birth_on,
        identities=[(identity.kind, identity.value) for identity in contact.identities],
        place=places.place(
            address=_first(contact.attributes, places.ADDRESS),
            city=_first(contact.attributes, places.CITY),
            postal_code=_first(contact.attributes, places.POSTAL_CODE),
        ),
    )


def _first_of(attributes: Iterable[str]) -> str:
    return f"coalesce({', '.join(f'c.attributes ->> {name!r}' for name in attributes)})"


SELECTED: Final = f"""
    c.id, c.name, c.given_name, c.family_name, c.birth_on,
    (SELECT jsonb_agg(jsonb_build_array(i.kind, i.value)) FROM contact_identities i
     WHERE i.contact_id = c.id AND i.kind IN ('email', 'phone', 'whatsapp')) AS ways,
    {_first_of(places.ADDRESS)} AS address, {_first_of(places.CITY)} AS city,
    {_first_of(places.POSTAL_CODE)} AS postal_code
"""
"""What `person_of_row` needs of a contact `c`."""


def person_of_row(row: Record) -> Person:
    """The person in a row of `SELECTED`."""
    return Person.of(
        row["id"],
        called=_called(row["name"], row["given_name"], row["family_name"]),
        birth_on=row["birth_on"],
        identities=[(kind, value) for kind, value in row["ways"] or ()],
        place=places.place(address=row["address"], city=row["city"], postal_code=row["postal_code"]),
    )


def compared(one: Person, other: Person) -> Likeness:
    """How likely the two are one person, and why."""
    found = [
        evidence
        for evidence in (
            names.compared(one.name, other.name),
            _births(one.birth_on, other.birth_on),
            _numbers(one.numbers, other.numbers),
            _mailboxes(one, other),
            _places(one.place, other.place),
        )
        if evidence is not None
    ]
    odds = PRIOR + sum(evidence.bits for evidence in found)
    found.sort(key=lambda evidence: (-abs(evidence.bits), evidence.code))
    return Likeness(round(100 / (1 + 2**-odds)), [DuplicateReason(evidence.code, evidence.text) for evidence in found])


def is_default_day(day: date) -> bool:
    """Whether a birth date is one that is entered where none is known."""
    return (day.month, day.day) == (1, 1)


def local(mailbox: str) -> str:
    """What stands before the @, without dots; empty where it is no person's own."""
    text = mailbox.partition("@")[0].replace(".", "")
    return text if len(text) >= LOCAL_LENGTH_MIN and text not in GENERIC else ""


def _births(one: date | None, other: date | None) -> Evidence | None:
    if one is None or other is None:
        return None
    if one == other:
        return Evidence(3.0 if is_default_day(one) else 8.0, "same_birth_date", "Born on the same day")
    if (one.year, one.month, one.day) == (other.year, other.day, other.month):
        return Evidence(5.0, "swapped_birth_date", "Born on the same day, if day and month were mixed up once")
    if OSA.distance(one.isoformat(), other.isoformat(), score_cutoff=1) <= 1:
        return Evidence(0.5, "similar_birth_date", "The birth dates differ in one digit")
    return Evidence(-7.0, "other_birth_date", "Born on different days")


def _numbers(ones: frozenset[str], others: frozenset[str]) -> Evidence | None:
    if not ones or not others:
        return None
    if ones & others:
        return Evidence(15.0, "same_number", "Reached by the same phone number")
    long = [(a, b) for a in ones for b in others if min(len(a), len(b)) >= NUMBER_LENGTH_MIN]
    if any(OSA.distance(a, b, score_cutoff=1) <= 1 for a, b in long):
        return Evidence(7.0, "similar_number", "The phone numbers differ in one digit")
    if any(a[-ENDING:] == b[-ENDING:] for a, b in long):
        return Evidence(5.0, "same_number_ending", "The phone numbers end alike")
    return Evidence(-1.5, "other_number", "Different phone numbers")


def _mailboxes(one: Person, other: Person) -> Evidence | None:
    if not one.mailboxes or not other.mailboxes:
        return None
    if one.mailboxes & other.mailboxes:
        return Evidence(15.0, "same_mailbox", "Reached by the same e-mail address")
    best = Evidence(-1.0, "other_email", "Different e-mail addresses")
    for a in one.mailboxes:
        for b in other.mailboxes:
            best = max(best, _addresses(a, b, one, other) or best)
    return best


def _addresses(a: str, b: str, one: Person, other: Person) -> Evidence | None:
    before, after = local(a), local(b)
    if not before or not after or OSA.distance(before, after, score_cutoff=1) > 1:
        return None
    known = max(told(text, person.name) for text in {before, after} for person in (one, other))
    behind, beyond = a.rpartition("@")[2], b.rpartition("@")[2]
    if before == after:
        if OSA.distance(behind, beyond, score_cutoff=1) <= 1:
            return Evidence(9.0, "similar_email", "The e-mail addresses differ in one character behind the @")
        return Evidence(7.0 - known, "same_local_part", "The e-mail addresses are the same before the @")
    # Whoever comes second to an address puts a number behind it.
    if behind == beyond and _digits(before) == _digits(after):
        return Evidence(6.0 - known, "similar_email", "The e-mail addresses differ in one character")
    return None


def told(text: str, name: Name) -> float:
    """How many bits of an address, as `local` has it, the name of its owner has said already."""
    if not names.is_made_of(text.translate(_NO_DIGITS), name):
        return 0.0
    return 1.0 if len(_digits(text)) >= _NAMED_DIGITS else 4.0


def _digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text))


def _places(one: Place, other: Place) -> Evidence | None:
    if one.address and other.address and one.numbers == other.numbers:
        if one.address == other.address:
            return Evidence(6.0, "same_address", "The same address")
        if fuzz.token_sort_ratio(one.address, other.address) >= _ADDRESS_ALIKE:
            return Evidence(4.0, "similar_address", "Nearly the same address")
    if one.postal_code and one.postal_code == other.postal_code:
        return Evidence(2.5, "same_postal_code", "The same postal code")
    if one.city and other.city:
        same = one.city == other.city
        return (
            Evidence(1.5, "same_city", "In the same town") if same else Evidence(-1.0, "other_city", "In other towns")
        )
    return None


def _called(name: str, given_name: str | None, family_name: str | None) -> Sequence[str]:
    return (name, f"{given_name} {family_name}") if given_name and family_name else (name,)


def _first(attributes: Mapping[str, Any], wanted: Iterable[str]) -> str | None:
    value = next((attributes[name] for name in wanted if name in attributes), None)
    return value if isinstance(value, str) else None if value is None else str(value)
