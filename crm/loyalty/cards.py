"""Stamp cards: what the facts of a post stamp on them, what full ones give, and what a refund takes off them again.

It is part of the post that records the fact: under the same lock, in the same write, once for each fact.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import BigInteger, Column, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import CrmError
from crm.interactions import timeline
from crm.loyalty import bonuses, challenges, rewards, stamping
from crm.loyalty.basket import Basket
from crm.loyalty.books import Book
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.journal import Locked
from crm.loyalty.limits import period_key
from crm.loyalty.redemptions import VoucherCode
from crm.loyalty.stamping import CARDS_MAX, Challenge, Offer, Progress, Reason, Terms

challenge_progress = Table(
    "challenge_progress",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("challenge_id", Uuid, primary_key=True),
    Column("total", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("filled", BigInteger, nullable=False),
    Column("completed", BigInteger, nullable=False),
    Column("runs", JSONB, nullable=False),
    Column("known_from", BigInteger),
    Column("updated_at", Instant, nullable=False),
)

challenge_stamps = Table(
    "challenge_stamps",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("program_id", Uuid, nullable=False),
    Column("challenge_id", Uuid, nullable=False),
    Column("cause", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("refund_ref", Text),
    Column("stamps", BigInteger, nullable=False),
    Column("period", BigInteger),
    Column("terms", JSONB),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
)

challenge_cards = Table(
    "challenge_cards",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("challenge_id", Uuid, primary_key=True),
    Column("card", BigInteger, primary_key=True),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("points", BigInteger, nullable=False),
    Column("transaction_id", Uuid),
    Column("reward_id", Uuid),
    Column("redemption_id", Uuid),
    Column("cause", Text, nullable=False),
    Column("ref", Text, nullable=False),
    Column("points_taken_back", BigInteger, nullable=False),
    Column("reversal_id", Uuid),
    Column("counted_at", Instant),
    Column("ended_at", Instant),
    Column("filled_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
)

CAUSE: Final = "challenge"
_PROGRESS: Final = tuple(column.name for column in challenge_progress.columns)
STAMPS: Final = tuple(column.name for column in challenge_stamps.columns)
_CARDS: Final = tuple(column.name for column in challenge_cards.columns)
_FARTHER: Final = """(contact_id, program_id, challenge_id) DO UPDATE SET
    total = excluded.total, due = excluded.due, filled = excluded.filled, completed = excluded.completed,
    runs = excluded.runs, known_from = excluded.known_from, updated_at = excluded.updated_at"""
_KNOWN: Final = f"""
    SELECT g.id AS contact_id, p.contact_id = g.id AS own, p.challenge_id, p.total, p.due, p.filled, p.completed,
        p.runs, p.known_from
    FROM unnest($2::uuid[]) AS g (id)
    LEFT JOIN contact_alias_directory d ON d.alias_id = g.id
    CROSS JOIN LATERAL {aliases.known_as("coalesce(d.contact_id, g.id)")} who
    JOIN challenge_progress p ON p.contact_id = who.id
    WHERE p.program_id = $1 AND p.challenge_id = ANY ($3)
