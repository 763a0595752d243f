"""Refunds: what a purchase earned is taken back, what was paid for it with points is returned."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import Conflict, NotFound
from crm.interactions import timeline
from crm.loyalty import balances, homes, journal, referring, refunding, tier_rewards, unstamping
from crm.loyalty.balances import Balance, TierProgress
from crm.loyalty.basket import NONE, Purchase, goods_of
from crm.loyalty.books import MERGED, Book
from crm.loyalty.earning import EXACT_PLACES
from crm.loyalty.expiry import Expiry, local_day
from crm.loyalty.journal import Locked
from crm.loyalty.ladders import NOTHING_COUNTED, Counted
from crm.loyalty.ledger import check_occurred
from crm.loyalty.limits import period_key
from crm.loyalty.lots import Lot
from crm.loyalty.programs import Program
from crm.loyalty.purchases import PurchaseNotFound
from crm.loyalty.refunding import Refund, Returned, TooMuch, Undone
from crm.loyalty.unstamping import Unstamped, Unstamping

refunds = Table(
    "refunds",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("order_ref", Text, primary_key=True),
    Column("refund_ref", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("amount", Numeric, nullable=False),
    Column("exact_points", Numeric, nullable=False),
    Column("points_due", BigInteger, nullable=False),
    Column("points_taken_back", BigInteger, nullable=False),
    Column("points_returned", BigInteger, nullable=False),
    Column("points_returned_expired", BigInteger, nullable=False),
    Column("counted_points", BigInteger, nullable=False),
    Column("counted_at", Instant),
    Column("counted_spend", Numeric, nullable=False),
    Column("counted_visits", BigInteger, nullable=False),
    Column("transaction_id", Uuid),
    Column("return_transaction_id", Uuid),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("by", Text, nullable=False),
    Column("challenges", JSONB, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in refunds.columns)
_VIEW: Final = """
    id, order_ref, refund_ref, content, trim_scale(round(amount, 6))::text AS amount, points_taken_back,
    points_due - points_taken_back AS points_written_off, points_returned, points_returned_expired, transaction_id,
    return_transaction_id, challenges, occurred_at, recorded_at
"""
# The purchase, the refunds before, and how many points were spent on the order and not given back by hand.
_FACTS: Final = """
    SELECT p.content, p.exact_points, p.points, p.basis, p.transaction_id, p.occurred_at, p.rules,
        (SELECT jsonb_agg(jsonb_build_object(
            'refund_ref', r.refund_ref, 'content', r.content, 'points_due', r.points_due,
            'points_taken_back', r.points_taken_back, 'points_returned', r.points_returned,
            'points_returned_expired', r.points_returned_expired, 'transaction_id', r.transaction_id,
            'request_hash', encode(r.request_hash, 'hex'), 'challenges', r.challenges) ORDER BY r.id)
         FROM refunds r
         WHERE r.contact_id = p.contact_id AND r.program_id = p.program_id AND r.order_ref = p.order_ref) AS refunds,
        s.id AS redemption_id, s.points AS spent,
        EXISTS (
            SELECT FROM challenge_stamps c
            WHERE c.contact_id = p.contact_id AND c.program_id = p.program_id AND c.ref = p.order_ref
                AND c.cause = 'purchase'
        ) AS stamped
    FROM purchases p
    LEFT JOIN redemptions s ON s.contact_id = p.contact_id AND s.program_id = p.program_id
        AND s.order_ref = p.order_ref AND s.reward_id IS NULL AND s.status = 'redeemed'
    WHERE p.contact_id = $1 AND p.program_id = $2 AND p.order_ref = $3
"""
_USAGES: Final = """
    SELECT rule_id, period, points, times FROM rule_usages
    WHERE contact_id = $1 AND program_id = $2 AND rule_id = ANY ($3) AND period = ANY ($4)
