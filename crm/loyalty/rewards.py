"""Rewards in members' hands: bought with points or granted, issued in the same transaction as their debit and stock.

The account is locked first and the stock, which many members share, last: it is taken by a statement that looks again
whether there is enough, after everything else is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from crm.db import idempotency
from crm.db.ids import uuid7
from crm.db.session import Session
from crm.db.writes import Insert, Update, write
from crm.errors import Conflict, CrmError, FieldError, Invalid
from crm.interactions import timeline
from crm.loyalty import (
    balances,
    catalogue,
    codes,
    eligibility,
    journal,
    redemptions,
    voucher_pools,
    vouchers,
)
from crm.loyalty.eligibility import Fulfilment, Member, Obstacle, Reward
from crm.loyalty.expiry import Expiry
from crm.loyalty.journal import Locked, OrderRefReused
from crm.loyalty.limits import Limit
from crm.loyalty.redemptions import Redemption, VoucherCode

_STATUS: Final[Mapping[Fulfilment, str]] = {"manual": "requested", "voucher": "issued"}
_NOT_ELIGIBLE: Final = frozenset({"not_started", "ended", "not_eligible", "tier_needed"})


class OutOfStock(Conflict):
    code = "out_of_stock"
    title = "There is none left of this reward"


class LimitReached(Conflict):
    code = "limit_reached"
    title = "As much of this as there may be was had already"


class NotEligible(Conflict):
    code = "not_eligible"
    title = "This member can't have this now"


class OneAtATime(Invalid):
    code = "one_at_a_time"
    title = "Of a reward with a pool of codes, one at a time can be had"


@dataclass(frozen=True, slots=True)
class Granted:
    """A reward that a member got without points."""

    id: UUID
    reward_id: UUID
    status: str
    voucher: VoucherCode | None


async def redeem(
    session: Session,
    *,
    program_id: UUID | None,
    contact_id: UUID,
    reward_id: UUID,
    quantity: int,
    order_ref: str | None,
    place: dict[str, str],
    by: str,
    once: idempotency.Request | None,
    now: datetime,
    claims_order: bool = True,
) -> tuple[Redemption, bool]:
    """Buy a reward with points. False beside one that the same order was redeemed for before.

    Of several, one redemption with one voucher that can be used so often. Of `order_ref` and `claims_order` holds what
    `redemptions.redeem` says. Raises RewardNotFound, NotEligible, LimitReached, OutOfStock, InsufficientPoints,
    OneAtATime, OrderRefReused, ContactNotFound.
    """
    program_id = await catalogue.program_of(session, program_id=program_id, reward_id=reward_id)
    locked = await journal.lock(
        session, program_id=program_id, contact_ids=[contact_id], now=now, lots_max=journal.LOTS_READ, once=once,
        order_refs=[order_ref] if order_ref and claims_order else [],
    )  # fmt: skip
    book = locked.member(contact_id)
    known = await redemptions.of_order(
        session, locked, contact_id=contact_id, order_ref=order_ref, reward_id=reward_id, claims_order=claims_order
    )
    if known is not None:
        if known.quantity != quantity:
            raise OrderRefReused(f"{known.quantity} of this reward were redeemed for this order; reverse that first.")
        answer = idempotency.answer(once, contact_id=contact_id, result=known, now=now, status=200)
        await journal.write_down(session, locked, facts=answer)
        return known, False
    reward = await catalogue.find(session, program_id=program_id, reward_id=reward_id)
    member = await catalogue.member(session, program=locked.program, book=book, rewards=[reward], now=now)
    _check(reward, member, quantity, now)
    points = reward.cost * quantity
    redemption_id = uuid7()
    if points:
        await journal.know_enough_lots(session, book=book, points=points, except_order=order_ref)
        transaction = book.open(
            "redeem", cause="reward", points=-points, occurred_at=now, by=by, order_ref=order_ref, place=place
        )
        book.spend(points, "redeemed", except_order=order_ref)
        book.redeem(points)
        redemption_id = transaction.id
    issued = await _issue(
        session, reward, locked, contact_id=contact_id, redemption_id=redemption_id, points=points, quantity=quantity,
        order_ref=order_ref, place=place, by=by,
    )  # fmt: skip
    redemption = Redemption(
        redemption_id, points, issued.status, reward.id, quantity, issued.voucher, balances.balance(book)
    )
    await journal.write_down(
        session,
        locked,
        facts=[
            *issued.facts,
            *redemptions.claim(locked, contact_id=contact_id, order_ref=order_ref if claims_order else None),
            *idempotency.answer(once, contact_id=contact_id, result=redemption, now=now),
        ],
        entries=issued.entries,
    )
    await _take_stock(session, reward, quantity)
    return redemption, True


async def grant(
    session: Session,
    *,
    locked: Locked,
    contact_id: UUID,
    reward_id: UUID,
    cause: str,
    natural_key: str,
    by: str,
    now: datetime,
) -> tuple[Granted, bool]:
    """Give a reward without points, once for each natural key; False beside one that was granted before.

    For a post that has `locked` the account. Neither limits nor windows, tiers or conditions of the reward are asked
    for: who grants has decided. Whoever grants several in one transaction does so in the order of their ids, because
    each stock stays locked to the end.
    Raises RewardNotFound, NotEligible for one that has ended, and OutOfStock; the post can go on without it.
    """
    known = await session.fetchrow(
        """
        SELECT r.id, r.reward_id, r.status, v.code, v.expires_at FROM redemptions r
        LEFT JOIN vouchers v ON v.contact_id = r.contact_id AND v.id = r.voucher_id
        WHERE r.contact_id = $1 AND r.program_id = $2 AND r.natural_key = $3
        """,
        contact_id, locked.program.id, natural_key,
    )  # fmt: skip
    if known is not None:
        voucher = VoucherCode(known["code"], known["expires_at"]) if known["code"] else None
        return Granted(known["id"], known["reward_id"], known["status"], voucher), False
    reward = await catalogue.find(session, program_id=locked.program.id, reward_id=reward_id)
    if reward.status == "ended":
        raise NotEligible("This reward has ended.", why_not=_told([Obstacle("ended")]))
    async with session.savepoint():
        issued = await _issue(
            session, reward, locked, contact_id=contact_id, redemption_id=uuid7(), points=0, quantity=1, by=by,
            cause=cause, natural_key=natural_key,
        )  # fmt: skip
        await write(session, [*issued.facts, timeline.part(issued.entries)])
        await _take_stock(session, reward, 1)
    return Granted(issued.redemption_id, reward.id, issued.status, issued.voucher), True


async def cancel(
    session: Session, *, locked: Locked, contact_id: UUID, natural_key: str, by: str, now: datetime
) -> bool:
    """Take a granted reward back, for a post that has `locked` the account; False where it was used or handed over.

    It goes back into the stock. One that was taken back before, or was never granted, changes nothing.
    """
    redemption_id = await session.fetchval(
        """
        SELECT id FROM redemptions
        WHERE contact_id = $1 AND program_id = $2 AND natural_key = $3 AND status <> 'reversed'
        """,
        contact_id, locked.program.id, natural_key,
    )  # fmt: skip
    if redemption_id is None:
        return True
    row = await redemptions.rewarded(session, contact_id=contact_id, redemption_id=redemption_id)
    try:
        facts, entries = redemptions.taken_back(
            row, contact_id=contact_id, redemption_id=redemption_id, write_off=False, reason=None, by=by, now=now
        )
    except CrmError:
        return False
    columns = ("contact_id", "id", "status", "stock_taken")
    undone = Update(redemptions.redemptions, columns, [(contact_id, redemption_id, "reversed", 0)], 2)
    await write(session, [undone, *facts, timeline.part(entries)])
    if row["stock_taken"]:
        await catalogue.put_back(
            session, program_id=row["program_id"], reward_id=row["reward_id"], quantity=row["stock_taken"]
        )
    return True


@dataclass(slots=True)
class _Issued:
    """What is to be written of a reward that a member gets."""

    redemption_id: UUID
    status: str
    voucher: VoucherCode | None
    facts: list[Insert]
    entries: list[tuple[Any, ...]]


async def _issue(
    session: Session,
    reward: Reward,
    locked: Locked,
    *,
    contact_id: UUID,
    redemption_id: UUID,
    points: int,
    quantity: int,
    by: str,
    order_ref: str | None = None,
    place: Mapping[str, str] | None = None,
    cause: str = "redemption",
    natural_key: str | None = None,
) -> _Issued:
    now, zone = locked.now, locked.program.terms.zone
    status = _STATUS[reward.fulfilment]
    days = reward.valid_days
    expires_at = None if days is None else Expiry("after", days=days).ends_at(now, zone)
    data = {
        "program_id": reward.program_id, "redemption_id": redemption_id, "reward_id": reward.id, "name": reward.name,
        "quantity": quantity, "points": points, "status": status, "expires_at": expires_at,
    }  # fmt: skip
    granted = {} if natural_key is None else {"cause": cause, "natural_key": natural_key}
    told = timeline.entry(
        contact_id, channel="loyalty", kind="reward.redeemed" if natural_key is None else "reward.granted",
        occurred_at=now, recorded_at=now, by=by, data={**data, **granted, **(place or {})},
    )  # fmt: skip
    issued = _Issued(redemption_id, status, None, [], [told])
    voucher_id = None
    if reward.fulfilment == "voucher":
        voucher_id, code, pool_id = await _code(session, reward, contact_id, quantity)
        terms = vouchers.Terms(
            uses_max=quantity, contact_id=contact_id, reward_id=reward.id, expires_at=expires_at,
            benefit={"kind": "reward", "name": reward.name},
        )  # fmt: skip
        values = vouchers.row(
            voucher_id, code, program_id=reward.program_id, terms=terms, redemption_id=redemption_id, pool_id=pool_id,
            now=now,
        )  # fmt: skip
        issued.facts.append(Insert(vouchers.vouchers, vouchers.COLUMNS, [values]))
        issued.entries.append(vouchers.entry(values, kind="voucher.issued", by=by, now=now))
        issued.voucher = VoucherCode(code, expires_at)
    taken = 0 if reward.stock is None else quantity
    row = (
        contact_id, redemption_id, reward.program_id, points, order_ref, status, now, now, None, reward.id, quantity,
        taken, voucher_id, expires_at, cause, natural_key,
    )  # fmt: skip
    issued.facts.append(Insert(redemptions.redemptions, redemptions.COLUMNS, [row]))
    return issued


async def _code(session: Session, reward: Reward, contact_id: UUID, quantity: int) -> tuple[UUID, str, UUID | None]:
    """The id and the code of a new voucher, and the pool that it is from, if any."""
    if reward.pooled:
        if quantity > 1:
            raise OneAtATime(
                "Each code of its pool is used once. Redeem it again for the next one.",
                errors=[FieldError("/quantity", "one_at_a_time", "must be 1")],
            )
        drawn = await voucher_pools.draw(
            session, program_id=reward.program_id, reward_id=reward.id, contact_id=contact_id
        )
        if drawn is None:
            raise _out_of_stock(reward)
        return drawn
    voucher_id = uuid7()
    code = await codes.claim(
        session, kind="voucher", program_id=reward.program_id, contact_id=contact_id, subject_id=voucher_id,
        pattern=reward.code_pattern or codes.DEFAULT_PATTERN,
    )  # fmt: skip
    return voucher_id, code, None


def _check(reward: Reward, member: Member, quantity: int, now: datetime) -> None:
    """Raises the first refusal, with every reason beside it."""
    why_not = eligibility.obstacles(reward, member, quantity=quantity, now=now)
    if not why_not:
        return
    told = _told(why_not)
    first = why_not[0]
    if first.code in _NOT_ELIGIBLE:
        raise NotEligible(f"Of '{reward.name}' it can't be: {', '.join(each.code for each in why_not)}.", why_not=told)
    if first.code == "limit_reached":
        limit = next(member.reached(reward, quantity=quantity))
        raise LimitReached(
            f"'{reward.name}' is limited to {_said(limit)}.",
            limit={"times": limit.times, "points": limit.points, "per": limit.per}, until=first.until, why_not=told,
        )  # fmt: skip
    if first.code == "out_of_stock":
        raise _out_of_stock(reward, why_not)
    raise member.book.insufficient(reward.cost * quantity, available=member.book.available)


async def _take_stock(session: Session, reward: Reward, quantity: int) -> None:
    if reward.stock is not None and not await catalogue.take(session, reward=reward, quantity=quantity):
        raise _out_of_stock(reward)


def _out_of_stock(reward: Reward, why_not: Sequence[Obstacle] = (Obstacle("out_of_stock"),)) -> OutOfStock:
    return OutOfStock(f"There are not enough left of '{reward.name}'.", why_not=_told(why_not))


def _told(why_not: Sequence[Obstacle]) -> list[dict[str, Any]]:
    return [asdict(each) for each in why_not]


def _said(limit: Limit) -> str:
    most = f"{limit.times} times" if limit.times is not None else f"{limit.points} points"
    return f"{most} in a lifetime" if limit.per == "lifetime" else f"{most} a {limit.per}"
