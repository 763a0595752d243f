"""A town of people, some of whom were written down twice: as people do that, by another spelling, slip or number."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from crm.contacts.addresses import address
from crm.db.ids import uuid7
from crm.db.session import Session

GIVEN_NAMES: Final = (
    "Sari", "Budi", "Dewi", "Agus", "Putri", "Rizky", "Ayu", "Hendra", "Wulan", "Fajar", "Intan", "Yusuf", "Maya",
    "Dimas", "Ratna", "Bayu", "Nadia", "Eko", "Citra", "Gilang", "Arif", "Melati", "Joko", "Kirana", "Siti", "Muhammad",
    "Ahmad", "Nur", "Sri", "Dwi", "Tri", "Indah", "Fitri", "Rina", "Andi", "Bambang", "Slamet", "Yanti", "Wahyu", "Adi",
    "Chairul", "Djoko", "Soeharto", "Rachmat", "Aisyah", "Fatimah", "Khadijah", "Zainal", "Syarif", "Hasan", "Husein",
    "Umar", "Anisa", "Laila", "Zahra", "Hafiz", "Galih", "Bagas", "Surya", "Candra", "Bintang", "Guntur", "Satria",
    "Yudha", "Teguh", "Tegar", "Cahyo", "Rangga", "Raden", "Kusno", "Sutrisno", "Suparman", "Theresia", "Yohanes",
    "Kristina", "Markus", "Lukas", "Petrus", "Paulus", "Stefanus", "Natalia", "Veronika", "Agnes", "Cecilia", "Monika",
    "Fransiska",
)  # fmt: skip
FAMILY_NAMES: Final = (
    "Wijaya", "Santoso", "Pratama", "Lestari", "Nugroho", "Siregar", "Halim", "Kusuma", "Hidayat", "Simanjuntak",
    "Saputra", "Maharani", "Gunawan", "Rahayu", "Setiawan", "Tanjung", "Permata", "Hartono", "Soerjadi", "Tjahjono",
    "Wibowo", "Kurniawan", "Susanto", "Sihombing", "Hutapea", "Nasution", "Lubis", "Harahap", "Pasaribu", "Panjaitan",
    "Situmorang", "Manurung", "Simbolon", "Sitompul", "Wirawan", "Suryadi", "Suharto", "Sudirman", "Purnomo",
    "Prasetyo", "Widodo", "Suwarno", "Sumarno", "Sugiarto", "Handoko", "Hermawan", "Darmawan", "Irawan", "Kartika",
    "Anggraini", "Oktaviani", "Ramadhani", "Fauzi", "Ramadhan", "Maulana", "Firmansyah", "Iskandar", "Zulkarnain",
    "Syahputra", "Alamsyah", "Hakim", "Rachman", "Yusuf", "Salim", "Basri",
)  # fmt: skip
STREETS: Final = (
    "Merdeka", "Sudirman", "Diponegoro", "Gatot", "Subroto", "Kartini", "Veteran", "Pahlawan", "Pemuda", "Melati",
    "Mawar", "Anggrek", "Kenanga", "Cempaka", "Dahlia", "Flamboyan", "Teratai", "Seruni", "Bougenville", "Kamboja",
    "Cendana", "Mahoni", "Akasia", "Beringin", "Jati",
)  # fmt: skip
CITIES: Final = ("Bandung", "Jakarta", "Surabaya", "Yogyakarta", "Semarang", "Malang", "Denpasar", "Medan")
HOSTS: Final = ("gmail.com",) * 6 + ("yahoo.com", "yahoo.co.id", "hotmail.com", "outlook.com")
OPERATORS: Final = (
    "811", "812", "813", "815", "817", "818", "819", "821", "822", "852", "853", "857", "858", "878", "896",
)  # fmt: skip
_SYLLABLES: Final = (
    "ba", "da", "ga", "ja", "ka", "la", "ma", "na", "pa", "ra", "sa", "ta", "wa", "ya", "bi", "di", "ki", "li", "mi",
    "ni", "ri", "si", "ti", "bu", "du", "gu", "ku", "lu", "mu", "nu", "ru", "su", "tu",
)  # fmt: skip

_SPELLINGS: Final = (
    ("Muhammad", "Moh."), ("Muhammad", "Mochamad"), ("dj", "j"), ("Dj", "J"), ("oe", "u"), ("Tj", "C"), ("tj", "c"),
    ("y", "i"), ("i", "y"), ("ch", "h"), ("Ch", "Kh"), ("sy", "sj"), ("Sy", "Sj"), ("s", "ss"), ("t", "th"), ("z", "s"),
    ("Yu", "Ju"), ("h", ""),
)  # fmt: skip
_KNOWN: Final = {"birth": 0.6, "phone": 0.9, "email": 0.5, "address": 0.3}
_FIRST_DAY: Final = date(1950, 1, 1)
_MONTHS: Final = 12
_TITLES: Final = ("Bu", "Pak", "H.", "Hj.", "Ibu", "Bapak", "dr.")


@dataclass(frozen=True, slots=True)
class Record:
    """Somebody as they were written down once; `person` is the same for all records of one."""

    person: int
    name: str
    birth_on: date | None = None
    phone: str | None = None
    whatsapp: str | None = None
    email: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid7)


def records(count: int, *, doubled: float, seed: int) -> list[Record]:
    """That many records, of which so large a share are second ones of somebody of whom something is known."""
    chance = random.Random(seed)
    mailboxes: set[str] = set()
    people = [_person(number, mailboxes, chance) for number in range(round(count * (1 - doubled)))]
    twice = chance.sample([one for one in people if _facts(one)], count - len(people))
    made = [*people, *(_again(one, chance) for one in twice)]
    chance.shuffle(made)
    return [replace(one, id=uuid7()) for one in made]


def pairs(made: Sequence[Record]) -> set[tuple[UUID, UUID]]:
    """The ids of records that are one person's, the lesser first."""
    first: dict[int, UUID] = {}
    found = set()
    for one in made:
        if (other := first.setdefault(one.person, one.id)) != one.id:
            found.add((min(one.id, other), max(one.id, other)))
    return found