"""


class RefundExceedsPurchase(Conflict):
    code = "refund_exceeds_purchase"
    title = "More was refunded than was bought"


class RefundRefReused(Conflict):
    code = "refund_ref_reused"
    title = "This refund reference belongs to another refund of the order"


class RefundNotFound(NotFound):
    code = "refund_not_found"
    title = "There is no such refund"


@dataclass(slots=True)
class Refunded:
    """What a refund did. Points due beyond what the return policy reaches are written off.

    Spent points go back to their own lots: those of lots that have expired are in `points_returned_expired` alone.
    """

    refund_ref: str
    transaction_id: UUID | None
    points_taken_back: int
    points_written_off: int
    points_returned: int
    points_returned_expired: int
    challenges: list[Unstamped]
    balance: Balance
    tier: TierProgress


@dataclass(slots=True)
class RefundView:
    """A refund as it is kept; `content` is what was sent, `amount` the goods money that it comes to."""

    id: UUID
    order_ref: str
    refund_ref: str
    content: dict[str, Any]
    amount: str
    points_taken_back: int
    points_written_off: int
    points_returned: int
    points_returned_expired: int
    transaction_id: UUID | None
    return_transaction_id: UUID | None
    challenges: list[dict[str, Any]]
    occurred_at: datetime
    recorded_at: datetime


async def record(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    order_ref: str,
    refund_ref: str,
    refund: Refund,
    occurred_at: datetime | None,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[Refunded, bool]:
    """Undo a purchase by what was refunded of it. False beside a refund that was recorded before.

    Raises PurchaseNotFound, RefundExceedsPurchase, RefundRefReused, OccursTooLate, ContactNotFound, ProgramRequired.
    """
    happened_at = occurred_at or now
    check_occurred(happened_at, now)
    # With lots, and so with the lot of a deficit, which may have been filled long ago.
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once,
        order_refs=[order_ref], referrals=True,
    )  # fmt: skip
    book = locked.book(contact_id, also={MERGED})
    home = await homes.know(session, locked=locked, book=book, by=by)
    facts = await session.fetchrow(_FACTS, contact_id, locked.program.id, order_ref)
    if facts is None:
        raise PurchaseNotFound("This contact has no purchase with this order reference.")
    content = _content(refund, occurred_at)
    request_hash = hashlib.sha256(msgspec.json.encode(content)).digest()
    before: Sequence[Mapping[str, Any]] = facts["refunds"] or ()
    if (known := next((each for each in before if each["refund_ref"] == refund_ref), None)) is not None:
        refunded = _again(known, request_hash, home)
        answer = idempotency.answer(once, contact_id=contact_id, result=refunded, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return refunded, False

    was, is_now = _undone(facts, before, refund)
    undoing = _Undoing(locked, book, facts, order_ref, was, is_now, happened_at, by)
    await journal.know_all_lots(session, books=[book])
    await journal.know_lots_of_order(session, book=book, order_ref=order_ref)
    due = undoing.due(sum(each["points_due"] for each in before))
    taken_back, transaction_id = undoing.take_back(due)
    spent = _spent(facts, before, is_now, locked.program)
    parts = await _parts(session, contact_id, facts["redemption_id"]) if spent else []
    returned, expired, return_id = undoing.give_back(spent, parts)
    if locked.program.limited:
        await _give_quota_back(session, book, locked.program, facts, was, is_now)
    whole = _returned(facts, before, refund, order_ref, refund_ref, is_now, happened_at)
    stamps = Unstamping(locked, book, whole, by)
    if facts["stamped"]:
        await stamps.plan(session)
    friends = await referring.friends(session, locked=locked, by=by)
    await friends.undo(session, whole)
    await homes.return_points(session, book=book, by=by)
    refunded = Refunded(
        refund_ref, transaction_id, taken_back, due - taken_back, returned, expired, stamps.answers,
        balances.balance(home), balances.tier(home),
    )  # fmt: skip
    refund_id = uuid7()
    row = (
        contact_id, locked.program.id, order_ref, refund_ref, refund_id, request_hash, content,
        _decimal(is_now.money - was.money), _decimal((is_now.earned_share - was.earned_share) * facts["points"]),
        due, taken_back, returned, expired, undoing.counted.points, undoing.counted_at, undoing.counted.spend,
        undoing.counted.visits, transaction_id, return_id, happened_at, now, by,
        stamps.answers,
    )  # fmt: skip
    entry = timeline.entry(
        contact_id, id=refund_id, channel="shop", kind="purchase.refunded", occurred_at=happened_at, recorded_at=now,
        by=by, data={
            "program_id": locked.program.id, "order_ref": order_ref, "refund_ref": refund_ref,
            "points_taken_back": taken_back, "points_written_off": due - taken_back,
            "points_returned": returned, "points_returned_expired": expired,
        },
    )  # fmt: skip
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(refunds, _COLUMNS, [row]),
            *stamps.facts,
            *friends.facts(),
            *idempotency.answer(once, contact_id=contact_id, result=refunded, now=now),
        ],
        entries=[entry, *stamps.entries, *friends.entries],
    )
    await tier_rewards.take_back(session, locked=locked, book=book, by=by)
    return refunded, True


async def left(session: Session, *, program_id: UUID | None, contact_id: UUID, order_ref: str) -> Decimal:
    """How much of an order's goods money was not refunded yet. Raises PurchaseNotFound."""
    row = await session.fetchrow(
        """
        SELECT p.content, (
            SELECT coalesce(sum(r.amount), 0) FROM refunds r
            WHERE r.contact_id = p.contact_id AND r.program_id = p.program_id AND r.order_ref = p.order_ref
        ) AS refunded
        FROM purchases p
        WHERE p.contact_id = $1 AND p.order_ref = $3
            AND p.program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
        """,
        contact_id, program_id, order_ref,
    )  # fmt: skip
    if row is None:
        raise PurchaseNotFound("This contact has no purchase with this order reference.")
    goods = sum(goods_of(msgspec.convert(row["content"], Purchase, strict=False)), NONE)
    refunded: Decimal = row["refunded"]
    return max(Decimal(0), _decimal(goods) - refunded)


