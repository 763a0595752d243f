"""What a merge does to memberships: points go to the survivor, the better tier stands, limits count together.

The other's account stays, empty, with all that was ever written down on it, and is read and undone there (`homes`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from crm.contacts import aliases
from crm.contacts.merging import Merging, Moved, NotUndone
from crm.db.session import Session
from crm.errors import Conflict
from crm.loyalty import homes, journal, memberships
from crm.loyalty.books import MERGED, Book
from crm.loyalty.journal import Locked
from crm.loyalty.ladders import Pin

_ACCOUNTS: Final = """
    SELECT a.program_id, a.status, a.terms_version, EXISTS (
        SELECT FROM holds h WHERE h.contact_id = a.contact_id AND h.program_id = a.program_id AND h.status = 'held'
            AND h.expires_at > $2
    ) AS holding
    FROM loyalty_accounts a WHERE a.contact_id = $1 AND a.status <> 'merged' ORDER BY a.program_id
"""
# A merged account is moved by nothing but what is undone on it, so nothing is due there.
_CLOSE: Final = """
    UPDATE loyalty_accounts SET status = 'merged', next_due_at = NULL WHERE contact_id = $1 AND program_id = $2
"""
_REOPEN: Final = "UPDATE loyalty_accounts SET status = $3 WHERE contact_id = $1 AND program_id = $2"
_COUNT_LIMITS: Final = """
    INSERT INTO rule_usages AS u (contact_id, program_id, rule_id, period, points, times)
    SELECT $1, program_id, rule_id, period, points, times FROM rule_usages WHERE contact_id = $2
    ON CONFLICT (contact_id, program_id, rule_id, period) DO UPDATE
    SET points = u.points + excluded.points, times = u.times + excluded.times
"""
_UNCOUNT_LIMITS: Final = """
    UPDATE rule_usages u SET points = greatest(u.points - o.points, 0), times = greatest(u.times - o.times, 0)
    FROM rule_usages o
    WHERE o.contact_id = $2 AND u.contact_id = $1 AND u.program_id = o.program_id AND u.rule_id = o.rule_id
        AND u.period = o.period
"""
# Offers that name the other name the survivor too, unless they did.
_NAME: Final = """
    WITH moved AS (
        UPDATE offer_recipients r SET contact_id = $1
        WHERE r.contact_id = $2
            AND NOT EXISTS (SELECT FROM offer_recipients s WHERE s.contact_id = $1 AND s.offer_id = r.offer_id)
        RETURNING r.offer_id
    ), codes AS (
        UPDATE code_directory d SET contact_id = $1 FROM moved m
        WHERE d.kind = 'offer' AND d.contact_id = $2 AND d.subject_id = m.offer_id
    )
    SELECT offer_id FROM moved ORDER BY offer_id
"""
_UNNAME: Final = """
    WITH moved AS (
        UPDATE offer_recipients r SET contact_id = $2
        WHERE r.contact_id = $1 AND r.offer_id = ANY ($3)
            AND NOT EXISTS (SELECT FROM offer_claims c WHERE c.contact_id = $1 AND c.offer_id = r.offer_id)
        RETURNING r.offer_id
    )
    UPDATE code_directory d SET contact_id = $2 FROM moved m
    WHERE d.kind = 'offer' AND d.contact_id = $1 AND d.subject_id = m.offer_id
"""
# Referrals that are still open, each with both of its sides; of the two being merged themselves nobody referred nobody.
_REFER: Final = """
    WITH own AS (
        UPDATE referrals r SET contact_id = $1
        WHERE r.contact_id = $2 AND r.status = 'pending' AND r.other_id <> $1
            AND ($3::uuid[] IS NULL OR r.id = ANY ($3))
            AND NOT (r.role = 'referee' AND EXISTS (
                SELECT FROM referrals s
                WHERE s.contact_id = $1 AND s.program_id = r.program_id AND s.role = 'referee'
            ))
        RETURNING r.id, r.other_id
    ), others AS (
        UPDATE referrals r SET other_id = $1 FROM own o WHERE r.contact_id = o.other_id AND r.id = o.id
    )
    SELECT id FROM own ORDER BY id
