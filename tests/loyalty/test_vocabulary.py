"""What SQL finds is what Python says of each contact: for every field, every operator, and all that is made of them."""

import asyncio
import os
import re
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.contacts import conditions, contributions, tags
from crm.contacts.aliases import contact_aliases
from crm.contacts.comparisons import OPERATORS
from crm.contacts.conditions import Condition, Facts, InvalidCondition
from crm.contacts.contacts import contacts
from crm.contacts.segments import segment_members
from crm.contacts.vocabulary import Frame
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session, prepare
from crm.db.writes import Insert
from crm.interactions import histories, selections, timeline
from crm.interactions.selections import Selection
from crm.interactions.timeline import Interaction
from crm.loyalty import programs
from crm.loyalty.vocabulary import VOCABULARY

EXAMPLES = int(os.environ.get("CRM_TEST_EXAMPLES", "60"))
LIMIT = 3
ZONES = ["Asia/Jakarta", "America/New_York", "Pacific/Kiritimati"]
NOWS = [
    datetime(2026, 2, 28, 12, tzinfo=UTC),  # 29 February has no other day this year
    datetime(2028, 2, 28, 12, tzinfo=UTC),
    datetime(2026, 3, 31, 23, 30, tzinfo=UTC),  # another day, and another month, further east
    datetime(2026, 3, 8, 7, 30, tzinfo=UTC),  # an hour after New York has lost one
    datetime(2026, 11, 22, 8, 0, tzinfo=UTC),
]
TIERS = ["Silver", "Gold"]
SEGMENTS = ["Regulars", "Sleepers"]

# ---------------------------------------------------------------- contacts

