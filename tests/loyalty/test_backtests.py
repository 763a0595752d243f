"""Rules tried on what is past: numbers worked out by hand, and the present rules against what was really issued.

`CRM_TEST_EXAMPLES` says how many shops the property tries.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.db.ids import uuid7
from crm.db.session import Session, prepare
from crm.loyalty import backtests, ledger, programs, purchases, rules
from crm.loyalty.backtests import Question
from crm.loyalty.basket import Discount, Line, Payment, Purchase, Terms
from crm.loyalty.earning import Rule
from crm.loyalty.expiry import Activation, Expiry
from crm.loyalty.ladders import Ladder
from crm.loyalty.ledger import Award
from crm.loyalty.limits import period_key
from crm.loyalty.programs import Program, ProgramNotFound
from crm.loyalty.purchases import Bought
from crm.loyalty.replay import BacktestMember, BacktestReport, Before, Past, Replay, Trial
from crm.loyalty.tiers import TierPolicy
from tests.loyalty.shop import checksum

EXAMPLES = int(os.environ.get("CRM_TEST_EXAMPLES", "60"))
ZONE = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
BASE = {"name": "base", "kind": "per_amount", "points": 1, "per": "1000"}
DOUBLE = {"name": "double", "kind": "multiplier", "factor": "2"}
VISIT = {"name": "visit", "kind": "per_visit", "points": 10}
VIP = {"field": "tags", "op": "contains", "value": "vip"}
PROGRAM = Program(
    id=UUID(int=1), version=1, name="Kopi", terms=Terms(currency="IDR", zone=ZONE), rules=(), ladder=Ladder(),
    activation=Activation(), expiry=Expiry(), return_policy="within_balance", spent_return_policy="prorate",
    return_grace_days=0, milestones=(), explicit_enrolment=False,
)  # fmt: skip
YEAR = {"first_on": date(2026, 1, 1), "last_on": date(2026, 12, 31)}


def at(month: int, day: int, hour: int = 12, minute: int = 0) -> datetime:
    """A moment of 2026 by the shop's clock."""
    return datetime(2026, month, day, hour, minute, tzinfo=ZONE).astimezone(UTC)


@dataclass
class Shop:
    """A program, and what is said to it again and again."""

    session: Session
    program_id: UUID
    orders: int = 0

    @classmethod
    async def open(cls, session: Session, *definitions: dict[str, Any], **facts: Any) -> "Shop":
        told: dict[str, Any] = {"currency": "IDR", "time_zone": str(ZONE), "settings": {}} | facts
        program = await programs.create(session, name="Kopi", default=None, now=NOW, **told)
        shop = cls(session, program.id)
        for definition in definitions:
            await shop.rule(**definition)
        return shop

    async def rule(self, **definition: Any) -> UUID:
        made = await rules.create(self.session, program_id=self.program_id, definition=definition, now=NOW)
        return made.id

    async def give(self, rule_id: UUID, **facts: Any) -> None:
        """Add to a rule's definition what its answer may not show."""
        await self.session.execute(
            "UPDATE earning_rules SET definition = definition || $2 WHERE id = $1", rule_id, facts
        )
        await programs.touch(self.session, program_id=self.program_id, now=NOW)

    async def tier(self, name: str, threshold: int, factor: str) -> None:
        await programs.add_tier(
            self.session, program_id=self.program_id, name=name, threshold=threshold,
            benefits={"earn_factor": factor}, now=NOW,
        )  # fmt: skip

    async def member(self) -> UUID:
        contact_id = uuid7()
        await self.session.execute(
            "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', $2, $2)", contact_id, NOW
        )
        return contact_id

    async def tag(self, who: UUID, tag: str) -> None:
        await self.session.execute(
            "INSERT INTO contact_tags (contact_id, tag, created_at) VALUES ($1, $2, $3)", who, tag, NOW
        )

    async def buy(
        self, who: UUID, occurred_at: datetime, total: str | None = "45000", now: datetime = NOW, **facts: Any
    ) -> int:
        """What the purchase really earns."""
        self.orders += 1
        purchase = Purchase(
            order_ref=facts.pop("order_ref", f"INV-{self.orders:03}"), occurred_at=occurred_at, currency="IDR",
            total=None if total is None else Decimal(total), **facts,
        )  # fmt: skip
        recorded, _ = await purchases.record(
            self.session, program_id=self.program_id, bought=Bought(who, purchase), by="till", once=None, now=now
        )
        return recorded.points

    async def replayed(self, **question: Any) -> BacktestReport:
        replay = await backtests.prepare(
            self.session, program_id=self.program_id, question=Question(**(YEAR | question))
        )
        while await backtests.advance(self.session, replay=replay):
            pass
        assert replay.done == replay.total
        return replay.report()


