"""Pairs that are suggested, and what somebody decided of them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from crm.contacts import suggestions
from crm.contacts.drafts import Draft, NewIdentity
from crm.contacts.likeness import DuplicateReason
from crm.contacts.suggestions import LASTING, Duplicate, DuplicateMerged, DuplicateNotFound, Pair, Suggestion
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.interactions import people

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
NAME = DuplicateReason("same_name", "The names are the same")
BORN = DuplicateReason("same_birth_date", "Born on the same day")
DISPUTED = DuplicateReason(LASTING[0], "Both have an address")


async def made(session: Session, *identities: NewIdentity, name: str = "Sari", now: datetime = NOW) -> UUID:
    draft = Draft(name=name, identities=identities)
    return (await people.create(session, draft=draft, region="ID", by="test", now=now)).id


async def suggest(session: Session, pair: Pair, score: int, *reasons: DuplicateReason) -> int:
    return await writes.write(session, [suggestions.suggest([Suggestion(pair, score, list(reasons))], now=NOW)])


async def compared(session: Session, pair: Pair, score: int, *reasons: DuplicateReason) -> int:
    return await writes.write(session, [suggestions.compared([Suggestion(pair, score, list(reasons))], now=NOW)])


@pytest.fixture
async def pair(session: Session) -> Pair:
    return Pair.of(await made(session), await made(session))


async def read(session: Session, pair: Pair) -> Duplicate:
    return await suggestions.get(session, pair=pair)


async def test_a_pair_is_one_whichever_contact_is_named_first(session, pair):
    assert Pair.of(pair.other_id, pair.contact_id) == pair == Pair.named(pair.id)
    assert pair.contact_id < pair.other_id
    for wrong in (f"{pair.other_id}:{pair.contact_id}", str(pair.contact_id), f"{pair.id}:1", ":", f"{pair.id} "):
        with pytest.raises(DuplicateNotFound):
            Pair.named(wrong)


async def test_a_suggestion_made_twice_has_the_better_score_and_all_reasons(session, pair):
    await suggest(session, pair, 70, NAME)
    await suggest(session, pair, 65, BORN)
    found = await read(session, pair)
    assert (found.score, found.status) == (70, "open")
    assert {reason.code for reason in found.reasons} == {"same_name", "same_birth_date"}


async def test_a_comparison_replaces_what_was_found_before(session, pair):
    await suggest(session, pair, 95, NAME, BORN)
    await compared(session, pair, 61, NAME)
    found = await read(session, pair)
    assert (found.score, [reason.code for reason in found.reasons]) == (61, ["same_name"])


async def test_a_comparison_leaves_what_is_no_likeness(session, pair):
    await suggest(session, pair, 90, DISPUTED, BORN)
    await compared(session, pair, 61, NAME)
    found = await read(session, pair)
    assert (found.score, [reason.code for reason in found.reasons]) == (90, ["same_name", LASTING[0]])


async def test_what_was_dismissed_is_not_suggested_again(session, pair):
    await suggest(session, pair, 70, NAME)
    await suggestions.dismiss(session, pair=pair, by="owner", now=NOW)
    assert await suggest(session, pair, 99, BORN) == 1
    assert await compared(session, pair, 99, BORN) == 1
    found = await read(session, pair)
    assert (found.status, found.score, found.decided_by, found.decided_at) == ("dismissed", 70, "owner", NOW)
    assert await suggestions.page(session, limit=9) == []

    await suggestions.reopen(session, pair=pair)
    found = await read(session, pair)
    assert (found.status, found.decided_by, found.decided_at) == ("open", None, None)


async def test_a_decision_taken_again_changes_nothing(session, pair):
    await suggest(session, pair, 70, NAME)
    first = await suggestions.dismiss(session, pair=pair, by="owner", now=NOW)
    assert await suggestions.dismiss(session, pair=pair, by="other", now=NOW + timedelta(days=1)) == first
    await suggestions.reopen(session, pair=pair)
    await suggestions.reopen(session, pair=pair)
    assert (await read(session, pair)).status == "open"


async def test_what_was_merged_can_not_be_dismissed(session, pair):
    await suggest(session, pair, 70, NAME)
    await session.execute("UPDATE duplicate_pairs SET status = 'merged', decided_at = now()")
    with pytest.raises(DuplicateMerged):
        await suggestions.dismiss(session, pair=pair, by="owner", now=NOW)
    with pytest.raises(DuplicateMerged):
        await suggestions.reopen(session, pair=pair)


async def test_many_suggestions_of_one_pair_are_written_at_once(session, pair):
    found = [Suggestion(pair, score, [NAME]) for score in (70, 90, 80)]
    assert await writes.write(session, [suggestions.suggest(found, now=NOW)]) == 0
    assert (await read(session, pair)).score == 90


async def test_the_likeliest_come_first_and_pages_make_the_whole_list(session):
    people = [await made(session) for _ in range(7)]
    for number, other in enumerate(people[1:]):
        await suggest(session, Pair.of(people[0], other), 60 + number // 2 * 10, NAME)
    whole = await suggestions.page(session, limit=99)
    assert [one.score for one in whole] == [80, 80, 70, 70, 60, 60]
    paged, after = [], None
    while page := await suggestions.page(session, after=after, limit=1):
        paged += page
        after = (page[-1].score, page[-1].contact_id, page[-1].other_contact_id)
    assert paged == whole
    assert await suggestions.page(session, score_min=71, limit=99) == whole[:2]
    assert await suggestions.page(session, contact_id=people[3], limit=99) == [
        one for one in whole if str(people[3]) in one.id
    ]


async def test_the_one_to_keep_has_what_is_proven_then_more_then_was_there_first(session):
    email, phone = NewIdentity(kind="email", value="a@b.id"), NewIdentity(kind="phone", value="0812 3456 789")
    proven = NewIdentity(kind="card", value="1", verified=True)
    old = await made(session, now=NOW - timedelta(days=9))
    new = await made(session)
    two = await made(session, email, phone)
    verified = await made(session, proven)
    for keep, other in ((old, new), (two, old), (verified, two)):
        await suggest(session, Pair.of(keep, other), 70, NAME)
        assert (await read(session, Pair.of(keep, other))).suggested_survivor_id == keep


async def test_a_pair_vanishes_with_either_contact(session, pair):
    await suggest(session, pair, 70, NAME)
    await people.delete(session, contact_id=pair.other_id)
    assert await session.fetchval("SELECT count(*) FROM duplicate_pairs") == 0
    await suggest(session, Pair.of(pair.contact_id, uuid7()), 70, NAME)  # found while the other was deleted
    assert await suggestions.page(session, limit=9) == []
