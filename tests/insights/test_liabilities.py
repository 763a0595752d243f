"""What is owed is what the members see, at any instant, whether or not anybody has written it down."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.insights import liabilities
from crm.insights.liabilities import Liability
from crm.loyalty import audit, balances, programs
from tests.insights.played import HOUR, Table, posts
from tests.loyalty import story as shop

INSTANT = timedelta(microseconds=1)


async def read(session: Any, story: shop.Story, **asked: Any) -> Liability:
    return await liabilities.read(session, program_id=story.program_id, **{"as_of": None, "now": story.ends_at} | asked)


async def settle_on(session: Any, story: shop.Story, **chosen: Any) -> None:
    """Give the program settings."""
    await programs.change(
        session, program_id=story.program_id, version=None, changes={"settings": chosen}, now=story.ends_at
    )


def parts(found: Any) -> tuple[int, int, int, int]:
    return found.pending, found.available, found.held, found.deficit


def owed(states: list[Any]) -> tuple[int, int, int, int]:
    """The same of single members, whose available points are below zero where they owe some."""
    return (
        sum(one.pending for one in states), sum(max(one.available, 0) for one in states),
        sum(one.held for one in states), sum(max(-one.available, 0) for one in states),
    )  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(posts, st.integers(0, 400), st.integers(0, 600), st.integers(0, 400))
def test_what_is_owed_is_what_all_members_see_now_and_later_and_what_the_movements_say_of_before(
    table: Table, played, later, earlier, further
):
    table.play(played)
    table.now += later * HOUR

    def ask(as_of):
        found = table.run(liabilities.read(table.session, program_id=table.program_id, as_of=as_of, now=table.now))
        assert found.points == found.pending + found.available + found.held
        return parts(found)

    def seen(now):
        return owed([
            table.run(balances.read(table.session, program_id=table.program_id, contact_id=who, now=now))
            for who in table.people
        ])  # fmt: skip

    past, future = table.now - earlier * HOUR, table.now + timedelta(days=1) + further * HOUR
    assert ask(future) == seen(future)
    before = ask(past)

    table.write_down_what_is_due()
    sums = [table.buckets(who, until=past + INSTANT) for who in table.people]
    assert before == ask(past) == (
        sum(one["pending"] for one in sums), sum(max(one["available"], 0) for one in sums),
        sum(one["held"] for one in sums), sum(max(-one["available"], 0) for one in sums),
    )  # fmt: skip
    # A fact told a little ahead of its time has been counted by the balance, and has not happened.
    if not any(row["occurred_at"] > table.now for row in table.movements()):
        assert ask(None) == seen(table.now)


async def test_the_liability_is_that_of_the_ledgers_open_points(session):
    story = await shop.tell(session)
    await settle_on(session, story, cost_per_point="12.5", expected_breakage="0.2")
    found = await read(session, story)
    (totals,) = (await audit.verify(session)).totals
    assert {name: getattr(found, name) for name in totals.open} == totals.open
    assert parts(found) == (25, 76, 0, 0)
    assert found.liability == liabilities.Money(
        "1010.00", "IDR"
    )  # 101 points of 12.50, of which a fifth won't be spent


async def test_what_some_members_owe_lessens_nothing(session):
    story = await shop.tell(session)
    await shop.adjust(session, story, -100, now=story.ends_at)
    found = await read(session, story)
    assert parts(found) == (25, 7, 0, 31)
    assert found.points == 32
    (totals,) = (await audit.verify(session)).totals
    assert found.points - found.deficit == sum(totals.open.values())


async def test_a_point_is_owed_until_its_instant(session):
    story = await shop.tell(session)
    ends_at = story.ends_at + shop.DAY
    await shop.award(session, story, 1_000, now=story.ends_at, expires_at=ends_at)
    for at, points in ((ends_at - INSTANT, 1_101), (ends_at, 101)):
        assert (await read(session, story, as_of=at, now=story.ends_at)).points == points
        assert (await read(session, story, now=at)).points == points


async def test_held_points_are_owed(session):
    story = await shop.tell(session)
    held_at = story.ends_at + shop.DAY
    await session.execute(
        "UPDATE loyalty_accounts SET held = 5, available = available - 5 WHERE contact_id = $1", story.sari
    )
    await session.execute(
        """
        INSERT INTO points_movements (contact_id, program_id, seq, transaction_id, lot_id, from_bucket, to_bucket,
            points, available_after, pending_after, held_after, occurred_at, recorded_at, digest)
        VALUES ($1, $2, 999, gen_random_uuid(), gen_random_uuid(), 'available', 'held', 5, 0, 0, 0, $3, $3, '')
        """,
        story.sari, story.program_id, held_at,
    )  # fmt: skip
    assert parts(await read(session, story, as_of=held_at)) == (25, 71, 5, 0)
    assert parts(await read(session, story, as_of=held_at - INSTANT)) == (25, 76, 0, 0)


@pytest.mark.parametrize(
    ("lots", "expected"),
    [
        # points, begins and ends in days; after three days, of somebody who owes 60
        ([(40, 1, 2)], (0, 0, 0, 20)),
        ([(90, 1, 2)], (0, 0, 0, 0)),
        ([(40, 1, 2), (40, 2, 9)], (0, 20, 0, 0)),
        ([(40, 2, 3), (40, 1, 9)], (0, 0, 0, 0)),
        ([(40, 2, 2)], (0, 0, 0, 60)),
        ([(40, 5, 3), (30, 1, None), (7, 4, None)], (7, 0, 0, 30)),
    ],
)
async def test_points_that_begin_fill_what_is_owed_before_they_end(session, lots, expected):
    story = await shop.tell(session)
    now = story.ends_at + 20 * shop.DAY
    await shop.adjust(session, story, -94 - 60, now=now)
    for points, begins, ends in lots:
        await shop.award(
            session, story, points, now=now, activates_at=now + begins * shop.DAY,
            expires_at=None if ends is None else now + ends * shop.DAY,
        )  # fmt: skip
    at = now + 3 * shop.DAY
    seen = [
        await balances.read(session, program_id=story.program_id, contact_id=who, now=at)
        for who in (story.sari, story.budi, story.ayu)
    ]
    pending, available, held, deficit = expected
    assert owed(seen) == (pending, available + 7, held, deficit)
    assert parts(await read(session, story, now=at)) == owed(seen)
    assert parts(await read(session, story, now=now, as_of=at)) == owed(seen)


@pytest.mark.parametrize(
    ("currency", "points", "cost", "breakage", "amount"),
    [
        ("IDR", 3, "0.335", "0", "1.01"),
        ("IDR", 1, "0.005", "0", "0.01"),
        ("IDR", 1, "0.004999", "0", "0.00"),
        ("JPY", 3, "0.5", "0", "2"),
        ("KWD", 7, "0.0005", "0.5", "0.002"),
        ("CLF", 1, "0.00005", "0", "0.0001"),
        ("USD", 10, "0.01", "1", "0.00"),
        ("USD", 10, "0.01", "0.999999", "0.00"),
        ("USD", 9_007_199_254_740_991, "123456789012345.123456", "0.000001", "1111998785984812777619705396731.06"),
        ("XXX", 2, "1.005", "0", "2.01"),
    ],
)
def test_money_is_exact_and_rounded_once(currency, points, cost, breakage, amount):
    found = liabilities._cost(points, cost, breakage, currency)
    assert found == liabilities.Money(amount, currency)


async def test_without_a_cost_there_is_no_liability_in_money(session):
    story = await shop.tell(session)
    found = await read(session, story)
    assert (found.liability, found.cost_per_point, found.expected_breakage) == (None, None, "0")
    await settle_on(session, story, cost_per_point="2")
    assert (await read(session, story)).liability == liabilities.Money("202.00", "IDR")


async def test_of_another_programs_points_nothing_is_owed(session):
    story = await shop.tell(session)
    other = await programs.create(
        session, name="Teh", currency="USD", time_zone="Etc/UTC", default=None, settings={"cost_per_point": "1"},
        now=story.ends_at,
    )  # fmt: skip
    found = await liabilities.read(session, program_id=other.id, as_of=None, now=story.ends_at)
    assert (found.points, found.liability) == (0, liabilities.Money("0.00", "USD"))
