"""The night: what the calendar does to a program's accounts, written down at local midnight, account after account.

For each account in one order: points begin, overdue holds are released, birthdays and anniversaries are rewarded, the
tier is judged, points end. Reads know all of that by themselves but the rewards, so a night that comes late hurts
nobody: what it finds is put down at the midnight at which it was due. What is done is not done again, so a night may
be repeated, broken off, or worked off by several at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from crm.db.session import Database, Session
from crm.errors import CrmError
from crm.loyalty import events, journal, programs
from crm.loyalty.books import Book
from crm.loyalty.events import Happened
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.journal import Locked
from crm.loyalty.lots import Phase
from crm.loyalty.programs import Program, ProgramNotFound

BIRTHDAY: Final = "birthday"
ANNIVERSARY: Final = "anniversary"
BATCH: Final = 500
"""How many accounts are locked together, in one transaction."""
NIGHTS_MAX: Final = 366
"""How many missed nights are made good: then nobody's day of the year is left out."""

Clock = Callable[[], datetime]
"""Says what time it is: a night may take longer than the facts of others can wait."""
Watch = Callable[[int, int], None]
"""Hears how many accounts are done, and how many there are."""

_log = structlog.get_logger(__name__)

# What an account can bring about: it is left out, and the others go on.
_POISON: Final = (
    CrmError, asyncpg.IntegrityConstraintViolationError, asyncpg.DataError, ArithmeticError, LookupError, ValueError,
)  # fmt: skip
_NOBODY: Final = UUID(int=0)
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)
_LEAP_DAY: Final = (2, 29)

_PENDING: Final = """
    ($1 AT TIME ZONE p.time_zone)::date > greatest(
        (p.created_at AT TIME ZONE p.time_zone)::date,
        (SELECT max(n.night_on) FROM program_nights n WHERE n.program_id = p.id AND n.finished_at IS NOT NULL)
    )
"""
_WITH_A_NIGHT: Final = f"SELECT p.id FROM programs p WHERE {_PENDING} ORDER BY p.id"
_WITH_SOMETHING_DUE: Final = f"""
    SELECT p.id FROM programs p
    WHERE NOT ({_PENDING}) AND EXISTS (
        SELECT FROM loyalty_accounts a WHERE a.program_id = p.id AND a.next_due_at <= $1
    )
    ORDER BY p.id
"""
_HISTORY: Final = """
    SELECT p.created_at, (SELECT min(a.enrolled_at) FROM loyalty_accounts a WHERE a.program_id = p.id) AS first_at,
        (SELECT max(n.night_on) FROM program_nights n
         WHERE n.program_id = p.id AND n.finished_at IS NOT NULL) AS finished_on
    FROM programs p WHERE p.id = $1
"""
_START: Final = """
    INSERT INTO program_nights (program_id, night_on, started_at)
    SELECT $1, night_on, $3 FROM unnest($2::date[]) AS n (night_on) ON CONFLICT DO NOTHING
"""
_FINISH: Final = """
    UPDATE program_nights SET finished_at = $3
    WHERE program_id = $1 AND night_on = ANY ($2) AND finished_at IS NULL
"""

# The searches go on behind ($3, $4), in the order of an index, and take $2 accounts at a time.
_DUE: Final = """
    SELECT next_due_at AS at, contact_id FROM loyalty_accounts
    WHERE program_id = $1 AND next_due_at <= $5 AND (next_due_at, contact_id) > ($3, $4)
    ORDER BY next_due_at, contact_id LIMIT $2
"""
_UNREWARDED: Final = """
    a.status = 'active' AND NOT EXISTS (
        SELECT FROM loyalty_events e
        WHERE e.contact_id = a.contact_id AND e.program_id = a.program_id AND e.event = $5 AND e.ref = $6
    )
"""
_BIRTHDAYS: Final = f"""
    SELECT $3::timestamptz AS at, a.contact_id
    FROM contacts c JOIN loyalty_accounts a ON a.contact_id = c.id AND a.program_id = $1
    WHERE extract(month FROM c.birth_on) = $7::int AND extract(day FROM c.birth_on) = $8::int
        AND c.id > $4 AND a.enrolled_at <= $9 AND {_UNREWARDED}
    ORDER BY c.id LIMIT $2
"""
_ANNIVERSARIES: Final = f"""
    SELECT a.enrolled_at AS at, a.contact_id FROM loyalty_accounts a
    WHERE a.program_id = $1 AND (a.enrolled_at, a.contact_id) > ($3, $4) AND a.enrolled_at < $7 AND {_UNREWARDED}
    ORDER BY a.enrolled_at, a.contact_id LIMIT $2
"""
_DATES: Final = """
    SELECT a.contact_id, c.birth_on, a.enrolled_at FROM loyalty_accounts a JOIN contacts c ON c.id = a.contact_id
    WHERE a.program_id = $1 AND a.contact_id = ANY ($2) AND a.status = 'active'
"""


