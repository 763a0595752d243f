"""Memberships: who takes part, who pauses, and what still happens to the points of those who do not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.loyalty.shop import EARNED, Shop, at_once, checksum, statuses

pytestmark = pytest.mark.usefixtures("audited_session")

NOBODY = UUID("01a200ec-0000-7000-8000-000000000000")
VIEW = {"program_id", "status", "terms_version", "enrolled_at"}


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.fixture
async def sari(shop: Shop) -> UUID:
    return await shop.member()


async def put(shop: Shop, contact_id: UUID, status: str = "active", program_id: Any = None, **facts: Any) -> Any:
    url = f"/v1/contacts/{contact_id}/memberships/{program_id or shop.program_id}"
    return await shop.client.put(url, json={"status": status, **facts})


async def by_invitation(shop: Shop) -> None:
    answer = await shop.client.patch(f"/v1/programs/{shop.program_id}", json={"enrolment": "explicit"})
    assert answer.status_code == 200, answer.text


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    document: dict[str, Any] = answer.json()
    return document


def ago(**spell: float) -> str:
    return (datetime.now(UTC) - timedelta(**spell)).isoformat()


async def told(shop: Shop, contact_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    """What the timeline says of memberships, oldest first."""
    items = (await shop.get(contact_id, "timeline?limit=200"))["items"]
    return [
        (one["kind"], {name: value for name, value in one["data"].items() if name != "program_id"})
        for one in sorted(items, key=lambda one: one["id"])
        if one["kind"].startswith("membership.")
    ]


# ---------------------------------------------------------------- enrolling


async def test_the_first_earning_enrols(shop, sari):
    assert (await shop.get(sari, "memberships"))["items"] == []
    problem(await shop.client.get(f"/v1/contacts/{sari}/memberships/{shop.program_id}"), 404, "membership_not_found")
    await shop.buy(sari)
    (membership,) = (await shop.get(sari, "memberships"))["items"]
    assert membership.keys() == VIEW
    assert (membership["program_id"], membership["status"], membership["terms_version"]) == (
        shop.program_id, "active", None,
    )  # fmt: skip
    assert await shop.get(sari, f"memberships/{shop.program_id}") == membership


async def test_a_put_enrols_and_keeps_which_terms_were_accepted(shop, sari):
    answer = await put(shop, sari, terms_version="2026-10")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["terms_version"]) == ("active", "2026-10")
    assert await shop.get(sari, f"memberships/{shop.program_id}") == answer.json()
    assert await told(shop, sari) == [("membership.enrolled", {"status": "active", "terms_version": "2026-10"})]


async def test_a_program_by_invitation_lets_nobody_in_by_themselves(shop, sari, session):
    await by_invitation(shop)
    before = await checksum(session)
    event = {"event": "review", "ref": "1"}
    for answer in (
        await shop.buy(sari), await shop.award(sari, 5), await shop.adjust(sari, 5), await shop.redeem(sari, 5),
        await shop.post(sari, "events", event),
    ):  # fmt: skip
        problem(answer, 409, "not_enrolled")
    assert await checksum(session) == before
    assert (await shop.balance(sari))["available"] == 0
    problem(await shop.award(NOBODY, 5), 404, "contact_not_found")
    assert (await put(shop, sari)).status_code == 200
    assert (await shop.buy(sari)).json()["balance"]["available"] == EARNED
    assert (await shop.post(sari, "events", event)).status_code == 201


async def test_a_batch_leaves_out_who_is_not_invited(shop, sari):
    budi = await shop.member()
    await put(shop, sari)
    await by_invitation(shop)
    items = (await shop.award_batch((sari, 1), (budi, 2), (NOBODY, 3))).json()["items"]
    assert [item["status"] for item in items] == [201, 409, 404]
    assert [item["problem"]["code"] for item in items[1:]] == ["not_enrolled", "contact_not_found"]


async def test_members_of_before_stay_members_of_a_program_by_invitation(shop, sari):
    await shop.buy(sari)
    await by_invitation(shop)
    assert (await shop.award(sari, 5)).json()["balance"]["available"] == EARNED + 5


# ---------------------------------------------------------------- pausing, closing, resuming


CHANGES = {
    "pausing": (["active", "paused"], ["enrolled", "paused"]),
    "closing": (["active", "closed"], ["enrolled", "closed"]),
    "closing what is paused": (["paused", "closed"], ["enrolled", "closed"]),
    "resuming": (["active", "paused", "active"], ["enrolled", "paused", "resumed"]),
    "coming back": (["active", "closed", "active"], ["enrolled", "closed", "resumed"]),
    "the same again": (["active", "active", "paused", "paused"], ["enrolled", "paused"]),
}


@pytest.mark.parametrize(("statuses_put", "words"), CHANGES.values(), ids=CHANGES)
async def test_each_change_of_a_membership_stands_on_the_timeline_once(shop, sari, statuses_put, words):
    for status in statuses_put:
        answer = await put(shop, sari, status)
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert [kind for kind, _ in await told(shop, sari)] == [f"membership.{word}" for word in words]


async def test_the_same_put_again_changes_nothing(shop, sari, session):
    first = await put(shop, sari, "paused", terms_version="2")
    before = await checksum(session)
    for facts in ({"terms_version": "2"}, {}, {"terms_version": None}):
        again = await put(shop, sari, "paused", **facts)
        assert (again.status_code, again.json()) == (200, first.json())
    assert await checksum(session) == before


async def test_new_terms_are_a_fact_of_their_own(shop, sari):
    await put(shop, sari, terms_version="1")
    await put(shop, sari, terms_version="2")
    await put(shop, sari, "paused", terms_version="3")
    assert [(kind, facts["terms_version"]) for kind, facts in await told(shop, sari)] == [
        ("membership.enrolled", "1"), ("membership.terms_accepted", "2"), ("membership.paused", "3"),
        ("membership.terms_accepted", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["paused", "closed"])
async def test_who_is_suspended_neither_earns_nor_spends(shop, sari, session, status):
    budi = await shop.member()
    await shop.award(sari, 100)
    await shop.award(budi, 1)
    await put(shop, sari, status)
    before = await checksum(session)
    for answer in (
        await shop.buy(sari), await shop.award(sari, 5), await shop.redeem(sari, 5),
        await shop.post(sari, "holds", {"points": 5}), await shop.post(sari, "events", {"event": "x", "ref": "1"}),
        await shop.post(sari, "points-transfers", {"to_contact_id": str(budi), "points": 5}),
    ):  # fmt: skip
        problem(answer, 409, "membership_suspended")
    assert await checksum(session) == before
    await put(shop, sari, "active")
    assert (await shop.redeem(sari, 5)).status_code == 201
    assert (await shop.buy(sari)).status_code == 201


@pytest.mark.parametrize("status", ["paused", "closed"])
async def test_what_was_done_before_can_still_be_undone(shop, sari, status):
    await shop.buy(sari)
    redemption = (await shop.redeem(sari, 20)).json()
    await put(shop, sari, status)
    assert (await shop.reverse(sari, redemption["id"])).json()["balance"]["available"] == EARNED
    refund = await shop.post(sari, "purchases/INV-1/refunds", {"refund_ref": "CN-1", "amount": "45000.00"})
    assert (refund.status_code, refund.json()["points_taken_back"]) == (201, EARNED)
    assert refund.json()["balance"]["available"] == 0


async def test_an_order_recorded_before_is_answered_as_ever(shop, sari):
    first = (await shop.buy(sari)).json()
    await put(shop, sari, "paused")
    again = await shop.buy(sari)
    assert (again.status_code, again.json()) == (200, first)


async def test_points_of_the_suspended_still_begin_and_end(shop, sari):
    await shop.award(sari, 30, occurred_at=ago(days=3), expires_at=ago(days=-1))
    await shop.award(sari, 7, activates_at=ago(days=-1))
    await put(shop, sari, "closed")
    seen = await shop.get(sari, f"loyalty?as_of={ago(days=-2).replace('+00:00', 'Z')}")
    assert (seen["available"], seen["pending"]) == (7, 0)


async def test_a_correction_by_hand_is_neither_earning_nor_spending(shop, sari):
    await put(shop, sari, "paused")
    assert (await shop.adjust(sari, 5)).status_code == 201


# ---------------------------------------------------------------- more programs, bad input, races


async def test_memberships_of_several_programs_are_listed_and_apart(shop, sari):
    others = []
    for number in range(4):
        body = {"name": str(number), "currency": "IDR", "time_zone": "UTC"}
        others.append((await shop.client.post("/v1/programs", json=body)).json()["id"])
        await put(shop, sari, "paused", program_id=others[-1])
    await shop.buy(sari)
    pages, cursor = [], ""
    while cursor is not None:
        page = await shop.get(sari, f"memberships?limit=2{cursor and f'&cursor={cursor}'}")
        pages += page["items"]
        cursor = page["next_cursor"]
    assert [(one["program_id"], one["status"]) for one in pages] == [
        (shop.program_id, "active"), *((other, "paused") for other in others),
    ]  # fmt: skip


BAD = {
    "no status": ({}, "/status"),
    "an unknown status": ({"status": "gone"}, "/status"),
    "a blank version": ({"status": "active", "terms_version": " "}, "/terms_version"),
    "a number": ({"status": "active", "terms_version": 2}, "/terms_version"),
    "more than there is": ({"status": "active", "points": 5}, "/points"),
}


@pytest.mark.parametrize(("body", "pointer"), BAD.values(), ids=BAD)
async def test_what_is_no_membership_is_refused_and_named(shop, sari, session, body, pointer):
    before = await checksum(session)
    answer = await shop.client.put(f"/v1/contacts/{sari}/memberships/{shop.program_id}", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await checksum(session) == before


async def test_nobody_and_no_program_have_no_membership(shop, sari, session):
    before = await checksum(session)
    problem(await put(shop, NOBODY), 404, "contact_not_found")
    problem(await put(shop, sari, program_id=NOBODY), 404, "program_not_found")
    problem(await shop.client.get(f"/v1/contacts/{NOBODY}/memberships"), 404, "contact_not_found")
    assert await checksum(session) == before


async def test_setting_a_membership_takes_its_scope(shop, sari):
    for scopes in (("loyalty:read",), ("loyalty:award", "loyalty:adjust")):
        narrow = await shop.client.limited_to(*scopes)
        url = f"/v1/contacts/{sari}/memberships/{shop.program_id}"
        problem(await narrow.put(url, json={"status": "active"}), 403, "scope_missing")


async def test_of_twenty_that_enrol_at_once_one_does(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member()
    answers = await at_once(*(put(shop, sari, terms_version="1") for _ in range(20)), shop.award(sari, 5))
    assert statuses(answers) == {200: 20, 201: 1}
    words = [kind for kind, _ in await told(shop, sari)]
    assert words in (["membership.enrolled"], ["membership.terms_accepted"])


async def test_whoever_is_paused_meanwhile_spends_before_or_not_at_all(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member(points=100)
    answers = await at_once(*(shop.redeem(sari, 10) for _ in range(5)), put(shop, sari, "paused"))
    found = statuses(answers)
    spent = found[201]
    assert (spent + found[409], found[200]) == (5, 1)
    assert await shop.available(sari) == 100 - 10 * spent
    problem(await shop.redeem(sari, 10), 409, "membership_suspended")
