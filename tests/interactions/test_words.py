"""Messages are found by their words, in Indonesian and English, among those of one contact."""

from datetime import UTC, datetime, timedelta

import pytest

from crm.db.ids import uuid7
from crm.interactions import timeline

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)
MESSAGES = {
    "where": "Kak, pesanan saya di mana ya?",
    "thanks": "Terima kasih, pesanannya sudah diterima",
    "orders": "My orders are late, where is the delivery?",
    "refund": "Saya minta pengembalian dana untuk kopi Gayo",
    "wildcard": "100% arabica_beans %%%",
    "ref": "INV-1001/2026",
}


async def searched(client, contact_id, words, **params):
    found = await client.get(f"/v1/contacts/{contact_id}/timeline", params={"q": words, **params})
    assert found.status_code == 200, found.text
    return {item["external_id"] for item in found.json()["items"]}


@pytest.fixture
async def sari(client):
    contact_id = (await client.post("/v1/contacts", json={"name": "Sari"})).json()["id"]
    for number, (name, text) in enumerate(MESSAGES.items()):
        answer = await client.post(f"/v1/contacts/{contact_id}/interactions", json={
            "channel": "whatsapp", "kind": "message", "direction": "inbound", "body": text, "external_id": name,
            "occurred_at": (NOW + timedelta(minutes=number)).isoformat(),
        })  # fmt: skip
        assert answer.status_code == 201, answer.text
    await client.post(f"/v1/contacts/{contact_id}/interactions", json={
        "channel": "email", "kind": "message", "subject": "Undangan pesta", "external_id": "invitation",
        "occurred_at": NOW.isoformat(),
    })  # fmt: skip
    return contact_id


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pesanan", {"where", "thanks"}),
        ("PESANAN", {"where", "thanks"}),
        ("order", {"orders"}),
        ("deliveries", {"orders"}),
        ("minta dana", {"refund"}),
        ("pesanan terima", {"thanks"}),
        ('"terima kasih"', {"thanks"}),
        ('"kasih terima"', set()),
        ("gayo or delivery", {"refund", "orders"}),
        ("pesanan -terima", {"where"}),
        ("undangan", {"invitation"}),
        ("INV-1001/2026", {"ref"}),
        ("arabica_beans", {"wildcard"}),
        ("%", set()),
        ("teh", set()),
        ("' | & ! :* (", set()),
    ],
)
async def test_words_find_messages(client, sari, words, found):
    assert await searched(client, sari, words) == found


async def test_words_go_together_with_the_other_filters(client, sari):
    assert await searched(client, sari, "undangan", channel="whatsapp") == set()
    assert await searched(client, sari, "pesanan", **{"from": "2026-11-01T09:31:00Z"}) == {"thanks"}
    first = await client.get(f"/v1/contacts/{sari}/timeline", params={"q": "pesanan", "limit": 1})
    assert [item["external_id"] for item in first.json()["items"]] == ["thanks"]
    rest = {"limit": 1, "cursor": first.json()["next_cursor"]}
    assert await searched(client, sari, "pesanan", **rest) == {"where"}


async def test_nobody_else_s_messages_are_found(client, sari):
    other = (await client.post("/v1/contacts", json={"name": "Budi"})).json()["id"]
    assert await searched(client, other, "pesanan") == set()


@pytest.mark.parametrize("words", ["", "x" * 201, "a\x00b"])
async def test_what_can_t_be_searched_for_is_said(client, sari, words):
    assert (await client.get(f"/v1/contacts/{sari}/timeline", params={"q": words})).status_code == 422


async def test_a_search_among_many_messages_reads_an_index_and_few_pages(database):
    """Somebody with 100,000 messages, beside somebody else with as many."""
    sari, budi = uuid7(), uuid7()
    async with database.begin() as session:
        await session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) SELECT g, 'x', $2, $2 FROM unnest($1::uuid[]) g",
            [sari, budi], NOW,
        )  # fmt: skip
        await session.execute(
            """
            INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, body, by)
            SELECT c, gen_random_uuid(), $2::timestamptz + n * interval '1 minute', $2, 'chat', 'message',
                'pesan nomor ' || n || CASE WHEN n % 1000 = 7 THEN ' tentang kopi gayo' ELSE ' tentang roti' END, 'x'
            FROM unnest($1::uuid[]) c, generate_series(1, 100000) n
            """,
            [sari, budi], NOW,
        )  # fmt: skip
    async with database.reading() as session:
        await session.execute("VACUUM ANALYZE interactions")
        for words, count in (("gayo", 51), ("roti", 51), ("gayo roti", 0), ('"nomor 77"', 1), ("nomor", 51)):
            found = await timeline.page(session, contact_id=sari, words=words, limit=51)
            assert len(found) == count, words
            plan = await _plan(session, sari, words)
            assert "interactions_words_idx" in plan or "interactions_timeline_idx" in plan, plan
            assert "Seq Scan on interactions" not in plan, plan
        plan = await _plan(session, sari, "gayo")
        assert "interactions_words_idx" in plan, plan
        assert _pages(plan) < 2_000, plan


async def _plan(session, contact_id, words):
    query = timeline._page_query(("words",), after=False)
    rows = await session.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {query}", contact_id, 51, words)
    return "\n".join(row[0] for row in rows)


def _pages(plan):
    line = next(line for line in plan.splitlines() if "Buffers: shared" in line)
    return sum(int(part.partition("=")[2]) for part in line.split() if part.startswith(("hit=", "read=")))
