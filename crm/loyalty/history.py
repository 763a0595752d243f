"""What an account was at an instant of the past, by what is known today to have happened by then."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from crm.contacts import aliases
from crm.db.session import Session
from crm.loyalty import journal
from crm.loyalty.books import Book
from crm.loyalty.expiry import local_day, start_of
from crm.loyalty.ladders import NOTHING_COUNTED, Counted
from crm.loyalty.lots import Lot
from crm.loyalty.movements import Movement

# Points are those of every account that was merged into this one.
# A lot's end as it was then: that before the first change that came later, or else today's. What counts by day is all
# that is known today, less what happened later: on the day itself, and in refunds of what counted before.
_THEN: Final = f"""
    WITH moved AS (
        SELECT m.contact_id, lot_id,
            sum(CASE to_bucket WHEN 'available' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'available' THEN points ELSE 0 END) AS available,
            sum(CASE to_bucket WHEN 'pending' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'pending' THEN points ELSE 0 END) AS pending,
            sum(CASE to_bucket WHEN 'held' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'held' THEN points ELSE 0 END) AS held,
            sum(CASE to_bucket WHEN 'redeemed' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'redeemed' THEN points ELSE 0 END) AS redeemed
        FROM {aliases.known_as("$1::uuid")} who JOIN points_movements m ON m.contact_id = who.id
        WHERE program_id = $2 AND occurred_at <= $3
        GROUP BY m.contact_id, lot_id
    ), ends AS (
        SELECT m.*, CASE WHEN c.id IS NULL THEN l.expires_at ELSE c.expires_before END AS expires_at
        FROM moved m
        JOIN points_lots l ON l.contact_id = m.contact_id AND l.program_id = $2 AND l.id = m.lot_id
        LEFT JOIN LATERAL (
            SELECT c.id, c.expires_before FROM points_lot_changes c
            WHERE c.contact_id = m.contact_id AND c.lot_id = m.lot_id AND c.occurred_at > $3
            ORDER BY c.occurred_at, c.id LIMIT 1
        ) c ON true
    )
    SELECT coalesce(sum(available), 0)::bigint AS available, coalesce(sum(pending), 0)::bigint AS pending,
        coalesce(sum(held), 0)::bigint AS held, coalesce(sum(redeemed), 0)::bigint AS redeemed,
        (SELECT coalesce(sum(points), 0)::bigint
         FROM {aliases.known_as("$1::uuid")} who JOIN points_transactions t ON t.contact_id = who.id
         WHERE program_id = $2 AND kind = 'earn' AND occurred_at <= $3) AS earned,
        (SELECT jsonb_agg(jsonb_build_array(e.points, e.expires_at)) FROM (
            SELECT sum(available + pending) AS points, expires_at FROM ends
            WHERE expires_at IS NOT NULL AND available + pending > 0 GROUP BY expires_at
        ) e) AS expiring,
        (SELECT jsonb_object_agg(lot_id, expires_at) FROM ends
         WHERE contact_id = $1 AND lot_id = ANY ($7)) AS ends,
        (SELECT jsonb_agg(jsonb_build_array(d.local_on, d.points, d.spend::text, d.visits)) FROM (
            SELECT local_on, sum(points)::bigint AS points, sum(spend) AS spend, sum(visits)::bigint AS visits FROM (
                SELECT local_on, points, spend, visits FROM qualifying_days
                WHERE contact_id = $1 AND program_id = $2
                UNION ALL
                SELECT $4, -m.points, 0, 0
                FROM points_movements m
                JOIN points_lots l ON l.contact_id = $1 AND l.program_id = $2 AND l.id = m.lot_id
                WHERE m.contact_id = $1 AND m.program_id = $2 AND m.occurred_at > $3 AND m.occurred_at < $5
                    AND l.qualifying AND m.from_bucket IN ('issued', 'pending') AND m.to_bucket = 'available'
                UNION ALL
                SELECT $4, 0, -basis, -1 FROM purchases
                WHERE contact_id = $1 AND program_id = $2 AND occurred_at > $3 AND occurred_at < $5
                UNION ALL
                SELECT (p.occurred_at AT TIME ZONE $6)::date, 0, r.counted_spend, r.counted_visits
                FROM refunds r JOIN purchases p USING (contact_id, program_id, order_ref)
                WHERE r.contact_id = $1 AND r.program_id = $2 AND r.occurred_at > $3
                UNION ALL
                SELECT (r.counted_at AT TIME ZONE $6)::date, r.counted_points, 0, 0 FROM refunds r
                WHERE r.contact_id = $1 AND r.program_id = $2 AND r.occurred_at > $3 AND r.counted_at IS NOT NULL
                UNION ALL
                SELECT (b.counted_at AT TIME ZONE $6)::date, b.points, 0, 0
                FROM (
                    SELECT contact_id, program_id, points, counted_at, ended_at FROM challenge_cards
                    UNION ALL
                    SELECT contact_id, program_id, points, counted_at, ended_at FROM referrals
                ) b WHERE b.contact_id = $1 AND b.program_id = $2 AND b.ended_at > $3 AND b.counted_at IS NOT NULL
            ) f WHERE local_on <= $4 GROUP BY local_on
        ) d) AS days
    FROM ends
