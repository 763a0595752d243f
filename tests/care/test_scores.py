"""What answers come to."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.care.scores import SCALES, Score, feeling, score

KINDS = sorted(SCALES)


@pytest.mark.parametrize(
    ("kind", "counts", "expected"),
    [
        ("nps", {10: 30, 9: 20, 8: 20, 7: 10, 6: 10, 0: 10}, Score(100, 30.0, 15.3, 7.7, 50.0)),
        ("nps", {10: 5}, Score(5, 100.0, 0.0, 10.0, 100.0)),
        ("nps", {0: 4}, Score(4, -100.0, 0.0, 0.0, 0.0)),
        ("nps", {7: 1, 8: 1}, Score(2, 0.0, 0.0, 7.5, 0.0)),
        ("csat", {5: 6, 4: 2, 3: 1, 1: 1}, Score(10, 80.0, None, 4.2, 80.0)),
        ("csat", {2: 1}, Score(1, 0.0, None, 2.0, 0.0)),
        ("ces", {7: 1, 5: 1, 4: 1}, Score(3, 5.33, None, 5.33, 66.7)),
        ("rating", {5: 1, 4: 1, 2: 1}, Score(3, 3.67, None, 3.67, 66.7)),
    ],
)
def test_the_scores_are_those_of_the_textbooks(kind, counts, expected):
    assert score(kind, counts) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_no_answers_are_no_score_and_not_zero(kind):
    assert score(kind, {}) == Score(0, None, None, None, None)


@given(st.sampled_from(KINDS), st.dictionaries(st.integers(0, 10), st.integers(1, 1000), min_size=1))
def test_a_score_lies_within_its_scale_and_does_not_depend_on_how_many_said_the_same(kind, drawn):
    scale = SCALES[kind]
    counts = {max(scale.low, min(scale.high, value)): count for value, count in drawn.items()}
    found = score(kind, counts)
    assert found.answers == sum(counts.values())
    assert scale.low <= found.mean <= scale.high
    assert 0 <= found.good_share <= 100
    tenfold = score(kind, {value: 10 * count for value, count in counts.items()})
    assert (tenfold.score, tenfold.mean, tenfold.good_share) == (found.score, found.mean, found.good_share)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=200))
def test_the_margin_of_nps_is_that_of_a_mean_of_ones_and_minus_ones(answers):
    signs = [1 if each >= 9 else -1 if each <= 6 else 0 for each in answers]
    mean = sum(signs) / len(signs)
    variance = sum((sign - mean) ** 2 for sign in signs) / len(signs)
    found = score("nps", {value: answers.count(value) for value in set(answers)})
    assert found.score == pytest.approx(100 * mean, abs=0.051)
    assert found.margin == pytest.approx(196 * sqrt(variance / len(signs)), abs=0.051)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=50), st.integers(0, 9))
def test_a_better_answer_never_lowers_nps(answers, place):
    place %= len(answers)
    better = [*answers]
    better[place] = min(10, better[place] + 1)
    before, after = (score("nps", {value: said.count(value) for value in set(said)}) for said in (answers, better))
    assert after.score >= before.score


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("nps", 9, "good"), ("nps", 8, "neutral"), ("nps", 7, "neutral"), ("nps", 6, "bad"), ("csat", 4, "good"),
        ("csat", 3, "neutral"), ("csat", 2, "bad"), ("ces", 5, "good"), ("ces", 4, "neutral"), ("ces", 1, "bad"),
    ],
)  # fmt: skip
def test_what_an_answer_says(kind, value, expected):
    assert feeling(kind, value) == expected