def given_by(report: BacktestReport) -> dict[str, tuple[int, int]]:
    """How often each rule applied, and what it gave."""
    return {rule.name: (rule.applied, rule.points) for rule in report.rules}


# ---------------------------------------------------------------- which rules


async def test_the_present_rules_give_what_was_issued(session):
    shop = await Shop.open(session, BASE, VISIT)
    sari, budi = await shop.member(), await shop.member()
    earned = [await shop.buy(sari, at(3, 1)), await shop.buy(budi, at(4, 2), "9999"), await shop.buy(sari, at(4, 3))]
    assert earned == [55, 19, 55]

    report = await shop.replayed()

    assert (report.purchases, report.members) == (3, 2)
    assert (report.points_issued, report.points_tried, report.difference) == (129, 129, 0)
    assert (report.members_more, report.members_less, report.members_same) == (0, 0, 2)
    assert given_by(report) == {"base": (3, 99), "visit": (3, 30)}
    assert [(one.month, one.purchases, one.points_issued, one.points_tried) for one in report.months] == [
        ("2026-03", 1, 55, 55), ("2026-04", 2, 74, 74),
    ]  # fmt: skip
    assert report.largest_differences == []
    assert report.cost is None


async def test_a_draft_counts_where_it_is_asked_for(session):
    shop = await Shop.open(session, BASE, DOUBLE | {"status": "draft"}, VISIT | {"status": "disabled"})
    sari = await shop.member()
    await shop.buy(sari, at(3, 1))
    await shop.buy(sari, at(3, 2), "1500")

    assert (await shop.replayed()).points_tried == 45 + 1
    report = await shop.replayed(include_drafts=True)

    assert (report.points_issued, report.points_tried, report.difference) == (46, 90 + 3, 47)
    # 1.5 and 1.5: the third point goes to the first of the two.
    assert given_by(report) == {"base": (2, 45 + 2), "double": (2, 45 + 1)}
    assert all(rule.rule_id is not None and rule.version == 1 for rule in report.rules)
    assert report.largest_differences == [BacktestMember(sari, 46, 93, 47)]


async def test_rules_that_are_sent_stand_in_place_of_the_program_s(session):
    shop = await Shop.open(session, BASE)
    sari = await shop.member()
    tea, cake = (
        Line(sku="TEA", category="drinks", unit_price=Decimal(20_000)),
        Line(sku="PIE", category="food", unit_price=Decimal(30_000)),
    )
    await shop.buy(sari, at(3, 1), None, lines=(tea, cake), discounts=(Discount(Decimal(10_000)),))
    await shop.buy(sari, at(3, 2), None, lines=(cake,))

    drinks = BASE | {"name": "drinks", "points": 2, "filter": {"categories": ["drinks"]}}
    report = await shop.replayed(rules=[drinks])

    # 20,000 of 50,000 bear two fifths of the discount: 16,000 at two points.
    assert (report.points_issued, report.points_tried) == (70, 32)
    assert [(rule.rule_id, rule.version, rule.name, rule.applied, rule.points) for rule in report.rules] == [
        (None, None, "drinks", 1, 32)
    ]
    assert (report.members_more, report.members_less, report.members_same) == (0, 1, 0)


@pytest.mark.parametrize(("include_drafts", "points"), [(False, 45), (True, 90)])
async def test_a_draft_among_the_sent_rules_counts_like_one_of_the_program(session, include_drafts, points):
    shop = await Shop.open(session, BASE)
    await shop.buy(await shop.member(), at(3, 1))

    report = await shop.replayed(rules=[BASE, DOUBLE | {"status": "draft"}], include_drafts=include_drafts)

    assert report.points_tried == points


async def test_a_rule_s_window_looks_at_the_day_of_the_purchase(session):
    shop = await Shop.open(session, BASE)
    sari = await shop.member()
    await shop.buy(sari, at(3, 3, 23, 30))  # a Tuesday in Jakarta
    await shop.buy(sari, at(3, 4, 0, 30))

    report = await shop.replayed(rules=[BASE, DOUBLE | {"window": {"weekdays": ["tue"]}}])

    assert given_by(report) == {"base": (2, 90), "double": (1, 45)}


