"""What a program's terms do to points, when they are earned and when the terms change: at whatever time it is read."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from crm.db.session import Session
from crm.loyalty import audit, terms
from tests.loyalty.shop import PROGRAM, Shop
from tests.loyalty.till import DAY, INSTANT, JAKARTA, Till, at

NEVER = {"kind": "never"}
SLIDING = {"kind": "sliding", "months": 12, "activities": ["purchase"]}


def after(**length: Any) -> dict[str, Any]:
    return {"kind": "after", **length}


@pytest.fixture
async def session(session: Session) -> AsyncIterator[Session]:
    """Whatever a test did in it, the audit has nothing to say about it."""
    yield session
    assert (await audit.verify(session)).findings == []


# ---------------------------------------------------------------- when points are earned


@pytest.mark.parametrize(
    ("expiry", "ends"),
    [
        pytest.param(NEVER, None, id="never"),
        pytest.param(after(months=1), "2026-04-10", id="a month"),
        pytest.param(after(days=0), "2026-03-10", id="0 days"),
        pytest.param(after(months=1, round_up_to="quarter"), "2026-06-30", id="to the quarter's end"),
        pytest.param(SLIDING, "2027-03-10", id="a year from the last purchase"),
    ],
)
async def test_purchases_awards_and_corrections_upwards_end_as_the_program_says(session, expiry, ends):
    till = await Till.open(session, expiry=expiry)
    await till.buy(10, "2026-03-10")
    await till.award(20, "2026-03-10")
    await till.adjust(30, "2026-03-10")
    assert await till.last_days() == [(10, ends), (20, ends), (30, ends)]
    if ends is not None:
        midnight = at(f"{ends} 00:00") + DAY
        assert [(each.points, each.expires_at) for each in (await till.seen("2026-03-10")).expiring] == [(60, midnight)]
        assert await till.purse(midnight - INSTANT) == (60, 0)
        assert await till.purse(midnight) == (0, 0)


async def test_points_end_by_when_they_were_earned_not_by_when_it_was_told(session):
    till = await Till.open(session, expiry=after(months=1))
    await till.buy(10, "2026-03-10", told="2026-04-02")
    await till.award(20, "2026-03-10", told="2026-04-02")
    assert await till.last_days() == [(10, "2026-04-10"), (20, "2026-04-10")]


async def test_what_had_ended_before_it_was_told_is_kept_and_never_spendable(session):
    till = await Till.open(session, expiry=after(months=1))
    await till.buy(10, "2026-03-10", told="2026-04-11 00:00")
    seen = await till.seen("2026-04-11 00:00")
    assert (seen.available, seen.lifetime_earned, seen.expiring) == (0, 10, [])


async def test_an_award_may_name_its_own_instants(session):
    till = await Till.open(session, expiry=after(months=1))
    ends_at = at("2026-03-12 15:30")
    await till.award(10, "2026-03-10", expires_at=ends_at)
    assert await till.purse(ends_at - INSTANT) == (10, 0)
    assert await till.purse(ends_at) == (0, 0)
    await till.award(20, "2026-03-15", activates_at=at("2026-03-20 08:00"))
    assert await till.purse("2026-03-20 07:59:59") == (0, 20)
    assert await till.purse("2026-03-20 08:00") == (20, 0)
    assert (await till.last_days())[-1] == (20, "2026-04-20")


async def test_an_award_that_begins_before_it_was_given_begins_at_once(session):
    till = await Till.open(session, expiry=after(months=1))
    await till.award(10, "2026-03-10", activates_at=at("2025-12-01"))
    assert await till.purse("2026-03-10") == (10, 0)
    assert await till.last_days() == [(10, "2026-04-10")]


@pytest.mark.parametrize(
    ("days", "begins", "ends"),
    [
        pytest.param(1, "2026-03-11 00:00", "2026-04-11", id="the next morning"),
        pytest.param(14, "2026-03-24 00:00", "2026-04-24", id="a fortnight"),
    ],
)
async def test_points_of_a_purchase_wait_for_the_start_of_their_day_and_last_from_then(session, days, begins, ends):
    till = await Till.open(session, activation={"days": days}, expiry=after(months=1))
    await till.buy(10, "2026-03-10 23:59")
    assert await till.purse("2026-03-10 23:59") == (0, 10)
    assert await till.purse(at(begins) - INSTANT) == (0, 10)
    assert await till.purse(at(begins)) == (10, 0)
    assert await till.last_days() == [(10, ends)]


async def test_points_whose_wait_was_over_when_the_purchase_was_told_begin_then(session):
    till = await Till.open(session, activation={"days": 14})
    await till.buy(10, "2026-03-10", told="2026-03-24 00:00")
    assert await till.purse("2026-03-24 00:00") == (10, 0)
    await till.redeem(10, "2026-03-24 00:00")


async def test_what_is_given_by_hand_does_not_wait(session):
    till = await Till.open(session, activation={"days": 14})
    await till.award(10, "2026-03-10")
    await till.adjust(5, "2026-03-10")
    assert await till.purse("2026-03-10") == (15, 0)


async def test_points_that_wait_for_an_event_are_gone_after_its_deadline(session):
    till = await Till.open(
        session, activation={"event": "delivered", "cancel_after_days": 3}, expiry=after(months=1)
    )  # fmt: skip
    await till.buy(10, "2026-03-10")
    assert await till.last_days() == [(10, None)]
    assert await till.purse("2026-03-13 23:59:59.999999") == (0, 10)
    assert await till.purse("2026-03-14 00:00") == (0, 0)
    await till.award(1, "2026-03-20")
    expired = await session.fetchrow("SELECT * FROM points_transactions WHERE kind = 'expire'")
    assert (expired["points"], expired["occurred_at"]) == (-10, at("2026-03-14 00:00"))


# ---------------------------------------------------------------- turning expiry on


async def test_turning_expiry_on_starts_the_clock_now_for_points_already_held(session):
    till = await Till.open(session)
    await till.award(100, "2020-01-15", told="2026-03-01")
    await till.buy(20, "2026-02-01")
    await till.change("2026-03-10 15:00", expiry=after(months=1))
    assert await till.last_days() == [(100, "2026-04-10"), (20, "2026-04-10")]
    assert await till.purse("2026-03-11 00:00") == (120, 0)
    assert await till.purse("2026-04-10 23:59:59.999999") == (120, 0)
    assert await till.purse("2026-04-11 00:00") == (0, 0)


async def test_nobody_loses_points_on_the_night_on_which_expiry_is_turned_on(session):
    till = await Till.open(session)
    await till.award(100, "2020-01-15", told="2026-03-01")
    await till.change("2026-03-10 23:59:59.999999", expiry=after(days=0))
    assert await till.purse("2026-03-10 23:59:59.999999") == (100, 0)
    assert await till.last_days() == [(100, "2026-03-10")]


async def test_the_account_is_due_when_its_points_end_now(session):
    till = await Till.open(session)
    await till.award(100, "2026-03-01")
    assert await till.due_at() is None
    await till.change("2026-03-10", expiry=after(months=1))
    assert await till.due_at() == at("2026-04-11 00:00")
    await till.award(1, "2026-05-01")
    assert await till.purse("2026-05-01") == (1, 0)


async def test_an_end_that_was_moved_is_a_fact(session):
    till = await Till.open(session)
    await till.award(100, "2026-03-01")
    await till.change("2026-03-10", expiry=after(months=1))
    await till.change("2026-03-12", expiry=after(months=2), applies_to_all=True)
    rows = await session.fetch("SELECT * FROM points_lot_changes ORDER BY occurred_at")
    assert [(row["expires_before"], row["expires_after"], row["reason"]) for row in rows] == [
        (None, at("2026-04-11 00:00"), "expiry_turned_on"),
        (at("2026-04-11 00:00"), at("2026-05-02 00:00"), "expiry_changed"),
    ]
    assert [row["occurred_at"] for row in rows] == [at("2026-03-10"), at("2026-03-12")]


async def test_an_end_of_its_own_stays_whatever_the_program_says(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01", expires_at=at("2026-03-20 18:00"))
    await till.change("2026-03-10", expiry=after(months=1))
    await till.change("2026-03-11", expiry=after(months=6), applies_to_all=True)
    await till.change("2026-03-12", expiry=NEVER, applies_to_all=True)
    assert await till.purse("2026-03-20 17:59:59") == (10, 0)
    assert await till.purse("2026-03-20 18:00") == (0, 0)
    assert await till.changes() == []


async def test_points_that_begin_later_last_as_long_as_others_from_then(session):
    till = await Till.open(session, activation={"days": 60})
    await till.buy(10, "2026-03-01")
    await till.change("2026-03-10", expiry=after(days=14))
    assert await till.purse("2026-04-30 00:00") == (10, 0)
    assert await till.last_days() == [(10, "2026-05-14")]


@pytest.mark.parametrize("deadline", [{}, {"cancel_after_days": 300}], ids=["for ever", "to a deadline"])
async def test_the_clock_of_points_that_wait_for_an_event_does_not_start(session, deadline):
    till = await Till.open(session, activation={"event": "delivered", **deadline})
    await till.buy(10, "2026-03-01")
    await till.change("2026-03-10", expiry=after(days=14))
    await till.change("2026-03-11", expiry=after(days=7), applies_to_all=True)
    assert await till.last_days() == [(10, None)]
    assert await till.purse("2026-06-01") == (0, 10)


async def test_points_on_hold_get_their_end_too(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01")
    hold_id = await till.hold(10, "2026-03-02", expires_in=60 * DAY)
    await till.change("2026-03-10", expiry=after(months=1))
    await till.release(hold_id, "2026-04-10 23:59:59")
    assert await till.purse("2026-04-10 23:59:59") == (10, 0)
    assert await till.purse("2026-04-11 00:00") == (0, 0)


async def test_what_is_owed_never_ends(session):
    till = await Till.open(session)
    await till.adjust(-50, "2026-03-01")
    await till.change("2026-03-10", expiry=after(days=0), applies_to_all=True)
    assert await till.purse("2026-06-01") == (-50, 0)
    assert await till.changes() == []


async def test_points_of_another_program_keep_theirs(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01")
    other = await Till.open(session)
    await other.change("2026-03-10", expiry=after(days=0), applies_to_all=True)
    assert await till.last_days() == [(10, None)]


# ---------------------------------------------------------------- other changes


@pytest.mark.parametrize("expiry", [after(months=1), after(months=24), after(days=3), NEVER, SLIDING], ids=str)
async def test_other_terms_leave_the_points_there_are_and_hold_for_new_ones(session, expiry):
    till = await Till.open(session, expiry=after(months=12))
    await till.award(10, "2026-03-01")
    await till.change("2026-03-10", expiry=expiry)
    await till.award(20, "2026-03-10")
    (held, new) = await till.last_days()
    assert held == (10, "2027-03-01")
    ends = {"1": "2026-04-10", "24": "2028-03-10", "3": "2026-03-13", "12": "2027-03-10"}
    assert new == (20, ends.get(str(expiry.get("months") or expiry.get("days"))))
    assert await till.changes() == []


@pytest.mark.parametrize(
    ("expiry", "ends"),
    [
        pytest.param(after(months=24), "2028-03-01", id="longer"),
        pytest.param(after(months=6), "2026-09-01", id="shorter"),
        pytest.param(after(days=3), "2026-03-10", id="so short that they would be gone: they last out the day"),
        pytest.param(after(days=0), "2026-03-10", id="the shortest there is"),
        pytest.param(after(months=1, round_up_to="year"), "2026-12-31", id="rounded up"),
        pytest.param(NEVER, None, id="no end any more"),
        pytest.param(SLIDING, "2027-03-10", id="sliding, from now"),
    ],
)
async def test_terms_for_all_count_from_when_the_points_began(session, expiry, ends):
    till = await Till.open(session, expiry=after(months=12))
    await till.award(10, "2026-03-01")
    await till.change("2026-03-10", expiry=expiry, applies_to_all=True)
    assert await till.last_days() == [(10, ends)]
    assert await till.purse("2026-03-10 23:59:59.999999") == (10, 0)
    assert await till.changes() == [("2027-03-01", ends, "expiry_changed")]


async def test_what_is_asked_for_later_is_done_then(session):
    till = await Till.open(session, expiry=after(months=12))
    await till.award(10, "2026-03-01")
    await till.change("2026-03-10", expiry=after(months=6))
    await till.change("2026-03-11", expiry=after(months=6), applies_to_all=True)
    assert await till.last_days() == [(10, "2026-09-01")]
    await till.change("2026-03-12", expiry=after(months=6), applies_to_all=True)
    assert len(await till.changes()) == 1


async def test_points_that_have_ended_do_not_come_back(session):
    till = await Till.open(session, expiry=after(months=1))
    await till.award(10, "2026-03-01")
    await till.award(20, "2026-03-10")
    hold_id = await till.hold(5, "2026-03-10", expires_in=300 * DAY)
    await till.change("2026-04-02 00:00", expiry=after(months=12), applies_to_all=True)
    assert await till.purse("2026-04-02 00:00") == (20, 0)
    await till.release(hold_id, "2026-04-02 00:00")
    assert await till.purse("2026-04-02 00:00") == (20, 0)
    assert await till.last_days() == [(20, "2027-03-10")]


async def test_a_beginning_in_the_past_of_its_own_award_counts_for_nothing(session):
    till = await Till.open(session, expiry=after(months=12))
    await till.award(10, "2026-03-01", activates_at=at("2025-06-01"))
    await till.change("2026-03-10", expiry=after(months=6), applies_to_all=True)
    assert await till.last_days() == [(10, "2026-09-01")]


async def test_changing_anything_else_moves_nothing(session):
    till = await Till.open(session, expiry=after(months=12))
    await till.award(10, "2026-03-01")
    await till.change("2026-03-10", activation={"days": 3}, milestones=[5])
    assert await till.changes() == []


async def test_lots_are_moved_in_a_handful_of_statements_however_many_they_are(session, statements):
    till = await Till.open(session)
    for day in range(1, 29):
        await till.award(1, f"2026-02-{day:02}")
    statements.clear()
    await till.change("2026-03-10", expiry=after(months=1))
    assert len(statements) <= 8
    assert {ends for _, ends in await till.last_days()} == {"2026-04-10"}


# ---------------------------------------------------------------- sliding


async def test_each_purchase_moves_the_end_of_every_lot(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01")
    await till.buy(20, "2026-03-10")
    assert await till.last_days() == [(10, "2027-03-10"), (20, "2027-03-10")]
    await till.buy(30, "2026-06-01")
    assert await till.last_days() == [(10, "2027-06-01"), (20, "2027-06-01"), (30, "2027-06-01")]
    assert await till.changes() == [
        ("2027-03-01", "2027-03-10", "activity"),
        ("2027-03-10", "2027-06-01", "activity"),
        ("2027-03-10", "2027-06-01", "activity"),
    ]
    assert await till.purse("2027-06-01 23:59:59") == (60, 0)
    assert await till.purse("2027-06-02 00:00") == (0, 0)


async def test_a_purchase_that_earns_nothing_moves_them_too(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01")
    await till.buy(0, "2026-06-01")
    assert await till.last_days() == [(10, "2027-06-01")]


async def test_what_is_no_activity_moves_nothing(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01")
    await till.award(20, "2026-06-01")
    await till.redeem(5, "2026-06-01")
    await till.adjust(-1, "2026-06-01")
    assert await till.last_days() == [(4, "2027-03-01"), (20, "2027-06-01")]
    reviews = await Till.open(session, expiry={**SLIDING, "activities": ["review"]})
    await reviews.award(10, "2026-03-01")
    await reviews.buy(20, "2026-06-01")
    assert await reviews.last_days() == [(10, "2027-03-01"), (20, "2027-06-01")]


async def test_a_purchase_told_late_never_shortens_an_end(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.buy(10, "2026-06-01")
    await till.buy(20, "2026-03-01", told="2026-06-02")
    assert (await till.last_days())[0] == (10, "2027-06-01")


async def test_an_activity_moves_neither_an_end_of_its_own_nor_what_has_ended(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01", expires_at=at("2026-09-01"))
    await till.award(20, "2026-03-01")
    await till.buy(5, "2027-03-02 00:00")
    assert await till.last_days() == [(5, "2028-03-02")]
    assert await till.purse("2027-03-02 00:00") == (5, 0)


async def test_points_all_on_hold_slide_as_well(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01")
    hold_id = await till.hold(10, "2026-05-01", expires_in=400 * DAY)
    await till.buy(5, "2026-06-01")
    await till.release(hold_id, "2027-05-01")
    assert await till.purse("2027-05-01") == (15, 0)
    assert await till.last_days() == [(10, "2027-06-01"), (5, "2027-06-01")]


async def test_pending_points_slide_but_what_waits_for_an_event_has_no_end_yet(session):
    till = await Till.open(session, expiry=SLIDING, activation={"days": 30})
    await till.buy(10, "2026-03-01")
    assert await till.last_days() == [(10, "2027-03-31")]
    await till.buy(20, "2026-06-01")
    assert await till.last_days() == [(10, "2027-06-01"), (20, "2027-07-01")]
    waiting = await Till.open(session, expiry=SLIDING, activation={"event": "delivered"})
    await waiting.buy(10, "2026-03-01")
    await waiting.buy(20, "2026-06-01")
    assert await waiting.last_days() == [(10, None), (20, None)]


async def test_a_hold_is_still_released_in_time_after_points_have_slid(session):
    till = await Till.open(session, expiry=SLIDING)
    await till.award(10, "2026-03-01")
    await till.hold(10, "2026-05-01", expires_in=DAY)
    await till.buy(3, "2024-01-01", told="2026-05-01 13:00")  # which has ended, and is written off at once
    assert await till.purse("2026-05-02 11:59") == (0, 0)
    assert await till.purse("2026-05-02 12:00") == (10, 0)


# ---------------------------------------------------------------- holds and what is due beside them


async def test_every_hold_ends_in_its_time_though_others_and_points_ended_before(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01", expires_at=at("2026-03-02 18:00"))
    await till.award(100, "2026-03-01")
    for hours in (1, 20, 40):
        await till.hold(20, "2026-03-02 00:00", expires_in=timedelta(hours=hours))
    await till.award(1, "2026-03-02 02:00")
    assert await till.due_at() == at("2026-03-02 18:00")
    await till.award(1, "2026-03-02 19:00")
    assert await till.due_at() == at("2026-03-02 20:00")
    assert await till.purse("2026-03-02 20:00") == (82, 0)
    assert await till.purse("2026-03-03 16:00") == (102, 0)


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


def next_year(day: date) -> date:
    """A year after that day, or after the day before where it is 29 February."""
    return day.replace(year=day.year + 1, day=min(day.day, 28 if day.month == 2 else 31))


def midnight_after(day: date) -> str:
    begin = datetime.combine(day + DAY, datetime.min.time(), JAKARTA).astimezone(UTC)
    return begin.isoformat().replace("+00:00", "Z")


def today() -> date:
    return datetime.now(JAKARTA).date()


async def test_a_program_s_expiry_is_in_every_answer_and_ends_at_local_midnight(client):
    program_id = (await client.post("/v1/programs", json={**PROGRAM, "expiry": after(months=12)})).json()["id"]
    shop = Shop(client, program_id)
    sari = await shop.member()
    before = today()
    posted = (await shop.award(sari, 50)).json()
    assert posted["balance"]["expiring"] in [
        [{"points": 50, "expires_at": midnight_after(next_year(day))}] for day in {before, today()}
    ]
    ends_at = posted["balance"]["expiring"][0]["expires_at"]
    just_before = (datetime.fromisoformat(ends_at) - INSTANT).isoformat().replace("+00:00", "Z")
    assert (await shop.get(sari, f"loyalty?as_of={just_before}"))["available"] == 50
    ended = await shop.get(sari, f"loyalty?as_of={ends_at}")
    assert (ended["available"], ended["expiring"], ended["lifetime_earned"]) == (0, [], 50)


async def test_purchases_are_pending_over_http_until_the_local_midnight(shop):
    url = f"/v1/programs/{shop.program_id}"
    assert (await shop.client.patch(url, json={"activation": {"days": 14}})).status_code == 200
    sari = await shop.member()
    now = datetime.now(UTC)
    bought = (await shop.buy(sari, occurred_at=now.isoformat())).json()
    assert (bought["points"], bought["balance"]["available"], bought["balance"]["pending"]) == (45, 0, 45)
    assert (await shop.redeem(sari, 1)).status_code == 409
    begins_at = datetime.fromisoformat(midnight_after(now.astimezone(JAKARTA).date() + 13 * DAY))
    for moment, purse in ((begins_at - INSTANT, (0, 45)), (begins_at, (45, 0))):
        seen = await shop.get(sari, f"loyalty?as_of={moment.isoformat().replace('+00:00', 'Z')}")
        assert (seen["available"], seen["pending"]) == purse


async def test_expiry_is_turned_on_over_http_for_what_is_held_and_for_all(shop, session):
    sari = await shop.member(points=30)
    url = f"/v1/programs/{shop.program_id}"
    days = {today()}
    assert (await shop.client.patch(url, json={"expiry": after(months=12)})).status_code == 200
    days.add(today())
    (ending,) = (await shop.balance(sari))["expiring"]
    assert ending["points"] == 30
    assert ending["expires_at"] in {midnight_after(next_year(day)) for day in days}
    await shop.client.patch(url, json={"expiry": after(days=0)})
    assert (await shop.balance(sari))["expiring"] == [ending]
    days = {today()}
    await shop.client.patch(url, json={"expiry_applies_to": "all"})
    days.add(today())
    (ending,) = (await shop.balance(sari))["expiring"]
    assert ending["expires_at"] in {midnight_after(day) for day in days}
    reasons = await session.fetch("SELECT reason FROM points_lot_changes ORDER BY occurred_at")
    assert [row["reason"] for row in reasons] == ["expiry_turned_on", "expiry_changed"]


async def test_a_post_that_waited_for_a_change_of_terms_earns_by_the_new_ones(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member(points=5)
    async with live_client.database.begin() as session:
        await terms.change(
            session, program_id=UUID(shop.program_id), version=None, changes={"settings": {"expiry": after(months=12)}},
            now=datetime.now(UTC),
        )  # fmt: skip
        posts = [asyncio.create_task(post) for post in waiting(shop, sari)]
        await asyncio.sleep(0.3)
        assert not any(post.done() for post in posts)
    assert {answer.status_code for answer in await asyncio.gather(*posts)} == {201}
    balance = await shop.balance(sari)
    assert balance["available"] == sum(each["points"] for each in balance["expiring"]) == 5 + 10 + 45


def waiting(shop: Shop, sari: UUID) -> Sequence[Any]:
    return shop.award(sari, 10), shop.buy(sari, occurred_at=datetime.now(UTC).isoformat())


async def test_a_change_of_terms_that_is_undone_is_forgotten(live_client):
    shop = await Shop.open(live_client)
    sari = await shop.member(points=5)

    async def change(months: int, *, fails: bool) -> None:
        async with live_client.database.begin() as session:
            await terms.change(
                session, program_id=UUID(shop.program_id), version=None,
                changes={"settings": {"expiry": after(months=months)}}, applies_to_all=True, now=datetime.now(UTC),
            )  # fmt: skip
            if fails:
                raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await change(1, fails=True)
    assert (await shop.balance(sari))["expiring"] == []
    await change(12, fails=False)
    before = today()
    await shop.award(sari, 10)
    ends = {each["expires_at"] for each in (await shop.balance(sari))["expiring"]}
    assert ends <= {midnight_after(next_year(day)) for day in {before, today()}}