@dataclass(slots=True)
class Tally:
    """Of how many members something was true, and about how many points."""

    members: int = 0
    points: int = 0

    def add(self, points: int) -> None:
        """One more member, and their points."""
        self.members += 1
        self.points += points


@dataclass(slots=True)
class Night:
    """What was written down. `nights` are those that were worked off, `left_out` members whose account refuses it."""

    program_id: UUID
    nights: list[date]
    accounts: int = 0
    activated: Tally = field(default_factory=Tally)
    released: Tally = field(default_factory=Tally)
    birthdays: Tally = field(default_factory=Tally)
    anniversaries: Tally = field(default_factory=Tally)
    tiers_changed: int = 0
    expired: Tally = field(default_factory=Tally)
    left_out: int = 0


class _Midnight(NamedTuple):
    on: date
    at: datetime


class _Occasion(NamedTuple):
    """A day of somebody's year, and the midnight at which it begins."""

    at: datetime
    event: str
    ref: str


class _Search(NamedTuple):
    """A query for accounts, what it is asked, and from where on it finds something."""

    query: str
    args: tuple[Any, ...]
    begins_at: datetime = _LONG_AGO


@dataclass(frozen=True, slots=True)
class _Round:
    """Which program's accounts are gone through, up to when, and on which midnights somebody may have their day.

    `joined_on` is the day on which the first of the members joined.
    """

    program: Program
    until: datetime
    midnights: Sequence[_Midnight] = ()
    rewarded: frozenset[str] = frozenset()
    joined_on: date = date.max

    def of_the_year(self) -> Mapping[tuple[int, int], list[_Midnight]]:
        """The midnights on which a month's day is celebrated."""
        found: dict[tuple[int, int], list[_Midnight]] = defaultdict(list)
        for midnight in self.midnights if self.rewarded else ():
            for day in _celebrated_on(midnight.on):
                found[day].append(midnight)
        return found


async def pending(session: Session, *, now: datetime) -> list[UUID]:
    """The programs whose last local midnight has not been worked off."""
    return [row["id"] for row in await session.fetch(_WITH_A_NIGHT, now)]


async def due(session: Session, *, now: datetime) -> list[UUID]:
    """The programs with accounts on which something is due and that no night will see to at once."""
    return [row["id"] for row in await session.fetch(_WITH_SOMETHING_DUE, now)]


async def run(
    database: Database, *, program_id: UUID, at: datetime, clock: Clock, watch: Watch = lambda *_: None
) -> Night:
    """Work off the local midnights up to `at` that have not been, or else the last of them again.

    Each batch of accounts is a transaction of its own. An `at` that lies ahead is played as if it had come: what is
    written then stays, and is recorded at `at`. Only midnights that have passed count as worked off, so that those
    who join until then have their day when it comes. Raises ProgramNotFound.
    """
    now = clock()
    async with database.begin() as session:
        program = await programs.load(session, program_id=program_id)
        history = await session.fetchrow(_HISTORY, program_id)
        if history is None:
            raise ProgramNotFound("No program has this id.")
        zone = program.terms.zone
        midnights = [
            _Midnight(on, start_of(on, zone))
            for on in _nights(
                local_day(at, zone),
                finished_on=history["finished_on"],
                created_on=local_day(history["created_at"], zone),
            )
        ]
        passed = [midnight.on for midnight in midnights if midnight.at <= now]
        await session.execute(_START, program_id, passed, now)
    night = Night(program_id, [midnight.on for midnight in midnights])
    this = _Round(program, at, midnights, _rewarded(program), local_day(history["first_at"] or at, zone))
    await _go_through(database, this, night, clock, watch)
    async with database.begin() as session:
        await session.execute(_FINISH, program_id, passed, clock())
    return night


