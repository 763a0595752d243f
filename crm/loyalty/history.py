"""What an account was at an instant of the past, by what is known today to have happened by then."""

from datetime import date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from crm.db.session import Session
from crm.loyalty import journal
from crm.loyalty.books import Book
from crm.loyalty.expiry import local_day
from crm.loyalty.ladders import NOTHING_COUNTED, Counted

# A lot's end as it was then: that before the first change that came later, or else today's.
_THEN: Final = """
    WITH moved AS (
        SELECT lot_id,
            sum(CASE to_bucket WHEN 'available' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'available' THEN points ELSE 0 END) AS available,
            sum(CASE to_bucket WHEN 'pending' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'pending' THEN points ELSE 0 END) AS pending,
            sum(CASE to_bucket WHEN 'held' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'held' THEN points ELSE 0 END) AS held,
            sum(CASE to_bucket WHEN 'redeemed' THEN points ELSE 0 END
                - CASE from_bucket WHEN 'redeemed' THEN points ELSE 0 END) AS redeemed
        FROM points_movements WHERE contact_id = $1 AND program_id = $2 AND occurred_at <= $3
        GROUP BY lot_id
    ), ends AS (
        SELECT m.*, CASE WHEN c.id IS NULL THEN l.expires_at ELSE c.expires_before END AS expires_at
        FROM moved m
        JOIN points_lots l ON l.contact_id = $1 AND l.program_id = $2 AND l.id = m.lot_id
        LEFT JOIN LATERAL (
            SELECT c.id, c.expires_before FROM points_lot_changes c
            WHERE c.contact_id = $1 AND c.lot_id = m.lot_id AND c.occurred_at > $3
            ORDER BY c.occurred_at, c.id LIMIT 1
        ) c ON true
    )
    SELECT coalesce(sum(available), 0)::bigint AS available, coalesce(sum(pending), 0)::bigint AS pending,
        coalesce(sum(held), 0)::bigint AS held, coalesce(sum(redeemed), 0)::bigint AS redeemed,
        (SELECT coalesce(sum(points), 0)::bigint FROM points_transactions
         WHERE contact_id = $1 AND program_id = $2 AND kind = 'earn' AND occurred_at <= $3) AS earned,
        (SELECT jsonb_agg(jsonb_build_array(e.points, e.expires_at)) FROM (
            SELECT sum(available + pending) AS points, expires_at FROM ends
            WHERE expires_at IS NOT NULL AND available + pending > 0 GROUP BY expires_at
        ) e) AS expiring,
        (SELECT jsonb_agg(jsonb_build_array(d.local_on, d.points, d.spend::text, d.visits)) FROM qualifying_days d
         WHERE d.contact_id = $1 AND d.program_id = $2 AND d.local_on <= $4) AS days
    FROM ends
"""


async def read(session: Session, *, program_id: UUID | None, contact_id: UUID, as_of: datetime, now: datetime) -> Book:
    """The account at `as_of`, in two queries; what counts towards tiers counts from the beginning of its local day.

    Raises ContactNotFound, ProgramNotFound, ProgramRequired.
    """
    today = await journal.read(session, program_id=program_id, contact_id=contact_id, now=now)
    zone = today.program.terms.zone
    row = await session.fetchrow(_THEN, contact_id, today.program.id, as_of, local_day(as_of, zone))
    assert row is not None, "an aggregate has always a row"
    days = {
        date.fromisoformat(day): Counted(points, Decimal(spend), visits)
        for day, points, spend, visits in row["days"] or ()
    }
    total = sum(days.values(), NOTHING_COUNTED)
    return Book(
        contact_id, today.program.id, as_of, row["available"], row["pending"], row["held"],
        lifetime_earned=row["earned"], lifetime_redeemed=row["redeemed"],
        qualifying_points=total.points, qualifying_spend=total.spend, qualifying_visits=total.visits,
        tier_id=today.book.tier_id, tier_since=today.book.tier_since, pin=today.book.pin,
        ladder=today.program.ladder, days=days,
        expiring={datetime.fromisoformat(at): points for points, at in row["expiring"] or ()},
    )  # fmt: skip
