"""One account, one fact after the other: where each point is, and that none is lost or made."""

import copy
import hashlib
import struct
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm.db.ids import uuid7
from crm.loyalty import books
from crm.loyalty.books import POINTS_MAX, Book, InsufficientPoints, PointsOutOfRange
from crm.loyalty.expiry import Expiry
from crm.loyalty.ladders import NOTHING_COUNTED, Ladder, Tier
from crm.loyalty.lots import Lot
from crm.loyalty.movements import BUCKETS
from tests.loyalty.naive import NaiveAccount

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


def account(now: datetime = NOON) -> Book:
    return Book(uuid7(), uuid7(), now)


def earn(book: Book, points: int, *, days_ago: int = 0, order_ref: str | None = None, **facts: Any) -> Lot:
    book.open("earn", cause="award", points=points, occurred_at=book.now - days_ago * DAY, by="t", order_ref=order_ref)
    return book.credit(points, **facts)


def spend(book: Book, points: int, **facts: Any) -> None:
    book.open("redeem", cause="redemption", points=-points, occurred_at=book.now, by="t")
    book.spend(points, "redeemed", **facts)


def overdraw(book: Book, points: int) -> None:
    book.open("adjust", cause="adjustment", points=-points, occurred_at=book.now, by="t")
    book.overdraw(points, "revoked")


def give_back(book: Book, lot: Lot, points: int) -> bool:
    book.open("reverse", cause="reversal", points=points, occurred_at=book.now, by="t")
    return book.give_back(lot, points, "redeemed")


def at(book: Book, now: datetime) -> Book:
    """The same account, later, with what time has done."""
    book.now = now
    book.settle()
    return book


def moves(book: Book) -> list[tuple[str, str, int]]:
    return [(movement.from_bucket, movement.to_bucket, movement.points) for movement in book.movements]


# ---------------------------------------------------------------- credit


def test_a_credit_is_a_lot_that_can_be_spent_at_once():
    book = account()
    lot = earn(book, 50)
    assert (book.available, book.pending, book.held) == (50, 0, 0)
    assert (lot.amount, lot.remaining, lot.active) == (50, 50, True)
    assert moves(book) == [("issued", "available", 50)]
    assert book.next_due_at is None


def test_a_credit_with_a_later_activation_is_pending_and_counts_for_no_tier_yet():
    book = account()
    lot = earn(book, 50, activates_at=NOON + DAY)
    assert (book.available, book.pending) == (0, 50)
    assert not lot.active
    assert book.qualifying_points == 0
    assert book.next_due_at == NOON + DAY
    with pytest.raises(InsufficientPoints):
        spend(book, 1)


def test_a_credit_whose_activation_is_now_is_available():
    book = account()
    earn(book, 50, activates_at=NOON)
    assert (book.available, book.pending, book.qualifying_points) == (50, 0, 50)


def test_a_credit_counts_towards_the_tiers_unless_it_says_otherwise():
    book = account()
    earn(book, 50)
    earn(book, 7, qualifying=False)
    assert book.qualifying_points == 50


def test_a_lot_knows_when_its_fact_happened_and_of_which_order():
    book = account()
    lot = earn(book, 50, days_ago=3, order_ref="INV-1")
    assert (lot.earned_at, lot.order_ref) == (NOON - 3 * DAY, "INV-1")
    assert book.movements[0].occurred_at == NOON - 3 * DAY


@pytest.mark.parametrize(
    ("has", "more", "fits"), [(0, POINTS_MAX, True), (1, POINTS_MAX, False), (POINTS_MAX, 1, False)]
)
def test_a_balance_stays_within_what_every_client_can_read(has, more, fits):
    book = account()
    book.available = has
    if fits:
        book.ensure_room(more)
    else:
        with pytest.raises(PointsOutOfRange):
            book.ensure_room(more)


