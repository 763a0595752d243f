"""Any sequence of posts, against the plain rules, with the whole ledger looked at after every step.

`CRM_TEST_EXAMPLES` says how many sequences are tried.
"""

import asyncio
import copy
import hashlib
import os
import struct
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session, prepare
from crm.errors import CrmError
from crm.loyalty import (
    balances,
    holds,
    journal,
    ledger,
    programs,
    purchases,
    redemptions,
    refunds,
    rules,
    tiers,
    transfers,
)
from crm.loyalty.basket import Purchase
from crm.loyalty.books import InsufficientPoints
from crm.loyalty.holds import CaptureExceedsHold, HoldNotFound, HoldNotOpen
from crm.loyalty.journal import OrderRefReused
from crm.loyalty.ledger import Award, ExpiresTooEarly, ZeroAdjustment
from crm.loyalty.purchases import Bought, PurchaseNotFound
from crm.loyalty.refunding import Refund
from crm.loyalty.refunds import RefundExceedsPurchase, RefundRefReused
from tests.loyalty import shop
from tests.loyalty.naive import NaiveAccount

EXAMPLES = int(os.environ.get("CRM_TEST_EXAMPLES", "120"))
STEPS = 30
START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
GOLD, GOLD_AT = "Gold", 60


class World:
    """A program and people in one transaction that is never committed, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(asyncpg.connect(dsn))
        self.session = Session(self._connection)

    async def set_up(self) -> None:
        await prepare(self._connection)
        await self._connection.execute("BEGIN")
        program = await programs.create(
            self.session, name="Kopi", currency="IDR", time_zone="Asia/Jakarta", default=True, settings={}, now=START
        )
        self.program_id = program.id
        base = {
            "name": "base", "kind": "per_amount", "status": "active", "points": 1, "per": "1", "factor": "1",
            "over_max": "trim", "stackable": True, "priority": 0, "applies_to": "amount",
        }  # fmt: skip
        await rules.create(self.session, program_id=program.id, definition=base, now=START)
        await tiers.create(
            self.session, program_id=program.id, name=GOLD, threshold=GOLD_AT, benefits={"earn_factor": "1"}, now=START
        )
        self.people = [uuid7(), uuid7()]
        for contact_id in self.people:
            await self.session.execute(
                "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Sari', now(), now())", contact_id
            )
        await self._connection.execute("SAVEPOINT start")

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def request(self, verb: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        """What the edge does: kept where the verb returns, undone where it raises."""

        async def carry_out() -> Any:
            async with self.session.savepoint():
                return await verb(self.session)

        return self.run(carry_out())

    def checksum(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.run(shop.checksum(self.session))
        return found

    def start_again(self) -> None:
        self.run(self._connection.execute("ROLLBACK TO SAVEPOINT start"))

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def world(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(journal, "LOTS_READ", 1)  # so that most spends need more lots than are read at first
    world = World(dsn)
    try:
        world.run(world.set_up())
        yield world
    finally:
        world.close()


def test_any_sequence_of_posts_keeps_the_ledger_and_agrees_with_the_plain_rules(world):
    run_state_machine_as_test(
        lambda: Posts(world),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@dataclass
class Redeemed:
    """A redemption as the plain rules remember it."""

    id: UUID
    who: int
    points: int
    order_ref: str | None
    taken: list[tuple[int, int]]
    returned: Any = None


@dataclass
class Held:
    """A hold as the plain rules remember it: `number` among those of its account."""

    id: UUID
    who: int
    number: int
    points: int
    status: str = "held"
    captured: int = 0
    answer: Any = None


@dataclass
class Sold:
    """What the plain rules remember of a purchase's refunds."""

    who: int
    money: Decimal
    points: int
    refunds: dict[str, tuple[Decimal, Any]] = field(default_factory=dict)
    due: int = 0
    spent_back: int = 0

    @property
    def refunded(self) -> Decimal:
        return sum((amount for amount, _ in self.refunds.values()), Decimal(0))