_names = st.sampled_from(["Sari", "sari", "Sari Dewi", "Budi", "René", "%", "_", "a\\b"])
_texts = st.none() | _names
_attributes = st.one_of(
    st.sampled_from(["", "a", "A", "vip", "vip club", "45000.00", "0045", "-5.5", "1e3", " 7", "7", "true", "é"]),
    st.sampled_from(["1990-02-28", "2026-11-22", "2026-02-30", "2026-11-22T00:00:00Z", "22/11/2026"]),
    st.sampled_from([0, 1, 7, 45000, -3, 0.1, 0.30000000000000004, 1.0, 1e-7, 2**53 - 1, True, False]),
    st.lists(st.sampled_from(["a", "vip", "vip club", "7", "45000.00"]), max_size=3),
)
_moments = st.sampled_from([
    timedelta(0), timedelta(microseconds=1), timedelta(hours=1), timedelta(hours=23), timedelta(days=1),
    timedelta(days=28), timedelta(days=30), timedelta(days=31), timedelta(days=90), timedelta(days=90, microseconds=1),
    timedelta(days=91), timedelta(days=365), -timedelta(microseconds=1), -timedelta(hours=2),
])  # fmt: skip
_days = st.sampled_from([
    date(1990, 2, 28), date(1992, 2, 29), date(1990, 3, 1), date(1990, 3, 31), date(1990, 4, 1), date(2008, 2, 28),
    date(2008, 11, 22), date(2008, 11, 23), date(2026, 11, 22), date(1990, 11, 30), date(1900, 1, 1),
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """A contact to make; instants are said as how long ago."""

    name: str
    given_name: str | None
    locale: str | None
    birth_on: date | None
    created_ago: timedelta
    tags: list[str]
    kinds: list[str]
    attributes: dict[str, Any]
    points: tuple[int, int, str | None, timedelta] | None
    segments: list[str]
    happened: list[tuple[str, timedelta, str, str | None, dict[str, Any]]]
    consent: str | None = None
    """To marketing on WhatsApp."""
    id: UUID = field(default_factory=uuid7)
    former_id: UUID = field(default_factory=uuid7)
    """Under which every other thing happened, before a merge."""


_happened = st.tuples(
    st.sampled_from(["visit", "purchase"]), _moments, st.sampled_from(["web", "shop"]),
    st.sampled_from([None, "inbound", "outbound"]), st.dictionaries(st.just("x"), _attributes | st.none()),
)  # fmt: skip
_people = st.builds(
    Person, name=_names, given_name=_texts, locale=_texts, birth_on=st.none() | _days, created_ago=_moments,
    tags=st.lists(st.sampled_from(["vip", "VIP", "b2b"]), unique=True),
    kinds=st.lists(st.sampled_from(["email", "card"]), unique=True),
    attributes=st.dictionaries(st.sampled_from(["x", "größe.eu"]), _attributes, max_size=2),
    points=st.none() | st.tuples(
        st.integers(-2, 3), st.integers(0, 3), st.none() | st.sampled_from(TIERS), _moments,
    ),
    segments=st.lists(st.sampled_from(SEGMENTS), unique=True),
    happened=st.lists(_happened, max_size=4),
    consent=st.sampled_from([None, "granted", "denied"]),
    id=st.builds(uuid7), former_id=st.builds(uuid7),
)  # fmt: skip

# ---------------------------------------------------------------- conditions

_scalars = st.one_of(
    st.sampled_from(["a", "vip", "45000.00", "7", "true"]),
    st.sampled_from([0, 1, 7, 0.1, 45000, -3, 2**53 - 1]), st.booleans(),
)  # fmt: skip
_dates = _days.map(date.isoformat) | st.sampled_from(["P1D", "P1M", "P18Y"]).map(lambda ago: {"ago": ago})
_instants = st.sampled_from(["P1D", "P1M", "P90D", "PT1H", "PT2H"]).map(lambda ago: {"ago": ago}) | st.sampled_from(
    ["2026-03-08T02:30:00-05:00", "2026-11-22T08:00:00Z"]
)
_WORDS = {
    "tags": ["vip", "b2b"], "identities": ["email", "card"], "segments": [*SEGMENTS, "Archived"], "tier": TIERS,
    "consents.whatsapp.marketing": ["granted", "denied"],
    "channel": ["web", "shop"], "direction": ["inbound", "outbound"], "kind": ["visit", "purchase"],
}  # fmt: skip
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "any": _scalars, "number": st.sampled_from([-1, 0, 1, 1.5, 2]), "date": _dates, "instant": _instants,
}  # fmt: skip
_TYPED_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.sampled_from([0, 1, 7, 45000, -3, 0.1]), "money": st.sampled_from(["45000.00", "-5.5", 7, "45"]),
    "boolean": st.booleans(),
}  # fmt: skip
FIELDS = {
    "name": "text", "given_name": "text", "locale": "text", "birth_on": "date", "created_at": "instant", "tags": "list",
    "identities": "list", "segments": "list", "attributes.x": "any", "attributes.größe.eu": "any", "tier": "text",
    "consents.whatsapp.marketing": "text",
    "points.available": "number", "points.lifetime_earned": "number", "enrolled_at": "instant",
}  # fmt: skip
TYPED: dict[str, tuple[str, str]] = {
    # name -> as what the attribute is defined, the type of field that it is then
    f"attributes.x as {kind}": (kind, of)
    for kind, of in {
        "text": "text", "number": "number", "money": "number", "date": "date", "boolean": "boolean", "choice": "text",
        "list": "list",
    }.items()
}  # fmt: skip
_TYPED_WORDS = {
    "text": ["a", "vip", "7", "45000.00", "1990-02-28"], "list": ["a", "vip", "7", "45000.00"],
}  # fmt: skip
EVERY = FIELDS | {name: of for name, (_, of) in TYPED.items()}
ALIKE = {"family_name", "time_zone"}
"""Columns that are read as the given name is."""


@st.composite
def _comparisons(draw: st.DrawFn, fields: dict[str, str]) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(fields)))
    op = draw(st.sampled_from(OPERATORS[fields[name]]))  # type: ignore[index]
    values = st.sampled_from(_WORDS[name]) if name in _WORDS else _VALUES.get(fields[name], _names)
    if name in TYPED:
        words = _TYPED_WORDS.get(fields[name])
        values = st.sampled_from(words) if words else _TYPED_VALUES.get(name.rpartition(" ")[2], values)
    match op:
        case "exists":
            value = draw(st.booleans())
        case "anniversary":
            value = draw(st.sampled_from(["day", "month"]))
        case "in" | "not_in":
            value = draw(st.lists(values, min_size=1, max_size=3))
        case _:
            value = draw(values)
    return _asked(name) | {"op": op, "value": value}


def _asked(name: str) -> dict[str, Any]:
    """The field, and as what it is defined, as `definitions.typed` says it in a condition."""
    return {"field": name.partition(" ")[0], "type": TYPED[name][0]} if name in TYPED else {"field": name}


def _grown(leaves: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda part: {"not": part}, inner)
        ),
        max_leaves=most,
    )


