"""Who can have a reward: every reason against it, with what is missing and until when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.contacts.conditions import Facts
from crm.db.ids import uuid7
from crm.loyalty.books import Book
from crm.loyalty.contribution import condition_of
from crm.loyalty.eligibility import Member, Obstacle, Reward, obstacles
from crm.loyalty.ladders import Ladder, Pin, Tier
from crm.loyalty.limits import Limit, Used

ID = UUID("01a200ec-0000-7000-8000-000000000000")
NOON = datetime(2026, 11, 4, 5, 0, tzinfo=UTC)  # a Wednesday, noon in Jakarta
SILVER, GOLD = Tier(uuid7(), "Silver", 100), Tier(uuid7(), "Gold", 1000)
LADDER = Ladder((SILVER, GOLD), zone=ZoneInfo("Asia/Jakarta"))


def why_not(*, used=None, facts=None, quantity=1, now=NOON, definition=None, book=None, **terms):
    reward = Reward.of({"name": "Coffee", "cost": 100, **(definition or {})}, id=ID, program_id=ID, **terms)
    account = Book(ID, ID, now, **({"available": 1000, "ladder": LADDER} | (book or {})))
    return obstacles(
        reward, Member(book=account, used={ID: used or {}}, facts=Facts(facts or {})), quantity=quantity, now=now
    )


def jakarta(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Jakarta")).astimezone(UTC)


@pytest.mark.parametrize(
    ("available", "quantity", "missing"),
    [(100, 1, None), (99, 1, 1), (0, 1, 100), (-20, 1, 120), (200, 2, None), (199, 2, 1)],
)
def test_points_are_missing_down_to_the_last(available, quantity, missing):
    found = why_not(book={"available": available}, quantity=quantity)
    assert found == ([] if missing is None else [Obstacle("insufficient_points", missing)])


def test_what_is_free_can_be_had_in_debt():
    assert why_not(book={"available": -20}, definition={"cost": 0}) == []


@pytest.mark.parametrize(("stock", "quantity", "there"), [(None, 9, True), (2, 2, True), (1, 2, False), (0, 1, False)])
def test_a_stock_has_to_reach(stock, quantity, there):
    assert (why_not(stock=stock, quantity=quantity) == []) is there


@pytest.mark.parametrize(
    ("pooled", "codes_left", "there"), [(True, True, True), (True, False, False), (False, False, True)]
)
def test_a_pool_has_to_have_a_code(pooled, codes_left, there):
    found = why_not(pooled=pooled, codes_left=codes_left)
    assert found == ([] if there else [Obstacle("out_of_stock")])


@pytest.mark.parametrize(
    ("limits", "used", "quantity", "until"),
    [
        ([Limit(per="day", times=2)], {"day": Used(100, 1)}, 1, "free"),
        ([Limit(per="day", times=2)], {"day": Used(200, 2)}, 1, "2026-11-05T00:00"),
        ([Limit(per="day", times=2)], {"day": Used(100, 1)}, 2, "2026-11-05T00:00"),
        ([Limit(per="week", times=1)], {"day": Used(0, 0), "week": Used(100, 1)}, 1, "2026-11-09T00:00"),
        ([Limit(per="month", points=250)], {"month": Used(100, 1)}, 1, "free"),
        ([Limit(per="month", points=250)], {"month": Used(200, 2)}, 1, "2026-12-01T00:00"),
        ([Limit(per="year", times=1)], {"year": Used(100, 1)}, 1, "2027-01-01T00:00"),
        ([Limit(per="lifetime", times=1)], {"lifetime": Used(100, 1)}, 1, None),
        ([Limit(per="day", times=1), Limit(per="week", times=1)], {"day": Used(1, 1), "week": Used(1, 1)}, 1,
         "2026-11-09T00:00"),
        ([Limit(per="day", times=1), Limit(per="lifetime", times=1)], {"day": Used(1, 1), "lifetime": Used(1, 1)}, 1,
         None),
    ],
)  # fmt: skip
def test_a_limit_says_until_when(limits, used, quantity, until):
    stored = [{"per": limit.per, "times": limit.times, "points": limit.points} for limit in limits]
    found = why_not(used=used, quantity=quantity, definition={"limits": stored})
    expected = [] if until == "free" else [Obstacle("limit_reached", until=until and jakarta(until))]
    assert found == expected


@pytest.mark.parametrize(
    ("needed", "qualifying", "missing"),
    [(SILVER, 100, None), (SILVER, 99, 1), (SILVER, 5000, None), (GOLD, 100, 900), (GOLD, 0, 1000)],
)
def test_a_tier_or_any_above_it_will_do(needed, qualifying, missing):
    found = why_not(book={"qualifying_points": qualifying}, definition={"tier_id": str(needed.id)})
    assert found == ([] if missing is None else [Obstacle("tier_needed", missing, tier=needed.name)])


def test_what_is_missing_of_a_spend_is_rounded_up():
    ladder = Ladder((SILVER, GOLD), "spend")
    book = {"ladder": ladder, "qualifying_spend": Decimal("999.01")}
    assert why_not(book=book, definition={"tier_id": str(GOLD.id)}) == [Obstacle("tier_needed", 1, tier="Gold")]


def test_a_tier_given_by_hand_is_a_tier():
    pinned = {"pin": Pin(GOLD.id, NOON - timedelta(days=1))}
    assert why_not(book=pinned, definition={"tier_id": str(GOLD.id)}) == []
    pinned = {"pin": Pin(SILVER.id, NOON - timedelta(days=1)), "qualifying_points": 30}
    assert why_not(book=pinned, definition={"tier_id": str(GOLD.id)}) == [Obstacle("tier_needed", 970, tier="Gold")]


def test_a_tier_that_there_is_no_more_is_nobodys():
    assert why_not(book={"qualifying_points": 5000}, definition={"tier_id": str(ID)}) == [Obstacle("tier_needed")]


WEEKDAY_EVENINGS = {"weekdays": ["tue", "wed"], "hours": ["16:00", "18:00"]}


@pytest.mark.parametrize(
    ("window", "now", "code", "until"),
    [
        ({"from": "2026-11-04"}, "2026-11-04T00:00", None, None),
        ({"from": "2026-11-04"}, "2026-11-03T23:59", "not_started", "2026-11-04T00:00"),
        ({"from": "2027-03-01"}, "2026-11-03T23:59", "not_started", "2027-03-01T00:00"),
        ({"to": "2026-11-04"}, "2026-11-04T23:59", None, None),
        ({"to": "2026-11-04"}, "2026-11-05T00:00", "ended", None),
        ({"weekdays": ["wed"]}, "2026-11-04T12:00", None, None),
        ({"weekdays": ["tue"]}, "2026-11-04T12:00", "not_started", "2026-11-10T00:00"),
        ({"weekdays": ["tue"], "to": "2026-11-09"}, "2026-11-04T12:00", "ended", None),
        ({"weekdays": ["tue"], "from": "2026-12-01"}, "2026-11-04T12:00", "not_started", "2026-12-01T00:00"),
        ({"weekdays": ["mon"], "from": "2026-12-01"}, "2026-11-04T12:00", "not_started", "2026-12-07T00:00"),
        (WEEKDAY_EVENINGS, "2026-11-04T16:00", None, None),
        (WEEKDAY_EVENINGS, "2026-11-04T15:59", "not_started", "2026-11-04T16:00"),
        (WEEKDAY_EVENINGS, "2026-11-04T18:00", "not_started", "2026-11-10T16:00"),
        ({**WEEKDAY_EVENINGS, "to": "2026-11-04"}, "2026-11-04T18:00", "ended", None),
        ({"weekdays": ["wed"], "hours": ["22:00", "02:00"]}, "2026-11-05T01:59", None, None),
        ({"weekdays": ["wed"], "hours": ["22:00", "02:00"]}, "2026-11-05T02:00", "not_started", "2026-11-11T22:00"),
        ({"hours": ["16:00", "24:00"]}, "2026-11-04T23:59", None, None),
        ({"from": "9999-12-31", "weekdays": ["mon"]}, "2026-11-04T12:00", "not_started", None),
        ({"to": "9999-12-31"}, "2026-11-04T12:00", None, None),
    ],
)
def test_a_window_says_when_it_opens_next(window, now, code, until):
    found = why_not(now=jakarta(now), definition={"window": window})
    assert found == ([] if code is None else [Obstacle(code, until=until and jakarta(until))])


@pytest.mark.parametrize(("tags", "there"), [(["vip"], True), (["new"], False), ([], False)])
def test_a_condition_has_to_hold(tags, there):
    condition = condition_of({"field": "tags", "op": "contains", "value": "vip"})
    assert (why_not(condition=condition, facts={"tags": tags}) == []) is there
    if not there:
        assert why_not(condition=condition, facts={"tags": tags}) == [Obstacle("not_eligible")]


@pytest.mark.parametrize(("status", "code"), [("draft", "not_started"), ("disabled", "ended"), ("ended", "ended")])
def test_what_is_not_active_is_not_to_be_had(status, code):
    assert why_not(status=status) == [Obstacle(code)]


def test_every_reason_is_told():
    found = why_not(
        book={"available": 30}, stock=0, used={"day": Used(100, 1)}, now=NOON + timedelta(days=365),
        definition={
            "tier_id": str(GOLD.id), "limits": [{"per": "day", "times": 1}], "window": {"to": "2026-11-04"},
        },
    )  # fmt: skip
    assert [each.code for each in found] == [
        "ended", "tier_needed", "limit_reached", "out_of_stock", "insufficient_points",
    ]  # fmt: skip
