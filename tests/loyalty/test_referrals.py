"""Referrals over HTTP: given a code and who came with it, when the friend buys or brings back, then what both have."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.loyalty import codes
from tests.loyalty.shelf import refused
from tests.loyalty.shop import checksum
from tests.loyalty.stampcards import PROMISE, Club, at

pytestmark = pytest.mark.usefixtures("audited_session")

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
JAKARTA = ZoneInfo("Asia/Jakarta")
MIDNIGHT = datetime.now(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
async def club(client: Any) -> Club:
    club = await Club.open(client)
    await club.promise()
    return club


async def points(club: Club, who: UUID) -> tuple[int, int]:
    """Pending and available."""
    balance = await club.balance(who)
    return balance["pending"], balance["available"]


# ---------------------------------------------------------------- the code


async def test_a_code_is_made_at_first_use_and_stays(club, session):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    assert codes.canonical(code) is not None
    assert await club.code(sari) == code != await club.code(budi)
    directory = await session.fetch("SELECT code, contact_id FROM code_directory WHERE kind = 'referral'")
    assert {(row["code"], row["contact_id"]) for row in directory} >= {(codes.canonical(code), sari)}


async def test_a_code_in_use_for_anything_is_not_made_again(club, monkeypatch):
    await club.voucher(code="TAKEN")
    made = iter(["taken", "T-A-K-E-N", "FREE-77"])
    monkeypatch.setattr(codes, "generate", lambda pattern: next(made))
    assert await club.code(await club.member()) == "FREE-77"


async def test_a_voucher_is_no_referral_and_a_referral_is_no_voucher(club):
    sari, budi = await club.member(), await club.member()
    await club.voucher(code="HEMAT-10")
    assert refused(await club.refer(budi, "HEMAT-10"), 409, "not_eligible")["reason"] == "unknown_code"
    answer = await club.client.get(f"/v1/vouchers/{await club.code(sari)}")
    assert answer.status_code == 404


async def test_a_code_is_known_however_it_is_typed(club):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    answer = await club.refer(budi, f" {code.lower().replace('-', ' ')} ")
    assert (answer.status_code, answer.json()["code"]) == (201, code)


# ---------------------------------------------------------------- being referred


async def test_a_referral_is_pending_on_both_sides(club):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    made = (await club.refer(budi, code)).json()
    assert made == await club.get(budi, f"referrals/{made['id']}")
    assert (made["role"], made["other_contact_id"], made["status"], made["points"]) == (
        "referee", str(sari), "pending", 50,
    )  # fmt: skip
    mirrored = await club.get(sari, f"referrals/{made['id']}")
    assert (mirrored["role"], mirrored["other_contact_id"], mirrored["status"], mirrored["points"]) == (
        "referrer", str(budi), "pending", 100,
    )  # fmt: skip
    assert await points(club, sari) == await points(club, budi) == (0, 0)
    [told] = await club.entries(budi, "referral.referred")
    assert told["other_contact_id"] == str(sari)
    [told] = await club.entries(sari, "referral.made")
    assert (told["referral_id"], told["points"]) == (made["id"], 100)


async def test_the_same_idempotency_key_refers_once(club):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    first, again = await club.refer(budi, code, key="k"), await club.refer(budi, code, key="k")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json() == again.json()
    refused(await club.refer(budi, code, key="k2"), 409, "not_eligible")


async def test_referrals_come_in_pages(club):
    sari = await club.member()
    friends = [await club.friend_of(sari) for _ in range(3)]
    page = await club.get(sari, "referrals?limit=2")
    rest = await club.get(sari, f"referrals?limit=2&cursor={page['next_cursor']}")
    found = [item["other_contact_id"] for item in (*page["items"], *rest["items"])]
    assert found == [str(friend) for friend in reversed(friends)]


# ---------------------------------------------------------------- refusals


async def buys(club: Club, sari: UUID, budi: UUID) -> None:
    await club.visit(budi, total="1")


async def came_before(club: Club, sari: UUID, budi: UUID) -> None:
    await club.refer(budi, await club.code(await club.member()))


async def came_with_this_code(club: Club, sari: UUID, budi: UUID) -> None:
    await club.refer(budi, await club.code(sari))


async def mailbox(club: Club, sari: UUID, budi: UUID) -> None:
    await club.identify(sari, "email", "sari.dewi@gmail.com")
    await club.identify(budi, "email", "SariDewi+friend@googlemail.com")


async def phone(club: Club, sari: UUID, budi: UUID) -> None:
    await club.identify(sari, "phone", "0812-3456-789")
    await club.identify(budi, "whatsapp", "628123456789")


async def ended(club: Club, sari: UUID, budi: UUID) -> None:
    assert (await club.client.delete(f"/v1/programs/{club.program_id}/referral-policy")).status_code == 204


async def referred_back(club: Club, sari: UUID, budi: UUID) -> None:
    await club.refer(sari, await club.code(budi))


async def paused(club: Club, sari: UUID, budi: UUID) -> None:
    await club.client.put(f"/v1/contacts/{sari}/memberships/{club.program_id}", json={"status": "paused"})


REASONS = {
    "an existing customer": (buys, "existing_customer"),
    "somebody who came with another code": (came_before, "already_referred"),
    "somebody who came with this code": (came_with_this_code, "already_referred"),
    "the same mailbox": (mailbox, "same_person"),
    "the same phone": (phone, "same_person"),
    "where nothing is promised": (ended, "not_offered"),
    "who has referred the other": (referred_back, "mutual"),
    "with the code of a paused member": (paused, "referrer_suspended"),
}


@pytest.mark.parametrize(("given", "reason"), REASONS.values(), ids=REASONS)
async def test_who_is_not_eligible_is_refused_with_the_reason(club, session, given, reason):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    await given(club, sari, budi)
    before = await checksum(session)
    problem = refused(await club.refer(budi, code), 409, "not_eligible")
    assert problem["reason"] == reason
    assert await checksum(session) == before


async def test_nobody_refers_themselves_and_a_code_that_nobody_has_refers_nobody(club):
    sari = await club.member()
    assert refused(await club.refer(sari, await club.code(sari)), 409, "not_eligible")["reason"] == "own_code"
    assert refused(await club.refer(sari, "7KQM-R4TX"), 409, "not_eligible")["reason"] == "unknown_code"
    assert refused(await club.refer(sari, "???"), 409, "not_eligible")["reason"] == "unknown_code"


async def test_a_code_is_of_one_program(club):
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    other = (await club.client.post("/v1/programs", json={"name": "B", "currency": "IDR", "time_zone": "UTC"})).json()
    answer = await club.post(budi, "referrals", {"code": code, "program_id": other["id"]})
    assert refused(answer, 409, "not_eligible")["reason"] == "unknown_code"
    there = (await club.client.get(f"/v1/contacts/{sari}/referral-code?program={other['id']}")).json()["code"]
    answer = await club.refer(budi, there)
    assert refused(answer, 409, "not_eligible")["reason"] == "not_offered"


async def test_the_cap_counts_friends_of_the_period_who_did_not_come_to_nothing(club, session):
    await club.promise(cap={"times": 2, "per": "month"}, hold_days=0)
    sari = await club.member()
    first, _ = await club.friend_of(sari), await club.friend_of(sari)
    budi = await club.member()
    problem = refused(await club.refer(budi, await club.code(sari)), 409, "not_eligible")
    assert problem["reason"] == "cap_reached"
    until = datetime.fromisoformat(problem["until"]).astimezone(JAKARTA)
    assert (until.day, until.hour) == (1, 0)
    await club.visit(first, "INV-1", total="60000")
    await club.refund(first, "INV-1", amount="60000")
    assert (await club.refer(budi, await club.code(sari))).status_code == 201
    await session.execute("UPDATE referrals SET created_at = created_at - '40 days'::interval")
    assert (await club.refer(await club.member(), await club.code(sari))).status_code == 201


# ---------------------------------------------------------------- the order that decides


ORDERS = {
    # what was bought, one after the other -> which of them decides
    "enough": (["50000"], 0),
    "a cent too little": (["49999.99"], None),
    "the first that is enough": (["10000", "50000", "80000"], 1),
    "small ones do not add up": (["30000", "30000"], None),
}


@pytest.mark.parametrize(("totals", "decides"), ORDERS.values(), ids=ORDERS)
async def test_the_first_order_that_is_large_enough_rewards_both(club, totals, decides):
    sari = await club.member()
    friend = await club.friend_of(sari)
    for number, total in enumerate(totals):
        await club.visit(friend, f"INV-{number}", total=total, occurred_at=at(NOW))
    mine, theirs = await club.referral(friend), await club.referral(sari)
    assert {mine["order_ref"], theirs["order_ref"]} == {None if decides is None else f"INV-{decides}"}
    assert {mine["status"], theirs["status"]} == {"pending" if decides is None else "qualified"}
    assert (await points(club, sari))[0] == (0 if decides is None else 100)
    assert (await points(club, friend))[0] == (0 if decides is None else 50)


async def test_both_wait_until_the_return_window_has_closed(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    bought = await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert (bought["points"], bought["balance"]["available"], bought["balance"]["pending"]) == (60, 60, 50)
    assert await points(club, sari) == (100, 0)
    ends = MIDNIGHT + 14 * DAY
    mine = await club.referral(friend)
    assert datetime.fromisoformat(mine["activates_at"]) == ends
    for who, had, more in ((friend, 60, 50), (sari, 0, 100)):
        for instant, available in ((ends - timedelta(microseconds=1), had), (ends, had + more)):
            asked = instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
            assert (await club.get(who, f"loyalty?as_of={asked}"))["available"] == available


async def test_a_referral_is_paid_once_its_points_begin(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, total="60000", occurred_at=at(NOW - 20 * DAY))
    assert (await club.referral(friend))["status"] == (await club.referral(sari))["status"] == "paid"
    assert await points(club, sari) == (0, 100)
    assert await points(club, friend) == (0, 110)


async def test_without_a_hold_both_are_paid_at_once(club):
    await club.promise(hold_days=0)
    sari = await club.member()
    friend = await club.friend_of(sari)
    bought = await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert bought["balance"]["available"] == 110
    assert await points(club, sari) == (0, 100)
    assert (await club.referral(sari))["status"] == "paid"


async def test_what_was_promised_when_the_friend_came_is_kept(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.promise(referrer_points=1, referee_points=1, min_spend="1000000.00", hold_days=0)
    await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert (await points(club, sari), await points(club, friend)) == ((100, 0), (50, 60))


async def test_friends_who_came_before_the_end_are_owed_what_they_were_promised(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await ended(club, sari, friend)
    await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert (await points(club, sari), await points(club, friend)) == ((100, 0), (50, 60))


async def test_one_side_may_get_nothing(club):
    await club.promise(referee_points=0, hold_days=0)
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert (await points(club, sari), await points(club, friend)) == ((0, 100), (0, 60))
    assert (await club.referral(friend))["transaction_id"] is None
    await club.refund(friend, (await club.referral(friend))["order_ref"], amount="60000")
    assert (await club.referral(friend))["status"] == "reversed"


async def test_an_order_that_was_recorded_before_decides_nothing_again(club, session):
    sari = await club.member()
    friend = await club.friend_of(sari)
    first = await club.visit(friend, "INV-1", total="60000")
    before = await checksum(session)
    assert await club.visit(friend, "INV-1", total="60000") == first
    assert await checksum(session) == before
    await club.visit(friend, "INV-2", total="60000")
    assert sum(await points(club, sari)) == 100


async def test_friends_and_who_referred_them_in_one_batch(club):
    await club.promise(hold_days=0)
    sari = await club.member()
    friends = [await club.friend_of(sari) for _ in range(2)]
    order = {"occurred_at": at(NOW), "currency": "IDR", "total": "60000"}
    items = [
        {"contact_id": str(who), "order_ref": ref, **order}
        for who, ref in ((friends[0], "A"), (sari, "B"), (friends[1], "C"), (friends[0], "D"))
    ]
    answer = (await club.client.post("/v1/purchases/batch", json={"items": items})).json()["items"]
    assert [item["body"]["balance"]["available"] for item in answer] == [110, 160, 110, 170]
    assert await points(club, sari) == (0, 260)


async def test_a_simulation_shows_the_friend_s_points_and_writes_nothing(club, session):
    sari = await club.member()
    friend = await club.friend_of(sari)
    before = await checksum(session)
    order = {"order_ref": "X", "occurred_at": at(NOW), "currency": "IDR", "total": "60000"}
    answer = await club.client.post("/v1/purchases/simulations", json={**order, "contact_id": str(friend)})
    assert await checksum(session) == before
    assert (await club.visit(friend, "X", occurred_at=at(NOW), total="60000"))["balance"] == answer.json()["balance"]


async def test_who_turns_out_to_be_the_same_person_gets_nothing(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await phone(club, sari, friend)
    bought = await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert (bought["balance"]["pending"], bought["balance"]["available"]) == (0, 60)
    for who in (sari, friend):
        referral = await club.referral(who)
        assert (referral["status"], referral["reason"]) == ("refused", "same_person")
        assert [each["reason"] for each in await club.entries(who, "referral.refused")] == ["same_person"]
    await club.visit(friend, total="60000")
    assert (await points(club, sari)) == (0, 0)


async def test_who_has_paused_gets_nothing_and_their_friend_does(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await paused(club, sari, friend)
    await club.visit(friend, total="60000", occurred_at=at(NOW))
    assert await points(club, friend) == (50, 60)
    theirs = await club.referral(sari)
    assert (theirs["status"], theirs["reason"]) == ("refused", "membership_suspended")
    assert (await club.referral(friend))["status"] == "qualified"
    await club.refund(friend, theirs["order_ref"], amount="60000")
    assert (await club.referral(friend))["status"] == "reversed"
    assert (await club.referral(sari))["status"] == "refused"


# ---------------------------------------------------------------- refunds


REFUNDS = {
    # refunds of an order of 60,000 -> whether the referral falls
    "a part, at the minimum": (["10000"], False),
    "a part, below the minimum": (["10000.01"], True),
    "two parts": (["6000", "6000"], True),
    "everything": (["60000"], True),
}


@pytest.mark.parametrize("hold_days", [14, 0])
@pytest.mark.parametrize(("amounts", "falls"), REFUNDS.values(), ids=REFUNDS)
async def test_a_refund_below_the_minimum_reverses_both_sides(club, amounts, falls, hold_days):
    await club.promise(hold_days=hold_days)
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, "INV-1", total="60000", occurred_at=at(NOW))
    for number, amount in enumerate(amounts):
        await club.refund(friend, "INV-1", f"CN-{number}", amount=amount)
    assert sum(await points(club, sari)) == (0 if falls else 100)
    earned = (await club.balance(friend))["available"] + (await club.balance(friend))["pending"]
    assert earned - 60 + round(float(sum(map(float, amounts))) / 1000) == (0 if falls else 50)
    standing = "qualified" if hold_days else "paid"
    assert {(await club.referral(who))["status"] for who in (sari, friend)} == {"reversed" if falls else standing}


async def test_a_reversal_stands_on_both_timelines(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, "INV-1", total="60000", occurred_at=at(NOW))
    await club.refund(friend, "INV-1", amount="60000")
    for who, had in ((sari, 100), (friend, 50)):
        assert {"referral.reversed", "referral.qualified"} <= set(await club.told(who))
        [told] = await club.entries(who, "referral.reversed")
        assert (told["points_taken_back"], told["points_written_off"]) == (had, 0)
    assert "order_ref" not in (await club.entries(sari, "referral.qualified"))[0]


async def test_spent_points_of_who_referred_are_taken_back_as_far_as_the_policy_says(club):
    await club.promise(hold_days=0)
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, "INV-1", total="60000", occurred_at=at(NOW))
    assert (await club.redeem(sari, 70)).status_code == 201
    await club.refund(friend, "INV-1", amount="60000")
    assert await points(club, sari) == (0, 0)
    [told] = await club.entries(sari, "referral.reversed")
    assert (told["points_taken_back"], told["points_written_off"]) == (30, 70)


async def test_a_refund_of_another_order_leaves_the_referral(club):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, "INV-1", total="60000", occurred_at=at(NOW))
    await club.visit(friend, "INV-2", total="60000", occurred_at=at(NOW))
    await club.refund(friend, "INV-2", amount="60000")
    assert await points(club, sari) == (100, 0)


async def test_a_reversed_referral_does_not_come_back(club, session):
    sari = await club.member()
    friend = await club.friend_of(sari)
    await club.visit(friend, "INV-1", total="60000")
    first = await club.refund(friend, "INV-1", amount="60000")
    before = await checksum(session)
    assert await club.refund(friend, "INV-1", amount="60000") == first
    assert await checksum(session) == before
    await club.visit(friend, "INV-2", total="60000")
    assert sum(await points(club, sari)) == 0
    refused(await club.refer(friend, await club.code(sari)), 409, "not_eligible")


# ---------------------------------------------------------------- round trips


async def test_referrals_cost_a_purchase_no_round_trip(club, statements):
    sari = await club.member()
    friend = await club.friend_of(sari)

    async def said(who: UUID, total: str) -> list[str]:
        statements.clear()
        await club.visit(who, total=total)
        return [each.split()[0] for each in statements if not each.startswith(("SAVEPOINT", "RELEASE"))]

    await said(sari, "1000")
    assert await said(sari, "1000") == ["SELECT", "WITH"]
    assert await said(friend, "60000") == ["SELECT", "SELECT", "WITH"]  # are they the same person?
    assert await said(friend, "60000") == ["SELECT", "WITH"]


# ---------------------------------------------------------------- the policy


async def test_a_policy_is_set_read_and_ended(club):
    url = f"/v1/programs/{club.program_id}/referral-policy"
    whole = {**PROMISE, "cap": {"times": 3, "per": "year"}}
    assert (await club.client.put(url, json=whole)).json() == whole
    assert (await club.client.get(url)).json() == whole
    assert (await club.client.put(url, json=PROMISE)).json() == {**PROMISE, "cap": None}
    assert (await club.client.delete(url)).status_code == 204
    refused(await club.client.get(url), 404, "referral_policy_not_found")
    refused(await club.client.delete(url), 404, "referral_policy_not_found")


BAD = {
    "no points": {"referrer_points": None},
    "points for nobody": {"referrer_points": 0, "referee_points": 0},
    "points below zero": {"referee_points": -1},
    "points beyond all": {"referee_points": 2**63},
    "a minimum as a number": {"min_spend": 50000},
    "a minimum below zero": {"min_spend": "-1"},
    "days below zero": {"hold_days": -1},
    "days as a text": {"hold_days": "14"},
    "a cap of nothing": {"cap": {"times": 0, "per": "month"}},
    "a cap without a period": {"cap": {"times": 1}},
    "an unknown field": {"bonus": 1},
}


@pytest.mark.parametrize("facts", BAD.values(), ids=BAD)
async def test_a_policy_that_can_not_be_is_refused_and_changes_nothing(club, session, facts):
    before = await checksum(session)
    body = {name: value for name, value in (PROMISE | facts).items() if value is not None}
    refused(await club.client.put(f"/v1/programs/{club.program_id}/referral-policy", json=body), 422, "invalid")
    assert await checksum(session) == before


@pytest.mark.parametrize("body", [{}, {"code": ""}, {"code": 7}, {"code": "A\x00B"}, {"code": "ABC", "x": 1}])
async def test_a_referral_that_can_not_be_is_refused(club, body):
    refused(await club.post(await club.member(), "referrals", body), 422, "invalid")


async def test_what_is_not_there_is_404(club):
    nobody, sari, budi = UUID(int=1), await club.member(), await club.member()
    code = await club.code(sari)
    refused(await club.client.get(f"/v1/contacts/{nobody}/referral-code"), 404, "contact_not_found")
    refused(await club.client.get(f"/v1/contacts/{sari}/referral-code?program={nobody}"), 404, "program_not_found")
    refused(await club.refer(nobody, code), 404, "contact_not_found")
    refused(await club.refer(nobody, "7KQM-R4TX"), 404, "contact_not_found")
    refused(await club.client.get(f"/v1/contacts/{nobody}/referrals"), 404, "contact_not_found")
    refused(await club.client.get(f"/v1/contacts/{budi}/referrals/{nobody}"), 404, "referral_not_found")
    url = f"/v1/programs/{nobody}/referral-policy"
    refused(await club.client.put(url, json=PROMISE), 404, "program_not_found")
    refused(await club.client.get(url), 404, "referral_policy_not_found")
    assert (await club.get(budi, "referrals")) == {"items": [], "next_cursor": None}


async def test_in_a_program_by_invitation_only_members_are_referred(club):
    await club.client.patch(f"/v1/programs/{club.program_id}", json={"enrolment": "explicit"})
    sari, budi = await club.member(), await club.member()
    code = await club.code(sari)
    refused(await club.refer(budi, code), 409, "not_enrolled")
    url = f"/v1/contacts/{budi}/memberships/{club.program_id}"
    assert (await club.client.put(url, json={"status": "active"})).status_code == 200
    assert refused(await club.refer(budi, code), 409, "not_eligible")["reason"] == "referrer_suspended"


async def test_each_route_needs_its_scope(club):
    sari = await club.member()
    reader = await club.client.limited_to("programs:read", "loyalty:read")
    assert (await reader.get(f"/v1/contacts/{sari}/referral-code")).status_code == 200
    assert (await reader.post(f"/v1/contacts/{sari}/referrals", json={"code": "ABC"})).status_code == 403
    assert (await reader.put(f"/v1/programs/{club.program_id}/referral-policy", json=PROMISE)).status_code == 403
