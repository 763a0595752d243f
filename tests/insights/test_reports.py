"""The reports equal the ledger: whatever moved, their sums are the sums of its movements, period by period."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.insights import reports
from crm.insights.buckets import OPEN
from crm.insights.periods import InvalidPeriod
from crm.insights.reports import Cohort, CohortReport, LotSums, PointsPeriod, PointsReport
from crm.loyalty import audit, ledger, programs
from crm.loyalty.audit import Totals
from crm.loyalty.ledger import Award
from crm.loyalty.movements import BUCKETS
from tests.insights.played import START, Table, moves, posts
from tests.loyalty import story as shop

INSTANT = timedelta(microseconds=1)
JAKARTA = ZoneInfo("Asia/Jakarta")
FIRST, LAST = date(2026, 9, 1), date(2027, 8, 31)
MOVED = [field.name for field in fields(PointsPeriod)][2:]
SUMS = [field.name for field in fields(LotSums)]


async def points(session: Any, program_id: Any, by: Any = "month", **asked: Any) -> PointsReport:
    days = {"first": FIRST, "last": LAST, "now": START} | asked
    return await reports.points(session, program_id=program_id, by=by, **days)


async def cohorts(session: Any, program_id: Any, **asked: Any) -> CohortReport:
    return await reports.cohorts(session, program_id=program_id, **{"first": FIRST, "last": LAST, "now": START} | asked)


def equal_the_ledger(found: PointsReport, by_cohort: CohortReport, totals: Totals) -> None:
    total = found.total
    assert total.issued == totals.issued
    assert {
        "redeemed": total.redeemed - total.returned, "expired": total.expired, "revoked": total.revoked,
        "transferred": total.transferred_out - total.transferred_in,
    } == totals.gone  # fmt: skip
    assert total.net == sum(totals.buckets[bucket] for bucket in OPEN)
    sums = {name: getattr(by_cohort.total, name) + getattr(by_cohort.deficits, name) for name in SUMS}
    assert sums == {"issued": totals.issued, **totals.gone, "open": total.net}
    for period in (*found.periods, total):
        gone = period.redeemed + period.expired + period.revoked + period.transferred_out
        assert period.net == period.issued + period.returned + period.transferred_in - gone
    for cohort in (*by_cohort.cohorts, by_cohort.total, by_cohort.deficits):
        assert cohort.issued == sum(getattr(cohort, name) for name in SUMS[1:])


def test_every_bucket_is_reported_on():
    assert {*OPEN, "issued", "redeemed", "expired", "revoked", "transferred"} == set(BUCKETS)


async def test_the_reports_equal_the_ledger(session):
    story = await shop.tell(session)
    (totals,) = (await audit.verify(session)).totals
    equal_the_ledger(await points(session, story.program_id), await cohorts(session, story.program_id), totals)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(posts)
def test_the_reports_equal_a_ledger_played_at_random(table: Table, played):
    table.play(played)
    report = table.run(audit.verify(table.session))
    assert report.findings == []
    if any(totals.movements for totals in report.totals):
        (totals,) = report.totals
        equal_the_ledger(
            table.run(points(table.session, table.program_id)), table.run(cohorts(table.session, table.program_id)),
            totals,
        )  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(moves, st.sampled_from(["day", "week", "month"]), st.integers(0, 70), st.integers(0, 70))
def test_each_period_and_cohort_says_what_a_count_by_hand_says(table: Table, moved, by, starts, length):
    table.put(moved)
    first = START.date() - timedelta(days=5) + timedelta(days=starts)
    last = first + timedelta(days=length)
    found = table.run(points(table.session, table.program_id, by, first=first, last=last))
    lots = {
        (row["contact_id"], row["id"]): row
        for row in table.run(table.session.fetch("SELECT contact_id, id, kind, earned_at FROM points_lots"))
    }

    def local(instant) -> date:
        return instant.astimezone(JAKARTA).date()

    rows = [row for row in table.movements() if first <= local(row["occurred_at"]) <= last]
    label: Callable[[date], Any] = {
        "day": lambda day: day, "week": lambda day: day.isocalendar()[:2], "month": lambda day: (day.year, day.month)
    }[by]  # fmt: skip
    assert found.periods[0].starts_on == first
    assert found.periods[-1].ends_on == last
    for one, following in zip(found.periods, found.periods[1:], strict=False):
        assert one.ends_on + timedelta(days=1) == following.starts_on
        assert label(one.ends_on) != label(following.starts_on)
    for period in found.periods:
        assert label(period.starts_on) == label(period.ends_on)
        within = [row for row in rows if label(local(row["occurred_at"])) == label(period.starts_on)]
        assert period == by_hand(period, within)
    assert [getattr(found.total, name) for name in MOVED] == [
        sum(getattr(period, name) for period in found.periods) for name in MOVED
    ]

    by_cohort = table.run(cohorts(table.session, table.program_id, first=first, last=last))
    expected: dict[Any, Counter[str]] = {}
    for row in table.movements():
        lot = lots[row["contact_id"], row["lot_id"]]
        earned = local(lot["earned_at"])
        if lot["kind"] == "deficit" or first <= earned <= last:
            key = "deficit" if lot["kind"] == "deficit" else (earned.year, earned.month)
            sums = expected.setdefault(key, Counter())
            sums[row["from_bucket"]] -= row["points"]
            sums[row["to_bucket"]] += row["points"]
    for cohort in by_cohort.cohorts:
        assert sums_of(cohort) == of_buckets(expected.get((cohort.starts_on.year, cohort.starts_on.month), Counter()))
    assert by_cohort.deficits == of_buckets(expected.get("deficit", Counter()))


def by_hand(period: PointsPeriod, rows: list[Any]) -> PointsPeriod:
    def moved(*, source: str = "", target: str = "") -> int:
        return sum(
            row["points"] for row in rows if source in ("", row["from_bucket"]) and target in ("", row["to_bucket"])
        )

    given: Counter[Any] = Counter()
    for row in rows:
        if "transferred" in (row["from_bucket"], row["to_bucket"]):
            sign = 1 if row["to_bucket"] == "transferred" else -1
            given[row["contact_id"], row["transaction_id"]] += sign * row["points"]
    return PointsPeriod(
        period.starts_on, period.ends_on, moved(source="issued") - moved(target="issued"), moved(target="redeemed"),
        moved(source="redeemed"), moved(target="expired") - moved(source="expired"),
        moved(target="revoked") - moved(source="revoked"), sum(max(n, 0) for n in given.values()),
        sum(max(-n, 0) for n in given.values()), sum(moved(target=name) - moved(source=name) for name in OPEN),
    )  # fmt: skip


def sums_of(cohort: Cohort) -> LotSums:
    return LotSums(*(getattr(cohort, name) for name in SUMS))


def of_buckets(sums: Counter[str]) -> LotSums:
    return LotSums(
        -sums["issued"], *(sums[name] for name in ("redeemed", "expired", "revoked", "transferred")),
        sum(sums[name] for name in OPEN),
    )  # fmt: skip


async def test_periods_in_which_nothing_moved_are_there_with_zeros(session):
    story = await shop.tell(session)
    found = await points(session, story.program_id)
    assert len(found.periods) == 12
    issued = {period.starts_on: period.issued for period in found.periods if period.net or period.issued}
    assert issued == {date(2026, 11, 1): 347, date(2026, 12, 1): 4}
    january = next(period for period in found.periods if period.starts_on == date(2027, 1, 1))
    assert january == PointsPeriod(date(2027, 1, 1), date(2027, 1, 31), *[0] * len(MOVED))


async def test_the_story_in_numbers(session):
    story = await shop.tell(session)
    total = (await points(session, story.program_id)).total
    assert total == PointsPeriod(FIRST, LAST, 351, 150, 130, 30, 200, 0, 0, 101)
    by_cohort = await cohorts(session, story.program_id)
    assert by_cohort.deficits == LotSums(0, 0, 0, 25, -25, 0)
    assert by_cohort.total == Cohort(FIRST, LAST, 351, 20, 30, 175, 25, 101, "0.0855", "0.0570")
    assert [cohort.breakage_rate for cohort in by_cohort.cohorts if not cohort.issued] == [None] * 10


async def test_points_that_go_to_another_member_are_given_and_those_that_fill_a_deficit_are_not(session):
    story = await shop.tell(session)
    before = (await points(session, story.program_id)).total
    gift = """
        INSERT INTO points_movements (contact_id, program_id, seq, transaction_id, lot_id, from_bucket, to_bucket,
            points, available_after, pending_after, held_after, occurred_at, recorded_at, digest)
        VALUES ($1, $2, 999, gen_random_uuid(), gen_random_uuid(), $3, $4, 12, 0, 0, 0, $5, $5, '')
    """
    await session.execute(gift, story.sari, story.program_id, "available", "transferred", story.ends_at)
    await session.execute(gift, story.budi, story.program_id, "transferred", "available", story.ends_at)
    after = (await points(session, story.program_id)).total
    assert (before.transferred_out, before.transferred_in) == (0, 0)
    assert (after.transferred_out, after.transferred_in, after.net) == (12, 12, before.net)


@pytest.mark.parametrize(
    ("by", "first", "starts", "count"),
    [
        ("day", None, date(2026, 12, 20), 12),
        ("week", None, date(2026, 10, 12), 12),
        ("month", None, date(2026, 1, 1), 12),
        ("day", date(2026, 9, 3), date(2026, 9, 3), 120),
        ("day", date(2026, 9, 2), None, 0),
        ("month", date(2017, 1, 1), date(2017, 1, 1), 120),
        ("month", date(2016, 12, 31), None, 0),
        ("week", date(2027, 1, 1), None, 0),
    ],
)
async def test_a_report_has_twelve_periods_unless_asked_otherwise_and_never_too_many(session, by, first, starts, count):
    story = await shop.tell(session)
    asked = {"first": first, "last": None, "now": shop.NOON + 60 * shop.DAY}
    if starts is None:
        with pytest.raises(InvalidPeriod):
            await points(session, story.program_id, by, **asked)
        return
    found = await points(session, story.program_id, by, **asked)
    assert found.periods[0].starts_on == starts
    assert found.periods[-1].ends_on == date(2026, 12, 31)
    assert len(found.periods) == count


async def test_a_day_is_the_programs_own_from_its_first_instant_to_before_the_next(session):
    story = await shop.tell(session)
    begins = datetime(2027, 1, 9, 17, tzinfo=UTC)  # the 10th, in Jakarta
    for at, number in (
        (begins - INSTANT, 1_000), (begins, 2_000), (begins + shop.DAY - INSTANT, 4_000), (begins + shop.DAY, 8_000),
    ):  # fmt: skip
        await shop.award(session, story, number, now=at)
    the_10th = {"first": date(2027, 1, 10), "last": date(2027, 1, 10)}
    found = await points(session, story.program_id, "day", **the_10th)
    assert [period.issued for period in found.periods] == [6_000]
    assert [cohort.issued for cohort in (await cohorts(session, story.program_id, **the_10th)).cohorts] == [6_000]


async def test_another_programs_points_are_not_in_it(session):
    story = await shop.tell(session)
    other = await programs.create(
        session, name="Teh", currency="USD", time_zone="Etc/UTC", default=None, settings={}, now=shop.NOON
    )
    await ledger.award(
        session, program_id=other.id, award=Award(story.sari, 9, "goodwill"), by="till", once=None, now=shop.NOON
    )
    assert (await points(session, story.program_id)).total.issued == 351
    assert (await cohorts(session, story.program_id)).total.issued == 351
    assert (await points(session, other.id)).total.issued == (await cohorts(session, other.id)).total.issued == 9