def test_pending_and_held_points_take_room_and_a_deficit_makes_none():
    book = account()
    book.pending, book.held = POINTS_MAX - 10, 5
    book.ensure_room(5)
    with pytest.raises(PointsOutOfRange):
        book.ensure_room(6)
    book = account()
    book.available = -10
    with pytest.raises(PointsOutOfRange):
        book.ensure_room(POINTS_MAX + 1)


def test_a_full_balance_can_be_taken_from_and_a_deficit_has_an_end_too():
    book = account()
    book.available = POINTS_MAX
    book.ensure_room(-POINTS_MAX)
    book.available = -10
    book.ensure_room(-POINTS_MAX + 10)
    with pytest.raises(PointsOutOfRange):
        book.ensure_room(-POINTS_MAX + 9)


# ---------------------------------------------------------------- spending


def test_the_soonest_expiry_is_spent_first_whatever_came_first():
    book = account()
    never = earn(book, 10, days_ago=9)
    later = earn(book, 10, days_ago=5, expires_at=NOON + 30 * DAY)
    soon = earn(book, 10, expires_at=NOON + DAY)
    spend(book, 15)
    assert (soon.remaining, later.remaining, never.remaining) == (0, 5, 10)


def test_points_that_never_expire_are_spent_last():
    book = account()
    never = earn(book, 10, days_ago=100)
    late = earn(book, 10, expires_at=datetime(2199, 12, 31, tzinfo=UTC))
    spend(book, 10)
    assert (late.remaining, never.remaining) == (0, 10)


@pytest.mark.parametrize("expires_at", [None, NOON + DAY])
def test_among_equals_the_oldest_fact_is_spent_first_not_the_first_recorded(expires_at):
    book = account()
    younger = earn(book, 10, days_ago=1, expires_at=expires_at)
    older = earn(book, 10, days_ago=2, expires_at=expires_at)
    spend(book, 12)
    assert (older.remaining, younger.remaining) == (0, 8)


def test_facts_of_one_instant_are_spent_as_they_were_recorded():
    book = account()
    first, second = earn(book, 10), earn(book, 10)
    spend(book, 11)
    assert (first.remaining, second.remaining) == (0, 9)


def test_pending_points_are_not_spent_even_where_they_end_sooner():
    book = account()
    pending = earn(book, 10, activates_at=NOON + DAY, expires_at=NOON + 2 * DAY)
    active = earn(book, 10)
    spend(book, 10)
    assert (pending.remaining, active.remaining) == (10, 0)


def test_a_spend_of_everything_leaves_nothing_and_one_more_is_refused_with_the_numbers():
    book = account()
    earn(book, 30)
    earn(book, 20, expires_at=NOON + DAY)
    spend(book, 50)
    assert book.available == 0
    book = account()
    earn(book, 50)
    with pytest.raises(InsufficientPoints) as refusal:
        spend(book, 51)
    assert refusal.value.members == {"required": 51, "available": 50, "missing": 1}


def test_points_of_an_order_cannot_be_spent_on_that_order():
    book = account()
    own = earn(book, 30, order_ref="INV-1", expires_at=NOON + DAY)
    other = earn(book, 20, order_ref="INV-2")
    with pytest.raises(InsufficientPoints) as refusal:
        spend(copy.deepcopy(book), 21, except_order="INV-1")
    assert refusal.value.members == {"required": 21, "available": 20, "missing": 1}
    spend(book, 20, except_order="INV-1")
    assert (own.remaining, other.remaining) == (30, 0)
    spend(book, 30, except_order="INV-2")
    assert own.remaining == 0


# ---------------------------------------------------------------- a deficit


def test_an_overdraft_takes_what_is_there_and_owes_the_rest():
    book = account()
    lot = earn(book, 30)
    overdraw(book, 100)
    assert (book.available, book.deficit, lot.remaining) == (-70, 70, 0)
    owed = book.lots[book.deficit_lot_id]
    assert (owed.kind, owed.amount, owed.remaining) == ("deficit", 0, -70)
    assert moves(book)[-2:] == [("available", "revoked", 30), ("available", "revoked", 70)]


