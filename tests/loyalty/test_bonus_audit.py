"""The audit names every stamp, card and referral that does not follow from its fact."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from crm.loyalty import audit
from tests.loyalty.stampcards import Club

PAID = "contact_id = $1 AND status = 'paid'"
GRANTED = "contact_id = $1 AND status = 'granted'"
REVERSED = "contact_id = $1 AND status = 'reversed' AND transaction_id IS NOT NULL"
FRIEND = "contact_id = $1 AND role = 'referee'"


@dataclass(frozen=True, slots=True)
class Crime:
    """A statement about Sari ($1), and what must be found, at least."""

    statement: str
    what: str
    place: str


def progress(change: str, what: str) -> Crime:
    statement = f"UPDATE challenge_progress SET {change} WHERE contact_id = $1 AND completed BETWEEN 1 AND filled - 1"
    return Crime(statement, what, "challenge ")


def referral(change: str, what: str) -> Crime:
    return Crime(f"UPDATE referrals SET {change} WHERE {FRIEND}", what, "referral ")


CRIMES = {
    "a stamp too many": progress("total = total + 1", "challenge.total"),
    "a card too early": progress("due = due + 1, completed = completed + 1", "challenge.due"),
    "a number left out": progress("filled = filled + 1", "challenge.filled"),
    "a card that stands for nothing": progress("completed = completed + 1", "challenge.completed"),
    "progress that is gone": Crime("DELETE FROM challenge_progress WHERE contact_id = $1", "challenge.progress",
                                   "challenge "),
    "a streak that was longer": Crime(
        "UPDATE challenge_progress SET total = total + 1 WHERE contact_id = $1 AND runs <> '[]'", "challenge.total",
        "challenge ",
    ),
    "a card kept without a used reward": Crime(
        "UPDATE challenge_cards SET status = 'paid' WHERE contact_id = $1 AND status = 'kept'", "challenge.kept",
        "challenge ",
    ),
    "a stamp that is gone": Crime("DELETE FROM challenge_stamps WHERE contact_id = $1 AND ref = 'INV-1'",
                                  "stamp.stamps", "stamp purchase INV-1"),
    "a stamp that counts twice": Crime(
        "UPDATE challenge_stamps SET stamps = 2 WHERE contact_id = $1 AND ref = 'INV-1' AND cause = 'purchase'",
        "stamp.stamps", "stamp purchase INV-1",
    ),
    "a stamp of nothing": Crime(
        "UPDATE challenge_stamps SET ref = 'INV-9' WHERE contact_id = $1 AND ref = 'INV-1' AND cause = 'purchase'",
        "stamp.stamps", "stamp purchase INV-9",
    ),
    "a stamp taken back without a refund": Crime(
        "UPDATE challenge_stamps SET refund_ref = 'CN-9' WHERE contact_id = $1 AND cause = 'refund'", "stamp.refund",
        "stamp ",
    ),
    "a card that paid more": Crime(f"UPDATE challenge_cards SET points = points + 1 WHERE {PAID}", "card.points",
                                   "card "),
    "a card of another payment": Crime(
        f"UPDATE challenge_cards SET transaction_id = gen_random_uuid() WHERE {PAID}", "card.transaction_id", "card "
    ),
    "a payment without a card": Crime(f"DELETE FROM challenge_cards WHERE {PAID}", "card", "transaction "),
    "a card that gave less back": Crime(
        f"UPDATE challenge_cards SET points_taken_back = 0 WHERE {REVERSED}", "card.points_taken_back", "card "
    ),
    "a card back that stands": Crime(f"UPDATE challenge_cards SET status = 'paid' WHERE {REVERSED}", "card.status",
                                     "card "),
    "a card that fell by itself": Crime(
        f"UPDATE challenge_cards SET reversal_id = NULL WHERE {REVERSED}", "card.reversal_id", "card "
    ),
    "a card without its reward": Crime(
        f"UPDATE challenge_cards SET redemption_id = gen_random_uuid() WHERE {GRANTED}", "card.redemption_id", "card "
    ),
    "a card that never had its reward": Crime(
        f"UPDATE challenge_cards SET redemption_id = NULL WHERE {GRANTED}", "card.redemption_id", "card "
    ),
    "a reward without its card": Crime(f"DELETE FROM challenge_cards WHERE {GRANTED}", "card", "redemption "),
    "a promise of more": referral("points = points + 1", "referral.points"),
    "another order": referral("order_ref = 'INV-9'", "referral.order_ref"),
    "a referral that is open again": referral("status = 'pending'", "referral.status"),
    "a referral of another payment": referral("transaction_id = gen_random_uuid()", "referral.transaction_id"),
    "a referral that was never paid": referral("transaction_id = NULL", "referral.transaction_id"),
    "a referral that gave nothing back": referral("points_taken_back = 0", "referral.points_taken_back"),
    "a referral that fell by itself": referral("reversal_id = NULL", "referral.reversal_id"),
    "a referral of one side": Crime("DELETE FROM referrals WHERE contact_id <> $1 AND role = 'referrer'",
                                    "referral.other_id", "referral "),
    "a bonus without a referral": Crime(f"DELETE FROM referrals WHERE {FRIEND}", "referral", "transaction "),
    "a code that nobody finds": Crime(
        "DELETE FROM code_directory WHERE kind = 'referral' AND contact_id = $1", "code_directory.contact_id",
        "referral code",
    ),
}  # fmt: skip


@pytest.fixture
async def sari(client: Any) -> UUID:
    """Sari has come with a code and brought that order back; of her cards one is paid, one fell, one is granted, one
    kept, and a streak goes on."""
    club = await Club.open(client)
    await club.promise(hold_days=0)
    sari = await club.friend_of(await club.member())
    await club.code(sari)
    reward = await club.reward(fulfilment="voucher")
    await club.challenge(goal=2)
    kept = await club.challenge(goal=3, points=None, reward_id=reward["id"])
    await club.challenge(goal=3, kind="streak", per="month")
    await club.challenge(event="review", goal=1, points=None, reward_id=reward["id"])
    for number in (1, 2, 3):
        last = await club.visit(sari, f"INV-{number}", total="60000")
    [code] = [c["voucher"]["code"] for row in last["challenges"] for c in row["cards"] if c["voucher"]]
    assert (await club.use(code, sari, "R-1")).status_code == 201
    await club.visit(sari, "INV-4", total="60000")
    await club.refund(sari, "INV-1", amount="60000")
    await club.refund(sari, "INV-2", amount="60000")
    assert (await club.card(sari, kept))["owed"] == 1
    await club.happen(sari, "review", "r-1")
    return sari


async def test_what_the_verbs_wrote_is_sound(sari, session):
    assert (await audit.verify(session)).findings == []
    statuses = await session.fetch("SELECT DISTINCT status FROM challenge_cards")
    assert {row["status"] for row in statuses} == {"paid", "reversed", "kept", "granted"}


@pytest.mark.parametrize("crime", CRIMES.values(), ids=CRIMES)
async def test_what_somebody_else_changed_is_found_and_named(sari, session, crime):
    await session.execute("ALTER TABLE challenge_stamps DISABLE TRIGGER USER")
    for table in ("challenge_progress", "challenge_cards", "challenge_stamps", "referrals"):
        checks = await session.fetch(
            "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'", table
        )
        for check in checks:
            await session.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{check["conname"]}"')
    parameters = [sari] if "$1" in crime.statement else []
    assert await session.execute(crime.statement, *parameters), "nothing was changed"

    findings = (await audit.verify(session)).findings

    assert any(finding.what == crime.what and (finding.place or "").startswith(crime.place) for finding in findings), (
        findings
    )
    assert all(finding.expected != finding.found for finding in findings)
