"""What a tier gives on entry and on renewal: once, and taken back unused where a refund takes the tier."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from crm.db.session import Session
from crm.errors import CrmError
from crm.loyalty import rewards
from crm.loyalty.books import Book, TierChange
from crm.loyalty.expiry import local_day
from crm.loyalty.journal import Locked
from crm.loyalty.ladders import Tier

_TIMES_MAX: Final = 20
"""How often one entry may be lost to a refund and won again with its reward."""

_log = structlog.get_logger(__name__)


async def give(session: Session, *, locked: Locked, books: Sequence[Book]) -> None:
    """Grant the rewards of the tiers that these posts entered or renewed, each once; what can't be had is left out."""
    for book in sorted(books, key=lambda book: book.contact_id):
        for change in book.tier_changes:
            if change.after is None or change.lower:
                continue
            for reward_id in sorted(change.after.reward_ids):
                await _give(session, locked, book, reward_id, _key(book, change, change.after, reward_id))


async def take_back(session: Session, *, locked: Locked, book: Book, by: str) -> None:
    """Cancel what was given for tiers that this post has lost, unless it was used: then it stays."""
    for change in book.tier_changes:
        if not change.lower or change.before is None:
            continue
        entry = TierChange(None, change.before, change.won_at or book.now, None)
        for reward_id in sorted(change.before.reward_ids):
            for key in _keys(_key(book, entry, change.before, reward_id)):
                if not await _granted(session, locked, book, key):
                    break
                await rewards.cancel(
                    session, locked=locked, contact_id=book.contact_id, natural_key=key, by=by, now=book.now
                )


async def _give(session: Session, locked: Locked, book: Book, reward_id: UUID, key: str) -> None:
    if await _granted_before_merge(session, locked, book, key):
        return
    for attempt in _keys(key):
        try:
            granted, new = await rewards.grant(
                session, locked=locked, contact_id=book.contact_id, reward_id=reward_id, cause="tier",
                natural_key=attempt, by="system", now=book.now,
            )  # fmt: skip
        except CrmError as refusal:
            _log.warning("tier_reward_left_out", contact_id=book.contact_id, key=attempt, reason=refusal.detail)
            return
        if new or granted.status != "reversed":
            return


async def _granted(session: Session, locked: Locked, book: Book, key: str) -> bool:
    return bool(
        await session.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM redemptions WHERE contact_id = $1 AND program_id = $2 AND natural_key = $3
            )
            """,
            book.contact_id, locked.program.id, key,
        )
    )  # fmt: skip


async def _granted_before_merge(session: Session, locked: Locked, book: Book, key: str) -> bool:
    """Whether the member has it from an account that was merged into this one."""
    return bool(
        await session.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM contact_aliases k JOIN redemptions r ON r.contact_id = k.alias_id
                WHERE k.contact_id = $1 AND r.program_id = $2 AND r.natural_key = ANY ($3) AND r.status <> 'reversed'
            )
            """,
            book.contact_id, locked.program.id, list(_keys(key)),
        )
    )  # fmt: skip


def _key(book: Book, change: TierChange, tier: Tier, reward_id: UUID) -> str:
    """One entry a tier and year, or a lifetime where the tier is for life; a renewal is that of its day."""
    zone = book.ladder.zone
    day = local_day(change.occurred_at, zone)
    if change.renewed:
        return f"tier:{tier.id}:renewal:{day}:{reward_id}"
    return f"tier:{tier.id}:{day.year if book.ladder.needs_days else 'entry'}:{reward_id}"


def _keys(key: str) -> Sequence[str]:
    return [key, *(f"{key}#{number}" for number in range(2, _TIMES_MAX))]
