"""Vouchers over HTTP: issued, checked, used and taken back; pools; and those that come with a reward."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.db.ids import uuid7
from crm.loyalty import codes
from tests.loyalty.shelf import Shelf, refused
from tests.loyalty.shop import checksum

NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
VIEW = {
    "id", "code", "program_id", "status", "benefit", "contact_id", "reward_id", "redemption_id", "pool_id", "uses_max",
    "uses_max_per_member", "uses_left", "expires_at", "issued_at", "valid", "why_not",
}  # fmt: skip
USE = {"id", "code", "contact_id", "ref", "status", "used_at", "rolled_back_at", "benefit"}


@pytest.fixture
async def shelf(client: Any) -> Shelf:
    return await Shelf.open(client)


@pytest.fixture
async def sari(shelf: Shelf) -> UUID:
    return await shelf.member(points=1000)


def why(document: dict[str, Any]) -> list[str]:
    return [each["code"] for each in document["why_not"]]


def ahead(**spell: float) -> str:
    return (datetime.now(UTC) + timedelta(**spell)).isoformat().replace("+00:00", "Z")


async def let_expire(session: Any) -> None:
    await session.execute("UPDATE vouchers SET expires_at = now()")


# ---------------------------------------------------------------- issuing


async def test_a_voucher_is_issued_with_a_code_of_ours(shelf):
    voucher = await shelf.voucher()
    assert voucher.keys() == VIEW
    assert len(codes.canonical(voucher["code"])) == 12
    expected = {
        "status": "issued", "valid": True, "why_not": [], "uses_max": None, "uses_left": None, "benefit": None,
        "contact_id": None, "expires_at": None, "program_id": shelf.program_id,
    }  # fmt: skip
    assert {name: voucher[name] for name in expected} == expected
    assert await shelf.check(voucher["code"]) == voucher


async def test_a_voucher_is_found_however_its_code_is_typed(shelf):
    voucher = await shelf.voucher(code="Kopi-100", benefit={"percent": 10}, uses_max=3, expires_at=ahead(days=3))
    assert voucher["code"] == "Kopi-100"
    for typed in ("KOPI-100", "kopi100", "K0PI-I0O", "%20kopi%20100"):
        assert await shelf.check(typed) == voucher


async def test_a_chosen_code_is_nobody_else_s(shelf, client, session):
    await shelf.voucher(code="KOPI-100")
    before = await checksum(session)
    for code in ("KOPI-100", "kopi100", "KOP1-1OO"):
        refused(await client.post(f"/v1/programs/{shelf.program_id}/vouchers", json={"code": code}), 409, "code_taken")
    assert await checksum(session) == before


async def test_a_pattern_makes_the_code(shelf):
    voucher = await shelf.voucher(pattern="SORRY-####")
    assert voucher["code"].startswith("SORRY-")
    assert len(voucher["code"]) == 10


async def test_a_member_s_voucher_stands_on_the_timeline_and_in_the_list(shelf, sari, client):
    first = await shelf.voucher(contact_id=str(sari), benefit={"percent": 10})
    second = await shelf.voucher(contact_id=str(sari))
    await shelf.voucher()
    [entry] = (await shelf.get(sari, "timeline?kind=voucher.issued&limit=1"))["items"]
    assert entry["data"]["code"] == second["code"]
    assert (await shelf.get(sari, "vouchers"))["items"] == [second, first]
    page = await shelf.get(sari, "vouchers?limit=1")
    rest = await shelf.get(sari, f"vouchers?limit=1&cursor={page['next_cursor']}")
    assert (page["items"], rest["items"], rest["next_cursor"]) == ([second], [first], None)
    refused(await client.get(f"/v1/contacts/{NOBODY}/vouchers"), 404, "contact_not_found")
    assert len((await client.get(f"/v1/programs/{shelf.program_id}/vouchers")).json()["items"]) == 3


async def test_a_key_issues_one_voucher(shelf, client):
    answers = [
        await client.post(f"/v1/programs/{shelf.program_id}/vouchers", json={}, headers={"Idempotency-Key": "K-1"})
        for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert len((await client.get(f"/v1/programs/{shelf.program_id}/vouchers")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        *(
            pytest.param({"code": code}, "/code", id=f"code {code!r}"[:40])
            for code in ("", "AB", "A-B", "KOPI--1", "-KOPI", "KÖPI", "KOPI/1", "KO\x00PI", "A" * 65, 5)
        ),
        ({"pattern": "KOPI"}, "/pattern"),
        ({"pattern": "KOPI-###"}, "/pattern"),
        ({"uses_max": 0}, "/uses_max"),
        ({"uses_max": "1"}, "/uses_max"),
        ({"uses_max_per_member": 0}, "/uses_max_per_member"),
        ({"benefit": []}, "/benefit"),
        ({"benefit": {"a": "\x00"}}, "/benefit"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"contact_id": "sari"}, "/contact_id"),
        ({"uses_left": 5}, "/uses_left"),
    ],
)
async def test_a_voucher_that_is_not_valid_is_refused_and_changes_nothing(shelf, client, session, facts, pointer):
    before = await checksum(session)
    answer = await client.post(f"/v1/programs/{shelf.program_id}/vouchers", json=facts)
    assert answer.status_code == 422, answer.text
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert await checksum(session) == before


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "programs/{nobody}/vouchers", {}, "program_not_found"),
        ("GET", "programs/{nobody}/vouchers", None, "program_not_found"),
        ("POST", "programs/{program}/vouchers", {"contact_id": str(NOBODY)}, "contact_not_found"),
        ("GET", "vouchers/NEVER-SEEN", None, "voucher_not_found"),
        ("GET", "vouchers/x", None, "voucher_not_found"),
        ("GET", "vouchers/K%C3%96PI", None, "voucher_not_found"),
        ("GET", "vouchers/%25", None, "voucher_not_found"),
        ("POST", "vouchers/NEVER-SEEN/redemptions", {"contact_id": "{sari}", "ref": "1"}, "voucher_not_found"),
        ("POST", "vouchers/KOPI-10/redemptions", {"contact_id": str(NOBODY), "ref": "1"}, "contact_not_found"),
        ("GET", "vouchers/NEVER-SEEN/redemptions", None, "voucher_not_found"),
        ("GET", "vouchers/NEVER-SEEN/redemptions/{nobody}", None, "voucher_not_found"),
        ("GET", "vouchers/KOPI-10/redemptions/{nobody}", None, "voucher_use_not_found"),
        ("DELETE", "vouchers/NEVER-SEEN/redemptions/{nobody}", None, "voucher_not_found"),
        ("DELETE", "vouchers/KOPI-10/redemptions/{nobody}", None, "voucher_use_not_found"),
        ("POST", "programs/{nobody}/voucher-pools", {"name": "A", "count": 1}, "program_not_found"),
        ("POST", "programs/{program}/voucher-pools", {"name": "A", "count": 1, "reward_id": str(NOBODY)},
         "reward_not_found"),
        ("GET", "programs/{nobody}/voucher-pools", None, "program_not_found"),
        ("GET", "programs/{program}/voucher-pools/{nobody}", None, "voucher_pool_not_found"),
    ],
)  # fmt: skip
async def test_what_there_is_not_is_not_found(shelf, sari, client, method, path, body, code):
    await shelf.voucher(code="KOPI-10")
    if body and body.get("contact_id") == "{sari}":
        body = body | {"contact_id": str(sari)}
    url = f"/v1/{path.format(program=shelf.program_id, nobody=NOBODY)}"
    refused(await client.request(method, url, json=body), 404, code)


async def test_all_unknown_codes_are_answered_alike(client, shelf):
    said = [(await client.get(f"/v1/vouchers/{code}")).json() for code in ("NEVER-SEEN", "K", "7WQ2-HX4T-M3PV")]
    assert len({(each["detail"], each["title"], each["code"]) for each in said}) == 1


# ---------------------------------------------------------------- using


async def test_a_voucher_is_used_once_for_each_ref(shelf, sari, session):
    await shelf.voucher(code="KOPI-10", uses_max=2, benefit={"percent": 10})
    answer = await shelf.use("kopi10", sari, "INV-1")
    assert answer.status_code == 201
    used = answer.json()
    assert used.keys() == USE
    assert (used["code"], used["contact_id"], used["ref"], used["status"], used["benefit"]) == (
        "KOPI-10", str(sari), "INV-1", "redeemed", {"percent": 10},
    )  # fmt: skip
    before = await checksum(session)
    again = await shelf.use("KOPI-10", sari, "INV-1")
    assert (again.status_code, again.json()) == (200, used)
    assert await checksum(session) == before
    assert (await shelf.check("KOPI-10"))["uses_left"] == 1
    assert (await shelf.use("KOPI-10", sari, "INV-2")).status_code == 201
    left = await shelf.check("KOPI-10")
    assert (left["uses_left"], left["status"], left["valid"], why(left)) == (0, "used", False, ["used_up"])
    refusal = refused(await shelf.use("KOPI-10", sari, "INV-3"), 409, "voucher_invalid")
    assert refusal["why_not"] == [{"code": "used_up"}]
    assert (await shelf.use("KOPI-10", sari, "INV-2")).status_code == 200


async def test_a_ref_is_one_contact_s(shelf, sari):
    budi = await shelf.member()
    await shelf.voucher(code="KOPI-10")
    await shelf.voucher(code="KOPI-20")
    assert (await shelf.use("KOPI-10", sari, "INV-1")).status_code == 201
    refused(await shelf.use("KOPI-10", budi, "INV-1"), 409, "ref_reused")
    assert (await shelf.use("KOPI-20", budi, "INV-1")).status_code == 201


async def test_a_member_uses_a_code_as_often_as_one_may(shelf, sari):
    budi = await shelf.member()
    await shelf.voucher(code="KOPI-10", uses_max=3, uses_max_per_member=1)
    used = (await shelf.use("KOPI-10", sari, "INV-1")).json()
    assert why(refused(await shelf.use("KOPI-10", sari, "INV-2"), 409, "voucher_invalid")) == ["limit_reached"]
    assert (await shelf.check("KOPI-10"))["valid"]
    assert why(await shelf.check("KOPI-10", sari)) == ["limit_reached"]
    assert (await shelf.check("KOPI-10", budi))["valid"]
    assert (await shelf.use("KOPI-10", budi, "INV-3")).status_code == 201
    assert await shelf.roll_back("KOPI-10", used["id"]) == 204
    assert (await shelf.use("KOPI-10", sari, "INV-4")).status_code == 201


async def test_a_member_s_voucher_is_no_other_member_s(shelf, sari):
    budi = await shelf.member()
    await shelf.voucher(code="KOPI-10", contact_id=str(sari))
    assert why(refused(await shelf.use("KOPI-10", budi, "INV-1"), 409, "voucher_invalid")) == ["not_eligible"]
    assert why(await shelf.check("KOPI-10", budi)) == ["not_eligible"]
    assert (await shelf.use("KOPI-10", sari, "INV-1")).status_code == 201


async def test_an_expired_voucher_is_told_with_every_other_reason(shelf, sari, session):
    budi = await shelf.member()
    await shelf.voucher(code="KOPI-10", contact_id=str(sari), uses_max=1, expires_at=ahead(days=1))
    await shelf.use("KOPI-10", sari, "INV-1")
    await let_expire(session)
    assert why(await shelf.check("KOPI-10")) == ["expired", "used_up"]
    assert why(refused(await shelf.use("KOPI-10", budi, "INV-2"), 409, "voucher_invalid")) == [
        "expired", "used_up", "not_eligible",
    ]  # fmt: skip
    assert (await shelf.use("KOPI-10", sari, "INV-1")).status_code == 200  # what happened has happened


async def test_a_use_is_taken_back_once(shelf, sari, session):
    await shelf.voucher(code="KOPI-10", uses_max=1)
    used = (await shelf.use("KOPI-10", sari, "INV-1")).json()
    assert await shelf.roll_back("KOPI-10", used["id"]) == 204
    before = await checksum(session)
    assert await shelf.roll_back("KOPI-10", used["id"]) == 204
    assert await checksum(session) == before
    left = await shelf.check("KOPI-10")
    assert (left["uses_left"], left["status"], left["valid"]) == (1, "issued", True)
    again = await shelf.use("KOPI-10", sari, "INV-1")
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, used["id"], "rolled_back")
    assert (await shelf.use("KOPI-10", sari, "INV-2")).status_code == 201
    kinds = [kind for kind in await shelf.told(sari) if kind.startswith("voucher.")]
    assert kinds == ["voucher.redeemed", "voucher.rolled_back", "voucher.redeemed"]


async def test_uses_are_listed_newest_first_and_read_by_their_id(shelf, sari, client):
    await shelf.voucher(code="KOPI-10")
    made = [(await shelf.use("KOPI-10", sari, f"INV-{number}")).json() for number in range(3)]
    await shelf.roll_back("KOPI-10", made[1]["id"])
    page = (await client.get("/v1/vouchers/kopi10/redemptions?limit=2")).json()
    rest = (await client.get(f"/v1/vouchers/kopi10/redemptions?limit=2&cursor={page['next_cursor']}")).json()
    listed = page["items"] + rest["items"]
    assert [each["ref"] for each in listed] == ["INV-2", "INV-1", "INV-0"]
    assert [each["status"] for each in listed] == ["redeemed", "rolled_back", "redeemed"]
    assert (await client.get(f"/v1/vouchers/KOPI-10/redemptions/{made[0]['id']}")).json() == made[0]
    await shelf.voucher(code="KOPI-20")
    refused(await client.get(f"/v1/vouchers/KOPI-20/redemptions/{made[0]['id']}"), 404, "voucher_use_not_found")


async def test_a_key_uses_a_voucher_once(shelf, sari):
    await shelf.voucher(code="KOPI-10", uses_max=5)
    answers = [await shelf.use("KOPI-10", sari, "INV-1", key="K-1") for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1].headers["idempotency-replayed"] == "true"
    refused(await shelf.use("KOPI-10", sari, "INV-2", key="K-1"), 422, "idempotency_key_reused")
    assert (await shelf.check("KOPI-10"))["uses_left"] == 4


# ---------------------------------------------------------------- pools


async def test_a_pool_without_a_reward_is_vouchers_for_whoever_has_one(shelf, sari, client):
    await shelf.voucher(code="KOPI-100")
    pool = await shelf.pool(codes=["AAA-1", "AAA-2", "aaa1", "kopi100"], benefit={"percent": 5})
    assert (pool["codes_count"], pool["codes_left"], pool["duplicates"]) == (2, None, ["aaa1", "kopi100"])
    voucher = await shelf.check("AAA-2")
    assert (voucher["uses_max"], voucher["benefit"], voucher["pool_id"]) == (1, {"percent": 5}, pool["id"])
    assert (await shelf.use("AAA-2", sari, "INV-1")).status_code == 201
    listed = (await client.get(f"/v1/programs/{shelf.program_id}/vouchers?pool={pool['id']}")).json()["items"]
    assert [each["code"] for each in listed] == ["AAA-2", "AAA-1"]
    url = f"/v1/programs/{shelf.program_id}/voucher-pools"
    kept = {name: value for name, value in pool.items() if name != "duplicates"}
    assert (await client.get(url)).json()["items"] == [kept]
    assert (await client.get(f"{url}/{pool['id']}")).json() == kept


async def test_a_pool_of_new_codes_has_as_many_as_were_asked_for(shelf, client):
    pool = await shelf.pool(count=120, pattern="KINO-####", uses_max=2)
    assert (pool["codes_count"], pool["duplicates"]) == (120, [])
    listed = (await client.get(f"/v1/programs/{shelf.program_id}/vouchers?pool={pool['id']}&limit=200")).json()["items"]
    assert len({codes.canonical(each["code"]) for each in listed}) == 120
    assert {(each["code"][:5], each["uses_left"]) for each in listed} == {("KINO-", 2)}


async def test_ten_thousand_codes_are_imported_in_few_statements(live_client, statements):
    shelf = await Shelf.open(live_client)
    imported = [f"A{number:05}-X" for number in range(10_000)]
    statements.clear()
    pool = await shelf.pool(codes=imported)
    assert (pool["codes_count"], pool["duplicates"]) == (10_000, [])
    assert len(statements) <= 6
    assert (await shelf.pool(codes=imported[:50]))["duplicates"] == imported[:50]


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        ({}, "/count"),
        ({"count": 1, "codes": ["AAA-1"]}, "/count"),
        ({"count": 0}, "/count"),
        ({"count": 10_001}, "/count"),
        ({"codes": []}, "/codes"),
        ({"codes": ["AAA-1", "A-B"]}, "/codes/1"),
        ({"codes": ["AAA-1", "Ä"]}, "/codes/1"),
        ({"count": 811, "pattern": "KOPI-####"}, "/pattern"),
        ({"count": 1, "name": " "}, "/name"),
        ({"count": 1, "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ],
)
async def test_a_pool_that_is_not_valid_is_refused_and_changes_nothing(shelf, client, session, facts, pointer):
    before = await checksum(session)
    answer = await client.post(f"/v1/programs/{shelf.program_id}/voucher-pools", json={"name": "Pool", **facts})
    assert answer.status_code == 422, answer.text
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert await checksum(session) == before


async def test_only_a_reward_that_gives_vouchers_has_a_pool(shelf, client):
    reward = await shelf.reward()
    body = {"name": "Pool", "count": 1, "reward_id": reward["id"]}
    refused(await client.post(f"/v1/programs/{shelf.program_id}/voucher-pools", json=body), 422, "not_a_voucher_reward")


# ---------------------------------------------------------------- with a reward


async def test_a_reward_with_vouchers_gives_a_code_that_works_as_often_as_was_bought(shelf, sari):
    reward = await shelf.reward(fulfilment="voucher", valid_days=30, code_pattern="KOPI-######")
    bought = (await shelf.get_reward(sari, reward, quantity=2)).json()
    assert bought["status"] == "issued"
    local = datetime.now(ZoneInfo("Asia/Jakarta")).replace(hour=0, minute=0, second=0, microsecond=0)
    assert datetime.fromisoformat(bought["voucher"]["expires_at"]) == local + timedelta(days=31)
    code = bought["voucher"]["code"]
    assert code.startswith("KOPI-")
    voucher = await shelf.check(code)
    assert (voucher["uses_left"], voucher["contact_id"], voucher["redemption_id"], voucher["reward_id"]) == (
        2, str(sari), bought["id"], reward["id"],
    )  # fmt: skip
    assert voucher["benefit"] == {"kind": "reward", "name": "Coffee"}
    for number, status in ((1, "issued"), (2, "used")):
        assert (await shelf.use(code, sari, f"INV-{number}")).status_code == 201
        kept = await shelf.get(sari, f"redemptions/{bought['id']}")
        assert (kept["status"], kept["voucher"]) == (status, bought["voucher"])
    kinds = await shelf.told(sari)
    assert kinds == [
        "voucher.redeemed", "voucher.redeemed", "voucher.issued", "reward.redeemed", "points.redeemed", "points.earned",
    ]  # fmt: skip


async def test_a_voucher_that_was_used_keeps_its_reward(shelf, sari, session):
    reward = await shelf.reward(fulfilment="voucher", stock=1)
    bought = (await shelf.get_reward(sari, reward)).json()
    code = bought["voucher"]["code"]
    used = (await shelf.use(code, sari, "INV-1")).json()
    before = await checksum(session)
    refused(await shelf.reverse(sari, bought["id"]), 409, "voucher_used")
    assert await checksum(session) == before
    assert await shelf.roll_back(code, used["id"]) == 204
    assert (await shelf.get(sari, f"redemptions/{bought['id']}"))["status"] == "issued"
    assert (await shelf.reverse(sari, bought["id"])).status_code == 201
    assert await shelf.stock(reward) == 1
    left = await shelf.check(code)
    assert (left["status"], left["valid"], why(left)) == ("cancelled", False, ["cancelled"])
    assert why(refused(await shelf.use(code, sari, "INV-2"), 409, "voucher_invalid")) == ["cancelled"]


async def test_half_a_voucher_used_is_used(shelf, sari):
    reward = await shelf.reward(fulfilment="voucher")
    bought = (await shelf.get_reward(sari, reward, quantity=2)).json()
    await shelf.use(bought["voucher"]["code"], sari, "INV-1")
    refused(await shelf.reverse(sari, bought["id"]), 409, "voucher_used")


async def test_a_reward_draws_from_its_pools_oldest_first_until_they_are_empty(shelf, sari):
    reward = await shelf.reward(fulfilment="voucher", cost=1)
    first = await shelf.pool(codes=["KINO-BBB", "KINO-AAA"], reward_id=reward["id"])
    await shelf.pool(codes=["KINO-CCC"], reward_id=reward["id"])
    assert (first["codes_left"], first["codes_count"]) == (2, 2)
    refused(await shelf.use("KINO-AAA", sari, "INV-1"), 404, "voucher_not_found")  # not anybody's yet
    refused(await shelf.get_reward(sari, reward, quantity=2), 422, "one_at_a_time")
    drawn = [(await shelf.get_reward(sari, reward)).json()["voucher"]["code"] for _ in range(3)]
    assert drawn == ["KINO-BBB", "KINO-AAA", "KINO-CCC"]
    assert (await shelf.check("kino aaa"))["pool_id"] == first["id"]
    assert [each["code"] for each in (await shelf.choice(sari, reward))["why_not"]] == ["out_of_stock"]
    refused(await shelf.get_reward(sari, reward), 409, "out_of_stock")
    url = f"/v1/programs/{shelf.program_id}/voucher-pools/{first['id']}"
    assert (await shelf.client.get(url)).json()["codes_left"] == 0
    await shelf.pool(codes=["KINO-DDD"], reward_id=reward["id"])
    assert (await shelf.get_reward(sari, reward)).json()["voucher"]["code"] == "KINO-DDD"


async def test_a_code_that_was_issued_does_not_go_back_into_its_pool(shelf, sari):
    reward = await shelf.reward(fulfilment="voucher")
    await shelf.pool(codes=["KINO-AAA"], reward_id=reward["id"])
    bought = (await shelf.get_reward(sari, reward)).json()
    assert (await shelf.reverse(sari, bought["id"])).status_code == 201
    refused(await shelf.get_reward(sari, reward), 409, "out_of_stock")
    assert (await shelf.check("KINO-AAA"))["status"] == "cancelled"


async def test_a_code_that_is_being_drawn_again_and_again_is_refused_and_takes_nothing(
    shelf, sari, session, monkeypatch
):
    reward = await shelf.reward(fulfilment="voucher", stock=5)
    monkeypatch.setattr(codes, "generate", lambda pattern: "AAAA-AAAA")
    assert (await shelf.get_reward(sari, reward)).status_code == 201
    before = await checksum(session)
    refused(await shelf.get_reward(sari, reward), 409, "pattern_used_up")
    assert await checksum(session) == before


async def test_a_referral_s_code_is_no_voucher(shelf, session, client):
    await codes.take(
        session, code="SARI-2026", kind="referral", program_id=UUID(shelf.program_id), contact_id=uuid7(),
        subject_id=uuid7(),
    )  # fmt: skip
    refused(await client.get("/v1/vouchers/SARI-2026"), 404, "voucher_not_found")
    refused(
        await client.post(f"/v1/programs/{shelf.program_id}/vouchers", json={"code": "sari2026"}), 409, "code_taken"
    )