async def settle(database: Database, *, program_id: UUID, clock: Clock, watch: Watch = lambda *_: None) -> Night:
    """Write down what is due by now on a program's accounts, for times of day other than midnight.

    Raises ProgramNotFound.
    """
    async with database.reading() as session:
        program = await programs.load(session, program_id=program_id)
    this, night = _Round(program, clock()), Night(program_id, [])
    await _go_through(database, this, night, clock, watch)
    return night


def _nights(tonight: date, *, finished_on: date | None, created_on: date) -> list[date]:
    missed_since = max(finished_on or created_on, created_on) + timedelta(days=1)
    first = max(missed_since, tonight - timedelta(days=NIGHTS_MAX - 1))
    return [first + timedelta(days=number) for number in range((tonight - first).days + 1)] or [tonight]


def _rewarded(program: Program) -> frozenset[str]:
    """What a rule or a challenge rewards: nobody's timeline tells of a birthday that brought nothing."""
    named = {rule.event for rule in program.rules if rule.kind == "per_event" and rule.status == "active"}
    named |= {challenge.event for challenge in program.challenges}
    return frozenset(event for event in (BIRTHDAY, ANNIVERSARY) if event in named)


def _celebrated_on(on: date) -> list[tuple[int, int]]:
    """The days of the year that fall on this one; 29 February on the 28th where there is none."""
    day = (on.month, on.day)
    return [day, _LEAP_DAY] if day == (2, 28) and (on + timedelta(days=1)).day == 1 else [day]


def _searches(this: _Round) -> Iterator[_Search]:
    """Everybody that something is for: more than once where it is more than one thing."""
    yield _Search(_DUE, (this.until,))
    zone = this.program.terms.zone
    for midnight in this.midnights:
        for month, day in _celebrated_on(midnight.on):
            if BIRTHDAY in this.rewarded:
                yield _Search(_BIRTHDAYS, (BIRTHDAY, _ref(BIRTHDAY, midnight), month, day, midnight.at))
            for year in range(this.joined_on.year, midnight.on.year) if ANNIVERSARY in this.rewarded else ():
                if (month, day) != _LEAP_DAY or _is_leap(year):
                    joined = date(year, month, day)
                    yield _Search(
                        _ANNIVERSARIES,
                        (ANNIVERSARY, _ref(ANNIVERSARY, midnight), start_of(joined + timedelta(days=1), zone)),
                        start_of(joined, zone),
                    )


def _ref(event: str, midnight: _Midnight) -> str:
    return f"{event}:{midnight.on.year}"


def _is_leap(year: int) -> bool:
    return (date(year, 3, 1) - timedelta(days=1)).day == _LEAP_DAY[1]


async def _go_through(database: Database, this: _Round, night: Night, clock: Clock, watch: Watch) -> None:
    searches, total = list(_searches(this)), 0
    async with database.reading() as session:
        for search in searches:
            count = f"SELECT count(*) FROM ({search.query}) f"
            total += await session.fetchval(count, this.program.id, None, search.begins_at, _NOBODY, *search.args)
    watch(0, total)
    for search in searches:
        begins: tuple[datetime, UUID] | None = (search.begins_at, _NOBODY)
        while begins is not None:
            async with database.reading() as session:
                rows = await session.fetch(search.query, this.program.id, BATCH, *begins, *search.args)
            if rows:
                await _see_to(database, this, [row["contact_id"] for row in rows], night, clock)
                night.accounts += len(rows)
                watch(night.accounts, max(total, night.accounts))
            begins = (rows[-1]["at"], rows[-1]["contact_id"]) if len(rows) == BATCH else None


