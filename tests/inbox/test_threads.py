"""The threads on a channel account, of all contacts: what an agent looks at in the morning."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from crm.db.ids import uuid7
from crm.interactions import threads
from tests.inbox.desk import Desk
from tests.inbox.test_accounts import problem
from tests.inbox.toychat import at, message, toy

NOW = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


async def listed(client, path, **params):
    answer = await client.get(f"/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_threads_of_an_account_are_listed_those_last_spoken_in_first(client):
    desk, other = await Desk.open(client), await Desk.open(client, ref="T2")
    for number, who in enumerate(("sari", "budi", "ani")):
        await desk.hear(message(f"m{number}", "Halo", at=at(number), who=toy(who)))
    await desk.hear(message("m9", "Lagi", at=at(60), who=toy("sari")))
    await other.hear(message("m1", "Halo", at=at(5), who=toy("sari")))
    sari, budi, ani = [(await desk.contact(value=who))["id"] for who in ("sari", "budi", "ani")]

    path = f"channel-accounts/{desk.account['id']}/threads"
    whole = await listed(client, path)
    assert [(each["contact_id"], each["messages_count"]) for each in whole["items"]] == [(sari, 2), (ani, 1), (budi, 1)]
    first = await listed(client, path, limit=2)
    rest = await listed(client, path, limit=2, cursor=first["next_cursor"])
    assert (first["items"] + rest["items"], rest["next_cursor"]) == (whole["items"], None)

    both = await listed(client, f"contacts/{sari}/threads")
    own = await listed(client, f"contacts/{sari}/threads", account=other.account["id"])
    assert [each["account_id"] for each in both["items"]] == [desk.account["id"], other.account["id"]]
    assert own["items"] == both["items"][1:]
    assert (await listed(client, f"contacts/{sari}/threads", account=str(uuid4())))["items"] == []


async def test_a_thread_of_somebody_who_was_merged_is_the_survivor_s(desk):
    await desk.hear(message("m1", "Halo", who=toy("sari")))
    await desk.hear(message("m2", "Halo", at=at(5), who=toy("s.dewi")))
    kept, gone = [(await desk.contact(value=who))["id"] for who in ("sari", "s.dewi")]
    merged = await desk.client.post("/v1/merges", json={"contact_id": kept, "other_contact_id": gone})
    assert merged.status_code == 201, merged.text
    page = await listed(desk.client, f"channel-accounts/{desk.account['id']}/threads")
    assert [each["contact_id"] for each in page["items"]] == [kept, kept]
    for each in page["items"]:
        assert await listed(desk.client, f"contacts/{kept}/threads/{each['id']}") == each


async def test_an_account_without_threads_has_none_and_one_that_is_not_there_is_not_found(desk):
    assert (await listed(desk.client, f"channel-accounts/{desk.account['id']}/threads"))["items"] == []
    problem(await desk.client.get(f"/v1/channel-accounts/{uuid7()}/threads"), 404, "channel_account_not_found")
    limited = await desk.client.limited_to("channels:read")
    assert (await limited.get(f"/v1/channel-accounts/{desk.account['id']}/threads")).status_code == 403


@pytest.mark.parametrize("after", [False, True])
async def test_a_page_of_many_threads_reads_few_of_them(database, after):
    account_id = uuid7()
    async with database.begin() as session:
        await session.execute(
            """
            INSERT INTO threads (contact_id, id, account_id, channel, opened_at, last_at, messages_count)
            SELECT gen_random_uuid(), gen_random_uuid(), CASE WHEN n % 4 = 0 THEN gen_random_uuid() ELSE $1 END, 'chat',
                $2::timestamptz, $2::timestamptz + n * interval '1 second', 1
            FROM generate_series(1, 100000) n
            """,
            account_id, NOW,
        )  # fmt: skip
    async with database.reading() as session:
        await session.execute("VACUUM ANALYZE threads")
        query, more = (
            (threads._OF_ACCOUNT_AFTER, (NOW.replace(hour=20), uuid7())) if after else (threads._OF_ACCOUNT, ())
        )
        rows = await session.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {query}", account_id, 51, *more)
    plan = "\n".join(row[0] for row in rows)
    assert "threads_of_account_idx" in plan, plan
    assert "Seq Scan on threads" not in plan, plan
    line = next(line for line in plan.splitlines() if "Buffers: shared" in line)
    assert sum(int(part.partition("=")[2]) for part in line.split() if part.startswith(("hit=", "read="))) < 120, plan