async def get(
    session: Session, *, program_id: UUID | None, contact_id: UUID, order_ref: str, refund_ref: str
) -> RefundView:
    """One refund of an order. Raises RefundNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_VIEW} FROM refunds WHERE contact_id = $1 AND order_ref = $3 AND refund_ref = $4
            AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
        """,
        contact_id, program_id, order_ref, refund_ref,
    )  # fmt: skip
    if row is None:
        raise RefundNotFound("This order has no refund with this reference.")
    return RefundView(**dict(row))


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, order_ref: str, after: str | None, limit: int
) -> list[RefundView]:
    """The refunds of an order, by their reference. Raises PurchaseNotFound."""
    rows = await session.fetch(
        f"""
        SELECT {_VIEW} FROM refunds
        WHERE contact_id = $1 AND order_ref = $3 AND ($4::text IS NULL OR refund_ref > $4)
            AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
        ORDER BY refund_ref LIMIT $5
        """,
        contact_id, program_id, order_ref, after, limit,
    )  # fmt: skip
    if not rows and not await session.fetchval(
        """
        SELECT EXISTS (SELECT FROM purchases WHERE contact_id = $1 AND order_ref = $3
            AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default)))
        """,
        contact_id, program_id, order_ref,
    ):  # fmt: skip
        raise PurchaseNotFound("This contact has no purchase with this order reference.")
    return [RefundView(**dict(row)) for row in rows]


def _content(refund: Refund, occurred_at: datetime | None) -> dict[str, Any]:
    """What was sent, with numbers in one way of writing them: a retry may write 50 for 50.00."""
    return {
        "amount": _plain(refund.amount),
        "lines": [{"line": each.line, "quantity": _plain(each.quantity)} for each in refund.lines],
        "occurred_at": occurred_at,
    }


def _plain(number: Decimal | None) -> str | None:
    return None if number is None else f"{number.normalize():f}"


def _again(known: Mapping[str, Any], request_hash: bytes, book: Book) -> Refunded:
    if known["request_hash"] != request_hash.hex():
        raise RefundRefReused("This refund was recorded with other content. Give the new one a reference of its own.")
    return Refunded(
        known["refund_ref"], UUID(known["transaction_id"]) if known["transaction_id"] else None,
        known["points_taken_back"], known["points_due"] - known["points_taken_back"],
        known["points_returned"], known["points_returned_expired"], unstamping.unstamped_of(known["challenges"]),
        balances.balance(book), balances.tier(book),
    )  # fmt: skip


def _undone(facts: Record, before: Sequence[Mapping[str, Any]], refund: Refund) -> tuple[Undone, Undone]:
    """What had been undone before this refund, and what is with it."""
    purchase = msgspec.convert(facts["content"], Purchase, strict=False)
    exact = [Decimal(points) for points in facts["exact_points"]]
    earlier = [msgspec.convert(each["content"], Refund, strict=False) for each in before]
    try:
        return refunding.undone(purchase, exact, earlier), refunding.undone(purchase, exact, [*earlier, refund])
    except TooMuch as error:
        raise RefundExceedsPurchase(f"Together with the refunds before it is too much: {error}.") from None


def _returned(
    facts: Record, before: Sequence[Mapping[str, Any]], refund: Refund, order_ref: str, refund_ref: str,
    is_now: Undone, at: datetime,
) -> Returned:  # fmt: skip
    return Returned(
        order_ref, refund_ref, msgspec.convert(facts["content"], Purchase, strict=False), facts["basis"],
        [*(msgspec.convert(each["content"], Refund, strict=False) for each in before), refund], is_now, at,
    )  # fmt: skip


def _spent(facts: Record, before: Sequence[Mapping[str, Any]], is_now: Undone, program: Program) -> int:
    """How many of the points that paid for the order are to be returned now."""
    if facts["spent"] is None or program.spent_return_policy == "none":
        return 0
    if program.spent_return_policy == "full_refund_only" and not is_now.complete:
        return 0
    spent: int = facts["spent"]
    returned: int = sum(each["points_returned"] + each["points_returned_expired"] for each in before)
    return max(0, refunding.half_up(spent * is_now.share) - returned)