async def settle(session: Session, made: Sequence[Record]) -> None:
    """Write them down as contacts. An address that somebody has already is left out."""
    now = datetime.now(UTC)
    owned: set[tuple[str, str]] = set()
    contacts, identities, directory = [], [], []
    for one in made:
        contacts.append((one.id, one.name, one.birth_on, one.attributes, now, now))
        for kind, value in _identities(one):
            if (value, kind) not in owned:
                owned.add((value, kind))
                identities.append((one.id, kind, "", value, value, now))
                directory.append((value, kind, "", one.id))
    for table, columns, rows in (
        ("contacts", "id name birth_on attributes created_at updated_at", contacts),
        ("contact_identities", "contact_id kind account value raw created_at", identities),
        ("identity_directory", "value kind account contact_id", directory),
    ):
        await session.driver.copy_records_to_table(table, records=rows, columns=columns.split())
    await session.execute("ANALYZE contacts, contact_identities, identity_directory")


def _identities(one: Record) -> Iterator[tuple[str, str]]:
    for kind, typed in (("phone", one.phone), ("whatsapp", one.whatsapp), ("email", one.email)):
        if typed is not None:
            yield kind, address(kind=kind, value=typed, region="ID").value


def _person(number: int, mailboxes: set[str], chance: random.Random) -> Record:
    names = [_name(GIVEN_NAMES, chance) for _ in range(1 if chance.random() < 0.7 else 2)]
    if chance.random() < 0.9:
        names.append(_name(FAMILY_NAMES, chance))
    has = [fact for fact, share in _KNOWN.items() if chance.random() < share]
    return Record(
        number,
        " ".join(names),
        birth_on=_FIRST_DAY + timedelta(days=int(chance.triangular(0, 20_000, 13_000))) if "birth" in has else None,
        phone=f"0{chance.choice(OPERATORS)}{chance.randint(1_000_000, 99_999_999)}" if "phone" in has else None,
        email=_email(names, mailboxes, chance) if "email" in has else None,
        attributes=_address(chance) if "address" in has else {},
    )


