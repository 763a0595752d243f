"""Who is there already that somebody new may be, found by an index each: by birth date, number, e-mail address.

It is what is looked at while somebody waits, so it sees less than a scan over everybody: whoever has neither a birth
date, nor a phone number, nor an e-mail address in common or nearly so, is not found, however alike the names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from asyncpg import Record

from crm.contacts import identities, likeness
from crm.contacts.addresses import Address
from crm.contacts.likeness import NUMBER_LENGTH_MIN, SELECTED, Likeness, Person
from crm.contacts.likeness_keys import BEGINNING, ENDING
from crm.db.session import Session

LIKELY: Final = 85
"""From which score on somebody is not made a second contact unasked."""
CERTAIN: Final = 90
"""From which score on somebody is taken for the one who is there, where that is asked for."""

_LOOKED_AT_MAX: Final = 200
"""How many contacts with one thing in common are looked at."""

_KINDS: Final = "d.kind IN ('email', 'phone', 'whatsapp')"
# Behind the four arguments of the claims: who asks, each with a birth date, with a trace, or with a range of values.
_FOUND: Final = f"""
    SELECT b.number, f.id FROM unnest($5::integer[], $6::date[]) AS b (number, birth_on)
    CROSS JOIN LATERAL (
        SELECT c.id FROM contacts c WHERE c.birth_on = b.birth_on LIMIT {_LOOKED_AT_MAX}
    ) f
    UNION
    SELECT t.number, f.contact_id FROM unnest($7::integer[], $8::text[]) AS t (number, trace)
    CROSS JOIN LATERAL (
        SELECT d.contact_id FROM identity_directory d
        WHERE {_KINDS} AND identity_trace(d.kind, d.value) = t.trace LIMIT {_LOOKED_AT_MAX}
    ) f
    UNION
    SELECT r.number, f.contact_id FROM unnest($9::integer[], $10::text[], $11::text[]) AS r (number, first, beyond)
    CROSS JOIN LATERAL (
        SELECT d.contact_id FROM identity_directory d
        WHERE d.value >= r.first AND d.value < r.beyond AND {_KINDS} LIMIT {_LOOKED_AT_MAX}
    ) f
"""
_OWNED: Final = """
    SELECT d.value, d.kind, d.account, d.contact_id
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS v (value, kind, account, contact_id)
    JOIN identity_directory d ON d.value = v.value AND d.kind = v.kind AND d.account = v.account
"""


def _query(holders: str) -> str:
    return f"""
        WITH holders AS ({holders}), found AS ({_FOUND})
        SELECT NULL::integer AS number, h.contact_id AS holder, h.value, h.kind, h.account,
            NULL::uuid AS id, NULL::text AS name, NULL::text AS given_name, NULL::text AS family_name,
            NULL::date AS birth_on, NULL::jsonb AS ways, NULL::text AS address, NULL::text AS city,
            NULL::text AS postal_code
        FROM holders h
        UNION ALL
        SELECT f.number, NULL, NULL, NULL, NULL, p.* FROM found f
        CROSS JOIN LATERAL (SELECT {SELECTED} FROM contacts c WHERE c.id = f.id LIMIT 1) p
    """


_CLAIM_AND_FIND: Final = _query(identities.CLAIM)
_FIND: Final = _query(_OWNED)


@dataclass(frozen=True, slots=True)
class Found:
    """Who has each address, and for each who asked, the contacts with something in common."""

    holders: Mapping[Address, UUID]
    people: Sequence[Sequence[Person]]


async def claim_and_find(session: Session, *, wanted: Mapping[Address, UUID], people: Sequence[Person]) -> Found:
    """What `identities.claim` does, and who of those who are there these people may be, in one statement."""
    clues = _clues(people)
    if not any(clues):
        return Found(await identities.claim(session, wanted=wanted), [()] * len(people))
    return _sorted(await session.fetch(_CLAIM_AND_FIND, *identities.claiming(wanted), *clues), len(people))


async def find(session: Session, *, wanted: Mapping[Address, UUID], people: Sequence[Person]) -> Found:
    """The same without claiming: addresses that are free have no holder, and remain free."""
    clues = _clues(people)
    if not wanted and not any(clues):
        return Found({}, [()] * len(people))
    return _sorted(await session.fetch(_FIND, *identities.claiming(wanted), *clues), len(people))


def likely(person: Person, others: Iterable[Person], *, least: int) -> list[tuple[Person, Likeness]]:
    """Those of the others who are the same with this score at least, the likeliest first."""
    found = [(other, likeness.compared(person, other)) for other in others]
    return sorted((one for one in found if one[1].score >= least), key=lambda one: (-one[1].score, one[0].id))


def recognisable(person: Person) -> bool:
    """Whether anybody is looked for at all."""
    return any(_clues([person]))


def _clues(people: Sequence[Person]) -> tuple[list[Any], ...]:
    births: list[tuple[int, date]] = []
    traces: list[tuple[int, str]] = []
    ranges: list[tuple[int, str, str]] = []
    for number, person in enumerate(people):
        # A name and the day on which half the world was born are no evidence.
        if person.birth_on is not None and not likeness.is_default_day(person.birth_on) and person.name.parts:
            births.append((number, person.birth_on))
        traces += [(number, text) for mailbox in person.mailboxes if (text := likeness.local(mailbox))]
        for digits in person.numbers:
            ranges += [(number, *one) for one in _ranges(digits)]
            if len(digits) >= NUMBER_LENGTH_MIN:
                traces.append((number, digits[-ENDING:]))
    return (*_columns(births, 2), *_columns(traces, 2), *_columns(ranges, 3))


def _ranges(digits: str) -> Iterator[tuple[str, str]]:
    """The values of a phone number and its WhatsApp, and, where it is long enough, of those that begin alike."""
    for value in (digits, f"+{digits}"):
        yield value, f"{value}!"
    if len(digits) >= NUMBER_LENGTH_MIN:
        beginning = digits[:BEGINNING]
        for value in (beginning, f"+{beginning}"):
            yield value, value[:-1] + chr(ord(value[-1]) + 1)


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(count)]


def _sorted(rows: Sequence[Record], count: int) -> Found:
    holders: dict[Address, UUID] = {}
    people: list[list[Person]] = [[] for _ in range(count)]
    for row in rows:
        if row["number"] is None:
            holders[Address(row["value"], row["kind"], row["account"])] = row["holder"]
        else:
            people[row["number"]].append(likeness.person_of_row(row))
    return Found(holders, people)
