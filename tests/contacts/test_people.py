import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.contacts import contacts, drafts, identities
from crm.contacts.addresses import Address, InvalidIdentity
from crm.contacts.contacts import Contact, ContactNotFound, StaleContact
from crm.contacts.drafts import Draft, InvalidContact, NewIdentity
from crm.contacts.identities import Identity, IdentityAmbiguous, IdentityNotFound, IdentityTaken
from crm.db import writes
from crm.db.ids import uuid7
from crm.db.session import Database, Session
from crm.interactions import people, timeline
from crm.interactions.people import HasHistory, Sender

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


async def create(session: Session, name: str = "Sari Dewi", *, cards: Sequence[str] = (), **given: Any) -> Contact:
    wanted = [NewIdentity(kind="card", value=card) for card in cards]
    draft = Draft(name=name, identities=wanted, **given)
    return await people.create(session, draft=draft, region="ID", by="test", now=NOW)


def made(name: str, *cards: str) -> Contact:
    draft = Draft(name=name, identities=[NewIdentity(kind="card", value=card) for card in cards])
    return drafts.contact_of(draft, region="ID", now=NOW)


def card(value: str) -> Identity:
    return Identity.of(kind="card", value=value, region="ID")


def sender(value: str, **given: Any) -> Sender:
    return Sender.of(kind="phone", value=value, region="ID", **given)


async def owner(session: Session, value: str) -> UUID | None:
    return await identities.resolve(session, kind="card", value=value, region="ID")


async def directory(session: Session) -> dict[str, UUID]:
    return {row["value"]: row["contact_id"] for row in await session.fetch("SELECT * FROM identity_directory")}


async def owned(session: Session) -> dict[str, UUID]:
    return {row["value"]: row["contact_id"] for row in await session.fetch("SELECT * FROM contact_identities")}


async def told(session: Session, contact_id: UUID) -> list[tuple[str, Any]]:
    rows = await session.fetch("SELECT kind, data FROM interactions WHERE contact_id = $1 ORDER BY id", contact_id)
    return [(row["kind"], row["data"]) for row in rows]


async def test_a_contact_is_read_as_it_was_created(session: Session) -> None:
    contact = await create(
        session, cards=["C2", "C1"], given_name="Sari", locale="id-ID", time_zone="Asia/Jakarta",
        birth_on=NOW.date(), tags=["vip", "b2b"], attributes={"n": 1, "f": 1.5, "t": True, "l": ["a"], "gone": None},
    )  # fmt: skip
    assert await contacts.get(session, contact_id=contact.id) == contact
    assert [identity.value for identity in contact.identities] == ["C2", "C1"]
    assert await told(session, contact.id) == [("contact.created", {})]


async def test_creating_takes_three_statements_and_reading_one(session: Session, statements: list[str]) -> None:
    contact = await create(session, cards=["C1", "C2"], tags=["a", "b"])
    assert len(statements) == len(["claim", "erased?", "write"])
    await create(session, tags=["a"])
    assert len(statements) == 4
    await contacts.get(session, contact_id=contact.id)
    assert len(statements) == 5


async def test_an_identity_has_one_owner(session: Session) -> None:
    first = await create(session, cards=["C1"])
    async with session.savepoint():
        second = await create(session, "Budi", cards=["C2"])
    before = await directory(session)
    with pytest.raises(IdentityTaken) as caught:
        async with session.savepoint():
            await create(session, "Ani", cards=["C9", "c 1"])
    assert caught.value.members["contact_id"] == str(first.id)
    with pytest.raises(IdentityTaken):
        async with session.savepoint():
            await people.add_identity(session, contact_id=second.id, identity=card("C1"), by="test", now=NOW)
    assert await directory(session) == before == {"C1": first.id, "C2": second.id}


