"""The audit finds nothing in a ledger that the verbs wrote, and names every value that somebody else changed."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest

from crm.db.session import Database, Session
from crm.loyalty import audit
from crm.loyalty.books import InsufficientPoints
from tests.loyalty import story as shop
from tests.loyalty.story import Story

ACCOUNT = "WHERE contact_id = $1"
RESTS = "(SELECT id FROM points_lots WHERE contact_id = $1 AND active AND remaining BETWEEN 1 AND amount - 1)"
MOVED = "points_movements WHERE contact_id = $1"
LAST_TRANSACTION = "(SELECT id FROM points_transactions WHERE contact_id = $1 ORDER BY seq DESC LIMIT 1)"
FORGED = """
    INSERT INTO interactions (contact_id, id, occurred_at, recorded_at, channel, kind, by)
    VALUES ($1, gen_random_uuid(), now(), now(), 'loyalty', 'points.earned', 'nobody')
"""


@dataclass(frozen=True, slots=True)
class Crime:
    """A statement about Sari ($1), and what must be found, at least."""

    statement: str
    what: str
    place: str | None = None


def account(change: str, what: str) -> Crime:
    return Crime(f"UPDATE loyalty_accounts SET {change} {ACCOUNT}", what)


def lot(change: str, what: str) -> Crime:
    return Crime(f"UPDATE points_lots SET {change} {ACCOUNT} AND id = {RESTS}", what, "lot ")


def movement(seq: int, change: str, what: str, place: str | None = None) -> Crime:
    return Crime(f"UPDATE points_movements SET {change} {ACCOUNT} AND seq = {seq}", what, place or f"seq {seq}")


def transaction(change: str, what: str) -> Crime:
    return Crime(f"UPDATE points_transactions SET {change} {ACCOUNT} AND id = {LAST_TRANSACTION}", what, "transaction ")


def event(change: str, what: str, name: str = "review") -> Crime:
    return Crime(f"UPDATE loyalty_events SET {change} {ACCOUNT} AND event = '{name}'", what, "event ")


CRIMES = {
    "available": account("available = available + 1", "account.available"),
    "pending": account("pending = pending + 1", "account.pending"),
    "held": account("held = held + 1", "account.held"),
    "deficit": account("deficit = deficit + 1", "account.deficit"),
    "earned": account("lifetime_earned = lifetime_earned - 1", "account.lifetime_earned"),
    "redeemed": account("lifetime_redeemed = lifetime_redeemed - 1", "account.lifetime_redeemed"),
    "seq": account("seq = seq + 1", "account.seq"),
    "digest": account("digest = sha256(digest)", "account.digest"),
    "balances that differ from the lots": account("available = available + 1", "lots.available"),
    "points that would never expire": account("next_due_at = NULL", "account.next_due_at"),
    "points that would expire too late": account("next_due_at = next_due_at + '1 s'", "account.next_due_at"),
    "account gone": Crime(f"DELETE FROM loyalty_accounts {ACCOUNT}", "account"),
    "points from nowhere": account("available = available + 1", "program.issued"),
    "lot remaining": lot("remaining = remaining - 1", "lot.remaining"),
    "lot held": lot("held = held + 1", "lot.held"),
    "lot amount": lot("amount = amount + 1", "lot.amount"),
    "lot inactive": lot("active = false", "lot.active"),
    "lot gone": Crime(f"DELETE FROM points_lots {ACCOUNT} AND id = {RESTS}", "lot", "lot "),
    "lot invented": Crime(
        f"""
        INSERT INTO points_lots (contact_id, program_id, id, kind, amount, remaining, active, qualifying, earned_at)
        SELECT contact_id, program_id, gen_random_uuid(), 'regular', 5, 5, true, true, now() FROM loyalty_accounts
        {ACCOUNT}
        """,
        "lot.movements",
        "lot ",
    ),
    "movement points": movement(4, "points = points + 1", "movement.digest"),
    "movement points and its balance": movement(4, "points = points + 1", "movement.available_after"),
    "movement points and its lot": movement(4, "points = points + 1", "lot.remaining", "lot "),
    "movement points and its fact": movement(4, "points = points + 1", "transaction.points", "transaction "),
    "movement points beyond all numbers": movement(4, "points = 9223372036854775807", "movement.available_after"),
    "movement digest": movement(4, "digest = sha256(digest)", "movement.digest"),
    "movement bucket": movement(4, "to_bucket = 'expired'", "movement.digest"),
    "movement lot": movement(4, "lot_id = gen_random_uuid()", "movement.digest"),
    "movement time": movement(4, "occurred_at = occurred_at - '1 us'::interval", "movement.digest"),
    "movement without a time": movement(4, "occurred_at = 'infinity'", "movement.digest"),
    "movement recorded": movement(4, "recorded_at = recorded_at - '1 us'::interval", "movement.digest"),
    "movement of another transaction": movement(
        4, f"transaction_id = {LAST_TRANSACTION}", "transaction.movements", "transaction "
    ),
    "movement available": movement(4, "available_after = available_after + 1", "movement.available_after"),
    "movement pending": movement(4, "pending_after = pending_after + 1", "movement.pending_after"),
    "movement held": movement(4, "held_after = held_after + 1", "movement.held_after"),
    "balances swapped": Crime(
        """
        UPDATE points_movements m SET available_after = o.available_after FROM points_movements o
        WHERE m.contact_id = $1 AND o.contact_id = $1 AND m.seq IN (4, 5) AND o.seq = 9 - m.seq
        """,
        "movement.available_after",
        "seq 4",
    ),
    "movement gone": Crime(f"DELETE FROM {MOVED} AND seq = 4", "movement.seq", "seq 5"),
    "first movement gone": Crime(f"DELETE FROM {MOVED} AND seq = 1", "movement.seq", "seq 2"),
    "last movement gone": Crime(f"DELETE FROM {MOVED} AND seq = (SELECT max(seq) FROM {MOVED})", "account.seq"),
    "transaction points": transaction("points = points + 1", "transaction.points"),
    "transaction balance": transaction("available_after = available_after + 1", "transaction.available_after"),
    "transaction first_seq": transaction("first_seq = first_seq - 1", "transaction.first_seq"),
    "transaction seq": transaction("seq = seq + 1", "transaction.seq"),
    "transaction time": transaction("occurred_at = occurred_at + '1 us'::interval", "transaction.occurred_at"),
    "transaction recorded": transaction("recorded_at = recorded_at + '1 us'::interval", "transaction.recorded_at"),
    "transaction gone": Crime(
        f"DELETE FROM points_transactions {ACCOUNT} AND id = {LAST_TRANSACTION}", "transaction", "transaction "
    ),
    "transaction without movements": Crime(
        f"DELETE FROM {MOVED} AND transaction_id = {LAST_TRANSACTION}", "transaction.movements", "transaction "
    ),
    "award untold": Crime(f"DELETE FROM interactions {ACCOUNT} AND kind = 'points.earned'", "timeline", "transaction "),
    "purchase untold": Crime(f"DELETE FROM interactions {ACCOUNT} AND kind = 'purchase'", "timeline", "transaction "),
    "told as something else": Crime(
        f"UPDATE interactions SET kind = 'note' {ACCOUNT} AND kind = 'points.expired'", "timeline", "transaction "
    ),
    "told without happening": Crime(FORGED, "timeline.transaction", "transaction "),
    "purchase points": Crime(
        f"UPDATE purchases SET points = points + 1 {ACCOUNT} AND order_ref = 'INV-1'", "purchase.points", "order INV-1"
    ),
    "purchase without an award": Crime(
        f"UPDATE purchases SET points = 5 {ACCOUNT} AND order_ref = 'INV-2'", "purchase.points", "order INV-2"
    ),
    "purchase of another award": Crime(
        f"UPDATE purchases SET transaction_id = gen_random_uuid() {ACCOUNT} AND order_ref = 'INV-1'",
        "purchase.transaction_id",
        "order INV-1",
    ),
    "purchase renamed": Crime(
        f"UPDATE purchases SET order_ref = 'INV-9' {ACCOUNT} AND order_ref = 'INV-1'",
        "purchase.order_ref",
        "order INV-9",
    ),
    "purchase of another program": Crime(
        f"UPDATE purchases SET program_id = gen_random_uuid() {ACCOUNT} AND order_ref = 'INV-1'",
        "purchase.program_id",
        "order INV-1",
    ),
    "purchase gone": Crime(f"DELETE FROM purchases {ACCOUNT} AND order_ref = 'INV-1'", "purchase", "transaction "),
    "order of somebody else": Crime(
        f"UPDATE order_directory SET contact_id = gen_random_uuid() {ACCOUNT} AND order_ref = 'INV-2'",
        "order_directory.contact_id",
        "order INV-2",
    ),
    "order unknown": Crime(
        f"DELETE FROM order_directory {ACCOUNT} AND order_ref = 'R-1'", "order_directory.contact_id", "redemption "
    ),
    "redemption points": Crime(
        f"UPDATE redemptions SET points = points + 1 {ACCOUNT} AND order_ref = 'R-1'",
        "redemption.points",
        "redemption ",
    ),
    "redemption not reversed": Crime(
        f"UPDATE redemptions SET status = 'redeemed' {ACCOUNT} AND order_ref = 'R-1'",
        "redemption.status",
        "redemption ",
    ),
    "redemption reversed by another": Crime(
        f"UPDATE redemptions SET reversal_id = id {ACCOUNT} AND order_ref = 'R-1'",
        "redemption.reversal_id",
        "redemption ",
    ),
    "redemption renamed": Crime(
        f"UPDATE redemptions SET order_ref = 'R-9' {ACCOUNT} AND order_ref = 'R-1'",
        "redemption.order_ref",
        "redemption ",
    ),
    "redemption of another program": Crime(
        f"UPDATE redemptions SET program_id = gen_random_uuid() {ACCOUNT} AND order_ref = 'R-1'",
        "redemption.program_id",
        "redemption ",
    ),
    "redemption invented": Crime(
        f"""
        INSERT INTO redemptions (contact_id, id, program_id, points, status, occurred_at, recorded_at)
        SELECT contact_id, gen_random_uuid(), program_id, 5, 'redeemed', now(), now() FROM loyalty_accounts {ACCOUNT}
        """,
        "redemption.transaction",
        "redemption ",
    ),
    "redemption gone": Crime(f"DELETE FROM redemptions {ACCOUNT} AND order_ref IS NULL", "redemption", "redemption "),
    "event points": event("points = points + 1", "event.points"),
    "event of another award": event("transaction_id = gen_random_uuid()", "event.transaction_id"),
    "event of another program": event("program_id = gen_random_uuid()", "event.program_id"),
    "event renamed": event("event = 'birthday'", "event.event"),
    "event without an award": event("points = 5", "event.points", name="visit"),
    "event gone": Crime(f"DELETE FROM loyalty_events {ACCOUNT} AND event = 'review'", "event", "transaction "),
    "event untold": Crime(f"DELETE FROM interactions {ACCOUNT} AND kind = 'event'", "event.timeline", "event "),
}


@pytest.fixture
async def story(session: Session) -> Story:
    return await shop.tell(session)


async def test_a_ledger_that_the_verbs_wrote_is_sound(session, story):
    report = await audit.verify(session)

    assert report.findings == []
    assert report.complete
    [totals] = report.totals
    assert totals.accounts == 3
    assert totals.movements == await session.fetchval("SELECT count(*) FROM points_movements")
    assert totals.issued == sum(totals.open.values()) + sum(totals.gone.values())
    assert totals.gone == {"redeemed": 20, "expired": 30, "revoked": 200, "transferred": 0}


async def test_an_empty_ledger_is_sound(session):
    assert await audit.verify(session) == audit.Report()


@pytest.mark.parametrize("crime", CRIMES.values(), ids=CRIMES)
async def test_a_changed_value_is_found_and_named(session, story, crime):
    await commit(session, crime.statement, story.sari)

    findings = (await audit.verify(session)).findings

    assert any(
        finding.what == crime.what and (finding.place or "").startswith(crime.place or "") for finding in findings
    ), findings
    assert {finding.contact_id for finding in findings} <= {story.sari, None}
    assert all(finding.expected != finding.found for finding in findings)


async def test_expected_and_found_are_told(session, story):
    await commit(session, f"UPDATE loyalty_accounts SET available = available + 100 {ACCOUNT}", story.sari)

    findings = {finding.what: finding for finding in (await audit.verify(session)).findings}

    assert findings["account.available"] == audit.Finding(
        story.program_id, story.sari, "account.available", None, "69", "169"
    )
    assert set(findings) == {"account.available", "lots.available", "program.issued"}


async def test_an_end_cut_off_without_a_trace_in_the_ledger_is_told_by_the_timeline(session, story):
    for statement in (
        f"DELETE FROM {MOVED} AND seq = 1",
        "DELETE FROM points_lots WHERE contact_id = $1",
        "DELETE FROM points_transactions WHERE contact_id = $1",
        "UPDATE loyalty_accounts SET available = 0, lifetime_earned = 0, seq = 0, digest = '' WHERE contact_id = $1",
    ):
        await commit(session, statement, story.budi)

    [finding] = (await audit.verify(session)).findings

    assert (finding.contact_id, finding.what, finding.found) == (story.budi, "timeline.transaction", "none")


async def test_a_report_says_when_there_is_more(session, story, monkeypatch):
    monkeypatch.setattr(audit, "FINDINGS_MAX", 1)
    await commit(session, "UPDATE points_lots SET qualifying = false, amount = amount + 1 WHERE kind = 'regular'")

    report = await audit.verify(session)

    assert not report.complete
    assert [finding.what for finding in report.findings] == ["lot.amount"]


async def test_a_ledger_is_sound_at_every_moment_while_it_is_written(database):
    async with database.begin() as session:
        story = await shop.tell(session)
    writers = [asyncio.create_task(write(database, story, number)) for number in range(4)]

    audits = 0
    while not all(writer.done() for writer in writers):
        async with database.begin() as session:
            await audit.freeze(session)
            report = await audit.verify(session)
        assert report.findings == []
        audits += 1
    await asyncio.gather(*writers)

    assert audits > 1
    assert report.totals[0].movements > 50


async def test_an_audit_cannot_write(database):
    with pytest.raises(Exception, match="read-only transaction"):
        async with database.begin() as session:
            await audit.freeze(session)
            await session.execute("DELETE FROM contacts")


async def commit(session: Session, statement: str, *args: UUID) -> None:
    for table in ("points_movements", "points_transactions", "interactions", "loyalty_events"):
        await session.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert await session.execute(statement, *args), "nothing was changed"


async def write(database: Database, story: Story, number: int) -> None:
    for turn in range(30):
        now = story.ends_at + timedelta(hours=turn)
        async with database.begin() as session:
            await shop.award(session, story, turn + 1, now=now, expires_at=now + timedelta(hours=number + 1))
        async with database.begin() as session:
            await shop.buy(session, story, f"INV-{number}-{turn}", "20000", now=now)
        async with database.begin() as session:
            try:
                await shop.redeem(session, story, 15 + number, f"R-{number}-{turn}", now=now)
            except InsufficientPoints:
                continue