"""


@dataclass(slots=True)
class FilledCard:
    """A card that a fact filled: `paid` in points, a reward `granted`, or `unrewarded`, with the reason."""

    card: int
    status: str
    points: int
    transaction_id: UUID | None = None
    reward_id: UUID | None = None
    redemption_id: UUID | None = None
    voucher: VoucherCode | None = None
    reason: str | None = None


@dataclass(slots=True)
class Stamped:
    """What a fact did for a challenge, and why.

    `stamps` counted of the `stamps_offered`; where a limit is reached, `until` says for how long. `next_by` is until
    when a streak needs its next stamp.
    """

    challenge_id: UUID
    name: str
    stamps: int
    stamps_offered: int
    reason: Reason
    until: datetime | None
    current: int
    goal: int
    total: int
    completed: int
    next_by: datetime | None
    cards: list[FilledCard]


@dataclass(slots=True)
class Decision:
    """What a fact will do for a challenge; nothing is changed by it.

    `after` is to be kept with the contact's id, `whole` is how far the person has then come.
    """

    challenge: Challenge
    offer: Offer
    stamps: int
    reason: Reason
    until: datetime | None
    period: int | None
    after: Progress
    whole: Progress
    cards: range


@dataclass(slots=True)
class Cards:
    """The cards of the members of one post, and what it adds to them."""

    locked: Locked
    by: str
    progress: dict[tuple[UUID, UUID], Progress]
    elsewhere: dict[tuple[UUID, UUID], list[Progress]] = field(default_factory=dict)
    """What the same people have under ids from before a merge."""
    changed: set[tuple[UUID, UUID]] = field(default_factory=set)
    stamps: list[tuple[Any, ...]] = field(default_factory=list)
    filled: list["_Filled"] = field(default_factory=list)
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def decide(self, book: Book, event: str, *, occurred_at: datetime, basket: Basket | None = None) -> list[Decision]:
        """What something that happened stamps on the member's cards; `basket` is what a purchase came to."""
        zone = self.locked.program.terms.zone
        return [
            _decided(
                challenge,
                stamping.offer(challenge, basket, occurred_at, zone),
                self.progress.get((book.contact_id, challenge.id), Progress()).copy(),
                self.elsewhere.get((book.contact_id, challenge.id), ()),
                at=occurred_at, book=book, zone=zone,
            )
            for challenge in self.locked.program.challenges_of(event)
        ]  # fmt: skip

    def stamp(
        self, book: Book, decisions: Iterable[Decision], *, cause: str, ref: str, occurred_at: datetime
    ) -> list[Stamped]:
        """Carry decisions out on the member's book: points of full cards are credited, rewards wait for `reward`."""
        return [self._stamp(book, decision, cause, ref, occurred_at) for decision in decisions]

    async def reward(self, session: Session) -> None:
        """Grant the rewards of the cards that were filled. Whoever can't have theirs is told so, and the rest goes on.

        In the order of the rewards' ids, so that all take their stocks in one order.
        """
        waiting = [each for each in self.filled if each.card.reward_id is not None]
        for each in sorted(waiting, key=lambda each: str(each.card.reward_id)):
            card = each.card
            assert card.reward_id is not None, "only those with a reward wait"
            try:
                granted, _ = await rewards.grant(
                    session, locked=self.locked, contact_id=each.contact_id, reward_id=card.reward_id, cause=CAUSE,
                    natural_key=natural_key(each.challenge.id, card.card), by=self.by, now=self.locked.now,
                )  # fmt: skip
                card.redemption_id, card.voucher = granted.id, granted.voucher
            except CrmError as refusal:
                card.status, card.reason = "unrewarded", refusal.code

    def facts(self) -> list[Insert]:
        """The parts of the post's write, once rewards are granted."""
        now, program_id = self.locked.now, self.locked.program.id
        progress = [
            row_of(contact_id, program_id, challenge_id, self.progress[contact_id, challenge_id], now)
            for contact_id, challenge_id in sorted(self.changed)
        ]
        return [
            farther(progress),
            Insert(challenge_stamps, STAMPS, self.stamps),
            Insert(challenge_cards, _CARDS, [each.row(program_id, now) for each in self.filled]),
        ]

    def entries(self) -> list[tuple[Any, ...]]:
        """What the timeline tells, once rewards are granted."""
        return [*self.told, *(self._completed(each) for each in self.filled)]

    def _stamp(self, book: Book, decision: Decision, cause: str, ref: str, occurred_at: datetime) -> Stamped:
        challenge, whole, now = decision.challenge, decision.whole, self.locked.now
        zone, day = self.locked.program.terms.zone, local_day(occurred_at, self.locked.program.terms.zone)
        key = (book.contact_id, challenge.id)
        if decision.after != self.progress.get(key, Progress()):
            self.progress[key] = decision.after
            self.changed.add(key)
        periods = sorted({period_key(limit.per, day) for limit in challenge.limits}) if decision.stamps else []
        for period in periods:
            book.use(challenge.id, period, points=0, times=decision.stamps)
        if decision.stamps or decision.reason == "already_counted":
            # Of a streak, every fact of a period is kept: where one is refunded, another still holds it.
            terms = Terms(
                lines=decision.offer.lines, per_unit=challenge.per_unit, min_spend=challenge.min_spend, periods=periods
            )
            self.stamps.append((
                book.contact_id, uuid7(), self.locked.program.id, challenge.id, cause, ref, None,
                decision.stamps or 1, decision.period, msgspec.to_builtins(terms), occurred_at, now, self.by,
            ))  # fmt: skip
        cards = [self._fill(book, challenge, number, cause, ref, occurred_at) for number in decision.cards]
        stamped = Stamped(
            challenge.id, challenge.name, decision.stamps, decision.offer.stamps, decision.reason, decision.until,
            whole.current(challenge, occurred_at, zone), challenge.goal, whole.total, whole.completed,
            whole.next_by(challenge, occurred_at, zone), cards,
        )  # fmt: skip
        if decision.stamps or decision.reason == "limit_reached":
            self._tell(book.contact_id, stamped, ref, occurred_at)
        return stamped

    def _fill(
        self, book: Book, challenge: Challenge, number: int, cause: str, ref: str, occurred_at: datetime
    ) -> FilledCard:
        card = FilledCard(number, "granted", 0, reward_id=challenge.reward_id)
        if challenge.points is not None:
            program = self.locked.program
            transaction = bonuses.give(
                book, program, challenge.points, cause=CAUSE, occurred_at=occurred_at, by=self.by,
                activates_at=program.activation.activates_at(occurred_at, program.terms.zone),
            )  # fmt: skip
            card = FilledCard(number, "paid", challenge.points, transaction.id)
        self.filled.append(_Filled(book.contact_id, challenge, card, cause, ref, occurred_at))
        return card

    def _tell(self, contact_id: UUID, stamped: Stamped, ref: str, occurred_at: datetime) -> None:
        data = {
            "program_id": self.locked.program.id, "challenge_id": stamped.challenge_id, "challenge": stamped.name,
            "ref": ref, "stamps": stamped.stamps, "stamps_offered": stamped.stamps_offered, "reason": stamped.reason,
            "current": stamped.current, "goal": stamped.goal,
        }  # fmt: skip
        later = {name: at for name in ("until", "next_by") if (at := getattr(stamped, name)) is not None}
        self.told.append(
            timeline.entry(
                contact_id, channel="loyalty", kind="challenge.stamped" if stamped.stamps else "challenge.limited",
                occurred_at=occurred_at, recorded_at=self.locked.now, by=self.by, data=data | later,
            )
        )  # fmt: skip

    def _completed(self, filled: "_Filled") -> tuple[Any, ...]:
        card = filled.card
        data = {
            "program_id": self.locked.program.id, "challenge_id": filled.challenge.id,
            "challenge": filled.challenge.name, "card": card.card, "status": card.status,
        }  # fmt: skip
        gave: dict[str, Any] = {"points": card.points, "transaction_id": card.transaction_id}
        if card.reward_id is not None:
            gave = {"reward_id": card.reward_id, "redemption_id": card.redemption_id}
        why = {} if card.reason is None else {"reason": card.reason}
        return timeline.entry(
            filled.contact_id, channel="loyalty", kind="challenge.completed", occurred_at=filled.occurred_at,
            recorded_at=self.locked.now, by=self.by, data=data | gave | why,
        )  # fmt: skip