async def test_contacts_made_together_are_judged_as_if_one_came_after_the_other(session: Session) -> None:
    holder = await create(session, cards=["TAKEN"])
    wanted = [
        made("refused, so its A is free", "A", "TAKEN"),
        made("gets A", "A", "B"),
        made("too late for B", "C", "B"),
        made("gets C", "C"),
        made("needs nothing"),
        made("refused, nobody else wants D", "D", "TAKEN"),
    ]
    results = await people.create_all(session, made=wanted, by="test", now=NOW)
    holders = [result.members["contact_id"] if isinstance(result, IdentityTaken) else result for result in results]
    assert holders == [str(holder.id), wanted[1], str(wanted[1].id), wanted[3], wanted[4], str(holder.id)]
    expected = {"TAKEN": holder.id, "A": wanted[1].id, "B": wanted[1].id, "C": wanted[3].id}
    assert await directory(session) == await owned(session) == expected
    assert await session.fetchval("SELECT count(*) FROM contacts") == 4


async def test_many_contacts_take_no_more_statements_than_few(session: Session, statements: list[str]) -> None:
    for count in (2, 200):
        statements.clear()
        await people.create_all(
            session, made=[made(f"{i}", f"{count} {i}", f"x {i % 50}") for i in range(count)], by="test", now=NOW
        )
        assert len(statements) <= 4


@pytest.mark.parametrize("seed", range(5))
async def test_a_batch_ends_as_the_same_contacts_one_by_one(session: Session, seed: int) -> None:
    chance = random.Random(seed)
    wanted = [made(f"{i}", *chance.sample("ABCDEFGHIJKL", chance.randint(0, 3))) for i in range(12)]
    expected: dict[str, UUID] = {}
    for contact in wanted:
        cards = [identity.value for identity in contact.identities]
        if not any(value in expected for value in cards):
            expected.update(dict.fromkeys(cards, contact.id))
    for part in (wanted[:5], wanted[5:]):
        await people.create_all(session, made=part, by="test", now=NOW)
    assert await directory(session) == await owned(session) == expected


async def test_of_two_at_the_same_time_one_gets_the_identity(database: Database) -> None:
    async def attempt(number: int) -> Contact | IdentityTaken:
        try:
            async with database.begin() as session:
                return await create(session, f"{number}", cards=[f"own {number}", "SHARED"])
        except IdentityTaken as error:
            return error

    results = await asyncio.gather(*(attempt(number) for number in range(12)))
    winners = [result for result in results if isinstance(result, Contact)]
    assert len(winners) == 1
    losers = [result for result in results if isinstance(result, IdentityTaken)]
    assert {loser.members["contact_id"] for loser in losers} == {str(winners[0].id)}
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contacts") == 1
        assert await directory(session) == await owned(session)
        assert len(await directory(session)) == 2


async def test_batches_that_want_the_same_in_any_order_do_not_block_each_other(database: Database) -> None:
    async def attempt(wanted: list[Contact]) -> list[Contact | IdentityTaken]:
        async with database.begin() as session:
            return await people.create_all(session, made=wanted, by="test", now=NOW)

    batches = [[made(f"{i}", f"C{i}", f"C{i + 800}") for i in range(800)] for _ in range(6)]
    for batch in batches[::2]:
        batch.reverse()
    results = await asyncio.gather(*(attempt(batch) for batch in batches))
    assert sum(isinstance(result, Contact) for batch in results for result in batch) == 800
    async with database.reading() as session:
        assert await directory(session) == await owned(session)


async def test_two_first_messages_from_an_unknown_number_make_one_contact(database: Database) -> None:
    async def message(typed: str) -> UUID:
        async with database.begin() as session:
            return await people.resolve_or_create(session, sender=sender(typed, name="Sari"), by="test", now=NOW)

    found = await asyncio.gather(*(message(typed) for typed in ["0812 3456 789", "+628123456789"] * 6))
    assert len(set(found)) == 1
    async with database.reading() as session:
        assert await session.fetchval("SELECT count(*) FROM contacts") == 1
        contact = await contacts.get(session, contact_id=found[0])
        assert (contact.name, contact.identities[0].value) == ("Sari", "+628123456789")
        assert await told(session, contact.id) == [("contact.created", {})]


