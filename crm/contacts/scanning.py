"""Looking through all contacts for those who are one person.

Three walks in short steps. Every contact is read once, and its keys are written into a table of the connection's own;
Postgres finds who shares one; these pairs are compared, and those that resemble each other are suggested. Then the
suggestions of before are compared again, and those withdrawn that do not hold any more. Nothing is kept in memory but
the contacts of a step and those met last, so it takes the same whatever the number of contacts, and time in proportion
to it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias
from uuid import UUID

from asyncpg import Record

from crm.contacts import likeness, likeness_keys, suggestions
from crm.contacts.likeness import SELECTED, Person
from crm.contacts.likeness_keys import BLOCK_MAX
from crm.contacts.suggestions import LASTING, SUGGESTED_MIN, Suggestion
from crm.db import writes
from crm.db.session import Session

Phase: TypeAlias = Literal["reading", "comparing", "checking"]

STEP: Final = 500
"""Contacts read, or pairs compared, at a time: whoever shares the process waits for no more than a blink."""
_REMEMBERED_MAX: Final = 20_000

_LEAST: Final = UUID(int=0)
_DROP: Final = "DROP TABLE IF EXISTS pg_temp.scan_keys, pg_temp.scan_pairs"
_KEYS: Final = "CREATE TEMPORARY TABLE scan_keys (key bigint NOT NULL, contact_id uuid NOT NULL)"
_READ: Final = f"SELECT {SELECTED} FROM contacts c WHERE c.id > $1 ORDER BY c.id LIMIT {STEP}"
_LARGE: Final = f"""
    SELECT min(k.key) AS key, count(*) AS blocks, sum(k.contacts)::bigint AS contacts
    FROM (SELECT key, count(*) AS contacts FROM scan_keys GROUP BY key HAVING count(*) > {BLOCK_MAX}) k
    GROUP BY k.key & {likeness_keys.KIND_BITS}
"""
_PAIRS: Final = f"""
    CREATE TEMPORARY TABLE scan_pairs AS
        WITH blocks AS MATERIALIZED (
            SELECT k.key, k.contact_id FROM scan_keys k JOIN (
                SELECT key FROM scan_keys GROUP BY key HAVING count(*) BETWEEN 2 AND {BLOCK_MAX}
            ) s ON s.key = k.key
        )
        SELECT DISTINCT a.contact_id, b.contact_id AS other_id
        FROM blocks a JOIN blocks b ON b.key = a.key AND a.contact_id < b.contact_id
"""
_PAIRS_INDEX: Final = "CREATE UNIQUE INDEX ON scan_pairs (contact_id, other_id)"
_NEXT: Final = f"""
    SELECT contact_id, other_id FROM scan_pairs WHERE (contact_id, other_id) > ($1, $2)
    ORDER BY contact_id, other_id LIMIT {STEP}
"""
_BEFORE: Final = f"""
    SELECT contact_id, other_id, reasons FROM duplicate_pairs
    WHERE status = 'open' AND found_at < $3 AND (contact_id, other_id) > ($1, $2)
    ORDER BY contact_id, other_id LIMIT {STEP}
"""
_COUNT_BEFORE: Final = "SELECT count(*) FROM duplicate_pairs WHERE status = 'open' AND found_at < $1"
_PEOPLE: Final = f"SELECT {SELECTED} FROM contacts c WHERE c.id = ANY ($1)"
_WITHDRAW: Final = """
    DELETE FROM duplicate_pairs p USING unnest($1::uuid[], $2::uuid[]) AS v (contact_id, other_id)
    WHERE p.contact_id = v.contact_id AND p.other_id = v.other_id AND p.status = 'open'