@dataclass(slots=True)
class _Filled:
    """A card that is full, and by what."""

    contact_id: UUID
    challenge: Challenge
    card: FilledCard
    cause: str
    ref: str
    occurred_at: datetime

    def row(self, program_id: UUID, now: datetime) -> tuple[Any, ...]:
        card = self.card
        return (
            self.contact_id, program_id, self.challenge.id, card.card, card.status, card.reason, card.points,
            card.transaction_id, card.reward_id, card.redemption_id, self.cause, self.ref, 0, None, None, None,
            self.occurred_at, now,
        )  # fmt: skip


async def of_members(session: Session, *, locked: Locked, by: str, facts: Iterable[tuple[UUID, str]]) -> Cards:
    """The cards that these facts, each a contact and an event, may stamp: one query, or none without a challenge."""
    asked: dict[UUID, set[UUID]] = {}
    for contact_id, event in facts:
        for challenge in locked.program.challenges_of(event):
            asked.setdefault(contact_id, set()).add(challenge.id)
    if not asked:
        return Cards(locked, by, {})
    own, elsewhere = await known_progress(
        session, program_id=locked.program.id, contact_ids=list(asked), challenge_ids=list(set().union(*asked.values()))
    )
    return Cards(locked, by, own, elsewhere)


async def known_progress(
    session: Session, *, program_id: UUID, contact_ids: Sequence[UUID], challenge_ids: Sequence[UUID]
) -> tuple[dict[tuple[UUID, UUID], Progress], dict[tuple[UUID, UUID], list[Progress]]]:
    """How far these contacts have come with these challenges: under their own id, and under others of the person."""
    own: dict[tuple[UUID, UUID], Progress] = {}
    elsewhere: dict[tuple[UUID, UUID], list[Progress]] = {}
    for row in await session.fetch(_KNOWN, program_id, contact_ids, challenge_ids):
        key = (row["contact_id"], row["challenge_id"])
        if row["own"]:
            own[key] = challenges.progress_of(row)
        else:
            elsewhere.setdefault(key, []).append(challenges.progress_of(row))
    return own, elsewhere