async def test_a_known_sender_costs_one_query(session: Session, statements: list[str]) -> None:
    known = await people.resolve_or_create(session, sender=sender("0812 3456 789"), by="test", now=NOW)
    statements.clear()
    assert await people.resolve_or_create(session, sender=sender("+62 8123456789"), by="test", now=NOW) == known
    assert len(statements) == 1
    assert (await contacts.get(session, contact_id=known)).name == "0812 3456 789"


async def test_senders_are_resolved_in_their_order(session: Session) -> None:
    first = await people.resolve_or_create(session, sender=sender("08111111111"), by="test", now=NOW)
    found = await people.resolve_or_create_all(
        session, senders=[sender("08122222222"), sender("+628111111111"), sender("0812 2222 222", name="Again")],
        by="test", now=NOW,
    )  # fmt: skip
    assert found[1] == first
    assert found[0] == found[2] != first


@pytest.mark.parametrize(("shown", "kept"), [("  ", "0812 3456 789"), ("a\x00b ", "ab"), ("x" * 300, "x" * 200)])
async def test_a_sender_may_call_themselves_anything(session: Session, shown: str, kept: str) -> None:
    known = await people.resolve_or_create(session, sender=sender("0812 3456 789", name=shown), by="test", now=NOW)
    assert (await contacts.get(session, contact_id=known)).name == kept


async def test_without_its_account_an_identity_of_two_contacts_is_ambiguous(session: Session) -> None:
    owners = []
    for name in ("page 1", "page 2"):
        draft = Draft(name=name, identities=[NewIdentity(kind="messenger", value="42", account=name)])
        owners.append(await people.create(session, draft=draft, region="ID", by="test", now=NOW))
    with pytest.raises(IdentityAmbiguous) as caught:
        await identities.resolve(session, kind="messenger", value="42", region="ID")
    assert caught.value.members["candidates"] == [
        {"contact_id": str(contact.id), "account": contact.name} for contact in owners
    ]
    for contact in owners:
        found = await identities.resolve(session, kind="messenger", value="42", account=contact.name, region="ID")
        assert found == contact.id
    assert await identities.resolve(session, kind="messenger", value="42", account="page 3", region="ID") is None


async def test_one_contact_may_have_a_value_in_two_accounts(session: Session) -> None:
    wanted = [NewIdentity(kind="line", value="U1", account=account) for account in ("a", "b")]
    contact = await people.create(session, draft=Draft(name="S", identities=wanted), region="ID", by="test", now=NOW)
    assert await identities.resolve(session, kind="line", value="U1", region="ID") == contact.id


async def test_a_change_is_told_with_what_was_before(session: Session) -> None:
    contact = await create(session, given_name="Sari", tags=["vip"], attributes={"a": 1, "same": True})
    after = await people.update(
        session, contact_id=contact.id, changes={"given_name": None, "tags": ["new"], "attributes": {"a": True}},
        by="test", now=LATER,
    )  # fmt: skip
    assert after == replace(
        contact, given_name=None, tags=["new"], attributes={"a": True, "same": True}, version=2, updated_at=LATER
    )
    assert await contacts.get(session, contact_id=contact.id) == after
    assert (await told(session, contact.id))[1:] == [
        (
            "contact.updated",
            {
                "before": {"given_name": "Sari", "tags": ["vip"], "attributes": {"a": 1}},
                "after": {"given_name": None, "tags": ["new"], "attributes": {"a": True}},
            },
        )
    ]
    assert (await contacts.get(session, contact_id=contact.id)).attributes["a"] is True


