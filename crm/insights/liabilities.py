"""What a program owes its members: their points, and what those will probably cost."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from typing import Final
from uuid import UUID

from crm.db.session import Session
from crm.insights.buckets import into
from crm.insights.currencies import Money
from crm.loyalty import programs

_EXACT: Final = Context(prec=200)


@dataclass(slots=True)
class Liability:
    """What is owed at an instant: `points` are pending, available and held ones together.

    `deficit` are points that members owe; they lessen nobody's points, not even what is pending for who owes them.
    `liability` is points * `cost_per_point` * (1 - `expected_breakage`), and null where the program has no such cost.
    """

    program_id: UUID
    as_of: datetime
    points: int
    pending: int
    available: int
    held: int
    deficit: int
    cost_per_point: str | None
    expected_breakage: str
    liability: Money | None


async def read(session: Session, *, program_id: UUID, as_of: datetime | None, now: datetime) -> Liability:
    """What is owed now, or was or will be at `as_of`; then time goes on and nothing else happens.

    A point that has ended is not owed any more, whether or not anybody has written that down. Raises ProgramNotFound.
    """
    program = await programs.get(session, program_id=program_id)
    at = as_of or now
    row = await session.fetchrow(LIABILITY, program_id, at)
    assert row is not None, "a sum has always a row"
    pending, available, held, deficit = map(int, row)
    points = pending + available + held
    return Liability(
        program_id, at, points, pending, available, held, deficit,
        program.cost_per_point, program.expected_breakage,
        _cost(points, program.cost_per_point, program.expected_breakage, program.currency),
    )  # fmt: skip


def _cost(points: int, cost_per_point: str | None, expected_breakage: str, currency: str) -> Money | None:
    if cost_per_point is None:
        return None
    share = _EXACT.subtract(Decimal(1), Decimal(expected_breakage))
    return Money.of(_EXACT.multiply(_EXACT.multiply(Decimal(points), Decimal(cost_per_point)), share), currency)


# The balances of the accounts, less what has happened since, with what time does until then and nobody has written:
# so a recent date costs the accounts and its recent movements, not the whole ledger.
# A lot that begins and ends in that time first fills a deficit, as the books do; only the rest of it is lost.
LIABILITY: Final = f"""
    WITH later AS (
        SELECT contact_id, {into("available")} AS available, {into("pending")} AS pending, {into("held")} AS held
        FROM points_movements WHERE program_id = $1 AND occurred_at > $2 GROUP BY contact_id
    ), due AS (
        SELECT contact_id, active, remaining, ends, begins,
            CASE WHEN begins THEN greatest(0, least(remaining, deficit + remaining - sum(remaining)
                FILTER (WHERE begins) OVER (PARTITION BY contact_id ORDER BY begins_at, id))) ELSE 0 END AS absorbed
        FROM (
            SELECT l.contact_id, l.id, l.active, l.remaining, a.deficit, l.activates_at AS begins_at,
                coalesce(least(l.expires_at, CASE WHEN NOT l.active THEN l.cancels_at END) <= $2, false) AS ends,
                NOT l.active AND coalesce(l.activates_at <= $2 AND l.activates_at < coalesce(l.expires_at, 'infinity'),
                    false) AS begins
            FROM loyalty_accounts a
            JOIN points_lots l ON l.contact_id = a.contact_id AND l.program_id = a.program_id
            WHERE a.program_id = $1 AND a.next_due_at <= $2 AND l.remaining > 0
        ) l WHERE ends OR begins
    ), changed AS (
        SELECT contact_id,
            coalesce(sum(CASE WHEN active THEN -remaining WHEN ends THEN absorbed ELSE remaining END), 0) AS available,
            coalesce(-sum(remaining) FILTER (WHERE NOT active), 0) AS pending
        FROM due GROUP BY contact_id
    ), members AS (
        SELECT a.available - coalesce(l.available, 0) + coalesce(c.available, 0) AS available,
            a.pending - coalesce(l.pending, 0) + coalesce(c.pending, 0) AS pending,
            a.held - coalesce(l.held, 0) AS held
        FROM loyalty_accounts a LEFT JOIN later l USING (contact_id) LEFT JOIN changed c USING (contact_id)
        WHERE a.program_id = $1
    )
    SELECT coalesce(sum(pending), 0), coalesce(sum(greatest(available, 0)), 0), coalesce(sum(held), 0),
        coalesce(sum(greatest(-available, 0)), 0)
    FROM members
"""