# ---------------------------------------------------------------- which purchases


async def test_the_days_of_the_period_are_the_program_s_own_and_both_are_within(session):
    shop = await Shop.open(session, BASE)
    sari = await shop.member()
    for moment in (at(2, 28, 23, 59), at(3, 1, 0, 0), at(3, 31, 23, 59), at(4, 1, 0, 0)):
        await shop.buy(sari, moment)

    report = await shop.replayed(first_on=date(2026, 3, 1), last_on=date(2026, 3, 31))

    assert [(one.month, one.purchases) for one in report.months] == [("2026-03", 2)]
    one_day = await shop.replayed(first_on=date(2026, 4, 1), last_on=date(2026, 4, 1))
    assert one_day.purchases == 1


async def test_another_program_s_purchases_are_left_out(session):
    shop, other = await Shop.open(session, BASE), await Shop.open(session, BASE)
    sari = await shop.member()
    await shop.buy(sari, at(3, 1))
    await other.buy(sari, at(3, 1), "7000")

    assert (await shop.replayed()).points_issued == 45
    assert (await other.replayed()).points_issued == 7


async def test_a_period_without_purchases_has_an_empty_report(session):
    shop = await Shop.open(session, BASE)

    report = await shop.replayed()

    assert (report.purchases, report.members, report.difference, report.months) == (0, 0, 0, [])
    assert given_by(report) == {"base": (0, 0)}


async def test_a_program_that_is_not_there_can_try_nothing(session):
    with pytest.raises(ProgramNotFound):
        await backtests.prepare(session, program_id=uuid7(), question=Question(**YEAR))


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("limit", "points"),
    [
        ({"per": "day", "times": 1}, 10 * 4),
        ({"per": "week", "times": 1}, 10 * 3),
        ({"per": "month", "times": 2}, 10 * 3),
        ({"per": "year", "times": 3}, 10 * 3),
        ({"per": "lifetime", "times": 1}, 10),
        ({"per": "month", "points": 15}, 15 + 10),
        ({"per": "year", "points": 15}, 15),
        ({"per": "year", "points": 1000}, 10 * 5),
    ],
)
async def test_a_limit_holds_for_each_member_and_period(session, limit, points):
    shop = await Shop.open(session, BASE)
    sari, budi = await shop.member(), await shop.member()
    # A Monday twice, the Sunday after it, the Monday after that, and a day of the month before.
    for moment in (at(3, 2, 9), at(3, 2, 10), at(3, 8), at(3, 9), at(2, 27)):
        await shop.buy(sari, moment, "1")
        await shop.buy(budi, moment, "1")

    report = await shop.replayed(rules=[VISIT | {"limits": [limit]}])

    assert report.points_tried == 2 * points
    assert (report.members_more, report.members_same) == (2, 0)


async def test_two_limits_of_one_rule_hold_both(session):
    shop = await Shop.open(session)
    sari = await shop.member()
    for day in range(1, 6):
        await shop.buy(sari, at(3, day))

    limits = [{"per": "month", "times": 4}, {"per": "month", "points": 35}, {"per": "year", "points": 33}]
    report = await shop.replayed(rules=[VISIT | {"limits": limits}])

    assert given_by(report) == {"visit": (4, 33)}


@pytest.mark.parametrize(
    ("limit", "first_on", "points"),
    [
        ({"per": "year", "times": 4}, date(2026, 3, 1), 20),
        ({"per": "year", "points": 25}, date(2026, 3, 1), 5),
        ({"per": "lifetime", "times": 4}, date(2026, 3, 1), 10),
        ({"per": "month", "times": 1}, date(2026, 3, 1), 10),
        ({"per": "month", "times": 2}, date(2026, 3, 10), 10),
        ({"per": "day", "times": 1}, date(2026, 3, 10), 20),
        ({"per": "year", "times": 4}, date(2026, 1, 1), 40),
    ],
)
async def test_what_a_rule_gave_before_the_period_uses_up_its_limits(session, limit, first_on, points):
    shop = await Shop.open(session)
    rule_id = await shop.rule(**VISIT)
    sari = await shop.member()
    for moment in (datetime(2025, 12, 31, 12, tzinfo=ZONE), at(1, 5), at(2, 5)):
        await shop.buy(sari, moment)
    await shop.buy(sari, at(3, 5))
    for day in (10, 11):
        await shop.buy(sari, at(3, day))
    # Added later, so that all of them got their points.
    await shop.give(rule_id, limits=[limit])

    report = await shop.replayed(first_on=first_on)

    assert report.points_tried == points


