"""The audit: everything the ledger keeps, worked out again from its movements, by statements over whole tables.

Each check finds values that are not what the movements say. Postgres sorts and spills to disk where a table is large,
so memory stays bounded on both sides however long the ledger is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import bonus_audit, fact_audit, ledger_audit, offer_audit, reward_audit
from crm.loyalty.movements import BUCKETS

FINDINGS_MAX: Final = 1_000
"""How many findings of each check are looked for; whoever has more has enough to go on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that differs from what the movements say.

    `contact_id` is None for a program as a whole, `program_id` for a row of the timeline without its transaction.
    Of a chain only the first break in an account is a finding: those behind it follow from it.
    """

    program_id: UUID | None
    contact_id: UUID | None
    what: str
    place: str | None
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Totals:
    """The points of one program: `buckets` by movements, `open` (pending, available and held) by its accounts."""

    program_id: UUID
    name: str | None
    accounts: int
    movements: int
    buckets: dict[str, int]
    open: dict[str, int]

    @property
    def issued(self) -> int:
        """Points that came into being: what has left the bucket that everything comes from."""
        return -self.buckets["issued"]

    @property
    def gone(self) -> dict[str, int]:
        """Points that members don't have any more."""
        return {name: points for name, points in self.buckets.items() if name != "issued" and name not in self.open}


@dataclass(slots=True)
class Report:
    """What the audit found; nothing is wrong where `findings` is empty. `complete` is false where there was more."""

    findings: list[Finding] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)
    complete: bool = True


async def freeze(session: Session) -> None:
    """Let this transaction see one moment, however long it reads and whoever writes meanwhile; its first statement."""
    await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    await session.execute("SET LOCAL statement_timeout = 0")
    await session.execute("SET LOCAL work_mem = '64MB'")
    # Nothing here is about few rows, whatever statistics of yesterday make the planner believe.
    await session.execute("SET LOCAL enable_nestloop = off")


async def verify(session: Session, *, watch: Callable[[str], None] = lambda _: None) -> Report:
    """Check the whole ledger as the session's transaction sees it; `watch` hears which of `STEPS` comes next.

    Needs a transaction that sees one moment throughout: see `freeze`.
    """
    report = Report()
    for title, query in CHECKS.items():
        watch(title)
        rows = await session.fetch(f"{query} LIMIT {FINDINGS_MAX}")
        report.findings += [Finding(*row) for row in rows]
        report.complete = report.complete and len(rows) < FINDINGS_MAX
    watch(SUMS)
    report.totals = await _totals(session)
    report.findings += [unbalanced for totals in report.totals if (unbalanced := _unbalanced(totals)) is not None]
    return report


async def _totals(session: Session) -> list[Totals]:
    rows = await session.fetch(_TOTALS)
    return [
        Totals(
            row["program_id"], row["name"], row["accounts"], row["movements"],
            {bucket: int(row["buckets"].get(bucket, 0)) for bucket in BUCKETS},
            {bucket: int(row[bucket]) for bucket in ("pending", "available", "held")},
        )
        for row in rows
    ]  # fmt: skip


def _unbalanced(totals: Totals) -> Finding | None:
    """Whether points were made or lost: what was issued is with the members, or has gone a way that is written down."""
    kept = sum(totals.open.values()) + sum(totals.gone.values())
    if kept == totals.issued:
        return None
    return Finding(totals.program_id, None, "program.issued", None, str(totals.issued), str(kept))


_TOTALS: Final = """
    WITH flows AS (
        SELECT program_id, from_bucket, to_bucket, sum(points) AS points, count(*) AS movements
        FROM points_movements GROUP BY program_id, from_bucket, to_bucket
    ), buckets AS (
        SELECT program_id, jsonb_object_agg(bucket, points) AS buckets FROM (
            SELECT program_id, bucket, sum(change) AS points
            FROM flows CROSS JOIN LATERAL (VALUES (from_bucket, -points), (to_bucket, points)) c (bucket, change)
            GROUP BY program_id, bucket
        ) b GROUP BY program_id
    ), counts AS (
        SELECT program_id, sum(movements)::bigint AS movements FROM flows GROUP BY program_id
    ), accounts AS (
        SELECT program_id, count(*) AS accounts, sum(available) AS available, sum(pending) AS pending, sum(held) AS held
        FROM loyalty_accounts GROUP BY program_id
    )
    SELECT program_id, p.name, coalesce(a.accounts, 0) AS accounts, coalesce(c.movements, 0) AS movements,
        coalesce(b.buckets, '{}') AS buckets, coalesce(a.available, 0) AS available,
        coalesce(a.pending, 0) AS pending, coalesce(a.held, 0) AS held
    FROM buckets b FULL JOIN accounts a USING (program_id)
    LEFT JOIN counts c USING (program_id) LEFT JOIN programs p ON p.id = program_id
    ORDER BY program_id
"""

CHECKS: Final = {
    **ledger_audit.CHECKS,
    **fact_audit.CHECKS,
    **reward_audit.CHECKS,
    **offer_audit.CHECKS,
    **bonus_audit.CHECKS,
}
"""By title. Each selects findings, with nothing said where one of `expected` and `found` is NULL."""
SUMS: Final = "sums of each program"
STEPS: Final = (*CHECKS, SUMS)
