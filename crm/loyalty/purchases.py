"""Purchases: what was bought, what it earned and why. One order is one award, whatever the retries."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from asyncpg import Record
from sqlalchemy import BigInteger, Column, LargeBinary, Numeric, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from crm.contacts import aliases
from crm.db import idempotency
from crm.db.session import Session
from crm.db.tables import Instant, metadata
from crm.db.writes import Insert
from crm.errors import CrmError, NotFound
from crm.interactions import people, timeline
from crm.interactions.people import Sender
from crm.interactions.timeline import Interaction
from crm.loyalty import balances, cards, earning, earnings, journal, referring
from crm.loyalty.balances import Balance, TierProgress
from crm.loyalty.basket import Purchase, measure
from crm.loyalty.books import Book
from crm.loyalty.cards import Cards, Decision, Stamped
from crm.loyalty.circumstances import Circumstances
from crm.loyalty.earnings import RuleRow
from crm.loyalty.journal import Locked, OrderRefReused
from crm.loyalty.ledger import check_occurred
from crm.loyalty.referring import Friends
from crm.loyalty.stamping import PURCHASE

purchases = Table(
    "purchases",
    metadata,
    Column("contact_id", Uuid, primary_key=True),
    Column("program_id", Uuid, primary_key=True),
    Column("order_ref", Text, primary_key=True),
    Column("transaction_id", Uuid),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("currency", Text, nullable=False),
    Column("total", Numeric, nullable=False),
    Column("basis", Numeric, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("rules", JSONB, nullable=False),
    Column("exact_points", JSONB, nullable=False),
    Column("challenges", JSONB, nullable=False),
)

_COLUMNS: Final = tuple(column.name for column in purchases.columns)
_STORED: Final = """
    SELECT contact_id, order_ref, transaction_id, points, request_hash, rules, challenges
    FROM purchases WHERE program_id = $1 AND (contact_id, order_ref) IN (SELECT * FROM unnest($2::uuid[], $3::text[]))
"""


class PurchaseNotFound(NotFound):
    code = "purchase_not_found"
    title = "There is no such purchase"


@dataclass(slots=True)
class Recorded:
    """The answer to a purchase: what it earned, why, what it did for challenges, and the balance after all that."""

    order_ref: str
    points: int
    transaction_id: UUID | None
    rules: list[RuleRow]
    challenges: list[Stamped]
    balance: Balance
    tier: TierProgress


@dataclass(slots=True)
class PurchaseView:
    """A purchase as it is kept; `content` is what the till sent, in canonical form."""

    order_ref: str
    program_id: UUID
    transaction_id: UUID | None
    occurred_at: datetime
    recorded_at: datetime
    currency: str
    total: str
    basis: str
    points: int
    rules: list[dict[str, Any]]
    challenges: list[dict[str, Any]]
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bought:
    """Somebody's purchase: a contact's, or of whoever is behind an address, made a contact if nobody has it.

    `data` are further facts to keep with it, `place` says where (`store`, `till`).
    """

    who: UUID | Sender
    purchase: Purchase
    data: Mapping[str, Any] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)


async def record(
    session: Session,
    *,
    program_id: UUID | None,
    bought: Bought,
    by: str,
    once: idempotency.Request | None,
    now: datetime,
) -> tuple[Recorded, bool]:
    """Record a purchase and what it earns. False beside an order that was recorded before.

    Raises OrderRefReused for other content or another contact, CurrencyMismatch, ContactNotFound, ProgramRequired.
    """
    results = await _record(session, program_id=program_id, bought=[bought], by=by, once=once, now=now)
    result = results[0]
    if isinstance(result, CrmError):
        raise result
    return result


async def record_all(
    session: Session,
    *,
    program_id: UUID | None,
    bought: Sequence[Bought],
    by: str,
    now: datetime,
    once: idempotency.Request | None = None,
) -> list[tuple[Recorded, bool] | CrmError]:
    """Record many purchases, in the order given, in one statement; refusals stand at their purchase's place."""
    return await _record(session, program_id=program_id, bought=bought, by=by, once=once, now=now, keep_answers=False)


async def get(session: Session, *, program_id: UUID | None, contact_id: UUID, order_ref: str) -> PurchaseView:
    """One purchase of a contact. Raises PurchaseNotFound."""
    row = await session.fetchrow(
        f"""
        SELECT {_VIEW} FROM purchases p
        WHERE contact_id = $1 AND order_ref = $3
            AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
        """,
        contact_id, program_id, order_ref,
    )  # fmt: skip
    if row is None:
        raise PurchaseNotFound("This contact has no purchase with this order reference.")
    return _view(row)