@pytest.mark.parametrize(("definition", "total"), [(BASE, "0"), (BASE | {"min_spend": "40000"}, "39999")])
async def test_what_gave_nothing_before_the_period_has_used_nothing_up(session, definition, total):
    shop = await Shop.open(session)
    rule_id = await shop.rule(**definition)
    sari = await shop.member()
    assert [await shop.buy(sari, at(1, 5), total), await shop.buy(sari, at(2, 5))] == [0, 45]
    await shop.give(rule_id, limits=[{"per": "year", "times": 1}])

    report = await shop.replayed(first_on=date(2026, 2, 1))

    assert report.points_tried == 45


async def test_a_rule_that_is_sent_begins_with_nothing_used(session):
    shop = await Shop.open(session, VISIT)
    sari = await shop.member()
    await shop.buy(sari, at(1, 5))
    await shop.buy(sari, at(2, 5))

    report = await shop.replayed(rules=[VISIT | {"limits": [{"per": "year", "times": 1}]}], first_on=date(2026, 2, 1))

    assert report.points_tried == 10


visits = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 800)), max_size=40)


@settings(max_examples=EXAMPLES, deadline=None)
@given(visits=visits, per=st.sampled_from(["day", "week", "month", "year", "lifetime"]), times=st.integers(1, 4))
def test_a_limit_of_times_counts_the_visits_of_each_member_and_period(visits, per, times):
    rule = Rule.of(VISIT | {"limits": [{"per": per, "times": times}]}, id=UUID(int=1), version=0)
    trial = Trial(
        program=PROGRAM, first_on=date(2025, 1, 1), last_on=date(2027, 12, 31), rules=(rule,), rules_sent=True,
        include_drafts=False, conditions="false",
    )  # fmt: skip
    replay = Replay(trial, total=len(visits))
    counted: Counter[tuple[int, str]] = Counter()
    for who, day in sorted(visits):
        moment = datetime(2025, 3, 1, 12, tzinfo=ZONE) + day * DAY
        purchase = Purchase(order_ref="A", occurred_at=moment, currency="IDR", total=Decimal(1))
        replay.add(Past(UUID(int=who + 1), purchase, 0, ()), before=Before())
        counted[who, period_key(per, moment.date())] += 1

    report = replay.report()

    assert report.points_tried == sum(10 * min(times, count) for count in counted.values())
    assert report.members == len({who for who, _ in visits})


# ---------------------------------------------------------------- tiers and conditions


async def test_members_climb_by_what_is_tried(session):
    shop = await Shop.open(session, BASE)
    await shop.tier("Silver", 60, "1.5")
    await shop.tier("Gold", 200, "3")
    sari = await shop.member()
    earned = [await shop.buy(sari, at(3, day)) for day in (1, 2, 3)]
    assert earned == [45, 45, 67]  # 45 points are not Silver, 90 are

    present = await shop.replayed()
    assert (present.points_tried, given_by(present)) == (157, {"base": (3, 135), "Silver": (1, 22)})

    report = await shop.replayed(rules=[BASE | {"points": 4}])

    # With 180 she would be Silver for the second, with 450 Gold for the third.
    assert report.points_tried == 180 + 270 + 540
    assert given_by(report) == {"base": (3, 540), "Silver": (1, 90), "Gold": (1, 360)}


async def test_members_who_would_get_less_climb_later(session):
    shop = await Shop.open(session, BASE | {"points": 4})
    await shop.tier("Silver", 100, "1.5")
    sari = await shop.member()
    assert [await shop.buy(sari, at(3, day)) for day in (1, 2, 3)] == [180, 270, 270]

    report = await shop.replayed(rules=[BASE])

    assert report.points_tried == 45 + 45 + 45
    assert (await shop.replayed(rules=[BASE], first_on=date(2026, 3, 2))).points_tried == 67 + 67


