"""Which rewards and offers suit a member best, and why. Pure: the same inputs give the same order.

What is seen of a member: what they bought lately, what they can spend, and the moment. Any function of the type `Rank`
can stand in the place of `rank`. Scores are whole numbers, of use only to be compared.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

Why: TypeAlias = Literal[
    "picked_for_you", "often_bought", "bought_before", "enough_points", "points_to_go", "for_tier", "ends_soon"
]

AFFINITY: Final = 400
"""For what is all that the member buys; part of it in proportion."""
REACHED: Final = 300
"""For what the points suffice for; on the way there, less than that in proportion."""
PICKED: Final = 250
TIER: Final = 150
ENDING: Final = 20
"""For each day that something ends sooner than in `SOON`."""
BLOCKED: Final = -10_000
"""For what can't be had for another reason than points: it stands below all that can."""
SOON: Final = timedelta(days=7)

RANKED_MAX: Final = 500
"""How many candidates are compared with each other for one member."""
OFTEN_MIN: Final = 2
OFTEN_SHARE: Final = 5
"""A thing is bought often that is in at least every fifth line, and in more than one."""


@dataclass(frozen=True, slots=True)
class Bought:
    """What a line of a purchase was about."""

    sku: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What decides of a member: points that can be spent, the lines of the last purchases counted, and the moment."""

    available: int
    now: datetime
    bought: Mapping[Bought, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Something that a member could have. `categories` and `skus` say what it is about, `cost` is in points.

    `tier` is the name of the one that it asks for, `picked`: it is for this member by name, `blocked`: something else
    than points speaks against it.
    """

    id: UUID
    categories: frozenset[str] = frozenset()
    skus: frozenset[str] = frozenset()
    cost: int = 0
    tier: str | None = None
    picked: bool = False
    blocked: bool = False
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """What speaks for it: a stable `code`, and a few words to show."""

    code: Why
    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate's place; the reasons that count most stand first."""

    id: UUID
    score: int
    reasons: tuple[Reason, ...]


class Scored(Protocol):
    """What a ranking is made of, in whatever form it is shown."""

    id: UUID
    score: int


S = TypeVar("S", bound=Scored)
Sort: TypeAlias = Literal["rank", "made"]
"""Best first, or in the order in which they were made."""
Place: TypeAlias = tuple[int, UUID]
"""The score and the id of one of them: where a page goes on."""
Rank: TypeAlias = Callable[[Sequence[Candidate], Profile], list[Ranked]]


def rank(candidates: Sequence[Candidate], profile: Profile) -> list[Ranked]:
    """The candidates, best first; those that are as good as each other in the order of their ids."""
    lines = sum(profile.bought.values())
    ranked = []
    for candidate in candidates:
        found = sorted(_found(candidate, profile, lines), key=lambda each: -each[0])
        score = sum(points for points, _ in found) + (BLOCKED if candidate.blocked else 0)
        ranked.append(Ranked(candidate.id, score, tuple(reason for _, reason in found if reason is not None)))
    return sorted(ranked, key=lambda each: (-each.score, each.id))


def behind(ranked: Iterable[S], place: Place | None) -> list[S]:
    """What of a ranking stands behind a place, whether what stood there is still in it or not."""
    if place is None:
        return list(ranked)
    return [each for each in ranked if (-each.score, each.id) > (-place[0], place[1])]


def _found(candidate: Candidate, profile: Profile, lines: int) -> Iterator[tuple[int, Reason | None]]:
    """What speaks for a candidate, and how much."""
    if candidate.picked:
        yield PICKED, Reason("picked_for_you", "picked for you")
    yield from _affinity(candidate, profile, lines)
    yield _distance(candidate, profile)
    if candidate.tier is not None and not candidate.blocked:
        yield TIER, Reason("for_tier", f"for {candidate.tier} members")
    if candidate.ends_at is not None and profile.now < candidate.ends_at <= profile.now + SOON:
        days = (candidate.ends_at - profile.now).days
        yield (SOON.days - days) * ENDING, Reason("ends_soon", _ends_in(days))


def _affinity(candidate: Candidate, profile: Profile, lines: int) -> Iterator[tuple[int, Reason | None]]:
    by_name: Counter[str] = Counter()
    for bought, count in profile.bought.items():
        if bought.category is not None and bought.category in candidate.categories:
            by_name[bought.category] += count
        elif bought.sku is not None and bought.sku in candidate.skus:
            by_name[bought.sku] += count
    matching = by_name.total()
    if not matching:
        return
    name, count = min(by_name.items(), key=lambda each: (-each[1], each[0]))
    often = count >= OFTEN_MIN and count * OFTEN_SHARE >= lines
    reason = (
        Reason("often_bought", f"you buy {name} often")
        if often
        else Reason("bought_before", f"you have bought {name} before")
    )
    yield AFFINITY * matching // lines, reason


def _distance(candidate: Candidate, profile: Profile) -> tuple[int, Reason | None]:
    missing = candidate.cost - profile.available
    if candidate.cost <= 0:
        return REACHED, None
    if missing <= 0:
        return REACHED, Reason("enough_points", "you have enough points")
    close = (REACHED - 1) * max(0, profile.available) // candidate.cost
    return close, Reason("points_to_go", f"{missing} point{'' if missing == 1 else 's'} to go")


def _ends_in(days: int) -> str:
    if days == 0:
        return "ends within a day"
    return f"ends in {days} day{'' if days == 1 else 's'}"