"""


async def read(session: Session, *, program_id: UUID | None, contact_id: UUID, as_of: datetime, now: datetime) -> Book:
    """The account at `as_of`, in two queries.

    Only a correction that takes away from what counts towards the tiers does so from the beginning of its local day.
    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    today = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    ladder = today.program.ladder
    day = local_day(as_of, ladder.zone)
    tomorrow = start_of(day + timedelta(days=1), ladder.zone)
    unwritten = [movement for movement in today.book.movements if movement.occurred_at <= as_of]
    row = await session.fetchrow(
        _THEN, contact_id, today.program.id, as_of, day, tomorrow, ladder.zone.key,
        [movement.lot_id for movement in unwritten],
    )  # fmt: skip
    assert row is not None, "an aggregate has always a row"
    book = Book(
        contact_id, today.program.id, as_of, row["available"], row["pending"], row["held"],
        lifetime_earned=row["earned"], lifetime_redeemed=row["redeemed"], pin=today.book.pin, ladder=ladder,
        days={
            date.fromisoformat(day): Counted(points, Decimal(spend), visits)
            for day, points, spend, visits in row["days"] or ()
        },
        expiring={datetime.fromisoformat(at): points for points, at in row["expiring"] or ()},
    )  # fmt: skip
    for movement in unwritten:
        end = (row["ends"] or {}).get(str(movement.lot_id))
        _add(movement, book, today.book.lots[movement.lot_id], None if end is None else datetime.fromisoformat(end))
    total = sum(book.days.values(), NOTHING_COUNTED)
    book.qualifying_points, book.qualifying_spend, book.qualifying_visits = total.points, total.spend, total.visits
    book.tier_id, book.tier_since = today.book.tier_id, today.book.tier_since
    if not ladder.needs_days:
        _remember_tier(book)
    return book


def _add(movement: Movement, book: Book, lot: Lot, expires_at: datetime | None) -> None:
    """Something that time had done by then, and nobody has written down yet, to a lot with this end."""
    opened = 0
    for bucket, points in ((movement.from_bucket, -movement.points), (movement.to_bucket, movement.points)):
        if bucket in {"available", "pending", "held"}:
            setattr(book, bucket, getattr(book, bucket) + points)
        if bucket in {"available", "pending"}:
            opened += points
    if expires_at is not None and opened:
        left = book.expiring.pop(expires_at, 0) + opened
        if left:
            book.expiring[expires_at] = left
    if lot.qualifying and (movement.from_bucket, movement.to_bucket) == ("pending", "available"):
        day = local_day(movement.occurred_at, book.ladder.zone)
        book.days[day] = book.days.get(day, NOTHING_COUNTED) + Counted(movement.points)


def _remember_tier(book: Book) -> None:
    """A tier for life has been held since the day that reached it; the moment is known of today's alone."""
    current, reached_on, sofar = book.standing().current, None, Decimal(0)
    for day in sorted(book.days):
        before, sofar = sofar, sofar + book.days[day].by(book.ladder.basis)
        if current is not None and before < current.threshold <= sofar:
            reached_on = day
    known = book.tier_since if current is not None and current.id == book.tier_id else None
    if known is None or known > book.now or local_day(known, book.ladder.zone) != reached_on:
        book.tier_since = None if reached_on is None else start_of(reached_on, book.ladder.zone)
    book.tier_id = None if current is None else current.id
