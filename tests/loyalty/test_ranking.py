"""What suits a member best: tables of single facts, and laws that hold for all of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.loyalty import choices, offered, profiles, ranking
from crm.loyalty.books import Book
from crm.loyalty.ranking import BLOCKED, Bought, Candidate, Profile, behind, rank
from tests.loyalty.market import Market, line

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
COFFEE, TEA, CAKE = Bought("KOPI-1", "coffee"), Bought("TEA-1", "tea"), Bought("CAKE-1")
HABITS = {COFFEE: 6, TEA: 1, CAKE: 3}


def one(**facts: Any) -> Candidate:
    return Candidate(id=facts.pop("id", UUID(int=1)), **facts)


def profile(available: int = 0, **facts: Any) -> Profile:
    return Profile(available=available, now=NOW, **{"bought": HABITS, **facts})


def reasons(candidate: Candidate, available: int = 0, **facts: Any) -> dict[str, str]:
    [ranked] = rank([candidate], profile(available, **facts))
    return {reason.code: reason.text for reason in ranked.reasons}


# ---------------------------------------------------------------- single facts


@pytest.mark.parametrize(
    ("facts", "available", "expected"),
    [
        ({}, 0, {}),
        ({"categories": {"coffee"}}, 0, {"often_bought": "you buy coffee often"}),
        ({"categories": {"tea"}}, 0, {"bought_before": "you have bought tea before"}),
        ({"skus": {"CAKE-1"}}, 0, {"often_bought": "you buy CAKE-1 often"}),
        ({"categories": {"tea", "coffee"}, "skus": {"KOPI-1"}}, 0, {"often_bought": "you buy coffee often"}),
        ({"categories": {"juice"}, "skus": {"JUS-1"}}, 0, {}),
        ({"cost": 120}, 120, {"enough_points": "you have enough points"}),
        ({"cost": 120}, 119, {"points_to_go": "1 point to go"}),
        ({"cost": 120}, 0, {"points_to_go": "120 points to go"}),
        ({"cost": 120}, -10, {"points_to_go": "130 points to go"}),
        ({"tier": "Gold"}, 0, {"for_tier": "for Gold members"}),
        ({"tier": "Gold", "blocked": True}, 0, {}),
        ({"picked": True}, 0, {"picked_for_you": "picked for you"}),
        ({"ends_at": NOW + 3 * DAY}, 0, {"ends_soon": "ends in 3 days"}),
        ({"ends_at": NOW + DAY}, 0, {"ends_soon": "ends in 1 day"}),
        ({"ends_at": NOW + DAY - timedelta(seconds=1)}, 0, {"ends_soon": "ends within a day"}),
        ({"ends_at": NOW + 7 * DAY}, 0, {"ends_soon": "ends in 7 days"}),
        ({"ends_at": NOW + 7 * DAY + timedelta(seconds=1)}, 0, {}),
        ({"ends_at": NOW}, 0, {}),
    ],
)
def test_each_fact_has_its_reason(facts, available, expected):
    facts = {name: frozenset(value) if isinstance(value, set) else value for name, value in facts.items()}
    assert reasons(one(**facts), available) == expected


@pytest.mark.parametrize(
    ("count", "others", "often"),
    [(1, 0, False), (2, 0, True), (2, 8, True), (2, 9, False), (20, 80, True), (20, 81, False)],
)
def test_often_is_every_fifth_line_and_more_than_one(count, others, often):
    bought = {COFFEE: count} | ({TEA: others} if others else {})
    found = reasons(one(categories=frozenset({"coffee"})), bought=bought)
    assert found.keys() == {"often_bought" if often else "bought_before"}


def test_of_two_things_bought_as_often_the_first_by_name_is_said():
    candidate = one(categories=frozenset({"tea", "coffee"}))
    for bought in ({TEA: 3, COFFEE: 3}, {COFFEE: 3, TEA: 3}):
        assert reasons(candidate, bought=bought) == {"often_bought": "you buy coffee often"}


def test_the_reason_that_counts_most_stands_first():
    candidate = one(categories=frozenset({"coffee"}), cost=10, tier="Gold", picked=True, ends_at=NOW + 6 * DAY)
    [ranked] = rank([candidate], profile(10, bought={COFFEE: 9}))
    assert [reason.code for reason in ranked.reasons] == [
        "often_bought", "enough_points", "picked_for_you", "for_tier", "ends_soon",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"categories": frozenset({"coffee"})}, {"categories": frozenset({"tea"})}),
        ({"categories": frozenset({"tea"})}, {}),
        ({"cost": 100}, {"cost": 101}),
        ({"cost": 150}, {"cost": 200}),
        ({"cost": 10}, {"cost": 10, "blocked": True}),
        ({"cost": 1000}, {"picked": True, "categories": frozenset({"coffee"}), "blocked": True}),
        ({"tier": "Gold"}, {}),
        ({"picked": True}, {"tier": "Gold"}),
        ({"ends_at": NOW + DAY}, {"ends_at": NOW + 2 * DAY}),
        ({"ends_at": NOW + 6 * DAY}, {"ends_at": NOW + 60 * DAY}),
    ],
)
def test_what_suits_better_stands_before(better, worse):
    worse_first = [one(id=UUID(int=1), **worse), one(id=UUID(int=2), **better)]
    assert [each.id.int for each in rank(worse_first, profile(100))] == [2, 1]


# ---------------------------------------------------------------- laws

_names = st.frozensets(st.sampled_from(["coffee", "tea", "cake"]), max_size=3)
_candidates = st.builds(
    Candidate,
    id=st.uuids(),
    categories=_names,
    skus=st.frozensets(st.sampled_from(["KOPI-1", "TEA-1", "CAKE-1"]), max_size=3),
    cost=st.integers(0, 2000),
    tier=st.none() | st.just("Gold"),
    picked=st.booleans(),
    blocked=st.booleans(),
    ends_at=st.none() | st.integers(-100, 300).map(lambda hours: NOW + timedelta(hours=hours)),
)
_lists = st.lists(_candidates, max_size=8, unique_by=lambda each: each.id)
_profiles = st.builds(
    Profile,
    available=st.integers(-100, 2500),
    now=st.just(NOW),
    bought=st.dictionaries(st.sampled_from([COFFEE, TEA, CAKE]), st.integers(1, 100)),
)


@given(_lists, _profiles, st.randoms(use_true_random=False))
def test_the_order_depends_on_nothing_but_what_is_ranked_and_for_whom(candidates, profile, chance):
    shuffled = list(candidates)
    Random(chance.random()).shuffle(shuffled)
    mixed = replace(profile, bought=dict(reversed(profile.bought.items())))
    assert rank(shuffled, mixed) == rank(candidates, profile)


@given(_lists, _profiles)
def test_everything_is_ranked_once_best_first(candidates, profile):
    ranked = rank(candidates, profile)
    assert sorted(each.id for each in ranked) == sorted(each.id for each in candidates)
    assert [(-each.score, each.id) for each in ranked] == sorted((-each.score, each.id) for each in ranked)


@given(_candidates, st.lists(_candidates, max_size=4), _profiles)
def test_a_score_is_a_candidate_s_own(candidate, others, profile):
    others = [other for other in others if other.id != candidate.id]
    [alone] = rank([candidate], profile)
    assert alone in rank([*others, candidate], profile)


@given(_candidates, _profiles, st.integers(0, 3000))
def test_more_points_never_lower_a_score(candidate, profile, more):
    [before] = rank([candidate], profile)
    [after] = rank([candidate], replace(profile, available=profile.available + more))
    assert after.score >= before.score


@given(_candidates, st.integers(1, 2000), st.integers(1, 2000), _profiles, st.integers(0, 3000))
def test_what_is_reached_stands_before_the_same_that_is_not(candidate, dear, cheap, profile, more):
    dear, cheap = max(dear, cheap), min(dear, cheap)
    pair = [replace(candidate, id=UUID(int=1), cost=dear), replace(candidate, id=UUID(int=2), cost=cheap)]
    for available in (profile.available, profile.available + more):
        scores = {each.id.int: each.score for each in rank(pair, replace(profile, available=available))}
        assert scores[2] >= scores[1]
        if cheap <= available < dear:
            assert scores[2] > scores[1]


@given(_lists, _profiles)
def test_what_can_be_had_stands_before_what_can_not(candidates, profile):
    blocked = {each.id: each.blocked for each in candidates}
    order = [blocked[each.id] for each in rank(candidates, profile)]
    assert order == sorted(order)
    assert all((each.score < BLOCKED / 2) == blocked[each.id] for each in rank(candidates, profile))


@given(_lists, _profiles, st.integers(0, 8))
def test_pages_are_the_whole_whatever_has_gone_meanwhile(candidates, profile, place):
    ranked = rank(candidates, profile)
    assert behind(ranked, None) == ranked
    if place < len(ranked):
        last = ranked[place]
        assert behind(ranked, (last.score, last.id)) == ranked[place + 1 :]
        without = [each for each in ranked if each != last]
        assert behind(without, (last.score, last.id)) == ranked[place + 1 :]


# ---------------------------------------------------------------- what is read, and shown


async def test_a_profile_counts_the_lines_of_the_last_purchases(client, session, monkeypatch):
    market = await Market.open(client)
    sari, budi = await market.member(), await market.member()
    await market.bought(budi, lines=[line("CAKE-1", "1000")], total=None)
    for number, lines in enumerate((
        [line("OLD-1", "1000", "old")],
        [line("KOPI-1", "1000", "coffee"), line("TEA-1", "1000")],
        None,
        [line("KOPI-1", "2000", "coffee"), line("KOPI-1", "1000", "coffee")],
    ), 1):  # fmt: skip
        total = None if lines else "5000.00"
        await market.bought(sari, occurred_at=f"2026-11-0{number}T09:00:00Z", lines=lines, total=total)

    async def bought() -> dict[Bought, int]:
        book = Book(sari, UUID(market.program_id), NOW, available=7)
        read = await profiles.read(session, book=book, now=NOW)
        assert (read.available, read.now) == (7, NOW)
        return dict(read.bought)

    coffee, tea, old = Bought("KOPI-1", "coffee"), Bought("TEA-1"), Bought("OLD-1", "old")
    assert await bought() == {coffee: 3, tea: 1, old: 1}
    monkeypatch.setattr(profiles, "LINES_READ", 3)
    assert await bought() == {coffee: 3}
    monkeypatch.setattr(profiles, "LINES_READ", 200)
    monkeypatch.setattr(profiles, "PURCHASES_READ", 2)
    assert await bought() == {coffee: 2}


async def test_rewards_and_offers_are_shown_best_first_and_say_why(client):
    market = await Market.open(client)
    sari = await market.member(points=100)
    lines = [line("KOPI-1", "1000", "coffee")] * 3
    await market.bought(sari, lines=lines, total=None)
    for name, facts in {
        "Tea": {"cost": 50, "categories": ["tea"]},
        "Machine": {"cost": 1030, "categories": ["coffee"]},
        "Coffee": {"cost": 50, "skus": ["KOPI-1"]},
        "Gone": {"cost": 50, "categories": ["coffee"], "stock": 0},
    }.items():
        await market.reward(name=name, **facts)
    ranked = (await market.get(sari, "rewards?sort=rank"))["items"]
    assert [(each["name"], [reason["text"] for reason in each["reasons"]]) for each in ranked] == [
        ("Coffee", ["you buy KOPI-1 often", "you have enough points"]),
        ("Machine", ["you buy coffee often", "927 points to go"]),
        ("Tea", ["you have enough points"]),
        ("Gone", ["you buy coffee often", "you have enough points"]),
    ]
    made = (await market.get(sari, "rewards"))["items"]
    assert [each["name"] for each in made] == ["Tea", "Machine", "Coffee", "Gone"]
    assert {each["id"]: each for each in made} == {each["id"]: each for each in ranked}

    await market.offer(name="Plain")
    await market.offer(sari, name="Dear Sari", categories=["tea"])
    await market.offer(name="Double", benefit={"kind": "multiplier", "factor": "2", "filter": {"skus": ["KOPI-1"]}})
    items = await market.offered(sari)
    assert [(each["name"], [reason["code"] for reason in each["reasons"]]) for each in items] == [
        ("Double", ["often_bought"]), ("Dear Sari", ["picked_for_you"]), ("Plain", []),
    ]  # fmt: skip
    assert [each["name"] for each in await market.offered(sari, "&sort=made")] == ["Plain", "Dear Sari", "Double"]


@pytest.mark.parametrize("kind", ["offers", "rewards"])
@pytest.mark.parametrize("sort", ["rank", "made"])
async def test_a_ranked_list_has_pages(client, kind, sort):
    market = await Market.open(client)
    sari = await market.member(points=100)
    for number in range(7):
        categories = ["coffee"] if number % 3 == 0 else None
        await market.reward(cost=30 * (number % 4), categories=categories)
        await market.offer(categories=categories)
    await market.bought(sari, lines=[line("KOPI-1", "1000", "coffee")] * 3, total=None)
    whole = (await market.get(sari, f"{kind}?sort={sort}"))["items"]
    assert len(whole) == 7
    seen, cursor = [], ""
    while cursor is not None:
        page = await market.get(sari, f"{kind}?sort={sort}&limit=2{f'&cursor={cursor}' if cursor else ''}")
        seen += page["items"]
        cursor = page["next_cursor"]
    assert seen == whole


async def test_another_function_can_do_the_ranking(client, session):
    market = await Market.open(client)
    sari = await market.member()
    for name in ("A", "B"):
        await market.offer(name=name)
        await market.reward(name=name)

    def latest(candidates: Any, _: Profile) -> list[ranking.Ranked]:
        return sorted(
            (ranking.Ranked(each.id, each.id.int >> 64, ()) for each in candidates), key=lambda each: -each.score
        )

    asked = {"program_id": None, "contact_id": sari, "after": None, "limit": 9, "now": NOW, "rank": latest}
    assert [each.name for each in await offered.page(session, **asked)] == ["B", "A"]
    assert [each.name for each in await choices.page(session, **asked, sort="rank")] == ["B", "A"]