def _name(names: Sequence[str], chance: random.Random) -> str:
    """The first of them are the names that most people have; a third have one that hardly anybody has."""
    if chance.random() < 0.35:
        return "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))).capitalize()
    return names[int(len(names) * chance.random() ** 1.7)]


def _email(names: Sequence[str], mailboxes: set[str], chance: random.Random) -> str:
    local = chance.choice((".", "", "_")).join(names).lower()
    if chance.random() < 0.6 or local.replace(".", "") in mailboxes:
        local += str(chance.randint(10, 9999))
    mailboxes.add(local.replace(".", ""))
    return f"{local}@{chance.choice(HOSTS)}"


def _address(chance: random.Random) -> dict[str, str]:
    street = f"Jl. {chance.choice(STREETS)} No. {chance.randint(1, 200)}"
    return {"address": street, "city": chance.choice(CITIES)}


def _facts(one: Record) -> list[str]:
    known = {"birth": one.birth_on, "phone": one.phone, "email": one.email, "address": one.attributes}
    return [fact for fact, value in known.items() if value]


def _again(one: Record, chance: random.Random) -> Record:
    """The same person at another till, on another day: called otherwise, and with a part of what was known."""
    name = one.name
    for change in chance.sample((_spelled, _slipped, _titled, _turned, _shortened), k=chance.choice((0, 1, 1, 2))):
        name = change(name, chance)
    known = _facts(one)
    kept = chance.sample(known, k=min(len(known), chance.choice((1, 2, 2, 3))))
    number = {}
    if one.phone and "phone" in kept:
        # The same number written down as a phone again would have been the same contact.
        number = {"whatsapp": one.phone} if chance.random() < 0.5 else {"phone": _number_again(one.phone, chance)}
    return Record(
        one.person, name,
        birth_on=_day_again(one.birth_on, chance) if one.birth_on and "birth" in kept else None,
        email=_email_again(one.email, chance) if one.email and "email" in kept else None,
        attributes=_address_again(one.attributes) if "address" in kept else {},
        **number,
    )  # fmt: skip


def _spelled(name: str, chance: random.Random) -> str:
    fitting = [(old, new) for old, new in _SPELLINGS if old in name]
    return name.replace(*chance.choice(fitting), 1) if fitting else name


def _slipped(name: str, chance: random.Random) -> str:
    """A letter left out, doubled, or typed after the next one."""
    at = chance.randrange(1, len(name) - 1)
    if not name[at - 1 : at + 2].isalpha():
        return name
    return chance.choice((name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:],
                          name[:at] + name[at + 1] + name[at] + name[at + 2 :]))  # fmt: skip


def _titled(name: str, chance: random.Random) -> str:
    return f"{chance.choice(_TITLES)} {name}"


def _turned(name: str, chance: random.Random) -> str:
    first, _, rest = name.partition(" ")
    return f"{rest} {first}".strip()


def _shortened(name: str, chance: random.Random) -> str:
    words = name.split()
    return " ".join([words[0], *(f"{word[0]}." for word in words[1:])]) if len(words) > 2 else name


def _number_again(phone: str, chance: random.Random) -> str:
    """One digit typed wrongly: the same number would be the same contact."""
    at = chance.randrange(4, len(phone))
    return phone[:at] + chance.choice([digit for digit in "0123456789" if digit != phone[at]]) + phone[at + 1 :]


def _email_again(email: str, chance: random.Random) -> str:
    local, _, host = email.partition("@")
    elsewhere = chance.choice([other for other in HOSTS if other != host])
    return chance.choice((f"{local}+toko@{host}", f"{local}@{elsewhere}", f"{local}@{_typed(host)}"))


def _typed(host: str) -> str:
    return host[:2] + host[3] + host[2] + host[4:]


def _day_again(day: date, chance: random.Random) -> date:
    mixed_up = day.day <= _MONTHS and chance.random() < 0.1
    return day.replace(month=day.day, day=day.month) if mixed_up else day


def _address_again(attributes: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("Jl. ", "Jalan ").replace("No. ", "") for name, value in attributes.items()}
