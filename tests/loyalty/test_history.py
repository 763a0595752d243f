"""An account as of another instant: what was, by what is known today, and what comes if nothing happens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.loyalty import audit
from crm.loyalty.balances import Loyalty
from crm.loyalty.tiers import TierPolicy
from tests.loyalty.shop import ORDER, Shop, checksum
from tests.loyalty.till import DAY, INSTANT, JAKARTA, Till, at, last_day

END = "2027-06-01"
THRESHOLDS = {
    "points": {"Silver": 50, "Gold": 120}, "spend": {"Silver": 50_000, "Gold": 120_000},
    "visits": {"Silver": 2, "Gold": 4},
}  # fmt: skip
POLICIES = {
    "lifetime": TierPolicy("points"),
    "year": TierPolicy("points", "calendar_year", None, "reassess", 31),
    "rolling": TierPolicy("points", "rolling_months", 2, "one_level", 3),
    "spend": TierPolicy("spend", "rolling_months", 3, "reassess"),
    "visits": TierPolicy("visits", "rolling_months", 1, "reassess"),
}


@pytest.fixture
async def session(session: Session) -> AsyncIterator[Session]:
    """Whatever a test did in it, the audit has nothing to say about it."""
    yield session
    assert (await audit.verify(session)).findings == []


def ending(seen: Loyalty) -> list[tuple[int, str | None]]:
    return [(each.points, last_day(each.expires_at)) for each in seen.expiring]


def tier(seen: Loyalty) -> str | None:
    return None if seen.tier.current is None else seen.tier.current.name


# ---------------------------------------------------------------- balances


@pytest.mark.parametrize(
    ("as_of", "available", "pending", "held", "earned", "redeemed"),
    [
        pytest.param("2026-03-09", 0, 0, 0, 0, 0, id="before anything happened"),
        pytest.param("2026-03-10 11:59:59.999999", 0, 0, 0, 0, 0, id="just before the first award"),
        pytest.param("2026-03-10 12:00", 100, 0, 0, 100, 0, id="at the award"),
        pytest.param("2026-03-11 12:00", 100, 40, 0, 140, 0, id="with points that begin later"),
        pytest.param("2026-03-12 11:59", 100, 40, 0, 140, 0, id="just before a redemption"),
        pytest.param("2026-03-12 12:00", 70, 40, 0, 140, 30, id="after it"),
        pytest.param("2026-03-13 12:00", 50, 40, 20, 140, 30, id="with a hold"),
        pytest.param("2026-03-13 18:00", 50, 40, 0, 140, 50, id="captured"),
        pytest.param("2026-03-15 00:00", 90, 0, 0, 140, 50, id="begun"),
        pytest.param("2026-03-16 12:00", 120, 0, 0, 140, 20, id="with the redemption undone"),
        pytest.param("2026-04-11 00:00", 40, 0, 0, 140, 20, id="with what has ended gone"),
        pytest.param("2026-04-20 12:00", -10, 0, 0, 140, 20, id="in debt"),
    ],
)
async def test_a_balance_of_the_past_is_what_it_was(session, as_of, available, pending, held, earned, redeemed):
    till = await Till.open(session)
    await till.award(100, "2026-03-10", expires_at=at("2026-04-11 00:00"))
    await till.award(40, "2026-03-11", activates_at=at("2026-03-15 00:00"))
    redemption_id = await till.redeem(30, "2026-03-12")
    hold_id = await till.hold(20, "2026-03-13", expires_in=DAY)
    await till.capture(hold_id, 20, "2026-03-13 18:00")
    await till.reverse(redemption_id, "2026-03-16")
    await till.adjust(-50, "2026-04-20")
    seen = await till.seen(END, as_of=as_of)
    assert (seen.available, seen.pending, seen.held) == (available, pending, held)
    assert (seen.lifetime_earned, seen.lifetime_redeemed) == (earned, redeemed)


async def test_what_time_has_done_is_seen_though_nobody_has_written_it_down(session):
    till = await Till.open(session)
    await till.tiers(TierPolicy("points"), Gold=50)
    await till.award(100, "2026-03-10", qualifying=False, expires_at=at("2026-03-20 00:00"))
    await till.award(60, "2026-03-10", activates_at=at("2026-03-15 08:00"), expires_at=at("2026-03-25 00:00"))
    await till.hold(70, "2026-03-10", expires_in=timedelta(hours=5))
    for as_of, purse, gold, ends in (
        ("2026-03-10 13:00", (30, 60, 70), None, [(30, "2026-03-19"), (60, "2026-03-24")]),
        ("2026-03-10 17:00", (100, 60, 0), None, [(100, "2026-03-19"), (60, "2026-03-24")]),
        ("2026-03-15 07:59", (100, 60, 0), None, [(100, "2026-03-19"), (60, "2026-03-24")]),
        ("2026-03-15 08:00", (160, 0, 0), "Gold", [(100, "2026-03-19"), (60, "2026-03-24")]),
        ("2026-03-19 23:59", (160, 0, 0), "Gold", [(100, "2026-03-19"), (60, "2026-03-24")]),
        ("2026-03-20 00:00", (60, 0, 0), "Gold", [(60, "2026-03-24")]),
        ("2026-03-25 00:00", (0, 0, 0), "Gold", []),
    ):
        seen = await till.seen(END, as_of=as_of)
        assert (seen.available, seen.pending, seen.held) == purse, as_of
        assert (tier(seen), ending(seen)) == (gold, ends), as_of
    assert not await session.fetch("SELECT FROM points_transactions WHERE cause = 'time'")


async def test_an_event_that_came_too_late_changes_nothing_before(session):
    till = await Till.open(session, activation={"event": "delivered", "cancel_after_days": 3})
    await till.buy(10, "2026-03-10")
    for as_of, pending in (("2026-03-13 23:59:59", 10), ("2026-03-14 00:00", 0)):
        seen = await till.seen(END, as_of=as_of)
        assert (seen.available, seen.pending) == (0, pending)


# ---------------------------------------------------------------- what is known today


async def test_a_fact_that_was_told_late_counts_from_when_it_happened(session):
    till = await Till.open(session)
    await till.tiers(TierPolicy("points"), Gold=50)
    await till.award(10, "2026-03-01")
    before = await till.seen("2026-03-20", as_of="2026-03-12")
    assert (before.available, tier(before)) == (10, None)
    await till.award(50, "2026-03-10", told="2026-03-20")
    await till.buy(7, "2026-03-11", told="2026-03-21")
    for as_of, available, gold in (
        ("2026-03-10 11:59", 10, None), ("2026-03-10 12:00", 60, "Gold"), ("2026-03-12", 67, "Gold"),
    ):  # fmt: skip
        seen = await till.seen(END, as_of=as_of)
        assert (seen.available, seen.lifetime_earned, tier(seen)) == (available, available, gold)


async def test_points_told_after_their_end_were_there_until_it(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01", told="2026-04-01", expires_at=at("2026-03-15"))
    assert (await till.seen(END, as_of="2026-03-14")).available == 10
    assert (await till.seen(END, as_of="2026-03-15")).available == 0


async def test_asking_writes_nothing(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01", expires_at=at("2026-03-15"))
    before = await checksum(session)
    for as_of in ("2026-02-01", "2026-03-10", "2026-03-20", "2030-01-01"):
        await till.seen(END, as_of=as_of)
    assert await checksum(session) == before


async def test_an_account_of_the_past_is_read_in_two_queries(session, statements):
    till = await Till.open(session)
    for day in range(1, 29):
        await till.award(10, f"2026-03-{day:02}")
    statements.clear()
    assert (await till.seen(END, as_of="2026-03-14")).available == 140
    assert len(statements) == 2


# ---------------------------------------------------------------- ends that were moved


async def test_points_are_listed_with_the_end_that_they_had_then(session):
    till = await Till.open(session)
    await till.award(10, "2026-03-01")
    await till.change("2026-03-10", expiry={"kind": "after", "months": 1})
    await till.change("2026-03-20", expiry={"kind": "after", "months": 6}, applies_to_all=True)
    await till.change("2026-03-25", expiry={"kind": "never"}, applies_to_all=True)
    for as_of, ends in (
        ("2026-03-09", []),
        ("2026-03-10 11:59:59", []),
        ("2026-03-10 12:00", [(10, "2026-04-10")]),
        ("2026-03-20 11:59:59", [(10, "2026-04-10")]),
        ("2026-03-20 12:00", [(10, "2026-09-01")]),
        ("2026-03-25 12:00", []),
    ):
        assert ending(await till.seen(END, as_of=as_of)) == ends, as_of


async def test_points_that_slide_are_listed_with_the_end_that_they_had_then(session):
    till = await Till.open(session, expiry={"kind": "sliding", "months": 12, "activities": ["purchase"]})
    await till.award(10, "2026-03-01")
    await till.buy(5, "2026-03-10")
    await till.buy(1, "2026-05-01")
    assert ending(await till.seen(END, as_of="2026-03-09")) == [(10, "2027-03-01")]
    assert ending(await till.seen(END, as_of="2026-04-30")) == [(15, "2027-03-10")]
    assert ending(await till.seen(END, as_of="2026-05-01")) == [(16, "2027-05-01")]


async def test_points_that_waited_for_their_event_had_no_end_yet(session):
    till = await Till.open(session, activation={"event": "delivered"}, expiry={"kind": "after", "months": 1})
    order_ref = await till.buy(10, "2026-03-01")
    await till.happen("delivered", "2026-03-10", order_ref=order_ref)
    waiting = await till.seen(END, as_of="2026-03-09")
    assert (waiting.available, waiting.pending, ending(waiting)) == (0, 10, [])
    begun = await till.seen(END, as_of="2026-03-10")
    assert (begun.available, begun.pending, ending(begun)) == (10, 0, [(10, "2026-04-10")])


# ---------------------------------------------------------------- tiers


@pytest.mark.parametrize(
    ("basis", "thresholds"),
    [
        ("points", {"Silver": 10, "Gold": 30}), ("spend", {"Silver": 10_000, "Gold": 30_000}),
        ("visits", {"Silver": 1, "Gold": 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("window", [{}, {"window": "calendar_year", "downgrade": "reassess"}], ids=["life", "year"])
async def test_a_tier_of_the_past_is_that_of_its_instant_not_of_its_day(session, basis, thresholds, window):
    till = await Till.open(session)
    await till.tiers(TierPolicy(basis, **window), **thresholds)
    await till.buy(10, "2026-03-10 10:00")
    await till.buy(20, "2026-03-10 15:00")
    for as_of, name in (
        ("2026-03-10 09:59:59.999999", None), ("2026-03-10 10:00", "Silver"), ("2026-03-10 14:59:59.999999", "Silver"),
        ("2026-03-10 15:00", "Gold"), ("2026-03-11", "Gold"),
    ):  # fmt: skip
        assert tier(await till.seen(END, as_of=as_of)) == name, as_of


@pytest.mark.parametrize(
    ("basis", "gold"), [("points", 100), ("spend", 100_000), ("visits", 1)], ids=["points", "spend", "visits"]
)
@pytest.mark.parametrize("window", [{}, {"window": "calendar_year", "downgrade": "reassess"}], ids=["life", "year"])
async def test_a_tier_that_a_refund_took_had_been_held_until_then(session, basis, gold, window):
    till = await Till.open(session)
    await till.tiers(TierPolicy(basis, **window), Gold=gold)
    order_ref = await till.buy(100, "2026-03-10")
    await till.refund(order_ref, 60, "2026-04-10")
    await till.refund(order_ref, 40, "2026-04-12")
    lost = "2026-04-12" if basis == "visits" else "2026-04-10"
    for as_of, name in (
        ("2026-03-09", None), ("2026-03-10", "Gold"), ("2026-04-09", "Gold"), (f"{lost} 11:59:59.999999", "Gold"),
        (f"{lost} 12:00", None), ("2026-05-01", None),
    ):  # fmt: skip
        assert tier(await till.seen(END, as_of=as_of)) == name, as_of
    assert (await till.seen(END, as_of="2026-04-11")).tier.next is not None or basis == "visits"


async def test_progress_of_the_past_is_counted_by_what_had_happened(session):
    till = await Till.open(session)
    await till.tiers(TierPolicy("points", "calendar_year", None, "reassess"), Silver=10, Gold=30)
    await till.buy(12, "2026-03-10")
    await till.buy(15, "2026-05-10")
    await till.buy(9, "2027-02-01")
    for as_of, missing, to_stay in (("2026-04-01", 18, 10), ("2026-06-01", 3, 10), ("2027-03-01", 21, 1)):
        seen = await till.seen(END, as_of=as_of)
        assert tier(seen) == "Silver"
        assert seen.tier.next is not None
        assert seen.tier.to_stay is not None
        assert (seen.tier.next.missing, seen.tier.to_stay.missing) == (missing, to_stay)
        assert (seen.tier.to_stay.by, seen.tier.until) == (at("2028-01-01 00:00"), at("2028-01-01 00:00"))


@pytest.mark.parametrize("window", [{}, {"window": "calendar_year", "downgrade": "reassess"}], ids=["life", "year"])
async def test_a_tier_of_the_past_has_been_held_since_its_day(session, window):
    till = await Till.open(session)
    await till.tiers(TierPolicy("points", **window), Silver=10, Gold=30)
    assert (await till.seen(END, as_of="2026-03-10")).tier.since is None
    await till.award(10, "2026-03-10 10:00")
    await till.award(20, "2026-05-10 15:00")
    for as_of, name, since in (
        ("2026-03-10 10:00", "Silver", "2026-03-10"), ("2026-05-10 14:59", "Silver", "2026-03-10"),
        ("2026-05-10 15:00", "Gold", "2026-05-10"), ("2026-06-01", "Gold", "2026-05-10"),
    ):  # fmt: skip
        seen = await till.seen(END, as_of=as_of)
        assert seen.tier.since is not None
        assert (tier(seen), str(seen.tier.since.astimezone(JAKARTA).date())) == (name, since)
        assert seen.tier.since <= at(as_of)


# ---------------------------------------------------------------- the future


async def test_the_future_is_what_comes_if_nothing_happens(session):
    till = await Till.open(session)
    await till.tiers(TierPolicy("points", "calendar_year", None, "reassess"), Gold=50)
    await till.award(60, "2026-03-10", expires_at=at("2026-06-01"))
    await till.award(40, "2026-03-10", activates_at=at("2026-04-01"), qualifying=False)
    await till.hold(10, "2026-03-10", expires_in=3 * DAY)
    for as_of, purse, gold in (
        ("2026-03-13 11:59", (50, 40, 10), "Gold"), ("2026-03-13 12:00", (60, 40, 0), "Gold"),
        ("2026-04-01", (100, 0, 0), "Gold"), ("2026-06-01", (40, 0, 0), "Gold"), ("2028-01-01 00:00", (40, 0, 0), None),
    ):  # fmt: skip
        seen = await till.seen("2026-03-10", as_of=as_of)
        assert ((seen.available, seen.pending, seen.held), tier(seen)) == (purse, gold), as_of


async def test_now_is_neither_past_nor_future(session):
    till = await Till.open(session)
    await till.award(60, "2026-03-10", expires_at=at("2026-06-01"))
    for now in ("2026-03-10", "2026-05-31", "2026-06-01"):
        assert await till.seen(now, as_of=now) == await till.seen(now)
        assert await till.seen(at(now) + INSTANT, as_of=now) == await till.seen(now)


# ---------------------------------------------------------------- any story, told again

TERMS: dict[str, dict[str, Any]] = {
    "no end": {},
    "a month": {"expiry": {"kind": "after", "months": 1}, "activation": {"days": 2}},
    "sliding": {"expiry": {"kind": "sliding", "months": 2, "activities": ["purchase", "review"]}},
    "delivered": {
        "expiry": {"kind": "after", "days": 20}, "activation": {"event": "delivered", "cancel_after_days": 5},
        "return_policy": "unlimited",
    },
}  # fmt: skip
OTHER_TERMS = [
    {"kind": "never"},
    {"kind": "after", "months": 1},
    {"kind": "after", "days": 9},
    TERMS["sliding"]["expiry"],
]


@dataclass
class Story:
    """Two members to whom anything happens; what was seen of each at each moment."""

    tills: list[Till]
    random: Random
    now: datetime
    orders: dict[str, tuple[Till, int]] = field(default_factory=dict)
    spent: list[tuple[Till, UUID]] = field(default_factory=list)
    held: list[tuple[Till, UUID, int, datetime]] = field(default_factory=list)
    seen: list[tuple[Till, datetime, Loyalty]] = field(default_factory=list)

    def pass_time(self) -> datetime:
        """When the next thing happens: soon, on another day, or at a local midnight."""
        spell = self.random.choice(["minutes", "hours", "days", "midnight"])
        if spell == "midnight":
            midnight = self.now.astimezone(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0) + DAY
            return midnight.astimezone(UTC)
        return self.now + timedelta(**{spell: self.random.randint(1, 9)}) + self.random.randint(0, 999_999) * INSTANT

    async def look(self, moment: datetime) -> None:
        for till in self.tills:
            self.seen.append((till, moment, await till.seen(moment)))

    async def go_on(self) -> None:
        """Something happens, where it can."""
        till, points = self.random.choice(self.tills), self.random.randint(1, 40)
        await self.random.choice(HAPPENINGS)(self, till, points)

    async def award(self, till: Till, points: int) -> None:
        begins, ends = (
            self.random.choice([None, None, self.now + self.random.randint(1, most) * timedelta(hours=1)])
            for most in (90, 400)
        )
        await till.award(
            points, self.now, activates_at=begins, expires_at=ends, qualifying=self.random.random() < 0.8
        )  # fmt: skip

    async def buy(self, till: Till, points: int) -> None:
        self.orders[await till.buy(points, self.now)] = till, points

    async def refund(self, _: Till, points: int) -> None:
        if self.orders:
            order_ref = self.random.choice(list(self.orders))
            buyer, left = self.orders.pop(order_ref)
            part = self.random.choice([left, min(points, left)])
            await buyer.refund(order_ref, part, self.now)
            if part < left:
                self.orders[order_ref] = buyer, left - part

    async def deliver(self, _: Till, points: int) -> None:
        if self.orders:
            order_ref = self.random.choice(list(self.orders))
            await self.orders[order_ref][0].happen("delivered", self.now, order_ref=order_ref)

    async def correct(self, till: Till, points: int) -> None:
        await till.adjust(self.random.choice([points, -points]), self.now)

    async def redeem(self, till: Till, points: int) -> None:
        if has := await self.spendable(till):
            self.spent.append((till, await till.redeem(min(points, has), self.now)))

    async def reverse(self, _: Till, points: int) -> None:
        if self.spent:
            spender, redemption_id = self.spent.pop(points % len(self.spent))
            await spender.reverse(redemption_id, self.now)

    async def hold(self, till: Till, points: int) -> None:
        if has := await self.spendable(till):
            lasts, part = timedelta(hours=self.random.randint(1, 80)), min(points, has)
            self.held.append((till, await till.hold(part, self.now, expires_in=lasts), part, self.now + lasts))

    async def end_a_hold(self, _: Till, points: int) -> None:
        if self.held:
            holder, hold_id, part, ends_at = self.held.pop(points % len(self.held))
            if ends_at <= self.now or self.random.random() < 0.4:
                await holder.release(hold_id, self.now)
            else:
                await holder.capture(hold_id, min(points, part), self.now)

    async def transfer(self, till: Till, points: int) -> None:
        if has := await self.spendable(till):
            await till.transfer(min(points, has), self.tills[1 - self.tills.index(till)], self.now)

    async def change_terms(self, till: Till, points: int) -> None:
        await till.change(self.now, expiry=self.random.choice(OTHER_TERMS), applies_to_all=points > 20)

    async def spendable(self, till: Till) -> int:
        return max(0, (await till.seen(self.now)).available)


HAPPENINGS = [
    Story.award, Story.award, Story.buy, Story.buy, Story.buy, Story.refund, Story.refund, Story.deliver, Story.correct,
    Story.redeem, Story.redeem, Story.reverse, Story.hold, Story.hold, Story.end_a_hold, Story.transfer,
    Story.change_terms,
]  # fmt: skip


def by_day(seen: Loyalty, *, known: bool) -> Loyalty:
    """With the day of `since` for its moment, which is known of today's tier alone."""
    since = seen.tier.since
    if since is not None:
        day = since.astimezone(JAKARTA).replace(hour=0, minute=0, second=0, microsecond=0)
        since = day if known else None
    return replace(seen, tier=replace(seen.tier, since=since))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happened_each_moment_is_later_what_it_was_then(session, terms, policy, seed):
    till = await Till.open(session, **TERMS[terms])
    await till.tiers(POLICIES[policy], **THRESHOLDS[POLICIES[policy].basis])
    story = Story([till, await till.for_somebody_else()], Random(f"{terms} {policy} {seed}"), at("2026-03-01"))
    for _ in range(45):
        following = story.pass_time()
        foreseen = [await each.seen(story.now, as_of=following) for each in story.tills]
        between = story.now + (following - story.now) * story.random.random()
        await story.look(between)
        assert [await each.seen(following) for each in story.tills] == foreseen
        story.now = following
        await story.go_on()
        await story.look(story.now)
    assert len({seen.available for _, _, seen in story.seen}) > 10
    # For life nothing is kept of the day on which a tier was reached that a refund has made the highest again.
    known = policy != "lifetime"
    for who, moment, seen in story.seen:
        remembered = await who.seen(story.now + DAY, as_of=moment)
        assert by_day(remembered, known=known) == by_day(seen, known=known), moment


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
async def shop(client: Any) -> Shop:
    return await Shop.open(client)