async def _parts(session: Session, contact_id: UUID, redemption_id: UUID) -> list[tuple[int, Lot]]:
    """What a redemption took and nobody has given back, of which lot: what was taken last comes first."""
    subject = await journal.find_subject(session, contact_id=contact_id, transaction_id=redemption_id)
    return [] if subject is None else list(reversed(subject.left()))


async def _give_quota_back(
    session: Session, book: Book, program: Program, facts: Record, was: Undone, is_now: Undone
) -> None:
    day = local_day(facts["occurred_at"], program.terms.zone)
    pers = {rule.id: {limit.per for limit in rule.limits} for rule in program.rules if rule.limits}
    given = {UUID(row["rule_id"]): row for row in facts["rules"] if row["rule_id"] and row["outcome"] == "applied"}
    keys = {(rule_id, period_key(per, day)) for rule_id in given for per in pers.get(rule_id, ())}
    if not keys:
        return
    rows = await session.fetch(
        _USAGES, book.contact_id, program.id, list({rule_id for rule_id, _ in keys}), list({key for _, key in keys})
    )
    for rule_id, period, points, times in rows:
        if (rule_id, period) in keys:
            earned = given[rule_id]["points"]
            back = refunding.kept(earned, was) - refunding.kept(earned, is_now)
            ended = is_now.complete and not was.complete
            book.use(rule_id, period, points=-min(points, back), times=-min(times, int(ended)))


class _Undoing:
    """One refund on one book: what it takes and what it gives."""

    def __init__(
        self, locked: Locked, book: Book, facts: Record, order_ref: str, was: Undone, is_now: Undone, at: datetime,
        by: str,
    ) -> None:  # fmt: skip
        self._program, self._book, self._facts, self._order_ref = locked.program, book, facts, order_ref
        self._was, self._is_now, self._at, self._by = was, is_now, at, by
        self.counted = NOTHING_COUNTED
        """What it takes from what counts towards the tiers, on the purchase's day; points on that of `counted_at`."""
        self.counted_at: datetime | None = None

    def due(self, before: int) -> int:
        """How many points are to be taken back now, after `before` were due earlier."""
        earned: int = self._facts["points"]
        return earned - refunding.kept(earned, self._is_now) - before

    def take_back(self, due: int) -> tuple[int, UUID | None]:
        """Take back what the return policy reaches; what counted towards the tiers falls by all that is due."""
        book, facts = self._book, self._facts
        lots = [lot for lot in book.lots.values() if lot.order_ref == self._order_ref]
        basis = Decimal(facts["basis"])
        spend = _decimal(Fraction(basis) * self._was.share) - _decimal(Fraction(basis) * self._is_now.share)
        ended = self._is_now.complete and not self._was.complete
        if spend or ended:
            book.qualify(facts["occurred_at"], spend=spend, visits=-int(ended))
            self.counted = Counted(spend=-spend, visits=int(ended))
        if not due:
            return 0, None
        for lot in lots[:1]:
            if lot.active and lot.qualifying:
                self.counted_at = lot.counted_at
                book.qualify(lot.counted_at, points=-due)
                self.counted += Counted(points=due)
        transaction = book.open(
            "reverse", cause="refund", points=0, occurred_at=self._at, by=self._by, order_ref=self._order_ref,
            reverses=facts["transaction_id"],
        )  # fmt: skip
        taken = book.take_back(
            due, own=lambda lot: lot.order_ref == self._order_ref, policy=self._program.return_policy
        )
        if not taken:
            book.transactions.remove(transaction)
            return 0, None
        transaction.points = -taken
        return taken, transaction.id

    def give_back(self, points: int, parts: Sequence[tuple[int, Lot]]) -> tuple[int, int, UUID | None]:
        """Return spent points to their lots; how many are alive, how many have expired."""
        book, missing, returned = self._book, points, 0
        if not points or not parts:
            return 0, 0, None
        transaction = book.open(
            "reverse", cause="refund", points=0, occurred_at=self._at, by=self._by, order_ref=self._order_ref,
            reverses=self._facts["redemption_id"],
        )  # fmt: skip
        for whole, found in parts:
            part = min(whole, missing)
            if not part:
                break
            lot = book.lots.setdefault(found.id, found)
            self._keep_alive(lot)
            if book.give_back(lot, part, "redeemed"):
                returned += part
            missing -= part
        transaction.points = returned
        book.redeem(missing - points)
        return returned, points - missing - returned, transaction.id

    def _keep_alive(self, lot: Lot) -> None:
        days = self._program.return_grace_days
        if days and lot.expires_at is not None and lot.expires_at <= self._book.now:
            ends_at = Expiry("after", days=days).ends_at(self._book.now, self._program.terms.zone)
            self._book.move_end(lot, ends_at, reason="return_grace", at=self._book.now, by=self._by)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(refunding.half_up(value * 10**EXACT_PLACES)).scaleb(-EXACT_PLACES)