def test_a_deeper_overdraft_is_the_same_lot():
    book = account()
    overdraw(book, 10)
    overdraw(book, 5)
    assert (book.available, book.deficit) == (-15, 15)
    assert [lot.remaining for lot in book.lots.values() if lot.kind == "deficit"] == [-15]


def test_pending_points_do_not_cover_an_overdraft_and_fill_it_when_they_activate():
    book = account()
    earn(book, 100, activates_at=NOON + DAY)
    overdraw(book, 30)
    assert (book.available, book.pending, book.deficit) == (-30, 100, 30)
    at(book, NOON + DAY)
    assert (book.available, book.pending, book.deficit) == (70, 0, 0)


@pytest.mark.parametrize(
    ("credited", "available", "deficit", "left"), [(20, -50, 50, 0), (70, 0, 0, 0), (100, 30, 0, 30)]
)
def test_a_credit_fills_the_deficit_first(credited, available, deficit, left):
    book = account()
    overdraw(book, 70)
    lot = earn(book, credited)
    assert (book.available, book.deficit, lot.remaining) == (available, deficit, left)
    filled = credited - left
    assert moves(book)[-2:] == [("available", "transferred", filled), ("transferred", "available", filled)]
    assert book.movements[-1].transaction_id == book.transactions[-1].id


def test_what_is_given_back_fills_a_deficit_that_was_made_meanwhile():
    book = account()
    lot = earn(book, 50)
    spend(book, 50)
    overdraw(book, 20)
    assert give_back(book, lot, 50)
    assert (book.available, book.deficit, lot.remaining) == (30, 0, 30)


# ---------------------------------------------------------------- time


def test_points_activate_at_their_instant_and_not_before():
    book = account()
    lot = earn(book, 50, activates_at=NOON + DAY)
    assert at(book, NOON + DAY - INSTANT).pending == 50
    at(book, NOON + DAY)
    assert (book.available, book.pending, lot.active, book.qualifying_points) == (50, 0, True, 50)
    assert (book.transactions[-1].kind, book.transactions[-1].points) == ("activate", 50)


def test_points_are_expired_at_their_instant_and_not_before():
    book = account()
    earn(book, 50, expires_at=NOON + DAY)
    assert at(book, NOON + DAY - INSTANT).available == 50
    assert at(book, NOON + DAY).available == 0
    assert moves(book)[-1] == ("available", "expired", 50)
    assert book.next_due_at is None


def test_what_time_did_is_written_down_as_of_its_own_instant_in_its_order():
    book = account()
    earn(book, 1, expires_at=NOON + 3 * DAY)
    earn(book, 2, activates_at=NOON + DAY, expires_at=NOON + 4 * DAY)
    earn(book, 4, activates_at=NOON + 2 * DAY)
    at(book, NOON + 30 * DAY)
    assert [(one.kind, one.points, one.occurred_at - NOON, one.by) for one in book.transactions[3:]] == [
        ("activate", 2, DAY, "system"),
        ("activate", 4, 2 * DAY, "system"),
        ("expire", -1, 3 * DAY, "system"),
        ("expire", -2, 4 * DAY, "system"),
    ]
    assert (book.available, book.next_due_at) == (4, None)


def test_points_that_nobody_looked_at_between_their_two_instants_are_expired_at_the_second():
    book = account()
    earn(book, 50, activates_at=NOON + DAY, expires_at=NOON + 2 * DAY)
    assert at(book, NOON + 2 * DAY).available == 0
    assert moves(book)[1:] == [("pending", "available", 50), ("available", "expired", 50)]
    assert book.qualifying_points == 50


