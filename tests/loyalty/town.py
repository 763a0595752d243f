"""A program whose members have birthdays, at a database with real commits and at times that a test tells."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from crm.db.ids import uuid7
from crm.db.session import Database
from crm.loyalty import audit, holds, journal, ledger, nights, programs, rules
from crm.loyalty.ledger import Award
from crm.loyalty.nights import Night
from crm.loyalty.tiers import TierPolicy

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Town:
    database: Database
    program_id: UUID

    @classmethod
    async def found(
        cls, database: Database, *, zone: str = "Asia/Jakarta", at: datetime = START, **settings: Any
    ) -> "Town":
        async with database.begin() as session:
            program = await programs.create(
                session, name=f"Kopi {zone}", currency="IDR", time_zone=zone, default=None, settings=settings, now=at
            )
        return cls(database, program.id)

    async def reward(self, event: str, points: int, **facts: Any) -> None:
        """A rule that gives points for an event."""
        rule = {"name": event, "kind": "per_event", "event": event, "points": points, **facts}
        async with self.database.begin() as session:
            await rules.create(session, program_id=self.program_id, definition=rule, now=START)

    async def tier(self, name: str, threshold: int, policy: TierPolicy | None = None) -> None:
        async with self.database.begin() as session:
            await programs.add_tier(
                session, program_id=self.program_id, name=name, threshold=threshold, benefits={}, now=START
            )
            if policy is not None:
                await programs.set_tier_policy(session, program_id=self.program_id, policy=policy, now=START)

    async def join(self, *, birth_on: date | None = None, at: datetime = START) -> UUID:
        """A new contact with an account."""
        (contact_id,) = await self.join_all([birth_on], at=at)
        return contact_id

    async def join_all(self, births: Sequence[date | None], *, at: datetime = START) -> list[UUID]:
        """A new contact with an account for each of the birthdays."""
        contact_ids = [uuid7() for _ in births]
        async with self.database.begin() as session:
            await session.execute(
                """
                INSERT INTO contacts (id, name, birth_on, created_at, updated_at)
                SELECT id, 'Sari', birth_on, $3, $3 FROM unnest($1::uuid[], $2::date[]) AS c (id, birth_on)
                """,
                contact_ids, births, at,
            )  # fmt: skip
            await journal.lock(session, program_id=self.program_id, contact_ids=contact_ids, now=at)
        return contact_ids

    async def award(self, contact_id: UUID, points: int, *, at: datetime = START, **facts: Any) -> None:
        async with self.database.begin() as session:
            await ledger.award(
                session, program_id=self.program_id, award=Award(contact_id, points, "goodwill", **facts), by="till",
                once=None, now=at,
            )  # fmt: skip

    async def hold(self, contact_id: UUID, points: int, *, until: datetime, at: datetime = START) -> None:
        async with self.database.begin() as session:
            await holds.create(
                session, program_id=self.program_id, contact_id=contact_id, points=points, expires_in=until - at,
                reference=None, place={}, by="till", once=None, now=at,
            )  # fmt: skip

    async def night(self, at: datetime, *, now: datetime | None = None) -> Night:
        """The night up to `at`, worked off at `now`, or else at once."""
        return await nights.run(self.database, program_id=self.program_id, at=at, clock=lambda: now or at)

    async def facts(self, contact_id: UUID) -> list[tuple[str, int, int, datetime]]:
        """An account's transactions in the order of the ledger: kind or reason, points, what was there then, when."""
        async with self.database.reading() as session:
            rows = await session.fetch(
                """
                SELECT coalesce(reason, kind::text), points, available_after, occurred_at FROM points_transactions
                WHERE contact_id = $1 AND program_id = $2 ORDER BY seq
                """,
                contact_id, self.program_id,
            )  # fmt: skip
        return [tuple(row) for row in rows]

    async def timeline(self, contact_id: UUID, kind: str) -> list[tuple[datetime, dict[str, Any]]]:
        """What the timeline tells of one kind, oldest first."""
        async with self.database.reading() as session:
            rows = await session.fetch(
                "SELECT occurred_at, data FROM interactions WHERE contact_id = $1 AND kind = $2 ORDER BY occurred_at",
                contact_id, kind,
            )  # fmt: skip
        return [tuple(row) for row in rows]


async def audited(database: Database) -> None:
    """The audit has nothing to say."""
    async with database.begin() as session:
        await audit.freeze(session)
        report = await audit.verify(session)
    assert report.findings == []