async def test_a_change_of_nothing_is_not_told(session: Session) -> None:
    contact = await create(session, cards=["C1"], tags=["vip"], attributes={"a": 1})
    for changes in ({}, {"name": "Sari Dewi"}, {"tags": ["vip"], "attributes": {"a": 1, "b": None}}):
        after = await people.update(session, contact_id=contact.id, changes=changes, by="test", now=LATER)
        assert after == contact
    await people.add_tag(session, contact_id=contact.id, tag=" vip", by="test", now=LATER)
    await people.remove_tag(session, contact_id=contact.id, tag="none", by="test", now=LATER)
    await people.add_identity(session, contact_id=contact.id, identity=card("c1"), by="test", now=LATER)
    assert await contacts.get(session, contact_id=contact.id) == contact
    assert len(await told(session, contact.id)) == 1


async def test_a_stale_version_changes_nothing(session: Session) -> None:
    contact = await create(session)
    await people.update(session, contact_id=contact.id, changes={"name": "S"}, version=1, by="test", now=NOW)
    with pytest.raises(StaleContact):
        await people.update(session, contact_id=contact.id, changes={"name": "T"}, version=1, by="test", now=NOW)
    with pytest.raises(StaleContact):
        await people.delete(session, contact_id=contact.id, version=1)
    assert (await contacts.get(session, contact_id=contact.id)).name == "S"


async def test_changes_at_the_same_time_are_all_kept(database: Database) -> None:
    async with database.begin() as session:
        contact = await create(session)

    async def change(number: int) -> None:
        async with database.begin() as session:
            if number % 3 == 0:
                await people.add_tag(session, contact_id=contact.id, tag=f"t{number:02}", by="test", now=NOW)
            elif number % 3 == 1:
                changes = {"attributes": {f"a{number}": number}}
                await people.update(session, contact_id=contact.id, changes=changes, by="test", now=NOW)
            else:
                await people.add_identity(
                    session, contact_id=contact.id, identity=card(f"C{number}"), by="test", now=NOW
                )

    await asyncio.gather(*(change(number) for number in range(24)))
    async with database.reading() as session:
        after = await contacts.get(session, contact_id=contact.id)
        assert after.tags == [f"t{number:02}" for number in range(0, 24, 3)]
        assert after.attributes == {f"a{number}": number for number in range(1, 24, 3)}
        assert {i.value for i in after.identities} == {f"C{number}" for number in range(2, 24, 3)}
        assert after.version == 25
        assert len(await told(session, contact.id)) == 25


async def test_identities_stay_in_the_order_they_were_given(session: Session) -> None:
    contact = await create(session, cards=["C3", "C1"])
    for value in ("C2", "C0"):
        _, is_new = await people.add_identity(
            session, contact_id=contact.id, identity=card(value), by="test", now=LATER
        )
        assert is_new
    after = await contacts.get(session, contact_id=contact.id)
    assert [identity.value for identity in after.identities][:2] == ["C3", "C1"]
    assert after.version == 3


async def test_an_identity_can_be_verified_later_and_stays_verified(session: Session) -> None:
    contact = await create(session, cards=["C1"])
    proven = replace(card("c 1"), verified=True)
    for identity in (proven, card("C1")):
        kept, is_new = await people.add_identity(session, contact_id=contact.id, identity=identity, by="test", now=NOW)
        assert kept == Identity("card", "", "C1", "C1", verified=True)
        assert not is_new
    assert (await contacts.get(session, contact_id=contact.id)).identities == [kept]


async def test_a_removed_identity_is_free_for_others(session: Session) -> None:
    contact = await create(session, cards=["C1", "C2"])
    address = Address("C1", "card")
    await people.remove_identity(session, contact_id=contact.id, address=address, by="test", now=NOW)
    assert await owner(session, "C1") is None
    with pytest.raises(IdentityNotFound):
        await people.remove_identity(session, contact_id=contact.id, address=address, by="test", now=NOW)
    other = await create(session, "Budi", cards=["C1"])
    assert await owner(session, "C1") == other.id
    assert await owner(session, "C2") == contact.id