def points_of(decisions: Sequence[Decision]) -> int:
    """How many points the cards give that these decisions fill."""
    return sum(len(each.cards) * (each.challenge.points or 0) for each in decisions)


def stamped_of(rows: Sequence[Mapping[str, Any]]) -> list[Stamped]:
    """What is kept of what a fact did, as it was answered."""
    return msgspec.convert(rows, list[Stamped])


def imagined(stamped: Stamped) -> Stamped:
    """What a fact would do for a challenge, without the transactions and vouchers that there would be."""
    return replace(stamped, cards=[replace(card, transaction_id=None) for card in stamped.cards])


def natural_key(challenge_id: UUID, card: int) -> str:
    """What makes the reward of a card known again."""
    return f"{CAUSE}:{challenge_id}:{card}"


def row_of(
    contact_id: UUID, program_id: UUID, challenge_id: UUID, progress: Progress, now: datetime
) -> tuple[Any, ...]:
    """A row of `challenge_progress`."""
    return (
        contact_id, program_id, challenge_id, progress.total, progress.due, progress.filled, progress.completed,
        progress.runs, progress.known_from, now,
    )  # fmt: skip


def farther(rows: Sequence[tuple[Any, ...]]) -> Insert:
    """The part of a write that says how far members have come now."""
    return Insert(challenge_progress, _PROGRESS, rows, _FARTHER)


def _decided(
    challenge: Challenge, offer: Offer, after: Progress, elsewhere: Sequence[Progress], *, at: datetime, book: Book,
    zone: ZoneInfo,
) -> Decision:  # fmt: skip
    stamps, reason, until, period = 0, offer.reason, None, None
    before = stamping.together([after, *elsewhere], challenge)
    if offer.stamps and challenge.per is not None:
        period = stamping.period_of(challenge.per, at, zone)
        if not before.knows(period):
            reason = "too_late"
        elif before.has(period):
            reason, until = "already_counted", start_of(stamping.first_day(challenge.per, period + 1), zone)
        else:
            stamps = 1
        if before.knows(period) and not after.has(period):
            after.join(period, challenge.goal)
    elif offer.stamps:
        left = stamping.room(challenge, at, zone, book.usages)
        stamps = min(offer.stamps, CARDS_MAX * challenge.goal)
        stamps = stamps if left.stamps is None else min(stamps, left.stamps)
        after.count(stamps, challenge.goal)
        if stamps < offer.stamps:
            reason, until = ("trimmed" if stamps else "limit_reached"), left.until
    whole = stamping.together([after, *elsewhere], challenge)
    first, more = after.filled + 1, max(0, whole.due - whole.completed)
    for progress in (after, whole):
        progress.filled += more
        progress.completed += more
    return Decision(challenge, offer, stamps, reason, until, period, after, whole, range(first, first + more))
