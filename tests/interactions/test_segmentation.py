"""Who enters and leaves segments: in chunks, by several at once, broken off, and soon after something happened."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.contacts import drafts, segments
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft
from crm.contacts.segments import Definition, Segment
from crm.db import writes
from crm.db.session import Database, Session
from crm.interactions import merges, people, segmentation, selections, timeline
from crm.interactions.segmentation import Difference
from crm.keepers import KEEPERS
from crm.loyalty.vocabulary import VOCABULARY
from tests.horizon import until_others_end

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VIP = {"field": "tags", "op": "contains", "value": "vip"}
CHUNK = 4


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "CHUNK", CHUNK)
    monkeypatch.setattr(segmentation, "FOLLOWED", CHUNK)


async def segment(session: Session, name: str = "VIPs", condition: Any = VIP, **facts: Any) -> Segment:
    definition = Definition(name=name, condition=condition, **facts)
    return await segments.create(session, vocabulary=VOCABULARY, definition=definition, by="t", now=NOW)


async def crowd(session: Session, count: int, *, vips: int = 0) -> list[Contact]:
    """Contacts, the first of them with the tag."""
    made = [
        drafts.contact_of(Draft(name=f"Sari {i}", tags=["vip"] if i < vips else []), region="ID", now=NOW)
        for i in range(count)
    ]
    assert await people.create_all(session, made=made, by="t", now=NOW) == made
    return made


async def evaluate(session: Session, segment_id: UUID, *, now: datetime = NOW) -> int:
    """To its end; how many steps it took."""
    steps = 0
    while await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=segment_id, now=now):
        steps += 1
    return steps


async def members(session: Session, segment_id: UUID) -> list[UUID]:
    found = [contact.id for contact in await segments.members(session, segment_id=segment_id, limit=1_000)]
    kept = await session.fetch("SELECT contact_id FROM segment_members WHERE segment_id = $1", segment_id)
    assert sorted(found) == sorted(row["contact_id"] for row in kept)
    return sorted(found)


async def told(session: Session, contact_id: UUID) -> list[str]:
    rows = await session.fetch(
        "SELECT kind FROM interactions WHERE contact_id = $1 AND kind LIKE 'segment.%' ORDER BY recorded_at, id",
        contact_id,
    )
    return [row["kind"].removeprefix("segment.") for row in rows]


async def everything(session: Session) -> list[tuple[Any, ...]]:
    """Who is in which segment since when, and how often timelines were told."""
    inside = await session.fetch("SELECT * FROM segment_members ORDER BY contact_id, segment_id")
    told = await session.fetch("SELECT contact_id, id FROM interactions ORDER BY id")
    return [*(tuple(row) for row in inside), *(tuple(row) for row in told)]


def ids(contacts: list[Contact]) -> list[UUID]:
    return sorted(contact.id for contact in contacts)


# ---------------------------------------------------------------- all contacts


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_everybody_is_looked_at_once_chunk_by_chunk(session: Session, count: int) -> None:
    everybody = await crowd(session, count, vips=count // 2)
    made = await segment(session)
    assert await evaluate(session, made.id) == count // CHUNK + 1
    assert await members(session, made.id) == ids(everybody[: count // 2])
    evaluation = await segments.evaluation(session, segment_id=made.id)
    assert (evaluation.contacts_count, evaluation.members_count) == (count, count // 2)
    assert (evaluation.status, evaluation.evaluated_at) == ("completed", NOW)


async def test_who_enters_and_who_leaves_is_told_once(session: Session) -> None:
    everybody = await crowd(session, 9, vips=5)
    made = await segment(session)
    await evaluate(session, made.id)
    await people.remove_tag(session, contact_id=everybody[0].id, tag="vip", by="t", now=NOW)
    await people.add_tag(session, contact_id=everybody[8].id, tag="vip", by="t", now=NOW)
    await segments.request(session, segment_id=made.id, now=NOW + MINUTE)
    await evaluate(session, made.id, now=NOW + MINUTE)
    assert await members(session, made.id) == ids([*everybody[1:5], everybody[8]])
    assert [await told(session, one.id) for one in everybody] == [
        ["entered", "left"], *[["entered"]] * 4, *[[]] * 3, ["entered"],
    ]  # fmt: skip
    (fact,) = [
        one for one in await timeline.page(session, contact_id=everybody[8].id, limit=9) if one.kind.startswith("seg")
    ]
    assert fact.data == {"segment_id": str(made.id), "name": "VIPs", "version": 1}
    assert (fact.channel, fact.by, fact.occurred_at, fact.recorded_at) == (
        "contacts",
        "system",
        NOW + MINUTE,
        NOW + MINUTE,
    )
    assert (fact.id.version, fact.id.variant) == (7, "specified in RFC 4122")


async def test_an_evaluation_that_finds_nothing_new_writes_nothing(session: Session) -> None:
    await crowd(session, 9, vips=5)
    made = await segment(session)
    await evaluate(session, made.id)
    before = await everything(session)
    for minute in range(1, 3):
        await segments.request(session, segment_id=made.id, now=NOW + minute * MINUTE)
        assert await evaluate(session, made.id, now=NOW + minute * MINUTE) == 3
    assert await everything(session) == before


async def test_nothing_is_evaluated_that_nobody_wants(session: Session) -> None:
    await crowd(session, 2, vips=2)
    by_hand = await segment(session, refresh="manual")
    assert await evaluate(session, by_hand.id) == 0
    wanted = await segment(session, "B")
    assert await evaluate(session, wanted.id) == 1
    assert await evaluate(session, wanted.id, now=NOW + MINUTE) == 0
    await segments.archive(session, segment_id=wanted.id, now=NOW)
    assert await evaluate(session, wanted.id, now=NOW + MINUTE) == 0


async def test_what_is_asked_for_while_one_is_under_way_is_done_after_it(session: Session) -> None:
    everybody = await crowd(session, 2 * CHUNK)
    made = await segment(session)
    await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=made.id, now=NOW)
    # It has been looked at already.
    await people.add_tag(session, contact_id=everybody[0].id, tag="vip", by="t", now=NOW)
    await segments.request(session, segment_id=made.id, now=NOW + MINUTE)
    assert (await segments.evaluation(session, segment_id=made.id)).status == "processing"
    assert await evaluate(session, made.id, now=NOW + 2 * MINUTE) == 2 + 3
    assert await members(session, made.id) == ids(everybody[:1])


async def test_another_condition_begins_again_from_the_first_contact(session: Session) -> None:
    everybody = await crowd(session, 3 * CHUNK, vips=3)
    made = await segment(session)
    await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=made.id, now=NOW)
    await segments.change(
        session, vocabulary=VOCABULARY, segment_id=made.id, changes={"condition": {"not": VIP}}, now=NOW + MINUTE
    )
    assert await evaluate(session, made.id, now=NOW + 2 * MINUTE) == 4
    assert await members(session, made.id) == ids(everybody[3:])
    assert (await segments.evaluation(session, segment_id=made.id)).version == 2


async def test_members_who_are_no_contacts_any_more_are_forgotten(session: Session) -> None:
    everybody = await crowd(session, 3, vips=3)
    made = await segment(session)
    await evaluate(session, made.id)
    await session.execute("DELETE FROM contacts WHERE id = ANY ($1)", ids(everybody)[1:])
    await segments.request(session, segment_id=made.id, now=NOW + MINUTE)
    await evaluate(session, made.id, now=NOW + MINUTE)
    assert await members(session, made.id) == ids(everybody)[:1]
    assert await told(session, ids(everybody)[1]) == ["entered"]
    assert (await segments.get(session, segment_id=made.id)).members_count == 1


async def test_time_alone_lets_somebody_leave_at_the_next_evaluation(session: Session) -> None:
    (sari,) = await crowd(session, 1)
    await _visit(session, sari.id, NOW - timedelta(days=89))
    made = await segment(session, condition={"did": "visit", "within": "P90D"})
    await evaluate(session, made.id)
    assert await members(session, made.id) == [sari.id]
    later = NOW + timedelta(days=2)
    assert await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=[], now=later) == Difference(
        0, 0
    )
    await segments.request(session, segment_id=made.id, now=later)
    await evaluate(session, made.id, now=later)
    assert await members(session, made.id) == []


# ---------------------------------------------------------------- several at once, and broken off


async def test_several_workers_share_an_evaluation_and_nobody_is_told_twice(database: Database) -> None:
    async with database.begin() as session:
        everybody = await crowd(session, 40, vips=25)
        made = await segment(session)

    async def work() -> int:
        steps, going_on = 0, True
        while going_on:
            async with database.begin() as session:
                going_on = await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=made.id, now=NOW)
            steps += going_on
        return steps

    async def follow() -> int:
        async with database.begin() as session:
            among = [contact.id for contact in everybody]
            change = await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=among, now=NOW)
        return change.entered

    steps = await asyncio.gather(*(work() for _ in range(4)), *(follow() for _ in range(3)))
    assert sum(steps[:4]) == 11
    async with database.reading() as session:
        assert await members(session, made.id) == ids(everybody[:25])
        assert [await told(session, one.id) for one in everybody] == [["entered"]] * 25 + [[]] * 15
        assert (await segments.get(session, segment_id=made.id)).members_count == 25


async def test_an_evaluation_that_broke_off_goes_on_where_it_was(database: Database) -> None:
    async with database.begin() as session:
        everybody = await crowd(session, 10, vips=10)
        made = await segment(session)
    async with database.begin() as session:
        await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=made.id, now=NOW)
    with pytest.raises(ZeroDivisionError):
        async with database.begin() as session:
            await segmentation.advance(session, vocabulary=VOCABULARY, segment_id=made.id, now=NOW)
            raise ZeroDivisionError
    async with database.begin() as session:
        assert len(await members(session, made.id)) == CHUNK
        assert await evaluate(session, made.id, now=NOW + MINUTE) == 2
        assert await members(session, made.id) == ids(everybody)
        evaluation = await segments.evaluation(session, segment_id=made.id)
        assert (evaluation.evaluated_at, evaluation.contacts_count) == (NOW, 10)


# ---------------------------------------------------------------- some contacts


async def test_some_contacts_are_held_against_all_segments(session: Session, statements: list[str]) -> None:
    everybody = await crowd(session, 6, vips=3)
    vips, others = await segment(session), await segment(session, "Others", {"not": VIP})
    by_hand = await segment(session, "By hand", refresh="manual")
    archived = await segment(session, "Archived")
    await segments.archive(session, segment_id=archived.id, now=NOW)

    statements.clear()
    among = [everybody[0].id, everybody[5].id]
    change = await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=among, now=NOW)
    few = len(statements)
    assert change == Difference(2, 0)
    assert await members(session, vips.id) == [everybody[0].id]
    assert await members(session, others.id) == [everybody[5].id]
    assert await members(session, by_hand.id) == await members(session, archived.id) == []
    assert (await segments.get(session, segment_id=vips.id)).members_count == 1

    statements.clear()
    change = await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=ids(everybody), now=NOW)
    assert change == Difference(4, 0)
    assert len(statements) == few
    await people.remove_tag(session, contact_id=everybody[0].id, tag="vip", by="t", now=NOW)
    change = await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=[everybody[0].id], now=NOW)
    assert change == Difference(1, 1)
    assert (await segments.get(session, segment_id=vips.id)).members_count == 2


async def test_a_segment_that_is_not_understood_any_more_stops_no_other(session: Session) -> None:
    everybody = await crowd(session, 1, vips=1)
    broken, sound = await segment(session, "Broken"), await segment(session, "Sound")
    condition = {"field": "no_such", "op": "exists"}
    await session.execute("UPDATE segments SET condition = $2 WHERE id = $1", broken.id, condition)
    await segmentation.evaluate_for(session, vocabulary=VOCABULARY, contact_ids=ids(everybody), now=NOW)
    assert await members(session, sound.id) == ids(everybody)
    assert await members(session, broken.id) == []


# ---------------------------------------------------------------- what has happened


async def follow(database: Database, *, now: datetime = NOW) -> int:
    """Until nothing is left; how many times it took."""
    await until_others_end(database)
    times, going_on = 0, True
    while going_on:
        async with database.begin() as session:
            going_on = await segmentation.follow(session, vocabulary=VOCABULARY, now=now)
        times += 1
    return times


async def test_what_happens_with_a_contact_lets_it_enter_and_leave(database: Database) -> None:
    async with database.begin() as session:
        sari, budi = await crowd(session, 2)
        made = await segment(session)
    await follow(database)
    for verb, expected in ((people.add_tag, [sari.id]), (people.remove_tag, [])):
        async with database.begin() as session:
            await verb(session, contact_id=sari.id, tag="vip", by="t", now=NOW)
        await follow(database)
        async with database.reading() as session:
            assert await members(session, made.id) == expected
            assert await told(session, budi.id) == []


async def test_only_what_is_new_is_looked_at(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[set[UUID]] = []
    really = segmentation.evaluate_for

    async def watched(session: Session, *, contact_ids: Any, **given: Any) -> Difference:
        looked_at.append(set(contact_ids))
        return await really(session, contact_ids=contact_ids, **given)

    monkeypatch.setattr(segmentation, "evaluate_for", watched)
    async with database.begin() as session:
        await segment(session)
    await follow(database)
    async with database.begin() as session:
        everybody = await crowd(session, 2 * CHUNK + 1, vips=9)
    assert await follow(database) == 4 + 1  # nine that are new, and nine that are told
    assert set().union(*looked_at) == set(ids(everybody))
    assert sum(map(len, looked_at)) == len(everybody)
    looked_at.clear()
    await follow(database)
    assert looked_at == []


async def test_what_is_not_committed_yet_is_waited_for(database: Database) -> None:
    async with database.begin() as session:
        sari, budi = await crowd(session, 2)
        made = await segment(session)
    await follow(database)
    async with database.begin() as slow:
        await people.add_tag(slow, contact_id=sari.id, tag="vip", by="t", now=NOW)
        async with database.begin() as fast:
            await people.add_tag(fast, contact_id=budi.id, tag="vip", by="t", now=NOW)
        await follow(database)
        async with database.reading() as session:
            # Of what came after it nothing is read, or it would be passed over.
            assert await members(session, made.id) == []
    await follow(database)
    async with database.reading() as session:
        assert await members(session, made.id) == ids([sari, budi])


async def test_nothing_is_kept_for_later_while_there_is_no_segment(database: Database) -> None:
    await follow(database)
    async with database.begin() as session:
        await crowd(session, 3 * CHUNK)
    assert await follow(database) == 1
    async with database.begin() as session:
        made = await segment(session, refresh="manual")
        (late,) = await crowd(session, 1, vips=1)
    assert await follow(database) == 1
    async with database.reading() as session:
        assert await members(session, made.id) == []
    async with database.begin() as session:
        other = await segment(session, "B")
        await people.update(session, contact_id=late.id, changes={"name": "x"}, by="t", now=NOW)
    await follow(database)
    async with database.reading() as session:
        assert await members(session, other.id) == [late.id]


async def test_it_goes_on_where_numbers_of_transactions_have_begun_again(database: Database) -> None:
    async with database.begin() as session:
        await segment(session)
    await follow(database)
    async with database.begin() as session:
        await session.execute("UPDATE timeline_cursors SET xid = '9000000000', interaction_id = $1", UUID(int=9))
    await follow(database)
    async with database.begin() as session:
        (sari,) = await crowd(session, 1, vips=1)
    await follow(database)
    async with database.reading() as session:
        assert await told(session, sari.id) == ["entered"]


async def test_a_clock_that_is_ahead_hides_nothing(database: Database) -> None:
    async with database.begin() as session:
        (sari,) = await crowd(session, 1)
        made = await segment(session, condition={"did": "visit"})
    await follow(database)
    async with database.begin() as session:
        await _visit(session, sari.id, NOW + MINUTE)
    await follow(database, now=NOW)
    async with database.reading() as session:
        assert await members(session, made.id) == [sari.id]


async def test_a_merged_contact_is_in_a_segment_for_what_happened_under_either_id(database: Database) -> None:
    async with database.begin() as session:
        sari, other = await crowd(session, 2)
        made = await segment(session, condition={"did": "visit", "count": {"gte": 2}})
        for contact, visits in ((sari, 1), (other, 2)):
            for _ in range(visits):
                await _visit(session, contact.id, NOW)
    await follow(database)
    async with database.begin() as session:
        await evaluate(session, made.id)
        assert await members(session, made.id) == [other.id]
        merged = await merges.merge(
            session, contact_id=sari.id, other_id=other.id, keep={}, keepers=KEEPERS, by="t", now=NOW
        )
        assert await members(session, made.id) == []
    await follow(database)
    async with database.begin() as session:
        assert await members(session, made.id) == [sari.id]
        await merges.undo(session, merge_id=merged.id, keepers=KEEPERS, by="t", now=NOW)
    await follow(database)
    async with database.reading() as session:
        assert await members(session, made.id) == [other.id]


async def test_membership_is_what_a_search_by_the_same_condition_finds(session: Session) -> None:
    await crowd(session, 11, vips=6)
    made = await segment(session, condition={"any": [VIP, {"field": "name", "op": "eq", "value": "Sari 9"}]})
    await evaluate(session, made.id)
    condition = segments.condition_of(VOCABULARY, made.condition)
    selection = await selections.select(session, vocabulary=VOCABULARY, condition=condition, program_id=None, now=NOW)
    found = await selections.page(session, selection=selection, sort="name", limit=100)
    assert await members(session, made.id) == sorted(each.contact.id for each in found)
    assert len(found) == 7


async def _visit(session: Session, contact_id: UUID, at: datetime) -> None:
    row = timeline.entry(contact_id, channel="web", kind="visit", occurred_at=at, recorded_at=at, by="t")
    await writes.write(session, [timeline.part([row])])
