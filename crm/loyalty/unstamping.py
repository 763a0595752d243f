"""What a refund takes off stamp cards again, and what of their rewards falls with it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record

from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert, Update
from crm.interactions import timeline
from crm.loyalty import bonuses, cards, challenges, rewards, stamping
from crm.loyalty.books import Book
from crm.loyalty.journal import Locked
from crm.loyalty.refunding import Returned
from crm.loyalty.stamping import Challenge, Progress, Terms

_FALLEN: Final = (
    "contact_id", "program_id", "challenge_id", "card", "status", "reason", "points_taken_back", "reversal_id",
    "counted_at", "ended_at",
)  # fmt: skip
# What the order stamped and what is left of that, with how far the member has come; for a streak, how many facts its
# period has. In the order of the rewards' ids: all put back into stocks in one order.
_STAMPED: Final = """
    SELECT s.challenge_id, c.definition, s.stamps, s.period, s.terms, s.occurred_at,
        p.total, p.due, p.filled, p.completed, p.runs, p.known_from,
        (SELECT coalesce(-sum(b.stamps), 0)::bigint FROM challenge_stamps b
         WHERE b.contact_id = s.contact_id AND b.program_id = s.program_id AND b.challenge_id = s.challenge_id
            AND b.cause = 'refund' AND b.ref = s.ref) AS taken_back,
        CASE WHEN s.period IS NOT NULL THEN (
            SELECT sum(o.stamps)::bigint FROM challenge_stamps o
            WHERE o.contact_id = s.contact_id AND o.program_id = s.program_id AND o.challenge_id = s.challenge_id
                AND o.period = s.period
        ) END AS of_period
    FROM challenge_stamps s
    JOIN challenges c ON c.program_id = s.program_id AND c.id = s.challenge_id
    JOIN challenge_progress p
        ON p.contact_id = s.contact_id AND p.program_id = s.program_id AND p.challenge_id = s.challenge_id
    WHERE s.contact_id = $1 AND s.program_id = $2 AND s.cause = 'purchase' AND s.ref = $3
    ORDER BY c.definition ->> 'reward_id', s.challenge_id
"""
_NEWEST: Final = """
    SELECT card, points, transaction_id, reward_id, status FROM challenge_cards
    WHERE contact_id = $1 AND program_id = $2 AND challenge_id = $3 AND status <> 'reversed'
    ORDER BY card DESC LIMIT $4
"""


@dataclass(slots=True)
class FallenCard:
    """A card that is not full any more: `reversed`, or `kept` where its reward has been used."""

    card: int
    status: str
    points_taken_back: int
    points_written_off: int
    transaction_id: UUID | None


@dataclass(slots=True)
class Unstamped:
    """What a refund took off a member's cards of one challenge."""

    challenge_id: UUID
    name: str
    stamps_taken_back: int
    current: int
    goal: int
    total: int
    completed: int
    cards: list[FallenCard]


