"""Exports: everything, as it stood at one moment, in parts, and nothing held when nobody reads any more."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from litestar.exceptions import LitestarException

from crm.api.exports import EXPORTS_MAX
from crm.db.session import Database
from crm.exchange.exports import PAGE, WHAT
from tests.exchange.desk import Desk, table
from tests.loyalty.shop import Shop

CSV, NDJSON = "text/csv", "application/x-ndjson"
SCOPES = {
    "contacts": "contacts:read",
    "interactions": "interactions:read",
    "purchases": "loyalty:read",
    "points-transactions": "loyalty:read",
    "points-movements": "loyalty:read",
}


async def exported(client: Any, what: str, accept: str = NDJSON, **query: str) -> Any:
    answer = await client.get(f"/v1/exports/{what}", params=query, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(accept)
    if accept == NDJSON:
        return [json.loads(line) for line in answer.text.splitlines()]
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.fixture
async def shop(live_client: Any) -> Shop:
    """Two members with an order each, one of whom has spent some points."""
    shop = await Shop.open(live_client)
    for n, name in enumerate(("Sari", "Budi")):
        body = {"name": name, "identities": [{"kind": "phone", "value": f"0812 3456 78{n}"}], "tags": [name.lower()]}
        made = (await live_client.post("/v1/contacts", json=body)).json()
        assert (await shop.buy(made["id"], order_ref=f"A{n}")).status_code == 201
    assert (await live_client.post(f"/v1/contacts/{made['id']}/redemptions", json={"points": 20})).status_code == 201
    return shop


async def test_a_contact_is_exported_as_it_is_read(shop: Shop) -> None:
    listed = (await shop.client.get("/v1/contacts")).json()["items"]
    assert await exported(shop.client, "contacts") == listed[::-1]


async def test_everything_is_exported_in_both_forms(shop: Shop) -> None:
    for what, count in zip(WHAT, (2, 5, 2, 3, 3), strict=True):
        objects, rows = await exported(shop.client, what), await exported(shop.client, what, CSV)
        assert len(objects) == len(rows) == count, what
        if what != "contacts":
            assert list(objects[0]) == list(rows[0])
            for item, row in zip(objects, rows, strict=True):
                for name, value in item.items():
                    written = value if isinstance(value, str) else "" if value is None else json.dumps(value)
                    assert row[name].replace(" ", "") == written.replace(" ", ""), (what, name)


async def test_the_ledger_adds_up(shop: Shop) -> None:
    movements = await exported(shop.client, "points-movements")
    spent = sum(m["points"] for m in movements if m["to_bucket"] == "redeemed")
    earned = sum(m["points"] for m in movements if m["from_bucket"] == "issued")
    assert (earned, spent) == (90, 20)
    assert sum(t["points"] for t in await exported(shop.client, "points-transactions")) == 70


async def test_csv_holds_no_formula(live_client: Any) -> None:
    body = {
        "name": "=HYPERLINK(1)", "given_name": "@x", "family_name": "-1",
        "identities": [{"kind": "phone", "value": "0812 3456 789"}], "tags": ["+a"],
    }  # fmt: skip
    assert (await live_client.post("/v1/contacts", json=body)).status_code == 201

    [row] = await exported(live_client, "contacts", CSV)

    cells = [row[name] for name in ("name", "given_name", "family_name", "identity:phone", "tags")]
    assert cells == ["'=HYPERLINK(1)", "'@x", "'-1", "'+628123456789", "'+a"]


async def test_exported_contacts_can_be_imported_again(live_client: Any) -> None:
    desk = Desk(live_client)
    body = {
        "name": "=Sari", "given_name": "Sari", "family_name": "Dewi", "locale": "id-ID", "time_zone": "Asia/Jakarta",
        "birth_on": "1990-03-10", "tags": ["a", "vip"], "attributes": {"city": "Bandung", "visits": 3, "big": True},
        "identities": [
            {"kind": "phone", "value": "0812 3456 789"}, {"kind": "phone", "value": "0813 3456 789"},
            {"kind": "email", "value": "sari@example.com"}, {"kind": "card", "value": "AB 12"},
        ],
    }  # fmt: skip
    made = (await live_client.post("/v1/contacts", json=body)).json()
    content = (await live_client.get("/v1/exports/contacts")).content
    assert (await live_client.delete(f"/v1/contacts/{made['id']}")).status_code == 204

    done = await desk.bring(content)

    assert done["progress"]["created"] == 1
    again = await desk.contact("email", "sari@example.com")
    same = ("name", "given_name", "family_name", "locale", "time_zone", "birth_on", "tags", "attributes")
    assert [again[name] for name in same] == [made[name] for name in same]
    assert {i["value"] for i in again["identities"]} == {i["value"] for i in made["identities"]}


async def test_an_export_may_be_of_less(shop: Shop) -> None:
    client = shop.client
    assert [c["name"] for c in await exported(client, "contacts", tag="sari")] == ["Sari"]
    assert await exported(client, "contacts", to="2020-01-01T00:00:00Z") == []
    assert len(await exported(client, "contacts", **{"from": "2020-01-01T00:00:00Z"})) == 2
    assert len(await exported(client, "purchases", program=shop.program_id, **{"from": "2026-11-01T09:30:00Z"})) == 2
    assert await exported(client, "purchases", **{"from": "2026-11-01T09:30:01Z"}) == []
    other = (await client.post("/v1/programs", json={"name": "B", "currency": "IDR", "time_zone": "UTC"})).json()["id"]
    for what in ("purchases", "points-transactions", "points-movements"):
        assert await exported(client, what, program=other) == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("contacts?from=yesterday", 422, "invalid"),
        ("contacts?program=x", 422, "invalid"),
        ("purchases?program=01a200ec-0000-7000-8000-000000000000", 404, "program_not_found"),
        ("secrets", 404, "not_found"),
    ],
)
async def test_what_can_t_be_exported_is_refused_before_anything_is_sent(
    live_client: Any, path: str, status: int, code: str
) -> None:
    answer = await live_client.get(f"/v1/exports/{path}", headers={"Accept": NDJSON})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html,*/*;q=0.8", CSV])
async def test_it_is_csv_unless_lines_of_json_are_preferred(live_client: Any, accept: str) -> None:
    answer = await live_client.get("/v1/exports/contacts", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(CSV)
    assert answer.headers["content-disposition"] == 'attachment; filename="contacts.csv"'


@pytest.mark.parametrize("what", WHAT)
async def test_an_export_needs_its_scope(live_client: Any, what: str) -> None:
    for scope in sorted(set(SCOPES.values())):
        limited = await live_client.limited_to(scope)
        answer = await limited.get(f"/v1/exports/{what}")
        assert answer.status_code == (200 if scope == SCOPES[what] else 403)


# While it is being read


class Reader:
    """One who asks the application for an export, and reads it as slowly as a test wants."""

    def __init__(self, client: Any, what: str, **query: str) -> None:
        self.parts: list[bytes] = []
        self.status = 0
        self._gone = asyncio.Event()
        self._hungry = asyncio.Semaphore(0)
        self._asked = False
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": f"/v1/exports/{what}", "raw_path": f"/v1/exports/{what}".encode(), "root_path": "",
            "query_string": urlencode(query).encode(), "client": ("127.0.0.1", 1), "server": ("test", 80), "state": {},
            "headers": [(b"authorization", client.headers["authorization"].encode()), (b"accept", NDJSON.encode())],
        }  # fmt: skip
        self.answering = asyncio.create_task(client.asgi(scope, self._receive, self._send))

    async def take(self, parts: int) -> None:
        """Read so many parts."""
        wanted = len(self.parts) + parts
        for _ in range(parts):
            self._hungry.release()
        async with asyncio.timeout(10):
            while len(self.parts) < wanted and not self.answering.done():
                await asyncio.sleep(0.005)

    async def rest(self) -> bytes:
        """Read to the end; all that was read."""
        for _ in range(1_000):
            self._hungry.release()
        await asyncio.wait_for(self.answering, 20)
        return b"".join(self.parts)

    async def leave(self) -> None:
        """Hang up."""
        self._gone.set()
        ended, _ = await asyncio.wait({self.answering}, timeout=10)
        assert ended
        await self.answering

    async def _receive(self) -> Any:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            await self._hungry.acquire()
            self.parts.append(message["body"])


async def many(client: Any, count: int) -> None:
    done = await Desk(client).bring(table(*((f"N{n}", f"0812 {n:08}") for n in range(count)), header=("Nama", "HP")))
    assert done["progress"]["created"] == count


async def in_transaction(database: Database) -> int:
    async with database.reading() as session:
        found: int = await session.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        return found


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_what_is_written_meanwhile_is_not_in_it(live_client: Any) -> None:
    await many(live_client, PAGE * 3)
    reader = Reader(live_client, "contacts")
    await reader.take(1)
    await live_client.post("/v1/contacts", json={"name": "Late"})
    changed = (await live_client.get("/v1/contacts?limit=2")).json()["items"][1]
    await live_client.patch(f"/v1/contacts/{changed['id']}", json={"name": "Other"})

    lines = (await reader.rest()).splitlines()

    names = {json.loads(line)["name"] for line in lines}
    assert (len(lines), reader.status) == (PAGE * 3, 200)
    assert names == {f"N{n}" for n in range(PAGE * 3)}
    assert await in_transaction(live_client.database) == 0


@pytest.mark.parametrize("parts", [0, 1, 2])
async def test_a_reader_who_hangs_up_leaves_no_connection_behind(live_client: Any, parts: int) -> None:
    await many(live_client, PAGE * 6)
    database = live_client.database
    reader = Reader(live_client, "contacts")
    await reader.take(parts)
    await until(lambda: _is(database, 1))

    await reader.leave()

    assert await in_transaction(database) == 0
    # Whoever gets that connection next is in a transaction of their own.
    answers = await asyncio.gather(*(live_client.post("/v1/contacts", json={"name": "X"}) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert len(await exported(live_client, "contacts")) == PAGE * 6 + 12


async def _is(database: Database, count: int) -> bool:
    return await in_transaction(database) == count


async def test_no_more_are_sent_at_once_than_leave_connections_for_others(live_client: Any) -> None:
    await many(live_client, PAGE * 2)
    readers = [Reader(live_client, "contacts") for _ in range(EXPORTS_MAX)]
    for reader in readers:
        await reader.take(1)

    refused = await live_client.get("/v1/exports/contacts", headers={"Accept": NDJSON})
    for reader in readers:
        await reader.leave()

    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_exports")
    assert refused.headers["retry-after"]
    assert len(await exported(live_client, "contacts")) == PAGE * 2


async def test_an_export_whose_connection_breaks_off_is_no_whole_one(live_client: Any) -> None:
    await many(live_client, PAGE * 3)
    reader = Reader(live_client, "contacts")
    await reader.take(1)
    await until(lambda: _is(live_client.database, 1))
    async with live_client.database.reading() as session:
        await session.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in%'"
        )

    # The caller is told by the connection that ends without the last part: the status was sent long ago.
    with pytest.raises(LitestarException, match="after response started"):
        await reader.rest()

    assert 0 < len(b"".join(reader.parts).splitlines()) < PAGE * 3
    assert len(await exported(live_client, "contacts")) == PAGE * 3
