"""Events: what members did besides buying, what it earned and why, and the orders whose points it lets begin."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, CrmError, NotFound
from crm.interactions import timeline
from crm.interactions.timeline import Interaction
from crm.loyalty import balances, cards, earning, earnings, journal
from crm.loyalty.balances import Balance, TierProgress
from crm.loyalty.books import Book
from crm.loyalty.cards import Cards, Decision, Stamped
from crm.loyalty.circumstances import Circumstances
from crm.loyalty.earning import Earned
from crm.loyalty.earnings import RuleRow
from crm.loyalty.journal import Locked, OrderRefReused
from crm.loyalty.ledger import check_occurred
from crm.loyalty.programs import Program
from crm.loyalty.purchases import PurchaseNotFound
from crm.loyalty.stamping import PURCHASE

loyalty_events = Table(
    "loyalty_events",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("order_ref", Text),
    Column("transaction_id", Uuid),
    Column("points", BigInteger, nullable=False),
    Column("rules", JSONB, nullable=False),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
    Column("challenges", JSONB, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in loyalty_events.columns)
_VIEW: Final = (
    "id, program_id, event, ref, order_ref, transaction_id, points, rules, challenges, occurred_at, recorded_at, by"
)
# What is recorded already, also under an id that the contact had before a merge, and whether the orders that the events
# are about are.
_KNOWN: Final = f"""
    SELECT k.contact_id, k.event, k.ref, k.order_ref, e.id, e.request_hash, e.transaction_id, e.points, e.rules,
        e.challenges, p.order_ref IS NOT NULL AS bought
    FROM (SELECT DISTINCT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[])) k
        (contact_id, event, ref, order_ref)
    LEFT JOIN LATERAL (
        SELECT x.* FROM {aliases.known_as("k.contact_id")} who JOIN loyalty_events x
            ON x.contact_id = who.id AND x.program_id = $1 AND x.event = k.event AND x.ref = k.ref
        ORDER BY x.contact_id = k.contact_id DESC, x.id LIMIT 1
    ) e ON true
    LEFT JOIN LATERAL (
        SELECT x.order_ref FROM {aliases.known_as("k.contact_id")} who JOIN purchases x
            ON x.contact_id = who.id AND x.program_id = $1 AND x.order_ref = k.order_ref
        LIMIT 1
    ) p ON true
    WHERE e.id IS NOT NULL OR p.order_ref IS NOT NULL
"""


class EventNotFound(NotFound):
    code = "event_not_found"
    title = "There is no such event"


class EventRefReused(Conflict):
    code = "event_ref_reused"
    title = "This reference belongs to another event of this kind"


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that a member did; `ref` tells it from others of its kind. Without a time it happens now.

    `order_ref` is the order that it is about.
    """

    contact_id: UUID
    event: str
    ref: str
    occurred_at: datetime | None = None
    order_ref: str | None = None

    @property
    def key(self) -> tuple[UUID, str, str]:
        """What makes it known again, within a program."""
        return self.contact_id, self.event, self.ref

    @property
    def content_hash(self) -> bytes:
        """The rest of what was said of it, for comparison."""
        return hashlib.sha256(msgspec.json.encode((self.occurred_at, self.order_ref))).digest()


@dataclass(slots=True)
class EventRecorded:
    """The answer to an event: what it earned, why, what it did for challenges, and the balance after all that."""

    event: str
    ref: str
    points: int
    transaction_id: UUID | None
    rules: list[RuleRow]
    challenges: list[Stamped]
    balance: Balance
    tier: TierProgress


@dataclass(slots=True)
class EventView:
    """An event as it is kept."""

    id: UUID
    program_id: UUID
    event: str
    ref: str
    order_ref: str | None
    transaction_id: UUID | None
    points: int
    rules: list[dict[str, Any]]
    challenges: list[dict[str, Any]]
    occurred_at: datetime
    recorded_at: datetime
    by: str


