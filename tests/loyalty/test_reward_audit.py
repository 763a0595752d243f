"""The audit names every unit of a stock, every use and every code that is not accounted for."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from crm.loyalty import audit
from tests.loyalty.shelf import Shelf

MANUAL = "contact_id = $1 AND status = 'fulfilled'"
CODED = "contact_id = $1 AND status = 'used'"


@dataclass(frozen=True, slots=True)
class Crime:
    """A statement about Sari ($1), and what must be found, at least."""

    statement: str
    what: str
    place: str


CRIMES = {
    "a unit that vanished": Crime(
        "UPDATE reward_stocks SET remaining = remaining - 1 WHERE $1 <> reward_id", "reward.stock", "reward "
    ),
    "a unit from nowhere": Crime(
        "UPDATE redemptions SET stock_taken = 0 WHERE stock_taken > 0 AND contact_id = $1", "reward.stock", "reward "
    ),
    "a stock that is gone": Crime("DELETE FROM reward_stocks WHERE $1 <> reward_id", "reward.stock", "reward "),
    "a redemption of nothing": Crime(
        f"UPDATE redemptions SET reward_id = gen_random_uuid() WHERE {MANUAL}", "reward.stock", "reward "
    ),
    "points of a reward": Crime(
        f"UPDATE redemptions SET points = points + 1 WHERE {MANUAL}", "redemption.points", "redemption "
    ),
    "a reward that became money": Crime(
        f"UPDATE redemptions SET reward_id = NULL, status = 'redeemed' WHERE {MANUAL}", "redemption.reward_id",
        "redemption ",
    ),
    "a reward brought back without its points": Crime(
        f"UPDATE redemptions SET status = 'reversed' WHERE {MANUAL}", "redemption.status", "redemption "
    ),
    "a reward kept after it was brought back": Crime(
        "UPDATE redemptions SET status = 'requested' WHERE contact_id = $1 AND status = 'reversed'",
        "redemption.status", "redemption ",
    ),
    "a voucher unused": Crime(f"UPDATE redemptions SET status = 'issued' WHERE {CODED}", "redemption.status",
                              "redemption "),
    "a voucher cancelled": Crime(
        "UPDATE vouchers SET cancelled_at = now() WHERE contact_id = $1 AND redemption_id IS NOT NULL",
        "redemption.status", "redemption ",
    ),
    "a voucher of another redemption": Crime(
        f"UPDATE redemptions SET voucher_id = gen_random_uuid() WHERE {CODED}", "redemption.voucher", "redemption "
    ),
    "a voucher that is gone": Crime(
        "DELETE FROM vouchers WHERE contact_id = $1 AND redemption_id IS NOT NULL", "redemption.voucher", "redemption "
    ),
    "a use more": Crime("UPDATE vouchers SET uses_left = uses_left + 1 WHERE code = 'SHARED' AND contact_id <> $1",
                        "voucher.uses_left", "voucher "),
    "a use that vanished": Crime("DELETE FROM voucher_uses WHERE contact_id = $1", "voucher.uses_left", "voucher "),
    "a use rolled back by hand": Crime(
        "UPDATE voucher_uses SET rolled_back_at = now() WHERE contact_id = $1", "voucher.uses_left", "voucher "
    ),
    "a ref that is free again": Crime(
        "DELETE FROM voucher_use_directory WHERE contact_id = $1", "voucher_use_directory.use_id", "voucher "
    ),
    "a code that is unknown": Crime(
        "DELETE FROM code_directory WHERE contact_id = $1", "code_directory.contact_id", "voucher "
    ),
    "a code of somebody else": Crime(
        "UPDATE code_directory SET contact_id = gen_random_uuid() WHERE contact_id = $1", "code_directory.contact_id",
        "voucher ",
    ),
}  # fmt: skip


@pytest.fixture
async def sari(client: Any) -> UUID:
    """Has seen every kind of reward and voucher."""
    shelf = await Shelf.open(client)
    sari = await shelf.member(points=5000)
    counted = await shelf.reward(stock=9)
    coded, pooled, free = [
        await shelf.reward(**facts) for facts in ({"fulfilment": "voucher"}, {"fulfilment": "voucher"}, {"cost": 0})
    ]
    await shelf.pool(codes=["KINO-1", "KINO-2"], reward_id=pooled["id"])
    bought = [
        (await shelf.get_reward(sari, reward, **facts)).json()
        for reward, facts in (
            (counted, {"quantity": 2}), (counted, {}), (counted, {}), (coded, {}), (pooled, {}), (free, {}), (free, {}),
        )
    ]  # fmt: skip
    await shelf.advance(sari, bought[0]["id"], "fulfilled")
    await shelf.reverse(sari, bought[1]["id"])
    await shelf.reverse(sari, bought[2]["id"], write_off=True)
    await shelf.use(bought[3]["voucher"]["code"], sari, "INV-1")
    await shelf.reverse(sari, bought[4]["id"])
    await shelf.reverse(sari, bought[5]["id"])
    await shelf.voucher(code="SHARED", uses_max=5)
    await shelf.voucher(code="ENDLESS")
    back = (await shelf.use("SHARED", sari, "INV-1")).json()
    await shelf.use("SHARED", sari, "INV-2")
    await shelf.use("ENDLESS", sari, "INV-2")
    assert await shelf.roll_back("SHARED", back["id"]) == 204
    await shelf.change(counted, stock=4)
    return sari


async def test_what_the_verbs_wrote_is_sound(session, sari):
    assert (await audit.verify(session)).findings == []
    assert await session.fetchval("SELECT count(*) FROM redemptions WHERE stock_taken > 0") == 2


@pytest.mark.parametrize("crime", CRIMES.values(), ids=CRIMES)
async def test_a_changed_value_is_found_and_named(session, sari, crime):
    assert await session.execute(crime.statement, sari), "nothing was changed"

    findings = (await audit.verify(session)).findings

    assert any(each.what == crime.what and (each.place or "").startswith(crime.place) for each in findings), findings
    assert {each.contact_id for each in findings} <= {sari, None}
    assert all(each.expected != each.found for each in findings)


async def test_expected_and_found_are_told(session, sari):
    await session.execute("UPDATE reward_stocks SET remaining = remaining + 3")
    [finding] = (await audit.verify(session)).findings
    assert (finding.what, finding.expected, finding.found) == ("reward.stock", "4", "7")