"""


@dataclass(slots=True)
class LeftOut:
    """What too many contacts have in common to compare them all: how many such things, and with how many contacts."""

    by: str
    blocks: int
    contacts: int


@dataclass(slots=True)
class ScanReport:
    """What was looked through, and what came of it.

    `suggested` are the pairs that resemble each other and were not dismissed before, `withdrawn` those that did once.
    Of what is `left_out`, contacts are compared only if they have something rarer in common.
    """

    contacts: int
    pairs: int
    suggested: int
    withdrawn: int
    left_out: list[LeftOut]


class Watch(Protocol):
    """Is told how far the scan is, and answers whether it is still wanted."""

    async def __call__(self, *, phase: Phase, done: int, total: int) -> bool: ...


async def scan(session: Session, *, watch: Watch, now: datetime) -> ScanReport | None:
    """Look through everybody; None where it is not wanted any more, and what was found until then stays.

    What is written is committed step by step, so the session must not be in a transaction.
    """
    scanned = _Scan(session, watch, now)
    await session.execute(_DROP)  # whoever had the connection before may have broken off
    try:
        await session.execute(_KEYS)
        wanted = await scanned.read() and await scanned.compare() and await scanned.check()
    finally:
        await session.execute(_DROP)
    return scanned.report if wanted else None


class _Scan:
    def __init__(self, session: Session, watch: Watch, now: datetime) -> None:
        self._session = session
        self._watch = watch
        self._now = now
        self._remembered: dict[UUID, Person] = {}
        self.report = ScanReport(0, 0, 0, 0, [])

    async def read(self) -> bool:
        """Write down the keys of every contact, then the pairs that share one."""
        total = await self._session.fetchval("SELECT count(*) FROM contacts")
        position = _LEAST
        while rows := await self._session.fetch(_READ, position):
            people = [likeness.person_of_row(row) for row in rows]
            keys = [(key, person.id) for person in people for key in likeness_keys.keys(person)]
            await self._session.driver.copy_records_to_table("scan_keys", records=keys, columns=("key", "contact_id"))
            position = people[-1].id
            self.report.contacts += len(people)
            if not await self._watch(phase="reading", done=self.report.contacts, total=total):
                return False
        async with self._session.driver.transaction():
            await self._session.execute("SET LOCAL statement_timeout = 0")
            for statement in ("ANALYZE scan_keys", _PAIRS, _PAIRS_INDEX, "ANALYZE scan_pairs"):
                await self._session.execute(statement)
            self.report.left_out = [
                LeftOut(likeness_keys.kind_of(row["key"]), row["blocks"], row["contacts"])
                for row in await self._session.fetch(_LARGE)
            ]
        return True

    async def compare(self) -> bool:
        """Suggest those of the pairs that resemble each other."""
        total = await self._session.fetchval("SELECT count(*) FROM scan_pairs")
        position = (_LEAST, _LEAST)
        while rows := await self._session.fetch(_NEXT, *position):
            people = await self._people(one for row in rows for one in row)
            found = [
                suggestion
                for row in rows
                if (suggestion := _suggestion(row, people)) is not None and suggestion.score >= SUGGESTED_MIN
            ]
            dismissed = await writes.write(self._session, [suggestions.compared(found, now=self._now)])
            self.report.suggested += len(found) - dismissed
            self.report.pairs += len(rows)
            position = tuple(rows[-1])
            if not await self._watch(phase="comparing", done=self.report.pairs, total=total):
                return False
        return True

    async def check(self) -> bool:
        """Withdraw the suggestions of before that do not hold any more."""
        total = await self._session.fetchval(_COUNT_BEFORE, self._now)
        position, done = (_LEAST, _LEAST), 0
        while rows := await self._session.fetch(_BEFORE, *position, self._now):
            people = await self._people(one for row in rows for one in row[:2])
            anew = [(row, _suggestion(row, people)) for row in rows]
            gone = [
                row
                for row, suggestion in anew
                if suggestion is None or (suggestion.score < SUGGESTED_MIN and not _lasts(row))
            ]
            kept = [suggestion for row, suggestion in anew if suggestion is not None and row not in gone]
            await writes.write(self._session, [suggestions.compared(kept, now=self._now)])
            self.report.withdrawn += await self._session.execute(
                _WITHDRAW, [row["contact_id"] for row in gone], [row["other_id"] for row in gone]
            )
            position, done = tuple(rows[-1][:2]), done + len(rows)
            if not await self._watch(phase="checking", done=done, total=max(done, total)):
                return False
        return True

    async def _people(self, ids: Iterable[UUID]) -> Mapping[UUID, Person]:
        """At least these, as far as they are still there."""
        wanted = set(ids)
        if len(self._remembered) > _REMEMBERED_MAX:
            self._remembered.clear()
        if missing := wanted - self._remembered.keys():
            for row in await self._session.fetch(_PEOPLE, list(missing)):
                self._remembered[row["id"]] = likeness.person_of_row(row)
        return self._remembered


def _suggestion(row: Record, people: Mapping[UUID, Person]) -> Suggestion | None:
    one, other = people.get(row["contact_id"]), people.get(row["other_id"])
    if one is None or other is None:
        return None
    return Suggestion.of(one.id, other.id, likeness.compared(one, other))


def _lasts(row: Record) -> bool:
    return any(reason["code"] in LASTING for reason in row["reasons"])
