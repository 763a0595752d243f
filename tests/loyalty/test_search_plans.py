"""What a search costs among a hundred thousand contacts, counted and not timed: it reads what it finds, and no more."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest

from benchmarks import crowd, history
from crm.contacts import search, segments
from crm.contacts.segments import Definition, Segment
from crm.db.session import Database, Session
from crm.interactions import segmentation, selections
from crm.interactions.selections import Selection
from crm.loyalty.vocabulary import VOCABULARY
from tests.conftest import Template

CONTACTS: Final = 100_000
PAGES_MAX: Final = 15_000
"""Looked at for one page of contacts; to ask everybody would be half a million."""
LARGE: Final = frozenset({
    "contacts", "contact_tags", "contact_identities", "identity_directory", "interactions", "loyalty_accounts",
    "segment_members",
})  # fmt: skip


def leaf(name: str, op: str, value: Any = True) -> dict[str, Any]:
    return {"field": name, "op": op, "value": value}


RARE = leaf("tags", "contains", "rare")
VIP = leaf("tags", "contains", "vip")
FOUND_BY: Final = {
    "a rare tag": (RARE, "contact_tags_tag_contact_id_idx"),
    "one of rare tags": (leaf("tags", "in", ["rare", "none"]), "contact_tags_tag_contact_id_idx"),
    "a rare attribute": (leaf("attributes.number", "eq", 777), "contacts_attributes_idx"),
    "one of rare attributes": (leaf("attributes.number", "in", [777, 778]), "contacts_attributes_idx"),
    "a birthday": (leaf("birth_on", "anniversary", "day"), "contacts_birthday_idx"),
    "a segment": (leaf("segments", "contains", "Rare"), "segment_members_segment_id_contact_id_idx"),
    "a rare tag beside others": (
        {"all": [RARE, {"did": "purchase"}, leaf("points.available", "gte", 1)]}, "contact_tags_tag_contact_id_idx",
    ),
}  # fmt: skip
"""What few contacts have, and the index that finds it."""
FREQUENT: Final = {
    "anybody": leaf("name", "exists"),
    "a frequent tag": VIP,
    "a frequent attribute": leaf("attributes.store", "eq", "S7"),
    "a tier": leaf("tier", "eq", "Silver"),
    "points": leaf("points.available", "gte", 4_000),
    "what happened": {"did": "purchase"},
    "what happened often": {"did": "purchase", "count": {"gte": 2}},
    "what did not happen": {"not": {"did": "purchase", "within": "P30D"}},
    "all of it": {"all": [VIP, leaf("points.available", "gte", 100), {"did": "message", "within": "P1Y"}]},
    "any of it": {"any": [RARE, leaf("attributes.store", "eq", "S7"), {"did": "purchase", "within": "P90D"}]},
}
"""What so many have that a page of them is found by looking at one contact after the other, in the order asked for."""
SORTS: Final = {
    "created_at": "contacts_created_at_id_idx", "-updated_at": "contacts_updated_at_id_idx",
    "name": "contacts_name_folded_id_idx",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grown:
    database: Database
    now: datetime


@pytest.fixture(scope="module")
async def grown(migrated: Template) -> AsyncIterator[Grown]:
    async with migrated.clone() as dsn:
        shop = await history.open_shop(dsn)
        await crowd.fill(dsn, program_id=shop.program_id, contacts=CONTACTS, interactions=3)
        database = await Database.connect(dsn, size_max=1)
        grown = Grown(database, datetime.now(UTC))
        for name, condition in (("Everybody", leaf("name", "exists")), ("Rare", RARE)):
            segment = await _made(grown, name, condition)
            await _evaluate(grown, segment.id)
        async with database.reading() as session:
            await session.execute("VACUUM ANALYZE segment_members, segments")
        yield grown
        await database.close()


async def _made(grown: Grown, name: str, condition: Any) -> Segment:
    definition = Definition(name=name, condition=condition)
    async with grown.database.begin() as session:
        return await segments.create(session, vocabulary=VOCABULARY, definition=definition, by="t", now=grown.now)


async def _evaluate(grown: Grown, segment_id: Any) -> None:
    going_on = True
    while going_on:
        async with grown.database.begin() as session:
            going_on = await segmentation.advance(
                session, vocabulary=VOCABULARY, segment_id=segment_id, now=datetime.now(UTC)
            )


async def selected(session: Session, condition: Any, now: datetime) -> Selection:
    return await selections.select(
        session, vocabulary=VOCABULARY, condition=VOCABULARY.condition_of(condition), program_id=None, now=now
    )


async def plan_of_page(grown: Grown, condition: Any, sort: Any) -> list[dict[str, Any]]:
    """Each node of the plan of a page, the pages that it read among them."""
    async with grown.database.begin() as session:
        selection = await selected(session, condition, grown.now)
        query, args = selections.page_query(selection, sort=sort, limit=51)
        explained = await session.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}", *args)
    (root,) = msgspec.json.decode(explained)
    return list(nodes(root["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def assert_cheap(plan: list[dict[str, Any]]) -> None:
    assert [node["Relation Name"] for node in plan if node["Node Type"].endswith("Seq Scan")
            and node["Relation Name"] in LARGE] == []  # fmt: skip
    assert plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"] < PAGES_MAX


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("what", FOUND_BY)
async def test_what_is_rare_is_found_by_its_index_whatever_the_order(grown: Grown, what: str, sort: str) -> None:
    condition, index = FOUND_BY[what]
    plan = await plan_of_page(grown, condition, sort)
    assert index in {node.get("Index Name") for node in plan}
    assert_cheap(plan)
    assert plan[0]["Actual Rows"] >= 1


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("what", FREQUENT)
async def test_what_is_frequent_is_found_on_the_way_through_the_order(grown: Grown, what: str, sort: str) -> None:
    plan = await plan_of_page(grown, FREQUENT[what], sort)
    assert SORTS[sort] in {node.get("Index Name") for node in plan}
    assert_cheap(plan)
    assert plan[0]["Actual Rows"] == 51


@pytest.mark.parametrize("q", ["Sari", "Sari 1234", "sary", "wulan ab", "0812 0001", "+62812000777", "62812"])
@pytest.mark.parametrize("tag", [None, "rare"])
async def test_a_search_by_words_reads_no_whole_table(grown: Grown, q: str, tag: str | None) -> None:
    scans = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE relname = ANY ($1) ORDER BY relname"
    async with grown.database.begin() as session:
        before = await session.fetch(scans, LARGE)
        await search.find(session, q=q, tag=tag, limit=51, region="ID")
        await search.page(session, tag=tag, limit=51)
        assert await session.fetch(scans, LARGE) == before


async def test_members_are_read_by_their_segment(grown: Grown) -> None:
    async with grown.database.reading() as session:
        segment = next(one for one in await segments.page(session, limit=9) if one.name == "Rare")
        explained = await session.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {segments.MEMBERS}", segment.id, None, 51
        )
    (root,) = msgspec.json.decode(explained)
    plan = list(nodes(root["Plan"]))
    assert "segment_members_segment_id_contact_id_idx" in {node.get("Index Name") for node in plan}
    assert_cheap(plan)


async def test_a_hundred_thousand_contacts_are_evaluated_in_a_few_statements(
    grown: Grown, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 0
    really = Session.fetchrow

    async def counted(self: Session, *args: Any) -> Any:
        nonlocal said
        said += 1
        return await really(self, *args)

    condition = FREQUENT["all of it"]
    segment = await _made(grown, "All of it", condition)
    async with grown.database.begin() as session:
        expected = await selections.count(session, selection=await selected(session, condition, grown.now))
    monkeypatch.setattr(Session, "fetchrow", counted)
    await _evaluate(grown, segment.id)
    assert said < 10 * (CONTACTS // segmentation.CHUNK + 2)
    async with grown.database.reading() as session:
        evaluation = await segments.evaluation(session, segment_id=segment.id)
        assert evaluation.contacts_count == CONTACTS
        assert abs(evaluation.members_count - expected) <= 5  # some months ended meanwhile
        assert expected > 100
        told = await session.fetchval("SELECT count(*) FROM interactions WHERE kind = 'segment.entered'")
        assert told == evaluation.members_count + CONTACTS + 100