@dataclass(slots=True)
class Unstamping:
    """What a refund takes off its member's cards, planned on the member's book; needs all open lots."""

    locked: Locked
    book: Book
    returned: Returned
    by: str
    answers: list[Unstamped] = field(default_factory=list)
    fallen: list[tuple[Any, ...]] = field(default_factory=list)
    facts: list[Insert | Update] = field(default_factory=list)
    entries: list[tuple[Any, ...]] = field(default_factory=list)

    async def plan(self, session: Session) -> None:
        """Take back what the order would not have stamped without what was given back."""
        locked, book = self.locked, self.book
        stamps, progress = [], []
        rows = await session.fetch(_STAMPED, book.contact_id, locked.program.id, self.returned.order_ref)
        _, elsewhere = await cards.known_progress(
            session, program_id=locked.program.id, contact_ids=[book.contact_id],
            challenge_ids=[row["challenge_id"] for row in rows],
        )  # fmt: skip
        for row in rows:
            taken = self._taken(row)
            if not taken:
                continue
            challenge = Challenge.of(row["definition"], id=row["challenge_id"])
            others = elsewhere.get((book.contact_id, challenge.id), [])
            after = challenges.progress_of(row)
            total_before = stamping.together([after, *others], challenge).total
            stamps.append(self._stamps_row(row, taken))
            self._uncount(challenge, after, row, taken)
            cards_fallen = await self._fall(session, challenge, after, others)
            progress.append(cards.row_of(book.contact_id, locked.program.id, challenge.id, after, locked.now))
            whole = stamping.together([after, *others], challenge)
            if whole.total != total_before or cards_fallen:
                self._answer(challenge, total_before - whole.total, whole, cards_fallen)
        self.facts = [
            Insert(cards.challenge_stamps, cards.STAMPS, stamps),
            cards.farther(progress),
            Update(cards.challenge_cards, _FALLEN, self.fallen, 4),
        ]

    def _taken(self, row: Record) -> int:
        """How many of the order's stamps are to be taken back now."""
        left = stamping.left(self.returned, msgspec.convert(row["terms"], Terms, strict=False))
        due: int = row["stamps"] - min(row["stamps"], left) - row["taken_back"]
        if row["period"] is not None and not challenges.progress_of(row).knows(row["period"]):
            return 0
        return max(0, due)

    def _uncount(self, challenge: Challenge, after: Progress, row: Record, taken: int) -> None:
        if row["period"] is None:
            after.count(-taken, challenge.goal)
            for period in row["terms"]["periods"]:
                self.book.use(challenge.id, period, points=0, times=-taken)
        elif row["of_period"] == taken:
            after.part(row["period"], challenge.goal)

    async def _fall(
        self, session: Session, challenge: Challenge, after: Progress, others: Sequence[Progress]
    ) -> list[FallenCard]:
        """Take back the newest cards that the stamps don't fill any more, and what they gave.

        Only cards of the account that had the order fall; of one that another account of the person filled, the stamps
        are owed.
        """
        book, program = self.book, self.locked.program
        owed = stamping.together([after, *others], challenge).owed
        if not owed:
            return []
        fallen = []
        for row in await session.fetch(_NEWEST, book.contact_id, program.id, challenge.id, owed):
            card, back = FallenCard(row["card"], "reversed", 0, 0, None), bonuses.NOTHING
            if row["transaction_id"] is not None:
                back = await bonuses.take_back(
                    session, book=book, program=program, transaction_id=row["transaction_id"], points=row["points"],
                    cause=cards.CAUSE, occurred_at=self.returned.occurred_at, by=self.by,
                )  # fmt: skip
                card.points_taken_back, card.transaction_id = back.points, back.transaction_id
                card.points_written_off = row["points"] - back.points
            elif row["reward_id"] is not None and not await rewards.cancel(
                session, locked=self.locked, contact_id=book.contact_id, by=self.by, now=self.locked.now,
                natural_key=cards.natural_key(challenge.id, row["card"]),
            ):  # fmt: skip
                card.status = "kept"
            if card.status == "reversed":
                after.completed -= 1
            if card.status != row["status"]:
                fallen.append(card)
                self.fallen.append(self._card_row(challenge, card, back.counted_at))
        return fallen

    def _answer(self, challenge: Challenge, stamps: int, after: Progress, fallen: list[FallenCard]) -> None:
        program, returned, now = self.locked.program, self.returned, self.locked.now
        answer = Unstamped(
            challenge.id, challenge.name, stamps, after.current(challenge, now, program.terms.zone), challenge.goal,
            after.total, after.completed, fallen,
        )  # fmt: skip
        self.answers.append(answer)
        self.entries.append(
            timeline.entry(
                self.book.contact_id, channel="loyalty", kind="challenge.taken_back",
                occurred_at=returned.occurred_at, recorded_at=now, by=self.by,
                data={
                    "program_id": program.id, "challenge_id": challenge.id, "challenge": challenge.name,
                    "order_ref": returned.order_ref, "refund_ref": returned.refund_ref, "stamps_taken_back": stamps,
                    "current": answer.current, "goal": challenge.goal,
                    "cards": [msgspec.to_builtins(each) for each in fallen],
                },
            )
        )  # fmt: skip

    def _stamps_row(self, row: Record, taken: int) -> tuple[Any, ...]:
        returned = self.returned
        return (
            self.book.contact_id, uuid7(), self.locked.program.id, row["challenge_id"], "refund", returned.order_ref,
            returned.refund_ref, -taken, row["period"], None, returned.occurred_at, self.locked.now, self.by,
        )  # fmt: skip

    def _card_row(self, challenge: Challenge, card: FallenCard, counted_at: datetime | None) -> tuple[Any, ...]:
        kept = card.status == "kept"
        return (
            self.book.contact_id, self.locked.program.id, challenge.id, card.card, card.status,
            "reward_used" if kept else "refunded", card.points_taken_back, card.transaction_id, counted_at,
            None if kept else self.returned.occurred_at,
        )  # fmt: skip


def unstamped_of(rows: Iterable[Mapping[str, Any]]) -> list[Unstamped]:
    """What is kept of what a refund did, as it was answered."""
    return msgspec.convert(rows, list[Unstamped])