_histories = st.fixed_dictionaries(
    {"did": st.sampled_from(["visit", "purchase"])},
    optional={
        "count": st.dictionaries(st.sampled_from(["eq", "gt", "gte", "lt", "lte"]), st.integers(0, 3), min_size=1),
        "within": st.sampled_from(["P1D", "P1M", "P90D", "PT1H"]),
        "where": _grown(_comparisons({"channel": "text", "direction": "text", "kind": "text", "data.x": "any"}), 3),
    },
)


def _parsed(document: Any) -> Condition | None:
    try:
        return VOCABULARY.condition_of(document)
    except InvalidCondition:
        return None


def _sound(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[Condition]:
    return documents.map(_parsed).filter(lambda condition: condition is not None)


_of_each_field = st.tuples(*(_sound(_comparisons({name: kind})) for name, kind in EVERY.items()))
_conditions = _sound(_grown(_comparisons(EVERY) | _histories, 6))


# ---------------------------------------------------------------- both of them


class World:
    """One transaction that is never committed, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(asyncpg.connect(dsn))
        self.session = Session(self._connection)
        self.run(prepare(self._connection))
        self.judged: Counter[tuple[str, bool]] = Counter()
        self.run(self._connection.execute("BEGIN"))
        self.program_id, self.tiers, self.segments = self.run(self._shop())
        self.run(self._connection.execute("SAVEPOINT shop"))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def begin(self) -> None:
        self.run(self._connection.execute("ROLLBACK TO SAVEPOINT shop"))

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()

    async def _shop(self) -> tuple[UUID, dict[str, UUID], dict[str, UUID]]:
        program = await programs.create(
            self.session, name="Kopi", currency="IDR", time_zone="UTC", default=None, settings={}, now=NOWS[0]
        )
        for number, name in enumerate(TIERS):
            await programs.add_tier(
                self.session, program_id=program.id, name=name, threshold=number, benefits={}, now=NOWS[0]
            )
        known = await self.session.fetch("SELECT name, id FROM tiers")
        made = {name: uuid7() for name in [*SEGMENTS, "Archived"]}
        for name, segment_id in made.items():
            await self.session.execute(
                """
                INSERT INTO segments (id, name, condition, refresh, version, by, created_at, updated_at, archived_at)
                VALUES ($1, $2, '{}', 'manual', 1, 't', now(), now(), $3)
                """,
                segment_id, name, NOWS[0] if name == "Archived" else None,
            )  # fmt: skip
        return program.id, {row["name"]: row["id"] for row in known}, made


@pytest.fixture(scope="module")
def world(dsn: str) -> Iterator[World]:
    world = World(dsn)
    yield world
    world.close()


async def _store(world: World, people: Sequence[Person], now: datetime) -> None:
    rows = [
        (p.id, p.name, p.given_name, p.locale, p.birth_on, p.attributes, 1, now - p.created_ago, now) for p in people
    ]
    columns = (
        "id", "name", "given_name", "locale", "birth_on", "attributes", "version", "created_at", "updated_at",
    )  # fmt: skip
    inside = [
        (p.id, world.segments[name], now) for p in people for name in [*p.segments, *(["Archived"] if p.tags else [])]
    ]
    await writes.write(world.session, [
        Insert(contacts, columns, rows),
        tags.added([(p.id, p.tags) for p in people], now=now),
        Insert(contact_aliases, ("contact_id", "alias_id", "created_at"), [(p.id, p.former_id, now) for p in people]),
        Insert(segment_members, ("contact_id", "segment_id", "entered_at"), inside),
        timeline.part([
            timeline.entry(
                one.contact_id, id=one.id, channel=one.channel, kind=one.kind, occurred_at=one.occurred_at,
                recorded_at=now, by="t", direction=one.direction, data=one.data,
            )
            for p in people for one in _timeline(p, now)
        ]),
    ])  # fmt: skip
    for p in people:
        if p.consent is not None:
            await world.session.execute(
                """
                INSERT INTO consents (contact_id, id, channel, purpose, status, occurred_at, recorded_at, by)
                VALUES ($1, gen_random_uuid(), 'whatsapp', 'marketing', $2, $3, $3, 't')
                """,
                p.id, p.consent, now,
            )  # fmt: skip
        for kind in p.kinds:
            await world.session.execute(
                "INSERT INTO contact_identities (contact_id, kind, value, raw, created_at) VALUES ($1, $2, '', '', $3)",
                p.id, kind, now,
            )  # fmt: skip
        if p.points is not None:
            available, earned, tier, ago = p.points
            await world.session.execute(
                """
                INSERT INTO loyalty_accounts (contact_id, program_id, available, deficit, lifetime_earned, tier_id,
                    enrolled_at, updated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
                """,
                p.id, world.program_id, available, max(0, -available), earned, tier and world.tiers[tier], now - ago,
            )  # fmt: skip


def _timeline(person: Person, now: datetime) -> list[Interaction]:
    return [
        Interaction(
            *timeline.entry(
                person.former_id if number % 2 else person.id,
                channel=channel,
                kind=kind,
                occurred_at=now - ago,
                recorded_at=now,
                by="t",
                direction=direction,
                data=data,
            )
        )
        for number, (kind, ago, channel, direction, data) in enumerate(person.happened)
    ]


def _facts(world: World, person: Person, condition: Condition, now: datetime, zone: ZoneInfo) -> Facts:
    """What Python is told of somebody: nothing of it was read from the database."""
    available, earned, tier, ago = person.points or (0, 0, None, None)
    values = {
        "name": person.name, "given_name": person.given_name, "locale": person.locale, "birth_on": person.birth_on,
        "created_at": now - person.created_ago, "tags": person.tags, "identities": person.kinds,
        "segments": [part for name in person.segments for part in (name, str(world.segments[name]))],
        **{f"attributes.{name}": value for name, value in person.attributes.items()},
        **{name: _read_as(kind, person.attributes.get("x")) for name, (kind, _) in TYPED.items()},
        "consents.whatsapp.marketing": person.consent, "points.available": available,
        "points.lifetime_earned": earned, "tier": tier,
        "enrolled_at": None if ago is None else now - ago,
    }  # fmt: skip
    happened = _timeline(person, now)
    counts = {
        history: sum(histories.would_count(history, one, at=now, zone=zone) for one in happened)
        for history in conditions.histories_of(condition)
    }
    return Facts(values, counts)


def _read_as(kind: str, value: Any) -> Any:
    """An attribute as one of a type; None, or an empty list, where it is none."""
    match kind:
        case "boolean":
            return value if isinstance(value, bool) else None
        case "number":
            return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "money":
            return Decimal(value) if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value) else None
        case "date":
            return date.fromisoformat(value) if value in ("1990-02-28", "2026-11-22") else None
        case "list":
            return value if isinstance(value, list) else []
        case _:
            return value if isinstance(value, str) else None


async def _found(selection: Selection, session: Session, sort: Any) -> list[UUID]:
    """All pages put together."""
    ids: list[UUID] = []
    after = None
    while page := await selections.page(session, selection=selection, sort=sort, after=after, limit=LIMIT):
        ids.extend(found.contact.id for found in page)
        after = page[-1].position
    return ids


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
@given(
    people=st.lists(_people, min_size=4, max_size=8), alone=_of_each_field,
    together=st.lists(_conditions, min_size=3, max_size=6),
    now=st.sampled_from(NOWS), zone=st.sampled_from(ZONES).map(ZoneInfo),
    sort=st.sampled_from(["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"]),
)  # fmt: skip
def _assert_generated_ones_agree(world, people, alone, together, now, zone, sort):
    world.begin()
    world.run(_store(world, people, now))
    for condition in (*alone, *together):
        _note(world, condition, *_assert_agreed(world, people, condition, now, zone, sort))


def _assert_agreed(
    world: World, people: Sequence[Person], condition: Condition, now: datetime, zone: ZoneInfo, sort: Any
) -> tuple[bool, bool]:
    """That both find the same people; whether these are any, and whether they are not all."""
    local = now.astimezone(zone)
    selection = Selection(VOCABULARY, condition, Frame({"program_id": world.program_id}, zone), local)
    expected = {
        person.id
        for person in people
        if conditions.holds(condition, _facts(world, person, condition, now, zone), now=local)
    }
    found = world.run(_found(selection, world.session, sort))
    assert set(found) == expected, condition
    assert len(found) == len(expected) == world.run(selections.count(world.session, selection=selection))
    assert found == _sorted(people, found, sort)
    return bool(expected), len(expected) < len(people)


# Where days, months and spells end.
BORN = [
    *(date(1990, month, day) for month, day in [(2, 27), (2, 28), (3, 1), (3, 8), (3, 9), (3, 31), (4, 1), (11, 22)]),
    date(1992, 2, 29), date(2008, 2, 28), date(2008, 2, 29), date(2008, 11, 22), date(2008, 3, 1),
]  # fmt: skip
AGO = [
    span + shift
    for span in (timedelta(), timedelta(hours=1), timedelta(hours=23), *map(timedelta, (1, 28, 29, 30, 31, 90)))
    for shift in (timedelta(), timedelta(microseconds=1), -timedelta(microseconds=1), timedelta(hours=1))
]
BOUNDS = [
    *({"field": "birth_on", "op": "anniversary", "value": value} for value in ("day", "month")),
    *({"field": "birth_on", "op": op, "value": {"ago": "P18Y"}} for op in ("eq", "lte", "gt")),
    *({"field": "created_at", "op": op, "value": {"ago": ago}} for op in ("gt", "gte") for ago in ("P1D", "P1M")),
    *({"did": "visit", "count": {"gte": 1}, "within": within} for within in ("P1D", "P1M", "P90D", "PT1H", "P1MT1H")),
    {"did": "visit"},
]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("now", NOWS)
def test_sql_and_python_end_a_day_a_month_and_a_spell_at_the_same_moment(world, now, zone):
    world.begin()
    nobody = Person("Sari", None, None, None, timedelta(), [], [], {}, None, [], [])
    people = [replace(nobody, id=uuid7(), former_id=uuid7(), birth_on=born) for born in BORN]
    people += [
        replace(nobody, id=uuid7(), former_id=uuid7(), created_ago=ago, happened=[("visit", ago, "web", None, {})])
        for ago in AGO
    ]
    world.run(_store(world, people, now))
    for condition in filter(None, map(_parsed, BOUNDS)):
        _assert_agreed(world, people, condition, now, ZoneInfo(zone), "name")


def _sorted(people: Sequence[Person], found: Sequence[UUID], sort: str) -> list[UUID]:
    """Those who were found, in the order that was asked for; names are compared without case and accents."""
    keys: dict[str, Any] = {
        "name": lambda person: person.name.lower().replace("é", "e"),
        "created_at": lambda person: -person.created_ago, "updated_at": lambda _: 0,
    }  # fmt: skip
    key = keys[sort.removeprefix("-")]
    those = sorted(
        (person for person in people if person.id in set(found)),
        key=lambda person: (key(person), person.id),
        reverse=sort.startswith("-"),
    )
    return [person.id for person in those]


def _note(world: World, condition: Condition, some: bool, not_all: bool) -> None:
    names = {asked.name.partition(".")[0] if asked.key else asked.name for asked in conditions.fields_of(condition)}
    for name in [*names, *(["did"] if conditions.histories_of(condition) else [])]:
        world.judged[name, True] += some
        world.judged[name, False] += not_all


def test_sql_finds_those_of_whom_python_says_that_the_condition_holds(world):
    _assert_generated_ones_agree(world)
    known = {name.removesuffix(".…") for name in VOCABULARY.fields.names}
    asked = {name for name, _ in world.judged}
    assert asked == known - ALIKE | {"did"}
    assert min(world.judged.values()) >= EXAMPLES / 5  # held for some, and not for others


@settings(max_examples=max(EXAMPLES // 3, 1), deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(people=st.lists(_people, min_size=3, max_size=6), now=st.sampled_from(NOWS))
def test_what_is_read_of_a_contact_for_python_is_what_was_stored(world, people, now):
    """Rules and offers judge by this what segments judge by SQL."""
    world.begin()
    world.run(_store(world, people, now))
    everything = VOCABULARY.condition_of({"all": [_asked(name) | {"op": "exists"} for name in EVERY]})
    read = world.run(
        contributions.read(
            world.session, contributions=VOCABULARY.contributions, fields=conditions.fields_of(everything),
            contact_ids=[person.id for person in people], asked={"program_id": world.program_id},
        )
    )  # fmt: skip
    for person in people:
        told = _facts(world, person, everything, now, ZoneInfo("UTC")).values
        for name in EVERY:
            found, expected = read[person.id][name], told.get(name)
            if isinstance(expected, list) and not name.startswith("attributes"):
                found, expected = sorted(found), sorted(expected)
            assert found == expected or (isinstance(found, Decimal) and found == expected), name
