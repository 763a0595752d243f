"""Lots: points earned together, when they begin and end, and what holds have set aside of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID


@dataclass(slots=True)
class Lot:
    """Points earned together. `remaining` is pending until the lot is active, then available."""

    id: UUID
    amount: int
    remaining: int
    held: int
    active: bool
    qualifying: bool
    earned_at: datetime
    activates_at: datetime | None
    cancels_at: datetime | None
    expires_at: datetime | None
    fixed: bool
    order_ref: str | None
    kind: str = "regular"

    @property
    def waits(self) -> bool:
        """Whether it begins with an event that nobody has told of."""
        return not self.active and self.activates_at is None

    @property
    def due_at(self) -> datetime | None:
        """When time alone changes this lot next."""
        if self.remaining <= 0:
            return None
        if self.active:
            return self.expires_at
        return min((at for at in (self.activates_at, self.ends_at) if at is not None), default=None)

    @property
    def ends_at(self) -> datetime | None:
        """When its points are dead: at their end, or where they still wait for an event, at its deadline."""
        if self.active or self.cancels_at is None:
            return self.expires_at
        return self.cancels_at if self.expires_at is None else min(self.cancels_at, self.expires_at)

    @property
    def counted_at(self) -> datetime:
        """When its points began to count towards the tiers."""
        return max(self.activates_at or self.earned_at, self.earned_at)


class Phase(IntEnum):
    """What happens first, of what time does at one instant."""

    ACTIVATE = 0
    RELEASE = 1
    OCCASION = 2
    EXPIRE = 3


@dataclass(frozen=True, slots=True)
class Hold:
    """Points set aside; `parts` says how many of which lot, in the order in which they were taken."""

    id: UUID
    expires_at: datetime
    parts: Sequence[tuple[int, Lot]]


class HoldChange(NamedTuple):
    """How a hold ended; `captured` of its points were spent."""

    id: UUID
    status: str
    captured: int
    resolved_at: datetime


class LotChange(NamedTuple):
    """The end of a lot that moved, and why."""

    lot_id: UUID
    before: datetime | None
    after: datetime | None
    reason: str
    occurred_at: datetime
    by: str


def due_of(lot: Lot) -> tuple[datetime, Phase] | None:
    """When time changes a lot next, and how: what begins and ends at one instant has only ended."""
    at = lot.due_at
    if at is None:
        return None
    ends_at = lot.ends_at
    return at, Phase.EXPIRE if ends_at is not None and ends_at <= at else Phase.ACTIVATE
