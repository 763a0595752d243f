"""What answers to surveys come to. Pure.

CSAT is the share of satisfied answers (4 and 5 of 1 to 5), CES 2.0 the mean of 1 to 7 ("made it easy for me", Dixon,
Freeman and Toman 2010), NPS the share of promoters (9, 10) less that of detractors (0 to 6) with the margin of a 95 %
confidence interval, which is 1.96 standard errors of the mean of +1, 0 and -1 (Reichheld 2003).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["csat", "ces", "nps", "rating"]

_DETRACTORS_TO: Final = 6
_PROMOTERS_FROM: Final = 9
_Z95: Final = 1.96


@dataclass(frozen=True, slots=True)
class Scale:
    """Whole numbers from `low` to `high`; `good_from` on an answer counts as a good one."""

    version: int
    low: int
    high: int
    good_from: int
    higher_is_better: bool = True

    def has(self, score: int) -> bool:
        """Whether it can be an answer."""
        return self.low <= score <= self.high


SCALES: Final[Mapping[Kind, Scale]] = {
    "csat": Scale(1, 1, 5, good_from=4),
    "ces": Scale(1, 1, 7, good_from=5),
    "nps": Scale(1, 0, 10, good_from=_PROMOTERS_FROM),
    "rating": Scale(1, 1, 5, good_from=4),
}
"""The newest version of each kind's scale."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the answers come to; all null where there are none, which is not the same as zero.

    `score` is what the kind is known for: of CSAT the good share in percent, of CES and ratings the mean, of NPS the
    promoters less the detractors, in percent, with a `margin` either way that only NPS has. `good_share` is in percent.
    """

    answers: int
    score: float | None = None
    margin: float | None = None
    mean: float | None = None
    good_share: float | None = None


def score(kind: Kind, counts: Mapping[int, int]) -> Score:
    """What so many answers of each value come to, to one decimal, means to two."""
    answers = sum(counts.values())
    if answers == 0:
        return Score(0)
    mean = sum(value * count for value, count in counts.items()) / answers
    good = sum(count for value, count in counts.items() if value >= SCALES[kind].good_from) / answers
    if kind == "nps":
        bad = sum(count for value, count in counts.items() if value <= _DETRACTORS_TO) / answers
        net = good - bad
        # A variance: what rounding leaves below nothing is nothing.
        margin = 100 * _Z95 * sqrt(max(0.0, good + bad - net**2) / answers)
        return Score(answers, round(100 * net, 1), round(margin, 1), round(mean, 2), round(100 * good, 1))
    shown = round(100 * good, 1) if kind == "csat" else round(mean, 2)
    return Score(answers, shown, None, round(mean, 2), round(100 * good, 1))


def feeling(kind: Kind, value: int) -> Literal["good", "neutral", "bad"]:
    """What an answer says: of NPS whether it is a promoter's, a passive's or a detractor's."""
    if value >= SCALES[kind].good_from:
        return "good"
    if kind == "nps":
        return "bad" if value <= _DETRACTORS_TO else "neutral"
    middle = (SCALES[kind].low + SCALES[kind].high) / 2
    return "neutral" if value == middle else "bad" if value < middle else "neutral"
