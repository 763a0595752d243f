"""Whom an offer means: each part of an audience alone and together, whatever the database says."""

from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from crm.contacts.conditions import Facts
from crm.loyalty.audiences import Audience, Offer
from crm.loyalty.books import Book
from crm.loyalty.ladders import Ladder, Tier
from crm.loyalty.multipliers import Holding, Multiplier

JAKARTA = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SARI, PROGRAM, OFFER = UUID(int=1), UUID(int=2), UUID(int=3)
SILVER, GOLD = Tier(UUID(int=10), "Silver", 100), Tier(UUID(int=11), "Gold", 200)
VIP = {"field": "tags", "op": "contains", "value": "vip"}
BORN_TODAY = {"field": "birth_on", "op": "anniversary", "value": "day"}


def book(points: int = 0) -> Book:
    return Book(SARI, PROGRAM, NOW, qualifying_points=points, ladder=Ladder((SILVER, GOLD), zone=JAKARTA))


@pytest.mark.parametrize(
    ("tier", "points", "expected"),
    [
        (SILVER, 99, False), (SILVER, 100, True), (SILVER, 200, True), (GOLD, 199, False), (GOLD, 200, True),
        (Tier(UUID(int=12), "Gone", 0), 500, False),
    ],
)  # fmt: skip
def test_a_tier_means_itself_and_those_above(tier, points, expected):
    audience = Audience.of({"tier_id": str(tier.id)}, named=False)
    assert audience.includes(book(points), at=NOW, facts=Facts(), named=False) is expected


def test_every_part_has_to_hold():
    for condition, tier, naming in product((False, True), repeat=3):
        document = ({"condition": VIP} if condition else {}) | ({"tier_id": str(GOLD.id)} if tier else {})
        audience = Audience.of(document, named=naming)
        for vip, golden, named in product((False, True), repeat=3):
            facts = Facts({"tags": ["vip"] if vip else []})
            expected = (vip or not condition) and (golden or not tier) and (named or not naming)
            found = audience.includes(book(200 if golden else 100), at=NOW, facts=facts, named=named)
            assert found is expected, (document, naming, vip, golden, named)


def test_without_an_audience_everybody_is_meant():
    for document in (None, {}):
        assert Audience.of(document, named=False).includes(book(), at=NOW, facts=Facts(), named=False)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2026, 11, 25, 16, 59, tzinfo=UTC), False),
        (datetime(2026, 11, 25, 17, 0, tzinfo=UTC), True),  # the 26th begins in Jakarta
        (datetime(2026, 11, 26, 17, 0, tzinfo=UTC), False),
    ],
)
def test_today_is_a_day_of_the_program(at, expected):
    audience = Audience.of({"condition": BORN_TODAY}, named=False)
    facts = Facts({"birth_on": datetime(1990, 11, 26, tzinfo=UTC).date()})
    assert audience.includes(book(), at=at, facts=facts, named=False) is expected


def multiplier(*, named: bool = False, **definition: Any) -> Multiplier:
    whole = {"name": "Double", "benefit": {"kind": "multiplier", "factor": "2"}, **definition}
    return Multiplier.of(Offer.of(whole, named=named, id=OFFER, program_id=PROGRAM, version=4, status="active"))


def test_a_multiplier_is_a_rule_with_the_offer_s_name_and_version():
    window = {"from": "2026-11-01", "hours": ["16:00", "18:00"]}
    rule = multiplier(window=window, benefit={"kind": "multiplier", "factor": "1.5", "filter": {"skus": ["A"]}}).rule
    assert (rule.id, rule.version, rule.name, rule.kind) == (OFFER, 4, "Double", "multiplier")
    assert (rule.gain, rule.filter.skus, rule.condition) == (0.5, {"A"}, None)
    assert rule.window.covers(datetime(2026, 11, 1, 17, 0, tzinfo=JAKARTA))
    assert not rule.window.covers(datetime(2026, 11, 1, 18, 0, tzinfo=JAKARTA))


@pytest.mark.parametrize(
    ("auto", "named", "held", "tags", "expected"),
    [
        (False, False, False, ["vip"], False),
        (False, False, True, [], True),  # who has claimed it keeps it
        (True, False, False, ["vip"], True),
        (True, False, False, [], False),
        (True, True, False, ["vip"], False),
        (True, True, True, ["vip"], True),
        (True, True, True, [], False),
    ],
)
def test_a_multiplier_is_for_who_claimed_it_or_whom_it_is_for_by_itself(auto, named, held, tags, expected):
    one = multiplier(auto=auto, named=named, audience={"condition": VIP})
    holdings = {Holding(SARI, OFFER)} if held else {Holding(UUID(int=9), OFFER), Holding(SARI, UUID(int=9))}
    assert one.is_for(book(), at=NOW, held=holdings, facts=Facts({"tags": tags})) is expected


@pytest.mark.parametrize(
    ("window", "day", "expected"),
    [
        ({"to": "2026-11-25"}, 25, True), ({"to": "2026-11-24"}, 25, True), ({"to": "2026-11-23"}, 25, False),
        ({"from": "2026-11-28"}, 25, True), ({"weekdays": ["mon"]}, 25, True),
    ],
)  # fmt: skip
def test_a_multiplier_is_no_rule_of_anybody_s_once_its_last_day_is_over(window, day, expected):
    """Of the day after, the hours of its last evening decide."""
    at = datetime(2026, 11, day, 3, 0, tzinfo=UTC)
    held = {Holding(SARI, OFFER)}
    assert multiplier(window=window).is_for(book(), at=at, held=held, facts=Facts()) is expected