async def test_an_award_counts_in_the_replay_from_its_day_on(session):
    shop = await Shop.open(session, BASE)
    await shop.tier("Silver", 115, "2")
    sari = await shop.member()
    await shop.buy(sari, at(3, 1), "10000")
    await shop.buy(sari, at(3, 2), "10000")
    award = Award(sari, 90, "goodwill", occurred_at=at(3, 3))
    await ledger.award(session, program_id=shop.program_id, award=award, by="till", once=None, now=NOW)
    assert await shop.buy(sari, at(3, 4), "9000") == 9  # 110 points

    report = await shop.replayed(rules=[BASE | {"points": 2}])

    assert report.points_tried == 20 + 20 + 2 * 18  # 130 points


async def test_a_purchase_does_not_count_towards_its_own_tier(session):
    shop = await Shop.open(session, BASE)
    await shop.tier("Silver", 100, "2")
    sari = await shop.member()
    await shop.buy(sari, at(3, 1), "60000")
    await shop.buy(sari, at(3, 2), "30000")

    report = await shop.replayed(rules=[BASE | {"points": 3, "per": "2000"}])

    assert report.points_tried == 90 + 45


async def test_whoever_was_given_a_tier_by_hand_keeps_it(session):
    shop = await Shop.open(session, BASE)
    await shop.tier("Silver", 50, "2")
    await shop.tier("Gold", 1_000, "3")
    sari = await shop.member()
    await shop.buy(sari, at(3, 1), "10000")
    gold = await session.fetchval("SELECT id FROM tiers WHERE name = 'Gold'")
    pin = {"tier_id": gold, "since": at(3, 2), "until": None}
    await session.execute("UPDATE loyalty_accounts SET pin = $1", pin)
    assert await shop.buy(sari, at(3, 3), "10000") == 30

    report = await shop.replayed(rules=[BASE | {"points": 6}])

    # Silver by 60 points, were she not Gold.
    assert report.points_tried == 60 + 180


@pytest.mark.parametrize("basis", ["spend", "visits"])
async def test_what_is_tried_makes_no_difference_to_tiers_by_spend_or_visits(session, basis):
    shop = await Shop.open(session, BASE)
    await programs.set_tier_policy(session, program_id=shop.program_id, policy=TierPolicy(basis), now=NOW)
    await shop.tier("Silver", 2 if basis == "visits" else 60_000, "2")
    sari = await shop.member()
    assert [await shop.buy(sari, at(3, day)) for day in (1, 2, 3)] == [45, 45, 90]

    report = await shop.replayed(rules=[BASE | {"points": 100}])

    assert report.points_tried == 4_500 + 4_500 + 9_000


async def test_a_tier_has_the_factor_that_it_has_today(session):
    shop = await Shop.open(session, BASE)
    await shop.tier("Member", 0, "1.5")
    await shop.buy(await shop.member(), at(3, 1), "10000")
    await session.execute("UPDATE tiers SET benefits = $1", {"earn_factor": "2"})

    report = await shop.replayed()

    assert (report.points_issued, report.points_tried) == (15, 20)


@pytest.mark.parametrize(
    ("recorded", "same_version", "assumption", "applies", "assumed"),
    [
        ("condition_not_met", True, "true", False, 0),
        ("condition_not_met", False, "true", True, 1),
        ("condition_not_met", False, "false", False, 1),
        ("applied", True, "false", True, 0),
        ("limit_reached", True, "false", True, 0),
        ("superseded", True, "false", True, 0),
        ("outside_window", True, "false", False, 1),
        ("outside_window", True, "true", True, 1),
        (None, True, "false", False, 1),
        (None, True, "true", True, 1),
    ],
)
async def test_a_condition_is_what_the_purchase_tells_of_it_or_what_is_assumed(
    session, recorded, same_version, assumption, applies, assumed
):
    shop = await Shop.open(session)
    rule_id = await shop.rule(**VISIT)
    await shop.give(rule_id, condition=VIP)
    sari = await shop.member()
    await shop.buy(sari, at(3, 1))
    row = {
        "rule_id": rule_id, "version": 1 if same_version else 0, "name": "visit", "outcome": "skipped",
        "reason": recorded, "basis": "0", "points_requested": 0, "points": 0,
    }  # fmt: skip
    await session.execute("UPDATE purchases SET rules = $1", [] if recorded is None else [row])

    report = await shop.replayed(conditions=assumption)

    assert given_by(report) == {"visit": (1, 10) if applies else (0, 0)}
    assert [rule.assumed for rule in report.rules] == [assumed]


