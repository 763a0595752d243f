"""The audit names every claim, count and code of an offer that is not accounted for."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from crm.loyalty import audit
from tests.loyalty.market import DOUBLE, VOUCHER, Market

_POINTS = "contact_id = $1 AND benefit ->> 'kind' = 'bonus_points' AND number = 1"


@dataclass(frozen=True, slots=True)
class Crime:
    """A statement about Sari ($1), and what must be found, at least."""

    statement: str
    what: str
    place: str


CRIMES = {
    "points without a claim": Crime(f"DELETE FROM offer_claims WHERE {_POINTS}", "offer_claim", "transaction "),
    "a claim without its points": Crime(
        f"UPDATE offer_claims SET transaction_id = gen_random_uuid() WHERE {_POINTS}", "offer_claim.transaction_id",
        "claim ",
    ),
    "a claim of other points": Crime(
        f"UPDATE offer_claims SET points = points + 1 WHERE {_POINTS}", "offer_claim.points", "claim "
    ),
    "a gap between claims": Crime(
        "UPDATE offer_claims SET number = 7 WHERE contact_id = $1 AND number = 2", "offer_claim.number", "claim "
    ),
    "a claim without its voucher": Crime(
        "UPDATE offer_claims SET voucher_id = NULL WHERE contact_id = $1 AND voucher_id IS NOT NULL",
        "offer_claim.voucher_id", "claim ",
    ),
    "a voucher that is gone": Crime(
        "DELETE FROM vouchers WHERE contact_id = $1 AND redemption_id IS NULL", "offer_claim.voucher_id", "claim "
    ),
    "a claim without its reward": Crime(
        "UPDATE offer_claims SET redemption_id = NULL WHERE contact_id = $1 AND redemption_id IS NOT NULL",
        "offer_claim.redemption_id", "claim ",
    ),
    "a claim that nobody was told of": Crime(
        "DELETE FROM interactions WHERE contact_id = $1 AND kind = 'offer.claimed'", "offer_claim.timeline", "claim "
    ),
    "a claim too many": Crime(
        "UPDATE offer_counts SET claimed = claimed - 1 WHERE claimed > 0 AND $1 <> offer_id", "offer.claimed", "offer "
    ),
    "a claim that was not counted": Crime("DELETE FROM offer_counts WHERE $1 <> offer_id", "offer.claimed", "offer "),
    "a count that nothing limits": Crime(
        "INSERT INTO offer_counts SELECT program_id, id, 0 FROM offers WHERE definition ->> 'claims_max' IS NULL "
        "AND $1 <> id", "offer.claimed", "offer ",
    ),
    "a code that is unknown": Crime(
        "DELETE FROM code_directory WHERE contact_id = $1 AND kind = 'offer'", "code_directory.contact_id", "offer "
    ),
    "a code of somebody else": Crime(
        "UPDATE code_directory SET contact_id = gen_random_uuid() WHERE contact_id = $1 AND kind = 'offer'",
        "code_directory.contact_id", "offer ",
    ),
    "a code that was forgotten": Crime(
        "UPDATE offer_recipients SET code = NULL WHERE contact_id = $1", "code_directory.contact_id", "offer "
    ),
}  # fmt: skip


@pytest.fixture
async def sari(client: Any) -> UUID:
    """Has claimed every kind of offer."""
    market = await Market.open(client)
    sari, budi = await market.member(), await market.member()
    reward = await market.reward(fulfilment="voucher", stock=5)
    twice = await market.offer(claims_max=9, claims_max_per_member=2)
    for contact_id in (sari, budi, sari):
        await market.claimed(contact_id, twice)
    for benefit in (VOUCHER, DOUBLE, {"kind": "reward", "reward_id": reward["id"]}):
        await market.claimed(sari, await market.offer(sari, benefit=benefit, personal_code=True))
    await market.offer(claims_max=3)
    await market.end_offer(twice)
    return sari


async def test_what_the_verbs_wrote_is_sound(session, sari):
    assert (await audit.verify(session)).findings == []
    assert await session.fetchval("SELECT count(*) FROM offer_claims") == 6


@pytest.mark.parametrize("crime", CRIMES.values(), ids=CRIMES)
async def test_a_changed_value_is_found_and_named(session, sari, crime):
    for table in ("offer_claims", "interactions"):
        await session.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert await session.execute(crime.statement, sari), "nothing was changed"

    findings = (await audit.verify(session)).findings

    assert any(each.what == crime.what and (each.place or "").startswith(crime.place) for each in findings), findings
    assert all(each.expected != each.found for each in findings)