def test_points_that_end_before_they_begin_expire_from_pending_and_count_for_no_tier():
    for expires_at in (NOON + DAY, NOON + 2 * DAY):
        book = account()
        earn(book, 50, activates_at=NOON + 2 * DAY, expires_at=expires_at)
        at(book, NOON + 9 * DAY)
        assert (book.available, book.pending, book.qualifying_points) == (0, 0, 0)
        assert moves(book) == [("issued", "pending", 50), ("pending", "expired", 50)]


def test_a_lot_that_is_dead_when_posted_is_accepted_and_written_off():
    book = account()
    earn(book, 50, days_ago=9, expires_at=NOON)
    book.settle()
    assert book.available == 0
    assert moves(book) == [("issued", "available", 50), ("available", "expired", 50)]
    assert book.expiring == {}


def test_a_lot_that_is_dead_when_posted_fills_no_deficit():
    book = account()
    overdraw(book, 30)
    earn(book, 50, days_ago=9, expires_at=NOON - DAY)
    book.settle()
    assert (book.available, book.deficit) == (-30, 30)


def test_nothing_is_due_twice():
    book = account()
    earn(book, 50, activates_at=NOON + DAY, expires_at=NOON + 2 * DAY)
    at(book, NOON + 3 * DAY)
    before = (book.seq, book.digest, len(book.transactions))
    book.settle()
    assert (book.seq, book.digest, len(book.transactions)) == before


def test_only_what_is_left_of_a_lot_expires():
    book = account()
    earn(book, 50, expires_at=NOON + DAY)
    spend(book, 20)
    at(book, NOON + DAY)
    assert moves(book)[-1] == ("available", "expired", 30)


def test_a_lot_that_was_not_read_keeps_its_due_instant():
    book = account()
    book.unseen_due_at = book.next_due_at = NOON + 5 * DAY
    earn(book, 50, expires_at=NOON)
    book.settle()
    assert book.next_due_at == NOON + 5 * DAY


# ---------------------------------------------------------------- giving back


def test_spent_points_return_to_their_own_lot_with_its_own_expiry():
    book = account()
    soon, late = earn(book, 10, expires_at=NOON + DAY), earn(book, 10, expires_at=NOON + 9 * DAY)
    spend(book, 15)
    assert give_back(book, soon, 10)
    assert give_back(book, late, 5)
    assert (soon.remaining, late.remaining, book.available) == (10, 10, 20)
    assert book.expiring == {NOON + DAY: 10, NOON + 9 * DAY: 10}


@pytest.mark.parametrize(("returned_at", "alive"), [(NOON + DAY - INSTANT, True), (NOON + DAY, False)])
def test_points_of_a_lot_that_has_expired_meanwhile_stay_expired(returned_at, alive):
    book = account()
    lot = earn(book, 10, expires_at=NOON + DAY)
    spend(book, 10)
    at(book, returned_at)
    assert give_back(book, lot, 10) is alive
    assert book.available == (10 if alive else 0)
    assert moves(book)[-1] == ("redeemed", "available" if alive else "expired", 10)


def test_a_lot_that_was_not_read_can_be_given_back_to():
    book = account()
    book.seq = 9
    lot = Lot(uuid7(), 10, 3, 0, True, True, NOON, None, None, NOON + DAY, False, None)
    book.available, book.expiring = 3, {NOON + DAY: 3}
    give_back(book, lot, 7)
    assert (book.available, lot.remaining, book.expiring) == (10, 10, {NOON + DAY: 10})
    assert book.next_due_at == NOON + DAY


# ---------------------------------------------------------------- tiers

TIERS = [Tier(uuid7(), name, threshold, Decimal(1)) for name, threshold in (("Silver", 50), ("Gold", 100))]


def climber() -> Book:
    book = account()
    book.ladder = Ladder(tuple(TIERS))
    return book


def climbed(book: Book) -> list[tuple[str | None, str | None]]:
    return [
        (each.before.name if each.before else None, each.after.name if each.after else None)
        for each in book.tier_changes
    ]