async def test_a_condition_that_was_not_met_is_still_not_met(session):
    shop = await Shop.open(session, BASE)
    await shop.rule(**VISIT, condition=VIP)
    sari = await shop.member()
    assert await shop.buy(sari, at(3, 1)) == 45
    await shop.tag(sari, "vip")

    for conditions in ("now", "true"):
        report = await shop.replayed(conditions=conditions)
        assert given_by(report) == {"base": (1, 45), "visit": (0, 0)}
        assert [rule.assumed for rule in report.rules] == [0, 0]


async def test_of_a_condition_that_nobody_asked_about_then_the_member_s_present_decides(session):
    shop = await Shop.open(session, BASE)
    sari, budi = await shop.member(), await shop.member()
    await shop.tag(sari, "vip")
    for who in (sari, budi, sari):
        await shop.buy(who, at(3, 1))

    report = await shop.replayed(rules=[VISIT | {"condition": VIP}])

    assert given_by(report) == {"visit": (2, 20)}
    assert [rule.assumed for rule in report.rules] == [3]


async def test_what_a_member_had_done_is_counted_as_of_each_purchase(session):
    shop = await Shop.open(session, BASE)
    sari, budi = await shop.member(), await shop.member()
    await shop.buy(sari, at(1, 15))
    for day in (1, 2, 3):
        await shop.buy(sari, at(3, day))
        await shop.buy(budi, at(3, day))

    welcome = VISIT | {"name": "welcome", "condition": {"did": "purchase", "count": {"eq": 0}}}
    third = VISIT | {"name": "third", "condition": {"did": "purchase", "count": {"eq": 2}, "within": "P30D"}}
    report = await shop.replayed(rules=[welcome, third], first_on=date(2026, 3, 1))

    assert given_by(report) == {"welcome": (1, 10), "third": (2, 20)}


# ---------------------------------------------------------------- the report


async def test_points_cost_what_the_program_says(session):
    shop = await Shop.open(session, BASE, settings={"cost_per_point": "0.25"})
    await shop.buy(await shop.member(), at(3, 1))

    cost = (await shop.replayed(rules=[BASE, VISIT])).cost

    assert cost is not None
    assert (cost.currency, cost.issued, cost.tried, cost.difference) == ("IDR", "11.25", "13.75", "2.50")


async def test_the_ten_members_with_the_largest_differences_are_named(session):
    shop = await Shop.open(session, BASE, VISIT)
    people = [await shop.member() for _ in range(14)]
    for number, who in enumerate(people):
        await shop.buy(who, at(3, 1), f"{number * 1000}")

    # Three points per 1,000 and no visit: 2 more for each 1,000, and 10 less for everybody.
    report = await shop.replayed(rules=[BASE | {"points": 3}])

    by_number = {number: 2 * number - 10 for number in range(14)}
    expected = sorted(by_number, key=lambda number: (-abs(by_number[number]), people[number]))[:10]
    assert [one.contact_id for one in report.largest_differences] == [people[number] for number in expected]
    assert [one.difference for one in report.largest_differences] == [by_number[number] for number in expected]
    assert all(one.points_tried - one.points_issued == one.difference for one in report.largest_differences)
    assert (report.members_more, report.members_less, report.members_same) == (8, 5, 1)
    assert report.difference == sum(by_number.values())


