"""The stages of a customer: explicit rules, held against a plain look at each day."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.insights import stages
from crm.insights.stages import STEPS, Facts, Rules, Stay

BERLIN = ZoneInfo("Europe/Berlin")
RULES = Rules(
    repeat_purchases=2, loyal_purchases=3, loyal_within_days=30, loyal_tiers=["Gold"], at_risk_after_days=10,
    lost_after_days=20, prospect_lost_after_days=15,
)  # fmt: skip
KNOWN = datetime(2026, 3, 20, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: float) -> datetime:
    return KNOWN + number * DAY


def midnight(month: int, number: int) -> datetime:
    return datetime(2026, month, number, tzinfo=BERLIN).astimezone(UTC)


def told(stays: list[Stay]) -> list[tuple[str, datetime, str]]:
    return [(stay.stage, stay.entered_at, stay.rule) for stay in stays]


@pytest.mark.parametrize(
    ("bought", "tier", "days", "expected"),
    [
        ([], None, 5, [("prospect", KNOWN, "known")]),
        ([], None, 40, [("prospect", KNOWN, "known"), ("lost", midnight(4, 4), "prospect_lost_after_days")]),
        ([1], None, 5, [("prospect", KNOWN, "known"), ("first_purchase", day(1), "first_purchase")]),
        # Summer time begins on 29 March: local days all the same.
        (
            [0], None, 60,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("at_risk", midnight(3, 30), "at_risk_after_days"), ("lost", midnight(4, 9), "lost_after_days"),
            ],
        ),
        (
            [0, 12, 13], None, 14,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("at_risk", midnight(3, 30), "at_risk_after_days"), ("repeat", day(12), "repeat_purchases"),
                ("loyal", day(13), "loyal_purchases"),
            ],
        ),
        (
            [0, 1, 2, 20], None, 25,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("repeat", day(1), "repeat_purchases"), ("loyal", day(2), "loyal_purchases"),
                ("at_risk", midnight(4, 1), "at_risk_after_days"), ("loyal", day(20), "came_back"),
            ],
        ),
        (
            [0, 5, 31], None, 32,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("repeat", day(5), "repeat_purchases"), ("at_risk", midnight(4, 4), "at_risk_after_days"),
                ("lost", midnight(4, 14), "lost_after_days"), ("repeat", day(31), "came_back"),
            ],
        ),
        # Gold before the second purchase, while it lasts, and while at risk.
        (
            [0, 5], 2, 6,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("repeat", day(5), "repeat_purchases"), ("loyal", day(5), "loyal_tiers"),
            ],
        ),
        (
            [0, 5], 7, 8,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("repeat", day(5), "repeat_purchases"), ("loyal", day(7), "loyal_tiers"),
            ],
        ),
        (
            [0, 5, 36], 17, 37,
            [
                ("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase"),
                ("repeat", day(5), "repeat_purchases"), ("at_risk", midnight(4, 4), "at_risk_after_days"),
                ("lost", midnight(4, 14), "lost_after_days"), ("loyal", day(36), "came_back"),
            ],
        ),
        ([0], 0, 1, [("prospect", KNOWN, "known"), ("first_purchase", KNOWN, "first_purchase")]),
        ([], None, 0, []),
    ],
)  # fmt: skip
def test_somebody_goes_from_stage_to_stage(bought, tier, days, expected):
    facts = Facts(KNOWN, [day(number) for number in bought], None if tier is None else day(tier))
    stays = stages.walk(RULES, facts, until=day(days), zone=BERLIN)
    assert told(stays) == expected
    assert [stay.left_at for stay in stays] == [stay.entered_at for stay in stays[1:]] + [None] * bool(stays)
    for stay in stays:
        assert stay.seconds == ((stay.left_at or day(days)) - stay.entered_at).total_seconds()


moments = st.integers(0, 24 * 100).map(lambda number: KNOWN + timedelta(hours=number))


@given(
    st.lists(moments, max_size=12).map(sorted), st.none() | moments, st.integers(2, 3), st.sampled_from([None, 4, 5]),
    st.sampled_from([None, 20, 60]), st.integers(1, 20), st.integers(21, 50), st.none() | st.integers(1, 30),
    st.integers(0, 120),
)  # fmt: skip
def test_the_stage_at_the_end_of_a_day_is_what_a_plain_look_at_that_day_says(
    purchases, tier_at, repeat, loyal, within, at_risk, lost, prospect_lost, number
):
    rules = Rules(repeat, loyal, within, ["Gold"], at_risk, lost, prospect_lost)
    today = KNOWN.astimezone(BERLIN).date() + timedelta(days=number)
    until = datetime.combine(today + DAY, time(), BERLIN).astimezone(UTC)
    stays = stages.walk(rules, Facts(KNOWN, purchases, tier_at), until=until, zone=BERLIN)
    assert stays[-1].stage == plainly(rules, purchases, tier_at, today)
    assert [stay.stage for stay in stays[1:]] != [stay.stage for stay in stays[:-1]] or len(stays) == 1
    assert sum(stay.seconds for stay in stays) == int((until - KNOWN).total_seconds())


def plainly(rules: Rules, purchases: list[datetime], tier_at: datetime | None, today: date) -> str:
    def days_since(at: datetime) -> int:
        return (today - at.astimezone(BERLIN).date()).days

    bought = [at for at in purchases if days_since(at) >= 0]
    if not bought:
        limit = rules.prospect_lost_after_days
        return "prospect" if limit is None or days_since(KNOWN) < limit else "lost"
    if days_since(bought[-1]) >= rules.lost_after_days:
        return "lost"
    if days_since(bought[-1]) >= rules.at_risk_after_days:
        return "at_risk"
    return STEPS[step_of(rules, bought, in_tier=tier_at is not None and days_since(tier_at) >= 0)]


def step_of(rules: Rules, bought: list[datetime], *, in_tier: bool) -> int:
    """How far somebody came by these purchases."""
    count = rules.loyal_purchases
    for first, last in zip(bought, bought[count - 1 :] if count else [], strict=False):
        if rules.loyal_within_days is None or last - first <= rules.loyal_within_days * DAY:
            return 3
    if len(bought) >= rules.repeat_purchases:
        return 3 if in_tier else 2
    return 1 if bought else 0
