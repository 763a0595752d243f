"""Rewards without points: given once for each natural key, within the post that gives them, and taken back unused."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from crm.db.session import Session
from crm.loyalty import audit, catalogue, fulfilment, journal, redemptions, rewards, voucher_uses
from crm.loyalty.catalogue import RewardNotFound
from crm.loyalty.rewards import Granted, NotEligible, OutOfStock
from tests.loyalty import story
from tests.loyalty.story import Story

NOW = datetime(2027, 1, 10, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Giver:
    """Grants to Sari, as the entry into a tier would."""

    session: Session
    story: Story

    async def reward(self, *, stock: int | None = None, **facts: Any) -> UUID:
        definition = {"name": "Cake", "cost": 500, **facts}
        made = await catalogue.create(
            self.session, program_id=self.story.program_id, definition=definition, stock=stock, now=NOW
        )
        return made.id

    async def lock(self) -> journal.Locked:
        return await journal.lock(
            self.session, program_id=self.story.program_id, contact_ids=[self.story.sari], now=NOW
        )

    async def grant(self, reward_id: UUID, key: str = "tier:gold:2027") -> tuple[Granted, bool]:
        locked = await self.lock()
        return await rewards.grant(
            self.session, locked=locked, contact_id=self.story.sari, reward_id=reward_id, cause="tier", natural_key=key,
            by="system", now=NOW,
        )  # fmt: skip

    async def cancel(self, key: str = "tier:gold:2027") -> bool:
        locked = await self.lock()
        return await rewards.cancel(
            self.session, locked=locked, contact_id=self.story.sari, natural_key=key, by="system", now=NOW
        )

    async def stock(self, reward_id: UUID) -> int | None:
        return (await catalogue.get(self.session, program_id=self.story.program_id, reward_id=reward_id)).stock

    async def kept(self, granted: Granted) -> redemptions.RedemptionView:
        return await redemptions.get(self.session, contact_id=self.story.sari, redemption_id=granted.id)

    async def told(self) -> list[str]:
        """Of rewards and vouchers, in the order it was told."""
        rows = await self.session.fetch(
            "SELECT kind FROM interactions WHERE kind LIKE 'reward.%' OR kind LIKE 'voucher.%' ORDER BY id"
        )
        return [row["kind"] for row in rows]


@pytest.fixture
async def giver(session: Session) -> Giver:
    return Giver(session, await story.tell(session))


@pytest.fixture(autouse=True)
async def _audited(giver: Giver):
    yield
    assert (await audit.verify(giver.session)).findings == []


async def test_a_reward_is_granted_once_for_each_natural_key(giver):
    reward = await giver.reward(stock=5)
    movements = await giver.session.fetchval("SELECT count(*) FROM points_movements")
    first, created = await giver.grant(reward)
    again, repeated = await giver.grant(reward)
    assert (created, repeated, again) == (True, False, first)
    assert (first.reward_id, first.status, first.voucher) == (reward, "requested", None)
    other, created = await giver.grant(reward, "tier:gold:2028")
    assert created
    assert other.id != first.id
    assert await giver.stock(reward) == 3
    kept = await giver.kept(first)
    assert (kept.points, kept.cause, kept.status, kept.reward.name) == (0, "tier", "requested", "Cake")
    assert await giver.told() == ["reward.granted"] * 2
    assert await giver.session.fetchval("SELECT count(*) FROM points_movements") == movements


async def test_a_granted_voucher_comes_with_its_code(giver):
    reward = await giver.reward(fulfilment="voucher", valid_days=10)
    first, _ = await giver.grant(reward)
    assert first.status == "issued"
    assert first.voucher.expires_at == datetime(2027, 1, 20, 17, 0, tzinfo=UTC)
    assert (await giver.grant(reward))[0] == first
    assert await giver.told() == ["reward.granted", "voucher.issued"]


async def test_who_grants_asks_for_neither_limits_nor_tiers_nor_windows(giver):
    terms = {"limits": [{"times": 1, "per": "lifetime"}], "window": {"to": "2020-01-01"}, "status": "draft"}
    reward = await giver.reward(**terms)
    for number in range(2):
        assert (await giver.grant(reward, f"key-{number}"))[1]


async def test_what_was_granted_uses_up_no_limit(giver):
    reward = await giver.reward(cost=0, limits=[{"times": 1, "per": "lifetime"}])
    await giver.grant(reward)
    _, created = await rewards.redeem(
        giver.session, program_id=None, contact_id=giver.story.sari, reward_id=reward, quantity=1, order_ref=None,
        place={}, by="till", once=None, now=NOW,
    )  # fmt: skip
    assert created


@pytest.mark.parametrize("fulfilment", ["manual", "voucher"])
async def test_a_refused_grant_leaves_the_post_as_it_was(giver, fulfilment):
    sold_out = await giver.reward(stock=0, fulfilment=fulfilment)
    ended = await giver.reward()
    await catalogue.end(giver.session, program_id=giver.story.program_id, reward_id=ended, now=NOW)
    with pytest.raises(OutOfStock):
        await giver.grant(sold_out)
    with pytest.raises(NotEligible):
        await giver.grant(ended)
    with pytest.raises(RewardNotFound):
        await giver.grant(giver.story.sari)
    assert await giver.session.fetchval("SELECT count(*) FROM vouchers") == 0
    assert await giver.session.fetchval("SELECT count(*) FROM code_directory") == 0
    assert await giver.told() == []
    await giver.session.execute("UPDATE reward_stocks SET stocked = 1, remaining = 1")
    assert (await giver.grant(sold_out))[1]


@pytest.mark.parametrize("kind", ["manual", "voucher"])
async def test_an_unused_grant_is_taken_back_once(giver, kind):
    reward = await giver.reward(stock=5, fulfilment=kind)
    granted, _ = await giver.grant(reward)
    assert await giver.cancel()
    assert await giver.cancel()
    assert await giver.stock(reward) == 5
    assert (await giver.kept(granted)).status == "reversed"
    assert (await giver.told()).count("reward.returned") == 1
    # It was given once and for all.
    assert (await giver.grant(reward))[0].status == "reversed"


async def test_what_was_never_granted_is_taken_back_without_further_ado(giver):
    assert await giver.cancel("nothing")


async def test_a_grant_that_was_used_or_handed_over_stays(giver):
    coffee, cake = await giver.reward(fulfilment="voucher"), await giver.reward()
    used, _ = await giver.grant(coffee, "coffee")
    given, _ = await giver.grant(cake, "cake")
    await voucher_uses.use(
        giver.session, code=used.voucher.code, contact_id=giver.story.sari, ref="1", by="till", once=None, now=NOW
    )
    await fulfilment.advance(
        giver.session, contact_id=giver.story.sari, redemption_id=given.id, status="fulfilled", by="till", now=NOW
    )
    assert not await giver.cancel("coffee")
    assert not await giver.cancel("cake")
    assert [(await giver.kept(each)).status for each in (used, given)] == ["used", "fulfilled"]


async def test_a_grant_can_be_reversed_like_what_was_bought(giver):
    reward = await giver.reward(stock=5)
    granted, _ = await giver.grant(reward)
    returned, created = await redemptions.reverse(
        giver.session, contact_id=giver.story.sari, redemption_id=granted.id, reason=None, by="till", once=None, now=NOW
    )
    assert (created, returned.points, returned.transaction_id) == (True, 0, None)
    assert await giver.stock(reward) == 5