async def test_nothing_is_written(session):
    shop = await Shop.open(session, BASE, DOUBLE | {"status": "draft"})
    await shop.tier("Silver", 50, "1.5")
    sari = await shop.member()
    for day in range(1, 9):
        await shop.buy(sari, at(3, day))
    before = await checksum(session)

    await shop.replayed(include_drafts=True)

    assert await checksum(session) == before


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 500])
async def test_the_report_is_the_same_however_few_are_read_at_a_time(session, monkeypatch, batch):
    shop = await Shop.open(session, BASE)
    await shop.tier("Silver", 100, "1.5")
    people = [await shop.member() for _ in range(3)]
    for number in range(14):
        # Two at the same instant, and most of one member.
        await shop.buy(people[number % 3 if number % 4 == 0 else 0], at(3, 1 + number // 2), f"{1000 * (number + 7)}")
    limited = VISIT | {"limits": [{"per": "month", "times": 3}]}
    whole = await shop.replayed(rules=[BASE, limited])

    monkeypatch.setattr(backtests, "BATCH", batch)

    assert await shop.replayed(rules=[BASE, limited]) == whole
    assert whole.purchases == 14
    assert (await shop.replayed()).difference == 0


async def test_a_batch_is_read_in_one_statement_and_its_limits_in_another(session, statements):
    shop = await Shop.open(session, VISIT)
    limited = await shop.rule(**VISIT | {"name": "limited"})
    await shop.give(limited, limits=[{"per": "year", "times": 2}, {"per": "month", "points": 15}])
    for _ in range(6):
        await shop.buy(await shop.member(), at(3, 10))
    replay = await backtests.prepare(
        session, program_id=shop.program_id, question=Question(first_on=date(2026, 3, 5), last_on=date(2026, 3, 31))
    )
    statements.clear()

    assert not await backtests.advance(session, replay=replay)

    assert len(statements) == 2
    assert replay.done == 6


# ---------------------------------------------------------------- any shop


class World:
    """A transaction that is never committed, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(asyncpg.connect(dsn))
        self.session = Session(self._connection)
        self.run(prepare(self._connection))
        self.run(self._connection.execute("BEGIN; SAVEPOINT start"))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def start_again(self) -> None:
        self.run(self._connection.execute("ROLLBACK TO SAVEPOINT start"))

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    world = World(dsn)
    try:
        yield world
    finally:
        world.close()


money = st.integers(0, 99_999).map(lambda cents: Decimal(cents) / 100)
categories = st.sampled_from(["drinks", "food", "gift"])
lines = st.builds(
    Line, sku=st.sampled_from(["A", "B"]), category=categories, unit_price=money,
    quantity=st.integers(1, 4).map(Decimal), tax=st.sampled_from([Decimal(0), Decimal("1.37")]),
)  # fmt: skip
codes = st.sampled_from([None, "FOO", "BAR"])
limits = st.builds(
    lambda per, measure: {"per": per, **measure},
    st.sampled_from(["day", "week", "month", "year", "lifetime"]),
    st.sampled_from([{"times": 1}, {"times": 3}, {"points": 20}, {"points": 90}]),
)
definitions = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["per_amount", "per_amount", "per_unit", "per_visit", "multiplier"]),
        "points": st.integers(0, 7),
        "per": st.sampled_from(["0", "1", "3", "10"]),
        "factor": st.sampled_from(["0", "0.5", "1", "1.5", "3"]),
        "stackable": st.booleans(),
        "priority": st.integers(0, 2),
        "over_max": st.sampled_from(["trim", "reject"]),
        "applies_to": st.sampled_from(["amount", "all"]),
        "status": st.sampled_from(["active", "active", "active", "draft", "disabled"]),
    },
    optional={
        "filter": st.fixed_dictionaries({}, optional={"categories": st.lists(categories, max_size=2)}),
        "window": st.fixed_dictionaries({"weekdays": st.lists(st.sampled_from(["mon", "tue", "sat"]), max_size=2)}),
        "min_spend": st.sampled_from(["1", "50"]),
        "code": st.sampled_from(["foo"]),
        "max_points_per_purchase": st.integers(1, 60),
        "limits": st.lists(limits, max_size=2),
        "condition": st.sampled_from(
            [
                VIP,
                {"not": VIP},
                {"did": "purchase", "count": {"eq": 0}},
                {"did": "purchase", "within": "P14D"},
            ]
        ),
    },
)
rule_sets = st.lists(definitions, max_size=3).map(
    lambda more: [
        {"name": f"rule {number}", **rule} for number, rule in enumerate([{"kind": "per_amount", "points": 3}, *more])
    ]
)
policies = st.builds(
    TierPolicy, st.sampled_from(["points", "points", "spend", "visits"])
) | st.builds(
    TierPolicy, st.sampled_from(["points", "points", "spend", "visits"]),
    st.sampled_from(["calendar_year", "rolling_months"]), st.sampled_from([1, 3, 12]),
    st.sampled_from(["never", "one_level", "reassess"]), st.sampled_from([0, 20]),
)  # fmt: skip
tiers = st.dictionaries(st.integers(1, 900), st.sampled_from(["0.5", "1", "1.5", "2"]), max_size=3)


@st.composite
def baskets(draw: st.DrawFn) -> dict[str, Any]:
    """The facts of a purchase, but for whose it is and when it happens."""
    facts: dict[str, Any] = {"total": draw(st.none() | money), "code": draw(codes)}
    bought = []
    if facts["total"] is None:
        bought = facts["lines"] = tuple(draw(st.lists(lines, min_size=1, max_size=4)))
    if draw(st.booleans()):
        index = st.none() | st.integers(0, max(0, len(bought) - 1))
        facts["discounts"] = (Discount(draw(money), draw(index)),)
    if draw(st.booleans()):
        facts["payments"] = (Payment("points", draw(money)), Payment("cash", draw(money)))
    facts["shipping"] = draw(st.sampled_from([Decimal(0), Decimal("4.95")]))
    return facts


@dataclass(frozen=True)
class History:
    """What a shop is, and what happens in it, one thing after another: (who, hours since the last, basket or award)."""

    settings: dict[str, Any]
    policy: TierPolicy
    tiers: dict[int, str]
    happened: Sequence[tuple[int, int, dict[str, Any] | int]]


def histories(hours: st.SearchStrategy[int]) -> st.SearchStrategy[History]:
    return st.builds(
        History,
        settings=st.fixed_dictionaries({
            "rounding": st.sampled_from(["floor", "nearest", "ceil"]),
            "earn_on": st.fixed_dictionaries({"tax": st.booleans(), "shipping": st.booleans()}),
            "activation": st.fixed_dictionaries({"days": st.sampled_from([0, 0, 3])}),
        }),
        policy=policies,
        tiers=tiers,
        happened=st.lists(
            st.tuples(st.integers(0, 2), hours, baskets() | baskets() | st.integers(1, 200)), min_size=2, max_size=12
        ),
    )  # fmt: skip


def prove(world: World, history: st.SearchStrategy[History], check: Callable[..., Coroutine[Any, Any, Any]]) -> None:
    """That `check` holds for any history, and for what else it is given: two rule sets and a period."""
    issued = Counter[bool]()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(history, rule_sets, rule_sets, st.integers(0, 12), st.integers(3, 60))
    def holds(history: History, present: Any, tried: Any, first: int, days: int) -> None:
        try:
            issued[world.run(check(world.session, history, present, tried, first, days)) > 0] += 1
        finally:
            world.start_again()

    holds()
    assert issued[True] > issued[False], "most shops issue points"


async def tell(
    session: Session, history: History, definitions: Sequence[dict[str, Any]]
) -> tuple[Shop, list[tuple[date, int]]]:
    """A shop with these rules in which it happens; the day and the points of each purchase."""
    shop = await Shop.open(session, *definitions, settings=history.settings)
    await programs.set_tier_policy(session, program_id=shop.program_id, policy=history.policy, now=NOW)
    for threshold, factor in history.tiers.items():
        await shop.tier(f"tier {threshold}", threshold, factor)
    people = [await shop.member() for _ in range(3)]
    await shop.tag(people[0], "vip")
    moment = datetime(2026, 3, 1, tzinfo=ZONE)
    earned = []
    for who, hours, what in history.happened:
        moment += timedelta(hours=hours)
        if isinstance(what, int):
            award = Award(people[who], what, "goodwill")
            await ledger.award(session, program_id=shop.program_id, award=award, by="till", once=None, now=moment)
        else:
            earned.append((moment.date(), await shop.buy(people[who], moment, now=moment, **what)))
    return shop, earned


def test_the_present_rules_give_exactly_what_was_issued_whatever_the_shop(world):
    async def check(session: Session, history: History, present: Any, _: Any, first: int, days: int) -> int:
        shop, earned = await tell(session, history, present)
        first_on = date(2026, 3, 1) + timedelta(days=first)
        last_on = first_on + timedelta(days=days)
        issued = sum(points for day, points in earned if first_on <= day <= last_on)
        report = await shop.replayed(first_on=first_on, last_on=last_on)
        assert (report.points_issued, report.points_tried) == (issued, issued)
        assert report.members_same == report.members
        assert [month.points_tried for month in report.months] == [month.points_issued for month in report.months]
        assert sum(rule.points for rule in report.rules) == issued
        return sum(points for _, points in earned)

    prove(world, histories(st.integers(0, 90)), check)


def test_what_is_tried_gives_what_it_would_have_given_had_it_been_there_from_the_beginning(world):
    async def check(session: Session, history: History, present: Any, tried: Any, *_: int) -> int:
        shop, issued = await tell(session, history, present)
        _, would_be = await tell(session, history, tried)
        report = await shop.replayed(rules=tried, last_on=date(2028, 12, 31))
        assert report.points_issued == sum(points for _, points in issued)
        assert report.points_tried == sum(points for _, points in would_be)
        return report.points_tried

    # Not two on one day: what counts towards tiers is known by days.
    prove(world, histories(st.integers(24, 900)), check)