@pytest.mark.parametrize(
    ("as_of", "available"),
    [
        ("2026-11-01T09:30:00Z", 45),
        ("2026-11-01T09:29:59.999999Z", 0),
        ("2026-11-01T16:30:00%2B07:00", 45),
        ("2026-11-01T16:29:59%2B07:00", 0),
        ("2026-11-01T16:30:00+07:00", 45),
        ("2026-11-01T04:00:00-05:30", 45),
        ("2026-11-01T03:59:59-05:30", 0),
        ("2026-11-01t09:30:00z", 45),
        ("2026-11-01T09:30Z", 45),
        ("1900-01-01T00:00:00Z", 0),
        ("2199-12-31T23:59:59Z", 45),
    ],
)
async def test_an_instant_may_have_any_offset(shop, as_of, available):
    sari = await shop.member()
    assert (await shop.buy(sari)).json()["points"] == 45
    assert ORDER["occurred_at"] == "2026-11-01T09:30:00Z"
    seen = await shop.get(sari, f"loyalty?as_of={as_of}")
    assert (seen["available"], seen["lifetime_earned"]) == (available, available)
    assert seen.keys() == (await shop.balance(sari)).keys()


@pytest.mark.parametrize(
    "as_of",
    [
        "", "yesterday", "2026-11-01", "2026-11-01T09:30:00", "1793525400", "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z", "2026-11-01T25:00:00Z", "2026-11-01T09:30:00+99:00", "1899-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59", "now%00",
        "2026-11-01T09:30:00Z" + "0" * 40,
    ],
)  # fmt: skip
async def test_what_is_no_instant_is_refused_with_its_place(shop, as_of):
    sari = await shop.member()
    answer = await shop.client.get(f"/v1/contacts/{sari}/loyalty?as_of={as_of}")
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == ["query/as_of"]


@pytest.mark.parametrize("as_of", ["2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z"])
async def test_nobody_is_not_found_and_somebody_without_an_account_has_zeros(shop, as_of):
    answer = await shop.client.get(f"/v1/contacts/{uuid7()}/loyalty?as_of={as_of}")
    assert (answer.status_code, answer.json()["code"]) == (404, "contact_not_found")
    sari = await shop.member()
    assert await shop.get(sari, f"loyalty?as_of={as_of}") == await shop.balance(sari)
    answer = await shop.client.get(f"/v1/contacts/{sari}/loyalty?as_of={as_of}&program={uuid7()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "program_not_found")


async def test_a_fact_told_late_over_http_counts_from_when_it_happened(shop):
    sari = await shop.member()
    await shop.award(sari, 5, occurred_at="2026-06-01T00:00:00Z")
    await shop.award(sari, 7, occurred_at="2026-01-01T00:00:00+07:00")
    for as_of, available in (
        ("2025-12-31T16:59:59Z", 0), ("2025-12-31T17:00:00Z", 7), ("2026-05-31T23:59:59Z", 7),
        ("2026-06-01T00:00:00Z", 12),
    ):  # fmt: skip
        assert (await shop.get(sari, f"loyalty?as_of={as_of}"))["available"] == available