async def known(session: Session, *, program_id: UUID, order_refs: Sequence[str]) -> set[str]:
    """Those of these orders whose purchases are recorded."""
    rows = await session.fetch(
        """
        SELECT d.order_ref FROM order_directory d
        JOIN purchases p USING (contact_id, program_id, order_ref)
        WHERE d.program_id = $1 AND d.order_ref = ANY ($2)
        """,
        program_id, order_refs,
    )  # fmt: skip
    return {row["order_ref"] for row in rows}


async def owners(session: Session, *, program_id: UUID | None, order_refs: Collection[str]) -> dict[str, UUID]:
    """Whose the orders are that are known in the program, or in the default one."""
    if not order_refs:
        return {}
    rows = await session.fetch(
        """
        SELECT d.order_ref, coalesce(a.contact_id, d.contact_id) AS contact_id
        FROM order_directory d LEFT JOIN contact_alias_directory a ON a.alias_id = d.contact_id
        WHERE d.program_id = coalesce($1, (SELECT id FROM programs WHERE is_default)) AND d.order_ref = ANY ($2)
        """,
        program_id, list(order_refs),
    )  # fmt: skip
    return {row["order_ref"]: row["contact_id"] for row in rows}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an order stands: under `kept_by`, who may have been merged since, and whose it is now.

    `line_ids` are the ids under which the lines were sold, as the shop told them with it, in their order.
    """

    kept_by: UUID
    contact_id: UUID
    line_ids: Sequence[str | None]


async def places(session: Session, *, program_id: UUID | None, order_refs: Collection[str]) -> dict[str, Place]:
    """Where the orders stand whose purchases are recorded in the program, or in the default one."""
    if not order_refs:
        return {}
    rows = await session.fetch(
        """
        SELECT d.order_ref, d.contact_id AS kept_by, coalesce(a.contact_id, d.contact_id) AS contact_id,
            p.content #> '{data,line_ids}' AS line_ids
        FROM order_directory d
        JOIN purchases p USING (contact_id, program_id, order_ref)
        LEFT JOIN contact_alias_directory a ON a.alias_id = d.contact_id
        WHERE d.program_id = coalesce($1, (SELECT id FROM programs WHERE is_default)) AND d.order_ref = ANY ($2)
        """,
        program_id, list(order_refs),
    )  # fmt: skip
    return {row["order_ref"]: Place(row["kept_by"], row["contact_id"], row["line_ids"] or []) for row in rows}


async def page(
    session: Session, *, program_id: UUID | None, contact_id: UUID, after: tuple[datetime, str] | None, limit: int
) -> list[PurchaseView]:
    """A contact's purchases, newest first, from behind the (occurred_at, order_ref) of `after`.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    rows = await session.fetch(
        f"""
        SELECT p.* FROM contacts c CROSS JOIN LATERAL {aliases.known_as("c.id")} who CROSS JOIN LATERAL (
            SELECT {_VIEW} FROM purchases p
            WHERE contact_id = who.id AND program_id = coalesce($2, (SELECT id FROM programs WHERE is_default))
                AND ($3::timestamptz IS NULL OR (occurred_at, order_ref) < ($3, $4))
            ORDER BY occurred_at DESC, order_ref DESC LIMIT $5
        ) p
        WHERE c.id = $1
        ORDER BY p.occurred_at DESC, p.order_ref DESC LIMIT $5
        """,
        contact_id, program_id, after[0] if after else None, after[1] if after else None, limit,
    )  # fmt: skip
    if not rows:
        await journal.require(session, program_id=program_id, contact_id=contact_id)
    return [_view(row) for row in rows]