async def record(
    session: Session,
    *,
    program_id: UUID | None,
    happened: Happened,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[EventRecorded, UUID, bool]:
    """Record an event and what it earns, with the id under which it is kept. False beside one recorded before.

    The event that the program's activation names lets the points of its order begin, unless they are gone.
    Raises EventRefReused for other content, OrderRefReused for another contact's order, PurchaseNotFound where there
    is no order to activate, ContactNotFound, MembershipSuspended, ProgramRequired, OccursTooLate.
    """
    results = await _record(session, program_id=program_id, happened=[happened], by=by, once=once, now=now)
    result = results[0]
    if isinstance(result, CrmError):
        raise result
    return result


async def record_all(
    session: Session,
    *,
    program_id: UUID | None,
    happened: Sequence[Happened],
    by: str,
    now: datetime,
) -> list[tuple[EventRecorded, UUID, bool] | CrmError]:
    """Record many events, in the order given, with one lock and one write; refusals stand at their event's place."""
    return await _record(session, program_id=program_id, happened=happened, by=by, once=None, now=now)


async def get(session: Session, *, contact_id: UUID, event_id: UUID) -> EventView:
    """One event of a contact. Raises EventNotFound."""
    row = await session.fetchrow(
        f"SELECT {_VIEW} FROM loyalty_events WHERE contact_id = $1 AND id = $2", contact_id, event_id
    )
    if row is None:
        raise EventNotFound("This contact has no event with this id.")
    return _view(row)


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, before: UUID | None, limit: int
) -> list[EventView]:
    """A contact's events, last recorded first, older than `before`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT e.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_VIEW} FROM loyalty_events
            WHERE contact_id = who.id AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
                AND ($3::uuid IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4
        ) e
        WHERE c.id = $1
        ORDER BY e.id DESC LIMIT $4
        """,
        contact_id, program_id, before, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [_view(row) for row in rows]


async def _record(
    session: Session, *, program_id: UUID | None, happened: Sequence[Happened], by: str,
    once: idempotency.Request | None, now: datetime,
) -> list[tuple[EventRecorded, UUID, bool] | CrmError]:  # fmt: skip
    locked = await journal.lock(
        session,
        program_id=program_id,
        contact_ids=[each.contact_id for each in happened],
        now=now,
        order_refs=[each.order_ref for each in happened if each.order_ref is not None],
        once=once,
        times=[each.occurred_at or now for each in happened],
    )
    known = await find_known(session, locked=locked, happened=happened)
    new = [each for each in happened if each.contact_id in locked.books and each.key not in known.events]
    await _know_lots(session, locked, new)
    asked = await circumstances(session, locked=locked, moments=[(each, each.occurred_at or now) for each in new])
    stamped = await members_cards(session, locked=locked, happened=new, by=by)
    plan = Plan(locked, by=by, known=known, circumstances=asked, cards=stamped)
    results: list[tuple[EventRecorded, UUID, bool] | CrmError] = []
    for each in happened:
        try:
            results.append(plan.add(each))
        except CrmError as refusal:
            results.append(refusal)
    await plan.cards.reward(session)
    answer: Sequence[Insert] = ()
    if once is not None and not isinstance(results[0], CrmError):
        recorded, _, created = results[0]
        answer = idempotency.answer(
            once, contact_id=happened[0].contact_id, result=recorded, now=now, status=201 if created else 200
        )
    await journal.write_down(session, locked, facts=[*plan.facts(), *answer], entries=plan.told())
    return results


@dataclass(slots=True)
class Known:
    """What is stored of the events asked about, and which of their orders are recorded."""

    events: dict[tuple[UUID, str, str], Mapping[str, Any]]
    orders: set[tuple[UUID, str]]


NOTHING_KNOWN: Final = Known({}, set())


async def find_known(session: Session, *, locked: Locked, happened: Sequence[Happened]) -> Known:
    """What is stored of these events, in one query."""
    keys = [(*each.key, each.order_ref) for each in happened]
    rows = await session.fetch(_KNOWN, locked.program.id, *map(list, zip(*keys, strict=True))) if keys else []
    return Known(
        {(row["contact_id"], row["event"], row["ref"]): dict(row) for row in rows if row["id"] is not None},
        {(row["contact_id"], row["order_ref"]) for row in rows if row["bought"]},
    )


async def _know_lots(session: Session, locked: Locked, new: Sequence[Happened]) -> None:
    """Read the lots that the events will change."""
    books, program = locked.books, locked.program
    active = {each.contact_id for each in new if each.event in program.expiry.activities}
    await journal.know_all_lots(session, books=[books[contact_id] for contact_id in active])
    await journal.know_lots_of_orders(
        session,
        orders=[
            (books[each.contact_id], each.order_ref)
            for each in new
            if each.order_ref is not None and _activates(program, each)
        ],
    )


