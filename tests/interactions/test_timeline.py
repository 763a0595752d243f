"""The timeline against what a list in Python says it should be."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.contacts.contacts import ContactNotFound
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import CrmError
from crm.interactions import people, timeline
from crm.interactions.people import HasHistory
from crm.interactions.timeline import (
    RESERVED_KINDS,
    ExternalIdTaken,
    Interaction,
    InteractionNotFound,
    InTheFuture,
    Report,
    ReservedKind,
)

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
INSTANTS = [NOW - timedelta(hours=hours) for hours in (1, 2, 3, 4)]
CHANNELS = ["whatsapp", "web"]
KINDS = ["message", "visit"]

_databases = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_happenings = st.tuples(st.sampled_from(INSTANTS), st.sampled_from(CHANNELS), st.sampled_from(KINDS))


async def new_contact(session: Session) -> UUID:
    """A contact without anything on the timeline."""
    contact_id = uuid7()
    await session.execute(
        "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', $2, $2)", contact_id, NOW
    )
    return contact_id


def a_visit(**fields: Any) -> Report:
    return Report(**{"channel": "web", "kind": "visit", "occurred_at": NOW, **fields})


async def _put(
    session: Session, contact_id: UUID, happenings: Sequence[tuple[datetime, str, str]]
) -> list[Interaction]:
    # Random ids, so that among equal times the order is not the order of arrival.
    rows = [
        timeline.entry(
            contact_id,
            id=uuid4(),
            occurred_at=at,
            recorded_at=NOW,
            channel=channel,
            kind=kind,
            by="test",
            data={"n": n},
        )
        for n, (at, channel, kind) in enumerate(happenings)
    ]
    await writes.write(session, [timeline.part(rows)])
    return [Interaction(*row) for row in rows]


def _newest_first(interactions: Sequence[Interaction]) -> list[Interaction]:
    return sorted(interactions, key=_key, reverse=True)


def _key(interaction: Interaction) -> tuple[datetime, UUID]:
    return interaction.occurred_at, interaction.id


@_databases
@given(
    happenings=st.lists(_happenings, max_size=25),
    between=st.lists(st.lists(_happenings, max_size=3), max_size=8),
    limit=st.integers(1, 7),
)
async def test_pages_put_together_are_the_whole_timeline_whatever_is_written_meanwhile(
    session, happenings, between, limit
):
    contact_id = await new_contact(session)
    before = await _put(session, contact_id, happenings)
    present = list(before)
    additions = iter(between)
    read: list[Interaction] = []
    cursor = None
    while page := await timeline.page(session, contact_id=contact_id, before=cursor, limit=limit):
        assert page == [i for i in _newest_first(present) if cursor is None or _key(i) < cursor][:limit]
        read += page
        cursor = _key(page[-1])
        present += await _put(session, contact_id, next(additions, []))

    assert read == _newest_first(read)
    assert [i for i in read if i in before] == _newest_first(before), "each of before once, wherever others came in"


@_databases
@given(
    happenings=st.lists(_happenings, max_size=30),
    channel=st.none() | st.sampled_from([*CHANNELS, "sms"]),
    kind=st.none() | st.sampled_from([*KINDS, "call"]),
    since=st.none() | st.sampled_from(INSTANTS),
    until=st.none() | st.sampled_from(INSTANTS),
    after=st.none() | st.integers(0, 29),
)
async def test_a_filter_leaves_what_it_says(session, happenings, channel, kind, since, until, after):
    contact_id = await new_contact(session)
    whole = _newest_first(await _put(session, contact_id, happenings))
    await _put(session, await new_contact(session), happenings)
    before = _key(whole[after]) if after is not None and after < len(whole) else None

    found = await timeline.page(
        session, contact_id=contact_id, channel=channel, kind=kind, since=since, until=until, before=before, limit=50
    )

    assert found == [
        interaction
        for interaction in whole
        if (channel is None or interaction.channel == channel)
        and (kind is None or interaction.kind == kind)
        and (since is None or interaction.occurred_at >= since)
        and (until is None or interaction.occurred_at < until)
        and (before is None or _key(interaction) < before)
    ]


async def test_a_contact_without_history_has_an_empty_timeline_and_a_stranger_none(session):
    assert await timeline.page(session, contact_id=await new_contact(session), limit=5) == []
    with pytest.raises(ContactNotFound):
        await timeline.page(session, contact_id=uuid7(), limit=5)


async def test_a_page_reads_no_more_than_its_rows(session):
    contact_id = await new_contact(session)
    at = [NOW - timedelta(minutes=n) for n in range(5_000)]
    await _put(session, contact_id, [(when, "web", "visit") for when in at])
    # Others were merged and changed before: of an empty table it would be no wonder that it is read whole.
    await session.execute(
        """
        INSERT INTO contact_aliases (contact_id, alias_id, created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), now() FROM generate_series(1, 1000)
        """
    )
    await session.execute(
        """
        INSERT INTO interaction_changes (contact_id, interaction_id, seq, kind, key, data, occurred_at, recorded_at)
        SELECT gen_random_uuid(), gen_random_uuid(), 1, 'edited', 'x', '{}', now(), now() FROM generate_series(1, 1000)
        """
    )
    for table in ("interactions", "interaction_changes", "contacts", "contact_aliases"):
        await session.execute(f"ANALYZE {table}")
    for given_filters, after, args in (
        ((), False, ()),
        ((), True, (at[4_000], uuid7())),
        (("since", "until"), False, (at[3_000], at[1_000])),
    ):
        query = timeline._page_query(given_filters, after)
        explained = await session.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", contact_id, 51, *args)
        plan = json.loads(explained)[0]["Plan"]
        assert "interactions_timeline_idx" in explained
        assert '"Seq Scan"' not in explained
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 51 + 20


async def test_a_page_is_one_statement_and_a_report_too(session, statements):
    contact_id = await new_contact(session)
    del statements[:]
    await timeline.record(session, contact_id=contact_id, report=a_visit(external_id="1"), by="test", now=NOW)
    assert len(statements) == 1
    await timeline.page(session, contact_id=contact_id, channel="web", limit=50)
    assert len(statements) == 2


async def test_what_is_recorded_is_what_is_read(session):
    contact_id = await new_contact(session)
    report = Report(
        channel="whatsapp", kind="message", direction="inbound", occurred_at=INSTANTS[0], subject="Order",
        body="Is my order ready?\nThank you \N{SMILING FACE WITH SUNGLASSES}", source="till-3", external_id="wamid.X",
        data={"list": [], "object": {}, "numbers": [1, 2.5, -0.5, 1e15], "nothing": None, "": True},
        thread_id=uuid7(), case_id=uuid7(), id=uuid7(),
    )  # fmt: skip

    made, new = await timeline.record(session, contact_id=contact_id, report=report, by="key:till", now=NOW)

    assert new
    for name in report.__slots__:
        assert getattr(made, name) == getattr(report, name)
    assert (made.contact_id, made.recorded_at, made.by) == (contact_id, NOW, "key:till")
    assert await timeline.get(session, contact_id=contact_id, interaction_id=made.id) == made
    assert await timeline.page(session, contact_id=contact_id, limit=5) == [made]
    assert [interaction for _, interaction in await timeline.recent(session, before=None, limit=1)] == [made]


async def test_an_interaction_is_found_under_its_own_contact_only(session):
    contact_id = await new_contact(session)
    made, _ = await timeline.record(session, contact_id=contact_id, report=a_visit(), by="test", now=NOW)
    for wrong in ({"contact_id": await new_contact(session)}, {"interaction_id": uuid7()}):
        with pytest.raises(InteractionNotFound):
            await timeline.get(session, **{"contact_id": contact_id, "interaction_id": made.id} | wrong)


async def test_a_repeated_external_id_is_what_was_recorded_first(session):
    contact_id = await new_contact(session)
    first, _ = await timeline.record(
        session, contact_id=contact_id, report=a_visit(source="till", external_id="1", body="first"), by="a", now=NOW
    )
    again = await timeline.record(
        session,
        contact_id=contact_id,
        report=a_visit(source="till", external_id="1", body="second", channel="sms", occurred_at=INSTANTS[3]),
        by="b",
        now=NOW + timedelta(days=1),
    )
    assert again == (first, False)
    assert await timeline.page(session, contact_id=contact_id, limit=5) == [first]


async def test_external_ids_are_told_apart_by_source_and_without_one_by_channel(session):
    contact_id = await new_contact(session)
    reports = [
        a_visit(external_id="1", source="till"),
        a_visit(external_id="1", source="shop"),
        a_visit(external_id="1", channel="sms"),
        a_visit(external_id="1", channel="web"),
        a_visit(external_id="1", channel="sms", source="web"),
        a_visit(source="till"),
        a_visit(source="till"),
    ]
    recorded = await timeline.record_all(session, reports=[(contact_id, r) for r in reports], by="test", now=NOW)
    assert [_outcome(result) for result in recorded] == ["new", "new", "new", "new", "again", "new", "new"]
    assert recorded[4][0] == recorded[3][0]
    assert recorded[3][0].source == "web"


async def test_an_external_id_of_another_contact_is_refused_with_that_contact(session):
    owner, other = await new_contact(session), await new_contact(session)
    await timeline.record(session, contact_id=owner, report=a_visit(external_id="1"), by="test", now=NOW)
    with pytest.raises(ExternalIdTaken) as caught:
        await timeline.record(session, contact_id=other, report=a_visit(external_id="1"), by="test", now=NOW)
    assert caught.value.members == {"contact_id": str(owner)}
    assert await timeline.page(session, contact_id=other, limit=5) == []


async def test_a_stranger_has_no_timeline_to_write_on(session):
    owner = await new_contact(session)
    await timeline.record(session, contact_id=owner, report=a_visit(external_id="1"), by="test", now=NOW)
    for external_id in (None, "1", "2"):
        with pytest.raises(ContactNotFound):
            await timeline.record(
                session, contact_id=uuid7(), report=a_visit(external_id=external_id), by="test", now=NOW
            )
    assert await session.fetchval("SELECT count(*) FROM interactions") == 1
    assert await session.fetchval("SELECT count(*) FROM interaction_directory") == 1


@pytest.mark.parametrize("kind", [*sorted(RESERVED_KINDS), "points.earned", "contact.created", "purchase.refunded"])
async def test_the_kinds_of_our_own_facts_can_not_be_claimed(session, kind):
    contact_id = await new_contact(session)
    with pytest.raises(ReservedKind):
        await timeline.record(session, contact_id=contact_id, report=a_visit(kind=kind), by="test", now=NOW)
    assert await timeline.page(session, contact_id=contact_id, limit=5) == []


@pytest.mark.parametrize("kind", ["message", "call.missed", "purchaser", "pointsman", "order.placed"])
async def test_other_kinds_are_free(session, kind):
    contact_id = await new_contact(session)
    _, new = await timeline.record(session, contact_id=contact_id, report=a_visit(kind=kind), by="test", now=NOW)
    assert new


async def test_what_has_not_happened_yet_is_refused(session):
    contact_id = await new_contact(session)
    tomorrow = NOW + timedelta(days=1)
    await timeline.record(session, contact_id=contact_id, report=a_visit(occurred_at=tomorrow), by="test", now=NOW)
    with pytest.raises(InTheFuture):
        await timeline.record(
            session,
            contact_id=contact_id,
            report=a_visit(occurred_at=tomorrow + timedelta(microseconds=1)),
            by="test",
            now=NOW,
        )


_people = st.integers(0, 3)
_reports = st.tuples(
    _people,
    st.sampled_from([None, None, "1", "2", "3"]),
    st.sampled_from(["visit", "visit", "visit", "tier.changed"]),
    st.sampled_from([INSTANTS[0], INSTANTS[1], NOW + timedelta(days=2)]),
)


@_databases
@given(batches=st.lists(st.lists(_reports, max_size=6), max_size=4))
async def test_a_batch_is_what_its_reports_are_one_by_one(session, batches):
    """The model: a list, and the owner of each external id. The last person is nobody."""
    people_ids = [await new_contact(session) for _ in range(3)] + [uuid7()]
    source = uuid7().hex
    owners: dict[str, tuple[UUID, Interaction]] = {}
    kept: list[Interaction] = []
    for batch in batches:
        reports = [
            (people_ids[who], a_visit(source=source, external_id=external_id, kind=kind, occurred_at=at))
            for who, external_id, kind, at in batch
        ]
        results = await timeline.record_all(session, reports=reports, by="test", now=NOW)
        assert len(results) == len(reports)
        for (contact_id, report), result in zip(reports, results, strict=True):
            owner = owners.get(report.external_id or "")
            if report.kind == "tier.changed":
                expected = "reserved_kind"
            elif report.occurred_at > NOW + timedelta(days=1):
                expected = "in_the_future"
            elif contact_id == people_ids[3]:
                expected = "contact_not_found"
            elif owner is None:
                expected = "new"
            else:
                expected = "again" if owner[0] == contact_id else "external_id_taken"
            assert _outcome(result) == expected
            if isinstance(result, CrmError):
                assert expected != "external_id_taken" or result.members["contact_id"] == str(owner[0])
                continue
            if expected == "new":
                kept.append(result[0])
                if report.external_id is not None:
                    owners[report.external_id] = (contact_id, result[0])
            else:
                assert result[0] == owner[1]
    for contact_id in people_ids[:3]:
        stored = await timeline.page(session, contact_id=contact_id, limit=100)
        assert stored == _newest_first([i for i in kept if i.contact_id == contact_id])


async def test_a_batch_of_any_size_is_the_same_few_statements(session, statements):
    contacts = [await new_contact(session) for _ in range(50)]
    counts = set()
    for size in (2, 50, 500):
        reports = [(contacts[n % 50], a_visit(source="till", external_id=f"{size} {n}")) for n in range(size)]
        for _ in range(2):
            del statements[:]
            await timeline.record_all(session, reports=reports, by="test", now=NOW)
            counts.add(len(statements))
    assert counts == {1, 2}, "one where all is new, one more to find what was there"


async def test_nothing_reported_says_nothing_to_the_database(session, statements):
    assert await timeline.record_all(session, reports=[], by="test", now=NOW) == []
    assert statements == []


async def test_recent_interactions_come_last_recorded_first_in_pages(database):
    async with database.begin() as session:
        contact_id = await new_contact(session)
    made = []
    for n in range(7):
        async with database.begin() as session:
            at = NOW - timedelta(days=n * (-1) ** n)
            reports = [(contact_id, a_visit(occurred_at=at)), (contact_id, a_visit(occurred_at=at))]
            made += [
                r[0] for r in await timeline.record_all(session, reports=reports, by="test", now=NOW + timedelta(9))
            ]
    async with database.reading() as session:
        read: list[Interaction] = []
        cursor = None
        while page := await timeline.recent(session, before=cursor, limit=3):
            read += [interaction for _, interaction in page]
            cursor = (page[-1][0], page[-1][1].id)
    assert read == made[::-1]


async def test_a_contact_to_whom_something_just_happened_is_not_deleted(database):
    async with database.begin() as session:
        contact_id = await new_contact(session)

    async def delete() -> None:
        async with database.begin() as session:
            await people.delete(session, contact_id=contact_id)

    async with database.begin() as session:
        await timeline.record(session, contact_id=contact_id, report=a_visit(), by="test", now=NOW)
        deletion = asyncio.create_task(delete())
        await asyncio.sleep(0.1)
        assert not deletion.done(), "it waits for the report"
    with pytest.raises(HasHistory):
        await deletion


async def test_nothing_happens_with_a_contact_that_was_just_deleted(database):
    async with database.begin() as session:
        contact_id = await new_contact(session)

    async def report() -> None:
        async with database.begin() as session:
            await timeline.record(session, contact_id=contact_id, report=a_visit(external_id="1"), by="test", now=NOW)

    async with database.begin() as session:
        await people.delete(session, contact_id=contact_id)
        reporting = asyncio.create_task(report())
        await asyncio.sleep(0.1)
        assert not reporting.done(), "it waits for the deletion"
    with pytest.raises(ContactNotFound):
        await reporting
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM interactions") == 0
        assert await session.fetchval("SELECT count(*) FROM interaction_directory") == 0


async def test_reports_of_one_contact_do_not_wait_for_each_other(database):
    async with database.begin() as session:
        contact_id = await new_contact(session)
    async with database.begin() as first, database.begin() as second:
        for session in (first, second):
            await asyncio.wait_for(
                timeline.record(session, contact_id=contact_id, report=a_visit(), by="test", now=NOW), 5
            )


async def test_batches_that_overlap_in_other_orders_do_not_wait_for_each_other_in_a_circle(database):
    async with database.begin() as session:
        contacts = [await new_contact(session) for _ in range(20)]
    reports = [(contact_id, a_visit(external_id=str(n))) for n, contact_id in enumerate(contacts * 25)]

    async def send(order: list[tuple[UUID, Report]]) -> list[str]:
        async with database.begin() as session:
            return [_outcome(r) for r in await timeline.record_all(session, reports=order, by="test", now=NOW)]

    for _ in range(5):
        async with database.reading() as session:
            await session.execute("TRUNCATE interactions, interaction_directory")
        outcomes = await asyncio.gather(*(send(reports[::step]) for step in (1, -1) * 4))
        assert sorted(outcome for batch in outcomes for outcome in batch) == ["again"] * 3_500 + ["new"] * 500


def _outcome(result: timeline.Recorded | CrmError) -> str:
    if isinstance(result, CrmError):
        return result.code
    return "new" if result[1] else "again"
