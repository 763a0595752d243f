"""Which contacts are worth a comparison: those that share a key. Pure.

All pairs of 100,000 contacts would be five thousand million. A key is something that records of one person have in
common even where both were typed badly: a number, or, where many people have the same, together with how a part of the
name sounds or begins. What still is so common that a block of contacts under one key gets too large is left out; those
of them that are one person have rarer things in common, or too little to say so.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from crm.contacts.likeness import NUMBER_LENGTH_MIN, Person, local, told
from crm.contacts.names import weight

BLOCK_MAX: Final = 50
"""How many contacts one key may have, to be compared with one another."""

KINDS: Final = ("number", "email", "similar_number", "birth_date", "name", "address")
KIND_BITS: Final = 7
"""What a key is of, and in which bits it stands; `kind_of` finds it again."""

BEGINNING: Final = 8
ENDING: Final = 5
"""One wrong or missing digit of a number is behind so many from its beginning, or before so many from its end."""
_LOCAL_END: Final = 4
_TOLD_MAX: Final = 4.0
_ALONE: Final = 9.0
"""Names that weigh no more are of one person only where something else is the same, too."""
_PLACES: Final = {kind: place for place, kind in enumerate(KINDS)}


def keys(person: Person) -> set[int]:
    """The keys of a contact, as signed numbers of 64 bits that mean the same in this process only."""
    return {_key(kind, text) for kind, text in _keyed(person)}


def kind_of(key: int) -> str:
    """What a key is of."""
    return KINDS[key & KIND_BITS]


def _keyed(person: Person) -> Iterator[tuple[str, str]]:
    sounds = sorted({part.sound for part in person.name.parts if len(part.sound) > 1})
    for number in person.numbers:
        yield "number", number
        if len(number) >= NUMBER_LENGTH_MIN:
            yield from _with_each(sounds, "similar_number", f"{number[:BEGINNING]}…", f"…{number[-ENDING:]}")
    for mailbox in person.mailboxes:
        yield "email", mailbox
        if text := local(mailbox):
            yield "email", text
            # What is but a name begins as many others do, and says nothing more.
            if len(text) >= 2 * _LOCAL_END and (known := told(text, person.name)) < _TOLD_MAX:
                yield from _with_each(sounds, "email", f"…{text[-_LOCAL_END:]}")
                if not known:
                    yield from _with_each(sounds, "email", f"{text[:_LOCAL_END]}…")
    if (day := person.birth_on) is not None:
        # The same where day and month were mixed up.
        born = f"{day.year} {min(day.month, day.day)} {max(day.month, day.day)}"
        yield from _with_each(sounds, "birth_date", born)
        if len(sounds) == 1:  # of several parts, one at least is spelled so that it sounds the same
            yield "birth_date", f"{sounds[0][0]} {born}"
    if weight(person.name) > _ALONE:
        yield "name", person.name.key
    if person.place.address:
        # The rest may be abbreviated in a way that nobody thought of.
        longest = max(person.place.address.split(), key=lambda word: (len(word), word))
        yield from _with_each(sounds, "address", f"{longest} {' '.join(person.place.numbers)}")


def _with_each(sounds: Iterable[str], kind: str, *texts: str) -> Iterator[tuple[str, str]]:
    return ((kind, f"{sound} {text}") for sound in sounds for text in texts)


def _key(kind: str, text: str) -> int:
    return hash(text) & ~KIND_BITS | _PLACES[kind]