who = st.sampled_from([0, 0, 0, 1])
amounts = st.integers(1, 50)
order_refs = st.sampled_from(["A", "B", "C", "D"])
hours = st.integers(-4, 30).map(lambda number: number * HOUR)
maybe_hours = st.none() | hours
awards = st.fixed_dictionaries({
    "who": who,
    "points": amounts,
    "happened": st.none() | st.integers(-30, 0).map(lambda number: number * HOUR),
    "activates": maybe_hours,
    "expires": maybe_hours,
    "qualifying": st.booleans(),
})  # fmt: skip


class Posts(RuleBasedStateMachine):
    """Does to the ledger and to the plain rules the same, and compares."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.now = START
        self.plain = [NaiveAccount() for _ in world.people]
        self.orders: dict[str, int] = {}
        self.bought: dict[str, tuple[Purchase, purchases.Recorded]] = {}
        self.redeemed: list[Redeemed] = []
        self.held: list[Held] = []
        self.sold: dict[str, Sold] = {}
        self.posted_to = [False for _ in world.people]
        """Whose account has had a post: the stored tier is as of the last one."""
        self.keys = count(1)

    def teardown(self) -> None:
        self.world.start_again()

    # ------------------------------------------------------------ time

    @rule(by=st.integers(1, 40 * 60).map(lambda minutes: timedelta(minutes=minutes)))
    def time_passes(self, by):
        self.now += by

    @rule(by=st.integers(1, 120).map(lambda seconds: timedelta(seconds=seconds)))
    def the_clock_is_set_back(self, by):
        self.now -= by

    @rule(number=st.integers(0, 5), nearly=st.booleans())
    def time_passes_to_when_something_is_due(self, number, nearly):
        due = sorted(
            at
            for account in self.plain
            for lot in account.lots
            for at in (lot.activates_at, lot.expires_at)
            if at is not None and at > self.now and lot.left
        )
        due += [
            hold.expires_at for account in self.plain for hold in account.holds
            if hold.open and hold.expires_at > self.now
        ]  # fmt: skip
        due.sort()
        if due:
            self.now = due[number % len(due)] - (INSTANT if nearly else timedelta(0))

    # ------------------------------------------------------------ posts

    @rule(one=awards, retried=st.booleans())
    def award(self, one, retried):
        given, refusal = self._award(one)
        answer = self.post(
            lambda session, once: ledger.award(session, program_id=None, award=given, by="t", once=once, now=self.now),
            refusal=refusal, retried=retried,
        )  # fmt: skip
        if answer is not None:
            self._credit(one, given)
            self.check_posted(one["who"], answer, given.points)

    @rule(batch=st.lists(awards | st.none(), min_size=1, max_size=5), retried=st.booleans())
    def award_many(self, batch, retried):
        given = [(Award(uuid7(), 5, "nobody"), ContactNotFound) if one is None else self._award(one) for one in batch]
        plan = [award for award, _ in given]
        alone = self._one_by_one(plan)

        async def post(session, once):
            answers = await ledger.award_all(
                session, program_id=self.world.program_id, awards=plan, by="t", once=once, now=self.now
            )
            for part in idempotency.answer(once, contact_id=None, result=len(answers), now=self.now, status=200):
                await session.execute(
                    f"INSERT INTO {part.table.name} ({', '.join(part.columns)}) VALUES ($1, $2, $3, $4, $5, $6)",
                    *part.rows[0],
                )
            return answers

        answers = self.post(post, retried=retried, status=200, shown=len)
        for one in batch:
            if one is not None:
                self._settle(one["who"])
        for one, (award, refusal), answer, other in zip(batch, given, answers, alone, strict=True):
            assert _without_ids(answer) == _without_ids(other)
            if refusal is not None:
                assert type(answer) is refusal
            else:
                self._credit(one, award)
                self.check_posted(one["who"], answer, award.points)

    def _one_by_one(self, plan):
        """What the same awards answer alone; undone afterwards."""
        answers = []

        async def all_alone(session):
            for award in plan:
                try:
                    async with session.savepoint():
                        answers.append(
                            await ledger.award(session, program_id=None, award=award, by="t", once=None, now=self.now)
                        )
                except CrmError as refusal:
                    answers.append(refusal)
            raise _Undo

        with pytest.raises(_Undo):
            self.world.request(all_alone)
        return answers

    @rule(
        number=who, order_ref=order_refs, money=st.integers(0, 6000).map(lambda cents: Decimal(cents).scaleb(-2)),
        happened=st.sampled_from([-48, 0, 0, 0]), again=st.booleans(), retried=st.booleans(),
    )  # fmt: skip
    def purchase(self, number, order_ref, money, happened, again, retried):
        known = self.bought.get(order_ref)
        content = Purchase(order_ref=order_ref, occurred_at=self.now + happened * HOUR, currency="IDR", total=money)
        if again and known is not None:
            content = known[0]
        refusal = None
        if self.orders.get(order_ref, number) != number or (known is not None and content != known[0]):
            refusal = OrderRefReused
        answer = self.post(
            lambda session, once: purchases.record(
                session, program_id=None, bought=Bought(self.world.people[number], content), by="t", once=once,
                now=self.now,
            ),
            refusal=refusal, retried=retried, shown=lambda answer: answer[0],
            status=201 if known is None else 200, again=lambda answer: (answer[0], False),
        )  # fmt: skip
        if answer is None:
            return
        recorded, created = answer
        assert created is (known is None)
        account = self._settle(number)
        self.orders[order_ref] = number
        if created:
            points = int(money)
            if points:
                account.credit(points, now=self.now, earned_at=content.occurred_at, order_ref=order_ref)
                account.lifetime_earned += points
            account.visits += 1
            self.bought[order_ref] = (content, recorded)
            self.sold[order_ref] = Sold(number, money if not again or known is None else content.total, points)
            self.posted_to[number] = True
            assert recorded.points == points
            assert (recorded.transaction_id is None) == (points == 0)
        stored = self.bought[order_ref][1]
        self.check_balance(number, recorded.balance, recorded.tier)
        assert _json(replace(recorded, balance=stored.balance, tier=stored.tier)) == _json(stored)

    @rule(number=who, points=st.integers(1, 90), order_ref=st.none() | order_refs, retried=st.booleans())
    def redeem(self, number, points, order_ref, retried):
        account = self._settled(number)
        spendable = sum(lot.left for lot in account.spendable(order_ref))
        known = next((one for one in self.redeemed if order_ref is not None and one.order_ref == order_ref), None)
        refusal = None
        if order_ref is not None and self.orders.get(order_ref, number) != number:
            refusal = OrderRefReused
        elif known is not None:
            refusal = OrderRefReused if known.points != points else None
        elif spendable < points:
            refusal = InsufficientPoints
        answer = self.post(
            lambda session, once: redemptions.redeem(
                session, program_id=None, contact_id=self.world.people[number], points=points, order_ref=order_ref,
                place={}, by="t", once=once, now=self.now,
            ),
            refusal=refusal, retried=retried, shown=lambda answer: answer[0],
            status=201 if known is None else 200,
            again=None if order_ref is None else lambda answer: (answer[0], False),
            members={"required": points, "available": spendable, "missing": points - spendable}
            if refusal is InsufficientPoints else {},
        )  # fmt: skip
        if answer is None:
            return
        redemption, created = answer
        assert created is (known is None)
        account = self._settle(number)
        if created:
            taken = account.spend(points, "redeemed", except_order=order_ref)
            account.lifetime_redeemed += points
            self.redeemed.append(Redeemed(redemption.id, number, points, order_ref, taken))
            self.posted_to[number] = True
            if order_ref is not None:
                self.orders[order_ref] = number
        else:
            assert redemption.id == known.id
        status = "reversed" if known is not None and known.returned is not None else "redeemed"
        assert (redemption.points, redemption.status) == (points, status)
        self.check_balance(number, redemption.balance)

    @precondition(lambda self: self.redeemed)
    @rule(which=st.integers(0, 20), stranger=st.sampled_from([False, False, False, True]), retried=st.booleans())
    def reverse(self, which, stranger, retried):
        known = self.redeemed[which % len(self.redeemed)]
        contact_id = self.world.people[(known.who + 1) % 2 if stranger else known.who]
        left = sum(part for _, part in known.taken)
        refusal = redemptions.RedemptionNotFound if stranger else None
        if not stranger and known.returned is None and not left:
            refusal = redemptions.NothingToReturn
        answer = self.post(
            lambda session, once: redemptions.reverse(
                session, contact_id=contact_id, redemption_id=known.id, reason=None, by="t", once=once, now=self.now
            ),
            refusal=refusal, retried=retried,
            shown=lambda answer: answer[0], status=201 if known.returned is None else 200,
            again=lambda answer: (answer[0], False),
        )  # fmt: skip
        if answer is None:
            return
        returned, created = answer
        account = self._settle(known.who)
        assert created is (known.returned is None)
        if created:
            alive = account.give_back(known.taken, "redeemed", now=self.now)
            account.lifetime_redeemed -= left
            known.returned, known.taken = returned, []
            self.posted_to[known.who] = True
            assert (returned.points, returned.points_returned, returned.points_returned_expired) == (
                alive, alive, left - alive,
            )  # fmt: skip
        self.check_balance(known.who, returned.balance, returned.tier)
        assert replace(returned, balance=known.returned.balance, tier=known.returned.tier) == known.returned

    @rule(
        number=who, points=st.integers(-90, 30), allow_negative=st.booleans(), qualifying=st.booleans(),
        retried=st.booleans(),
    )  # fmt: skip
    def adjust(self, number, points, allow_negative, qualifying, retried):
        spendable = sum(lot.left for lot in self._settled(number).spendable())
        refusal = None
        if points == 0:
            refusal = ZeroAdjustment
        elif -points > spendable and not allow_negative:
            refusal = InsufficientPoints
        answer = self.post(
            lambda session, once: ledger.adjust(
                session, program_id=None, contact_id=self.world.people[number], points=points, reason="fix", note=None,
                allow_negative=allow_negative, qualifying=qualifying, by="t", once=once, now=self.now,
            ),
            refusal=refusal, retried=retried,
        )  # fmt: skip
        if answer is None:
            return
        account = self._settle(number)
        if points > 0:
            account.credit(points, now=self.now, earned_at=self.now, qualifying=qualifying)
        else:
            account.overdraw(-points, "revoked")
            account.qualifying += points if qualifying else 0
        self.check_posted(number, answer, points)

    @rule(
        number=who, points=st.integers(1, 60), lasts=st.integers(1, 40).map(lambda hours: hours * HOUR),
        retried=st.booleans(),
    )  # fmt: skip
    def hold(self, number, points, lasts, retried):
        spendable = sum(lot.left for lot in self._settled(number).spendable())
        answer = self.post(
            lambda session, once: holds.create(
                session, program_id=None, contact_id=self.world.people[number], points=points, expires_in=lasts,
                reference=None, place={}, by="t", once=once, now=self.now,
            ),
            refusal=InsufficientPoints if spendable < points else None, retried=retried,
        )  # fmt: skip
        if answer is None:
            return
        account = self._settle(number)
        account.hold(points, expires_at=self.now + lasts)
        self.held.append(Held(answer.id, number, len(account.holds) - 1, points))
        self.posted_to[number] = True
        self.check_balance(number, answer.balance)

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 20), points=st.none() | st.integers(1, 65),
        stranger=st.sampled_from([False, False, False, True]), retried=st.booleans(),
    )  # fmt: skip
    def capture(self, which, points, stranger, retried):
        known = self.held[which % len(self.held)]
        open_now = self._settled(known.who).holds[known.number].open
        wanted = known.points if points is None else points
        again = known.status == "captured" and known.captured == wanted
        refusal = None
        if stranger:
            refusal = HoldNotFound
        elif wanted > known.points:
            refusal = CaptureExceedsHold
        elif not open_now and not again:
            refusal = HoldNotOpen
        answer = self.post(
            lambda session, once: holds.capture(
                session, contact_id=self.world.people[(known.who + 1) % 2 if stranger else known.who],
                hold_id=known.id, points=points, by="t", once=once, now=self.now,
            ),
            refusal=refusal, retried=retried, shown=lambda answer: answer[0], status=200 if again else 201,
            again=lambda answer: (answer[0], False),
        )  # fmt: skip
        if answer is None:
            return
        captured, created = answer
        account = self._settle(known.who)
        assert created is not again
        if created:
            account.capture(known.number, wanted, now=self.now)
            account.lifetime_redeemed += wanted
            known.status, known.captured, known.answer = "captured", wanted, captured
            self.posted_to[known.who] = True
        assert (captured.points, captured.points_released) == (wanted, known.points - wanted)
        assert captured.transaction_id == known.answer.transaction_id
        self.check_balance(known.who, captured.balance)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 20))
    def release(self, which):
        known = self.held[which % len(self.held)]
        open_now = self._settled(known.who).holds[known.number].open

        async def verb(session):
            await holds.release(
                session, contact_id=self.world.people[known.who], hold_id=known.id, by="t", now=self.now
            )

        if known.status == "captured":
            before = self.world.checksum()
            with pytest.raises(HoldNotOpen):
                self.world.request(verb)
            assert self.world.checksum() == before
            return
        self.world.request(verb)
        before = self.world.checksum()
        self.world.request(verb)
        assert self.world.checksum() == before
        account = self._settle(known.who)
        if open_now:
            account.release(known.number, at=self.now)
            known.status = "released"
            self.posted_to[known.who] = True

    @rule(number=who, points=st.integers(1, 60), retried=st.booleans())
    def transfer(self, number, points, retried):
        giver, taker = number, (number + 1) % 2
        spendable = sum(lot.left for lot in self._settled(giver).spendable())
        answer = self.post(
            lambda session, once: transfers.transfer(
                session, program_id=None, contact_id=self.world.people[giver], to_contact_id=self.world.people[taker],
                points=points, note=None, by="t", once=once, now=self.now,
            ),
            refusal=InsufficientPoints if spendable < points else None, retried=retried,
        )  # fmt: skip
        if answer is None:
            return
        account, other = self._settle(giver), self._settle(taker)
        for lot, part in account.spend(points, "transferred"):
            given = account.lots[lot]
            other.credit(
                part, now=self.now, earned_at=given.earned_at, expires_at=given.expires_at, qualifying=False, given=True
            )
        self.posted_to[taker] = True
        self.check_posted(giver, answer, -points)

    @rule(
        number=who, order_ref=order_refs, refund_ref=st.sampled_from(["1", "2", "3"]),
        cents=st.integers(1, 4000), share=st.sampled_from([None, None, 2, 1]), retried=st.booleans(),
    )  # fmt: skip
    def refund(self, number, order_ref, refund_ref, cents, share, retried):
        sold = self.sold.get(order_ref)
        amount = Decimal(cents).scaleb(-2)
        if sold is not None and share is not None:
            amount = ((sold.money - sold.refunded) / share).quantize(Decimal("0.01"))
        if not amount:
            return
        known = None if sold is None else sold.refunds.get(refund_ref)
        refusal = None
        if sold is None or sold.who != number:
            refusal = PurchaseNotFound
        elif known is not None:
            refusal = None if known[0] == amount else RefundRefReused
        elif sold.refunded + amount > sold.money:
            refusal = RefundExceedsPurchase
        answer = self.post(
            lambda session, once: refunds.record(
                session, program_id=None, contact_id=self.world.people[number], order_ref=order_ref,
                refund_ref=refund_ref, refund=Refund(amount=amount), occurred_at=None, by="t", once=once, now=self.now,
            ),
            refusal=refusal, retried=retried, shown=lambda answer: answer[0], status=201 if known is None else 200,
            again=lambda answer: (answer[0], False),
        )  # fmt: skip
        if answer is None:
            return
        refunded, created = answer
        account = self._settle(number)
        assert created is (known is None)
        if not created:
            assert replace(refunded, balance=known[1].balance, tier=known[1].tier) == known[1]
            return
        sold.refunds[refund_ref] = (amount, refunded)
        due, taken, returned, expired = self._refund(account, sold, order_ref)
        self.posted_to[number] = True
        assert (
            refunded.points_taken_back, refunded.points_written_off, refunded.points_returned,
            refunded.points_returned_expired,
        ) == (taken, due - taken, returned, expired)  # fmt: skip
        self.check_balance(number, refunded.balance, refunded.tier)

    def _refund(self, account, sold, order_ref):
        """What the plain rules do: due, taken back, returned, returned to what has ended."""
        kept = _half_up(sold.points * (sold.money - sold.refunded) / sold.money)
        due = sold.points - kept - sold.due
        sold.due += due
        account.qualifying -= due
        if sold.refunded == sold.money:
            account.visits -= 1
        taken = account.take_back(due, order_ref)
        paid = next((one for one in self.redeemed if one.order_ref == order_ref and one.returned is None), None)
        if paid is None:
            return due, taken, 0, 0
        back = _half_up(paid.points * sold.refunded / sold.money) - sold.spent_back
        sold.spent_back += back
        parts, rest = [], []
        for lot, part in reversed(paid.taken):
            one = min(part, back - sum(points for _, points in parts))
            parts += [(lot, one)] if one else []
            rest += [(lot, part - one)] if part > one else []
        paid.taken = rest[::-1]
        returned = account.give_back(parts, "redeemed", now=self.now)
        account.lifetime_redeemed -= sum(points for _, points in parts)
        return due, taken, returned, sum(points for _, points in parts) - returned

    # ------------------------------------------------------------ reads

    @rule(number=who, ahead=st.integers(0, 60 * 60).map(lambda minutes: timedelta(minutes=minutes)))
    def read(self, number, ahead):
        at = self.now + ahead
        before = self.world.checksum()
        seen = self.world.run(
            balances.read(self.world.session, program_id=None, contact_id=self.world.people[number], now=at)
        )
        assert self.world.checksum() == before
        account = copy.deepcopy(self.plain[number])
        account.pass_time(at)
        self._compare(account, seen, seen.tier)

    # ------------------------------------------------------------ what every post must do

    def post(
        self, verb, *, refusal=None, retried=False, status=201, shown=lambda answer: answer, again=None, members=None
    ):
        """Carry out; expect the refusal, and that it leaves no trace; repeat it by its key and by its natural key."""
        once = idempotency.Request(f"key {next(self.keys)}".encode(), b"content") if retried else None
        if refusal is not None:
            before = self.world.checksum()
            with pytest.raises(refusal) as caught:
                self.world.request(lambda session: verb(session, once))
            assert self.world.checksum() == before
            if members:
                assert caught.value.members == members
            return None
        answer = self.world.request(lambda session: verb(session, once))
        if once is None and again is None:
            return answer
        before = self.world.checksum()
        if again is not None:
            assert _json(self.world.request(lambda session: verb(session, None))) == _json(again(answer))
        if once is not None:
            with pytest.raises(idempotency.Replay) as replay:
                self.world.request(lambda session: verb(session, once))
            assert (replay.value.status, replay.value.body) == (status, _json(shown(answer)))
            with pytest.raises(idempotency.IdempotencyKeyReused):
                self.world.request(lambda session: verb(session, replace(once, content_hash=b"other")))
        assert self.world.checksum() == before
        return answer

    def check_posted(self, number, answer, points):
        self.posted_to[number] = True
        assert answer.points == points
        self.check_balance(number, answer.balance, answer.tier)

    def check_balance(self, number, balance, tier=None):
        self._compare(self.plain[number], balance, tier)

    def _compare(self, account, balance, tier):
        assert (balance.available, balance.pending, balance.held) == (account.available, account.pending, account.held)
        assert (balance.lifetime_earned, balance.lifetime_redeemed) == (
            account.lifetime_earned, account.lifetime_redeemed,
        )  # fmt: skip
        instants = sorted(account.expiring.items())
        assert [(one.expires_at, one.points) for one in balance.expiring] == instants[:24]
        assert balance.expiring_later == sum(points for _, points in instants[24:])
        if tier is not None:
            gold = account.qualifying >= GOLD_AT
            assert (tier.current.name if tier.current else None) == (GOLD if gold else None)
            assert (tier.next.missing if tier.next else 0) == (0 if gold else GOLD_AT - account.qualifying)

    def _award(self, one):
        """The award, and why it is refused if it is."""
        earned_at = self.now if one["happened"] is None else self.now + one["happened"]
        award = Award(
            self.world.people[one["who"]], one["points"], "goodwill",
            occurred_at=None if one["happened"] is None else earned_at,
            activates_at=None if one["activates"] is None else earned_at + one["activates"],
            expires_at=None if one["expires"] is None else earned_at + one["expires"],
            qualifying=one["qualifying"],
        )  # fmt: skip
        early = award.expires_at is not None and award.expires_at <= earned_at
        return award, ExpiresTooEarly if early else None

    def _credit(self, one, award):
        account = self._settle(one["who"])
        account.credit(
            award.points, now=self.now, earned_at=award.occurred_at or self.now, activates_at=award.activates_at,
            expires_at=award.expires_at, qualifying=award.qualifying,
        )  # fmt: skip
        account.lifetime_earned += award.points

    def _settle(self, number):
        self.plain[number].pass_time(self.now)
        return self.plain[number]

    def _settled(self, number):
        account = copy.deepcopy(self.plain[number])
        account.pass_time(self.now)
        return account

    # ------------------------------------------------------------ the ledger itself

    @invariant()
    def the_books_agree(self):
        found = self.world.run(self._everything())
        for number, contact_id in enumerate(self.world.people):
            stored = found["accounts"].get(contact_id)
            plain = self.plain[number]
            if stored is None:
                assert plain == NaiveAccount()
                continue
            lots, movements = found["lots"][contact_id], found["movements"][contact_id]
            self._check_account(stored, plain, self.posted_to[number])
            self._check_lots(plain, lots, movements)
            self._check_movements(stored, movements, found["transactions"][contact_id])
            buckets = _net(movements)
            assert sum(buckets.values()) == 0
            assert -buckets["issued"] == plain.issued
            assert {name: buckets[name] for name in plain.gone} == plain.gone
            for bucket in ("available", "pending", "held"):
                assert buckets[bucket] == stored[bucket]

    async def _everything(self):
        session, ours = self.world.session, self.world.program_id
        accounts = await session.fetch("SELECT * FROM loyalty_accounts WHERE program_id = $1", ours)
        found: dict[str, Any] = {"accounts": {row["contact_id"]: row for row in accounts}}
        for name, order in (("lots", "id"), ("movements", "seq"), ("transactions", "seq")):
            rows = await session.fetch(f"SELECT * FROM points_{name} WHERE program_id = $1 ORDER BY {order}", ours)
            found[name] = {
                contact_id: [row for row in rows if row["contact_id"] == contact_id] for contact_id in self.world.people
            }
        untold = await session.fetch("SELECT id FROM points_transactions EXCEPT SELECT id FROM interactions")
        assert not untold, "each transaction is on the timeline"
        return found

    def _check_account(self, stored, plain, posted):
        assert (stored["available"], stored["pending"], stored["held"]) == (plain.available, plain.pending, plain.held)
        assert (stored["deficit"], stored["qualifying_points"]) == (plain.debt, plain.qualifying)
        assert (stored["lifetime_earned"], stored["lifetime_redeemed"], stored["qualifying_visits"]) == (
            plain.lifetime_earned, plain.lifetime_redeemed, plain.visits,
        )  # fmt: skip
        if posted:
            assert (stored["tier_id"] is not None) == (plain.qualifying >= GOLD_AT)
        due = min(
            (*(at for lot in plain.lots if (at := lot.due_at()) is not None),
             *(hold.expires_at for hold in plain.holds if hold.open)),
            default=None,
        )  # fmt: skip
        assert due is None or stored["next_due_at"] <= due

    def _check_lots(self, plain, lots, movements):
        regular = [row for row in lots if row["kind"] == "regular"]
        assert [
            (row["amount"], row["remaining"], row["earned_at"], row["activates_at"], row["expires_at"],
             row["order_ref"], row["qualifying"])
            for row in regular
        ] == [
            (lot.amount, lot.left, lot.earned_at, lot.activates_at, lot.expires_at, lot.order_ref, lot.qualifying)
            for lot in plain.lots
        ]  # fmt: skip
        assert [row["active"] for row in regular if row["remaining"]] == [
            not lot.pending for lot in plain.lots if lot.left
        ]
        assert [row["remaining"] for row in lots if row["kind"] == "deficit"] in ([], [-plain.debt])
        for row in lots:
            own = _net([movement for movement in movements if movement["lot_id"] == row["id"]])
            assert row["remaining"] == own["available"] + own["pending"]
            assert row["held"] == own["held"]
            if row["kind"] == "regular":
                # What was given to a deficit has left it the way on which transfers come.
                came = [one for one in movements if one["lot_id"] == row["id"] and one["to_bucket"] != "transferred"]
                assert row["amount"] == sum(
                    one["points"] for one in came if one["from_bucket"] in {"issued", "transferred"}
                )

    def _check_movements(self, stored, movements, transactions):
        assert [movement["seq"] for movement in movements] == list(range(1, stored["seq"] + 1))
        running, digest = Counter[str](), b""
        for movement in movements:
            running[movement["from_bucket"]] -= movement["points"]
            running[movement["to_bucket"]] += movement["points"]
            assert [movement[f"{bucket}_after"] for bucket in ("available", "pending", "held")] == [
                running["available"], running["pending"], running["held"],
            ]  # fmt: skip
            digest = _digest(digest, movement)
            assert movement["digest"] == digest
        assert stored["digest"] == digest
        owners = [one["id"] for one in transactions for _ in range(one["first_seq"], one["seq"] + 1)]
        assert owners == [movement["transaction_id"] for movement in movements]
        for one in transactions:
            last = movements[one["seq"] - 1]
            assert (one["available_after"], one["occurred_at"]) == (last["available_after"], last["occurred_at"])

    @initialize()
    def nobody_has_anything(self):
        assert not self.world.run(self.world.session.fetch("SELECT FROM loyalty_accounts"))


def _half_up(number):
    return int(number.quantize(Decimal(1), ROUND_HALF_UP))


class _Undo(Exception):
    pass


def _json(answer):
    return msgspec.json.encode(answer)


def _without_ids(answer):
    if isinstance(answer, CrmError):
        return type(answer), answer.detail, answer.members
    return {**asdict(answer), "transaction_id": None}


def _net(movements):
    total = Counter[str]()
    for movement in movements:
        total[movement["from_bucket"]] -= movement["points"]
        total[movement["to_bucket"]] += movement["points"]
    return total


def _digest(previous, movement):
    ids = [movement[name].bytes for name in ("contact_id", "program_id", "transaction_id", "lot_id")]
    numbers = [movement[name] for name in ("seq", "points", "available_after", "pending_after", "held_after")]
    numbers += [(movement[name] - EPOCH) // INSTANT for name in ("occurred_at", "recorded_at")]
    text = f"{movement['from_bucket']}>{movement['to_bucket']}".encode()
    return hashlib.sha256(previous + b"".join(ids) + text + struct.pack(">7q", *numbers)).digest()