async def _record(
    session: Session, *, program_id: UUID | None, bought: Sequence[Bought], by: str,
    once: idempotency.Request | None, now: datetime, keep_answers: bool = True,
) -> list[tuple[Recorded, bool] | CrmError]:  # fmt: skip
    buyers = await _buyers(session, bought, by, now)
    known = [(buyer, item) for buyer, item in zip(buyers, bought, strict=True) if isinstance(buyer, UUID)]
    locked = await journal.lock(
        session,
        program_id=program_id,
        contact_ids=[buyer for buyer, _ in known],
        now=now,
        order_refs=[item.purchase.order_ref for _, item in known],
        once=once,
        times=[item.purchase.occurred_at for _, item in known],
        referrals=True,
    )
    if "purchase" in locked.program.expiry.activities:
        await journal.know_all_lots(session, books=list(locked.books.values()))
    stored = await _stored(session, locked, known)
    results: list[tuple[Recorded, bool] | CrmError] = []
    new = [(buyer, item.purchase) for buyer, item in known if (buyer, item.purchase.order_ref) not in stored]
    plan = Plan(
        locked,
        by,
        await Circumstances.read(
            session,
            program=locked.program,
            books=locked.books,
            moments=[(buyer, purchase.occurred_at) for buyer, purchase in new],
        ),
        await cards.of_members(session, locked=locked, by=by, facts=[(buyer, PURCHASE) for buyer, _ in new]),
        await referring.friends(session, locked=locked, by=by),
    )
    for buyer, item in zip(buyers, bought, strict=True):
        try:
            if isinstance(buyer, CrmError):
                raise buyer
            results.append(plan.add(buyer, item, stored.get((buyer, item.purchase.order_ref))))
        except CrmError as refusal:
            results.append(refusal)
    await plan.cards.reward(session)
    answer: Sequence[Insert] = ()
    if keep_answers and not isinstance(results[0], CrmError):
        recorded, created = results[0]
        status = 201 if created else 200
        answer = idempotency.answer(once, contact_id=known[0][0], result=recorded, now=now, status=status)
    await journal.write_down(
        session,
        locked,
        facts=[
            Insert(purchases, _COLUMNS, plan.rows),
            journal.claim_orders(locked.program.id, plan.claims),
            *plan.cards.facts(),
            *plan.friends.facts(),
            *answer,
        ],
        entries=[*plan.entries, *plan.cards.entries(), *plan.friends.entries],
    )
    return results


async def _buyers(session: Session, bought: Sequence[Bought], by: str, now: datetime) -> list[UUID | CrmError]:
    """Whose each purchase is, in their order; addresses are looked up together."""
    senders = [item.who for item in bought if isinstance(item.who, Sender)]
    if not senders:
        return [item.who for item in bought if isinstance(item.who, UUID)]
    found = iter(await people.resolve_or_create_all(session, senders=senders, by=by, now=now))
    return [next(found) if isinstance(item.who, Sender) else item.who for item in bought]


async def _stored(
    session: Session, locked: Locked, known: Sequence[tuple[UUID, Bought]]
) -> dict[tuple[UUID, str], Mapping[str, Any]]:
    """Purchases that are recorded already, for orders that the directory gives to the same contact."""
    refs = {item.purchase.order_ref for buyer, item in known if locked.orders.get(item.purchase.order_ref) == buyer}
    if not refs:
        return {}
    rows = await session.fetch(_STORED, locked.program.id, [locked.kept_by[ref] for ref in refs], list(refs))
    return {(locked.orders[row["order_ref"]], row["order_ref"]): dict(row) for row in rows}


