"""Sums of movements by bucket: whatever moved points, and why, they are counted by where they came from and went to.

They are numeric in SQL, and 0 where nothing moved.
"""

from typing import Final

OPEN: Final = ("available", "pending", "held")
"""Where points are still a member's."""


def into(*buckets: str) -> str:
    """As an aggregate over movements: how many points more these buckets have after them."""
    return f"({arrived(*buckets)} - {left(*buckets)})"


def arrived(*buckets: str) -> str:
    """As an aggregate over movements: the points that went to one of these buckets."""
    return f"coalesce(sum(points) FILTER (WHERE to_bucket IN ({_listed(buckets)})), 0)"


def left(*buckets: str) -> str:
    """As an aggregate over movements: the points that came from one of these buckets."""
    return f"coalesce(sum(points) FILTER (WHERE from_bucket IN ({_listed(buckets)})), 0)"


def _listed(buckets: tuple[str, ...]) -> str:
    return ", ".join(f"'{bucket}'" for bucket in buckets)
