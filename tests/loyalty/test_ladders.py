"""Tiers: given what counted on which day and the program's policy, where a member stands, since when and until when."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crm.loyalty.expiry import local_day, months_later, start_of
from crm.loyalty.ladders import NOTHING_COUNTED, Counted, Ladder, Pin, Standing, Tier

JAKARTA = ZoneInfo("Asia/Jakarta")
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
SILVER, GOLD, PLATINUM = (
    Tier(UUID(int=number), name, threshold)
    for number, (name, threshold) in enumerate((("Silver", 100), ("Gold", 300), ("Platinum", 1000)), 1)
)
BASE = Tier(UUID(int=9), "Member", 0)
TIERS = (SILVER, GOLD, PLATINUM)

Facts = Sequence[tuple[str, int]]


def ladder(
    window: Any = "lifetime", downgrade: Any = "reassess", tiers: Sequence[Tier] = TIERS, **policy: Any
) -> Ladder:
    return Ladder(tuple(tiers), window=window, downgrade=downgrade, zone=JAKARTA, **policy)


def year(**policy: Any) -> Ladder:
    return ladder("calendar_year", **policy)


def rolling(months: int = 12, **policy: Any) -> Ladder:
    return ladder("rolling_months", months=months, **policy)


def at(text: str) -> datetime:
    """A local time; a date alone is its noon."""
    moment = datetime.fromisoformat(text if len(text) > 10 else f"{text} 12:00")
    return moment.replace(tzinfo=JAKARTA).astimezone(UTC)


def by_day(facts: Iterable[tuple[str | date, int]]) -> dict[date, Counted]:
    days: dict[date, Counted] = {}
    for day, points in facts:
        on = date.fromisoformat(day) if isinstance(day, str) else day
        days[on] = days.get(on, NOTHING_COUNTED) + Counted(points)
    return days


def stands(policy: Ladder, facts: Facts, when: str, pin: Pin | None = None) -> Standing:
    days = by_day(facts)
    return policy.standing(total=sum(days.values(), NOTHING_COUNTED), days=days, at=at(when), pin=pin)


def name(tier: Tier | None) -> str | None:
    return None if tier is None else tier.name


def local(moment: datetime | None) -> str | None:
    """The local day that begins at this moment."""
    if moment is None:
        return None
    assert moment == start_of(local_day(moment, JAKARTA), JAKARTA)
    return str(local_day(moment, JAKARTA))


# ---------------------------------------------------------------- reaching a tier


@pytest.mark.parametrize("policy", [ladder(), year(), rolling()], ids=["lifetime", "year", "rolling"])
@pytest.mark.parametrize(
    ("points", "tier", "following", "missing"),
    [
        pytest.param(0, None, "Silver", 100, id="nothing yet"),
        pytest.param(99, None, "Silver", 1, id="one short"),
        pytest.param(100, "Silver", "Gold", 200, id="exactly at the threshold is in"),
        pytest.param(299, "Silver", "Gold", 1, id="one short of the next"),
        pytest.param(300, "Gold", "Platinum", 700, id="exactly at the next"),
        pytest.param(1000, "Platinum", None, 0, id="at the top"),
        pytest.param(99999, "Platinum", None, 0, id="beyond the top"),
    ],
)
def test_a_tier_is_reached_at_its_threshold_and_at_once(
    policy: Ladder, points: int, tier: str | None, following: str | None, missing: int
) -> None:
    standing = stands(policy, [("2026-03-10", points)], "2026-03-10")
    assert (name(standing.current), name(standing.following), standing.missing) == (tier, following, missing)


@pytest.mark.parametrize(
    ("basis", "counted", "tier", "missing"),
    [
        pytest.param("points", Counted(points=100), "Silver", 200, id="points earned"),
        pytest.param("points", Counted(spend=Decimal(5000), visits=500), None, 100, id="money and visits don't count"),
        pytest.param("spend", Counted(spend=Decimal("100.00")), "Silver", 200, id="money spent"),
        pytest.param("spend", Counted(spend=Decimal("99.99")), None, 1, id="money: a cent is missing, that is 1 unit"),
        pytest.param("spend", Counted(spend=Decimal("98.01")), None, 2, id="money: missing units are rounded up"),
        pytest.param("spend", Counted(points=500, visits=500), None, 100, id="points and visits don't count"),
        pytest.param("visits", Counted(visits=100), "Silver", 200, id="visits"),
        pytest.param("visits", Counted(points=500, spend=Decimal(5000), visits=99), None, 1, id="but only visits"),
    ],
)
@pytest.mark.parametrize("window", ["lifetime", "calendar_year", "rolling_months"])
def test_each_basis_counts_its_own(window: Any, basis: Any, counted: Counted, tier: str | None, missing: int) -> None:
    on = date(2026, 3, 10)
    standing = ladder(window, basis=basis).standing(total=counted, days={on: counted}, at=at("2026-03-10"))
    assert (name(standing.current), standing.missing) == (tier, missing)


@pytest.mark.parametrize(
    ("facts", "when", "tier", "since"),
    [
        pytest.param([("2026-03-10", 60), ("2026-03-11", 40)], "2026-03-10", None, None, id="not reached yet"),
        pytest.param([("2026-03-10", 60), ("2026-03-11", 40)], "2026-03-11", "Silver", "2026-03-11", id="reached"),
        pytest.param(
            [("2026-03-10", 100), ("2026-05-01", 200)], "2026-04-30", "Silver", "2026-03-10", id="before the next"
        ),
        pytest.param([("2026-03-10", 100), ("2026-05-01", 200)], "2026-05-01", "Gold", "2026-05-01", id="two steps"),
        pytest.param([("2026-03-10", 1000)], "2026-03-10", "Platinum", "2026-03-10", id="three steps at once"),
        pytest.param([("2026-03-10", 60), ("2026-03-10", 40)], "2026-03-10", "Silver", "2026-03-10", id="in one day"),
        pytest.param(
            [("2026-05-01", 200), ("2026-03-10", 100)], "2026-05-01", "Gold", "2026-05-01", id="told in another order"
        ),
        pytest.param([("2026-03-10", 100), ("2026-04-01", 50)], "2026-06-01", "Silver", "2026-03-10", id="not anew"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", [year(), rolling()], ids=["year", "rolling"])
def test_a_tier_is_held_since_the_day_on_which_it_was_reached(
    policy: Ladder, facts: Facts, when: str, tier: str | None, since: str | None
) -> None:
    standing = stands(policy, facts, when)
    assert (name(standing.current), local(standing.since)) == (tier, since)


# ---------------------------------------------------------------- for life


def test_a_tier_for_life_has_no_end_and_nothing_to_stay():
    standing = stands(ladder(), [("1999-03-10", 100)], "2026-03-10")
    assert (name(standing.current), standing.until, standing.missing_to_stay) == ("Silver", None, None)


def test_what_counts_for_life_is_the_sum_of_everything():
    facts = [("1999-03-10", 60), ("2012-07-01", 140), ("2026-01-01", 100)]
    assert name(stands(ladder(), facts, "2026-03-10").current) == "Gold"


# ---------------------------------------------------------------- calendar years


@pytest.mark.parametrize(
    ("facts", "story"),
    [
        pytest.param(
            [("2026-03-10", 300)],
            [
                ("2026-12-31 23:59", "Gold", "2028-01-01"),
                ("2027-06-15", "Gold", "2028-01-01"),
                ("2027-12-31 23:59:59", "Gold", "2028-01-01"),
                ("2028-01-01 00:00", None, None),
            ],
            id="reached in 2026, it lasts to the end of 2027",
        ),
        pytest.param(
            [("2026-01-01", 300)],
            [("2027-12-31 23:59:59", "Gold", "2028-01-01"), ("2028-01-01 00:00", None, None)],
            id="whether on the first day of 2026",
        ),
        pytest.param(
            [("2026-12-31", 300)],
            [("2027-12-31 23:59:59", "Gold", "2028-01-01"), ("2028-01-01 00:00", None, None)],
            id="or on its last",
        ),
        pytest.param(
            [("2026-12-31", 200), ("2027-01-01", 200)],
            [("2026-12-31", "Silver", "2028-01-01"), ("2027-01-01", "Silver", "2028-01-01")],
            id="a new year counts from nothing: 200 and 200 are no 300",
        ),
        pytest.param(
            [("2026-03-10", 300), ("2027-02-01", 300)],
            [("2027-12-31", "Gold", "2028-01-01"), ("2028-01-01 00:00", "Gold", "2029-01-01")],
            id="the year that ended decides: 300 in 2027 keep it through 2028",
        ),
        pytest.param(
            [("2026-03-10", 300), ("2027-02-01", 299)],
            [("2027-12-31", "Gold", "2028-01-01"), ("2028-01-01 00:00", "Silver", "2029-01-01")],
            id="one short of it leaves what that year reached: Silver, through 2028",
        ),
        pytest.param(
            [("2026-03-10", 300), ("2026-11-01", 300)],
            [("2027-12-31", "Gold", "2028-01-01"), ("2028-01-01 00:00", None, None)],
            id="twice as much in 2026 lasts no longer: 2027 decides",
        ),
        pytest.param(
            [("2026-03-10", 300), ("2027-02-01", 300), ("2028-02-01", 300), ("2029-02-01", 99)],
            [("2029-12-31", "Gold", "2030-01-01"), ("2030-01-01 00:00", None, None)],
            id="year after year, until one falls short",
        ),
        pytest.param(
            [("2026-03-10", 300), ("2028-01-01", 300)],
            [("2028-01-01 12:00", "Gold", "2030-01-01")],
            id="lost at midnight and reached anew at noon",
        ),
        pytest.param(
            [("2026-03-10", 100), ("2027-05-01", 300)],
            [
                ("2027-04-30", "Silver", "2028-01-01"),
                ("2027-05-01", "Gold", "2029-01-01"),
                ("2028-12-31", "Gold", "2029-01-01"),
                ("2029-01-01 00:00", None, None),
            ],
            id="a higher tier starts a term of its own",
        ),
    ],
)
def test_a_tier_of_a_calendar_year_lasts_to_the_end_of_the_next(
    facts: Facts, story: Sequence[tuple[str, str | None, str | None]]
) -> None:
    for when, tier, until in story:
        standing = stands(year(), facts, when)
        assert (when, name(standing.current), local(standing.until)) == (when, tier, until)


def test_a_fall_is_dated_by_its_evaluation():
    standing = stands(year(), [("2026-03-10", 300), ("2027-02-01", 100)], "2028-06-01")
    assert (name(standing.current), local(standing.since)) == ("Silver", "2028-01-01")


# ---------------------------------------------------------------- rolling months


@pytest.mark.parametrize(
    ("months", "facts", "story"),
    [
        pytest.param(
            12,
            [("2026-03-10", 300)],
            [
                ("2026-03-10", "Gold", "2027-03-10"),
                ("2027-03-09 23:59:59", "Gold", "2027-03-10"),
                ("2027-03-10 00:00", None, None),
            ],
            id="12 months after it was reached, at local midnight",
        ),
        pytest.param(
            12,
            [("2026-03-10", 150), ("2026-08-01", 150)],
            [
                ("2026-07-31", "Silver", "2027-03-10"),
                ("2026-08-01", "Gold", "2027-08-01"),
                ("2027-07-31", "Gold", "2027-08-01"),
            ],
            id="each tier from the day that reached it",
        ),
        pytest.param(
            12,
            [("2026-03-10", 300), ("2026-09-01", 300)],
            [
                ("2026-09-01", "Gold", "2027-03-10"),
                ("2027-03-10 00:00", "Gold", "2028-03-10"),
                ("2028-03-09 23:59:59", "Gold", "2028-03-10"),
                ("2028-03-10 00:00", None, None),
            ],
            id="what counted since it was reached confirms it for as long again",
        ),
        pytest.param(
            12,
            [("2026-03-10", 300), ("2027-03-09", 299)],
            [("2027-03-09", "Gold", "2027-03-10"), ("2027-03-10 00:00", "Silver", "2028-03-10")],
            id="one short leaves what the last 12 months reach",
        ),
        pytest.param(
            12,
            [("2026-03-10", 300), ("2026-09-01", 300), ("2027-03-10", 300)],
            [("2027-03-10", "Gold", "2028-03-10"), ("2028-03-10 00:00", "Gold", "2029-03-10")],
            id="the day of the confirmation counts towards the next",
        ),
        pytest.param(
            12,
            [("2026-03-10", 300), ("2027-03-10", 300)],
            [("2027-03-10 12:00", "Gold", "2028-03-10")],
            id="lost at midnight and reached anew at noon",
        ),
        pytest.param(
            12,
            [("2025-03-11", 60), ("2026-03-10", 40)],
            [("2026-03-10", "Silver", "2027-03-10")],
            id="12 months back, a day less: it still counts",
        ),
        pytest.param(
            12,
            [("2025-03-10", 60), ("2026-03-10", 40)],
            [("2026-03-10", None, None)],
            id="12 months back to the day: it counts no more",
        ),
        pytest.param(
            1,
            [("2026-01-31", 100)],
            [("2026-02-27", "Silver", "2026-02-28"), ("2026-02-28 00:00", None, None)],
            id="31 January + 1 month: what reached it does not confirm it",
        ),
        pytest.param(
            6,
            [("2026-08-31", 100)],
            [("2027-02-27", "Silver", "2027-02-28"), ("2027-02-28 00:00", None, None)],
            id="31 August + 6 months",
        ),
        pytest.param(
            12,
            [("2028-02-29", 100)],
            [("2029-02-27", "Silver", "2029-02-28"), ("2029-02-28 00:00", None, None)],
            id="29 February + 12 months",
        ),
        pytest.param(
            1,
            [("2026-01-31", 100), ("2026-02-10", 100), ("2026-03-10", 100)],
            [("2026-02-28 00:00", "Silver", "2026-03-28"), ("2026-03-28 00:00", "Silver", "2026-04-28")],
            id="confirmed on the 28th, the next evaluation is on the 28th",
        ),
    ],
)  # fmt: skip
def test_a_tier_of_rolling_months_lasts_so_many_months_from_its_day(
    months: int, facts: Facts, story: Sequence[tuple[str, str | None, str | None]]
) -> None:
    for when, tier, until in story:
        standing = stands(rolling(months), facts, when)
        assert (when, name(standing.current), local(standing.until)) == (when, tier, until)


# ---------------------------------------------------------------- falling


@pytest.mark.parametrize(
    ("downgrade", "counted_since", "after"),
    [
        pytest.param("never", 0, "Platinum", id="never"),
        pytest.param("one_level", 0, "Gold", id="one level, though nothing counted"),
        pytest.param("one_level", 100, "Gold", id="one level, though only Silver counted"),
        pytest.param("one_level", 300, "Gold", id="one level, as it happens"),
        pytest.param("one_level", 1000, "Platinum", id="one level: stays"),
        pytest.param("reassess", 0, None, id="to what counted: nothing"),
        pytest.param("reassess", 100, "Silver", id="to what counted: Silver"),
        pytest.param("reassess", 999, "Gold", id="to what counted: Gold"),
        pytest.param("reassess", 1000, "Platinum", id="to what counted: stays"),
    ],
)
@pytest.mark.parametrize(
    ("policy", "evaluated"), [(year(), "2028-01-01 00:00"), (rolling(), "2027-03-10 00:00")], ids=["year", "rolling"]
)
def test_how_far_somebody_falls(
    policy: Ladder, evaluated: str, downgrade: Any, counted_since: int, after: str | None
) -> None:
    facts = [("2026-03-10", 1000), ("2027-02-01", counted_since)]
    policy = replace(policy, downgrade=downgrade)
    before = stands(policy, facts, "2027-03-09 23:59:59")
    assert name(before.current) == "Platinum"
    assert (before.until is None) == (downgrade == "never")
    assert name(stands(policy, facts, evaluated).current) == after


@pytest.mark.parametrize(
    ("policy", "falls"),
    [
        (year(downgrade="one_level"), ["2028-01-01", "2029-01-01", "2030-01-01"]),
        (rolling(downgrade="one_level"), ["2027-03-10", "2028-03-10", "2029-03-10"]),
        (rolling(3, downgrade="one_level"), ["2026-06-10", "2026-09-10", "2026-12-10"]),
        (year(downgrade="one_level", grace_days=31), ["2028-02-01", "2029-02-01", "2030-02-01"]),
        (rolling(downgrade="one_level", grace_days=10), ["2027-03-20", "2028-03-30", "2029-04-09"]),
    ],
    ids=["year", "12 months", "3 months", "year and grace", "12 months and grace"],
)
def test_one_level_a_time(policy: Ladder, falls: Sequence[str]) -> None:
    facts = [("2026-03-10", 1000)]
    for tier, below, fall in zip(TIERS[::-1], (GOLD, SILVER, None), falls, strict=True):
        last_moment = str(datetime.fromisoformat(fall) - timedelta(seconds=1))
        assert name(stands(policy, facts, last_moment).current) == tier.name
        assert local(stands(policy, facts, last_moment).until) == fall
        assert name(stands(policy, facts, f"{fall} 00:00").current) == name(below)


# ---------------------------------------------------------------- grace


@pytest.mark.parametrize(
    ("policy", "facts", "story"),
    [
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300)],
            [
                ("2027-12-31", "Gold", "2028-02-01"),
                ("2028-01-31 23:59:59", "Gold", "2028-02-01"),
                ("2028-02-01 00:00", None, None),
            ],
            id="31 days after a year that fell short",
        ),
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300), ("2028-01-31", 300)],
            [("2028-01-30", "Gold", "2028-02-01"), ("2028-01-31", "Gold", "2030-02-01")],
            id="reached again within the grace, it begins a new term",
        ),
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300), ("2028-01-31", 299)],
            [("2028-01-31", "Gold", "2028-02-01"), ("2028-02-01 00:00", "Silver", "2029-02-01")],
            id="not quite: what the grace reached is what is left",
        ),
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300), ("2027-05-01", 250), ("2028-01-15", 50)],
            [("2028-01-31", "Gold", "2028-02-01"), ("2028-02-01 00:00", "Silver", "2029-02-01")],
            id="the grace asks for the whole of it, not for what was missing",
        ),
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300), ("2028-02-01", 300)],
            [("2028-02-01 12:00", "Gold", "2030-02-01")],
            id="a day too late: lost at midnight, reached anew at noon",
        ),
        pytest.param(
            year(grace_days=31),
            [("2026-03-10", 300), ("2028-01-15", 1000)],
            [("2028-01-15", "Platinum", "2030-02-01")],
            id="or more than that",
        ),
        pytest.param(
            rolling(grace_days=10),
            [("2026-03-10", 300), ("2026-12-01", 200)],
            [
                ("2027-03-19", "Gold", "2027-03-20"),
                ("2027-03-20 00:00", "Silver", "2028-03-30"),
            ],
            id="rolling: lost after the grace; the term of what is left begins then",
        ),
        pytest.param(
            rolling(grace_days=10),
            [("2026-03-10", 300), ("2026-12-01", 200), ("2027-03-15", 100)],
            [("2027-03-15", "Gold", "2028-03-25"), ("2028-03-15 00:00", "Gold", "2028-03-25")],
            id="rolling: the last 12 months reach it again within the grace",
        ),
        pytest.param(
            year(grace_days=31, downgrade="never"),
            [("2026-03-10", 300)],
            [("2036-03-10", "Gold", None)],
            id="nothing to be gracious about",
        ),
    ],
)
def test_a_grace_keeps_the_tier_for_some_days_more(
    policy: Ladder, facts: Facts, story: Sequence[tuple[str, str | None, str | None]]
) -> None:
    for when, tier, until in story:
        standing = stands(policy, facts, when)
        assert (when, name(standing.current), local(standing.until)) == (when, tier, until)


# ---------------------------------------------------------------- progress


@pytest.mark.parametrize(
    ("policy", "facts", "when", "progress"),
    [
        pytest.param(
            year(), [("2026-03-10", 140)], "2026-06-01", ("Gold", 160, 100, "2028-01-01"), id="in its first year"
        ),
        pytest.param(
            year(), [("2026-03-10", 140)], "2027-06-01", ("Gold", 300, 100, "2028-01-01"),
            id="in a new year the next tier is as far as ever, and nothing has confirmed this one",
        ),
        pytest.param(
            year(), [("2026-03-10", 140), ("2027-02-01", 60)], "2027-06-01", ("Gold", 240, 40, "2028-01-01"),
            id="a part of both",
        ),
        pytest.param(
            year(), [("2026-03-10", 140), ("2027-02-01", 100)], "2027-06-01", ("Gold", 200, 0, "2028-01-01"),
            id="confirmed: nothing is missing to stay",
        ),
        pytest.param(
            year(downgrade="never"), [("2026-03-10", 140)], "2027-06-01", ("Gold", 300, None, None),
            id="never lost: nothing to stay for",
        ),
        pytest.param(
            rolling(), [("2026-03-10", 140)], "2026-06-01", ("Gold", 160, 100, "2027-03-10"),
            id="rolling: what reached it counts towards the next, not towards staying",
        ),
        pytest.param(
            rolling(), [("2026-03-10", 140), ("2026-05-01", 70)], "2026-06-01", ("Gold", 90, 30, "2027-03-10"),
            id="rolling: what came later counts towards both",
        ),
        pytest.param(
            rolling(), [("2025-06-01", 50), ("2026-03-10", 90)], "2026-05-31", ("Gold", 160, 100, "2027-03-10"),
            id="rolling: before a year has passed",
        ),
        pytest.param(
            rolling(), [("2025-06-01", 50), ("2026-03-10", 90)], "2026-06-01", ("Gold", 210, 100, "2027-03-10"),
            id="rolling: and after it, the next is further away",
        ),
        pytest.param(
            year(grace_days=31), [("2026-03-10", 140)], "2027-06-01", ("Gold", 300, 100, "2028-01-01"),
            id="before a grace: what confirms must count before the evaluation",
        ),
        pytest.param(
            year(grace_days=31), [("2026-03-10", 140), ("2027-05-01", 90), ("2028-01-15", 30)], "2028-01-20",
            ("Gold", 270, 70, "2028-02-01"), id="within a grace: this year must reach the whole of it",
        ),
        pytest.param(
            year(), [("2026-03-10", 1000)], "2027-06-01", (None, 0, 1000, "2028-01-01"), id="at the top",
        ),
        pytest.param(year(), [("2026-03-10", 99)], "2026-06-01", ("Silver", 1, None, None), id="below the lowest"),
    ],
)  # fmt: skip
def test_progress_says_what_is_missing_and_by_when(
    policy: Ladder, facts: Facts, when: str, progress: tuple[str | None, int, int | None, str | None]
) -> None:
    standing = stands(policy, facts, when)
    seen = (name(standing.following), standing.missing, standing.missing_to_stay, local(standing.decided_at))
    assert seen == progress


def test_a_base_tier_is_everybodys_and_has_no_end():
    for policy in (ladder(tiers=(BASE, *TIERS)), year(tiers=(BASE, *TIERS)), rolling(tiers=(BASE, *TIERS))):
        standing = stands(policy, [], "2026-03-10")
        assert (standing.current, standing.since, standing.until, standing.missing_to_stay) == (BASE, None, None, None)
        assert (standing.following, standing.missing) == (SILVER, 100)
        standing = stands(policy, [("2026-03-10", -5)], "2026-03-10")
        assert (standing.current, standing.following, standing.missing) == (BASE, SILVER, 105)
    fallen = stands(year(tiers=(BASE, *TIERS)), [("2026-03-10", 100)], "2028-03-10")
    assert (fallen.current, local(fallen.since), fallen.until, fallen.missing_to_stay) == (
        BASE,
        "2028-01-01",
        None,
        None,
    )


def test_without_tiers_nobody_stands_anywhere():
    for policy in (ladder(tiers=()), year(tiers=()), rolling(tiers=())):
        assert stands(policy, [("2026-03-10", 1000)], "2026-03-10") == Standing(None)


# ---------------------------------------------------------------- what is taken away


@pytest.mark.parametrize("policy", [ladder(), year(), rolling()], ids=["lifetime", "year", "rolling"])
def test_a_refund_that_lowers_the_day_of_its_purchase_takes_the_tier_back(policy: Ladder) -> None:
    assert stands(policy, [("2026-03-10", 100), ("2026-03-10", -1)], "2026-06-01").current is None
    facts = [("2026-03-10", 100), ("2026-05-01", 200), ("2026-05-01", -1)]
    assert stands(policy, facts, "2026-06-01").current == SILVER


@pytest.mark.parametrize("policy", [year(), rolling()], ids=["year", "rolling"])
def test_a_correction_of_a_later_day_waits_for_the_evaluation(policy: Ladder) -> None:
    facts = [("2026-03-10", 150), ("2026-05-01", 150), ("2026-06-01", -100)]
    assert stands(policy, facts, "2026-06-01").current == GOLD
    assert stands(policy, facts, "2026-06-01").missing_to_stay is not None
    assert stands(policy, facts, "2028-06-01").current is None


def test_a_correction_that_leaves_the_rolling_window_lifts_again():
    facts = [("2026-03-10", -50), ("2026-05-01", 120)]
    assert stands(rolling(6), facts, "2026-09-09").current is None
    lifted = stands(rolling(6), facts, "2026-09-10")
    assert (lifted.current, local(lifted.since), local(lifted.until)) == (SILVER, "2026-09-10", "2027-03-10")


# ---------------------------------------------------------------- pins


def pin(tier: Tier, since: str, until: str | None = None) -> Pin:
    return Pin(tier.id, at(since), None if until is None else at(until))


@pytest.mark.parametrize(
    ("pinned", "points", "when", "tier", "until", "following", "missing"),
    [
        pytest.param(
            pin(GOLD, "2026-03-01"), 0, "2026-03-10", "Gold", None, "Platinum", 1000, id="above what was earned"
        ),
        pytest.param(
            pin(GOLD, "2026-03-01"), 150, "2026-03-10", "Gold", None, "Platinum", 850, id="what is missing is the truth"
        ),
        pytest.param(
            pin(SILVER, "2026-03-01", "2026-03-20 00:00"), 99, "2026-03-10", "Silver", "2026-03-20", "Gold", 201,
            id="to its date",
        ),
        pytest.param(
            pin(GOLD, "2026-03-01", "2026-03-20 00:00"), 150, "2026-03-19 23:59:59.999999", "Gold", "2026-03-20",
            "Platinum", 850, id="to the last moment",
        ),
        pytest.param(
            pin(GOLD, "2026-03-01", "2026-03-20 00:00"), 150, "2026-03-20 00:00", "Silver", "2028-01-01", "Gold", 150,
            id="and then what was earned is left",
        ),
        pytest.param(
            pin(GOLD, "2026-03-11"), 150, "2026-03-10", "Silver", "2028-01-01", "Gold", 150, id="not before it begins"
        ),
        pytest.param(
            pin(GOLD, "2026-03-10 12:00"), 150, "2026-03-10 12:00", "Gold", None, "Platinum", 850, id="from its moment"
        ),
        pytest.param(
            pin(SILVER, "2026-03-01"), 300, "2026-03-10", "Gold", "2028-01-01", "Platinum", 700,
            id="a floor, no ceiling",
        ),
        pytest.param(
            pin(GOLD, "2026-03-01"), 300, "2026-03-10", "Gold", None, "Platinum", 700,
            id="what is earned and pinned for good has no end",
        ),
        pytest.param(
            pin(GOLD, "2026-03-01", "2029-06-01 00:00"), 300, "2026-03-10", "Gold", "2029-06-01", "Platinum", 700,
            id="earned and pinned for longer: the later end",
        ),
        pytest.param(
            pin(GOLD, "2026-03-01", "2027-06-01 00:00"), 300, "2026-03-10", "Gold", "2028-01-01", "Platinum", 700,
            id="earned for longer than pinned",
        ),
        pytest.param(
            pin(PLATINUM, "2026-03-01"), 1, "2026-03-10", "Platinum", None, None, 0, id="the top has no next"
        ),
        pytest.param(
            pin(BASE, "2026-03-01"), 150, "2026-03-10", "Silver", "2028-01-01", "Gold", 150,
            id="a tier that is no more holds nobody",
        ),
    ],
)  # fmt: skip
def test_a_pin_is_a_floor_until_its_date(
    pinned: Pin, points: int, when: str, tier: str, until: str | None, following: str | None, missing: int
) -> None:
    standing = stands(year(), [("2026-03-05", points)], when, pinned)
    assert (name(standing.current), local(standing.until)) == (tier, until)
    assert (name(standing.following), standing.missing) == (following, missing)


def test_a_pinned_tier_is_held_since_it_was_pinned_and_asks_for_nothing():
    standing = stands(year(), [("2026-01-05", 150)], "2026-03-10", pin(GOLD, "2026-03-01 15:30"))
    assert (standing.pinned, standing.since, standing.missing_to_stay) == (True, at("2026-03-01 15:30"), None)


def test_a_pin_holds_somebody_over_an_evaluation():
    facts = [("2026-03-10", 300)]
    assert stands(year(), facts, "2028-03-10", pin(GOLD, "2026-05-01")).current == GOLD
    assert stands(year(), facts, "2028-03-10", pin(SILVER, "2026-05-01")).current == SILVER
    assert stands(year(), facts, "2028-03-10").current is None


# ---------------------------------------------------------------- day by day, as plainly as it can be said


@dataclass
class Plain:
    """One member who lives through every single day."""

    policy: Ladder
    counted: Mapping[date, int]
    tier: Tier | None = None
    since: date | None = None
    term_began_on: date | None = None
    """The first day of what the next evaluation of rolling months looks at."""
    evaluated_on: date | None = None
    grace_ends_on: date | None = None

    def best(self, amount: int) -> Tier | None:
        reached = [tier for tier in self.policy.tiers if tier.threshold <= max(amount, 0)]
        return reached[-1] if reached else None

    def between(self, first: date, last: date) -> int:
        return sum(amount for day, amount in self.counted.items() if first <= day <= last)

    def window(self, last: date, today: date) -> int:
        """What counts on `today`, of the days up to `last`."""
        if self.policy.window == "calendar_year":
            return self.between(date(last.year, 1, 1), last)
        return sum(
            amount for day, amount in self.counted.items()
            if day <= last and day > months_later(today, -self.policy.months)
        )  # fmt: skip

    def deciding(self, evaluated_on: date) -> int:
        if self.policy.window == "calendar_year":
            return self.between(date(evaluated_on.year - 1, 1, 1), date(evaluated_on.year - 1, 12, 31))
        assert self.term_began_on is not None
        return self.between(self.term_began_on, evaluated_on - DAY)

    def live_until(self, last: date) -> "Plain":
        self.tier = self.best(0)
        today = min([*self.counted, last])
        while today <= last:
            self.wake_up(today)
            self.spend_the_day(today)
            today += DAY
        return self

    def wake_up(self, today: date) -> None:
        while self.evaluated_on is not None and self.tier is not None and self.policy.downgrade != "never":
            if self.grace_ends_on == today:
                self.fall(today)
            elif self.grace_ends_on is None and self.evaluated_on == today:
                if self.deciding(today) >= self.tier.threshold:
                    self.begin_term(today, first_day=today)
                elif self.policy.grace_days:
                    self.grace_ends_on = today + self.policy.grace_days * DAY
                else:
                    self.fall(today)
            else:
                return

    def begin_term(self, today: date, *, first_day: date) -> None:
        self.grace_ends_on, self.term_began_on = None, first_day
        if self.policy.window == "rolling_months":
            self.evaluated_on = months_later(today, self.policy.months)
        else:
            won_today = first_day > today
            self.evaluated_on = date(today.year + (2 if won_today else 1), 1, 1)

    def fall(self, today: date) -> None:
        assert self.tier is not None
        assert self.evaluated_on is not None
        missed_on = self.evaluated_on
        counted = self.deciding(missed_on)
        if self.grace_ends_on is not None:
            counted = max(counted, self.window(today - DAY, today))
        earned = self.best(counted)
        position = self.policy.tiers.index(self.tier)
        if self.policy.downgrade == "one_level" and position > 0:
            one_below = self.policy.tiers[position - 1]
            if earned is None or earned.threshold < one_below.threshold:
                earned = one_below
        self.tier, self.since = earned, today
        if earned is None or earned.threshold == 0:
            self.grace_ends_on = self.evaluated_on = self.term_began_on = None
            return
        self.begin_term(today, first_day=today)
        if self.policy.window == "calendar_year":
            self.evaluated_on = date(missed_on.year + 1, 1, 1)

    def spend_the_day(self, today: date) -> None:
        reached = self.best(self.window(today, today))
        if reached is None:
            return
        higher = self.tier is None or reached.threshold > self.tier.threshold
        confirmed = (
            self.grace_ends_on is not None and self.tier is not None and reached.threshold >= self.tier.threshold
        )
        if higher:
            self.tier, self.since = reached, today
        if higher or confirmed:
            self.begin_term(today, first_day=today + DAY)


START = date(2026, 1, 1)
thresholds = st.lists(st.sampled_from([0, 1, 5, 10, 20, 40]), unique=True, min_size=1, max_size=4).map(sorted)
ladders = st.builds(
    lambda levels, window, months, downgrade, grace: Ladder(
        tuple(Tier(UUID(int=level + 1), str(level), level) for level in levels),
        window=window, months=months, downgrade=downgrade, grace_days=grace, zone=JAKARTA,
    ),
    thresholds,
    st.sampled_from(["calendar_year", "rolling_months"]),
    st.sampled_from([1, 2, 3, 6, 12, 18]),
    st.sampled_from(["never", "one_level", "reassess"]),
    st.sampled_from([0, 0, 1, 10, 40, 365]),
)  # fmt: skip
days = st.integers(0, 1400).map(lambda number: START + number * DAY)
amounts = st.integers(1, 25)
facts_only_up = st.lists(st.tuples(days, amounts), max_size=12)
any_facts = st.lists(st.tuples(days, amounts | st.integers(-15, -1)), max_size=12)


def standing(policy: Ladder, facts: Iterable[tuple[date, int]], when: datetime) -> Standing:
    counted = by_day(facts)
    return policy.standing(total=sum(counted.values(), NOTHING_COUNTED), days=counted, at=when)


def noon(day: date) -> datetime:
    return start_of(day, JAKARTA) + timedelta(hours=12)


def threshold(tier: Tier | None) -> int:
    return -1 if tier is None else tier.threshold


@given(policy=ladders, facts=any_facts, on=days)
def test_a_standing_is_what_living_through_every_day_comes_to(
    policy: Ladder, facts: list[tuple[date, int]], on: date
) -> None:
    counted: dict[date, int] = {}
    for day, amount in facts:
        if day <= on:
            counted[day] = counted.get(day, 0) + amount
    plain = Plain(policy, counted).live_until(on)
    seen = standing(policy, facts, noon(on))
    assert name(seen.current) == name(plain.tier)
    assert local(seen.since) == (None if plain.since is None else str(plain.since))
    assert seen.missing == (0 if seen.following is None else seen.following.threshold - plain.window(on, on))
    if plain.evaluated_on is None or policy.downgrade == "never":
        assert (seen.until, seen.decided_at, seen.missing_to_stay) == (None, None, None)
        return
    ends_on = plain.grace_ends_on or plain.evaluated_on + policy.grace_days * DAY
    decided_on = plain.grace_ends_on or plain.evaluated_on
    assert (local(seen.until), local(seen.decided_at)) == (str(ends_on), str(decided_on))
    counts = plain.window(on, on) if plain.grace_ends_on else plain.deciding(plain.evaluated_on)
    assert plain.tier is not None
    assert seen.missing_to_stay == max(0, plain.tier.threshold - counts)


@given(policy=ladders, facts=any_facts, on=days, seed=st.integers(0, 99))
def test_the_order_in_which_facts_arrive_does_not_matter(
    policy: Ladder, facts: list[tuple[date, int]], on: date, seed: int
) -> None:
    shuffled = random.Random(seed).sample(facts, len(facts))
    assert standing(policy, shuffled, noon(on)) == standing(policy, facts, noon(on))


@given(policy=ladders, facts=any_facts, one=days, other=days)
def test_asking_about_a_later_moment_and_then_an_earlier_one_makes_no_difference(
    policy: Ladder, facts: list[tuple[date, int]], one: date, other: date
) -> None:
    earlier, later = sorted((one, other))
    known_then = [(day, amount) for day, amount in facts if day <= earlier]
    standing(policy, facts, noon(later))
    assert standing(policy, facts, noon(earlier)) == standing(policy, known_then, noon(earlier))


@given(policy=ladders, facts=facts_only_up, one=days, other=days)
def test_nobody_falls_before_the_day_that_was_announced(
    policy: Ladder, facts: list[tuple[date, int]], one: date, other: date
) -> None:
    earlier, later = sorted((one, other))
    before = standing(policy, facts, noon(earlier))
    if before.until is None or before.until > noon(later):
        assert threshold(standing(policy, facts, noon(later)).current) >= threshold(before.current)


@given(policy=ladders, facts=facts_only_up, on=days)
def test_if_nothing_more_happens_the_tier_ends_when_it_says_so(
    policy: Ladder, facts: list[tuple[date, int]], on: date
) -> None:
    facts = [(day, amount) for day, amount in facts if day <= on]
    now = standing(policy, facts, noon(on))
    if now.until is None:
        assert standing(policy, facts, noon(on + 4000 * DAY)).current == now.current
        return
    assert now.until > noon(on)
    assert standing(policy, facts, now.until - INSTANT).current == now.current
    then = standing(policy, facts, now.until)
    # What has counted already may be enough to stay, or else may be again within the grace.
    if now.missing_to_stay and now.decided_at == now.until:
        assert threshold(then.current) < threshold(now.current)
        assert then.since == now.until
    elif not now.missing_to_stay:
        assert then.current == now.current


@given(policy=ladders, facts=facts_only_up, on=days)
def test_what_is_said_to_be_missing_for_the_next_tier_is_enough_and_no_more(
    policy: Ladder, facts: list[tuple[date, int]], on: date
) -> None:
    now = standing(policy, facts, noon(on))
    if now.following is None:
        assert now.current == policy.tiers[-1]
        return
    assert now.missing > 0
    enough, short = [*facts, (on, now.missing)], [*facts, (on, now.missing - 1)]
    assert standing(policy, enough, noon(on)).current == now.following
    assert standing(policy, short, noon(on)).current == now.current


@given(policy=ladders, facts=facts_only_up, later=st.integers(0, 90), wait=st.integers(1, 700))
def test_what_is_said_to_be_missing_to_stay_is_enough_and_no_more(
    policy: Ladder, facts: list[tuple[date, int]], later: int, wait: int
) -> None:
    on = max((day for day, _ in facts), default=START) + later * DAY
    now = standing(policy, facts, noon(on))
    if now.decided_at is None or now.until is None or not now.missing_to_stay:
        return
    # What won a rolling tier has counted already, and a year is decided by its own days alone.
    last = local_day(now.decided_at, JAKARTA) - DAY
    first = date(last.year, 1, 1) if policy.window == "calendar_year" else on + DAY
    day = min(max(on + wait * DAY, first), last)
    in_grace = policy.grace_days > 0 and now.decided_at == now.until
    if day <= on or (in_grace and policy.window == "rolling_months"):
        return
    enough = [*facts, (day, now.missing_to_stay)]
    assert threshold(standing(policy, enough, now.until).current) >= threshold(now.current)
    short = [*facts, (day, now.missing_to_stay - 1)]
    rises = standing(policy, short, noon(day)).current != now.current
    if (not policy.grace_days or in_grace) and not rises:
        assert threshold(standing(policy, short, now.until).current) < threshold(now.current)


@given(policy=ladders, facts=facts_only_up, on=days, more=amounts)
def test_more_on_the_same_day_never_gives_a_lower_tier(
    policy: Ladder, facts: list[tuple[date, int]], on: date, more: int
) -> None:
    before, after = standing(policy, facts, noon(on)), standing(policy, [*facts, (on, more)], noon(on))
    assert threshold(after.current) >= threshold(before.current)
    assert after.missing <= before.missing or after.following != before.following


@given(policy=ladders, facts=facts_only_up, fact=st.tuples(days, amounts), on=days)
@example(
    policy=replace(year(), tiers=(SILVER, GOLD)),
    facts=[(START, 60), (START + 400 * DAY, 60)],
    fact=(START + 30 * DAY, 60),
    on=START + 500 * DAY,
)
def test_more_facts_never_give_a_lower_tier_of_a_year_or_for_life(
    policy: Ladder, facts: list[tuple[date, int]], fact: tuple[date, int], on: date
) -> None:
    for window in ("lifetime", "calendar_year"):
        counting = replace(policy, window=window, grace_days=0)
        before, after = standing(counting, facts, noon(on)), standing(counting, [*facts, fact], noon(on))
        assert threshold(after.current) >= threshold(before.current)


@given(policy=ladders, facts=facts_only_up, on=days, months=st.sampled_from(["never"]))
def test_a_tier_that_is_never_lost_only_rises(
    policy: Ladder, facts: list[tuple[date, int]], on: date, months: Any
) -> None:
    kept = replace(policy, downgrade=months)
    standings = [standing(kept, facts, noon(day)) for day in sorted({*(day for day, _ in facts), on})]
    reached = [threshold(each.current) for each in standings]
    assert reached == sorted(reached)


@given(
    policy=ladders, facts=any_facts, on=days, zone=st.sampled_from(["Africa/Cairo", "Pacific/Kiritimati", "Etc/UTC"])
)
def test_a_standing_is_the_same_from_midnight_to_midnight(
    policy: Ladder, facts: list[tuple[date, int]], on: date, zone: str
) -> None:
    policy = replace(policy, zone=ZoneInfo(zone))
    first, last = start_of(on, policy.zone), start_of(on + DAY, policy.zone) - INSTANT
    assert standing(policy, facts, first) == standing(policy, facts, last)