class Plan:
    """The rows of the purchases planned so far; two of the same order within one batch meet here.

    Whether they are ever written makes no difference to what is planned.
    """

    def __init__(
        self, locked: Locked, by: str, circumstances: Circumstances, cards: Cards, friends: Friends, *,
        include_drafts: bool = False,
    ) -> None:  # fmt: skip
        self.locked = locked
        self.circumstances = circumstances
        self.cards = cards
        self.friends = friends
        self.by = by
        self.include_drafts = include_drafts
        self.rows: list[tuple[Any, ...]] = []
        self.entries: list[tuple[Any, ...]] = []
        self.claims: dict[str, UUID] = {}
        self._planned: dict[str, tuple[bytes, Recorded]] = {}

    def add(self, contact_id: UUID, item: Bought, stored: Mapping[str, Any] | None = None) -> tuple[Recorded, bool]:
        """The answer to a purchase, and whether it is new; `stored` is what is kept of its order."""
        purchase, program = item.purchase, self.locked.program
        check_occurred(purchase.occurred_at, self.locked.now)
        book = self.locked.book(contact_id)
        owner = self.locked.orders.get(purchase.order_ref) or self.claims.get(purchase.order_ref)
        if owner is not None and owner != contact_id:
            raise OrderRefReused("This order belongs to another contact.")
        if stored is None and self.locked.kept_by.get(purchase.order_ref, contact_id) != contact_id:
            raise OrderRefReused("Something of this order was recorded before the contact was merged.")
        content = msgspec.to_builtins(purchase)
        request_hash = hashlib.sha256(msgspec.json.encode(content)).digest()
        if stored is not None:
            return _again(stored, request_hash, book), False
        if (planned := self._planned.get(purchase.order_ref)) is not None:
            if planned[0] != request_hash:
                raise OrderRefReused("This order stands in the batch twice, with different content.")
            return planned[1], False

        self.locked.member(contact_id)
        member = earnings.member(
            book, purchase.occurred_at, condition_holds=self.circumstances.conditions_hold(book, purchase.occurred_at)
        )
        earned = earning.evaluate(
            purchase, rules=self.circumstances.rules(book, purchase.occurred_at), terms=program.terms, member=member,
            include_drafts=self.include_drafts,
        )  # fmt: skip
        decisions = self._decisions(book, purchase)
        welcome = self.friends.welcome(contact_id, earned.basis)
        book.ensure_room(earned.points + cards.points_of(decisions) + welcome)
        rules = [earnings.rule_row(outcome) for outcome in earned.rules]
        if "purchase" in program.expiry.activities:
            book.slide(purchase.occurred_at, program.expiry)
        transaction = earnings.post(
            book, program, earned, cause="purchase", occurred_at=purchase.occurred_at, by=self.by,
            order_ref=purchase.order_ref, rules=rules, waits_for_event=True,
        )  # fmt: skip
        book.qualify(purchase.occurred_at, spend=earned.basis, visits=1)
        stamped = self.cards.stamp(
            book, decisions, cause="purchase", ref=purchase.order_ref, occurred_at=purchase.occurred_at
        )
        self.friends.qualify(book, purchase, earned.basis)
        book.settle()
        book.stand()
        recorded = Recorded(
            purchase.order_ref, earned.points, transaction.id if transaction else None, rules, stamped,
            balances.balance(book), balances.tier(book),
        )  # fmt: skip

        total = _total(purchase)
        self.rows.append((
            contact_id, program.id, purchase.order_ref, recorded.transaction_id, purchase.occurred_at,
            self.locked.now, purchase.currency, total, earned.basis, earned.points, request_hash,
            {**content, "data": item.data, **item.place} if item.data or item.place else content, rules,
            earned.exact_by_line, stamped,
        ))  # fmt: skip
        self.entries.append(
            timeline.entry(
                contact_id, id=recorded.transaction_id, channel="shop", kind="purchase",
                occurred_at=purchase.occurred_at, recorded_at=self.locked.now, by=self.by,
                data={
                    "program_id": program.id, "order_ref": purchase.order_ref, "total": total,
                    "currency": purchase.currency, "points": earned.points,
                    "transaction_id": recorded.transaction_id, **item.place,
                },
            )
        )  # fmt: skip
        self.circumstances.happened(Interaction(*self.entries[-1]))
        if owner is None:
            self.claims[purchase.order_ref] = contact_id
        self._planned[purchase.order_ref] = (request_hash, recorded)
        return recorded, True

    def _decisions(self, book: Book, purchase: Purchase) -> list[Decision]:
        program = self.locked.program
        if not program.challenges_of(PURCHASE):
            return []
        return self.cards.decide(
            book, PURCHASE, occurred_at=purchase.occurred_at, basket=measure(purchase, program.terms)
        )


def _again(stored: Mapping[str, Any], request_hash: bytes, book: Book) -> Recorded:
    if stored["request_hash"] != request_hash:
        raise OrderRefReused("This order was recorded with other content. A correction is a refund or an adjustment.")
    return Recorded(
        stored["order_ref"], stored["points"], stored["transaction_id"], [RuleRow(**rule) for rule in stored["rules"]],
        cards.stamped_of(stored["challenges"]), balances.balance(book), balances.tier(book),
    )  # fmt: skip


def _total(purchase: Purchase) -> Decimal:
    """What the customer was asked to pay."""
    if purchase.total is not None:
        goods = purchase.total
    else:
        goods = sum((line.unit_price * line.quantity for line in purchase.lines), Decimal(0))
        goods -= sum((discount.amount for discount in purchase.discounts), Decimal(0))
    return goods + purchase.shipping


_VIEW: Final = """
    order_ref, program_id, transaction_id, occurred_at, recorded_at, currency, total::text, basis::text, points, rules,
    challenges, content
"""


def _view(row: Record) -> PurchaseView:
    return PurchaseView(**dict(row))