async def test_a_contact_gets_only_so_many_tags_and_identities_one_by_one(session: Session) -> None:
    contact = await create(
        session, cards=[f"C{i}" for i in range(identities.COUNT_MAX_PER_KIND)], tags=[f"{i}" for i in range(100)]
    )
    with pytest.raises(InvalidContact):
        await people.add_identity(session, contact_id=contact.id, identity=card("more"), by="test", now=NOW)
    proven = replace(card("C1"), verified=True)
    kept, is_new = await people.add_identity(session, contact_id=contact.id, identity=proven, by="test", now=NOW)
    assert (kept.verified, is_new) == (True, False)
    for number in range(identities.COUNT_MAX - identities.COUNT_MAX_PER_KIND):
        other = Identity.of(kind=f"kind{number % 5}", value=f"V{number}", region="ID")
        await people.add_identity(session, contact_id=contact.id, identity=other, by="test", now=NOW)
    with pytest.raises(InvalidContact):
        one_more = Identity.of(kind="another", value="1", region="ID")
        await people.add_identity(session, contact_id=contact.id, identity=one_more, by="test", now=NOW)
    with pytest.raises(InvalidContact):
        await people.add_tag(session, contact_id=contact.id, tag="more", by="test", now=NOW)


async def test_a_contact_without_history_is_deleted_with_all_that_is_its(session: Session) -> None:
    contact = await create(session, cards=["C1"], tags=["vip"], attributes={"a": 1})
    await people.update(session, contact_id=contact.id, changes={"name": "S"}, by="test", now=NOW)
    await people.delete(session, contact_id=contact.id)
    for table in ("contacts", "contact_identities", "contact_tags", "identity_directory"):
        assert await session.fetchval(f"SELECT count(*) FROM {table}") == 0
    with pytest.raises(ContactNotFound):
        await people.delete(session, contact_id=contact.id)
    await create(session, cards=["C1"])


async def test_a_contact_with_history_is_kept(session: Session) -> None:
    contact = await create(session, cards=["C1"])
    entry = timeline.entry(
        contact.id, channel="shop", kind="purchase", occurred_at=NOW, recorded_at=NOW, by="test", data={}
    )
    await writes.write(session, [timeline.part([entry])])
    with pytest.raises(HasHistory):
        await people.delete(session, contact_id=contact.id)
    assert await owner(session, "C1") == contact.id


async def test_a_contact_is_not_deleted_under_what_is_happening_with_it(database: Database) -> None:
    async with database.begin() as session:
        contact = await create(session)
    report = timeline.Report(channel="chat", kind="message", occurred_at=NOW)
    locked = asyncio.Event()

    async def happen() -> None:
        async with database.begin() as session:
            await timeline.record(session, contact_id=contact.id, report=report, by="test", now=NOW)
            locked.set()
            await asyncio.sleep(0.1)

    async def delete() -> None:
        await locked.wait()
        async with database.begin() as session:
            await people.delete(session, contact_id=contact.id)

    _, refusal = await asyncio.gather(happen(), delete(), return_exceptions=True)
    assert isinstance(refusal, HasHistory)


async def test_an_unknown_contact_is_not_found(session: Session) -> None:
    nobody = uuid7()
    for attempt in (
        contacts.get(session, contact_id=nobody),
        people.update(session, contact_id=nobody, changes={}, by="test", now=NOW),
        people.add_tag(session, contact_id=nobody, tag="vip", by="test", now=NOW),
        people.add_identity(session, contact_id=nobody, identity=card("C1"), by="test", now=NOW),
        people.delete(session, contact_id=nobody),
    ):
        with pytest.raises(ContactNotFound):
            await attempt
    with pytest.raises(InvalidIdentity):
        await identities.resolve(session, kind="phone", value="nobody", region="ID")


async def test_the_longest_identity_fits_its_indexes(session: Session) -> None:
    wide = "\U0001f600" * 255
    wanted = NewIdentity(kind="x" * 63, value=wide, account="\U0001f600" * 100)
    contact = await people.create(session, draft=Draft(name="S", identities=[wanted]), region="ID", by="test", now=NOW)
    assert await contacts.get(session, contact_id=contact.id) == contact
