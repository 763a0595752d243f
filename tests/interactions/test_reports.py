"""Reports of whoever is behind an address."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.contacts.drafts import Draft, NewIdentity
from crm.contacts.identities import IdentityAmbiguous
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import CrmError
from crm.interactions import people, reports, timeline
from crm.interactions.people import Sender
from crm.interactions.timeline import Recorded, Report

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

_databases = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sender(value: str, *, kind: str = "customer_id", account: str | None = None) -> Sender:
    return Sender.of(kind=kind, value=value, account=account, region="ID")


def a_message(external_id: str | None = None, **fields: Any) -> Report:
    return Report(**{
        "channel": "whatsapp", "kind": "message", "occurred_at": NOW, "source": "meta", "external_id": external_id,
        **fields,
    })  # fmt: skip


async def _known(session: Session, *identities: NewIdentity) -> UUID:
    draft = Draft(name="Sari", identities=list(identities))
    return (await people.create(session, draft=draft, region="ID", by="test", now=NOW)).id


async def _told(session: Session, contact_id: UUID) -> list[str]:
    return [i.kind for i in await timeline.page(session, contact_id=contact_id, limit=100)]


async def test_a_message_from_an_address_comes_to_its_contact_however_it_is_typed(session):
    contact_id = await _known(session, NewIdentity(kind="phone", value="+62 812-3456-789"))
    recorded, new = await reports.record(
        session, who=sender("0812 3456 789", kind="phone"), report=a_message("1"), by="test", now=NOW
    )
    assert (recorded.contact_id, new) == (contact_id, True)
    assert (await session.fetchval("SELECT count(*) FROM contacts")) == 1


async def test_the_first_message_from_an_address_makes_its_contact(session):
    first, new = await reports.record(session, who=sender("42"), report=a_message("1"), by="test", now=NOW)
    second, _ = await reports.record(session, who=sender("42"), report=a_message("2"), by="test", now=NOW)
    assert new
    assert first.contact_id == second.contact_id
    assert sorted(await _told(session, first.contact_id)) == ["contact.created", "message", "message"]


async def test_a_repeated_first_message_is_the_first(session):
    first, _ = await reports.record(session, who=sender("42"), report=a_message("1"), by="test", now=NOW)
    again = await reports.record(
        session, who=sender("42"), report=a_message("1", body="other"), by="test", now=NOW + timedelta(hours=1)
    )
    assert again == (first, False)


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (a_message(kind="points.earned"), "reserved_kind"),
        (a_message(occurred_at=NOW + timedelta(days=2)), "in_the_future"),
        (a_message("1"), "external_id_taken"),
    ],
)
async def test_a_refused_report_makes_no_contact(session, report, code):
    await reports.record(session, who=await _known(session), report=a_message("1"), by="test", now=NOW)
    before = await _sizes(session)
    with pytest.raises(CrmError) as caught:
        await reports.record(session, who=sender("42"), report=report, by="test", now=NOW)
    results = await reports.record_all(session, reports=[(sender("42"), report)], by="test", now=NOW)
    assert caught.value.code == code
    assert [result.code for result in results] == [code]
    assert await _sizes(session) == before


async def test_an_address_that_could_be_two_people_is_refused_with_both(session):
    both = [await _known(session, NewIdentity(kind="customer_id", value="42", account=shop)) for shop in ("a", "b")]
    with pytest.raises(IdentityAmbiguous) as caught:
        await reports.record(session, who=sender("42"), report=a_message(), by="test", now=NOW)
    assert [candidate["contact_id"] for candidate in caught.value.members["candidates"]] == [str(id_) for id_ in both]
    recorded, _ = await reports.record(session, who=sender("42", account="b"), report=a_message(), by="test", now=NOW)
    assert recorded.contact_id == both[1]


async def test_a_batch_is_answered_in_order_whoever_its_people_are(session):
    known = await _known(session, NewIdentity(kind="customer_id", value="known"))
    told = await reports.record_all(
        session,
        reports=[
            (sender("new"), a_message("1", body="a")),
            (known, a_message("2")),
            (sender("known"), a_message("3")),
            (uuid7(), a_message("4")),
            (sender("new"), a_message("5", body="b")),
            (sender("new"), a_message("1", body="c")),
            (known, a_message("1")),
            (sender("other"), a_message("2")),
            (sender("known"), a_message("2")),
            (sender("other"), a_message("4")),
            (sender("third"), a_message("4")),
        ],
        by="test",
        now=NOW,
    )
    assert [_outcome(result) for result in told] == [
        "new", "new", "new", "contact_not_found", "new", "again", "external_id_taken", "external_id_taken", "again",
        "new", "external_id_taken",
    ]  # fmt: skip
    assert told[10].members["contact_id"] == str(told[9][0].contact_id)
    assert told[5][0].body == "a"
    assert await session.fetchval("SELECT count(*) FROM contacts") == 3, "known, new and other"


_who = st.sampled_from(["known", "new", "other", "third", "nobody", "owner"])
_reported = st.tuples(
    _who, st.sampled_from([None, "1", "2", "3"]), st.sampled_from(["message", "message", "message", "case.opened"])
)


@_databases
@given(batches=st.lists(st.lists(_reported, min_size=1, max_size=7), max_size=4))
async def test_a_batch_is_what_its_reports_are_one_by_one(session, batches):
    """Twice the same story, of different people: once in batches, once report by report."""
    outcomes = []
    for together in (True, False):
        story = uuid7().hex
        owner = await _known(session, NewIdentity(kind="customer_id", value=f"{story} known"))
        before = await _sizes(session)
        outcomes.append([])
        for batch in batches:
            told = [
                (
                    {"nobody": uuid7(), "owner": owner}.get(who) or sender(f"{story} {who}"),
                    a_message(external_id, kind=kind, source=story),
                )
                for who, external_id, kind in batch
            ]
            parts = [told] if together else [[report] for report in told]
            for part in parts:
                results = await reports.record_all(session, reports=part, by="test", now=NOW)
                outcomes[-1] += [_outcome(result) for result in results]
        outcomes[-1].append([now - then for now, then in zip(await _sizes(session), before, strict=True)])
    assert outcomes[0] == outcomes[1]


async def test_a_batch_of_any_size_is_the_same_few_statements(session, statements):
    counts = []
    for size in (3, 60, 500):
        told = [(sender(f"{size} {n % (size // 2)}"), a_message(f"{size} {n}")) for n in range(size)]
        for _ in range(2):
            del statements[:]
            results = await reports.record_all(session, reports=told, by="test", now=NOW)
            assert len(results) == size
            counts.append(len(statements))
    assert max(counts) <= 8
    assert counts[0::2] == counts[:1] * 3, "strangers"
    assert counts[1::2] == [3] * 3, "the same again: whose the addresses are, the report, what was there"


async def test_first_messages_that_arrive_at_once_make_one_contact(database):
    async def tell(number: int) -> Recorded:
        async with database.begin() as session:
            return await reports.record(
                session, who=sender("42"), report=a_message(str(number % 4)), by="test", now=NOW
            )

    told = await asyncio.gather(*(tell(number) for number in range(24)))
    assert len({recorded.contact_id for recorded, _ in told}) == 1
    assert sum(new for _, new in told) == 4
    async with database.reading() as session:
        assert await _sizes(session) == [1, 1, 1, 5, 4]


async def test_strangers_who_want_one_external_id_at_once_do_not_both_stay(database):
    async def tell(number: int) -> str:
        try:
            async with database.begin() as session:
                recorded = await reports.record(
                    session, who=sender(f"p{number}"), report=a_message("1"), by="test", now=NOW
                )
                return _outcome(recorded)
        except CrmError as error:
            return error.code

    for _ in range(5):
        outcomes = await asyncio.gather(*(tell(number) for number in range(12)))
        assert outcomes.count("new") == 1
        assert set(outcomes) <= {"new", "unavailable", "external_id_taken"}
        async with database.reading() as session:
            assert await _sizes(session) == [1, 1, 1, 2, 1]
            await session.execute(
                "TRUNCATE contacts, contact_identities, identity_directory, interactions, interaction_directory"
            )


async def _sizes(session: Session) -> list[int]:
    tables = ("contacts", "contact_identities", "identity_directory", "interactions", "interaction_directory")
    return [await session.fetchval(f"SELECT count(*) FROM {table}") for table in tables]


def _outcome(result: Recorded | CrmError) -> str:
    if isinstance(result, CrmError):
        return result.code
    return "new" if result[1] else "again"