async def _see_to(database: Database, this: _Round, contact_ids: Sequence[UUID], night: Night, clock: Clock) -> None:
    """Work a batch off in one transaction; where an account stands in the way, all but that one."""
    try:
        async with database.begin() as session:
            books = await _write_down(session, this, contact_ids, max(this.until, clock()))
    except _POISON as error:
        if len(contact_ids) == 1:
            night.left_out += 1
            reason = f"{type(error).__name__}: {error}"
            _log.error("account_left_out", contact_id=contact_ids[0], program_id=this.program.id, reason=reason)
            return
        middle = len(contact_ids) // 2
        for half in (contact_ids[:middle], contact_ids[middle:]):
            await _see_to(database, this, half, night, clock)
        return
    for book in books:
        _count(night, book)


async def _write_down(session: Session, this: _Round, contact_ids: Sequence[UUID], now: datetime) -> Sequence[Book]:
    limited = [midnight.at for midnight in this.midnights] if this.program.limited and this.rewarded else None
    locked = await journal.lock(
        session, program_id=this.program.id, contact_ids=contact_ids, now=now, times=limited, settle=False
    )
    occasions = await _occasions(session, this, locked)
    moments = [
        (_happened(contact_id, occasion), occasion.at) for contact_id, each in occasions.items() for occasion in each
    ]
    circumstances = await events.circumstances(session, locked=locked, moments=moments)
    stamped = await events.members_cards(session, locked=locked, happened=[each for each, _ in moments], by="system")
    plan = events.Plan(locked, by="system", known=events.NOTHING_KNOWN, circumstances=circumstances, cards=stamped)
    for book in locked.books.values():
        for occasion in occasions.get(book.contact_id, ()):
            book.settle(until=occasion.at, before=Phase.OCCASION)
            _celebrate(plan, book, occasion)
        book.settle()
    await plan.cards.reward(session)
    await journal.write_down(session, locked, facts=plan.facts(), entries=plan.told())
    return list(locked.books.values())


def _happened(contact_id: UUID, occasion: _Occasion) -> Happened:
    # As an event that is told without a time: whoever tells of it too is answered that it is known.
    return Happened(contact_id, occasion.event, occasion.ref)


def _celebrate(plan: events.Plan, book: Book, occasion: _Occasion) -> None:
    try:
        plan.celebrate(_happened(book.contact_id, occasion), at=occasion.at)
    except CrmError as refusal:
        _log.warning("occasion_refused", contact_id=book.contact_id, ref=occasion.ref, reason=refusal.detail)


async def _occasions(session: Session, this: _Round, locked: Locked) -> Mapping[UUID, Sequence[_Occasion]]:
    """Whose day it was on which of the midnights and has not been told yet, first things first."""
    of_the_year = this.of_the_year()
    if not of_the_year:
        return {}
    found = [
        (row["contact_id"], occasion)
        for row in await session.fetch(_DATES, this.program.id, list(locked.books))
        for event, day in (
            (BIRTHDAY, row["birth_on"]), (ANNIVERSARY, local_day(row["enrolled_at"], this.program.terms.zone))
        )
        if event in this.rewarded and day is not None
        for midnight in of_the_year.get((day.month, day.day), ())
        if day.year < midnight.on.year and row["enrolled_at"] <= midnight.at
        for occasion in [_Occasion(midnight.at, event, _ref(event, midnight))]
    ]  # fmt: skip
    known = await events.find_known(
        session, locked=locked, happened=[_happened(contact_id, each) for contact_id, each in found]
    )
    occasions: dict[UUID, list[_Occasion]] = defaultdict(list)
    for contact_id, each in sorted(found, key=lambda one: one[1]):
        if (contact_id, each.event, each.ref) not in known.events:
            occasions[contact_id].append(each)
    if this.program.expiry.activities & this.rewarded:
        await journal.know_all_lots(session, books=[locked.books[contact_id] for contact_id in occasions])
    return occasions


def _count(night: Night, book: Book) -> None:
    for tally, kind, reason in (
        (night.activated, "activate", None),
        (night.released, "release", None),
        (night.birthdays, "earn", BIRTHDAY),
        (night.anniversaries, "earn", ANNIVERSARY),
        (night.expired, "expire", None),
    ):
        found = [each.points for each in book.transactions if each.kind == kind and each.reason == reason]
        if found:
            tally.add(abs(sum(found)))
    night.tiers_changed += bool(book.tier_changes)
