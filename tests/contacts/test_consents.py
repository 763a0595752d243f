"""What may be sent to whom: the rules, by what was said and in which order."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.contacts import consents, contribution, contributions
from crm.contacts.consents import UnspecificMessage
from crm.contacts.contacts import ContactNotFound
from crm.contacts.drafts import Draft, NewIdentity
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.errors import CrmError
from crm.interactions import consenting, people
from crm.interactions.consenting import Declaration

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EVERYWHERE = (
    ("phone", "0812 3456 789"), ("email", "sari@example.com"), ("whatsapp", "0812 3456 789"), ("telegram", "42"),
)  # fmt: skip


async def person(session: Session, *addresses: tuple[str, str]) -> UUID:
    wanted = [NewIdentity(kind=kind, value=value) for kind, value in addresses]
    draft = Draft(name="Sari", identities=wanted)
    return (await people.create(session, draft=draft, region="ID", by="test", now=NOW)).id


async def say(session: Session, contact_id: UUID, *said: str, since: datetime = NOW) -> None:
    """Each is "+whatsapp.marketing" or "-whatsapp.marketing"; one a day, in order."""
    for number, text in enumerate(said):
        channel, _, purpose = text[1:].partition(".")
        declaration = Declaration(
            channel=channel, purpose=purpose, status="granted" if text[0] == "+" else "denied",
            occurred_at=since - 100 * DAY + number * DAY,
        )  # fmt: skip
        await consenting.record(session, contact_id=contact_id, declaration=declaration, by="test", now=NOW)


async def why_not(session: Session, contact_id: UUID, asked: str) -> str | None:
    channel, _, purpose = asked.partition(".")
    found = await consents.may_send(session, contact_id=contact_id, channel=channel, purpose=purpose)
    assert found.allowed is (found.why_not is None)
    return found.why_not


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        # Nothing was said.
        ([], "whatsapp.marketing", "no_consent"),
        ([], "whatsapp.survey", "no_consent"),
        ([], "whatsapp.service", None),
        # What was said of it last.
        (["+whatsapp.marketing"], "whatsapp.marketing", None),
        (["-whatsapp.marketing"], "whatsapp.marketing", "denied"),
        (["+whatsapp.marketing", "-whatsapp.marketing"], "whatsapp.marketing", "denied"),
        (["-whatsapp.marketing", "+whatsapp.marketing"], "whatsapp.marketing", None),
        (["+whatsapp.marketing"], "email.marketing", "no_consent"),
        (["+whatsapp.marketing"], "whatsapp.survey", "no_consent"),
        (["-whatsapp.marketing"], "whatsapp.service", None),
        (["-whatsapp.marketing"], "email.service", None),
        (["-whatsapp.service"], "whatsapp.service", "denied"),
        (["-whatsapp.service", "+whatsapp.marketing"], "whatsapp.marketing", None),
        # A grant holds for all of it.
        (["+all.marketing"], "whatsapp.marketing", None),
        (["+whatsapp.all"], "whatsapp.marketing", None),
        (["+all.all"], "email.survey", None),
        (["+all.marketing"], "whatsapp.survey", "no_consent"),
        # A denial holds for all of it.
        (["+whatsapp.marketing", "-all.marketing"], "whatsapp.marketing", "denied"),
        (["+whatsapp.marketing", "-whatsapp.all"], "whatsapp.marketing", "denied"),
        (["-whatsapp.all"], "whatsapp.service", "denied"),
        (["-all.all"], "email.service", "denied"),
        (["-all.marketing"], "email.service", None),
        (["-whatsapp.all"], "email.marketing", "no_consent"),
        (["+all.all", "-whatsapp.all"], "email.marketing", None),
        # A part that is granted later is that part.
        (["-all.all", "+whatsapp.marketing"], "whatsapp.marketing", None),
        (["-all.all", "+whatsapp.marketing"], "whatsapp.service", "denied"),
        (["-all.all", "+whatsapp.marketing"], "email.marketing", "denied"),
        (["-all.all", "+all.marketing"], "email.marketing", None),
        (["-all.all", "+whatsapp.all"], "whatsapp.service", None),
        (["-all.all", "+all.all"], "whatsapp.marketing", None),
        (["+whatsapp.marketing", "-all.all", "+email.marketing"], "whatsapp.marketing", "denied"),
        # More that is granted later is not what was denied.
        (["-whatsapp.marketing", "+all.marketing"], "whatsapp.marketing", "denied"),
        (["-whatsapp.marketing", "+whatsapp.all"], "whatsapp.marketing", "denied"),
        (["-whatsapp.marketing", "+all.all"], "whatsapp.marketing", "denied"),
        (["-whatsapp.marketing", "+all.all"], "email.marketing", None),
        (["-all.marketing", "+whatsapp.all"], "whatsapp.marketing", "denied"),
        (["-whatsapp.all", "+all.marketing"], "whatsapp.marketing", "denied"),
        (["-whatsapp.all", "-all.marketing", "+whatsapp.marketing"], "whatsapp.marketing", None),
        (["-whatsapp.all", "+whatsapp.marketing", "-all.marketing"], "whatsapp.marketing", "denied"),
    ],
)
async def test_what_was_said_decides(session: Session, said: list[str], asked: str, expected: str | None) -> None:
    sari = await person(session, *EVERYWHERE)
    await say(session, sari, *said)
    assert await why_not(session, sari, asked) == expected


@pytest.mark.parametrize(
    ("channel", "kinds", "expected"),
    [
        ("whatsapp", ["whatsapp"], None), ("whatsapp", ["phone"], "no_address"),
        ("whatsapp", ["whatsapp_bsuid"], None), ("sms", ["phone"], None), ("phone", ["phone"], None),
        ("email", ["email"], None), ("email", ["phone", "card"], "no_address"), ("telegram", ["telegram"], None),
        ("telegram", [], "no_address"), ("chat", [], None), ("in_person", [], None), ("pager", ["pager"], None),
    ],
)  # fmt: skip
async def test_a_message_needs_an_address_of_its_channel(
    session: Session, channel: str, kinds: list[str], expected: str | None
) -> None:
    values = {"email": "a@example.com", "phone": "0812 3456 789", "whatsapp": "628123456789"}
    sari = await person(session, *((kind, values.get(kind, "x-1")) for kind in kinds))
    assert await why_not(session, sari, f"{channel}.service") == expected


async def test_a_disputed_address_reaches_nobody(session: Session) -> None:
    sari = await person(session, ("email", "sari@example.com"))
    assert await why_not(session, sari, "email.service") is None
    proven = NewIdentity(kind="email", value="sari@example.com", verified=True)
    draft = Draft(name="Sari, really", identities=[proven])
    really = (await people.create(session, draft=draft, region="ID", by="test", now=NOW)).id
    assert await why_not(session, sari, "email.service") == "no_address"
    assert await why_not(session, really, "email.service") is None


async def test_a_denial_weighs_more_than_a_missing_address(session: Session) -> None:
    sari = await person(session)
    assert await why_not(session, sari, "email.marketing") == "no_consent"
    await say(session, sari, "-email.marketing")
    assert await why_not(session, sari, "email.marketing") == "denied"


async def test_the_consent_that_decided_is_named(session: Session) -> None:
    sari = await person(session, *EVERYWHERE)
    await say(session, sari, "+whatsapp.marketing", "-all.marketing")
    history = await consents.page(session, contact_id=sari, limit=10)
    found = await consents.may_send(session, contact_id=sari, channel="whatsapp", purpose="marketing")
    assert (found.consent_id, history[0].status) == (history[0].id, "denied")
    service = await consents.may_send(session, contact_id=sari, channel="whatsapp", purpose="service")
    assert service.consent_id is None


async def test_what_is_told_late_counts_from_when_it_was_said(session: Session) -> None:
    sari = await person(session, *EVERYWHERE)
    await say(session, sari, "-whatsapp.marketing")
    await say(session, sari, "+whatsapp.marketing", since=NOW - DAY)  # recorded later, said before
    assert await why_not(session, sari, "whatsapp.marketing") == "denied"


async def test_of_two_of_the_same_instant_the_one_recorded_last_holds(session: Session) -> None:
    sari = await person(session, *EVERYWHERE)
    for status, now in (("granted", NOW), ("denied", NOW + DAY)):
        said = Declaration(channel="email", purpose="marketing", status=status, occurred_at=NOW - DAY)  # type: ignore[arg-type]
        await consenting.record(session, contact_id=sari, declaration=said, by="test", now=now)
    assert await why_not(session, sari, "email.marketing") == "denied"


async def test_many_are_asked_about_in_one_query(session: Session, statements: list[str]) -> None:
    yes, no, nobody = await person(session, ("email", "a@example.com")), await person(session), uuid7()
    await say(session, yes, "+email.marketing")
    statements.clear()
    found = await consents.may_send_all(session, contact_ids=[yes, no, nobody], channel="email", purpose="marketing")
    assert len(statements) == 1
    assert {one: found[one].why_not for one in found} == {yes: None, no: "no_consent", nobody: "unknown_contact"}


async def test_who_is_nobody_and_what_is_nothing_in_particular_is_refused(session: Session) -> None:
    with pytest.raises(ContactNotFound):
        await consents.may_send(session, contact_id=uuid7(), channel="email", purpose="service")
    sari = await person(session, *EVERYWHERE)
    for channel, purpose in (("all", "service"), ("email", "all")):
        with pytest.raises(UnspecificMessage):
            await consents.may_send(session, contact_id=sari, channel=channel, purpose=purpose)


async def test_a_page_of_a_long_history_reads_no_more_than_its_rows(session: Session) -> None:
    sari = await person(session)
    said = [
        Declaration(channel="email", purpose="marketing", status="granted", occurred_at=NOW - number * DAY)
        for number in range(3_000)
    ]
    await consenting.record_all(session, declarations=[(sari, one) for one in said], by="test", now=NOW)
    await session.execute("ANALYZE consents")
    whole = await consents.page(session, contact_id=sari, limit=3_000)
    assert [one.occurred_at for one in whole] == [one.occurred_at for one in said]
    last = whole[2_000]
    before = (last.occurred_at, last.id)
    assert await consents.page(session, contact_id=sari, before=before, limit=50) == whole[2_001:2_051]
    await session.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    await session.execute(f"PREPARE page (uuid, int, text, text, timestamptz, uuid) AS {consents._PAGE}")
    explained = await session.fetchval(
        f"""
        EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
        EXECUTE page ('{sari}', 51, NULL, NULL, '{last.occurred_at.isoformat()}', '{last.id}')
        """
    )
    await session.execute("DEALLOCATE page")
    plan = json.loads(explained)[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 20


@pytest.mark.parametrize(
    ("said", "asked", "found"),
    [
        ([], "whatsapp.marketing", None),
        (["+whatsapp.marketing"], "whatsapp.marketing", "granted"),
        (["+whatsapp.marketing", "-all.marketing"], "whatsapp.marketing", "denied"),
        (["-all.all", "+whatsapp.marketing"], "whatsapp.marketing", "granted"),
        (["+all.marketing"], "sms.marketing", "granted"),
        (["-all.all"], "whatsapp.all", "denied"),
        (["-whatsapp.marketing"], "whatsapp.all", None),
    ],
)
async def test_conditions_read_what_holds(session: Session, said: list[str], asked: str, found: str | None) -> None:
    sari = await person(session)
    await say(session, sari, *said)
    field = contributions.fields_of([contribution.CONTRIBUTION]).find(f"consents.{asked}")
    assert field is not None
    read: Any = await contributions.read(
        session, contributions=[contribution.CONTRIBUTION], fields=[field], contact_ids=[sari], asked={}
    )
    assert read == {sari: {f"consents.{asked}": found}}


@pytest.mark.parametrize("name", ["consents.whatsapp", "consents.", "consents.a.b.c", "consents.A.b", "consents..b"])
def test_a_condition_names_a_channel_and_a_purpose(name: str) -> None:
    assert contributions.fields_of([contribution.CONTRIBUTION]).find(name) is None


async def test_of_many_each_is_judged_for_itself(session: Session, statements: list[str]) -> None:
    sari, budi, nobody = await person(session), await person(session), uuid7()

    def said(contact_id: UUID, **changed: Any) -> tuple[UUID, Declaration]:
        given = {"channel": "email", "purpose": "marketing", "status": "denied", "occurred_at": NOW, **changed}
        return contact_id, Declaration(**given)

    declarations = [
        said(sari, external_id="1"), said(nobody), said(sari, external_id="1", status="granted"),
        said(budi, external_id="1"), said(budi, occurred_at=NOW + 2 * DAY), said(budi), said(budi, external_id="2"),
    ]  # fmt: skip
    statements.clear()
    results = await consenting.record_all(session, declarations=declarations, by="test", now=NOW)
    assert len(statements) == 3
    outcomes = [result.code if isinstance(result, CrmError) else result[1] for result in results]
    assert outcomes == [True, "contact_not_found", False, "external_id_taken", "in_the_future", True, True]
    assert results[2] == (results[0][0], False)  # type: ignore[index]
    assert await session.fetchval("SELECT count(*) FROM consents") == 3
    assert await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'consent.denied'") == 3