async def circumstances(
    session: Session, *, locked: Locked, moments: Sequence[tuple[Happened, datetime]]
) -> Circumstances:
    """What the conditions of the rules for these events ask about the members, each at the time of theirs."""
    names = {happened.event for happened, _ in moments}
    return await Circumstances.read(
        session,
        program=locked.program,
        books=locked.books,
        moments=[(happened.contact_id, at) for happened, at in moments],
        rules=[rule for rule in locked.program.rules if rule.status == "active" and any(map(rule.is_about, names))],
        multiplied=False,
    )


async def members_cards(session: Session, *, locked: Locked, happened: Sequence[Happened], by: str) -> Cards:
    """The stamp cards that these events may stamp."""
    facts = [(each.contact_id, each.event) for each in happened if _stamps(each)]
    return await cards.of_members(session, locked=locked, by=by, facts=facts)


class Plan:
    """The rows of the events planned so far; two of the same key within one batch meet here."""

    def __init__(self, locked: Locked, *, by: str, known: Known, circumstances: Circumstances, cards: Cards) -> None:
        self.locked = locked
        self.by = by
        self.known = known
        self.circumstances = circumstances
        self.cards = cards
        self.rows: list[tuple[Any, ...]] = []
        self.entries: list[tuple[Any, ...]] = []
        self._planned: dict[tuple[UUID, str, str], tuple[bytes, EventRecorded, UUID]] = {}

    def facts(self) -> list[Insert]:
        """The parts of a write that keep the events and what they stamped, once rewards of full cards are granted."""
        return [Insert(loyalty_events, _COLUMNS, self.rows), *self.cards.facts()]

    def told(self) -> list[tuple[Any, ...]]:
        """What the timeline tells of all that."""
        return [*self.entries, *self.cards.entries()]

    def add(self, happened: Happened) -> tuple[EventRecorded, UUID, bool]:
        """Put an event with what it earns on the member's book, and what time has done by now behind it."""
        check_occurred(happened.occurred_at or self.locked.now, self.locked.now)
        book = self.locked.book(happened.contact_id)
        content_hash = happened.content_hash
        if (stored := self.known.events.get(happened.key)) is not None:
            return _again(stored, content_hash, book), stored["id"], False
        if (planned := self._planned.get(happened.key)) is not None:
            if planned[0] != content_hash:
                raise EventRefReused("This event stands in the batch twice, with different content.")
            return planned[1], planned[2], False
        self._admit(happened)
        occurred_at = happened.occurred_at or self.locked.now
        posted = self._post(book, happened, occurred_at, *self._earned(book, happened, occurred_at))
        book.settle()
        book.stand()
        recorded = EventRecorded(
            happened.event, happened.ref, posted.points, posted.transaction_id, posted.rules, posted.challenges,
            balances.balance(book), balances.tier(book),
        )  # fmt: skip
        event_id = self._note(happened, occurred_at, posted)
        self._planned[happened.key] = (content_hash, recorded, event_id)
        return recorded, event_id, True

    def celebrate(self, happened: Happened, *, at: datetime) -> bool:
        """Put an event that nobody told of but the calendar, at `at`, on the book, if it earns or stamps something.

        Time is the caller's to pass. Raises MembershipSuspended, PointsOutOfRange.
        """
        book = self.locked.member(happened.contact_id)
        earned, decisions = self._earned(book, happened, at)
        if not earned.points and not any(decision.stamps for decision in decisions):
            return False
        self._note(happened, at, self._post(book, happened, at, earned, decisions))
        return True

    def _earned(self, book: Book, happened: Happened, occurred_at: datetime) -> tuple[Earned, list[Decision]]:
        program = self.locked.program
        member = earnings.member(
            book, occurred_at, condition_holds=self.circumstances.conditions_hold(book, occurred_at)
        )
        earned = earning.evaluate_event(
            happened.event, occurred_at=occurred_at, rules=program.rules if book.status == "active" else (),
            terms=program.terms, member=member,
        )  # fmt: skip
        stamps = book.status == "active" and _stamps(happened)
        decisions = self.cards.decide(book, happened.event, occurred_at=occurred_at) if stamps else []
        book.ensure_room(earned.points + cards.points_of(decisions))
        return earned, decisions

    def _post(
        self, book: Book, happened: Happened, occurred_at: datetime, earned: Earned, decisions: list[Decision]
    ) -> "_Posted":
        program = self.locked.program
        if _activates(program, happened):
            self._activate(book, happened, occurred_at)
        if happened.event in program.expiry.activities:
            book.slide(occurred_at, program.expiry)
        rows = [earnings.rule_row(outcome) for outcome in earned.rules]
        # The order has earned its own points: those of the event are not taken back with it, and can be spent on it.
        transaction = earnings.post(
            book, program, earned, cause="event", occurred_at=occurred_at, by=self.by, rules=rows, reason=happened.event
        )
        stamped = self.cards.stamp(book, decisions, cause="event", ref=happened.ref, occurred_at=occurred_at)
        return _Posted(earned.points, transaction.id if transaction else None, rows, stamped)

    def _admit(self, happened: Happened) -> None:
        # Whoever neither earns nor spends may still see begin what they have earned before, as with time alone.
        if happened.order_ref is not None:
            owner = self.locked.orders.get(happened.order_ref)
            if owner is not None and owner != happened.contact_id:
                raise OrderRefReused("This order belongs to another contact.")
        if not _activates(self.locked.program, happened):
            self.locked.member(happened.contact_id)
        elif (happened.contact_id, happened.order_ref) not in self.known.orders:
            raise PurchaseNotFound("The order of this event is not recorded yet. Record it, and send the event again.")

    def _activate(self, book: Book, happened: Happened, occurred_at: datetime) -> None:
        """Let begin what the order has earned and what is not gone, no sooner than it was earned."""
        own = (lot for lot in book.lots.values() if lot.order_ref == happened.order_ref)
        waiting = [lot for lot in own if lot.waits and lot.remaining > 0]
        if not waiting:
            return
        at = max(occurred_at, *(lot.earned_at for lot in waiting))
        transaction = book.open(
            "activate", cause="event", points=0, occurred_at=at, by=self.by, reason=happened.event,
            order_ref=happened.order_ref,
        )  # fmt: skip
        transaction.points = book.activate(waiting, at, self.locked.program.expiry)

    def _note(self, happened: Happened, occurred_at: datetime, posted: "_Posted") -> UUID:
        event_id, program, now = uuid7(), self.locked.program, self.locked.now
        self.rows.append((
            happened.contact_id, program.id, happened.event, happened.ref, event_id, happened.content_hash,
            happened.order_ref, posted.transaction_id, posted.points, posted.rules, occurred_at, now, self.by,
            posted.challenges,
        ))  # fmt: skip
        about = {} if happened.order_ref is None else {"order_ref": happened.order_ref}
        self.entries.append(
            timeline.entry(
                happened.contact_id, id=event_id, channel="loyalty", kind="event", occurred_at=occurred_at,
                recorded_at=now, by=self.by,
                data={
                    "program_id": program.id, "event": happened.event, "ref": happened.ref, "points": posted.points,
                    "transaction_id": posted.transaction_id, **about,
                },
            )
        )  # fmt: skip
        self.circumstances.happened(Interaction(*self.entries[-1]))
        return event_id


@dataclass(frozen=True, slots=True)
class _Posted:
    """What an event came to on the member's book."""

    points: int
    transaction_id: UUID | None
    rules: list[RuleRow]
    challenges: list[Stamped]


def _stamps(happened: Happened) -> bool:
    """Whether a challenge may count it: a purchase is none because somebody says so."""
    return happened.event != PURCHASE


def _activates(program: Program, happened: Happened) -> bool:
    """Whether the points of an order have waited for this."""
    return happened.order_ref is not None and happened.event == program.activation.event


def _again(stored: Mapping[str, Any], content_hash: bytes, book: Book) -> EventRecorded:
    if stored["request_hash"] != content_hash:
        raise EventRefReused("This event was recorded with another time or order. Give another event its own ref.")
    return EventRecorded(
        stored["event"], stored["ref"], stored["points"], stored["transaction_id"],
        [RuleRow(**rule) for rule in stored["rules"]], cards.stamped_of(stored["challenges"]),
        balances.balance(book), balances.tier(book),
    )  # fmt: skip


def _view(row: Record) -> EventView:
    return EventView(**dict(row))