"""

# What was earned and redeemed under all ids of each of these contacts.
_LIFETIMES: Final = f"""
    SELECT g.id, coalesce(sum(e.points), 0)::bigint AS earned, coalesce(sum(r.points), 0)::bigint AS redeemed
    FROM unnest($1::uuid[]) AS g (id)
    CROSS JOIN LATERAL {aliases.known_as("g.id")} who
    CROSS JOIN LATERAL (
        SELECT sum(points) AS points FROM points_transactions
        WHERE contact_id = who.id AND program_id = $2 AND kind = 'earn'
    ) e
    CROSS JOIN LATERAL (
        SELECT sum(CASE to_bucket WHEN 'redeemed' THEN points ELSE -points END) AS points FROM points_movements
        WHERE contact_id = who.id AND program_id = $2 AND 'redeemed' IN (from_bucket, to_bucket)
    ) r
    GROUP BY g.id
"""

_PAID: Final = ("available", "transferred")


class OpenHolds(Conflict):
    code = "open_holds"
    title = "Points of the contact are on hold"


async def merge(session: Session, *, merging: Merging) -> Moved:
    """Move all memberships. Raises OpenHolds."""
    accounts = await session.fetch(_ACCOUNTS, merging.other_id, merging.now)
    if any(account["holding"] for account in accounts):
        raise OpenHolds("Capture or release the holds of the contact that is to be merged, then merge.")
    shown, memory = [], []
    for account in accounts:
        program_id = account["program_id"]
        locked = await _lock(session, merging, program_id, account["terms_version"])
        survivor, other = locked.book(merging.contact_id), locked.book(merging.other_id)
        points, debt = other.available + other.pending, other.deficit
        transaction_id = await homes.hand_over(
            session, giver=other, taker=survivor, parts=homes.parts_of(other), debt=debt, by=merging.by
        )
        memory.append({
            "program_id": program_id, "status": account["status"], "debt": debt, "transaction_id": transaction_id,
            "pin_before": survivor.pin, "pin": (pin := _better(survivor, other)), "tier_id": survivor.tier_id,
            "tier_since": survivor.tier_since,
        })  # fmt: skip
        if pin is not None:
            survivor.pin_to(pin)
        await _count_lifetimes(session, survivor)
        await journal.write_down(session, locked)
        await session.execute(_CLOSE, merging.other_id, program_id)
        tier = survivor.standing().current
        shown.append({
            "program_id": program_id, "points": points, "transaction_id": transaction_id, "tier": tier and tier.name,
        })  # fmt: skip
    await session.execute(_COUNT_LIMITS, merging.contact_id, merging.other_id)
    offers = await session.fetch(_NAME, merging.contact_id, merging.other_id)
    referrals = await session.fetch(_REFER, merging.contact_id, merging.other_id, None)
    return Moved(
        msgspec.to_builtins({"memberships": shown}),
        msgspec.to_builtins({
            "accounts": memory,
            "offers": [row["offer_id"] for row in offers],
            "referrals": [row["id"] for row in referrals],
        }),
    )  # fmt: skip


async def undo(session: Session, *, merging: Merging, memory: Mapping[str, Any]) -> list[NotUndone]:
    """Move the memberships back, with all points of theirs that have not been spent."""
    left: list[NotUndone] = []
    for account in memory["accounts"]:
        program_id = UUID(account["program_id"])
        locked = await _lock(session, merging, program_id, None)
        survivor, other = locked.book(merging.contact_id), locked.book(merging.other_id, also={MERGED})
        theirs, came = await _came_from(session, merging, program_id)
        parts = [(lot, points) for lot, points in homes.parts_of(survivor) if lot.id in theirs]
        await homes.hand_over(session, giver=survivor, taker=other, parts=parts, by=merging.by)
        if account["transaction_id"] is not None:
            await _part_debts(session, merging, survivor, other, account, theirs)
        other.status = account["status"]
        if (gone := came - sum(points for _, points in parts)) > 0:
            left.append(NotUndone("points_used", f"{gone} points were spent or have ended since the merge."))
        if account["pin"] is not None and survivor.pin == msgspec.convert(account["pin"], Pin):
            survivor.pin_to(msgspec.convert(account["pin_before"], Pin | None))
            if survivor.tier_id is not None and str(survivor.tier_id) == account["tier_id"]:
                survivor.tier_since = datetime.fromisoformat(account["tier_since"])
        await _count_lifetimes(session, survivor, other)
        await journal.write_down(session, locked)
        await session.execute(_REOPEN, merging.other_id, program_id, account["status"])
    await session.execute(_UNCOUNT_LIMITS, merging.contact_id, merging.other_id)
    await session.execute(_UNNAME, merging.contact_id, merging.other_id, [UUID(one) for one in memory["offers"]])
    await session.fetch(_REFER, merging.other_id, merging.contact_id, [UUID(one) for one in memory["referrals"]])
    return left


async def _lock(session: Session, merging: Merging, program_id: UUID, terms_version: str | None) -> Locked:
    """Both accounts with all their lots; the survivor becomes a member where only the other was one."""
    wanted: Mapping[str, Any] = {
        "program_id": program_id, "contact_ids": [merging.contact_id, merging.other_id], "now": merging.now,
        "lots_max": journal.LOTS_READ,
    }  # fmt: skip
    locked = await journal.lock(session, **wanted)
    if merging.contact_id not in locked.books:
        await memberships.put(
            session, program_id=program_id, contact_id=merging.contact_id, status="active",
            terms_version=terms_version, by=merging.by, now=merging.now,
        )  # fmt: skip
        locked = await journal.lock(session, **wanted)
    await journal.know_all_lots(session, books=list(locked.books.values()))
    return locked


async def _count_lifetimes(session: Session, *books: Book) -> None:
    """Let these accounts say what was earned and redeemed under all ids of their contacts."""
    by_id = {book.contact_id: book for book in books}
    for row in await session.fetch(_LIFETIMES, list(by_id), books[0].program_id):
        book = by_id[row["id"]]
        book.lifetime_earned, book.lifetime_redeemed, book.touched = row["earned"], row["redeemed"], True


async def _part_debts(
    session: Session, merging: Merging, survivor: Book, other: Book, account: Mapping[str, Any], theirs: set[UUID]
) -> None:
    """Let each owe again what the points of the other paid at the merge."""
    transaction_id = UUID(account["transaction_id"])
    subject = await journal.find_subject(session, contact_id=merging.contact_id, transaction_id=transaction_id)
    assert subject is not None, "a merge is written down with its transactions"
    paid = [(lot, points) for source, target, points, lot in subject.moves if (source, target) == _PAID]
    of_other = [(lot, points) for lot, points in paid if lot.id in theirs]
    own = [(lot, points) for lot, points in paid if lot.id not in theirs and lot.id != survivor.deficit_lot_id]
    alive = [(lot, points) for lot, points in own if lot.expires_at is None or lot.expires_at > merging.now]
    owed: int = account["debt"] - sum(points for _, points in own)
    await homes.repay(session, debtor=survivor, creditor=other, parts=of_other, by=merging.by)
    await homes.repay(session, debtor=other, creditor=survivor, parts=alive, further=owed, by=merging.by)


async def _came_from(session: Session, merging: Merging, program_id: UUID) -> tuple[set[UUID], int]:
    """The survivor's lots that were the other's, and how many points came from there and did not go back."""
    rows = await session.fetch(
        """
        SELECT m.lot_id, sum(CASE m.from_bucket WHEN 'transferred' THEN m.points ELSE -m.points END)::bigint AS points,
            bool_or(m.from_bucket = 'transferred' AND m.seq = (
                SELECT min(f.seq) FROM points_movements f
                WHERE f.contact_id = $1 AND f.program_id = $3 AND f.lot_id = m.lot_id
            )) AS theirs
        FROM points_transactions t
        JOIN points_transactions s ON s.contact_id = $1 AND s.id = t.id
        JOIN points_movements m ON m.contact_id = $1 AND m.program_id = $3 AND m.seq BETWEEN s.first_seq AND s.seq
        JOIN points_lots l ON l.contact_id = $1 AND l.program_id = $3 AND l.id = m.lot_id AND l.kind = 'regular'
        WHERE t.contact_id = $2 AND t.program_id = $3 AND t.kind = 'transfer' AND t.cause = 'merge'
        GROUP BY m.lot_id
        """,
        merging.contact_id, merging.other_id, program_id,
    )  # fmt: skip
    return {row["lot_id"] for row in rows if row["theirs"]}, sum(row["points"] for row in rows)


def _better(survivor: Book, other: Book) -> Pin | None:
    """A floor for the survivor where the other stood higher, for as long as the other would have."""
    own, theirs = survivor.standing(), other.standing()
    if theirs.current is None or (own.current is not None and own.current.threshold >= theirs.current.threshold):
        return None
    return Pin(theirs.current.id, survivor.now, theirs.until)
