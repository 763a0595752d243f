"""Looking through everybody: what is found of a town where some were written down twice, and what is not."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from benchmarks import town
from benchmarks.town import Record
from crm.contacts import scanning, suggestions
from crm.contacts.likeness import DuplicateReason
from crm.contacts.likeness_keys import BLOCK_MAX
from crm.contacts.scanning import Phase, ScanReport
from crm.contacts.suggestions import LASTING, Pair, Suggestion
from crm.db import writes
from crm.db.session import Database
from crm.interactions import people

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
BORN = date(1990, 3, 10)


async def settle(database: Database, *made: Record) -> None:
    async with database.begin() as session:
        await town.settle(session, made)


async def scan(database: Database, *, now: datetime = NOW, until: Phase | None = None) -> ScanReport | None:
    async def watch(*, phase: Phase, done: int, total: int) -> bool:
        return phase != until

    async with database.reading() as session:
        return await scanning.scan(session, watch=watch, now=now)


async def report(database: Database, *, now: datetime = NOW) -> ScanReport:
    found = await scan(database, now=now)
    assert found is not None
    return found


async def found(database: Database) -> dict[tuple[UUID, UUID], int]:
    async with database.reading() as session:
        rows = await session.fetch("SELECT contact_id, other_id, score FROM duplicate_pairs WHERE status = 'open'")
    return {(row["contact_id"], row["other_id"]): row["score"] for row in rows}


@pytest.mark.parametrize("seed", [1, 2])
async def test_nearly_all_who_were_written_down_twice_are_found_and_hardly_anybody_else(database, seed):
    made = town.records(4_000, doubled=0.1, seed=seed)
    await settle(database, *made)

    seen = await report(database)

    twice, suggested = town.pairs(made), await found(database)
    right = suggested.keys() & twice
    assert (seen.contacts, seen.suggested) == (4_000, len(suggested))
    assert len(right) / len(suggested) >= 0.98, "precision"
    assert len(right) / len(twice) >= 0.95, "recall"
    certain = {pair for pair, score in suggested.items() if score >= 90}
    assert len(certain & twice) / len(certain) >= 0.995, "precision of what is certain"
    assert len(certain & twice) / len(twice) >= 0.9, "recall of what is certain"
    assert seen.pairs < 4_000 * 4, "in proportion to the number of contacts, not to its square"


async def test_a_second_scan_finds_the_same_and_changes_nothing(database):
    await settle(database, *town.records(500, doubled=0.1, seed=3))
    first = await report(database)
    before = await _rows(database)
    again = await report(database, now=NOW + timedelta(days=1))
    assert (again.suggested, again.withdrawn) == (first.suggested, 0)
    assert await _rows(database) == before


async def test_what_does_not_resemble_any_more_is_withdrawn_and_what_does_is_scored_anew(database):
    one, other, third = (Record(n, "Sari Dewi", birth_on=BORN) for n in range(3))
    await settle(database, one, other, third)
    await report(database)
    assert len(await found(database)) == 3
    async with database.begin() as session:
        await people.update(session, contact_id=third.id, changes={"birth_on": date(1980, 5, 5)}, by="t", now=NOW)
        await people.update(session, contact_id=other.id, changes={"name": "Sari Dwei"}, by="t", now=NOW)
    again = await report(database, now=NOW + timedelta(days=1))
    assert again.withdrawn == 2
    assert await found(database) == {(one.id, other.id): 87}


async def test_what_was_dismissed_stays_so(database):
    one, other = (Record(n, "Sari Dewi", birth_on=BORN) for n in range(2))
    await settle(database, one, other)
    await report(database)
    async with database.begin() as session:
        await suggestions.dismiss(session, pair=Pair.of(one.id, other.id), by="owner", now=NOW)
    again = await report(database, now=NOW + timedelta(days=1))
    assert (again.pairs, again.suggested, again.withdrawn) == (1, 0, 0)
    assert await found(database) == {}


async def test_what_was_suggested_for_another_reason_is_not_withdrawn(database):
    one, other = Record(1, "Sari Dewi"), Record(2, "Budi Santoso")
    await settle(database, one, other)
    reason = DuplicateReason(LASTING[0], "Both have a card")
    async with database.begin() as session:
        pair = Pair.of(one.id, other.id)
        await writes.write(
            session, [suggestions.suggest([Suggestion(pair, 80, [reason])], now=NOW - timedelta(days=1))]
        )
    assert (await report(database)).withdrawn == 0
    assert await found(database) == {(one.id, other.id): 80}


async def test_whoever_is_gone_is_suggested_no_more(database):
    one, other = (Record(n, "Sari Dewi", birth_on=BORN) for n in range(2))
    await settle(database, one, other)
    await report(database)
    async with database.begin() as session:
        await session.execute("DELETE FROM contacts WHERE id = $1", one.id)
    assert (await report(database, now=NOW + timedelta(days=1))).withdrawn == 1
    assert await _rows(database) == []


async def test_what_too_many_have_in_common_is_left_out_and_told(database):
    crowd = [Record(n, "Hutapea Sihombing", birth_on=date(1940 + n, 6, 20)) for n in range(BLOCK_MAX + 10)]
    twin = Record(99, "Hutapea Sihombing", birth_on=crowd[0].birth_on)
    await settle(database, *crowd, twin)
    seen = await report(database)
    assert [(left.by, left.blocks, left.contacts) for left in seen.left_out] == [("name", 1, len(crowd) + 1)]
    assert list(await found(database)) == [(min(crowd[0].id, twin.id), max(crowd[0].id, twin.id))]


@pytest.mark.parametrize(("until", "suggested"), [("reading", 0), ("comparing", 1), ("checking", 1)])
async def test_a_scan_that_nobody_wants_any_more_stops(database, until, suggested):
    one, other = (Record(n, "Sari Dewi", birth_on=BORN) for n in range(2))
    await settle(database, one, other)
    if until == "checking":
        await report(database, now=NOW - timedelta(days=1))
    assert await scan(database, until=until) is None
    assert len(await found(database)) == suggested


async def test_nothing_of_a_scan_stays_on_its_connection(database):
    await settle(database, Record(1, "Sari"))
    async with database.reading() as session:

        async def break_off(*, phase: Phase, done: int, total: int) -> bool:
            raise OSError("the line is cut")

        with pytest.raises(OSError, match="cut"):
            await scanning.scan(session, watch=break_off, now=NOW)
        assert await session.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'scan_%'") == 0
        assert await session.fetchval("SHOW statement_timeout") == "30s"


async def test_an_empty_place_is_scanned_too(database):
    assert await report(database) == ScanReport(0, 0, 0, 0, [])


async def _rows(database: Database) -> list[tuple[object, ...]]:
    async with database.reading() as session:
        return [tuple(row) for row in await session.fetch("SELECT * FROM duplicate_pairs ORDER BY 1, 2")]
