"""A statement adds up, whatever was posted in whatever order, and says what the balance says."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm.contacts.contacts import ContactNotFound
from crm.db.session import Session
from crm.insights import statements
from crm.insights.periods import InvalidPeriod, Span
from crm.insights.statements import Statement
from crm.loyalty import balances, programs
from crm.loyalty.movements import KINDS
from tests.insights.played import HOUR, START, Table, posts
from tests.loyalty import story as shop

BUCKETS = ("available", "pending", "held")
FIRST_DAY = START.date() - timedelta(days=20)
days = st.integers(0, 200).map(lambda number: FIRST_DAY + timedelta(days=number))


async def read(session: Session, story: shop.Story, first: date, last: date, *, now: datetime) -> Statement:
    return await statements.read(
        session, program_id=story.program_id, contact_id=story.sari, first=first, last=last, now=now
    )


def adds_up(statement: Statement) -> None:
    for bucket in BUCKETS:
        opening, closing = getattr(statement.opening, bucket), getattr(statement.closing, bucket)
        listed = sum(getattr(entry, bucket) for entry in statement.entries)
        omitted = getattr(statement.omitted, bucket) if statement.omitted else 0
        assert opening + omitted + listed == closing
        assert opening + sum(getattr(total, bucket) for total in statement.totals) == closing
    available = statement.opening.available + (statement.omitted.available if statement.omitted else 0)
    for entry in statement.entries:
        available += entry.available
        assert entry.available_after == available
    count = len(statement.entries) + (statement.omitted.count if statement.omitted else 0)
    assert count == sum(total.count for total in statement.totals)
    assert [entry.occurred_at for entry in statement.entries] == sorted(
        entry.occurred_at for entry in statement.entries
    )


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(posts, st.tuples(days, days).map(sorted), st.integers(0, 400), st.sampled_from([3, 1_000]))
def test_opening_and_entries_make_closing_and_say_what_the_movements_say(
    table: Table, played, between, later, entries_max
):
    table.play(played)
    table.now += later * HOUR
    contact_id, (first, last) = table.people[0], between
    span = Span(first, last, programs.ZoneInfo("Asia/Jakarta"))

    def ask(first: date, last: date) -> Statement:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statements, "ENTRIES_MAX", entries_max)
            found: Statement = table.run(
                statements.read(
                    table.session, program_id=table.program_id, contact_id=contact_id, first=first, last=last,
                    now=table.now,
                )
            )  # fmt: skip
        adds_up(found)
        assert len(found.entries) <= entries_max
        return found

    unwritten = ask(first, last)
    whole = ask(FIRST_DAY, FIRST_DAY + timedelta(days=365))
    balance = table.run(balances.read(table.session, program_id=table.program_id, contact_id=contact_id, now=table.now))
    assert [getattr(whole.opening, bucket) for bucket in BUCKETS] == [0, 0, 0]
    assert [getattr(whole.closing, bucket) for bucket in BUCKETS] == [getattr(balance, bucket) for bucket in BUCKETS]
    assert (whole.expiring, whole.expiring_later) == (balance.expiring, balance.expiring_later)

    table.write_down_what_is_due()
    for edge, until in ((unwritten.opening, span.starts_at), (unwritten.closing, span.ends_at)):
        sums = table.buckets(contact_id, until=until)
        assert [getattr(edge, bucket) for bucket in BUCKETS] == [sums[bucket] for bucket in BUCKETS]
    written = ask(first, last)
    assert all(entry.transaction_id is not None for entry in written.entries)
    assert (written.opening, written.closing) == (unwritten.opening, unwritten.closing)
    assert sorted(map(str, written.totals)) == sorted(map(str, unwritten.totals))


async def test_a_fact_told_late_stands_where_it_happened_and_moves_what_was_before(session):
    story = await shop.tell(session)
    november = date(2026, 11, 1), date(2026, 11, 30)
    before = await read(session, story, *november, now=story.ends_at)
    late = shop.Award(story.sari, 500, "goodwill", occurred_at=shop.NOON - 10 * shop.DAY)
    await shop.ledger.award(session, program_id=story.program_id, award=late, by="till", once=None, now=story.ends_at)
    after = await read(session, story, *november, now=story.ends_at)
    assert before.opening.available == 0
    assert after.opening.available == 500
    assert after.closing.available == before.closing.available + 500
    assert [entry.available_after - 500 for entry in after.entries] == [e.available_after for e in before.entries]
    assert [entry.transaction_id for entry in after.entries] == [entry.transaction_id for entry in before.entries]


async def test_the_story_by_kind(session):
    story = await shop.tell(session)
    statement = await read(session, story, date(2026, 11, 1), date(2026, 12, 31), now=story.ends_at)
    adds_up(statement)
    assert {total.kind: (total.count, total.available + total.pending + total.held) for total in statement.totals} == {
        "earn": (8, 339), "redeem": (3, -150), "adjust": (2, -195), "expire": (1, -20), "activate": (1, 0),
        "reverse": (2, 120),
    }  # fmt: skip
    assert [total.kind for total in statement.totals] == sorted(
        (total.kind for total in statement.totals), key=KINDS.index
    )
    assert (statement.closing.available, statement.closing.pending) == (69, 25)


async def test_the_days_are_those_of_the_program(session):
    story = await shop.tell(session)
    midnight = datetime(2026, 12, 24, 17, 0, tzinfo=UTC)  # the 25th begins in Jakarta
    for at, points in ((midnight - timedelta(microseconds=1), 1_000), (midnight, 2_000)):
        await shop.award(session, story, points, now=at)
    the_25th = await read(session, story, date(2026, 12, 25), date(2026, 12, 25), now=midnight + shop.DAY)
    assert [entry.points for entry in the_25th.entries] == [2_000]
    assert the_25th.opening.available == 69 + 25 + 1_000


async def test_what_time_has_done_is_there_before_anybody_writes_it(session):
    story = await shop.tell(session)
    ends_at = story.ends_at + shop.DAY
    await shop.award(session, story, 9, now=story.ends_at, expires_at=ends_at)
    seen = await read(session, story, date(2026, 12, 1), date(2026, 12, 31), now=ends_at)
    assert [(e.kind, e.transaction_id, e.occurred_at, e.available) for e in seen.entries[-1:]] == [
        ("expire", None, ends_at, -9)
    ]
    assert seen.closing.available == 69
    before = await read(session, story, date(2026, 12, 1), date(2026, 12, 11), now=ends_at)
    assert [entry.kind for entry in before.entries].count("expire") == 0
    assert before.closing.available == 78
    after = await read(session, story, date(2026, 12, 13), date(2026, 12, 31), now=ends_at)
    assert (after.opening.available, after.entries) == (69, [])
    assert (
        await read(session, story, date(2026, 12, 1), date(2026, 12, 31), now=ends_at - HOUR)
    ).closing.available == 78


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, (date(2026, 11, 1), date(2026, 11, 30))),
        (date(2026, 12, 3), None, (date(2026, 12, 3), date(2026, 12, 11))),
        (None, date(2026, 10, 20), (date(2026, 10, 1), date(2026, 10, 20))),
        (date(2025, 12, 31), date(2026, 12, 31), (date(2025, 12, 31), date(2026, 12, 31))),
        (date(2025, 12, 30), date(2026, 12, 31), None),
        (date(2026, 12, 2), date(2026, 12, 1), None),
        (date(2027, 1, 1), None, None),
    ],
)
async def test_the_days_left_out_are_those_most_asked_for(session, first, last, expected):
    story = await shop.tell(session)
    if expected is None:
        with pytest.raises(InvalidPeriod):
            await read(session, story, first, last, now=story.ends_at)
        return
    statement = await read(session, story, first, last, now=story.ends_at)
    assert (statement.starts_on, statement.ends_on) == expected


async def test_who_has_no_account_gets_zeros_and_who_is_unknown_is_refused(session):
    story = await shop.tell(session)
    stranger = uuid4()
    with pytest.raises(ContactNotFound):
        await statements.read(
            session, program_id=story.program_id, contact_id=stranger, first=None, last=None, now=story.ends_at
        )
    await session.execute(
        "INSERT INTO contacts (id, name, created_at, updated_at) VALUES ($1, 'Tia', now(), now())", stranger
    )
    statement = await statements.read(
        session, program_id=story.program_id, contact_id=stranger, first=None, last=None, now=story.ends_at
    )
    assert statement.opening == statement.closing == statements.OpenPoints(0, 0, 0)
    assert (statement.entries, statement.totals, statement.omitted) == ([], [], None)


async def test_what_is_posted_while_a_statement_is_read_is_not_in_it(session, monkeypatch):
    story = await shop.tell(session)
    found_first = statements.journal.read

    async def overtaken(*args: Any, **asked: Any) -> Any:
        found = await found_first(*args, **asked)
        await shop.award(session, story, 1_000, now=story.ends_at)
        return found

    monkeypatch.setattr(statements.journal, "read", overtaken)
    statement = await read(session, story, date(2026, 11, 1), date(2026, 12, 31), now=story.ends_at)
    adds_up(statement)
    assert statement.closing.available == 69
    assert 1_000 not in [entry.points for entry in statement.entries]


async def test_a_statement_costs_the_same_few_statements_however_long_it_is(session, statements: list[str]):
    story = await shop.tell(session)
    await read(session, story, date(2026, 11, 1), date(2026, 12, 31), now=story.ends_at)
    statements.clear()
    await read(session, story, date(2026, 11, 1), date(2026, 12, 31), now=story.ends_at)
    assert len(statements) == 3