def test_a_tier_is_reached_as_of_the_fact_that_reached_it():
    book = climber()
    earn(book, 49)
    book.stand()
    assert (book.tier_id, book.tier_changes) == (None, [])
    earn(book, 1, days_ago=2)
    book.stand()
    assert (book.tier_id, book.tier_since) == (TIERS[0].id, NOON - 2 * DAY)
    earn(book, 70)
    book.stand()
    book.stand()
    assert climbed(book) == [(None, "Silver"), ("Silver", "Gold")]


def test_a_tier_is_lost_when_what_qualified_is_taken_back():
    book = climber()
    earn(book, 60)
    book.stand()
    book.qualify(NOON, points=-11)
    book.stand()
    assert (book.tier_id, book.tier_since) == (None, None)
    assert climbed(book) == [(None, "Silver"), ("Silver", None)]


@pytest.mark.parametrize(("basis", "progress"), [("points", 3), ("spend", Decimal("2.50")), ("visits", 1)])
def test_each_basis_counts_its_own(basis, progress):
    book = account()
    book.qualify(NOON, points=1)
    book.qualify(NOON + DAY, points=2, spend=Decimal("2.50"), visits=1)
    assert sum(book.counted.values(), NOTHING_COUNTED).by(basis) == progress
    assert book.counted == book.days
    assert list(book.days) == [NOON.date(), (NOON + DAY).date()]
    assert (book.qualifying_points, book.qualifying_spend, book.qualifying_visits) == (3, Decimal("2.50"), 1)


# ---------------------------------------------------------------- the chain


def test_the_digest_is_the_published_one():
    book = account()
    earn(book, 50, days_ago=1)
    spend(book, 20)
    digest = b""
    for movement in book.movements:
        digest = expected_digest(book, movement, digest)
        assert movement.digest == digest
    assert book.digest == digest


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("seq", 7), ("points", 51), ("available_after", 51), ("pending_after", 1), ("held_after", 1),
        ("from_bucket", "redeemed"), ("to_bucket", "pending"), ("occurred_at", NOON + INSTANT),
        ("transaction_id", uuid7()), ("lot_id", uuid7()),
    ],
)  # fmt: skip
def test_every_fact_of_a_movement_is_in_its_digest(field, other):
    book = account()
    earn(book, 50)
    (movement,) = book.movements
    changed = copy.copy(movement)
    setattr(changed, field, other)
    facts = {"contact_id": book.contact_id, "program_id": book.program_id, "recorded_at": NOON}
    assert books.chain(b"", movement=movement, **facts) == movement.digest
    assert books.chain(b"", movement=changed, **facts) != movement.digest
    assert books.chain(b"x", movement=movement, **facts) != movement.digest
    for name, value in {"contact_id": uuid7(), "program_id": uuid7(), "recorded_at": NOON + INSTANT}.items():
        assert books.chain(b"", movement=movement, **{**facts, name: value}) != movement.digest


