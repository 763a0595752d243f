"""Backtests over HTTP: a question, a job that answers it, and a report that stays what it was."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from crm.db.ids import uuid7
from crm.db.session import Database
from crm.jobs import JOBS, worker
from crm.jobs.backtests import run_backtest
from crm.loyalty import backtests
from tests.loyalty.shop import EARNED, RULE, Shop, checksum

DAYS = {"from": "2026-11-01", "to": "2026-11-30"}
DOUBLE = {"name": "double", "kind": "multiplier", "factor": "2"}
VIEW = {
    "id", "program_id", "status", "period", "rules", "include_drafts", "conditions", "progress", "report", "by",
    "created_at", "finished_at",
}  # fmt: skip
REPORT = {
    "purchases", "members", "points_issued", "points_tried", "difference", "members_more", "members_less",
    "members_same", "cost", "rules", "months", "largest_differences",
}  # fmt: skip
NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")


@pytest.fixture
async def shop(live_client: Any) -> Shop:
    """Three orders of two members."""
    shop = await Shop.open(live_client)
    sari, budi = await shop.member(), await shop.member()
    for who, order_ref in ((sari, "A"), (budi, "B"), (sari, "C")):
        assert (await shop.buy(who, order_ref=order_ref)).status_code == 201
    return shop


def path(shop: Shop, backtest_id: str = "") -> str:
    return f"/v1/programs/{shop.program_id}/backtests{backtest_id and f'/{backtest_id}'}"


async def start(shop: Shop, **asked: Any) -> dict[str, Any]:
    answer = await shop.client.post(path(shop), json=DAYS | asked)
    assert answer.status_code == 202, answer.text
    backtest: dict[str, Any] = answer.json()
    return backtest


async def read(shop: Shop, backtest_id: str) -> dict[str, Any]:
    answer = await shop.client.get(path(shop, backtest_id))
    assert answer.status_code == 200, answer.text
    backtest: dict[str, Any] = answer.json()
    return backtest


async def work(shop: Shop, backtest_id: str) -> None:
    """What the worker does with it."""
    payload = {"program_id": shop.program_id, "backtest_id": backtest_id}
    await run_backtest(shop.client.database, payload, now=datetime.now(UTC))


async def answered(shop: Shop, **asked: Any) -> dict[str, Any]:
    backtest = await start(shop, **asked)
    await work(shop, backtest["id"])
    return await read(shop, backtest["id"])


async def queued(database: Database) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.fetch("SELECT payload FROM pgqueuer WHERE entrypoint = 'run_backtest' ORDER BY id")
    return [msgspec.json.decode(row["payload"]) for row in rows]


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


# ---------------------------------------------------------------- from a question to a report


async def test_a_question_is_taken_and_left_to_the_worker(shop):
    backtest = await start(shop, include_drafts=True)

    assert backtest.keys() == VIEW
    assert (backtest["status"], backtest["report"]) == ("pending", None)
    assert backtest["progress"] == {"done": 0, "total": None}
    assert backtest["period"] == DAYS
    assert (backtest["rules"], backtest["include_drafts"], backtest["conditions"]) == (None, True, "now")
    assert (backtest["by"], backtest["finished_at"]) == ("key:test", None)
    assert await read(shop, backtest["id"]) == backtest
    assert await queued(shop.client.database) == [{"program_id": shop.program_id, "backtest_id": backtest["id"]}]


async def test_the_report_compares_what_is_tried_with_what_was_issued(shop):
    sent = [RULE, DOUBLE | {"min_spend": "40000"}]
    backtest = await answered(shop, rules=sent)

    assert (backtest["status"], backtest["progress"]) == ("completed", {"done": 3, "total": 3})
    assert backtest["finished_at"] > backtest["created_at"]
    assert [rule["name"] for rule in backtest["rules"]] == ["base", "double"]
    report = backtest["report"]
    assert report.keys() == REPORT
    assert (report["purchases"], report["members"], report["cost"]) == (3, 2, None)
    assert (report["points_issued"], report["points_tried"]) == (3 * EARNED, 6 * EARNED)
    assert report["difference"] == 3 * EARNED
    assert (report["members_more"], report["members_less"], report["members_same"]) == (2, 0, 0)
    assert report["rules"] == [
        {"rule_id": None, "version": None, "name": name, "applied": 3, "points": 3 * EARNED, "assumed": 0}
        for name in ("base", "double")
    ]
    assert report["months"] == [
        {"month": "2026-11", "purchases": 3, "points_issued": 3 * EARNED, "points_tried": 6 * EARNED}
    ]
    assert [one["difference"] for one in report["largest_differences"]] == [2 * EARNED, EARNED]


async def test_without_rules_the_program_s_own_are_tried(shop):
    draft = (await shop.client.post(
        f"/v1/programs/{shop.program_id}/earning-rules", json=DOUBLE | {"status": "draft"}
    )).json()  # fmt: skip

    present, with_drafts = await answered(shop), await answered(shop, include_drafts=True)

    assert present["report"]["difference"] == 0
    assert with_drafts["report"]["difference"] == 3 * EARNED
    assert [rule["rule_id"] for rule in with_drafts["report"]["rules"]][1:] == [draft["id"]]


async def test_the_worker_takes_it_from_the_queue(shop, dsn):
    database, stop = shop.client.database, asyncio.Event()
    working = asyncio.create_task(worker.run(database, dsn, stop=stop, registry=JOBS, schedules={}))
    try:
        backtest = await start(shop)
        async with asyncio.timeout(20):
            while (await read(shop, backtest["id"]))["status"] != "completed":
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await working
    assert await queued(database) == []


async def test_a_backtest_writes_nothing_but_itself(shop):
    database = shop.client.database
    async with database.reading() as session:
        before = {name: rest for name, *rest in await checksum(session)}

    await answered(shop, rules=[RULE, DOUBLE])

    async with database.reading() as session:
        after = {name: rest for name, *rest in await checksum(session)}
    assert {name for name in after if after[name] != before[name]} == {"backtests"}


async def test_the_rules_are_those_of_the_moment_it_was_started(shop):
    rules = f"/v1/programs/{shop.program_id}/earning-rules"
    [rule] = (await shop.client.get(rules)).json()["items"]
    backtest = await start(shop)
    assert (await shop.client.patch(f"{rules}/{rule['id']}", json={"points": 5})).status_code == 200

    await work(shop, backtest["id"])

    assert (await read(shop, backtest["id"]))["report"]["difference"] == 0
    assert (await answered(shop))["report"]["difference"] == 4 * 3 * EARNED


# ---------------------------------------------------------------- again, broken off, cancelled


async def test_a_completed_one_is_not_run_again(shop):
    backtest = await answered(shop)
    assert (await shop.buy(await shop.member(), order_ref="D")).status_code == 201

    await work(shop, backtest["id"])

    assert await read(shop, backtest["id"]) == backtest


async def test_one_that_died_in_the_middle_begins_again_and_reports_the_same(shop, monkeypatch):
    whole = await answered(shop, rules=[RULE, DOUBLE])
    monkeypatch.setattr(backtests, "BATCH", 1)
    backtest = await start(shop, rules=[RULE, DOUBLE])
    which = {"program_id": UUID(shop.program_id), "backtest_id": UUID(backtest["id"])}
    async with shop.client.database.begin() as session:
        replay = await backtests.begin(session, **which)
        assert replay is not None
        assert await backtests.advance(session, replay=replay)
        assert await backtests.note(session, replay=replay, **which)
    broken = await read(shop, backtest["id"])
    assert (broken["status"], broken["progress"]) == ("processing", {"done": 1, "total": 3})

    await work(shop, backtest["id"])

    done = await read(shop, backtest["id"])
    assert (done["status"], done["progress"]) == ("completed", {"done": 3, "total": 3})
    assert done["report"] == whole["report"]


async def test_two_workers_with_the_same_one_give_one_report(shop, monkeypatch):
    monkeypatch.setattr(backtests, "BATCH", 1)
    backtest = await start(shop)

    await asyncio.gather(work(shop, backtest["id"]), work(shop, backtest["id"]))

    done = await read(shop, backtest["id"])
    assert (done["status"], done["progress"], done["report"]["purchases"]) == ("completed", {"done": 3, "total": 3}, 3)


async def test_one_that_breaks_is_failed_until_it_is_tried_again(shop):
    database = shop.client.database
    backtest = await start(shop)
    async with database.begin() as session:
        kept = await session.fetchval("SELECT content FROM purchases WHERE order_ref = 'B'")
        await session.execute("UPDATE purchases SET content = '{}' WHERE order_ref = 'B'")

    with pytest.raises(msgspec.ValidationError):
        await work(shop, backtest["id"])

    failed = await read(shop, backtest["id"])
    assert (failed["status"], failed["report"]) == ("failed", None)
    async with database.begin() as session:
        await session.execute("UPDATE purchases SET content = $1 WHERE order_ref = 'B'", kept)
    await work(shop, backtest["id"])
    done = await read(shop, backtest["id"])
    assert (done["status"], done["report"]["purchases"]) == ("completed", 3)


async def test_a_cancelled_one_is_never_begun(shop):
    backtest = await start(shop)

    for _ in range(2):
        assert (await shop.client.delete(path(shop, backtest["id"]))).status_code == 204
    await work(shop, backtest["id"])

    cancelled = await read(shop, backtest["id"])
    assert (cancelled["status"], cancelled["report"], cancelled["progress"]["done"]) == ("cancelled", None, 0)
    assert cancelled["finished_at"] is not None


async def test_cancelling_stops_whoever_works_on_it(shop, monkeypatch):
    monkeypatch.setattr(backtests, "BATCH", 1)
    backtest = await start(shop)
    advance = backtests.advance

    async def and_then_cancel(session: Any, *, replay: Any) -> bool:
        more = await advance(session, replay=replay)
        if replay.done == 2:
            assert (await shop.client.delete(path(shop, backtest["id"]))).status_code == 204
        return more

    monkeypatch.setattr(backtests, "advance", and_then_cancel)
    await work(shop, backtest["id"])

    cancelled = await read(shop, backtest["id"])
    assert (cancelled["status"], cancelled["progress"]["done"], cancelled["report"]) == ("cancelled", 1, None)


async def test_a_completed_one_can_t_be_cancelled(shop):
    backtest = await answered(shop)

    problem(await shop.client.delete(path(shop, backtest["id"])), 409, "backtest_completed")

    assert await read(shop, backtest["id"]) == backtest


# ---------------------------------------------------------------- lists, retries and refusals


async def test_backtests_are_listed_newest_first_and_pages_add_up(shop):
    made = [(await start(shop))["id"] for _ in range(5)]
    pages, cursor = [], ""
    while cursor is not None:
        page = (await shop.client.get(f"{path(shop)}?limit=2{cursor and f'&cursor={cursor}'}")).json()
        pages += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
    assert pages == made[::-1]


async def test_the_same_key_starts_one_backtest(shop):
    first, second = [
        await shop.client.post(path(shop), json=DAYS, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len(await queued(shop.client.database)) == 1
    other = await shop.client.post(path(shop), json=DAYS | {"conditions": "true"}, headers={"Idempotency-Key": "once"})
    problem(other, 422, "idempotency_key_reused")
    assert len((await shop.client.get(path(shop))).json()["items"]) == 1


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"from": None}, "/from"),
        ({"from": "2026-02-30"}, "/from"),
        ({"from": "0"}, "/from"),
        ({"from": 20261101}, "/from"),
        ({"from": "2026-11-01T00:00:00Z"}, "/from"),
        ({"from": "1899-12-31"}, "/from"),
        ({"to": "2200-01-01"}, "/to"),
        ({"to": "2026-10-31"}, ""),
        ({"rules": []}, "/rules"),
        ({"rules": [RULE] * 101}, "/rules"),
        ({"rules": [RULE, RULE | {"kind": "magic"}]}, "/rules/1/kind"),
        ({"rules": [RULE | {"per": 1000}]}, "/rules/0/per"),
        ({"rules": [RULE | {"spend_min": "1"}]}, "/rules/0/spend_min"),
        ({"rules": [{"name": "A", "kind": "per_visit", "filter": {"skus": ["a\0"]}}]}, "/rules/0/filter/skus/0"),
        ({"rules": RULE}, "/rules"),
        ({"include_drafts": "true"}, "/include_drafts"),
        ({"conditions": True}, "/conditions"),
        ({"conditions": "perhaps"}, "/conditions"),
        ({"tiers": "gold"}, "/tiers"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(client, asked, pointer):
    shop = await Shop.open(client)

    answer = await client.post(path(shop), json=DAYS | asked)

    assert pointer in {error["pointer"] for error in problem(answer, 422, "invalid")["errors"]}
    assert (await client.get(path(shop))).json() == {"items": [], "next_cursor": None}


async def test_a_condition_that_can_t_be_understood_is_refused_with_its_place(client):
    shop = await Shop.open(client)
    wrong = {"name": "A", "kind": "per_visit", "condition": {"field": "shoe_size", "op": "eq", "value": 41}}

    answer = await client.post(path(shop), json=DAYS | {"rules": [RULE, wrong]})

    assert {error["pointer"] for error in problem(answer, 422, "invalid_condition")["errors"]} == {
        "/rules/1/condition/field"
    }
    assert (await client.get(path(shop))).json()["items"] == []


async def test_one_day_is_a_period(client):
    shop = await Shop.open(client)

    backtest = await start(shop, **{"from": "2026-11-01", "to": "2026-11-01"})

    assert backtest["period"] == {"from": "2026-11-01", "to": "2026-11-01"}


async def test_what_is_not_there_is_not_found(client):
    shop, other = await Shop.open(client), await Shop.open(client)
    backtest = await start(other)
    nowhere = Shop(client, str(NOBODY))

    for found in (shop, nowhere):
        for backtest_id in (backtest["id"], str(uuid7())):
            problem(await client.get(path(found, backtest_id)), 404, "backtest_not_found")
            problem(await client.delete(path(found, backtest_id)), 404, "backtest_not_found")
    problem(await client.post(path(nowhere), json=DAYS), 404, "program_not_found")
    problem(await client.get(path(nowhere)), 404, "program_not_found")
    assert (await read(other, backtest["id"]))["status"] == "pending"


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("programs:read", {"GET"}), ("programs:write", {"POST", "DELETE"}), ("loyalty:write", set())],
)
async def test_a_key_may_start_and_cancel_or_read(client, scope, allowed):
    shop = await Shop.open(client)
    backtest = await start(shop)
    limited = await client.limited_to(scope)

    answers = {
        "POST": [await limited.post(path(shop), json=DAYS)],
        "GET": [await limited.get(path(shop)), await limited.get(path(shop, backtest["id"]))],
        "DELETE": [await limited.delete(path(shop, backtest["id"]))],
    }

    for method, given in answers.items():
        for answer in given:
            if method in allowed:
                assert answer.is_success, answer.text
            else:
                problem(answer, 403, "scope_missing")
