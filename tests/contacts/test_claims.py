"""Whose an address is when several say that it is theirs: the rules one by one, and at the same moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crm.contacts import contacts, drafts, identities
from crm.contacts.addresses import Address
from crm.contacts.claims import IdentityBlocked
from crm.contacts.contacts import Contact
from crm.contacts.drafts import Draft, NewIdentity
from crm.contacts.identities import Identity, IdentityTaken
from crm.db.session import Database, Session
from crm.errors import CrmError
from crm.interactions import blocking, people
from crm.interactions.people import Sender

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PHONE = "+628123456789"


def wanted(*values: str) -> list[NewIdentity]:
    """Cards; "A!" is one that is proven to be theirs."""
    return [NewIdentity(kind="card", value=value.rstrip("!"), verified=value.endswith("!")) for value in values]


def made(name: str, *values: str) -> Contact:
    return drafts.contact_of(Draft(name=name, identities=wanted(*values)), region="ID", now=NOW)


def card(value: str) -> Identity:
    return Identity.of(kind="card", value=value.rstrip("!"), verified=value.endswith("!"), region="ID")


async def create(session: Session, name: str, *values: str, disputing: bool = False) -> Contact:
    draft = Draft(name=name, identities=wanted(*values))
    return await people.create(session, draft=draft, region="ID", disputing=disputing, by="test", now=NOW)


async def block(session: Session, value: str) -> None:
    await blocking.block(session, kind="card", value=value, reason="ours", region="ID", by="test", once=None, now=NOW)


async def attempt(session: Session, *values: str, name: str = "N", disputing: bool = False) -> Contact | str:
    """Make a contact, or say which code refuses it."""
    try:
        async with session.savepoint():
            return await create(session, name, *values, disputing=disputing)
    except CrmError as error:
        return error.code


async def owners(session: Session) -> dict[str, UUID]:
    return {row["value"]: row["contact_id"] for row in await session.fetch("SELECT * FROM identity_directory")}


async def shown(session: Session, contact_id: UUID) -> list[str]:
    """Each with "!" where it is verified and "?" where it is disputed."""
    contact = await contacts.get(session, contact_id=contact_id)
    return [f"{one.value}{'!' if one.verified else ''}{'?' if one.disputed else ''}" for one in contact.identities]


async def pairs(session: Session) -> list[tuple[frozenset[UUID], str, list[str]]]:
    rows = await session.fetch("SELECT * FROM duplicate_pairs ORDER BY contact_id, other_id")
    assert all(row["contact_id"] < row["other_id"] for row in rows)
    return [
        (frozenset((row["contact_id"], row["other_id"])), row["status"], [one["code"] for one in row["reasons"]])
        for row in rows
    ]


async def told(session: Session, contact_id: UUID) -> list[tuple[str, Any]]:
    rows = await session.fetch("SELECT kind, data FROM interactions WHERE contact_id = $1 ORDER BY id", contact_id)
    return [(row["kind"], row["data"]) for row in rows]


@pytest.mark.parametrize(
    ("held", "claimed", "outcome", "holder_shows", "claimant_shows"),
    [
        (None, "A", "claimant", None, ["A"]),
        (None, "A!", "claimant", None, ["A!"]),
        ("A", "A", "identity_taken", ["A"], None),
        ("A", "A!", "claimant", ["A?"], ["A!"]),
        ("A!", "A", "identity_taken", ["A!"], None),
        ("A!", "A!", "identity_taken", ["A!"], None),
        ("blocked", "A", "invalid_identity", None, None),
        ("blocked", "A!", "invalid_identity", None, None),
    ],
)
@pytest.mark.parametrize("way", ["create", "add"])
async def test_the_rules_in_their_order(
    session: Session, way: str, held: str | None, claimed: str, outcome: str, holder_shows: Any, claimant_shows: Any
) -> None:
    holder: Contact | None = None
    if held == "blocked":
        await block(session, "A")
    elif held is not None:
        holder = await create(session, "holder", held)
    before = await owners(session)
    result: Contact | str
    if way == "create":
        result = await attempt(session, claimed)
    else:
        claimant = await create(session, "claimant")
        try:
            async with session.savepoint():
                await people.add_identity(session, contact_id=claimant.id, identity=card(claimed), by="test", now=NOW)
            result = claimant
        except CrmError as error:
            result = error.code
    if outcome == "claimant":
        assert isinstance(result, Contact)
        assert await owners(session) == {"A": result.id}
        assert await shown(session, result.id) == claimant_shows
    else:
        assert result == outcome
        assert await owners(session) == before
    if holder is not None:
        assert await shown(session, holder.id) == holder_shows


async def test_whoever_loses_an_address_is_told_and_a_suggestion_is_made(session: Session) -> None:
    holder = await create(session, "holder", "A", "B")
    claimant = await create(session, "claimant", "A!")
    after = await contacts.get(session, contact_id=holder.id)
    assert after.version == 2
    lost = {"kind": "card", "account": "", "value": "A", "raw": "A", "verified": False, "disputed": False}
    assert (await told(session, holder.id))[1:] == [
        (
            "contact.updated",
            {
                "before": {"identities": [lost]},
                "after": {"identities": [lost | {"disputed": True}]},
                "identity_owner_id": str(claimant.id),
            },
        )
    ]
    assert await pairs(session) == [(frozenset((holder.id, claimant.id)), "open", ["disputed_identity"])]
    assert await shown(session, holder.id) == ["A?", "B"]


async def test_a_disputed_address_finds_its_owner_only(session: Session) -> None:
    holder = await create(session, "holder", "A")
    claimant = await create(session, "claimant", "A!")
    sender = Sender.of(kind="card", value="a", region="ID")
    assert await people.resolve_or_create(session, sender=sender, by="test", now=NOW) == claimant.id
    await people.remove_identity(session, contact_id=claimant.id, address=Address("A", "card"), by="test", now=NOW)
    assert await shown(session, holder.id) == ["A?"]
    assert await identities.resolve(session, kind="card", value="A", region="ID") is None


@pytest.mark.parametrize(
    ("owner", "again", "expected", "holder_shows"),
    [
        ("A!", "A", "identity_taken", ["A?"]),
        ("A!", "A!", "identity_taken", ["A?"]),
        (None, "A", None, ["A"]),
        (None, "A!", None, ["A!"]),
    ],
)
async def test_a_disputed_address_can_be_claimed_again(
    session: Session, owner: str | None, again: str, expected: str | None, holder_shows: list[str]
) -> None:
    holder = await create(session, "holder", "A")
    claimant = await create(session, "claimant", "A!")
    if owner is None:
        await people.remove_identity(session, contact_id=claimant.id, address=Address("A", "card"), by="test", now=NOW)
    code = None
    try:
        async with session.savepoint():
            _, is_new = await people.add_identity(
                session, contact_id=holder.id, identity=card(again), by="test", now=NOW
            )
            assert not is_new
    except CrmError as error:
        code = error.code
    assert code == expected
    assert await shown(session, holder.id) == holder_shows
    assert await owners(session) == {"A": claimant.id if expected else holder.id}


async def test_a_holder_who_gives_up_a_disputed_address_takes_nothing_from_its_owner(session: Session) -> None:
    holder = await create(session, "holder", "A")
    claimant = await create(session, "claimant", "A!")
    await people.remove_identity(session, contact_id=holder.id, address=Address("A", "card"), by="test", now=NOW)
    assert await owners(session) == {"A": claimant.id}
    other = await create(session, "other", "B")
    await create(session, "claimant of B", "B!")
    await people.delete(session, contact_id=other.id)
    assert set(await owners(session)) == {"A", "B"}


async def test_a_contact_can_be_made_with_what_others_own(session: Session) -> None:
    holder = await create(session, "holder", "A")
    result = await attempt(session, "A", "B", disputing=True)
    assert isinstance(result, Contact)
    assert [(one.value, one.disputed) for one in result.identities] == [("A", True), ("B", False)]
    assert await shown(session, result.id) == ["A?", "B"]
    assert await owners(session) == {"A": holder.id, "B": result.id}
    assert await shown(session, holder.id) == ["A"]
    assert await pairs(session) == [(frozenset((holder.id, result.id)), "open", ["disputed_identity"])]
    await block(session, "C")
    assert await attempt(session, "C", disputing=True) == "invalid_identity"


async def test_what_is_disputed_already_claims_nothing(session: Session) -> None:
    holder = await create(session, "holder", "A")
    known = made("knows", "A")
    known = replace(known, identities=[identities.disputed(one) for one in known.identities])
    assert await people.create_all(session, made=[known], by="test", now=NOW) == [known]
    assert await owners(session) == {"A": holder.id}


async def test_a_batch_is_judged_as_if_one_came_after_the_other(session: Session) -> None:
    before = await create(session, "before", "A")
    await block(session, "Z")
    batch = [
        made("takes A", "A!"), made("too late for A", "A!"), made("first of B", "B"), made("proves B", "B!"),
        made("blocked, so its C is free", "C!", "Z"), made("gets C", "C"), made("refused", "B", "D"),
        made("gets D", "D"),
    ]  # fmt: skip
    results = await people.create_all(session, made=batch, by="test", now=NOW)
    codes = [result.code if isinstance(result, CrmError) else None for result in results]
    assert codes == [None, "identity_taken", None, None, "invalid_identity", None, "identity_taken", None]
    assert await owners(session) == {"A": batch[0].id, "B": batch[3].id, "C": batch[5].id, "D": batch[7].id}
    assert await shown(session, before.id) == ["A?"]
    first = results[2]
    assert isinstance(first, Contact)
    assert first.identities[0].disputed
    assert await shown(session, first.id) == ["B?"]
    assert {pair for pair, _, _ in await pairs(session)} == {
        frozenset((before.id, batch[0].id)), frozenset((batch[2].id, batch[3].id)),
    }  # fmt: skip
    refusal = results[4]
    assert isinstance(refusal, IdentityBlocked)
    assert refusal.errors[0].pointer == "/identities/1/value"


async def test_contacts_without_proof_cost_no_more_than_ever(session: Session, statements: list[str]) -> None:
    await create(session, "new", "A", "B")
    assert len(statements) == len(["claim", "erased?", "write"])
    statements.clear()
    sender = Sender.of(kind="card", value="C", verified=True, region="ID")
    await people.resolve_or_create(session, sender=sender, by="test", now=NOW)
    assert len(statements) == len(["find", "claim", "erased?", "write"])
    statements.clear()
    await people.resolve_or_create(session, sender=sender, by="test", now=NOW)
    assert len(statements) == 1


# ---------------------------------------------------------------- blocked


async def test_a_blocked_address_is_nobodys_from_then_on(session: Session) -> None:
    holder = await create(session, "holder", "A", "B!")
    for value in ("A", "B"):
        await block(session, value)
    assert await shown(session, holder.id) == ["A?", "B!?"]
    assert await owners(session) == {}
    assert (await contacts.get(session, contact_id=holder.id)).version == 3
    assert [kind for kind, _ in await told(session, holder.id)] == ["contact.created", *["contact.updated"] * 2]
    with pytest.raises(IdentityBlocked) as caught:
        await people.resolve_or_create(
            session, sender=Sender.of(kind="card", value="a", verified=True, region="ID"), by="test", now=NOW
        )
    assert caught.value.errors[0].pointer == "/identity/value"
    with pytest.raises(IdentityBlocked):
        await people.add_identity(session, contact_id=holder.id, identity=card("A!"), by="test", now=NOW)
    assert await session.fetchval("SELECT count(*) FROM contacts") == 1


async def test_an_address_is_blocked_on_every_account_and_in_its_kind_only(session: Session) -> None:
    kept = [NewIdentity(kind="messenger", value="42", account=page) for page in ("page 1", "page 2")]
    draft = Draft(name="S", identities=[*kept, NewIdentity(kind="instagram", value="42")])
    holder = await people.create(session, draft=draft, region="ID", by="test", now=NOW)
    await blocking.block(session, kind="messenger", value="42", reason=None, region="ID", by="test", once=None, now=NOW)
    assert await shown(session, holder.id) == ["42?", "42?", "42"]


async def test_of_many_senders_only_the_blocked_one_is_refused(session: Session) -> None:
    await block(session, "B")
    senders = [Sender.of(kind="card", value=value, region="ID") for value in ("A", "B", "C")]
    found = await people.resolve_or_create_all(session, senders=senders, by="test", now=NOW)
    assert [isinstance(one, IdentityBlocked) for one in found] == [False, True, False]
    assert set(await owners(session)) == {"A", "C"}


# ---------------------------------------------------------------- at the same moment


async def claimed(database: Database, contact_id: UUID, value: str) -> str | None:
    """Claim a card for a contact, with the code that refuses it."""
    try:
        async with database.begin() as session:
            await people.add_identity(session, contact_id=contact_id, identity=card(value), by="test", now=NOW)
    except CrmError as error:
        return error.code
    return None


async def lives(database: Database, names: Sequence[str], *values: str) -> list[UUID]:
    async with database.begin() as session:
        return [(await create(session, name, *values)).id for name in names]


async def test_of_two_who_prove_the_same_address_at_once_one_gets_it(database: Database) -> None:
    for _ in range(5):
        [holder] = await lives(database, ["holder"], "A")
        claimants = await lives(database, [f"{number}" for number in range(6)])
        codes = await asyncio.gather(*(claimed(database, one, "A!") for one in claimants))
        assert sorted(map(str, codes)) == ["None", *["identity_taken"] * 5]
        winner = claimants[codes.index(None)]
        async with database.begin() as session:
            assert await owners(session) == {"A": winner}
            assert await shown(session, holder) == ["A?"]
            assert [await shown(session, one) for one in claimants] == [
                ["A!"] if one == winner else [] for one in claimants
            ]
            assert [pair for pair, _, _ in await pairs(session)] == [frozenset((holder, winner))]
            await session.execute("TRUNCATE contacts, contact_identities, identity_directory, duplicate_pairs")


async def test_of_two_new_contacts_who_prove_the_same_address_at_once_one_is_made(database: Database) -> None:
    [holder] = await lives(database, ["holder"], "A")

    async def attempt_one(number: int) -> Contact | CrmError:
        async with database.begin() as session:
            return (await people.create_all(session, made=[made(f"{number}", "A!")], by="test", now=NOW))[0]

    results = await asyncio.gather(*(attempt_one(number) for number in range(8)))
    winners = [result for result in results if isinstance(result, Contact)]
    assert len(winners) == 1
    assert {type(result) for result in results if not isinstance(result, Contact)} == {IdentityTaken}
    async with database.reading() as session:
        assert await owners(session) == {"A": winners[0].id}
        assert await shown(session, holder) == ["A?"]


async def test_a_takeover_and_the_holders_own_proof_at_once_leave_one_owner(database: Database) -> None:
    for _ in range(10):
        holder, claimant = (*await lives(database, ["holder"], "A"), *await lives(database, ["claimant"]))
        codes = await asyncio.gather(claimed(database, holder, "A!"), claimed(database, claimant, "A!"))
        assert sorted(map(str, codes)) == ["None", "identity_taken"]
        async with database.begin() as session:
            first, second = await shown(session, holder), await shown(session, claimant)
            assert (first, second) in ((["A!"], []), (["A?"], ["A!"]))
            assert await owners(session) == {"A": holder if first == ["A!"] else claimant}
            await session.execute("TRUNCATE contacts, contact_identities, identity_directory, duplicate_pairs")


async def test_a_takeover_and_the_holder_giving_it_up_at_once_leave_the_claimant_with_it(database: Database) -> None:
    for _ in range(10):
        holder, claimant = (*await lives(database, ["holder"], "A"), *await lives(database, ["claimant"]))

        async def give_up(holder: UUID = holder) -> None:
            async with database.begin() as session:
                await people.remove_identity(
                    session, contact_id=holder, address=Address("A", "card"), by="test", now=NOW
                )

        codes = await asyncio.gather(claimed(database, claimant, "A!"), give_up())
        assert codes == [None, None]
        async with database.begin() as session:
            assert await owners(session) == {"A": claimant}
            assert await shown(session, holder) == []
            await session.execute("TRUNCATE contacts, contact_identities, identity_directory, duplicate_pairs")


async def test_two_who_take_from_each_other_at_once_both_succeed(database: Database) -> None:
    for _ in range(5):
        [sari] = await lives(database, ["sari"], "A")
        [budi] = await lives(database, ["budi"], "B")
        codes = await asyncio.gather(claimed(database, sari, "B!"), claimed(database, budi, "A!"))
        assert codes == [None, None]
        async with database.begin() as session:
            assert await owners(session) == {"A": budi, "B": sari}
            assert [set(await shown(session, one)) for one in (sari, budi)] == [{"A?", "B!"}, {"B?", "A!"}]
            await session.execute("TRUNCATE contacts, contact_identities, identity_directory, duplicate_pairs")