def test_a_moment_before_1970_has_a_digest_too():
    book = account(datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
    earn(book, 1, days_ago=20000)
    assert book.digest == expected_digest(book, book.movements[0], b"")


# ---------------------------------------------------------------- any sequence

offsets = st.none() | st.integers(-3, 12).map(lambda hours: timedelta(hours=hours))
points = st.integers(1, 40)
orders = st.sampled_from([None, "A", "B"])
steps = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 7).map(lambda hours: timedelta(hours=hours))),
    st.tuples(st.just("earn"), points, st.integers(0, 3), offsets, offsets, st.booleans(), orders),
    st.tuples(st.just("spend"), st.integers(1, 90), st.sampled_from(["redeemed", "revoked", "held"]), orders),
    st.tuples(st.just("overdraw"), st.integers(1, 90)),
    st.tuples(st.just("return"), st.integers(0, 5)),
    st.tuples(
        st.just("wait"), points, st.none() | st.integers(1, 12).map(lambda hours: timedelta(hours=hours)), orders
    ),
    st.tuples(st.just("event"), st.integers(0, 2)),
    st.tuples(st.just("slide"), st.integers(0, 2)),
    st.tuples(st.just("take back"), st.integers(1, 60), st.sampled_from(["A", "B"])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_sequence_conserves_points_and_agrees_with_the_plain_rules(sequence):
    book, plain = account(), NaiveAccount()
    taken: list[tuple[str, list[tuple[Lot, int]], Any]] = []
    for kind, *facts in sequence:
        match kind:
            case "pass":
                at(book, book.now + facts[0])
                plain.pass_time(book.now)
            case "earn":
                _earn_both(book, plain, *facts)
            case "spend":
                book = _spend_both(book, plain, taken, *facts)
            case "overdraw":
                overdraw(book, facts[0])
                plain.overdraw(facts[0], "revoked")
            case "return" if facts[0] < len(taken):
                bucket, parts, plain_parts = taken.pop(facts[0])
                book.open("reverse", cause="reversal", points=0, occurred_at=book.now, by="t")
                returned = sum(part for lot, part in parts if book.give_back(book.lots[lot.id], part, bucket))
                assert returned == plain.give_back(plain_parts, bucket, now=book.now)
            case "wait":
                _wait_both(book, plain, *facts)
            case "event":
                ends_at = Expiry("after", days=facts[0]).ends_at(book.now, book.ladder.zone)
                book.open("activate", cause="event", points=0, occurred_at=book.now, by="t")
                waiting = [lot for lot in book.lots.values() if lot.waits]
                begun = book.activate(waiting, book.now, Expiry("after", days=facts[0]))
                assert begun == plain.begin(ends_at, now=book.now)
            case "slide":
                book.slide(book.now, Expiry("after", days=facts[0]))
                plain.slide(Expiry("after", days=facts[0]).ends_at(book.now, book.ladder.zone), now=book.now)
            case "take back":
                amount, order_ref = facts
                book.open("reverse", cause="refund", points=0, occurred_at=book.now, by="t", order_ref=order_ref)
                reached = book.take_back(
                    amount, own=lambda lot, ref=order_ref: lot.order_ref == ref, policy="within_balance"
                )
                assert reached == plain.take_back(amount, order_ref)
        _assert_same(book, plain)
        _assert_books_balance(book)


def _earn_both(book, plain, amount, days_ago, activates_in, expires_in, qualifying, order_ref):
    facts = {
        "activates_at": None if activates_in is None else book.now + activates_in,
        "expires_at": None if expires_in is None else book.now + expires_in,
        "qualifying": qualifying,
    }
    earn(book, amount, days_ago=days_ago, order_ref=order_ref, **facts)
    book.settle()
    plain.credit(amount, now=book.now, earned_at=book.now - days_ago * DAY, order_ref=order_ref, **facts)


def _wait_both(book, plain, amount, cancels_in, order_ref):
    cancels_at = None if cancels_in is None else book.now + cancels_in
    earn(book, amount, order_ref=order_ref, waits=True, cancels_at=cancels_at)
    plain.credit(
        amount, now=book.now, earned_at=book.now, order_ref=order_ref, waits=True, cancels_at=cancels_at
    )  # fmt: skip


def _spend_both(book, plain, taken, amount, bucket, order_ref):
    tried = copy.deepcopy(book)
    tried.open("redeem", cause="redemption", points=-amount, occurred_at=tried.now, by="t")
    before = len(tried.movements)
    spendable = sum(lot.left for lot in plain.spendable(order_ref))
    if amount > spendable:
        with pytest.raises(InsufficientPoints) as refusal:
            tried.spend(amount, bucket, except_order=order_ref)
        assert refusal.value.members == {"required": amount, "available": spendable, "missing": amount - spendable}
        return book  # a refused plan is thrown away
    plain_parts = plain.spend(amount, bucket, except_order=order_ref)
    tried.spend(amount, bucket, except_order=order_ref)
    parts = [(tried.lots[movement.lot_id], movement.points) for movement in tried.movements[before:]]
    taken.append((bucket, parts, plain_parts))
    return tried


def _assert_same(book, plain):
    assert (book.available, book.pending, book.held) == (plain.available, plain.pending, plain.held)
    assert (book.deficit, book.qualifying_points) == (plain.debt, plain.qualifying)
    assert book.expiring == plain.expiring
    regular = [lot for lot in book.lots.values() if lot.kind == "regular"]
    assert [(lot.amount, lot.remaining, lot.held, not lot.active) for lot in regular if lot.remaining] == [
        (lot.amount, lot.left, lot.held, lot.pending) for lot in plain.lots if lot.left
    ]
    assert [lot.remaining for lot in regular] == [lot.left for lot in plain.lots]
    due = min((at for lot in plain.lots if (at := lot.due_at()) is not None), default=None)
    if due is not None:
        assert book.next_due_at is not None
        assert book.now < book.next_due_at <= due
    buckets = _buckets(book)
    assert (-buckets["issued"], buckets["transferred"]) == (plain.issued, 0)
    assert {name: buckets[name] for name in plain.gone} == plain.gone


def _assert_books_balance(book):
    buckets = _buckets(book)
    assert sum(buckets.values()) == 0
    assert set(buckets) <= set(BUCKETS)
    assert (buckets["available"], buckets["pending"], buckets["held"]) == (book.available, book.pending, book.held)
    assert book.available >= -book.deficit
    lots = book.lots.values()
    assert sum(lot.remaining for lot in lots if lot.active) == book.available
    assert sum(lot.remaining for lot in lots if not lot.active) == book.pending
    assert sum(lot.held for lot in lots) == book.held
    for lot in lots:
        own = [movement for movement in book.movements if movement.lot_id == lot.id]
        assert lot.remaining == _net(own, "available") + _net(own, "pending")
        assert lot.held == _net(own, "held")
        assert lot.amount == -_net(own, "issued")
        if lot.kind == "regular":
            assert 0 <= lot.remaining + lot.held <= lot.amount
    digest, running = b"", Counter[str]()
    for number, movement in enumerate(book.movements, 1):
        running[movement.from_bucket] -= movement.points
        running[movement.to_bucket] += movement.points
        assert movement.seq == number
        assert (movement.available_after, movement.pending_after, movement.held_after) == (
            running["available"], running["pending"], running["held"],
        )  # fmt: skip
    for transaction in book.transactions:
        own = [movement for movement in book.movements if movement.transaction_id == transaction.id]
        if own:
            assert (transaction.first_seq, transaction.seq) == (own[0].seq, own[-1].seq)
            assert len(own) == transaction.seq - transaction.first_seq + 1
            assert transaction.available_after == own[-1].available_after
            digest = own[-1].digest
    assert book.digest == digest
    assert book.seq == len(book.movements)


def _buckets(book):
    return Counter({bucket: _net(book.movements, bucket) for bucket in BUCKETS})


def _net(movements, bucket):
    return sum(
        movement.points * ((movement.to_bucket == bucket) - (movement.from_bucket == bucket)) for movement in movements
    )


def expected_digest(book: Book, movement: Any, previous: bytes) -> bytes:
    """As the documentation of the ledger says it, for whoever checks it with another program."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    numbers = [
        movement.seq, movement.points, movement.available_after, movement.pending_after, movement.held_after,
        (movement.occurred_at - epoch) // INSTANT, (book.now - epoch) // INSTANT,
    ]  # fmt: skip
    ids = [book.contact_id, book.program_id, movement.transaction_id, movement.lot_id]
    text = f"{movement.from_bucket}>{movement.to_bucket}".encode()
    packed = b"".join(number.bytes for number in ids) + text + struct.pack(">7q", *numbers)
    return hashlib.sha256(previous + packed).digest()
