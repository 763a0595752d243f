"""How much may be given by hand without a manager: in one award, by one caller in a day, and to one member in a day."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, Table, Text, Uuid

from crm.db.session import Session
from crm.db.tables import metadata
from crm.db.writes import Update
from crm.errors import Conflict, Forbidden
from crm.loyalty.books import Book
from crm.loyalty.expiry import local_day
from crm.loyalty.journal import Locked
from crm.loyalty.limits import period_key, resets_at
from crm.loyalty.programs import AwardLimits

award_counts = Table(
    "award_counts",
    metadata,
    Column("program_id", Uuid, primary_key=True),
    Column("by", Text, primary_key=True),
    Column("local_on", Date, primary_key=True),
    Column("points", BigInteger, nullable=False),
)

BY_HAND: Final = UUID(int=1)
"""Stands among the usages of rules for what a member was given by hand."""

# It waits for whoever counts for the same caller, and says what they have left.
_COUNTED: Final = """
    INSERT INTO award_counts AS c (program_id, by, local_on, points) VALUES ($1, $2, $3, 0)
    ON CONFLICT (program_id, by, local_on) DO UPDATE SET points = c.points RETURNING points
"""
_HAD: Final = """
    SELECT contact_id, points FROM rule_usages
    WHERE program_id = $1 AND contact_id = ANY ($2) AND rule_id = $3 AND period = $4
"""


class ManagerNeeded(Forbidden):
    code = "manager_needed"
    title = "Somebody who may adjust points must give so many"


class AwardLimitReached(Conflict):
    code = "award_limit_reached"
    title = "As much has been given by hand today as may be"


@dataclass(slots=True)
class Allowance:
    """What a caller may still give today."""

    limits: AwardLimits
    by: str
    locked: Locked
    local_on: date
    given: int
    had: dict[UUID, int] = field(default_factory=dict)

    @classmethod
    async def of(cls, session: Session, *, locked: Locked, by: str, trusted: bool) -> Self | None:
        """What is left of the program's limits, with the caller's count locked; None for whom none holds."""
        limits, program = locked.program.award_limits, locked.program
        if limits is None or trusted:
            return None
        local_on = local_day(locked.now, program.terms.zone)
        given = await session.fetchval(_COUNTED, program.id, by, local_on)
        had: Sequence[Any] = ()
        if limits.member_points_per_day is not None:
            had = await session.fetch(_HAD, program.id, list(locked.books), BY_HAND, period_key("day", local_on))
        return cls(limits, by, locked, local_on, given, {row["contact_id"]: row["points"] for row in had})

    def spend(self, book: Book, points: int) -> None:
        """Count an award, before it is planned. Raises ManagerNeeded, AwardLimitReached."""
        limits, had = self.limits, self.had.get(book.contact_id, 0)
        if limits.points_max is not None and points > limits.points_max:
            raise ManagerNeeded(
                f"More than {limits.points_max} points at once are given by somebody who may adjust points.",
                points_max=limits.points_max,
            )
        for given, most, whose in (
            (self.given, limits.points_per_day, "by this caller"),
            (had, limits.member_points_per_day, "to this member"),
        ):
            if most is not None and given + points > most:
                until = resets_at("day", self.local_on, self.locked.program.terms.zone)
                raise AwardLimitReached(
                    f"{given} points were given {whose} today, of {most} that may be.",
                    limit=most, given=given, missing=given + points - most, until=until,
                )  # fmt: skip
        self.given += points
        self.had[book.contact_id] = had + points
        if limits.member_points_per_day is not None:
            book.use(BY_HAND, period_key("day", self.local_on), points=points, times=1)

    def part(self) -> Update:
        """The part of a write that keeps the caller's count."""
        row = (self.locked.program.id, self.by, self.local_on, self.given)
        return Update(award_counts, ("program_id", "by", "local_on", "points"), [row], 3)
